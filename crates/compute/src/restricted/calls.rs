//! The system calls that a device host needs once it is locked in; every other one fails with `EPERM`.
//!
//! An allow list. What is on it acts on this process alone, and on what it has open: nothing that takes a path, makes a socket
//! to elsewhere, names another process, makes memory executable, or asks the kernel for more of itself.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Allowed whatever the arguments.
const FREE: &[c_long] = &[
    // Descriptors that are open.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_close,
    libc::SYS_close_range,
    // Waiting.
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    // Sockets that are open, and what comes over them.
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    // Files without a name.
    libc::SYS_eventfd2,
    libc::SYS_memfd_create,
    libc::SYS_pipe2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_signalfd4,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_membarrier,
    // Threads. `clone3` is allowed here and refused by the filter below.
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals of this process's own.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_delete,
    // Who and where this is.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrusage,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
];

/// The same by their older names.
#[cfg(target_arch = "x86_64")]
const FREE_HERE: &[c_long] = &[
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_pause,
    libc::SYS_time,
];

#[cfg(not(target_arch = "x86_64"))]
const FREE_HERE: &[c_long] = &[];

/// What may be done to a descriptor: nothing that has signals sent to whoever is named (`F_SETOWN`).
const DESCRIPTOR_COMMANDS: [i32; 8] = [
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_ADD_SEALS,
    libc::F_GET_SEALS,
];

/// As there. `TCGETS` is how the C library finds out that its output is no terminal.
const DEVICE_COMMANDS: [u64; 5] = [
    libc::FIONBIO,
    libc::FIONREAD,
    libc::FIOCLEX,
    libc::FIONCLEX,
    libc::TCGETS,
];

/// What may be set on a socket: nothing that has the kernel run a program of ours (`SO_ATTACH_FILTER`).
const SOCKET_OPTIONS: [i32; 5] = [
    libc::SO_RCVTIMEO,
    libc::SO_SNDTIMEO,
    libc::SO_RCVBUF,
    libc::SO_SNDBUF,
    libc::SO_PASSCRED,
];

/// Besides flags, the bits of a socket's type.
const SOCKET_TYPE_MASK: u64 = 0xf;

/// New name spaces, which a thread does not need.
const NAME_SPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Leaves this process, all its threads, the calls above and nothing else.
pub(super) fn close() -> Result<(), Error> {
    // Compiled before the first one holds.
    let threads = clone3_is_missing()?;
    let calls = only_these()?;
    // In this order: the second one lets no further one in.
    seccompiler::apply_filter_all_threads(&threads)?;
    seccompiler::apply_filter_all_threads(&calls)
}

/// The arguments of `clone3` lie in memory, where a filter cannot look; a C library that is told that there is no such call
/// starts its threads by `clone`.
fn clone3_is_missing() -> Result<BpfProgram, Error> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    filter(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno(libc::ENOSYS)),
    )
}

fn only_these() -> Result<BpfProgram, Error> {
    let mut rules: Rules = FREE
        .iter()
        .chain(FREE_HERE)
        .map(|call| (*call, Vec::new()))
        .collect();
    conditional(&mut rules)?;
    filter(
        rules,
        SeccompAction::Errno(errno(libc::EPERM)),
        SeccompAction::Allow,
    )
}

fn filter(rules: Rules, others: SeccompAction, these: SeccompAction) -> Result<BpfProgram, Error> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, others, these, architecture)?;
    Ok(filter.try_into()?)
}

/// A number of an error, as filters have it.
fn errno(error: i32) -> u32 {
    error.unsigned_abs()
}

/// Calls that are allowed with some arguments only.
fn conditional(rules: &mut Rules) -> Result<(), Error> {
    // Memory that is not executable.
    let executable = u64::from(libc::PROT_EXEC.unsigned_abs());
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![wide(2, SeccompCmpOp::MaskedEq(executable), 0)?]);
    }
    // A thread of this process.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let mask = thread | u64::from(NAME_SPACES.cast_unsigned());
    rules.insert(
        libc::SYS_clone,
        vec![wide(0, SeccompCmpOp::MaskedEq(mask), thread)?],
    );
    // A signal to this process, as `abort` sends it.
    let process = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![narrow(0, process)?]);
    // Two ends of one connection. Of datagrams, one end could be sent from to elsewhere.
    let pair = SeccompRule::new(vec![
        condition(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, libc::AF_UNIX)?,
        condition(
            1,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(SOCKET_TYPE_MASK),
            libc::SOCK_STREAM,
        )?,
    ])?;
    rules.insert(libc::SYS_socketpair, vec![pair]);
    let options = SOCKET_OPTIONS.into_iter().map(|option| {
        let of_socket = equal(1, number(libc::SOL_SOCKET))?;
        SeccompRule::new(vec![of_socket, equal(2, number(option))?])
    });
    rules.insert(
        libc::SYS_setsockopt,
        options.collect::<Result<_, seccompiler::BackendError>>()?,
    );
    // A thread's name.
    let names = [libc::PR_SET_NAME, libc::PR_GET_NAME].map(number);
    rules.insert(libc::SYS_prctl, any_of(0, names)?);
    // This process's limits.
    rules.insert(libc::SYS_prlimit64, vec![narrow(0, 0)?]);
    rules.insert(libc::SYS_fcntl, any_of(1, DESCRIPTOR_COMMANDS.map(number))?);
    rules.insert(libc::SYS_ioctl, any_of(1, DEVICE_COMMANDS)?);
    Ok(())
}

/// One of these values of an argument of 32 bits.
fn any_of(argument: u8, values: impl IntoIterator<Item = u64>) -> Result<Vec<SeccompRule>, Error> {
    values
        .into_iter()
        .map(|value| narrow(argument, value))
        .collect()
}

/// This value of an argument of 32 bits; the kernel does not look at the others either.
fn narrow(argument: u8, value: u64) -> Result<SeccompRule, Error> {
    Ok(SeccompRule::new(vec![equal(argument, value)?])?)
}

fn equal(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// A comparison of an argument of 64 bits.
fn wide(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Error> {
    let compared = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)?;
    Ok(SeccompRule::new(vec![compared])?)
}

fn condition(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: i32,
) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(
        argument,
        length,
        operator,
        number(value),
    )?)
}

/// A constant of C, none of which is negative here.
fn number(constant: i32) -> u64 {
    u64::from(constant.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_reaches_beyond_the_process_is_on_the_list() {
        let mut rules: Rules = FREE
            .iter()
            .chain(FREE_HERE)
            .map(|call| (*call, Vec::new()))
            .collect();
        conditional(&mut rules).unwrap();
        for call in [
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_accept4,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_getfd,
            libc::SYS_kill,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_readlinkat,
            libc::SYS_newfstatat,
            libc::SYS_statx,
            libc::SYS_pkey_mprotect,
            libc::SYS_seccomp,
        ] {
            assert!(!rules.contains_key(&call), "{call}");
        }
    }

    #[test]
    fn the_filters_can_be_made() {
        assert!(!clone3_is_missing().unwrap().is_empty());
        assert!(!only_these().unwrap().is_empty());
    }
}
