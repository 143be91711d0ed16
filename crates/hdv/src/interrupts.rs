//! Interrupts of one function: which eventfd each vector signals, what is masked, what is pending.
//!
//! Signalling takes no lock: one look at the vector's state and one eventfd write. The registers
//! through which a guest masks vectors are `hdv_pci`'s; the messages by which a client
//! gives eventfds are the transport's.

use std::convert::Infallible;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::sync::Published;

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

/// Masked by the client with SET_IRQS.
const MASKED_BY_CLIENT: u8 = 1 << 0;
/// Masked by the vector's mask bit in the MSI-X table or the MSI capability.
const MASKED_BY_REGISTER: u8 = 1 << 1;
const PENDING: u8 = 1 << 2;
const MASKED: u8 = MASKED_BY_CLIENT | MASKED_BY_REGISTER;

type Line = Option<Arc<OwnedFd>>;

/// The vectors of one kind.
struct Bank {
    /// Empty while the kind is disabled, otherwise one element per vector.
    lines: Published<Vec<Line>>,
    vectors: Box<[AtomicU8]>,
    /// Masks every vector, beside the vectors' own masks.
    function_masked: AtomicBool,
    /// The state of the register masks after a reset.
    reset_state: u8,
}

impl Bank {
    fn new(vectors: u16, reset_state: u8) -> Self {
        Self {
            lines: Published::new(Vec::new()),
            vectors: (0..vectors).map(|_| AtomicU8::new(reset_state)).collect(),
            function_masked: AtomicBool::new(false),
            reset_state,
        }
    }

    fn enabled(&self) -> bool {
        !self.lines.read().is_empty()
    }

    /// Fires if the vector has a receiver and nothing masks it.
    fn try_fire(&self, vector: u16) -> bool {
        let index = usize::from(vector);
        let Some(state) = self.vectors.get(index) else {
            return false;
        };
        if state.load(Ordering::SeqCst) & MASKED != 0 || self.function_masked.load(Ordering::SeqCst)
        {
            return false;
        }
        let lines = self.lines.read();
        let Some(Some(line)) = lines.get(index) else {
            return false;
        };
        // The counter can only be full when nobody has read 2^64 - 2 interrupts, and a client
        // that made it non-blocking loses nothing: it is readable already.
        let _ = rustix::io::write(line, &1u64.to_ne_bytes());
        true
    }

    /// Fires what is pending, if it can be now.
    fn flush(&self, vector: u16) {
        let Some(state) = self.vectors.get(usize::from(vector)) else {
            return;
        };
        if state.fetch_and(!PENDING, Ordering::SeqCst) & PENDING != 0 && !self.try_fire(vector) {
            state.fetch_or(PENDING, Ordering::SeqCst);
        }
    }

    fn signal(&self, vector: u16) -> Delivery {
        if self.try_fire(vector) {
            return Delivery::Signalled;
        }
        let Some(state) = self.vectors.get(usize::from(vector)) else {
            return Delivery::Disabled;
        };
        state.fetch_or(PENDING, Ordering::SeqCst);
        // Whoever unmasked the vector between our look and the store above saw nothing pending,
        // so look again: of the two, exactly one takes the bit.
        self.flush(vector);
        if state.load(Ordering::SeqCst) & PENDING != 0 {
            Delivery::Pending
        } else {
            Delivery::Signalled
        }
    }

    fn set_mask(&self, vector: u16, mask: u8, masked: bool) {
        let Some(state) = self.vectors.get(usize::from(vector)) else {
            return;
        };
        if masked {
            state.fetch_or(mask, Ordering::SeqCst);
        } else {
            state.fetch_and(!mask, Ordering::SeqCst);
            self.flush(vector);
        }
    }

    fn flush_all(&self) {
        for vector in (0..).take(self.vectors.len()) {
            self.flush(vector);
        }
    }

