//! Any messages into the server's dispatcher, with any number of descriptors: what reaches the
//! backend is inside what the backend described, and every reply is well-formed.

#![no_main]

use std::os::fd::OwnedFd;
use std::sync::Arc;

use hdv_vfio_user::capabilities::Capabilities;
use hdv_vfio_user::limits::{MAX_MESSAGE_FDS, MAX_MESSAGE_SIZE};
use hdv_vfio_user::server::Dispatcher;
use hdv_vfio_user::stream::Descriptors;
use hdv_vfio_user::wire::{HEADER_SIZE, Header, Kind};
use hdv_vfio_user::{
    Backend, DeviceFlags, DeviceInfo, DmaMap, Errno, IoEventFd, Irq, IrqData, IrqFlags, IrqRequest,
    Region, RegionFlags, RegionMapping, SparseArea,
};
use libfuzzer_sys::fuzz_target;
use zerocopy::FromBytes;

const REGIONS: u32 = 4;
const IRQS: u32 = 3;

struct Device {
    file: Arc<OwnedFd>,
}

fn region_size(index: u32) -> u64 {
    [0x1000, 0x8000, 0, u64::MAX][index as usize]
}

impl Device {
    fn check(&self, region: u32, offset: u64, len: usize) {
        assert!(region < REGIONS);
        let end = offset.checked_add(len as u64).expect("no overflow");
        assert!(end <= region_size(region), "inside the region");
    }
}

impl Backend for Device {
    fn device_info(&self) -> DeviceInfo {
        DeviceInfo {
            flags: DeviceFlags::RESET | DeviceFlags::PCI,
            num_regions: REGIONS,
            num_irqs: IRQS,
        }
    }

    fn region(&self, index: u32) -> Region {
        Region {
            size: region_size(index),
            flags: RegionFlags::READ | RegionFlags::WRITE,
        }
    }

    fn region_mapping(&self, index: u32) -> Option<RegionMapping> {
        (index == 1).then(|| RegionMapping {
            file: Arc::clone(&self.file),
            offset: 0x1000,
            areas: vec![SparseArea {
                offset: 0,
                size: 0x1000,
            }],
        })
    }

    fn region_io_event_fds(&self, index: u32) -> Vec<IoEventFd> {
        assert!(index < REGIONS);
        vec![IoEventFd {
            offset: 0,
            size: 4,
            datamatch: None,
            event: Arc::clone(&self.file),
        }]
    }

    fn irq(&self, index: u32) -> Irq {
        Irq {
            flags: IrqFlags::EVENTFD | IrqFlags::MASKABLE,
            count: [1, 32, 0][index as usize],
        }
    }

    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.check(region, offset, data.len());
        data.fill(0x5a);
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.check(region, offset, data.len());
        Ok(())
    }

    fn set_irqs(&mut self, request: IrqRequest<'_>) -> Result<(), Errno> {
        assert!(request.index < IRQS && request.count > 0);
        let end = request
            .start
            .checked_add(request.count)
            .expect("no overflow");
        assert!(end <= self.irq(request.index).count);
        let count = request.count as usize;
        match request.data {
            IrqData::None => {}
            IrqData::Bool(which) => assert_eq!(which.len(), count),
            IrqData::EventFds(fds) => assert!(fds.is_empty() || fds.len() == count),
        }
        Ok(())
    }

    fn disable_irqs(&mut self, index: u32) -> Result<(), Errno> {
        assert!(index < IRQS);
        Ok(())
    }

    fn dma_map(&mut self, map: DmaMap) -> Result<(), Errno> {
        assert!(map.size > 0 && !map.flags.is_empty());
        map.address.checked_add(map.size - 1).expect("no wrap");
        if map.file.is_some() {
            assert!((map.address | map.size | map.offset).is_multiple_of(4096));
            i64::try_from(map.offset + map.size).expect("a file offset");
        }
        Ok(())
    }

    fn dma_unmap(&mut self, address: u64, size: u64) -> Result<(), Errno> {
        assert!(size > 0);
        address.checked_add(size - 1).expect("no wrap");
        Ok(())
    }

    fn reset(&mut self) -> Result<(), Errno> {
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let file = rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    let file = Arc::new(file);
    let mut device = Device { file };
    let mut dispatcher =
        Dispatcher::new(&device, &Capabilities::ours(), Arc::default()).expect("few regions");
    let mut rest = bytes;
    // Each message: how many descriptors, how many bytes of body, header, body.
    while let Some(([fds, size], after)) = rest.split_first_chunk() {
        let Ok((header, after)) = Header::read_from_prefix(after) else {
            return;
        };
        let (body, after) = after.split_at(usize::from(*size).min(after.len()));
        rest = after;
        let header = Header {
            message_size: (HEADER_SIZE + body.len()) as u32,
            ..header
        };
        if header.kind() == Kind::Reply {
            continue;
        }
        let fds = (0..fds % (MAX_MESSAGE_FDS as u8 + 2))
            .map(|_| device.file.try_clone().expect("a descriptor"))
            .collect::<Vec<_>>();
        dispatcher.dispatch(&header, body, Descriptors::from(fds), &mut device);
        let (reply, fds) = dispatcher.reply();
        assert_eq!(
            reply.is_empty(),
            header.no_reply(),
            "a reply if one is wanted"
        );
        assert!(reply.len() <= MAX_MESSAGE_SIZE && fds.len() <= MAX_MESSAGE_FDS);
        if reply.is_empty() {
            assert!(fds.is_empty());
            continue;
        }
        let (answer, _) = Header::read_from_prefix(reply).expect("a header");
        assert_eq!(answer.message_size as usize, reply.len());
        assert_eq!(answer.kind(), Kind::Reply);
        assert_eq!(
            (answer.message_id, answer.command),
            (header.message_id, header.command)
        );
        if answer.reported_error().is_some() {
            assert!(reply.len() == HEADER_SIZE && fds.is_empty());
        }
    }
});
