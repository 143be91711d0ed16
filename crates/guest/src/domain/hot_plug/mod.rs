//! Devices that come into slots of the domain and go again, while the guest runs and uses them: many slots at once, round after
//! round. The owner of the domain plugs and unplugs; how, and which slots there are, it says when it is asked.
//!
//! | asked for | done, and told |
//! | --- | --- |
//! | `hot-plug` | way, number of the first slot, how many there are, how many plugs and unplugs are wanted |
//! | `plug [NUMBER]` | a new device is in that slot, or in each; how many |
//! | `unplug [NUMBER]` | it is taken out; how many |
//! | `count` | how many ports and functions there are |
//! | `rest` | what else is to be counted now has been |
//!
//! `slot` is a slot and the sensor in it, `memory` what sensors write to, `interrupts` theirs, `hold` the program that has one in use, `remains` what the
//! kernel keeps of them, `log` what it says.

mod hold;
mod interrupts;
mod log;
mod memory;
mod remains;
mod slot;

use std::time::{Duration, Instant};

pub use self::hold::{HOLD, hold};
use self::hold::{Holder, Pace, Seen};
use self::log::Log;
use self::memory::Places;
use self::remains::Remains;
use self::slot::{Slot, describe};
use super::{INSIDE, found};
use crate::ask::ask;
use crate::checks::{Failure, Verdict, ensure, outcome};
use crate::platform::sysfs::Sysfs;
use crate::report::Line;
use crate::sensor::Sensor;

/// How long anything may take. Linux waits for seconds at a button, and two guests share two processors.
const LIMIT: Duration = Duration::from_secs(120);
/// How long the other guests may take that are waited for. Who waits for this one has a limit of its own.
const REST_LIMIT: Duration = Duration::from_secs(3600);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(2);
/// Slots into which a device is plugged alone, to see how long that takes.
const ALONE: usize = 4;
/// Of so many devices in use one is read without a pause.
const FAST: usize = 8;

/// How devices come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The attention button asks for it.
    Button,
    /// It happens.
    Surprise,
}

/// What the owner of the domain has said.
#[derive(Clone, Debug)]
struct Plan {
    way: Way,
    slots: Vec<Slot>,
    wanted: u32,
}

/// What has been done so far.
#[derive(Clone, Debug, Default)]
struct Figures {
    plugged: u32,
    unplugged: u32,
    /// Unplugged while a program had it in use: who saw all ones, and who a signal.
    all_ones: u32,
    signals: u32,
    alone: Vec<Duration>,
    /// Until the last of all slots.
    all_in: Vec<Duration>,
    all_out: Vec<Duration>,
}

/// The check of hot plug. What belongs to it apart goes to `sink`.
pub(super) fn check(sink: &mut dyn FnMut(Line)) -> Verdict {
    let plan = Plan::ask()?;
    let mut log = Log::open()?;
    let mut figures = Figures::default();
    // All that is made once is made in a first round.
    first_round(&plan, &mut figures, &mut log)?;
    ask("rest", REST_LIMIT)?;
    let (before, counted) = (Remains::count()?, figures.plugged);
    let places = Places::new()?;
    let mut round = 1;
    while figures.plugged < counted + plan.wanted {
        round += 1;
        whole_round(&plan, round, &places, &mut figures)?;
        log.read()?;
        sink(figures.last(round));
    }
    drop(places);
    ask("rest", REST_LIMIT)?;
    let devices = figures.plugged - counted;
    let remains = Remains::count().and_then(|after| after.compare(&before, devices));
    let mut tell = |name, verdict| sink(Line::Check(outcome(name, INSIDE, "sysfs", verdict)));
    tell("hot-plug-remains", remains);
    tell("hot-plug-log", log.verdict());
    figures.tell(&plan)
}

impl Plan {
    fn ask() -> Result<Self, Failure> {
        let answer = ask("hot-plug", LIMIT)?;
        let words: Vec<_> = answer.split_whitespace().collect();
        let wrong = || Failure::new(format!("the plan is {answer:?}"));
        let [way, first, count, wanted] = words[..] else {
            return Err(wrong());
        };
        let way = match way {
            "button" => Way::Button,
            "surprise" => Way::Surprise,
            _ => return Err(wrong()),
        };
        let first: u16 = first.parse().map_err(|_| wrong())?;
        let count: u16 = count.parse().map_err(|_| wrong())?;
        let wanted = wanted.parse().map_err(|_| wrong())?;
        let numbers = (first..).take(count.into());
        let slots = numbers.map(Slot::find).collect::<Result<_, _>>()?;
        Ok(Self { way, slots, wanted })
    }
}

/// Some devices come alone, then all others at once; all go.
fn first_round(plan: &Plan, figures: &mut Figures, log: &mut Log) -> Result<(), Failure> {
    let places = Places::new()?;
    for (index, slot) in plan.slots.iter().enumerate().take(ALONE) {
        let begun = Instant::now();
        ask(&format!("plug {}", slot.number), LIMIT)?;
        wait("a device that comes alone", LIMIT, || Ok(slot.is_ready()))?;
        figures.alone.push(begun.elapsed());
        figures.plugged += 1;
        let others = &plan.slots[index + 1..];
        let others = others.iter().filter(|slot| !slot.is_empty());
        let others: Vec<_> = others.collect();
        ensure(others.is_empty(), || {
            format!("not only slot {}: {}", slot.number, describe(&others))
        })?;
    }
    log.read()?;
    whole_round(plan, 1, &places, figures)?;
    log.read()
}

