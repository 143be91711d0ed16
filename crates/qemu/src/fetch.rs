//! Brings bundles into the cache: downloaded with apt, unpacked with dpkg, nothing installed.
//!
//! A bundle appears in the cache whole or not at all; two processes never fetch at once; what is
//! in the cache already needs neither the network nor apt.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{File, TryLockError};

use crate::Result;
use crate::apt::{Apt, Archive};
use crate::bundle::{Bundle, Dependencies, Manifest, Unpacked};
use crate::cache::Cache;
use crate::error::at;

/// The file whose lock the fetching process holds.
const LOCK: &str = "fetch.lock";

/// apt's own directory in the cache; its package index is kept, so that the next fetch reads
/// only what changed.
const APT: &str = "apt";

/// How far a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Another process fetches; this one goes on when that one has ended.
    Waiting {
        /// What is to be fetched.
        bundle: &'a Bundle,
    },
    /// A step has begun or gone on. `done` grows from 0 to `total`.
    Step {
        /// What is being fetched.
        bundle: &'a Bundle,
        /// The step.
        stage: Stage,
        /// How much is done, in the step's own units.
        done: u64,
        /// How much there is, in the same units; never 0.
        total: u64,
    },
    /// The bundle is in the cache.
    Fetched {
        /// What was fetched.
        bundle: &'a Bundle,
        /// What was unpacked.
        unpacked: &'a Unpacked,
    },
}

/// A step of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The package index is brought up to date; in percent.
    Index,
    /// The packages are downloaded; in percent.
    Download,
    /// The packages are unpacked; in packages.
    Unpack,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Index => "reading the package index",
            Self::Download => "downloading",
            Self::Unpack => "unpacking",
        })
    }
}

/// Brings bundles into the cache, in this order, and says how far it is.
///
/// What is there already is left as it is.
///
/// # Errors
///
/// [`crate::Error::NoApt`], [`crate::Error::NoDebianArchive`], [`crate::Error::NoKeyring`] and
/// [`crate::Error::Architecture`] when this machine cannot fetch at all,
/// [`crate::Error::Network`] when the archive cannot be reached,
/// [`crate::Error::PackageTool`] when apt or dpkg fails for another reason, and
/// [`crate::Error::Io`] when the cache cannot be written.
pub fn fetch(
    cache: &Cache,
    bundles: &[Bundle],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<Unpacked>> {
    let present = present(cache, bundles);
    let Some(missing) = first_missing(bundles, &present) else {
        return Ok(present.into_iter().flatten().collect());
    };
    cache.create()?;
    let _lock = lock(cache, || progress(Progress::Waiting { bundle: missing }))?;
    cache.remove_leftovers()?;

    let mut apt = None;
    let mut unpacked = Vec::new();
    for bundle in bundles {
        // A damaged bundle is as good as none; another process may have fetched it meanwhile.
        if let Ok(Some(found)) = cache.bundle(bundle) {
            unpacked.push(found);
            continue;
        }
        let apt = match &apt {
            Some(apt) => apt,
            None => apt.insert(updated(cache, bundle, progress)?),
        };
        let found = bring(cache, apt, bundle, progress)?;
        progress(Progress::Fetched {
            bundle,
            unpacked: &found,
        });
        unpacked.push(found);
    }
    Ok(unpacked)
}

fn present(cache: &Cache, bundles: &[Bundle]) -> Vec<Option<Unpacked>> {
    bundles
        .iter()
        .map(|bundle| cache.bundle(bundle).ok().flatten())
        .collect()
}

fn first_missing<'a>(bundles: &'a [Bundle], present: &[Option<Unpacked>]) -> Option<&'a Bundle> {
    bundles
        .iter()
        .zip(present)
        .find(|(_, found)| found.is_none())
        .map(|(bundle, _)| bundle)
}

