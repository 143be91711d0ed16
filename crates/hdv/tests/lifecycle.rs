//! The order of the calls into a device, from every way it can begin to every way it can end.

mod support;

use std::sync::atomic::Ordering;

use hdv::{DeviceError, HostError};
use hdv_vfio_user::{Errno, vfio};
use support::*;

const POWERED_ON: [Call; 2] = [Call::ConfigSpace, Call::Initialize];
const LEFT: [Call; 2] = [Call::Stop, Call::Reset];
const ENDED: [Call; 2] = [Call::Teardown, Call::Drop];

fn life(parts: &[&[Call]]) -> Vec<Call> {
    parts.concat()
}

#[test]
fn a_device_that_nobody_uses_is_powered_on_and_torn_down() {
    let served = serve(Recorder::default());
    let record = served.record.clone();
    assert_eq!(record.calls(), POWERED_ON);
    drop(served);
    assert_eq!(record.calls(), life(&[&POWERED_ON, &ENDED]));
}

#[test]
fn it_starts_at_the_first_message_that_is_no_memory_and_stops_when_the_client_leaves() {
    let served = serve(Recorder::default());
    let record = served.record.clone();
    for _ in 0..3 {
        record.forget();
        let mut client = served.connect();
        client.dma_map(0, 0x1000, READ_WRITE, None).unwrap();
        client.dma_unmap(0, 0x1000).unwrap();
        client.dma_unmap_all().unwrap();
        assert_eq!(record.calls(), []);
        client.device_info().unwrap();
        assert_eq!(record.calls(), [Call::Start]);
        client.region_info(0).unwrap();
        drop(client);
        wait_for("reset", || record.calls().contains(&Call::Reset));
        assert_eq!(record.calls(), life(&[&[Call::Start], &LEFT]));
    }
    record.forget();
    drop(served);
    assert_eq!(record.calls(), ENDED);
}

#[test]
fn a_client_that_only_says_version_starts_nothing() {
    let served = serve(Recorder::default());
    served.record.forget();
    drop(served.connect());
    wait_for("reset", || served.record.calls().contains(&Call::Reset));
    assert_eq!(served.record.calls(), [Call::Reset]);
}

#[test]
fn every_kind_of_first_message_starts_it() {
    type First = fn(&mut hdv_vfio_user::client::Client);
    let messages: [First; 6] = [
        |client| assert_eq!(client.device_info().unwrap().num_regions, 9),
        |client| assert_eq!(client.region_info(CONFIG).unwrap().size, 4096),
        |client| assert_eq!(client.irq_info(vfio::irq::MSIX).unwrap().count, 4),
        |client| assert_eq!(read32(client, CONFIG, 0), 0x7ffe_4f48),
        |client| client.region_write_posted(BAR0, 0, &[1]).unwrap(),
        |client| client.reset().unwrap(),
    ];
    let served = serve(Recorder::default());
    for first in messages {
        served.record.forget();
        let mut client = served.connect();
        first(&mut client);
        wait_for("start", || served.record.calls().contains(&Call::Start));
        assert_eq!(served.record.calls()[0], Call::Start);
        assert_eq!(served.record.count(Call::Start), 1);
        drop(client);
        wait_for("end", || served.record.calls().contains(&Call::Reset));
    }
}

#[test]
fn a_start_that_fails_costs_the_connection_and_is_tried_again_for_the_next() {
    let served = serve(Recorder::default());
    served.record.refuse_start.store(true, Ordering::SeqCst);
    served.record.forget();
    let mut client = served.connect();
    assert_eq!(client.device_info().unwrap_err().errno(), Some(Errno::IO));
    assert!(client.device_info().is_err());
    drop(client);
    wait_for("reset", || served.record.calls().contains(&Call::Reset));
    // Never started, so never stopped.
    assert_eq!(served.record.calls(), [Call::Start, Call::Reset]);
    served.record.refuse_start.store(false, Ordering::SeqCst);
    let mut client = served.connect();
    client.device_info().unwrap();
}

