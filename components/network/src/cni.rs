//! The CNI configuration by which the runtime connects pods. [`config`] is pure; [`write`] replaces the file as a whole.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use crate::CleanupError;
use crate::settings::CniSettings;

/// The configuration's file: early in the alphabet, by which runtimes choose.
const FILE: &str = "10-navarch.conflist";

/// The configuration for a range of pod addresses. `with_host_ports` needs the plugin `portmap` and `iptables`.
pub fn config(settings: &CniSettings, pod_range: Ipv4Net, with_host_ports: bool) -> Value {
    let mut link = json!({
        "type": "ptp",
        // Masquerading is a rule of the node's own table, for exactly what leaves the cluster.
        "ipMasq": false,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": pod_range.to_string()}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": settings.data_dir,
        },
    });
    if let Some(mtu) = settings.mtu {
        link["mtu"] = mtu.into();
    }
    let mut plugins = vec![link];
    if with_host_ports {
        plugins.push(json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}));
    }
    json!({"cniVersion": "0.4.0", "name": "navarch", "plugins": plugins})
}

/// Whether ports of the node can be mapped to pods here.
pub fn can_map_host_ports(settings: &CniSettings) -> bool {
    let on_path = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(program).exists())
    };
    settings.plugin_dir.join("portmap").exists() && on_path("iptables")
}

/// Which of the plugins that are needed are missing.
pub fn missing_plugins(settings: &CniSettings) -> Vec<PathBuf> {
    let needed = ["ptp", "host-local", "loopback"].map(|plugin| settings.plugin_dir.join(plugin));
    needed.into_iter().filter(|path| !path.exists()).collect()
}

/// Writes the configuration, unless it is there already. The runtime sees the old one or the new one, never a part.
///
/// # Errors
/// If the folder cannot be made or the file not written.
pub fn write(settings: &CniSettings, config: &Value) -> io::Result<()> {
    fs::create_dir_all(&settings.conf_dir)?;
    let path = settings.conf_dir.join(FILE);
    let text = serde_json::to_string_pretty(config)? + "\n";
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    // A dot in front and another ending: runtimes that look at the wrong moment do not take it for a configuration.
    let draft = settings.conf_dir.join(format!(".{FILE}.new"));
    let mut file = fs::File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, &path)
}

pub(crate) fn remove(settings: &CniSettings) -> Result<(), CleanupError> {
    let gone = |path: &Path, result: io::Result<()>| match result {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CleanupError::File { path: path.display().to_string(), source })
        }
        _ => Ok(()),
    };
    let path = settings.conf_dir.join(FILE);
    let records = settings.data_dir.join("navarch");
    gone(&path, fs::remove_file(&path)).and(gone(&records, fs::remove_dir_all(&records)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn written_whole_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let settings = CniSettings {
            conf_dir: dir.path().join("net.d"),
            plugin_dir: dir.path().join("bin"),
            data_dir: dir.path().join("ipam"),
            mtu: Some(1400),
        };
        let made = config(&settings, "10.244.3.0/24".parse().unwrap(), true);
        assert_eq!(made["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.244.3.0/24");
        assert_eq!((&made["plugins"][0]["mtu"], &made["plugins"][1]["type"]), (&json!(1400), &json!("portmap")));
        write(&settings, &made).unwrap();
        let path = settings.conf_dir.join(FILE);
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        write(&settings, &made).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
        assert_eq!(fs::read_dir(&settings.conf_dir).unwrap().count(), 1);
        assert_eq!(serde_json::from_str::<Value>(&fs::read_to_string(&path).unwrap()).unwrap(), made);
        assert_eq!(missing_plugins(&settings).len(), 3);
        remove(&settings).unwrap();
        remove(&settings).unwrap();
        assert!(!path.exists());
    }
}
