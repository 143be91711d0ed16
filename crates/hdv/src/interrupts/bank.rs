//! The vectors of one kind of interrupt: masks, pending bits, receivers, and the rule that an
//! interrupt is delivered or stays pending, never lost. What a receiver is, is not known here.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use super::Delivery;
use crate::sync::Published;
use crate::sync::atomic::{AtomicBool, AtomicU8};

/// Masked by the client with SET_IRQS.
pub(super) const MASKED_BY_CLIENT: u8 = 1 << 0;
/// Masked by the vector's mask bit in the MSI-X table or the MSI capability.
pub(super) const MASKED_BY_REGISTER: u8 = 1 << 1;
const PENDING: u8 = 1 << 2;
const MASKED: u8 = MASKED_BY_CLIENT | MASKED_BY_REGISTER;

/// Who is told of an interrupt.
pub(super) trait Receiver: Send + Sync {
    /// Tells it.
    fn signal(&self);

    /// Frees a thread that hangs in [`Receiver::signal`]. Must not block.
    fn relieve(&self);
}

pub(super) type Line<R> = Option<Arc<R>>;

/// See the module's documentation.
pub(super) struct Bank<R> {
    /// Empty while the kind is disabled, otherwise one element per vector.
    lines: Published<Vec<Line<R>>>,
    /// Set once: a function may learn late how many vectors it has, and has none until then.
    vectors: OnceLock<Box<[AtomicU8]>>,
    /// Masks every vector, beside the vectors' own masks.
    function_masked: AtomicBool,
    /// The function is gone: no receiver is taken any more.
    closed: AtomicBool,
    /// The state of a vector without a receiver after a reset.
    reset_state: u8,
}

impl<R: Receiver> Bank<R> {
    /// Without vectors until [`Bank::declare`].
    pub(super) fn new(reset_state: u8) -> Self {
        Self {
            lines: Published::new(Vec::new()),
            vectors: OnceLock::new(),
            function_masked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            reset_state,
        }
    }

    /// Says how many vectors the function has. What was said first holds.
    pub(super) fn declare(&self, vectors: u16) {
        self.vectors.get_or_init(|| {
            (0..vectors)
                .map(|_| AtomicU8::new(self.reset_state))
                .collect()
        });
    }

    fn states(&self) -> &[AtomicU8] {
        self.vectors.get().map_or(&[], AsRef::as_ref)
    }

    /// Vectors that the function has.
    pub(super) fn vectors(&self) -> u16 {
        // `declare` took a u16.
        u16::try_from(self.states().len()).unwrap_or(u16::MAX)
    }

    /// Whether each vector has a receiver; shorter than the vectors where the rest have none.
    pub(super) fn connected(&self) -> Vec<bool> {
        self.lines.read().iter().map(Option::is_some).collect()
    }

    /// Whether a vector has a receiver.
    pub(super) fn is_connected(&self, vector: u16) -> bool {
        self.lines
            .read()
            .get(usize::from(vector))
            .is_some_and(Option::is_some)
    }

    /// Vectors that the client has enabled; 0 while the kind is disabled.
    pub(super) fn enabled(&self) -> u16 {
        u16::try_from(self.lines.read().len()).unwrap_or(u16::MAX)
    }

    /// Signals at once, if the vector has a receiver and nothing masks it.
    fn fire(&self, vector: u16) -> bool {
        let index = usize::from(vector);
        let Some(state) = self.states().get(index) else {
            return false;
        };
        if state.load() & MASKED != 0 || self.function_masked.load() {
            return false;
        }
        let lines = self.lines.read();
        let Some(Some(line)) = lines.get(index) else {
            return false;
        };
        line.signal();
        true
    }

    /// Fires what is pending, if nothing holds it back now.
    ///
    /// Whoever sets the pending bit, and whoever takes away what held it back, calls this
    /// afterwards: the later of them sees both. The bit is taken in one step with the look at the masks and
    /// never put back, or an unmasking in between would find nothing to fire.
    fn flush(&self, vector: u16) {
        let index = usize::from(vector);
        let Some(state) = self.states().get(index) else {
            return;
        };
        let lines = self.lines.read();
        if let Some(Some(line)) = lines.get(index)
            && !self.function_masked.load()
            && state.take(PENDING, MASKED)
        {
            line.signal();
        }
    }

    pub(super) fn signal(&self, vector: u16) -> Delivery {
        if self.fire(vector) {
            return Delivery::Signalled;
        }
        let Some(state) = self.states().get(usize::from(vector)) else {
            return Delivery::Disabled;
        };
        state.set(PENDING);
        self.flush(vector);
        if state.load() & PENDING == 0 {
            Delivery::Signalled
        } else if self.enabled() == 0 {
            // Disabled since: nothing may be left for the next time.
            state.clear(PENDING);
            Delivery::Disabled
        } else {
            Delivery::Pending
        }
    }

