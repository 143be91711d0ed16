//! The program in C over real PFs. It checks by itself and says so line by line (`pf_sysfs.c`); here its lines become outcomes, and
//! what it says of BARs is compared with what Linux has assigned.

use std::collections::BTreeSet;

use super::TRANSPORT;
use super::linux::Pf;
use super::program::{NOBODY, Ran, run};
use crate::checks::{Failure, Verdict, ensure, guarded, outcome};
use crate::platform::sysfs::BARS;
use crate::report::Line;

/// The program.
const PROGRAM: &str = "pf_sysfs";
/// VFs that it enables.
const COUNT: &str = "2";
/// A function of every machine with PCI that is no PF.
const HOST_BRIDGE: &str = "0000:00:00.0";

/// What it checks of any function.
const ALWAYS: [&str; 2] = ["query", "dereferenced"];
/// What it checks of a PF as root.
const OF_A_PF: [&str; 9] = [
    "probed-bars",
    "refusals-while-disabled",
    "enable",
    "refusals-while-enabled",
    "locations",
    "config-space",
    "disable",
    "once-more",
    "vanished",
];
/// What it checks besides where Linux offers fewer VFs than the capability has.
const OF_A_LIMITED_PF: &str = "refused-by-linux";
const OF_NOBODY: &str = "no-permission";
const OF_NO_PF: &str = "without-sriov";

/// Bits of a memory BAR that say its kind (PCI Local Bus Specification 3.0, 6.2.5.1).
const BAR_KIND: u32 = 0xf;
const BAR_64: u32 = 0x4;

/// Runs the program over a PF, with and without root's rights; in the end the PF is taken away and found again.
pub(super) fn check(pf: &Pf, sink: &mut dyn FnMut(Line)) {
    let mut tell = |name: &str, verdict| {
        let name = format!("{PROGRAM}-{name}");
        sink(Line::Check(outcome(
            &name,
            pf.address(),
            TRANSPORT,
            verdict,
        )));
    };
    let sizes = sizes(pf);
    let limited = guarded(|| Ok((pf.offered_vfs()? < pf.total_vfs()?).to_string()));
    let nobody = run(PROGRAM, &[pf.address()], Some(NOBODY));
    lines(nobody.map_err(Failure::from), &[OF_NOBODY], &mut tell);

    let mut wanted = OF_A_PF.to_vec();
    if limited.as_deref() == Ok("true") {
        wanted.push(OF_A_LIMITED_PF);
    }
    let ran = run(PROGRAM, &[pf.address(), COUNT, "vanish"], None).map_err(Failure::from);
    tell("bar-sizes", bars(&ran, sizes));
    lines(ran, &wanted, &mut tell);
}

/// Runs the program over a function that is no PF.
pub(super) fn check_without(sink: &mut dyn FnMut(Line)) {
    let ran = run(PROGRAM, &[HOST_BRIDGE], None).map_err(Failure::from);
    lines(ran, &[OF_NO_PF], &mut |name, verdict| {
        let name = format!("{PROGRAM}-{name}");
        sink(Line::Check(outcome(&name, HOST_BRIDGE, TRANSPORT, verdict)));
    });
}

/// Makes outcomes of the program's lines: of all there are, and of those that are missing.
fn lines(ran: Result<Ran, Failure>, wanted: &[&'static str], tell: &mut dyn FnMut(&str, Verdict)) {
    let ran = match ran {
        Ok(ran) => ran,
        Err(failure) => return tell("run", Err(failure)),
    };
    let mut missing: BTreeSet<&str> = wanted.iter().chain(&ALWAYS).copied().collect();
    // What it says before a check belongs to that check.
    let mut said = Vec::new();
    for line in ran.stdout.lines() {
        if let Some(name) = line.strip_prefix("ok ") {
            missing.remove(name);
            tell(name, Ok(said.join("; ")));
            said.clear();
        } else if let Some(failed) = line.strip_prefix("FAILED ") {
            let (name, why) = failed.split_once(": ").unwrap_or((failed, ""));
            missing.remove(name);
            tell(name, Err(Failure::new(why)));
            said.clear();
        } else {
            said.push(line);
        }
    }
    if !missing.is_empty() || ran.code != Some(0) {
        let what = format!("not checked: {missing:?}; {}", ran.describe());
        tell("run", Err(Failure::new(what)));
    }
}

/// The sizes that Linux gives the BARs of a VF.
fn sizes(pf: &Pf) -> Result<[u64; BARS], Failure> {
    pf.set_num_vfs(1)?;
    let bars = pf.vf_bars(0);
    pf.set_num_vfs(0)?;
    Ok(bars?.map(|bar| bar.map_or(0, |bar| bar.size)))
}

/// The probed BARs that the program had say those sizes.
fn bars(ran: &Result<Ran, Failure>, sizes: Result<[u64; BARS], Failure>) -> Verdict {
    let ran = ran.as_ref().map_err(Clone::clone)?;
    let expected = sizes?;
    let values: Vec<u32> = ran
        .stdout
        .lines()
        .filter_map(|line| {
            let (_, value) = line.strip_prefix("bar ")?.split_once(" 0x")?;
            u32::from_str_radix(value, 16).ok()
        })
        .collect();
    let told = <[u32; BARS]>::try_from(values)
        .map(sizes_of)
        .map_err(|values| Failure::new(format!("it told {} BARs", values.len())))?;
    ensure(told == expected && told != [0; BARS], || {
        format!("probed BARs say {told:x?} bytes, Linux assigned {expected:x?}")
    })?;
    Ok(format!("{told:x?} bytes, as Linux assigned"))
}

/// What values read after all ones were written say of the sizes of memory BARs.
fn sizes_of(probed: [u32; BARS]) -> [u64; BARS] {
    let mut sizes = [0; BARS];
    let mut bar = 0;
    while let Some(&low) = probed.get(bar) {
        let wide = low & BAR_64 != 0;
        let high = match probed.get(bar + 1) {
            Some(&high) if wide => high,
            _ => u32::MAX,
        };
        let mask = u64::from(high) << 32 | u64::from(low & !BAR_KIND);
        if low != 0 {
            sizes[bar] = (!mask).wrapping_add(1);
        }
        bar += if wide { 2 } else { 1 };
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probed_values_say_sizes() {
        let probed = [
            0xffff_c00c,
            0xffff_ffff,
            0,
            0xffff_f000,
            0x0000_0004,
            0xffff_ffff,
        ];
        assert_eq!(sizes_of(probed), [0x4000, 0, 0, 0x1000, 0x1_0000_0000, 0]);
    }

    #[test]
    fn lines_become_outcomes_and_missing_ones_are_told() {
        let ran = Ran {
            command: "x".to_owned(),
            code: Some(1),
            stdout: "ok query\nrefused: it may not\nFAILED enable: a: b\n".to_owned(),
            stderr: String::new(),
        };
        let mut told = Vec::new();
        lines(Ok(ran), &["enable"], &mut |name, verdict| {
            told.push((
                name.to_owned(),
                verdict.map_err(|failure| failure.to_string()),
            ));
        });
        assert_eq!(told[0], ("query".to_owned(), Ok(String::new())));
        assert_eq!(told[1], ("enable".to_owned(), Err("a: b".to_owned())));
        assert_eq!(told[2].0, "run");
        assert!(
            told[2]
                .1
                .as_ref()
                .is_err_and(|why| why.contains("dereferenced"))
        );
        assert_eq!(told.len(), 3);
    }
}
