//! `cargo xtask install`: the C library under both of its names, its headers, its pkg-config file, the worker of compute
//! systems and the command, built and put under a prefix.
//!
//! What goes where is in `plan`, how it gets there in `place`.

mod place;
mod plan;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::cargo::{cargo, workspace};
use crate::ui::Ui;
use place::Placed;

/// The package of the C library.
const LIBRARY: &str = "openhdv-capi";
/// The package of the worker.
const WORKER: &str = "openhdv-compute";
/// The package of the command.
const COMMAND: &str = "openhdv-cli";

/// What the user asks for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The directory below which lib, libexec, include and bin are; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) prefix: PathBuf,
    /// Put everything below this directory, for packaging: the files themselves still speak of the
    /// prefix alone.
    #[arg(long, value_name = "DIR")]
    pub(crate) destdir: Option<PathBuf>,
    /// Install an unoptimized build.
    #[arg(long)]
    pub(crate) debug: bool,
    /// End with one line of JSON on standard output instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Why nothing, or not everything, was installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error("{doing} {}: {source}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cargo cannot be run: {0}")]
    Cargo(io::Error),
    #[error("{packages} cannot be built ({status}): what the compiler said is above")]
    Build {
        packages: String,
        status: std::process::ExitStatus,
    },
    #[error("building {package} brought no {what}")]
    NoArtifact {
        package: &'static str,
        what: &'static str,
    },
    #[error("{}: a pkg-config file cannot name a prefix that is not UTF-8 or has a line break", .0.display())]
    Prefix(PathBuf),
    #[error("{}: {name} is left in it after everything known was filled in", template.display())]
    Template { template: PathBuf, name: String },
}

/// Says what was being done to a path when it failed.
fn at<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> InstallError + 'a {
    move |source| InstallError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// What was installed.
#[derive(Debug, Serialize)]
pub(crate) struct Installed {
    ok: bool,
    prefix: PathBuf,
    files: Vec<Placed>,
}

/// Installs and prints what was installed; true if all of it was.
pub(crate) fn run(arguments: &Arguments) -> bool {
    let ui = Ui::new();
    let result = install(arguments, &ui);
    ui.finish();
    match result {
        Ok(installed) => {
            print(&installed, arguments.json);
            true
        }
        Err(error) => {
            eprintln!("nothing more was installed: {error}");
            if arguments.json {
                println!(
                    "{}",
                    serde_json::json!({ "ok": false, "error": error.to_string() })
                );
            }
            false
        }
    }
}

/// Builds and installs.
pub(crate) fn install(arguments: &Arguments, ui: &Ui) -> Result<Installed, InstallError> {
    let prefix =
        std::path::absolute(&arguments.prefix).map_err(at("resolving", &arguments.prefix))?;
    let root = match &arguments.destdir {
        None => prefix.clone(),
        Some(destdir) => {
            let below: PathBuf = prefix
                .components()
                .filter(|component| matches!(component, std::path::Component::Normal(_)))
                .collect();
            std::path::absolute(destdir)
                .map_err(at("resolving", destdir))?
                .join(below)
        }
    };
    ui.doing("building the C library, the worker and the command");
    let built = build(&[LIBRARY, WORKER, COMMAND], arguments.debug)?;
    let sources = plan::Sources {
        shared: find(&built, LIBRARY, "shared library", "libcomputecore.so")?,
        r#static: find(&built, LIBRARY, "static library", "libcomputecore.a")?,
        command: find(&built, COMMAND, "program", "hdv")?,
        worker: find(&built, WORKER, "program", "openhdv-worker")?,
        capi: workspace().join("crates/capi"),
    };
    ui.doing(&format!("installing into {}", root.display()));
    let files = plan::plan(&sources, &prefix)?
        .iter()
        .map(|item| place::place(item, &root))
        .collect::<Result<_, _>>()?;
    Ok(Installed {
        ok: true,
        prefix,
        files,
    })
}

/// Builds packages; the files that came of them. Together: one by one cargo would build what they share once for each, with the
/// features that it alone asks for.
fn build(packages: &[&'static str], debug: bool) -> Result<Vec<PathBuf>, InstallError> {
    let mut command = cargo([
        "build",
        "--locked",
        "--message-format=json-render-diagnostics",
    ]);
    for package in packages {
        command.args(["--package", package]);
    }
    if !debug {
        command.arg("--release");
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(InstallError::Cargo)?;
    if !output.status.success() {
        return Err(InstallError::Build {
            packages: packages.join(", "),
            status: output.status,
        });
    }
    let mut files = Vec::new();
    for message in serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter::<serde_json::Value>()
        .flatten()
    {
        let names = message["filenames"].as_array().into_iter().flatten();
        files.extend(
            names
                .chain([&message["executable"]])
                .filter_map(|name| name.as_str())
                .map(PathBuf::from),
        );
    }
    Ok(files)
}

fn find(
    files: &[PathBuf],
    package: &'static str,
    what: &'static str,
    name: &str,
) -> Result<PathBuf, InstallError> {
    files
        .iter()
        .find(|file| file.file_name().is_some_and(|found| found == name))
        .cloned()
        .ok_or(InstallError::NoArtifact { package, what })
}

fn print(installed: &Installed, json: bool) {
    if json {
        match serde_json::to_string(installed) {
            Ok(line) => println!("{line}"),
            Err(error) => eprintln!("the report has no JSON: {error}"),
        }
        return;
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(["file", "what", "size", ""]);
    for file in &installed.files {
        table.add_row([
            file.path.display().to_string(),
            file.what.to_owned(),
            file.size(),
            file.change.to_string(),
        ]);
    }
    println!("{table}");
    println!(
        "\n{} files. Programs find the library with:\n  export PKG_CONFIG_PATH={prefix}/lib/pkgconfig LD_LIBRARY_PATH={prefix}/lib\n  cc program.c $(pkg-config --cflags --libs openhdv)",
        installed.files.len(),
        prefix = installed.prefix.display()
    );
}
