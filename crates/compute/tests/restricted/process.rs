//! A restricted process: it is this program again, which locks itself in and has devices that show what is left to it. Registers
//! of their BAR 0, dwords:
//!
//! | offset | |
//! | --- | --- |
//! | 0x00 | write: tries something, by its number in `tries`; read: the error that it got |
//! | 0x04 | guest address of a buffer |
//! | 0x08 | write: copies that many bytes of it behind it, through an aperture if bit 31 is set; read: 0 if that worked |
//! | 0x0c | write: signals that vector |
//! | 0x10 | a doorbell; read: how often it rang |
//! | 0x14 | write: registers that many further doorbells; read: how many there are |
//! | 0x18 | read: how many strings its configuration had |
//! | 0x1000 | a page of a section |

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hdv::{
    Bar, BarAccess, BarIndex, BarOffset, ClassCode, ConfigError, ConfigSpace, DeviceContext,
    DeviceError, DeviceHost, DeviceIds, Doorbell, GuestAddress, HostOptions, Identity, MmioError,
    Msix, PciDevice, Section, SectionFlags, Uuid, pci_function,
};
use hdv_compute::{BROKER_FD_VARIABLE, RestrictedSystem, broker_socket, lock_in};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use crate::played::DEVICES;
use crate::tries::all;

pub(crate) const OUTCOME: u64 = 0x00;
pub(crate) const BUFFER: u64 = 0x04;
pub(crate) const COPY: u64 = 0x08;
pub(crate) const SIGNAL: u64 = 0x0c;
pub(crate) const BELL: u64 = 0x10;
pub(crate) const DOORBELLS: u64 = 0x14;
pub(crate) const CONFIGURATION: u64 = 0x18;
pub(crate) const SECTION: u64 = 0x1000;
/// In a copy's length: through an aperture.
pub(crate) const APERTURE: u32 = 1 << 31;

#[derive(Default)]
pub(crate) struct Device {
    context: Option<DeviceContext>,
    configuration: usize,
    outcome: u32,
    buffer: u32,
    copied: u32,
    rung: Arc<AtomicU32>,
    doorbells: Vec<OwnedFd>,
}

fn doorbell(value: Option<u64>) -> Doorbell {
    Doorbell {
        bar: BarIndex::BAR0,
        offset: BELL,
        size: None,
        value,
    }
}

fn failed(error: impl std::fmt::Display) -> DeviceError {
    DeviceError::new(error.to_string())
}

impl Device {
    fn context(&self) -> DeviceContext {
        self.context.clone().expect("powered on")
    }

    fn copy(&self, request: u64) -> Result<(), DeviceError> {
        let memory = self.context().memory;
        let length = usize::try_from(request & 0xffff).expect("small");
        let from = u64::from(self.buffer);
        let mut bytes = vec![0; length];
        if request & u64::from(APERTURE) == 0 {
            memory.read(GuestAddress(from), &mut bytes)?;
            memory.write(GuestAddress(from + (request & 0xffff)), &bytes)?;
        } else {
            let aperture = memory.aperture(GuestAddress(from), 2 * length, false)?;
            let slice = aperture.as_volatile_slice();
            slice.copy_to(&mut bytes);
            slice.offset(length).map_err(failed)?.copy_from(&bytes);
        }
        Ok(())
    }

