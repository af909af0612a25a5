//! `mailkeep approve` and `mailkeep reject`: notes the decision. The next sync acts on it, and
//! checks each message again before it does.

use super::screen::Screen;
use super::status::{count, outcome};
use super::{Decision, Exit, select};
use crate::account::{decide, find_hold};
use crate::config::{Account, Config};
use crate::daemon::client;
use crate::daemon::protocol::Request;
use crate::error::{Error, Kind, Result, Scope};
use crate::ledger::{Hold, HoldId, HoldState, Ledger, path_for};
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
    let (hold, who) = mark(config, account, HoldId(decision.hold), decided).map_err(at_account)?;
    let who = match who {
        Who::Daemon => "the daemon",
        Who::Sync => "the next sync",
    };
    screen.note(
        Some(&account.name),
        &format!(
            "hold {} ({}) is {}; {who} {}",
            hold.id.0,
            count(hold.kind, hold.items.len()),
            decided.as_str(),
            outcome(account, hold.kind, decided)
        ),
    );
    Ok(Exit::Ok)
}

fn mark(config: &Config, account: &Account, id: HoldId, decided: HoldState) -> Result<(Hold, Who)> {
    let path = path_for(&config.state_dir, &account.name);
    // asked first without a lock: a wrong number is to be told even while a pass runs
    let Some(ledger) = Ledger::open_readonly(&path)? else {
        return Err(Error::new(Scope::Fatal, Kind::Config, "nothing is held: never synced")
            .next("run mailkeep sync first"));
    };
    let hold = find_hold(&ledger, id)?;
    drop(ledger);
    let request = Request::Decide {
        account: account.name.clone(),
        hold: id.0,
        approve: decided == HoldState::Approved,
    };
    if client::order(config, &request)?.is_some() {
        return Ok((hold, Who::Daemon));
    }
    // a pass that runs has read the holds already, and would overwrite the decision
    let _lock = marker::lock(&account.maildir, &account.name)?;
    let mut ledger = Ledger::open(&path, &account.name, 0)?;
    decide(&mut ledger, id, decided).map(|hold| (hold, Who::Sync))
}

/// Who acts on the decision.
enum Who {
    Daemon,
    Sync,
}
