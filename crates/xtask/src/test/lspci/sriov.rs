//! A PF and its VFs as `lspci` decodes them: the PF before and after VFs are enabled, each VF raw, as the interface to the
//! PF reads it, and complete, as its VM gets it.

use std::path::Path;

use hdv::pci::spec::extended::{FIRST, NEXT_SHIFT, extended_capability_id};
use hdv::pci::spec::sriov::{
    CONTROL, PAGE_SIZES_REQUIRED, SYSTEM_PAGE_SIZE, SriovControl, VF_BAR0,
};
use hdv::pci::{Port, VfRouting};
use hdv::{
    Bar, BarAccess, BarIndex, BarOffset, ClassCode, ConfigError, ConfigSpace, DeviceError,
    DeviceHost, Identity, Msix, PciDevice, PciExpress,
};
use hdv_sriov::{EmulatedPf, PfOptions, PhysicalFunction, Placement, VirtualFunctionLayout};
use serde_json::Value;

use super::{Failure, Tools, expect, text};

const VENDOR: u16 = 0x4f48;
const PF: u16 = 0x7ffc;
const VF: u16 = 0x7ffd;
/// Where the PF is.
const ADDRESS: &str = "0001:05:00.0";
const TOTAL_VFS: u16 = 7;
/// How many of them are enabled.
const NUM_VFS: u16 = 5;
/// Into the second bus with the third VF.
const ROUTING: VfRouting = VfRouting {
    first_vf_offset: 0x80,
    vf_stride: 0x40,
};
/// Where they are with that.
const VF_ADDRESSES: [&str; NUM_VFS as usize] = [
    "0001:05:10.0",
    "0001:05:18.0",
    "0001:06:00.0",
    "0001:06:08.0",
    "0001:06:10.0",
];
/// 16 KiB, beside those that the standard requires.
const MORE_PAGE_SIZES: u32 = 1 << 2;
/// 64 KiB.
const PAGE_SIZE: u32 = 1 << 4;
/// Where software puts VF BAR0, of 64 bits.
const BAR0_ADDRESS: u64 = 0x1_2340_0000;
/// Where it puts VF BAR2, of 32 bits.
const BAR2_ADDRESS: u32 = 0xfe00_0000;
/// What one VF's BARs have with that page size.
const BAR0_SIZE: u64 = 0x2_0000;
const BAR2_SIZE: u64 = 0x4000;

/// The PF, and each VF.
struct Function {
    device_id: u16,
}

impl PciDevice for Function {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let identity = Identity {
            vendor_id: VENDOR,
            device_id: self.device_id,
            revision_id: 3,
            class: ClassCode::from_u24(0x02_0000),
            subsystem_vendor_id: VENDOR,
            subsystem_id: self.device_id,
        };
        ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory64(BAR0_SIZE).prefetchable())
            .bar(BarIndex::BAR2, Bar::memory32(BAR2_SIZE))
            .capability(PciExpress::endpoint())
            .capability(Msix::new(
                5,
                BarOffset::new(BarIndex::BAR2, 0),
                BarOffset::new(BarIndex::BAR2, 0x2000),
            ))
            .build()
    }

    fn read(&mut self, _: BarAccess) -> u64 {
        0
    }

    fn write(&mut self, _: BarAccess, _: u64) {}

    fn reset(&mut self) {}
}

impl PhysicalFunction for Function {
    fn virtual_functions(&self) -> VirtualFunctionLayout {
        VirtualFunctionLayout::new(TOTAL_VFS, VF)
            .bar(BarIndex::BAR0, Bar::memory64(BAR0_SIZE).prefetchable())
            .bar(BarIndex::BAR2, Bar::memory32(BAR2_SIZE))
            .page_sizes(PAGE_SIZES_REQUIRED | MORE_PAGE_SIZES)
    }

    fn create_virtual_function(&mut self, _: u16) -> Result<Box<dyn PciDevice>, DeviceError> {
        Ok(Box::new(Self { device_id: VF }))
    }
}

