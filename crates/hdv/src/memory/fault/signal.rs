//! The process's SIGBUS handler: repairs accesses to our mappings, and passes on everything else
//! to whoever handled the signal before.

use std::mem;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use libc::{c_int, c_void, siginfo_t};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

use super::registry;

/// Who handled the signal before; null is the default action. Never freed, since a handler may run
/// at any time.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

/// It wanted to be called once only (`SA_RESETHAND`), and was.
static PREVIOUS_SPENT: AtomicBool = AtomicBool::new(false);

/// Asked for before the handler needs it.
static PAGE_SIZE: AtomicUsize = AtomicUsize::new(4096);

/// Installs the handler, the first time.
///
/// # Errors
/// What the kernel says.
pub(super) fn install() -> Result<(), Errno> {
    static INSTALLED: OnceLock<Result<(), Errno>> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        PAGE_SIZE.store(rustix::param::page_size(), Ordering::Relaxed);
        // Known before the handler can run.
        keep(sigaction(None)?);
        let mut action = empty_action();
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_bus_error;
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // Another thread may have installed one in between.
        keep(sigaction(Some(&action))?);
        Ok(())
    })
}

/// Lets SIGBUS through to the calling thread: where it is blocked, the kernel ends the process instead of
/// calling a handler.
pub(super) fn unblock() {
    // SAFETY: the sets are initialized by `sigemptyset`; changing the calling thread's mask harms
    // no memory.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGBUS);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
    }
}

fn empty_action() -> libc::sigaction {
    // SAFETY: all fields are integers, sets of bits or optional pointers; all zeros is the default
    // action with no flags and an empty mask.
    unsafe { mem::zeroed() }
}

/// Changes what SIGBUS does, if to be changed; returns what it did before. Async-signal-safe.
fn sigaction(new: Option<&libc::sigaction>) -> Result<libc::sigaction, Errno> {
    let mut old = empty_action();
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both point to actions or are null. The handler that is installed with this one is
    // async-signal-safe and lives as long as the process.
    if unsafe { libc::sigaction(libc::SIGBUS, new, &raw mut old) } == 0 {
        Ok(old)
    } else {
        Err(Errno::INVAL)
    }
}

fn keep(action: libc::sigaction) {
    // SAFETY: null or never freed.
    let kept = unsafe { PREVIOUS.load(Ordering::Acquire).as_ref() };
    if kept.is_none_or(|kept| kept.sa_sigaction != action.sa_sigaction) {
        PREVIOUS.store(Box::into_raw(Box::new(action)), Ordering::Release);
    }
}

/// Everything called from here is async-signal-safe: atomics and system calls, no allocation, no lock.
extern "C" fn on_bus_error(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a valid `info` to a handler installed with SA_SIGINFO, and `errno` is
    // the calling thread's own.
    let (code, address, errno) = unsafe {
        (
            (*info).si_code,
            (*info).si_addr() as usize,
            *libc::__errno_location(),
        )
    };
    // Only what an access of this thread brought: not what somebody sent (code 0 or less), and not the
    // early notice of broken memory that nobody has accessed (BUS_MCEERR_AO).
    let accessed = matches!(
        code,
        libc::BUS_ADRERR | libc::BUS_OBJERR | libc::BUS_MCEERR_AR
    );
    let repaired = accessed && repair(address);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    if !repaired {
        pass_on(signal, code, info, context);
    }
}

/// Puts zero pages where the calling thread could not access `address`; whether the access can
/// be repeated.
fn repair(address: usize) -> bool {
    let Some(found) = registry::find(address) else {
        return false;
    };
    // SAFETY: the calling thread is accessing the mapping, so it stays registered meanwhile, and its loss
    // lives as long.
    let loss = unsafe { &*found.loss };
    let seen = loss.seen();
    if is_accessible(address, found.writeable) && loss.excuse() {
        return true;
    }
    // Before the pages: who reads a zero page and looks afterwards sees the loss.
    loss.mark(seen);
    let mut protection = ProtFlags::READ;
    protection.set(ProtFlags::WRITE, found.writeable);
    // SAFETY: the range is a whole mapping of ours, which stays ours during this access. It is replaced in
    // one step by pages with the same rights; memory that is shared with others may
    // change at any time anyway.
    let replaced = unsafe {
        mmap_anonymous(
            ptr::without_provenance_mut(found.range.start),
            found.range.len(),
            protection,
            MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE,
        )
    };
    replaced.is_ok()
}

/// Whether the page can be accessed by now: another thread may have repaired it, or the range
/// was unmapped. A kernel older than 5.14 cannot say.
fn is_accessible(address: usize, writeable: bool) -> bool {
    let size = PAGE_SIZE.load(Ordering::Relaxed);
    // With write access too: a page of a full file system can be read but not written.
    let advice = if writeable {
        Advice::LinuxPopulateWrite
    } else {
        Advice::LinuxPopulateRead
    };
    // SAFETY: this accesses the page as the interrupted access would, and changes nothing in it.
    unsafe {
        madvise(
            ptr::without_provenance_mut(address & !(size - 1)),
            size,
            advice,
        )
    }
    .is_ok()
}

/// Does what would have happened without us.
fn pass_on(signal: c_int, code: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let sent = code <= 0;
    // SAFETY: null or never freed.
    let previous = unsafe { PREVIOUS.load(Ordering::Acquire).as_ref() }
        .filter(|_| !PREVIOUS_SPENT.load(Ordering::Acquire));
    let Some(previous) = previous.filter(|previous| previous.sa_sigaction != libc::SIG_DFL) else {
        return take_default(signal, sent);
    };
    if previous.sa_sigaction == libc::SIG_IGN {
        // What an access brings cannot be ignored.
        if !sent {
            take_default(signal, sent);
        }
        return;
    }
    if previous.sa_flags & libc::SA_RESETHAND != 0 {
        PREVIOUS_SPENT.store(true, Ordering::Release);
    }
    // The mask that the handler was to run with; the end of the signal restores the thread's own.
    //
    // SAFETY: the sets are initialized, and the calls are async-signal-safe.
    unsafe {
        libc::pthread_sigmask(
            libc::SIG_BLOCK,
            &raw const previous.sa_mask,
            ptr::null_mut(),
        );
    }
    if previous.sa_flags & libc::SA_NODEFER != 0 {
        unblock();
    }
    // SAFETY: it is neither of the special values, so it is a function of the kind that its flags
    // say, which was installed to be called just so.
    unsafe {
        if previous.sa_flags & libc::SA_SIGINFO != 0 {
            type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
            mem::transmute::<usize, Handler>(previous.sa_sigaction)(signal, info, context);
        } else {
            type Handler = extern "C" fn(c_int);
            mem::transmute::<usize, Handler>(previous.sa_sigaction)(signal);
        }
    }
}

/// Ends the process by the signal once the handler returns.
fn take_default(signal: c_int, sent: bool) {
    if sigaction(Some(&empty_action())).is_err() {
        std::process::abort();
    }
    // An access is repeated, and fails again; what was sent is sent again, and waits until
    // the handler has returned.
    if sent {
        // SAFETY: async-signal-safe.
        unsafe { libc::raise(signal) };
    }
}
