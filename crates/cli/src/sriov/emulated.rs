//! PFs of running device hosts, over their control sockets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hdv::DeviceStatus;
use hdv_control::{CallError, Client, ErrorKind, HostEntry};
use hdv_sriov::PciAddress;
use hdv_sriov::control::{
    self, ConfigBytes, EnableArguments, PfArguments, PfStatus, VfArguments, VfStatus,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::refusal::{Refusal, disabling, vf_not_enabled};
use crate::Failure;

/// How long VFs may take to come and go: thousands of them are made, and those in use are stopped.
const PATIENCE: Duration = Duration::from_secs(120);

/// A PF of a host, and how it was when it was asked.
#[derive(Clone, Debug)]
pub(crate) struct EmulatedPf {
    /// The host's process.
    pub(super) pid: u32,
    /// The host's control socket.
    control: PathBuf,
    pub(super) address: PciAddress,
    pub(super) status: PfStatus,
    /// The host's devices, VFs among them, by id.
    devices: Arc<BTreeMap<u64, DeviceStatus>>,
}

/// What a host has.
#[derive(Debug, Default)]
pub(super) struct HostPfs {
    pub(super) pfs: Vec<EmulatedPf>,
    /// Its devices by id, if it has any PF.
    pub(super) devices: Arc<BTreeMap<u64, DeviceStatus>>,
}

impl EmulatedPf {
    /// Those of a host. The device list is asked for in any case: a name may be that of a device without SR-IOV.
    pub(super) fn of(entry: &HostEntry) -> Result<HostPfs, Failure> {
        let mut client = Client::connect(&entry.path)?;
        let answer = client.call(control::LIST, &serde_json::Value::Null);
        let statuses: Vec<PfStatus> = match answer {
            Ok(answer) => serde_json::from_value(answer)?,
            // It has none.
            Err(CallError::Command(error)) if error.kind == ErrorKind::UnknownCommand => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let devices = Arc::new(devices(&mut client)?);
        let pfs = statuses.into_iter().map(|status| {
            Ok(Self {
                pid: entry.pid,
                control: entry.path.clone(),
                address: status.address.parse()?,
                status,
                devices: Arc::clone(&devices),
            })
        });
        let pfs = pfs.collect::<Result<_, Failure>>()?;
        Ok(HostPfs { pfs, devices })
    }

    /// The PF's own device; `None` if it has just gone, and inside a domain, whose functions the host does not list.
    pub(super) fn device(&self) -> Option<&DeviceStatus> {
        self.devices.get(&self.status.device)
    }

    /// A VF's device; `None` if it has just come, and inside a domain.
    pub(super) fn vf_device(&self, vf: &VfStatus) -> Option<&DeviceStatus> {
        self.devices.get(&vf.device)
    }

    pub(super) fn enable(&self, name: &str, num_vfs: u16) -> Result<Self, Refusal> {
        let arguments = EnableArguments {
            device: self.status.device,
            num_vfs,
        };
        // Of others it was refused whatever its state is.
        let possible = 1..=self.status.total_vfs;
        self.change(name, control::ENABLE, &arguments)
            .map_err(|refusal| match self.again() {
                Ok(now) if now.status.vf_enable && possible.contains(&num_vfs) => {
                    refusal.remedy(disabling(name))
                }
                _ => refusal,
            })
    }

    pub(super) fn disable(&self, name: &str) -> Result<Self, Refusal> {
        self.change(name, control::DISABLE, &self.arguments())
    }

    /// The PF's config space.
    pub(super) fn config(&self, name: &str) -> Result<Vec<u8>, Refusal> {
        let answer: ConfigBytes = self
            .call(control::PF_CONFIG, &self.arguments())
            .map_err(|error| told(name, &*error))?;
        Ok(answer.bytes)
    }

    /// Where a VF is, and its own config space.
    pub(super) fn vf_config(&self, name: &str, vf: u16) -> Result<(String, Vec<u8>), Refusal> {
        let status = &self.status;
        let Some(place) = status.vfs.iter().find(|place| place.vf == vf) else {
            let enabled = u16::try_from(status.vfs.len()).unwrap_or(u16::MAX);
            return Err(vf_not_enabled(name, vf, enabled, status.total_vfs));
        };
        let arguments = VfArguments {
            device: status.device,
            vf,
        };
        let answer: ConfigBytes = self
            .call(control::VF_CONFIG, &arguments)
            .map_err(|error| told(name, &*error))?;
        Ok((place.address.clone(), answer.bytes))
    }

    fn arguments(&self) -> PfArguments {
        PfArguments {
            device: self.status.device,
        }
    }

    fn change(
        &self,
        name: &str,
        command: &str,
        arguments: &impl Serialize,
    ) -> Result<Self, Refusal> {
        let status: PfStatus = self
            .call(command, arguments)
            .map_err(|error| told(name, &*error))?;
        // The sockets of VFs are in another list.
        let devices = Client::connect(&self.control).map_err(Failure::from);
        let devices = devices.and_then(|mut client| self::devices(&mut client));
        let devices = devices.map_err(|error| told(name, &*error))?;
        Ok(Self {
            status,
            devices: Arc::new(devices),
            ..self.clone()
        })
    }

    /// How it is now.
    fn again(&self) -> Result<Self, Failure> {
        let entry = HostEntry {
            pid: self.pid,
            path: self.control.clone(),
        };
        let found = Self::of(&entry)?.pfs.into_iter();
        let mut found = found.filter(|pf| pf.status.device == self.status.device);
        found.next().ok_or_else(|| "the PF is gone".into())
    }

    fn call<T: DeserializeOwned>(
        &self,
        command: &str,
        arguments: &impl Serialize,
    ) -> Result<T, Failure> {
        let mut client = Client::connect(&self.control)?;
        let arguments = serde_json::to_value(arguments)?;
        let answer = client.call_within(command, &arguments, PATIENCE)?;
        Ok(serde_json::from_value(answer)?)
    }
}

fn devices(client: &mut Client) -> Result<BTreeMap<u64, DeviceStatus>, Failure> {
    let answer = client.call("list", &serde_json::Value::Null)?;
    let devices: Vec<DeviceStatus> = serde_json::from_value(answer)?;
    Ok(devices
        .into_iter()
        .map(|device| (device.id, device))
        .collect())
}

fn told(name: &str, error: &(dyn std::error::Error + 'static)) -> Refusal {
    match error.downcast_ref::<CallError>() {
        Some(error) => Refusal::of_host(name, error),
        None => Refusal::new(format!("{name}: {error}")),
    }
}
