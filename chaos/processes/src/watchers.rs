//! Watchers that go from member to member and write down what they come across.

use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use navarch_chaos::check::history::{Change, Item, Kind, Seen};
use navarch_chaos::check::recorder::Recorder;
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Reply, revision};
use crate::load::PATH;

/// Where what watchers see is recorded.
pub type Sights = Recorder<BufWriter<File>>;

/// What all watchers share.
#[derive(Clone)]
pub struct Watching {
    /// The members.
    pub api: Api,
    /// What they write down.
    pub sights: Arc<Sights>,
    /// Events seen, connections begun, times that history was gone.
    pub counts: Arc<[AtomicU64; 3]>,
    /// When this is set, watchers end as soon as they have seen all up to this revision.
    pub until: Arc<AtomicU64>,
    /// They end with this, wherever they are.
    pub stop: CancellationToken,
    /// What watchers were told that is no event.
    pub odd: Arc<Mutex<Vec<String>>>,
}

fn name_of(object: &Value) -> String {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn value_of(object: &Value) -> String {
    object.pointer("/data/v").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What a line of a watch is.
enum Line {
    Seen(Seen, u64),
    Expired,
    Odd(String),
}

fn read(line: &[u8], after: u64) -> Line {
    let Ok(event) = serde_json::from_slice::<Value>(line) else {
        return Line::Odd(String::from_utf8_lossy(line).into_owned());
    };
    let object = &event["object"];
    let at = revision(object).unwrap_or(0);
    let kind = match event["type"].as_str().unwrap_or_default() {
        "ADDED" => Kind::Added,
        "MODIFIED" => Kind::Modified,
        "DELETED" => Kind::Deleted,
        // A bookmark may repeat where the watch is.
        "BOOKMARK" => return Line::Seen(Seen::Bookmark { revision: at }, at.max(after)),
        "ERROR" if object["code"] == 410 => return Line::Expired,
        _ => return Line::Odd(event.to_string()),
    };
    Line::Seen(
        Seen::Event(Change { revision: at, key: name_of(object), kind, value: value_of(object), previous: None }),
        at,
    )
}

impl Watching {
    fn done(&self, after: Option<u64>) -> bool {
        let until = self.until.load(Ordering::Acquire);
        self.stop.is_cancelled() || (until > 0 && after.is_some_and(|after| after >= until))
    }

    fn see(&self, watcher: &str, seen: Seen) {
        self.sights.seen(watcher, "", seen).unwrap();
    }

    /// Watches, and goes to another member after `stay`, until told to stop.
    pub async fn watch(self, number: usize, stay: Duration) {
        let watcher = format!("w{number}-{}ms", stay.as_millis());
        let (mut member, mut after) = (number, None);
        while !self.done(after) {
            let server = self.api.server(member);
            member += 1;
            let from = match after {
                Some(after) => after,
                None => match self.list(&watcher, &server).await {
                    Some(revision) => revision,
                    None => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            after = self.session(&watcher, &server, from, stay).await;
        }
    }

    async fn list(&self, watcher: &str, server: &str) -> Option<u64> {
        let Reply::Answer(200, list) = self.api.ask(server, Method::GET, PATH, None).await else { return None };
        let at = revision(&list)?;
        let items = list["items"].as_array()?;
        let item = |object: &Value| Item {
            key: name_of(object),
            value: value_of(object),
            revision: revision(object).unwrap_or(0),
        };
        self.see(watcher, Seen::Listed { revision: at, items: items.iter().map(item).collect() });
        Some(at)
    }

    /// One connection. Returns where it got to, or nothing if history before that is gone.
    async fn session(&self, watcher: &str, server: &str, from: u64, stay: Duration) -> Option<u64> {
        let path = format!("{PATH}?watch=1&allowWatchBookmarks=true&resourceVersion={from}");
        let Ok(response) = self.api.stream(server, &path).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Some(from);
        };
        match response.status().as_u16() {
            200 => {}
            410 => return self.expired(watcher, from),
            // A server that starts, or one that has not come so far yet.
            429 | 503 | 504 => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                return Some(from);
            }
            code => {
                self.odd.lock().push(format!("a watch was answered with {code}"));
                return Some(from);
            }
        }
        self.counts[1].fetch_add(1, Ordering::Relaxed);
        self.see(watcher, Seen::Opened { after: from, member: server.to_owned() });
        let (mut after, mut buffer, mut body) = (from, Vec::new(), response.bytes_stream());
        let end = tokio::time::sleep(stay);
        tokio::pin!(end);
        while !self.done(Some(after)) {
            let chunk = tokio::select! {
                () = &mut end => break,
                () = self.stop.cancelled() => break,
                // So that the end is noticed on a stream on which nothing comes.
                () = tokio::time::sleep(Duration::from_millis(200)) => continue,
                chunk = body.next() => chunk,
            };
            let Some(Ok(chunk)) = chunk else { break };
            buffer.extend_from_slice(&chunk);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                match read(&line, after) {
                    Line::Seen(seen, at) => {
                        if matches!(seen, Seen::Event(_)) {
                            self.counts[0].fetch_add(1, Ordering::Relaxed);
                        }
                        self.see(watcher, seen);
                        after = at;
                    }
                    Line::Expired => return self.expired(watcher, after),
                    Line::Odd(line) => {
                        self.odd.lock().push(line);
                        return Some(after);
                    }
                }
            }
        }
        Some(after)
    }

    fn expired(&self, watcher: &str, after: u64) -> Option<u64> {
        self.counts[2].fetch_add(1, Ordering::Relaxed);
        self.see(watcher, Seen::Expired { after });
        None
    }
}
