//! The command line, and the help that teaches it.

use std::num::NonZero;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::accelerator::Accelerator;
use crate::container::{Grant, PortMapping, Volume};
use crate::image::{MachineKind, Memory, Placement, Processors};

/// Tessera, an operating system made of capabilities and components.
///
/// This command builds images of it, boots them in QEMU, tests and measures them.
#[derive(Debug, Parser)]
#[command(name = "tessera", version, after_help = EXAMPLES, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
First steps:
  ./tessera doctor                              what this machine has and lacks; changes nothing
  ./tessera run images/hello.toml               build the smallest image and boot it
  ./tessera run images/hello.toml --processors 4 --machine microvm
  ./tessera test                                all that a change must pass
  ./tessera test system                         one part of it
  ./tessera bench ipc                           what calls cost, beside other kernels";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a Linux container, or an image of Tessera, with its console on this terminal
    #[command(after_help = "\
WHAT is one of these:
  nginx.tar                  an image saved by `docker save`, an OCI archive, or a root file system; also .gz or .zst
  ./folder                   an OCI layout, or a root file system
  ./program                  one static Linux program
  docker://nginx:1.27        an image in a registry
  debian:nginx-light,curl    packages of Debian with all that they need (their scripts are not run: users, alternatives
                             and certificates are set up in their place)
  ./project                  a Cargo project: a Rust program that uses the standard library (the book, \"Native programs\")
  images/hello.toml          the description of an image of Tessera, or the ELF file that `tessera build` made of one

The program's exit code becomes the command's. The command's own codes are 124 (time-out), 125 (the guest could not be
booted, or an image of Tessera ended with more than 124), 126 (the kernel crashed, or the program could not be started),
127 (there is no such program), 130 (Ctrl-C twice) and 137 (it did not end when it was asked to).

Ctrl-C, SIGTERM and SIGHUP send the image's stop signal to the container, and end it by force after --stop-timeout.

Examples:
  ./tessera run nginx.tar -p 8080:80            then: curl http://localhost:8080
  ./tessera run debian:nginx-light -p 8080:80 -- nginx -g 'daemon off;'
  ./tessera run alpine.tar -it -- /bin/sh       a shell on this terminal
  echo hello | ./tessera run debian:busybox-static -i -- cat     input and output are the program's alone
  ./tessera run debian:python3 -v .:/src:ro --deny net -- python3 /src/job.py
  ./tessera run app.tar --allow net=tcp:host:5432               a database on this machine, and nothing else
  ./tessera run debian:nginx-light -p 8080:80 --timing -- nginx -g 'daemon off;'
  ./tessera run examples/http-server            then: curl http://localhost:8080
  ./tessera run images/hello.toml
  ./tessera run images/test.toml -- handles     words after `--` are appended to the first process's arguments
  ./tessera run hello.elf --timeout 10          boot a file that `tessera build` made")]
    Run(Box<Run>),
    /// Show a web server answer: nginx, from Debian's packages, unmodified, until its first page
    #[command(after_help = "\
Fetches nginx from Debian's mirror (some 20 MiB, once), boots it, asks for its page, prints that and when what happened,
and ends. The exit code is 0 if the page came.

Example:
  ./tessera demo")]
    Demo(Demo),
    /// Build an image into one ELF file, the same to the byte from the same sources
    #[command(after_help = "\
Any machine monitor with the PVH boot protocol takes the file: QEMU (-kernel), Firecracker, cloud-hypervisor.

Example:
  ./tessera build images/hello.toml -o hello.elf && ./tessera run hello.elf")]
    Build(Box<Build>),
    /// Run the tests that a change must pass, or a part of them
    #[command(after_help = "\
`./tessera test --list` names the suites. WHAT is a suite, or a part of the names of its cases:
  ./tessera test                all suites, in order
  ./tessera test host           one suite
  ./tessera test system hello   the cases of a suite whose names contain `hello`")]
    Test(Test),
    /// Measure the system beside its peers
    Bench(Bench),
    /// Say what an image consists of: domains, what each may reach, what each rests on, what a fault takes along
    #[command(after_help = "\
Nothing is built or run. The costs of calls are those that `bench interface` measured last on this machine.

