//! A maildir root and its folders: made, cleared, removed. Symlinks below the root are never
//! followed, and what is not ours is never touched.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::layout::{Layout, NAME_MAX};
use super::{disk, keywords};
use crate::model::{FileName, FolderName};
use crate::{Error, Kind, Result, Scope};

/// A folder's subdirectories, in the order in which they are made and removed: no program can begin
/// a delivery without `tmp`, and where `cur` is, readers see a folder.
pub(super) const SUBDIRS: [&str; 3] = ["tmp", "new", "cur"];

/// The longest path the system takes (PATH_MAX without the NUL), in bytes.
const PATH_MAX: usize = 4095;

/// A maildir root with its layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maildir {
    root: PathBuf,
    layout: Layout,
    /// A dry run makes nothing, not even what is missing of a folder.
    as_it_is: bool,
}

impl Maildir {
    /// The root must be there and be a directory; a missing one is `Kind::Maildir`, since an
    /// unmounted maildir is not an empty one.
    pub fn open(root: &Path, layout: Layout) -> Result<Self> {
        let maildir = Self { root: root.to_owned(), layout, as_it_is: false };
        maildir.open_root()?;
        Ok(maildir)
    }

    /// With `as_it_is`, listing its folders makes nothing.
    #[must_use]
    pub fn looked_at(self, as_it_is: bool) -> Self {
        Self { as_it_is, ..self }
    }

    /// Whether listing its folders may make what is missing of them.
    pub(super) fn may_complete(&self) -> bool {
        !self.as_it_is
    }

