//! A VMM that is none: the worker takes it for QEMU, and its devices are left to clients of ours.
//!
//! It says that it is QEMU, listens for QMP where it is told to, and answers every command with nothing.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::test::Failure;

/// In its arguments: where it listens.
const MONITOR: &str = "socket,id=qmp,path=";
/// What it calls itself.
const VERSION: &str = "QEMU emulator version 11.1.0";
/// The devices that it says it has.
const DEVICES: &str = "name \"vfio-user-pci\", bus PCI";

/// A program in `directory` that is this one in that part.
pub(super) fn program(directory: &Path) -> Result<PathBuf, Failure> {
    let path = directory.join("vmm");
    let this = std::env::current_exe()?;
    let text = format!(
        "#!/bin/sh\nexec '{}' compute-actor vmm -- \"$@\"\n",
        this.display()
    );
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
    Ok(path)
}

/// The part itself.
pub(super) fn run(arguments: &[String]) -> Result<(), Failure> {
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    if has("--version") {
        println!("{VERSION}");
        return Ok(());
    }
    if has("help") {
        println!("{DEVICES}");
        return Ok(());
    }
    if has("kvm") {
        return Err("it has no processors, let alone fast ones".into());
    }
    let monitor = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix(MONITOR))
        .and_then(|rest| rest.split(',').next())
        .ok_or("it is not told where to listen for QMP")?;
    let listener = UnixListener::bind(monitor)?;
    loop {
        let (stream, _) = listener.accept()?;
        if serve(BufReader::new(stream.try_clone()?), stream)? {
            return Ok(());
        }
    }
}

/// Serves one connection; whether it was told to quit.
fn serve(input: impl BufRead, mut output: impl Write) -> Result<bool, Failure> {
    let version = json!({ "qemu": { "major": 11, "minor": 1, "micro": 0 }, "package": "" });
    let mut say = move |message: Value| writeln!(output, "{message}");
    say(json!({ "QMP": { "version": version, "capabilities": [] } }))?;
    for line in input.lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let command = request["execute"].as_str().unwrap_or_default();
        let answer = match command {
            "query-status" => json!({ "status": "running", "running": true }),
            "qom-list" | "qom-list-properties" => json!([]),
            _ => json!({}),
        };
        say(json!({ "return": answer, "id": request["id"] }))?;
        let event = match command {
            "cont" => Some("RESUME"),
            "stop" => Some("STOP"),
            _ => None,
        };
        if let Some(event) = event {
            let timestamp = json!({ "seconds": 0, "microseconds": 0 });
            say(json!({ "event": event, "timestamp": timestamp }))?;
        }
        if command == "quit" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The sockets of the devices that a VMM was given, by the root port that each is behind.
pub(super) fn sockets(pid: u32) -> Result<Vec<(String, PathBuf)>, Failure> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    let arguments = line.split(|byte| *byte == 0);
    Ok(arguments
        .filter_map(|argument| serde_json::from_slice::<Value>(argument).ok())
        .filter(|device| device["driver"] == "vfio-user-pci")
        .filter_map(|device| {
            let port = device["bus"].as_str()?.to_owned();
            let path = device["socket"]["path"].as_str()?.into();
            Some((port, path))
        })
        .collect())
}
