//! What sources written for Windows take for granted: built in every way and run.

#[path = "support/toolchain.rs"]
mod toolchain;

use std::process::Command;

use toolchain::{WAYS, build, source};

#[test]
fn base_types_constants_and_helpers() {
    let directory = tempfile::tempdir().expect("a directory");
    for (language, wide) in WAYS {
        let program = build(&source("names.c"), language, wide, directory.path());
        let status = Command::new(program).status().expect("it runs");
        assert!(status.success(), "{language:?}, {wide:?}: {status}");
    }
}
