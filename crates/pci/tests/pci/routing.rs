//! Routing ids of VFs against a direct formula, and the port that leads to them.

use hdv_pci::{BusNumbersError, Port, RoutingId, RoutingIdError, VfRouting};
use proptest::prelude::*;

const fn routing(first_vf_offset: u16, vf_stride: u16) -> VfRouting {
    VfRouting {
        first_vf_offset,
        vf_stride,
    }
}

/// Where VF `vf` is, in numbers that cannot overflow.
fn formula(pf: RoutingId, routing: VfRouting, vf: u16) -> u64 {
    u64::from(pf.get())
        + u64::from(routing.first_vf_offset)
        + u64::from(vf) * u64::from(routing.vf_stride)
}

/// Requests to `id` come to the device of `pf` on `secondary`.
fn reached(id: u64, pf: RoutingId, secondary: u64, subordinate: u64, ari: bool) -> bool {
    let (bus, device) = (id >> 8, id >> 3 & 31);
    if bus == secondary {
        ari || device == u64::from(pf.device())
    } else {
        secondary < bus && bus <= subordinate
    }
}

#[test]
fn routing_ids_have_bus_device_and_function() {
    let id = RoutingId::new(0x12, 0x1f, 7).unwrap();
    assert_eq!(id.get(), 0x12ff);
    assert_eq!((id.bus(), id.device(), id.function()), (0x12, 0x1f, 7));
    assert_eq!(id.ari_function(), 0xff);
    assert_eq!(id.to_string(), "12:1f.7");
    assert_eq!(id, RoutingId::with_ari(0x12, 0xff));
    assert_eq!(id.on_bus(0xab), RoutingId::from(0xabff));
    for (device, function) in [(32, 0), (0, 8), (255, 255)] {
        let error = RoutingId::new(0, device, function).unwrap_err();
        assert_eq!(error, RoutingIdError { device, function });
    }
}

#[test]
fn vfs_carry_into_the_next_buses() {
    let pf = RoutingId::new(5, 0, 0).unwrap();
    let vf = |routing: VfRouting, vf| routing.routing_id(pf, vf).map(|id| id.to_string());
    assert_eq!(vf(routing(1, 1), 0).as_deref(), Some("05:00.1"));
    assert_eq!(vf(routing(1, 1), 254).as_deref(), Some("05:1f.7"));
    assert_eq!(vf(routing(1, 1), 255).as_deref(), Some("06:00.0"));
    assert_eq!(vf(routing(384, 2), 63).as_deref(), Some("06:1f.6"));
    assert_eq!(vf(routing(384, 2), 64).as_deref(), Some("07:00.0"));
    assert_eq!(vf(routing(1, 1), 0xfafe).as_deref(), Some("ff:1f.7"));
    assert_eq!(vf(routing(1, 1), 0xfaff), None);
    assert_eq!(vf(routing(0xffff, 0xffff), 0xffff), None);
}

#[test]
fn capacity_is_what_the_captured_buses_hold() {
    let pf = RoutingId::new(1, 0, 0).unwrap();
    let port = |last| Port::new(1, last).unwrap();
    let capacity = |routing: VfRouting, ari, port| routing.capacity(pf, ari, port);
    assert_eq!(capacity(routing(1, 1), false, port(1)), 7);
    // From function 8 on the ids of the device's own bus are another device's.
    assert_eq!(capacity(routing(1, 1), false, port(9)), 7);
    let ari = |last| port(last).ari_forwarding(true);
    assert_eq!(capacity(routing(1, 1), true, ari(1)), 255);
    assert_eq!(capacity(routing(1, 1), true, port(1)), 7, "only the device");
    assert_eq!(capacity(routing(1, 1), false, ari(1)), 7, "only the port");
    assert_eq!(capacity(routing(1, 1), true, ari(3)), 255 + 512);
    assert_eq!(capacity(routing(256, 1), false, port(1)), 0);
    assert_eq!(capacity(routing(256, 1), false, port(2)), 256);
    assert_eq!(capacity(routing(256, 3), false, port(2)), 86);
    assert_eq!(capacity(routing(0, 1), true, ari(9)), 0, "on the PF");
    assert_eq!(capacity(routing(1, 0), true, ari(9)), 1, "all in one place");
    let whole = Port::new(0, 255).unwrap().ari_forwarding(true);
    let zero = RoutingId::default();
    assert_eq!(routing(1, 1).capacity(zero, true, whole), 65535);
}

