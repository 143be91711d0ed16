//! What a device host in another process is told when its proxy does not register it: the proxy's result, as the answer to its
//! hello.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use hdv_control::{ControlError, ErrorKind, Link, LinkHandler};
use serde_json::Value;

use crate::error::Failure;

/// Those that have not been heard yet.
static OPEN: Mutex<Vec<Link>> = Mutex::new(Vec::new());

struct Refusal(Failure);

impl LinkHandler for Refusal {
    fn call(&self, _: &Link, _: &str, _: Value, _: Vec<OwnedFd>) -> Result<Value, ControlError> {
        let Failure { code, text } = &self.0;
        Err(ControlError::new(ErrorKind::Internal, text.as_ref()).with_code(*code))
    }

    fn notice(&self, _: &Link, _: &str, _: Value) {}

    fn closed(&self, _: &Link) {}
}

/// Answers whatever comes with a failure, until the other end leaves.
pub(super) fn refuse(socket: UnixStream, failure: Failure) {
    let handler = Arc::new(Refusal(failure));
    match Link::over(socket, "a device host that is not registered", handler) {
        Ok(link) => {
            let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|link| !link.is_closed());
            open.push(link);
        }
        // It notices that the socket is closed.
        Err(error) => tracing::warn!("a device host is not told why it is not registered: {error}"),
    }
}
