//! The compute systems that there are.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hdv_control::{ControlError, ErrorKind, Link, LinkHandler, RuntimeDirectory};
use serde_json::Value;

use super::{Summary, greet, nobody_listens, properties};
use crate::places::{self, Place};
use crate::protocol::Hello;
use crate::{Error, Result};

/// How long a worker may take to answer one question, so that one that is stopped does not hold the list up.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many workers are asked at a time.
const AT_A_TIME: usize = 32;

/// All that answer, by id.
pub(super) fn systems(runtime: &RuntimeDirectory) -> Result<Vec<Summary>> {
    let places = places::living(runtime)?;
    let mut systems = Vec::new();
    for places in places.chunks(AT_A_TIME) {
        thread::scope(|scope| {
            let asked: Vec<_> = places
                .iter()
                .map(|place| scope.spawn(move || summary(place)))
                .collect();
            for (asked, place) in asked.into_iter().zip(places) {
                match asked.join() {
                    Ok(Ok(summary)) => systems.extend(summary),
                    Ok(Err(error)) => tracing::warn!(
                        socket = %place.socket.display(),
                        %error,
                        "a compute system is left out of the list: its worker does not answer"
                    ),
                    Err(_) => tracing::error!("asking a worker panicked"),
                }
            }
        });
    }
    systems.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(systems)
}

/// `None` when the worker is only just starting, or ending.
fn summary(place: &Place) -> Result<Option<Summary>> {
    let unknown = place.socket.display().to_string();
    let link = match Link::connect(&place.socket, Arc::new(Deaf)) {
        Ok(link) => link,
        Err(error) if nobody_listens(&error) => return Ok(None),
        Err(error) => return Err(Error::of_connect(&unknown, &error)),
    };
    let welcome = greet(&link, &unknown, &Hello::Observer, PATIENCE)?;
    let properties = properties(&link, &welcome.id, PATIENCE)?;
    Ok(Some(Summary {
        id: properties.id,
        runtime_id: properties.runtime_id,
        owner: properties.owner,
        state: properties.state,
        socket: place.socket.clone(),
        vmm_process_id: properties.vmm_process_id,
        devices: properties.devices,
    }))
}

/// Who only asks.
struct Deaf;

impl LinkHandler for Deaf {
    fn call(
        &self,
        _: &Link,
        command: &str,
        _: Value,
        _: Vec<OwnedFd>,
    ) -> Result<Value, ControlError> {
        let message = format!("who asks for a list has no command {command:?}");
        Err(ControlError::new(ErrorKind::UnknownCommand, message))
    }

    fn notice(&self, _: &Link, _: &str, _: Value) {}

    fn closed(&self, _: &Link) {}
}
