//! What a row must have: by its kind and, for functions, by the parameters that their headers declare.

use std::collections::{BTreeMap, BTreeSet};

use super::documented::DOCUMENTED;
use super::headers::{Declarations, Function};
use super::table::{Kind, Row, Table};

/// What the vendor's functions begin with; a guest sees something of every one of them.
const VENDOR: &str = "Hdv";
/// Types whose values are handles of the library.
const HANDLES: [&str; 4] = ["HCS_SYSTEM", "HCS_OPERATION", "HDV_HOST", "HDV_DEVICE"];
/// Types that are pointers.
const POINTERS: [&str; 2] = ["PVOID", "PCWSTR"];
/// Types of which not every value is one.
const CHOICES: [&str; 5] = [
    "HDV_DEVICE_TYPE",
    "HDV_DEVICE_HOST_FLAGS",
    "HDV_PCI_BAR_SELECTOR",
    "HDV_MMIO_MAPPING_FLAGS",
    "HCS_EVENT_OPTIONS",
];
/// The parameter that is an address of a guest's.
const ADDRESS: &str = "GuestPhysicalAddress";

/// Everything that is wrong with the table.
pub(super) fn faults(
    table: &Table,
    declared: &Declarations,
    known: &BTreeSet<String>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut rows = BTreeMap::new();
    for (kind, row) in table.rows() {
        if row.names().next().is_none() {
            faults.push(format!("a row of {} has no name", kind.name()));
        }
        for name in row.names() {
            if rows.insert(name, kind).is_some() {
                faults.push(format!("{name} has two rows"));
            }
            faults.extend(missing(kind, name, row, declared));
        }
        let of = row.names().next().unwrap_or_default();
        for test in row.tests().filter(|test| !known.contains(*test)) {
            faults.push(format!("{of}: there is no test {test}"));
        }
    }
    let internal: BTreeSet<&str> = table.internal.iter().map(String::as_str).collect();
    let names: BTreeSet<&str> = declared.names().collect();
    for name in &names {
        if !rows.contains_key(name) && !internal.contains(name) {
            faults.push(format!("{name} has no row"));
        }
    }
    for name in rows.keys().copied().chain(internal) {
        if !names.contains(name) {
            faults.push(format!("{name} has a row, but no header declares it"));
        }
    }
    faults
}

/// What a name's row lacks.
fn missing(kind: Kind, name: &str, row: &Row, declared: &Declarations) -> Vec<String> {
    let mut faults = Vec::new();
    let mut want = |there: bool, what: &str| {
        if !there {
            faults.push(format!("{name}: no test of {what}"));
        }
    };
    match kind {
        Kind::Function if !row.absent.is_empty() => {
            want(
                declared.functions.contains_key(name),
                "a function that a header declares",
            );
        }
        Kind::Function => {
            let unseen = row.unseen.is_some() && !name.starts_with(VENDOR);
            want(!row.success.is_empty(), "its success");
            want(!row.guest.is_empty() || unseen, "what a guest sees");
            match declared.functions.get(name) {
                Some(function) => {
                    for error in errors(function).into_iter().chain(documented(name)) {
                        want(tested(row, error), error);
                    }
                }
                None => want(false, "a function that a header declares"),
            }
            for (error, tests) in &row.errors {
                want(!tests.is_empty(), error);
            }
        }
        Kind::Callback => {
            want(!row.success.is_empty(), "its success");
            let seen = !row.guest.is_empty() || (row.unseen.is_some() && !name.starts_with("HDV_"));
            want(seen, "what a guest sees");
            let fallible = declared
                .callbacks
                .get(name)
                .is_some_and(|callback| callback.result.is_some());
            let failing = row.errors.values().any(|tests| !tests.is_empty());
            want(failing || !fallible, "its failure");
            for error in documented(name) {
                want(tested(row, error), error);
            }
        }
        Kind::Type => want(!row.layout.is_empty(), "its layout"),
        Kind::Constant => want(!row.value.is_empty(), "its value"),
    }
    faults
}

fn tested(row: &Row, error: &str) -> bool {
    row.errors.get(error).is_some_and(|tests| !tests.is_empty())
}

/// The errors that a function, or a routine of an interface, has beyond those.
fn documented(name: &str) -> impl Iterator<Item = &'static str> {
    DOCUMENTED
        .iter()
        .filter(move |(function, _)| *function == name)
        .flat_map(|(_, errors)| errors.iter().copied())
}

