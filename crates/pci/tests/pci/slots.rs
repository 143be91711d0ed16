//! Ports and their slots: what an operating system does to them when devices come and go, step by
//! step.

use hdv_pci::spec::port::SlotCapabilities;
use hdv_pci::{
    ConfigError, ConfigSpace, Effects, Indicator, PciExpress, PortKind, PortView, Slot, SlotView,
};

use crate::common::{IDENTITY, read_u16, read_u32};

/// The only capability but the subsystem ids.
const EXPRESS: u16 = 0x40;
const DEVICE_CONTROL_2: u16 = EXPRESS + 0x28;
const LINK_CONTROL: u16 = EXPRESS + 0x10;
const LINK_STATUS: u16 = EXPRESS + 0x12;
const SLOT_CONTROL: u16 = EXPRESS + 0x18;
const SLOT_STATUS: u16 = EXPRESS + 0x1a;
const BRIDGE_CONTROL: u16 = 0x3e;

/// What Linux enables, with and without a button, for a slot that completes no commands.
const LINUX_BUTTON: u16 = 0x1021;
const LINUX_SURPRISE: u16 = 0x1028;

const NOTHING: Effects = Effects::empty();
const LINK_EVENT: Effects = Effects::LINK.union(Effects::PORT_INTERRUPT);

fn port(express: PciExpress) -> ConfigSpace {
    ConfigSpace::bridge_builder(IDENTITY)
        .capability(express)
        .build()
        .unwrap()
}

fn with_slot(slot: Slot) -> ConfigSpace {
    port(PciExpress::root_port(1).slot(slot))
}

fn view(config: &ConfigSpace) -> PortView {
    config.port().expect("it is a port")
}

fn slot(config: &ConfigSpace) -> SlotView {
    view(config).slot.expect("it has a slot")
}

/// Software changes some bits of a 16-bit register, as Linux does.
fn change(config: &mut ConfigSpace, at: u16, mask: u16, bits: u16) -> Effects {
    let value = read_u16(config, at) & !mask | bits;
    config.write(at, &value.to_le_bytes())
}

/// Reads slot status and clears what it found, until nothing is left, as an interrupt handler does.
fn handle(config: &mut ConfigSpace) -> u16 {
    let mut found = 0;
    for _ in 0..10 {
        let status = read_u16(config, SLOT_STATUS) & 0x011f;
        if status == 0 {
            return found;
        }
        found |= status;
        assert_eq!(config.write(SLOT_STATUS, &status.to_le_bytes()), NOTHING);
    }
    panic!("an event cannot be cleared")
}

#[test]
fn each_kind_of_port_says_what_it_is() {
    for (express, kind, register) in [
        (PciExpress::root_port(3), PortKind::Root, 0x0042),
        (PciExpress::upstream_port(3), PortKind::Upstream, 0x0052),
        (PciExpress::downstream_port(3), PortKind::Downstream, 0x0062),
    ] {
        let mut config = port(express);
        assert_eq!(read_u16(&config, EXPRESS + 2), register);
        let below = kind != PortKind::Upstream;
        let seen = view(&config);
        assert_eq!((seen.kind, seen.number, seen.slot), (kind, 3, None));
        assert_eq!(seen.link_active, !below, "nothing is below yet");
        // Active reporting, ARI forwarding, link disable.
        assert_eq!(read_u32(&config, EXPRESS + 0xc) >> 20 & 1 != 0, below);
        assert_eq!(read_u32(&config, EXPRESS + 0x24) >> 5 & 1 != 0, below);
        let _ = config.write(LINK_CONTROL, &[0x30]);
        assert_eq!(
            read_u16(&config, LINK_CONTROL),
            if below { 0x10 } else { 0 }
        );
        assert_eq!(view(&config).link_disabled, below);
        let effects = config.write(DEVICE_CONTROL_2, &[0x20]);
        assert_eq!(
            effects,
            if below {
                Effects::ARI_FORWARDING
            } else {
                NOTHING
            }
        );
        assert_eq!(view(&config).ari_forwarding, below);
        assert_eq!(config.write(DEVICE_CONTROL_2, &[0x20]), NOTHING);
        // Device control has no function level reset.
        assert_eq!(config.write(EXPRESS + 9, &[0x80]), NOTHING);
        // Presence is always there without a slot.
        assert_eq!(read_u16(&config, SLOT_STATUS), if below { 0x40 } else { 0 });
        // Root registers belong to root ports.
        let _ = config.write(EXPRESS + 0x1c, &[0x10]);
        assert_eq!(
            view(&config).crs_software_visibility,
            kind == PortKind::Root
        );
    }
    let endpoint = ConfigSpace::builder(IDENTITY)
        .capability(PciExpress::endpoint())
        .build()
        .unwrap();
    assert_eq!(endpoint.port(), None);
}

