//! The SR-IOV extended capability (PCI Express Base Specification 9.3.3): what a PF declares and
//! what software's writes do. What the registers say is in `sriov_view`.

use super::sriov_view::{SriovView, halves, vf_bar};
use super::{BarPlan, CapabilityRegisters, Change, ExtendedCapability, Window};
use crate::bar::{Bar, BarKind, arrange};
use crate::bar_index::{BAR_COUNT, BarIndex};
use crate::effects::Effects;
use crate::error::ConfigError;
use crate::registers::Field;
use crate::spec::extended::extended_capability_id;
use crate::spec::header;
use crate::spec::sriov::{self, SriovCapabilities, SriovControl};
use crate::vf_routing::VfRouting;

/// A physical function with up to 65535 virtual functions, without VF migration.
///
/// Where the standard leaves what happens undefined:
/// - NumVFs, System Page Size and ARI Capable Hierarchy keep their values while VF Enable is set;
///   one write to the control register that clears VF Enable cannot change ARI Capable Hierarchy.
/// - VF Enable stays clear while NumVFs is 0 or above TotalVFs.
/// - System Page Size keeps its value when it is written other than with one supported size.
///
/// ```
/// use hdv_pci::{
///     Ari, Bar, BarIndex, ClassCode, ConfigSpace, Effects, Identity, PciExpress, Port, RoutingId,
///     Sriov, VfRouting,
/// };
///
/// # let identity = Identity {
/// #     vendor_id: 0x4f48,
/// #     device_id: 0x0001,
/// #     revision_id: 1,
/// #     class: ClassCode::from_u24(0x11_8000),
/// #     subsystem_vendor_id: 0x4f48,
/// #     subsystem_id: 0x0001,
/// # };
/// // A PF at 05:00.0 under a port that forwards ARI and captures one more bus.
/// let port = Port::new(5, 6)?.ari_forwarding(true);
/// let pf = RoutingId::new(port.secondary(), 0, 0)?;
/// let routing = VfRouting::packed(pf, 300, true);
/// assert_eq!(routing.capacity(pf, true, port), 511);
///
/// let mut config = ConfigSpace::builder(identity)
///     .capability(PciExpress::endpoint())
///     .extended_capability(Ari::new(0))
///     .extended_capability(
///         Sriov::new(300, 0x0002, routing).bar(BarIndex::BAR0, Bar::memory64(0x4000)),
///     )
///     .build()?;
/// assert_eq!(config.enable_vfs(300)?, Effects::SRIOV);
///
/// let view = config.sriov().expect("declared above");
/// assert_eq!(view.active_vfs(), 300);
/// let last = view.routing.routing_id(pf, 299);
/// assert_eq!(last.map(|id| id.to_string()).as_deref(), Some("06:05.4"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sriov {
    total_vfs: u16,
    vf_device_id: u16,
    routing: VfRouting,
    routing_without_ari: VfRouting,
    bars: Vec<(BarIndex, Bar)>,
    page_sizes: u32,
    dependency_link: u8,
    /// ARI Capable Hierarchy of the PF with the lowest function number, if that is another one.
    inherited_ari: Option<bool>,
}

impl Sriov {
    /// `total_vfs` VFs at most, 0 to 65535, with that device id, at the routing ids that follow
    /// from `routing`.
    #[must_use]
    pub const fn new(total_vfs: u16, vf_device_id: u16, routing: VfRouting) -> Self {
        Self {
            total_vfs,
            vf_device_id,
            routing,
            routing_without_ari: routing,
            bars: Vec::new(),
            page_sizes: sriov::PAGE_SIZES_REQUIRED,
            dependency_link: 0,
            inherited_ari: None,
        }
    }

    /// Where the VFs are as long as ARI Capable Hierarchy is clear, if that is elsewhere.
    #[must_use]
    pub fn routing_without_ari(self, routing: VfRouting) -> Self {
        Self {
            routing_without_ari: routing,
            ..self
        }
    }

    /// Declares a BAR of every VF; a 64-bit one takes the next register too. Its size is that of
    /// one VF's; one below the system page size takes a whole page.
    #[must_use]
    pub fn bar(mut self, index: BarIndex, bar: Bar) -> Self {
        self.bars.push((index, bar));
        self
    }

    /// The page sizes it supports, bit n for 2^(n + 12) bytes;
    /// [`PAGE_SIZES_REQUIRED`](sriov::PAGE_SIZES_REQUIRED), which must be among them, unless said
    /// otherwise.
    #[must_use]
    pub fn supported_page_sizes(self, page_sizes: u32) -> Self {
        Self { page_sizes, ..self }
    }

