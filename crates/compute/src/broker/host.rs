//! What a restricted host may say. Nothing of it is believed.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hdv_control::{ControlError, ErrorKind, Link, LinkHandler};
use serde_json::Value;

use super::{Shared, WORKER_LIMIT, refused};
use crate::document::HostingModel;
use crate::error::codes;
use crate::host_commands::{arguments, instance};
use crate::protocol::{Device, HELLO, Hello, host};

/// How long the worker may take until the VM has let go of a device: it has limits of its own.
const WITHDRAW_LIMIT: Duration = Duration::from_secs(180);

/// The host's end, as it calls.
pub(super) struct FromHost {
    shared: Arc<Shared>,
    /// It has said hello.
    known: AtomicBool,
}

impl FromHost {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            known: AtomicBool::new(false),
        }
    }

    fn hello(&self, link: &Link, args: Value) -> Result<Value, ControlError> {
        let hello = arguments(args)?;
        let restricted = matches!(
            hello,
            Hello::DeviceHost {
                hosting_model: HostingModel::ExternalRestricted,
                ..
            }
        );
        if !restricted || self.known.swap(true, Ordering::SeqCst) {
            return Err(ControlError::bad_arguments(
                "a broker speaks for one restricted device host, which says hello once",
            )
            .with_code(codes::E_ACCESSDENIED));
        }
        // The worker may call it as soon as it has announced something, whether or not this process has come to keep the link.
        self.shared.host.get_or_init(|| link.clone());
        Ok(self.shared.welcome.get().cloned().unwrap_or_default())
    }

    fn announce(&self, args: Value) -> Result<(), ControlError> {
        let device: Device = arguments(args)?;
        let which = self.shared.devices().announce(&device)?;
        let announced = self
            .shared
            .call_worker(host::ANNOUNCE, &device, WORKER_LIMIT);
        match announced {
            Ok(_) => self.shared.devices().announced(which),
            Err(error) => {
                self.shared.forget(which);
                return Err(error);
            }
        }
        Ok(())
    }

    fn withdraw(&self, args: Value) -> Result<(), ControlError> {
        let instance = instance(args)?;
        let which = self.shared.devices().withdraw(instance.instance_id)?;
        let withdrawn = self
            .shared
            .call_worker(host::WITHDRAW, &instance, WITHDRAW_LIMIT);
        // Its host tears it down now, whatever has become of its VM.
        self.shared.forget(which);
        withdrawn.map(drop)
    }
}

impl LinkHandler for FromHost {
    fn call(
        &self,
        link: &Link,
        command: &str,
        args: Value,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Value, ControlError> {
        if !descriptors.is_empty() {
            // None belong to anything that it may say, and they are not kept while the worker takes its time: there are
            // only so many in this process.
            drop(descriptors);
            self.end(link, "it sends descriptors");
            return Err(refused(
                codes::E_ACCESSDENIED,
                "a broker takes no descriptors".to_owned(),
            ));
        }
        let allowed = self
            .shared
            .rate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .allows();
        if !allowed {
            self.end(link, "it says too much");
            return Err(refused(
                codes::E_ACCESSDENIED,
                "a restricted device host that says so much is not spoken for any more".to_owned(),
            ));
        }
        match command {
            HELLO => self.hello(link, args),
            host::ANNOUNCE | host::WITHDRAW if !self.known.load(Ordering::SeqCst) => Err(refused(
                codes::E_ACCESSDENIED,
                "a device host says hello first".to_owned(),
            )),
            host::ANNOUNCE => self.announce(args).map(|()| Value::Null),
            host::WITHDRAW => self.withdraw(args).map(|()| Value::Null),
            _ => Err(ControlError::new(
                ErrorKind::UnknownCommand,
                "a broker does not know this command",
            )),
        }
    }

    fn notice(&self, link: &Link, _: &str, _: Value) {
        // There are none, and each costs nobody but us.
        self.end(link, "it tells what nobody asked");
    }

    fn closed(&self, _: &Link) {
        tracing::info!(pid = self.shared.pid, "the restricted device host is gone");
        self.shared.end();
    }
}

impl FromHost {
    fn end(&self, link: &Link, why: &str) {
        tracing::warn!(
            pid = self.shared.pid,
            "the restricted device host is cut off: {why}"
        );
        link.close();
    }
}
