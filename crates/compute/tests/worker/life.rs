//! The order of events, from creation to the end.

use hdv_compute::document::{DeviceStatus, State};
use hdv_compute::{ExitType, codes};

use super::support::*;

/// From power-on until QEMU has the device.
const STARTED: [Call; 3] = [Call::Initialize, Call::Configure, Call::Start];

#[test]
fn a_device_lives_as_the_table_says() {
    alone(|| {
        let system = create(&document([1]));
        assert_eq!(state(&system), State::Created);
        let host = Host::attach(&system);
        let record = host.device(1);
        assert_eq!(record.calls(), []);
        assert_eq!(status(&system, 1), Some(DeviceStatus::Waiting));

        system.start().unwrap();
        assert_eq!(state(&system), State::Running);
        assert_eq!(record.life(), STARTED);
        assert_eq!(record.configuration(), ["one", "two"]);
        let found = device(&system, 1).unwrap();
        assert_eq!(found.status, DeviceStatus::Attached);
        assert_eq!(found.process_id, Some(std::process::id()));
        assert!(found.port.is_some());
        let properties = system.properties().unwrap();
        assert!(lives(properties.vmm_process_id.unwrap()));
        assert!(properties.accelerator.is_some());

        system.pause().unwrap();
        assert_eq!(state(&system), State::Paused);
        assert_eq!(record.life(), [&STARTED[..], &[Call::Stop]].concat());
        system.resume().unwrap();
        assert_eq!(state(&system), State::Running);
        let resumed = [&STARTED[..], &[Call::Stop, Call::Start]].concat();
        assert_eq!(record.life(), resumed);

        system.terminate().unwrap();
        assert_eq!(state(&system), State::Stopped);
        assert_eq!(
            record.life(),
            [&resumed[..], &[Call::Stop, Call::Teardown]].concat()
        );
        assert!(!lives(properties.vmm_process_id.unwrap()));
        let exit = system.wait_for_exit(PATIENCE).unwrap();
        assert_eq!(
            (exit.status, exit.exit_type),
            (codes::HCS_E_TERMINATED, ExitType::ForcedExit)
        );
    });
}

#[test]
fn a_system_without_devices_starts_and_each_operation_is_refused_at_the_wrong_time() {
    alone(|| {
        let system = create(&document([]));
        let code = |result: hdv_compute::Result<()>| result.unwrap_err().code();
        assert_eq!(code(system.pause()), codes::HCS_E_INVALID_STATE);
        assert_eq!(code(system.resume()), codes::HCS_E_INVALID_STATE);
        assert_eq!(code(system.shut_down()), codes::HCS_E_INVALID_STATE);
        system.start().unwrap();
        assert_eq!(code(system.start()), codes::HCS_E_INVALID_STATE);
        assert_eq!(code(system.resume()), codes::HCS_E_INVALID_STATE);
        system.pause().unwrap();
        assert_eq!(code(system.pause()), codes::HCS_E_INVALID_STATE);
        assert_eq!(code(system.shut_down()), codes::HCS_E_INVALID_STATE);
        system.resume().unwrap();
        // Nobody listens in the firmware; it was pressed all the same.
        system.shut_down().unwrap();
        system.terminate().unwrap();
        for result in [
            system.start(),
            system.pause(),
            system.resume(),
            system.shut_down(),
            system.terminate(),
            system.modify(&request("Add", 1)),
            system.modify(&request("Remove", 1)),
        ] {
            assert_eq!(code(result), codes::HCS_E_SYSTEM_ALREADY_STOPPED);
        }
        // Who comes later hears of it too.
        let late = hdv_compute::ComputeSystem::open("test").unwrap();
        let exit = late.wait_for_exit(PATIENCE).unwrap();
        assert_eq!(exit.exit_type, ExitType::ForcedExit);
    });
}

#[test]
fn one_that_never_started_can_be_terminated() {
    alone(|| {
        let system = create(&document([1]));
        let host = Host::attach(&system);
        let record = host.device(1);
        system.terminate().unwrap();
        assert_eq!(state(&system), State::Stopped);
        assert_eq!(record.calls(), []);
        drop(host);
        assert_eq!(record.calls(), [Call::Teardown]);
    });
}

#[test]
fn a_device_that_nobody_has_announced_is_an_error_and_can_be_announced_then() {
    alone(|| {
        let system = create(&document([1, 2]));
        let host = Host::attach(&system);
        let first = host.device(1);
        let error = system.start().unwrap_err();
        assert_eq!(error.code(), codes::NOT_FOUND);
        assert!(
            error.to_string().contains(&instance(2).to_string()),
            "{error}"
        );
        assert_eq!(state(&system), State::Created);
        // None is powered on before all are there.
        assert_eq!(first.calls(), []);
        let second = host.device(2);
        system.start().unwrap();
        assert_eq!(first.life(), STARTED);
        assert_eq!(second.life(), STARTED);
    });
}

