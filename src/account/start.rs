//! How a pass begins and ends: lock, root marker, ledger, login; and what is noted for `status`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::clock::unix_now;
use super::marker::{Claim, Guard, Refused, Standing, compare};
use super::observe::Prescan;
use super::opened::{Kept, Opened};
use super::pass::{FolderState, Namer, Pass, SharedLedger, run};
use super::{Failed, PassOptions, PassReport};
use crate::config::{Account, Config, Protocol};
use crate::error::{Error, Kind, Result, Scope};
use crate::imap::{LoginSpec, Session};
use crate::ledger::{self, Ledger, PassState};
use crate::maildir::{self, Durability, Maildir, MarkerLock, marker};
use crate::net::{Security, Timeouts};
use crate::progress::Progress;
use crate::words::count;

/// How long a password command may take.
pub(crate) const SECRET_WITHIN: Duration = Duration::from_secs(30);

/// One pass over one account.
pub async fn pass(
    account: &Account,
    config: &Config,
    options: &PassOptions,
    progress: &Progress,
) -> Result<PassReport, Failed> {
    let path = ledger::path_for(&config.state_dir, &account.name);
    if options.dry_run {
        let (scratch, ledger) = Scratch::of(&path, account)?;
        let mut account = account.clone();
        if !account.maildir.exists() && !is_used(&ledger)? {
            // the first sync would make it
            account.maildir = scratch.empty_maildir()?;
        }
        let ledger = SharedLedger::new(ledger);
        return locked(&account, options, progress, &ledger, &mut Kept::default()).await;
    }
    Opened::open(account, config)?.once(account, options, progress).await
}

/// The lock and the ledger of an account whose maildir is sure.
pub(super) fn open(account: &Account, config: &Config) -> Result<(MarkerLock, Ledger)> {
    let path = ledger::path_for(&config.state_dir, &account.name);
    // a ledger is not made before its maildir is sure
    let existing =
        if path.exists() { Some(Ledger::open(&path, &account.name, random()?)?) } else { None };
    let used = match &existing {
        Some(l) => is_used(l)?,
        None => false,
    };
    if !used && !account.maildir.exists() {
        Maildir::create_root(&account.maildir)?;
    } else if used && let Err(e) = known_root(account) {
        // not even a lock is put into a root that is not ours: it may be an empty mount point
        if let Some(ledger) = existing {
            note(&SharedLedger::new(ledger), &e);
        }
        return Err(e);
    }
    Maildir::open(&account.maildir, account.layout)?;
    let lock = marker::lock(&account.maildir, &account.name)?;
    let ledger = match existing {
        Some(ledger) => ledger,
        None => Ledger::open(&path, &account.name, random()?)?,
    };
    Ok((lock, ledger))
}

/// Whether any pass wrote into the ledger. One that was killed in its first raise of the generation
/// did not, and may have left a maildir without a marker.
fn is_used(ledger: &Ledger) -> Result<bool> {
    let meta = ledger.meta()?;
    let in_first_raise = meta.generation == 1 && !meta.closed;
    Ok(meta.generation > 0 && !(in_first_raise && ledger.folders()?.is_empty()))
}

/// Whether the root's marker knows the account.
fn known_root(account: &Account) -> Result<()> {
    Maildir::open(&account.maildir, account.layout)?;
    let marker = marker::read(&account.maildir)?.unwrap_or_default();
    if marker.lines.contains_key(&account.name) {
        Ok(())
    } else {
        Err(Refused::NoLine.error(&account.maildir))
    }
}

fn note(ledger: &SharedLedger, e: &Error) {
    if let Err(second) = ended(ledger, PassState::Failed, Some(e.to_string()), &[]) {
        tracing::debug!("cannot note that: {second}");
    }
}

/// A pass on a ledger, and how it ended noted in it.
pub(super) async fn on_ledger(
    account: &Account,
    options: &PassOptions,
    progress: &Progress,
    ledger: &SharedLedger,
    kept: &mut Kept,
) -> Result<PassReport, Failed> {
    let done = locked(account, options, progress, ledger, kept).await;
    match &done {
        Ok(report) => {
            let failed = report.errors.first().map(ToString::to_string);
            let state = match (&failed, report.held) {
                (Some(_), _) => PassState::Failed,
                (None, 0) => PassState::Ok,
                (None, _) => PassState::Held,
            };
            ended(ledger, state, failed, &report.notes).map_err(|e| report.clone().failed(e))?;
        }
        Err(failed) => note(ledger, &failed.error),
    }
    done
}

