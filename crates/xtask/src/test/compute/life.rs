//! One VM through its life: nine devices at boot, two hosts, pauses, devices that come and go, another process, resets, the power
//! button.

use std::time::{Duration, Instant};

use hdv::{DeviceHost, HostOptions, Uuid};
use hdv_compute::ExitType;
use hdv_compute::document::{DeviceStatus, HostingModel, State};
use hdv_guest::report::{Change, Line};

use super::actor::{Actor, Playing};
use super::checks::Checks;
use super::journal::{Call, Journal, announce};
use super::vm::{Form, PATIENCE, Told, Vm, add, configuration, remove};
use crate::test::Failure;

/// External devices of the document, half of them on each of two hosts.
const EXTERNAL: u128 = 8;
/// What is checked of each sensor in the guest, by registers alone.
const CHECKS: usize = 2;
/// How long the VM stands still.
const PAUSE: Duration = Duration::from_secs(2);
/// What of that the guest's clock may go on: that it does not run at all is not to be told from the way there and back.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

const ID: &str = "life";

const fn instance(number: u128) -> Uuid {
    Uuid::from_u128(0x11fe_0000 + number)
}

/// The VM with what it has in this process.
struct Life {
    vm: Vm,
    hosts: [DeviceHost; 2],
    journals: Vec<Journal>,
}

pub(super) fn run(checks: &mut Checks<'_>) {
    checks.doing("booting a guest with nine devices");
    let mut life = None;
    let facts = checks.facts;
    let booted = checks.check("boot: devices at the first enumeration", || {
        let mut form = Form::default().with(instance(0), HostingModel::Internal);
        for number in 1..=EXTERNAL {
            form = form.external(instance(number));
        }
        let vm = Vm::create(ID, &form, facts)?;
        let hosts = [
            DeviceHost::new(HostOptions::default())?,
            DeviceHost::new(HostOptions::default())?,
        ];
        for host in &hosts {
            host.attach(vm.system.system())?;
        }
        let mut journals = Vec::new();
        for (number, host) in (1..=EXTERNAL).zip(hosts.iter().cycle()) {
            let journal = Journal::default();
            announce(host, instance(number), &journal)?;
            journals.push(journal);
        }
        let life = life.insert(Life {
            vm,
            hosts,
            journals,
        });
        life.vm.expect_state(State::Created)?;
        life.vm.system.start()?;
        life.vm.expect_state(State::Running)?;
        let told = life.vm.until_waiting()?;
        at_boot(&told)
    });
    let Some(life) = life.as_mut().filter(|_| booted) else {
        return;
    };
    checks.check("boot: order of the calls", || order(&life.journals));
    checks.check("pause and resume", || pause(life));
    let plugged = checks.check("add while it runs", || plug(life));
    if plugged {
        checks.check("add while it is paused", || plug_paused(life));
    }
    checks.check("guest reset", || reset(life));
    checks.check("remove, and add in the same place", || replug(life));
    checks.check("add from another process, which then dies", || {
        other_process(life)
    });
    checks.check("power button", || button(life));
    stop_on_reset(checks);
}

fn at_boot(told: &Told) -> Result<String, Failure> {
    let count = usize::try_from(EXTERNAL + 1)?;
    told.expect(count, Change::First)?;
    let times: Vec<_> = told
        .seen
        .iter()
        .filter_map(|seen| seen.enumerated_us)
        .collect();
    if times.len() != count || !times.is_sorted() {
        return Err(format!("the kernel found them at {times:?} us").into());
    }
    Ok(format!(
        "{count} found in the kernel's first look through the buses, {} ms after it began; {} checks passed",
        times.last().unwrap_or(&0) / 1000,
        told.outcomes.len()
    ))
}

fn begun() -> [Call; 3] {
    [
        Call::Initialize,
        Call::Configure(configuration(HostingModel::External)),
        Call::Start,
    ]
}

fn order(journals: &[Journal]) -> Result<String, Failure> {
    for (number, journal) in (1..).zip(journals) {
        let all = journal.all();
        let life = journal.life();
        let access = all.iter().position(|call| *call == Call::Access);
        let start = all.iter().position(|call| *call == Call::Start);
        if life != begun() || access.is_none() || start > access {
            return Err(format!("device {number} saw {all:?}").into());
        }
    }
    Ok(format!(
        "{} devices saw Initialize, SetConfiguration, Start, then accesses",
        journals.len()
    ))
}

