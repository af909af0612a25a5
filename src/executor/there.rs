//! Effects on the server: folders, moves, copies, flags and deletions. Before anything is moved or
//! destroyed there, the messages are compared with the rows once more.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

use super::joins::{keeps_in, take_file, unite};
use super::{by_folder, journal};
use crate::account::observe_pending;
use crate::account::pass::Pass;
use crate::error::{Error, Kind, Refusal, Result, Scope};
use crate::imap::{CopyUid, Expunged, FlagChange};
use crate::ledger::{Action as Done, Intent, IntentId, IntentKind, Side};
use crate::maildir::place_path;
use crate::model::{Flags, FolderId, Row, RowId, State, SystemFlags, Uid, UidSet};
use crate::reconcile::{FileId, LocalFile, Presence, Trees};

/// Makes the folder on the server.
pub async fn create_folder(p: &mut Pass<'_>, id: FolderId) -> Result<()> {
    let name = p.folder(id)?.rec.name.clone();
    p.guard.open(&p.ledger)?;
    let wire = p
        .session
        .create(&name)
        .await
        .map_err(|e| e.at(format_args!("cannot create folder {name} on the server")))
        .map_err(|e| match e.kind {
            Kind::Refused => e.next("give it a name here that the server takes, or exclude it"),
            _ => e,
        })?;
    let entry = journal::in_folder(p, Done::FolderCreate, Side::There, id, "it is here");
    let f = p.folder_mut(id)?;
    f.server = Presence::There;
    f.rec.wire = Some(wire);
    f.rec.on_server = true;
    p.write_folder(id, |tx| tx.journal(&entry))?;
    // its UIDVALIDITY must be known before anything in it is
    let selected = p.open_folder(id, true, None).await?;
    let f = p.folder_mut(id)?;
    if f.rec.uidvalidity.is_none() && selected.exists == 0 {
        f.rec.uidvalidity = selected.uidvalidity;
        f.rec.uidnext = selected.uidnext.or(Some(Uid::MIN));
        f.rec.modseq = selected.modseq;
        f.rec.messages = 0;
        p.write_folder(id, |_| Ok(()))?;
    }
    Ok(())
}

/// Removes the folder from the server, if it is empty there.
pub async fn remove_folder(p: &mut Pass<'_>, id: FolderId) -> Result<()> {
    let counts = p.ledger.with(|l| l.counts())?.get(&id).copied().unwrap_or_default();
    let name = p.folder(id)?.rec.name.clone();
    if counts != crate::ledger::Counts::default() || name.is_inbox() {
        return Ok(());
    }
    let wire = p.folder(id)?.wire()?;
    p.open = None;
    p.guard.open(&p.ledger)?;
    if p.session.delete_if_empty(&wire).await? {
        let entry =
            journal::in_folder(p, Done::FolderRemove, Side::There, id, "it was removed here");
        p.write(|tx| {
            tx.journal(&entry)?;
            tx.forget_folder(id)
        })?;
        p.folders.remove(&id);
    }
    Ok(())
}

/// Makes sure that the folder is on the server and can be put into.
pub async fn ensure_folder(p: &mut Pass<'_>, id: FolderId) -> Result<()> {
    if p.folder(id)?.server != Presence::There {
        create_folder(p, id).await?;
    }
    Ok(())
}

/// The rows of an open folder whose messages are what the ledger thinks, by UID.
async fn proven(p: &mut Pass<'_>, folder: FolderId, rows: Vec<Row>) -> Result<Vec<Row>> {
    p.select_known(folder).await?;
    let set: UidSet = rows.iter().filter_map(|r| r.uid).collect();
    if set.is_empty() {
        return Ok(Vec::new());
    }
    let sizes_lie = p.session.caps().sizes_lie;
    let found = p.session.fetch_sizes(&set).await?;
    let found: BTreeMap<Uid, _> = found.into_iter().map(|s| (s.uid, s)).collect();
    let mut out = Vec::new();
    let mut wrong = 0;
    for row in rows {
        let Some(s) = row.uid.and_then(|u| found.get(&u)) else {
            p.look_again = true; // gone meanwhile
            continue;
        };
        let same_id = match (&s.server_id, &row.identity.server_id) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        let same_size = sizes_lie || s.wire_size == row.identity.wire_size;
        if same_id && same_size && s.internal_date == row.identity.internal_date {
            out.push(row);
        } else {
            wrong += 1;
        }
    }
    if wrong > 0 {
        // another message has that UID: nothing in this folder is what we think
        let f = p.folder_mut(folder)?;
        f.rec.uidnext = None;
        f.rec.modseq = None;
        f.rec.uidvalidity = None;
        let name = f.rec.name.clone();
        p.open = None;
        p.look_again = true;
        p.write_folder(folder, |tx| tx.mark_epoch(folder).map(|_| ()))?;
        return Err(Error::folder(
            Kind::Raced,
            format!("folder {name}: {wrong} messages on the server are other ones than before"),
        )
        .next("nothing was changed there; its messages are paired again"));
    }
    Ok(out)
}

