//! What is known of compute systems, and of what runs them.

use std::sync::Arc;

use hdv_compute::{ComputeSystem, Summary};
use serde_json::{Value, json};

use super::query::{PropertyQuery, ServiceQuery, SystemQuery};
use crate::document;
use crate::error::{Failure, codes};
use crate::guard;
use crate::operation::{Tracked, begin};
use crate::pointers::out;
use crate::strings::optional_string;
use crate::system::compute;
use crate::types::{HcsOperation, HcsSystem, Hresult, OperationType, Pcwstr, Pwstr};

/// The newest version of the schema whose documents are understood, of those that begin with the same number.
const SCHEMA_VERSION: (u32, u32) = (2, 7);

fn text(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::new(codes::E_FAIL, error.to_string()))
}

/// `Properties` of a system in a list.
fn summary(system: &Summary) -> Value {
    json!({
        "Id": system.id,
        "SystemType": "VirtualMachine",
        "Owner": system.owner,
        "RuntimeId": system.runtime_id,
        "State": system.state,
    })
}

/// Lists the compute systems of this user.
///
/// # Safety
/// `query` is null or has a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsEnumerateComputeSystems(
    query: Pcwstr,
    operation: HcsOperation,
) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let query = unsafe { optional_string(query, "Query") }?;
        let query = SystemQuery::of(query.as_deref())?;
        let tracked = Tracked {
            kind: OperationType::Enumerate,
            handle: std::ptr::null_mut(),
            system: None,
            waits_for_devices: false,
        };
        begin(operation, tracked, move || {
            let systems = ComputeSystem::enumerate()?;
            let found: Vec<_> = systems
                .iter()
                .filter(|system| query.matches(system))
                .map(summary)
                .collect();
            Ok(Some(text(&found)?))
        })
    })
}

/// Asks a compute system for its properties.
///
/// # Safety
/// `query` is null or has a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsGetComputeSystemProperties(
    system: HcsSystem,
    operation: HcsOperation,
    query: Pcwstr,
) -> Hresult {
    guard::result(|| {
        let compute = compute(system)?;
        // SAFETY: by the contract.
        if let Some(query) = unsafe { optional_string(query, "PropertyQuery") }? {
            PropertyQuery::check(&query)?;
        }
        let tracked = Tracked {
            kind: OperationType::GetProperties,
            handle: system,
            system: Some(Arc::clone(&compute)),
            waits_for_devices: false,
        };
        begin(operation, tracked, move || {
            Ok(Some(text(&compute.system()?.properties()?)?))
        })
    })
}

/// What is known of what runs compute systems.
///
/// # Safety
/// Pointers are null or valid; `query` has a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsGetServiceProperties(query: Pcwstr, result: *mut Pwstr) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let place = unsafe { out(result, "Result", std::ptr::null_mut()) }?;
        // SAFETY: by the contract.
        if let Some(query) = unsafe { optional_string(query, "PropertyQuery") }?
            && let Err(failure) = ServiceQuery::check(&query)
        {
            document::hand_out(Some(&document::of_failure(&failure)), Some(&place))?;
            return Err(failure);
        }
        let (major, minor) = SCHEMA_VERSION;
        let properties = json!({
            "Properties": [{ "SupportedSchemaVersions": [{ "Major": major, "Minor": minor }] }]
        });
        document::hand_out(Some(&properties.to_string()), Some(&place))
    })
}