#[test]
fn all_devices_of_all_hosts_are_powered_on_before_any_is_started() {
    alone(|| {
        let system = create(&document(1..=8));
        let hosts = [Host::attach(&system), Host::attach(&system)];
        let records: Vec<Record> = (1..=8)
            .map(|number| hosts[usize::from(number > 4)].device(number))
            .collect();
        let last = &records[7];
        last.hold(Call::Configure);
        std::thread::scope(|scope| {
            let started = scope.spawn(|| system.start());
            wait_for("the last device's power-on", || last.is_held());
            wait_for("the other devices' power-on", || {
                records[..7]
                    .iter()
                    .all(|record| record.count(Call::Configure) == 1)
            });
            // Answered meanwhile.
            assert_eq!(state(&system), State::Created);
            assert_eq!(status(&system, 8), Some(DeviceStatus::Adding));
            assert!(records.iter().all(|record| record.count(Call::Start) == 0));
            last.go_on();
            started.join().unwrap().unwrap();
        });
        for record in &records {
            assert_eq!(record.life(), STARTED);
        }
        system.pause().unwrap();
        for record in &records {
            assert_eq!(record.count(Call::Stop), 1);
        }
        system.terminate().unwrap();
        for record in &records {
            assert_eq!(record.life().last(), Some(&Call::Teardown));
            assert_eq!(record.count(Call::Teardown), 1);
            assert_eq!(record.count(Call::Stop), 1);
        }
    });
}

#[test]
fn a_power_on_that_fails_fails_the_start_with_its_code_and_leaves_nothing() {
    alone(|| {
        for call in [Call::Initialize, Call::Configure, Call::Start] {
            let system = create(&document([1, 2]));
            let host = Host::attach(&system);
            let (good, bad) = (host.device(1), host.device(2));
            bad.fail(call, -77);
            let error = system.start().unwrap_err();
            assert_eq!(error.code(), -77, "{call:?}: {error}");
            let text = error.to_string();
            assert!(
                text.starts_with("device \"") && text.contains("as the test wants"),
                "{text}"
            );
            assert_eq!(state(&system), State::Created);
            assert_eq!(system.properties().unwrap().vmm_process_id, None);
            for record in [&good, &bad] {
                assert_eq!(record.life().last(), Some(&Call::Teardown), "{call:?}");
                assert_eq!(record.count(Call::Teardown), 1);
            }
            // Others of the same ids can take their places.
            let again = [host.device(1), host.device(2)];
            system.start().unwrap();
            for record in again {
                assert_eq!(record.life(), STARTED);
            }
            system.terminate().unwrap();
            drop(system);
            wait_for("the end of the worker", || {
                hdv_compute::ComputeSystem::open("test").is_err()
            });
        }
    });
}

#[test]
fn a_resume_whose_device_fails_leaves_the_system_paused() {
    alone(|| {
        let system = create(&document([1, 2]));
        let host = Host::attach(&system);
        let (good, bad) = (host.device(1), host.device(2));
        system.start().unwrap();
        system.pause().unwrap();
        bad.fail(Call::Start, -78);
        assert_eq!(system.resume().unwrap_err().code(), -78);
        assert_eq!(state(&system), State::Paused);
        let stopped = [&STARTED[..], &[Call::Stop]].concat();
        let undone = [&stopped[..], &[Call::Start, Call::Stop]].concat();
        // Whether it was started before the other one failed is not said.
        assert!(
            good.life() == stopped || good.life() == undone,
            "{:?}",
            good.life()
        );
        bad.fail(Call::Initialize, 0);
        system.resume().unwrap();
        assert_eq!(state(&system), State::Running);
        assert_eq!(good.life().last(), Some(&Call::Start));
        assert_eq!(bad.life().last(), Some(&Call::Start));
    });
}

#[test]
fn the_last_handle_takes_the_system_with_it_only_where_the_document_says_so() {
    alone(|| {
        let system = create(&document([1]));
        let host = Host::attach(&system);
        let record = host.device(1);
        system.start().unwrap();
        let other = hdv_compute::ComputeSystem::open("test").unwrap();
        drop(system);
        assert_eq!(state(&other), State::Running);
        drop(other);
        wait_for("teardown", || record.count(Call::Teardown) == 1);
        wait_for("the end of the worker", || {
            hdv_compute::ComputeSystem::open("test").is_err()
        });

        let mut lasting = document([]);
        lasting["ShouldTerminateOnLastHandleClosed"] = false.into();
        let system = create(&lasting);
        system.start().unwrap();
        let runtime_id = system.runtime_id();
        drop(system);
        let again = hdv_compute::ComputeSystem::open("test").unwrap();
        assert_eq!(again.runtime_id(), runtime_id);
        assert_eq!(state(&again), State::Running);
        again.terminate().unwrap();
    });
}

#[test]
fn a_worker_is_small_beside_qemu() {
    alone(|| {
        let system = create(&document([1]));
        let host = Host::attach(&system);
        host.device(1);
        system.start().unwrap();
        let worker = system.properties().unwrap().worker_process_id;
        let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .unwrap();
        let resident: u64 = resident.trim().parse().unwrap();
        println!("a worker has {resident} KiB resident");
        // A build with debug information has larger tables than the released one.
        assert!(resident < 16 << 10, "{resident} KiB");
    });
}