/// The lock ends with this process, so a killed one leaves none behind.
fn lock(cache: &Cache, waiting: impl FnOnce()) -> Result<File> {
    let path = cache.directory().join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(at("opening", &path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(at("locking", &path)(error)),
    }
    waiting();
    file.lock().map_err(at("locking", &path))?;
    Ok(file)
}

fn updated(cache: &Cache, bundle: &Bundle, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Apt> {
    let apt = Apt::prepare(&cache.directory().join(APT))?;
    let mut step = Step {
        bundle,
        stage: Stage::Index,
        done: None,
        progress,
    };
    step.percent(0);
    apt.update(&mut |percent| step.percent(percent))?;
    step.percent(100);
    Ok(apt)
}

fn bring(
    cache: &Cache,
    apt: &Apt,
    bundle: &Bundle,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Unpacked> {
    let mut step = Step {
        bundle,
        stage: Stage::Download,
        done: None,
        progress: &mut *progress,
    };
    step.percent(0);
    let mut percent = |percent| step.percent(percent);
    let archives = match bundle.dependencies {
        Dependencies::All => apt.download_closure(bundle.suite, bundle.packages, &mut percent)?,
        Dependencies::Named(prefixes) => {
            let packages = closure(bundle.packages, prefixes, |package| {
                apt.dependencies(bundle.suite, package)
            })?;
            apt.download_only(bundle.suite, &packages, &mut percent)?
        }
    };
    step.percent(100);

    let (staging, root) = cache.staging(bundle)?;
    let total = archives.len().max(1) as u64;
    for (archive, done) in archives.iter().zip(0_u64..) {
        progress(Progress::Step {
            bundle,
            stage: Stage::Unpack,
            done,
            total,
        });
        Apt::unpack(archive, &root)?;
    }
    progress(Progress::Step {
        bundle,
        stage: Stage::Unpack,
        done: total,
        total,
    });
    let found = cache.adopt(bundle, &staging, &manifest(bundle, &archives))?;
    apt.clear_archives()?;
    Ok(found)
}

/// The packages and, of what they depend on, those with one of the prefixes, to any depth.
fn closure(
    packages: &[&str],
    prefixes: &[&str],
    dependencies: impl Fn(&str) -> Result<Vec<String>>,
) -> Result<Vec<String>> {
    let mut known: BTreeSet<String> = packages.iter().map(ToString::to_string).collect();
    let mut open: Vec<String> = known.iter().cloned().collect();
    while let Some(package) = open.pop() {
        for dependency in dependencies(&package)? {
            if prefixes.iter().any(|prefix| dependency.starts_with(prefix))
                && known.insert(dependency.clone())
            {
                open.push(dependency);
            }
        }
    }
    Ok(known.into_iter().collect())
}

fn manifest(bundle: &Bundle, archives: &[Archive]) -> Manifest {
    let versions: BTreeMap<_, _> = archives
        .iter()
        .map(|archive| (archive.package.clone(), archive.version.clone()))
        .collect();
    Manifest {
        bundle: bundle.name.to_owned(),
        suite: bundle.suite.to_owned(),
        packages: bundle.packages.iter().map(ToString::to_string).collect(),
        versions,
    }
}

/// Passes percentages on, each once and never backwards: apt counts anew when it finds more to do.
struct Step<'a> {
    bundle: &'a Bundle,
    stage: Stage,
    done: Option<u64>,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Step<'_> {
    fn percent(&mut self, percent: u64) {
        if self.done.is_none_or(|done| done < percent) {
            self.done = Some(percent);
            (self.progress)(Progress::Step {
                bundle: self.bundle,
                stage: self.stage,
                done: percent,
                total: 100,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn only_named_dependencies_come_along_and_loops_end() {
        let dependencies = |package: &str| {
            Ok(match package {
                "linux-image-amd64" => vec!["linux-image-6.12".to_owned()],
                "linux-image-6.12" => vec!["kmod".to_owned(), "linux-modules-6.12".to_owned()],
                "linux-modules-6.12" => vec!["linux-image-6.12".to_owned()],
                other => panic!("{other} was not to be asked for"),
            })
        };
        let found = closure(
            &["linux-image-amd64"],
            &["linux-image-", "linux-modules-"],
            dependencies,
        )
        .unwrap();
        assert_eq!(
            found,
            [
                "linux-image-6.12",
                "linux-image-amd64",
                "linux-modules-6.12"
            ]
        );
    }

    #[test]
    fn percentages_never_go_back() {
        let mut seen = Vec::new();
        let mut collect = |progress: Progress<'_>| {
            if let Progress::Step { done, .. } = progress {
                seen.push(done);
            }
        };
        let mut step = Step {
            bundle: &Bundle::QEMU,
            stage: Stage::Index,
            done: None,
            progress: &mut collect,
        };
        for percent in [0, 0, 30, 10, 30, 31, 100, 100] {
            step.percent(percent);
        }
        assert_eq!(seen, [0, 30, 31, 100]);
    }

    #[test]
    fn what_is_in_the_cache_is_not_fetched() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        let bundle = Bundle {
            suite: "no-such-suite",
            ..Bundle::PCIUTILS
        };
        let (staging, _) = cache.staging(&bundle).unwrap();
        cache
            .adopt(&bundle, &staging, &manifest(&bundle, &[]))
            .unwrap();
        let found = fetch(&cache, &[bundle], &mut |progress| panic!("{progress:?}")).unwrap();
        assert_eq!(found.len(), 1);
        assert!(!directory.path().join(LOCK).exists());
    }

    #[test]
    fn the_second_fetch_waits_for_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        let first = lock(&cache, || panic!("nobody else has it")).unwrap();
        let (sender, events) = mpsc::channel();
        let waiting = cache.clone();
        let second = thread::spawn(move || {
            let lock = lock(&waiting, || sender.send("waiting").unwrap());
            sender.send("locked").unwrap();
            lock
        });
        assert_eq!(events.recv().unwrap(), "waiting");
        assert!(events.try_recv().is_err());
        drop(first);
        assert_eq!(events.recv().unwrap(), "locked");
        drop(second.join().unwrap().unwrap());
    }

    #[test]
    fn leftovers_do_not_stop_the_next_fetch() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        let (staging, root) = cache.staging(&Bundle::QEMU).unwrap();
        fs::write(root.join("half"), "half a file").unwrap();
        cache.remove_leftovers().unwrap();
        assert!(!staging.exists());
    }
}
