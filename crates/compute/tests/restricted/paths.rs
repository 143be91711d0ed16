//! Every data path of a device that is locked in, and its life.

use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};

use hdv_compute::codes;
use hdv_compute::protocol::{HELLO, device, host};
use hdv_control::{Client as ControlClient, ControlError, RuntimeDirectory};
use hdv_vfio_user::client::Client;
use hdv_vfio_user::server::{Left, StandIn};
use hdv_vfio_user::{DmaFlags, vfio};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use serde_json::{Value, json};

use crate::played::{Restricted, alone, id, options, read32, wait_for, write32};
use crate::process::{APERTURE, BELL, BUFFER, CONFIGURATION, COPY, SECTION, SIGNAL};

const PAGE: u64 = 0x1000;

/// Guest memory of four pages at 0.
fn memory(client: &mut Client) -> OwnedFd {
    let file = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, 4 * PAGE).unwrap();
    let flags = DmaFlags::READ | DmaFlags::WRITE;
    client
        .dma_map(0, 4 * PAGE, flags, Some((file.as_fd(), 0)))
        .unwrap();
    file
}

/// One session, by every path.
fn visit(client: &mut Client) {
    let file = memory(client);
    assert_eq!(read32(client, vfio::region::CONFIG, 0), 0x7ffd_4f48);
    assert_eq!(read32(client, 0, CONFIGURATION), 2);
    for (request, byte) in [(16, 0x5a), (16 | APERTURE, 0xa5)] {
        rustix::io::pwrite(&file, &[byte; 16], PAGE).unwrap();
        write32(client, BUFFER, u32::try_from(PAGE).unwrap());
        write32(client, COPY, request);
        assert_eq!(read32(client, 0, COPY), 0);
        let mut copied = [0; 16];
        rustix::io::pread(&file, &mut copied, PAGE + 16).unwrap();
        assert_eq!(copied, [byte; 16]);
    }

    let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    client
        .set_irq_event_fds(vfio::irq::MSIX, 1, &[event.as_fd()])
        .unwrap();
    write32(client, SIGNAL, 1);
    let mut count = [0; 8];
    rustix::io::read(&event, &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 1);

    let rung = read32(client, 0, BELL);
    write32(client, BELL, 7);
    wait_for("the bell", || read32(client, 0, BELL) == rung + 1);

    let region = client.region_info(0).unwrap();
    assert!(region.file.is_some(), "the section can be mapped");
    write32(client, SECTION + 8, 0x1234_5678);
    assert_eq!(read32(client, 0, SECTION + 8), 0x1234_5678);
    client.dma_unmap(0, 4 * PAGE).unwrap();
}

#[test]
fn every_path_works() {
    alone("paths::every_path_works", || {
        let mut restricted = Restricted::start(&[1, 2]);
        let worker = &restricted.worker;
        let calls = worker.calls();
        assert_eq!(calls[0].0, HELLO);
        assert_eq!(calls[0].1["pid"], json!(restricted.child.id()));
        assert_eq!(calls[0].1["hosting_model"], json!("ExternalRestricted"));
        assert_eq!(calls[1].1["instance-id"], json!(id(1)));

        // One session after the other, and two devices at once.
        let mut other = restricted.connect(2);
        visit(&mut restricted.connect(1));
        for _ in 0..2 {
            visit(&mut restricted.connect_again(1));
            visit(&mut other);
        }
        let mut client = restricted.connect_again(1);
        assert_eq!(read32(&mut client, 0, COPY), 0);
        // A second client of one device, as on a socket.
        let busy = restricted.try_connect(1).map(drop).unwrap_err();
        assert!(busy.to_string().contains("busy"), "{busy}");

        assert_eq!(worker.tell(device::STOP, 1).unwrap(), Value::Null);
        assert_eq!(worker.tell(device::START, 1).unwrap(), Value::Null);
        assert_eq!(worker.tell(device::FAILURE, 1).unwrap(), Value::Null);
        worker.tell(device::REMOVE, 1).unwrap();
        assert_eq!(read32(&mut client, 0, COPY), u32::MAX, "a stub");
        // Its process ends with it, perhaps before the answer.
        let _ = worker.tell(device::REMOVE, 2);
        assert!(restricted.child.wait().unwrap().success());
        wait_for("the end of the link", || restricted.worker.is_left());
        assert!(restricted.broker.as_ref().unwrap().is_over());
    });
}

