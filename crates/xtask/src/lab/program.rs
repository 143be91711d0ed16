//! Builds programs for the guest: static, so that they need nothing else there.

use std::path::{Path, PathBuf};

use crate::cargo::{cargo, target_directory};

/// The only architecture whose guests are packaged.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A program of the workspace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// The package.
    name: &'static str,
    /// Its program.
    program: &'static str,
}

/// The guest program, the guest's first process.
pub(super) const GUEST: Package = Package {
    name: "openhdv-guest",
    program: "openhdv-guest",
};
/// The command.
pub(crate) const COMMAND: Package = Package {
    name: "openhdv-cli",
    program: "hdv",
};

/// Why it was not built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{program} does not build for the guest:\n{errors}")]
    Build {
        program: &'static str,
        errors: String,
    },
}

/// Builds a program and reads it.
pub(crate) fn build(package: Package) -> Result<Vec<u8>, ProgramError> {
    let failed = |path: &Path, source| ProgramError::Io {
        path: path.to_owned(),
        source,
    };
    // Of its own: the flags differ from the workspace's, and cargo would rebuild either each time.
    let directory = target_directory()
        .map_err(|error| failed(Path::new("cargo metadata"), error))?
        .join("guest");
    let mut command = cargo(["build", "--release", "--locked", "--package", package.name]);
    let output = command
        // With an explicit target proc macros are built without the flags, which they cannot have.
        .args(["--target", TARGET])
        .arg("--target-dir")
        .arg(&directory)
        .env(
            "RUSTFLAGS",
            "-C target-feature=+crt-static -C strip=symbols",
        )
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .map_err(|error| failed(Path::new("cargo"), error))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(ProgramError::Build {
            program: package.program,
            errors: errors.into_owned(),
        });
    }
    let path = directory.join(TARGET).join("release").join(package.program);
    std::fs::read(&path).map_err(|error| failed(&path, error))
}
