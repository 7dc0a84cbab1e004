//! Mounts and paths on the host: tmpfs, bind mounts of sub-paths, checks of host paths, and taking everything down.
//! Every call blocks; callers run it off the actor's thread.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MountFlags, UnmountFlags};

/// Mounts a tmpfs, unless there is one.
///
/// # Errors
/// If the kernel refuses.
pub fn tmpfs(target: &Path, bytes: Option<i64>, mode: u32) -> io::Result<()> {
    fs::create_dir_all(target)?;
    if is_mount(target)? {
        return Ok(());
    }
    let mut options = format!("mode={mode:o}");
    if let Some(bytes) = bytes.filter(|bytes| *bytes > 0) {
        options.push_str(&format!(",size={bytes}"));
    }
    let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
    rustix::mount::mount("tmpfs", target, "tmpfs", MountFlags::NODEV, options.as_c_str())?;
    Ok(())
}

/// Paths of all mounts at or below a folder, deepest first.
fn mounts_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| PathBuf::from(unescape(path)))
        .filter(|path| path.starts_with(&folder))
        .collect();
    found.reverse();
    Ok(found)
}

/// The mount table writes blanks and backslashes as octal numbers.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if bytes[at] == b'\\' => {
                out.push(byte);
                at += 4;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn is_mount(path: &Path) -> io::Result<bool> {
    let path = fs::canonicalize(path)?;
    Ok(mounts_below(&path)?.contains(&path))
}