/// The errors that follow from what a function is given.
fn errors(function: &Function) -> BTreeSet<&'static str> {
    let mut errors = BTreeSet::new();
    let (null, no_handle) = match function.result {
        None => return errors,
        Some("NTSTATUS") => ("STATUS_INVALID_PARAMETER", "STATUS_INVALID_HANDLE"),
        Some(_) => ("E_POINTER", "E_HANDLE"),
    };
    for parameter in &function.parameters {
        let words: Vec<_> = parameter
            .split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
            .collect();
        let has = |wanted: &str| words.contains(&wanted);
        let pointer = parameter.contains('*') || POINTERS.iter().any(|pointer| has(pointer));
        let optional = words.iter().any(|word| word.contains("_opt_"));
        if pointer && !optional {
            errors.insert(null);
        }
        if !pointer && HANDLES.iter().any(|handle| has(handle)) {
            errors.insert(no_handle);
        }
        if CHOICES.iter().any(|choice| has(choice)) {
            errors.insert("E_INVALIDARG");
        }
        if has(ADDRESS) {
            errors.extend(["ERROR_INVALID_ADDRESS", "ERROR_NOT_READY"]);
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "
        typedef void* HDV_DEVICE;
        #define HDV_COUNT 6
        typedef HRESULT(CALLBACK* HDV_START)(_In_opt_ void* Context);
        HRESULT WINAPI HdvRead(_In_ HDV_DEVICE Requestor, _In_ UINT64 GuestPhysicalAddress, \
            _Out_writes_(n) BYTE* Buffer);
        NTSTATUS WINAPI OpenHdvAsk(_In_ HDV_DEVICE Device, _In_ const GUID* Type);
        HRESULT WINAPI HcsOpen(_In_ PCWSTR Id, _In_ HCS_OPERATION Operation, _In_opt_ PCWSTR Options);
        HRESULT WINAPI HcsSave(_In_ HCS_SYSTEM System);
        typedef NTSTATUS NTAPI ENABLE_VIRTUALIZATION(_In_opt_ PVOID Context);
        #define INTERNAL
    ";

    const WHOLE: &str = r#"
        internal = ["INTERNAL"]
        [[function]]
        name = "HdvRead"
        success = ["a"]
        guest = ["guest:b"]
        errors.E_HANDLE = ["a"]
        errors.E_POINTER = ["a"]
        errors.ERROR_INVALID_ADDRESS = ["a"]
        errors.ERROR_NOT_READY = ["a"]
        [[function]]
        name = "OpenHdvAsk"
        success = ["a"]
        unseen = "no"
        errors.STATUS_INVALID_HANDLE = ["b"]
        errors.STATUS_INVALID_PARAMETER = ["a"]
        [[function]]
        name = "HcsOpen"
        success = ["a"]
        unseen = "no"
        errors.E_HANDLE = ["b"]
        errors.E_POINTER = ["b"]
        [[function]]
        name = "HcsSave"
        absent = ["a"]
        [[callback]]
        name = "ENABLE_VIRTUALIZATION"
        success = ["a"]
        unseen = "no"
        errors.STATUS_ACCESS_DENIED = ["a"]
        errors.STATUS_INVALID_DEVICE_STATE = ["b"]
        errors.STATUS_INVALID_PARAMETER = ["a"]
        errors.STATUS_POSSIBLE_DEADLOCK = ["a"]
        errors.STATUS_UNSUCCESSFUL = ["a"]
        [[callback]]
        name = "HDV_START"
        success = ["a"]
        errors.any = ["a"]
        guest = ["guest:b"]
        [[type]]
        name = "HDV_DEVICE"
        layout = ["a"]
        [[constant]]
        names = ["HDV_COUNT"]
        value = ["a"]
    "#;

    fn check(table: &str) -> Vec<String> {
        let mut declared = Declarations::default();
        declared.read(HEADER);
        let known = ["a", "b", "guest:b"].map(str::to_owned).into();
        faults(&toml::from_str(table).unwrap(), &declared, &known)
    }

    #[test]
    fn a_whole_table_has_no_fault() {
        assert_eq!(check(WHOLE), [""; 0]);
    }

    #[test]
    fn every_lack_is_a_fault() {
        for (from, to, fault) in [
            ("internal = [\"INTERNAL\"]", "", "INTERNAL has no row"),
            (
                "name = \"HdvRead\"",
                "name = \"HdvReed\"",
                "HdvRead has no row",
            ),
            ("success = [\"a\"]", "", "HdvRead: no test of its success"),
            (
                "guest = [\"guest:b\"]",
                "",
                "HdvRead: no test of what a guest sees",
            ),
            (
                "guest = [\"guest:b\"]",
                "unseen = \"no\"",
                "HdvRead: no test of what a guest sees",
            ),
            (
                "errors.E_HANDLE = [\"a\"]",
                "",
                "HdvRead: no test of E_HANDLE",
            ),
            (
                "errors.ERROR_NOT_READY = [\"a\"]",
                "errors.ERROR_NOT_READY = []",
                "HdvRead: no test of ERROR_NOT_READY",
            ),
            (
                "errors.STATUS_INVALID_HANDLE = [\"b\"]",
                "",
                "OpenHdvAsk: no test of STATUS_INVALID_HANDLE",
            ),
            (
                "errors.E_HANDLE = [\"b\"]",
                "",
                "HcsOpen: no test of E_HANDLE",
            ),
            (
                "errors.E_POINTER = [\"b\"]",
                "",
                "HcsOpen: no test of E_POINTER",
            ),
            (
                "absent = [\"a\"]",
                "absent = []",
                "HcsSave: no test of its success",
            ),
            (
                "name = \"HcsSave\"",
                "name = \"HcsSafe\"",
                "HcsSafe: no test of a function that a header declares",
            ),
            (
                "errors.STATUS_INVALID_DEVICE_STATE = [\"b\"]",
                "",
                "ENABLE_VIRTUALIZATION: no test of STATUS_INVALID_DEVICE_STATE",
            ),
            (
                "errors.any = [\"a\"]",
                "",
                "HDV_START: no test of its failure",
            ),
            ("layout = [\"a\"]", "", "HDV_DEVICE: no test of its layout"),
            (
                "value = [\"a\"]",
                "value = [\"c\"]",
                "HDV_COUNT: there is no test c",
            ),
            (
                "names = [\"HDV_COUNT\"]",
                "names = [\"HDV_COUNT\", \"HDV_DEVICE\"]",
                "HDV_DEVICE has two rows",
            ),
            (
                "names = [\"HDV_COUNT\"]",
                "names = [\"HDV_COUNT\", \"HDV_MORE\"]",
                "HDV_MORE has a row, but no header declares it",
            ),
        ] {
            let faults = check(&WHOLE.replacen(from, to, 1));
            assert!(
                faults.iter().any(|found| found == fault),
                "{fault}: {faults:?}"
            );
        }
    }
}
