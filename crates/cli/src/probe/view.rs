//! What a probe finds out, as data.

use std::path::{Path, PathBuf};

use hdv_pci::spec::{COMPATIBLE_SIZE, CONFIG_SPACE_SIZE};
use hdv_vfio_user::client::{Client, ClientError};
use hdv_vfio_user::{DeviceFlags, IrqFlags, RegionFlags, vfio};
use serde::Serialize;
use thiserror::Error;

use crate::decode::{BarRegister, ConfigSpace, Hex};
use crate::pci_names::PciNames;
use crate::process;
use crate::style::printable;

/// Bytes read of config space at a time: what every server takes.
const CONFIG_ACCESS: usize = 4;
/// Most regions and interrupt indexes asked about; PCI has 9 and 5.
const INDEX_LIMIT: u32 = 64;

/// A device that cannot be looked at.
#[derive(Debug, Error)]
pub(super) enum ViewError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the device is not a PCI device, or has no config space")]
    NotPci,
}

/// A device, as a client sees it.
#[derive(Debug, Serialize)]
pub(super) struct View {
    pub(super) socket: PathBuf,
    /// Who serves it.
    pub(super) server: Server,
    pub(super) names: Names,
    /// Whether DEVICE_RESET is accepted.
    pub(super) reset: bool,
    pub(super) regions: Vec<Region>,
    pub(super) interrupts: Vec<Interrupt>,
    #[serde(flatten)]
    pub(super) config: ConfigSpace,
}

/// The server's process and protocol version.
#[derive(Debug, Serialize)]
pub(super) struct Server {
    pub(super) pid: Option<u32>,
    pub(super) process: Option<String>,
    pub(super) version: String,
}

/// Names from a `pci.ids`.
#[derive(Debug, Serialize)]
pub(super) struct Names {
    pub(super) vendor: Option<String>,
    pub(super) device: Option<String>,
    pub(super) class: Option<String>,
    pub(super) subsystem_vendor: Option<String>,
}

/// A region that exists.
#[derive(Debug, Serialize)]
pub(super) struct Region {
    pub(super) index: u32,
    pub(super) name: String,
    /// In bytes.
    pub(super) size: u64,
    pub(super) read: bool,
    pub(super) write: bool,
    /// The base address register, for BARs.
    pub(super) bar: Option<BarRegister>,
    /// What a client can map; empty for nothing.
    pub(super) mappable: Vec<Area>,
}

/// A part of a region.
#[derive(Debug, Serialize)]
pub(super) struct Area {
    pub(super) offset: Hex<1>,
    /// In bytes.
    pub(super) size: u64,
}

/// An interrupt index with at least one interrupt.
#[derive(Debug, Serialize)]
pub(super) struct Interrupt {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) count: u32,
    pub(super) eventfd: bool,
    pub(super) maskable: bool,
    pub(super) automasked: bool,
    pub(super) no_resize: bool,
}

impl View {
    /// Asks the server.
    pub(super) fn read(
        client: &mut Client,
        socket: &Path,
        names: &PciNames,
    ) -> Result<Self, ViewError> {
        let info = client.device_info()?;
        let config = ConfigSpace::decode(&read_config(client)?);
        let pid = client.peer_pid().and_then(|pid| u32::try_from(pid).ok());
        let (major, minor) = client.server_version();
        let mut regions = Vec::new();
        for index in 0..info.num_regions.min(INDEX_LIMIT) {
            regions.extend(region(client, index, &config)?);
        }
        let mut interrupts = Vec::new();
        for index in 0..info.num_irqs.min(INDEX_LIMIT) {
            let irq = client.irq_info(index)?;
            if irq.count != 0 {
                interrupts.push(Interrupt {
                    index,
                    name: interrupt_name(index),
                    count: irq.count,
                    eventfd: irq.flags.contains(IrqFlags::EVENTFD),
                    maskable: irq.flags.contains(IrqFlags::MASKABLE),
                    automasked: irq.flags.contains(IrqFlags::AUTOMASKED),
                    no_resize: irq.flags.contains(IrqFlags::NORESIZE),
                });
            }
        }
        Ok(Self {
            socket: socket.to_owned(),
            server: Server {
                pid,
                process: pid.and_then(process::name),
                version: format!("{major}.{minor}"),
            },
            names: Names::of(&config, names),
            reset: info.flags.contains(DeviceFlags::RESET),
            regions,
            interrupts,
            config,
        })
    }
}

