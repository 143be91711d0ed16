//! apt and dpkg as tools that download and unpack: nothing is installed, no root is needed.
//!
//! apt is given a directory tree of its own, so that the machine's package state is neither read
//! nor changed; its proxy and other settings are the machine's. Which packages are wanted does
//! not belong here.

mod sources;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::child::{self, Answer};
use crate::error::{at, doing};
use crate::{Error, Result};

/// The keys that Debian signs its archive with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The suites that bundles are taken from.
const SUITES: [&str; 2] = ["trixie", "trixie-backports"];

/// The architecture of the packages, whatever the machine's dpkg was built for.
const ARCHITECTURE: &str = "amd64";

/// How long one run of apt may take: a slow line and tens of megabytes.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// How long unpacking one package may take.
const UNPACK_LIMIT: Duration = Duration::from_secs(5 * 60);

/// apt with its own directory tree.
#[derive(Debug)]
pub(crate) struct Apt {
    directory: PathBuf,
}

/// A package that apt has downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Archive {
    pub(crate) path: PathBuf,
    pub(crate) package: String,
    pub(crate) version: String,
}

impl Apt {
    /// Checks that this machine can fetch, without the network; gives its Debian archive.
    pub(crate) fn available() -> Result<String> {
        if std::env::consts::ARCH != "x86_64" {
            return Err(Error::Architecture {
                architecture: std::env::consts::ARCH,
            });
        }
        for program in ["apt-get", "apt-cache", "dpkg-deb"] {
            if crate::locate::in_path(program).is_none() {
                return Err(Error::NoApt { program });
            }
        }
        if !Path::new(KEYRING).is_file() {
            return Err(Error::NoKeyring {
                path: KEYRING.into(),
            });
        }
        sources::debian_archive(Path::new("/etc/apt"))
    }

