//! The handles that are open: how many, and that the last one is gone.

use std::collections::BTreeMap;

use hdv_control::Link;
use serde_json::Value;

use super::parallel;
use crate::protocol;

/// Open handles, by number.
#[derive(Debug, Default)]
pub(super) struct Handles {
    /// `None` for one whose link is not known yet.
    open: BTreeMap<u64, Option<Link>>,
}

impl Handles {
    /// A handle is open.
    pub(super) fn open(&mut self, number: u64, link: Option<&Link>) {
        self.open.insert(number, link.cloned());
    }

    /// The link of a handle that is open.
    pub(super) fn keep(&mut self, number: u64, link: &Link) {
        if let Some(open) = self.open.get_mut(&number) {
            *open = Some(link.clone());
        }
    }

    /// A handle is closed. Its link is given back, to be dropped elsewhere.
    pub(super) fn close(&mut self, number: u64) -> Option<Link> {
        self.open.remove(&number).flatten()
    }

    /// Whether none is open.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Those that are open now.
    pub(super) fn links(&self) -> Vec<Link> {
        self.open.values().flatten().cloned().collect()
    }
}

/// Tells handles, all at a time, that the system has ended. One that is gone, or takes nothing in, hears nothing.
pub(super) fn tell_exited(links: &[Link], status: &crate::ExitStatus) {
    let status = serde_json::to_value(status).unwrap_or(Value::Null);
    parallel::each(links, |link| {
        if let Err(error) = link.notify(protocol::handle::EXITED, &status) {
            tracing::debug!(%error, "a handle does not hear of the end");
        }
    });
}
