//! One pass over a POP3 account: the Maildir is looked at beside the login; STAT, UIDL and LIST;
//! what is new is retrieved and made durable; then what is due is deleted there, and QUIT. If
//! anything retrieved is not durable, the session is closed without QUIT.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::broken::{self, Broken, Manner};
use super::deliver::{Before, Done, adopt, rename};
use super::gone::vanished;
use super::protocol::Number;
use super::recognise::{self, Freeze, Known, Listed, Settled, Unread};
use super::{Capabilities, Quit, Session, before, describe, fetch, local, remove};
use crate::account::{Failed, Guard, Namer, PassOptions, PassReport, SharedLedger};
use crate::config::{Account, Pop3};
use crate::error::{Error, Kind, Refusal, Result, Scope};
use crate::ledger::{FolderRecord, Mailbox, Tx};
use crate::maildir::{self, Durability, Maildir, NamesDigest};
use crate::model::{Fingerprint, FolderId, FolderName, Place, UidlId, UidlRow, UidlState};
use crate::progress::Progress;
use crate::words::{count, messages};

/// Sessions of one pass at most: one more for every time that a message broke one.
const SESSIONS: usize = 8;
/// How often a login is tried while the session that broke still has the mailbox locked.
const LOGINS: u32 = 5;

/// Why a message is not fetched in a first session.
const OBSCURE: &str =
    "they may be here already, in files that cannot be read; mend these, and they come or pair";

/// What a pass begins with: locked, and Maildir and ledger belong together.
pub struct Start<'a> {
    /// What is fetched, and how.
    pub account: &'a Account,
    /// What was asked for.
    pub options: &'a PassOptions,
    /// Tells a person how far it is.
    pub progress: &'a Progress,
    /// The local side.
    pub maildir: Maildir,
    /// The ledger.
    pub ledger: &'a SharedLedger,
    /// The generation in ledger and root marker.
    pub guard: Guard,
    /// How writing becomes durable; opened before the first write.
    pub durability: Arc<Durability>,
    /// Draws names.
    pub namer: Namer,
    /// Unix time in seconds.
    pub now: i64,
    /// The ledger is new to this Maildir.
    pub first_pass: bool,
}

/// A folder of the Maildir.
pub struct Spot {
    /// The ledger's record.
    pub rec: FolderRecord,
    /// Its directory.
    pub dir: PathBuf,
    /// The digest of its names.
    pub names: Option<NamesDigest>,
    /// It is to be compared again, though no name changes.
    pub unsettled: bool,
}

/// A pass under way.
pub struct Pass<'a> {
    /// What is fetched, and how.
    pub account: &'a Account,
    /// `[accounts.NAME.pop3]`.
    pub pop3: Pop3,
    /// Whether nothing is done but said.
    pub dry_run: bool,
    /// Tells a person how far it is.
    pub progress: &'a Progress,
    /// The local side.
    pub maildir: Maildir,
    /// The ledger.
    pub ledger: SharedLedger,
    /// Every folder by its number.
    pub folders: BTreeMap<FolderId, Spot>,
    /// What is known of the mailbox.
    pub mailbox: Mailbox,
    /// Unix time in seconds.
    pub now: i64,
    /// What happened.
    pub report: PassReport,
    /// The generation in ledger and root marker.
    pub guard: Guard,
    /// How writing becomes durable.
    pub durability: Arc<Durability>,
    /// Draws names.
    pub namer: Namer,
    /// What was here before the epoch is not all compared yet: it may be the server's.
    pub first: bool,
    /// Then: what could not be read, and may be the server's too.
    pub unread: Vec<Unread>,
}

