//! The C blocks of the book: each is a translation unit of its own that compiles in every way; a whole program
//! is also run, and its device used.

#[path = "support/toolchain.rs"]
mod toolchain;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::vfio::region;
use toolchain::{Language, WAYS, WideCharacters, build};

const PAGES: [&str; 4] = ["c.md", "compute.md", "porting.md", "rust.md"];

/// The C blocks of the book's pages, as files, programs and others.
fn blocks(directory: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut programs, mut others) = (Vec::new(), Vec::new());
    for page in PAGES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../docs/book")
            .join(page);
        let text = std::fs::read_to_string(&path).unwrap();
        let blocks = text.split("```c\n").skip(1);
        for (index, block) in blocks.enumerate() {
            let (code, _) = block.split_once("```").expect("an end of the block");
            let file = directory.join(format!("{}-{index}.c", page.replace(".md", "")));
            if code.contains("int main(") {
                std::fs::write(&file, code).unwrap();
                programs.push(file);
            } else {
                let main = "\nint main(void)\n{\n    return 0;\n}\n";
                std::fs::write(&file, [code, main].concat()).unwrap();
                others.push(file);
            }
        }
    }
    (programs, others)
}

#[test]
fn every_block_of_the_book_compiles() {
    let directory = tempfile::tempdir().unwrap();
    let (programs, others) = blocks(directory.path());
    assert_eq!((programs.len(), others.len()), (1, 6));
    for file in programs.iter().chain(&others) {
        for (language, wide) in WAYS {
            build(file, language, wide, directory.path());
        }
    }
}

#[test]
fn the_program_of_the_book_serves_its_device() {
    let directory = tempfile::tempdir().unwrap();
    let (programs, _) = blocks(directory.path());
    let program = build(
        &programs[0],
        Language::C,
        WideCharacters::Short,
        directory.path(),
    );
    let mut process = Command::new(program)
        .arg(directory.path())
        .env("XDG_RUNTIME_DIR", directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(process.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let socket = line
        .strip_prefix("serving ")
        .and_then(|rest| rest.split_once(';'))
        .map(|(name, _)| directory.path().join(name))
        .unwrap_or_else(|| panic!("it printed {line:?}"));
    let mut client = Client::connect(&socket, ClientOptions::default()).unwrap();
    for reads in 1..3 {
        let mut value = [0; 4];
        client.region_read(region::BAR0, 0, &mut value).unwrap();
        assert_eq!(u32::from_le_bytes(value), reads);
    }
    let mut id = [0; 4];
    client.region_read(region::CONFIG, 0, &mut id).unwrap();
    assert_eq!(u32::from_le_bytes(id), 0x7f10_4f48);
    drop(client);
    process.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(process.wait().unwrap().success());
    assert!(!socket.exists());
}
