//! A control server against good and bad clients, over real sockets.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdv_control::{
    CallError, Client, ConnectError, ControlError, ControlServer, ErrorKind, REQUEST_LIMIT,
    RESPONSE_LIMIT, Registry, RuntimeDirectory,
};
use serde_json::{Value, json};

/// Longest wait for something that must happen.
const GENEROUS: Duration = Duration::from_secs(60);

struct Fixture {
    _parent: tempfile::TempDir,
    directory: RuntimeDirectory,
    server: ControlServer,
    /// Told when the command that takes long begins.
    begun: Receiver<()>,
}

fn start() -> Fixture {
    let parent = tempfile::tempdir().unwrap();
    let directory = RuntimeDirectory::at(&parent.path().join("openhdv")).unwrap();
    let registry = Registry::new();
    registry.register("echo", Ok).unwrap();
    registry
        .register("fail", |_| Err(ControlError::not_found("no device 7 here")))
        .unwrap();
    registry
        .register("repeat", |count| {
            let count = count.as_u64().and_then(|count| usize::try_from(count).ok());
            let count = count.ok_or_else(|| ControlError::bad_arguments("a count is needed"))?;
            Ok("x".repeat(count).into())
        })
        .unwrap();
    let (begin, begun) = mpsc::channel();
    registry
        .register("sleep", move |seconds| {
            begin.send(()).unwrap();
            std::thread::sleep(Duration::from_secs(seconds.as_u64().unwrap()));
            Ok("slept".into())
        })
        .unwrap();
    let server = ControlServer::start(&directory, registry).unwrap();
    Fixture {
        _parent: parent,
        directory,
        server,
        begun,
    }
}

