//! The far side of a peer: what runs in the process of its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hdv::{DeviceHost, HostOptions};
use hdv_devices::sensor::{Sensor, SourceName};
use hdv_sriov::{EnableVirtualization, PciVirtualization};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::{PeerArguments, Role};
use crate::bench::cpus;
use crate::bench::device::{BAR_BYTES, MEMORY_BYTES, Scratch};
use crate::bench::domain;
use crate::bench::error::{BenchError, During};
use crate::bench::stream::Stream;
use crate::bench::virtual_functions;

/// Serves until standard input ends.
pub(in crate::bench) fn serve(arguments: &PeerArguments) -> Result<(), BenchError> {
    if let Some(cpu) = arguments.cpu {
        cpus::pin(cpu)?;
    }
    let directory = tempfile::Builder::new()
        .prefix("openhdv-bench-")
        .tempdir()
        .during("making a directory for the socket")?;
    let socket = directory.path().join("socket");
    // Kept until the end of this function, where its sockets go.
    let mut host = None;
    let path = match arguments.role {
        Role::Floor { request, reply } => floor(&socket, request, reply, arguments.poll())?,
        Role::OpenHdv => {
            let host = host.insert(device_host(arguments.poll())?);
            host.serve(&socket, "scratch", Scratch::new())
                .during("serving the scratch device")?;
            socket
        }
        Role::Domain { count } => {
            domain::serve(host.insert(device_host(arguments.poll())?), &socket, count)?;
            socket
        }
        Role::VfioUser => vfio_user(&socket)?,
        Role::Sensors { count } => {
            raise_descriptor_limit()?;
            let host = host.insert(device_host(arguments.poll())?);
            for index in 0..count {
                let sensor = Sensor::new(&SourceName::Sine).during("making a sensor")?;
                let socket = directory.path().join(index.to_string());
                host.serve(socket, &format!("sensor {index}"), sensor)
                    .during("serving a sensor")?;
            }
            directory.path().to_owned()
        }
        Role::VirtualFunctions { count } => {
            raise_descriptor_limit()?;
            let socket = directory.path().join("pf.sock");
            let host = host.insert(device_host(arguments.poll())?);
            let pf = virtual_functions::serve(host, &socket)?;
            if count != 0 {
                pf.enable_virtualization(EnableVirtualization::enable(count))
                    .during("enabling VFs")?;
            }
            socket
        }
    };
    let mut output = std::io::stdout();
    writeln!(output, "{}", path.display()).during("saying where the socket is")?;
    output.flush().during("saying where the socket is")?;
    // Nothing is ever sent; what is awaited is the end.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    drop(host);
    Ok(())
}

fn device_host(poll: Option<Duration>) -> Result<DeviceHost, BenchError> {
    DeviceHost::new(HostOptions::new().control(false).poll(poll)).during("making a device host")
}

fn raise_descriptor_limit() -> Result<(), BenchError> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).during("raising the limit of open files")
}

/// Serves clients, each on a thread that ends with the process.
fn floor(
    socket: &Path,
    request: usize,
    reply: usize,
    poll: Option<Duration>,
) -> Result<PathBuf, BenchError> {
    let listener = UnixListener::bind(socket).during("binding the floor's socket")?;
    std::thread::spawn(move || {
        // A client that is not accepted sees its connection end and says so.
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = Stream::new(socket, poll);
                let reply = vec![0; reply];
                // Whatever ends this, the near side sees the connection end and says so.
                while stream.receive(request).is_ok_and(|more| more) {
                    if stream.send(&reply).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(socket.to_owned())
}

/// Memory behind the `vfio_user` crate's server.
struct Memory([u8; MEMORY_BYTES]);

impl Memory {
    fn bytes(&mut self, offset: u64, length: usize) -> std::io::Result<&mut [u8]> {
        usize::try_from(offset)
            .ok()
            .and_then(|begin| self.0.get_mut(begin..begin.checked_add(length)?))
            .ok_or_else(|| std::io::ErrorKind::InvalidInput.into())
    }
}

impl vfio_user::ServerBackend for Memory {
    fn region_read(&mut self, _: u32, offset: u64, data: &mut [u8]) -> std::io::Result<()> {
        data.copy_from_slice(self.bytes(offset, data.len())?);
        Ok(())
    }

    fn region_write(&mut self, _: u32, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.bytes(offset, data.len())?.copy_from_slice(data);
        Ok(())
    }

    fn dma_map(
        &mut self,
        _: vfio_user::DmaMapFlags,
        _: u64,
        _: u64,
        _: u64,
        _: Option<std::fs::File>,
    ) -> std::io::Result<()> {
        Ok(())
    }

    fn dma_unmap(&mut self, _: vfio_user::DmaUnmapFlags, _: u64, _: u64) -> std::io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn set_irqs(
        &mut self,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: Vec<std::fs::File>,
    ) -> std::io::Result<()> {
        Ok(())
    }
}

fn vfio_user(socket: &Path) -> Result<PathBuf, BenchError> {
    use hdv_vfio_user::vfio;
    let regions = (0..vfio::region::COUNT)
        .map(|index| {
            let mut region = vfio_user::ServerRegion {
                region_info: Default::default(),
                sparse_areas: Vec::new(),
                mmap_fd: None,
            };
            region.region_info.argsz = 32;
            region.region_info.index = index;
            // Read and write.
            region.region_info.flags = 3;
            region.region_info.size = BAR_BYTES;
            region
        })
        .collect();
    let server = vfio_user::Server::new(socket, true, Vec::new(), regions)
        .during("binding the vfio_user crate's server")?;
    std::thread::spawn(move || {
        // Whatever ends this, the near side sees the connection end and says so.
        let _ = server.run(&mut Memory([0; MEMORY_BYTES]));
    });
    Ok(socket.to_owned())
}
