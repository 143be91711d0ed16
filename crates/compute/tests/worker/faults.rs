//! What dies or hangs: QEMU, device hosts, devices, the worker.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hdv_compute::document::{DeviceStatus, State};
use hdv_compute::{ComputeSystem, Event, ExitType, codes};

use super::support::*;

#[test]
fn a_killed_qemu_is_an_unexpected_exit() {
    alone(|| {
        let system = create(&document([1]));
        let host = Host::attach(&system);
        let record = host.device(1);
        system.start().unwrap();
        kill(system.properties().unwrap().vmm_process_id.unwrap());
        let exit = system.wait_for_exit(PATIENCE).unwrap();
        assert_eq!(
            (exit.status, exit.exit_type),
            (codes::HCS_E_UNEXPECTED_EXIT, ExitType::UnexpectedExit)
        );
        assert!(exit.detail.contains("signal: 9"), "{}", exit.detail);
        assert_eq!(state(&system), State::Stopped);
        assert_eq!(record.life()[3..], [Call::Stop, Call::Teardown]);
        assert_eq!(
            system.pause().unwrap_err().code(),
            codes::HCS_E_SYSTEM_ALREADY_STOPPED
        );
    });
}

#[test]
fn a_killed_worker_takes_qemu_along_and_its_devices_are_torn_down() {
    alone(|| {
        let system = create(&document([1]));
        let host = Host::attach(&system);
        let record = host.device(1);
        system.start().unwrap();
        let properties = system.properties().unwrap();
        let (sender, events) = std::sync::mpsc::channel();
        system.set_callback(Some(std::sync::Arc::new(move |event: &Event| {
            let _ = sender.send(event.clone());
        })));
        kill(properties.worker_process_id);
        wait_for("the worker's disappearance", || {
            events.try_iter().any(|event| event == Event::Disconnected)
        });
        wait_for("QEMU's end", || !lives(properties.vmm_process_id.unwrap()));
        wait_for("teardown", || record.count(Call::Teardown) == 1);
        assert_eq!(
            system.properties().unwrap_err().code(),
            codes::HCS_E_SERVICE_DISCONNECT
        );
        // The next one removes what is left and takes the id.
        let again = create(&document([]));
        again.terminate().unwrap();
    });
}

/// Set in the process of a device host: the number of its device.
const HOST: &str = "OPENHDV_TEST_HOST_OF";

#[test]
fn a_device_host_in_a_process_of_its_own() {
    let Ok(number) = std::env::var(HOST) else {
        return;
    };
    let system = ComputeSystem::open("test").unwrap();
    let host = Host::attach(&system);
    drop(system);
    host.device(number.parse().unwrap());
    println!("\nannounced");
    // Until it is killed, or told to end; nobody reads what the test program would say then.
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    drop(host);
    std::process::exit(0);
}

fn host_process(number: u128) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "faults::a_device_host_in_a_process_of_its_own",
        ])
        .env(HOST, number.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "announced"));
    child
}

#[test]
fn a_killed_device_host_costs_its_devices_only() {
    alone(|| {
        let system = create(&document([1, 2]));
        let host = Host::attach(&system);
        let record = host.device(1);
        let mut other = host_process(2);
        system.start().unwrap();
        assert_eq!(device(&system, 2).unwrap().process_id, Some(other.id()));
        other.kill().unwrap();
        other.wait().unwrap();
        wait_for("the loss", || {
            status(&system, 2) == Some(DeviceStatus::Lost)
        });
        assert_eq!(status(&system, 1), Some(DeviceStatus::Attached));
        assert_eq!(record.life().len(), 3);

        // Another host brings the device again, behind another port.
        let port = device(&system, 2).unwrap().port;
        let mut other = host_process(2);
        system.modify(&request("Add", 2)).unwrap();
        assert_eq!(status(&system, 2), Some(DeviceStatus::Attached));
        assert_ne!(device(&system, 2).unwrap().port, port);
        drop(other.stdin.take());
        other.wait().unwrap();
        wait_for("the loss", || {
            status(&system, 2) == Some(DeviceStatus::Lost)
        });
        assert_eq!(state(&system), State::Running);
        system.terminate().unwrap();
    });
}

