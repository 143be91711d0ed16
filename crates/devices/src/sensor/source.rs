//! Where the sensor's values come from. Registers and rings are not here.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::registers::sine_value;

/// The kernel updates the load average every five seconds; reading it for every sample would
/// only cost time.
const LOAD_INTERVAL: Duration = Duration::from_millis(250);
/// Where the kernel lists its hardware sensors.
const HWMON: &str = "/sys/class/hwmon";
const LOAD_AVERAGE: &str = "/proc/loadavg";

/// A source of values in thousandths.
pub(super) trait Source: Send {
    /// The value for a sample.
    fn value(&mut self, sequence: u32) -> Result<i32, SourceError>;
}

/// What a sensor measures, as its user names it: `load`, `hwmon`, `csv:PATH`, `sine`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceName {
    /// This machine's load average over one minute.
    Load,
    /// The first temperature sensor of this machine, in degrees Celsius.
    Hwmon,
    /// Recorded values: the last column of each line, over and over.
    Csv(PathBuf),
    /// An exact sine, for tests ([`sine_value`]).
    Sine,
}

/// A source that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is no source of that name.
    #[error("there is no source {0:?}: use load, hwmon, csv:PATH or sine")]
    Unknown(String),
    /// A file could not be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What a file holds is not a value.
    #[error("{path}, line {line}: {text:?} is not a number between -2147483 and 2147483")]
    Value {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// A file without any value.
    #[error("{0}: no values: one number in the last column of each line is needed")]
    Empty(PathBuf),
    /// The machine has no sensor.
    #[error("this machine shows no temperature under {HWMON}: use source=load")]
    NoHwmon,
}

impl FromStr for SourceName {
    type Err = SourceError;

    fn from_str(name: &str) -> Result<Self, SourceError> {
        match name.split_once(':') {
            None if name == "load" => Ok(Self::Load),
            None if name == "hwmon" => Ok(Self::Hwmon),
            None if name == "sine" => Ok(Self::Sine),
            Some(("csv", path)) if !path.is_empty() => Ok(Self::Csv(path.into())),
            _ => Err(SourceError::Unknown(name.to_owned())),
        }
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load => f.write_str("load"),
            Self::Hwmon => f.write_str("hwmon"),
            Self::Csv(path) => write!(f, "csv:{}", path.display()),
            Self::Sine => f.write_str("sine"),
        }
    }
}

impl SourceName {
    /// Opens the source and sees that it gives values.
    pub(super) fn open(&self) -> Result<Box<dyn Source>, SourceError> {
        Ok(match self {
            Self::Load => Box::new(File::new(
                LOAD_AVERAGE.into(),
                LOAD_INTERVAL,
                // The first of several numbers.
                |text| thousandths(text.split_whitespace().next()?),
            )?),
            Self::Hwmon => Box::new(File::new(
                find_hwmon()?,
                Duration::ZERO,
                // The kernel gives thousandths of a degree.
                |text| text.trim().parse().ok(),
            )?),
            Self::Csv(path) => Box::new(Recorded::load(path)?),
            Self::Sine => Box::new(Sine),
        })
    }
}

struct Sine;

impl Source for Sine {
    fn value(&mut self, sequence: u32) -> Result<i32, SourceError> {
        Ok(sine_value(sequence))
    }
}

/// A file of the kernel's that holds the value of the moment.
struct File {
    path: PathBuf,
    /// How long a value that was read stands for the next ones.
    interval: Duration,
    parse: fn(&str) -> Option<i32>,
    latest: i32,
    read_at: Instant,
}

impl File {
    fn new(
        path: PathBuf,
        interval: Duration,
        parse: fn(&str) -> Option<i32>,
    ) -> Result<Self, SourceError> {
        let latest = read_value(&path, parse)?;
        Ok(Self {
            path,
            interval,
            parse,
            latest,
            read_at: Instant::now(),
        })
    }
}

impl Source for File {
    fn value(&mut self, _sequence: u32) -> Result<i32, SourceError> {
        let now = Instant::now();
        if now.duration_since(self.read_at) >= self.interval {
            self.latest = read_value(&self.path, self.parse)?;
            self.read_at = now;
        }
        Ok(self.latest)
    }
}

