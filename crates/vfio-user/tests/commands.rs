//! Every command, our client against our server.

mod common;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{Data, Event, TestBackend, eventfd, memfd, pair, pair_with, same_eventfd};
use hdv_vfio_user::client::{Client, ClientError, ClientOptions, RegionWrite};
use hdv_vfio_user::server::{Handshake, SessionOptions};
use hdv_vfio_user::{
    DeviceFlags, DmaFlags, Errno, IrqAction, IrqFlags, RegionFlags, SparseArea, vfio,
};

#[test]
fn the_version_and_capabilities_are_agreed() {
    let (client, _server) = pair();
    assert_eq!(client.server_version(), (0, 1));
    assert_eq!(client.capabilities().max_msg_fds, 16);
    assert_eq!(client.capabilities().max_data_xfer_size, 1 << 20);
    assert!(client.capabilities().write_multiple);
    assert!(!client.has_twin_socket());
    assert_eq!(
        client.peer_pid(),
        Some(std::process::id().try_into().expect("a pid"))
    );
}

#[test]
fn a_busy_server_refuses_with_its_errno() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let thread = std::thread::spawn(move || {
        let mut handshake = Handshake::new(theirs, SessionOptions::default()).expect("a handshake");
        handshake.wait().expect("VERSION");
        assert!(handshake.peer_pid().is_some());
        handshake.refuse(Errno::BUSY);
    });
    let error = Client::from_stream(ours, ClientOptions::default()).expect_err("refused");
    assert_eq!(error.errno(), Some(Errno::BUSY), "{error}");
    thread.join().expect("no panic");
}

#[test]
fn the_device_describes_itself() {
    let (mut client, server) = pair();
    let info = client.device_info().expect("info");
    assert_eq!(info.flags, DeviceFlags::PCI | DeviceFlags::RESET);
    assert_eq!((info.num_regions, info.num_irqs), (9, 5));

    let bar0 = client.region_info(vfio::region::BAR0).expect("BAR 0");
    assert_eq!(bar0.size, 0x2000);
    assert_eq!(bar0.flags, RegionFlags::READ | RegionFlags::WRITE);
    assert!(!bar0.mappable && bar0.file.is_none() && bar0.areas.is_empty());

    let bar1 = client.region_info(vfio::region::BAR1).expect("BAR 1");
    assert!(bar1.mappable);
    assert_eq!(bar1.offset, common::BAR1_FILE_OFFSET);
    let area = |offset, size| SparseArea { offset, size };
    assert_eq!(bar1.areas, [area(0, 0x1000), area(0x2000, 0x2000)]);
    let mut first = [0];
    rustix::io::pread(bar1.file.expect("a file"), &mut first, 0).expect("read");
    assert_eq!(first, [0xb1], "the file is the backend's");

    let bar2 = client.region_info(vfio::region::BAR2).expect("BAR 2");
    assert!(bar2.mappable && bar2.file.is_some() && bar2.areas.is_empty());

    let vga = client.region_info(vfio::region::VGA).expect("VGA");
    assert_eq!((vga.size, vga.flags), (0, RegionFlags::empty()));

    let error = client.region_info(9).expect_err("no such region");
    assert_eq!(error.errno(), Some(Errno::INVAL));

    let msix = client.irq_info(vfio::irq::MSIX).expect("MSI-X");
    assert_eq!(msix.count, 64);
    assert_eq!(msix.flags, IrqFlags::EVENTFD | IrqFlags::NORESIZE);
    let error = client.irq_info(5).expect_err("no such index");
    assert_eq!(error.errno(), Some(Errno::INVAL));

    client.reset().expect("reset");
    assert_eq!(server.record.events(), [Event::FirstUse, Event::Reset]);
}

#[test]
fn ioeventfds_arrive_with_their_conditions() {
    let (mut client, _server) = pair();
    let events = client.region_io_event_fds(vfio::region::BAR0).expect("two");
    let seen: Vec<_> = events
        .iter()
        .map(|event| (event.offset, event.size, event.datamatch))
        .collect();
    assert_eq!(seen, [(0x100, 4, Some(0xdead_beef)), (0x104, 0, None)]);
    assert!(
        client
            .region_io_event_fds(vfio::region::BAR2)
            .expect("none")
            .is_empty()
    );
}

