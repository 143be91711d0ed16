//! The program outside a guest: the same checks over vfio-user connections.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use hdv_devices::sriov_sensor::registers::VF_DEVICE_ID;

use crate::checks::{self, Check, Selection, Settings};
use crate::families;
use crate::init::{live, system};
use crate::platform::BarAccess;
use crate::platform::vfio_user::VfioUser;
use crate::report::{Line, Outcome};

/// How the program is used outside a guest.
pub const USAGE: &str = "\
Checks devices served over vfio-user, as the guest's first process does inside a guest.

usage: openhdv-guest --socket PATH [--socket PATH]... [OPTION]... [CHECK]...

  --socket PATH       a socket that serves a device; two sensors for the check two-sensors
  --vf                the sensors are VFs of the SR-IOV sensor
  --source KIND       what they measure: sine (values are checked) or any
  --samples N         samples of the check ring-samples (default 1000000)
  --period US         microseconds between samples there, to begin with (default 5)
  --live SECONDS      print samples for so long instead
  --live-period US    microseconds between samples then (default 250000)
  --help              print this

checks (default: all of the devices that are there): ";

/// What the command line asks for.
#[derive(Debug)]
struct Arguments {
    sockets: Vec<PathBuf>,
    settings: Settings,
    checks: Selection,
    live: Option<Duration>,
    live_period: u32,
}

/// The usage text with the names of the checks.
#[must_use]
pub fn usage() -> String {
    let names: Vec<_> = families::check_names().collect();
    format!("{USAGE}{}\n", names.join(" "))
}

/// Does what `arguments` (without the program's name) ask for and prints lines of
/// [`crate::report`]. The exit code is 0 when every check was passed, 1 when one failed, 2 for
/// arguments that cannot be understood.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.collect();
    if arguments.iter().any(|argument| argument == "--help") {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    match parse(arguments.into_iter()) {
        Ok(arguments) => run(&arguments),
        Err(why) => {
            eprintln!("openhdv-guest: {why}\n\n{}", usage());
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        sockets: Vec::new(),
        settings: Settings::default(),
        checks: Selection::all(),
        live: None,
        live_period: 250_000,
    };
    let mut checks = Vec::new();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        let mut number = || {
            value()?
                .parse::<u32>()
                .map_err(|error| format!("{word}: {error}"))
        };
        match word.as_str() {
            "--samples" => {
                arguments.settings.samples = number()?;
                arguments.settings.samples_of_two = arguments.settings.samples;
            }
            "--period" => arguments.settings.period = number()?,
            "--live" => arguments.live = Some(Duration::from_secs(number()?.into())),
            "--live-period" => arguments.live_period = number()?,
            "--vf" => arguments.settings.device_id = VF_DEVICE_ID,
            "--socket" => arguments.sockets.push(value()?.into()),
            "--source" => arguments.settings.source = value()?.parse()?,
            option if option.starts_with('-') => {
                return Err(format!("{option} is no option"));
            }
            _ => checks.push(word),
        }
    }
    if arguments.sockets.is_empty() {
        return Err("which device? --socket PATH says".to_owned());
    }
    if !checks.is_empty() {
        arguments.checks = families::select(checks.iter().map(String::as_str))?;
    }
    Ok(arguments)
}

fn run(arguments: &Arguments) -> ExitCode {
    println!(
        "{}",
        Line::Start {
            kernel: system::kernel(),
            round: 1,
            devices: arguments
                .sockets
                .iter()
                .map(|socket| socket.display().to_string())
                .collect(),
        }
    );
    let (mut passed, mut failed) = (0, 0);
    let mut sink = |line: Line| {
        match &line {
            Line::Check(outcome) if outcome.ok => passed += 1,
            Line::Check(_) => failed += 1,
            _ => {}
        }
        println!("{line}");
    };
    let (mut sensors, mut others) = (Vec::new(), Vec::new());
    for socket in &arguments.sockets {
        let connected =
            VfioUser::connect(socket).and_then(|device| Ok((device.identity()?, device)));
        match connected {
            Ok((identity, device)) => match families::of(identity) {
                Some(family) => others.push((family, device)),
                // A stranger too: the sensor's checks tell what it is instead.
                None => sensors.push(device),
            },
            Err(error) => sink(single("connect", socket, Err(error.to_string()))),
        }
    }
    if let Some(duration) = arguments.live {
        for device in sensors.into_iter().take(1) {
            let socket = PathBuf::from(device.name());
            let shown = live::show(device, duration, arguments.live_period, &mut sink);
            let shown = shown
                .map(|count| format!("{count} samples read"))
                .map_err(|error| error.to_string());
            sink(single("live", &socket, shown));
        }
    } else {
        let (selection, settings) = (&arguments.checks, &arguments.settings);
        for (family, device) in &others {
            family.check(device, selection, settings, &mut sink);
        }
        let mut checks = selection.of_sensors();
        if selection.is_all() {
            if sensors.len() < 2 {
                checks.retain(|&check| check != Check::TwoSensors);
            }
            if sensors.is_empty() {
                checks.clear();
            }
        }
        checks::run(&checks, sensors, settings, &mut |outcome| {
            sink(Line::Check(outcome));
        });
    }
    let ok = failed == 0 && passed > 0;
    println!(
        "{}",
        Line::Done {
            done: true,
            ok,
            round: 1,
            kernel: system::kernel(),
            passed,
            failed,
            rebooting: false,
        }
    );
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn single(name: &str, socket: &Path, verdict: Result<String, String>) -> Line {
    Line::Check(Outcome {
        name: name.to_owned(),
        ok: verdict.is_ok(),
        detail: verdict.unwrap_or_else(|what| what),
        device: socket.display().to_string(),
        transport: "vfio-user".to_owned(),
        round: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> impl Iterator<Item = String> + '_ {
        text.split_whitespace().map(str::to_owned)
    }

    #[test]
    fn arguments_are_read() {
        let arguments = parse(words(
            "--socket a --socket b --vf --samples 7 --source any identity registers",
        ))
        .unwrap();
        assert_eq!(arguments.settings.device_id, VF_DEVICE_ID);
        assert_eq!(arguments.sockets.len(), 2);
        assert_eq!(arguments.settings.samples, 7);
        assert_eq!(arguments.settings.source, checks::Source::Any);
        assert_eq!(
            arguments.checks.of_sensors(),
            [Check::Identity, Check::Registers]
        );
    }

    #[test]
    fn every_check_is_made_when_none_is_named() {
        assert!(parse(words("--socket a")).unwrap().checks.is_all());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "--socket",
            "--socket a --fast",
            "--socket a x",
            "--socket a --samples x",
        ] {
            assert!(parse(words(text)).is_err(), "{text}");
        }
    }
}
