//! Whose turn it is. Clients take turns, and the sockets of a client those that it gets: one with thousands of busy sockets gets no more of
//! the stack and of the wire than one with a single busy socket.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{ClientId, Id};

/// Sockets that wait for a turn.
#[derive(Default)]
pub struct Turns {
    /// Those of each client, first come, first served.
    sockets: Vec<VecDeque<Id>>,
    /// The clients that have some: each once.
    clients: VecDeque<ClientId>,
}

impl Turns {
    /// A socket waits, behind the others of its client.
    pub fn push(&mut self, client: ClientId, id: Id) {
        let own = self.of(client);
        own.push_back(id);
        if own.len() == 1 {
            self.clients.push_back(client);
        }
    }

    /// Whose turn it is.
    pub fn pop(&mut self) -> Option<Id> {
        let client = self.clients.pop_front()?;
        let own = self.of(client);
        let id = own.pop_front();
        if !own.is_empty() {
            self.clients.push_back(client);
        }
        id
    }

    /// All that wait in `others` come first, in their order.
    pub fn put_first(&mut self, others: &mut Turns) {
        while let Some(client) = others.clients.pop_back() {
            self.clients.retain(|known| *known != client);
            self.clients.push_front(client);
            let mut first = core::mem::take(others.of(client));
            let own = self.of(client);
            first.append(own);
            *own = first;
        }
    }

    /// A socket waits no more.
    pub fn remove(&mut self, client: ClientId, id: Id) {
        let own = self.of(client);
        own.retain(|other| *other != id);
        if own.is_empty() {
            self.clients.retain(|other| *other != client);
        }
    }

    /// All that wait.
    pub fn iter(&self) -> impl Iterator<Item = Id> {
        self.sockets.iter().flatten().copied()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    fn of(&mut self, client: ClientId) -> &mut VecDeque<Id> {
        let place = client as usize;
        if self.sockets.len() <= place {
            self.sockets.resize_with(place + 1, VecDeque::new);
        }
        &mut self.sockets[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(turns: &mut Turns) -> Vec<Id> {
        core::iter::from_fn(|| turns.pop()).collect()
    }

    #[test]
    fn clients_take_turns_however_many_sockets_they_have() {
        let mut turns = Turns::default();
        for id in 0..5 {
            turns.push(7, id);
        }
        turns.push(2, 20);
        turns.push(2, 21);
        assert_eq!(all(&mut turns), [0, 20, 1, 21, 2, 3, 4]);
        assert!(turns.is_empty());
    }

    #[test]
    fn who_waits_no_more_has_no_turn() {
        let mut turns = Turns::default();
        turns.push(1, 10);
        turns.push(1, 11);
        turns.push(2, 20);
        turns.remove(1, 10);
        turns.remove(2, 20);
        turns.remove(3, 30);
        assert_eq!(all(&mut turns), [11]);
    }

    #[test]
    fn who_was_put_off_comes_first_when_he_can_go_on() {
        let (mut turns, mut later) = (Turns::default(), Turns::default());
        later.push(2, 20);
        later.push(1, 10);
        turns.push(1, 11);
        turns.push(3, 30);
        turns.put_first(&mut later);
        assert!(later.is_empty());
        assert_eq!(all(&mut turns), [20, 10, 30, 11]);
    }
}
