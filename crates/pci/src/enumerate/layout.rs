//! Which addresses BARs and windows get: windows are as large as what is below needs, and each bus is
//! filled by falling alignment, which leaves few gaps.

use std::ops::RangeInclusive;

use super::{EnumerateError, FoundBar, FoundFunction, HotPlugReserve, Resources};
use crate::bar::BarKind;
use crate::spec::bridge::MEMORY_GRANULE;

/// Which of the two windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Memory,
    Prefetchable,
}

/// Addresses that something needs.
#[derive(Clone, Copy, Debug)]
struct Need {
    place: Place,
    size: u128,
    alignment: u64,
}

/// Who needs them, by indices.
#[derive(Clone, Copy, Debug)]
enum Place {
    Bar(usize, usize),
    VfBar(usize, usize),
    Window(usize),
}

/// A layout under way.
pub(super) struct Layout<'a> {
    functions: &'a mut [FoundFunction],
    resources: &'a Resources,
    /// What is on each bus: for every function what is right below it, and on the root bus.
    below: Vec<Vec<usize>>,
    root: Vec<usize>,
    /// The ports that have a 64-bit prefetchable window, as all above them.
    wide: Vec<bool>,
}

impl<'a> Layout<'a> {
    pub(super) fn new(functions: &'a mut [FoundFunction], resources: &'a Resources) -> Self {
        let mut below = vec![Vec::new(); functions.len()];
        let mut root = Vec::new();
        let mut wide = vec![false; functions.len()];
        for (at, function) in functions.iter().enumerate() {
            let above_wide = match function.above {
                None => resources.prefetchable.is_some(),
                Some(above) => wide[above],
            };
            let own = function.bridge.as_ref().is_none_or(|bridge| bridge.wide);
            wide[at] = above_wide && own;
            function
                .above
                .map_or(&mut root, |above| &mut below[above])
                .push(at);
        }
        Self {
            functions,
            resources,
            below,
            root,
            wide,
        }
    }

    /// Gives everything its addresses.
    pub(super) fn place(mut self) -> Result<(), EnumerateError> {
        self.place_kind(Kind::Memory, &self.resources.memory)?;
        if let Some(prefetchable) = &self.resources.prefetchable {
            self.place_kind(Kind::Prefetchable, prefetchable)?;
        }
        Ok(())
    }

    fn place_kind(
        &mut self,
        kind: Kind,
        available: &RangeInclusive<u64>,
    ) -> Result<(), EnumerateError> {
        // Ports come before what is below them: so from the last one every window knows its needs.
        let mut windows = vec![None; self.functions.len()];
        for at in (0..self.functions.len()).rev() {
            windows[at] = self.window(at, kind, &windows);
        }
        let mut needs = self.needs(&self.root, kind, &windows);
        let (end, alignment) = fill(&mut needs, u128::from(*available.start()), |_, _| ());
        if end > u128::from(*available.end()) + 1 {
            return Err(EnumerateError::Window {
                window: match kind {
                    Kind::Memory => "memory",
                    Kind::Prefetchable => "prefetchable",
                },
                needed: fill(&mut needs, 0, |_, _| ()).0,
                alignment,
                available: available.clone(),
            });
        }
        self.give(&mut needs, (*available.start()).into(), kind);
        for at in 0..self.functions.len() {
            let mut needs = self.needs(&self.below[at], kind, &windows);
            let bridge = self.functions[at].bridge.as_ref();
            let window = bridge.and_then(|bridge| match kind {
                Kind::Memory => bridge.memory.as_ref(),
                Kind::Prefetchable => bridge.prefetchable.as_ref(),
            });
            if let Some(start) = window.map(|window| *window.start()) {
                self.give(&mut needs, start.into(), kind);
            }
        }
        Ok(())
    }

