//! Intents: what the server was asked for, or was to be removed here, when something broke. What it
//! did arrives as a new message and pairs; what does not show up within a while was not done, and
//! only then is it asked for again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::observe;
use super::pass::{FolderState, Pass};
use crate::error::Result;
use crate::executor::{journal, keeps_in};
use crate::ledger::{Action as Done, Intent, IntentId, IntentKind, Side};
use crate::model::{BaseName, ContentHash, FolderId, Gone, Identity, Row, RowId, State, Uid};
use crate::policy::decide::{Action, Decision, UNSEEN};
use crate::reconcile::{FileId, Trees};

/// How long the server may still be finishing a command, in seconds.
const FINISHING: i64 = 10;

/// Why something is not sent again.
const ALTERED: &str = "it was sent, and the server may have stored it, but not byte for byte";
/// The same.
const WENT: &str = "it was sent, and the server may have stored it: a message that came since was \
                    removed or moved there";

/// Tells of intents that are open at the start.
pub fn open_intents(p: &mut Pass<'_>) -> Result<()> {
    let open = asked_there(p)?.len();
    if open > 0 {
        tracing::info!(
            "{}: {open} uploads or moves were interrupted; looking for them on the server",
            p.account.name
        );
    }
    Ok(())
}

/// What the server was asked for.
fn asked_there(p: &Pass<'_>) -> Result<Vec<Intent>> {
    let mut open = p.ledger.with(|l| l.intents())?;
    open.retain(|i| i.kind != IntentKind::Unlink);
    Ok(open)
}

/// Ends removals here that broke in the middle: the row of a file that went goes too. An equal file
/// that stands in that folder is another one, and is not to be removed in its place.
pub fn finish_removals(p: &mut Pass<'_>) -> Result<()> {
    if p.options.dry_run {
        return Ok(());
    }
    let mut open = p.ledger.with(|l| l.intents())?;
    open.retain(|i| i.kind == IntentKind::Unlink);
    let mut closed = Vec::new();
    let mut gone = Vec::new();
    let mut entries = Vec::new();
    for intent in open {
        let row = intent.row.map(|id| p.ledger.with(|l| l.row(id))).transpose()?.flatten();
        match row.filter(|r| !r.on_server() && r.place == intent.place) {
            Some(row) if p.missing.contains(&row.id) => {
                let why = "it went from the server; its file was removed when the pass before was \
                           interrupted";
                entries.push(journal::of_row(p, Done::UnlinkHere, Side::Here, &row, why));
                gone.push(row.id);
            }
            // whether it went is not known before everything was looked at
            Some(_) if !p.local_complete => continue,
            _ => {}
        }
        closed.push(intent.id);
    }
    if closed.is_empty() {
        return Ok(());
    }
    for id in &gone {
        p.missing.remove(id);
    }
    p.report.deleted += gone.len() as u64;
    p.write(|tx| {
        gone.iter().try_for_each(|id| tx.delete_row(*id))?;
        closed.iter().try_for_each(|id| tx.delete_intent(*id))?;
        entries.iter().try_for_each(|e| tx.journal(e))
    })
}

/// Finds the copies that interrupted commands made, and notes whose they are: a copy whose file was
/// rewritten here looks like nothing else, and where the server has no MOVE, its original is still
/// to be expunged. What was moved whole is paired like any other move. The intent stays until
/// something became of the copy: under a new UIDVALIDITY, it is looked for again.
pub async fn find_copies(p: &mut Pass<'_>) -> Result<()> {
    if p.options.dry_run {
        return Ok(());
    }
    let mut found: BTreeMap<(RowId, FolderId), usize> = BTreeMap::new();
    for intent in asked_there(p)? {
        let Some(row) = intent.row.filter(|_| intent.kind != IntentKind::Append) else { continue };
        let Some(original) = p.ledger.with(|l| l.row(row))? else { continue };
        let alike = p.ledger.with(|l| l.by_fingerprint(&original.identity.fingerprint))?;
        let n = found.entry((row, intent.target)).or_default();
        if *n < alike.iter().filter(|r| is_answer(r, &intent)).count() {
            *n += 1;
            continue;
        }
        // what a COPY made is a copy, whatever became of the original
        if intent.kind == IntentKind::Move && !still_there(p, &original).await? {
            continue;
        }
        let Some(mut copy) = copy_in_target(p, &intent, &original).await? else { continue };
        copy.copy_of = Some(original.id);
        copy.keeps = keeps_in(p, &original, intent.target);
        p.write(|tx| tx.update_row(&copy))?;
        *n += 1;
    }
    Ok(())
}

