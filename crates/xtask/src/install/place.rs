//! Puts one file into its place, whole or not at all: a program that has the old one open or mapped
//! keeps it, and one that looks meanwhile sees the old or the new.

use std::fmt;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::plan::{Content, Item};
use super::{InstallError, at};

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Change {
    New,
    Replaced,
    Unchanged,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Replaced => "replaced",
            Self::Unchanged => "unchanged",
        })
    }
}

/// A file that is in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Placed {
    pub(super) path: PathBuf,
    pub(super) what: &'static str,
    /// Bytes; none of a link.
    bytes: Option<u64>,
    link_to: Option<&'static str>,
    pub(super) change: Change,
}

impl Placed {
    /// The size, or what it is a link to, for people.
    pub(super) fn size(&self) -> String {
        match (self.link_to, self.bytes) {
            (Some(target), _) => format!("-> {target}"),
            (None, Some(bytes)) => format!("{} KiB", bytes.div_ceil(1024)),
            (None, None) => String::new(),
        }
    }
}

/// Puts a file below `root`.
pub(super) fn place(item: &Item, root: &Path) -> Result<Placed, InstallError> {
    let path = root.join(&item.path);
    let directory = path.parent().unwrap_or(root);
    fs::create_dir_all(directory).map_err(at("creating", directory))?;
    let known = path.symlink_metadata().is_ok();
    let (same, bytes, link_to) = match &item.content {
        Content::Link(target) => {
            let same = fs::read_link(&path).is_ok_and(|found| found == Path::new(target));
            if !same {
                link(target, &path, directory)?;
            }
            (same, None, Some(*target))
        }
        Content::Copy(source) => {
            let content = fs::read(source).map_err(at("reading", source))?;
            let same = write(&content, item.executable, &path, directory)?;
            (same, Some(content.len() as u64), None)
        }
        Content::Bytes(content) => {
            let same = write(content, item.executable, &path, directory)?;
            (same, Some(content.len() as u64), None)
        }
    };
    Ok(Placed {
        path,
        what: item.what,
        bytes,
        link_to,
        change: match (same, known) {
            (true, _) => Change::Unchanged,
            (false, true) => Change::Replaced,
            (false, false) => Change::New,
        },
    })
}

/// Writes a file unless it is there as it should be; whether it was.
fn write(
    content: &[u8],
    executable: bool,
    path: &Path,
    directory: &Path,
) -> Result<bool, InstallError> {
    let mode = if executable { 0o755 } else { 0o644 };
    let same = path.symlink_metadata().is_ok_and(|metadata| {
        metadata.is_file()
            && metadata.len() == content.len() as u64
            && metadata.permissions().mode() & 0o7777 == mode
    }) && fs::read(path).is_ok_and(|found| found == content);
    if same {
        return Ok(true);
    }
    let mut file =
        tempfile::NamedTempFile::new_in(directory).map_err(at("creating a file in", directory))?;
    file.write_all(content)
        .and_then(|()| file.as_file().set_permissions(Permissions::from_mode(mode)))
        .map_err(at("writing", path))?;
    file.persist(path)
        .map_err(|error| at("replacing", path)(error.error))?;
    Ok(false)
}

fn link(target: &str, path: &Path, directory: &Path) -> Result<(), InstallError> {
    tempfile::Builder::new()
        .make_in(directory, |temporary| symlink(target, temporary))
        .map_err(at("creating a link in", directory))?
        .into_temp_path()
        .persist(path)
        .map_err(|error| at("replacing", path)(error.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(content: Content) -> Item {
        Item {
            path: "lib/file".into(),
            what: "file",
            content,
            executable: false,
        }
    }

    #[test]
    fn a_file_is_new_then_unchanged_then_replaced() {
        let root = tempfile::tempdir().unwrap();
        let first = item(Content::Bytes(b"first".to_vec()));
        let second = item(Content::Bytes(b"other".to_vec()));
        let changes: Vec<_> = [&first, &first, &second, &second]
            .into_iter()
            .map(|item| place(item, root.path()).unwrap().change)
            .collect();
        use Change::{New, Replaced, Unchanged};
        assert_eq!(changes, [New, Unchanged, Replaced, Unchanged]);
        let path = root.path().join("lib/file");
        assert_eq!(fs::read(&path).unwrap(), b"other");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(place(&second, root.path()).unwrap().change, Replaced);
        // Nothing but the file is left in the directory.
        assert_eq!(fs::read_dir(root.path().join("lib")).unwrap().count(), 1);
    }

    #[test]
    fn who_has_the_old_file_open_keeps_it() {
        let root = tempfile::tempdir().unwrap();
        place(&item(Content::Bytes(b"old".to_vec())), root.path()).unwrap();
        let mut open = fs::File::open(root.path().join("lib/file")).unwrap();
        place(&item(Content::Bytes(b"new".to_vec())), root.path()).unwrap();
        let mut seen = String::new();
        std::io::Read::read_to_string(&mut open, &mut seen).unwrap();
        assert_eq!(seen, "old");
    }

    #[test]
    fn a_link_replaces_whatever_is_there() {
        let root = tempfile::tempdir().unwrap();
        place(&item(Content::Bytes(b"file".to_vec())), root.path()).unwrap();
        let link = item(Content::Link("target"));
        assert_eq!(place(&link, root.path()).unwrap().change, Change::Replaced);
        assert_eq!(place(&link, root.path()).unwrap().change, Change::Unchanged);
        let path = root.path().join("lib/file");
        assert_eq!(fs::read_link(path).unwrap(), Path::new("target"));
    }
}
