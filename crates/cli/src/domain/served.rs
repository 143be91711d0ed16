//! A domain that a file describes: made first, then served.

use hdv::DeviceHost;
use hdv::domain::control::DeviceRequest;
use hdv::domain::is_name;
use hdv_devices::domain::{Built, DomainDocument, LINUX_LEVELS, attach};
use hdv_sriov::PfPublisher;

use crate::Failure;
use crate::group::{self, DomainRequest};

/// A domain that has been made, and is not served yet.
pub(crate) struct Served<'a> {
    pub(crate) request: &'a DomainRequest,
    /// What it is called.
    pub(crate) name: String,
    built: Built,
}

impl<'a> Served<'a> {
    /// Makes it. Everything that can be wrong with the file is told here.
    pub(crate) fn make(request: &'a DomainRequest) -> Result<Self, Failure> {
        let file = &request.file;
        let refuse = |error: &dyn std::fmt::Display| -> Failure {
            format!("{}: {error}", file.display()).into()
        };
        let document = DomainDocument::parse(&group::read(file)?).map_err(|e| refuse(&e))?;
        let levels = document.levels();
        if levels > LINUX_LEVELS {
            tracing::warn!(
                "{}: {levels} buses are one below the other, which a Linux guest does not survive; {LINUX_LEVELS} are well",
                file.display()
            );
        }
        let stem = || {
            file.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
        };
        let name = document.name().map(str::to_owned).or_else(stem);
        let name = name.unwrap_or_default();
        if !is_name(&name) {
            return Err(refuse(&format!(
                "a domain cannot be called {name:?}, as the file is; give it another name = \"...\" at the beginning"
            )));
        }
        let built = document.build().map_err(|e| refuse(&e))?;
        Ok(Self {
            request,
            name,
            built,
        })
    }

    /// Serves it, and lets other programs of the user reach it and the PFs in it, also those that come later.
    pub(crate) fn serve(self, host: &DeviceHost) -> Result<(), Failure> {
        let Self {
            request,
            name,
            built,
        } = self;
        let device = host.serve(&request.socket, &name, built.endpoint)?;
        let publisher = PfPublisher::of(host);
        for (pf_name, pf) in &built.pfs {
            publisher.publish(pf, &label(&name, pf_name));
        }
        let of_domain = name.clone();
        let factory = move |domain: &_, position, asked: &DeviceRequest| {
            let (device, settings) = (&asked.device, &asked.settings);
            if let Some(pf) = attach(domain, position, &asked.name, device, settings)? {
                publisher.publish(&pf, &label(&of_domain, &asked.name));
            }
            Ok(())
        };
        built.domain.publish(host, device, &name, factory)?;
        Ok(())
    }
}

/// What people call a PF inside a domain, as any place there.
fn label(domain: &str, name: &str) -> String {
    format!("{domain}/{name}")
}
