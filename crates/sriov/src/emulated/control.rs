//! The PFs of a host, as the commands on its control socket see them. What the commands take and give is in
//! [`control`](crate::control).

use std::sync::{Arc, Mutex, PoisonError, Weak};

use hdv::pci::RoutingId;
use hdv::pci::spec::CONFIG_SPACE_SIZE;
use hdv::{DeviceHost, DeviceInstance};
use hdv_control::{ControlError, ErrorKind, Registry, command};
use serde::de::IgnoredAny;

use super::EmulatedPf;
use super::shared::Shared;
use crate::address::PciAddress;
use crate::control::{
    ConfigBytes, DISABLE, ENABLE, EnableArguments, LIST, PF_CONFIG, PfArguments, PfStatus,
    VF_CONFIG, VfArguments, VfStatus,
};
use crate::error::VirtualizationError;
use crate::interface::{EnableVirtualization, PciVirtualization};

/// A PF, for as long as its device lives.
#[derive(Debug)]
struct Entry {
    instance: DeviceInstance,
    shared: Weak<Shared>,
    label: Option<String>,
}

/// A PF that lives, and what it is called.
struct Labelled {
    pf: EmulatedPf,
    label: Option<String>,
}

/// The PFs of a host.
#[derive(Debug, Default)]
struct Table(Mutex<Vec<Entry>>);

impl Table {
    /// The PFs that are not gone.
    fn all(&self) -> Vec<Labelled> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        entries.retain(|entry| {
            let shared = entry.shared.upgrade().filter(|shared| !shared.is_gone());
            let lives = shared.is_some();
            all.extend(shared.map(|shared| Labelled {
                pf: EmulatedPf {
                    instance: entry.instance.clone(),
                    shared,
                },
                label: entry.label.clone(),
            }));
            lives
        });
        all
    }

    /// Adds a PF, in place of itself if it is there already.
    fn add(&self, instance: &DeviceInstance, shared: &Arc<Shared>, label: Option<String>) {
        let shared = Arc::downgrade(shared);
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.shared.strong_count() > 0 && !entry.shared.ptr_eq(&shared));
        entries.push(Entry {
            instance: instance.clone(),
            shared,
            label,
        });
    }

    fn find(&self, device: u64) -> Result<Labelled, ControlError> {
        let found = self
            .all()
            .into_iter()
            .find(|found| found.pf.instance.id().get() == device);
        found.ok_or_else(|| {
            ControlError::not_found(format!("device {device} of this host is no PF"))
        })
    }
}

/// Lets other programs of the user reach PFs at a host's control socket. It does not hold the host, so that what the host
/// holds, such as what makes the devices of a domain, may have one. Clones are of the same host.
#[derive(Clone, Debug)]
pub struct PfPublisher(Arc<Table>);

impl PfPublisher {
    /// That of a host. One without a control socket has nobody who would reach its PFs.
    #[must_use]
    pub fn of(host: &DeviceHost) -> Self {
        let of_host = host.extension(|| {
            let table = Arc::new(Table::default());
            // The commands come with the first PF.
            if let Some(registry) = host.control_commands() {
                register_commands(registry, &table);
            }
            Self(table)
        });
        Self::clone(&of_host)
    }

    /// Lets others reach a PF until it is gone, as [`EmulatedPf::publish`] does.
    pub fn publish(&self, pf: &EmulatedPf, label: &str) {
        self.0.add(&pf.instance, &pf.shared, Some(label.to_owned()));
    }
}

/// Adds a PF to those that a host serves.
pub(super) fn register(host: &DeviceHost, instance: &DeviceInstance, shared: &Arc<Shared>) {
    PfPublisher::of(host).0.add(instance, shared, None);
}

