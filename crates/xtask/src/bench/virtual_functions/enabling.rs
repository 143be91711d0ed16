//! How long enabling and disabling VFs takes: what the first one costs, and whether each further one costs the same.
//!
//! Sockets are made in memory, as in a user's runtime directory: on a disk its journal is what would be measured.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Instant;

use hdv::{DeviceHost, HostOptions};
use hdv_sriov::{EmulatedPf, EnableVirtualization, PciVirtualization};
use tempfile::TempDir;

use super::pf;
use crate::bench::contest::{Contest, Effort};
use crate::bench::cpus::{Pinned, Placement};
use crate::bench::error::{BenchError, During};
use crate::bench::report::{Section, Unit};

/// VFs that are enabled in one batch, however many at once.
const BATCH: u32 = 256;
/// A directory that any Linux has in memory.
const MEMORY: &str = "/dev/shm";
/// What of a VF's cost may depend on how many there are: a fifth.
const FLAT: f64 = 1.2;

const ONE: &str = "1 VF";
const ONE_AGAIN: &str = "1 VF, again";
const FEW: &str = "16 VFs, each";
const MANY: &str = "256 VFs, each";
const MANY_AGAIN: &str = "256 VFs, each, again";
const FURTHER_FEW: &str = "the 2nd to 16th VF, each";
const FURTHER_MANY: &str = "the 17th to 256th VF, each";
const SOCKETS: &str = "256 sockets and nothing else, each";

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Change {
    Enabling,
    Disabling,
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Self::Enabling => "enabling VFs that nobody uses",
            Self::Disabling => "disabling VFs that nobody uses",
        }
    }

    /// Nanoseconds that it takes for `vfs` VFs: the mean of as many times as a batch allows.
    fn time(self, pf: &EmulatedPf, vfs: u16, batch: u32) -> Result<f64, BenchError> {
        let times = (batch / u32::from(vfs)).max(1);
        let mut nanoseconds = 0.0;
        for _ in 0..times {
            for (change, request) in [
                (Self::Enabling, EnableVirtualization::enable(vfs)),
                (Self::Disabling, EnableVirtualization::disable()),
            ] {
                let begun = Instant::now();
                pf.enable_virtualization(request)
                    .during("enabling or disabling VFs")?;
                if change == self {
                    nanoseconds += begun.elapsed().as_secs_f64() * 1e9;
                }
            }
        }
        Ok(nanoseconds / f64::from(times))
    }

    /// The same for the sockets alone that VFs are served on.
    fn time_sockets(self, directory: &Path, count: u16) -> Result<f64, BenchError> {
        const DOING: &str = "binding and removing sockets";
        let begun = Instant::now();
        let mut listeners = Vec::new();
        for index in 0..count {
            let path = directory.join(format!("floor{index}.sock"));
            listeners.push((UnixListener::bind(&path).during(DOING)?, path));
        }
        let bound = begun.elapsed();
        for (listener, path) in listeners {
            drop(listener);
            std::fs::remove_file(path).during(DOING)?;
        }
        let time = match self {
            Self::Enabling => bound,
            Self::Disabling => begun.elapsed() - bound,
        };
        Ok(time.as_secs_f64() * 1e9)
    }
}

/// A directory in memory, or wherever there can be one.
fn directory() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("openhdv-bench-");
    builder.tempdir_in(MEMORY).or_else(|_| builder.tempdir())
}

/// Measures one of them.
pub(in crate::bench) fn measure(
    change: Change,
    placement: Placement,
    effort: Effort,
) -> Result<Section, BenchError> {
    let _pinned = Pinned::to(placement.near)?;
    let batch = effort.batch(BATCH);
    let directory = directory().during("making a directory for the sockets")?;
    let host = DeviceHost::new(HostOptions::new().control(false)).during("making a device host")?;
    let pf = &pf::serve(&host, &directory.path().join("pf.sock"))?;
    let mut contest = Contest::new();
    for (name, vfs) in [
        (ONE, 1),
        (ONE_AGAIN, 1),
        (FEW, 16),
        (MANY, 256),
        (MANY_AGAIN, 256),
    ] {
        contest.add(name, move || {
            Ok(change.time(pf, vfs, batch)? / f64::from(vfs))
        });
    }
    for (name, fewer, more) in [(FURTHER_FEW, 1, 16), (FURTHER_MANY, 16, 256)] {
        contest.add(name, move || {
            let further = change.time(pf, more, batch)? - change.time(pf, fewer, batch)?;
            Ok(further / f64::from(more - fewer))
        });
    }
    contest.add(SOCKETS, || {
        Ok(change.time_sockets(directory.path(), 256)? / 256.0)
    });
    let results = contest.run(effort)?;
    let mut section = Section::new(change.name(), Unit::Nanoseconds);
    section
        .row(&results, ONE)
        .compare(&results, ONE_AGAIN, &[(ONE, None)])
        .compare(&results, FEW, &[(ONE, Some(FLAT))])
        .compare(&results, MANY, &[(ONE, Some(FLAT)), (FEW, Some(FLAT))])
        .compare(&results, MANY_AGAIN, &[(MANY, None)])
        .row(&results, FURTHER_FEW)
        .compare(&results, FURTHER_MANY, &[(FURTHER_FEW, Some(FLAT))])
        .row(&results, SOCKETS);
    Ok(section)
}
