//! Message files that are here already: read, found again, renamed, unlinked, linked. A file that a
//! reader took away meanwhile is `Kind::Raced`, and no failure of ours.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType};
use rustix::io::Errno;

use super::disk::{self, NewFile, PIECE};
use super::scan::TICK_NS;
use crate::model::identity::{Digest, Digester};
use crate::model::{BaseName, FileName, Place, Subdir};
use crate::{Error, Kind, Result, Scope};

const SECOND_NS: i128 = 1_000_000_000;

/// Which file it is and whether it was changed, as far as stat tells. A rename changes nothing
/// here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// The filesystem's device number.
    pub dev: u64,
    /// The inode number.
    pub ino: u64,
    /// In bytes.
    pub size: u64,
    /// Unix time in nanoseconds.
    pub mtime_ns: i128,
}

/// What a message file was when it was read from its first to its last byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileIdentity {
    /// What identifies the message.
    pub digest: Digest,
    /// Unix time in whole seconds: the INTERNALDATE.
    pub mtime: i64,
    /// The same in nanoseconds.
    pub mtime_ns: i128,
    /// In bytes, as stored.
    pub size: u64,
    /// The same before and after the reading.
    pub stat: FileStat,
}

/// Where a message file is.
pub fn place_path(dir: &Path, place: &Place) -> PathBuf {
    dir.join(place.sub.as_str()).join(place.file.to_os_string())
}

/// What stat says of a message file. A symlink is not followed, and is an error.
pub fn stat(path: &Path) -> Result<FileStat> {
    let st = disk::retry(|| rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW))
        .map_err(|e| disk::fail_message("look at", path, e))?;
    match FileType::from_raw_mode(st.st_mode) {
        FileType::RegularFile => Ok(file_stat(&st)),
        FileType::Symlink => Err(disk::fail_message("look at", path, Errno::LOOP)),
        _ => Err(no_file(path)),
    }
}

/// All that stat says of a message file: where that is equal later, nobody wrote into it in between,
/// unless the change came too soon after the one before it to show in the time stamps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    dev: u64,
    ino: u64,
    size: i64,
    mtime_ns: i128,
    ctime_ns: i128,
}

impl Stamp {
    /// As it is now. A symlink is not followed.
    pub fn of(path: &Path) -> Result<Self> {
        let st = disk::retry(|| rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW))
            .map_err(|e| disk::fail_message("look at", path, e))?;
        let ns = |s: i64, n| i128::from(s) * SECOND_NS + i128::from(n);
        Ok(Self {
            dev: st.st_dev,
            ino: st.st_ino,
            size: st.st_size,
            mtime_ns: ns(st.st_mtime, st.st_mtime_nsec),
            ctime_ns: ns(st.st_ctime, st.st_ctime_nsec),
        })
    }

    /// Whether another change at `now` or later, in Unix time, shows for sure. Filesystems keep whole
    /// seconds, or the kernel's tick (ext4 and XFS).
    pub fn shows_what_follows(&self, now: Duration) -> bool {
        let last = self.ctime_ns.max(self.mtime_ns);
        let grain = if last % SECOND_NS == 0 { 2 * SECOND_NS } else { TICK_NS };
        i128::try_from(now.as_nanos()).is_ok_and(|now| last < now - grain)
    }

    /// For the ledger.
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts =
            [self.dev.into(), self.ino.into(), self.size.into(), self.mtime_ns, self.ctime_ns];
        parts.iter().flat_map(|n: &i128| n.to_be_bytes()).collect()
    }
}

/// The stamp for a later pass. `None` where it proves nothing: within 2 seconds of `now` (Unix time
/// in seconds), in which a second change may have the same times.
pub fn stamp(path: &Path, now: i64) -> Result<Option<Vec<u8>>> {
    let stamp = Stamp::of(path)?;
    let last = stamp.ctime_ns.max(stamp.mtime_ns).div_euclid(SECOND_NS);
    Ok((last < i128::from(now) - 2).then(|| stamp.to_bytes()))
}

/// Opens a message file for reading.
pub fn open_message(path: &Path) -> Result<(File, FileStat)> {
    match disk::open_file(path) {
        Ok((file, st)) => Ok((file, file_stat(&st))),
        Err(Errno::INVAL) => Err(no_file(path)),
        Err(e) => Err(disk::fail_message("open", path, e)),
    }
}

