use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;

/// Longest wait for something that must happen.
const GENEROUS: Duration = Duration::from_secs(60);

struct Port {
    directory: tempfile::TempDir,
    hub: Hub,
}

impl Port {
    fn new() -> Self {
        Self::with(0, |_| None)
    }

    /// With a named pipe, chosen when its directory is known.
    fn with_pipe(path: impl FnOnce(&Path) -> PathBuf) -> Self {
        Self::with(0, |directory| Some(path(directory)))
    }

    fn with(number: u8, pipe: impl FnOnce(&Path) -> Option<PathBuf>) -> Self {
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        let pipe = pipe(directory.path());
        let hub = Hub::start(directory.path(), number, pipe.as_deref()).unwrap();
        Self { directory, hub }
    }

    fn guest(&self) -> UnixStream {
        connect(self.hub.qemu_socket())
    }

    fn client(&self) -> UnixStream {
        connect(self.hub.client_socket())
    }
}

/// A connection that fails rather than waits without end.
fn connect(path: &Path) -> UnixStream {
    bounded(UnixStream::connect(path).unwrap())
}

fn bounded(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(GENEROUS)).unwrap();
    stream.set_write_timeout(Some(GENEROUS)).unwrap();
    stream
}

fn expect(mut stream: &UnixStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, expected);
}

