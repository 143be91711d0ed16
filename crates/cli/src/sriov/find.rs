//! Which PF a person means: all that there are, what each can be named by, and the one that has a name.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hdv::DeviceStatus;
use hdv_sriov::{AddressError, PciAddress, SysfsPf, VirtualizationError};

use super::Pf;
use super::emulated::EmulatedPf;
use super::linux::{self, LinuxPf};
use super::refusal::Refusal;
use crate::Failure;
use crate::process;
use crate::progress;
use crate::style::printable;

/// Said where there is no PF.
pub(super) const HOW_TO_GET_ONE: &str = "\
`hdv serve --device sriov-sensor --socket /tmp/nic.sock` starts an emulated one; `hdv serve --help` says more.";

/// A PF with a name that no other one has.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// What can be typed.
    pub(super) name: String,
    pub(super) pf: Pf,
}

/// All that this user can reach.
#[derive(Debug, Default)]
pub(super) struct Everything {
    pub(super) pfs: Vec<Named>,
    /// What could not be looked at, and why.
    pub(super) errors: Vec<String>,
    /// The devices of each host, by id.
    hosts: Vec<Arc<BTreeMap<u64, DeviceStatus>>>,
}

impl Everything {
    pub(super) fn find(sysfs: &Path) -> Result<Self, Failure> {
        // A host that is stopped is waited for.
        progress::during("Asking the device hosts", || Self::ask(sysfs))
    }

    fn ask(sysfs: &Path) -> Result<Self, Failure> {
        let mut everything = Self::default();
        let mut pfs = Vec::new();
        for entry in hdv_control::hosts()? {
            match EmulatedPf::of(&entry) {
                Ok(host) => {
                    pfs.extend(host.pfs.into_iter().map(Pf::Emulated));
                    everything.hosts.push(host.devices);
                }
                // It has ended meanwhile.
                Err(_) if !entry.path.exists() => {}
                Err(error) => {
                    let process = process::describe(entry.pid);
                    everything.errors.push(format!("{process}: {error}"));
                }
            }
        }
        match of_this_machine(sysfs) {
            Ok((found, errors)) => {
                pfs.extend(found);
                everything.errors.extend(errors);
            }
            Err(error) => everything
                .errors
                .push(format!("PFs of this machine: {error}")),
        }
        everything.pfs = named(pfs);
        Ok(everything)
    }
}

pub(super) fn of_this_machine(sysfs: &Path) -> Result<(Vec<Pf>, Vec<String>), VirtualizationError> {
    let (mut pfs, mut errors) = (Vec::new(), Vec::new());
    for address in SysfsPf::list_in(sysfs)? {
        match LinuxPf::open(sysfs, address) {
            Ok(pf) => pfs.push(Pf::Linux(pf)),
            Err(VirtualizationError::Gone) => {}
            Err(error) => errors.push(format!("{address} of this machine: {error}")),
        }
    }
    Ok((pfs, errors))
}

/// The one PF that a person names.
pub(super) fn one(sysfs: &Path, text: &str) -> Result<Named, Failure> {
    let everything = Everything::find(sysfs)?;
    let wanted = Wanted::parse(text)?;
    let found = everything.pfs.iter();
    let found = found.filter(|named| wanted.is(&named.pf) || is_called(&named.pf, text));
    let found: Vec<_> = found.collect();
    match *found {
        [] => Err(everything.missing(sysfs, text, &wanted).into()),
        [only] => Ok(only.clone()),
        _ => Err(ambiguous(text, &found).into()),
    }
}

/// What a name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Address(Place),
    InProcess(u32, Place),
    /// A socket, or a directory of sysfs; also what is no address and may be a label.
    Path(PathBuf),
}

/// An address that says the segment or, as for `lspci`, does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    address: PciAddress,
    any_segment: bool,
}

impl Place {
    fn parse(text: &str) -> Result<Self, AddressError> {
        Ok(Self {
            address: text.parse()?,
            any_segment: text.matches(':').count() == 1,
        })
    }

