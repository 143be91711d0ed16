//! What a description of a domain means: its ports one by one, each with its name, its slot and what is below it, all of it
//! checked.

use std::collections::{BTreeMap, BTreeSet};

use hdv::pci::topology::{MAX_FUNCTIONS, MAX_PORTS};

use super::error::{DocumentError, Problem};
use super::file::{FunctionTable, PortTable, SlotValue};
use super::kind::{self, Footprint};
use crate::catalog::DeviceKind;

/// Most downstream ports of a switch: its internal bus has that many devices.
const SWITCH_PORTS: usize = 32;
/// Most functions of a device without ARI.
const FUNCTIONS: u8 = 8;

/// A port, and all that is below it.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) slot: Option<Slot>,
    pub(super) below: Below,
}

/// A slot with hot plug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) number: u16,
    pub(super) button: bool,
}

/// What is below a port.
#[derive(Clone, Debug)]
pub(super) enum Below {
    /// A device with these functions, or nothing.
    Functions(Vec<Function>),
    /// A switch with these downstream ports.
    Switch(Vec<Port>),
}

/// A function.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) number: u8,
    pub(super) kind: &'static DeviceKind,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) footprint: Footprint,
}

/// A port's table, at a line.
pub(super) struct At<'a> {
    pub(super) line: usize,
    pub(super) table: &'a PortTable,
}

