//! What is in a folder: names alone, since the flags are in them. No stat per file.
//!
//! A listing is complete or it is an error. Whether it also proves that what it does not show was
//! not there is another question: readdir misses files that are renamed meanwhile.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::disk;
use crate::model::{FileName, Place, Subdir};
use crate::words::count;
use crate::{Error, Kind, Result, Scope};

/// The names of a folder's message files. Half a million of them are two allocations.
///
/// A base name can occur twice: a real double (rsync, Syncthing), or, unless the scan was `stable`,
/// one file that was renamed meanwhile.
#[derive(Debug, Clone, Default)]
pub struct Names {
    bytes: Vec<u8>,
    /// By [`term`] once sorted.
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    term: u128,
    start: usize,
    len: u16,
    sub: Subdir,
}

impl Names {
    fn push(&mut self, sub: Subdir, name: &[u8], term: u128) {
        // NAME_MAX is 255
        let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
        self.entries.push(Entry { term, start: self.bytes.len(), len, sub });
        self.bytes.extend_from_slice(name);
    }

    fn place(&self, e: &Entry) -> Option<Place> {
        let name = self.bytes.get(e.start..e.start + usize::from(e.len))?;
        Some(Place { sub: e.sub, file: FileName::parse(OsStr::from_bytes(name))? })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them, sorted by base name, then suffix, then subdirectory.
    pub fn places(&self) -> Vec<Place> {
        sorted(self.entries.iter().filter_map(|e| self.place(e)).collect())
    }

    /// To be held against names that were known before.
    pub fn unmatched(mut self) -> Unmatched {
        self.entries.sort_unstable_by_key(|e| e.term);
        let matched = vec![false; self.entries.len()];
        Unmatched { names: self, matched, scratch: Vec::new() }
    }
}

/// Names that were not found among those known before, as far as these were asked for.
#[derive(Debug)]
pub struct Unmatched {
    names: Names,
    matched: Vec<bool>,
    scratch: Vec<u8>,
}

impl Unmatched {
    /// Whether this very name is there; then it is matched.
    pub fn take(&mut self, sub: Subdir, base: &[u8], suffix: &str) -> bool {
        let term = term(sub, base, suffix.as_bytes(), &mut self.scratch);
        let found = self.names.entries.binary_search_by_key(&term, |e| e.term);
        let slot = found.ok().and_then(|at| self.matched.get_mut(at));
        slot.map(|m| *m = true).is_some()
    }

    /// What is left, sorted by base name, then suffix, then subdirectory.
    pub fn rest(self) -> Vec<Place> {
        let entries = self.names.entries.iter().zip(&self.matched);
        sorted(entries.filter(|(_, m)| !**m).filter_map(|(e, _)| self.names.place(e)).collect())
    }
}

fn sorted(mut places: Vec<Place>) -> Vec<Place> {
    places.sort_unstable_by(|a, b| a.file.cmp(&b.file).then(a.sub.cmp(&b.sub)));
    places
}

/// A complete listing of a folder's `cur` and `new`.
#[derive(Debug, Clone)]
pub struct Scan {
    /// What is there.
    pub names: Names,
    /// Taken before the reading.
    pub signature: DirSignature,
    /// Whether no directory changed around the reading, so that what is not listed was not there.
    /// False also for some milliseconds after a change, while another one would not show.
    pub stable: bool,
    /// Whether, beside that, an equal signature later proves that nothing changed since. Never on a
    /// filesystem that is not known to be local.
    pub trusted: bool,
    /// Of all names.
    pub digest: NamesDigest,
}

/// What stat says of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirStat {
    /// The filesystem's device number.
    pub dev: u64,
    /// The inode number.
    pub ino: u64,
    /// Unix time in nanoseconds.
    pub mtime_ns: i128,
    /// Unix time in nanoseconds.
    pub ctime_ns: i128,
}

/// `cur` and `new` as stat shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirSignature {
    /// Of `cur`.
    pub cur: DirStat,
    /// Of `new`.
    pub new: DirStat,
}

