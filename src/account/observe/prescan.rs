//! Looking at the Maildir beside the login and the listing: the disk need not wait for the network.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::super::clock::unix_time;
use super::super::pass::FolderState;
use super::files::is_settled;
use super::local::{Differs, remembered};
use crate::ledger::{Ledger, View};
use crate::maildir::{self, FileIdentity, Scan, Stamp, place_path};
use crate::model::{FolderId, Place};

/// A look under way, and what it found.
pub struct Prescan {
    thread: Option<JoinHandle<Found>>,
    enough: Arc<AtomicBool>,
    found: Found,
}

/// What a folder's scan found.
pub(super) struct Looked {
    pub scan: Scan,
    /// What came of holding it against the rows, if that was needed. Until a pass acts, it changes
    /// no row's place, so this still holds when it is taken.
    pub differs: Option<Differs>,
}

#[derive(Default)]
struct Found {
    folders: BTreeMap<FolderId, Looked>,
    files: BTreeMap<(FolderId, Place), Beside>,
}

/// A file as it was read beside the login.
pub(super) struct Beside {
    stamp: Stamp,
    read: FileIdentity,
}

impl Beside {
    /// What it was, if nobody can have written into it since.
    pub(super) fn still(self, path: &Path) -> Option<FileIdentity> {
        let same = Stamp::of(path).is_ok_and(|now| now == self.stamp);
        same.then_some(self.read)
    }
}

/// A folder to look at.
struct Wanted {
    id: FolderId,
    dir: PathBuf,
    remembered: (Option<Vec<u8>>, Option<u128>),
    last_full_scan: i64,
}

impl Prescan {
    /// Begins to scan the folders that changed since the ledger's last word on them, and then to
    /// read the files that no row has.
    pub fn start(folders: &BTreeMap<FolderId, FolderState>, now: i64, ledger: PathBuf) -> Self {
        let wanted: Vec<_> = folders
            .iter()
            .filter(|(_, f)| f.rec.on_disk)
            .map(|(id, f)| Wanted {
                id: *id,
                dir: f.dir.clone(),
                remembered: f.remembered.clone(),
                last_full_scan: f.rec.last_full_scan,
            })
            .collect();
        let enough = Arc::new(AtomicBool::new(false));
        let told = enough.clone();
        let thread = std::thread::spawn(move || {
            // what fails here is looked at again where the failure belongs
            let ledger = LazyCell::new(|| Ledger::open_readonly(&ledger).ok().flatten());
            let folders = scan(&wanted, now, || ledger.as_deref());
            let files = read(&wanted, &folders, now, || ledger.as_deref(), &told);
            Found { folders, files }
        });
        Self { thread: Some(thread), enough, found: Found::default() }
    }

    /// The scan of a folder, once. Nothing more is read after the first call: whoever waits now can
    /// read for himself, and tell of it.
    pub(super) fn take(&mut self, id: FolderId) -> Option<Looked> {
        if let Some(thread) = self.thread.take() {
            self.enough.store(true, Ordering::Relaxed);
            self.found = thread.join().unwrap_or_default();
        }
        self.found.folders.remove(&id)
    }

    /// What came of reading a file, once.
    pub(super) fn take_file(&mut self, id: FolderId, place: &Place) -> Option<Beside> {
        self.found.files.remove(&(id, place.clone()))
    }
}

impl Drop for Prescan {
    /// Where the login failed, nobody wants it any more.
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}

fn scan<'a>(
    wanted: &[Wanted],
    now: i64,
    ledger: impl Fn() -> Option<&'a View>,
) -> BTreeMap<FolderId, Looked> {
    let mut found = BTreeMap::new();
    for w in wanted {
        if !matches!(remembered(&w.remembered, w.last_full_scan, &w.dir, now), Ok(None)) {
            continue;
        }
        let Ok(mut scan) = maildir::scan(&w.dir) else { continue };
        let mut differs = None;
        if w.remembered.1 != Some(scan.digest.0) && !scan.names.is_empty() {
            let names = std::mem::take(&mut scan.names);
            differs = ledger().and_then(|l| Differs::of(l, w.id, names).ok());
            if differs.is_none() {
                continue;
            }
        }
        found.insert(w.id, Looked { scan, differs });
    }
    found
}

/// Reads the files that no row has, and that no earlier pass has read, until it is `enough`. Those
/// that somebody may still be writing are left.
fn read<'a>(
    wanted: &[Wanted],
    folders: &BTreeMap<FolderId, Looked>,
    now: i64,
    ledger: impl Fn() -> Option<&'a View>,
    enough: &AtomicBool,
) -> BTreeMap<(FolderId, Place), Beside> {
    let mut found = BTreeMap::new();
    let mut known = None;
    for w in wanted {
        let differs = folders.get(&w.id).and_then(|f| f.differs.as_ref());
        for place in differs.iter().flat_map(|d| &d.extra) {
            let known = known.get_or_insert_with(|| ledger().and_then(|l| l.unmatched().ok()));
            let Some(known) = known.as_ref().filter(|_| !enough.load(Ordering::Relaxed)) else {
                return found;
            };
            let path = place_path(&w.dir, place);
            let settled = maildir::stat(&path).is_ok_and(|s| is_settled(&s, now));
            let begun = unix_time();
            let Ok(stamp) = Stamp::of(&path) else { continue };
            // what is written into it after this must show, else it is not worth reading
            let shows = stamp.shows_what_follows(begun);
            if !settled || !shows || known.contains_key(&stamp.to_bytes()) {
                continue;
            }
            tracing::debug!("reading {}", path.display());
            if let Ok(read) = maildir::identify(&path) {
                found.insert((w.id, place.clone()), Beside { stamp, read });
            }
        }
    }
    found
}