    /// Makes the root of a new maildir, with its parents, 0700 and durable. It may be there.
    pub fn create_root(root: &Path) -> Result<()> {
        let fail = |e| disk::fail(Scope::Account, "make", root, e);
        let mut missing = Vec::new();
        let mut at = root;
        // Parents may be symlinks; what is there is used as it is.
        let mut fd = loop {
            match open_followed(if at.as_os_str().is_empty() { Path::new(".") } else { at }) {
                Ok(fd) => break fd,
                Err(Errno::NOENT) => {
                    let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
                        return Err(fail(Errno::NOENT));
                    };
                    missing.push(name);
                    at = parent;
                }
                Err(e) => return Err(fail(e)),
            }
        };
        for name in missing.iter().rev() {
            fd = disk::ensure_dir(&fd, Path::new(name)).map_err(fail)?;
        }
        Ok(())
    }

    /// The root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The layout.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The folder's directory, which holds `cur`, `new` and `tmp`.
    pub fn dir(&self, name: &FolderName) -> PathBuf {
        self.at(&self.layout.relative_dir(name))
    }

    /// Whether the folder's directory can exist: an error of folder scope where its name is longer
    /// than the filesystem takes.
    pub fn check(&self, name: &FolderName) -> Result<()> {
        let dir = self.dir(name);
        let longest = dir.components().map(|c| c.as_os_str().len()).max().unwrap_or(0);
        let whole = dir.as_os_str().len() + "/cur/".len() + NAME_MAX;
        if longest <= NAME_MAX && whole <= PATH_MAX {
            return Ok(());
        }
        let next = match self.layout {
            Layout::Nested => "give the folder a shorter name on the server, or exclude it",
            Layout::PlusPlus => {
                "give the folder a shorter name on the server, exclude it, or use \
                 layout = \"nested\" in a new maildir"
            }
        };
        Err(Error::folder(Kind::Io, "its name is too long for a directory").at(name).next(next))
    }

    /// Whether a folder that [`Maildir::folders`] does not list is really gone. False if it is there
    /// after all. Where something else stands in its place (a symlink, a file), that is an error:
    /// its messages were put elsewhere, and not deleted.
    pub fn is_gone(&self, name: &FolderName) -> Result<bool> {
        let relative = self.layout.relative_dir(name);
        let mut fd = self.open_root()?;
        let mut at = PathBuf::new();
        for part in &relative {
            at.push(part);
            fd = match disk::open_dir_at(&fd, Path::new(part)) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => return Ok(true),
                Err(e) => return Err(self.in_the_way(&at, e)),
            };
        }
        for sub in ["cur", "new"] {
            match disk::open_dir_at(&fd, Path::new(sub)) {
                Ok(_) => return Ok(false),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(self.in_the_way(&at.join(sub), e)),
            }
        }
        Ok(true)
    }

    /// Makes a folder, durable: its directory, `cur`, `new` and `tmp`, 0700. It may be there.
    pub fn create_folder(&self, name: &FolderName) -> Result<()> {
        self.check(name)?;
        let relative = self.layout.relative_dir(name);
        let mut fd = self.open_root()?;
        let mut at = PathBuf::new();
        for part in &relative {
            at.push(part);
            fd = disk::ensure_dir(&fd, Path::new(part)).map_err(|e| self.in_the_way(&at, e))?;
        }
        for sub in SUBDIRS {
            disk::ensure_dir(&fd, Path::new(sub)).map_err(|e| self.in_the_way(&at.join(sub), e))?;
        }
        Ok(())
    }

    /// Whether this directory, which is relative to the root, is a folder's, whatever it is called,
    /// and no symlink leads there.
    pub fn is_folder(&self, relative: &Path) -> Result<bool> {
        self.has_dir(&relative.join("cur"))
    }

    /// Whether the folder's own directory is not there yet.
    pub fn is_free(&self, name: &FolderName) -> Result<bool> {
        Ok(!self.has_dir(&self.layout.relative_dir(name))?)
    }

    /// Whether there is such a directory, relative to the root, and no symlink leads there.
    pub(super) fn has_dir(&self, relative: &Path) -> Result<bool> {
        let mut fd = self.open_root()?;
        for part in relative {
            fd = match disk::open_dir_at(&fd, Path::new(part)) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
                Err(e) => return Err(self.failed(relative, e)),
            };
        }
        Ok(true)
    }

    /// Gives a folder the directory that another program made for it, durable. `false` if there is
    /// one already. What is empty above the old place is removed.
    pub fn take_over(&self, relative: &Path, name: &FolderName) -> Result<bool> {
        self.check(name)?;
        let ours = self.layout.relative_dir(name);
        let mut fd = self.open_root()?;
        let mut at = PathBuf::new();
        for part in ours.parent().unwrap_or(Path::new("")) {
            at.push(part);
            fd = disk::ensure_dir(&fd, Path::new(part)).map_err(|e| self.in_the_way(&at, e))?;
        }
        match disk::rename_dir(&self.at(relative), &self.at(&ours)) {
            Ok(()) => {}
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOENT) => return Ok(false),
            Err(e) => return Err(disk::fail(Scope::Folder, "rename", &self.at(relative), e)),
        }
        disk::sync_dir(&fd).map_err(|e| self.failed(&at, e))?;
        for above in relative.ancestors().skip(1) {
            let parent = self.at(above);
            let synced = open_followed(&parent).and_then(disk::sync_dir);
            synced.map_err(|e| disk::fail(Scope::Folder, "fsync", &parent, e))?;
            if above.as_os_str().is_empty() || disk::remove_dir(&parent).is_err() {
                break; // folders below it, or files of other programs
            }
        }
        Ok(true)
    }

    /// Removes a folder without messages, durable: its subdirectories, our own files, and then its
    /// directory, and those above it, as far as nothing else is in them. With a message in `cur` or
    /// `new` it is `Kind::Raced` and stays; with anything else in these, or another program's file
    /// in `tmp`, it is `Kind::Maildir`, and nothing was touched. It may be gone.
    pub fn remove_folder(&self, name: &FolderName) -> Result<()> {
        if name.is_inbox() {
            return Err(Error::folder(Kind::Internal, "INBOX is never removed"));
        }
        let relative = self.layout.relative_dir(name);
        let dir = self.at(&relative);
        self.clear_tmp(name)?;
        if let Some(stranger) = self.stranger(&relative)? {
            let what = format!("{} is no message, and in the way", stranger.display());
            return Err(Error::folder(Kind::Maildir, what).at(name).next(
                "the folder is gone from the server; remove that, and its directory goes, too",
            ));
        }
        // `tmp` first, so that no program begins a delivery meanwhile. A directory that is not
        // empty is not removed, whoever comes between.
        for sub in SUBDIRS {
            match disk::remove_dir(&dir.join(sub)) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    self.create_folder(name)?;
                    return Err(Error::folder(
                        Kind::Raced,
                        format!("{}/{sub} is not empty", dir.display()),
                    )
                    .at(name)
                    .next("the folder stays; what is in it is looked at in the next pass"));
                }
                Err(e) => return Err(self.failed(&relative.join(sub), e)),
            }
        }
        let fd = match disk::open_dir(&dir) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(self.failed(&relative, e)),
        };
        let mut ours = Vec::new();
        disk::for_each_entry(&fd, |entry, kind| {
            if kind == FileType::RegularFile
                && (entry == keywords::FILE.as_bytes() || entry.starts_with(b".mailkeep"))
            {
                ours.push(disk::join(&dir, entry));
            }
        })
        .map_err(|e| self.failed(&relative, e))?;
        for path in ours {
            disk::remove(&path).map_err(|e| disk::fail(Scope::Folder, "unlink", &path, e))?;
        }
        disk::sync_dir(&fd).map_err(|e| self.failed(&relative, e))?;
        for above in relative.ancestors().filter(|a| !a.as_os_str().is_empty()) {
            match disk::remove_dir(&self.at(above)) {
                Ok(()) | Err(Errno::NOENT) => {}
                // Folders below it, or files of other programs.
                Err(Errno::NOTEMPTY | Errno::EXIST) => break,
                Err(e) => return Err(self.failed(above, e)),
            }
            let parent = self.at(above.parent().unwrap_or(Path::new("")));
            open_followed(&parent)
                .and_then(disk::sync_dir)
                .map_err(|e| disk::fail(Scope::Folder, "fsync", &parent, e))?;
        }
        Ok(())
    }

    /// What stands in a folder's directories, is no message, and keeps them from being removed.
    fn stranger(&self, relative: &Path) -> Result<Option<PathBuf>> {
        let mut found = None;
        for sub in SUBDIRS {
            let at = relative.join(sub);
            let fd = match disk::open_dir(&self.at(&at)) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(self.failed(&at, e)),
            };
            disk::for_each_entry(&fd, |entry, kind| {
                let name = OsStr::from_bytes(entry);
                let message = kind == FileType::RegularFile && FileName::parse(name).is_some();
                if !message || sub == "tmp" {
                    found.get_or_insert_with(|| self.at(&at).join(name));
                }
            })
            .map_err(|e| self.failed(&at, e))?;
        }
        Ok(found)
    }

    /// Unlinks what we left in the folder's `tmp`. Only where nobody of ours is at work in it: an
    /// account that shares the root may be.
    pub fn clear_tmp(&self, name: &FolderName) -> Result<()> {
        let tmp = self.dir(name).join("tmp");
        let fail = |e| disk::fail(Scope::Folder, "clear", &tmp, e);
        let fd = match disk::open_dir(&tmp) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(fail)?,
        };
        let mut ours = Vec::new();
        disk::for_each_entry(&fd, |entry, kind| {
            if kind == FileType::RegularFile
                && FileName::parse(OsStr::from_bytes(entry)).is_some_and(|f| f.base.is_ours())
            {
                ours.push(disk::join(&tmp, entry));
            }
        })
        .map_err(fail)?;
        for path in ours {
            match disk::remove(&path) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(disk::fail(Scope::Folder, "unlink", &path, e)),
            }
        }
        Ok(())
    }

    pub(super) fn at(&self, relative: &Path) -> PathBuf {
        // Joining nothing would add a slash.
        if relative.as_os_str().is_empty() { self.root.clone() } else { self.root.join(relative) }
    }

    pub(super) fn open_root(&self) -> Result<OwnedFd> {
        let shown = self.root.display();
        open_followed(&self.root).map_err(|e| match e {
            Errno::NOENT => Error::account(Kind::Maildir, format!("there is no {shown}"))
                .next("if it is on a filesystem of its own, mount that; else restore it"),
            Errno::NOTDIR => Error::account(Kind::Maildir, format!("{shown} is no directory"))
                .next("name a directory as the account's maildir"),
            e => disk::fail(Scope::Account, "open", &self.root, e),
        })
    }

    /// Something that is no directory of ours stands where one belongs.
    pub(super) fn in_the_way(&self, relative: &Path, e: Errno) -> Error {
        match e {
            Errno::NOTDIR | Errno::LOOP => Error::folder(
                Kind::Io,
                format!("{} is there, and is no directory", self.at(relative).display()),
            )
            .next("move it away; symbolic links are not followed"),
            e => disk::fail(Scope::Folder, "make", &self.at(relative), e),
        }
    }

    pub(super) fn failed(&self, relative: &Path, e: Errno) -> Error {
        disk::fail(Scope::Folder, "read", &self.at(relative), e)
    }
}

