//! `navarch recover`: a cluster that has lost its quorum goes on from one member.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use navarch_auth::Pki;
use navarch_config::Settings;
use navarch_raft_contract::ConfState;
use navarch_raft_driver::peer::{Found, probe};
use navarch_storage::FolderError;
use navarch_storage::rebase::Fate;
use navarch_storage::recovery::{Facts, Recovery, RecoveryError};
use serde_json::json;

use super::CommandError;
use crate::cli::{OutputFormat, RecoverArgs};
use crate::identity::Identity;
use crate::join::ServerUrl;
use crate::join::state::Joined;
use crate::roster::{self, Member, Wanted};
use crate::siblings::{self, Sibling};
use crate::{daemon, store};

/// Another member, and what was found of it.
#[derive(Clone, Debug)]
struct Other {
    id: u64,
    name: String,
    address: Option<String>,
    found: Found,
    /// Somebody said that it is lost.
    lost: bool,
}

impl Other {
    /// Somebody who takes connections there may be the member, paused: that alone is no reason to take it for lost.
    fn lives(&self) -> bool {
        match self.found {
            Found::Member => true,
            Found::Somebody(_) => !self.lost,
            Found::Nobody(_) => false,
        }
    }

    fn told(&self) -> String {
        match &self.found {
            Found::Member => "lives".to_owned(),
            Found::Somebody(why) if self.lost => format!("lost, as you say; somebody takes connections there ({why})"),
            Found::Somebody(why) => format!("somebody takes connections there ({why})"),
            Found::Nobody(why) => format!("not reached ({why})"),
        }
    }
}

