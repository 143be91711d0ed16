//! Which physical bus a config request reaches by its bus number, as the ports are programmed.

use super::bus::Bus;
use super::{Member, Parent, Topology};

/// Bus numbers.
const BUSES: usize = 256;

/// Where a config request with a certain bus number ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BusRoute {
    /// No port forwards it.
    None,
    /// As a type 0 request: it is for what is on that bus.
    Own(Parent),
    /// As a type 1 request that no port on that bus forwards: it is for VFs of the PFs there, which
    /// capture it.
    Captured(Parent),
}

/// The end for every bus number.
#[derive(Debug)]
pub(super) struct BusRoutes([BusRoute; BUSES]);

impl Default for BusRoutes {
    fn default() -> Self {
        Self([BusRoute::None; BUSES])
    }
}

impl BusRoutes {
    pub(super) fn get(&self, bus: u8) -> BusRoute {
        self.0[usize::from(bus)]
    }
}

/// A set of bus numbers.
#[derive(Clone, Copy)]
struct BusSet([u128; 2]);

impl BusSet {
    const ALL: Self = Self([u128::MAX; 2]);

    /// `first` to `last`; none if `last` is below `first`.
    fn range(first: u8, last: u8) -> Self {
        let up_to = |end: usize| {
            [0, 1].map(|half: usize| match end.saturating_sub(128 * half) {
                0 => 0,
                128.. => u128::MAX,
                bits => (1 << bits) - 1,
            })
        };
        let (below, through) = (up_to(first.into()), up_to(usize::from(last) + 1));
        Self([0, 1].map(|half| through[half] & !below[half]))
    }

    fn both(self, other: Self) -> Self {
        Self([0, 1].map(|half| self.0[half] & other.0[half]))
    }

    fn without(self, other: Self) -> Self {
        Self([0, 1].map(|half| self.0[half] & !other.0[half]))
    }

    fn is_empty(self) -> bool {
        self.0 == [0; 2]
    }

    fn contains(self, bus: usize) -> bool {
        self.0[bus / 128] >> (bus % 128) & 1 != 0
    }
}

impl Topology {
    /// Works the routes out again.
    pub(super) fn route_buses(&mut self) {
        let mut routes = BusRoutes::default();
        let root = self.root_bus;
        routes.0[usize::from(root)] = BusRoute::Own(Parent::Root);
        let forwarded = BusSet::ALL.without(BusSet::range(root, root));
        self.route(Parent::Root, &self.root, forwarded, &mut routes);
        self.routes = routes;
    }

    /// Type 1 requests for `arriving` come to `bus`. As deep as there are ports in a row.
    fn route(&self, parent: Parent, bus: &Bus, arriving: BusSet, routes: &mut BusRoutes) {
        let mut left = arriving;
        for (_, member) in bus.members() {
            let Member::Port(id) = member else { continue };
            let Some(port) = self.ports.get(&id) else {
                continue;
            };
            let state = &port.state;
            let claimed = left.both(BusSet::range(state.secondary, state.subordinate));
            left = left.without(claimed);
            if claimed.is_empty() || !state.open {
                continue;
            }
            let below = Parent::Port(id);
            let own = BusSet::range(state.secondary, state.secondary);
            if !claimed.both(own).is_empty() {
                routes.0[usize::from(state.secondary)] = BusRoute::Own(below);
            }
            self.route(below, &port.below, claimed.without(own), routes);
        }
        for (number, route) in routes.0.iter_mut().enumerate() {
            if left.contains(number) {
                *route = BusRoute::Captured(parent);
            }
        }
    }
}
