//! The root ports of a VM: which are free, and what is behind the others. A port stays taken until the guest has let go.

/// The ports, in their order on the bus.
#[derive(Debug)]
pub(super) struct Ports {
    ports: Vec<Port>,
}

#[derive(Debug)]
struct Port {
    name: String,
    /// QEMU's name for what is behind it.
    device: Option<String>,
}

impl Ports {
    /// Free ones of these names.
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self {
            ports: names
                .into_iter()
                .map(|name| Port { name, device: None })
                .collect(),
        }
    }

    /// Takes the first free port for a device; `None` if there is none.
    pub(super) fn take(&mut self, device: &str) -> Option<String> {
        let port = self.ports.iter_mut().find(|port| port.device.is_none())?;
        port.device = Some(device.to_owned());
        Some(port.name.clone())
    }

    /// The device is gone; false if it was behind none.
    pub(super) fn free(&mut self, device: &str) -> bool {
        let port = self
            .ports
            .iter_mut()
            .find(|port| port.device.as_deref() == Some(device));
        port.is_some_and(|port| port.device.take().is_some())
    }

    /// Whether a device is behind a port.
    pub(super) fn holds(&self, device: &str) -> bool {
        self.ports
            .iter()
            .any(|port| port.device.as_deref() == Some(device))
    }

    /// Everything is gone.
    pub(super) fn free_all(&mut self) {
        for port in &mut self.ports {
            port.device = None;
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.ports.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_taken_once_and_comes_back_with_its_device_only() {
        let mut ports = Ports::new(["a".to_owned(), "b".to_owned()]);
        assert_eq!(ports.take("x").as_deref(), Some("a"));
        assert_eq!(ports.take("y").as_deref(), Some("b"));
        assert_eq!(ports.take("z"), None);
        assert!(!ports.free("z"));
        assert!(ports.holds("x") && !ports.holds("z"));
        assert!(ports.free("x"));
        assert!(!ports.holds("x"));
        assert!(!ports.free("x"));
        assert_eq!(ports.take("z").as_deref(), Some("a"));
        ports.free_all();
        assert_eq!(ports.take("w").as_deref(), Some("a"));
        assert_eq!(ports.count(), 2);
    }
}
