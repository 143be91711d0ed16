//! Taking vfio-user devices out of a running QEMU, which needs care.
//!
//! QEMU (all versions with the device, 11.1 the newest of them) aborts when it frees a vfio-user device that has MSI-X: the
//! end of its MSI-X handling expects memory regions that are gone by then (`vfio_user_msix_teardown` in
//! `hw/vfio-user/pci.c`: "Assertion `subregion->container == mr' failed"). It frees one when it is taken out, which a guest
//! can do by itself. So a device is [held](hold): it is taken out of its slot and of the guest like any other, and never freed.
//!
//! A held device brings no `DEVICE_DELETED` when it is gone ([`plugged`] tells), and keeps its connection until QEMU ends.
//! QEMU goes on to tell it of guest memory there, so something must answer.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Where QEMU keeps devices that have an id.
const DEVICES: &str = "/machine/peripheral";

/// Where QEMU keeps its consoles.
const CONSOLES: &str = "/backend";

/// An object that holds a device.
const CONSOLE: &str = "qemu-graphic-console";

/// Holds a device, from when it is there until QEMU ends. `execute` carries out a QMP command and gives its answer; one hold at
/// a time.
///
/// # Errors
/// Those of `execute`.
pub fn hold<E>(
    id: &str,
    mut execute: impl FnMut(&str, Value) -> Result<Value, E>,
) -> Result<(), E> {
    // Asking for a console's properties makes one, which stays. It is on no display.
    execute("qom-list-properties", json!({"typename": CONSOLE}))?;
    let children = execute("qom-list", json!({"path": CONSOLES}))?;
    let Some(console) = newest(&children) else {
        tracing::warn!(
            id,
            "QEMU has no console to hold the device with: taking it out may end QEMU"
        );
        return Ok(());
    };
    let value = format!("{DEVICES}/{id}");
    let path = format!("{CONSOLES}/{console}");
    execute(
        "qom-set",
        json!({"path": path, "property": "device", "value": value}),
    )?;
    Ok(())
}

/// The ids of the devices that are still in the machine.
///
/// # Errors
/// Those of `execute`.
pub fn plugged<E>(
    mut execute: impl FnMut(&str, Value) -> Result<Value, E>,
) -> Result<BTreeSet<String>, E> {
    let children = execute("qom-list", json!({"path": DEVICES}))?;
    let children = children.as_array().map(Vec::as_slice).unwrap_or_default();
    let names = children.iter().filter_map(|child| child["name"].as_str());
    Ok(names.map(ToOwned::to_owned).collect())
}

/// The last console that was made: `console[N]` with the highest N.
fn newest(children: &Value) -> Option<&str> {
    let number = |name: &str| -> Option<u32> {
        name.strip_prefix("console[")?
            .strip_suffix(']')?
            .parse()
            .ok()
    };
    children
        .as_array()?
        .iter()
        .filter(|child| child["type"] == format!("child<{CONSOLE}>"))
        .filter_map(|child| child["name"].as_str())
        .max_by_key(|name| number(name))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn the_newest_console_holds_the_device() {
        let mut commands = Vec::new();
        hold("dev1", |command, arguments| {
            commands.push((command.to_owned(), arguments));
            let console = |number: u32| json!({"name": format!("console[{number}]"), "type": "child<qemu-graphic-console>"});
            Ok::<_, Infallible>(match command {
                "qom-list" => json!([
                    {"name": "type", "type": "string"}, console(2), console(10),
                    {"name": "console[11]", "type": "child<qemu-text-console>"},
                ]),
                _ => json!({}),
            })
        })
        .unwrap();
        let (command, arguments) = commands.last().unwrap();
        assert_eq!(command, "qom-set");
        let expected = json!({"path": "/backend/console[10]", "property": "device", "value": "/machine/peripheral/dev1"});
        assert_eq!(*arguments, expected);
    }

    #[test]
    fn a_device_is_there_as_long_as_it_is_listed() {
        let answer = |_: &str, _: Value| {
            Ok::<_, Infallible>(json!([{"name": "dev1", "type": "child<vfio-user-pci>"}]))
        };
        assert_eq!(
            plugged(answer).unwrap(),
            BTreeSet::from(["dev1".to_owned()])
        );
    }
}
