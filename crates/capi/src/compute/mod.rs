//! Compute systems that workers own: what their handles name. The functions are in the modules below, by what they are for.

mod absent;
mod access;
mod events;
mod lifecycle;
mod properties;
mod query;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use hdv_compute::ComputeSystem;

use crate::error::{Failure, codes};
use crate::process::Process;

pub use absent::*;
pub use access::*;
pub use events::HcsSetComputeSystemCallback;
pub use lifecycle::*;
pub use properties::*;

use events::Events;

/// What the handle of a compute system names. The worker's handle is open as long as this is.
pub(crate) struct Compute {
    process: Process,
    creation: Mutex<Creation>,
    settled: Condvar,
    events: Events,
}

enum Creation {
    /// By an operation that has not ended.
    Pending,
    Done(ComputeSystem),
    /// Why not.
    Failed(i32, String),
}

impl Compute {
    /// One that is being created.
    pub(crate) fn creating() -> Arc<Self> {
        Arc::new(Self {
            process: Process::this(),
            creation: Mutex::new(Creation::Pending),
            settled: Condvar::new(),
            events: Events::default(),
        })
    }

    /// One that is there.
    fn of(system: ComputeSystem) -> Arc<Self> {
        let compute = Self::creating();
        *compute.creation() = Creation::Done(system);
        compute
    }

    fn creation(&self) -> MutexGuard<'_, Creation> {
        self.creation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its creation has ended.
    fn settle(self: &Arc<Self>, result: &Result<ComputeSystem, Failure>) {
        let mut creation = self.creation();
        *creation = match result {
            Ok(system) => {
                if self.events.has_receiver() {
                    self.listen(system);
                }
                Creation::Done(system.clone())
            }
            Err(failure) => Creation::Failed(failure.code, failure.text.to_string()),
        };
        self.settled.notify_all();
    }

    /// Has events told to the callback.
    fn listen(self: &Arc<Self>, system: &ComputeSystem) {
        let weak: Weak<Self> = Arc::downgrade(self);
        system.set_callback(Some(Arc::new(move |event| {
            if let Some(compute) = weak.upgrade() {
                compute.events.tell(event);
            }
        })));
    }

    /// It, once it has been created.
    ///
    /// # Errors
    /// It is another process's, or its creation failed.
    pub(crate) fn system(&self) -> Result<ComputeSystem, Failure> {
        self.system_by(None)
    }

    /// The same, waiting for the creation no longer than until `deadline`.
    ///
    /// # Errors
    /// As there; `HCS_E_OPERATION_TIMEOUT`.
    fn system_by(&self, deadline: Option<Instant>) -> Result<ComputeSystem, Failure> {
        self.process.check("compute system")?;
        let mut creation = self.creation();
        loop {
            match &*creation {
                Creation::Pending => {
                    let Some(deadline) = deadline else {
                        let waited = self.settled.wait(creation);
                        creation = waited.unwrap_or_else(PoisonError::into_inner);
                        continue;
                    };
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Failure::new(
                            codes::HCS_E_OPERATION_TIMEOUT,
                            "the compute system was still being created when the time was over",
                        ));
                    }
                    let waited = self.settled.wait_timeout(creation, left);
                    creation = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Creation::Done(system) => return Ok(system.clone()),
                Creation::Failed(code, text) => {
                    return Err(Failure::new(
                        *code,
                        format!("the compute system was not created: {text}"),
                    ));
                }
            }
        }
    }

    /// Whether this thread is inside a call into a device of it.
    pub(crate) fn inside_call(&self) -> bool {
        match &*self.creation() {
            Creation::Done(system) => system.inside_call(),
            Creation::Pending | Creation::Failed(..) => false,
        }
    }

    /// What is told of it.
    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// Fails inside a call into a device of it.
    fn check_outside_call(&self, what: &str) -> Result<(), Failure> {
        if self.inside_call() {
            return Err(Failure::new(
                codes::POSSIBLE_DEADLOCK,
                format!(
                    "{what} was called inside a callback of a device of that compute system, and would wait for it: call \
                     it on another thread"
                ),
            ));
        }
        Ok(())
    }
}
