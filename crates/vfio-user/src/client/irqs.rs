//! Interrupts: DEVICE_GET_IRQ_INFO and DEVICE_SET_IRQS.

use std::os::fd::BorrowedFd;

use zerocopy::IntoBytes;

use super::{Client, ClientError};
use crate::backend::{Irq, IrqAction, IrqFlags};
use crate::vfio::irq_set;
use crate::wire::size_as_u32;
use crate::wire::{self, Command};

fn action_flag(action: IrqAction) -> u32 {
    match action {
        IrqAction::Mask => irq_set::ACTION_MASK,
        IrqAction::Unmask => irq_set::ACTION_UNMASK,
        IrqAction::Trigger => irq_set::ACTION_TRIGGER,
    }
}

impl Client {
    /// DEVICE_GET_IRQ_INFO. Flags that this library does not know are left out.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn irq_info(&mut self, index: u32) -> Result<Irq, ClientError> {
        let request = wire::IrqInfo {
            argsz: size_as_u32::<wire::IrqInfo>(),
            index,
            ..wire::IrqInfo::default()
        };
        self.call(
            Command::DeviceGetIrqInfo,
            &[request.as_bytes()],
            &[],
            |body, _| {
                let (info, _) =
                    wire::parse_prefix::<wire::IrqInfo>(body).ok_or("it is too short")?;
                if info.index != index {
                    return Err("it is about another index");
                }
                Ok(Irq {
                    flags: IrqFlags::from_bits_truncate(info.flags),
                    count: info.count,
                })
            },
        )
    }

    /// Binds eventfds to the sub-indexes from `start` on: what is signalled when the interrupt
    /// triggers. In as many messages as the server's `max_msg_fds` makes necessary.
    ///
    /// # Errors
    /// See [`ClientError`]. The sub-indexes of earlier messages keep their eventfds then.
    pub fn set_irq_event_fds(
        &mut self,
        index: u32,
        start: u32,
        events: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        let chunk = self.server.message_fds();
        let impossible = |problem| ClientError::Impossible {
            command: Command::DeviceSetIrqs,
            problem,
        };
        if chunk == 0 {
            return Err(impossible("the server takes no descriptors"));
        }
        let mut start = start;
        for events in events.chunks(chunk) {
            let count = u32::try_from(events.len()).map_err(|_| impossible("too many eventfds"))?;
            let flags = irq_set::DATA_EVENTFD | irq_set::ACTION_TRIGGER;
            self.set_irqs(index, start, count, flags, &[], events)?;
            start = start.wrapping_add(count);
        }
        Ok(())
    }

    /// Releases the eventfds of `count` sub-indexes from `start` on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn clear_irq_event_fds(
        &mut self,
        index: u32,
        start: u32,
        count: u32,
    ) -> Result<(), ClientError> {
        let flags = irq_set::DATA_EVENTFD | irq_set::ACTION_TRIGGER;
        self.set_irqs(index, start, count, flags, &[], &[])
    }

    /// Masks, unmasks or triggers `count` interrupts from `start` on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn act_on_irqs(
        &mut self,
        index: u32,
        start: u32,
        count: u32,
        action: IrqAction,
    ) -> Result<(), ClientError> {
        let flags = irq_set::DATA_NONE | action_flag(action);
        self.set_irqs(index, start, count, flags, &[], &[])
    }

    /// Masks, unmasks or triggers those interrupts from `start` on whose element of `which` is
    /// true.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn act_on_chosen_irqs(
        &mut self,
        index: u32,
        start: u32,
        which: &[bool],
        action: IrqAction,
    ) -> Result<(), ClientError> {
        let flags = irq_set::DATA_BOOL | action_flag(action);
        let count = u32::try_from(which.len()).map_err(|_| ClientError::Impossible {
            command: Command::DeviceSetIrqs,
            problem: "too many interrupts",
        })?;
        self.set_irqs(index, start, count, flags, which.as_bytes(), &[])
    }

    /// Binds eventfds to masking or unmasking: who is told, or who tells, depends on the device.
    /// At most the server's `max_msg_fds`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn bind_irq_event_fds(
        &mut self,
        index: u32,
        start: u32,
        action: IrqAction,
        events: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        let count = u32::try_from(events.len())
            .ok()
            .filter(|_| events.len() <= self.server.message_fds())
            .ok_or(ClientError::Impossible {
                command: Command::DeviceSetIrqs,
                problem: "more eventfds than the server takes in one message",
            })?;
        let flags = irq_set::DATA_EVENTFD | action_flag(action);
        self.set_irqs(index, start, count, flags, &[], events)
    }

    /// Disables a whole index: every eventfd of it is released.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn disable_irqs(&mut self, index: u32) -> Result<(), ClientError> {
        let flags = irq_set::DATA_NONE | irq_set::ACTION_TRIGGER;
        self.set_irqs(index, 0, 0, flags, &[], &[])
    }

    fn set_irqs(
        &mut self,
        index: u32,
        start: u32,
        count: u32,
        flags: u32,
        data: &[u8],
        events: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        let argsz = u32::try_from(data.len())
            .ok()
            .and_then(|data| data.checked_add(size_as_u32::<wire::IrqSet>()))
            .ok_or(ClientError::Impossible {
                command: Command::DeviceSetIrqs,
                problem: "too many interrupts",
            })?;
        let set = wire::IrqSet {
            argsz,
            flags,
            index,
            start,
            count,
        };
        let parts = [set.as_bytes(), data];
        self.call(Command::DeviceSetIrqs, &parts, events, |_, _| Ok(()))
    }
}
