//! Many VMs one after another: nothing grows in the process that makes them.

use std::fs;

use hdv::{DeviceHost, HostOptions, Uuid};
use hdv_compute::{ComputeSystem, ExitType};

use super::checks::Checks;
use super::journal::{Call, Journal, announce};
use super::remains;
use super::vm::Form;
use crate::test::Failure;

const ID: &str = "lifetime";

/// VMs until everything that is made once has been made.
const FIRST: u32 = 5;
/// What memory may grow by, in KiB for each VM: less than anything that is kept of one.
const GROWTH_KIB: u64 = 4;
/// And once, whatever the number of VMs: what an allocator keeps varies.
const SLACK_KIB: u64 = 1024;

pub(super) fn run(checks: &mut Checks<'_>) {
    let facts = checks.facts;
    checks.doing("making VMs one after another");
    checks.check("lifetimes", || {
        let form = Form {
            kernel: false,
            memory: 64,
            ..Form::default()
        }
        .external(Uuid::from_u128(1));
        let document = form.document(ID, facts);
        let mut before = (0, 0);
        for number in 0..FIRST + facts.lifetimes {
            if number == FIRST {
                before = now()?;
            }
            once(&document)?;
        }
        // Threads of connections that have ended close theirs in a moment.
        let settled = remains::wait_for("the end of the connections", || {
            now().is_ok_and(|(_, descriptors)| descriptors <= before.1)
        });
        let after = now()?;
        let count = u64::from(facts.lifetimes);
        let seen = format!(
            "{count} VMs; resident memory {} KiB before, {} KiB after, descriptors {} and {}",
            before.0, after.0, before.1, after.1
        );
        if after.0 > before.0 + SLACK_KIB + GROWTH_KIB * count || settled.is_err() {
            return Err(seen.into());
        }
        Ok(seen)
    });
    checks.check("nothing left", || {
        remains::wait_for("the end of all workers", || {
            remains::files().is_ok_and(|files| files.is_empty())
        })?;
        Ok("no file in the runtime directory; processes are looked for at the end".to_owned())
    });
}

/// One VM from create to its worker's end.
fn once(document: &str) -> Result<(), Failure> {
    let system = ComputeSystem::create(ID, document)?;
    let host = DeviceHost::new(HostOptions::default())?;
    host.attach(system.system())?;
    let journal = Journal::default();
    announce(&host, Uuid::from_u128(1), &journal)?;
    system.start()?;
    let worker = system.properties()?.worker_process_id;
    system.terminate()?;
    let exit = system.wait_for_exit(super::vm::PATIENCE);
    if exit.map(|exit| exit.exit_type) != Some(ExitType::ForcedExit) {
        return Err("it did not end by its termination".into());
    }
    if journal.life().last() != Some(&Call::Teardown) {
        return Err(format!("its device saw {:?}", journal.life()).into());
    }
    drop(system);
    host.close()?;
    remains::wait_for("the worker's end", || !remains::lives(worker))
}

/// Resident memory in KiB and the number of open descriptors.
fn now() -> Result<(u64, usize), Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .ok_or("no VmRSS")?
        .parse()?;
    Ok((resident, fs::read_dir("/proc/self/fd")?.count()))
}
