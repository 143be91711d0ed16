//! Names of errors that functions detect: the standard's, and those of the Linux tools aer-inject and lspci.

use hdv::domain::control::Fault;
use hdv::pci::spec::aer::{CorrectableError, UncorrectableError};

use crate::Failure;
use crate::args::Severity;

/// An error: its name, the bit of the status register, other names.
type Name = (&'static str, u32, &'static [&'static str]);

const CORRECTABLE: [Name; 8] = {
    use CorrectableError as E;
    [
        ("receiver", E::RECEIVER.bits(), &["RCVR", "RxErr"]),
        ("bad-tlp", E::BAD_TLP.bits(), &["BAD_TLP", "BadTLP"]),
        ("bad-dllp", E::BAD_DLLP.bits(), &["BAD_DLLP", "BadDLLP"]),
        (
            "replay-number-rollover",
            E::REPLAY_NUMBER_ROLLOVER.bits(),
            &["REP_ROLL", "Rollover"],
        ),
        (
            "replay-timer-timeout",
            E::REPLAY_TIMER_TIMEOUT.bits(),
            &["REP_TIMER", "Timeout"],
        ),
        (
            "advisory-non-fatal",
            E::ADVISORY_NON_FATAL.bits(),
            &["AdvNonFatalErr"],
        ),
        (
            "corrected-internal",
            E::CORRECTED_INTERNAL.bits(),
            &["CorrIntErr"],
        ),
        (
            "header-log-overflow",
            E::HEADER_LOG_OVERFLOW.bits(),
            &["HeaderOF"],
        ),
    ]
};

const UNCORRECTABLE: [Name; 17] = {
    use UncorrectableError as E;
    [
        ("data-link-protocol", E::DATA_LINK_PROTOCOL.bits(), &["DLP"]),
        ("surprise-down", E::SURPRISE_DOWN.bits(), &["SDES"]),
        (
            "poisoned-tlp",
            E::POISONED_TLP.bits(),
            &["POISON_TLP", "TLP"],
        ),
        (
            "flow-control-protocol",
            E::FLOW_CONTROL_PROTOCOL.bits(),
            &["FCP"],
        ),
        (
            "completion-timeout",
            E::COMPLETION_TIMEOUT.bits(),
            &["COMP_TIME", "CmpltTO"],
        ),
        (
            "completer-abort",
            E::COMPLETER_ABORT.bits(),
            &["COMP_ABORT", "CmpltAbrt"],
        ),
        (
            "unexpected-completion",
            E::UNEXPECTED_COMPLETION.bits(),
            &["UNX_COMP", "UnxCmplt"],
        ),
        (
            "receiver-overflow",
            E::RECEIVER_OVERFLOW.bits(),
            &["RX_OVER", "RxOF"],
        ),
        (
            "malformed-tlp",
            E::MALFORMED_TLP.bits(),
            &["MALF_TLP", "MalfTLP"],
        ),
        ("ecrc", E::ECRC.bits(), &["ECRC"]),
        (
            "unsupported-request",
            E::UNSUPPORTED_REQUEST.bits(),
            &["UNSUP", "UnsupReq"],
        ),
        ("acs-violation", E::ACS_VIOLATION.bits(), &["ACSViol"]),
        (
            "uncorrectable-internal",
            E::UNCORRECTABLE_INTERNAL.bits(),
            &["UncorrIntErr"],
        ),
        (
            "multicast-blocked-tlp",
            E::MULTICAST_BLOCKED_TLP.bits(),
            &["BlockedTLP"],
        ),
        (
            "atomic-op-egress-blocked",
            E::ATOMIC_OP_EGRESS_BLOCKED.bits(),
            &["AtomicOpBlocked"],
        ),
        (
            "tlp-prefix-blocked",
            E::TLP_PREFIX_BLOCKED.bits(),
            &["TLPBlockedErr"],
        ),
        (
            "poisoned-tlp-egress-blocked",
            E::POISONED_TLP_EGRESS_BLOCKED.bits(),
            &["PoisonTLPBlocked"],
        ),
    ]
};

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Correctable => "correctable",
            Self::NonFatal => "non-fatal",
            Self::Fatal => "fatal",
        }
    }

    /// Which error it is unless a person names one: those that are common, and that functions do not mask at first.
    fn usual(self) -> &'static str {
        match self {
            Self::Correctable => "bad-tlp",
            Self::NonFatal => "completion-timeout",
            Self::Fatal => "malformed-tlp",
        }
    }
}

