//! The guest's end of the control channel: answers what `tessera ps`, `top` and `inspect` ask over a console.
//!
//! A question is a line, `TAG WHAT [NAME]`, and its answer `TAG ok LENGTH` or `TAG error WHY` on a line, with LENGTH bytes behind the line. The tag
//! is the asker's choice: it finds its answer by it. Whoever is at the other end of the console holds what the image gives to
//! this component, a route to the manager, and no more.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod question;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use tessera_interfaces::{Console, ConsoleError, Supervisor, SupervisorError};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::object::{Event, park};
use tessera_runtime::{Object, own, thread};

use question::{Lines, Question, What};

/// Bytes of the longest answer.
const ANSWER: usize = 256 << 10;
/// The bits by which the control thread is woken: something to read.
const READABLE: u64 = 1;
/// How long to wait before a console that did not answer is asked again, in nanoseconds.
const PAUSE: u64 = 50_000_000;

/// What the component uses, by the names in its component.toml.
pub struct Uses {
    /// Where questions come from.
    pub console: Route<dyn Console>,
    /// Who knows the answers.
    pub supervisor: Route<dyn Supervisor>,
}

/// The component.
#[derive(Debug)]
pub struct Control;

impl Control {
    /// Constructs it; questions are answered in a thread.
    pub fn new(_: Context, uses: Uses) -> Result<Arc<Control>, StartError> {
        let event = Event::create(&own::pool())?;
        thread::spawn(move || serve(&uses, &event))?;
        Ok(Arc::new(Control))
    }
}

fn pause() {
    let end = own::clock().now().map_or(0, |now| now.saturating_add(PAUSE));
    let _ = park(Some(end));
}

/// Answers questions for ever.
fn serve(uses: &Uses, event: &Event) {
    let mut lines = Lines::default();
    let mut piece = [0; 512];
    let mut watched = false;
    loop {
        if uses.console.restarted.take() {
            watched = false;
        }
        if !watched {
            let watching = event.try_clone().ok().map(|event| uses.console.cap.watch(event, READABLE));
            watched = matches!(watching, Some(Ok(())));
        }
        match uses.console.cap.read(&mut piece) {
            Ok(length) => {
                for line in lines.take(piece.get(..length as usize).unwrap_or(&[])) {
                    if let Some(question) = Question::read(&line) {
                        send(&*uses.console.cap, &answer(&*uses.supervisor.cap, &question));
                    }
                }
            }
            Err(ConsoleError::WouldBlock) if watched => {
                // Now and then it looks by itself, so that a restart of the console is seen.
                let end = own::clock().now().map_or(0, |now| now.saturating_add(20 * PAUSE));
                let _ = event.wait_until(READABLE, READABLE, Some(end));
            }
            Err(_) => pause(),
        }
    }
}

/// The whole answer to a question.
fn answer(supervisor: &dyn Supervisor, question: &Question) -> Vec<u8> {
    let mut body = vec![0; ANSWER];
    let told = match &question.what {
        What::Plan => supervisor.plan(&mut body),
        What::State => supervisor.state(&mut body),
        What::Kill(name) => supervisor.kill(name).map(|()| 0),
        What::Restart(name) => supervisor.restart(name).map(|()| 0),
    };
    let tag = &question.tag;
    match told {
        Ok(length) => {
            body.truncate(usize::try_from(length).unwrap_or(0));
            let mut answer = format!("{tag} ok {}\n", body.len()).into_bytes();
            answer.extend_from_slice(&body);
            answer
        }
        Err(error) => {
            let why = match error {
                SupervisorError::NotFound => String::from("no domain and no component has this name"),
                SupervisorError::TooLong => String::from("the answer is too long"),
                SupervisorError::Transport(error) => format!("the manager did not answer: {error}"),
            };
            format!("{tag} error {why}\n").into_bytes()
        }
    }
}

/// Sends all of it, or gives up when the console takes nothing.
fn send(console: &dyn Console, answer: &[u8]) {
    let mut rest = answer;
    let mut failures = 0;
    while !rest.is_empty() && failures < 20 {
        let piece = rest.get(..rest.len().min(4096)).unwrap_or(rest);
        match console.write(piece) {
            Ok(length) => {
                rest = rest.get(length as usize..).unwrap_or(&[]);
                failures = 0;
            }
            Err(_) => {
                failures += 1;
                pause();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tessera_interfaces::DomainReport;

    struct Fake;

    impl Supervisor for Fake {
        fn report(&self, _: &str) -> Result<DomainReport, SupervisorError> {
            Err(SupervisorError::NotFound)
        }

        fn plan(&self, into: &mut [u8]) -> Result<u64, SupervisorError> {
            into[..4].copy_from_slice(b"plan");
            Ok(4)
        }

        fn state(&self, _: &mut [u8]) -> Result<u64, SupervisorError> {
            Err(SupervisorError::TooLong)
        }

        fn kill(&self, name: &str) -> Result<(), SupervisorError> {
            if name == "net" { Ok(()) } else { Err(SupervisorError::NotFound) }
        }

        fn restart(&self, _: &str) -> Result<(), SupervisorError> {
            Ok(())
        }
    }

    fn asked(line: &str) -> String {
        String::from_utf8(answer(&Fake, &Question::read(line.as_bytes()).unwrap())).unwrap()
    }

    #[test]
    fn questions_are_answered_under_their_tags() {
        assert_eq!(asked("7 plan"), "7 ok 4\nplan");
        assert_eq!(asked("8 state"), "8 error the answer is too long\n");
        assert_eq!(asked("9 kill net"), "9 ok 0\n");
        assert_eq!(asked("10 kill nte"), "10 error no domain and no component has this name\n");
        assert_eq!(asked("11 restart net"), "11 ok 0\n");
    }
}
