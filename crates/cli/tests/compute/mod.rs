//! Compute systems as a person has them: from a document to their end.
//!
//! Workers are real. QEMU is where [`running`] needs it; elsewhere a test has its end of the serial port.

mod console;
mod errors;
mod running;
pub(crate) mod terminal;

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{GENEROUS, Place};

/// A place for one test, where workers can be started.
fn place() -> Place {
    let worker = PathBuf::from(env!("CARGO_BIN_EXE_hdv")).with_file_name("openhdv-worker");
    assert!(
        worker.exists(),
        "{} is not there: `cargo build -p openhdv-compute` brings it",
        worker.display()
    );
    Place::new()
}

/// A document of a VM that boots nothing, with these devices.
fn document(devices: &Value) -> Value {
    json!({
        "Owner": "a test",
        "SchemaVersion": { "Major": 2, "Minor": 7 },
        "ShouldTerminateOnLastHandleClosed": true,
        "VirtualMachine": {
            "ComputeTopology": { "Memory": { "SizeInMB": 64 } },
            "Devices": {
                "ComPorts": { "0": { "NamedPipe": r"\\.\pipe\console" } },
                "FlexibleIov": devices,
            },
        },
    })
}

fn write(place: &Place, name: &str, document: &Value) {
    std::fs::write(place.path(name), document.to_string()).unwrap();
}

/// Everything but empty directories that nobody needs to remove.
fn remains(place: &Place) -> Vec<PathBuf> {
    fn look(directory: &std::path::Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            let fixed =
                ["hosts", "systems", "pipes"].map(|name| path.ends_with(format!("openhdv/{name}")));
            if !fixed.contains(&true) {
                found.push(path.clone());
            }
            look(&path, found);
        }
    }
    let mut found = Vec::new();
    look(&place.path("openhdv"), &mut found);
    found
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + GENEROUS;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn one_is_created_listed_shown_and_stopped() {
    let place = place();
    write(&place, "build.json", &document(&json!({})));
    let created = place.json(&["create", "--json", "build.json"]);
    assert_eq!(created["id"], "build");
    // It is there although the handle of its creator is closed.
    let list = place.json(&["ls", "--json"]);
    assert_eq!(list["systems"][0]["id"], "build");
    assert_eq!(list["systems"][0]["state"], "Created");
    assert_eq!(list["systems"][0]["owner"], "a test");
    assert_eq!(list["systems"][0]["runtime_id"], created["runtime_id"]);
    let text = place.stdout(&["ls"]);
    assert!(text.starts_with("VM     STATE"), "{text}");

    let shown = place.json(&["inspect", "--json", "build"]);
    assert_eq!(shown["State"], "Created");
    assert_eq!(shown["Memory"]["SizeInMB"], 64);
    let text = place.stdout(&["inspect", "build"]);
    for part in ["created", "64 MiB", "console      0 on", "no device"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // A second one of the same file gets another id, one that was asked for does not; but not the first one's pipe.
    let error = place.failure(1, &["create", "build.json"]);
    assert!(error.contains("ComPorts/0/NamedPipe"), "{error}");
    let mut other = document(&json!({}));
    other["VirtualMachine"]["Devices"]["ComPorts"]["0"]["NamedPipe"] = r"\\.\pipe\other".into();
    write(&place, "build.json", &other);
    let second = place.json(&["create", "--json", "build.json"]);
    assert_eq!(second["id"], "build-2");
    let error = place.failure(1, &["create", "--id", "build", "build.json"]);
    assert!(error.contains("\"build\" exists already"), "{error}");

    let stopped = place.json(&["stop", "--json", "build"]);
    assert_eq!(stopped["state"], "Stopped");
    // So that a script can go on at once.
    write(&place, "build.json", &document(&json!({})));
    place.stdout(&["create", "--id", "build", "build.json"]);
    for id in ["build", "build-2"] {
        let text = place.stdout(&["stop", "--force", id]);
        assert_eq!(text, format!("{id} has ended\n"));
    }
    wait_for("the end of the workers", || remains(&place).is_empty());
}

#[test]
fn devices_come_and_go_before_the_start() {
    let place = place();
    write(&place, "vm.json", &document(&json!({})));
    place.stdout(&["create", "vm.json"]);
    let device = |name: &str| place.json(&["inspect", "--json", "vm"])["Devices"][name].clone();
    let text = place.stdout(&["plug", "vm", "--device", "sensor,source=sine"]);
    assert!(
        text.starts_with("sensor is configured in vm; it is plugged in when vm starts; instance "),
        "{text}"
    );
    let second = place.json(&["plug", "--json", "vm", "--device", "sensor"]);
    assert_eq!(second["name"], "sensor-2");
    let class = "7f3c8b1e-41a2-4a0e-9d53-5b1c2e90aa01";
    let camera = [
        "plug",
        "vm",
        "--class",
        class,
        "--name",
        "camera",
        "--restricted",
    ];
    place.stdout(&camera);
    assert_eq!(device("camera")["HostingModel"], "ExternalRestricted");
    assert_eq!(device("camera")["EmulatorId"], class);
    assert_eq!(device("sensor")["Status"], "Waiting");

    assert_eq!(
        place.stdout(&["unplug", "vm", "sensor"]),
        "sensor is out of vm\n"
    );
    assert_eq!(device("sensor"), Value::Null);
    // By its instance id as well.
    place.stdout(&["unplug", "vm", second["instance_id"].as_str().unwrap()]);
    assert_eq!(device("sensor-2"), Value::Null);
    place.stdout(&["stop", "vm"]);
}

#[test]
fn what_a_killed_worker_left_is_removed_by_the_next_command() {
    let place = place();
    write(&place, "vm.json", &document(&json!({})));
    for next in [
        &["ls"][..],
        &["devices"],
        &["probe", "none.sock"],
        &["inspect", "vm"],
    ] {
        place.stdout(&["create", "vm.json"]);
        let shown = place.json(&["inspect", "--json", "vm"]);
        let pid = shown["WorkerProcessId"].as_i64().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        wait_for("the end of the worker", || {
            rustix::process::test_kill_process(pid).is_err()
        });
        let left = remains(&place);
        // The port's own socket outside included.
        assert!(
            left.contains(&place.path("openhdv/pipes/console")),
            "{left:?}"
        );
        place.run(next);
        assert_eq!(remains(&place), Vec::<PathBuf>::new(), "{next:?}");
    }
}
