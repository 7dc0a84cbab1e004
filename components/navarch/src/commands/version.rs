//! `navarch version`.

use super::CommandError;

/// The program's version and the API's.
pub const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), " (Kubernetes API v1.36)");

/// Prints the version.
pub fn run() -> Result<(), CommandError> {
    say!("navarch {TEXT}");
    Ok(())
}
