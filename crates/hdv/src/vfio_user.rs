//! The vfio-user transport: a slot as the backend of a server's session.
//!
//! It maps regions and interrupt indexes to what they are for a PCI function. Sockets and threads
//! are the host's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hdv_pci::BarIndex;
use hdv_vfio_user::backend::{
    Backend, DeviceFlags, DeviceInfo, DmaFlags, DmaMap, IoEventFd, Irq, IrqAction, IrqData,
    IrqFlags, IrqRequest, Region, RegionFlags, RegionMapping,
};
use hdv_vfio_user::server::Peer;
use hdv_vfio_user::vfio::{irq, region};
use rustix::io::Errno;

use crate::function::ResetScope;
use crate::interrupts::{InterruptKind, accept_receiver};
use crate::mmio::{AccessSize, OfferedDoorbell};
use crate::slot::{DeviceState, Slot};

/// Bytes of config space.
const CONFIG_SIZE: u64 = 4096;
/// Offset of the command register.
const COMMAND: u64 = 0x04;
/// Memory Space Enable and Bus Master Enable.
const COMMAND_IN_USE: u8 = 0b110;

/// Counts the accesses to BARs that one client sent here instead of making them itself.
#[derive(Debug, Default)]
pub(crate) struct BarAccesses {
    reads: AtomicU64,
    writes: AtomicU64,
}

impl BarAccesses {
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }
}

/// Only the session's thread counts, so a plain load and store lose nothing.
fn count(counter: &AtomicU64) {
    let count = counter.load(Ordering::Relaxed).wrapping_add(1);
    counter.store(count, Ordering::Relaxed);
}

/// One session of one client with a slot.
pub(crate) struct SessionBackend {
    slot: Arc<Slot>,
    accesses: Arc<BarAccesses>,
    /// The client has set Memory Space or Bus Master Enable: from now on a reset is the device's
    /// business too.
    in_use: bool,
    warned_of_messages: bool,
}

impl SessionBackend {
    pub(crate) fn new(slot: Arc<Slot>, accesses: Arc<BarAccesses>) -> Self {
        Self {
            slot,
            accesses,
            in_use: false,
            warned_of_messages: false,
        }
    }
}

fn bar_of(index: u32) -> Option<BarIndex> {
    BarIndex::try_from(index).ok()
}

fn kind_of(index: u32) -> Option<InterruptKind> {
    match index {
        irq::MSI => Some(InterruptKind::Msi),
        irq::MSIX => Some(InterruptKind::MsiX),
        _ => None,
    }
}

impl Backend for SessionBackend {
    fn device_info(&self) -> DeviceInfo {
        DeviceInfo {
            flags: DeviceFlags::RESET | DeviceFlags::PCI,
            num_regions: region::COUNT,
            num_irqs: irq::COUNT,
        }
    }

    fn region(&self, index: u32) -> Region {
        let size = match bar_of(index) {
            Some(bar) => self.slot.bar_size(bar),
            None if index == region::CONFIG => CONFIG_SIZE,
            None => 0,
        };
        Region {
            size,
            flags: if size == 0 {
                RegionFlags::empty()
            } else {
                RegionFlags::READ | RegionFlags::WRITE
            },
        }
    }

    fn region_mapping(&self, index: u32) -> Option<RegionMapping> {
        let offer = self.slot.mmio().offer(bar_of(index)?)?;
        Some(RegionMapping {
            file: Arc::clone(&offer.file),
            offset: offer.offset,
            areas: offer.areas.clone(),
        })
    }

    fn region_io_event_fds(&self, index: u32) -> Vec<IoEventFd> {
        let Some(bar) = bar_of(index) else {
            return Vec::new();
        };
        let doorbells = self.slot.mmio().offered_doorbells(bar);
        doorbells
            .into_iter()
            .map(|OfferedDoorbell { doorbell, event }| IoEventFd {
                offset: doorbell.offset,
                size: doorbell.size.map_or(0, AccessSize::bytes),
                datamatch: doorbell.value,
                event,
            })
            .collect()
    }

    fn irq(&self, index: u32) -> Irq {
        match (kind_of(index), index) {
            (Some(kind), _) => Irq {
                flags: IrqFlags::EVENTFD | IrqFlags::MASKABLE,
                count: self.slot.interrupts().vectors(kind).into(),
            },
            // QEMU warns of a device that cannot report errors. We have none to report.
            (None, irq::ERR) => Irq {
                flags: IrqFlags::EVENTFD,
                count: 1,
            },
            (None, _) => Irq {
                flags: IrqFlags::empty(),
                count: 0,
            },
        }
    }

