//! What a creator hands over to the worker that it has started, and what that says of it: both ends, over a socket that is
//! the worker's standard input. The program is started in `system`, what the worker does with it is in `worker::startup`.
//!
//! The creator sends the id and the document, each with its length before it (four bytes, little endian); the worker answers
//! with one control response when others can connect to it, or with the reason why not. From then on the socket is a link: the
//! creator's own handle, which is there before anybody could find that none is open.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hdv_control::wire::{self, LENGTH_SIZE, Response};
use hdv_control::{ControlError, WireError};
use serde_json::Value;

/// Longest document, in bytes.
pub(crate) const DOCUMENT_LIMIT: usize = 4 << 20;
/// Longest id that is read, in bytes; whether it can be one is checked afterwards.
const ID_READ_LIMIT: usize = 4096;
/// How long either end may take for what it has to send or take in at once.
pub(crate) const TRANSFER_PATIENCE: Duration = Duration::from_secs(30);

/// What the worker is to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) document: String,
}

impl Order {
    /// Sends it.
    pub(crate) fn send(&self, mut worker: &UnixStream) -> io::Result<()> {
        worker.set_write_timeout(Some(TRANSFER_PATIENCE))?;
        for (text, limit) in [(&self.id, ID_READ_LIMIT), (&self.document, DOCUMENT_LIMIT)] {
            let length = u32::try_from(text.len())
                .ok()
                .filter(|_| text.len() <= limit);
            let length = length.ok_or_else(|| {
                let reason = format!("{} bytes are over the limit of {limit}", text.len());
                io::Error::new(io::ErrorKind::InvalidInput, reason)
            })?;
            worker.write_all(&length.to_le_bytes())?;
            worker.write_all(text.as_bytes())?;
        }
        worker.set_write_timeout(None)
    }

    /// Receives it.
    pub(crate) fn receive(creator: &UnixStream) -> io::Result<Self> {
        let deadline = Instant::now() + TRANSFER_PATIENCE;
        let order = Self {
            id: receive_text(creator, ID_READ_LIMIT, deadline)?,
            document: receive_text(creator, DOCUMENT_LIMIT, deadline)?,
        };
        creator.set_read_timeout(None)?;
        Ok(order)
    }
}

fn receive_text(creator: &UnixStream, limit: usize, deadline: Instant) -> io::Result<String> {
    let mut length = [0; LENGTH_SIZE];
    receive_exactly(creator, &mut length, deadline)?;
    let length = usize::try_from(u32::from_le_bytes(length))
        .ok()
        .filter(|length| *length <= limit)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is too long"))?;
    let mut bytes = vec![0; length];
    receive_exactly(creator, &mut bytes, deadline)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn receive_exactly(
    mut from: &UnixStream,
    mut rest: &mut [u8],
    deadline: Instant,
) -> io::Result<()> {
    while !rest.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        from.set_read_timeout(Some(left))?;
        match from.read(rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => rest = &mut rest[count..],
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The worker says that it is there, or why it is not.
pub(crate) fn answer(mut creator: &UnixStream, result: Result<(), ControlError>) -> io::Result<()> {
    let response = match result {
        Ok(()) => Response::Ok(Value::Null),
        Err(error) => Response::Error(error),
    };
    let frame = wire::encode(&response).map_err(io::Error::other)?;
    creator.set_write_timeout(Some(TRANSFER_PATIENCE))?;
    creator.write_all(&frame)?;
    creator.set_write_timeout(None)
}

/// Waits for what the worker says, as long as `patience`.
pub(crate) fn answered(
    worker: &UnixStream,
    patience: Duration,
) -> io::Result<Result<(), ControlError>> {
    let deadline = Instant::now() + patience;
    let mut frame = vec![0; LENGTH_SIZE];
    receive_exactly(worker, &mut frame, deadline)?;
    let broken = |error: WireError| io::Error::new(io::ErrorKind::InvalidData, error);
    let size = wire::frame_size::<Response>(&frame).map_err(broken)?;
    frame.resize(size.unwrap_or(LENGTH_SIZE), 0);
    receive_exactly(worker, &mut frame[LENGTH_SIZE..], deadline)?;
    worker.set_read_timeout(None)?;
    Ok(match wire::decode::<Response>(&frame).map_err(broken)? {
        Response::Ok(_) => Ok(()),
        Response::Error(error) => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const GENEROUS: Duration = Duration::from_secs(60);

    #[test]
    fn an_order_and_its_answer_arrive() {
        let (creator, worker) = UnixStream::pair().unwrap();
        let order = Order {
            id: "the id".to_owned(),
            document: "x".repeat(DOCUMENT_LIMIT),
        };
        let received = thread::spawn(move || {
            let order = Order::receive(&worker).unwrap();
            answer(&worker, Ok(())).unwrap();
            let error = ControlError::internal("no").with_code(5);
            answer(&worker, Err(error)).unwrap();
            order
        });
        order.send(&creator).unwrap();
        assert_eq!(answered(&creator, GENEROUS).unwrap(), Ok(()));
        let error = answered(&creator, GENEROUS).unwrap().unwrap_err();
        assert_eq!((error.message.as_str(), error.code), ("no", Some(5)));
        assert_eq!(received.join().unwrap(), order);
    }

    #[test]
    fn what_is_too_long_or_cut_off_is_an_error() {
        let (creator, worker) = UnixStream::pair().unwrap();
        let order = Order {
            id: String::new(),
            document: "x".repeat(DOCUMENT_LIMIT + 1),
        };
        assert_eq!(
            order.send(&creator).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        (&creator).write_all(&[0xff; 4]).unwrap();
        drop(creator);
        assert!(Order::receive(&worker).is_err());

        let (creator, worker) = UnixStream::pair().unwrap();
        (&creator).write_all(&[1, 0, 0, 0, b'x', 9, 0]).unwrap();
        drop(creator);
        let error = Order::receive(&worker).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn who_says_nothing_is_not_waited_for_without_end() {
        let (creator, _worker) = UnixStream::pair().unwrap();
        let error = answered(&creator, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
