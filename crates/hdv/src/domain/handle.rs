//! [`Domain`]: what the owner of a domain does with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hdv_pci::SlotView;
use hdv_pci::capability::Slot as PhysicalSlot;
use hdv_pci::topology::{Found, FunctionId, Member, Parent, PortId, TopologyError};

use super::carrier::InnerCarrier;
use super::endpoint::DomainEndpoint;
use super::error::DomainError;
use super::hierarchy::Hierarchy;
use super::injection::Injection;
use super::inner::Inner;
use super::life::BringError;
use super::options::DomainOptions;
use super::ports;
use super::position::Position;
use super::tree::TreeNode;
use crate::calls;
use crate::error::{DeviceId, HostError};
use crate::function::Function;
use crate::instance::DeviceInstance;
use crate::slot::Slot;

/// A function of a domain: its place, and its device.
#[derive(Clone, Debug)]
pub struct DomainFunction {
    id: FunctionId,
    instance: DeviceInstance,
}

impl DomainFunction {
    /// Names it in its domain.
    #[must_use]
    pub fn id(&self) -> FunctionId {
        self.id
    }

    /// Its device, which has no socket.
    #[must_use]
    pub fn instance(&self) -> &DeviceInstance {
        &self.instance
    }
}

/// A PCIe hierarchy behind one endpoint. Clones are of the same one.
#[derive(Clone)]
pub struct Domain {
    pub(super) hierarchy: Arc<Hierarchy>,
}

impl Domain {
    /// An empty domain, and the endpoint through which a VM gets it.
    ///
    /// # Errors
    /// Sizes that it cannot have.
    pub fn new(options: DomainOptions) -> Result<(Self, DomainEndpoint), DomainError> {
        let ecam = options.check()?;
        let hierarchy = Arc::new(Hierarchy::new());
        let endpoint = DomainEndpoint {
            hierarchy: Arc::clone(&hierarchy),
            options,
            ecam,
        };
        Ok((Self { hierarchy }, endpoint))
    }

    /// Adds a root port at a device (0 to 31) and function number (0 to 7) of the root bus, with a slot if there is one. What is
    /// below it has device number 0.
    ///
    /// # Errors
    /// The place is taken, or there is no such place.
    pub fn add_root_port(
        &self,
        device: u8,
        function: u8,
        slot: Option<PhysicalSlot>,
    ) -> Result<PortId, DomainError> {
        let config = ports::root_port(device << 3 | function, slot)?;
        let mut state = self.hierarchy.lock();
        Ok(state
            .topology
            .add_port(Parent::Root, device, function, config)?)
    }

    /// Adds a switch below a root port or a downstream port, with a downstream port for each of `slots`, at device numbers
    /// from 0 up. Returns those.
    ///
    /// # Errors
    /// The place is taken, or there is none; this thread is inside a call into a function of the domain.
    pub fn add_switch(
        &self,
        below: PortId,
        slots: &[Option<PhysicalSlot>],
    ) -> Result<Vec<PortId>, DomainError> {
        self.check_outside()?;
        let downstream = {
            let mut state = self.hierarchy.lock();
            let config = ports::upstream_port()?;
            let topology = &mut state.topology;
            let upstream = topology.add_port(Parent::Port(below), 0, 0, config)?;
            let add = |(device, slot): (u8, &Option<PhysicalSlot>)| {
                let config = ports::downstream_port(device, *slot)?;
                Ok(topology.add_port(Parent::Port(upstream), device, 0, config)?)
            };
            let ports = (0..).zip(slots).map(add);
            let ports = ports.collect::<Result<Vec<_>, DomainError>>();
            if ports.is_err() {
                // All of it or nothing.
                let _ = topology.remove_port(upstream);
            }
            ports?
        };
        self.hierarchy.occupy(below);
        Ok(downstream)
    }

    /// Gives a port a name, in place of the one it has if it has one, by which it is [found](Self::find). Names are unique in a
    /// domain and have 1 to 64 characters, none of them '/' or a control character, and are no device and function number such
    /// as `01.0`.
    ///
    /// # Errors
    /// There is no such port; the name cannot be had.
    pub fn set_port_name(&self, port: PortId, name: &str) -> Result<(), DomainError> {
        let mut state = self.hierarchy.lock();
        if state.topology.port(port).is_none() {
            return Err(TopologyError::NoPort(port).into());
        }
        state.names.set(Member::Port(port), name)
    }

    /// The port or function at a place: its name, or the way to it, whatever buses are numbered: device and function number, in
    /// hexadecimal, of each port and then its own, as `lspci -P` writes them without the domain: `01.0`, `01.0/00.0/02.0`.
    /// Functions beyond the eighth of a device with ARI are those of the next device numbers there. VFs have no place of
    /// their own.
    ///
    /// # Errors
    /// Nothing is there.
    pub fn find(&self, place: &str) -> Result<Member, DomainError> {
        self.hierarchy.lock().find(place)
    }

