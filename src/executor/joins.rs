//! What only joins: rows take UIDs, places or states; files follow moves of the server. No byte of
//! mail goes over the wire.

use std::collections::{BTreeMap, BTreeSet};

use super::{here, journal};
use crate::account::pass::Pass;
use crate::error::Result;
use crate::ledger::{Action as Done, JournalEntry, Side};
use crate::model::{Flags, FolderId, Row, RowId, State, SystemFlags};
use crate::policy::RemoteDelete;
use crate::policy::decide::Action;
use crate::reconcile::{FileId, LocalFile, Trees};

/// How many joins go into one transaction.
const BATCH: usize = 500;

/// What joins change in the ledger, once the directories are synced.
#[derive(Default)]
struct Changes {
    remove: BTreeSet<RowId>,
    update: BTreeMap<RowId, Row>,
    insert: Vec<Row>,
    /// Arrivals, among them copies that interrupted commands made.
    adopted: Vec<Row>,
    entries: Vec<JournalEntry>,
    targets: BTreeSet<FolderId>,
    sources: BTreeSet<FolderId>,
    files: Vec<FileId>,
    found: BTreeSet<RowId>,
    /// Names that no row in the ledger has, and that are taken all the same.
    taken: here::Taken,
}

impl Changes {
    /// None yet; the files without a row keep their names.
    fn new(p: &Pass<'_>) -> Self {
        let names = p.files.values().map(|f| (f.folder, f.place.file.base.clone()));
        Self { taken: names.collect(), ..Self::default() }
    }

    /// The row as it will be: its place may be newer than that in the trees, and what this batch
    /// did to it is not in the ledger yet.
    fn now(&self, p: &Pass<'_>, id: RowId) -> Result<Option<Row>> {
        match self.update.get(&id) {
            _ if self.remove.contains(&id) => Ok(None),
            Some(row) => Ok(Some(row.clone())),
            None => p.ledger.with(|l| l.row(id)),
        }
    }

    /// Whether the row's file is where the row says.
    fn has_file(&self, p: &Pass<'_>, row: &Row) -> bool {
        row.place.is_some() && (self.found.contains(&row.id) || !p.missing.contains(&row.id))
    }

    fn update(&mut self, row: Row) {
        self.update.insert(row.id, row);
    }
}

/// Does all of them.
pub fn join(p: &mut Pass<'_>, trees: &Trees, actions: &[Action]) -> Result<()> {
    for part in actions.chunks(BATCH) {
        let mut c = Changes::new(p);
        for action in part {
            let one = one(p, trees, action, &mut c);
            p.each(one)?;
        }
        commit(p, c)?;
    }
    Ok(())
}

/// The row takes the arrival's UID, and the file's place, if that is in the same folder. If not, it
/// is like a row whose file was moved away; these moves are given back.
pub fn meet(
    p: &mut Pass<'_>,
    trees: &Trees,
    all: &[(RowId, RowId, FileId)],
) -> Result<Vec<(RowId, FileId)>> {
    let mut moves = Vec::new();
    for part in all.chunks(BATCH) {
        let mut c = Changes::new(p);
        let mut away = Vec::new();
        for (id, arrival, file) in part {
            let (Some(new), Some(f)) = (trees.rows.get(arrival), trees.files.get(file)) else {
                continue;
            };
            let Some(mut row) = c.now(p, *id)? else { continue };
            row.local.clone_from(&f.flags);
            let mut row = renumbered(p, &row, new);
            take_file(&mut row, f);
            let why = "moved on both sides";
            c.entries.push(journal::moved(p, Done::MoveHere, Side::Here, &row, f.folder, why));
            if new.folder == f.folder {
                c.files.push(*file);
                c.found.insert(*id);
            } else {
                row.place = Some(here::free_place(p, &mut c.taken, new.folder, &f.place, *id)?);
                away.push(*id);
                moves.push((*id, *file));
            }
            c.remove.insert(*arrival);
            c.update(row);
        }
        commit(p, c)?;
        p.missing.extend(away);
    }
    Ok(moves)
}

fn commit(p: &mut Pass<'_>, c: Changes) -> Result<()> {
    if c.update.is_empty() && c.insert.is_empty() && c.remove.is_empty() {
        return Ok(());
    }
    // a move: first its target, then its source
    let order: Vec<FolderId> = c.targets.iter().chain(&c.sources).copied().collect();
    here::sync(p, &order)?;
    p.write(|tx| {
        for id in &c.remove {
            tx.delete_row(*id)?;
        }
        for row in c.update.values() {
            tx.update_row(row)?;
        }
        for row in &c.insert {
            tx.insert_row(row)?;
        }
        c.adopted.iter().try_for_each(|a| tx.answer(a))?;
        c.entries.iter().try_for_each(|e| tx.journal(e))
    })?;
    for file in &c.files {
        p.files.remove(file);
    }
    for row in c.found.union(&c.remove) {
        p.missing.remove(row);
    }
    Ok(())
}

