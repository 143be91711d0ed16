//! Several VMs of one process at once.

use hdv::{DeviceHost, HostOptions, Uuid};
use hdv_compute::{ComputeSystem, ExitType};
use hdv_guest::report::Change;

use super::checks::Checks;
use super::journal::{Journal, announce};
use super::vm::{Form, Vm};

/// How many.
const COUNT: u128 = 4;

pub(super) fn run(checks: &mut Checks<'_>) {
    checks.doing("booting four guests at once");
    let facts = checks.facts;
    checks.check("four VMs at once", || {
        let mut vms = Vec::new();
        for number in 0..COUNT {
            // The same instance in each: it is a device of its VM.
            let instance = Uuid::from_u128(1);
            let form = Form::default().external(instance);
            let vm = Vm::create(&format!("many-{number}"), &form, facts)?;
            let host = DeviceHost::new(HostOptions::default())?;
            host.attach(vm.system.system())?;
            announce(&host, instance, &Journal::default())?;
            vms.push((vm, host));
        }
        for (vm, _) in &vms {
            vm.system.start()?;
        }
        let listed = ComputeSystem::enumerate()?.len();
        for (vm, _) in &mut vms {
            vm.until_waiting()?.expect(1, Change::First)?;
        }
        for (vm, _) in &mut vms {
            vm.say("off")?;
        }
        for (vm, _) in &vms {
            let exit = vm.end()?;
            if exit.exit_type != ExitType::GracefulExit {
                return Err(format!("one ended so: {exit:?}").into());
            }
        }
        Ok(format!(
            "{listed} were listed; each guest checked its device and powered off"
        ))
    });
}
