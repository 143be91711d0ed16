//! A link's socket: whole messages in, each with exactly its descriptors, and out, within a time.
//!
//! A message that carries descriptors is a `sendmsg` of its own, and they go with its first bytes. A receive never asks for
//! bytes beyond the message that it is in, so whatever descriptors it brings are that message's.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::message::{LINK_DESCRIPTOR_LIMIT, LinkMessage};
use crate::wire::{self, LENGTH_SIZE};

/// How long the other end may take to take a message in, or, having begun one, to send the rest of it.
pub(super) const MESSAGE_PATIENCE: Duration = Duration::from_secs(30);
/// Bytes asked of the kernel at a time; no memory is made ready for bytes that are only announced.
const READ_SIZE: usize = 64 << 10;

/// Receives the next message; `None` when the other end has closed the connection after a whole one.
///
/// # Errors
/// The connection broke, or the other end breaks the rules. Nothing can be received any more.
pub(super) fn receive(
    stream: &UnixStream,
    patience: Duration,
) -> io::Result<Option<(LinkMessage, Vec<OwnedFd>)>> {
    let mut descriptors = Vec::new();
    let mut frame = Vec::new();
    let mut size = LENGTH_SIZE;
    let mut deadline = None;
    while frame.len() < size {
        if let Some(deadline) = deadline
            && !wait(stream, PollFlags::IN, deadline)?
        {
            return Err(broken("it sent half a message and no more"));
        }
        let count = receive_part(stream, &mut frame, size, &mut descriptors)?;
        if count == 0 {
            return if frame.is_empty() {
                Ok(None)
            } else {
                Err(broken("it ended inside a message"))
            };
        }
        deadline.get_or_insert_with(|| Instant::now() + patience);
        if frame.len() == LENGTH_SIZE {
            let whole = wire::frame_size::<LinkMessage>(&frame).map_err(broken)?;
            size = whole.unwrap_or(LENGTH_SIZE);
        }
    }
    let message = wire::decode::<LinkMessage>(&frame).map_err(broken)?;
    let announced = match &message {
        LinkMessage::Call(call) => usize::from(call.descriptors),
        LinkMessage::Answer(_) | LinkMessage::Notice(_) => 0,
    };
    if announced != descriptors.len() {
        return Err(broken(format!(
            "a message for {announced} descriptors came with {}",
            descriptors.len()
        )));
    }
    Ok(Some((message, descriptors)))
}

/// One receive, up to `size` bytes of the frame.
fn receive_part(
    stream: &UnixStream,
    frame: &mut Vec<u8>,
    size: usize,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let begin = frame.len();
    frame.resize(size.min(begin + READ_SIZE), 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LINK_DESCRIPTOR_LIMIT))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut frame[begin..])];
        match recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => break received,
            Err(Errno::INTR) => {}
            // A socket that its maker set to non-blocking, or to a time-out.
            Err(Errno::AGAIN) => {
                wait_for_ever(stream)?;
            }
            Err(errno) => return Err(errno.into()),
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let lost = received.flags.contains(ReturnFlags::CTRUNC);
    if lost || descriptors.len() > LINK_DESCRIPTOR_LIMIT {
        return Err(broken(format!(
            "a message came with more than {LINK_DESCRIPTOR_LIMIT} descriptors, or with more than this process may open"
        )));
    }
    frame.truncate(begin + received.bytes);
    Ok(received.bytes)
}

/// Sends a whole frame, and the descriptors with its first bytes.
///
/// # Errors
/// The connection broke, or the other end takes nothing in. Nothing can be sent any more.
pub(super) fn send(
    stream: &UnixStream,
    frame: &[u8],
    descriptors: &[BorrowedFd<'_>],
    patience: Duration,
) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    let mut sent = 0;
    while sent < frame.len() {
        let with = if sent == 0 { descriptors } else { &[] };
        match send_part(stream, &frame[sent..], with) {
            Ok(count) => sent += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if !wait(stream, PollFlags::OUT, deadline)? {
                    let seconds = patience.as_secs();
                    let reason =
                        format!("the other end did not take a message in within {seconds} s");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn send_part(
    stream: &UnixStream,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LINK_DESCRIPTOR_LIMIT))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(stream, &[IoSlice::new(bytes)], &mut control, flags)
}

/// Waits until the socket is ready; false when it was not by `deadline`.
fn wait(socket: impl AsFd, for_what: PollFlags, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&socket, for_what)], Some(&limit)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn wait_for_ever(socket: impl AsFd) -> io::Result<()> {
    match poll(&mut [PollFd::new(&socket, PollFlags::IN)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn broken(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn who_takes_nothing_in_is_not_waited_for_without_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let frame = vec![0; 16 << 20];
        let error = send(&ours, &frame, &[], SHORT).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        drop(theirs);
        let error = send(&ours, &frame, &[], SHORT).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{error}");
    }

    #[test]
    fn who_sends_half_a_message_is_not_waited_for_without_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&[9, 0, 0]).unwrap();
        let error = receive(&ours, SHORT).unwrap_err();
        assert!(error.to_string().contains("half a message"), "{error}");
    }
}
