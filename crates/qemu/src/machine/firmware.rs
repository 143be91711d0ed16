//! UEFI firmware.

use std::path::PathBuf;

use serde_json::json;

use super::arguments::{Arguments, utf8};
use crate::Result;

/// UEFI firmware (OVMF) of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// Its code; never written.
    pub code: PathBuf,
    /// This machine's own variables; the guest writes them.
    pub variables: PathBuf,
}

impl Firmware {
    /// Puts the files in; the answer belongs to the end of `-machine`.
    pub(super) fn put(&self, arguments: &mut Arguments) -> Result<String> {
        for (node, path, read_only) in [
            ("firmware-code", &self.code, true),
            ("firmware-variables", &self.variables, false),
        ] {
            let path = utf8("firmware", path)?;
            let file = json!({
                "driver": "raw", "node-name": node, "read-only": read_only,
                "file": {"driver": "file", "filename": path},
            });
            arguments.json("-blockdev", &file);
        }
        Ok(",pflash0=firmware-code,pflash1=firmware-variables".to_owned())
    }
}
