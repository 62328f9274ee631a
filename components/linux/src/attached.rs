//! The other side of the container's standard streams and terminal: the command that runs it, over a console ([`tessera_attach`]).
//!
//! One thread of the personality carries bytes between the console and pipes, or the master of a pseudo-terminal. Programs never wait for
//! the console, only for those; and what the console does not take in time makes them wait as a full pipe does.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_attach::{Frames, Message, Stream, ToGuest, ToHost};
use tessera_interfaces::Console;
use tessera_runtime::component::{Route, StartError};
use tessera_runtime::object::{Event, park};
use tessera_runtime::sync::Mutex;
use tessera_runtime::{Object, exit, own, thread};

use crate::errno::Errno;
use crate::file::pipe::End;
use crate::file::terminal::Master;
use crate::file::transfer::Bytes;
use crate::file::{OpenFile, Sink};
use crate::signal::{Info, code, send};
use crate::task::wait::Listener;
use crate::task::{System, WaitQueue};

/// Bits of the thread's event: news of the console, of a stream or from [`Attachment::say`].
const CONSOLE: u64 = 1;
const LOCAL: u64 = 2;
/// Bytes on their way to the console before streams are read no more.
const OUTGOING: usize = 64 << 10;
/// Bytes passed to the console at once: as many as its driver has room for.
const SENT: usize = 32 << 10;
/// Bytes taken from a stream at once.
const PIECE: usize = 16 << 10;
/// Bytes that are still taken from the streams once the first process has ended: all that it can have left in them.
const REST: usize = 512 << 10;
/// How long to wait for the farewell, in nanoseconds: whoever was there may be gone.
const PATIENCE: u64 = 5_000_000_000;
/// The highest number of a signal.
const SIGNALS: u8 = 64;

/// What is carried.
pub enum Streams {
    /// Standard input, if it is passed on, output and error.
    Pipes { input: Option<Arc<End>>, output: Option<Arc<End>>, error: Option<Arc<End>> },
    /// A terminal, and whether what is typed reaches it.
    Terminal { master: Arc<Master>, has_keys: bool },
}

impl Streams {
    fn outputs(&self) -> Vec<(Stream, &dyn OpenFile)> {
        match self {
            Streams::Pipes { output, error, .. } => {
                let all = [(Stream::Output, output), (Stream::Error, error)];
                all.into_iter().filter_map(|(stream, end)| Some((stream, &**end.as_ref()? as &dyn OpenFile))).collect()
            }
            Streams::Terminal { master, .. } => alloc::vec![(Stream::Output, &**master)],
        }
    }

    fn queues(&self) -> Vec<&WaitQueue> {
        match self {
            Streams::Pipes { input, output, error } => {
                let all = [input, output, error];
                all.into_iter().flatten().filter_map(|end| end.queue()).collect()
            }
            Streams::Terminal { master, .. } => master.queue().into_iter().collect(),
        }
    }
}

/// The connection, as the rest of the personality sees it.
pub struct Attachment {
    event: Event,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// What is to be told.
    said: Vec<ToHost>,
    /// The streams, when there are some, and the container that they belong to.
    streams: Option<(Streams, Arc<System>)>,
    /// A port has listened.
    has_opened: bool,
    /// How the first process ended.
    ended: Option<u8>,
}

/// Told when a stream may have changed.
struct Bell(Arc<Attachment>);

impl Listener for Bell {
    fn woken(&self) -> bool {
        let _ = self.0.event.raise(LOCAL);
        false
    }
}

