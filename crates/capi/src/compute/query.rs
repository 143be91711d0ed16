//! Documents of the caller's that say what is asked for: options and queries. What compute systems are made of, and changed
//! by, is read elsewhere.

use hdv_compute::Summary;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Failure, codes};

fn read<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::new(
            codes::HCS_E_INVALID_JSON,
            format!("{what} is wrong: {error}"),
        )
    })
}

fn lacking(what: &str) -> Failure {
    Failure::new(codes::E_NOTIMPL, format!("{what} is not supported"))
}

/// `PauseOptions`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct PauseOptions {
    suspension_level: Option<SuspensionLevel>,
    hosted_notification: Option<serde_json::Value>,
}

/// `PauseSuspensionLevel`.
#[derive(Deserialize, PartialEq, Eq)]
enum SuspensionLevel {
    Suspend,
    MemoryLow,
    MemoryMedium,
    MemoryHigh,
}

impl PauseOptions {
    /// Refuses what a pause cannot do.
    pub(super) fn check(text: &str) -> Result<(), Failure> {
        let options: Self = read(text, "PauseOptions")?;
        if options
            .suspension_level
            .is_some_and(|level| level != SuspensionLevel::Suspend)
        {
            return Err(lacking("a SuspensionLevel other than Suspend"));
        }
        if options.hosted_notification.is_some() {
            return Err(lacking("HostedNotification"));
        }
        Ok(())
    }
}

/// `SystemQuery`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct SystemQuery {
    ids: Option<Vec<String>>,
    names: Option<Vec<String>>,
    types: Option<Vec<SystemType>>,
    owners: Option<Vec<String>>,
}

/// `SystemType`.
#[derive(Deserialize, PartialEq, Eq)]
enum SystemType {
    Container,
    VirtualMachine,
}

impl SystemQuery {
    pub(super) fn of(text: Option<&str>) -> Result<Self, Failure> {
        text.map_or_else(|| Ok(Self::default()), |text| read(text, "SystemQuery"))
    }

    /// Whether a system is asked for. None has a name.
    pub(super) fn matches(&self, system: &Summary) -> bool {
        let has = |list: &Option<Vec<String>>, value: &str| {
            list.as_ref()
                .is_none_or(|list| list.iter().any(|wanted| wanted == value))
        };
        has(&self.ids, &system.id)
            && has(&self.owners, &system.owner)
            && self.names.is_none()
            && self
                .types
                .as_ref()
                .is_none_or(|types| types.contains(&SystemType::VirtualMachine))
    }
}

/// `System_PropertyQuery`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct PropertyQuery {
    #[serde(default)]
    property_types: Vec<PropertyType>,
    queries: Option<serde_json::Value>,
}

/// `System_PropertyType`.
#[derive(Debug, Deserialize)]
enum PropertyType {
    Basic,
    Memory,
    Statistics,
    ProcessList,
    TerminateOnLastHandleClosed,
    SharedMemoryRegion,
    GuestConnection,
}

impl PropertyQuery {
    /// Refuses what is not known of a system. What is known is always given.
    pub(super) fn check(text: &str) -> Result<(), Failure> {
        use PropertyType::{Basic, Memory, TerminateOnLastHandleClosed};
        let query: Self = read(text, "System_PropertyQuery")?;
        if query.queries.is_some() {
            return Err(lacking("Queries"));
        }
        for property in query.property_types {
            if !matches!(property, Basic | Memory | TerminateOnLastHandleClosed) {
                return Err(lacking(&format!("the property type {property:?}")));
            }
        }
        Ok(())
    }
}

/// `Service_PropertyQuery`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct ServiceQuery {
    #[serde(default)]
    property_types: Vec<ServicePropertyType>,
    property_queries: Option<serde_json::Value>,
}

/// `GetPropertyType`.
#[derive(Debug, Deserialize)]
enum ServicePropertyType {
    Basic,
    CpuGroup,
    ProcessorTopology,
    ContainerCredentialGuard,
    QoSCapabilities,
}

impl ServiceQuery {
    /// Refuses what is not known of the service.
    pub(super) fn check(text: &str) -> Result<(), Failure> {
        let query: Self = read(text, "Service_PropertyQuery")?;
        if query.property_queries.is_some() {
            return Err(lacking("PropertyQueries"));
        }
        for property in query.property_types {
            if !matches!(property, ServicePropertyType::Basic) {
                return Err(lacking(&format!("the property type {property:?}")));
            }
        }
        Ok(())
    }
}

/// Whether a request takes something out.
pub(super) fn removes(request: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Request {
        request_type: String,
    }
    serde_json::from_str::<Request>(request).is_ok_and(|request| request.request_type == "Remove")
}
