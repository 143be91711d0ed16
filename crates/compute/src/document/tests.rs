//! What is read and what is refused, with the place and what it says.

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

fn typical() -> Value {
    json!({
        "Owner": "me", "SchemaVersion": {"Major": 2, "Minor": 7},
        "ShouldTerminateOnLastHandleClosed": true,
        "VirtualMachine": {
            "StopOnReset": true,
            "Chipset": {"LinuxKernelDirect": {
                "KernelFilePath": "/lab/vmlinuz", "InitRdPath": "/lab/initrd", "KernelCmdLine": "console=ttyS0"}},
            "ComputeTopology": {"Memory": {"SizeInMB": 512, "Backing": "Virtual"}, "Processor": {"Count": 2}},
            "Devices": {
                "ComPorts": {"0": {"NamedPipe": "\\\\.\\pipe\\com1"}, "1": {"NamedPipe": "/tmp/com2"}},
                "Scsi": {"primary": {"Attachments": {"0": {"Type": "VirtualDisk", "Path": "/disk.qcow2", "ReadOnly": true}}}},
                "NetworkAdapters": {"net": {"MacAddress": "02-00-00-00-00-01"}},
                "FlexibleIov": {"11111111-2222-3333-4444-555555555555": {
                    "EmulatorId": "{AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE}",
                    "HostingModel": "ExternalRestricted", "Configuration": ["a", ""]}}}}
    })
}

fn parse(value: &Value) -> Result<ComputeSystemDocument, DocumentError> {
    ComputeSystemDocument::parse(&value.to_string())
}

/// The typical document with a value at a place.
fn with(path: &str, value: Value) -> Value {
    let mut document = typical();
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut object = &mut document;
    for part in above.split('/').filter(|part| !part.is_empty()) {
        object = &mut object[part];
    }
    object[name] = value;
    document
}

fn refused(document: &Value, path: &str, said: &[&str]) {
    let error = parse(document).unwrap_err();
    assert_eq!(error.path, path, "{error}");
    for said in said {
        assert!(error.reason.contains(said), "{said:?} is not in: {error}");
    }
}

#[test]
fn a_typical_document_is_read() {
    let document = parse(&typical()).unwrap();
    let machine = &document.virtual_machine;
    assert!(document.should_terminate_on_last_handle_closed && machine.stop_on_reset);
    assert_eq!(machine.compute_topology.processor.count, 2);
    let (key, device) = machine.devices.flexible_iov.first_key_value().unwrap();
    assert_eq!(instance_id(key), Uuid::parse_str(key).unwrap());
    assert_eq!(device.hosting_model, HostingModel::ExternalRestricted);
    assert_eq!(device.configuration, ["a", ""]);
    assert_eq!(
        device.emulator_id.to_string(),
        "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
    );
}

#[test]
fn what_may_be_left_out_has_defaults() {
    let document =
        parse(&json!({"SchemaVersion": {"Major": 2, "Minor": 0}, "VirtualMachine": {}})).unwrap();
    assert!(!document.should_terminate_on_last_handle_closed);
    assert_eq!(
        document.virtual_machine.compute_topology.memory.size_in_mb,
        512
    );
    assert_eq!(document.virtual_machine.compute_topology.processor.count, 1);
    // A null is an absence, for what is supported and for what is not.
    let nulls = with("VirtualMachine/Chipset/Uefi", Value::Null);
    assert_eq!(parse(&nulls).unwrap(), parse(&typical()).unwrap());
    let nulls = with("HostingSystemId", Value::Null);
    assert_eq!(parse(&nulls).unwrap(), parse(&typical()).unwrap());
    refused(
        &with("Hosting", Value::Null),
        "Hosting",
        &["no such property"],
    );
}

