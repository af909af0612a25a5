//! One pass over an IMAP account: observe both sides, plan across all folders, act; again while
//! acting made something to see. Everything that a pass knows beside the ledger is in [`Pass`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::marker::Guard;
use super::{PassOptions, PassReport, holds, observe, resolve};
use crate::config::Account;
use crate::error::{Error, Kind, Result, Scope};
use crate::executor;
use crate::imap::{Beside, Known, Listing, Opened, Selected, Session, Status};
use crate::ledger::{FolderRecord, Ledger};
use crate::maildir::watch::Complete;
use crate::maildir::{DirSignature, Durability, KeywordMap, Maildir, NamesDigest};
use crate::model::{
    BaseName, FolderId, FolderName, PermanentFlags, RowId, SpecialUse, Uid, UidSet,
};
use crate::policy::decide::{Decision, decide};
use crate::policy::{FolderPolicy, LocalDelete};
use crate::progress::Progress;
use crate::reconcile::{self, Change, FileId, LocalFile, Plan, Presence, Trees, Unread};

/// How often a pass observes again before it leaves the rest to the next one.
const ROUNDS: usize = 6;

/// Why a folder is closed that SELECT opens READ-ONLY.
const READ_ONLY: &str = "the server opens this folder read-only";

/// The ledger, shared with the thread that commits downloads.
#[derive(Clone)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    /// Shares it.
    pub fn new(ledger: Ledger) -> Self {
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// Whether nobody else has it: no thread of a pass that was dropped is still writing.
    pub fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Works with it. A thread that died with the ledger in hand ends the account's pass.
    pub fn with<T>(&self, f: impl FnOnce(&mut Ledger) -> Result<T>) -> Result<T> {
        let mut guard = self.0.lock().map_err(|_| {
            Error::account(Kind::Internal, "the thread that writes the ledger died")
                .next("sync again; if it happens again, report it")
        })?;
        f(&mut guard)
    }
}

/// Makes base names that no other delivery has.
#[derive(Debug)]
pub struct Namer {
    random: u64,
    counter: u64,
}

impl Namer {
    /// With 64 bits drawn once for this process.
    pub fn new(random: u64) -> Self {
        Self { random, counter: 0 }
    }

    /// The next name.
    pub fn next(&mut self, now: i64) -> BaseName {
        self.counter += 1;
        BaseName::ours(u64::try_from(now).unwrap_or(0), self.random, self.counter)
    }
}

/// What this pass knows of a folder.
pub struct FolderState {
    /// The ledger's record, kept in step.
    pub rec: FolderRecord,
    /// Its directory.
    pub dir: PathBuf,
    /// What holds for it.
    pub policy: FolderPolicy,
    /// Whether it is mirrored.
    pub selected: bool,
    /// On the server.
    pub server: Presence,
    /// In the Maildir.
    pub disk: Presence,
    /// The ledger knew it before this pass, and never looked into it: it was excluded until now.
    pub unseen: bool,
    /// The user's own on the server; else another user's, or a shared one.
    pub personal: bool,
    /// What LIST or STATUS said.
    pub status: Option<Status>,
    /// What can be stored there; known once it was opened.
    pub permanent: Option<PermanentFlags>,
    /// Why it cannot be changed on the server.
    pub closed: Option<String>,
    /// The server opened it read-only when it was last opened for writing.
    pub read_only: bool,
    /// What the letters mean.
    pub keywords: KeywordMap,
    /// The keyword file was lost or contradicts the ledger: letters mean nothing in this pass.
    pub letters_void: bool,
    /// What the last complete pass remembered of its names: signature and digest.
    pub remembered: (Option<Vec<u8>>, Option<u128>),
    /// The digest of what stands in `cur` and `new`; `None` until it was read.
    pub names: Option<NamesDigest>,
    /// The signature that went with it, if an equal one later proves that nothing changed.
    pub trusted: Option<DirSignature>,
    /// We changed the directory since.
    pub touched: bool,
    /// Something there is not settled: the next pass must look again.
    pub unsettled: bool,
    /// New UIDs begin here, and have not been fetched yet.
    pub fresh: Option<Fresh>,
    /// The last observation of a side failed.
    pub failed: Option<Error>,
}