fn register_commands(registry: &Registry, table: &Arc<Table>) {
    let list = command(table, |table, _: IgnoredAny| {
        Ok(table.all().iter().map(status).collect::<Vec<_>>())
    });
    let enable = command(table, |table, arguments: EnableArguments| {
        let found = table.find(arguments.device)?;
        let request = EnableVirtualization::enable(arguments.num_vfs);
        let enabled = found.pf.enable_virtualization(request);
        enabled.map_err(|error| refused(&error))?;
        Ok(status(&found))
    });
    let disable = command(table, |table, arguments: PfArguments| {
        let found = table.find(arguments.device)?;
        let request = EnableVirtualization::disable();
        let disabled = found.pf.enable_virtualization(request);
        disabled.map_err(|error| refused(&error))?;
        Ok(status(&found))
    });
    let pf_config = command(table, |table, arguments: PfArguments| {
        let Labelled { pf, .. } = table.find(arguments.device)?;
        let mut bytes = vec![0; usize::from(CONFIG_SPACE_SIZE)];
        pf.config_read(0, &mut bytes)
            .map_err(|error| refused(&error))?;
        Ok(ConfigBytes { bytes })
    });
    let vf_config = command(table, |table, arguments: VfArguments| {
        let Labelled { pf, .. } = table.find(arguments.device)?;
        let mut bytes = vec![0; usize::from(CONFIG_SPACE_SIZE)];
        let length = pf
            .virtual_function_data(arguments.vf, 0, &mut bytes)
            .map_err(|error| refused(&error))?;
        bytes.truncate(length);
        Ok(ConfigBytes { bytes })
    });
    // All but the first call into devices, which may be busy for ever.
    let registered = [
        registry.register(LIST, list),
        registry.register_slow(ENABLE, enable),
        registry.register_slow(DISABLE, disable),
        registry.register_slow(PF_CONFIG, pf_config),
        registry.register_slow(VF_CONFIG, vf_config),
    ];
    for error in registered.into_iter().filter_map(Result::err) {
        tracing::error!("a command of the PFs of this host is missing: {error}");
    }
}

fn refused(error: &VirtualizationError) -> ControlError {
    use VirtualizationError as E;
    let kind = match error {
        E::Gone | E::NotCapable | E::NoSuchVf { .. } | E::NotEnabled { .. } => ErrorKind::NotFound,
        E::Range { .. }
        | E::NumVfs { .. }
        | E::NumVfsNotZero { .. }
        | E::MigrationInterrupt
        | E::Migration => ErrorKind::BadArguments,
        E::AlreadyEnabled { .. } | E::AlreadyDisabled | E::NotPoweredOn | E::InsideCall => {
            ErrorKind::Busy
        }
        E::Device(_) | E::VirtualFunction { .. } | E::AccessDenied { .. } | E::Refused { .. } => {
            ErrorKind::Internal
        }
    };
    ControlError::new(kind, error.to_string())
}

fn status(Labelled { pf, label }: &Labelled) -> PfStatus {
    let (placement, registers, instances) = pf.shared.look();
    let segment = placement.segment();
    let at = |routing_id: RoutingId| match label {
        // Its segment is the guest's business.
        Some(_) => routing_id.to_string(),
        None => PciAddress {
            segment,
            routing_id,
        }
        .to_string(),
    };
    let vfs = (0..)
        .zip(&instances)
        .map(|(vf, instance)| VfStatus {
            vf,
            device: instance.id().get(),
            address: registers
                .routing
                .routing_id(placement.routing_id(), vf)
                .map_or_else(String::new, at),
            bars: registers
                .vf_bars
                .map(|bar| bar.and_then(|bar| bar.vf_address(vf))),
        })
        .collect();
    PfStatus {
        device: pf.instance.id().get(),
        label: label.clone(),
        address: at(placement.routing_id()),
        total_vfs: registers.total_vfs,
        num_vfs: registers.num_vfs,
        vf_enable: registers.vf_enable,
        captured_buses: placement.port().captured_buses(),
        probed_bars: pf.shared.probed_bars,
        guest_controls_sriov: pf.shared.guest_controls,
        vfs,
    }
}
