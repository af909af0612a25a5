//! New messages: pulled as one stream where there is nothing here that they could be, else known by
//! what identifies them first, as `pending` rows.

use std::collections::{BTreeMap, BTreeSet};

use super::super::pass::{Fresh, Pass};
use super::server::as_observed;
use crate::error::{Error, Kind, Result, Scope};
use crate::imap::{BodySink, Meta};
use crate::model::identity::{Digest, Digester};
use crate::model::{Flags, FolderId, Identity, Row, RowId, State, Uid, UidSet};
use crate::policy::RemoteDelete;
use crate::reconcile::Trees;

/// Learns what new messages are, where that matters.
pub async fn news(p: &mut Pass<'_>) -> Result<()> {
    let ids: Vec<FolderId> = p
        .folders
        .iter()
        .filter(|(_, f)| f.fresh.is_some() && f.selected)
        .map(|(i, _)| *i)
        .collect();
    if ids.is_empty() || !pairable(p)? {
        return Ok(());
    }
    for id in ids {
        if let Err(e) = folder(p, id).await {
            p.remote_complete = false;
            p.folder_mut(id)?.failed = Some(e.clone());
            p.note(e.widen(Scope::Folder))?;
        }
    }
    Ok(())
}

/// Whether anything is here that a new message could be.
fn pairable(p: &Pass<'_>) -> Result<bool> {
    let obscure = p.unread.iter().any(|u| u.file.is_some());
    if !p.files.is_empty() || obscure || p.session.caps().gmail_ids {
        return Ok(true);
    }
    let by_id = p.session.caps().objectid;
    p.ledger.with(|l| {
        Ok(l.has_state(State::Kept)?
            || l.dirty_rows()?.iter().any(|r| r.gone.is_some())
            || !l.intents()?.is_empty()
            || by_id && l.has_state(State::Synced)?)
    })
}

async fn folder(p: &mut Pass<'_>, id: FolderId) -> Result<()> {
    let Some(fresh) = p.folder(id)?.fresh else { return Ok(()) };
    p.select(id, true).await?;
    let range = UidSet::range(fresh.from, Uid::MAX);
    let mut metas: Vec<(Uid, Result<Meta>)> = Vec::new();
    p.session
        .fetch_meta(&range, &mut |uid, meta| {
            metas.push((uid, meta));
            Ok(())
        })
        .await?;
    metas.sort_by_key(|(uid, _)| *uid);
    metas.dedup_by_key(|(uid, _)| *uid);
    let known = p.ledger.with(|l| l.uid_set(id))?;
    metas.retain(|(uid, _)| *uid >= fresh.from && !known.contains(*uid));
    if let Some(missed) = count(p, id, &known, &mut metas, fresh).await? {
        // below the cursor, where an interrupted pull left them
        p.session
            .fetch_meta(&missed, &mut |uid, meta| {
                metas.push((uid, meta));
                Ok(())
            })
            .await?;
        metas.retain(|(uid, _)| !known.contains(*uid));
        metas.sort_by_key(|(uid, _)| *uid);
        metas.dedup_by_key(|(uid, _)| *uid);
    }
    let f = p.folder(id)?;
    let keep = f.policy.remote_delete == RemoteDelete::Keep;
    let rows: Vec<Row> = metas
        .into_iter()
        .map(|(uid, meta)| match meta {
            Ok(m) => {
                let flags = as_observed(&m.flags, &Flags::default(), keep);
                pending(id, uid, flags, identity(&m))
            }
            // it is fetched whole, and fails or not then
            Err(_) => pending(id, uid, Flags::default(), Identity::default()),
        })
        .collect();
    advance(p, id, fresh, &rows)?;
    p.write_folder(id, |tx| {
        for row in &rows {
            tx.insert_row(row)?;
        }
        Ok(())
    })
}

/// Moves the cursors past what is known now.
fn advance(p: &mut Pass<'_>, id: FolderId, fresh: Fresh, rows: &[Row]) -> Result<()> {
    // what went after it was counted is in the rows still, and is looked for once STATUS says fewer
    let known = p.ledger.with(|l| l.count_on_server(id))? + rows.len() as u64;
    let known = fresh.count.and_then(|_| u32::try_from(known).ok());
    let messages = known.unwrap_or_else(|| p.session.exists());
    let f = p.folder_mut(id)?;
    let last = rows.last().and_then(|r| r.uid);
    let past = last.map(|u| u.next().unwrap_or(Uid::MAX));
    f.rec.uidnext = Some(
        [Some(fresh.from), past, fresh.uidnext].into_iter().flatten().max().unwrap_or(fresh.from),
    );
    f.rec.modseq = fresh.modseq;
    f.rec.messages = messages;
    f.fresh = None;
    Ok(())
}