#[test]
fn regions_are_read_and_written() {
    let (mut client, server) = pair();
    client.region_write(0, 0x10, &[1, 2, 3, 4]).expect("write");
    let mut data = [0; 4];
    client.region_read(0, 0x10, &mut data).expect("read");
    assert_eq!(data, [1, 2, 3, 4]);
    client
        .region_write_posted(0, 0x20, &[9; 8])
        .expect("posted");
    let mut data = [0; 8];
    client.region_read(0, 0x20, &mut data).expect("read");
    assert_eq!(data, [9; 8]);
    assert_eq!(
        server.record.events(),
        [
            Event::FirstUse,
            Event::Write(0, 0x10, vec![1, 2, 3, 4]),
            Event::Read(0, 0x10, 4),
            Event::Write(0, 0x20, vec![9; 8]),
            Event::Read(0, 0x20, 8),
        ]
    );
    assert_eq!(server.statistics.messages(), 4);
    assert_eq!(server.statistics.reads(), 2);
    assert_eq!(server.statistics.writes(), 2);
}

#[test]
fn accesses_outside_a_region_are_refused_and_the_session_lives() {
    let (mut client, server) = pair();
    let mut data = [0; 4];
    for (region, offset) in [
        (0, 0x1ffd),
        (0, u64::MAX),
        (0, 0x2000),
        (4, 0),
        (9, 0),
        (u32::MAX, 0),
    ] {
        let error = client
            .region_read(region, offset, &mut data)
            .expect_err("refused");
        assert_eq!(
            error.errno(),
            Some(Errno::INVAL),
            "read {region} {offset:#x}"
        );
        let error = client
            .region_write(region, offset, &data)
            .expect_err("refused");
        assert_eq!(
            error.errno(),
            Some(Errno::INVAL),
            "write {region} {offset:#x}"
        );
    }
    let error = client
        .region_write(vfio::region::ROM, 0, &data)
        .expect_err("read only");
    assert_eq!(error.errno(), Some(Errno::INVAL));
    // The backend's own error comes through.
    let error = client
        .region_read(vfio::region::ROM, 0, &mut data)
        .expect_err("no memory");
    assert_eq!(error.errno(), Some(Errno::NXIO));
    client
        .region_read(0, 0x1ffc, &mut data)
        .expect("the last four bytes");
    assert!(server.statistics.errors() >= 13);
}

#[test]
fn transfers_beyond_the_limit_are_split() {
    let (mut client, server) = pair();
    let data: Vec<u8> = (0..251_u8).cycle().take(common::BAR3_SIZE).collect();
    client.region_write(3, 0, &data).expect("3 MiB");
    let mut back = vec![0; data.len()];
    client.region_read(3, 0, &mut back).expect("3 MiB");
    assert!(data == back, "what was written is read");
    let lengths: Vec<_> = server
        .record
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::Write(_, offset, data) => Some((*offset, data.len())),
            _ => None,
        })
        .collect();
    assert_eq!(
        lengths,
        [(0, 1 << 20), (1 << 20, 1 << 20), (2 << 20, 1 << 20)]
    );
}

#[test]
fn several_writes_go_in_one_message_and_stop_at_the_first_failure() {
    let (mut client, server) = pair();
    let write = |offset, data| RegionWrite {
        region: 0,
        offset,
        data,
    };
    let done = client
        .region_write_multi(&[write(0, &[1]), write(8, &[2; 8]), write(4, &[3, 3])])
        .expect("three");
    assert_eq!(done, 3);
    assert_eq!(
        server.record.take()[1..],
        [
            Event::Write(0, 0, vec![1]),
            Event::Write(0, 8, vec![2; 8]),
            Event::Write(0, 4, vec![3, 3]),
        ]
    );
    let done = client
        .region_write_multi(&[write(0, &[1]), write(0x2000, &[2]), write(4, &[3])])
        .expect("one");
    assert_eq!(done, 1);
    assert_eq!(server.record.take(), [Event::Write(0, 0, vec![1])]);
    let error = client
        .region_write_multi(&[write(0x2000, &[2])])
        .expect_err("none");
    assert_eq!(error.errno(), Some(Errno::INVAL));
    let error = client
        .region_write_multi(&[write(0, &[0; 9])])
        .expect_err("nine bytes");
    assert!(matches!(error, ClientError::Impossible { .. }));
    assert_eq!(server.statistics.writes(), 4);
}