    /// Lays the tree out in `directory` and names the machine's own Debian archive in it.
    pub(crate) fn prepare(directory: &Path) -> Result<Self> {
        let archive = Self::available()?;
        for sub in ["lists/partial", "cache/archives/partial"] {
            let path = directory.join(sub);
            fs::create_dir_all(&path).map_err(at("creating", &path))?;
        }
        let mut list = String::new();
        for suite in SUITES {
            list.push_str(&format!(
                "deb [arch={ARCHITECTURE} signed-by={KEYRING}] {archive} {suite} main\n"
            ));
        }
        for (name, content) in [("sources.list", list.as_str()), ("status", "")] {
            let path = directory.join(name);
            fs::write(&path, content).map_err(at("writing", &path))?;
        }
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// Brings the package index up to date.
    pub(crate) fn update(&self, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let mut command = self.command("apt-get");
        command.args(["-o", "APT::Update::Error-Mode=any", "update"]);
        let what = "reading the package index";
        let answer = run(command, DOWNLOAD_LIMIT, what, progress)?;
        if answer.status.success() {
            Ok(())
        } else {
            let said = answer.complaint();
            let doing = what.to_owned();
            // What came and cannot be trusted is not the network's fault.
            let distrusted = ["GPG error", "is not signed", "expired", "not valid yet"];
            Err(if distrusted.iter().any(|words| said.contains(words)) {
                Error::PackageTool { doing, said }
            } else {
                Error::Network { doing, said }
            })
        }
    }

    /// Downloads packages of a suite and all they depend on.
    pub(crate) fn download_closure(
        &self,
        suite: &str,
        packages: &[&str],
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Archive>> {
        self.clear_archives()?;
        let mut command = self.command("apt-get");
        command
            .args([
                "-y",
                "-d",
                "--no-install-recommends",
                "-t",
                suite,
                "install",
            ])
            .args(packages);
        let what = format!("downloading {} from {suite}", packages.join(", "));
        let answer = run(command, DOWNLOAD_LIMIT, &what, progress)?;
        self.downloaded(&answer, &what)
    }

    /// Downloads just these packages of a suite.
    pub(crate) fn download_only(
        &self,
        suite: &str,
        packages: &[String],
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Archive>> {
        self.clear_archives()?;
        let mut command = self.command("apt-get");
        command
            .current_dir(self.archives())
            .args(["-t", suite, "download"])
            .args(packages);
        let what = format!("downloading {} from {suite}", packages.join(", "));
        let answer = run(command, DOWNLOAD_LIMIT, &what, progress)?;
        self.downloaded(&answer, &what)
    }

    /// The packages that `package` depends on directly, in the version of that suite.
    pub(crate) fn dependencies(&self, suite: &str, package: &str) -> Result<Vec<String>> {
        let mut command = self.command("apt-cache");
        command.args(["-t", suite, "depends", package]);
        let what = format!("looking up what {package} of {suite} depends on");
        let answer = run(command, DOWNLOAD_LIMIT, &what, &mut |_| {})?;
        if !answer.status.success() {
            return Err(Error::PackageTool {
                doing: what,
                said: answer.complaint(),
            });
        }
        Ok(parse_dependencies(&answer.stdout))
    }

    /// Unpacks a downloaded package into a tree.
    pub(crate) fn unpack(archive: &Archive, root: &Path) -> Result<()> {
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(&archive.path).arg(root);
        let what = format!("unpacking {} {}", archive.package, archive.version);
        let answer = run(command, UNPACK_LIMIT, &what, &mut |_| {})?;
        if answer.status.success() {
            Ok(())
        } else {
            Err(Error::PackageTool {
                doing: what,
                said: answer.complaint(),
            })
        }
    }

    /// Removes the downloaded packages, which are of no use once they are unpacked.
    pub(crate) fn clear_archives(&self) -> Result<()> {
        for path in package_files(&self.archives())? {
            fs::remove_file(&path).map_err(at("removing", &path))?;
        }
        Ok(())
    }

    fn archives(&self) -> PathBuf {
        self.directory.join("cache/archives")
    }

    fn downloaded(&self, answer: &Answer, what: &str) -> Result<Vec<Archive>> {
        if !answer.status.success() {
            let said = answer.complaint();
            let doing = what.to_owned();
            return Err(if said.contains("Failed to fetch") {
                Error::Network { doing, said }
            } else {
                Error::PackageTool { doing, said }
            });
        }
        package_files(&self.archives())?
            .into_iter()
            .map(describe)
            .collect()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut option = |name: &str, value: &Path| {
            let mut option = OsString::from(format!("{name}="));
            option.push(value);
            command.arg("-o").arg(option);
        };
        option("Dir::Etc::SourceList", &self.directory.join("sources.list"));
        option("Dir::Etc::SourceParts", Path::new("/dev/null"));
        option("Dir::Etc::Preferences", Path::new("/dev/null"));
        option("Dir::Etc::PreferencesParts", Path::new("/dev/null"));
        option("Dir::State", &self.directory);
        option("Dir::State::Lists", &self.directory.join("lists"));
        option("Dir::State::status", &self.directory.join("status"));
        option("Dir::Cache", &self.directory.join("cache"));
        option("Dir::Log", &self.directory);
        command
            .arg("-o")
            .arg(format!("APT::Architecture={ARCHITECTURE}"));
        command
            .arg("-o")
            .arg(format!("APT::Architectures={ARCHITECTURE}"));
        // The machine may want downloads removed, or no documentation; neither is ours to follow.
        command.args([
            "-o",
            "APT::Keep-Downloaded-Packages=true",
            "-o",
            "APT::Get::Assume-Yes=true",
        ]);
        command.args(["-o", "APT::Status-Fd=1", "-o", "APT::Color=false"]);
        if rustix::process::geteuid().is_root() {
            // apt would drop to a user who may not write to a private directory.
            command.args(["-o", "APT::Sandbox::User=root"]);
        }
        command
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

fn run(
    command: Command,
    limit: Duration,
    what: &str,
    progress: &mut dyn FnMut(u64),
) -> Result<Answer> {
    child::ask(command, limit, &mut |line| {
        if let Some(percent) = parse_progress(line) {
            progress(percent);
        }
    })
    .map_err(doing(what))
}

/// The percentage of one line of apt's status output, `dlstatus:<item>:<percent>:<text>`.
fn parse_progress(line: &str) -> Option<u64> {
    let mut fields = line.strip_prefix("dlstatus:")?.split(':');
    let whole = fields.nth(1)?.split('.').next()?;
    whole.parse().ok().filter(|percent| *percent <= 100)
}

/// The packages in the output of `apt-cache depends`; virtual ones stand in angle brackets.
fn parse_dependencies(output: &str) -> Vec<String> {
    let depends = |line: &str| {
        let name = line
            .trim_start()
            .trim_start_matches('|')
            .strip_prefix("Depends: ")?;
        (!name.starts_with('<')).then(|| name.to_owned())
    };
    output.lines().filter_map(depends).collect()
}

fn package_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(at("reading", directory))? {
        let path = entry.map_err(at("reading", directory))?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Name and version as the file's name states them: `name_version_architecture.deb`, with the
/// version's colons escaped.
fn describe(path: PathBuf) -> Result<Archive> {
    let name = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut fields = name.split('_');
    match (fields.next(), fields.next()) {
        (Some(package), Some(version)) => Ok(Archive {
            package: package.to_owned(),
            version: version.replace("%3a", ":"),
            path,
        }),
        _ => Err(Error::PackageTool {
            doing: format!("reading the name of {}", path.display()),
            said: "it is not of the form name_version_architecture.deb".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines_are_told_from_others() {
        assert_eq!(
            parse_progress("dlstatus:3:4.5042:Retrieving file 3 of 13"),
            Some(4)
        );
        assert_eq!(
            parse_progress("dlstatus:10:100.0000:Retrieving file 10 of 10"),
            Some(100)
        );
        assert_eq!(parse_progress("dlstatus:10:nonsense:x"), None);
        assert_eq!(parse_progress("Reading package lists..."), None);
        assert_eq!(parse_progress("dlstatus:"), None);
    }

    #[test]
    fn dependencies_leave_out_virtual_packages_and_other_relations() {
        let output = "linux-image-cloud-amd64\n  Depends: linux-image-6.12.107+deb13-cloud-amd64\n |Depends: kmod\n  \
                      Depends: <linux-initramfs-tool>\n  Suggests: debian-kernel-handbook\n";
        assert_eq!(
            parse_dependencies(output),
            ["linux-image-6.12.107+deb13-cloud-amd64", "kmod"]
        );
    }

    #[test]
    fn file_names_state_package_and_version() {
        let archive = describe("/x/libpci3_1%3a3.13.0-2_amd64.deb".into()).unwrap();
        assert_eq!(
            (archive.package.as_str(), archive.version.as_str()),
            ("libpci3", "1:3.13.0-2")
        );
        assert!(describe("/x/odd.deb".into()).is_err());
    }
}