    fn replace_lines(&self, change: impl FnOnce(&Vec<Line>) -> Vec<Line>) {
        let replaced = self
            .lines
            .replace(|lines| Ok::<_, Infallible>((change(lines), ())));
        match replaced {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    /// Back to the state after reset; receivers stay, since they are the client's.
    fn reset(&self) {
        self.function_masked.store(false, Ordering::SeqCst);
        let lines = self.lines.read();
        for (index, state) in self.vectors.iter().enumerate() {
            let connected = lines.get(index).is_some_and(Option::is_some);
            let reset_state = if connected { 0 } else { self.reset_state };
            state.store(reset_state, Ordering::SeqCst);
        }
    }
}

struct Shared {
    msi: Bank,
    msix: Bank,
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
        Self {
            shared: Arc::new(Shared {
                msi: Bank::new(msi_vectors, 0),
                // The standard has every entry of the table masked after reset.
                msix: Bank::new(msix_vectors, MASKED_BY_REGISTER),
            }),
        }
    }

    /// Signals a vector: MSI-X if the guest enabled it, else MSI, whose vectors beyond
    /// those enabled fold onto the enabled ones by their low bits, as the standard lets a function do.
    pub fn signal(&self, vector: u16) -> Delivery {
        if self.shared.msix.enabled() {
            return self.shared.msix.signal(vector);
        }
        let enabled = self.shared.msi.lines.read().len();
        match u16::try_from(enabled) {
            Ok(enabled) if enabled > 0 => self.shared.msi.signal(vector % enabled),
            _ => Delivery::Disabled,
        }
    }

    fn bank(&self, kind: InterruptKind) -> &Bank {
        match kind {
            InterruptKind::Msi => &self.shared.msi,
            InterruptKind::MsiX => &self.shared.msix,
        }
    }

    /// How many vectors of a kind the function has.
    #[must_use]
    pub fn vectors(&self, kind: InterruptKind) -> u16 {
        // `new` took a u16.
        u16::try_from(self.bank(kind).vectors.len()).unwrap_or(u16::MAX)
    }

    /// Gives vectors from `start` on their receivers; `None` takes one away. What is pending
    /// for them fires. Vectors outside the function's are ignored.
    ///
    /// A vector with a receiver counts as unmasked in the table until the guest masks it there:
    /// VMMs keep the table to themselves and say with the eventfd that the vector is in use.
    pub fn connect(&self, kind: InterruptKind, start: u16, events: Vec<Option<OwnedFd>>) {
        let bank = self.bank(kind);
        let start = usize::from(start);
        let count = events.len();
        bank.replace_lines(|lines| {
            let mut lines = lines.clone();
            let needed = start.saturating_add(count).min(bank.vectors.len());
            if lines.len() < needed {
                lines.resize(needed, None);
            }
            for (line, event) in lines.iter_mut().skip(start).zip(events) {
                *line = event.map(Arc::new);
            }
            lines
        });
        for index in (start..bank.vectors.len()).take(count) {
            if bank.lines.read().get(index).is_some_and(Option::is_some) {
                let vector = u16::try_from(index).unwrap_or(u16::MAX);
                bank.set_mask(vector, MASKED_BY_REGISTER, false);
            }
        }
    }

    /// Takes every receiver of a kind away and forgets what is pending.
    pub fn disconnect(&self, kind: InterruptKind) {
        let bank = self.bank(kind);
        bank.replace_lines(|_| Vec::new());
        bank.reset();
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
        let bank = &self.shared.msix;
        bank.function_masked.store(masked, Ordering::SeqCst);
        if !masked {
            bank.flush_all();
        }
    }

    /// Whether the vector's mask bit in the MSI-X table or the MSI capability is set.
    #[must_use]
    pub fn masked_by_register(&self, kind: InterruptKind, vector: u16) -> bool {
        self.bank(kind)
            .vectors
            .get(usize::from(vector))
            .is_some_and(|state| state.load(Ordering::SeqCst) & MASKED_BY_REGISTER != 0)
    }

    /// 64 pending bits, as the pending-bit array holds them: bit n of element `element` is vector
    /// `64 * element + n`.
    #[must_use]
    pub fn pending(&self, kind: InterruptKind, element: u64) -> u64 {
        let first = usize::try_from(element.saturating_mul(64)).unwrap_or(usize::MAX);
        self.bank(kind)
            .vectors
            .iter()
            .skip(first)
            .take(64)
            .enumerate()
            .filter(|(_, state)| state.load(Ordering::SeqCst) & PENDING != 0)
            .fold(0, |bits, (bit, _)| bits | 1 << bit)
    }

    /// Function reset: nothing is pending, nothing is masked that has a receiver.
    pub(crate) fn reset(&self) {
        self.shared.msi.reset();
        self.shared.msix.reset();
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

#[cfg(test)]
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
    fn no_interrupt_is_lost_while_masks_change() {
        const ROUNDS: u64 = 20_000;
        let interrupts = Interrupts::new(0, 1);
        let (give, keep) = event();
        interrupts.connect(InterruptKind::MsiX, 0, vec![Some(give)]);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    interrupts.mask_by_register(InterruptKind::MsiX, 0, round % 2 == 0);
                }
                interrupts.mask_by_register(InterruptKind::MsiX, 0, false);
            });
            for _ in 0..ROUNDS {
                // Once it is not masked any more each signal must arrive, at the latest with the
                // unmasking.
                interrupts.signal(0);
            }
        });
        assert!(taken(&keep) > 0);
        assert_eq!(interrupts.pending(InterruptKind::MsiX, 0), 0);
    }
}
