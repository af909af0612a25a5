//! Refiling: which file without a row is which message we know. A reader that moves a message
//! writes it anew elsewhere and removes the old file, or renames it; a copy leaves the old file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::index::Index;
use super::pairing::{Known, Pairs};
use super::{FileId, LocalFile, Trees};
use crate::model::{BaseName, ContentHash, FolderId, Identity, Row, RowId, State, SystemFlags};

/// What the files without a row turned out to be.
#[derive(Debug, Default)]
pub(super) struct Refiled<'a> {
    /// The row's file stands here now.
    pub moved: BTreeMap<RowId, FileId>,
    /// The file has the bytes of this row, whose own file is still there.
    pub copied: BTreeMap<FileId, RowId>,
    /// The file has the bytes of this row of a folder that is left alone.
    pub outside: BTreeMap<FileId, &'a Row>,
    /// Files that were edited where they stood, and moved then, so that only the name is left of
    /// what they were.
    pub edited: BTreeSet<FileId>,
    /// The rows whose file that was, with what it is now. Their name says that the file does not
    /// come from a server, so they wait until the file has a row of its own.
    pub edited_of: BTreeMap<RowId, FileId>,
    taken: BTreeSet<FileId>,
}

impl Refiled<'_> {
    /// Whether the file belongs to a row now.
    pub fn is_taken(&self, file: FileId) -> bool {
        self.taken.contains(&file) || self.copied.contains_key(&file)
    }

    fn join(&mut self, row: RowId, file: FileId) {
        self.moved.insert(row, file);
        self.taken.insert(file);
    }
}

/// Finds the files' rows: first those whose own file is gone, then those that were copied.
pub(super) fn refile<'a>(trees: &'a Trees, pairs: &Pairs) -> Refiled<'a> {
    let mut out = Refiled::default();
    let free: Vec<(FileId, &LocalFile)> = trees
        .files
        .iter()
        .filter(|(id, _)| !pairs.files.contains(id))
        .map(|(i, f)| (*i, f))
        .collect();
    if free.is_empty() {
        return out;
    }
    // Rows whose file went come first: a file that was only renamed must not go to an equal
    // message that was deleted here, or its own row looks deleted. A kept row's deletion is
    // nobody's loss but ours, so it comes second. A message that neither side has must not take a
    // `kept` one's file with it. An absent row's file may be put back.
    let mut went = Vec::new();
    let mut kept = Vec::new();
    let mut nowhere = Vec::new();
    let mut absent = Vec::new();
    for r in trees.rows.values() {
        match r.state {
            State::Absent => absent.push(r),
            State::Pending => {}
            _ if !trees.missing.contains(&r.id) => {}
            State::Kept => kept.push(r),
            State::Synced if r.gone.is_some() && !pairs.by_row.contains_key(&r.id) => {
                nowhere.push(r);
            }
            State::Synced => went.push(r),
        }
    }
    went.extend(kept);
    // of equal ones, the one that stays here whatever becomes of it on the server
    nowhere.sort_by_key(|r| !r.keeps);
    let there = |r: &Row| pairs.by_row.get(&r.id).and_then(|a| trees.rows.get(a)).map(|a| a.folder);
    for (lost, rounds) in [(went, &ROUNDS[..]), (nowhere, &NOWHERE), (absent, &ROUNDS)] {
        for hash in [Hash::Content, Hash::Reader] {
            for round in rounds {
                let mut known: BTreeMap<Key<'_>, VecDeque<&Row>> = BTreeMap::new();
                for r in lost.iter().filter(|r| hash.speaks_for_row(trees, r)) {
                    if let (Some(key), false) =
                        (round.of_row(hash, r, there(r)), out.moved.contains_key(&r.id))
                    {
                        known.entry(key).or_default().push_back(*r);
                    }
                }
                if known.is_empty() {
                    continue;
                }
                if round.at == At::Elsewhere {
                    // where there is a file for each, each has its own
                    let mut files: BTreeMap<ContentHash, usize> = BTreeMap::new();
                    for (_, f) in free.iter().filter(|(id, _)| !out.is_taken(*id)) {
                        if let Some(h) = hash.of(&f.identity) {
                            *files.entry(h).or_default() += 1;
                        }
                    }
                    known.retain(|(h, ..), rows| files.get(h).is_none_or(|n| *n < rows.len()));
                }
                for (id, f) in &free {
                    if out.is_taken(*id) {
                        continue;
                    }
                    let key = round.of_file(hash, f);
                    let Some(rows) = key.and_then(|k| known.get_mut(&k)) else { continue };
                    while rows.front().is_some_and(|r| out.moved.contains_key(&r.id)) {
                        rows.pop_front();
                    }
                    let fits = |r: &&&Row| {
                        !out.moved.contains_key(&r.id)
                            && (round.at != At::Elsewhere || r.folder != f.folder)
                            && hash.speaks_for_both(trees, r, f)
                    };
                    if let Some(r) = rows.iter().find(fits) {
                        out.join(r.id, *id);
                    }
                }
            }
        }
    }
    let live = Originals::of(trees, trees.rows.values().filter(|r| has_original(pairs, r)), pairs);
    let waits = |r: &&Row| matches!(r.state, State::Synced | State::Kept);
    let outside = Originals::of(trees, trees.excluded.iter().filter(waits), pairs);
    for (id, f) in &free {
        if out.is_taken(*id) {
            continue;
        }
        if let Some(of) = live.of_file(trees, f)
            && (is_only_here(pairs, of) || is_copy(trees, of, f))
        {
            out.copied.insert(*id, of.id);
        } else if let Some(of) = outside.of_file(trees, f).filter(|_| !trees.first_pass) {
            out.outside.insert(*id, of);
        }
    }
    if !trees.first_pass {
        edited(trees, pairs, &free, &mut out);
    }
    out
}