#[test]
fn a_guest_is_made_to_let_go_of_the_devices_of_a_killed_host() {
    alone(|| {
        let mut guest = Guest::create([1, 2, 3]);
        let host = Host::attach(&guest.system);
        let record = host.device(3);
        let mut hosts = [host_process(1), host_process(2)];
        guest.system.start().unwrap();
        guest.expect("# ");
        assert_eq!(guest.devices(), 3);
        for host in &mut hosts {
            host.kill().unwrap();
            host.wait().unwrap();
        }
        wait_for("the end of the devices", || {
            guest.system.properties().unwrap().devices.len() == 1
        });
        assert_eq!(guest.devices(), 1);
        // The others live on.
        guest.system.pause().unwrap();
        guest.system.resume().unwrap();
        assert_eq!(record.life()[3..], [Call::Stop, Call::Start]);
        assert_eq!(guest.devices(), 1);
    });
}

#[test]
fn a_device_host_that_dies_during_the_start_fails_it() {
    alone(|| {
        let system = create(&document([1, 2]));
        let host = Host::attach(&system);
        let record = host.device(1);
        record.hold(Call::Initialize);
        let mut other = host_process(2);
        std::thread::scope(|scope| {
            let started = scope.spawn(|| system.start());
            wait_for("the power-on", || record.is_held());
            other.kill().unwrap();
            other.wait().unwrap();
            record.go_on();
            let error = started.join().unwrap().unwrap_err();
            assert_eq!(error.code(), codes::HCS_E_SERVICE_DISCONNECT, "{error}");
            assert!(
                error.to_string().contains(&other.id().to_string()),
                "{error}"
            );
        });
        assert_eq!(state(&system), State::Created);
        assert_eq!(record.life().last(), Some(&Call::Teardown));
    });
}

#[test]
fn a_power_on_that_never_ends_is_given_up_and_named() {
    alone(|| {
        let system = create(&document([1]));
        let host = Host::attach(&system);
        let record = host.device(1);
        record.hold(Call::Initialize);
        let begin = Instant::now();
        let error = system.start().unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(60));
        assert_eq!(error.code(), codes::HCS_E_OPERATION_TIMEOUT);
        let text = error.to_string();
        assert!(
            text.contains(&std::process::id().to_string())
                && text.contains(&instance(1).to_string()),
            "{text}"
        );
        assert_eq!(state(&system), State::Created);
        record.go_on();
        wait_for("teardown", || record.count(Call::Teardown) == 1);
        let again = host.device(1);
        system.start().unwrap();
        assert_eq!(again.count(Call::Start), 1);
    });
}

#[test]
fn a_stop_that_never_ends_is_given_up_and_the_system_is_paused() {
    alone(|| {
        let system = create(&document([1, 2]));
        let host = Host::attach(&system);
        let (good, bad) = (host.device(1), host.device(2));
        system.start().unwrap();
        bad.hold(Call::Stop);
        let error = system.pause().unwrap_err();
        assert_eq!(error.code(), codes::HCS_E_OPERATION_TIMEOUT, "{error}");
        assert_eq!(state(&system), State::Paused);
        assert_eq!(good.count(Call::Stop), 1);
        bad.go_on();
        system.resume().unwrap();
        assert_eq!(state(&system), State::Running);
        assert_eq!(bad.life()[3..], [Call::Stop, Call::Start]);
    });
}

#[test]
fn a_termination_does_not_wait_for_a_power_on_or_an_addition() {
    alone(|| {
        for running in [false, true] {
            let system = create(&document((!running).then_some(1)));
            let host = Host::attach(&system);
            let record = host.device(1);
            record.hold(Call::Initialize);
            if running {
                system.start().unwrap();
            }
            std::thread::scope(|scope| {
                let under_way = scope.spawn(|| {
                    if running {
                        system.modify(&request("Add", 1))
                    } else {
                        system.start()
                    }
                });
                wait_for("the power-on", || record.is_held());
                let begin = Instant::now();
                system.terminate().unwrap();
                assert!(begin.elapsed() < Duration::from_secs(25));
                assert_eq!(state(&system), State::Stopped);
                record.go_on();
                let error = under_way.join().unwrap().unwrap_err();
                println!("{error}");
            });
            wait_for("teardown", || record.count(Call::Teardown) == 1);
            assert_eq!(record.count(Call::Start), 0);
            drop(system);
            wait_for("the end of the worker", || {
                ComputeSystem::open("test").is_err()
            });
        }
    });
}