impl Pass<'_> {
    /// Changes the ledger, after the generation was raised.
    pub fn write<T>(&mut self, f: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        self.guard.open(&self.ledger)?;
        let guard = &mut self.guard;
        self.ledger.with(|l| {
            l.write(|tx| {
                guard.close(tx)?;
                f(tx)
            })
        })
    }

    /// The number of a folder, which gets a record if it has none.
    pub fn folder(&mut self, name: &FolderName) -> Result<FolderId> {
        if let Some((id, _)) = self.folders.iter().find(|(_, s)| s.rec.name == *name) {
            return Ok(*id);
        }
        let mut rec = FolderRecord::new(name.clone());
        rec.on_disk = true;
        rec.id = self.write(|tx| tx.insert_folder(&rec))?;
        let spot = Spot::new(rec, self.maildir.dir(name));
        let id = spot.rec.id;
        self.folders.insert(id, spot);
        Ok(id)
    }

    /// Where a file is.
    pub fn path(&self, folder: FolderId, place: &Place) -> Option<PathBuf> {
        self.folders.get(&folder).map(|s| maildir::place_path(&s.dir, place))
    }

    /// Notes an error of one message or file.
    pub fn note(&mut self, e: Error) {
        tracing::debug!("{}: {e}", self.account.name);
        if !self.report.errors.contains(&e) {
            self.report.errors.push(e);
        }
    }
}

/// Runs it. `log_in` gives a session, `moved` says that the server is another one than before, and
/// `settle` notes that in the ledger.
pub async fn run(
    start: Start<'_>,
    moved: bool,
    settle: impl FnOnce(&SharedLedger, &mut Guard) -> Result<()>,
) -> Result<PassReport, Failed> {
    let Start { account, ledger, maildir, mut guard, .. } = start;
    let scanning = local::Scanning::start(maildir.clone());
    let session = super::log_in(account).await?;
    if moved {
        settle(ledger, &mut guard)?;
    }
    let mut mailbox = ledger.with(|l| l.mailbox())?;
    if moved || mailbox.epoch == 0 {
        // what UIDLs said before was said by another server
        mailbox =
            Mailbox { epoch: mailbox.epoch + 1, paired: mailbox.paired, ..Mailbox::default() };
        ledger.with(|l| l.write(|tx| tx.set_mailbox(&mailbox)))?;
    }
    let folders = ledger.with(|l| l.folders())?.into_iter().map(|(id, rec)| {
        let dir = maildir.dir(&rec.name);
        (id, Spot::new(rec, dir))
    });
    let mut p = Pass {
        account,
        pop3: account.pop3.clone().ok_or_else(|| {
            Error::account(Kind::Internal, "a POP3 account without a [pop3] section")
        })?,
        dry_run: start.options.dry_run,
        progress: start.progress,
        folders: folders.collect(),
        ledger: ledger.clone(),
        first: start.first_pass || mailbox.paired != mailbox.epoch,
        mailbox,
        now: start.now,
        report: PassReport::default(),
        guard,
        durability: start.durability,
        namer: start.namer,
        unread: Vec::new(),
        maildir,
    };
    let before = p.ledger.with(|l| l.broken(p.mailbox.epoch))?;
    let manner = Manner {
        now: p.now,
        by_itself: start.options.by_itself,
        one_login: p.mailbox.login_delay > 0,
    };
    let (mut broken, errors) = Broken::remembered(before, manner);
    errors.into_iter().for_each(|e| p.note(e));
    let mut done = sessions(&mut p, session, scanning, &mut broken).await;
    if !p.dry_run {
        // what is durable is remembered, also where the pass failed
        if let Err(e) = remember_broken(&mut p, &broken, done.as_ref().err()) {
            done = done.and(Err(e));
        }
        let paired = p.mailbox.paired == p.mailbox.epoch;
        let noted = finish(&mut p, start.first_pass && done.is_ok() && paired);
        done = noted.and(done);
    }
    match done {
        Ok(()) => Ok(p.report),
        Err(e) => Err(p.report.failed(e)),
    }
}

