//! The root marker, `.mailkeep`: which ledgers a maildir belongs to, a line an account. It tells an
//! unmounted, swapped or restored maildir from the one the ledger knows. And the accounts' locks,
//! which lie beside it.
//!
//! A marker that cannot be read is an error, and never "no marker".

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{CWD, FlockOperation, OFlags};
use rustix::io::Errno;

use super::disk::{self, FILE_MODE};
use crate::{Error, Kind, Result, Scope};

/// One account's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The ledger's id.
    pub ledger: u128,
    /// Raised before the first write of a pass.
    pub generation: u64,
    /// The machine.
    pub host: String,
}

/// All lines by account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marker {
    /// By the account's name.
    pub lines: BTreeMap<String, Line>,
}

const FILE: &str = ".mailkeep";

/// Written first; people will look into the file.
const HEAD: &str = "# This maildir is mirrored by mailkeep. Do not edit or copy this file.\n";

/// The longest marker that is read, in bytes.
const LONGEST: u64 = 1 << 20;

impl Marker {
    /// From the file's text. Blank lines, comments and CRLF are passed over; anything else that is
    /// no line of ours is an error, which says what.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut lines = BTreeMap::new();
        for (n, raw) in text.lines().enumerate() {
            let raw = raw.trim();
            if raw.is_empty() || raw.starts_with('#') {
                continue;
            }
            let (account, line) =
                parse_line(raw).ok_or_else(|| format!("line {} cannot be read", n + 1))?;
            if lines.insert(account, line).is_some() {
                return Err(format!("line {} names an account for the second time", n + 1));
            }
        }
        Ok(Self { lines })
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut s = String::from(HEAD);
        for (account, l) in &self.lines {
            let (account, host) = (escape(account), escape(&l.host));
            // Writing to a String cannot fail.
            let _ = writeln!(s, "{account} {:032x} {} {host}", l.ledger, l.generation);
        }
        s
    }
}

/// Reads the marker; `None` if there is none.
pub fn read(root: &Path) -> Result<Option<Marker>> {
    let path = root.join(FILE);
    let fail = |e| disk::fail(Scope::Account, "read", &path, e);
    let (file, _) = match disk::open_file(&path) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.map_err(fail)?,
    };
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).map_err(|e| fail(disk::errno(e)))?;
    let text = String::from_utf8(bytes).map_err(|_| damaged(&path, "it is no text"))?;
    // An empty file is what a full or failing disk leaves, and not what we write.
    if text.trim().is_empty() {
        return Err(damaged(&path, "it is empty"));
    }
    Marker::parse(&text).map(Some).map_err(|why| damaged(&path, &why))
}

/// Sets one account's line, or takes it out, and keeps the others. Durable.
pub fn write(root: &Path, account: &str, line: Option<&Line>) -> Result<()> {
    let path = root.join(FILE);
    // POP3 accounts share a root, so two may write at a time.
    let lock = root.join(".mailkeep.lock");
    let guard = open_lock(&lock, OFlags::RDWR)?;
    disk::retry(|| rustix::fs::flock(&guard, FlockOperation::LockExclusive))
        .map_err(|e| disk::fail(Scope::Account, "lock", &lock, e))?;
    let mut marker = read(root)?.unwrap_or_default();
    match line {
        Some(l) => marker.lines.insert(account.to_owned(), l.clone()),
        None => marker.lines.remove(account),
    };
    disk::replace_file(root.join(".mailkeep.new"), &path, marker.to_text().as_bytes())
        .map_err(|e| disk::fail(Scope::Account, "write", &path, e))
}

/// An account's lock on a maildir. Held as long as it lives, or the process does.
#[derive(Debug)]
pub struct MarkerLock {
    _file: File,
}

