//! The plan of a POP3 pass as a person reads it: what a dry run prints.

use std::collections::{BTreeMap, BTreeSet};

use super::pass::Pass;
use super::protocol::Number;
use super::recognise::{Freeze, Known, Listed, Settled};
use super::remove::{AMBIGUOUS, Decided, There, decide};
use super::retention::Why;
use crate::config::Keep;
use crate::error::Result;
use crate::model::UidlId;
use crate::words::{count, messages};

/// What a dry run says.
pub fn describe(
    p: &mut Pass<'_>,
    settled: &Settled,
    known: &Known,
    by_number: &BTreeMap<Number, &Listed>,
    frozen: &BTreeSet<Freeze>,
) -> Result<()> {
    let mut lines = Vec::new();
    for number in &settled.fetch {
        let size = by_number.get(number).map_or(0, |l| l.size);
        lines.push(format!("fetch message {number} ({size} bytes) into {}", p.pop3.folder));
    }
    if !settled.obscure.is_empty() {
        let n = settled.obscure.len();
        lines.push(format!("leave {n}: they may be here already, in files that cannot be read"));
    }
    if !settled.adopted.is_empty() {
        lines.push(format!(
            "pair {} here already",
            count(settled.adopted.len(), "message that is", "messages that are")
        ));
    }
    if !settled.renamed.is_empty() {
        lines.push(format!("note the new UIDLs of {}", messages(settled.renamed.len())));
    }
    let done: BTreeMap<Number, UidlId> =
        settled.known.iter().chain(&settled.renamed).map(|(n, id)| (*n, *id)).collect();
    let listed: Vec<Listed> = by_number.values().map(|l| (*l).clone()).collect();
    let there = There { listed: &listed, done: &done, fetched: &BTreeSet::new(), known };
    let Decided { retention, ambiguous, .. } = decide(p, &there)?;
    let mut why_not: Vec<String> = frozen.iter().map(ToString::to_string).collect();
    if p.account.policy.read_only {
        why_not.push("read_only = true".into());
    }
    // what is fetched with `keep = "delete"` is deleted in the same session
    let at_once = if p.pop3.keep == Keep::Delete { settled.fetch.len() } else { 0 };
    let due = retention.delete.len() + at_once;
    if why_not.is_empty() {
        for (id, (why, _)) in &retention.delete {
            let Some(row) = known.rows.get(id).or_else(|| known.gone.get(id)) else { continue };
            let message = match &*row.fingerprint.message_id {
                "" => "a message without Message-ID",
                m => m,
            };
            lines.push(format!("delete {message} on the server: {}", why.as_str()));
        }
        if at_once > 0 {
            let why = Why::Keep.as_str();
            lines.push(format!("delete {at_once} on the server once they are safe here: {why}"));
        }
    } else if due > 0 {
        lines.push(format!("leave {due} on the server that are due: {}", why_not.join("; ")));
    }
    if ambiguous > 0 {
        lines.push(format!("leave {ambiguous} on the server: {AMBIGUOUS}"));
    }
    if !retention.held.is_empty() {
        lines.push(format!(
            "hold {} on the server",
            count(retention.held.len(), "deletion", "deletions")
        ));
    }
    if !frozen.contains(&Freeze::Short) && !p.mailbox.windowed {
        let listed: BTreeSet<UidlId> = done.values().copied().collect();
        let went = known.rows.values().filter(|r| r.state.on_server() && !listed.contains(&r.id));
        let went = went.count();
        if went > 0 {
            lines.push(format!("keep {went} here that went from the server"));
        }
    }
    p.report.held = retention.held.len() as u64;
    p.report.plan = lines;
    Ok(())
}