/// Fails unless the life of every device went on so.
fn went_on(journals: &[Journal], before: &[Vec<Call>], more: &[Call]) -> Result<(), Failure> {
    for ((number, journal), before) in (1..).zip(journals).zip(before) {
        let life = journal.life();
        if life.strip_prefix(before.as_slice()) != Some(more) {
            return Err(format!(
                "device {number} saw {life:?}, expected {more:?} after {before:?}"
            )
            .into());
        }
    }
    Ok(())
}

fn lives(journals: &[Journal]) -> Vec<Vec<Call>> {
    journals.iter().map(Journal::life).collect()
}

fn pause(life: &mut Life) -> Result<String, Failure> {
    let before = lives(&life.journals);
    let (clock, begin) = (life.vm.clock()?, Instant::now());
    life.vm.system.pause()?;
    life.vm.expect_state(State::Paused)?;
    went_on(&life.journals, &before, &[Call::Stop])?;
    // What is told the guest now it hears afterwards.
    life.vm.say("clock")?;
    let silent = life.vm.line("nothing", PAUSE, Some).is_err();
    life.vm.system.resume()?;
    life.vm.expect_state(State::Running)?;
    went_on(&life.journals, &before, &[Call::Stop, Call::Start])?;
    let after = life
        .vm
        .line("the guest's clock", PATIENCE, |line| match line {
            Line::Clock { clock_us } => Some(clock_us),
            _ => None,
        })?;
    let (guest, host) = (
        Duration::from_micros(after.saturating_sub(clock)),
        begin.elapsed(),
    );
    let stood = host.saturating_sub(guest);
    if !silent || stood + CLOCK_SLACK < PAUSE {
        return Err(format!(
            "in {host:?} with a pause of {PAUSE:?} the guest's clock went on by {guest:?}; silent: {silent}"
        )
        .into());
    }
    Ok(format!(
        "Stop and Start for each device; in {} ms the guest's clock went on by {} ms",
        host.as_millis(),
        guest.as_millis()
    ))
}

/// Has a host of this process announce a further device.
fn further(life: &mut Life, number: u128) -> Result<Journal, Failure> {
    let journal = Journal::default();
    announce(&life.hosts[0], instance(number), &journal)?;
    life.journals.push(journal.clone());
    Ok(journal)
}

fn plug(life: &mut Life) -> Result<String, Failure> {
    let journal = further(life, EXTERNAL + 1)?;
    let begin = Instant::now();
    life.vm
        .system
        .modify(&add(instance(EXTERNAL + 1), HostingModel::External))?;
    let returned = begin.elapsed();
    if journal.life() != begun() {
        return Err(format!("when the Add returned it had seen {:?}", journal.all()).into());
    }
    let told = life.vm.until_seen(1, CHECKS)?;
    let seen = begin.elapsed();
    told.expect(1, Change::Later)?;
    Ok(format!(
        "returned after {} ms, started; in use by the guest after {} ms",
        returned.as_millis(),
        seen.as_millis()
    ))
}

fn plug_paused(life: &mut Life) -> Result<String, Failure> {
    life.vm.system.pause()?;
    let journal = further(life, EXTERNAL + 2)?;
    life.vm
        .system
        .modify(&add(instance(EXTERNAL + 2), HostingModel::External))?;
    life.vm.expect_state(State::Paused)?;
    let paused = journal.life();
    life.vm.system.resume()?;
    let resumed = journal.life();
    if paused != begun() || resumed != begun() {
        return Err(format!("it saw {paused:?}, and {resumed:?} once resumed").into());
    }
    life.vm.until_seen(1, CHECKS)?.expect(1, Change::Later)?;
    Ok(
        "started by the Add, not again by the resume; the guest found it when it went on"
            .to_owned(),
    )
}

fn other_process(life: &mut Life) -> Result<String, Failure> {
    let instance = instance(EXTERNAL + 3);
    let mut other = Playing::start(&Actor::Host {
        system: ID.to_owned(),
        instance,
        add: true,
    })?;
    other.expect("plugged")?;
    life.vm.until_seen(1, CHECKS)?.expect(1, Change::Later)?;
    let devices = life.vm.system.properties()?.devices;
    let device = devices
        .get(&instance.to_string())
        .ok_or("it is not among the devices")?;
    if device.process_id != Some(other.pid()) || device.status != DeviceStatus::Attached {
        return Err(format!("the worker tells {device:?}").into());
    }
    other.kill()?;
    life.vm.until_seen(1, 0)?.expect(1, Change::Gone)?;
    life.vm.expect_state(State::Running)?;
    Ok("it opened the VM by its id and plugged its device in; killed, its device went".to_owned())
}