impl DirSignature {
    /// For the ledger.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut v = Vec::with_capacity(96);
        for d in [&self.cur, &self.new] {
            v.extend_from_slice(&d.dev.to_le_bytes());
            v.extend_from_slice(&d.ino.to_le_bytes());
            v.extend_from_slice(&d.mtime_ns.to_le_bytes());
            v.extend_from_slice(&d.ctime_ns.to_le_bytes());
        }
        v
    }

    /// The inverse; `None` for anything else, which then is no signature to compare with.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (cur, rest) = dir_stat(bytes)?;
        let (new, rest) = dir_stat(rest)?;
        rest.is_empty().then_some(Self { cur, new })
    }

    fn times(&self) -> [i128; 4] {
        [self.cur.mtime_ns, self.cur.ctime_ns, self.new.mtime_ns, self.new.ctime_ns]
    }
}

/// A digest of a folder's names that does not depend on their order, so that it can follow a single
/// arrival, removal or rename.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NamesDigest(pub u128);

impl NamesDigest {
    /// One more name.
    pub fn add(&mut self, place: &Place) {
        self.0 = self.0.wrapping_add(term_of(place));
    }
    /// One name less.
    pub fn remove(&mut self, place: &Place) {
        self.0 = self.0.wrapping_sub(term_of(place));
    }
}

/// Reads `cur` and `new` of a folder's directory. Where a reader is at work, it reads again, a few
/// times; what then still changes is said by `stable`.
pub fn scan(dir: &Path) -> Result<Scan> {
    let mut last = None;
    for _ in 0..3 {
        let s = read(dir, SystemTime::now())?;
        if s.changed {
            last = Some(s.scan);
        } else {
            return Ok(s.scan);
        }
    }
    last.ok_or_else(|| Error::folder(Kind::Internal, format!("{} was not read", dir.display())))
}

/// Which of its directories a folder has not: another program may have made only some.
pub fn lacks(dir: &Path) -> Option<&'static str> {
    let subs = [Subdir::Cur, Subdir::New].map(Subdir::as_str);
    let is_missing = |sub: &&str| matches!(disk::open_dir(&dir.join(sub)), Err(Errno::NOENT));
    subs.into_iter().find(is_missing)
}

/// The present signature of a folder's directory. `None` only where `cur` or `new` does not exist.
pub fn signature(dir: &Path) -> Result<Option<DirSignature>> {
    let mut found = [None, None];
    for (slot, sub) in found.iter_mut().zip([Subdir::Cur, Subdir::New]) {
        let path = dir.join(sub.as_str());
        // Opened, and not only asked for: a network filesystem may answer from its cache
        // otherwise.
        match disk::open_dir(&path).and_then(dir_signature) {
            Ok((_, stat)) => *slot = Some(stat),
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(disk::fail(Scope::Folder, "open", &path, e)),
        }
    }
    let [cur, new] = found;
    Ok(cur.zip(new).map(|(cur, new)| DirSignature { cur, new }))
}

/// Whether a folder that stood still while it was read is still as it was then. False where nobody
/// can say.
pub fn is_as_read(dir: &Path, then: &DirSignature) -> bool {
    signature(dir).is_ok_and(|now| now == Some(*then))
}

/// The longest time in which two changes of a directory can have the same time: the kernel's clock
/// tick (10 ms at most), and some.
pub(super) const TICK_NS: i128 = 20_000_000;

/// How much older than the present a directory's times must be for an equal signature to prove
/// that nothing changed.
const TRUST_NS: i128 = 2_000_000_000;

struct Reading {
    scan: Scan,
    changed: bool,
}