#[test]
fn interrupts_are_set_in_chunks_acted_on_and_disabled() {
    let (mut client, server) = pair();
    let events: Vec<_> = (0..20).map(|_| eventfd()).collect();
    let borrowed: Vec<_> = events.iter().map(AsFd::as_fd).collect();
    client
        .set_irq_event_fds(vfio::irq::MSIX, 3, &borrowed)
        .expect("twenty");
    let set = |start, count, data| Event::SetIrqs {
        index: vfio::irq::MSIX,
        start,
        count,
        action: IrqAction::Trigger,
        data,
    };
    assert_eq!(
        server.record.take()[1..],
        [
            set(3, 16, Data::EventFds(16)),
            set(19, 4, Data::EventFds(4))
        ]
    );
    for (ours, theirs) in events.iter().zip(server.record.take_eventfds()) {
        assert!(same_eventfd(theirs, ours), "in order");
    }

    client
        .clear_irq_event_fds(vfio::irq::MSIX, 4, 2)
        .expect("clear");
    client
        .act_on_irqs(vfio::irq::MSIX, 0, 64, IrqAction::Trigger)
        .expect("trigger");
    client
        .act_on_chosen_irqs(vfio::irq::MSIX, 1, &[true, false], IrqAction::Trigger)
        .expect("trigger one");
    client.disable_irqs(vfio::irq::MSIX).expect("disable");
    assert_eq!(
        server.record.take(),
        [
            set(4, 2, Data::EventFds(0)),
            set(0, 64, Data::None),
            set(1, 2, Data::Bool(vec![1, 0])),
            Event::DisableIrqs(vfio::irq::MSIX),
        ]
    );

    let intx = |action, data| Event::SetIrqs {
        index: vfio::irq::INTX,
        start: 0,
        count: 1,
        action,
        data,
    };
    for action in [IrqAction::Mask, IrqAction::Unmask] {
        client.act_on_irqs(0, 0, 1, action).expect("by itself");
        client
            .act_on_chosen_irqs(0, 0, &[true], action)
            .expect("chosen");
        client
            .bind_irq_event_fds(0, 0, action, &borrowed[..1])
            .expect("bound");
        assert_eq!(
            server.record.take(),
            [
                intx(action, Data::None),
                intx(action, Data::Bool(vec![1])),
                intx(action, Data::EventFds(1)),
            ]
        );
    }
    for (index, start, count) in [(2, 63, 2), (2, u32::MAX, 2), (1, 0, 1), (5, 0, 1)] {
        let error = client
            .act_on_irqs(index, start, count, IrqAction::Trigger)
            .expect_err("out of range");
        assert_eq!(error.errno(), Some(Errno::INVAL));
    }
    let error = client
        .act_on_irqs(vfio::irq::MSIX, 0, 1, IrqAction::Mask)
        .expect_err("not maskable");
    assert_eq!(error.errno(), Some(Errno::INVAL));
    let error = client
        .set_irq_event_fds(vfio::irq::ERR, 0, &borrowed[..1])
        .expect_err("no eventfds there");
    assert_eq!(error.errno(), Some(Errno::INVAL));
    assert_eq!(server.record.take(), []);
}

