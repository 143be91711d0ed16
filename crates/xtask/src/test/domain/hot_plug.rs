//! Slots of a domain, into which its owner puts sensors and out of which it takes them when the guest program asks for it.
//! Every sensor is followed through its life.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hdv::domain::{Domain, DomainFunction, Position};
use hdv::pci::capability::Slot as PhysicalSlot;
use hdv::pci::topology::PortId;
use hdv::{DeviceState, pci_function};
use hdv_devices::sensor::{Sensor, SourceName};

use super::hot_plug_life::{Followed, Life};
use crate::test::Failure;

/// How long software may take to turn a slot off.
const PATIENCE: Duration = Duration::from_secs(120);
/// Downstream ports of a switch.
const BELOW_SWITCH: usize = 8;
/// Functions of a device of the root bus.
const FUNCTIONS: u8 = 8;

/// How devices come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The attention button asks for it.
    Button,
    /// It happens.
    Surprise,
}

impl Way {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Button => "button",
            Self::Surprise => "surprise",
        }
    }

    fn slot(self, number: u16) -> PhysicalSlot {
        let slot = PhysicalSlot::hot_plug(number);
        match self {
            Self::Button => slot.attention_button(),
            Self::Surprise => slot,
        }
    }
}

/// The shape of a domain, of which all slots are of one way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) way: Way,
    /// The first slot's number; the others follow.
    pub(super) first: u16,
    /// Root ports with a slot: functions of as few devices as hold them, or each a device.
    pub(super) root_ports: u8,
    pub(super) as_functions: bool,
    /// Switches, each behind another root port, all of whose downstream ports have a slot.
    pub(super) switches: u8,
    /// How many plugs and unplugs are wanted.
    pub(super) wanted: u32,
}

/// A slot.
#[derive(Debug)]
struct Slot {
    number: u16,
    port: PortId,
    /// The sensor in it, and its life.
    content: Option<(DomainFunction, Arc<Life>)>,
}

/// All slots of a domain.
#[derive(Debug)]
pub(super) struct Slots {
    domain: Domain,
    shape: Shape,
    slots: Vec<Slot>,
    /// What slots measure, each its number.
    values: tempfile::TempDir,
    /// Of all sensors that there were.
    lives: Vec<Arc<Life>>,
}

impl Slots {
    /// Makes the ports.
    ///
    /// # Errors
    /// They cannot be had.
    pub(super) fn new(domain: Domain, shape: Shape) -> Result<Self, Failure> {
        let mut numbers = shape.first..;
        let mut number = || numbers.next().ok_or("there are no more slot numbers");
        let mut slots = Vec::new();
        let place = |index: u8| {
            if shape.as_functions {
                (1 + index / FUNCTIONS, index % FUNCTIONS)
            } else {
                (1 + index, 0)
            }
        };
        let mut add = |number, port| {
            slots.push(Slot {
                number,
                port,
                content: None,
            });
        };
        for index in 0..shape.root_ports {
            let (device, function) = place(index);
            let number = number()?;
            let slot = Some(shape.way.slot(number));
            add(number, domain.add_root_port(device, function, slot)?);
        }
        for index in 0..shape.switches {
            // The last devices of the bus.
            let above = domain.add_root_port(31 - index, 0, None)?;
            let numbers: Vec<_> = (0..BELOW_SWITCH)
                .map(|_| number())
                .collect::<Result<_, _>>()?;
            let below: Vec<_> = numbers
                .iter()
                .map(|&number| Some(shape.way.slot(number)))
                .collect();
            let ports = domain.add_switch(above, &below)?;
            for (number, port) in numbers.into_iter().zip(ports) {
                add(number, port);
            }
        }
        let values = tempfile::tempdir()?;
        for slot in &slots {
            let number = slot.number;
            fs::write(
                values.path().join(number.to_string()),
                format!("{number}\n"),
            )?;
        }
        Ok(Self {
            domain,
            shape,
            slots,
            values,
            lives: Vec::new(),
        })
    }

    /// Does what the guest program asks for, but `rest`.
    pub(super) fn act(&mut self, words: &str) -> Result<String, Failure> {
        let mut words = words.split_whitespace();
        let (verb, number) = (words.next().unwrap_or_default(), words.next());
        let number = number.map(str::parse).transpose()?;
        match verb {
            "hot-plug" => {
                let Shape {
                    way, first, wanted, ..
                } = self.shape;
                Ok(format!(
                    "{} {first} {} {wanted}",
                    way.name(),
                    self.slots.len()
                ))
            }
            "count" => Ok(self.domain.walk().len().to_string()),
            "plug" => self.plug(number),
            "unplug" => self.unplug(number),
            _ => Err(format!("nobody here does {verb:?}").into()),
        }
    }

