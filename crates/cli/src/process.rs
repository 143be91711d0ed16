//! Names of processes, for people.

/// `process 123 (qemu-system-x86)`, or without the name where it cannot be read.
pub(crate) fn describe(pid: u32) -> String {
    match name(pid) {
        Some(name) => format!("process {pid} ({name})"),
        None => format!("process {pid}"),
    }
}

/// The command name of a process, without control characters.
pub(crate) fn name(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    // The process chose it, and it goes to a terminal.
    let name: String = text
        .trim_end()
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_name_and_pid_0_has_none() {
        let pid = std::process::id();
        let name = name(pid).unwrap();
        assert_eq!(describe(pid), format!("process {pid} ({name})"));
        assert_eq!(describe(0), "process 0");
    }
}
