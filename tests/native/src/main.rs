//! What the standard library promises, used by a program that runs on Tessera. Each check says its name; the last line counts them.
//!
//! The first argument comes from Cargo.toml; the second says what is done.

use std::collections::HashMap;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, Once, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    match arguments.get(2).map(String::as_str) {
        Some("panic") => {
            let nothing: Option<u32> = None;
            nothing.expect("this is meant to fail");
        }
        Some("exit") => process::exit(7),
        Some("overflow") => println!("{}", deep(1 << 30)),
        _ => checks(),
    }
}

/// Runs out of stack, which the page below it notices.
fn deep(depth: u64) -> u64 {
    let frame = [depth; 64];
    if depth == 0 { 0 } else { std::hint::black_box(&frame)[7] ^ deep(depth - 1) }
}

fn checks() {
    let all: &[(&str, fn())] = &[
        ("arguments and environment", arguments_and_environment),
        ("floating-point numbers in many threads", floating_point),
        ("thread-local variables", thread_locals),
        ("locks, condition variables, barriers", locks),
        ("channels and sleeping threads", channels),
        ("many threads, most of them never joined", many_threads),
        ("clocks", clocks),
        ("maps with random keys", maps),
        ("files of the image", files_of_the_image),
        ("files that are written", written_files),
        ("errors of files", errors_of_files),
        ("directories", directories),
        ("TCP within the program", tcp),
        ("TCP with time limits and without waiting", tcp_limits),
        ("UDP", udp),
        ("addresses of names", names),
        ("rayon", with_rayon),
        ("serde_json", with_serde),
        ("C code", with_c),
    ];
    for (name, check) in all {
        check();
        println!("ok: {name}");
    }
    println!("all {} checks passed", all.len());
}

fn arguments_and_environment() {
    let arguments: Vec<String> = env::args().collect();
    assert_eq!(arguments[1], "first");
    assert_eq!(env::var("GREETING").unwrap(), "Guten Morgen");
    assert!(env::var("NOTHING").is_err());
}

fn floating_point() {
    // Sums that depend on every bit of every register: a switch that loses one is seen.
    fn work(seed: u32) -> u64 {
        let mut values = [0.0_f64; 8];
        for round in 0..200_000_u32 {
            for (index, value) in values.iter_mut().enumerate() {
                *value = (*value + f64::from(seed ^ round) * 1.000_1).sqrt() + index as f64;
            }
            if round % 4096 == 0 {
                thread::yield_now();
            }
        }
        values.iter().fold(0, |bits, value| bits ^ value.to_bits())
    }
    let alone: Vec<u64> = (0..4).map(work).collect();
    let together: Vec<_> = (0..4).map(|seed| thread::spawn(move || work(seed))).collect();
    let together: Vec<u64> = together.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(alone, together);
}

fn thread_locals() {
    use std::cell::RefCell;
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Counted(usize);
    impl Drop for Counted {
        fn drop(&mut self) {
            DROPPED.fetch_add(self.0, Ordering::SeqCst);
        }
    }
    thread_local! {
        static OWN: RefCell<Counted> = const { RefCell::new(Counted(1)) };
        static LARGE: RefCell<[u64; 512]> = const { RefCell::new([7; 512]) };
    }
    let threads: Vec<_> = (0..4)
        .map(|add| {
            thread::spawn(move || {
                OWN.with_borrow_mut(|own| own.0 += add);
                LARGE.with_borrow_mut(|large| large[511] += add as u64);
                (OWN.with_borrow(|own| own.0), LARGE.with_borrow(|large| large[511] + large[0]))
            })
        })
        .collect();
    for (add, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().unwrap(), (1 + add, 14 + add as u64));
    }
    assert_eq!(DROPPED.load(Ordering::SeqCst), 10);
    assert_eq!(OWN.with_borrow(|own| own.0), 1);
}

