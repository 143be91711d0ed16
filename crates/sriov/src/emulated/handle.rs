//! [`EmulatedPf`]: what others hold of a PF.

use std::path::Path;
use std::sync::Arc;

use hdv::domain::{Domain, Position};
use hdv::pci::SriovView;
use hdv::pci::spec::CONFIG_SPACE_SIZE;
use hdv::pci::topology::FunctionId;
use hdv::{
    DeviceError, DeviceHost, DeviceIds, DeviceInstance, DeviceState, Function, HostError, TestBench,
};

use super::authored::Authored;
use super::caught::caught;
use super::control;
use super::function::PfFunction;
use super::shared::Shared;
use super::{
    PfError, PfOptions, PhysicalFunction, Placement, PlacementError, VirtualFunctionLayout,
    VirtualFunctionSource, VirtualFunctions,
};
use crate::error::VirtualizationError;
use crate::interface::{EnableVirtualization, Location, PciVirtualization};

/// A PF of this process. Clones hold the same one; it outlives its device harmlessly.
///
/// Register writes, of its owner here ([`config_write`](Self::config_write)) or of a VM that may
/// ([`PfOptions::guest_controls_sriov`]), and the routines of [`PciVirtualization`] are one state machine. Once the
/// device failed (it panicked), nothing can be asked of it any more: the routines say that it is gone. Its VFs go
/// when it is removed.
#[derive(Clone, Debug)]
pub struct EmulatedPf {
    pub(super) instance: DeviceInstance,
    pub(super) shared: Arc<Shared>,
}

impl EmulatedPf {
    /// Powers a PF on and serves it on `socket`, as [`DeviceHost::serve`] does. VF n, when enabled, is served on a socket beside
    /// it: `<name>-vf<n>.sock` for `<name>.sock`.
    ///
    /// # Errors
    /// As there; VFs that its place has no room for. The PF is torn down then.
    pub fn serve(
        host: &DeviceHost,
        socket: impl AsRef<Path>,
        name: &str,
        pf: Box<dyn PhysicalFunction>,
        options: PfOptions,
    ) -> Result<Self, PfError> {
        let (function, shared) = authored(pf, options)?;
        let id = host.serve_function(socket, name, Box::new(function))?;
        let instance = host.instance(id).ok_or(HostError::NoSuchDevice(id))?;
        Ok(Self::known_to(host, instance, shared))
    }

    /// Creates a PF as a device instance, to be announced ([`DeviceHost::announce`]).
    ///
    /// # Errors
    /// As [`DeviceHost::create_device`]; VFs that its place has no room for. The function is torn down then.
    pub fn create(
        host: &DeviceHost,
        ids: DeviceIds,
        function: Box<dyn Function>,
        layout: &VirtualFunctionLayout,
        source: Box<dyn VirtualFunctionSource>,
        options: PfOptions,
    ) -> Result<Self, PfError> {
        let (shared, overlay) = match Shared::new(layout, options, VirtualFunctions::default()) {
            Ok(parts) => parts,
            Err(error) => {
                end(function);
                return Err(error);
            }
        };
        let function = PfFunction::new(function, source, layout, overlay, Arc::clone(&shared));
        let instance = host.create_device(ids, Box::new(function))?;
        Ok(Self::known_to(host, instance, shared))
    }

    /// Puts a PF into a domain, as [`Domain::attach`] does; its VFs are functions of the domain too, by their routing ids. The
    /// guest numbers the buses there: of the options' placement what counts is whether the port forwards ARI, and room
    /// for the VFs. To have the guest control them, say so
    /// ([`guest_controls_sriov`](PfOptions::guest_controls_sriov)). Other programs reach it only once it is
    /// [published](Self::publish).
    ///
    /// # Errors
    /// As there; VFs that its place has no room for. The PF is torn down then.
    pub fn inside(
        domain: &Domain,
        position: Position,
        name: &str,
        pf: Box<dyn PhysicalFunction>,
        options: PfOptions,
    ) -> Result<(FunctionId, Self), PfError> {
        let (function, shared) = authored(pf, options)?;
        // Until the guest has numbered the bus, as after a reset.
        shared.follow_buses(0, 0);
        let placed = domain.attach(position, name, Box::new(function), &[])?;
        let instance = placed.instance().clone();
        Ok((placed.id(), Self { instance, shared }))
    }