#[test]
fn a_port_without_a_slot_has_a_link_and_no_events() {
    let mut config = port(PciExpress::downstream_port(0));
    assert_eq!(config.set_presence(true), Effects::LINK);
    assert!(view(&config).link_active);
    assert_eq!(config.set_presence(true), NOTHING);
    assert_eq!(config.write(SLOT_CONTROL, &[0xff; 4]), NOTHING);
    assert_eq!(read_u32(&config, SLOT_CONTROL), 0x0040_0000);
    assert_eq!(config.press_attention_button(), NOTHING);
    assert_eq!(config.set_link_active(false), Effects::LINK);
    assert_eq!(config.set_presence(false), NOTHING);
    // An upstream port's link is not its own, and an endpoint has none.
    let mut config = port(PciExpress::upstream_port(0));
    assert_eq!(config.set_presence(true), NOTHING);
    assert_eq!(config.set_link_active(false), NOTHING);
    assert!(view(&config).link_active);
}

#[test]
fn a_device_that_is_there_from_the_start_has_power() {
    let mut config = with_slot(Slot::hot_plug(5));
    assert_eq!(slot(&config).number, 5);
    assert!(!slot(&config).present);
    assert_eq!(config.set_presence(true), Effects::LINK);
    config.reset();
    let seen = slot(&config);
    assert!(seen.present && seen.powered && view(&config).link_active);
    assert_eq!(seen.power_indicator, Indicator::On);
    assert_eq!(seen.attention_indicator, Indicator::Off);
    assert_eq!(handle(&mut config), 0, "nothing has happened since");
}

#[test]
fn plugging_by_surprise() {
    let mut config = with_slot(Slot::hot_plug(5));
    // Linux clears events, enables some, and turns off an empty slot with events disabled.
    assert_eq!(config.write(SLOT_STATUS, &[0x1f, 0x01]), NOTHING);
    assert_eq!(
        change(&mut config, SLOT_CONTROL, 0x103b, LINUX_SURPRISE),
        NOTHING
    );
    assert_eq!(change(&mut config, SLOT_CONTROL, 0x103b, 0), NOTHING);
    assert_eq!(
        change(&mut config, SLOT_CONTROL, 0x400, 0x400),
        Effects::SLOT
    );
    assert!(!slot(&config).powered);
    assert_eq!(
        change(&mut config, SLOT_CONTROL, 0x103b, LINUX_SURPRISE),
        NOTHING
    );

    // In comes a device: presence only, since there is no power.
    assert_eq!(config.set_presence(true), Effects::PORT_INTERRUPT);
    assert!(!view(&config).link_active);
    assert_eq!(handle(&mut config), 0x0008);
    let up = change(&mut config, SLOT_CONTROL, 0x400, 0);
    assert_eq!(up, Effects::SLOT | LINK_EVENT);
    assert_eq!(
        change(&mut config, SLOT_CONTROL, 0x300, 0x200),
        Effects::SLOT
    );
    assert_eq!(slot(&config).power_indicator, Indicator::Blinking);
    assert_eq!(handle(&mut config), 0x0100);
    assert_eq!(read_u16(&config, LINK_STATUS), 0x3011, "up, one lane");
    assert_eq!(
        change(&mut config, SLOT_CONTROL, 0x3c0, 0x1c0),
        Effects::SLOT
    );
    assert_eq!(slot(&config).power_indicator, Indicator::On);

    // It is torn out: presence and link, one interrupt.
    assert_eq!(config.set_presence(false), LINK_EVENT);
    assert_eq!(handle(&mut config), 0x0108);
    assert_eq!(
        change(&mut config, SLOT_CONTROL, 0x400, 0x400),
        Effects::SLOT
    );
    assert_eq!(
        change(&mut config, SLOT_CONTROL, 0x300, 0x300),
        Effects::SLOT
    );
    assert_eq!(slot(&config).power_indicator, Indicator::Off);
    assert_eq!(handle(&mut config), 0);
}

#[test]
fn unplugging_by_the_button() {
    let mut config = with_slot(Slot::hot_plug(5).attention_button());
    let _ = config.set_presence(true);
    config.reset();
    assert_eq!(
        change(&mut config, SLOT_CONTROL, 0x103b, LINUX_BUTTON),
        NOTHING
    );

    assert_eq!(config.press_attention_button(), Effects::PORT_INTERRUPT);
    assert_eq!(config.press_attention_button(), NOTHING, "it is pending");
    assert_eq!(handle(&mut config), 0x0001);
    assert_eq!(
        change(&mut config, SLOT_CONTROL, 0x3c0, 0x2c0),
        Effects::SLOT
    );
    // After five seconds software turns the slot off.
    let off = change(&mut config, SLOT_CONTROL, 0x400, 0x400);
    assert_eq!(off, Effects::SLOT | LINK_EVENT);
    assert_eq!(handle(&mut config), 0x0100);
    assert_eq!(
        change(&mut config, SLOT_CONTROL, 0x300, 0x300),
        Effects::SLOT
    );
    // Now the device can be taken out; presence is no event here.
    assert_eq!(config.set_presence(false), NOTHING);
    assert_eq!(handle(&mut config), 0x0008);

    // And put in again, by button.
    assert_eq!(config.set_presence(true), NOTHING);
    assert_eq!(config.press_attention_button(), Effects::PORT_INTERRUPT);
    assert_eq!(handle(&mut config), 0x0009);
    let on = change(&mut config, SLOT_CONTROL, 0x400, 0);
    assert_eq!(on, Effects::SLOT | LINK_EVENT);
}

