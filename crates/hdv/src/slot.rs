//! The place of one function in a host: its lifecycle, and what answers when it is gone.
//!
//! Everything that happens to a device goes through here, so that calls never overlap, `start` and
//! `stop` alternate, `teardown` comes exactly once, and a device that panicked or was removed
//! leaves a stub: reads are all ones, writes are dropped.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hdv_pci::spec::header::INTERRUPT_PIN;
use hdv_pci::{BarIndex, DetectedError, Identity};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::access::{self, BarAccess};
use crate::calls::{self, Call, HostToken};
use crate::carrier::FunctionCarrier;
use crate::device::DeviceError;
use crate::error::HostError;
use crate::function::{ConfigWrite, ErrorRecord, Function, ResetScope};
use crate::interrupts::{InterruptKind, Interrupts};
use crate::memory::GuestMemory;
use crate::mmio::Mmio;

/// A call into a device that takes longer than this is logged: QEMU gives up after five seconds.
const SLOW_CALL: Duration = Duration::from_secs(1);

/// Where a device is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// Created, not yet powered on.
    PoweredOff,
    /// Powered on; virtual processors do not run.
    Stopped,
    /// Virtual processors run.
    Started,
    /// It failed or panicked; only its teardown is left.
    Failed,
    /// Torn down. Its VM, if it has one, sees a stub.
    Gone,
}

impl DeviceState {
    /// By discriminant.
    const ALL: [Self; 5] = [
        Self::PoweredOff,
        Self::Stopped,
        Self::Started,
        Self::Failed,
        Self::Gone,
    ];

    /// There is a device that answers.
    pub(crate) fn is_alive(self) -> bool {
        matches!(self, Self::Stopped | Self::Started)
    }
}

/// What a function says of itself once it is powered on.
struct Description {
    identity: Identity,
    bar_sizes: [u64; BarIndex::ALL.len()],
}

/// See the module's documentation.
pub(crate) struct Slot {
    name: String,
    host: HostToken,
    /// Of what the function brings.
    carrier: Option<Arc<dyn FunctionCarrier>>,
    /// Known from power-on.
    description: OnceLock<Description>,
    /// Why it could not be powered on.
    refusal: OnceLock<DeviceError>,
    /// Where clients find it, once they do.
    socket: OnceLock<Arc<Path>>,
    memory: GuestMemory,
    interrupts: Interrupts,
    mmio: Mmio,
    /// A client has agreed on a version and has not left.
    has_client: AtomicBool,
    /// That client's first use has come: processors that run are this device's business. Changed only with `function`
    /// locked.
    in_use: AtomicBool,
    /// With what the last `start` failed, if it did.
    start_failure: Mutex<Option<DeviceError>>,
    /// Changed only with `function` locked; read without, since a call into the device may take long.
    state: AtomicU8,
    function: Mutex<Option<Box<dyn Function>>>,
}

