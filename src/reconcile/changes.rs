//! The decision tables: for every row, arrival, file and folder, what happened to it.

use std::collections::{BTreeMap, BTreeSet};

use super::index::Index;
use super::pairing::{Known, Pairs};
use super::refiling::{Refiled, is_only_here};
use super::{Change, Folder, Plan, Presence, Trees};
use crate::model::{ContentHash, Flags, FolderId, Gone, Row, RowId, SpecialUse, State};

/// Every change once, in the order in which changes are acted on: folders, then what only joins,
/// then moves and copies, then what brings bytes, then flags, and what takes away last: messages
/// before the folders that they leave empty.
pub(super) fn changes(
    trees: &Trees,
    index: &Index<'_>,
    pairs: &Pairs,
    refiled: &Refiled<'_>,
) -> Plan {
    let mut out = Out::default();
    let twins = Twins::of(trees, pairs);
    let look = Look { trees, index, pairs, refiled, twins };
    for (id, f) in &trees.folders {
        folder(trees, *id, f, &mut out);
    }
    for row in trees.rows.values() {
        match row.state {
            State::Synced => synced(&look, row, &mut out),
            State::Kept => kept(trees, pairs, refiled, row, &mut out),
            State::Absent => absent(trees, pairs, refiled, row, &mut out),
            State::Pending => arrival(&look, row, &mut out),
        }
    }
    files(trees, pairs, refiled, &mut out);
    let mut changes = Vec::new();
    let Out { folders, joins, moves, arrivals, flags, vanished, emptied, .. } = out;
    for part in [folders, joins, moves, arrivals, flags, vanished, emptied] {
        changes.extend(part);
    }
    Plan { changes, wants: Default::default(), waiting: out.waiting }
}

#[derive(Default)]
struct Out {
    folders: Vec<Change>,
    joins: Vec<Change>,
    moves: Vec<Change>,
    arrivals: Vec<Change>,
    flags: Vec<Change>,
    vanished: Vec<Change>,
    emptied: Vec<Change>,
    waiting: u64,
}

/// All that a row's fate depends on.
struct Look<'a> {
    trees: &'a Trees,
    index: &'a Index<'a>,
    pairs: &'a Pairs,
    refiled: &'a Refiled<'a>,
    twins: Twins,
}

fn folder(trees: &Trees, id: FolderId, f: &Folder, out: &mut Out) {
    if !f.selected {
        return;
    }
    match (f.server, f.disk) {
        (Presence::There, Presence::Never) => out.folders.push(Change::FolderArrived(id)),
        (Presence::Never, Presence::There) => out.folders.push(Change::FolderAppeared(id)),
        // like its messages, it waits where not everything was looked at: those whose fate is not
        // known yet may need it
        (Presence::Vanished, _) if !trees.remote_complete => {}
        (_, Presence::Vanished) if !trees.local_complete => {}
        // what a removal cut short may have left of it; or it was renamed here, and was never there
        (Presence::Vanished, Presence::There | Presence::Vanished)
        | (Presence::Never, Presence::Vanished) => {
            out.emptied.push(Change::FolderVanishedThere(id));
        }
        (Presence::There, Presence::Vanished) => out.emptied.push(Change::FolderVanishedHere(id)),
        _ => {}
    }
    if let Some(from) = f.pull_from {
        let obscure = trees.first_pass && trees.unread.iter().any(|u| u.folder == id);
        out.arrivals.push(match obscure {
            true => Change::Obscure(id),
            false => Change::Pull { folder: id, from },
        });
    }
}

/// Where a row's file is.
#[derive(Clone, Copy)]
enum Here {
    There,
    Moved(super::FileId),
    Missing,
}

fn here(trees: &Trees, refiled: &Refiled<'_>, row: &Row) -> Here {
    match (refiled.moved.get(&row.id), trees.missing.contains(&row.id)) {
        (Some(f), _) => Here::Moved(*f),
        (None, true) => Here::Missing,
        (None, false) => Here::There,
    }
}

/// A file that was only renamed where it stands was not moved: the row learns its name first, and
/// then everything is as if it were there.
fn renamed(trees: &Trees, row: &Row, here: Here) -> Option<super::FileId> {
    match here {
        Here::Moved(f) if trees.files.get(&f).is_some_and(|x| x.folder == row.folder) => Some(f),
        _ => None,
    }
}

