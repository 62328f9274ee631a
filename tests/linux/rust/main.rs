//! What a static program of Rust's asks of Linux: threads, files, sockets, processes, time.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

fn main() {
    if std::env::args().nth(1).as_deref() == Some("child") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).unwrap();
        print!("{}", text.to_uppercase());
        std::process::exit(9);
    }
    threads();
    files();
    sockets();
    processes();
    time();
    panics();
    println!("6 passed, 0 failed");
}

fn threads() {
    let (sender, receiver) = mpsc::channel();
    for seed in 0..8_u64 {
        let sender = sender.clone();
        thread::spawn(move || sender.send((1..=1000).fold(seed, |sum, number| sum + number)).unwrap());
    }
    drop(sender);
    assert_eq!(receiver.iter().sum::<u64>(), 8 * 500_500 + 28);
}

fn files() {
    fs::create_dir_all("/tmp/rust/deep").unwrap();
    for number in 0..50 {
        fs::write(format!("/tmp/rust/deep/{number}"), vec![number; usize::from(number) * 100]).unwrap();
    }
    fs::rename("/tmp/rust/deep/49", "/tmp/rust/49").unwrap();
    let sizes: HashMap<String, u64> = fs::read_dir("/tmp/rust/deep")
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .collect();
    assert_eq!((sizes.len(), sizes.values().sum::<u64>(), sizes["7"]), (49, 48 * 49 / 2 * 100, 700));
    fs::remove_dir_all("/tmp/rust").unwrap();
    assert!(!fs::exists("/tmp/rust").unwrap());
}

fn sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.reverse();
        stream.write_all(&all).unwrap();
    });
    let sent: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&sent).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    server.join().unwrap();
    assert!(received.iter().rev().eq(&sent));
}

fn processes() {
    let own = std::env::current_exe().unwrap();
    let mut child =
        Command::new(own).arg("child").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from its parent").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(9), b"FROM ITS PARENT".as_slice()));
}

fn time() {
    let begun = Instant::now();
    thread::sleep(Duration::from_millis(20));
    assert!(begun.elapsed() >= Duration::from_millis(20));
}

fn panics() {
    let caught = thread::spawn(|| std::panic::catch_unwind(|| Vec::<u8>::new()[3]).is_err());
    assert!(caught.join().unwrap());
}
