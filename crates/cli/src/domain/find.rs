//! The domains of running device hosts, asked over their control sockets, and which one a person means.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hdv::domain::control::{DomainSummary, DomainTree, LIST, TREE, TreeArguments};
use hdv_compute::ComputeSystem;
use hdv_control::{CallError, Client, ErrorKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Failure;
use crate::ls::{self, Host};
use crate::process;
use crate::progress;
use crate::status::Device;
use crate::style::printable;

/// Said where there is no domain.
const HOW_TO_GET_ONE: &str = "\
`hdv serve --domain FILE.toml --socket PATH` serves one; `hdv serve --help` says more.";

/// A domain of a running host.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) pid: u32,
    /// The host's control socket.
    pub(super) control: PathBuf,
    pub(super) name: String,
    /// What to call it: its name, after its process if several hosts have one of that name.
    pub(super) label: String,
    /// The id of its endpoint.
    device: u64,
}

/// All domains that this user can reach, and what could not be looked at.
pub(super) fn all() -> Result<(Vec<Found>, Vec<String>), Failure> {
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for entry in hdv_control::hosts()? {
        let of_host = || -> Result<Vec<DomainSummary>, Failure> {
            let mut client = Client::connect(&entry.path)?;
            match client.call(LIST, &Value::Null) {
                Ok(answer) => Ok(serde_json::from_value(answer)?),
                // It has none.
                Err(CallError::Command(error)) if error.kind == ErrorKind::UnknownCommand => {
                    Ok(Vec::new())
                }
                Err(error) => Err(error.into()),
            }
        };
        match of_host() {
            Ok(domains) => all.extend(domains.into_iter().map(|domain| Found {
                pid: entry.pid,
                control: entry.path.clone(),
                label: domain.name.clone(),
                name: domain.name,
                device: domain.device,
            })),
            // It has ended meanwhile.
            Err(_) if !entry.path.exists() => {}
            Err(error) => errors.push(format!("{}: {error}", process::describe(entry.pid))),
        }
    }
    tell_apart(&mut all);
    Ok((all, errors))
}

fn tell_apart(all: &mut [Found]) {
    let mut names = BTreeMap::new();
    for found in all.iter() {
        *names.entry(found.name.clone()).or_insert(0_usize) += 1;
    }
    for found in all.iter_mut().filter(|found| names[&found.name] > 1) {
        found.label = found.with_process('/');
    }
}

/// The one domain that a person means: by name, or by process and name where several hosts have one of a name.
pub(super) fn one(text: &str) -> Result<Found, Failure> {
    let (all, errors) = progress::during("Asking the device hosts", all)?;
    choose(text, &all, &errors, |found| {
        found.names().any(|name| name == text)
    })
}

fn choose(
    text: &str,
    all: &[Found],
    errors: &[String],
    wanted: impl Fn(&Found) -> bool,
) -> Result<Found, Failure> {
    let found: Vec<_> = all.iter().filter(|found| wanted(found)).collect();
    let labels = |found: &[&Found]| {
        let labels = found.iter().map(|found| printable(&found.label));
        let mut labels: Vec<_> = labels.collect();
        labels.sort();
        labels
    };
    match *found {
        [only] => Ok(only.clone()),
        [] => {
            let mut message = format!("there is no domain {text:?}");
            if all.is_empty() {
                message.push_str(&format!("\n{HOW_TO_GET_ONE}"));
            } else {
                let all = labels(&all.iter().collect::<Vec<_>>());
                message.push_str(&format!("; there are: {}", all.join(", ")));
            }
            for error in errors {
                message.push_str(&format!("\n{error}"));
            }
            Err(message.into())
        }
        _ => Err(format!(
            "several hosts have a domain {text:?}; say which one: {}",
            labels(&found).join(" or ")
        )
        .into()),
    }
}

/// A domain and a place in it, of `DOMAIN/PLACE`.
pub(super) fn place(text: &str) -> Result<(Found, &str), Failure> {
    let (all, errors) = progress::during("Asking the device hosts", all)?;
    let (domain, place) = all
        .iter()
        .find_map(|found| found.part(text))
        .or_else(|| text.split_once('/'))
        .filter(|(_, place)| !place.is_empty())
        .ok_or_else(|| {
            format!("{text:?} is no place in a domain: DOMAIN/PLACE is, as in `hdv tree`")
        })?;
    let found = choose(domain, &all, &errors, |found| {
        found.names().any(|name| name == domain)
    })?;
    Ok((found, place))
}

