//! The checks must pass for a good sensor and fail for one that breaks a promise: the model's.

use super::*;
use crate::model::{Fault, Model};

fn settings() -> Settings {
    Settings {
        samples: 20_000,
        samples_of_two: 5_000,
        ring: 4096,
        patience: Duration::from_secs(2),
        ..Settings::default()
    }
}

fn outcomes(selection: &[Check], faults: &[Fault], settings: &Settings) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let devices = faults.iter().map(|&fault| Model::new(fault)).collect();
    run(selection, devices, settings, &mut |outcome| {
        outcomes.push(outcome);
    });
    outcomes
}

#[test]
fn a_good_sensor_passes_everything() {
    for source in [Source::Sine, Source::Any] {
        let settings = Settings {
            source,
            ..settings()
        };
        let outcomes = outcomes(&Check::ALL, &[Fault::None, Fault::None], &settings);
        for outcome in &outcomes {
            assert!(outcome.ok, "{outcome:?}");
        }
        let names: Vec<_> = outcomes
            .iter()
            .map(|outcome| outcome.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "identity",
                "identity",
                "registers",
                "registers",
                "threshold-interrupt",
                "ring-samples",
                "ring-overflow",
                "bad-settings",
                "function-reset",
                "two-sensors",
            ]
        );
    }
}

/// The check fails, and for the reason that it should.
fn fails(check: Check, fault: Fault, reason: &str) {
    let outcomes = outcomes(&[check], &[fault], &settings());
    let [outcome] = outcomes.as_slice() else {
        panic!("{check:?} with {fault:?}: {outcomes:?}");
    };
    assert!(
        !outcome.ok,
        "{check:?} with {fault:?} passed: {}",
        outcome.detail
    );
    assert!(
        outcome.detail.contains(reason),
        "{check:?} with {fault:?} failed with {:?}, not with {reason:?}",
        outcome.detail
    );
}

#[test]
fn identity_finds_faults() {
    fails(Check::Identity, Fault::WrongClass, "class 020000");
    fails(Check::Identity, Fault::WrongBarSize, "8192");
}

#[test]
fn registers_finds_faults() {
    fails(Check::Registers, Fault::WideWrites, "scratch reads");
    fails(
        Check::Registers,
        Fault::WritableVersion,
        "version is read-only",
    );
    fails(Check::Registers, Fault::ClearedByZero, "after a write of 0");
    fails(
        Check::Registers,
        Fault::NeverCleared,
        "after a one was written",
    );
    fails(
        Check::Registers,
        Fault::IncoherentRead,
        "was read with sequence number",
    );
    fails(Check::Registers, Fault::AnyPeriod, "after a period of 0");
    fails(
        Check::Registers,
        Fault::RefusedAndStored,
        "a period of 0 gave",
    );
}

#[test]
fn threshold_interrupt_finds_faults() {
    let check = Check::ThresholdInterrupt;
    fails(check, Fault::Silent(0), "vector 0 did not fire");
    fails(check, Fault::Silent(1), "vector 1 did not fire");
    fails(check, Fault::CrossedUnset, "when there was none");
    fails(check, Fault::BothThresholds, "the high threshold");
    fails(check, Fault::NeverCleared, "status");
}

#[test]
fn ring_samples_finds_faults() {
    let check = Check::RingSamples;
    for number in [0, 1, 4095, 12_345] {
        fails(check, Fault::Lose(number), "came through the ring");
        fails(check, Fault::Repeat(number), "was next");
        fails(
            check,
            Fault::Tear(number),
            &format!("sample {number} is torn"),
        );
        fails(check, Fault::HeadFirst(number), "");
    }
    fails(check, Fault::TimeBack(7000), "sample 7000 has time 1");
    fails(check, Fault::Silent(0), "did not fire");
}

#[test]
fn torn_values_of_an_unknown_source_are_not_guessed() {
    let settings = Settings {
        source: Source::Any,
        ..settings()
    };
    let outcomes = outcomes(&[Check::RingSamples], &[Fault::Tear(3)], &settings);
    assert!(outcomes[0].ok, "{outcomes:?}");
}

#[test]
fn ring_overflow_finds_faults() {
    let check = Check::RingOverflow;
    fails(check, Fault::Silent(2), "vector 2 did not fire");
    fails(check, Fault::OverflowUnseen, "vector 2 did not fire");
    fails(check, Fault::NotCounted, "0 overflows are counted");
    fails(check, Fault::CountedTwice, "the device counts");
    fails(check, Fault::Overwrites, "vector 2 did not fire");
    fails(check, Fault::NeverCleared, "status");
}

#[test]
fn bad_settings_finds_faults() {
    let check = Check::BadSettings;
    fails(check, Fault::AnyAddress, "was accepted");
    fails(check, Fault::AnyEnd, "was accepted");
    fails(check, Fault::AnySize, "a ring of 0 samples was accepted");
    fails(check, Fault::AnyAlignment, "was accepted");
    fails(check, Fault::AnyPeriod, "a period of 0 was accepted");
    fails(check, Fault::RefusedAndStored, "changed the register");
    fails(
        check,
        Fault::OneReason,
        "was refused with error 1, expected 2",
    );
    fails(
        check,
        Fault::NeverBusy,
        "another size of a ring in use was accepted",
    );
}

#[test]
fn function_reset_finds_faults() {
    let check = Check::FunctionReset;
    fails(check, Fault::ResetGoesOn, "after a reset");
    fails(check, Fault::ResetForgets, "high threshold");
    fails(check, Fault::ResetDeaf, "vector 0 did not fire");
}

#[test]
fn two_sensors_finds_a_fault_of_either() {
    for faults in [[Fault::Lose(9), Fault::None], [Fault::None, Fault::Lose(9)]] {
        let outcomes = outcomes(&[Check::TwoSensors], &faults, &settings());
        assert!(!outcomes[0].ok, "{outcomes:?}");
    }
    fails(Check::TwoSensors, Fault::None, "only one sensor");
}

#[test]
fn no_sensor_fails_every_check() {
    let outcomes = outcomes(&Check::ALL, &[], &settings());
    assert_eq!(outcomes.len(), Check::ALL.len());
    assert!(outcomes.iter().all(|outcome| !outcome.ok));
}

#[test]
fn bar_access_alone_makes_its_two_checks() {
    let mut outcomes = Vec::new();
    run_bar_access(
        &Check::ALL,
        Model::new(Fault::None),
        &settings(),
        &mut |outcome| outcomes.push(outcome),
    );
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.iter().all(|outcome| outcome.ok), "{outcomes:?}");
}

#[test]
fn a_panic_is_a_failed_check() {
    let failure = guarded(|| panic!("number {}", 7)).unwrap_err();
    assert!(failure.to_string().contains("number 7"));
}