/// Reads a message file and says what identifies it. A file that is written to meanwhile is
/// `Kind::Raced`.
pub fn identify(path: &Path) -> Result<FileIdentity> {
    let (mut file, stat) = open_message(path)?;
    let mut digester = Digester::new();
    pieces(&mut file, path, |piece| {
        digester.update(piece);
        Ok(())
    })?;
    unchanged(&file, path, &stat)?;
    let mtime = i64::try_from(stat.mtime_ns.div_euclid(SECOND_NS)).unwrap_or(i64::MAX);
    let digest = digester.finish();
    Ok(FileIdentity { digest, mtime, mtime_ns: stat.mtime_ns, size: stat.size, stat })
}

/// Renames a message file within one filesystem, without overwriting: `Kind::Exists` if the name is
/// taken, `Kind::Raced` if the file is gone. Durable only after [`super::sync_dirs`] on both
/// directories, the target first.
pub fn rename(from_dir: &Path, from: &Place, to_dir: &Path, to: &Place) -> Result<()> {
    let (source, target) = (place_path(from_dir, from), place_path(to_dir, to));
    if source == target {
        return stat(&source).map(|_| ());
    }
    disk::rename_noreplace(&source, &target).map_err(|e| match e {
        Errno::EXIST => disk::fail_message("rename", &target, e),
        e => disk::fail_message("rename", &source, e),
    })
}

/// Unlinks a message file; `Kind::Raced` if it is gone. Durable only after [`super::sync_dirs`].
pub fn unlink(dir: &Path, place: &Place) -> Result<()> {
    let path = place_path(dir, place);
    disk::remove(&path).map_err(|e| disk::fail_message("unlink", &path, e))
}

/// Puts the bytes of one message file at another place too: a hard link where the mtime is the
/// INTERNALDATE wanted, else a copy with that mtime. `expected` is what the caller identified;
/// if the file is another one by now, that is `Kind::Raced` and nothing was done. The bytes are
/// durable afterwards; the name is only after [`super::sync_dirs`].
pub fn link_or_copy(
    from: &Path,
    expected: &FileStat,
    to_dir: &Path,
    to: &Place,
    internal_date: i64,
) -> Result<()> {
    let (mut source, stat) = open_message(from)?;
    if stat != *expected {
        return Err(changed(from));
    }
    let target = place_path(to_dir, to);
    if stat.mtime_ns.div_euclid(SECOND_NS) == i128::from(internal_date)
        && link(from, &source, &stat, &target)?
    {
        return Ok(());
    }
    let tmp = disk::join(&to_dir.join("tmp"), &scratch_name(&to.file.base));
    let mut new = NewFile::create(tmp).map_err(|e| disk::fail_message("create", &target, e))?;
    let path = new.path().to_owned();
    let fail = |e| disk::fail_message("write", &path, e);
    pieces(&mut source, from, |piece| new.write(piece).map_err(fail))?;
    unchanged(&source, from, &stat)?;
    new.set_mtime(internal_date).map_err(fail)?;
    new.sync().map_err(fail)?;
    disk::rename_noreplace(new.path(), &target)
        .map_err(|e| disk::fail_message("rename", &target, e))?;
    new.keep();
    Ok(())
}

/// Looks for a message by its base name: a reader renamed its file. `None` says that it was not
/// seen, which is no proof of its absence while readers rename.
pub fn find(dir: &Path, base: &BaseName) -> Result<Option<Place>> {
    // `new` first: readers move messages from there to `cur`.
    for sub in [Subdir::New, Subdir::Cur] {
        let path = dir.join(sub.as_str());
        let fail = |e| match e {
            Errno::NOENT => {
                Error::folder(Kind::Raced, format!("{} is not there any more", path.display()))
                    .next("if another program removed the folder, the next sync sees that")
            }
            e => disk::fail(Scope::Folder, "read", &path, e),
        };
        let fd = disk::open_dir(&path).map_err(fail)?;
        let mut found: Option<FileName> = None;
        disk::for_each_entry(&fd, |name, kind| {
            if kind == FileType::RegularFile
                && name.starts_with(base.as_bytes())
                && let Some(file) = FileName::parse(&OsString::from_vec(name.to_vec()))
                && file.base == *base
                && found.as_ref().is_none_or(|f| file < *f)
            {
                found = Some(file);
            }
        })
        .map_err(fail)?;
        if let Some(file) = found {
            return Ok(Some(Place { sub, file }));
        }
    }
    Ok(None)
}

/// Calls `f` with the file's bytes in pieces.
fn pieces(file: &mut File, path: &Path, mut f: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => f(buffer.get(..n).unwrap_or_default())?,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(disk::fail_message("read", path, disk::errno(e))),
        }
    }
}

