//! Pairing: which arrival on the server is which message we know. The one mechanism behind the
//! lost ledger, a new UIDVALIDITY, a crash between APPEND and commit, the adoption of a Maildir,
//! a move on the server, and kept mail that the server has again.

use std::collections::{BTreeMap, BTreeSet};

use super::{FileId, LocalFile, Trees};
use crate::model::{
    ContentHash, Fingerprint, FolderId, Gone, Identity, Row, RowId, State, SystemFlags,
};

/// What an arrival turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// A row that lost its UID, or a `kept` one.
    Row(RowId),
    /// A file without a row; whether the bytes are known to be equal.
    File(FileId, bool),
}

/// The pairs, from both ends.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// By arrival.
    pub by_arrival: BTreeMap<RowId, Known>,
    /// By row.
    pub by_row: BTreeMap<RowId, RowId>,
    /// Files that are taken.
    pub files: BTreeSet<FileId>,
}

impl Pairs {
    fn join(&mut self, arrival: RowId, with: Known) {
        self.by_arrival.insert(arrival, with);
        match with {
            Known::Row(r) => {
                self.by_row.insert(r, arrival);
            }
            Known::File(f, _) => {
                self.files.insert(f);
            }
        }
    }

    fn is_free(&self, c: Known) -> bool {
        match c {
            Known::Row(r) => !self.by_row.contains_key(&r),
            Known::File(f, _) => !self.files.contains(&f),
        }
    }
}

/// The kinds of candidates, in the order in which they are tried. The first that fits is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// The same folder under a new UIDVALIDITY.
    Epoch,
    /// Vanished anywhere: a move.
    Vanished,
    /// Another folder under a new UIDVALIDITY (all of them, after a migration).
    EpochElsewhere,
    /// Deleted here, still there under another UID. Before `kept` ones, which expect nothing from
    /// the server: what is absent must not come back.
    Absent,
    /// The same in another folder.
    AbsentElsewhere,
    /// The server has it again.
    Kept,
    /// The same from another folder.
    KeptElsewhere,
    /// A file in the same folder that no row knows.
    Files,
    /// The same in another folder: only where the ledger cannot know of a move.
    FilesElsewhere,
}

const ROUNDS: [Round; 9] = [
    Round::Epoch,
    Round::Vanished,
    Round::EpochElsewhere,
    Round::Absent,
    Round::AbsentElsewhere,
    Round::Kept,
    Round::KeptElsewhere,
    Round::Files,
    Round::FilesElsewhere,
];

impl Round {
    fn same_folder(self) -> bool {
        matches!(self, Self::Epoch | Self::Kept | Self::Absent | Self::Files)
    }

    fn takes(self, row: &Row) -> bool {
        match self {
            // both have their message there still, under another UID
            Self::Epoch | Self::EpochElsewhere => {
                matches!(row.state, State::Synced | State::Absent) && row.gone == Some(Gone::Epoch)
            }
            Self::Vanished => row.state == State::Synced && row.gone == Some(Gone::Vanished),
            Self::Kept | Self::KeptElsewhere => row.state == State::Kept,
            Self::Absent | Self::AbsentElsewhere => {
                row.state == State::Absent && row.gone.is_some()
            }
            Self::Files | Self::FilesElsewhere => false,
        }
    }
}

/// What stands alike on both sides of one folder.
type Alike<'a> = (Vec<&'a Row>, Vec<FileId>);

/// One side of a group of messages that look alike.
struct Candidate<'a> {
    known: Known,
    folder: FolderId,
    identity: &'a Identity,
    exact: bool,
    draft: bool,
}

/// Joins arrivals with what we know. Arrivals whose bytes are needed first go into `wants`.
pub(super) fn pair(trees: &Trees, wants: &mut BTreeSet<RowId>) -> Pairs {
    let mut pairs = Pairs::default();
    let arrivals: Vec<&Row> =
        trees.rows.values().filter(|r| r.state == State::Pending && r.uid.is_some()).collect();
    if arrivals.is_empty() {
        return pairs;
    }
    by_command(trees, &arrivals, &mut pairs);
    by_server_id(trees, &arrivals, &mut pairs);
    for round in ROUNDS {
        if round == Round::FilesElsewhere && !trees.first_pass {
            continue;
        }
        if round == Round::FilesElsewhere && trees.sizes_lie {
            // no size can speak for another folder: the same folder first
            without_size(trees, &arrivals, &mut pairs, wants);
        }
        by_fingerprint(trees, round, &arrivals, &mut pairs, wants);
    }
    if trees.first_pass {
        without_size(trees, &arrivals, &mut pairs, wants);
    }
    pairs
}