pub(super) fn run(tools: &Tools, host: &DeviceHost, directory: &Path) -> Result<(), Failure> {
    let socket = directory.join("pf.sock");
    let port = Port::new(5, 7)?.ari_forwarding(true);
    let options = PfOptions {
        routing: Some(ROUTING),
        ..PfOptions::new(Placement::new(1, port, 0, 0)?)
    };
    let pf = EmulatedPf::serve(
        host,
        &socket,
        "pf",
        Box::new(Function { device_id: PF }),
        options,
    )?;
    // By its socket: the host may not be the only one of this user.
    let name = text(&socket)?;
    place(&pf)?;

    for (dump, address) in dumps(name) {
        pf_dump(tools, &dump, address, "Enable-", 0)?;
    }
    nothing_before(tools, name)?;

    let enabled = tools.hdv(&["sriov", "enable", name, &NUM_VFS.to_string()])?;
    if !enabled.status.success() {
        return Err(format!("VFs cannot be enabled: {enabled:?}").into());
    }
    for (dump, address) in dumps(name) {
        pf_dump(tools, &dump, address, "Enable+", NUM_VFS)?;
    }
    for (vf, address) in VF_ADDRESSES.iter().enumerate() {
        raw(tools, name, vf, address)?;
        let socket = directory.join(format!("pf-vf{vf}.sock"));
        complete(tools, text(&socket)?)?;
    }
    Ok(())
}

/// What software on the PF's bus does before it enables VFs.
fn place(pf: &EmulatedPf) -> Result<(), Failure> {
    let base = capability(pf, extended_capability_id::SRIOV)?;
    pf.config_write(base + SYSTEM_PAGE_SIZE, &PAGE_SIZE.to_le_bytes())?;
    pf.config_write(base + VF_BAR0, &BAR0_ADDRESS.to_le_bytes())?;
    pf.config_write(base + VF_BAR0 + 8, &BAR2_ADDRESS.to_le_bytes())?;
    let control = SriovControl::VF_MEMORY_SPACE_ENABLE | SriovControl::ARI_CAPABLE_HIERARCHY;
    pf.config_write(base + CONTROL, &control.bits().to_le_bytes())?;
    Ok(())
}

/// Where an extended capability is.
fn capability(pf: &EmulatedPf, id: u16) -> Result<u16, Failure> {
    let mut offset = FIRST;
    while offset != 0 {
        let mut header = [0; 4];
        pf.config_read(offset, &mut header)?;
        let header = u32::from_le_bytes(header);
        if header & 0xffff == u32::from(id) {
            return Ok(offset);
        }
        offset = u16::try_from(header >> NEXT_SHIFT)?;
    }
    Err(format!("the PF has no capability {id:#06x}").into())
}

/// The PF's config space from both sides, and where each says that it is.
fn dumps(pf: &str) -> [([&str; 3], &str); 2] {
    [
        (["sriov", "config", pf], ADDRESS),
        (["probe", "--hexdump", pf], "00:00.0"),
    ]
}

fn pf_dump(
    tools: &Tools,
    dump: &[&str],
    address: &str,
    enable: &str,
    num_vfs: u16,
) -> Result<(), Failure> {
    let shown = tools.decode(dump)?;
    let VfRouting {
        first_vf_offset,
        vf_stride,
    } = ROUTING;
    let page_sizes = PAGE_SIZES_REQUIRED | MORE_PAGE_SIZES;
    // Of a 32-bit BAR that is not placed lspci sees nothing: it reads 0.
    let wanted = [
        format!("{address} 0200: {VENDOR:04x}:{PF:04x} (rev 03)"),
        "Region 0: Memory at <unassigned> (64-bit, prefetchable)".to_owned(),
        "MSI-X: Enable- Count=5 Masked-".to_owned(),
        "Single Root I/O Virtualization (SR-IOV)".to_owned(),
        "IOVCap:\tMigration- 10BitTagReq- IntMsgNum 0".to_owned(),
        format!("IOVCtl:\t{enable} Migration- Interrupt- MSE+ ARIHierarchy+ 10BitTagReq-"),
        "IOVSta:\tMigration-".to_owned(),
        format!(
            "Initial VFs: {TOTAL_VFS}, Total VFs: {TOTAL_VFS}, Number of VFs: {num_vfs}, Function \
             Dependency Link: 00"
        ),
        format!("VF offset: {first_vf_offset}, stride: {vf_stride}, Device ID: {VF:04x}"),
        format!("Supported Page Size: {page_sizes:08x}, System Page Size: {PAGE_SIZE:08x}"),
        format!("Region 0: Memory at {BAR0_ADDRESS:016x} (64-bit, prefetchable)"),
        format!("Region 2: Memory at {BAR2_ADDRESS:08x} (32-bit, non-prefetchable)"),
        "VF Migration: offset: 00000000, BIR: 0".to_owned(),
        "Alternative Routing-ID Interpretation (ARI)".to_owned(),
        "ARICap:\tMFVC- ACS-, Next Function: 0".to_owned(),
        "ARICtl:\tMFVC- ACS-, Function Group: 0".to_owned(),
    ];
    expect(&shown, &wanted.each_ref().map(String::as_str))
}

