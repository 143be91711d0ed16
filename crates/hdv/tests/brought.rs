//! Functions that another one brings, over real sockets: they come all or none, are powered on when they are
//! first used, and go in order, whoever uses them.

#[path = "support/bringer.rs"]
mod bringer;
mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bringer::{BRING, Bringer, CALL, Hold, IDENTITY, NoHandles, TAKE_AWAY};
use hdv::{
    BarIndex, BroughtBy, DeviceHost, DeviceId, DeviceIds, DeviceInstance, DeviceState,
    DeviceStatus, HostError, HostHandle, HostOptions, Listen, Place, SocketDirectory, System,
    TestBench, Uuid, pci_function,
};
use hdv_control::RuntimeDirectory;
use hdv_vfio_user::Errno;
use hdv_vfio_user::client::Client;
use support::*;

const POWERED_ON: [Call; 2] = [Call::ConfigSpace, Call::Initialize];
const ENDED: [Call; 2] = [Call::Teardown, Call::Drop];

/// A host that serves a function that brings others.
struct Bringing {
    host: DeviceHost,
    id: DeviceId,
    hold: Hold,
    records: Arc<Mutex<Vec<Record>>>,
    directory: tempfile::TempDir,
}

impl Bringing {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let hold = Hold::default();
        let records = hold.make_recorders();
        let host = host();
        let socket = directory.path().join("nic.sock");
        let id = host.serve_function(&socket, "nic", hold.function());
        Self {
            id: id.unwrap(),
            host,
            hold,
            records,
            directory,
        }
    }

    /// With this many functions brought, and the client that had it do so.
    fn with(count: u32) -> (Self, Client) {
        let bringing = Self::new();
        let mut client = connect(&bringing.socket());
        enable(&mut client);
        write32(&mut client, BAR0, BRING, count);
        assert!(bringing.hold.failure().is_none());
        (bringing, client)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("nic.sock")
    }

    fn vf_socket(&self, vf: u16) -> PathBuf {
        self.directory.path().join(format!("nic-vf{vf}.sock"))
    }

    fn record(&self, vf: usize) -> Record {
        lock(&self.records)[vf].clone()
    }

    fn files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> = files
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".sock"))
            .collect();
        names.sort();
        names
    }
}

/// The client of a device that is gone: it reads all ones, and nothing ends its VM.
fn assert_stub(client: &mut Client) {
    assert_eq!(read32(client, CONFIG, 0), u32::MAX);
    assert_eq!(read32(client, BAR0, 0), u32::MAX);
    write32(client, BAR0, 0, 1);
    let file = memfd(0x1000);
    let file = Some((std::os::fd::AsFd::as_fd(&file), 0));
    client.dma_map(0, 0x1000, READ_WRITE, file).unwrap();
    client.dma_unmap(0, 0x1000).unwrap();
    client.reset().unwrap();
}

