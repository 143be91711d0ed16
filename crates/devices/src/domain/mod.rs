//! A PCIe hierarchy described in a few lines of TOML: ports, switches, devices of the catalog and PFs, and how many of each.
//!
//! ```
//! use hdv_devices::domain::DomainDocument;
//!
//! let text = r#"
//!     [[port]]
//!     name = "nic"
//!     device = "sriov-sensor"
//!     set = { vfs = 64, source = "sine" }
//!
//!     [[port]]
//!     name = "rack"
//!     switch = { count = 8, slot = true, device = "sensor" }
//! "#;
//! let built = DomainDocument::parse(text)?.build()?;
//! assert_eq!(built.pfs[0].0, "nic:0");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The whole domain has `name`, and the sizes `buses`, `memory`, `prefetchable` and `vectors`, which are worked out where they
//! are not given. A port, a root port by `[[port]]` or a downstream one of a `switch`, has
//!
//! | key | what it is |
//! | --- | --- |
//! | `name` | what it is called; without one, what is above it is called, with a number |
//! | `device`, `set` | the device below it, with its settings: function 0, called after the port (`nic:0`) |
//! | `function` | functions of a device with several: tables with `device`, `set`, `name`, and `number` (0 to 7) |
//! | `switch` | a switch below it: a table for its downstream ports, or a list of such tables |
//! | `slot` | `true` or a number, 0 to 8191: devices come and go while the guest runs |
//! | `button` | `false` for a slot without an attention button |
//! | `count` | so many ports alike: their names get `-1`, `-2`, ... |
//! | `depth` | so many switches of one port each between it and what is below it |
//!
//! `file` is the text, `plan` what it means, one by one, `needs` how much room that takes, `kind` a device of it.

mod build;
mod error;
mod file;
mod kind;
mod needs;
mod plan;

use hdv::domain::DomainOptions;

pub use build::Built;
pub use error::{AttachError, DocumentError, Problem};
pub use kind::{attach, setting_text};

use file::{File, Size};
use needs::Window;
use plan::{At, Port};

/// Fewest buses unless a description says otherwise: devices can come later.
const BUSES: u32 = 32;
/// Fewest and most vectors unless a description says otherwise: each takes one of those of a processor of the guest.
const VECTORS: (u32, u32) = (16, 64);
/// Most vectors.
const VECTORS_MAX: u16 = 256;
/// Windows unless a description says otherwise or has more: those of [`DomainOptions::new`].
const MEMORY: u64 = 64 << 20;
const PREFETCHABLE: u64 = 1 << 30;
/// The smallest windows, and the largest.
const WINDOW_MIN: u64 = 1 << 20;
const MEMORY_MAX: u64 = 1 << 30;
const PREFETCHABLE_MAX: u64 = 1 << 40;

/// How many buses can be one below the other, without the root bus, for a Linux guest: it was seen to enumerate so many. It does so by
/// recursion, and with 57 its kernel stack of 16 KiB is full, which is the end of it.
pub const LINUX_LEVELS: u32 = 49;

/// The description of a domain, checked.
#[derive(Clone, Debug)]
pub struct DomainDocument {
    name: Option<String>,
    options: DomainOptions,
    ports: Vec<Port>,
}

impl DomainDocument {
    /// Reads a description. All of it is checked: each device is made once, and let go of.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        let file: File = toml::from_str(text).map_err(Box::new)?;
        let line = |offset| {
            1 + text
                .bytes()
                .take(offset)
                .filter(|byte| *byte == b'\n')
                .count()
        };
        let tables = file.ports.iter().map(|table| At {
            line: line(table.span().start),
            table: table.get_ref(),
        });
        let ports = plan::ports(&tables.collect::<Vec<_>>())?;
        if let Some(name) = &file.name
            && !hdv::domain::is_name(name)
        {
            return Err(DocumentError::Whole(Problem::Name(name.clone())));
        }
        let options = options(&file, &ports).map_err(DocumentError::Whole)?;
        Ok(Self {
            name: file.name,
            options,
            ports,
        })
    }

    /// What it is called, if it says so.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// How many buses are one below the other, without the root bus: 1 to 255. More than [`LINUX_LEVELS`] are too many for
    /// Linux.
    #[must_use]
    pub fn levels(&self) -> u32 {
        needs::levels(&self.ports)
    }

    /// Its sizes: those that it gives, the others as they are needed.
    pub fn options(&self) -> DomainOptions {
        self.options
    }
}

fn options(file: &File, ports: &[Port]) -> Result<DomainOptions, Problem> {
    let (least, good) = needs::buses(ports)?;
    if let Some(given) = file.buses {
        let all = (1, u64::from(file::BUSES_MAX));
        check("buses", given.into(), all, least.into())?;
    }
    if let Some(given) = file.vectors
        && !(2..=VECTORS_MAX).contains(&given)
    {
        return Err(Problem::Vectors(given));
    }
    let buses = match file.buses {
        Some(given) if u32::from(given) < least => {
            return Err(Problem::Buses {
                needed: least,
                given: given.into(),
            });
        }
        Some(given) => given,
        None => narrow(good.max(BUSES).next_power_of_two()),
    };
    let window = |window: Window, given: Option<Size>, usual: u64, most: u64| {
        let (least, good) = window.bytes(ports);
        let given = given.map(|size| size.0);
        let limit = given.unwrap_or(most);
        let needed = u64::try_from(least).unwrap_or(u64::MAX);
        if let Some(given) = given {
            check(window.name(), given, (WINDOW_MIN, most), needed)?;
        }
        if least > u128::from(limit) {
            let enough = needed.checked_next_power_of_two();
            return Err(Problem::Memory {
                window: window.name(),
                needed,
                given: limit,
                enough: enough.filter(|enough| *enough <= most),
            });
        }
        let worked_out = || {
            let bytes = u64::try_from(good).unwrap_or(most).max(usual);
            bytes.checked_next_power_of_two().unwrap_or(most).min(most)
        };
        Ok(given.unwrap_or_else(worked_out))
    };
    let memory = window(Window::Memory, file.memory, MEMORY, MEMORY_MAX)?;
    let prefetchable = window(
        Window::Prefetchable,
        file.prefetchable,
        PREFETCHABLE,
        PREFETCHABLE_MAX,
    )?;
    let (fewest, most) = VECTORS;
    let vectors = || narrow(needs::vectors(ports).clamp(fewest, most));
    let options = DomainOptions::new()
        .buses(buses)
        .memory(memory)
        .prefetchable(prefetchable)
        .vectors(file.vectors.unwrap_or_else(vectors));
    // An empty one is refused for its sizes as any is.
    hdv::domain::Domain::new(options)?;
    Ok(options)
}

/// Checks a size that a description gives: a power of two in a range. What is suggested is the next one that is at least `needed`.
fn check(
    key: &'static str,
    value: u64,
    (low, high): (u64, u64),
    needed: u64,
) -> Result<(), Problem> {
    if value.is_power_of_two() && (low..=high).contains(&value) {
        return Ok(());
    }
    let suggested = value.max(needed).clamp(low, high).next_power_of_two();
    Err(Problem::Size {
        key,
        value,
        low,
        high,
        suggested,
    })
}

/// Of what is at most 256.
fn narrow(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
