use super::*;
use alloc::collections::BTreeMap;
use readiness::READABLE;
use tessera_interfaces::SocketOption;

#[test]
fn thousands_of_connections_live_together() {
    let mut alone = Alone::new(Limits { sockets: 8191, bytes: 128 << 20 });
    let listener = alone.listener(everywhere(80), 4096);
    let mut pairs = Vec::new();
    for round in 0..2000 {
        let (client, server) = alone.connected(listener, four(LOCALHOST, 80));
        if round < 4 {
            assert_eq!(alone.stack.option(client, SocketOption::ReceiveBuffer), Ok(64 << 10));
        }
        pairs.push((client, server));
    }
    assert_eq!(alone.stack.count(), 4001);
    // One that speaks among thousands that are silent costs what it would alone.
    let mut into = [0; 100];
    for (number, (client, server)) in pairs.iter().enumerate() {
        let text = alloc::format!("number {number}");
        alone.stack.send(*client, text.as_bytes()).unwrap();
        alone.settle();
        let length = alone.stack.receive(*server, &mut into, false).unwrap() as usize;
        assert_eq!(&into[..length], text.as_bytes());
    }
    for (client, server) in pairs {
        alone.stack.close(client);
        alone.stack.close(server);
    }
    alone.settle();
    assert_eq!(alone.stack.count(), 1);
    assert_eq!(alone.stack.used(alone.client), (1, 0));
}

#[test]
fn connections_share_what_a_small_machine_has() {
    let mut alone = Alone::new(LIMITS);
    let listener = alone.listener(everywhere(80), 8);
    alone.stack.limit(alone.client, 150 << 10);
    let pairs: Vec<_> = (0..5).map(|_| alone.connected(listener, four(LOCALHOST, 80))).collect();
    assert_eq!(alone.stack.option(pairs[0].0, SocketOption::ReceiveBuffer), Ok(16 << 10));
    for (client, server) in pairs {
        alone.stack.send(client, &[7; 1000]).unwrap();
        alone.settle();
        assert_eq!(alone.stack.receive(server, &mut [0; 2000], false), Ok(1000));
    }
    assert!(alone.stack.used(alone.client).1 <= 150 << 10);
}

#[test]
fn a_client_gets_no_more_than_its_limits_and_takes_nothing_from_another() {
    let mut alone = Alone::new(Limits { sockets: 4, bytes: 200 << 10 });
    let greedy = alone.client;
    let other = alone.stack.add_client(LIMITS);
    let ids: Vec<Id> = (0..4).map(|_| alone.open(Protocol::Tcp, Family::V4)).collect();
    assert_eq!(alone.stack.open(greedy, Protocol::Tcp, Family::V4), Err(NetworkError::LimitReached));
    let fine = alone.stack.open(other, Protocol::Tcp, Family::V4).unwrap();
    alone.stack.bind(fine, everywhere(80)).unwrap();
    alone.stack.listen(fine, 100).unwrap();
    for id in &ids {
        alone.stack.set_option(*id, SocketOption::ReceiveBuffer, 40 << 10).unwrap();
        alone.stack.set_option(*id, SocketOption::SendBuffer, 40 << 10).unwrap();
    }
    let outcomes: Vec<_> = ids.iter().map(|id| alone.stack.connect(*id, four(LOCALHOST, 80))).collect();
    assert_eq!(
        outcomes,
        [
            Err(NetworkError::InProgress),
            Err(NetworkError::InProgress),
            Err(NetworkError::LimitReached),
            Err(NetworkError::LimitReached)
        ]
    );
    alone.settle();
    assert!(alone.stack.accept(fine).is_ok());
    // What is closed but not gone counts still.
    assert!(alone.stack.used(greedy).1 <= 200 << 10);
    for id in ids {
        alone.stack.close(id);
    }
    alone.settle();
    assert_eq!(alone.stack.used(greedy).0, 2, "the other side has not closed");
    alone.pass(70_000_000_000);
    assert_eq!(alone.stack.used(greedy), (0, 0), "which is not waited for without end");
}

#[test]
fn a_listener_takes_no_more_than_its_client_may_have() {
    let mut alone = Alone::new(Limits { sockets: 3, bytes: 1 << 30 });
    let listener = alone.listener(everywhere(80), 100);
    let other = alone.stack.add_client(LIMITS);
    let clients: Vec<Id> = (0..5)
        .map(|_| {
            let id = alone.stack.open(other, Protocol::Tcp, Family::V4).unwrap();
            assert_eq!(alone.stack.connect(id, four(LOCALHOST, 80)), Err(NetworkError::InProgress));
            id
        })
        .collect();
    alone.settle();
    let first = alone.stack.accept(listener).unwrap();
    assert!(alone.stack.accept(listener).is_ok());
    assert_eq!(alone.stack.accept(listener), Err(NetworkError::WouldBlock));
    alone.stack.set_option(first, SocketOption::Linger, 0).unwrap();
    alone.stack.close(first);
    alone.pass(10_000_000_000);
    assert!(alone.stack.accept(listener).is_ok(), "the next try found room");
    assert_eq!(clients.len(), 5);
}

/// Keeps what a client would see.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<Seen>>);

/// By number: the bits, and how often they were news. And how often the client was woken.
type Seen = (BTreeMap<u32, (u64, u32)>, u32);

impl Signals for Table {
    fn set(&mut self, number: u32, bits: u64, is_news: bool) {
        let mut table = self.0.lock().unwrap();
        let entry = table.0.entry(number).or_default();
        *entry = (bits, entry.1 + u32::from(is_news));
    }

    fn raise(&mut self) {
        self.0.lock().unwrap().1 += 1;
    }
}

#[test]
fn a_client_is_told_of_every_event_and_woken_once_for_all() {
    let mut alone = Alone::new(LIMITS);
    let table = Table::default();
    let listener = alone.listener(everywhere(80), 100);
    alone.stack.listen_for(alone.client, Box::new(table.clone()));
    let (client, server) = alone.connected(listener, four(LOCALHOST, 80));
    let number = alone.stack.number(server).unwrap();
    let of = |table: &Table| table.0.lock().unwrap().0.get(&number).copied().unwrap_or_default();
    alone.settle();
    let before = of(&table);
    assert_eq!(before.0 & READABLE, 0);
    alone.stack.send(client, b"one").unwrap();
    alone.settle();
    let first = of(&table);
    assert_eq!(first.0 & READABLE, READABLE);
    alone.stack.send(client, b"two").unwrap();
    let woken = table.0.lock().unwrap().1;
    alone.pass(50_000_000);
    let second = of(&table);
    assert_eq!(second.0, first.0);
    assert!(second.1 > first.1, "new data is an event, also where there was some");
    assert!(table.0.lock().unwrap().1 > woken);
    let mut into = [0; 100];
    let woken = table.0.lock().unwrap().1;
    assert_eq!(alone.stack.receive(server, &mut into, false), Ok(6));
    assert_eq!(of(&table), (second.0 & !READABLE, second.1), "what is not ready any more is seen, and no news");
    assert_eq!(table.0.lock().unwrap().1, woken, "nor a reason to wake anybody");
    alone.settle();
    let woken = table.0.lock().unwrap().1;
    alone.settle();
    assert_eq!(table.0.lock().unwrap().1, woken, "nothing happened");
    // Numbers are used again.
    alone.stack.close(server);
    let again = alone.open(Protocol::Udp, Family::V4);
    assert_eq!(alone.stack.number(again), Ok(number));
}