/// Whether the arrival was found to be what an intent like this one made.
fn is_answer(arrival: &Row, intent: &Intent) -> bool {
    arrival.state == State::Pending
        && arrival.folder == intent.target
        && arrival.copy_of.is_some()
        && arrival.copy_of == intent.row
}

/// Whether the original stands where it stood. Under a new UIDVALIDITY it does if as many like it
/// are there as rows expect.
async fn still_there(p: &mut Pass<'_>, original: &Row) -> Result<bool> {
    if original.gone != Some(Gone::Epoch) {
        return Ok(original.on_server());
    }
    let like = Like { folder: original.folder, of: &original.identity, since: None };
    Ok(like.arrived(p).await?.len() >= like.expected(p)?)
}

/// What arrived in the target since, beyond what rows expect there, and is the original's message:
/// by its bytes, where they are known, since an original may be expunged for it.
async fn copy_in_target(p: &mut Pass<'_>, intent: &Intent, original: &Row) -> Result<Option<Row>> {
    let of = &original.identity;
    let since = is_same_epoch(p, intent).then_some(intent.uidnext_before);
    let like = Like { folder: intent.target, of, since };
    let arrived = like.arrived(p).await?;
    let expected = like.expected(p)?;
    let sure = arrived.len() == 1 && expected == 0 && of.fingerprint.is_complete();
    if of.content.is_none() && !sure {
        return Ok(None);
    }
    // those that were there before have lower UIDs
    Ok(arrived.into_iter().nth(expected))
}

/// Whether the target's UIDs are still those of the intent.
fn is_same_epoch(p: &Pass<'_>, intent: &Intent) -> bool {
    p.folders.get(&intent.target).is_some_and(|f| f.rec.uidvalidity == intent.uidvalidity)
}

/// Messages of a folder that are like one that is known: with its bytes, where these are known.
struct Like<'a> {
    folder: FolderId,
    of: &'a Identity,
    /// UIDNEXT before, if the server said it. `None`: all UIDs are new since, and tell nothing.
    since: Option<Option<Uid>>,
}

impl Like<'_> {
    fn is(&self, r: &Row) -> bool {
        r.folder == self.folder
            && r.identity.wire_size == self.of.wire_size
            && (self.since.is_none() || r.identity.internal_date == self.of.internal_date)
    }

    fn has_bytes(&self, r: &Row) -> bool {
        self.of.content.is_none() || r.identity.content == self.of.content
    }

    /// Those that arrived and are nobody's yet. Their bytes are read where that is needed.
    async fn arrived(&self, p: &mut Pass<'_>) -> Result<Vec<Row>> {
        let look = |p: &Pass<'_>| -> Result<Vec<Row>> {
            let mut found = p.ledger.with(|l| l.by_fingerprint(&self.of.fingerprint))?;
            found.retain(|r| {
                r.state == State::Pending
                    && r.uid >= self.since.flatten()
                    && r.copy_of.is_none()
                    && self.is(r)
            });
            Ok(found)
        };
        let mut found = look(p)?;
        let unread = found.iter().filter(|r| r.identity.content.is_none());
        let rows: BTreeMap<RowId, Row> = unread.map(|r| (r.id, r.clone())).collect();
        if self.of.content.is_some() && !rows.is_empty() {
            let wants = rows.keys().copied().collect();
            observe::contents(p, &Trees { rows, ..Trees::default() }, &wants).await?;
            found = look(p)?;
        }
        found.retain(|r| self.has_bytes(r));
        Ok(found)
    }

    /// How many rows expect to be found again there, under a UID of a new UIDVALIDITY.
    fn expected(&self, p: &Pass<'_>) -> Result<usize> {
        let known = p.ledger.with(|l| l.by_fingerprint(&self.of.fingerprint))?;
        let expects = |r: &&Row| {
            r.gone == Some(Gone::Epoch)
                && matches!(r.state, State::Synced | State::Absent)
                && self.is(r)
                && self.has_bytes(r)
        };
        Ok(known.iter().filter(expects).count())
    }
}

