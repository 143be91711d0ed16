//! Slots of a domain's ports: devices that come and go, with what software is told and what it asks for.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdv_pci::spec::port::SlotCapabilities;
use hdv_pci::topology::{Member, PortId, TopologyError};
use hdv_pci::{ConfigSpace, Effects, SlotView};

use super::error::DomainError;
use super::hierarchy::{Hierarchy, State};
use super::inner::Inner;

impl Hierarchy {
    /// A device has come below a port.
    pub(super) fn occupy(&self, port: PortId) {
        let _life = self.life();
        let has_run = self.lock().has_run;
        self.tell_presence(port, has_run);
    }

    /// That is an event if processors have run, else it was there when power came.
    pub(super) fn tell_presence(&self, port: PortId, is_event: bool) {
        let mut state = self.lock();
        if state.filling.contains(&port) {
            return;
        }
        let changed = state.topology.change_port(port, |config| {
            let effects = config.set_presence(true);
            if is_event {
                return effects;
            }
            config.reset();
            Effects::empty()
        });
        drop(state);
        if let Ok(effects) = changed {
            // What is there is as after a reset already.
            self.act(port, effects - Effects::LINK);
        }
    }

    /// Lets a port tell of nothing until what this returns is dropped, then of all that was put below it.
    ///
    /// # Errors
    /// There is no such port, or it is being filled already.
    pub(super) fn fill(&self, port: PortId) -> Result<Filling<'_>, DomainError> {
        let mut state = self.lock();
        if state.topology.port(port).is_none() {
            return Err(TopologyError::NoPort(port).into());
        }
        if !state.filling.insert(port) {
            return Err(DomainError::Slot {
                place: state.describe(Member::Port(port)),
                reason: "a device is being put into it already: wait until it is whole",
            });
        }
        Ok(Filling {
            hierarchy: self,
            port,
        })
    }

    /// What of a port's slot software has set; `None` if it has none.
    ///
    /// # Errors
    /// There is no such port.
    pub(super) fn slot(&self, port: PortId) -> Result<Option<SlotView>, DomainError> {
        Ok(self.lock().slot(port)?)
    }

    /// Somebody presses the attention button of a port's slot.
    ///
    /// # Errors
    /// There is no such port.
    pub(super) fn press_button(&self, port: PortId) -> Result<(), DomainError> {
        let press = ConfigSpace::press_attention_button;
        let effects = self.lock().topology.change_port(port, press)?;
        self.act(port, effects);
        Ok(())
    }

    /// Has software let go of what is in a slot, then takes it out; false, and nothing taken out, if the slot has power still
    /// after `limit`, or software was reset and knows of nothing. What somebody else took out meanwhile is out.
    ///
    /// # Errors
    /// There is no such port; its slot has nothing that can be asked for; the endpoint is gone.
    pub(super) fn unplug(&self, port: PortId, limit: Duration) -> Result<bool, DomainError> {
        let asking = self.ask(port)?;
        let Asked { occupant, .. } = asking.asked;
        if asking.is_first {
            self.press_button(port)?;
        }
        // One that cannot be told is as good as never.
        let deadline = Instant::now().checked_add(limit);
        loop {
            match self.wait_for_power_off(port, asking.asked, deadline)? {
                Waited::Off => {}
                Waited::Out => return Ok(true),
                Waited::On => return Ok(false),
            }
            let life = self.life();
            let (effects, gone) = {
                let mut state = self.lock();
                // Unless somebody was here between the two locks.
                if state.occupant(port) != Some(occupant) || state.is_powered(port) {
                    continue;
                }
                state.take_out(port)?
            };
            self.tear_down(port, effects, gone, life);
            return Ok(true);
        }
    }

    /// Asks for what is in a slot, or joins those who have: software takes a second press as a change of mind.
    ///
    /// # Errors
    /// There is no such port; nobody can ask for what is in its slot.
    fn ask(&self, port: PortId) -> Result<Asking<'_>, DomainError> {
        let mut state = self.lock();
        let mut asked = Asked {
            occupant: state.occupant_of_slot(port)?,
            resets: state.resets,
            waiting: 1,
        };
        let earlier = state.asked.get(&port).filter(|one| one.is(asked));
        let is_first = earlier.is_none();
        asked.waiting += earlier.map_or(0, |one| one.waiting);
        state.asked.insert(port, asked);
        Ok(Asking {
            hierarchy: self,
            port,
            asked,
            is_first,
        })
    }

    fn wait_for_power_off(
        &self,
        port: PortId,
        asked: Asked,
        deadline: Option<Instant>,
    ) -> Result<Waited, DomainError> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return Err(DomainError::Closed);
            }
            if state.occupant(port) != Some(asked.occupant) {
                return Ok(Waited::Out);
            }
            if state.resets != asked.resets {
                return Ok(Waited::On);
            }
            if !state.is_powered(port) {
                return Ok(Waited::Off);
            }
            let Some(deadline) = deadline else {
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Waited::On);
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What is below a port is pulled out: the link goes down, software is told, and the functions are torn down.
    ///
    /// # Errors
    /// There is no such port.
    pub(super) fn pull(&self, port: PortId) -> Result<(), DomainError> {
        let life = self.life();
        let (effects, gone) = self.lock().take_out(port)?;
        self.tear_down(port, effects, gone, life);
        Ok(())
    }

    /// Tells of what was taken out, and tears it down.
    fn tear_down(&self, port: PortId, effects: Effects, gone: Gone, life: MutexGuard<'_, ()>) {
        let Gone {
            functions,
            virtual_functions,
        } = gone;
        // All at once, whichever of them keeps its end waiting, and before software is told that nothing is there.
        for inner in functions.iter().chain(&virtual_functions) {
            inner.cut_off();
        }
        // Nothing is left there to be reset.
        self.act(port, effects - Effects::LINK);
        self.changed.notify_all();
        // They are out: a call into one that hangs holds up nobody else.
        drop(life);
        for inner in functions {
            // A PF takes its VFs with it.
            inner.remove();
        }
    }
}