/// As many sessions as it takes: one, and one more for every time that a message broke one.
async fn sessions(
    p: &mut Pass<'_>,
    mut session: Session,
    scanning: local::Scanning,
    broken: &mut Broken,
) -> Result<()> {
    let scans = scanning.finish()?;
    let all = p.first || p.ledger.with(|l| Ok(!l.uidls_staged()?.is_empty()))?;
    let mut extras = local::observe(p, scans, all).await?;
    before::recover(p, &mut extras)?;
    let mut strays = Vec::new();
    if p.first {
        (strays, p.unread) = before::strays(p, extras)?;
    }
    for n in 1.. {
        match one_session(p, session, &strays, broken).await {
            Ok(End::Doubted) => session = again(p.account).await?,
            // one bad message does not block the others
            Err(e) if n < SESSIONS && broken.is_by_message(&e) => {
                tracing::debug!("{}: {e}; on with the rest", p.account.name);
                broken.set_aside().into_iter().for_each(|e| p.note(e));
                if !broken.is_more() {
                    break;
                }
                session = again(p.account).await?;
            }
            Err(e) => {
                broken.set_aside();
                return Err(e);
            }
            Ok(End::Whole) if p.dry_run || !broken.recall() => break,
            // of those that broke sessions of earlier passes nothing else depends
            Ok(End::Whole) => match super::log_in(p.account).await {
                Ok(new) => session = new,
                Err(e) => {
                    p.note(e.at("a message that broke its session before"));
                    break;
                }
            },
        }
        strays = before::unclaimed(p, strays)?;
    }
    Ok(())
}

/// Notes at which messages sessions broke, and forgets those that came.
fn remember_broken(p: &mut Pass<'_>, broken: &Broken, e: Option<&Error>) -> Result<()> {
    let (epoch, now) = (p.mailbox.epoch, p.now);
    let (known, here) = p.ledger.with(|l| {
        let mut here = BTreeSet::new();
        for uidl in broken.names() {
            if l.uidls_named(epoch, &uidl)?.iter().any(|u| u.state.on_server()) {
                here.insert(uidl);
            }
        }
        Ok((l.broken(epoch)?, here))
    })?;
    let rows = broken.memory(now, e, &here);
    if rows == known {
        return Ok(());
    }
    p.write(|tx| tx.remember_broken(epoch, &rows))
}

fn finish(p: &mut Pass<'_>, first_pass_done: bool) -> Result<()> {
    local::finish(p)?;
    let failed = p.report.errors.iter().any(|e| e.scope >= Scope::Folder);
    if !first_pass_done || failed {
        return Ok(());
    }
    let now = p.now;
    p.ledger.with(|l| {
        let mut meta = l.meta()?;
        meta.created = Some(now);
        l.write(|tx| tx.set_meta(&meta))
    })
}

/// Another login. A server may take its time to see that the session before is over.
async fn again(account: &Account) -> Result<Session> {
    let mut tries = 0;
    loop {
        match super::log_in(account).await {
            Err(e) if e.refusal == Some(Refusal::InUse) && tries < LOGINS => {
                tokio::time::sleep(Duration::from_secs(1 << tries)).await;
                tries += 1;
            }
            done => return done,
        }
    }
}

/// How a session ended that nothing broke.
enum End {
    /// All was done.
    Whole,
    /// It gave messages clearly shorter than it had said. Nothing is deleted on its word, and another
    /// one asks for them again, and for no header before.
    Doubted,
}

