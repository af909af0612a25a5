//! `mailkeep approve` and `mailkeep reject`: notes the decision. The next sync acts on it, and
//! checks each message again before it does.

use super::screen::Screen;
use super::status::{count, outcome};
use super::{Decision, Exit, select};
use crate::config::{Account, Config};
use crate::error::{Error, Kind, Result, Scope};
use crate::ledger::{Action, Hold, HoldId, HoldState, JournalEntry, Ledger, Side, path_for};
use crate::maildir::marker;

/// Marks the hold.
pub(super) fn run(
    config: &Config,
    decision: &Decision,
    decided: HoldState,
    screen: &Screen,
) -> Result<Exit> {
    let account = select::account(config, &decision.account)?;
    let at_account = |e: Error| e.at(&account.name);
    let hold = mark(config, account, HoldId(decision.hold), decided).map_err(at_account)?;
    screen.note(
        Some(&account.name),
        &format!(
            "hold {} ({}) is {}; the next sync {}",
            hold.id.0,
            count(hold.kind, hold.items.len()),
            decided.as_str(),
            outcome(hold.kind, decided)
        ),
    );
    Ok(Exit::Ok)
}

fn mark(config: &Config, account: &Account, id: HoldId, decided: HoldState) -> Result<Hold> {
    let path = path_for(&config.state_dir, &account.name);
    // asked first without a lock: a wrong number is to be told even while a pass runs
    let Some(ledger) = Ledger::open_readonly(&path)? else {
        return Err(Error::new(Scope::Fatal, Kind::Config, "nothing is held: never synced")
            .next("run mailkeep sync first"));
    };
    find(&ledger, id)?;
    drop(ledger);
    // a pass that runs has read the holds already, and would overwrite the decision
    let _lock = marker::lock(&account.maildir, &account.name)?;
    let mut ledger = Ledger::open(&path, &account.name, 0)?;
    let now = jiff::Timestamp::now().as_second();
    ledger.write(|tx| {
        let hold = find(tx, id)?;
        if hold.state == decided {
            return Ok(hold);
        }
        let hold = Hold { state: decided, ..hold };
        tx.update_hold(&hold)?;
        let action = if decided == HoldState::Approved { Action::Approve } else { Action::Reject };
        let why = format!("hold {}: {}", id.0, count(hold.kind, hold.items.len()));
        tx.journal(&JournalEntry::new(now, action, Side::Here, why))?;
        Ok(hold)
    })
}

fn find(ledger: &crate::ledger::View, id: HoldId) -> Result<Hold> {
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