/// Recovers, after saying what that means and asking.
pub fn run(settings: &Settings, args: &RecoverArgs) -> Result<(), CommandError> {
    let mut settings = settings.clone();
    if let Some(pid) = daemon::running(&settings.data_dir)? {
        return Err(format!(
            "navarch runs on {} (pid {pid}): stop it first; a member that runs may still find its quorum",
            settings.data_dir.display()
        )
        .into());
    }
    let folder = store::folder_of(&settings.data_dir);
    if !folder.join("log").exists() {
        return Err(format!("{} holds no member's data", settings.data_dir.display()).into());
    }
    if let Some(joined) = Joined::load(&settings.data_dir)? {
        joined.apply(&mut settings)?;
    }
    let identity = Identity::of(&settings)?;
    let recovery = Recovery::prepare(&folder, &store::rocks_config(&settings)).map_err(|error| match error {
        RecoveryError::Folder(FolderError::InUse(path)) => {
            CommandError::from(format!("a process runs on {}: stop it first", path.display()))
        }
        other => other.into(),
    })?;
    let facts = recovery.facts().clone();
    if !identity.owns(&facts.group) || identity.member != facts.member {
        return Err(format!(
            "the data is of member {} of {}, and this machine is member {} of {}",
            facts.member, facts.group, identity.member, identity.cluster_id
        )
        .into());
    }
    if facts.completed {
        say!(
            "a recovery that had been decided before was completed: `navarch server` or `navarch up` runs the cluster"
        );
        return Ok(());
    }
    let beside: Vec<Sibling> = siblings::all(&settings)?.into_iter().filter(|sibling| !sibling.removed()).collect();
    for sibling in &beside {
        if let Some(pid) = daemon::running(&sibling.data_dir)? {
            let folder = sibling.data_dir.display();
            return Err(format!("another member runs on {folder} (pid {pid}): `navarch down` stops all of them").into());
        }
    }
    let records = records(&recovery)?;
    let others = others(&settings, &identity, &facts, &records, &args.lost)?;
    if let Some(unknown) = args.lost.iter().find(|lost| others.iter().all(|other| other.id != **lost)) {
        return Err(format!("--lost {unknown}: there is no other member with this id").into());
    }
    if others.is_empty() && facts.members.voters == [facts.member] {
        return Err("this member is the only one, and needs no others: `navarch server` or `navarch up` runs it".into());
    }
    let living: Vec<u64> = others.iter().filter(|other| other.lives()).map(|other| other.id).collect();
    let known: Vec<u64> = others.iter().map(|other| other.id).collect();
    let members = members_in_doubt(&facts.members, facts.member_changes, facts.member, &known);
    let quorum = quorum_lives(&members, facts.member, &living);
    let group = identity.new_group();
    if args.output == OutputFormat::Json {
        say!("{}", serde_json::to_string_pretty(&as_json(&facts, &others, &group, quorum))?);
    } else {
        say_part!("{}", render(&facts, &others, &identity, &beside));
    }
    if quorum {
        return Err(
            "refused, and nothing was changed: with this member a quorum lives. Start it, and the cluster goes on; a \
                    member that is lost is replaced by `navarch member add --replace`. If somebody else took over its \
                    address: --lost"
                .into(),
        );
    }
    if !args.yes && !confirmed()? {
        return Err("not confirmed; nothing was changed".into());
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
    let own = facts.member;
    let fate = move |key: &[u8], value: &[u8]| fate(own, key, value);
    let now = recovery.carry_out(&group, u64::try_from(now_ms).unwrap_or(u64::MAX), &fate)?;
    for sibling in &beside {
        siblings::mark_removed(&sibling.data_dir)
            .map_err(|error| format!("{}: {error}", sibling.data_dir.display()))?;
    }
    if args.output == OutputFormat::Text {
        say!("recovered: member {own} is the only one now, at revision {}", now.revision);
        say!("`navarch server` or `navarch up` runs it; the others must be reset before they join again");
    }
    Ok(())
}

fn records(recovery: &Recovery) -> Result<BTreeMap<u64, Member>, CommandError> {
    let records = recovery.records(roster::PREFIX)?;
    let members = records.iter().filter_map(|(_, value)| serde_json::from_slice::<Member>(value).ok());
    Ok(members.map(|member| (member.id, member)).collect())
}

/// Asks every other member where it was last.
fn others(
    settings: &Settings,
    identity: &Identity,
    facts: &Facts,
    records: &BTreeMap<u64, Member>,
    lost: &[u64],
) -> Result<Vec<Other>, CommandError> {
    let ConfState { voters, learners, voters_outgoing, .. } = &facts.members;
    let mut ids: Vec<u64> = voters.iter().chain(learners).chain(voters_outgoing).copied().collect();
    // One that was to become a member may be one by now.
    ids.extend(records.values().filter(|member| member.wanted != Wanted::Removed).map(|member| member.id));
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| *id != facts.member);
    let pki = Pki::open(&settings.data_dir.join("pki"))?;
    let config = store::peer_config(identity, &facts.group, &pki)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(futures::future::join_all(ids.into_iter().map(|id| {
        let record = records.get(&id);
        let address = record.map(|member| member.peer_address.clone()).or_else(|| identity.seeds.get(&id).cloned());
        let name = record.map_or_else(|| "?".to_owned(), |member| member.name.clone());
        // Only on the same machine: what clients are told may be a load balancer.
        let host = |address: &str| address.parse::<SocketAddr>().ok().map(|address| address.ip().to_string());
        let api = record.and_then(|member| member.server.parse::<ServerUrl>().ok());
        let api = api.filter(|api| address.as_deref().and_then(host).as_deref() == Some(api.target().0));
        let (config, lost) = (&config, lost.contains(&id));
        async move {
            let found = match &address {
                Some(address) => probe(config, id, address, api.as_ref().map(ServerUrl::target)).await,
                None => Found::Nobody("its address is not known".to_owned()),
            };
            Other { id, name, address, found, lost }
        }
    }))))
}

/// The members of whom a quorum would count. Changes of members in the log that the state does not show yet may have
/// happened: then all that are known are taken for voters.
fn members_in_doubt(members: &ConfState, changes: u64, own: u64, known: &[u64]) -> ConfState {
    if changes == 0 {
        return members.clone();
    }
    ConfState { voters: known.iter().copied().chain([own]).collect(), ..ConfState::default() }
}