/// New messages of a folder, known to be there by UIDNEXT or by counting.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    /// The first UID not observed.
    pub from: Uid,
    /// How many there are, if that was counted.
    pub count: Option<u64>,
    /// HIGHESTMODSEQ when the folder was opened; becomes the cursor together with UIDNEXT.
    pub modseq: Option<crate::model::ModSeq>,
    /// UIDNEXT when the folder was opened.
    pub uidnext: Option<Uid>,
}

impl FolderState {
    /// A folder that only the ledger speaks of so far.
    ///
    /// What was remembered of its names is taken out of the record, so that whatever this pass
    /// writes, it is there again only when the pass has ended well.
    pub fn new(mut rec: FolderRecord, dir: PathBuf, policy: FolderPolicy) -> Self {
        let remembered = (rec.signature.take(), rec.digest.take());
        let keywords = KeywordMap::parse(&rec.keywords);
        let unseen = rec.on_server && rec.uidvalidity.is_none();
        Self {
            rec,
            dir,
            policy,
            selected: true,
            server: Presence::Never,
            disk: Presence::Never,
            unseen,
            personal: true,
            status: None,
            permanent: None,
            closed: None,
            read_only: false,
            keywords,
            letters_void: false,
            remembered,
            names: None,
            trusted: None,
            touched: false,
            unsettled: false,
            fresh: None,
            failed: None,
        }
    }

    /// The name as the server spells it.
    pub fn wire(&self) -> Result<Vec<u8>> {
        self.rec.wire.clone().ok_or_else(|| {
            Error::folder(
                Kind::Internal,
                format!("folder {} has no name on the server", self.rec.name),
            )
        })
    }

    /// Whether it is on the server, and what is in it is not known.
    pub fn is_unseen(&self) -> bool {
        self.server == Presence::There && self.failed.is_some()
    }

    /// Whether it is `\Trash`.
    pub fn is_trash(&self) -> bool {
        self.rec.special_use == Some(SpecialUse::Trash)
    }
}

/// A pass under way.
pub struct Pass<'a> {
    /// What is mirrored, and how.
    pub account: &'a Account,
    /// What was asked for.
    pub options: &'a PassOptions,
    /// Tells a person how far it is.
    pub progress: &'a Progress,
    /// The local side.
    pub maildir: Maildir,
    /// The ledger.
    pub ledger: SharedLedger,
    /// The server.
    pub session: Session,
    /// Every folder by its number.
    pub folders: BTreeMap<FolderId, FolderState>,
    /// The folder that is open, and whether for writing.
    pub open: Option<(FolderId, bool)>,
    /// The UIDs that came when it was opened, if they did.
    pub uids: Option<(FolderId, UidSet)>,
    /// The newest row when this pass began, or the one just before it.
    pub newest_before: RowId,
    /// The folders on disk, as they were listed.
    pub listed: Vec<FolderName>,
    /// Rows whose file is believed gone.
    pub missing: BTreeSet<RowId>,
    /// Files without a row, with what identifies them.
    pub files: BTreeMap<FileId, LocalFile>,
    /// Their stat when they were read.
    pub stats: BTreeMap<FileId, crate::maildir::FileStat>,
    /// Their stamp before that, where it proves something.
    pub stamps: BTreeMap<FileId, Vec<u8>>,
    /// What else stands here without a row, and could not be read.
    pub unread: Vec<Unread>,
    /// The next file number.
    pub next_file: u32,
    /// Whether each side was observed completely.
    pub remote_complete: bool,
    /// Whether each side was observed completely.
    pub local_complete: bool,
    /// The ledger is new to this Maildir.
    pub first_pass: bool,
    /// Draws names.
    pub namer: Namer,
    /// The generation in ledger and root marker.
    pub guard: Guard,
    /// How writing becomes durable; opened before the first write.
    pub durability: Arc<Durability>,
    /// What happened.
    pub report: PassReport,
    /// Look at both sides again before the pass ends.
    pub look_again: bool,
    /// The server has other folders than in the pass before.
    pub relisted: bool,
    /// Folders and reasons of what waits for the server.
    pub waiting: BTreeMap<(FolderId, String), u64>,
    /// When the pass began, Unix seconds.
    pub started: i64,
    /// Rows whose body could not be had in this pass.
    pub unfetchable: BTreeSet<RowId>,
    /// Files that the server refused for good in this pass, and what it said.
    pub refused: BTreeMap<FileId, String>,
    /// What the scan that ran beside the login found; each is used once.
    pub scanned: Option<super::observe::Prescan>,
    /// Files that are known to be whole though they are young.
    pub complete: Option<Complete>,
    /// Until when an interrupted command may still be finished by the server, Unix seconds.
    pub wait_until: Option<i64>,
}

