//! What was retrieved, to the Maildir and the ledger: durable in `tmp`, `staged`, renamed, directory
//! synced, `delivered`; in this order. A message whose bytes are known under another UIDL is not
//! delivered again. Killed anywhere, the next pass goes on from what the ledger says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::pass::Pass;
use super::protocol::Number;
use super::short::is_short;
use super::{MessageSink, recognise::Listed, traces};
use crate::account::SharedLedger;
use crate::error::{Error, Kind, Result};
use crate::executor::pipeline::{Delivery, Landed, make_durable};
use crate::ledger::{Action, JournalEntry, Side, Tx};
use crate::maildir::{self, Durability};
use crate::model::identity::Digest;
use crate::model::{
    BaseName, ContentHash, FileName, Flags, FolderId, FolderName, Gone, Identity, Place, Row,
    RowId, State, Subdir, UidlId, UidlRow, UidlState,
};
use crate::progress::Progress;

/// One message on its way.
pub struct Job {
    /// As listed.
    pub listed: Listed,
    /// Its name here.
    pub base: BaseName,
    /// Where it goes.
    pub target: Arc<Target>,
}

/// The folder that mail is delivered to.
pub struct Target {
    /// Its number.
    pub folder: FolderId,
    /// Its name.
    pub name: FolderName,
    /// Its directory.
    pub dir: PathBuf,
    /// The time of delivery, which is the mtime: POP3 tells no other one.
    pub now: i64,
}

impl Delivery for Job {
    fn dir(&self) -> &Path {
        &self.target.dir
    }
    fn base(&self) -> &BaseName {
        &self.base
    }
    fn date(&self) -> i64 {
        self.target.now
    }
}

impl Landed<Job> {
    /// Whether LIST says clearly more.
    fn is_short(&self) -> bool {
        is_short(self.job.listed.size, &self.staged.digest)
    }
}

/// A message that was here before, and may be one that is fetched.
#[derive(Debug, Clone)]
pub struct Before {
    /// Its row, if it has one.
    pub row: Option<Row>,
    /// Its UIDL in this epoch, if it has one.
    pub uidl: Option<UidlId>,
    /// Where its file is; `None`: it was deleted here.
    pub at: Option<(FolderId, PathBuf, Place)>,
    /// What it is recognised by.
    pub identity: Identity,
}

/// What became of messages, shared with the thread that commits.
#[derive(Default)]
pub struct Done {
    /// By the number in this session.
    pub delivered: BTreeMap<Number, UidlId>,
    /// Known UIDLs that a listed message is.
    pub taken: BTreeSet<UidlId>,
    /// Files that were put into the folder.
    pub places: Vec<Place>,
    /// Messages that are new here.
    pub new: u64,
    /// Messages that came clearly shorter than LIST says.
    pub short: u64,
}

/// What the committing thread works with.
pub struct Committer {
    /// The ledger.
    pub ledger: SharedLedger,
    /// How writing becomes durable.
    pub durability: Arc<Durability>,
    /// The epoch of the UIDLs.
    pub epoch: u32,
    /// No message of the epoch was known before: what comes is compared with `before` alone.
    pub nothing_known: bool,
    /// What was here before, in a first session; each is taken once.
    pub before: Vec<Before>,
    /// What is shorter than LIST says was so in a session before, and is taken as it comes.
    pub doubted: bool,
    /// Something is kept here, which the server may have again.
    pub kept: bool,
    /// What became of it.
    pub done: Arc<Mutex<Done>>,
}

