//! Clients that come, go, die, say nothing or too much: the next one is served.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use hdv_vfio_user::Errno;
use hdv_vfio_user::client::{Client, ClientError};
use support::*;

/// A client's socket, to write to past the client.
fn raw_of(client: &Client) -> UnixStream {
    UnixStream::from(client.as_fd().try_clone_to_owned().unwrap())
}

/// A REGION_READ message for all of config space.
fn read_of_config_space() -> Vec<u8> {
    [0x0009_0001_u32, 32, 0, 0, 0, 0, CONFIG, 4096]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

/// Names the socket for [`helper_client`].
const SOCKET: &str = "HDV_TEST_SOCKET";

/// A client in a process of its own, for [`a_killed_client_is_not_in_its_successors_way`].
#[test]
fn helper_client() {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    let mut client = connect(socket.as_ref());
    enable(&mut client);
    let file = memfd(0x10_0000);
    let file = Some((file.as_fd(), 0));
    client.dma_map(0, 0x10_0000, READ_WRITE, file).unwrap();
    let _events = connect_vectors(&mut client, hdv_vfio_user::vfio::irq::MSIX, 0, 4);
    println!("\nin use");
    // Until the end of its input, which comes with its own end.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_killed_client_is_not_in_its_successors_way() {
    let served = serve(Recorder::default());
    for round in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "helper_client", "--nocapture"])
            .env(SOCKET, &served.socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        assert!(output.lines().any(|line| line.unwrap() == "in use"));
        let status = &served.host.devices()[0];
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(status.client.as_ref().unwrap().pid, Some(pid));
        assert_eq!(status.state, "started");
        child.kill().unwrap();
        child.wait().unwrap();
        // At once: never EBUSY, and nothing of the dead one is left.
        let mut client = served.connect();
        assert_eq!(read::<2>(&mut client, CONFIG, 4), [0, 0]);
        let context = served.record.context();
        assert_eq!(context.memory.ranges().len(), 0);
        assert_eq!(context.interrupts.signal(0), hdv::Delivery::Disabled);
        assert_eq!(served.record.count(Call::Reset), 2 * round + 1);
        drop(client);
        wait_for("end", || served.record.count(Call::Reset) == 2 * round + 2);
    }
}

fn refused(socket: &std::path::Path) -> Option<Errno> {
    match Client::connect(socket, options()) {
        Ok(_) => None,
        Err(error) => Some(error.errno().expect("a refusal")),
    }
}

#[test]
fn a_second_client_is_busy_and_the_next_one_is_served() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    for _ in 0..100 {
        assert_eq!(refused(&served.socket), Some(Errno::BUSY));
    }
    client.device_info().unwrap();
    for _ in 0..100 {
        // Gone and back at once.
        drop(client);
        client = served.connect();
        client.device_info().unwrap();
    }
}

/// Set in the process of [`helper_waiting`].
const ALONE: &str = "HDV_TEST_ALONE";

#[test]
fn who_waits_for_the_last_client_to_leave_gets_the_device() {
    let alone = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_waiting", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    assert!(alone.status.success(), "{alone:?}");
    assert!(String::from_utf8_lossy(&alone.stdout).contains("was served"));
}

/// In a process of its own: what the accepting threads of other tests do is not counted.
#[test]
fn helper_waiting() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let served = serve(Recorder::default());
    let mut first = served.connect();
    served.record.close();
    let stream = UnixStream::connect(&served.socket).unwrap();
    std::thread::scope(|scope| {
        // The device is in a call when its client goes.
        let socket = std::os::fd::AsFd::as_fd(&first)
            .try_clone_to_owned()
            .unwrap();
        let reader = scope.spawn(move || {
            let _ = first.region_read(BAR0, 0x700, &mut [0; 4]);
        });
        wait_for("read", || {
            served.record.calls().contains(&read_of(0x700, 4))
        });
        rustix::net::shutdown(&socket, rustix::net::Shutdown::Both).unwrap();
        drop(socket);
        reader.join().unwrap();
        let waiting = scope.spawn(|| Client::from_stream(stream, options()));
        // One that gives up waiting costs nothing.
        let impatient = options().with_reply_timeout(Some(std::time::Duration::from_millis(50)));
        for _ in 0..3 {
            let error = Client::connect(&served.socket, impatient.clone()).unwrap_err();
            assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
        }
        let before = cpu_time();
        std::thread::sleep(std::time::Duration::from_millis(300));
        let spent = cpu_time() - before;
        let too_early = waiting.is_finished();
        // First, so that what follows may fail.
        served.record.open();
        waiting.join().unwrap().unwrap().device_info().unwrap();
        assert!(!too_early);
        assert!(
            spent < std::time::Duration::from_millis(150),
            "spins: {spent:?}"
        );
    });
    println!("\nwas served");
}