/// An intent to have a message in `target`.
fn intent(
    p: &Pass<'_>,
    kind: IntentKind,
    row: Option<&Row>,
    target: FolderId,
    file: Option<&LocalFile>,
) -> Result<Intent> {
    let to = &p.folder(target)?.rec;
    let identity = match (file, row) {
        (Some(f), _) => f.identity.clone(),
        (None, Some(r)) => r.identity.clone(),
        (None, None) => Default::default(),
    };
    Ok(Intent {
        id: IntentId(0),
        kind,
        row: row.map(|r| r.id),
        from: row.map(|r| r.folder),
        uid: row.and_then(|r| r.uid),
        target,
        source_folder: file.map(|f| f.folder),
        place: file.map(|f| f.place.clone()),
        identity,
        uidvalidity: to.uidvalidity,
        uidnext_before: to.uidnext,
        created: p.now(),
    })
}

pub(super) fn intents(
    p: &mut Pass<'_>,
    kind: IntentKind,
    all: &[(Option<&Row>, FolderId, Option<&LocalFile>)],
) -> Result<Vec<IntentId>> {
    let made: Result<Vec<Intent>> =
        all.iter().map(|(row, to, file)| intent(p, kind, *row, *to, *file)).collect();
    let made = made?;
    p.write(|tx| made.iter().map(|i| tx.add_intent(i)).collect())
}

pub(super) fn settle_intents(p: &mut Pass<'_>, ids: &[IntentId]) -> Result<()> {
    p.write(|tx| ids.iter().try_for_each(|i| tx.delete_intent(*i)))
}

/// Moves messages on the server to where their files are.
pub async fn move_messages(p: &mut Pass<'_>, trees: &Trees, all: &[(RowId, FileId)]) -> Result<()> {
    let mut groups: BTreeMap<(FolderId, FolderId), Vec<(Row, FileId)>> = BTreeMap::new();
    for (id, file) in all {
        let Some(f) = trees.files.get(file) else { continue };
        let row = p.row(*id)?;
        groups.entry((row.folder, f.folder)).or_default().push((row, *file));
    }
    for ((from, to), rows) in groups {
        let moved = move_group(p, trees, from, to, rows).await;
        p.each(moved)?;
    }
    Ok(())
}

fn done_with(p: &mut Pass<'_>, row: RowId, file: Option<FileId>) {
    p.missing.remove(&row);
    if let Some(f) = file {
        p.files.remove(&f);
    }
}

