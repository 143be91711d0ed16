//! Programs in C against the installed library: compilers and their flags, what is built, and programs
//! that serve devices while something looks at them.

mod check;
mod library;
mod served;
mod toolchain;
mod valgrind;

pub(crate) use check::check;
pub(crate) use library::{Initialize, Library, Variant, checks, examples, tests};
pub(crate) use served::{Served, ServedDevice};
pub(crate) use toolchain::Language;
pub(crate) use valgrind::{FOUND, Valgrind};
