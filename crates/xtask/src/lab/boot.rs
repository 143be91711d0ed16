//! One boot of the lab's guest and the lines it prints.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hdv_guest::ask;
use hdv_guest::report::Line;
use hdv_qemu::guest::{RunningGuest, Scratch};
use hdv_qemu::machine::{KERNEL_PARAMETERS, Machine, Serial, VfioUserDevice};
use serde_json::Value;

use super::Lab;
use crate::interrupt;

const MEMORY_MIB: u32 = 512;
/// How long a wait for the guest goes without a look at whether the task is to end.
const LOOK: Duration = Duration::from_millis(200);

/// What to boot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Boot {
    /// Sockets of the devices, in the order of their PCI addresses.
    pub(crate) sockets: Vec<PathBuf>,
    /// QEMU's own devices.
    pub(crate) emulated: Vec<Emulated>,
    /// Further arguments of QEMU.
    pub(crate) arguments: Vec<String>,
    /// With a virtual IOMMU, so that vfio-pci can be used.
    pub(crate) iommu: bool,
    /// The guest program's parameters (`openhdv.*`).
    pub(crate) parameters: String,
    /// The guest may boot again by itself.
    pub(crate) reboot: bool,
}

/// A device of QEMU's own, in the JSON form of `-device`.
#[derive(Clone, Debug)]
pub(crate) enum Emulated {
    /// Behind a PCI Express root port of its own.
    BehindPort(Value),
    /// On no bus.
    Plain(Value),
}

impl Lab {
    /// Starts the guest.
    pub(crate) fn boot(&self, boot: &Boot) -> hdv_qemu::Result<Guest> {
        let iommu = if boot.iommu { "intel_iommu=on" } else { "" };
        let append = format!("{KERNEL_PARAMETERS} quiet {iommu} {}", boot.parameters);
        let mut machine = Machine::new(self.accelerator.accelerator)
            .memory_mib(MEMORY_MIB)
            .kernel(self.kernel.vmlinuz())
            .initrd(&self.initramfs)
            .append(append)
            .iommu(boot.iommu)
            .serial(Serial::Stdio)
            .reboot(boot.reboot);
        for socket in &boot.sockets {
            machine = machine.device(VfioUserDevice::new(socket));
        }
        for (device, number) in boot.emulated.iter().zip(1..) {
            machine = match device {
                Emulated::Plain(device) => machine.other_device(device.clone()),
                Emulated::BehindPort(device) => {
                    let port = format!("port{number}");
                    let mut device = device.clone();
                    device["bus"] = port.as_str().into();
                    machine.root_port(port).other_device(device)
                }
            };
        }
        for argument in &boot.arguments {
            machine = machine.argument(argument);
        }
        Ok(Guest {
            running: RunningGuest::start(&self.qemu, machine, Scratch::new()?)?,
            doer: Box::new(|words| Err(format!("nobody here does {words:?}"))),
        })
    }
}

/// Does what the guest program asks for in words; what there is to tell of it, or why it is not done.
type Doer = Box<dyn FnMut(&str) -> Result<String, String>>;

/// A guest that runs the guest program.
pub(crate) struct Guest {
    running: RunningGuest,
    doer: Doer,
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

impl Guest {
    /// The same guest, for which `doer` does what its program asks for while its lines are taken.
    pub(crate) fn with_doer(
        mut self,
        doer: impl FnMut(&str) -> Result<String, String> + 'static,
    ) -> Self {
        self.doer = Box::new(doer);
        self
    }

    /// The next line of the guest program, beside what it asks for, which is done; `None` when QEMU has ended or the task is to end.
    fn next(&mut self, limit: Duration) -> hdv_qemu::Result<Option<Line>> {
        let deadline = Instant::now() + limit;
        while !interrupt::requested() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.running.next_line(left.min(LOOK)) {
                Err(hdv_qemu::Error::TimedOut { .. }) if left > LOOK => {}
                Err(error) => return Err(error),
                Ok(None) => return Ok(None),
                Ok(Some(text)) => match Line::parse(&text) {
                    Some(Line::Ask { words }) => {
                        let answer = ask::answer(&(self.doer)(&words));
                        self.running.send(answer.as_bytes())?;
                    }
                    Some(line) => return Ok(Some(line)),
                    None => {}
                },
            }
        }
        Ok(None)
    }

    /// The guest program's next line that is there within `limit`.
    pub(crate) fn poll(&mut self, limit: Duration) -> Result<Option<Line>, String> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.running.next_line(left) {
                Ok(Some(text)) => {
                    if let Some(line) = Line::parse(&text) {
                        return Ok(Some(line));
                    }
                }
                Err(hdv_qemu::Error::TimedOut { .. }) => return Ok(None),
                Ok(None) => return Err(format!("it ended early:\n{}", self.last_lines())),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Lets a guest program that waits go on.
    pub(crate) fn go_on(&mut self) -> hdv_qemu::Result<()> {
        self.running.send(b"\n")
    }

    /// Takes the guest's lines until it has been through so many boots; how many those were, and what
    /// kept it from more.
    pub(crate) fn follow(
        &mut self,
        rounds: u32,
        limit: Duration,
        sink: &mut dyn FnMut(Line),
    ) -> (u32, Result<(), String>) {
        let mut done = 0;
        while done < rounds {
            match self.next(limit) {
                Ok(Some(Line::Done { .. })) => done += 1,
                Ok(Some(line)) => sink(line),
                Ok(None) if interrupt::requested() => return (done, Err("interrupted".to_owned())),
                Ok(None) => {
                    let lines = self.last_lines();
                    return (done, Err(format!("it ended early:\n{lines}")));
                }
                Err(error) => {
                    let lines = self.last_lines();
                    return (done, Err(format!("{error}\n{lines}")));
                }
            }
        }
        (done, Ok(()))
    }

    /// Waits for samples of a sensor; how many came.
    pub(crate) fn samples(&mut self, wanted: u32, limit: Duration) -> hdv_qemu::Result<u32> {
        let mut samples = 0;
        while samples < wanted {
            match self.next(limit)? {
                Some(Line::Sample { .. }) => samples += 1,
                Some(_) => {}
                None => break,
            }
        }
        Ok(samples)
    }

    /// Waits until QEMU has ended, which it should with success and without a word; what it did instead.
    pub(crate) fn end_in_silence(self, limit: Duration) -> Result<(), String> {
        match self.end(limit) {
            Ok((true, errors)) if errors.is_empty() => Ok(()),
            Ok((_, errors)) => Err(format!("QEMU printed {:?}", errors.join("\n"))),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Ends QEMU with SIGKILL.
    pub(crate) fn kill(&mut self) -> hdv_qemu::Result<()> {
        self.running.kill().map(|_| ())
    }

    /// Waits until QEMU has ended; what it printed on standard error.
    fn end(mut self, limit: Duration) -> hdv_qemu::Result<(bool, Vec<String>)> {
        let status = self.running.wait(limit)?;
        Ok((status.success(), self.running.errors()))
    }

    /// The last lines of the console, for people to see what went wrong.
    pub(crate) fn last_lines(&self) -> String {
        let lines = self.running.serial_lines();
        let first = lines.len().saturating_sub(20);
        lines[first..].join("\n")
    }
}