Examples:
  ./tessera explain images/web.toml
  ./tessera explain debian:nginx-light --html nginx.html -- nginx
  ./tessera explain examples/http-server --svg server.svg")]
    Explain(Explain),
    /// List what runs in a guest
    #[command(after_help = ASKING)]
    Ps(Ask),
    /// Show what runs in a guest, again and again
    #[command(after_help = ASKING)]
    Top(Top),
    /// Tell all of the domains of a guest: limits, components, what each may reach, how it died
    #[command(after_help = ASKING)]
    Inspect(Inspect),
    /// End a domain of a guest; its restart policy says what follows
    #[command(after_help = ASKING)]
    Kill(Name),
    /// End a domain of a guest and start it again, whatever its policy
    #[command(after_help = ASKING)]
    Restart(Name),
}

const ASKING: &str = "\
A guest is asked over its second serial port. Its image must have the components `serial` and `control`, as
images/control.toml does.";

#[derive(Debug, Args)]
pub struct Explain {
    /// An image.toml, the folder of a Cargo project, or anything that `run` takes for a container
    #[arg(value_name = "WHAT")]
    pub what: String,
    /// Where the components are, and the program [default: as the image's description says]
    #[arg(long, value_enum)]
    pub placement: Option<Placement>,
    /// Draw it into this file too
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Make a page of it too, which any browser shows and which needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Measure first what calls cost, as `bench interface` does
    #[arg(long)]
    pub measure: bool,
    /// A container's command, in place of its image's
    #[arg(last = true)]
    pub words: Vec<String>,
}