/// What was taken out, and is in no map any more.
struct Gone {
    functions: Vec<Arc<Inner>>,
    /// Which end with their PFs.
    virtual_functions: Vec<Arc<Inner>>,
}

/// A device is being put together below a port.
pub(super) struct Filling<'a> {
    hierarchy: &'a Hierarchy,
    port: PortId,
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        let is_filled = {
            let mut state = self.hierarchy.lock();
            state.filling.remove(&self.port);
            state.occupant(self.port).is_some()
        };
        if is_filled {
            self.hierarchy.occupy(self.port);
        }
    }
}

/// What software was asked to let go of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    occupant: Member,
    /// Since which reset: after another software knows nothing of it.
    resets: u64,
    /// How many wait for it.
    waiting: usize,
}

impl Asked {
    fn is(self, other: Self) -> bool {
        (self.occupant, self.resets) == (other.occupant, other.resets)
    }
}

/// Somebody waits for what software was asked to let go of.
struct Asking<'a> {
    hierarchy: &'a Hierarchy,
    port: PortId,
    asked: Asked,
    is_first: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut state = self.hierarchy.lock();
        let Some(asked) = state.asked.get_mut(&self.port) else {
            return;
        };
        if !asked.is(self.asked) {
            return;
        }
        asked.waiting -= 1;
        if asked.waiting == 0 {
            state.asked.remove(&self.port);
        }
    }
}

/// How waiting for a slot to be turned off ended.
enum Waited {
    /// It is off.
    Off,
    /// What was in it is there no more.
    Out,
    /// It is on, and will be.
    On,
}

impl State {
    /// What is right below a port.
    fn occupant(&self, port: PortId) -> Option<Member> {
        Some(self.topology.walk_below(port).next()?.member)
    }

    /// # Errors
    /// There is no such port; nobody can ask for what is in its slot.
    fn occupant_of_slot(&self, port: PortId) -> Result<Member, DomainError> {
        let refuse = |reason| DomainError::Slot {
            place: self.describe(Member::Port(port)),
            reason,
        };
        let slot = self
            .slot(port)?
            .ok_or_else(|| refuse("there is no slot below it, so that nothing can be unplugged"))?;
        let needed = SlotCapabilities::ATTENTION_BUTTON | SlotCapabilities::POWER_CONTROLLER;
        if !slot.capabilities.contains(needed) {
            let reason = "its slot has no attention button and power controller, by which software is asked: pull it \
                          out (surprise removal), or have software turn it off";
            return Err(refuse(reason));
        }
        self.occupant(port)
            .ok_or_else(|| refuse("nothing is in its slot"))
    }

    fn is_powered(&self, port: PortId) -> bool {
        let slot = self.slot(port).ok().flatten();
        slot.is_some_and(|slot| slot.powered)
    }

    /// Takes out what is below a port, which is told to software and torn down by the caller.
    ///
    /// # Errors
    /// There is no such port.
    fn take_out(&mut self, port: PortId) -> Result<(Effects, Gone), DomainError> {
        let pulled = |config: &mut ConfigSpace| config.set_presence(false);
        let effects = self.topology.change_port(port, pulled)?;
        let removed = self.topology.remove_below(port)?;
        self.names.forget_removed(&removed);
        for below in &removed.ports {
            self.failing_reads.remove(below);
        }
        let mut gone = Gone {
            functions: Vec::new(),
            virtual_functions: Vec::new(),
        };
        for id in removed.functions {
            gone.functions.extend(self.functions.remove(&id));
            let vfs = self.virtual_functions.range((id, 0)..=(id, u16::MAX));
            let vfs: Vec<_> = vfs.map(|(key, _)| *key).collect();
            for key in vfs {
                let vf = self.virtual_functions.remove(&key);
                gone.virtual_functions.extend(vf.map(|(_, inner)| inner));
            }
        }
        Ok((effects, gone))
    }
}
