//! From an Add to where the guest has the device. The guest's kernel notes when it finds one; its clock and ours are brought together
//! by the line that tells of it, so that what the console takes counts for the kernel.

use std::time::{Duration, Instant};

use hdv::{DeviceHost, HostOptions, Uuid};
use hdv_compute::document::HostingModel;
use hdv_guest::report::Change;

use super::{id, prepare};
use crate::bench::contest::Effort;
use crate::bench::error::BenchError;
use crate::bench::report::{Section, Unit};
use crate::bench::statistics::median;
use crate::test::{Failure, Form, Journal, Vm, add, announce, remove};

/// Each turn takes seconds.
const ROUNDS: u32 = 15;

/// Nanoseconds of one turn.
struct Turn {
    returned: f64,
    enumerated: f64,
    removed: f64,
}

/// Adds and removes a device again and again.
pub(in crate::bench) fn measure(effort: Effort) -> Result<Vec<Section>, BenchError> {
    let parts = prepare()?;
    let id = id("plugging");
    let turns = || -> Result<Vec<Turn>, Failure> {
        let mut vm = Vm::create(&id, &Form::default(), &parts.facts)?;
        let host = DeviceHost::new(HostOptions::default())?;
        host.attach(vm.system.system())?;
        vm.system.start()?;
        vm.until_waiting()?;
        let turns: Result<_, Failure> = (0..effort.rounds.min(ROUNDS))
            .map(|_| turn(&mut vm, &host))
            .collect();
        vm.system.terminate()?;
        turns
    };
    let turns = turns()
        .map_err(|failure| BenchError::new("adding and removing a device", failure.to_string()))?;
    let of = |field: fn(&Turn) -> f64| median(&turns.iter().map(field).collect::<Vec<_>>());
    let mut section = Section::new("a device that is added to a running VM", Unit::Nanoseconds);
    section
        .value("Add until it returns", of(|turn| turn.returned), None)
        .value(
            "Add until the guest's kernel has found it",
            of(|turn| turn.enumerated),
            None,
        )
        .value("Remove until it returns", of(|turn| turn.removed), None);
    Ok(vec![section])
}

fn turn(vm: &mut Vm, host: &DeviceHost) -> Result<Turn, Failure> {
    const INSTANCE: Uuid = Uuid::from_u128(1);
    announce(host, INSTANCE, &Journal::default())?;
    let begun = Instant::now();
    vm.system.modify(&add(INSTANCE, HostingModel::External))?;
    let returned = begun.elapsed();
    let told = vm.until_seen(1, 0)?;
    let heard = begun.elapsed();
    told.expect_seen(1, Change::Later)?;
    let ago = told
        .seen
        .first()
        .and_then(|seen| seen.clock_us.checked_sub(seen.enumerated_us?))
        .ok_or("the guest does not tell when its kernel found the device")?;
    let enumerated = heard.saturating_sub(Duration::from_micros(ago));
    // What the guest checks of it comes before it goes.
    vm.say("check")?;
    vm.until_waiting()?;
    let begun = Instant::now();
    vm.system.modify(&remove(INSTANCE))?;
    let removed = begun.elapsed();
    vm.until_seen(1, 0)?.expect_seen(1, Change::Gone)?;
    let nanoseconds = |time: Duration| time.as_secs_f64() * 1e9;
    Ok(Turn {
        returned: nanoseconds(returned),
        enumerated: nanoseconds(enumerated),
        removed: nanoseconds(removed),
    })
}
