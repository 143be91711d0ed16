//! Which devices `hdv serve` is to serve: the groups of its command line and its TOML file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use hdv_devices::domain::setting_text;
use serde::Deserialize;
use thiserror::Error;

use crate::args::POLL_MAX;

/// Most devices of one process.
pub(crate) const DEVICE_LIMIT: usize = 4096;
/// Largest configuration file, in bytes.
const CONFIG_LIMIT: u64 = 4 << 20;

/// What is to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A device.
    Device(DeviceRequest),
    /// A domain.
    Domain(DomainRequest),
}

impl Request {
    /// Where to listen.
    pub(crate) fn socket(&self) -> &Path {
        match self {
            Self::Device(device) => &device.socket,
            Self::Domain(domain) => &domain.socket,
        }
    }
}

/// One domain to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DomainRequest {
    /// The file that describes it.
    pub(crate) file: PathBuf,
    /// Where to listen.
    pub(crate) socket: PathBuf,
}

/// One device to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceRequest {
    /// The emulator's name.
    pub(crate) device: String,
    /// Where to listen.
    pub(crate) socket: PathBuf,
    /// Settings, each key once.
    pub(crate) settings: BTreeMap<String, String>,
}

/// A configuration file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Microseconds to poll before blocking.
    pub(crate) poll: Option<u64>,
    /// What is to be served: devices, then domains, in the order of the file.
    pub(crate) requests: Vec<Request>,
}

/// Devices that are not described completely.
#[derive(Debug, Error)]
pub(crate) enum GroupError {
    #[error(
        "{option} {value} comes before the first --device or --domain: each group is --device NAME --socket PATH [--set \
         KEY=VALUE]..., or --domain FILE.toml --socket PATH"
    )]
    NoDevice { option: &'static str, value: String },
    #[error("{group} (number {number}) has no --socket PATH")]
    NoSocket { group: String, number: usize },
    #[error(
        "{group} (number {number}) has two sockets, {first} and {second}; begin a further one with --device or --domain"
    )]
    TwoSockets {
        group: String,
        number: usize,
        first: String,
        second: String,
    },
    #[error("--set {value} is not of the form KEY=VALUE")]
    NoValue { value: String },
    #[error("--set {key}=... is given twice for {group} (number {number})")]
    SetTwice {
        key: String,
        group: String,
        number: usize,
    },
    #[error(
        "--set {value} stands behind {group} (number {number}): the settings of the devices in a domain are in its file"
    )]
    SetOfDomain {
        value: String,
        group: String,
        number: usize,
    },
    #[error(
        "there is no device to serve: give --device NAME --socket PATH, --domain FILE.toml --socket PATH, or --config FILE.toml; \
         `hdv devices` lists the names"
    )]
    Nothing,
    #[error("{count} devices are too many for one process; the limit is {DEVICE_LIMIT}")]
    TooMany { count: usize },
    #[error("two devices are to listen on {}; give each a socket of its own", path.display())]
    SameSocket { path: PathBuf },
    #[error("cannot read {}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not a list of devices: {source}", path.display())]
    Toml {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("{}: {message}", path.display())]
    Setting { path: PathBuf, message: String },
}

/// What stands on the command line, in its order.
#[derive(Debug)]
enum Item {
    Device(String),
    Domain(PathBuf),
    Socket(PathBuf),
    Set(String),
}

/// The groups of a command line that has the arguments `device`, `domain`, `socket` and `set`.
pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Vec<Request>, GroupError> {
    let mut items = Vec::new();
    collect(matches, "device", &mut items, Item::Device);
    collect(matches, "domain", &mut items, Item::Domain);
    collect(matches, "socket", &mut items, Item::Socket);
    collect(matches, "set", &mut items, Item::Set);
    items.sort_by_key(|(index, _)| *index);
    group(items.into_iter().map(|(_, item)| item))
}

fn collect<T: Clone + Send + Sync + 'static>(
    matches: &ArgMatches,
    name: &str,
    items: &mut Vec<(usize, Item)>,
    wrap: fn(T) -> Item,
) {
    if let (Some(indices), Some(values)) = (matches.indices_of(name), matches.get_many::<T>(name)) {
        items.extend(indices.zip(values.cloned().map(wrap)));
    }
}

/// What a group begins with.
enum Head {
    Device(String),
    Domain(PathBuf),
}

/// A group of which not everything has been seen.
struct Partial {
    head: Head,
    number: usize,
    socket: Option<PathBuf>,
    settings: BTreeMap<String, String>,
}

impl Partial {
    /// What errors call it.
    fn group(&self) -> String {
        match &self.head {
            Head::Device(name) => format!("--device {name}"),
            Head::Domain(file) => format!("--domain {}", file.display()),
        }
    }

