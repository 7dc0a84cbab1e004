//! Putting the layers together.

use std::path::{Path, PathBuf};

use config::{Config, File, FileFormat, Map, Value, ValueKind};

use crate::Settings;

/// Why settings were refused. The process must not start.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read settings from {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file's name does not tell its format.
    #[error("settings file {}: the name must end in .toml, .yaml, .yml or .json", .0.display())]
    Format(PathBuf),
    /// A key is unknown or a value has the wrong type; the text names it and where it came from.
    #[error("settings: {0}")]
    Refused(#[from] config::ConfigError),
    /// Values are well-formed and make no sense.
    #[error("settings: {}", .0.join("; "))]
    Invalid(Vec<String>),
}

/// Loads settings. `file` is optional; `environment` is the process's own, of which `NAVARCH_DATA_DIR` and everything of
/// the form `NAVARCH_SECTION__KEY` is a setting; `flags` are dotted keys with their values.
///
/// # Errors
/// See [`SettingsError`].
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[(String, String)],
) -> Result<Settings, SettingsError> {
    let mut builder = Config::builder();
    if let Some(path) = file {
        builder = builder.add_source(file_layer(path)?);
    }
    let variables = environment.into_iter().filter_map(|(name, value)| {
        setting_of(&name).map(|key| (key, Value::new(Some(&format!("environment variable {name}")), value)))
    });
    builder = builder.add_source(layer(variables)?);
    let flags =
        flags.iter().map(|(key, value)| (key.clone(), Value::new(Some(&"command line".to_owned()), value.clone())));
    builder = builder.add_source(layer(flags)?);
    let settings: Settings = builder.build()?.try_deserialize()?;
    match settings.validate() {
        findings if findings.is_empty() => Ok(settings),
        findings => Err(SettingsError::Invalid(findings)),
    }
}

fn layer(values: impl Iterator<Item = (String, Value)>) -> Result<Config, config::ConfigError> {
    let mut builder = Config::builder();
    for (key, value) in values {
        builder = builder.set_override(key, value)?;
    }
    builder.build()
}

/// A file's values, each with the file as its origin, so that a refusal names it.
fn file_layer(path: &Path) -> Result<Config, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::File { path: path.to_owned(), source })?;
    let format = match path.extension().and_then(|e| e.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("yaml" | "yml") => FileFormat::Yaml,
        Some("json") => FileFormat::Json,
        _ => return Err(SettingsError::Format(path.to_owned())),
    };
    let parsed = Config::builder().add_source(File::from_str(&text, format)).build()?;
    let origin = path.display().to_string();
    let values = parsed.cache.into_table()?;
    Ok(layer(values.into_iter().map(|(key, value)| (key, with_origin(value, &origin))))?)
}

/// The dotted key that an environment variable sets.
fn setting_of(name: &str) -> Option<String> {
    let rest = name.strip_prefix("NAVARCH_")?.to_ascii_lowercase();
    (rest == "data_dir" || rest.contains("__")).then(|| rest.replace("__", "."))
}

fn with_origin(value: Value, origin: &str) -> Value {
    let kind = match value.kind {
        ValueKind::Table(table) => {
            ValueKind::Table(table.into_iter().map(|(k, v)| (k, with_origin(v, origin))).collect::<Map<_, _>>())
        }
        other => other,
    };
    Value::new(Some(&origin.to_owned()), kind)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    fn file(suffix: &str, text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn later_layers_win() {
        let toml = file(".toml", "data_dir = \"/a\"\n[server]\nport = 7000\n[log]\nlevel = \"warn\"\n");
        let flags = [("log.level".to_owned(), "debug".to_owned())];
        let environment = env(&[("NAVARCH_SERVER__PORT", "7001"), ("NAVARCH_LOG__LEVEL", "trace"), ("HOME", "/x")]);
        let settings = load(Some(toml.path()), environment, &flags).unwrap();
        assert_eq!(settings.data_dir, Path::new("/a"));
        assert_eq!(settings.server.port, 7001);
        assert_eq!(settings.log.level, "debug");
        assert_eq!(settings.agent, crate::AgentSettings::default());
    }

    #[test]
    fn yaml_and_json_are_read_too() {
        for (suffix, text) in [(".yaml", "server:\n  port: 7000\n"), (".json", "{\"server\": {\"port\": 7000}}")] {
            let file = file(suffix, text);
            assert_eq!(load(Some(file.path()), [], &[]).unwrap().server.port, 7000);
        }
    }

    #[test]
    fn what_is_unknown_is_refused_with_its_place() {
        let toml = file(".toml", "[server]\nprot = 7000\n");
        let error = load(Some(toml.path()), [], &[]).unwrap_err().to_string();
        assert!(error.contains("prot") && error.contains("server"), "{error}");
        let error = load(None, env(&[("NAVARCH_SERVER__PROT", "1")]), &[]).unwrap_err().to_string();
        assert!(error.contains("prot"), "{error}");
        let error = load(None, env(&[("NAVARCH_SERVRE__PORT", "1")]), &[]).unwrap_err().to_string();
        assert!(error.contains("servre"), "{error}");
    }

    #[test]
    fn wrong_types_and_senseless_values_are_refused() {
        let error = load(None, env(&[("NAVARCH_SERVER__PORT", "many")]), &[]).unwrap_err().to_string();
        assert!(error.contains("NAVARCH_SERVER__PORT") && error.contains("server.port"), "{error}");
        let error = load(None, env(&[("NAVARCH_SERVER__PORT", "30001")]), &[]).unwrap_err().to_string();
        assert_eq!(error, "settings: server.port: 30001: lies in the range of node ports");
        assert!(load(Some(Path::new("/nonexistent/x.toml")), [], &[]).is_err());
    }
}
