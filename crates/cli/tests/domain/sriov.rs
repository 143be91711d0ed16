//! `hdv sriov` over PFs inside a domain: it shows what the guest made of them, and what it does the guest sees.

use hdv::pci::RoutingId;
use hdv::pci::enumerate::{Enumeration, FoundFunction, disable_vfs, enable_vfs};
use hdv_devices::sriov_sensor::registers::PF_DEVICE_ID;
use serde_json::{Value, json};

use super::guest::Guest;
use super::{LAB, node, serve, tree, write};
use crate::support::{Place, Serving};

/// Names of PFs that are not this machine's.
fn listed(place: &Place) -> Vec<String> {
    let list = place.json(&["sriov", "list", "--json"]);
    assert_eq!(list["errors"], json!([]));
    let pfs = list["pfs"].as_array().unwrap().iter();
    let emulated = pfs.filter(|pf| pf["kind"] == "emulated");
    let names = emulated.map(|pf| pf["name"].as_str().unwrap().to_owned());
    names.collect()
}

fn shown(place: &Place) -> Value {
    place.json(&["sriov", "show", "--json", "lab/nic:0"])
}

fn pf(found: &Enumeration) -> &FoundFunction {
    let mut all = found.functions.iter();
    let found = all.find(|one| one.device_id == PF_DEVICE_ID);
    found.expect("the guest finds it")
}

/// The class of a function, all ones where there is none.
fn class(guest: &mut Guest, id: RoutingId) -> u16 {
    guest.word(id, 0x0a)
}

#[test]
fn what_the_guest_does_with_a_pf_is_seen_from_outside() {
    let place = Place::new();
    let serving = serve(&place);
    let before = shown(&place);
    assert_eq!(before["name"], "lab/nic:0");
    assert_eq!(before["label"], "lab/nic:0");
    assert_eq!(before["pid"], serving.pid());
    assert_eq!(before["address"], "00:00.0");
    assert_eq!(before["guest_controls_sriov"], true);
    let text = place.stdout(&["sriov", "show", "lab/nic:0"]);
    for part in [
        "lab/nic:0  in a domain\n",
        "00:00.0, until its guest numbers the bus",
        "none: it and its VFs are inside a domain",
        "and the VM that has the PF",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let text = place.stdout(&["sriov", "list"]);
    let line = text.lines().find(|line| line.starts_with("lab/nic:0"));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("0 of 8") && line.contains("in a domain"));

    let mut guest = Guest::connect(&place, "lab.sock");
    let found = guest.enumerate();
    let pf = pf(&found);
    let ids = enable_vfs(&mut guest, pf, 3);
    let now = shown(&place);
    assert_eq!(now["address"], pf.id.to_string());
    assert_eq!(now["vf_enable"], true);
    assert_eq!(now["registers"]["num_vfs"], 3);
    let bar = pf.sriov.as_ref().unwrap().bars[0];
    let vfs = now["vfs"].as_array().unwrap();
    assert_eq!(vfs.len(), 3);
    for ((number, vf), id) in (0_u64..).zip(vfs).zip(&ids) {
        assert_eq!(vf["address"], id.to_string());
        assert_eq!(vf["socket"], Value::Null);
        let at = format!("0x{:x}", bar.address + number * bar.bar.size);
        assert_eq!(vf["bars"][0]["address"], at);
    }
    let text = place.stdout(&["sriov", "show", "lab/nic:0"]);
    let row = format!("  1   {}", ids[1]);
    let row = text.lines().find(|line| line.starts_with(&row));
    let row = row.unwrap_or_else(|| panic!("{text}"));
    assert!(row.ends_with("none"), "{row}");
    let bytes = place.json(&["sriov", "config", "--json", "lab/nic:0", "2"]);
    assert_eq!(bytes["address"], ids[2].to_string());
    assert!(bytes["bytes"].as_str().unwrap().starts_with("ffffffff"));
    let dump = place.stdout(&["sriov", "config", "lab/nic:0"]);
    assert!(dump.starts_with(&pf.id.to_string()), "{dump}");

    disable_vfs(&mut guest, pf);
    let now = shown(&place);
    assert_eq!(
        (&now["vf_enable"], &now["vfs"]),
        (&json!(false), &json!([]))
    );
}

