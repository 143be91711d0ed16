//! The machine's own apt configuration: which Debian archive it uses.
//!
//! Both of apt's formats are read, one line per source (`*.list`) and paragraphs (`*.sources`),
//! and only for the archive's address: suites, components and keys are this crate's own choice.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::at;
use crate::{Error, Result};

/// The largest configuration file that is read.
const FILE_LIMIT: u64 = 1 << 20;

/// The address of the Debian archive that the apt configuration in `directory` names.
pub(super) fn debian_archive(directory: &Path) -> Result<String> {
    let mut read = Vec::new();
    let mut sources = Vec::new();
    for path in files(directory)? {
        let Some(text) = text(&path)? else { continue };
        if path
            .extension()
            .is_some_and(|extension| extension == "sources")
        {
            sources.extend(paragraphs(&text));
        } else {
            sources.extend(lines(&text));
        }
        read.push(path);
    }
    // What is asked for first is what the machine lists first.
    let best = sources
        .iter()
        .filter_map(|source| Some((source.rank()?, source)))
        .min_by_key(|(rank, _)| *rank);
    if read.is_empty() {
        read = vec![
            directory.join("sources.list"),
            directory.join("sources.list.d"),
        ];
    }
    best.map(|(_, source)| source.uri.clone())
        .ok_or(Error::NoDebianArchive { read })
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
}

impl Source {
    /// How surely this is Debian's main archive, 0 the surest; `None` when it is not.
    fn rank(&self) -> Option<u8> {
        let (scheme, rest) = self.uri.split_once(':')?;
        if ![
            "http",
            "https",
            "file",
            "ftp",
            "mirror",
            "mirror+http",
            "mirror+https",
            "mirror+file",
        ]
        .contains(&scheme)
        {
            return None;
        }
        // A word in angle brackets or with a blank could end the entry it is put into.
        if self.uri.chars().any(|character| {
            character.is_whitespace() || character.is_control() || character == '['
        }) {
            return None;
        }
        let path = rest.trim_start_matches('/').trim_end_matches('/');
        let debian_suite = self.suites.iter().any(|suite| {
            let suite = suite.trim_end_matches('/');
            let base = suite.split('-').next().unwrap_or(suite);
            DEBIAN_SUITES.contains(&base) && !suite.ends_with("-security") && !suite.contains('/')
        });
        if !debian_suite {
            return None;
        }
        match path.rsplit('/').next() {
            Some("debian") => Some(0),
            // A mirror under another name: its suites carry Debian's names.
            _ if path.contains("debian") => Some(1),
            _ => Some(2),
        }
    }
}

/// The releases whose archive also has what bundles are taken from.
const DEBIAN_SUITES: [&str; 11] = [
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = vec![directory.join("sources.list")];
    let parts = directory.join("sources.list.d");
    match fs::read_dir(&parts) {
        Ok(entries) => {
            let mut found = Vec::new();
            for entry in entries {
                let path = entry.map_err(at("reading", &parts))?.path();
                if path
                    .extension()
                    .is_some_and(|extension| extension == "list" || extension == "sources")
                {
                    found.push(path);
                }
            }
            found.sort();
            paths.extend(found);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at("reading", &parts)(error)),
    }
    Ok(paths)
}

fn text(path: &Path) -> Result<Option<String>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // One file that only others may read (it may hold a password) leaves the rest.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(at("opening", path)(error)),
    };
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, FILE_LIMIT), &mut bytes)
        .map_err(at("reading", path))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// One source per line: `deb [options] uri suite components...`.
fn lines(text: &str) -> Vec<Source> {
    let source = |line: &str| {
        let line = line.split('#').next()?.trim();
        let mut rest = line.strip_prefix("deb")?;
        if !rest.starts_with(char::is_whitespace) {
            return None;
        }
        rest = rest.trim_start();
        if let Some(options) = rest.strip_prefix('[') {
            rest = options.split_once(']')?.1;
        }
        let mut words = rest.split_whitespace();
        Some(Source {
            uri: words.next()?.to_owned(),
            suites: vec![words.next()?.to_owned()],
        })
    };
    text.lines().filter_map(source).collect()
}

