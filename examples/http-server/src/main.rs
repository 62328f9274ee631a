//! A web server as one would write it for any system: files, JSON, a pool of threads.
//!
//! `cargo run` runs it here, and `./tessera run examples/http-server` as an image of its own.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use serde_json::json;
use tiny_http::{Header, Request, Response, Server};

static REQUESTS: AtomicU64 = AtomicU64::new(0);

fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "0.0.0.0:80".to_owned());
    let server = Server::http(&address).unwrap_or_else(|error| panic!("cannot listen at {address}: {error}"));
    println!("listening at {}", server.server_addr());
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for request in server.incoming_requests() {
                    let path = request.url().to_owned();
                    if let Err(error) = answer(request, started) {
                        println!("{path}: {error}");
                    }
                }
            });
        }
    });
}

fn answer(request: Request, started: Instant) -> io::Result<()> {
    let number = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
    let path = request.url().to_owned();
    if path == "/status" {
        let date = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let status = json!({ "requests": number, "date": date, "up_ms": started.elapsed().as_millis() as u64 });
        let kind = Header::from_bytes("Content-Type", "application/json").expect("it is a header");
        return request.respond(Response::from_string(status.to_string()).with_header(kind));
    }
    if let Some(limit) = path.strip_prefix("/primes/").and_then(|limit| limit.parse::<u32>().ok()) {
        let count = (2..limit).into_par_iter().filter(|number| is_prime(*number)).count();
        return request.respond(Response::from_string(format!("{count}\n")));
    }
    let file = if path == "/" { "/index.html" } else { path.as_str() };
    match fs::read(file) {
        Ok(contents) => request.respond(Response::from_data(contents)),
        Err(error) => request.respond(Response::from_string(format!("{file}: {error}\n")).with_status_code(404)),
    }
}

fn is_prime(number: u32) -> bool {
    (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| number % divisor != 0)
}
