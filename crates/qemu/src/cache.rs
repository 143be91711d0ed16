//! The user's cache directory: unpacked bundles, and small results that are worth keeping.
//!
//! Bringing things into it is [`crate::fetch`]'s.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::bundle::{Bundle, Manifest, Unpacked};
use crate::error::at;
use crate::{Error, Result};

/// The manifest's file in a bundle's directory.
const MANIFEST: &str = "manifest.json";

/// The directory that stands for `/` in a bundle's directory.
const ROOT: &str = "root";

/// A cache directory; it need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The user's: `$XDG_CACHE_HOME/openhdv`, or `~/.cache/openhdv`.
    ///
    /// # Errors
    ///
    /// [`Error::NoCacheDirectory`] when the environment names neither.
    pub fn user() -> Result<Self> {
        Self::from_variables(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))
    }

    fn from_variables(cache_home: Option<OsString>, home: Option<OsString>) -> Result<Self> {
        // The XDG base directory specification has relative paths ignored.
        let absolute = |variable: Option<OsString>| {
            variable
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        absolute(cache_home)
            .or_else(|| absolute(home).map(|home| home.join(".cache")))
            .map(|base| Self {
                directory: base.join("openhdv"),
            })
            .ok_or(Error::NoCacheDirectory)
    }

    /// One at a place of the caller's choice.
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The bundle as it lies in the cache; `None` when it was never fetched, or was for an older
    /// wish than `bundle` states.
    ///
    /// # Errors
    ///
    /// [`Error::Manifest`] when its manifest is damaged, [`Error::Io`] when it cannot be read.
    pub fn bundle(&self, bundle: &Bundle) -> Result<Option<Unpacked>> {
        let directory = self.directory.join(bundle.name);
        let path = directory.join(MANIFEST);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("reading", &path)(error)),
        };
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| Error::Manifest {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        Ok(manifest.is_of(bundle).then(|| Unpacked {
            root: directory.join(ROOT),
            manifest,
        }))
    }

    /// Like [`Cache::bundle`], for callers that cannot go on without it.
    ///
    /// # Errors
    ///
    /// As [`Cache::bundle`], and [`Error::NotFetched`] when it is not there.
    pub fn require(&self, bundle: &Bundle) -> Result<Unpacked> {
        self.bundle(bundle)?.ok_or_else(|| Error::NotFetched {
            bundle: bundle.name,
            cache: self.directory.clone(),
        })
    }

    /// Makes the directory, for this user only.
    pub(crate) fn create(&self) -> Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(at("creating", &self.directory))
    }

    /// Puts an unpacked tree, with its manifest, into the place of a bundle at once.
    pub(crate) fn adopt(
        &self,
        bundle: &Bundle,
        staging: &Path,
        manifest: &Manifest,
    ) -> Result<Unpacked> {
        let text = serde_json::to_string_pretty(manifest).map_err(|error| Error::Manifest {
            path: staging.join(MANIFEST),
            reason: error.to_string(),
        })?;
        let path = staging.join(MANIFEST);
        fs::write(&path, text + "\n").map_err(at("writing", &path))?;
        let directory = self.directory.join(bundle.name);
        let old = self
            .directory
            .join(format!("{STAGING_PREFIX}{}-old", bundle.name));
        match fs::rename(&directory, &old) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at("moving away", &directory)(error)),
        }
        fs::rename(staging, &directory).map_err(at("renaming to", &directory))?;
        self.remove_leftovers()?;
        Ok(Unpacked {
            root: directory.join(ROOT),
            manifest: manifest.clone(),
        })
    }

    /// An empty directory to unpack a bundle in: `(the whole, its root)`.
    pub(crate) fn staging(&self, bundle: &Bundle) -> Result<(PathBuf, PathBuf)> {
        let staging = self
            .directory
            .join(format!("{STAGING_PREFIX}{}", bundle.name));
        let root = staging.join(ROOT);
        fs::create_dir_all(&root).map_err(at("creating", &root))?;
        Ok((staging, root))
    }

    /// Removes what a fetch that was killed has left. Only for the holder of the fetch lock.
    pub(crate) fn remove_leftovers(&self) -> Result<()> {
        for entry in fs::read_dir(&self.directory).map_err(at("reading", &self.directory))? {
            let path = entry.map_err(at("reading", &self.directory))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(STAGING_PREFIX) {
                fs::remove_dir_all(&path).map_err(at("removing", &path))?;
            }
        }
        Ok(())
    }

    /// Reads a small kept result; `None` when there is none or it cannot be read as one.
    pub(crate) fn recall<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.directory.join(name)).ok()?).ok()
    }

    /// Keeps a small result, whole or not at all.
    pub(crate) fn remember<T: serde::Serialize>(&self, name: &str, value: &T) -> Result<()> {
        self.create()?;
        let path = self.directory.join(name);
        let bytes = serde_json::to_vec_pretty(value).map_err(|error| Error::Manifest {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)
            .map_err(at("creating a file in", &self.directory))?;
        file.write_all(&bytes).map_err(at("writing", &path))?;
        file.persist(&path)
            .map_err(|error| at("writing", &path)(error.error))?;
        Ok(())
    }
}