/// The severity of an uncorrectable error after a reset: software can change it, and seldom does.
fn severity(bits: u32) -> Severity {
    if UncorrectableError::FATAL_RESET.bits() & bits != 0 {
        Severity::Fatal
    } else {
        Severity::NonFatal
    }
}

fn find(names: &'static [Name], name: &str) -> Option<(&'static str, u32)> {
    let is_it = |(known, _, others): &&Name| {
        known.eq_ignore_ascii_case(name)
            || others.iter().any(|other| other.eq_ignore_ascii_case(name))
    };
    let found = names.iter().find(is_it);
    found.map(|(name, bits, _)| (*name, *bits))
}

/// The fault of a severity, and of a name if a person gives one; with it, the standard's name.
pub(super) fn fault(
    wanted: Severity,
    name: Option<&str>,
) -> Result<(Fault, &'static str), Failure> {
    let name = name.unwrap_or(wanted.usual());
    let correctable = find(&CORRECTABLE, name);
    let uncorrectable = find(&UNCORRECTABLE, name);
    let (fault, standard, is) = match (correctable, uncorrectable) {
        (Some((standard, bits)), _) => (Fault::Correctable(bits), standard, Severity::Correctable),
        (None, Some((standard, bits))) => (Fault::Uncorrectable(bits), standard, severity(bits)),
        (None, None) => {
            let names = |all: &[Name]| {
                let names: Vec<_> = all.iter().map(|(name, ..)| *name).collect();
                names.join(", ")
            };
            return Err(format!(
                "there is no error {name:?}; correctable ones are {}; uncorrectable ones are {}",
                names(&CORRECTABLE),
                names(&UNCORRECTABLE)
            )
            .into());
        }
    };
    if is != wanted {
        return Err(format!(
            "{name} is {}, not {}: say `{}`",
            is.word(),
            wanted.word(),
            is.word()
        )
        .into());
    }
    Ok((fault, standard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_standard_has_a_name_of_its_own() {
        let bits = |all: &[Name]| all.iter().fold(0, |sum, (_, bits, _)| sum | bits);
        assert_eq!(bits(&CORRECTABLE), CorrectableError::all().bits());
        assert_eq!(bits(&UNCORRECTABLE), UncorrectableError::all().bits());
        for all in [&CORRECTABLE[..], &UNCORRECTABLE] {
            for (standard, bits, others) in all {
                for name in others.iter().chain([standard]) {
                    assert_eq!(find(all, name), Some((*standard, *bits)), "{name}");
                }
            }
        }
    }

    #[test]
    fn names_and_severities_belong_together() {
        let named = |severity, name| fault(severity, name).map(|(fault, _)| fault);
        let malformed = Fault::Uncorrectable(1 << 18);
        assert_eq!(named(Severity::Fatal, None).unwrap(), malformed);
        assert_eq!(named(Severity::Fatal, Some("MALF_TLP")).unwrap(), malformed);
        let usual = named(Severity::NonFatal, None).unwrap();
        assert_eq!(usual, Fault::Uncorrectable(1 << 14));
        let usual = named(Severity::Correctable, None).unwrap();
        assert_eq!(usual, Fault::Correctable(1 << 6));
        let error = named(Severity::Fatal, Some("ecrc"))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "ecrc is non-fatal, not fatal: say `non-fatal`");
        let error = named(Severity::Fatal, Some("moon"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("ones are receiver, bad-tlp"), "{error}");
    }
}
