//! Builds the guest program: static, so that it is the guest's whole user space.

use std::path::{Path, PathBuf};
use std::process::Command;

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

/// The workspace's directory.
pub(crate) fn workspace() -> &'static Path {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    crates
        .and_then(Path::parent)
        .unwrap_or_else(|| Path::new("."))
}

/// Builds the program and reads it.
pub(super) fn build() -> Result<Vec<u8>, ProgramError> {
    // Of its own: the flags differ from the workspace's, and cargo would rebuild either each time.
    let directory = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), PathBuf::from)
        .join("guest");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(&cargo)
        .current_dir(workspace())
        .args(["build", "--release", "--locked", "--package", PACKAGE])
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
        .map_err(|source| ProgramError::Io {
            path: cargo.into(),
            source,
        })?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(ProgramError::Build(errors.into_owned()));
    }
    let path = directory.join(TARGET).join("release").join(PACKAGE);
    std::fs::read(&path).map_err(|source| ProgramError::Io { path, source })
}
