//! Bringing up the members of this machine, all at once: one alone has no quorum.

use std::path::Path;
use std::time::{Duration, Instant};

use navarch_config::Settings;

use super::child::{Stage, Started, log_path};
use crate::commands::{CommandError, tree};
use crate::{daemon, process};

/// How often those that do not serve yet are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

type Start<'a> = Box<dyn Fn() -> Result<Started, CommandError> + 'a>;

/// A member of this machine on its way up.
pub struct Member<'a> {
    /// The first has none.
    pub number: Option<u16>,
    settings: Settings,
    start: Start<'a>,
    /// The process, if this command started it.
    pub started: Option<Started>,
    serves: bool,
}

impl<'a> Member<'a> {
    /// One with these settings, and what starts it.
    pub fn new(number: Option<u16>, settings: Settings, start: Start<'a>) -> Self {
        Self { number, settings, start, started: None, serves: false }
    }

    fn folder(&self) -> &Path {
        &self.settings.data_dir
    }

    /// Starts it if it does not run. One that was killed runs until it is quite gone, and only then.
    fn start_if_gone(&mut self) -> Result<(), CommandError> {
        if self.started.is_none() && daemon::running(self.folder())?.is_none() {
            self.started = Some((self.start)()?);
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), CommandError> {
        self.serves = match &mut self.started {
            Some(started) => started.reached(Stage::Ready)?,
            None => daemon::running(self.folder())?.is_some_and(|pid| {
                let mark = process::stage_file(self.folder(), Stage::Ready.file(), pid.unsigned_abs());
                mark.exists() && tree::answers(&self.settings)
            }),
        };
        Ok(())
    }

    /// Why it is given up.
    fn late(&self) -> CommandError {
        let log = log_path(self.folder());
        match (&self.started, daemon::running(self.folder())) {
            (None, Ok(Some(pid))) => {
                format!("navarch runs (pid {pid}) and does not answer; see {}", log.display()).into()
            }
            _ => Started::late(Stage::Ready, self.folder()),
        }
    }
}

/// Starts those that do not run, and waits until all serve; `told` hears of each that does.
///
/// # Errors
/// If one cannot be started, ends, or does not serve in time.
pub fn all(members: &mut [Member<'_>], deadline: Instant, told: impl Fn(&Member<'_>)) -> Result<(), CommandError> {
    loop {
        members.iter_mut().filter(|member| !member.serves).try_for_each(Member::start_if_gone)?;
        for member in members.iter_mut().filter(|member| !member.serves) {
            member.look()?;
            if member.serves {
                told(member);
            }
        }
        let Some(waiting) = members.iter().find(|member| !member.serves) else { return Ok(()) };
        if Instant::now() > deadline {
            return Err(waiting.late());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