/// Takes the account's lock in this root without waiting. `Kind::Locked` says who holds it. Nothing
/// is written for that: whoever watches the maildir, or backs it up, would take it for a change.
pub fn lock(root: &Path, account: &str) -> Result<MarkerLock> {
    let path = root.join(format!(".mailkeep.{}.lock", escape(account)));
    match try_lock(&path, OFlags::RDONLY)? {
        // NFS locks only what is open for writing (flock(2))
        (_, Err(Errno::BADF)) => locked(root, account, &path, try_lock(&path, OFlags::RDWR)?),
        tried => locked(root, account, &path, tried),
    }
}

fn try_lock(path: &Path, mode: OFlags) -> Result<(File, rustix::io::Result<()>)> {
    let file = open_lock(path, mode)?;
    let tried = disk::retry(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive));
    Ok((file, tried))
}

fn locked(
    root: &Path,
    account: &str,
    path: &Path,
    (file, tried): (File, rustix::io::Result<()>),
) -> Result<MarkerLock> {
    match tried {
        Ok(()) => Ok(MarkerLock { _file: file }),
        Err(Errno::WOULDBLOCK) => {
            let who = holder(&file).map_or("another process".into(), |p| format!("process {p}"));
            Err(Error::account(
                Kind::Locked,
                format!("{who} is at work on {account} in {}", root.display()),
            )
            .next("wait for it, or stop it; `mailkeep sync` asks a running daemon by itself"))
        }
        Err(e) => Err(disk::fail(Scope::Account, "lock", path, e)),
    }
}

/// The process on this machine that holds the lock, as far as the kernel tells (proc(5)).
fn holder(file: &File) -> Option<u32> {
    let inode = rustix::fs::fstat(file).ok()?.st_ino.to_string();
    let all = std::fs::read_to_string("/proc/locks").ok()?;
    all.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // btrfs gives another device here than to stat
        match fields.as_slice() {
            [_, "FLOCK", _, _, pid, at, ..] if at.rsplit(':').next() == Some(&inode) => {
                pid.parse().ok().filter(|pid| *pid > 0)
            }
            _ => None,
        }
    })
}

fn open_lock(path: &Path, mode: OFlags) -> Result<File> {
    let flags = mode | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = disk::retry(|| rustix::fs::openat(CWD, path, flags, FILE_MODE))
        .map_err(|e| disk::fail(Scope::Account, "open", path, e))?;
    Ok(File::from(fd))
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::account(Kind::Maildir, format!("{} is damaged: {why}", path.display())).next(
        "restore it from a backup; or, if this is the right maildir, move it away together with \
         the account's ledger: the next sync pairs both sides again",
    )
}

fn parse_line(raw: &str) -> Option<(String, Line)> {
    let mut fields = raw.split(' ');
    let account = unescape(fields.next()?)?;
    let ledger = fields.next().filter(|f| f.len() == 32)?;
    let ledger = u128::from_str_radix(ledger, 16).ok()?;
    let generation = fields.next()?.parse().ok()?;
    let host = unescape(fields.next()?)?;
    fields.next().is_none().then_some((account, Line { ledger, generation, host }))
}

