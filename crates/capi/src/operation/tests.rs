//! Operations over work that the tests hold back, so that each state is there for as long as it is looked at.

use std::ptr::{null, null_mut};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::document::LocalFree;
use crate::types::Pwstr;

/// Longer than anything takes, in milliseconds.
const PATIENCE: u32 = 60_000;

fn tracked(kind: OperationType) -> Tracked {
    Tracked {
        kind,
        handle: null_mut(),
        system: None,
        waits_for_devices: false,
    }
}

fn created() -> HcsOperation {
    // SAFETY: there is no callback.
    let operation = unsafe { HcsCreateOperation(null(), None) };
    assert!(!operation.is_null());
    operation
}

/// Work that ends as it is told.
fn held_back(operation: HcsOperation) -> Sender<Result<Option<String>, Failure>> {
    let (tell, told) = channel();
    begin(operation, tracked(OperationType::Start), move || {
        told.recv().expect("somebody says how it ends")
    })
    .expect("it begins");
    tell
}

fn waited(operation: HcsOperation, limit: u32) -> (Hresult, Option<String>) {
    let mut document = null_mut();
    // SAFETY: the place is valid.
    let result = unsafe { HcsWaitForOperationResult(operation, limit, &raw mut document) };
    (result, taken(document))
}

fn asked(operation: HcsOperation) -> (Hresult, Option<String>) {
    let mut document = null_mut();
    // SAFETY: the place is valid.
    let result = unsafe { HcsGetOperationResult(operation, &raw mut document) };
    (result, taken(document))
}

fn taken(document: Pwstr) -> Option<String> {
    if document.is_null() {
        return None;
    }
    // SAFETY: a document of the library's.
    let text = unsafe { crate::strings::string(document, "the document") }.expect("UTF-16");
    // SAFETY: as above; it is not used any more.
    assert!(unsafe { LocalFree(document.cast()) }.is_null());
    Some(text)
}

#[test]
fn an_operation_tracks_one_call_after_another() {
    let operation = created();
    assert_eq!(asked(operation).0, codes::HCS_E_OPERATION_NOT_STARTED);
    assert_eq!(waited(operation, 0).0, codes::HCS_E_OPERATION_NOT_STARTED);
    assert_eq!(HcsGetOperationType(operation), -1);

    let tell = held_back(operation);
    assert_eq!(asked(operation).0, codes::HCS_E_OPERATION_PENDING);
    for limit in [0, 20] {
        assert_eq!(waited(operation, limit).0, codes::HCS_E_OPERATION_TIMEOUT);
    }
    assert_eq!(HcsGetOperationType(operation), OperationType::Start as i32);
    let again = begin(operation, tracked(OperationType::Pause), || Ok(None));
    assert_eq!(
        again.unwrap_err().code,
        codes::HCS_E_OPERATION_ALREADY_STARTED
    );

    tell.send(Ok(Some("{\"\u{1f600}\":1}".to_owned()))).unwrap();
    let expected = (codes::S_OK, Some("{\"\u{1f600}\":1}".to_owned()));
    assert_eq!(waited(operation, INFINITE), expected);
    assert_eq!(waited(operation, 0), expected);
    assert_eq!(asked(operation), expected);
    // Who wants no document gets none.
    // SAFETY: null is none.
    let result = unsafe { HcsGetOperationResult(operation, null_mut()) };
    assert_eq!(result, codes::S_OK);

    let tell = held_back(operation);
    assert_eq!(asked(operation), (codes::HCS_E_OPERATION_PENDING, None));
    tell.send(Err(Failure::new(-5, "as the test wants")))
        .unwrap();
    let (result, document) = waited(operation, PATIENCE);
    assert_eq!(result, -5);
    let document: serde_json::Value = serde_json::from_str(&document.unwrap()).unwrap();
    assert_eq!(
        document,
        serde_json::json!({ "Error": -5, "ErrorMessage": "as the test wants" })
    );
    crate::error::last(|text| assert_eq!(text, "as the test wants"));
    HcsCloseOperation(operation);
    assert_eq!(asked(operation).0, codes::E_HANDLE);
}

#[test]
fn a_panic_in_the_work_is_a_result() {
    let operation = created();
    begin(operation, tracked(OperationType::Modify), || {
        panic!("on purpose")
    })
    .unwrap();
    assert_eq!(waited(operation, PATIENCE).0, codes::E_FAIL);
    HcsCloseOperation(operation);
}

#[test]
fn an_operation_that_is_kept_does_not_keep_its_system() {
    let operation = created();
    let compute = Compute::creating();
    let tracked = Tracked {
        system: Some(Arc::clone(&compute)),
        ..tracked(OperationType::Create)
    };
    begin(operation, tracked, || Ok(None)).unwrap();
    assert_eq!(waited(operation, PATIENCE).0, codes::S_OK);
    let deadline = Instant::now() + Duration::from_millis(PATIENCE.into());
    while Arc::strong_count(&compute) > 1 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    HcsCloseOperation(operation);
}

