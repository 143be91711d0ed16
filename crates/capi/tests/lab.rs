//! The lab's devices, a C program over the shared library, checked over vfio-user connections: what the
//! guest of a virtual machine checks too.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Barrier;

use hdv_guest::checks::{Selection, Settings};
use hdv_guest::family::Family;
use hdv_guest::lab;
use hdv_guest::platform::BarAccess;
use hdv_guest::platform::vfio_user::VfioUser;
use hdv_guest::report::{Line, Outcome};
use rustix::process::{Pid, Signal, kill_process};

/// The device that a round of checks ends.
const DOOMED: &str = "lab-doomed";

/// The running program. Dropping it kills it.
struct Lab {
    process: Child,
    /// Kept open, so that the program can write.
    _output: BufReader<ChildStdout>,
    devices: Vec<(String, PathBuf)>,
    directory: tempfile::TempDir,
}

impl Lab {
    /// Compiles and starts the program, and waits until it is ready.
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = compile(directory.path());
        let sockets = directory.path().join("sockets");
        std::fs::create_dir(&sockets).unwrap();
        let mut process = Command::new(program)
            .arg(&sockets)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut devices = Vec::new();
        loop {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["device", name, id, socket] => {
                    assert!(socket.ends_with(&format!("{id}.sock")), "{line}");
                    devices.push((name.to_owned(), PathBuf::from(socket)));
                }
                ["ready"] => break,
                _ => {
                    let mut errors = String::new();
                    let _ = process.stderr.take().unwrap().read_to_string(&mut errors);
                    panic!("the lab printed {line:?} and {errors}");
                }
            }
        }
        Self {
            process,
            _output: output,
            devices,
            directory,
        }
    }

    fn socket(&self, name: &str) -> &Path {
        let found = self.devices.iter().find(|(device, _)| device == name);
        &found.unwrap().1
    }

    /// Asks the program to end, which finds out what it has to say of itself.
    fn end(mut self) {
        let id = Pid::from_child(&self.process);
        kill_process(id, Signal::TERM).unwrap();
        let mut errors = String::new();
        let mut stream = self.process.stderr.take().unwrap();
        stream.read_to_string(&mut errors).unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}: {errors}");
        let left: Vec<_> = std::fs::read_dir(self.directory.path().join("sockets"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Compiles the program into `directory`, against the library that was built for this test.
fn compile(directory: &Path) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = std::fs::read_dir(here.join("tests/c"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("lab") && name.ends_with(".c")
        });
    let test = std::env::current_exe().unwrap();
    let libraries = test.parent().unwrap();
    let program = directory.join("lab");
    let output = Command::new("gcc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-pthread"])
        .arg("-I")
        .arg(here.join("include"))
        .args(sources)
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(libraries)
        .arg(format!("-Wl,-rpath,{}", libraries.display()))
        .arg("-lcomputecore")
        .output()
        .expect("gcc is needed to build the C programs of the tests");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    program
}

/// Makes the checks of `family` on the device at `socket`.
fn check(family: &Family, socket: &Path) -> Vec<Outcome> {
    let device = VfioUser::connect(socket).unwrap();
    let mut outcomes = Vec::new();
    let settings = Settings::default();
    family.check(&device, &Selection::all(), &settings, &mut |line| {
        if let Line::Check(outcome) = line {
            outcomes.push(outcome);
        }
    });
    outcomes
}

fn passes(family: &Family, socket: &Path) {
    let outcomes = check(family, socket);
    assert_eq!(outcomes.len(), family.checks.len());
    for outcome in outcomes {
        assert!(outcome.ok, "{outcome:?}");
    }
}

#[test]
fn every_device_keeps_the_rules_for_client_after_client() {
    let lab = Lab::start();
    let names: Vec<_> = lab.devices.iter().map(|(name, _)| name.as_str()).collect();
    let known: Vec<_> = lab::FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(names, known);

    // First the end of one host: the devices of the other are checked without it.
    let (doomed, others): (Vec<_>, Vec<_>) = lab::FAMILIES
        .iter()
        .partition(|family| family.name == DOOMED);
    let doomed = doomed[0];
    passes(doomed, lab.socket(doomed.name));
    let gone = VfioUser::connect(lab.socket(doomed.name));
    assert!(gone.is_err(), "nobody must be there");
    for _ in 0..3 {
        for family in &others {
            passes(family, lab.socket(family.name));
        }
    }
    lab.end();
}

#[test]
fn every_device_keeps_the_rules_while_all_are_in_use() {
    let lab = Lab::start();
    let begin = Barrier::new(lab::FAMILIES.len());
    std::thread::scope(|scope| {
        for family in &lab::FAMILIES {
            let (lab, begin) = (&lab, &begin);
            scope.spawn(move || {
                begin.wait();
                passes(family, lab.socket(family.name));
            });
        }
    });
    lab.end();
}

#[test]
fn no_device_is_taken_for_another() {
    let lab = Lab::start();
    let next = lab.devices.iter().cycle().skip(1);
    for (family, (_, socket)) in lab::FAMILIES.iter().zip(next) {
        for outcome in check(family, socket) {
            assert!(!outcome.ok, "{outcome:?}");
        }
    }
    lab.end();
}

#[test]
fn a_guest_that_is_there_does_not_keep_the_program_from_ending() {
    let lab = Lab::start();
    let devices: Vec<_> = lab
        .devices
        .iter()
        .map(|(_, socket)| VfioUser::connect(socket).unwrap())
        .collect();
    lab.end();
    // Whoever stays is not left waiting: a stub answers, or the connection is closed.
    for device in devices {
        assert_ne!(
            device.config_read(0, hdv_guest::platform::Width::Word).ok(),
            Some(0x4f48)
        );
    }
}
