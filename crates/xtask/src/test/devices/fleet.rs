//! The programs in C that serve the devices, and what their hosts say of them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hdv_guest::families;
use hdv_qemu::guest::Scratch;
use serde_json::Value;

use crate::c::{Initialize, Library, Served, Variant};
use crate::cargo::target_directory;
use crate::test::Failure;
use crate::ui::Ui;

/// How long a program may take to serve, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is left for people to look at: two that the host made of what the guest drew, and one that the guest
/// made of a frame.
pub(super) const PICTURES: [&str; 3] = ["framebuffer.png", "framebuffer-late.png", "camera.png"];

/// The framebuffer's option to bring its memory late; its first.
const LATE: &str = "--late";

/// The families of the lab's devices begin with this, their names in the lab's output do not.
const LAB_PREFIX: &str = "lab-";

/// A served device.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// What the guest program knows its kind as.
    pub(super) kind: String,
    pub(super) socket: PathBuf,
}

/// BAR accesses that came to a host from the client of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accesses {
    pub(super) reads: u64,
    pub(super) writes: u64,
}

impl Accesses {
    pub(super) fn all(self) -> u64 {
        self.reads + self.writes
    }
}

/// Every program, and every device.
#[derive(Debug)]
pub(super) struct Fleet {
    programs: Vec<(String, Served)>,
    members: Vec<Member>,
    command: PathBuf,
    pictures: PathBuf,
    /// The framebuffers: one whose memory was there before QEMU asked, and one whose came later.
    pub(super) early: PathBuf,
    pub(super) late: PathBuf,
    late_command: (PathBuf, Vec<OsString>),
    /// Sensors whose hosts were made by the other functions there are for that.
    pub(super) others: Vec<PathBuf>,
    /// Holds the sockets.
    _scratch: Scratch,
}