#[test]
fn they_are_listed_and_served_beside_the_one_that_brings_them() {
    let (bringing, mut client) = Bringing::with(3);
    let names = ["nic-vf0.sock", "nic-vf1.sock", "nic-vf2.sock", "nic.sock"];
    assert_eq!(bringing.files(), names);
    let instances = bringing.hold.instances();
    let status: Vec<DeviceStatus> = bringing.host.devices();
    assert_eq!(status.len(), 4);
    assert_eq!(status[0].brought_by, None);
    let json = serde_json::to_value(&status[0]).unwrap();
    assert!(json.get("brought_by").is_none(), "{json}");
    for (vf, status) in (0..).zip(&status[1..]) {
        let (device, instance) = (bringing.id.get(), &instances[usize::from(vf)]);
        assert_eq!(status.id, instance.id().get());
        assert_eq!(status.brought_by, Some(BroughtBy { device, vf }));
        assert_eq!(status.name, format!("nic VF {vf}"));
        assert_eq!(status.socket, bringing.vf_socket(vf));
        assert_eq!(instance.socket(), Some(bringing.vf_socket(vf)));
        assert_eq!(status.vendor_id, IDENTITY.vendor_id);
        assert_eq!(status.device_id, IDENTITY.device_id);
        assert_eq!(status.class_code, 0x12_0001);
        assert_eq!(status.state, "powered-off");
        assert_eq!(instance.ids(), None);
        assert_eq!(instance.state(), DeviceState::PoweredOff);
        assert_eq!(
            bringing.record(vf.into()).calls(),
            [Call::ConfigSpace],
            "not powered on"
        );
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(
            serde_json::from_str::<DeviceStatus>(&json).unwrap(),
            *status
        );
    }
    let ids = bringing.host.device_ids();
    assert_eq!(ids.len(), 4);
    for id in ids {
        assert_eq!(bringing.host.instance(id).unwrap().id(), id);
    }

    // One of them is used: it says itself what it is.
    let mut first = connect(&bringing.vf_socket(1));
    assert_eq!(read32(&mut first, CONFIG, 0), 0x7ffe_4f48);
    let status = bringing.host.devices();
    assert_eq!(
        (status[2].device_id, &*status[2].state),
        (0x7ffe, "started")
    );
    let messages = status[2].client.as_ref().unwrap().messages;
    assert_eq!(messages, 1);

    write32(&mut client, BAR0, TAKE_AWAY, 0);
    assert_eq!(bringing.files(), ["nic.sock"]);
    assert_eq!(bringing.host.devices().len(), 1);
    assert!(instances.iter().all(|one| one.socket().is_none()));
    // Again, and for those that come then.
    write32(&mut client, BAR0, TAKE_AWAY, 0);
    write32(&mut client, BAR0, BRING, 1);
    assert_eq!(bringing.files(), ["nic-vf0.sock", "nic.sock"]);
    read32(&mut connect(&bringing.vf_socket(0)), BAR0, 0);
}

#[test]
fn one_is_powered_on_at_its_first_client_before_that_is_answered() {
    let (bringing, _client) = Bringing::with(2);
    let record = bringing.record(0);
    drop(connect(&bringing.vf_socket(0)));
    wait_for("reset", || record.calls().contains(&Call::Reset));
    let version_only = [&POWERED_ON[..], &[Call::Reset]].concat();
    assert_eq!(record.calls(), version_only);
    let mut client = connect(&bringing.vf_socket(0));
    client.device_info().unwrap();
    let again = [&version_only[..], &[Call::Start]].concat();
    assert_eq!(record.calls(), again);
    assert_eq!(bringing.record(1).calls(), [Call::ConfigSpace]);
}

#[test]
fn the_interface_powers_one_on_by_its_first_access() {
    let (bringing, _client) = Bringing::with(3);
    let instances = bringing.hold.instances();
    let mut id = [0; 4];
    instances[0].config_read_as_vf(0, &mut id).unwrap();
    assert_eq!(id, [0xff; 4]);
    instances[1].config_write_as_vf(4, &[4]).unwrap();
    instances[2].power_on().unwrap();
    for (vf, instance) in instances.iter().enumerate() {
        instance.power_on().unwrap();
        assert_eq!(bringing.record(vf).calls(), POWERED_ON);
        assert_eq!(instance.state(), DeviceState::Stopped);
    }
    // What it wrote is what the VM reads; that one has a complete function.
    let mut client = connect(&bringing.vf_socket(1));
    assert_eq!(read::<2>(&mut client, CONFIG, 4), [4, 0]);
    assert_eq!(read32(&mut client, CONFIG, 0), 0x7ffe_4f48);
    enable(&mut client);
    let mut command = [0; 2];
    instances[1].config_read_as_vf(4, &mut command).unwrap();
    assert_eq!(command, [4, 0], "no Memory Space Enable");
}

