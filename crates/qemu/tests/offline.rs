//! Fetching on machines that cannot: each lack is named, and what is in the cache needs nothing.
//!
//! What a process fetches with comes from its environment, so each case runs in a process of its
//! own: this test program again, told by [`CACHE`] to fetch.

use std::fs;
use std::path::Path;
use std::process::Command;

use hdv_qemu::bundle::Bundle;
use hdv_qemu::cache::Cache;
use hdv_qemu::fetch::fetch;

/// Names the cache directory to the process that is to fetch.
const CACHE: &str = "OPENHDV_TEST_FETCH_INTO";

/// What that process prints before the outcome.
const MARK: &str = "outcome: ";

#[test]
fn fetch_into_the_named_cache() {
    // Without the variable this is not such a process, and the other tests ask.
    let Some(directory) = std::env::var_os(CACHE) else {
        return;
    };
    let outcome = match fetch(&Cache::at(directory), &[Bundle::PCIUTILS], &mut |_| {}) {
        Ok(unpacked) => format!("fetched {}", unpacked[0].manifest().bundle),
        Err(error) => format!("{error:?} {error}"),
    };
    println!("\n{MARK}{}", outcome.replace('\n', " "));
}

fn outcome(cache: &Path, change: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--nocapture", "fetch_into_the_named_cache"])
        .env(CACHE, cache);
    change(&mut command);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix(MARK))
        .unwrap_or_else(|| panic!("no outcome in {text}"))
        .to_owned()
}

#[test]
fn no_network_is_told_with_what_apt_said() {
    let cache = tempfile::tempdir().unwrap();
    let settings = cache.path().join("apt.conf");
    // The discard port of this machine: nobody listens there.
    let proxy = "Acquire::http::Proxy \"http://127.0.0.1:9\"; Acquire::https::Proxy \"http://127.0.0.1:9\"; \
                 Acquire::Retries \"0\";";
    fs::write(&settings, proxy).unwrap();
    let outcome = outcome(cache.path(), |command| {
        command.env("APT_CONFIG", &settings);
    });
    assert!(outcome.starts_with("Network"), "{outcome}");
    assert!(
        outcome.contains("127.0.0.1") && outcome.contains("check the network"),
        "{outcome}"
    );
    assert!(
        Cache::at(cache.path())
            .bundle(&Bundle::PCIUTILS)
            .unwrap()
            .is_none()
    );
}

#[test]
fn no_apt_is_told_by_the_missing_programs_name() {
    let cache = tempfile::tempdir().unwrap();
    let outcome = outcome(cache.path(), |command| {
        command.env("PATH", cache.path());
    });
    assert!(
        outcome.starts_with("NoApt") && outcome.contains("apt-get was not found"),
        "{outcome}"
    );
}

#[test]
fn what_is_in_the_cache_needs_neither_network_nor_apt() {
    let cache = Cache::user().unwrap();
    fetch(&cache, &[Bundle::PCIUTILS], &mut |_| {}).unwrap();
    let outcome = outcome(cache.directory(), |command| {
        command
            .env("PATH", "/nonexistent")
            .env("APT_CONFIG", "/nonexistent");
    });
    assert_eq!(outcome, "fetched pciutils");
}