fn read_value(path: &Path, parse: fn(&str) -> Option<i32>) -> Result<i32, SourceError> {
    let text = read(path)?;
    parse(&text).ok_or_else(|| SourceError::Value {
        path: path.to_owned(),
        line: 1,
        text: text.trim().to_owned(),
    })
}

fn read(path: &Path) -> Result<String, SourceError> {
    fs::read_to_string(path).map_err(|source| SourceError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The first temperature of the first hardware monitor that has one.
fn find_hwmon() -> Result<PathBuf, SourceError> {
    let mut monitors: Vec<PathBuf> = fs::read_dir(HWMON)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("temp1_input")))
        .filter(|path| path.exists())
        .collect();
    monitors.sort();
    monitors.into_iter().next().ok_or(SourceError::NoHwmon)
}

/// Values of a file, over and over.
struct Recorded {
    values: Vec<i32>,
    next: usize,
}

impl Recorded {
    fn load(path: &Path) -> Result<Self, SourceError> {
        let text = read(path)?;
        let mut values = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let cell = line.rsplit([',', ';', '\t']).next().unwrap_or(line).trim();
            match thousandths(cell) {
                Some(value) => values.push(value),
                // The names of the columns, or an empty line at the end.
                None if index == 0 || line.trim().is_empty() => {}
                None => {
                    return Err(SourceError::Value {
                        path: path.to_owned(),
                        line: index + 1,
                        text: cell.to_owned(),
                    });
                }
            }
        }
        if values.is_empty() {
            return Err(SourceError::Empty(path.to_owned()));
        }
        Ok(Self { values, next: 0 })
    }
}

impl Source for Recorded {
    fn value(&mut self, _sequence: u32) -> Result<i32, SourceError> {
        let value = self.values[self.next];
        self.next = (self.next + 1) % self.values.len();
        Ok(value)
    }
}

/// A decimal number in thousandths, if it fits.
fn thousandths(text: &str) -> Option<i32> {
    let value: f64 = text.parse().ok()?;
    let scaled = (value * 1000.0).round();
    (f64::from(i32::MIN)..=f64::from(i32::MAX))
        .contains(&scaled)
        .then(|| {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the range was just checked"
            )]
            let scaled = scaled as i32;
            scaled
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_shown_alike() {
        for name in ["load", "hwmon", "csv:/a:b.csv", "sine"] {
            assert_eq!(name.parse::<SourceName>().unwrap().to_string(), name);
        }
        for name in ["", "csv", "csv:", "loads", "sine:1"] {
            assert!(name.parse::<SourceName>().is_err(), "{name}");
        }
    }

    #[test]
    fn numbers_become_thousandths() {
        assert_eq!(thousandths("1.2345"), Some(1235));
        assert_eq!(thousandths("-0.001"), Some(-1));
        assert_eq!(thousandths("2147483.647"), Some(i32::MAX));
        for text in ["2147483.648", "nan", "inf", "", "1,5"] {
            assert_eq!(thousandths(text), None, "{text}");
        }
    }

    #[test]
    fn recorded_values_come_in_order_and_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "time,value\n0,1.5\n1,-2\n\n").unwrap();
        let mut source = SourceName::Csv(file.path().into()).open().unwrap();
        let values: Vec<i32> = (0..4).map(|n| source.value(n).unwrap()).collect();
        assert_eq!(values, [1500, -2000, 1500, -2000]);

        fs::write(file.path(), "1\ntwo\n").unwrap();
        let error = SourceName::Csv(file.path().into()).open().err().unwrap();
        assert!(error.to_string().contains("line 2: \"two\""), "{error}");
        fs::write(file.path(), "value\n").unwrap();
        let error = SourceName::Csv(file.path().into()).open().err().unwrap();
        assert!(matches!(error, SourceError::Empty(_)), "{error}");
    }

    #[test]
    fn the_load_of_this_machine_is_a_value() {
        let value = SourceName::Load.open().unwrap().value(0).unwrap();
        assert!(value >= 0);
    }
}
