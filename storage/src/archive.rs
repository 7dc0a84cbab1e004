//! A state in a file: what `snapshot save` writes, and everybody else reads.
//!
//! ```text
//! "NAVSNAP1"  length (u32), ArchiveHeader, the first 8 bytes of the SHA-256 of all that   then the stream of crate::stream
//! ```
//! A file has its name only when every byte of it was checked and is on the disk.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use navarch_raft_contract::{SnapshotError, SnapshotMeta};
use prost::Message as _;
use sha2::{Digest, Sha256};

use crate::{
    check::{Checker, Living, describe},
    stream::{Decoder, records},
};

const NAME: &[u8; 7] = b"NAVSNAP";
const FORM: u8 = b'1';
const FRAME_BYTES: usize = NAME.len() + 1 + 4;
const SUM_BYTES: usize = 8;
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;
/// What the name of a file ends with that is not complete.
pub const PART: &str = ".part";

/// Where a file comes from.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ArchiveHeader {
    /// The version that wrote it.
    #[prost(string, tag = "1")]
    pub created_by: String,
    /// The cluster.
    #[prost(string, tag = "2")]
    pub cluster_id: String,
    /// The member whose state it is.
    #[prost(uint64, tag = "3")]
    pub member: u64,
    /// When, milliseconds since the Unix epoch by that member's clock.
    #[prost(uint64, tag = "4")]
    pub taken_at_ms: u64,
}

impl ArchiveHeader {
    /// What comes before the stream.
    pub fn encoded(&self) -> Vec<u8> {
        let header = self.encode_to_vec();
        let mut out = Vec::with_capacity(FRAME_BYTES + header.len() + SUM_BYTES);
        out.extend_from_slice(NAME);
        out.push(FORM);
        out.extend_from_slice(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&header);
        let sum = Sha256::digest(&out);
        out.extend_from_slice(&sum[..SUM_BYTES]);
        out
    }
}

/// Keys of one kind, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Keys.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// What a file holds; every byte of it was checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inspection {
    /// Where it comes from.
    pub header: ArchiveHeader,
    /// Which state it is.
    pub meta: SnapshotMeta,
    /// The compaction floor in it.
    pub compacted: u64,
    /// The state's hash.
    pub hash: u64,
    /// What lives, by the groups of [`Asked`].
    pub groups: BTreeMap<String, Share>,
    /// Keys and values that were asked for.
    pub records: Vec<(Bytes, Bytes)>,
    /// Bytes of the file.
    pub file_bytes: u64,
}

/// What is asked of a file beside that it is sound.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The group that a key is counted in.
    pub group: fn(&[u8]) -> String,
    /// What keys begin with whose values are wanted. Should be few.
    pub records: &'a [u8],
}

fn damaged(what: impl Into<String>) -> SnapshotError {
    SnapshotError::Damaged(what.into())
}

/// Checks a file that is handed in piece by piece.
pub struct Examiner<'a> {
    asked: Asked<'a>,
    /// Until the header is here whole.
    head: Option<Vec<u8>>,
    decoder: Decoder,
    checker: Checker,
    found: Inspection,
}

impl<'a> Examiner<'a> {
    /// Begins.
    pub fn new(asked: Asked<'a>) -> Self {
        let (decoder, checker) = (Decoder::default(), Checker::default());
        Self { asked, head: Some(Vec::new()), decoder, checker, found: Inspection::default() }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// What is wrong with them, and where.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.found.file_bytes += bytes.len() as u64;
        let Some(mut head) = self.head.take() else { return self.stream(bytes) };
        head.extend_from_slice(bytes);
        match header(&head)? {
            None => self.head = Some(head),
            Some((header, length)) => {
                self.found.header = header;
                self.stream(head.get(length..).unwrap_or_default())?;
            }
        }
        Ok(())
    }

    fn stream(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let Self { asked, decoder, checker, found, .. } = self;
        let mut living = |living: Living<'_>| {
            let group = found.groups.entry((asked.group)(living.key)).or_default();
            group.keys += 1;
            group.bytes += (living.key.len() + living.value.len()) as u64;
            if living.key.starts_with(asked.records) {
                found.records.push((Bytes::copy_from_slice(living.key), Bytes::copy_from_slice(living.value)));
            }
            Ok(())
        };
        decoder.push(bytes, |block| records(block, |key, value| checker.record(key, value, &mut living)))
    }

    /// All bytes are here.
    ///
    /// # Errors
    /// If some are missing, or what they hold is no sound state.
    pub fn finish(mut self) -> Result<Inspection, SnapshotError> {
        if self.head.is_some() {
            return Err(damaged(format!("it ends early, after {} bytes", self.found.file_bytes)));
        }
        self.decoder.finish()?;
        let meta = self.checker.finish()?;
        (self.found.compacted, self.found.hash) = (meta.floor, meta.hash);
        self.found.meta = describe(&meta);
        Ok(self.found)
    }
}