/// Without spaces, line ends and separators, and never empty: a field of a line, a part of a file's
/// name.
fn escape(s: &str) -> String {
    if s.is_empty() {
        return "%".into();
    }
    let mut out = String::new();
    for (i, c) in s.char_indices() {
        if c == '%' || c == '/' || c.is_whitespace() || c.is_control() || (c == '#' && i == 0) {
            for b in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(out, "%{b:02X}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn unescape(s: &str) -> Option<String> {
    if s == "%" {
        return Some(String::new());
    }
    let mut out = Vec::new();
    let mut bytes = s.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            out.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(generation: u64) -> Line {
        Line { ledger: 0xabc, generation, host: "ho st".into() }
    }

    proptest! {
        #[test]
        fn text_and_back(lines in prop::collection::btree_map(
            "(\\PC|[ \n#%/\u{85}\u{a0}]){0,5}", (any::<u128>(), any::<u64>(), "(\\PC|[ \r]){0,5}"), 0..5)) {
            let lines = lines
                .into_iter()
                .map(|(a, (ledger, generation, host))| (a, Line { ledger, generation, host }))
                .collect();
            let m = Marker { lines };
            prop_assert_eq!(Marker::parse(&m.to_text()), Ok(m));
        }

        #[test]
        fn a_damaged_marker_is_not_read_as_another(cut in 0usize..200) {
            let mut m = Marker::default();
            m.lines.insert("a".into(), line(12));
            m.lines.insert("b".into(), line(34));
            let text = m.to_text();
            let cut = cut.min(text.len());
            // What was cut off may be missing, but nothing may read as something else, but for a
            // host cut short, which is an error of its own.
            if let Ok(got) = Marker::parse(&text[..cut]) {
                for (account, l) in got.lines {
                    prop_assert_eq!(l.generation, m.lines[&account].generation);
                    prop_assert_eq!(l.ledger, m.lines[&account].ledger);
                }
            }
        }
    }

    #[test]
    fn what_is_no_line_is_an_error() {
        let ok = "# c\r\n\r\nwork 00000000000000000000000000000abc 7 host\r\n";
        assert_eq!(Marker::parse(ok).unwrap().lines["work"].generation, 7);
        for bad in [
            "work",
            "work abc 7 host",
            "work 00000000000000000000000000000abc x host",
            "work 00000000000000000000000000000abc 7",
            "w%zz 00000000000000000000000000000abc 7 h",
            "w 00000000000000000000000000000abc 7 h x",
        ] {
            assert!(Marker::parse(bad).is_err(), "{bad}");
        }
        assert!(Marker::parse(&format!("{ok}{ok}")).is_err());
    }

    #[test]
    fn other_accounts_lines_are_kept() {
        let t = tempfile::tempdir().unwrap();
        assert_eq!(read(t.path()).unwrap(), None);
        write(t.path(), "a b", Some(&line(1))).unwrap();
        write(t.path(), "c", Some(&line(2))).unwrap();
        write(t.path(), "a b", Some(&line(3))).unwrap();
        let m = read(t.path()).unwrap().unwrap();
        assert_eq!(m.lines["a b"], line(3));
        assert_eq!(m.lines["c"], line(2));
        write(t.path(), "c", None).unwrap();
        assert_eq!(read(t.path()).unwrap().unwrap().lines.len(), 1);
        assert!(!t.path().join(".mailkeep.new").exists());
    }

    #[test]
    fn a_marker_that_cannot_be_read_is_not_absent_and_not_overwritten() {
        let t = tempfile::tempdir().unwrap();
        let path = t.path().join(FILE);
        for bad in [&b""[..], b"\xff", b"nonsense", b"\n"] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(read(t.path()).unwrap_err().kind, Kind::Maildir);
            assert_eq!(write(t.path(), "a", Some(&line(1))).unwrap_err().kind, Kind::Maildir);
            assert_eq!(std::fs::read(&path).unwrap(), bad);
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert!(read(t.path()).is_err());
    }

    #[test]
    fn a_lock_is_an_account_s_and_says_who() {
        let t = tempfile::tempdir().unwrap();
        let held = lock(t.path(), "a/b").unwrap();
        let e = lock(t.path(), "a/b").unwrap_err();
        assert_eq!(e.kind, Kind::Locked);
        assert!(e.what.contains(&format!("process {}", std::process::id())), "{}", e.what);
        lock(t.path(), "c").unwrap();
        write(t.path(), "a/b", Some(&line(1))).unwrap();
        drop(held);
        lock(t.path(), "a/b").unwrap();
        let written = |name: &str| std::fs::metadata(t.path().join(name)).unwrap().len();
        assert_eq!(written(".mailkeep.a%2Fb.lock"), 0, "a lock writes nothing");
    }
}
