//! The `hdv` command as a person runs it.

mod compute;
mod domain;
mod serve_pf;
mod sriov;
mod support;

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hdv_qemu::bundle::Bundle;
use hdv_vfio_user::Errno;
use hdv_vfio_user::client::{Client, ClientOptions};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{GENEROUS, Place, Serving};

/// Connects to a device that a client may just be leaving.
fn connect(place: &Place, socket: &str) -> Client {
    let deadline = Instant::now() + GENEROUS;
    loop {
        match Client::connect(&place.path(socket), ClientOptions::default()) {
            Err(error) if error.errno() == Some(Errno::BUSY) => {
                assert!(Instant::now() < deadline, "the device stays in use");
                std::thread::yield_now();
            }
            result => return result.unwrap(),
        }
    }
}

#[test]
fn devices_are_listed_with_their_settings() {
    let place = Place::new();
    let text = place.stdout(&["devices"]);
    assert!(text.contains("sensor  4f48:0001"), "{text}");
    assert!(
        text.lines()
            .any(|line| line.trim().starts_with("source   load")),
        "{text}"
    );
    assert!(text.contains("sriov-sensor  4f48:0002"), "{text}");
    assert!(
        text.lines()
            .any(|line| line.trim().starts_with("vfs      64")),
        "{text}"
    );
    let devices = place.json(&["devices", "--json"]);
    assert_eq!(devices["devices"][0]["name"], "sensor");
    assert_eq!(devices["devices"][0]["vendor"], "0x4f48");
    assert_eq!(devices["devices"][0]["settings"][0]["key"], "source");
    assert_eq!(devices["devices"][0]["settings"][0]["default"], "load");
}

#[test]
fn a_served_device_is_listed_and_probed() {
    let place = Place::new();
    let serving = Serving::sensor(&place, "a.sock");
    let socket = place.path("a.sock");
    let socket = socket.to_str().unwrap();
    assert_eq!(serving.announced["serving"][0]["socket"], socket);

    let list = place.json(&["ls", "--json"]);
    assert_eq!(list["hosts"].as_array().unwrap().len(), 1);
    assert_eq!(list["hosts"][0]["pid"], serving.pid());
    assert_eq!(list["hosts"][0]["process"], "hdv");
    assert_eq!(list["hosts"][0]["error"], Value::Null);
    let device = &list["hosts"][0]["devices"][0];
    assert_eq!(device["name"], "sensor");
    assert_eq!(device["socket"], socket);
    assert_eq!(device["vendor"], "0x4f48");
    assert_eq!(device["class"], "0x118000");
    assert_eq!(device["client"], Value::Null);

    let probe = place.json(&["probe", "--json", "a.sock"]);
    assert_eq!(probe["server"]["pid"], serving.pid());
    assert_eq!(probe["identity"]["vendor"], "0x4f48");
    assert_eq!(probe["identity"]["device"], "0x0001");
    assert_eq!(probe["identity"]["class"], "0x118000");
    assert_eq!(probe["regions"][0]["name"], "BAR0");
    assert_eq!(probe["regions"][0]["size"], 4096);
    assert_eq!(probe["regions"][0]["bar"]["kind"], "memory64");
    let capabilities = probe["capabilities"].as_array().unwrap();
    let msix = capabilities
        .iter()
        .find(|capability| capability["name"] == "MSI-X");
    let details = &msix.unwrap()["details"];
    assert_eq!(details["vectors"], 3);
    assert_eq!(details["table"], json!({"bar": 0, "offset": "0x800"}));
    assert_eq!(probe["faults"], json!([]));
    let interrupts = probe["interrupts"].as_array().unwrap();
    assert!(
        interrupts
            .iter()
            .any(|irq| irq["name"] == "MSI-X" && irq["count"] == 3)
    );

    let text = place.stdout(&["probe", "a.sock"]);
    for part in [
        "4f48:0001",
        "118000",
        "memory, 64 bit",
        "3 vectors, table BAR0+0x800",
        "function level reset",
        &format!("process {} (hdv)", serving.pid()),
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

#[test]
fn the_hexdump_is_what_the_device_says() {
    let place = Place::new();
    let _serving = Serving::sensor(&place, "a.sock");
    let text = place.stdout(&["probe", "--hexdump", "a.sock"]);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("00:00.0 Class 1180: 4f48:0001"));
    let mut bytes = Vec::new();
    for (number, line) in lines.by_ref().take(256).enumerate() {
        let (offset, rest) = line.split_once(": ").unwrap();
        assert_eq!(usize::from_str_radix(offset, 16).unwrap(), number * 16);
        bytes.extend(
            rest.split(' ')
                .map(|byte| u8::from_str_radix(byte, 16).unwrap()),
        );
    }
    assert_eq!(lines.collect::<Vec<_>>(), [""]);
    let mut client = connect(&place, "a.sock");
    let mut expected = vec![0; 4096];
    for (number, dword) in expected.chunks_mut(4).enumerate() {
        client.region_read(7, number as u64 * 4, dword).unwrap();
    }
    assert_eq!(bytes, expected);
}

#[test]
fn a_busy_device_says_who_has_it() {
    let place = Place::new();
    let serving = Serving::sensor(&place, "a.sock");
    let mut client = connect(&place, "a.sock");
    client.region_read(7, 0, &mut [0; 4]).unwrap();
    let error = place.failure(1, &["probe", "a.sock"]);
    let own = format!("in use by process {}", std::process::id());
    assert!(error.contains(&own), "{error}");
    let list = place.stdout(&["ls"]);
    assert!(
        list.contains(&format!("process {} (", std::process::id())),
        "{list}"
    );
    drop(client);

    place.stdout(&["probe", "a.sock"]);
    drop(serving);
}

/// A server of somebody else that answers every VERSION with EBUSY.
#[test]
fn of_a_foreign_busy_device_the_server_is_told() {
    const REPLY_WITH_ERROR: u32 = 1 | 1 << 5;
    const EBUSY: u32 = 16;
    let place = Place::new();
    let listener = UnixListener::bind(place.path("foreign.sock")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut header = [0; 16];
            // The last connection only asks for credentials.
            if stream.read_exact(&mut header).is_err() {
                continue;
            }
            let reply = [
                &header[..4],
                &16_u32.to_le_bytes(),
                &REPLY_WITH_ERROR.to_le_bytes(),
                &EBUSY.to_le_bytes(),
            ];
            stream.write_all(&reply.concat()).unwrap();
        }
    });
    let error = place.failure(1, &["probe", "foreign.sock"]);
    let server = format!("process {}", std::process::id());
    assert!(
        error.contains("is in use") && error.contains(&server),
        "{error}"
    );
}

