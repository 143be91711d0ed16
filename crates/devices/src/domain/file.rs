//! The description of a domain as it is written: tables and keys, values of the right kind. What they mean together is `plan`'s.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use toml::{Spanned, Table};

/// All bus numbers.
pub(super) const BUSES_MAX: u32 = 256;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: Option<String>,
    pub(super) buses: Option<u16>,
    pub(super) memory: Option<Size>,
    pub(super) prefetchable: Option<Size>,
    pub(super) vectors: Option<u16>,
    #[serde(default, rename = "port")]
    pub(super) ports: Vec<Spanned<PortTable>>,
}

/// A root port, or a downstream port of a switch, or several alike.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PortTable {
    pub(super) name: Option<String>,
    pub(super) count: Option<u32>,
    pub(super) depth: Option<u32>,
    pub(super) slot: Option<SlotValue>,
    pub(super) button: Option<bool>,
    pub(super) device: Option<String>,
    #[serde(default)]
    pub(super) set: Table,
    #[serde(default, rename = "function")]
    pub(super) functions: Vec<FunctionTable>,
    pub(super) switch: Option<OneOrMany<PortTable>>,
}

/// A function of a device with several.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FunctionTable {
    pub(super) name: Option<String>,
    pub(super) number: Option<u8>,
    pub(super) device: String,
    #[serde(default)]
    pub(super) set: Table,
}

/// `true` for a slot with the next free number, `false` for none, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotValue {
    No,
    Next,
    Number(u16),
}

impl<'de> Deserialize<'de> for SlotValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = SlotValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or the slot's number, 0 to 8191")
            }

            fn visit_bool<E: de::Error>(self, slot: bool) -> Result<SlotValue, E> {
                Ok(if slot { SlotValue::Next } else { SlotValue::No })
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<SlotValue, E> {
                u16::try_from(number)
                    .ok()
                    .filter(|number| *number <= hdv::pci::spec::port::SLOT_NUMBER_MAX)
                    .map(SlotValue::Number)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

/// Bytes: a number, or one with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let shift = match unit.trim() {
            "" | "B" => 0,
            "K" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            "T" | "TiB" => 40,
            _ => return None,
        };
        let bytes = number.parse::<u64>().ok()?.checked_mul(1 << shift)?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
        let divides = |(_, shift): &&(&str, u32)| self.0 != 0 && self.0.trailing_zeros() >= *shift;
        match UNITS.iter().find(divides) {
            Some((unit, shift)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size in bytes, or one with K, M, G or T, such as \"64M\"")
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes)
                    .map(Size)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

/// One table, or a list of them.
#[derive(Debug)]
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table, or a list of tables")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let one = T::deserialize(MapAccessDeserializer::new(map))?;
                Ok(OneOrMany(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany)
            }
        }

        deserializer.deserialize_any(Read(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("4096", 4096),
            ("8K", 8 << 10),
            ("64M", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1G", 1 << 30),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
        for text in ["0", "1000", "8K", "100M", "1G", "1536M", "1T"] {
            assert_eq!(Size::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "M", "-1M", "1.5G", "64m", "64MB", "99999999999G", "1 2"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }
}
