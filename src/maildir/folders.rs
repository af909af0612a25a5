//! Which folders are below a maildir root: a complete listing, or an error. A folder that was not
//! seen would read as one whose messages were all deleted.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::disk;
use super::layout::Layout;
use super::tree::{Maildir, SUBDIRS};
use crate::model::FolderName;
use crate::{Error, Kind, Result, Scope};

/// What is below a root.
#[derive(Debug, Default)]
pub struct Listing {
    /// All folders, sorted.
    pub folders: Vec<FolderName>,
    /// Directories that are no folder's by their name though they look like one, relative to the
    /// root: what each is, and what can be done about it.
    pub left_alone: BTreeMap<PathBuf, String>,
}

impl Maildir {
    /// All folders, sorted, as in [`Maildir::listing`]. What is left alone is logged.
    pub fn folders(&self) -> Result<Vec<FolderName>> {
        let listing = self.listing()?;
        for what in listing.left_alone.values() {
            tracing::warn!("{what}");
        }
        Ok(listing.folders)
    }

    /// What there is. The listing is complete or it is an error. A folder is a directory with
    /// `cur` and `new`; where only one of them or no `tmp` is left (some backups leave empty
    /// directories out), what is missing is made.
    pub fn listing(&self) -> Result<Listing> {
        let root = self.open_root()?;
        let dev = rustix::fs::fstat(&root).map_err(|e| self.failed(Path::new(""), e))?.st_dev;
        let mut found = Listing::default();
        match self.layout() {
            Layout::Nested => self.list_nested(root, dev, &mut found)?,
            Layout::PlusPlus => self.list_plus_plus(&root, dev, &mut found)?,
        }
        found.folders.sort_unstable();
        Ok(found)
    }

    fn list_nested(&self, root: OwnedFd, dev: u64, found: &mut Listing) -> Result<()> {
        let top = self.subdirectories(&root, Path::new(""))?;
        self.tell_hidden(&top, found)?;
        let mut todo = top.below;
        while let Some(relative) = todo.pop() {
            let Some(fd) = self.descend(&relative, dev)? else { continue };
            let inside = self.subdirectories(&fd, &relative)?;
            let holds = self.layout().may_hold_folders(&relative);
            if inside.is_folder() {
                match self.layout().name_of(&relative) {
                    Some(name) => {
                        self.complete(&fd, &relative, dev, &inside)?;
                        found.folders.push(name);
                    }
                    None => self.leave_alone(&relative, found)?,
                }
            }
            self.tell_hidden(&inside, found)?;
            if holds {
                todo.extend(inside.below);
            } else if !inside.is_folder() && !inside.below.is_empty() {
                self.leave_alone(&relative, found)?;
            }
        }
        Ok(())
    }

    fn list_plus_plus(&self, root: &OwnedFd, dev: u64, found: &mut Listing) -> Result<()> {
        let inside = self.subdirectories(root, Path::new(""))?;
        if inside.is_folder() {
            self.complete(root, Path::new(""), dev, &inside)?;
            found.folders.push(FolderName::inbox());
        }
        for relative in inside.below {
            let Some(fd) = self.descend(&relative, dev)? else { continue };
            let inside = self.subdirectories(&fd, &relative)?;
            if !inside.is_folder() {
                continue;
            }
            match self.layout().name_of(&relative) {
                Some(name) => {
                    self.complete(&fd, &relative, dev, &inside)?;
                    found.folders.push(name);
                }
                None => self.leave_alone(&relative, found)?,
            }
        }
        Ok(())
    }

