//! The examples in C, each in a process of its own, driven over vfio-user connections as a guest
//! drives them.

#[path = "support/served.rs"]
mod served;
#[path = "support/toolchain.rs"]
mod toolchain;

use std::path::{Path, PathBuf};

use hdv::DeviceStatus;
use hdv_control::{Client as ControlClient, RuntimeDirectory};
use hdv_devices::sensor::registers::{SCRATCH, THRESHOLD_LOW};
use hdv_guest::checks::{self, Check, Selection, Settings};
use hdv_guest::families;
use hdv_guest::framebuffer;
use hdv_guest::platform::vfio_user::VfioUser;
use hdv_guest::platform::{BarAccess, Platform, Width};
use hdv_guest::report::{Line, Outcome};
use rustix::process::Signal;
use serde_json::Value;

use served::{Served, command};
use toolchain::{Language, WAYS, WideCharacters, build};

const EXAMPLES: [&str; 5] = ["sensor", "camera", "framebuffer", "vendor_style", "pf"];
/// Serves no socket: it makes a VM, and its test is the compute step's.
const VM: &str = "vm";
/// Needs `L"..."` to be UTF-16.
const VENDOR_STYLE: &str = "vendor_style";

const INSTANCES: [&str; 2] = [
    "5f3c6d1e-0000-4000-8000-000000000011",
    "5f3c6d1e-0000-4000-8000-000000000012",
];

/// A place for programs and sockets.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("sockets")).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn program(&self, name: &str) -> PathBuf {
        build(
            &source(name),
            Language::C,
            WideCharacters::Short,
            self.directory.path(),
        )
    }

    /// Starts an example with further arguments.
    fn serve(&self, program: &Path, instance: &str, arguments: &[&str]) -> Served {
        let mut command = command(program);
        command
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .arg(self.path("sockets"))
            .arg(instance)
            .args(arguments);
        Served::start(command)
    }

    /// What the program says of its device.
    fn status(&self, served: &Served) -> DeviceStatus {
        let hosts = std::fs::read_dir(self.directory.path())
            .unwrap()
            .flatten()
            .filter_map(|entry| RuntimeDirectory::at(&entry.path()).ok()?.hosts().ok())
            .flatten();
        let host = hosts
            .into_iter()
            .find(|host| host.pid == served.id())
            .expect("the control socket of the program");
        let mut control = ControlClient::connect(&host.path).unwrap();
        let list = control.call("list", &Value::Null).unwrap();
        let devices: Vec<DeviceStatus> = serde_json::from_value(list).unwrap();
        assert_eq!(devices.len(), 1);
        devices.into_iter().next().unwrap()
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/c")
}

fn source(name: &str) -> PathBuf {
    sources().join(name).with_extension("c")
}

fn settings() -> Settings {
    Settings {
        samples: 50_000,
        samples_of_two: 20_000,
        ..Settings::default()
    }
}

/// Makes every check of a device that is no sensor.
fn check(device: &VfioUser) -> (Vec<Outcome>, Vec<Line>) {
    let family = families::of(device.identity().unwrap()).expect("a kind of device");
    let (mut outcomes, mut others) = (Vec::new(), Vec::new());
    family.check(
        device,
        &Selection::all(),
        &settings(),
        &mut |line| match line {
            Line::Check(outcome) => outcomes.push(outcome),
            other => others.push(other),
        },
    );
    assert_eq!(outcomes.len(), family.checks.len());
    (outcomes, others)
}

fn all_passed(outcomes: &[Outcome]) {
    for outcome in outcomes {
        assert!(outcome.ok, "{outcome:?}");
    }
}

/// Ends a program as its user would: cleanly, and its socket goes with it.
fn ends(mut served: Served, signal: Signal) {
    let (status, errors) = served.end(signal);
    assert!(status.success(), "{status}: {errors}");
    assert_eq!(errors, "");
    assert!(!served.socket.exists(), "the socket is left behind");
}

#[test]
fn every_example_compiles_in_every_way() {
    let place = Place::new();
    let found: Vec<_> = std::fs::read_dir(sources())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .collect();
    let names: Vec<_> = EXAMPLES.into_iter().chain([VM]).collect();
    assert_eq!(found.len(), names.len(), "{found:?}");
    for name in names {
        for (language, wide) in WAYS {
            if name != VENDOR_STYLE || matches!(wide, WideCharacters::Short) {
                build(&source(name), language, wide, place.directory.path());
            }
        }
    }
}

