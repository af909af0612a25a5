//! What this program does to files itself, told to its watchers beforehand: then it is no news when
//! the system tells them. A change of another program has an event of its own, and stays news.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::io::Result as Sys;

/// What happens to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// It is made, linked or renamed to.
    Arrives,
    /// It is unlinked or renamed from.
    Leaves,
}

/// What a watcher has been told of, and not seen yet.
#[derive(Debug, Default)]
pub struct Expected {
    root: PathBuf,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    acts: BTreeMap<(PathBuf, Act), (u32, Instant)>,
    swept: Option<Instant>,
}

/// After so much time no event comes of an act any more: its directory is not watched.
const EXPIRY: Duration = Duration::from_secs(10);

/// More acts than this are forgotten: then our own doings are news, which costs a look.
const MOST: usize = 100_000;

/// Those of this process. Each has a root of its own.
static WATCHERS: Mutex<Vec<Weak<Expected>>> = Mutex::new(Vec::new());

/// Does something, and tells the watchers before; takes it back where it fails.
pub fn doing<T>(acts: &[(&Path, Act)], f: impl FnOnce() -> Sys<T>) -> Sys<T> {
    let told: Vec<(Arc<Expected>, &Path, Act)> =
        acts.iter().filter_map(|(path, act)| Some((watcher_of(path)?, *path, *act))).collect();
    for (watcher, path, act) in &told {
        watcher.expect(path, *act);
    }
    let done = f();
    if done.is_err() {
        for (watcher, path, act) in &told {
            watcher.take(path, *act);
        }
    }
    done
}

impl Expected {
    /// For a watcher of `root`. It is told for as long as somebody holds this.
    pub fn register(root: &Path) -> Arc<Self> {
        let new = Arc::new(Self { root: root.to_owned(), ..Self::default() });
        let mut all = lock(&WATCHERS);
        all.retain(|w| w.strong_count() > 0);
        all.push(Arc::downgrade(&new));
        new
    }

    /// Whether this is our own doing. Each counts once.
    pub fn take(&self, path: &Path, act: Act) -> bool {
        let acts = &mut lock(&self.told).acts;
        let key = (path.to_owned(), act);
        let Some((count, _)) = acts.get_mut(&key) else { return false };
        *count -= 1;
        if *count == 0 {
            acts.remove(&key);
        }
        true
    }

    /// Forgets what was told: the events are lost.
    pub fn clear(&self) {
        *lock(&self.told) = Told::default();
    }

    fn expect(&self, path: &Path, act: Act) {
        // nobody watches it, and no event would take it off again
        if path.parent().is_some_and(|dir| dir.ends_with("tmp")) {
            return;
        }
        let now = Instant::now();
        let Told { acts, swept } = &mut *lock(&self.told);
        if acts.len() >= MOST || swept.is_none_or(|at| now.duration_since(at) > EXPIRY) {
            *swept = Some(now);
            acts.retain(|_, (_, at)| now.duration_since(*at) < EXPIRY);
            if acts.len() >= MOST {
                acts.clear();
            }
        }
        let entry = acts.entry((path.to_owned(), act)).or_insert((0, now));
        // what was never seen must not hide what comes later
        let count = if now.duration_since(entry.1) < EXPIRY { entry.0 + 1 } else { 1 };
        *entry = (count, now);
    }
}

fn watcher_of(path: &Path) -> Option<Arc<Expected>> {
    lock(&WATCHERS).iter().filter_map(Weak::upgrade).find(|w| path.starts_with(&w.root))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn what_comes_to_no_event_is_not_remembered() {
        let watcher = Expected::register(Path::new("/nowhere/tmp-of"));
        let (from, to) =
            (Path::new("/nowhere/tmp-of/a/tmp/1"), Path::new("/nowhere/tmp-of/a/cur/1"));
        doing(&[(from, Act::Leaves), (to, Act::Arrives)], || Ok(())).unwrap();
        assert!(watcher.take(to, Act::Arrives) && lock(&watcher.told).acts.is_empty());
    }

    #[test]
    fn each_act_is_taken_once_and_a_failure_is_taken_back() {
        let watcher = Expected::register(Path::new("/nowhere/ours"));
        let (a, b) = (Path::new("/nowhere/ours/cur/a"), Path::new("/nowhere/ours/cur/b"));
        doing(&[(a, Act::Leaves), (b, Act::Arrives)], || Ok(())).unwrap();
        doing(&[(b, Act::Leaves)], || Err::<(), _>(Errno::NOENT)).unwrap_err();
        assert!(!watcher.take(a, Act::Arrives) && !watcher.take(b, Act::Leaves));
        assert!(watcher.take(a, Act::Leaves) && watcher.take(b, Act::Arrives));
        assert!(!watcher.take(a, Act::Leaves) && !watcher.take(b, Act::Arrives));
        let elsewhere = Path::new("/nowhere/oursome/cur/a");
        doing(&[(elsewhere, Act::Leaves)], || Ok(())).unwrap();
        assert!(!watcher.take(elsewhere, Act::Leaves), "another root");
    }

    #[test]
    fn who_is_gone_is_told_nothing() {
        let root = Path::new("/nowhere/gone");
        drop(Expected::register(root));
        assert!(watcher_of(&root.join("x")).is_none());
    }
}
