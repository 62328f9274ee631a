//! This command's side of a running container ([`tessera_attach`]): its input and output, this terminal, signals, the end.
//!
//! QEMU is given one end of a pair of sockets as a virtio console; threads carry bytes between the other end and this command's own
//! standard streams. What a thread waits for ends with QEMU, or with this command.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, Result, WrapErr};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::SIGWINCH;
use signal_hook::iterator::Signals;
use tessera_attach::{Frames, GRANTED, Message, Stream, ToGuest, ToHost};

use crate::process;

/// What Ctrl-C is on a terminal without modes.
const INTERRUPT_KEY: u8 = 3;
/// Rows and columns where nobody knows better.
const USUAL_SIZE: [u16; 4] = [24, 80, 0, 0];

/// How a container is attended to.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Its output is a terminal, and with `input` this one's keys are its.
    pub terminal: bool,
    /// This command's standard input is its.
    pub input: bool,
    /// The signal that asks it to end, and how long it may take.
    pub stop_signal: u8,
    pub grace: Duration,
}

/// The connection to a container.
pub struct Session {
    shared: Arc<Shared>,
    reader: JoinHandle<()>,
    _terminal: Option<RawTerminal>,
}

struct Shared {
    manner: Manner,
    /// Where what this side says goes. Whole messages at a time.
    speech: Mutex<UnixStream>,
    state: Mutex<State>,
    changed: Condvar,
    /// The grace period was over, and the machine ended by force.
    was_killed: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Bytes of input that the guest takes now.
    credit: usize,
    is_stopping: bool,
    heard: Heard,
}

/// What the guest told.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// The code of the container's first process.
    pub code: Option<u8>,
    /// When it first said something.
    pub first: Option<Instant>,
    /// What it told of itself.
    pub marks: Vec<Mark>,
    pub was_killed: bool,
}

/// Something that happened in the guest.
#[derive(Clone, Debug)]
pub struct Mark {
    pub what: String,
    /// Since the guest's kernel was entered, by the guest's clock.
    pub since_entry: Duration,
    /// When this side heard of it.
    pub heard: Instant,
}

impl Heard {
    /// When the guest's kernel was entered, as far as that can be told: what is heard soonest after it happened says it best.
    pub fn entry(&self) -> Option<Instant> {
        self.marks.iter().filter_map(|mark| mark.heard.checked_sub(mark.since_entry)).min()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Opens a session. The socket is QEMU's end.
    pub fn open(manner: Manner) -> Result<(Session, OwnedFd)> {
        let make = || {
            let (ours, its) = UnixStream::pair()?;
            let hears = ours.try_clone()?;
            Ok::<_, io::Error>((ours, hears, its))
        };
        let (ours, hears, its) = make().into_diagnostic().wrap_err("cannot make a connection to the container")?;
        let terminal = (manner.terminal && manner.input).then(RawTerminal::take).flatten();
        let shared = Arc::new(Shared {
            manner,
            speech: Mutex::new(ours),
            state: Mutex::new(State { credit: GRANTED, ..State::default() }),
            changed: Condvar::new(),
            was_killed: AtomicBool::new(false),
        });
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.hear(hears))
        };
        if manner.terminal {
            let shared = Arc::clone(&shared);
            let mut signals = Signals::new([SIGWINCH]).into_diagnostic()?;
            thread::spawn(move || {
                shared.say(&ToGuest::Size(terminal_size()));
                for _ in &mut signals {
                    shared.say(&ToGuest::Size(terminal_size()));
                }
            });
        }
        if manner.input {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.pass_input(io::stdin().lock()));
        }
        let stopped = Arc::clone(&shared);
        process::on_interrupt(move || Shared::stop(&stopped));
        Ok((Session { shared, reader, _terminal: terminal }, its.into()))
    }

    /// Once QEMU has ended: what was heard, to the last word.
    pub fn finish(self) -> Heard {
        process::forget_interrupt();
        // Only then has everything been written where it belongs.
        let _ = self.reader.join();
        let mut heard = locked(&self.shared.state).heard.clone();
        heard.was_killed = self.shared.was_killed.load(Ordering::SeqCst);
        heard
    }
}