/// Takes out of the decision what an open intent may have done already. Gives back the intents that
/// are answered: the file has a row now, or is gone, or the server had its time. They are closed once
/// what is held for them is on record. Where the target could not be looked into, nobody knows yet.
pub fn hold_back_open_intents(
    p: &mut Pass<'_>,
    trees: &Trees,
    decision: &mut Decision,
) -> Result<Vec<IntentId>> {
    let open = asked_there(p)?;
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let now = p.now();
    let mut closed = Vec::new();
    let mut held = Asked::default();
    p.wait_until = None;
    let files = Files::of(trees);
    let asked = Asked::of(trees, &decision.actions);
    let mut went = BTreeMap::new();
    for intent in &open {
        let file = files.of_intent(intent);
        // the intent stays until that is done, too
        let answered = trees.rows.values().any(|r| is_answer(r, intent));
        if answered || file.is_some_and(|f| asked.adopted.contains(&f)) {
            continue;
        }
        // a deletion's intent has no file, but a message that may still be on its way
        let row = intent.row.filter(|_| intent.place.is_none());
        let original = row.map(|id| p.ledger.with(|l| l.row(id))).transpose()?.flatten();
        let waits = file.is_some() || original.is_some_and(|r| r.on_server());
        // one of the future was noted before the clock was set back, and before this pass
        let created = if intent.created > now { p.started } else { intent.created };
        let has_time = now < created + FINISHING;
        let file = file.filter(|f| asked.files.contains(f));
        let row = intent.row.filter(|r| asked.rows.contains(r));
        if p.folders.get(&intent.target).is_some_and(FolderState::is_unseen) {
            if file.is_some() || row.is_some() {
                let key = (intent.target, UNSEEN.into());
                *decision.waiting.entry(key).or_default() += 1;
            }
            held.files.extend(file);
            held.rows.extend(row);
            continue;
        }
        // where all UIDs are new, what arrived is known by this alone: nobody has fetched it yet
        let settled = !has_time || !is_same_epoch(p, intent);
        let doubt = match file {
            Some(_) if settled && altered(p, intent, &asked)? => Some(ALTERED),
            Some(_) if settled && went_since(p, intent, &mut went)? => Some(WENT),
            _ => None,
        };
        if let (Some(file), Some(why)) = (file, doubt) {
            // sending it again could double it
            held.files.insert(file);
            p.refused.insert(file, why.into());
            closed.push(intent.id);
        } else if has_time && (file.is_some() || row.is_some()) {
            held.files.extend(file);
            held.rows.extend(row);
            p.wait_until = p.wait_until.max(Some(created + FINISHING));
        } else if !waits || !has_time {
            closed.push(intent.id);
        }
    }
    decision.actions.retain(|a| !held.repeats(a));
    Ok(closed)
}

/// Closes intents that are answered.
pub fn close_intents(p: &mut Pass<'_>, closed: &[IntentId]) -> Result<()> {
    if closed.is_empty() {
        return Ok(());
    }
    p.write(|tx| closed.iter().try_for_each(|id| tx.delete_intent(*id)))
}

/// Files by what tells that an intent is about them.
struct Files<'a> {
    by_place: BTreeMap<(FolderId, &'a BaseName), FileId>,
    by_content: BTreeMap<ContentHash, FileId>,
    /// As a reader wrote it anew.
    by_reader: BTreeMap<ContentHash, FileId>,
}

impl<'a> Files<'a> {
    fn of(trees: &'a Trees) -> Self {
        let mut out = Self {
            by_place: BTreeMap::new(),
            by_content: BTreeMap::new(),
            by_reader: BTreeMap::new(),
        };
        for (id, f) in &trees.files {
            out.by_place.insert((f.folder, &f.place.file.base), *id);
            if let Some(h) = f.identity.content {
                out.by_content.entry(h).or_insert(*id);
            }
            if let Some(h) = f.identity.reader {
                out.by_reader.entry(h).or_insert(*id);
            }
        }
        out
    }

