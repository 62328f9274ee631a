//! Child processes, and what ends them: an end of the program, a deadline, a Ctrl-C.
//!
//! Every long-lived child (QEMU, cargo) is started through [`Running`], so that an interrupt ends it and never leaves
//! an emulator behind. A process number is signalled only while its child has not been waited for.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The children that run now.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is done about an interrupt before the children are ended: whether that is to be enough.
type Answer = Box<dyn Fn() -> bool + Send>;
static ANSWER: Mutex<Option<Answer>> = Mutex::new(None);

/// Makes Ctrl-C, `SIGTERM` and `SIGHUP` end the children first; the command then ends by itself.
pub fn handle_interrupts() {
    match Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        Ok(mut signals) => drop(thread::spawn(move || signals.forever().for_each(|_| interrupt()))),
        Err(error) => eprintln!("tessera: cannot catch Ctrl-C ({error}); it may leave QEMU running"),
    }
}

/// Does what a Ctrl-C does.
pub fn interrupt() {
    if locked(&ANSWER).as_ref().is_some_and(|answer| answer()) {
        return;
    }
    // Under the lock, so that no child starts between the two.
    let running = locked(&RUNNING);
    INTERRUPTED.store(true, Ordering::SeqCst);
    end(&running);
}

/// Asks `answer` first at each interrupt: if it answers true, the interrupt does nothing else.
pub fn on_interrupt(answer: impl Fn() -> bool + Send + 'static) {
    *locked(&ANSWER) = Some(Box::new(answer));
}

/// Lets interrupts do again what they did before [`on_interrupt`].
pub fn forget_interrupt() {
    *locked(&ANSWER) = None;
}

/// Asks the children to end, as an interrupt does; the command goes on.
pub fn end_children() {
    end(&locked(&RUNNING));
}

fn end(running: &[Pid]) {
    for child in running {
        // A child that has ended meanwhile needs no signal.
        let _ = kill_process(*child, Signal::TERM);
    }
}

/// Whether the user asked the command to end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// A child that an interrupt or its deadline ends.
pub struct Running {
    child: Child,
    id: Option<Pid>,
    deadline: Option<Arc<Deadline>>,
}

#[derive(Default)]
struct Deadline {
    over: Mutex<bool>,
    changed: Condvar,
    passed: AtomicBool,
}

impl Running {
    /// Starts `command`; when `limit` is given and passes first, the child is killed. After an interrupt nothing is
    /// started any more.
    pub fn start(command: &mut Command, limit: Option<Duration>) -> io::Result<Self> {
        // Taken before the child exists, so that an interrupt cannot come between its start and its entry here.
        let mut running = locked(&RUNNING);
        if interrupted() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the command was interrupted"));
        }
        let child = command.spawn()?;
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        running.extend(id);
        drop(running);
        let deadline = limit.zip(id).map(|(limit, id)| watch(limit, id));
        Ok(Self { child, id, deadline })
    }

    /// The child, to take its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the end. The flag says whether the deadline ended it.
    pub fn wait(mut self) -> io::Result<(ExitStatus, bool)> {
        // Waiting with `WNOWAIT` semantics is not to be had from the standard library: poll until the child is gone
        // and only then forget its number, so that a signal never goes to a stranger that got the same number.
        let status = loop {
            let mut running = locked(&RUNNING);
            if let Some(status) = self.child.try_wait()? {
                running.retain(|id| Some(*id) != self.id);
                break status;
            }
            drop(running);
            thread::sleep(Duration::from_millis(2));
        };
        let passed = self.deadline.take().is_some_and(|deadline| {
            *locked(&deadline.over) = true;
            deadline.changed.notify_all();
            deadline.passed.load(Ordering::SeqCst)
        });
        Ok((status, passed))
    }
}

/// Starts the thread that kills `id` after `limit`, unless the child ends before.
fn watch(limit: Duration, id: Pid) -> Arc<Deadline> {
    let deadline = Arc::new(Deadline::default());
    let watched = Arc::clone(&deadline);
    thread::spawn(move || {
        let over = locked(&watched.over);
        let waited = watched.changed.wait_timeout_while(over, limit, |over| !*over);
        let in_time = *waited.unwrap_or_else(PoisonError::into_inner).0;
        let running = locked(&RUNNING);
        if !in_time && running.contains(&id) {
            watched.passed.store(true, Ordering::SeqCst);
            // An error means that the child has just ended.
            let _ = kill_process(id, Signal::KILL);
        }
    });
    deadline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_ends_in_time_keeps_its_status() {
        let mut command = Command::new("sh");
        let running = Running::start(command.args(["-c", "exit 7"]), Some(Duration::from_secs(20))).unwrap();
        let (status, passed) = running.wait().unwrap();
        assert_eq!(status.code(), Some(7));
        assert!(!passed);
    }

    #[test]
    fn a_deadline_ends_a_child_that_would_not_end() {
        let mut command = Command::new("sleep");
        let running = Running::start(command.arg("600"), Some(Duration::from_millis(50))).unwrap();
        let (status, passed) = running.wait().unwrap();
        assert!(passed);
        assert!(!status.success());
    }
}
