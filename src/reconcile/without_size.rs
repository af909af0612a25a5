//! The last round of a first pass: what another program or a reader wrote anew has another size
//! than the server's copy, and is the same message all the same.

use std::collections::{BTreeMap, BTreeSet};

use super::pairing::{Known, Pairs};
use super::{FileId, Trees};
use crate::model::{Fingerprint, FolderId, Row, RowId, SystemFlags};

/// In a first pass, a Message-ID and Date that stand once on each side of a folder pair without
/// the size: other programs add headers to what they store.
pub(super) fn in_folders(
    trees: &Trees,
    arrivals: &[&Row],
    pairs: &mut Pairs,
    wants: &BTreeSet<RowId>,
) {
    let groups = alike(trees, arrivals, pairs, wants, Some);
    for ((_, fingerprint), group) in groups {
        if let Some((a, f)) = group.once().filter(|_| fingerprint.is_complete()) {
            // a hash that is known to differ ties nothing together
            pairs.join(a.id, Known::File(f, false));
        }
    }
}

/// The same before other folders are looked at, but for files that have the size of what arrived
/// in one of these: they were refiled.
pub(super) fn in_their_own_folders(
    trees: &Trees,
    arrivals: &[&Row],
    pairs: &mut Pairs,
    wants: &BTreeSet<RowId>,
) {
    let left = arrivals.iter().filter(|a| !pairs.by_arrival.contains_key(&a.id));
    let sizes: BTreeSet<(&Fingerprint, u64)> =
        left.map(|a| (&a.identity.fingerprint, a.identity.wire_size)).collect();
    let refiled = |f: FileId| {
        let i = trees.files.get(&f).map(|f| &f.identity);
        !trees.sizes_lie && i.is_some_and(|i| sizes.contains(&(&i.fingerprint, i.wire_size)))
    };
    for ((_, fingerprint), group) in alike(trees, arrivals, pairs, wants, Some) {
        let once = group.once().filter(|(_, f)| fingerprint.is_complete() && !refiled(*f));
        if let Some((a, f)) = once {
            pairs.join(a.id, Known::File(f, false));
        }
    }
}

/// The same across folders: what a reader or another program wrote anew was refiled before the
/// ledger went. Where it is not the only one, or the one that was sent of two copies, the bytes
/// decide, but for what readers write.
pub(super) fn elsewhere(
    trees: &Trees,
    arrivals: &[&Row],
    pairs: &mut Pairs,
    wants: &mut BTreeSet<RowId>,
) {
    let groups = alike(trees, arrivals, pairs, wants, |_| None);
    for ((_, fingerprint), group) in groups {
        let is_sent = |id| trees.files.get(&id).is_some_and(|f| trees.is_sent(f.folder));
        if let Some((a, f)) = group.once()
            && fingerprint.is_complete()
            && a.identity.content.is_none()
            && is_sent(f) == trees.is_sent(a.folder)
        {
            pairs.join(a.id, Known::File(f, false));
            continue;
        }
        by_reader(trees, &group.arrived, &group.files, pairs, wants);
        // an edited draft keeps its Message-ID and Date, but not its bytes; either side may lack the
        // flag
        let arrived: Vec<&Row> = group.drafts.0.into_iter().chain(group.arrived).collect();
        let files: Vec<FileId> = group.drafts.1.into_iter().chain(group.files).collect();
        by_reader(trees, &arrived, &files, pairs, wants);
    }
}

/// Joins by the bytes, but for what readers and mbsync write: in the same folder, or in any.
fn by_reader(
    trees: &Trees,
    arrived: &[&Row],
    files: &[FileId],
    pairs: &mut Pairs,
    wants: &mut BTreeSet<RowId>,
) {
    if files.iter().all(|f| pairs.files.contains(f)) {
        return;
    }
    let left = arrived.iter().filter(|a| !pairs.by_arrival.contains_key(&a.id));
    wants.extend(left.filter(|a| a.identity.content.is_none()).map(|a| a.id));
    for same_folder in [true, false] {
        for a in arrived {
            let fits = |id: &&FileId| {
                !pairs.files.contains(id)
                    && trees.files.get(id).is_some_and(|f| {
                        a.identity.reader.is_some()
                            && f.identity.reader == a.identity.reader
                            && (!same_folder || f.folder == a.folder)
                    })
            };
            if !pairs.by_arrival.contains_key(&a.id)
                && let Some(f) = files.iter().find(fits)
            {
                pairs.join(a.id, Known::File(*f, false));
            }
        }
    }
}

/// Arrivals and files that have no pair yet, by Message-ID and Date and by what `at` makes of the
/// folder. Drafts stand apart.
fn alike<'a>(
    trees: &'a Trees,
    arrivals: &[&'a Row],
    pairs: &Pairs,
    wants: &BTreeSet<RowId>,
    at: impl Fn(FolderId) -> Option<FolderId>,
) -> BTreeMap<(Option<FolderId>, &'a Fingerprint), Alike<'a>> {
    let mut groups: BTreeMap<_, Alike<'_>> = BTreeMap::new();
    let draft = |folder: FolderId, flagged: bool| flagged || trees.is_drafts(folder);
    for (id, f) in &trees.files {
        let group = groups.entry((at(f.folder), &f.identity.fingerprint)).or_default();
        if pairs.files.contains(id) {
            group.more = true;
        } else if draft(f.folder, f.flags.has(SystemFlags::DRAFT)) {
            group.more = true;
            group.drafts.1.push(*id);
        } else {
            group.files.push(*id);
        }
    }
    for a in arrivals {
        let Some(group) = groups.get_mut(&(at(a.folder), &a.identity.fingerprint)) else {
            continue;
        };
        if pairs.by_arrival.contains_key(&a.id) || wants.contains(&a.id) {
            group.more = true;
        } else if draft(a.folder, a.remote.has(SystemFlags::DRAFT)) {
            group.more = true;
            group.drafts.0.push(a);
        } else {
            group.arrived.push(a);
        }
    }
    groups
}

/// What stands alike on both sides, and has no pair yet.
#[derive(Default)]
struct Alike<'a> {
    arrived: Vec<&'a Row>,
    files: Vec<FileId>,
    /// The drafts among both.
    drafts: (Vec<&'a Row>, Vec<FileId>),
    /// There are more, which have a pair or may get one.
    more: bool,
}

impl<'a> Alike<'a> {
    /// The two that stand once on each side.
    fn once(&self) -> Option<(&'a Row, FileId)> {
        match (self.arrived.as_slice(), self.files.as_slice()) {
            ([a], [f]) if !self.more => Some((a, *f)),
            _ => None,
        }
    }
}
