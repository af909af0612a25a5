//! What is deleted on the server: `dele_pending` is committed before DELE, and a message that this
//! session did not retrieve must show by its header that it is the one that we have.

use std::collections::{BTreeMap, BTreeSet};

use super::gone::gone_there;
use super::holds;
use super::pass::Pass;
use super::protocol::Number;
use super::recognise::{self, Freeze, Known, Listed};
use super::retention::{self, Retention, Rules, Standing, Why};
use super::{MessageSink, Session, Wanted};
use crate::config::Keep;
use crate::error::{Error, Result};
use crate::ledger::{HoldState, Side};
use crate::model::identity::Digester;
use crate::model::{ContentHash, Fingerprint, FolderId, FolderName, UidlId, UidlRow, UidlState};
use crate::policy::decide::Verdict;
use crate::words::count;

/// The brake looks back so many seconds.
const WINDOW: i64 = 24 * 3600;

/// Why messages stay that share a UIDL.
pub const AMBIGUOUS: &str = "different messages have the same UIDL";

/// Why a message is deleted, and whether the brake counts it.
pub type Cause = (Why, bool);

/// What the server has, and what of it this session retrieved.
pub struct There<'a> {
    /// The listing.
    pub listed: &'a [Listed],
    /// Those that are durable here, or were once.
    pub done: &'a BTreeMap<Number, UidlId>,
    /// Those that were retrieved just now.
    pub fetched: &'a BTreeSet<Number>,
    /// What the ledger said before the session; what the session changed is read again.
    pub known: &'a Known,
}

/// Marks what is due. What was marked waits for QUIT.
pub async fn due(
    p: &mut Pass<'_>,
    session: &mut Session,
    there: &There<'_>,
    frozen: &BTreeSet<Freeze>,
) -> Result<Vec<(UidlId, Cause)>> {
    let Decided { uidls, retention, ambiguous } = decide(p, there)?;
    if ambiguous > 0 {
        p.report.notes.push(format!(
            "{} on the server: {AMBIGUOUS}",
            count(ambiguous, "message stays", "messages stay")
        ));
    }
    holds::record(p, &uidls, &retention)?;
    p.mailbox.due = retention.delete.len() as u64;
    p.mailbox.next_due = retention.next_due;
    undo_pending(p, &uidls, &retention)?;
    if !frozen.is_empty() || p.account.policy.read_only {
        if !retention.delete.is_empty() && p.account.policy.read_only {
            p.report.notes.push(format!(
                "{} for deletion on the server, and left: read_only = true",
                count(retention.delete.len(), "message is due", "messages are due")
            ));
        }
        return Ok(Vec::new());
    }
    let numbers: BTreeMap<UidlId, Number> = there.done.iter().map(|(n, id)| (*id, *n)).collect();
    let wanted: BTreeMap<Number, (UidlRow, Cause)> = retention
        .delete
        .iter()
        .filter_map(|(id, cause)| Some((*numbers.get(id)?, (uidls.get(id)?.clone(), *cause))))
        .collect();
    let sure = check(p, session, wanted, there).await?;
    if sure.is_empty() {
        return Ok(Vec::new());
    }
    p.write(|tx| {
        for (row, _) in sure.values() {
            let pending = UidlRow { state: UidlState::DelePending, ..row.clone() };
            if pending != *row {
                tx.update_uidl(&pending)?;
            }
        }
        Ok(())
    })?;
    let order: Vec<Number> = sure.keys().copied().collect();
    let answers = session.dele(&order).await?;
    crate::steps::moment(|| "dele".into());
    let mut marked = Vec::new();
    let mut refused = Vec::new();
    for ((_, (row, cause)), answer) in sure.into_iter().zip(answers) {
        match answer {
            Ok(()) => marked.push((row.id, cause)),
            Err(e) => {
                p.report.notes.push(e.to_string());
                refused.push(UidlRow { state: UidlState::Delivered, ..row });
            }
        }
    }
    if !refused.is_empty() {
        p.write(|tx| refused.iter().try_for_each(|r| tx.update_uidl(r)))?;
    }
    Ok(marked)
}

