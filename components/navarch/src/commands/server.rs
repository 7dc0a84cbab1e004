//! `navarch server`.

use navarch_config::Settings;

use super::CommandError;
use crate::process::{Roles, run_process};

/// Runs a control-plane member until it is told to stop.
pub fn run(settings: &Settings) -> Result<(), CommandError> {
    run_process(settings, Roles::SERVER)
}
