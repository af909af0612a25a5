//! Pairing: which arrival on the server is which message we know. The one mechanism behind the
//! lost ledger, a new UIDVALIDITY, a crash between APPEND and commit, the adoption of a Maildir,
//! a move on the server, and kept mail that the server has again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::index::Index;
use super::{FileId, Trees, refiling, sent, without_size};
use crate::model::{
    ContentHash, Fingerprint, FolderId, Gone, Identity, Row, RowId, ServerId, State, SystemFlags,
};

/// What an arrival turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// A row that lost its UID, or a `kept` one.
    Row(RowId),
    /// A file without a row; whether the bytes are known to be equal.
    File(FileId, bool),
    /// A file that was sent or fetched by a command that broke, and moved here since: the message
    /// follows it.
    Refiled(FileId),
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
    pub fn join(&mut self, arrival: RowId, with: Known) {
        self.by_arrival.insert(arrival, with);
        match with {
            Known::Row(r) => {
                self.by_row.insert(r, arrival);
            }
            Known::File(f, _) | Known::Refiled(f) => {
                self.files.insert(f);
            }
        }
    }

    fn is_free(&self, c: Known) -> bool {
        match c {
            Known::Row(r) => !self.by_row.contains_key(&r),
            Known::File(f, _) | Known::Refiled(f) => !self.files.contains(&f),
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
    /// The server has it again in another folder, and its file is there, too.
    KeptMoved,
    /// The same from another folder.
    KeptElsewhere,
    /// A file in the same folder that no row knows.
    Files,
    /// The same in another folder: only where the ledger cannot know of a move. Else only what no
    /// row knows: what stood here before the ledger, and is held; and what came from a server,
    /// fetched when we were killed, and moved here since.
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

/// In a first pass, what is on both sides has no row, and its file stands in its folder: that is
/// closer than an equal one that was `kept` elsewhere, unless it is the file of that.
const FIRST_PASS: [Round; 10] = [
    Round::Epoch,
    Round::Vanished,
    Round::EpochElsewhere,
    Round::Absent,
    Round::AbsentElsewhere,
    Round::Kept,
    Round::KeptMoved,
    Round::Files,
    Round::KeptElsewhere,
    Round::FilesElsewhere,
];

impl Round {
    fn same_folder(self) -> bool {
        matches!(self, Self::Epoch | Self::Kept | Self::KeptMoved | Self::Absent | Self::Files)
    }

    fn takes(self, row: &Row) -> bool {
        match self {
            // both have their message there still, under another UID
            Self::Epoch | Self::EpochElsewhere => {
                matches!(row.state, State::Synced | State::Absent) && row.gone == Some(Gone::Epoch)
            }
            Self::Vanished => row.state == State::Synced && row.gone == Some(Gone::Vanished),
            Self::Kept | Self::KeptMoved | Self::KeptElsewhere => row.state == State::Kept,
            Self::Absent | Self::AbsentElsewhere => {
                row.state == State::Absent && row.gone.is_some()
            }
            Self::Files | Self::FilesElsewhere => false,
        }
    }
}

/// One side of a group of messages that look alike.
struct Candidate<'a> {
    known: Known,
    folder: FolderId,
    identity: &'a Identity,
    exact: bool,
    draft: bool,
    /// Its UID vanished. A message that was moved has the INTERNALDATE it had.
    vanished: bool,
}

/// Joins arrivals with what we know. Arrivals whose bytes are needed first go into `wants`.
pub(super) fn pair(trees: &Trees, index: &Index<'_>, wants: &mut BTreeSet<RowId>) -> Pairs {
    let mut pairs = Pairs::default();
    let arrivals: Vec<&Row> =
        trees.rows.values().filter(|r| r.state == State::Pending && r.uid.is_some()).collect();
    if arrivals.is_empty() {
        return pairs;
    }
    sent::copies(trees, index, &arrivals, &mut pairs);
    sent::uploads(trees, index, &arrivals, &mut pairs, wants);
    let rounds = if trees.first_pass { &FIRST_PASS[..] } else { &ROUNDS };
    let after_files = |r: &Round| trees.first_pass && *r == Round::KeptElsewhere;
    let first = rounds.iter().copied().filter(|r| !after_files(r));
    by_server_id(trees, first, &arrivals, &mut pairs);
    for &round in rounds {
        if after_files(&round) {
            by_server_id(trees, [round], &arrivals, &mut pairs);
        }
        by_fingerprint(trees, index, round, &arrivals, &mut pairs, wants);
        if round == Round::Files && trees.first_pass {
            // what stands in its folder is closer than an equal one in another
            without_size::in_their_own_folders(trees, &arrivals, &mut pairs, wants);
        }
    }
    if trees.first_pass {
        without_size::in_folders(trees, &arrivals, &mut pairs, wants);
        without_size::elsewhere(trees, &arrivals, &mut pairs, wants);
    }
    pairs
}

fn candidates<'a>(
    trees: &'a Trees,
    index: &Index<'_>,
    round: Round,
    arrivals: &[&Row],
    pairs: &Pairs,
) -> Vec<Candidate<'a>> {
    let places = |r: &Row| match round {
        Round::KeptMoved if trees.missing.contains(&r.id) => {
            index.files(trees, &r.identity).map(|(_, f)| f.folder).collect()
        }
        Round::KeptMoved => BTreeSet::new(),
        _ => BTreeSet::from([r.folder]),
    };
    let rows = trees.rows.values().filter(|r| round.takes(r));
    let rows = rows.flat_map(|r| places(r).into_iter().map(move |folder| (r, folder)));
    let rows = rows.map(|(r, folder)| Candidate {
        known: Known::Row(r.id),
        folder,
        identity: &r.identity,
        exact: r.exact,
        draft: r.agreed.has(SystemFlags::DRAFT),
        vanished: r.gone == Some(Gone::Vanished),
    });
    let later = round == Round::FilesElsewhere && !trees.first_pass;
    let held = |id: &FileId| trees.held.contains(id);
    let lost = match round {
        Round::Files => refiling::lost(trees, index, arrivals, pairs),
        _ => BTreeSet::new(),
    };
    let files = trees.files.iter().filter(|(id, f)| match round {
        Round::Files => !lost.contains(id),
        Round::FilesElsewhere => {
            !later || (held(id) || f.place.file.base.is_ours()) && !index.is_known(&f.identity)
        }
        _ => false,
    });
    let files = files.map(|(id, f)| Candidate {
        known: if later && !held(id) { Known::Refiled(*id) } else { Known::File(*id, true) },
        folder: f.folder,
        identity: &f.identity,
        exact: true,
        draft: f.flags.has(SystemFlags::DRAFT),
        vanished: false,
    });
    let mut all: Vec<_> = rows.chain(files).filter(|c| pairs.is_free(c.known)).collect();
    // among equal ones, those whose file is here: nothing is downloaded then
    all.sort_by_key(|c| match c.known {
        Known::Row(r) => (
            trees.missing.contains(&r),
            trees.rows.get(&r).is_some_and(|r| r.state == State::Absent),
        ),
        Known::File(..) | Known::Refiled(_) => (false, false),
    });
    all
}

