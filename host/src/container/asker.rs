//! Asks a port until it answers: when the first byte came, and what was said.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tessera_rootfs::container::Protocol;

use super::PortMapping;

/// How often a question is put. One that was put before the guest's network was there is lost, which is found out late, so
/// the next does not wait for it; nor is it given up, as a server should not begin with connections that were dropped.
const PAUSE: Duration = Duration::from_millis(25);
/// How long an answer to one is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of an answer.
const LONGEST: u64 = 1 << 20;

/// The first answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When its first byte came.
    pub first: Instant,
    /// All of it, head and body.
    pub text: Vec<u8>,
}

/// Asks in HTTP, in threads of its own. Something that speaks another protocol may never be found to answer.
pub struct Asker(Arc<Shared>);

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    answer: Mutex<Option<Answer>>,
}

impl Shared {
    fn ask(&self, address: SocketAddr, answered: fn()) {
        let Ok(found) = ask(address) else { return };
        self.over.store(true, Ordering::Relaxed);
        let mut answer = self.answer();
        if answer.is_none() {
            *answer = Some(found);
            answered();
        }
    }

    fn answer(&self) -> MutexGuard<'_, Option<Answer>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asker {
    /// Asks the first port that speaks TCP; calls `answered` once when it has answered. `None` if there is no such port.
    pub fn start(ports: &[PortMapping], answered: fn()) -> Option<Self> {
        let mapping = ports.iter().find(|mapping| mapping.protocol == Protocol::Tcp)?;
        let address = SocketAddr::new(mapping.address, mapping.host);
        let shared = Arc::new(Shared::default());
        let asking = Arc::clone(&shared);
        thread::spawn(move || {
            while !asking.over.load(Ordering::Relaxed) {
                let asking = Arc::clone(&asking);
                // Not waited for: at the end some may be in the midst of a question.
                thread::spawn(move || asking.ask(address, answered));
                thread::sleep(PAUSE);
            }
        });
        Some(Self(shared))
    }

    /// The answer, if there was one so far.
    pub fn finish(self) -> Option<Answer> {
        self.0.over.store(true, Ordering::Relaxed);
        self.0.answer().take()
    }
}

fn ask(address: SocketAddr) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = vec![0];
    stream.read_exact(&mut text)?;
    let first = Instant::now();
    // What comes after the first byte is a gift: an answer that breaks off is still one.
    let _ = stream.take(LONGEST).read_to_end(&mut text);
    Ok(Answer { first, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_port_that_drops_or_forgets_connections_is_asked_until_it_answers() {
        static ANSWERED: AtomicUsize = AtomicUsize::new(0);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for _ in 0..3 {
                drop(listener.accept().unwrap());
            }
            // These are never answered.
            let _forgotten = [listener.accept().unwrap(), listener.accept().unwrap()];
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]).and_then(|_| stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello"));
            }
        });
        let count = || {
            ANSWERED.fetch_add(1, Ordering::SeqCst);
        };
        let asker = Asker::start(&[format!("{port}:80").parse().unwrap()], count).unwrap();
        let begun = Instant::now();
        while ANSWERED.load(Ordering::SeqCst) == 0 && begun.elapsed() < Duration::from_secs(20) {
            thread::sleep(PAUSE);
        }
        assert!(asker.finish().unwrap().text.ends_with(b"hello"));
        assert_eq!(ANSWERED.load(Ordering::SeqCst), 1);
        assert!(Asker::start(&["53:53/udp".parse().unwrap()], || ()).is_none());
    }

    #[test]
    fn asking_ends_when_nobody_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let asker = Asker::start(&[format!("{port}:80").parse().unwrap()], || panic!("nobody answered")).unwrap();
        thread::sleep(3 * PAUSE);
        assert_eq!(asker.finish(), None);
    }
}
