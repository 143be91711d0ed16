//! The system calls: one receive, one send, with and without descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown,
};

use super::Assembler;
use crate::limits::MAX_MESSAGE_FDS;

/// While polling, the processor is offered to others after this many tries, so that a peer
/// on the same processor gets to run.
const TRIES_BEFORE_YIELD: u32 = 64;

/// While polling, the clock is looked at after this many tries.
const TRIES_BEFORE_CLOCK: u32 = 8;

/// Whether descriptors can come with what is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// They can: they are taken.
    Descriptors,
    /// They cannot: the kernel drops any, and the receive is a cheaper one.
    BytesOnly,
}

/// What a receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Bytes.
    Bytes,
    /// Nothing yet (non-blocking), or nothing within the socket's own time limit.
    Nothing,
    /// The other end has closed the connection.
    Closed,
}

/// Why a send did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// The time was up. `begun`: part of the message has been sent, so the stream is broken.
    TimedOut { begun: bool },
    /// The socket reports an error.
    Socket(Errno),
}

/// Who is at the other end of a socket (`SO_PEERCRED`), when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Process id; `None` when the process is not visible in our process id namespace.
    pub pid: Option<i32>,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// One `recvmsg` into `assembler`, with descriptors closed on exec.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    assembler: &mut Assembler,
    flags: RecvFlags,
) -> Result<Received, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_MESSAGE_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(assembler.space())];
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(socket, &mut parts, &mut control, flags) {
            Ok(received) => break received,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(Received::Nothing),
            Err(Errno::CONNRESET) => return Ok(Received::Closed),
            Err(errno) => return Err(errno),
        }
    };
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(Received::Closed);
    }
    let truncated = received.flags.contains(ReturnFlags::CTRUNC);
    assembler.filled(received.bytes, fds, truncated);
    Ok(Received::Bytes)
}

/// One `recv` into `assembler`. Descriptors that come with the bytes are lost.
fn receive_bytes(
    socket: BorrowedFd<'_>,
    assembler: &mut Assembler,
    flags: RecvFlags,
) -> Result<Received, Errno> {
    loop {
        match rustix::net::recv(socket, assembler.space(), flags) {
            Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(Received::Closed),
            Ok((count, _)) => {
                assembler.filled(count, Vec::new(), false);
                return Ok(Received::Bytes);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(Received::Nothing),
            Err(errno) => return Err(errno),
        }
    }
}

/// A receive that first tries without blocking for up to `polling`.
pub(crate) fn receive_polling(
    socket: BorrowedFd<'_>,
    assembler: &mut Assembler,
    polling: Option<Duration>,
    expect: Expect,
) -> Result<Received, Errno> {
    let receive = match expect {
        Expect::Descriptors => receive,
        Expect::BytesOnly => receive_bytes,
    };
    if let Some(polling) = polling {
        let begin = Instant::now();
        let mut tries = 0_u32;
        loop {
            match receive(socket, assembler, RecvFlags::DONTWAIT)? {
                Received::Nothing => {}
                other => return Ok(other),
            }
            tries += 1;
            // A try takes a fraction of a microsecond, so this is often enough. Tries follow each
            // other without a pause: each would cost more than it lasts.
            if tries.is_multiple_of(TRIES_BEFORE_CLOCK) && begin.elapsed() >= polling {
                break;
            }
            if tries.is_multiple_of(TRIES_BEFORE_YIELD) {
                std::thread::yield_now();
            }
        }
    }
    receive(socket, assembler, RecvFlags::empty())
}

/// Sends all of `bytes`, and the descriptors with the first of them. Blocks as long as the
/// other end does not read.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    send_counting(socket, bytes, fds, &mut 0)
}

/// The same, and says in `sent`, 0 before, how many bytes were sent, also when it fails.
pub(crate) fn send_counting(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    sent: &mut usize,
) -> Result<(), Errno> {
    while *sent < bytes.len() {
        let fds = if *sent == 0 { fds } else { &[] };
        match send_once(socket, &bytes[*sent..], fds, SendFlags::NOSIGNAL) {
            Ok(count) => *sent += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Sends all of `bytes`, but waits for the other end to read no longer than until `deadline`.
pub(crate) fn send_until(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    deadline: Instant,
) -> Result<(), SendError> {
    let mut sent = 0;
    while sent < bytes.len() {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::net::send(socket, &bytes[sent..], flags) {
            Ok(count) => sent += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if !wait(socket, PollFlags::OUT, deadline).map_err(SendError::Socket)? {
                    return Err(SendError::TimedOut { begun: sent > 0 });
                }
            }
            Err(errno) => return Err(SendError::Socket(errno)),
        }
    }
    Ok(())
}

fn send_once(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<usize, Errno> {
    if fds.is_empty() {
        return rustix::net::send(socket, bytes, flags);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_MESSAGE_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)
}

/// Waits until there is something to read (or the other end is gone); `false` at the deadline.
pub(crate) fn wait_readable(socket: BorrowedFd<'_>, deadline: Instant) -> Result<bool, Errno> {
    wait(socket, PollFlags::IN, deadline)
}

fn wait(socket: BorrowedFd<'_>, events: PollFlags, deadline: Instant) -> Result<bool, Errno> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| Errno::OVERFLOW)?;
        let mut fds = [PollFd::from_borrowed_fd(socket, events)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Waits until the socket is ready for `events`, or the other end is gone. For who shares the open socket with somebody
/// who may make it non-blocking, or set a time limit on it, at any time.
pub(crate) fn wait_for_ever(socket: BorrowedFd<'_>, events: PollFlags) -> Result<(), Errno> {
    match poll(&mut [PollFd::from_borrowed_fd(socket, events)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Ends the connection in both directions; whoever is blocked in it wakes.
pub(crate) fn shutdown(socket: BorrowedFd<'_>) {
    // The only failure is a connection that has ended already.
    let _ = rustix::net::shutdown(socket, Shutdown::Both);
}

/// Who is at the other end of a Unix socket, or `None` when the kernel does not say.
pub fn peer_credentials(socket: impl AsFd) -> Option<Credentials> {
    let mut credentials = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    // SAFETY: the descriptor is open for the length of the borrow; the kernel writes at most
    // `length` bytes, the size of the structure. (`rustix` has this call too, but its process
    // id cannot hold the 0 that a process of another namespace has.)
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(Credentials {
        pid: (credentials.pid > 0).then_some(credentials.pid),
        uid: credentials.uid,
        gid: credentials.gid,
    })
}
