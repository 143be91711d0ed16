//! Devices that come and go: announcements, additions, removals.

use hdv::HostError;
use hdv_compute::document::{DeviceStatus, State};
use hdv_compute::{ExitType, codes};

use super::support::*;

const STARTED: [Call; 3] = [Call::Initialize, Call::Configure, Call::Start];

fn code(result: Result<impl Sized, HostError>) -> Option<i32> {
    match result.err().expect("refused") {
        HostError::Refused { code, .. } => code,
        other => panic!("{other}"),
    }
}

#[test]
fn an_announcement_must_fit_the_configuration_and_be_the_first() {
    alone(|| {
        let mut with_internal = document([1, 2]);
        with_internal["VirtualMachine"]["Devices"]["FlexibleIov"][instance(2).to_string()]["HostingModel"] =
            "ExternalRestricted".into();
        let system = create(&with_internal);
        let (one, other) = (Host::attach(&system), Host::attach(&system));
        let foreign = hdv::Uuid::from_u128(9);
        assert_eq!(code(one.try_device(1, foreign)), Some(codes::E_INVALIDARG));
        assert_eq!(code(one.try_device(2, CLASS)), Some(codes::E_INVALIDARG));
        let record = one.device(1);
        assert_eq!(
            code(other.try_device(1, CLASS)),
            Some(codes::ALREADY_EXISTS)
        );
        assert_eq!(record.calls(), []);
        // Who goes makes room.
        drop(one);
        assert_eq!(record.calls(), [Call::Teardown]);
        wait_for("room", || other.try_device(1, CLASS).is_ok());
    });
}

#[test]
fn devices_come_and_go_while_a_guest_runs() {
    alone(|| {
        let mut guest = Guest::create([1, 2]);
        let host = Host::attach(&guest.system);
        let first = [host.device(1), host.device(2)];
        guest.system.start().unwrap();
        guest.expect("# ");
        // There at the first enumeration.
        assert_eq!(guest.devices(), 2);
        let gone = [&STARTED[..], &[Call::Stop, Call::Teardown]].concat();

        // With and without MSI-X, those that were there from the beginning and others, more often than there are ports.
        for round in 0..6 {
            for number in 1..=4 {
                let error = guest
                    .system
                    .modify(&request("Add", number + 10))
                    .unwrap_err();
                assert_eq!(error.code(), codes::NOT_FOUND);
                assert_eq!(device(&guest.system, number + 10), None);
                let is_first = round == 0 && number <= 2;
                let record = if is_first {
                    first[usize::from(number == 2)].clone()
                } else {
                    let record = host.device(number);
                    guest.system.modify(&request("Add", number)).unwrap();
                    record
                };
                assert_eq!(record.life(), STARTED);
                assert_eq!(record.configuration(), ["one", "two"]);
                assert_eq!(status(&guest.system, number), Some(DeviceStatus::Attached));
                let error = guest.system.modify(&request("Add", number)).unwrap_err();
                assert_eq!(error.code(), codes::ALREADY_EXISTS);
                if !is_first {
                    wait_for("the device in the guest", || guest.devices() > 0);
                }
                guest.system.modify(&request("Remove", number)).unwrap();
                assert_eq!(record.life().last(), Some(&Call::Teardown));
                assert_eq!(record.count(Call::Teardown), 1);
                assert_eq!(record.life(), gone);
                assert_eq!(device(&guest.system, number), None);
                let error = guest.system.modify(&request("Remove", number)).unwrap_err();
                assert_eq!(error.code(), codes::NOT_FOUND);
            }
        }
        assert_eq!(guest.devices(), 0);

        // Those that a device host's program removes by itself, in the system and not.
        for number in [1, 2] {
            let (id, record) = host.try_device(number, CLASS).unwrap();
            guest.system.modify(&request("Add", number)).unwrap();
            host.host.remove(id).unwrap();
            assert_eq!(record.life(), gone);
            assert_eq!(device(&guest.system, number), None);
            let (id, record) = host.try_device(number, CLASS).unwrap();
            host.host.remove(id).unwrap();
            assert_eq!(record.calls(), [Call::Teardown]);
        }

        // One that the guest lets go of by itself.
        for number in [1, 2] {
            let record = host.device(number);
            guest.system.modify(&request("Add", number)).unwrap();
            wait_for("the device in the guest", || guest.devices() > 0);
            guest.run("for slot in /sys/bus/pci/slots/*/power; do echo 0 >$slot; done");
            wait_for("the end of the device", || {
                device(&guest.system, number).is_none()
            });
            assert_eq!(record.life(), gone);
        }

        // A removal while the guest cannot let go; it does when it goes on, which frees the port.
        for number in [1, 2] {
            let record = host.device(number);
            guest.system.modify(&request("Add", number)).unwrap();
            wait_for("the device in the guest", || guest.devices() > 0);
            guest.system.pause().unwrap();
            let error = guest.system.modify(&request("Remove", number)).unwrap_err();
            assert_eq!(error.code(), codes::HCS_E_OPERATION_TIMEOUT);
            assert_eq!(record.life(), gone);
            assert_eq!(status(&guest.system, number), Some(DeviceStatus::Stub));
            guest.system.resume().unwrap();
            wait_for("the end of the stub", || {
                device(&guest.system, number).is_none()
            });
            assert_eq!(guest.devices(), 0);
        }
        // StopOnReset.
        guest.say("reboot -f");
        let exit = guest.system.wait_for_exit(PATIENCE).unwrap();
        assert_eq!((exit.status, exit.exit_type), (0, ExitType::GracefulExit));
    });
}

