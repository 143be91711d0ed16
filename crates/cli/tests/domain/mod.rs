//! Domains as a person has them: `hdv serve --domain`, `hdv tree`, `hdv plug`, `hdv unplug`, `hdv inject`. The host is a real one,
//! the VM our client end.

mod guest;
mod sriov;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::compute::terminal::OnTerminal;
use crate::support::{Place, Serving};
use guest::Guest;

const LAB: &str = r#"
    [[port]]
    name = "nic"
    device = "sriov-sensor"
    set = { vfs = 8, source = "sine" }

    [[port]]
    name = "rack"
    switch = { count = 2, slot = true, device = "sensor", set = { source = "sine" } }

    [[port]]
    name = "free"
    slot = 7

    [[port]]
    name = "quiet"
    slot = true
    button = false
    device = "sensor"
    set = { source = "sine" }
"#;

fn write(place: &Place, name: &str, text: &str) {
    std::fs::write(place.path(name), text).unwrap();
}

/// Serves the lab, and a plain device beside it.
fn serve(place: &Place) -> Serving {
    write(place, "lab.toml", LAB);
    let lab = ["--domain", "lab.toml", "--socket", "lab.sock"];
    let sensor = ["--device", "sensor", "--socket", "sensor.sock"];
    Serving::start(place, &[&lab[..], &sensor].concat())
}

fn node<'a>(tree: &'a Value, name: &str) -> &'a Value {
    let nodes = tree["domains"][0]["nodes"].as_array().unwrap();
    let found = nodes.iter().find(|node| node["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {tree}"))
}

fn tree(place: &Place) -> Value {
    place.json(&["tree", "--json", "lab"])
}

/// The routing id of a port.
fn routing_id(tree: &Value, name: &str) -> hdv::pci::RoutingId {
    let address = node(tree, name)["address"].as_str().unwrap();
    let number = |text: &str| u8::from_str_radix(text, 16).unwrap();
    let (bus, rest) = address.split_once(':').unwrap();
    let (device, function) = rest.split_once('.').unwrap();
    hdv::pci::RoutingId::new(number(bus), number(device), number(function)).unwrap()
}