#[test]
fn the_sensor_passes_the_checks_of_the_one_in_rust() {
    let place = Place::new();
    let program = place.program("sensor");
    let served = INSTANCES.map(|instance| place.serve(&program, instance, &[]));
    let devices = served
        .iter()
        .map(|served| VfioUser::connect(&served.socket).unwrap())
        .collect();
    let mut outcomes = Vec::new();
    checks::run(&Check::ALL, devices, &settings(), &mut |outcome| {
        outcomes.push(outcome);
    });
    assert_eq!(outcomes.len(), Check::ALL.len() + 2);
    all_passed(&outcomes);
    for served in served {
        ends(served, Signal::TERM);
    }
}

#[test]
fn the_next_client_of_a_sensor_finds_it_reset() {
    let place = Place::new();
    let served = place.serve(&place.program("sensor"), INSTANCES[0], &[]);
    let client = VfioUser::connect(&served.socket).unwrap();
    client.write(0, SCRATCH, Width::Qword, u64::MAX).unwrap();
    client.write(0, THRESHOLD_LOW, Width::Dword, 7).unwrap();
    assert_eq!(client.read(0, SCRATCH, Width::Qword).unwrap(), u64::MAX);
    drop(client);
    let client = VfioUser::connect(&served.socket).unwrap();
    assert_eq!(client.read(0, SCRATCH, Width::Qword).unwrap(), 0);
    let low = client.read(0, THRESHOLD_LOW, Width::Dword).unwrap();
    assert_eq!(low, 0x8000_0000);
    drop(client);
    ends(served, Signal::INT);
}

#[test]
fn a_sensor_that_samples_for_a_guest_ends_when_asked() {
    let place = Place::new();
    let served = place.serve(&place.program("sensor"), INSTANCES[0], &[]);
    let client = VfioUser::connect(&served.socket).unwrap();
    client.enable_vectors(3).unwrap();
    let sensor = hdv_guest::sensor::Sensor::new(client).unwrap();
    let mut ring = hdv_guest::sensor::ring::Ring::new(&sensor, 256).unwrap();
    ring.start(10, 1).unwrap();
    let fired = sensor.platform().wait(0, settings().patience).unwrap();
    assert_ne!(fired, 0);
    ends(served, Signal::TERM);
}

#[test]
fn the_camera_delivers_its_frames_for_client_after_client() {
    let place = Place::new();
    let served = place.serve(&place.program("camera"), INSTANCES[0], &[]);
    for _ in 0..2 {
        let device = VfioUser::connect(&served.socket).unwrap();
        let (outcomes, lines) = check(&device);
        all_passed(&outcomes);
        let [Line::File { name, base64, .. }] = &lines[..] else {
            panic!("{lines:?}");
        };
        assert_eq!(name, "camera.png");
        assert!(
            base64.starts_with("iVBORw0KGgo"),
            "not the signature of PNG"
        );
    }
    ends(served, Signal::TERM);
}

#[test]
fn the_framebuffer_is_mapped_and_written_to_a_picture() {
    let place = Place::new();
    let png = place.path("shown.png");
    let arguments = ["--png", png.to_str().unwrap()];
    let served = place.serve(&place.program("framebuffer"), INSTANCES[0], &arguments);
    let device = VfioUser::connect(&served.socket).unwrap();
    all_passed(&check(&device).0);

    // Every pixel was written and read more than once, and none of it through the host.
    let client = place.status(&served).client.unwrap();
    let accesses = client.bar_reads + client.bar_writes;
    let (width, height) = framebuffer::LARGE;
    assert!(accesses < u64::from(width), "{accesses} accesses of BARs");

    shows(&png, width, height);
    drop(device);

    // The next client finds it reset, and maps the same memory.
    let device = VfioUser::connect(&served.socket).unwrap();
    all_passed(&check(&device).0);
    drop(device);
    ends(served, Signal::TERM);
}

#[test]
fn a_framebuffer_that_comes_late_is_served_by_the_host() {
    let place = Place::new();
    let png = place.path("shown.png");
    let arguments = ["--late", "--png", png.to_str().unwrap()];
    let served = place.serve(&place.program("framebuffer"), INSTANCES[0], &arguments);
    let device = VfioUser::connect(&served.socket).unwrap();
    all_passed(&check(&device).0);
    let client = place.status(&served).client.unwrap();
    let (width, height) = framebuffer::SMALL;
    let pixels = u64::from(width) * u64::from(height);
    assert!(client.bar_reads > pixels && client.bar_writes > pixels);
    shows(&png, width, height);
    drop(device);
    ends(served, Signal::TERM);
}