impl Found {
    fn with_process(&self, mark: char) -> String {
        format!("{}{mark}{}", self.pid, self.name)
    }

    /// What it can be called: with its process as PFs have it, or by a colon.
    fn names(&self) -> impl Iterator<Item = String> {
        [
            self.name.clone(),
            self.with_process('/'),
            self.with_process(':'),
        ]
        .into_iter()
    }

    /// Divides a text that begins with a name of this domain.
    fn part<'a>(&self, text: &'a str) -> Option<(&'a str, &'a str)> {
        self.names().find_map(|name| {
            let (domain, place) = text.split_at_checked(name.len())?;
            let place = place.strip_prefix('/')?;
            (domain == name).then_some((domain, place))
        })
    }

    /// What it and its endpoint are like now.
    pub(super) fn look(&self) -> Result<(DomainTree, Option<Device>), Failure> {
        let arguments = TreeArguments {
            domain: self.name.clone(),
        };
        let tree: DomainTree = self.call(TREE, &arguments, None)?;
        Ok((tree, self.endpoint()))
    }

    /// `None` if it has just gone.
    fn endpoint(&self) -> Option<Device> {
        let mut client = Client::connect(&self.control).ok()?;
        let answer = client.call("list", &Value::Null).ok()?;
        let statuses = serde_json::from_value(answer).ok()?;
        let mut host = Host {
            pid: self.pid,
            process: None,
            control: self.control.clone(),
            devices: crate::status::devices(statuses),
            error: None,
        };
        host.devices.retain(|device| device.id == self.device);
        if let Ok(systems) = ComputeSystem::enumerate() {
            ls::assign(&mut host, &systems);
        }
        host.devices.pop()
    }

    /// Calls a command of the host; without a patience one that waits for nothing.
    pub(super) fn call<R: DeserializeOwned>(
        &self,
        command: &str,
        arguments: &impl Serialize,
        patience: Option<Duration>,
    ) -> Result<R, Failure> {
        let refuse = |error: &dyn std::fmt::Display| format!("{}: {error}", printable(&self.name));
        let mut client = Client::connect(&self.control).map_err(|error| refuse(&error))?;
        let arguments = serde_json::to_value(arguments)?;
        let answer = match patience {
            Some(patience) => client.call_within(command, &arguments, patience),
            None => client.call(command, &arguments),
        };
        Ok(serde_json::from_value(
            answer.map_err(|error| refuse(&error))?,
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pid: u32, name: &str) -> Found {
        Found {
            pid,
            control: PathBuf::new(),
            name: name.to_owned(),
            label: name.to_owned(),
            device: 0,
        }
    }

    #[test]
    fn places_are_divided_however_the_process_is_said() {
        let lab = found(12, "lab");
        for (text, parts) in [
            ("lab/nic:0", Some(("lab", "nic:0"))),
            ("12/lab/nic:0", Some(("12/lab", "nic:0"))),
            ("12:lab/01.0/00.0", Some(("12:lab", "01.0/00.0"))),
            ("lab/", Some(("lab", ""))),
            ("lab", None),
            ("13/lab/x", None),
            ("labs/x", None),
            ("\u{fc}\u{fc}/x", None),
        ] {
            assert_eq!(lab.part(text), parts, "{text}");
        }
    }

    #[test]
    fn domains_of_one_name_are_told_apart_by_their_hosts() {
        let mut all = [found(1, "lab"), found(2, "lab"), found(2, "rack")];
        tell_apart(&mut all);
        let labels = all.each_ref().map(|found| found.label.as_str());
        assert_eq!(labels, ["1/lab", "2/lab", "rack"]);
        let choose = |text: &str| {
            let wanted = |found: &Found| found.names().any(|name| name == text);
            choose(text, &all, &[], wanted).map(|found| found.label)
        };
        assert_eq!(choose("2:lab").unwrap(), "2/lab");
        assert_eq!(choose("1/lab").unwrap(), "1/lab");
        assert_eq!(choose("rack").unwrap(), "rack");
        let error = choose("lab").unwrap_err().to_string();
        assert!(error.ends_with("say which one: 1/lab or 2/lab"), "{error}");
        let error = choose("3/lab").unwrap_err().to_string();
        assert!(error.ends_with("there are: 1/lab, 2/lab, rack"), "{error}");
    }
}