/// Notes for `status` how the pass ended.
fn ended(
    ledger: &SharedLedger,
    state: PassState,
    error: Option<String>,
    notes: &[String],
) -> Result<()> {
    ledger.with(|l| l.note_pass(unix_now(), state, error, notes))
}

async fn locked(
    account: &Account,
    options: &PassOptions,
    progress: &Progress,
    ledger: &SharedLedger,
    kept: &mut Kept,
) -> Result<PassReport, Failed> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let maildir = Maildir::open(&account.maildir, account.layout)?.looked_at(options.dry_run);
    let durability = Arc::new(Durability::open(&account.maildir)?);
    let mut guard = Guard::new(&account.maildir, &account.name, &host, options.dry_run);
    stand(account, options, ledger, &host)?;
    let first_pass = ledger.with(|l| Ok(l.meta()?.created.is_none()))?;
    let moved = is_other_server(account, ledger)?;
    if account.protocol == Protocol::Pop3 {
        let start = crate::pop3::pass::Start {
            account,
            options,
            progress,
            maildir,
            ledger,
            guard,
            durability,
            namer: namer()?,
            now: unix_now(),
            first_pass,
        };
        let settle = |ledger: &SharedLedger, guard: &mut Guard| same_server(account, ledger, guard);
        return crate::pop3::pass::run(start, moved, settle).await;
    }
    let mut early = None;
    if moved {
        // another server is believed once it let us in
        early = Some(kept.session(account).await?);
        same_server(account, ledger, &mut guard)?;
    }
    let records = ledger.with(|l| l.folders())?;
    let mut folders = BTreeMap::new();
    for (id, rec) in records {
        let policy = account.policy.of(&rec.name, rec.special_use);
        let dir = maildir.dir(&rec.name);
        folders.insert(id, FolderState::new(rec, dir, policy));
    }
    let path = ledger.with(|l| Ok(l.path().to_owned()))?;
    let newest = ledger.with(|l| l.newest_row())?;
    let newest_before = kept.newest_before(newest);
    let scanned = Some(Prescan::start(&folders, unix_now(), path));
    let session = match early {
        Some(session) => session,
        None => kept.session(account).await?,
    };
    let mut p = Pass {
        account,
        options,
        progress,
        maildir,
        ledger: ledger.clone(),
        session,
        folders,
        open: None,
        uids: None,
        newest_before,
        listed: Vec::new(),
        missing: BTreeSet::new(),
        files: BTreeMap::new(),
        stats: BTreeMap::new(),
        stamps: BTreeMap::new(),
        unread: Vec::new(),
        next_file: 0,
        remote_complete: false,
        local_complete: false,
        first_pass,
        namer: namer()?,
        guard,
        durability,
        report: PassReport::default(),
        look_again: false,
        relisted: false,
        waiting: BTreeMap::new(),
        started: unix_now(),
        unfetchable: BTreeSet::new(),
        refused: BTreeMap::new(),
        scanned,
        complete: kept.complete.clone(),
        wait_until: None,
    };
    if !options.dry_run && !std::mem::replace(&mut kept.cleared, true) {
        for f in p.folders.values() {
            if f.rec.on_disk {
                // what a crash left in tmp
                let cleared = p.maildir.clear_tmp(&f.rec.name);
                if let Err(e) = cleared {
                    tracing::debug!("{}: {e}", account.name);
                }
            }
        }
    }
    let done = run(&mut p).await;
    finish(p, done, kept).await
}

