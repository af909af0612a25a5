//! Effects on the server: folders and flags; and what every effect there goes through. Before
//! anything is moved or destroyed, the messages are compared with the rows once more, and what an
//! interrupted command may have made is written down first.

use std::collections::{BTreeMap, BTreeSet};

use super::{by_folder, journal};
use crate::account::pass::Pass;
use crate::error::{Error, Kind, Refusal, Result, Scope};
use crate::imap::{CopyUid, FlagChange};
use crate::ledger::{Action as Done, Intent, IntentId, IntentKind, Side};
use crate::model::{Flags, FolderId, Row, RowId, State, SystemFlags, Uid, UidSet};
use crate::reconcile::{LocalFile, Presence, Trees};
use crate::words::count;

/// How long a server that will not have a folder is not asked for it again, in seconds. What may be
/// the reason shows sooner: then it is asked at once.
pub const ASK_AGAIN_AFTER: i64 = 24 * 3600;

/// Makes the folder that is here on the server. Where that will not have it, what is to go there
/// waits, and `status` says why: `false`.
pub async fn create_or_close(p: &mut Pass<'_>, id: FolderId) -> Result<bool> {
    match create_folder(p, id).await {
        Err(e)
            if e.kind == Kind::Refused
                && !matches!(e.refusal, Some(Refusal::InUse | Refusal::Unavailable)) =>
        {
            let lasts = e.refusal != Some(Refusal::OverQuota);
            let e = advise(p, id, e, lasts)?;
            let now = p.now();
            let f = p.folder_mut(id)?;
            f.closed = Some(e.to_string());
            f.rec.retry_at = if lasts { now + ASK_AGAIN_AFTER } else { 0 };
            Ok(false)
        }
        other => other.map(|()| true),
    }
}

/// The next step of somebody whose folder the server will not have.
fn advise(p: &Pass<'_>, id: FolderId, mut e: Error, lasts: bool) -> Result<Error> {
    let f = p.folder(id)?;
    if f.disk != Presence::There && p.trash() == Some(id) {
        e.next = "set policy.trash to a folder that the server has, or takes".into();
    }
    if lasts {
        let again = "it is asked again after a day, when its folders change, or by mailkeep sync \
                     --folder with that name";
        e.next = if e.next.is_empty() { again.into() } else { format!("{}; {again}", e.next) };
    }
    Ok(e)
}

/// Makes the folder on the server. One that was there before gets its use again, unless another has
/// it now.
pub async fn create_folder(p: &mut Pass<'_>, id: FolderId) -> Result<()> {
    let name = p.folder(id)?.rec.name.clone();
    let had = p.folder(id)?.rec.special_use;
    let mut there = p.folders.values().filter(|f| f.server == Presence::There);
    let special_use = had.filter(|_| there.all(|f| f.rec.special_use != had));
    let refused = |e: Error| e.at(format_args!("cannot create folder {name} on the server"));
    // no generation is raised before it is there: nothing relies on it, and where it is refused,
    // nothing was done (I5)
    let wire = p.session.create(&name, special_use).await.map_err(refused)?;
    let entry = journal::in_folder(p, Done::FolderCreate, Side::There, id, "it is here");
    let f = p.folder_mut(id)?;
    f.server = Presence::There;
    f.rec.wire = Some(wire);
    f.rec.on_server = true;
    f.rec.retry_at = 0;
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
    // asked at every pass, as long as there are any: nothing is written for that (I5)
    if p.session.has_below(&wire) {
        return Ok(());
    }
    p.close();
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

/// Makes sure that the folder is on the server. `false`: it will not have it, and what was to go
/// there waits.
pub async fn ensure_folder(p: &mut Pass<'_>, id: FolderId) -> Result<bool> {
    let f = p.folder(id)?;
    match (f.server, &f.closed) {
        (Presence::There, _) => Ok(true),
        (_, Some(_)) => Ok(false),
        (_, None) => create_or_close(p, id).await,
    }
}

/// The rows of an open folder whose messages are what the ledger thinks, by UID.
pub(super) async fn proven(p: &mut Pass<'_>, folder: FolderId, rows: Vec<Row>) -> Result<Vec<Row>> {
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
        p.close();
        p.look_again = true;
        p.write_folder(folder, |tx| tx.mark_epoch(folder).map(|_| ()))?;
        return Err(Error::folder(
            Kind::Raced,
            format!(
                "folder {name}: {} than before",
                count(
                    wrong,
                    "message on the server is another one",
                    "messages there are other ones"
                )
            ),
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

/// What the server could only mark `\Deleted`: it is not downloaded again.
pub(super) fn marked(row: &Row) -> Row {
    Row { state: State::Absent, place: None, copy_of: None, ..row.clone() }
}

/// The new UIDs by the old ones; `None` where they must be found by pairing.
pub(super) fn pairs(
    p: &Pass<'_>,
    to: FolderId,
    copied: CopyUid,
) -> Result<Option<BTreeMap<Uid, Uid>>> {
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

/// The server says no to a move. If it was MOVE that it refused (`by_move`: it was asked for), and
/// for no other reason, it is done by COPY from now on; but nobody knows whether some went all the
/// same, so both sides are looked at before that.
pub(super) fn not_moved(
    p: &mut Pass<'_>,
    to: FolderId,
    open: &[IntentId],
    by_move: bool,
    e: Error,
) -> Result<()> {
    settle_intents(p, open)?;
    if by_move && !p.session.moves() {
        tracing::debug!("{}: {e}", p.account.name);
        p.look_again = true;
        return Ok(());
    }
    refused(p, to, e)
}

/// The server says no: some of its reasons close the folder for this pass.
pub(super) fn refused(p: &mut Pass<'_>, folder: FolderId, e: Error) -> Result<()> {
    let f = p.folder_mut(folder)?;
    if matches!(e.refusal, Some(Refusal::OverQuota | Refusal::NoPerm)) {
        f.closed = Some(e.to_string());
    }
    Err(e.at(format_args!("folder {}", f.rec.name)).widen(Scope::Folder))
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
        // what the server does not store stays a difference
        let told = permanent.told(&row.remote, &merged);
        if row.remote != told {
            let why = format!("flags there: {told}");
            entries.push(journal::of_row(p, Done::Flags, Side::There, &row, &why));
            p.report.flags += 1;
        }
        if row.remote != told || row.agreed != told {
            row.remote = told.clone();
            row.agreed = told;
            done.push(row);
        }
    }
    if done.is_empty() {
        return Ok(());
    }
    p.write(|tx| {
        for row in &done {
            tx.update_row(row)?;
        }
        entries.iter().try_for_each(|e| tx.journal(e))
    })
}
