//! Calls: words, bytes, handles, deadlines, badges, many callers; between threads and between processes.

use alloc::vec::Vec;

use tessera_runtime::abi::{Delivery, Tag};
use tessera_runtime::object::{Endpoint, Event, Reply, Session, reply};
use tessera_runtime::thread::JoinHandle;
use tessera_runtime::{Error, Message, Object, Rights, own, thread};

use crate::context::{Context, call, event, number, sleep, within};
use crate::{Role, Test};

pub const TESTS: &[Test] = &[
    ("words go there and come back", words),
    ("words go there and come back between processes", words_between_processes),
    ("words that are not given cross as zero", words_not_given),
    ("bytes go there and come back", bytes),
    ("bytes for a receiver without a buffer are refused", bytes_without_room),
    ("handles go with a call and come with its answer", handles),
    ("a handle without the right to be transferred stays", untransferable),
    ("a session calls under the badge that it was made with", badges),
    ("a server recognises its own sessions and no others", own_sessions),
    ("callers are served in the order in which they came", order),
    ("a call that is not answered ends at its deadline", deadline),
    ("a call to nobody ends at its deadline", deadline_of_nobody),
    ("an answer after the deadline goes nowhere and harms nothing", late_answer),
    ("a call that is put aside can be answered by another thread", detached),
    ("a call that is put aside and dropped tells its caller", dropped),
    ("receiving again drops the call that was held", forgotten),
    ("answering nothing is refused", nothing_held),
    ("a passive server runs on its caller's budget", passive),
    ("one server thread serves a thousand calls of eight threads", many_callers),
];

pub const ROLES: &[Role] = &[("server", server)];

/// What the server of these tests does, by label.
pub const ADD_ONE: u32 = 1;
const SUM_BYTES: u32 = 2;
const RAISE: u32 = 3;
const MAKE_EVENT: u32 = 4;
const BADGE: u32 = 5;
pub const EXIT: u32 = 6;
const SLEEP: u32 = 7;
/// Ends the server.
pub const STOP: u32 = 99;

/// Serves until told to stop; answers how many calls were served.
pub fn serve(endpoint: &Endpoint) -> u64 {
    let mut buffer = [0; Tag::MAX_BYTES];
    let mut served = 0;
    let mut received = endpoint.receive_into(&mut buffer).unwrap();
    loop {
        if received.delivery != Delivery::Call {
            received = endpoint.receive_into(&mut buffer).unwrap();
            continue;
        }
        served += 1;
        let mut answer = Message::new(received.label());
        match received.label() {
            ADD_ONE => {
                for word in received.words.iter().take(7) {
                    answer = answer.word(word.wrapping_add(1));
                }
            }
            SUM_BYTES => {
                let count = received.tag.bytes();
                let sum = buffer[..count].iter().map(|byte| u64::from(*byte)).sum();
                buffer[..count].reverse();
                answer = answer.word(sum).bytes(&mut buffer, count);
                drop(received);
                received = endpoint.reply_and_receive(answer).unwrap();
                continue;
            }
            RAISE => {
                let event: Event = received.take_handles().take(0).unwrap();
                event.raise(received.words[1]).unwrap();
            }
            MAKE_EVENT => {
                let made = event();
                made.raise(32).unwrap();
                answer = answer.handle(made).word(5);
            }
            BADGE => answer = answer.word(received.badge),
            SLEEP => sleep(received.words[0]),
            EXIT => tessera_runtime::exit(received.words[0]),
            _ => {
                reply(answer).unwrap();
                return served;
            }
        }
        drop(received);
        received = endpoint.reply_and_receive(answer.bytes(&mut buffer, 0)).unwrap();
    }
}

/// A server process.
fn server(context: &mut Context) -> i32 {
    serve(&context.start.take("endpoint").unwrap());
    0
}

/// An endpoint, a session of it, and a thread that serves it.
pub fn served() -> (Session, JoinHandle<u64>) {
    let (endpoint, session) = pair(7);
    (session, thread::spawn(move || serve(&endpoint)).unwrap())
}

/// An endpoint and a session of it.
pub fn pair(badge: u64) -> (Endpoint, Session) {
    let endpoint = Endpoint::create(&own::pool()).unwrap();
    let session = Session::create(&endpoint, &own::pool(), badge).unwrap();
    (endpoint, session)
}

pub fn stop(session: &Session, server: JoinHandle<u64>) -> u64 {
    session.call_words(STOP, []).unwrap();
    server.join()
}

