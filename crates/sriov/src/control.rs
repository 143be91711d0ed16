//! The commands by which other programs of the user reach the emulated PFs of a running host, over its control
//! socket: their names, what they take and what they give.

use serde::{Deserialize, Serialize};

/// Lists the PFs of a host: no arguments, gives `Vec<`[`PfStatus`]`>`.
pub const LIST: &str = "sriov-list";
/// Enables VFs: takes [`EnableArguments`], gives [`PfStatus`].
pub const ENABLE: &str = "sriov-enable";
/// Disables VFs: takes [`PfArguments`], gives [`PfStatus`].
pub const DISABLE: &str = "sriov-disable";
/// The config space of the PF: takes [`PfArguments`], gives [`ConfigBytes`].
pub const PF_CONFIG: &str = "sriov-pf-config";
/// The raw config space of a VF: takes [`VfArguments`], gives [`ConfigBytes`].
pub const VF_CONFIG: &str = "sriov-vf-config";

/// Names a PF of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PfArguments {
    /// Its device id within the host, as in [`PfStatus::device`].
    pub device: u64,
}

/// What [`ENABLE`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnableArguments {
    /// The PF's device id within the host.
    pub device: u64,
    /// How many VFs.
    pub num_vfs: u16,
}

/// What [`VF_CONFIG`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfArguments {
    /// The PF's device id within the host.
    pub device: u64,
    /// Which VF, from 0.
    pub vf: u16,
}

/// What [`PF_CONFIG`] and [`VF_CONFIG`] give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigBytes {
    /// From offset 0 on.
    pub bytes: Vec<u8>,
}

/// A PF.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PfStatus {
    /// Its device id within its host.
    pub device: u64,
    /// What people call it, if it was published ([`EmulatedPf::publish`](crate::EmulatedPf::publish)): `DOMAIN/NAME` inside a domain.
    #[serde(default)]
    pub label: Option<String>,
    /// Its address, `ssss:bb:dd.f`; `bb:dd.f` if it has a label, since the segment is its guest's, on bus 0 until its guest
    /// has numbered the buses.
    pub address: String,
    /// TotalVFs.
    pub total_vfs: u16,
    /// NumVFs, as written.
    pub num_vfs: u16,
    /// VF Enable.
    pub vf_enable: bool,
    /// Buses captured beyond the PF's own.
    pub captured_buses: u8,
    /// What VF BARs read after all ones were written.
    pub probed_bars: [u32; 6],
    /// The VM that has the PF controls its VFs.
    pub guest_controls_sriov: bool,
    /// The VFs that are enabled, in their order.
    pub vfs: Vec<VfStatus>,
}

/// A VF that is enabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfStatus {
    /// Its number, from 0.
    pub vf: u16,
    /// Its device id within its host, by which the host's `list` tells its socket, state and client. One inside a domain is
    /// not in that.
    pub device: u64,
    /// Its address, as the PF's is written; empty where it cannot be reached.
    pub address: String,
    /// Where its BARs are on the bus; `None` for those it does not have.
    pub bars: [Option<u64>; 6],
}