    /// Puts a PF on a test bench, where its VFs are beside it ([`TestBench::brought`]).
    ///
    /// # Errors
    /// As [`TestBench::with_function`]; VFs that its place has no room for. The PF is torn down then.
    pub fn on_bench(
        pf: Box<dyn PhysicalFunction>,
        options: PfOptions,
    ) -> Result<(TestBench, Self), PfError> {
        let (function, shared) = authored(pf, options)?;
        let bench = TestBench::with_function(Box::new(function))?;
        let instance = bench.instance();
        Ok((bench, Self { instance, shared }))
    }

    fn known_to(host: &DeviceHost, instance: DeviceInstance, shared: Arc<Shared>) -> Self {
        control::register(host, &instance, &shared);
        Self { instance, shared }
    }

    /// Lets other programs of the user reach a PF inside a domain, or any that `host` does not serve itself, at the control socket
    /// of `host` until it is gone ([`control`](crate::control)): `hdv sriov` then shows it and drives it. `label` is what people
    /// call it and tell it apart by, `DOMAIN/NAME` such as `lab/nic:0`; once more gives it another one. Where no host can be kept,
    /// [`PfPublisher`](super::PfPublisher) does so.
    pub fn publish(&self, host: &DeviceHost, label: &str) {
        control::PfPublisher::of(host).publish(self, label);
    }

    /// Its device.
    #[must_use]
    pub fn instance(&self) -> &DeviceInstance {
        &self.instance
    }

    /// Its VFs.
    #[must_use]
    pub fn virtual_functions(&self) -> VirtualFunctions {
        self.shared.virtual_functions.clone()
    }

