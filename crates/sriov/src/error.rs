//! Why a routine of the interface failed, and which `NTSTATUS` that is in C.

use std::fmt;
use std::io;
use std::path::PathBuf;

use hdv::HostError;

/// An `NTSTATUS` (`ntstatus.h`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NtStatus(pub u32);

impl NtStatus {
    /// The operation completed.
    pub const SUCCESS: Self = Self(0);
    /// The system refused, for a reason of its own.
    pub const UNSUCCESSFUL: Self = Self(0xc000_0001);
    /// A parameter is wrong.
    pub const INVALID_PARAMETER: Self = Self(0xc000_000d);
    /// Permission is missing.
    pub const ACCESS_DENIED: Self = Self(0xc000_0022);
    /// A buffer is too small.
    pub const BUFFER_TOO_SMALL: Self = Self(0xc000_0023);
    /// What was asked for is not supported.
    pub const NOT_SUPPORTED: Self = Self(0xc000_00bb);
    /// The device is not in a state for it.
    pub const INVALID_DEVICE_STATE: Self = Self(0xc000_0184);
    /// It would wait for itself.
    pub const POSSIBLE_DEADLOCK: Self = Self(0xc000_0194);

    /// Its name in `ntstatus.h`, of those above.
    fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::SUCCESS => "STATUS_SUCCESS",
            Self::UNSUCCESSFUL => "STATUS_UNSUCCESSFUL",
            Self::INVALID_PARAMETER => "STATUS_INVALID_PARAMETER",
            Self::ACCESS_DENIED => "STATUS_ACCESS_DENIED",
            Self::BUFFER_TOO_SMALL => "STATUS_BUFFER_TOO_SMALL",
            Self::NOT_SUPPORTED => "STATUS_NOT_SUPPORTED",
            Self::INVALID_DEVICE_STATE => "STATUS_INVALID_DEVICE_STATE",
            Self::POSSIBLE_DEADLOCK => "STATUS_POSSIBLE_DEADLOCK",
            _ => return None,
        })
    }
}

impl fmt::Display for NtStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(formatter, "{name} ({:#010x})", self.0),
            None => write!(formatter, "{:#010x}", self.0),
        }
    }
}

impl fmt::Debug for NtStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Why a routine of the interface failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VirtualizationError {
    /// The device was removed.
    #[error("the device is gone")]
    Gone,
    /// The device has no SR-IOV capability.
    #[error("the device has no SR-IOV capability")]
    NotCapable,
    /// A VF that there cannot be.
    #[error("there is no VF {vf}: TotalVFs is {total_vfs}, and they are counted from 0")]
    NoSuchVf {
        /// Which one was asked for.
        vf: u16,
        /// The most there can be.
        total_vfs: u16,
    },
    /// A VF that is not there now.
    #[error("VF {vf} is not enabled: {}", how_many(*.num_vfs))]
    NotEnabled {
        /// Which one was asked for.
        vf: u16,
        /// How many there are.
        num_vfs: u16,
    },
    /// A range outside config space, or an empty one.
    #[error("{length} bytes at {offset:#x} are not in the 4096 bytes of config space")]
    Range {
        /// Its start.
        offset: u32,
        /// Its length in bytes.
        length: usize,
    },
    /// VFs enabled with a number that there cannot be.
    #[error("{num_vfs} VFs cannot be enabled: 1 to {total_vfs} are possible")]
    NumVfs {
        /// The number asked for.
        num_vfs: u16,
        /// The most there can be.
        total_vfs: u16,
    },
    /// VFs disabled with a number.
    #[error("VFs are disabled with NumVFs 0, not {num_vfs}")]
    NumVfsNotZero {
        /// The number given.
        num_vfs: u16,
    },
    /// The migration interrupt without migration.
    #[error("the VF migration interrupt cannot be enabled without VF migration")]
    MigrationInterrupt,
    /// Migration of a device that has none.
    #[error("the device has no VF migration")]
    Migration,
    /// VF Enable is set.
    #[error("{num_vfs} VFs are enabled already; disable them first")]
    AlreadyEnabled {
        /// How many.
        num_vfs: u16,
    },
    /// VF Enable is clear.
    #[error("VFs are disabled already")]
    AlreadyDisabled,
    /// A PF of this process that has not been powered on.
    #[error("the PF is not powered on: its host is not attached to a system yet")]
    NotPoweredOn,
    /// It would wait for a call to end, inside that call.
    #[error(
        "this would wait for a call into a device of the PF's host, and was asked for from inside \
         one: do it from another thread"
    )]
    InsideCall,
    /// VFs of a PF of this process could not be made.
    #[error("the VFs cannot be enabled: {0}")]
    Device(#[source] HostError),
    /// A VF could not be powered on.
    #[error("VF {vf}: {source}")]
    VirtualFunction {
        /// Which one.
        vf: u16,
        /// What is wrong with it.
        source: HostError,
    },
    /// Permission is missing.
    #[error("{}: {source}; it takes root, or CAP_SYS_ADMIN", path.display())]
    AccessDenied {
        /// What was opened, read or written.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel, or the PF's driver, refused.
    #[error("{}: {source}{}", path.display(), because(.reason))]
    Refused {
        /// What was read or written.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
        /// Why that is so, as far as is known.
        reason: Option<String>,
    },
}

fn how_many(num_vfs: u16) -> String {
    match num_vfs {
        0 => "no VF is".to_owned(),
        _ => format!("{num_vfs} are, counted from 0; disable them, then enable more"),
    }
}

fn because(text: &Option<String>) -> String {
    text.as_ref()
        .map_or_else(String::new, |text| format!(": {text}"))
}

impl VirtualizationError {
    /// What the routines that return an `NTSTATUS` return in C; those that return bytes or buses return 0.
    #[must_use]
    pub fn status(&self) -> NtStatus {
        match self {
            Self::NoSuchVf { .. }
            | Self::Range { .. }
            | Self::NumVfs { .. }
            | Self::NumVfsNotZero { .. }
            | Self::MigrationInterrupt
            | Self::Migration => NtStatus::INVALID_PARAMETER,
            Self::Gone
            | Self::NotCapable
            | Self::NotEnabled { .. }
            | Self::AlreadyEnabled { .. }
            | Self::AlreadyDisabled
            | Self::NotPoweredOn => NtStatus::INVALID_DEVICE_STATE,
            Self::InsideCall => NtStatus::POSSIBLE_DEADLOCK,
            Self::AccessDenied { .. } => NtStatus::ACCESS_DENIED,
            Self::Device(_) | Self::VirtualFunction { .. } | Self::Refused { .. } => {
                NtStatus::UNSUCCESSFUL
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_shows_its_name_and_its_value_in_hexadecimal() {
        assert_eq!(
            NtStatus::INVALID_PARAMETER.to_string(),
            "STATUS_INVALID_PARAMETER (0xc000000d)"
        );
        assert_eq!(
            format!("{:?}", NtStatus::SUCCESS),
            "STATUS_SUCCESS (0x00000000)"
        );
        assert_eq!(NtStatus(0x103).to_string(), "0x00000103");
    }

    #[test]
    fn a_vf_that_is_not_enabled_is_told_with_what_to_do() {
        let text = |num_vfs| VirtualizationError::NotEnabled { vf: 3, num_vfs }.to_string();
        assert_eq!(text(0), "VF 3 is not enabled: no VF is");
        assert_eq!(
            text(2),
            "VF 3 is not enabled: 2 are, counted from 0; disable them, then enable more"
        );
    }
}