fn raw(fixture: &Fixture) -> UnixStream {
    let stream = UnixStream::connect(fixture.server.path()).unwrap();
    stream.set_read_timeout(Some(GENEROUS)).unwrap();
    stream
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

#[test]
fn several_calls_go_over_one_connection() {
    let fixture = start();
    let mut client = Client::connect(&fixture.server.path()).unwrap();
    for number in 0..100 {
        assert_eq!(
            client.call("echo", &json!([number])).unwrap(),
            json!([number])
        );
    }
    match client.call("fail", &Value::Null) {
        Err(CallError::Command(error)) => {
            assert_eq!(error.kind, ErrorKind::NotFound);
            assert_eq!(error.message, "no device 7 here");
        }
        other => panic!("{other:?}"),
    }
    match client.call("nonsense", &Value::Null) {
        Err(CallError::Command(error)) => {
            assert_eq!(error.kind, ErrorKind::UnknownCommand);
            assert!(
                error.message.contains("echo, fail, repeat, sleep"),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.call("echo", &json!(1)).unwrap(), 1);
}

#[test]
fn large_messages_pass_and_too_large_answers_are_errors() {
    let fixture = start();
    let mut client = Client::connect(&fixture.server.path()).unwrap();
    // Writing so much JSON takes long where this is not optimized.
    let mut call = |command, args: &Value| client.call_within(command, args, GENEROUS);
    let text: Value = "y".repeat(REQUEST_LIMIT / 2).into();
    assert_eq!(call("echo", &text).unwrap(), text);
    let answer = call("repeat", &(RESPONSE_LIMIT / 2).into());
    assert_eq!(answer.unwrap().as_str().unwrap().len(), RESPONSE_LIMIT / 2);
    match call("repeat", &RESPONSE_LIMIT.into()) {
        Err(CallError::Command(error)) => assert_eq!(error.kind, ErrorKind::Internal),
        other => panic!("{other:?}"),
    }
    let too_large: Value = "z".repeat(REQUEST_LIMIT).into();
    assert!(matches!(call("echo", &too_large), Err(CallError::Wire(_))));
    assert_eq!(call("echo", &json!("after")).unwrap(), "after");
}

#[test]
fn a_command_may_take_its_time_and_others_are_answered_after_it() {
    let fixture = start();
    let mut patient = Client::connect(&fixture.server.path()).unwrap();
    // One that has its request read only after more than a connection may be silent.
    let mut waiting = raw(&fixture);
    let second = patient.call("echo", &json!(1)).unwrap();
    assert_eq!(second, 1);
    let hurried = fixture.server.path();
    let long = std::thread::spawn(move || {
        let patience = GENEROUS;
        patient.call_within("sleep", &json!(6), patience).unwrap()
    });
    fixture.begun.recv_timeout(GENEROUS).unwrap();
    waiting
        .write_all(&frame(br#"{"command":"echo","args":2}"#))
        .unwrap();
    let mut client = Client::connect(&hurried).unwrap();
    let patience = Duration::from_millis(100);
    match client.call_within("echo", &json!(3), patience) {
        Err(error @ CallError::TimedOut { .. }) => {
            assert!(error.to_string().contains("within 0 seconds"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(long.join().unwrap(), "slept");
    assert_eq!(read_frame(&mut waiting), json!({"ok": 2}));
}

#[test]
fn the_socket_is_private_and_leaves_with_the_server() {
    let fixture = start();
    let path = fixture.server.path();
    let hosts = fixture.directory.path().join("hosts");
    assert_eq!(path, hosts.join(format!("{}.sock", std::process::id())));
    let mode = std::fs::symlink_metadata(&path)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    let second = ControlServer::start(&fixture.directory, Registry::new()).unwrap();
    assert_eq!(fixture.directory.hosts().unwrap().len(), 2);
    drop(second);
    drop(fixture.server);
    assert_eq!(std::fs::read_dir(hosts).unwrap().count(), 0);
    assert_eq!(fixture.directory.hosts().unwrap(), []);
    assert!(matches!(
        Client::connect(&path),
        Err(ConnectError::Io { .. })
    ));
}

#[test]
fn malformed_requests_get_an_error_and_the_connection_goes_on() {
    let fixture = start();
    let mut stream = raw(&fixture);
    let bodies: [&[u8]; 6] = [
        b"",
        b"{",
        b"[1,2]",
        b"{\"args\":1}",
        b"{\"command\":\"echo\",\"args\":1,\"more\":2}",
        b"\xff\xfe",
    ];
    for body in bodies {
        stream.write_all(&frame(body)).unwrap();
        assert_eq!(read_frame(&mut stream)["error"]["kind"], "bad-arguments");
    }
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    stream.write_all(&frame(&deep)).unwrap();
    assert_eq!(read_frame(&mut stream)["error"]["kind"], "bad-arguments");
    stream
        .write_all(&frame(br#"{"command":"echo","args":5}"#))
        .unwrap();
    assert_eq!(read_frame(&mut stream)["ok"], 5);
}

#[test]
fn an_oversized_length_costs_that_connection_only() {
    let fixture = start();
    let mut stream = raw(&fixture);
    stream.write_all(&u32::MAX.to_le_bytes()).unwrap();
    assert_eq!(read_frame(&mut stream)["error"]["kind"], "bad-arguments");
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let mut client = Client::connect(&fixture.server.path()).unwrap();
    assert_eq!(client.call("echo", &json!(1)).unwrap(), 1);
}

/// Has a good client answered beside bad ones, which it gives back.
fn answered_beside_bad_clients(fixture: &Fixture) -> [UnixStream; 3] {
    let silent = raw(fixture);
    let mut partial = raw(fixture);
    partial.write_all(&frame(b"{\"command\"")[..9]).unwrap();
    let mut unreading = raw(fixture);
    // More than the kernel holds for a socket.
    let request = format!(r#"{{"command":"repeat","args":{}}}"#, 4 << 20);
    unreading.write_all(&frame(request.as_bytes())).unwrap();

    let mut client = Client::connect(&fixture.server.path()).unwrap();
    let answer = client.call_within("echo", &json!(1), GENEROUS).unwrap();
    assert_eq!(answer, 1);
    [silent, partial, unreading]
}

#[test]
fn silent_slow_and_unreading_clients_hold_nobody_up() {
    let fixture = start();
    let begin = Instant::now();
    loop {
        // Who was held up by one of them was answered when that was turned out.
        let in_the_way = answered_beside_bad_clients(&fixture);
        let still_there = |mut stream: &UnixStream| {
            stream.set_nonblocking(true).unwrap();
            !matches!(stream.read(&mut [0]), Ok(0))
        };
        if in_the_way.iter().all(still_there) {
            break;
        }
        assert!(begin.elapsed() < GENEROUS, "always held up");
    }
}

/// The client of the command `again` asks for it again from inside, so that there is always a request of its.
#[test]
fn a_client_that_always_has_a_request_holds_nobody_up() {
    let parent = tempfile::tempdir().unwrap();
    let directory = RuntimeDirectory::at(&parent.path().join("openhdv")).unwrap();
    let registry = Registry::new();
    let greedy = Arc::new(Mutex::new(None::<UnixStream>));
    let inner = Arc::clone(&greedy);
    registry
        .register("again", move |_| {
            if let Some(stream) = &mut *inner.lock().unwrap() {
                stream.write_all(&frame(br#"{"command":"again"}"#)).unwrap();
                // Its answers are taken as well.
                let _ = stream.read(&mut [0; 4096]);
            }
            Ok(Value::Null)
        })
        .unwrap();
    registry.register("echo", Ok).unwrap();
    let server = ControlServer::start(&directory, registry).unwrap();
    let mut stream = UnixStream::connect(server.path()).unwrap();
    stream.set_nonblocking(true).unwrap();
    *greedy.lock().unwrap() = Some(stream.try_clone().unwrap());
    stream.write_all(&frame(br#"{"command":"again"}"#)).unwrap();
    for number in 0..10 {
        let mut client = Client::connect(&server.path()).unwrap();
        let answer = client.call("echo", &json!(number));
        // Lets the server end in any case.
        if answer.is_err() {
            *greedy.lock().unwrap() = None;
        }
        assert_eq!(answer.unwrap(), number);
    }
    *greedy.lock().unwrap() = None;
}

#[test]
fn commands_that_wait_for_ever_hold_nobody_up_and_are_bounded() {
    const AT_ONCE: usize = 32;
    let parent = tempfile::tempdir().unwrap();
    let directory = RuntimeDirectory::at(&parent.path().join("openhdv")).unwrap();
    let registry = Registry::new();
    let (begin, begun) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    registry
        .register_slow("wait", move |number| {
            begin.send(()).unwrap();
            released.lock().unwrap().recv().unwrap();
            Ok(number)
        })
        .unwrap();
    registry.register("echo", Ok).unwrap();
    let server = ControlServer::start(&directory, registry).unwrap();
    let ask = |number: usize| {
        let mut stream = UnixStream::connect(server.path()).unwrap();
        stream.set_read_timeout(Some(GENEROUS)).unwrap();
        let request = format!(r#"{{"command":"wait","args":{number}}}"#);
        stream.write_all(&frame(request.as_bytes())).unwrap();
        stream
    };
    let mut waiting: Vec<_> = (0..AT_ONCE).map(ask).collect();
    for _ in 0..AT_ONCE {
        begun.recv_timeout(GENEROUS).unwrap();
    }
    let mut client = Client::connect(&server.path()).unwrap();
    assert_eq!(client.call("echo", &json!(1)).unwrap(), 1);
    let mut further = ask(AT_ONCE);
    assert_eq!(read_frame(&mut further)["error"]["kind"], "busy");

    for _ in 0..AT_ONCE {
        release.send(()).unwrap();
    }
    for (number, stream) in waiting.iter_mut().enumerate() {
        assert_eq!(read_frame(stream), json!({ "ok": number }));
    }
    // Their connections go on, and there is room again.
    let mut again = waiting.swap_remove(0);
    let request = br#"{"command":"wait","args":"again"}"#;
    again.write_all(&frame(request)).unwrap();
    begun.recv_timeout(GENEROUS).unwrap();
    // The server ends without it, and its client gets its answer all the same.
    drop(server);
    release.send(()).unwrap();
    assert_eq!(read_frame(&mut again), json!({ "ok": "again" }));
}

#[test]
fn a_hundred_silent_connections_are_turned_out_in_time() {
    let fixture = start();
    let mut silent: Vec<_> = (0..100).map(|_| raw(&fixture)).collect();
    // The first ones are ended by the server, not by this test.
    assert_eq!(silent[0].read(&mut [0]).unwrap(), 0);
    drop(silent);
    let mut client = Client::connect(&fixture.server.path()).unwrap();
    assert_eq!(client.call("echo", &json!(1)).unwrap(), 1);
}

#[test]
fn dropping_the_server_does_not_wait_for_its_clients() {
    let fixture = start();
    let mut stream = raw(&fixture);
    stream.write_all(&[1]).unwrap();
    let start = Instant::now();
    drop(fixture.server);
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    // An end or a reset, depending on whether the byte had been read.
    assert!(!matches!(stream.read(&mut [0]), Ok(1..)));
}

#[test]
fn a_command_may_drop_its_own_server() {
    let parent = tempfile::tempdir().unwrap();
    let directory = RuntimeDirectory::at(&parent.path().join("openhdv")).unwrap();
    let registry = Registry::new();
    let slot = Arc::new(Mutex::new(None::<ControlServer>));
    let inner = Arc::clone(&slot);
    registry
        .register("end", move |_| {
            drop(inner.lock().unwrap().take());
            Ok("bye".into())
        })
        .unwrap();
    let server = ControlServer::start(&directory, registry).unwrap();
    let path = server.path();
    *slot.lock().unwrap() = Some(server);
    let mut client = Client::connect(&path).unwrap();
    assert_eq!(client.call("end", &Value::Null).unwrap(), "bye");
    assert!(!path.exists());
}

#[test]
fn foreign_files_in_the_directory_are_passed_over() {
    let fixture = start();
    let hosts = fixture.directory.path().join("hosts");
    let odd: Vec<PathBuf> = ["README", "x.sock.hdv-lock", "12.sock.hdv-lock", "13.sock"]
        .iter()
        .map(|name| hosts.join(name))
        .collect();
    for path in &odd {
        std::fs::write(path, "not of OpenHDV").unwrap();
    }
    let found = fixture.directory.hosts().unwrap();
    let paths: Vec<_> = found.into_iter().map(|host| host.path).collect();
    assert_eq!(paths, [fixture.server.path()]);
    for path in &odd {
        assert_eq!(std::fs::read(path).unwrap(), b"not of OpenHDV");
    }
}

/// None is looked for by trying the names of those before it, which takes a while for each.
#[test]
fn hundreds_of_servers_in_one_process_start_at_once() {
    const SERVERS: usize = 200;
    let parent = tempfile::tempdir().unwrap();
    let directory = RuntimeDirectory::at(&parent.path().join("openhdv")).unwrap();
    let start = || ControlServer::start(&directory, Registry::new()).unwrap();
    let begun = Instant::now();
    let mut servers: Vec<ControlServer> = (0..SERVERS).map(|_| start()).collect();
    assert!(begun.elapsed() < GENEROUS, "{:?}", begun.elapsed());
    let hosts = directory.hosts().unwrap();
    assert_eq!(hosts.len(), SERVERS);
    assert!(hosts.iter().all(|host| host.pid == std::process::id()));

    // A name is free again once its server is gone.
    let path = servers.swap_remove(7).path();
    assert!(!path.exists());
    assert_eq!(start().path(), path);
}
