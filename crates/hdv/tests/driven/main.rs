//! Device hosts whose system drives their devices: when each is powered on, started, stopped and removed, clients that are
//! handed over, and what a restricted host may have.

#[expect(dead_code, reason = "the tests of callbacks use all of it")]
#[path = "../callbacks/device.rs"]
mod device;
#[path = "../support/mod.rs"]
mod support;

mod handed;
mod life;
mod limits;
mod races;
mod system;