fn locks() {
    let (mutex, readers) = (Arc::new(Mutex::new(0)), Arc::new(RwLock::new(0)));
    let barrier = Arc::new(Barrier::new(4));
    static ONCE: Once = Once::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..1000 {
                    *mutex.lock().unwrap() += 1;
                    *readers.write().unwrap() += 1;
                    ONCE.call_once(|| *mutex.lock().unwrap() += 10_000);
                }
            });
        }
    });
    assert_eq!((*mutex.lock().unwrap(), *readers.read().unwrap()), (14_000, 4000));
    let pair = (Mutex::new(false), Condvar::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            *pair.0.lock().unwrap() = true;
            pair.1.notify_all();
        });
        let set = pair.1.wait_while(pair.0.lock().unwrap(), |set| !*set).unwrap();
        assert!(*set);
    });
    let (_guard, timed_out) = pair.1.wait_timeout(pair.0.lock().unwrap(), Duration::from_millis(5)).unwrap();
    assert!(timed_out.timed_out());
}

fn channels() {
    let (sender, receiver) = mpsc::channel();
    for number in 0..8_u64 {
        let sender = sender.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(number));
            sender.send(number).unwrap();
        });
    }
    drop(sender);
    assert_eq!(receiver.iter().sum::<u64>(), 28);
    let parked = thread::spawn(thread::park);
    parked.thread().unpark();
    parked.join().unwrap();
}

fn many_threads() {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    for round in 0..400 {
        let thread =
            thread::Builder::new().stack_size(256 << 10).spawn(|| COUNT.fetch_add(1, Ordering::SeqCst)).unwrap();
        if round % 10 == 0 {
            thread.join().unwrap();
        }
    }
    while COUNT.load(Ordering::SeqCst) < 400 {
        thread::yield_now();
    }
    assert!(thread::available_parallelism().unwrap().get() == 2);
}

fn clocks() {
    let begun = Instant::now();
    thread::sleep(Duration::from_millis(20));
    let passed = begun.elapsed();
    assert!(passed >= Duration::from_millis(20), "{passed:?}");
    let date = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(date > Duration::from_secs(1_700_000_000), "it is {date:?} after 1970");
}

fn maps() {
    let mut map: HashMap<String, usize> = HashMap::new();
    for number in 0..10_000 {
        map.insert(format!("key {number}"), number);
    }
    assert_eq!(map["key 9999"], 9999);
    assert_eq!(map.values().sum::<usize>(), 49_995_000);
}

fn files_of_the_image() {
    assert_eq!(fs::read_to_string("/text").unwrap(), "What was in the image.\n");
    assert_eq!(fs::read_to_string("link").unwrap(), "deep\n");
    assert_eq!(fs::read_to_string("/folder/../folder/./inner").unwrap(), "deep\n");
    let found = fs::metadata("/text").unwrap();
    assert!(found.is_file() && found.len() == 23);
    assert!(fs::symlink_metadata("/link").unwrap().file_type().is_symlink());
}

fn written_files() {
    let mut file = File::create("/new").unwrap();
    file.write_all(b"one two three").unwrap();
    drop(file);
    let mut file = OpenOptions::new().read(true).write(true).open("/new").unwrap();
    file.seek(SeekFrom::Start(4)).unwrap();
    file.write_all(b"TWO").unwrap();
    file.seek(SeekFrom::End(-5)).unwrap();
    let mut end = String::new();
    file.read_to_string(&mut end).unwrap();
    assert_eq!(end, "three");
    let mut file = OpenOptions::new().append(true).open("/new").unwrap();
    file.write_all(b" four").unwrap();
    assert_eq!(fs::read("/new").unwrap(), b"one TWO three four");
    let large: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    fs::write("/large", &large).unwrap();
    assert_eq!(fs::read("/large").unwrap(), large);
    fs::write("/text", "changed").unwrap();
    assert_eq!(fs::read("/text").unwrap(), b"changed");
    fs::remove_file("/large").unwrap();
    assert!(!fs::exists("/large").unwrap());
}

fn errors_of_files() {
    let kind = |result: std::io::Result<File>| result.unwrap_err().kind();
    assert_eq!(kind(File::open("/nothing")), ErrorKind::NotFound);
    assert_eq!(kind(File::open("/nothing/at/all")), ErrorKind::NotFound);
    assert_eq!(kind(OpenOptions::new().write(true).create_new(true).open("/text")), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_dir("/text").unwrap_err().raw_os_error(), Some(20));
    assert!(fs::rename("/text", "/other").is_err(), "the book says that this is refused");
    assert!(File::open("/text").unwrap().write(b"x").is_err());
}