    fn is(self, address: PciAddress) -> bool {
        let same_place = self.address.routing_id == address.routing_id;
        same_place && (self.any_segment || self.address.segment == address.segment)
    }
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, Refusal> {
        if let Some((pid, address)) = text.split_once('/')
            && let (Ok(pid), Ok(place)) = (pid.parse(), Place::parse(address))
        {
            return Ok(Self::InProcess(pid, place));
        }
        match Place::parse(text) {
            Ok(place) => Ok(Self::Address(place)),
            // With a slash it was to be a path, or a place inside a domain.
            Err(error) if text.contains(':') && !text.contains('/') => {
                Err(Refusal::new(error.to_string())
                    .remedy("`hdv sriov list` lists the PFs there are."))
            }
            Err(_) => Ok(Self::Path(text.into())),
        }
    }

    /// Addresses inside a guest are not those of this machine or its hosts.
    pub(super) fn is(&self, pf: &Pf) -> bool {
        let is_at = |place: &Place| pf.label().is_none() && place.is(pf.address());
        match self {
            Self::Address(place) => is_at(place),
            Self::InProcess(pid, place) => match pf {
                Pf::Emulated(emulated) => emulated.pid == *pid && is_at(place),
                Pf::Linux(_) => false,
            },
            Self::Path(path) => path_of(pf).is_some_and(|of_pf| same(&of_pf, path)),
        }
    }
}

/// Whether a text is the label of a PF inside a domain, with its process before it or not: as `hdv sriov` tells PFs apart, or
/// as the other commands tell domains apart.
fn is_called(pf: &Pf, text: &str) -> bool {
    let (Pf::Emulated(emulated), Some(label)) = (pf, pf.label()) else {
        return false;
    };
    let pid = emulated.pid.to_string();
    let with_pid = text.strip_prefix(&*pid);
    let with_pid = with_pid.and_then(|rest| rest.strip_prefix(['/', ':']));
    text == label || with_pid == Some(label)
}

fn same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The path by which a PF can be named.
fn path_of(pf: &Pf) -> Option<PathBuf> {
    match pf {
        Pf::Emulated(pf) => pf.device().map(|device| device.socket.clone()),
        Pf::Linux(pf) => Some(pf.path()),
    }
}

/// Gives each the shortest name that no other one has: the address or, inside a domain, the label; the process and that; or
/// the path.
pub(super) fn named(pfs: Vec<Pf>) -> Vec<Named> {
    let candidates: Vec<Vec<String>> = pfs.iter().map(names).collect();
    let free = |name: &str| {
        let same = candidates.iter().flatten().filter(|other| *other == name);
        same.count() == 1
    };
    let chosen: Vec<String> = candidates
        .iter()
        .map(|names| {
            let name = names.iter().find(|name| free(name)).or(names.last());
            name.cloned().unwrap_or_default()
        })
        .collect();
    let pairs = pfs.into_iter().zip(chosen);
    pairs.map(|(pf, name)| Named { name, pf }).collect()
}

/// What a PF can be named by, the shortest first.
fn names(pf: &Pf) -> Vec<String> {
    let shortest = match pf.label() {
        Some(label) => label.to_owned(),
        None => pf.address().to_string(),
    };
    let mut names = vec![shortest.clone()];
    if let Pf::Emulated(pf) = pf {
        names.push(format!("{}/{shortest}", pf.pid));
    }
    names.extend(path_of(pf).map(|path| path.display().to_string()));
    names
}

fn ambiguous(text: &str, found: &[&Named]) -> Refusal {
    Refusal::new(format!("{text} names {} PFs", found.len()))
        .remedy(lines("Name one of them:", found))
}

fn lines<'a>(heading: &str, pfs: impl IntoIterator<Item = &'a &'a Named>) -> String {
    let mut text = heading.to_owned();
    for named in pfs {
        let _ = write!(text, "\n  {}", printable(&named.name));
        let _ = match &named.pf {
            Pf::Emulated(pf) => {
                let process = process::describe(pf.pid);
                match pf.device() {
                    _ if pf.status.label.is_some() => write!(text, "  in a domain of {process}"),
                    Some(device) => write!(text, "  {} of {process}", printable(&device.name)),
                    None => write!(text, "  device of {process}"),
                }
            }
            Pf::Linux(pf) => match &pf.status.driver {
                Some(driver) => write!(text, "  of this machine, driver {}", printable(driver)),
                None => write!(text, "  of this machine"),
            },
        };
    }
    text
}

