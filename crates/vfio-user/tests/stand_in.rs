//! A connection that outlives its session: what a client sees when the process that served it is gone, at whatever moment.
//!
//! A session whose process is gone is one here that never comes back from a call into its backend.

mod common;

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use common::raw::Raw;
use common::{PATIENCE, TestBackend, memfd, serve_with_ledger, wait_for};
use hdv_vfio_user::Errno;
use hdv_vfio_user::client::{Client, ClientError, ClientOptions};
use hdv_vfio_user::server::{Error, Handshake, Ledger, Left, SessionOptions, StandIn};
use hdv_vfio_user::wire::{self, Command, Header, MessageFlags, RegionAccess};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

/// An access there does not come back.
const STUCK: u64 = 0x200;

/// A session that can get stuck, and what is needed to go on with its connection.
struct Scene {
    duplicate: UnixStream,
    ledger: OwnedFd,
    stuck: Receiver<()>,
    /// Dropped, what is stuck comes back.
    _release: Sender<()>,
}

fn scene(stream: UnixStream) -> (Scene, common::Running) {
    let duplicate = stream.try_clone().unwrap();
    let ledger = Ledger::file().unwrap();
    let (tells, stuck) = mpsc::channel();
    let (release, waits) = mpsc::channel::<()>();
    let mut backend = TestBackend::new();
    backend.on_read = Some(Box::new(move |offset| {
        if offset == STUCK {
            tells.send(()).unwrap();
            let _ = waits.recv();
        }
    }));
    let open = Ledger::open(ledger.try_clone().unwrap()).unwrap();
    let running = serve_with_ledger(stream, SessionOptions::default(), backend, Some(open));
    let scene = Scene {
        duplicate,
        ledger,
        stuck,
        _release: release,
    };
    (scene, running)
}

impl Scene {
    fn await_stuck(&self) {
        self.stuck.recv_timeout(PATIENCE).unwrap();
    }

    fn left(&self) -> Left {
        Left::read(self.ledger.as_fd()).unwrap()
    }

    fn stand_in(&self) -> JoinHandle<Result<(), Error>> {
        let (stream, left) = (self.duplicate.try_clone().unwrap(), self.left());
        std::thread::spawn(move || StandIn::run(stream, left))
    }

    /// Waits until the session has taken everything out of the socket.
    fn await_received(&self) {
        wait_for("receive", || {
            rustix::io::ioctl_fionread(&self.duplicate).unwrap() == 0
        });
    }
}

fn client(stream: UnixStream) -> Client {
    let options = ClientOptions::default().with_reply_timeout(Some(PATIENCE));
    Client::from_stream(stream, options).unwrap()
}

fn connected() -> (Client, Scene, common::Running) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let connecting = std::thread::spawn(move || client(ours));
    let (scene, running) = scene(theirs);
    (connecting.join().unwrap(), scene, running)
}

fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Errno {
    match result.unwrap_err() {
        ClientError::Refused { errno, .. } => errno,
        other => panic!("{other}"),
    }
}

#[test]
fn an_access_under_way_is_answered_and_what_follows_too() {
    let (mut client, scene, running) = connected();
    client.reset().unwrap();
    let reading = std::thread::spawn(move || {
        let mut data = [0; 4];
        client.region_read(0, STUCK, &mut data).unwrap();
        (client, data)
    });
    scene.await_stuck();
    let standing = scene.stand_in();
    let (mut client, data) = reading.join().unwrap();
    assert_eq!(data, [0xff; 4]);

    let mut page = [0; 4096];
    client.region_read(7, 0, &mut page).unwrap();
    assert_eq!(page, [0xff; 4096]);
    client.region_write(0, 0, &[1; 8]).unwrap();
    client.region_write_posted(0, 0, &[1; 8]).unwrap();
    let memory = memfd(0x1000, 1);
    let (read_only, with_file) = (hdv_vfio_user::DmaFlags::READ, Some((memory.as_fd(), 0)));
    client.dma_map(0, 0x1000, read_only, with_file).unwrap();
    client.dma_map(0x1000, 0x1000, read_only, None).unwrap();
    client.dma_unmap(0, 0x1000).unwrap();
    client.dma_unmap_all().unwrap();
    let event = common::eventfd();
    client.set_irq_event_fds(2, 0, &[event.as_fd()]).unwrap();
    client.disable_irqs(2).unwrap();
    client.reset().unwrap();
    assert_eq!(refused(client.device_info()), Errno::NODEV);
    assert_eq!(refused(client.region_info(0)), Errno::NODEV);
    client.region_read(0, 0, &mut page[..1]).unwrap();
    drop(client);
    standing.join().unwrap().unwrap();
    drop(scene);
    drop(running);
}

