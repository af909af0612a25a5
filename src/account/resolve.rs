//! Intents: what the server was asked for when something broke. What it did arrives as a new
//! message and pairs; what does not show up within a while was not done, and only then is it asked
//! for again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::observe;
use super::pass::Pass;
use crate::error::Result;
use crate::executor::keeps;
use crate::ledger::{Intent, IntentKind};
use crate::model::{Row, RowId, State};
use crate::policy::decide::{Action, Decision};
use crate::reconcile::{FileId, LocalFile, Trees};

/// How long the server may still be finishing a command, in seconds.
const FINISHING: i64 = 10;

/// Tells of intents that are open at the start.
pub fn open_intents(p: &mut Pass<'_>) -> Result<()> {
    let open = p.ledger.with(|l| l.intents())?.len();
    if open > 0 {
        tracing::info!(
            "{}: {open} uploads or moves were interrupted; looking for them on the server",
            p.account.name
        );
    }
    Ok(())
}

/// Finds the copies that interrupted commands made, and notes whose they are: a copy whose file was
/// rewritten here looks like nothing else, and where the server has no MOVE, its original is still
/// to be expunged. What was moved whole is paired like any other move.
pub async fn find_copies(p: &mut Pass<'_>) -> Result<()> {
    if p.options.dry_run {
        return Ok(());
    }
    for intent in p.ledger.with(|l| l.intents())? {
        let Some(row) = intent.row.filter(|_| intent.kind != IntentKind::Append) else { continue };
        let Some(original) = p.ledger.with(|l| l.row(row))?.filter(Row::on_server) else {
            continue;
        };
        let Some(mut copy) = copy_in_target(p, &intent, &original).await? else { continue };
        copy.copy_of = Some(original.id);
        copy.keeps = p.trash() == Some(intent.target) && keeps(p, original.folder);
        p.write(|tx| {
            tx.update_row(&copy)?;
            tx.delete_intent(intent.id)
        })?;
    }
    Ok(())
}

/// What arrived in the target since and is the original's message: by its bytes, where they are
/// known, since an original may be expunged for it.
async fn copy_in_target(p: &mut Pass<'_>, intent: &Intent, original: &Row) -> Result<Option<Row>> {
    if p.folder(intent.target)?.rec.uidvalidity != intent.uidvalidity {
        return Ok(None);
    }
    let of = &original.identity;
    let alike = |r: &Row| {
        r.state == State::Pending
            && r.folder == intent.target
            && r.uid >= intent.uidnext_before
            && r.copy_of.is_none()
            && r.identity.wire_size == of.wire_size
            && r.identity.internal_date == of.internal_date
    };
    let look = |p: &Pass<'_>| -> Result<Vec<Row>> {
        let found = p.ledger.with(|l| l.by_fingerprint(&of.fingerprint))?;
        Ok(found.into_iter().filter(alike).collect())
    };
    let mut found = look(p)?;
    if of.content.is_none() {
        let sure = found.len() == 1 && of.fingerprint.is_complete();
        return Ok(found.pop().filter(|_| sure));
    }
    let unread = found.iter().filter(|r| r.identity.content.is_none());
    let rows: BTreeMap<RowId, Row> = unread.map(|r| (r.id, r.clone())).collect();
    if !rows.is_empty() {
        let wants = rows.keys().copied().collect();
        observe::contents(p, &Trees { rows, ..Trees::default() }, &wants).await?;
    }
    Ok(look(p)?.into_iter().find(|r| r.identity.content == of.content))
}

/// Takes out of the decision what an open intent may have done already, and closes intents that are
/// answered: the file has a row now, or is gone, or the server had its time.
pub fn hold_back_open_intents(
    p: &mut Pass<'_>,
    trees: &Trees,
    decision: &mut Decision,
) -> Result<()> {
    let open = p.ledger.with(|l| l.intents())?;
    if open.is_empty() {
        return Ok(());
    }
    let now = p.now();
    let mut closed = Vec::new();
    p.wait_until = None;
    for intent in &open {
        let file = trees.files.iter().find(|(_, f)| is_of(intent, f)).map(|(id, _)| *id);
        let adopted = decision.actions.iter().any(|a| {
            matches!(a, Action::Adopt { file: f, .. } | Action::MeetAt { file: f, .. }
                     if Some(*f) == file)
        });
        // a deletion's intent has no file, but a message that may still be on its way
        let row = intent.row.filter(|_| intent.place.is_none());
        let original = row.map(|id| p.ledger.with(|l| l.row(id))).transpose()?.flatten();
        let asked = file.is_some() || original.is_some_and(|r| r.on_server());
        let before = decision.actions.len();
        if !adopted && now < intent.created + FINISHING {
            decision.actions.retain(|a| !repeats(intent, file, a));
        }
        if decision.actions.len() < before {
            p.wait_until = p.wait_until.max(Some(intent.created + FINISHING));
        } else if let (false, Some(file)) = (adopted, file)
            && now >= intent.created + FINISHING
            && altered(p, intent)?
        {
            // sending it again could double it
            decision.actions.retain(|a| !repeats(intent, Some(file), a));
            let why = "it was being sent when the connection broke, and the server may have \
                       stored it, but not byte for byte";
            p.refused.insert(file, why.into());
            closed.push(intent.id);
        } else if adopted || !asked || now >= intent.created + FINISHING {
            closed.push(intent.id);
        }
    }
    if !closed.is_empty() {
        p.write(|tx| closed.iter().try_for_each(|id| tx.delete_intent(*id)))?;
    }
    Ok(())
}

fn is_of(intent: &Intent, f: &LocalFile) -> bool {
    intent.source_folder == Some(f.folder)
        && (intent.identity.content.is_some() && intent.identity.content == f.identity.content
            || intent.place.as_ref().is_some_and(|p| p.file.base == f.place.file.base))
}

/// Whether a message arrived in the target since with the Message-ID and Date of what was uploaded,
/// but not its bytes: the server may have stored it in its own way.
fn altered(p: &Pass<'_>, intent: &Intent) -> Result<bool> {
    if intent.kind != IntentKind::Append || !intent.identity.fingerprint.is_complete() {
        return Ok(false);
    }
    let alike = p.ledger.with(|l| l.by_fingerprint(&intent.identity.fingerprint))?;
    Ok(alike
        .iter()
        .any(|r| r.folder == intent.target && r.uid.is_some() && r.uid >= intent.uidnext_before))
}

/// Whether the action would ask the server for the intent's message again.
fn repeats(intent: &Intent, file: Option<FileId>, action: &Action) -> bool {
    match action {
        Action::Upload(f)
        | Action::CopyThere { file: f, .. }
        | Action::MoveThere { file: f, .. } => Some(*f) == file,
        Action::TrashThere { row, .. } => Some(*row) == intent.row,
        _ => false,
    }
}

/// Gives the server the rest of its time, if anything waits for that; then both sides are looked at
/// again.
pub async fn wait_for_intents(p: &mut Pass<'_>, round: usize) -> Result<()> {
    let Some(until) = p.wait_until.take() else { return Ok(()) };
    let left = u64::try_from(until - p.now()).unwrap_or(0);
    tracing::debug!("round {round}: {left} s for interrupted commands");
    tokio::time::sleep(Duration::from_secs(left + 1)).await;
    p.look_again = true;
    Ok(())
}