    /// All ports, functions and VFs as they stand, in the order in which `lspci -t` draws them. Waits for no function, so also
    /// while one of them hangs, and may be called from anywhere.
    #[must_use]
    pub fn tree(&self) -> Vec<TreeNode> {
        self.hierarchy.tree()
    }

    /// Has something go wrong at a port or function. Whether software is told: of an error, that its message reached the root
    /// port, which is so unless masks, Device Control or a port above keep it; true for all others.
    ///
    /// # Errors
    /// There is no such port or function; it cannot have this happen to it; this thread is inside a call into a function of the
    /// domain.
    pub fn inject(&self, member: Member, injection: Injection) -> Result<bool, DomainError> {
        self.check_outside()?;
        self.hierarchy.inject(member, injection)
    }

    /// Puts a function in its place and powers it on, with these strings of its configuration; if processors run it is started,
    /// and the port above tells of it. The name is one of the domain, as with [`set_port_name`](Self::set_port_name).
    ///
    /// # Errors
    /// The place or the name cannot be had; the function's own. It is torn down then.
    pub fn attach(
        &self,
        position: Position,
        name: &str,
        content: Box<dyn Function>,
        configuration: &[String],
    ) -> Result<DomainFunction, DomainError> {
        let hierarchy = &self.hierarchy;
        let id = DeviceId::next();
        let carrier = InnerCarrier::new(hierarchy, name, id);
        let of = |source: HostError| DomainError::Function {
            name: name.to_owned(),
            source,
        };
        let told = Arc::clone(&carrier);
        let slot = Slot::new(name, hierarchy.token, content, Some(told))
            .map_err(|error| of(error.into()))?;
        let slot = Arc::new(slot);
        self.check_outside()?;
        hierarchy.lock().names.check(name)?;
        slot.power_on(configuration)
            .map_err(|error| of(error.into()))?;
        let inner = Arc::new(Inner::new(Arc::clone(&slot)));
        let brought = hierarchy.bring_in(position, &inner, &carrier);
        let placed = brought.map_err(|error| match error {
            BringError::Function(source) => of(source),
            BringError::Place(error) => error,
        })?;
        let instance = DeviceInstance {
            id,
            ids: None,
            brought_by: None,
            slot,
        };
        Ok(DomainFunction {
            id: placed,
            instance,
        })
    }

    /// Puts several functions below a port, or a switch and what is below that, as one device: `fill` attaches them, and the port tells
    /// software of them when it returns. Without this each comes by itself, and software that has looked at function 0
    /// already does not look for others.
    ///
    /// # Errors
    /// There is no such port; it is being filled already; this thread is inside a call into a function of the domain.
    pub fn fill<T>(&self, port: PortId, fill: impl FnOnce() -> T) -> Result<T, DomainError> {
        // What ends the filling waits for such calls.
        self.check_outside()?;
        let _filling = self.hierarchy.fill(port)?;
        Ok(fill())
    }

    /// Takes out what is below a port, without a word before: its link goes down, the port tells software, and the functions are
    /// torn down (surprise removal, 6.7).
    ///
    /// # Errors
    /// There is no such port; this thread is inside a call into a function of the domain.
    pub fn pull(&self, port: PortId) -> Result<(), DomainError> {
        self.check_outside()?;
        self.hierarchy.pull(port)
    }

    /// Takes out what is in a port's slot as its owner does who has the attention button pressed: software is asked, lets go and turns
    /// the slot off, then the functions are torn down. Linux takes five seconds for a change of mind. False, and nothing is
    /// taken out, if the slot has power still after `limit`, software may turn it off later; or if the VM was reset meanwhile, so that
    /// nobody there knows of it. Who unplugs what is being unplugged already joins in waiting, without another press, which software
    /// would take for a change of mind.
    ///
    /// # Errors
    /// There is no such port; its slot has no attention button, no power controller, or nothing in it; the endpoint is gone; this
    /// thread is inside a call into a function of the domain.
    pub fn unplug(&self, port: PortId, limit: Duration) -> Result<bool, DomainError> {
        self.check_outside()?;
        self.hierarchy.unplug(port, limit)
    }

    /// Presses the attention button of a port's slot, which asks software to turn what is in it on, or off. It does nothing without
    /// one. A slot with a button is turned on only after it was pressed.
    ///
    /// # Errors
    /// There is no such port.
    pub fn press_attention_button(&self, port: PortId) -> Result<(), DomainError> {
        self.hierarchy.press_button(port)
    }

    /// What software has made of a port's slot; `None` if it has none.
    ///
    /// # Errors
    /// There is no such port.
    pub fn slot(&self, port: PortId) -> Result<Option<SlotView>, DomainError> {
        self.hierarchy.slot(port)
    }

    /// All ports and functions, without VFs, in the order in which `lspci -t` draws them.
    #[must_use]
    pub fn walk(&self) -> Vec<Found> {
        self.hierarchy.lock().topology.walk().collect()
    }
}

impl Domain {
    fn check_outside(&self) -> Result<(), DomainError> {
        if calls::inside(self.hierarchy.token) {
            return Err(DomainError::InsideCall);
        }
        Ok(())
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").finish_non_exhaustive()
    }
}
