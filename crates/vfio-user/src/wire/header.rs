//! The 16-byte header that every message begins with ("Header").

use bitflags::bitflags;
use rustix::io::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Command;

/// Size of the header in bytes.
pub const HEADER_SIZE: usize = size_of::<Header>();

/// The bits of the flags field that hold the type.
const TYPE_MASK: u32 = 0xf;

/// Largest errno that Linux knows.
const MAX_ERRNO: u32 = 4095;

bitflags! {
    /// The flags field of the header, without the type.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MessageFlags: u32 {
        /// The command wants no reply, not even an error.
        const NO_REPLY = 1 << 4;
        /// The reply reports an error.
        const ERROR = 1 << 5;
    }
}

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A command.
    Command,
    /// A reply to a command.
    Reply,
    /// A type that the specification does not define.
    Other(u32),
}

/// The header of a message.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Header {
    /// Chosen by the sender of a command, echoed in the reply.
    pub message_id: u16,
    /// The command's number; see [`Command`].
    pub command: u16,
    /// Size of the whole message in bytes, this header included.
    pub message_size: u32,
    /// Type and [`MessageFlags`].
    pub flags: u32,
    /// The errno of an error reply; 0 otherwise.
    pub error: u32,
}

impl Header {
    /// The header of a command with `body` bytes after the header.
    ///
    /// # Panics
    /// When `body` does not fit a message (4 GiB).
    #[must_use]
    pub fn command(message_id: u16, command: Command, body: usize) -> Self {
        Self {
            message_id,
            command: command.number(),
            message_size: message_size(body),
            flags: 0,
            error: 0,
        }
    }

    /// The header of the reply to this command, with `body` bytes after the header.
    ///
    /// # Panics
    /// When `body` does not fit a message (4 GiB).
    #[must_use]
    pub fn reply(&self, body: usize) -> Self {
        Self {
            message_id: self.message_id,
            command: self.command,
            message_size: message_size(body),
            flags: 1,
            error: 0,
        }
    }

    /// The header, and whole, of the error reply to this command.
    #[must_use]
    pub fn error_reply(&self, errno: Errno) -> Self {
        Self {
            flags: 1 | MessageFlags::ERROR.bits(),
            error: errno.raw_os_error().unsigned_abs(),
            ..self.reply(0)
        }
    }

    /// The type of the message.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.flags & TYPE_MASK {
            0 => Kind::Command,
            1 => Kind::Reply,
            other => Kind::Other(other),
        }
    }

    /// Whether the command wants no reply.
    #[must_use]
    pub fn no_reply(&self) -> bool {
        self.flags & MessageFlags::NO_REPLY.bits() != 0
    }

    /// The error that a reply reports. An errno of 0, which the specification allows, or one
    /// that is none is reported as `EIO`.
    #[must_use]
    pub fn reported_error(&self) -> Option<Errno> {
        if self.flags & MessageFlags::ERROR.bits() == 0 {
            return None;
        }
        Some(match i32::try_from(self.error) {
            Ok(raw) if (1..=MAX_ERRNO).contains(&self.error) => Errno::from_raw_os_error(raw),
            _ => Errno::IO,
        })
    }
}

fn message_size(body: usize) -> u32 {
    u32::try_from(HEADER_SIZE + body).expect("a message of less than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reply_is_the_header_alone() {
        let command = Header::command(7, Command::RegionRead, 16);
        let reply = command.error_reply(Errno::INVAL);
        assert_eq!(reply.message_size, 16);
        assert_eq!(reply.kind(), Kind::Reply);
        assert_eq!(reply.reported_error(), Some(Errno::INVAL));
        assert_eq!((reply.message_id, reply.command), (7, 9));
    }

    #[test]
    fn an_errno_that_is_none_is_an_input_output_error() {
        for error in [0, 4096, u32::MAX] {
            let header = Header {
                flags: 0x21,
                error,
                ..Header::default()
            };
            assert_eq!(header.reported_error(), Some(Errno::IO), "{error}");
        }
        assert_eq!(Header::default().reported_error(), None);
    }
}
