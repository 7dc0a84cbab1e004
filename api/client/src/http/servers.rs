//! The servers of a cluster, as the clients of one process know them: [`select`] decides, this remembers.

mod file;
mod select;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use navarch_types::{ApiError, Reason, ServerList};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use select::Selector;
pub use select::Trouble;

use super::HttpConfigError;

/// A cluster has three or five; more than this is a mistake, or somebody else's list.
const SERVERS_MAX: usize = 64;

/// What the clients of one process know of their servers, and which one they use. Clients that share it move together.
pub struct Servers {
    selector: Mutex<Selector>,
    current: watch::Sender<Arc<str>>,
    /// Where it is kept what was learnt.
    file: Option<PathBuf>,
    wake: Notify,
}

/// Whether this is `https://host:port`, with nothing behind it.
fn check(url: &str) -> Result<Arc<str>, HttpConfigError> {
    let wrong = || HttpConfigError::Server(url.to_owned());
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    if uri.scheme_str() != Some("https") || uri.authority().is_none() || uri.query().is_some() {
        return Err(wrong());
    }
    Ok(url.trim_end_matches('/').into())
}

impl Servers {
    /// The servers that a client was told of, in `https://host:port` form, and those that `file` holds from the last time.
    /// `name` is the client's own: it chooses where the client begins.
    ///
    /// # Errors
    /// If one that it was told of has another form, or there is none at all. A file that cannot be read is as good as none.
    pub fn new(told: &[String], name: &str, file: Option<PathBuf>) -> Result<Arc<Self>, HttpConfigError> {
        let seeds = told.iter().map(|url| check(url)).collect::<Result<Vec<_>, _>>()?;
        let learnt = file.as_deref().map(file::read).unwrap_or_default();
        let learnt: Vec<_> = learnt.iter().filter_map(|url| check(url).ok()).take(SERVERS_MAX).collect();
        let selector = Selector::new(name, seeds, &learnt, Instant::now());
        let selector = selector.ok_or_else(|| HttpConfigError::Server(String::new()))?;
        let current = watch::Sender::new(Arc::clone(selector.current()));
        Ok(Arc::new(Self { selector: Mutex::new(selector), current, file, wake: Notify::new() }))
    }

    /// The one in use.
    pub fn current(&self) -> Arc<str> {
        Arc::clone(&self.current.borrow())
    }

    /// All, in the order of preference.
    pub fn known(&self) -> Vec<String> {
        self.selector.lock().known().map(|(url, _)| url.to_string()).collect()
    }

    /// Runs on the selector, and tells of the move that it may have made.
    fn with<T>(&self, run: impl FnOnce(&mut Selector, Instant) -> T) -> T {
        let mut selector = self.selector.lock();
        let result = run(&mut selector, Instant::now());
        // Under the lock, so that moves are told in their order.
        self.current.send_if_modified(|present| {
            let moved = present != selector.current();
            if moved {
                tracing::info!(from = &**present, to = &**selector.current(), "using another server");
                present.clone_from(selector.current());
            }
            moved
        });
        result
    }

    pub(super) fn pick(&self, tried: &[Arc<str>]) -> Option<Arc<str>> {
        self.with(|selector, now| selector.pick(tried, now))
    }

    pub(super) fn better(&self) -> Option<Arc<str>> {
        self.with(|selector, now| selector.better(now))
    }

    pub(super) fn answered(&self, url: &str) {
        self.with(|selector, now| selector.answered(url, now));
    }

    pub(super) fn settle(&self, url: &str) {
        self.with(|selector, now| selector.settle(url, now));
    }

    pub(super) fn forgive(&self) {
        self.with(Selector::forgive);
    }

    pub(super) fn failed(&self, url: &str, trouble: Trouble) {
        tracing::debug!(server = url, ?trouble, "a server failed");
        self.with(|selector, now| selector.failed(url, trouble, now));
    }

