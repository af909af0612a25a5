//! The watched directories, and what the system tells of them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::{Errno, Result as Sys};

use super::Why;
use super::complete::{Complete, State};
use super::pending::News;
use crate::maildir::disk;
use crate::maildir::keywords;
use crate::maildir::layout::Layout;
use crate::maildir::ours::{Act, Expected};
use crate::model::{FileName, FolderName, Place, Subdir};

/// Of directories that folders can be in: what comes and goes. Never through a symlink.
const ABOVE: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW);

/// Of `cur` and `new`: the same, and when a file is written to and closed.
const MESSAGES: WatchFlags = ABOVE.union(WatchFlags::CLOSE_WRITE).union(WatchFlags::MODIFY);

/// Of the root, which may be a symlink: the same as above it, and whether it stays.
const ROOT: WatchFlags = ABOVE
    .difference(WatchFlags::DONT_FOLLOW)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// A name comes.
const COMES: ReadFlags = ReadFlags::CREATE.union(ReadFlags::MOVED_TO);
/// A name goes.
const GOES: ReadFlags = ReadFlags::DELETE.union(ReadFlags::MOVED_FROM);

/// The watches.
pub(super) struct Tree {
    fd: OwnedFd,
    root: PathBuf,
    layout: Layout,
    dirs: BTreeMap<i32, Dir>,
    root_watch: i32,
    expected: Arc<Expected>,
    complete: Complete,
    /// Files that are renamed, by cookie, until their new name comes.
    moving: BTreeMap<u32, State>,
    /// Why something is not watched.
    missing: Option<Errno>,
    /// The root went away.
    gone: bool,
    /// Events were lost: which watches stand is not known.
    stale: bool,
}

/// A watched directory.
#[derive(Debug, Clone)]
enum Dir {
    /// The root, or one that folders may be in, below it.
    Above(PathBuf),
    /// `cur` or `new` of a folder.
    Messages(FolderName, Subdir, PathBuf),
}

impl Dir {
    fn relative(&self) -> &Path {
        match self {
            Self::Above(relative) | Self::Messages(_, _, relative) => relative,
        }
    }
}

/// An event, out of the buffer.
struct Event {
    watch: i32,
    what: ReadFlags,
    cookie: u32,
    name: Vec<u8>,
}