/// Which guest is asked, and how it is shown.
#[derive(Debug, Args)]
pub struct Ask {
    /// The guest, by its image's name or its process number [default: the only one]
    #[arg(long, value_name = "GUEST")]
    pub guest: Option<String>,
    /// Print JSON in place of tables
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Top {
    #[command(flatten)]
    pub ask: Ask,
    /// Seconds between two tables
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// End after so many tables
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// A domain or a component [default: all]
    pub name: Option<String>,
    #[command(flatten)]
    pub ask: Ask,
}

#[derive(Debug, Args)]
pub struct Name {
    /// The domain, or a component in it
    pub name: String,
    /// The guest, by its image's name or its process number [default: the only one]
    #[arg(long, value_name = "GUEST")]
    pub guest: Option<String>,
}

#[derive(Debug, Args)]
pub struct Run {
    /// A container's image in one of many forms, or an image of Tessera (see below)
    #[arg(value_name = "WHAT")]
    pub image: String,
    #[command(flatten)]
    pub container: ContainerOptions,
    /// Where the components are, and the program [default: as the image's description says]
    #[arg(long, value_enum)]
    pub placement: Option<Placement>,
    #[command(flatten)]
    pub machine: Machine,
    /// Kill the guest after this many seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// A container's command, in place of its image's; else words appended to the arguments of the first process
    #[arg(last = true)]
    pub words: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Demo {
    /// The port of this machine that leads to nginx [default: a free one from 8080 on]
    #[arg(long)]
    pub port: Option<u16>,
    /// Give up after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub timeout: u64,
    /// Ask Debian's mirror for newer packages
    #[arg(long)]
    pub pull: bool,
    #[command(flatten)]
    pub machine: Machine,
}

/// What is said of a container and not of its machine.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Containers")]
pub struct ContainerOptions {
    /// Lead a port of this machine to one of the container: 8080:80, 0.0.0.0:8080:80 (from everywhere, not from this
    /// machine alone), 5353:53/udp
    #[arg(short, long = "publish", value_name = "HOST:GUEST")]
    pub ports: Vec<PortMapping>,
    /// Share a folder of this machine with the container: ./data:/data, read only with `:ro` behind it; or give it a copy
    /// with `:copy`
    #[arg(short, long = "volume", value_name = "HOST:GUEST")]
    pub volumes: Vec<Volume>,
    /// Let the container reach this much of the network and no more: net=tcp:10.0.2.2:5432, net=tcp:db.example.org:443,
    /// net=udp:*:53, net=*:10.0.0.0/8:*; `host` is this machine [default: all]
    #[arg(long, value_name = "WHAT")]
    pub allow: Vec<Grant>,
    /// Do not let the container reach this: `net`, or a part of it as for --allow
    #[arg(long, value_name = "WHAT")]
    pub deny: Vec<Grant>,
    /// Set a variable of the environment; a NAME alone passes this machine's value on
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub environment: Vec<String>,
    /// The program that is run, in place of the image's entry point
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// The user: a name of the image or a number, and perhaps a group behind a colon
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// The working directory
    #[arg(short, long, value_name = "FOLDER")]
    pub workdir: Option<String>,
    /// The container's name for itself [default: tessera]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Give the program this terminal's input
    #[arg(short, long)]
    pub interactive: bool,
    /// Make its input and output a terminal (with -i: `-it`)
    #[arg(short, long)]
    pub tty: bool,
    /// Seconds between the stop signal and the end by force [default: 10]
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<u32>,
    /// Ask the registry or Debian's mirror again, even if the image is here
    #[arg(long)]
    pub pull: bool,
    /// Print when what happened, once the container has ended; with -p, when the first byte of an answer came
    #[arg(long)]
    pub timing: bool,
    /// Print one JSON object on standard error once the container has ended
    #[arg(long)]
    pub json: bool,
    /// Show the log of the kernel and the components on standard error; without, it is kept under target/tessera/logs
    #[arg(long)]
    pub log: bool,
    /// The description of the system that the container runs on [default: images/container.toml]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub system: Option<PathBuf>,
}

/// The virtual machine. What is not given is taken from the image.toml.
#[derive(Debug, Args)]
pub struct Machine {
    /// The kind of machine [default: the image's, else q35]
    #[arg(long, value_enum)]
    pub machine: Option<MachineKind>,
    /// Memory, such as 64M or 1G; at least 4M [default: the image's, else 64M]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Memory>,
    /// Processors, 1 to 8 [default: the image's, else 1]
    #[arg(long, value_name = "N")]
    pub processors: Option<Processors>,
    /// What executes the guest
    #[arg(long, value_enum, default_value_t)]
    pub accel: Accelerator,
    /// Count instructions: one tick of the clock is one instruction, runs repeat exactly (one processor, TCG)
    #[arg(long)]
    pub icount: bool,
}

#[derive(Debug, Args)]
pub struct Build {
    /// The image.toml, or anything that `run` takes for a container
    #[arg(value_name = "WHAT")]
    pub image: String,
    /// Where the components are, and the program [default: as the image's description says]
    #[arg(long, value_enum)]
    pub placement: Option<Placement>,
    #[command(flatten)]
    pub container: ContainerOptions,
    /// Where the ELF file goes [default: under target/tessera/images]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// A container's command, in place of its image's
    #[arg(last = true)]
    pub words: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Test {
    /// A suite, and parts of the names of its cases; all suites if none is given
    pub what: Vec<String>,
    /// List suites and cases, and run none
    #[arg(long)]
    pub list: bool,
    /// How many cases run at once [default: one more than there are processors]
    #[arg(short, long, value_name = "NUMBER")]
    pub jobs: Option<NonZero<usize>>,
}

#[derive(Debug, Args)]
pub struct Bench {
    /// What to measure
    #[arg(value_enum, default_value = "ipc")]
    pub what: Benchmark,
    /// Print one JSON object in place of the tables
    #[arg(long)]
    pub json: bool,
    /// Measure Debian's kernel beside, doing the same on the same QEMU. It is fetched by apt; `linux` does so in any case
    #[arg(long)]
    pub peer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Benchmark {
    /// Calls between processes and the kernel's basic operations
    Ipc,
    /// Calls of interfaces, within a domain and between two
    Interface,
    /// The network stack: over the loopback, and with this machine through the driver
    Net,
    /// The same Linux program in each placement, beside a Linux guest
    Placement,
    /// A disk: reads and writes of 4 KiB and 1 MiB through the driver's domain
    Block,
    /// System calls of one and the same Linux program, under Tessera and under Debian's kernel
    Linux,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn words_come_after_two_dashes() {
        let cli = Cli::try_parse_from(["tessera", "run", "a.toml", "--icount", "--", "x", "--y"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("`run` is another command") };
        assert!(run.machine.icount);
        assert_eq!(run.words, ["x", "--y"]);
        assert!(Cli::try_parse_from(["tessera", "run", "a.toml", "x"]).is_err());
        assert!(Cli::try_parse_from(["tessera", "run", "a.toml", "--processors", "9"]).is_err());
    }
}
