//! What happens when a mapped file shrinks: the kernel answers an access beyond its new end with SIGBUS,
//! which would end the process and every device in it. Here it costs the one device whose memory it is.
//!
//! Every mapping is entered in a registry ([`register`]) that the signal's handler (`signal`) searches
//! without a lock. The handler puts private zero pages in the place of the mapping and notes in its
//! [`Loss`] that what is read there is not the file's any more; the access is then repeated and
//! succeeds. What a loss means for a device is not here.

mod loss;
mod registry;
mod signal;

pub(crate) use loss::Loss;
pub(crate) use registry::Registration;

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use rustix::io::Errno;

/// Lets SIGBUS through to the calling thread, once: where it is blocked, as in programs that take their
/// signals by signalfd, the kernel would end the process instead of calling the handler. To be called
/// before a thread accesses mapped files.
pub(crate) fn let_through() {
    thread_local! {
        static LET_THROUGH: Cell<bool> = const { Cell::new(false) };
    }
    if !LET_THROUGH.get() {
        signal::unblock();
        LET_THROUGH.set(true);
    }
}

/// Sees to it that an access to `range` survives when the file behind it shrinks, until the
/// registration is dropped, which must be before the range is unmapped. `writeable` says how it is mapped.
///
/// Lets SIGBUS through to the calling thread, which may go on to access the range by pointers.
///
/// # Errors
/// `ENOMEM` beyond the registry's bound; otherwise why no handler can be installed.
pub(super) fn register(
    range: Range<usize>,
    writeable: bool,
    loss: &Arc<Loss>,
) -> Result<Registration, Errno> {
    signal::install()?;
    signal::unblock();
    Registration::new(range, writeable, Arc::clone(loss))
}
