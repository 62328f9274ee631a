//! A copy of the checkout at another path: images built in it are the same, and what the book says can be done in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use miette::{IntoDiagnostic, Result, WrapErr, miette};

use super::command;
use super::host::cargo;
use super::outcome::Outcome;
use crate::image::{self, Description};
use crate::progress::Step;
use crate::workspace;

/// Where the copy is.
fn folder() -> PathBuf {
    workspace::target().join("tessera/copy of the checkout")
}

/// Whoever works in the copy holds this.
static COPY: Mutex<()> = Mutex::new(());

/// This command, at work in the copy.
fn tessera() -> Command {
    let copy = folder();
    // Not by its path: the host suite's build may have put a newer file there since this program was started.
    let mut command = Command::new("/proc/self/exe");
    command.current_dir(&copy).env("TESSERA_ROOT", &copy).env("CARGO_TARGET_DIR", copy.join("target"));
    command
}

/// Builds an image in the copy, and compares it with that of the checkout.
pub fn same_to_the_byte(image: &str, step: &mut Step) -> Result<Outcome> {
    let _alone = COPY.lock().unwrap_or_else(PoisonError::into_inner);
    copy_sources(&workspace::root(), &folder())?;
    let (built, _) = image::build_to_target(&Description::read(&workspace::root().join(image))?)?;
    let copy = folder();
    let output = copy.join("image.elf");
    let mut build = tessera();
    build.arg("build").arg(copy.join(image)).arg("-o").arg(&output);
    let finished = command::run(&mut build, step)?;
    if !finished.succeeded {
        return Ok(Outcome::failed(format!("{image} cannot be built in a copy of the checkout"), finished.output));
    }
    let (first, second) = (fs::read(built).into_diagnostic()?, fs::read(output).into_diagnostic()?);
    let difference = first.iter().zip(&second).position(|(one, other)| one != other);
    Ok(match difference {
        None if first.len() == second.len() => Outcome::passed(1),
        None => Outcome::failed(format!("one image has {} bytes, the other {}", first.len(), second.len()), ""),
        Some(at) => Outcome::failed(format!("two builds of {image} differ from byte {at:#x} on"), ""),
    })
}

/// Copies what is needed for a build, and leaves out build results and hidden files.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).into_diagnostic()?;
    // What an earlier copy holds and the checkout no longer does would be built too.
    for entry in fs::read_dir(to).into_diagnostic()? {
        let entry = entry.into_diagnostic()?;
        let path = entry.path();
        if entry.file_name() == "target" || from.join(entry.file_name()).exists() {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.into_diagnostic()?;
    }
    for entry in fs::read_dir(from).into_diagnostic()? {
        let entry = entry.into_diagnostic()?;
        let name = entry.file_name();
        if name == "target" || name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let (source, copy) = (entry.path(), to.join(&name));
        let kind = entry.file_type().into_diagnostic()?;
        if kind.is_dir() {
            copy_sources(&source, &copy)?;
        } else if kind.is_file() && fs::read(&copy).ok() != fs::read(&source).ok() {
            // An unchanged file keeps its time, so that a second run builds nothing anew.
            fs::copy(&source, &copy).into_diagnostic()?;
        }
    }
    Ok(())
}

/// The page of the book that is followed, and what its blocks of code are, in their order.
const PAGE: &str = "docs/src/component.md";
const BLOCKS: [Block; 8] = [
    Block::File("interfaces/src/greeter.rs"),
    Block::Lines("interfaces/src/lib.rs"),
    Block::File("components/greeter/Cargo.toml"),
    Block::File("components/greeter/component.toml"),
    Block::File("components/greeter/src/lib.rs"),
    Block::File("components/visitor/component.toml"),
    Block::File("components/visitor/src/lib.rs"),
    Block::File("images/greeting.toml"),
];
/// How the visitor's route is bound when both are in one domain.
const NEIGHBOUR: &str = "domain.local::<dyn tessera_interfaces::Greeter>(greeter.clone())";
const GREETING: &str = "Good morning, visitor!";

