//! Clients that mean harm: each costs its own connection at most.

mod common;

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::raw::{Raw, message, version};
use common::{Event, PATIENCE, TestBackend, memfd, pair, serve, wait_for};
use hdv_vfio_user::server::{Error, Handshake, SessionOptions};
use hdv_vfio_user::vfio::irq_set;
use hdv_vfio_user::wire::{
    Command, DeviceInfo, DmaAccess, DmaMap, DmaUnmap, Header, IoFds, IrqInfo, IrqSet, RegionAccess,
    RegionInfo, WriteEntry, WriteMulti,
};
use hdv_vfio_user::{Errno, limits};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use zerocopy::{FromBytes, IntoBytes};

/// One byte more than a transfer may have.
const TOO_MUCH: u32 = (1 << 20) + 1;
/// One byte more than a message may have.
const TOO_LARGE: u32 = (1 << 20) + 4096 + 1;

/// The session still answers.
fn assert_alive(raw: &mut Raw) {
    let read = RegionAccess {
        offset: 0,
        region: 0,
        count: 4,
    };
    let reply = raw.call(Command::RegionRead, &read, &[], &[]);
    assert_eq!(reply.expect("alive").len(), 20);
}

#[test]
fn every_command_checks_its_length() {
    let (mut raw, running) = Raw::connected();
    let whole: [(Command, usize); 11] = [
        (Command::DmaMap, 32),
        (Command::DmaUnmap, 24),
        (Command::DeviceGetInfo, 16),
        (Command::DeviceGetRegionInfo, 32),
        (Command::DeviceGetRegionIoFds, 16),
        (Command::DeviceGetIrqInfo, 16),
        (Command::DeviceSetIrqs, 20),
        (Command::RegionRead, 16),
        (Command::RegionWrite, 16),
        (Command::RegionWriteMulti, 8),
        (Command::Version, 4),
    ];
    for (command, size) in whole {
        for length in [0, 1, size - 1] {
            let result = raw.call(command, &[0_u8; 0], &vec![0; length], &[]);
            assert_eq!(result, Err(Errno::INVAL), "{command} of {length} bytes");
        }
    }
    assert_eq!(
        raw.call(Command::DeviceReset, &[0_u8], &[], &[]),
        Err(Errno::INVAL)
    );
    assert_eq!(running.record.events(), [Event::FirstUse]);
    assert_alive(&mut raw);
}

#[test]
fn what_is_not_supported_says_so() {
    let (mut raw, _running) = Raw::connected();
    for command in [
        Command::DeviceFeature,
        Command::MigDataRead,
        Command::MigDataWrite,
    ] {
        assert_eq!(
            raw.call(command, &[8_u32, 1 << 16], &[], &[]),
            Err(Errno::OPNOTSUPP),
            "{command}"
        );
    }
    let access = DmaAccess {
        address: 0,
        count: 0,
    };
    for command in [Command::DmaRead, Command::DmaWrite] {
        assert_eq!(raw.call(command, &access, &[], &[]), Err(Errno::INVAL));
    }
    for number in [0, 14, 19, u16::MAX] {
        let header = Header {
            message_id: 77,
            command: number,
            message_size: 16,
            ..Header::default()
        };
        raw.send(header.as_bytes());
        let (reply, body) = raw.receive();
        assert_eq!(reply.reported_error(), Some(Errno::NOSYS), "{number}");
        assert!(body.is_empty() && reply.message_id == 77 && reply.command == number);
    }
    assert_alive(&mut raw);
}

#[test]
fn a_second_version_and_unknown_types_are_errors_and_stray_replies_nothing() {
    let (mut raw, running) = Raw::connected();
    raw.send(&version("{}"));
    assert_eq!(raw.receive().0.reported_error(), Some(Errno::INVAL));
    for kind in 2..16 {
        let header = Header {
            flags: kind,
            ..Header::command(3, Command::DeviceReset, 0)
        };
        raw.send(header.as_bytes());
        assert_eq!(
            raw.receive().0.reported_error(),
            Some(Errno::INVAL),
            "{kind}"
        );
    }
    let stray = Header::command(3, Command::DmaRead, 0).reply(4);
    raw.send(&[stray.as_bytes(), &[0; 4]].concat());
    assert_alive(&mut raw);
    assert_eq!(
        running.record.events(),
        [Event::FirstUse, Event::Read(0, 0, 4)]
    );
}

