//! Containers as a person uses them: input and output, a terminal, signals, the end. The command under test is this one, run from outside.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{self, Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, Result, miette};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use sha2::Digest;

use super::Case;
use super::outcome::Outcome;
use crate::progress::Step;

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
const SHELL: &str = "debian:busybox-static";

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("a-container-takes-input-to-its-end-and-keeps-every-byte", input),
        Case::new("a-containers-output-and-errors-stay-apart", apart),
        Case::new("containers-of-one-image-run-side-by-side", side_by_side),
        Case::new("a-container-whose-output-nobody-reads-has-a-broken-pipe", broken_pipe),
        Case::new("a-container-is-asked-to-end-and-then-made-to", stopped),
        Case::new("a-shell-in-a-container-has-a-terminal", terminal),
        Case::new("a-volume-is-shared-with-this-machine", volume),
        Case::new("a-container-reaches-what-it-is-allowed-to", authority),
    ]
}

/// Whether the packages that the cases need can be had; they are made ready by the first.
fn can_run(step: &mut Step) -> Result<bool> {
    step.note("making the container ready");
    let output = command(&["-i", SHELL, "--", "busybox", "true"]).output().into_diagnostic()?;
    let told = String::from_utf8_lossy(&output.stderr);
    let unreachable = ["apt, which this machine does not have", "packages cannot be fetched"];
    if !output.status.success() && unreachable.iter().any(|reason| told.contains(reason)) {
        return Ok(false);
    }
    if output.status.success() { Ok(true) } else { Err(miette!("a container does not start: {told}")) }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    // A guest that hangs fails its case.
    command
        .args(["run", "--timeout", "300"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn skipped() -> Result<Outcome> {
    Ok(Outcome::skipped("Debian's packages cannot be had here"))
}

/// More than all buffers on the way hold together, with every byte in it.
fn input(step: &mut Step) -> Result<Outcome> {
    if !can_run(step)? {
        return skipped();
    }
    let sent: Vec<u8> = (0..1_000_003_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut child = command(&["-i", SHELL, "--", "busybox", "cat"]).stdin(Stdio::piped()).spawn().into_diagnostic()?;
    let mut to = child.stdin.take().ok_or_else(|| miette!("no input"))?;
    let bytes = sent.clone();
    let writer = thread::spawn(move || to.write_all(&bytes));
    let output = child.wait_with_output().into_diagnostic()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if !matches!(writer.join(), Ok(Ok(()))) {
        return Ok(Outcome::failed("not all input was taken", told));
    }
    if output.stdout != sent {
        let same = output.stdout.iter().zip(&sent).take_while(|(a, b)| a == b).count();
        let why = format!("{} bytes came back of {}, the first {same} the same", output.stdout.len(), sent.len());
        return Ok(Outcome::failed(why, told));
    }
    Ok(if output.status.code() == Some(0) { Outcome::passed(1) } else { Outcome::failed("it failed", told) })
}

fn apart(step: &mut Step) -> Result<Outcome> {
    if !can_run(step)? {
        return skipped();
    }
    let script = "echo out; echo err >&2; readlink /proc/self/fd/0; exit 200";
    let output = command(&[SHELL, "--", "busybox", "sh", "-c", script]).output().into_diagnostic()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.stdout != b"out\n/dev/null\n" {
        return Ok(Outcome::failed("its output is not exactly what it wrote", String::from_utf8_lossy(&output.stdout)));
    }
    if !told.lines().any(|line| line == "err") || told.lines().any(|line| line == "out") {
        return Ok(Outcome::failed("its errors are not where errors belong", told));
    }
    let missing = command(&[SHELL, "--entrypoint", "/bin/busybox", "--", "nothing"]).output().into_diagnostic()?;
    let codes = [output.status.code(), missing.status.code()];
    if codes != [Some(200), Some(127)] {
        return Ok(Outcome::failed(format!("the codes are {codes:?}"), told));
    }
    Ok(Outcome::passed(1))
}

/// Each is told something else, and says that.
fn side_by_side(step: &mut Step) -> Result<Outcome> {
    if !can_run(step)? {
        return skipped();
    }
    let said = ["one", "two", "three", "four"];
    let start = |word| command(&[SHELL, "--", "busybox", "echo", word]).spawn();
    let children: Vec<Child> = said.map(start).into_iter().collect::<Result<_, _>>().into_diagnostic()?;
    for (child, word) in children.into_iter().zip(said) {
        let output = child.wait_with_output().into_diagnostic()?;
        if String::from_utf8_lossy(&output.stdout) != format!("{word}\n") {
            let [output, told] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
            return Ok(Outcome::failed(format!("told to say {word}, it said {output:?}"), told));
        }
    }
    Ok(Outcome::passed(4))
}

fn broken_pipe(step: &mut Step) -> Result<Outcome> {
    if !can_run(step)? {
        return skipped();
    }
    let mut child = command(&[SHELL, "--", "busybox", "yes"]).spawn().into_diagnostic()?;
    let mut some = [0; 4];
    let read = child.stdout.take().ok_or_else(|| miette!("no output"))?.read_exact(&mut some);
    read.into_diagnostic()?;
    let output = child.wait_with_output().into_diagnostic()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    // `yes` of busybox ends by the error or by the signal; either way it ends.
    Ok(match output.status.code() {
        Some(1 | 141) if &some == b"y\ny\n" => Outcome::passed(1),
        code => Outcome::failed(format!("it ended with {code:?} after {some:?}"), told),
    })
}

/// Starts a container and waits until it says `ready`.
fn until_ready(arguments: &[&str]) -> Result<Child> {
    let mut child = command(arguments).spawn().into_diagnostic()?;
    let mut line = [0; 6];
    let output = child.stdout.as_mut().ok_or_else(|| miette!("no output"))?;
    match output.read_exact(&mut line) {
        Ok(()) if &line == b"ready\n" => Ok(child),
        _ => {
            let output = child.wait_with_output().into_diagnostic()?;
            Err(miette!("it did not start: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| miette!("no process"))?;
    kill_process(id, signal).into_diagnostic()
}

fn stopped(step: &mut Step) -> Result<Outcome> {
    if !can_run(step)? {
        return skipped();
    }
    let heeds = "trap 'echo asked; exit 5' TERM; echo ready; while :; do busybox sleep 1; done";
    let ignores = "trap '' TERM; echo ready; while :; do busybox sleep 1; done";
    let shell = |script| ["--stop-timeout", "2", SHELL, "--", "busybox", "sh", "-c", script];
    step.note("one that heeds the signal");
    let child = until_ready(&shell(heeds))?;
    signal(&child, Signal::INT)?;
    let output = child.wait_with_output().into_diagnostic()?;
    if output.status.code() != Some(5) || output.stdout != b"asked\n" {
        return Ok(Outcome::failed(format!("asked to end, it ended with {}", output.status), ""));
    }
    step.note("one that has no say");
    let child = until_ready(&shell("echo ready; exec busybox sleep 1000"))?;
    signal(&child, Signal::HUP)?;
    let output = child.wait_with_output().into_diagnostic()?;
    if output.status.code() != Some(128 + 15) {
        return Ok(Outcome::failed(format!("without a handler it ended with {}", output.status), ""));
    }
    step.note("one that does not");
    let child = until_ready(&shell(ignores))?;
    let begun = Instant::now();
    signal(&child, Signal::TERM)?;
    let output = child.wait_with_output().into_diagnostic()?;
    if output.status.code() != Some(137) || begun.elapsed() < Duration::from_secs(2) {
        return Ok(Outcome::failed(format!("after its grace period it ended with {}", output.status), ""));
    }
    step.note("one that is interrupted twice");
    let mut slow = shell(ignores);
    slow[1] = "1000";
    let child = until_ready(&slow)?;
    signal(&child, Signal::INT)?;
    thread::sleep(Duration::from_millis(500));
    signal(&child, Signal::INT)?;
    let output = child.wait_with_output().into_diagnostic()?;
    Ok(match output.status.code() {
        Some(130) => Outcome::passed(4),
        code => Outcome::failed(format!("interrupted twice, it ended with {code:?}"), ""),
    })
}

/// What a shell does with two volumes, one of them read-only, while this side looks on.
fn volume(step: &mut Step) -> Result<Outcome> {
    const SCRIPT: &str = "cd /data/deep/er || exit 9
        busybox sha256sum large; cat note; stat -c %s-%a note; readlink link
        echo again >> note; mkdir -p new/folder; mv note new/folder/moved; rm gone; ln -s moved new/folder/link
        busybox dd if=/dev/zero of=written bs=1000 count=3000 2>/dev/null; chmod 640 written; touch -d @1000000000 written
        echo ready; while ! [ -e signal ]; do busybox sleep 0.1; done; cat signal
        (echo no > /read/only/file) 2>&1; busybox rm /read/only/file 2>&1; cat /read/only/file; busybox ls /read/only
        echo done";
    if !can_run(step)? {
        return skipped();
    }
    let folder = tempfile::tempdir().into_diagnostic()?;
    let path = |name: &str| folder.path().join(name);
    let large: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let make = || {
        fs::create_dir_all(path("data"))?;
        fs::create_dir_all(path("read"))?;
        for (name, content) in
            [("data/large", &large[..]), ("data/note", b"first\n"), ("data/gone", b""), ("read/file", b"kept\n")]
        {
            fs::write(path(name), content)?;
        }
        fs::set_permissions(path("data/note"), fs::Permissions::from_mode(0o604))?;
        std::os::unix::fs::symlink("note", path("data/link"))
    };
    make().into_diagnostic()?;
    let volumes =
        [format!("{}:/data/deep/er", path("data").display()), format!("{}:/read/only:ro", path("read").display())];
    let packages = "debian:busybox-static,coreutils,dash";
    step.note("building what volumes need, and booting");
    let arguments = ["-v", &volumes[0], "-v", &volumes[1], packages, "--", "sh", "-c", SCRIPT];
    let mut child = command(&arguments).spawn().into_diagnostic()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or_else(|| miette!("no output"))?).lines();
    let mut said: Vec<String> = Vec::new();
    let mut until = |what: &str, said: &mut Vec<String>| {
        for line in lines.by_ref().map_while(std::io::Result::ok) {
            if line == what {
                return true;
            }
            said.push(line);
        }
        false
    };
    if until("ready", &mut said) {
        fs::write(path("data/signal"), "from the host\n").into_diagnostic()?;
        until("done", &mut said);
    }
    let output = child.wait_with_output().into_diagnostic()?;
    let told = format!("{}\n{}", said.join("\n"), String::from_utf8_lossy(&output.stderr));
    let sum = sha2::Sha256::digest(&large).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let expected = [
        &format!("{sum}  large"),
        "first",
        "6-604",
        "note",
        "from the host",
        "sh: 6: cannot create /read/only/file: Read-only file system",
        "rm: can't remove '/read/only/file': Read-only file system",
        "kept",
        "file",
    ];
    if said != expected {
        return Ok(Outcome::failed("the container saw something else", told));
    }
    let moved = fs::read_to_string(path("data/new/folder/moved")).unwrap_or_default();
    let link = fs::read_link(path("data/new/folder/link")).unwrap_or_default();
    let written = fs::metadata(path("data/written")).into_diagnostic()?;
    let is_as_written = moved == "first\nagain\n"
        && link.as_os_str() == "moved"
        && !path("data/gone").exists()
        && !path("data/note").exists()
        && (written.len(), written.mode() & 0o7777, written.mtime()) == (3_000_000, 0o640, 1_000_000_000);
    Ok(if is_as_written { Outcome::passed(2) } else { Outcome::failed("this machine saw something else", told) })
}

/// Says something to whoever connects, until the case is over.
fn speaker(text: &'static str) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).into_diagnostic()?;
    let port = listener.local_addr().into_diagnostic()?.port();
    thread::spawn(move || listener.incoming().flatten().for_each(|mut stream| drop(stream.write_all(text.as_bytes()))));
    Ok(port)
}

fn authority(step: &mut Step) -> Result<Outcome> {
    if !can_run(step)? {
        return skipped();
    }
    let (first, second) = (speaker("first\n")?, speaker("second\n")?);
    let script = format!(
        "for p in {first} {second}; do busybox nc 10.0.2.2 $p </dev/null || echo refused; done; \
         busybox nc -l -p 99 -e busybox echo own & busybox sleep 1; busybox nc 127.0.0.1 99 </dev/null"
    );
    let allowed = format!("net=tcp:host:{first}");
    let denied = format!("net=tcp:host:{first}");
    let cases: [(&[&str], &str, &[&str]); 4] = [
        (&[], "first\nsecond\nown\n", &[]),
        (
            &["--allow", &allowed],
            "first\nrefused\nown\n",
            &["Permission denied", "denied: tcp to 10.0.2.2", "--allow net=tcp:10.0.2.2"],
        ),
        (&["--deny", &denied], "refused\nsecond\nown\n", &["Permission denied", "--deny net=tcp:10.0.2.2"]),
        (
            &["--deny", "net"],
            "refused\nrefused\nown\n",
            &["Network is unreachable", "denied: tcp to 10.0.2.2", "--deny net"],
        ),
    ];
    for (options, expected, reported) in cases {
        step.note(&format!("with {options:?}"));
        let arguments = [options, &[SHELL, "--", "busybox", "sh", "-c", &script]].concat();
        let output = command(&arguments).output().into_diagnostic()?;
        let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if said != expected {
            return Ok(Outcome::failed(
                format!("with {options:?} it could do something else"),
                format!("{said}\n{told}"),
            ));
        }
        if let Some(missing) = reported.iter().find(|part| !told.contains(**part)) {
            return Ok(Outcome::failed(format!("with {options:?} `{missing}` was not reported"), told));
        }
    }
    Ok(Outcome::passed(4))
}

/// A person at a terminal.
struct Person {
    child: Child,
    terminal: File,
    shown: Receiver<Vec<u8>>,
    /// All that was shown, and how much of it was looked at.
    seen: String,
    looked: usize,
}

impl Person {
    fn begin(arguments: &[&str]) -> Result<Person> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).into_diagnostic()?;
        grantpt(&master).into_diagnostic()?;
        unlockpt(&master).into_diagnostic()?;
        let name = ptsname(&master, Vec::new()).into_diagnostic()?;
        let slave = File::options().read(true).write(true).open(name.to_string_lossy().as_ref()).into_diagnostic()?;
        resize(&master, 30, 100)?;
        let stream = || slave.try_clone().map(OwnedFd::from).into_diagnostic();
        // This command's file may have been replaced since it started: the link leads to it all the same.
        let myself = format!("/proc/{}/exe", process::id());
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", &myself, "run"]).args(arguments);
        let child = command.env("TERM", "xterm").stdin(stream()?).stdout(stream()?).stderr(stream()?).spawn();
        let child = child.into_diagnostic()?;
        let terminal = File::from(master);
        let mut reader = terminal.try_clone().into_diagnostic()?;
        let (sender, shown) = mpsc::channel();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut piece) {
                if sender.send(piece[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Person { child, terminal, shown, seen: String::new(), looked: 0 })
    }

    fn types(&mut self, keys: &str) -> Result<()> {
        self.terminal.write_all(keys.as_bytes()).into_diagnostic()
    }

    /// Waits until `what` is shown, behind what was looked at before.
    fn sees(&mut self, what: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen[self.looked..].find(what) {
                self.looked += at + what.len();
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => return Err(miette!("`{what}` is not shown, but: {:?}", &self.seen[self.looked..])),
            }
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        // It has ended, unless the case failed. Ended by force it would leave its machine behind.
        for _ in 0..2 {
            if self.child.try_wait().is_ok_and(|status| status.is_none()) {
                let _ = signal(&self.child, Signal::TERM);
                thread::sleep(Duration::from_millis(500));
            }
        }
        let _ = self.child.wait();
    }
}

fn resize(terminal: &OwnedFd, rows: u16, columns: u16) -> Result<()> {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).into_diagnostic()
}

fn terminal(step: &mut Step) -> Result<Outcome> {
    if !can_run(step)? {
        return skipped();
    }
    let packages = "debian:bash,busybox-static,coreutils";
    let mut person = Person::begin(&["-it", "--timeout", "600", packages, "--", "bash", "--norc"])?;
    let modes = tcgetattr(&person.terminal).into_diagnostic()?;
    match at_a_shell(&mut person, step) {
        Ok(()) => {}
        Err(report) => return Ok(Outcome::failed(report.to_string(), person.seen.clone())),
    }
    let status = person.child.wait().into_diagnostic()?;
    let after = tcgetattr(&person.terminal).into_diagnostic()?;
    if status.code() != Some(7) {
        return Ok(Outcome::failed(format!("the shell ended with {status}"), person.seen.clone()));
    }
    let changed = modes.local_modes != after.local_modes || modes.input_modes != after.input_modes;
    Ok(if changed { Outcome::failed("the terminal's modes are not as they were", "") } else { Outcome::passed(8) })
}

/// What a person does at a shell; the expected texts are not in what is typed.
fn at_a_shell(person: &mut Person, step: &mut Step) -> Result<()> {
    step.note("waiting for the prompt");
    person.sees("bash-")?;
    step.note("lines, their editing, and the size");
    person.types("echo sum $((6 * 7))\r")?;
    person.sees("sum 42\r\n")?;
    person.types("ecko typed\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x7f\x7fch\r")?;
    person.sees("\r\ntyped\r\n")?;
    person.types("stty size; tty\r")?;
    person.sees("30 100\r\n")?;
    person.sees("/dev/pts/0\r\n")?;
    resize(&person.terminal.try_clone().into_diagnostic()?.into(), 40, 120)?;
    person.types("sleep 0.2; stty size\r")?;
    person.sees("40 120\r\n")?;
    step.note("keys that send signals");
    person.types("sleep 1000\r")?;
    person.sees("sleep 1000\r\n")?;
    thread::sleep(Duration::from_secs(1));
    person.types("\x03")?;
    person.sees("^C")?;
    person.types("echo code $?\r")?;
    person.sees("code 130\r\n")?;
    step.note("jobs");
    person.types("sleep 500\r")?;
    person.sees("sleep 500\r\n")?;
    thread::sleep(Duration::from_secs(1));
    person.types("\x1a")?;
    person.sees("Stopped")?;
    person.types("bg; jobs; kill %1; wait; echo job $?\r")?;
    person.sees("Running")?;
    person.sees("job ")?;
    person.types("cat & sleep 1; jobs; kill %1; fg; wait\r")?;
    person.sees("Stopped")?;
    step.note("an editor, and a program that draws the screen again and again");
    person.types("busybox vi /tmp/text\r")?;
    person.sees("\x1b[?1049h")?;
    person.sees("/tmp/text")?;
    person.types("iwritten in vi")?;
    person.sees("written")?;
    // Alone for a while, the escape key is no start of a sequence.
    person.types("\x1b")?;
    thread::sleep(Duration::from_secs(1));
    person.types(":wq\r")?;
    person.sees("\x1b[?1049l")?;
    person.types("cat /tmp/text\r")?;
    person.sees("\r\nwritten in vi\r\n")?;
    person.types("busybox top -d 1\r")?;
    person.sees("PID")?;
    person.types("q")?;
    person.types("\rexit 7\r")?;
    person.sees("exit")
}
