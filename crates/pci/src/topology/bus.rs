//! What is on one physical bus: the root bus, a link, or the internal bus of a switch.

use std::collections::BTreeMap;

use super::Member;

/// Functions of a device without ARI.
const FUNCTIONS: u8 = 8;

/// The members of a bus by device number (bits 7:3) and function number (bits 2:0), or ARI function
/// number.
#[derive(Debug, Default)]
pub(super) struct Bus {
    members: BTreeMap<u8, Member>,
}

impl Bus {
    pub(super) fn at(&self, place: u8) -> Option<Member> {
        self.members.get(&place).copied()
    }

    /// In the order of device and function numbers.
    pub(super) fn members(&self) -> impl DoubleEndedIterator<Item = (u8, Member)> + '_ {
        self.members.iter().map(|(place, member)| (*place, *member))
    }

    pub(super) fn insert(&mut self, place: u8, member: Member) {
        self.members.insert(place, member);
    }

    pub(super) fn remove(&mut self, place: u8) {
        self.members.remove(&place);
    }

    /// Whether the device with the function 0 at `place` has other functions.
    pub(super) fn has_siblings(&self, place: u8, one_device: bool) -> bool {
        let last = if one_device {
            u8::MAX
        } else {
            place | (FUNCTIONS - 1)
        };
        self.members.range(place..=last).nth(1).is_some()
    }
}

/// Where function 0 is of the device that the function at `place` belongs to; with a link all of the
/// bus is one device.
pub(super) const fn function_zero(place: u8, one_device: bool) -> u8 {
    if one_device {
        0
    } else {
        place & !(FUNCTIONS - 1)
    }
}
