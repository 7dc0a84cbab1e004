//! Durable puts against etcd: the same client, protocol, certificates and disk.
//!
//! - `serve` is a member that is only navarch's store, behind the part of etcd's gRPC interface that puts and gets.
//! - `load` puts keys into it or into etcd, and measures.
//! - `compare` does the whole: certificates, members of both kinds in turn, loads, syncs, a table.
//!
//! `target/release/examples/storebench compare --etcd /usr/bin/etcd --dir /var/tmp/storebench` needs `taskset` and `strace`.
//! It prints one JSON line a figure and tells on standard error how far it is.

mod certs;
mod client;
mod compare;
mod disk;
#[path = "../common/figures.rs"]
mod figures;
mod load;
#[path = "../common/member.rs"]
mod member;
mod processes;
mod rpc;
mod serve;
mod syncs;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Whatever went wrong ends the program with its text.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Durable puts against etcd.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the certificates of members and of their client.
    Certs(certs::CertsOptions),
    /// Run a member that is only the store.
    Serve(serve::ServeOptions),
    /// Put keys and measure.
    Load(load::LoadOptions),
    /// Measure navarch's store and etcd in turn.
    Compare(compare::CompareOptions),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Certs(options) => certs::make(&options.certs, options.members),
        Command::Serve(options) => serve::run(&options),
        Command::Load(options) => load::run(&options),
        Command::Compare(options) => compare::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("storebench: {error}");
            ExitCode::FAILURE
        }
    }
}