/// Links `target` to the file at `from`, which is the one opened as `source`. False where this
/// filesystem or its rules do not allow it.
fn link(from: &Path, source: &File, stat: &FileStat, target: &Path) -> Result<bool> {
    match disk::link(from, target) {
        Ok(()) => {}
        Err(Errno::PERM | Errno::MLINK | Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS) => {
            return Ok(false);
        }
        Err(e @ Errno::EXIST) => return Err(disk::fail_message("link", target, e)),
        Err(e) => return Err(disk::fail_message("link", from, e)),
    }
    // A reader may have put another file at `from` between the opening and the linking.
    let linked = self::stat(target);
    // The reader who wrote it need not have made it durable.
    let synced = disk::sync_file(from, source);
    match (linked, synced) {
        (Ok(l), Ok(())) if l == *stat => Ok(true),
        (linked, synced) => {
            disk::remove(target).map_err(|e| disk::fail_message("unlink", target, e))?;
            linked?;
            synced.map_err(|e| disk::fail_message("fsync", from, e))?;
            Err(changed(from))
        }
    }
}

/// A name in `tmp` that is recognised as ours when it is left over.
fn scratch_name(base: &BaseName) -> Vec<u8> {
    let mut name = base.as_bytes().to_vec();
    if !base.is_ours() {
        name.extend_from_slice(b".mailkeep");
    }
    name
}

fn unchanged(file: &File, path: &Path, before: &FileStat) -> Result<()> {
    let after = rustix::fs::fstat(file).map_err(|e| disk::fail_message("look at", path, e))?;
    if file_stat(&after) == *before { Ok(()) } else { Err(changed(path)) }
}

fn changed(path: &Path) -> Error {
    Error::message(Kind::Raced, format!("{} changed meanwhile", path.display()))
        .next("another program writes to it; the next pass looks at it again")
}

fn no_file(path: &Path) -> Error {
    Error::message(Kind::Io, format!("{} is no regular file", path.display()))
        .next("only files are messages; move it out of the maildir")
}