/// What a block of code on the page is.
enum Block {
    /// A whole file.
    File(&'static str),
    /// Lines that are added to a file.
    Lines(&'static str),
}

/// Does in the copy what the page says, and nothing else.
pub fn follow_the_book(step: &mut Step) -> Result<Outcome> {
    let _alone = COPY.lock().unwrap_or_else(PoisonError::into_inner);
    let copy = folder();
    copy_sources(&workspace::root(), &copy)?;
    let page = read(&copy.join(PAGE))?;
    let blocks = code(&page);
    if blocks.len() != BLOCKS.len() {
        let why = format!("the page has {} blocks of code, and this test knows {}", blocks.len(), BLOCKS.len());
        return Ok(Outcome::failed(why, ""));
    }
    for (text, block) in blocks.iter().zip(BLOCKS) {
        match block {
            Block::File(path) => write(&copy.join(path), text)?,
            Block::Lines(path) => {
                let path = copy.join(path);
                write(&path, &format!("{}\n{text}", read(&path)?))?;
            }
        }
    }
    let manifest = read(&copy.join("components/greeter/Cargo.toml"))?;
    write(&copy.join("components/visitor/Cargo.toml"), &manifest.replace("tessera-greeter", "tessera-visitor"))?;
    let root = copy.join("Cargo.toml");
    let members = "members = [\n    \"components/greeter\",\n    \"components/visitor\",\n";
    write(&root, &read(&root)?.replacen("members = [\n", members, 1))?;

    let mut tests = cargo();
    tests.current_dir(&copy).env("CARGO_TARGET_DIR", copy.join("target"));
    let finished = command::run(tests.args(["test", "-p", "tessera-greeter"]), step)?;
    if !finished.succeeded || !finished.output.contains("1 passed") {
        return Ok(Outcome::failed("the greeter's test does not pass", finished.output));
    }
    if let Some(failure) = greets(step)? {
        return Ok(failure);
    }
    let image = copy.join("images/greeting.toml");
    let grouped = read(&image)?.replace("name = \"greeter\"", "name = \"greeter\"\ndomain = \"hall\"");
    let grouped = grouped.replace("name = \"visitor\"", "name = \"visitor\"\ndomain = \"hall\"");
    write(&image, &grouped.replace("[domain.visitor]", "[domain.hall]"))?;
    if let Some(failure) = greets(step)? {
        return Ok(failure);
    }
    let domains = copy.join("target/tessera/workspace/domains");
    for entry in fs::read_dir(&domains).into_diagnostic()? {
        let made = entry.into_diagnostic()?.path();
        let is_the_hall = made.file_name().is_some_and(|name| name.to_string_lossy().starts_with("domain-hall-"));
        if is_the_hall && read(&made.join("src/main.rs"))?.contains(NEIGHBOUR) {
            return Ok(Outcome::passed(1));
        }
    }
    Ok(Outcome::failed(format!("no program in {} binds its neighbour", domains.display()), ""))
}

/// Runs the page's image; answers what went wrong.
fn greets(step: &mut Step) -> Result<Option<Outcome>> {
    let mut run = tessera();
    run.args(["run", "images/greeting.toml", "--accel", "tcg", "--timeout", "60"]);
    let finished = command::run(&mut run, step)?;
    let greeted = finished.succeeded && finished.output.lines().any(|line| line == GREETING);
    Ok((!greeted).then(|| Outcome::failed(format!("it did not print `{GREETING}`"), finished.output)))
}

/// The fenced blocks of code of a page.
fn code(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        match (line.starts_with("```"), open.as_mut()) {
            (true, None) => open = Some(String::new()),
            (true, Some(_)) => blocks.extend(open.take()),
            (false, Some(block)) => {
                block.push_str(line);
                block.push('\n');
            }
            (false, None) => {}
        }
    }
    blocks
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).into_diagnostic().wrap_err_with(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, contents: &str) -> Result<()> {
    let folder = path.parent().ok_or_else(|| miette!("{} is no file", path.display()))?;
    fs::create_dir_all(folder).into_diagnostic()?;
    fs::write(path, contents).into_diagnostic().wrap_err_with(|| format!("cannot write {}", path.display()))
}