    /// Places what is needed from `start` on, where there is room for it.
    fn give(&mut self, needs: &mut [Need], start: u128, kind: Kind) {
        fill(needs, start, |need, at| {
            let Ok(address) = u64::try_from(at) else {
                return;
            };
            match need.place {
                Place::Bar(at, bar) => self.functions[at].bars[bar].address = address,
                Place::VfBar(at, bar) => {
                    if let Some(sriov) = &mut self.functions[at].sriov {
                        sriov.bars[bar].address = address;
                    }
                }
                Place::Window(at) => {
                    let last = u64::try_from(at_last(need, address)).unwrap_or(u64::MAX);
                    if let Some(bridge) = &mut self.functions[at].bridge {
                        let window = match kind {
                            Kind::Memory => &mut bridge.memory,
                            Kind::Prefetchable => &mut bridge.prefetchable,
                        };
                        *window = Some(address..=last);
                    }
                }
            }
        });
    }

    /// The window of a port, with what is below as far as it is known.
    fn window(&self, at: usize, kind: Kind, windows: &[Option<Need>]) -> Option<Need> {
        let bridge = self.functions[at].bridge.as_ref()?;
        if kind == Kind::Prefetchable && !self.wide[at] {
            return None;
        }
        let mut needs = self.needs(&self.below[at], kind, windows);
        let (end, alignment) = fill(&mut needs, 0, |_, _| ());
        let HotPlugReserve {
            memory,
            prefetchable,
            ..
        } = self.resources.hot_plug;
        let reserve = match kind {
            _ if !bridge.hot_plug => 0,
            Kind::Memory => memory,
            Kind::Prefetchable => prefetchable,
        };
        let size = end.max(reserve.into());
        (size > 0).then_some(Need {
            place: Place::Window(at),
            size: size.next_multiple_of(MEMORY_GRANULE.into()),
            alignment: alignment.max(MEMORY_GRANULE),
        })
    }

    fn needs(&self, members: &[usize], kind: Kind, windows: &[Option<Need>]) -> Vec<Need> {
        let mut needs = Vec::new();
        for &at in members {
            let function = &self.functions[at];
            for (bar, found) in function.bars.iter().enumerate() {
                needs.extend(self.bar_need(at, Place::Bar(at, bar), found, 1, kind));
            }
            if let Some(sriov) = &function.sriov {
                for (bar, found) in sriov.bars.iter().enumerate() {
                    let place = Place::VfBar(at, bar);
                    needs.extend(self.bar_need(at, place, found, sriov.total_vfs, kind));
                }
            }
            needs.extend(windows[at]);
        }
        needs
    }

    /// What `count` BARs in a row need, if they go into that window.
    fn bar_need(
        &self,
        at: usize,
        place: Place,
        found: &FoundBar,
        count: u16,
        kind: Kind,
    ) -> Option<Need> {
        let above_wide = match self.functions[at].above {
            None => self.resources.prefetchable.is_some(),
            Some(above) => self.wide[above],
        };
        let bar = found.bar;
        let prefetchable = bar.prefetchable && bar.kind == BarKind::Memory64 && above_wide;
        (count > 0 && prefetchable == (kind == Kind::Prefetchable)).then_some(Need {
            place,
            size: u128::from(bar.size) * u128::from(count),
            alignment: bar.size,
        })
    }
}

fn at_last(need: &Need, address: u64) -> u128 {
    u128::from(address) + need.size - 1
}

/// Lays out from `start` on, by falling alignment, and tells where; returns the end and the largest
/// alignment.
fn fill(needs: &mut [Need], start: u128, mut place: impl FnMut(&Need, u128)) -> (u128, u64) {
    needs.sort_by_key(|need| std::cmp::Reverse(need.alignment));
    let alignment = needs.first().map_or(1, |need| need.alignment);
    let mut end = start;
    for need in needs.iter() {
        let at = end.next_multiple_of(need.alignment.into());
        place(need, at);
        end = at + need.size;
    }
    (end, alignment)
}