#[test]
fn guest_memory_that_shrinks_costs_one_device() {
    alone("paths::guest_memory_that_shrinks_costs_one_device", || {
        let restricted = Restricted::start(&[1, 2]);
        let mut client = restricted.connect(1);
        let mut other = restricted.connect(2);
        let file = memory(&mut client);
        read32(&mut client, 0, COPY);
        ftruncate(&file, 0).unwrap();
        write32(&mut client, BUFFER, 0);
        write32(&mut client, COPY, 64);
        assert_eq!(read32(&mut client, 0, COPY), u32::MAX);
        visit(&mut other);
    });
}

#[test]
fn a_process_that_is_killed_takes_its_devices_along() {
    alone(
        "paths::a_process_that_is_killed_takes_its_devices_along",
        || {
            let mut restricted = Restricted::start(&[1]);
            restricted.worker.power_on(1).unwrap();
            let (handed, connected) = restricted.worker.connect(1);
            connected.unwrap();
            let mut client = Client::from_stream(handed.client.try_clone().unwrap(), options());
            let client = client.as_mut().unwrap();
            client.reset().unwrap();
            assert_eq!(read32(client, 0, COPY), 0);
            restricted.child.kill().unwrap();
            wait_for("the worker to hear of it", || restricted.worker.is_left());
            // Not those of its broker, which only passed them on.
            handed.await_let_go();
            let left = Left::read(handed.ledger.as_fd()).unwrap();
            std::thread::scope(|scope| {
                let standing = scope.spawn(|| StandIn::run(handed.duplicate, left));
                assert_eq!(read32(client, 0, COPY), u32::MAX);
                handed.client.shutdown(Shutdown::Both).unwrap();
                standing.join().unwrap().unwrap();
            });
        },
    );
}

#[test]
fn a_worker_or_a_broker_that_goes_ends_the_devices() {
    alone(
        "paths::a_worker_or_a_broker_that_goes_ends_the_devices",
        || {
            for broker_goes in [false, true] {
                let mut restricted = Restricted::start(&[1]);
                let mut client = restricted.connect(1);
                if broker_goes {
                    restricted.broker = None;
                } else {
                    restricted.worker.leave();
                }
                assert!(restricted.child.wait().unwrap().success());
                wait_for("the link's end", || restricted.worker.is_left());
                let mut data = [0; 4];
                let read = client.region_read(0, 0, &mut data);
                assert!(read.is_err() || data == [0xff; 4]);
            }
        },
    );
}

#[test]
fn its_broker_answers_for_it() {
    alone("paths::its_broker_answers_for_it", || {
        let restricted = Restricted::start(&[1, 2]);
        restricted.worker.power_on(1).unwrap();
        let hosts = RuntimeDirectory::locate().unwrap().hosts().unwrap();
        assert_eq!(hosts.len(), 1);
        assert_eq!(hosts[0].pid, std::process::id());
        let mut control = ControlClient::connect(&hosts[0].path).unwrap();
        let list = control.call("list", &Value::Null).unwrap();
        assert_eq!(list.as_array().unwrap().len(), 1);
        assert_eq!(list[0]["socket"], json!(""), "its worker lets its VM in");
        assert_eq!(list[0]["instance_id"], json!(id(1)));
        assert_eq!(list[0]["vendor_id"], json!(0x4f48));
        assert_eq!(list[0]["state"], json!("stopped"));
    });
}

#[test]
fn a_refusal_of_the_worker_reaches_the_program() {
    alone("paths::a_refusal_of_the_worker_reaches_the_program", || {
        let liar = crate::played::Liar::start(Default::default(), |_, _| Ok(Value::Null));
        let refusal = ControlError::internal("not this one").with_code(-42);
        liar.worker.refuse(refusal);
        liar.hello().unwrap();
        assert_eq!(crate::played::code(liar.announce(1)), Some(-42));
        // It is not there now.
        let unknown = liar.worker.power_on(1);
        assert_eq!(crate::played::code(unknown), Some(codes::NOT_FOUND));
        assert_eq!(liar.worker.count(host::ANNOUNCE), 1);
    });
}
