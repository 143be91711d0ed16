//! Ports as `lspci` decodes them, with every capability they have: a root port and a downstream port with a slot each, and
//! an upstream port. They are not served anywhere yet: their registers are dumped here.

use std::fmt::Write;

use hdv::pci::spec::aer::UncorrectableError;
use hdv::pci::spec::bridge::{BRIDGE_CONTROL, BridgeControl, MEMORY_BASE, PRIMARY_BUS};
use hdv::pci::spec::capability_id::PCI_EXPRESS;
use hdv::pci::spec::express::{DEVICE_CONTROL, DEVICE_CONTROL_2, DeviceControl2};
use hdv::pci::spec::port::{SLOT_CONTROL, SlotControl};
use hdv::pci::{AccessControlServices, Aer, DetectedError, ErrorMessage, RoutingId, Slot};
use hdv::{ClassCode, ConfigSpace, Identity, Msi, PciExpress, PowerManagement};

use super::{Failure, Tools, expect};

const IDENTITY: Identity = Identity {
    vendor_id: 0x4f48,
    device_id: 0x7ff8,
    revision_id: 2,
    class: ClassCode::from_u24(0x06_0400),
    subsystem_vendor_id: 0x4f48,
    subsystem_id: 0x7ff9,
};

pub(super) fn run(tools: &Tools) -> Result<(), Failure> {
    root_port(tools)?;
    let slot = Slot::hot_plug(2);
    let downstream = port(PciExpress::downstream_port(3).slot(slot), Aer::new())?;
    let shown = decode(tools, &downstream)?;
    expect(
        &shown,
        &[
            "Express (v2) Downstream Port (Slot+)",
            "LnkCap:\tPort #3",
            "ARIFwd-",
            "AttnBtn- PwrCtrl+ MRL- AttnInd+ PwrInd+ HotPlug+ Surprise+",
            "NoCompl+",
            "LnkSta:\tSpeed 2.5GT/s, Width x1",
            "DLActive-",
        ],
    )?;
    let upstream = port(PciExpress::upstream_port(0), Aer::new())?;
    let shown = decode(tools, &upstream)?;
    expect(
        &shown,
        &[
            "Express (v2) Upstream Port",
            "Advanced Error Reporting",
            "Subsystem: 4f48:7ff9",
        ],
    )
}

fn port(express: PciExpress, aer: Aer) -> Result<ConfigSpace, Failure> {
    let config = ConfigSpace::bridge_builder(IDENTITY)
        .capability(PowerManagement::new())
        .capability(express)
        .capability(Msi::with_64_bit_address(1))
        .extended_capability(aer)
        .extended_capability(AccessControlServices::port());
    Ok(config.build()?)
}

fn decode(tools: &Tools, config: &ConfigSpace) -> Result<String, Failure> {
    let mut bytes = [0; 4096];
    config.read(0, &mut bytes);
    let mut dump = String::from("00:01.0 PCI bridge\n");
    for (line, row) in bytes.chunks(16).enumerate() {
        write!(dump, "{:02x}:", 16 * line)?;
        for byte in row {
            write!(dump, " {byte:02x}")?;
        }
        dump.push('\n');
    }
    tools.decode_dump(dump.as_bytes())
}

/// After software numbered and enabled it, a device was plugged in, and an error came from there.
fn root_port(tools: &Tools) -> Result<(), Failure> {
    let slot = Slot::hot_plug(300).attention_button();
    let mut config = port(PciExpress::root_port(7).slot(slot), Aer::root_port())?;
    let express = config.capability(PCI_EXPRESS).ok_or("no PCI Express")?;
    let control = SlotControl::LINK_STATE_ENABLE
        | SlotControl::HOT_PLUG_INTERRUPT_ENABLE
        | SlotControl::ATTENTION_BUTTON_ENABLE
        | SlotControl::ATTENTION_INDICATOR
        | SlotControl::from_bits_retain(0b10 << 8);
    let ari = DeviceControl2::ARI_FORWARDING.bits();
    let serr = BridgeControl::SERR_ENABLE.bits();
    for (offset, bytes) in [
        (PRIMARY_BUS, &[0, 1, 9][..]),
        // One MiB above 3 GiB; the first 4 GiB above 64 GiB.
        (
            MEMORY_BASE,
            &[
                0x00, 0xc0, 0x00, 0xc0, 0, 0, 0xf0, 0xff, 16, 0, 0, 0, 16, 0, 0, 0,
            ],
        ),
        (BRIDGE_CONTROL, &serr.to_le_bytes()),
        (express + DEVICE_CONTROL, &[0x0f]),
        (express + DEVICE_CONTROL_2, &ari.to_le_bytes()),
        (express + SLOT_CONTROL, &control.bits().to_le_bytes()),
    ] {
        let _ = config.write(offset, bytes);
    }
    let _ = config.set_presence(true);
    let source = RoutingId::new(1, 0, 0)?;
    let _ = config.receive_error(ErrorMessage::Fatal, source);
    let error = DetectedError::Uncorrectable(UncorrectableError::SURPRISE_DOWN);
    if config.record_error(error, None) != Some(ErrorMessage::Fatal) {
        return Err("a surprise down of the link is not reported".into());
    }
    let shown = decode(tools, &config)?;
    expect(
        &shown,
        &[
            "00:01.0 0604: 4f48:7ff8 (rev 02)",
            "Subsystem: 4f48:7ff9",
            "Bus: primary=00, secondary=01, subordinate=09, sec-latency=0",
            "Memory behind bridge: c0000000-c00fffff [size=1M]",
            "Prefetchable memory behind bridge: 0000001000000000-00000010ffffffff [size=4G]",
            "BridgeCtl: Parity- SERR+ NoISA- VGA- VGA16- MAbort- >Reset- FastB2B-",
            "Express (v2) Root Port (Slot+)",
            "LnkCap:\tPort #7, Speed 2.5GT/s, Width x1",
            "LLActRep+",
            "DLActive+",
            "AttnBtn+ PwrCtrl+ MRL- AttnInd+ PwrInd+ HotPlug+ Surprise+",
            "Slot #300",
            "Enable: AttnBtn+ PwrFlt- MRL- PresDet- CmdCplt- HPIrq+ LinkChg+",
            "Control: AttnInd Off, PwrInd Blink, Power- Interlock-",
            "SltSta:\tStatus: AttnBtn- PowerFlt- MRL- CmdCplt- PresDet+ Interlock-",
            "Changed: MRL- PresDet+ LinkState+",
            "RootCap: CRSVisible+",
            "ARIFwd+",
            "MSI: Enable- Count=1/1 Maskable- 64bit+",
            "Advanced Error Reporting",
            "SDES+",
            "First Error Pointer: 05",
            "RootCmd: CERptEn- NFERptEn- FERptEn-",
            "MultUERcvd-",
            "FirstFatal+ NonFatalMsg- FatalMsg+",
            "ErrorSrc: ERR_COR: 0000 ERR_FATAL/NONFATAL: 0100",
            "ACSCap:\tSrcValid+ TransBlk+ ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-",
        ],
    )
}