#[test]
fn maps_are_checked() {
    let (mut raw, running) = Raw::connected();
    let file = memfd(0x10000, 1);
    let right = DmaMap {
        argsz: 32,
        flags: 3,
        offset: 0x1000,
        address: 0x2000,
        size: 0x1000,
    };
    let wrong = [
        DmaMap { argsz: 31, ..right },
        DmaMap { flags: 0, ..right },
        DmaMap { flags: 4, ..right },
        DmaMap { flags: 7, ..right },
        DmaMap { size: 0, ..right },
        DmaMap {
            size: 0x800,
            ..right
        },
        DmaMap {
            address: 0x2800,
            ..right
        },
        DmaMap { offset: 1, ..right },
        DmaMap {
            address: u64::MAX - 0xfff,
            size: 0x2000,
            ..right
        },
        DmaMap {
            size: u64::MAX - 0xfff,
            ..right
        },
        DmaMap {
            offset: u64::MAX - 0xfff,
            ..right
        },
        DmaMap {
            offset: i64::MAX as u64 - 0xfff,
            ..right
        },
    ];
    for map in wrong {
        let result = raw.call(Command::DmaMap, &map, &[], &[file.as_fd()]);
        assert_eq!(result, Err(Errno::INVAL), "{map:x?}");
    }
    let unmap = DmaUnmap {
        argsz: 24,
        flags: 0,
        address: 0x2000,
        size: 0x1000,
    };
    for wrong in [
        DmaUnmap { argsz: 23, ..unmap },
        DmaUnmap { flags: 1, ..unmap },
        DmaUnmap { flags: 2, ..unmap },
        DmaUnmap {
            flags: 3,
            address: 0,
            size: 0,
            ..unmap
        },
        DmaUnmap { size: 0, ..unmap },
        DmaUnmap {
            address: u64::MAX,
            size: 2,
            ..unmap
        },
    ] {
        let result = raw.call(Command::DmaUnmap, &wrong, &[], &[]);
        assert_eq!(result, Err(Errno::INVAL), "{wrong:x?}");
    }
    assert_eq!(running.record.events(), [], "nothing reached the backend");
    // The last page of the address space can be mapped, and the reply echoes an unmap.
    let last = DmaMap {
        address: u64::MAX - 0xfff,
        ..right
    };
    assert_eq!(
        raw.call(Command::DmaMap, &last, &[], &[file.as_fd()]),
        Ok(vec![])
    );
    let echoed = raw.call(Command::DmaUnmap, &unmap, &[], &[]);
    assert_eq!(echoed, Ok(unmap.as_bytes().to_vec()));
}

#[test]
fn the_room_that_the_client_has_is_respected() {
    let (mut raw, _running) = Raw::connected();
    let ask = |argsz, index| RegionInfo {
        argsz,
        index,
        ..RegionInfo::default()
    };
    // 32 fixed, 16 for the headers, two areas of 16 each.
    for argsz in [0, 31] {
        let result = raw.call(Command::DeviceGetRegionInfo, &ask(argsz, 1), &[], &[]);
        assert_eq!(result, Err(Errno::INVAL));
    }
    for argsz in [32, 79] {
        let body = raw
            .call(Command::DeviceGetRegionInfo, &ask(argsz, 1), &[], &[])
            .expect("the fixed part");
        let info = RegionInfo::read_from_bytes(&body).expect("no more than that");
        // QEMU refuses an offset of 0 here, though there is no room for what it points to.
        assert_eq!((info.argsz, info.cap_offset), (80, 32));
    }
    let body = raw
        .call(Command::DeviceGetRegionInfo, &ask(80, 1), &[], &[])
        .expect("all of it");
    assert_eq!(body.len(), 80);

    let ask = |argsz| IoFds {
        argsz,
        ..IoFds::default()
    };
    let refused = raw.call(Command::DeviceGetRegionIoFds, &ask(15), &[], &[]);
    assert_eq!(refused, Err(Errno::INVAL));
    let body = raw
        .call(Command::DeviceGetRegionIoFds, &ask(95), &[], &[])
        .expect("the fixed part");
    let info = IoFds::read_from_bytes(&body).expect("no more than that");
    assert_eq!((info.argsz, info.count), (96, 2));
    let body = raw
        .call(Command::DeviceGetRegionIoFds, &ask(96), &[], &[])
        .expect("all of it");
    assert_eq!(body.len(), 96);

    let short = DeviceInfo {
        argsz: 15,
        ..DeviceInfo::default()
    };
    let result = raw.call(Command::DeviceGetInfo, &short, &[], &[]);
    assert_eq!(result, Err(Errno::INVAL));
    let short = IrqInfo {
        argsz: 15,
        ..IrqInfo::default()
    };
    let result = raw.call(Command::DeviceGetIrqInfo, &short, &[], &[]);
    assert_eq!(result, Err(Errno::INVAL));
}

