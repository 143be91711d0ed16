//! How a program is run: as it is, or by the dynamic loader of the tree it was unpacked into.
//!
//! What a particular program is for does not belong here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result};

/// Where Debian's packages keep the dynamic loader, below the tree they are unpacked into.
const LOADER_PATHS: [&str; 3] = [
    "usr/lib64/ld-linux-x86-64.so.2",
    "lib64/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
];

/// Where Debian's packages keep their libraries.
const LIBRARY_PATHS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// A program and what must stand before its own arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
    /// The loader and its arguments, the program's own path last; empty for an installed program.
    loader: Option<(PathBuf, Vec<OsString>)>,
}

impl Program {
    /// A program that the system itself can run.
    #[must_use]
    pub fn installed(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            loader: None,
        }
    }

    /// A program at `path` (relative) in a tree of unpacked packages, to be run by that tree's own
    /// dynamic loader with that tree's own libraries.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the program or the loader is not there.
    pub fn unpacked(root: &Path, path: &str) -> Result<Self> {
        let missing = |what: &Path| Error::Io {
            doing: format!("looking for {}", what.display()),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let program = root.join(path);
        if !program.is_file() {
            return Err(missing(&program));
        }
        let loader = LOADER_PATHS
            .iter()
            .map(|loader| root.join(loader))
            .find(|loader| loader.is_file())
            .ok_or_else(|| missing(&root.join(LOADER_PATHS[0])))?;
        let mut libraries = OsString::new();
        for directory in LIBRARY_PATHS
            .iter()
            .map(|directory| root.join(directory))
            .filter(|path| path.is_dir())
        {
            if !libraries.is_empty() {
                libraries.push(":");
            }
            libraries.push(directory);
        }
        let leading = vec!["--library-path".into(), libraries, program.clone().into()];
        Ok(Self {
            path: program,
            loader: Some((loader, leading)),
        })
    }

    /// The program itself, whoever runs it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the program comes from a tree of unpacked packages.
    #[must_use]
    pub fn is_unpacked(&self) -> bool {
        self.loader.is_some()
    }

    /// A command that runs the program; its own arguments are to be added.
    #[must_use]
    pub fn command(&self) -> Command {
        match &self.loader {
            None => Command::new(&self.path),
            Some((loader, leading)) => {
                let mut command = Command::new(loader);
                // A library preloaded into everything here was built for this system's libc, not
                // for the tree's.
                command
                    .args(leading)
                    .env_remove("LD_PRELOAD")
                    .env_remove("LD_LIBRARY_PATH");
                command
            }
        }
    }
}