async fn one_session(
    p: &mut Pass<'_>,
    mut session: Session,
    strays: &[Before],
    broken: &mut Broken,
) -> Result<End> {
    let seen = session.mailbox().await?;
    let (listed, mut frozen) = recognise::listing(seen.stat.messages, &seen.uidls, &seen.sizes);
    let known = known(p, &listed, strays)?;
    let first = recognise::first(&listed, &known);
    if first.all_new {
        frozen.insert(Freeze::AllNew);
    }
    let headers = match p.mailbox.doubted && !p.dry_run {
        // TOP may be what makes RETR cut messages short
        true => BTreeMap::new(),
        false => headers(&mut session, &first.ask).await?,
    };
    let mut settled = recognise::settle(&listed, &known, &first, &headers);
    let by_number: BTreeMap<Number, &Listed> = listed.iter().map(|l| (l.number, l)).collect();
    if p.dry_run {
        describe::describe(p, &settled, &known, &by_number, &frozen)?;
        session.leave().await;
        return Ok(End::Whole);
    }
    let mut taken = Done::default();
    note_known(p, &known, &settled, &by_number, &mut taken)?;
    let mut strays_left = adopt_all(p, strays, &settled, &by_number, &mut taken)?;
    if first.all_new && !settled.fetch.is_empty() {
        strays_left.extend(before::lost(p, &known, &settled)?);
    }
    settled.fetch.retain(|n| by_number.get(n).is_some_and(|l| !broken.is_out(l)));
    let doubted = p.mailbox.doubted;
    settled.fetch.sort_by_key(|n| by_number.get(n).is_some_and(|l| broken::has(&broken.last, l)));
    let done =
        fetch::fetch(p, &mut session, &settled, &by_number, strays_left, taken, broken).await;
    let done = match done {
        Ok(done) => done,
        Err(e) => {
            // not all of what was retrieved is durable, or nobody knows: nothing is deleted
            session.close().await;
            return Err(e);
        }
    };
    if p.mailbox.doubted && !doubted {
        session.close().await;
        return Ok(End::Doubted);
    }
    let short = frozen.contains(&Freeze::Short);
    if !short && !p.mailbox.windowed {
        broken.listed(&listed);
    }
    vanished(p, &known, &done, short)?;
    let capabilities = session.caps().clone();
    let fetched: BTreeSet<Number> = settled.fetch.iter().copied().collect();
    let there =
        remove::There { listed: &listed, done: &done.delivered, fetched: &fetched, known: &known };
    let marked = remove::due(p, &mut session, &there, &frozen).await?;
    let deleted = end(p, session, marked).await?;
    if !settled.obscure.is_empty() {
        p.report.notes.push(format!(
            "{}: {OBSCURE}",
            count(settled.obscure.len(), "message waits", "messages wait")
        ));
    }
    if !short && settled.obscure.is_empty() && before::is_elsewhere(p, strays, &broken.not_had())? {
        p.mailbox.paired = p.mailbox.epoch;
        if !p.mailbox.windowed {
            before::keep(p, strays)?;
        }
    }
    remember(p, listed.len() as u64 - deleted, &frozen, &capabilities)?;
    Ok(End::Whole)
}

/// Ends the session. How many are deleted: only its +OK says that what was marked is.
async fn end(
    p: &mut Pass<'_>,
    session: Session,
    marked: Vec<(UidlId, remove::Cause)>,
) -> Result<u64> {
    if marked.is_empty() {
        session.leave().await;
        return Ok(0);
    }
    match session.quit().await {
        Quit::Done => {
            crate::steps::moment(|| "quit".into());
            remove::deleted(p, &marked)?;
            Ok(marked.len() as u64)
        }
        Quit::Refused(e) | Quit::Unknown(e) => {
            p.report.notes.push(format!(
                "{} may or may not be deleted on the server; the next listing tells: {e}",
                messages(marked.len())
            ));
            Ok(0)
        }
    }
}

/// What the listing is compared with.
fn known(p: &Pass<'_>, listed: &[Listed], strays: &[Before]) -> Result<Known> {
    let epoch = p.mailbox.epoch;
    p.ledger.with(|l| {
        let there = l.uidls_on_server(epoch)?;
        let mut rows: BTreeMap<UidlId, UidlRow> = there.into_iter().map(|r| (r.id, r)).collect();
        let named: BTreeSet<Box<[u8]>> = rows.values().filter_map(|r| r.uidl.clone()).collect();
        let mut times: BTreeMap<&[u8], u32> = BTreeMap::new();
        for uidl in listed.iter().filter_map(|l| l.uidl.as_deref()) {
            *times.entry(uidl).or_default() += 1;
        }
        let mut new = false;
        if l.count_uidls(epoch)? == 0 {
            new = true;
            times.clear();
        }
        for (uidl, n) in times {
            if n > 1 || !named.contains(uidl) {
                let found = l.uidls_named(epoch, uidl)?;
                new |= found.is_empty();
                rows.extend(found.into_iter().map(|r| (r.id, r)));
            }
        }
        new |= listed.iter().any(|l| l.uidl.is_none());
        // what went may be there under another name
        let gone = if new { l.uidls_gone(epoch, None)? } else { Vec::new() };
        Ok(Known {
            rows,
            gone: gone.into_iter().map(|r| (r.id, r)).collect(),
            strays: strays.iter().map(Before::stray).collect(),
            unread: p.unread.clone(),
        })
    })
}

