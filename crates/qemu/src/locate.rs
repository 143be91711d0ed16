//! A QEMU that suits: new enough, and with the device that speaks vfio-user.
//!
//! Both are asked from the program itself. Bringing one that is missing is [`crate::fetch`]'s.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bundle::{Bundle, Unpacked};
use crate::cache::Cache;
use crate::child;
use crate::program::Program;
use crate::version::Version;
use crate::{Error, Result};

/// The oldest QEMU with [`DEVICE`].
pub const MINIMUM: Version = Version::new(10, 1, 0);

/// The device that puts a vfio-user server's device into a guest.
pub const DEVICE: &str = "vfio-user-pci";

/// The environment variable that names a QEMU, before all others.
pub const VARIABLE: &str = "OPENHDV_QEMU";

/// QEMU's name for x86-64 guests.
const NAME: &str = "qemu-system-x86_64";

/// Where QEMU's packages keep its firmware and its modules, below the tree they are unpacked into.
const DATA_PATHS: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];
const MODULE_PATH: &str = "usr/lib/x86_64-linux-gnu/qemu";

/// How long QEMU may take to answer a question about itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Where a QEMU was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// [`VARIABLE`] named it.
    Variable,
    /// It is installed: it was found in `PATH`.
    Path,
    /// It was unpacked into the cache.
    Cache,
}

/// A QEMU that suits, and how it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    version: Version,
    origin: Origin,
    program: Program,
    data: Vec<PathBuf>,
    modules: Option<PathBuf>,
}

impl Qemu {
    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where it was found.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The program.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.program.path()
    }

    /// A command that runs it; the machine's arguments are to be added.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = self.program.command();
        for directory in &self.data {
            command.arg("-L").arg(directory);
        }
        if let Some(directory) = &self.modules {
            // QEMU looks for its modules beside the running program, which is the loader here.
            command.env("QEMU_MODULE_DIR", directory);
        }
        command
    }

    /// An installed QEMU at a path.
    ///
    /// # Errors
    ///
    /// [`Error::UnsuitableQemu`] when it is too old, lacks the device or does not answer.
    pub fn installed(path: &Path, origin: Origin) -> Result<Self> {
        Self {
            version: MINIMUM,
            origin,
            program: Program::installed(path),
            data: Vec::new(),
            modules: None,
        }
        .asked()
    }

    /// The QEMU of the bundle [`Bundle::QEMU`].
    ///
    /// # Errors
    ///
    /// As [`Qemu::installed`], and [`Error::Io`] when the program is not in the tree.
    pub fn unpacked(bundle: &Unpacked) -> Result<Self> {
        let program = bundle.program(&format!("usr/bin/{NAME}"))?;
        let data = DATA_PATHS
            .iter()
            .map(|path| bundle.path(path))
            .filter(|path| path.is_dir())
            .collect();
        let modules = Some(bundle.path(MODULE_PATH)).filter(|path| path.is_dir());
        Self {
            version: MINIMUM,
            origin: Origin::Cache,
            program,
            data,
            modules,
        }
        .asked()
    }

    /// Asks the program for its version and its devices.
    fn asked(mut self) -> Result<Self> {
        self.version = Version::from_qemu(&self.ask("--version")?).ok_or_else(|| {
            self.unsuitable("it does not say that it is QEMU when asked for its version".to_owned())
        })?;
        if self.version < MINIMUM {
            return Err(self.unsuitable(format!(
                "its version is {} and {MINIMUM} is needed",
                self.version
            )));
        }
        // A QEMU built without the device is as good as an old one.
        let mut command = self.command();
        command.args(["-device", "help"]);
        let devices = self.answer(command, "-device help")?;
        let wanted = format!("name \"{DEVICE}\"");
        if !devices.lines().any(|line| line.starts_with(&wanted)) {
            return Err(self.unsuitable(format!("it was built without the device {DEVICE}")));
        }
        Ok(self)
    }

    fn ask(&self, question: &str) -> Result<String> {
        let mut command = self.command();
        command.arg(question);
        self.answer(command, question)
    }

    fn answer(&self, command: Command, question: &str) -> Result<String> {
        let answer = child::ask(command, ANSWER_LIMIT, &mut |_| {}).map_err(|error| {
            self.unsuitable(format!("it cannot be asked for {question}: {error}"))
        })?;
        if answer.status.success() {
            Ok(answer.stdout)
        } else {
            Err(self.unsuitable(format!(
                "asked for {question} it says: {}",
                answer.complaint()
            )))
        }
    }

    fn unsuitable(&self, reason: String) -> Error {
        let origin = match self.origin {
            Origin::Variable => VARIABLE,
            Origin::Path => "PATH",
            Origin::Cache => "the cache",
        };
        Error::UnsuitableQemu {
            origin,
            path: self.path().to_owned(),
            reason,
        }
    }
}

