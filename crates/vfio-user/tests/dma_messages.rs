//! Client memory reached by messages: on the main socket and on a twin socket.

mod common;

use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::raw::{Raw, version};
use common::{Event, PATIENCE, Record, TestBackend, lock, pair_with};
use hdv_vfio_user::Errno;
use hdv_vfio_user::client::{Client, ClientOptions, DmaHandler};
use hdv_vfio_user::server::{DmaError, SessionOptions};
use hdv_vfio_user::wire::{Command, DmaAccess, Header, RegionAccess};
use zerocopy::IntoBytes;

const MEMORY_SIZE: usize = 3 << 20;

/// Memory from address 0 on.
#[derive(Clone)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(
            (0..253_u8).cycle().take(MEMORY_SIZE).collect(),
        )))
    }
}

impl DmaHandler for Memory {
    fn dma_read(&mut self, address: u64, data: &mut [u8]) -> Result<(), Errno> {
        let memory = lock(&self.0);
        let begin = usize::try_from(address).map_err(|_| Errno::FAULT)?;
        let source = memory.get(begin..begin + data.len()).ok_or(Errno::FAULT)?;
        data.copy_from_slice(source);
        Ok(())
    }

    fn dma_write(&mut self, address: u64, data: &[u8]) -> Result<(), Errno> {
        let mut memory = lock(&self.0);
        let begin = usize::try_from(address).map_err(|_| Errno::FAULT)?;
        let target = memory
            .get_mut(begin..begin + data.len())
            .ok_or(Errno::FAULT)?;
        target.copy_from_slice(data);
        Ok(())
    }
}

fn twin(on: bool) -> (SessionOptions, ClientOptions) {
    (
        SessionOptions::default().with_twin_socket(on),
        ClientOptions::default().with_twin_socket(on),
    )
}

/// Runs `access` on another thread while the client serves requests.
fn while_serving<T: Send + 'static>(
    client: &mut Client,
    access: impl FnOnce() -> T + Send + 'static,
) -> T {
    let thread = std::thread::spawn(access);
    while !thread.is_finished() {
        client
            .serve_requests(Duration::from_millis(5))
            .expect("connected");
    }
    thread.join().expect("no panic")
}

#[test]
fn memory_is_read_and_written_on_either_socket() {
    for on in [false, true] {
        let (server, options) = twin(on);
        let (mut client, running) = pair_with(TestBackend::new(), server, options);
        assert_eq!(client.has_twin_socket(), on);
        let memory = Memory::new();
        client.set_dma_handler(Box::new(memory.clone()));
        client.device_info().expect("the session has begun");
        let peer = running.record.peer();
        while_serving(&mut client, move || {
            let mut data = vec![0; MEMORY_SIZE - 5];
            peer.dma_read(5, &mut data).expect("chunks");
            assert!(
                data.iter()
                    .zip(5..)
                    .all(|(byte, i)| usize::from(*byte) == i % 253)
            );
            data.fill(0xee);
            peer.dma_write(5, &data).expect("chunks");
            peer.dma_write(0, &[]).expect("nothing");
            assert_eq!(
                peer.dma_read(MEMORY_SIZE as u64 - 1, &mut [0; 2]),
                Err(DmaError::Refused(Errno::FAULT))
            );
            assert_eq!(
                peer.dma_write(u64::MAX, &[0; 2]),
                Err(DmaError::OutOfRange {
                    address: u64::MAX,
                    size: 2
                })
            );
        });
        let memory = lock(&memory.0);
        assert_eq!(memory[..5], [0, 1, 2, 3, 4]);
        assert!(memory[5..].iter().all(|byte| *byte == 0xee));
    }
}

#[test]
fn without_a_handler_requests_are_refused() {
    let (server, options) = twin(true);
    let (mut client, running) = pair_with(TestBackend::new(), server, options);
    client.device_info().expect("begun");
    assert_eq!(
        running.record.peer().dma_read(0, &mut [0]),
        Err(DmaError::Refused(Errno::OPNOTSUPP))
    );
}

/// A backend that makes a DMA request in each write and reports what came of it.
fn dma_in_write() -> (
    TestBackend,
    std::sync::mpsc::Receiver<[Result<(), DmaError>; 2]>,
) {
    let (sender, receiver) = channel();
    let mut backend = TestBackend::new();
    backend.on_write = Some(Box::new(move |record: &Record, _, _| {
        let peer = record.peer();
        let own = peer.dma_read(0, &mut [0; 4]);
        let other = std::thread::spawn(move || peer.dma_write(0, &[0; 4]))
            .join()
            .expect("no panic");
        sender.send([own, other]).expect("the test listens");
        Ok(())
    }));
    (backend, receiver)
}

#[test]
fn while_the_client_waits_requests_fail_at_once_whichever_thread_asks() {
    for on in [false, true] {
        let (backend, results) = dma_in_write();
        let (server, options) = twin(on);
        let (mut client, _running) = pair_with(backend, server, options);
        client.set_dma_handler(Box::new(Memory::new()));
        let begin = std::time::Instant::now();
        client.region_write(0, 0, &[1]).expect("answered");
        assert!(begin.elapsed() < Duration::from_secs(2), "at once");
        assert_eq!(
            results.recv().expect("tried"),
            [Err(DmaError::ClientWaits), Err(DmaError::ClientWaits)]
        );
    }
}