impl Attachment {
    /// Connects, if somebody is at the other end of the console.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn connect(console: Route<dyn Console>) -> Result<Option<Arc<Attachment>>, StartError> {
        if console.cap.size().is_err() {
            return Ok(None);
        }
        let attachment =
            Arc::new(Attachment { event: Event::create(&own::pool())?, shared: Mutex::new(Shared::default()) });
        let carrier = Carrier {
            bell: Arc::new(Bell(attachment.clone())),
            attachment: attachment.clone(),
            console,
            frames: Frames::default(),
            input: VecDeque::new(),
            input_is_over: false,
            size: None,
            signals: Vec::new(),
            closed: Vec::new(),
            streams: None,
            outgoing: VecDeque::new(),
            rest: REST,
            is_told: false,
        };
        thread::spawn(move || carrier.run())?;
        Ok(Some(attachment))
    }

    /// Passes something on.
    pub fn say(&self, what: ToHost) {
        self.shared.lock().said.push(what);
        let _ = self.event.raise(LOCAL);
    }

    /// Tells the person who runs the container.
    pub fn notice(&self, text: String) {
        self.say(ToHost::Notice(text));
    }

    /// Tells the first time that a port listens.
    pub fn port_opened(&self, port: u16) {
        if !core::mem::replace(&mut self.shared.lock().has_opened, true) {
            self.mark(&format!("port {port} is open"));
        }
    }

    /// Tells that something happened, now.
    pub fn mark(&self, what: &str) {
        self.say(ToHost::Mark(own::clock().now().unwrap_or(0), what.into()));
    }

    /// Carries the streams from now on.
    pub fn carry(&self, streams: Streams, system: &Arc<System>) {
        self.shared.lock().streams = Some((streams, system.clone()));
        let _ = self.event.raise(LOCAL);
    }

    /// The container has ended: the rest of its output, then its code is told, and then the personality ends.
    pub fn end(&self, code: u8) -> ! {
        self.shared.lock().ended.get_or_insert(code);
        let _ = self.event.raise(LOCAL);
        loop {
            let _ = park(None);
        }
    }
}

/// The thread that carries.
struct Carrier {
    attachment: Arc<Attachment>,
    bell: Arc<dyn Listener>,
    console: Route<dyn Console>,
    frames: Frames,
    /// What came and has not been taken, and whether more will come.
    input: VecDeque<u8>,
    input_is_over: bool,
    /// What came before there was anybody to take it.
    size: Option<[u16; 4]>,
    signals: Vec<u8>,
    closed: Vec<Stream>,
    streams: Option<(Streams, Arc<System>)>,
    outgoing: VecDeque<u8>,
    rest: usize,
    is_told: bool,
}

impl Carrier {
    fn run(mut self) -> ! {
        self.watch();
        let mut news = CONSOLE;
        let mut deadline = None;
        loop {
            if self.console.restarted.take() {
                self.watch();
                news |= CONSOLE;
            }
            if news & CONSOLE != 0 && self.receive() {
                exit(self.code());
            }
            self.adopt();
            self.feed();
            // Whatever went makes room for more.
            while self.collect() | self.send() {}
            if self.tell_end() {
                let now = own::clock().now().unwrap_or(0);
                deadline = Some(now.saturating_add(PATIENCE));
                self.send();
            }
            news = match self.attachment.event.wait_until(CONSOLE | LOCAL, CONSOLE | LOCAL, deadline) {
                Ok(news) => news,
                Err(_) => exit(self.code()),
            };
        }
    }

    fn code(&self) -> u64 {
        self.attachment.shared.lock().ended.unwrap_or_default().into()
    }

    fn watch(&self) {
        if let Ok(event) = self.attachment.event.try_clone() {
            // A console that refuses is noticed when it is written to.
            let _ = self.console.cap.watch(event, CONSOLE);
        }
    }

    /// Takes what the host said. Whether it said farewell.
    fn receive(&mut self) -> bool {
        let mut piece = [0; PIECE];
        while let Ok(length) = self.console.cap.read(&mut piece) {
            for message in self.frames.take(piece.get(..length as usize).unwrap_or_default()) {
                match message {
                    ToGuest::Input(bytes) => self.input.extend(bytes),
                    ToGuest::InputEnds => self.input_is_over = true,
                    ToGuest::Size(size) => self.size = Some(size),
                    ToGuest::Signal(number) if (1..=SIGNALS).contains(&number) => self.signals.push(number),
                    ToGuest::Signal(_) => {}
                    ToGuest::Closed(stream) => self.closed.push(stream),
                    ToGuest::Farewell => return true,
                }
            }
        }
        false
    }

