//! The capabilities that a PF gets on top of its device's own: their registers, where they are in config space, and
//! how the device's list leads to them. What the registers bring is in `function`.

use std::ops::Range;

use hdv::pci::spec::extended::{self, extended_capability_id};
use hdv::pci::spec::sriov::{CONTROL, NUM_VFS, SriovControl};
use hdv::pci::spec::{CONFIG_SPACE_SIZE, ari, sriov};
use hdv::pci::{Ari, Effects, Sriov, SriovView, VfRouting};
use hdv::{ClassCode, ConfigError, ConfigSpace, Identity};

use super::{Placement, VirtualFunctionLayout};

/// Most extended capabilities there can be: what is longer is a circle.
const LINKS: u16 = (CONFIG_SPACE_SIZE - extended::FIRST) / extended::HEADER_SIZE;
/// Places for the capabilities behind a list of the device's are multiples of this.
const ALIGNMENT: u16 = 16;
/// Where the registers are in the config space that has nothing but them.
const OWN: u16 = extended::FIRST;

/// Where the capabilities are in config space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    base: u16,
    /// The device's last extended capability, which leads here.
    link: Option<u16>,
}

/// Whether what is odd about the device's list is logged: once is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    Quiet,
    Loud,
}

/// An access in its order: to the device, to the capabilities, to the device.
pub(super) struct Parts {
    pub(super) before: Range<usize>,
    pub(super) inside: Range<usize>,
    pub(super) after: Range<usize>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Overlay {
    registers: ConfigSpace,
    length: u16,
    has_ari: bool,
    /// Settled once the device shows its own capabilities.
    place: Option<Place>,
}

impl Overlay {
    /// # Errors
    /// What is wrong with the layout.
    pub(super) fn new(
        placement: Placement,
        layout: &VirtualFunctionLayout,
        routing: VfRouting,
    ) -> Result<Self, ConfigError> {
        let has_ari = placement.port().forwards_ari();
        let number = placement.function_number();
        let mut capability = Sriov::new(layout.total_vfs, layout.device_id, routing)
            .supported_page_sizes(layout.page_sizes)
            .function_dependency_link(number);
        if number != 0 {
            capability = capability.not_lowest_function(has_ari);
        }
        for &(index, bar) in &layout.bars {
            capability = capability.bar(index, bar);
        }
        // Nobody reads the header of this config space.
        let nobody = Identity {
            vendor_id: 0,
            device_id: 0,
            revision_id: 0,
            class: ClassCode::from_u24(0),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        };
        let mut builder = ConfigSpace::builder(nobody).extended_capability(capability);
        let mut length = sriov::LENGTH;
        if has_ari {
            builder = builder.extended_capability(Ari::new(0));
            length += ari::LENGTH;
        }
        let mut overlay = Self {
            registers: builder.build()?,
            length,
            has_ari,
            place: None,
        };
        overlay.set_up();
        Ok(overlay)
    }

    /// What the software of the modelled port does after a reset: it forwards ARI, so it says so.
    fn set_up(&mut self) {
        if self.has_ari {
            let ari = SriovControl::ARI_CAPABLE_HIERARCHY.bits();
            let _: Effects = self.registers.write(OWN + CONTROL, &ari.to_le_bytes());
        }
    }

    /// What the registers say.
    pub(super) fn view(&self) -> SriovView {
        match self.registers.sriov() {
            Some(view) => view,
            None => unreachable!("it is built with the capability"),
        }
    }

    /// A conventional reset, and what software does after it.
    pub(super) fn reset(&mut self) {
        self.registers.reset();
        self.set_up();
    }

    /// A function level reset.
    pub(super) fn function_level_reset(&mut self) {
        self.registers.function_level_reset();
    }

    /// Whether the place was found for good.
    pub(super) fn is_settled(&self) -> bool {
        self.place.is_some()
    }

    /// Finds the place for good. `read` reads the dwords of the device.
    pub(super) fn settle(&mut self, mut read: impl FnMut(u16) -> u32) {
        if self.place.is_none() {
            self.place = Some(find(self.length, Voice::Loud, &mut read));
        }
    }

    /// The capabilities with their place. `read` reads the dwords of the device.
    pub(super) fn placed(&mut self, mut read: impl FnMut(u16) -> u32) -> Placed<'_> {
        let place = self
            .place
            .unwrap_or_else(|| find(self.length, Voice::Quiet, &mut read));
        Placed {
            overlay: self,
            place,
        }
    }

