//! Connections whose device host is played here: it takes them or not, and lets go of them at various times.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hdv_control::{ControlError, Link, LinkHandler};
use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::server::{Handshake, Ledger, Session, SessionOptions};
use rustix::event::{EventfdFlags, eventfd};
use serde_json::Value;
use uuid::Uuid;

use super::super::hosts::{Host, HostId};
use super::*;
use crate::document::HostingModel;
use crate::protocol::device;

const GENEROUS: Duration = Duration::from_secs(60);

/// A device host that passes on what it is handed.
struct Played {
    clients: Mutex<Sender<Vec<OwnedFd>>>,
    refuses: AtomicBool,
}

impl LinkHandler for Played {
    fn call(
        &self,
        _: &Link,
        command: &str,
        _: Value,
        descriptors: Vec<OwnedFd>,
    ) -> std::result::Result<Value, ControlError> {
        assert_eq!(command, device::CONNECT);
        if self.refuses.load(Ordering::SeqCst) {
            return Err(ControlError::internal("no"));
        }
        self.clients.lock().unwrap().send(descriptors).unwrap();
        Ok(Value::Null)
    }

    fn notice(&self, _: &Link, _: &str, _: Value) {}

    fn closed(&self, _: &Link) {}
}

/// A worker without a system, that is its keepers, and the device host.
struct Scene {
    directory: tempfile::TempDir,
    host: Arc<Host>,
    played: Arc<Played>,
    clients: Receiver<Vec<OwnedFd>>,
    far: Link,
    connections: Arc<Connections>,
}

fn scene() -> Scene {
    let (clients, taken) = mpsc::channel();
    let played = Arc::new(Played {
        clients: Mutex::new(clients),
        refuses: AtomicBool::new(false),
    });
    let (near, far) = UnixStream::pair().unwrap();
    let far = Link::over(far, "the worker", Arc::clone(&played) as _).unwrap();
    let handler = Arc::new(Played {
        clients: Mutex::new(mpsc::channel().0),
        refuses: AtomicBool::new(true),
    });
    let near = Link::over(near, "the host", handler).unwrap();
    let host = Host::new(HostId(1), 77, HostingModel::External, near);
    Scene {
        directory: tempfile::tempdir().unwrap(),
        host: Arc::new(host),
        played,
        clients: taken,
        far,
        connections: Arc::default(),
    }
}

impl Scene {
    fn socket(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn listen(&self, name: &str) -> JoinHandle<()> {
        let socket = self.socket(name);
        let listener = UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        let awaited = Awaited {
            socket,
            stop: Arc::clone(&stop),
        };
        self.connections.awaited().insert(name.to_owned(), awaited);
        let keeper = Keeper {
            name: name.to_owned(),
            key: name.to_owned(),
            instance: Uuid::nil(),
        };
        let (connections, host) = (Arc::clone(&self.connections), Arc::clone(&self.host));
        let name = name.to_owned();
        std::thread::spawn(move || keeper.run(stop, listener, host, || connections.has_come(&name)))
    }

    /// What the host was handed.
    fn taken(&self) -> Taken {
        let mut descriptors = self.clients.recv_timeout(GENEROUS).unwrap().into_iter();
        let mut next = || descriptors.next().unwrap();
        Taken {
            connection: next().into(),
            lease: next(),
            ledger: next(),
        }
    }

    /// A client whose version was agreed, and the session that it has.
    fn connected(&self, name: &str) -> (Client, Session, OwnedFd) {
        let client = UnixStream::connect(self.socket(name)).unwrap();
        let options = ClientOptions::default().with_reply_timeout(Some(GENEROUS));
        let client = std::thread::spawn(move || Client::from_stream(client, options));
        let taken = self.taken();
        let mut handshake = Handshake::new(taken.connection, SessionOptions::default()).unwrap();
        handshake.wait().unwrap();
        let mut session = handshake.accept().unwrap();
        session.keep_ledger(Ledger::open(taken.ledger).unwrap());
        let client = client.join().unwrap().unwrap();
        (client, session, taken.lease)
    }
}

/// What came with a client.
struct Taken {
    connection: UnixStream,
    lease: OwnedFd,
    ledger: OwnedFd,
}

fn is_closed(mut client: &UnixStream) -> bool {
    client.set_read_timeout(Some(GENEROUS)).unwrap();
    matches!(client.read(&mut [0]), Ok(0))
}

#[test]
fn one_client_is_let_in_and_answered_when_the_host_has_let_go() {
    let scene = scene();
    let [first, second] = ["a", "b"].map(|name| scene.listen(name));
    let (mut client, session, lease) = scene.connected("a");
    assert!(!scene.socket("a").exists());
    let (mut other, kept, other_lease) = scene.connected("b");
    // The process of the first device is gone.
    std::mem::forget(session);
    drop(lease);
    client.reset().unwrap();
    let mut data = [0; 4];
    client.region_read(0, 0, &mut data).unwrap();
    assert_eq!(data, [0xff; 4]);
    client.dma_unmap_all().unwrap();
    drop(client);
    first.join().unwrap();
    // The second one is its host's still: who answers is not the worker.
    let asking = std::thread::spawn(move || other.reset());
    std::mem::forget(kept);
    drop(other_lease);
    asking.join().unwrap().unwrap();
    second.join().unwrap();
    assert_eq!(
        std::fs::read_dir(scene.directory.path()).unwrap().count(),
        0
    );
}

#[test]
fn who_leaves_is_not_kept() {
    let scene = scene();
    let keeper = scene.listen("a");
    let (client, session, lease) = scene.connected("a");
    drop(client);
    // Although its host has not let go.
    keeper.join().unwrap();
    drop((session, lease));
}

#[test]
fn a_client_without_a_version_is_told_that_its_device_is_gone() {
    let scene = scene();
    // Refused, let go of, hung up on.
    for round in 0..3 {
        scene.played.refuses.store(round == 0, Ordering::SeqCst);
        if round == 2 {
            scene.far.close();
        }
        let keeper = scene.listen("a");
        let client = UnixStream::connect(scene.socket("a")).unwrap();
        if round == 1 {
            let taken = scene.taken();
            drop(taken.lease);
            assert!(is_closed(&client), "whoever has a duplicate");
        }
        assert!(is_closed(&client), "{round}");
        keeper.join().unwrap();
    }
}

#[test]
fn a_client_that_is_not_to_come_any_more_finds_nothing() {
    let scene = scene();
    let [one, two, three] = ["a", "b", "c"].map(|name| scene.listen(name));
    scene.connections.stop_listening("a");
    scene.connections.stop_listening("a");
    scene.connections.stop_listening("nobody");
    one.join().unwrap();
    assert!(UnixStream::connect(scene.socket("a")).is_err());
    scene.connections.stop_all();
    two.join().unwrap();
    three.join().unwrap();
    assert_eq!(
        std::fs::read_dir(scene.directory.path()).unwrap().count(),
        0
    );
}
