//! Descriptors reach the message they came with, and never stay behind.
//!
//! Tests here count the descriptors of the process, so they run one after the other.

mod common;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use common::raw::{Raw, message, send_with_fds, version};
use common::{Event, TestBackend, eventfd, lock, memfd, open_descriptors, serve, wait_for};
use hdv_vfio_user::server::SessionOptions;
use hdv_vfio_user::vfio::irq_set;
use hdv_vfio_user::wire::{Command, DmaMap, DmaUnmap, Header, IrqSet, RegionAccess};
use hdv_vfio_user::{DmaFlags, Errno};
use zerocopy::IntoBytes;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn map(index: u64) -> DmaMap {
    DmaMap {
        argsz: 32,
        flags: 3,
        offset: 0,
        address: index * 0x1000,
        size: 0x1000,
    }
}

fn mapped(index: u64, file: Option<u8>) -> Event {
    Event::Map {
        address: index * 0x1000,
        size: 0x1000,
        flags: DmaFlags::READ | DmaFlags::WRITE,
        offset: 0,
        file,
    }
}

/// What QEMU does while the machine starts: maps in a row, without waiting for replies. The
/// server begins to read when all of it is in the socket.
#[test]
fn a_burst_of_maps_puts_every_descriptor_where_it_belongs() {
    let _one = lock(&ONE_AT_A_TIME);
    const MAPS: u64 = 60;
    let before = open_descriptors();
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    send_with_fds(&ours, &version(r#"{"capabilities":{}}"#), &[]);
    let mut expected = Vec::new();
    for index in 0..MAPS {
        let number = u16::try_from(index).expect("small");
        // Two of three bring a file; between them messages that bring none.
        let bytes = message(number, Command::DmaMap, map(index).as_bytes());
        if index % 3 == 0 {
            send_with_fds(&ours, &bytes, &[]);
            expected.push(mapped(index, None));
        } else {
            let first = u8::try_from(index).expect("small");
            let file = memfd(0x1000, first);
            send_with_fds(&ours, &bytes, &[file.as_fd()]);
            expected.push(mapped(index, Some(first)));
        }
        if index % 4 == 0 {
            let unmap = DmaUnmap {
                argsz: 24,
                flags: 0,
                address: index << 32,
                size: 0x1000,
            };
            let bytes = message(1000, Command::DmaUnmap, unmap.as_bytes());
            send_with_fds(&ours, &bytes, &[]);
            expected.push(Event::Unmap(index << 32, 0x1000));
        }
    }
    let running = serve(theirs, SessionOptions::default(), TestBackend::new());
    wait_for("all of them", || {
        running.record.events().len() >= expected.len()
    });
    assert_eq!(running.record.events(), expected);
    assert_eq!(running.statistics.errors(), 0);
    drop(ours);
    running.end().expect("the client left");
    assert_eq!(open_descriptors(), before, "nothing stays open");
}

#[test]
fn a_message_in_pieces_keeps_its_descriptors() {
    let _one = lock(&ONE_AT_A_TIME);
    let (raw, running) = Raw::connected();
    let bytes = message(1, Command::DmaMap, map(1).as_bytes());
    let file = memfd(0x1000, 9);
    // The file comes with the first, a middle, or the last piece, and the pieces are read one
    // at a time.
    for (at, piece) in [(0, 1), (0, 20), (17, 30), (40, 48)] {
        if at > 0 {
            send_with_fds(&raw.stream, &bytes[..at], &[]);
        }
        drain(&raw.stream);
        send_with_fds(&raw.stream, &bytes[at..piece], &[file.as_fd()]);
        drain(&raw.stream);
        if piece < bytes.len() {
            send_with_fds(&raw.stream, &bytes[piece..], &[]);
        }
        wait_for("map", || !running.record.events().is_empty());
        assert_eq!(running.record.take(), [mapped(1, Some(9))], "{at}..{piece}");
    }
}

/// Waits until the other end has read everything.
fn drain(stream: &UnixStream) {
    wait_for("reader", || {
        let mut unread: libc::c_int = 0;
        // SAFETY: SIOCOUTQ writes one int.
        let result = unsafe {
            libc::ioctl(
                std::os::fd::AsRawFd::as_raw_fd(stream),
                libc::TIOCOUTQ,
                &raw mut unread,
            )
        };
        assert_eq!(result, 0, "SIOCOUTQ");
        unread == 0
    });
}

#[test]
fn descriptors_that_a_command_does_not_take_are_an_error_and_closed() {
    let _one = lock(&ONE_AT_A_TIME);
    let (mut raw, running) = Raw::connected();
    let file = memfd(0x1000, 1);
    let fd = file.as_fd();
    let before = open_descriptors();
    let read = RegionAccess {
        offset: 0,
        region: 0,
        count: 4,
    };
    let cases = [
        raw.call(Command::RegionRead, &read, &[], &[fd]),
        raw.call(Command::RegionWrite, &read, &[0; 4], &[fd, fd]),
        raw.call(Command::DeviceReset, &[0_u8; 0], &[], &[fd]),
        raw.call(Command::DmaMap, &map(0), &[], &[fd, fd]),
        raw.call(Command::DmaUnmap, &[24, 0, 0, 0, 0x1000, 0], &[], &[fd]),
        raw.call(Command::Version, &[0_u8; 4], &[], &[fd]),
        raw.call(Command::DeviceFeature, &[8, 1], &[], &[fd]),
    ];
    for (index, case) in cases.into_iter().enumerate() {
        assert_eq!(case, Err(Errno::INVAL), "case {index}");
    }
    let set = |flags, count| IrqSet {
        argsz: 20,
        flags,
        index: 2,
        start: 0,
        count,
    };
    let trigger = irq_set::ACTION_TRIGGER;
    for (flags, count, data, fds) in [
        (irq_set::DATA_NONE, 1, &[][..], 1),
        (irq_set::DATA_BOOL, 1, &[1][..], 1),
        (irq_set::DATA_NONE, 0, &[][..], 1),
        (irq_set::DATA_EVENTFD, 0, &[][..], 1),
        (irq_set::DATA_EVENTFD, 3, &[][..], 2),
        (irq_set::DATA_EVENTFD, 1, &[][..], 2),
        (irq_set::DATA_EVENTFD, 1, &[0, 0, 0, 0][..], 1),
    ] {
        let set = set(flags | trigger, count);
        let result = raw.call(Command::DeviceSetIrqs, &set, data, &vec![fd; fds]);
        assert_eq!(result, Err(Errno::INVAL), "{set:?} with {fds}");
    }
    // An unknown command.
    send_with_fds(
        &raw.stream,
        Header {
            message_id: 5,
            command: 99,
            message_size: 16,
            ..Header::default()
        }
        .as_bytes(),
        &[fd],
    );
    assert_eq!(raw.receive().0.reported_error(), Some(Errno::NOSYS));
    // Seventeen are one too many, whatever the command.
    let events: Vec<_> = (0..17).map(|_| eventfd()).collect();
    let borrowed: Vec<_> = events.iter().map(AsFd::as_fd).collect();
    let many = set(irq_set::DATA_EVENTFD | trigger, 17);
    let result = raw.call(Command::DeviceSetIrqs, &many, &[], &borrowed);
    assert_eq!(result, Err(Errno::INVAL));
    let most = set(irq_set::DATA_EVENTFD | trigger, 16);
    drop(borrowed);
    let borrowed: Vec<_> = events[..16].iter().map(AsFd::as_fd).collect();
    raw.call(Command::DeviceSetIrqs, &most, &[], &borrowed)
        .expect("sixteen are allowed");
    drop(running.record.take_eventfds());
    drop(events);
    assert_eq!(open_descriptors(), before, "nothing stays open");
    assert!(
        running
            .record
            .events()
            .iter()
            .all(|event| matches!(event, Event::FirstUse | Event::SetIrqs { count: 16, .. })),
        "nothing else reached the backend"
    );
}

#[test]
fn descriptors_with_posted_and_broken_messages_are_closed() {
    let _one = lock(&ONE_AT_A_TIME);
    let before = open_descriptors();
    let (mut raw, running) = Raw::connected();
    let file = memfd(0x1000, 1);
    // A posted map that is refused: nobody is told, nothing is kept.
    let header = Header {
        flags: 0x10,
        ..Header::command(1, Command::DmaMap, 32)
    };
    let bad = DmaMap {
        size: 0x1001,
        ..map(0)
    };
    let bytes = [header.as_bytes(), bad.as_bytes()].concat();
    send_with_fds(&raw.stream, &bytes, &[file.as_fd()]);
    // Descriptors on every byte of a message that never ends, many more than are allowed.
    let endless = Header::command(2, Command::RegionWrite, 1000);
    for byte in endless.as_bytes() {
        send_with_fds(&raw.stream, &[*byte], &[file.as_fd(); 5]);
    }
    drain(&raw.stream);
    wait_for("reader", || running.statistics.messages() == 1);
    assert!(raw.is_silent());
    assert!(
        open_descriptors() < before + 40,
        "at most what one message may carry"
    );
    drop(raw);
    running.end().expect("the client left");
    drop(file);
    assert_eq!(open_descriptors(), before, "nothing stays open");
}
