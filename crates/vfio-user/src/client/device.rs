//! DEVICE_GET_INFO, DEVICE_RESET, and how a request is made.

use std::os::fd::BorrowedFd;

use zerocopy::IntoBytes;

use super::{Client, ClientError};
use crate::backend::{DeviceFlags, DeviceInfo};
use crate::stream::Descriptors;
use crate::wire::size_as_u32;
use crate::wire::{self, Command, MessageFlags};

impl Client {
    /// Makes a request and passes the reply's body and descriptors to `accept`.
    pub(super) fn call<T>(
        &mut self,
        command: Command,
        parts: &[&[u8]],
        fds: &[BorrowedFd<'_>],
        accept: impl FnOnce(&[u8], Descriptors) -> Result<T, &'static str>,
    ) -> Result<T, ClientError> {
        self.connection.send_command(command, parts, fds, 0)?;
        let fds = self.connection.wait_reply(command, &self.handler)?;
        let result = accept(self.connection.reply_body(), fds);
        self.connection.consume_reply();
        result.map_err(|problem| ClientError::Protocol { command, problem })
    }

    /// Sends a command that gets no reply.
    pub(super) fn post(&mut self, command: Command, parts: &[&[u8]]) -> Result<(), ClientError> {
        let flags = MessageFlags::NO_REPLY.bits();
        self.connection.send_command(command, parts, &[], flags)
    }

    /// DEVICE_GET_INFO: what the device is. Flags that this library does not know are left out.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn device_info(&mut self) -> Result<DeviceInfo, ClientError> {
        let request = wire::DeviceInfo {
            argsz: size_as_u32::<wire::DeviceInfo>(),
            ..wire::DeviceInfo::default()
        };
        self.call(
            Command::DeviceGetInfo,
            &[request.as_bytes()],
            &[],
            |body, _| {
                let (info, _) =
                    wire::parse_prefix::<wire::DeviceInfo>(body).ok_or("it is too short")?;
                Ok(DeviceInfo {
                    flags: DeviceFlags::from_bits_truncate(info.flags),
                    num_regions: info.num_regions,
                    num_irqs: info.num_irqs,
                })
            },
        )
    }

    /// DEVICE_RESET.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn reset(&mut self) -> Result<(), ClientError> {
        self.call(Command::DeviceReset, &[], &[], |_, _| Ok(()))
    }
}