#[test]
fn interrupt_requests_are_checked() {
    let (mut raw, running) = Raw::connected();
    let right = IrqSet {
        argsz: 20,
        flags: irq_set::DATA_NONE | irq_set::ACTION_TRIGGER,
        index: 2,
        start: 0,
        count: 1,
    };
    let both = irq_set::DATA_NONE | irq_set::DATA_BOOL | irq_set::ACTION_TRIGGER;
    let actions = irq_set::DATA_NONE | irq_set::ACTION_TRIGGER | irq_set::ACTION_MASK;
    let bools = irq_set::DATA_BOOL | irq_set::ACTION_TRIGGER;
    let cases: [(IrqSet, &[u8]); 13] = [
        (IrqSet { argsz: 19, ..right }, &[]),
        (IrqSet { flags: 0, ..right }, &[]),
        (
            IrqSet {
                flags: irq_set::DATA_NONE,
                ..right
            },
            &[],
        ),
        (
            IrqSet {
                flags: irq_set::ACTION_TRIGGER,
                ..right
            },
            &[],
        ),
        (
            IrqSet {
                flags: both,
                ..right
            },
            &[],
        ),
        (
            IrqSet {
                flags: actions,
                ..right
            },
            &[],
        ),
        (
            IrqSet {
                flags: right.flags | 1 << 6,
                ..right
            },
            &[],
        ),
        (IrqSet { index: 5, ..right }, &[]),
        (IrqSet { start: 64, ..right }, &[]),
        (
            IrqSet {
                start: u32::MAX,
                ..right
            },
            &[],
        ),
        (
            IrqSet {
                count: u32::MAX,
                start: 1,
                ..right
            },
            &[],
        ),
        (
            IrqSet {
                flags: bools,
                count: 2,
                ..right
            },
            &[1],
        ),
        (
            IrqSet {
                flags: bools,
                count: 2,
                ..right
            },
            &[1, 1, 1],
        ),
    ];
    for (set, data) in cases {
        let result = raw.call(Command::DeviceSetIrqs, &set, data, &[]);
        assert_eq!(result, Err(Errno::INVAL), "{set:x?}");
    }
    let result = raw.call(Command::DeviceSetIrqs, &right, &[0], &[]);
    assert_eq!(result, Err(Errno::INVAL), "data that should not be there");
    let start = IrqSet {
        start: 1,
        count: 0,
        ..right
    };
    let result = raw.call(Command::DeviceSetIrqs, &start, &[], &[]);
    assert_eq!(result, Err(Errno::INVAL), "nothing from 1 on");
    assert_eq!(running.record.events(), [Event::FirstUse]);
}

#[test]
fn counts_must_match_the_bytes() {
    let (mut raw, running) = Raw::connected();
    let access = |count| RegionAccess {
        offset: 0,
        region: 3,
        count,
    };
    for (count, data) in [(4, 3), (4, 5), (0, 1), (u32::MAX, 4)] {
        let result = raw.call(Command::RegionWrite, &access(count), &vec![0; data], &[]);
        assert_eq!(result, Err(Errno::INVAL), "{count} with {data}");
    }
    for (count, data) in [(4, 1), (TOO_MUCH, 0), (u32::MAX, 0)] {
        let result = raw.call(Command::RegionRead, &access(count), &vec![0; data], &[]);
        assert_eq!(result, Err(Errno::INVAL), "{count} with {data}");
    }
    let entry = |count| WriteEntry {
        count,
        ..WriteEntry::default()
    };
    for (said, entries) in [(1, 0), (0, 1), (2, 1), (u64::MAX, 1)] {
        let entries: Vec<u8> = (0..entries)
            .flat_map(|_| entry(1).as_bytes().to_vec())
            .collect();
        let result = raw.call(
            Command::RegionWriteMulti,
            &WriteMulti { wr_cnt: said },
            &entries,
            &[],
        );
        assert_eq!(result, Err(Errno::INVAL), "{said}");
    }
    let nine = raw.call(
        Command::RegionWriteMulti,
        &WriteMulti { wr_cnt: 1 },
        entry(9).as_bytes(),
        &[],
    );
    assert_eq!(nine, Err(Errno::INVAL), "nine bytes of eight");
    assert_eq!(running.record.events(), [Event::FirstUse]);
    // Nothing at all is a possible amount.
    raw.call(Command::RegionRead, &access(0), &[], &[])
        .expect("0");
    raw.call(Command::RegionWrite, &access(0), &[], &[])
        .expect("0");
    raw.call(
        Command::RegionWriteMulti,
        &WriteMulti { wr_cnt: 0 },
        &[],
        &[],
    )
    .expect("0");
}

