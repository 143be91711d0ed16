//! A host that runs out of descriptors. In a process of its own, since the limit is the process's.

#[expect(dead_code, reason = "shared with the tests of what becomes of each")]
#[path = "support/bringer.rs"]
mod bringer;
mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use bringer::Hold;
use hdv_vfio_user::vfio;
use support::*;

/// Leaves this process so many descriptors.
fn leave(descriptors: u64) {
    // With the one descriptor that the look takes itself.
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let limit = rustix::process::Rlimit {
        current: Some(open + descriptors),
        maximum: Some(open + descriptors),
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
}

/// Tells the child of [`without_descriptors_the_host_waits_for_some`] where to serve.
const SOCKET: &str = "HDV_TEST_DESCRIPTORS_SOCKET";

#[test]
fn helper_host() {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    let host = host();
    host.serve(&socket, "poor", Recorder::default()).unwrap();
    leave(12);
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

/// Set in the process of [`helper_brings`].
const BRINGS: &str = "HDV_TEST_DESCRIPTORS_BRINGS";

#[test]
fn helper_brings() {
    if std::env::var_os(BRINGS).is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let host = host();
    let hold = Hold::default();
    let _records = hold.make_recorders();
    let socket = directory.path().join("nic.sock");
    host.serve_function(&socket, "nic", hold.function())
        .unwrap();
    leave(200);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // As clients' messages do, it needs a descriptor now and then.
        let other = scope.spawn(|| {
            let mut refused = 0;
            while !over.load(Ordering::SeqCst) {
                refused += usize::from(rustix::io::dup(std::io::stdin()).is_err());
            }
            refused
        });
        let results: Vec<_> = (0..20)
            .map(|_| {
                hold.bring(150);
                let refused = hold.failure();
                hold.bring(50);
                let brought = hold.failure();
                hold.take_away();
                (refused, brought)
            })
            .collect();
        over.store(true, Ordering::SeqCst);
        assert_eq!(other.join().unwrap(), 0);
        for (refused, brought) in results {
            let refused = refused.expect("too many").to_string();
            assert!(refused.contains("150 devices need"), "{refused}");
            assert!(brought.is_none(), "{brought:?}");
        }
    });
    println!("\nnobody was without");
}

#[test]
fn what_is_brought_leaves_others_their_descriptors() {
    let alone = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_brings", "--nocapture"])
        .env(BRINGS, "1")
        .output()
        .unwrap();
    assert!(alone.status.success(), "{alone:?}");
    assert!(String::from_utf8_lossy(&alone.stdout).contains("nobody was without"));
}
