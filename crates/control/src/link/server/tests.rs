//! Connections that say nothing, and who takes their place.

use std::io::Read;
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;

const GENEROUS: Duration = Duration::from_secs(60);

/// Greets whoever calls `hello`.
#[derive(Default)]
struct Doorman {
    greeted: AtomicBool,
}

impl LinkHandler for Doorman {
    fn call(
        &self,
        _: &Link,
        command: &str,
        _: Value,
        _: Vec<OwnedFd>,
    ) -> Result<Value, ControlError> {
        self.greeted.fetch_or(command == "hello", Ordering::SeqCst);
        Ok(json!(command))
    }

    fn notice(&self, _: &Link, _: &str, _: Value) {}

    fn closed(&self, _: &Link) {}

    fn is_greeted(&self) -> bool {
        self.greeted.load(Ordering::SeqCst)
    }
}

struct Served {
    _directory: tempfile::TempDir,
    path: PathBuf,
    server: LinkServer,
}

fn serve(limit: usize, patience: Duration) -> Served {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let address = SocketAddr::from_pathname(&path).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let server = LinkServer::start_with(listener, "test", limit, patience, |_| {
        Arc::new(Doorman::default())
    });
    Served {
        _directory: directory,
        path,
        server: server.unwrap(),
    }
}

fn connect(served: &Served) -> Link {
    Link::connect(&served.path, Arc::new(Doorman::default())).unwrap()
}

fn silent(served: &Served) -> UnixStream {
    let stream = UnixStream::connect(&served.path).unwrap();
    stream.set_read_timeout(Some(GENEROUS)).unwrap();
    stream
}

fn assert_closed(mut stream: UnixStream) {
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn who_says_nothing_makes_room_the_oldest_first_and_who_was_greeted_stays() {
    let served = serve(3, GENEROUS);
    let greeted = connect(&served);
    greeted.call("hello", &Value::Null, GENEROUS).unwrap();
    let first = silent(&served);
    // It says something, which is no greeting.
    let second = connect(&served);
    second.call("other", &Value::Null, GENEROUS).unwrap();
    let third = connect(&served);
    third.call("hello", &Value::Null, GENEROUS).unwrap();
    assert_closed(first);
    assert!(!second.is_closed());
    let fourth = connect(&served);
    fourth.call("hello", &Value::Null, GENEROUS).unwrap();
    let deadline = Instant::now() + GENEROUS;
    while !second.is_closed() {
        assert!(Instant::now() < deadline, "the next oldest stays");
        thread::yield_now();
    }
    // Nobody is left who would have to go.
    assert_closed(silent(&served));
    for link in [greeted, third, fourth] {
        link.call("other", &Value::Null, GENEROUS).unwrap();
    }
}

#[test]
fn who_says_nothing_is_not_kept_for_long() {
    let served = serve(8, Duration::from_millis(100));
    let greeted = loop {
        let link = connect(&served);
        // A busy machine may be too slow for it.
        if link.call("hello", &Value::Null, GENEROUS).is_ok() {
            break link;
        }
    };
    for silent in [silent(&served), silent(&served)] {
        assert_closed(silent);
    }
    assert!(!greeted.is_closed());
    assert_eq!(served.server.connections(), 1);
}

#[test]
fn who_was_held_up_gives_everybody_their_time_again() {
    let served = serve(8, GENEROUS);
    let _silent = silent(&served);
    let shared = &served.server.shared;
    let deadline = Instant::now() + GENEROUS;
    while shared.links().next_deadline().is_none() {
        assert!(Instant::now() < deadline, "it was not accepted");
        thread::yield_now();
    }
    for (late, left) in [(HELD_UP, 1), (Duration::ZERO, 0)] {
        let now = Instant::now();
        for open in shared.links().open.values_mut() {
            open.deadline = now - late;
        }
        shared.end_silent();
        assert_eq!(shared.links().open.len(), left, "{late:?}");
    }
}