async fn move_group(
    p: &mut Pass<'_>,
    trees: &Trees,
    from: FolderId,
    to: FolderId,
    rows: Vec<(Row, FileId)>,
) -> Result<()> {
    ensure_folder(p, to).await?;
    let files: BTreeMap<RowId, FileId> = rows.iter().map(|(r, f)| (r.id, *f)).collect();
    let rows = proven(p, from, rows.into_iter().map(|(r, _)| r).collect()).await?;
    let set: UidSet = rows.iter().filter_map(|r| r.uid).collect();
    if set.is_empty() {
        return Ok(());
    }
    let wire = p.folder(to)?.wire()?;
    let file_of = |row: &Row| files.get(&row.id).and_then(|f| trees.files.get(f));
    let open: Vec<_> = rows.iter().map(|r| (Some(r), to, file_of(r))).collect();
    let open = intents(p, IntentKind::Move, &open)?;
    let moved = match p.session.move_messages(&set, &wire).await {
        Err(e) if e.kind == Kind::Refused => {
            settle_intents(p, &open)?;
            return refused(p, to, e);
        }
        other => other?,
    };
    let why = "it was moved here";
    let (copied, expunged) = moved;
    let Some(pairs) = pairs(p, to, copied)? else {
        // its new UID is found by pairing
        p.look_again = true;
        return p.write(|tx| {
            match expunged {
                Expunged::Done => {
                    tx.vanish(from, &set)?;
                }
                Expunged::Marked => rows.iter().try_for_each(|r| tx.update_row(&marked(r)))?,
            }
            open.iter().try_for_each(|i| tx.delete_intent(*i))
        });
    };
    let mut updates = Vec::new();
    let mut stays = Vec::new();
    let mut entries = Vec::new();
    for row in rows {
        let new = row.uid.and_then(|u| pairs.get(&u).copied());
        let (Some(uid), Some(file)) = (new, files.get(&row.id)) else { continue };
        let Some(f) = trees.files.get(file) else { continue };
        entries.push(journal::moved(p, Done::MoveThere, Side::There, &row, to, why));
        if expunged == Expunged::Marked {
            stays.push(marked(&row));
        }
        let mut new = row.clone();
        new.state = State::Synced;
        new.folder = to;
        new.uid = Some(uid);
        new.keeps = keeps_in(p, &row, to);
        take_file(&mut new, f);
        if row.state == State::Pending {
            unite(&mut new);
        }
        updates.push(new);
    }
    p.report.moved += updates.len() as u64;
    for row in &updates {
        done_with(p, row.id, files.get(&row.id).copied());
    }
    advance(p, to, updates.iter().filter_map(|r| r.uid))?;
    p.write_folder(to, |tx| {
        for row in &updates {
            tx.update_row(row)?;
        }
        for row in &stays {
            tx.insert_row(row)?;
        }
        open.iter().try_for_each(|i| tx.delete_intent(*i))?;
        entries.iter().try_for_each(|e| tx.journal(e))
    })
}

/// What the server could only mark `\Deleted`: it is not downloaded again.
fn marked(row: &Row) -> Row {
    Row { state: State::Absent, place: None, copy_of: None, ..row.clone() }
}

/// The new UIDs by the old ones; `None` where they must be found by pairing.
fn pairs(p: &Pass<'_>, to: FolderId, copied: CopyUid) -> Result<Option<BTreeMap<Uid, Uid>>> {
    Ok(match copied {
        CopyUid::Known { uidvalidity, pairs }
            if Some(uidvalidity) == p.folder(to)?.rec.uidvalidity =>
        {
            Some(pairs.into_iter().collect())
        }
        _ => None,
    })
}

/// Our own messages are no news, where nothing else came before them.
pub(super) fn advance(
    p: &mut Pass<'_>,
    folder: FolderId,
    uids: impl Iterator<Item = Uid>,
) -> Result<()> {
    let sorted: BTreeSet<Uid> = uids.collect();
    let f = p.folder_mut(folder)?;
    if f.fresh.is_some() {
        return Ok(());
    }
    for uid in sorted {
        if f.rec.uidnext == Some(uid) {
            f.rec.uidnext = uid.next();
            f.rec.messages += 1;
        }
    }
    Ok(())
}

/// The server says no: some of its reasons close the folder for this pass.
pub(super) fn refused(p: &mut Pass<'_>, folder: FolderId, e: Error) -> Result<()> {
    if matches!(e.refusal, Some(Refusal::OverQuota | Refusal::NoPerm)) {
        let f = p.folder_mut(folder)?;
        f.closed = Some(e.what.clone());
    }
    Err(e.widen(Scope::Folder))
}

/// Copies on the server what was copied here.
pub async fn copy_messages(p: &mut Pass<'_>, trees: &Trees, all: &[(RowId, FileId)]) -> Result<()> {
    let mut groups: BTreeMap<(FolderId, FolderId), Vec<(Row, FileId)>> = BTreeMap::new();
    for (of, file) in all {
        let (Some(f), Some(row)) = (trees.files.get(file), p.ledger.with(|l| l.row(*of))?) else {
            continue;
        };
        if row.on_server() && is_second_file(p, &row, *file)? {
            groups.entry((row.folder, f.folder)).or_default().push((row, *file));
        } else {
            p.look_again = true;
        }
    }
    for ((from, to), mut rows) in groups {
        // one COPY command makes one copy of a message: equal ones go one after the other
        while !rows.is_empty() {
            let mut seen = BTreeSet::new();
            let (now, later): (Vec<_>, Vec<_>) =
                rows.into_iter().partition(|(r, _)| seen.insert(r.id));
            rows = later;
            let copied = copy_group(p, trees, from, to, now).await;
            if p.each(copied)?.is_none() {
                break;
            }
        }
    }
    Ok(())
}

