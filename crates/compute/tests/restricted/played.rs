//! What the tests share: a worker that is played, a restricted host that is a process or played too.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdv_compute::protocol::{HELLO, Welcome, device, host};
use hdv_compute::{Broker, BrokerLimits};
use hdv_control::{CallError, ControlError, Link, LinkHandler, LinkServer};
use hdv_vfio_user::client::{Client, ClientError, ClientOptions};
use hdv_vfio_user::server::Ledger;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

/// Longer than anything takes; a wait that lasts this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Set where a test has a process and a runtime directory of its own.
const ALONE: &str = "OPENHDV_TEST_ALONE";
/// The instance ids of a restricted process's devices, with commas between.
pub(crate) const DEVICES: &str = "OPENHDV_TEST_DEVICES";

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `condition` holds.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs a test in a process of its own, with a runtime directory of its own.
pub(crate) fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .env("XDG_RUNTIME_DIR", directory.path())
        .env("OPENHDV_WORKER", env!("CARGO_BIN_EXE_openhdv-worker"))
        .status()
        .unwrap();
    assert!(status.success(), "{test}: {status}");
    let left: Vec<_> = std::fs::read_dir(directory.path().join("openhdv/hosts"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[derive(Default)]
struct Heard {
    link: Option<Link>,
    calls: Vec<(String, Value)>,
    closed: bool,
}

/// The worker's end of one link.
#[derive(Default)]
struct Ear {
    heard: Mutex<Heard>,
    /// What it answers announcements with.
    refusal: Mutex<Option<ControlError>>,
    /// Held, it answers no announcement.
    silence: Mutex<()>,
}

impl LinkHandler for Ear {
    fn call(
        &self,
        link: &Link,
        command: &str,
        args: Value,
        _: Vec<OwnedFd>,
    ) -> Result<Value, ControlError> {
        let mut heard = lock(&self.heard);
        heard.calls.push((command.to_owned(), args));
        if command == HELLO {
            heard.link = Some(link.clone());
            let welcome = Welcome {
                id: "played".to_owned(),
                runtime_id: Uuid::nil(),
            };
            return Ok(serde_json::to_value(welcome).unwrap());
        }
        drop(heard);
        if command == host::ANNOUNCE {
            drop(lock(&self.silence));
        }
        match (command, lock(&self.refusal).clone()) {
            (host::ANNOUNCE, Some(error)) => Err(error),
            _ => Ok(Value::Null),
        }
    }

    fn notice(&self, _: &Link, _: &str, _: Value) {}

    fn closed(&self, _: &Link) {
        let mut heard = lock(&self.heard);
        heard.closed = true;
        heard.link = None;
    }
}

/// A client that was handed over, and what its worker keeps.
pub(crate) struct Handed {
    pub(crate) client: UnixStream,
    pub(crate) duplicate: UnixStream,
    pub(crate) lease: OwnedFd,
    pub(crate) ledger: OwnedFd,
}

impl Handed {
    /// Waits until nobody but us has what was handed over.
    pub(crate) fn await_let_go(&self) {
        assert_eq!(rustix::io::read(&self.lease, &mut [0]).unwrap(), 0);
    }
}

/// A worker that is played by the test.
pub(crate) struct Worker {
    ear: Arc<Ear>,
    pub(crate) socket: PathBuf,
    pub(crate) directory: TempDir,
    _server: LinkServer,
}

impl Worker {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("worker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let ear = Arc::new(Ear::default());
        let handler = Arc::clone(&ear);
        let server = LinkServer::start(listener, "the worker", 4, move |_| handler.clone() as _);
        Self {
            ear,
            socket,
            directory,
            _server: server.unwrap(),
        }
    }

    pub(crate) fn refuse(&self, error: ControlError) {
        *lock(&self.ear.refusal) = Some(error);
    }

    /// Until this is dropped, it answers no announcement.
    pub(crate) fn say_nothing(&self) -> MutexGuard<'_, ()> {
        lock(&self.ear.silence)
    }

    pub(crate) fn calls(&self) -> Vec<(String, Value)> {
        lock(&self.ear.heard).calls.clone()
    }

    pub(crate) fn count(&self, command: &str) -> usize {
        self.calls().iter().filter(|call| call.0 == command).count()
    }

    pub(crate) fn is_left(&self) -> bool {
        lock(&self.ear.heard).closed
    }

    pub(crate) fn leave(&self) {
        let link = lock(&self.ear.heard).link.take();
        link.expect("a link").close();
    }

    pub(crate) fn call(&self, command: &str, args: &Value) -> Result<Value, CallError> {
        let link = lock(&self.ear.heard).link.clone();
        link.expect("a broker").call(command, args, PATIENCE)
    }

    /// A command about a device.
    pub(crate) fn tell(&self, command: &str, instance: u128) -> Result<Value, CallError> {
        self.call(command, &json!({ "instance-id": id(instance) }))
    }

    pub(crate) fn power_on(&self, instance: u128) -> Result<Value, CallError> {
        let beside = self.directory.path().join("nothing.sock");
        let args =
            json!({ "instance-id": id(instance), "beside": beside, "configuration": ["a", "b"] });
        self.call(device::POWER_ON, &args)
    }

    /// Hands a client over, whose other end is given back.
    pub(crate) fn connect(&self, instance: u128) -> (Handed, Result<Value, CallError>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (end, lease) = rustix::pipe::pipe().unwrap();
        let ledger = Ledger::file().unwrap();
        let args = json!({ "instance-id": id(instance) });
        let descriptors = [theirs.as_fd(), lease.as_fd(), ledger.as_fd()];
        let link = lock(&self.ear.heard).link.clone().expect("a broker");
        let connected = link.call_with(device::CONNECT, &args, &descriptors, PATIENCE);
        let handed = Handed {
            client: ours,
            duplicate: theirs,
            lease: end,
            ledger,
        };
        (handed, connected)
    }
}

pub(crate) fn id(instance: u128) -> Uuid {
    Uuid::from_u128(instance)
}

/// The code with which a call failed.
pub(crate) fn code(result: Result<Value, CallError>) -> Option<i32> {
    match result {
        Err(CallError::Command(error)) => error.code,
        other => panic!("a refusal, not {other:?}"),
    }
}

/// A restricted process with these devices, and its broker's end of the socket.
pub(crate) fn process(devices: &[u128]) -> (Child, UnixStream) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let instances: Vec<_> = devices
        .iter()
        .map(|device| id(*device).to_string())
        .collect();
    command
        .args([
            "process::a_process_that_nobody_restricted_has_no_broker",
            "--exact",
            "--nocapture",
        ])
        .env(DEVICES, instances.join(","));
    Broker::spawn(command).unwrap()
}