/// Opens a directory that may be a symlink: the root, which the user named.
fn open_followed(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    disk::retry(|| rustix::fs::openat(CWD, path, flags, Mode::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn name(s: &str) -> FolderName {
        FolderName::from_text(s).unwrap()
    }

    fn maildir(layout: Layout) -> (tempfile::TempDir, Maildir) {
        let t = tempfile::tempdir().unwrap();
        let m = Maildir::open(t.path(), layout).unwrap();
        (t, m)
    }

    fn texts(m: &Maildir) -> Vec<String> {
        m.folders().unwrap().iter().map(FolderName::to_text).collect()
    }

    const BOTH: [Layout; 2] = [Layout::Nested, Layout::PlusPlus];

    #[test]
    fn folders_are_listed_as_they_were_made() {
        for layout in BOTH {
            let (_t, m) = maildir(layout);
            assert_eq!(m.folders().unwrap(), []);
            let mut want: Vec<FolderName> = [
                "INBOX", "a", "a/b", "a/b/c", "x/y", "cur", "new/tmp", ".git", "..", "mailkeep",
                "é", "e\u{301}", "A", "50%25",
            ]
            .map(name)
            .to_vec();
            want.push(FolderName::from_components(["x", ""]).unwrap());
            want.push(FolderName::from_components(["a/b", "c"]).unwrap());
            for n in &want {
                m.create_folder(n).unwrap();
                m.create_folder(n).unwrap();
            }
            want.sort();
            assert_eq!(m.folders().unwrap(), want, "{layout:?}");
            for n in &want {
                for sub in SUBDIRS {
                    let mode = fs::metadata(m.dir(n).join(sub)).unwrap().permissions().mode();
                    assert_eq!(mode & 0o7777, 0o700);
                }
            }
        }
    }

    #[test]
    fn a_long_name_is_made_or_refused_before_anything_is_made() {
        let long = FolderName::from_components(["x".repeat(300), "cur".into()]).unwrap();
        let (_t, m) = maildir(Layout::Nested);
        m.create_folder(&long).unwrap();
        assert_eq!(m.folders().unwrap(), std::slice::from_ref(&long));
        m.remove_folder(&long).unwrap();
        assert_eq!(fs::read_dir(m.root()).unwrap().count(), 0);
        let (_t, m) = maildir(Layout::PlusPlus);
        let e = m.create_folder(&long).unwrap_err();
        assert_eq!(e.scope, Scope::Folder);
        assert!(e.next.contains("nested"));
        let (_t, m) = maildir(Layout::Nested);
        let deep = FolderName::from_components(["x".repeat(4000)]).unwrap();
        assert_eq!(m.create_folder(&deep).unwrap_err().scope, Scope::Folder);
        assert_eq!(fs::read_dir(m.root()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_put_elsewhere_is_not_gone() {
        for layout in BOTH {
            let outside = tempfile::tempdir().unwrap();
            let (_t, m) = maildir(layout);
            let n = name("a/b");
            assert!(m.is_gone(&n).unwrap());
            m.create_folder(&n).unwrap();
            assert!(!m.is_gone(&n).unwrap());
            fs::rename(m.dir(&n), outside.path().join("b")).unwrap();
            assert!(m.is_gone(&n).unwrap());
            symlink(outside.path().join("b"), m.dir(&n)).unwrap();
            assert_eq!(m.folders().unwrap(), []);
            assert_eq!(m.is_gone(&n).unwrap_err().scope, Scope::Folder);
        }
    }

    #[test]
    fn a_root_is_made_with_its_parents() {
        let t = tempfile::tempdir().unwrap();
        let root = t.path().join("x/y/z");
        Maildir::create_root(&root).unwrap();
        Maildir::create_root(&root).unwrap();
        let mode = fs::metadata(t.path().join("x")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        assert!(Maildir::open(&root, Layout::Nested).is_ok());
        fs::write(t.path().join("file"), "").unwrap();
        assert!(Maildir::create_root(&t.path().join("file/x")).is_err());
    }

    #[test]
    fn nothing_is_made_through_a_symlink() {
        let outside = tempfile::tempdir().unwrap();
        let (t, m) = maildir(Layout::Nested);
        symlink(outside.path(), t.path().join("a")).unwrap();
        assert_eq!(m.create_folder(&name("a/b")).unwrap_err().scope, Scope::Folder);
        assert_eq!(m.create_folder(&name("a")).unwrap_err().scope, Scope::Folder);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_an_empty_folder_is_removed() {
        for layout in BOTH {
            let (_t, m) = maildir(layout);
            let (a, b) = (name("a"), name("a/b"));
            for n in [&a, &b] {
                m.create_folder(n).unwrap();
            }
            for at in ["cur/1:2,S", "new/1", "tmp/other", "cur/.hidden"] {
                fs::write(m.dir(&b).join(at), "mail").unwrap();
                let message = ["cur/1:2,S", "new/1"].contains(&at);
                let kind = if message { Kind::Raced } else { Kind::Maildir };
                let before = fs::metadata(m.dir(&b)).unwrap().ctime_nsec();
                assert_eq!(m.remove_folder(&b).unwrap_err().kind, kind, "{at}");
                let after = fs::metadata(m.dir(&b)).unwrap().ctime_nsec();
                assert!(message || before == after, "{at}: nothing was touched");
                assert_eq!(fs::read(m.dir(&b).join(at)).unwrap(), b"mail");
                assert_eq!(m.folders().unwrap(), [a.clone(), b.clone()]);
                fs::remove_file(m.dir(&b).join(at)).unwrap();
            }
            fs::write(m.dir(&b).join("tmp/1.x.mailkeep"), "ours").unwrap();
            fs::write(m.dir(&b).join(keywords::FILE), "").unwrap();
            m.remove_folder(&b).unwrap();
            assert!(!m.dir(&b).exists());
            assert_eq!(m.folders().unwrap(), std::slice::from_ref(&a));
            m.remove_folder(&b).unwrap();
            assert_eq!(m.remove_folder(&FolderName::inbox()).unwrap_err().kind, Kind::Internal);
        }
    }

    #[test]
    fn files_of_others_and_folders_below_stay() {
        let (t, m) = maildir(Layout::Nested);
        for n in ["a", "a/b", "c"] {
            m.create_folder(&name(n)).unwrap();
        }
        fs::write(t.path().join("c/.uidvalidity"), "").unwrap();
        m.remove_folder(&name("a")).unwrap();
        m.remove_folder(&name("c")).unwrap();
        assert!(t.path().join("c/.uidvalidity").exists());
        assert_eq!(texts(&m), ["a/b"]);
        m.remove_folder(&name("a/b")).unwrap();
        assert!(!t.path().join("a").exists());
    }

    #[test]
    fn only_our_own_leftovers_are_cleared() {
        let (_t, m) = maildir(Layout::Nested);
        m.create_folder(&name("a")).unwrap();
        let tmp = m.dir(&name("a")).join("tmp");
        for f in ["1.R0_1.mailkeep", "dovecot-keywords.mailkeep", "1.M1P2.host"] {
            fs::write(tmp.join(f), "").unwrap();
        }
        m.clear_tmp(&name("a")).unwrap();
        let left: Vec<_> = fs::read_dir(&tmp).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["1.M1P2.host"]);
        m.clear_tmp(&name("none")).unwrap();
    }
}