impl Names {
    fn of(config: &ConfigSpace, names: &PciNames) -> Self {
        let identity = &config.identity;
        let id = |hex: Hex<4>| u16::try_from(hex.0).unwrap_or(u16::MAX);
        let class = u32::try_from(identity.class.0).ok();
        let owned = |name: Option<&str>| name.map(printable);
        Self {
            vendor: owned(names.vendor(id(identity.vendor))),
            device: owned(names.device(id(identity.vendor), id(identity.device))),
            class: owned(class.and_then(|class| names.class(class)).as_deref()),
            subsystem_vendor: owned(names.vendor(id(identity.subsystem_vendor))),
        }
    }
}

/// Reads config space: 4096 bytes, or the 256 that a server has.
pub(super) fn read_config(client: &mut Client) -> Result<Vec<u8>, ViewError> {
    let info = client.device_info()?;
    if !info.flags.contains(DeviceFlags::PCI) || info.num_regions <= vfio::region::CONFIG {
        return Err(ViewError::NotPci);
    }
    let size = client.region_info(vfio::region::CONFIG)?.size;
    let size = size.min(u64::from(CONFIG_SPACE_SIZE));
    let mut config = Vec::new();
    while (config.len() as u64) + (CONFIG_ACCESS as u64) <= size {
        let mut dword = [0; CONFIG_ACCESS];
        let offset = config.len() as u64;
        match client.region_read(vfio::region::CONFIG, offset, &mut dword) {
            Ok(()) => config.extend_from_slice(&dword),
            // Servers exist that announce 4096 bytes and have 256.
            Err(ClientError::Refused { .. }) if config.len() >= usize::from(COMPATIBLE_SIZE) => {
                config.truncate(usize::from(COMPATIBLE_SIZE));
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if config.is_empty() {
        return Err(ViewError::NotPci);
    }
    Ok(config)
}

fn region(
    client: &mut Client,
    index: u32,
    config: &ConfigSpace,
) -> Result<Option<Region>, ClientError> {
    let info = client.region_info(index)?;
    if info.size == 0 {
        return Ok(None);
    }
    let area = |offset, size| Area {
        offset: Hex(offset),
        size,
    };
    let mappable = match (info.mappable, info.areas.is_empty()) {
        (false, _) => Vec::new(),
        (true, true) => vec![area(0, info.size)],
        (true, false) => info.areas.iter().map(|a| area(a.offset, a.size)).collect(),
    };
    Ok(Some(Region {
        index,
        name: region_name(index),
        size: info.size,
        read: info.flags.contains(RegionFlags::READ),
        write: info.flags.contains(RegionFlags::WRITE),
        bar: config
            .bars
            .iter()
            .copied()
            .find(|bar| u32::from(bar.index) == index),
        mappable,
    }))
}

impl Region {
    /// What kind of memory it is, for BARs.
    pub(super) fn kind(&self) -> &'static str {
        self.bar.map_or("", |bar| bar.kind.name(bar.prefetchable))
    }
}

fn region_name(index: u32) -> String {
    match index {
        vfio::region::BAR0..=vfio::region::BAR5 => format!("BAR{index}"),
        vfio::region::ROM => "ROM".to_owned(),
        vfio::region::CONFIG => "config space".to_owned(),
        vfio::region::VGA => "VGA".to_owned(),
        _ => format!("region {index}"),
    }
}

fn interrupt_name(index: u32) -> String {
    match index {
        vfio::irq::INTX => "INTx".to_owned(),
        vfio::irq::MSI => "MSI".to_owned(),
        vfio::irq::MSIX => "MSI-X".to_owned(),
        vfio::irq::ERR => "error".to_owned(),
        vfio::irq::REQ => "release request".to_owned(),
        _ => format!("interrupt {index}"),
    }
}
