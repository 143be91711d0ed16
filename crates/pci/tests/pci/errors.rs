//! Errors from the function that detects them, through bridges, to the root port and its interrupt.

use hdv_pci::spec::aer::{CorrectableError, RootErrorStatus, UncorrectableError};
use hdv_pci::{Aer, ConfigSpace, DetectedError, Effects, ErrorMessage, PciExpress, RoutingId};

use crate::common::{IDENTITY, read_u16, read_u32};

const AER: u16 = 0x100;
const DEVICE_CONTROL: u16 = 0x48;
const HEADER: [u32; 4] = [0x0400_0001, 0x0000_220f, 0x0107_0000, 0x9eec_e789];

fn endpoint() -> ConfigSpace {
    ConfigSpace::builder(IDENTITY)
        .capability(PciExpress::endpoint())
        .extended_capability(Aer::new())
        .build()
        .unwrap()
}

fn root_port() -> ConfigSpace {
    ConfigSpace::bridge_builder(IDENTITY)
        .capability(PciExpress::root_port(0))
        .extended_capability(Aer::root_port())
        .build()
        .unwrap()
}

fn write(config: &mut ConfigSpace, at: u16, value: u32) -> Effects {
    config.write(at, &value.to_le_bytes())
}

/// What Linux enables in every function.
fn enable_reporting(config: &mut ConfigSpace) {
    let _ = config.write(DEVICE_CONTROL, &[0x0f]);
}

fn correctable(config: &mut ConfigSpace, error: CorrectableError) -> Option<ErrorMessage> {
    config.record_error(DetectedError::Correctable(error), None)
}

fn uncorrectable(config: &mut ConfigSpace, error: UncorrectableError) -> Option<ErrorMessage> {
    config.record_error(DetectedError::Uncorrectable(error), Some(HEADER))
}

#[test]
fn registers_have_the_values_of_the_standard() {
    let config = endpoint();
    assert_eq!(read_u32(&config, AER), 0x0001_0001);
    assert_eq!(read_u32(&config, AER + 0x08), 0x0040_0000);
    assert_eq!(read_u32(&config, AER + 0x0c), 0x0046_2030);
    assert_eq!(read_u32(&config, AER + 0x14), 0x0000_e000);
    assert_eq!(read_u32(&config, AER + 0x18), 0);
    let view = config.aer().unwrap();
    assert_eq!((view.first_error, view.root), (None, None));
    let none = ConfigSpace::builder(IDENTITY).build().unwrap();
    assert_eq!(none.aer(), None);
}

#[test]
fn nothing_is_reported_until_software_enables_it() {
    let mut config = endpoint();
    assert_eq!(correctable(&mut config, CorrectableError::BAD_TLP), None);
    assert_eq!(
        uncorrectable(&mut config, UncorrectableError::POISONED_TLP),
        None
    );
    assert_eq!(
        uncorrectable(&mut config, UncorrectableError::MALFORMED_TLP),
        None
    );
    assert_eq!(
        read_u16(&config, DEVICE_CONTROL + 2),
        0x0007,
        "but it is noted"
    );
    enable_reporting(&mut config);
    let bad = correctable(&mut config, CorrectableError::BAD_TLP);
    assert_eq!(bad, Some(ErrorMessage::Correctable));
    let poisoned = uncorrectable(&mut config, UncorrectableError::POISONED_TLP);
    assert_eq!(poisoned, Some(ErrorMessage::NonFatal));
    let malformed = uncorrectable(&mut config, UncorrectableError::MALFORMED_TLP);
    assert_eq!(malformed, Some(ErrorMessage::Fatal));
    assert_eq!(read_u16(&config, 0x06) & 0x4000, 0, "not by SERR#");
}

#[test]
fn serr_lets_uncorrectable_errors_pass() {
    let mut config = endpoint();
    let _ = config.write(0x04, &[0, 0x01]);
    assert_eq!(correctable(&mut config, CorrectableError::BAD_DLLP), None);
    assert_eq!(read_u16(&config, 0x06) & 0x4000, 0);
    let unsupported = UncorrectableError::UNSUPPORTED_REQUEST;
    assert_eq!(
        uncorrectable(&mut config, unsupported),
        Some(ErrorMessage::NonFatal)
    );
    assert_eq!(read_u16(&config, 0x06) & 0x4000, 0x4000);
    assert_eq!(read_u16(&config, DEVICE_CONTROL + 2), 0x000b);
}

#[test]
fn unsupported_requests_have_an_enable_of_their_own() {
    let mut config = endpoint();
    let unsupported = UncorrectableError::UNSUPPORTED_REQUEST;
    let _ = config.write(DEVICE_CONTROL, &[0x07]);
    assert_eq!(uncorrectable(&mut config, unsupported), None);
    let both = unsupported | UncorrectableError::ECRC;
    assert_eq!(
        uncorrectable(&mut config, both),
        Some(ErrorMessage::NonFatal)
    );
    let _ = config.write(DEVICE_CONTROL, &[0x0f]);
    assert_eq!(
        uncorrectable(&mut config, unsupported),
        Some(ErrorMessage::NonFatal)
    );
}

