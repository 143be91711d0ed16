//! VMs that outlive the processes of their devices, which end at any time: while the firmware runs, in the middle of accesses of a
//! guest that does nothing else, after the guest has let go. What would end QEMU is the next change of its memory, so the
//! guest boots again each time.

use std::process::Command;
use std::time::{Duration, Instant};

use hdv::{DeviceHost, HostOptions, Uuid};
use hdv_compute::ComputeSystem;
use hdv_compute::document::State;
use hdv_guest::report::{Change, Line};
use serde_json::Value;

use super::actor::{Actor, Playing};
use super::checks::Checks;
use super::facts::Facts;
use super::journal::{Journal, announce};
use super::remains::wait_for;
use super::vm::{Form, PATIENCE, Vm, remove};
use crate::test::Failure;

/// The device that stays, of this process.
const OURS: Uuid = Uuid::from_u128(1);
/// How many processes are killed in the middle of accesses.
const KILLS: u128 = 4;
/// What is checked of each sensor in the guest, by registers alone.
const CHECKS: usize = 2;

const ID: &str = "outlive";

const fn instance(number: u128) -> Uuid {
    Uuid::from_u128(0x0e_0000 + number)
}

/// A VM with a device of this process, whose guest waits.
struct Outliving {
    vm: Vm,
    _host: DeviceHost,
    qemu: u32,
}

pub(super) fn run(checks: &mut Checks<'_>) {
    checks.doing("ending processes of devices under a VM");
    let facts = checks.facts;
    checks.check("device hosts killed under the firmware", || firmware(facts));
    let mut outliving = None;
    checks.check("device host that exits after its device went", || {
        let outliving = outliving.insert(Outliving::start(facts)?);
        let other = outliving.unplugged(instance(1))?;
        let status = other.end()?;
        if !status.success() {
            return Err(format!("the device host: {status}").into());
        }
        outliving.boots_again()
    });
    checks.check("device host killed after its device went", || {
        let outliving = outliving.as_mut().ok_or("the VM is gone")?;
        outliving.unplugged(instance(2))?.kill()?;
        outliving.boots_again()
    });
    checks.check(
        "device hosts killed while the guest reads registers",
        || {
            let outliving = outliving.as_mut().ok_or("the VM is gone")?;
            let seen = outliving.killed_in_accesses(facts)?;
            let booted = outliving.boots_again()?;
            Ok(format!("{seen}; {booted}"))
        },
    );
    if let Some(outliving) = outliving {
        // It has ended by itself if a check has failed.
        let _ = outliving.vm.system.terminate();
    }
}

/// A host of another process, which has announced a device.
fn other(system: &str, instance: Uuid, add: bool) -> Result<Playing, Failure> {
    let mut other = Playing::start(&Actor::Host {
        system: system.to_owned(),
        instance,
        add,
    })?;
    other.expect(if add { "plugged" } else { "announced" })?;
    Ok(other)
}

/// How often the guest has read registers of a device, as `hdv ls` tells.
fn bar_reads(instance: Uuid, facts: &Facts) -> Result<u64, Failure> {
    let mut command = Command::new(facts.hdv());
    command.args(["ls", "--json"]);
    let listed: Value = serde_json::from_str(&super::succeed(command, "hdv ls")?)?;
    let hosts = listed["hosts"].as_array().into_iter().flatten();
    let mut devices = hosts.flat_map(|host| host["devices"].as_array().into_iter().flatten());
    let wanted = instance.to_string();
    let device = devices.find(|device| device["instance_id"] == wanted.as_str());
    let reads = device.and_then(|device| device["client"]["bar_reads"].as_u64());
    reads.ok_or_else(|| format!("hdv ls does not know {instance}: {listed}").into())
}

fn vmm(system: &ComputeSystem) -> Result<u32, Failure> {
    let pid = system.properties()?.vmm_process_id;
    pid.ok_or_else(|| "QEMU is gone".into())
}