#[test]
fn one_that_cannot_be_powered_on_refuses_every_client_and_says_why_each_time() {
    let bringing = Bringing::new();
    let records = Arc::clone(&bringing.records);
    bringing.hold.make(move |vf| {
        let device = Recorder::with(|device| match vf {
            0 => device.refuse_initialize = true,
            _ => device.panics.push(Call::Initialize),
        });
        lock(&records).push(device.record.clone());
        pci_function(Box::new(device)).unwrap()
    });
    bringing.hold.bring(2);
    let instances = bringing.hold.instances();
    for (vf, instance) in (0..).zip(&instances) {
        for _ in 0..3 {
            let refused = Client::connect(&bringing.vf_socket(vf), options()).unwrap_err();
            assert_eq!(refused.errno(), Some(Errno::IO), "{refused}");
            let Err(HostError::Device(error)) = instance.power_on() else {
                panic!("powered on");
            };
            assert_eq!(error.code(), (vf == 0).then_some(7));
            let read = instance.config_read_as_vf(0, &mut [0; 4]);
            assert!(matches!(read, Err(HostError::Device(_))), "{read:?}");
            let write = instance.config_write_as_vf(0, &[0; 4]);
            assert!(matches!(write, Err(HostError::Device(_))), "{write:?}");
        }
        assert_eq!(instance.state(), DeviceState::Failed);
        let index = usize::from(vf) + 1;
        wait_for("its clients to be gone", || {
            bringing.host.devices()[index].client.is_none()
        });
    }
    assert_eq!(bringing.host.devices()[1].state, "failed");
    bringing.hold.take_away();
    for (vf, instance) in instances.iter().enumerate() {
        let calls = bringing.record(vf).calls();
        assert_eq!(calls, [&POWERED_ON[..], &ENDED].concat());
        // Gone is gone, whatever it was.
        instance.power_on().unwrap();
        let mut data = [0; 4];
        instance.config_read_as_vf(4, &mut data).unwrap();
        assert_eq!(data, [0xff; 4]);
    }
}

#[test]
fn their_vms_keep_a_stub_when_they_are_taken_away() {
    let (bringing, mut client) = Bringing::with(3);
    let mut clients: Vec<_> = (0..3).map(|vf| connect(&bringing.vf_socket(vf))).collect();
    enable(&mut clients[0]);
    read32(&mut clients[1], BAR0, 0);
    write32(&mut client, BAR0, TAKE_AWAY, 0);
    for client in &mut clients {
        assert_stub(client);
    }
    for vf in 0..3 {
        let gone = Client::connect(&bringing.vf_socket(vf), options()).unwrap_err();
        assert!(gone.to_string().contains("o such file"), "{gone}");
    }
    let starts = [&[Call::Start, Call::Stop][..]; 2].into_iter();
    for (vf, used) in starts.chain([&[][..]]).enumerate() {
        let calls = bringing.record(vf).life();
        assert_eq!(calls, [&POWERED_ON[..], used, &ENDED].concat());
    }
    // The bringing function's own client notices nothing.
    assert_eq!(read32(&mut client, CONFIG, 0), 0x7ffe_4f48);
}

/// What the records say of teardown, in the order of time.
struct Order(Arc<Mutex<Vec<&'static str>>>);

/// A device that notes its teardown in a list that many share.
struct Ends {
    name: &'static str,
    order: Arc<Mutex<Vec<&'static str>>>,
    inner: Recorder,
}

impl hdv::PciDevice for Ends {
    fn config_space(&self) -> Result<hdv::ConfigSpace, hdv::ConfigError> {
        self.inner.config_space()
    }

    fn initialize(&mut self, context: hdv::DeviceContext) -> Result<(), hdv::DeviceError> {
        self.inner.initialize(context)
    }

    fn read(&mut self, access: hdv::BarAccess) -> u64 {
        self.inner.read(access)
    }

    fn write(&mut self, access: hdv::BarAccess, value: u64) {
        self.inner.write(access, value);
    }

    fn reset(&mut self) {
        self.inner.reset();
    }

    fn teardown(&mut self) {
        lock(&self.order).push(self.name);
    }
}

impl Order {
    const VFS: [&str; 3] = ["vf0", "vf1", "vf2"];

    /// A hold whose functions note their teardown.
    fn of(hold: &Hold) -> Self {
        let order = Arc::<Mutex<Vec<_>>>::default();
        let kept = Arc::clone(&order);
        hold.make(move |vf| {
            pci_function(Box::new(Ends {
                name: Self::VFS[usize::from(vf)],
                order: Arc::clone(&kept),
                inner: Recorder::default(),
            }))
            .unwrap()
        });
        Self(order)
    }

    fn taken(&self) -> Vec<&'static str> {
        std::mem::take(&mut *lock(&self.0))
    }
}

