//! UEFI firmware files: where the code is, and variables of a machine's own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::bundle::Bundle;
use crate::cache::Cache;
use crate::error::at;
use crate::machine::Firmware;
use crate::{Error, Result};

/// Where Debian's package keeps the firmware, and other distributions too; without Secure Boot.
const CODE: &str = "usr/share/OVMF/OVMF_CODE_4M.fd";
/// The variables of a machine that has never booted.
const VARIABLES: &str = "usr/share/OVMF/OVMF_VARS_4M.fd";

/// The name of a machine's variables in its directory.
const OWN_VARIABLES: &str = "uefi-variables";
/// Their name while they are copied.
const HALF_COPIED: &str = "uefi-variables.new";

/// Firmware for a machine, with variables of its own in `directory`: fresh ones, unless there are some.
///
/// The firmware is the cache's ([`Bundle::OVMF`]), else the installed one.
///
/// # Errors
/// [`Error::NotFetched`] when there is none, [`Error::Io`] when the variables cannot be copied.
pub fn prepare(cache: &Cache, directory: &Path) -> Result<Firmware> {
    let (code, fresh) = files(cache)?;
    let variables = directory.join(OWN_VARIABLES);
    if !variables
        .try_exists()
        .map_err(at("looking for", &variables))?
    {
        // All of them or none: half of them would be taken for the machine's own ever after.
        let half = directory.join(HALF_COPIED);
        let mut from = fs::File::open(&fresh).map_err(at("opening", &fresh))?;
        let mut to = fs::File::create(&half).map_err(at("creating", &half))?;
        io::copy(&mut from, &mut to).map_err(at("writing", &half))?;
        fs::rename(&half, &variables).map_err(at("creating", &variables))?;
    }
    Ok(Firmware { code, variables })
}

fn files(cache: &Cache) -> Result<(PathBuf, PathBuf)> {
    let missing = match cache.require(&Bundle::OVMF) {
        Ok(bundle) => return Ok((bundle.path(CODE), bundle.path(VARIABLES))),
        Err(error @ Error::NotFetched { .. }) => error,
        Err(error) => return Err(error),
    };
    let installed = |path: &str| Some(Path::new("/").join(path)).filter(|path| path.is_file());
    installed(CODE).zip(installed(VARIABLES)).ok_or(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_copied_once() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path().join("cache"));
        fs::create_dir(directory.path().join("cache")).unwrap();
        let (staging, root) = cache.staging(&Bundle::OVMF).unwrap();
        fs::create_dir_all(root.join("usr/share/OVMF")).unwrap();
        fs::write(root.join(CODE), "code").unwrap();
        fs::write(root.join(VARIABLES), "fresh").unwrap();
        let manifest = crate::bundle::Manifest {
            bundle: "ovmf".to_owned(),
            suite: Bundle::OVMF.suite.to_owned(),
            packages: vec!["ovmf".to_owned()],
            versions: Default::default(),
        };
        cache.adopt(&Bundle::OVMF, &staging, &manifest).unwrap();
        // Of a copy that failed.
        fs::write(directory.path().join(HALF_COPIED), "fresh and more").unwrap();
        let firmware = prepare(&cache, directory.path()).unwrap();
        assert_eq!(fs::read(&firmware.code).unwrap(), b"code");
        assert_eq!(fs::read(&firmware.variables).unwrap(), b"fresh");
        fs::write(&firmware.variables, "used").unwrap();
        assert_eq!(prepare(&cache, directory.path()).unwrap(), firmware);
        assert_eq!(fs::read(&firmware.variables).unwrap(), b"used");
    }
}
