//! `hdv sriov` over a real PF: what it does and tells is what Linux has.

use serde_json::Value;

use super::linux::Pf;
use super::program::{NOBODY, Ran, run};
use crate::checks::{Failure, Verdict, ensure};
use crate::init::system;

/// VFs that are enabled.
const COUNT: u16 = 2;

/// Where a VF's own config space has no bits of its own (PCI Express Base Specification 6.0, 9.3.4.1): ids, all ones, and
/// BARs, all zeros.
const IDS: std::ops::Range<usize> = 0..4;
const BARS: std::ops::Range<usize> = 0x10..0x28;
/// The command register, of whose low bits I/O and memory enable read 0.
const COMMAND: usize = 4;
const COMMAND_SPACES: u8 = 3;
/// Bytes of config space.
const CONFIG: usize = 4096;

/// A check of a PF.
pub(super) type Check = fn(&Pf) -> Verdict;

/// The checks, in their order: each leaves VFs as the next expects them.
pub(super) const CHECKS: [(&str, Check); 11] = [
    ("hdv-sriov-list", list),
    ("hdv-sriov-show", show),
    ("hdv-sriov-enable", enable),
    ("hdv-sriov-config", config),
    ("hdv-sriov-refuses-again", refuses_again),
    ("hdv-sriov-refuses-too-many", refuses_too_many),
    ("hdv-sriov-disable", disable),
    ("hdv-sriov-refuses-disabled", refuses_disabled),
    ("hdv-sriov-refused-by-driver", refused_by_driver),
    ("hdv-sriov-refused-to-nobody", refused_to_nobody),
    ("hdv-sriov-refused-without-driver", refused_without_driver),
];

fn hdv(what: &str, pf: &Pf, arguments: &[&str]) -> Result<Ran, Failure> {
    hdv_as(None, what, pf, arguments)
}

fn hdv_as(user: Option<u32>, what: &str, pf: &Pf, arguments: &[&str]) -> Result<Ran, Failure> {
    let mut words = vec!["sriov", what, "--json", pf.address()];
    words.extend(arguments);
    Ok(run("hdv", &words, user)?)
}

fn expect(document: &Value, member: &str, expected: impl Into<Value>) -> Result<(), Failure> {
    let expected = expected.into();
    let value = &document[member];
    ensure(*value == expected, || {
        format!("{member} is {value}, expected {expected}, in {document}")
    })
}

/// What is told of every PF agrees with Linux.
fn summary(document: &Value, pf: &Pf) -> Result<(), Failure> {
    let count = pf.num_vfs()?;
    expect(document, "kind", "linux")?;
    expect(document, "address", pf.address())?;
    expect(document, "driver", pf.driver())?;
    expect(document, "total_vfs", pf.total_vfs()?)?;
    expect(document, "offered_vfs", pf.offered_vfs()?)?;
    expect(document, "vf_enable", count != 0)?;
    expect(document, "captured_buses", pf.captured_buses()?)
}

fn list(pf: &Pf) -> Verdict {
    let document = run("hdv", &["sriov", "list", "--json"], None)?.json()?;
    let pfs = document["pfs"].as_array().map_or(&[][..], Vec::as_slice);
    let expected = super::linux::pfs()?.len();
    let errors = &document["errors"];
    ensure(
        pfs.len() == expected && errors.as_array().is_some_and(Vec::is_empty),
        || format!("{expected} PFs expected: {document}"),
    )?;
    let listed = pfs
        .iter()
        .find(|listed| listed["address"] == pf.address())
        .ok_or_else(|| Failure::new(format!("{} is not in {document}", pf.address())))?;
    summary(listed, pf)?;
    Ok(format!("one of {expected}, driver {}", listed["driver"]))
}

