//! Restricted hosts that say what is not so, and brokers that do.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdv::{DeviceHost, DeviceIds, DeviceState, HostError, HostOptions, pci_function};
use hdv_compute::protocol::{HELLO, device, host};
use hdv_compute::{BrokerLimits, RestrictedSystem, codes};
use hdv_control::{
    CallError, Client, ControlError, ErrorKind, Link, LinkHandler, RuntimeDirectory,
};
use hdv_vfio_user::server::Ledger;
use serde_json::{Value, json};

use crate::played::{Liar, PATIENCE, alone, code, id, lock, wait_for};
use crate::process::Device;

fn obedient(_: &str, _: Value) -> Result<Value, ControlError> {
    Ok(Value::Null)
}

#[test]
fn announcements_are_checked() {
    alone("lies::announcements_are_checked", || {
        let liar = Liar::start(BrokerLimits { devices: 2 }, obedient);
        assert_eq!(
            code(liar.announce(1)),
            Some(codes::E_ACCESSDENIED),
            "no hello"
        );
        let handle = json!({ "role": "handle" });
        assert_eq!(code(liar.say(HELLO, &handle)), Some(codes::E_ACCESSDENIED));
        assert_eq!(liar.hello().unwrap()["id"], "played");
        assert_eq!(code(liar.hello()), Some(codes::E_ACCESSDENIED));
        liar.announce(1).unwrap();
        assert_eq!(code(liar.announce(1)), Some(codes::ALREADY_EXISTS));
        liar.announce(2).unwrap();
        assert_eq!(code(liar.announce(3)), Some(codes::E_ACCESSDENIED));
        let three = json!({ "instance-id": id(3) });
        assert_eq!(
            code(liar.say(host::WITHDRAW, &three)),
            Some(codes::NOT_FOUND)
        );
        assert_eq!(
            code(liar.say(host::ANNOUNCE, &json!([1]))),
            Some(codes::E_INVALIDARG)
        );
        for command in ["start", "pause", "terminate", "modify", device::POWER_ON] {
            let Err(CallError::Command(error)) = liar.say(command, &three) else {
                panic!("{command}");
            };
            assert_eq!(error.kind, ErrorKind::UnknownCommand);
        }
        // The worker has heard of the two, and of nothing else.
        assert_eq!(liar.worker.count(host::ANNOUNCE), 2);
        assert_eq!(liar.worker.calls().len(), 3);
        let two = json!({ "instance-id": id(2) });
        liar.say(host::WITHDRAW, &two).unwrap();
        liar.announce(3).unwrap();
    });
}

#[test]
fn what_the_worker_does_not_know_of_is_not_passed_on() {
    alone(
        "lies::what_the_worker_does_not_know_of_is_not_passed_on",
        || {
            let liar = Liar::start(BrokerLimits::default(), obedient);
            liar.hello().unwrap();
            for command in [device::START, device::STOP, device::REMOVE, device::FAILURE] {
                assert_eq!(code(liar.worker.tell(command, 9)), Some(codes::NOT_FOUND));
            }
            assert_eq!(code(liar.worker.connect(9).1), Some(codes::NOT_FOUND));
            liar.announce(1).unwrap();
            let nothing = json!({ "instance-id": id(1) });
            assert!(liar.worker.call(device::POWER_ON, &nothing).is_err());
            let early = liar.worker.connect(1).1;
            assert_eq!(code(early), Some(codes::HCS_E_INVALID_STATE));
            liar.worker.power_on(1).unwrap();
            let again = liar.worker.power_on(1);
            assert_eq!(code(again), Some(codes::HCS_E_INVALID_STATE));
            assert!(lock(&liar.mouth.clients).is_empty());
        },
    );
}

#[test]
fn errors_of_a_host_are_errors_and_short() {
    alone("lies::errors_of_a_host_are_errors_and_short", || {
        let liar = Liar::start(BrokerLimits::default(), |command, _| {
            let error = ControlError::internal("\u{1b}[31m".to_owned() + &"x".repeat(1 << 20));
            match command {
                device::STOP => Err(error.with_code(0)),
                device::START => Err(error.with_code(-5)),
                device::FAILURE => Ok(json!({ "message": "no\u{1b}\n", "code": 17 })),
                _ => Ok(Value::Null),
            }
        });
        liar.hello().unwrap();
        liar.announce(1).unwrap();
        let Err(CallError::Command(error)) = liar.worker.tell(device::STOP, 1) else {
            panic!("an error");
        };
        assert_eq!(error.code, Some(codes::E_FAIL));
        assert!(error.message.len() < 4096 && !error.message.contains('\u{1b}'));
        assert_eq!(code(liar.worker.tell(device::START, 1)), Some(-5));
        let failure = liar.worker.tell(device::FAILURE, 1).unwrap();
        assert_eq!(failure, json!({ "message": "no", "code": null }));
    });
}