#[test]
fn an_interrupt_is_sent_when_nothing_was_pending() {
    let mut config = with_slot(Slot::hot_plug(5));
    // Nothing is enabled: the event waits.
    assert_eq!(config.set_presence(true), Effects::LINK);
    assert_eq!(change(&mut config, SLOT_CONTROL, 0x20, 0x20), NOTHING);
    let enabled = change(&mut config, SLOT_CONTROL, 0x08, 0x08);
    assert_eq!(enabled, Effects::PORT_INTERRUPT);
    // The link's is enabled while presence is still pending.
    assert_eq!(change(&mut config, SLOT_CONTROL, 0x1000, 0x1000), NOTHING);
    // One of two is cleared, and there is another: no new message.
    assert_eq!(config.write(SLOT_STATUS, &[0x08, 0]), NOTHING);
    assert_eq!(config.set_presence(false), Effects::LINK);
    // Disabled and enabled.
    assert_eq!(change(&mut config, SLOT_CONTROL, 0x20, 0), NOTHING);
    let enabled = change(&mut config, SLOT_CONTROL, 0x20, 0x20);
    assert_eq!(enabled, Effects::PORT_INTERRUPT);
    // All are cleared.
    assert_eq!(config.write(SLOT_STATUS, &[0x08, 0x01]), NOTHING);
    assert_eq!(config.set_presence(true), LINK_EVENT);
}

#[test]
fn commands_are_completed_where_that_is_announced() {
    let capabilities = SlotCapabilities::HOT_PLUG_CAPABLE | SlotCapabilities::POWER_CONTROLLER;
    let mut config = with_slot(Slot::new(1).capabilities(capabilities));
    assert_eq!(config.write(SLOT_CONTROL, &[0, 0]), NOTHING);
    assert_eq!(handle(&mut config), 0x0010, "though nothing changed");
    // Enabling the interrupt is a command of its own.
    let first = change(&mut config, SLOT_CONTROL, 0x30, 0x30);
    assert_eq!(first, Effects::PORT_INTERRUPT);
    // Clearing status is no command.
    assert_eq!(handle(&mut config), 0x0010);
    let next = change(&mut config, SLOT_CONTROL, 0x400, 0x400);
    assert_eq!(next, Effects::SLOT | Effects::PORT_INTERRUPT);
    // Both registers at once: cleared, then completed.
    let both = config.write(SLOT_CONTROL, &[0x30, 0x04, 0x10, 0]);
    assert_eq!(both, Effects::PORT_INTERRUPT);
    assert_eq!(handle(&mut config), 0x0010);

    let mut silent = with_slot(Slot::hot_plug(1));
    assert_eq!(change(&mut silent, SLOT_CONTROL, 0x30, 0x30), NOTHING);
    assert_eq!(read_u16(&silent, SLOT_CONTROL) & 0x30, 0x20);
    assert_eq!(handle(&mut silent), 0);
}

#[test]
fn what_a_slot_does_not_have_cannot_be_written() {
    let mut config = with_slot(Slot::new(9));
    let _ = config.write(SLOT_CONTROL, &[0xff, 0xff]);
    assert_eq!(read_u16(&config, SLOT_CONTROL), 0);
    assert_eq!(config.set_presence(true), Effects::LINK);
    assert_eq!(read_u16(&config, SLOT_STATUS), 0x0040, "no event");
    let seen = slot(&config);
    assert!(seen.present && seen.powered);
    assert_eq!(seen.power_indicator, Indicator::Off);
    config.reset();
    assert_eq!(read_u32(&config, SLOT_CONTROL), 0x0040_0000);
    // No button, no power controller.
    let hot = SlotCapabilities::HOT_PLUG_CAPABLE;
    let mut config = with_slot(Slot::new(9).capabilities(hot));
    assert_eq!(config.press_attention_button(), NOTHING);
    assert_eq!(config.fail_power(), NOTHING);
    assert_eq!(handle(&mut config), 0);
}

