//! raft-rs logs through slog; this hands its lines to tracing.

use slog::{Drain, KV, Key, Level, Logger, OwnedKVList, Record, Serializer};

struct ToTracing;

struct Fields(String);

impl Serializer for Fields {
    fn emit_arguments(&mut self, key: Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        use std::fmt::Write;
        write!(self.0, " {key}={value}").map_err(Into::into)
    }
}

impl Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        // Raft is talkative: what it calls info is of interest to who debugs it only.
        let wanted = match record.level() {
            Level::Critical | Level::Error => tracing::enabled!(target: "raft", tracing::Level::ERROR),
            Level::Warning => tracing::enabled!(target: "raft", tracing::Level::WARN),
            Level::Info => tracing::enabled!(target: "raft", tracing::Level::DEBUG),
            Level::Debug | Level::Trace => tracing::enabled!(target: "raft", tracing::Level::TRACE),
        };
        if !wanted {
            return Ok(());
        }
        let mut fields = Fields(String::new());
        // A field that cannot be printed is left out.
        let _ = record.kv().serialize(record, &mut fields);
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}{}", record.msg(), fields.0),
            Level::Warning => tracing::warn!(target: "raft", "{}{}", record.msg(), fields.0),
            Level::Info => tracing::debug!(target: "raft", "{}{}", record.msg(), fields.0),
            Level::Debug | Level::Trace => tracing::trace!(target: "raft", "{}{}", record.msg(), fields.0),
        }
        Ok(())
    }
}

pub(crate) fn logger() -> Logger {
    Logger::root(ToTracing, slog::o!())
}