/// Paragraphs of `Field: values`, a value going on where a line begins with a blank.
fn paragraphs(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.trim_start().starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(paragraph(&fields));
            fields.clear();
        } else if line.starts_with(char::is_whitespace) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn paragraph(fields: &[(String, String)]) -> Vec<Source> {
    let words = |name: &str| -> Vec<String> {
        let value = fields
            .iter()
            .rev()
            .find(|(field, _)| field == name)
            .map_or("", |(_, value)| value.as_str());
        value.split_whitespace().map(ToOwned::to_owned).collect()
    };
    let disabled = words("enabled")
        .iter()
        .any(|word| ["no", "false", "off", "0"].contains(&word.as_str()));
    if disabled || !words("types").iter().any(|word| word == "deb") {
        return Vec::new();
    }
    let suites = words("suites");
    words("uris")
        .into_iter()
        .map(|uri| Source {
            uri,
            suites: suites.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive_of(files: &[(&str, &str)]) -> Result<String> {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        debian_archive(directory.path())
    }

    #[test]
    fn one_line_sources() {
        let text = "# deb http://commented.example/debian bookworm main\n\
                    deb-src http://source.example/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/x y=z] http://archive.example/debian bookworm main # why\n";
        assert_eq!(
            archive_of(&[("sources.list", text)]).unwrap(),
            "http://archive.example/debian"
        );
    }

    #[test]
    fn paragraph_sources() {
        let text = "Types: deb deb-src\n# a comment inside\nURIs: http://security.example/debian-security\n\
                    Suites: bookworm-security\nComponents: main\n\n\
                    types: deb\nuris:\n  https://archive.example/debian/\nSUITES: bookworm\n bookworm-updates\n\
                    Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ\n";
        assert_eq!(
            archive_of(&[("sources.list.d/debian.sources", text)]).unwrap(),
            "https://archive.example/debian/"
        );
    }

    #[test]
    fn disabled_sources_and_foreign_archives_are_left_out() {
        let disabled = "Enabled: no\nTypes: deb\nURIs: http://a.example/debian\nSuites: trixie\n";
        let foreign = "deb https://b.example/apt cloud-sdk-bookworm main\ndeb http://c.example/ubuntu noble main\n\
                       deb cdrom:[Debian]/ trixie main\ndeb http://d.example/debian-security trixie-security main\n\
                       deb http://e.example/debian-security trixie/updates main\n";
        let error = archive_of(&[
            ("sources.list.d/a.sources", disabled),
            ("sources.list.d/b.list", foreign),
        ])
        .unwrap_err();
        let Error::NoDebianArchive { read } = &error else {
            panic!("{error}")
        };
        assert_eq!(read.len(), 2);
        assert!(error.to_string().contains("b.list"), "{error}");
    }

    #[test]
    fn an_archive_named_debian_comes_before_other_mirrors() {
        let mirror = "deb http://a.example/mirrors/debian-remote trixie main\n";
        assert_eq!(
            archive_of(&[("sources.list.d/a.list", mirror)]).unwrap(),
            "http://a.example/mirrors/debian-remote"
        );
        let main = "deb http://z.example/debian bookworm main\n";
        let both = [
            ("sources.list.d/a.list", mirror),
            ("sources.list.d/z.list", main),
        ];
        assert_eq!(archive_of(&both).unwrap(), "http://z.example/debian");
    }

    #[test]
    fn files_that_apt_does_not_read_are_not_read() {
        let text = "deb http://a.example/debian trixie main\n";
        assert!(archive_of(&[("sources.list.d/a.list.save", text)]).is_err());
        assert!(archive_of(&[]).is_err());
    }
}