    /// Opens a directory below the root; `None` if it went away, or was replaced by something else,
    /// since it was read.
    fn descend(&self, relative: &Path, dev: u64) -> Result<Option<OwnedFd>> {
        let fd = match disk::open_dir(&self.at(relative)) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            // fsck's, at the root of a filesystem: only root may look into it.
            Err(Errno::ACCESS) if relative == Path::new("lost+found") => return Ok(None),
            Err(e) => return Err(self.failed(relative, e).widen(Scope::Account)),
        };
        let here = rustix::fs::fstat(&fd).map_err(|e| self.failed(relative, e))?.st_dev;
        if here != dev {
            return Err(self.elsewhere(relative));
        }
        Ok(Some(fd))
    }

    fn subdirectories(&self, fd: &OwnedFd, relative: &Path) -> Result<Inside> {
        let mut inside = Inside::default();
        let dotted = self.layout() == Layout::PlusPlus;
        disk::for_each_entry(fd, |entry, kind| {
            let name = OsStr::from_bytes(entry);
            if kind == FileType::Symlink && (entry.first() == Some(&b'.')) == dotted {
                tracing::debug!(path = %self.at(relative).join(name).display(),
                    "a symbolic link is not followed");
            }
            if kind != FileType::Directory {
                return;
            }
            match SUBDIRS.iter().position(|s| s.as_bytes() == entry) {
                Some(i) => inside.subdirs.extend(SUBDIRS.get(i)),
                None if (entry.first() == Some(&b'.')) == dotted => {
                    inside.below.push(relative.join(name));
                }
                // Other programs keep their own there: .git, .notmuch.
                None if !dotted => inside.hidden.push(relative.join(name)),
                None => {}
            }
        })
        .map_err(|e| self.failed(relative, e).widen(Scope::Account))?;
        Ok(inside)
    }

    /// Makes what is missing of a folder, and sees to it that no part is on another device.
    fn complete(&self, fd: &OwnedFd, relative: &Path, dev: u64, inside: &Inside) -> Result<()> {
        for sub in SUBDIRS {
            let path = relative.join(sub);
            if !inside.subdirs.contains(&sub) {
                if !self.may_complete() {
                    continue;
                }
                tracing::warn!("{} was missing, and is made", self.at(&path).display());
                disk::ensure_dir(fd, Path::new(sub))
                    .map_err(|e| self.in_the_way(&path, e).widen(Scope::Account))?;
            }
            let st = rustix::fs::statat(fd, sub, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| self.failed(&path, e).widen(Scope::Account))?;
            if st.st_dev != dev {
                return Err(self.elsewhere(&path));
            }
        }
        Ok(())
    }

    /// What hides below: a Maildir is more than a program's own directory.
    fn tell_hidden(&self, inside: &Inside, found: &mut Listing) -> Result<()> {
        for relative in &inside.hidden {
            if self.has_dir(&relative.join("cur"))? && self.has_dir(&relative.join("new"))? {
                self.leave_alone(relative, found)?;
            }
        }
        Ok(())
    }

    fn leave_alone(&self, relative: &Path, found: &mut Listing) -> Result<()> {
        let path = self.at(relative);
        let into = "move its messages into";
        let ours = self.layout().literally(relative).map(|n| self.layout().relative_dir(&n));
        let next = match ours {
            Some(ours) if self.has_dir(&ours)? => format!("{into} {}", self.at(&ours).display()),
            Some(ours) => {
                format!("rename it to {}, or {into} another folder", self.at(&ours).display())
            }
            None => format!("rename it, or {into} another folder"),
        };
        let what =
            format!("{} is left alone, since its name is no folder's ({next})", path.display());
        found.left_alone.insert(relative.to_owned(), what);
        Ok(())
    }

    fn elsewhere(&self, relative: &Path) -> Error {
        let (path, root) = (self.at(relative), self.root().display());
        Error::account(
            Kind::Maildir,
            format!("{} is on another filesystem than {root}", path.display()),
        )
        .next("keep the whole maildir on one filesystem; unmount what is mounted below it")
    }
}

/// The directories inside one.
#[derive(Default)]
struct Inside {
    /// Of [`SUBDIRS`], those that are there.
    subdirs: Vec<&'static str>,
    /// The others in which folders may be, relative to the root.
    below: Vec<PathBuf>,
    /// Those of a nested layout in which none may be, since their names begin with a dot.
    hidden: Vec<PathBuf>,
}