#[test]
fn all_come_or_none() {
    let bringing = Bringing::new();
    let order = Order::of(&bringing.hold);
    // Somebody's file is where the last socket was to be.
    std::fs::write(bringing.vf_socket(2), "a diary").unwrap();
    bringing.hold.bring(3);
    let error = bringing.hold.failure().unwrap();
    assert!(matches!(error, HostError::Brought { vf: 2, .. }), "{error}");
    assert!(error.to_string().contains("nic-vf2.sock"), "{error}");
    assert_eq!(order.taken(), Order::VFS);
    assert_eq!(bringing.files(), ["nic-vf2.sock", "nic.sock"]);
    assert_eq!(bringing.host.devices().len(), 1);
    assert_eq!(bringing.host.device_ids(), [bringing.id]);
    std::fs::remove_file(bringing.vf_socket(2)).unwrap();

    // One of them cannot even be asked for its handles.
    let mut functions = bringing.hold.functions(3);
    let broken = functions.remove(1);
    functions.insert(
        1,
        hdv::BroughtFunction {
            function: Box::new(NoHandles(broken.function)),
            ..broken
        },
    );
    let error = bringing.hold.carrier().bring(functions).unwrap_err();
    assert!(matches!(error, HostError::Brought { vf: 1, .. }), "{error}");
    let mut ended = order.taken();
    ended.sort_unstable();
    assert_eq!(ended, Order::VFS);
    assert_eq!(bringing.files(), ["nic.sock"]);

    // Two of one number.
    let mut functions = bringing.hold.functions(3);
    functions[1].vf = 0;
    let error = bringing.hold.carrier().bring(functions).unwrap_err();
    assert!(matches!(error, HostError::Brought { vf: 0, .. }), "{error}");
    assert_eq!(order.taken(), Order::VFS);
    assert_eq!(bringing.files(), ["nic.sock"]);

    assert_eq!(bringing.hold.carrier().bring(Vec::new()).unwrap().len(), 0);
    bringing.hold.bring(3);
    assert!(bringing.hold.failure().is_none());
    assert_eq!(bringing.files().len(), 4);
}

#[test]
fn a_function_without_a_socket_brings_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let host = host();
    let hold = Hold::default();
    let order = Order::of(&hold);
    let ids = DeviceIds {
        class_id: Uuid::nil(),
        instance_id: Uuid::from_u128(7),
    };
    let instance = host.create_device(ids, hold.function()).unwrap();
    assert_eq!(instance.socket(), None);
    let refused = |hold: &Hold| {
        hold.bring(2);
        assert_eq!(order.taken(), ["vf0", "vf1"]);
        hold.failure().unwrap()
    };
    let id = instance.id();
    assert!(matches!(refused(&hold), HostError::NotServed(which) if which == id));
    let system = Arc::new(SocketDirectory::open(directory.path()).unwrap());
    host.attach(Arc::clone(&system) as _).unwrap();
    host.announce(instance.id()).unwrap();
    hold.bring(1);
    let socket = hold.instances()[0].socket().unwrap();
    let name = format!("{}-vf0.sock", ids.instance_id);
    assert_eq!(socket, directory.path().join(name));
    assert!(socket.exists());
    assert_eq!(instance.socket(), Some(system.socket(ids.instance_id)));
    host.remove(instance.id()).unwrap();
    assert_eq!(order.taken(), ["vf0"]);
    assert!(!socket.exists());
    assert!(matches!(refused(&hold), HostError::NotServed(_)));
    host.close().unwrap();
    assert!(matches!(refused(&hold), HostError::Closed));
    drop(host);
    assert!(matches!(refused(&hold), HostError::Closed));
    hold.take_away();
}

