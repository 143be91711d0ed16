//! What a restricted process tries: what it must not do, and what its devices need.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime};

use libc::{c_int, c_long};

pub(crate) type Try = fn() -> io::Result<()>;

/// All of them, by number.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, Try)> {
    DENIED.into_iter().chain(NEEDED)
}

/// What a restricted process must not do.
pub(crate) const DENIED: [(&str, Try); 32] = [
    ("open a file", || {
        std::fs::File::open("/etc/passwd").map(drop)
    }),
    ("open itself", || {
        std::fs::File::open("/proc/self/mem").map(drop)
    }),
    ("create a file", || {
        std::fs::write("/tmp/openhdv-restricted", "").map(drop)
    }),
    ("list a directory", || std::fs::read_dir("/").map(drop)),
    ("look at a file", || {
        std::fs::metadata("/etc/passwd").map(drop)
    }),
    ("connect a socket", || {
        UnixStream::connect("/run/nobody.sock").map(drop)
    }),
    ("connect to the network", || {
        std::net::TcpStream::connect("127.0.0.1:9").map(drop)
    }),
    ("send a datagram", || UnixDatagram::pair().map(drop)),
    ("start a program", || {
        std::process::Command::new("/bin/true").status().map(drop)
    }),
    ("start a program that is open", || {
        call(libc::SYS_execveat, [1, 0, 0, 0, libc::AT_EMPTY_PATH.into()])
    }),
    ("fork", fork),
    ("signal its creator", || signal(libc::SYS_kill)),
    ("signal a thread of its creator", || {
        signal(libc::SYS_tgkill)
    }),
    ("signal any thread", || signal(libc::SYS_tkill)),
    ("queue a signal", || {
        call(libc::SYS_rt_sigqueueinfo, [creator(), 0, 0, 0, 0])
    }),
    ("have a descriptor send signals", || {
        let (socket, _other) = UnixStream::pair()?;
        let owner = libc::F_SETOWN.into();
        call(
            libc::SYS_fcntl,
            [socket.as_raw_fd().into(), owner, creator(), 0, 0],
        )
    }),
    ("hold a process", || {
        call(libc::SYS_pidfd_open, [creator(), 0, 0, 0, 0])
    }),
    ("trace a process", || {
        let attach = libc::PTRACE_SEIZE.into();
        call(libc::SYS_ptrace, [attach, creator(), 0, 0, 0])
    }),
    ("read a process", || {
        call(libc::SYS_process_vm_readv, [creator(), 0, 0, 0, 0])
    }),
    ("limit a process", || {
        call(libc::SYS_prlimit64, [creator(), 0, 0, 0, 0])
    }),
    ("make code", || map(libc::PROT_READ | libc::PROT_EXEC)),
    ("make memory code", || {
        let page = libc::PROT_READ | libc::PROT_EXEC;
        call(libc::SYS_mprotect, [0, 4096, page.into(), 0, 0])
    }),
    ("make all memory code", || {
        call(libc::SYS_personality, [0x40_0000, 0, 0, 0, 0])
    }),
    ("make name spaces", || {
        call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0, 0])
    }),
    ("make a thread in new name spaces", || {
        let flags = libc::CLONE_THREAD | libc::CLONE_NEWUSER;
        call(libc::SYS_clone, [flags.into(), 0, 0, 0, 0])
    }),
    ("change what it is", || {
        let name = libc::PR_SET_DUMPABLE.into();
        call(libc::SYS_prctl, [name, 0, 0, 0, 0])
    }),
    ("type into a terminal", || {
        let letter = c_long::try_from(libc::TIOCSTI).expect("small");
        call(libc::SYS_ioctl, [0, letter, 0, 0, 0])
    }),
    ("run a program in the kernel", || {
        let (socket, _other) = UnixStream::pair()?;
        let socket = socket.as_raw_fd().into();
        let (level, filter) = (libc::SOL_SOCKET.into(), libc::SO_ATTACH_FILTER.into());
        call(libc::SYS_setsockopt, [socket, level, filter, 0, 0])
    }),
    ("run another program in the kernel", || {
        call(libc::SYS_bpf, [0; 5])
    }),
    ("ask by a ring", || {
        call(libc::SYS_io_uring_setup, [1, 0, 0, 0, 0])
    }),
    ("answer faults", || call(libc::SYS_userfaultfd, [0; 5])),
    ("unlock itself", || call(libc::SYS_seccomp, [0; 5])),
];

