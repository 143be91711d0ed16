//! The installed library and the programs that the project builds against it: the examples, the lab of
//! eight devices, and what tries the linking.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::toolchain::{Build, Language, Linking, ToolError, Toolchain, WideCharacters};
use crate::cargo::{target_directory, workspace};
use crate::install::{self, InstallError};
use crate::ui::Ui;

/// Where the examples are.
const EXAMPLES: &str = "examples/c";
/// Where the lab's sources are, and those of the library's tests.
const TESTS: &str = "crates/capi/tests/c";
/// Where the programs are that only the test command has.
const PROGRAMS: &str = "crates/xtask/src/c/programs";
/// What the lab's sources begin with.
const LAB_PREFIX: &str = "lab";
/// The example that makes its own virtual machine; the others serve devices to whoever connects.
const VM: &str = "vm";
/// The example that is written as for Windows: `L"..."` is wide characters of 16 bits to it.
const VENDOR_STYLE: &str = "vendor_style";

/// Why there is no library to try, or no program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LibraryError {
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("there are no sources in {}", .0.display())]
    NoSources(PathBuf),
}

/// How a program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) language: Language,
    pub(crate) wide_characters: WideCharacters,
    pub(crate) linking: Linking,
}

impl Variant {
    /// C11 as the pkg-config file has it.
    pub(crate) const PLAIN: Self = Self {
        language: Language::C11,
        wide_characters: WideCharacters::Short,
        linking: Linking::Shared,
    };

    /// Every way in which a source must compile, by its name.
    pub(crate) fn all(source: &str) -> Vec<Self> {
        let mut variants = Vec::new();
        for language in [Language::C11, Language::Cxx17] {
            for wide_characters in [WideCharacters::Short, WideCharacters::Native] {
                if source == VENDOR_STYLE && wide_characters == WideCharacters::Native {
                    continue;
                }
                variants.push(Self {
                    language,
                    wide_characters,
                    linking: Linking::Shared,
                });
            }
        }
        variants.push(Self {
            linking: Linking::Static,
            ..Self::PLAIN
        });
        variants
    }

    /// What a program's file is called after its source.
    fn suffix(self) -> String {
        let language = match self.language {
            Language::C11 => "c11",
            Language::Cxx17 => "c++17",
        };
        let wide = match self.wide_characters {
            WideCharacters::Short => "short-wchar",
            WideCharacters::Native => "wchar",
        };
        let linking = match self.linking {
            Linking::Shared => "shared",
            Linking::Static => "static",
            Linking::Standalone => "standalone",
        };
        format!("{language}-{wide}-{linking}")
    }
}

/// The functions that make a device host beside `HdvInitializeDeviceHost`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initialize {
    /// `HdvInitializeDeviceHostEx`
    Ex,
    /// `HdvInitializeDeviceHostForProxy`
    Proxy,
    /// `HdvInitializeDeviceHostForProxyEx`
    ProxyEx,
}

/// The library, installed under a prefix of the target directory.
#[derive(Debug)]
pub(crate) struct Library {
    tools: Toolchain,
    prefix: PathBuf,
    programs: PathBuf,
}

impl Library {
    /// Builds and installs it, and finds the tools to use it with.
    pub(crate) fn prepare(ui: &Ui) -> Result<Self, LibraryError> {
        let tools = Toolchain::find(ui)?;
        let target = target_directory().map_err(io("cargo metadata"))?;
        let prefix = target.join("c/prefix");
        let programs = target.join("c/bin");
        std::fs::create_dir_all(&programs).map_err(io(&programs))?;
        let arguments = install::Arguments {
            prefix: prefix.clone(),
            destdir: None,
            debug: false,
            json: false,
        };
        install::install(&arguments, ui)?;
        Ok(Self {
            tools,
            prefix,
            programs,
        })
    }

    /// Where it is installed.
    pub(crate) fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Builds an example, by its name.
    pub(crate) fn example(&self, name: &str, variant: Variant) -> Result<PathBuf, LibraryError> {
        let source = workspace().join(EXAMPLES).join(name).with_extension("c");
        self.build(name, vec![source], variant, &["-pthread"])
    }

    /// Builds an example whose device host is made by another function than it names.
    pub(crate) fn made_by(&self, example: &str, way: Initialize) -> Result<PathBuf, LibraryError> {
        let sources = vec![
            workspace().join(EXAMPLES).join(example).with_extension("c"),
            workspace().join(PROGRAMS).join("initialize.c"),
        ];
        let (name, choice) = match way {
            Initialize::Ex => ("ex", "-DWITH_EX"),
            Initialize::Proxy => ("proxy", "-DWITH_PROXY"),
            Initialize::ProxyEx => ("proxy-ex", "-DWITH_PROXY_EX"),
        };
        let arguments = [
            "-pthread",
            "-DHdvInitializeDeviceHost=initialize_otherwise",
            choice,
        ];
        self.build(
            &format!("{example}-{name}"),
            sources,
            Variant::PLAIN,
            &arguments,
        )
    }