impl Everything {
    /// Why there is no PF of that name.
    fn missing(&self, sysfs: &Path, text: &str, wanted: &Wanted) -> Refusal {
        for Named { name, pf } in &self.pfs {
            if let Some(vf) = vf_of(pf, wanted) {
                return Refusal::new(format!("{text} is no PF, but VF {vf} of PF {name}"))
                    .remedy(format!("`hdv sriov show {name}` shows both."));
            }
        }
        let what = self
            .something_else(sysfs, text, wanted)
            .unwrap_or_else(|| format!("there is no PF {text}"));
        let mut remedy = if self.pfs.is_empty() {
            format!("This user has no PF running, and this machine has none. {HOW_TO_GET_ONE}")
        } else {
            lines("There are:", &self.pfs.iter().collect::<Vec<_>>())
        };
        for error in &self.errors {
            let _ = write!(remedy, "\nNot looked at: {}", printable(error));
        }
        Refusal::new(what).remedy(remedy)
    }

    /// What the name does name, if that has no SR-IOV.
    fn something_else(&self, sysfs: &Path, text: &str, wanted: &Wanted) -> Option<String> {
        match wanted {
            Wanted::Address(place) => linux::devices(sysfs)
                .join(place.address.to_string())
                .exists()
                .then(|| format!("{text} of this machine is no PF: it has no SR-IOV capability")),
            Wanted::InProcess(..) => None,
            Wanted::Path(path) if !path.exists() => Some(format!(
                "there is no PF {text}: it is no address, such as 0000:01:00.0, nothing in a domain, such as lab/nic:0, and there is \
                 no socket of that name"
            )),
            Wanted::Path(path) => {
                let mut devices = self.hosts.iter().flat_map(|devices| devices.values());
                Some(match devices.find(|device| same(&device.socket, path)) {
                    Some(device) => format!(
                        "{} at {text} is no PF: it has no SR-IOV capability",
                        printable(&device.name)
                    ),
                    None => of_nobody(path, text),
                })
            }
        }
    }
}

/// Why what is at a path is of no host that was found.
fn of_nobody(path: &Path, text: &str) -> String {
    let Some(file) = fs::metadata(path)
        .ok()
        .filter(|file| file.file_type().is_socket())
    else {
        return format!(
            "{text} is no PF: it is neither an address, such as 0000:01:00.0, nor a socket"
        );
    };
    if file.uid() != rustix::process::geteuid().as_raw() {
        return format!(
            "{text} is of user {}: only that user can reach its PF; ask as that user",
            file.uid()
        );
    }
    format!(
        "no running device host has {text}: either it has ended, or it is no host of OpenHDV, or it was started \
         with another XDG_RUNTIME_DIR, which is where hosts are looked for"
    )
}

/// Which of the PF's VFs a name names.
fn vf_of(pf: &Pf, wanted: &Wanted) -> Option<u16> {
    if pf.label().is_some() && !matches!(wanted, Wanted::Path(_)) {
        return None;
    }
    let is = |address: &str, path: Option<&Path>| match wanted {
        Wanted::Address(place) | Wanted::InProcess(_, place) => {
            address.parse().is_ok_and(|address| place.is(address))
        }
        Wanted::Path(wanted) => path.is_some_and(|path| same(path, wanted)),
    };
    match pf {
        Pf::Emulated(pf) => {
            if matches!(wanted, Wanted::InProcess(pid, _) if *pid != pf.pid) {
                return None;
            }
            let mut vfs = pf.status.vfs.iter();
            let socket = |vf| pf.vf_device(vf).map(|device| &*device.socket);
            vfs.find(|vf| is(&vf.address, socket(vf))).map(|vf| vf.vf)
        }
        Pf::Linux(_) if matches!(wanted, Wanted::InProcess(..)) => None,
        Pf::Linux(pf) => {
            let mut vfs = pf.status.vfs.iter();
            vfs.find(|vf| is(&vf.address, None)).map(|vf| vf.vf)
        }
    }
}
