//! Handles and their workers, without virtual machines: creating, finding, ending, and what is left of those that are killed.
//!
//! Each test runs in a process of its own with a runtime directory of its own, in which nothing may be left.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use hdv_compute::document::State;
use hdv_compute::{ComputeSystem, Error, Event, ExitType, codes};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Longest wait for something that must happen.
const GENEROUS: Duration = Duration::from_secs(60);
/// Set in the process that a test runs in.
const INNER: &str = "OPENHDV_TEST_HANDLES_INNER";

/// Runs a test in a process of its own; true in that process.
fn inside(test: &str) -> bool {
    inside_by(test, |command| command)
}

/// [`inside`], with the command that starts the process changed.
fn inside_by(test: &str, change: impl FnOnce(Command) -> Command) -> bool {
    if std::env::var_os(INNER).is_some() {
        return true;
    }
    let parent = tempfile::tempdir().unwrap();
    let status = change(inner(test, parent.path())).status().unwrap();
    assert!(status.success(), "{test}: {status}");
    // Also of what was killed: the test itself looks again where it does that.
    let systems = parent.path().join("openhdv/systems");
    until("an empty directory", || {
        std::fs::read_dir(&systems).map_or(0, Iterator::count) == 0
    });
    false
}

fn inner(test: &str, runtime: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture"])
        .env(INNER, "1")
        .env("XDG_RUNTIME_DIR", runtime)
        .env("OPENHDV_WORKER", env!("CARGO_BIN_EXE_openhdv-worker"));
    command
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + GENEROUS;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: it did not come about");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn document(ends_with_last_handle: bool) -> String {
    serde_json::json!({
        "Owner": "a test",
        "SchemaVersion": { "Major": 2, "Minor": 4 },
        "ShouldTerminateOnLastHandleClosed": ends_with_last_handle,
        "VirtualMachine": {
            "ComputeTopology": { "Memory": { "SizeInMB": 64 }, "Processor": { "Count": 1 } },
        },
    })
    .to_string()
}

fn worker_of(system: &ComputeSystem) -> Pid {
    let pid = system.properties().unwrap().worker_process_id;
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

fn is_gone(process: Pid) -> bool {
    test_kill_process(process).is_err()
}

fn ids() -> Vec<String> {
    let systems = ComputeSystem::enumerate().unwrap();
    systems.into_iter().map(|summary| summary.id).collect()
}

#[test]
fn a_system_is_created_found_and_gone_with_its_last_handle() {
    if !inside("a_system_is_created_found_and_gone_with_its_last_handle") {
        return;
    }
    let system = ComputeSystem::create("vm 1", &document(true)).unwrap();
    assert_eq!(system.id(), "vm 1");
    let properties = system.properties().unwrap();
    assert_eq!(properties.id, "vm 1");
    assert_eq!(properties.state, State::Created);
    assert_eq!(properties.owner, "a test");
    assert_eq!(properties.runtime_id, system.runtime_id());
    let worker = worker_of(&system);

    let other = ComputeSystem::open("vm 1").unwrap();
    assert_eq!(other.runtime_id(), system.runtime_id());
    let listed = ComputeSystem::enumerate().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, "vm 1");
    assert_eq!(listed[0].owner, "a test");
    assert_eq!(listed[0].state, State::Created);

    let again = ComputeSystem::create("vm 1", &document(true));
    assert!(matches!(again, Err(Error::AlreadyExists(id)) if id == "vm 1"));
    drop(system);
    assert_eq!(other.properties().unwrap().state, State::Created);
    drop(other.clone());
    assert_eq!(ids(), ["vm 1"]);
    drop(other);
    // No zombie either: it is this process's child.
    until("the worker's end", || is_gone(worker));
    assert_eq!(ids(), Vec::<String>::new());
    assert!(matches!(
        ComputeSystem::open("vm 1"),
        Err(Error::NotFound(_))
    ));
}