/// VFs that are not enabled read 0 bytes, and it is said why.
fn nothing_before(tools: &Tools, pf: &str) -> Result<(), Failure> {
    let refused = tools.hdv(&["sriov", "config", pf, "0"])?;
    let errors = String::from_utf8(refused.stderr)?;
    if refused.status.code() != Some(1) || !refused.stdout.is_empty() {
        return Err(format!("a VF that is not enabled reads something: {errors}").into());
    }
    for part in [
        "VF 0 of ",
        "reads 0 bytes: VF Enable is clear",
        "hdv sriov enable",
    ] {
        if !errors.contains(part) {
            return Err(format!("{part:?} is not in: {errors}").into());
        }
    }
    Ok(())
}

/// A VF's own config space.
fn raw(tools: &Tools, pf: &str, vf: usize, address: &str) -> Result<(), Failure> {
    let shown = tools.decode(&["sriov", "config", pf, &vf.to_string()])?;
    if let Some(region) = shown.lines().find(|line| line.contains("Region")) {
        return Err(format!("VF {vf} has a BAR: {region}").into());
    }
    // The status of a VF's link is the PF's: it reads 0, which stands for no speed (9.3.5.8).
    let link = "LnkSta:\tSpeed unknown";
    let known: String = shown.lines().filter(|line| !line.contains(link)).collect();
    let heading = format!("{address} 0200: ffff:ffff (rev 03)");
    let subsystem = format!("Subsystem: {VENDOR:04x}:{VF:04x}");
    expect(
        &known,
        &[
            &heading,
            &subsystem,
            "Control: I/O- Mem- BusMaster-",
            "Status: Cap+",
            "Express (v2) Endpoint",
            "FLReset+",
            "MSI-X: Enable- Count=5 Masked-",
            "Vector table: BAR=2 offset=00000000",
            "PBA: BAR=2 offset=00002000",
        ],
    )
}

/// The function that a VF's VM gets.
fn complete(tools: &Tools, socket: &str) -> Result<(), Failure> {
    let shown = tools.decode(&["probe", "--hexdump", socket])?;
    let heading = format!("00:00.0 0200: {VENDOR:04x}:{VF:04x} (rev 03)");
    expect(
        &shown,
        &[
            &heading,
            "Region 0: Memory at <unassigned> (64-bit, prefetchable)",
            "Express (v2) Endpoint",
            "FLReset+",
            "MSI-X: Enable- Count=5 Masked-",
        ],
    )?;
    if shown.contains("SR-IOV") {
        return Err("a VF has an SR-IOV capability".into());
    }
    // A dump cannot tell sizes; the device does.
    let probe = tools.hdv(&["probe", "--json", socket])?;
    let probe: Value = serde_json::from_slice(&probe.stdout)?;
    let sizes = ["BAR0", "BAR2"].map(|name| {
        let mut regions = probe["regions"].as_array().into_iter().flatten();
        regions.find(|region| region["name"] == name)?["size"].as_u64()
    });
    if sizes != [Some(BAR0_SIZE), Some(BAR2_SIZE)] {
        return Err(format!("the BARs of {socket} have sizes {sizes:?}").into());
    }
    Ok(())
}
