//! A PCIe hierarchy below one host bridge: which port or function a config access or a memory access
//! reaches, by what software programmed into ports and functions.
//!
//! A [`Topology`] owns the config spaces of its ports. Functions of devices live elsewhere: it knows
//! of each its place and its [`FunctionDecode`], which the owner [updates](Topology::update).
//! Config accesses go by [`Topology::config_target`], memory accesses by
//! [`Topology::memory_target`]; what does not reach anything is an unsupported request: reads are all
//! ones, writes are dropped.
//!
//! ```
//! # use hdv_pci::{Bar, BarIndex, ClassCode, ConfigSpace, Identity, PciExpress, RoutingId};
//! use hdv_pci::topology::{ConfigTarget, FunctionDecode, Parent, Topology};
//!
//! # let identity = Identity {
//! #     vendor_id: 0x4f48,
//! #     device_id: 0x0001,
//! #     revision_id: 1,
//! #     class: ClassCode::from_u24(0x11_8000),
//! #     subsystem_vendor_id: 0x4f48,
//! #     subsystem_id: 0x0001,
//! # };
//! let mut function = ConfigSpace::builder(identity)
//!     .bar(BarIndex::BAR0, Bar::memory32(0x1000))
//!     .capability(PciExpress::endpoint())
//!     .build()?;
//! let mut topology = Topology::new(0);
//! let id = topology.attach(Parent::Root, 3, 0, FunctionDecode::of(&function))?;
//! let target = topology.config_target(RoutingId::new(0, 3, 0)?);
//! assert_eq!(target, Some(ConfigTarget::Function(id)));
//!
//! // Software places the BAR and enables memory accesses.
//! let _ = function.write(0x10, &0x8000_0000_u32.to_le_bytes());
//! let _ = function.write(0x04, &[0x02, 0x00]);
//! topology.update(id, FunctionDecode::of(&function))?;
//! let target = topology.memory_target(0x8000_0010, 4).expect("it is in the BAR");
//! assert_eq!((target.function, target.offset), (id, 0x10));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bus;
mod bus_routes;
mod config;
mod ecam;
mod error;
mod errors;
mod function_decode;
mod ids;
mod intervals;
mod memory_build;
mod memory_map;
mod port_state;
mod requests;
mod shape;
mod walk;

use std::collections::BTreeMap;

use crate::config_space::ConfigSpace;
use crate::port_view::PortKind;
use bus::Bus;
use bus_routes::BusRoutes;
use port_state::PortState;

pub use ecam::{Ecam, EcamError};
pub use error::{MAX_FUNCTIONS, MAX_PORTS, TopologyError};
pub use function_decode::{BarSizes, FunctionDecode};
pub use ids::{ConfigTarget, FunctionId, Member, Parent, PortId};
pub use memory_map::{MemoryMap, MemoryTarget};
pub use walk::{Found, Removed};

/// A hierarchy of ports and functions below one host bridge.
///
/// At most [`MAX_PORTS`] ports and [`MAX_FUNCTIONS`] functions. Whatever software writes, an access takes
/// time that these bound: routing of buses is worked out again when ports change, decoding of memory at the first
/// memory access after something changed.
///
/// Where software programs nonsense, the first one that claims an access gets it: on each bus in the
/// order of device and function numbers, in a function BAR by BAR, its VFs' after its own. A port
/// claims what is in its windows, also if nothing below answers.
#[derive(Debug)]
pub struct Topology {
    root_bus: u8,
    root: Bus,
    ports: BTreeMap<PortId, Port>,
    functions: BTreeMap<FunctionId, Function>,
    /// The number of the next port or function.
    next: u64,
    routes: BusRoutes,
    memory: MemoryMap,
    /// `memory` is to be worked out again.
    memory_changed: bool,
    /// Which segment of `memory` the last access was in.
    last_hit: usize,
}

#[derive(Debug)]
struct Port {
    parent: Parent,
    place: u8,
    kind: PortKind,
    config: ConfigSpace,
    /// What of `config` matters to routing.
    state: PortState,
    below: Bus,
}

#[derive(Debug)]
struct Function {
    parent: Parent,
    place: u8,
    decode: FunctionDecode,
}

impl Topology {
    /// A root bus with nothing on it; its number is fixed by what is above.
    #[must_use]
    pub fn new(root_bus: u8) -> Self {
        let mut topology = Self {
            root_bus,
            root: Bus::default(),
            ports: BTreeMap::new(),
            functions: BTreeMap::new(),
            next: 0,
            routes: BusRoutes::default(),
            memory: MemoryMap::default(),
            memory_changed: true,
            last_hit: 0,
        };
        topology.route_buses();
        topology
    }

    /// The number of the root bus.
    #[must_use]
    pub fn root_bus(&self) -> u8 {
        self.root_bus
    }

    /// The function's config space changed: `decode` is what it says now.
    ///
    /// # Errors
    /// No such function.
    pub fn update(
        &mut self,
        function: FunctionId,
        decode: FunctionDecode,
    ) -> Result<(), TopologyError> {
        let known = self
            .functions
            .get_mut(&function)
            .ok_or(TopologyError::NoFunction(function))?;
        self.memory_changed |= !known.decode.same_memory(&decode);
        known.decode = decode;
        Ok(())
    }

    /// The function as routing knows it; `None` if there is no such function.
    #[must_use]
    pub fn decode(&self, function: FunctionId) -> Option<&FunctionDecode> {
        Some(&self.functions.get(&function)?.decode)
    }

    /// What a memory access of `length` bytes, all in one BAR, reaches. Allocates only if something
    /// changed since the last one.
    #[must_use]
    pub fn memory_target(&mut self, address: u64, length: u64) -> Option<MemoryTarget> {
        self.decode_memory();
        self.memory.target_near(address, length, &mut self.last_hit)
    }

    /// All that memory accesses reach now, to look up elsewhere.
    #[must_use]
    pub fn memory_map(&mut self) -> &MemoryMap {
        self.decode_memory();
        &self.memory
    }

    fn bus(&self, parent: Parent) -> Option<&Bus> {
        match parent {
            Parent::Root => Some(&self.root),
            Parent::Port(port) => Some(&self.ports.get(&port)?.below),
        }
    }

    fn bus_mut(&mut self, parent: Parent) -> Option<&mut Bus> {
        match parent {
            Parent::Root => Some(&mut self.root),
            Parent::Port(port) => Some(&mut self.ports.get_mut(&port)?.below),
        }
    }

    /// The whole bus is one device: it is a link.
    fn is_link(&self, parent: Parent) -> bool {
        match parent {
            Parent::Root => false,
            Parent::Port(port) => self
                .ports
                .get(&port)
                .is_some_and(|port| port.kind.has_link_below()),
        }
    }
}