    fn connected(&mut self, peer: &Peer) {
        self.slot.memory().set_peer(peer.clone());
        self.slot.client_came();
    }

    fn first_use(&mut self) -> Result<(), Errno> {
        self.slot.start().map_err(|error| {
            tracing::error!(
                device = self.slot.name(),
                "the device did not start: {error}"
            );
            Errno::IO
        })
    }

    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        match bar_of(region) {
            Some(bar) => {
                count(&self.accesses.reads);
                self.slot.bar_read(bar, offset, data);
            }
            None => {
                let offset = u16::try_from(offset).map_err(|_| Errno::INVAL)?;
                self.slot.config_read(offset, data);
            }
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        match bar_of(region) {
            Some(bar) => {
                count(&self.accesses.writes);
                self.slot.bar_write(bar, offset, data);
            }
            None => {
                let command = COMMAND
                    .checked_sub(offset)
                    .and_then(|at| data.get(usize::try_from(at).ok()?));
                self.in_use |= command.is_some_and(|command| command & COMMAND_IN_USE != 0);
                let offset = u16::try_from(offset).map_err(|_| Errno::INVAL)?;
                self.slot.config_write(offset, data);
            }
        }
        Ok(())
    }

    fn set_irqs(&mut self, request: IrqRequest<'_>) -> Result<(), Errno> {
        let Some(kind) = kind_of(request.index) else {
            // ERR: taken and never signalled.
            return Ok(());
        };
        let interrupts = self.slot.interrupts();
        let start = u16::try_from(request.start).map_err(|_| Errno::INVAL)?;
        let count = u16::try_from(request.count).map_err(|_| Errno::INVAL)?;
        let vectors = start..start.checked_add(count).ok_or(Errno::INVAL)?;
        let chosen = |vector: u16, data: &[u8]| {
            data.get(usize::from(vector - start))
                .is_some_and(|&byte| byte != 0)
        };
        let act = |vector: u16| match request.action {
            IrqAction::Mask => interrupts.mask_by_client(kind, vector, true),
            IrqAction::Unmask => interrupts.mask_by_client(kind, vector, false),
            IrqAction::Trigger => {
                interrupts.trigger(kind, vector);
            }
        };
        match request.data {
            IrqData::None => vectors.for_each(act),
            IrqData::Bool(data) => vectors.filter(|&vector| chosen(vector, data)).for_each(act),
            IrqData::EventFds(events) if request.action == IrqAction::Trigger => {
                let events = if events.is_empty() {
                    vectors.map(|_| None).collect()
                } else {
                    events
                        .into_iter()
                        .map(|event| accept_receiver(event).map(Some))
                        .collect::<Result<_, _>>()?
                };
                interrupts.connect(kind, start, events);
                self.slot.interrupts_changed();
            }
            // Telling a client of masks through eventfds: nobody asks for it.
            IrqData::EventFds(_) => return Err(Errno::NOTSUP),
        }
        Ok(())
    }

    fn disable_irqs(&mut self, index: u32) -> Result<(), Errno> {
        if let Some(kind) = kind_of(index) {
            self.slot.interrupts().disconnect(kind);
            self.slot.interrupts_changed();
        }
        Ok(())
    }

    fn dma_map(&mut self, map: DmaMap) -> Result<(), Errno> {
        if self.slot.state() == DeviceState::Gone {
            // A stub needs no memory, and a refusal would end the VM.
            return Ok(());
        }
        // The firmware's ROM, which QEMU gives read-only and without a descriptor, is no fault.
        let written = map.flags.contains(DmaFlags::WRITE);
        if map.file.is_none() && written && !self.warned_of_messages {
            self.warned_of_messages = true;
            tracing::warn!(
                device = self.slot.name(),
                "the VMM gave guest memory at {:#x} without a descriptor: it is reached by \
                 messages, slowly, and not at all while the VMM waits for the device; start the \
                 VMM with shared guest memory",
                map.address
            );
        }
        self.slot.memory().map(&map)
    }

    fn dma_unmap(&mut self, address: u64, size: u64) -> Result<(), Errno> {
        self.slot.memory().unmap(address, size)
    }

    fn dma_unmap_all(&mut self) -> Result<(), Errno> {
        self.slot.memory().unmap_all();
        Ok(())
    }

    fn reset(&mut self) -> Result<(), Errno> {
        self.slot.reset(if self.in_use {
            ResetScope::Function
        } else {
            ResetScope::Registers
        });
        Ok(())
    }
}