/// The files of rows that lost theirs, and whose messages the server has still: moved or renamed here,
/// they are not what arrived, however equal that is. Else one message would stand for two, and the
/// other be expunged. A name of ours that none of the rows had is that of a download that was cut
/// short. Of more files than rows, those stay that stand where an equal message arrived.
pub(super) fn lost(
    trees: &Trees,
    index: &Index<'_>,
    arrivals: &[&Row],
    pairs: &Pairs,
) -> BTreeSet<FileId> {
    let mut rows: BTreeMap<ContentHash, (usize, BTreeSet<&BaseName>)> = BTreeMap::new();
    for r in trees.missing.iter().filter_map(|id| trees.rows.get(id)) {
        if let (Some(h), Some(place)) = (r.identity.content, &r.place)
            && r.state == State::Synced
            && (r.on_server() || pairs.by_row.contains_key(&r.id))
        {
            let (n, names) = rows.entry(h).or_default();
            *n += 1;
            names.insert(&place.file.base);
        }
    }
    if rows.is_empty() {
        return BTreeSet::new();
    }
    let unpaired = arrivals.iter().filter(|a| !pairs.by_arrival.contains_key(&a.id));
    let arrived: BTreeSet<_> = unpaired.map(|a| (a.folder, &a.identity.fingerprint)).collect();
    let mut out = BTreeSet::new();
    for (h, (n, names)) in rows {
        let free = index.equal(h).iter().filter(|id| !pairs.files.contains(id));
        let mut files: Vec<(bool, bool, FileId)> = free
            .filter_map(|id| {
                let f = trees.files.get(id)?;
                let base = &f.place.file.base;
                let named = names.contains(base);
                let arrives = arrived.contains(&(f.folder, &f.identity.fingerprint));
                (named || !base.is_ours()).then_some((!named, arrives, *id))
            })
            .collect();
        files.sort();
        out.extend(files.into_iter().take(n).map(|(.., id)| id));
    }
    out
}