    fn complete(self) -> Result<Request, GroupError> {
        let group = self.group();
        let Some(socket) = self.socket else {
            return Err(GroupError::NoSocket {
                group,
                number: self.number,
            });
        };
        Ok(match self.head {
            Head::Device(device) => Request::Device(DeviceRequest {
                device,
                socket,
                settings: self.settings,
            }),
            Head::Domain(file) => Request::Domain(DomainRequest { file, socket }),
        })
    }

    fn set_socket(&mut self, path: PathBuf) -> Result<(), GroupError> {
        if let Some(first) = &self.socket {
            return Err(GroupError::TwoSockets {
                group: self.group(),
                number: self.number,
                first: first.display().to_string(),
                second: path.display().to_string(),
            });
        }
        self.socket = Some(path);
        Ok(())
    }

    fn set(&mut self, text: String) -> Result<(), GroupError> {
        let (group, number) = (self.group(), self.number);
        if matches!(self.head, Head::Domain(_)) {
            return Err(GroupError::SetOfDomain {
                value: text,
                group,
                number,
            });
        }
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(GroupError::NoValue { value: text });
        };
        if self
            .settings
            .insert(key.to_owned(), value.to_owned())
            .is_some()
        {
            return Err(GroupError::SetTwice {
                key: key.to_owned(),
                group,
                number,
            });
        }
        Ok(())
    }
}

fn group(items: impl Iterator<Item = Item>) -> Result<Vec<Request>, GroupError> {
    let mut done = Vec::new();
    let mut current: Option<Partial> = None;
    for item in items {
        let head = match (item, &mut current) {
            (Item::Device(device), _) => Head::Device(device),
            (Item::Domain(file), _) => Head::Domain(file),
            (Item::Socket(path), None) => {
                return Err(GroupError::NoDevice {
                    option: "--socket",
                    value: path.display().to_string(),
                });
            }
            (Item::Set(value), None) => {
                return Err(GroupError::NoDevice {
                    option: "--set",
                    value,
                });
            }
            (Item::Socket(path), Some(partial)) => {
                partial.set_socket(path)?;
                continue;
            }
            (Item::Set(text), Some(partial)) => {
                partial.set(text)?;
                continue;
            }
        };
        if let Some(partial) = current.take() {
            done.push(partial.complete()?);
        }
        current = Some(Partial {
            head,
            number: done.len() + 1,
            socket: None,
            settings: BTreeMap::new(),
        });
    }
    if let Some(partial) = current {
        done.push(partial.complete()?);
    }
    Ok(done)
}

