//! Which checks are wanted: all, or those named. Names are unique over every kind of device.

use super::Check;
use crate::families::FAMILIES;

/// Which checks to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    names: Option<Vec<&'static str>>,
}

impl Selection {
    /// Every check of the devices that are there.
    #[must_use]
    pub const fn all() -> Self {
        Self { names: None }
    }

    /// The checks with these names.
    ///
    /// # Errors
    /// A name that no check has; the message lists those that there are.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let names = names.into_iter().map(known).collect::<Result<_, _>>()?;
        Ok(Self { names: Some(names) })
    }

    /// Every name a check has.
    pub fn known() -> impl Iterator<Item = &'static str> {
        let sensor = Check::ALL.iter().map(|check| check.name());
        let others = FAMILIES
            .iter()
            .flat_map(|family| family.checks.iter().map(|check| check.name));
        sensor.chain(others)
    }

    /// Whether every check is wanted because none was named.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.names.is_none()
    }

    /// Whether the check `name` is wanted.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names
            .as_ref()
            .is_none_or(|names| names.contains(&name))
    }

    /// The sensor's checks that are wanted, in the order in which they were named.
    #[must_use]
    pub fn of_sensors(&self) -> Vec<Check> {
        match &self.names {
            None => Check::ALL.to_vec(),
            Some(names) => names.iter().filter_map(|name| name.parse().ok()).collect(),
        }
    }
}

fn known(name: &str) -> Result<&'static str, String> {
    Selection::known()
        .find(|known| *known == name)
        .ok_or_else(|| {
            let names: Vec<_> = Selection::known().collect();
            format!("{name:?} is no check; there are {}", names.join(", "))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_select() {
        let mut names: Vec<_> = Selection::known().collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);

        let some = Selection::named(["registers", "identity"]).unwrap();
        assert_eq!(some.of_sensors(), [Check::Registers, Check::Identity]);
        assert!(some.has("identity") && !some.has("bad-settings") && !some.is_all());
        assert!(Selection::all().has("bad-settings"));
        assert_eq!(Selection::all().of_sensors(), Check::ALL);
        let error = Selection::named(["identity", "x"]).unwrap_err();
        assert!(error.contains("\"x\" is no check"), "{error}");
    }
}
