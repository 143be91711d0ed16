//! Which accelerator boots a given kernel on this machine: tried, never guessed.
//!
//! `/dev/kvm` alone says little: some are there and cannot run an ordinary kernel. So the kernel
//! is booted for a moment, up to its first process. The result is remembered until the machine
//! boots again.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::accelerator::Accelerator;
use crate::cache::Cache;
use crate::guest::{RunningGuest, Scratch};
use crate::initramfs::Initramfs;
use crate::kernel::Kernel;
use crate::locate::Qemu;
use crate::machine::Machine;
use crate::probe_init;
use crate::version::Version;
use crate::{Error, Result};

/// KVM's device.
const KVM: &str = "/dev/kvm";

/// Where remembered trials lie in the cache.
const REMEMBERED: &str = "accelerators.json";

/// The most trials that are remembered.
const REMEMBERED_LIMIT: usize = 64;

/// How long a kernel may take to its first process under KVM; it takes one second.
const KVM_LIMIT: Duration = Duration::from_secs(30);

/// How long it may take under TCG, on a machine that is busy; it takes about five seconds.
const TCG_LIMIT: Duration = Duration::from_secs(180);

/// The memory of the guest that is tried, in MiB.
const MEMORY_MIB: u32 = 256;

/// What came of trying an accelerator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Which was tried.
    pub accelerator: Accelerator,
    /// Why it does not work; `None` when it does.
    pub reason: Option<String>,
    /// How long the trial took, in seconds: for one that works, from QEMU's start to the guest's
    /// first process.
    pub seconds: f32,
}

impl Trial {
    /// Whether it works.
    #[must_use]
    pub fn works(&self) -> bool {
        self.reason.is_none()
    }
}

/// The accelerator to use, and why no faster one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The accelerator.
    pub accelerator: Accelerator,
    /// The faster ones that do not work, with their reasons.
    pub rejected: Vec<Trial>,
}

/// Boots the kernel under an accelerator up to its first process, now, whatever is remembered.
///
/// # Errors
///
/// [`Error::Io`] when the trial itself cannot be made; an accelerator that does not work is a
/// result.
pub fn attempt(qemu: &Qemu, kernel: &Kernel, accelerator: Accelerator) -> Result<Trial> {
    let begin = Instant::now();
    let reason = match unusable(accelerator) {
        Some(reason) => Some(reason),
        None => boot(qemu, kernel, accelerator)?.err(),
    };
    Ok(Trial {
        accelerator,
        reason,
        seconds: begin.elapsed().as_secs_f32(),
    })
}

/// Like [`attempt`], or what an earlier attempt since this machine's boot has shown.
///
/// # Errors
///
/// As [`attempt`].
pub fn trial(
    cache: &Cache,
    qemu: &Qemu,
    kernel: &Kernel,
    accelerator: Accelerator,
) -> Result<Trial> {
    let Some(boot) = boot_id() else {
        return attempt(qemu, kernel, accelerator);
    };
    // What can be seen without a boot may change while the machine runs: rights to a device.
    if unusable(accelerator).is_some() {
        return attempt(qemu, kernel, accelerator);
    }
    let key = Key {
        boot,
        qemu: qemu.version(),
        program: qemu.path().display().to_string(),
        kernel: kernel.release().to_owned(),
    };
    let mut remembered: Vec<Remembered> = cache.recall(REMEMBERED).unwrap_or_default();
    if let Some(found) = remembered
        .iter()
        .find(|entry| entry.key == key && entry.trial.accelerator == accelerator)
    {
        return Ok(found.trial.clone());
    }
    let trial = attempt(qemu, kernel, accelerator)?;
    if accelerator == Accelerator::Tcg && !trial.works() {
        // TCG needs nothing of the machine: what failed was this attempt.
        return Ok(trial);
    }
    remembered.retain(|entry| entry.key.boot == key.boot);
    let excess = (remembered.len() + 1).saturating_sub(REMEMBERED_LIMIT);
    remembered.drain(..excess);
    remembered.push(Remembered {
        key,
        trial: trial.clone(),
    });
    if let Err(error) = cache.remember(REMEMBERED, &remembered) {
        tracing::warn!(%error, "the result of a trial was not remembered");
    }
    Ok(trial)
}