/// Whether the file is another one than the row's own, which is still there. A message that a reader
/// moves to and fro is seen in two folders, and is one file all the same.
fn is_second_file(p: &Pass<'_>, row: &Row, file: FileId) -> Result<bool> {
    let Some(at) = &row.place else { return Ok(false) };
    let path = place_path(&p.folder(row.folder)?.dir, at);
    let Ok(own) = std::fs::symlink_metadata(path) else { return Ok(false) };
    let same = p.stats.get(&file).is_some_and(|s| (s.dev, s.ino) == (own.dev(), own.ino()));
    Ok(!same || own.nlink() > 1)
}

async fn copy_group(
    p: &mut Pass<'_>,
    trees: &Trees,
    from: FolderId,
    to: FolderId,
    rows: Vec<(Row, FileId)>,
) -> Result<()> {
    ensure_folder(p, to).await?;
    let files: BTreeMap<RowId, FileId> = rows.iter().map(|(r, f)| (r.id, *f)).collect();
    let rows = proven(p, from, rows.into_iter().map(|(r, _)| r).collect()).await?;
    let set: UidSet = rows.iter().filter_map(|r| r.uid).collect();
    if set.is_empty() {
        return Ok(());
    }
    let wire = p.folder(to)?.wire()?;
    let file_of = |row: &Row| files.get(&row.id).and_then(|f| trees.files.get(f));
    let open: Vec<_> = rows.iter().map(|r| (Some(r), to, file_of(r))).collect();
    let open = intents(p, IntentKind::Copy, &open)?;
    let copied = match p.session.copy(&set, &wire).await {
        Err(e) if e.kind == Kind::Refused => {
            settle_intents(p, &open)?;
            return refused(p, to, e);
        }
        other => other?,
    };
    let Some(pairs) = pairs(p, to, copied)? else {
        p.look_again = true; // the intents stay until pairing found the copies
        return Ok(());
    };
    let mut new = Vec::new();
    let mut entries = Vec::new();
    for row in rows {
        let uid = row.uid.and_then(|u| pairs.get(&u).copied());
        let (Some(uid), Some(file)) = (uid, files.get(&row.id)) else { continue };
        let Some(f) = trees.files.get(file) else { continue };
        entries.push(journal::moved(p, Done::Copy, Side::There, &row, to, "it was copied here"));
        let mut copy = row.clone();
        copy.folder = to;
        copy.uid = Some(uid);
        copy.agreed = row.remote.clone();
        copy.copy_of = Some(row.id);
        copy.keeps = keeps_in(p, &row, to);
        copy.identity.server_id = None;
        take_file(&mut copy, f);
        copy.exact = row.exact && f.identity.content == row.identity.content;
        new.push(copy);
        p.files.remove(file);
    }
    p.report.moved += new.len() as u64;
    advance(p, to, new.iter().filter_map(|r| r.uid))?;
    p.write_folder(to, |tx| {
        for row in &new {
            tx.insert_row(row)?;
        }
        open.iter().try_for_each(|i| tx.delete_intent(*i))?;
        entries.iter().try_for_each(|e| tx.journal(e))
    })
}

/// Tells the server the merged flags, with few commands.
pub async fn store_flags(
    p: &mut Pass<'_>,
    _trees: &Trees,
    all: &[(RowId, Flags, bool)],
) -> Result<()> {
    let mut rows = Vec::new();
    for (id, merged, there) in all {
        if let (true, Some(row)) = (*there, p.ledger.with(|l| l.row(*id))?)
            && row.on_server()
            && row.state == State::Synced
            && row.local == *merged
            && (row.remote != *merged || row.agreed != *merged)
        {
            rows.push((row.folder, (row, merged.clone())));
        }
    }
    for (folder, rows) in by_folder(rows) {
        let stored = store_folder(p, folder, rows).await;
        p.each(stored)?;
    }
    Ok(())
}

