//! The names of what is in a domain: which there can be, and whose they are.

use std::collections::BTreeMap;

use hdv_pci::topology::{Member, Removed};

use super::error::DomainError;
use super::places;

/// Most characters of a name.
const LENGTH_MAX: usize = 64;

/// Whether a port, a function or a domain can have a name: 1 to 64 characters, none of them '/' or a control character, and no
/// device and function number such as `01.0`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let characters = name.chars().count();
    (1..=LENGTH_MAX).contains(&characters)
        && !name.chars().any(|one| one == '/' || one.is_control())
        && places::number(name).is_none()
}

/// Names of ports and functions, each taken once.
#[derive(Debug, Default)]
pub(super) struct Names {
    members: BTreeMap<String, Member>,
    names: BTreeMap<Member, String>,
}

impl Names {
    /// Checks that a name can be had by somebody new.
    ///
    /// # Errors
    /// No name at all, or one that is taken.
    pub(super) fn check(&self, name: &str) -> Result<(), DomainError> {
        if !is_name(name) {
            return Err(DomainError::Name {
                name: name.to_owned(),
            });
        }
        match self.members.contains_key(name) {
            true => Err(DomainError::NameTaken {
                name: name.to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// Gives somebody a name, in place of the one it has.
    ///
    /// # Errors
    /// As [`check`](Self::check); it keeps the name it has then.
    pub(super) fn set(&mut self, member: Member, name: &str) -> Result<(), DomainError> {
        if self.name(member) == Some(name) {
            return Ok(());
        }
        self.check(name)?;
        self.forget(member);
        self.members.insert(name.to_owned(), member);
        self.names.insert(member, name.to_owned());
        Ok(())
    }

    pub(super) fn name(&self, member: Member) -> Option<&str> {
        self.names.get(&member).map(String::as_str)
    }

    /// The port or function with a name.
    pub(super) fn member(&self, name: &str) -> Option<Member> {
        self.members.get(name).copied()
    }

    fn forget(&mut self, member: Member) {
        if let Some(name) = self.names.remove(&member) {
            self.members.remove(&name);
        }
    }

    /// Their owners are gone: others can have the names.
    pub(super) fn forget_removed(&mut self, removed: &Removed) {
        let functions = removed.functions.iter().copied().map(Member::Function);
        let ports = removed.ports.iter().copied().map(Member::Port);
        for member in functions.chain(ports) {
            self.forget(member);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_no_path() {
        let names = Names::default();
        let long = "n".repeat(65);
        for wrong in ["", "a/b", "tab\t", "01.0", "1f.7", &long] {
            assert!(names.check(wrong).is_err(), "{wrong:?}");
        }
        let longest = "ä".repeat(64);
        for right in ["a", "sensor 1", "v1.0", "100.0", "01.0 left", &longest] {
            names.check(right).unwrap();
        }
    }
}
