//! What a sync costs on this disk, in two ways in which a log can be written.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

use crate::Fallible;
use crate::figures::Latencies;

/// About one entry of a log with an object.
const WRITE_BYTES: usize = 2300;
const WRITES: usize = 2000;

/// Medians of a write and an fdatasync, microseconds.
#[derive(Clone, Copy, Debug)]
pub struct SyncCost {
    /// At the end of a file that grows: the file system has to write the new size too.
    pub appending: f64,
    /// Over bytes that were written before.
    pub in_place: f64,
}

fn pass(file: &mut File) -> Fallible<f64> {
    let (bytes, mut latencies) = (vec![0x5a; WRITE_BYTES], Latencies::default());
    for _ in 0..WRITES {
        let begin = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        latencies.add(begin.elapsed());
    }
    Ok(f64::from(latencies.quantile(0.5)))
}

/// Measures in a file in this folder, which is removed.
pub fn measure(folder: &Path) -> Fallible<SyncCost> {
    let path = folder.join("sync-cost");
    let mut file = File::create(&path)?;
    let appending = pass(&mut file)?;
    file.seek(SeekFrom::Start(0))?;
    let in_place = pass(&mut file)?;
    std::fs::remove_file(&path)?;
    Ok(SyncCost { appending, in_place })
}
