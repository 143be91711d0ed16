//! Interrupts: DEVICE_GET_IRQ_INFO and DEVICE_SET_IRQS.

use rustix::io::Errno;

use super::dispatch::{Dispatcher, Request};
use crate::backend::{Backend, Irq, IrqAction, IrqData, IrqFlags, IrqRequest};
use crate::vfio::irq_set;
use crate::wire::{self, size_as_u32};

impl Dispatcher {
    pub(super) fn device_get_irq_info(&mut self, body: &[u8]) -> Result<(), Errno> {
        let (request, _) = wire::parse_prefix::<wire::IrqInfo>(body).ok_or(Errno::INVAL)?;
        if request.argsz < size_as_u32::<wire::IrqInfo>() {
            return Err(Errno::INVAL);
        }
        let irq = self.irq(request.index)?;
        self.reply.set_body(&wire::IrqInfo {
            argsz: size_as_u32::<wire::IrqInfo>(),
            flags: irq.flags.bits(),
            index: request.index,
            count: irq.count,
        });
        Ok(())
    }

    pub(super) fn device_set_irqs(
        &mut self,
        request: Request<'_>,
        backend: &mut dyn Backend,
    ) -> Result<(), Errno> {
        let (set, data) = wire::parse_prefix::<wire::IrqSet>(request.body).ok_or(Errno::INVAL)?;
        let irq = self.irq(set.index)?;
        if set.argsz < size_as_u32::<wire::IrqSet>()
            || set.flags & !(irq_set::DATA_MASK | irq_set::ACTION_ALL) != 0
        {
            return Err(Errno::INVAL);
        }
        let action = match set.flags & irq_set::ACTION_ALL {
            irq_set::ACTION_MASK => IrqAction::Mask,
            irq_set::ACTION_UNMASK => IrqAction::Unmask,
            irq_set::ACTION_TRIGGER => IrqAction::Trigger,
            _ => return Err(Errno::INVAL),
        };
        let kind = set.flags & irq_set::DATA_MASK;
        if set.count == 0 {
            let disables = kind == irq_set::DATA_NONE
                && action == IrqAction::Trigger
                && set.start == 0
                && data.is_empty()
                && request.fds.is_empty();
            return if disables {
                backend.disable_irqs(set.index)
            } else {
                Err(Errno::INVAL)
            };
        }
        let end = set.start.checked_add(set.count).ok_or(Errno::INVAL)?;
        let maskable = irq.flags.contains(IrqFlags::MASKABLE);
        if end > irq.count || (action != IrqAction::Trigger && !maskable) {
            return Err(Errno::INVAL);
        }
        let count = usize::try_from(set.count).map_err(|_| Errno::INVAL)?;
        let without_fds = request.fds.is_empty();
        let data = match kind {
            irq_set::DATA_NONE if data.is_empty() && without_fds => IrqData::None,
            irq_set::DATA_BOOL if data.len() == count && without_fds => IrqData::Bool(data),
            irq_set::DATA_EVENTFD
                if data.is_empty()
                    && (without_fds || request.fds.len() == count)
                    && irq.flags.contains(IrqFlags::EVENTFD) =>
            {
                IrqData::EventFds(request.fds.into_vec())
            }
            _ => return Err(Errno::INVAL),
        };
        backend.set_irqs(IrqRequest {
            index: set.index,
            start: set.start,
            count: set.count,
            action,
            data,
        })
    }

    fn irq(&self, index: u32) -> Result<Irq, Errno> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.irqs.get(index))
            .copied()
            .ok_or(Errno::INVAL)
    }
}
