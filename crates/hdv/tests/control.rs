//! The control socket: a host says what it serves and to whom. In a process of its own, since the
//! runtime directory is named by the environment.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use hdv::{DeviceHost, DeviceStatus, HostOptions};
use hdv_control::{Client as ControlClient, RuntimeDirectory};
use serde_json::Value;
use support::*;

/// Tells the child where to serve.
const SOCKET: &str = "HDV_TEST_CONTROL_SOCKET";

#[test]
fn helper_host() {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    let host = DeviceHost::new(HostOptions::new()).unwrap();
    let id = host.serve(&socket, "listed", Recorder::default()).unwrap();
    println!("\nserving");
    let mut input = std::io::stdin();
    let _ = input.read(&mut [0]);
    host.remove(id).unwrap();
    println!("\nremoved");
    let _ = input.read(&mut [0]);
}

#[test]
fn a_host_lists_its_devices_and_their_clients() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("device.sock");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_host", "--nocapture"])
        .env(SOCKET, &socket)
        .env("XDG_RUNTIME_DIR", directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut wait = |line: &str| assert!(output.any(|read| read.unwrap() == line));
    wait("serving");

    let runtime = std::fs::read_dir(directory.path())
        .unwrap()
        .flatten()
        .find(|entry| entry.path().is_dir())
        .expect("the runtime directory");
    let hosts = RuntimeDirectory::at(&runtime.path())
        .unwrap()
        .hosts()
        .unwrap();
    assert_eq!(hosts.len(), 1);
    assert_eq!(hosts[0].pid, child.id());
    let mut control = ControlClient::connect(&hosts[0].path).unwrap();
    let mut list = || -> Vec<DeviceStatus> {
        serde_json::from_value(control.call("list", &Value::Null).unwrap()).unwrap()
    };
    let devices = list();
    assert_eq!(devices.len(), 1);
    let device = &devices[0];
    assert_eq!((device.vendor_id, device.device_id), (0x4f48, 0x7ffe));
    assert_eq!(device.class_code, 0xff_0000);
    assert_eq!((&*device.name, &*device.state), ("listed", "stopped"));
    assert_eq!((&device.socket, &device.client), (&socket, &None));

    let mut client = connect(&socket);
    enable(&mut client);
    read32(&mut client, BAR0, 0);
    let devices = list();
    assert_eq!(devices[0].state, "started");
    let status = devices[0].client.as_ref().unwrap();
    assert_eq!(status.pid, i32::try_from(std::process::id()).ok());
    assert_eq!((status.messages, status.reads, status.writes), (2, 1, 1));
    drop(client);
    wait_for("end", || list()[0].client.is_none());
    assert_eq!(list()[0].state, "stopped");

    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"x").unwrap();
    wait("removed");
    assert_eq!(list(), []);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(!hosts[0].path.exists());
    assert!(!socket.exists());
}
