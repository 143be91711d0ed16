//! What can be wrong with the description of a domain, and why one could not be made of it.

use hdv::domain::DomainError;
use hdv_sriov::PfError;

use super::file::BUSES_MAX;
use super::file::Size;
use crate::catalog::{CreateError, NoSuchKind};

/// The description of a domain is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// It is no TOML, or has keys or values that a description of a domain does not have. The text says the line.
    #[error("{0}")]
    Toml(#[from] Box<toml::de::Error>),
    /// What it says of a port or of what is below that cannot be.
    #[error("line {line}, {place}: {problem}")]
    Port {
        /// The line at which the table of the root port begins, from 1.
        line: usize,
        /// The port: its name, or its number.
        place: String,
        /// What is wrong.
        problem: Problem,
    },
    /// What it says of the whole domain cannot be.
    #[error("{0}")]
    Whole(Problem),
}

/// What cannot be in a domain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// There is no port.
    #[error("there is no port: begin one with [[port]], and give it a device")]
    Empty,
    /// A name that a port or function cannot have.
    #[error(
        "{0:?} cannot be a name: one has 1 to 64 characters, no '/' and no control characters, and does not look like the \
         number of a device, such as 01.0"
    )]
    Name(String),
    /// A name that is another's already.
    #[error("the name {0:?} is taken; give each port and each function one of its own")]
    NameTaken(String),
    /// No port, or no level.
    #[error("{key} = {value} is not possible: 1 to {most} is")]
    Count {
        /// `count` or `depth`.
        key: &'static str,
        /// What it says.
        value: u32,
        /// The most.
        most: u32,
    },
    /// More ports than bus numbers.
    #[error("there are more than {0} ports, counting all: each takes one of 256 bus numbers")]
    Ports(usize),
    /// More functions than a domain takes.
    #[error("there are more than {0} functions, counting all; use virtual functions")]
    Functions(usize),
    /// More ports than the internal bus of a switch holds.
    #[error("a switch has 1 to 32 downstream ports, and this one has {0}; nest switches")]
    SwitchPorts(usize),
    /// Two things below one port.
    #[error("{0} and {1} cannot both be below a port: give a switch ports for them")]
    Both(&'static str, &'static str),
    /// Settings of no device.
    #[error("set needs a device beside it")]
    NoDevice,
    /// A button on no slot.
    #[error("button needs slot = true, or a slot's number, beside it")]
    NoSlot,
    /// A slot's number that is another's already.
    #[error("slot {0} is another port's already; leave the number to us with slot = true")]
    SlotTaken(u16),
    /// The number of several slots.
    #[error("slot = {0} is one slot, and there are {1}; say slot = true, and each gets a number")]
    SlotOfSeveral(u16, u32),
    /// There is no such kind of device.
    #[error(transparent)]
    NoKind(#[from] NoSuchKind),
    /// A device and functions of one.
    #[error(
        "device is function 0 already: put it into a [[port.function]] of its own, or leave the others out"
    )]
    DeviceAndFunctions,
    /// A setting that is neither text nor number nor boolean.
    #[error("setting {key:?} is of type {kind}; a string, a number or a boolean is needed")]
    SettingType {
        /// The setting.
        key: String,
        /// The type.
        kind: &'static str,
    },
    /// A setting that means nothing inside a domain.
    #[error("setting {0:?} has no meaning in a domain, where the guest says this; leave it out")]
    SettingInside(&'static str),
    /// The device cannot be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The device cannot be made.
    #[error("{device}: {reason}")]
    Device {
        /// The kind of device.
        device: &'static str,
        /// What it says.
        reason: String,
    },
    /// Functions without the first.
    #[error(
        "function 0 is missing, and without it software finds none of the others: the first here is {0}"
    )]
    NoFunctionZero(u8),
    /// A function number.
    #[error(
        "function {0} is not possible: functions are 0 to 7, each once, and there is a function 0"
    )]
    FunctionNumber(u8),
    /// A PF beside other functions.
    #[error(
        "{0} is a physical function, which is alone below its port: its virtual functions follow it there"
    )]
    PfBesideOthers(&'static str),
    /// A size of the domain that there cannot be.
    #[error(
        "{key} = {} is not possible: a power of two from {} to {} is, such as {}",
        written(key, *value), written(key, *low), written(key, *high), written(key, *suggested)
    )]
    Size {
        /// The key.
        key: &'static str,
        /// What it says, of windows in bytes.
        value: u64,
        /// The smallest.
        low: u64,
        /// The largest.
        high: u64,
        /// The next that what is described fits into.
        suggested: u64,
    },
    /// A number of vectors that there cannot be.
    #[error("vectors = {0} is not possible: 2 to 256 are")]
    Vectors(u16),
    /// Fewer buses than are needed.
    #[error("{needed} buses are needed, and there are {given}; {}", more_buses(*needed))]
    Buses {
        /// How many, the root bus included.
        needed: u32,
        /// How many there are, or can be.
        given: u32,
    },
    /// Less memory than BARs need.
    #[error(
        "the BARs need {} of the {window} window, and there are {}; {}",
        Size(*needed), Size(*given), more_memory(window, *enough)
    )]
    Memory {
        /// `memory` or `prefetchable`.
        window: &'static str,
        /// How many bytes.
        needed: u64,
        /// How many there are, or can be.
        given: u64,
        /// What would suffice, if there can be so much.
        enough: Option<u64>,
    },
    /// The domain refuses it.
    #[error(transparent)]
    Domain(#[from] DomainError),
}

/// A size as the file has it.
fn written(key: &str, value: u64) -> String {
    match key {
        "buses" => value.to_string(),
        _ => format!("\"{}\"", Size(value)),
    }
}

fn more_memory(window: &str, enough: Option<u64>) -> String {
    match enough {
        Some(enough) => format!("say {window} = {}", written(window, enough)),
        None => "there can be no more: have fewer devices or VFs".to_owned(),
    }
}

fn more_buses(needed: u32) -> String {
    if needed > BUSES_MAX {
        return "there can be no more: have fewer ports, or VFs with ARI".to_owned();
    }
    format!(
        "say buses = {}, or leave that out",
        needed.next_power_of_two()
    )
}

/// A function could not be put into a domain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The device cannot be made.
    #[error(transparent)]
    Device(#[from] Problem),
    /// The domain, or the device when it was powered on.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// The device as a PF.
    #[error(transparent)]
    Pf(#[from] PfError),
}
