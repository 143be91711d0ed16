//! The checks in `tests/c`: each program is built as C and as C++, with native and with 16-bit wide characters,
//! and run.

#[path = "support/toolchain.rs"]
mod toolchain;
#[path = "support/worker.rs"]
mod worker;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use toolchain::{Language, WAYS, WideCharacters, build, source};

/// The checks that a source runs, by their names.
fn checks(source: &Path) -> BTreeSet<String> {
    std::fs::read_to_string(source)
        .expect("a source")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("RUN(")?.strip_suffix(");"))
        .map(str::to_owned)
        .collect()
}

/// Longer than workers take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until nothing is left of the compute systems of a program that has ended.
fn nothing_is_left(runtime_directory: &Path) {
    let systems = runtime_directory.join("openhdv/systems");
    let begun = Instant::now();
    let left = || -> Vec<_> {
        let entries = std::fs::read_dir(&systems).into_iter().flatten();
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    };
    while !left().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{:?}", left());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a program, which must do all of its source's checks, and all of them right, and leave nothing.
fn run(program: &Path, source: &Path) {
    let directory = tempfile::tempdir().expect("a directory");
    let output = Command::new(program)
        .arg(directory.path())
        .env("XDG_RUNTIME_DIR", directory.path())
        .env("OPENHDV_WORKER", worker::worker())
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    let passed: BTreeSet<String> = printed
        .lines()
        .filter_map(|line| line.strip_prefix("ok "))
        .map(str::to_owned)
        .collect();
    let complaint = format!(
        "{}: {}\n{printed}\n{}",
        program.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{complaint}");
    let expected = checks(source);
    assert!(!expected.is_empty(), "{}", source.display());
    assert_eq!(passed, expected, "{complaint}");
    nothing_is_left(directory.path());
}

fn build_and_run(name: &str, ways: &[(Language, WideCharacters)]) {
    let directory = tempfile::tempdir().expect("a directory");
    let source = source(name);
    for &(language, wide) in ways {
        run(&build(&source, language, wide, directory.path()), &source);
    }
}

#[test]
fn layout() {
    build_and_run("layout.c", &WAYS);
}

#[test]
fn windows() {
    build_and_run("windows.c", &WAYS);
}

#[test]
fn handles() {
    build_and_run("handles.c", &WAYS);
}

#[test]
fn arguments() {
    build_and_run("arguments.c", &WAYS);
}

#[test]
fn lifecycle() {
    build_and_run("lifecycle.c", &WAYS);
}

#[test]
fn additions() {
    build_and_run("additions.c", &WAYS);
}

#[test]
fn virtualization() {
    build_and_run("virtualization.c", &WAYS);
}

#[test]
fn supply() {
    build_and_run("supply.c", &WAYS);
}

#[test]
fn absent() {
    build_and_run("absent.c", &WAYS);
}

#[test]
fn compute() {
    build_and_run("compute.c", &WAYS);
}

/// On a real QEMU.
#[test]
fn running() {
    build_and_run("running.c", &WAYS);
}

/// Over C's own tables, as below.
#[test]
fn restricted() {
    build_and_run("restricted.c", &WAYS[..2]);
}

/// Over C's own tables: C++ has classes for them.
#[test]
fn proxy() {
    build_and_run("proxy.c", &WAYS[..2]);
}

#[test]
fn proxy_classes() {
    build_and_run("proxy_classes.cpp", &WAYS[2..]);
}

/// With C's atomics, which C++17 has not.
#[test]
fn threads() {
    build_and_run("threads.c", &WAYS[..1]);
}

/// Every header alone, first and in both languages.
#[test]
fn headers() {
    let directory = tempfile::tempdir().expect("a directory");
    for header in [
        "computedefs.h",
        "computecore.h",
        "hypervdevicevirtualization.h",
        "openhdv.h",
        "pcivirt.h",
        "windows.h",
        "unknwn.h",
        "guiddef.h",
    ] {
        let source = directory.path().join(format!("{header}.c"));
        let text = format!(
            "#include <{header}>\n#include <{header}>\n\
             int main(void)\n{{\n    GUID guid = IID_IUnknown;\n    return guid.Data1 != 0;\n}}\n"
        );
        std::fs::write(&source, text).expect("written");
        for (language, wide) in WAYS {
            let program = build(&source, language, wide, directory.path());
            assert!(Command::new(program).status().expect("it runs").success());
        }
    }
}

/// Who compiles with more warnings, or to an older or newer standard, has none from the headers.
#[test]
fn headers_bring_no_warnings() {
    const EVERY: [&str; 8] = [
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Wconversion",
        "-Wsign-conversion",
        "-Wshadow",
        "-Wundef",
        "-Werror",
    ];
    const C: [&str; 3] = ["-Wstrict-prototypes", "-Wcast-qual", "-xc"];
    const CPP: [&str; 3] = ["-Wnon-virtual-dtor", "-Wold-style-cast", "-xc++"];
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("all");
    std::fs::write(
        &source,
        "#include <windows.h>\n#include <openhdv.h>\n#include <pcivirt.h>\n",
    )
    .expect("written");
    for (compiler, standards, more) in [
        ("cc", ["-std=c99", "-std=c17"], C),
        ("c++", ["-std=c++11", "-std=c++20"], CPP),
    ] {
        for standard in standards {
            let output = Command::new(compiler)
                .arg(standard)
                .args(EVERY)
                .args(more)
                .arg("-I")
                .arg(&include)
                .arg("-I")
                .arg(include.join("openhdv-windows"))
                .arg("-fsyntax-only")
                .arg(&source)
                .output()
                .expect("the compiler runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{compiler} {standard}: {said}");
        }
    }
}
