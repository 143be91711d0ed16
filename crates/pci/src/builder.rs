//! Building a config space: checks the description, defines the registers and links the lists.
//! Where everything goes is found in `layout`.

use crate::bar::{Bar, Bars, arrange};
use crate::bar_index::{BAR_COUNT, BarIndex};
use crate::bridge;
use crate::capability::{
    BarPlan, BridgeSubsystem, Capability, CapabilityRegisters, ExtendedCapability, Window,
};
use crate::config_space::ConfigSpace;
use crate::error::ConfigError;
use crate::identity::Identity;
use crate::layout::{DeviceRegisters, Map, place};
use crate::link_state::LinkState;
use crate::placed::{AnyCapability, Placed};
use crate::places::Places;
use crate::registers::{Field, Registers};
use crate::spec::header::{self, Command, Status};
use crate::spec::{
    self, CAPABILITY_ID, CAPABILITY_NEXT, COMPATIBLE_SIZE, CONFIG_SPACE_SIZE, extended,
};

/// The description of a config space. What is wrong with it comes out in [`build`](Self::build).
#[derive(Debug)]
pub struct ConfigSpaceBuilder {
    identity: Identity,
    is_bridge: bool,
    bars: Vec<(BarIndex, Bar)>,
    capabilities: Vec<Box<dyn Capability>>,
    extended_capabilities: Vec<Box<dyn ExtendedCapability>>,
    registers: Vec<DeviceRegisters>,
}

impl ConfigSpace {
    /// Begins the description of a config space.
    #[must_use]
    pub fn builder(identity: Identity) -> ConfigSpaceBuilder {
        ConfigSpaceBuilder::new(identity, false)
    }

    /// Begins the description of a bridge's config space, with a type 1 header (PCI Express Base
    /// Specification 7.5.1.3): a root port or a port of a switch. It has no I/O window. The
    /// header has no place for subsystem ids: they get a capability of their own, at the end of
    /// the list, unless the subsystem vendor id is 0.
    #[must_use]
    pub fn bridge_builder(identity: Identity) -> ConfigSpaceBuilder {
        ConfigSpaceBuilder::new(identity, true)
    }
}

impl ConfigSpaceBuilder {
    fn new(identity: Identity, is_bridge: bool) -> Self {
        Self {
            identity,
            is_bridge,
            bars: Vec::new(),
            capabilities: Vec::new(),
            extended_capabilities: Vec::new(),
            registers: Vec::new(),
        }
    }

    /// Declares a BAR. A 64-bit one takes the next register too.
    #[must_use]
    pub fn bar(mut self, index: BarIndex, bar: Bar) -> Self {
        self.bars.push((index, bar));
        self
    }

    /// Adds a capability; the list has them in the order in which they are added.
    #[must_use]
    pub fn capability(self, capability: impl Capability + 'static) -> Self {
        self.boxed_capability(Box::new(capability))
    }

    /// Adds a capability that is boxed already.
    #[must_use]
    pub fn boxed_capability(mut self, capability: Box<dyn Capability>) -> Self {
        self.capabilities.push(capability);
        self
    }

    /// Adds an extended capability; the first one added begins the list, at 0x100. Guests look for
    /// them only in functions with a [`PciExpress`](crate::PciExpress) capability.
    #[must_use]
    pub fn extended_capability(self, capability: impl ExtendedCapability + 'static) -> Self {
        self.boxed_extended_capability(Box::new(capability))
    }

    /// Adds an extended capability that is boxed already.
    #[must_use]
    pub fn boxed_extended_capability(mut self, capability: Box<dyn ExtendedCapability>) -> Self {
        self.extended_capabilities.push(capability);
        self
    }

    /// Declares plain registers at `offset`, within 0x40 to 0xff or 0x104 to 0xfff, with their
    /// bytes after reset and, of the same length, the bits that software can write. Capabilities
    /// are laid out around them.
    #[must_use]
    pub fn registers(
        mut self,
        offset: u16,
        initial: impl Into<Vec<u8>>,
        write_mask: impl Into<Vec<u8>>,
    ) -> Self {
        self.registers.push(DeviceRegisters {
            offset,
            initial: initial.into(),
            write_mask: write_mask.into(),
        });
        self
    }

    /// Builds the config space, in its state after a reset.
    ///
    /// # Errors
    /// The first thing found to be wrong with the description.
    pub fn build(mut self) -> Result<ConfigSpace, ConfigError> {
        if self.identity.vendor_id == header::VENDOR_ID_NONE {
            return Err(ConfigError::VendorId(self.identity.vendor_id));
        }
        let bar_count = if self.is_bridge {
            spec::bridge::BAR_COUNT
        } else {
            header::BAR_COUNT
        };
        let bars = arrange(&self.bars, bar_count)?;
        if self.is_bridge && self.identity.subsystem_vendor_id != 0 {
            let subsystem = BridgeSubsystem::of(&self.identity);
            self.capabilities.push(Box::new(subsystem));
        }
        self.check_capabilities(bars)?;

        let mut map = Map::default();
        for registers in &self.registers {
            map.reserve_registers(registers)?;
        }
        let has_list = !self.capabilities.is_empty();
        let capabilities = place(self.capabilities, self.extended_capabilities, &mut map)?;

        let mut registers = Registers::new(map.end());
        lay_out_header(&mut registers, &self.identity, has_list);
        if self.is_bridge {
            bridge::lay_out(&mut registers);
        } else {
            lay_out_subsystem(&mut registers, &self.identity);
        }
        let header_type = if self.is_bridge {
            spec::bridge::HEADER_TYPE
        } else {
            0
        };
        let field = Field::read_only(header_type.into()).kept(header::MULTI_FUNCTION.into());
        registers.define(header::HEADER_TYPE, 1, field);
        let mut bars = Bars::new(bars);
        bars.lay_out(&mut registers);
        for device in &self.registers {
            let bytes = device.initial.iter().zip(&device.write_mask);
            for ((&initial, &mask), offset) in bytes.zip(device.offset..) {
                let field = Field::read_only(initial.into()).writable(mask.into());
                registers.define(offset, 1, field);
            }
        }
        for Placed {
            offset,
            length,
            capability,
        } in &capabilities
        {
            let mut window = Window::new(&mut registers, &mut bars, *offset, *length);
            capability.registers().lay_out(&mut window);
        }
        link(&mut registers, &capabilities);

        let mut config = ConfigSpace {
            registers,
            bars,
            identity: self.identity,
            is_bridge: self.is_bridge,
            capabilities,
            places: Places::default(),
            link: LinkState::default(),
            device_registers: self.registers.iter().map(DeviceRegisters::range).collect(),
        };
        config.places = Places::of(&config);
        config.reset_link();
        Ok(config)
    }

