//! From create to running processors, in turns with the same QEMU started by hand; and what the worker takes.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hdv_compute::ComputeSystem;
use hdv_compute::document::State;
use hdv_qemu::qmp::Qmp;
use serde_json::Value;

use super::{id, prepare};
use crate::bench::contest::{Contest, Effort};
use crate::bench::error::{BenchError, During};
use crate::bench::process::Memory;
use crate::bench::report::{Section, Unit};
use crate::test::Form;

/// Each turn takes about a second.
const ROUNDS: u32 = 15;
/// What a compute system may take longer, in nanoseconds.
const TARGET: f64 = 300e6;
/// Bytes that a worker may take beside QEMU.
const MEMORY_TARGET: f64 = 10.0 * 1024.0 * 1024.0;
/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

const SYSTEM: &str = "compute system, create to running";
const BY_HAND: &str = "the same QEMU by hand, start to running";
const BY_HAND_AGAIN: &str = "the same QEMU by hand, again";

/// Measures both in turns, then the worker's memory.
pub(in crate::bench) fn measure(effort: Effort) -> Result<Vec<Section>, BenchError> {
    let parts = prepare()?;
    let id = id("starting");
    let document = without_ports(&Form::default().document(&id, &parts.facts))?;
    let directory = tempfile::Builder::new()
        .prefix("openhdv-bench-")
        .tempdir()
        .during("making a directory for a QEMU by hand")?;
    let (command, memory) = look(&id, &document, directory.path())?;
    let effort = Effort {
        rounds: effort.rounds.min(ROUNDS),
        ..effort
    };
    let mut contest = Contest::new();
    contest.add(SYSTEM, || system(&id, &document));
    for name in [BY_HAND, BY_HAND_AGAIN] {
        contest.add(name, || by_hand(&command, directory.path()));
    }
    let results = contest.run(effort)?;
    let more = results.median(SYSTEM) - results.median(BY_HAND);
    let mut start = Section::new("start of a VM with a kernel, no device", Unit::Nanoseconds);
    start
        .row(&results, BY_HAND)
        .compare(&results, BY_HAND_AGAIN, &[(BY_HAND, None)])
        .compare(&results, SYSTEM, &[(BY_HAND, None)])
        .value("what the compute system takes longer", more, Some(TARGET));
    let mut worker = Section::new("memory of the worker of a running VM", Unit::Bytes);
    worker
        .value("resident (RSS)", memory.resident, Some(MEMORY_TARGET))
        .value("proportional (PSS)", memory.proportional, None)
        .value("kernel stacks and page tables", memory.kernel, None);
    Ok(vec![start, worker])
}

/// A document without serial ports: a QEMU by hand has nobody to connect them to.
fn without_ports(document: &str) -> Result<String, BenchError> {
    let mut document: Value =
        serde_json::from_str(document).during("reading the document of a VM")?;
    document["VirtualMachine"]["Devices"]["ComPorts"] = serde_json::json!({});
    Ok(document.to_string())
}

/// Starts one to see QEMU's command line, but for the directory in it, which is `directory` in its place; and the worker's memory.
fn look(id: &str, document: &str, directory: &Path) -> Result<(Vec<OsString>, Memory), BenchError> {
    const DOING: &str = "looking at QEMU's command line";
    let system = ComputeSystem::create(id, document).during(DOING)?;
    system.start().during(DOING)?;
    let properties = system.properties().during(DOING)?;
    let vmm = properties
        .vmm_process_id
        .ok_or_else(|| BenchError::new(DOING, "there is no QEMU"))?;
    let line = fs::read(format!("/proc/{vmm}/cmdline")).during(DOING)?;
    let memory = Memory::of(properties.worker_process_id)?;
    end(system)?;
    let summary = |text: &str| -> String {
        // The worker's directory: what is before the name of its QMP socket.
        match text.split_once("path=") {
            Some((head, rest)) if text.contains("id=qmp") => {
                let options = rest.split_once(',').map_or("", |(_, options)| options);
                format!("{head}path={},{options}", directory.join("qmp").display())
            }
            _ => text.to_owned(),
        }
    };
    let arguments = line
        .split(|byte| *byte == 0)
        .filter(|argument| !argument.is_empty());
    let command = arguments
        .map(|argument| match std::str::from_utf8(argument) {
            Ok(text) => summary(text).into(),
            Err(_) => OsString::from_vec(argument.to_vec()),
        })
        .collect();
    Ok((command, memory))
}

/// Nanoseconds from create until the processors run.
fn system(id: &str, document: &str) -> Result<f64, BenchError> {
    let begun = Instant::now();
    let system = ComputeSystem::create(id, document).during("creating a VM")?;
    system.start().during("starting it")?;
    let taken = begun.elapsed();
    let state = system.properties().during("looking at it")?.state;
    if state != State::Running {
        return Err(BenchError::new("starting it", format!("it is {state:?}")));
    }
    end(system)?;
    Ok(taken.as_secs_f64() * 1e9)
}

/// Ends a VM and waits until its id is free.
fn end(system: ComputeSystem) -> Result<(), BenchError> {
    let id = system.id().to_owned();
    system.terminate().during("ending a VM")?;
    drop(system);
    let deadline = Instant::now() + PATIENCE;
    while ComputeSystem::open(&id).is_ok() {
        if Instant::now() > deadline {
            return Err(BenchError::new("ending a VM", "its worker does not end"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Nanoseconds from the start of QEMU until its processors run.
fn by_hand(command: &[OsString], directory: &Path) -> Result<f64, BenchError> {
    const DOING: &str = "starting QEMU by hand";
    let socket = directory.join("qmp");
    // None is left of the one before if it removed it.
    let _ = fs::remove_file(&socket);
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| BenchError::new(DOING, "its command line is empty"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let begun = Instant::now();
    let mut child = hdv_qemu::child::spawn(command).during(DOING)?;
    let run = || -> hdv_qemu::Result<Qmp> {
        let mut qmp = Qmp::connect(&socket, PATIENCE)?;
        qmp.execute("cont", Value::Null)?;
        Ok(qmp)
    };
    let running = run();
    let taken = begun.elapsed();
    // Both fail only if it has ended, and then it did not run.
    let _ = child.kill();
    let _ = child.wait();
    running.during(DOING)?;
    Ok(taken.as_secs_f64() * 1e9)
}
