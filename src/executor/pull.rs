//! Downloads: the network, the writing and the syncing overlap, each on a thread of its own, with
//! the bytes in flight bounded.
//!
//! A message goes to `tmp`; a batch of them is made durable at once, renamed, their directories
//! synced, and written into the ledger in one transaction, with the cursor. Killed in between, the
//! files are ones without a row, which pairing takes up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::joins::keeps_in;
use super::pipeline::{Delivery, Landed, Pipeline, make_durable, publish};
use super::{by_folder, here};
use crate::account::observe_flags;
use crate::account::pass::{Namer, Pass, SharedLedger};
use crate::error::{Error, Kind, Result};
use crate::imap::{BodySink, Meta};
use crate::ledger::{Action as Done, JournalEntry, Side};
use crate::maildir::{self, Durability, KeywordMap};
use crate::model::{
    BaseName, Flags, FolderId, FolderName, Identity, ModSeq, Place, Row, RowId, State, Uid, UidSet,
};
use crate::policy::RemoteDelete;
use crate::progress::Progress;
use crate::reconcile::{Presence, Trees};
use crate::words::messages;

/// Fetches single messages, and whole folders from a UID on.
pub async fn download(
    p: &mut Pass<'_>,
    trees: &Trees,
    single: &[(RowId, Option<RowId>)],
    pulls: &[(FolderId, Uid)],
) -> Result<()> {
    if single.is_empty() && pulls.is_empty() {
        return Ok(());
    }
    p.guard.open(&p.ledger)?;
    let mut line = Line::start(p);
    let fetched = fetch_all(p, trees, single, pulls, &mut line).await;
    let (messages, bytes) = line.counted;
    let (done, stored) = line.finish();
    if messages > done.messages {
        let bytes = bytes.saturating_sub(done.bytes);
        p.progress.undone(messages - done.messages, bytes);
    }
    settle(p, done)?;
    // an error of the disk explains one of the network, not the other way round
    stored?;
    let pulled = fetched?;
    for (id, fresh) in pulled {
        let counted = complete(p, id, fresh).await;
        p.each(counted)?;
    }
    Ok(())
}

/// What a folder's pull ended with: the new UIDNEXT, HIGHESTMODSEQ, and what the server listed.
struct Pulled {
    uidnext: Option<Uid>,
    modseq: Option<ModSeq>,
    listed: UidSet,
}

async fn fetch_all(
    p: &mut Pass<'_>,
    trees: &Trees,
    single: &[(RowId, Option<RowId>)],
    pulls: &[(FolderId, Uid)],
    line: &mut Line,
) -> Result<Vec<(FolderId, Pulled)>> {
    let rows = single
        .iter()
        .filter_map(|(id, instead)| trees.rows.get(id).map(|r| (r.folder, (r, *instead))));
    let rows = by_folder(rows);
    let expected: u64 = rows.values().map(|r| r.len() as u64).sum::<u64>()
        + pulls.iter().filter_map(|(id, _)| p.folders.get(id)?.fresh?.count).sum::<u64>();
    p.progress.begin(expected);
    for (folder, rows) in rows {
        let jobs: BTreeMap<Uid, (Row, Option<RowId>)> = rows
            .into_iter()
            .filter_map(|(r, instead)| {
                let mut row = r.clone();
                // deleted here, then moved there: it takes its keep along, as it would with its file
                let old = instead.and_then(|i| trees.rows.get(&i));
                row.keeps |= old.is_some_and(|r| keeps_in(p, r, folder));
                Some((r.uid?, (row, instead)))
            })
            .collect();
        let set: UidSet = jobs.keys().copied().collect();
        let fetched = fetch(p, folder, set, jobs, None, line).await;
        p.each(fetched)?;
    }
    let mut pulled = Vec::new();
    for (folder, from) in pulls {
        let one = pull(p, *folder, *from, line).await;
        if let Some(Some(done)) = p.each(one)? {
            pulled.push((*folder, done));
        }
    }
    Ok(pulled)
}

