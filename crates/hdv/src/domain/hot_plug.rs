//! Slots of a domain's ports: devices that come and go, with what software is told and what it asks for.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use hdv_pci::topology::PortId;
use hdv_pci::{ConfigSpace, Effects, SlotView};

use super::error::DomainError;
use super::hierarchy::Hierarchy;
use super::inner::Inner;

impl Hierarchy {
    /// A device has come below a port.
    pub(super) fn occupy(&self, port: PortId) {
        let has_run = self.lock().has_run;
        self.tell_presence(port, has_run);
    }

    /// That is an event if processors have run, else it was there when power came.
    pub(super) fn tell_presence(&self, port: PortId, is_event: bool) {
        let changed = self.lock().topology.change_port(port, |config| {
            let effects = config.set_presence(true);
            if is_event {
                return effects;
            }
            config.reset();
            Effects::empty()
        });
        if let Ok(effects) = changed {
            // What is there is as after a reset already.
            self.act(port, effects - Effects::LINK);
        }
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

    /// Waits until software has turned a slot off; false if it has not within `limit`.
    ///
    /// # Errors
    /// There is no such port, or the endpoint is gone.
    pub(super) fn wait_for_power_off(
        &self,
        port: PortId,
        limit: Duration,
    ) -> Result<bool, DomainError> {
        // One that cannot be told is as good as never.
        let deadline = Instant::now().checked_add(limit);
        let mut state = self.lock();
        loop {
            if state.closed {
                return Err(DomainError::Closed);
            }
            if state.slot(port)?.is_none_or(|slot| !slot.powered) {
                return Ok(true);
            }
            let left = deadline.map_or(limit, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return Ok(false);
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
        let _life = self.life();
        let (effects, gone) = {
            let mut state = self.lock();
            let pulled = |config: &mut ConfigSpace| config.set_presence(false);
            let effects = state.topology.change_port(port, pulled)?;
            let removed = state.topology.remove_below(port)?;
            state.names.forget_removed(&removed);
            for below in &removed.ports {
                state.failing_reads.remove(below);
            }
            let functions = removed.functions.iter();
            let gone: Vec<Arc<Inner>> = functions
                .filter_map(|id| state.functions.remove(id))
                .collect();
            (effects, gone)
        };
        // Nothing is left there to be reset.
        self.act(port, effects - Effects::LINK);
        for inner in gone {
            // A PF takes its VFs with it.
            inner.remove();
        }
        Ok(())
    }
}
