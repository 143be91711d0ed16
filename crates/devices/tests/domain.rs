//! Descriptions of domains: the examples, built and enumerated as software does it, and what is refused.

use std::path::{Path, PathBuf};

use hdv::domain::{BenchBus, MEMORY_BASE, PREFETCHABLE_BASE};
use hdv::pci::RoutingId;
use hdv::pci::enumerate::{Enumeration, FoundFunction, enable_vfs, enumerate};
use hdv::{BarIndex, TestBench};
use hdv_devices::domain::{DomainDocument, LINUX_LEVELS};

/// The endpoint's window onto config space.
const CONFIG: BarIndex = BarIndex::BAR0;
fn offset(id: RoutingId, register: u16) -> u64 {
    u64::from(id.get()) << 12 | u64::from(register)
}

struct Built {
    bench: TestBench,
    enumeration: Enumeration,
    /// Of the endpoint's windows.
    sizes: [u64; 3],
}

/// Builds what a text describes, and enumerates it in the windows that it has.
fn build(text: &str) -> Built {
    let document = DomainDocument::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let built = document.build().expect("what was checked can be made");
    let mut bench = TestBench::new(built.endpoint).expect("an endpoint");
    let mut bus = BenchBus::new(&mut bench);
    let resources = bus.resources();
    let prefetchable = resources.prefetchable.clone().expect("there is one");
    let sizes = [
        (u64::from(*resources.buses.end()) + 1) << 20,
        resources.memory.end() + 1 - MEMORY_BASE,
        prefetchable.end() + 1 - PREFETCHABLE_BASE,
    ];
    let enumeration = enumerate(&mut bus, &resources);
    Built {
        enumeration: enumeration.unwrap_or_else(|error| panic!("{text}: {error}")),
        bench,
        sizes,
    }
}

impl Built {
    fn of(&self, device_id: u16) -> Vec<&FoundFunction> {
        let all = self.enumeration.functions.iter();
        all.filter(|found| found.device_id == device_id).collect()
    }

    /// Routing ids of a kind.
    fn ids(&self, device_id: u16) -> Vec<String> {
        let ids = self.of(device_id);
        ids.iter().map(|found| found.id.to_string()).collect()
    }
}

const SENSOR: u16 = hdv_devices::sensor::registers::DEVICE_ID;
const PF: u16 = hdv_devices::sriov_sensor::registers::PF_DEVICE_ID;
const ROOT_PORT: u16 = 0x0d10;
const UPSTREAM_PORT: u16 = 0x0d11;
const DOWNSTREAM_PORT: u16 = 0x0d12;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/domains")
}

fn example(name: &str) -> Built {
    let path = examples().join(name);
    build(&std::fs::read_to_string(path).expect("an example"))
}

#[test]
fn every_example_is_known_here() {
    let entries = std::fs::read_dir(examples()).expect("the examples");
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".toml")).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "deep.toml",
            "deepest.toml",
            "hotplug.toml",
            "pf.toml",
            "switch.toml"
        ]
    );
}

#[test]
fn those_of_the_book_are_as_it_says() {
    let page = include_str!("../../../docs/book/domain.md");
    let blocks = page.split("```toml\n").skip(1);
    let blocks: Vec<_> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 2);
    assert_eq!(build(blocks[0]).ids(SENSOR).len(), 1);
    let built = build(blocks[1]);
    assert_eq!(built.ids(SENSOR).len(), 2 + 4 + 1);
    assert_eq!(built.ids(PF).len(), 1);
    assert_eq!(built.sizes, [64 << 20, 128 << 20, 1 << 30]);
}

#[test]
fn a_pf_has_64_vfs() {
    let mut built = example("pf.toml");
    let pf = built.of(PF)[0].clone();
    assert_eq!(pf.id.to_string(), "01:00.0");
    let vfs = enable_vfs(&mut BenchBus::new(&mut built.bench), &pf, 64);
    assert_eq!(vfs.len(), 64);
    let last = vfs[63];
    assert_eq!(last.get(), 0x0140);
    assert_eq!(built.bench.read::<u32>(CONFIG, offset(last, 0)), u32::MAX);
    assert_ne!(built.bench.read::<u16>(CONFIG, offset(last, 8)), u16::MAX);
    let beyond = RoutingId::from(last.get() + 1);
    assert_eq!(built.bench.read::<u16>(CONFIG, offset(beyond, 8)), u16::MAX);
}

