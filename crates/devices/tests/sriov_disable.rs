//! VFs that are disabled while they sample, on the test bench and on sockets. One test: it looks at all threads of the
//! process.

use std::path::Path;
use std::time::{Duration, Instant};

use hdv::{BarIndex, DeviceHost, HostOptions, TestBench};
use hdv_devices::sensor::SourceName;
use hdv_devices::sensor::registers::*;
use hdv_devices::sriov_sensor::SriovSensor;
use hdv_devices::sriov_sensor::registers::{
    NUM_VFS, STATE_CLIENT, STATE_ENABLED, STATE_SAMPLING, VF_DELIVERED, VF_PERIOD_IN_FORCE,
    VF_QUOTA, VF_STATE, entry,
};
use hdv_sriov::{EmulatedPf, EnableVirtualization, PciVirtualization, PfOptions, Placement};
use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::vfio::region;

/// Far more than anything here takes; only a fault waits this long.
const LIMIT: Duration = Duration::from_secs(60);
const VFS: u16 = 3;

fn sensor() -> (Box<SriovSensor>, PfOptions) {
    let port = hdv::pci::Port::new(1, 1).unwrap().ari_forwarding(true);
    let options = PfOptions::new(Placement::new(0, port, 0, 0).unwrap());
    let sensor = SriovSensor::new(&SourceName::Sine, 64, 0).unwrap();
    (Box::new(sensor), options)
}

/// Threads of this process that take samples.
fn samplers() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .filter(|name| name.trim() == "sensor")
        .count()
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "{what} did not happen");
        std::thread::yield_now();
    }
}

/// A thread takes its name once it runs, and may be seen for a moment after it was joined.
fn wait_for_samplers(count: usize) {
    wait_for(&format!("{count} samplers"), || samplers() == count);
}

fn get(client: &mut Client, register: u64) -> u32 {
    let mut value = [0; 4];
    client
        .region_read(region::BAR0, register, &mut value)
        .unwrap();
    u32::from_le_bytes(value)
}

fn count(client: &mut Client, register: u64) -> u64 {
    let mut value = [0; 8];
    client
        .region_read(region::BAR0, register, &mut value)
        .unwrap();
    u64::from_le_bytes(value)
}

fn set(client: &mut Client, register: u64, value: u32) {
    client
        .region_write(region::BAR0, register, &value.to_le_bytes())
        .unwrap();
}

fn connect(directory: &Path, socket: &str) -> Client {
    Client::connect(&directory.join(socket), ClientOptions::default()).unwrap()
}

fn on_the_bench() {
    let (sensor, options) = sensor();
    let (bench, pf) = EmulatedPf::on_bench(sensor, options).unwrap();
    let mut former: Vec<TestBench> = Vec::new();
    // While they sample, and while they wait for a sample that is an hour away.
    for period in [10_u32, u32::MAX] {
        pf.enable_virtualization(EnableVirtualization::enable(VFS))
            .unwrap();
        let mut vfs: Vec<TestBench> = (0..VFS)
            .map(|vf| bench.brought(vf).unwrap().unwrap())
            .collect();
        for vf in &mut vfs {
            vf.write(BarIndex::BAR0, PERIOD, period);
            vf.write(BarIndex::BAR0, CONTROL, CONTROL_ENABLE);
        }
        wait_for_samplers(usize::from(VFS));
        pf.enable_virtualization(EnableVirtualization::disable())
            .unwrap();
        wait_for_samplers(0);
        assert!(bench.brought(0).unwrap().is_none());
        former.extend(vfs);
    }
    for vf in &former {
        assert_eq!(vf.read::<u32>(BarIndex::BAR0, IDENTIFICATION), u32::MAX);
    }
    // With the PF, too.
    pf.enable_virtualization(EnableVirtualization::enable(1))
        .unwrap();
    let mut vf = bench.brought(0).unwrap().unwrap();
    vf.write(BarIndex::BAR0, CONTROL, CONTROL_ENABLE);
    wait_for_samplers(1);
    drop(bench);
    wait_for_samplers(0);
}

fn on_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let host = DeviceHost::new(HostOptions::new().control(false)).unwrap();
    let (sensor, options) = sensor();
    let socket = directory.path().join("pf.sock");
    let pf = EmulatedPf::serve(&host, socket, "pf", sensor, options).unwrap();
    pf.enable_virtualization(EnableVirtualization::enable(VFS))
        .unwrap();

    let mut manager = connect(directory.path(), "pf.sock");
    assert_eq!(get(&mut manager, NUM_VFS), u32::from(VFS));
    let mut vfs = [0, 1].map(|vf| connect(directory.path(), &format!("pf-vf{vf}.sock")));
    for vf in &mut vfs {
        set(vf, PERIOD, 100);
        set(vf, CONTROL, CONTROL_ENABLE);
    }
    let sampling = STATE_ENABLED | STATE_CLIENT | STATE_SAMPLING;
    let states = [0, 1, 2].map(|vf| get(&mut manager, entry(vf) + VF_STATE));
    assert_eq!(states, [sampling, sampling, STATE_ENABLED]);

    // The PF's VM limits one of them; it gets samples, and counts them with the PF.
    set(&mut manager, entry(0) + VF_QUOTA, 1000);
    assert_eq!(get(&mut manager, entry(0) + VF_PERIOD_IN_FORCE), 1000);
    assert_eq!(get(&mut manager, entry(1) + VF_PERIOD_IN_FORCE), 100);
    for (vf, number) in vfs.iter_mut().zip(0..) {
        wait_for("samples", || get(vf, SEQUENCE) > 20);
        let counted = count(&mut manager, entry(number) + VF_DELIVERED);
        assert!(counted > 20, "{counted}");
    }

    // One VM ends: the other notices nothing, the quota stays.
    let [first, mut second] = vfs;
    drop(first);
    wait_for("the first to leave", || {
        get(&mut manager, entry(0) + VF_STATE) == STATE_ENABLED
    });
    wait_for_samplers(1);
    let sequence = get(&mut second, SEQUENCE);
    wait_for("a sample", || get(&mut second, SEQUENCE) > sequence);
    assert_eq!(get(&mut manager, entry(0) + VF_QUOTA), 1000);
    drop(manager);
    let mut manager = connect_again(directory.path(), "pf.sock");
    assert_eq!(get(&mut manager, entry(0) + VF_QUOTA), 1000);

    // Disabled in use: a stub answers.
    pf.enable_virtualization(EnableVirtualization::disable())
        .unwrap();
    wait_for_samplers(0);
    assert_eq!(get(&mut second, SEQUENCE), u32::MAX);
    set(&mut second, CONTROL, CONTROL_ENABLE);
    assert_eq!(get(&mut manager, entry(1) + VF_STATE), 0);
    assert!(!directory.path().join("pf-vf1.sock").exists());
    drop(host);
    wait_for_samplers(0);
}

/// Connects to a device that a client may just be leaving.
fn connect_again(directory: &Path, socket: &str) -> Client {
    let begun = Instant::now();
    loop {
        match Client::connect(&directory.join(socket), ClientOptions::default()) {
            Ok(client) => return client,
            Err(error) => assert!(begun.elapsed() < LIMIT, "{error}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn vfs_that_are_disabled_leave_no_thread() {
    on_the_bench();
    on_sockets();
}
