//! valgrind's memcheck from unpacked packages, on a machine whose own C library may be any.
//!
//! memcheck replaces functions of the dynamic loader, which it finds by symbols that distributions
//! strip. So a checked program runs on the unpacked C library, whose symbols were unpacked with it,
//! started by the unpacked loader. Debug files are looked for below `/usr/lib/debug` or below one
//! further directory, by the path of the library they belong to: a directory of links stands for that.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use hdv_qemu::bundle::{Bundle, Unpacked};
use hdv_qemu::cache::Cache;

use crate::lab::bring;
use crate::ui::Ui;

/// The tool itself, a static program: what `valgrind` would start.
const TOOL: &str = "usr/libexec/valgrind/memcheck-amd64-linux";
/// Where it finds what it preloads and its suppressions.
const LIBRARY: &str = "usr/libexec/valgrind";
/// The loader and the libraries that programs run with.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "ld-linux-x86-64.so.2";
/// Where debug files are, by build id.
const DEBUG_FILES: &str = "usr/lib/debug/.build-id";
/// The status of a program that memcheck found fault with.
pub(crate) const FOUND: i32 = 99;

/// What is an error: of leaks the definite and the indirect ones only, since Rust's thread-local
/// storage shows as possibly lost. Threads take turns in order: without that, a thread that computes all the
/// time keeps another from answering a client for many seconds.
const OPTIONS: [&str; 8] = [
    "--quiet",
    "--fair-sched=yes",
    "--leak-check=full",
    "--show-leak-kinds=definite,indirect",
    "--errors-for-leak-kinds=definite,indirect",
    "--track-origins=yes",
    "--num-callers=40",
    "--error-exitcode=99",
];

/// What is no error. rustix leaves the size of epoll_pwait's signal mask to chance where there is no mask, and the kernel does not look
/// at it then.
const SUPPRESSIONS: &str = "{
   the size of no mask
   Memcheck:Param
   epoll_pwait(sigsetsize)
   obj:*
}
";

/// memcheck, ready to run programs.
#[derive(Debug)]
pub(crate) struct Valgrind {
    version: String,
    wrapper: PathBuf,
    _directory: tempfile::TempDir,
}

impl Valgrind {
    /// Brings it. `libraries` is searched for shared libraries before the C library's directory.
    pub(crate) fn prepare(libraries: &Path, ui: &Ui) -> Result<Self, Box<dyn std::error::Error>> {
        let cache = Cache::user()?;
        bring(&cache, Bundle::VALGRIND, ui)?;
        let bundle = cache.require(&Bundle::VALGRIND)?;
        let directory = tempfile::Builder::new()
            .prefix("openhdv-valgrind-")
            .tempdir()?;
        let symbols = directory.path().join("symbols");
        link_debug_files(&bundle, &symbols)?;
        let suppressions = directory.path().join("suppressions");
        fs::write(&suppressions, SUPPRESSIONS)?;
        let wrapper = directory.path().join("memcheck");
        let files = [
            ("extra-debuginfo-path", &symbols),
            ("suppressions", &suppressions),
        ];
        fs::write(&wrapper, script(&bundle, &files, libraries)?)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o700))?;
        let version = bundle.manifest().versions.get("valgrind");
        Ok(Self {
            version: version.cloned().unwrap_or_default(),
            wrapper,
            _directory: directory,
        })
    }

    /// A program that runs its arguments under memcheck.
    pub(crate) fn wrapper(&self) -> &Path {
        &self.wrapper
    }

    /// The package's version.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }
}

/// Links `<symbols>/<directory of the libraries>/<name>` to each library's debug file.
fn link_debug_files(bundle: &Unpacked, symbols: &Path) -> io::Result<()> {
    let libraries = bundle.path(LIBRARIES).canonicalize()?;
    let mut below = symbols.as_os_str().to_owned();
    below.push(&libraries);
    let below = PathBuf::from(below);
    fs::create_dir_all(&below)?;
    // A debug file is named by the rest of the build id, in a directory named by its first byte.
    for first in fs::read_dir(bundle.path(DEBUG_FILES))? {
        for file in fs::read_dir(first?.path())? {
            let file = file?;
            let link = below.join(file.file_name());
            match symlink(file.path(), &link) {
                // Two libraries of one name would be told apart by a checksum, one of them being
                // found without symbols.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// The wrapper's text.
fn script(bundle: &Unpacked, files: &[(&str, &PathBuf)], libraries: &Path) -> io::Result<String> {
    let unpacked = bundle.path(LIBRARIES).canonicalize()?;
    let mut search = OsString::from(libraries);
    search.push(":");
    search.push(&unpacked);
    let mut words: Vec<OsString> = vec![bundle.path(TOOL).into()];
    words.extend(OPTIONS.map(OsString::from));
    for (option, file) in files {
        let mut word = OsString::from(format!("--{option}="));
        word.push(file);
        words.push(word);
    }
    words.push(unpacked.join(LOADER).into());
    words.push("--library-path".into());
    words.push(search);
    let words = words
        .iter()
        .map(|word| {
            let word = word
                .to_str()
                .ok_or_else(|| io::Error::other(format!("{} is not UTF-8", word.display())))?;
            Ok(quoted(word))
        })
        .collect::<io::Result<Vec<_>>>()?;
    let library = bundle.path(LIBRARY);
    let library = library
        .to_str()
        .ok_or_else(|| io::Error::other(format!("{} is not UTF-8", library.display())))?;
    Ok(format!(
        "#!/bin/sh\nVALGRIND_LIB={library} VALGRIND_LAUNCHER={launcher} exec {words} \"$@\"\n",
        library = quoted(library),
        launcher = quoted(&bundle.path("usr/bin/valgrind").to_string_lossy()),
        words = words.join(" "),
    ))
}

/// A word for a shell, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words_in_a_shell() {
        assert_eq!(quoted("/a b"), "'/a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}