#[test]
fn they_end_before_the_one_that_brought_them_however_that_ends() {
    type End = fn(Bringing);
    let ends: [End; 3] = [
        |bringing| bringing.host.remove(bringing.id).unwrap(),
        |bringing| bringing.host.close().unwrap(),
        |bringing| drop(bringing.host),
    ];
    for end in ends {
        let bringing = Bringing::new();
        let order = Order::of(&bringing.hold);
        let other = bringing.directory.path().join("other.sock");
        let kept = Arc::clone(&order.0);
        let hold = bringing.hold.clone();
        let ended = Arc::clone(&order.0);
        hold.on_teardown(move || lock(&ended).push("pf"));
        let mut pf = connect(&bringing.socket());
        write32(&mut pf, BAR0, BRING, 3);
        let device = Ends {
            name: "other",
            order: kept,
            inner: Recorder::default(),
        };
        bringing.host.serve(&other, "other", device).unwrap();
        let mut client = connect(&bringing.vf_socket(1));
        enable(&mut client);
        let sockets = [0, 1, 2].map(|vf| bringing.vf_socket(vf));
        let path = bringing.directory.path().to_owned();
        let gone = hold.instances();
        end(bringing);
        let mut ended = order.taken();
        ended.retain(|&name| name != "other");
        assert_eq!(ended, ["vf0", "vf1", "vf2", "pf"]);
        assert!(gone.iter().all(|one| one.state() == DeviceState::Gone));
        assert!(sockets.iter().all(|socket| !socket.exists()), "{path:?}");
        assert_stub(&mut client);
        assert_stub(&mut pf);
        // What is left of the function may still say so.
        hold.take_away();
    }
}

#[test]
fn one_may_be_removed_by_itself_and_nobody_takes_away_what_is_not_its_own() {
    let (bringing, mut client) = Bringing::with(2);
    let instances = bringing.hold.instances();
    bringing.host.remove(instances[0].id()).unwrap();
    assert_eq!(bringing.files(), ["nic-vf1.sock", "nic.sock"]);
    let again = bringing.host.remove(instances[0].id());
    assert!(matches!(again, Err(HostError::NoSuchDevice(_))));
    let own = bringing.host.instance(bringing.id).unwrap();
    bringing
        .hold
        .carrier()
        .take_away(std::slice::from_ref(&own));
    assert_eq!(own.state(), DeviceState::Started);
    write32(&mut client, BAR0, TAKE_AWAY, 0);
    assert_eq!(bringing.files(), ["nic.sock"]);
    assert_eq!(instances[1].state(), DeviceState::Gone);
}

#[test]
fn nothing_waits_for_a_call_from_inside_one() {
    let (bringing, mut client) = Bringing::with(1);
    let own = bringing.host.instance(bringing.id).unwrap();
    let vf = bringing.hold.instances().remove(0);
    let outside = own.with::<Bringer, _>("a look", |bringer| bringer.hold.instances().len());
    assert_eq!(outside.unwrap(), Some(1));
    assert_eq!(own.with::<NoHandles, _>("a look", |_| ()).unwrap(), None);
    let refused = Arc::new(Mutex::new(Vec::new()));
    let (kept, inner) = (Arc::clone(&refused), own.clone());
    bringing.hold.on_call(move || {
        let inside = |result: Result<(), HostError>| {
            lock(&kept).push(matches!(result, Err(HostError::InsideCall)));
        };
        inside(inner.with::<Bringer, _>("a look", |_| ()).map(drop));
        inside(vf.with::<Bringer, _>("a look", |_| ()).map(drop));
        inside(vf.power_on());
        inside(vf.config_read_as_vf(0, &mut [0; 4]));
        inside(vf.config_write_as_vf(0, &[0; 4]));
    });
    write32(&mut client, BAR0, CALL, 0);
    assert_eq!(*lock(&refused), [true; 5]);
    assert_eq!(bringing.record(0).calls(), [Call::ConfigSpace]);
}

