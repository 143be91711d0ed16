//! What dies, hangs or is asked for in vain, with the installed worker. What needs nothing but a QEMU is checked in `compute`'s own
//! tests.

use std::time::{Duration, Instant};

use hdv::{DeviceHost, HostOptions, Uuid};
use hdv_compute::document::{DeviceStatus, State};
use hdv_compute::{ComputeSystem, Event, ExitType, codes};
use hdv_guest::report::Change;
use rustix::process::{Pid, Signal, kill_process};

use super::actor::{Actor, Playing};
use super::checks::Checks;
use super::facts::Facts;
use super::hosting::Restricted;
use super::journal::{Call, Journal, announce};
use super::remains::{self, lives, wait_for};
use super::vm::{Form, Vm};
use crate::test::Failure;

/// The longest that what hangs may keep others.
const BOUND: Duration = Duration::from_secs(90);

const ONE: Uuid = Uuid::from_u128(1);
const TWO: Uuid = Uuid::from_u128(2);

pub(super) fn run(checks: &mut Checks<'_>) {
    checks.doing("what dies and hangs");
    let facts = checks.facts;
    checks.check("QEMU killed", || qemu(facts));
    checks.check("worker killed", || worker(facts));
    checks.check("creator killed, its VM ends with it", || {
        creator(facts, true)
    });
    checks.check("creator killed, its VM lives on", || creator(facts, false));
    checks.check("restricted host killed", || restricted(facts));
    checks.check("documents that cannot be", || documents(facts));
}

fn kill(pid: u32) -> Result<(), Failure> {
    signal(pid, Signal::KILL)
}

fn signal(pid: u32, signal: Signal) -> Result<(), Failure> {
    let pid = Pid::from_raw(i32::try_from(pid)?).ok_or("process 0")?;
    Ok(kill_process(pid, signal)?)
}

/// A VM with a sensor of this process, up to where the guest has checked it.
fn running(id: &str, facts: &Facts) -> Result<(Vm, DeviceHost, Journal), Failure> {
    let mut vm = Vm::create(id, &Form::default().external(ONE), facts)?;
    let host = DeviceHost::new(HostOptions::default())?;
    host.attach(vm.system.system())?;
    let journal = Journal::default();
    announce(&host, ONE, &journal)?;
    vm.system.start()?;
    vm.until_waiting()?.expect(1, Change::First)?;
    Ok((vm, host, journal))
}

fn ended(journal: &Journal) -> Result<(), Failure> {
    wait_for("the device's teardown", || {
        journal.count(&Call::Teardown) == 1
    })?;
    let life = journal.life();
    if life.ends_with(&[Call::Stop, Call::Teardown]) {
        Ok(())
    } else {
        Err(format!("the device saw {life:?}").into())
    }
}

fn qemu(facts: &Facts) -> Result<String, Failure> {
    let (vm, _host, journal) = running("fault-qemu", facts)?;
    let pid = vm.system.properties()?.vmm_process_id.ok_or("no QEMU")?;
    kill(pid)?;
    let exit = vm.end()?;
    if exit.exit_type != ExitType::UnexpectedExit || exit.status != codes::HCS_E_UNEXPECTED_EXIT {
        return Err(format!("it ended so: {exit:?}").into());
    }
    vm.expect_state(State::Stopped)?;
    ended(&journal)?;
    Ok(format!("{:?}: {}", exit.exit_type, exit.detail))
}

fn worker(facts: &Facts) -> Result<String, Failure> {
    let (vm, _host, journal) = running("fault-worker", facts)?;
    let properties = vm.system.properties()?;
    let qemu = properties.vmm_process_id.ok_or("no QEMU")?;
    let (sender, events) = std::sync::mpsc::channel();
    vm.system
        .set_callback(Some(std::sync::Arc::new(move |event: &Event| {
            // Who does not listen any more has failed.
            let _ = sender.send(event.clone());
        })));
    kill(properties.worker_process_id)?;
    wait_for("the news of it", || {
        events.try_iter().any(|event| event == Event::Disconnected)
    })?;
    wait_for("QEMU's end", || !lives(qemu))?;
    ended(&journal)?;
    let error = vm.system.properties().err().ok_or("it answers")?;
    if error.code() != codes::HCS_E_SERVICE_DISCONNECT {
        return Err(format!("its properties: {error}").into());
    }
    let listed = ComputeSystem::enumerate()?;
    if !listed.is_empty() || !remains::files()?.is_empty() {
        return Err(format!("left: {listed:?}, {:?}", remains::files()?).into());
    }
    Ok(
        "QEMU ended with it, its device was torn down; the next command removed what it left"
            .to_owned(),
    )
}

