//! Where the worker's program is.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The program's name.
const NAME: &str = "openhdv-worker";
/// The directories that cargo puts a package's examples and tests in, below its programs.
const BELOW_PROGRAMS: [&str; 2] = ["examples", "deps"];
/// Names it, before all places.
const VARIABLE: &str = "OPENHDV_WORKER";
/// Where it is under the prefix that a library or program is installed in.
const LIBEXEC: &str = "libexec/openhdv";
/// The directories that libraries and programs are installed in, right under a prefix or further up.
const INSTALLED_IN: [&str; 5] = ["bin", "sbin", "lib", "lib64", "lib32"];

/// Finds it: where `$OPENHDV_WORKER` says, beside the library that this is in, beside this program, above either where cargo
/// puts examples and tests, or in `libexec/openhdv` of the prefix of either.
///
/// # Errors
/// It is in none of these places.
pub(super) fn find() -> Result<PathBuf> {
    find_at(
        std::env::var_os(VARIABLE),
        &[own_library(), std::env::current_exe().ok()],
    )
}

fn find_at(named: Option<OsString>, beside: &[Option<PathBuf>]) -> Result<PathBuf> {
    let tried = match named {
        Some(named) if !named.is_empty() => vec![PathBuf::from(named)],
        _ => places(beside.iter().flatten().map(PathBuf::as_path)),
    };
    let found = tried.iter().find(|path| path.is_file()).cloned();
    found.ok_or(Error::NoWorker { tried })
}

fn places<'a>(files: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let is_one_of = |directory: &Path, names: &[&str]| {
        let name = directory.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| names.contains(&name))
    };
    for directory in files.filter_map(Path::parent) {
        places.push(directory.join(NAME));
        if let Some(above) = directory.parent()
            && is_one_of(directory, &BELOW_PROGRAMS)
        {
            places.push(above.join(NAME));
        }
        let installed = directory
            .ancestors()
            .find(|ancestor| is_one_of(ancestor, &INSTALLED_IN));
        if let Some(prefix) = installed.and_then(Path::parent) {
            places.push(prefix.join(LIBEXEC).join(NAME));
        }
    }
    let mut known = Vec::new();
    for place in places {
        if !known.contains(&place) {
            known.push(place);
        }
    }
    known
}

/// The file that this code was loaded from: a shared library, or the program itself.
fn own_library() -> Option<PathBuf> {
    let here = own_library as *const () as usize;
    mapped_file(&fs::read("/proc/self/maps").ok()?, here)
}

/// The file mapped at an address, by `proc_pid_maps(5)`.
fn mapped_file(maps: &[u8], address: usize) -> Option<PathBuf> {
    maps.split(|byte| *byte == b'\n').find_map(|line| {
        // address perms offset dev inode, each with one space behind it, then spaces, then the path to the line's end.
        let mut fields = line.splitn(6, |byte| *byte == b' ');
        let range = str::from_utf8(fields.next()?).ok()?;
        let (begin, end) = range.split_once('-')?;
        let begin = usize::from_str_radix(begin, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        if !(begin..end).contains(&address) {
            return None;
        }
        let path = fields.nth(4)?.trim_ascii_start();
        path.starts_with(b"/")
            .then(|| PathBuf::from(OsString::from_vec(path.to_vec())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_is_found_by_an_address_in_it() {
        let maps = b"55d0c0de1000-55d0c0de2000 r-xp 00001000 fd:01 123                        /opt/a b/lib/libx.so\n\
            7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n\
            7f0000001000-7f0000002000 r-xp 00000000 00:00 0                          [vdso]\n";
        let library = Some(PathBuf::from("/opt/a b/lib/libx.so"));
        assert_eq!(mapped_file(maps, 0x55d0_c0de_1000), library);
        assert_eq!(mapped_file(maps, 0x55d0_c0de_1fff), library);
        assert_eq!(mapped_file(maps, 0x55d0_c0de_2000), None);
        assert_eq!(mapped_file(maps, 0x7f00_0000_0800), None);
        assert_eq!(mapped_file(maps, 0x7f00_0000_1800), None);
        assert_eq!(mapped_file(b"", 0), None);
    }

    #[test]
    fn this_code_is_in_this_program() {
        assert_eq!(own_library(), std::env::current_exe().ok());
    }

    #[test]
    fn places_are_beside_and_under_the_prefix() {
        let places = |path: &str| places(std::iter::once(Path::new(path)));
        assert_eq!(
            places("/usr/lib/x86_64-linux-gnu/libcomputecore.so"),
            [
                Path::new("/usr/lib/x86_64-linux-gnu/openhdv-worker"),
                Path::new("/usr/libexec/openhdv/openhdv-worker"),
            ]
        );
        assert_eq!(
            places("/opt/x/bin/hdv"),
            [
                Path::new("/opt/x/bin/openhdv-worker"),
                Path::new("/opt/x/libexec/openhdv/openhdv-worker"),
            ]
        );
        assert_eq!(
            places("/home/me/target/debug/hdv"),
            [Path::new("/home/me/target/debug/openhdv-worker")]
        );
        assert_eq!(
            places("/home/me/target/debug/examples/vm"),
            [
                Path::new("/home/me/target/debug/examples/openhdv-worker"),
                Path::new("/home/me/target/debug/openhdv-worker"),
            ]
        );
    }

    #[test]
    fn the_variable_counts_before_all_and_alone() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("hdv");
        let worker = directory.path().join(NAME);
        let beside = [None, Some(program)];
        let missing = find_at(None, &beside).unwrap_err();
        assert!(
            missing.to_string().contains(&worker.display().to_string()),
            "{missing}"
        );
        fs::write(&worker, "").unwrap();
        assert_eq!(find_at(None, &beside).unwrap(), worker);
        assert_eq!(find_at(Some(OsString::new()), &beside).unwrap(), worker);
        let named = find_at(Some("/nonexistent/worker".into()), &beside);
        let Err(Error::NoWorker { tried }) = named else {
            panic!("{named:?}");
        };
        assert_eq!(tried, [Path::new("/nonexistent/worker")]);
    }
}
