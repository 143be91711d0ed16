//! The commands by which other programs of the user reach the domains of a running host, over its control socket: their names,
//! what they take and what they give.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::TreeNode;

/// Lists the domains of a host: no arguments, gives `Vec<`[`DomainSummary`]`>`.
pub const LIST: &str = "domain-list";
/// All that is in a domain: takes [`TreeArguments`], gives [`DomainTree`].
pub const TREE: &str = "domain-tree";
/// Puts a device into a slot: takes [`AttachArguments`], gives [`Attached`].
pub const ATTACH: &str = "domain-attach";
/// Takes a slot's device out: takes [`DetachArguments`], gives [`Detached`].
pub const DETACH: &str = "domain-detach";
/// Has something go wrong: takes [`InjectArguments`], gives [`Injected`].
pub const INJECT: &str = "domain-inject";

/// The longest that a command can be told to wait for software, in milliseconds: a day.
pub const WAIT_MAX: u64 = 86_400_000;
/// How often an error can be injected at once.
pub const ERRORS_MAX: u32 = 10_000;
/// Most settings of a device.
pub const SETTINGS_MAX: usize = 256;

/// A domain of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DomainSummary {
    /// What it is called in its host.
    pub name: String,
    /// The [`id`](crate::DeviceStatus::id) of its endpoint in the host's list.
    pub device: u64,
}

/// What [`TREE`] takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeArguments {
    /// Which domain, by name.
    pub domain: String,
}

/// What [`TREE`] gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DomainTree {
    /// What it is called in its host.
    pub name: String,
    /// The [`id`](crate::DeviceStatus::id) of its endpoint in the host's list.
    pub device: u64,
    /// See [`Domain::tree`](crate::domain::Domain::tree).
    pub nodes: Vec<TreeNode>,
}

/// What [`ATTACH`] takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachArguments {
    /// Which domain, by name.
    pub domain: String,
    /// The port whose slot it goes into, as [`Domain::find`](crate::domain::Domain::find) takes it.
    pub place: String,
    /// The kind of device, as the host knows it.
    pub device: String,
    /// Its settings, at most [`SETTINGS_MAX`].
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// What it is called in the domain; else the port's name with `:0`.
    #[serde(default)]
    pub name: Option<String>,
    /// How long software may take to turn the slot on, in milliseconds, at most [`WAIT_MAX`].
    pub wait: u64,
}

/// What [`ATTACH`] gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attached {
    /// What the device is called in the domain.
    pub name: String,
    /// The port's name, or else the way to it.
    pub port: String,
    /// Processors have run, so software was told and has turned the slot on; else it finds the device when they do.
    pub told: bool,
}

/// What [`DETACH`] takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetachArguments {
    /// Which domain, by name.
    pub domain: String,
    /// The port, or what is in its slot, as [`Domain::find`](crate::domain::Domain::find) takes it.
    pub place: String,
    /// Without a word before.
    pub surprise: bool,
    /// How long software may take to let go of it, in milliseconds, at most [`WAIT_MAX`].
    pub wait: u64,
}

/// What [`DETACH`] gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Detached {
    /// The port's name, or else the way to it.
    pub port: String,
    /// The place was a function: this is the port above it.
    pub is_above: bool,
    /// Software was asked and has let go of it; else nobody was asked.
    pub asked: bool,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Fault {
    /// Correctable errors, as bits of the standard's status register (7.8.4.5).
    Correctable(u32),
    /// Uncorrectable errors, as bits of the standard's status register (7.8.4.2).
    Uncorrectable(u32),
    /// The link below a port goes down.
    LinkDown,
    /// It comes up again.
    LinkUp,
    /// What is below a port is pulled out.
    SurpriseRemoval,
    /// Config reads give all ones.
    FailConfigReads,
}

/// What [`INJECT`] takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InjectArguments {
    /// Which domain, by name.
    pub domain: String,
    /// The port or function, as [`Domain::find`](crate::domain::Domain::find) takes it.
    pub place: String,
    /// What goes wrong there.
    pub fault: Fault,
    /// How many errors, 1 to [`ERRORS_MAX`], or how many config reads, 0 to end that.
    pub count: u32,
}

/// What [`INJECT`] gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Injected {
    /// The name of the port or function it happened to, or else the way to it.
    pub place: String,
    /// The place was a function: this is the port above it.
    pub is_above: bool,
    /// Whether software is told: of errors, that the message of one reached the root port, which masks, Device Control or a port
    /// above may keep; true for all other faults.
    pub reported: bool,
}
