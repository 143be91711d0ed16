//! The devices of a restricted host, as its broker knows them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use hdv_control::ControlError;
use uuid::Uuid;

use super::refused;
use crate::error::codes;
use crate::protocol::Device;

/// Whether clients get to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// None do: it has not been powered on.
    None,
    /// It is being powered on.
    Coming,
    /// They are let in.
    Open,
}

struct Known {
    number: u64,
    class_id: Uuid,
    /// The worker has noted it.
    announced: bool,
    access: Access,
}

/// One announcement of a device instance. The instance may go and be announced anew while somebody is still busy with
/// what was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) instance: Uuid,
    number: u64,
}

/// See the module's documentation.
pub(super) struct Devices {
    limit: usize,
    known: BTreeMap<Uuid, Known>,
    last: u64,
    closed: bool,
}

impl Devices {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            known: BTreeMap::new(),
            last: 0,
            closed: false,
        }
    }

    fn of(&mut self, which: Announcement) -> Option<&mut Known> {
        let known = self.known.get_mut(&which.instance)?;
        (known.number == which.number).then_some(known)
    }

    /// The host says that it has a device; the worker is to be told.
    ///
    /// # Errors
    /// It has said so before, or may not have more.
    pub(super) fn announce(&mut self, device: &Device) -> Result<Announcement, ControlError> {
        let limit = self.limit;
        let count = self.known.len();
        let instance = device.instance_id;
        match self.known.entry(instance) {
            Entry::Occupied(_) => Err(refused(
                codes::ALREADY_EXISTS,
                format!("device instance {instance} was announced before"),
            )),
            Entry::Vacant(_) if count >= limit => Err(refused(
                codes::E_ACCESSDENIED,
                format!("a restricted device host may have {limit} devices, and has as many"),
            )),
            Entry::Vacant(place) => {
                self.last += 1;
                let number = self.last;
                place.insert(Known {
                    number,
                    class_id: device.class_id,
                    announced: false,
                    access: Access::None,
                });
                Ok(Announcement { instance, number })
            }
        }
    }

    /// The worker has noted it.
    pub(super) fn announced(&mut self, which: Announcement) {
        if let Some(known) = self.of(which) {
            known.announced = true;
        }
    }

    /// The host is about to remove a device; the worker is to be told.
    ///
    /// # Errors
    /// There is no such device, or the worker is still being told of it: it might hear the two in the other order, and keep
    /// a device that is not counted here.
    pub(super) fn withdraw(&self, instance: Uuid) -> Result<Announcement, ControlError> {
        let known = self.known.get(&instance).ok_or_else(|| unknown(instance))?;
        if !known.announced {
            return Err(refused(
                codes::HCS_E_INVALID_STATE,
                format!("device instance {instance} is still being announced"),
            ));
        }
        let number = known.number;
        Ok(Announcement { instance, number })
    }

    /// # Errors
    /// There is no such device.
    pub(super) fn check(&self, instance: Uuid) -> Result<(), ControlError> {
        self.known
            .contains_key(&instance)
            .then_some(())
            .ok_or_else(|| unknown(instance))
    }

    /// # Errors
    /// There is no such device, or clients do not get to it.
    pub(super) fn check_open(&self, instance: Uuid) -> Result<(), ControlError> {
        self.check(instance)?;
        self.class_of_open(instance).map(drop).ok_or_else(|| {
            refused(
                codes::HCS_E_INVALID_STATE,
                format!("device instance {instance} is not powered on"),
            )
        })
    }

    /// The class of a device that clients get to; `None` if there is no such device.
    pub(super) fn class_of_open(&self, instance: Uuid) -> Option<Uuid> {
        let known = self.known.get(&instance)?;
        (known.access == Access::Open).then_some(known.class_id)
    }

    /// It is powered on from now on, once.
    ///
    /// # Errors
    /// There is no such device, or it was before.
    pub(super) fn begin_power_on(&mut self, instance: Uuid) -> Result<Announcement, ControlError> {
        let known = self.known.get_mut(&instance);
        let known = known.ok_or_else(|| unknown(instance))?;
        let Access::None = known.access else {
            return Err(refused(
                codes::HCS_E_INVALID_STATE,
                format!("device instance {instance} is powered on already"),
            ));
        };
        known.access = Access::Coming;
        let number = known.number;
        Ok(Announcement { instance, number })
    }

    /// It is powered on, and clients are let in.
    ///
    /// # Errors
    /// It has gone meanwhile.
    pub(super) fn open(&mut self, which: Announcement) -> Result<(), ControlError> {
        let closed = self.closed;
        let known = self.of(which).filter(|_| !closed);
        known.ok_or_else(|| unknown(which.instance))?.access = Access::Open;
        Ok(())
    }

    /// It is gone, if it is still what was announced then.
    pub(super) fn forget(&mut self, which: Announcement) {
        if self.of(which).is_some() {
            self.known.remove(&which.instance);
        }
    }

    /// The worker removes it.
    ///
    /// # Errors
    /// There is no such device.
    pub(super) fn take(&mut self, instance: Uuid) -> Result<(), ControlError> {
        let known = self.known.remove(&instance);
        known.map(drop).ok_or_else(|| unknown(instance))
    }

    /// Nothing comes any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.known.clear();
    }
}

fn unknown(instance: Uuid) -> ControlError {
    let message = format!("the restricted device host has announced no device instance {instance}");
    ControlError::not_found(message).with_code(codes::NOT_FOUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(instance: u128) -> Device {
        Device {
            class_id: Uuid::nil(),
            instance_id: Uuid::from_u128(instance),
        }
    }

    fn code<T: std::fmt::Debug>(result: Result<T, ControlError>) -> Option<i32> {
        result.unwrap_err().code
    }

    #[test]
    fn what_a_host_says_is_checked() {
        let mut devices = Devices::new(2);
        let one = devices.announce(&device(1)).unwrap();
        assert_eq!(
            code(devices.announce(&device(1))),
            Some(codes::ALREADY_EXISTS)
        );
        devices.announce(&device(2)).unwrap();
        assert_eq!(
            code(devices.announce(&device(3))),
            Some(codes::E_ACCESSDENIED)
        );
        assert_eq!(
            code(devices.check(Uuid::from_u128(3))),
            Some(codes::NOT_FOUND)
        );
        devices.begin_power_on(Uuid::from_u128(1)).unwrap();
        assert_eq!(
            code(devices.begin_power_on(Uuid::from_u128(1))),
            Some(codes::HCS_E_INVALID_STATE)
        );
        devices.forget(one);
        devices.announce(&device(3)).unwrap();
    }

    #[test]
    fn what_is_announced_anew_is_another() {
        let mut devices = Devices::new(1);
        let old = devices.announce(&device(1)).unwrap();
        assert_eq!(
            code(devices.withdraw(old.instance)),
            Some(codes::HCS_E_INVALID_STATE)
        );
        devices.announced(old);
        assert_eq!(devices.withdraw(old.instance).unwrap(), old);
        devices.forget(old);
        let new = devices.announce(&device(1)).unwrap();
        devices.forget(old);
        devices.announced(old);
        devices.check(new.instance).unwrap();
        devices.withdraw(new.instance).unwrap_err();
        devices.take(new.instance).unwrap();
        assert!(devices.take(new.instance).is_err());
    }
}