async fn store_folder(p: &mut Pass<'_>, folder: FolderId, rows: Vec<(Row, Flags)>) -> Result<()> {
    p.select_known(folder).await?;
    let permanent = p.folder(folder)?.permanent.clone().unwrap_or_default();
    // \Deleted is the first half of a deletion, and is proven like one
    let deletes = |row: &Row, merged: &Flags| {
        merged.has(SystemFlags::DELETED) && !row.remote.has(SystemFlags::DELETED)
    };
    let (deleting, mut rows): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(row, merged)| deletes(row, merged));
    if !deleting.is_empty() {
        let merged: BTreeMap<RowId, Flags> =
            deleting.iter().map(|(r, m)| (r.id, m.clone())).collect();
        let sure = proven(p, folder, deleting.into_iter().map(|(r, _)| r).collect()).await?;
        rows.extend(sure.into_iter().filter_map(|r| Some((r.clone(), merged.get(&r.id)?.clone()))));
    }
    let mut groups: BTreeMap<(String, String), FlagChange> = BTreeMap::new();
    for (row, merged) in &rows {
        let add = permanent.keeps(&merged.minus(&row.remote));
        let remove = permanent.keeps(&row.remote.minus(merged));
        if let (Some(uid), false) = (row.uid, add.is_empty() && remove.is_empty()) {
            let key = (add.to_text(), remove.to_text());
            let change = FlagChange { set: UidSet::new(), add, remove };
            groups.entry(key).or_insert(change).set.insert(uid);
        }
    }
    let changes: Vec<FlagChange> = groups.into_values().collect();
    if let Err(e) = p.session.store(&changes).await {
        return if e.kind == Kind::Refused { refused(p, folder, e) } else { Err(e) };
    }
    let mut entries = Vec::new();
    let mut done = Vec::new();
    for (mut row, merged) in rows {
        if row.remote != merged {
            let why = format!("flags there: {merged}");
            entries.push(journal::of_row(p, Done::Flags, Side::There, &row, &why));
            p.report.flags += 1;
        }
        row.remote = merged.clone();
        row.agreed = merged;
        done.push(row);
    }
    p.write(|tx| {
        for row in &done {
            tx.update_row(row)?;
        }
        entries.iter().try_for_each(|e| tx.journal(e))
    })
}

/// Expunges the originals of messages whose copies are there.
pub async fn finish_moves(p: &mut Pass<'_>, _trees: &Trees, all: &[(RowId, RowId)]) -> Result<()> {
    let mut rows = Vec::new();
    for (id, copy) in all {
        let (row, copy) = (p.row(*id)?, p.row(*copy)?);
        rows.push((row.folder, (row, copy)));
    }
    for (folder, rows) in by_folder(rows) {
        let copies: BTreeMap<RowId, Row> = rows.iter().map(|(r, c)| (r.id, c.clone())).collect();
        let rows = rows.into_iter().map(|(r, _)| (r, false)).collect();
        let finished = expunge_folder(p, folder, rows, Some(&copies)).await;
        p.each(finished)?;
    }
    Ok(())
}

/// Moves messages whose files were removed to the trash.
pub async fn trash(
    p: &mut Pass<'_>,
    _trees: &Trees,
    all: &[(RowId, FolderId, bool)],
) -> Result<()> {
    let mut groups: BTreeMap<(FolderId, FolderId), Vec<(Row, bool)>> = BTreeMap::new();
    for (id, trash, approved) in all {
        let row = p.row(*id)?;
        groups.entry((row.folder, *trash)).or_default().push((row, *approved));
    }
    for ((from, to), rows) in groups {
        let trashed = trash_group(p, from, to, rows).await;
        p.each(trashed)?;
    }
    Ok(())
}

