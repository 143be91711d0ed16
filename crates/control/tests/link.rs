//! Links against good and bad other ends, over real sockets.

use std::collections::VecDeque;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use hdv_control::wire::{LINK_DESCRIPTOR_LIMIT, LINK_MESSAGE_LIMIT};
use hdv_control::{CallError, ControlError, ErrorKind, Link, LinkHandler, LinkServer, SocketClaim};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

/// Longest wait for something that must happen.
const GENEROUS: Duration = Duration::from_secs(60);

/// What a handler saw.
#[derive(Debug, PartialEq)]
enum Seen {
    Notice(String, Value),
    Closed,
}

/// Holds up the command `wait` until it is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.changed.wait(open).unwrap();
        }
    }
}

struct Handler {
    seen: Sender<Seen>,
    gate: Arc<Gate>,
    begun: Sender<()>,
    kept: Mutex<VecDeque<Link>>,
}

impl LinkHandler for Handler {
    fn call(
        &self,
        link: &Link,
        command: &str,
        args: Value,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Value, ControlError> {
        match command {
            "echo" => Ok(args),
            "read" => {
                let mut texts = Vec::new();
                for descriptor in descriptors {
                    let mut text = String::new();
                    std::fs::File::from(descriptor)
                        .read_to_string(&mut text)
                        .unwrap();
                    texts.push(text);
                }
                Ok(json!(texts))
            }
            "fail" => Err(ControlError::not_found("none").with_code(-7)),
            "panic" => panic!("on purpose"),
            "back" => link
                .call("echo", &args, GENEROUS)
                .map_err(|error| ControlError::internal(error.to_string())),
            "wait" => {
                self.begun.send(()).unwrap();
                self.gate.pass();
                Ok("waited".into())
            }
            "close" => {
                link.close();
                Ok(Value::Null)
            }
            "large" => Ok("x".repeat(LINK_MESSAGE_LIMIT).into()),
            "keep" => {
                self.kept.lock().unwrap().push_back(link.clone());
                Ok(Value::Null)
            }
            _ => Err(ControlError::new(ErrorKind::UnknownCommand, "what?")),
        }
    }

    fn notice(&self, link: &Link, name: &str, args: Value) {
        if name == "call" {
            // It would wait for itself.
            assert!(link.call("echo", &Value::Null, GENEROUS).is_err());
        }
        if name == "panic" {
            panic!("on purpose");
        }
        self.seen.send(Seen::Notice(name.to_owned(), args)).unwrap();
    }

    fn closed(&self, link: &Link) {
        assert!(link.is_closed());
        // The test may have ended.
        let _ = self.seen.send(Seen::Closed);
    }
}

/// One end, as tests see it.
struct End {
    link: Link,
    seen: Receiver<Seen>,
    begun: Receiver<()>,
    gate: Arc<Gate>,
    handler: Arc<Handler>,
}

fn handler() -> (Arc<Handler>, Receiver<Seen>, Receiver<()>) {
    let (seen, see) = mpsc::channel();
    let (begun, begin) = mpsc::channel();
    let handler = Handler {
        seen,
        begun,
        gate: Arc::default(),
        kept: Mutex::default(),
    };
    (Arc::new(handler), see, begin)
}

fn end(stream: UnixStream) -> End {
    let (handler, seen, begun) = handler();
    let link = Link::over(stream, "test", handler.clone()).unwrap();
    End {
        link,
        seen,
        begun,
        gate: Arc::clone(&handler.gate),
        handler,
    }
}

fn pair() -> (End, End) {
    let (a, b) = UnixStream::pair().unwrap();
    (end(a), end(b))
}

/// A link against a peer that sends what it likes.
fn against_raw() -> (End, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    b.set_read_timeout(Some(GENEROUS)).unwrap();
    (end(a), b)
}

impl End {
    fn next(&self) -> Seen {
        self.seen.recv_timeout(GENEROUS).unwrap()
    }

