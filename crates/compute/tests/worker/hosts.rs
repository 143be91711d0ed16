//! Device hosts that do something of their own at the wrong time.

use std::path::PathBuf;

use hdv_compute::codes;
use hdv_compute::document::{DeviceStatus, State};

use super::support::*;

#[test]
fn a_process_of_our_own_devices_that_ends_before_it_attaches_is_told_with_its_log() {
    alone(|| {
        let class_id = hdv_devices::catalog()[0].class_id;
        let internal = serde_json::json!({ "EmulatorId": class_id, "HostingModel": "Internal" });
        let mut document = document([1]);
        document["VirtualMachine"]["Devices"]["FlexibleIov"][instance(1).to_string()] =
            internal.clone();
        let system = create(&document);
        // What a device host needs cannot be made.
        let runtime = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR").unwrap());
        let hosts = runtime.join("openhdv/hosts");
        let _ = std::fs::remove_dir(&hosts);
        std::fs::write(&hosts, "").unwrap();
        let error = system.start().unwrap_err();
        assert_eq!(error.code(), codes::HCS_E_SERVICE_DISCONNECT, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("exit status: 1") && text.contains("devices.log"),
            "{text}"
        );
        let log = text.rsplit(' ').next().unwrap();
        assert!(
            std::fs::read_to_string(log).unwrap().contains("hosts"),
            "{text}"
        );
        assert_eq!(state(&system), State::Created);
        // The next one tries again.
        std::fs::remove_file(&hosts).unwrap();
        system.start().unwrap();
        assert_eq!(status(&system, 1), Some(DeviceStatus::Attached));

        let pid = device(&system, 1).unwrap().process_id.unwrap();
        system.terminate().unwrap();
        wait_for("the end of the process", || !lives(pid));
    });
}

/// How many calls a worker carries out: each has a thread.
fn calls_under_way(worker: u32) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{worker}/task")).unwrap();
    let name = |thread: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap_or_default()
    };
    threads
        .map(name)
        .filter(|name| name.trim() == "hdv-link-call")
        .count()
}

#[test]
fn a_device_that_is_withdrawn_while_it_is_added_is_taken_out_after_that() {
    alone(|| {
        let system = create(&document([]));
        let host = Host::attach(&system);
        system.start().unwrap();
        let worker = system.properties().unwrap().worker_process_id;
        // Nobody is asked to let go then.
        system.pause().unwrap();
        let (id, record) = host.try_device(1, CLASS).unwrap();
        record.hold(Call::Configure);
        std::thread::scope(|scope| {
            let added = scope.spawn(|| system.modify(&request("Add", 1)));
            wait_for("the power-on", || record.is_held());
            let withdrawn = scope.spawn(|| host.host.remove(id));
            // The addition and the withdrawal.
            wait_for("the withdrawal", || calls_under_way(worker) == 2);
            assert_eq!(status(&system, 1), Some(DeviceStatus::Adding));
            assert_eq!(record.count(Call::Teardown), 0);
            record.go_on();
            added.join().unwrap().unwrap();
            withdrawn.join().unwrap().unwrap();
        });
        assert_eq!(
            record.life()[2..],
            [Call::Start, Call::Stop, Call::Teardown],
            "{:?}",
            record.life()
        );
        assert_eq!(status(&system, 1), Some(DeviceStatus::Stub));
        assert_eq!(state(&system), State::Paused);
    });
}
