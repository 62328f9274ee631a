//! Images from a registry, over HTTPS (OCI distribution specification, "Pull"; tokens as Docker's registries give them).
//!
//! Everything that comes is checked against the digest that named it, beginning with what the tag named.

use std::io::Read;
use std::time::Duration;

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::Deserialize;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::package::{self, Descriptor, Manifest, add_layer, check_digest, check_platform};
use super::root::{Building, Unpacked};
use super::settings::{Configuration, Settings};
use crate::progress::Step;

/// Where names without a host are.
const DEFAULT_HOST: &str = "registry-1.docker.io";
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.docker.distribution.manifest.v2+json";
/// Longest manifest, configuration or token in bytes.
const TEXT: u64 = 8 << 20;
const CONNECT: Duration = Duration::from_secs(20);
/// Longest time without an answer.
const ANSWER: Duration = Duration::from_secs(60);

/// A name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    host: String,
    repository: String,
    /// A tag, or a digest.
    reference: String,
}

impl Name {
    fn of(text: &str) -> Result<Self> {
        let wrong = || {
            miette!(
                help = "write docker://NAME:TAG, docker://HOST/NAME:TAG or docker://HOST/NAME@sha256:DIGEST",
                "`{text}` is not the name of an image"
            )
        };
        let (name, reference) = match text.split_once('@') {
            Some((name, digest)) => {
                package::sha256(digest)?;
                (name, digest)
            }
            // A colon before a slash is that of a port.
            None => match text.rsplit_once(':') {
                Some((name, tag)) if !tag.contains('/') => (name, tag),
                _ => (text, "latest"),
            },
        };
        let (host, repository) = match name.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest.to_owned()),
            Some(_) => (DEFAULT_HOST, name.to_owned()),
            None => (DEFAULT_HOST, format!("library/{name}")),
        };
        let host = if matches!(host, "docker.io" | "index.docker.io") { DEFAULT_HOST } else { host };
        let is_part = |part: &str| {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
            !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain)
        };
        let is_host = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
        let is_reference = reference.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte));
        if !is_host || host.is_empty() || !repository.split('/').all(is_part) || reference.is_empty() || !is_reference {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), repository, reference: reference.to_owned() })
    }

    /// The address of `what` (`manifests` or `blobs`). Only this machine itself is spoken to without encryption.
    fn address(&self, what: &str, reference: &str) -> String {
        let machine = self.host.rsplit_once(':').map_or(self.host.as_str(), |(machine, _)| machine);
        let scheme = if matches!(machine, "localhost" | "127.0.0.1" | "[::1]") { "http" } else { "https" };
        format!("{scheme}://{}/v2/{}/{what}/{reference}", self.host, self.repository)
    }
}

/// Pulls and unpacks an image.
pub fn unpack(text: &str, step: &mut Step) -> Result<Unpacked> {
    let mut registry = Registry::new(Name::of(text)?);
    step.note("asking the registry");
    let mut manifest = registry.manifest(&registry.name.reference.clone())?;
    if let Some(manifests) = manifest.manifests.take() {
        manifest = registry.manifest(&package::choose(&manifests)?.digest)?;
    }
    let (Some(configuration), Some(layers)) = (manifest.config, manifest.layers) else {
        return Err(miette!("the image's manifest names no configuration and layers; its format is too old"));
    };
    package::check_media(&configuration)?;
    let text = registry.text("blobs", &configuration.digest)?;
    check_digest(&text, &configuration.digest)?;
    let configuration: Configuration = package::parse(&text, "the image's configuration")?;
    check_platform(configuration.architecture.as_deref(), configuration.os.as_deref())?;
    let contents = configuration.rootfs.as_ref().map(|layers| layers.diff_ids.clone()).unwrap_or_default();
    if contents.len() != layers.len() {
        return Err(miette!("the image's configuration is not of the layers that its manifest names"));
    }
    let mut building = Building::new()?;
    for (index, (layer, content)) in layers.iter().zip(&contents).enumerate() {
        let name = format!("layer {} of {}", index + 1, layers.len());
        let body = registry.layer(layer)?;
        let counted = Counted { from: body, done: 0, name: &name, step };
        add_layer(&mut building, counted, Some(content)).wrap_err_with(|| format!("{name} cannot be taken"))?;
        building.tree.next_layer();
    }
    building.finish()?;
    Ok(Unpacked { building, settings: Settings::of(configuration) })
}

