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