fn reset(life: &mut Life) -> Result<String, Failure> {
    let before = lives(&life.journals);
    let resets = |journals: &[Journal]| -> usize {
        let counts = journals.iter().map(|journal| journal.count(&Call::Reset));
        counts.sum()
    };
    let had = resets(&life.journals);
    life.vm.say("reboot")?;
    let told = life.vm.until_waiting()?;
    told.expect(life.journals.len() + 1, Change::First)?;
    life.vm.expect_state(State::Running)?;
    went_on(&life.journals, &before, &[])?;
    let now = resets(&life.journals);
    if now < had + life.journals.len() {
        return Err(format!("{now} resets were seen, {had} before").into());
    }
    Ok(format!(
        "it booted again with {} devices, each reset",
        told.seen.len()
    ))
}

fn replug(life: &mut Life) -> Result<String, Failure> {
    let instance = instance(1);
    let begin = Instant::now();
    life.vm.system.modify(&remove(instance))?;
    let let_go = begin.elapsed();
    let journal = life.journals.remove(0);
    let ended = [&begun()[..], &[Call::Stop, Call::Start, Call::Stop]].concat();
    let seen = journal.life();
    if journal.count(&Call::Teardown) != 1 || seen.last() != Some(&Call::Teardown) {
        return Err(format!(
            "the removed device saw {seen:?}, expected {ended:?} to begin with, and Teardown last"
        )
        .into());
    }
    let gone = life.vm.until_seen(1, 0)?;
    gone.expect(1, Change::Gone)?;
    let devices = life.vm.system.properties()?.devices;
    if devices.contains_key(&instance.to_string()) {
        return Err(format!("it is still among the devices: {devices:?}").into());
    }
    let journal = Journal::default();
    announce(&life.hosts[0], instance, &journal)?;
    life.journals.push(journal);
    life.vm
        .system
        .modify(&add(instance, HostingModel::External))?;
    let told = life.vm.until_seen(1, CHECKS)?;
    told.expect(1, Change::Later)?;
    let place = |told: &Told| told.seen.first().map(|seen| seen.address.clone());
    if place(&told) != place(&gone) {
        return Err(format!("it was at {:?} and is at {:?}", place(&gone), place(&told)).into());
    }
    Ok(format!(
        "the guest let go after {} ms; the next one came to the same place",
        let_go.as_millis()
    ))
}

fn button(life: &mut Life) -> Result<String, Failure> {
    let before = lives(&life.journals);
    life.vm.system.shut_down()?;
    life.vm.line("the power button", PATIENCE, |line| {
        matches!(line, Line::PowerButton { .. }).then_some(())
    })?;
    let exit = life.vm.end()?;
    if exit.exit_type != ExitType::GracefulExit || exit.status != 0 {
        return Err(format!("it ended so: {exit:?}").into());
    }
    life.vm.expect_state(State::Stopped)?;
    went_on(&life.journals, &before, &[Call::Stop, Call::Teardown])?;
    Ok("the guest saw it and powered off; Stop and Teardown for each device".to_owned())
}

fn stop_on_reset(checks: &mut Checks<'_>) {
    let facts = checks.facts;
    checks.check("guest reset that stops", || {
        let form = Form {
            stop_on_reset: true,
            ..Form::default()
        };
        let mut vm = Vm::create("stop-on-reset", &form.external(instance(1)), facts)?;
        let host = DeviceHost::new(HostOptions::default())?;
        host.attach(vm.system.system())?;
        let journal = Journal::default();
        announce(&host, instance(1), &journal)?;
        vm.system.start()?;
        vm.until_waiting()?.expect(1, Change::First)?;
        vm.say("reboot")?;
        let exit = vm.end()?;
        let life = journal.life();
        let expected = [&begun()[..], &[Call::Stop, Call::Teardown]].concat();
        if exit.exit_type != ExitType::GracefulExit || life != expected {
            return Err(format!("it ended so: {exit:?}; its device saw {life:?}").into());
        }
        Ok("the VM ended; its device was stopped and torn down".to_owned())
    });
}