async fn finish(mut p: Pass<'_>, done: Result<()>, kept: &mut Kept) -> Result<PassReport, Failed> {
    match done {
        Ok(()) => {}
        // the session is over, or the account cannot go on
        Err(e) => {
            let e = p.session.dead().cloned().filter(|d| d.kind == e.kind).unwrap_or(e);
            return Err(p.report.failed(e));
        }
    }
    for ((folder, why), n) in &p.waiting {
        let name = p.folders.get(folder).map(|f| f.rec.name.to_string()).unwrap_or_default();
        let wait = count(*n, "change waits", "changes wait");
        p.report.notes.push(format!("folder {name}: {wait}: {why}"));
    }
    p.report.unfinished = p.look_again || !p.remote_complete || !p.local_complete;
    if p.first_pass && !p.options.dry_run {
        let noted = saw_what_was_here(&p).and_then(|whole| match whole {
            true => p.ledger.with(|l| {
                let mut meta = l.meta()?;
                meta.created = Some(unix_now());
                l.write(|tx| tx.set_meta(&meta))
            }),
            false => Ok(()),
        });
        if let Err(e) = noted {
            return Err(p.report.failed(e));
        }
    }
    let Pass { session, report, folders, .. } = p;
    kept.keep(session, folders.values()).await;
    Ok(report)
}

