//! What a kind of device beside the sensor is to the program: how it is found, and which checks there
//! are for it. Which kinds there are is in `families`.

use std::fmt;

use crate::checks::{Selection, Settings, Verdict, guarded, outcome};
use crate::platform::{BarAccess, Platform};
use crate::report::Line;

/// A kind of device.
#[derive(Debug)]
pub struct Family {
    /// What it is called in `openhdv.devices`.
    pub name: &'static str,
    /// PCI vendor id.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// Its checks, in the order in which they are best made.
    pub checks: &'static [FamilyCheck],
}

/// One check of a kind of device.
#[derive(Debug)]
pub struct FamilyCheck {
    /// The name in reports and on command lines; begins with the family's.
    pub name: &'static str,
    /// What it does.
    pub run: Run,
}

/// What a check does, by what it needs. A check never waits without a limit.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// Registers, config space and the memory of BARs suffice.
    Bars(fn(&dyn BarAccess, &mut Context<'_>) -> Verdict),
    /// Interrupts, DMA memory or a reset are needed too.
    Platform(fn(&dyn Platform, &mut Context<'_>) -> Verdict),
    /// As [`Run::Platform`], and it is the device's end: after the next boot it must not be there.
    Ending(fn(&dyn Platform, &mut Context<'_>) -> Verdict),
}

/// What a check is given beside its device.
pub struct Context<'a> {
    /// What was asked for.
    pub settings: &'a Settings,
    /// Takes lines for the report beyond the check's outcome.
    pub sink: &'a mut dyn FnMut(Line),
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Context")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Family {
    /// Makes the checks of `selection` on `device` and tells each outcome to `sink`.
    pub fn check(
        &self,
        device: &dyn Platform,
        selection: &Selection,
        settings: &Settings,
        sink: &mut dyn FnMut(Line),
    ) {
        for check in self.wanted(selection) {
            one(check, device, sink, |sink| {
                let mut context = Context { settings, sink };
                match check.run {
                    Run::Bars(run) => run(device, &mut context),
                    Run::Platform(run) | Run::Ending(run) => run(device, &mut context),
                }
            });
        }
    }

    /// Makes the checks of `selection` that BAR access suffices for.
    pub fn check_bars(
        &self,
        device: &dyn BarAccess,
        selection: &Selection,
        settings: &Settings,
        sink: &mut dyn FnMut(Line),
    ) {
        for check in self.wanted(selection) {
            if let Run::Bars(run) = check.run {
                one(check, device, sink, |sink| {
                    run(device, &mut Context { settings, sink })
                });
            }
        }
    }

    /// Whether the checks of `selection` are the end of the device.
    #[must_use]
    pub fn ends(&self, selection: &Selection) -> bool {
        self.wanted(selection)
            .any(|check| matches!(check.run, Run::Ending(_)))
    }

    /// The family's checks that are in `selection`.
    pub fn wanted<'a>(
        &self,
        selection: &'a Selection,
    ) -> impl Iterator<Item = &'static FamilyCheck> + use<'a> {
        self.checks.iter().filter(|check| selection.has(check.name))
    }
}

fn one(
    check: &FamilyCheck,
    device: &dyn BarAccess,
    sink: &mut dyn FnMut(Line),
    run: impl FnOnce(&mut dyn FnMut(Line)) -> Verdict,
) {
    let verdict = guarded(|| run(&mut *sink));
    let outcome = outcome(check.name, device.name(), device.transport(), verdict);
    sink(Line::Check(outcome));
}