#[test]
fn a_switch_has_8_sensors() {
    let built = example("switch.toml");
    assert_eq!(built.ids(ROOT_PORT), ["00:01.0"]);
    assert_eq!(built.ids(UPSTREAM_PORT), ["01:00.0"]);
    assert_eq!(built.ids(DOWNSTREAM_PORT).len(), 8);
    let expected: Vec<_> = (3..11).map(|bus| format!("{bus:02x}:00.0")).collect();
    assert_eq!(built.ids(SENSOR), expected);
}

#[test]
fn the_deepest_one_uses_every_bus() {
    let built = example("deepest.toml");
    assert_eq!(built.sizes[0], 256 << 20);
    assert_eq!(built.ids(SENSOR), ["ff:00.0"]);
    assert_eq!(built.ids(DOWNSTREAM_PORT).len(), 127);
}

#[test]
fn what_is_too_deep_for_linux_is_known() {
    let levels = |name: &str| {
        let text = std::fs::read_to_string(examples().join(name)).unwrap();
        DomainDocument::parse(&text).unwrap().levels()
    };
    assert_eq!(levels("pf.toml"), 1);
    assert_eq!(levels("switch.toml"), 3);
    assert_eq!(levels("deepest.toml"), 255);
    assert_eq!(levels("deep.toml"), LINUX_LEVELS);
    assert_eq!(example("deep.toml").ids(SENSOR), ["31:00.0"]);
}

#[test]
fn slots_are_full_and_empty() {
    let built = example("hotplug.toml");
    let root_ports = built.of(ROOT_PORT);
    let slots = root_ports.iter().filter_map(|port| port.bridge.as_ref());
    assert_eq!(slots.filter(|bridge| bridge.hot_plug).count(), 8);
    assert_eq!(built.ids(SENSOR).len(), 5);
    // Each slot has buses for a switch that comes later.
    assert_eq!(built.sizes[0], 128 << 20);
    let sensors = built.of(SENSOR);
    let buses: Vec<_> = sensors.iter().map(|found| found.id.bus()).collect();
    assert_eq!(buses, [1, 10, 19, 28, 37]);
}

#[test]
fn what_is_not_given_is_worked_out() {
    const SINE: &str = "set = { source = \"sine\" }";
    let one = build(&format!("[[port]]\ndevice = \"sensor\"\n{SINE}"));
    assert_eq!(one.sizes, [32 << 20, 64 << 20, 1 << 30]);
    // VFs without ARI are on buses of their own.
    let settings = "set = { vfs = 1024, ari = false, source = \"sine\" }";
    let text = format!("[[port]]\ncount = 9\ndevice = \"sriov-sensor\"\n{settings}");
    let buses = build(&text).sizes[0] >> 20;
    assert_eq!(buses, 64);
    // Each port's window is a whole MiB at least.
    let text = format!("[[port]]\nname = \"p\"\ncount = 200\ndevice = \"sensor\"\n{SINE}");
    let many = build(&text);
    assert_eq!(many.sizes[..2], [256 << 20, 256 << 20]);
    assert_eq!(many.ids(SENSOR).len(), 200);
    let sizes = "buses = 8\nmemory = \"16M\"\nprefetchable = \"2M\"\nvectors = 4\n";
    let given = build(&format!("{sizes}[[port]]\ndevice = \"sensor\"\n{SINE}"));
    assert_eq!(given.sizes, [8 << 20, 16 << 20, 2 << 20]);
}