impl Committer {
    /// Takes one batch through all steps.
    pub fn commit(&mut self, batch: Vec<Landed<Job>>) -> Result<()> {
        let Some(target) = batch.first().map(|l| l.job.target.clone()) else { return Ok(()) };
        make_durable(&batch, &self.durability)?;
        // the names in `tmp` as well: `staged` says that the file is there
        maildir::sync_dirs(&[target.dir.join("tmp")])?;
        let mut fresh: Vec<(Landed<Job>, UidlRow)> = Vec::new();
        // known, or not believed: not delivered
        let mut aside: Vec<Landed<Job>> = Vec::new();
        for landed in batch {
            if landed.is_short() {
                self.count_short();
                if !self.doubted {
                    aside.push(landed);
                    continue;
                }
            }
            if self.is_known(&landed)? {
                aside.push(landed);
            } else {
                let row = self.staged(&landed)?;
                fresh.push((landed, row));
            }
        }
        self.ledger.with(|l| {
            l.write(|tx| {
                for (_, row) in &mut fresh {
                    row.generation = next_generation(tx, row)?;
                    row.id = tx.insert_uidl(row)?;
                }
                Ok(())
            })
        })?;
        for landed in &aside {
            maildir::discard(&target.dir, &landed.staged)?;
        }
        let places: Vec<Place> = fresh.iter().map(|(l, _)| place_of(&l.job.base)).collect();
        for ((landed, _), place) in fresh.iter().zip(&places) {
            maildir::publish(&target.dir, &landed.staged, place)?;
        }
        maildir::sync_dirs(&[target.dir.join(Subdir::New.as_str())])?;
        self.ledger.with(|l| {
            l.write(|tx| {
                for ((landed, row), place) in fresh.iter_mut().zip(&places) {
                    let digest = &landed.staged.digest;
                    let identity = Identity {
                        content: Some(digest.content),
                        reader: Some(digest.reader),
                        fingerprint: digest.fingerprint.clone(),
                        wire_size: digest.wire_size,
                        internal_date: target.now,
                        server_id: None,
                    };
                    delivered(tx, row, &target.name, place, identity, "new on the server")?;
                }
                Ok(())
            })
        })?;
        if let Ok(mut done) = self.done.lock() {
            for (landed, row) in &fresh {
                done.delivered.insert(landed.job.listed.number, row.id);
                done.taken.insert(row.id);
            }
            done.new += places.len() as u64;
            done.places.extend(places);
        }
        Ok(())
    }

    fn staged(&self, landed: &Landed<Job>) -> Result<UidlRow> {
        let (job, digest) = (&landed.job, &landed.staged.digest);
        Ok(UidlRow {
            id: UidlId(0),
            epoch: self.epoch,
            uidl: job.listed.uidl.clone(),
            generation: 1,
            size: job.listed.size,
            state: UidlState::Staged,
            row: None,
            folder: job.target.folder,
            base: Some(job.base.clone()),
            content: Some(digest.content),
            fingerprint: digest.fingerprint.clone(),
            first_seen: job.target.now,
            delivered_at: job.target.now,
            short: landed.is_short(),
        })
    }

    /// Whether its bytes are those of a message that we know and that no listed message is yet. It
    /// then has this UIDL from now on.
    fn is_known(&mut self, landed: &Landed<Job>) -> Result<bool> {
        let digest = &landed.staged.digest;
        let content = digest.content;
        let listed = landed.job.listed.clone();
        let rows = match self.nothing_known {
            true => Vec::new(),
            false => self.ledger.with(|l| l.uidls_by_content(self.epoch, &content))?,
        };
        let taken = |id: &UidlId| self.done.lock().is_ok_and(|d| d.taken.contains(id));
        // one that we deleted there is the same only if it comes back under its own UIDL
        let fits = |r: &UidlRow| {
            !taken(&r.id)
                && r.state != UidlState::Staged
                && (r.state != UidlState::Deleted || (r.uidl == listed.uidl && r.uidl.is_some()))
        };
        if let Some(mut row) = rows.into_iter().find(fits) {
            row.short = landed.is_short();
            self.ledger.with(|l| l.write(|tx| rename(tx, &mut row, &listed)))?;
            self.take(listed.number, row.id);
            return Ok(true);
        }
        let found = self.find_before(landed)?.map(|i| self.before.swap_remove(i));
        let Some(before) = (match found {
            None if self.kept => self.find_kept(&content)?,
            found => found,
        }) else {
            return Ok(false);
        };
        let (epoch, target) = (self.epoch, &landed.job.target);
        let id = self
            .ledger
            .with(|l| l.write(|tx| adopt(tx, epoch, &listed, &before, target, Some(digest))))?;
        self.take(listed.number, id);
        Ok(true)
    }

    fn count_short(&self) {
        if let Ok(mut done) = self.done.lock() {
            done.short += 1;
        }
    }

    fn take(&self, number: Number, id: UidlId) {
        if let Ok(mut done) = self.done.lock() {
            done.delivered.insert(number, id);
            done.taken.insert(id);
        }
    }

    /// What was kept without a UIDL: a server that shows a part only did not show it when the ledger
    /// was lost.
    fn find_kept(&self, content: &ContentHash) -> Result<Option<Before>> {
        self.ledger.with(|l| {
            for row in l.by_content(content)? {
                let open = row.uid.is_none()
                    && (row.state == State::Kept || row.gone == Some(Gone::Epoch))
                    && l.uidl_of_row(row.id)?.is_none_or(|u| u.epoch != self.epoch);
                if open {
                    let identity = row.identity.clone();
                    // its bytes were compared: nobody looks for the file any more
                    let at = row.place.clone().map(|place| (row.folder, PathBuf::new(), place));
                    return Ok(Some(Before { row: Some(row), uidl: None, at, identity }));
                }
            }
            Ok(None)
        })
    }