#[test]
fn signals_end_it_and_leave_no_socket() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let place = Place::new();
        let arguments = "--device sensor --socket a.sock --device sensor --socket b.sock";
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let mut serving = Serving::start(&place, &arguments);
        // Also while a client is connected.
        let mut client = connect(&place, "a.sock");
        client.region_read(7, 0, &mut [0; 4]).unwrap();
        assert_eq!(place.leftovers().len(), 6, "the test would show nothing");
        assert!(serving.end(signal).success(), "{signal:?}");
        assert_eq!(
            place.leftovers(),
            Vec::<std::path::PathBuf>::new(),
            "{signal:?}"
        );
    }
}

#[test]
fn a_living_socket_is_refused_and_goes_on() {
    let place = Place::new();
    let serving = Serving::sensor(&place, "a.sock");
    let before = place.leftovers();
    let error = place.failure(
        1,
        &[
            "serve", "--device", "sensor", "--socket", "b.sock", "--device", "sensor", "--socket",
            "a.sock",
        ],
    );
    assert!(error.contains("a.sock is in use by process"), "{error}");
    assert!(error.contains(&serving.pid().to_string()), "{error}");
    // Nothing of the second one is left, nothing of the first is missing.
    assert_eq!(place.leftovers(), before);
    place.stdout(&["probe", "a.sock"]);
}

