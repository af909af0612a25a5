//! What the files here share of system calls: directories read whole or not at all, files made in
//! `tmp`, renames that never overwrite. Errors of the kernel stay errno here; callers say what
//! they were doing.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, RenameFlags, Timespec, Timestamps, UTIME_OMIT,
};
use rustix::io::{Errno, Result as Sys};

use super::ours::{self, Act};
use crate::steps::{line, path_of, step};
use crate::{Error, Kind, Scope};

/// Pieces in which files are read and written.
pub const PIECE: usize = 64 * 1024;

/// The mode of every file we make, whatever the umask.
pub const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// An error of the system at a path.
pub fn fail(scope: Scope, doing: &str, path: &Path, e: Errno) -> Error {
    Error::io(scope, doing, path, &e.into())
}

/// An error of the system at a message file: what a reader can cause is told apart.
pub fn fail_message(doing: &str, path: &Path, e: Errno) -> Error {
    let shown = path.display();
    match e {
        Errno::NOENT => Error::message(Kind::Raced, format!("{shown} is not there any more"))
            .next("another program renamed or removed it; the next scan finds it"),
        Errno::EXIST => Error::message(Kind::Exists, format!("{shown} exists already"))
            .next("nothing was overwritten; another name is needed"),
        Errno::LOOP => Error::message(Kind::Io, format!("{shown} is a symbolic link"))
            .next("symbolic links are not followed; put the message itself there"),
        Errno::NAMETOOLONG => Error::message(Kind::Io, format!("the name of {shown} is too long"))
            .next("the file keeps its present name; give it a shorter one"),
        Errno::XDEV => Error::folder(
            Kind::Io,
            format!("cannot {doing} {shown}: it lies on another filesystem than its target"),
        )
        .next("keep the whole maildir on one filesystem"),
        Errno::OPNOTSUPP => Error::account(
            Kind::Io,
            format!(
                "cannot {doing} {shown}: this filesystem can neither rename without overwriting \
                 nor link"
            ),
        )
        .next("move the maildir to a local filesystem"),
        e => fail(Scope::Message, doing, path, e),
    }
}

/// Opens a directory for reading; a symlink in its last component is not followed.
pub fn open_dir(path: &Path) -> Sys<OwnedFd> {
    open_dir_at(CWD, path)
}

/// The same, relative to another directory.
pub fn open_dir_at(at: impl AsFd, path: &Path) -> Sys<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry(|| rustix::fs::openat(&at, path, flags, Mode::empty()))
}

/// Opens a regular file for reading. A symlink is `ELOOP`; anything else but a file, `EINVAL`.
pub fn open_file(path: &Path) -> Sys<(File, rustix::fs::Stat)> {
    // NONBLOCK, since opening a FIFO would wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = retry(|| rustix::fs::openat(CWD, path, flags, Mode::empty()))?;
    let st = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(st.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    Ok((File::from(fd), st))
}

/// Calls `f` with every entry's name and type, but not for `.` and `..`. A type the filesystem does
/// not tell is asked for. Whatever goes wrong is an error: a listing is complete or it is none.
pub fn for_each_entry(dir: impl AsFd, mut f: impl FnMut(&[u8], FileType)) -> Sys<()> {
    let mut buffer: Vec<MaybeUninit<u8>> = Vec::new();
    buffer.resize(PIECE, MaybeUninit::uninit());
    let mut entries = RawDir::new(dir.as_fd(), &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            kind = match rustix::fs::statat(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(st) => FileType::from_raw_mode(st.st_mode),
                // It went away since it was read.
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(e),
            };
        }
        f(name.to_bytes(), kind);
    }
    Ok(())
}

/// Renames a file without overwriting: `EEXIST` if the target is there. Where the filesystem does
/// not know RENAME_NOREPLACE (NFS, some FUSE), by link and unlink, which does not overwrite either;
/// where it does not know links, `EOPNOTSUPP`.
pub fn rename_noreplace(from: &Path, to: &Path) -> Sys<()> {
    let rename = || rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE);
    let doing = || step(|| line("rename", &[from, to]), || retry(rename));
    match ours::doing(&[(from, Act::Leaves), (to, Act::Arrives)], doing) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_then_unlink(from, to),
        other => other,
    }
}

/// Renames a directory without overwriting.
pub fn rename_dir(from: &Path, to: &Path) -> Sys<()> {
    let rename = || match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // elsewhere rename(2) replaces a directory that is empty, and no other
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rustix::fs::rename(from, to),
        other => other,
    };
    step(|| line("rename", &[from, to]), || retry(rename))
}