#[test]
fn a_link_that_is_held_down_comes_up_when_it_may() {
    let mut config = with_slot(Slot::hot_plug(2));
    let _ = config.set_presence(true);
    assert_eq!(config.set_link_active(false), Effects::LINK);
    assert_eq!(handle(&mut config), 0x0108);
    // Software tries by power.
    assert_eq!(
        change(&mut config, SLOT_CONTROL, 0x400, 0x400),
        Effects::SLOT
    );
    assert_eq!(change(&mut config, SLOT_CONTROL, 0x400, 0), Effects::SLOT);
    assert!(!view(&config).link_active);
    assert_eq!(config.set_link_active(true), Effects::LINK);
    // The next device has nothing to do with it.
    let _ = config.set_link_active(false);
    assert_eq!(config.set_presence(false), NOTHING);
    assert_eq!(config.set_presence(true), Effects::LINK);
    assert_eq!(config.set_link_active(true), NOTHING);
}

#[test]
fn software_takes_the_link_down() {
    let mut config = with_slot(Slot::hot_plug(2));
    let _ = config.set_presence(true);
    let _ = change(&mut config, SLOT_CONTROL, 0x103b, LINUX_SURPRISE);
    let _ = handle(&mut config);
    assert_eq!(change(&mut config, LINK_CONTROL, 0x10, 0x10), LINK_EVENT);
    assert!(view(&config).link_disabled && !view(&config).link_active);
    assert_eq!(change(&mut config, LINK_CONTROL, 0x10, 0), Effects::LINK);
    assert_eq!(
        change(&mut config, LINK_CONTROL, 0x20, 0x20),
        NOTHING,
        "retraining"
    );
    assert!(view(&config).link_active);
    assert_eq!(handle(&mut config), 0x0100);
    // A secondary bus reset as Linux makes it, without link events meanwhile.
    assert_eq!(change(&mut config, SLOT_CONTROL, 0x1008, 0), NOTHING);
    let reset = change(&mut config, BRIDGE_CONTROL, 0x40, 0x40);
    assert_eq!(reset, Effects::SECONDARY_BUS_RESET | Effects::LINK);
    assert!(!view(&config).link_active);
    assert_eq!(change(&mut config, BRIDGE_CONTROL, 0x40, 0), Effects::LINK);
    assert_eq!(config.write(SLOT_STATUS, &[0x08, 0x01]), NOTHING);
    assert_eq!(change(&mut config, SLOT_CONTROL, 0x1008, 0x1008), NOTHING);
    assert!(view(&config).link_active);
}

#[test]
fn a_reset_keeps_what_is_in_the_slot() {
    for reset in [ConfigSpace::reset, ConfigSpace::power_on_reset] {
        let mut config = with_slot(Slot::hot_plug(2));
        let _ = config.set_presence(true);
        let _ = change(&mut config, SLOT_CONTROL, 0x43b, 0x428);
        let _ = change(&mut config, LINK_CONTROL, 0x10, 0x10);
        reset(&mut config);
        assert!(slot(&config).present && slot(&config).powered && view(&config).link_active);
        assert_eq!(read_u16(&config, SLOT_STATUS), 0x0040);
        let _ = config.set_link_active(false);
        reset(&mut config);
        assert!(!view(&config).link_active, "it is held down");
    }
}

#[test]
fn descriptions_that_are_refused() {
    let refused = |express| {
        let builder = ConfigSpace::bridge_builder(IDENTITY);
        builder.capability(express).build().unwrap_err()
    };
    let root = PciExpress::root_port(0);
    assert_eq!(
        refused(root.slot(Slot::new(8192))),
        ConfigError::SlotNumber(8192)
    );
    let sensor = SlotCapabilities::MRL_SENSOR | SlotCapabilities::HOT_PLUG_CAPABLE;
    let error = refused(root.slot(Slot::new(0).capabilities(sensor)));
    assert_eq!(error, ConfigError::SlotCapabilities(4));
    let upstream = PciExpress::upstream_port(0).slot(Slot::new(1));
    assert_eq!(
        refused(upstream),
        ConfigError::SlotPlace("an upstream port")
    );
    assert_eq!(refused(root.max_payload(100)), ConfigError::MaxPayload(100));
    let error = refused(PciExpress::endpoint());
    assert!(matches!(error, ConfigError::ExpressHeader { .. }));
    for express in [
        root,
        PciExpress::upstream_port(1),
        PciExpress::downstream_port(1),
    ] {
        let builder = ConfigSpace::builder(IDENTITY).capability(express);
        let error = builder.build().unwrap_err();
        assert!(
            matches!(error, ConfigError::ExpressHeader { .. }),
            "{error}"
        );
    }
    let slot = PciExpress::endpoint().slot(Slot::new(1));
    let builder = ConfigSpace::builder(IDENTITY).capability(slot);
    assert_eq!(
        builder.build().unwrap_err(),
        ConfigError::SlotPlace("an endpoint")
    );
}