#[test]
fn ports_nest_and_devices_have_functions() {
    let text = r#"
        name = "lab"
        [[port]]
        name = "a"
        [[port.switch]]
        name = "b"
        count = 2
        slot = true
        [[port.switch]]
        switch = { device = "sensor", set.source = "sine" }
        [[port.switch]]
        slot = 1
        [[port.switch.function]]
        device = "sensor"
        set = { source = "sine" }
        [[port.switch.function]]
        device = "sensor"
        number = 5
        name = "last"
        set = { source = "sine" }
    "#;
    assert_eq!(DomainDocument::parse(text).unwrap().name(), Some("lab"));
    let built = build(text);
    assert_eq!(built.ids(DOWNSTREAM_PORT).len(), 5);
    let functions = built.of(SENSOR);
    let numbers: Vec<_> = functions.iter().map(|found| found.id.function()).collect();
    assert_eq!(numbers, [0, 0, 5]);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, expected) in [
        ("", "there is no port: begin one with [[port]]"),
        ("[[port]]\nname = \"a\"\nspeed = 1", "line 3"),
        ("[[port]]\nslot = -1", "true, false or the slot's number"),
        ("[[port]]\nslot = 8192", "true, false or the slot's number"),
        ("memory = \"64 MB\"\n[[port]]", "such as \"64M\""),
        (
            "memory = \"3M\"\n[[port]]",
            "memory = \"3M\" is not possible: a power of two from \"1M\" to \"1G\" is, such as \"4M\"",
        ),
        (
            "prefetchable = \"2T\"\n[[port]]",
            "prefetchable = \"2T\" is not possible: a power of two from \"1M\" to \"1T\" is, such as \"1T\"",
        ),
        (
            "buses = 5\n[[port]]",
            "buses = 5 is not possible: a power of two from 1 to 256 is, such as 8",
        ),
        (
            "buses = 1000\n[[port]]",
            "buses = 1000 is not possible: a power of two from 1 to 256 is, such as 256",
        ),
        (
            "vectors = 1\n[[port]]",
            "vectors = 1 is not possible: 2 to 256",
        ),
        ("name = \"a/b\"\n[[port]]", "\"a/b\" cannot be a name"),
        (
            "\n[[port]]\nname = \"01.0\"",
            "line 2, port \"01.0\": \"01.0\" cannot be a name",
        ),
        (
            "[[port]]\nname = \"a\"\n[[port]]\nname = \"a\"",
            "line 3, port \"a\": the name \"a\" is taken",
        ),
        (
            "[[port]]\nname = \"a\"\ndevice = \"censor\"",
            "line 1, port \"a\": there is no device \"censor\"; there are: sensor, sriov-sensor (`hdv devices` says more); did you mean \"sensor\"?",
        ),
        (
            "[[port]]\ndevice = \"moon\"",
            "sriov-sensor (`hdv devices` says more)",
        ),
        (
            "[[port]]\ndevice = \"sensor\"\n[[port.function]]\ndevice = \"sensor\"\nnumber = 1",
            "device is function 0 already",
        ),
        (
            "[[port]]\ndevice = \"sensor\"\nset = { sauce = 1 }",
            "line 1, port \"port-1\": sensor has no setting \"sauce\": it has source",
        ),
        (
            "[[port]]\ndevice = \"sensor\"\nset = { source = [1] }",
            "setting \"source\" is of type array; a string",
        ),
        (
            "[[port]]\ndevice = \"sensor\"\nset = { source = \"csv:/nowhere\" }",
            "sensor: source=csv:/nowhere: /nowhere:",
        ),
        (
            "[[port]]\ndevice = \"sriov-sensor\"\nset = { enable = 3 }",
            "setting \"enable\" has no meaning in a domain",
        ),
        ("[[port]]\nset = { a = 1 }", "set needs a device beside it"),
        (
            "[[port]]\ndevice = \"sensor\"\nswitch = {}",
            "device and switch cannot both be below a port",
        ),
        (
            "[[port]]\ncount = 0",
            "count = 0 is not possible: 1 to 255 is",
        ),
        ("[[port]]\ndepth = 256", "depth = 256 is not possible"),
        (
            "[[port]]\ncount = 255\nslot = 1",
            "slot = 1 is one slot, and there are 255",
        ),
        (
            "[[port]]\nslot = 1\n[[port]]\nslot = 1",
            "line 3, a port without a name: slot 1 is another port's",
        ),
        ("[[port]]\nbutton = true", "button needs slot = true"),
        ("[[port]]\ndepth = 128", "there are more than 255 ports"),
        (
            "[[port]]\nswitch = []",
            "a switch has 1 to 32 downstream ports, and this one has 0",
        ),
        (
            "[[port]]\nswitch = { count = 33 }",
            "and this one has 33; nest switches",
        ),
        (
            "[[port]]\n[[port.function]]\ndevice = \"sensor\"\nnumber = 1",
            "function 0 is missing",
        ),
        (
            "[[port]]\n[[port.function]]\ndevice = \"sensor\"\n[[port.function]]\ndevice = \"sensor\"\nnumber = 8",
            "function 8 is not possible",
        ),
        (
            "[[port]]\n[[port.function]]\ndevice = \"sensor\"\n[[port.function]]\ndevice = \"sriov-sensor\"",
            "sriov-sensor is a physical function, which is alone",
        ),
        (
            "buses = 2\n[[port]]\ndevice = \"sriov-sensor\"\nset = { vfs = 300 }",
            "3 buses are needed, and there are 2; say buses = 4, or",
        ),
        (
            "memory = \"1M\"\n[[port]]\ncount = 2\ndevice = \"sensor\"",
            "the BARs need 2M of the memory window, and there are 1M; say memory = \"2M\"",
        ),
    ] {
        let error = DomainDocument::parse(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}\n{error}");
    }
}
