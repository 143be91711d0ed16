//! `hdv serve` and `hdv ls` with PFs, as a person runs them. `hdv sriov` is not here.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Place, Serving};

/// Serves a PF on `pf.sock` with further settings.
fn serve(place: &Place, settings: &[&str]) -> Serving {
    let mut arguments = vec!["--device", "sriov-sensor", "--socket", "pf.sock"];
    for setting in ["source=sine"].iter().chain(settings) {
        arguments.extend(["--set", setting]);
    }
    Serving::start(place, &arguments)
}

fn texts<'a>(devices: &'a Value, key: &str) -> Vec<&'a str> {
    let devices = devices.as_array().unwrap();
    devices
        .iter()
        .map(|device| device[key].as_str().unwrap())
        .collect()
}

#[test]
fn vfs_are_announced_and_listed_below_their_pf() {
    let place = Place::new();
    let mut serving = serve(&place, &["enable=3"]);
    let sockets =
        ["pf", "pf-vf0", "pf-vf1", "pf-vf2"].map(|name| place.path(&format!("{name}.sock")));
    let sockets: Vec<&str> = sockets.iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(texts(&serving.announced["serving"], "socket"), sockets);

    let list = place.json(&["ls", "--json"]);
    let devices = &list["hosts"][0]["devices"];
    assert_eq!(texts(devices, "socket"), sockets);
    assert_eq!(
        texts(devices, "device"),
        ["0x0002", "0x0003", "0x0003", "0x0003"]
    );
    assert_eq!(texts(devices, "class"), ["0x118000"; 4]);
    // Nobody has used a VF yet.
    let states = ["stopped", "powered-off", "powered-off", "powered-off"];
    assert_eq!(texts(devices, "state"), states);
    assert_eq!(devices[0]["vf_of"], Value::Null);
    for vf in 0..3 {
        let expected = json!({"pf": devices[0]["id"], "vf": vf});
        assert_eq!(devices[vf + 1]["vf_of"], expected);
    }
    let text = place.stdout(&["ls"]);
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(lines.len(), 4, "{text}");
    let column = |line: &str| line.find("sriov-sensor").unwrap();
    assert!(column(lines[0]) < column(lines[1]), "{text}");
    assert!(lines[3].contains("sriov-sensor VF 2"), "{text}");

    let probe = place.json(&["probe", "--json", "pf-vf1.sock"]);
    assert_eq!(probe["identity"]["vendor"], "0x4f48");
    assert_eq!(probe["identity"]["device"], "0x0003");
    assert_eq!(probe["regions"][0]["size"], 4096);
    assert_eq!(probe["faults"], json!([]));
    let list = place.json(&["ls", "--json"]);
    let states = texts(&list["hosts"][0]["devices"], "state");
    assert_eq!(states[1], "powered-off", "{states:?}");
    assert_ne!(states[2], "powered-off", "{states:?}");

    assert!(serving.end(Signal::TERM).success());
    assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_pf_without_enabled_vfs_is_alone() {
    let place = Place::new();
    let serving = serve(&place, &[]);
    assert_eq!(serving.announced["serving"].as_array().unwrap().len(), 1);
}

#[test]
fn a_file_can_describe_a_pf() {
    let place = Place::new();
    let text = "[[device]]\nname = \"sriov-sensor\"\nsocket = \"a.sock\"\n\
                set = { source = \"sine\", vfs = 300, enable = 200, guest = true, quota = 1000 }\n\
                [[device]]\nname = \"sriov-sensor\"\nsocket = \"b.sock\"\n\
                set = { source = \"sine\", enable = 1, place = \"f000:03:00.0\" }\n";
    std::fs::write(place.path("devices.toml"), text).unwrap();
    let arguments = ["serve", "--json", "--config", "devices.toml"];
    // Fewer than the VFs need: the soft limit is raised.
    let serving = Serving::start_with(place.command_with_limits(64, 4096, &arguments));
    let devices = serving.announced["serving"].as_array().unwrap();
    assert_eq!(devices.len(), 203);
    place.stdout(&["probe", "a-vf199.sock"]);
    place.stdout(&["probe", "b-vf0.sock"]);
    let shown = place.json(&["sriov", "show", "--json", "a.sock"]);
    assert_eq!(shown["guest_controls_sriov"], true);
    assert_eq!(shown["captured_buses"], 1);
}

#[test]
fn too_few_open_files_for_the_vfs_are_told_with_the_remedy() {
    let place = Place::new();
    let arguments =
        "serve --device sriov-sensor --socket pf.sock --set source=sine --set enable=64";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    // Wherever it strikes among them.
    for limit in [32, 48, 49, 50, 51, 64] {
        let mut command = place.command_with_limits(limit, limit, &arguments);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{limit}: {output:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        let limit = format!("hard limit: {limit}");
        for part in ["the VFs cannot be enabled", &limit, "LimitNOFILE"] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn mistakes_in_a_pf_are_told_with_what_to_do() {
    let place = Place::new();
    let pf = "--device sriov-sensor --set source=sine --socket";
    for (arguments, part) in [
        (
            format!("{pf} a.sock --set enable=65"),
            "the device for a.sock: sriov-sensor: enable=65: a whole number from 0 to 64",
        ),
        (
            format!("{pf} a.sock --set ari=no --set buses=0"),
            "let the port above capture more buses, or forward ARI",
        ),
        (
            format!("{pf} a.sock --set place=01.0"),
            "sriov-sensor: place=01.0: ",
        ),
        (
            format!("{pf} a.sock {pf} b.sock"),
            "a.sock and b.sock both take bus 01 of segment f000; give one of them another, with --set place=",
        ),
        (
            format!("{pf} a.sock --set buses=2 {pf} b.sock --set place=f000:03:00.0"),
            "a.sock and b.sock both take bus 03 of segment f000",
        ),
        (
            format!("{pf} a.sock --set enable=1 --device sensor --socket a-vf0.sock"),
            "a-vf0.sock is in use by this process",
        ),
    ] {
        let arguments: Vec<&str> = ["serve"].into_iter().chain(arguments.split(' ')).collect();
        let error = place.failure(1, &arguments);
        assert!(
            error.starts_with("error: ") && error.contains(part),
            "{arguments:?}: {error}"
        );
        assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
    }
}