/// All root ports of a description.
pub(super) fn ports(tables: &[At<'_>]) -> Result<Vec<Port>, DocumentError> {
    let mut plan = Plan::default();
    // Numbers that are given come first, so that the others go around them.
    for at in tables {
        plan.line = at.line;
        plan.take_numbers(at.table)?;
    }
    let mut ports = Vec::new();
    for At { line, table } in tables {
        plan.line = *line;
        plan.group(table, "port", &mut ports)?;
    }
    if ports.is_empty() {
        return Err(DocumentError::Whole(Problem::Empty));
    }
    Ok(ports)
}

#[derive(Default)]
struct Plan {
    line: usize,
    names: BTreeSet<String>,
    slots: BTreeSet<u16>,
    last_slot: u16,
    ports: usize,
    functions: usize,
    /// Devices that have been tried.
    footprints: BTreeMap<(&'static str, BTreeMap<String, String>), Footprint>,
}

impl Plan {
    fn refuse(&self, port: &str, problem: Problem) -> DocumentError {
        self.refuse_at(format!("port {port:?}"), problem)
    }

    fn refuse_at(&self, place: String, problem: Problem) -> DocumentError {
        DocumentError::Port {
            line: self.line,
            place,
            problem,
        }
    }

    fn take_numbers(&mut self, table: &PortTable) -> Result<(), DocumentError> {
        let place = || match &table.name {
            Some(name) => format!("port {name:?}"),
            None => "a port without a name".to_owned(),
        };
        if let Some(SlotValue::Number(number)) = table.slot {
            let several = table.count.unwrap_or(1);
            if several > 1 {
                return Err(self.refuse_at(place(), Problem::SlotOfSeveral(number, several)));
            }
            if !self.slots.insert(number) {
                return Err(self.refuse_at(place(), Problem::SlotTaken(number)));
            }
        }
        for below in table.switch.iter().flat_map(|switch| &switch.0) {
            self.take_numbers(below)?;
        }
        Ok(())
    }

    /// The ports that one table describes, after those that are there. `above` is what ports without a name are called by.
    fn group(
        &mut self,
        table: &PortTable,
        above: &str,
        ports: &mut Vec<Port>,
    ) -> Result<(), DocumentError> {
        let number = |at: &str, number: usize| format!("{at}-{number}");
        let label = table.name.clone();
        let label = label.unwrap_or_else(|| number(above, ports.len() + 1));
        let most = u32::try_from(MAX_PORTS).unwrap_or(u32::MAX);
        let count = table.count.unwrap_or(1);
        for (key, value) in [("count", count), ("depth", table.depth.unwrap_or(1))] {
            if !(1..=most).contains(&value) {
                let problem = Problem::Count { key, value, most };
                return Err(self.refuse(&label, problem));
            }
        }
        for one in 1..=count as usize {
            let name = match (&table.name, table.count) {
                (Some(name), Some(_)) => number(name, one),
                (Some(name), None) => name.clone(),
                (None, _) => number(above, ports.len() + 1),
            };
            let port = self.port(table, name)?;
            ports.push(port);
        }
        Ok(())
    }

    fn port(&mut self, table: &PortTable, name: String) -> Result<Port, DocumentError> {
        let depth = table.depth.unwrap_or(0);
        // From the top down, so that errors come in the order of the file.
        let names = (1..=depth).map(|level| format!("{name}-{level}"));
        let mut names: Vec<String> = names.collect();
        names.insert(0, name);
        let mut last = String::new();
        for name in &names {
            self.name(name)?;
            // Each level is a switch with one port.
            self.count_ports(name, 1 + usize::from(!last.is_empty()))?;
            last.clone_from(name);
        }
        let below = self.below(table, &last)?;
        let slot = self.slot(table, &last)?;
        let mut names = names.into_iter().rev();
        let mut port = Port {
            name: names.next().unwrap_or_default(),
            slot,
            below,
        };
        for name in names {
            port = Port {
                name,
                slot: None,
                below: Below::Switch(vec![port]),
            };
        }
        Ok(port)
    }

    fn below(&mut self, table: &PortTable, name: &str) -> Result<Below, DocumentError> {
        let refuse = |plan: &Self, problem| Err(plan.refuse(name, problem));
        let given = [
            (table.device.is_some(), "device"),
            (!table.functions.is_empty(), "function"),
            (table.switch.is_some(), "switch"),
        ];
        let mut given = given.into_iter().filter(|(is, _)| *is);
        if table.device.is_some() && !table.functions.is_empty() {
            return refuse(self, Problem::DeviceAndFunctions);
        }
        if let (Some((_, one)), Some((_, other))) = (given.next(), given.next()) {
            return refuse(self, Problem::Both(one, other));
        }
        if table.device.is_none() && !table.set.is_empty() {
            return refuse(self, Problem::NoDevice);
        }
        if let Some(switch) = &table.switch {
            // The upstream port.
            self.count_ports(name, 1)?;
            let mut ports = Vec::new();
            for below in &switch.0 {
                self.group(below, name, &mut ports)?;
            }
            if !(1..=SWITCH_PORTS).contains(&ports.len()) {
                return refuse(self, Problem::SwitchPorts(ports.len()));
            }
            return Ok(Below::Switch(ports));
        }
        let mut functions = Vec::new();
        if let Some(device) = &table.device {
            functions.push(self.function(name, None, 0, device, &table.set)?);
        }
        let mut next = 0;
        for FunctionTable {
            name: own,
            number,
            device,
            set,
        } in &table.functions
        {
            let number = number.unwrap_or(next);
            functions.push(self.function(name, own.as_deref(), number, device, set)?);
            next = number.saturating_add(1);
        }
        self.check_device(name, &mut functions)?;
        Ok(Below::Functions(functions))
    }

    fn check_device(
        &mut self,
        name: &str,
        functions: &mut [Function],
    ) -> Result<(), DocumentError> {
        functions.sort_by_key(|function| function.number);
        if let Some(first) = functions.first()
            && first.number != 0
        {
            return Err(self.refuse(name, Problem::NoFunctionZero(first.number)));
        }
        let twice = functions
            .windows(2)
            .find(|pair| pair[0].number == pair[1].number);
        let beyond = functions.iter().find(|one| one.number >= FUNCTIONS);
        if let Some(wrong) = twice.map(|pair| &pair[0]).or(beyond) {
            return Err(self.refuse(name, Problem::FunctionNumber(wrong.number)));
        }
        let pf = functions.iter().find(|one| one.footprint.is_pf);
        if let Some(pf) = pf
            && functions.len() > 1
        {
            return Err(self.refuse(name, Problem::PfBesideOthers(pf.kind.name)));
        }
        self.functions += functions.len();
        if self.functions > MAX_FUNCTIONS {
            return Err(self.refuse(name, Problem::Functions(MAX_FUNCTIONS)));
        }
        Ok(())
    }

    fn function(
        &mut self,
        port: &str,
        own: Option<&str>,
        number: u8,
        device: &str,
        set: &toml::Table,
    ) -> Result<Function, DocumentError> {
        let name = own.map_or_else(|| format!("{port}:{number}"), str::to_owned);
        self.name(&name)?;
        let refuse = |problem| self.refuse(port, problem);
        let kind = kind::kind(device).map_err(refuse)?;
        let settings = kind::settings(set).map_err(refuse)?;
        let key = (kind.name, settings.clone());
        let footprint = match self.footprints.get(&key) {
            Some(known) => known.clone(),
            None => {
                let found = Footprint::of(kind, &settings).map_err(refuse)?;
                self.footprints.insert(key, found.clone());
                found
            }
        };
        Ok(Function {
            name,
            number,
            kind,
            settings,
            footprint,
        })
    }

    fn slot(&mut self, table: &PortTable, name: &str) -> Result<Option<Slot>, DocumentError> {
        let number = match table.slot {
            Some(SlotValue::Number(number)) => number,
            Some(SlotValue::Next) => self.next_slot(),
            None | Some(SlotValue::No) if table.button.is_some() => {
                return Err(self.refuse(name, Problem::NoSlot));
            }
            None | Some(SlotValue::No) => return Ok(None),
        };
        let button = table.button.unwrap_or(true);
        Ok(Some(Slot { number, button }))
    }

    /// There are fewer ports than numbers.
    fn next_slot(&mut self) -> u16 {
        loop {
            self.last_slot += 1;
            if self.slots.insert(self.last_slot) {
                return self.last_slot;
            }
        }
    }

    fn name(&mut self, name: &str) -> Result<(), DocumentError> {
        if !hdv::domain::is_name(name) {
            return Err(self.refuse(name, Problem::Name(name.to_owned())));
        }
        if !self.names.insert(name.to_owned()) {
            return Err(self.refuse(name, Problem::NameTaken(name.to_owned())));
        }
        Ok(())
    }

    fn count_ports(&mut self, name: &str, ports: usize) -> Result<(), DocumentError> {
        self.ports += ports;
        if self.ports > MAX_PORTS {
            return Err(self.refuse(name, Problem::Ports(MAX_PORTS)));
        }
        Ok(())
    }
}