    fn check_capabilities(&self, bars: [Option<Bar>; BAR_COUNT]) -> Result<(), ConfigError> {
        for (at, capability) in self.capabilities.iter().enumerate() {
            let before = &self.capabilities[..at];
            if capability.unique() && before.iter().any(|other| other.id() == capability.id()) {
                return Err(ConfigError::CapabilityTwice {
                    name: capability.name(),
                });
            }
        }
        for (at, capability) in self.extended_capabilities.iter().enumerate() {
            let before = &self.extended_capabilities[..at];
            if capability.unique() && before.iter().any(|other| other.id() == capability.id()) {
                return Err(ConfigError::CapabilityTwice {
                    name: capability.name(),
                });
            }
        }
        let mut plan = BarPlan::new(bars, self.is_bridge);
        // Extended capabilities first: one may say how small a BAR can become.
        for capability in &self.extended_capabilities {
            capability.check(&mut plan)?;
            let space = CONFIG_SPACE_SIZE - extended::FIRST;
            check_length(capability.as_ref(), extended::HEADER_SIZE, space)?;
        }
        for capability in &self.capabilities {
            capability.check(&mut plan)?;
            check_length(
                capability.as_ref(),
                CAPABILITY_HEADER_SIZE,
                COMPATIBLE_SIZE - header::END,
            )?;
        }
        Ok(())
    }
}

/// Bytes of a capability's header.
const CAPABILITY_HEADER_SIZE: u16 = 2;

fn check_length<T>(capability: &T, min: u16, max: u16) -> Result<(), ConfigError>
where
    T: CapabilityRegisters + ?Sized,
{
    let length = capability.length();
    if (min..=max).contains(&length) {
        return Ok(());
    }
    Err(ConfigError::CapabilityLength {
        name: capability.name(),
        length: length.into(),
        min: min.into(),
        max: max.into(),
    })
}

/// Defines the header but for the BARs and the pointer to the capabilities.
fn lay_out_header(registers: &mut Registers, identity: &Identity, has_list: bool) {
    let fixed = [
        (header::VENDOR_ID, 2, identity.vendor_id.into()),
        (header::DEVICE_ID, 2, identity.device_id.into()),
        (header::REVISION_ID, 1, identity.revision_id.into()),
        (header::CLASS_CODE, 3, identity.class.to_u24()),
    ];
    for (offset, width, value) in fixed {
        registers.define(offset, width, Field::read_only(value));
    }
    let command = Field::read_only(0).writable(Command::WRITABLE.bits().into());
    registers.define(header::COMMAND, 2, command);
    let list = if has_list {
        Status::CAPABILITIES_LIST
    } else {
        Status::empty()
    };
    let status = Field::read_only(list.bits().into())
        .write_one_to_clear(Status::WRITE_ONE_TO_CLEAR.bits().into());
    registers.define(header::STATUS, 2, status);
    for scratch in [header::CACHE_LINE_SIZE, header::INTERRUPT_LINE] {
        registers.define(scratch, 1, Field::read_only(0).writable(0xff));
    }
}

fn lay_out_subsystem(registers: &mut Registers, identity: &Identity) {
    for (offset, value) in [
        (header::SUBSYSTEM_VENDOR_ID, identity.subsystem_vendor_id),
        (header::SUBSYSTEM_ID, identity.subsystem_id),
    ] {
        registers.define(offset, 2, Field::read_only(value.into()));
    }
}

/// Writes the headers of all capabilities.
fn link(registers: &mut Registers, capabilities: &[Placed]) {
    let mut pointer = header::CAPABILITIES_POINTER;
    for placed in capabilities {
        if let AnyCapability::Compatible(capability) = &placed.capability {
            registers.define(pointer, 1, Field::read_only(placed.offset.into()));
            let id = capability.id().into();
            registers.define(placed.offset + CAPABILITY_ID, 1, Field::read_only(id));
            pointer = placed.offset + CAPABILITY_NEXT;
            registers.define(pointer, 1, Field::read_only(0));
        }
    }
    for (at, placed) in capabilities.iter().enumerate() {
        if let AnyCapability::Extended(capability) = &placed.capability {
            // All extended capabilities stand after the others.
            let next = capabilities.get(at + 1).map_or(0, |next| next.offset);
            let header = u32::from(capability.id())
                | u32::from(capability.version() & 0xf) << extended::VERSION_SHIFT
                | u32::from(next) << extended::NEXT_SHIFT;
            registers.define(placed.offset, 4, Field::read_only(header));
        }
    }
}