async fn trash_group(
    p: &mut Pass<'_>,
    from: FolderId,
    to: FolderId,
    rows: Vec<(Row, bool)>,
) -> Result<()> {
    ensure_folder(p, to).await?;
    let approved: BTreeMap<RowId, bool> = rows.iter().map(|(r, a)| (r.id, *a)).collect();
    let rows = proven(p, from, rows.into_iter().map(|(r, _)| r).collect()).await?;
    let set: UidSet = rows.iter().filter_map(|r| r.uid).collect();
    if set.is_empty() {
        return Ok(());
    }
    let wire = p.folder(to)?.wire()?;
    let open: Vec<_> = rows.iter().map(|r| (Some(r), to, None)).collect();
    let open = intents(p, IntentKind::Move, &open)?;
    let (copied, expunged) = match p.session.move_messages(&set, &wire).await {
        Err(e) if e.kind == Kind::Refused => {
            settle_intents(p, &open)?;
            return refused(p, to, e);
        }
        other => other?,
    };
    let known = pairs(p, to, copied)?;
    let mut arrivals = Vec::new();
    let mut stays = Vec::new();
    let mut gone = Vec::new();
    let mut entries = Vec::new();
    for row in rows {
        let new = match &known {
            Some(pairs) => match row.uid.and_then(|u| pairs.get(&u).copied()) {
                Some(uid) => Some(uid),
                None => continue, // it did not move
            },
            None => None,
        };
        let why = "its file was removed here";
        let mut e = journal::moved(p, Done::TrashThere, Side::There, &row, to, why);
        e.counted = !approved.get(&row.id).copied().unwrap_or(false);
        entries.push(e);
        if expunged == Expunged::Marked {
            stays.push(marked(&row));
        }
        if let Some(uid) = new {
            // fetched again, into the Trash here
            let mut a = observe_pending(to, uid, row.remote.clone(), row.identity.clone());
            a.keeps = keeps_in(p, &row, to);
            arrivals.push(a);
        } else {
            p.look_again = true;
        }
        gone.push(row.id);
    }
    p.report.deleted += gone.len() as u64;
    advance(p, to, arrivals.iter().filter_map(|r| r.uid))?;
    for id in &gone {
        p.missing.remove(id);
    }
    p.write_folder(to, |tx| {
        for id in &gone {
            tx.delete_row(*id)?;
        }
        for row in arrivals.iter().chain(&stays) {
            tx.insert_row(row)?;
        }
        open.iter().try_for_each(|i| tx.delete_intent(*i))?;
        entries.iter().try_for_each(|e| tx.journal(e))
    })
}

/// Expunges messages whose files were removed.
pub async fn expunge(p: &mut Pass<'_>, _trees: &Trees, all: &[(RowId, bool)]) -> Result<()> {
    let mut rows = Vec::new();
    for (id, approved) in all {
        let row = p.row(*id)?;
        rows.push((row.folder, (row, *approved)));
    }
    for (folder, rows) in by_folder(rows) {
        let expunged = expunge_folder(p, folder, rows, None).await;
        p.each(expunged)?;
    }
    Ok(())
}

/// `copies`: the rows whose copies prove that this is the end of a move.
async fn expunge_folder(
    p: &mut Pass<'_>,
    folder: FolderId,
    rows: Vec<(Row, bool)>,
    copies: Option<&BTreeMap<RowId, Row>>,
) -> Result<()> {
    let approved: BTreeMap<RowId, bool> = rows.iter().map(|(r, a)| (r.id, *a)).collect();
    let rows = proven(p, folder, rows.into_iter().map(|(r, _)| r).collect()).await?;
    let set: UidSet = rows.iter().filter_map(|r| r.uid).collect();
    if set.is_empty() {
        return Ok(());
    }
    p.guard.open(&p.ledger)?;
    let done = match p.session.expunge(&set).await {
        Err(e) if e.kind == Kind::Refused => return refused(p, folder, e),
        done => done?,
    };
    let mut entries = Vec::new();
    for row in &rows {
        let (action, why) = match (copies.and_then(|c| c.get(&row.id)), done) {
            (Some(_), _) => (Done::MoveThere, "it was moved here, in two steps"),
            (None, Expunged::Done) => (Done::ExpungeThere, "its file was removed here"),
            (None, Expunged::Marked) => (Done::MarkThere, "its file was removed here"),
        };
        let mut e = match copies.and_then(|c| c.get(&row.id)) {
            Some(copy) => journal::moved(p, action, Side::There, row, copy.folder, why),
            None => journal::of_row(p, action, Side::There, row, why),
        };
        e.counted = copies.is_none() && !approved.get(&row.id).copied().unwrap_or(false);
        entries.push(e);
        p.missing.remove(&row.id);
    }
    if done == Expunged::Marked {
        let name = p.folder(folder)?.rec.name.clone();
        p.report.notes.push(format!(
            "folder {name}: {} messages are marked \\Deleted and left, since the server cannot \
             expunge them alone (no UIDPLUS)",
            rows.len()
        ));
    }
    if copies.is_some() {
        p.report.moved += rows.len() as u64;
    } else {
        p.report.deleted += rows.len() as u64;
    }
    p.write(|tx| {
        for row in &rows {
            match done {
                Expunged::Done => tx.delete_row(row.id)?,
                Expunged::Marked => tx.update_row(&marked(row))?,
            }
            if let Some(copy) = copies.and_then(|c| c.get(&row.id)) {
                let copy = Row { copy_of: None, ..copy.clone() };
                tx.update_row(&copy)?;
            }
        }
        entries.iter().try_for_each(|e| tx.journal(e))
    })
}