fn check_words(session: &Session) {
    assert_eq!(session.call_words(ADD_ONE, []), Ok((ADD_ONE, [])));
    assert_eq!(session.call_words(ADD_ONE, [1]), Ok((ADD_ONE, [2])));
    assert_eq!(session.call_words(ADD_ONE, [1, 2]), Ok((ADD_ONE, [2, 3])));
    assert_eq!(session.call_words(ADD_ONE, [1, 2, 3]), Ok((ADD_ONE, [2, 3, 4])));
    assert_eq!(session.call_words(ADD_ONE, [1, 2, 3, 4]), Ok((ADD_ONE, [2, 3, 4, 5])));
    assert_eq!(session.call_words(ADD_ONE, [1, 2, 3, 4, 5]), Ok((ADD_ONE, [2, 3, 4, 5, 6])));
    assert_eq!(session.call_words(ADD_ONE, [1, 2, 3, 4, 5, 6]), Ok((ADD_ONE, [2, 3, 4, 5, 6, 7])));
    assert_eq!(session.call_words(ADD_ONE, [1, 2, 3, 4, 5, 6, u64::MAX]), Ok((ADD_ONE, [2, 3, 4, 5, 6, 7, 0])));
}

fn words(_: &mut Context) {
    let (session, server) = served();
    check_words(&session);
    assert_eq!(stop(&session, server), 9);
    // All eight, without a buffer in the eighth's place.
    let (endpoint, session) = pair(1);
    let server = thread::spawn(move || {
        let received = endpoint.receive().unwrap();
        assert_eq!(received.words, [1, 2, 3, 4, 5, 6, 7, 8]);
        let _ = endpoint.reply_and_receive_words(3, received.words.map(|word| word * 2));
    })
    .unwrap();
    assert_eq!(session.call_words(0, [1, 2, 3, 4, 5, 6, 7, 8]), Ok((3, [2, 4, 6, 8, 10, 12, 14, 16])));
    drop(session);
    server.join();
}

fn words_not_given(_: &mut Context) {
    let (endpoint, session) = pair(1);
    let server = thread::spawn(move || {
        // What the registers of both sides hold from here on.
        let received = endpoint.receive().unwrap();
        let received = endpoint.reply_and_receive_words(0, received.words).unwrap();
        assert_eq!(received.words, [5, 0, 0, 0, 0, 0, 0, 0]);
        let received = endpoint.reply_and_receive_words(0, [6]).unwrap();
        assert_eq!((received.delivery, received.words), (Delivery::Call, [0; 8]));
        let _ = endpoint.reply_and_receive_words(0, [7, 8]);
    })
    .unwrap();
    assert_eq!(session.call_words(0, [1, 2, 3, 4, 5, 6, 7, 8]), Ok((0, [1, 2, 3, 4, 5, 6, 7, 8])));
    assert_eq!(session.call_words(0, [5]), Ok((0, [6])));
    let answer = session.call(Message::new(0)).unwrap();
    assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|index| answer.word(index)), [7, 8, 0, 0, 0, 0, 0, 0]);
    drop(session);
    server.join();
}

fn words_between_processes(context: &mut Context) {
    let (endpoint, session) = pair(7);
    let child = context.role("server", |program| program.handle("endpoint", endpoint));
    check_words(&session);
    session.call_words(STOP, []).unwrap();
    assert_eq!(child.wait(within(5000)), Ok(tessera_runtime::object::Progress::Ended(0)));
}

fn bytes(_: &mut Context) {
    let (session, server) = served();
    for count in [1, 7, 8, 64, 800, 1024] {
        let mut buffer = [0; Tag::MAX_BYTES];
        for (index, byte) in buffer[..count].iter_mut().enumerate() {
            *byte = index as u8;
        }
        let sum: u64 = buffer.iter().map(|byte| u64::from(*byte)).sum();
        let answer = session.call(Message::new(SUM_BYTES).bytes(&mut buffer, count)).unwrap();
        assert_eq!((answer.word(0), answer.bytes), (sum, count));
        assert!(buffer[..count].iter().rev().enumerate().all(|(index, byte)| *byte == index as u8), "{count} bytes");
    }
    stop(&session, server);
}

fn bytes_without_room(_: &mut Context) {
    let (endpoint, session) = pair(7);
    let server = thread::spawn(move || endpoint.receive().map(|received| received.label())).unwrap();
    let mut buffer = [0; Tag::MAX_BYTES];
    assert_eq!(session.call(Message::new(1).bytes(&mut buffer, 8)).map(|_| ()), Err(Error::PeerNoQuota));
    // The server still waits: the refused call did not reach it.
    assert_eq!(session.call_words(2, [0]), Err(Error::PeerGone), "it ends without an answer");
    assert_eq!(server.join(), Ok(2));
}

