//! What the kernel says while devices come and go: nothing of what it says when something of its own is broken.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use super::super::log::parse;
use super::INSIDE;
use crate::checks::{Failure, ensure};
use crate::platform::Error;

/// The kernel's log, a record per read.
const LOG: &str = "/dev/kmsg";
/// The longest record, as the kernel bounds them.
const RECORD_BYTES: usize = 8192;
/// KERN_ERR: nothing of this level is said of anything.
const ERROR: u8 = 3;
/// KERN_WARNING: nothing of this level is said of what is inside.
const WARNING: u8 = 4;
/// Of these words none is said on any level.
const BROKEN: [&str; 8] = [
    "WARNING:",
    "BUG:",
    "Oops",
    "Call Trace",
    "hung",
    "detected stall",
    "refcount",
    "leak",
];

/// The kernel's log, as far as it has been read: as often as devices come and go, since it is overwritten.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    records: u64,
    /// Records that were overwritten before they were read.
    lost: u64,
    complaints: Vec<String>,
}

impl Log {
    /// The log from now on.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn open() -> Result<Self, Failure> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(LOG)
            .map_err(|error| Error::file(LOG, "open", error))?;
        let mut log = Self::of(file);
        log.read()?;
        let file = log.file;
        Ok(Self::of(file))
    }

    fn of(file: File) -> Self {
        Self {
            file,
            records: 0,
            lost: 0,
            complaints: Vec::new(),
        }
    }

    /// Reads what is new.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(&mut self) -> Result<(), Failure> {
        let mut record = [0; RECORD_BYTES];
        loop {
            match self.file.read(&mut record) {
                Ok(0) => return Ok(()),
                Ok(count) => self.take(&String::from_utf8_lossy(&record[..count])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::BrokenPipe => self.lost += 1,
                Err(error) => return Err(Error::file(LOG, "read", error).into()),
            }
        }
    }

    fn take(&mut self, record: &str) {
        self.records += 1;
        if let Some((level, message)) = parse(record)
            && is_complaint(level, message)
        {
            self.complaints.push(message.to_owned());
        }
    }

    /// How many lines there were; an error if one of them is a complaint, or may have been.
    ///
    /// # Errors
    /// What it complains of.
    pub(super) fn verdict(&self) -> Result<String, Failure> {
        let Self {
            records,
            lost,
            complaints,
            ..
        } = self;
        ensure(complaints.is_empty(), || complaints.join("; "))?;
        ensure(*lost == 0, || format!("{lost} times lines were lost"))?;
        ensure(*records > 0, || "the kernel says nothing".to_owned())?;
        Ok(format!("{records} lines, no complaint"))
    }
}

fn is_complaint(level: u8, message: &str) -> bool {
    level <= ERROR
        || level <= WARNING && message.contains(INSIDE)
        || BROKEN.iter().any(|word| message.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_told_from_the_rest() {
        let port = "pcieport 10000:00:01.0: pciehp: Slot(101): Link Down";
        assert!(!is_complaint(6, port));
        assert!(is_complaint(4, port));
        assert!(!is_complaint(4, "pci 0000:00:01.0: something"));
        assert!(is_complaint(3, "pci 0000:00:01.0: something"));
        assert!(is_complaint(6, "refcount_t: underflow; use-after-free."));
    }
}