async fn pull(
    p: &mut Pass<'_>,
    folder: FolderId,
    from: Uid,
    line: &mut Line,
) -> Result<Option<Pulled>> {
    let Some(fresh) = p.folder(folder)?.fresh else { return Ok(None) };
    let listed = p.select_listed(folder, true).await?;
    let known = p.ledger.with(|l| l.uid_set(folder))?;
    let set: UidSet = listed.iter().filter(|u| *u >= from && !known.contains(*u)).collect();
    let cursor = Cursor { folder, modseq: fresh.modseq };
    let gone = fetch(p, folder, set, BTreeMap::new(), Some(cursor), line).await?;
    let listed = match gone.is_empty() {
        true => listed,
        false => listed.iter().filter(|u| !gone.contains(*u)).collect(),
    };
    Ok(Some(Pulled { uidnext: fresh.uidnext, modseq: fresh.modseq, listed }))
}

/// Fetches these messages. The UIDs of those that went meanwhile: that is no failure.
async fn fetch(
    p: &mut Pass<'_>,
    folder: FolderId,
    set: UidSet,
    jobs: BTreeMap<Uid, (Row, Option<RowId>)>,
    cursor: Option<Cursor>,
    line: &mut Line,
) -> Result<UidSet> {
    if set.is_empty() {
        return Ok(UidSet::new());
    }
    p.select(folder, true).await?;
    if p.folder(folder)?.disk != Presence::There {
        here::create_folder(p, folder)?;
    }
    // a reader may have given letters to keywords since
    crate::account::sync_keywords(p, folder)?;
    let f = p.folder(folder)?;
    p.progress.folder(&f.rec.name);
    let ctx = Arc::new(Target { folder, name: f.rec.name.clone(), dir: f.dir.clone(), cursor });
    let mut sink = Sink {
        target: ctx,
        keep: f.policy.remote_delete == RemoteDelete::Keep,
        keywords: f.keywords.clone(),
        namer: std::mem::replace(&mut p.namer, Namer::new(0)),
        now: p.now(),
        jobs,
        line,
        progress: p.progress,
        failed: Vec::new(),
        wanted: set.clone(),
        begun: Seen::default(),
    };
    let fetched = p.session.fetch_bodies(&set, &mut sink).await;
    let Sink { namer, keywords, failed, begun, jobs, .. } = sink;
    p.namer = namer;
    line.keywords.insert(folder, keywords);
    let mut gone = UidSet::new();
    if fetched.is_ok() && (!failed.is_empty() || begun.0.len() < set.len()) {
        let unseen = set.iter().filter(|u| !begun.0.contains(*u));
        let missing = unseen.chain(failed.iter().map(|(u, _)| *u)).collect();
        gone = gone_meanwhile(p, &missing).await?;
    }
    // what of them has a row is seen to go by a look at the folder
    p.look_again |= jobs.keys().any(|u| gone.contains(*u));
    for (uid, e) in failed {
        let name = p.folder(folder)?.rec.name.clone();
        line.failed.entry(folder).or_default().insert(uid);
        if !gone.contains(uid) {
            p.note(e.at(format_args!("folder {name}, UID {uid}")))?;
        }
    }
    fetched.map(|()| gone)
}

/// Which of these messages are not in the open folder any more, as far as its listing agrees with
/// EXISTS.
async fn gone_meanwhile(p: &mut Pass<'_>, missing: &UidSet) -> Result<UidSet> {
    if p.session.caps().window.is_some() {
        return Ok(UidSet::new()); // what it does not show is not gone
    }
    let all = match p.session.uids().await {
        Err(e) if e.kind == Kind::Refused => return Ok(UidSet::new()),
        all => all?,
    };
    if all.len() != u64::from(p.session.exists()) {
        return Ok(UidSet::new());
    }
    Ok(missing.iter().filter(|u| !all.contains(*u)).collect())
}