#[test]
fn in_a_posted_write_a_twin_socket_works() {
    let (backend, results) = dma_in_write();
    let (server, options) = twin(true);
    let (mut client, _running) = pair_with(backend, server, options);
    client.set_dma_handler(Box::new(Memory::new()));
    client.region_write_posted(0, 0, &[1]).expect("sent");
    assert_eq!(
        results.recv_timeout(PATIENCE).expect("tried"),
        [Ok(()), Ok(())]
    );
}

#[test]
fn in_a_posted_write_the_main_socket_has_nobody_to_receive() {
    let mut backend = TestBackend::new();
    let (sender, results) = channel();
    backend.on_write = Some(Box::new(move |record: &Record, _, _| {
        sender
            .send(record.peer().dma_read(0, &mut [0; 4]))
            .expect("the test listens");
        Ok(())
    }));
    let (server, options) = twin(false);
    let (mut client, _running) = pair_with(backend, server, options);
    client.region_write_posted(0, 0, &[1]).expect("sent");
    assert_eq!(
        results.recv_timeout(PATIENCE).expect("tried"),
        Err(DmaError::ClientWaits)
    );
}

#[test]
fn a_client_that_has_its_reply_does_not_wait() {
    let (server, options) = twin(false);
    let (mut client, running) = pair_with(TestBackend::new(), server, options);
    client.set_dma_handler(Box::new(Memory::new()));
    for _ in 0..300 {
        client.region_write(0, 0, &[1]).expect("answered");
        let peer = running.record.peer();
        while_serving(&mut client, move || peer.dma_read(0, &mut [0; 8]))
            .expect("right after the reply");
    }
}

