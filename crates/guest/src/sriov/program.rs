//! The programs that this machine has beside this one, run as a person runs them.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::checks::{Failure, ensure};
use crate::platform::{Error, Result};

/// Where they are.
const DIRECTORY: &str = "/bin";
/// A user who may do nothing special.
pub(crate) const NOBODY: u32 = 65534;

/// What a program did.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    /// The command, for messages.
    pub(crate) command: String,
    /// The exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

/// Runs a program to its end, as root or as another user.
///
/// # Errors
/// When it cannot be run.
pub(crate) fn run(program: &str, arguments: &[&str], user: Option<u32>) -> Result<Ran> {
    let path = format!("{DIRECTORY}/{program}");
    let mut command = Command::new(&path);
    command.args(arguments).stdin(Stdio::null());
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let output = command
        .output()
        .map_err(|error| Error::file(&path, "run", error))?;
    Ok(Ran {
        command: format!("{program} {}", arguments.join(" ")),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

impl Ran {
    /// It did what it was asked to.
    ///
    /// # Errors
    /// It did not; what it said.
    pub(crate) fn done(self) -> std::result::Result<Self, Failure> {
        ensure(self.code == Some(0), || self.describe())?;
        Ok(self)
    }

    /// The document it printed.
    ///
    /// # Errors
    /// It failed, or printed something else.
    pub(crate) fn json(self) -> std::result::Result<Value, Failure> {
        let ran = self.done()?;
        serde_json::from_str(&ran.stdout)
            .map_err(|error| Failure::new(format!("{}: {error}: {}", ran.command, ran.stdout)))
    }

    /// It refused, and said each of `words` about why.
    ///
    /// # Errors
    /// It did not.
    pub(crate) fn refused(self, words: &[&str]) -> std::result::Result<String, Failure> {
        let refused = self.code.is_some_and(|code| code != 0)
            && words.iter().all(|word| self.stderr.contains(word));
        ensure(refused, || {
            format!("expected to be refused with {words:?}: {}", self.describe())
        })?;
        Ok(self.stderr.lines().next().unwrap_or_default().to_owned())
    }

    /// All of it, for messages.
    pub(crate) fn describe(&self) -> String {
        let Self {
            command,
            code,
            stdout,
            stderr,
        } = self;
        format!("{command}: exit code {code:?}, {stdout:?}, {stderr:?}")
    }
}
