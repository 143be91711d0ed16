//! Sets of addresses, as disjoint ranges.

use std::collections::BTreeMap;

/// Disjoint ranges of addresses: the first of each to the last.
#[derive(Debug, Default)]
pub(super) struct Intervals(BTreeMap<u64, u64>);

impl Intervals {
    pub(super) fn all() -> Self {
        Self(BTreeMap::from([(0, u64::MAX)]))
    }

    /// Adds a range that nothing of is in the set.
    pub(super) fn insert(&mut self, first: u64, last: u64) {
        self.0.insert(first, last);
    }

    /// Takes what of `first` to `last` is in the set out of it, in pieces.
    pub(super) fn take(&mut self, first: u64, last: u64, mut taken: impl FnMut(u64, u64)) {
        let before = self.0.range(..first).next_back();
        let mut from = match before {
            Some((start, end)) if *end >= first => *start,
            _ => first,
        };
        while let Some((&start, &end)) = self.0.range(from..=last).next() {
            self.0.remove(&start);
            if start < first {
                self.0.insert(start, first - 1);
            }
            taken(start.max(first), end.min(last));
            if end >= last {
                if end > last {
                    self.0.insert(last + 1, end);
                }
                return;
            }
            from = end + 1;
        }
    }
}