    /// Makes a vector pending although the kind is disabled, until it is enabled or reset.
    pub(super) fn hold(&self, vector: u16) {
        if let Some(state) = self.states().get(usize::from(vector)) {
            state.set(PENDING);
            self.flush(vector);
        }
    }

    /// Frees a thread that hangs in telling a vector's receiver.
    pub(super) fn relieve(&self, vector: u16) {
        if let Some(Some(line)) = self.lines.read().get(usize::from(vector)) {
            line.relieve();
        }
    }

    pub(super) fn set_mask(&self, vector: u16, mask: u8, masked: bool) {
        let Some(state) = self.states().get(usize::from(vector)) else {
            return;
        };
        if masked {
            state.set(mask);
        } else {
            state.clear(mask);
            self.flush(vector);
        }
    }

    pub(super) fn mask_function(&self, masked: bool) {
        self.function_masked.store(masked);
        if !masked {
            for vector in 0..self.vectors() {
                self.flush(vector);
            }
        }
    }

    /// Gives vectors from `start` on their receivers and clears `unmask` of those that got one.
    pub(super) fn connect(&self, start: u16, receivers: Vec<Line<R>>, unmask: u8) {
        let first = usize::from(start);
        let count = receivers.len();
        self.replace_lines(|lines| {
            let mut lines = lines.clone();
            if self.closed.load() {
                return lines;
            }
            let end = first.saturating_add(count).min(self.states().len());
            // Taking away what is not there enables nothing.
            if lines.len() < end && receivers.iter().any(Option::is_some) {
                lines.resize(end, None);
            }
            for (line, receiver) in lines.iter_mut().skip(first).zip(receivers) {
                *line = receiver;
            }
            lines
        });
        for vector in (start..self.vectors()).take(count) {
            if self.is_connected(vector) {
                self.set_mask(vector, unmask, false);
            }
        }
    }

    /// Enables the kind with this many vectors, if it is not: those that have no receiver are pending when they
    /// are signalled.
    pub(super) fn enable(&self, vectors: u16) {
        self.replace_lines(|lines| {
            let mut lines = lines.clone();
            let count = usize::from(vectors).min(self.states().len());
            if !self.closed.load() && lines.len() < count {
                lines.resize(count, None);
            }
            lines
        });
    }

    /// Takes every receiver away and forgets what is pending and what the client masked. The registers'
    /// masks are the registers'.
    pub(super) fn disconnect(&self) {
        self.replace_lines(|_| Vec::new());
        for state in self.states() {
            state.clear(PENDING | MASKED_BY_CLIENT);
        }
    }

    /// [`Bank::disconnect`], for good.
    pub(super) fn close(&self) {
        // Seen by whoever changes the lines after us.
        self.closed.store(true);
        self.disconnect();
    }