fn read(dir: &Path, now: SystemTime) -> Result<Reading> {
    let fail = |sub: Subdir, e: Errno| {
        let path = dir.join(sub.as_str());
        match e {
            Errno::NOENT => {
                Error::folder(Kind::Raced, format!("{} is not there any more", path.display()))
                    .next("if another program removed the folder, the next sync sees that")
            }
            e => disk::fail(Scope::Folder, "read", &path, e),
        }
    };
    let open = |sub: Subdir| {
        disk::open_dir(&dir.join(sub.as_str())).and_then(dir_signature).map_err(|e| fail(sub, e))
    };
    let (cur_fd, cur) = open(Subdir::Cur)?;
    let (new_fd, new) = open(Subdir::New)?;
    let signature = DirSignature { cur, new };
    let local = [&cur_fd, &new_fd].iter().try_fold(true, |local, fd| {
        disk::Filesystem::of(fd).map(|f| local && f.times_prove()).map_err(|e| fail(Subdir::Cur, e))
    })?;

    let mut names = Names::default();
    let mut digest = NamesDigest::default();
    let mut others: Option<(String, usize)> = None;
    // `new` first: readers move messages from `new` to `cur`, so that one that is moved meanwhile
    // is seen at least once.
    for (fd, sub) in [(&new_fd, Subdir::New), (&cur_fd, Subdir::Cur)] {
        let mut scratch = Vec::with_capacity(300);
        disk::for_each_entry(fd, |name, kind| {
            if !FileName::is_one(name) {
                return;
            }
            if kind != FileType::RegularFile {
                let shown = || format!("{}/{}", sub.as_str(), name.escape_ascii());
                others.get_or_insert_with(|| (shown(), 0)).1 += 1;
                return;
            }
            let term = term(sub, name, &[], &mut scratch);
            digest.0 = digest.0.wrapping_add(term);
            names.push(sub, name, term);
        })
        .map_err(|e| fail(sub, e))?;
    }
    if let Some((first, others)) = others {
        let what = count(others, "entry is left alone", "entries are left alone");
        tracing::warn!("{}: {what}, since no regular file: {first}", dir.display());
    }
    let after = self::signature(dir)?;
    let changed = after != Some(signature);
    let now_ns = match now.duration_since(UNIX_EPOCH) {
        Ok(d) => i128::try_from(d.as_nanos()).unwrap_or(i128::MAX),
        Err(_) => 0,
    };
    // The clock of a server is another one, and says nothing about now.
    let settled = !local || signature.times().iter().all(|t| (now_ns - t).abs() > TICK_NS);
    let old = signature.times().iter().all(|t| now_ns - t > TRUST_NS);
    let stable = !changed && settled;
    let trusted = stable && local && old;
    Ok(Reading { scan: Scan { names, signature, stable, trusted, digest }, changed })
}

fn term_of(place: &Place) -> u128 {
    let (base, suffix) = (place.file.base.as_bytes(), place.file.suffix());
    term(place.sub, base, suffix.as_bytes(), &mut Vec::new())
}

/// The first 16 bytes of BLAKE3 of `sub/filename`, the name given in two parts.
fn term(sub: Subdir, base: &[u8], suffix: &[u8], scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    scratch.extend_from_slice(sub.as_str().as_bytes());
    scratch.push(b'/');
    scratch.extend_from_slice(base);
    scratch.extend_from_slice(suffix);
    let hash = blake3::hash(scratch);
    hash.as_bytes().first_chunk().map_or(0, |b| u128::from_le_bytes(*b))
}

fn dir_signature(fd: OwnedFd) -> rustix::io::Result<(OwnedFd, DirStat)> {
    let st = rustix::fs::fstat(&fd)?;
    let ns = |s: i64, n| i128::from(s) * 1_000_000_000 + i128::from(n);
    let stat = DirStat {
        dev: st.st_dev,
        ino: st.st_ino,
        mtime_ns: ns(st.st_mtime, st.st_mtime_nsec),
        ctime_ns: ns(st.st_ctime, st.st_ctime_nsec),
    };
    Ok((fd, stat))
}