#[test]
fn masked_errors_are_noted_and_no_more() {
    let mut config = endpoint();
    enable_reporting(&mut config);
    let advisory = CorrectableError::ADVISORY_NON_FATAL;
    assert_eq!(correctable(&mut config, advisory), None);
    let internal = UncorrectableError::UNCORRECTABLE_INTERNAL;
    assert_eq!(uncorrectable(&mut config, internal), None);
    let view = config.aer().unwrap();
    assert_eq!(view.correctable_status, advisory);
    assert_eq!(view.uncorrectable_status, internal);
    assert_eq!(view.first_error, None);
    assert_eq!(view.header_log, [0; 4]);
    assert_eq!(read_u16(&config, DEVICE_CONTROL + 2), 0x0005);
    let _ = write(&mut config, AER + 0x08, 0);
    assert_eq!(
        uncorrectable(&mut config, internal),
        Some(ErrorMessage::Fatal)
    );
}

#[test]
fn software_decides_what_is_fatal() {
    let mut config = endpoint();
    enable_reporting(&mut config);
    let _ = write(&mut config, AER + 0x0c, 1 << 14);
    let timeout = UncorrectableError::COMPLETION_TIMEOUT;
    assert_eq!(
        uncorrectable(&mut config, timeout),
        Some(ErrorMessage::Fatal)
    );
    let malformed = UncorrectableError::MALFORMED_TLP;
    assert_eq!(
        uncorrectable(&mut config, malformed),
        Some(ErrorMessage::NonFatal)
    );
    // Of several the most severe one is told, unless it is kept back.
    assert_eq!(
        uncorrectable(&mut config, malformed | timeout),
        Some(ErrorMessage::Fatal)
    );
    let _ = config.write(DEVICE_CONTROL, &[0x0b]);
    assert_eq!(
        uncorrectable(&mut config, malformed | timeout),
        Some(ErrorMessage::NonFatal)
    );
}

#[test]
fn the_first_error_is_logged_until_it_is_cleared() {
    let mut config = endpoint();
    let first = UncorrectableError::POISONED_TLP;
    let _ = uncorrectable(&mut config, first);
    let other = DetectedError::Uncorrectable(UncorrectableError::ECRC);
    let _ = config.record_error(other, Some([9; 4]));
    let view = config.aer().unwrap();
    assert_eq!((view.first_error, view.header_log), (Some(first), HEADER));
    assert_eq!(read_u32(&config, AER + 0x18), 12);
    // The first is cleared, the other one stays: there is no first error until the next one.
    let _ = write(&mut config, AER + 0x04, first.bits());
    assert_eq!(config.aer().unwrap().first_error, None);
    let timeout = UncorrectableError::COMPLETION_TIMEOUT;
    let _ = config.record_error(DetectedError::Uncorrectable(timeout), None);
    let view = config.aer().unwrap();
    assert_eq!((view.first_error, view.header_log), (Some(timeout), [0; 4]));
}

#[test]
fn errors_survive_resets_but_not_the_power() {
    for reset in [ConfigSpace::reset, ConfigSpace::function_level_reset] {
        let mut config = endpoint();
        let _ = uncorrectable(&mut config, UncorrectableError::ECRC);
        let _ = correctable(&mut config, CorrectableError::BAD_TLP);
        let _ = write(&mut config, AER + 0x08, 1 << 20);
        let _ = write(&mut config, AER + 0x0c, 1 << 20);
        let _ = write(&mut config, AER + 0x14, 1);
        let before = config.aer();
        reset(&mut config);
        assert_eq!(config.aer(), before);
        assert_eq!(
            read_u16(&config, DEVICE_CONTROL + 2),
            0,
            "this is not sticky"
        );
        config.power_on_reset();
        assert_eq!(config.aer(), endpoint().aer());
    }
}

#[test]
fn without_the_capability_severities_are_fixed() {
    let mut config = ConfigSpace::builder(IDENTITY)
        .capability(PciExpress::endpoint())
        .build()
        .unwrap();
    let _ = config.write(0x48, &[0x0f]);
    let malformed = UncorrectableError::MALFORMED_TLP;
    assert_eq!(
        uncorrectable(&mut config, malformed),
        Some(ErrorMessage::Fatal)
    );
    let aborted = UncorrectableError::COMPLETER_ABORT;
    assert_eq!(
        uncorrectable(&mut config, aborted),
        Some(ErrorMessage::NonFatal)
    );
    let advisory = CorrectableError::ADVISORY_NON_FATAL;
    assert_eq!(
        correctable(&mut config, advisory),
        Some(ErrorMessage::Correctable)
    );
    assert_eq!(correctable(&mut config, CorrectableError::empty()), None);
    assert_eq!(
        uncorrectable(&mut config, UncorrectableError::empty()),
        None
    );
}

