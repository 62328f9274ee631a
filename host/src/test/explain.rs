//! `tessera explain`: what it writes is complete, and a browser shows it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use miette::{IntoDiagnostic, Result};

use super::Case;
use super::command;
use super::outcome::Outcome;
use crate::progress::Step;
use crate::workspace;

/// Browsers that take pictures of pages without a screen.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
const WINDOW: (u32, u32) = (1280, 1600);

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("an-image-is-explained-in-words-and-pictures", explained),
        Case::new("a-browser-shows-the-page-of-an-image", shown),
    ]
}

fn folder() -> PathBuf {
    workspace::target().join("tessera/explained")
}

/// Explains an image; answers what was printed, the picture and the page.
fn explain(image: &str, step: &mut Step) -> Result<(command::Finished, PathBuf, PathBuf)> {
    let name = Path::new(image).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (svg, html) = (folder().join(format!("{name}.svg")), folder().join(format!("{name}.html")));
    let mut command = Command::new("/proc/self/exe");
    command.current_dir(workspace::root()).args(["explain", image]).arg("--svg").arg(&svg).arg("--html").arg(&html);
    Ok((command::run(&mut command, step)?, svg, html))
}

fn explained(step: &mut Step) -> Result<Outcome> {
    for (image, told, drawn) in [
        (
            "images/container.toml",
            [
                "ring 0: the kernel,",
                "domain linux: ring 3,",
                "linux to net: Network, by IPC",
                "net to virtio-net: NetDevice, by IPC",
            ],
            ["linux", "net", "virtio-net", "pci", "kernel", "manager", "Network", "NetDevice", "WallClock", "Entropy"]
                .as_slice(),
        ),
        (
            "examples/http-server",
            [
                "domain system: ring 0,",
                "uses files: Node of files.root, a method call",
                "runs the program of",
                "trusted base: ",
            ],
            &["http-server", "files", "net", "Node"],
        ),
    ] {
        let (finished, svg, html) = explain(image, step)?;
        let (svg, html) = (fs::read_to_string(svg).into_diagnostic()?, fs::read_to_string(html).into_diagnostic()?);
        let missing = told.iter().find(|line| !finished.output.contains(**line));
        let undrawn = drawn.iter().find(|name| {
            let text = format!(">{name}</text>");
            !svg.contains(&text) || !html.contains(&text)
        });
        if let Some(what) = missing.or(undrawn).filter(|_| finished.succeeded) {
            return Ok(Outcome::failed(format!("{image}: `{what}` is missing"), finished.output));
        }
        if !finished.succeeded {
            return Ok(finished.outcome());
        }
    }
    Ok(Outcome::passed(2))
}

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    BROWSERS
        .iter()
        .find_map(|name| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.exists()))
}

fn shown(step: &mut Step) -> Result<Outcome> {
    let Some(browser) = browser() else {
        return Ok(Outcome::skipped("there is no browser on this machine (`chromium` would do)"));
    };
    let (finished, _, html) = explain("images/container.toml", step)?;
    if !finished.succeeded {
        return Ok(finished.outcome());
    }
    let picture = folder().join("container.png");
    let _ = fs::remove_file(&picture);
    let profile = tempfile::tempdir().into_diagnostic()?;
    let mut command = Command::new(browser);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--hide-scrollbars",
    ]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.arg(format!("--window-size={},{}", WINDOW.0, WINDOW.1)).arg(format!("--screenshot={}", picture.display()));
    command.arg(format!("file://{}", html.display()));
    let finished = command::run_within(&mut command, Duration::from_secs(180), step)?;
    let Ok(bytes) = fs::read(&picture) else {
        return Ok(Outcome::failed("the browser took no picture", finished.output));
    };
    // PNG: width and height stand at fixed places; a page without anything on it packs to a few kilobytes.
    let size = |at: usize| bytes.get(at..at + 4).and_then(<[u8]>::first_chunk).map(|size| u32::from_be_bytes(*size));
    let is_whole = (size(16), size(20)) == (Some(WINDOW.0), Some(WINDOW.1)) && bytes.len() > 60_000;
    Ok(if is_whole {
        Outcome::passed(1)
    } else {
        Outcome::failed(format!("a picture of {} bytes", bytes.len()), finished.output)
    })
}