#[test]
fn reset_before_the_first_use_is_the_registers_only() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    client.device_info().unwrap();
    served.record.forget();
    write32(&mut client, CONFIG, 0x3c, 0x55);
    // Interrupt disable alone is no use.
    client
        .region_write(CONFIG, 4, &0x400u16.to_le_bytes())
        .unwrap();
    client.reset().unwrap();
    assert_eq!(served.record.calls(), []);
    assert_eq!(read::<1>(&mut client, CONFIG, 0x3c), [0]);
    for bit in [2u8, 4] {
        served.record.forget();
        // As part of a longer write too.
        client.region_write(CONFIG, 2, &[0, 0, bit, 0]).unwrap();
        client.region_write(CONFIG, 4, &[0, 0]).unwrap();
        client.reset().unwrap();
        assert_eq!(served.record.calls(), [Call::Reset]);
        // For the next client it is unused again.
        drop(client);
        wait_for("end", || served.record.count(Call::Reset) == 2);
        client = served.connect();
        client.device_info().unwrap();
    }
}

#[test]
fn a_device_that_is_refused_is_torn_down_once() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let host = host();
    // The declaration.
    let device = Recorder::with(|device| device.refuse_config = true);
    let record = device.record.clone();
    let error = host.serve(&socket, "x", device).unwrap_err();
    assert!(matches!(error, HostError::Config(_)), "{error}");
    assert_eq!(record.calls(), life(&[&[Call::ConfigSpace], &ENDED]));
    // Initialize, whose code arrives unchanged.
    let device = Recorder::with(|device| device.refuse_initialize = true);
    let record = device.record.clone();
    match host.serve(&socket, "x", device).unwrap_err() {
        HostError::Device(error) => {
            assert_eq!(error, DeviceError::new("as the test wants").with_code(7));
        }
        other => panic!("{other}"),
    }
    assert_eq!(record.calls(), life(&[&POWERED_ON, &ENDED]));
    assert!(!socket.exists());
    // The socket.
    let device = Recorder::default();
    let record = device.record.clone();
    let nowhere = directory.path().join("no/such/directory");
    let error = host.serve(nowhere, "x", device).unwrap_err();
    assert!(matches!(error, HostError::Socket(_)), "{error}");
    assert_eq!(record.calls(), life(&[&[Call::ConfigSpace], &ENDED]));
    // A socket that is in use; its user does not notice.
    let id = host.serve(&socket, "first", Recorder::default()).unwrap();
    let device = Recorder::default();
    let record = device.record.clone();
    assert!(host.serve(&socket, "second", device).is_err());
    assert_eq!(record.calls(), life(&[&[Call::ConfigSpace], &ENDED]));
    connect(&socket).device_info().unwrap();
    host.remove(id).unwrap();
    assert!(matches!(
        host.remove(id).unwrap_err(),
        HostError::NoSuchDevice(gone) if gone == id
    ));
    // And after all that the path is free.
    host.serve(&socket, "third", Recorder::default()).unwrap();
}

