//! What goes wrong, and what a person hears of it.

use serde_json::json;

use super::{document, place, remains, write};

#[test]
fn wrong_documents_are_told_with_the_place_of_the_error() {
    let place = place();
    let mut unknown = document(&json!({}));
    unknown["VirtualMachine"]["Devices"]["Floppy"] = json!({});
    write(&place, "unknown.json", &unknown);
    let mut kernel = document(&json!({}));
    kernel["VirtualMachine"]["Chipset"]["LinuxKernelDirect"] =
        json!({ "KernelFilePath": "no-such-kernel" });
    write(&place, "kernel.json", &kernel);
    let mut lab = document(&json!({}));
    lab["VirtualMachine"]["Chipset"]["LinuxKernelDirect"] =
        json!({ "KernelFilePath": "${OPENHDV_LAB}/vmlinuz" });
    write(&place, "lab.json", &lab);
    let mut memory = document(&json!({}));
    memory["VirtualMachine"]["ComputeTopology"]["Memory"]["SizeInMB"] = (1_u64 << 31).into();
    write(&place, "memory.json", &memory);
    std::fs::write(place.path("text.json"), "not json").unwrap();

    for (arguments, parts) in [
        (
            &["create", "unknown.json"][..],
            &["unknown.json", "VirtualMachine/Devices/Floppy"][..],
        ),
        (
            &["run", "kernel.json"],
            // Relative to the document.
            &[
                "KernelFilePath",
                place.path("no-such-kernel").to_str().unwrap(),
            ],
        ),
        (
            &["create", "memory.json"],
            &["VirtualMachine/ComputeTopology/Memory"],
        ),
        (&["create", "text.json"], &["text.json"]),
        (&["create", "missing.json"], &["cannot read missing.json"]),
        (&["run", "unknown.json"], &["VirtualMachine/Devices/Floppy"]),
        (&["run", "--device", "censor"], &["\"censor\"", "sensor"]),
        (
            &["run", "--device", "sensor,sine"],
            &["\"sine\"", "KEY=VALUE"],
        ),
    ] {
        let error = place.failure(1, arguments);
        for part in parts {
            assert!(error.contains(part), "{arguments:?}: {part}: {error}");
        }
    }
    for arguments in [&["create", "lab.json"][..], &["run", "--device", "sensor"]] {
        let output = place
            .command(arguments)
            .env("OPENHDV_LAB", place.path("no-lab"))
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        for part in ["no-lab", "cargo xtask lab"] {
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }
    assert_eq!(remains(&place), Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_is_not_there_is_named() {
    let place = place();
    for command in ["start", "pause", "resume", "stop", "inspect", "console"] {
        let error = place.failure(1, &[command, "nobody"]);
        assert!(
            error.contains("no compute system \"nobody\"") && error.contains("hdv ls"),
            "{command}: {error}"
        );
    }
    let error = place.failure(1, &["run", "vm"]);
    assert!(
        error.contains("cannot read vm") && error.contains("hdv start"),
        "{error}"
    );
    let error = place.failure(2, &["run"]);
    assert!(error.contains("DOC.json|--device"), "{error}");
    place.failure(2, &["plug", "vm"]);
    let error = place.failure(2, &["plug", "vm", "--class", "not-a-guid", "--name", "x"]);
    assert!(error.contains("hdv devices"), "{error}");

    write(&place, "vm.json", &document(&json!({})));
    place.stdout(&["create", "vm.json"]);
    for arguments in [
        &["console", "--port", "2", "vm"][..],
        &["console", "--json", "--port", "2", "vm"],
    ] {
        let error = place.failure(1, arguments);
        assert!(
            error.contains("serial port 2; its serial ports: 0"),
            "{error}"
        );
    }
    let error = place.failure(1, &["pause", "vm"]);
    assert!(
        error.contains("\"vm\" cannot be paused") && error.contains("hdv start"),
        "{error}"
    );
    let error = place.failure(1, &["unplug", "vm", "sensor"]);
    assert!(
        error.contains("\"sensor\"") && error.contains("hdv inspect"),
        "{error}"
    );
    place.stdout(&["stop", "vm"]);
}
