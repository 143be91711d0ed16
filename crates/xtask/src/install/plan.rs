//! What is installed and where, below the prefix.

use std::path::{Path, PathBuf};

use super::{InstallError, at};

/// The library's other name: the same file, so that one process has one state whichever is loaded.
const OTHER_NAMES: [(&str, &str); 2] = [
    ("lib/libvmdevicehost.so", "libcomputecore.so"),
    ("lib/libvmdevicehost.a", "libcomputecore.a"),
];

/// What is taken.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    pub(super) shared: PathBuf,
    pub(super) r#static: PathBuf,
    pub(super) command: PathBuf,
    pub(super) worker: PathBuf,
    /// The C library's package: its headers and the template of its pkg-config file.
    pub(super) capi: PathBuf,
}

/// What a file is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The content of another file.
    Copy(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
    /// A symbolic link to a file in the same directory.
    Link(&'static str),
}

/// One file to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Below the prefix.
    pub(super) path: PathBuf,
    pub(super) what: &'static str,
    pub(super) content: Content,
    pub(super) executable: bool,
}

impl Item {
    fn new(path: impl Into<PathBuf>, what: &'static str, content: Content) -> Self {
        Self {
            path: path.into(),
            what,
            content,
            executable: false,
        }
    }
}

/// Everything, in the order in which it is put there: what a link names comes before it.
pub(super) fn plan(sources: &Sources, prefix: &Path) -> Result<Vec<Item>, InstallError> {
    let mut shared = Item::new(
        "lib/libcomputecore.so",
        "shared library",
        Content::Copy(sources.shared.clone()),
    );
    shared.executable = true;
    let mut command = Item::new("bin/hdv", "command", Content::Copy(sources.command.clone()));
    command.executable = true;
    let mut worker = Item::new(
        "libexec/openhdv/openhdv-worker",
        "worker of compute systems",
        Content::Copy(sources.worker.clone()),
    );
    worker.executable = true;
    let mut items = vec![
        shared,
        Item::new(
            "lib/libcomputecore.a",
            "static library",
            Content::Copy(sources.r#static.clone()),
        ),
    ];
    for (name, target) in OTHER_NAMES {
        items.push(Item::new(name, "its other name", Content::Link(target)));
    }
    for header in headers(&sources.capi.join("include"))? {
        let path = Path::new("include/openhdv").join(&header);
        let source = sources.capi.join("include").join(&header);
        items.push(Item::new(path, "header", Content::Copy(source)));
    }
    items.push(Item::new(
        "lib/pkgconfig/openhdv.pc",
        "pkg-config file",
        Content::Bytes(pkg_config(&sources.capi.join("openhdv.pc.in"), prefix)?),
    ));
    items.extend([worker, command]);
    Ok(items)
}

/// The headers below a directory, by their paths relative to it, sorted.
fn headers(directory: &Path) -> Result<Vec<PathBuf>, InstallError> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let path = directory.join(&below);
        for entry in std::fs::read_dir(&path).map_err(at("reading", &path))? {
            let entry = entry.map_err(at("reading", &path))?;
            let relative = below.join(entry.file_name());
            if entry.file_type().map_err(at("reading", &path))?.is_dir() {
                open.push(relative);
            } else if relative
                .extension()
                .is_some_and(|extension| extension == "h")
            {
                found.push(relative);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The pkg-config file: its template with `@PREFIX@` and `@VERSION@` filled in.
fn pkg_config(template: &Path, prefix: &Path) -> Result<Vec<u8>, InstallError> {
    let text = std::fs::read_to_string(template).map_err(at("reading", template))?;
    let filled = fill(&text, prefix)?;
    match filled.split('@').nth(1) {
        None => Ok(filled.into_bytes()),
        Some(name) => Err(InstallError::Template {
            template: template.to_owned(),
            name: format!("@{name}@"),
        }),
    }
}

fn fill(template: &str, prefix: &Path) -> Result<String, InstallError> {
    let refused = || InstallError::Prefix(prefix.to_owned());
    let prefix = prefix.to_str().ok_or_else(refused)?;
    if prefix.contains(['\n', '\r']) {
        return Err(refused());
    }
    // The values of a pkg-config file are split as a shell splits words.
    let mut quoted = String::new();
    for character in prefix.chars() {
        if matches!(character, ' ' | '\t' | '"' | '\'' | '\\' | '#' | '$') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    Ok(template
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@PREFIX@", &quoted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_filled_in() {
        let filled = fill(
            "prefix=@PREFIX@\nVersion: @VERSION@\n",
            Path::new("/opt/a b"),
        )
        .unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(filled, format!("prefix=/opt/a\\ b\nVersion: {version}\n"));
        assert!(fill("", Path::new("/a\nb")).is_err());
    }

    #[test]
    fn headers_are_found_in_every_directory() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("shim")).unwrap();
        for name in ["b.h", "a.h", "notes.txt", "shim/windows.h"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        assert_eq!(
            headers(directory.path()).unwrap(),
            ["a.h", "b.h", "shim/windows.h"].map(PathBuf::from)
        );
    }
}
