//! A private directory for one guest's files: its sockets and its initramfs.
//!
//! A lock in it tells the living from the dead, so that what a killed process left is removed by
//! the next.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::error::{at, doing};

/// What the directories' names begin with once they are locked.
const PREFIX: &str = "openhdv-guest-";

/// What they begin with before that; no one removes those.
const UNLOCKED_PREFIX: &str = "openhdv-new-guest-";

/// The file that its owner holds locked.
const LOCK: &str = "lock";

/// A private directory that goes with its value.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// A new directory under `$XDG_RUNTIME_DIR`, or the system's directory for temporary files.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] when it cannot be made.
    pub fn new() -> Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let base = runtime
            .filter(|path| path.is_absolute() && path.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        Self::below(&base)
    }

    /// A new directory below another, which must exist. Its path should be short: sockets in it
    /// have at most 107 bytes.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] when it cannot be made.
    pub fn below(base: &Path) -> Result<Self> {
        remove_dead(base);
        let new = tempfile::Builder::new()
            .prefix(UNLOCKED_PREFIX)
            .rand_bytes(8)
            .tempdir_in(base)
            .map_err(at("creating a directory in", base))?;
        let path = new.path().join(LOCK);
        let lock = File::create(&path).map_err(at("creating", &path))?;
        lock.lock().map_err(at("locking", &path))?;
        let name = new
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .replacen(UNLOCKED_PREFIX, PREFIX, 1);
        let path = base.join(name);
        fs::rename(new.path(), &path).map_err(at("renaming to", &path))?;
        // What was renamed is not there any more to be removed by its first name.
        let _ = new.keep();
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file in it and gives its path.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] when it cannot be written.
    pub fn file(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, content).map_err(doing(format!("writing {}", path.display())))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a guest's directory was not removed");
        }
    }
}

/// Removes directories of this user whose owner is dead. What cannot be removed is left: it harms
/// nobody.
fn remove_dead(base: &Path) {
    let user = rustix::process::geteuid().as_raw();
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let named = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let ours = path
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user);
        if !(named && ours) {
            continue;
        }
        let dead = File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if dead && let Err(error) = fs::remove_dir_all(&path) {
            tracing::debug!(path = %path.display(), %error, "a dead guest's directory was not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_stay_and_the_dead_go() {
        let base = tempfile::tempdir().unwrap();
        let first = Scratch::below(base.path()).unwrap();
        let file = first.file("initrd", b"x").unwrap();
        let dead = base.path().join(format!("{PREFIX}dead"));
        let stranger = base.path().join("somebody-elses");
        for directory in [&dead, &stranger] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join(LOCK), "").unwrap();
        }
        let second = Scratch::below(base.path()).unwrap();
        assert!(file.exists() && second.path().exists() && stranger.exists());
        assert!(!dead.exists());
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
    }
}