#[test]
fn requests_and_accesses_cross() {
    let (server, options) = twin(false);
    let (mut client, running) = pair_with(TestBackend::new(), server, options);
    client.set_dma_handler(Box::new(Memory::new()));
    client.device_info().expect("begun");
    let peer = running.record.peer();
    let thread = std::thread::spawn(move || {
        let mut done = 0;
        let begin = std::time::Instant::now();
        while done < 200 {
            assert!(begin.elapsed() < PATIENCE, "no progress");
            match peer.dma_write(64, &[7; 64]) {
                Ok(()) => done += 1,
                Err(DmaError::ClientWaits) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    });
    let mut value = 0_u32;
    while !thread.is_finished() {
        value += 1;
        client
            .region_write(0, 8, &value.to_ne_bytes())
            .expect("write");
        let mut data = [0; 4];
        client.region_read(0, 8, &mut data).expect("read");
        assert_eq!(u32::from_ne_bytes(data), value);
        client.serve_requests(Duration::ZERO).expect("connected");
    }
    thread.join().expect("no panic");
}

#[test]
fn a_client_that_leaves_wakes_who_waits() {
    for on in [false, true] {
        let capabilities = if on {
            r#"{"capabilities":{"twin_socket":{"supported":true}}}"#
        } else {
            "{}"
        };
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        std::io::Write::write_all(&mut &ours, &version(capabilities)).expect("sent");
        let options = SessionOptions::default().with_twin_socket(on);
        let running = common::serve(theirs, options, TestBackend::new());
        let record = running.record.clone();
        let waiting = std::thread::spawn(move || {
            let begin = std::time::Instant::now();
            let peer = record.wait_peer();
            (peer.dma_read(0, &mut [0; 4]), begin.elapsed())
        });
        if on {
            // The request goes to the twin socket, which nobody serves.
            common::wait_for("peer", || running.record.has_peer());
        } else {
            // Reads the reply to VERSION and the request.
            let mut seen = Vec::new();
            let mut raw = &ours;
            while !seen
                .windows(4)
                .any(|w| w == [Command::DmaRead.number().to_ne_bytes(), [32, 0]].concat())
            {
                let mut bytes = [0; 512];
                let count = std::io::Read::read(&mut raw, &mut bytes).expect("more");
                seen.extend_from_slice(&bytes[..count]);
            }
        }
        drop(ours);
        let (result, elapsed) = waiting.join().expect("no panic");
        assert_eq!(result, Err(DmaError::Disconnected), "twin: {on}");
        assert!(elapsed < Duration::from_secs(2), "at once");
        running.end().expect("the client left");
    }
}

#[test]
fn malformed_replies_fail_the_request_only() {
    let (mut raw, running) = Raw::connected_to(TestBackend::new(), "{}");
    let wrong = |header: &Header, access: DmaAccess, data: &[u8]| {
        let body = [access.as_bytes(), data].concat();
        [header.reply(body.len()).as_bytes(), &body].concat()
    };
    let right = DmaAccess {
        address: 0x1000,
        count: 4,
    };
    for case in 0..6 {
        let peer = running.record.wait_peer();
        let thread = std::thread::spawn(move || peer.dma_read(0x1000, &mut [0; 4]));
        let (header, body) = raw.receive();
        assert_eq!(header.command, Command::DmaRead.number());
        assert_eq!(body, right.as_bytes());
        let (reply, expected) = match case {
            0 => (wrong(&header, right, &[1; 4]), Ok(())),
            1 => (wrong(&header, right, &[1; 3]), Err(Errno::PROTO)),
            2 => {
                let other = DmaAccess { count: 5, ..right };
                (wrong(&header, other, &[1; 5]), Err(Errno::PROTO))
            }
            3 => (header.reply(0).as_bytes().to_vec(), Err(Errno::PROTO)),
            4 => (
                header.error_reply(Errno::FAULT).as_bytes().to_vec(),
                Err(Errno::FAULT),
            ),
            _ => {
                // A reply to somebody else first: it is ignored.
                let other = Header {
                    message_id: header.message_id.wrapping_add(1),
                    ..header
                };
                let replies = [
                    wrong(&other, right, &[9; 4]),
                    wrong(&header, right, &[1; 4]),
                ];
                (replies.concat(), Ok(()))
            }
        };
        raw.send(&reply);
        let result = thread.join().expect("no panic");
        assert_eq!(result, expected.map_err(DmaError::Refused), "case {case}");
    }
    // The short count of the specification's table, and the long one.
    for size in [4, 8] {
        let peer = running.record.wait_peer();
        let thread = std::thread::spawn(move || peer.dma_write(0x1000, &[5; 4]));
        let (header, body) = raw.receive();
        assert_eq!(body, [right.as_bytes(), &[5; 4]].concat());
        let reply = header.reply(8 + size);
        raw.send(&[reply.as_bytes(), &right.as_bytes()[..8 + size]].concat());
        thread.join().expect("no panic").expect("written");
    }
    let access = RegionAccess {
        offset: 0,
        region: 0,
        count: 1,
    };
    raw.call(Command::RegionRead, &access, &[], &[])
        .expect("the session lives");
    assert_eq!(
        running.record.events(),
        [Event::FirstUse, Event::Read(0, 0, 1)]
    );
}

#[test]
fn a_request_that_is_never_answered_times_out_and_its_late_reply_is_dropped() {
    let (mut raw, running) = Raw::connected_to(TestBackend::new(), "{}");
    let peer = running.record.wait_peer();
    assert_eq!(peer.dma_read(0, &mut [0; 4]), Err(DmaError::TimedOut));
    let (late, _) = raw.receive();
    let thread = std::thread::spawn(move || {
        let mut data = [0; 4];
        peer.dma_read(0, &mut data).map(|()| data)
    });
    let (header, _) = raw.receive();
    let access = DmaAccess {
        address: 0,
        count: 4,
    };
    for (header, byte) in [(late, 1), (header, 2)] {
        raw.send(&[header.reply(20).as_bytes(), access.as_bytes(), &[byte; 4]].concat());
    }
    assert_eq!(thread.join().expect("no panic"), Ok([2; 4]));
}

#[test]
fn a_command_of_a_client_that_was_asked_fails_the_request_at_once() {
    let (mut raw, running) = Raw::connected_to(TestBackend::new(), "{}");
    let peer = running.record.wait_peer();
    let thread = std::thread::spawn(move || peer.dma_write(0, &[1; 4]));
    let (asked, _) = raw.receive();
    // As QEMU does, which serves no request before it has its reply.
    let access = RegionAccess {
        offset: 8,
        region: 0,
        count: 4,
    };
    let read = Header::command(7, Command::RegionRead, size_of::<RegionAccess>());
    raw.send(&[read.as_bytes(), access.as_bytes()].concat());
    let result = thread.join().expect("no panic");
    assert_eq!(result, Err(DmaError::ClientWaits));
    let (reply, _) = raw.receive();
    assert_eq!((reply.message_id, reply.reported_error()), (7, None));
    // What the client answers in the end is nobody's reply.
    let late = DmaAccess {
        address: 0,
        count: 4,
    };
    raw.send(&[asked.reply(16).as_bytes(), late.as_bytes()].concat());
    raw.send(&[read.as_bytes(), access.as_bytes()].concat());
    assert_eq!(raw.receive().0.message_id, 7);
}

#[test]
fn chunks_follow_the_clients_limit() {
    let (mut raw, running) = Raw::connected_to(
        TestBackend::new(),
        r#"{"capabilities":{"max_data_xfer_size":3}}"#,
    );
    let peer = running.record.wait_peer();
    let thread = std::thread::spawn(move || peer.dma_write(10, &[1, 2, 3, 4, 5, 6, 7]));
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (header, body) = raw.receive();
        raw.send(&[header.reply(16).as_bytes(), &body[..16]].concat());
        seen.push((body[0], body[16..].to_vec()));
    }
    thread.join().expect("no panic").expect("written");
    assert_eq!(
        seen,
        [(10, vec![1, 2, 3]), (13, vec![4, 5, 6]), (16, vec![7])]
    );
}