    /// The message that was here before and has these bytes; or these with lines of another program
    /// before them; or these but for the header, and the same Message-ID and Date.
    fn find_before(&self, landed: &Landed<Job>) -> Result<Option<usize>> {
        let digest = &landed.staged.digest;
        let free = |b: &Before| {
            b.uidl.is_none_or(|id| self.done.lock().is_ok_and(|d| !d.taken.contains(&id)))
        };
        let same = |b: &Before| b.identity.content == Some(digest.content) && free(b);
        let exact = self.before.iter().position(same);
        if exact.is_some() {
            return Ok(exact);
        }
        let message = landed.staged.path(&landed.job.target.dir);
        let mut body = None;
        for (i, b) in self.before.iter().enumerate() {
            let Some((.., dir, place)) = &b.at else { continue };
            if b.identity.fingerprint != digest.fingerprint || !free(b) {
                continue;
            }
            let found = if !digest.fingerprint.message_id.is_empty() {
                let mine = match body {
                    Some(hash) => hash,
                    None => *body.insert(traces::body_of(&message)?),
                };
                where_it_is(dir, place, |file| Ok(traces::body_of(file)? == mine))?
            } else if b.identity.wire_size.abs_diff(digest.wire_size) < traces::MOST {
                where_it_is(dir, place, |file| traces::ends_with(file, &message))?
            } else {
                false
            };
            if found {
                return Ok(Some(i));
            }
        }
        Ok(None)
    }
}

/// Looks into a file of the last scan, which a reader may have renamed since. One that is not found
/// may be the message that came: an error, and the next pass knows where it is.
fn where_it_is(dir: &Path, place: &Place, look: impl Fn(&Path) -> Result<bool>) -> Result<bool> {
    match look(&maildir::place_path(dir, place)) {
        Err(e) if e.kind == Kind::Raced => match maildir::find(dir, &place.file.base)? {
            Some(now) => look(&maildir::place_path(dir, &now)),
            None => Err(e),
        },
        done => done,
    }
}

/// In `new/`, without letters: nobody has seen it.
pub fn place_of(base: &BaseName) -> Place {
    Place { sub: Subdir::New, file: FileName::bare(base.clone()) }
}

fn next_generation(tx: &Tx<'_>, row: &UidlRow) -> Result<u32> {
    let Some(uidl) = &row.uidl else { return Ok(1) };
    let known = tx.uidls_named(row.epoch, uidl)?;
    Ok(known.iter().map(|r| r.generation).max().unwrap_or(0) + 1)
}

/// A staged message is at its place.
pub fn delivered(
    tx: &mut Tx<'_>,
    uidl: &mut UidlRow,
    folder: &FolderName,
    place: &Place,
    identity: Identity,
    why: &str,
) -> Result<()> {
    let mut e = JournalEntry::new(uidl.delivered_at, Action::Download, Side::Here, why)
        .in_folder(uidl.folder, folder);
    e.message_id = identity.fingerprint.message_id.to_string();
    e.base = Some(place.file.base.clone());
    let row = row_of(uidl, Some(place), identity);
    uidl.row = Some(tx.insert_row(&row)?);
    uidl.state = UidlState::Delivered;
    tx.update_uidl(uidl)?;
    tx.journal(&e)
}

fn row_of(uidl: &UidlRow, place: Option<&Place>, identity: Identity) -> Row {
    Row {
        id: RowId(0),
        folder: uidl.folder,
        state: if place.is_some() { State::Synced } else { State::Absent },
        uid: uidl.id.uid(),
        gone: None,
        place: place.cloned(),
        agreed: Flags::default(),
        remote: Flags::default(),
        local: place.map(super::local::flags_of).unwrap_or_default(),
        identity,
        exact: true,
        copy_of: None,
        keeps: false,
    }
}

/// A known message has another UIDL, size or state than before: it is on the server.
pub fn rename(tx: &mut Tx<'_>, uidl: &mut UidlRow, listed: &Listed) -> Result<()> {
    if uidl.uidl != listed.uidl {
        uidl.uidl.clone_from(&listed.uidl);
        uidl.generation = next_generation(tx, uidl)?;
    }
    uidl.size = listed.size;
    uidl.state = UidlState::Delivered;
    if let Some(id) = uidl.row
        && let Some(mut row) = tx.row(id)?
    {
        // it may have been kept for gone
        if row.state == State::Kept {
            row.state = State::Synced;
        }
        row.uid = uidl.id.uid();
        row.gone = None;
        tx.update_row(&row)?;
    } else if uidl.row.is_none() {
        let identity = Identity {
            content: uidl.content,
            fingerprint: uidl.fingerprint.clone(),
            ..Identity::default()
        };
        uidl.row = Some(tx.insert_row(&row_of(uidl, None, identity))?);
    }
    tx.update_uidl(uidl)
}