/// A restricted process and its broker.
pub(crate) struct Restricted {
    pub(crate) child: Child,
    pub(crate) broker: Option<Broker>,
    pub(crate) worker: Worker,
}

impl Restricted {
    /// With these devices, which it has announced.
    pub(crate) fn start(devices: &[u128]) -> Self {
        let worker = Worker::new();
        let (child, socket) = process(devices);
        let broker =
            Broker::at(socket, child.id(), &worker.socket, BrokerLimits::default()).unwrap();
        wait_for("the devices", || {
            worker.count(host::ANNOUNCE) == devices.len()
        });
        Self {
            child,
            broker: Some(broker),
            worker,
        }
    }

    pub(crate) fn connect(&self, instance: u128) -> Client {
        self.worker.power_on(instance).unwrap();
        self.connect_again(instance)
    }

    /// Connects to one that is powered on.
    pub(crate) fn connect_again(&self, instance: u128) -> Client {
        self.try_connect(instance).expect("a connection")
    }

    pub(crate) fn try_connect(&self, instance: u128) -> Result<Client, ClientError> {
        let (handed, connected) = self.worker.connect(instance);
        connected.unwrap();
        Client::from_stream(handed.client, options())
    }
}

impl Drop for Restricted {
    fn drop(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            eprintln!("the restricted process ended: {status}");
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn options() -> ClientOptions {
    ClientOptions::default().with_reply_timeout(Some(PATIENCE))
}

pub(crate) fn read32(client: &mut Client, region: u32, offset: u64) -> u32 {
    let mut data = [0; 4];
    client.region_read(region, offset, &mut data).expect("read");
    u32::from_le_bytes(data)
}

pub(crate) fn write32(client: &mut Client, offset: u64, value: u32) {
    client
        .region_write(0, offset, &value.to_le_bytes())
        .expect("written");
}

/// A restricted host that the test plays: says what it likes, and answers as `answer` says.
pub(crate) struct Liar {
    pub(crate) link: Link,
    pub(crate) broker: Broker,
    pub(crate) worker: Worker,
    pub(crate) mouth: Arc<Mouth>,
}

/// How a played host answers.
pub(crate) type Answer = dyn Fn(&str, Value) -> Result<Value, ControlError> + Send + Sync;

pub(crate) struct Mouth {
    answer: Box<Answer>,
    pub(crate) clients: Mutex<Vec<OwnedFd>>,
}

impl LinkHandler for Mouth {
    fn call(
        &self,
        _: &Link,
        command: &str,
        args: Value,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Value, ControlError> {
        lock(&self.clients).extend(descriptors);
        (self.answer)(command, args)
    }

    fn notice(&self, _: &Link, _: &str, _: Value) {}

    fn closed(&self, _: &Link) {}
}

impl Liar {
    pub(crate) fn start(
        limits: BrokerLimits,
        answer: impl Fn(&str, Value) -> Result<Value, ControlError> + Send + Sync + 'static,
    ) -> Self {
        let worker = Worker::new();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let broker = Broker::at(theirs, 77, &worker.socket, limits).unwrap();
        let mouth = Arc::new(Mouth {
            answer: Box::new(answer),
            clients: Mutex::default(),
        });
        let link = Link::over(ours, "the broker", Arc::clone(&mouth) as _).unwrap();
        Self {
            link,
            broker,
            worker,
            mouth,
        }
    }

    pub(crate) fn say(&self, command: &str, args: &Value) -> Result<Value, CallError> {
        self.link.call(command, args, PATIENCE)
    }

    pub(crate) fn hello(&self) -> Result<Value, CallError> {
        let args =
            json!({ "role": "device-host", "pid": 1, "hosting_model": "ExternalRestricted" });
        self.say(HELLO, &args)
    }

    pub(crate) fn announce(&self, instance: u128) -> Result<Value, CallError> {
        let args = json!({ "class-id": id(0xc1a5), "instance-id": id(instance) });
        self.say(host::ANNOUNCE, &args)
    }
}