fn candidates<'a>(trees: &'a Trees, round: Round, pairs: &Pairs) -> Vec<Candidate<'a>> {
    let rows = trees.rows.values().filter(|r| round.takes(r)).map(|r| Candidate {
        known: Known::Row(r.id),
        folder: r.folder,
        identity: &r.identity,
        exact: r.exact,
        draft: r.agreed.has(SystemFlags::DRAFT),
    });
    let wants_files = matches!(round, Round::Files | Round::FilesElsewhere);
    let files = trees.files.iter().filter(|_| wants_files).map(|(id, f)| Candidate {
        known: Known::File(*id, true),
        folder: f.folder,
        identity: &f.identity,
        exact: true,
        draft: f.flags.has(SystemFlags::DRAFT),
    });
    let mut all: Vec<_> = rows.chain(files).filter(|c| pairs.is_free(c.known)).collect();
    // among equal ones, those whose file is here: nothing is downloaded then
    all.sort_by_key(|c| match c.known {
        Known::Row(r) => (
            trees.missing.contains(&r),
            trees.rows.get(&r).is_some_and(|r| r.state == State::Absent),
        ),
        Known::File(..) => (false, false),
    });
    all
}

/// A copy that an interrupted command of ours made is the file that the command was for. A reader may
/// have written that anew on saving, so that nothing else shows that they belong together.
fn by_command(trees: &Trees, arrivals: &[&Row], pairs: &mut Pairs) {
    for a in arrivals {
        let Some(of) = a.copy_of.and_then(|id| trees.rows.get(&id)) else { continue };
        let content = of.identity.content;
        let same = |f: &LocalFile| content.is_some() && f.identity.content == content;
        let saved =
            |f: &LocalFile| of.identity.reader.is_some() && f.identity.reader == of.identity.reader;
        let mut found = trees.files.iter().filter(|(id, f)| {
            f.folder == a.folder && !pairs.files.contains(id) && (same(f) || saved(f))
        });
        // the same bytes go before rewritten ones
        if let Some((id, f)) = found.clone().find(|(_, f)| same(f)).or_else(|| found.next()) {
            pairs.join(a.id, Known::File(*id, of.exact && same(f)));
        }
    }
}

/// The server's own id is proof. Labels share one id: the same folder goes first.
fn by_server_id(trees: &Trees, arrivals: &[&Row], pairs: &mut Pairs) {
    for round in ROUNDS {
        for a in arrivals {
            let Some(id) = &a.identity.server_id else { continue };
            if pairs.by_arrival.contains_key(&a.id) {
                continue;
            }
            let hit = trees
                .rows
                .values()
                .filter(|r| round.takes(r) && (!round.same_folder() || r.folder == a.folder))
                .find(|r| {
                    r.identity.server_id.as_ref() == Some(id) && pairs.is_free(Known::Row(r.id))
                });
            if let Some(r) = hit {
                pairs.join(a.id, Known::Row(r.id));
            }
        }
    }
}

/// What two messages must share to be looked at together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    folder: Option<FolderId>,
    fingerprint: &'a Fingerprint,
    wire_size: u64,
}

fn by_fingerprint(
    trees: &Trees,
    round: Round,
    arrivals: &[&Row],
    pairs: &mut Pairs,
    wants: &mut BTreeSet<RowId>,
) {
    let candidates = candidates(trees, round, pairs);
    if candidates.is_empty() {
        return;
    }
    let key = |folder: FolderId, identity| {
        let i: &Identity = identity;
        Key {
            folder: round.same_folder().then_some(folder),
            fingerprint: &i.fingerprint,
            wire_size: if trees.sizes_lie { 0 } else { i.wire_size },
        }
    };
    let mut groups: BTreeMap<Key<'_>, (Vec<&Row>, Vec<&Candidate<'_>>)> = BTreeMap::new();
    for c in &candidates {
        groups.entry(key(c.folder, c.identity)).or_default().1.push(c);
    }
    for a in arrivals.iter().filter(|a| !pairs.by_arrival.contains_key(&a.id)) {
        if let Some(g) = groups.get_mut(&key(a.folder, &a.identity)) {
            g.0.push(a);
        }
    }
    for (key, (arrived, known)) in groups {
        match (arrived.as_slice(), known.as_slice()) {
            ([], _) => {}
            // `without_size` sees to these
            ([a], [c])
                if trees.sizes_lie
                    && trees.first_pass
                    && round == Round::Files
                    && key.fingerprint.is_complete()
                    && !is_draft(trees, a, c) => {}
            ([a], [c]) if proves(trees, round, &key, a, c) => pairs.join(a.id, c.known),
            _ => by_content(&arrived, &known, pairs, wants),
        }
    }
}

