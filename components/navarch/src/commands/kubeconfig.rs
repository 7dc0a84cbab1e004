//! `navarch kubeconfig`.

use navarch_config::Settings;

use super::CommandError;
use crate::cli::KubeconfigArgs;
use crate::process::admin_kubeconfig;

/// Prints the administrator's kubeconfig, or where it is.
pub fn run(settings: &Settings, args: &KubeconfigArgs) -> Result<(), CommandError> {
    let path = admin_kubeconfig(&settings.data_dir);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        format!("{}: {error}; the first `navarch up` or `navarch server` writes it", path.display())
    })?;
    if args.path {
        println!("{}", path.display())
    } else {
        print!("{text}")
    }
    Ok(())
}
