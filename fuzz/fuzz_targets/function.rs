//! Any sequence of what a client can do to a function, against the sensor behind a real host: no
//! panic, no hang, no lost connection, and MSI-X table, pending bits and config space that agree
//! with each other after every step.

#![no_main]

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

use hdv::{DeviceHost, HostOptions};
use hdv_devices::sensor::{Sensor, SourceName, registers};
use hdv_vfio_user::client::{Client, ClientError, ClientOptions};
use hdv_vfio_user::vfio::{irq, region};
use hdv_vfio_user::{DmaFlags, IrqAction};
use libfuzzer_sys::fuzz_target;
use rustix::event::{EventfdFlags, eventfd};

const CONFIG_SIZE: u64 = 4096;
const MEMORY_SIZE: u64 = 1 << 20;
const VECTORS: usize = registers::VECTORS as usize;
/// Looks at pending bits before they must agree: a thread that signals sets one first and looks
/// for a reason to leave it afterwards.
const LOOKS: usize = 100_000;

/// Places in BAR0 where something happens.
const PLACES: [u64; 16] = [
    registers::CONTROL,
    registers::STATUS,
    registers::PERIOD,
    registers::COALESCE,
    registers::VALUE,
    registers::RING_ADDRESS,
    registers::RING_ADDRESS + 4,
    registers::RING_SIZE,
    registers::THRESHOLD_LOW,
    registers::THRESHOLD_HIGH,
    registers::SCRATCH,
    registers::MSIX_TABLE as u64,
    registers::MSIX_TABLE as u64 + 12,
    registers::MSIX_TABLE as u64 + 28,
    registers::MSIX_TABLE as u64 + 44,
    registers::MSIX_PENDING as u64,
];

/// The host lives as long as the process; every input is one client.
struct Stage {
    host: DeviceHost,
    socket: PathBuf,
    memory: OwnedFd,
}

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let name = format!("openhdv-fuzz-{}.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let host = DeviceHost::new(HostOptions::new().control(false)).expect("a host");
        let sensor = Sensor::new(&SourceName::Sine).expect("a sensor");
        host.serve(&socket, "sensor", sensor).expect("served");
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let memory = rustix::fs::memfd_create("fuzz", flags).expect("memfd");
        rustix::fs::ftruncate(&memory, MEMORY_SIZE).expect("sized");
        Stage {
            host,
            socket,
            memory,
        }
    })
}

/// The rest of the input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from(self.byte()?) << 8 | u64::from(self.byte()?))
    }

    fn bytes(&mut self, count: usize) -> &[u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// An offset and a length that mostly, but not always, lie in BAR0.
    fn place(&mut self) -> Option<(u64, usize)> {
        let kind = self.byte()?;
        let offset = if kind & 0x80 == 0 {
            PLACES[usize::from(kind & 0xf)]
        } else {
            self.number()? % (registers::BAR0_SIZE + 8)
        };
        Some((
            offset,
            [1, 2, 4, 8, 4, 3, 16, 0][usize::from(kind >> 4 & 7)],
        ))
    }
}

/// What the client knows of its interrupts.
#[derive(Default)]
struct Interrupts {
    events: [Option<OwnedFd>; VECTORS],
    masked: [bool; VECTORS],
}