#[test]
fn a_guest_that_does_not_let_go_keeps_a_stub() {
    alone(|| {
        // Nobody in the firmware hears of it.
        let system = create(&document([1, 2]));
        let host = Host::attach(&system);
        let records = [host.device(1), host.device(2)];
        system.start().unwrap();
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let removals: Vec<_> = [1, 2]
                .into_iter()
                .map(|number| {
                    let system = &system;
                    scope.spawn(move || system.modify(&request("Remove", number)))
                })
                .collect();
            wait_for("the removals", || {
                [1, 2]
                    .iter()
                    .all(|number| status(&system, *number) == Some(DeviceStatus::Removing))
            });
            // The devices live on meanwhile, and others come.
            for record in &records {
                assert_eq!(record.count(Call::Teardown), 0);
            }
            let error = system.modify(&request("Remove", 1)).unwrap_err();
            assert_eq!(error.code(), codes::HCS_E_INVALID_STATE);
            let record = host.device(3);
            system.modify(&request("Add", 3)).unwrap();
            assert_eq!(record.count(Call::Start), 1);
            for removal in removals {
                let error = removal.join().unwrap().unwrap_err();
                assert_eq!(error.code(), codes::HCS_E_OPERATION_TIMEOUT, "{error}");
                assert!(error.to_string().contains("stays taken"), "{error}");
            }
        });
        assert!(begin.elapsed() < Duration::from_secs(60));
        for (number, record) in [1, 2].into_iter().zip(&records) {
            assert_eq!(record.life()[3..], [Call::Stop, Call::Teardown]);
            assert_eq!(status(&system, number), Some(DeviceStatus::Stub));
        }
        assert_eq!(state(&system), State::Running);
        // A removal that is under way ends with the system.
        std::thread::scope(|scope| {
            let removal = scope.spawn(|| system.modify(&request("Remove", 3)));
            wait_for("the removal", || {
                status(&system, 3) == Some(DeviceStatus::Removing)
            });
            system.terminate().unwrap();
            let error = removal.join().unwrap().unwrap_err();
            assert_eq!(error.code(), codes::HCS_E_TERMINATED, "{error}");
        });
    });
}

#[test]
fn the_process_of_our_own_devices_comes_with_them_and_comes_again() {
    alone(|| {
        let class_id = hdv_devices::catalog()[0].class_id;
        let internal = serde_json::json!({ "EmulatorId": class_id, "HostingModel": "Internal" });
        let mut document = document([1]);
        let devices = &mut document["VirtualMachine"]["Devices"]["FlexibleIov"];
        devices[instance(1).to_string()] = internal.clone();
        let system = create(&document);
        system.start().unwrap();
        let first = device(&system, 1).unwrap();
        assert_eq!(first.status, DeviceStatus::Attached);
        let add = |number: u128| {
            let mut request: serde_json::Value =
                serde_json::from_str(&request("Add", number)).unwrap();
            request["Settings"] = internal.clone();
            system.modify(&request.to_string())
        };
        add(2).unwrap();
        let pid = device(&system, 2).unwrap().process_id.unwrap();
        assert_eq!(first.process_id, Some(pid));
        kill(pid);
        wait_for("the loss", || {
            [1, 2]
                .iter()
                .all(|number| status(&system, *number) == Some(DeviceStatus::Lost))
        });
        // Another process has it.
        wait_for("another process", || add(3).is_ok());
        let again = device(&system, 3).unwrap().process_id.unwrap();
        assert_ne!(again, pid);
        assert!(lives(again));
        system.terminate().unwrap();
        wait_for("the end of the process", || !lives(again));
    });
}

#[test]
fn a_worker_that_is_asked_to_end_ends_its_system_cleanly() {
    alone(|| {
        let system = create(&document([1]));
        let host = Host::attach(&system);
        let record = host.device(1);
        system.start().unwrap();
        let worker = system.properties().unwrap().worker_process_id;
        let pid = rustix::process::Pid::from_raw(i32::try_from(worker).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let exit = system.wait_for_exit(PATIENCE).unwrap();
        assert_eq!(exit.exit_type, ExitType::ForcedExit);
        assert_eq!(record.life()[3..], [Call::Stop, Call::Teardown]);
        wait_for("the end of the worker", || !lives(worker));
    });
}

#[test]
fn what_is_wrong_with_files_is_said_at_the_start_with_its_place() {
    alone(|| {
        let mut document = document([]);
        document["VirtualMachine"]["Chipset"] = serde_json::json!({
            "LinuxKernelDirect": { "KernelFilePath": "/nonexistent/vmlinuz" }
        });
        let system = create(&document);
        let error = system.start().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("VirtualMachine/Chipset/LinuxKernelDirect/KernelFilePath"),
            "{error}"
        );
        assert_eq!(state(&system), State::Created);
    });
}
