//! Clients that a system accepts itself and hands over.

use std::os::unix::net::UnixStream;

use hdv::HostError;
use hdv_vfio_user::client::{Client, ClientError};

use crate::support::*;
use crate::system::{attached, create, handed, id, socket};

/// A device that is powered on for clients that are handed over.
fn served() -> (
    hdv::DeviceHost,
    hdv::HostHandle,
    Record,
    hdv::DeviceInstance,
) {
    let (host, _system, handle) = attached();
    let device = Recorder::default();
    let record = device.record.clone();
    let instance = create(&host, 1, device);
    host.announce(instance.id()).unwrap();
    let (early, _) = UnixStream::pair().unwrap();
    assert!(matches!(
        handle.connect(id(1), early),
        Err(HostError::NotHanded(_))
    ));
    handle.power_on(id(1), &handed()).unwrap();
    (host, handle, record, instance)
}

/// A connection whose other end the device gets.
fn connection(handle: &hdv::HostHandle) -> Result<Client, ClientError> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    // As a broker's that accepts without blocking: the flag is the connection's, not the descriptor's.
    theirs.set_nonblocking(true).unwrap();
    handle.connect(id(1), theirs).unwrap();
    Client::from_stream(ours, options())
}

#[test]
fn one_after_the_other_has_the_device() {
    let (host, handle, record, instance) = served();
    for round in 1..4 {
        let mut client = connection(&handle).unwrap();
        write32(&mut client, BAR0, 0x10, round);
        assert_eq!(read32(&mut client, BAR0, 0x10), round);
        assert!(instance.has_client());
        assert_eq!(host.devices()[0].socket.as_os_str(), "");
        drop(client);
        wait_for("the reset", || {
            record.count(Call::Reset) == usize::try_from(round).unwrap()
        });
    }
    assert_eq!(instance.socket(), None);
    assert_eq!(record.count(Call::Start), 3);
}

#[test]
fn a_second_one_is_refused_while_the_first_has_it() {
    let (_host, handle, _record, _instance) = served();
    let mut client = connection(&handle).unwrap();
    read32(&mut client, CONFIG, 0);
    let refused = connection(&handle).map(drop).unwrap_err();
    assert!(refused.to_string().contains("busy"), "{refused}");
    assert_eq!(read32(&mut client, CONFIG, 0), 0x7ffe_4f48);
}

#[test]
fn those_that_say_nothing_are_bounded_and_in_nobodys_way() {
    let (_host, handle, _record, _instance) = served();
    let mut silent = Vec::new();
    for _ in 0..300 {
        let (ours, theirs) = UnixStream::pair().unwrap();
        match handle.connect(id(1), theirs) {
            Ok(()) => silent.push(ours),
            // The accepting thread has not come to it yet.
            Err(HostError::TooManyClients { waiting }) => assert_eq!(waiting, 64),
            Err(error) => panic!("{error}"),
        }
    }
    let closed = |stream: &UnixStream| {
        stream.set_nonblocking(true).unwrap();
        matches!(std::io::Read::read(&mut &*stream, &mut [0]), Ok(0))
    };
    wait_for("most of them to be closed", || {
        silent.iter().filter(|stream| !closed(stream)).count() <= 64
    });
    // The accepting thread comes to all of them.
    let mut last = None;
    wait_for("a place in the queue", || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let given = handle.connect(id(1), theirs).is_ok();
        last = given.then_some(ours);
        given
    });
    let mut client = Client::from_stream(last.unwrap(), options()).unwrap();
    read32(&mut client, CONFIG, 0);
}

#[test]
fn none_gets_in_once_the_device_is_gone() {
    let (host, handle, _record, _instance) = served();
    let (silent, theirs) = UnixStream::pair().unwrap();
    handle.connect(id(1), theirs).unwrap();
    let mut client = connection(&handle).unwrap();
    read32(&mut client, CONFIG, 0);
    handle.remove(id(1)).unwrap();
    assert_eq!(read32(&mut client, CONFIG, 0), u32::MAX, "a stub");
    // The connection that said nothing is closed.
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(std::io::Read::read(&mut &silent, &mut [0]).unwrap(), 0);
    let (_, theirs) = UnixStream::pair().unwrap();
    assert!(matches!(
        handle.connect(id(1), theirs),
        Err(HostError::NoSuchInstance(_))
    ));
    drop(host);
}

#[test]
fn one_that_listens_takes_none() {
    let directory = tempfile::tempdir().unwrap();
    let (host, _system, handle) = attached();
    let instance = create(&host, 1, Recorder::default());
    host.announce(instance.id()).unwrap();
    handle
        .power_on(id(1), &socket(directory.path().join("device.sock"), &[]))
        .unwrap();
    let (_, theirs) = UnixStream::pair().unwrap();
    assert!(matches!(
        handle.connect(id(1), theirs),
        Err(HostError::NotHanded(_))
    ));
}