#[test]
fn a_removed_device_leaves_a_stub_that_keeps_its_vm_alive() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    enable(&mut client);
    client.dma_map(0x10_0000, 0x1000, READ_WRITE, None).unwrap();
    let events = connect_vectors(&mut client, vfio::irq::MSIX, 0, 2);
    served.record.forget();
    served.host.remove(served.id).unwrap();
    let ended = life(&[&[Call::Stop], &ENDED]);
    assert_eq!(served.record.calls(), ended);
    assert!(!served.socket.exists());
    assert!(served.host.devices().is_empty());
    assert_eq!(read::<16>(&mut client, BAR0, 0x101), [0xff; 16]);
    assert_eq!(read32(&mut client, CONFIG, 0), u32::MAX);
    // But for the interrupt pin: QEMU complains at every reset of one that cannot be.
    assert_eq!(read32(&mut client, CONFIG, 0x3c), 0xffff_00ff);
    write32(&mut client, BAR0, 0, 1);
    write32(&mut client, CONFIG, 4, 6);
    client.region_write_posted(BAR0, 0, &[1]).unwrap();
    let file = memfd(0x2000);
    // What was mapped before goes, what comes is taken, whatever it is.
    client.dma_unmap(0x10_0000, 0x1000).unwrap();
    for _ in 0..2 {
        let file = Some((std::os::fd::AsFd::as_fd(&file), 0));
        client.dma_map(0x10_0000, 0x2000, READ_WRITE, file).unwrap();
    }
    client.dma_unmap(0x10_1000, 0x1000).unwrap();
    client.dma_unmap_all().unwrap();
    client.reset().unwrap();
    client.disable_irqs(vfio::irq::MSIX).unwrap();
    connect_vectors(&mut client, vfio::irq::MSIX, 0, 1);
    assert_eq!(client.region_info(0).unwrap().size, 4096);
    assert_eq!(events.iter().map(taken).sum::<u64>(), 0);
    drop(client);
    drop(served.host);
    assert_eq!(served.record.calls(), ended, "nothing after the end");
}

#[test]
fn removing_waits_for_the_call_under_way() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    served.record.close();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read32(&mut client, BAR0, 0x700));
        wait_for("read", || {
            served.record.calls().contains(&read_of(0x700, 4))
        });
        let remover = scope.spawn(|| served.host.remove(served.id).unwrap());
        wait_for("removal", || served.host.devices().is_empty());
        assert_eq!(served.record.count(Call::Teardown), 0);
        served.record.open();
        remover.join().unwrap();
        assert_eq!(reader.join().unwrap(), 0, "the call's own result");
    });
    assert_eq!(served.record.count(Call::Teardown), 1);
}

#[test]
fn dropping_the_host_ends_devices_and_leaves_their_clients_a_stub() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    enable(&mut client);
    let memory = memfd(0x1000);
    let file = Some((std::os::fd::AsFd::as_fd(&memory), 0));
    client.dma_map(0, 0x1000, READ_WRITE, file).unwrap();
    let (record, socket) = (served.record.clone(), served.socket.clone());
    record.forget();
    drop(served);
    assert_eq!(record.calls(), life(&[&[Call::Stop], &ENDED]));
    record.forget();
    assert!(!socket.exists());
    // Closing its connection would make a QEMU abort at its next change of memory.
    assert_eq!(read32(&mut client, BAR0, 0x10), u32::MAX);
    client.dma_unmap(0, 0x1000).unwrap();
    let file = Some((std::os::fd::AsFd::as_fd(&memory), 0));
    client.dma_map(0, 0x1000, READ_WRITE, file).unwrap();
    client.reset().unwrap();
    assert_eq!(record.calls(), []);
}

#[test]
fn a_function_level_reset_is_a_reset_and_interrupts_go_on() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    enable(&mut client);
    let events = connect_vectors(&mut client, vfio::irq::MSIX, 0, 4);
    write32(&mut client, BAR0, 0x10, 99);
    // Masked and pending: gone with the reset.
    write32(&mut client, BAR0, MSIX_TABLE + 16 + 12, 1);
    write32(&mut client, BAR0, SIGNAL, 1);
    assert_eq!(read32(&mut client, BAR0, MSIX_PENDING), 2);
    served.record.forget();
    function_level_reset(&mut client);
    assert_eq!(served.record.calls(), [Call::Reset]);
    assert_eq!(read32(&mut client, BAR0, 0x10), 0);
    assert_eq!(read::<2>(&mut client, CONFIG, 4), [0, 0]);
    assert_eq!(read32(&mut client, BAR0, MSIX_PENDING), 0);
    assert_eq!(taken(&events[1]), 0);
    for (vector, event) in (0..).zip(&events) {
        write32(&mut client, BAR0, SIGNAL, vector);
        assert_eq!(taken(event), 1);
    }
}