#[test]
fn a_host_that_does_not_answer_is_not_waited_for() {
    alone(
        "lies::a_host_that_does_not_answer_is_not_waited_for",
        || {
            let liar = Liar::start(BrokerLimits::default(), |command, _| {
                if command == device::FAILURE {
                    loop {
                        std::thread::park();
                    }
                }
                Ok(Value::Null)
            });
            liar.hello().unwrap();
            liar.announce(1).unwrap();
            let begin = Instant::now();
            let answer = liar.worker.tell(device::FAILURE, 1);
            assert_eq!(code(answer), Some(codes::HCS_E_OPERATION_TIMEOUT));
            assert!(begin.elapsed() >= Duration::from_secs(3));
            assert!(!liar.broker.is_over());
            liar.worker.tell(device::STOP, 1).unwrap();
        },
    );
}

#[test]
fn what_is_being_announced_cannot_be_withdrawn() {
    alone("lies::what_is_being_announced_cannot_be_withdrawn", || {
        let liar = Liar::start(BrokerLimits { devices: 1 }, obedient);
        liar.hello().unwrap();
        let one = json!({ "instance-id": id(1) });
        let announced = std::thread::scope(|scope| {
            let silent = liar.worker.say_nothing();
            let announced = scope.spawn(|| liar.announce(1));
            wait_for("the announcement", || {
                liar.worker.count(host::ANNOUNCE) == 1
            });
            // The worker might hear of the end before the beginning, and keep more than may be.
            let early = liar.say(host::WITHDRAW, &one);
            assert_eq!(code(early), Some(codes::HCS_E_INVALID_STATE));
            drop(silent);
            announced.join().unwrap()
        });
        announced.unwrap();
        assert_eq!(liar.worker.count(host::WITHDRAW), 0);
        liar.say(host::WITHDRAW, &one).unwrap();
        liar.announce(2).unwrap();
    });
}

#[test]
fn a_place_for_sockets_is_not_passed_on() {
    alone("lies::a_place_for_sockets_is_not_passed_on", || {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let liar = Liar::start(BrokerLimits::default(), move |command, args| {
            lock(&heard).push((command.to_owned(), args));
            Ok(Value::Null)
        });
        liar.hello().unwrap();
        liar.announce(1).unwrap();
        liar.worker.power_on(1).unwrap();
        let expected = json!({ "instance-id": id(1), "beside": null, "configuration": ["a", "b"] });
        assert_eq!(*lock(&told), [(device::POWER_ON.to_owned(), expected)]);
    });
}

#[test]
fn a_host_is_in_lists_once_for_each_device() {
    alone("lies::a_host_is_in_lists_once_for_each_device", || {
        let status = |device: u128| {
            json!({
                "id": 1, "name": "\u{1b}[2J", "class_id": id(7), "instance_id": id(device),
                "socket": "/etc/passwd", "vendor_id": 1, "device_id": 2, "class_code": 3,
                "state": "\u{1b}started", "client": null,
            })
        };
        let liar = Liar::start(BrokerLimits::default(), move |command, _| match command {
            device::LIST => Ok(json!([vec![status(1); 5000], vec![status(2); 2]].concat())),
            _ => Ok(Value::Null),
        });
        liar.hello().unwrap();
        liar.announce(1).unwrap();
        liar.worker.power_on(1).unwrap();
        let hosts = RuntimeDirectory::locate().unwrap().hosts().unwrap();
        let mut control = Client::connect(&hosts[0].path).unwrap();
        let list = control.call("list", &Value::Null).unwrap();
        assert_eq!(list.as_array().unwrap().len(), 1);
        assert_eq!(list[0]["name"], json!(id(1)));
        assert_eq!(list[0]["class_id"], json!(id(0xc1a5)));
        assert_eq!(list[0]["socket"], json!(""));
        assert_eq!(list[0]["state"], json!("started"));
    });
}

#[test]
fn a_host_that_says_too_much_is_cut_off() {
    alone("lies::a_host_that_says_too_much_is_cut_off", || {
        let liar = Liar::start(BrokerLimits::default(), obedient);
        let mut said = 0;
        while liar.hello().is_ok() || !liar.link.is_closed() {
            said += 1;
            assert!(said < 100_000, "it may say what it likes");
        }
        assert!(said > 500, "{said}");
        wait_for("the worker to hear of it", || liar.worker.is_left());

        let liar = Liar::start(BrokerLimits::default(), obedient);
        liar.hello().unwrap();
        liar.link.notify("anything", &Value::Null).unwrap();
        wait_for("the worker to hear of it", || liar.worker.is_left());
        assert!(liar.broker.is_over());

        let liar = Liar::start(BrokerLimits::default(), obedient);
        liar.hello().unwrap();
        let (pipe, _other) = rustix::pipe::pipe().unwrap();
        let args = json!({ "class-id": id(7), "instance-id": id(1) });
        let with = [pipe.as_fd()];
        let announced = liar.link.call_with(host::ANNOUNCE, &args, &with, PATIENCE);
        announced.unwrap_err();
        wait_for("the worker to hear of it", || liar.worker.is_left());
        assert_eq!(liar.worker.count(host::ANNOUNCE), 0);
    });
}