#[test]
fn they_come_and_go_under_clients_that_never_stop() {
    let (bringing, mut client) = Bringing::with(4);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for vf in 0..4 {
            let (socket, done) = (bringing.vf_socket(vf), &done);
            scope.spawn(move || {
                let mut served = 0;
                while !done.load(Ordering::SeqCst) || served == 0 {
                    let Ok(mut client) = Client::connect(&socket, options()) else {
                        continue;
                    };
                    // Until it is a stub, which answers as long as anybody asks.
                    while read32(&mut client, CONFIG, 0) != u32::MAX {
                        served += 1;
                        write32(&mut client, BAR0, SIGNAL, 0);
                        if done.load(Ordering::SeqCst) {
                            break;
                        }
                    }
                }
            });
        }
        for _ in 0..200 {
            write32(&mut client, BAR0, TAKE_AWAY, 0);
            write32(&mut client, BAR0, BRING, 4);
            assert!(bringing.hold.failure().is_none());
        }
        done.store(true, Ordering::SeqCst);
    });
    drop(client);
    bringing.host.close().unwrap();
    for record in &*lock(&bringing.records) {
        let life = record.life();
        assert!(life.ends_with(&ENDED), "{life:?}");
        let count = |call| life.iter().filter(|&&one| one == call).count();
        assert_eq!(count(Call::Start), count(Call::Stop), "{life:?}");
        assert_eq!(count(Call::Teardown), 1, "{life:?}");
        assert!(count(Call::Initialize) <= 1, "{life:?}");
    }
}

#[test]
fn a_host_that_is_closed_while_they_come_leaves_nothing() {
    for round in 0..50 {
        let bringing = Bringing::new();
        let hold = bringing.hold.clone();
        let path = bringing.directory.path().to_owned();
        let closed = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            let socket = bringing.socket();
            scope.spawn(move || {
                let mut client = connect(&socket);
                // A stub does nothing with it, and says so.
                while read32(&mut client, CONFIG, 0) != u32::MAX {
                    write32(&mut client, BAR0, BRING, 8);
                    write32(&mut client, BAR0, TAKE_AWAY, 0);
                }
                assert!(closed.load(Ordering::SeqCst));
            });
            wait_for("a round", || lock(&bringing.records).len() > round);
            closed.store(true, Ordering::SeqCst);
            if round % 2 == 0 {
                bringing.host.close().unwrap();
            } else {
                bringing.host.remove(bringing.id).unwrap();
            }
            assert_eq!(bringing.files(), [""; 0]);
        });
        let gone = |one: &DeviceInstance| one.state() == DeviceState::Gone;
        assert!(hold.instances().iter().all(gone));
        for record in &*lock(&bringing.records) {
            assert_eq!(record.count(Call::Teardown), 1);
        }
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
    }
}

