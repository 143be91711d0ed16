//! What a domain costs: accesses of a function inside beside those of the same function on a socket of its own (`access`),
//! and how long a guest's kernel takes to find many of them (`enumeration`). How the domains are filled is in `fill`.

mod access;
mod enumeration;
mod fill;

pub(super) use access::measure as access;
pub(super) use enumeration::measure as enumeration;
pub(super) use fill::serve;
