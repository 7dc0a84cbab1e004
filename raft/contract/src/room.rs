//! How much room the data folder has left, as those see it who take writes in.

/// How full the disk is. Refuse early: what is refused can be tried again, a log that cannot be written ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoomLevel {
    /// There is room.
    Ample,
    /// Nothing new may be created; what exists may be changed and deleted.
    Low,
    /// Only deletes and compaction: they are the way out, and room is reserved for them.
    Critical,
}

/// Knows how full the disk is. Asked at every write: must be quick.
pub trait Room: Send + Sync {
    /// Now.
    fn level(&self) -> RoomLevel;
}
