//! How OpenHDV processes of one user find each other: the runtime directory, the control
//! sockets in it with their JSON messages, and the claim on a socket path that tells a living
//! server from what a killed one left behind.
//!
//! Nothing here knows devices or the vfio-user protocol: what is asked and answered over a
//! control socket is registered by the crates above ([`Registry`]).
//!
//! ```
//! use hdv_control::{Client, ControlServer, Registry, RuntimeDirectory};
//!
//! # let parent = tempfile::tempdir()?;
//! # let directory = RuntimeDirectory::at(&parent.path().join("openhdv"))?;
//! let registry = Registry::new();
//! registry.register("greet", |arguments| Ok(serde_json::json!({ "greeted": arguments })))?;
//! let server = ControlServer::start(&directory, registry)?;
//!
//! for host in directory.hosts()? {
//!     let answer = Client::connect(&host.path)?.call("greet", &"world".into())?;
//!     assert_eq!(answer["greeted"], "world");
//! }
//! # drop(server);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bind_error;
mod claim;
mod clear;
mod client;
mod command;
mod connection;
mod descriptors;
mod hosts;
mod link;
mod lock;
mod numbers;
mod peer;
mod registry;
mod runtime_directory;
mod server;
mod service;
pub mod wire;

pub use bind_error::{BindError, SOCKET_PATH_LIMIT};
pub use claim::SocketClaim;
pub use clear::{claimed_by, remove_if_dead};
pub use client::{CallError, Client, ConnectError, connect};
pub use command::command;
pub use descriptors::raise_descriptor_limit;
pub use hosts::{HostEntry, hosts};
pub use link::{Link, LinkHandler, LinkServer};
pub use peer::PeerCredentials;
pub use registry::{ControlError, ErrorKind, RegisterError, Registry};
pub use runtime_directory::{RuntimeDirectory, RuntimeDirectoryError};
pub use server::{ControlServer, ServerError};
pub use wire::{REQUEST_LIMIT, RESPONSE_LIMIT, WireError};
