//! Starting the log.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be parsed.
    #[error("log.level: {filter:?}: {source}")]
    Filter {
        /// What was given.
        filter: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// It was started before.
    #[error("logging was started twice: {0}")]
    Twice(#[from] TryInitError),
}

/// Starts logging to standard error, once for the process. `level` is a filter such as `info,navarch_kubelet=debug`.
///
/// # Errors
/// See [`LogError`].
pub fn init(level: &str, json: bool) -> Result<(), LogError> {
    let filter =
        EnvFilter::builder().parse(level).map_err(|source| LogError::Filter { filter: level.to_owned(), source })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    if json {
        builder.json().finish().try_init()?
    } else {
        builder.finish().try_init()?
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_refused_by_name() {
        let message = init("info,navarch=loud", false).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.starts_with("log.level: \"info,navarch=loud\""), "{message}");
    }
}