#[test]
fn packed_vfs_are_behind_the_pf_or_on_a_captured_bus() {
    let pf = RoutingId::new(1, 0, 2).unwrap();
    assert_eq!(VfRouting::packed(pf, 5, false), routing(1, 1));
    assert_eq!(VfRouting::packed(pf, 6, false), routing(254, 1));
    assert_eq!(VfRouting::packed(pf, 6, true), routing(1, 1));
    let first = VfRouting::packed(pf, 6, false).routing_id(pf, 0);
    assert_eq!(first, RoutingId::new(2, 0, 0).ok());
}

#[test]
fn ports_are_renumbered() {
    let mut port = Port::new(2, 4).unwrap().ari_forwarding(true);
    assert_eq!(port.captured_buses(), 2);
    let pf = RoutingId::with_ari(2, 3);
    port.renumber(0x20, 0x21).unwrap();
    assert_eq!((port.secondary(), port.subordinate()), (0x20, 0x21));
    assert!(port.forwards_ari());
    assert_eq!(port.captured_buses(), 1);
    assert_eq!(port.below(pf), RoutingId::with_ari(0x20, 3));
    let wrong = BusNumbersError {
        secondary: 9,
        subordinate: 8,
    };
    assert_eq!(port.renumber(9, 8), Err(wrong));
    assert_eq!(Port::new(9, 8), Err(wrong));
    assert_eq!((port.secondary(), port.subordinate()), (0x20, 0x21));
    assert_eq!(Port::new(0, 255).map(Port::captured_buses), Ok(255));
}

fn near(edges: &'static [u16]) -> impl Strategy<Value = u16> {
    let edge = proptest::sample::select(edges);
    prop_oneof![
        (edge, 0_u16..3).prop_map(|(edge, more)| edge.saturating_add(more)),
        any::<u16>()
    ]
}

proptest! {
    #[test]
    fn every_combination_follows_the_formula(
        (secondary, more) in (any::<u8>(), prop_oneof![0_u8..3, any::<u8>()]),
        function in prop_oneof![0_u8..9, any::<u8>()],
        first in near(&[0, 1, 7, 128, 255, 256, 512, 0xfffd]),
        stride in near(&[0, 1, 2, 8, 128, 256, 0xfffd]),
        vf in near(&[0, 6, 254, 510, 0xfffd]),
        forwarding: bool,
        device_ari: bool,
    ) {
        let subordinate = secondary.saturating_add(more);
        let port = Port::new(secondary, subordinate).unwrap().ari_forwarding(forwarding);
        let pf = RoutingId::with_ari(secondary, function);
        let routing = routing(first, stride);

        let expected = u16::try_from(formula(pf, routing, vf)).ok().map(RoutingId::from);
        let id = routing.routing_id(pf, vf);
        prop_assert_eq!(id, expected);
        if let Some(id) = id {
            let found = routing.vf_at(pf, id, u16::MAX);
            let this = if stride == 0 { 0 } else { vf };
            prop_assert_eq!(found, (this < u16::MAX).then_some(this));
            prop_assert_eq!(routing.vf_at(pf, id, this), None);
        }

        let (low, high) = (secondary.into(), subordinate.into());
        let ari = forwarding && device_ari;
        let capacity = routing.capacity(pf, device_ari, port);
        let fits = |vf| reached(formula(pf, routing, vf), pf, low, high, ari);
        if first == 0 {
            prop_assert_eq!(capacity, 0);
        } else {
            prop_assert!((0..capacity).all(fits));
            prop_assert!(capacity == u16::MAX || stride == 0 && capacity == 1 || !fits(capacity));
        }
    }

    #[test]
    fn only_vfs_are_found(id: u16, first in 0_u16..600, stride in 0_u16..40, num in 0_u16..40) {
        let pf = RoutingId::from(0x0123);
        let routing = routing(first, stride);
        let expected = (0..num).find(|vf| formula(pf, routing, *vf) == u64::from(id));
        prop_assert_eq!(routing.vf_at(pf, RoutingId::from(id), num), expected);
    }
}
