//! Socket claims between processes: what is replaced, what is refused, what is left alone.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use hdv_control::{
    BindError, Client, ControlServer, Registry, RuntimeDirectory, SOCKET_PATH_LIMIT, SocketClaim,
    remove_if_dead,
};

/// Names the role and the path for a child process: `claim PATH`, `system PATH` or `serve DIRECTORY`.
const ROLE: &str = "HDV_CONTROL_TEST_ROLE";
/// What a child prints when it is set up.
const READY: &str = "child is ready";

/// The other process. Run as a test of its own it checks that a claim works in this process.
#[test]
fn child_process() {
    let Some(role) = std::env::var_os(ROLE) else {
        let directory = tempfile::tempdir().unwrap();
        SocketClaim::bind(&directory.path().join("s")).unwrap();
        return;
    };
    let role = role.to_str().unwrap();
    let (role, path) = role.split_once(' ').unwrap();
    let path = Path::new(path);
    let wait = || {
        println!("{READY}");
        std::io::stdout().flush().unwrap();
        // Until the parent closes the pipe or kills this process.
        let _ = std::io::stdin().read(&mut [0]).unwrap();
    };
    match role {
        "claim" => {
            let _claim = SocketClaim::bind(path).unwrap();
            wait();
        }
        "system" => {
            let (_listener, mut claim) = SocketClaim::bind_with_directory(path).unwrap();
            let directory = claim.directory().unwrap();
            let elsewhere = elsewhere(path);
            claim.set_sockets(vec![elsewhere.clone()]).unwrap();
            let (_elsewhere, _elsewhere_claim) = SocketClaim::bind(&elsewhere).unwrap();
            let (_inner, _inner_claim) = SocketClaim::bind(&directory.join("x.sock")).unwrap();
            wait();
        }
        "serve" => {
            let directory = RuntimeDirectory::at(path).unwrap();
            let server = ControlServer::start(&directory, Registry::new()).unwrap();
            let device = path.with_file_name("device.sock");
            let _claim = SocketClaim::bind(&device).unwrap();
            server.note_sockets([&device]).unwrap();
            wait();
        }
        _ => panic!("no such role: {role}"),
    }
}

/// Where a system at `socket` has another socket.
fn elsewhere(socket: &Path) -> PathBuf {
    let systems = socket.parent().unwrap();
    systems.with_file_name("elsewhere")
}

/// A child process, killed when dropped.
struct Other {
    process: Child,
    // Kept open: the test harness in the child still writes to it.
    _output: BufReader<ChildStdout>,
}