/// A name of ours that no row has comes from a server, so what has it is never sent; but not where
/// the row is known whose file it was, with other bytes, and the server has those. Then the bytes
/// here are the user's own.
fn edited(trees: &Trees, pairs: &Pairs, free: &[(FileId, &LocalFile)], out: &mut Refiled<'_>) {
    let mut went: BTreeMap<&BaseName, Vec<&Row>> = BTreeMap::new();
    for r in trees.rows.values() {
        if let Some(place) = &r.place
            && r.state == State::Synced
            && (r.on_server() || pairs.by_row.contains_key(&r.id))
            && trees.missing.contains(&r.id)
        {
            went.entry(&place.file.base).or_default().push(r);
        }
    }
    let mut left: BTreeMap<&BaseName, Vec<&Row>> = BTreeMap::new();
    for r in trees.excluded.iter().filter(|r| r.state == State::Synced && r.on_server()) {
        if let Some(place) = &r.place {
            left.entry(&place.file.base).or_default().push(r);
        }
    }
    for (id, f) in free {
        let base = &f.place.file.base;
        if !base.is_ours() || out.is_taken(*id) || out.outside.contains_key(id) {
            continue;
        }
        let differs = |r: &&&Row| match (r.identity.content, f.identity.content) {
            (Some(was), Some(is)) => was != is,
            _ => false,
        };
        for r in went.get(base).into_iter().flatten().filter(differs) {
            out.edited.insert(*id);
            out.edited_of.entry(r.id).or_insert(*id);
        }
        // rows of folders that are left alone wait anyhow
        if left.get(base).into_iter().flatten().any(|r| differs(&r)) {
            out.edited.insert(*id);
        }
    }
}

/// By which hash a file is looked up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hash {
    /// Of all bytes.
    Content,
    /// Without what readers write.
    Reader,
}

impl Hash {
    fn of(self, i: &Identity) -> Option<ContentHash> {
        match self {
            Self::Content => i.content,
            Self::Reader => i.reader,
        }
    }

    /// A draft that a reader wrote anew is another draft.
    fn speaks_for(self, trees: &Trees, folder: FolderId, draft: bool) -> bool {
        self == Self::Content || !draft && !trees.is_drafts(folder)
    }

    /// Where the two copies differ (mbsync marked the one here), the file is known by what is left
    /// of it alone, whatever it is.
    fn speaks_for_row(self, trees: &Trees, r: &Row) -> bool {
        !r.exact || self.speaks_for(trees, r.folder, r.agreed.has(SystemFlags::DRAFT))
    }

    fn speaks_for_both(self, trees: &Trees, r: &Row, f: &LocalFile) -> bool {
        let draft = f.flags.has(SystemFlags::DRAFT);
        self.speaks_for_row(trees, r) && (!r.exact || self.speaks_for(trees, f.folder, draft))
    }
}

/// Which of equal rows and files belong together before others.
#[derive(Clone, Copy)]
struct Round {
    /// Those with an equal base name.
    named: bool,
    at: At,
}

/// The folder in which a row's file is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// The one that the server moved the message to: a download that a crash cut short stands there.
    There,
    /// Its own.
    Own,
    /// Any other.
    Elsewhere,
    /// Wherever.
    Any,
}

/// Among equal bytes, an equal base name is a hint. Then the folder says something.
const ROUNDS: [Round; 5] = [
    Round { named: true, at: At::There },
    Round { named: true, at: At::Any },
    Round { named: false, at: At::There },
    Round { named: false, at: At::Own },
    Round { named: false, at: At::Any },
];

/// What is on the server no more, and is here in another folder, stays here. One of several that
/// may be meant is taken for that.
const NOWHERE: [Round; 4] = [
    Round { named: true, at: At::Any },
    Round { named: false, at: At::Elsewhere },
    Round { named: false, at: At::Own },
    Round { named: false, at: At::Any },
];

type Key<'a> = (ContentHash, Option<&'a BaseName>, Option<FolderId>);

