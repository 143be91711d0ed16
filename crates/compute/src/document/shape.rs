//! Which properties a JSON object of HCS's may have, and the walk that compares a text with that.
//!
//! The tables are in `hcs`; which types the values become, serde knows.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::DocumentError;

/// The properties that an object may have.
#[derive(Debug)]
pub(super) struct Shape {
    /// Those that are honoured.
    pub(super) known: &'static [(&'static str, Kind)],
    /// Those that HCS's schema has and OpenHDV does not.
    pub(super) unsupported: &'static [&'static str],
    /// What to do in place of some of the latter.
    pub(super) remedies: &'static [(&'static str, &'static str)],
}

/// What stands behind a property.
#[derive(Debug)]
pub(super) enum Kind {
    /// A value whose type serde checks.
    Value,
    /// An object.
    Object(&'static Shape),
    /// Objects by key.
    Map(&'static Shape),
    /// One of a set of words.
    Word {
        /// Those that are honoured.
        known: &'static [&'static str],
        /// Those that HCS's schema has and OpenHDV does not.
        unsupported: &'static [&'static str],
    },
    /// `true` or `false`, neither of which changes anything for the guest: about how a host goes about its work. Taken out.
    Hint,
}

/// How many differences two names may have for one to be taken for a slip of the other.
const SLIP: usize = 2;

/// Compares a value with a shape and takes out of it what means nothing: nulls (in JSON of HCS an absent property) and hints.
///
/// # Errors
/// A property that is unknown or not supported; a word likewise; something else than an object.
pub(super) fn compare(value: &mut Value, shape: &Shape, path: &str) -> Result<(), DocumentError> {
    // serde would take the values of an array for those of the properties.
    let Value::Object(properties) = value else {
        let what = match value {
            Value::Array(_) => "an array".to_owned(),
            value => value.to_string(),
        };
        let reason = format!("it is {what} and an object is expected");
        return Err(DocumentError::new(path, reason));
    };
    let mut kept = Map::new();
    for (name, mut value) in std::mem::take(properties) {
        let place = join(path, &name);
        let known = shape.known.iter().find(|(known, _)| *known == name);
        let Some((_, kind)) = known else {
            let absent = value.is_null() && shape.unsupported.contains(&name.as_str());
            if absent {
                continue;
            }
            return Err(DocumentError::new(place, stranger(&name, shape)));
        };
        if value.is_null() {
            continue;
        }
        match kind {
            Kind::Value => {}
            Kind::Object(shape) => compare(&mut value, shape, &place)?,
            Kind::Map(shape) => {
                for (key, value) in value.as_object_mut().into_iter().flatten() {
                    compare(value, shape, &join(&place, key))?;
                }
            }
            Kind::Word { known, unsupported } => word(&value, known, unsupported, &place)?,
            Kind::Hint if value.is_boolean() => continue,
            Kind::Hint => {
                let reason = format!("it is {value} and must be true or false");
                return Err(DocumentError::new(place, reason));
            }
        }
        kept.insert(name, value);
    }
    *properties = kept;
    Ok(())
}

/// What is wrong with a property that is not honoured.
fn stranger(name: &str, shape: &Shape) -> String {
    if shape.unsupported.contains(&name) {
        let remedy = shape
            .remedies
            .iter()
            .find_map(|(of, remedy)| (*of == name).then_some(*remedy))
            .unwrap_or("leave it out");
        return format!(
            "HCS's schema has this property, but OpenHDV does not support it; {remedy}"
        );
    }
    let known: Vec<_> = shape.known.iter().map(|(name, _)| *name).collect();
    let meant = match slip(name, known.iter().chain(shape.unsupported)) {
        Some(meant) => format!("did you mean {meant}? "),
        None => String::new(),
    };
    match known.as_slice() {
        [] => format!("there is no such property; {meant}this object has none here"),
        known => format!(
            "there is no such property; {meant}here are: {}",
            known.join(", ")
        ),
    }
}

fn word(
    value: &Value,
    known: &[&'static str],
    unsupported: &[&'static str],
    path: &str,
) -> Result<(), DocumentError> {
    let Some(word) = value.as_str() else {
        // Of the wrong type, which serde says.
        return Ok(());
    };
    if known.contains(&word) {
        return Ok(());
    }
    let all = alternatives(known);
    let reason = if unsupported.contains(&word) {
        format!(
            "HCS's schema has the value {word:?}, but OpenHDV does not support it; it can be {all}"
        )
    } else {
        match slip(word, known.iter().chain(unsupported)) {
            Some(meant) => {
                format!("there is no value {word:?}; did you mean {meant}? It can be {all}")
            }
            None => format!("there is no value {word:?}; it can be {all}"),
        }
    };
    Err(DocumentError::new(path, reason))
}

/// `a, b or c`.
fn alternatives(words: &[&str]) -> String {
    match words {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        words => words.concat(),
    }
}

fn slip<'a>(name: &str, among: impl Iterator<Item = &'a &'static str>) -> Option<&'static str> {
    let name = name.to_lowercase();
    among
        .map(|known| (strsim::osa_distance(&name, &known.to_lowercase()), *known))
        .filter(|(distance, known)| *distance <= SLIP && *distance < known.len())
        .min()
        .map(|(_, known)| known)
}

/// A place below a place.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}/{name}")
    }
}

/// Reads a JSON value in which no object has a property twice; serde_json's own keeps the last one silently.
pub(super) struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> serde::Deserialize<'de> for StrictValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Strict.deserialize(deserializer).map(Self)
    }
}

/// A [`Value`] that was read by [`Strict`].
#[derive(Debug)]
pub(super) struct StrictValue(pub(super) Value);

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number out of range"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(StrictValue(value)) = sequence.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut properties = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let StrictValue(value) = map.next_value()?;
            if properties.contains_key(&name) {
                return Err(A::Error::custom(format_args!("{name:?} is there twice")));
            }
            properties.insert(name, value);
        }
        Ok(Value::Object(properties))
    }
}
