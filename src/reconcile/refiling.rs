//! Refiling: which file without a row is which message we know. A reader that moves a message
//! writes it anew elsewhere and removes the old file, or renames it; a copy leaves the old file.

use std::collections::{BTreeMap, BTreeSet};

use super::pairing::{Known, Pairs};
use super::{FileId, LocalFile, Trees};
use crate::model::{ContentHash, Row, RowId, State};

/// What the files without a row turned out to be.
#[derive(Debug, Default)]
pub(super) struct Refiled {
    /// The row's file stands here now.
    pub moved: BTreeMap<RowId, FileId>,
    /// The file has the bytes of this row, whose own file is still there.
    pub copied: BTreeMap<FileId, RowId>,
    taken: BTreeSet<FileId>,
}

impl Refiled {
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
pub(super) fn refile(trees: &Trees, pairs: &Pairs) -> Refiled {
    let mut out = Refiled::default();
    // Rows whose file went come first: a file that was only renamed must not go to an equal
    // message that was deleted here, or its own row looks deleted. A kept row's deletion is
    // nobody's loss but ours, so it comes second. An absent row's file may be put back.
    let rank = |r: &Row| match r.state {
        State::Pending => None,
        State::Synced => trees.missing.contains(&r.id).then_some(0),
        State::Kept => trees.missing.contains(&r.id).then_some(1),
        State::Absent => Some(2),
    };
    let mut lost: Vec<(u8, &Row)> =
        trees.rows.values().filter_map(|r| Some((rank(r)?, r))).collect();
    lost.sort_by_key(|(rank, r)| (*rank, r.id));
    let (absent, went): (Vec<_>, Vec<_>) =
        lost.into_iter().map(|(_, r)| r).partition(|r| r.state == State::Absent);
    let free: Vec<(FileId, &LocalFile)> = trees
        .files
        .iter()
        .filter(|(id, _)| !pairs.files.contains(id))
        .map(|(i, f)| (*i, f))
        .collect();
    // Among equal bytes, an equal base name is a hint. Then the folder that the server moved the
    // message to (a download that a crash cut short stands there), then its own.
    let there = |r: &Row| pairs.by_row.get(&r.id).and_then(|a| trees.rows.get(a)).map(|a| a.folder);
    let named =
        |r: &Row, f: &LocalFile| r.place.as_ref().is_some_and(|p| p.file.base == f.place.file.base);
    let rounds: [Fits<'_>; 5] = [
        &|r, f| named(r, f) && there(r) == Some(f.folder),
        &|r, f| named(r, f),
        &|r, f| there(r) == Some(f.folder),
        &|r, f| r.folder == f.folder,
        &|_, _| true,
    ];
    for lost in [went, absent] {
        for hash in [content as Hash, reader] {
            for fits in rounds {
                for (id, f) in &free {
                    if out.is_taken(*id) {
                        continue;
                    }
                    let want = hash(&f.identity.content, &f.identity.reader);
                    let row = lost.iter().find(|r| {
                        !out.moved.contains_key(&r.id)
                            && fits(r, f)
                            && want.is_some()
                            && hash(&r.identity.content, &r.identity.reader) == want
                            && !(is_draft(trees, r, f) && r.identity.content != f.identity.content)
                    });
                    if let Some(r) = row {
                        out.join(r.id, *id);
                    }
                }
            }
        }
    }
    for (id, f) in &free {
        if out.is_taken(*id) {
            continue;
        }
        if let Some(of) = original(trees, pairs, f)
            && (stays_kept(pairs, of) || is_copy(trees, of, f))
        {
            out.copied.insert(*id, of.id);
        }
    }
    out
}

/// Whether a row and a file of equal bytes belong together before others.
type Fits<'a> = &'a dyn Fn(&Row, &LocalFile) -> bool;

type Hash = fn(&Option<ContentHash>, &Option<ContentHash>) -> Option<ContentHash>;

fn content(content: &Option<ContentHash>, _: &Option<ContentHash>) -> Option<ContentHash> {
    *content
}

fn reader(_: &Option<ContentHash>, reader: &Option<ContentHash>) -> Option<ContentHash> {
    *reader
}

fn is_draft(trees: &Trees, r: &Row, f: &LocalFile) -> bool {
    use crate::model::SystemFlags;
    r.agreed.has(SystemFlags::DRAFT)
        || f.flags.has(SystemFlags::DRAFT)
        || [r.folder, f.folder]
            .iter()
            .any(|x| trees.folders.get(x).is_some_and(super::Folder::is_drafts))
}

/// Whether the row is `kept`, and the server does not have it again.
pub(super) fn stays_kept(pairs: &Pairs, row: &Row) -> bool {
    row.state == State::Kept && !pairs.by_row.contains_key(&row.id)
}

/// Whether somebody copied the row's file, so that the copy belongs on the server as well. Equal
/// bytes alone do not say so: a file that stood here before the ledger, or has a name of ours, may
/// be `kept` mail beside an equal message. A copy by `cp` has its original's name.
fn is_copy(trees: &Trees, of: &Row, f: &LocalFile) -> bool {
    let base = &f.place.file.base;
    !trees.first_pass
        && (!base.is_ours() || of.place.as_ref().is_some_and(|p| p.file.base == *base))
}

/// The row whose bytes, the same on both sides, this file has. One on the server goes before a
/// `kept` one, an equal base name before others, then the same folder.
fn original<'a>(trees: &'a Trees, pairs: &Pairs, f: &LocalFile) -> Option<&'a Row> {
    let named = |r: &Row| r.place.as_ref().is_some_and(|p| p.file.base == f.place.file.base);
    trees
        .rows
        .values()
        .filter(|r| {
            let same = r.identity.content.is_some() && r.identity.content == f.identity.content
                || r.identity.reader.is_some()
                    && r.identity.reader == f.identity.reader
                    && !is_draft(trees, r, f);
            let live = r.on_server() || pairs.by_row.contains_key(&r.id);
            same && match r.state {
                State::Synced => r.exact && live,
                State::Kept => true,
                State::Pending => {
                    // its file is being adopted elsewhere: a copy of that
                    matches!(pairs.by_arrival.get(&r.id), Some(Known::File(_, true)))
                }
                State::Absent => false,
            }
        })
        .min_by_key(|r| (stays_kept(pairs, r), !named(r), r.folder != f.folder, r.id))
}