#[test]
fn one_that_does_not_end_with_its_handles_is_ended_by_hand() {
    if !inside("one_that_does_not_end_with_its_handles_is_ended_by_hand") {
        return;
    }
    let system = ComputeSystem::create("stays", &document(false)).unwrap();
    let worker = worker_of(&system);
    drop(system);
    let system = ComputeSystem::open("stays").unwrap();
    assert_eq!(worker_of(&system), worker);
    let (tell, told) = mpsc::channel();
    system.set_callback(Some(Arc::new(move |event: &Event| {
        let _ = tell.send(event.clone());
    })));
    assert_eq!(system.wait_for_exit(Duration::ZERO), None);
    system.terminate().unwrap();
    let exit = system.wait_for_exit(GENEROUS).unwrap();
    assert_eq!(exit.exit_type, ExitType::ForcedExit);
    assert_eq!(
        told.recv_timeout(GENEROUS).unwrap(),
        Event::Exited(exit.clone())
    );
    let again = system.terminate().unwrap_err();
    assert_eq!(again.code(), codes::HCS_E_SYSTEM_ALREADY_STOPPED, "{again}");
    // A handle that comes later hears of it too, as long as another one is open.
    let late = ComputeSystem::open("stays").unwrap();
    assert_eq!(late.wait_for_exit(GENEROUS), Some(exit));
    drop((system, late));
    until("the worker's end", || is_gone(worker));
}

