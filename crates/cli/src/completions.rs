//! `hdv completions`: what a shell needs to complete this command's arguments.

use clap::CommandFactory;

use crate::Failure;
use crate::args::{Cli, CompletionsArgs};
use crate::style;

pub(crate) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hdv", &mut script);
    style::print(&String::from_utf8_lossy(&script))?;
    Ok(())
}