    /// Where it is now.
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.shared.placement()
    }

    /// What its SR-IOV registers say now. It waits for no device: while VFs are being enabled it says that they are
    /// not yet.
    #[must_use]
    pub fn registers(&self) -> SriovView {
        self.shared.registers()
    }

    /// Gives the buses below the port other numbers: the PF and its VFs are elsewhere then.
    ///
    /// # Errors
    /// Numbers that there cannot be, or that hold fewer VFs than there can be; nothing changes.
    pub fn renumber(&self, secondary: u8, subordinate: u8) -> Result<(), PlacementError> {
        self.shared.renumber(secondary, subordinate)
    }

    /// Its owner reads config space, with the SR-IOV registers, as software on the bus does.
    ///
    /// # Errors
    /// The device is gone, not powered on, or this thread is inside a call into a device of its host; not all of it
    /// is in the 4096 bytes of config space.
    pub fn config_read(&self, offset: u16, data: &mut [u8]) -> Result<(), VirtualizationError> {
        self.check_alive()?;
        check_config_range(offset, data.len())?;
        self.call("a config space read by its owner", |pf| {
            pf.owner_read(offset, data)
        })
    }

    /// Its owner writes config space; SR-IOV registers and resets count, whoever else may write them.
    ///
    /// # Errors
    /// As [`config_read`](Self::config_read). VFs that cannot be made: VF Enable stays clear.
    pub fn config_write(&self, offset: u16, data: &[u8]) -> Result<(), VirtualizationError> {
        self.check_alive()?;
        check_config_range(offset, data.len())?;
        self.call("a config space write by its owner", |pf| {
            pf.owner_write(offset, data)
        })
    }

    /// Its owner resets it, as a conventional reset does (6.6.1): VFs are disabled. ARI Capable Hierarchy is set
    /// afterwards if the port forwards ARI, as software does that finds such a port.
    ///
    /// # Errors
    /// As [`config_read`](Self::config_read).
    pub fn reset(&self) -> Result<(), VirtualizationError> {
        self.check_alive()?;
        self.call("a reset by its owner", PfFunction::owner_reset)
    }

    fn is_gone(&self) -> bool {
        let state = self.instance.state();
        self.shared.is_gone() || matches!(state, DeviceState::Failed | DeviceState::Gone)
    }

    fn check_alive(&self) -> Result<(), VirtualizationError> {
        if self.is_gone() {
            return Err(VirtualizationError::Gone);
        }
        Ok(())
    }

    /// Calls into the PF, as one of its calls.
    fn call<R>(
        &self,
        what: &'static str,
        call: impl FnOnce(&mut PfFunction) -> Result<R, VirtualizationError>,
    ) -> Result<R, VirtualizationError> {
        match self.instance.with(what, call) {
            Ok(Some(result)) => result,
            Ok(None) if self.instance.state() == DeviceState::Failed && !self.shared.is_gone() => {
                let error = DeviceError::new(format!("the device panicked in {what}"));
                Err(VirtualizationError::Device(error.into()))
            }
            Ok(None) => Err(VirtualizationError::Gone),
            Err(HostError::InsideCall) => Err(VirtualizationError::InsideCall),
            Err(error) => Err(VirtualizationError::Device(error)),
        }
    }

    /// The VF whose data is asked for, powered on, with where and how much of it.
    fn data_of(
        &self,
        vf: u16,
        offset: u32,
        length: usize,
    ) -> Result<(DeviceInstance, u16, usize), VirtualizationError> {
        self.check_alive()?;
        self.check_number(vf)?;
        let range = VirtualizationError::Range { offset, length };
        let Some((at, left)) = u16::try_from(offset)
            .ok()
            .and_then(|at| Some((at, CONFIG_SPACE_SIZE.checked_sub(at)?)))
            .filter(|(_, left)| *left != 0 && length != 0)
        else {
            return Err(range);
        };
        let instance = self.enabled(vf)?;
        instance
            .power_on()
            .map_err(|error| self.vf_failed(vf, &instance, error))?;
        if instance.state() == DeviceState::Failed {
            let error = DeviceError::new("it failed before; the log says how");
            return Err(self.vf_failed(vf, &instance, error.into()));
        }
        Ok((instance, at, length.min(left.into())))
    }

    fn enabled(&self, vf: u16) -> Result<DeviceInstance, VirtualizationError> {
        let instances = self.shared.virtual_functions.lock();
        let found = instances.get(usize::from(vf)).cloned();
        found.ok_or_else(|| VirtualizationError::NotEnabled {
            vf,
            num_vfs: u16::try_from(instances.len()).unwrap_or(u16::MAX),
        })
    }

    /// What a VF's error is, if it may have been taken away meanwhile.
    fn vf_failed(
        &self,
        vf: u16,
        instance: &DeviceInstance,
        error: HostError,
    ) -> VirtualizationError {
        if matches!(error, HostError::InsideCall) {
            return VirtualizationError::InsideCall;
        }
        match self.still_there(vf, instance) {
            Ok(()) => VirtualizationError::VirtualFunction { vf, source: error },
            Err(error) => error,
        }
    }

    /// # Errors
    /// The VF was taken away, or removed alone.
    fn still_there(&self, vf: u16, instance: &DeviceInstance) -> Result<(), VirtualizationError> {
        if instance.state() != DeviceState::Gone {
            return Ok(());
        }
        self.check_alive()?;
        let now = self.enabled(vf)?;
        if now.id() != instance.id() {
            // VFs were disabled and enabled again.
            return Err(VirtualizationError::NotEnabled { vf, num_vfs: 0 });
        }
        let source = HostError::NoSuchDevice(instance.id());
        Err(VirtualizationError::VirtualFunction { vf, source })
    }

    fn check_number(&self, vf: u16) -> Result<(), VirtualizationError> {
        let total_vfs = self.shared.total_vfs;
        if vf >= total_vfs {
            return Err(VirtualizationError::NoSuchVf { vf, total_vfs });
        }
        Ok(())
    }
}

