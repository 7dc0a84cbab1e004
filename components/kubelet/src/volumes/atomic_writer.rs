//! Writes a set of files so that a reader sees all of the old or all of the new, never a mixture.
//!
//! The files live in a folder named by time; `..data` is a symbolic link to it, swapped by one rename; what the container
//! sees are links through `..data`. Nothing is touched when nothing changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileData {
    /// Its content.
    pub data: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
}

/// Files by path relative to the volume.
pub type Payload = BTreeMap<String, FileData>;

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// Whether a path may be written: relative, not upwards, not in the writer's own names.
pub fn is_valid_path(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with("..")
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Makes `target` hold exactly `payload`. `own` is called on the new folder before it becomes visible. Returns whether
/// something changed.
///
/// # Errors
/// If the disk refuses. The old files are then still complete.
pub fn write(target: &Path, payload: &Payload, own: impl Fn(&Path) -> io::Result<()>) -> io::Result<bool> {
    if let Some(bad) = payload.keys().find(|path| !is_valid_path(path)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path in volume: {bad:?}")));
    }
    let current = fs::read_link(target.join(DATA)).ok();
    if let Some(current) = &current
        && read(&target.join(current)).is_ok_and(|old| &old == payload)
    {
        make_links(target, payload)?;
        return Ok(false);
    }
    let name = fresh_name(target);
    let folder = target.join(&name);
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &file.data)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
    }
    own(&folder)?;
    let _ = fs::remove_file(target.join(DATA_NEXT));
    symlink(&name, target.join(DATA_NEXT))?;
    fs::rename(target.join(DATA_NEXT), target.join(DATA))?;
    make_links(target, payload)?;
    remove_stale(target, payload, &name)?;
    Ok(true)
}

fn fresh_name(target: &Path) -> String {
    let now = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    let mut count = 0_u32;
    loop {
        let name = format!("{now}.{}{count}", std::process::id());
        if !target.join(&name).exists() {
            return name;
        }
        count += 1;
    }
}

/// The first part of every path: what stands in the volume itself.
fn tops(payload: &Payload) -> BTreeSet<&str> {
    payload.keys().filter_map(|path| path.split('/').next()).collect()
}

fn make_links(target: &Path, payload: &Payload) -> io::Result<()> {
    for top in tops(payload) {
        let link = target.join(top);
        let wanted = Path::new(DATA).join(top);
        if fs::read_link(&link).is_ok_and(|found| found == wanted) {
            continue;
        }
        match fs::symlink_metadata(&link) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&link)?,
            Ok(_) => fs::remove_file(&link)?,
            Err(_) => {}
        }
        symlink(wanted, link)?;
    }
    Ok(())
}

fn remove_stale(target: &Path, payload: &Payload, current: &str) -> io::Result<()> {
    let tops = tops(payload);
    for entry in fs::read_dir(target)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == DATA || name == current || tops.contains(name.as_ref()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn read(folder: &Path) -> io::Result<Payload> {
    let mut payload = Payload::new();
    for entry in walk(folder)? {
        let relative = entry.strip_prefix(folder).unwrap_or(&entry).to_string_lossy().into_owned();
        let mode = fs::metadata(&entry)?.permissions().mode() & 0o7777;
        payload.insert(relative, FileData { data: fs::read(&entry)?, mode });
    }
    Ok(payload)
}

fn walk(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(walk(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files
            .iter()
            .map(|(path, data)| ((*path).to_owned(), FileData { data: data.as_bytes().to_vec(), mode: 0o640 }))
            .collect()
    }

    fn put(target: &Path, files: &[(&str, &str)]) -> bool {
        write(target, &payload(files), |_| Ok(())).unwrap()
    }

    #[test]
    fn updates_are_atomic_complete_and_only_on_change() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path();
        assert!(put(target, &[("a", "1"), ("sub/b", "2")]));
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(target.join("sub/b")).unwrap(), "2");
        let mode = fs::metadata(target.join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let before = fs::read_link(target.join("..data")).unwrap();
        assert!(!put(target, &[("a", "1"), ("sub/b", "2")]));
        assert_eq!(fs::read_link(target.join("..data")).unwrap(), before);
        assert!(put(target, &[("a", "3"), ("c", "4")]));
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "3");
        assert!(!target.join("sub").exists());
        assert!(!target.join(&before).exists());
        let mut left: Vec<String> =
            fs::read_dir(target).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left.len(), 4, "{left:?}");
        assert!(put(target, &[]));
        assert!(!target.join("a").exists());
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for bad in ["", "/etc/passwd", "../up", "a/../../b", "..data", "..2020"] {
            assert!(!is_valid_path(bad), "{bad}");
            let folder = tempfile::tempdir().unwrap();
            assert!(write(folder.path(), &payload(&[(bad, "x")]), |_| Ok(())).is_err(), "{bad}");
        }
        for good in ["a", "a/b", ".hidden", "a..b"] {
            assert!(is_valid_path(good), "{good}");
        }
    }
}
