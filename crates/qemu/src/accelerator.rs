//! How QEMU runs a guest's processors. Which way works on this machine is found in
//! [`crate::trial`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// How QEMU runs a guest's processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Accelerator {
    /// The processor's own virtualization, through Linux.
    Kvm,
    /// Translation in software: slower, and everywhere.
    Tcg,
}

impl Accelerator {
    /// All of them, the fastest first.
    pub const ALL: [Self; 2] = [Self::Kvm, Self::Tcg];

    /// Its name for QEMU's `-accel`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