    /// Takes the streams over once they are there; sets the terminal's size and sends the signals that came.
    fn adopt(&mut self) {
        if let Some((streams, system)) = self.attachment.shared.lock().streams.take() {
            streams.queues().into_iter().for_each(|queue| queue.listen(&self.bell));
            self.streams = Some((streams, system));
        }
        let Some((streams, system)) = &mut self.streams else { return };
        if let Streams::Pipes { output, error, .. } = streams {
            for stream in self.closed.drain(..) {
                // Who writes there from now on has a broken pipe.
                *(if stream == Stream::Output { &mut *output } else { &mut *error }) = None;
            }
        }
        if let (Streams::Terminal { master, .. }, Some(size)) = (streams, self.size.take()) {
            master.terminal().resize(size);
        }
        if let Some(first) = system.process(1) {
            for signal in self.signals.drain(..) {
                send::to_process(&first, Info::user(signal.into(), code::USER, 0, 0));
            }
        }
    }

    /// Passes input on as far as there is room for it.
    fn feed(&mut self) {
        let Some((streams, _)) = &mut self.streams else { return };
        let mut taken = 0;
        while !self.input.is_empty() {
            let piece = self.input.as_slices().0;
            let outcome = match streams {
                Streams::Pipes { input: Some(input), .. } => input.write(0, &mut Bytes(piece)),
                Streams::Terminal { master, has_keys: true } => master.write(0, &mut Bytes(piece)),
                // Nobody wants it.
                _ => Ok(piece.len()),
            };
            let count = match outcome {
                Ok(count) => count,
                Err(Errno::EAGAIN) => break,
                // Nobody reads it any more.
                Err(_) => piece.len(),
            };
            self.input.drain(..count);
            taken += count;
        }
        if self.input.is_empty()
            && self.input_is_over
            && let Streams::Pipes { input, .. } = streams
        {
            *input = None;
        }
        if taken > 0 {
            self.put(&ToHost::Taken(taken as u32));
        }
    }

    fn put(&mut self, message: &ToHost) {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        self.outgoing.extend(bytes);
    }

    /// Takes what is to be told and what programs have written. Whether there was something.
    fn collect(&mut self) -> bool {
        let (said, has_ended) = {
            let mut shared = self.attachment.shared.lock();
            (core::mem::take(&mut shared.said), shared.ended.is_some())
        };
        let mut some = !said.is_empty();
        said.iter().for_each(|message| self.put(message));
        let Some((streams, _)) = &self.streams else { return some };
        let mut written = Vec::new();
        for (stream, file) in streams.outputs() {
            let room = OUTGOING.saturating_sub(self.outgoing.len()).min(PIECE);
            let room = if has_ended { room.min(self.rest) } else { room };
            let mut bytes = alloc::vec![0; room];
            let mut to = Bytes(bytes.as_mut_slice());
            // An error says that there is nothing now, or nobody who could write.
            let _ = file.read(0, &mut to);
            let length = room.saturating_sub(to.room());
            bytes.truncate(length);
            if has_ended {
                self.rest = self.rest.saturating_sub(length);
            }
            if length > 0 {
                written.push(ToHost::Written(stream, bytes));
            }
        }
        some |= !written.is_empty();
        written.iter().for_each(|message| self.put(message));
        some
    }

    /// Passes on what the console takes. Whether that was something.
    fn send(&mut self) -> bool {
        let mut some = false;
        while !self.outgoing.is_empty() {
            let piece = self.outgoing.as_slices().0;
            let piece = piece.get(..SENT).unwrap_or(piece);
            // What it does not take now it tells of later.
            let Ok(length) = self.console.cap.write(piece) else { break };
            self.outgoing.drain(..(length as usize).min(piece.len()));
            some = true;
        }
        some
    }

    /// Tells the end, once, when all else has been told. Whether it did.
    fn tell_end(&mut self) -> bool {
        let Some(code) = self.attachment.shared.lock().ended else { return false };
        let tells = !self.is_told && self.outgoing.is_empty();
        if tells {
            self.put(&ToHost::Ended(code));
            self.is_told = true;
        }
        tells
    }
}
