//! What a compute system tells its handle's callback.

use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdv_compute::Event;

use super::{Compute, Creation};
use crate::error::{Failure, codes};
use crate::gate::Gate;
use crate::guard::{self, call_out};
use crate::strings::wide;
use crate::system::compute;
use crate::types::{
    EVENT_OPERATION_CALLBACK, EVENT_OPTION_OPERATION_CALLBACKS, EVENT_SERVICE_DISCONNECT,
    EVENT_SYSTEM_EXITED, EventCallback, HcsEvent, HcsOperation, HcsSystem, Hresult,
};

/// The callback of a handle, if it has one.
#[derive(Default)]
pub(crate) struct Events {
    receiver: Mutex<Option<Arc<Receiver>>>,
}

struct Receiver {
    callback: EventCallback,
    context: *mut c_void,
    of_operations: bool,
    gate: Gate,
}

// SAFETY: the context is only handed to the callback, which takes calls from any thread by the contract of
// `HcsSetComputeSystemCallback`.
unsafe impl Send for Receiver {}
// SAFETY: as above.
unsafe impl Sync for Receiver {}

impl Events {
    fn receiver(&self) -> MutexGuard<'_, Option<Arc<Receiver>>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_receiver(&self) -> bool {
        self.receiver().is_some()
    }

    /// Whether the callback is told when operations end.
    pub(crate) fn of_operations(&self) -> bool {
        self.receiver().as_ref().is_some_and(|to| to.of_operations)
    }

    fn set(&self, receiver: Receiver) -> Result<(), Failure> {
        let mut current = self.receiver();
        if current.is_some() {
            return Err(Failure::new(
                codes::HCS_E_OPERATION_SYSTEM_CALLBACK_ALREADY_SET,
                "the handle has a callback: take it back first, with a null one",
            ));
        }
        *current = Some(Arc::new(receiver));
        Ok(())
    }

    /// Takes the callback back; it does not run afterwards.
    pub(crate) fn clear(&self) {
        let before = self.receiver().take();
        if let Some(before) = before {
            before.gate.close();
        }
    }

    /// An event of the system.
    pub(super) fn tell(&self, event: &Event) {
        match event {
            Event::Exited(status) => {
                let status = serde_json::to_string(status).unwrap_or_default();
                self.call(EVENT_SYSTEM_EXITED, Some(&status), std::ptr::null_mut());
            }
            Event::Disconnected => self.call(EVENT_SERVICE_DISCONNECT, None, std::ptr::null_mut()),
            _ => {}
        }
    }

    /// A call that an operation tracks has ended.
    pub(crate) fn operation_ended(&self, operation: HcsOperation) {
        if self.of_operations() {
            self.call(EVENT_OPERATION_CALLBACK, None, operation);
        }
    }

    fn call(&self, event_type: i32, data: Option<&str>, operation: HcsOperation) {
        let Some(receiver) = self.receiver().clone() else {
            return;
        };
        let Some(pass) = receiver.gate.enter() else {
            return;
        };
        let data = data.map(wide);
        let mut event = HcsEvent {
            event_type,
            event_data: data.as_ref().map_or(std::ptr::null(), Vec::as_ptr),
            operation,
        };
        pass.run(|| {
            // SAFETY: by the contract of `HcsSetComputeSystemCallback`; the event and its data live until after the call.
            call_out("HCS_EVENT_CALLBACK", || unsafe {
                (receiver.callback)(&raw mut event, receiver.context);
            });
        });
    }
}

impl Compute {
    fn set_callback(self: &Arc<Self>, receiver: Option<Receiver>) -> Result<(), Failure> {
        let Some(receiver) = receiver else {
            self.events.clear();
            return Ok(());
        };
        // Held, so that a creation that ends meanwhile finds the callback, or this finds the system.
        let creation = self.creation();
        self.events.set(receiver)?;
        match &*creation {
            Creation::Done(system) => self.listen(system),
            Creation::Pending | Creation::Failed(..) => {}
        }
        Ok(())
    }
}

/// Sets the callback that is told of a compute system's events, or takes it back.
///
/// # Safety
/// `callback` is null or keeps to its type, and may be called with `context` on any thread until it is taken back or the
/// handle closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsSetComputeSystemCallback(
    system: HcsSystem,
    options: i32,
    context: *const c_void,
    callback: Option<EventCallback>,
) -> Hresult {
    guard::result(|| {
        let compute = compute(system)?;
        if options & !EVENT_OPTION_OPERATION_CALLBACKS != 0 {
            return Err(Failure::argument(format!(
                "{options:#x} are no HCS_EVENT_OPTIONS that there are: 0 (none) and 1 (operation callbacks)"
            )));
        }
        compute.set_callback(callback.map(|callback| Receiver {
            callback,
            context: context.cast_mut(),
            of_operations: options & EVENT_OPTION_OPERATION_CALLBACKS != 0,
            gate: Gate::default(),
        }))
    })
}
