//! The domains of running device hosts, asked over their control sockets, and which one a person means.

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
                name: domain.name,
                device: domain.device,
            })),
            // It has ended meanwhile.
            Err(_) if !entry.path.exists() => {}
            Err(error) => errors.push(format!("{}: {error}", process::describe(entry.pid))),
        }
    }
    Ok((all, errors))
}

/// The one domain that a person means: by name, or by process and name where several hosts have one of a name.
pub(super) fn one(text: &str) -> Result<Found, Failure> {
    let (mut all, errors) = progress::during("Asking the device hosts", all)?;
    let wanted =
        |found: &Found| found.name == text || format!("{}:{}", found.pid, found.name) == text;
    let found: Vec<_> = all.iter().filter(|found| wanted(found)).collect();
    match *found {
        [only] => Ok(only.clone()),
        [] => {
            let mut message = format!("there is no domain {text:?}");
            if all.is_empty() {
                message.push_str(&format!("\n{HOW_TO_GET_ONE}"));
            } else {
                all.sort_by(|a, b| a.name.cmp(&b.name));
                let names: Vec<_> = all.iter().map(|found| printable(&found.name)).collect();
                message.push_str(&format!("; there are: {}", names.join(", ")));
            }
            for error in errors {
                message.push_str(&format!("\n{error}"));
            }
            Err(message.into())
        }
        _ => {
            let names = found
                .iter()
                .map(|found| format!("{}:{}", found.pid, printable(&found.name)));
            let names: Vec<_> = names.collect();
            Err(format!(
                "several hosts have a domain {text:?}; say which one: {}",
                names.join(" or ")
            )
            .into())
        }
    }
}

/// A domain and a place in it, of `DOMAIN/PLACE`.
pub(super) fn place(text: &str) -> Result<(Found, &str), Failure> {
    let parts = text.split_once('/');
    let (domain, place) = parts
        .filter(|(_, place)| !place.is_empty())
        .ok_or_else(|| {
            format!("{text:?} is no place in a domain: DOMAIN/PLACE is, as in `hdv tree`")
        })?;
    Ok((one(domain)?, place))
}

impl Found {
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