#[test]
fn a_domain_is_served_beside_a_device_and_drawn_with_who_has_it() {
    let place = Place::new();
    let mut serving = serve(&place);
    let announced = &serving.announced["serving"];
    assert_eq!(announced[0]["name"], "lab");
    assert_eq!(announced[0]["device"], "0xa77f");
    assert_eq!(announced[1]["name"], "sensor");

    let before = tree(&place);
    assert_eq!(before["domains"][0]["name"], "lab");
    assert_eq!(before["domains"][0]["pid"], serving.pid());
    assert_eq!(before["domains"][0]["endpoint"]["client"], Value::Null);
    let nodes = before["domains"][0]["nodes"].as_array().unwrap();
    let paths = nodes.iter().map(|node| node["path"].as_str().unwrap());
    let paths: Vec<_> = paths.collect();
    assert_eq!(
        paths,
        [
            "01.0",
            "01.0/00.0",
            "02.0",
            "02.0/00.0",
            "02.0/00.0/00.0",
            "02.0/00.0/00.0/00.0",
            "02.0/00.0/01.0",
            "02.0/00.0/01.0/00.0",
            "03.0",
            "04.0",
            "04.0/00.0",
        ]
    );
    assert_eq!(node(&before, "nic:0")["kind"], "physical-function");
    assert_eq!(node(&before, "nic:0")["place"], "lab/nic:0");
    assert_eq!(node(&before, "nic:0")["device"], "0x0002");
    assert_eq!(node(&before, "nic:0")["address"], Value::Null);
    assert_eq!(node(&before, "free")["port"]["slot"]["number"], 7);
    assert_eq!(node(&before, "free")["port"]["slot"]["occupied"], false);
    let text = place.stdout(&["tree"]);
    assert!(text.contains("nobody connected"), "{text}");
    assert!(text.contains("│     │  └─ --:00.0  rack-1:0"), "{text}");
    assert!(text.contains("slot 7 empty, link down"), "{text}");

    let mut guest = Guest::connect(&place, "lab.sock");
    guest.enumerate();
    let after = tree(&place);
    let client = &after["domains"][0]["endpoint"]["client"];
    assert_eq!(client["pid"], std::process::id());
    let nic = node(&after, "nic:0");
    assert_eq!(nic["address"], "01:00.0");
    assert_eq!(nic["memory_enabled"], true);
    assert_eq!(nic["bus_master"], true);
    assert_eq!(nic["state"], "started");
    assert_eq!(nic["sriov"], json!({"total_vfs": 8, "num_vfs": 0}));
    let text = place.stdout(&["tree", "lab"]);
    let own = format!("connected: process {}", std::process::id());
    assert!(text.contains(&own), "{text}");
    assert!(
        text.contains("started, memory, bus master, 0 of 8 VFs"),
        "{text}"
    );
    assert!(text.contains("root port, bus 01, link up"), "{text}");
    drop(guest);
    assert!(serving.end(Signal::TERM).success());
    assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn devices_come_and_go_before_a_vm_runs() {
    let place = Place::new();
    let _serving = serve(&place);
    let plugged = place.json(&[
        "plug",
        "lab/free",
        "--device",
        "sensor,source=sine",
        "--json",
    ]);
    assert_eq!(plugged["name"], "free:0");
    assert_eq!(plugged["port"], "free");
    assert_eq!(plugged["told"], false);
    assert_eq!(node(&tree(&place), "free:0")["kind"], "function");
    let out = place.json(&["unplug", "lab/rack-1:0", "--json"]);
    assert_eq!(out["port"], "rack-1");
    assert_eq!(out["is_above"], true);
    assert_eq!(out["asked"], false);
    assert_eq!(
        node(&tree(&place), "rack-1")["port"]["slot"]["occupied"],
        false
    );
    // By the way there, and with a name.
    let device = ["--device", "sensor,source=sine", "--name", "thermometer"];
    place.stdout(&[&["plug", "lab/02.0/00.0/00.0"], &device[..]].concat());
    assert_eq!(
        node(&tree(&place), "thermometer")["path"],
        "02.0/00.0/00.0/00.0"
    );
}

#[test]
fn a_guest_turns_slots_off_and_on_when_the_button_is_pressed() {
    let place = Place::new();
    let _serving = serve(&place);
    let mut guest = Guest::connect(&place, "lab.sock");
    guest.enumerate();
    let before = tree(&place);
    let ports = ["rack-1", "rack-2", "free", "quiet"].map(|name| routing_id(&before, name));
    for port in ports {
        guest.listen(port);
    }
    let driver = guest.drive(ports.to_vec());
    let out = place.json(&["unplug", "lab/rack-1", "--json"]);
    assert_eq!(out["asked"], true);
    let after = tree(&place);
    let slot = &node(&after, "rack-1")["port"]["slot"];
    assert_eq!(slot["occupied"], false);
    assert_eq!(slot["powered"], false);
    let plugged = place.json(&["plug", "lab/rack-1", "--device", "sensor", "--json"]);
    assert_eq!(plugged["told"], true);
    assert_eq!(plugged["listens"], true);
    assert_eq!(node(&tree(&place), "rack-1:0")["state"], "started");
    place.stdout(&["plug", "lab/free", "--device", "sriov-sensor,vfs=2"]);
    let text = place.stdout(&["unplug", "lab/rack-2", "--surprise"]);
    assert!(text.contains("without a word before"), "{text}");
    let error = place.failure(1, &["unplug", "lab/quiet"]);
    assert!(
        error.contains("no attention button; `hdv unplug --surprise`"),
        "{error}"
    );
    place.stdout(&["inject", "lab/quiet:0", "surprise-removal"]);

    place.stdout(&["unplug", "lab/rack-1:0"]);

    // Nobody turns it off in time: it stays.
    let mut guest = driver.end();
    let error = place.failure(1, &["unplug", "lab/free", "--timeout", "0"]);
    assert!(
        error.contains("has not turned the slot of \"free\" off within 0"),
        "{error}"
    );
    assert_eq!(node(&tree(&place), "free:0")["kind"], "physical-function");
    // But it does later, and somebody takes out what is in it then.
    guest.look_at(ports[2]);
    let out = place.stdout(&["unplug", "lab/free"]);
    assert_eq!(
        out,
        "the slot of free of lab is empty; it was off already\n"
    );
    let sensor = ["--device", "sensor", "--timeout", "0"];
    let error = place.failure(1, &[&["plug", "lab/rack-1"], &sensor[..]].concat());
    assert!(error.contains("is in the slot of \"rack-1\""), "{error}");
    assert_eq!(node(&tree(&place), "rack-1:0")["kind"], "function");
}

#[test]
fn a_guest_that_listens_to_no_slot_is_told_of() {
    const REMEDY: &str =
        "start QEMU with -global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off";
    let place = Place::new();
    let _serving = serve(&place);
    let mut guest = Guest::connect(&place, "lab.sock");
    guest.enumerate();
    let error = place.failure(1, &["unplug", "lab/rack-1:0"]);
    assert!(error.contains("no driver in the guest"), "{error}");
    assert!(error.contains(REMEDY), "{error}");
    let error = place.failure(1, &["unplug", "lab/quiet"]);
    assert!(!error.contains(REMEDY), "{error}");
    let text = place.stdout(&["plug", "lab/free", "--device", "sensor"]);
    assert!(text.contains("free:0 is in the slot of free"), "{text}");
    assert!(
        text.contains("no driver of the guest listens to slots; it is found at the next rescan"),
        "{text}"
    );
    assert!(text.contains(REMEDY), "{text}");
    let text = place.stdout(&["unplug", "lab/free", "--surprise"]);
    assert!(text.contains("without a word before"), "{text}");
    let plugged = place.json(&["plug", "lab/free", "--device", "sensor", "--json"]);
    assert_eq!(
        (&plugged["told"], &plugged["listens"]),
        (&json!(true), &json!(false))
    );
}

#[test]
fn what_goes_wrong_reaches_the_guest() {
    let place = Place::new();
    let _serving = serve(&place);
    let mut guest = Guest::connect(&place, "lab.sock");
    guest.enumerate();
    let before = tree(&place);
    let (nic, port) = (routing_id(&before, "nic:0"), routing_id(&before, "nic"));
    place.stdout(&["inject", "lab/nic:0", "config-failure", "--count", "2"]);
    let ids = [(); 3].map(|()| guest.word(nic, 0));
    assert_eq!(ids, [0xffff, 0xffff, 0x4f48]);

    // Device Status of the PCI Express capability (7.5.3.5): correctable, non-fatal and fatal error detected.
    let status = guest.express(nic) + 0x0a;
    for (arguments, bit) in [
        (&["correctable"][..], 1_u16 << 0),
        (
            &["non-fatal", "--error", "COMP_TIME", "--count", "3"],
            1 << 1,
        ),
        (&["fatal", "--error", "surprise-down"], 1 << 2),
    ] {
        guest.set_word(nic, status, 0xf);
        place.stdout(&[&["inject", "lab/nic:0"], arguments].concat());
        assert_eq!(guest.word(nic, status) & 0xf, bit, "{arguments:?}");
    }

    // Nothing of the guest has enabled reporting.
    let timeout = ["non-fatal", "--error", "CmpltTO", "--count", "2"];
    let text = place.stdout(&[&["inject", "lab/nic:0"], &timeout[..]].concat());
    let expected = "completion-timeout 2 times at nic:0 of lab: recorded, not reported";
    assert!(text.starts_with(expected), "{text}");
    let done = place.json(&[&["inject", "--json", "lab/nic:0"], &timeout[..]].concat());
    assert_eq!(done["fault"], "non-fatal");
    assert_eq!(done["error"], "completion-timeout");
    assert_eq!(done["count"], 2);
    assert_eq!(done["reported"], false);
    let reads = ["config-failure", "--count", "0"];
    let done = place.json(&[&["inject", "--json", "lab/nic:0"], &reads[..]].concat());
    assert_eq!(done["fault"], "config-failure");
    assert_eq!((&done["error"], &done["count"]), (&Value::Null, &json!(0)));
    for vf in ["nic:0/vf1", "01.0/00.0/vf1", "nic:0 VF 1"] {
        let error = place.failure(1, &["inject", &format!("lab/{vf}"), "correctable"]);
        let pf = vf.trim_end_matches("/vf1").trim_end_matches(" VF 1");
        let expected = format!("name its physical function, lab/{pf}\n");
        assert!(error.ends_with(&expected), "{error}");
    }

    let done = place.json(&["inject", "--json", "lab/nic:0", "link-down"]);
    assert_eq!(done["fault"], "link-down");
    assert_eq!(
        (&done["error"], &done["count"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(done["reported"], true);
    assert_eq!(done["place"], "nic");
    assert_eq!(done["is_above"], true);
    assert_eq!(guest.word(nic, 0), 0xffff);
    assert_eq!(node(&tree(&place), "nic")["port"]["link_up"], false);
    assert_eq!(guest.word(port, 0), 0x4f48);
    place.stdout(&["inject", "lab/nic", "link-up"]);
    assert_eq!(node(&tree(&place), "nic")["port"]["link_up"], true);
    assert_eq!(guest.word(nic, 0), 0x4f48);
}

#[test]
fn what_cannot_be_done_is_told_with_its_remedy() {
    let place = Place::new();
    let error = place.failure(1, &["tree", "lab"]);
    assert!(
        error.contains("no domain \"lab\"\n`hdv serve --domain"),
        "{error}"
    );
    let _serving = serve(&place);
    for (arguments, part) in [
        (&["tree", "lob"][..], "no domain \"lob\"; there are: lab"),
        (&["tree", "--watch"], "--watch draws on a terminal"),
        (
            &["plug", "lab/moon", "--device", "sensor"],
            "at \"moon\" in the domain",
        ),
        (
            &["plug", "lab/free", "--device", "censor"],
            "there is no device \"censor\"",
        ),
        (
            &["plug", "lab/free", "--device", "sensor,sauce=1"],
            "sensor has no setting \"sauce\"",
        ),
        (
            &["plug", "lab/free", "--device", "sriov-sensor,enable=1"],
            "\"enable\" has no meaning in a domain",
        ),
        (
            &["plug", "lab/quiet", "--device", "sensor"],
            "the slot of \"quiet\" is taken",
        ),
        (
            &["plug", "lab/free", "--device", "sensor", "--config", "x"],
            "--config x is not of the form KEY=VALUE",
        ),
        (
            &["plug", "lab/free", "--device", "sensr"],
            "did you mean \"sensor\"?",
        ),
        (
            &["plug", "lab/nic", "--device", "sensor"],
            "\"nic\" has no slot with hot plug",
        ),
        (
            &["plug", "lab/free", "--device", "sensor", "--name", "nic"],
            "\"nic\" is the name of something else",
        ),
        (
            &["unplug", "lab/free"],
            "the slot of \"free\" is empty already",
        ),
        (&["unplug", "lab"], "say which device of lab"),
        (&["unplug", "lab/"], "\"lab/\" is no place in a domain"),
        (
            &["inject", "lab/nic", "fatal", "--error", "moon"],
            "there is no error \"moon\"",
        ),
        (
            &["inject", "lab/nic", "fatal", "--error", "ecrc"],
            "ecrc is non-fatal",
        ),
        (
            &["inject", "lab/nic", "fatal", "--count", "0"],
            "0 errors cannot be injected",
        ),
        (
            &["inject", "lab/nic", "link-up", "--count", "2"],
            "--count goes with",
        ),
        (
            &["inject", "lab/nic", "link-up", "--error", "ecrc"],
            "--error names an error",
        ),
    ] {
        let error = place.failure(1, arguments);
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}

#[test]
fn a_wrong_file_leaves_nothing_behind() {
    let place = Place::new();
    write(
        &place,
        "lab.toml",
        "[[port]]\nname = \"a\"\n\n[[port]]\nname = \"b\"\ndevice = \"censor\"\n",
    );
    let domain = ["serve", "--domain", "lab.toml", "--socket", "lab.sock"];
    let error = place.failure(1, &domain);
    let expected = "lab.toml: line 4, port \"b\": there is no device \"censor\"; there are: sensor";
    assert!(error.contains(expected), "{error}");
    write(&place, "lab.toml", "[[port]]\nspeed = 1\n");
    let error = place.failure(1, &domain);
    assert!(
        error.contains("line 2") && error.contains("speed"),
        "{error}"
    );
    let error = place.failure(1, &["serve", "--domain", "none.toml", "--socket", "s"]);
    assert!(error.contains("cannot read none.toml"), "{error}");
    // Whatever it is: a pipe would be waited for, and a device has no end.
    for option in ["--domain", "--config"] {
        let socket = ["--socket", "s"];
        let socket = if option == "--domain" {
            &socket[..]
        } else {
            &[]
        };
        let error = place.failure(1, &[&["serve", option, "/dev/zero"], socket].concat());
        assert!(
            error.contains("/dev/zero: it is no regular file"),
            "{error}"
        );
    }
    // What a file has in it does not reach the terminal as it is.
    write(&place, "lab.toml", "[[port]]\nname = \"\u{1b}]0;x\u{7}\"\n");
    let error = place.failure(1, &domain);
    assert!(error.contains("?]0;x?"), "{error}");
    let device = "device = \"sensor\"\nset = { source = \"csv:\\u001b[2J\" }\n";
    write(&place, "lab.toml", &format!("[[port]]\n{device}"));
    let error_with_value = place.failure(1, &domain);
    for error in [&error, &error_with_value] {
        assert!(!error.contains(['\u{1b}', '\u{7}']), "{error:?}");
    }
    // Of what is too deep for Linux a word is said, and nothing more.
    write(&place, "deep.toml", "[[port]]\ndepth = 25\n");
    let deep = ["serve", "--domain", "deep.toml", "--socket", "none/s"];
    let error = place.failure(1, &deep);
    assert!(error.contains("deep.toml: 51 buses"), "{error}");
    assert!(error.contains("none/s"), "{error}");
    write(&place, "lab.toml", LAB);
    write(&place, "other.toml", &format!("name = \"lab\"\n{LAB}"));
    let two = ["--domain", "other.toml", "--socket", "other.sock"];
    let error = place.failure(1, &[&domain[..], &two].concat());
    assert!(
        error.contains("the domains for lab.sock and other.sock are both called \"lab\""),
        "{error}"
    );
    assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn domains_of_one_host_are_apart_and_those_of_two_are_told_apart() {
    let place = Place::new();
    write(&place, "two.toml", &format!("name = \"second\"\n{LAB}"));
    write(&place, "lab.toml", LAB);
    let domain = |file, socket| ["--domain", file, "--socket", socket];
    let both = [domain("lab.toml", "1.sock"), domain("two.toml", "2.sock")].concat();
    let first = Serving::start(&place, &both);
    place.stdout(&["plug", "second/free", "--device", "sensor"]);
    let occupied = |domain: &str| {
        let tree = place.json(&["tree", "--json", domain]);
        node(&tree, "free")["port"]["slot"]["occupied"].clone()
    };
    assert_eq!(occupied("second"), true);
    assert_eq!(occupied("lab"), false);

    let second = Serving::start(&place, &domain("lab.toml", "3.sock"));
    let error = place.failure(1, &["tree", "lab"]);
    let names = [first.pid(), second.pid()].map(|pid| format!("{pid}/lab"));
    assert!(names.iter().all(|name| error.contains(name)), "{error}");
    let at = format!("{}/free", names[1]);
    place.stdout(&["plug", &at, "--device", "sensor"]);
    assert_eq!(occupied(&names[0]), false);
    assert_eq!(occupied(&names[1]), true);
    // However the process is said, and as JSON has it.
    let shown = place.json(&["tree", "--json", &format!("{}:lab", second.pid())]);
    assert_eq!(node(&shown, "free")["place"], at);
    let error = place.failure(1, &["inject", "1:lab/free", "link-up"]);
    assert!(error.contains("no domain \"1:lab\""), "{error}");
    assert!(names.iter().all(|name| error.contains(name)), "{error}");
    let all = place.json(&["tree", "--json"]);
    assert_eq!(all["domains"].as_array().unwrap().len(), 3);
}

#[test]
fn a_tree_is_watched_until_a_signal_and_stays_then() {
    let place = Place::new();
    let _serving = serve(&place);
    let mut command = place.command(&["tree", "--watch", "lab"]);
    command.env("NO_COLOR", "1");
    let mut watching = OnTerminal::start(command);
    watching.shows("slot 7 empty");
    place.stdout(&["plug", "lab/free", "--device", "sensor,source=sine"]);
    watching.shows("slot 7 on");
    watching.send(Signal::INT);
    assert!(watching.end().success());
    // The last line of the picture, with nothing behind it that erases it.
    watching.comes_to("quiet:0   4f48:0001  stopped\r\n");
}

#[test]
fn a_tree_that_does_not_fit_draws_vfs_together() {
    let place = Place::new();
    let _serving = serve(&place);
    let mut guest = Guest::connect(&place, "lab.sock");
    guest.enumerate();
    place.stdout(&["sriov", "enable", "lab/nic:0", "8"]);
    let text = place.stdout(&["tree", "lab"]);
    assert!(text.contains("  vf7 "), "{text}");
    let mut command = place.command(&["tree", "--watch", "lab"]);
    command.env("NO_COLOR", "1");
    let mut watching = OnTerminal::start(command);
    watching.resize(18);
    watching.shows("vf0 to vf7  8 VFs, 0 started");
    watching.shows("slot 7 empty");
    watching.resize(40);
    watching.shows("  vf7 ");
}

#[test]
fn watching_ends_at_once_while_a_host_hangs() {
    let place = Place::new();
    let serving = serve(&place);
    serving.send(Signal::STOP);
    let mut watching = OnTerminal::start(place.command(&["tree", "--watch", "lab"]));
    watching.shows("Asking the device hosts");
    watching.send(Signal::INT);
    assert!(watching.end().success());
}

#[test]
fn what_a_client_sends_is_checked() {
    let place = Place::new();
    let _serving = serve(&place);
    let control = tree(&place)["domains"][0]["control"].clone();
    let mut client = hdv_control::Client::connect(control.as_str().unwrap().as_ref()).unwrap();
    let settings: serde_json::Map<_, _> = (0..300).map(|n| (n.to_string(), json!(""))).collect();
    for (command, arguments, part) in [
        ("domain-tree", json!({}), "missing field `domain`"),
        ("domain-tree", json!({"domain": "lob"}), "no domain \"lob\""),
        (
            "domain-tree",
            json!({"domain": "lab", "more": 1}),
            "unknown field `more`",
        ),
        (
            "domain-attach",
            json!({"domain": "lab", "place": "free", "device": "sensor", "wait": 86_400_001}),
            "86400001 milliseconds are too long",
        ),
        (
            "domain-attach",
            json!({"domain": "lab", "place": "free", "device": "sensor", "wait": 0, "settings": settings}),
            "300 settings are too many",
        ),
        (
            "domain-attach",
            json!({"domain": "lab", "place": "free", "device": "sensor", "wait": 0, "name": "a/b"}),
            "\"a/b\" is no name",
        ),
        (
            "domain-detach",
            json!({"domain": "lab", "place": "quiet", "surprise": true, "wait": u64::MAX}),
            "milliseconds are too long",
        ),
        (
            "domain-inject",
            json!({"domain": "lab", "place": "nic", "fault": {"correctable": 2}, "count": 1}),
            "0x2 does not stand for errors",
        ),
        (
            "domain-inject",
            json!({"domain": "lab", "place": "nic", "fault": {"uncorrectable": 0}, "count": 1}),
            "0x0 does not stand for errors",
        ),
        (
            "domain-inject",
            json!({"domain": "lab", "place": "nic", "fault": {"correctable": 1}, "count": 10_001}),
            "10001 errors cannot be injected",
        ),
        (
            "domain-inject",
            json!({"domain": "lab", "place": "nic", "fault": "moon", "count": 1}),
            "unknown variant `moon`",
        ),
    ] {
        let error = client.call(command, &arguments).unwrap_err().to_string();
        assert!(error.contains(part), "{command} {arguments}: {error}");
    }
    assert_eq!(
        node(&tree(&place), "free")["port"]["slot"]["occupied"],
        false
    );
    assert_eq!(
        node(&tree(&place), "quiet")["port"]["slot"]["occupied"],
        true
    );
}