fn one(p: &mut Pass<'_>, trees: &Trees, action: &Action, c: &mut Changes) -> Result<()> {
    match action {
        Action::Adopt { arrival, file, exact } => adopt(p, trees, *arrival, *file, *exact, c),
        Action::Follow { row, arrival } => follow(p, trees, *row, *arrival, c),
        Action::KeepAt { row, file } => keep_at(p, trees, *row, *file, c),
        Action::KeepFile(file) => {
            if let Some(f) = trees.files.get(file) {
                let row = kept_row(f);
                let why = "it stays here only";
                c.entries.push(journal::of_row(p, Done::Keep, Side::Here, &row, why));
                c.insert.push(row);
                c.files.push(*file);
                p.report.kept += 1;
            }
            Ok(())
        }
        Action::StayAbsent { row, arrival } => {
            if let (Some(mut r), Some(a)) = (c.now(p, *row)?, trees.rows.get(arrival)) {
                r.state = State::Absent;
                r.folder = a.folder;
                r.uid = a.uid;
                r.gone = None;
                r.place = None;
                r.identity.server_id.clone_from(&a.identity.server_id);
                c.remove.insert(a.id);
                c.found.insert(r.id);
                c.update(r);
            }
            Ok(())
        }
        Action::Keep(id) => {
            change(p, *id, c, Done::Keep, "it went from the server", |r| {
                r.state = State::Kept;
                r.uid = None;
                r.gone = None;
            })?;
            p.report.kept += 1;
            Ok(())
        }
        Action::MakeAbsent(id) => {
            change(p, *id, c, Done::Absent, "removed here; it stays on the server", |r| {
                r.state = State::Absent;
                r.place = None;
            })?;
            c.found.insert(*id);
            Ok(())
        }
        Action::Refetch(id) => {
            let why = "its removal was rejected: it is fetched again";
            change(p, *id, c, Done::Reject, why, |r| {
                r.state = State::Pending;
                r.place = None;
                r.copy_of = None;
            })?;
            c.found.insert(*id);
            Ok(())
        }
        Action::Drop(id) => {
            if let Some(r) = c.now(p, *id)? {
                let why = "it is on neither side any more";
                c.entries.push(journal::of_row(p, Done::Drop, Side::Here, &r, why));
                c.remove.insert(*id);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn change(
    p: &Pass<'_>,
    id: RowId,
    c: &mut Changes,
    done: Done,
    why: &str,
    f: impl FnOnce(&mut Row),
) -> Result<()> {
    if let Some(mut r) = c.now(p, id)? {
        let side = if done == Done::Absent { Side::There } else { Side::Here };
        c.entries.push(journal::of_row(p, done, side, &r, why));
        f(&mut r);
        c.update(r);
    }
    Ok(())
}

/// A pair without an agreed base: flags are united, but `\Deleted` on one side alone is taken off.
pub fn unite(row: &mut Row) {
    let mut agreed = Flags {
        system: row.remote.system.intersection(row.local.system),
        keywords: row.remote.keywords.intersection(&row.local.keywords).cloned().collect(),
    };
    if row.remote.has(SystemFlags::DELETED) != row.local.has(SystemFlags::DELETED) {
        agreed.system = agreed.system.union(SystemFlags::DELETED);
    }
    row.agreed = agreed;
}

fn adopt(
    p: &mut Pass<'_>,
    trees: &Trees,
    arrival: RowId,
    file: FileId,
    exact: bool,
    c: &mut Changes,
) -> Result<()> {
    let (Some(a), Some(f)) = (trees.rows.get(&arrival), trees.files.get(&file)) else {
        return Ok(());
    };
    let mut row = a.clone();
    row.state = State::Synced;
    row.exact = exact;
    if exact {
        row.identity.content = f.identity.content;
    }
    row.identity.reader = f.identity.reader;
    if row.identity.fingerprint.message_id.is_empty() {
        row.identity.fingerprint = f.identity.fingerprint.clone();
    }
    row.local = f.flags.clone();
    unite(&mut row);
    row.place = Some(if f.folder == a.folder {
        f.place.clone()
    } else {
        let to = here::refile(p, f.folder, &f.place, a.folder, &f.flags, (row.id, &mut c.taken))?;
        c.targets.insert(a.folder);
        c.sources.insert(f.folder);
        to
    });
    let why = "the same message is on the server and here";
    c.entries.push(journal::of_row(p, Done::Adopt, Side::Here, &row, why));
    c.adopted.extend(a.copy_of.is_some().then(|| a.clone()));
    c.update(row);
    c.files.push(file);
    Ok(())
}

/// The row with the arrival's UID, folder and flags.
fn renumbered(p: &Pass<'_>, row: &Row, arrival: &Row) -> Row {
    let mut r = row.clone();
    let had_no_base = r.state != State::Synced;
    r.keeps = keeps_in(p, row, arrival.folder);
    r.state = State::Synced;
    r.folder = arrival.folder;
    r.uid = arrival.uid;
    r.gone = None;
    r.remote = arrival.remote.clone();
    r.identity.wire_size = arrival.identity.wire_size;
    r.identity.internal_date = arrival.identity.internal_date;
    r.identity.server_id.clone_from(&arrival.identity.server_id);
    if had_no_base {
        unite(&mut r);
    }
    r
}

/// Whether the row keeps its message in another folder, whatever holds there. Kept mail stays kept
/// wherever the server has it again, and goes. A message that goes to `\Trash` takes the keep of
/// the folder it came from along; it has it still when it leaves, since it may have been kept mail
/// before it came.
pub fn keeps_in(p: &Pass<'_>, row: &Row, to: FolderId) -> bool {
    let into_trash = row.folder != to && p.trash() == Some(to);
    row.state == State::Kept || row.keeps || into_trash && keeps(p, row.folder)
}

/// Whether a folder keeps what goes from the server.
fn keeps(p: &Pass<'_>, folder: FolderId) -> bool {
    p.folders.get(&folder).is_none_or(|f| f.policy.remote_delete == RemoteDelete::Keep)
}

fn follow(
    p: &mut Pass<'_>,
    trees: &Trees,
    row: RowId,
    arrival: RowId,
    c: &mut Changes,
) -> Result<()> {
    let (Some(old), Some(a)) = (c.now(p, row)?, trees.rows.get(&arrival)) else {
        return Ok(());
    };
    let mut new = renumbered(p, &old, a);
    if let (true, Some(place)) = (old.folder != a.folder, &old.place) {
        let to = here::refile(p, old.folder, place, a.folder, &new.local, (new.id, &mut c.taken))?;
        new.place = Some(to);
        c.targets.insert(a.folder);
        c.sources.insert(old.folder);
        let why = "it was moved on the server";
        c.entries.push(journal::moved(p, Done::MoveHere, Side::Here, &old, a.folder, why));
        p.report.moved += 1;
    } else {
        let why = "the server gave it another UID";
        c.entries.push(journal::of_row(p, Done::Adopt, Side::Here, &new, why));
    }
    c.remove.insert(arrival);
    c.update(new);
    Ok(())
}

/// The row stands where the file is. Where a reader rewrote it, the row keeps the hash of what the
/// server has, by which it is found again there; the other hash finds the file here.
pub fn take_file(row: &mut Row, f: &LocalFile) {
    row.exact &= row.identity.content == f.identity.content;
    row.identity.reader = f.identity.reader;
    row.place = Some(f.place.clone());
    row.local = f.flags.clone();
}

fn keep_at(
    p: &mut Pass<'_>,
    trees: &Trees,
    row: RowId,
    file: FileId,
    c: &mut Changes,
) -> Result<()> {
    let (Some(r), Some(f)) = (c.now(p, row)?, trees.files.get(&file)) else { return Ok(()) };
    let why = "it is not on the server any more, and stays where it was put";
    if c.has_file(p, &r) {
        let new = kept_row(f);
        c.entries.push(journal::of_row(p, Done::Keep, Side::Here, &new, why));
        c.insert.push(new);
    } else {
        let mut new = r.clone();
        new.state = State::Kept;
        new.folder = f.folder;
        new.uid = None;
        new.gone = None;
        take_file(&mut new, f);
        c.entries.push(journal::moved(p, Done::Keep, Side::Here, &r, f.folder, why));
        c.found.insert(row);
        c.update(new);
    }
    c.files.push(file);
    Ok(())
}

/// Files that only have another name in the same folder: their rows learn it.
pub fn rename(p: &mut Pass<'_>, trees: &Trees, all: &[(RowId, FileId)]) -> Result<()> {
    for part in all.chunks(BATCH) {
        let mut c = Changes::default();
        for (id, file) in part {
            let (Some(mut row), Some(f)) = (c.now(p, *id)?, trees.files.get(file)) else {
                continue;
            };
            take_file(&mut row, f);
            if row.state == State::Absent {
                row.state = State::Synced; // somebody put it back, with flags of its own
                unite(&mut row);
            }
            let why = "its file has another name";
            c.entries.push(journal::of_row(p, Done::MoveHere, Side::Here, &row, why));
            c.update(row);
            c.files.push(*file);
            c.found.insert(*id);
        }
        commit(p, c)?;
    }
    Ok(())
}

fn kept_row(f: &LocalFile) -> Row {
    Row {
        id: RowId(0),
        folder: f.folder,
        state: State::Kept,
        uid: None,
        gone: None,
        place: Some(f.place.clone()),
        agreed: f.flags.clone(),
        remote: f.flags.clone(),
        local: f.flags.clone(),
        identity: f.identity.clone(),
        exact: true,
        copy_of: None,
        keeps: false,
    }
}
