//! Commands whose arguments and answers are types, as commands over JSON.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::registry::ControlError;

/// A command over something shared, as [`Registry::register`](crate::Registry::register) takes it. Arguments that are none of its
/// kind are refused.
pub fn command<T, A, R, F>(
    over: &Arc<T>,
    answer: F,
) -> impl Fn(Value) -> Result<Value, ControlError> + use<T, A, R, F>
where
    A: DeserializeOwned,
    R: Serialize,
    F: Fn(&T, A) -> Result<R, ControlError>,
{
    let over = Arc::clone(over);
    move |arguments| {
        let arguments = serde_json::from_value(arguments)
            .map_err(|error| ControlError::bad_arguments(error.to_string()))?;
        serde_json::to_value(answer(&over, arguments)?)
            .map_err(|error| ControlError::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::ErrorKind;

    #[test]
    fn arguments_are_taken_as_types() {
        let over = Arc::new(40_u32);
        let add = command(&over, |over, more: u8| {
            over.checked_add(more.into())
                .filter(|sum| *sum < 100)
                .ok_or_else(|| ControlError::not_found("too much".to_owned()))
        });
        assert_eq!(add(json!(2)).unwrap(), json!(42));
        assert_eq!(add(json!(256)).unwrap_err().kind, ErrorKind::BadArguments);
        assert_eq!(add(json!(99)).unwrap_err().kind, ErrorKind::NotFound);
    }
}
