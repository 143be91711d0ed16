//! Consoles on a terminal. The test is the guest: it has QEMU's end of the serial port.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use rustix::process::{Signal, WaitOptions, waitpid};
use serde_json::json;

use super::terminal::OnTerminal;
use super::{document, place, remains, wait_for, write};
use crate::support::{GENEROUS, Place};

const LEAVE: &[u8] = b"\x1d";

/// A compute system that is not started, and QEMU's end of its serial port.
struct Guest {
    place: Place,
    port: UnixStream,
}

impl Guest {
    fn new() -> Self {
        let place = place();
        write(&place, "vm.json", &document(&json!({})));
        place.stdout(&["create", "vm.json"]);
        let console = place.json(&["console", "--json", "vm"]);
        let socket = console["socket"].as_str().unwrap();
        let qemu = socket.replace("com0.sock", "com0.qemu.sock");
        let port = UnixStream::connect(qemu).unwrap();
        port.set_read_timeout(Some(GENEROUS)).unwrap();
        Self { place, port }
    }

    fn says(&mut self, text: &str) {
        self.port.write_all(text.as_bytes()).unwrap();
    }

    fn hears(&mut self, bytes: &[u8]) {
        let mut heard = vec![0; bytes.len()];
        self.port.read_exact(&mut heard).unwrap();
        assert_eq!(heard, bytes);
    }

    fn console(&self) -> OnTerminal {
        OnTerminal::start(self.place.command(&["console", "vm"]))
    }

    fn ends(self) {
        self.place.stdout(&["stop", "--force", "vm"]);
        self.has_ended();
    }

    fn has_ended(self) {
        wait_for("the end of the worker", || remains(&self.place).is_empty());
    }
}

#[test]
fn every_key_goes_to_the_guest_until_the_terminal_leaves() {
    let mut guest = Guest::new();
    guest.says("booted\r\nlogin: ");
    let mut terminal = guest.console();
    terminal.shows("Ctrl-]");
    // What was said before comes first.
    terminal.shows("booted\r\nlogin: ");
    assert!(terminal.is_raw());
    terminal.types(b"\x03\x1a\x1c\x04\r\n\x7f\xc3\xb6\x1b[A");
    guest.hears(b"\x03\x1a\x1c\x04\r\n\x7f\xc3\xb6\x1b[A");
    guest.says("\u{1b}[31mf\u{fc}nf\r\n");
    terminal.shows("\u{1b}[31mf\u{fc}nf\r\n");
    // A second terminal sees and says the same.
    let mut second = guest.console();
    second.shows("f\u{fc}nf");
    second.types(b"two");
    guest.hears(b"two");
    second.types(LEAVE);
    assert!(second.end().success());

    terminal.types(b"last words\x1dnever");
    guest.hears(b"last words");
    assert!(terminal.end().success());
    guest.ends();
}

#[test]
fn signals_leave_the_terminal_as_it_was() {
    let guest = Guest::new();
    for (signal, code) in [
        (Signal::TERM, 143),
        (Signal::HUP, 129),
        (Signal::INT, 130),
        (Signal::QUIT, 131),
    ] {
        let mut terminal = guest.console();
        terminal.shows("Ctrl-]");
        wait_for("raw mode", || terminal.is_raw());
        terminal.send(signal);
        assert_eq!(terminal.end().code(), Some(code), "{signal:?}");
    }
    guest.ends();
}

#[test]
fn a_stopped_console_gives_the_terminal_back_meanwhile() {
    let mut guest = Guest::new();
    let mut terminal = guest.console();
    terminal.shows("Ctrl-]");
    wait_for("raw mode", || terminal.is_raw());
    terminal.send(Signal::TSTP);
    let (_, status) = waitpid(Some(terminal.pid()), WaitOptions::UNTRACED)
        .unwrap()
        .unwrap();
    assert!(status.stopped());
    assert!(!terminal.is_raw());
    terminal.send(Signal::CONT);
    wait_for("raw mode", || terminal.is_raw());
    guest.says("still here");
    terminal.shows("still here");
    terminal.types(LEAVE);
    assert!(terminal.end().success());
    guest.ends();
}

#[test]
fn a_screen_that_takes_nothing_costs_no_input_and_holds_no_end_up() {
    let mut guest = Guest::new();
    let mut terminal = guest.console();
    terminal.shows("Ctrl-]");
    wait_for("raw mode", || terminal.is_raw());
    terminal.hold(true);
    // More than terminal and sockets hold: the worker says then that this one misses something.
    guest.says(&"words ".repeat(100_000));
    for piece in [b"one".as_slice(), b"two", b"three"] {
        terminal.types(piece);
        guest.hears(piece);
    }
    terminal.hold(false);
    terminal.shows("words words");
    guest.says("THE END");
    terminal.shows("THE END");
    // Nobody waits for a screen that takes nothing.
    terminal.hold(true);
    terminal.send(Signal::TERM);
    assert_eq!(terminal.end().code(), Some(143));
    terminal.hold(false);
    guest.ends();
}

#[test]
fn the_end_of_the_guest_is_the_end_of_the_console() {
    let mut guest = Guest::new();
    let mut terminal = guest.console();
    guest.says("bye\r\n");
    terminal.shows("bye\r\n");
    guest.port.shutdown(std::net::Shutdown::Both).unwrap();
    terminal.shows("the VM has ended");
    assert!(terminal.end().success());
    guest.ends();
}

#[test]
fn the_end_of_the_worker_is_the_end_of_the_console() {
    let guest = Guest::new();
    let mut terminal = guest.console();
    terminal.shows("Ctrl-]");
    wait_for("raw mode", || terminal.is_raw());
    guest.place.stdout(&["stop", "--force", "vm"]);
    assert!(terminal.end().success());
    guest.has_ended();
}

#[test]
fn without_a_terminal_input_and_output_are_passed_on() {
    let mut guest = Guest::new();
    guest.says("prompt> ");
    let mut child = guest
        .place
        .command(&["console", "vm"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Ctrl-] is nothing special here.
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"one\x1dtwo\n").unwrap();
    guest.hears(b"one\x1dtwo\n");
    drop(input);
    // It says nothing more, and listens on.
    guest.says("answer\n");
    guest.port.shutdown(std::net::Shutdown::Write).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"prompt> answer\n");
    guest.ends();
}
