//! `hdv plug` and `hdv unplug`.

use hdv_compute::ComputeSystem;
use hdv_compute::document::{FlexibleIoDevice, HostingModel, ModifyRequest, State};

use crate::Failure;
use crate::args::{PlugArgs, UnplugArgs};
use crate::progress;
use crate::style::{self, Paint, printable};

use super::device::OwnDevice;
use super::{naming, tell};

pub(crate) fn plug(args: &PlugArgs) -> Result<(), Failure> {
    if args.timeout.is_some() {
        return Err("--timeout is for a slot in a domain, DOMAIN/PLACE; a compute system has limits of its own".into());
    }
    let own = args.device.as_deref().map(OwnDevice::parse).transpose()?;
    let system = ComputeSystem::open(&args.id)?;
    let (device, suggested) = match (&own, args.class) {
        (Some(own), _) => (own.to_document(&args.config), own.kind.name),
        (None, Some(class)) => (external(class, args), "device"),
        (None, None) => return Err("give --device, or --class with --name".into()),
    };
    let name = match &args.name {
        Some(name) => name.clone(),
        None => {
            let devices = system.properties()?.devices;
            naming::free(suggested, |name| devices.contains_key(name))
                .ok_or("every name that could be made up is taken; choose one with --name")?
        }
    };
    let request = ModifyRequest::add(&name, device.clone());
    let id = printable(&args.id);
    progress::during(&format!("Plugging {} into {id}", printable(&name)), || {
        system.modify(&request.to_json())
    })?;
    let paint = Paint::stdout();
    let shown = paint.paint(style::NAME, printable(&name));
    let done = if system.properties()?.state == State::Created {
        format!("{shown} is configured in {id}; it is plugged in when {id} starts")
    } else {
        format!("{shown} is plugged into {id}")
    };
    let text = format!("{done}; instance {}", request.instance_id);
    tell(
        args.output,
        &text,
        &serde_json::json!({
            "id": args.id,
            "name": name,
            "instance_id": request.instance_id,
            "class_id": device.emulator_id,
            "hosting_model": device.hosting_model,
        }),
    )
}

fn external(class: hdv::Uuid, args: &PlugArgs) -> FlexibleIoDevice {
    FlexibleIoDevice {
        emulator_id: class,
        hosting_model: if args.restricted {
            HostingModel::ExternalRestricted
        } else {
            HostingModel::External
        },
        configuration: args.config.clone(),
    }
}

pub(crate) fn unplug(args: &UnplugArgs) -> Result<(), Failure> {
    let id = printable(&args.id);
    if args.surprise || args.timeout.is_some() {
        return Err("--surprise and --timeout are for a slot in a domain, DOMAIN/PLACE".into());
    }
    let Some(name) = &args.name else {
        return Err(format!(
            "say which device of {id}: `hdv inspect {id}` lists them (a place in a domain is DOMAIN/PLACE)"
        )
        .into());
    };
    let system = ComputeSystem::open(&args.id)?;
    let request = ModifyRequest::remove(name);
    let name = printable(name);
    progress::during(&format!("Taking {name} out of {id}"), || {
        system.modify(&request.to_json())
    })?;
    let paint = Paint::stdout();
    tell(
        args.output,
        &format!("{} is out of {id}", paint.paint(style::NAME, &name)),
        &serde_json::json!({
            "id": args.id,
            "name": args.name,
            "instance_id": request.instance_id,
        }),
    )
}