fn directories() {
    fs::create_dir_all("/a/b/c").unwrap();
    fs::write("/a/b/file", "x").unwrap();
    let mut names: Vec<String> =
        fs::read_dir("/a/b").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["c", "file"]);
    assert!(fs::remove_dir("/a/b").is_err(), "it is not empty");
    fs::remove_file("/a/b/file").unwrap();
    fs::remove_dir("/a/b/c").unwrap();
    fs::remove_dir("/a/b").unwrap();
    for number in 0..300 {
        fs::write(format!("/a/{number}"), "").unwrap();
    }
    assert_eq!(fs::read_dir("/a").unwrap().count(), 300);
}

fn tcp() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            thread::spawn(move || {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                all.reverse();
                stream.write_all(&all).unwrap();
            });
        }
    });
    for length in [1, 1000, 300_000] {
        let sent: Vec<u8> = (0..length).map(|number| (number % 253) as u8).collect();
        let mut stream = TcpStream::connect(address).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        stream.set_nodelay(true).unwrap();
        assert!(stream.nodelay().unwrap());
        let mut writing = stream.try_clone().unwrap();
        let to_send = sent.clone();
        let writer = thread::spawn(move || {
            writing.write_all(&to_send).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        writer.join().unwrap();
        assert!(received.iter().rev().eq(&sent));
    }
    server.join().unwrap();
}

fn tcp_limits() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    assert_eq!(stream.read_timeout().unwrap(), Some(Duration::from_millis(10)));
    let begun = Instant::now();
    assert_eq!(stream.read(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(begun.elapsed() >= Duration::from_millis(10));
    drop(listener);
    let refused = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, 9))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

fn udp() {
    let one = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    one.send_to(b"datagram", other.local_addr().unwrap()).unwrap();
    let mut bytes = [0; 32];
    let (length, from) = other.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..length], from), (b"datagram".as_slice(), one.local_addr().unwrap()));
    other.connect(from).unwrap();
    other.send(b"answer").unwrap();
    assert_eq!(one.recv(&mut bytes).unwrap(), 6);
}

fn names() {
    use std::net::ToSocketAddrs;
    let numeric: Vec<SocketAddr> = "10.0.2.2:80".to_socket_addrs().unwrap().collect();
    assert_eq!(numeric, [SocketAddr::from(([10, 0, 2, 2], 80))]);
    assert!("no-such-name.invalid:80".to_socket_addrs().is_err());
}

fn with_rayon() {
    let sum: u64 = (0..100_000_u64).into_par_iter().map(|number| number * number).sum();
    assert_eq!(sum, 333_328_333_350_000);
    let mut numbers: Vec<u32> = (0..50_000_u32).map(|number| number.wrapping_mul(2_654_435_761)).collect();
    numbers.par_sort();
    assert!(numbers.is_sorted());
}

fn with_serde() {
    let value: serde_json::Value = serde_json::from_str(r#"{"pi": 3.14159, "list": [1, 2, {"deep": null}]}"#).unwrap();
    assert_eq!(value["pi"].as_f64(), Some(3.14159));
    assert_eq!(value.to_string(), r#"{"list":[1,2,{"deep":null}],"pi":3.14159}"#);
}

/// What `src/checked.c` has.
mod c {
    use std::ffi::{c_double, c_int};

    unsafe extern "C" {
        /// Adds what `next` answers for 0, 1, ... below `count`.
        pub safe fn sum(count: c_int, next: extern "C" fn(c_int) -> c_double) -> c_double;
        /// Counts the calls of this thread.
        pub safe fn calls() -> c_int;
    }
}

extern "C" fn square(number: i32) -> f64 {
    f64::from(number) * f64::from(number)
}

fn with_c() {
    assert_eq!(c::sum(1000, square), 332_833_500.0);
    assert_eq!([c::calls(), c::calls()], [1, 2]);
    let elsewhere = thread::spawn(|| [c::calls(), c::calls(), c::calls()]);
    assert_eq!(elsewhere.join().unwrap(), [1, 2, 3]);
    assert_eq!(c::calls(), 3);
}