#[test]
fn bridges_forward_what_they_may() {
    let mut config = root_port();
    for message in [
        ErrorMessage::Correctable,
        ErrorMessage::NonFatal,
        ErrorMessage::Fatal,
    ] {
        assert!(!config.forward_error(message));
    }
    assert_eq!(read_u16(&config, 0x1e), 0x4000, "received system error");
    let _ = config.write(0x3e, &[0x02]);
    assert!(config.forward_error(ErrorMessage::Correctable));
    assert!(!config.forward_error(ErrorMessage::NonFatal));
    let _ = config.write(DEVICE_CONTROL, &[0x02]);
    assert!(config.forward_error(ErrorMessage::NonFatal));
    assert!(!config.forward_error(ErrorMessage::Fatal));
    assert_eq!(read_u16(&config, 0x06) & 0x4000, 0);
    let _ = config.write(0x04, &[0, 0x01]);
    assert!(config.forward_error(ErrorMessage::Fatal));
    assert_eq!(read_u16(&config, 0x06) & 0x4000, 0x4000);
    let mut function = endpoint();
    let _ = function.write(0x3e, &[0x02]);
    assert!(!function.forward_error(ErrorMessage::Correctable));
}

#[test]
fn a_root_port_tells_of_the_first_source_and_that_there_are_more() {
    let mut config = root_port();
    let [a, b] = [0x0310, 0x0418].map(RoutingId::from);
    // As Linux does: clear, then enable.
    let _ = write(&mut config, AER + 0x30, 0x7f);
    assert_eq!(write(&mut config, AER + 0x2c, 7), Effects::empty());
    let sent = Effects::PORT_INTERRUPT;
    assert_eq!(config.receive_error(ErrorMessage::NonFatal, a), sent);
    assert_eq!(read_u32(&config, AER + 0x30), 0x24);
    assert_eq!(
        config.receive_error(ErrorMessage::Fatal, b),
        Effects::empty()
    );
    assert_eq!(
        read_u32(&config, AER + 0x30),
        0x6c,
        "the first was not fatal"
    );
    assert_eq!(
        config.receive_error(ErrorMessage::Correctable, b),
        Effects::empty()
    );
    assert_eq!(
        config.receive_error(ErrorMessage::Correctable, a),
        Effects::empty()
    );
    let root = config.aer().unwrap().root.unwrap();
    assert_eq!(root.status.bits(), 0x6f);
    assert_eq!((root.uncorrectable_source, root.correctable_source), (a, b));
    assert_eq!(read_u32(&config, AER + 0x34), 0x0310_0418);
    // The handler clears what it read; the next one is told again.
    assert_eq!(write(&mut config, AER + 0x30, 0x6f), Effects::empty());
    assert_eq!(config.receive_error(ErrorMessage::Fatal, b), sent);
    let root = config.aer().unwrap().root.unwrap();
    let fatal = RootErrorStatus::FIRST_UNCORRECTABLE_FATAL
        | RootErrorStatus::FATAL_RECEIVED
        | RootErrorStatus::UNCORRECTABLE_RECEIVED;
    assert_eq!((root.status, root.uncorrectable_source), (fatal, b));
}

#[test]
fn each_kind_of_message_has_an_enable() {
    for (message, enable) in [
        (ErrorMessage::Correctable, 1),
        (ErrorMessage::NonFatal, 2),
        (ErrorMessage::Fatal, 4),
    ] {
        let mut config = root_port();
        let _ = write(&mut config, AER + 0x2c, 7 & !enable);
        let source = RoutingId::from(0x100);
        assert_eq!(config.receive_error(message, source), Effects::empty());
        // What is pending is told when it is enabled.
        assert_eq!(write(&mut config, AER + 0x2c, 7), Effects::PORT_INTERRUPT);
        assert_eq!(write(&mut config, AER + 0x2c, 7), Effects::empty());
        config.reset();
        assert_eq!(
            read_u32(&config, AER + 0x2c),
            0,
            "the command is not sticky"
        );
        assert_ne!(read_u32(&config, AER + 0x30), 0, "the status is");
        assert_eq!(read_u32(&config, AER + 0x34).count_ones(), 1);
    }
}

#[test]
fn only_root_ports_receive_messages() {
    let downstream =
        || ConfigSpace::bridge_builder(IDENTITY).capability(PciExpress::downstream_port(0));
    // Root registers are of no use there.
    for aer in [Aer::new(), Aer::root_port()] {
        let mut switch = downstream().extended_capability(aer).build().unwrap();
        let _ = write(&mut switch, AER + 0x2c, 7);
        let source = RoutingId::from(0x100);
        assert_eq!(
            switch.receive_error(ErrorMessage::Fatal, source),
            Effects::empty()
        );
        assert_eq!(read_u32(&switch, AER + 0x30), 0);
        assert_eq!(switch.aer().unwrap().root, None);
    }
}