impl Tree {
    /// Watches everything there is.
    pub fn new(
        root: &Path,
        layout: Layout,
        expected: Arc<Expected>,
        complete: Complete,
    ) -> Sys<Self> {
        let mut tree = Self {
            fd: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            root: root.to_owned(),
            layout,
            dirs: BTreeMap::new(),
            root_watch: 0,
            expected,
            complete,
            moving: BTreeMap::new(),
            missing: None,
            gone: false,
            stale: false,
        };
        tree.root_watch = inotify::add_watch(&tree.fd, &tree.root, ROOT)?;
        tree.adopt(PathBuf::new());
        Ok(tree)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Why some of it is not watched.
    pub fn missing(&self) -> Option<Errno> {
        self.missing
    }

    /// The root went away, and nothing is watched.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// It has to be made anew.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// It cannot be watched now.
    pub fn give_up(&mut self) {
        self.gone = true;
        self.stale = false;
        self.dirs.clear();
    }

    /// Tries again what could not be watched.
    pub fn complete_again(&mut self) {
        self.missing = None;
        self.adopt(PathBuf::new());
    }

    /// Reads all events there are.
    pub fn read(&mut self, news: &mut News) -> Sys<()> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 16 * 1024];
        loop {
            let mut events = Vec::new();
            let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
            // one buffer's worth, then what it means
            let end = loop {
                match reader.next() {
                    Ok(e) => events.push(Event {
                        watch: e.wd(),
                        what: e.events(),
                        cookie: e.cookie(),
                        name: e.file_name().map(|n| n.to_bytes().to_vec()).unwrap_or_default(),
                    }),
                    Err(Errno::INTR) => {}
                    Err(Errno::WOULDBLOCK) => break Ok(true),
                    Err(e) => break Err(e),
                }
                if reader.is_buffer_empty() {
                    break Ok(false);
                }
            };
            for e in events {
                self.apply(&e, news);
            }
            if end? {
                // a new name that did not come by now went elsewhere
                self.moving.clear();
                return Ok(());
            }
        }
    }

    fn apply(&mut self, e: &Event, news: &mut News) {
        if e.what.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.stale = true;
            news.everything(Why::Overflow);
            return;
        }
        // of a watch that we took away
        let Some(dir) = self.dirs.get(&e.watch).cloned() else { return };
        let lost = ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF;
        if e.what.contains(ReadFlags::UNMOUNT) {
            self.stale = true;
            news.everything(Why::Lost);
        } else if e.what.intersects(lost) {
            let is_root = e.watch == self.root_watch;
            self.stale |= is_root;
            self.dirs.remove(&e.watch);
            news.everything(if is_root { Why::Lost } else { Why::Folders });
        } else {
            match dir {
                Dir::Above(relative) if e.what.contains(ReadFlags::ISDIR) => {
                    self.directory(e, &relative, news);
                }
                Dir::Above(relative) => self.keywords(e, &relative, news),
                Dir::Messages(..) if e.what.contains(ReadFlags::ISDIR) => {}
                Dir::Messages(folder, sub, relative) => self.file(e, folder, sub, &relative, news),
            }
        }
    }

    /// A directory came or went.
    fn directory(&mut self, e: &Event, above: &Path, news: &mut News) {
        let child = above.join(OsStr::from_bytes(&e.name));
        if self.kind(&child).is_none() {
            return;
        }
        if e.what.intersects(GOES) {
            self.release(&child);
        }
        if e.what.intersects(COMES) {
            self.adopt(child);
        }
        news.everything(Why::Folders);
    }

    /// Another program may change what the letters mean.
    fn keywords(&mut self, e: &Event, relative: &Path, news: &mut News) {
        if e.name != keywords::FILE.as_bytes() {
            return;
        }
        let path = self.root.join(relative).join(keywords::FILE);
        if e.what.intersects(COMES | GOES)
            && !self.is_ours(e, &path)
            && let Some(folder) = self.layout.name_of(relative)
        {
            news.folders.insert(folder);
        }
    }

    fn file(
        &mut self,
        e: &Event,
        folder: FolderName,
        sub: Subdir,
        relative: &Path,
        news: &mut News,
    ) {
        let name = OsStr::from_bytes(&e.name);
        // other files are no messages
        let Some(file) = FileName::parse(name) else { return };
        let place = Place { sub, file };
        if self.is_ours(e, &self.root.join(relative).join(name)) {
            self.complete.forget(&folder, &place);
            return;
        }
        if e.what.contains(ReadFlags::MOVED_FROM) {
            if let Some(state) = self.complete.forget(&folder, &place) {
                self.moving.insert(e.cookie, state);
            }
        } else if e.what.contains(ReadFlags::DELETE) {
            self.complete.forget(&folder, &place);
        } else if e.what.contains(ReadFlags::CLOSE_WRITE) {
            // else nothing was written to it since it has this name; we close after renaming, too
            if !self.complete.is_open(&folder, &place) {
                return;
            }
            self.complete.set(&folder, place, State::Whole);
        } else {
            let state = if e.what.contains(ReadFlags::MOVED_TO) {
                // renamed while somebody writes to it, it is no more whole than before
                self.moving.remove(&e.cookie).unwrap_or(State::Whole)
            } else {
                State::Open
            };
            self.complete.set(&folder, place, state);
        }
        // while it is written to there is nothing to do: its end comes
        if e.what != ReadFlags::MODIFY {
            news.folders.insert(folder);
        }
    }

    fn is_ours(&self, e: &Event, path: &Path) -> bool {
        let act = if e.what.intersects(COMES) {
            Act::Arrives
        } else if e.what.intersects(GOES) {
            Act::Leaves
        } else {
            return false;
        };
        self.expected.take(path, act)
    }

    /// What a directory is to us; nothing for those that have nothing to do with mail.
    fn kind(&self, relative: &Path) -> Option<Dir> {
        let last = relative.file_name().unwrap_or_default();
        let sub = [Subdir::Cur, Subdir::New].into_iter().find(|s| last == s.as_str());
        if let (Some(sub), Some(above)) = (sub, relative.parent())
            && let Some(folder) = self.layout.name_of(above)
        {
            return Some(Dir::Messages(folder, sub, relative.to_owned()));
        }
        let above = relative.as_os_str().is_empty()
            || self.layout.name_of(relative).is_some()
            || self.layout.may_hold_folders(relative);
        above.then(|| Dir::Above(relative.to_owned()))
    }

    /// Watches a directory and all that matters below it. First the watch, then the reading: what
    /// comes in between is seen twice rather than not at all.
    fn adopt(&mut self, relative: PathBuf) {
        let mut todo = vec![relative];
        while let Some(relative) = todo.pop() {
            let Some(kind) = self.kind(&relative) else { continue };
            let path = self.root.join(&relative);
            let flags = match &kind {
                Dir::Above(r) if r.as_os_str().is_empty() => ROOT,
                Dir::Above(_) => ABOVE,
                Dir::Messages(..) => MESSAGES,
            };
            match inotify::add_watch(&self.fd, &path, flags) {
                // one that is watched already keeps its number, and gets its present name
                Ok(watch) => {
                    self.dirs.insert(watch, kind.clone());
                }
                // it went away, or is a symlink
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(e) => {
                    self.missing.get_or_insert(e);
                    continue;
                }
            }
            if matches!(kind, Dir::Messages(..)) {
                continue;
            }
            let read = self.open(&relative).and_then(|fd| {
                disk::for_each_entry(fd, |name, kind| {
                    if kind == FileType::Directory {
                        todo.push(relative.join(OsStr::from_bytes(name)));
                    }
                })
            });
            match read {
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => {
                    self.missing.get_or_insert(e);
                }
            }
        }
    }

    fn open(&self, relative: &Path) -> Sys<OwnedFd> {
        if relative.as_os_str().is_empty() {
            // the root may be a symlink
            return disk::open_dir(&self.root.join("."));
        }
        disk::open_dir(&self.root.join(relative))
    }

    /// Watches neither this directory nor what is below it any more.
    fn release(&mut self, relative: &Path) {
        let Self { fd, dirs, .. } = self;
        dirs.retain(|watch, dir| {
            let below = dir.relative().starts_with(relative);
            if below {
                // a directory that is gone has no watch any more
                let _ = inotify::remove_watch(&*fd, *watch);
            }
            !below
        });
    }
}
