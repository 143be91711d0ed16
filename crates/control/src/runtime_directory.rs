//! The runtime directory: where it is, and the checks that make it private to the user.
//!
//! What lies in it is the business of [`crate::hosts`] and of the crates above.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, RawMode, Stat, fstat, mkdirat, openat};
use rustix::io::Errno;
use rustix::process::geteuid;
use thiserror::Error;

/// Mode of every directory made here.
const PRIVATE: Mode = Mode::RWXU;
/// Permission bits of group and others.
const GROUP_AND_OTHERS: RawMode = 0o077;
/// Write permission of group and others.
const WRITABLE_BY_MORE: RawMode = 0o022;
/// The sticky bit: entries can be renamed and removed by their owners only.
const STICKY: RawMode = 0o1000;

/// The user's private directory for control sockets (mode 0700).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeDirectory {
    path: PathBuf,
}

/// A runtime directory that cannot be used.
#[derive(Debug, Error)]
pub enum RuntimeDirectoryError {
    /// It could not be made or looked at.
    #[error("cannot use the runtime directory {}: {source}; set XDG_RUNTIME_DIR to a directory of yours with mode 0700", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is something else of that name.
    #[error("the runtime directory {} is not a directory (or a symbolic link); remove it, or set XDG_RUNTIME_DIR to a directory of yours", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// It belongs to another user.
    #[error("the runtime directory {} belongs to user {owner}, not to user {user}; set XDG_RUNTIME_DIR to a directory of yours", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The user id it belongs to.
        owner: u32,
        /// This process's effective user id.
        user: u32,
    },
    /// Others may enter or read it.
    #[error("the runtime directory {} has mode {mode:04o}: others can get at it; run `chmod 0700 {}`", path.display(), path.display())]
    Accessible {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others may replace it.
    #[error("the directory {} that holds the runtime directory can be changed by others (owner {owner}, mode {mode:04o}); set XDG_RUNTIME_DIR to a directory of yours with mode 0700", path.display())]
    ParentUnsafe {
        /// The parent.
        path: PathBuf,
        /// The user id it belongs to.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
}

impl RuntimeDirectory {
    /// Finds this user's runtime directory and makes it if need be.
    ///
    /// It is `openhdv` in `$XDG_RUNTIME_DIR`, else in `/run/user/<uid>`, else (for root) in
    /// `/run`; where none of these exists and is the user's, it is `/tmp/openhdv-<uid>`.
    ///
    /// # Errors
    /// The directory is there and not private to this user, or it cannot be made.
    pub fn locate() -> Result<Self, RuntimeDirectoryError> {
        let user = geteuid().as_raw();
        Self::at(&place(std::env::var_os("XDG_RUNTIME_DIR"), user))
    }

    /// Takes `path` for the runtime directory and makes it (not its parents) if need be.
    ///
    /// # Errors
    /// The directory is there and not private to this user, its parent lets others replace
    /// it, or it cannot be made.
    pub fn at(path: &Path) -> Result<Self, RuntimeDirectoryError> {
        let path = std::path::absolute(path).map_err(|source| RuntimeDirectoryError::Io {
            path: path.to_owned(),
            source,
        })?;
        if let Some(parent) = path.parent() {
            check_parent(parent)?;
        }
        make_private(&path)?;
        Ok(Self { path })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A private directory in it, made if need be.
    ///
    /// # Errors
    /// As for [`Self::at`].
    pub fn subdirectory(&self, name: &str) -> Result<PathBuf, RuntimeDirectoryError> {
        let path = self.path.join(name);
        make_private(&path)?;
        Ok(path)
    }
}

/// Where the runtime directory of `user` belongs.
fn place(xdg: Option<OsString>, user: u32) -> PathBuf {
    let mut parents = Vec::new();
    // The XDG specification: a relative path is to be ignored.
    parents.extend(xdg.map(PathBuf::from).filter(|path| path.is_absolute()));
    parents.push(PathBuf::from(format!("/run/user/{user}")));
    if user == 0 {
        parents.push(PathBuf::from("/run"));
    }
    for parent in parents {
        match rustix::fs::stat(&parent) {
            Ok(stat) if is_directory(&stat) && stat.st_uid == user => {
                return parent.join("openhdv");
            }
            Ok(stat) => tracing::debug!(
                parent = %parent.display(),
                owner = stat.st_uid,
                "no place for the runtime directory: not a directory of this user"
            ),
            Err(errno) => tracing::debug!(
                parent = %parent.display(),
                %errno,
                "no place for the runtime directory"
            ),
        }
    }
    PathBuf::from(format!("/tmp/openhdv-{user}"))
}

/// Makes the directory if it is missing, and checks what is there then.
fn make_private(path: &Path) -> Result<(), RuntimeDirectoryError> {
    let failed = |errno: Errno| RuntimeDirectoryError::Io {
        path: path.to_owned(),
        source: errno.into(),
    };
    match mkdirat(CWD, path, PRIVATE) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed(errno)),
    }
    // Looked at through a descriptor, so that all checks are of one and the same thing.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::PATH | OFlags::CLOEXEC;
    let directory = match openat(CWD, path, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return Err(RuntimeDirectoryError::NotADirectory {
                path: path.to_owned(),
            });
        }
        Err(errno) => return Err(failed(errno)),
    };
    let stat = fstat(&directory).map_err(failed)?;
    let user = geteuid().as_raw();
    if stat.st_uid != user {
        return Err(RuntimeDirectoryError::Foreign {
            path: path.to_owned(),
            owner: stat.st_uid,
            user,
        });
    }
    if stat.st_mode & GROUP_AND_OTHERS != 0 {
        return Err(RuntimeDirectoryError::Accessible {
            path: path.to_owned(),
            mode: permissions(&stat),
        });
    }
    Ok(())
}