impl Round {
    fn of_row(self, hash: Hash, r: &Row, there: Option<FolderId>) -> Option<Key<'_>> {
        let base = if self.named { Some(&r.place.as_ref()?.file.base) } else { None };
        let folder = match self.at {
            At::There => Some(there?),
            At::Own => Some(r.folder),
            At::Elsewhere | At::Any => None,
        };
        Some((hash.of(&r.identity)?, base, folder))
    }

    fn of_file(self, hash: Hash, f: &LocalFile) -> Option<Key<'_>> {
        let folder = match self.at {
            At::There | At::Own => Some(f.folder),
            At::Elsewhere | At::Any => None,
        };
        Some((hash.of(&f.identity)?, self.named.then_some(&f.place.file.base), folder))
    }
}

/// Whether the server does not have the row's message any more: it is `kept`, or goes this very
/// time. A copy of it is not sent, either.
pub(super) fn is_only_here(pairs: &Pairs, row: &Row) -> bool {
    let gone = match row.state {
        State::Kept => true,
        State::Synced => row.gone.is_some(),
        State::Pending | State::Absent => false,
    };
    gone && !pairs.by_row.contains_key(&row.id)
}

/// Whether somebody copied the row's file, so that the copy belongs on the server as well. Equal
/// bytes alone do not say so: a file that stood here before the ledger, or has a name of ours, may
/// be `kept` mail beside an equal message. A copy by `cp` has its original's name.
fn is_copy(trees: &Trees, of: &Row, f: &LocalFile) -> bool {
    let base = &f.place.file.base;
    !trees.first_pass
        && (!base.is_ours() || of.place.as_ref().is_some_and(|p| p.file.base == *base))
}

/// Whether a file with the row's bytes can be a copy of it: they are the same on both sides, or
/// here only.
fn has_original(pairs: &Pairs, r: &Row) -> bool {
    match r.state {
        State::Synced => r.exact || is_only_here(pairs, r),
        State::Kept => true,
        // its file is being adopted elsewhere: a copy of that
        State::Pending => matches!(pairs.by_arrival.get(&r.id), Some(Known::File(_, true))),
        State::Absent => false,
    }
}

/// Rows by the bytes that a copy of them has. One on the server goes before one that is only here,
/// an equal base name before others, then the same folder.
struct Originals<'a>(BTreeMap<(bool, Key<'a>), &'a Row>, BTreeMap<(bool, Key<'a>), &'a Row>);

impl<'a> Originals<'a> {
    fn of(trees: &Trees, rows: impl Iterator<Item = &'a Row>, pairs: &Pairs) -> Self {
        let mut out = Self(BTreeMap::new(), BTreeMap::new());
        for r in rows {
            let only_here = is_only_here(pairs, r);
            let base = r.place.as_ref().map(|p| &p.file.base);
            let ways = [(base, Some(r.folder)), (base, None), (None, Some(r.folder)), (None, None)];
            for (hash, map) in [(Hash::Content, &mut out.0), (Hash::Reader, &mut out.1)] {
                let Some(h) = hash.of(&r.identity) else { continue };
                if hash.speaks_for_row(trees, r) {
                    for (base, folder) in ways {
                        map.entry((only_here, (h, base, folder))).or_insert(r);
                    }
                }
            }
        }
        out
    }

    fn of_file(&self, trees: &Trees, f: &LocalFile) -> Option<&'a Row> {
        let base = Some(&f.place.file.base);
        let ways = [(base, Some(f.folder)), (base, None), (None, Some(f.folder)), (None, None)];
        for only_here in [false, true] {
            for (base, folder) in ways {
                let by = |hash: Hash, map: &BTreeMap<(bool, Key<'a>), &'a Row>| {
                    let r = map.get(&(only_here, (hash.of(&f.identity)?, base, folder))).copied();
                    r.filter(|r| hash.speaks_for_both(trees, r, f))
                };
                let found = [by(Hash::Content, &self.0), by(Hash::Reader, &self.1)];
                if let Some(r) = found.into_iter().flatten().min_by_key(|r| r.id) {
                    return Some(r);
                }
            }
        }
        None
    }
}
