//! The conformance table: a row for every name, and in it the tests.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `docs/conformance.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    /// Names of the headers' own, which programs do not use.
    pub(super) internal: Vec<String>,
    pub(super) function: Vec<Row>,
    pub(super) callback: Vec<Row>,
    pub(super) r#type: Vec<Row>,
    pub(super) constant: Vec<Row>,
}

/// One name, or several that the same tests are of.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Row {
    pub(super) name: Option<String>,
    pub(super) names: Vec<String>,
    /// It does what it is for.
    pub(super) success: Vec<String>,
    /// It says that it is not there: for functions of the vendor's interface that are not supported. Nothing else is asked of
    /// such a row.
    pub(super) absent: Vec<String>,
    /// By the error's name.
    pub(super) errors: BTreeMap<String, Vec<String>>,
    /// What a guest sees of it.
    pub(super) guest: Vec<String>,
    /// Why no guest can see anything of it, for functions that the vendor's interface does not have.
    pub(super) unseen: Option<String>,
    /// Size, alignment and offsets.
    pub(super) layout: Vec<String>,
    /// Value, or what a macro makes of its arguments.
    pub(super) value: Vec<String>,
}

impl Row {
    /// What the row is of.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.name.iter().chain(&self.names).map(String::as_str)
    }

    /// Every test it cites.
    pub(super) fn tests(&self) -> impl Iterator<Item = &str> {
        [
            &self.success,
            &self.absent,
            &self.guest,
            &self.layout,
            &self.value,
        ]
        .into_iter()
        .chain(self.errors.values())
        .flatten()
        .map(String::as_str)
    }
}

impl Table {
    /// Every row with what it is of.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Kind, &Row)> {
        self.function
            .iter()
            .map(|row| (Kind::Function, row))
            .chain(self.callback.iter().map(|row| (Kind::Callback, row)))
            .chain(self.r#type.iter().map(|row| (Kind::Type, row)))
            .chain(self.constant.iter().map(|row| (Kind::Constant, row)))
    }
}

/// What a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Function,
    Callback,
    Type,
    Constant,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Function, Self::Callback, Self::Type, Self::Constant];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Function => "functions",
            Self::Callback => "callbacks",
            Self::Type => "types",
            Self::Constant => "constants",
        }
    }
}
