//! A sensor that is followed through its life: what it was told, in which order, and that it is dropped at last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdv::{BarAccess, ConfigError, ConfigSpace, DeviceContext, DeviceError, PciDevice};
use hdv_devices::sensor::Sensor;

use crate::test::Failure;

/// What a sensor was told, but accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Initialize,
    Start,
    Stop,
    Reset,
    Teardown,
}

/// The calls of a sensor's life.
#[derive(Debug, Default)]
pub(super) struct Life(Mutex<Vec<Told>>);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Followed {
    sensor: Sensor,
    life: Arc<Life>,
}

impl Followed {
    pub(super) fn new(sensor: Sensor) -> (Self, Arc<Life>) {
        let life = Arc::new(Life::default());
        let followed = Self {
            sensor,
            life: Arc::clone(&life),
        };
        (followed, life)
    }
}

impl Life {
    fn lock(&self) -> MutexGuard<'_, Vec<Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, told: Told) {
        self.lock().push(told);
    }

    /// Fails unless it was started and stopped in turns, and torn down once, at last.
    pub(super) fn is_over(&self) -> Result<(), Failure> {
        let told = self.lock();
        let without_resets: Vec<_> = told
            .iter()
            .copied()
            .filter(|told| *told != Told::Reset)
            .collect();
        let wrong = || Err(format!("the life of a sensor was {told:?}").into());
        let [Told::Initialize, runs @ .., Told::Teardown] = without_resets.as_slice() else {
            return wrong();
        };
        let in_turns = runs.chunks(2).all(|run| run == [Told::Start, Told::Stop]);
        if runs.is_empty() || !in_turns || told.last() != Some(&Told::Teardown) {
            return wrong();
        }
        Ok(())
    }
}

impl PciDevice for Followed {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        self.sensor.config_space()
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        self.life.push(Told::Initialize);
        self.sensor.initialize(context)
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.life.push(Told::Start);
        self.sensor.start()
    }

    fn stop(&mut self) {
        self.life.push(Told::Stop);
        self.sensor.stop();
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        self.sensor.read(access)
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        self.sensor.write(access, value);
    }

    fn reset(&mut self) {
        self.life.push(Told::Reset);
        self.sensor.reset();
    }

    fn teardown(&mut self) {
        self.life.push(Told::Teardown);
        self.sensor.teardown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(told: &[Told]) -> Result<(), Failure> {
        Life(Mutex::new(told.to_vec())).is_over()
    }

    #[test]
    fn a_life_ends_once() {
        use Told::{Initialize, Reset, Start, Stop, Teardown};
        life(&[Initialize, Start, Reset, Stop, Teardown]).unwrap();
        life(&[Initialize, Start, Stop, Start, Stop, Teardown]).unwrap();
        for wrong in [
            &[][..],
            &[Initialize, Start, Stop],
            &[Initialize, Teardown],
            &[Initialize, Start, Teardown],
            &[Initialize, Start, Stop, Teardown, Teardown],
            &[Initialize, Start, Stop, Teardown, Reset],
        ] {
            life(wrong).unwrap_err();
        }
    }
}
