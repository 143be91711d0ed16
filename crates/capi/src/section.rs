//! Section-backed ranges of BARs.

use hdv::{Section, SectionFlags};

use crate::descriptor;
use crate::device::{bar, device};
use crate::error::Failure;
use crate::guard;
use crate::types::{Handle, HdvDevice, Hresult};

/// Bytes of a page, whatever the machine's pages have.
const PAGE_SIZE: u64 = 4096;

fn pages(count: u64, what: &str) -> Result<u64, Failure> {
    count
        .checked_mul(PAGE_SIZE)
        .ok_or_else(|| Failure::argument(format!("{what}: {count:#x} pages exceed 64 bits")))
}

/// Backs a range of a BAR with a section.
#[unsafe(no_mangle)]
pub extern "C" fn HdvCreateSectionBackedMmioRange(
    requestor: HdvDevice,
    bar_index: i32,
    offset_in_pages: u64,
    length_in_pages: u64,
    mapping_flags: i32,
    section_handle: Handle,
    section_offset_in_pages: u64,
) -> Hresult {
    guard::result(|| {
        let device = device(requestor)?;
        let bits = mapping_flags.cast_unsigned();
        let flags = SectionFlags::from_bits(bits)
            .ok_or_else(|| {
                Failure::argument(format!(
                    "{bits:#x} are no HDV_MMIO_MAPPING_FLAGS: there are 1 (writeable), 2 (executable) and \
                     0x80000000 (never offered)"
                ))
            })?;
        let section = Section {
            bar: bar(bar_index)?,
            offset: pages(offset_in_pages, "OffsetInPages")?,
            length: pages(length_in_pages, "LengthInPages")?,
            file_offset: pages(section_offset_in_pages, "SectionOffsetInPages")?,
            flags,
        };
        descriptor::with(section_handle, "SectionHandle", |file| {
            Ok(device.mmio()?.create_section(section, file)?)
        })
    })
}

/// Takes a section-backed range back.
#[unsafe(no_mangle)]
pub extern "C" fn HdvDestroySectionBackedMmioRange(
    requestor: HdvDevice,
    bar_index: i32,
    offset_in_pages: u64,
) -> Hresult {
    guard::result(|| {
        let device = device(requestor)?;
        let bar = bar(bar_index)?;
        let offset = pages(offset_in_pages, "OffsetInPages")?;
        Ok(device.mmio()?.destroy_section(bar, offset)?)
    })
}