fn synced(look: &Look<'_>, row: &Row, out: &mut Out) {
    let Look { trees, index, pairs, refiled, twins } = look;
    let id = row.id;
    let arrival = pairs.by_row.get(&id).copied();
    let mut here = here(trees, refiled, row);
    if let Some(file) = refiled.edited_of.get(&id) {
        // first what its file became
        if matches!((row.gone, here), (None, Here::Missing)) {
            out.vanished.push(Change::Replaced { row: id, file: *file });
        }
        return;
    }
    let renamed = renamed(trees, row, here);
    if let Some(file) = renamed {
        out.joins.push(Change::MovedHere { row: id, file });
        here = Here::There;
    }
    match (row.gone, arrival, here) {
        // what the row says of the flags of a file that has another place now is old; the next
        // plan merges them
        (None, _, Here::There) if renamed.is_some() => {}
        (None, _, Here::There) => flags(row, out),
        (None, _, Here::Moved(file)) => out.moves.push(Change::MovedHere { row: id, file }),
        (None, _, Here::Missing) => match copy_of(trees, index, pairs, row) {
            // where not everything was looked at, it may as well stand elsewhere
            _ if !trees.local_complete => out.waiting += 1,
            Some(copy) => out.vanished.push(Change::MoveCompleted { row: id, copy }),
            None => out.vanished.push(Change::VanishedHere(id)),
        },
        (Some(_), Some(arrival), Here::There) => {
            out.joins.push(Change::Renumbered { row: id, arrival });
        }
        (Some(_), Some(arrival), Here::Moved(file)) => {
            out.joins.push(Change::MovedBoth { row: id, arrival, file });
        }
        // its move broke in the middle, and is completed when it has its UID
        (Some(Gone::Epoch), Some(arrival), Here::Missing)
            if is_in(trees, arrival, row.folder) && copy_of(trees, index, pairs, row).is_some() =>
        {
            out.joins.push(Change::Renumbered { row: id, arrival });
        }
        (Some(_), Some(arrival), Here::Missing) => {
            out.arrivals.push(Change::DeletedThenMoved { row: id, arrival });
        }
        (Some(gone), None, here) => {
            if !trees.remote_complete {
                out.waiting += 1;
                return;
            }
            match here {
                Here::There => out.vanished.push(Change::VanishedThere {
                    row: id,
                    twin: twins.twin(row),
                    epoch: gone == Gone::Epoch,
                }),
                Here::Moved(file) => out.joins.push(Change::MovedKept { row: id, file }),
                Here::Missing if trees.local_complete => {
                    out.vanished.push(Change::VanishedBoth(id));
                }
                Here::Missing => out.waiting += 1,
            }
        }
    }
}

fn is_in(trees: &Trees, row: RowId, folder: FolderId) -> bool {
    trees.rows.get(&row).is_some_and(|r| r.folder == folder)
}

fn kept(trees: &Trees, pairs: &Pairs, refiled: &Refiled<'_>, row: &Row, out: &mut Out) {
    let id = row.id;
    let arrival = pairs.by_row.get(&id).copied();
    let mut here = here(trees, refiled, row);
    if let (Some(file), Some(_)) = (renamed(trees, row, here), arrival) {
        out.joins.push(Change::MovedKept { row: id, file });
        here = Here::There;
    }
    match (arrival, here) {
        (None, Here::There) => {}
        (Some(arrival), Here::There) => out.joins.push(Change::Renumbered { row: id, arrival }),
        (Some(arrival), Here::Moved(file)) => {
            out.joins.push(Change::MovedBoth { row: id, arrival, file });
        }
        (None, Here::Moved(file)) => out.joins.push(Change::MovedKept { row: id, file }),
        (_, Here::Missing) if !trees.local_complete => out.waiting += 1,
        (Some(arrival), Here::Missing) => {
            out.arrivals.push(Change::DeletedThenMoved { row: id, arrival });
        }
        (None, Here::Missing) => out.vanished.push(Change::VanishedBoth(id)),
    }
}

fn absent(trees: &Trees, pairs: &Pairs, refiled: &Refiled<'_>, row: &Row, out: &mut Out) {
    let id = row.id;
    match (row.gone, pairs.by_row.get(&id), refiled.moved.get(&id)) {
        (None, _, Some(file)) => out.moves.push(Change::MovedHere { row: id, file: *file }),
        (None, _, None) => {}
        (Some(_), Some(arrival), Some(file)) => {
            out.joins.push(Change::MovedBoth { row: id, arrival: *arrival, file: *file });
        }
        (Some(_), Some(arrival), None) => {
            out.joins.push(Change::AbsentRenumbered { row: id, arrival: *arrival });
        }
        (Some(_), None, _) if !trees.remote_complete => out.waiting += 1,
        (Some(_), None, Some(file)) => out.joins.push(Change::MovedKept { row: id, file: *file }),
        (Some(_), None, None) => out.vanished.push(Change::VanishedBoth(id)),
    }
}

fn arrival(look: &Look<'_>, row: &Row, out: &mut Out) {
    let Look { trees, index, pairs, .. } = look;
    match pairs.by_arrival.get(&row.id) {
        Some(Known::Row(_)) => {} // said of that row
        Some(Known::File(file, exact)) => {
            out.joins.push(Change::Adopted { arrival: row.id, file: *file, exact: *exact });
        }
        Some(Known::Refiled(file)) => {
            out.moves.push(Change::MovedHere { row: row.id, file: *file });
        }
        None if trees.first_pass && trees.unread.iter().any(|u| u.may_be(row, trees.sizes_lie)) => {
            out.arrivals.push(Change::Obscure(row.folder));
        }
        None => {
            out.arrivals.push(Change::Arrived { arrival: row.id, twin: index.linkable(row) });
        }
    }
}