#[test]
fn a_bench_has_the_benches_of_what_its_function_brings() {
    let hold = Hold::default();
    let records = hold.make_recorders();
    let mut bench = TestBench::with_function(hold.function()).unwrap();
    assert!(bench.brought(0).unwrap().is_none());
    bench.write(BarIndex::BAR0, BRING, 2_u32);
    assert!(hold.failure().is_none());
    let record = |vf: usize| lock(&records)[vf].clone();
    assert_eq!(record(0).calls(), [Call::ConfigSpace]);
    let mut vf = bench.brought(0).unwrap().unwrap();
    assert_eq!(
        record(0).calls(),
        [&POWERED_ON[..], &[Call::Start]].concat()
    );
    assert!(bench.brought(2).unwrap().is_none());
    assert!(matches!(
        bench.brought(0),
        Err(HostError::System { source, .. }) if source.raw_os_error() == Some(libc_busy())
    ));
    vf.write(BarIndex::BAR0, 8, 5_u32);
    assert_eq!(vf.read::<u32>(BarIndex::BAR0, 8), 5);
    vf.enable_interrupts().unwrap();
    vf.write(BarIndex::BAR0, SIGNAL, 3_u32);
    assert_eq!(vf.wait_interrupt(3, PATIENCE), 1);
    // Its VM leaves; it stays.
    drop(vf);
    record(0).forget();
    let vf = bench.brought(0).unwrap().unwrap();
    assert_eq!(record(0).calls(), [Call::Start]);
    assert_eq!(vf.read::<u32>(BarIndex::BAR0, 8), 0, "reset");
    let own = bench.instance();
    assert_eq!(own.state(), DeviceState::Started);
    let count = own.with::<Bringer, _>("a look", |bringer| bringer.hold.instances().len());
    assert_eq!(count.unwrap(), Some(2));
    // As of a host: they go, and a stub stays.
    bench.write(BarIndex::BAR0, TAKE_AWAY, 0_u32);
    assert_eq!(vf.read::<u32>(BarIndex::BAR0, 8), u32::MAX);
    assert!(bench.brought(0).unwrap().is_none());
    bench.write(BarIndex::BAR0, BRING, 2_u32);
    let vf = bench.brought(1).unwrap().unwrap();
    drop(bench);
    assert_eq!(vf.config_read::<u32>(0), u32::MAX);
    assert!(record(3).life().ends_with(&ENDED));
    assert_eq!(own.state(), DeviceState::Gone);
    hold.bring(1);
    assert!(matches!(hold.failure(), Some(HostError::Closed)));
}

fn libc_busy() -> i32 {
    Errno::BUSY.raw_os_error()
}

#[test]
fn a_bench_brings_all_or_none_too() {
    let hold = Hold::default();
    let order = Order::of(&hold);
    let bench = TestBench::with_function(hold.function()).unwrap();
    hold.bring(1);
    hold.bring(2);
    let error = hold.failure().unwrap();
    assert!(matches!(error, HostError::Brought { vf: 0, .. }), "{error}");
    assert_eq!(order.taken(), ["vf0", "vf1"]);
    let mut functions = hold.functions(2);
    let broken = functions.remove(0);
    functions.insert(
        0,
        hdv::BroughtFunction {
            function: Box::new(NoHandles(broken.function)),
            ..broken
        },
    );
    let error = hold.carrier().bring(functions).unwrap_err();
    assert!(matches!(error, HostError::Brought { vf: 0, .. }), "{error}");
    assert_eq!(order.taken(), ["vf0", "vf1"]);
    drop(bench);
    assert_eq!(order.taken(), ["vf0"]);
}

/// Tells the child where to serve.
const SOCKET: &str = "HDV_TEST_BROUGHT_SOCKET";
/// Tells the child that what is brought comes and goes all the time.
const RESTLESS: &str = "HDV_TEST_BROUGHT_RESTLESS";
const MANY: u16 = 256;

#[test]
fn helper_host() {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    let host = DeviceHost::new(HostOptions::new()).unwrap();
    let hold = Hold::default();
    hold.make_recorders();
    host.serve_function(&socket, "nic", hold.function())
        .unwrap();
    if std::env::var_os(RESTLESS).is_some() {
        // It does not outlive the test.
        std::thread::spawn(|| {
            let _ = std::io::stdin().read(&mut [0]);
            std::process::exit(1);
        });
        println!("\nserving");
        loop {
            hold.bring(MANY);
            assert!(hold.failure().is_none());
            hold.take_away();
        }
    }
    hold.bring(3);
    hold.take_away();
    hold.bring(2);
    assert!(hold.failure().is_none());
    println!("\nserving");
    let _ = std::io::stdin().read(&mut [0]);
}

