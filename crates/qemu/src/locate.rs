//! A QEMU that suits: new enough, and with the device that speaks vfio-user.
//!
//! Both are asked from the program itself. Bringing one that is missing is [`crate::fetch`]'s.

use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

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
        Self::installed_unasked(path, origin).asked()
    }

    fn installed_unasked(path: &Path, origin: Origin) -> Self {
        Self {
            version: MINIMUM,
            origin,
            program: Program::installed(path),
            data: Vec::new(),
            modules: None,
        }
    }

    /// The QEMU of the bundle [`Bundle::QEMU`].
    ///
    /// # Errors
    ///
    /// As [`Qemu::installed`], and [`Error::Io`] when the program is not in the tree.
    pub fn unpacked(bundle: &Unpacked) -> Result<Self> {
        Self::unpacked_unasked(bundle)?.asked()
    }

    fn unpacked_unasked(bundle: &Unpacked) -> Result<Self> {
        let program = bundle.program(&format!("usr/bin/{NAME}"))?;
        let data = DATA_PATHS
            .iter()
            .map(|path| bundle.path(path))
            .filter(|path| path.is_dir())
            .collect();
        let modules = Some(bundle.path(MODULE_PATH)).filter(|path| path.is_dir());
        Ok(Self {
            version: MINIMUM,
            origin: Origin::Cache,
            program,
            data,
            modules,
        })
    }

    /// What the program answered last time, else what it answers now: that takes longer than all else about it.
    fn remembered(self, cache: &Cache) -> Result<Self> {
        let Some(key) = Key::of(self.path()) else {
            return self.asked();
        };
        let mut known: Vec<Remembered> = cache.recall(REMEMBERED).unwrap_or_default();
        if let Some(found) = known.iter().find(|found| found.key == key) {
            return self.with(found.answer.clone());
        }
        // One that cannot be asked now may answer next time.
        let answer = self.answers()?;
        known.retain(|other| other.key.path != key.path);
        let excess = (known.len() + 1).saturating_sub(REMEMBERED_LIMIT);
        known.drain(..excess);
        let asked = self.with(answer.clone());
        known.push(Remembered { key, answer });
        if let Err(error) = cache.remember(REMEMBERED, &known) {
            tracing::warn!(%error, "what QEMU answered was not remembered");
        }
        asked
    }

    fn with(mut self, answer: Answer) -> Result<Self> {
        match answer {
            Answer::Suits(version) => {
                self.version = version;
                Ok(self)
            }
            Answer::Lacks(reason) => Err(self.unsuitable(reason)),
        }
    }

    /// Asks the program for its version and its devices.
    fn asked(self) -> Result<Self> {
        let answer = self.answers()?;
        self.with(answer)
    }

    fn answers(&self) -> Result<Answer> {
        let Some(version) = Version::from_qemu(&self.ask("--version")?) else {
            let reason = "it does not say that it is QEMU when asked for its version";
            return Ok(Answer::Lacks(reason.to_owned()));
        };
        if version < MINIMUM {
            let reason = format!("its version is {version} and {MINIMUM} is needed");
            return Ok(Answer::Lacks(reason));
        }
        // A QEMU built without the device is as good as an old one.
        let mut command = self.command();
        command.args(["-device", "help"]);
        let devices = self.answer(command, "-device help")?;
        let wanted = format!("name \"{DEVICE}\"");
        if !devices.lines().any(|line| line.starts_with(&wanted)) {
            let reason = format!("it was built without the device {DEVICE}");
            return Ok(Answer::Lacks(reason));
        }
        Ok(Answer::Suits(version))
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

/// Where remembered answers lie in the cache.
const REMEMBERED: &str = "qemus.json";

/// The most programs whose answers are remembered.
const REMEMBERED_LIMIT: usize = 16;

/// A program's file: another one of its name, or a changed one, is asked again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    path: String,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Key {
    fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        Some(Self {
            path: path.display().to_string(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// It suits, and has this version.
    Suits(Version),
    /// It does not, for this reason.
    Lacks(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    key: Key,
    answer: Answer,
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
        return Qemu::installed_unasked(Path::new(&named), Origin::Variable).remembered(cache);
    }
    match find_in(path, NAME)
        .map(|path| Qemu::installed_unasked(&path, Origin::Path).remembered(cache))
    {
        Some(Ok(qemu)) => return Ok(qemu),
        Some(Err(error)) => tried.push(error.to_string()),
        None => tried.push(format!("PATH has no {NAME}")),
    }
    match cache
        .require(&Bundle::QEMU)
        .and_then(|bundle| Qemu::unpacked_unasked(&bundle)?.remembered(cache))
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
    fn an_answer_is_remembered_until_the_program_changes() {
        let fixture = Fixture::new();
        let path = fixture.qemu("10.1.2", DEVICES);
        assert_eq!(
            fixture.locate(None).unwrap().version().to_string(),
            "10.1.2"
        );
        let cache = Cache::at(fixture.directory.path().join("cache"));
        let mut known: Vec<Remembered> = cache.recall(REMEMBERED).unwrap();
        assert_eq!(known[0].key, Key::of(&path).unwrap());
        known[0].answer = Answer::Suits(Version::new(77, 0, 0));
        cache.remember(REMEMBERED, &known).unwrap();
        assert_eq!(
            fixture.locate(None).unwrap().version().to_string(),
            "77.0.0"
        );
        fixture.qemu("10.2.0", DEVICES);
        assert_eq!(
            fixture.locate(None).unwrap().version().to_string(),
            "10.2.0"
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