/// Whether this member and those that live are a quorum; so are those that live alone, if this one has no vote.
fn quorum_lives(members: &ConfState, own: u64, living: &[u64]) -> bool {
    let majority = |voters: &[u64]| {
        let there = voters.iter().filter(|voter| **voter == own || living.contains(voter)).count();
        there > voters.len() / 2
    };
    majority(&members.voters) && (members.voters_outgoing.is_empty() || majority(&members.voters_outgoing))
}

/// Records of others say that they are none any more: their ids are not given to new ones. Their alarms go with them.
fn fate(own: u64, key: &[u8], value: &[u8]) -> Fate {
    if key.starts_with(b"navarch/alarms/") {
        return Fate::Drop;
    }
    if !key.starts_with(roster::PREFIX) {
        return Fate::Keep;
    }
    let changed = serde_json::from_slice::<Member>(value).ok().and_then(|member| {
        let wanted = if member.id == own { Wanted::Voter } else { Wanted::Removed };
        serde_json::to_vec(&Member { wanted, ..member }).ok()
    });
    changed.map_or(Fate::Drop, Fate::Replace)
}

fn as_json(facts: &Facts, others: &[Other], group: &str, quorum: bool) -> serde_json::Value {
    let others: Vec<_> = others
        .iter()
        .map(|other| {
            json!({"id": other.id, "name": other.name, "peerAddress": other.address, "lives": other.lives(),
                   "found": other.told()})
        })
        .collect();
    json!({
        "member": facts.member,
        "group": facts.group,
        "newGroup": group,
        "voters": facts.members.voters,
        "learners": facts.members.learners,
        "flushedIndex": facts.flushed,
        "committedIndex": facts.committed,
        "lastIndex": facts.last,
        "lastTerm": facts.last_term,
        "term": facts.term,
        "uncommittedKept": facts.uncommitted,
        "memberChangesDropped": facts.member_changes,
        "revision": facts.revision,
        "hash": format!("{:016x}", facts.hash),
        "others": others,
        "quorumLives": quorum,
    })
}

fn render(facts: &Facts, others: &[Other], identity: &Identity, beside: &[Sibling]) -> String {
    let mut out = String::new();
    let votes = if facts.members.voters.contains(&facts.member) { "votes" } else { "has no vote" };
    // Writing to a String does not fail.
    let _ =
        writeln!(out, "member     {} ({}) of cluster {}, {votes}", facts.member, identity.name, identity.cluster_id);
    let _ = writeln!(
        out,
        "log        ends with entry {} of term {}; {} is known to be committed, {} was flushed to the state",
        facts.last, facts.last_term, facts.committed, facts.flushed
    );
    let _ = writeln!(out, "store      revision {}, hash {:016x}", facts.revision, facts.hash);
    let _ = writeln!(out, "\nother members:");
    for other in others {
        let address = other.address.as_deref().unwrap_or("-");
        let _ = writeln!(out, "  {:>3}  {:<20} {address:<22} {}", other.id, other.name, other.told());
    }
    let _ = writeln!(out, "\nwhat a recovery does:");
    let _ =
        writeln!(out, "  - member {} becomes the only one, with a vote; all others are removed for good", facts.member);
    let _ = writeln!(
        out,
        "  - everything in its log is kept, also the last {} entries that are not known to be committed",
        facts.uncommitted
    );
    let _ = writeln!(out, "  - revisions go forward by a large step: watches begin anew, and none goes back");
    let _ = writeln!(out, "  - members know each other by a new name, so that the old ones cannot talk to this one");
    let _ = writeln!(out, "  - keys, certificates and the cluster's id stay: clients and nodes go on");
    for sibling in beside {
        let folder = sibling.data_dir.display();
        let _ = writeln!(out, "  - {folder} is marked as a removed member's: the next `navarch up` deletes it");
    }
    let _ = writeln!(out, "what may be lost:");
    let _ =
        writeln!(out, "  - writes that were acknowledged after entry {} and are on the other members only", facts.last);
    if facts.uncommitted > 0 {
        let _ =
            writeln!(out, "  - nothing of the kept entries; some of their writes may have been told to have failed");
    }
    if facts.member_changes > 0 {
        let _ = writeln!(out, "  - {} changes of members in the log, which do not happen", facts.member_changes);
    }
    let _ = writeln!(
        out,
        "If another member has a later entry, recover that one. The others must not be started again before"
    );
    let _ = writeln!(out, "they were reset (`navarch reset`): together they might go on as the cluster that was.\n");
    out
}