fn show(pf: &Pf) -> Verdict {
    let document = hdv("show", pf, &[])?.json()?;
    summary(&document, pf)?;
    expect(&document, "vfs", Vec::<Value>::new())?;
    expect(&document, "registers_error", Value::Null)?;
    Ok(format!(
        "TotalVFs {}, {} offered, none enabled, {} buses captured",
        document["total_vfs"], document["offered_vfs"], document["captured_buses"]
    ))
}

fn enable(pf: &Pf) -> Verdict {
    let document = hdv("enable", pf, &[&COUNT.to_string()])?.json()?;
    let (count, links) = (pf.num_vfs()?, pf.vf_links()?);
    ensure(count == COUNT && links == usize::from(COUNT), || {
        format!("Linux says {count} VFs and has {links} links")
    })?;
    summary(&document, pf)?;
    expect(&document, "num_vfs", COUNT)?;
    let vfs = document["vfs"].as_array().map_or(&[][..], Vec::as_slice);
    ensure(vfs.len() == usize::from(COUNT), || {
        format!("{COUNT} VFs expected: {document}")
    })?;
    let mut places = Vec::new();
    let mut sizes = Vec::new();
    for (vf, told) in (0..).zip(vfs) {
        let place = pf.vf(vf);
        expect(told, "vf", vf)?;
        expect(told, "address", place.clone())?;
        places.extend(place);
        let bars = pf.vf_bars(vf)?;
        let addresses: Vec<_> = (0..)
            .zip(bars)
            .filter_map(|(index, bar)| Some((index, bar?.address)))
            .collect();
        let told_addresses = pairs(&told["bars"], "address")?;
        ensure(told_addresses == addresses, || {
            format!("VF {vf}: BARs at {told_addresses:x?}, Linux says {addresses:x?}")
        })?;
        sizes = (0..)
            .zip(bars)
            .filter_map(|(index, bar)| Some((index, bar?.size)))
            .collect();
        let told_sizes = pairs(&document["vf_bars"], "size")?;
        ensure(told_sizes == sizes && !sizes.is_empty(), || {
            format!("VF {vf}: BARs have {told_sizes:x?} bytes, Linux assigned {sizes:x?}")
        })?;
    }
    Ok(format!(
        "{COUNT} VFs at {}, BARs (index, bytes) {sizes:x?}, as Linux has them",
        places.join(" ")
    ))
}

/// `index` and a number of each member of an array; numbers are numbers or texts in hexadecimal.
fn pairs(array: &Value, member: &str) -> Result<Vec<(u64, u64)>, Failure> {
    let elements = array.as_array().map_or(&[][..], Vec::as_slice);
    elements
        .iter()
        .map(|element| {
            let number = match &element[member] {
                Value::String(text) => text
                    .strip_prefix("0x")
                    .and_then(|digits| u64::from_str_radix(digits, 16).ok()),
                number => number.as_u64(),
            };
            element["index"]
                .as_u64()
                .zip(number)
                .ok_or_else(|| Failure::new(format!("no index and {member} in {element}")))
        })
        .collect()
}

fn config(pf: &Pf) -> Verdict {
    for vf in 0..COUNT {
        let document = hdv("config", pf, &[&vf.to_string()])?.json()?;
        expect(&document, "vf", vf)?;
        expect(&document, "address", pf.vf(vf))?;
        let bytes = hexadecimal(document["bytes"].as_str().unwrap_or_default())
            .ok_or_else(|| Failure::new(format!("bytes are no bytes: {document}")))?;
        let mut expected = pf.vf_config(vf)?;
        ensure(expected.len() == CONFIG, || {
            format!("Linux shows {} bytes", expected.len())
        })?;
        expected[IDS].fill(0xff);
        expected[BARS].fill(0);
        expected[COMMAND] &= !COMMAND_SPACES;
        let differs = (0..CONFIG).find(|&at| bytes.get(at) != expected.get(at));
        ensure(differs.is_none() && bytes.len() == CONFIG, || {
            format!(
                "VF {vf}: {} bytes, different from Linux's at {differs:x?}",
                bytes.len()
            )
        })?;
    }
    let beyond = hdv("config", pf, &[&COUNT.to_string()])?.refused(&["0 bytes"])?;
    Ok(format!(
        "{CONFIG} bytes of each VF as Linux reads them, with the ids and BARs of a VF; of the next: {beyond}"
    ))
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    text.as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .collect()
}

