//! Serial ports for any number of clients: [`Hub`], one for each port, with one thread.
//!
//! QEMU connects to one socket of the hub, clients to another. What the guest writes is kept, the last
//! [`HISTORY`] bytes of it, so that who comes late reads how it began; what clients write goes to the guest. The guest is
//! never held up: a client that reads too slowly misses what is kept no longer, and is told how much
//! that was. Clients are held up while the guest does not read.
//!
//! When QEMU leaves, clients get the rest and then the end.
//!
//! | file | what it has |
//! | --- | --- |
//! | `history` | what is kept of a port |
//! | `client` | one client: what it was sent, what it still has to say |
//! | `pipe` | the socket that a document names |
//! | `pump` | the thread |

mod client;
mod history;
mod pipe;
mod pump;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use hdv_control::{BindError, SocketClaim};
use rustix::event::{EventfdFlags, eventfd};

use crate::error::{Error, Result, codes};
use pipe::Pipe;
use pump::Pump;

/// How much is kept of what a guest wrote to a port, in bytes.
pub(crate) const HISTORY: usize = 64 << 10;
/// How many clients a port has at most; further ones are let go at once.
pub(crate) const CLIENTS: usize = 16;

/// A serial port's sockets, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Hub {
    qemu_socket: PathBuf,
    client_socket: PathBuf,
    orders: Arc<Orders>,
    living: Mutex<Option<Living>>,
}

/// What the thread is told.
#[derive(Debug)]
struct Orders {
    /// Wakes it.
    event: OwnedFd,
    guest_has_ended: AtomicBool,
    stop: AtomicBool,
}

impl Orders {
    fn give(&self, order: &AtomicBool) {
        order.store(true, Ordering::SeqCst);
        // An eventfd takes 2^64 - 2 of these.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }
}

/// What ends with the port.
#[derive(Debug)]
struct Living {
    thread: JoinHandle<()>,
    /// Their end removes the sockets.
    claims: Vec<SocketClaim>,
}

impl Hub {
    /// Serves port `number` in `directory`, on `com<number>.qemu.sock` and `com<number>.sock`, and at `named_pipe`, if the
    /// document names one. Where somebody listens at that already, the hub connects to it, else it listens there itself.
    ///
    /// # Errors
    /// A socket, a thread or a descriptor cannot be had; what `named_pipe` names is no socket of this user, or
    /// the port of a VM.
    pub(crate) fn start(directory: &Path, number: u8, named_pipe: Option<&Path>) -> Result<Self> {
        let bind = |name: String| {
            let path = directory.join(name);
            listen(&path).map_err(|error| of_bind(number, &error))
        };
        let (qemu, qemu_claim) = bind(format!("com{number}.qemu.sock"))?;
        let (clients, client_claim) = bind(format!("com{number}.sock"))?;
        let qemu_socket = qemu_claim.path().to_owned();
        let client_socket = client_claim.path().to_owned();
        let mut claims = vec![qemu_claim, client_claim];
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let event = event.map_err(|errno| Error::Io {
            doing: format!("creating an eventfd for serial port {number}"),
            source: errno.into(),
        })?;
        let orders = Arc::new(Orders {
            event,
            guest_has_ended: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut pump = Pump::new(Arc::clone(&orders), qemu, clients);
        match pipe::open(named_pipe, number)? {
            Pipe::None => {}
            Pipe::Connected(stream) => pump.add(stream),
            Pipe::Listening(listener, claim) => {
                pump.listen(listener);
                claims.push(claim);
            }
        }
        let thread = std::thread::Builder::new()
            .name(format!("com{number}"))
            .spawn(move || pump.run())
            .map_err(|source| Error::Io {
                doing: format!("starting the thread of serial port {number}"),
                source,
            })?;
        Ok(Self {
            qemu_socket,
            client_socket,
            orders,
            living: Mutex::new(Some(Living { thread, claims })),
        })
    }

    /// Nothing comes from the guest any more, also if none ever did: clients get what it has written, and the end. Those that
    /// come later too.
    pub(crate) fn guest_has_ended(&self) {
        self.orders.give(&self.orders.guest_has_ended);
    }

    /// Ends the port: clients get what the guest has written, and the end; the sockets go. A second time does nothing.
    pub(crate) fn end(&self) {
        let living = self
            .living
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Living { thread, claims }) = living else {
            return;
        };
        self.orders.give(&self.orders.stop);
        // A panic of its own has been printed already.
        let _ = thread.join();
        drop(claims);
    }

    /// Where QEMU connects, as a client (`-chardev socket,path=...,server=off`).
    pub(crate) fn qemu_socket(&self) -> &Path {
        &self.qemu_socket
    }

    /// Where clients connect.
    pub(crate) fn client_socket(&self) -> &Path {
        &self.client_socket
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.end();
    }
}

/// A claimed socket that does not block.
fn listen(
    path: &Path,
) -> std::result::Result<(std::os::unix::net::UnixListener, SocketClaim), BindError> {
    let (listener, claim) = SocketClaim::bind(path)?;
    listener
        .set_nonblocking(true)
        .map_err(|source| BindError::Io {
            action: "make non-blocking",
            path: path.to_owned(),
            source,
        })?;
    Ok((listener, claim))
}

fn of_bind(number: u8, error: &BindError) -> Error {
    Error::Refused {
        message: format!("serial port {number}: {error}"),
        code: codes::E_FAIL,
    }
}

/// Whether the other end of a socket is this user's, or root's.
fn is_trusted(stream: &std::os::unix::net::UnixStream) -> io::Result<bool> {
    let peer = hdv_control::PeerCredentials::of(stream)?;
    Ok(peer.uid == 0 || peer.uid == rustix::process::geteuid().as_raw())
}
