//! Where the sensor's values come from. Registers and rings are not here.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use super::registers::sine_value;

/// The kernel updates the load average every five seconds; reading it for every sample would
/// only cost time.
const LOAD_INTERVAL: Duration = Duration::from_millis(250);
/// Chips measure a few times a second; a thousand reads of the file are enough to miss none, however many
/// sensors share the source.
const HWMON_INTERVAL: Duration = Duration::from_millis(1);
/// Largest file of recorded values, in bytes.
const CSV_LIMIT: u64 = 16 << 20;
/// Largest file of the kernel's, in bytes: it has one line.
const VALUE_LIMIT: u64 = 4096;
/// Characters of what is no value that are told.
const TOLD_MAX: usize = 40;
/// Where the kernel lists its hardware sensors.
const HWMON: &str = "/sys/class/hwmon";
const LOAD_AVERAGE: &str = "/proc/loadavg";

/// A source of values in thousandths. Many sensors may share one; none waits for another.
pub(crate) trait Source: Send + Sync {
    /// The value of a sensor's sample with this sequence number.
    fn value(&self, sequence: u32) -> Result<i32, SourceError>;
}

/// What a sensor measures, as its user names it: `load`, `hwmon`, `csv:PATH`, `sine`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceName {
    /// This machine's load average over one minute.
    Load,
    /// The first temperature sensor of this machine, in degrees Celsius.
    Hwmon,
    /// Recorded values: the last column of each line, over and over, of a regular file of at most 16 MiB.
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
    pub(crate) fn open(&self) -> Result<Arc<dyn Source>, SourceError> {
        Ok(match self {
            Self::Load => Arc::new(File::new(
                LOAD_AVERAGE.into(),
                LOAD_INTERVAL,
                // The first of several numbers.
                |text| thousandths(text.split_whitespace().next()?),
            )?),
            Self::Hwmon => Arc::new(File::new(
                find_hwmon()?,
                HWMON_INTERVAL,
                // The kernel gives thousandths of a degree.
                |text| text.trim().parse().ok(),
            )?),
            Self::Csv(path) => Arc::new(Recorded::load(path)?),
            Self::Sine => Arc::new(Sine),
        })
    }
}

struct Sine;

impl Source for Sine {
    fn value(&self, sequence: u32) -> Result<i32, SourceError> {
        Ok(sine_value(sequence))
    }
}

/// A file of the kernel's that holds the value of the moment.
struct File {
    path: PathBuf,
    /// How long a value that was read stands for the next ones.
    interval: Duration,
    parse: fn(&str) -> Option<i32>,
    origin: Instant,
    latest: AtomicI32,
    /// When the file is to be read again, in nanoseconds after `origin`.
    due: AtomicU64,
    /// Held by whoever reads the file; the others take the latest value meanwhile.
    reading: Mutex<()>,
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
            origin: Instant::now(),
            latest: AtomicI32::new(latest),
            due: AtomicU64::new(nanoseconds(interval)),
            reading: Mutex::new(()),
        })
    }

    fn now(&self) -> u64 {
        nanoseconds(self.origin.elapsed())
    }

    fn is_due(&self) -> bool {
        self.now() >= self.due.load(Ordering::Relaxed)
    }
}

impl Source for File {
    fn value(&self, _sequence: u32) -> Result<i32, SourceError> {
        if self.is_due() {
            let reading = match self.reading.try_lock() {
                Ok(guard) => Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
            // Another one may have read it in between.
            if reading.is_some() && self.is_due() {
                let value = read_value(&self.path, self.parse)?;
                self.latest.store(value, Ordering::Relaxed);
                let due = self.now().saturating_add(nanoseconds(self.interval));
                self.due.store(due, Ordering::Relaxed);
            }
        }
        Ok(self.latest.load(Ordering::Relaxed))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    // 584 years fit.
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn read_value(path: &Path, parse: fn(&str) -> Option<i32>) -> Result<i32, SourceError> {
    let text = read(path, VALUE_LIMIT)?;
    parse(&text).ok_or_else(|| SourceError::Value {
        path: path.to_owned(),
        line: 1,
        text: told(text.trim()),
    })
}

/// As much of a text as errors show.
fn told(text: &str) -> String {
    let mut told: String = text.chars().take(TOLD_MAX).collect();
    if told.len() < text.len() {
        told.push_str("...");
    }
    told
}

fn read(path: &Path, limit: u64) -> Result<String, SourceError> {
    crate::read_text(path, limit).map_err(|source| SourceError::Read {
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

/// Values of a file, over and over: every sensor's first sample is the first value.
struct Recorded(Vec<i32>);

impl Recorded {
    fn load(path: &Path) -> Result<Self, SourceError> {
        let text = read(path, CSV_LIMIT)?;
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
                        text: told(cell),
                    });
                }
            }
        }
        if values.is_empty() {
            return Err(SourceError::Empty(path.to_owned()));
        }
        Ok(Self(values))
    }
}

impl Source for Recorded {
    fn value(&self, sequence: u32) -> Result<i32, SourceError> {
        // 32 bits fit where this is built; there is a value at least.
        let index = usize::try_from(sequence).unwrap_or_default() % self.0.len();
        Ok(self.0[index])
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
        let source = SourceName::Csv(file.path().into()).open().unwrap();
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
    fn what_is_no_file_of_values_is_told_shortly() {
        let open = |path: &Path| SourceName::Csv(path.into()).open().err().unwrap();
        let error = open("/dev/zero".as_ref()).to_string();
        assert_eq!(
            error,
            "/dev/zero: it is no regular file; copy what it gives into one"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("1\n{}", "x".repeat(1 << 20))).unwrap();
        let error = open(file.path()).to_string();
        assert!(error.len() < 200 && error.contains("xx...\""), "{error}");
    }

    fn file(path: &Path, interval: Duration) -> File {
        File::new(path.to_owned(), interval, |text| text.trim().parse().ok()).unwrap()
    }

    #[test]
    fn a_file_is_read_again_when_its_value_is_old() {
        let stored = tempfile::NamedTempFile::new().unwrap();
        fs::write(stored.path(), "1").unwrap();
        let (fresh, old) = (
            file(stored.path(), Duration::ZERO),
            file(stored.path(), Duration::from_secs(1 << 20)),
        );
        fs::write(stored.path(), "2").unwrap();
        assert_eq!(fresh.value(0).unwrap(), 2);
        assert_eq!(old.value(0).unwrap(), 1);
        fs::write(stored.path(), "moon").unwrap();
        assert!(fresh.value(1).is_err());
        assert_eq!(old.value(1).unwrap(), 1);
    }

    #[test]
    fn nobody_waits_for_another_one_that_reads_the_file() {
        let stored = tempfile::NamedTempFile::new().unwrap();
        fs::write(stored.path(), "1").unwrap();
        let file = file(stored.path(), Duration::ZERO);
        fs::write(stored.path(), "2").unwrap();
        let reading = file.reading.lock().unwrap();
        assert_eq!(file.value(0).unwrap(), 1);
        drop(reading);
        assert_eq!(file.value(0).unwrap(), 2);
    }

    #[test]
    fn the_load_of_this_machine_is_a_value() {
        let value = SourceName::Load.open().unwrap().value(0).unwrap();
        assert!(value >= 0);
    }
}