/// The server's own id is proof. Labels share one id: the same folder goes first.
fn by_server_id(
    trees: &Trees,
    rounds: impl IntoIterator<Item = Round>,
    arrivals: &[&Row],
    pairs: &mut Pairs,
) {
    if arrivals.iter().all(|a| a.identity.server_id.is_none()) {
        return;
    }
    for round in rounds {
        let mut known: BTreeMap<(&ServerId, Option<FolderId>), VecDeque<RowId>> = BTreeMap::new();
        for r in trees.rows.values().filter(|r| round.takes(r)) {
            if let Some(id) = &r.identity.server_id {
                let folder = round.same_folder().then_some(r.folder);
                known.entry((id, folder)).or_default().push_back(r.id);
            }
        }
        if known.is_empty() {
            continue;
        }
        for a in arrivals {
            let Some(id) = &a.identity.server_id else { continue };
            if pairs.by_arrival.contains_key(&a.id) {
                continue;
            }
            let folder = round.same_folder().then_some(a.folder);
            let Some(rows) = known.get_mut(&(id, folder)) else { continue };
            while let Some(r) = rows.pop_front() {
                if pairs.is_free(Known::Row(r)) {
                    pairs.join(a.id, Known::Row(r));
                    break;
                }
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
    index: &Index<'_>,
    round: Round,
    arrivals: &[&Row],
    pairs: &mut Pairs,
    wants: &mut BTreeSet<RowId>,
) {
    let candidates = candidates(trees, index, round, arrivals, pairs);
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
            ([a], [c]) if proves(trees, round, &key, a, c) => {
                if pairs.is_free(c.known) {
                    pairs.join(a.id, c.known);
                }
            }
            _ => by_content(&arrived, &known, pairs, wants),
        }
    }
}

/// Whether Message-ID, Date and size, unique on both sides, are enough. Where sizes lie, a file's
/// says nothing; but what the server said of the same message before, it says again.
fn proves(trees: &Trees, round: Round, key: &Key<'_>, a: &Row, c: &Candidate<'_>) -> bool {
    let moved_alike = !c.vanished || a.identity.internal_date == c.identity.internal_date;
    let contradicted =
        c.exact && matches!((a.identity.content, c.identity.content), (Some(x), Some(y)) if x != y);
    let sized = !trees.sizes_lie
        || matches!(c.known, Known::Row(_)) && a.identity.wire_size == c.identity.wire_size;
    key.fingerprint.is_complete()
        && sized
        && !is_draft(trees, a, c)
        && moved_alike
        && !contradicted
        && !bytes_decide(trees, round, c)
}

/// Two messages may be alike but for their bytes. Where the ledger knows what came when, an arrival
/// that nothing accounts for is a new message until its bytes say otherwise: fetching one for
/// nothing is cheap, and taking one for another loses it.
fn bytes_decide(trees: &Trees, round: Round, c: &Candidate<'_>) -> bool {
    let unaccounted =
        matches!(round, Round::Kept | Round::KeptElsewhere | Round::Files | Round::FilesElsewhere);
    unaccounted && !trees.first_pass && c.identity.content.is_some()
}

/// An edited draft keeps its Message-ID and Date, and may keep its size.
fn is_draft(trees: &Trees, a: &Row, c: &Candidate<'_>) -> bool {
    c.draft || sent::is_draft(trees, a) || trees.is_drafts(c.folder)
}

/// What is compared of two messages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Bytes {
    All(ContentHash),
    /// All but what readers and mbsync write.
    Left(ContentHash),
}

