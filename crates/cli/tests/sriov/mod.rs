//! `hdv sriov` over emulated PFs, as a person runs it.

use std::time::{Duration, Instant};

use hdv_vfio_user::client::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{GENEROUS, Place, Serving};

/// Serves a PF with 4 VFs at `place`.
fn serve(directory: &Place, socket: &str, place: &str) -> Serving {
    let place = format!("place={place}");
    let arguments = [
        "--device",
        "sriov-sensor",
        "--socket",
        socket,
        "--set",
        "source=sine",
        "--set",
        "vfs=4",
        "--set",
        &place,
    ];
    Serving::start(directory, &arguments)
}

/// Says to a device something that starts it.
fn use_it(directory: &Place, socket: &str) -> Client {
    let mut client = crate::connect(directory, socket);
    client.region_read(7, 0, &mut [0; 4]).unwrap();
    client
}

fn names(list: &Value) -> Vec<&str> {
    let pfs = list["pfs"].as_array().unwrap();
    pfs.iter().map(|pf| pf["name"].as_str().unwrap()).collect()
}

#[test]
fn without_a_pf_it_is_said_how_to_get_one() {
    let place = Place::new();
    let list = place.json(&["sriov", "list", "--json"]);
    // This machine may have one.
    let machine_has_none = list["pfs"] == json!([]);
    if machine_has_none {
        let text = place.stdout(&["sriov", "list"]);
        assert!(text.contains("There is no PF"), "{text}");
        assert!(text.contains("--device sriov-sensor"), "{text}");
    }
    let error = place.failure(1, &["sriov", "show", "fffe:00:00.0"]);
    assert!(error.contains("there is no PF fffe:00:00.0"), "{error}");
    assert_eq!(
        error.contains("--device sriov-sensor"),
        machine_has_none,
        "{error}"
    );
}

