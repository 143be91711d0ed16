//! A C++ exception out of a callback, or out of a COM object's function, ends the process with a message
//! that names it.

#[path = "support/guest.rs"]
mod guest;
#[path = "support/toolchain.rs"]
mod toolchain;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use guest::{BAR0, CONFIG, connect};
use hdv_vfio_user::client::Client;
use toolchain::{Language, WideCharacters, build, source};

/// SIGABRT.
const ABORT: i32 = 6;

/// Brings callbacks about; the connection ends with the process, so errors are part of it.
fn use_device(client: &mut Client, thrower: &str) {
    let _ = client.region_read(CONFIG, 0x40, &mut [0; 4]);
    let _ = client.region_write(CONFIG, 4, &6u16.to_le_bytes());
    match thrower {
        "ReadInterceptedMemory" => {
            let _ = client.region_read(BAR0, 0, &mut [0; 4]);
        }
        "WriteInterceptedMemory" => {
            let _ = client.region_write(BAR0, 0, &[0; 4]);
        }
        _ => {}
    }
}

fn socket(directory: &Path) -> Option<std::path::PathBuf> {
    std::fs::read_dir(directory)
        .expect("a directory")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "sock")
        })
}

fn throw(program: &Path, thrower: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(program)
        .arg(directory.path())
        .arg(thrower)
        .env("XDG_RUNTIME_DIR", runtime.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("read");
    let client = (line == "ready\n").then(|| {
        let socket = socket(directory.path()).expect("the device's socket");
        let mut client = connect(&socket);
        use_device(&mut client, thrower);
        client
    });
    drop(client);
    if let Some(mut input) = child.stdin.take() {
        // Gone already if it has thrown.
        let _ = input.write_all(b"x");
    }
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("read");
    assert!(!rest.contains("not thrown"), "{thrower}: {rest}");
    let ended = child.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.signal(), Some(ABORT), "{thrower}: {errors}");
    let message = format!("openhdv: an exception left {thrower};");
    assert!(errors.contains(&message), "{thrower}: {errors}");
}

#[test]
fn an_exception_ends_the_process_with_the_callbacks_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = build(
        &source("exceptions.cpp"),
        Language::Cpp,
        WideCharacters::Native,
        directory.path(),
    );
    for thrower in [
        "Initialize",
        "SetConfiguration",
        "GetDetails",
        "Start",
        "ReadConfigSpace",
        "WriteConfigSpace",
        "ReadInterceptedMemory",
        "WriteInterceptedMemory",
        "Stop",
        "Teardown",
        "SupplyVirtualFunction",
        "IUnknown::QueryInterface",
        "IVmDeviceHostSupport::RegisterDeviceHost",
        "IUnknown::Release",
    ] {
        throw(&program, thrower);
    }
}
