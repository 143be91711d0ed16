//! The thread of a link that receives, and those that carry calls of the other end out.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread;

use serde_json::Value;

use super::calls::{Admission, CALL_LIMIT, End};
use super::message::{LinkAnswer, LinkCall, LinkMessage};
use super::stream::MESSAGE_PATIENCE;
use super::{Link, LinkHandler, Shared, User, stream};
use crate::registry::{ControlError, ErrorKind};
use crate::wire;

/// What the receiving thread has. It keeps no user's clone: a link that nobody uses is closed.
pub(super) struct Reader {
    shared: Arc<Shared>,
    user: Weak<User>,
    handler: Arc<dyn LinkHandler>,
}

impl Reader {
    /// Starts the thread of a link.
    pub(super) fn start(link: &Link, handler: Arc<dyn LinkHandler>) -> io::Result<()> {
        let reader = Self {
            shared: Arc::clone(&link.user.shared),
            user: Arc::downgrade(&link.user),
            handler,
        };
        // Nobody waits for it: it ends with the connection, which ends when nobody uses it.
        thread::Builder::new()
            .name("hdv-link".to_owned())
            .spawn(move || reader.run())?;
        Ok(())
    }

    /// The link, as a handler gets it. Where no user is left, its end is under way.
    fn link(&self) -> Link {
        let user = self.user.upgrade().unwrap_or_else(|| {
            Arc::new(User {
                shared: Arc::clone(&self.shared),
            })
        });
        Link { user }
    }

    fn run(self) {
        let _ = self.shared.reader.set(thread::current().id());
        let end = loop {
            match stream::receive(&self.shared.stream, MESSAGE_PATIENCE) {
                Ok(Some((message, descriptors))) => {
                    if let Err(end) = self.handle(message, descriptors) {
                        break end;
                    }
                }
                Ok(None) => {
                    break End::new(io::ErrorKind::UnexpectedEof, "the other end has closed it");
                }
                Err(error) => {
                    tracing::debug!(link = ?self.shared.name, %error, "a link broke");
                    break error.into();
                }
            }
        };
        self.shared.end(&end);
        let link = self.link();
        if catch_unwind(AssertUnwindSafe(|| self.handler.closed(&link))).is_err() {
            tracing::error!("the handler of a link's end panicked");
        }
    }

    fn handle(&self, message: LinkMessage, descriptors: Vec<OwnedFd>) -> Result<(), End> {
        match message {
            LinkMessage::Answer(answer) => {
                self.shared.calls.answered(answer.id, answer.result);
                Ok(())
            }
            LinkMessage::Notice(notice) => {
                let link = self.link();
                let handled = catch_unwind(AssertUnwindSafe(|| {
                    self.handler.notice(&link, &notice.notice, notice.args);
                }));
                if handled.is_err() {
                    tracing::error!(notice = notice.notice, "the handler of a notice panicked");
                }
                Ok(())
            }
            LinkMessage::Call(call) => self.called(call, descriptors),
        }
    }

    fn called(&self, call: LinkCall, descriptors: Vec<OwnedFd>) -> Result<(), End> {
        match self.shared.calls.admit(call.id) {
            Admission::Admitted => {}
            Admission::IdInUse => {
                return Err(End::new(
                    io::ErrorKind::InvalidData,
                    format!("it used the id {} of a call that is under way", call.id),
                ));
            }
            Admission::Busy => {
                let reason = format!("{CALL_LIMIT} calls are under way; wait until one is done");
                let frame = encode(call.id, Err(ControlError::new(ErrorKind::Busy, reason)));
                return self.shared.send(&frame, &[], || ());
            }
        }
        let (link, handler) = (self.link(), Arc::clone(&self.handler));
        let id = call.id;
        let started = thread::Builder::new()
            .name("hdv-link-call".to_owned())
            .spawn(move || carry_out(&link, handler.as_ref(), call, descriptors));
        match started {
            Ok(_) => Ok(()),
            Err(error) => {
                let reason = format!("no thread can be had for the call: {error}");
                let frame = encode(id, Err(ControlError::new(ErrorKind::Busy, reason)));
                self.shared.send(&frame, &[], || self.shared.calls.done(id))
            }
        }
    }
}

fn carry_out(link: &Link, handler: &dyn LinkHandler, call: LinkCall, descriptors: Vec<OwnedFd>) {
    let LinkCall {
        id, command, args, ..
    } = call;
    let result = catch_unwind(AssertUnwindSafe(|| {
        handler.call(link, &command, args, descriptors)
    }))
    .unwrap_or_else(|_| {
        let message = format!("the command {command:?} panicked");
        Err(ControlError::internal(message))
    });
    let frame = encode(id, result);
    // A call counts until it is its answer's turn: so who has an answer may call again at once, and who takes no answers
    // in has no more threads here than calls.
    let shared = link.shared();
    if shared.send(&frame, &[], || shared.calls.done(id)).is_err() {
        tracing::debug!(command, "nobody is left to take an answer");
    }
}

/// An answer's frame, or that of an error that says why it cannot be sent.
fn encode(id: u64, result: Result<Value, ControlError>) -> Vec<u8> {
    wire::encode(&LinkAnswer::message(id, result))
        .or_else(|error| {
            let message = format!("the answer cannot be sent: {error}");
            wire::encode(&LinkAnswer::message(
                id,
                Err(ControlError::internal(message)),
            ))
        })
        .unwrap_or_default()
}