#[test]
fn vfs_are_enabled_shown_and_disabled() {
    let place = Place::new();
    let serving = serve(&place, "nic.sock", "fffe:fd:00.0");
    let list = place.json(&["sriov", "list", "--json"]);
    let pf = list["pfs"].as_array().unwrap().last().unwrap();
    assert_eq!(list["errors"], json!([]));
    assert_eq!(pf["name"], "fffe:fd:00.0");
    assert_eq!(pf["kind"], "emulated");
    assert_eq!(pf["pid"], serving.pid());
    assert_eq!(pf["total_vfs"], 4);
    assert_eq!(pf["vf_enable"], false);
    assert_eq!(pf["guest_controls_sriov"], false);
    assert_eq!(
        pf["device"]["socket"],
        place.path("nic.sock").to_str().unwrap()
    );
    let text = place.stdout(&["sriov", "list"]);
    let line = text.lines().find(|line| line.starts_with("fffe:fd:00.0"));
    assert!(line.is_some_and(|line| line.contains("0 of 4")), "{text}");
    let text = place.stdout(&["sriov", "show", "fffe:fd:00.0"]);
    assert!(
        text.contains("none; `hdv sriov enable fffe:fd:00.0 N`"),
        "{text}"
    );

    let text = place.stdout(&["sriov", "enable", "fffe:fd:00.0", "3"]);
    assert!(
        text.starts_with("3 VFs of fffe:fd:00.0 are enabled.\n"),
        "{text}"
    );
    let socket = |vf: u16| place.path(&format!("nic-vf{vf}.sock"));
    for vf in 0..3 {
        assert!(
            text.contains(socket(vf).to_str().unwrap()) && socket(vf).exists(),
            "{text}"
        );
    }

    let shown = place.json(&["sriov", "show", "--json", "nic.sock"]);
    assert_eq!(shown["vf_enable"], true);
    assert_eq!(shown["num_vfs"], 3);
    assert_eq!(shown["captured_buses"], 0);
    let registers = &shown["registers"];
    assert_eq!(registers["num_vfs"], 3);
    assert_eq!(registers["control"][0], "VF Enable");
    assert_eq!(registers["system_page_size"], 4096);
    assert_eq!(shown["probed_bars"][0], "0xfffff004");
    assert_eq!(
        shown["vf_bars"],
        json!([{"index": 0, "kind": "memory64", "prefetchable": false, "size": 4096, "address": "0x0"}])
    );
    let vfs = shown["vfs"].as_array().unwrap();
    assert_eq!(vfs.len(), 3);
    for (number, vf) in vfs.iter().enumerate() {
        let number = u16::try_from(number).unwrap();
        assert_eq!(vf["vf"], number);
        assert_eq!(vf["address"], format!("fffe:fd:00.{}", number + 1));
        assert_eq!(vf["socket"], socket(number).to_str().unwrap());
        assert_eq!(vf["state"], "powered-off");
        assert_eq!(vf["client"], Value::Null);
    }

    // Who uses one is told, also when it is taken away.
    let client = use_it(&place, "nic-vf1.sock");
    let shown = place.json(&["sriov", "show", "--json", "nic.sock"]);
    assert_eq!(shown["vfs"][1]["client"]["pid"], std::process::id());
    let text = place.stdout(&["sriov", "show", "nic.sock"]);
    let line = text
        .lines()
        .find(|line| line.contains("nic-vf1.sock"))
        .unwrap();
    assert!(
        line.contains("started") && line.contains(&format!("process {}", std::process::id())),
        "{line}"
    );
    for part in [
        "fc0  NumVFs                             0003      3",
        "VF Enable, ARI Capable Hierarchy",
        "fffff004 ffffffff",
        "not the VM that has the PF",
        "captured buses  0",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let text = place.stdout(&["sriov", "disable", "fd:00.0"]);
    assert_eq!(
        text,
        "3 VFs of fffe:fd:00.0 are disabled.\n\
         1 had a client: what it reads of its VF is all ones from now on.\n"
    );
    drop(client);
    let after = place.json(&["sriov", "show", "--json", "nic.sock"]);
    assert_eq!(
        (&after["vf_enable"], &after["num_vfs"]),
        (&json!(false), &json!(0))
    );
    assert_eq!(after["vfs"], json!([]));
    assert!(!socket(0).exists());

    let enabled = place.json(&["sriov", "enable", "--json", "nic.sock", "1"]);
    assert_eq!(enabled["vfs"][0]["socket"], socket(0).to_str().unwrap());
    let disabled = place.json(&["sriov", "disable", "--json", "nic.sock"]);
    assert_eq!(disabled["vf_enable"], false);
}

#[test]
fn refusals_say_what_is_wrong_and_what_to_do() {
    let place = Place::new();
    let _serving = serve(&place, "nic.sock", "fffe:fd:00.0");
    let _sensor = Serving::sensor(&place, "sensor.sock");
    let refused = |arguments: &[&str], parts: &[&str]| {
        let arguments = [&["sriov"], arguments].concat();
        let error = place.failure(1, &arguments);
        assert!(error.starts_with("error: "), "{error}");
        for part in parts {
            assert!(
                error.contains(part),
                "{arguments:?}: {part} is not in:\n{error}"
            );
        }
        error
    };
    refused(&["disable", "nic.sock"], &["VFs are disabled already"]);
    refused(
        &["enable", "nic.sock", "0"],
        &["`hdv sriov disable fffe:fd:00.0` disables them"],
    );
    for count in ["0", "5"] {
        let range = format!("{count} VFs cannot be enabled: 1 to 4 are possible");
        refused(&["enable", "nic.sock", count], &[&range]);
    }
    place.stdout(&["sriov", "enable", "nic.sock", "2"]);
    refused(
        &["enable", "nic.sock", "2"],
        &[
            "2 VFs are enabled already",
            "`hdv sriov disable fffe:fd:00.0`",
        ],
    );
    // Parameters are checked before state, and disabling would not help.
    let error = refused(&["enable", "nic.sock", "5"], &["1 to 4 are possible"]);
    assert!(!error.contains("hdv sriov disable"), "{error}");
    refused(
        &["show", "nic-vf1.sock"],
        &["VF 1 of PF fffe:fd:00.0", "`hdv sriov show fffe:fd:00.0`"],
    );
    refused(&["show", "fffe:fd:00.2"], &["VF 1 of PF fffe:fd:00.0"]);
    refused(
        &["show", "sensor.sock"],
        &[
            "sensor at sensor.sock",
            "no SR-IOV capability",
            "There are:",
        ],
    );
    refused(
        &["show", "fffe:fe:00.0"],
        &[
            "there is no PF fffe:fe:00.0",
            "fffe:fd:00.0  sriov-sensor of process",
        ],
    );
    refused(
        &["show", "none.sock"],
        &["no socket of that name", "There are:"],
    );
    let _stranger = std::os::unix::net::UnixListener::bind(place.path("stranger.sock")).unwrap();
    refused(
        &["show", "stranger.sock"],
        &[
            "no running device host has stranger.sock",
            "XDG_RUNTIME_DIR",
        ],
    );
    refused(&["show", "/"], &["/ is no PF", "There are:"]);
    refused(
        &["show", "fffe:fd:20.0"],
        &["is no PCI address", "`hdv sriov list`"],
    );
    let error = place.failure(2, &["sriov", "enable", "nic.sock", "65536"]);
    assert!(error.contains("0..=65535"), "{error}");
    let error = place.failure(2, &["sriov", "enable", "nic.sock"]);
    assert!(error.contains("Usage"), "{error}");
}

#[test]
fn a_pf_is_named_in_every_way_that_is_told() {
    let place = Place::new();
    let first = serve(&place, "a.sock", "fffe:fd:00.0");
    let second = serve(&place, "b.sock", "fffe:fd:00.0");
    let third = serve(&place, "c.sock", "fffd:fd:00.0");
    let list = place.json(&["sriov", "list", "--json"]);
    let of_second = format!("{}/fffe:fd:00.0", second.pid());
    let of_first = format!("{}/fffe:fd:00.0", first.pid());
    let names = names(&list);
    for name in [&*of_first, &of_second, "fffd:fd:00.0"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    for (ambiguous, candidates) in [
        ("fffe:fd:00.0", &[&*of_first, &of_second][..]),
        ("fd:00.0", &[&of_first, &of_second, "fffd:fd:00.0"]),
    ] {
        let error = place.failure(1, &["sriov", "show", ambiguous]);
        for candidate in candidates {
            assert!(error.contains(&format!("\n  {candidate}  ")), "{error}");
        }
    }
    let absolute = place.path("b.sock");
    let short = format!("{}/fd:00.0", second.pid());
    for name in [&*of_second, &short, "b.sock", absolute.to_str().unwrap()] {
        let shown = place.json(&["sriov", "show", "--json", name]);
        assert_eq!(shown["pid"], second.pid(), "{name}");
        assert_eq!(shown["name"], of_second, "{name}");
    }
    let shown = place.json(&["sriov", "show", "--json", "fffd:fd:00.0"]);
    assert_eq!(shown["pid"], third.pid());
    // Only the one that is meant changes.
    place.stdout(&["sriov", "enable", &of_second, "1"]);
    let shown = place.json(&["sriov", "show", "--json", "a.sock"]);
    assert_eq!(shown["vf_enable"], false);
}

/// The bytes of a dump in the form of `lspci -F`, after a line with this address.
fn bytes(dump: &str, address: &str) -> Vec<u8> {
    let mut lines = dump.lines();
    let heading = lines.next().unwrap();
    assert!(heading.starts_with(&format!("{address} ")), "{heading}");
    let mut bytes = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (offset, rest) = line.split_once(": ").unwrap();
        assert_eq!(usize::from_str_radix(offset, 16).unwrap(), bytes.len());
        bytes.extend(
            rest.split(' ')
                .map(|byte| u8::from_str_radix(byte, 16).unwrap()),
        );
    }
    bytes
}

#[test]
fn config_space_is_dumped_and_says_why_it_is_nothing() {
    let place = Place::new();
    let _serving = serve(&place, "nic.sock", "fffe:fd:00.0");
    let error = place.failure(1, &["sriov", "config", "nic.sock", "1"]);
    for part in [
        "VF 1 of fffe:fd:00.0 reads 0 bytes",
        "VF Enable is clear",
        "`hdv sriov enable fffe:fd:00.0 2`",
    ] {
        assert!(error.contains(part), "{part} is not in:\n{error}");
    }
    let before = bytes(
        &place.stdout(&["sriov", "config", "nic.sock"]),
        "fffe:fd:00.0",
    );
    place.stdout(&["sriov", "enable", "nic.sock", "2"]);
    let pf = bytes(
        &place.stdout(&["sriov", "config", "nic.sock"]),
        "fffe:fd:00.0",
    );
    assert_eq!(pf.len(), 4096);
    // VF Enable and NumVFs, nothing else.
    let changed: Vec<_> = (0..4096).filter(|at| pf[*at] != before[*at]).collect();
    let sriov = place.json(&["sriov", "show", "--json", "nic.sock"])["capability"].clone();
    let sriov = sriov.as_str().unwrap().trim_start_matches("0x").to_owned();
    let sriov = usize::from_str_radix(&sriov, 16).unwrap();
    assert_eq!(changed, [sriov + 0x08, sriov + 0x10]);
    let probed = place.stdout(&["probe", "--hexdump", "nic.sock"]);
    assert_eq!(bytes(&probed, "00:00.0"), pf);

    let vf = bytes(
        &place.stdout(&["sriov", "config", "nic.sock", "1"]),
        "fffe:fd:00.2",
    );
    assert_eq!(vf.len(), 4096);
    assert_eq!(vf[..4], [0xff; 4]);
    assert_eq!(vf[0x10..0x28], [0; 0x18]);
    let json = place.json(&["sriov", "config", "--json", "nic.sock", "1"]);
    assert_eq!(json["vf"], 1);
    assert_eq!(json["address"], "fffe:fd:00.2");
    assert_eq!(json["config"]["identity"]["vendor"], "0xffff");
    let hexadecimal: String = vf.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(json["bytes"], hexadecimal);

    let error = place.failure(1, &["sriov", "config", "nic.sock", "2"]);
    assert!(
        error.contains("2 VFs are enabled") && error.contains("`hdv sriov enable fffe:fd:00.0 3`"),
        "{error}"
    );
    let error = place.failure(1, &["sriov", "config", "nic.sock", "4"]);
    assert!(error.contains("TotalVFs is 4"), "{error}");
}

#[test]
fn the_probe_names_the_registers_of_the_capability() {
    let place = Place::new();
    let _serving = serve(&place, "nic.sock", "fffe:fd:00.0");
    let probe = place.json(&["probe", "--json", "nic.sock"]);
    let capabilities = probe["extended_capabilities"].as_array().unwrap();
    let details = |id: &str| {
        let capability = capabilities.iter().find(|found| found["id"] == id);
        capability.unwrap()["details"].clone()
    };
    let sriov = details("0x0010");
    assert_eq!(sriov["kind"], "sr-iov");
    assert_eq!(sriov["total_vfs"], 4);
    assert_eq!(sriov["control"], json!(["ARI Capable Hierarchy"]));
    let ari = details("0x000e");
    assert_eq!(
        (&ari["kind"], &ari["next_function"]),
        (&json!("ari"), &json!(0))
    );
    assert_eq!(probe["faults"], json!([]));
    let text = place.stdout(&["probe", "nic.sock"]);
    for part in ["TotalVFs 0004: 4", "System Page Size 00000001: 4 KiB"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

#[test]
fn a_host_that_does_not_answer_is_told_and_the_others_are_listed() {
    let place = Place::new();
    let stopped = serve(&place, "a.sock", "fffe:fd:00.0");
    let _other = serve(&place, "b.sock", "fffe:fe:00.0");
    let pid = Pid::from_raw(stopped.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let process = format!("process {} (hdv)", stopped.pid());
    let begin = Instant::now();
    let list = place.json(&["sriov", "list", "--json"]);
    assert!(names(&list).contains(&"fffe:fe:00.0"), "{list}");
    let error = list["errors"][0].as_str().unwrap();
    assert!(
        error.starts_with(&process) && error.contains("no answer within 5 seconds"),
        "{error}"
    );
    let error = place.failure(1, &["sriov", "enable", "fffe:fd:00.0", "1"]);
    assert!(
        error.contains("there is no PF fffe:fd:00.0")
            && error.contains(&format!("Not looked at: {process}")),
        "{error}"
    );
    assert!(begin.elapsed() < GENEROUS, "{:?}", begin.elapsed());
    assert!(begin.elapsed() > Duration::from_secs(5));
    kill_process(pid, Signal::CONT).unwrap();
    place.stdout(&["sriov", "enable", "fffe:fd:00.0", "1"]);
}
