//! A device behind callbacks that records its calls, and does what a test scripts.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use hdv::{
    BarIndex, Details, DeviceCallbacks, DeviceError, DeviceHost, HostError, Interrupts, Mmio,
    PnpId, callback_function,
};
use hdv_vfio_user::client::Client;

use crate::support::{connect, host, lock};

/// The code of every failure here, one that no standard table has.
pub(crate) const CODE: i32 = -0x1234_5679;

/// A call into the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    Initialize,
    SetConfiguration(Vec<String>),
    GetDetails,
    Start,
    Stop,
    Teardown,
    ConfigRead(u32),
    ConfigWrite(u32, u32),
    Read(BarIndex, u64, usize),
    Write(BarIndex, u64, Vec<u8>),
}

/// What a callback is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Initialize,
    SetConfiguration,
    GetDetails,
    Start,
    Config,
    Memory,
}

/// The device's inside, which a test shares with it.
pub(crate) struct Inside {
    pub(crate) calls: Vec<Called>,
    /// What config reads answer; config writes change all of it.
    pub(crate) config: Vec<u32>,
    /// BAR 0; the others are no memory.
    pub(crate) memory: Vec<u8>,
    pub(crate) probed_bars: [u32; 6],
    pub(crate) vendor_id: u16,
    pub(crate) fails: Vec<Step>,
    /// Its config space does not change.
    pub(crate) read_only: bool,
    /// It forgets its memory at a function level reset.
    pub(crate) express: Option<u32>,
}

/// A test's hold on the device.
#[derive(Clone)]
pub(crate) struct Script(Arc<Mutex<Inside>>);

pub(crate) const MSIX_TABLE: u64 = 0x800;
pub(crate) const MSIX_PENDING: u64 = 0xc00;

impl Script {
    /// BAR 0 with 4096 bytes, 32-bit, a config space of zeros.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Inside {
            calls: Vec::new(),
            config: vec![0; 1024],
            memory: vec![0; 4096],
            probed_bars: [0xffff_f000, 0, 0, 0, 0, 0],
            vendor_id: 0x4f48,
            fails: Vec::new(),
            read_only: false,
            express: None,
        })))
    }

    /// With a capability list: power management at 0x40, MSI-X with four vectors at 0x50, PCI Express with
    /// function level reset at 0x60, MSI with four maskable vectors at 0xa0; a serial number at 0x100 and advanced error
    /// reporting at 0x140.
    pub(crate) fn capable() -> Self {
        let script = Self::new();
        script.set_config(&[
            (0x04, 0x0010_0000),
            (0x34, 0x40),
            (0x40, 0x0003_5001),
            (0x50, 0x0003_6011),
            (0x54, 0x800),
            (0x58, 0xc00),
            (0x60, 0x0002_a010),
            (0x64, 0x1000_8000),
            (0xa0, 0x0184_0005),
            (0x100, 0x1401_0003),
            (0x140, 0x0002_0001),
        ]);
        script.inside(|inside| inside.express = Some(0x60));
        script
    }

    pub(crate) fn inside<R>(&self, change: impl FnOnce(&mut Inside) -> R) -> R {
        change(&mut lock(&self.0))
    }

    pub(crate) fn set_config(&self, dwords: &[(u32, u32)]) {
        self.inside(|inside| {
            for &(offset, value) in dwords {
                inside.config[index(offset)] = value;
            }
        });
    }

    pub(crate) fn failing(self, step: Step) -> Self {
        self.inside(|inside| inside.fails.push(step));
        self
    }

    pub(crate) fn function(&self) -> Box<dyn hdv::Function> {
        callback_function(Box::new(self.clone()))
    }

    /// Calls since the last look.
    pub(crate) fn taken(&self) -> Vec<Called> {
        self.inside(|inside| std::mem::take(&mut inside.calls))
    }

    /// The calls of its life, all of them until now.
    pub(crate) fn life(&self) -> Vec<Called> {
        let mut calls = self.inside(|inside| inside.calls.clone());
        calls.retain(|call| {
            !matches!(
                call,
                Called::ConfigRead(_)
                    | Called::ConfigWrite(..)
                    | Called::Read(..)
                    | Called::Write(..)
            )
        });
        calls
    }

    pub(crate) fn taken_writes(&self) -> Vec<Called> {
        let mut calls = self.taken();
        calls.retain(|call| matches!(call, Called::ConfigWrite(..) | Called::Write(..)));
        calls
    }

    /// A dword of BAR 0.
    pub(crate) fn dword(&self, offset: u64) -> u32 {
        let at = usize::try_from(offset).expect("small");
        self.inside(|inside| {
            u32::from_le_bytes(inside.memory[at..at + 4].try_into().expect("four"))
        })
    }

    fn called(&self, call: Called, step: Option<Step>) -> Result<(), DeviceError> {
        self.inside(|inside| {
            inside.calls.push(call);
            match step {
                Some(step) if inside.fails.contains(&step) => {
                    Err(DeviceError::new("as the test wants").with_code(CODE))
                }
                _ => Ok(()),
            }
        })
    }
}

