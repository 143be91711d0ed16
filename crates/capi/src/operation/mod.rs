//! Operations: each tracks one call at a time, whose work has a thread of its own while it runs.
//!
//! The functions are in `functions`; what the calls do is in `compute`.

mod functions;
#[cfg(test)]
mod tests;

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::compute::Compute;
use crate::document;
use crate::error::{Failure, codes};
use crate::gate::Gate;
use crate::guard::call_out;
use crate::handles::{Kind, Table};
use crate::process::Process;
use crate::system;
use crate::types::{
    HcsOperation, HcsSystem, Hresult, INFINITE, OperationCompletion, OperationType,
};

pub use functions::*;

static OPERATIONS: Table<Operation> = Table::new(Kind::Operation);

/// What an operation's handle names.
pub(crate) struct Operation {
    id: u64,
    process: Process,
    state: Mutex<State>,
    ended: Condvar,
    /// Of its callback; closed with its handle.
    gate: Gate,
}

struct State {
    /// Its own handle.
    handle: HcsOperation,
    context: *mut c_void,
    callback: Option<OperationCompletion>,
    call: Option<Call>,
}

// SAFETY: handles are numbers; the context is only handed back, or to the callback, which takes calls from any thread by
// the contract of `HcsCreateOperation`.
unsafe impl Send for State {}

impl State {
    /// How the call ended, if it has; whoever asks has noticed.
    fn ended(&mut self) -> Result<Option<Outcome>, Failure> {
        let Some(call) = &mut self.call else {
            return Err(Failure::new(
                codes::HCS_E_OPERATION_NOT_STARTED,
                "the operation has not been used in a call",
            ));
        };
        call.noticed |= call.outcome.is_some();
        Ok(call.outcome.clone())
    }

    /// The call ends only after the call into a device that this thread is inside.
    fn waits_for_this_thread(&self) -> bool {
        self.call.as_ref().is_some_and(|call| {
            let system = call.tracked.system.as_ref();
            call.tracked.waits_for_devices && system.is_some_and(|system| system.inside_call())
        })
    }
}

/// The call that it tracks, or tracked last.
struct Call {
    tracked: Tracked,
    outcome: Option<Outcome>,
    /// A callback was told that it has ended, or somebody has asked for its result.
    noticed: bool,
}

/// What a call is.
pub(crate) struct Tracked {
    pub(crate) kind: OperationType,
    /// The handle that it was made with, or makes.
    pub(crate) handle: HcsSystem,
    /// Until the call has ended.
    pub(crate) system: Option<Arc<Compute>>,
    /// It ends only after calls into devices of the system have.
    pub(crate) waits_for_devices: bool,
}

// SAFETY: a handle is a number.
unsafe impl Send for Tracked {}

/// How a call ended.
#[derive(Clone)]
struct Outcome {
    code: Hresult,
    document: Option<Arc<str>>,
    text: Option<Arc<str>>,
}

impl Outcome {
    fn of(result: Result<Option<String>, Failure>) -> Self {
        match result {
            Ok(document) => Self {
                code: codes::S_OK,
                document: document.map(Into::into),
                text: None,
            },
            Err(failure) => Self {
                code: failure.code,
                document: Some(document::of_failure(&failure).into()),
                text: Some(failure.text.into()),
            },
        }
    }

    fn result(&self) -> Result<(), Failure> {
        match &self.text {
            None => Ok(()),
            Some(text) => Err(Failure::new(self.code, text.to_string())),
        }
    }
}

/// The operation that a handle names, in the process that made it.
fn operation(handle: HcsOperation) -> Result<Arc<Operation>, Failure> {
    let operation = OPERATIONS.share(handle)?;
    operation.process.check("operation")?;
    Ok(operation)
}

/// Begins a call that an operation tracks.
///
/// # Errors
/// There is no such operation, it tracks a call that has not ended, or the system's callback is told of operations and
/// this one has a callback too.
pub(crate) fn begin(
    handle: HcsOperation,
    tracked: Tracked,
    work: impl FnOnce() -> Result<Option<String>, Failure> + Send + 'static,
) -> Result<(), Failure> {
    let operation = operation(handle)?;
    let mut state = operation.state();
    if state
        .call
        .as_ref()
        .is_some_and(|call| call.outcome.is_none())
    {
        return Err(Failure::new(
            codes::HCS_E_OPERATION_ALREADY_STARTED,
            "the operation tracks a call that has not ended: wait for it, or take another operation",
        ));
    }
    let told = tracked
        .system
        .as_ref()
        .is_some_and(|system| system.events().of_operations());
    if told && state.callback.is_some() {
        return Err(Failure::new(
            codes::HCS_E_OPERATION_SYSTEM_CALLBACK_ALREADY_SET,
            "the operation has a callback, and the compute system's is told of operations \
             (HcsEventOptionEnableOperationCallbacks): take an operation without",
        ));
    }
    let worker = {
        let operation = Arc::clone(&operation);
        move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err(Failure::fault()));
            operation.end(Outcome::of(result));
        }
    };
    std::thread::Builder::new()
        .name("hcs-operation".to_owned())
        .spawn(worker)
        .map_err(|error| {
            Failure::new(
                codes::E_OUTOFMEMORY,
                format!("there is no thread for the operation: {error}"),
            )
        })?;
    // The thread cannot end the call before this is let go.
    state.call = Some(Call {
        tracked,
        outcome: None,
        noticed: false,
    });
    Ok(())
}

