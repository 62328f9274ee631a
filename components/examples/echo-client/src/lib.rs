//! An example of a component that uses another: tells it something and logs what comes back.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::sync::Arc;

use tessera_interfaces::{Echo, EchoError};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::{exit, log, thread};

/// What the component uses, by the names in its component.toml.
pub struct Uses {
    /// Where it is told back.
    pub echo: Route<dyn Echo>,
}

/// The component.
#[derive(Debug)]
pub struct Client;

impl Client {
    /// Constructs it. What takes long goes on in a thread.
    pub fn new(context: Context, uses: Uses) -> Result<Arc<Client>, StartError> {
        let words = String::from(context.argument("say").unwrap_or("hello"));
        thread::spawn(move || match ask(&*uses.echo.cap, &words) {
            Ok((answer, count)) => {
                log!("the echo of `{words}` is `{answer}`, and it was asked {count} times");
                exit(0)
            }
            Err(error) => {
                log!("there is no echo: {error:?}");
                exit(1)
            }
        })?;
        Ok(Arc::new(Client))
    }
}

/// Says `words` and answers with what came back, and how often the echo was asked.
fn ask(echo: &dyn Echo, words: &str) -> Result<(String, u64), EchoError> {
    let mut answer = [0; 64];
    let length = echo.echo(words.as_bytes(), &mut answer)?;
    let answer = answer.get(..length as usize).unwrap_or(&[]);
    Ok((String::from_utf8_lossy(answer).into_owned(), echo.count()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tessera_runtime::TransportError;

    /// Shouts back; breaks when it is told to.
    struct Fake;

    impl Echo for Fake {
        fn echo(&self, from: &[u8], into: &mut [u8]) -> Result<u64, EchoError> {
            if from == b"break" {
                return Err(EchoError::Transport(TransportError::PeerDied));
            }
            for (to, from) in into.iter_mut().zip(from) {
                *to = from.to_ascii_uppercase();
            }
            Ok(from.len() as u64)
        }

        fn count(&self) -> Result<u64, EchoError> {
            Ok(7)
        }
    }

    #[test]
    fn what_comes_back_is_told_and_so_is_an_error() {
        assert_eq!(ask(&Fake, "hello"), Ok((String::from("HELLO"), 7)));
        assert_eq!(ask(&Fake, "break"), Err(EchoError::Transport(TransportError::PeerDied)));
    }
}