    /// A request failed: if that is the server in use, whoever tends the servers looks soon.
    pub(super) fn alarm(&self, url: &str, trouble: Trouble) {
        self.failed(url, trouble);
        if **self.current.borrow() == *url {
            self.wake.notify_one();
        }
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Why nobody is asked.
    pub(super) fn refusal(&self) -> ApiError {
        let shunned = self.with(|selector, now| selector.shunned(now));
        let all: Vec<_> = shunned.iter().map(|(url, time)| format!("{url} (again in {} s)", time.as_secs())).collect();
        let text = format!("no server can be asked; with these TLS failed: {}", all.join(", "));
        ApiError::new(Reason::ServiceUnavailable, text)
    }

    /// Ends when the client has moved away from a server.
    pub(super) async fn left(self: Arc<Self>, url: Arc<str>) {
        let mut current = self.current.subscribe();
        if !self.selector.lock().known().any(|(known, _)| *known == url) {
            return;
        }
        // The sender lives in `self`. Who was not at the current server to begin with leaves it at the next move.
        while current.changed().await.is_ok() {
            if *current.borrow_and_update() != url {
                return;
            }
        }
    }

    /// Takes what a server said of all of them, and keeps it if it is new.
    pub(super) async fn learn(&self, list: &ServerList) {
        let listed: Vec<_> = list
            .servers
            .iter()
            .take(SERVERS_MAX)
            .filter_map(|server| check(&server.url).ok().map(|url| (url, server.live)))
            .collect();
        if !self.with(|selector, now| selector.learn(&listed, now)) {
            return;
        }
        let urls: Vec<_> = listed.iter().map(|(url, _)| url.to_string()).collect();
        tracing::info!(servers = urls.join(" "), "the servers of the cluster");
        let Some(path) = self.file.clone() else { return };
        let shown = path.display().to_string();
        // It syncs, and this may be an actor's thread.
        let written = tokio::task::spawn_blocking(move || file::write(&path, &urls)).await;
        if let Err(error) = written.map_err(std::io::Error::other).and_then(|result| result) {
            tracing::warn!(%error, path = shown, "cannot keep the list of servers");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use navarch_types::ListedServer;

    use super::*;

    #[test]
    fn addresses_have_one_form() {
        for (url, good) in [
            ("https://10.0.0.1:6443", true),
            ("https://host", true),
            ("https://[::1]:6443/", true),
            ("http://10.0.0.1:6443", false),
            ("10.0.0.1:6443", false),
            ("https://host?x", false),
            ("", false),
        ] {
            assert_eq!(check(url).is_ok(), good, "{url}");
            assert_eq!(Servers::new(&[url.to_owned()], "n", None).is_ok(), good, "{url}");
        }
        assert!(Servers::new(&[], "n", None).is_err());
    }

    #[tokio::test]
    async fn what_was_learnt_is_known_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent").join("servers.json");
        let told = ["https://first:1".to_owned()];
        let servers = Servers::new(&told, "n", Some(path.clone())).unwrap();
        let listed = |url: &str| ListedServer { url: url.to_owned(), live: true };
        let mut list = ServerList {
            servers: vec![listed("https://second:1"), listed("http://not-safe:1"), listed("https://third:1/")],
            ..ServerList::default()
        };
        servers.learn(&list).await;
        let sorted = |servers: &Servers| {
            let mut known = servers.known();
            known.sort();
            known.join(" ")
        };
        let again = Servers::new(&told, "n", Some(path.clone())).unwrap();
        for known in [servers, Arc::clone(&again)] {
            assert_eq!(sorted(&known), "https://first:1 https://second:1 https://third:1");
            assert_eq!(known.known().last().unwrap(), "https://first:1", "the cluster's own come first");
        }
        // Nobody is no answer.
        list.servers.clear();
        again.learn(&list).await;
        assert_eq!(again.known().len(), 3);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(sorted(&Servers::new(&told, "n", Some(path)).unwrap()), "https://first:1");
    }
}
