//! What a start finds, made consistent: the log's beginning, the state's position, and who this member is.
//!
//! The state may be behind the log (a crash took back what was not flushed): it is brought forward by applying again. It
//! may be past the log's end only after a snapshot was installed: then the log begins anew, with its hard state kept.

use navarch_raft_contract::{AppliedState, Bootstrap, ConfState, HardState, LogError, LogStore};

use crate::config::Config;

/// Why a member cannot start on the data it found.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The data folder belongs to something else.
    #[error("the data folder belongs to {found}, this is {expected}")]
    Stranger {
        /// Whose it is.
        found: String,
        /// Who started.
        expected: String,
    },
    /// Entries between the state and the log are gone.
    #[error("the log begins after entry {log}, the state ends at entry {state}: entries are missing")]
    Gap {
        /// Last forgotten entry of the log.
        log: u64,
        /// Last applied entry.
        state: u64,
    },
    /// The state says that it applied entries of a later term than the log knows.
    #[error("the state is of term {state}, the log of term {log}")]
    Term {
        /// Term of the last applied entry.
        state: u64,
        /// Term of the hard state.
        log: u64,
    },
    /// The configuration cannot be.
    #[error("configuration: {0}")]
    Config(&'static str),
}

/// Where the core begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    /// Last forgotten entry of the log.
    pub prefix_index: u64,
    /// Its term.
    pub prefix_term: u64,
    /// Last entry of the log.
    pub last_index: u64,
    /// Hard state, with what the state proves to be committed.
    pub hard_state: HardState,
    /// The members as of the last applied entry.
    pub members: ConfState,
    /// Last applied entry.
    pub applied: u64,
    /// The state is gone, and a snapshot is to come in its place: `applied` is as if all that is known to be committed were
    /// applied, so that none of it is handed out.
    pub rebuilding: bool,
}

/// Reads the log, writes the beginning if there is none, and checks it against the state.
pub fn recover(config: &Config, log: &dyn LogStore, applied: &AppliedState) -> Result<Recovered, RecoverError> {
    if config.member == 0 {
        return Err(RecoverError::Config("a member's id is not 0"));
    }
    let mut found = log.state()?;
    let bootstrap = match found.bootstrap.take() {
        Some(bootstrap) => bootstrap,
        None => begin(config, log)?,
    };
    let name = |cluster: &str, member: u64| format!("member {member} of cluster {cluster}");
    if bootstrap.cluster_id != config.cluster_id || bootstrap.member != config.member {
        return Err(RecoverError::Stranger {
            found: name(&bootstrap.cluster_id, bootstrap.member),
            expected: name(&config.cluster_id, config.member),
        });
    }
    if let Some(members) = &config.rebuild {
        let mut hard_state = found.hard_state.unwrap_or_default();
        hard_state.commit = hard_state.commit.clamp(found.prefix_index, found.last_index);
        return Ok(Recovered {
            prefix_index: found.prefix_index,
            prefix_term: found.prefix_term,
            last_index: found.last_index,
            hard_state,
            members: members.clone(),
            applied: hard_state.commit,
            rebuilding: true,
        });
    }
    if found.prefix_index > applied.index {
        return Err(RecoverError::Gap { log: found.prefix_index, state: applied.index });
    }
    let mut hard_state = found.hard_state.unwrap_or_default();
    if applied.term > hard_state.term {
        return Err(RecoverError::Term { state: applied.term, log: hard_state.term });
    }
    // A snapshot was installed, and the process ended before the log began anew: its end is missing, or another one.
    if log.term(applied.index)? != Some(applied.term) && (applied.index, applied.term) != (0, 0) {
        log.reset(applied.index, applied.term)?;
        found = log.state()?;
    }
    // The commit index on the disk lags: what was applied was committed.
    hard_state.commit = hard_state.commit.max(applied.index).min(found.last_index);
    Ok(Recovered {
        prefix_index: found.prefix_index,
        prefix_term: found.prefix_term,
        last_index: found.last_index,
        hard_state,
        members: applied.members.clone().or(bootstrap.members).unwrap_or_default(),
        applied: applied.index,
        rebuilding: false,
    })
}

fn begin(config: &Config, log: &dyn LogStore) -> Result<Bootstrap, RecoverError> {
    if config.voters.is_empty() {
        return Err(RecoverError::Config("a cluster begins with at least one voter"));
    }
    let members = ConfState { voters: config.voters.clone(), ..ConfState::default() };
    let bootstrap = Bootstrap { cluster_id: config.cluster_id.clone(), member: config.member, members: Some(members) };
    log.bootstrap(&bootstrap)?;
    Ok(bootstrap)
}
