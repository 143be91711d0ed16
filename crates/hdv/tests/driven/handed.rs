//! Clients that a system accepts itself and hands over.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use hdv::{HandedClient, HostError, HostHandle};
use hdv_vfio_user::client::{Client, ClientError};
use hdv_vfio_user::server::{Ledger, Left};
use rustix::event::{PollFd, PollFlags};

use crate::support::*;
use crate::system::{attached, create, handed, id, recorded, socket};

/// A device that is powered on for clients that are handed over.
fn served() -> (
    hdv::DeviceHost,
    hdv::HostHandle,
    Record,
    hdv::DeviceInstance,
) {
    let (host, _system, handle) = attached();
    let (record, instance) = recorded(&host, 1);
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

/// A client whose system goes on when this process has let go: its end, that of the lease, and the ledger.
fn leased(handle: &HostHandle) -> (UnixStream, OwnedFd, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (end, lease) = rustix::pipe::pipe().unwrap();
    let ledger = Ledger::file().unwrap();
    let client = HandedClient {
        socket: theirs,
        lease: Some(lease),
        ledger: Some(ledger.try_clone().unwrap()),
    };
    handle.connect(id(1), client).unwrap();
    (ours, end, ledger)
}

fn is_dropped(lease: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(lease, PollFlags::empty())];
    let zero = rustix::time::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut fds, Some(&zero)).unwrap() > 0
}

#[test]
fn a_lease_lasts_as_long_as_the_connection_is_served_also_by_a_stub() {
    let (host, handle, _record, _instance) = served();
    let (stream, lease, ledger) = leased(&handle);
    assert!(!Left::read(ledger.as_fd()).unwrap().is_agreed());
    let mut client = Client::from_stream(stream, options()).unwrap();
    read32(&mut client, CONFIG, 0);
    assert!(Left::read(ledger.as_fd()).unwrap().is_agreed());
    let (other, second, ledger) = leased(&handle);
    Client::from_stream(other, options()).map(drop).unwrap_err();
    wait_for("the end of the lease of one that was refused", || {
        is_dropped(&second)
    });
    assert!(!Left::read(ledger.as_fd()).unwrap().is_agreed());
    host.close().unwrap();
    drop(host);
    assert_eq!(read32(&mut client, CONFIG, 0), u32::MAX, "a stub");
    assert!(!is_dropped(&lease));
    drop(client);
    wait_for("the end of the lease", || is_dropped(&lease));
}

#[test]
fn what_is_no_ledger_is_refused() {
    let (_host, handle, _record, _instance) = served();
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let (pipe, _) = rustix::pipe::pipe().unwrap();
    let client = HandedClient {
        ledger: Some(pipe),
        ..HandedClient::from(theirs)
    };
    let error = handle.connect(id(1), client).unwrap_err();
    assert!(error.to_string().contains("ledger"), "{error}");
}