#[test]
fn who_makes_the_kept_socket_non_blocking_makes_nothing_spin() {
    let (mut client, scene, running) = connected();
    client.reset().unwrap();
    let reading = std::thread::spawn(move || {
        let read = client.region_read(0, STUCK, &mut [0; 4]);
        read.map(|()| client)
    });
    scene.await_stuck();
    let (tells, thread) = mpsc::channel();
    let (stream, left) = (scene.duplicate.try_clone().unwrap(), scene.left());
    let standing = std::thread::spawn(move || {
        tells.send(rustix::thread::gettid()).unwrap();
        StandIn::run(stream, left)
    });
    let thread = thread.recv_timeout(PATIENCE).unwrap();
    let mut client = reading.join().unwrap().unwrap();
    rustix::io::ioctl_fionbio(&scene.duplicate, true).unwrap();
    let mut data = [0; 4];
    client.region_read(0, 0, &mut data).unwrap();
    assert_eq!(data, [0xff; 4]);
    // One that spins never sleeps.
    let status = format!("/proc/self/task/{}/stat", thread.as_raw_nonzero());
    wait_for("sleep", || {
        let status = std::fs::read_to_string(&status).unwrap();
        let (_, state) = status.rsplit_once(')').unwrap();
        state.trim_start().starts_with('S')
    });
    client.region_read(0, 0, &mut data).unwrap();
    drop(client);
    standing.join().unwrap().unwrap();
    drop(scene);
    drop(running);
}

#[test]
fn a_client_that_is_still_finding_out_is_told_of_the_failure() {
    let (mut client, scene, running) = connected();
    let reading = std::thread::spawn(move || {
        let errno = refused(client.region_read(0, STUCK, &mut [0; 4]));
        (client, errno)
    });
    scene.await_stuck();
    let standing = scene.stand_in();
    let (mut client, errno) = reading.join().unwrap();
    assert_eq!(errno, Errno::IO);
    assert_eq!(refused(client.region_read(7, 0, &mut [0; 4])), Errno::IO);
    client.dma_unmap_all().unwrap();
    client.reset().unwrap();
    client.region_read(7, 0, &mut [0; 4]).unwrap();
    drop(client);
    standing.join().unwrap().unwrap();
    drop(scene);
    drop(running);
}

/// The session of a process that is gone between two messages.
#[test]
fn a_connection_that_was_idle_goes_on() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let duplicate = theirs.try_clone().unwrap();
    let connecting = std::thread::spawn(move || client(ours));
    let mut handshake = Handshake::new(theirs, SessionOptions::default()).unwrap();
    handshake.wait().unwrap();
    let ledger = Ledger::file().unwrap();
    let before = Left::read(ledger.as_fd()).unwrap();
    assert!(!before.is_agreed());
    let nobody = duplicate.try_clone().unwrap();
    assert!(matches!(
        StandIn::run(nobody, before),
        Err(Error::NoVersionYet)
    ));
    let mut session = handshake.accept().unwrap();
    session.keep_ledger(Ledger::open(ledger.try_clone().unwrap()).unwrap());
    // It is gone without a word.
    std::mem::forget(session);
    let left = Left::read(ledger.as_fd()).unwrap();
    assert!(left.is_agreed());
    let standing = std::thread::spawn(move || StandIn::run(duplicate, left));
    let mut client = connecting.join().unwrap();
    client.dma_unmap_all().unwrap();
    drop(client);
    standing.join().unwrap().unwrap();
}

#[test]
fn a_backend_that_panics_leaves_the_connection_to_who_goes_on() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let duplicate = theirs.try_clone().unwrap();
    let ledger = Ledger::file().unwrap();
    let open = Ledger::open(ledger.try_clone().unwrap()).unwrap();
    let connecting = std::thread::spawn(move || client(ours));
    let serving = std::thread::spawn(move || {
        let mut backend = TestBackend::new();
        backend.on_read = Some(Box::new(|_| panic!("on purpose")));
        let mut handshake = Handshake::new(theirs, SessionOptions::default()).unwrap();
        handshake.wait().unwrap();
        let mut session = handshake.accept().unwrap();
        session.keep_ledger(open);
        let _ = session.run(&mut backend);
    });
    let mut client = connecting.join().unwrap();
    client.reset().unwrap();
    let reading = std::thread::spawn(move || {
        client.region_read(0, 0, &mut [0; 4]).unwrap();
        client
    });
    serving.join().unwrap_err();
    let left = Left::read(ledger.as_fd()).unwrap();
    let standing = std::thread::spawn(move || StandIn::run(duplicate, left));
    drop(reading.join().unwrap());
    standing.join().unwrap().unwrap();
}

