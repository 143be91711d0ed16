//! Which checks are wanted: all, or those named. Names are unique over every kind of device; which there
//! are is not known here.

use super::Check;

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

    /// The checks with these names, and no others.
    #[must_use]
    pub const fn only(names: Vec<&'static str>) -> Self {
        Self { names: Some(names) }
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