/// What directories of unfinished fetches begin with.
const STAGING_PREFIX: &str = ".unpacking-";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn manifest() -> Manifest {
        Manifest {
            bundle: "qemu".to_owned(),
            suite: "trixie-backports".to_owned(),
            packages: vec!["qemu-system-x86".to_owned()],
            versions: BTreeMap::new(),
        }
    }

    #[test]
    fn the_environment_says_where() {
        let cache = |xdg: Option<&str>, home: Option<&str>| {
            Cache::from_variables(xdg.map(Into::into), home.map(Into::into))
        };
        assert_eq!(
            cache(Some("/c"), Some("/h")).unwrap().directory(),
            Path::new("/c/openhdv")
        );
        assert_eq!(
            cache(Some("relative"), Some("/h")).unwrap().directory(),
            Path::new("/h/.cache/openhdv")
        );
        assert_eq!(
            cache(Some(""), Some("/h")).unwrap().directory(),
            Path::new("/h/.cache/openhdv")
        );
        assert!(matches!(cache(None, None), Err(Error::NoCacheDirectory)));
    }

    #[test]
    fn a_bundle_is_there_only_once_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path().join("cache"));
        assert!(cache.bundle(&Bundle::QEMU).unwrap().is_none());
        cache.create().unwrap();
        let (staging, root) = cache.staging(&Bundle::QEMU).unwrap();
        fs::write(root.join("file"), "new").unwrap();
        assert!(cache.bundle(&Bundle::QEMU).unwrap().is_none());
        let unpacked = cache.adopt(&Bundle::QEMU, &staging, &manifest()).unwrap();
        assert_eq!(cache.require(&Bundle::QEMU).unwrap(), unpacked);
        assert_eq!(fs::read(unpacked.path("/file")).unwrap(), b"new");
    }

    #[test]
    fn a_second_fetch_replaces_the_first_and_leftovers_go() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        for content in ["old", "new"] {
            let (staging, root) = cache.staging(&Bundle::QEMU).unwrap();
            fs::write(root.join("file"), content).unwrap();
            cache.adopt(&Bundle::QEMU, &staging, &manifest()).unwrap();
        }
        assert_eq!(
            fs::read(cache.require(&Bundle::QEMU).unwrap().path("file")).unwrap(),
            b"new"
        );
        cache.staging(&Bundle::PCIUTILS).unwrap();
        cache.remove_leftovers().unwrap();
        let names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["qemu"]);
    }

    #[test]
    fn a_damaged_manifest_is_an_error_and_not_an_absence() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        fs::create_dir(directory.path().join("qemu")).unwrap();
        fs::write(directory.path().join("qemu/manifest.json"), "{").unwrap();
        assert!(matches!(
            cache.bundle(&Bundle::QEMU),
            Err(Error::Manifest { .. })
        ));
    }

    #[test]
    fn small_results_are_kept_and_damaged_ones_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        assert_eq!(cache.recall::<u32>("n"), None);
        cache.remember("n", &7_u32).unwrap();
        assert_eq!(cache.recall::<u32>("n"), Some(7));
        fs::write(directory.path().join("n"), "seven").unwrap();
        assert_eq!(cache.recall::<u32>("n"), None);
    }
}
