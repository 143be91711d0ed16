//! Network adapters on user-mode networks.

use serde_json::json;

use super::arguments::Arguments;

/// A network adapter (virtio-net) on a network of its own, which QEMU itself makes: the guest gets an address by DHCP and
/// reaches what the host's user reaches; nobody reaches the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserNetwork {
    /// Its address, six pairs of hexadecimal digits with colons; QEMU's choice otherwise.
    pub mac: Option<String>,
}

impl UserNetwork {
    /// Puts adapter `number` in.
    pub(super) fn put(&self, number: u32, arguments: &mut Arguments) {
        let network = format!("net{number}");
        arguments.json("-netdev", &json!({"type": "user", "id": network}));
        let mut adapter = json!({
            "driver": "virtio-net-pci", "id": format!("{network}-device"), "netdev": network,
        });
        if let Some(mac) = &self.mac {
            adapter["mac"] = json!(mac);
        }
        arguments.json("-device", &adapter);
    }
}
