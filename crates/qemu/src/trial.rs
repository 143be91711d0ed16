//! Which accelerator boots a given kernel on this machine: tried, never guessed.
//!
//! `/dev/kvm` alone says little: some are there and cannot run an ordinary kernel. So the kernel
//! is booted for a moment, up to its first process. The result is remembered until the machine
//! boots again.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::accelerator::Accelerator;
use crate::bundle::Bundle;
use crate::cache::Cache;
use crate::error::at;
use crate::guest::{RunningGuest, Scratch};
use crate::initramfs::Initramfs;
use crate::kernel::Kernel;
use crate::lab::Lab;
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
    attempt_image(qemu, kernel.vmlinuz(), accelerator)
}

fn attempt_image(qemu: &Qemu, vmlinuz: &Path, accelerator: Accelerator) -> Result<Trial> {
    let begin = Instant::now();
    let reason = match unusable(accelerator) {
        Some(reason) => Some(reason),
        None => boot(qemu, vmlinuz, accelerator)?.err(),
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
    let subject = Subject {
        name: kernel.release().to_owned(),
        vmlinuz: kernel.vmlinuz(),
    };
    trial_of(cache, qemu, &subject, accelerator)
}

/// What is booted.
struct Subject<'a> {
    /// What tells it from others when it is remembered.
    name: String,
    vmlinuz: &'a Path,
}

impl<'a> Subject<'a> {
    /// Any kernel's image; another file of that name is another subject.
    fn of_image(vmlinuz: &'a Path) -> Result<Self> {
        let metadata = vmlinuz.metadata().map_err(at("looking at", vmlinuz))?;
        let (size, seconds) = (metadata.size(), metadata.mtime());
        let name = format!("{} of {size} bytes, {seconds}", vmlinuz.display());
        Ok(Self { name, vmlinuz })
    }
}

fn trial_of(
    cache: &Cache,
    qemu: &Qemu,
    subject: &Subject<'_>,
    accelerator: Accelerator,
) -> Result<Trial> {
    let Some(boot) = boot_id() else {
        return attempt_image(qemu, subject.vmlinuz, accelerator);
    };
    // What can be seen without a boot may change while the machine runs: rights to a device.
    if unusable(accelerator).is_some() {
        return attempt_image(qemu, subject.vmlinuz, accelerator);
    }
    let key = Key {
        boot,
        qemu: qemu.version(),
        program: qemu.path().display().to_string(),
        kernel: subject.name.clone(),
    };
    let mut remembered: Vec<Remembered> = cache.recall(REMEMBERED).unwrap_or_default();
    if let Some(found) = remembered
        .iter()
        .find(|entry| entry.key == key && entry.trial.accelerator == accelerator)
    {
        return Ok(found.trial.clone());
    }
    let trial = attempt_image(qemu, subject.vmlinuz, accelerator)?;
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
    choose_by(|accelerator| trial(cache, qemu, kernel, accelerator))
}

/// The same for a virtual machine of any kind: tried with the guest lab's kernel, else with the small one of the cache, else
/// with `kernel`, the machine's own. Without any, or when a trial cannot be made, it is TCG. Remembered, it costs reading two
/// small files.
#[must_use]
pub fn choose_for(cache: &Cache, qemu: &Qemu, kernel: Option<&Path>) -> Choice {
    let tcg = |reason: String| Choice {
        accelerator: Accelerator::Tcg,
        rejected: vec![Trial {
            accelerator: Accelerator::Kvm,
            reason: Some(reason),
            seconds: 0.0,
        }],
    };
    let Some(vmlinuz) = image(cache, kernel) else {
        return tcg(
            "there is no Linux kernel to try it with; in a checkout of OpenHDV `cargo xtask lab` fetches one"
                .to_owned(),
        );
    };
    let chosen = Subject::of_image(&vmlinuz)
        .and_then(|subject| choose_by(|accelerator| trial_of(cache, qemu, &subject, accelerator)));
    chosen.unwrap_or_else(|error| tcg(format!("it cannot be tried: {error}")))
}

/// The kernel's image that accelerators are tried with.
fn image(cache: &Cache, own: Option<&Path>) -> Option<PathBuf> {
    let lab = Lab::of(cache).kernel();
    if lab.is_file() {
        return Some(lab);
    }
    let cached = Kernel::cached(cache, &Bundle::KERNEL_CLOUD);
    let cached = cached.ok().map(|kernel| kernel.vmlinuz().to_owned());
    cached.or_else(|| own.map(Path::to_owned))
}

fn choose_by(mut trial: impl FnMut(Accelerator) -> Result<Trial>) -> Result<Choice> {
    let mut rejected = Vec::new();
    for accelerator in Accelerator::ALL
        .into_iter()
        .filter(|accelerator| *accelerator != Accelerator::Tcg)
    {
        let trial = trial(accelerator)?;
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
fn boot(qemu: &Qemu, vmlinuz: &Path, accelerator: Accelerator) -> Result<Result<(), String>> {
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
        .kernel(vmlinuz)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labs_kernel_goes_before_the_machines_own() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        let own = Path::new("/own/vmlinuz");
        assert_eq!(image(&cache, None), None);
        assert_eq!(image(&cache, Some(own)).as_deref(), Some(own));
        fs::create_dir(directory.path().join("lab")).unwrap();
        let lab = directory.path().join("lab/vmlinuz");
        fs::write(&lab, "x").unwrap();
        if std::env::var_os(crate::lab::VARIABLE).is_none() {
            assert_eq!(image(&cache, Some(own)), Some(lab));
        }
    }

    #[test]
    fn another_file_of_the_same_name_is_another_subject() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vmlinuz");
        fs::write(&path, "one").unwrap();
        let name = Subject::of_image(&path).unwrap().name;
        assert_eq!(Subject::of_image(&path).unwrap().name, name);
        fs::write(&path, "other").unwrap();
        assert_ne!(Subject::of_image(&path).unwrap().name, name);
    }
}
