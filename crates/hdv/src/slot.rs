//! The place of one function in a host: its lifecycle, and what answers when it is gone.
//!
//! Everything that happens to a device goes through here, so that calls never overlap, `start` and
//! `stop` alternate, `teardown` comes exactly once, and a device that panicked or was removed
//! leaves a stub: reads are all ones, writes are dropped.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdv_pci::{BarIndex, Identity};
use rustix::time::{ClockId, clock_gettime};

use crate::device::DeviceError;
use crate::function::{Function, ResetScope};
use crate::interrupts::{InterruptKind, Interrupts};
use crate::memory::GuestMemory;

/// A call into a device that takes longer than this is logged: QEMU gives up after five seconds.
const SLOW_CALL: Duration = Duration::from_secs(1);

/// Where a device is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

/// See the module's documentation.
pub(crate) struct Slot {
    name: String,
    identity: Identity,
    bar_sizes: [u64; BarIndex::ALL.len()],
    memory: GuestMemory,
    interrupts: Interrupts,
    /// Changed only with `function` locked; read without, since a call into the device may take long.
    state: AtomicU8,
    function: Mutex<Option<Box<dyn Function>>>,
}

impl Slot {
    /// Takes a function that has not been powered on.
    ///
    /// # Errors
    /// It panicked; it has been torn down then.
    pub(crate) fn new(name: &str, function: Box<dyn Function>) -> Result<Self, DeviceError> {
        let described = caught(|| {
            (
                function.identity(),
                BarIndex::ALL.map(|bar| function.bar_size(bar)),
                function.memory().clone(),
                function.interrupts().clone(),
            )
        });
        let Some((identity, bar_sizes, memory, interrupts)) = described else {
            end(name, function);
            return Err(DeviceError::new(
                "the device panicked when it was asked what it is",
            ));
        };
        Ok(Self {
            name: name.to_owned(),
            identity,
            bar_sizes,
            memory,
            interrupts,
            state: AtomicU8::new(DeviceState::PoweredOff as u8),
            function: Mutex::new(Some(function)),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Size of a BAR in bytes, 0 if there is none.
    pub(crate) fn bar_size(&self, bar: BarIndex) -> u64 {
        self.bar_sizes[bar.get()]
    }

    pub(crate) fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    pub(crate) fn interrupts(&self) -> &Interrupts {
        &self.interrupts
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
        let result = caught(|| call(function));
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
        }
        result
    }

    /// Powers the function on.
    pub(crate) fn power_on(&self) -> Result<(), DeviceError> {
        let mut function = self.lock();
        if self.state() != DeviceState::PoweredOff {
            return Ok(());
        }
        let result = self
            .call(&mut function, "initialize", |function| function.power_on())
            .unwrap_or_else(|| Err(DeviceError::new("the device panicked in initialize")));
        self.set_state(match result {
            Ok(()) => DeviceState::Stopped,
            Err(_) => DeviceState::Failed,
        });
        result
    }

    /// Virtual processors are about to run. No error for one that is gone: its guest has a stub.
    pub(crate) fn start(&self) -> Result<(), DeviceError> {
        let mut function = self.lock();
        if self.state() != DeviceState::Stopped {
            return Ok(());
        }
        match self.call(&mut function, "start", |function| function.start()) {
            Some(Ok(())) => {
                self.set_state(DeviceState::Started);
                Ok(())
            }
            Some(Err(error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Virtual processors are about to stop.
    pub(crate) fn stop(&self) {
        self.stop_locked(&mut self.lock());
    }

    fn stop_locked(&self, function: &mut Option<Box<dyn Function>>) {
        if self.state() == DeviceState::Started {
            self.set_state(DeviceState::Stopped);
            self.call(function, "stop", |function| function.stop());
        }
    }

    /// Its client left: stopped, without memory or receivers of interrupts, and reset.
    pub(crate) fn client_left(&self) {
        let mut function = self.lock();
        self.stop_locked(&mut function);
        self.memory.clear();
        self.interrupts.disconnect(InterruptKind::Msi);
        self.interrupts.disconnect(InterruptKind::MsiX);
        self.call(&mut function, "reset", |function| {
            function.reset(ResetScope::Function);
        });
    }

    /// Tears the function down. What is left answers as a stub.
    pub(crate) fn remove(&self) {
        let mut function = self.lock();
        self.stop_locked(&mut function);
        if let Some(function) = function.take() {
            // Also one that panicked before: it may have threads to end.
            end(&self.name, function);
        }
        self.set_state(DeviceState::Gone);
        self.memory.clear();
        self.interrupts.disconnect(InterruptKind::Msi);
        self.interrupts.disconnect(InterruptKind::MsiX);
    }

    pub(crate) fn reset(&self, scope: ResetScope) {
        self.call(&mut self.lock(), "reset", |function| function.reset(scope));
    }

    pub(crate) fn config_read(&self, offset: u16, data: &mut [u8]) {
        let done = self.call(&mut self.lock(), "a config space read", |function| {
            function.config_read(offset, data);
        });
        if done.is_none() {
            data.fill(0xff);
        }
    }

    pub(crate) fn config_write(&self, offset: u16, data: &[u8]) {
        self.call(&mut self.lock(), "a config space write", |function| {
            function.config_write(offset, data);
        });
    }

    pub(crate) fn bar_read(&self, bar: BarIndex, offset: u64, data: &mut [u8]) {
        let done = self.call(&mut self.lock(), "a register read", |function| {
            function.bar_read(bar, offset, data);
        });
        if done.is_none() {
            data.fill(0xff);
        }
    }

    pub(crate) fn bar_write(&self, bar: BarIndex, offset: u64, data: &[u8]) {
        self.call(&mut self.lock(), "a register write", |function| {
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
fn end(name: &str, mut function: Box<dyn Function>) {
    if caught(|| function.teardown()).is_none() {
        tracing::error!(device = name, "the device panicked in teardown");
    }
    if caught(|| drop(function)).is_none() {
        tracing::error!(device = name, "the device panicked when it was dropped");
    }
}

/// Time since some moment, a few milliseconds exact: reading the exact clock twice would be a
/// noticeable part of an access.
fn coarse_now() -> Duration {
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
