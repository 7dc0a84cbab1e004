//! The commands, one file each.

mod agent;
mod down;
mod kubeconfig;
mod reset;
mod server;
mod tree;
mod up;
pub mod version;

use crate::cli::{Cli, Command};

/// What a command fails with: shown to the user as one line.
pub type CommandError = Box<dyn std::error::Error>;

/// Runs the command of a parsed command line.
///
/// # Errors
/// Whatever the command says.
pub fn run(cli: Cli) -> Result<(), CommandError> {
    let options = cli.options;
    match cli.command {
        Command::Up(args) => up::run(&options, &args),
        Command::Server => server::run(&options.settings()?),
        Command::Agent(args) => agent::run(options.settings()?, args),
        Command::Down => down::run(&options.settings()?),
        Command::Reset(args) => reset::run(&options.settings()?, &args),
        Command::Tree(args) => tree::run(&options.settings()?, &args),
        Command::Kubeconfig(args) => kubeconfig::run(&options.settings()?, &args),
        Command::Version => version::run(),
    }
}
