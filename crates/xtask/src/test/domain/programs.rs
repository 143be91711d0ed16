//! Programs of Debian's packages for the guest, with the libraries that they load.

use std::path::{Path, PathBuf};

use hdv_qemu::bundle::{Bundle, Unpacked};
use hdv_qemu::cache::Cache;

use crate::lab::bring;
use crate::test::Failure;
use crate::ui::Ui;

/// The program, and the names that it shows for ids.
const LSPCI: &str = "usr/bin/lspci";
const IDS: &str = "usr/share/misc/pci.ids";
/// Where programs look for their dynamic loader, and the loader for libraries.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";
/// Has the loader tell which libraries a program loads, in place of running it.
const TRACE: (&str, &str) = ("LD_TRACE_LOADED_OBJECTS", "1");

/// A file for the guest, by its path there.
pub(super) type GuestFile = (String, Vec<u8>);

/// lspci with all that it needs.
pub(super) fn lspci(ui: &Ui) -> Result<Vec<GuestFile>, Failure> {
    let cache = Cache::user()?;
    bring(&cache, Bundle::PCIUTILS, ui)?;
    let unpacked = cache.require(&Bundle::PCIUTILS)?;
    let mut files = vec![
        file("/bin/lspci".to_owned(), &unpacked.path(LSPCI))?,
        file(format!("/{IDS}"), &unpacked.path(IDS))?,
    ];
    let mut has_loader = false;
    for library in libraries(&unpacked)? {
        let name = library.file_name().unwrap_or_default().to_string_lossy();
        let is_loader = LOADER.ends_with(&*name);
        has_loader |= is_loader;
        let place = if is_loader {
            LOADER.to_owned()
        } else {
            format!("{LIBRARIES}/{name}")
        };
        files.push(file(place, &library)?);
    }
    if !has_loader {
        return Err("lspci was not found to have a dynamic loader".into());
    }
    Ok(files)
}

/// The libraries that lspci loads, by the words of its loader: `libpci.so.3 => PATH (ADDRESS)`.
fn libraries(unpacked: &Unpacked) -> Result<Vec<PathBuf>, Failure> {
    let output = unpacked
        .program(LSPCI)?
        .command()
        .env(TRACE.0, TRACE.1)
        .output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    let paths = told.lines().filter_map(|line| {
        let (_, target) = line.split_once("=> ")?;
        Some(PathBuf::from(target.split_whitespace().next()?))
    });
    Ok(paths.collect())
}

fn file(place: String, from: &Path) -> Result<GuestFile, Failure> {
    let content = std::fs::read(from).map_err(|error| format!("{}: {error}", from.display()))?;
    Ok((place, content))
}