    /// The Function Dependency Link: the next of a ring of PFs that depend on each other, or the
    /// PF's own function number if it depends on none. 0 unless said otherwise.
    #[must_use]
    pub fn function_dependency_link(self, function: u8) -> Self {
        Self {
            dependency_link: function,
            ..self
        }
    }

    /// It is not the PF with the lowest function number of its device: ARI Capable Hierarchy is
    /// read-only 0, and `ari` says whether that PF's is set for both.
    #[must_use]
    pub fn not_lowest_function(self, ari: bool) -> Self {
        Self {
            inherited_ari: Some(ari),
            ..self
        }
    }

    fn arranged(&self) -> Result<[Option<Bar>; BAR_COUNT], ConfigError> {
        arrange(&self.bars, header::BAR_COUNT).map_err(|error| ConfigError::VfBar(Box::new(error)))
    }

    /// The VFs' BARs are within the addresses they can have.
    fn check_bar(&self, index: BarIndex, bar: Bar) -> Result<(), ConfigError> {
        let limit = match bar.kind {
            BarKind::Memory32 => 1 << 32,
            BarKind::Memory64 => 1 << 64,
        };
        // With the smallest pages: software that chooses larger ones needs room for them.
        let size = bar.size.max(1 << sriov::PAGE_SIZE_BASE);
        if u128::from(size) * u128::from(self.total_vfs) <= limit {
            return Ok(());
        }
        Err(ConfigError::VfBarTotal {
            index,
            size,
            total_vfs: self.total_vfs,
        })
    }
}

const VF_ENABLE: u32 = SriovControl::VF_ENABLE.bits() as u32;
const ARI: u32 = SriovControl::ARI_CAPABLE_HIERARCHY.bits() as u32;
const NUM_VFS: u32 = u16::MAX as u32;

impl Sriov {
    fn routing_word(&self, ari: bool) -> u32 {
        let routing = if self.inherited_ari.unwrap_or(ari) {
            self.routing
        } else {
            self.routing_without_ari
        };
        u32::from(routing.first_vf_offset) | u32::from(routing.vf_stride) << 16
    }

    fn control_written(&self, window: &mut Window<'_>, change: Change) -> Effects {
        let at = sriov::CONTROL;
        if change.before & VF_ENABLE != 0 {
            window.set_u32(at, ARI, change.before);
        } else {
            let num_vfs = window.get_u32(sriov::NUM_VFS) & NUM_VFS;
            if num_vfs == 0 || num_vfs > self.total_vfs.into() {
                window.set_u32(at, VF_ENABLE, 0);
            }
        }
        let after = window.get_u32(at);
        window.set_u32(
            sriov::FIRST_VF_OFFSET,
            u32::MAX,
            self.routing_word(after & ARI != 0),
        );
        let changed = change.before ^ after;
        let memory = u32::from(SriovControl::VF_MEMORY_SPACE_ENABLE.bits());
        let mut effects = Effects::empty();
        effects.set(Effects::SRIOV, changed & (VF_ENABLE | ARI) != 0);
        effects.set(Effects::VF_BAR, changed & memory != 0);
        effects
    }

    fn page_size_written(&self, window: &mut Window<'_>, change: Change) -> Effects {
        let size = change.after;
        if enabled(window) || !size.is_power_of_two() || self.page_sizes & size == 0 {
            window.set_u32(change.offset, u32::MAX, change.before);
            return Effects::empty();
        }
        // What is left of the addresses stays: when Linux resumes a device it restores the
        // addresses before the page size.
        clear_low_bits(window);
        if change.changed() {
            Effects::VF_BAR
        } else {
            Effects::empty()
        }
    }
}

fn enabled(window: &Window<'_>) -> bool {
    window.get_u32(sriov::CONTROL) & VF_ENABLE != 0
}

/// The address bits of VF BARs that are within a page are 0.
fn clear_low_bits(window: &mut Window<'_>) {
    for (index, bar) in BarIndex::ALL.into_iter().zip(SriovView::of(window).vf_bars) {
        let Some(bar) = bar else { continue };
        let within = bar.bar.size - 1;
        let [low, high] = halves(within);
        let types = header::BAR_TYPE_MASK;
        window.set_u32(vf_bar(index), low & !types, 0);
        if let (BarKind::Memory64, Some(next)) = (bar.bar.kind, index.next()) {
            window.set_u32(vf_bar(next), high, 0);
        }
    }
}

