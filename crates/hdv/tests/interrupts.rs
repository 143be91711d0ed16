//! Interrupts over a real socket: SET_IRQS, masks in MSI-X table and MSI capability, pending bits,
//! and descriptors that are not what they should be.

mod support;

use std::os::fd::{AsFd, OwnedFd};

use hdv::Delivery;
use hdv_vfio_user::{Errno, IrqAction, vfio};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use support::*;

const MSI: u32 = vfio::irq::MSI;
const MSIX: u32 = vfio::irq::MSIX;

#[test]
fn vectors_are_announced() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    assert_eq!(client.irq_info(MSIX).unwrap().count, 4);
    assert_eq!(client.irq_info(MSI).unwrap().count, 0);
    assert_eq!(client.irq_info(vfio::irq::INTX).unwrap().count, 0);
    assert_eq!(client.irq_info(vfio::irq::ERR).unwrap().count, 1);
    assert!(client.irq_info(vfio::irq::COUNT).is_err());
    // Errors have a receiver, who is never told.
    connect_vectors(&mut client, vfio::irq::ERR, 0, 1);
}

#[test]
fn a_device_thread_signals_and_disabling_ends_it() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    let interrupts = served.record.context().interrupts;
    assert_eq!(interrupts.signal(0), Delivery::Disabled);
    let events = connect_vectors(&mut client, MSIX, 0, 4);
    std::thread::scope(|scope| {
        for vector in 0..4 {
            let interrupts = interrupts.clone();
            scope.spawn(move || {
                for _ in 0..100 {
                    assert_eq!(interrupts.signal(vector), Delivery::Signalled);
                }
            });
        }
    });
    assert!(events.iter().all(|event| taken(event) == 100));
    client.clear_irq_event_fds(MSIX, 1, 1).unwrap();
    assert_eq!(interrupts.signal(1), Delivery::Pending);
    assert_eq!(interrupts.signal(0), Delivery::Signalled);
    client.disable_irqs(MSIX).unwrap();
    assert_eq!(interrupts.signal(0), Delivery::Disabled);
    assert_eq!(read32(&mut client, BAR0, MSIX_PENDING), 0, "forgotten");
    assert_eq!(taken(&events[0]), 1);
    // Enabled by the client before; nothing of it is left for the next.
    let events = connect_vectors(&mut client, MSIX, 0, 1);
    drop(client);
    wait_for("reset", || served.record.count(Call::Reset) == 1);
    assert_eq!(interrupts.signal(0), Delivery::Disabled);
    assert_eq!(taken(&events[0]), 0);
}

#[test]
fn the_msix_table_masks() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    // Masked after reset, unmasked by its receiver.
    let control = |vector: u64| MSIX_TABLE + 16 * vector + 12;
    assert_eq!(read32(&mut client, BAR0, control(3)), 1);
    let events = connect_vectors(&mut client, MSIX, 0, 4);
    assert_eq!(read32(&mut client, BAR0, control(3)), 0);
    for vector in 0..4u32 {
        let event = &events[usize::try_from(vector).unwrap()];
        write32(&mut client, BAR0, control(vector.into()), 1);
        for _ in 0..2 {
            write32(&mut client, BAR0, SIGNAL, vector);
        }
        assert_eq!(taken(event), 0);
        assert_eq!(read::<8>(&mut client, BAR0, MSIX_PENDING)[0], 1 << vector);
        write32(&mut client, BAR0, control(vector.into()), 0);
        assert_eq!(taken(event), 1, "once, however often it was signalled");
        assert_eq!(read32(&mut client, BAR0, MSIX_PENDING), 0);
    }
    // Function Mask.
    let msix = capability(&mut client, 0x11);
    let [low, high] = read::<2>(&mut client, CONFIG, msix + 2);
    client
        .region_write(CONFIG, msix + 2, &[low, high | 0xc0])
        .unwrap();
    write32(&mut client, BAR0, SIGNAL, 0);
    write32(&mut client, BAR0, SIGNAL, 3);
    assert_eq!(read32(&mut client, BAR0, MSIX_PENDING), 0b1001);
    client
        .region_write(CONFIG, msix + 2, &[low, high | 0x80])
        .unwrap();
    assert_eq!((taken(&events[0]), taken(&events[3])), (1, 1));
    assert_eq!(read32(&mut client, BAR0, MSIX_PENDING), 0);
}

#[test]
fn msi_masks_in_config_space() {
    let served = serve(Recorder::new(Kind::Msi));
    let mut client = served.connect();
    assert_eq!(client.irq_info(MSI).unwrap().count, 4);
    let msi = capability(&mut client, 0x05);
    let (mask, pending) = (msi + 0x10, msi + 0x14);
    // As Linux does it: everything masked first, then enabled, then unmasked one by one.
    write32(&mut client, CONFIG, mask, 0xf);
    client.region_write(CONFIG, msi + 2, &[0x21, 0]).unwrap();
    for _ in 0..2 {
        let events = connect_vectors(&mut client, MSI, 0, 4);
        for vector in 0..4u32 {
            let event = &events[usize::try_from(vector).unwrap()];
            write32(&mut client, BAR0, SIGNAL, vector);
            assert_eq!(taken(event), 0, "masked in its register");
            assert_eq!(read32(&mut client, CONFIG, pending), 1 << vector);
            write32(&mut client, CONFIG, mask, 0xf & !(1 << vector));
            assert_eq!(taken(event), 1);
            assert_eq!(read32(&mut client, CONFIG, pending), 0);
            write32(&mut client, CONFIG, mask, 0xf);
        }
        // The mask bits outlive the eventfds.
        client.disable_irqs(MSI).unwrap();
    }
    let events = connect_vectors(&mut client, MSI, 0, 2);
    write32(&mut client, CONFIG, mask, 0);
    write32(&mut client, BAR0, SIGNAL, 3);
    assert_eq!(taken(&events[1]), 1, "folded onto the two that are enabled");
}