fn file_stat(st: &rustix::fs::Stat) -> FileStat {
    FileStat {
        dev: st.st_dev,
        ino: st.st_ino,
        size: u64::try_from(st.st_size).unwrap_or(0),
        mtime_ns: i128::from(st.st_mtime) * SECOND_NS + i128::from(st.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn folder() -> tempfile::TempDir {
        let t = tempfile::tempdir().unwrap();
        for d in ["cur", "new", "tmp"] {
            fs::create_dir(t.path().join(d)).unwrap();
        }
        t
    }

    fn place(s: &str) -> Place {
        let (sub, file) = s.split_once('/').unwrap();
        let sub = if sub == "cur" { Subdir::Cur } else { Subdir::New };
        Place { sub, file: FileName::parse(file.as_ref()).unwrap() }
    }

    fn put(dir: &Path, at: &str, text: &str) -> PathBuf {
        let p = place_path(dir, &place(at));
        fs::write(&p, text).unwrap();
        p
    }

    #[test]
    fn a_change_that_follows_too_soon_may_not_show() {
        let stamp = |ctime_ns| Stamp { dev: 1, ino: 1, size: 1, mtime_ns: 0, ctime_ns };
        let shows =
            |ctime_ns, now_ms| stamp(ctime_ns).shows_what_follows(Duration::from_millis(now_ms));
        // a filesystem that keeps the kernel's tick
        assert!(!shows(5_000_000_001, 5_000) && !shows(5_000_000_001, 5_020));
        assert!(shows(5_000_000_001, 5_021));
        // one that may keep whole seconds
        assert!(!shows(5_000_000_000, 7_000) && shows(5_000_000_000, 7_001));
        // a clock that was set back
        assert!(!shows(5_000_000_001, 4_000));
    }

    #[test]
    fn a_rename_never_overwrites() {
        let t = folder();
        let d = t.path();
        put(d, "new/a", "a");
        put(d, "cur/a:2,S", "other");
        let e = rename(d, &place("new/a"), d, &place("cur/a:2,S")).unwrap_err();
        assert_eq!((e.kind, e.scope), (Kind::Exists, Scope::Message));
        rename(d, &place("new/a"), d, &place("cur/a:2,F")).unwrap();
        assert_eq!(fs::read(d.join("cur/a:2,F")).unwrap(), b"a");
        assert_eq!(fs::read(d.join("cur/a:2,S")).unwrap(), b"other");
        let e = rename(d, &place("new/a"), d, &place("cur/b")).unwrap_err();
        assert_eq!(e.kind, Kind::Raced);
        rename(d, &place("cur/a:2,F"), d, &place("cur/a:2,F")).unwrap();
        let gone = rename(d, &place("cur/x"), d, &place("cur/x")).unwrap_err();
        assert_eq!(gone.kind, Kind::Raced);
    }

    #[test]
    fn what_a_reader_took_away_is_raced() {
        let t = folder();
        assert_eq!(unlink(t.path(), &place("cur/a")).unwrap_err().kind, Kind::Raced);
        assert_eq!(identify(&t.path().join("cur/a")).unwrap_err().kind, Kind::Raced);
        put(t.path(), "cur/a", "a");
        unlink(t.path(), &place("cur/a")).unwrap();
        assert!(!t.path().join("cur/a").exists());
    }

    #[test]
    fn a_file_is_identified_as_the_message_it_is() {
        let t = folder();
        let text = format!("Message-ID: <a>\nDate: 1\n\n{}", "line\n".repeat(50_000));
        let p = put(t.path(), "cur/a", &text);
        let wire = text.replace('\n', "\r\n");
        let mut d = Digester::new();
        d.update(wire.as_bytes());
        let got = identify(&p).unwrap();
        let want = d.finish();
        assert_eq!(got.digest.content, want.content);
        assert_eq!(got.digest.fingerprint, want.fingerprint);
        assert_eq!(got.digest.wire_size, wire.len() as u64);
        assert_eq!(got.size, text.len() as u64);
        assert_eq!(got.mtime, fs::metadata(&p).unwrap().mtime());
        assert_eq!(got.stat, stat(&p).unwrap());
    }

    #[test]
    fn symlinks_and_directories_are_no_messages() {
        let t = folder();
        put(t.path(), "cur/a", "a");
        symlink("a", t.path().join("cur/l")).unwrap();
        for f in ["cur/l", "cur"] {
            let p = t.path().join(f);
            assert_eq!(identify(&p).unwrap_err().kind, Kind::Io, "{f}");
            assert_eq!(stat(&p).unwrap_err().kind, Kind::Io, "{f}");
        }
        assert_eq!(find(t.path(), &BaseName::new(b"l").unwrap()).unwrap(), None);
    }

    #[test]
    fn a_link_where_the_date_is_the_same_else_a_copy() {
        let (a, b) = (folder(), folder());
        let from = put(a.path(), "cur/m", "text\n");
        let file = File::options().write(true).open(&from).unwrap();
        let t0 = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        file.set_modified(t0).unwrap();
        let stat = super::stat(&from).unwrap();
        let (x, y) = (place("cur/x:2,S"), place("new/y"));
        link_or_copy(&from, &stat, b.path(), &x, 1_000_000).unwrap();
        link_or_copy(&from, &stat, b.path(), &y, 2_000_000).unwrap();
        let meta = |p| fs::metadata(place_path(b.path(), p)).unwrap();
        assert_eq!(meta(&x).ino(), stat.ino);
        assert_ne!(meta(&y).ino(), stat.ino);
        assert_eq!(meta(&y).mtime(), 2_000_000);
        assert_eq!(meta(&y).mode() & 0o7777, 0o600);
        assert_eq!(fs::read(place_path(b.path(), &y)).unwrap(), b"text\n");
        for date in [1_000_000, 2_000_000] {
            let e = link_or_copy(&from, &stat, b.path(), &x, date).unwrap_err();
            assert_eq!(e.kind, Kind::Exists);
        }
        fs::write(&from, "else").unwrap();
        let e = link_or_copy(&from, &stat, b.path(), &place("cur/z"), 3).unwrap_err();
        assert_eq!(e.kind, Kind::Raced);
        assert_eq!(fs::read_dir(b.path().join("tmp")).unwrap().count(), 0);
        assert!(!b.path().join("cur/z").exists());
    }

    #[test]
    fn a_renamed_file_is_found_by_its_base_name() {
        let t = folder();
        put(t.path(), "cur/a.1:2,FS", "");
        put(t.path(), "new/a", "");
        let base = |s: &str| BaseName::new(s.as_bytes()).unwrap();
        assert_eq!(find(t.path(), &base("a.1")).unwrap(), Some(place("cur/a.1:2,FS")));
        assert_eq!(find(t.path(), &base("a")).unwrap(), Some(place("new/a")));
        assert_eq!(find(t.path(), &base("b")).unwrap(), None);
        fs::remove_dir_all(t.path().join("cur")).unwrap();
        assert!(find(t.path(), &base("b")).is_err(), "an error is never an absence");
    }

    #[test]
    fn bytes_of_names_are_kept() {
        let name = std::ffi::OsStr::from_bytes(b"\xff:2,S");
        let p = Place { sub: Subdir::Cur, file: FileName::parse(name).unwrap() };
        assert_eq!(place_path(Path::new("/d"), &p).as_os_str().as_bytes(), b"/d/cur/\xff:2,S");
    }
}