#[test]
fn hints_are_taken_and_change_nothing() {
    let place = "VirtualMachine/Devices/Scsi/primary/Attachments/0/AlwaysAllowSparseFiles";
    assert_eq!(
        parse(&with(place, json!(true))).unwrap(),
        parse(&typical()).unwrap()
    );
    refused(&with(place, json!("yes")), place, &["true or false"]);
}

#[test]
fn what_is_unknown_is_named_with_what_is_known_and_what_was_meant() {
    refused(
        &with("VirtualMachine/Devices/ComPorts/0/NamedPip", json!("x")),
        "VirtualMachine/Devices/ComPorts/0/NamedPip",
        &["no such property", "did you mean NamedPipe?"],
    );
    refused(
        &with("owner", json!("x")),
        "owner",
        &["did you mean Owner?"],
    );
    refused(
        &with("VirtualMachine/Chipset/Firmware", json!({})),
        "VirtualMachine/Chipset/Firmware",
        &["here are: Uefi, LinuxKernelDirect"],
    );
}

#[test]
fn what_hcs_has_and_we_have_not_is_said_to_be_so() {
    for (path, said) in [
        ("Container", "describe a virtual machine"),
        ("VirtualMachine/GuestState", "does not support it"),
        ("VirtualMachine/Devices/VirtualPci", "does not support it"),
        (
            "VirtualMachine/ComputeTopology/Processor/Weight",
            "does not support it",
        ),
        (
            "VirtualMachine/Devices/NetworkAdapters/net/EndpointId",
            "user-mode network",
        ),
    ] {
        refused(&with(path, json!({})), path, &["HCS's schema has", said]);
    }
    let kind = "VirtualMachine/Devices/Scsi/primary/Attachments/0/Type";
    refused(
        &with(kind, json!("PassThru")),
        kind,
        &["HCS's schema has the value", "VirtualDisk or Iso"],
    );
    refused(
        &with(kind, json!("iso")),
        kind,
        &["did you mean Iso? It can be VirtualDisk or Iso"],
    );
    let model = "VirtualMachine/Devices/FlexibleIov/x";
    refused(
        &with(
            model,
            json!({"EmulatorId": Uuid::from_u128(1), "HostingModel": "Interna"}),
        ),
        &format!("{model}/HostingModel"),
        &["did you mean Internal? It can be Internal, External or ExternalRestricted"],
    );
}