#[test]
fn the_client_masks_unmasks_and_triggers() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    let events = connect_vectors(&mut client, MSIX, 0, 4);
    let counts = || -> Vec<u64> { events.iter().map(taken).collect() };
    client.act_on_irqs(MSIX, 0, 4, IrqAction::Trigger).unwrap();
    assert_eq!(counts(), [1, 1, 1, 1]);
    let chosen = [true, false, false, true];
    client
        .act_on_chosen_irqs(MSIX, 0, &chosen, IrqAction::Mask)
        .unwrap();
    client.act_on_irqs(MSIX, 0, 4, IrqAction::Trigger).unwrap();
    assert_eq!(counts(), [0, 1, 1, 0]);
    assert_eq!(read32(&mut client, BAR0, MSIX_PENDING), 0b1001);
    client
        .act_on_chosen_irqs(MSIX, 3, &[true], IrqAction::Unmask)
        .unwrap();
    assert_eq!(counts(), [0, 0, 0, 1]);
    client.act_on_irqs(MSIX, 0, 1, IrqAction::Unmask).unwrap();
    assert_eq!(counts(), [1, 0, 0, 0]);
    // The client's masks are not the function's to reset.
    client.act_on_irqs(MSIX, 0, 2, IrqAction::Mask).unwrap();
    function_level_reset(&mut client);
    client.reset().unwrap();
    client.act_on_irqs(MSIX, 0, 4, IrqAction::Trigger).unwrap();
    assert_eq!(counts(), [0, 0, 1, 1]);
    client.act_on_irqs(MSIX, 0, 2, IrqAction::Unmask).unwrap();
    assert_eq!(counts(), [1, 1, 0, 0]);
    for (start, count) in [(0, 5), (4, 1), (u32::MAX, 2)] {
        let error = client.act_on_irqs(MSIX, start, count, IrqAction::Trigger);
        assert_eq!(error.unwrap_err().errno(), Some(Errno::INVAL));
    }
    // Who wants to be told of masks is not served, and keeps nothing.
    let event = event();
    let error = client.bind_irq_event_fds(MSIX, 0, IrqAction::Mask, &[event.as_fd()]);
    assert_eq!(error.unwrap_err().errno(), Some(Errno::NOTSUP));
}

#[test]
fn what_is_no_eventfd_is_refused_and_changes_nothing() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    let good = connect_vectors(&mut client, MSIX, 0, 2);
    let (read_end, write_end) = rustix::pipe::pipe().unwrap();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let file = memfd(4096);
    let fresh = event();
    for bad in [
        read_end.as_fd(),
        write_end.as_fd(),
        socket.as_fd(),
        file.as_fd(),
    ] {
        let error = client.set_irq_event_fds(MSIX, 0, &[fresh.as_fd(), bad]);
        assert_eq!(error.unwrap_err().errno(), Some(Errno::INVAL));
    }
    client.act_on_irqs(MSIX, 0, 2, IrqAction::Trigger).unwrap();
    assert_eq!((taken(&good[0]), taken(&good[1]), taken(&fresh)), (1, 1, 0));
}

fn block_and_fill(event: &OwnedFd) {
    let flags = fcntl_getfl(event).unwrap();
    fcntl_setfl(event, flags & !OFlags::NONBLOCK).unwrap();
    rustix::io::write(event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
}

#[test]
fn a_full_blocking_eventfd_stops_no_device() {
    let served = serve(Recorder::default());
    let interrupts = served.record.context().interrupts;
    // Blocking and full when it is given: made non-blocking.
    let mut client = served.connect();
    let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    block_and_fill(&event);
    client.set_irq_event_fds(MSIX, 0, &[event.as_fd()]).unwrap();
    write32(&mut client, BAR0, SIGNAL, 0);
    // Made blocking again: the device's thread hangs, but not for the next client.
    fcntl_setfl(&event, fcntl_getfl(&event).unwrap() & !OFlags::NONBLOCK).unwrap();
    let entered = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let device = scope.spawn(|| {
            entered.wait();
            interrupts.signal(0)
        });
        entered.wait();
        drop(client);
        let mut next = served.connect();
        let events = connect_vectors(&mut next, MSIX, 0, 1);
        device.join().unwrap();
        taken(&events[0]);
        write32(&mut next, BAR0, SIGNAL, 0);
        assert_eq!(taken(&events[0]), 1);
    });
}
