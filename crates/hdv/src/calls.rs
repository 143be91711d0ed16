//! Which device hosts' devices the current thread is calling into: what waits for such a call to end
//! must not be asked for from inside it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names a device host within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostToken(u64);

impl HostToken {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

thread_local! {
    /// The innermost call is the last: a device may be created, and so called, inside a call into another.
    static CALLS: RefCell<Vec<HostToken>> = const { RefCell::new(Vec::new()) };
}

/// A call that is under way on this thread.
pub(crate) struct Call(());

impl Call {
    pub(crate) fn enter(host: HostToken) -> Self {
        // Nothing to note while the thread ends: nobody tears a host down there.
        let _ = CALLS.try_with(|calls| calls.borrow_mut().push(host));
        Self(())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let _ = CALLS.try_with(|calls| calls.borrow_mut().pop());
    }
}

/// Whether this thread is inside a call into a device of `host`.
pub(crate) fn inside(host: HostToken) -> bool {
    CALLS
        .try_with(|calls| calls.borrow().contains(&host))
        .unwrap_or(false)
}
