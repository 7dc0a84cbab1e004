//! A list that is read page by page, each page from whichever member, all of one revision.

use bytes::Bytes;
use navarch_raft_contract::{KeyRange, ReadError, Revision};

use super::{clients::REGISTERS, record::item};
use crate::{State, check::history::Item, ledger::Violation};

/// Keys of a page.
const PAGE_KEYS: usize = 1;

/// See the module.
pub(super) struct Pages {
    /// Not older than this.
    pub asked: Revision,
    /// The revision of the first page, once it is there: all others must be of it.
    revision: Option<Revision>,
    /// Where the next page begins.
    next: Bytes,
    pub items: Vec<Item>,
}

/// What came of asking for a page.
pub(super) enum Turn {
    /// The member does not have the revision yet.
    Wait,
    /// A page, and not the last.
    More,
    /// The last page: this was the revision.
    Done(Revision),
    /// The revision is below the floor by now.
    Gone,
}

impl Pages {
    /// A list that is not older than `asked`.
    pub(super) fn after(asked: Revision) -> Self {
        let next = KeyRange::prefix(REGISTERS.as_bytes()).start;
        Self { asked, revision: None, next, items: Vec::new() }
    }

    /// Asks a member for the next page.
    pub(super) fn read(&mut self, state: &dyn State) -> Result<Turn, Violation> {
        if state.revision() < self.revision.unwrap_or(self.asked) {
            return Ok(Turn::Wait);
        }
        let range = KeyRange { start: self.next.clone(), ..KeyRange::prefix(REGISTERS.as_bytes()) };
        let (page, revision) = match state.range(&range, self.revision, PAGE_KEYS) {
            Ok(read) => read,
            Err(ReadError::Compacted { .. }) => return Ok(Turn::Gone),
            Err(error) => return Err(Violation(format!("a page: {error}"))),
        };
        self.revision = Some(revision);
        self.items.extend(page.items.iter().map(item));
        match page.items.last().filter(|_| page.more) {
            Some(last) => {
                self.next = [last.key.as_ref(), &[0]].concat().into();
                Ok(Turn::More)
            }
            None => Ok(Turn::Done(revision)),
        }
    }
}