fn files(trees: &Trees, pairs: &Pairs, refiled: &Refiled<'_>, out: &mut Out) {
    for (id, f) in &trees.files {
        if pairs.files.contains(id) {
            continue;
        }
        if let Some(of) = refiled.copied.get(id) {
            match trees.rows.get(of) {
                Some(r) if is_only_here(pairs, r) => {
                    if r.state == State::Synced && !trees.remote_complete {
                        out.waiting += 1; // its message may be where nobody could look
                    } else {
                        out.moves.push(Change::MovedKept { row: *of, file: *id });
                    }
                }
                _ => out.moves.push(Change::CopiedHere { of: *of, file: *id }),
            }
        } else if refiled.is_taken(*id) {
            // said of its row
        } else if let Some(of) = refiled.outside.get(id) {
            // saved out of a folder that is left alone
            out.arrivals.push(match of.state {
                State::Kept => Change::MovedKept { row: of.id, file: *id },
                _ => Change::Appeared(*id),
            });
        } else if refiled.edited.contains(id) {
            out.arrivals.push(Change::Appeared(*id));
        } else if f.place.file.base.is_ours() && !trees.first_pass && !trees.local_complete {
            // where not everything was looked at, the row may be known yet whose file it was
            out.waiting += 1;
        } else if f.place.file.base.is_ours() {
            out.joins.push(Change::Unknown { file: *id, ours: true });
        } else if trees.first_pass {
            out.joins.push(Change::Unknown { file: *id, ours: false });
        } else {
            out.arrivals.push(Change::Appeared(*id));
        }
    }
}

fn flags(row: &Row, out: &mut Out) {
    if row.remote != row.agreed || row.local != row.agreed {
        let merged = Flags::merge(&row.agreed, &row.remote, &row.local);
        out.flags.push(Change::Flags { row: row.id, merged });
    }
}

/// The copy that makes a missing file the end of a move, not a deletion. One that an interrupted
/// command made is still to be fetched, or to be joined with its file.
fn copy_of(trees: &Trees, index: &Index<'_>, pairs: &Pairs, row: &Row) -> Option<RowId> {
    let stands = |c: &Row| match c.state {
        State::Synced => !trees.missing.contains(&c.id),
        State::Pending => !matches!(pairs.by_arrival.get(&c.id), Some(Known::Row(_))),
        State::Kept | State::Absent => false,
    };
    let mut copies = index.copies_of(row.id).iter();
    let there = |c: &Row| c.on_server() || pairs.by_row.contains_key(&c.id);
    copies.find(|c| there(c) && stands(c)).map(|c| c.id)
}

/// Rows with the same bytes on the server and here.
struct Twins {
    /// Outside Trash and Junk: the first of each folder.
    copies: BTreeMap<(ContentHash, FolderId), RowId>,
    /// What vanished, and the message in `\Trash` that it is: folders are looked into one after the
    /// other, and so it was seen to arrive before it was seen to go. One that took a keep along
    /// stands for another already.
    trashed: BTreeMap<RowId, RowId>,
}

impl Twins {
    fn of(trees: &Trees, pairs: &Pairs) -> Self {
        let mut copies = BTreeMap::new();
        let mut in_trash: BTreeMap<ContentHash, BTreeSet<RowId>> = BTreeMap::new();
        for t in trees.rows.values() {
            let Some(f) = trees.folders.get(&t.folder).filter(|f| f.selected) else { continue };
            if let Some(content) = t.identity.content
                && t.state == State::Synced
                && t.exact
                && (t.on_server() || pairs.by_row.contains_key(&t.id))
                && !trees.missing.contains(&t.id)
            {
                match f.special_use {
                    Some(SpecialUse::Junk) => {}
                    Some(SpecialUse::Trash) if t.keeps => {}
                    Some(SpecialUse::Trash) => {
                        in_trash.entry(content).or_default().insert(t.id);
                    }
                    _ => {
                        copies.entry((content, t.folder)).or_insert(t.id);
                    }
                }
            }
        }
        let mut trashed = BTreeMap::new();
        let vanished = trees.rows.values().filter(|r| {
            r.gone == Some(Gone::Vanished)
                && r.state == State::Synced
                && r.exact
                && !pairs.by_row.contains_key(&r.id)
                && !trees.missing.contains(&r.id)
        });
        for r in vanished {
            let Some(arrived) = r.identity.content.and_then(|c| in_trash.get_mut(&c)) else {
                continue;
            };
            // what was there before is another one
            let arrives = |t: &RowId| *t > r.id && trees.newest_before.is_some_and(|n| *t > n);
            let Some(t) = arrived.iter().copied().find(arrives) else { continue };
            arrived.remove(&t);
            trashed.insert(r.id, t);
        }
        Self { copies, trashed }
    }

    /// The twin of a row in another folder: what vanished was one of several labels or copies, or
    /// moved to `\Trash`.
    fn twin(&self, row: &Row) -> Option<RowId> {
        let content = row.identity.content.filter(|_| row.exact)?;
        let all = (content, FolderId(i64::MIN))..=(content, FolderId(i64::MAX));
        let copies = self.copies.range(all).filter(|((_, f), _)| *f != row.folder);
        copies.map(|(_, id)| *id).min().or_else(|| self.trashed.get(&row.id).copied())
    }
}