/// Message-ID and Date of these.
async fn headers(
    session: &mut Session,
    ask: &BTreeSet<Number>,
) -> Result<BTreeMap<Number, Fingerprint>> {
    let mut out = BTreeMap::new();
    let caps = session.caps();
    if ask.is_empty() || (caps.known && !caps.top) {
        return Ok(out);
    }
    let numbers: Vec<Number> = ask.iter().copied().collect();
    session
        .top(&numbers, &mut |number, header| {
            if let Ok(header) = header {
                out.insert(number, Fingerprint::from_header(header));
            }
            Ok(())
        })
        .await?;
    Ok(out)
}

/// Notes what is known by another name, of another size, or was taken for gone.
fn note_known(
    p: &mut Pass<'_>,
    known: &Known,
    settled: &Settled,
    by_number: &BTreeMap<Number, &Listed>,
    done: &mut Done,
) -> Result<()> {
    let mut changed: Vec<(UidlRow, Listed)> = Vec::new();
    let mut windowed = false;
    for (number, id) in settled.known.iter().chain(&settled.renamed) {
        done.delivered.insert(*number, *id);
        done.taken.insert(*id);
        let row = known.rows.get(id).or_else(|| known.gone.get(id));
        let (Some(row), Some(listed)) = (row, by_number.get(number)) else { continue };
        // one that was not listed for a while: the server shows a part only
        windowed |= row.state == UidlState::Gone && row.uidl == listed.uidl && row.uidl.is_some();
        let same = row.uidl == listed.uidl
            && (row.size == listed.size || listed.size == 0)
            && row.state != UidlState::Gone;
        if !same {
            changed.push((row.clone(), (*listed).clone()));
        }
    }
    if windowed {
        p.mailbox.windowed = true;
    }
    if changed.is_empty() {
        return Ok(());
    }
    p.write(|tx| {
        // names may be exchanged: all go before any comes
        for (row, listed) in &changed {
            if row.uidl != listed.uidl {
                tx.update_uidl(&UidlRow { uidl: None, ..row.clone() })?;
            }
        }
        changed.iter_mut().try_for_each(|(row, listed)| rename(tx, row, listed))
    })
}

/// Notes what was here already. What is left may still be what is fetched.
fn adopt_all(
    p: &mut Pass<'_>,
    strays: &[Before],
    settled: &Settled,
    by_number: &BTreeMap<Number, &Listed>,
    done: &mut Done,
) -> Result<Vec<Before>> {
    let mut left: BTreeMap<usize, &Before> = strays.iter().enumerate().collect();
    let mut pairs = Vec::new();
    for (number, i) in &settled.adopted {
        if let (Some(before), Some(listed)) = (left.remove(i), by_number.get(number)) {
            pairs.push((*number, before, *listed));
        }
    }
    if !pairs.is_empty() {
        let target = fetch::target(p)?;
        let epoch = p.mailbox.epoch;
        let ids = p.write(|tx| {
            let one = |(_, before, listed): &(Number, &Before, &Listed)| {
                adopt(tx, epoch, listed, before, &target, None)
            };
            pairs.iter().map(one).collect::<Result<Vec<_>>>()
        })?;
        for ((number, ..), id) in pairs.iter().zip(ids) {
            done.delivered.insert(*number, id);
            done.taken.insert(id);
        }
        p.report
            .notes
            .push(format!("{} here already", count(pairs.len(), "message was", "messages were")));
    }
    Ok(left.into_values().cloned().collect())
}

fn remember(
    p: &mut Pass<'_>,
    on_server: u64,
    frozen: &BTreeSet<Freeze>,
    caps: &Capabilities,
) -> Result<()> {
    p.mailbox.doubted = false;
    p.mailbox.on_server = on_server;
    p.mailbox.listed_at = Some(p.now);
    p.mailbox.login_delay = caps.login_delay.as_ref().map_or(0, |d| d.seconds);
    p.report.login_delay = p.mailbox.login_delay;
    p.mailbox.frozen = frozen.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if !frozen.is_empty() {
        p.report.notes.push(format!("nothing is deleted on the server: {}", p.mailbox.frozen));
    }
    let mailbox = p.mailbox.clone();
    p.ledger.with(|l| l.write(|tx| tx.set_mailbox(&mailbox)))
}
