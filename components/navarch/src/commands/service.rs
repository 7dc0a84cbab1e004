//! The service of systemd that runs navarch on a machine: its unit, installing and removing it.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use navarch_config::Settings;

use super::CommandError;
use crate::cli::{Options, ServerArgs, ServiceArgs};

const NAME: &str = "navarch.service";
const UNIT: &str = "/etc/systemd/system/navarch.service";
/// Is there while systemd is the machine's init system (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// What a machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// A member of the control plane.
    Server {
        /// With the machine's agent.
        agent: bool,
        /// Whose node takes only the control plane's pods.
        taint: bool,
    },
    /// An agent alone.
    Agent,
}

impl Service {
    /// A server's, as its options say.
    pub fn server(args: &ServiceArgs) -> Self {
        Self::Server { agent: !args.no_agent, taint: !args.no_agent && !args.no_taint }
    }

    /// The options of `navarch server`.
    pub fn server_args(self) -> ServerArgs {
        match self {
            Self::Server { agent, taint } => ServerArgs { with_agent: agent, taint },
            Self::Agent => ServerArgs { with_agent: false, taint: false },
        }
    }

    fn args(self) -> Vec<OsString> {
        let words: &[&str] = match self {
            Self::Server { agent: true, taint: true } => &["server", "--with-agent", "--taint"],
            Self::Server { agent: true, taint: false } => &["server", "--with-agent"],
            Self::Server { agent: false, .. } => &["server"],
            Self::Agent => &["agent"],
        };
        words.iter().map(OsString::from).collect()
    }
}

/// One word of ExecStart, quoted as systemd.service(5) wants it.
fn quoted(word: &OsString) -> Result<String, CommandError> {
    let Some(text) = word.to_str() else {
        return Err(format!("{}: a unit of systemd holds UTF-8 only", word.to_string_lossy()).into());
    };
    if text.chars().any(char::is_control) {
        return Err(format!("{text:?}: a unit of systemd holds no control characters").into());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    Ok(format!("\"{escaped}\""))
}

/// The unit's text. Containers outlive the service: only `navarch down` and `reset` end them.
fn unit(program: &Path, service: Service, options: &Options, settings: &Settings) -> Result<String, CommandError> {
    let mut options = options.clone();
    // What was relative to the folder of whoever called is not so for the service.
    options.data_dir = Some(std::path::absolute(&settings.data_dir)?);
    options.config = options.config.as_deref().map(std::path::absolute).transpose()?;
    let mut words = vec![program.as_os_str().to_owned()];
    words.extend(service.args());
    words.extend(options.to_args());
    let line = words.iter().map(quoted).collect::<Result<Vec<_>, _>>()?.join(" ");
    Ok(format!(
        "# Written by navarch; `navarch reset` removes it.\n\
         [Unit]\n\
         Description=navarch, a Kubernetes that is one program\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecStart={line}\n\
         Restart=on-failure\n\
         RestartSec=1\n\
         KillMode=process\n\
         Delegate=yes\n\
         LimitNOFILE=1048576\n\
         TasksMax=infinity\n\
         OOMScoreAdjust=-999\n\
         TimeoutStartSec=infinity\n\
         TimeoutStopSec=90\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    ))
}

/// Whether a service can be installed here; asked before anything else is done.
///
/// # Errors
/// Says what is missing.
pub fn check() -> Result<(), CommandError> {
    if !rustix::process::geteuid().is_root() {
        return Err("--install needs root: it writes a unit of systemd".into());
    }
    if !Path::new(BOOTED).is_dir() {
        return Err(format!("--install needs systemd, which does not run here ({BOOTED} is missing)").into());
    }
    Ok(())
}

/// Installs the service, starts it, and waits until it is ready.
///
/// # Errors
/// What systemd says.
pub fn install(options: &Options, settings: &Settings, service: &Service) -> Result<(), CommandError> {
    check()?;
    let text = unit(&std::env::current_exe()?, *service, options, settings)?;
    navarch_auth::pki::write_private(Path::new(UNIT), &text)?;
    systemctl(&["daemon-reload"])?;
    say!("installed {UNIT}; starting it");
    systemctl(&["enable", "--now", NAME])?;
    say!("navarch runs (systemctl status navarch, journalctl -u navarch)");
    Ok(())
}

/// Stops the service of this data folder if there is one; `remove` also takes its unit away. Returns whether there was one.
///
/// # Errors
/// What systemd says.
pub fn stop(settings: &Settings, remove: bool) -> Result<bool, CommandError> {
    let folder = quoted(&std::path::absolute(&settings.data_dir)?.into_os_string())?;
    let text = match std::fs::read_to_string(UNIT) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(format!("{UNIT}: {error}").into()),
    };
    if !is_of(&text, &folder) {
        return Ok(false);
    }
    let booted = Path::new(BOOTED).is_dir();
    if booted {
        systemctl(if remove { &["disable", "--now", NAME] } else { &["stop", NAME] })?;
    }
    if remove {
        std::fs::remove_file(UNIT).map_err(|error| format!("{UNIT}: {error}"))?;
        if booted {
            systemctl(&["daemon-reload"])?;
        }
        say!("removed {UNIT}");
    }
    Ok(true)
}

/// Whether a unit's text runs on this data folder.
fn is_of(text: &str, folder: &str) -> bool {
    let line = text.lines().find_map(|line| line.strip_prefix("ExecStart="));
    line.is_some_and(|line| {
        let end = line.split_once(" --data-dir ").map(|(_, rest)| rest);
        end.is_some_and(|rest| rest.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
    })
}

fn systemctl(args: &[&str]) -> Result<(), CommandError> {
    let output = Command::new("systemctl").args(args).output().map_err(|error| format!("systemctl: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("systemctl {}: {}; see journalctl -u navarch", args.join(" "), said.trim()).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(set: &[&str]) -> Options {
        Options { config: None, data_dir: None, log_level: None, set: set.iter().map(|s| (*s).to_owned()).collect() }
    }

    #[test]
    fn the_unit_runs_what_was_asked_for() {
        let settings = Settings::default();
        let tainted = Service::Server { agent: true, taint: true };
        let text = unit(Path::new("/usr/bin/navarch"), tainted, &options(&["server.port=7443"]), &settings).unwrap();
        let line = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        assert_eq!(
            line,
            "ExecStart=/usr/bin/navarch server --with-agent --taint --data-dir /var/lib/navarch --set server.port=7443"
        );
        assert!(is_of(&text, "/var/lib/navarch") && !is_of(&text, "/var/lib") && !is_of(&text, "/var/lib/navarch2"));
        // A token is in no unit: joining is done before.
        assert!(!text.contains("token"));
    }

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        for (word, text) in [
            ("/var/lib/navarch", "/var/lib/navarch"),
            ("/my data/%h", "\"/my data/%%h\""),
            ("a\"b\\c$d", "\"a\\\"b\\\\c$$d\""),
            ("", "\"\""),
        ] {
            assert_eq!(quoted(&word.into()).unwrap(), text);
        }
        assert!(quoted(&"a\nb".into()).is_err());
    }
}
