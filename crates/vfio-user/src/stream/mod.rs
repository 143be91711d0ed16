//! A connection over a Unix stream socket: whole messages out of bytes, descriptors to the
//! message they belong to, sending with descriptors. What a message means is not known here.

mod assembler;
mod descriptors;
mod socket;

pub use assembler::{Assembler, FramingError};
pub use descriptors::Descriptors;
pub use socket::{Credentials, peer_credentials};
pub(crate) use socket::{
    Expect, Received, SendError, receive, receive_polling, send, send_counting, send_until,
    shutdown, wait_for_ever, wait_readable,
};
