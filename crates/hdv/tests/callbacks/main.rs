//! Devices behind callbacks: their life, config space and interrupts, as their callbacks and a guest
//! see it; over a real socket but for the properties.

mod as_vf;
mod config;
mod device;
mod interrupts;
mod life;
mod properties;
#[path = "../support/mod.rs"]
mod support;
