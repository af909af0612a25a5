//! A message on its way in: bytes from the wire to a file in `tmp`, then to `cur` or `new`.
//!
//! Stored with LF where that can be undone exactly, else as received; which of the two is known
//! only at the end of the message. A small one waits for that in memory; a big one is written as
//! received, and its file is rewritten in place if need be.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::disk::{self, NewFile, PIECE};
use crate::model::identity::{Digest, Digester};
use crate::model::{BaseName, Place};
use crate::{Error, Kind, Result, Scope};

/// The most that a [`Stage`] holds in memory before it writes to its file.
const HELD: usize = 2 * PIECE;

/// A message being received. Dropped before [`Stage::finish`], it leaves nothing.
pub struct Stage {
    base: BaseName,
    new: NewFile,
    digester: Digester,
    held: Vec<u8>,
    /// Bytes in the file, as received.
    spilled: u64,
}

impl Stage {
    /// Makes the file in the folder's `tmp`; `Kind::Exists` if the name is taken there.
    pub fn new(dir: &Path, base: BaseName) -> Result<Self> {
        let new = create(dir, &base)?;
        Ok(Self { base, new, digester: Digester::new(), held: Vec::new(), spilled: 0 })
    }

    /// The next bytes, as received.
    pub fn write(&mut self, wire: &[u8]) -> Result<()> {
        for piece in wire.chunks(PIECE) {
            self.digester.update(piece);
            if self.held.len() + piece.len() > HELD {
                self.spill()?;
            }
            self.held.extend_from_slice(piece);
        }
        Ok(())
    }

    /// The end of the message: line endings settled, mtime set to the INTERNALDATE (Unix time in
    /// seconds). Not durable yet.
    pub fn finish(mut self, internal_date: i64) -> Result<Staged> {
        let digest = std::mem::take(&mut self.digester).finish();
        let size = if self.spilled == 0 {
            write_whole(&mut self.new, &self.held, digest.lf_is_exact)?
        } else {
            self.spill()?;
            self.held = Vec::new();
            if digest.lf_is_exact { self.rewrite(&digest)? } else { self.spilled }
        };
        seal(self.new, internal_date)?;
        Ok(Staged { base: self.base, digest, size })
    }

    fn spill(&mut self) -> Result<()> {
        let Self { new, held, .. } = self;
        new.write(held).map_err(|e| failed(new, e))?;
        self.spilled += self.held.len() as u64;
        self.held.clear();
        Ok(())
    }

    /// Turns CRLF into LF in the file: what is written never catches up with what is read. What
    /// came out is hashed, since the file was read back for it.
    fn rewrite(&mut self, digest: &Digest) -> Result<u64> {
        let (mut read_at, mut write_at) = (0u64, 0u64);
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; PIECE];
        let mut out = Vec::with_capacity(PIECE + 1);
        let mut lines = ToLf::default();
        loop {
            let left = usize::try_from(self.spilled - read_at).unwrap_or(PIECE).min(PIECE);
            let piece = buffer.get_mut(..left).unwrap_or_default();
            self.new
                .file()
                .read_exact_at(piece, read_at)
                .map_err(|e| failed(&self.new, disk::errno(e)))?;
            read_at += left as u64;
            out.clear();
            lines.push(piece, &mut out);
            if left == 0 {
                lines.end(&mut out);
            }
            hasher.update(&out);
            self.new.write_at(&out, write_at).map_err(|e| failed(&self.new, e))?;
            write_at += out.len() as u64;
            if left == 0 {
                break;
            }
        }
        if *hasher.finalize().as_bytes() != digest.content.0 {
            return Err(Error::message(
                Kind::Io,
                format!("{} did not read back as it was written", self.new.path().display()),
            )
            .next(
                "check the filesystem and the memory of this machine; the message was not kept",
            ));
        }
        self.new.cut(write_at).map_err(|e| failed(&self.new, e))?;
        Ok(write_at)
    }
}

/// A whole message in `tmp`. To be made durable ([`super::Durability`]), then published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Its name in `tmp`.
    pub base: BaseName,
    /// Of the bytes as received.
    pub digest: Digest,
    /// Of the file, in bytes.
    pub size: u64,
}

impl Staged {
    /// Where it is in its folder's directory.
    pub fn path(&self, dir: &Path) -> PathBuf {
        tmp_path(dir, &self.base)
    }
}

/// A whole message in memory to a file in `tmp`: one create, one write. Not durable yet.
/// `Kind::Exists` if the name is taken in `tmp`.
pub fn stage_bytes(dir: &Path, base: BaseName, wire: &[u8], internal_date: i64) -> Result<Staged> {
    let (digest, text) = Digester::whole(wire);
    let mut new = create(dir, &base)?;
    let stored = if digest.lf_is_exact { &text } else { wire };
    new.write(stored).map_err(|e| failed(&new, e))?;
    let size = stored.len() as u64;
    seal(new, internal_date)?;
    Ok(Staged { base, digest, size })
}