/// A refusal that changes nothing.
fn refused(pf: &Pf, ran: Ran, words: &[&str]) -> Verdict {
    let said = ran.refused(words)?;
    Ok(format!("{said} ({} VFs enabled)", pf.num_vfs()?))
}

fn unchanged(pf: &Pf, count: u16, ran: Ran, words: &[&str]) -> Verdict {
    let verdict = refused(pf, ran, words)?;
    let now = pf.num_vfs()?;
    ensure(now == count, || {
        format!("{verdict}: {now} VFs are enabled, {count} were")
    })?;
    Ok(verdict)
}

fn refuses_again(pf: &Pf) -> Verdict {
    let ran = hdv("enable", pf, &["1"])?;
    unchanged(pf, COUNT, ran, &["2 VFs are enabled already", "disable"])
}

fn refuses_too_many(pf: &Pf) -> Verdict {
    let total = pf.total_vfs()?;
    let possible = format!("1 to {total} are possible");
    let ran = hdv("enable", pf, &[&(total + 1).to_string()])?;
    let many = unchanged(pf, COUNT, ran, &[&possible])?;
    let ran = hdv("enable", pf, &["0"])?;
    let none = unchanged(pf, COUNT, ran, &[&possible])?;
    Ok(format!("{many}; {none}"))
}

fn disable(pf: &Pf) -> Verdict {
    let document = hdv("disable", pf, &[])?.json()?;
    let (count, links) = (pf.num_vfs()?, pf.vf_links()?);
    ensure(count == 0 && links == 0, || {
        format!("Linux says {count} VFs and has {links} links")
    })?;
    summary(&document, pf)?;
    expect(&document, "vfs", Vec::<Value>::new())?;
    let gone = hdv("config", pf, &["0"])?.refused(&["0 bytes"])?;
    Ok(format!("no VF is left; {gone}"))
}

fn refuses_disabled(pf: &Pf) -> Verdict {
    let ran = hdv("disable", pf, &[])?;
    unchanged(pf, 0, ran, &["VFs are disabled already"])
}

/// As many as the capability has, where the driver offers fewer.
fn refused_by_driver(pf: &Pf) -> Verdict {
    let (total, offered) = (pf.total_vfs()?, pf.offered_vfs()?);
    if offered == total {
        hdv("enable", pf, &[&total.to_string()])?.done()?;
        let now = pf.num_vfs()?;
        hdv("disable", pf, &[])?.done()?;
        ensure(now == total, || {
            format!("{now} of {total} VFs were enabled")
        })?;
        return Ok(format!("all {total} VFs are offered, and were enabled"));
    }
    let ran = hdv("enable", pf, &[&total.to_string()])?;
    let limit = format!("sriov_totalvfs is {offered}");
    unchanged(
        pf,
        0,
        ran,
        &["Numerical result out of range", &limit, "driver"],
    )
}

fn refused_to_nobody(pf: &Pf) -> Verdict {
    let ran = hdv_as(Some(NOBODY), "enable", pf, &["1"])?;
    unchanged(pf, 0, ran, &["Permission denied", "As root"])
}

fn refused_without_driver(pf: &Pf) -> Verdict {
    let Some(driver) = pf.driver() else {
        return Err(Failure::new("it has no driver to begin with"));
    };
    system::unbind(pf.address())?;
    let ran = hdv("enable", pf, &["1"])?;
    let refused = unchanged(pf, 0, ran, &["no driver is bound"]);
    system::bind(pf.address(), &driver)?;
    let bound = hdv("show", pf, &[])?.json()?;
    expect(&bound, "driver", driver)?;
    refused
}