/// What devices, and the libraries under them, do.
pub(crate) const NEEDED: [(&str, Try); 13] = [
    ("write to its log", || {
        eprintln!("it can still be read");
        Ok(())
    }),
    ("panic, with a list of its callers", || {
        let panicked = std::panic::catch_unwind(|| panic!("as the test wants"));
        let callers = std::backtrace::Backtrace::force_capture().to_string();
        given(panicked.is_err() && !callers.is_empty())
    }),
    ("a thread that waits for a time", || {
        let woken = std::thread::Builder::new().name("waits".to_owned());
        let woken = woken.spawn(|| {
            let (lock, condition) = (Mutex::new(()), Condvar::new());
            let held = lock.lock().expect("a lock");
            let waited = condition.wait_timeout(held, Duration::from_millis(1));
            waited.is_ok() && std::thread::available_parallelism().is_ok()
        })?;
        given(woken.join().unwrap_or(false))
    }),
    ("a hash map in a thread of its own", || {
        let map = std::thread::spawn(|| HashMap::from([(1, 2)]));
        given(map.join().is_ok_and(|map| map.contains_key(&1)))
    }),
    ("memory that grows and shrinks", || {
        let mut bytes = vec![1_u8; 8 << 20];
        bytes.resize(64 << 20, 2);
        bytes.truncate(1);
        bytes.shrink_to_fit();
        given(bytes == [1])
    }),
    ("memory that may be written", || {
        map(libc::PROT_READ | libc::PROT_WRITE)
    }),
    ("the time of day", || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_err(io::Error::other)?.as_secs().cast_signed();
        // SAFETY: both are of this function; all zeros are a time.
        let local = unsafe {
            let mut local: libc::tm = std::mem::zeroed();
            libc::localtime_r(&raw const now, &raw mut local)
        };
        given(!local.is_null())
    }),
    ("a locale that is not there", || {
        // SAFETY: a text that ends; no other thread looks at the locale.
        unsafe { libc::setlocale(libc::LC_ALL, c"".as_ptr()) };
        Ok(())
    }),
    ("formatted text", || {
        let mut text = [0_u8; 16];
        // SAFETY: the buffer is as long as is said, and the arguments are as the format says.
        let length = unsafe {
            libc::snprintf(
                text.as_mut_ptr().cast(),
                text.len(),
                c"%d %.1f".as_ptr(),
                7,
                0.5_f64,
            )
        };
        given(length == 5)
    }),
    ("a socket with a time-out", || {
        let (socket, _other) = UnixStream::pair()?;
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        let read = io::Read::read(&mut &socket, &mut [0]);
        given(read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock))
    }),
    ("a pipe", || io::pipe().map(drop)),
    ("a timer", || {
        // SAFETY: two numbers.
        answered(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) }.into())
    }),
    ("to wait for a signal", wait_for_signal),
];

fn given(condition: bool) -> io::Result<()> {
    condition
        .then_some(())
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EIO))
}

fn answered(result: c_long) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A system call that does no harm where it is carried out: its pointers are null.
fn call(number: c_long, arguments: [c_long; 5]) -> io::Result<()> {
    let [one, two, three, four, five] = arguments;
    // SAFETY: the kernel looks at no memory of ours.
    answered(unsafe { libc::syscall(number, one, two, three, four, five) })
}

fn creator() -> c_long {
    std::os::unix::process::parent_id().into()
}

/// Whether its creator can be signalled: no signal is sent.
fn signal(how: c_long) -> io::Result<()> {
    let creator = creator();
    let arguments = match how {
        libc::SYS_tgkill => [creator, creator, 0, 0, 0],
        _ => [creator, 0, 0, 0, 0],
    };
    call(how, arguments)
}

/// A child that ends at once, if there is one.
fn fork() -> io::Result<()> {
    // SAFETY: the child does nothing but end.
    answered(unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(0);
        }
        child.into()
    })
}

fn map(protection: c_int) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a mapping of its own, which nobody uses.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0);
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        answered(libc::munmap(memory, 4096).into())
    }
}

extern "C" fn ignore(_: c_int) {}

/// As the main thread of a program that only has devices does.
fn wait_for_signal() -> io::Result<()> {
    // SAFETY: the handler does nothing.
    unsafe {
        libc::signal(libc::SIGUSR1, ignore as *const () as libc::sighandler_t);
    }
    let over = Arc::new(AtomicBool::new(false));
    // SAFETY: it takes nothing.
    let waiting = unsafe { libc::pthread_self() };
    let sender = {
        let over = Arc::clone(&over);
        // The signal may come before the wait.
        std::thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                // SAFETY: that thread waits for this one.
                unsafe { libc::pthread_kill(waiting, libc::SIGUSR1) };
                std::thread::yield_now();
            }
        })
    };
    // SAFETY: it takes nothing.
    unsafe { libc::pause() };
    let outcome = io::Error::last_os_error();
    over.store(true, Ordering::SeqCst);
    let _ = sender.join();
    given(outcome.kind() == io::ErrorKind::Interrupted)
}