fn firmware(facts: &Facts) -> Result<String, Failure> {
    const ID: &str = "outlive-firmware";
    let doomed: Vec<Uuid> = (1..=KILLS).map(instance).collect();
    let form = Form::default().external(OURS);
    let form = doomed.iter().fold(form, |form, one| form.external(*one));
    let mut vm = Vm::create(ID, &form, facts)?;
    let host = DeviceHost::new(HostOptions::default())?;
    host.attach(vm.system.system())?;
    announce(&host, OURS, &Journal::default())?;
    let others = doomed
        .iter()
        .map(|one| other(ID, *one, false))
        .collect::<Result<Vec<_>, _>>()?;
    vm.system.start()?;
    let qemu = vmm(&vm.system)?;
    for other in others {
        other.kill()?;
    }
    for _ in 0..2 {
        let told = vm.until_waiting()?;
        let is_fine = told.outcomes.iter().all(|outcome| outcome.ok);
        if !is_fine || told.outcomes.len() < CHECKS {
            return Err(format!("the device that is left: {:?}", told.outcomes).into());
        }
        if vmm(&vm.system)? != qemu {
            return Err("it is another QEMU".into());
        }
        vm.say("reboot")?;
    }
    vm.expect_state(State::Running)?;
    vm.system.terminate()?;
    Ok(format!(
        "{KILLS} processes; the guest booted twice with the device of another one"
    ))
}

impl Outliving {
    fn start(facts: &Facts) -> Result<Self, Failure> {
        let mut vm = Vm::create(ID, &Form::default().external(OURS), facts)?;
        let host = DeviceHost::new(HostOptions::default())?;
        host.attach(vm.system.system())?;
        announce(&host, OURS, &Journal::default())?;
        vm.system.start()?;
        vm.until_waiting()?.expect(1, Change::First)?;
        let qemu = vmm(&vm.system)?;
        Ok(Self {
            vm,
            _host: host,
            qemu,
        })
    }

    /// A process whose device was in the guest.
    fn unplugged(&mut self, instance: Uuid) -> Result<Playing, Failure> {
        let other = other(ID, instance, true)?;
        let came = self.vm.until_seen(1, CHECKS)?;
        came.expect(1, Change::Later)?;
        self.vm.system.modify(&remove(instance))?;
        self.vm.until_seen(1, 0)?.expect(1, Change::Gone)?;
        Ok(other)
    }

    /// What came of those whose processes were killed.
    fn killed_in_accesses(&mut self, facts: &Facts) -> Result<String, Failure> {
        let (mut reads, mut longest) = (Vec::new(), Duration::ZERO);
        for number in 0..KILLS {
            let instance = instance(10 + number);
            let other = other(ID, instance, true)?;
            let came = self.vm.until_seen(1, CHECKS)?;
            came.expect(1, Change::Later)?;
            self.vm.say("poll")?;
            self.vm.line("the guest's reading", PATIENCE, |line| {
                matches!(line, Line::Polling { devices: 2 }).then_some(())
            })?;
            // Not while it says so.
            let had = bar_reads(instance, facts)?;
            wait_for("the guest's further reading", || {
                bar_reads(instance, facts).is_ok_and(|reads| reads > had)
            })?;
            other.kill()?;
            let begun = Instant::now();
            let polled = self.vm.line("the end of the reading", PATIENCE, |line| {
                let Line::Polled { value, reads, .. } = line else {
                    return None;
                };
                Some((value, reads))
            })?;
            longest = longest.max(begun.elapsed());
            if polled.0 != u32::MAX {
                return Err(format!("the guest read {:#x}", polled.0).into());
            }
            reads.push(polled.1);
            self.vm.until_seen(1, 0)?.expect(1, Change::Gone)?;
        }
        Ok(format!(
            "{KILLS} of them, after {reads:?} reads; the guest knew within {} ms",
            longest.as_millis()
        ))
    }

    fn boots_again(&mut self) -> Result<String, Failure> {
        self.vm.say("reboot")?;
        self.vm.until_waiting()?.expect(1, Change::First)?;
        self.vm.expect_state(State::Running)?;
        if vmm(&self.vm.system)? != self.qemu {
            return Err("it is another QEMU".into());
        }
        Ok("the guest booted again in the same QEMU".to_owned())
    }
}
