//! A registry of our own on this machine: tokens, digests, and what a registry may get wrong.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use super::super::testing::{Tar, X86_64, configuration, layout, paths, program, told};
use super::*;

/// Serves `files` (path to contents) to those who show the token, until the test's process ends. Answers the address.
fn serve(files: BTreeMap<String, Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let own = address.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines: Vec<String> =
                BufReader::new(&stream).lines().map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
            let path = lines[0].split(' ').nth(1).unwrap().to_owned();
            let has_token = lines.iter().any(|line| line.eq_ignore_ascii_case("authorization: Bearer secret"));
            let (status, more, body) = if path.starts_with("/token?") {
                assert!(
                    path.contains("service=here") && path.contains("scope=repository%3Asome%2Fimage%3Apull"),
                    "{path}"
                );
                ("200 OK", String::new(), br#"{"token":"secret"}"#.to_vec())
            } else if !has_token {
                let realm = format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"here\"\r\n");
                ("401 Unauthorized", realm, Vec::new())
            } else {
                match files.get(&path) {
                    Some(body) => ("200 OK", String::new(), body.clone()),
                    None => ("404 Not Found", String::new(), Vec::new()),
                }
            };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{more}\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        }
    });
    address
}

/// What a registry serves for an image, under the tag `1`.
fn image() -> BTreeMap<String, Vec<u8>> {
    let layers = vec![Tar::new().file("bin/program", &program(X86_64, None), 0o755).finish()];
    let files = layout(&configuration("amd64", &layers), &layers);
    let index: Manifest = serde_json::from_slice(&files["index.json"]).unwrap();
    let manifest = index.manifests.unwrap().remove(0).digest;
    let mut served = BTreeMap::new();
    for (name, contents) in &files {
        if let Some(digits) = name.strip_prefix("blobs/sha256/") {
            let kind = if manifest.ends_with(digits) { "manifests" } else { "blobs" };
            served.insert(format!("/v2/some/image/{kind}/sha256:{digits}"), contents.clone());
        }
    }
    served.insert("/v2/some/image/manifests/1".to_owned(), files["index.json"].clone());
    served
}

fn pull(address: &str, reference: &str) -> Result<Unpacked> {
    unpack(&format!("{address}/some/image{reference}"), &mut Step::start("test"))
}

#[test]
fn an_image_is_pulled_with_a_token() {
    let address = serve(image());
    let unpacked = pull(&address, ":1").unwrap();
    assert!(paths(&unpacked.building).contains(&"/bin/program".to_owned()));
    assert_eq!(unpacked.settings.command, ["/bin/program"]);
    let refused = told(&pull(&address, ":2").err().unwrap());
    assert!(refused.contains("no public image `some/image` with the tag or digest `2`"), "{refused}");
}

#[test]
fn what_does_not_have_its_digest_is_refused() {
    let layer = |contents: &[u8]| contents.starts_with(b"bin/program");
    for spoiled in [true, false] {
        let mut served = image();
        for (path, contents) in &mut served {
            if path.contains("sha256:") && layer(contents) == spoiled {
                // In a layer, contents of a file; in a text, a space at the end.
                match spoiled {
                    true => contents[700] ^= 1,
                    false => contents.push(b' '),
                }
            }
        }
        let refused = told(&pull(&serve(served), ":1").err().unwrap());
        assert!(refused.contains("SHA-256 differs") || refused.contains("is damaged"), "{refused}");
    }
}

#[test]
fn a_registry_that_cannot_be_reached_is_told_with_other_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let refused = told(&pull(&address, ":1").err().unwrap());
    assert!(refused.contains("cannot be reached") && refused.contains("docker save"), "{refused}");
}

#[test]
fn names_are_read_as_docker_reads_them() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let by_digest = format!("ghcr.io/a/b@{digest}");
    let cases = [
        ("nginx", DEFAULT_HOST, "library/nginx", "latest"),
        ("docker.io/library/nginx:1.27", DEFAULT_HOST, "library/nginx", "1.27"),
        ("someone/thing:x", DEFAULT_HOST, "someone/thing", "x"),
        ("localhost:5000/a", "localhost:5000", "a", "latest"),
        (by_digest.as_str(), "ghcr.io", "a/b", digest.as_str()),
    ];
    for (text, host, repository, reference) in cases {
        let name = Name::of(text).unwrap();
        assert_eq!(
            (name.host.as_str(), name.repository.as_str(), name.reference.as_str()),
            (host, repository, reference)
        );
    }
    for wrong in ["", "UPPER", "a/../b", "a@sha256:12", "a:", "host.org/", "a b", "evil.org?x/a"] {
        assert!(Name::of(wrong).is_err(), "{wrong}");
    }
    assert!(Name::of("ghcr.io/a/b").unwrap().address("blobs", "x").starts_with("https://"));
    assert!(Name::of("localhost:5000/a").unwrap().address("blobs", "x").starts_with("http://localhost:5000/v2/a/"));
    assert!(Name::of("localhost.evil.org/a").unwrap().address("blobs", "x").starts_with("https://"));
}