/// Moves a durable message from `tmp` to its place, without overwriting: `Kind::Exists` if the name
/// is taken there (another base name will do). Durable only after [`super::sync_dirs`].
pub fn publish(dir: &Path, staged: &Staged, to: &Place) -> Result<()> {
    let (source, target) = (staged.path(dir), super::place_path(dir, to));
    disk::rename_noreplace(&source, &target).map_err(|e| match e {
        Errno::EXIST => disk::fail_message("rename", &target, e),
        e => disk::fail_message("rename", &source, e),
    })
}

/// The same for a file that an earlier pass left in `tmp`.
pub fn publish_from(source: &Path, dir: &Path, to: &Place) -> Result<()> {
    let target = super::place_path(dir, to);
    disk::rename_noreplace(source, &target).map_err(|e| match e {
        Errno::EXIST => disk::fail_message("rename", &target, e),
        e => disk::fail_message("rename", source, e),
    })
}

/// Unlinks a staged message that is not wanted any more.
pub fn discard(dir: &Path, staged: &Staged) -> Result<()> {
    let path = staged.path(dir);
    disk::remove(&path).map_err(|e| disk::fail_message("unlink", &path, e))
}

fn tmp_path(dir: &Path, base: &BaseName) -> PathBuf {
    disk::join(&dir.join("tmp"), base.as_bytes())
}

fn create(dir: &Path, base: &BaseName) -> Result<NewFile> {
    let path = tmp_path(dir, base);
    NewFile::create(path.clone()).map_err(|e| match e {
        e @ (Errno::EXIST | Errno::NAMETOOLONG) => disk::fail_message("create", &path, e),
        // Not one message's trouble: the folder went away, or nothing can be written to it.
        e => disk::fail(Scope::Folder, "create", &path, e),
    })
}

fn write_whole(new: &mut NewFile, wire: &[u8], lf: bool) -> Result<u64> {
    let stored = if lf { to_lf(wire) } else { wire.into() };
    new.write(&stored).map_err(|e| failed(new, e))?;
    Ok(stored.len() as u64)
}

fn seal(new: NewFile, internal_date: i64) -> Result<()> {
    new.set_mtime(internal_date).map_err(|e| failed(&new, e))?;
    new.keep();
    Ok(())
}

fn failed(new: &NewFile, e: Errno) -> Error {
    disk::fail_message("write", new.path(), e)
}

/// CRLF as LF, whole. Borrowed where there is nothing to turn.
fn to_lf(wire: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if memchr::memchr(b'\r', wire).is_none() {
        return wire.into();
    }
    let mut out = Vec::with_capacity(wire.len());
    let mut lines = ToLf::default();
    lines.push(wire, &mut out);
    lines.end(&mut out);
    out.into()
}

/// Turns CRLF into LF, in pieces.
#[derive(Default)]
struct ToLf {
    /// The last piece ended in a CR, which is not written yet.
    cr: bool,
}