/// A device comes into every slot that has none, all are used, all go.
fn whole_round(
    plan: &Plan,
    round: u32,
    places: &Places,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let begun = Instant::now();
    figures.plugged += number(&ask("plug", LIMIT)?)?;
    await_all("devices that come", &plan.slots, Slot::is_ready)?;
    figures.all_in.push(begun.elapsed());
    found::all_and_no_more()?;
    let sensors = plan
        .slots
        .iter()
        .map(|slot| slot.open(round))
        .collect::<Result<Vec<_>, _>>()?;
    for (index, (slot, sensor)) in plan.slots.iter().zip(&sensors).enumerate() {
        slot.start(sensor, &places.place(index)?)?;
    }
    // Nothing else of the domain has any now.
    let before = interrupts::count()?;
    wait("interrupts", LIMIT, || {
        Ok(interrupts::count()? > before + plan.slots.len() as u64)
    })?;
    match plan.way {
        Way::Button => {
            for sensor in &sensors {
                sensor.halt()?;
            }
            drop(sensors);
            unplug(plan, figures)?;
        }
        Way::Surprise => in_use(plan, sensors, places, figures)?,
    }
    Ok(())
}

/// Devices are pulled out while they write to memory and programs read them.
fn in_use(
    plan: &Plan,
    sensors: Vec<Sensor<Sysfs>>,
    places: &Places,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let mut holders = Vec::new();
    for (index, slot) in plan.slots.iter().enumerate() {
        let pace = if index.is_multiple_of(FAST) {
            Pace::Fast
        } else {
            Pace::Leisurely
        };
        holders.push(Holder::start(&slot.address, pace)?);
    }
    for holder in &mut holders {
        holder.await_hold()?;
    }
    let heads = || {
        let slots = 0..plan.slots.len();
        let head = |index| places.place(index)?.head();
        slots.map(head).collect::<Result<Vec<_>, Failure>>()
    };
    let before = unplug_with(plan, figures, heads)?;
    for holder in holders {
        match holder.end()? {
            Seen::AllOnes => figures.all_ones += 1,
            Seen::Signal => figures.signals += 1,
        }
    }
    drop(sensors);
    let after = heads()?;
    ensure(before == after, || {
        format!("devices that are gone write: {before:?}, then {after:?}")
    })
}

fn unplug(plan: &Plan, figures: &mut Figures) -> Result<(), Failure> {
    unplug_with(plan, figures, || Ok(()))
}

/// All devices go; `then` is done when they are gone, before the kernel has understood.
fn unplug_with<T>(
    plan: &Plan,
    figures: &mut Figures,
    then: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let begun = Instant::now();
    let count = number(&ask("unplug", LIMIT)?)?;
    let done = then()?;
    await_all("devices that go", &plan.slots, Slot::is_empty)?;
    figures.all_out.push(begun.elapsed());
    figures.unplugged += count;
    found::all_and_no_more()?;
    Ok(done)
}

impl Figures {
    /// What came of the last round.
    fn last(&self, round: u32) -> Line {
        let last = |times: &[Duration]| times.last().copied().unwrap_or_default().as_millis();
        Line::Text {
            title: format!("hot plug, round {round}"),
            text: format!(
                "all in after {} ms, all out after {} ms, {} plugged",
                last(&self.all_in),
                last(&self.all_out),
                self.plugged
            ),
        }
    }

    fn tell(&self, plan: &Plan) -> Verdict {
        let Self {
            plugged,
            unplugged,
            all_ones,
            signals,
            ..
        } = self;
        ensure(plugged == unplugged, || {
            format!("{plugged} came, {unplugged} went")
        })?;
        let in_use = all_ones + signals;
        let expected = if plan.way == Way::Surprise {
            *unplugged
        } else {
            0
        };
        ensure(in_use == expected, || {
            format!("{in_use} were in use, {expected} went")
        })?;
        let count = plan.slots.len();
        let mut told = format!(
            "{plugged} came and went; one alone was there after {}, all of {count} after {}, and gone after {}",
            range(&self.alone),
            range(&self.all_in),
            range(&self.all_out)
        );
        if in_use > 0 {
            told += &format!("; in use: {all_ones} read all ones, {signals} users had a signal");
        }
        Ok(told)
    }
}

fn range(times: &[Duration]) -> String {
    let shortest = times.iter().min().copied().unwrap_or_default();
    let longest = times.iter().max().copied().unwrap_or_default();
    format!("{} to {} ms", shortest.as_millis(), longest.as_millis())
}

fn number(text: &str) -> Result<u32, Failure> {
    let number = text.trim().parse();
    number.map_err(|_| Failure::new(format!("{text:?} is no number of devices")))
}

fn await_all(what: &str, slots: &[Slot], is_done: impl Fn(&Slot) -> bool) -> Result<(), Failure> {
    let mut left: Vec<&Slot> = slots.iter().collect();
    let awaited = wait(what, LIMIT, || {
        left.retain(|slot| !is_done(slot));
        Ok(left.is_empty())
    });
    awaited.map_err(|failure| Failure::new(format!("{failure}: {}", describe(&left))))
}

/// Waits until a condition holds.
///
/// # Errors
/// It does not within `limit`; its own.
fn wait(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    while !condition()? {
        ensure(Instant::now() < deadline, || {
            format!("{what}: not within {} s", limit.as_secs())
        })?;
        std::thread::sleep(LOOK);
    }
    Ok(())
}
