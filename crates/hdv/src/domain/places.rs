//! Where something is in a domain, as people write it: its name, or the way to it from the root bus by device and function
//! numbers, as `lspci -P` writes it, which no bus number is in.

use hdv_pci::RoutingId;
use hdv_pci::topology::{Found, Member, Parent};

use super::error::DomainError;
use super::hierarchy::State;

/// Between the parts of a way.
const SEPARATOR: char = '/';

/// The place on a bus that a device and function number name: two digits of hexadecimal, a point and one digit, as `lspci`
/// writes them; the first of the two may be missing.
pub(super) fn number(text: &str) -> Option<u8> {
    let (device, function) = text.split_once('.')?;
    let digits = |text: &str, most| {
        let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        (hexadecimal && (1..=most).contains(&text.len()))
            .then(|| u8::from_str_radix(text, 16).ok())?
    };
    let id = RoutingId::new(0, digits(device, 2)?, digits(function, 1)?).ok()?;
    Some(id.ari_function())
}

/// What names a place below the one that `above` names.
pub(super) fn below(above: Option<&str>, id: RoutingId) -> String {
    let (device, function) = (id.device(), id.function());
    match above {
        Some(above) => format!("{above}{SEPARATOR}{device:02x}.{function}"),
        None => format!("{device:02x}.{function}"),
    }
}

/// The place of a VF, which is named by its number: where it is on which bus depends on its PF's registers.
pub(super) fn of_vf(pf: &str, vf: u16) -> String {
    format!("{pf}{SEPARATOR}vf{vf}")
}

impl State {
    /// The port or function at a place.
    ///
    /// # Errors
    /// Nothing is there.
    pub(super) fn find(&self, place: &str) -> Result<Member, DomainError> {
        let found = self.names.member(place).or_else(|| self.follow_way(place));
        found.ok_or_else(|| DomainError::NoSuchPlace {
            place: place.to_owned(),
        })
    }

    fn follow_way(&self, way: &str) -> Option<Member> {
        let mut bus = Parent::Root;
        let mut parts = way.split(SEPARATOR);
        let mut next = parts.next();
        loop {
            let place = number(next?)?;
            let member = self.topology.member_at(bus, place)?;
            next = parts.next();
            if next.is_none() {
                return Some(member);
            }
            let Member::Port(port) = member else {
                return None;
            };
            bus = Parent::Port(port);
        }
    }

    /// What errors call a port or function: its name, in quotes, or else its place.
    pub(super) fn describe(&self, member: Member) -> String {
        match self.names.name(member) {
            Some(name) => format!("{name:?}"),
            None => self.way_to(member),
        }
    }

    /// What finds a port or function: its name, or else its place.
    pub(super) fn place(&self, member: Member) -> String {
        match self.names.name(member) {
            Some(name) => name.to_owned(),
            None => self.way_to(member),
        }
    }

    fn way_to(&self, member: Member) -> String {
        let mut way: Vec<String> = Vec::new();
        let is_it = |found: &Found| found.member == member;
        for found in self.topology.walk() {
            way.truncate(found.depth);
            let place = below(way.last().map(String::as_str), found.id);
            if is_it(&found) {
                return place;
            }
            way.push(place);
        }
        match member {
            Member::Port(port) => port.to_string(),
            Member::Function(function) => function.to_string(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_lspci() {
        for (text, place) in [
            ("00.0", 0),
            ("01.0", 8),
            ("1f.7", 0xff),
            ("1F.7", 0xff),
            ("2.1", 0x11),
        ] {
            assert_eq!(number(text), Some(place), "{text}");
        }
        for text in [
            "", ".", "20.0", "00.8", "001.0", "00.00", "0x.0", "+1.0", "00.", "a",
        ] {
            assert_eq!(number(text), None, "{text:?}");
        }
    }
}