#[test]
fn memory_is_mapped_before_the_first_use() {
    let (mut client, server) = pair();
    let file = memfd(0x4000, 0x77);
    client
        .dma_map(
            0x10_0000,
            0x2000,
            DmaFlags::READ | DmaFlags::WRITE,
            Some((file.as_fd(), 0x1000)),
        )
        .expect("with a file");
    client
        .dma_map(0x7, 0x9, DmaFlags::READ, None)
        .expect("without a file nothing need be aligned");
    client.dma_unmap(0x10_0000, 0x2000).expect("unmap");
    client
        .dma_unmap(0x8000_0000_0000_0000, 0x8000_0000_0000_0000)
        .expect("a whole power of two, up to the end of the address space");
    client.dma_unmap_all().expect("everything");
    assert_eq!(
        server.record.events(),
        [
            Event::Map {
                address: 0x10_0000,
                size: 0x2000,
                flags: DmaFlags::READ | DmaFlags::WRITE,
                offset: 0x1000,
                file: Some(0x77),
            },
            Event::Map {
                address: 7,
                size: 9,
                flags: DmaFlags::READ,
                offset: 0,
                file: None,
            },
            Event::Unmap(0x10_0000, 0x2000),
            Event::Unmap(1 << 63, 1 << 63),
            Event::Unmap(0, 1 << 63),
            Event::Unmap(1 << 63, 1 << 63),
        ]
    );
}

#[test]
fn a_device_that_does_not_start_ends_the_session_after_the_error() {
    let mut backend = TestBackend::new();
    backend.first_use = Err(Errno::NODEV);
    let (mut client, server) =
        pair_with(backend, SessionOptions::default(), ClientOptions::default());
    client.dma_unmap(0, 0x1000).expect("that is no use yet");
    let error = client.device_info().expect_err("it does not start");
    assert_eq!(error.errno(), Some(Errno::NODEV));
    // A client that cleans up is not hung up on.
    client.dma_unmap(0, 0x1000).expect("its memory is its own");
    let error = client.device_info().expect_err("it has ended");
    assert!(matches!(error, ClientError::Disconnected { .. }), "{error}");
    let error = server.end().expect_err("told");
    assert!(matches!(
        error,
        hdv_vfio_user::server::Error::FirstUse(Errno::NODEV)
    ));
}

#[test]
fn the_session_ends_well_when_the_client_leaves_or_it_is_closed() {
    let (client, server) = pair();
    drop(client);
    server.end().expect("the client left");

    let (mut client, server) = pair();
    client.device_info().expect("it lives");
    server.closer.close();
    server.end().expect("it was closed");
    let error = client.device_info().expect_err("it has ended");
    assert!(matches!(error, ClientError::Disconnected { .. }), "{error}");
}

#[test]
fn polling_on_both_ends_changes_nothing() {
    let poll = Some(Duration::from_micros(200));
    let (mut client, server) = pair_with(
        TestBackend::new(),
        SessionOptions::default().with_poll(poll),
        ClientOptions::default().with_poll(poll),
    );
    for value in 0..200_u32 {
        client
            .region_write(0, 0, &value.to_ne_bytes())
            .expect("write");
        let mut data = [0; 4];
        client.region_read(0, 0, &mut data).expect("read");
        assert_eq!(u32::from_ne_bytes(data), value);
    }
    drop(client);
    server.end().expect("the client left");
}

#[test]
fn a_reply_that_comes_too_late_is_a_time_out_and_then_discarded() {
    let mut backend = TestBackend::new();
    let (release, held) = std::sync::mpsc::channel::<()>();
    backend.on_write = Some(Box::new(move |_, offset, _| {
        if offset == 0x30 {
            held.recv().expect("released");
        }
        Ok(())
    }));
    let (mut client, _server) = pair_with(
        backend,
        SessionOptions::default(),
        ClientOptions::default().with_reply_timeout(Some(Duration::from_millis(50))),
    );
    let error = client.region_write(0, 0x30, &[1]).expect_err("too late");
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
    release.send(()).expect("the server waits");
    // The late reply comes before this one's.
    let begin = std::time::Instant::now();
    loop {
        let mut data = [0];
        match client.region_read(0, 0x30, &mut data) {
            Ok(()) => break assert_eq!(data, [1]),
            Err(ClientError::TimedOut { .. }) if begin.elapsed() < common::PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    }
}