/// What came must be what EXISTS promised; else everything is listed, and must agree with it. Gives
/// back what is there and neither came nor is known.
async fn count(
    p: &mut Pass<'_>,
    id: FolderId,
    known: &UidSet,
    metas: &mut Vec<(Uid, Result<Meta>)>,
    fresh: Fresh,
) -> Result<Option<UidSet>> {
    let exists = u64::from(p.session.exists());
    if fresh.count.is_none() || exists == known.len() + metas.len() as u64 {
        return Ok(None);
    }
    let listed = p.session.uids().await?;
    let new: UidSet = metas.iter().map(|(u, _)| *u).collect();
    let missed: UidSet =
        listed.iter().filter(|u| !known.contains(*u) && !new.contains(*u)).collect();
    if listed.len() != u64::from(p.session.exists()) {
        let name = &p.folder(id)?.rec.name;
        return Err(Error::folder(
            Kind::Protocol,
            format!("folder {name}: what the server lists does not agree with its own count"),
        )
        .next("nothing there was taken for deleted; sync again"));
    }
    let vanished: UidSet = known.iter().filter(|u| !listed.contains(*u)).collect();
    // so may some of what came have gone since
    metas.retain(|(u, _)| listed.contains(*u));
    p.write_folder(id, |tx| tx.vanish(id, &vanished).map(|_| ()))?;
    Ok(Some(missed).filter(|m| !m.is_empty()))
}

fn identity(m: &Meta) -> Identity {
    Identity {
        content: None,
        reader: None,
        fingerprint: m.fingerprint.clone(),
        wire_size: m.wire_size,
        internal_date: m.internal_date,
        server_id: m.server_id.clone(),
    }
}

/// A row for a message seen on the server and not here yet.
pub fn pending(folder: FolderId, uid: Uid, remote: Flags, identity: Identity) -> Row {
    Row {
        id: RowId(0),
        folder,
        state: State::Pending,
        uid: Some(uid),
        gone: None,
        place: None,
        agreed: Flags::default(),
        remote,
        local: Flags::default(),
        identity,
        exact: true,
        copy_of: None,
        keeps: false,
    }
}

/// Reads the messages that pairing cannot tell apart without their bytes. How many are known now,
/// or known not to be had.
pub async fn contents(p: &mut Pass<'_>, trees: &Trees, wants: &BTreeSet<RowId>) -> Result<usize> {
    let mut by_folder: BTreeMap<FolderId, Vec<&Row>> = BTreeMap::new();
    for row in wants.iter().filter_map(|id| trees.rows.get(id)) {
        by_folder.entry(row.folder).or_default().push(row);
    }
    let mut done = 0;
    for (id, rows) in by_folder {
        let set: UidSet = rows.iter().filter_map(|r| r.uid).collect();
        let mut sink = Hashes::default();
        let fetched = match p.select(id, true).await {
            Ok(()) => p.session.fetch_bodies(&set, &mut sink).await,
            Err(e) => Err(e),
        };
        if let Err(e) = fetched {
            p.remote_complete = false;
            p.folder_mut(id)?.failed = Some(e.clone());
            p.note(e.widen(Scope::Folder))?;
        }
        for (uid, e) in sink.failed {
            tracing::debug!("UID {uid}: {e}");
        }
        let mut known = Vec::new();
        for row in rows {
            match row.uid.and_then(|u| sink.known.remove(&u)) {
                Some(d) => known.push((row.id, d)),
                None => {
                    // gone meanwhile, or not to be had: it waits for the next pass
                    p.unfetchable.insert(row.id);
                    done += 1;
                }
            }
        }
        done += known.len();
        p.write(|tx| {
            for (id, d) in &known {
                if let Some(mut row) = tx.row(*id)? {
                    row.identity.content = Some(d.content);
                    row.identity.reader = Some(d.reader);
                    if row.identity.fingerprint.message_id.is_empty() {
                        row.identity.fingerprint = d.fingerprint.clone();
                    }
                    tx.update_row(&row)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(done)
}

#[derive(Default)]
struct Hashes {
    now: Option<(Uid, Digester)>,
    known: BTreeMap<Uid, Digest>,
    failed: Vec<(Uid, Error)>,
}

impl BodySink for Hashes {
    async fn begin(&mut self, meta: &Meta) -> Result<()> {
        self.now = Some((meta.uid, Digester::new()));
        Ok(())
    }
    async fn data(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some((_, d)) = &mut self.now {
            d.update(bytes);
        }
        Ok(())
    }
    async fn end(&mut self) -> Result<()> {
        if let Some((uid, d)) = self.now.take() {
            self.known.insert(uid, d.finish());
        }
        Ok(())
    }
    async fn failed(&mut self, uid: Uid, error: Error) -> Result<()> {
        self.now = None;
        self.failed.push((uid, error));
        Ok(())
    }
}