/// Starts [`helper_host`] in a process of its own, and waits until it serves.
fn start_helper(directory: &Path, restless: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if restless {
        command.env(RESTLESS, "1");
    }
    let mut child = command
        .args(["--exact", "helper_host", "--nocapture"])
        .env(SOCKET, directory.join("nic.sock"))
        .env("XDG_RUNTIME_DIR", directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap() == "serving"));
    child
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What the next OpenHDV process does with the runtime directory in `directory`.
fn clear_away(directory: &Path) {
    let runtime = std::fs::read_dir(directory)
        .unwrap()
        .flatten()
        .find(|entry| entry.path().is_dir())
        .expect("the runtime directory");
    let hosts = RuntimeDirectory::at(&runtime.path()).unwrap().hosts();
    assert_eq!(hosts.unwrap().len(), 0);
}

#[test]
fn whenever_a_host_is_killed_all_is_cleared_away() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let child = start_helper(directory.path(), true);
        // Some moment or other while they come and go.
        std::thread::sleep(std::time::Duration::from_millis(round * 7 % 50));
        kill(child);
        clear_away(directory.path());
        let left: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .flatten()
            .filter(|entry| !entry.path().is_dir())
            .map(|entry| entry.file_name())
            .collect();
        assert!(left.is_empty(), "{round}: {left:?}");
    }
}

#[test]
fn what_a_killed_host_left_is_cleared_away() {
    let directory = tempfile::tempdir().unwrap();
    let child = start_helper(directory.path(), false);
    let sockets = || {
        let names = ["nic.sock", "nic-vf0.sock", "nic-vf1.sock", "nic-vf2.sock"];
        names.map(|name| directory.path().join(name).exists())
    };
    assert_eq!(sockets(), [true, true, true, false]);
    kill(child);
    assert_eq!(sockets(), [true, true, true, false]);
    clear_away(directory.path());
    assert_eq!(sockets(), [false; 4]);
}

/// A system that hands clients over.
#[derive(Debug)]
struct Handing {
    beside: Option<PathBuf>,
}

impl System for Handing {
    fn announced(&self, _: &HostHandle, _: &DeviceIds) -> Result<Option<Place>, HostError> {
        Ok(Some(Place {
            listen: Listen::Handed {
                beside: self.beside.clone(),
            },
            configuration: Vec::new(),
        }))
    }
}

#[test]
fn what_comes_of_a_device_without_a_socket_is_beside_the_place_that_its_system_names() {
    let directory = tempfile::tempdir().unwrap();
    let ids = DeviceIds {
        class_id: Uuid::from_u128(1),
        instance_id: Uuid::from_u128(2),
    };
    for is_placed in [true, false] {
        let beside = is_placed.then(|| directory.path().join("pf.sock"));
        let host = host();
        host.attach(Arc::new(Handing { beside })).unwrap();
        let hold = Hold::default();
        hold.make_recorders();
        let instance = host.create_device(ids, hold.function()).unwrap();
        host.announce(instance.id()).unwrap();
        assert_eq!(instance.socket(), None);
        let brought = hold.carrier().bring(hold.functions(2));
        if is_placed {
            assert_eq!(brought.unwrap().len(), 2);
            let mut vf = connect(&directory.path().join("pf-vf1.sock"));
            read32(&mut vf, CONFIG, 0);
        } else {
            assert!(matches!(brought, Err(HostError::NoPlaceFor(_))));
        }
    }
    let left = std::fs::read_dir(directory.path()).unwrap();
    assert_eq!(left.count(), 0);
}