fn link_then_unlink(from: &Path, to: &Path) -> Sys<()> {
    match link(from, to) {
        Err(Errno::PERM | Errno::NOSYS | Errno::MLINK) => return Err(Errno::OPNOTSUPP),
        other => other?,
    }
    if let Err(e) = remove(from) {
        // A reader renamed the source meanwhile (or it cannot be removed): the message must not
        // stand there twice, and the reader's name is the one that counts.
        remove(to)?;
        return Err(e);
    }
    Ok(())
}

/// Gives a file another name too; `EEXIST` if that is taken.
pub fn link(from: &Path, to: &Path) -> Sys<()> {
    let link = || rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty());
    ours::doing(&[(to, Act::Arrives)], || step(|| line("link", &[from, to]), || retry(link)))
}

/// Unlinks a file.
pub fn remove(path: &Path) -> Sys<()> {
    let unlink = || rustix::fs::unlinkat(CWD, path, AtFlags::empty());
    ours::doing(&[(path, Act::Leaves)], || step(|| line("unlink", &[path]), || retry(unlink)))
}

/// Removes an empty directory.
pub fn remove_dir(path: &Path) -> Sys<()> {
    let rmdir = || rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR);
    step(|| line("rmdir", &[path]), || retry(rmdir))
}

/// Fsyncs a directory. Filesystems that cannot (some FUSE, CIFS) have nothing to make durable.
pub fn sync_dir(dir: impl AsFd) -> Sys<()> {
    match step(|| line("fsync-dir", &[&path_of(&dir)]), || retry(|| rustix::fs::fsync(&dir))) {
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

/// Fsyncs a file that is open.
pub fn sync_file(path: &Path, file: &File) -> Sys<()> {
    step(|| line("fsync", &[path]), || retry(|| rustix::fs::fsync(file)))
}

/// Makes a directory with mode 0700 if it is not there, opens it, and makes its entry durable: also
/// when it was there, since whoever made it may have been killed before.
pub fn ensure_dir(parent: impl AsFd, name: &Path) -> Sys<OwnedFd> {
    let mkdir = || rustix::fs::mkdirat(&parent, name, Mode::RWXU);
    match step(|| line("mkdir", &[&path_of(&parent).join(name)]), mkdir) {
        Ok(()) => rustix::fs::chmodat(&parent, name, Mode::RWXU, AtFlags::empty())?,
        Err(Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    let fd = open_dir_at(&parent, name)?;
    sync_dir(&parent)?;
    Ok(fd)
}

/// A new file of ours that is unlinked when dropped, unless it was kept.
pub struct NewFile {
    path: PathBuf,
    file: File,
    keep: bool,
}

impl NewFile {
    /// Fails with `EEXIST` if there is anything of that name, be it a dangling symlink.
    pub fn create(path: PathBuf) -> Sys<Self> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(CWD, &path, flags, FILE_MODE);
        let fd = step(|| line("create", &[&path]), || retry(create))?;
        let new = Self { path, file: File::from(fd), keep: false };
        rustix::fs::fchmod(&new.file, FILE_MODE)?;
        Ok(new)
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes these bytes where the last ones ended.
    pub fn write(&mut self, bytes: &[u8]) -> Sys<()> {
        let Self { path, file, .. } = self;
        step(|| line("write", &[path]), || file.write_all(bytes).map_err(errno))
    }

    /// Writes these bytes over those at `offset`.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Sys<()> {
        let Self { path, file, .. } = self;
        step(|| line("write", &[path]), || file.write_all_at(bytes, offset).map_err(errno))
    }

    /// Cuts the file to this length.
    pub fn cut(&self, length: u64) -> Sys<()> {
        let Self { path, file, .. } = self;
        step(|| line("write", &[path]), || file.set_len(length).map_err(errno))
    }

    /// Fsyncs it.
    pub fn sync(&self) -> Sys<()> {
        sync_file(&self.path, &self.file)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets the mtime; nothing may be written afterwards.
    pub fn set_mtime(&self, seconds: i64) -> Sys<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
        };
        rustix::fs::futimens(&self.file, &times)
    }

    /// It stays when this is dropped.
    pub fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.keep
            && let Err(e) = remove(&self.path)
        {
            // It is a leftover in `tmp` then, which the next start clears.
            tracing::debug!(path = %self.path.display(), error = %e, "could not unlink");
        }
    }
}

/// Writes a small file of ours whole and durable: beside it, then over it. `scratch` is on the same
/// filesystem, in a directory of ours; a leftover there is replaced.
pub fn replace_file(scratch: PathBuf, target: &Path, bytes: &[u8]) -> Sys<()> {
    match remove(&scratch) {
        Err(Errno::NOENT) => {}
        other => other?,
    }
    let mut new = NewFile::create(scratch)?;
    new.write(bytes)?;
    new.sync()?;
    let rename = || rustix::fs::renameat(CWD, &new.path, CWD, target);
    let doing = || step(|| line("rename", &[&new.path, target]), || retry(rename));
    ours::doing(&[(&new.path, Act::Leaves), (target, Act::Arrives)], doing)?;
    new.keep();
    let parent = target.parent().unwrap_or(Path::new("."));
    // The root of a maildir may be a symlink: it is followed here.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    sync_dir(rustix::fs::openat(CWD, parent, flags, Mode::empty())?)
}

/// The errno of an I/O error; EIO where it has none (a write of nothing).
pub fn errno(e: std::io::Error) -> Errno {
    Errno::from_io_error(&e).unwrap_or(Errno::IO)
}

/// Again while a signal interrupts it.
pub fn retry<T>(mut f: impl FnMut() -> Sys<T>) -> Sys<T> {
    loop {
        match f() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// `name` below `dir`.
pub fn join(dir: &Path, name: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(name))
}

/// What kind of filesystem it is, by its magic number (statfs(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filesystem(u32);

const EXT: u32 = 0xEF53;
const XFS: u32 = 0x5846_5342;
const BTRFS: u32 = 0x9123_683E;

/// Local filesystems whose directory times change with every entry, by the clock of this machine.
/// A list of what is known, since trusting an unknown one would lose changes, and not trusting it
/// costs a reading.
const TIMES: [u32; 13] = [
    EXT,
    XFS,
    BTRFS,
    0x0102_1994, // tmpfs
    0xF2F5_2010, // f2fs
    0x2FC1_2FC1, // zfs
    0xCA45_1A4E, // bcachefs
    0x3153_464A, // jfs
    0x5265_4973, // reiserfs
    0x3434,      // nilfs
    0x794C_7630, // overlayfs
    0xF15F,      // ecryptfs
    0x2405_1905, // ubifs
];

impl Filesystem {
    /// The filesystem that an open file is on.
    pub fn of(fd: impl AsFd) -> Sys<Self> {
        // The magic numbers have 32 bits, whatever the width of the field.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        retry(|| rustix::fs::fstatfs(&fd)).map(|s| Self(s.f_type as u32))
    }

    /// Whether equal times of a directory prove that it did not change.
    pub fn times_prove(self) -> bool {
        TIMES.contains(&self.0)
    }

    /// Whether syncfs reports write errors (with Linux 5.8 or later).
    pub fn syncfs_reports(self) -> bool {
        [EXT, XFS, BTRFS].contains(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn link_and_unlink_do_not_overwrite_either() {
        let t = tempfile::tempdir().unwrap();
        let (a, b) = (t.path().join("a"), t.path().join("b"));
        std::fs::write(&a, "a").unwrap();
        std::fs::write(&b, "b").unwrap();
        assert_eq!(link_then_unlink(&a, &b), Err(Errno::EXIST));
        assert_eq!(std::fs::read(&b).unwrap(), b"b");
        std::fs::remove_file(&b).unwrap();
        link_then_unlink(&a, &b).unwrap();
        assert!(!a.exists());
        assert_eq!(std::fs::read(&b).unwrap(), b"a");
        assert_eq!(link_then_unlink(&a, &b), Err(Errno::NOENT));
    }

    #[test]
    fn a_new_file_goes_away_unless_kept_and_never_follows_a_link() {
        let t = tempfile::tempdir().unwrap();
        let p = t.path().join("x");
        drop(NewFile::create(p.clone()).unwrap());
        assert!(!p.exists());
        NewFile::create(p.clone()).unwrap().keep();
        assert_eq!(p.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(NewFile::create(p.clone()).err(), Some(Errno::EXIST));
        assert!(p.exists());
        let dangling = t.path().join("d");
        std::os::unix::fs::symlink(t.path().join("elsewhere"), &dangling).unwrap();
        assert_eq!(NewFile::create(dangling).err(), Some(Errno::EXIST));
        assert!(!t.path().join("elsewhere").exists());
    }

    #[test]
    fn a_fifo_is_no_message() {
        let t = tempfile::tempdir().unwrap();
        let p = t.path().join("fifo");
        rustix::fs::mkfifoat(CWD, &p, FILE_MODE).unwrap();
        assert_eq!(open_file(&p).err(), Some(Errno::INVAL));
    }
}