fn creator(facts: &Facts, ends_with_handle: bool) -> Result<String, Failure> {
    const ID: &str = "fault-creator";
    let mut creator = Playing::start(&Actor::Creator {
        system: ID.to_owned(),
        ends_with_handle,
    })?;
    creator.expect("started")?;
    let _ = facts;
    // A list's connection is none that keeps a VM alive.
    let summary = ComputeSystem::enumerate()?.pop().ok_or("it is not there")?;
    let system = (!ends_with_handle)
        .then(|| ComputeSystem::open(ID))
        .transpose()?;
    creator.kill()?;
    let Some(system) = system else {
        wait_for("the VM's end", || {
            remains::files().is_ok_and(|files| files.is_empty())
        })?;
        return Ok(format!("{} ended by itself, and left nothing", summary.id));
    };
    let lost = wait_for("the loss of its device", || {
        system.properties().is_ok_and(|properties| {
            let device = properties.devices.get(&ONE.to_string());
            device.is_none_or(|device| device.status == DeviceStatus::Lost)
        })
    });
    lost.map_err(|failure| match system.properties() {
        Ok(properties) => format!("{failure}: {:?}", properties.devices),
        Err(error) => format!("{failure}: {error}"),
    })?;
    let state = system.properties()?.state;
    drop(system);
    // Without any handle, too.
    let system = ComputeSystem::open(ID)?;
    if state != State::Running {
        return Err(format!("it is {state:?}").into());
    }
    system.terminate()?;
    Ok("it runs on without its creator and its device, is opened again and terminated".to_owned())
}

/// Makes the check of a device host that never answers, which waits most of its time, beside others.
pub(super) fn beside(checks: &mut Checks<'_>, others: impl FnOnce(&mut Checks<'_>)) {
    let facts = checks.facts;
    std::thread::scope(|scope| {
        let check = scope.spawn(|| stopped(facts).map_err(|failure| failure.to_string()));
        others(checks);
        checks.check("device host that is stopped", || {
            let result = check.join().map_err(|_| "its check panicked")?;
            Ok(result?)
        });
    });
}

fn stopped(facts: &Facts) -> Result<String, Failure> {
    const ID: &str = "fault-stopped";
    let vm = Vm::create(ID, &Form::default().external(ONE).external(TWO), facts)?;
    let host = DeviceHost::new(HostOptions::default())?;
    host.attach(vm.system.system())?;
    let journal = Journal::default();
    announce(&host, ONE, &journal)?;
    let mut other = Playing::start(&Actor::Host {
        system: ID.to_owned(),
        instance: TWO,
        add: false,
    })?;
    other.expect("announced")?;
    signal(other.pid(), Signal::STOP)?;
    let begun = Instant::now();
    let error = vm.system.start().err().ok_or("it started")?;
    let taken = begun.elapsed();
    let text = error.to_string();
    if taken > BOUND
        || error.code() != codes::HCS_E_OPERATION_TIMEOUT
        || !text.contains(&other.pid().to_string())
    {
        return Err(format!("after {taken:?}: {text}").into());
    }
    vm.expect_state(State::Created)?;
    signal(other.pid(), Signal::CONT)?;
    other.kill()?;
    vm.system.terminate()?;
    Ok(format!("given up after {} s: {text}", taken.as_secs()))
}

fn restricted(facts: &Facts) -> Result<String, Failure> {
    let mut vm = Vm::create(
        "fault-restricted",
        &Form::default()
            .external(ONE)
            .with(TWO, hdv_compute::document::HostingModel::ExternalRestricted),
        facts,
    )?;
    let host = DeviceHost::new(HostOptions::default())?;
    host.attach(vm.system.system())?;
    announce(&host, ONE, &Journal::default())?;
    let restricted = Restricted::start(TWO, false, &vm.system)?;
    vm.system.start()?;
    vm.until_waiting()?.expect(2, Change::First)?;
    restricted.process.kill()?;
    vm.until_seen(1, 0)?.expect(1, Change::Gone)?;
    vm.expect_state(State::Running)?;
    vm.say("check")?;
    let told = vm.until_waiting()?;
    if told.outcomes.is_empty() || told.outcomes.iter().any(|outcome| !outcome.ok) {
        return Err(format!("the other device afterwards: {:?}", told.outcomes).into());
    }
    vm.say("off")?;
    vm.end()?;
    Ok("its device went, the other one is well".to_owned())
}

fn documents(facts: &Facts) -> Result<String, Failure> {
    const ID: &str = "documents";
    let mut said = Vec::new();
    let good = Form::default().document(ID, facts);
    let unknown = good.replacen("\"StopOnReset\"", "\"StopOnRest\"", 1);
    let error = ComputeSystem::create(ID, &unknown)
        .err()
        .ok_or("an unknown property was taken")?;
    if error.code() != codes::HCS_E_INVALID_JSON || !error.to_string().contains("StopOnRest") {
        return Err(format!("an unknown property: {error}").into());
    }
    said.push(error.to_string());
    let kernel = facts.kernel.display().to_string();
    for (what, document, names) in [
        (
            "a missing kernel",
            good.replace(&kernel, "/nonexistent/vmlinuz"),
            "KernelFilePath",
        ),
        (
            "too much memory",
            Form {
                memory: 512 << 20,
                ..Form::default()
            }
            .document(ID, facts),
            "SizeInMB",
        ),
    ] {
        let error = match ComputeSystem::create(ID, &document) {
            Err(error) => error,
            Ok(system) => system.start().err().ok_or(format!("{what}: it started"))?,
        };
        let text = error.to_string();
        if !text.contains(names) {
            return Err(format!("{what}: {text}").into());
        }
        said.push(text);
    }
    wait_for("the end of the workers", || {
        remains::files().is_ok_and(|files| files.is_empty())
    })?;
    Ok(said.join("; "))
}