fn index(offset: u32) -> usize {
    usize::try_from(offset / 4).expect("small")
}

impl DeviceCallbacks for Script {
    fn initialize(&mut self) -> Result<(), DeviceError> {
        self.called(Called::Initialize, Some(Step::Initialize))
    }

    fn set_configuration(&mut self, values: &[String]) -> Result<(), DeviceError> {
        let call = Called::SetConfiguration(values.to_vec());
        self.called(call, Some(Step::SetConfiguration))
    }

    fn get_details(&mut self) -> Result<Details, DeviceError> {
        self.called(Called::GetDetails, Some(Step::GetDetails))?;
        Ok(self.inside(|inside| Details {
            pnp_id: PnpId {
                vendor_id: inside.vendor_id,
                device_id: 0x1234,
                revision_id: 7,
                prog_if: 2,
                sub_class: 0x80,
                base_class: 0x11,
                sub_vendor_id: 0xabcd,
                sub_system_id: 0xef01,
            },
            probed_bars: inside.probed_bars,
        }))
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.called(Called::Start, Some(Step::Start))
    }

    fn stop(&mut self) {
        let _ = self.called(Called::Stop, None);
    }

    fn teardown(&mut self) {
        let _ = self.called(Called::Teardown, None);
    }

    fn read_config_space(&mut self, offset: u32) -> Result<u32, DeviceError> {
        self.called(Called::ConfigRead(offset), Some(Step::Config))?;
        Ok(self.inside(|inside| inside.config[index(offset)]))
    }

    fn write_config_space(&mut self, offset: u32, value: u32) -> Result<(), DeviceError> {
        self.called(Called::ConfigWrite(offset, value), Some(Step::Config))?;
        self.inside(|inside| {
            let resets = inside.express.map(|express| express + 8) == Some(offset);
            if resets && value & 0x8000 != 0 {
                inside.memory.fill(0);
            } else if !inside.read_only {
                inside.config[index(offset)] = value;
            }
        });
        Ok(())
    }

    fn read_intercepted_memory(
        &mut self,
        bar: BarIndex,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), DeviceError> {
        let call = Called::Read(bar, offset, data.len());
        self.inside(|inside| {
            let at = usize::try_from(offset).expect("small");
            match inside.memory.get(at..at + data.len()) {
                Some(bytes) if bar == BarIndex::BAR0 => data.copy_from_slice(bytes),
                _ => data.fill(0x5a),
            }
        });
        // Also when it fails: the guest must not see what it wrote.
        self.called(call, Some(Step::Memory))
    }

    fn write_intercepted_memory(
        &mut self,
        bar: BarIndex,
        offset: u64,
        data: &[u8],
    ) -> Result<(), DeviceError> {
        self.called(
            Called::Write(bar, offset, data.to_vec()),
            Some(Step::Memory),
        )?;
        self.inside(|inside| {
            let at = usize::try_from(offset).expect("small");
            if bar == BarIndex::BAR0
                && let Some(bytes) = inside.memory.get_mut(at..at + data.len())
            {
                bytes.copy_from_slice(data);
            }
        });
        Ok(())
    }
}

/// A host that serves the device.
pub(crate) struct Served {
    pub(crate) host: DeviceHost,
    pub(crate) interrupts: Interrupts,
    pub(crate) mmio: Mmio,
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl Served {
    pub(crate) fn connect(&self) -> Client {
        connect(&self.socket)
    }
}

pub(crate) fn try_serve(script: &Script) -> Result<Served, HostError> {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("device.sock");
    let function = script.function();
    let interrupts = function.interrupts().clone();
    let mmio = function.mmio().clone();
    let host = host();
    host.serve_function(&socket, "script", function)?;
    Ok(Served {
        host,
        interrupts,
        mmio,
        socket,
        _directory: directory,
    })
}

pub(crate) fn serve(script: &Script) -> Served {
    try_serve(script).expect("served")
}