/// What a PF of an author's is made of.
fn authored(
    pf: Box<dyn PhysicalFunction>,
    options: PfOptions,
) -> Result<(PfFunction, Arc<Shared>), PfError> {
    let pf = Authored::new(pf);
    let virtual_functions = VirtualFunctions::default();
    let parts = pf
        .introduce(&virtual_functions)
        .map_err(PfError::from)
        .and_then(|layout| Ok((Shared::new(&layout, options, virtual_functions)?, layout)));
    let ((shared, overlay), layout) = match parts {
        Ok(parts) => parts,
        Err(error) => {
            pf.end();
            return Err(error);
        }
    };
    let function = hdv::pci_function(Box::new(pf.clone()))?;
    let function = PfFunction::new(
        function,
        Box::new(pf),
        &layout,
        overlay,
        Arc::clone(&shared),
    );
    Ok((function, shared))
}

/// Ends a function that no host has taken.
fn end(mut function: Box<dyn Function>) {
    if caught(|| function.teardown()).is_none() || caught(|| drop(function)).is_none() {
        tracing::error!("a PF that was refused panicked in teardown");
    }
}

fn check_config_range(offset: u16, length: usize) -> Result<(), VirtualizationError> {
    let end = usize::from(offset).checked_add(length);
    if length != 0 && end.is_some_and(|end| end <= usize::from(CONFIG_SPACE_SIZE)) {
        return Ok(());
    }
    Err(VirtualizationError::Range {
        offset: offset.into(),
        length,
    })
}

impl PciVirtualization for EmulatedPf {
    fn virtual_function_data(
        &self,
        vf: u16,
        offset: u32,
        data: &mut [u8],
    ) -> Result<usize, VirtualizationError> {
        let (instance, offset, length) = self.data_of(vf, offset, data.len())?;
        instance
            .config_read_as_vf(offset, &mut data[..length])
            .map_err(|error| self.vf_failed(vf, &instance, error))?;
        self.still_there(vf, &instance)?;
        Ok(length)
    }

    fn set_virtual_function_data(
        &self,
        vf: u16,
        offset: u32,
        data: &[u8],
    ) -> Result<usize, VirtualizationError> {
        let (instance, offset, length) = self.data_of(vf, offset, data.len())?;
        instance
            .config_write_as_vf(offset, &data[..length])
            .map_err(|error| self.vf_failed(vf, &instance, error))?;
        self.still_there(vf, &instance)?;
        Ok(length)
    }

    fn location(&self, vf: u16) -> Result<Location, VirtualizationError> {
        self.check_alive()?;
        self.check_number(vf)?;
        let (placement, registers, _) = self.shared.look();
        let routing_id = registers.routing.routing_id(placement.pf, vf);
        // Reached only where a guest has numbered the buses so that VFs would be beyond the last.
        let total_vfs = self.shared.total_vfs;
        Ok(Location {
            segment: placement.segment,
            routing_id: routing_id.ok_or(VirtualizationError::NoSuchVf { vf, total_vfs })?,
        })
    }

    fn captured_buses(&self) -> u8 {
        if self.is_gone() {
            return 0;
        }
        self.placement().port().captured_buses()
    }

    fn enable_virtualization(
        &self,
        request: EnableVirtualization,
    ) -> Result<(), VirtualizationError> {
        self.check_alive()?;
        request.check(self.shared.total_vfs, false)?;
        let what = if request.enable {
            "enabling its VFs"
        } else {
            "disabling its VFs"
        };
        self.call(what, |pf| pf.set_vf_enable(request.enable, request.num_vfs))
    }

    fn probed_bars(&self) -> Result<[u32; 6], VirtualizationError> {
        self.check_alive()?;
        Ok(self.shared.probed_bars)
    }
}
