//! Building the C and C++ programs against the library that this test was built with.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test builds its own sources in its own ways"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A compiler with its language.
#[derive(Clone, Copy, Debug)]
pub enum Language {
    C,
    Cpp,
}

/// How wide characters are.
#[derive(Clone, Copy, Debug)]
pub enum WideCharacters {
    Native,
    Short,
}

/// Every way in which sources are built.
pub const WAYS: [(Language, WideCharacters); 4] = [
    (Language::C, WideCharacters::Native),
    (Language::C, WideCharacters::Short),
    (Language::Cpp, WideCharacters::Native),
    (Language::Cpp, WideCharacters::Short),
];

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A source of the tests.
pub fn source(name: &str) -> PathBuf {
    package().join("tests/c").join(name)
}

/// Where the shared library is: built in one go with the library that this test is linked to, beside
/// this test.
fn library_directory() -> PathBuf {
    let executable = std::env::current_exe().expect("a path");
    let directory = executable.parent().expect("a directory").to_owned();
    let library = directory.join("libcomputecore.so");
    assert!(library.exists(), "{} is not there", library.display());
    directory
}

/// Builds one program; panics with what the compiler says.
pub fn build(
    source: &Path,
    language: Language,
    wide: WideCharacters,
    output_directory: &Path,
) -> PathBuf {
    let stem = source.file_stem().expect("a name").to_string_lossy();
    let output = output_directory.join(format!("{stem}-{language:?}-{wide:?}"));
    let library = library_directory();
    let (compiler, standard, kind) = match language {
        Language::C => ("cc", "-std=c11", "c"),
        Language::Cpp => ("c++", "-std=c++17", "c++"),
    };
    let mut command = Command::new(compiler);
    command
        .args([standard, "-Wall", "-Wextra", "-Werror", "-pedantic"])
        // What POSIX adds to the headers of C: mkdtemp, pread, threads.
        .args(["-D_GNU_SOURCE", "-g", "-pthread"])
        .arg("-I")
        .arg(package().join("include"))
        .arg("-idirafter")
        .arg(package().join("include/openhdv-windows"))
        .args(["-x", kind])
        .arg(source)
        .args(["-x", "none"])
        .arg("-L")
        .arg(&library)
        .arg("-lcomputecore")
        // The old kind of tag: it comes before LD_LIBRARY_PATH, in which cargo names a directory where
        // an older build of the library may lie.
        .arg(format!(
            "-Wl,--disable-new-dtags,-rpath,{}",
            library.display()
        ))
        .arg("-o")
        .arg(&output);
    if let WideCharacters::Short = wide {
        command.arg("-fshort-wchar");
    }
    let result = command
        .output()
        .unwrap_or_else(|error| panic!("{compiler} cannot be run: {error}; install gcc and g++"));
    assert!(
        result.status.success(),
        "{command:?}\n{}",
        String::from_utf8_lossy(&result.stderr)
    );
    output
}
