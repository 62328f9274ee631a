//! What an image says about itself: how its program is started, as which user, on which ports (OCI image specification,
//! "Image Configuration"; Docker's own format has the same fields).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The search path of images that have none.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The file as it is written. Fields that are not used here are skipped; `null` is as good as nothing.
#[derive(Debug, Default, Deserialize)]
pub struct Configuration {
    pub architecture: Option<String>,
    pub os: Option<String>,
    pub config: Option<Execution>,
    pub rootfs: Option<Layers>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Execution {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    stop_signal: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub struct Layers {
    #[serde(default)]
    pub diff_ids: Vec<String>,
}

/// The same, as it is used and kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub environment: Vec<String>,
    pub directory: String,
    pub user: String,
    /// Such as `80/tcp`.
    pub ports: Vec<String>,
    pub volumes: Vec<String>,
    /// A number or a name.
    pub stop_signal: String,
}

impl Settings {
    /// Those of a root file system that says nothing about itself.
    pub fn shell() -> Self {
        Self { command: vec!["/bin/sh".to_owned()], environment: vec![DEFAULT_PATH.to_owned()], ..Self::default() }
    }

    pub fn of(configuration: Configuration) -> Self {
        let execution = configuration.config.unwrap_or_default();
        let keys = |map: Option<BTreeMap<String, _>>| map.unwrap_or_default().into_keys().collect();
        Self {
            entrypoint: execution.entrypoint.unwrap_or_default(),
            command: execution.cmd.unwrap_or_default(),
            environment: execution.env.unwrap_or_default(),
            directory: execution.working_dir.unwrap_or_default(),
            user: execution.user.unwrap_or_default(),
            ports: keys(execution.exposed_ports),
            volumes: keys(execution.volumes),
            stop_signal: execution.stop_signal.unwrap_or_default(),
        }
    }
}

/// Linux's signals on x86-64, from 1 on.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The number of a signal that is written as a number, as `SIGTERM` or as `TERM`, or `RTMIN+3`.
pub fn signal(text: &str) -> Option<u32> {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    if let Some(more) = name.strip_prefix("RTMIN") {
        let more: u32 = if more.is_empty() { 0 } else { more.strip_prefix('+')?.parse().ok()? };
        return 34u32.checked_add(more).filter(|number| *number <= 64);
    }
    SIGNALS.iter().position(|known| *known == name).map(|index| index as u32 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_with_nulls_and_without() {
        let text = r#"{"architecture":"amd64","os":"linux","history":[],"config":{"Entrypoint":null,"Cmd":["redis-server"],
            "Env":["A=b"],"WorkingDir":"/data","User":"redis","ExposedPorts":{"6379/tcp":{}},"Volumes":null,
            "StopSignal":"SIGQUIT","Labels":{"x":"y"}},"rootfs":{"type":"layers","diff_ids":["sha256:00"]}}"#;
        let configuration: Configuration = serde_json::from_str(text).unwrap();
        assert_eq!(configuration.rootfs.as_ref().unwrap().diff_ids, ["sha256:00"]);
        let settings = Settings::of(configuration);
        let expected = Settings {
            command: vec!["redis-server".into()],
            environment: vec!["A=b".into()],
            directory: "/data".into(),
            user: "redis".into(),
            ports: vec!["6379/tcp".into()],
            stop_signal: "SIGQUIT".into(),
            ..Settings::default()
        };
        assert_eq!(settings, expected);
        assert_eq!(Settings::of(serde_json::from_str("{}").unwrap()), Settings::default());
    }

    #[test]
    fn signals_have_names_and_numbers() {
        let cases = [("SIGTERM", 15), ("QUIT", 3), ("9", 9), ("SIGRTMIN+3", 37), ("SIGWINCH", 28), ("SIGSYS", 31)];
        for (text, number) in cases {
            assert_eq!(signal(text), Some(number), "{text}");
        }
        for text in ["", "0", "65", "SIGNOTHING", "RTMIN+40", "-1"] {
            assert_eq!(signal(text), None, "{text}");
        }
    }
}
