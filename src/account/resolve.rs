//! Intents: what the server was asked for when something broke. What it did arrives as a new
//! message and pairs; what does not show up within a while was not done, and only then is it asked
//! for again.

use std::time::Duration;

use super::pass::Pass;
use crate::error::Result;
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
    let mut copies = Vec::new();
    let mut halves = Vec::new();
    p.wait_until = None;
    for intent in &open {
        if intent.place.is_none() {
            match half_done(p, trees, intent)? {
                Some(copy) => {
                    halves.push((copy, intent.row));
                    closed.push(intent.id);
                    decision.actions.retain(|a| !deletes(a, intent.row));
                    p.look_again = true;
                }
                None if now < intent.created + FINISHING => {
                    let before = decision.actions.len();
                    decision.actions.retain(|a| !deletes(a, intent.row));
                    if decision.actions.len() < before {
                        p.wait_until = p.wait_until.max(Some(intent.created + FINISHING));
                    }
                }
                None => closed.push(intent.id),
            }
            continue;
        }
        let file = trees.files.iter().find(|(_, f)| is_of(intent, f)).map(|(id, _)| *id);
        let adopted = decision.actions.iter().any(|a| {
            matches!(a, Action::Adopt { file: f, .. } | Action::MeetAt { file: f, .. }
                     if Some(*f) == file)
        });
        match file {
            Some(_) if adopted => {
                // found on the server; the original of a move by copy goes next
                if intent.kind == IntentKind::Move {
                    copies.push((intent.clone(), file));
                }
                closed.push(intent.id);
            }
            Some(file) if now < intent.created + FINISHING => {
                let before = decision.actions.len();
                decision.actions.retain(|a| !sends(a, file));
                if decision.actions.len() < before {
                    let until = intent.created + FINISHING;
                    p.wait_until = p.wait_until.max(Some(until));
                }
            }
            Some(file) if altered(p, intent)? => {
                // sending it again could double it
                decision.actions.retain(|a| !sends(a, file));
                let why = "it was being sent when the connection broke, and the server may have \
                           stored it, but not byte for byte";
                p.refused.insert(file, why.into());
                closed.push(intent.id);
            }
            _ => closed.push(intent.id),
        }
    }
    if !halves.is_empty() {
        p.write(|tx| {
            for (copy, original) in &halves {
                if let Some(mut row) = tx.row(*copy)? {
                    row.copy_of = *original;
                    tx.update_row(&row)?;
                }
            }
            Ok(())
        })?;
    }
    note_copies(p, trees, decision, &copies)?;
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

/// A message that arrived since and has the intent's Message-ID and Date, but not its bytes: the
/// server may have stored what was sent in its own way.
fn altered(p: &Pass<'_>, intent: &Intent) -> Result<bool> {
    Ok(arrived(p, intent)?.iter().any(|r| r.state != State::Pending))
}

/// What arrived in the target since, and looks like what was sent.
fn arrived(p: &Pass<'_>, intent: &Intent) -> Result<Vec<Row>> {
    if !intent.identity.fingerprint.is_complete() {
        return Ok(Vec::new());
    }
    let alike = p.ledger.with(|l| l.by_fingerprint(&intent.identity.fingerprint))?;
    let since = |r: &Row| r.uid.is_some() && r.uid >= intent.uidnext_before;
    Ok(alike.into_iter().filter(|r| r.folder == intent.target && since(r)).collect())
}

/// A move of a message without a file (to the trash) of which only the COPY was done: the copy.
fn half_done(p: &Pass<'_>, trees: &Trees, intent: &Intent) -> Result<Option<RowId>> {
    let original = intent.row.and_then(|id| trees.rows.get(&id));
    if intent.kind != IntentKind::Move || !original.is_some_and(Row::on_server) {
        return Ok(None);
    }
    Ok(arrived(p, intent)?.into_iter().find(|r| r.copy_of.is_none()).map(|r| r.id))
}

fn deletes(action: &Action, row: Option<RowId>) -> bool {
    matches!(
        action,
        Action::TrashThere { row: r, .. } | Action::ExpungeThere { row: r, .. } if Some(*r) == row
    )
}

fn sends(action: &Action, file: FileId) -> bool {
    matches!(
        action,
        Action::Upload(f) | Action::CopyThere { file: f, .. } | Action::MoveThere { file: f, .. }
            if *f == file
    )
}

/// A move without MOVE is a COPY and an expunge. If only the COPY was done, the row of the arrival
/// says so, and the original is expunged as the end of that move, not as a deletion.
fn note_copies(
    p: &mut Pass<'_>,
    trees: &Trees,
    decision: &Decision,
    copies: &[(Intent, Option<FileId>)],
) -> Result<()> {
    let mut marked = Vec::new();
    for (intent, file) in copies {
        let arrival = decision.actions.iter().find_map(|a| match a {
            Action::Adopt { arrival, file: f, .. } if Some(*f) == *file => Some(*arrival),
            _ => None,
        });
        if let (Some(arrival), Some(row)) = (arrival, intent.row)
            && trees.rows.get(&row).is_some_and(|r| r.on_server())
        {
            marked.push((arrival, row));
        }
    }
    if marked.is_empty() {
        return Ok(());
    }
    p.write(|tx| {
        for (arrival, row) in &marked {
            if let Some(mut r) = tx.row(*arrival)? {
                r.copy_of = Some(*row);
                tx.update_row(&r)?;
            }
        }
        Ok(())
    })
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
