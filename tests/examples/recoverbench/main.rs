//! Recovery and upkeep.
//!
//! - `restart` fills a server, kills it while it is written to, and times the way from its next start to `/readyz` and to a
//!   full list of its pods. The server is the real program: `NAVARCH_BIN`, or the one beside this.
//! - `overwrite` overwrites few keys very often while history is forgotten, and looks at stalls and at the disk.
//! - `burst` offers the store more than it can take for a while, and looks at how long it needs to recover.
//!
//! The last two run the store in this process. `target/release/examples/recoverbench restart --dir /var/tmp/recoverbench`
//! prints one JSON line a figure and tells on standard error how far it is.

mod api;
mod burst;
#[path = "../common/figures.rs"]
mod figures;
#[path = "../common/member.rs"]
mod member;
mod overwrite;
mod restart;
mod stored;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Whatever went wrong ends the program with its text.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Recovery and upkeep.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Kill a full server and time its next start.
    Restart(restart::RestartOptions),
    /// Overwrite few keys very often.
    Overwrite(overwrite::OverwriteOptions),
    /// Offer more than can be taken, for a while.
    Burst(burst::BurstOptions),
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|runtime| match Cli::parse().command {
        Command::Restart(options) => restart::run(&options, &runtime),
        Command::Overwrite(options) => runtime.block_on(overwrite::run(&options)),
        Command::Burst(options) => runtime.block_on(burst::run(&options)),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recoverbench: {error}");
            ExitCode::FAILURE
        }
    }
}