/// After everything is on disk: the folders' records as the committing thread left them, names and
/// counts.
fn settle(p: &mut Pass<'_>, done: Stored) -> Result<()> {
    for (folder, places) in &done.places {
        for place in places {
            here::note_name(p, *folder, None, Some(place))?;
        }
    }
    p.report.new += done.messages;
    for folder in done.places.keys() {
        let name = p.folder(*folder)?.rec.name.clone();
        p.report.new_in.insert(name);
    }
    for row in &done.replaced {
        p.missing.remove(row);
    }
    let folders: BTreeSet<FolderId> =
        done.places.keys().chain(done.keywords.keys()).copied().collect();
    for id in folders {
        if let Some(rec) = p.ledger.with(|l| l.folder(id))? {
            p.folder_mut(id)?.rec = rec;
        }
        if let Some(map) = done.keywords.get(&id) {
            let f = p.folder_mut(id)?;
            f.rec.keywords = map.to_text();
            f.keywords = map.clone();
            p.write_folder(id, |_| Ok(()))?;
        }
    }
    for (folder, uids) in done.failed {
        let uids: UidSet = uids.into_iter().collect();
        let rows = p.ledger.with(|l| l.rows_by_uids(folder, &uids))?;
        p.unfetchable.extend(rows.iter().map(|r| r.id));
    }
    Ok(())
}

/// A pulled folder is observed once its rows and the server's listing agree. What could not be had
/// becomes a `pending` row, so that it is neither forgotten nor taken for gone.
async fn complete(p: &mut Pass<'_>, id: FolderId, pulled: Pulled) -> Result<()> {
    let known = p.ledger.with(|l| l.uid_set(id))?;
    let missing: Vec<Uid> = pulled.listed.iter().filter(|u| !known.contains(*u)).collect();
    // what vanished was counted only if the listing is whole
    let exists = u32::try_from(pulled.listed.len()).unwrap_or(u32::MAX);
    let f = p.folder_mut(id)?;
    let past = pulled.listed.last().and_then(Uid::next);
    f.rec.uidnext =
        [f.rec.uidnext, past, pulled.uidnext, Some(Uid::MIN)].into_iter().flatten().max();
    f.rec.modseq = pulled.modseq;
    f.rec.messages = exists;
    f.fresh = None;
    let rows: Vec<Row> = missing
        .into_iter()
        .map(|u| crate::account::observe_pending(id, u, Flags::default(), Identity::default()))
        .collect();
    let vanished: UidSet = known.iter().filter(|u| !pulled.listed.contains(*u)).collect();
    p.write_folder(id, |tx| {
        tx.vanish(id, &vanished)?;
        for row in &rows {
            tx.insert_row(row)?;
        }
        Ok(())
    })?;
    if !rows.is_empty() {
        let name = p.folder(id)?.rec.name.clone();
        p.report.notes.push(format!(
            "folder {name}: the server lists {} that it did not send; asked for again at the next \
             pass",
            messages(rows.len())
        ));
        let uids: UidSet = rows.iter().filter_map(|r| r.uid).collect();
        let rows = p.ledger.with(|l| l.rows_by_uids(id, &uids))?;
        p.unfetchable.extend(rows.iter().map(|r| r.id));
    }
    Ok(())
}

/// Where a folder's messages go.
struct Target {
    folder: FolderId,
    name: FolderName,
    dir: PathBuf,
    cursor: Option<Cursor>,
}

/// In a pull, UIDNEXT follows what is on disk.
#[derive(Clone, Copy)]
struct Cursor {
    folder: FolderId,
    modseq: Option<ModSeq>,
}

/// One message on its way.
struct Job {
    target: Arc<Target>,
    base: BaseName,
    place: Place,
    row: Row,
    /// The row was in the ledger already.
    pending: bool,
    /// This row goes: it is the same message, deleted here before.
    instead: Option<RowId>,
}