fn confirmed() -> Result<bool, CommandError> {
    if !std::io::stdin().is_terminal() {
        return Err("nothing was changed: confirm with --yes".into());
    }
    say_part!("Go on from this member alone? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_quorum_that_lives_is_known() {
        let conf = |voters: &[u64], outgoing: &[u64]| ConfState {
            voters: voters.to_vec(),
            voters_outgoing: outgoing.to_vec(),
            ..ConfState::default()
        };
        let cases: [(ConfState, u64, &[u64], bool); 10] = [
            (conf(&[1, 2, 3], &[]), 1, &[], false),
            (conf(&[1, 2, 3], &[]), 1, &[3], true),
            (conf(&[1, 2, 3], &[]), 1, &[2, 3], true),
            (conf(&[1, 2], &[]), 1, &[], false),
            (conf(&[1, 2], &[]), 1, &[2], true),
            (conf(&[1, 2, 3, 4, 5], &[]), 1, &[2], false),
            // This one has no vote: the others alone.
            (conf(&[1, 2, 3], &[]), 4, &[1], false),
            (conf(&[1, 2, 3], &[]), 4, &[1, 2], true),
            // A learner that lives has no say.
            (conf(&[1, 2, 3], &[]), 1, &[9], false),
            // In a joint configuration both halves count.
            (conf(&[1, 2, 3], &[1, 4, 5]), 1, &[2], false),
        ];
        for (members, own, living, expected) in cases {
            assert_eq!(quorum_lives(&members, own, living), expected, "{members:?} {own} {living:?}");
        }
    }

    #[test]
    fn others_are_removed_and_their_ids_stay_taken() {
        let member = |id: u64, wanted| Member {
            id,
            name: "n".to_owned(),
            peer_address: "a".to_owned(),
            server: "s".to_owned(),
            wanted,
        };
        for (id, before, after) in [
            (1, Wanted::Learner, Wanted::Voter),
            (2, Wanted::Voter, Wanted::Removed),
            (3, Wanted::Removed, Wanted::Removed),
        ] {
            let value = serde_json::to_vec(&member(id, before)).unwrap();
            let Fate::Replace(value) = fate(1, b"navarch/members/x", &value) else { panic!("kept") };
            assert_eq!(serde_json::from_slice::<Member>(&value).unwrap(), member(id, after));
        }
        assert_eq!(fate(1, b"navarch/alarms/2", b"{}"), Fate::Drop);
        assert_eq!(fate(1, b"core/pods/a/b", b"{}"), Fate::Keep);
    }
}

#[cfg(test)]
mod doubts {
    use super::*;

    #[test]
    fn members_that_joined_lately_count_for_a_quorum() {
        let alone = ConfState { voters: vec![1], ..ConfState::default() };
        // The state is as old as the cluster; the log has two more members, who are gone.
        assert!(quorum_lives(&members_in_doubt(&alone, 0, 1, &[]), 1, &[]));
        assert!(!quorum_lives(&members_in_doubt(&alone, 4, 1, &[2, 3]), 1, &[]));
        assert!(quorum_lives(&members_in_doubt(&alone, 4, 1, &[2, 3]), 1, &[3]));
    }
}