fn handles(_: &mut Context) {
    let (session, server) = served();
    let mine = event();
    let theirs = mine.duplicate(Rights::SIGNAL | Rights::TRANSFER).unwrap();
    session.call(Message::new(RAISE).handle(theirs).word(6)).unwrap();
    assert_eq!(mine.clear(6), Ok(6));
    assert_eq!(mine.inspect().unwrap().handles, 1, "the server closed the handle");
    let mut answer = session.call(Message::new(MAKE_EVENT)).unwrap();
    let made: Event = answer.handles.take(0).unwrap();
    assert_eq!((made.clear(32), answer.word(0)), (Ok(32), 5));
    // An answer that is dropped closes what it brought; plain calls do the same.
    let before = own::pool().usage(tessera_runtime::Kind::Event as u64).unwrap().used;
    drop(session.call(Message::new(MAKE_EVENT)).unwrap());
    session.call_words(MAKE_EVENT, [0]).unwrap();
    assert_eq!(own::pool().usage(tessera_runtime::Kind::Event as u64).unwrap().used, before);
    stop(&session, server);
}

fn untransferable(_: &mut Context) {
    let (session, server) = served();
    let mine = event();
    let bound = mine.duplicate(Rights::SIGNAL).unwrap();
    assert_eq!(session.call(Message::new(RAISE).handle(bound).word(6)).map(|_| ()), Err(Error::NoRight));
    assert_eq!(mine.clear(0), Ok(0));
    stop(&session, server);
}

fn badges(_: &mut Context) {
    let endpoint = Endpoint::create(&own::pool()).unwrap();
    let sessions: Vec<Session> = [0, 1, 42, u64::MAX]
        .into_iter()
        .map(|badge| Session::create(&endpoint, &own::pool(), badge).unwrap())
        .collect();
    let server = thread::spawn(move || serve(&endpoint)).unwrap();
    for (session, badge) in sessions.iter().zip([0, 1, 42, u64::MAX]) {
        assert_eq!(session.call_words(BADGE, [9]), Ok((BADGE, [badge])));
        let copy = session.try_clone().unwrap();
        assert_eq!(copy.call_words(BADGE, [9]), Ok((BADGE, [badge])));
    }
    stop(&sessions[0], server);
}

fn own_sessions(_: &mut Context) {
    let ((first, mine), (second, others)) = (pair(5), pair(6));
    assert_eq!((first.badge(&mine), second.badge(&others)), (Ok(5), Ok(6)));
    assert!(first.badge(&others).is_err());
    assert!(second.badge(&mine).is_err());
}

fn order(_: &mut Context) {
    let endpoint = Endpoint::create(&own::pool()).unwrap();
    // Held to the end: a session that closes would be received between the calls.
    let sessions: Vec<Session> = (0..5).map(|badge| Session::create(&endpoint, &own::pool(), badge).unwrap()).collect();
    let callers: Vec<_> = sessions
        .iter()
        .map(|session| {
            let session = session.try_clone().unwrap();
            let caller = thread::spawn(move || session.call_words(0, [0]).unwrap()).unwrap();
            sleep(10);
            caller
        })
        .collect();
    for badge in 0..5 {
        let received = endpoint.receive().unwrap();
        assert_eq!(received.badge, badge);
        reply(Message::new(0)).unwrap();
    }
    callers.into_iter().for_each(|caller| {
        caller.join();
    });
}

fn deadline(_: &mut Context) {
    let (session, server) = served();
    let began = crate::context::now();
    let result = session.call(Message::new(SLEEP).word(200).deadline(began + 20_000_000)).map(|_| ());
    assert_eq!(result, Err(Error::TimedOut));
    assert!(crate::context::now() - began >= 20_000_000);
    assert_eq!(session.call_words(ADD_ONE, [1]), Ok((ADD_ONE, [2])), "the server goes on");
    stop(&session, server);
}

fn deadline_of_nobody(_: &mut Context) {
    let (_endpoint, session) = pair(1);
    let soon = within(20).unwrap();
    assert_eq!(session.call(Message::new(1).deadline(soon)).map(|_| ()), Err(Error::TimedOut));
    assert_eq!(session.call(Message::new(1).deadline(1)).map(|_| ()), Err(Error::TimedOut));
}