fn expect_end(mut stream: &UnixStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

/// Bytes of which no two pieces are alike.
fn numbered(count: usize) -> Vec<u8> {
    (0..count.div_ceil(8))
        .flat_map(|number| format!("{number:07}\n").into_bytes())
        .take(count)
        .collect()
}

#[test]
fn all_clients_read_what_the_guest_writes_from_its_beginning() {
    let port = Port::new();
    let early = port.client();
    let mut guest = port.guest();
    guest.write_all(b"booting").unwrap();
    expect(&early, b"booting");
    // It has been kept, as the first has got it.
    let late = port.client();
    expect(&late, b"booting");
    guest.write_all(b" on").unwrap();
    expect(&early, b" on");
    expect(&late, b" on");
}

#[test]
fn what_clients_write_goes_to_the_guest_also_before_it_is_there() {
    let port = Port::new();
    let (mut one, mut two) = (port.client(), port.client());
    one.write_all(b"early ").unwrap();
    let guest = port.guest();
    expect(&guest, b"early ");
    two.write_all(b"two ").unwrap();
    expect(&guest, b"two ");
    // One that writes and leaves at once has written all the same.
    let mut brief = port.client();
    brief.write_all(b"brief").unwrap();
    drop(brief);
    expect(&guest, b"brief");
    // One that only ends its writing reads on.
    one.shutdown(std::net::Shutdown::Write).unwrap();
    (&guest).write_all(b"heard").unwrap();
    expect(&one, b"heard");
    expect(&two, b"heard");
}

#[test]
fn the_history_is_the_last_of_it() {
    let port = Port::new();
    let watcher = port.client();
    let mut guest = port.guest();
    let all = numbered(3 * HISTORY + 1234);
    let writing = {
        let all = all.clone();
        thread::spawn(move || {
            guest.write_all(&all).unwrap();
            guest
        })
    };
    // The watcher is fast enough here that it need not have missed anything; it tells when all has been taken in.
    let mut last = Vec::new();
    let mut piece = [0; 4096];
    while !last.ends_with(&all[all.len() - 64..]) {
        let count = (&watcher).read(&mut piece).unwrap();
        assert!(count > 0);
        last.extend(&piece[..count]);
    }
    let _guest = writing.join().unwrap();
    expect(&port.client(), &all[all.len() - HISTORY..]);
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up_and_is_told_what_it_missed() {
    let port = Port::new();
    let slow = port.client();
    let mut guest = port.guest();
    guest.write_all(b"first").unwrap();
    expect(&slow, b"first");
    // Far more than all buffers between here and there.
    let all = numbered(64 * HISTORY);
    guest.write_all(&all).unwrap();
    guest.write_all(b"END").unwrap();
    drop(guest);

    let mut text = String::new();
    (&slow).read_to_string(&mut text).unwrap();
    // Whatever it got is what the guest wrote; what it did not get is counted.
    let mut parts = text.strip_suffix("END").unwrap().split("\r\n[");
    let mut position = 0;
    let mut check = |data: &str, missed: usize| {
        position += missed;
        assert!(all[position..].starts_with(data.as_bytes()));
        position += data.len();
        position
    };
    check(parts.next().unwrap(), 0);
    let mut end = 0;
    for part in parts {
        let note = " bytes were not read in time and are lost]\r\n";
        let (missed, data) = part.split_once(note).unwrap();
        end = check(data, missed.parse().unwrap());
    }
    assert_eq!(end, all.len());
}

#[test]
fn a_guest_that_does_not_read_holds_clients_up_and_loses_nothing() {
    let port = Port::new();
    let guest = port.guest();
    let all = numbered(1 << 20);
    let (written, is_written) = mpsc::channel();
    let writing = {
        let mut client = port.client();
        let all = all.clone();
        thread::spawn(move || {
            client.write_all(&all).unwrap();
            written.send(()).unwrap();
        })
    };
    assert!(
        is_written.recv_timeout(Duration::from_millis(200)).is_err(),
        "a megabyte is kept somewhere"
    );
    // Meanwhile the guest is heard.
    (&guest).write_all(b"busy").unwrap();
    expect(&port.client(), b"busy");
    expect(&guest, &all);
    writing.join().unwrap();
}

#[test]
fn the_end_of_the_guest_is_the_end_of_its_clients() {
    let port = Port::new();
    let client = port.client();
    let mut guest = port.guest();
    guest.write_all(b"bye").unwrap();
    drop(guest);
    expect(&client, b"bye");
    expect_end(&client);
    let late = port.client();
    expect(&late, b"bye");
    expect_end(&late);
}

#[test]
fn a_guest_that_never_came_can_end() {
    let port = Port::new();
    let client = port.client();
    port.hub.guest_has_ended();
    expect_end(&client);
    expect_end(&port.client());
}

#[test]
fn the_last_words_of_a_guest_that_has_ended_are_heard() {
    let port = Port::new();
    let client = port.client();
    let mut guest = port.guest();
    guest.write_all(b"1").unwrap();
    expect(&client, b"1");
    guest.write_all(b"last words").unwrap();
    // Somebody else has its socket too.
    port.hub.guest_has_ended();
    expect(&client, b"last words");
    expect_end(&client);
}

#[test]
fn clients_come_and_go_up_to_a_limit() {
    let port = Port::new();
    let mut guest = port.guest();
    guest.write_all(b"x").unwrap();
    // Each leaves before the next one comes, so none is one too many.
    for _ in 0..200 * CLIENTS {
        expect(&port.client(), b"x");
    }
    let mut clients: Vec<UnixStream> = (0..CLIENTS).map(|_| port.client()).collect();
    for client in &clients {
        expect(client, b"x");
    }
    let mut refusal = String::new();
    port.client().read_to_string(&mut refusal).unwrap();
    assert_eq!(refusal, pump::FULL);
    drop(clients.pop());
    expect(&port.client(), b"x");
    guest.write_all(b"y").unwrap();
    for client in &clients {
        expect(client, b"y");
    }
}

#[test]
fn the_hub_ends_with_what_the_guest_had_written_and_leaves_nothing() {
    let port = Port::with_pipe(|directory| directory.join("pipe"));
    let client = port.client();
    let mut guest = port.guest();
    // Accepted, as there is an answer.
    guest.write_all(b"1").unwrap();
    expect(&client, b"1");
    guest.write_all(b"last words").unwrap();
    drop(port.hub);
    expect(&client, b"last words");
    expect_end(&client);
    let left: Vec<PathBuf> = std::fs::read_dir(port.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[test]
fn idle_ports_cost_nothing() {
    let port = Port::with(99, |_| None);
    let (client, mut half) = (port.client(), port.client());
    let guest = port.guest();
    (&guest).write_all(b"a").unwrap();
    half.write_all(b"b").unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    expect(&half, b"a");
    expect(&client, b"a");
    expect(&guest, b"b");
    // One that is gone while the guest reads nothing.
    let mut gone = port.client();
    gone.set_nonblocking(true).unwrap();
    while gone.write(&[0; 4096]).is_ok() {}
    drop(gone);
    // Processor time, so that a busy machine does not matter; the sleep is what is measured.
    let before = ticks("com99");
    thread::sleep(Duration::from_millis(300));
    let spent = ticks("com99") - before;
    assert!(spent < 10, "{spent} ticks of 10 ms");
}

/// The processor time that a thread of this process has had, in the kernel's clock ticks (proc(5)).
fn ticks(name: &str) -> u64 {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let stat = task.unwrap().path().join("stat");
        // Threads of other tests end meanwhile.
        let stat = std::fs::read_to_string(stat).unwrap_or_default();
        let Some((head, fields)) = stat.rsplit_once(") ") else {
            continue;
        };
        if head.ends_with(&format!("({name}")) {
            let field = |index| {
                fields
                    .split(' ')
                    .nth(index)
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            };
            return field(11) + field(12);
        }
    }
    panic!("no thread {name}");
}

#[test]
fn a_named_pipe_is_listened_on_or_connected_to() {
    let port = Port::with_pipe(|directory| directory.join("pipe"));
    let guest = port.guest();
    let client = connect(&port.directory.path().join("pipe"));
    (&guest).write_all(b"listening").unwrap();
    expect(&client, b"listening");
    (&client).write_all(b"answer").unwrap();
    expect(&guest, b"answer");

    let server = tempfile::tempdir_in("/tmp").unwrap();
    let path = server.path().join("server");
    let listener = UnixListener::bind(&path).unwrap();
    let other = Port::with_pipe(|_| path.clone());
    let (accepted, _) = listener.accept().unwrap();
    let accepted = bounded(accepted);
    let guest = other.guest();
    (&guest).write_all(b"connected").unwrap();
    expect(&accepted, b"connected");
    (&accepted).write_all(b"answer").unwrap();
    expect(&guest, b"answer");
    drop(other);
    expect_end(&accepted);

    // Nobody listens there any more: the socket is replaced.
    drop(listener);
    let third = Port::with_pipe(|_| path.clone());
    let client = connect(&path);
    let guest = third.guest();
    (&guest).write_all(b"replaced").unwrap();
    expect(&client, b"replaced");
}

#[test]
fn two_ports_are_never_joined() {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let pipe = directory.path().join("pipe");
    let port = Port::with_pipe(|_| pipe.clone());
    let error = Hub::start(directory.path(), 2, Some(&pipe)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("ComPorts/2/NamedPipe") && text.contains("NamedPipe of its own"),
        "{text}"
    );
    // Who has it goes on undisturbed.
    let guest = port.guest();
    let client = connect(&pipe);
    (&guest).write_all(b"mine").unwrap();
    expect(&client, b"mine");
    drop(port);
    Hub::start(directory.path(), 2, Some(&pipe)).unwrap();
}

#[test]
fn what_is_no_socket_is_an_error_that_names_it() {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    let error = Hub::start(directory.path(), 3, Some(&file)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("serial port 3") && text.contains("file"),
        "{text}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    assert!(!directory.path().join("com3.sock").exists());
}
