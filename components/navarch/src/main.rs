//! The navarch binary: commands and wiring. The only place where everything meets; nothing is decided here that a
//! component could decide.

mod alarms;
mod bootstrap;
mod cli;
mod commands;
mod control_plane;
mod daemon;
mod endpoints;
mod identity;
mod in_process;
mod integrity;
mod join;
mod leader;
mod machine;
mod maintenance;
mod members;
mod node;
mod preflight;
mod process;
mod room;
mod roster;
mod save;
mod siblings;
mod snapshots;
mod status;
mod store;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("navarch: {error}");
            ExitCode::FAILURE
        }
    }
}