impl Pass<'_> {
    /// Unix time in seconds.
    pub fn now(&self) -> i64 {
        super::clock::unix_now()
    }

    /// The folder's state.
    pub fn folder(&self, id: FolderId) -> Result<&FolderState> {
        self.folders.get(&id).ok_or_else(|| unknown_folder(id))
    }

    /// The folder's state.
    pub fn folder_mut(&mut self, id: FolderId) -> Result<&mut FolderState> {
        self.folders.get_mut(&id).ok_or_else(|| unknown_folder(id))
    }

    /// The number of a folder by its name.
    pub fn folder_named(&self, name: &FolderName) -> Option<FolderId> {
        self.folders.iter().find(|(_, f)| f.rec.name == *name).map(|(id, _)| *id)
    }

    /// A folder that no record speaks of yet, with what is known of it.
    pub fn add_folder(
        &mut self,
        name: &FolderName,
        know: impl FnOnce(&mut FolderRecord),
    ) -> Result<FolderId> {
        let mut rec = FolderRecord::new(name.clone());
        know(&mut rec);
        let id = self.jot(|tx| tx.insert_folder(&rec))?;
        rec.id = id;
        let policy = self.account.policy.of(name, None);
        let dir = self.maildir.dir(name);
        let state = FolderState::new(rec, dir, policy);
        self.folders.insert(id, FolderState { unseen: false, ..state });
        Ok(id)
    }

    /// Changes the ledger, after the generation was raised.
    pub fn write<T>(
        &mut self,
        f: impl FnOnce(&mut crate::ledger::Tx<'_>) -> Result<T>,
    ) -> Result<T> {
        self.guard.open(&self.ledger)?;
        let guard = &mut self.guard;
        self.ledger.with(|l| {
            l.write(|tx| {
                guard.close(tx)?;
                f(tx)
            })
        })
    }

    /// The same for what was observed, and can be observed again.
    pub fn jot<T>(&mut self, f: impl FnOnce(&mut crate::ledger::Tx<'_>) -> Result<T>) -> Result<T> {
        self.guard.open(&self.ledger)?;
        let guard = &mut self.guard;
        self.ledger.with(|l| {
            l.jot(|tx| {
                guard.close(tx)?;
                f(tx)
            })
        })
    }

    /// Changes the ledger together with a folder's record.
    pub fn write_folder(
        &mut self,
        id: FolderId,
        f: impl FnOnce(&mut crate::ledger::Tx<'_>) -> Result<()>,
    ) -> Result<()> {
        let rec = self.folder(id)?.rec.clone();
        self.write(|tx| {
            f(tx)?;
            tx.update_folder(&rec)
        })
    }

    /// The same for what was observed there, and can be observed again.
    pub fn jot_folder(
        &mut self,
        id: FolderId,
        f: impl FnOnce(&mut crate::ledger::Tx<'_>) -> Result<()>,
    ) -> Result<()> {
        let rec = self.folder(id)?.rec.clone();
        self.jot(|tx| {
            f(tx)?;
            tx.update_folder(&rec)
        })
    }

    /// Writes a folder's record alone: cursors and what else can be found out again. No generation
    /// is raised for that, so that a pass in which nothing changed leaves the Maildir alone (I5);
    /// an older record only makes a pass look again.
    pub fn remember_folder(&mut self, id: FolderId) -> Result<()> {
        let rec = self.folder(id)?.rec.clone();
        self.ledger.with(|l| l.jot(|tx| tx.update_folder(&rec)))
    }

    /// The folder that deleted messages are moved to. One that the configuration names is made when
    /// it is not there (any more).
    pub fn trash(&self) -> Option<FolderId> {
        self.folders
            .iter()
            .find(|(_, f)| f.is_trash() && f.server == Presence::There)
            .map(|(id, _)| *id)
            .or_else(|| {
                let name = self.account.policy.trash.as_ref()?;
                self.folder_named(name)
            })
    }

    /// Gives the trash that the configuration names a record, if something is to go there. Whether
    /// it did.
    fn prepare_trash(&mut self, trees: &Trees, plan: &Plan) -> Result<bool> {
        let Some(name) = self.account.policy.trash.clone().filter(|_| self.trash().is_none())
        else {
            return Ok(false);
        };
        let trashed = |row: &RowId| {
            let folder = trees.rows.get(row).and_then(|r| self.folders.get(&r.folder));
            folder.is_some_and(|f| f.policy.local_delete == LocalDelete::Trash)
        };
        let mut gone = plan.changes.iter().filter_map(|c| match c {
            Change::VanishedHere(row) | Change::Replaced { row, .. } => Some(row),
            _ => None,
        });
        if self.account.policy.read_only || !gone.any(trashed) {
            return Ok(false);
        }
        self.add_folder(&name, |_| {})?;
        Ok(true)
    }

    /// Notes an error of a message or folder, and gives back one that reaches further. Whoever asked
    /// for the pass tells of it, once: the same may stop several effects.
    pub fn note(&mut self, error: Error) -> Result<()> {
        if error.scope >= Scope::Account {
            return Err(error);
        }
        tracing::debug!("{}: {error}", self.account.name);
        if !self.report.errors.contains(&error) {
            self.report.errors.push(error);
        }
        Ok(())
    }

    /// Opens a folder on the server, unless it is open already in a mode that will do.
    pub async fn select(&mut self, id: FolderId, write: bool) -> Result<()> {
        let write = self.writes(write);
        if self.open.is_some_and(|(open, w)| open == id && (w || !write)) {
            return Ok(());
        }
        let selected = self.open_folder(id, write, None).await?;
        self.same_epoch(id, &selected)
    }

    /// The same, and the UIDs of all its messages.
    pub async fn select_listed(&mut self, id: FolderId, write: bool) -> Result<UidSet> {
        let write = self.writes(write);
        if self.open.is_some_and(|(open, w)| open == id && (w || !write)) {
            let came = self.uids.take().filter(|(of, _)| *of == id).map(|(_, uids)| uids);
            return match came.filter(|uids| uids.len() == u64::from(self.session.exists())) {
                Some(uids) => Ok(uids),
                None => self.session.uids().await,
            };
        }
        let wire = self.folder(id)?.wire()?;
        self.close();
        let both = self.session.select_listed(&wire, write).await;
        let (selected, uids) = both.map_err(|e| self.at_folder(id, e))?;
        self.note_open(id, write, &selected)?;
        self.same_epoch(id, &selected)?;
        Ok(uids)
    }

    /// Whether a folder may be opened for writing.
    fn writes(&self, write: bool) -> bool {
        write && !self.options.dry_run && !self.account.policy.read_only
    }

    fn at_folder(&self, id: FolderId, e: Error) -> Error {
        match self.folder(id) {
            Ok(f) => e.at(format_args!("folder {}", f.rec.name)),
            Err(_) => e,
        }
    }

    fn same_epoch(&mut self, id: FolderId, selected: &Selected) -> Result<()> {
        let f = self.folder(id)?;
        if f.rec.uidvalidity.is_some() && f.rec.uidvalidity != selected.uidvalidity {
            self.close();
            return Err(self.epoch_changed(id));
        }
        Ok(())
    }

    fn epoch_changed(&mut self, id: FolderId) -> Error {
        self.look_again = true;
        let name = self.folder(id).map_or_else(|_| String::new(), |f| f.rec.name.to_string());
        Error::folder(
            Kind::Raced,
            format!("folder {name}: its UIDVALIDITY changed during the pass"),
        )
        .next("its messages are paired again; nothing was lost")
    }

    /// Opens a folder on the server. Its UIDVALIDITY is the caller's to compare.
    pub async fn open_folder(
        &mut self,
        id: FolderId,
        write: bool,
        known: Option<Known>,
    ) -> Result<Selected> {
        let write = self.writes(write);
        let wire = self.folder(id)?.wire()?;
        self.close();
        let selected = self.session.select(&wire, write, known).await;
        let selected = selected.map_err(|e| self.at_folder(id, e))?;
        self.note_open(id, write, &selected)?;
        Ok(selected)
    }

    /// Lists the folders, with one opened in the same round trip; `None` where the server does not
    /// open it: that is asked again where it matters.
    pub async fn list_beside(
        &mut self,
        wire: &[u8],
        want: Beside,
    ) -> Result<(Option<Opened>, Listing)> {
        let write = self.writes(true);
        self.close();
        let (opened, listing) = self.session.select_and_list(wire, write, want).await?;
        let opened = opened.inspect_err(|e| tracing::debug!("{}: {e}", self.account.name));
        Ok((opened.ok(), listing))
    }

    /// Which folder it was that was opened beside the listing.
    pub fn opened_beside(&mut self, id: FolderId, opened: Opened) -> Result<Selected> {
        self.note_open(id, self.writes(true), &opened.selected)?;
        self.uids = opened.uids.map(|uids| (id, uids));
        Ok(opened.selected)
    }

    /// No folder is open that could be worked in.
    pub fn close(&mut self) {
        self.open = None;
        self.uids = None;
    }

    fn note_open(&mut self, id: FolderId, write: bool, selected: &Selected) -> Result<()> {
        self.open = Some((id, write));
        let f = self.folder_mut(id)?;
        f.permanent = Some(selected.permanent.clone());
        if selected.read_only {
            // nothing is stored there, but what it shows it can say
            f.permanent = Some(PermanentFlags::all());
        }
        if write {
            f.read_only = selected.read_only;
            f.closed = selected.read_only.then(|| READ_ONLY.to_owned());
        }
        Ok(())
    }

    /// Opens a folder for an effect: its UIDVALIDITY must be the ledger's.
    pub async fn select_known(&mut self, id: FolderId) -> Result<()> {
        self.select(id, true).await?;
        let f = self.folder(id)?;
        // asked each time: an effect after one that was stopped here finds the folder open already
        if f.read_only {
            return Err(Error::folder(
                Kind::Refused,
                format!("folder {}: {READ_ONLY}", f.rec.name),
            )
            .next("what waits is sent when the server allows it"));
        }
        Ok(())
    }

    /// Says something to a person, once.
    pub fn tell(&mut self, what: String) {
        if !self.report.notes.contains(&what) {
            self.report.notes.push(what);
        }
    }

    /// A number for a file without a row.
    pub fn number_file(&mut self) -> FileId {
        self.next_file += 1;
        FileId(self.next_file)
    }
}

fn unknown_folder(id: FolderId) -> Error {
    Error::folder(Kind::Internal, format!("no folder has the number {}", id.0))
}

/// Observes, plans and acts until nothing is left to do, or to be seen.
pub async fn run(p: &mut Pass<'_>) -> Result<()> {
    resolve::open_intents(p)?;
    for round in 0..ROUNDS {
        p.look_again = false;
        observe::server(p).await?;
        observe::maildir(p).await?;
        tell_of_patterns(p);
        observe::news(p).await?;
        let acted = settle(p).await?;
        if p.options.dry_run {
            return Ok(());
        }
        resolve::wait_for_intents(p, round).await?;
        tracing::debug!("{}: round {round}: acted {acted}", p.account.name);
        if !p.look_again {
            break;
        }
    }
    observe::finish(p)
}

/// A folder that was asked for and is not there may be a slip of the pen.
fn tell_of_patterns(p: &mut Pass<'_>) {
    let mirrored: Vec<_> = p.folders.values().filter(|f| f.selected).collect();
    let unmatched = p.options.folders.iter().filter(|pattern| {
        !mirrored.iter().any(|f| pattern.matches(&f.rec.name, f.rec.special_use))
    });
    let what: Vec<String> = unmatched
        .map(|pattern| {
            format!(
                "no folder that is mirrored is called {pattern}: nothing was done for it (mailkeep \
                 status lists them)"
            )
        })
        .collect();
    what.into_iter().for_each(|w| p.tell(w));
}

/// Plans and acts on what was observed, until a plan has nothing new to do.
async fn settle(p: &mut Pass<'_>) -> Result<bool> {
    let mut acted = false;
    let mut before: Option<Decision> = None;
    p.waiting.clear();
    resolve::finish_removals(p)?;
    for _ in 0..ROUNDS {
        resolve::find_copies(p).await?;
        let (trees, plan) = planned(p).await?;
        let standing = holds::standing(p, &trees)?;
        let mut decision = decide(&plan, &trees, &p.account.policy, &standing);
        if p.options.dry_run {
            p.report.plan = super::describe::describe(p, &trees, &decision);
            p.report.held = holds::count(&decision);
            return Ok(false);
        }
        let closed = resolve::hold_back_open_intents(p, &trees, &mut decision)?;
        holds::record(p, &trees, &decision)?;
        resolve::close_intents(p, &closed)?;
        p.waiting = std::mem::take(&mut decision.waiting);
        if plan.waiting > 0 {
            tracing::debug!("{} vanishes wait for a complete observation", plan.waiting);
        }
        if decision.actions.is_empty() || before.as_ref() == Some(&decision) {
            break;
        }
        if executor::unlinks(&decision.actions) && observe::server_moved_on(p).await? {
            // what vanished there may have arrived elsewhere since
            p.look_again = true;
            for folder in executor::spare_unlinks(&trees, &mut decision.actions) {
                let why = "mail arrived on the server meanwhile; nothing is removed here before \
                           it was looked at";
                *p.waiting.entry((folder, why.into())).or_default() += 1;
            }
            if decision.actions.is_empty() {
                break;
            }
        }
        acted = true;
        executor::execute(p, &trees, &decision.actions).await?;
        if p.look_again {
            break; // what was seen does not hold any more
        }
        before = Some(decision);
    }
    Ok(acted)
}

/// The trees and their plan, with every content that pairing wants.
async fn planned(p: &mut Pass<'_>) -> Result<(Trees, reconcile::Plan)> {
    loop {
        let trees = observe::trees(p)?;
        let plan = reconcile::plan(&trees);
        if plan.wants.is_empty() {
            if p.prepare_trash(&trees, &plan)? {
                continue;
            }
            return Ok((trees, plan));
        }
        let known = plan.wants.len();
        let hashed = observe::contents(p, &trees, &plan.wants).await?;
        if hashed == 0 {
            return Err(Error::account(
                Kind::Protocol,
                format!(
                    "{known} messages cannot be told apart without their content, and the \
                         server does not give it"
                ),
            )
            .next("sync again later; nothing was changed"));
        }
    }
}