    /// Builds the lab.
    pub(crate) fn lab(&self, variant: Variant) -> Result<PathBuf, LibraryError> {
        let sources = sources(&workspace().join(TESTS))?
            .into_iter()
            .filter(|source| name(source).starts_with(LAB_PREFIX))
            .collect();
        self.build("lab", sources, variant, &["-pthread"])
    }

    /// Builds a program of one source.
    pub(crate) fn program(
        &self,
        name: &str,
        source: &Path,
        variant: Variant,
    ) -> Result<PathBuf, LibraryError> {
        self.build(name, vec![source.to_owned()], variant, &["-pthread"])
    }

    /// Builds one of the programs for a guest, where there is no library to load.
    pub(crate) fn for_guest(&self, program: &str) -> Result<PathBuf, LibraryError> {
        let source = workspace().join(PROGRAMS).join(program).with_extension("c");
        let variant = Variant {
            linking: Linking::Standalone,
            ..Variant::PLAIN
        };
        self.build(program, vec![source], variant, &["-pthread"])
    }

    /// Builds one of the library's own tests.
    pub(crate) fn test(&self, source: &Path) -> Result<PathBuf, LibraryError> {
        let mut variant = Variant::PLAIN;
        if source
            .extension()
            .is_some_and(|extension| extension == "cpp")
        {
            variant.language = Language::Cxx17;
        }
        self.build(
            &format!("test-{}", name(source)),
            vec![source.to_owned()],
            variant,
            // What POSIX adds to the headers of C.
            &["-pthread", "-D_GNU_SOURCE"],
        )
    }

    /// Builds a program of any sources.
    fn build(
        &self,
        name: &str,
        sources: Vec<PathBuf>,
        variant: Variant,
        arguments: &[&str],
    ) -> Result<PathBuf, LibraryError> {
        let output = self.programs.join(format!("{name}-{}", variant.suffix()));
        self.tools.build(
            &Build {
                sources,
                output: &output,
                language: variant.language,
                wide_characters: variant.wide_characters,
                linking: variant.linking,
                arguments: arguments.iter().map(Into::into).collect(),
            },
            &self.prefix,
        )?;
        Ok(output)
    }

    /// Builds one of the programs that try the linking, with these libraries only.
    pub(crate) fn trial(
        &self,
        source: &str,
        name: &str,
        libraries: &[&str],
    ) -> Result<Command, LibraryError> {
        let output = self.programs.join(name);
        let mut arguments = vec!["-L".into()];
        arguments.push(self.prefix.join("lib").into());
        arguments.extend(libraries.iter().map(Into::into));
        self.tools.build_with(
            &Build {
                sources: vec![workspace().join(PROGRAMS).join(source)],
                output: &output,
                language: Language::C11,
                wide_characters: WideCharacters::Short,
                linking: Linking::Shared,
                arguments: Vec::new(),
            },
            &self.prefix,
            &arguments,
        )?;
        Ok(Command::new(output))
    }
}

/// The names of the examples.
pub(crate) fn examples() -> Result<Vec<String>, LibraryError> {
    Ok(sources(&workspace().join(EXAMPLES))?
        .iter()
        .map(|source| name(source))
        .filter(|name| name != VM)
        .collect())
}

/// The sources of the library's tests: those that run checks by name.
pub(crate) fn tests() -> Result<Vec<PathBuf>, LibraryError> {
    let mut found = Vec::new();
    for source in sources(&workspace().join(TESTS))? {
        if !checks(&source)?.is_empty() {
            found.push(source);
        }
    }
    Ok(found)
}

/// The checks that a source runs, by their names.
pub(crate) fn checks(source: &Path) -> Result<Vec<String>, LibraryError> {
    let text = std::fs::read_to_string(source).map_err(io(source))?;
    Ok(text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("RUN(")?.strip_suffix(");"))
        .map(str::to_owned)
        .collect())
}

/// The C and C++ sources of a directory, sorted.
fn sources(directory: &Path) -> Result<Vec<PathBuf>, LibraryError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io(directory))? {
        let path = entry.map_err(io(directory))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "c" || extension == "cpp")
        {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(LibraryError::NoSources(directory.to_owned()));
    }
    found.sort();
    Ok(found)
}

fn name(source: &Path) -> String {
    source
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> LibraryError {
    let path = path.as_ref().to_owned();
    |source| LibraryError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_compiles_in_every_way_and_the_vendors_only_with_its_wide_characters() {
        assert_eq!(Variant::all("sensor").len(), 5);
        let vendor = Variant::all(VENDOR_STYLE);
        assert_eq!(vendor.len(), 3);
        assert!(
            vendor
                .iter()
                .all(|variant| variant.wide_characters == WideCharacters::Short)
        );
        let mut names: Vec<_> = Variant::all("sensor")
            .into_iter()
            .map(Variant::suffix)
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 5);
    }
}
