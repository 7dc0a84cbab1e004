//! `navarch status` and `navarch member`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use navarch_auth::JoinRole;
use navarch_config::Settings;
use serde_json::json;

use super::ask::GET_TIMEOUT;
use super::{CommandError, ask, init};
use crate::cli::{MemberCommand, StatusArgs};
use crate::endpoints::{MEMBERS_PATH, STATUS_PATH};
use crate::identity;
use crate::roster::{Member, Wanted};
use crate::snapshots::SnapshotStatus;
use crate::status::{ClusterStatus, MemberStatus, Report};

/// How long a member may take to say how it is. One that is paused does not hold up the others' answers for longer.
const REPORT_TIMEOUT: Duration = Duration::from_millis(500);

/// Shows the cluster, as its leader sees it if that can be reached.
pub fn run(settings: &Settings, args: &StatusArgs) -> Result<(), CommandError> {
    let status = fetch(settings)?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        say_part!("{}", render(&status));
    }
    Ok(())
}

/// Changes the members, or lists them.
pub fn member(settings: &Settings, command: &MemberCommand) -> Result<(), CommandError> {
    let (id, wanted) = match command {
        MemberCommand::List => {
            say_part!("{}", render_members(&fetch(settings)?));
            return Ok(());
        }
        MemberCommand::Add { ttl, replace } => {
            let url = identity::server_url(settings);
            say!("{}", init::join_command(settings, JoinRole::Server, *ttl, &url, *replace)?);
            return Ok(());
        }
        MemberCommand::Remove { id } => (id, "removed"),
        MemberCommand::Promote { id } => (id, "voter"),
        MemberCommand::Demote { id } => (id, "learner"),
    };
    let body = json!({"id": id, "wanted": wanted}).to_string();
    let answer = ask::post(settings, ask::own_server(settings), MEMBERS_PATH, body)?;
    let member: Member = serde_json::from_str(&answer)?;
    match command {
        MemberCommand::Remove { .. } => say!("member {} ({}) is removed", member.id, member.name),
        MemberCommand::Promote { .. } => say!("member {} ({}) votes", member.id, member.name),
        _ => say!("member {} ({}) follows without a vote", member.id, member.name),
    }
    Ok(())
}

fn fetch(settings: &Settings) -> Result<ClusterStatus, CommandError> {
    let ask = |server, time| {
        let text = ask::get(settings, server, STATUS_PATH, time)?;
        Ok::<ClusterStatus, CommandError>(serde_json::from_str(&text)?)
    };
    let own = ask(ask::own_server(settings), GET_TIMEOUT)?;
    let leader = own.members.iter().find(|member| Some(member.id) == own.leader && member.id != own.member);
    let of_leader = leader.and_then(address).and_then(|address| ask(address, GET_TIMEOUT).ok());
    // Without the leader this member's own view is better than none.
    let mut status = of_leader.unwrap_or_else(|| own.clone());
    let teller = Report::from(status.clone());
    std::thread::scope(|scope| {
        let asked = status.members.iter_mut().map(|member| {
            let known = match member.id {
                id if id == status.member => Some(teller.clone()),
                id if id == own.member => Some(Report::from(own.clone())),
                _ => None,
            };
            let server = address(member).filter(|_| known.is_none() && member.connected);
            scope.spawn(move || {
                member.reports =
                    known.or_else(|| server.and_then(|server| ask(server, REPORT_TIMEOUT).ok().map(Report::from)));
            });
        });
        asked.for_each(drop);
    });
    Ok(status)
}

fn address(member: &MemberStatus) -> Option<SocketAddr> {
    member.server.strip_prefix("https://")?.parse().ok()
}

fn render(status: &ClusterStatus) -> String {
    let leader = status.leader.map_or("none known".to_owned(), |leader| format!("member {leader}"));
    let mut out = format!("cluster    {}, as member {} sees it\n", status.cluster_id, status.member);
    // Writing to a String does not fail.
    let _ = writeln!(out, "leader     {leader}, term {}", status.term);
    let _ = writeln!(
        out,
        "log        committed {}, applied {}, flushed {}",
        status.committed, status.applied, status.durable
    );
    let _ = writeln!(out, "store      revision {}, history since {}", status.revision, status.compacted);
    let room = match status.room.as_str() {
        "low" => "low: nothing new is taken, what exists can be changed and deleted",
        "critical" => "critical: only deletes are taken",
        other => other,
    };
    let _ = writeln!(out, "disk       {room}");
    let _ = writeln!(out, "snapshots  {}", render_snapshots(&status.snapshots));
    for alarm in &status.alarms {
        let _ = writeln!(out, "ALARM      {} of member {}: {}", alarm.kind.as_str(), alarm.member, alarm.message);
    }
    out.push('\n');
    out + &render_members(status)
}

/// When a member took its last snapshot.
fn taken_at(snapshots: &SnapshotStatus) -> String {
    let Some(last) = &snapshots.last else { return "none".to_owned() };
    jiff::Timestamp::from_second(last.taken_at_s).map_or_else(|_| "?".to_owned(), |at| at.to_string())
}

fn render_snapshots(snapshots: &SnapshotStatus) -> String {
    let last = match &snapshots.last {
        None => "none yet".to_owned(),
        Some(last) => {
            let at = taken_at(snapshots);
            format!("last at {at}, revision {}, {} KiB", last.revision, last.bytes.div_ceil(1024))
        }
    };
    match snapshots.every_s {
        None => format!("off; {last}"),
        Some(every_s) => format!("every {} min; {last}", every_s / 60),
    }
}

fn render_members(status: &ClusterStatus) -> String {
    let mut out = format!(
        "{:>3}  {:<20} {:<8} {:<10} {:>6} {:>9} {:<9} {:<21} {:>9}  {:<22} {}\n",
        "ID", "NAME", "ROLE", "LINK", "LAG", "TO APPLY", "DISK", "LAST SNAPSHOT", "RTT", "PEERS", "API"
    );
    for member in &status.members {
        let link = match (member.id == status.member, member.connected, member.snapshot) {
            (true, ..) => "self",
            (_, _, true) => "snapshot",
            (_, true, _) => "connected",
            (_, false, _) => "down",
        };
        let lag = member.lag.map_or_else(String::new, |lag| lag.to_string());
        let time = member.round_trip_us.map_or_else(String::new, |us| format!("{:.1} ms", us as f64 / 1000.0));
        let told = member.reports.as_ref();
        let behind = told.map_or_else(String::new, |told| status.committed.saturating_sub(told.applied).to_string());
        let room = told.map_or("?", |told| told.room.as_str());
        let last = told.map_or_else(|| "?".to_owned(), |told| taken_at(&told.snapshots));
        let _ = writeln!(
            out,
            "{:>3}  {:<20} {:<8} {link:<10} {lag:>6} {behind:>9} {room:<9} {last:<21} {time:>9}  {:<22} {}{}",
            member.id,
            member.name,
            member.role,
            member.peer_address,
            member.server,
            if member.wanted == Wanted::Removed { "  to be removed" } else { "" }
        );
    }
    out
}