#[test]
fn vfs_that_are_enabled_from_outside_are_on_the_guests_bus() {
    let place = Place::new();
    let _serving = serve(&place);
    let mut guest = Guest::connect(&place, "lab.sock");
    let found = guest.enumerate();
    let pf = pf(&found);
    let ids = enable_vfs(&mut guest, pf, 2);
    let again = ["sriov", "enable", "lab/nic:0", "4"];
    let error = place.failure(1, &again);
    assert!(error.contains("hdv sriov disable lab/nic:0"), "{error}");
    let text = place.stdout(&["sriov", "disable", "lab/nic:0"]);
    assert_eq!(text, "2 VFs of lab/nic:0 are disabled.\n");
    assert_eq!(class(&mut guest, ids[0]), 0xffff);
    let error = place.failure(1, &["sriov", "enable", "lab/nic:0", "9"]);
    assert!(error.contains("lab/nic:0"), "{error}");

    let after = place.json(&["sriov", "enable", "--json", "lab/nic:0", "4"]);
    let vfs = after["vfs"].as_array().unwrap();
    assert_eq!(vfs.len(), 4);
    assert_eq!(vfs[1]["address"], ids[1].to_string());
    assert_ne!(class(&mut guest, ids[1]), 0xffff);
    assert_eq!(node(&tree(&place), "nic:0")["sriov"]["num_vfs"], 4);
}

#[test]
fn pfs_that_are_plugged_in_come_and_those_that_are_pulled_go() {
    let place = Place::new();
    let _serving = serve(&place);
    assert_eq!(listed(&place), ["lab/nic:0"]);
    let device = ["--device", "sriov-sensor,vfs=2"];
    place.stdout(&[&["plug", "lab/free"], &device[..]].concat());
    assert_eq!(listed(&place), ["lab/nic:0", "lab/free:0"]);
    let details = place.json(&["sriov", "show", "--json", "lab/free:0"]);
    assert_eq!(details["total_vfs"], 2);
    place.stdout(&["unplug", "lab/free"]);
    assert_eq!(listed(&place), ["lab/nic:0"]);
    let named = [&["plug", "lab/free", "--name", "second"], &device[..]];
    place.stdout(&named.concat());
    assert_eq!(listed(&place), ["lab/nic:0", "lab/second"]);

    // A place without a PF; one that there is not.
    for name in ["lab/quiet:0", "lab/free:0"] {
        let error = place.failure(1, &["sriov", "show", name]);
        let expected = format!("there is no PF {name}");
        assert!(error.contains(&expected), "{error}");
        assert!(error.contains("\n  lab/nic:0  in a domain of"), "{error}");
    }
    // An address inside a guest is none out here.
    let error = place.failure(1, &["sriov", "show", "00:00.0"]);
    assert!(error.contains("\n  lab/nic:0  in a domain of"), "{error}");
}

#[test]
fn pfs_of_domains_alike_are_told_apart_by_their_hosts() {
    let place = Place::new();
    write(&place, "lab.toml", LAB);
    let serve = |socket| Serving::start(&place, &["--domain", "lab.toml", "--socket", socket]);
    let pids = [serve("1.sock"), serve("2.sock")];
    let mut names = pids
        .each_ref()
        .map(|host| format!("{}/lab/nic:0", host.pid()));
    let mut listed = listed(&place);
    names.sort();
    listed.sort();
    assert_eq!(listed, names);
    let error = place.failure(1, &["sriov", "show", "lab/nic:0"]);
    assert!(error.contains("lab/nic:0 names 2 PFs"), "{error}");
    assert!(names.iter().all(|name| error.contains(name)), "{error}");
    place.stdout(&["sriov", "enable", &names[1], "1"]);
    for host in &pids {
        let name = format!("{}/lab/nic:0", host.pid());
        let num_vfs = usize::from(name == names[1]);
        // Also as other commands call the domain.
        for name in [name, format!("{}:lab/nic:0", host.pid())] {
            let details = place.json(&["sriov", "show", "--json", &name]);
            assert_eq!(details["pid"], host.pid());
            assert_eq!(details["vfs"].as_array().unwrap().len(), num_vfs);
        }
    }
}
