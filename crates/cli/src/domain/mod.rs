//! Domains: what of `hdv serve`, `hdv tree`, `hdv plug`, `hdv unplug` and `hdv inject` concerns them.
//!
//! | file | what it has |
//! | --- | --- |
//! | `served` | a domain of a file, made and served |
//! | `find` | the domains of running hosts, and which one is meant |
//! | `tree`, `node`, `draw`, `watch` | `hdv tree`: as data, in lines, again and again |
//! | `plug`, `inject` | subcommands |
//! | `errors` | names of errors |

mod draw;
mod errors;
mod find;
mod inject;
mod node;
mod plug;
mod served;
mod tree;
mod watch;

pub(crate) use inject::run as inject;
pub(crate) use plug::{plug, unplug};
pub(crate) use served::Served;
pub(crate) use tree::run as tree;

/// Whether a person means a place in a domain, not a VM: ids of VMs may have a '/' too, so those that there are come first.
pub(crate) fn is_place(text: &str) -> bool {
    let is_system = || {
        hdv_compute::ComputeSystem::enumerate()
            .is_ok_and(|systems| systems.iter().any(|system| system.id == text))
    };
    text.contains('/') && !is_system()
}