    /// It has ended, and nothing came before the end that was not taken.
    fn assert_ended(&self) {
        assert_eq!(self.next(), Seen::Closed);
        assert!(self.link.is_closed());
        let call = self.link.call("echo", &Value::Null, GENEROUS);
        assert!(matches!(call, Err(CallError::Io { .. })), "{call:?}");
        assert!(self.link.notify("n", &Value::Null).is_err());
    }
}

fn command_error(result: Result<Value, CallError>) -> ControlError {
    match result {
        Err(CallError::Command(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&length.to_le_bytes(), body].concat()
}

fn read_frame(stream: &mut UnixStream) -> Value {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap()];
    stream.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// Sends bytes with so many descriptors.
fn send_with(stream: &UnixStream, bytes: &[u8], count: usize) {
    let files: Vec<_> = (0..count)
        .map(|_| std::fs::File::open("/dev/null").unwrap())
        .collect();
    let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    let sent = sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::empty(),
    );
    assert_eq!(sent.unwrap(), bytes.len());
}

/// A pipe's reading end that holds a text.
fn text(content: &str) -> OwnedFd {
    let (read, write) = std::io::pipe().unwrap();
    (&write).write_all(content.as_bytes()).unwrap();
    read.into()
}

#[test]
fn both_ends_call_at_once_and_from_inside_calls() {
    let (a, b) = pair();
    std::thread::scope(|scope| {
        for (number, link) in [&a.link, &b.link].into_iter().enumerate() {
            for turn in 0..8 {
                scope.spawn(move || {
                    for round in 0..50 {
                        let args = json!([number, turn, round]);
                        let answer = link.call("back", &args, GENEROUS);
                        assert_eq!(answer.unwrap(), args);
                    }
                });
            }
        }
    });
}

#[test]
fn errors_come_as_they_are_and_the_link_goes_on() {
    let (a, _b) = pair();
    let error = command_error(a.link.call("fail", &Value::Null, GENEROUS));
    assert_eq!(error, ControlError::not_found("none").with_code(-7));
    let error = command_error(a.link.call("panic", &Value::Null, GENEROUS));
    assert_eq!(error.kind, ErrorKind::Internal);
    let error = command_error(a.link.call("large", &Value::Null, GENEROUS));
    assert!(error.message.contains("cannot be sent"), "{error}");
    let large = Value::from("x".repeat(LINK_MESSAGE_LIMIT));
    let refused = a.link.call("echo", &large, GENEROUS);
    assert!(matches!(refused, Err(CallError::Wire(_))), "{refused:?}");
    let large = Value::from("x".repeat(LINK_MESSAGE_LIMIT - 100));
    assert_eq!(a.link.call("echo", &large, GENEROUS).unwrap(), large);
}

#[test]
fn notices_come_in_order_and_before_the_end() {
    let (a, b) = pair();
    a.link.notify("panic", &Value::Null).unwrap();
    a.link.notify("call", &Value::Null).unwrap();
    for number in 0..1000 {
        a.link.notify("n", &number.into()).unwrap();
    }
    drop(a.link);
    assert_eq!(b.next(), Seen::Notice("call".to_owned(), Value::Null));
    for number in 0..1000 {
        assert_eq!(b.next(), Seen::Notice("n".to_owned(), number.into()));
    }
    b.assert_ended();
    assert_eq!(a.seen.recv_timeout(GENEROUS).unwrap(), Seen::Closed);
    // The handlers go with their links: nothing came a second time.
    drop((a.handler, b.handler, b.link));
    assert!(a.seen.recv_timeout(GENEROUS).is_err());
    assert!(b.seen.recv_timeout(GENEROUS).is_err());
}

#[test]
fn descriptors_reach_exactly_their_call() {
    let (a, _b) = pair();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let link = &a.link;
            scope.spawn(move || {
                for round in 0..50 {
                    let count = (thread + round) % (LINK_DESCRIPTOR_LIMIT + 1);
                    let texts: Vec<_> = (0..count)
                        .map(|n| format!("{thread} {round} {n}"))
                        .collect();
                    let pipes: Vec<_> = texts.iter().map(|content| text(content)).collect();
                    let borrowed: Vec<_> = pipes.iter().map(AsFd::as_fd).collect();
                    let padding = "x".repeat(round * 5000);
                    let answer = link.call_with("read", &padding.into(), &borrowed, GENEROUS);
                    assert_eq!(answer.unwrap(), json!(texts));
                }
            });
        }
    });
    let null = std::fs::File::open("/dev/null").unwrap();
    let many = vec![null.as_fd(); LINK_DESCRIPTOR_LIMIT + 1];
    let refused = a.link.call_with("read", &Value::Null, &many, GENEROUS);
    assert!(matches!(refused, Err(CallError::Io { .. })), "{refused:?}");
    assert_eq!(a.link.call("echo", &json!(1), GENEROUS).unwrap(), json!(1));
}

#[test]
fn a_late_answer_is_dropped() {
    let (a, b) = pair();
    let late = a.link.call("wait", &Value::Null, Duration::from_millis(20));
    assert!(matches!(late, Err(CallError::TimedOut { .. })), "{late:?}");
    b.gate.open();
    assert_eq!(a.link.call("echo", &json!(2), GENEROUS).unwrap(), json!(2));
}

