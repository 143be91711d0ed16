//! Which control sockets this process has in a directory, so that the next one's name is found without
//! trying those: a claim on a path that is held takes a while to be refused, since it may only be looked at.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static TAKEN: Mutex<BTreeSet<(PathBuf, u32)>> = Mutex::new(BTreeSet::new());

fn taken() -> MutexGuard<'static, BTreeSet<(PathBuf, u32)>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that no other control server of this process has in a directory, until it is dropped.
#[derive(Debug)]
pub(crate) struct Number {
    directory: PathBuf,
    number: u32,
}

impl Number {
    /// Takes the first free number that is not below `first`.
    pub(crate) fn take(directory: &Path, first: u32) -> Self {
        let mut taken = taken();
        let mut number = first;
        while !taken.insert((directory.to_owned(), number)) {
            number += 1;
        }
        Self {
            directory: directory.to_owned(),
            number,
        }
    }

    pub(crate) fn get(&self) -> u32 {
        self.number
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        let directory = std::mem::take(&mut self.directory);
        taken().remove(&(directory, self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_one_is_taken() {
        let (here, there) = (Path::new("/here"), Path::new("/there"));
        let zero = Number::take(here, 0);
        let one = Number::take(here, 0);
        assert_eq!((zero.get(), one.get()), (0, 1));
        assert_eq!(Number::take(there, 0).get(), 0);
        drop(zero);
        assert_eq!(Number::take(here, 1).get(), 2);
        assert_eq!(Number::take(here, 0).get(), 0);
    }
}