/// One registry, with the token for one name of it.
struct Registry {
    agent: Agent,
    name: Name,
    token: Option<String>,
}

impl Registry {
    fn new(name: Name) -> Self {
        let configuration = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .user_agent(concat!("tessera/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: configuration.into(), name, token: None }
    }

    fn manifest(&mut self, reference: &str) -> Result<Manifest> {
        let text = self.text("manifests", reference)?;
        if reference.starts_with("sha256:") {
            check_digest(&text, reference)?;
        }
        package::parse(&text, "the image's manifest")
    }

    fn layer(&mut self, layer: &Descriptor) -> Result<impl Read + use<>> {
        package::sha256(&layer.digest)?;
        Ok(self.get("blobs", &layer.digest)?.into_body().into_reader())
    }

    fn text(&mut self, what: &str, reference: &str) -> Result<Vec<u8>> {
        let answer = self.get(what, reference)?;
        let mut bytes = Vec::new();
        answer.into_body().into_reader().take(TEXT + 1).read_to_end(&mut bytes).into_diagnostic()?;
        if bytes.len() as u64 > TEXT {
            return Err(miette!("{} answers with more than any manifest has", self.name.host));
        }
        Ok(bytes)
    }

    /// Asks; with a token, if the registry wants one.
    fn get(&mut self, what: &str, reference: &str) -> Result<Response<Body>> {
        let address = self.name.address(what, reference);
        let mut answer = self.ask(&address)?;
        if answer.status() == 401 && self.token.is_none() {
            let challenge = answer.headers().get("www-authenticate").and_then(|value| value.to_str().ok());
            self.token = Some(self.fetch_token(challenge.unwrap_or_default())?);
            answer = self.ask(&address)?;
        }
        let Name { host, repository, reference } = &self.name;
        match answer.status().as_u16() {
            200 => Ok(answer),
            401 | 403 | 404 => Err(miette!(
                help = "check the name and the tag; an image that needs an account can be saved with `docker save` where \
                        you are logged in, and the file be run",
                "{host} has no public image `{repository}` with the tag or digest `{reference}`"
            )),
            429 => Err(miette!(help = "wait, or use another registry", "{host} refuses more requests for now")),
            other => Err(miette!("{host} answers with HTTP status {other} to {address}")),
        }
    }

    fn ask(&self, address: &str) -> Result<Response<Body>> {
        let mut request = self.agent.get(address).header("Accept", ACCEPT);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|error| {
            miette!(
                help = "see that this machine reaches the registry (HTTPS_PROXY names a proxy); a file from `docker save`, \
                        or `debian:PACKAGE`, needs none",
                "{} cannot be reached: {error}",
                self.name.host
            )
        })
    }

    /// Gets a token for reading, as the challenge says (Docker's "Token Authentication Specification").
    fn fetch_token(&self, challenge: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let host = &self.name.host;
        let fields = challenge.strip_prefix("Bearer ").unwrap_or_default();
        let field = |name: &str| {
            let (_, rest) = fields.split_once(&format!("{name}=\""))?;
            Some(rest.split_once('"')?.0)
        };
        let Some(realm) = field("realm").filter(|realm| realm.starts_with("https://") || host.starts_with("127.0.0.1"))
        else {
            return Err(miette!(
                help = "save the image where you are logged in (`docker save`), and run the file",
                "{host} wants a password"
            ));
        };
        let mut request = self.agent.get(realm).query("scope", format!("repository:{}:pull", self.name.repository));
        if let Some(service) = field("service") {
            request = request.query("service", service);
        }
        let answer = request.call().into_diagnostic().wrap_err_with(|| format!("{host} gives no token"))?;
        let mut text = Vec::new();
        answer.into_body().into_reader().take(TEXT).read_to_end(&mut text).into_diagnostic()?;
        let answer: Answer = package::parse(&text, "the registry's token")?;
        answer.token.or(answer.access_token).ok_or_else(|| miette!("{host} gives no token"))
    }
}

/// Says how far a layer is.
struct Counted<'a, R> {
    from: R,
    done: u64,
    name: &'a str,
    step: &'a mut Step,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let length = self.from.read(into)?;
        self.done += length as u64;
        self.step.note(&format!("{}: {} MiB", self.name, self.done >> 20));
        Ok(length)
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
