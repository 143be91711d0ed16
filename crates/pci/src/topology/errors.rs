//! Error messages on their way up to a root port (6.2.4.1). What functions detect, and what root ports make of it, is in
//! `error_reporting`.

use super::{Member, Parent, PortId, Topology, TopologyError};
use crate::effects::Effects;
use crate::error_reporting::ErrorMessage;
use crate::port_view::PortKind;

impl Topology {
    /// The root port above a port or function, or the port itself; `None` if it is a function of the root bus, or there is no
    /// such thing.
    #[must_use]
    pub fn root_port(&self, member: Member) -> Option<PortId> {
        let (mut root, mut parent) = match member {
            Member::Port(port) => (Some(port), self.port_parent(port)?),
            Member::Function(function) => (None, self.parent(function)?),
        };
        while let Parent::Port(port) = parent {
            root = Some(port);
            parent = self.port_parent(port)?;
        }
        root
    }

    /// A port or function sends an error message: each port above passes it on, as far as software has set it so and its link is
    /// up, and the root port [receives](crate::ConfigSpace::receive_error) it, which has the effects. `None` if it does not
    /// get there.
    ///
    /// # Errors
    /// There is no such port or function.
    pub fn send_error(
        &mut self,
        from: Member,
        message: ErrorMessage,
    ) -> Result<Option<(PortId, Effects)>, TopologyError> {
        let (source, mut above) = match from {
            Member::Port(port) => (self.port_routing_id(port), self.port_parent(port)),
            Member::Function(function) => (self.routing_id(function), self.parent(function)),
        };
        let source = source.ok_or(match from {
            Member::Port(port) => TopologyError::NoPort(port),
            Member::Function(function) => TopologyError::NoFunction(function),
        })?;
        if let Member::Port(port) = from
            && self.port_kind(port) == Some(PortKind::Root)
        {
            let receive = self.change_port(port, |config| config.receive_error(message, source))?;
            return Ok(Some((port, receive)));
        }
        while let Some(Parent::Port(id)) = above {
            let Some(port) = self.ports.get_mut(&id) else {
                break;
            };
            if !port.state.alive || !port.config.forward_error(message) {
                break;
            }
            if port.kind == PortKind::Root {
                return Ok(Some((id, port.config.receive_error(message, source))));
            }
            above = Some(port.parent);
        }
        Ok(None)
    }
}