/// Unmounts everything at and below a folder and removes it. A missing folder is removed.
///
/// # Errors
/// If something still holds it: then what could not be removed is left, and nothing in a mount is deleted.
pub fn remove_tree(folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for mount in mounts_below(folder)? {
        match rustix::mount::unmount(&mount, UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(io::Error::other(format!("cannot unmount {}: {error}", mount.display()))),
        }
    }
    // A mount that appeared meanwhile must not be emptied.
    if let Some(mount) = mounts_below(folder)?.first() {
        return Err(io::Error::other(format!("{} is still mounted", mount.display())));
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Opens `sub_path` below `volume` such that no link leads out of it, making missing folders.
fn open_below(volume: &Path, sub_path: &str) -> io::Result<OwnedFd> {
    let root = rustix::fs::open(volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let open = |path: &str| {
        rustix::fs::openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH)
    };
    match open(sub_path) {
        Ok(found) => return Ok(found),
        Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mut so_far = String::new();
    for part in sub_path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let parent = if so_far.is_empty() { open(".")? } else { open(&so_far)? };
        match rustix::fs::mkdirat(&parent, part, Mode::from_raw_mode(0o750)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        so_far = if so_far.is_empty() { part.to_owned() } else { format!("{so_far}/{part}") };
    }
    Ok(open(sub_path)?)
}

/// Makes `target` show `sub_path` of `volume`, whatever links are put into the volume later. Returns `target`.
///
/// # Errors
/// If the path leads out of the volume or cannot be made.
pub fn bind_sub_path(volume: &Path, sub_path: &str, target: &Path) -> io::Result<PathBuf> {
    let source = open_below(volume, sub_path)
        .map_err(|error| io::Error::new(error.kind(), format!("failed to prepare subPath {sub_path:?}: {error}")))?;
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if target.exists() && is_mount(target)? {
        rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?;
    }
    let is_folder =
        rustix::fs::fstat(&source).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())?;
    if is_folder {
        fs::create_dir_all(target)?;
    } else if !target.exists() {
        fs::write(target, b"")?;
    }
    let path = format!("/proc/self/fd/{}", source.as_raw_fd());
    rustix::mount::mount_bind(path, target)?;
    Ok(target.to_path_buf())
}

/// Checks a host path against its type, making what its type says to make.
///
/// # Errors
/// In upstream's words.
pub fn host_path(path: &Path, kind: &str) -> Result<(), String> {
    let found = fs::metadata(path).ok().map(|data| data.file_type());
    let fail = |what: &str| Err(format!("hostPath type check failed: {} is not {what}", path.display()));
    match (kind, found) {
        ("", _) => Ok(()),
        ("DirectoryOrCreate", None) => fs::create_dir_all(path)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
            .map_err(|error| format!("cannot make {}: {error}", path.display())),
        ("FileOrCreate", None) => {
            fs::write(path, b"").map_err(|error| format!("cannot make {}: {error}", path.display()))
        }
        ("DirectoryOrCreate" | "Directory", Some(found)) if found.is_dir() => Ok(()),
        ("FileOrCreate" | "File", Some(found)) if found.is_file() => Ok(()),
        ("Socket", Some(found)) if found.is_socket() => Ok(()),
        ("CharDevice", Some(found)) if found.is_char_device() => Ok(()),
        ("BlockDevice", Some(found)) if found.is_block_device() => Ok(()),
        ("DirectoryOrCreate" | "Directory", _) => fail("a directory"),
        ("FileOrCreate" | "File", _) => fail("a file"),
        ("Socket", _) => fail("a socket file"),
        ("CharDevice", _) => fail("a character device"),
        ("BlockDevice", _) => fail("a block device"),
        (other, _) => Err(format!("{other} is an invalid volume type")),
    }
}

/// Gives everything below a folder to a group: readable and writable to it, new files too.
///
/// # Errors
/// If the disk refuses.
pub fn give_to_group(folder: &Path, group: u32, read_only: bool) -> io::Result<()> {
    let data = fs::symlink_metadata(folder)?;
    if data.file_type().is_symlink() {
        std::os::unix::fs::lchown(folder, None, Some(group))?;
        return Ok(());
    }
    chown(folder, None, Some(group))?;
    let mut mode = data.permissions().mode() & 0o7777 | if read_only { 0o440 } else { 0o660 };
    if data.is_dir() {
        mode |= 0o2110;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))?;
    if data.is_dir() {
        for entry in fs::read_dir(folder)? {
            give_to_group(&entry?.path(), group, read_only)?;
        }
    }
    Ok(())
}

/// Whether a path names something that exists, links followed.
pub fn exists(path: &Path) -> bool {
    rustix::fs::statat(CWD, path, rustix::fs::AtFlags::empty()).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn host_path_types() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let cases = [
            ("nothing", "", true),
            ("nothing", "Directory", false),
            ("nothing", "File", false),
            ("made", "DirectoryOrCreate", true),
            ("made", "Directory", true),
            ("made", "File", false),
            ("made-file", "FileOrCreate", true),
            ("file", "File", true),
            ("file", "Directory", false),
            ("file", "DirectoryOrCreate", false),
            ("file", "Socket", false),
            ("socket", "Socket", true),
            ("file", "BlockDevice", false),
            ("file", "Nonsense", false),
        ];
        for (name, kind, good) in cases {
            assert_eq!(host_path(&at(name), kind).is_ok(), good, "{name} as {kind:?}");
        }
        assert!(host_path(Path::new("/dev/null"), "CharDevice").is_ok());
    }

    #[test]
    fn sub_paths_do_not_lead_out() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        fs::create_dir(&volume).unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        std::os::unix::fs::symlink("real", volume.join("in")).unwrap();
        fs::create_dir(volume.join("real")).unwrap();
        for bad in ["out", "out/passwd", "../volume", "a/../../x"] {
            assert!(open_below(&volume, bad).is_err(), "{bad}");
        }
        for good in ["in", "real", "new/deep", "in/deeper"] {
            assert!(open_below(&volume, good).is_ok(), "{good}");
        }
        assert!(volume.join("real/deeper").is_dir());
    }

    #[test]
    fn mount_table_names() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"/plain"), "/plain");
        assert_eq!(unescape(r"/short\04"), r"/short\04");
    }
}