#[test]
fn what_cannot_be_created_is_told() {
    if !inside("what_cannot_be_created_is_told") {
        return;
    }
    let wrong = ComputeSystem::create("x", r#"{"Owner": "me", "Surprise": 1}"#).unwrap_err();
    assert_eq!(wrong.code(), codes::HCS_E_INVALID_JSON);
    assert!(wrong.to_string().contains("Surprise"), "{wrong}");
    let bad = ComputeSystem::create("", &document(true)).unwrap_err();
    assert_eq!(bad.code(), codes::E_INVALIDARG);
    assert_eq!(ids(), Vec::<String>::new());
}

#[test]
fn many_are_created_at_once_and_one_of_each_id() {
    if !inside("many_are_created_at_once_and_one_of_each_id") {
        return;
    }
    let made: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..12)
            .map(|number| {
                scope.spawn(move || {
                    ComputeSystem::create(&format!("vm{}", number % 4), &document(true))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 4);
    for refused in refused {
        assert!(
            matches!(refused, Err(Error::AlreadyExists(_))),
            "{refused:?}"
        );
    }
    assert_eq!(ids(), ["vm0", "vm1", "vm2", "vm3"]);
    let workers: Vec<_> = made.iter().flatten().map(worker_of).collect();
    drop(made);
    until("their end", || {
        workers.iter().all(|worker| is_gone(*worker))
    });
}

#[test]
fn a_killed_workers_handles_hear_of_it_and_its_remains_go() {
    if !inside("a_killed_workers_handles_hear_of_it_and_its_remains_go") {
        return;
    }
    let system = ComputeSystem::create("doomed", &document(true)).unwrap();
    let (tell, told) = mpsc::channel();
    system.set_callback(Some(Arc::new(move |event: &Event| {
        tell.send(event.clone()).unwrap();
    })));
    let worker = worker_of(&system);
    let systems = Path::new(&std::env::var_os("XDG_RUNTIME_DIR").unwrap()).join("openhdv/systems");
    kill_process(worker, Signal::KILL).unwrap();
    assert_eq!(told.recv_timeout(GENEROUS).unwrap(), Event::Disconnected);
    let exit = system.wait_for_exit(GENEROUS).unwrap();
    assert_eq!(exit.exit_type, ExitType::UnexpectedExit);
    let gone = system.properties().unwrap_err();
    assert_eq!(gone.code(), codes::HCS_E_SERVICE_DISCONNECT);
    until("no zombie", || is_gone(worker));
    // Socket, lock and directory are there until somebody looks.
    assert_eq!(std::fs::read_dir(&systems).unwrap().count(), 3);
    assert_eq!(ids(), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(&systems).unwrap().count(), 0);

    // Opening and creating look too.
    for look in [
        (|| assert!(ComputeSystem::open("doomed").is_err())) as fn(),
        || drop(ComputeSystem::create("doomed", &document(true)).unwrap()),
        || drop(ComputeSystem::create("other", &document(true)).unwrap()),
        || drop(hdv_control::hosts().unwrap()),
    ] {
        let system = ComputeSystem::create("doomed", &document(true)).unwrap();
        let worker = worker_of(&system);
        kill_process(worker, Signal::KILL).unwrap();
        until("its end", || is_gone(worker));
        look();
        until("nothing left", || {
            std::fs::read_dir(&systems).unwrap().count() == 0
        });
    }
}

#[test]
fn a_stopped_worker_does_not_hold_the_list_up() {
    if !inside("a_stopped_worker_does_not_hold_the_list_up") {
        return;
    }
    let stopped = ComputeSystem::create("stopped", &document(true)).unwrap();
    let _running = ComputeSystem::create("running", &document(true)).unwrap();
    let worker = worker_of(&stopped);
    kill_process(worker, Signal::STOP).unwrap();
    assert_eq!(ids(), ["running"]);
    kill_process(worker, Signal::CONT).unwrap();
    until("both", || ids() == ["running", "stopped"]);
}

#[test]
fn connections_that_say_nothing_lock_nobody_out() {
    if !inside("connections_that_say_nothing_lock_nobody_out") {
        return;
    }
    let system = ComputeSystem::create("besieged", &document(true)).unwrap();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").unwrap();
    let mut entries = std::fs::read_dir(Path::new(&runtime).join("openhdv/systems")).unwrap();
    let socket = entries.find_map(|entry| {
        let path = entry.unwrap().path();
        path.extension()
            .is_some_and(|end| end == "sock")
            .then_some(path)
    });
    let socket = socket.unwrap();
    // More than a worker takes.
    let silent: Vec<_> = (0..300)
        .map(|_| std::os::unix::net::UnixStream::connect(&socket).unwrap())
        .collect();
    let opened: Vec<_> = (0..4)
        .map(|_| ComputeSystem::open("besieged").unwrap())
        .collect();
    assert_eq!(ids(), ["besieged"]);
    for handle in opened.iter().chain([&system]) {
        assert_eq!(handle.properties().unwrap().state, State::Created);
    }
    drop(silent);
}

/// The creator in the tests that kill it. Nothing by itself.
#[test]
fn creator() {
    let Some(ends) = std::env::var_os("OPENHDV_TEST_HANDLES_CREATOR") else {
        return;
    };
    let system = ComputeSystem::create("orphan", &document(ends == "true")).unwrap();
    println!("\nworker {}", worker_of(&system).as_raw_nonzero());
    std::io::stdout().flush().unwrap();
    // Until this process is killed.
    let _ = std::io::stdin().read(&mut [0]);
}

/// Has a process create a system, and kills it; gives the worker.
fn killed_creator(ends_with_last_handle: bool) -> Pid {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").unwrap();
    let mut creator = inner("creator", Path::new(&runtime))
        .env(
            "OPENHDV_TEST_HANDLES_CREATOR",
            ends_with_last_handle.to_string(),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(creator.stdout.take().unwrap());
    let worker = output
        .lines()
        .find_map(|line| line.unwrap().strip_prefix("worker ")?.parse().ok())
        .unwrap();
    creator.kill().unwrap();
    creator.wait().unwrap();
    Pid::from_raw(worker).unwrap()
}

#[test]
fn a_killed_creators_handle_is_closed() {
    if !inside("a_killed_creators_handle_is_closed") {
        return;
    }
    let worker = killed_creator(true);
    until("the worker's end", || has_ended(worker));
    assert_eq!(ids(), Vec::<String>::new());

    let worker = killed_creator(false);
    let system = ComputeSystem::open("orphan").unwrap();
    assert_eq!(worker_of(&system), worker);
    system.terminate().unwrap();
    drop(system);
    until("the worker's end", || has_ended(worker));
}

/// Whether a process that is not this one's child has ended; whoever is to notice that may be slow.
fn has_ended(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn a_worker_keeps_nothing_of_its_creator() {
    if !inside("a_worker_keeps_nothing_of_its_creator") {
        return;
    }
    // As a program in C makes it: a child that is started has both ends.
    let (read, write) = rustix::pipe::pipe().unwrap();
    let system = ComputeSystem::create("alone", &document(true)).unwrap();
    drop(write);
    // The end comes, though the worker lives.
    assert_eq!(rustix::io::read(&read, &mut [0; 1]), Ok(0));
    let worker = worker_of(&system);
    let session = rustix::process::getsid(Some(worker)).unwrap();
    assert_eq!(session, worker);
    let standard = |number: u32| {
        let link = format!("/proc/{}/fd/{number}", worker.as_raw_nonzero());
        std::fs::read_link(link).unwrap()
    };
    for number in 0..3 {
        assert_eq!(standard(number), Path::new("/dev/null"), "{number}");
    }
    let directory = std::fs::read_link(format!("/proc/{}/cwd", worker.as_raw_nonzero()));
    assert_eq!(directory.unwrap(), Path::new("/"));
    assert_eq!(system.properties().unwrap().state, State::Created);
}

#[test]
fn a_worker_takes_signals_whatever_its_creator_does() {
    let test = "a_worker_takes_signals_whatever_its_creator_does";
    // As a daemon may: children inherit both.
    let as_daemon = |command: Command| {
        let mut daemon = Command::new("env");
        daemon
            .args(["--block-signal", "--ignore-signal=CHLD"])
            .arg(command.get_program())
            .args(command.get_args())
            .envs(
                command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        daemon
    };
    if !inside_by(test, as_daemon) {
        return;
    }
    let bits = |process: Pid, name: &str| {
        let status = format!("/proc/{}/status", process.as_raw_nonzero());
        let status = std::fs::read_to_string(status).unwrap();
        let bits = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(bits.unwrap().trim(), 16).unwrap()
    };
    let child_ends = 1 << (Signal::CHILD.as_raw() - 1);
    let ours = rustix::process::getpid();
    assert_ne!(bits(ours, "SigBlk:"), 0);
    assert_ne!(bits(ours, "SigIgn:") & child_ends, 0);

    let system = ComputeSystem::create("alert", &document(true)).unwrap();
    let worker = worker_of(&system);
    assert_eq!(bits(worker, "SigBlk:"), 0);
    assert_eq!(bits(worker, "SigIgn:") & child_ends, 0);
    kill_process(worker, Signal::TERM).unwrap();
    let exit = system.wait_for_exit(GENEROUS).unwrap();
    assert_eq!(exit.exit_type, ExitType::ForcedExit);
    until("the worker's end", || is_gone(worker));
}

#[test]
fn what_is_relative_is_so_to_the_creators_directory() {
    let test = "what_is_relative_is_so_to_the_creators_directory";
    let elsewhere = tempfile::tempdir().unwrap();
    let relative = |mut command: Command| {
        command
            .current_dir(elsewhere.path())
            .env("OPENHDV_QEMU", "my/qemu");
        command
    };
    if !inside_by(test, relative) {
        return;
    }
    let current = std::env::current_dir().unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&document(true)).unwrap();
    let plain = document.to_string();
    document["VirtualMachine"]["Chipset"] = serde_json::json!({
        "LinuxKernelDirect": { "KernelFilePath": "my/kernel" }
    });
    for (document, missing) in [(document.to_string(), "my/kernel"), (plain, "my/qemu")] {
        let system = ComputeSystem::create("relative", &document).unwrap();
        let error = system.start().unwrap_err().to_string();
        let missing = current.join(missing).display().to_string();
        assert!(error.contains(&missing), "{error}");
        let worker = worker_of(&system);
        drop(system);
        until("the worker's end", || is_gone(worker));
    }
}

#[test]
fn a_pipe_may_have_any_name_and_a_path_leads_not_among_our_own() {
    if !inside("a_pipe_may_have_any_name_and_a_path_leads_not_among_our_own") {
        return;
    }
    let with = |pipe: &str| {
        let mut document: serde_json::Value = serde_json::from_str(&document(true)).unwrap();
        document["VirtualMachine"]["Devices"] =
            serde_json::json!({ "ComPorts": { "0": { "NamedPipe": pipe } } });
        ComputeSystem::create("x", &document.to_string())
    };
    // Nobody has made the directory of this name yet.
    for name in ["hosts", "systems", "pipes"] {
        let system = with(&format!(r"\\.\pipe\{name}")).unwrap();
        assert_eq!(ids(), ["x"]);
        assert_eq!(hdv_control::hosts().unwrap(), []);
        let worker = worker_of(&system);
        drop(system);
        until("the worker's end", || is_gone(worker));
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").unwrap();
    let ours = Path::new(&runtime).join("openhdv/hosts");
    let refused = with(ours.to_str().unwrap()).unwrap_err();
    assert_eq!(refused.code(), codes::HCS_E_INVALID_JSON, "{refused}");
    assert!(refused.to_string().contains("NamedPipe"), "{refused}");
}

#[test]
fn a_worker_that_is_asked_to_end_tells_every_handle_before_it_goes() {
    if !inside("a_worker_that_is_asked_to_end_tells_every_handle_before_it_goes") {
        return;
    }
    let system = ComputeSystem::create("asked", &document(true)).unwrap();
    let worker = worker_of(&system);
    // More than are told at a time.
    let handles: Vec<_> = (0..100)
        .map(|_| ComputeSystem::open("asked").unwrap())
        .collect();
    kill_process(worker, Signal::TERM).unwrap();
    for handle in handles.iter().chain([&system]) {
        let exit = handle.wait_for_exit(GENEROUS).unwrap();
        assert_eq!(exit.exit_type, ExitType::ForcedExit);
    }
    // It waits for no handle to be closed.
    until("the worker's end", || is_gone(worker));
}

#[test]
fn the_end_of_a_system_without_a_guest_is_that_of_its_consoles() {
    if !inside("the_end_of_a_system_without_a_guest_is_that_of_its_consoles") {
        return;
    }
    let mut document: serde_json::Value = serde_json::from_str(&document(true)).unwrap();
    document["VirtualMachine"]["Devices"] =
        serde_json::json!({ "ComPorts": { "0": { "NamedPipe": r"\\.\pipe\com" } } });
    let system = ComputeSystem::create("mute", &document.to_string()).unwrap();
    let mut console = system.console(0).unwrap();
    console.set_read_timeout(Some(GENEROUS)).unwrap();
    system.terminate().unwrap();
    // The worker lives on, for its handle.
    assert_eq!(console.read(&mut [0]).unwrap(), 0);
    assert_eq!(system.properties().unwrap().state, State::Stopped);
    let worker = worker_of(&system);
    drop(system);
    until("the worker's end", || is_gone(worker));
}

#[test]
fn a_large_document_is_handed_over() {
    if !inside("a_large_document_is_handed_over") {
        return;
    }
    // Far more than a pipe or a socket holds.
    let padding = " ".repeat(900 << 10);
    let document = document(true);
    let system = ComputeSystem::create("large", &format!("{padding}{document}")).unwrap();
    assert_eq!(system.properties().unwrap().owner, "a test");
    let too_large = format!("{}{document}", " ".repeat(5 << 20));
    let refused = ComputeSystem::create("larger", &too_large).unwrap_err();
    assert_eq!(refused.code(), codes::HCS_E_INVALID_JSON);
}
