//! A write is on the disk before it is acknowledged: read from a trace of the system calls of the real process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use navarch_tests::server::Server;
use navarch_tests::tracer::Tracer;
use navarch_tests::{describe, eventually};

const CREATES: usize = 50;
const CALLS: &str = "trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,fsync,fdatasync";

/// A connection ends with TLS alerts. They are smaller, and any part of a request is larger.
const ALERT_BYTES_MAX: i64 = 48;

/// What the trace says, in the order in which it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The client's bytes have arrived.
    Arrived,
    /// A sync of the log was asked for by this thread.
    SyncBegan(u32),
    /// It succeeded.
    Synced(u32),
    /// An answer is being written.
    Answers,
}

/// The parts of a line: thread, call, what it is applied to, result. A call that other threads interrupt is in two lines.
struct Line<'t> {
    thread: u32,
    call: &'t str,
    target: &'t str,
    begins: bool,
    result: Option<i64>,
}

fn parse(line: &str) -> Option<Line<'_>> {
    let (thread, rest) = line.trim_start().split_once(' ')?;
    let (_time, rest) = rest.trim_start().split_once(' ')?;
    let unfinished = rest.ends_with("<unfinished ...>");
    let result = || rest.rsplit_once(" = ")?.1.split(' ').next()?.parse().ok();
    let result = if unfinished { None } else { result() };
    let thread = thread.parse().ok()?;
    if let Some(resumed) = rest.strip_prefix("<... ") {
        return Some(Line { thread, call: resumed.split(' ').next()?, target: "", begins: false, result });
    }
    let (call, arguments) = rest.split_once('(')?;
    let target = arguments.split([',', ')']).next()?;
    Some(Line { thread, call, target, begins: true, result })
}

/// The steps of one connection to `port` and of the syncs of files below `log`, with the numbers of their lines.
fn steps(trace: &str, log: &Path, port: u16) -> Vec<(usize, Step)> {
    let (log, socket) = (format!("<{}/", log.display()), format!("<TCP:[127.0.0.1:{port}->"));
    let mut interrupted: BTreeMap<u32, String> = BTreeMap::new();
    let mut found = Vec::new();
    for (number, line) in trace.lines().enumerate().filter_map(|(number, line)| Some((number, parse(line)?))) {
        let target = if line.begins {
            interrupted.insert(line.thread, line.target.to_owned());
            line.target.to_owned()
        } else {
            interrupted.remove(&line.thread).unwrap_or_default()
        };
        let (of_log, of_socket) = (target.contains(&log), target.contains(&socket));
        match line.call {
            "fsync" | "fdatasync" if of_log => {
                if line.begins {
                    found.push((number, Step::SyncBegan(line.thread)));
                }
                if line.result == Some(0) {
                    found.push((number, Step::Synced(line.thread)));
                }
            }
            "read" | "readv" | "recvfrom" | "recvmsg"
                if of_socket && line.result.is_some_and(|bytes| bytes > ALERT_BYTES_MAX) =>
            {
                found.push((number, Step::Arrived));
            }
            "write" | "writev" | "sendto" | "sendmsg" if of_socket && line.begins => {
                found.push((number, Step::Answers));
            }
            _ => {}
        }
    }
    found
}

/// A request and the beginning of its answer.
struct Exchange {
    /// The lines between which its syncs must be.
    lines: std::ops::Range<usize>,
    /// Whether a sync of the log began and succeeded in between.
    synced: bool,
}

/// The last `requests` exchanges.
fn exchanges(trace: &str, log: &Path, port: u16, requests: usize) -> Result<Vec<Exchange>, String> {
    let mut exchanges = Vec::new();
    let (mut began, mut synced, mut arrived) = (Vec::new(), false, None);
    for (line, step) in steps(trace, log, port) {
        match step {
            Step::Arrived => (began, synced, arrived) = (Vec::new(), false, Some(line)),
            Step::SyncBegan(thread) => began.push(thread),
            Step::Synced(thread) => synced |= began.contains(&thread),
            Step::Answers => {
                exchanges.extend(arrived.take().map(|arrived| Exchange { lines: arrived..line, synced }));
            }
        }
    }
    let first = exchanges.len().checked_sub(requests).ok_or_else(|| format!("only {} exchanges", exchanges.len()))?;
    Ok(exchanges.split_off(first))
}

/// Checks the last `requests` exchanges, each of which was a write: between the end of the request's arrival and the first
/// byte of its answer a sync of the log began and succeeded.
fn check(trace: &str, log: &Path, port: u16, requests: usize) -> Result<(), String> {
    match exchanges(trace, log, port, requests)?.iter().position(|exchange| !exchange.synced) {
        None => Ok(()),
        Some(number) => Err(format!("write {number} of {requests} was answered without a sync of the log")),
    }
}

/// Creates ConfigMaps one after the other over one connection.
fn create(server: &Server, count: usize) {
    let mut command = server.curl();
    for number in 0..count {
        let body = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"traced-{number}"}}}}"#);
        if number > 0 {
            // Every exchange has its own options; what the connection is made with comes first.
            let shared: Vec<_> = server.curl().get_args().map(ToOwned::to_owned).collect();
            command.arg("--next").args(shared);
        }
        command.args(["-o", "/dev/null", "-w", "%{http_code} %{num_connects}\\n"]);
        command.args(["-H", "content-type: application/json", "--data-binary", &body]);
        command.arg(server.url("/api/v1/namespaces/default/configmaps"));
    }
    let output = command.output().unwrap();
    let answers = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = format!("201 1\n{}", "201 0\n".repeat(count - 1));
    assert_eq!(answers, expected, "{}", describe(&output));
}

