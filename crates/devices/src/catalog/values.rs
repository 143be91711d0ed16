//! The settings of a device as a person gives them, and what can be wrong with them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// One setting of a kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub key: &'static str,
    /// The value without it.
    pub default: &'static str,
    /// What it means, in one line.
    pub help: &'static str,
}

/// A device that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The kind of device has no such setting.
    #[error("{device} has no setting {key:?}: it has {known}")]
    UnknownSetting {
        /// The kind of device.
        device: &'static str,
        /// The setting that was given.
        key: String,
        /// Those there are.
        known: String,
    },
    /// It brings devices of its own, which nobody would give to a VM here.
    #[error(
        "{device} is a physical function: its virtual functions have sockets of their own, which a compute system does \
         not connect to; serve it with `hdv serve`"
    )]
    PhysicalFunction {
        /// The kind of device.
        device: &'static str,
    },
    /// A setting's value cannot be used.
    #[error("{device}: {key}={value}: {source}")]
    Value {
        /// The kind of device.
        device: &'static str,
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A text that is no number, or one out of range.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a whole number from {least} to {most} is needed")]
struct NumberError {
    least: u32,
    most: u32,
}

/// A text that is neither yes nor no.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("yes or no is needed")]
struct SwitchError;

/// Settings as given, with the defaults behind them.
pub(super) struct Values<'a> {
    device: &'static str,
    settings: &'static [Setting],
    given: &'a BTreeMap<String, String>,
}

impl<'a> Values<'a> {
    /// `given` for a kind of device that has `settings`.
    pub(super) fn new(
        device: &'static str,
        settings: &'static [Setting],
        given: &'a BTreeMap<String, String>,
    ) -> Result<Self, CreateError> {
        let known = |key: &str| settings.iter().any(|setting| setting.key == key);
        if let Some(key) = given.keys().find(|key| !known(key)) {
            let keys: Vec<_> = settings.iter().map(|setting| setting.key).collect();
            return Err(CreateError::UnknownSetting {
                device,
                key: key.clone(),
                known: keys.join(", "),
            });
        }
        Ok(Self {
            device,
            settings,
            given,
        })
    }

    fn text(&self, key: &'static str) -> &str {
        let default = self.settings.iter().find(|setting| setting.key == key);
        self.given
            .get(key)
            .map(String::as_str)
            .or(default.map(|setting| setting.default))
            .unwrap_or_default()
    }

    /// The setting, read as a `T`.
    pub(super) fn read<T>(&self, key: &'static str) -> Result<T, CreateError>
    where
        T: FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        self.text(key)
            .parse()
            .map_err(|source| self.refuse(key, source))
    }

    /// A number.
    pub(super) fn number<T: TryFrom<u32>>(
        &self,
        key: &'static str,
        range: RangeInclusive<u32>,
    ) -> Result<T, CreateError> {
        self.text(key)
            .parse::<u32>()
            .ok()
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| {
                let (least, most) = range.into_inner();
                self.refuse(key, NumberError { least, most })
            })
    }

    /// A number, or nothing for the word `absent`.
    pub(super) fn number_or<T: TryFrom<u32>>(
        &self,
        absent: &str,
        key: &'static str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<T>, CreateError> {
        if self.text(key) == absent {
            return Ok(None);
        }
        self.number(key, range).map(Some)
    }

    /// Yes or no; true and false, as configuration files have them, are as good.
    pub(super) fn switch(&self, key: &'static str) -> Result<bool, CreateError> {
        match self.text(key) {
            "yes" | "true" => Ok(true),
            "no" | "false" => Ok(false),
            _ => Err(self.refuse(key, SwitchError)),
        }
    }

    /// The setting's value cannot be used, because of `source`.
    pub(super) fn refuse(
        &self,
        key: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> CreateError {
        CreateError::Value {
            device: self.device,
            key,
            value: self.text(key).to_owned(),
            source: Box::new(source),
        }
    }
}
