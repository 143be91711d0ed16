//! Where VFs are, for combinations of offset, stride, ARI and buses, against a direct formula.

mod support;

use hdv::pci::{Port, VfRouting};
use hdv_sriov::{
    EmulatedPf, EnableVirtualization, PciVirtualization, PfError, PfOptions, Placement,
    PlacementError,
};
use proptest::prelude::*;
use support::*;

#[derive(Clone, Copy, Debug)]
struct Case {
    offset: u16,
    stride: u16,
    total: u16,
    ari: bool,
    secondary: u8,
    subordinate: u8,
    device: u8,
    function: u8,
}

impl Case {
    /// Where VF `vf` is, in numbers that cannot overflow.
    fn id(self, vf: u16) -> u64 {
        let pf =
            u64::from(self.secondary) << 8 | u64::from(self.device) << 3 | u64::from(self.function);
        pf + u64::from(self.offset) + u64::from(vf) * u64::from(self.stride)
    }

    /// Requests to a place come to the device.
    fn reached(self, id: u64) -> bool {
        let (bus, device) = (id >> 8, id >> 3 & 31);
        if bus == u64::from(self.secondary) {
            self.ari || device == u64::from(self.device)
        } else {
            bus <= u64::from(self.subordinate)
        }
    }

    /// How many VFs there can be, from the first one on, up to TotalVFs.
    fn room(self) -> u16 {
        let distinct = match (self.offset, self.stride) {
            (0, _) => 0,
            (_, 0) => 1,
            _ => u16::MAX,
        };
        let reached = (0..self.total.min(distinct)).take_while(|vf| self.reached(self.id(*vf)));
        u16::try_from(reached.count()).unwrap()
    }

    fn make(self) -> Result<(hdv::TestBench, EmulatedPf), PfError> {
        let port = Port::new(self.secondary, self.subordinate)
            .unwrap()
            .ari_forwarding(self.ari);
        let placement = Placement::new(7, port, self.device, self.function)?;
        let options = PfOptions {
            routing: Some(VfRouting {
                first_vf_offset: self.offset,
                vf_stride: self.stride,
            }),
            ..PfOptions::new(placement)
        };
        let author = Author::total(&Lab::default(), self.total);
        EmulatedPf::on_bench(Box::new(author), options)
    }

    fn places(self, pf: &EmulatedPf) {
        for vf in 0..self.total {
            let location = pf.location(vf).unwrap();
            assert_eq!(location.segment, 7);
            let id = u64::from(location.routing_id.get());
            assert_eq!(id, self.id(vf), "VF {vf} of {self:?}");
        }
        assert!(pf.location(self.total).is_err());
        assert_eq!(pf.captured_buses(), self.subordinate - self.secondary);
    }

    fn check(self) {
        let room = self.room();
        match self.make() {
            Ok((_bench, pf)) => {
                assert_eq!(room, self.total, "{self:?}");
                self.places(&pf);
                self.renumbered(&pf);
            }
            Err(PfError::Placement(PlacementError::Capacity {
                total_vfs,
                capacity,
                ..
            })) => {
                assert!(room < self.total, "{self:?}");
                assert_eq!((total_vfs, capacity), (self.total, room), "{self:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Elsewhere the same formula holds, or nothing changes.
    fn renumbered(self, pf: &EmulatedPf) {
        for (secondary, subordinate) in [(0, 3), (0x40, 0x40), (0xff, 0xff), (0xfd, 0xff)] {
            let other = Self {
                secondary,
                subordinate,
                ..self
            };
            match pf.renumber(secondary, subordinate) {
                Ok(()) => {
                    assert_eq!(other.room(), self.total, "{other:?}");
                    other.places(pf);
                    pf.renumber(self.secondary, self.subordinate).unwrap();
                }
                Err(_) => assert!(other.room() < self.total, "{other:?}"),
            }
            self.places(pf);
        }
    }
}

#[test]
fn all_small_combinations_follow_the_formula() {
    for ari in [false, true] {
        for (secondary, more) in [(0, 0), (0, 1), (5, 0), (5, 1), (5, 2), (0xfe, 1), (0xff, 0)] {
            for (device, function) in [(0, 0), (0, 3), (31, 7)] {
                for offset in [0, 1, 2, 5, 7, 8, 128, 255, 256, 257, 512] {
                    for stride in [0, 1, 2, 3, 8, 256] {
                        for total in [1, 7, 8, 40] {
                            let case = Case {
                                offset,
                                stride,
                                total,
                                ari,
                                secondary,
                                subordinate: secondary + more,
                                device,
                                function,
                            };
                            case.check();
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_most_vfs_there_can_be() {
    let case = Case {
        offset: 1,
        stride: 1,
        total: u16::MAX,
        ari: true,
        secondary: 0,
        subordinate: 255,
        device: 0,
        function: 0,
    };
    let (_bench, pf) = case.make().unwrap();
    case.places(&pf);
    let last = pf.location(u16::MAX - 1).unwrap();
    assert_eq!(last.routing_id.to_string(), "ff:1f.7");
    assert!(pf.renumber(0, 254).is_err());
}

#[test]
fn enabling_moves_nobody() {
    let case = Case {
        offset: 2,
        stride: 3,
        total: 20,
        ari: true,
        secondary: 4,
        subordinate: 4,
        device: 1,
        function: 1,
    };
    let (_bench, pf) = case.make().unwrap();
    for num_vfs in [1, 7, 20] {
        pf.enable_virtualization(EnableVirtualization::enable(num_vfs))
            .unwrap();
        case.places(&pf);
        case.renumbered(&pf);
        pf.enable_virtualization(EnableVirtualization::disable())
            .unwrap();
    }
}

fn near(edges: &'static [u16]) -> impl Strategy<Value = u16> {
    let edge = proptest::sample::select(edges);
    prop_oneof![
        4 => (edge, 0_u16..3).prop_map(|(edge, more)| edge.saturating_add(more)),
        1 => any::<u16>()
    ]
}

proptest! {
    #[test]
    fn every_combination_follows_the_formula(
        offset in near(&[0, 1, 7, 254, 256, 512, 0xfffd]),
        stride in near(&[0, 1, 2, 8, 128, 256]),
        total in near(&[1, 7, 254, 510]).prop_map(|total| total.clamp(1, 600)),
        ari: bool,
        (secondary, more) in (any::<u8>(), prop_oneof![0_u8..3, any::<u8>()]),
        device in 0_u8..32,
        function in 0_u8..8,
    ) {
        let subordinate = secondary.saturating_add(more);
        Case { offset, stride, total, ari, secondary, subordinate, device, function }.check();
    }
}