impl Fleet {
    /// Builds and starts the programs.
    pub(super) fn start(ui: &Ui) -> Result<Self, Failure> {
        let library = Library::prepare(ui)?;
        ui.doing("building the devices");
        let pictures = target_directory()?.join("pictures");
        std::fs::create_dir_all(&pictures)?;
        for name in PICTURES {
            // Those of an earlier run would pass for this one's.
            match std::fs::remove_file(pictures.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        let scratch = Scratch::new()?;
        let mut fleet = Self {
            programs: Vec::new(),
            members: Vec::new(),
            command: library.prefix().join("bin/hdv"),
            pictures,
            early: PathBuf::new(),
            late: PathBuf::new(),
            late_command: Default::default(),
            others: Vec::new(),
            _scratch: scratch,
        };
        let c_plus_plus = Variant::all("sensor")
            .into_iter()
            .find(|variant| variant.language == crate::c::Language::Cxx17)
            .unwrap_or(Variant::PLAIN);
        let png = fleet.picture(PICTURES[0]);
        let late_png = fleet.picture(PICTURES[1]);
        fleet.example(&library, "sensor", Variant::PLAIN, &[])?;
        fleet.example(&library, "sensor", c_plus_plus, &[])?;
        for way in [Initialize::Ex, Initialize::Proxy, Initialize::ProxyEx] {
            let program = library.made_by("sensor", way)?;
            let socket = fleet.program(&program, "sensor", &[])?;
            fleet.others.push(socket);
        }
        fleet.example(&library, "camera", Variant::PLAIN, &[])?;
        fleet.early = fleet.example(
            &library,
            "framebuffer",
            Variant::PLAIN,
            &["--png".as_ref(), &png],
        )?;
        fleet.late = fleet.example(
            &library,
            "framebuffer",
            Variant::PLAIN,
            &[LATE.as_ref(), "--png".as_ref(), &late_png],
        )?;
        let program = library.example("vendor_style", Variant::PLAIN)?;
        fleet.program(&program, "greeter", &[])?;
        let program = library.example("pf", Variant::PLAIN)?;
        fleet.program(&program, "counting-pf", &["2".as_ref()])?;
        let mut command = Command::new(library.lab(Variant::PLAIN)?);
        command.arg(fleet._scratch.path());
        fleet.serve("lab", command)?;
        Ok(fleet)
    }

    /// Ends the framebuffer whose memory comes late and starts it again on the same socket.
    pub(super) fn renew_late(&mut self) -> Result<(), Failure> {
        let (program, arguments) = &self.late_command;
        let mut command = Command::new(program);
        command.args(arguments);
        let late = self
            .programs
            .iter()
            .position(|(_, served)| {
                served
                    .devices()
                    .iter()
                    .any(|device| device.socket == self.late)
            })
            .ok_or("the framebuffer whose memory comes late does not run")?;
        let (name, served) = self.programs.remove(late);
        served.end(PATIENCE)?;
        self.programs
            .push((name, Served::start(command, PATIENCE)?));
        Ok(())
    }

    /// Starts one of the examples; its socket.
    fn example(
        &mut self,
        library: &Library,
        name: &str,
        variant: Variant,
        options: &[&Path],
    ) -> Result<PathBuf, Failure> {
        self.program(&library.example(name, variant)?, name, options)
    }

    fn program(
        &mut self,
        program: &Path,
        name: &str,
        options: &[&Path],
    ) -> Result<PathBuf, Failure> {
        let instance = format!("5f3c6d1e-0000-4000-8000-{:012x}", self.members.len());
        let mut command = Command::new(program);
        command
            .arg(self._scratch.path())
            .arg(instance)
            .args(options);
        if options.first() == Some(&Path::new(LATE)) {
            self.late_command = (
                program.to_owned(),
                command.get_args().map(OsStr::to_owned).collect(),
            );
        }
        self.serve(name, command)?;
        let member = self.members.last().ok_or("it serves nothing")?;
        Ok(member.socket.clone())
    }

    fn serve(&mut self, name: &str, command: Command) -> Result<(), Failure> {
        let served = Served::start(command, PATIENCE)?;
        for device in served.devices() {
            let kind = match device.name.as_str() {
                "" => name.to_owned(),
                known if families::named(known).is_some() => known.to_owned(),
                known => format!("{LAB_PREFIX}{known}"),
            };
            self.members.push(Member {
                kind,
                socket: device.socket.clone(),
            });
        }
        self.programs.push((name.to_owned(), served));
        Ok(())
    }

    /// Every device.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Where a picture of this name is kept for people to look at.
    pub(super) fn picture(&self, name: &str) -> PathBuf {
        self.pictures.join(name)
    }

    /// What the hosts say of the device on a socket, over their control sockets.
    fn status(&self, socket: &Path) -> Result<Value, Failure> {
        let output = Command::new(&self.command)
            .args(["ls", "--json"])
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("hdv ls: {}: {said}", output.status).into());
        }
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        let hosts = answer["hosts"].as_array().into_iter().flatten();
        hosts
            .flat_map(|host| host["devices"].as_array().into_iter().flatten())
            .find(|device| device["socket"].as_str().map(Path::new) == Some(socket))
            .cloned()
            .ok_or_else(|| format!("hdv ls does not know {}", socket.display()).into())
    }

    /// BAR accesses of a device's client so far.
    pub(super) fn accesses(&self, socket: &Path) -> Result<Accesses, Failure> {
        let status = self.status(socket)?;
        let count = |name: &str| {
            status["client"][name]
                .as_u64()
                .ok_or_else(|| format!("{}: hdv ls tells no {name}: {status}", socket.display()))
        };
        Ok(Accesses {
            reads: count("bar_reads")?,
            writes: count("bar_writes")?,
        })
    }

    /// How many devices have a client.
    pub(super) fn clients(&self) -> Result<usize, Failure> {
        let mut clients = 0;
        for member in &self.members {
            // A host that is gone takes its device from the list.
            if let Ok(status) = self.status(&member.socket)
                && !status["client"].is_null()
            {
                clients += 1;
            }
        }
        Ok(clients)
    }

    /// Ends the programs; what each had to say against it.
    pub(super) fn end(self) -> Vec<(String, Result<(), String>)> {
        self.programs
            .into_iter()
            .map(|(name, served)| {
                let ended = served.end(PATIENCE);
                (name, ended.map(drop).map_err(|error| error.to_string()))
            })
            .collect()
    }
}