#[test]
fn what_a_killed_host_left_is_replaced_or_removed_by_the_next_command() {
    let place = Place::new();
    let mut first = Serving::sensor(&place, "a.sock");
    assert!(!first.end(Signal::KILL).success());
    assert_eq!(place.leftovers().len(), 4);
    let second = Serving::sensor(&place, "a.sock");
    place.stdout(&["probe", "a.sock"]);
    assert_eq!(place.leftovers().len(), 4);
    drop(second);

    for next in [&["ls"][..], &["devices"], &["probe", "a.sock"]] {
        let mut killed = Serving::sensor(&place, "a.sock");
        assert!(!killed.end(Signal::KILL).success());
        assert_eq!(place.leftovers().len(), 4);
        place.run(next);
        assert_eq!(
            place.leftovers(),
            Vec::<std::path::PathBuf>::new(),
            "{next:?}"
        );
    }
    let list = place.stdout(&["ls"]);
    assert!(list.contains("No device host is running"), "{list}");
    assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_file_can_describe_the_devices() {
    let place = Place::new();
    let mut text = "poll = 20\n".to_owned();
    for number in 0..40 {
        text.push_str(&format!(
            "[[device]]\nname = \"sensor\"\nsocket = \"{number}.sock\"\nset = {{ source = \"sine\" }}\n"
        ));
    }
    std::fs::write(place.path("devices.toml"), text).unwrap();
    let arguments = "serve --json --config devices.toml --device sensor --socket more.sock";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    // Fewer than these devices need: the soft limit is raised.
    let _serving = Serving::start_with(place.command_with_limits(64, 4096, &arguments));
    let list = place.json(&["ls", "--json"]);
    assert_eq!(list["hosts"][0]["devices"].as_array().unwrap().len(), 41);
    place.stdout(&["probe", "39.sock"]);
    place.stdout(&["probe", "more.sock"]);
}

#[test]
fn too_few_open_files_are_told_with_the_remedy() {
    let place = Place::new();
    let mut text = String::new();
    for number in 0..100 {
        text.push_str(&format!(
            "[[device]]\nname = \"sensor\"\nsocket = \"{number}.sock\"\n"
        ));
    }
    std::fs::write(place.path("devices.toml"), text).unwrap();
    let limited = |limit| {
        let mut command =
            place.command_with_limits(limit, limit, &["serve", "--config", "devices.toml"]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{limit}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    // Wherever it strikes.
    for limit in [8, 9, 10, 11, 12, 13, 14, 15, 16, 64] {
        let error = limited(limit);
        assert!(
            error.contains(&format!("hard limit: {limit}")) && error.contains("LimitNOFILE"),
            "{error}"
        );
        assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn names_come_from_the_cache_where_the_system_has_none() {
    const PLACES: [&str; 3] = [
        "/usr/share/misc/pci.ids",
        "/usr/share/hwdata/pci.ids",
        "/usr/share/pci.ids",
    ];
    let place = Place::new();
    let _serving = Serving::sensor(&place, "a.sock");
    let bundle = Bundle::PCIUTILS;
    let directory = place
        .path("openhdv-cache")
        .join("openhdv")
        .join(bundle.name);
    let misc = directory.join("root/usr/share/misc");
    std::fs::create_dir_all(&misc).unwrap();
    std::fs::write(misc.join("pci.ids"), "4f48  Vendor\u{1b}of the cache\n").unwrap();
    let manifest = json!({
        "bundle": bundle.name,
        "suite": bundle.suite,
        "packages": bundle.packages,
        "versions": {},
    });
    std::fs::write(directory.join("manifest.json"), manifest.to_string()).unwrap();
    let output = place
        .command(&["probe", "a.sock"])
        .env("XDG_CACHE_HOME", place.path("openhdv-cache"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let of_system = PLACES.iter().any(|place| Path::new(place).exists());
    assert_eq!(
        text.contains("vendor     4f48  Vendor?of the cache"),
        !of_system,
        "{text}"
    );
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let place = Place::new();
    std::fs::write(place.path("file"), "").unwrap();
    std::fs::write(place.path("poll.toml"), "poll = 1000001").unwrap();
    drop(UnixListener::bind(place.path("closed")).unwrap());
    let _datagram = UnixDatagram::bind(place.path("datagram")).unwrap();
    let long = "x".repeat(120);
    for (arguments, part) in [
        (&["serve"][..], "`hdv devices` lists the names"),
        (&["serve", "--device", "sensor"], "has no --socket"),
        (
            &["serve", "--socket", "s", "--device", "sensor"],
            "comes before the first --device",
        ),
        (
            &["serve", "--device", "sensr", "--socket", "s"],
            "there are: sensor",
        ),
        (
            &[
                "serve", "--device", "sensor", "--socket", "s", "--set", "sauce=1",
            ],
            "no setting \"sauce\"",
        ),
        (
            &["serve", "--device", "sensor", "--socket", &long],
            "at most 107",
        ),
        (
            &["serve", "--device", "sensor", "--socket", "file"],
            "is not a socket",
        ),
        (&["serve", "--config", "none.toml"], "cannot read none.toml"),
        (
            &["serve", "--device", "sensor", "--socket", "none/s"],
            "there is no directory none",
        ),
        (
            &["serve", "--device", "sensor", "--socket", "file/s"],
            "there is no directory file",
        ),
        (
            &["serve", "--device", "sensor", "--socket", "new/"],
            "new/ names a directory",
        ),
        (
            &[
                "serve", "--device", "sensor", "--socket", "s", "--set", "source=x",
            ],
            "the device for s: ",
        ),
        (&["serve", "--config", "poll.toml"], "at most 1000000"),
        (&["probe", "none.sock"], "there is no socket none.sock"),
        (&["probe", "file"], "file is not a socket"),
        (&["probe", "."], ". is a directory"),
        (&["probe", &long], "at most 107"),
        (&["probe", "closed"], "nobody listens on closed"),
        (&["probe", "datagram"], "a socket of another type"),
    ] {
        let error = place.failure(1, arguments);
        assert!(
            error.starts_with("error: ") && error.contains(part),
            "{arguments:?}: {error}"
        );
        assert!(!error.contains('\u{1b}'), "{error:?}");
        assert_eq!(
            place.leftovers(),
            Vec::<std::path::PathBuf>::new(),
            "{arguments:?}"
        );
    }
    for arguments in [
        &["serve", "--poll", "x"][..],
        &["prob"],
        &["probe"],
        &["ls", "x"],
    ] {
        let error = place.failure(2, arguments);
        assert!(
            error.contains("Usage") || error.contains("--help"),
            "{error}"
        );
    }
}

#[test]
fn a_server_that_answers_nothing_or_nonsense_does_not_hang_the_probe() {
    let place = Place::new();
    let silent = UnixListener::bind(place.path("silent.sock")).unwrap();
    let garbage = UnixListener::bind(place.path("garbage.sock")).unwrap();
    std::thread::spawn(move || {
        for stream in garbage.incoming() {
            let _ = stream.unwrap().write_all(&[0xff; 4096]);
        }
    });
    // Its backlog is full with the first connection.
    let full = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(
        &full,
        &SocketAddrUnix::new(place.path("full.sock")).unwrap(),
    )
    .unwrap();
    listen(&full, 0).unwrap();
    let _first = UnixStream::connect(place.path("full.sock")).unwrap();
    let start = Instant::now();
    let own = format!("process {}", std::process::id());
    for (socket, part) in [
        ("silent.sock", own.as_str()),
        ("garbage.sock", own.as_str()),
        ("full.sock", "accepts no connections"),
    ] {
        let error = place.failure(1, &["probe", socket]);
        assert!(error.starts_with("error: "), "{error}");
        assert!(error.contains(socket) && error.contains(part), "{error}");
    }
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    drop(silent);
}

#[test]
fn an_unsafe_runtime_directory_is_refused() {
    let place = Place::new();
    let directory = place.path("openhdv");
    std::fs::create_dir(&directory).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&directory, mode).unwrap();
    let error = place.failure(1, &["ls"]);
    assert!(error.contains("chmod 0700"), "{error}");
}

#[test]
fn completions_are_printed_for_every_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.stdout(&["completions", shell]);
        assert!(
            ["probe", "hexdump", "sriov", "enable"]
                .iter()
                .all(|word| script.contains(word)),
            "{shell}"
        );
    }
    let script = place.path("hdv.bash");
    std::fs::write(&script, place.stdout(&["completions", "bash"])).unwrap();
    assert!(
        Command::new("bash")
            .arg("-n")
            .arg(&script)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn a_log_filter_that_makes_no_sense_is_told() {
    let place = Place::new();
    let stderr = |filter| {
        let mut command = place.command(&["devices"]);
        let output = command.env("HDV_LOG", filter).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(stderr("hdv=verbose").contains("HDV_LOG is ignored"));
    assert_eq!(stderr(""), "");
    assert_eq!(stderr("error"), "");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    let (reader, writer) = UnixStream::pair().unwrap();
    drop(reader);
    let output = place
        .command(&["completions", "bash"])
        .stdout(Stdio::from(std::os::fd::OwnedFd::from(writer)))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, b"");
}

#[test]
fn every_subcommand_has_examples() {
    let place = Place::new();
    let commands = [
        "devices",
        "serve",
        "run",
        "create",
        "start",
        "pause",
        "resume",
        "stop",
        "inspect",
        "console",
        "plug",
        "unplug",
        "ls",
        "probe",
        "sriov",
        "sriov list",
        "sriov show",
        "sriov enable",
        "sriov disable",
        "sriov config",
        "doctor",
        "completions",
    ];
    for command in commands {
        let mut arguments: Vec<_> = command.split(' ').collect();
        arguments.push("--help");
        let help = place.stdout(&arguments);
        assert!(
            help.contains(&format!("Examples:\n  hdv {command}")),
            "{help}"
        );
    }
}
