//! The commands by which other programs of the user reach the domains of a running host, over its control socket.

// What the commands take and give is in `wire`, how what they ask for is done in `work`.
mod waits;
mod wire;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdv_control::{ControlError, ErrorKind, Registry, command};
use hdv_pci::topology::PortId;
use serde::de::IgnoredAny;

use super::error::DomainError;
use super::handle::Domain;
use super::names;
use super::position::Position;
use crate::error::DeviceId;
use crate::host::DeviceHost;
pub use wire::*;

/// A device that somebody asks a host for by name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceRequest {
    /// The kind of device: whoever published the domain knows which there are. Not checked.
    pub device: String,
    /// Its settings. Not checked.
    pub settings: BTreeMap<String, String>,
    /// What it is to be called in the domain.
    pub name: String,
}

type Factory = dyn Fn(&Domain, Position, &DeviceRequest) -> Result<(), Box<dyn Error + Send + Sync>>
    + Send
    + Sync;

/// A domain that others may reach.
struct Published {
    name: String,
    device: DeviceId,
    domain: Domain,
    factory: Box<Factory>,
    /// Ports at whose slots somebody is at work.
    busy: Mutex<BTreeSet<PortId>>,
}

/// The domains of a host.
#[derive(Default)]
struct Table(Mutex<Vec<Arc<Published>>>);

impl Table {
    /// The domains whose endpoint is not gone.
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Published>>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| !one.domain.hierarchy.lock().closed);
        all
    }

    fn find(&self, name: &str) -> Result<Arc<Published>, ControlError> {
        let all = self.lock();
        let found = all.iter().find(|one| one.name == name);
        found
            .map(Arc::clone)
            .ok_or_else(|| ControlError::not_found(format!("this host has no domain {name:?}")))
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published")
            .field("name", &self.name)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl Domain {
    /// Lets other programs of the user reach the domain at the host's control socket, by a name that no other domain of the host
    /// has, until its endpoint, which the host serves as `endpoint`, is gone: they see its tree, have things go wrong, and plug
    /// devices in and out. Names are as those of what is inside ([`set_port_name`](Self::set_port_name)).
    ///
    /// `factory` makes a device that is asked for by name and [attaches](Self::attach) it; its errors are for people. It may take
    /// its time, and may be called by several threads at once. A host without a control socket has nobody who would reach it.
    ///
    /// # Errors
    /// The name cannot be had.
    pub fn publish<F>(
        &self,
        host: &DeviceHost,
        endpoint: DeviceId,
        name: &str,
        factory: F,
    ) -> Result<(), DomainError>
    where
        F: Fn(&Self, Position, &DeviceRequest) -> Result<(), Box<dyn Error + Send + Sync>>
            + Send
            + Sync
            + 'static,
    {
        if !names::is_name(name) {
            let name = name.to_owned();
            return Err(DomainError::Name { name });
        }
        let table = host.extension(|| {
            let table = Arc::new(Table::default());
            if let Some(registry) = host.control_commands() {
                register_commands(registry, &table);
            }
            table
        });
        let mut all = table.lock();
        if all.iter().any(|one| one.name == name) {
            let name = name.to_owned();
            return Err(DomainError::Published { name });
        }
        all.push(Arc::new(Published {
            name: name.to_owned(),
            device: endpoint,
            domain: self.clone(),
            factory: Box::new(factory),
            busy: Mutex::default(),
        }));
        Ok(())
    }
}

fn register_commands(registry: &Registry, table: &Arc<Table>) {
    let list = command(table, |table, _: IgnoredAny| {
        let summary = |one: &Arc<Published>| DomainSummary {
            name: one.name.clone(),
            device: one.device.get(),
        };
        Ok(table.lock().iter().map(summary).collect::<Vec<_>>())
    });
    let tree = command(table, |table, arguments: TreeArguments| {
        let found = table.find(&arguments.domain)?;
        Ok(DomainTree {
            name: found.name.clone(),
            device: found.device.get(),
            nodes: found.domain.tree(),
        })
    });
    let attach = command(table, |table, arguments: AttachArguments| {
        table.find(&arguments.domain)?.attach(arguments)
    });
    let detach = command(table, |table, arguments: DetachArguments| {
        table.find(&arguments.domain)?.detach(&arguments)
    });
    let inject = command(table, |table, arguments: InjectArguments| {
        table.find(&arguments.domain)?.inject(&arguments)
    });
    // The last three call into devices or wait for software, which may be busy for ever.
    let registered = [
        registry.register(LIST, list),
        registry.register(TREE, tree),
        registry.register_slow(ATTACH, attach),
        registry.register_slow(DETACH, detach),
        registry.register_slow(INJECT, inject),
    ];
    for error in registered.into_iter().filter_map(Result::err) {
        tracing::error!("a command of the domains of this host is missing: {error}");
    }
}

fn refused(error: &DomainError) -> ControlError {
    use DomainError as E;
    let kind = match error {
        E::NoSuchPlace { .. } | E::Closed => ErrorKind::NotFound,
        E::Name { .. }
        | E::NameTaken { .. }
        | E::Topology(_)
        | E::Injection { .. }
        | E::Slot { .. } => ErrorKind::BadArguments,
        E::InsideCall => ErrorKind::Busy,
        _ => ErrorKind::Internal,
    };
    ControlError::new(kind, error.to_string())
}
