//! A VM's side of a domain, over our client end: it enumerates what is behind the endpoint as an operating system does, and drives
//! slots as one does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use hdv::domain::{MEMORY_BASE, PREFETCHABLE_BASE, TABLES_SIZE};
use hdv::pci::RoutingId;
use hdv::pci::enumerate::{ConfigBus, Enumeration, HotPlugReserve, Resources, enumerate};
use hdv_vfio_user::client::Client;

use crate::support::{GENEROUS, Place};

/// The region of the endpoint's window onto config space.
const CONFIG: u32 = 0;

/// Offsets in a port's PCI Express capability, and bits there (7.5.3.10, 7.5.3.11).
const SLOT_CONTROL: u16 = 0x18;
const SLOT_STATUS: u16 = 0x1a;
const BUTTON_PRESSED: u16 = 1 << 0;
const PRESENCE_CHANGED: u16 = 1 << 3;
const PRESENT: u16 = 1 << 6;
/// Button, presence and hot plug interrupts enabled.
const LISTEN: u16 = 1 << 0 | 1 << 3 | 1 << 5;
const INDICATOR_ON: u16 = 1 << 8;
const INDICATOR_OFF: u16 = 3 << 8;
const POWER_OFF: u16 = 1 << 10;

pub(super) struct Guest {
    client: Client,
}

fn offset(id: RoutingId, register: u16) -> u64 {
    u64::from(id.get()) << 12 | u64::from(register)
}

impl ConfigBus for Guest {
    fn read(&mut self, id: RoutingId, register: u16, data: &mut [u8]) {
        let at = offset(id, register);
        self.client.region_read(CONFIG, at, data).unwrap();
    }

    fn write(&mut self, id: RoutingId, register: u16, data: &[u8]) {
        let at = offset(id, register);
        self.client.region_write(CONFIG, at, data).unwrap();
    }
}

impl Guest {
    pub(super) fn connect(place: &Place, socket: &str) -> Self {
        let client = crate::connect(place, socket);
        Self { client }
    }

    pub(super) fn enumerate(&mut self) -> Enumeration {
        let size = |guest: &mut Self, region| guest.client.region_info(region).unwrap().size;
        let [config, memory, prefetchable] = [0, 2, 4].map(|region| size(self, region));
        let resources = Resources {
            buses: 0..=u8::try_from((config >> 20) - 1).unwrap(),
            memory: MEMORY_BASE..=MEMORY_BASE + memory - 1,
            prefetchable: Some(
                PREFETCHABLE_BASE + TABLES_SIZE..=PREFETCHABLE_BASE + prefetchable - 1,
            ),
            hot_plug: HotPlugReserve::default(),
        };
        enumerate(self, &resources).unwrap()
    }

    pub(super) fn word(&mut self, id: RoutingId, register: u16) -> u16 {
        let mut data = [0; 2];
        self.read(id, register, &mut data);
        u16::from_le_bytes(data)
    }

    pub(super) fn set_word(&mut self, id: RoutingId, register: u16, value: u16) {
        self.write(id, register, &value.to_le_bytes());
    }

    pub(super) fn express(&mut self, id: RoutingId) -> u16 {
        let mut at = self.word(id, 0x34) & 0xff;
        while self.word(id, at) & 0xff != 0x10 {
            at = self.word(id, at) >> 8;
            assert_ne!(at, 0, "{id} has no PCI Express capability");
        }
        at
    }

    /// Enables a slot's interrupts, as the driver of a slot does that it finds a device in, or none.
    pub(super) fn listen(&mut self, port: RoutingId) {
        let at = self.express(port);
        let status = self.word(port, at + SLOT_STATUS);
        let power = if status & PRESENT != 0 {
            INDICATOR_ON
        } else {
            INDICATOR_OFF | POWER_OFF
        };
        self.set_word(port, at + SLOT_STATUS, BUTTON_PRESSED | PRESENCE_CHANGED);
        self.set_word(port, at + SLOT_CONTROL, LISTEN | power);
    }

    /// Drives these slots until told to end: each press of a button turns one on or off.
    pub(super) fn drive(mut self, ports: Vec<RoutingId>) -> Driver {
        let ended = Arc::new(AtomicBool::new(false));
        let is_end = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let deadline = Instant::now() + GENEROUS;
            while !is_end.load(Ordering::Relaxed) {
                assert!(Instant::now() < deadline, "nobody ended the driver");
                for port in &ports {
                    self.look_at(*port);
                }
                std::thread::yield_now();
            }
            self
        });
        Driver { ended, thread }
    }

    /// Turns a slot on or off if its button was pressed.
    pub(super) fn look_at(&mut self, port: RoutingId) {
        let at = self.express(port);
        let status = self.word(port, at + SLOT_STATUS);
        if status & BUTTON_PRESSED == 0 {
            return;
        }
        self.set_word(port, at + SLOT_STATUS, BUTTON_PRESSED | PRESENCE_CHANGED);
        let is_off = self.word(port, at + SLOT_CONTROL) & POWER_OFF != 0;
        let power = if is_off {
            INDICATOR_ON
        } else {
            INDICATOR_OFF | POWER_OFF
        };
        self.set_word(port, at + SLOT_CONTROL, LISTEN | power);
    }
}

pub(super) struct Driver {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Guest>,
}

impl Driver {
    pub(super) fn end(self) -> Guest {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