#[test]
fn clients_are_passed_on_and_nothing_of_them_is_kept() {
    alone(
        "lies::clients_are_passed_on_and_nothing_of_them_is_kept",
        || {
            let refuses = Arc::new(AtomicBool::new(false));
            let now = Arc::clone(&refuses);
            let liar = Liar::start(BrokerLimits::default(), move |command, _| match command {
                device::CONNECT if now.load(Ordering::SeqCst) => {
                    Err(ControlError::internal("no").with_code(-3))
                }
                _ => Ok(Value::Null),
            });
            liar.hello().unwrap();
            liar.announce(1).unwrap();
            liar.worker.power_on(1).unwrap();
            for is_refused in [false, true, false] {
                refuses.store(is_refused, Ordering::SeqCst);
                let (handed, connected) = liar.worker.connect(1);
                if is_refused {
                    assert_eq!(code(connected), Some(-3));
                } else {
                    connected.unwrap();
                }
                assert_eq!(lock(&liar.mouth.clients).len(), 3);
                lock(&liar.mouth.clients).clear();
                handed.await_let_go();
                drop(handed.duplicate);
                assert_eq!((&handed.client).read(&mut [0]).unwrap(), 0);
            }
        },
    );
}

/// A broker that says what a test likes.
#[derive(Default)]
struct Broker {
    commands: Mutex<Vec<String>>,
}

impl LinkHandler for Broker {
    fn call(
        &self,
        _: &Link,
        command: &str,
        _: Value,
        _: Vec<OwnedFd>,
    ) -> Result<Value, ControlError> {
        lock(&self.commands).push(command.to_owned());
        Ok(Value::Null)
    }

    fn notice(&self, _: &Link, _: &str, _: Value) {}

    fn closed(&self, _: &Link) {}
}

#[test]
fn a_host_checks_what_its_broker_says() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let broker = Arc::new(Broker::default());
    let link = Link::over(ours, "the host", Arc::clone(&broker) as _).unwrap();
    let call = |command: &str, args: &Value| link.call(command, args, PATIENCE);
    let system = RestrictedSystem::over(theirs).unwrap();
    let one = json!({ "instance-id": id(1) });
    assert!(call(device::START, &one).is_err(), "no host yet");

    let host = DeviceHost::new(HostOptions::restricted()).unwrap();
    host.attach(Arc::clone(&system)).unwrap();
    let other = DeviceHost::new(HostOptions::restricted()).unwrap();
    let second = other.attach(system).unwrap_err();
    assert!(matches!(second, HostError::Refused { .. }), "{second}");

    let ids = DeviceIds {
        class_id: id(0xc1a5),
        instance_id: id(1),
    };
    let function = pci_function(Box::new(Device::default())).unwrap();
    let instance = host.create_device(ids, function).unwrap();
    assert_eq!(
        code(call(device::STOP, &one)),
        Some(codes::NOT_FOUND),
        "not announced"
    );
    host.announce(instance.id()).unwrap();
    assert_eq!(*lock(&broker.commands), [HELLO, host::ANNOUNCE]);

    let beside = json!({ "instance-id": id(1), "beside": "/tmp/x.sock", "configuration": [] });
    assert!(call(device::POWER_ON, &beside).is_err());
    assert_eq!(instance.state(), DeviceState::PoweredOff);
    assert!(call(device::POWER_ON, &json!({ "instance-id": "no" })).is_err());
    let (_end, lease) = rustix::pipe::pipe().unwrap();
    let (client, _vmm) = UnixStream::pair().unwrap();
    let file = Ledger::file().unwrap();
    let [socket, lease, ledger] = [client.as_fd(), lease.as_fd(), file.as_fd()];
    let connect = |fds: &[BorrowedFd<'_>]| link.call_with(device::CONNECT, &one, fds, PATIENCE);
    assert_eq!(
        code(connect(&[socket, lease, ledger])),
        Some(codes::HCS_E_INVALID_STATE)
    );
    let place = json!({ "instance-id": id(1), "beside": null, "configuration": [] });
    call(device::POWER_ON, &place).unwrap();
    for descriptors in [
        &[][..],
        &[socket],
        &[lease, lease, ledger],
        &[socket, socket, ledger],
        &[socket, lease, lease],
        &[socket, lease, ledger, socket],
    ] {
        assert!(connect(descriptors).is_err(), "{descriptors:?}");
    }
    connect(&[socket, lease, ledger]).unwrap();
    for command in [HELLO, "terminate", device::CREATE] {
        assert!(call(command, &one).is_err(), "{command}");
    }
    link.notify("anything", &one).unwrap();

    // When it is gone, so is the device.
    link.close();
    wait_for("the device's end", || instance.state() == DeviceState::Gone);
    host.close().unwrap();
}
