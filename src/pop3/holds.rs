//! What waits for a person's decision in a POP3 account, and how long a decision is remembered.

use std::collections::BTreeMap;

use super::pass::Pass;
use super::retention::Retention;
use crate::error::Result;
use crate::ledger::{
    Action, Hold, HoldId, HoldItem, HoldKind, HoldState, JournalEntry, Side, Tx, View,
};
use crate::model::{BaseName, RowId, UidlId, UidlRow};
use crate::words::messages;

/// Writes into the ledger what is held now.
pub fn record(
    p: &mut Pass<'_>,
    uidls: &BTreeMap<UidlId, UidlRow>,
    retention: &Retention,
) -> Result<()> {
    let mut items = Vec::new();
    for id in retention.held.keys() {
        let Some(uidl) = uidls.get(id) else { continue };
        items.push(HoldItem {
            row: uidl.row,
            folder: uidl.folder,
            base: uidl.base.clone(),
            content: uidl.content,
            reader: None,
        });
    }
    p.report.held = items.len() as u64;
    let existing = p.ledger.with(|l| l.holds())?;
    let epoch = p.mailbox.epoch;
    let mut stale = p.ledger.with(|l| settled(l, epoch, &existing))?;
    let open = existing.iter().filter(|h| h.state == HoldState::Open && items.is_empty());
    stale.extend(open.map(|h| h.id));
    let same = existing.iter().any(|h| h.state == HoldState::Open && h.items == items);
    if stale.is_empty() && (items.is_empty() || same) {
        return Ok(());
    }
    let now = p.now;
    p.write(|tx| {
        for id in stale {
            tx.delete_hold(id)?;
        }
        if items.is_empty() || same {
            return Ok(());
        }
        let n = items.len();
        let hold = Hold {
            id: HoldId(0),
            kind: HoldKind::Retention,
            folder: None,
            reason:
                "many messages would be deleted on the server within 24 hours, by keep_newest or \
                     because they were removed here"
                    .into(),
            next: "mailkeep approve or mailkeep reject, with the account and this number".into(),
            state: HoldState::Open,
            created: now,
            items,
        };
        let id = tx.put_hold(&hold)?;
        let why = format!("hold {}: {}", id.0, messages(n));
        tx.journal(&JournalEntry::new(now, Action::Hold, Side::Here, why))
    })
}

/// Forgets the verdicts of which everything is deleted.
pub fn carried_out(tx: &mut Tx<'_>, epoch: u32) -> Result<()> {
    let holds = tx.holds()?;
    for id in settled(tx, epoch, &holds)? {
        tx.delete_hold(id)?;
    }
    Ok(())
}

/// The verdicts of which everything is deleted. What is gone without our doing may be out of view
/// only, and come back.
fn settled(ledger: &View, epoch: u32, holds: &[Hold]) -> Result<Vec<HoldId>> {
    let decided: Vec<&Hold> = holds.iter().filter(|h| h.state != HoldState::Open).collect();
    if decided.is_empty() {
        return Ok(Vec::new());
    }
    let mut uidls = ledger.uidls_on_server(epoch)?;
    uidls.extend(ledger.uidls_gone(epoch, None)?);
    let left = Held::of(&uidls);
    let settled = decided.iter().filter(|h| !h.items.iter().any(|i| left.find(i).is_some()));
    Ok(settled.map(|h| h.id).collect())
}

/// Finds the messages of holds. A row is another one when its message was out of view meanwhile; the
/// name that it was delivered under stays.
pub struct Held<'a> {
    rows: BTreeMap<RowId, UidlId>,
    bases: BTreeMap<&'a BaseName, UidlId>,
}

impl<'a> Held<'a> {
    /// Among these.
    pub fn of(uidls: impl IntoIterator<Item = &'a UidlRow>) -> Self {
        let mut out = Self { rows: BTreeMap::new(), bases: BTreeMap::new() };
        for u in uidls {
            out.rows.extend(u.row.map(|row| (row, u.id)));
            out.bases.extend(u.base.as_ref().map(|base| (base, u.id)));
        }
        out
    }

    /// The message of an item, if it is one of them.
    pub fn find(&self, item: &HoldItem) -> Option<UidlId> {
        let by_row = item.row.and_then(|row| self.rows.get(&row));
        by_row.or_else(|| self.bases.get(item.base.as_ref()?)).copied()
    }
}

/// Those of which something can be said now: of a verdict on what the server does not show, nothing.
pub fn in_view(ledger: &View, mut holds: Vec<Hold>) -> Result<Vec<Hold>> {
    let verdict = |h: &Hold| h.state != HoldState::Open && h.kind == HoldKind::Retention;
    if !holds.iter().any(verdict) {
        return Ok(holds);
    }
    let there = ledger.uidls_on_server(ledger.mailbox()?.epoch)?;
    let there = Held::of(&there);
    holds.retain(|h| !verdict(h) || h.items.iter().any(|i| there.find(i).is_some()));
    Ok(holds)
}