/// The server said that they are deleted.
pub fn deleted(p: &mut Pass<'_>, marked: &[(UidlId, Cause)]) -> Result<()> {
    let names = names(p);
    let (now, epoch) = (p.now, p.mailbox.epoch);
    p.write(|tx| {
        for (id, (why, counted)) in marked {
            let Some(mut uidl) = tx.uidl(*id)? else { continue };
            uidl.state = UidlState::Deleted;
            gone_there(tx, &mut uidl, &names, now, Some(*counted), why.as_str())?;
        }
        holds::carried_out(tx, epoch)
    })?;
    p.report.deleted += marked.len() as u64;
    p.mailbox.due = p.mailbox.due.saturating_sub(marked.len() as u64);
    Ok(())
}

fn names(p: &Pass<'_>) -> BTreeMap<FolderId, FolderName> {
    p.folders.iter().map(|(id, s)| (*id, s.rec.name.clone())).collect()
}

/// What is to go.
pub struct Decided {
    /// What retention asks for.
    pub retention: Retention,
    /// What it was asked about.
    pub uidls: BTreeMap<UidlId, UidlRow>,
    /// So many stay, whatever it asks for: different messages have their UIDL.
    pub ambiguous: usize,
}

/// What retention asks for.
pub fn decide(p: &Pass<'_>, there: &There<'_>) -> Result<Decided> {
    let mut uidls = BTreeMap::new();
    let mut all = Vec::new();
    let since = p.now - WINDOW;
    let when_removed = p.pop3.delete_when_removed_locally;
    let nothing_due = p.pop3.keep == Keep::Forever && p.pop3.keep_newest.is_none() && !when_removed;
    let by_number: BTreeMap<Number, &Listed> = there.listed.iter().map(|l| (l.number, l)).collect();
    let standing = p.ledger.with(|l| {
        let removed = match when_removed {
            true => l.uidls_removed_here(p.mailbox.epoch)?,
            false => BTreeSet::new(),
        };
        for (number, id) in there.done {
            // a mailbox in which nothing happened costs no question a message
            let listed = by_number.get(number);
            let before = there.known.rows.get(id).filter(|u| {
                u.state.on_server() && u.row.is_some() && listed.is_some_and(|l| l.uidl == u.uidl)
            });
            let uidl = match before {
                Some(uidl) => Some(uidl.clone()),
                // it came just now: no deletion of it is under way
                None if nothing_due && !there.known.rows.contains_key(id) => None,
                None => l.uidl(*id)?,
            };
            let Some(uidl) = uidl else { continue };
            all.push(retention::There {
                number: *number,
                id: *id,
                delivered_at: uidl.delivered_at,
                removed: removed.contains(id),
                sure: uidl.uidl.is_some() && !uidl.short,
            });
            uidls.insert(*id, uidl);
        }
        let mut standing = Standing {
            size: l.folder_sizes_at(since)?.values().sum(),
            deleted: l
                .deletions_since(since)?
                .iter()
                .filter(|(side, ..)| *side == Side::There)
                .map(|(.., n)| n)
                .sum(),
            verdicts: BTreeMap::new(),
        };
        let known = holds::Held::of(uidls.values());
        for hold in l.holds()? {
            let verdict = match hold.state {
                HoldState::Open => Verdict::Open,
                HoldState::Approved => Verdict::Approved,
                HoldState::Rejected => Verdict::Rejected,
            };
            let held = hold.items.iter().filter_map(|i| known.find(i));
            standing.verdicts.extend(held.map(|id| (id, verdict)));
        }
        Ok(standing)
    })?;
    let ambiguous = recognise::ambiguous(there.listed, there.done, &uidls);
    all.iter_mut().for_each(|t| t.sure &= !ambiguous.contains(&t.id));
    let others = (there.listed.len() as u64).saturating_sub(all.len() as u64);
    let rules = Rules {
        keep: p.pop3.keep,
        keep_newest: p.pop3.keep_newest,
        when_removed,
        brake: p.account.policy.brake,
    };
    let retention = retention::retain(&all, others, &rules, &standing, p.now);
    let ambiguous = if nothing_due { 0 } else { ambiguous.len() };
    Ok(Decided { uidls, retention, ambiguous })
}

