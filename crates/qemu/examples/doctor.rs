//! Prints what this machine can run, as JSON.

fn main() -> Result<(), serde_json::Error> {
    println!(
        "{}",
        serde_json::to_string_pretty(&hdv_qemu::doctor::examine(&mut |_| {}))?
    );
    Ok(())
}
