//! Builds the guest program: static, so that it is the guest's whole user space.

use std::path::{Path, PathBuf};

use crate::cargo::{cargo, target_directory};

/// The only architecture whose guests are packaged.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const PACKAGE: &str = "openhdv-guest";

/// Why it was not built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the guest program does not build:\n{0}")]
    Build(String),
}

/// Builds the program and reads it.
pub(super) fn build() -> Result<Vec<u8>, ProgramError> {
    let failed = |path: &Path, source| ProgramError::Io {
        path: path.to_owned(),
        source,
    };
    // Of its own: the flags differ from the workspace's, and cargo would rebuild either each time.
    let directory = target_directory()
        .map_err(|error| failed(Path::new("cargo metadata"), error))?
        .join("guest");
    let mut command = cargo(["build", "--release", "--locked", "--package", PACKAGE]);
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
        return Err(ProgramError::Build(errors.into_owned()));
    }
    let path = directory.join(TARGET).join("release").join(PACKAGE);
    std::fs::read(&path).map_err(|error| failed(&path, error))
}
