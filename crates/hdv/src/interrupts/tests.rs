use std::time::{Duration, Instant};

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

/// A function on a bus that another one carries, whose vector `outer_vector` its MSI-X vector 0 is.
fn inner_of(outer: &Interrupts, outer_vector: u16) -> Interrupts {
    let inner = Interrupts::new(0, 2);
    let told = vec![Some((outer.clone(), outer_vector))];
    inner.connect_to(InterruptKind::MsiX, 0, told);
    inner
}

#[test]
fn a_vector_of_another_function_is_told() {
    let outer = Interrupts::new(0, 3);
    let (give, keep) = event();
    outer.connect(InterruptKind::MsiX, 2, vec![Some(give)]);
    let (inner, other) = (inner_of(&outer, 2), inner_of(&outer, 2));
    assert_eq!(inner.signal(0), Delivery::Signalled);
    assert_eq!(other.signal(0), Delivery::Signalled);
    assert_eq!(taken(&keep), 2);
    // Masked where it is told: pending there, not here.
    outer.mask_by_client(InterruptKind::MsiX, 2, true);
    assert_eq!(inner.signal(0), Delivery::Signalled);
    assert_eq!(inner.pending(InterruptKind::MsiX, 0), 0);
    assert_eq!(outer.pending(InterruptKind::MsiX, 0), 0b100);
    outer.mask_by_client(InterruptKind::MsiX, 2, false);
    assert_eq!(taken(&keep), 1);
    // Masked here.
    inner.mask_by_client(InterruptKind::MsiX, 0, true);
    assert_eq!(inner.signal(0), Delivery::Pending);
    assert_eq!(taken(&keep), 0);
    inner.mask_by_client(InterruptKind::MsiX, 0, false);
    assert_eq!(taken(&keep), 1);
    // Pending until it is connected.
    assert_eq!(inner.signal(1), Delivery::Pending);
    inner.connect_to(InterruptKind::MsiX, 1, vec![Some((outer.clone(), 2))]);
    assert_eq!(taken(&keep), 1);
    inner.disconnect(InterruptKind::MsiX);
    assert_eq!(inner.signal(0), Delivery::Disabled);
    assert_eq!(taken(&keep), 0);
}

#[test]
fn an_interrupt_for_a_function_that_has_none_enabled_waits_there() {
    let outer = Interrupts::new(0, 2);
    let inner = inner_of(&outer, 1);
    assert_eq!(inner.signal(0), Delivery::Signalled);
    assert_eq!(outer.pending(InterruptKind::MsiX, 0), 0b10);
    let (give, keep) = event();
    outer.connect(InterruptKind::MsiX, 0, vec![None, Some(give)]);
    assert_eq!(taken(&keep), 1);
    // Not beyond a reset.
    outer.disconnect(InterruptKind::MsiX);
    inner.signal(0);
    outer.reset();
    let (give, keep) = event();
    outer.connect(InterruptKind::MsiX, 1, vec![Some(give)]);
    assert_eq!(taken(&keep), 0);
    // One that has no such vector, or is closed, is told nothing.
    let nowhere = inner_of(&Interrupts::new(0, 1), 7);
    assert_eq!(nowhere.signal(0), Delivery::Signalled);
    outer.close();
    assert_eq!(inner.signal(0), Delivery::Signalled);
    assert_eq!(taken(&keep), 0);
}

#[test]
fn msi_is_told_too_and_of() {
    let outer = Interrupts::new(2, 0);
    let (give, keep) = event();
    outer.connect(InterruptKind::Msi, 0, vec![None, Some(give)]);
    let inner = Interrupts::new(4, 0);
    inner.enable(InterruptKind::Msi, 2);
    assert_eq!(inner.signal(3), Delivery::Pending, "folded onto 1 of 2");
    inner.connect_to(InterruptKind::Msi, 0, vec![None, Some((outer.clone(), 1))]);
    assert_eq!(taken(&keep), 1);
    assert_eq!(inner.signal(1), Delivery::Signalled);
    assert_eq!(taken(&keep), 1);
}

#[test]
fn enabled_vectors_without_receivers_wait_for_them() {
    let interrupts = Interrupts::new(0, 2);
    interrupts.enable(InterruptKind::MsiX, 9);
    assert_eq!(interrupts.signal(1), Delivery::Pending);
    assert_eq!(interrupts.signal(2), Delivery::Disabled);
    let (give, keep) = event();
    interrupts.connect(InterruptKind::MsiX, 1, vec![Some(give)]);
    assert_eq!(taken(&keep), 1);
    // It was enabled already.
    interrupts.enable(InterruptKind::MsiX, 1);
    assert_eq!(interrupts.signal(1), Delivery::Signalled);
    interrupts.close();
    interrupts.enable(InterruptKind::MsiX, 2);
    assert_eq!(interrupts.signal(1), Delivery::Disabled);
}

#[test]
fn neither_keeps_the_other() {
    let outer = Interrupts::new(0, 1);
    let inner = inner_of(&outer, 0);
    // Itself it is never told.
    inner.connect_to(InterruptKind::MsiX, 1, vec![Some((inner.clone(), 0))]);
    assert!(!inner.bank(InterruptKind::MsiX).is_connected(1));
    let shared = Arc::downgrade(&inner.shared);
    drop(inner);
    assert_eq!(shared.strong_count(), 0);
    assert_eq!(Arc::strong_count(&outer.shared), 1);
}

#[test]
fn a_thread_that_hangs_in_the_other_function_s_eventfd_is_freed() {
    let outer = Interrupts::new(0, 1);
    let (give, keep) = event();
    outer.connect(InterruptKind::MsiX, 0, vec![Some(give)]);
    let inner = inner_of(&outer, 0);
    let flags = rustix::fs::fcntl_getfl(&keep).unwrap();
    rustix::fs::fcntl_setfl(&keep, flags & !rustix::fs::OFlags::NONBLOCK).unwrap();
    rustix::io::write(&keep, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    std::thread::scope(|scope| {
        let device = scope.spawn(|| inner.signal(0));
        // What a change of its receivers does while it waits for the device's thread.
        while !device.is_finished() && Instant::now() < deadline {
            inner.relieve(0);
            std::thread::yield_now();
        }
        assert_ne!(taken(&keep), u64::MAX - 1, "nobody freed it");
        assert_eq!(device.join().unwrap(), Delivery::Signalled);
    });
}
