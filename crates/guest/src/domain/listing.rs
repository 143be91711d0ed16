//! The domain as lspci shows it: every port and function at its place, with its resources, its capabilities decoded.

use std::collections::BTreeSet;

use super::vfs::pf;
use super::{ANSWER_LIMIT, INSIDE};
use crate::ask::ask;
use crate::checks::{Verdict, ensure};
use crate::family::Context;
use crate::report::Line;
use crate::sriov::program::run;

const LSPCI: &str = "lspci";
/// What lspci prints of resources that are not assigned, and where it cannot make sense of something.
const COMPLAINTS: [&str; 8] = [
    "[virtual]",
    "unassigned",
    "<ignored>",
    "nknown",
    "runcated",
    "access denied",
    "<chain looped>",
    "<chain broken>",
];
/// VFs in the picture.
const VFS: u16 = 4;

/// What lspci must show of each kind of function, by its ids.
const EXPECTED: [(&str, &[&str]); 5] = [
    (
        "[4f48:0d10]",
        &[
            "Express (v2) Root Port (Slot",
            "LnkCap:",
            "LnkSta:",
            "RootCap:",
            "MSI: Enable+",
            "Memory behind bridge: ",
            "Advanced Error Reporting",
            "RootCmd: CERptEn+ NFERptEn+ FERptEn+",
            "Access Control Services",
            "Kernel driver in use: pcieport",
        ],
    ),
    (
        "[4f48:0d11]",
        &[
            "Express (v2) Upstream Port",
            "LnkCap:",
            "Advanced Error Reporting",
            "Kernel driver in use: pcieport",
        ],
    ),
    (
        "[4f48:0d12]",
        &[
            "Express (v2) Downstream Port (Slot",
            "LnkCap:",
            "ARIFwd",
            "Advanced Error Reporting",
            "Access Control Services",
        ],
    ),
    (
        "[4f48:0001]",
        &[
            "Express (v2) Endpoint",
            "Region 0: Memory at ",
            "[size=4K]",
            "MSI-X: ",
            "Count=3",
            "FLReset+",
            "Advanced Error Reporting",
        ],
    ),
    (
        "[4f48:0002]",
        &[
            "Express (v2) Endpoint",
            "Region 0: Memory at ",
            "Alternative Routing-ID Interpretation (ARI)",
            "Single Root I/O Virtualization (SR-IOV)",
            "Total VFs: 64",
            "Number of VFs: 0",
            "VF offset: ",
            "Device ID: 0003",
            "Advanced Error Reporting",
        ],
    ),
];
/// What it shows of a port with a slot that devices can be plugged into.
const SLOT: (&str, &[&str]) = ("(Slot+)", &["SltCap:", "HotPlug+ Surprise+", "SltSta:"]);
/// What it shows of a VF, whose BARs are in its PF's capability only.
const VF: (&str, &[&str]) = (
    "[4f48:0003]",
    &[
        "Express (v2) Endpoint",
        "Region 0: Memory at ",
        "MSI-X: ",
        "FLReset+",
    ],
);

/// Every port and function is where its owner says it is.
pub(super) fn tree(context: &mut Context<'_>) -> Verdict {
    let shown = run(LSPCI, &["-D", "-P"], None)?.done()?.stdout;
    let root = format!("{INSIDE}00:");
    let paths: BTreeSet<&str> = shown
        .lines()
        .filter_map(|line| line.strip_prefix(&root)?.split_whitespace().next())
        .collect();
    let told = ask("places", ANSWER_LIMIT)?;
    let expected: BTreeSet<&str> = told.split_whitespace().collect();
    ensure(paths == expected, || {
        format!("lspci has {paths:?}, the owner {expected:?}")
    })?;
    let pf = pf()?;
    pf.set_num_vfs(VFS)?;
    let drawn = run(LSPCI, &["-tv"], None);
    pf.set_num_vfs(0)?;
    let drawn = drawn?.done()?.stdout;
    (context.sink)(Line::Text {
        title: format!("lspci -tv, {VFS} VFs enabled"),
        text: drawn.clone(),
    });
    let vfs = drawn.matches("Device 0003").count();
    let vfs = vfs.max(drawn.matches("4f48:0003").count());
    ensure(vfs == usize::from(VFS), || format!("it draws {vfs} VFs"))?;
    Ok(format!("{} ports and functions, and VFs", paths.len()))
}

/// Each has its resources and its capabilities.
pub(super) fn decoded(context: &mut Context<'_>) -> Verdict {
    let all = run(LSPCI, &["-D", "-nn", "-vvv"], None)?.done()?.stdout;
    let blocks: Vec<&str> = blocks(&all).collect();
    for (kind, expected) in EXPECTED {
        let of_kind = blocks.iter().filter(|block| block.contains(kind));
        let mut count = 0;
        for block in of_kind {
            shows(block, expected)?;
            if block.contains(SLOT.0) {
                shows(block, SLOT.1)?;
            }
            for complaint in COMPLAINTS {
                let line = block.lines().find(|line| line.contains(complaint));
                ensure(line.is_none(), || {
                    format!("{}: {}", name(block), line.unwrap_or_default())
                })?;
            }
            count += 1;
        }
        ensure(count > 0, || format!("lspci shows no {kind}"))?;
    }
    let pf = pf()?;
    pf.set_num_vfs(1)?;
    let with_vf = run(LSPCI, &["-D", "-nn", "-vvv"], None);
    pf.set_num_vfs(0)?;
    let with_vf = with_vf?.done()?.stdout;
    let vf = self::blocks(&with_vf).find(|block| block.contains(VF.0));
    shows(vf.unwrap_or("no VF"), VF.1)?;
    (context.sink)(Line::Text {
        title: "lspci -vvv of the PF".to_owned(),
        text: blocks
            .iter()
            .filter(|block| block.contains("SR-IOV"))
            .copied()
            .collect(),
    });
    Ok(format!("{} ports and functions, and a VF", blocks.len()))
}

/// What lspci tells of each function inside.
fn blocks(all: &str) -> impl Iterator<Item = &str> {
    let inside = |block: &&str| block.trim_start().starts_with(INSIDE);
    all.split("\n\n").filter(inside)
}

fn name(block: &str) -> &str {
    block.trim_start().lines().next().unwrap_or_default()
}

fn shows(block: &str, expected: &[&str]) -> Result<(), crate::checks::Failure> {
    for wanted in expected {
        ensure(block.contains(wanted), || {
            format!("{}: lspci does not show {wanted:?}:\n{block}", name(block))
        })?;
    }
    Ok(())
}