#[test]
fn posted_commands_get_no_reply_even_when_they_fail() {
    let (mut raw, running) = Raw::connected();
    for (command, body) in [
        (Command::RegionWrite, &[0; 3][..]),
        (Command::DmaMap, &[0; 32][..]),
        (Command::DeviceFeature, &[][..]),
        (Command::RegionRead, &[0; 16][..]),
    ] {
        let header = Header {
            flags: 0x10,
            ..Header::command(9, command, body.len())
        };
        raw.send(&[header.as_bytes(), body].concat());
    }
    let unknown = Header {
        command: 200,
        flags: 0x10,
        message_size: 16,
        ..Header::default()
    };
    raw.send(unknown.as_bytes());
    // The next reply is the next command's.
    assert_alive(&mut raw);
    assert_eq!(running.statistics.messages(), 6);
    assert!(raw.is_silent());
}

#[test]
fn impossible_sizes_end_the_connection_after_what_came_before() {
    for size in [0, 15, TOO_LARGE, u32::MAX] {
        let (mut raw, running) = Raw::connected();
        let read = RegionAccess {
            offset: 0,
            region: 0,
            count: 4,
        };
        let bad = Header {
            message_size: size,
            ..Header::command(2, Command::RegionRead, 0)
        };
        let good = message(1, Command::RegionRead, read.as_bytes());
        raw.send(&[&good, bad.as_bytes(), &good].concat());
        assert_eq!(raw.receive().0.message_id, 1, "the good one is answered");
        assert!(raw.is_closed(), "{size}");
        assert!(matches!(running.end(), Err(Error::Framing(_))));
    }
}

#[test]
fn a_truncated_message_is_a_client_that_left() {
    let (mut raw, running) = Raw::connected();
    let whole = message(1, Command::RegionWrite, &[0; 20]);
    raw.send(&whole[..30]);
    drop(raw);
    running.end().expect("the client left");
}

