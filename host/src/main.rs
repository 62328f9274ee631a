//! The `tessera` command: builds images of Tessera, boots them in QEMU, tests and measures them.
//!
//! It is an ordinary program of the host and has no part in what it builds: everything that kernel and programs need
//! comes from their own crates. The script `tessera` at the root of the checkout makes the machine ready and starts
//! this command; `cargo run -p tessera` works as well on a machine that is ready.

#![forbid(unsafe_code)]

mod accelerator;
mod bare;
mod bench;
mod cli;
mod container;
mod devices;
mod explain;
mod guests;
mod image;
mod lock;
mod mirror;
mod native;
mod process;
mod progress;
mod qemu;
mod run;
mod symbols;
mod test;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    process::handle_interrupts();
    let (result, failure) = match &cli.command {
        Command::Run(arguments) => (run::run(arguments), qemu::exit::HOST),
        Command::Demo(arguments) => (container::demo::demo(arguments), 1),
        Command::Build(arguments) => (run::build(arguments), 1),
        Command::Test(arguments) => (test::test(arguments), 1),
        Command::Bench(arguments) => (bench::bench(arguments), 1),
        Command::Explain(arguments) => (explain::explain(arguments), 1),
        Command::Ps(arguments) => (guests::ps(arguments), 1),
        Command::Top(arguments) => (guests::top(arguments), 1),
        Command::Inspect(arguments) => (guests::inspect(arguments), 1),
        Command::Kill(arguments) => (guests::kill(arguments), 1),
        Command::Restart(arguments) => (guests::restart(arguments), 1),
    };
    let code = match result {
        _ if process::interrupted() => qemu::exit::INTERRUPT,
        Ok(code) => code,
        Err(report) => {
            eprintln!("{report:?}");
            failure
        }
    };
    ExitCode::from(code)
}
