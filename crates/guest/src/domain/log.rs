//! The kernel's log: nothing in it that is a complaint of the domain, and what it says of what is done to it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::INSIDE;
use super::found::DRIVER;
use crate::checks::{Failure, Verdict, ensure};
use crate::platform::{Error, Result};

/// The kernel's log, a record per read.
const LOG: &str = "/dev/kmsg";
/// The longest record, as the kernel bounds them.
const RECORD_BYTES: usize = 8192;
/// KERN_WARNING: what is numbered higher is no complaint.
const WARNING: u8 = 4;
/// The bits of a record's first number that are its level.
const LEVEL: u64 = 7;
/// Pause between two looks for a record.
const LOOK: Duration = Duration::from_millis(10);

/// The log from some record on.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
}

impl Log {
    /// From the kernel's first record on.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn whole() -> Result<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(LOG)
            .map_err(|error| Error::file(LOG, "open", error))?;
        Ok(Self { file })
    }

    /// From now on.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn from_now() -> Result<Self> {
        let mut log = Self::whole()?;
        log.file
            .seek(SeekFrom::End(0))
            .map_err(|error| Error::file(LOG, "seek in", error))?;
        Ok(log)
    }

    /// Level and message of the next record; `None` when there is none now.
    fn next(&mut self) -> Result<Option<(u8, String)>> {
        let mut record = [0; RECORD_BYTES];
        loop {
            let count = match self.file.read(&mut record) {
                Ok(0) => return Ok(None),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                // It was overwritten before it was read.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => continue,
                Err(error) => return Err(Error::file(LOG, "read", error)),
            };
            let text = String::from_utf8_lossy(&record[..count]);
            if let Some((level, message)) = parse(&text) {
                return Ok(Some((level, message.to_owned())));
            }
        }
    }

    /// Waits for a record that has all of `words`, and returns all up to that one.
    ///
    /// # Errors
    /// None has come within `limit`.
    pub(super) fn wait_for(
        &mut self,
        words: &[&str],
        limit: Duration,
    ) -> std::result::Result<Vec<String>, Failure> {
        let deadline = Instant::now() + limit;
        let mut seen = Vec::new();
        loop {
            if let Some((_, message)) = self.next()? {
                let is_it = words.iter().all(|word| message.contains(word));
                seen.push(message);
                if is_it {
                    return Ok(seen);
                }
            } else if Instant::now() >= deadline {
                let seen = seen.join("; ");
                let text = format!("the kernel does not say {words:?}, but: {seen}");
                return Err(Failure::new(text));
            } else {
                std::thread::sleep(LOOK);
            }
        }
    }
}

pub(super) fn check() -> Verdict {
    let mut records = 0;
    let mut complaints = Vec::new();
    let mut log = Log::whole()?;
    while let Some((level, message)) = log.next()? {
        if message.contains(INSIDE) || message.contains(DRIVER) {
            records += 1;
            if level <= WARNING {
                complaints.push(message);
            }
        }
    }
    ensure(records > 0, || "the kernel says nothing of it".to_owned())?;
    ensure(complaints.is_empty(), || complaints.join("; "))?;
    Ok(format!("{records} lines, no complaint"))
}

/// Level and message of a record: `6,339,5140900,-;NET: Registered protocol family 10`.
pub(super) fn parse(record: &str) -> Option<(u8, &str)> {
    let (head, rest) = record.split_once(';')?;
    let number: u64 = head.split(',').next()?.parse().ok()?;
    let level = u8::try_from(number & LEVEL).ok()?;
    Some((level, rest.lines().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_a_level_and_a_message() {
        let record = "12,7,1,-;pci 10000:00:01.0: broken\n SUBSYSTEM=pci\n";
        assert_eq!(parse(record), Some((4, "pci 10000:00:01.0: broken")));
        assert_eq!(parse("6,1,1,c;vmd"), Some((6, "vmd")));
        assert_eq!(parse("x;y"), None);
        assert_eq!(parse("nothing"), None);
    }
}