    /// Writes NumVFs.
    pub(super) fn set_num_vfs(&mut self, num_vfs: u16) {
        let _: Effects = self.registers.write(OWN + NUM_VFS, &num_vfs.to_le_bytes());
    }

    /// Writes VF Enable, and nothing else of its register.
    pub(super) fn set_vf_enable(&mut self, enable: bool) {
        let mut control = [0; 2];
        self.registers.read(OWN + CONTROL, &mut control);
        let mut control = SriovControl::from_bits_retain(u16::from_le_bytes(control));
        control.set(SriovControl::VF_ENABLE, enable);
        let control = control.bits().to_le_bytes();
        let _: Effects = self.registers.write(OWN + CONTROL, &control);
    }

    /// Software writes `data` at `offset` from the first register on; within one aligned dword.
    pub(super) fn write(&mut self, offset: u16, data: &[u8]) {
        let _: Effects = self.registers.write(OWN + offset, data);
    }
}

/// The capabilities at their place.
pub(super) struct Placed<'a> {
    overlay: &'a mut Overlay,
    place: Place,
}

impl Placed<'_> {
    /// Splits an access.
    pub(super) fn parts(&self, offset: u16, length: usize) -> Parts {
        let within = |edge: u16| usize::from(edge.saturating_sub(offset)).min(length);
        let base = self.place.base;
        let (begin, end) = (within(base), within(base + self.overlay.length));
        Parts {
            before: 0..begin,
            inside: begin..end,
            after: end..length,
        }
    }

    /// Reads registers; all of `data` is in the capabilities.
    pub(super) fn read(&self, offset: u16, data: &mut [u8]) {
        let Some(at) = offset.checked_sub(self.place.base) else {
            return;
        };
        self.overlay.registers.read(OWN + at, data);
        if self.overlay.has_ari {
            let base = self.place.base;
            show_next(offset, data, base, base + sriov::LENGTH);
        }
    }

    /// Where from the first register on an access to the capabilities is.
    pub(super) fn register(&self, offset: u16) -> u16 {
        offset.saturating_sub(self.place.base)
    }

    /// Lets the device's list lead to the capabilities, in what was read from the device.
    pub(super) fn link(&self, offset: u16, data: &mut [u8]) {
        if let Some(link) = self.place.link {
            show_next(offset, data, link, self.place.base);
        }
    }
}

/// Puts a next pointer into the bytes from `offset` on that hold the one of `header`.
fn show_next(offset: u16, data: &mut [u8], header: u16, next: u16) {
    let [low, high] = (next << (extended::NEXT_SHIFT - 16)).to_le_bytes();
    for (at, byte) in (offset..).zip(data) {
        if at == header + 2 {
            *byte = *byte & 0x0f | low;
        } else if at == header + 3 {
            *byte = high;
        }
    }
}

/// Finds a place beside the capabilities that the device shows.
fn find(length: u16, voice: Voice, read: &mut dyn FnMut(u16) -> u32) -> Place {
    let empty = |header: u32| header == 0 || header == u32::MAX;
    let mut header = read(extended::FIRST);
    let end = extended::FIRST + length;
    if (extended::FIRST..end).step_by(4).all(|at| empty(read(at))) {
        return Place {
            base: extended::FIRST,
            link: None,
        };
    }
    if empty(header) {
        // Registers of the device's own are in the way: an empty header leads on.
        header = 0;
    }
    let mut last = extended::FIRST;
    for _ in 0..LINKS {
        let id = header & 0xffff;
        let ours = [extended_capability_id::SRIOV, extended_capability_id::ARI];
        if voice == Voice::Loud && ours.map(u32::from).contains(&id) {
            tracing::warn!(
                "the device shows extended capability {id:#06x} at {last:#05x} of its own, which its PF gets \
                 from the host: software may find the wrong one"
            );
        }
        let next = u16::try_from(header >> extended::NEXT_SHIFT).unwrap_or(0) & !3;
        if next < extended::FIRST {
            break;
        }
        header = read(next);
        if empty(header) {
            break;
        }
        last = next;
    }
    let top = (CONFIG_SPACE_SIZE - length) / ALIGNMENT * ALIGNMENT;
    let free = (last + extended::HEADER_SIZE..=top)
        .rev()
        .filter(|base| base % ALIGNMENT == 0)
        .find(|base| (*base..base + length).step_by(4).all(|at| empty(read(at))));
    if voice == Voice::Loud && free.is_none() {
        tracing::warn!(
            "config space has no room for the SR-IOV capability: it hides what the device has at {top:#05x}"
        );
    }
    Place {
        base: free.unwrap_or(top),
        link: Some(last),
    }
}
