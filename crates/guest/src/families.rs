//! The kinds of devices beside the sensor that the program can check, and all checks by name.
//!
//! A kind has a module of its own with its driver, its checks and its [`Family`]; [`FAMILIES`]
//! lists them. Nothing else needs to know of a new one.

use crate::camera;
use crate::checks::{Check, Selection};
use crate::counting;
use crate::family::Family;
use crate::framebuffer;
use crate::greeter;
use crate::lab;
use crate::platform::Identity;

/// Every kind but the sensor.
pub static FAMILIES: &[&Family] = &[
    &camera::FAMILY,
    &framebuffer::FAMILY,
    &greeter::FAMILY,
    &counting::PF,
    &counting::VF,
    &lab::FAMILIES[0],
    &lab::FAMILIES[1],
    &lab::FAMILIES[2],
    &lab::FAMILIES[3],
    &lab::FAMILIES[4],
    &lab::FAMILIES[5],
    &lab::FAMILIES[6],
    &lab::FAMILIES[7],
];

/// The family called `name`.
#[must_use]
pub fn named(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().copied().find(|family| family.name == name)
}

/// The family of a device; `None` for sensors and strangers.
#[must_use]
pub fn of(identity: Identity) -> Option<&'static Family> {
    FAMILIES
        .iter()
        .copied()
        .find(|family| (family.vendor, family.device) == (identity.vendor, identity.device))
}

/// Every name a check has, the sensor's first.
pub fn check_names() -> impl Iterator<Item = &'static str> {
    let sensor = Check::ALL.iter().map(|check| check.name());
    let others = FAMILIES
        .iter()
        .flat_map(|family| family.checks.iter().map(|check| check.name));
    sensor.chain(others)
}

/// The checks with these names.
///
/// # Errors
/// A name that no check has; the message lists those that there are.
pub fn select<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Selection, String> {
    let names = names.into_iter().map(known).collect::<Result<_, _>>()?;
    Ok(Selection::only(names))
}

fn known(name: &str) -> Result<&'static str, String> {
    check_names().find(|known| *known == name).ok_or_else(|| {
        let names: Vec<_> = check_names().collect();
        format!("{name:?} is no check; there are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_select() {
        let mut names: Vec<_> = check_names().collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);

        let some = select(["registers", "identity"]).unwrap();
        assert_eq!(some.of_sensors(), [Check::Registers, Check::Identity]);
        assert!(some.has("identity") && !some.has("bad-settings") && !some.is_all());
        assert!(Selection::all().has("bad-settings"));
        assert_eq!(Selection::all().of_sensors(), Check::ALL);
        let error = select(["identity", "x"]).unwrap_err();
        assert!(error.contains("\"x\" is no check"), "{error}");
    }
}
