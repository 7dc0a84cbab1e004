//! The commands, one file each.

/// Writes a line to standard output. A reader that has gone, such as `head`, is no reason to fail.
macro_rules! say {
    ($($part:tt)*) => { $crate::commands::write_out(format_args!("{}\n", format_args!($($part)*))) };
}

/// As `say`, without an end of line.
macro_rules! say_part {
    ($($part:tt)*) => { $crate::commands::write_out(format_args!($($part)*)) };
}

mod agent;
mod ask;
mod down;
mod init;
mod join;
mod kubeconfig;
mod recover;
mod reset;
mod server;
mod service;
mod snapshot;
mod status;
pub mod token;
mod tree;
mod up;
pub mod version;

use navarch_config::Settings;

use crate::cli::{Cli, Command};

/// What a command fails with: shown to the user as one line.
pub type CommandError = Box<dyn std::error::Error>;

fn write_out(text: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let _ = std::io::stdout().lock().write_fmt(text);
}

/// What to type for a command on the cluster of these settings' folder.
fn of_folder(settings: &Settings, command: &str) -> String {
    if settings.data_dir == Settings::default().data_dir {
        format!("navarch {command}")
    } else {
        format!("navarch {command} --data-dir {}", settings.data_dir.display())
    }
}

/// Runs the command of a parsed command line.
///
/// # Errors
/// Whatever the command says.
pub fn run(cli: Cli) -> Result<(), CommandError> {
    let options = cli.options;
    match cli.command {
        Command::Up(args) => up::run(&options, &args),
        Command::Init(args) => init::run(&options, &args),
        Command::Server(args) => server::run(options.settings()?, &args),
        Command::Agent(args) => agent::run(options.settings()?, args),
        Command::Join(args) => join::run(&options, &args),
        Command::Token(args) => token::run(&options.settings()?, args.kubeconfig, &args.command),
        Command::Down => down::run(&options.settings()?),
        Command::Reset(args) => reset::run(&options.settings()?, &args),
        Command::Status(args) => status::run(&options.settings()?, &args),
        Command::Member(args) => status::member(&options.settings()?, &args.command),
        Command::Snapshot(args) => snapshot::run(&options.settings()?, &args.command),
        Command::Recover(args) => recover::run(&options.settings()?, &args),
        Command::Tree(args) => tree::run(&options.settings()?, &args),
        Command::Kubeconfig(args) => kubeconfig::run(&options.settings()?, &args),
        Command::Version => version::run(),
    }
}
