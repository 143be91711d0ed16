//! `hdv sriov`: PFs of running device hosts and of this machine. Which one is meant is in `find`, what can be
//! done with each kind in `emulated` and `linux`, how it looks in `view` and `render`, what is said when it cannot
//! be done in `refusal`.

mod emulated;
mod find;
mod linux;
mod refusal;
mod render;
mod view;

use std::path::Path;

use hdv_sriov::PciAddress;

use crate::Failure;
use crate::args::{ConfigArgs, EnableArgs, OutputArgs, PfArgs, SriovCommand};
use crate::decode::ConfigSpace;
use crate::hexdump::hexdump;
use crate::progress;
use crate::style::{self, Paint};
use emulated::EmulatedPf;
use find::{Everything, Named};
use linux::LinuxPf;
use refusal::Refusal;
use view::PfDetails;

/// Where Linux shows its devices.
const SYSFS: &str = "/sys";

/// A PF.
#[derive(Clone, Debug)]
pub(crate) enum Pf {
    /// Of a device host.
    Emulated(EmulatedPf),
    /// Of this machine.
    Linux(LinuxPf),
}

impl Pf {
    fn address(&self) -> PciAddress {
        match self {
            Self::Emulated(pf) => pf.address,
            Self::Linux(pf) => pf.address(),
        }
    }

    /// What it is called, if it is inside a domain.
    fn label(&self) -> Option<&str> {
        match self {
            Self::Emulated(pf) => pf.status.label.as_deref(),
            Self::Linux(_) => None,
        }
    }
}

impl Named {
    /// Enables VFs; how the PF is then.
    fn enable(&self, num_vfs: u16) -> Result<Self, Refusal> {
        Ok(self.with(match &self.pf {
            Pf::Emulated(pf) => Pf::Emulated(pf.enable(&self.name, num_vfs)?),
            Pf::Linux(pf) => Pf::Linux(pf.enable(&self.name, num_vfs)?),
        }))
    }

    /// Disables them; how the PF is then.
    fn disable(&self) -> Result<Self, Refusal> {
        Ok(self.with(match &self.pf {
            Pf::Emulated(pf) => Pf::Emulated(pf.disable(&self.name)?),
            Pf::Linux(pf) => Pf::Linux(pf.disable(&self.name)?),
        }))
    }

    fn with(&self, pf: Pf) -> Self {
        let name = self.name.clone();
        Self { name, pf }
    }

    /// Where the PF, or one of its VFs, is, and its own config space.
    fn config(&self, vf: Option<u16>) -> Result<(String, Vec<u8>), Refusal> {
        match (&self.pf, vf) {
            (Pf::Emulated(pf), None) => Ok((pf.status.address.clone(), pf.config(&self.name)?)),
            (Pf::Emulated(pf), Some(vf)) => pf.vf_config(&self.name, vf),
            (Pf::Linux(pf), None) => Ok((pf.address().to_string(), pf.config(&self.name)?)),
            (Pf::Linux(pf), Some(vf)) => {
                let (address, bytes) = pf.vf_config(&self.name, vf)?;
                Ok((address.to_string(), bytes))
            }
        }
    }
}

pub(crate) fn run(command: &SriovCommand) -> Result<(), Failure> {
    let sysfs = Path::new(SYSFS);
    match command {
        SriovCommand::List(output) => list(sysfs, *output),
        SriovCommand::Show(args) => show(sysfs, args),
        SriovCommand::Enable(args) => enable(sysfs, args),
        SriovCommand::Disable(args) => disable(sysfs, args),
        SriovCommand::Config(args) => config(sysfs, args),
    }
}

fn list(sysfs: &Path, output: OutputArgs) -> Result<(), Failure> {
    let everything = Everything::find(sysfs)?;
    let pfs: Vec<_> = everything.pfs.iter().map(view::summary).collect();
    let text = if output.json {
        json(&serde_json::json!({ "pfs": pfs, "errors": everything.errors }))?
    } else {
        render::list(&pfs, &everything.errors, Paint::stdout())
    };
    Ok(style::print(&text)?)
}

fn show(sysfs: &Path, args: &PfArgs) -> Result<(), Failure> {
    let details = PfDetails::of(&find::one(sysfs, &args.pf)?);
    let text = if args.output.json {
        json(&details)?
    } else {
        render::details(&details, Paint::stdout())
    };
    Ok(style::print(&text)?)
}

fn enable(sysfs: &Path, args: &EnableArgs) -> Result<(), Failure> {
    let pf = find::one(sysfs, &args.pf)?;
    let message = format!("Enabling {} of {}", render::vfs(args.num_vfs), pf.name);
    let after = progress::during(&message, || pf.enable(args.num_vfs)).map_err(|refusal| {
        if args.num_vfs == 0 {
            refusal.remedy(refusal::disabling(&pf.name))
        } else {
            refusal
        }
    })?;
    let details = PfDetails::of(&after);
    let text = if args.output.json {
        json(&details)?
    } else {
        render::enabled(&details, Paint::stdout())
    };
    Ok(style::print(&text)?)
}

fn disable(sysfs: &Path, args: &PfArgs) -> Result<(), Failure> {
    let pf = find::one(sysfs, &args.pf)?;
    let message = format!("Disabling the VFs of {}", pf.name);
    let before = PfDetails::of(&pf);
    let after = progress::during(&message, || pf.disable())?;
    let text = if args.output.json {
        json(&PfDetails::of(&after))?
    } else {
        render::disabled(&before)
    };
    Ok(style::print(&text)?)
}

fn config(sysfs: &Path, args: &ConfigArgs) -> Result<(), Failure> {
    let pf = find::one(sysfs, &args.pf)?;
    let (address, bytes) = pf.config(args.vf)?;
    let text = if args.output.json {
        let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        json(&serde_json::json!({
            "pf": pf.name,
            "vf": args.vf,
            "address": address,
            "bytes": hexadecimal,
            "config": ConfigSpace::decode(&bytes),
        }))?
    } else {
        hexdump(&address, &bytes)
    };
    Ok(style::print(&text)?)
}

fn json(document: &impl serde::Serialize) -> Result<String, Failure> {
    Ok(format!("{}\n", serde_json::to_string_pretty(document)?))
}
