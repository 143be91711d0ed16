//! The companion file of a claimed socket: its `flock` says whether the owner lives, its
//! content says who it is and which further sockets it has.
//!
//! A pid alone would not do: pids are used again. The kernel drops the lock with the process.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

/// What is appended to a socket's path to name its companion.
const SUFFIX: &str = ".hdv-lock";
/// The first field of a companion file; a file that starts otherwise is not ours.
const MAGIC: &[u8] = b"openhdv-claim-1";
/// The field that says that the owner has a directory beside the socket.
const DIRECTORY: &[u8] = b"directory";
/// What the name of a socket with a directory beside it ends in; the directory's is what is before.
const SOCKET_SUFFIX: &[u8] = b".sock";
/// Largest companion file read, in bytes: room for more sockets than a physical function can have virtual
/// functions.
const CONTENT_LIMIT: u64 = 16 << 20;

/// Device and inode number: tells a file from another that took its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(stat: &rustix::fs::Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

/// What a companion file says about its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The owner's pid; `None` while it has not been written yet.
    pub(crate) pid: Option<u32>,
    /// Whether the directory beside the socket ([`CompanionLock::directory_for`]) is the owner's, to be removed with
    /// the socket should it be killed.
    pub(crate) directory: bool,
    /// Further sockets of the owner, to be removed with this one should it be killed.
    pub(crate) sockets: Vec<PathBuf>,
}

impl Owner {
    fn encode(&self) -> Vec<u8> {
        // Fields end in NUL: the one byte that no path contains.
        let mut bytes = [MAGIC, b"\0"].concat();
        if let Some(pid) = self.pid {
            bytes.extend_from_slice(format!("pid={pid}\0").as_bytes());
        }
        if self.directory {
            bytes.extend_from_slice(DIRECTORY);
            bytes.push(0);
        }
        for socket in &self.sockets {
            bytes.extend_from_slice(b"socket=");
            bytes.extend_from_slice(socket.as_os_str().as_bytes());
            bytes.push(0);
        }
        bytes
    }

    /// Reads what is complete; the owner may have been killed while writing.
    fn decode(bytes: &[u8]) -> Self {
        let mut owner = Self::default();
        let complete = bytes.iter().rposition(|byte| *byte == 0).unwrap_or(0);
        for field in bytes[..complete].split(|byte| *byte == 0) {
            if let Some(pid) = field.strip_prefix(b"pid=") {
                owner.pid = str::from_utf8(pid).ok().and_then(|pid| pid.parse().ok());
            } else if field == DIRECTORY {
                owner.directory = true;
            } else if let Some(socket) = field.strip_prefix(b"socket=") {
                let path = PathBuf::from(OsString::from_vec(socket.to_vec()));
                owner.sockets.push(path);
            }
        }
        owner
    }
}

/// A companion file whose lock this process holds.
#[derive(Debug)]
pub(crate) struct CompanionLock {
    path: PathBuf,
    file: File,
}

/// Why a companion file is not ours now.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Somebody holds it.
    Held(Owner),
    /// A file of this name exists that is no companion file; it was left alone.
    NotACompanion,
    /// The companion is missing (only where it was not to be made).
    Missing,
    /// The kernel refused.
    Io(io::Error),
}

impl From<Errno> for LockError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl CompanionLock {
    /// The companion's path for a socket's.
    pub(crate) fn path_for(socket: &Path) -> PathBuf {
        let mut path = socket.as_os_str().to_owned();
        path.push(SUFFIX);
        path.into()
    }

    /// The socket's path for a companion's; `None` if the name is not a companion's.
    pub(crate) fn socket_for(companion: &Path) -> Option<PathBuf> {
        let bytes = companion.as_os_str().as_bytes();
        let socket = bytes.strip_suffix(SUFFIX.as_bytes())?;
        Some(OsStr::from_bytes(socket).into())
    }

    /// The path of the directory beside a socket; `None` if the socket's name has not the right ending, or nothing before
    /// it. Not noted in the file: nothing that a file says leads to a directory elsewhere.
    pub(crate) fn directory_for(socket: &Path) -> Option<PathBuf> {
        let name = socket.file_name()?.as_bytes();
        let name = name.strip_suffix(SOCKET_SUFFIX)?;
        (!name.is_empty() && name != b"." && name != b"..")
            .then(|| socket.with_file_name(OsStr::from_bytes(name)))
    }

