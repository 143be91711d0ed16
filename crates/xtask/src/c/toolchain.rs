//! gcc, g++ and pkg-config, and how they are called for a program against an installed library.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use hdv_qemu::bundle::Bundle;
use hdv_qemu::cache::Cache;
use hdv_qemu::program::Program;

use crate::lab::bring;
use crate::ui::Ui;

/// What every program is compiled with.
const WARNINGS: [&str; 6] = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-O1"];

/// Why a program was not built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    #[error("{program} was not found: install the package {package} (apt-get install {package})")]
    Missing {
        program: &'static str,
        package: &'static str,
    },
    #[error(transparent)]
    Fetch(#[from] hdv_qemu::Error),
    #[error("{what}: {source}")]
    Io {
        what: String,
        source: std::io::Error,
    },
    #[error("{command}\n{output}")]
    Failed { command: String, output: String },
}

/// The language a source is compiled as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    C11,
    Cxx17,
}

/// How wide `wchar_t` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WideCharacters {
    /// 16 bits, as the pkg-config file asks for.
    Short,
    /// The compiler's own.
    Native,
}

/// Which library is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linking {
    Shared,
    Static,
    /// Nothing is left to load, the C library neither.
    Standalone,
}

/// One program to build.
#[derive(Clone, Debug)]
pub(crate) struct Build<'a> {
    pub(crate) sources: Vec<PathBuf>,
    pub(crate) output: &'a Path,
    pub(crate) language: Language,
    pub(crate) wide_characters: WideCharacters,
    pub(crate) linking: Linking,
    /// Arguments of the program's own, before the library's.
    pub(crate) arguments: Vec<OsString>,
}

/// The tools, all there.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    pkg_config: Program,
}

impl Toolchain {
    /// Finds the compilers; brings pkg-config if the machine has none.
    pub(crate) fn find(ui: &Ui) -> Result<Self, ToolError> {
        for program in ["gcc", "g++"] {
            if !runs(program) {
                return Err(ToolError::Missing {
                    program,
                    package: program,
                });
            }
        }
        let pkg_config = if runs("pkg-config") {
            Program::installed("pkg-config")
        } else {
            let cache = Cache::user()?;
            bring(&cache, Bundle::PKGCONF, ui)?;
            cache
                .require(&Bundle::PKGCONF)?
                .program("usr/bin/pkgconf")?
        };
        Ok(Self { pkg_config })
    }

    /// What pkg-config says of the library under a prefix.
    pub(crate) fn flags(
        &self,
        prefix: &Path,
        arguments: &[&str],
    ) -> Result<Vec<OsString>, ToolError> {
        let mut command = self.pkg_config.command();
        let directory = prefix.join("lib/pkgconfig");
        command
            .args(arguments)
            .arg("openhdv")
            // Only what was installed just now is looked at.
            .env("PKG_CONFIG_LIBDIR", &directory)
            .env("PKG_CONFIG_PATH", &directory);
        Ok(words(&said(command)?))
    }

    /// Builds a program against the library under a prefix.
    pub(crate) fn build(&self, build: &Build<'_>, prefix: &Path) -> Result<(), ToolError> {
        let libraries = match build.linking {
            Linking::Shared => self.flags(prefix, &["--libs"])?,
            Linking::Static | Linking::Standalone => self
                .flags(prefix, &["--static", "--libs"])?
                .into_iter()
                .map(|word| match word.to_str() {
                    // The shared library lies beside it, and would be taken.
                    Some("-lcomputecore") => "-l:libcomputecore.a".into(),
                    // There is no other one that is static.
                    Some("-lgcc_s") if build.linking == Linking::Standalone => "-lgcc_eh".into(),
                    _ => word,
                })
                .collect(),
        };
        self.build_with(build, prefix, &libraries)
    }

    /// Builds a program with these libraries instead of those that pkg-config names.
    pub(crate) fn build_with(
        &self,
        build: &Build<'_>,
        prefix: &Path,
        libraries: &[OsString],
    ) -> Result<(), ToolError> {
        let (compiler, standard, language) = match build.language {
            Language::C11 => ("gcc", "-std=c11", "c"),
            Language::Cxx17 => ("g++", "-std=c++17", "c++"),
        };
        let mut command = Command::new(compiler);
        command
            .arg(standard)
            .args(WARNINGS)
            .args(self.flags(prefix, &["--cflags"])?);
        if build.linking == Linking::Standalone {
            command.args(["-static", "-s"]);
        }
        if build.wide_characters == WideCharacters::Native {
            command.arg("-fno-short-wchar");
        }
        command
            .args(&build.arguments)
            .arg("-o")
            .arg(build.output)
            .args(["-x", language])
            .args(&build.sources)
            .args(["-x", "none"])
            .args(libraries);
        // The old kind of run path goes before LD_LIBRARY_PATH, in which cargo puts the directories
        // of its own builds of the library.
        let mut rpath = OsString::from("-Wl,--disable-new-dtags,-rpath,");
        rpath.push(prefix.join("lib"));
        command.arg(rpath);
        said(command).map(drop)
    }
}

fn runs(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Runs a command to its end; what it printed.
fn said(mut command: Command) -> Result<String, ToolError> {
    let output = command.output().map_err(|source| ToolError::Io {
        what: command.get_program().display().to_string(),
        source,
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(ToolError::Failed {
        command: format!("{command:?}: {}", output.status),
        output: format!("{text}{errors}"),
    })
}

/// Splits pkg-config's answer: a backslash takes the next character as it is.
fn words(text: &str) -> Vec<OsString> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character.is_whitespace() {
            words.extend(word.take().map(OsString::from));
            continue;
        }
        let taken = if character == '\\' {
            characters.next()
        } else {
            Some(character)
        };
        word.get_or_insert_default().extend(taken);
    }
    words.extend(word.map(OsString::from));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_space_stays_in_its_word() {
        assert_eq!(
            words("-I/a\\ b/include  -fshort-wchar\n"),
            ["-I/a b/include", "-fshort-wchar"]
        );
        assert!(words(" \n").is_empty());
    }
}