fn late_answer(_: &mut Context) {
    // On a busy machine a call's time can be over before the call is made: then nobody could answer it.
    let first = loop {
        if let Some(first) = answer_late() {
            break first;
        }
    };
    assert!(matches!(first, Err(Error::BadState | Error::PeerGone)), "{first:?}");
}

/// What becomes of the answer to a caller that is gone by then; `None` if its call was not received in time.
fn answer_late() -> Option<Result<(), Error>> {
    let (endpoint, session) = pair(1);
    let server = thread::spawn(move || {
        drop(endpoint.receive().unwrap());
        // From here on it waits, however late it began.
        let mut received = endpoint.reply_and_receive_words(0, []).unwrap();
        let mut first = None;
        if received.label() == 1 {
            drop(received);
            sleep(60);
            first = Some(reply(Message::new(1).word(66)));
            received = endpoint.receive().unwrap();
        }
        assert_eq!(received.label(), 2);
        reply(Message::new(2).word(77)).unwrap();
        first
    })
    .unwrap();
    assert_eq!(session.call_words(0, []), Ok((0, [])));
    assert_eq!(session.call(Message::new(1).deadline(within(20).unwrap())).map(|_| ()), Err(Error::TimedOut));
    assert_eq!(session.call_words(2, [0]), Ok((2, [77])));
    server.join()
}

fn detached(_: &mut Context) {
    let (endpoint, session) = pair(1);
    let caller = thread::spawn(move || session.call_words(1, [5]).unwrap()).unwrap();
    let received = endpoint.receive().unwrap();
    assert_eq!(received.words[0], 5);
    let aside = Reply::detach(&own::pool()).unwrap();
    assert_eq!(reply(Message::new(0)), Err(Error::BadState), "it is not held any more");
    let other = thread::spawn(move || {
        aside.attach().unwrap();
        reply(Message::new(3).word(50))
    })
    .unwrap();
    assert_eq!(caller.join(), (3, [50]));
    assert_eq!(other.join(), Ok(()));
}

fn dropped(_: &mut Context) {
    let (endpoint, session) = pair(1);
    let caller = thread::spawn(move || session.call_words(1, [5])).unwrap();
    drop(endpoint.receive().unwrap());
    drop(Reply::detach(&own::pool()).unwrap());
    assert_eq!(caller.join(), Err(Error::PeerGone));
}

fn forgotten(_: &mut Context) {
    let (endpoint, session) = pair(1);
    let second = session.try_clone().unwrap();
    let caller = thread::spawn(move || session.call_words(1, [5])).unwrap();
    drop(endpoint.receive().unwrap());
    let other = thread::spawn(move || second.call_words(2, [0])).unwrap();
    let received = endpoint.receive().unwrap();
    assert_eq!((received.label(), caller.join()), (2, Err(Error::PeerGone)));
    reply(Message::new(0)).unwrap();
    assert!(other.join().is_ok());
}

fn nothing_held(_: &mut Context) {
    assert_eq!(reply(Message::new(0)), Err(Error::BadState));
    assert_eq!(Reply::detach(&own::pool()).map(|_| ()), Err(Error::BadState));
    let lease = tessera_runtime::abi::Syscall::LeaseRead;
    assert_eq!(call(lease, &[0, 0, number(&*own::pool()), 8]), Err(Error::BadState));
}

fn passive(_: &mut Context) {
    let (endpoint, session) = pair(1);
    let server = thread::Builder::new().passive().spawn(move || serve(&endpoint));
    let server = server.unwrap();
    // Without a budget it never gets to `receive` by itself: it is given time until it waits.
    let budget = own::budget();
    server.thread().set_budget(Some(&budget)).unwrap();
    assert_eq!(session.call_words(ADD_ONE, [1]), Ok((ADD_ONE, [2])));
    server.thread().set_budget(None).unwrap();
    for word in 0..100 {
        assert_eq!(session.call_words(ADD_ONE, [word]), Ok((ADD_ONE, [word + 1])));
    }
    server.thread().set_budget(Some(&budget)).unwrap();
    stop(&session, server);
}

fn many_callers(_: &mut Context) {
    let (session, server) = served();
    let callers: Vec<_> = (0..8_u64)
        .map(|caller| {
            let session = session.try_clone().unwrap();
            thread::spawn(move || {
                for round in 0..125 {
                    let word = caller * 1000 + round;
                    assert_eq!(session.call_words(ADD_ONE, [word]), Ok((ADD_ONE, [word + 1])));
                }
            })
            .unwrap()
        })
        .collect();
    callers.into_iter().for_each(JoinHandle::join);
    assert_eq!(stop(&session, server), 1001);
}