/// The header and its length, if it is here whole.
fn header(head: &[u8]) -> Result<Option<(ArchiveHeader, usize)>, SnapshotError> {
    let known = head.len().min(NAME.len());
    if head.get(..known) != NAME.get(..known) {
        return Err(damaged("it does not begin as one"));
    }
    match head.get(NAME.len()) {
        None => return Ok(None),
        Some(&FORM) => {}
        Some(other) => {
            let why =
                format!("it is of form {:?}, and this version reads form {:?}", char::from(*other), char::from(FORM));
            return Err(SnapshotError::Io(io::Error::new(io::ErrorKind::Unsupported, why)));
        }
    }
    let Some(length) = head.get(NAME.len() + 1..FRAME_BYTES).and_then(|four| four.try_into().ok()) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(length) as usize;
    if length > HEADER_BYTES_MAX {
        return Err(damaged("its header's length"));
    }
    let (end, total) = (FRAME_BYTES + length, FRAME_BYTES + length + SUM_BYTES);
    let Some(sum) = head.get(end..total) else { return Ok(None) };
    if Sha256::digest(&head[..end])[..SUM_BYTES] != *sum {
        return Err(damaged(format!("its header, in the first {total} bytes")));
    }
    let header = ArchiveHeader::decode(&head[FRAME_BYTES..end]).map_err(|error| damaged(error.to_string()))?;
    Ok(Some((header, total)))
}

/// Calls `each` with all bytes of a reader.
fn pump(from: &mut dyn Read, mut each: impl FnMut(&[u8]) -> Result<(), SnapshotError>) -> Result<(), SnapshotError> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => each(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Checks every byte of a file.
///
/// # Errors
/// What is wrong with it, and where.
pub fn inspect(path: &Path, asked: Asked<'_>) -> Result<Inspection, SnapshotError> {
    let mut examiner = Examiner::new(asked);
    pump(&mut File::open(path)?, |bytes| examiner.push(bytes))?;
    examiner.finish()
}

/// A file that is being written. Dropping it without [`Saving::finish`] leaves nothing behind.
pub struct Saving<'a> {
    path: PathBuf,
    part: PathBuf,
    file: Option<File>,
    examiner: Option<Examiner<'a>>,
}

impl<'a> Saving<'a> {
    /// Begins to write the file. The folder must be there.
    ///
    /// # Errors
    /// What the file system says; if there is such a file.
    pub fn begin(path: &Path, asked: Asked<'a>) -> Result<Self, SnapshotError> {
        if path.exists() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", path.display())).into());
        }
        let mut part = path.as_os_str().to_owned();
        part.push(PART);
        let part = PathBuf::from(part);
        let mut options = File::options();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let opened = options.create(true).truncate(true).write(true).open(&part);
        let file = opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", part.display())))?;
        Ok(Self { path: path.to_owned(), part, file: Some(file), examiner: Some(Examiner::new(asked)) })
    }

    /// The next bytes.
    ///
    /// # Errors
    /// If they are not those of a sound state, or cannot be written.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let (Some(examiner), Some(file)) = (&mut self.examiner, &mut self.file) else {
            return Err(damaged("it is finished"));
        };
        examiner.push(bytes)?;
        Ok(file.write_all(bytes)?)
    }

    /// All bytes are here: the file gets its name.
    ///
    /// # Errors
    /// As [`Saving::push`].
    pub fn finish(mut self) -> Result<Inspection, SnapshotError> {
        let (Some(examiner), Some(file)) = (self.examiner.take(), self.file.take()) else {
            return Err(damaged("it is finished"));
        };
        let found = examiner.finish()?;
        file.sync_all()?;
        fs::rename(&self.part, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(found)
    }
}

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.part)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.part.display(), "cannot remove a snapshot that was not completed");
        }
    }
}

/// Writes a state into a file: the header, then what `state` gives.
///
/// # Errors
/// As [`Saving::finish`].
pub fn save(
    path: &Path,
    header: &ArchiveHeader,
    state: &mut dyn Read,
    asked: Asked<'_>,
) -> Result<Inspection, SnapshotError> {
    let mut saving = Saving::begin(path, asked)?;
    saving.push(&header.encoded())?;
    pump(state, |bytes| saving.push(bytes))?;
    saving.finish()
}

/// Calls `each` with the bytes of the state in a file.
///
/// # Errors
/// If it does not begin as one, and what `each` says.
pub fn read_state(
    path: &Path,
    mut each: impl FnMut(&[u8]) -> Result<(), SnapshotError>,
) -> Result<ArchiveHeader, SnapshotError> {
    let (mut head, mut found) = (Vec::new(), None);
    pump(&mut File::open(path)?, |bytes| {
        if found.is_some() {
            return each(bytes);
        }
        head.extend_from_slice(bytes);
        if let Some((header, length)) = header(&head)? {
            found = Some(header);
            each(head.get(length..).unwrap_or_default())?;
        }
        Ok(())
    })?;
    found.ok_or_else(|| damaged(format!("it ends early, after {} bytes", head.len())))
}