impl Slot {
    /// Takes a function that has not been powered on, and tells it who carries what it brings.
    ///
    /// # Errors
    /// It panicked; it has been torn down then.
    pub(crate) fn new(
        name: &str,
        host: HostToken,
        mut function: Box<dyn Function>,
        carrier: Option<Arc<dyn FunctionCarrier>>,
    ) -> Result<Self, DeviceError> {
        let handles = caught(|| {
            if let Some(carrier) = &carrier {
                function.carried_by(Arc::clone(carrier));
            }
            (
                function.memory().clone(),
                function.interrupts().clone(),
                function.mmio().clone(),
            )
        });
        let Some((memory, interrupts, mmio)) = handles else {
            end(name, host, function);
            return Err(DeviceError::new(
                "the device panicked before it was powered on, when it was given to its host",
            ));
        };
        Ok(Self {
            name: name.to_owned(),
            host,
            carrier,
            description: OnceLock::new(),
            refusal: OnceLock::new(),
            socket: OnceLock::new(),
            memory,
            interrupts,
            mmio,
            has_client: AtomicBool::new(false),
            in_use: AtomicBool::new(false),
            start_failure: Mutex::default(),
            state: AtomicU8::new(DeviceState::PoweredOff as u8),
            function: Mutex::new(Some(function)),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Who it is, once it has been powered on.
    pub(crate) fn identity(&self) -> Option<Identity> {
        Some(self.description.get()?.identity)
    }

    /// Size of a BAR in bytes at power-on, 0 if there is none.
    pub(crate) fn bar_size(&self, bar: BarIndex) -> u64 {
        self.description
            .get()
            .map_or(0, |description| description.bar_sizes[bar.get()])
    }

    pub(crate) fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    pub(crate) fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    pub(crate) fn mmio(&self) -> &Mmio {
        &self.mmio
    }

    pub(crate) fn state(&self) -> DeviceState {
        let state = self.state.load(Ordering::SeqCst);
        DeviceState::ALL[usize::from(state)]
    }

    fn set_state(&self, state: DeviceState) {
        self.state.store(state as u8, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<dyn Function>>> {
        self.function.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls into the function, unless it failed or is gone. A panic makes it fail.
    fn call<R>(
        &self,
        function: &mut Option<Box<dyn Function>>,
        what: &'static str,
        call: impl FnOnce(&mut dyn Function) -> R,
    ) -> Option<R> {
        if self.state() == DeviceState::Failed {
            return None;
        }
        let function = function.as_deref_mut()?;
        let begun = coarse_now();
        let result = {
            let _call = Call::enter(self.host);
            caught(|| call(function))
        };
        let taken = coarse_now().saturating_sub(begun);
        if taken > SLOW_CALL {
            tracing::warn!(
                device = self.name,
                "{what} took {taken:?}; a VMM that waits longer than its time-out, five seconds \
                 for QEMU, disconnects the device"
            );
        }
        if result.is_none() {
            tracing::error!(
                device = self.name,
                "the device panicked in {what}: its guest reads all ones from now on"
            );
            self.set_state(DeviceState::Failed);
            self.mmio.end();
        }
        result
    }

    /// Calls into the function on the guest's behalf: not once guest memory is lost, since what the
    /// device has seen of it is not true any more.
    fn access<R>(
        &self,
        what: &'static str,
        call: impl FnOnce(&mut dyn Function) -> R,
    ) -> Option<R> {
        let mut function = self.lock();
        let result = if self.memory.is_lost() {
            None
        } else {
            self.call(&mut function, what, call)
        };
        if !self.memory.is_lost() {
            return result;
        }
        if self.state() == DeviceState::Started {
            tracing::error!(
                device = self.name,
                "the VMM's memory file has shrunk: the device is stopped until the VMM leaves"
            );
            self.stop_locked(&mut function);
        }
        None
    }

    /// It is served there from now on.
    pub(crate) fn served_on(&self, socket: Arc<Path>) {
        self.socket.get_or_init(|| socket);
    }

    /// Where clients find it, if they ever did.
    pub(crate) fn socket(&self) -> Option<&Path> {
        self.socket.get().map(|socket| &**socket)
    }

    /// Powers the function on, unless it was already. No error for one that is gone: its guest has a stub.
    ///
    /// # Errors
    /// The device's own, again each time.
    pub(crate) fn power_on(&self, configuration: &[String]) -> Result<(), DeviceError> {
        let mut function = self.lock();
        match (self.state(), self.refusal.get()) {
            (DeviceState::Gone, _) => return Ok(()),
            (_, Some(refusal)) => return Err(refusal.clone()),
            (DeviceState::PoweredOff, None) => {}
            (_, None) => return Ok(()),
        }
        let result = self
            .call(&mut function, "initialize", |function| {
                function.power_on(configuration)?;
                Ok(Description {
                    identity: function.identity(),
                    bar_sizes: BarIndex::ALL.map(|bar| function.bar_size(bar)),
                })
            })
            .unwrap_or_else(|| Err(DeviceError::new("the device panicked in initialize")))
            .map(|description| {
                self.description.get_or_init(|| description);
            });
        self.set_state(match &result {
            Ok(()) => DeviceState::Stopped,
            Err(error) => {
                self.refusal.get_or_init(|| error.clone());
                DeviceState::Failed
            }
        });
        result
    }

    /// A client uses it for the first time: as far as it can be told, virtual processors are about to run. No error
    /// for one that is gone, or whose memory is lost: its guest has a stub.
    pub(crate) fn start(&self) -> Result<(), DeviceError> {
        let mut function = self.lock();
        self.in_use.store(true, Ordering::SeqCst);
        self.start_locked(&mut function)
    }

    /// Virtual processors are about to run again; as [`Slot::start`], but for what no client has used yet, which
    /// starts when one does.
    pub(crate) fn resume(&self) -> Result<(), DeviceError> {
        let mut function = self.lock();
        if !self.in_use.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.start_locked(&mut function)
    }

    fn start_locked(&self, function: &mut Option<Box<dyn Function>>) -> Result<(), DeviceError> {
        if self.state() != DeviceState::Stopped || self.memory.is_lost() {
            return Ok(());
        }
        let started = self.call(function, "start", Function::start);
        let (result, failure) = match started {
            Some(Ok(())) => {
                self.set_state(DeviceState::Started);
                (Ok(()), None)
            }
            Some(Err(error)) => (Err(error.clone()), Some(error)),
            None => (
                Ok(()),
                Some(DeviceError::new("the device panicked in start")),
            ),
        };
        *self
            .start_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = failure;
        result
    }

    /// With what the last `start` failed, if it did; never waits for a call.
    pub(crate) fn start_failure(&self) -> Option<DeviceError> {
        self.start_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Virtual processors are about to stop.
    pub(crate) fn stop(&self) {
        self.stop_locked(&mut self.lock());
    }

    fn stop_locked(&self, function: &mut Option<Box<dyn Function>>) {
        if self.state() == DeviceState::Started {
            self.set_state(DeviceState::Stopped);
            self.call(function, "stop", Function::stop);
        }
    }

    pub(crate) fn has_client(&self) -> bool {
        self.has_client.load(Ordering::SeqCst)
    }

    /// A client has it from now on.
    pub(crate) fn client_came(&self) {
        self.has_client.store(true, Ordering::SeqCst);
    }

    /// Its client left: stopped, without memory or receivers of interrupts, and reset.
    pub(crate) fn client_left(&self) {
        let mut function = self.lock();
        self.stop_locked(&mut function);
        self.in_use.store(false, Ordering::SeqCst);
        self.memory.clear();
        self.mmio.client_left();
        self.interrupts.disconnect(InterruptKind::Msi);
        self.interrupts.disconnect(InterruptKind::MsiX);
        // Until then what it had, sections that it mapped too, was still its own.
        self.has_client.store(false, Ordering::SeqCst);
        self.call(&mut function, "reset", |function| {
            function.reset(ResetScope::Function);
        });
    }

    /// Tears the function down. What is left answers as a stub.
    pub(crate) fn remove(&self) {
        let mut function = self.lock();
        self.stop_locked(&mut function);
        self.mmio.end();
        if let Some(function) = function.take() {
            // Also one that panicked before: it may have threads to end.
            end(&self.name, self.host, function);
        }
        self.mmio.close();
        self.set_state(DeviceState::Gone);
        self.memory.close();
        self.interrupts.close();
    }

    pub(crate) fn reset(&self, scope: ResetScope) {
        self.access("reset", |function| function.reset(scope));
    }

    /// The client has connected or disconnected interrupt vectors.
    pub(crate) fn interrupts_changed(&self) {
        self.access("a change of its interrupts", |function| {
            function.interrupts_changed();
        });
    }

    /// The sizes of its BARs now, in bytes; `None` if it failed or is gone.
    pub(crate) fn bar_sizes_now(&self) -> Option<[u64; BarIndex::ALL.len()]> {
        self.access("a look at its BARs", |function| {
            BarIndex::ALL.map(|bar| function.bar_size(bar))
        })
    }

    /// Software has numbered the bus that it is on.
    pub(crate) fn bus_numbered(&self, secondary: u8, subordinate: u8) {
        self.access("a change of its bus numbers", |function| {
            function.bus_numbered(secondary, subordinate);
        });
    }

    /// The function records an error; `None` if it failed or is gone.
    pub(crate) fn record_error(&self, error: DetectedError) -> Option<ErrorRecord> {
        self.access("the record of an error", |function| {
            function.record_error(error)
        })
    }

    /// Calls into the function as an `F`, as one of its calls; `None` if it is none, failed or is gone.
    pub(crate) fn with<F: Function, R>(
        &self,
        what: &'static str,
        call: impl FnOnce(&mut F) -> R,
    ) -> Option<R> {
        let done = self.call(&mut self.lock(), what, |function| {
            (function as &mut dyn Any).downcast_mut().map(call)
        });
        // The lock is free again.
        if let Some(carrier) = &self.carrier {
            carrier.settled();
        }
        done?
    }

    pub(crate) fn config_read(&self, offset: u16, data: &mut [u8]) {
        let done = self.access("a config space read", |function| {
            function.config_read(offset, data);
        });
        if done.is_none() {
            read_nobody(offset, data);
        }
    }

    pub(crate) fn config_read_as_vf(&self, offset: u16, data: &mut [u8]) {
        let done = self.access("a config space read of a VF", |function| {
            function.config_read_as_vf(offset, data);
        });
        if done.is_none() {
            data.fill(0xff);
        }
    }

    pub(crate) fn config_write_as_vf(&self, offset: u16, data: &[u8]) -> ConfigWrite {
        self.access("a config space write of a VF", |function| {
            function.config_write_as_vf(offset, data)
        })
        .unwrap_or(ConfigWrite::Registers)
    }

    /// # Errors
    /// This thread is inside a call into a device of the host, which what follows would wait for.
    pub(crate) fn check_outside(&self) -> Result<(), HostError> {
        if calls::inside(self.host) {
            return Err(HostError::InsideCall);
        }
        Ok(())
    }

    pub(crate) fn config_write(&self, offset: u16, data: &[u8]) -> ConfigWrite {
        self.access("a config space write", |function| {
            function.config_write(offset, data)
        })
        .unwrap_or(ConfigWrite::Registers)
    }

    pub(crate) fn bar_read(&self, bar: BarIndex, offset: u64, data: &mut [u8]) {
        if self.mmio.is_empty() || self.memory.is_lost() {
            return self.intercept_read(bar, offset, data);
        }
        access::split(offset, data.len(), |offset, range| {
            let data = &mut data[range];
            if !self
                .mmio
                .read(BarAccess::new(bar, offset, data.len()), data)
            {
                self.intercept_read(bar, offset, data);
            }
        });
    }

    fn intercept_read(&self, bar: BarIndex, offset: u64, data: &mut [u8]) {
        let done = self.access("a register read", |function| {
            function.bar_read(bar, offset, data);
        });
        if done.is_none() {
            data.fill(0xff);
        }
    }

    pub(crate) fn bar_write(&self, bar: BarIndex, offset: u64, data: &[u8]) {
        if self.mmio.is_empty() || self.memory.is_lost() {
            return self.intercept_write(bar, offset, data);
        }
        access::split(offset, data.len(), |offset, range| {
            let data = &data[range];
            if !self
                .mmio
                .write(BarAccess::new(bar, offset, data.len()), data)
            {
                self.intercept_write(bar, offset, data);
            }
        });
    }

    fn intercept_write(&self, bar: BarIndex, offset: u64, data: &[u8]) {
        self.access("a register write", |function| {
            function.bar_write(bar, offset, data);
        });
    }
}

/// Calls into a device; `None` if it panicked.
pub(crate) fn caught<R>(call: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => Some(result),
        Err(payload) => {
            // Not dropped: what a device panics with may panic in turn.
            std::mem::forget(payload);
            None
        }
    }
}

/// Tears a function down and drops it.
fn end(name: &str, host: HostToken, mut function: Box<dyn Function>) {
    let _call = Call::enter(host);
    if caught(|| function.teardown()).is_none() {
        tracing::error!(device = name, "the device panicked in teardown");
    }
    if caught(|| drop(function)).is_none() {
        tracing::error!(device = name, "the device panicked when it was dropped");
    }
}

/// Time since some moment, a few milliseconds exact: reading the exact clock twice would be a
/// noticeable part of an access.
pub(crate) fn coarse_now() -> Duration {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    // The clock begins at the start of the machine.
    Duration::try_from(now).unwrap_or_default()
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("name", &self.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The config space of a function that is gone: all ones, and no interrupt pin. QEMU reads the pin after
/// each reset, and complains of one that there cannot be.
pub(crate) fn read_nobody(offset: u16, data: &mut [u8]) {
    data.fill(0xff);
    if let Some(pin) = INTERRUPT_PIN
        .checked_sub(offset)
        .and_then(|index| data.get_mut(usize::from(index)))
    {
        *pin = 0;
    }
}
