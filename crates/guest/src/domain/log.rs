//! What the kernel says of a domain: nothing that is a warning or worse.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use super::INSIDE;
use super::found::DRIVER;
use crate::checks::{Verdict, ensure};
use crate::platform::Error;

/// The kernel's log, a record per read.
const LOG: &str = "/dev/kmsg";
/// The longest record, as the kernel bounds them.
const RECORD_BYTES: usize = 8192;
/// KERN_WARNING: what is numbered higher is no complaint.
const WARNING: u8 = 4;
/// The bits of a record's first number that are its level.
const LEVEL: u64 = 7;

pub(super) fn check() -> Verdict {
    let mut records = 0;
    let mut complaints = Vec::new();
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut log = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(LOG)
        .map_err(|error| Error::file(LOG, "open", error))?;
    let mut record = [0; RECORD_BYTES];
    loop {
        let count = match log.read(&mut record) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // It was overwritten before it was read.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => continue,
            Err(error) => return Err(Error::file(LOG, "read", error).into()),
        };
        let text = String::from_utf8_lossy(&record[..count]);
        if let Some((level, message)) = parse(&text)
            && (message.contains(INSIDE) || message.contains(DRIVER))
        {
            records += 1;
            if level <= WARNING {
                complaints.push(message.to_owned());
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
