//! `dlclose` leaves the library where it is: its handler of SIGBUS stays, and threads of it may.

use std::path::Path;
use std::process::Command;

#[test]
fn dlclose_does_not_unmap_the_library() {
    let executable = std::env::current_exe().expect("a path");
    // Built in one go with this test.
    let library = executable.with_file_name("libcomputecore.so");
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("unload");
    // Not linked to the library, or it could not be unloaded in any case.
    let built = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"])
        .args(["-D_GNU_SOURCE", "-pthread", "-I"])
        .arg(package.join("include"))
        .arg(package.join("tests/c/unload.c"))
        .arg("-o")
        .arg(&program)
        .arg("-ldl")
        .output()
        .expect("cc runs");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    let output = Command::new(&program)
        .arg(&library)
        .arg(directory.path())
        .env("XDG_RUNTIME_DIR", directory.path())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
}
