//! What the process of the checks is told: where things are.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::test::Failure;

/// The environment variable that holds it.
pub(crate) const VARIABLE: &str = "OPENHDV_COMPUTE_FACTS";

/// Where things are, and what they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// The guest kernel's image.
    pub(crate) kernel: PathBuf,
    /// The initramfs with the guest program.
    pub(crate) initramfs: PathBuf,
    /// Where the library, the worker and the command are installed.
    pub(crate) prefix: PathBuf,
    pub(crate) kernel_release: String,
    pub(crate) qemu_version: String,
    /// The examples, by what a check calls them, or why they were not built.
    pub(crate) programs: Vec<(String, Result<PathBuf, String>)>,
    /// How many VMs are made one after another.
    pub(crate) lifetimes: u32,
}

impl Facts {
    pub(crate) fn of_environment() -> Result<Self, Failure> {
        let text = std::env::var(VARIABLE)?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The worker's program.
    pub(crate) fn worker(&self) -> PathBuf {
        self.prefix.join("libexec/openhdv/openhdv-worker")
    }

    /// The command.
    pub(crate) fn hdv(&self) -> PathBuf {
        self.prefix.join("bin/hdv")
    }
}