#[test]
fn every_acknowledged_write_was_synced_first() {
    let server = Server::start();
    let Some(tracer) = Tracer::attach(server.pid(), &["-yy", "-s", "0", "-e", CALLS]) else { return };
    // The first one may arrive with the end of the handshake, which is answered by itself: it is not checked.
    create(&server, 1 + CREATES);
    let trace = tracer.detach();
    let log = server.data_dir().join("store/log");
    check(&trace, &log, server.port(), CREATES).unwrap_or_else(|error| panic!("{error}\n{trace}"));

    // The same trace without the syncs of one exchange is rejected, whichever that is.
    let begins = |line: &str| {
        let parsed = parse(line);
        parsed.is_some_and(|l| l.begins && l.call.ends_with("sync") && l.target.contains(&*log.to_string_lossy()))
    };
    for (write, exchange) in exchanges(&trace, &log, server.port(), CREATES).unwrap().iter().enumerate() {
        let kept = trace.lines().enumerate();
        let kept = kept.filter(|(number, line)| !(exchange.lines.contains(number) && begins(line)));
        let kept: Vec<&str> = kept.map(|(_, line)| line).collect();
        let said = check(&kept.join("\n"), &log, server.port(), CREATES);
        assert_eq!(said, Err(format!("write {write} of {CREATES} was answered without a sync of the log")));
    }
    let failed = trace.replace("sync(", "sync_that_fails(");
    assert!(check(&failed, &log, server.port(), CREATES).is_err());
}

/// A trace of one exchange, as strace writes it.
fn written(calls: &[&str]) -> String {
    let mut text = String::new();
    for call in calls {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", call.replace("SOCKET", "9<TCP:[127.0.0.1:6443->127.0.0.1:40000]>"));
    }
    text
}

#[test]
fn the_check_knows_what_is_too_late() {
    let checked = |calls: &[&str]| check(&written(calls), Path::new("/d/store/log"), 6443, 1);
    let request = "11 10:00:00.000001 read(SOCKET, \"\"..., 4096) = 300";
    let again = "11 10:00:00.000002 read(SOCKET, 0x7f, 4096) = -1 EAGAIN (Resource temporarily unavailable)";
    let answer = "11 10:00:00.000009 writev(SOCKET, [{iov_base=\"\"..., iov_len=9}], 1) = 9";
    let sync = "12 10:00:00.000004 fdatasync(5</d/store/log/000004.log>) = 0";
    let begins = "12 10:00:00.000004 fdatasync(5</d/store/log/000004.log> <unfinished ...>";
    let ends = "12 10:00:00.000006 <... fdatasync resumed>) = 0";
    let fails = "12 10:00:00.000006 <... fdatasync resumed>) = -1 ENOSPC (No space left on device)";
    let elsewhere = "12 10:00:00.000004 fdatasync(5</d/store/state/000004.log>) = 0";
    assert_eq!(checked(&[request, again, sync, answer]), Ok(()));
    assert_eq!(checked(&[request, begins, again, ends, answer]), Ok(()));
    for wrong in [
        &[request, again, answer] as &[&str],
        &[request, answer, sync],
        &[sync, request, answer],
        &[begins, request, ends, answer],
        &[request, begins, answer, ends],
        &[request, begins, fails, answer],
        &[request, elsewhere, answer],
    ] {
        assert!(checked(wrong).is_err(), "{wrong:?}");
    }
    assert!(checked(&[request, sync]).is_err(), "no answer at all");
}

#[test]
fn a_write_that_cannot_be_synced_or_written_ends_the_process_unacknowledged() {
    let mut server = Server::start();
    let create = |server: &Server, name: &str| {
        let body = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}}}}"#);
        server.post("/api/v1/namespaces/default/configmaps", "application/json", &body).0
    };
    let sync = "inject=fdatasync,fsync:error=ENOSPC";
    for (number, fault) in [sync, "inject=write:error=ENOSPC", "inject=write:error=EIO"].into_iter().enumerate() {
        let kept = format!("kept-{number}");
        assert_eq!(create(&server, &kept), 201);
        // The log is one file, which nothing else writes to.
        let logs = std::fs::read_dir(server.data_dir().join("store/log")).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<String> = logs
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .flat_map(|path| ["-P".to_owned(), path.display().to_string()])
            .collect();
        let mut arguments = vec!["-e", "trace=write,fsync,fdatasync", "-e", fault];
        arguments.extend(files.iter().map(String::as_str));
        let Some(tracer) = Tracer::attach(server.pid(), &arguments) else { return };
        assert_eq!(create(&server, &format!("lost-{number}")), 0, "it was answered");
        eventually("the process has ended", || if server.runs() { Err(server.log()) } else { Ok(()) });
        let trace = tracer.detach();
        assert!(trace.contains("(INJECTED)"), "{trace}");
        assert!(server.log().contains("the store failed; ending the process"), "{}", server.log());
        server.run();
        assert!(server.kubectl(&["get", "configmaps", "-o", "name"]).contains(&kept));
    }
    for number in 0..3 {
        assert_eq!(create(&server, &format!("kept-{number}")), 409, "it is still there");
    }
}
