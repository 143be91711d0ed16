//! Interrupts of one function: whom each vector tells (an eventfd, or a vector of another function), what is
//! masked, what is pending.
//!
//! Signalling takes no lock: one look at the vector's state and one eventfd write. The registers
//! through which a guest masks vectors are `hdv_pci`'s; the messages by which a client
//! gives eventfds are the transport's.

mod bank;
mod message;
mod receiver;

use std::convert::Infallible;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bank::{Bank, Line, MASKED_BY_CLIENT, MASKED_BY_REGISTER};
use receiver::Told;

use crate::sync::Published;

pub(crate) use message::{MsiMessage, MsixMessage};
pub(crate) use receiver::accept as accept_receiver;

/// The kind of message-signalled interrupt. A client uses one kind at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptKind {
    /// MSI (PCI Express Base Specification, 7.7.1).
    Msi,
    /// MSI-X (7.7.2).
    MsiX,
}

/// What became of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It was signalled.
    Signalled,
    /// The vector is masked or has no receiver yet: its pending bit is set, and it is signalled
    /// once it is unmasked.
    Pending,
    /// The guest has not enabled interrupts, or the function has no such vector.
    Disabled,
}

struct Shared {
    msi: Bank<Told>,
    msix: Bank<Told>,
    /// The message in the MSI capability; `None` while MSI is disabled there, and for a function that
    /// signals vectors, not messages.
    msi_message: Published<Option<MsiMessage>>,
}

/// The handle through which a device signals interrupts. Clones signal the same function;
/// usable from any thread.
#[derive(Clone)]
pub struct Interrupts {
    shared: Arc<Shared>,
}

impl Interrupts {
    /// Interrupts of a function with these numbers of MSI and MSI-X vectors.
    #[must_use]
    pub fn new(msi_vectors: u16, msix_vectors: u16) -> Self {
        let interrupts = Self::undeclared();
        interrupts.declare(msi_vectors, msix_vectors);
        interrupts
    }

    /// Interrupts of a function that does not know yet how many vectors it has: none until
    /// [`Interrupts::declare`].
    pub(crate) fn undeclared() -> Self {
        Self {
            shared: Arc::new(Shared {
                msi: Bank::new(0),
                // The standard has every entry of the table masked after reset.
                msix: Bank::new(MASKED_BY_REGISTER),
                msi_message: Published::new(None),
            }),
        }
    }

    /// Says how many MSI and MSI-X vectors the function has. What was said first holds.
    pub(crate) fn declare(&self, msi_vectors: u16, msix_vectors: u16) {
        self.shared.msi.declare(msi_vectors);
        self.shared.msix.declare(msix_vectors);
    }

    /// Signals a vector: MSI-X if the guest enabled it, else MSI, whose vectors beyond
    /// those enabled fold onto the enabled ones by their low bits, as the standard lets a function do.
    pub fn signal(&self, vector: u16) -> Delivery {
        if self.shared.msix.enabled() > 0 {
            return self.shared.msix.signal(vector);
        }
        match self.shared.msi.enabled() {
            0 => Delivery::Disabled,
            enabled => self.shared.msi.signal(vector % enabled),
        }
    }

    /// Signals a vector of one kind, on the client's behalf (SET_IRQS): only if that kind is
    /// enabled, and without folding.
    pub fn trigger(&self, kind: InterruptKind, vector: u16) -> Delivery {
        match self.bank(kind).enabled() {
            0 => Delivery::Disabled,
            _ => self.bank(kind).signal(vector),
        }
    }

    /// Delivers the interrupt whose message is (`address`, `data`), as a device does that reads them from
    /// its own MSI-X table or MSI capability. `None` when no enabled vector has that message.
    ///
    /// Enabled is a vector that has a receiver; MSI must be enabled in the capability too.
    /// A masked one is enabled: its interrupt stays pending.
    ///
    /// Meant for functions made of [callbacks](crate::callback_function). One made of a
    /// [`PciDevice`](crate::PciDevice) does not see messages: it [signals](Self::signal).
    #[must_use]
    pub fn deliver(&self, address: u64, data: u32) -> Option<Delivery> {
        if self.shared.msix.enabled() > 0 {
            return deliver_to(&self.shared.msix, MsixMessage::vector(address, data)?);
        }
        let message = (*self.shared.msi_message.read())?;
        deliver_to(&self.shared.msi, message.vector(address, data)?)
    }

