//! Names that nobody chose: ids of compute systems, names of devices in them.

use std::path::Path;

use hdv_compute::{ComputeSystem, Error};

use crate::Failure;

/// How many names of one kind are tried.
const TRIES: usize = 1000;

/// `name`, then `name-2`, `name-3` and so on.
fn numbered(name: &str) -> impl Iterator<Item = String> {
    let further = (2..=TRIES).map(move |number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(further)
}

/// The id that a document's file suggests.
pub(super) fn of_file(path: &Path) -> String {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    if name.is_empty() {
        "vm".to_owned()
    } else {
        name
    }
}

/// The first name like this that is not taken.
pub(super) fn free(name: &str, is_taken: impl Fn(&str) -> bool) -> Option<String> {
    numbered(name).find(|name| !is_taken(name))
}

/// Creates a compute system: of this id if a person chose it, else of the first one like `suggested` that is free.
pub(super) fn create(
    chosen: Option<&str>,
    suggested: &str,
    document: impl Fn(&str) -> Result<String, Failure>,
) -> Result<ComputeSystem, Failure> {
    if let Some(id) = chosen {
        return Ok(ComputeSystem::create(id, &document(id)?)?);
    }
    for id in numbered(suggested) {
        match ComputeSystem::create(&id, &document(&id)?) {
            Err(Error::AlreadyExists(_)) => {}
            result => return Ok(result?),
        }
    }
    Err(Error::AlreadyExists(suggested.to_owned()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_from_two() {
        assert_eq!(free("a", |_| false).unwrap(), "a");
        assert_eq!(
            free("a", |name| matches!(name, "a" | "a-2")).unwrap(),
            "a-3"
        );
        assert_eq!(free("a", |_| true), None);
        assert_eq!(of_file(Path::new("/x/build.vm.json")), "build.vm");
        assert_eq!(of_file(Path::new("\n.json")), "vm");
    }
}
