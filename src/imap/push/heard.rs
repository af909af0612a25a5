//! What all connections heard since somebody asked last, united: as much memory as there are
//! folders, however much is said.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::super::names::decode;
use super::{Hint, Said, Watched};
use crate::error::{Error, Result};
use crate::model::FolderName;

/// Shared by the connections and the one who asks.
pub(super) struct Heard {
    state: Mutex<State>,
    news: Notify,
}

struct State {
    /// Spelling to name; none for folders that are not mirrored.
    names: BTreeMap<Vec<u8>, Option<FolderName>>,
    folders: BTreeMap<FolderName, Said>,
    everything: bool,
    failed: Option<Error>,
}

impl Heard {
    /// With everything to be looked at.
    pub fn new(folders: &[Watched]) -> Self {
        let state = State {
            names: names(folders),
            folders: BTreeMap::new(),
            everything: true,
            failed: None,
        };
        Self { state: Mutex::new(state), news: Notify::new() }
    }

    pub fn set_folders(&self, folders: &[Watched]) {
        self.state().names = names(folders);
    }

    /// Something changed in the folder that is spelled so.
    pub fn spelled(&self, wire: &[u8], said: Said) {
        let wire = if wire.eq_ignore_ascii_case(b"INBOX") { b"INBOX" } else { wire };
        let mut state = self.state();
        match state.names.get(wire).cloned() {
            Some(Some(name)) => state.folders.entry(name).or_default().and(said),
            // not mirrored
            Some(None) => return,
            // a folder that was not there
            None => state.everything = true,
        }
        self.news.notify_one();
    }

    /// Something changed in this folder.
    pub fn folder(&self, name: &FolderName, said: Said) {
        self.state().folders.entry(name.clone()).or_default().and(said);
        self.news.notify_one();
    }

    /// Something changed somewhere.
    pub fn everything(&self) {
        self.state().everything = true;
        self.news.notify_one();
    }

    /// A connection is lost. The first reason counts.
    pub fn failed(&self, error: Error) {
        self.state().failed.get_or_insert(error);
        self.news.notify_one();
    }

    /// Waits for something.
    pub async fn next(&self) -> Result<Hint> {
        loop {
            if let Some(hint) = self.take()? {
                return Ok(hint);
            }
            // what came meanwhile left a permit
            self.news.notified().await;
        }
    }

    /// What was heard before a connection was lost comes first.
    fn take(&self) -> Result<Option<Hint>> {
        let mut state = self.state();
        let folders = std::mem::take(&mut state.folders);
        if std::mem::take(&mut state.everything) {
            return Ok(Some(Hint::Everything));
        }
        if !folders.is_empty() {
            return Ok(Some(Hint::Folders(folders)));
        }
        state.failed.clone().map_or(Ok(None), Err)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // nothing in here panics halfway
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn names(folders: &[Watched]) -> BTreeMap<Vec<u8>, Option<FolderName>> {
    let name = |f: &Watched| f.mirrored.then(|| f.name.clone());
    let wire = |f: &Watched| if f.name.is_inbox() { b"INBOX".to_vec() } else { f.wire.clone() };
    let mut names: BTreeMap<_, _> = folders.iter().map(|f| (wire(f), name(f))).collect();
    for f in folders {
        // Dovecot spells them so under NOTIFY (see `quirks`)
        names.entry(decode(&f.wire).into_bytes()).or_insert_with(|| name(f));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn watched(wire: &str, mirrored: bool) -> Watched {
        let name = FolderName::from_text(wire).unwrap();
        Watched { name, wire: wire.into(), personal: true, mirrored }
    }

    fn said(n: u32) -> Said {
        Said { messages: Some(n), ..Said::default() }
    }

    #[test]
    fn names_are_known_in_utf_8_too() {
        let (grüße, other) = (FolderName::from_text("Grüße").unwrap(), watched("a", false));
        let wire = b"Gr&APwA3w-e".to_vec();
        let folder = Watched { name: grüße.clone(), wire, personal: true, mirrored: true };
        let heard = Heard::new(&[folder, other]);
        assert_eq!(heard.take().unwrap(), Some(Hint::Everything));
        for spelling in ["Gr&APwA3w-e", "Grüße"] {
            heard.spelled(spelling.as_bytes(), said(1));
            let told = BTreeMap::from([(grüße.clone(), said(1))]);
            assert_eq!(heard.take().unwrap(), Some(Hint::Folders(told)));
        }
    }

    #[test]
    fn hints_are_united_and_come_before_the_failure() {
        let heard = Heard::new(&[watched("Inbox", true), watched("a", true), watched("j", false)]);
        let next = || heard.take();
        assert_eq!(next().unwrap(), Some(Hint::Everything), "what was before");
        assert_eq!(next().unwrap(), None);
        heard.spelled(b"inBOX", said(1));
        heard.spelled(b"INBOX", said(2));
        heard.spelled(b"j", said(3));
        heard.folder(&FolderName::from_text("a").unwrap(), Said::default());
        heard.failed(Error::account(Kind::Connection, "first"));
        heard.failed(Error::account(Kind::Connection, "second"));
        let Some(Hint::Folders(f)) = next().unwrap() else { panic!("folders") };
        assert_eq!(f.len(), 2, "{f:?}");
        assert_eq!(f[&FolderName::inbox()], said(2));
        assert_eq!(next().unwrap_err().what, "first");
        heard.spelled(b"new", said(1));
        assert_eq!(next().unwrap(), Some(Hint::Everything), "a folder nobody knows");
    }
}