    /// The intent's file, even if a reader renamed or moved it since.
    fn of_intent(&self, intent: &Intent) -> Option<FileId> {
        let place = intent.source_folder.zip(intent.place.as_ref());
        place
            .and_then(|(folder, p)| self.by_place.get(&(folder, &p.file.base)))
            .or_else(|| place.and(self.by_content.get(&intent.identity.content?)))
            .or_else(|| place.and(self.by_reader.get(&intent.identity.reader?)))
            .copied()
    }
}

/// What a decision would ask the server for again.
#[derive(Default)]
struct Asked {
    files: BTreeSet<FileId>,
    rows: BTreeSet<RowId>,
    /// Files whose message was found on the server.
    adopted: BTreeSet<FileId>,
    /// What arrived, and is nothing that is known here.
    fetched: BTreeSet<RowId>,
}

impl Asked {
    fn of(trees: &Trees, actions: &[Action]) -> Self {
        let mut out = Self::default();
        for action in actions {
            match action {
                Action::Adopt { file, .. } | Action::MeetAt { file, .. } => {
                    out.adopted.insert(*file);
                }
                Action::MoveThere { row, file } if is_pending(trees, *row) => {
                    out.adopted.insert(*file);
                }
                Action::Upload(f)
                | Action::CopyThere { file: f, .. }
                | Action::MoveThere { file: f, .. } => {
                    out.files.insert(*f);
                }
                Action::TrashThere { row, .. } => {
                    out.rows.insert(*row);
                }
                Action::Download { arrival, instead_of: None } => {
                    out.fetched.insert(*arrival);
                }
                _ => {}
            }
        }
        out
    }

    fn repeats(&self, action: &Action) -> bool {
        match action {
            Action::Upload(f)
            | Action::CopyThere { file: f, .. }
            | Action::MoveThere { file: f, .. } => self.files.contains(f),
            Action::TrashThere { row, .. } => self.rows.contains(row),
            _ => false,
        }
    }
}

fn is_pending(trees: &Trees, row: RowId) -> bool {
    trees.rows.get(&row).is_some_and(|r| r.state == State::Pending)
}

/// Whether a message arrived in the target since with the Message-ID and Date of what was uploaded
/// or copied, but not its bytes: the server may have stored it in its own way.
fn altered(p: &Pass<'_>, intent: &Intent, asked: &Asked) -> Result<bool> {
    if intent.kind == IntentKind::Move || !intent.identity.fingerprint.is_complete() {
        return Ok(false);
    }
    let since = |r: &Row| match is_same_epoch(p, intent) {
        true => r.uid.is_some() && r.uid >= intent.uidnext_before,
        false => asked.fetched.contains(&r.id),
    };
    let alike = p.ledger.with(|l| l.by_fingerprint(&intent.identity.fingerprint))?;
    Ok(alike.iter().any(|r| r.folder == intent.target && since(r)))
}

/// Whether the server gave out UIDs in the target since that no message has any more: one of these
/// may have been what was uploaded or copied. What was to be moved still stands where it stood.
/// `known`: what was found out so far, since many are sent together.
fn went_since(
    p: &Pass<'_>,
    intent: &Intent,
    known: &mut BTreeMap<(FolderId, Uid), bool>,
) -> Result<bool> {
    let next = p.folders.get(&intent.target).and_then(|f| f.rec.uidnext);
    let (Some(before), Some(next)) = (intent.uidnext_before, next) else { return Ok(false) };
    if intent.kind == IntentKind::Move || !is_same_epoch(p, intent) {
        return Ok(false);
    }
    if let Some(went) = known.get(&(intent.target, before)) {
        return Ok(*went);
    }
    let given = u64::from(next.get().saturating_sub(before.get()));
    let there = p.ledger.with(|l| l.uid_set(intent.target))?;
    let went = given > there.iter().filter(|u| *u >= before).count() as u64;
    known.insert((intent.target, before), went);
    Ok(went)
}

/// Gives the server the rest of its time, if anything waits for that; then both sides are looked at
/// again.
pub async fn wait_for_intents(p: &mut Pass<'_>, round: usize) -> Result<()> {
    let Some(until) = p.wait_until.take() else { return Ok(()) };
    // the clock may be set back meanwhile
    let left = u64::try_from((until - p.now()).min(FINISHING)).unwrap_or(0);
    tracing::debug!("round {round}: {left} s for interrupted commands");
    tokio::time::sleep(Duration::from_secs(left + 1)).await;
    p.look_again = true;
    Ok(())
}