#[test]
fn too_many_calls_are_refused_and_then_there_is_room() {
    let (a, b) = pair();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..32)
            .map(|_| scope.spawn(|| a.link.call("wait", &Value::Null, GENEROUS)))
            .collect();
        for _ in 0..32 {
            b.begun.recv_timeout(GENEROUS).unwrap();
        }
        let error = command_error(a.link.call("echo", &Value::Null, GENEROUS));
        assert_eq!(error.kind, ErrorKind::Busy);
        b.gate.open();
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap().unwrap(), json!("waited"));
        }
    });
    // Who has an answer may call again at once.
    for round in 0..200 {
        let answer = a.link.call("echo", &round.into(), GENEROUS);
        assert_eq!(answer.unwrap(), json!(round));
    }
}

#[test]
fn the_end_reaches_calls_that_are_under_way() {
    let (a, b) = pair();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| a.link.call("wait", &Value::Null, GENEROUS));
        b.begun.recv_timeout(GENEROUS).unwrap();
        b.link.close();
        let result = call.join().unwrap();
        assert!(matches!(result, Err(CallError::Io { .. })), "{result:?}");
    });
    b.gate.open();
    a.assert_ended();
    b.assert_ended();
}

#[test]
fn a_handler_may_close_the_link() {
    let (a, b) = pair();
    let result = a.link.call("close", &Value::Null, GENEROUS);
    assert!(matches!(result, Err(CallError::Io { .. })), "{result:?}");
    a.assert_ended();
    b.assert_ended();
}

#[test]
fn the_last_clone_closes_the_link() {
    let (a, b) = pair();
    a.link.call("keep", &Value::Null, GENEROUS).unwrap();
    drop(b.link);
    // What a handler kept counts.
    assert_eq!(a.link.call("echo", &json!(3), GENEROUS).unwrap(), json!(3));
    let kept = b.handler.kept.lock().unwrap().pop_front();
    drop(kept);
    a.assert_ended();
    assert_eq!(b.seen.recv_timeout(GENEROUS).unwrap(), Seen::Closed);
}