/// Finds a QEMU that suits: the one that `$OPENHDV_QEMU` names, else one in `PATH`, else the one
/// in the cache.
///
/// # Errors
///
/// [`Error::UnsuitableQemu`] when `$OPENHDV_QEMU` names one that does not suit: what a person
/// asked for is not replaced silently. [`Error::NoQemu`] when there is none.
pub fn locate(cache: &Cache) -> Result<Qemu> {
    locate_in(std::env::var_os(VARIABLE), std::env::var_os("PATH"), cache)
}

fn locate_in(variable: Option<OsString>, path: Option<OsString>, cache: &Cache) -> Result<Qemu> {
    let mut tried = Vec::new();
    if let Some(named) = variable.filter(|named| !named.is_empty()) {
        return Qemu::installed(Path::new(&named), Origin::Variable);
    }
    match find_in(path, NAME).map(|path| Qemu::installed(&path, Origin::Path)) {
        Some(Ok(qemu)) => return Ok(qemu),
        Some(Err(error)) => tried.push(error.to_string()),
        None => tried.push(format!("PATH has no {NAME}")),
    }
    match cache
        .require(&Bundle::QEMU)
        .and_then(|bundle| Qemu::unpacked(&bundle))
    {
        Ok(qemu) => return Ok(qemu),
        Err(Error::NotFetched { cache, .. }) => {
            tried.push(format!("none is unpacked in {}", cache.display()));
        }
        Err(error) => tried.push(error.to_string()),
    }
    Err(Error::NoQemu {
        minimum: MINIMUM,
        device: DEVICE,
        tried,
    })
}

/// The first executable of that name in `PATH`.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    find_in(std::env::var_os("PATH"), name)
}

fn find_in(path: Option<OsString>, name: &str) -> Option<PathBuf> {
    let executable = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&path?)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(executable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Fixture {
        directory: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
            }
        }

        fn qemu(&self, version: &str, devices: &str) -> PathBuf {
            let path = self.directory.path().join(NAME);
            let script = format!(
                "#!/bin/sh\ncase \"$1\" in --version) echo 'QEMU emulator version {version}';; -device) echo '{devices}';; esac\n"
            );
            let text = self.directory.path().join("script");
            fs::write(&text, script).unwrap();
            fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
            // A file that this process wrote may still be open for writing in a child that another
            // test is just starting, and then it cannot be run; one that `cp` wrote cannot be.
            assert!(
                Command::new("cp")
                    .arg("-f")
                    .args([&text, &path])
                    .status()
                    .unwrap()
                    .success()
            );
            path
        }

        fn locate(&self, variable: Option<&Path>) -> Result<Qemu> {
            let cache = Cache::at(self.directory.path().join("cache"));
            locate_in(
                variable.map(Into::into),
                Some(self.directory.path().into()),
                &cache,
            )
        }
    }

    const DEVICES: &str =
        "name \"vfio-user-pci\", bus PCI, desc \"VFIO over socket PCI device assignment\"";

    #[test]
    fn one_in_path_is_asked_what_it_is() {
        let fixture = Fixture::new();
        fixture.qemu("10.1.2", DEVICES);
        let qemu = fixture.locate(None).unwrap();
        assert_eq!(
            (qemu.version(), qemu.origin()),
            (Version::new(10, 1, 2), Origin::Path)
        );
    }

    #[test]
    fn one_that_is_too_old_or_lacks_the_device_is_passed_over_with_the_reason() {
        let fixture = Fixture::new();
        fixture.qemu("10.0.9", DEVICES);
        let error = fixture.locate(None).unwrap_err().to_string();
        assert!(
            error.contains("10.0.9") && error.contains("10.1.0"),
            "{error}"
        );
        fixture.qemu("11.0.0", "name \"vfio-pci\", bus PCI");
        let error = fixture.locate(None).unwrap_err().to_string();
        assert!(
            error.contains("without the device vfio-user-pci"),
            "{error}"
        );
    }

    #[test]
    fn one_that_was_named_is_never_replaced_by_another() {
        let fixture = Fixture::new();
        fixture.qemu("11.0.0", DEVICES);
        let error = fixture
            .locate(Some(Path::new("/no/such/qemu")))
            .unwrap_err();
        assert!(
            matches!(
                error,
                Error::UnsuitableQemu {
                    origin: VARIABLE,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn none_at_all_says_where_it_was_looked_for() {
        let error = Fixture::new().locate(None).unwrap_err().to_string();
        assert!(
            error.contains("PATH has no") && error.contains("none is unpacked in"),
            "{error}"
        );
    }
}
