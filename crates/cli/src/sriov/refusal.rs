//! What is said when something cannot be done, and what to do about it.

use std::fmt;

use hdv_control::CallError;
use hdv_sriov::VirtualizationError;

/// Why something was not done, with the remedy where there is one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) what: String,
    pub(super) remedy: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)?;
        match &self.remedy {
            Some(remedy) => write!(formatter, "\n{remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: None,
        }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }

    /// A PF of this machine refuses. `again` are the words after `hdv sriov` that were tried.
    pub(super) fn of_linux(name: &str, again: &str, error: &VirtualizationError) -> Self {
        let refusal = Self::new(format!("{name}: {error}"));
        match error {
            VirtualizationError::AccessDenied { .. } => {
                refusal.remedy(format!("As root: hdv sriov {again}"))
            }
            VirtualizationError::AlreadyEnabled { .. } => refusal.remedy(disabling(name)),
            _ => refusal,
        }
    }

    /// A host refuses, or does not answer.
    pub(super) fn of_host(name: &str, error: &CallError) -> Self {
        let refusal = Self::new(format!("{name}: {error}"));
        match error {
            CallError::TimedOut { .. } => refusal.remedy(format!(
                "It may still come to an end: `hdv sriov show {name}` tells."
            )),
            _ => refusal,
        }
    }
}

pub(super) fn disabling(name: &str) -> String {
    format!("`hdv sriov disable {name}` disables them.")
}

/// Config space of a VF that is not there, as the interface has it: 0 bytes.
pub(super) fn vf_not_enabled(name: &str, vf: u16, enabled: u16, total: u16) -> Refusal {
    let Some(needed) = vf.checked_add(1).filter(|needed| *needed <= total) else {
        return Refusal::new(format!(
            "VF {vf} of {name} reads 0 bytes: TotalVFs is {total}, and VFs are counted from 0"
        ));
    };
    let command = format!("hdv sriov enable {name} {needed}");
    if enabled == 0 {
        Refusal::new(format!(
            "VF {vf} of {name} reads 0 bytes: VF Enable is clear, so there are no VFs"
        ))
        .remedy(format!("`{command}` enables them."))
    } else {
        Refusal::new(format!(
            "VF {vf} of {name} reads 0 bytes: {enabled} VFs are enabled, counted from 0"
        ))
        .remedy(format!(
            "More can be enabled after these are disabled: `hdv sriov disable {name}`, then `{command}`."
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vf_that_reads_nothing_says_why_and_what_to_do() {
        let text = |vf, enabled| vf_not_enabled("01:00.0", vf, enabled, 64).to_string();
        assert_eq!(
            text(0, 0),
            "VF 0 of 01:00.0 reads 0 bytes: VF Enable is clear, so there are no VFs\n\
             `hdv sriov enable 01:00.0 1` enables them."
        );
        assert!(text(3, 3).contains("3 VFs are enabled, counted from 0"));
        assert!(text(3, 3).contains("`hdv sriov enable 01:00.0 4`"));
        assert!(text(64, 3).contains("TotalVFs is 64"));
        assert!(
            vf_not_enabled("a", u16::MAX, 0, u16::MAX)
                .what
                .contains("TotalVFs is 65535")
        );
    }

    #[test]
    fn a_linux_refusal_has_its_remedy() {
        let again = "enable 01:00.0 3";
        let error = VirtualizationError::AlreadyEnabled { num_vfs: 2 };
        assert_eq!(
            Refusal::of_linux("01:00.0", again, &error).to_string(),
            "01:00.0: 2 VFs are enabled already; disable them first\n\
             `hdv sriov disable 01:00.0` disables them."
        );
        let error = VirtualizationError::AccessDenied {
            path: "/sys/x".into(),
            source: std::io::Error::from_raw_os_error(13),
        };
        let text = Refusal::of_linux("01:00.0", again, &error).to_string();
        assert!(
            text.ends_with("\nAs root: hdv sriov enable 01:00.0 3"),
            "{text}"
        );
        let error = VirtualizationError::NumVfs {
            num_vfs: 9,
            total_vfs: 8,
        };
        let text = Refusal::of_linux("01:00.0", again, &error).to_string();
        assert!(text.contains("1 to 8 are possible"), "{text}");
    }
}