    /// Registers further doorbells until one is refused.
    fn register(&mut self, count: u64) {
        let mmio = self.context().mmio;
        for number in 0..count {
            let event = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd");
            match mmio.register_doorbell(doorbell(Some(number + 1000)), event.as_fd()) {
                Ok(()) => self.doorbells.push(event),
                Err(MmioError::Limit { .. }) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl PciDevice for Device {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let identity = Identity {
            vendor_id: 0x4f48,
            device_id: 0x7ffd,
            revision_id: 0,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        };
        let place = |offset| BarOffset::new(BarIndex::BAR2, offset);
        ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory32(0x2000))
            .bar(BarIndex::BAR2, Bar::memory32(0x1000))
            .capability(Msix::new(2, place(0), place(0x800)))
            .build()
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        let event = eventfd(0, EventfdFlags::CLOEXEC).map_err(failed)?;
        let bell = context
            .mmio
            .register_doorbell(doorbell(None), event.as_fd());
        bell?;
        let file = memfd_create("section", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
        let file = file.map_err(failed)?;
        ftruncate(&file, 2 * SECTION).map_err(failed)?;
        fcntl_add_seals(&file, SealFlags::SHRINK).map_err(failed)?;
        let section = Section {
            bar: BarIndex::BAR0,
            offset: SECTION,
            length: 0x1000,
            // As far into the file as into the BAR, so that a client may map it.
            file_offset: SECTION,
            flags: SectionFlags::WRITEABLE,
        };
        context.mmio.create_section(section, file.as_fd())?;
        self.context = Some(context);
        let rung = Arc::clone(&self.rung);
        let thread = std::thread::Builder::new().name("bell".to_owned());
        let thread = thread.spawn(move || {
            let mut count = [0; 8];
            while rustix::io::read(&event, &mut count).is_ok() {
                rung.fetch_add(u32::from(count[0]), Ordering::SeqCst);
            }
        });
        thread.map(drop).map_err(failed)
    }

    fn set_configuration(&mut self, values: &[String]) -> Result<(), DeviceError> {
        self.configuration = values.len();
        Ok(())
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        let small = |number: usize| u32::try_from(number).expect("small");
        access.read_dwords(|offset| match offset {
            OUTCOME => self.outcome,
            COPY => self.copied,
            BELL => self.rung.load(Ordering::SeqCst),
            DOORBELLS => small(self.doorbells.len()),
            CONFIGURATION => small(self.configuration),
            _ => 0,
        })
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        match access.offset {
            OUTCOME => {
                let (_, attempt) = all()
                    .nth(usize::try_from(value).expect("small"))
                    .expect("one");
                let error = attempt().err().map(|error| error.raw_os_error());
                self.outcome = error.map_or(0, |number| number.unwrap_or(-1).cast_unsigned());
            }
            BUFFER => self.buffer = u32::try_from(value).expect("a dword"),
            COPY => self.copied = u32::from(self.copy(value).is_err()),
            SIGNAL => {
                let vector = u16::try_from(value).expect("a vector");
                self.context().interrupts.signal(vector);
            }
            DOORBELLS => self.register(value),
            _ => {}
        }
    }

    fn reset(&mut self) {}
}

/// Descriptors that are open here.
fn open() -> BTreeSet<String> {
    let list = std::fs::read_dir("/proc/self/fd").unwrap();
    let mut open = BTreeSet::new();
    for entry in list {
        let entry = entry.unwrap();
        // Not the list's own.
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if !target.starts_with("/proc") {
            open.insert(entry.file_name().into_string().unwrap());
        }
    }
    open
}

#[test]
fn a_process_that_nobody_restricted_has_no_broker() {
    let Ok(socket) = std::env::var(BROKER_FD_VARIABLE) else {
        let error = broker_socket().unwrap_err();
        assert!(error.to_string().contains(BROKER_FD_VARIABLE), "{error}");
        return;
    };
    // Somebody did: this is the restricted process of another test.
    let expected = ["0", "1", "2", &socket].map(str::to_owned);
    assert_eq!(open(), BTreeSet::from(expected));
    let broker = broker_socket().unwrap();
    broker_socket().unwrap_err();
    lock_in().unwrap();
    lock_in().unwrap();
    let host = DeviceHost::new(HostOptions::restricted()).unwrap();
    host.attach(RestrictedSystem::over(broker).unwrap())
        .unwrap();
    for instance in std::env::var(DEVICES).unwrap().split(',') {
        let ids = DeviceIds {
            class_id: Uuid::from_u128(0xc1a5),
            instance_id: instance.parse().unwrap(),
        };
        let function = pci_function(Box::new(Device::default())).unwrap();
        let device = host.create_device(ids, function).unwrap();
        host.announce(device.id()).unwrap();
    }
    // Its broker's end is the devices', and the last device's is its own.
    while !host.device_ids().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_descriptor_that_is_something_else_stays_open() {
    if let Ok(number) = std::env::var(BROKER_FD_VARIABLE) {
        for _ in 0..2 {
            let error = broker_socket().unwrap_err();
            assert!(error.to_string().contains("no Unix socket"), "{error}");
            assert!(open().contains(&number));
        }
        return;
    }
    let (pipe, _other) = rustix::pipe::pipe().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "process::a_descriptor_that_is_something_else_stays_open",
            "--exact",
        ])
        .env(BROKER_FD_VARIABLE, pipe.as_raw_fd().to_string())
        .status();
    assert!(status.unwrap().success());
}
