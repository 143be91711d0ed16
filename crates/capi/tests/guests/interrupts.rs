//! Interrupts by message.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use computecore::{HdvDeliverGuestInterrupt, codes};
use hdv_vfio_user::client::Client;
use hdv_vfio_user::vfio;

use crate::device::{Call, MSIX_CAPABILITY, Served, lock, serve};
use crate::guest::{BAR0, CONFIG, event, read, taken, write};

/// Enables MSI-X as a driver and its VMM do: the table's entries unmasked, the capability's enable
/// bit, eventfds for the vectors.
pub(crate) fn enable_msix(client: &mut Client) -> Vec<OwnedFd> {
    let events = vec![event(), event()];
    let borrowed: Vec<_> = events.iter().map(AsFd::as_fd).collect();
    client
        .set_irq_event_fds(vfio::irq::MSIX, 0, &borrowed)
        .expect("taken");
    for vector in 0..2u64 {
        write(client, BAR0, 0x3000 + vector * 16 + 12, &0u32.to_le_bytes());
    }
    write(
        client,
        CONFIG,
        MSIX_CAPABILITY + 2,
        &0x8000u16.to_le_bytes(),
    );
    events
}

fn deliver(served: &Served, vector: usize) -> i32 {
    let (address, data) = served.state.message(vector);
    HdvDeliverGuestInterrupt(served.device(), address, data)
}

#[test]
fn hdv_deliver_guest_interrupt_success() {
    let served = serve();
    let mut client = served.guest();
    let events = enable_msix(&mut client);
    for (vector, event) in events.iter().enumerate() {
        assert_eq!(deliver(&served, vector), codes::S_OK, "vector {vector}");
        assert_eq!(taken(event), 1, "vector {vector}");
    }
    assert_ne!(served.state.message(0), served.state.message(1));
}

#[test]
fn hdv_deliver_guest_interrupt_not_found() {
    let served = serve();
    let mut client = served.guest();
    // Not enabled yet.
    assert_eq!(deliver(&served, 0), codes::NOT_FOUND);
    let events = enable_msix(&mut client);
    let (address, data) = served.state.message(0);
    for (address, data) in [(address, data ^ 0x4000), (address ^ 0x1000, data), (0, 0)] {
        let result = HdvDeliverGuestInterrupt(served.device(), address, data);
        assert_eq!(result, codes::NOT_FOUND, "{address:#x}, {data:#x}");
    }
    assert_eq!(events.iter().map(taken).sum::<u64>(), 0);
}

#[test]
fn hdv_deliver_guest_interrupt_inside_callback() {
    let served = serve();
    let mut client = served.guest();
    let events = enable_msix(&mut client);
    let (address, data) = served.state.message(1);
    let result = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&result);
    served.state.hook(Call::Read(0, 8, 4), move |device| {
        *lock(&noted) = Some(HdvDeliverGuestInterrupt(device, address, data));
    });
    read::<4>(&mut client, BAR0, 8);
    assert_eq!(*lock(&result), Some(codes::S_OK));
    assert_eq!(taken(&events[1]), 1);
}