/// What was here before is a message of this server; `there` if it was retrieved to see that.
pub fn adopt(
    tx: &mut Tx<'_>,
    epoch: u32,
    listed: &Listed,
    before: &Before,
    target: &Target,
    there: Option<&Digest>,
) -> Result<UidlId> {
    let content = there.map(|d| d.content);
    let known = match &before.row {
        Some(row) => tx.uidl_of_row(row.id)?,
        None => None,
    };
    let folder = before.at.as_ref().map_or(target.folder, |(folder, ..)| *folder);
    let mut uidl = UidlRow {
        id: known.as_ref().map_or(UidlId(0), |k| k.id),
        epoch,
        uidl: listed.uidl.clone(),
        generation: 1,
        size: listed.size,
        state: UidlState::Delivered,
        row: before.row.as_ref().map(|r| r.id),
        folder,
        base: before.at.as_ref().map(|(.., place)| place.file.base.clone()),
        content: content.or_else(|| known.as_ref().and_then(|k| k.content)),
        fingerprint: before.identity.fingerprint.clone(),
        first_seen: known.as_ref().map_or(target.now, |k| k.first_seen),
        delivered_at: known.as_ref().map_or(target.now, |k| k.delivered_at),
        short: match there {
            Some(digest) => is_short(listed.size, digest),
            None => known.as_ref().is_some_and(|k| k.short),
        },
    };
    uidl.generation = next_generation(tx, &uidl)?;
    if known.is_none() {
        uidl.id = tx.insert_uidl(&uidl)?;
    }
    match &before.row {
        Some(row) => {
            let place = before.at.as_ref().map(|(.., place)| place.clone());
            let mut row = row.clone();
            row.state = if place.is_some() { State::Synced } else { State::Absent };
            row.uid = uidl.id.uid();
            row.gone = None;
            tx.update_row(&row)?;
        }
        None => {
            let place = before.at.as_ref().map(|(.., place)| place);
            let mut row = row_of(&uidl, place, before.identity.clone());
            row.exact = content == before.identity.content;
            // the server's, as in every row, by which it is found there again: the file may have
            // lines that another program added
            row.identity.wire_size = match there {
                Some(digest) => digest.wire_size,
                None if listed.size > 0 => listed.size,
                None => before.identity.wire_size,
            };
            uidl.row = Some(tx.insert_row(&row)?);
        }
    }
    tx.update_uidl(&uidl)?;
    let mut e = JournalEntry::new(target.now, Action::Adopt, Side::Here, "it was here already");
    if folder == target.folder {
        e = e.in_folder(folder, &target.name);
    }
    e.message_id = before.identity.fingerprint.message_id.to_string();
    e.base = uidl.base.clone();
    tx.journal(&e)?;
    Ok(uidl.id)
}

/// Gives what is retrieved to the pipeline.
pub struct Sink<'a, 'p> {
    pipe: &'a mut crate::executor::pipeline::Pipeline<Job>,
    jobs: BTreeMap<Number, Job>,
    progress: &'p Progress,
    /// What could not be had.
    pub failed: Vec<(Number, Error)>,
}

impl<'a, 'p> Sink<'a, 'p> {
    /// For these.
    pub fn new(
        pipe: &'a mut crate::executor::pipeline::Pipeline<Job>,
        jobs: BTreeMap<Number, Job>,
        p: &Pass<'p>,
    ) -> Self {
        Self { pipe, jobs, progress: p.progress, failed: Vec::new() }
    }
}

impl MessageSink for Sink<'_, '_> {
    async fn begin(&mut self, number: Number) -> Result<()> {
        let job = self.jobs.remove(&number).ok_or_else(|| {
            Error::account(Kind::Protocol, format!("message {number} came unasked"))
        })?;
        let size = job.listed.size;
        self.pipe.begin(job, size);
        Ok(())
    }

    async fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.pipe.data(bytes).await
    }

    async fn end(&mut self) -> Result<()> {
        let bytes = self.pipe.end().await?;
        self.progress.message(bytes);
        Ok(())
    }

    async fn failed(&mut self, number: Number, error: Error) -> Result<()> {
        self.pipe.abort().await?;
        self.failed.push((number, error));
        Ok(())
    }
}
