//! A program that uses a function until it is gone: it holds its BAR mapped and its config space open, and reads both again and
//! again. A process of its own, for what the kernel does to a program whose device is pulled out may be its end.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use hdv_devices::sensor::registers::{IDENTIFICATION, IDENTIFICATION_VALUE, VENDOR_ID};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};

use super::{LIMIT, wait};
use crate::checks::{Failure, ensure};
use crate::platform::sysfs::{DEVICES, Sysfs};
use crate::platform::{BarAccess, Error, Width};

/// What the program is called with, before the address and the pace.
pub const HOLD: &str = "hold";
/// It has the function, and says so in a line.
const HELD: &str = "held";
/// Pause between two reads of one that is read at leisure, so that all can be read at once.
const PAUSE: Duration = Duration::from_millis(20);
/// What is read where nobody answers.
const NOBODY: u32 = u32::MAX;
/// The signal for memory that is not there any more.
const SIGBUS: i32 = 7;

/// How fast a function is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Without a pause: it is probably pulled out during a read.
    Fast,
    /// Now and then.
    Leisurely,
}

/// What became of a program's function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Its registers were all ones.
    AllOnes,
    /// The kernel took its memory away.
    Signal,
}

/// The program, running.
#[derive(Debug)]
pub(super) struct Holder {
    child: Child,
    address: String,
}

impl Holder {
    /// Starts it; it holds the function when [`Holder::await_hold`] returns.
    ///
    /// # Errors
    /// The kernel does not run it.
    pub(super) fn start(address: &str, pace: Pace) -> Result<Self, Failure> {
        let program = "/proc/self/exe";
        let child = Command::new(program)
            .args([HOLD, address])
            .args((pace == Pace::Fast).then_some("fast"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Error::file(program, "run", error))?;
        let address = address.to_owned();
        Ok(Self { child, address })
    }

    /// # Errors
    /// It does not say that it holds the function.
    pub(super) fn await_hold(&mut self) -> Result<(), Failure> {
        let said = self.line()?;
        ensure(said == HELD, || {
            format!("{}: its user says {said:?}", self.address)
        })
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    /// It does not end, or its reads were neither of a device nor of none.
    pub(super) fn end(mut self) -> Result<Seen, Failure> {
        let mut status = None;
        wait("the end of a device's user", LIMIT, || {
            let ended = self.child.try_wait();
            status = ended.map_err(|error| Error::file(&self.address, "wait for", error))?;
            Ok(status.is_some())
        })?;
        let status = status.unwrap_or_default();
        match (status.success(), status.signal()) {
            (true, _) => Ok(Seen::AllOnes),
            (_, Some(SIGBUS)) => Ok(Seen::Signal),
            _ => {
                let said = self.line().unwrap_or_default();
                let address = &self.address;
                Err(Failure::new(format!("{address}: {status}: {said}")))
            }
        }
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = Vec::new();
        let Some(output) = &self.child.stdout else {
            return Ok(String::new());
        };
        let deadline = Instant::now() + LIMIT;
        while line.last() != Some(&b'\n') {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or_default();
            let mut files = [PollFd::new(output, PollFlags::IN)];
            let count = poll(&mut files, Some(&left)).map_err(|errno| Error::call("poll", errno));
            ensure(count? != 0, || {
                format!("{}: its user is silent", self.address)
            })?;
            let mut byte = [0];
            match read(output, &mut byte) {
                Ok(0) => break,
                Ok(_) => line.extend(byte),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::call("read of a program", errno).into()),
            }
        }
        Ok(String::from_utf8_lossy(&line).trim().to_owned())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It has ended already where all is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program itself, with what is on its command line behind [`HOLD`]. It fails with a line that says why unless all that it
/// reads is of the device, until it is gone, and all ones from then on.
pub fn hold(arguments: &[String]) -> ExitCode {
    let (address, pace) = match arguments {
        [address] => (address, Pace::Leisurely),
        [address, _] => (address, Pace::Fast),
        _ => return ExitCode::from(2),
    };
    match follow(address, pace) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn follow(address: &str, pace: Pace) -> Result<(), Failure> {
    let function = Sysfs::open(address)?;
    let config = Path::new(DEVICES).join(address).join("config");
    let config = File::open(&config).map_err(|error| Error::file(&config, "open", error))?;
    let deadline = Instant::now() + LIMIT;
    let mut is_told = false;
    // Both have to say so: the one for the device, the other for what the kernel made of it.
    let (mut registers_gone, mut config_gone) = (false, false);
    while !(registers_gone && config_gone) {
        ensure(Instant::now() < deadline, || {
            format!("registers gone: {registers_gone}, config space gone: {config_gone}")
        })?;
        registers_gone = are_registers_gone(&function, registers_gone)?;
        config_gone = is_config_gone(&config)?;
        if !is_told {
            println!("{HELD}");
            let flushed = std::io::stdout().flush();
            flushed.map_err(|error| Error::file("stdout", "write", error))?;
            is_told = true;
        }
        if pace == Pace::Leisurely {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Whether nobody answers; who is gone stays so.
fn are_registers_gone(function: &Sysfs, were_gone: bool) -> Result<bool, Failure> {
    let value = function.read(0, IDENTIFICATION, Width::Dword)?;
    let is_gone = value == u64::from(NOBODY);
    let is_there = value == u64::from(IDENTIFICATION_VALUE) && !were_gone;
    ensure(is_gone || is_there, || {
        format!("a register reads {value:#x}, it was gone before: {were_gone}")
    })?;
    Ok(is_gone)
}

/// Whether the kernel has let go of the function. Before that nobody may answer.
fn is_config_gone(config: &File) -> Result<bool, Failure> {
    let mut id = [0; 2];
    match config.read_exact_at(&mut id, 0) {
        Ok(()) => {
            let id = u16::from_le_bytes(id);
            ensure(id == VENDOR_ID || id == u16::MAX, || {
                format!("the vendor id is {id:#x}")
            })?;
            Ok(false)
        }
        // No such device.
        Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(Error::file("config space", "read", error).into()),
    }
}