impl Delivery for Job {
    fn dir(&self) -> &Path {
        &self.target.dir
    }
    fn base(&self) -> &BaseName {
        &self.base
    }
    fn date(&self) -> i64 {
        self.row.identity.internal_date
    }
}

struct Sink<'a> {
    target: Arc<Target>,
    keep: bool,
    keywords: KeywordMap,
    namer: Namer,
    now: i64,
    jobs: BTreeMap<Uid, (Row, Option<RowId>)>,
    line: &'a mut Line,
    progress: &'a Progress,
    failed: Vec<(Uid, Error)>,
    wanted: UidSet,
    begun: Seen,
}

/// UIDs that came, most of them in order.
#[derive(Default)]
struct Seen(UidSet);

impl Seen {
    fn insert(&mut self, uid: Uid) -> bool {
        let new = !self.0.contains(uid);
        self.0.insert(uid);
        new
    }
}

impl Sink<'_> {
    fn job(&mut self, meta: &Meta) -> Result<Job> {
        let (mut row, pending, instead) = match self.jobs.get(&meta.uid) {
            Some((row, instead)) => (row.clone(), true, *instead),
            None => {
                let row = crate::account::observe_pending(
                    self.target.folder,
                    meta.uid,
                    Flags::default(),
                    Identity::default(),
                );
                (row, false, None)
            }
        };
        let flags = observe_flags(&meta.flags, &Flags::default(), self.keep);
        for k in &flags.keywords {
            if self.keywords.letter_of(k).is_none() {
                self.keywords.assign(k);
                if self.keywords.letter_of(k).is_some() {
                    // on disk before any name uses it
                    maildir::keywords::save(&self.target.dir, &self.keywords)?;
                }
            }
        }
        row.state = State::Synced;
        row.agreed = flags.clone();
        row.local = flags.clone();
        row.remote = flags.clone();
        row.identity.wire_size = meta.wire_size;
        row.identity.internal_date = meta.internal_date;
        row.identity.server_id.clone_from(&meta.server_id);
        let base = self.namer.next(self.now);
        let place = here::place_for(&self.keywords, &base, &flags, None);
        Ok(Job { target: self.target.clone(), base, place, row, pending, instead })
    }
}

impl BodySink for Sink<'_> {
    async fn begin(&mut self, meta: &Meta) -> Result<()> {
        if !self.wanted.contains(meta.uid) || !self.begun.insert(meta.uid) {
            let what = format!("the server sent UID {} twice, or unasked", meta.uid);
            return Err(Error::account(Kind::Protocol, what).next("sync again; nothing was lost"));
        }
        let job = self.job(meta)?;
        self.line.pipe.begin(job, meta.wire_size);
        Ok(())
    }

    async fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.line.pipe.data(bytes).await
    }

    async fn end(&mut self) -> Result<()> {
        let bytes = self.line.pipe.end().await?;
        self.progress.message(bytes);
        self.line.counted.0 += 1;
        self.line.counted.1 += bytes;
        Ok(())
    }

    async fn failed(&mut self, uid: Uid, error: Error) -> Result<()> {
        self.line.pipe.abort().await?;
        self.failed.push((uid, error));
        Ok(())
    }
}

/// What reached the disk and the ledger.
#[derive(Default)]
struct Stored {
    messages: u64,
    bytes: u64,
    places: BTreeMap<FolderId, Vec<Place>>,
    replaced: Vec<RowId>,
    keywords: BTreeMap<FolderId, KeywordMap>,
    failed: BTreeMap<FolderId, BTreeSet<Uid>>,
}

/// The threads behind the network, and what they did.
struct Line {
    pipe: Pipeline<Job>,
    done: Arc<Mutex<Stored>>,
    keywords: BTreeMap<FolderId, KeywordMap>,
    failed: BTreeMap<FolderId, BTreeSet<Uid>>,
    /// Messages and bytes that came whole, and were told of.
    counted: (u64, u64),
}

