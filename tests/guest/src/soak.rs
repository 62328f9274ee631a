//! Processes are started and killed at random while they call one another. What is tested is that nobody hangs, that the machine
//! lives, and (by the supervisor) that all of it is given back.

use alloc::vec::Vec;

use tessera_runtime::object::{Endpoint, Progress, Session};
use tessera_runtime::{Child, Error, own};

use crate::calls::{ADD_ONE, serve};
use crate::context::{Context, sleep, within};
use crate::random::Random;
use crate::{Role, Test};

pub const TESTS: &[Test] = &[("processes that die at random under calls leave nothing behind", soak)];

pub const ROLES: &[Role] = &[("soak-client", client), ("soak-server", server)];

/// Processes that are started in all.
const STARTS: usize = 60;
/// Processes that live at once.
const LIVE: usize = 6;

fn server(context: &mut Context) -> i32 {
    serve(&context.start.take("endpoint").unwrap());
    0
}

/// Calls until its server is gone.
fn client(context: &mut Context) -> i32 {
    let session: Session = context.start.take("session").unwrap();
    let mut word = 1;
    loop {
        match session.call_words(ADD_ONE, [word, 2]) {
            Ok((ADD_ONE, [answer, 3])) if answer == word + 1 => word = answer,
            Err(Error::PeerGone) => return 0,
            _ => return 3,
        }
    }
}

fn soak(context: &mut Context) {
    let mut random = Random::new(2026);
    let mut live: Vec<Child> = Vec::new();
    let mut started = 0;
    while started < STARTS {
        let endpoint = Endpoint::create(&own::pool()).unwrap();
        let sessions: Vec<Session> =
            (0..1 + random.below(2)).map(|badge| Session::create(&endpoint, &own::pool(), badge).unwrap()).collect();
        live.push(context.role("soak-server", |program| program.handle("endpoint", endpoint)));
        started += 1;
        for session in sessions {
            live.push(context.role("soak-client", |program| program.handle("session", session)));
            started += 1;
        }
        sleep(random.below(15));
        while live.len() > LIVE {
            let child = live.swap_remove(random.below(live.len() as u64) as usize);
            // Some were ended by their server's end: that is the only way in which a client ends by itself.
            child.kill(77).unwrap();
            match child.wait(within(5000)) {
                Ok(Progress::Ended(0 | 77)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    for child in live {
        child.kill(77).unwrap();
        assert!(matches!(child.wait(within(5000)), Ok(Progress::Ended(0 | 77))));
    }
}
