//! Interrupts of one function: which eventfd each vector signals, what is masked, what is pending.
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

use bank::{Bank, MASKED_BY_CLIENT, MASKED_BY_REGISTER};
use receiver::EventFd;

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
    msi: Bank<EventFd>,
    msix: Bank<EventFd>,
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

    fn bank(&self, kind: InterruptKind) -> &Bank<EventFd> {
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
            .map(|event| event.map(|event| Arc::new(EventFd::new(event))))
            .collect();
        let unmask = match kind {
            InterruptKind::Msi => 0,
            InterruptKind::MsiX => MASKED_BY_REGISTER,
        };
        self.bank(kind).connect(start, receivers, unmask);
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

fn deliver_to(bank: &Bank<EventFd>, vector: u16) -> Option<Delivery> {
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
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    fn event() -> (OwnedFd, OwnedFd) {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
        (event.try_clone().unwrap(), event)
    }

    fn taken(event: &OwnedFd) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(event, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(error) => {
                assert_eq!(error, rustix::io::Errno::AGAIN);
                0
            }
        }
    }

    #[test]
    fn without_a_receiver_interrupts_are_disabled() {
        let interrupts = Interrupts::new(0, 2);
        assert_eq!(interrupts.signal(0), Delivery::Disabled);
        assert_eq!(interrupts.pending(InterruptKind::MsiX, 0), 0);
    }

    #[test]
    fn a_vector_without_its_own_receiver_waits_for_one() {
        let interrupts = Interrupts::new(0, 3);
        let (give, keep) = event();
        interrupts.connect(InterruptKind::MsiX, 0, vec![Some(give)]);
        assert_eq!(interrupts.signal(2), Delivery::Pending);
        assert_eq!(interrupts.pending(InterruptKind::MsiX, 0), 0b100);
        let (give_2, keep_2) = event();
        interrupts.connect(InterruptKind::MsiX, 2, vec![Some(give_2)]);
        assert_eq!(taken(&keep_2), 1);
        assert_eq!(taken(&keep), 0);
        assert_eq!(interrupts.pending(InterruptKind::MsiX, 0), 0);
        assert_eq!(interrupts.signal(3), Delivery::Disabled);
    }

    #[test]
    fn each_mask_holds_an_interrupt_back_and_lets_it_go() {
        let interrupts = Interrupts::new(0, 1);
        let (give, keep) = event();
        interrupts.connect(InterruptKind::MsiX, 0, vec![Some(give)]);
        let masks: [&dyn Fn(bool); 3] = [
            &|masked| interrupts.mask_by_client(InterruptKind::MsiX, 0, masked),
            &|masked| interrupts.mask_by_register(InterruptKind::MsiX, 0, masked),
            &|masked| interrupts.mask_function(masked),
        ];
        for mask in masks {
            mask(true);
            assert_eq!(interrupts.signal(0), Delivery::Pending);
            assert_eq!(interrupts.signal(0), Delivery::Pending);
            assert_eq!(taken(&keep), 0);
            mask(false);
            assert_eq!(taken(&keep), 1);
            assert_eq!(interrupts.signal(0), Delivery::Signalled);
            assert_eq!(taken(&keep), 1);
        }
    }

    #[test]
    fn reset_forgets_what_is_pending_and_keeps_receivers() {
        let interrupts = Interrupts::new(0, 1);
        let (give, keep) = event();
        interrupts.connect(InterruptKind::MsiX, 0, vec![Some(give)]);
        interrupts.mask_by_register(InterruptKind::MsiX, 0, true);
        assert_eq!(interrupts.signal(0), Delivery::Pending);
        interrupts.reset();
        assert_eq!(taken(&keep), 0);
        assert_eq!(interrupts.signal(0), Delivery::Signalled);
        assert_eq!(taken(&keep), 1);
        interrupts.disconnect(InterruptKind::MsiX);
        assert_eq!(interrupts.signal(0), Delivery::Disabled);
    }

    #[test]
    fn msi_vectors_fold_onto_the_enabled_ones() {
        let interrupts = Interrupts::new(4, 0);
        let (give_0, keep_0) = event();
        let (give_1, keep_1) = event();
        interrupts.connect(InterruptKind::Msi, 0, vec![Some(give_0), Some(give_1)]);
        for vector in 0..4 {
            assert_eq!(interrupts.signal(vector), Delivery::Signalled);
        }
        assert_eq!((taken(&keep_0), taken(&keep_1)), (2, 2));
    }

    #[test]
    fn vectors_may_be_declared_late_and_once() {
        let interrupts = Interrupts::undeclared();
        let signaller = interrupts.clone();
        let (give, keep) = event();
        interrupts.connect(InterruptKind::MsiX, 0, vec![Some(give)]);
        assert_eq!(signaller.signal(0), Delivery::Disabled, "no vectors yet");
        interrupts.declare(4, 2);
        interrupts.declare(1, 1);
        assert_eq!(signaller.vectors(InterruptKind::Msi), 4);
        assert_eq!(signaller.vectors(InterruptKind::MsiX), 2);
        let (give, _) = event();
        interrupts.connect(InterruptKind::MsiX, 0, vec![Some(give)]);
        assert_eq!(signaller.signal(0), Delivery::Signalled);
        assert_eq!(taken(&keep), 0);
    }

    #[test]
    fn messages_find_enabled_vectors_only() {
        let interrupts = Interrupts::new(2, 2);
        let msix = |vector| interrupts.deliver(MsixMessage::ADDRESS, MsixMessage::data(vector));
        let message = MsiMessage {
            address: 0x1000,
            data: 0x40,
            vectors: 2,
        };
        assert_eq!((msix(0), interrupts.deliver(0x1000, 0x40)), (None, None));
        interrupts.set_msi_message(Some(message));
        assert_eq!(interrupts.deliver(0x1000, 0x40), None, "no receiver");
        let (give, keep) = event();
        interrupts.connect(InterruptKind::Msi, 0, vec![Some(give)]);
        assert_eq!(interrupts.deliver(0x1000, 0x40), Some(Delivery::Signalled));
        assert_eq!(interrupts.deliver(0x1000, 0x41), None);
        assert_eq!(taken(&keep), 1);
        interrupts.set_msi_message(None);
        assert_eq!(interrupts.deliver(0x1000, 0x40), None);
        let (give, keep) = event();
        interrupts.connect(InterruptKind::MsiX, 1, vec![Some(give)]);
        assert_eq!((msix(0), msix(2)), (None, None));
        assert_eq!(msix(1), Some(Delivery::Signalled));
        interrupts.mask_by_client(InterruptKind::MsiX, 1, true);
        assert_eq!(msix(1), Some(Delivery::Pending));
        interrupts.mask_by_client(InterruptKind::MsiX, 1, false);
        assert_eq!(taken(&keep), 2);
    }

    #[test]
    fn no_interrupt_is_lost_while_masks_change() {
        const ROUNDS: u64 = 5_000;
        let interrupts = Interrupts::new(0, 1);
        let (give, keep) = event();
        interrupts.connect(InterruptKind::MsiX, 0, vec![Some(give)]);
        let barrier = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    interrupts.mask_by_register(InterruptKind::MsiX, 0, true);
                    barrier.wait();
                    interrupts.mask_by_register(InterruptKind::MsiX, 0, false);
                    barrier.wait();
                }
            });
            for round in 0..ROUNDS {
                barrier.wait();
                // Exactly once: at once, or with the unmasking.
                interrupts.signal(0);
                barrier.wait();
                assert_eq!(taken(&keep), 1, "round {round}");
            }
        });
        assert_eq!(interrupts.pending(InterruptKind::MsiX, 0), 0);
    }

    #[test]
    fn connecting_or_disabling_msi_leaves_its_mask_bits() {
        let interrupts = Interrupts::new(1, 0);
        interrupts.mask_by_register(InterruptKind::Msi, 0, true);
        for _ in 0..2 {
            let (give, keep) = event();
            interrupts.connect(InterruptKind::Msi, 0, vec![Some(give)]);
            assert_eq!(interrupts.signal(0), Delivery::Pending);
            assert_eq!(taken(&keep), 0);
            interrupts.disconnect(InterruptKind::Msi);
            assert_eq!(interrupts.pending(InterruptKind::Msi, 0), 0);
        }
    }

    #[test]
    fn disabling_msix_leaves_the_function_mask() {
        let interrupts = Interrupts::new(0, 1);
        interrupts.mask_function(true);
        interrupts.disconnect(InterruptKind::MsiX);
        let (give, keep) = event();
        interrupts.connect(InterruptKind::MsiX, 0, vec![Some(give)]);
        assert_eq!(interrupts.signal(0), Delivery::Pending);
        interrupts.mask_function(false);
        assert_eq!(taken(&keep), 1);
    }

    #[test]
    fn taking_away_what_is_not_there_enables_nothing() {
        let interrupts = Interrupts::new(1, 1);
        interrupts.connect(InterruptKind::MsiX, 0, vec![None]);
        assert_eq!(interrupts.signal(0), Delivery::Disabled);
        let (give, keep) = event();
        interrupts.connect(InterruptKind::Msi, 0, vec![Some(give)]);
        assert_eq!(interrupts.signal(0), Delivery::Signalled);
        assert_eq!(taken(&keep), 1);
        // Of the other kind, which is not enabled.
        assert_eq!(
            interrupts.trigger(InterruptKind::MsiX, 0),
            Delivery::Disabled
        );
        assert_eq!(
            interrupts.trigger(InterruptKind::Msi, 0),
            Delivery::Signalled
        );
        assert_eq!(taken(&keep), 1);
    }

    #[test]
    fn a_full_eventfd_that_became_blocking_again_stops_nobody() {
        let interrupts = Interrupts::new(0, 1);
        let (give, keep) = event();
        interrupts.connect(InterruptKind::MsiX, 0, vec![Some(give)]);
        let flags = rustix::fs::fcntl_getfl(&keep).unwrap();
        rustix::fs::fcntl_setfl(&keep, flags & !rustix::fs::OFlags::NONBLOCK).unwrap();
        rustix::io::write(&keep, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        std::thread::scope(|scope| {
            let device = scope.spawn(|| interrupts.signal(0));
            interrupts.disconnect(InterruptKind::MsiX);
            let delivery = device.join().unwrap();
            assert_ne!(delivery, Delivery::Pending);
        });
        assert_eq!(interrupts.signal(0), Delivery::Disabled);
    }
}