/// Checks what concerns all devices together.
pub(crate) fn check(devices: &[Request]) -> Result<(), GroupError> {
    if devices.is_empty() {
        return Err(GroupError::Nothing);
    }
    if devices.len() > DEVICE_LIMIT {
        return Err(GroupError::TooMany {
            count: devices.len(),
        });
    }
    let mut sockets: Vec<&Path> = devices.iter().map(Request::socket).collect();
    sockets.sort_unstable();
    match sockets.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(GroupError::SameSocket {
            path: pair[0].to_owned(),
        }),
        None => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    poll: Option<u64>,
    #[serde(default, rename = "device")]
    devices: Vec<ConfigDevice>,
    #[serde(default, rename = "domain")]
    domains: Vec<ConfigDomain>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigDomain {
    file: PathBuf,
    socket: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigDevice {
    name: String,
    socket: PathBuf,
    #[serde(default)]
    set: toml::Table,
}

/// Reads a configuration file. Relative paths are relative to the working directory, as on the command line.
pub(crate) fn from_file(path: &Path) -> Result<Config, GroupError> {
    parse(path, &read(path)?)
}

/// The text of a regular file that is not too large.
pub(crate) fn read(path: &Path) -> Result<String, GroupError> {
    let read = |source| GroupError::Read {
        path: path.to_owned(),
        source,
    };
    hdv_devices::read_text(path, CONFIG_LIMIT).map_err(read)
}

fn parse(path: &Path, text: &str) -> Result<Config, GroupError> {
    let file: ConfigFile = toml::from_str(text).map_err(|source| GroupError::Toml {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let mut requests = Vec::new();
    for device in file.devices {
        let mut settings = BTreeMap::new();
        for (key, value) in device.set {
            let Some(text) = setting_text(&value) else {
                let message = format!(
                    "setting {key:?} of device {:?} is of type {}; a string, a number or a boolean is needed",
                    device.name,
                    value.type_str()
                );
                return Err(GroupError::Setting {
                    path: path.to_owned(),
                    message,
                });
            };
            settings.insert(key, text);
        }
        requests.push(Request::Device(DeviceRequest {
            device: device.name,
            socket: device.socket,
            settings,
        }));
    }
    let domain = |ConfigDomain { file, socket }| Request::Domain(DomainRequest { file, socket });
    requests.extend(file.domains.into_iter().map(domain));
    if let Some(poll) = file.poll
        && poll > POLL_MAX
    {
        return Err(GroupError::Setting {
            path: path.to_owned(),
            message: format!("poll = {poll} is out of range; at most {POLL_MAX} microseconds"),
        });
    }
    Ok(Config {
        poll: file.poll,
        requests,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    fn serve(line: &str) -> Result<Vec<Request>, GroupError> {
        let words = ["hdv", "serve"].into_iter().chain(line.split_whitespace());
        let matches = Cli::command().try_get_matches_from(words).unwrap();
        from_matches(matches.subcommand_matches("serve").unwrap())
    }

    fn domain(file: &str, socket: &str) -> Request {
        Request::Domain(DomainRequest {
            file: file.into(),
            socket: socket.into(),
        })
    }

    fn request(device: &str, socket: &str, settings: &[(&str, &str)]) -> Request {
        Request::Device(DeviceRequest {
            device: device.to_owned(),
            socket: socket.into(),
            settings: settings
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        })
    }

    #[test]
    fn each_device_begins_a_group() {
        let devices = serve(
            "--device a --socket /1 --set k=v --set e= --poll 5 --domain d.toml --socket /3 --device b --set x=y=z --socket /2",
        );
        let expected = [
            request("a", "/1", &[("k", "v"), ("e", "")]),
            domain("d.toml", "/3"),
            request("b", "/2", &[("x", "y=z")]),
        ];
        assert_eq!(devices.unwrap(), expected);
    }

    #[test]
    fn the_same_key_may_be_set_for_two_devices() {
        let devices = serve("--device a --socket /1 --set k=1 --device a --socket /2 --set k=2");
        let expected = [
            request("a", "/1", &[("k", "1")]),
            request("a", "/2", &[("k", "2")]),
        ];
        assert_eq!(devices.unwrap(), expected);
    }

    #[test]
    fn incomplete_groups_are_named() {
        for (line, part) in [
            ("--socket /1 --device a", "--socket /1 comes before"),
            ("--set k=v --device a --socket /1", "--set k=v comes before"),
            (
                "--device a --socket /1 --device b",
                "b (number 2) has no --socket",
            ),
            (
                "--device a --device b --socket /1",
                "a (number 1) has no --socket",
            ),
            (
                "--device a --socket /1 --socket /2",
                "two sockets, /1 and /2",
            ),
            ("--device a --socket /1 --set k", "--set k is not"),
            ("--device a --socket /1 --set =v", "--set =v is not"),
            (
                "--device a --socket /1 --set k=1 --set k=2",
                "--set k=... is given twice for --device a (number 1)",
            ),
            ("--domain d", "--domain d (number 1) has no --socket"),
            (
                "--domain d --socket /1 --set k=1",
                "--set k=1 stands behind --domain d (number 1)",
            ),
        ] {
            let error = serve(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn what_concerns_all_is_checked() {
        assert!(matches!(check(&[]), Err(GroupError::Nothing)));
        let one = request("a", "/1", &[]);
        check(&[one.clone(), request("a", "/2", &[])]).unwrap();
        let twice = [one.clone(), request("b", "/2", &[]), one.clone()];
        assert!(matches!(check(&twice), Err(GroupError::SameSocket { .. })));
        let many = vec![one; DEVICE_LIMIT + 1];
        assert!(matches!(check(&many), Err(GroupError::TooMany { .. })));
    }

    #[test]
    fn a_file_describes_the_same() {
        let text = r#"
            poll = 50
            [[device]]
            name = "sensor"
            socket = "/1"
            set = { source = "sine", period = 5, scale = 0.5, on = true }
            [[device]]
            name = "sensor"
            socket = "/2"
            [[domain]]
            file = "lab.toml"
            socket = "/3"
        "#;
        let settings = [
            ("source", "sine"),
            ("period", "5"),
            ("scale", "0.5"),
            ("on", "true"),
        ];
        let expected = Config {
            poll: Some(50),
            requests: vec![
                request("sensor", "/1", &settings),
                request("sensor", "/2", &[]),
                domain("lab.toml", "/3"),
            ],
        };
        assert_eq!(parse(Path::new("f"), text).unwrap(), expected);
    }

    #[test]
    fn a_bad_file_is_told_where() {
        let device = "[[device]]\nname = \"a\"\nsocket = \"/1\"\n";
        for (text, part) in [
            ("pool = 1".to_owned(), "pool"),
            ("poll = -1".to_owned(), "poll"),
            ("poll = 1000001".to_owned(), "at most 1000000"),
            ("[[device]]\nname = \"a\"".to_owned(), "socket"),
            (
                format!("{device}set = {{ k = [1] }}"),
                "\"k\" of device \"a\" is of type array",
            ),
            (format!("{device}speed = 1"), "speed"),
            ("[[".to_owned(), "line 1"),
        ] {
            let error = parse(Path::new("file.toml"), &text)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(part) && error.starts_with("file.toml"),
                "{text}: {error}"
            );
        }
    }
}
