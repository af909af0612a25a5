//! Looking at the Maildir beside the login and the listing: the disk need not wait for the network.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::JoinHandle;

use super::super::pass::FolderState;
use super::local::{Differs, remembered};
use crate::ledger::Ledger;
use crate::maildir::{self, Scan};
use crate::model::FolderId;

/// Scans under way, and what they found.
pub struct Prescan {
    thread: Option<JoinHandle<BTreeMap<FolderId, Looked>>>,
    found: BTreeMap<FolderId, Looked>,
}

/// What a folder's scan found.
pub(super) struct Looked {
    pub scan: Scan,
    /// What came of holding it against the rows, if that was needed. Until a pass acts, it changes
    /// no row's place, so this still holds when it is taken.
    pub differs: Option<Differs>,
}

impl Prescan {
    /// Begins to read the folders that changed since the ledger's last word on them.
    pub fn start(folders: &BTreeMap<FolderId, FolderState>, now: i64, ledger: PathBuf) -> Self {
        let wanted: Vec<_> = folders
            .iter()
            .filter(|(_, f)| f.rec.on_disk)
            .map(|(id, f)| (*id, f.remembered.clone(), f.rec.last_full_scan, f.dir.clone()))
            .collect();
        let thread = std::thread::spawn(move || {
            let mut found = BTreeMap::new();
            let mut reader = None;
            for (id, known, last_full_scan, dir) in wanted {
                // what fails here is looked at again where the failure belongs
                if !matches!(remembered(&known, last_full_scan, &dir, now), Ok(None)) {
                    continue;
                }
                let Ok(mut scan) = maildir::scan(&dir) else { continue };
                let mut differs = None;
                if known.1 != Some(scan.digest.0) && !scan.names.is_empty() {
                    reader = reader.or_else(|| Ledger::open_readonly(&ledger).ok().flatten());
                    let names = std::mem::take(&mut scan.names);
                    differs = reader.as_ref().and_then(|l| Differs::of(l, id, names).ok());
                    if differs.is_none() {
                        continue;
                    }
                }
                found.insert(id, Looked { scan, differs });
            }
            found
        });
        Self { thread: Some(thread), found: BTreeMap::new() }
    }

    /// The scan of a folder, once.
    pub(super) fn take(&mut self, id: FolderId) -> Option<Looked> {
        if let Some(thread) = self.thread.take() {
            self.found = thread.join().unwrap_or_default();
        }
        self.found.remove(&id)
    }
}