/// Whether Message-ID, Date and size, unique on both sides, are enough. Where sizes lie, a file's
/// says nothing; but what the server said of the same message before, it says again.
fn proves(trees: &Trees, round: Round, key: &Key<'_>, a: &Row, c: &Candidate<'_>) -> bool {
    let moved_alike =
        round != Round::Vanished || a.identity.internal_date == c.identity.internal_date;
    let contradicted =
        c.exact && matches!((a.identity.content, c.identity.content), (Some(x), Some(y)) if x != y);
    let sized = !trees.sizes_lie
        || matches!(c.known, Known::Row(_)) && a.identity.wire_size == c.identity.wire_size;
    key.fingerprint.is_complete() && sized && !is_draft(trees, a, c) && moved_alike && !contradicted
}

/// An edited draft keeps its Message-ID and Date, and may keep its size.
fn is_draft(trees: &Trees, a: &Row, c: &Candidate<'_>) -> bool {
    c.draft
        || a.remote.has(SystemFlags::DRAFT)
        || [a.folder, c.folder]
            .iter()
            .any(|f| trees.folders.get(f).is_some_and(super::Folder::is_drafts))
}

/// Settles a group by the bytes. Equal copies pair by multiplicity.
fn by_content(
    arrived: &[&Row],
    known: &[&Candidate<'_>],
    pairs: &mut Pairs,
    wants: &mut BTreeSet<RowId>,
) {
    let mut left: BTreeMap<ContentHash, Vec<&Candidate<'_>>> = BTreeMap::new();
    for c in known {
        // equal to the bytes of either copy is proof, even where the two differ
        if let Some(h) = c.identity.content {
            left.entry(h).or_default().push(c);
        }
    }
    if left.is_empty() {
        return;
    }
    wants.extend(arrived.iter().filter(|a| a.identity.content.is_none()).map(|a| a.id));
    // Among equal copies, first those with the same INTERNALDATE, which a move keeps; then the same
    // folder; then in the order of the ledger.
    let fits: [fn(&Row, &Candidate<'_>) -> bool; 3] = [
        |a, c| c.identity.internal_date == a.identity.internal_date,
        |a, c| c.folder == a.folder,
        |_, _| true,
    ];
    for fits in fits {
        for a in arrived {
            let cs = a.identity.content.and_then(|h| left.get_mut(&h));
            let Some(cs) = cs.filter(|_| !pairs.by_arrival.contains_key(&a.id)) else { continue };
            if let Some(at) = cs.iter().position(|c| fits(a, c)) {
                pairs.join(a.id, cs.remove(at).known);
            }
        }
    }
}

/// In a first pass, a Message-ID and Date that stand once on each side of a folder pair without
/// the size: other programs add headers to what they store.
fn without_size(trees: &Trees, arrivals: &[&Row], pairs: &mut Pairs, wants: &BTreeSet<RowId>) {
    let mut groups: BTreeMap<(FolderId, &Fingerprint), Alike<'_>> = BTreeMap::new();
    let draft = |folder: &FolderId, flagged: bool| {
        flagged || trees.folders.get(folder).is_some_and(super::Folder::is_drafts)
    };
    for (id, f) in &trees.files {
        if f.identity.fingerprint.is_complete()
            && !pairs.files.contains(id)
            && !draft(&f.folder, f.flags.has(SystemFlags::DRAFT))
        {
            groups.entry((f.folder, &f.identity.fingerprint)).or_default().1.push(*id);
        }
    }
    for a in arrivals {
        if !pairs.by_arrival.contains_key(&a.id)
            && !wants.contains(&a.id)
            && !draft(&a.folder, a.remote.has(SystemFlags::DRAFT))
            && let Some(g) = groups.get_mut(&(a.folder, &a.identity.fingerprint))
        {
            g.0.push(a);
        }
    }
    for (arrived, files) in groups.into_values() {
        if let ([a], [f]) = (arrived.as_slice(), files.as_slice()) {
            // a hash that is known to differ ties nothing together
            pairs.join(a.id, Known::File(*f, false));
        }
    }
}