impl Other {
    fn start(role: &str, path: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["child_process", "--exact", "--nocapture"])
            .env(ROLE, format!("{role} {}", path.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains(READY) {
            line.clear();
            let count = output.read_line(&mut line).unwrap();
            assert_ne!(count, 0, "the child ended before it was ready");
        }
        Self {
            process,
            _output: output,
        }
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Lets it end by itself.
    fn end(&mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn socket_in(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("device.sock")
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[test]
fn a_claimed_socket_is_private_works_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = socket_in(&directory);
    let (listener, claim) = SocketClaim::bind(&path).unwrap();
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);

    let mut client = UnixStream::connect(&path).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"ping").unwrap();
    let mut bytes = [0; 4];
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");

    drop(claim);
    assert_eq!(entries(directory.path()), Vec::<PathBuf>::new());
}

#[test]
fn what_a_killed_process_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = socket_in(&directory);
    let mut other = Other::start("claim", &path);
    let before = fs::symlink_metadata(&path).unwrap().ino();
    other.kill();
    assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), before);

    let (listener, claim) = SocketClaim::bind(&path).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    listener.accept().unwrap();
    drop(claim);
    assert_eq!(entries(directory.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_living_process_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = socket_in(&directory);
    let mut other = Other::start("claim", &path);
    let error = SocketClaim::bind(&path).unwrap_err();
    assert!(
        matches!(&error, BindError::InUse { pid, .. } if *pid == Some(other.pid())),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", other.pid())), "{text}");
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    UnixStream::connect(&path).unwrap();
    other.end();
    assert_eq!(entries(directory.path()), Vec::<PathBuf>::new());
    SocketClaim::bind(&path).unwrap();
}

#[test]
fn a_server_without_a_companion_is_found_by_a_connection() {
    let directory = tempfile::tempdir().unwrap();
    let path = socket_in(&directory);
    let foreign = UnixListener::bind(&path).unwrap();
    match SocketClaim::bind(&path) {
        Err(BindError::InUse { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    assert_eq!(entries(directory.path()), std::slice::from_ref(&path));
    drop(foreign);
    SocketClaim::bind(&path).unwrap();
}

#[test]
fn what_is_no_socket_is_refused_and_survives() {
    let directory = tempfile::tempdir().unwrap();
    let path = socket_in(&directory);
    fs::write(&path, "precious").unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let folder = directory.path().join("folder");
    fs::create_dir(&folder).unwrap();
    for taken in [&path, &link, &folder] {
        let error = SocketClaim::bind(taken).unwrap_err();
        assert!(matches!(error, BindError::NotASocket { .. }), "{error:?}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert_eq!(fs::read_link(&link).unwrap(), path);
    assert_eq!(entries(directory.path()).len(), 3);
}

#[test]
fn the_path_limit_is_exact_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().as_os_str().len() + 1;
    let fits = directory.path().join("x".repeat(SOCKET_PATH_LIMIT - base));
    let (_listener, claim) = SocketClaim::bind(&fits).unwrap();
    UnixStream::connect(&fits).unwrap();
    drop(claim);
    let long = directory
        .path()
        .join("x".repeat(SOCKET_PATH_LIMIT - base + 1));
    let error = SocketClaim::bind(&long).unwrap_err();
    assert!(matches!(error, BindError::PathTooLong { length: 108, .. }));
    assert!(error.to_string().contains("at most 107"), "{error}");
    for nothing in ["", "/", ".."] {
        SocketClaim::bind(Path::new(nothing)).unwrap_err();
    }
    let directory_like = directory.path().join("name/");
    let error = SocketClaim::bind(&directory_like).unwrap_err();
    assert!(matches!(error, BindError::NoFileName { .. }), "{error}");
    assert!(!directory.path().join("name").exists());
}

/// Nobody creates files there, whoever runs this.
#[test]
fn a_forbidden_directory_is_told() {
    let error = SocketClaim::bind(Path::new("/sys/openhdv.sock")).unwrap_err();
    assert!(matches!(error, BindError::NotPermitted { .. }), "{error}");
}

/// Where others may write, the lock file may be there before, another user's, and say what was to be removed. Only root can
/// make one.
#[test]
fn a_lock_file_of_another_user_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let lock = directory.path().join("s.sock.hdv-lock");
    fs::write(&lock, b"openhdv-claim-1\0pid=1\0directory\0").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    if std::os::unix::fs::chown(&lock, Some(65534), None).is_err() {
        return;
    }
    let precious = directory.path().join("s/precious");
    fs::create_dir(directory.path().join("s")).unwrap();
    fs::write(&precious, "").unwrap();
    assert!(!remove_if_dead(&path));
    let error = SocketClaim::bind(&path).unwrap_err();
    assert!(matches!(error, BindError::NotPermitted { .. }), "{error}");
    assert!(error.to_string().contains("another user"), "{error}");
    assert!(precious.exists());
    assert_eq!(entries(directory.path()).len(), 2);
}

#[test]
fn a_missing_directory_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none/s");
    let error = SocketClaim::bind(&path).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    assert!(error.contains("there is no directory"), "{error}");
}

#[test]
fn a_replaced_socket_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = socket_in(&directory);
    let (_listener, claim) = SocketClaim::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _usurper = UnixListener::bind(&path).unwrap();
    drop(claim);
    assert_eq!(entries(directory.path()), std::slice::from_ref(&path));
}

#[test]
fn of_many_starters_exactly_one_wins_over_a_stale_socket() {
    const STARTERS: usize = 8;
    let directory = tempfile::tempdir().unwrap();
    let path = socket_in(&directory);
    for _ in 0..20 {
        drop(UnixListener::bind(&path).unwrap());
        let barrier = Arc::new(Barrier::new(STARTERS));
        let threads: Vec<_> = (0..STARTERS)
            .map(|_| {
                let (path, barrier) = (path.clone(), Arc::clone(&barrier));
                std::thread::spawn(move || {
                    barrier.wait();
                    let claim = SocketClaim::bind(&path);
                    // Nobody lets go before everybody has tried.
                    barrier.wait();
                    match claim {
                        Ok(_) => 1,
                        Err(BindError::InUse { .. }) => 0,
                        Err(error) => panic!("{error}"),
                    }
                })
            })
            .collect();
        let winners: usize = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum();
        assert_eq!(winners, 1);
        assert_eq!(entries(directory.path()), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_killed_host_disappears_with_its_device_sockets() {
    let parent = tempfile::tempdir().unwrap();
    let directory = RuntimeDirectory::at(&parent.path().join("openhdv")).unwrap();
    let mut other = Other::start("serve", directory.path());
    let hosts = directory.hosts().unwrap();
    assert_eq!(hosts.len(), 1);
    assert_eq!(hosts[0].pid, other.pid());
    let peer = Client::connect(&hosts[0].path).unwrap().peer();
    assert_eq!(peer.pid, Some(other.pid()));
    let device = parent.path().join("device.sock");
    UnixStream::connect(&device).unwrap();

    other.kill();
    assert!(device.exists(), "the test would show nothing");
    assert_eq!(directory.hosts().unwrap(), []);
    assert!(!device.exists());
    assert_eq!(entries(parent.path()), [directory.path()]);
    assert_eq!(
        entries(&directory.path().join("hosts")),
        Vec::<PathBuf>::new()
    );
}

#[test]
fn a_dead_hosts_device_socket_that_lives_again_is_kept() {
    let parent = tempfile::tempdir().unwrap();
    let directory = RuntimeDirectory::at(&parent.path().join("openhdv")).unwrap();
    let mut other = Other::start("serve", directory.path());
    other.kill();
    let device = parent.path().join("device.sock");
    let _claim = SocketClaim::bind(&device).unwrap();
    assert_eq!(directory.hosts().unwrap(), []);
    UnixStream::connect(&device).unwrap();
}

/// A write that is cut short, since its process is killed, must not cost what was noted before.
#[test]
fn further_notes_leave_those_before_where_they_are() {
    let parent = tempfile::tempdir().unwrap();
    let directory = RuntimeDirectory::at(&parent.path().join("openhdv")).unwrap();
    let server = ControlServer::start(&directory, Registry::new()).unwrap();
    let mut file = server.path().into_os_string();
    file.push(".hdv-lock");
    let read = || std::fs::read(&file).unwrap();
    let mut before = read();
    for socket in ["/x/nic.sock", "/x/nic-vf0.sock", "/a", "/z"] {
        assert_eq!(server.note_sockets([socket]).unwrap().len(), 1);
        let after = read();
        assert!(after.starts_with(&before) && after.len() > before.len());
        before = after;
    }
    // What is noted already is not noted again, nor twice at once.
    let noted = server.note_sockets(["/z", "/y", "/y", "/a"]).unwrap();
    assert_eq!(noted, [Path::new("/y")]);
    server.forget_sockets(["/y", "/nowhere"]).unwrap();
    assert_eq!(read(), before);
}

/// What a killed owner of a directory left: its socket, and a directory with things in it, of which some lead out.
struct Left {
    parent: tempfile::TempDir,
    runtime: RuntimeDirectory,
    socket: PathBuf,
    directory: PathBuf,
    outside: PathBuf,
}

fn killed_system() -> Left {
    let parent = tempfile::tempdir().unwrap();
    let runtime = RuntimeDirectory::at(&parent.path().join("openhdv")).unwrap();
    let socket = runtime.subdirectory("systems").unwrap().join("name.sock");
    let directory = socket.with_extension("");
    let mut other = Other::start("system", &socket);
    let mode = fs::metadata(&directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    assert_eq!(
        runtime.living("systems").unwrap(),
        std::slice::from_ref(&socket)
    );
    runtime.hosts().unwrap();
    assert!(!remove_if_dead(&socket));
    assert!(directory.join("x.sock").exists());
    assert!(elsewhere(&socket).exists());

    let outside = parent.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("diary"), "mine").unwrap();
    fs::create_dir(directory.join("inner")).unwrap();
    symlink(&outside, directory.join("inner/link")).unwrap();
    symlink(&outside, directory.join("link")).unwrap();
    other.kill();
    Left {
        parent,
        runtime,
        socket,
        directory,
        outside,
    }
}

impl Left {
    fn assert_clear(&self) {
        assert_eq!(
            entries(self.socket.parent().unwrap()),
            Vec::<PathBuf>::new()
        );
        assert_eq!(fs::read(self.outside.join("diary")).unwrap(), b"mine");
        assert!(self.parent.path().exists());
        assert!(!elsewhere(&self.socket).exists());
    }
}

#[test]
fn a_killed_owners_directory_goes_at_the_next_look() {
    let left = killed_system();
    assert_eq!(
        left.runtime.living("systems").unwrap(),
        Vec::<PathBuf>::new()
    );
    left.assert_clear();
    // Also when somebody looks for hosts only, or at this socket.
    let left = killed_system();
    assert_eq!(left.runtime.hosts().unwrap(), []);
    left.assert_clear();
    let left = killed_system();
    assert!(remove_if_dead(&left.socket));
    left.assert_clear();
}

#[test]
fn a_killed_owners_directory_goes_when_its_name_is_claimed_again() {
    let left = killed_system();
    let (listener, claim) = SocketClaim::bind_with_directory(&left.socket).unwrap();
    assert_eq!(entries(&left.directory), Vec::<PathBuf>::new());
    assert_eq!(claim.directory(), Some(left.directory.clone()));
    fs::write(left.directory.join("file"), "").unwrap();
    drop((listener, claim));
    left.assert_clear();

    let left = killed_system();
    let (_listener, claim) = SocketClaim::bind(&left.socket).unwrap();
    assert!(!elsewhere(&left.socket).exists());
    assert!(!left.directory.exists());
    assert_eq!(claim.directory(), None);
    drop(claim);
    left.assert_clear();
}

#[test]
fn a_link_in_place_of_the_directory_is_not_followed() {
    let left = killed_system();
    fs::remove_dir_all(&left.directory).unwrap();
    symlink(&left.outside, &left.directory).unwrap();
    assert_eq!(
        left.runtime.living("systems").unwrap(),
        Vec::<PathBuf>::new()
    );
    left.assert_clear();
    // Nor a link in place of the directory that is looked through.
    symlink(&left.outside, left.runtime.path().join("odd")).unwrap();
    let companion = left.outside.join("diary.hdv-lock");
    fs::write(&companion, "openhdv-claim-1\0pid=1\0").unwrap();
    left.runtime.hosts().unwrap();
    assert!(companion.exists());
}

#[test]
fn a_directory_is_made_only_beside_a_name_that_ends_as_it_should() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["name", ".sock", "...sock"] {
        let refused = SocketClaim::bind_with_directory(&directory.path().join(name));
        assert!(
            matches!(refused, Err(BindError::NoFileName { .. })),
            "{name}"
        );
    }
    assert_eq!(entries(directory.path()), Vec::<PathBuf>::new());
}

#[test]
fn starters_and_lookers_of_one_name_do_not_get_in_each_others_way() {
    let left = Arc::new(killed_system());
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let (left, barrier) = (Arc::clone(&left), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                for _ in 0..100 {
                    if number % 2 == 0 {
                        left.runtime.living("systems").unwrap();
                        continue;
                    }
                    match SocketClaim::bind_with_directory(&left.socket) {
                        Ok((_listener, claim)) => {
                            // Its own and empty, and it stays.
                            let file = claim.directory().unwrap().join("file");
                            fs::OpenOptions::new()
                                .write(true)
                                .create_new(true)
                                .open(&file)
                                .unwrap();
                            std::thread::yield_now();
                            assert!(file.exists());
                        }
                        Err(BindError::InUse { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    left.runtime.living("systems").unwrap();
    left.assert_clear();
}

#[test]
fn directories_that_come_and_go_do_not_hold_a_look_up() {
    let parent = tempfile::tempdir().unwrap();
    let directory = RuntimeDirectory::at(&parent.path().join("openhdv")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Enough for some to go between being listed and being looked into.
            let fleeting: Vec<_> = (0..64)
                .map(|number| directory.path().join(number.to_string()))
                .collect();
            while !done.load(Ordering::Relaxed) {
                for directory in &fleeting {
                    fs::create_dir(directory).unwrap();
                }
                for directory in &fleeting {
                    fs::remove_dir(directory).unwrap();
                }
            }
        });
        let looks: Vec<_> = (0..1000).map(|_| directory.hosts()).collect();
        done.store(true, Ordering::Relaxed);
        for look in looks {
            assert_eq!(look.unwrap(), []);
        }
    });
}