    /// Follows the message in the MSI capability; `None` while MSI is disabled there.
    pub(crate) fn set_msi_message(&self, message: Option<MsiMessage>) {
        if *self.shared.msi_message.read() == message {
            return;
        }
        let replaced = self
            .shared
            .msi_message
            .replace(|_| Ok::<_, Infallible>((message, ())));
        match replaced {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    /// Whether each vector has a receiver; shorter than the vectors where the rest have none.
    pub(crate) fn connected(&self, kind: InterruptKind) -> Vec<bool> {
        self.bank(kind).connected()
    }

    fn bank(&self, kind: InterruptKind) -> &Bank<Told> {
        match kind {
            InterruptKind::Msi => &self.shared.msi,
            InterruptKind::MsiX => &self.shared.msix,
        }
    }

    /// How many vectors of a kind the function has.
    #[must_use]
    pub fn vectors(&self, kind: InterruptKind) -> u16 {
        self.bank(kind).vectors()
    }

    /// Gives vectors from `start` on their receivers; `None` takes one away. What is pending
    /// for them fires. Vectors outside the function's are ignored.
    ///
    /// An MSI-X vector with a receiver counts as unmasked in the table until the guest masks it there:
    /// VMMs keep the table to themselves and say with the eventfd that the vector is in use. MSI's
    /// mask bits are in config space, which VMMs forward: they stay as they are.
    pub fn connect(&self, kind: InterruptKind, start: u16, events: Vec<Option<OwnedFd>>) {
        let receivers = events
            .into_iter()
            .map(|event| event.map(|event| Arc::new(Told::Event(event))))
            .collect();
        self.connect_lines(kind, start, receivers);
    }

    /// As [`Interrupts::connect`], with vectors of other functions, in place of eventfds: a signal of the one is
    /// one of the other, whose masks, pending bits and receiver then decide. One that comes while the other
    /// function's interrupts are disabled is pending there until they are enabled.
    ///
    /// The other function must not be connected to this one, nor be this one, which is left out.
    pub(crate) fn connect_to(
        &self,
        kind: InterruptKind,
        start: u16,
        vectors: Vec<Option<(Self, u16)>>,
    ) {
        let receivers = vectors
            .into_iter()
            .map(|told| {
                let (interrupts, vector) = told?;
                let own = Arc::ptr_eq(&interrupts.shared, &self.shared);
                (!own).then(|| Arc::new(Told::Vector(interrupts, vector)))
            })
            .collect();
        self.connect_lines(kind, start, receivers);
    }

    fn connect_lines(&self, kind: InterruptKind, start: u16, receivers: Vec<Line<Told>>) {
        let unmask = match kind {
            InterruptKind::Msi => 0,
            InterruptKind::MsiX => MASKED_BY_REGISTER,
        };
        self.bank(kind).connect(start, receivers, unmask);
    }

    /// Enables a kind with this many vectors before any of them has a receiver: signalled ones are pending until
    /// theirs comes.
    pub(crate) fn enable(&self, kind: InterruptKind, vectors: u16) {
        self.bank(kind).enable(vectors);
    }

    /// [`Interrupts::signal`] for interrupts of functions behind this one, which nobody signals again: while
    /// none are enabled, what has an MSI-X vector is pending there.
    fn signal_or_hold(&self, vector: u16) {
        if self.signal(vector) == Delivery::Disabled {
            self.shared.msix.hold(vector);
        }
    }

    /// Frees a thread that hangs in telling a vector's receiver. Does not block.
    fn relieve(&self, vector: u16) {
        self.shared.msix.relieve(vector);
        if let Some(vector) = vector.checked_rem(self.shared.msi.enabled()) {
            self.shared.msi.relieve(vector);
        }
    }

    /// Takes every receiver of a kind away; forgets what is pending and what the client masked.
    /// What registers mask stays masked.
    pub fn disconnect(&self, kind: InterruptKind) {
        self.bank(kind).disconnect();
    }

    /// The function is gone: takes every receiver away, and ignores those that its client brings from now on.
    pub(crate) fn close(&self) {
        self.shared.msi.close();
        self.shared.msix.close();
    }

    /// Masks or unmasks a vector on the client's behalf (SET_IRQS).
    pub fn mask_by_client(&self, kind: InterruptKind, vector: u16, masked: bool) {
        self.bank(kind).set_mask(vector, MASKED_BY_CLIENT, masked);
    }

    /// Follows a vector's mask bit in the MSI-X table or the MSI capability.
    pub fn mask_by_register(&self, kind: InterruptKind, vector: u16, masked: bool) {
        self.bank(kind).set_mask(vector, MASKED_BY_REGISTER, masked);
    }

    /// Follows MSI-X control's Function Mask bit.
    pub fn mask_function(&self, masked: bool) {
        self.shared.msix.mask_function(masked);
    }

    /// Whether the vector's mask bit in the MSI-X table or the MSI capability is set.
    #[must_use]
    pub fn masked_by_register(&self, kind: InterruptKind, vector: u16) -> bool {
        self.bank(kind).masked_by_register(vector)
    }

    /// 64 pending bits, as the pending-bit array holds them: bit n of element `element` is vector
    /// `64 * element + n`.
    #[must_use]
    pub fn pending(&self, kind: InterruptKind, element: u64) -> u64 {
        self.bank(kind).pending(element)
    }

    /// Function reset: nothing is pending, and no register masks what has a receiver.
    pub(crate) fn reset(&self) {
        self.shared.msi.reset();
        self.shared.msix.reset();
    }
}

fn deliver_to(bank: &Bank<Told>, vector: u16) -> Option<Delivery> {
    if !bank.is_connected(vector) {
        return None;
    }
    match bank.signal(vector) {
        // Disabled since.
        Delivery::Disabled => None,
        delivery => Some(delivery),
    }
}

impl fmt::Debug for Interrupts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupts")
            .field("msi", &self.vectors(InterruptKind::Msi))
            .field("msix", &self.vectors(InterruptKind::MsiX))
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
