//! A pseudo terminal, and commands that run on one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Action, LocalModes, Winsize, tcflow, tcgetattr, tcsetwinsize};

use crate::support::GENEROUS;

/// A command with its input and output on a terminal.
pub(crate) struct OnTerminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: Vec<u8>,
    /// The terminal's other side stays open, so that its modes can be asked for when the command has ended.
    terminal: OwnedFd,
}

impl OnTerminal {
    pub(crate) fn start(mut command: Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let terminal = ioctl_tiocgptpeer(&master, flags).unwrap();
        let end = || Stdio::from(terminal.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end());
        let child = child.spawn().unwrap();
        let mut output = File::from(master.try_clone().unwrap());
        let (sender, screen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = output.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keyboard: File::from(master),
            screen,
            seen: Vec::new(),
            terminal,
        }
    }

    pub(crate) fn types(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    /// Waits until the screen has shown this since the last such wait, and returns all of it.
    pub(crate) fn shows(&mut self, text: &str) -> String {
        let deadline = Instant::now() + GENEROUS;
        loop {
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            if let Some(start) = seen.find(text) {
                let rest = seen.as_bytes()[start + text.len()..].to_vec();
                self.seen = rest;
                return seen[..start].to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.extend(bytes),
                Err(_) => panic!("{text:?} is not on the screen: {seen:?}"),
            }
        }
    }

    /// Waits until the last that the screen has shown is this.
    pub(crate) fn comes_to(&mut self, text: &str) {
        let deadline = Instant::now() + GENEROUS;
        while !self.seen.ends_with(text.as_bytes()) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.extend(bytes),
                Err(_) => panic!(
                    "the screen does not end with {text:?}: {:?}",
                    String::from_utf8_lossy(&self.seen)
                ),
            }
        }
    }

    /// Makes the terminal so many rows high.
    pub(crate) fn resize(&self, rows: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.terminal, size).unwrap();
    }

    /// Whether keys come as they are typed.
    pub(crate) fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// The screen takes nothing any more, or goes on, as by Ctrl-S and Ctrl-Q.
    pub(crate) fn hold(&self, is_held: bool) {
        let action = if is_held { Action::OOff } else { Action::OOn };
        tcflow(&self.terminal, action).unwrap();
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Its end. The terminal is as it was.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let status = crate::support::wait_within(&mut self.child);
        assert!(!self.is_raw());
        status
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
