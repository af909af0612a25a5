//! Which files are known to be whole though they are young: seen closed after writing, or renamed
//! in. Only these may be sent before their mtime is old enough to prove it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::{FolderName, Place};

/// How long a whole file is remembered. By then its mtime proves as much.
const YOUNG: Duration = Duration::from_secs(5);
/// How long one that somebody writes to is waited for.
const SLOW: Duration = Duration::from_secs(3600);
/// More files than this at once are not remembered, and have to become old.
const MOST: usize = 50_000;

/// What was seen. Cheap to clone; all clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Complete {
    files: Arc<Mutex<Files>>,
}

#[derive(Debug, Default)]
struct Files {
    seen: BTreeMap<FolderName, BTreeMap<Place, (State, Instant)>>,
    count: usize,
    swept: Option<Instant>,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It was made or written to, and not closed since.
    Open,
    /// It is whole.
    Whole,
}

impl Complete {
    /// Whether the file that has this name now is whole.
    pub fn contains(&self, folder: &FolderName, place: &Place) -> bool {
        self.state(folder, place) == Some(State::Whole)
    }

    /// Whether somebody writes to it.
    pub(super) fn is_open(&self, folder: &FolderName, place: &Place) -> bool {
        self.state(folder, place) == Some(State::Open)
    }

    pub(super) fn set(&self, folder: &FolderName, place: Place, state: State) {
        let now = Instant::now();
        let mut files = self.files();
        if files.swept.is_none_or(|s| now.duration_since(s) > YOUNG) {
            files.swept = Some(now);
            let young = |state, at| now - at <= if state == State::Open { SLOW } else { YOUNG };
            files.seen.values_mut().for_each(|f| f.retain(|_, (state, at)| young(*state, *at)));
            files.seen.retain(|_, f| !f.is_empty());
            files.count = files.seen.values().map(BTreeMap::len).sum();
        }
        let full = files.count >= MOST;
        if !files.seen.contains_key(folder) {
            files.seen.insert(folder.clone(), BTreeMap::new());
        }
        let Some(of) = files.seen.get_mut(folder) else { return };
        let known = of.contains_key(&place);
        if known || !full {
            of.insert(place, (state, now));
            files.count += usize::from(!known);
        }
    }

    /// The name is gone. What was known of its file.
    pub(super) fn forget(&self, folder: &FolderName, place: &Place) -> Option<State> {
        let mut files = self.files();
        let (state, _) = files.seen.get_mut(folder)?.remove(place)?;
        files.count -= 1;
        Some(state)
    }

    /// Nothing is known any more.
    pub(super) fn clear(&self) {
        *self.files() = Files::default();
    }

    fn state(&self, folder: &FolderName, place: &Place) -> Option<State> {
        self.files().seen.get(folder)?.get(place).map(|(state, _)| *state)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BaseName, FileName, Subdir};

    fn place(n: usize) -> Place {
        let base = BaseName::new(format!("{n}.x").as_bytes()).unwrap();
        Place { sub: Subdir::New, file: FileName::bare(base) }
    }

    #[test]
    fn a_file_is_whole_until_it_is_written_to_again() {
        let (c, inbox) = (Complete::default(), FolderName::inbox());
        assert!(!c.contains(&inbox, &place(1)));
        c.set(&inbox, place(1), State::Open);
        assert!(!c.contains(&inbox, &place(1)));
        c.set(&inbox, place(1), State::Whole);
        assert!(c.clone().contains(&inbox, &place(1)));
        assert!(!c.contains(&FolderName::from_text("a").unwrap(), &place(1)));
        assert_eq!(c.forget(&inbox, &place(1)), Some(State::Whole));
        assert_eq!((c.forget(&inbox, &place(1)), c.contains(&inbox, &place(1))), (None, false));
    }

    #[test]
    fn the_memory_is_bounded() {
        let (c, inbox) = (Complete::default(), FolderName::inbox());
        for n in 0..MOST + 10 {
            c.set(&inbox, place(n), State::Whole);
        }
        assert!(c.contains(&inbox, &place(MOST - 1)) && !c.contains(&inbox, &place(MOST + 1)));
        c.set(&inbox, place(0), State::Open);
        assert!(!c.contains(&inbox, &place(0)), "what is known can still change");
    }
}