/// Refuses a parent in which others can rename what is not theirs.
fn check_parent(path: &Path) -> Result<(), RuntimeDirectoryError> {
    let stat = rustix::fs::stat(path).map_err(|errno| RuntimeDirectoryError::Io {
        path: path.to_owned(),
        source: errno.into(),
    })?;
    let owner_trusted = stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
    let replaceable = stat.st_mode & WRITABLE_BY_MORE != 0 && stat.st_mode & STICKY == 0;
    if !owner_trusted || replaceable {
        return Err(RuntimeDirectoryError::ParentUnsafe {
            path: path.to_owned(),
            owner: stat.st_uid,
            mode: permissions(&stat),
        });
    }
    Ok(())
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn makes_a_private_directory_and_finds_it_again() {
        let parent = tempfile::tempdir().unwrap();
        let user = geteuid().as_raw();
        let xdg = Some(parent.path().as_os_str().to_owned());
        let first = RuntimeDirectory::at(&place(xdg.clone(), user)).unwrap();
        assert_eq!(first.path(), parent.path().join("openhdv"));
        let mode = fs::metadata(first.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        assert_eq!(RuntimeDirectory::at(&place(xdg, user)).unwrap(), first);
    }

    #[test]
    fn refuses_what_others_can_get_at_and_does_not_change_it() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("openhdv");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o710)).unwrap();
        let error = RuntimeDirectory::at(&path).unwrap_err();
        assert!(matches!(
            error,
            RuntimeDirectoryError::Accessible { mode: 0o710, .. }
        ));
        assert!(error.to_string().contains("chmod 0700"), "{error}");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o710);
    }

    #[test]
    fn refuses_a_symbolic_link_even_to_a_private_directory() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("target");
        fs::create_dir(&target).unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o700)).unwrap();
        let link = parent.path().join("openhdv");
        symlink(&target, &link).unwrap();
        assert!(matches!(
            RuntimeDirectory::at(&link),
            Err(RuntimeDirectoryError::NotADirectory { .. })
        ));
    }

    #[test]
    fn refuses_a_file() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("openhdv");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(
            RuntimeDirectory::at(&path),
            Err(RuntimeDirectoryError::NotADirectory { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn refuses_a_parent_in_which_others_can_rename() {
        let parent = tempfile::tempdir().unwrap();
        fs::set_permissions(parent.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            RuntimeDirectory::at(&parent.path().join("openhdv")),
            Err(RuntimeDirectoryError::ParentUnsafe { mode: 0o777, .. })
        ));
        fs::set_permissions(parent.path(), Permissions::from_mode(0o1777)).unwrap();
        RuntimeDirectory::at(&parent.path().join("openhdv")).unwrap();
    }

    #[test]
    fn a_relative_or_missing_xdg_directory_is_passed_over() {
        let user = geteuid().as_raw();
        for xdg in ["relative/path", "/nonexistent/openhdv-test"] {
            let found = place(Some(xdg.into()), user);
            assert!(!found.starts_with(xdg), "{found:?}");
            assert!(found.is_absolute());
        }
    }
}