#[test]
fn wrong_types_and_missing_properties_have_their_place() {
    let memory = "VirtualMachine/ComputeTopology/Memory/SizeInMB";
    refused(
        &with(memory, json!("512")),
        memory,
        &["string \"512\"", "a whole number from 16 to 4194304"],
    );
    refused(&with(memory, json!(-1)), memory, &["-1", "a whole number"]);
    refused(&with("Owner", json!(1)), "Owner", &["a string is expected"]);
    refused(
        &with("VirtualMachine/StopOnReset", json!(1)),
        "VirtualMachine/StopOnReset",
        &["true or false"],
    );
    let device = "VirtualMachine/Devices/FlexibleIov/sensor";
    refused(
        &with(device, json!({})),
        &format!("{device}/EmulatorId"),
        &["missing"],
    );
    refused(
        &with(device, json!({"EmulatorId": "x"})),
        &format!("{device}/EmulatorId"),
        &["no GUID", "hdv devices"],
    );
    refused(
        &with(
            device,
            json!({"EmulatorId": Uuid::from_u128(1), "Configuration": ["a", 1]}),
        ),
        &format!("{device}/Configuration/1"),
        &["a string is expected"],
    );
    refused(
        &with("VirtualMachine/Devices", json!([])),
        "VirtualMachine/Devices",
        &["object is expected"],
    );
    refused(
        &with("SchemaVersion", json!({"Major": 2})),
        "SchemaVersion/Minor",
        &["missing"],
    );
    refused(
        &json!({"SchemaVersion": {"Major": 2, "Minor": 0}}),
        "VirtualMachine",
        &["missing"],
    );
    refused(&json!([]), "", &["object is expected"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let devices = "VirtualMachine/Devices";
    for (path, value, at, said) in [
        (
            "SchemaVersion/Major",
            json!(1),
            "",
            "only 2.x is known; write {\"Major\": 2, \"Minor\": 7}",
        ),
        (
            "VirtualMachine/ComputeTopology/Memory/SizeInMB",
            json!(15),
            "",
            "can be 16 to",
        ),
        (
            "VirtualMachine/ComputeTopology/Memory/AllowOvercommit",
            json!(false),
            "",
            "contradicts",
        ),
        (
            "VirtualMachine/ComputeTopology/Processor/Count",
            json!(0),
            "",
            "1 to 255",
        ),
        (
            "VirtualMachine/ComputeTopology/Processor/Count",
            json!(256),
            "",
            "1 to 255",
        ),
        (
            "VirtualMachine/Chipset/LinuxKernelDirect/KernelFilePath",
            json!(""),
            "",
            "empty",
        ),
        (
            "VirtualMachine/Chipset/LinuxKernelDirect/KernelCmdLine",
            json!("x".repeat(2048)),
            "",
            "2047",
        ),
        (
            "VirtualMachine/Devices/ComPorts/4",
            json!({"NamedPipe": "x"}),
            "",
            "0 to 3",
        ),
        (
            "VirtualMachine/Devices/ComPorts/00",
            json!({"NamedPipe": "x"}),
            "",
            "0 to 3",
        ),
        (
            "VirtualMachine/Devices/ComPorts/2",
            json!({"NamedPipe": "/tmp/com2"}),
            "/NamedPipe",
            "port 1 has the same",
        ),
        (
            "VirtualMachine/Devices/Scsi/primary/Attachments/64",
            json!({"Type": "Iso", "Path": "/x"}),
            "",
            "0 to 63",
        ),
        (
            "VirtualMachine/Devices/Scsi/primary/Attachments/0/Path",
            json!("/disk"),
            "",
            "ends in",
        ),
        (
            "VirtualMachine/Devices/NetworkAdapters/a",
            json!({"MacAddress": "02:00:00:00:00:01"}),
            "",
            "",
        ),
        (
            "VirtualMachine/Devices/NetworkAdapters/net/MacAddress",
            json!("x"),
            "",
            "six pairs",
        ),
        (
            "VirtualMachine/Devices/FlexibleIov/11111111222233334444555555555555",
            json!({"EmulatorId": Uuid::from_u128(1)}),
            "",
            "",
        ),
        (
            "VirtualMachine/Devices/FlexibleIov/",
            json!({"EmulatorId": Uuid::from_u128(1)}),
            "",
            "1 to 255",
        ),
        (
            "VirtualMachine/Devices/FlexibleIov/x",
            json!({"EmulatorId": Uuid::nil()}),
            "/EmulatorId",
            "zeros",
        ),
    ] {
        let document = with(path, value);
        let error = parse(&document).unwrap_err();
        assert!(error.reason.contains(said), "{path}: {error}");
        if !said.is_empty() {
            assert_eq!(error.path, format!("{path}{at}"), "{error}");
        }
    }
    let many: Value = (0..65)
        .map(|number| {
            (
                format!("d{number}"),
                json!({"EmulatorId": Uuid::from_u128(1)}),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    refused(
        &with("VirtualMachine/Devices/FlexibleIov", many),
        &format!("{devices}/FlexibleIov"),
        &["65 devices"],
    );
}

#[test]
fn text_that_is_no_json_or_says_a_thing_twice_is_refused_with_its_place() {
    let error = ComputeSystemDocument::parse(r#"{"SchemaVersion": {"Major": 2,, "Minor": 1}}"#)
        .unwrap_err();
    assert_eq!(error.path, "SchemaVersion", "{error}");
    assert!(error.reason.contains("line 1"), "{error}");
    let error =
        ComputeSystemDocument::parse(r#"{"SchemaVersion": {"Major": 2, "Major": 2}}"#).unwrap_err();
    assert!(
        error.path.starts_with("SchemaVersion") && error.reason.contains("twice"),
        "{error}"
    );
    let error = ComputeSystemDocument::parse("{} {}").unwrap_err();
    assert!(error.reason.contains("JSON"), "{error}");
    let deep = "[".repeat(100_000);
    assert!(
        ComputeSystemDocument::parse(&deep)
            .unwrap_err()
            .reason
            .contains("recursion")
    );
    let long = " ".repeat(limits::TEXT_LIMIT + 1);
    assert!(
        ComputeSystemDocument::parse(&long)
            .unwrap_err()
            .reason
            .contains("bytes")
    );
}

#[test]
fn names_of_devices_stand_for_ids_that_stay() {
    let id = Uuid::parse_str("11111111-2222-3333-4444-5555555555aa").unwrap();
    for key in [
        "11111111-2222-3333-4444-5555555555AA",
        "{11111111-2222-3333-4444-5555555555aa}",
        "111111112222333344445555555555aa",
    ] {
        assert_eq!(instance_id(key), id, "{key}");
    }
    // Written down: documents and programs of today find their devices tomorrow.
    assert_eq!(
        instance_id("sensor").to_string(),
        "dfba5303-662d-5b21-92a0-0565d631c223"
    );
    assert_ne!(instance_id("sensor"), instance_id("Sensor"));
}

#[test]
fn relative_paths_are_relative_to_the_reader() {
    let mut document = parse(&with(
        "VirtualMachine/Devices/ComPorts/1/NamedPipe",
        json!("com2"),
    ))
    .unwrap();
    document
        .virtual_machine
        .chipset
        .linux_kernel_direct
        .as_mut()
        .unwrap()
        .init_rd_path = Some("initrd".into());
    document.resolve(std::path::Path::new("/here"));
    let direct = document
        .virtual_machine
        .chipset
        .linux_kernel_direct
        .as_ref()
        .unwrap();
    assert_eq!(direct.kernel_file_path.to_str(), Some("/lab/vmlinuz"));
    assert_eq!(
        direct.init_rd_path.as_ref().unwrap().to_str(),
        Some("/here/initrd")
    );
    let ports = &document.virtual_machine.devices.com_ports;
    assert_eq!(
        (
            ports["0"].named_pipe.as_str(),
            ports["1"].named_pipe.as_str()
        ),
        (r"\\.\pipe\com1", "/here/com2")
    );
}

#[test]
fn a_request_says_what_is_changed() {
    let key = "11111111-2222-3333-4444-555555555555";
    let request = json!({
        "ResourcePath": format!("VirtualMachine/Devices/FlexibleIov/{key}"), "RequestType": "Add",
        "Settings": {"EmulatorId": Uuid::from_u128(7), "HostingModel": "External"},
    });
    let added = ModifyRequest::parse(&request.to_string()).unwrap();
    assert_eq!(added.instance_id.to_string(), key);
    assert_eq!(
        added.device.as_ref().unwrap().hosting_model,
        HostingModel::External
    );
    assert_eq!(ModifyRequest::parse(&added.to_json()).unwrap(), added);
    let removed = ModifyRequest::remove("sensor");
    assert_eq!(ModifyRequest::parse(&removed.to_json()).unwrap(), removed);
    let refused = |name: &str, value: Value, path: &str, said: &str| {
        let mut request = request.clone();
        request[name] = value;
        let error = ModifyRequest::parse(&request.to_string()).unwrap_err();
        assert_eq!(error.path, path, "{error}");
        assert!(error.reason.contains(said), "{error}");
    };
    refused(
        "RequestType",
        json!("Update"),
        "RequestType",
        "does not support",
    );
    refused(
        "RequestType",
        json!("add"),
        "RequestType",
        "did you mean Add?",
    );
    refused("Settings", Value::Null, "Settings", "missing");
    refused(
        "Settings",
        json!({"EmulatorId": Uuid::from_u128(7), "Config": []}),
        "Settings/Config",
        "no such",
    );
    refused(
        "GuestRequest",
        json!({}),
        "GuestRequest",
        "does not support",
    );
    for path in [
        "VirtualMachine/Devices/flexibleiov/x",
        "VirtualMachine/Devices/FlexibleIov",
        "VirtualMachine/Devices/FlexibleIovx/y",
        "VirtualMachine/ComputeTopology/Memory/SizeInMB",
    ] {
        refused(
            "ResourcePath",
            json!(path),
            "ResourcePath",
            "FlexibleIov/<instance",
        );
    }
    refused(
        "ResourcePath",
        json!("VirtualMachine/Devices/FlexibleIov/a/b"),
        "ResourcePath",
        "slash",
    );
}

/// Documents as programs make them.
fn documents() -> impl Strategy<Value = ComputeSystemDocument> {
    let device = (
        1_u128..,
        proptest::collection::vec("[ -~]{0,9}", 0..4),
        0_usize..3,
    )
        .prop_map(|(class, configuration, model)| FlexibleIoDevice {
            emulator_id: Uuid::from_u128(class),
            hosting_model: [
                HostingModel::Internal,
                HostingModel::External,
                HostingModel::ExternalRestricted,
            ][model],
            configuration,
        });
    let devices = proptest::collection::btree_map("[a-z]{1,8}", device, 0..6);
    (
        devices,
        16_u32..100_000,
        1_u16..=255,
        any::<bool>(),
        "[ -~]{0,30}",
        any::<Option<bool>>(),
    )
        .prop_map(|(flexible_iov, size_in_mb, count, flag, text, option)| {
            ComputeSystemDocument {
                owner: text.clone(),
                schema_version: Version {
                    major: 2,
                    minor: size_in_mb,
                },
                should_terminate_on_last_handle_closed: flag,
                virtual_machine: VirtualMachine {
                    stop_on_reset: !flag,
                    chipset: Chipset {
                        uefi: flag.then(Uefi::default),
                        linux_kernel_direct: option.map(|initrd| LinuxKernelDirect {
                            kernel_file_path: "/k".into(),
                            init_rd_path: initrd.then(|| "/i".into()),
                            kernel_cmd_line: text,
                        }),
                    },
                    compute_topology: Topology {
                        memory: Memory {
                            size_in_mb,
                            backing: None,
                            allow_overcommit: option,
                        },
                        processor: Processor { count },
                    },
                    devices: Devices {
                        flexible_iov,
                        ..Devices::default()
                    },
                },
            }
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(document in documents()) {
        let text = serde_json::to_string(&document).unwrap();
        prop_assert_eq!(ComputeSystemDocument::parse(&text).unwrap(), document);
    }

    #[test]
    fn no_property_is_ignored(document in documents(), place in any::<prop::sample::Index>(), name in "[A-Z][a-z]{1,6}x") {
        // A stranger in any object but those whose keys are names.
        let mut value = serde_json::to_value(&document).unwrap();
        let mut places = vec![];
        objects(&value, "", &mut places);
        let place = place.get(&places).clone();
        value.pointer_mut(&place).unwrap()[&name] = json!(1);
        let error = ComputeSystemDocument::parse(&value.to_string()).unwrap_err();
        let expected = format!("{place}/{name}");
        prop_assert_eq!(error.path, expected.trim_start_matches('/'));
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = ComputeSystemDocument::parse(&text);
        let _ = ModifyRequest::parse(&text);
    }
}

fn objects(value: &Value, path: &str, found: &mut Vec<String>) {
    if let Value::Object(properties) = value {
        if !path.ends_with("/FlexibleIov") {
            found.push(path.to_owned());
        }
        for (name, value) in properties {
            objects(value, &format!("{path}/{name}"), found);
        }
    }
}
