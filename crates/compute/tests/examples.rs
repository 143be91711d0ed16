//! The documents of the examples are right.

use std::fs;
use std::path::Path;

use hdv_compute::document::{ComputeSystemDocument, expand};

#[test]
fn every_example_is_read_and_names_nothing_outside_the_lab() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/documents");
    let lab = tempfile::tempdir().unwrap();
    for file in ["vmlinuz", "initrd", "disk.img"] {
        fs::write(lab.path().join(file), "x").unwrap();
    }
    let mut read = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = expand(&fs::read_to_string(&path).unwrap(), lab.path());
        let document = ComputeSystemDocument::parse(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // What it names is in the lab's folder, or a pipe in the runtime directory.
        document
            .check(lab.path())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        read += 1;
    }
    assert!(read >= 6, "{read} examples");
}
