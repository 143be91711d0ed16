//! A host that runs out of descriptors. In a process of its own, since the limit is the process's.

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use hdv_vfio_user::vfio;
use support::*;

/// Tells the child of [`without_descriptors_the_host_waits_for_some`] where to serve.
const SOCKET: &str = "HDV_TEST_DESCRIPTORS_SOCKET";

#[test]
fn helper_host() {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    let host = host();
    host.serve(&socket, "poor", Recorder::default()).unwrap();
    // With the one descriptor that the look takes itself.
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let limit = rustix::process::Rlimit {
        current: Some(open + 12),
        maximum: Some(open + 12),
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    println!("\nserving");
    let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
}

#[test]
fn without_descriptors_the_host_waits_for_some() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_host", "--nocapture"])
        .env(SOCKET, &socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap() == "serving"));
    for _ in 0..5 {
        let silent: Vec<UnixStream> = (0..100)
            .map(|_| UnixStream::connect(&socket).unwrap())
            .collect();
        // In the crowd too, and at once.
        connect(&socket).device_info().unwrap();
        drop(silent);
        let mut client = connect(&socket);
        client.device_info().unwrap();
        // Its descriptors do not arrive then: an error, no more.
        let _ = client.set_irq_event_fds(vfio::irq::MSIX, 0, &[std::os::fd::AsFd::as_fd(&event())]);
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