/// Refusals are answers.
fn answered(result: Result<(), ClientError>) -> bool {
    match result {
        Ok(()) => true,
        Err(ClientError::Refused { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

fn read<const N: usize>(client: &mut Client, region: u32, offset: u64) -> [u8; N] {
    let mut data = [0; N];
    client.region_read(region, offset, &mut data).expect("read");
    data
}

/// The offset of a capability; the list ends.
fn capability(client: &mut Client, id: u8) -> u64 {
    let [mut at] = read::<1>(client, region::CONFIG, 0x34);
    for _ in 0..48 {
        let [found, next] = read(client, region::CONFIG, at.into());
        if found == id {
            return at.into();
        }
        at = next;
    }
    panic!("capability {id:#x} is not in the list");
}

fn check(client: &mut Client, interrupts: &Interrupts, msix: u64) {
    let identity = u32::from(registers::DEVICE_ID) << 16 | u32::from(registers::VENDOR_ID);
    assert_eq!(read(client, region::CONFIG, 0), identity.to_le_bytes());
    let [_, control] = read::<2>(client, region::CONFIG, msix + 2);
    let function_masked = control & 0x40 != 0;
    let masked: [bool; VECTORS] = std::array::from_fn(|vector| {
        let at = u64::from(registers::MSIX_TABLE) + 16 * vector as u64 + 12;
        let control = u32::from_le_bytes(read(client, region::BAR0, at));
        assert!(control <= 1, "vector control {control:#x}");
        control == 1
    });
    for look in 1.. {
        let pending =
            u64::from_le_bytes(read(client, region::BAR0, registers::MSIX_PENDING.into()));
        assert_eq!(pending >> VECTORS, 0, "bits of vectors that do not exist");
        let wrong = (0..VECTORS).find(|&vector| {
            let held = function_masked
                || masked[vector]
                || interrupts.masked[vector]
                || interrupts.events[vector].is_none();
            pending >> vector & 1 != 0 && !held
        });
        let Some(vector) = wrong else { break };
        assert!(look < LOOKS, "vector {vector} is pending for no reason");
    }
}

/// Carries out one step; `None` at the end of the input.
fn step(client: &mut Client, input: &mut Input<'_>, interrupts: &mut Interrupts) -> Option<()> {
    const BAR0: u32 = region::BAR0;
    let mut data = [0; 16];
    match input.byte()? % 12 {
        0 => {
            let (offset, length) = (input.number()? % (CONFIG_SIZE + 4), input.byte()? % 17);
            answered(client.region_read(region::CONFIG, offset, &mut data[..length.into()]));
        }
        1 => {
            let offset = input.number()? % (CONFIG_SIZE + 4);
            let length = usize::from(input.byte()? % 17);
            answered(client.region_write(region::CONFIG, offset, input.bytes(length)));
        }
        2 => {
            let (offset, length) = input.place()?;
            answered(client.region_read(BAR0, offset, &mut data[..length]));
        }
        3 => {
            let (offset, length) = input.place()?;
            answered(client.region_write(BAR0, offset, input.bytes(length)));
        }
        4 => {
            let (offset, length) = input.place()?;
            answered(client.region_write_posted(BAR0, offset, input.bytes(length)));
        }
        5 => {
            answered(client.reset());
        }
        6 => {
            let express = capability(client, 0x10);
            let [low, high] = read(client, region::CONFIG, express + 8);
            answered(client.region_write(region::CONFIG, express + 8, &[low, high | 0x80]));
        }
        7 => {
            let (start, count) = (
                usize::from(input.byte()? % 4),
                usize::from(input.byte()? % 5),
            );
            let events: Vec<OwnedFd> = (0..count)
                .map(|_| eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd"))
                .collect();
            let given: Vec<_> = events.iter().map(AsFd::as_fd).collect();
            if answered(client.set_irq_event_fds(irq::MSIX, start as u32, &given)) {
                for (vector, event) in (start..).zip(events) {
                    interrupts.events[vector] = Some(event);
                }
            }
        }
        8 => {
            let (start, count) = (input.byte()? % 4, input.byte()? % 5);
            let action = [IrqAction::Mask, IrqAction::Unmask, IrqAction::Trigger]
                [usize::from(input.byte()? % 3)];
            let done = client.act_on_irqs(irq::MSIX, start.into(), count.into(), action);
            let vectors = usize::from(start)..usize::from(start) + usize::from(count);
            if answered(done) && action == IrqAction::Trigger && count == 0 {
                *interrupts = Interrupts::default();
            } else if action != IrqAction::Trigger
                && count > 0
                && let Some(masked) = interrupts.masked.get_mut(vectors)
            {
                masked.fill(action == IrqAction::Mask);
            }
        }
        9 => {
            let (start, count) = (input.byte()? % 4, input.byte()? % 5);
            let done = client.clear_irq_event_fds(irq::MSIX, start.into(), count.into());
            if answered(done) {
                let vectors = usize::from(start)..usize::from(start) + usize::from(count);
                interrupts.events[vectors].fill_with(|| None);
            }
        }
        10 => {
            let (page, pages) = (u64::from(input.byte()?), u64::from(input.byte()?));
            let flags = DmaFlags::from_bits_truncate(input.byte()?.into());
            let file = (pages & 1 == 0).then(|| (stage().memory.as_fd(), 4096 * (page & 0xf)));
            answered(client.dma_map(4096 * page, 4096 * pages, flags, file));
        }
        _ => {
            let (page, pages) = (u64::from(input.byte()?), u64::from(input.byte()?));
            answered(client.dma_unmap(4096 * page, 4096 * pages));
        }
    }
    Some(())
}

fuzz_target!(|bytes: &[u8]| {
    let stage = stage();
    let mut client = Client::connect(&stage.socket, ClientOptions::default()).expect("served");
    let mut input = Input(bytes);
    let mut interrupts = Interrupts::default();
    let msix = capability(&mut client, 0x11);
    while step(&mut client, &mut input, &mut interrupts).is_some() {
        check(&mut client, &interrupts, msix);
    }
    let devices = stage.host.devices();
    assert_eq!(devices[0].state, "started");
});