    /// Takes the lock without waiting. A file of another user is not permitted, whoever this one is.
    pub(crate) fn take(socket: &Path, create: bool) -> Result<Self, LockError> {
        let path = Self::path_for(socket);
        let mut flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        if create {
            flags |= OFlags::CREATE;
        }
        // Each turn means that another process removed the file meanwhile, so one got on.
        loop {
            let descriptor = match openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR) {
                Ok(descriptor) => descriptor,
                Err(Errno::NOENT) if !create => return Err(LockError::Missing),
                Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                    return Err(LockError::NotACompanion);
                }
                Err(errno) => return Err(errno.into()),
            };
            let stat = fstat(&descriptor)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(LockError::NotACompanion);
            }
            // What it says is done with this user's rights: another user could have a directory removed with it.
            if stat.st_uid != geteuid().as_raw() {
                return Err(LockError::Io(io::ErrorKind::PermissionDenied.into()));
            }
            let mut file = File::from(descriptor);
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(LockError::Held(read_owner(&mut file)?)),
                Err(errno) => return Err(errno.into()),
            }
            match statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(there) if FileId::of(&there) == FileId::of(&stat) => {}
                Ok(_) | Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            }
            // A file of somebody's that happens to have this name must survive.
            read_owner(&mut file)?;
            return Ok(Self { path, file });
        }
    }

    /// What the former owner, or [`Self::write`], left in the file.
    pub(crate) fn read(&mut self) -> Result<Owner, LockError> {
        read_owner(&mut self.file)
    }

    /// Replaces the content.
    pub(crate) fn write(&mut self, owner: &Owner) -> io::Result<()> {
        let bytes = owner.encode();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&bytes)?;
        self.file.set_len(bytes.len() as u64)
    }

    /// Removes the file and lets go of the lock.
    pub(crate) fn remove(self) {
        // Before the lock goes: whoever gets the lock of an unlinked file tries again. Only our
        // own file: somebody may have removed it, and another have made a new one since.
        let ours = fstat(&self.file).and_then(|ours| {
            let there = statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(FileId::of(&there) == FileId::of(&ours))
        });
        let removed = match ours {
            Ok(true) => unlinkat(CWD, &self.path, AtFlags::empty()),
            Ok(false) => Ok(()),
            Err(errno) => Err(errno),
        };
        if let Err(errno) = removed {
            tracing::debug!(path = %self.path.display(), %errno, "cannot remove a lock file");
        }
        // A child that is just being started may hold a copy of the descriptor, which would
        // keep the lock if it were only closed.
        if let Err(errno) = flock(&self.file, FlockOperation::Unlock) {
            tracing::debug!(path = %self.path.display(), %errno, "cannot release a lock");
        }
    }
}

fn read_owner(file: &mut File) -> Result<Owner, LockError> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(CONTENT_LIMIT).read_to_end(&mut bytes)?;
    // Empty: the owner was killed, or is still, between making the file and writing it.
    let shared = bytes.len().min(MAGIC.len());
    if bytes[..shared] != MAGIC[..shared] {
        return Err(LockError::NotACompanion);
    }
    Ok(Owner::decode(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bind_error::SOCKET_PATH_LIMIT;

    #[test]
    fn an_owner_survives_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let mut lock = CompanionLock::take(&socket, true).unwrap();
        assert_eq!(lock.read().unwrap(), Owner::default());
        let odd = PathBuf::from(OsString::from_vec(b"/a\n=\xff b".to_vec()));
        let owner = Owner {
            pid: Some(4_194_304),
            directory: true,
            sockets: vec![odd, "/tmp/x".into()],
        };
        lock.write(&owner).unwrap();
        assert_eq!(lock.read().unwrap(), owner);
        let shorter = Owner {
            pid: Some(7),
            directory: false,
            sockets: vec![],
        };
        lock.write(&shorter).unwrap();
        assert_eq!(lock.read().unwrap(), shorter);
    }

    #[test]
    fn all_sockets_that_there_can_be_survive() {
        let directory = tempfile::tempdir().unwrap();
        let mut lock = CompanionLock::take(&directory.path().join("s"), true).unwrap();
        let longest = |number| format!("/{number:0>width$}", width = SOCKET_PATH_LIMIT - 1).into();
        let owner = Owner {
            pid: Some(u32::MAX),
            directory: false,
            sockets: (0..=u16::MAX).map(longest).collect(),
        };
        lock.write(&owner).unwrap();
        assert_eq!(lock.read().unwrap(), owner);
    }

    #[test]
    fn a_torn_write_gives_only_complete_fields() {
        let owner = Owner {
            pid: Some(1234),
            directory: true,
            sockets: vec!["/tmp/important".into()],
        };
        let bytes = owner.encode();
        for length in 0..bytes.len() {
            let read = Owner::decode(&bytes[..length]);
            assert!(read.pid.is_none() || read.pid == Some(1234), "{length}");
            assert!(read.sockets.is_empty(), "{length}: {read:?}");
        }
    }

    #[test]
    fn somebodys_file_of_that_name_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let path = CompanionLock::path_for(&socket);
        std::fs::write(&path, "a diary").unwrap();
        assert!(matches!(
            CompanionLock::take(&socket, true),
            Err(LockError::NotACompanion)
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"a diary");
    }

    #[test]
    fn a_file_that_took_its_name_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let lock = CompanionLock::take(&socket, true).unwrap();
        std::fs::remove_file(CompanionLock::path_for(&socket)).unwrap();
        let _other = CompanionLock::take(&socket, true).unwrap();
        lock.remove();
        assert!(matches!(
            CompanionLock::take(&socket, false),
            Err(LockError::Held(_))
        ));
    }

    #[test]
    fn the_second_taker_learns_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let mut lock = CompanionLock::take(&socket, true).unwrap();
        let owner = Owner {
            pid: Some(99),
            directory: false,
            sockets: vec![],
        };
        lock.write(&owner).unwrap();
        match CompanionLock::take(&socket, true) {
            Err(LockError::Held(found)) => assert_eq!(found, owner),
            other => panic!("{other:?}"),
        }
        lock.remove();
        assert!(matches!(
            CompanionLock::take(&socket, false),
            Err(LockError::Missing)
        ));
        CompanionLock::take(&socket, true).unwrap();
    }
}