impl ToLf {
    fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        if self.cr && !bytes.is_empty() {
            self.cr = false;
            if bytes.first() != Some(&b'\n') {
                out.push(b'\r');
            }
        }
        while let Some(at) = memchr::memchr(b'\r', bytes) {
            let (text, tail) = bytes.split_at(at);
            out.extend_from_slice(text);
            match tail.get(1) {
                Some(b'\n') => {}
                Some(_) => out.push(b'\r'),
                None => self.cr = true,
            }
            bytes = tail.get(1..).unwrap_or_default();
        }
        out.extend_from_slice(bytes);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.cr) {
            out.push(b'\r');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FileName;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    fn folder() -> tempfile::TempDir {
        let t = tempfile::tempdir().unwrap();
        for d in ["cur", "new", "tmp"] {
            fs::create_dir(t.path().join(d)).unwrap();
        }
        t
    }

    fn base(n: u64) -> BaseName {
        BaseName::ours(1, 2, n)
    }

    /// What must be on disk, said in another way than the code does.
    fn stored(wire: &[u8]) -> Vec<u8> {
        let s: String = wire.iter().map(|b| char::from(*b)).collect();
        let lf = s.replace("\r\n", "\n");
        let exact = !s.replace("\r\n", "").contains('\n') && !s.contains("\r\r");
        let kept = if exact { lf } else { s };
        kept.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
    }

    fn staged_in_pieces(dir: &Path, n: u64, wire: &[u8], piece: usize) -> Staged {
        let mut s = Stage::new(dir, base(n)).unwrap();
        for p in wire.chunks(piece.max(1)) {
            s.write(p).unwrap();
        }
        s.finish(1_000_000_000).unwrap()
    }

    fn left_in_tmp(dir: &Path) -> usize {
        fs::read_dir(dir.join("tmp")).unwrap().count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Both ways of staging store the same bytes, whatever the pieces, small or big.
        #[test]
        fn line_ends_are_turned_only_where_that_can_be_undone(
            unit in prop::collection::vec(prop::sample::select(&b"\r\nab\xff"[..]), 0..9),
            times in prop_oneof![Just(1usize), Just(700), (HELD / 5..HELD / 2)],
            tail in prop::collection::vec(prop::sample::select(&b"\r\na"[..]), 0..4),
            piece in prop_oneof![Just(1000usize), PIECE - 2..PIECE + 2, Just(10 * PIECE)]) {
            let t = folder();
            let mut wire = unit.repeat(times);
            wire.extend_from_slice(&tail);
            let a = stage_bytes(t.path(), base(1), &wire, 0).unwrap();
            let b = staged_in_pieces(t.path(), 2, &wire, piece);
            prop_assert_eq!(&a.digest.content, &b.digest.content);
            let want = stored(&wire);
            for s in [&a, &b] {
                let got = fs::read(s.path(t.path())).unwrap();
                prop_assert!(got == want);
                prop_assert_eq!(s.size, got.len() as u64);
                let local = super::super::identify(&s.path(t.path())).unwrap();
                prop_assert_eq!(local.digest.content, s.digest.content);
            }
        }
    }

    #[test]
    fn a_crlf_between_two_pieces_is_one_line_end() {
        let t = folder();
        for at in PIECE - 2..PIECE + 3 {
            let mut wire = vec![b'x'; 4 * PIECE];
            wire[at..at + 2].copy_from_slice(b"\r\n");
            let s = staged_in_pieces(t.path(), at as u64, &wire, PIECE);
            assert_eq!(fs::read(s.path(t.path())).unwrap(), stored(&wire));
            assert_eq!(s.size, wire.len() as u64 - 1);
        }
    }

    #[test]
    fn the_file_has_the_date_and_its_mode() {
        let t = folder();
        for (n, date) in [(1, 0), (2, 1_234_567_890), (3, -86_400)] {
            let s = stage_bytes(t.path(), base(n), b"a\r\n", date).unwrap();
            let m = fs::metadata(s.path(t.path())).unwrap();
            assert_eq!((m.mtime(), m.mtime_nsec(), m.mode() & 0o7777), (date, 0, 0o600));
        }
        let s = staged_in_pieces(t.path(), 4, &b"ab\r\n".repeat(HELD), 999);
        assert_eq!(fs::metadata(s.path(t.path())).unwrap().mtime(), 1_000_000_000);
    }

    #[test]
    fn a_stage_that_is_given_up_leaves_nothing() {
        let t = folder();
        let mut s = Stage::new(t.path(), base(1)).unwrap();
        s.write(&vec![b'x'; 5 * PIECE]).unwrap();
        assert_eq!(left_in_tmp(t.path()), 1);
        drop(s);
        assert_eq!(left_in_tmp(t.path()), 0);
        let s = stage_bytes(t.path(), base(1), b"a", 0).unwrap();
        discard(t.path(), &s).unwrap();
        assert_eq!(left_in_tmp(t.path()), 0);
    }

    #[test]
    fn memory_is_bounded_whatever_arrives() {
        let t = folder();
        let mut s = Stage::new(t.path(), base(1)).unwrap();
        s.write(&vec![b'x'; 100 * PIECE]).unwrap();
        assert!(s.held.capacity() <= HELD, "{}", s.held.capacity());
    }

    #[test]
    fn publishing_never_overwrites() {
        let t = folder();
        let s = stage_bytes(t.path(), base(1), b"mine", 0).unwrap();
        let place = |n| Place { sub: crate::model::Subdir::New, file: FileName::bare(base(n)) };
        fs::write(super::super::place_path(t.path(), &place(1)), "other").unwrap();
        assert_eq!(publish(t.path(), &s, &place(1)).unwrap_err().kind, Kind::Exists);
        assert_eq!(left_in_tmp(t.path()), 1, "nothing is lost by it");
        publish(t.path(), &s, &place(2)).unwrap();
        assert_eq!(fs::read(super::super::place_path(t.path(), &place(1))).unwrap(), b"other");
        assert_eq!(fs::read(super::super::place_path(t.path(), &place(2))).unwrap(), b"mine");
        assert_eq!(publish(t.path(), &s, &place(3)).unwrap_err().kind, Kind::Raced);
    }

    #[test]
    fn a_taken_name_in_tmp_is_left_alone() {
        let t = folder();
        let s = stage_bytes(t.path(), base(1), b"first", 0).unwrap();
        assert_eq!(stage_bytes(t.path(), base(1), b"x", 0).unwrap_err().kind, Kind::Exists);
        assert_eq!(Stage::new(t.path(), base(1)).err().unwrap().kind, Kind::Exists);
        assert_eq!(fs::read(s.path(t.path())).unwrap(), b"first");
        fs::remove_dir_all(t.path().join("tmp")).unwrap();
        let e = stage_bytes(t.path(), base(1), b"x", 0).unwrap_err();
        assert_eq!(e.scope, Scope::Folder);
    }
}