#[test]
fn a_guest_that_powers_off_ends_its_system_and_its_devices() {
    alone(|| {
        let mut guest = Guest::create([1, 2]);
        let host = Host::attach(&guest.system);
        let records = [host.device(1), host.device(2)];
        guest.system.start().unwrap();
        guest.expect("# ");
        guest.system.shut_down().unwrap();
        let exit = guest.system.wait_for_exit(PATIENCE).unwrap();
        assert_eq!((exit.status, exit.exit_type), (0, ExitType::GracefulExit));
        assert_eq!(state(&guest.system), State::Stopped);
        for record in records {
            assert_eq!(record.life()[3..], [Call::Stop, Call::Teardown]);
        }
    });
}

#[test]
fn ports_end() {
    alone(|| {
        let system = create(&document([]));
        let host = Host::attach(&system);
        system.start().unwrap();
        for number in 1.. {
            let record = host.device(number);
            match system.modify(&request("Add", number)) {
                Ok(()) => assert_eq!(record.life(), STARTED),
                Err(error) => {
                    assert!(number > 8, "{number}: {error}");
                    assert!(error.to_string().contains("root ports"), "{error}");
                    // It was not touched.
                    assert_eq!(record.calls(), []);
                    assert_eq!(device(&system, number), None);
                    break;
                }
            }
        }
    });
}

#[test]
fn before_the_start_an_addition_only_configures_and_a_removal_forgets() {
    alone(|| {
        let system = create(&document([1]));
        let host = Host::attach(&system);
        system.modify(&request("Add", 2)).unwrap();
        system.modify(&request("Remove", 1)).unwrap();
        let (first, second) = (host.device(1), host.device(2));
        assert_eq!(status(&system, 2), Some(DeviceStatus::Waiting));
        assert_eq!(second.calls(), []);
        system.start().unwrap();
        assert_eq!(first.calls(), []);
        assert_eq!(second.life(), STARTED);
    });
}