type BytesOf = fn(&Identity) -> Option<Bytes>;

impl Bytes {
    fn all(i: &Identity) -> Option<Self> {
        i.content.map(Self::All)
    }

    fn left(i: &Identity) -> Option<Self> {
        i.reader.map(Self::Left)
    }
}

/// Settles a group by the bytes. Equal copies pair by multiplicity.
fn by_content(
    arrived: &[&Row],
    known: &[&Candidate<'_>],
    pairs: &mut Pairs,
    wants: &mut BTreeSet<RowId>,
) {
    // Among equal copies, first those with the same INTERNALDATE, which a move keeps; then the same
    // folder; then in the order of the ledger.
    type Fits = (Bytes, Option<i64>, Option<FolderId>);
    let ways: [fn(Bytes, &Identity, FolderId) -> Fits; 3] = [
        |h, i, _| (h, Some(i.internal_date), None),
        |h, _, folder| (h, None, Some(folder)),
        |h, _, _| (h, None, None),
    ];
    let mut left: BTreeMap<Fits, VecDeque<Known>> = BTreeMap::new();
    for c in known {
        // Equal to the bytes of either copy is proof, even where the two differ. Where only those of
        // the file were read (mbsync marked it), it is what is left of them.
        let Some(h) = Bytes::all(c.identity).or(Bytes::left(c.identity).filter(|_| !c.exact))
        else {
            continue;
        };
        for way in ways {
            left.entry(way(h, c.identity, c.folder)).or_default().push_back(c.known);
        }
    }
    if left.is_empty() {
        return;
    }
    wants.extend(arrived.iter().filter(|a| a.identity.content.is_none()).map(|a| a.id));
    for (way, bytes) in ways.iter().flat_map(|w| [(w, Bytes::all as BytesOf), (w, Bytes::left)]) {
        for a in arrived.iter().filter(|a| a.identity.content.is_some()) {
            let Some(h) = bytes(&a.identity) else { continue };
            if pairs.by_arrival.contains_key(&a.id) {
                continue;
            }
            let Some(fitting) = left.get_mut(&way(h, &a.identity, a.folder)) else { continue };
            while let Some(known) = fitting.pop_front() {
                if pairs.is_free(known) {
                    pairs.join(a.id, known);
                    break;
                }
            }
        }
    }
}