fn access(offset: u64, count: u32) -> RegionAccess {
    RegionAccess {
        offset,
        region: 0,
        count,
    }
}

fn bytes(id: u16, command: Command, flags: MessageFlags, body: &[u8]) -> Vec<u8> {
    let header = Header {
        flags: flags.bits(),
        ..Header::command(id, command, body.len())
    };
    [header.as_bytes(), body].concat()
}

/// A reply to a read of `count` bytes, which the socket has no room for: none at all if it `is_full`.
fn without_room(region: u32, count: u32, is_full: bool) {
    let (stream, theirs) = UnixStream::pair().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut raw = Raw { stream, next_id: 0 };
    raw.send(&common::raw::version("{}"));
    let (scene, running) = scene(theirs);
    raw.receive();
    raw.call(Command::DeviceReset, &[0_u8; 0], &[], &[])
        .unwrap();
    let stuck = RegionAccess {
        region,
        ..access(STUCK, count)
    };
    let wanted = MessageFlags::empty();
    raw.send(&bytes(10, Command::RegionRead, wanted, stuck.as_bytes()));
    scene.await_stuck();
    scene.duplicate.set_nonblocking(true).unwrap();
    let mut filled = 0;
    while is_full && let Ok(count) = (&scene.duplicate).write(&[0; 64]) {
        filled += count;
    }
    let Scene {
        duplicate,
        ledger,
        _release: release,
        ..
    } = scene;
    drop(release);
    wait_for("end of the session", || running.closer.is_closed());
    if is_full {
        let left = Left::read(ledger.as_fd()).unwrap();
        let standing = std::thread::spawn(move || StandIn::run(duplicate, left));
        raw.stream.read_exact(&mut vec![0; filled]).unwrap();
        let (header, body) = raw.receive();
        assert_eq!((header.message_id, header.reported_error()), (10, None));
        assert_eq!(body, [stuck.as_bytes(), &[0xff; 4]].concat());
        drop(raw);
        standing.join().unwrap().unwrap();
    } else {
        assert!(raw.is_closed(), "who has a duplicate could go on");
    }
    drop(running);
}

#[test]
fn a_reply_of_which_nothing_could_be_sent_is_still_awaited() {
    without_room(0, 4, true);
}

#[test]
fn a_reply_of_which_a_part_was_sent_ends_the_connection() {
    without_room(3, 1 << 20, false);
}

/// Messages that a session takes in with one receive, and gets stuck in the first. The stream is cut `cut` bytes after
/// them, in a write of 100 bytes; the rest comes when somebody else answers.
fn cut_off(cut: usize) {
    let (stream, theirs) = UnixStream::pair().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut raw = Raw { stream, next_id: 0 };
    raw.send(&common::raw::version("{}"));
    let (scene, running) = scene(theirs);
    raw.receive();
    raw.call(Command::DeviceReset, &[0_u8; 0], &[], &[])
        .unwrap();

    let (wanted, posted) = (MessageFlags::empty(), MessageFlags::NO_REPLY);
    let unmap = wire::DmaUnmap {
        argsz: 24,
        flags: 0,
        address: 0x1000,
        size: 0x2000,
    };
    let write = [access(4, 4).as_bytes(), &[1; 4]].concat();
    let long = [access(8, 100).as_bytes(), &[2; 100]].concat();
    let stuck = access(STUCK, 4);
    let mut burst = [
        bytes(10, Command::RegionRead, wanted, stuck.as_bytes()),
        bytes(11, Command::DmaUnmap, wanted, unmap.as_bytes()),
        bytes(12, Command::RegionWrite, posted, &write),
        bytes(13, Command::RegionWrite, wanted, &write),
    ]
    .concat();
    let partial = bytes(14, Command::RegionWrite, wanted, &long);
    let (gone, rest) = partial.split_at(cut);
    burst.extend_from_slice(gone);
    raw.send(&burst);
    scene.await_stuck();
    scene.await_received();

    let standing = scene.stand_in();
    raw.send(rest);
    let (header, body) = raw.receive();
    assert_eq!((header.message_id, header.reported_error()), (10, None));
    assert_eq!(body, [stuck.as_bytes(), &[0xff; 4]].concat(), "{cut}");
    let (header, body) = raw.receive();
    assert_eq!((header.message_id, &*body), (11, unmap.as_bytes()));
    let (header, body) = raw.receive();
    assert_eq!((header.message_id, &*body), (13, access(4, 4).as_bytes()));
    let (header, body) = raw.receive();
    assert_eq!(header.message_id, 14, "{cut}");
    assert_eq!(
        RegionAccess::read_from_bytes(&body).unwrap(),
        access(8, 100)
    );
    let again = access(0, 2);
    let body = raw.call(Command::RegionRead, &again, &[], &[]).unwrap();
    assert_eq!(body[16..], [0xff; 2]);
    assert!(raw.is_silent());
    drop(raw);
    standing.join().unwrap().unwrap();
    drop(scene);
    drop(running);
}