/// Of the accepting threads of this process.
fn cpu_time() -> std::time::Duration {
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else {
            continue;
        };
        if stat.contains("(hdv-accept)") {
            let after = stat.rsplit(") ").next().unwrap();
            let fields: Vec<&str> = after.split(' ').collect();
            ticks += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        }
    }
    std::time::Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

#[test]
fn a_thousand_silent_connections_keep_nobody_out() {
    let served = serve(Recorder::default());
    let mut silent = Vec::new();
    for index in 0..1000 {
        if let Ok(mut stream) = UnixStream::connect(&served.socket) {
            if index % 2 == 0 {
                // The beginning of a message, no more.
                let _ = stream.write_all(&[0, 0, 1]);
            }
            silent.push(stream);
        }
        if index % 250 == 249 {
            served.connect().device_info().unwrap();
            wait_for("end", || !served.connected());
        }
    }
    // Only some of them are kept: the others have been closed.
    let kept = silent.iter().filter(|stream| is_kept(stream)).count();
    assert!(kept <= 64, "{kept} are kept");
    served.connect().device_info().unwrap();
}

/// Whether it has been neither closed nor told anything.
fn is_kept(mut stream: &UnixStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let end = stream.read(&mut [0]);
    matches!(end, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn clients_of_one_device_push_out_no_other_devices_clients() {
    let served = serve(Recorder::default());
    let others: Vec<_> = (0..100)
        .map(|number| {
            let socket = served.directory.path().join(format!("{number}.sock"));
            let device = Recorder::default();
            served.host.serve(&socket, "another", device).unwrap();
            // It has connected, and asks a moment later.
            UnixStream::connect(socket).unwrap()
        })
        .collect();
    let mut storm = Vec::new();
    for _ in 0..4 {
        storm.extend((0..100).filter_map(|_| UnixStream::connect(&served.socket).ok()));
        // All before it have been accepted.
        served.connect().device_info().unwrap();
        wait_for("end", || !served.connected());
    }
    assert!(others.iter().all(is_kept));
    assert!(!storm.iter().all(is_kept));
}

#[test]
fn garbage_costs_its_connection_only() {
    let served = serve(Recorder::default());
    for garbage in [
        &[0xff_u8; 64][..],
        &[0; 64],
        b"GET / HTTP/1.0\r\n\r\n",
        &[1, 0, 1, 0, 8, 0, 0, 0],
    ] {
        let mut stream = UnixStream::connect(&served.socket).unwrap();
        stream.write_all(garbage).unwrap();
        drop(stream);
        served.connect().device_info().unwrap();
    }
    // Within a session.
    let mut client = served.connect();
    client.device_info().unwrap();
    let mut raw = raw_of(&client);
    let _ = raw.write_all(&[0xff; 4096]);
    wait_for("end", || !served.connected());
    served.connect().device_info().unwrap();
}

#[test]
fn a_client_that_never_reads_is_got_rid_of() {
    let served = serve(Recorder::default());
    let client = served.connect();
    let mut raw = raw_of(&client);
    raw.set_nonblocking(true).unwrap();
    // Until nothing more is taken.
    let message = read_of_config_space();
    let mut refused = 0;
    while refused < 100 {
        if raw.write(&message).is_ok_and(|sent| sent == message.len()) {
            refused = 0;
        } else {
            refused += 1;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    assert_eq!(self::refused(&served.socket), Some(Errno::BUSY));
    // Its device can still be removed, and the host ends.
    let (host, record) = (served.host, served.record);
    host.remove(served.id).unwrap();
    assert_eq!(record.count(Call::Teardown), 1);
    drop(host);
    drop(client);
}

#[test]
fn a_client_that_never_reads_and_goes_makes_room() {
    let served = serve(Recorder::default());
    for _ in 0..5 {
        let client = served.connect();
        let mut raw = raw_of(&client);
        raw.set_nonblocking(true).unwrap();
        let message = read_of_config_space();
        while raw.write(&message).is_ok() {}
        drop((client, raw));
        served.connect().device_info().unwrap();
        wait_for("end", || !served.connected());
    }
}

#[test]
fn a_name_may_hold_anything() {
    let directory = tempfile::tempdir().unwrap();
    let host = host();
    for (index, name) in ["", "a\0b", "ü\n", &"long".repeat(1000)]
        .into_iter()
        .enumerate()
    {
        let socket = directory.path().join(index.to_string());
        host.serve(&socket, name, Recorder::default()).unwrap();
        connect(&socket).device_info().unwrap();
    }
    let names: Vec<String> = host
        .devices()
        .into_iter()
        .map(|device| device.name)
        .collect();
    assert_eq!(names[1], "a\0b");
}
