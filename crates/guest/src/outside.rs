//! The program outside a guest: the same checks over vfio-user connections.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::checks::{self, Check, Settings};
use crate::init::{live, system};
use crate::platform::vfio_user::VfioUser;
use crate::report::{Line, Outcome};

/// How the program is used outside a guest.
pub const USAGE: &str = "\
Checks sensors served over vfio-user, as the guest's first process does inside a guest.

usage: openhdv-guest --socket PATH [--socket PATH]... [OPTION]... [CHECK]...

  --socket PATH       a socket that serves a sensor; two for the check two-sensors
  --source KIND       what they measure: sine (values are checked) or any
  --samples N         samples of the check ring-samples (default 1000000)
  --period US         microseconds between samples there, to begin with (default 5)
  --live SECONDS      print samples for so long instead
  --live-period US    microseconds between samples then (default 250000)
  --help              print this

checks (default: all, two-sensors only with two sockets): ";

/// What the command line asks for.
#[derive(Debug)]
struct Arguments {
    sockets: Vec<PathBuf>,
    settings: Settings,
    checks: Vec<Check>,
    live: Option<Duration>,
    live_period: u32,
}

/// The usage text with the names of the checks.
#[must_use]
pub fn usage() -> String {
    let names: Vec<_> = Check::ALL.iter().map(|check| check.name()).collect();
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
        checks: Vec::new(),
        live: None,
        live_period: 250_000,
    };
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
            "--socket" => arguments.sockets.push(value()?.into()),
            "--source" => arguments.settings.source = value()?.parse()?,
            option if option.starts_with('-') => {
                return Err(format!("{option} is no option"));
            }
            check => arguments.checks.push(check.parse()?),
        }
    }
    if arguments.sockets.is_empty() {
        return Err("which sensor? --socket PATH says".to_owned());
    }
    if arguments.checks.is_empty() {
        arguments.checks = Check::ALL.to_vec();
        if arguments.sockets.len() < 2 {
            arguments.checks.retain(|&check| check != Check::TwoSensors);
        }
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
    let mut sink = |outcome: Outcome| {
        if outcome.ok {
            passed += 1;
        } else {
            failed += 1;
        }
        println!("{}", Line::Check(outcome));
    };
    let mut devices = Vec::new();
    for socket in &arguments.sockets {
        match VfioUser::connect(socket) {
            Ok(device) => devices.push(device),
            Err(error) => sink(Outcome {
                name: "connect".to_owned(),
                ok: false,
                detail: error.to_string(),
                device: socket.display().to_string(),
                transport: "vfio-user".to_owned(),
                round: 1,
            }),
        }
    }
    if let Some(duration) = arguments.live {
        for device in devices.into_iter().take(1) {
            let shown = live::show(device, duration, arguments.live_period, &mut |line| {
                println!("{line}");
            });
            sink(Outcome {
                name: "live".to_owned(),
                ok: shown.is_ok(),
                detail: shown.map_or_else(
                    |error| error.to_string(),
                    |count| format!("{count} samples read"),
                ),
                device: arguments.sockets[0].display().to_string(),
                transport: "vfio-user".to_owned(),
                round: 1,
            });
        }
    } else {
        checks::run(&arguments.checks, devices, &arguments.settings, &mut sink);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> impl Iterator<Item = String> + '_ {
        text.split_whitespace().map(str::to_owned)
    }

    #[test]
    fn arguments_are_read() {
        let arguments = parse(words(
            "--socket a --socket b --samples 7 --source any identity registers",
        ))
        .unwrap();
        assert_eq!(arguments.sockets.len(), 2);
        assert_eq!(arguments.settings.samples, 7);
        assert_eq!(arguments.settings.source, checks::Source::Any);
        assert_eq!(arguments.checks, [Check::Identity, Check::Registers]);
    }

    #[test]
    fn two_sensors_want_two_sockets() {
        let one = parse(words("--socket a")).unwrap();
        assert!(!one.checks.contains(&Check::TwoSensors));
        let two = parse(words("--socket a --socket b")).unwrap();
        assert_eq!(two.checks, Check::ALL);
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
