//! Working out which addresses reach which BAR, through the windows of the ports.

use super::bus::Bus;
use super::intervals::Intervals;
use super::memory_map::{Claim, Segment};
use super::{FunctionId, Member, Parent, Topology};
use crate::bar_index::BarIndex;

impl Topology {
    /// Brings the memory map up to date.
    pub(super) fn decode_memory(&mut self) {
        if !std::mem::take(&mut self.memory_changed) {
            return;
        }
        let mut memory = std::mem::take(&mut self.memory);
        memory.fill(|segments| {
            let mut open = Intervals::all();
            if let Some(root) = self.bus(Parent::Root) {
                self.decode_bus(root, &mut open, segments);
            }
        });
        self.memory = memory;
        self.last_hit = 0;
    }

    /// The members of `bus` take what they claim out of `open`. As deep as there are ports in a row.
    fn decode_bus(&self, bus: &Bus, open: &mut Intervals, segments: &mut Vec<Segment>) {
        for (_, member) in bus.members() {
            match member {
                Member::Function(id) => self.decode_function(id, open, segments),
                Member::Port(id) => {
                    let Some(port) = self.ports.get(&id) else {
                        continue;
                    };
                    let mut below = Intervals::default();
                    for window in port.state.windows().into_iter().flatten() {
                        open.take(*window.start(), *window.end(), |first, last| {
                            below.insert(first, last);
                        });
                    }
                    if port.state.open {
                        self.decode_bus(&port.below, &mut below, segments);
                    }
                }
            }
        }
    }

    fn decode_function(&self, id: FunctionId, open: &mut Intervals, segments: &mut Vec<Segment>) {
        let Some(function) = self.functions.get(&id) else {
            return;
        };
        let decode = &function.decode;
        let mut claim = |bar, (first, last), vf_size| {
            let claim = Claim {
                function: id,
                bar,
                base: first,
                vf_size,
            };
            open.take(first, last, |first, last| {
                segments.push(Segment { first, last, claim });
            });
        };
        if decode.memory_enabled {
            for (index, bar) in BarIndex::ALL.into_iter().zip(decode.bars) {
                if let Some(bar) = bar {
                    claim(index, (bar.address, bar.last), None);
                }
            }
        }
        let Some(vfs) = decode.vfs.filter(|vfs| vfs.memory_enabled) else {
            return;
        };
        for (index, bar) in BarIndex::ALL.into_iter().zip(vfs.bars) {
            if let Some((bar, range)) = bar.and_then(|bar| Some((bar, vfs.range(bar)?))) {
                claim(index, range, Some(bar.bar.size));
            }
        }
    }
}