impl Operation {
    /// A new one, as its handle.
    fn create(
        context: *mut c_void,
        callback: Option<OperationCompletion>,
    ) -> Result<HcsOperation, Failure> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let operation = Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            process: Process::this(),
            state: Mutex::new(State {
                handle: std::ptr::null_mut(),
                context,
                callback,
                call: None,
            }),
            ended: Condvar::new(),
            gate: Gate::default(),
        });
        let handle = OPERATIONS.insert(Arc::clone(&operation))?;
        operation.state().handle = handle;
        Ok(handle)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how its call ended, and tells whoever wants to know.
    fn end(&self, outcome: Outcome) {
        let mut state = self.state();
        let Some(call) = &mut state.call else { return };
        call.outcome = Some(outcome);
        // An operation that is kept must not keep the system's handle open: its VM may be one that ends with the last.
        let system = call.tracked.system.take();
        self.ended.notify_all();
        self.tell(state);
        if let Some(system) = &system
            && let Some(pass) = self.gate.enter()
        {
            let handle = self.state().handle;
            pass.run(|| system.events().operation_ended(handle));
        }
    }

    /// Calls the callback for a call that has ended.
    fn tell(&self, mut state: MutexGuard<'_, State>) {
        let Some(callback) = state.callback else {
            return;
        };
        let Some(pass) = self.gate.enter() else {
            return;
        };
        if let Some(call) = &mut state.call {
            call.noticed = true;
        }
        let (handle, context) = (state.handle, state.context);
        drop(state);
        pass.run(|| {
            // SAFETY: by the contract of `HcsCreateOperation` and `HcsSetOperationCallback`.
            call_out("HCS_OPERATION_COMPLETION", || unsafe {
                callback(handle, context);
            });
        });
    }

    /// Sets the callback. A call that has ended and that nobody has noticed is told of now.
    fn set_callback(
        self: &Arc<Self>,
        context: *mut c_void,
        callback: Option<OperationCompletion>,
    ) -> Result<(), Failure> {
        let mut state = self.state();
        state.context = context;
        state.callback = callback;
        let missed = state
            .call
            .as_ref()
            .is_some_and(|call| call.outcome.is_some() && !call.noticed);
        if callback.is_none() || !missed {
            return Ok(());
        }
        let operation = Arc::clone(self);
        std::thread::Builder::new()
            .name("hcs-operation".to_owned())
            .spawn(move || operation.tell(operation.state()))
            .map(drop)
            .map_err(|error| {
                Failure::new(
                    codes::E_OUTOFMEMORY,
                    format!("there is no thread for the callback: {error}"),
                )
            })
    }

    /// How its call ended.
    fn outcome(&self) -> Result<Outcome, Failure> {
        let mut state = self.state();
        state.ended()?.ok_or_else(|| {
            Failure::new(
                codes::HCS_E_OPERATION_PENDING,
                "the operation's call has not ended",
            )
        })
    }

    /// How its call ended; waits for that, at most `limit` milliseconds.
    fn wait(&self, limit: u32) -> Result<Outcome, Failure> {
        let mut state = self.state();
        let deadline =
            (limit != INFINITE).then(|| Instant::now() + Duration::from_millis(u64::from(limit)));
        loop {
            if let Some(outcome) = state.ended()? {
                return Ok(outcome);
            }
            if limit > 0 && state.waits_for_this_thread() {
                return Err(Failure::new(
                    codes::POSSIBLE_DEADLOCK,
                    "waited for inside a callback of a device of that compute system, which the call waits for: wait \
                     on another thread",
                ));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(Failure::new(
                    codes::HCS_E_OPERATION_TIMEOUT,
                    format!("the call did not end within {limit} ms; it goes on"),
                ));
            }
            state = match left {
                None => self
                    .ended
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = self.ended.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// The handle of the compute system whose call it tracks, if that is open.
    fn system(&self) -> HcsSystem {
        let state = self.state();
        let handle = state.call.as_ref().map(|call| call.tracked.handle);
        handle
            .filter(|&handle| system::is_open(handle))
            .unwrap_or(std::ptr::null_mut())
    }
}