impl Inside {
    fn is_folder(&self) -> bool {
        self.subdirs.iter().any(|s| *s != "tmp")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

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

    #[test]
    fn other_programs_directories_are_no_folders() {
        let (t, m) = maildir(Layout::Nested);
        m.create_folder(&name("a")).unwrap();
        for d in [
            ".git/cur",
            ".git/new",
            ".notmuch/xapian",
            "plain/sub",
            "50% off/cur",
            "50% off/new",
            "inbox/cur",
            "inbox/new",
            "a/cur/deep/cur",
            "a/cur/deep/new",
            ".hid/cur",
            ".hid/new",
        ] {
            fs::create_dir_all(t.path().join(d)).unwrap();
        }
        fs::write(t.path().join(".mbsyncstate"), "").unwrap();
        symlink(t.path().join("a"), t.path().join("link")).unwrap();
        fs::create_dir_all(t.path().join(OsStr::from_bytes(b"\xff/cur"))).unwrap();
        assert_eq!(texts(&m), ["a"]);
        let left = m.listing().unwrap().left_alone;
        let is = |dir: &str, next: &str| {
            let dir = t.path().join(dir).display().to_string();
            left.values().any(|l| l.starts_with(&dir) && l.contains(next))
        };
        let to = |dir: &str| format!("(rename it to {},", t.path().join(dir).display());
        assert!(is("50% off", &to("50%25 off")) && is("inbox", &to("INBOX")), "{left:?}");
        assert!(is("\u{fffd}", "(rename it,"), "{left:?}");
        assert!(is(".hid", &to("%2Ehid")), "{left:?}");
        assert_eq!(left.len(), 5, "{left:?}");
        let (t, m) = maildir(Layout::PlusPlus);
        for d in [
            ".git/objects",
            "a/cur",
            "a/new",
            ".a..b/cur",
            ".a..b/new",
            ".INBOX/cur",
            ".Inbox.sub/cur",
        ] {
            fs::create_dir_all(t.path().join(d)).unwrap();
        }
        m.create_folder(&name("b/c")).unwrap();
        // as some server may call it
        m.create_folder(&name("Inbox/other")).unwrap();
        assert_eq!(texts(&m), ["Inbox/other", "b/c"]);
        let left = m.listing().unwrap().left_alone;
        let to = format!("rename it to {},", t.path().join(".INBOX.sub").display());
        assert!(left.values().any(|l| l.contains(&to)), "{left:?}");
        let (_t, m) = maildir(Layout::Nested);
        m.create_folder(&name("Inbox/other")).unwrap();
        assert_eq!(texts(&m), ["Inbox/other"]);
    }

    #[test]
    fn what_a_backup_left_out_is_made() {
        for layout in [Layout::Nested, Layout::PlusPlus] {
            let (_t, m) = maildir(layout);
            for (folder, left_out) in [("a", "tmp"), ("b", "new"), ("c", "cur"), ("INBOX", "tmp")] {
                m.create_folder(&name(folder)).unwrap();
                fs::remove_dir(m.dir(&name(folder)).join(left_out)).unwrap();
            }
            assert_eq!(texts(&m), ["INBOX", "a", "b", "c"]);
            for folder in ["INBOX", "a", "b", "c"] {
                for sub in SUBDIRS {
                    assert!(m.dir(&name(folder)).join(sub).is_dir());
                }
            }
        }
    }

    #[test]
    fn an_error_is_never_an_absence() {
        let t = tempfile::tempdir().unwrap();
        let gone = t.path().join("gone");
        let e = Maildir::open(&gone, Layout::Nested).unwrap_err();
        assert_eq!((e.kind, e.scope), (Kind::Maildir, Scope::Account));
        fs::write(&gone, "").unwrap();
        assert_eq!(Maildir::open(&gone, Layout::Nested).unwrap_err().kind, Kind::Maildir);
        let (t, m) = maildir(Layout::Nested);
        m.create_folder(&name("a/b")).unwrap();
        drop(t);
        assert_eq!(m.folders().unwrap_err().kind, Kind::Maildir);
    }

    #[test]
    fn another_filesystem_is_an_error() {
        let (t, m) = maildir(Layout::Nested);
        m.create_folder(&name("a")).unwrap();
        // The root's device number is what is compared with: another one stands for a mount.
        let here = rustix::fs::stat(t.path()).unwrap().st_dev;
        let fd = disk::open_dir(&m.dir(&name("a"))).unwrap();
        let inside = m.subdirectories(&fd, Path::new("a")).unwrap();
        m.complete(&fd, Path::new("a"), here, &inside).unwrap();
        assert!(m.descend(Path::new("a"), here).unwrap().is_some());
        for e in [
            m.complete(&fd, Path::new("a"), here + 1, &inside).unwrap_err(),
            m.descend(Path::new("a"), here + 1).unwrap_err(),
        ] {
            assert_eq!((e.kind, e.scope), (Kind::Maildir, Scope::Account));
        }
    }
}
