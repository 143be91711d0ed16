//! Which processors the two ends run on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::error::{BenchError, During};

/// Where the two ends of a measurement run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placement {
    pub(super) near: usize,
    pub(super) far: usize,
}

impl Placement {
    /// `one CPU` or `two CPUs`.
    pub(super) fn name(self) -> &'static str {
        if self.near == self.far {
            "one CPU"
        } else {
            "two CPUs"
        }
    }

    pub(super) fn one_cpu(self) -> bool {
        self.near == self.far
    }
}

/// One CPU, and two if this process may use as many.
pub(super) fn placements() -> Result<Vec<Placement>, BenchError> {
    let allowed = sched_getaffinity(None).during("asking for the processors of this process")?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let first = cpus
        .next()
        .ok_or_else(|| BenchError::new("choosing a processor", "this process may use none"))?;
    let one = Placement {
        near: first,
        far: first,
    };
    let two = cpus.next().map(|far| Placement { near: first, far });
    Ok(std::iter::once(one).chain(two).collect())
}

/// Keeps the calling thread, and threads that it starts, on one processor.
pub(super) fn pin(cpu: usize) -> Result<(), BenchError> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).during("pinning to a processor")
}

/// The calling thread on one processor for as long as this lives.
#[derive(Debug)]
pub(super) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    pub(super) fn to(cpu: usize) -> Result<Self, BenchError> {
        let before = sched_getaffinity(None).during("asking for the processors of this process")?;
        pin(cpu)?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was allowed before; if it is not any more, the thread stays where it is.
        let _ = sched_setaffinity(None, &self.before);
    }
}