/// What a callback saw: the operation and its result.
type Seen = (usize, Hresult);

/// What the callbacks below are given.
struct Context {
    seen: Sender<Seen>,
    close: bool,
}

unsafe extern "C-unwind" fn note(operation: HcsOperation, context: *mut c_void) {
    // SAFETY: the tests keep it until the operation is closed, or they have seen what is sent here.
    let context = unsafe { &*context.cast::<Context>() };
    // The context may go as soon as that is seen.
    let seen = context.seen.clone();
    let (result, _) = asked(operation);
    if context.close {
        HcsCloseOperation(operation);
    }
    seen.send((operation.addr(), result)).unwrap();
}

fn with_callback(close: bool) -> (HcsOperation, Box<Context>, Receiver<Seen>) {
    let (seen, see) = channel();
    let context = Box::new(Context { seen, close });
    // SAFETY: the context lives until the operation is closed.
    let operation = unsafe { HcsCreateOperation((&raw const *context).cast(), Some(note)) };
    (operation, context, see)
}

#[test]
fn the_callback_runs_once_for_each_call() {
    let (operation, context, see) = with_callback(false);
    assert_eq!(
        HcsGetOperationContext(operation).cast_const(),
        (&raw const *context).cast()
    );
    for result in [codes::S_OK, -7] {
        let tell = held_back(operation);
        assert!(see.try_recv().is_err());
        tell.send(if result == 0 {
            Ok(None)
        } else {
            Err(Failure::new(result, ""))
        })
        .unwrap();
        assert_eq!(see.recv().unwrap(), (operation.addr(), result));
        assert_eq!(waited(operation, PATIENCE).0, result);
    }
    HcsCloseOperation(operation);
    drop(context);
    assert!(see.try_recv().is_err());
}

#[test]
fn an_operation_may_be_closed_in_its_callback() {
    let (operation, _context, see) = with_callback(true);
    held_back(operation).send(Ok(None)).unwrap();
    assert_eq!(see.recv().unwrap(), (operation.addr(), codes::S_OK));
    assert_eq!(asked(operation).0, codes::E_HANDLE);
}

#[test]
fn no_callback_runs_after_the_operation_was_closed() {
    let (operation, context, see) = with_callback(false);
    let tell = held_back(operation);
    let kept = super::operation(operation).unwrap();
    HcsCloseOperation(operation);
    drop(context);
    tell.send(Ok(None)).unwrap();
    assert_eq!(kept.wait(INFINITE).unwrap().code, codes::S_OK);
    // The context is gone with its sender: a callback that came now would use it.
    assert!(see.recv().is_err());
}

#[test]
fn who_waits_for_a_closed_operation_gets_its_result() {
    let operation = created();
    let tell = held_back(operation);
    let waiting = operation.addr();
    let waiter =
        std::thread::spawn(move || waited(std::ptr::without_provenance_mut(waiting), PATIENCE).0);
    // The waiter may come before or after the operation is closed: both have an answer.
    HcsCloseOperation(operation);
    tell.send(Ok(None)).unwrap();
    let result = waiter.join().unwrap();
    assert!(
        [codes::S_OK, codes::E_HANDLE].contains(&result),
        "{result:#x}"
    );
}

#[test]
fn a_callback_set_late_is_told_of_a_call_that_nobody_has_noticed() {
    let operation = created();
    let tell = held_back(operation);
    tell.send(Ok(None)).unwrap();
    // Ended, and nobody has asked.
    while super::operation(operation)
        .unwrap()
        .state()
        .call
        .as_ref()
        .unwrap()
        .outcome
        .is_none()
    {
        std::thread::yield_now();
    }
    let (seen, see) = channel();
    let context = Context { seen, close: false };
    let set = |callback| {
        // SAFETY: the context lives until the operation is closed.
        let result =
            unsafe { HcsSetOperationCallback(operation, (&raw const context).cast(), callback) };
        assert_eq!(result, codes::S_OK);
    };
    set(Some(note as OperationCompletion));
    assert_eq!(see.recv().unwrap(), (operation.addr(), codes::S_OK));
    // Noticed by now.
    set(Some(note));
    set(None);
    held_back(operation).send(Ok(None)).unwrap();
    assert_eq!(waited(operation, PATIENCE).0, codes::S_OK);
    // Asked for: the callback is for the next call.
    set(Some(note));
    held_back(operation)
        .send(Err(Failure::new(-9, "")))
        .unwrap();
    assert_eq!(see.recv().unwrap(), (operation.addr(), -9));
    HcsCloseOperation(operation);
}

#[test]
fn ids_differ() {
    let operations = [created(), created()];
    let ids = operations.map(|operation| HcsGetOperationId(operation));
    assert_ne!(ids[0], ids[1]);
    for operation in operations {
        HcsCloseOperation(operation);
        assert_eq!(HcsGetOperationId(operation), u64::MAX);
    }
}