#[test]
fn what_a_session_has_read_ahead_is_answered_in_order_wherever_the_stream_is_cut() {
    for cut in [0, 1, 15, 16, 17, 39, 40, 41, 100, 131] {
        cut_off(cut);
    }
}

#[test]
fn more_than_can_be_written_down_costs_replies_only() {
    let (stream, theirs) = UnixStream::pair().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut raw = Raw { stream, next_id: 0 };
    raw.send(&common::raw::version("{}"));
    let (scene, running) = scene(theirs);
    raw.receive();
    let stuck = access(STUCK, 4);
    let wanted = MessageFlags::empty();
    let mut burst = bytes(1000, Command::RegionRead, wanted, stuck.as_bytes());
    for id in 0..250 {
        burst.extend(bytes(id, Command::DeviceReset, wanted, &[]));
    }
    raw.send(&burst);
    scene.await_stuck();
    scene.await_received();
    let standing = scene.stand_in();
    assert_eq!(raw.receive().0.message_id, 1000);
    for id in 0..125 {
        assert_eq!(raw.receive().0.message_id, id);
    }
    raw.next_id = 2000;
    raw.call(Command::DeviceReset, &[0_u8; 0], &[], &[])
        .unwrap();
    drop(raw);
    standing.join().unwrap().unwrap();
    drop(scene);
    drop(running);
}

#[test]
fn a_client_that_breaks_framing_is_left() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let file = Ledger::file().unwrap();
    rustix::io::pwrite(&file, &(1_u64 << 32).to_ne_bytes(), 0).unwrap();
    let left = Left::read(file.as_fd()).unwrap();
    let standing = std::thread::spawn(move || StandIn::run(theirs, left));
    let mut raw = Raw {
        stream: ours,
        next_id: 0,
    };
    raw.send(&[0; 16]);
    assert!(raw.is_closed());
    let ended = standing.join().unwrap();
    assert!(matches!(ended, Err(Error::Framing(_))), "{ended:?}");
}

#[test]
fn a_ledger_is_a_sealed_file_of_its_size() {
    Ledger::open(Ledger::file().unwrap()).unwrap();
    assert!(Ledger::open(memfd(4096, 0)).is_err(), "not sealed");
    assert!(Ledger::open(common::eventfd()).is_err(), "no file");
    let flags = rustix::fs::MemfdFlags::ALLOW_SEALING;
    let short = rustix::fs::memfd_create("short", flags).unwrap();
    rustix::fs::ftruncate(&short, 100).unwrap();
    let seals = rustix::fs::SealFlags::SHRINK | rustix::fs::SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&short, seals).unwrap();
    assert!(Ledger::open(short).is_err(), "too short");
    assert!(Left::read(memfd(100, 0).as_fd()).is_err(), "too short");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever a hostile process has written there, whoever goes on says something that ends, and the connection with it.
    #[test]
    fn garbage_in_a_ledger_harms_nobody(
        state in any::<u64>(),
        counts in (any::<u8>(), any::<u8>()),
        partial in prop_oneof![Just(0), 0_u64..200, any::<u64>()],
        garbage in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 4096 - 16),
    ) {
        let file = Ledger::file().unwrap();
        // So that it is gone on with.
        let state = (state | 1 << 32) & !0xffff_ffff | u64::from(counts.0) | u64::from(counts.1) << 16;
        rustix::io::pwrite(&file, &state.to_ne_bytes(), 0).unwrap();
        rustix::io::pwrite(&file, &partial.to_ne_bytes(), 8).unwrap();
        rustix::io::pwrite(&file, &garbage, 16).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let left = Left::read(file.as_fd()).unwrap();
        let standing = std::thread::spawn(move || StandIn::run(theirs, left));
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        let said = std::io::copy(&mut &ours, &mut std::io::sink()).unwrap();
        prop_assert!(said < 126 * ((1 << 20) + 32));
        let _ = standing.join().unwrap();
    }
}
