//! A person's decision about a hold, noted in the ledger. The next pass acts on it, and checks each
//! message again before it does.

use super::clock::unix_now;
use crate::error::{Error, Kind, Result, Scope};
use crate::ledger::{Action, Hold, HoldId, HoldState, JournalEntry, Ledger, Side, View};

/// Marks the hold. Whoever calls this holds the account's lock, and no pass is under way: it has
/// read the holds already, and would overwrite the decision.
pub fn decide(ledger: &mut Ledger, id: HoldId, decided: HoldState) -> Result<Hold> {
    let now = unix_now();
    ledger.write(|tx| {
        let hold = find_hold(tx, id)?;
        if hold.state == decided {
            return Ok(hold);
        }
        let hold = Hold { state: decided, ..hold };
        tx.update_hold(&hold)?;
        let action = if decided == HoldState::Approved { Action::Approve } else { Action::Reject };
        let why = format!("hold {}: {}", id.0, crate::words::messages(hold.items.len()));
        tx.journal(&JournalEntry::new(now, action, Side::Here, why))?;
        Ok(hold)
    })
}

/// The hold of this number; the error names those there are.
pub fn find_hold(ledger: &View, id: HoldId) -> Result<Hold> {
    let holds = ledger.holds()?;
    let numbers: Vec<String> = holds.iter().map(|h| h.id.0.to_string()).collect();
    holds.into_iter().find(|h| h.id == id).ok_or_else(|| {
        let next = if numbers.is_empty() {
            "nothing is held".to_owned()
        } else {
            format!("held are: {}; see mailkeep status", numbers.join(", "))
        };
        Error::new(Scope::Fatal, Kind::Config, format!("there is no hold {}", id.0)).next(next)
    })
}