    /// Puts a new sensor into the slot of this number, or each that has none; how many.
    fn plug(&mut self, number: Option<u16>) -> Result<String, Failure> {
        let Self {
            domain,
            shape,
            slots,
            values,
            lives,
        } = self;
        let plugged = at_once(slots, number, |slot| {
            if slot.content.is_some() {
                return Ok(None);
            }
            let life = slot.plug(domain, shape.way, values.path())?;
            Ok(Some(life))
        })?;
        let count = plugged.len();
        lives.extend(plugged);
        Ok(count.to_string())
    }

    /// Takes the sensor out of the slot of this number, or all that there are; how many.
    fn unplug(&mut self, number: Option<u16>) -> Result<String, Failure> {
        let Self {
            domain,
            shape,
            slots,
            ..
        } = self;
        let unplugged = at_once(slots, number, |slot| slot.unplug(domain, shape.way))?;
        Ok(unplugged.len().to_string())
    }

    /// Fails unless all sensors that there were have come to their end once, and nothing is held of them.
    pub(super) fn verdict(&self) -> Result<String, Failure> {
        for life in &self.lives {
            life.is_over()?;
            if Arc::strong_count(life) != 1 {
                return Err("somebody holds a sensor that is gone".into());
            }
        }
        let functions = self
            .domain
            .walk()
            .into_iter()
            .filter(|found| matches!(found.member, hdv::pci::topology::Member::Function(_)));
        let left = functions.count();
        if left != 0 {
            return Err(format!("{left} functions are left in the domain").into());
        }
        Ok(format!(
            "{} torn down, each once, and dropped",
            self.lives.len()
        ))
    }
}

impl Slot {
    fn plug(&mut self, domain: &Domain, way: Way, values: &Path) -> Result<Arc<Life>, Failure> {
        let name = format!("sensor {}", self.number);
        let source = SourceName::Csv(values.join(self.number.to_string()));
        let (sensor, life) = Followed::new(Sensor::new(&source)?);
        let function = pci_function(Box::new(sensor))?;
        let placed = domain.attach(Position::below(self.port), &name, function, &[])?;
        self.content = Some((placed, Arc::clone(&life)));
        if way == Way::Button {
            let slot = domain.slot(self.port)?.ok_or("the port has no slot")?;
            if slot.powered {
                return Err(format!(
                    "slot {} was turned on before its button was pressed",
                    self.number
                )
                .into());
            }
            domain.press_attention_button(self.port)?;
        }
        Ok(life)
    }

    /// The slot's number, if there was something in it.
    fn unplug(&mut self, domain: &Domain, way: Way) -> Result<Option<u16>, Failure> {
        let number = self.number;
        let Some((placed, life)) = self.content.take() else {
            return Ok(None);
        };
        match way {
            Way::Button => {
                if !domain.unplug(self.port, PATIENCE)? {
                    return Err(format!("slot {number} was not turned off").into());
                }
            }
            Way::Surprise => domain.pull(self.port)?,
        }
        let state = placed.instance().state();
        if state != DeviceState::Gone {
            return Err(format!("the sensor of slot {number} is {state:?}").into());
        }
        life.is_over()?;
        Ok(Some(number))
    }
}

/// Does something to all slots at the same time, or to the one of this number; what came of it.
fn at_once<T: Send>(
    slots: &mut [Slot],
    number: Option<u16>,
    act: impl Fn(&mut Slot) -> Result<Option<T>, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    let act = |slot| act(slot).map_err(|failure| failure.to_string());
    let chosen = slots
        .iter_mut()
        .filter(|slot| number.is_none_or(|number| slot.number == number));
    let done: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = chosen.map(|slot| scope.spawn(|| act(slot))).collect();
        let ended = threads.into_iter().map(thread::ScopedJoinHandle::join);
        ended
            .map(|ended| ended.unwrap_or_else(|_| Err("a thread panicked".to_owned())))
            .collect()
    });
    let mut came = Vec::new();
    for one in done {
        came.extend(one?);
    }
    Ok(came)
}