    fn replace_lines(&self, change: impl FnOnce(&Vec<Line<R>>) -> Vec<Line<R>>) {
        let replaced = self.lines.replace_helping(
            |lines| Ok::<_, Infallible>((change(lines), ())),
            |lines| {
                for receiver in lines.iter().flatten() {
                    receiver.relieve();
                }
            },
        );
        match replaced {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    pub(super) fn masked_by_register(&self, vector: u16) -> bool {
        self.states()
            .get(usize::from(vector))
            .is_some_and(|state| state.load() & MASKED_BY_REGISTER != 0)
    }

    /// 64 pending bits from vector `64 * element` on.
    pub(super) fn pending(&self, element: u64) -> u64 {
        let first = usize::try_from(element.saturating_mul(64)).unwrap_or(usize::MAX);
        self.states()
            .iter()
            .skip(first)
            .take(64)
            .enumerate()
            .filter(|(_, state)| state.load() & PENDING != 0)
            .fold(0, |bits, (bit, _)| bits | 1 << bit)
    }

    /// Back to the state after reset; receivers and the client's masks stay, since they are the
    /// client's.
    pub(super) fn reset(&self) {
        self.function_masked.store(false);
        let lines = self.lines.read();
        for (index, state) in self.states().iter().enumerate() {
            let connected = lines.get(index).is_some_and(Option::is_some);
            let reset_state = if connected { 0 } else { self.reset_state };
            state.reset(MASKED_BY_CLIENT, reset_state);
        }
    }
}

/// Every order in which a signal can meet what holds interrupts back.
#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    use super::*;

    /// Counts what it is told.
    struct Counter(AtomicUsize);

    impl Receiver for Counter {
        fn signal(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn relieve(&self) {}
    }

    fn counter() -> std::sync::Arc<Counter> {
        std::sync::Arc::new(Counter(AtomicUsize::new(0)))
    }

    fn one_vector() -> Bank<Counter> {
        let bank = Bank::new(0);
        bank.declare(1);
        bank
    }

    /// One signal meets `change`; afterwards nothing holds it back: it must have arrived, once.
    fn delivered(
        prepare: fn(&Bank<Counter>),
        change: fn(&Bank<Counter>, &std::sync::Arc<Counter>),
        connected: bool,
    ) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(move || {
            let bank = Arc::new(one_vector());
            let receiver = counter();
            if connected {
                bank.connect(0, vec![Some(std::sync::Arc::clone(&receiver))], 0);
            }
            prepare(&bank);
            let device = thread::spawn({
                let bank = Arc::clone(&bank);
                move || bank.signal(0)
            });
            change(&bank, &receiver);
            let delivery = device.join().expect("no panic");
            let count = receiver.0.load(Ordering::SeqCst);
            if delivery == Delivery::Disabled {
                assert!(!connected && count <= 1);
            } else {
                assert_eq!(count, 1, "{delivery:?}");
            }
            assert_eq!(bank.pending(0), 0);
        });
    }

    #[test]
    fn loom_a_signal_meets_an_unmasking() {
        delivered(
            |bank| bank.set_mask(0, MASKED_BY_REGISTER, true),
            |bank, _| bank.set_mask(0, MASKED_BY_REGISTER, false),
            true,
        );
    }

    #[test]
    fn loom_a_signal_meets_masking_and_unmasking() {
        delivered(
            |_| {},
            |bank, _| {
                bank.set_mask(0, MASKED_BY_REGISTER, true);
                bank.set_mask(0, MASKED_BY_REGISTER, false);
            },
            true,
        );
    }

    #[test]
    fn loom_a_signal_meets_the_function_mask() {
        delivered(
            |bank| bank.mask_function(true),
            |bank, _| bank.mask_function(false),
            true,
        );
    }

    #[test]
    fn loom_a_signal_meets_its_receiver() {
        delivered(
            |_| {},
            |bank, receiver| bank.connect(0, vec![Some(std::sync::Arc::clone(receiver))], 0),
            false,
        );
    }

    #[test]
    fn loom_no_receiver_comes_after_the_function_s_end() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(|| {
            let bank = Arc::new(one_vector());
            let receiver = counter();
            let client = thread::spawn({
                let (bank, receiver) = (Arc::clone(&bank), std::sync::Arc::clone(&receiver));
                move || bank.connect(0, vec![Some(receiver)], 0)
            });
            bank.close();
            client.join().expect("no panic");
            assert_eq!(bank.signal(0), Delivery::Disabled);
            assert_eq!(receiver.0.load(Ordering::SeqCst), 0);
        });
    }

    #[test]
    fn loom_nothing_is_left_of_a_signal_that_meets_the_end() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(|| {
            let bank = Arc::new(one_vector());
            let receiver = counter();
            bank.connect(0, vec![Some(std::sync::Arc::clone(&receiver))], 0);
            bank.set_mask(0, MASKED_BY_CLIENT, true);
            let device = thread::spawn({
                let bank = Arc::clone(&bank);
                move || bank.signal(0)
            });
            bank.disconnect();
            let before = receiver.0.load(Ordering::SeqCst);
            let _ = device.join().expect("no panic");
            assert_eq!(
                receiver.0.load(Ordering::SeqCst),
                before,
                "told after its end"
            );
            assert_eq!(bank.pending(0), 0);
        });
    }

    /// An interrupt for a function whose interrupts are being enabled, from one behind it.
    #[test]
    fn loom_what_is_held_meets_the_enabling() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(|| {
            let bank = Arc::new(one_vector());
            let receiver = counter();
            let device = thread::spawn({
                let bank = Arc::clone(&bank);
                move || {
                    if bank.enabled() == 0 || bank.signal(0) == Delivery::Disabled {
                        bank.hold(0);
                    }
                }
            });
            bank.connect(0, vec![Some(std::sync::Arc::clone(&receiver))], 0);
            device.join().expect("no panic");
            // A signal that was told just before it learnt that it is disabled may come twice.
            let count = receiver.0.load(Ordering::SeqCst);
            assert!((1..=2).contains(&count), "{count}");
            assert_eq!(bank.pending(0), 0);
        });
    }
}