/// A deletion that was begun and that the configuration does not ask for any more is taken back.
fn undo_pending(
    p: &mut Pass<'_>,
    uidls: &BTreeMap<UidlId, UidlRow>,
    retention: &Retention,
) -> Result<()> {
    let back: Vec<UidlRow> = uidls
        .values()
        .filter(|u| u.state == UidlState::DelePending && !retention.delete.contains_key(&u.id))
        .map(|u| UidlRow { state: UidlState::Delivered, ..u.clone() })
        .collect();
    if back.is_empty() {
        return Ok(());
    }
    p.write(|tx| back.iter().try_for_each(|r| tx.update_uidl(r)))
}

/// Those that are the messages that we have: retrieved just now, or of an equal header, or, where
/// there is none to compare, of equal bytes.
async fn check(
    p: &mut Pass<'_>,
    session: &mut Session,
    wanted: BTreeMap<Number, (UidlRow, Cause)>,
    there: &There<'_>,
) -> Result<BTreeMap<Number, (UidlRow, Cause)>> {
    let top = !session.caps().known || session.caps().top;
    let (mut sure, mut rest) = (BTreeMap::new(), BTreeMap::new());
    for (number, one) in wanted {
        let retrieved = there.fetched.contains(&number);
        if retrieved {
            sure.insert(number, one)
        } else {
            rest.insert(number, one)
        };
    }
    let ask: Vec<Number> = rest
        .iter()
        .filter(|(_, (row, _))| top && row.fingerprint.is_complete())
        .map(|(n, _)| *n)
        .collect();
    let mut headers: BTreeMap<Number, Fingerprint> = BTreeMap::new();
    if !ask.is_empty() {
        session
            .top(&ask, &mut |number, header| {
                if let Ok(header) = header {
                    headers.insert(number, Fingerprint::from_header(header));
                }
                Ok(())
            })
            .await?;
    }
    let mut other = 0;
    let mut unread: BTreeMap<Number, (UidlRow, Cause)> = BTreeMap::new();
    for (number, one) in rest {
        match headers.get(&number) {
            Some(found) if *found == one.0.fingerprint => {
                sure.insert(number, one);
            }
            Some(_) => other += 1,
            None if one.0.content.is_some() => {
                unread.insert(number, one);
            }
            None => other += 1,
        }
    }
    if !unread.is_empty() {
        let sizes: BTreeMap<Number, u64> =
            there.listed.iter().map(|l| (l.number, l.size)).collect();
        let wanted: Vec<Wanted> = unread
            .keys()
            .map(|n| Wanted { number: *n, size: sizes.get(n).copied().filter(|s| *s > 0) })
            .collect();
        let mut hashes = Hashes::default();
        session.retr(&wanted, &mut hashes).await?;
        for (number, one) in unread {
            if hashes.found.get(&number) == one.0.content.as_ref() {
                sure.insert(number, one);
            } else {
                other += 1;
            }
        }
    }
    if other > 0 {
        p.report.notes.push(count(
            other,
            "message on the server is not what its UIDL stood for, and is not deleted",
            "messages on the server are not what their UIDLs stood for, and are not deleted",
        ));
    }
    Ok(sure)
}

/// Hashes what is retrieved, and keeps nothing of it.
#[derive(Default)]
struct Hashes {
    open: Option<(Number, Digester)>,
    found: BTreeMap<Number, ContentHash>,
}

impl MessageSink for Hashes {
    async fn begin(&mut self, number: Number) -> Result<()> {
        self.open = Some((number, Digester::new()));
        Ok(())
    }
    async fn data(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some((_, digester)) = &mut self.open {
            digester.update(bytes);
        }
        Ok(())
    }
    async fn end(&mut self) -> Result<()> {
        if let Some((number, digester)) = self.open.take() {
            self.found.insert(number, digester.finish().content);
        }
        Ok(())
    }
    async fn failed(&mut self, _: Number, _: Error) -> Result<()> {
        self.open = None;
        Ok(())
    }
}
