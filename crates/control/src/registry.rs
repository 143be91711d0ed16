//! The commands a process answers on its control socket, and the errors they give.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

type Handler = dyn Fn(Value) -> Result<Value, ControlError> + Send + Sync;

/// A command.
struct Command {
    handler: Arc<Handler>,
    slow: bool,
}

/// What kind of error a command gave, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The process has no such command.
    UnknownCommand,
    /// The request or its arguments make no sense.
    BadArguments,
    /// What the arguments name does not exist.
    NotFound,
    /// It cannot be done now.
    Busy,
    /// The process is at fault.
    Internal,
    /// A kind this version does not know.
    #[serde(other)]
    Other,
}

/// The error of a command, as it crosses the socket.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct ControlError {
    /// The kind, for programs.
    pub kind: ErrorKind,
    /// What was wrong and what to do, for people.
    pub message: String,
    /// The result code that the error has elsewhere, an `HRESULT`, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
}

impl ControlError {
    /// An error of the given kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            code: None,
        }
    }

    /// Adds a result code.
    #[must_use]
    pub fn with_code(mut self, code: i32) -> Self {
        self.code = Some(code);
        self
    }

    /// An error of kind [`ErrorKind::BadArguments`].
    pub fn bad_arguments(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadArguments, message)
    }

    /// An error of kind [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// An error of kind [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }
}

/// A command that cannot be registered.
#[derive(Debug, Error)]
pub enum RegisterError {
    /// The name is taken.
    #[error("the control command {name:?} is registered already")]
    Taken {
        /// The name.
        name: String,
    },
}

/// Commands by name. Clones share one table, so commands can be added while a server runs.
#[derive(Clone, Default)]
pub struct Registry {
    commands: Arc<RwLock<BTreeMap<String, Command>>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Registry")
            .field(&self.names())
            .finish()
    }
}

impl Registry {
    /// A registry without commands.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a command. Its handler runs on the server's thread, one call at a time, and must
    /// not take long: meanwhile nobody else is answered.
    ///
    /// # Errors
    /// The name is taken.
    pub fn register<F>(&self, name: &str, handler: F) -> Result<(), RegisterError>
    where
        F: Fn(Value) -> Result<Value, ControlError> + Send + Sync + 'static,
    {
        self.add(name, Arc::new(handler), false)
    }

    /// Adds a command that takes long, or waits for something that may never come. Each call has a thread of its
    /// own, and others are answered meanwhile; up to 32 calls at a time, further ones fail with
    /// [`ErrorKind::Busy`]. A call that is under way when the server is dropped goes on.
    ///
    /// # Errors
    /// The name is taken.
    pub fn register_slow<F>(&self, name: &str, handler: F) -> Result<(), RegisterError>
    where
        F: Fn(Value) -> Result<Value, ControlError> + Send + Sync + 'static,
    {
        self.add(name, Arc::new(handler), true)
    }

    fn add(&self, name: &str, handler: Arc<Handler>, slow: bool) -> Result<(), RegisterError> {
        match self.write().entry(name.to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(Command { handler, slow });
                Ok(())
            }
            Entry::Occupied(_) => Err(RegisterError::Taken {
                name: name.to_owned(),
            }),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Command>> {
        self.commands.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Command>> {
        self.commands
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a command; returns whether there was one.
    pub fn unregister(&self, name: &str) -> bool {
        self.write().remove(name).is_some()
    }

    /// The commands, in alphabetical order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.read().keys().cloned().collect()
    }

    /// Whether calls of a command need a thread of their own.
    pub(crate) fn is_slow(&self, name: &str) -> bool {
        self.read().get(name).is_some_and(|command| command.slow)
    }

    /// Calls a command. A handler that panics gives an error of kind [`ErrorKind::Internal`].
    ///
    /// # Errors
    /// The command is unknown, or its handler failed.
    pub fn call(&self, name: &str, arguments: Value) -> Result<Value, ControlError> {
        // The lock is not held during the call: a handler may register.
        let handler = self
            .read()
            .get(name)
            .map(|command| Arc::clone(&command.handler));
        let Some(handler) = handler else {
            let message = format!(
                "there is no control command {name:?} here; there are: {}",
                self.names().join(", ")
            );
            return Err(ControlError::new(ErrorKind::UnknownCommand, message));
        };
        catch_unwind(AssertUnwindSafe(|| handler(arguments))).unwrap_or_else(|_| {
            let message = format!("the control command {name:?} panicked");
            Err(ControlError::internal(message))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_registered_once() {
        let registry = Registry::new();
        registry.register("one", |_| Ok(1.into())).unwrap();
        let error = registry.register("one", |_| Ok(2.into())).unwrap_err();
        assert!(error.to_string().contains("\"one\""), "{error}");
        assert_eq!(registry.call("one", Value::Null).unwrap(), 1);
        assert!(registry.unregister("one"));
        assert!(!registry.unregister("one"));
        let error = registry.call("one", Value::Null).unwrap_err();
        assert_eq!(error.kind, ErrorKind::UnknownCommand);
    }

    #[test]
    fn a_panic_is_an_error_and_the_registry_lives_on() {
        let registry = Registry::new();
        let inner = registry.clone();
        registry
            .register("grow", move |_| {
                inner.register("new", |_| Ok(Value::Null)).unwrap();
                panic!("on purpose");
            })
            .unwrap();
        let error = registry.call("grow", Value::Null).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal);
        registry.call("new", Value::Null).unwrap();
    }

    #[test]
    fn an_unknown_kind_is_read_as_other() {
        let json = r#"{"kind":"from-the-future","message":"m"}"#;
        let error: ControlError = serde_json::from_str(json).unwrap();
        assert_eq!(error.kind, ErrorKind::Other);
    }
}
