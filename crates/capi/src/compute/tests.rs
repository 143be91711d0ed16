//! Handles whose creation has not ended, or ended badly; files that cannot be opened without waiting.

use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::system::{forget, publish};
use crate::types::{HcsSystem, Hresult};

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn wait_for_exit(handle: HcsSystem, milliseconds: u32) -> Hresult {
    // SAFETY: null is no place for a document.
    unsafe { HcsWaitForComputeSystemExit(handle, milliseconds, std::ptr::null_mut()) }
}

/// What something comes to on a thread of its own, which is left behind if that does not end.
fn in_time<R: Send + 'static>(what: &str, work: impl FnOnce() -> R + Send + 'static) -> R {
    let (tell, told) = channel();
    std::thread::spawn(move || tell.send(work()));
    let result = told.recv_timeout(PATIENCE);
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}

#[test]
fn an_exit_is_waited_for_no_longer_than_said_also_while_the_system_is_created() {
    let handle = publish(Compute::creating()).unwrap();
    let address = handle.addr();
    for limit in [0, 20] {
        let result = in_time("the wait", move || {
            wait_for_exit(std::ptr::without_provenance_mut(address), limit)
        });
        assert_eq!(result, codes::HCS_E_OPERATION_TIMEOUT);
    }
    forget(handle);
}

#[test]
fn a_creation_that_panics_is_settled() {
    let compute = Compute::creating();
    let created = lifecycle::create(&compute, || panic!("on purpose"));
    assert_eq!(created.unwrap_err().code, codes::E_FAIL);
    let asked = in_time("the handle", move || compute.system().map(drop));
    let error = asked.unwrap_err();
    assert_eq!(error.code, codes::E_FAIL);
    assert!(error.text.contains("was not created"), "{}", error.text);
}

#[test]
fn a_creation_that_ends_while_its_exit_is_waited_for_is_told_with_its_reason() {
    let compute = Compute::creating();
    let handle = publish(Arc::clone(&compute)).unwrap();
    let address = handle.addr();
    let waiting = std::thread::spawn(move || {
        wait_for_exit(
            std::ptr::without_provenance_mut(address),
            crate::types::INFINITE,
        )
    });
    let refused = || Err(hdv_compute::Error::NotFound("x".to_owned()));
    let expected = lifecycle::create(&compute, refused).unwrap_err().code;
    let result = in_time("the wait", move || waiting.join().unwrap());
    assert_eq!(result, expected);
    forget(handle);
}

#[test]
fn access_to_a_pipe_that_nobody_writes_is_granted_without_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    let wide = |path: &std::path::Path| -> Vec<u16> {
        path.to_str().unwrap().encode_utf16().chain([0]).collect()
    };
    let (id, path) = (wide("vm".as_ref()), wide(&pipe));
    let missing = wide(&directory.path().join("missing"));
    let granted = in_time("the grant", move || {
        // SAFETY: both have a terminating zero.
        [&path, &missing].map(|path| unsafe { HcsGrantVmAccess(id.as_ptr(), path.as_ptr()) })
    });
    assert_eq!(granted, [codes::S_OK, codes::FILE_NOT_FOUND]);
}