impl Line {
    fn start(p: &Pass<'_>) -> Self {
        let done = Arc::new(Mutex::new(Stored::default()));
        let (ledger, durability, stored) = (p.ledger.clone(), p.durability.clone(), done.clone());
        let pipe = Pipeline::start(move |batch| {
            let (landed, whole) = commit(batch, &ledger, &durability)?;
            if let Ok(mut d) = stored.lock() {
                d.messages += landed.messages;
                d.bytes += landed.bytes;
                d.replaced.extend(landed.replaced);
                for (folder, places) in landed.places {
                    d.places.entry(folder).or_default().extend(places);
                }
            }
            whole
        });
        let counted = (0, 0);
        Self { pipe, done, keywords: BTreeMap::new(), failed: BTreeMap::new(), counted }
    }

    /// Waits until everything is on disk and in the ledger.
    fn finish(self) -> (Stored, Result<()>) {
        let outcome = self.pipe.finish();
        let mut done = self.done.lock().map(|mut d| std::mem::take(&mut *d)).unwrap_or_default();
        done.keywords = self.keywords;
        done.failed = self.failed;
        (done, outcome)
    }
}

/// Durable, renamed, directories synced, committed; in this order (I8). What was stored, and whether
/// that is all of it: what is whole stays, though there was no room for the rest.
fn commit(
    batch: Vec<Landed<Job>>,
    ledger: &SharedLedger,
    durability: &Durability,
) -> Result<(Stored, Result<()>)> {
    make_durable(&batch, durability)?;
    let mut done = Stored::default();
    let mut dirs: BTreeSet<PathBuf> = BTreeSet::new();
    let (batch, whole) = publish(batch, |l| {
        dirs.insert(l.job.target.dir.join(l.job.place.sub.as_str()));
        maildir::publish(&l.job.target.dir, &l.staged, &l.job.place)
    });
    if batch.is_empty() {
        return Ok((done, whole));
    }
    maildir::sync_dirs(&dirs.into_iter().collect::<Vec<_>>())?;
    let at = crate::account::clock::unix_now();
    ledger.with(|ledger| {
        ledger.write(|tx| {
            let mut cursors: BTreeMap<FolderId, (Cursor, Uid)> = BTreeMap::new();
            for l in batch {
                let Landed { job, staged } = l;
                let mut row = job.row;
                row.identity.content = Some(staged.digest.content);
                row.identity.reader = Some(staged.digest.reader);
                row.identity.fingerprint = staged.digest.fingerprint;
                row.place = Some(job.place.clone());
                row.exact = true;
                let mut e = JournalEntry::new(at, Done::Download, Side::Here, "new on the server")
                    .in_folder(job.target.folder, &job.target.name);
                e.message_id = row.identity.fingerprint.message_id.to_string();
                e.uid = row.uid;
                e.base = Some(job.base);
                if let Some(old) = job.instead {
                    tx.delete_row(old)?;
                    done.replaced.push(old);
                }
                if job.pending {
                    tx.update_row(&row)?;
                    tx.answer(&row)?;
                } else {
                    tx.insert_row(&row)?;
                }
                tx.journal(&e)?;
                if let (Some(cursor), Some(uid)) = (job.target.cursor, row.uid) {
                    let last = cursors.entry(cursor.folder).or_insert((cursor, uid));
                    last.1 = last.1.max(uid);
                }
                done.messages += 1;
                done.bytes += row.identity.wire_size;
                done.places.entry(job.target.folder).or_default().push(job.place);
            }
            // UIDs come in order; if they do not, the count against EXISTS finds what is missing
            for (folder, (cursor, last)) in cursors {
                if let Some(mut rec) = tx.folder(folder)? {
                    rec.uidnext = rec.uidnext.max(last.next());
                    rec.modseq = cursor.modseq;
                    tx.update_folder(&rec)?;
                }
            }
            Ok(())
        })
    })?;
    Ok((done, whole))
}
