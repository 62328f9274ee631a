//! Asks a port until it answers: when the first byte came, and what was said.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tessera_rootfs::container::Protocol;

use super::PortMapping;

/// How often is asked. QEMU takes the connection long before anybody in the guest listens, and drops it then.
const PAUSE: Duration = Duration::from_millis(2);
const ANSWER: Duration = Duration::from_secs(5);
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

/// Asks in HTTP, in a thread of its own. Something that speaks another protocol may never be found to answer.
pub struct Asker {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<Option<Answer>>,
}

impl Asker {
    /// Asks the first port that speaks TCP; calls `answered` once when it has answered. `None` if there is no such port.
    pub fn start(ports: &[PortMapping], answered: fn()) -> Option<Self> {
        let mapping = ports.iter().find(|mapping| mapping.protocol == Protocol::Tcp)?;
        let address = SocketAddr::new(mapping.address, mapping.host);
        let over = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&over);
        let thread = thread::spawn(move || {
            while !watched.load(Ordering::Relaxed) {
                if let Ok(answer) = ask(address) {
                    answered();
                    return Some(answer);
                }
                thread::sleep(PAUSE);
            }
            None
        });
        Some(Self { over, thread })
    }

    /// The answer, if there was one.
    pub fn finish(self) -> Option<Answer> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().ok().flatten()
    }
}

fn ask(address: SocketAddr) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
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

    #[test]
    fn a_port_that_drops_connections_first_is_asked_until_it_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            for _ in 0..3 {
                drop(listener.accept().unwrap());
            }
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 4];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello").unwrap();
            question
        });
        let asker = Asker::start(&[format!("{port}:80").parse().unwrap()], || ()).unwrap();
        assert_eq!(&server.join().unwrap(), b"GET ");
        while !asker.thread.is_finished() {
            thread::sleep(PAUSE);
        }
        assert!(asker.finish().unwrap().text.ends_with(b"hello"));
        assert!(Asker::start(&["53:53/udp".parse().unwrap()], || ()).is_none());
    }

    #[test]
    fn asking_ends_when_nobody_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let asker = Asker::start(&[format!("{port}:80").parse().unwrap()], || panic!("nobody answered")).unwrap();
        thread::sleep(Duration::from_millis(20));
        assert_eq!(asker.finish(), None);
    }
}