impl CapabilityRegisters for Sriov {
    fn name(&self) -> &'static str {
        "SR-IOV"
    }

    fn length(&self) -> u16 {
        sriov::LENGTH
    }

    fn check(&self, _bars: &mut BarPlan) -> Result<(), ConfigError> {
        for routing in [self.routing, self.routing_without_ari] {
            routing.check(self.total_vfs)?;
        }
        if self.page_sizes & sriov::PAGE_SIZES_REQUIRED != sriov::PAGE_SIZES_REQUIRED {
            return Err(ConfigError::VfPageSizes(self.page_sizes));
        }
        let bars = BarIndex::ALL.into_iter().zip(self.arranged()?);
        for (index, bar) in bars.filter_map(|(index, bar)| Some((index, bar?))) {
            self.check_bar(index, bar)?;
            let page = 1 << (self.page_sizes.ilog2() + sriov::PAGE_SIZE_BASE);
            let size = bar.size.max(page);
            // A 32-bit BAR has to hold a page of every size.
            Bar { size, ..bar }
                .check(index)
                .map_err(|error| ConfigError::VfBar(Box::new(error)))?;
        }
        Ok(())
    }

    fn lay_out(&self, window: &mut Window<'_>) {
        let mut control = SriovControl::WRITABLE;
        let mut kept = SriovControl::ARI_CAPABLE_HIERARCHY;
        let mut capabilities = SriovCapabilities::ARI_CAPABLE_HIERARCHY_PRESERVED;
        if self.inherited_ari.is_some() {
            control.remove(SriovControl::ARI_CAPABLE_HIERARCHY);
            kept = SriovControl::empty();
            capabilities = SriovCapabilities::empty();
        }
        window.define_u32(sriov::CAPABILITIES, Field::read_only(capabilities.bits()));
        // No function level reset affects ARI Capable Hierarchy (9.3.3.3.5).
        let field = Field::read_only(0)
            .writable(control.bits().into())
            .preserved(kept.bits().into());
        window.define_u16(sriov::CONTROL, field);
        window.define_u16(sriov::STATUS, Field::read_only(0));
        let fixed = [
            (sriov::INITIAL_VFS, self.total_vfs),
            (sriov::TOTAL_VFS, self.total_vfs),
            (sriov::FUNCTION_DEPENDENCY_LINK, self.dependency_link.into()),
            (sriov::VF_DEVICE_ID, self.vf_device_id),
        ];
        for (offset, value) in fixed {
            window.define_u16(offset, Field::read_only(value.into()));
        }
        window.define_u16(sriov::NUM_VFS, Field::read_only(0).writable(NUM_VFS));
        // They follow ARI Capable Hierarchy, so they survive what it survives.
        let routing = Field::read_only(self.routing_word(false)).preserved(u32::MAX);
        window.define_u32(sriov::FIRST_VF_OFFSET, routing);
        window.define_u32(
            sriov::SUPPORTED_PAGE_SIZES,
            Field::read_only(self.page_sizes),
        );
        window.define_u32(
            sriov::SYSTEM_PAGE_SIZE,
            Field::read_only(sriov::SYSTEM_PAGE_SIZE_RESET).writable(u32::MAX),
        );
        let bars = self.arranged().unwrap_or_default();
        for (index, bar) in BarIndex::ALL.into_iter().zip(bars) {
            let Some(bar) = bar else { continue };
            let [low, high] = halves(bar.address_mask());
            let field = Field::read_only(bar.type_bits()).writable(low);
            window.define_u32(vf_bar(index), field);
            if let (BarKind::Memory64, Some(next)) = (bar.kind, index.next()) {
                window.define_u32(vf_bar(next), Field::read_only(0).writable(high));
            }
        }
        window.define_u32(sriov::VF_MIGRATION_STATE_ARRAY, Field::read_only(0));
    }

    fn written(&mut self, window: &mut Window<'_>, change: Change) -> Effects {
        match change.offset {
            sriov::CONTROL => self.control_written(window, change),
            sriov::NUM_VFS if enabled(window) => {
                window.set_u32(change.offset, NUM_VFS, change.before);
                Effects::empty()
            }
            sriov::NUM_VFS if change.changed() => Effects::SRIOV,
            sriov::SYSTEM_PAGE_SIZE => self.page_size_written(window, change),
            sriov::VF_BAR0..sriov::VF_MIGRATION_STATE_ARRAY => {
                clear_low_bits(window);
                if window.get_u32(change.offset) == change.before {
                    Effects::empty()
                } else {
                    Effects::VF_BAR
                }
            }
            _ => Effects::empty(),
        }
    }
}

impl ExtendedCapability for Sriov {
    fn id(&self) -> u16 {
        extended_capability_id::SRIOV
    }
}