impl Shared {
    /// Says something. A guest that has ended does not hear it.
    fn say(&self, what: &ToGuest) {
        let mut bytes = Vec::new();
        what.write(&mut bytes);
        let _ = locked(&self.speech).write_all(&bytes);
    }

    /// Takes what the guest says, until QEMU ends.
    fn hear(&self, mut hears: UnixStream) {
        let mut frames = Frames::default();
        let mut piece = vec![0; 64 << 10];
        loop {
            let length = match hears.read(&mut piece) {
                Ok(0) => return,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            for message in frames.take(&piece[..length]) {
                self.take(message);
            }
        }
    }

    fn take(&self, message: ToHost) {
        locked(&self.state).heard.first.get_or_insert_with(Instant::now);
        match message {
            ToHost::Written(stream, bytes) => {
                let written = match stream {
                    Stream::Output => show(io::stdout().lock(), &bytes),
                    Stream::Error => show(io::stderr().lock(), &bytes),
                };
                if written.is_err() {
                    self.say(&ToGuest::Closed(stream));
                }
            }
            ToHost::Taken(bytes) => {
                let mut state = locked(&self.state);
                state.credit = state.credit.saturating_add(bytes as usize).min(GRANTED);
                self.changed.notify_all();
            }
            ToHost::Mark(time, what) => {
                let mark = Mark { what, since_entry: Duration::from_nanos(time), heard: Instant::now() };
                locked(&self.state).heard.marks.push(mark);
            }
            ToHost::Notice(text) => {
                // The carriage returns are for a terminal in raw mode.
                let end = if self.manner.terminal { "\r\n" } else { "\n" };
                eprint!("tessera: {text}{end}");
            }
            ToHost::Ended(code) => {
                locked(&self.state).heard.code = Some(code);
                self.say(&ToGuest::Farewell);
            }
        }
    }

    /// Passes this command's input on, as far as the guest takes it, to its end.
    fn pass_input(&self, mut input: impl Read) {
        let mut piece = vec![0; 16 << 10];
        loop {
            let credit = {
                let waiting = self.changed.wait_while(locked(&self.state), |state| state.credit == 0);
                waiting.unwrap_or_else(PoisonError::into_inner).credit
            };
            let most = credit.min(piece.len());
            match input.read(&mut piece[..most]) {
                Ok(0) => break,
                Ok(length) => {
                    let bytes = &piece[..length];
                    let mut state = locked(&self.state);
                    state.credit = state.credit.saturating_sub(length);
                    // Before there is a program that could take it, this key is for this command.
                    let nobody_yet = self.manner.terminal && state.heard.first.is_none();
                    drop(state);
                    if nobody_yet && bytes.contains(&INTERRUPT_KEY) {
                        process::interrupt();
                    }
                    self.say(&ToGuest::Input(bytes.to_vec()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.say(&ToGuest::InputEnds);
    }

    /// Asks the container to end, and ends the machine after the grace period. Whether this was the first time.
    fn stop(shared: &Arc<Shared>) -> bool {
        {
            let mut state = locked(&shared.state);
            // One that has not begun has nothing to end in good order.
            if state.is_stopping || state.heard.first.is_none() {
                return false;
            }
            state.is_stopping = true;
        }
        shared.say(&ToGuest::Signal(shared.manner.stop_signal));
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            thread::sleep(shared.manner.grace);
            shared.was_killed.store(true, Ordering::SeqCst);
            process::end_children();
        });
        true
    }
}

fn show(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// Rows, columns and both in pixels, of the first of the standard streams that is a terminal.
fn terminal_size() -> [u16; 4] {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin()));
    let size = size.map(|size| [size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel]);
    size.ok().filter(|[rows, columns, ..]| *rows > 0 && *columns > 0).unwrap_or(USUAL_SIZE)
}

/// This terminal, with every key passed on as it is. Dropping it sets back what was.
struct RawTerminal(Termios);

impl RawTerminal {
    fn take() -> Option<Self> {
        let input = io::stdin();
        let before = isatty(input.as_fd()).then(|| tcgetattr(&input).ok()).flatten()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Drain, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone has no modes to set back.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}