#[test]
fn one_that_is_added_while_paused_is_started_then_and_not_again() {
    alone(|| {
        let system = create(&document([1]));
        let host = Host::attach(&system);
        let first = host.device(1);
        system.start().unwrap();
        system.pause().unwrap();
        let second = host.device(2);
        system.modify(&request("Add", 2)).unwrap();
        assert_eq!(state(&system), State::Paused);
        assert_eq!(second.life(), STARTED);
        system.resume().unwrap();
        assert_eq!(second.life(), STARTED);
        assert_eq!(
            first.life(),
            [&STARTED[..], &[Call::Stop, Call::Start]].concat()
        );
    });
}

#[test]
fn an_addition_that_fails_gives_the_devices_code_and_leaves_nothing() {
    alone(|| {
        let system = create(&document([]));
        let host = Host::attach(&system);
        system.start().unwrap();
        for call in [Call::Initialize, Call::Configure, Call::Start] {
            let record = host.device(1);
            record.fail(call, -79);
            let error = system.modify(&request("Add", 1)).unwrap_err();
            assert_eq!(error.code(), -79, "{call:?}: {error}");
            assert_eq!(record.life().last(), Some(&Call::Teardown), "{call:?}");
            assert_eq!(record.count(Call::Teardown), 1);
            assert_eq!(device(&system, 1), None);
        }
        assert_eq!(state(&system), State::Running);
        let record = host.device(1);
        system.modify(&request("Add", 1)).unwrap();
        assert_eq!(record.life(), STARTED);
    });
}

#[test]
fn a_removal_while_paused_leaves_a_stub_and_says_so() {
    alone(|| {
        let system = create(&document([1]));
        let host = Host::attach(&system);
        let record = host.device(1);
        system.start().unwrap();
        system.pause().unwrap();
        let error = system.modify(&request("Remove", 1)).unwrap_err();
        assert_eq!(error.code(), codes::HCS_E_OPERATION_TIMEOUT);
        let port = device(&system, 1).unwrap().port.unwrap();
        assert!(error.to_string().contains(&port), "{error}");
        assert_eq!(status(&system, 1), Some(DeviceStatus::Stub));
        assert_eq!(
            record.life(),
            [&STARTED[..], &[Call::Stop, Call::Teardown]].concat()
        );
        // Another can take its place, behind another port; it goes on with the guest.
        let again = host.device(1);
        system.modify(&request("Add", 1)).unwrap();
        assert_ne!(device(&system, 1).unwrap().port.unwrap(), port);
        system.resume().unwrap();
        assert_eq!(again.life(), STARTED);
        assert_eq!(state(&system), State::Running);
    });
}

#[test]
fn additions_overlap_and_a_device_may_ask_for_one_in_its_own() {
    alone(|| {
        let system = create(&document([]));
        let host = Host::attach(&system);
        system.start().unwrap();
        let (slow, fast) = (host.device(1), host.device(2));
        slow.hold(Call::Initialize);
        std::thread::scope(|scope| {
            let added = scope.spawn(|| system.modify(&request("Add", 1)));
            wait_for("the slow device's power-on", || slow.is_held());
            assert_eq!(status(&system, 1), Some(DeviceStatus::Adding));
            system.modify(&request("Add", 2)).unwrap();
            assert_eq!(fast.life(), STARTED);
            // What is on its way in is neither added nor removed again.
            let error = system.modify(&request("Remove", 1)).unwrap_err();
            assert_eq!(error.code(), codes::HCS_E_INVALID_STATE);
            let error = system.modify(&request("Add", 1)).unwrap_err();
            assert_eq!(error.code(), codes::ALREADY_EXISTS);
            // Processors stop meanwhile; who is started after that is not stopped.
            system.pause().unwrap();
            slow.go_on();
            added.join().unwrap().unwrap();
        });
        assert_eq!(slow.life(), STARTED);
        system.resume().unwrap();
        assert_eq!(slow.life(), STARTED);
        assert_eq!(
            fast.life(),
            [&STARTED[..], &[Call::Stop, Call::Start]].concat()
        );
    });
}