#[test]
fn what_breaks_the_rules_costs_the_connection() {
    let call = |body: &str| frame(format!(r#"{{"call":{body}}}"#).as_bytes());
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("a length", vec![0xff; 8]),
        ("no JSON", frame(b"hello")),
        ("nothing", frame(b"")),
        ("another message", frame(br#"{"command":"echo"}"#)),
        (
            "an unknown field",
            call(r#"{"id":1,"command":"echo","more":1}"#),
        ),
        ("a negative id", call(r#"{"id":-1,"command":"echo"}"#)),
        (
            "missing descriptors",
            call(r#"{"id":1,"command":"echo","descriptors":1}"#),
        ),
        (
            "two messages in one",
            frame(br#"{"notice":{"notice":"a"},"answer":{"id":1,"result":{"ok":1}}}"#),
        ),
        ("depth", frame("[".repeat(100_000).as_bytes())),
        ("an id twice", {
            let wait = call(r#"{"id":1,"command":"wait"}"#);
            [wait.clone(), wait].concat()
        }),
    ];
    for (what, bytes) in bad {
        let (ours, mut raw) = against_raw();
        raw.write_all(&bytes).unwrap();
        assert_eq!(ours.next(), Seen::Closed, "{what}");
        ours.gate.open();
        let mut rest = Vec::new();
        // Broken off where we had not read everything.
        let _ = raw.read_to_end(&mut rest);
        assert_eq!(rest, b"", "{what}");
    }
}

#[test]
fn descriptors_where_none_belong_cost_the_connection_and_are_closed() {
    let bodies = [
        (r#"{"notice":{"notice":"n"}}"#, 1),
        (r#"{"answer":{"id":1,"result":{"ok":null}}}"#, 1),
        (r#"{"call":{"id":1,"command":"echo"}}"#, 1),
        (r#"{"call":{"id":1,"command":"echo","descriptors":1}}"#, 2),
        (r#"{"call":{"id":1,"command":"echo","descriptors":17}}"#, 17),
        (r#"{"call":{"id":1,"command":"echo","descriptors":64}}"#, 64),
    ];
    for (body, count) in bodies {
        let (ours, raw) = against_raw();
        send_with(&raw, &frame(body.as_bytes()), count);
        ours.assert_ended();
        // And one in the middle of a message: the rest of it comes with it.
        let (ours, raw) = against_raw();
        let (mut watched, given) = UnixStream::pair().unwrap();
        watched.set_read_timeout(Some(GENEROUS)).unwrap();
        let bytes = frame(body.as_bytes());
        (&raw).write_all(&bytes[..3]).unwrap();
        let borrowed = [given.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
        let rest = [IoSlice::new(&bytes[3..])];
        sendmsg(&raw, &rest, &mut control, SendFlags::empty()).unwrap();
        drop(given);
        if body.contains(r#""descriptors":1}"#) {
            // It is what the message says.
            let (mut raw, answer) = (raw, json!({"answer": {"id": 1, "result": {"ok": null}}}));
            assert_eq!(read_frame(&mut raw), answer);
        } else {
            ours.assert_ended();
        }
        // Every duplicate is closed.
        assert_eq!(watched.read(&mut [0; 1]).unwrap(), 0);
    }
}

#[test]
fn half_a_message_and_the_end_are_the_end() {
    let whole = frame(br#"{"notice":{"notice":"n"}}"#);
    for length in 0..whole.len() {
        let (ours, mut raw) = against_raw();
        raw.write_all(&whole[..length]).unwrap();
        drop(raw);
        ours.assert_ended();
    }
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let (ours, mut raw) = against_raw();
    for byte in frame(br#"{"call":{"id":18446744073709551615,"command":"echo","args":5}}"#) {
        raw.write_all(&[byte]).unwrap();
    }
    let answer = json!({"answer": {"id": u64::MAX, "result": {"ok": 5}}});
    assert_eq!(read_frame(&mut raw), answer);
    drop(raw);
    ours.assert_ended();
}

#[test]
fn answers_that_nobody_asked_for_are_dropped() {
    let (ours, mut raw) = against_raw();
    for id in 0..100 {
        let body = format!(r#"{{"answer":{{"id":{id},"result":{{"ok":1}}}}}}"#);
        raw.write_all(&frame(body.as_bytes())).unwrap();
    }
    raw.write_all(&frame(br#"{"notice":{"notice":"n","args":1}}"#))
        .unwrap();
    assert_eq!(ours.next(), Seen::Notice("n".to_owned(), json!(1)));
    assert!(!ours.link.is_closed());
}

#[test]
fn a_flood_of_calls_has_so_many_threads_and_no_more() {
    let (ours, mut raw) = against_raw();
    for id in 0..500 {
        let body = format!(r#"{{"call":{{"id":{id},"command":"wait"}}}}"#);
        raw.write_all(&frame(body.as_bytes())).unwrap();
    }
    for _ in 32..500 {
        let answer = read_frame(&mut raw);
        assert_eq!(
            answer["answer"]["result"]["error"]["kind"], "busy",
            "{answer}"
        );
    }
    assert_eq!(ours.begun.try_iter().count(), 32);
    ours.gate.open();
    for _ in 0..32 {
        assert_eq!(read_frame(&mut raw)["answer"]["result"]["ok"], "waited");
    }
}

struct Served {
    _directory: tempfile::TempDir,
    path: std::path::PathBuf,
    claim: SocketClaim,
    server: LinkServer,
    /// What each handler saw, in the order in which they were made.
    seen: Arc<Mutex<Vec<Receiver<Seen>>>>,
}

fn serve(limit: usize) -> Served {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let (listener, claim) = SocketClaim::bind(&path).unwrap();
    let all: Arc<Mutex<Vec<_>>> = Arc::default();
    let made = Arc::clone(&all);
    let server = LinkServer::start(listener, "test", limit, move |peer| {
        assert_eq!(peer.pid, Some(std::process::id()));
        let (handler, seen, _begun) = handler();
        made.lock().unwrap().push(seen);
        handler
    })
    .unwrap();
    Served {
        _directory: directory,
        path,
        claim,
        server,
        seen: all,
    }
}

fn connect(served: &Served) -> (Link, Receiver<Seen>) {
    let (handler, seen, _begun) = handler();
    (Link::connect(&served.path, handler).unwrap(), seen)
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + GENEROUS;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_server_keeps_its_links_until_they_end_and_no_more_than_its_limit() {
    let served = serve(2);
    let (first, _) = connect(&served);
    let (second, _) = connect(&served);
    for link in [&first, &second] {
        assert_eq!(link.call("back", &json!(4), GENEROUS).unwrap(), json!(4));
    }
    let (third, third_seen) = connect(&served);
    assert_eq!(third_seen.recv_timeout(GENEROUS).unwrap(), Seen::Closed);
    assert!(third.is_closed());
    drop(first);
    until("room", || served.server.connections() == 1);
    let (fourth, fourth_seen) = connect(&served);
    assert_eq!(fourth.call("echo", &json!(5), GENEROUS).unwrap(), json!(5));
    // The end of the server is that of its links, and of its socket.
    drop(served.server);
    assert_eq!(fourth_seen.recv_timeout(GENEROUS).unwrap(), Seen::Closed);
    for seen in served.seen.lock().unwrap().iter() {
        assert_eq!(seen.recv_timeout(GENEROUS).unwrap(), Seen::Closed);
    }
    drop(served.claim);
    let (handler, _seen, _begun) = handler();
    assert!(Link::connect(&served.path, handler).is_err());
}