fn dir_stat(bytes: &[u8]) -> Option<(DirStat, &[u8])> {
    let (dev, rest) = bytes.split_first_chunk()?;
    let (ino, rest) = rest.split_first_chunk()?;
    let (mtime, rest) = rest.split_first_chunk()?;
    let (ctime, rest) = rest.split_first_chunk()?;
    let stat = DirStat {
        dev: u64::from_le_bytes(*dev),
        ino: u64::from_le_bytes(*ino),
        mtime_ns: i128::from_le_bytes(*mtime),
        ctime_ns: i128::from_le_bytes(*ctime),
    };
    Some((stat, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    fn folder() -> tempfile::TempDir {
        let t = tempfile::tempdir().unwrap();
        for d in ["cur", "new", "tmp"] {
            fs::create_dir(t.path().join(d)).unwrap();
        }
        t
    }

    fn touch(dir: &Path, rel: &str) {
        fs::write(dir.join(rel), "x").unwrap();
    }

    fn names(s: &Scan) -> Vec<String> {
        s.names.places().iter().map(Place::to_string).collect()
    }

    /// The present as the directory sees it, some time after its last change.
    fn later(dir: &Path, by: Duration) -> SystemTime {
        let newest = ["cur", "new"].map(|d| fs::metadata(dir.join(d)).unwrap().modified().unwrap());
        newest[0].max(newest[1]) + by
    }

    #[test]
    fn a_listing_is_sorted_and_holds_messages_only() {
        let t = folder();
        for f in ["cur/b:2,S", "new/a", "cur/a:2,", "cur/.nfs01", "tmp/x", "new/b"] {
            touch(t.path(), f);
        }
        fs::create_dir(t.path().join("cur/dir")).unwrap();
        std::os::unix::fs::symlink("b:2,S", t.path().join("cur/link")).unwrap();
        let s = scan(t.path()).unwrap();
        assert_eq!(names(&s), ["new/a", "cur/a:2,", "new/b", "cur/b:2,S"]);
        let mut d = NamesDigest::default();
        for place in s.names.places().iter().rev() {
            d.add(place);
        }
        assert_eq!(d, s.digest);
        d.remove(&s.names.places()[0]);
        assert_ne!(d, s.digest);
        fs::remove_file(t.path().join("new/a")).unwrap();
        assert_eq!(d, scan(t.path()).unwrap().digest);
    }

    #[test]
    fn what_was_known_is_matched_name_by_name() {
        let t = folder();
        for f in ["cur/a:2,S", "cur/b", "cur/c:2,", "new/b"] {
            touch(t.path(), f);
        }
        let mut names = scan(t.path()).unwrap().names.unmatched();
        assert!(names.take(Subdir::Cur, b"b", ""));
        assert!(names.take(Subdir::Cur, b"c", ":2,"));
        assert!(!names.take(Subdir::Cur, b"a", ":2,"), "other letters");
        assert!(!names.take(Subdir::New, b"a", ":2,S"), "another directory");
        let rest: Vec<_> = names.rest().iter().map(Place::to_string).collect();
        assert_eq!(rest, ["cur/a:2,S", "new/b"]);
    }

    #[test]
    fn the_digest_tells_cur_from_new() {
        let t = folder();
        touch(t.path(), "cur/a");
        let before = scan(t.path()).unwrap().digest;
        fs::rename(t.path().join("cur/a"), t.path().join("new/a")).unwrap();
        assert_ne!(scan(t.path()).unwrap().digest, before);
    }

    #[test]
    fn an_error_is_never_an_empty_listing() {
        let t = folder();
        touch(t.path(), "cur/a");
        fs::remove_dir(t.path().join("new")).unwrap();
        assert_eq!(scan(t.path()).unwrap_err().kind, Kind::Raced);
        assert_eq!(signature(t.path()).unwrap(), None);
        touch(t.path(), "new");
        assert_eq!(scan(t.path()).unwrap_err().kind, Kind::Io);
        assert!(signature(t.path()).is_err(), "a file is no absent directory");
        fs::remove_file(t.path().join("new")).unwrap();
        std::os::unix::fs::symlink("cur", t.path().join("new")).unwrap();
        assert!(scan(t.path()).is_err(), "a symlink is not followed");
        assert!(signature(t.path()).is_err());
    }

    #[test]
    fn the_signature_follows_every_change_and_survives_the_ledger() {
        let t = folder();
        let a = signature(t.path()).unwrap().unwrap();
        assert_eq!(DirSignature::from_bytes(&a.to_bytes()), Some(a));
        assert_eq!(DirSignature::from_bytes(&a.to_bytes()[1..]), None);
        assert_eq!(scan(t.path()).unwrap().signature, a);
        fs::remove_dir(t.path().join("cur")).unwrap();
        fs::create_dir(t.path().join("cur")).unwrap();
        touch(t.path(), "cur/x");
        let b = signature(t.path()).unwrap().unwrap();
        assert_eq!(a.new, b.new);
        assert_ne!(a.cur, b.cur);
    }

    #[test]
    fn trust_takes_two_seconds_without_a_change() {
        let t = folder();
        touch(t.path(), "cur/x");
        let at = |ms| {
            let s = read(t.path(), later(t.path(), Duration::from_millis(ms))).unwrap().scan;
            (s.stable, s.trusted)
        };
        assert_eq!(at(0), (false, false), "a change in the same tick would not show");
        assert_eq!(at(1000), (true, false));
        let fd = disk::open_dir(&t.path().join("cur")).unwrap();
        let local = disk::Filesystem::of(fd).unwrap().times_prove();
        assert_eq!(at(2500), (true, local));
    }
}
