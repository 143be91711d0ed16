//! VMs that run, in a real QEMU. They boot nothing: there are real guests in the test command's own step.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::{Value, json};

use super::terminal::OnTerminal;
use super::{document, place, remains, wait_for, write};
use crate::support::{Place, wait_within};

const SENSOR: &str = "56d8cf71-cd20-4ec6-a304-4509928b46ff";

/// A running `hdv run --json`, killed when dropped.
struct Run {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Run {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut command = place.command(&["run", "--json"]);
        let child = command.args(arguments).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(
            !line.is_empty(),
            "it has ended: is QEMU there (`hdv doctor`)?"
        );
        serde_json::from_str(&line).unwrap()
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(&mut self) -> Option<i32> {
        wait_within(&mut self.child).code()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn device(place: &Place, id: &str, name: &str) -> Value {
    place.json(&["inspect", "--json", id])["Devices"][name].clone()
}

#[test]
fn a_vm_runs_with_its_devices_and_gets_more() {
    let place = place();
    let own = json!({ "thermometer": {
        "EmulatorId": SENSOR, "HostingModel": "Internal", "Configuration": ["source=sine"],
    }});
    write(&place, "vm.json", &document(&own));
    let mut run = Run::start(&place, &["--device", "sensor,source=sine", "vm.json"]);
    let started = run.line();
    assert_eq!(started["started"]["Id"], "vm");
    assert_eq!(started["started"]["State"], "Running");
    for name in ["thermometer", "sensor"] {
        assert_eq!(device(&place, "vm", name)["Status"], "Attached", "{name}");
    }
    // The process that has them is found as any device host.
    let list = place.json(&["ls", "--json"]);
    assert_eq!(list["systems"][0]["state"], "Running");
    assert_eq!(list["hosts"][0]["process"], "openhdv-devices");
    let devices = list["hosts"][0]["devices"].as_array().unwrap();
    let mut keys = Vec::new();
    for device in devices {
        assert_eq!(device["system"], "vm", "{list}");
        keys.push(device["key"].as_str().unwrap());
    }
    keys.sort_unstable();
    assert_eq!(keys, ["sensor", "thermometer"]);

    let plugged = place.json(&["plug", "--json", "vm", "--device", "sensor,source=sine"]);
    assert_eq!(plugged["name"], "sensor-2");
    assert_eq!(plugged["class_id"], SENSOR);
    let shown = device(&place, "vm", "sensor-2");
    assert_eq!(shown["Status"], "Attached");
    assert_eq!(shown["InstanceId"], plugged["instance_id"]);
    let text = place.stdout(&["inspect", "vm"]);
    for part in ["sensor-2", "plugged in", "(openhdv-devices)", "accelerator"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    for (arguments, part) in [
        (
            &["--device", "sensor", "--config", "source=moon"][..],
            "source=moon",
        ),
        (&["--device", "sensor", "--config", "sine"], "\"sine\""),
        (&["--device", "sriov-sensor"], "physical function"),
        (
            &["--device", "sensor", "--name", "thermometer"],
            "\"thermometer\"",
        ),
        (
            &[
                "--class",
                "7f3c8b1e-41a2-4a0e-9d53-5b1c2e90aa01",
                "--name",
                "camera",
            ],
            "camera",
        ),
    ] {
        let error = place.failure(1, &[&["plug", "vm"][..], arguments].concat());
        assert!(error.contains(part), "{arguments:?}: {error}");
    }

    assert_eq!(place.stdout(&["pause", "vm"]), "vm is paused\n");
    assert_eq!(
        place.json(&["ls", "--json"])["systems"][0]["state"],
        "Paused"
    );
    assert_eq!(place.stdout(&["resume", "vm"]), "vm runs again\n");

    // Nobody listens to the power button.
    let error = place.failure(1, &["stop", "--timeout", "0", "vm"]);
    assert!(error.contains("hdv stop --force vm"), "{error}");

    run.send(Signal::TERM);
    let exit = run.line();
    assert_eq!(exit["exit"]["ExitType"], "ForcedExit");
    assert_eq!(run.end(), Some(143));
    wait_for("the end of the worker", || remains(&place).is_empty());
}

#[test]
fn a_vm_ends_with_its_command_however_that_ends() {
    let place = place();
    write(&place, "vm.json", &document(&json!({})));
    for signal in [Signal::INT, Signal::KILL] {
        let mut run = Run::start(&place, &["vm.json"]);
        run.line();
        run.send(signal);
        let code = run.end();
        assert_eq!(code, (signal == Signal::INT).then_some(130));
        wait_for("the end of the worker", || remains(&place).is_empty());
    }
}

#[test]
fn a_vm_that_somebody_ends_is_a_failure_of_its_command() {
    let place = place();
    write(&place, "vm.json", &document(&json!({})));
    let mut command = place.command(&["run", "vm.json"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    wait_for("a running VM", || {
        place.json(&["ls", "--json"])["systems"][0]["state"] == "Running"
    });
    place.stdout(&["stop", "--force", "vm"]);
    assert_eq!(wait_within(&mut child).code(), Some(1));
    let mut error = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut error)
        .unwrap();
    assert!(error.contains("the VM was terminated"), "{error}");
    wait_for("the end of the worker", || remains(&place).is_empty());
}

#[test]
fn leaving_ends_the_vm_unless_it_is_to_be_kept() {
    let place = place();
    write(&place, "vm.json", &document(&json!({})));
    let mut terminal = OnTerminal::start(place.command(&["run", "vm.json"]));
    terminal.shows("Ctrl-]");
    wait_for("raw mode", || terminal.is_raw());
    terminal.types(b"\x1d");
    assert!(terminal.end().success());
    wait_for("the end of the worker", || remains(&place).is_empty());

    let mut terminal = OnTerminal::start(place.command(&["run", "--keep", "--id", "k", "vm.json"]));
    terminal.shows("Ctrl-]");
    wait_for("raw mode", || terminal.is_raw());
    terminal.types(b"\x1d");
    terminal.shows("hdv console k");
    assert!(terminal.end().success());
    assert_eq!(place.json(&["inspect", "--json", "k"])["State"], "Running");
    let mut terminal = OnTerminal::start(place.command(&["console", "k"]));
    terminal.shows("Ctrl-]");
    place.stdout(&["stop", "--force", "k"]);
    assert!(terminal.end().success());
    wait_for("the end of the worker", || remains(&place).is_empty());
}

#[test]
fn ctrl_z_stops_a_command_that_ends_its_vm() {
    let place = place();
    write(&place, "vm.json", &document(&json!({})));
    let mut terminal = OnTerminal::start(place.command(&["run", "vm.json"]));
    terminal.shows("Ctrl-]");
    wait_for("raw mode", || terminal.is_raw());
    let worker = place.json(&["inspect", "--json", "vm"])["WorkerProcessId"].as_i64();
    let worker = Pid::from_raw(i32::try_from(worker.unwrap()).unwrap()).unwrap();
    // It does not end while its worker is stopped.
    kill_process(worker, Signal::STOP).unwrap();
    terminal.types(b"\x1d");
    wait_for("the terminal's mode", || !terminal.is_raw());
    terminal.send(Signal::TSTP);
    let options = WaitOptions::UNTRACED | WaitOptions::NOHANG;
    wait_for("a stopped command", || {
        let change = waitpid(Some(terminal.pid()), options).unwrap();
        change.is_some_and(|(_, status)| status.stopped())
    });
    kill_process(worker, Signal::CONT).unwrap();
    terminal.send(Signal::CONT);
    assert!(terminal.end().success());
    wait_for("the end of the worker", || remains(&place).is_empty());
}

#[test]
fn a_kept_vm_goes_on_after_signals() {
    let place = place();
    write(&place, "vm.json", &document(&json!({})));
    for signal in [Signal::INT, Signal::TERM] {
        let mut run = Run::start(&place, &["--keep", "--id", "kept", "vm.json"]);
        assert_eq!(run.line()["started"]["State"], "Running");
        run.send(signal);
        assert_eq!(run.end(), Some(128 + signal.as_raw()));
        let shown = place.json(&["inspect", "--json", "kept"]);
        assert_eq!(shown["State"], "Running", "{signal:?}");
        place.stdout(&["stop", "--force", "kept"]);
        wait_for("the end of the worker", || remains(&place).is_empty());
    }
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let place = place();
    let nobody = json!({ "camera": {
        "EmulatorId": "7f3c8b1e-41a2-4a0e-9d53-5b1c2e90aa01", "HostingModel": "External",
    }});
    write(&place, "vm.json", &document(&nobody));
    let error = place.failure(1, &["run", "vm.json"]);
    assert!(error.contains("camera"), "{error}");
    let wrong = json!({ "sensor": { "EmulatorId": SENSOR, "Configuration": ["source=moon"] } });
    write(&place, "wrong.json", &document(&wrong));
    let error = place.failure(1, &["run", "wrong.json"]);
    assert!(error.contains("source=moon"), "{error}");
    wait_for("the end of the workers", || remains(&place).is_empty());
    assert_eq!(remains(&place), Vec::<PathBuf>::new());
}
