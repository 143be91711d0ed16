//! Why Linux, or a PF's driver, refuses to enable or disable VFs: the kernel gives an error number, and the reason is found by
//! looking around.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::error::VirtualizationError;

/// What is known of a PF whose request was refused.
#[derive(Debug)]
pub(super) struct Circumstances {
    /// VFs asked for; 0 to disable.
    pub(super) asked: u16,
    /// `sriov_totalvfs`: what Linux and the driver offer.
    pub(super) offered: Option<u16>,
    /// `sriov_numvfs`: what is enabled.
    pub(super) enabled: Option<u16>,
    /// The driver of the PF.
    pub(super) driver: Option<String>,
    /// Where the last VF asked for would be, and the highest bus that the port above leads to.
    pub(super) last_bus: Option<(u8, u8)>,
}

/// The error for a write to `sriov_numvfs` that failed with `source`.
pub(super) fn refused(
    path: PathBuf,
    source: io::Error,
    circumstances: &Circumstances,
) -> VirtualizationError {
    // What may be opened for writing may be written: EPERM is the driver's answer, EACCES a security module's.
    match Errno::from_io_error(&source) {
        Some(Errno::ACCESS) => VirtualizationError::AccessDenied { path, source },
        errno => VirtualizationError::Refused {
            reason: errno.map(|errno| reason(errno, circumstances)),
            path,
            source,
        },
    }
}

fn reason(errno: Errno, pf: &Circumstances) -> String {
    let asked = pf.asked;
    let driver = match &pf.driver {
        Some(driver) => driver,
        None if matches!(errno, Errno::NOENT | Errno::NOSYS) => {
            return "no driver is bound to the PF; bind one that supports SR-IOV, such as its own or pci-pf-stub"
                .to_owned();
        }
        None => "(none)",
    };
    match errno {
        Errno::RANGE => match pf.offered {
            Some(offered) => format!(
                "sriov_totalvfs is {offered}: driver {driver} offers no more, whatever the capability has room for"
            ),
            None => format!("driver {driver} does not offer {asked} VFs"),
        },
        Errno::NOENT | Errno::NOSYS => format!(
            "driver {driver} does not support SR-IOV; bind one that does, such as pci-pf-stub"
        ),
        Errno::BUSY => match pf.enabled {
            Some(enabled) if enabled != 0 => {
                format!("{enabled} VFs are enabled; disable them first")
            }
            _ => format!("driver {driver} says that the PF is busy"),
        },
        Errno::NOMEM => match pf.last_bus {
            Some((bus, subordinate)) if bus > subordinate => format!(
                "VF {} would be on bus {bus:#04x}, and the port above the PF leads to bus {subordinate:#04x} at most: not \
                 enough buses",
                asked.saturating_sub(1)
            ),
            Some(_) => "no room for the VFs' BARs in the memory windows of the port above the PF"
                .to_owned(),
            None => "not enough buses, or no room for the VFs' BARs in memory space".to_owned(),
        },
        Errno::PERM => format!(
            "driver {driver} does not do it now; VFs that are assigned to a VM stay until it lets them go"
        ),
        _ => format!("driver {driver} refused"),
    }
}

/// The driver took a request and did something else.
pub(super) fn disregarded(path: PathBuf, circumstances: &Circumstances) -> VirtualizationError {
    let driver = circumstances.driver.as_deref().unwrap_or("(none)");
    let enabled = circumstances.enabled.unwrap_or_default();
    let reason = match circumstances.asked {
        0 => format!("driver {driver} left {enabled} VFs enabled"),
        asked => format!(
            "driver {driver} enabled {enabled} VFs of {asked}, and was told to disable them again"
        ),
    };
    VirtualizationError::Refused {
        path,
        source: Errno::IO.into(),
        reason: Some(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::NtStatus;

    fn circumstances() -> Circumstances {
        Circumstances {
            asked: 8,
            offered: Some(7),
            enabled: Some(0),
            driver: Some("igb".to_owned()),
            last_bus: None,
        }
    }

    fn text(errno: Errno, circumstances: &Circumstances) -> String {
        let error = refused("/sys/sriov_numvfs".into(), errno.into(), circumstances);
        assert_eq!(error.status(), NtStatus::UNSUCCESSFUL);
        let text = error.to_string();
        assert!(text.starts_with("/sys/sriov_numvfs: "), "{text}");
        assert!(text.contains(&io::Error::from(errno).to_string()), "{text}");
        text
    }

    #[test]
    fn each_refusal_has_its_reason() {
        for (errno, part) in [
            (Errno::RANGE, "sriov_totalvfs is 7: driver igb"),
            (Errno::NOENT, "driver igb does not support SR-IOV"),
            (Errno::NOSYS, "driver igb does not support SR-IOV"),
            (Errno::BUSY, "driver igb says that the PF is busy"),
            (Errno::NOMEM, "not enough buses, or no room"),
            (Errno::PERM, "assigned to a VM"),
            (Errno::IO, "driver igb refused"),
        ] {
            let text = text(errno, &circumstances());
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_pf_without_a_driver_says_so() {
        let nobody = Circumstances {
            driver: None,
            ..circumstances()
        };
        for errno in [Errno::NOENT, Errno::NOSYS] {
            let text = text(errno, &nobody);
            assert!(text.contains("no driver is bound"), "{text}");
        }
    }

    #[test]
    fn what_is_short_is_said() {
        let at = |last_bus| Circumstances {
            last_bus,
            ..circumstances()
        };
        let buses = text(Errno::NOMEM, &at(Some((3, 2))));
        assert!(buses.contains("VF 7 would be on bus 0x03"), "{buses}");
        let memory = text(Errno::NOMEM, &at(Some((2, 2))));
        assert!(
            memory.contains("BARs") && !memory.contains("bus 0x"),
            "{memory}"
        );
        let busy = Circumstances {
            enabled: Some(2),
            ..circumstances()
        };
        assert!(text(Errno::BUSY, &busy).contains("2 VFs are enabled"));
    }

    #[test]
    fn a_security_module_denies_access() {
        let error = refused("/sys".into(), Errno::ACCESS.into(), &circumstances());
        assert_eq!(error.status(), NtStatus::ACCESS_DENIED);
    }
}
