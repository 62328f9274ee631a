//! `tessera demo`: nginx out of Debian's packages, until it has answered once.

use std::net::{Ipv4Addr, TcpListener};

use miette::{Result, miette};

use super::launch::{self, Request};
use super::{Overrides, PortMapping, Source};
use crate::cli::Demo;
use crate::process;

const PACKAGES: &str = "debian:nginx-light";
const COMMAND: [&str; 3] = ["nginx", "-g", "daemon off;"];
/// Where a free port is looked for.
const PORTS: std::ops::Range<u16> = 8080..8180;

/// Runs the demonstration; the exit code is 0 if nginx answered with its page.
pub fn demo(demo: &Demo) -> Result<u8> {
    let port = match demo.port {
        Some(port) => port,
        None => PORTS
            .into_iter()
            .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
            .ok_or_else(|| miette!(help = "choose one with `--port`", "the ports 8080 to 8179 are all in use"))?,
    };
    let mapping: PortMapping = format!("{port}:80").parse().map_err(|error: String| miette!("{error}"))?;
    eprintln!("tessera: the same as: ./tessera run {PACKAGES} -p {port}:80 -- nginx -g 'daemon off;'");
    let request = Request {
        placement: None,
        source: &Source::of(PACKAGES)?,
        overrides: &Overrides {
            words: COMMAND.map(str::to_owned).into(),
            ports: vec![mapping],
            renew: demo.pull,
            ..Overrides::default()
        },
        machine: &demo.machine,
        system: None,
        seconds: Some(demo.timeout),
        shows_log: false,
        // One answer is all that is to be shown.
        answered: Some(process::end_children),
    };
    let outcome = launch::boot(&request)?;
    let Some(answer) = &outcome.answer else {
        return Err(miette!(
            help = outcome.hint(),
            "nginx did not answer: the container ended with {}",
            outcome.ending
        ));
    };
    let text = String::from_utf8_lossy(&answer.text);
    println!("{}", text.trim_end());
    outcome.print_times();
    let is_page = text.starts_with("HTTP/1.") && text.contains(" 200 ") && text.contains("Welcome to nginx!");
    if is_page { Ok(0) } else { Err(miette!("nginx answered, but not with its page")) }
}