/// The file is the picture that the guest has drawn last.
fn shows(file: &Path, width: u32, height: u32) {
    let file = std::io::BufReader::new(std::fs::File::open(file).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    assert_eq!((info.width, info.height), (width, height));
    assert_eq!(info.color_type, png::ColorType::Rgb);
    let mut pixels = bytes.chunks_exact(3);
    for y in 0..height {
        for x in 0..width {
            let expected = framebuffer::picture(x, y, framebuffer::LAST, width, height);
            let [blue, green, red, _] = expected.to_le_bytes();
            assert_eq!(pixels.next().unwrap(), [red, green, blue], "({x}, {y})");
        }
    }
}

#[test]
fn the_device_in_the_vendors_style_greets() {
    let place = Place::new();
    let served = place.serve(&place.program(VENDOR_STYLE), INSTANCES[0], &[]);
    let device = VfioUser::connect(&served.socket).unwrap();
    all_passed(&check(&device).0);
    drop(device);
    ends(served, Signal::TERM);
}

/// The number in a register of BAR 0.
fn register(device: &VfioUser, offset: u64) -> u64 {
    device.read(0, offset, Width::Dword).unwrap()
}

#[test]
fn a_physical_function_sums_what_its_virtual_functions_count() {
    let place = Place::new();
    let served = place.serve(&place.program("pf"), INSTANCES[0], &["3"]);
    let mut sockets = Vec::new();
    for (vf, line) in served.said.iter().enumerate() {
        let expected = format!("device counting-vf 0000:01:00.{} ", vf + 1);
        let socket = line.strip_prefix(&expected);
        sockets.push(PathBuf::from(socket.unwrap_or_else(|| panic!("{line}"))));
    }
    assert_eq!(sockets.len(), 3);
    let pf = VfioUser::connect(&served.socket).unwrap();
    let vfs: Vec<_> = sockets
        .iter()
        .map(|socket| VfioUser::connect(socket).unwrap())
        .collect();
    for device in vfs.iter().chain([&pf]) {
        all_passed(&check(device).0);
    }
    assert_eq!(register(&pf, 0x004), 3);
    let sum = register(&pf, 0x008);
    for (number, vf) in (0..).zip(&vfs) {
        assert_eq!(register(vf, 0x004), number);
        vf.write(0, 0x008, Width::Dword, 10 + number).unwrap();
    }
    let more = 10 + 11 + 12;
    assert_eq!(register(&pf, 0x008), (sum + more) & 0xffff_ffff);
    for (number, vf) in (0..).zip(&vfs) {
        assert_eq!(register(vf, 0x00c), register(&pf, 0x008));
        assert_eq!(register(vf, 0x008), register(&pf, 0x100 + 4 * number));
    }
    // The next machine that has a VF finds it at 0; nobody else notices.
    let (mut vfs, others) = (vfs, sum + more);
    drop(vfs.remove(1));
    let again = VfioUser::connect(&sockets[1]).unwrap();
    assert_eq!(register(&again, 0x008), 0);
    assert_eq!(register(&vfs[0], 0x00c), others & 0xffff_ffff);
    drop((pf, vfs, again));
    ends(served, Signal::TERM);
    for socket in sockets {
        assert!(!socket.exists(), "{}", socket.display());
    }
}

#[test]
fn what_is_wrong_is_told() {
    let place = Place::new();
    let sockets = place.path("sockets");
    let sockets = sockets.to_str().unwrap();
    let nowhere = place.path("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    for name in EXAMPLES {
        let program = place.program(name);
        let served = place.serve(&program, INSTANCES[0], &[]);
        for (arguments, code, text) in [
            (&[][..], 2, "usage:"),
            (&[sockets, INSTANCES[1], "--fast"][..], 2, "usage:"),
            (&[sockets, "x"][..], 1, "0x80070057"),
            (&[nowhere, INSTANCES[1]][..], 1, "0x8037010e"),
            (&[sockets, INSTANCES[0]][..], 1, "0x800700b7"),
        ] {
            let output = command(&program)
                .env("XDG_RUNTIME_DIR", place.directory.path())
                .args(arguments)
                .output()
                .unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{name}: {errors}");
            assert!(errors.contains(text), "{name} {arguments:?}: {errors}");
            assert!(output.stdout.is_empty());
        }
        ends(served, Signal::TERM);
    }
}
