//! Config space as foreign eyes see it: `lspci` decodes what `hdv probe --hexdump` reads from
//! a served device, every capability of it. SR-IOV is in `sriov`, ports are in `ports`.

mod ports;
mod sriov;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hdv::{
    Bar, BarAccess, BarIndex, BarOffset, ClassCode, ConfigError, ConfigSpace, DeviceHost,
    DeviceSerialNumber, HostOptions, Identity, Msi, Msix, PciDevice, PciExpress, PowerManagement,
    ResizableBar, VendorSpecific,
};
use hdv_devices::sensor::{Sensor, SourceName};
use hdv_qemu::bundle::Bundle;
use hdv_qemu::cache::Cache;
use hdv_qemu::program::Program;

use super::Failure;
use super::steps::succeed;
use crate::cargo::{cargo, target_directory};
use crate::lab::bring;
use crate::ui::Ui;

/// What lspci prints where it cannot make sense of something. The contents of a vendor-specific
/// capability are the vendor's, so its `<?>` is right.
const COMPLAINTS: [&str; 5] = [
    "nknown",
    "runcated",
    "access denied",
    "<chain looped>",
    "<chain broken>",
];

/// Has every capability there is.
struct Everything;

impl PciDevice for Everything {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let identity = Identity {
            vendor_id: 0x4f48,
            device_id: 0x7ffe,
            revision_id: 0,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0x4f48,
            subsystem_id: 0x7ffe,
        };
        ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory64(1 << 20).prefetchable())
            .bar(BarIndex::BAR2, Bar::memory32(1 << 14))
            .capability(PowerManagement::new())
            .capability(Msi::with_64_bit_address(8).per_vector_mask())
            .capability(PciExpress::endpoint())
            .capability(Msix::new(
                64,
                BarOffset::new(BarIndex::BAR2, 0),
                BarOffset::new(BarIndex::BAR2, 0x2000),
            ))
            .capability(VendorSpecific::new([1, 2, 3, 4]))
            .extended_capability(DeviceSerialNumber::new(0x0011_2233_4455_6677))
            .extended_capability(ResizableBar::new().bar(BarIndex::BAR0, &[1 << 20, 1 << 21]))
            .build()
    }

    fn read(&mut self, _: BarAccess) -> u64 {
        0
    }

    fn write(&mut self, _: BarAccess, _: u64) {}

    fn reset(&mut self) {}
}

pub(super) fn run(ui: &Ui) -> Result<(), Failure> {
    let cache = Cache::user()?;
    bring(&cache, Bundle::PCIUTILS, ui)?;
    let lspci = cache.require(&Bundle::PCIUTILS)?.program("usr/bin/lspci")?;
    succeed(&mut cargo([
        "build",
        "--locked",
        "--package",
        "openhdv-cli",
    ]))?;

    let directory = tempfile::tempdir()?;
    let host = DeviceHost::new(HostOptions::new())?;
    let sensor = directory.path().join("sensor.sock");
    host.serve(&sensor, "sensor", Sensor::new(&SourceName::Sine)?)?;
    let everything = directory.path().join("everything.sock");
    host.serve(&everything, "everything", Everything)?;

    let tools = Tools {
        hdv: target_directory()?.join("debug/hdv"),
        lspci,
    };
    let sensor = tools.decode(&["probe", "--hexdump", text(&sensor)?])?;
    expect(
        &sensor,
        &[
            "4f48:0001",
            "Power Management",
            "MSI-X: Enable- Count=3",
            "FLReset+",
        ],
    )?;
    let everything = tools.decode(&["probe", "--hexdump", text(&everything)?])?;
    expect(
        &everything,
        &[
            "4f48:7ffe",
            "Power Management version 3",
            "MSI: Enable- Count=1/8 Maskable+ 64bit+",
            "Express (v2) Endpoint",
            "MSI-X: Enable- Count=64 Masked-",
            "Vendor Specific Information: Len=",
            "Device Serial Number 00-11-22-33-44-55-66-77",
            "Physical Resizable BAR",
            "current size: 1MB, supported: 1MB 2MB",
        ],
    )?;
    ports::run(&tools)?;
    sriov::run(&tools, &host, directory.path())
}

/// The two programs.
struct Tools {
    hdv: PathBuf,
    lspci: Program,
}

impl Tools {
    /// `hdv ARGUMENTS`
    fn hdv(&self, arguments: &[&str]) -> Result<Output, Failure> {
        Ok(Command::new(&self.hdv).args(arguments).output()?)
    }

    /// `hdv ARGUMENTS | lspci -F /dev/stdin -vvv -n`
    fn decode(&self, arguments: &[&str]) -> Result<String, Failure> {
        let dumped = self.hdv(arguments)?;
        if !dumped.status.success() {
            let errors = String::from_utf8_lossy(&dumped.stderr);
            return Err(format!("hdv {arguments:?}: {}: {errors}", dumped.status).into());
        }
        self.decode_dump(&dumped.stdout)
    }

    /// `lspci -F /dev/stdin -vvv -n < DUMP`
    fn decode_dump(&self, dump: &[u8]) -> Result<String, Failure> {
        let mut lspci = self
            .lspci
            .command()
            .args(["-F", "/dev/stdin", "-vvv", "-n"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // It reads all of its input before it writes.
        let mut input = lspci.stdin.take().ok_or("lspci has no input")?;
        input.write_all(dump)?;
        drop(input);
        let output = lspci.wait_with_output()?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(format!("lspci: {}: {errors}", output.status).into());
        }
        let text = String::from_utf8(output.stdout)?;
        println!("{text}");
        Ok(text)
    }
}

fn text(path: &Path) -> Result<&str, Failure> {
    Ok(path.to_str().ok_or("a path that is no text")?)
}

fn expect(text: &str, wanted: &[&str]) -> Result<(), Failure> {
    for complaint in COMPLAINTS {
        if let Some(line) = text.lines().find(|line| line.contains(complaint)) {
            return Err(format!("lspci does not understand: {line}").into());
        }
    }
    for wanted in wanted {
        if !text.contains(wanted) {
            return Err(format!("lspci does not show {wanted:?}").into());
        }
    }
    Ok(())
}