#[test]
fn a_handshake_that_is_none_ends() {
    let garbage: [(&str, Vec<u8>); 9] = [
        ("zeroes", vec![0; 64]),
        (
            "text",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
        (
            "another command",
            message(0, Command::DeviceGetInfo, &[0; 16]),
        ),
        ("a reply", {
            let header = Header::command(0, Command::Version, 4).reply(4);
            [header.as_bytes(), &[0; 4]].concat()
        }),
        ("no version numbers", message(0, Command::Version, &[0; 3])),
        ("major 1", message(0, Command::Version, &[1, 0, 0, 0])),
        ("no JSON", version("{capabilities}")),
        (
            "wrong type",
            version(r#"{"capabilities":{"max_msg_fds":true}}"#),
        ),
        ("too large", {
            let body = vec![0; limits::MAX_VERSION_SIZE];
            message(0, Command::Version, &body)
        }),
    ];
    for (what, bytes) in garbage {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        ours.write_all(&bytes).expect("sent");
        let mut handshake = Handshake::new(theirs, SessionOptions::default()).expect("a handshake");
        assert!(handshake.advance().is_err(), "{what}");
        drop(handshake);
        let mut rest = Vec::new();
        // A close with unread bytes is a reset.
        let _ = ours.read_to_end(&mut rest);
        if what == "major 1" || what == "no JSON" || what == "wrong type" {
            let header = Header::read_from_bytes(&rest).expect("an error reply");
            assert_eq!(header.reported_error(), Some(Errno::INVAL), "{what}");
        }
    }
}

#[test]
fn a_handshake_waits_for_its_bytes_without_blocking() {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    let mut handshake = Handshake::new(theirs, SessionOptions::default()).expect("a handshake");
    let bytes = version(r#"{"capabilities":{"max_msg_fds":4}}"#);
    for byte in &bytes {
        assert!(!handshake.advance().expect("nothing is wrong yet"));
        ours.write_all(&[*byte]).expect("sent");
    }
    assert!(handshake.advance().expect("all there"));
    assert_eq!(
        handshake.client_capabilities().expect("there").max_msg_fds,
        4
    );
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    drop(ours);
    let mut handshake = Handshake::new(theirs, SessionOptions::default()).expect("a handshake");
    assert!(matches!(handshake.advance(), Err(Error::LeftEarly)));
}

#[test]
fn commands_that_come_with_version_are_not_lost() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let read = RegionAccess {
        offset: 0,
        region: 0,
        count: 4,
    };
    let burst: Vec<u8> = std::iter::once(version("{}"))
        .chain((0..500).map(|id| message(id, Command::RegionRead, read.as_bytes())))
        .flatten()
        .collect();
    (&ours).write_all(&burst).expect("sent");
    let _running = serve(theirs, SessionOptions::default(), TestBackend::new());
    let mut header = [0; 16];
    (&ours).read_exact(&mut header).expect("VERSION");
    let size = Header::read_from_bytes(&header).expect("16").message_size;
    (&ours)
        .read_exact(&mut vec![0; size as usize - 16])
        .expect("its body");
    for id in 0..500 {
        let mut reply = [0; 36];
        (&ours).read_exact(&mut reply).expect("a reply");
        let header = Header::read_from_prefix(&reply).expect("16").0;
        assert_eq!(header.message_id, id, "in order");
    }
}

#[test]
fn a_client_that_never_reads_blocks_its_own_session_only() {
    let (mut raw, running) = Raw::connected();
    let read = RegionAccess {
        offset: 0,
        region: 0,
        count: 4096,
    };
    let flood = message(1, Command::RegionRead, read.as_bytes()).repeat(64);
    raw.stream.set_nonblocking(true).expect("set");
    let mut sent = 0_usize;
    let mut quiet_since = Instant::now();
    // Until the server has not taken anything for a while.
    while quiet_since.elapsed() < Duration::from_millis(300) {
        match raw.stream.write(&flood) {
            Ok(count) => {
                sent += count;
                quiet_since = Instant::now();
            }
            Err(_) => std::thread::yield_now(),
        }
        assert!(sent < 64 << 20, "what the server takes in is bounded");
    }
    let handled = running.statistics.messages();
    let (mut other, _other_running) = pair();
    other.region_write(0, 0, &[1]).expect("the next is served");
    assert_eq!(running.statistics.messages(), handled, "still blocked");
    running.closer.close();
    running.end().expect("closed");
}

#[test]
fn random_bytes_do_no_harm() {
    let mut seeded = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for round in 0..300 {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        ours.write_all(&version("{}")).expect("sent");
        let mut backend = TestBackend::new();
        backend.bar3 = vec![0; common::BAR3_SIZE];
        let running = serve(theirs, SessionOptions::default(), backend);
        let mut bytes = vec![0; 2048];
        seeded.fill_bytes(&mut bytes);
        if round % 2 == 0 {
            // Plausible headers, so that the bytes get further.
            for (index, chunk) in (0_u16..).zip(bytes.chunks_mut(64)) {
                let header = Header {
                    message_size: 64,
                    flags: u32::from(chunk[8] & 0x11),
                    ..Header::command(index, Command::ALL[usize::from(index % 17)], 0)
                };
                chunk[..16].copy_from_slice(header.as_bytes());
                if chunk[16] < 200 {
                    chunk[20..48].fill(0);
                }
            }
        }
        let _ = ours.write_all(&bytes);
        ours.shutdown(std::net::Shutdown::Write).expect("shut");
        ours.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut replies = Vec::new();
        let _ = ours.read_to_end(&mut replies);
        // Either it has ended, or it waits for the rest of a message that never comes.
        drop(ours);
        match running.end() {
            Ok(()) | Err(Error::Framing(_)) => {}
            Err(error) => panic!("round {round}: {error}"),
        }
    }
}

#[test]
fn a_thousand_connections_leave_nothing() {
    for round in 0..1000 {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        if round % 2 == 0 {
            (&ours).write_all(&version("{}")).expect("sent");
        }
        let mut handshake = Handshake::new(theirs, SessionOptions::default()).expect("a handshake");
        let arrived = handshake.advance().expect("nothing wrong");
        assert_eq!(arrived, round % 2 == 0);
        if arrived {
            handshake.refuse(Errno::BUSY);
        }
    }
    let (mut raw, running) = Raw::connected();
    assert_alive(&mut raw);
    wait_for("count", || running.statistics.messages() == 1);
}