/// The fastest accelerator that works; TCG when no other does, since it needs nothing of the
/// machine.
///
/// # Errors
///
/// As [`attempt`].
pub fn choose(cache: &Cache, qemu: &Qemu, kernel: &Kernel) -> Result<Choice> {
    let mut rejected = Vec::new();
    for accelerator in Accelerator::ALL
        .into_iter()
        .filter(|accelerator| *accelerator != Accelerator::Tcg)
    {
        let trial = trial(cache, qemu, kernel, accelerator)?;
        if trial.works() {
            return Ok(Choice {
                accelerator,
                rejected,
            });
        }
        rejected.push(trial);
    }
    Ok(Choice {
        accelerator: Accelerator::Tcg,
        rejected,
    })
}

/// What a trial depends on.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    boot: String,
    qemu: Version,
    program: String,
    kernel: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    key: Key,
    trial: Trial,
}

/// The kernel's name for the time since it booted (`random(4)`).
fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .map(|id| id.trim().to_owned())
}

/// Why an accelerator cannot work, where that shows without a boot.
fn unusable(accelerator: Accelerator) -> Option<String> {
    match accelerator {
        Accelerator::Kvm => fs::File::options()
            .read(true)
            .write(true)
            .open(Path::new(KVM))
            .err()
            .map(|error| match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    format!("{KVM} cannot be opened: {error}; add your user to the group that owns it, mostly kvm")
                }
                _ => format!("{KVM} cannot be opened: {error}"),
            }),
        Accelerator::Tcg => None,
    }
}

/// Boots; the inner error is why the accelerator does not work.
fn boot(qemu: &Qemu, kernel: &Kernel, accelerator: Accelerator) -> Result<Result<(), String>> {
    let limit = match accelerator {
        Accelerator::Kvm => KVM_LIMIT,
        Accelerator::Tcg => TCG_LIMIT,
    };
    let mut initramfs = Initramfs::new();
    initramfs.file("/init", 0o755, probe_init::image())?;
    let scratch = Scratch::new()?;
    let initrd = scratch.file("initrd", &initramfs.archive())?;
    let machine = Machine::new(accelerator)
        .memory_mib(MEMORY_MIB)
        .kernel(kernel.vmlinuz())
        .initrd(initrd);
    let mut guest = RunningGuest::start(qemu, machine, scratch)?;
    Ok(watch(&mut guest, limit))
}

/// How often a guest that says nothing is asked for its errors.
const GLANCE: Duration = Duration::from_millis(100);

fn watch(guest: &mut RunningGuest, limit: Duration) -> Result<(), String> {
    let deadline = crate::deadline::after(limit);
    loop {
        match guest.expect_line("the guest's first process", GLANCE, |line| {
            line.contains(probe_init::LINE)
        }) {
            Ok(_) => return Ok(()),
            Err(Error::TimedOut { .. }) => {}
            Err(_) => {
                return Err(last_words(
                    guest,
                    "QEMU ended before the guest's first process ran",
                ));
            }
        }
        // QEMU stays, with stopped processors, when KVM cannot go on.
        if guest
            .errors()
            .iter()
            .any(|line| line.contains("internal error"))
        {
            return Err(last_words(
                guest,
                "the processors stopped before the guest's first process ran",
            ));
        }
        if crate::deadline::left(deadline).is_zero() {
            let what = format!(
                "the guest's first process did not run within {} s",
                limit.as_secs()
            );
            return Err(last_words(guest, &what));
        }
    }
}

/// What happened, with the first thing that QEMU complained about and did not only warn of.
fn last_words(guest: &RunningGuest, what: &str) -> String {
    match guest
        .errors()
        .iter()
        .find(|line| !line.contains("warning: "))
    {
        Some(error) => format!("{what}: {error}"),
        None => what.to_owned(),
    }
}
