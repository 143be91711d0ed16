//! A domain that a file describes: made first, then served.

use hdv::DeviceHost;
use hdv::domain::{Domain, DomainEndpoint, is_name};
use hdv_devices::domain::{DomainDocument, LINUX_LEVELS, attach};

use crate::Failure;
use crate::group::{self, DomainRequest};

/// A domain that has been made, and is not served yet.
pub(crate) struct Served<'a> {
    pub(crate) request: &'a DomainRequest,
    /// What it is called.
    pub(crate) name: String,
    domain: Domain,
    endpoint: DomainEndpoint,
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
        let (domain, endpoint) = document.build().map_err(|e| refuse(&e))?;
        Ok(Self {
            request,
            name,
            domain,
            endpoint,
        })
    }

    /// Serves it, and lets other programs of the user reach it.
    pub(crate) fn serve(self, host: &DeviceHost) -> Result<(), Failure> {
        let device = host.serve(&self.request.socket, &self.name, self.endpoint)?;
        self.domain
            .publish(host, device, &self.name, |domain, position, asked| {
                attach(
                    domain,
                    position,
                    &asked.name,
                    &asked.device,
                    &asked.settings,
                )
                .map_err(Into::into)
            })?;
        Ok(())
    }
}