/// Whether everything that stood here before the ledger was held against the server: then what comes
/// later is new. What could not be done about it waits, and is no reason to go on asking; nor is a
/// folder of the server that cannot be opened, unless something stands here for it.
fn saw_what_was_here(p: &Pass<'_>) -> Result<bool> {
    if !p.local_complete || !p.options.folders.is_empty() {
        return Ok(false);
    }
    if p.remote_complete {
        return Ok(true);
    }
    let unread: Vec<_> =
        p.folders.iter().filter_map(|(id, f)| Some((*id, f.failed.as_ref()?))).collect();
    // a LIST that could not be read may have hidden any folder
    let obscure = |e: &Error| {
        e.kind == Kind::Protocol
            && e.scope >= Scope::Folder
            && !unread.iter().any(|(_, of)| *of == e)
    };
    if p.report.errors.iter().any(obscure) {
        return Ok(false);
    }
    for (id, _) in unread {
        let mut stands = p.files.values().any(|f| f.folder == id);
        p.ledger.with(|l| {
            l.for_each_local(id, |_, _| {
                stands = true;
                Ok(())
            })
        })?;
        if stands {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether Maildir and ledger belong together, and what is done if they do not.
fn stand(
    account: &Account,
    options: &PassOptions,
    ledger: &SharedLedger,
    host: &str,
) -> Result<()> {
    let meta = ledger.with(|l| l.meta())?;
    let claim = Claim {
        id: meta.id,
        generation: meta.generation,
        closed: meta.closed,
        used: ledger.with(|l| is_used(l))?,
    };
    let lines = marker::read(&account.maildir)?.unwrap_or_default().lines;
    let line = lines.get(&account.name);
    let standing =
        compare(claim, line, host, options.take_over).map_err(|r| r.error(&account.maildir))?;
    match (standing, line) {
        (Standing::Together, Some(line)) if line.host != host && !options.dry_run => {
            rewrite_line(account, ledger, host, false) // taken over
        }
        (Standing::Together | Standing::New, _) | (_, None) => Ok(()),
        (Standing::Lost, Some(line)) => {
            tracing::warn!(
                "{}: the ledger of this maildir is lost; both sides are paired again",
                account.name
            );
            ledger.with(|l| {
                let mut meta = l.meta()?;
                meta.id = line.ledger;
                meta.generation = line.generation;
                meta.closed = true;
                meta.created = None;
                l.write(|tx| tx.set_meta(&meta))
            })
        }
        (Standing::Restored, Some(line)) => {
            tracing::warn!(
                "{}: the maildir or its ledger was restored from a backup; both sides are paired \
                 again",
                account.name
            );
            ledger.with(|l| {
                let mut meta = l.meta()?;
                meta.id = line.ledger;
                meta.generation = line.generation.max(meta.generation) + 1;
                meta.closed = false;
                meta.created = None;
                l.write(|tx| {
                    tx.distrust()?;
                    tx.set_meta(&meta)
                })?;
                Ok(())
            })?;
            rewrite_line(account, ledger, host, options.dry_run)
        }
    }
}

/// After a restore, ledger and marker agree on a generation that neither had.
fn rewrite_line(account: &Account, ledger: &SharedLedger, host: &str, dry_run: bool) -> Result<()> {
    if dry_run {
        return Ok(());
    }
    let meta = ledger.with(|l| l.meta())?;
    let line = maildir::Line { ledger: meta.id, generation: meta.generation, host: host.into() };
    marker::write(&account.maildir, &account.name, Some(&line))?;
    ledger.with(|l| {
        let mut meta = l.meta()?;
        meta.closed = true;
        l.write(|tx| tx.set_meta(&meta))
    })
}

/// What tells servers apart.
fn server_of(account: &Account) -> String {
    format!("{}@{}:{}", account.user, account.endpoint.host, account.protocol.as_str())
}

fn is_other_server(account: &Account, ledger: &SharedLedger) -> Result<bool> {
    ledger.with(|l| Ok(l.meta()?.host_user != server_of(account)))
}

/// Another host or user is another server: all UIDs are new.
fn same_server(account: &Account, ledger: &SharedLedger, guard: &mut Guard) -> Result<()> {
    guard.open(ledger)?;
    ledger.with(|l| {
        let folders = l.folders()?;
        let mut meta = l.meta()?;
        let moved = !meta.host_user.is_empty();
        meta.host_user = server_of(account);
        l.write(|tx| {
            if moved {
                tx.unfile_uidls()?;
                for (id, mut f) in folders {
                    tx.mark_epoch(id)?;
                    f.uidvalidity = None;
                    f.uidnext = None;
                    f.modseq = None;
                    f.messages = 0;
                    f.on_server = false;
                    f.wire = None;
                    // rows may stand elsewhere now than where their files are
                    f.digest = None;
                    f.signature = None;
                    tx.update_folder(&f)?;
                }
            }
            tx.set_meta(&meta)
        })
    })
}

/// Resolves the secret, connects and logs in.
pub(super) async fn log_in(account: &Account) -> Result<Session> {
    let login = log_in_as(account).await?;
    Session::connect(&account.endpoint, &login, &Timeouts::default()).await
}

/// Who logs in, with the secret as it is now.
pub(crate) async fn log_in_as(account: &Account) -> Result<LoginSpec> {
    let secret = crate::secret::resolve(&account.credential, SECRET_WITHIN).await?;
    Ok(LoginSpec {
        user: account.user.clone(),
        auth: account.auth,
        secret,
        token: account.credential.is_token(),
        // the configuration allows plaintext only for loopback, or where it is told to
        plaintext_ok: matches!(account.endpoint.security, Security::None),
    })
}

fn namer() -> Result<Namer> {
    Ok(Namer::new(u64::try_from(random()? & u128::from(u64::MAX)).unwrap_or(0)))
}

fn random() -> Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| {
        Error::new(Scope::Fatal, Kind::Io, format!("the system gives no random numbers: {e}"))
    })?;
    Ok(u128::from_ne_bytes(bytes))
}

/// How often a ledger is copied for a dry run while passes go on.
const COPIES: usize = 5;

/// A copy of the ledger for a dry run, removed with it.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// With the ledger in it. A pass that raises the generation while it is copied would look like a
    /// restored backup: then it is copied again.
    fn of(path: &Path, account: &Account) -> Result<(Self, Ledger)> {
        for _ in 0..COPIES {
            let before = marker::read(&account.maildir)?;
            let scratch = Self::new(path, &account.name)?;
            let ledger = Ledger::open(&scratch.path, &account.name, random()?)?;
            if marker::read(&account.maildir)? == before {
                return Ok((scratch, ledger));
            }
        }
        Err(Error::account(Kind::Raced, "another pass keeps changing the maildir meanwhile")
            .next("try again when it has ended"))
    }

    fn new(ledger: &Path, account: &str) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("mailkeep-{:032x}", random()?));
        let scratch = Self { path: ledger::path_for(&dir, account) };
        std::fs::DirBuilder::new()
            .create(&dir)
            .map_err(|e| Error::io(Scope::Account, "create", &dir, &e))?;
        if let Some(l) = Ledger::open_readonly(ledger)? {
            l.copy_to(&scratch.path)?;
        }
        Ok(scratch)
    }

    /// A maildir with nothing in it, removed with the rest.
    fn empty_maildir(&self) -> Result<PathBuf> {
        let root = self.path.with_extension("maildir");
        Maildir::create_root(&root)?;
        Ok(root)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(dir) = self.path.parent() {
            // nobody needs it any more; what cannot be removed is the system's to clear
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}
