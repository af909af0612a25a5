//! `mailkeep status`: accounts, folders, the last pass, what is held, what failed, and what to do.
//! It reads the ledgers, so it answers while a pass runs and while a server is down; a daemon that
//! runs adds what it is at. That
//! something failed or is held is its answer, not its failure: it ends with 0.

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::{Value, json};

use super::Exit;
use super::screen::Screen;
use super::table::{cell, local_time, rfc3339, shell_word, table};
use crate::config::{Account, Config};
use crate::daemon::client;
use crate::daemon::protocol::{Live, State, Status};
use crate::error::Result;
use crate::ledger::{
    FolderRecord, Hold, HoldKind, HoldState, Ledger, Mailbox, PassState, path_for,
};
use crate::model::FolderId;
use crate::words;

/// What there is to say about one account.
struct Report {
    state: PassState,
    last_pass: Option<i64>,
    error: Option<String>,
    notes: Vec<String>,
    folders: Vec<Folder>,
    holds: Vec<Waiting>,
    live: Option<Live>,
    /// Of a POP3 account that had a session.
    mailbox: Option<Mailbox>,
    /// Messages there that came shorter than the server says.
    short: u64,
}

struct Folder {
    name: String,
    path: String,
    messages: u64,
    kept: u64,
    pending: u64,
    held: usize,
    push: String,
    note: String,
}

struct Waiting {
    hold: Hold,
    folder: Option<String>,
}

/// For people.
pub(super) fn human(config: &Config, invocation: &str, screen: &Screen) -> Result<Exit> {
    let (lines, exit) = all_lines(config, invocation);
    for line in lines {
        screen.data(line)?;
    }
    Ok(exit)
}

/// How often it is shown again.
const EVERY: Duration = Duration::from_secs(1);

/// For people who wait: in place, until they have seen enough or stdout is closed.
pub(super) fn watch(config: &Config, invocation: &str, screen: &Screen) -> Result<Exit> {
    let terminal = std::io::stdout().is_terminal();
    loop {
        let (lines, _) = all_lines(config, invocation);
        if terminal {
            screen.data(format_args!("{}", in_place(&lines, terminal_rows())))?;
        } else {
            for line in lines {
                screen.data(line)?;
            }
            screen.data("")?;
        }
        if screen.is_closed() {
            return Ok(Exit::Ok);
        }
        std::thread::sleep(EVERY);
    }
}

/// From the top left corner on, every line over what stood there before, and nothing below.
fn in_place(lines: &[String], rows: usize) -> String {
    let mut out = String::from("\x1b[H");
    for line in lines.iter().take(rows.saturating_sub(2)) {
        out.push_str(line);
        out.push_str("\x1b[K\n");
    }
    out.push_str("\x1b[J");
    if lines.len() + 2 > rows {
        let more = lines.len() + 2 - rows;
        out.push_str(&format!("({more} lines more; see `mailkeep status`)"));
    }
    out
}

fn terminal_rows() -> usize {
    let rows = rustix::termios::tcgetwinsize(std::io::stdout()).map(|w| usize::from(w.ws_row));
    rows.ok().filter(|r| *r > 2).unwrap_or(24)
}

fn all_lines(config: &Config, invocation: &str) -> (Vec<String>, Exit) {
    let mut exit = Exit::Ok;
    let mut out = Vec::new();
    let daemon = daemon(config, &mut exit);
    if let Some(Ok(status)) = &daemon {
        out.push(format!("daemon: process {}, since {}", status.pid, local_time(status.since)));
    }
    if let Some(Err(e)) = &daemon {
        out.push(format!("daemon: {}", cell(&e.to_string())));
    }
    for account in config.accounts.values() {
        if !out.is_empty() {
            out.push(String::new());
        }
        let report = report(config, account, daemon.as_ref(), &mut exit);
        out.extend(lines(account, &report, invocation));
    }
    (out, exit)
}

/// What the daemon says; `None`: none runs.
fn daemon(config: &Config, exit: &mut Exit) -> Option<Result<Status>> {
    let said = client::status(config).transpose();
    if matches!(said, Some(Err(_))) {
        *exit = Exit::Failed;
    }
    said
}

fn report(
    config: &Config,
    account: &Account,
    daemon: Option<&Result<Status>>,
    exit: &mut Exit,
) -> Report {
    let mut report = read(config, account).unwrap_or_else(|e| {
        *exit = Exit::Failed;
        Report::unreadable(e.to_string())
    });
    if let Some(Ok(status)) = daemon
        && let Some(live) = status.accounts.get(&account.name)
    {
        report.add(live.clone());
    }
    report
}

/// For programs.
pub(super) fn json(config: &Config, invocation: &str, screen: &Screen) -> Result<Exit> {
    let mut exit = Exit::Ok;
    let daemon = daemon(config, &mut exit);
    let mut accounts = Vec::new();
    for account in config.accounts.values() {
        let report = report(config, account, daemon.as_ref(), &mut exit);
        accounts.push(object(account, &report, invocation));
    }
    let daemon = match daemon {
        Some(Ok(s)) => json!({ "pid": s.pid, "since": rfc3339(s.since) }),
        Some(Err(e)) => json!({ "error": e.to_string() }),
        None => Value::Null,
    };
    let all = json!({ "accounts": accounts, "daemon": daemon });
    screen.data(format_args!("{all:#}"))?;
    Ok(exit)
}

impl Report {
    fn empty(state: PassState) -> Self {
        Self {
            state,
            last_pass: None,
            error: None,
            notes: Vec::new(),
            folders: Vec::new(),
            holds: Vec::new(),
            live: None,
            mailbox: None,
            short: 0,
        }
    }

    /// What the ledger cannot know: what the daemon is at.
    fn add(&mut self, live: Live) {
        for folder in &mut self.folders {
            folder.push = live.push.get(&folder.name).cloned().unwrap_or_default();
        }
        self.last_pass = live.last_pass.as_ref().map(|l| l.0).max(self.last_pass);
        if live.error.is_some() {
            self.error.clone_from(&live.error);
        }
        let new = live.notes.iter().filter(|n| !self.notes.contains(n)).cloned();
        let new: Vec<String> = new.collect();
        self.notes.extend(new);
        self.live = Some(live);
    }

    fn unreadable(error: String) -> Self {
        Self { error: Some(error), ..Self::empty(PassState::Failed) }
    }
}

fn read(config: &Config, account: &Account) -> Result<Report> {
    let path = path_for(&config.state_dir, &account.name);
    let Some(ledger) = Ledger::open_readonly(&path)? else {
        return Ok(Report::empty(PassState::Never));
    };
    let meta = ledger.meta()?;
    let records = ledger.folders()?;
    let counts = ledger.counts()?;
    let holds = crate::pop3::in_view(&ledger, ledger.holds()?)?;
    let open = || holds.iter().filter(|h| h.state == HoldState::Open);
    let held = |id: FolderId| open().flat_map(|h| &h.items).filter(|i| i.folder == id).count();
    let mut folders: Vec<Folder> = records
        .values()
        .map(|record| {
            let counts = counts.get(&record.id).copied().unwrap_or_default();
            Folder {
                name: record.name.to_string(),
                path: path_of(account, record),
                messages: counts.messages,
                kept: counts.kept,
                pending: counts.pending + record.unseen,
                held: held(record.id),
                push: record.push.clone(),
                note: record.note.clone(),
            }
        })
        .collect();
    folders.sort_by(|a, b| (a.name != "INBOX", &a.name).cmp(&(b.name != "INBOX", &b.name)));
    let state = match meta.last_state {
        PassState::Ok if open().next().is_some() => PassState::Held,
        state => state,
    };
    let name = |id: FolderId| records.get(&id).map(|f| f.name.to_string());
    let holds = holds
        .iter()
        .map(|hold| Waiting { hold: hold.clone(), folder: hold.folder.and_then(name) })
        .collect();
    let mailbox = match account.pop3 {
        Some(_) => Some(ledger.mailbox()?).filter(|m| m.epoch > 0),
        None => None,
    };
    Ok(Report {
        state,
        last_pass: meta.last_pass,
        error: meta.last_error,
        notes: meta.notes,
        folders,
        holds,
        live: None,
        short: mailbox.as_ref().map_or(Ok(0), |m| ledger.count_short(m.epoch))?,
        mailbox,
    })
}

fn path_of(account: &Account, record: &FolderRecord) -> String {
    account.maildir.join(account.layout.relative_dir(&record.name)).display().to_string()
}

fn object(account: &Account, report: &Report, invocation: &str) -> Value {
    let folders: Vec<Value> = report
        .folders
        .iter()
        .map(|f| {
            json!({
                "name": f.name, "path": f.path, "messages": f.messages, "kept": f.kept,
                "pending": f.pending, "held": f.held, "push": f.push,
                "note": Some(&f.note).filter(|n| !n.is_empty()),
            })
        })
        .collect();
    let holds: Vec<Value> = report
        .holds
        .iter()
        .map(|w| {
            json!({
                "number": w.hold.id.0, "kind": w.hold.kind.as_str(), "folder": w.folder,
                "messages": w.hold.items.len(), "reason": w.hold.reason,
                "next": Some(&w.hold.next).filter(|n| !n.is_empty()),
                "approve": command(account, &w.hold, invocation, "approve"),
                "reject": command(account, &w.hold, invocation, "reject"),
                "state": w.hold.state.as_str(), "since": rfc3339(w.hold.created),
            })
        })
        .collect();
    let pop3 = report.mailbox.as_ref().map(|m| {
        json!({
            "on_server": m.listed_at.map(|_| m.on_server),
            "listed_at": m.listed_at.map(rfc3339),
            "due": m.due, "next_due": m.next_due.map(rfc3339),
            "frozen": Some(&m.frozen).filter(|f| !f.is_empty()),
            "short": report.short,
            "login_delay": m.login_delay,
        })
    });
    let mut all = json!({
        "name": account.name, "protocol": account.protocol.as_str(),
        "state": report.state.as_str(), "last_pass": report.last_pass.map(rfc3339),
        "error": report.error, "notes": report.notes, "folders": folders, "holds": holds,
        "live": report.live.as_ref().map(|l| json!({
            "state": l.state, "since": rfc3339(l.since), "until": l.until.map(rfc3339),
            "doing": l.doing, "passes": l.passes,
            "last": l.last_pass.as_ref().map(|(_, did)| did),
        })),
    });
    if let (Some(pop3), Some(all)) = (pop3, all.as_object_mut()) {
        all.insert("pop3".into(), pop3);
    }
    all
}

fn lines(account: &Account, report: &Report, invocation: &str) -> Vec<String> {
    let when = match report.last_pass {
        Some(t) => format!(", last pass {}", local_time(t)),
        None => String::new(),
    };
    let state = match report.state {
        PassState::Never => "never synced".to_owned(),
        state => format!("{}{when}", state.as_str()),
    };
    let mut out = vec![format!("{} ({}): {state}", account.name, account.protocol.as_str())];
    if let Some(live) = &report.live {
        out.push(format!("  now: {}", now(live)));
        if live.state == State::Parked {
            out.push(format!("  next: {invocation} sync {}", shell_word(&account.name)));
        }
        if live.state == State::Paused {
            out.push(format!("  next: {invocation} resume {}", shell_word(&account.name)));
        }
    }
    if report.state == PassState::Never && report.folders.is_empty() {
        out.push(format!("  next: {invocation} sync {}", shell_word(&account.name)));
    }
    if let Some(error) = &report.error {
        out.push(format!("  error: {}", cell(error)));
    }
    out.extend(report.notes.iter().map(|n| format!("  note: {}", cell(n))));
    out.extend(report.mailbox.iter().map(|m| mailbox_line(m, report.short)));
    if !report.folders.is_empty() {
        let row = |f: &Folder| {
            let numbers = [f.messages, f.kept, f.pending].map(|n| n.to_string());
            let [messages, kept, pending] = numbers;
            vec![cell(&f.name), messages, kept, pending, f.held.to_string(), cell(&f.push)]
        };
        let rows: Vec<_> = report.folders.iter().map(row).collect();
        let heading = ["FOLDER", "MESSAGES", "KEPT", "PENDING", "HELD", "PUSH"];
        out.extend(table("  ", &heading, &rows));
    }
    let noted = report.folders.iter().filter(|f| !f.note.is_empty());
    out.extend(noted.map(|f| format!("  {}: {}", f.name, cell(&f.note))));
    for w in &report.holds {
        out.extend(hold_lines(account, w, invocation));
    }
    out
}

/// What the worker is at, in words.
fn now(live: &Live) -> String {
    let mut out = live.state.as_str().to_owned();
    if let Some(doing) = &live.doing {
        out.push_str(&format!(" ({})", cell(doing)));
    }
    out.push_str(&format!(" since {}", local_time(live.since)));
    if let Some(until) = live.until {
        let again = match live.state {
            State::Waiting | State::Held => "looks again by",
            _ => "tries again at",
        };
        out.push_str(&format!(", {again} {}", local_time(until)));
    }
    out
}

/// What a POP3 server has, and what is deleted there when.
fn mailbox_line(m: &Mailbox, short: u64) -> String {
    let Some(listed_at) = m.listed_at else {
        return "  on the server: not known, no session came so far yet".into();
    };
    let mut line =
        format!("  on the server: {} at {}", words::messages(m.on_server), local_time(listed_at));
    if m.due > 0 {
        line.push_str(&format!(", {} due for deletion", m.due));
    }
    if let Some(t) = m.next_due {
        line.push_str(&format!(", the next one due {}", local_time(t)));
    }
    if !m.frozen.is_empty() {
        line.push_str(&format!("; nothing is deleted there: {}", cell(&m.frozen)));
    }
    if short > 0 {
        let came = words::count(short, "message that came", "messages that came");
        line.push_str(&format!("; not deleted there: {came} shorter than the server says"));
    }
    line
}

fn hold_lines(account: &Account, w: &Waiting, invocation: &str) -> Vec<String> {
    let Waiting { hold, folder } = w;
    let place = folder.as_ref().map(|f| format!(" in {f}")).unwrap_or_default();
    let what = count(hold.kind, hold.items.len());
    let mut out =
        vec![format!("  hold {}: {what}{place}, since {}", hold.id.0, local_time(hold.created))];
    out.push(format!("    {}", cell(&hold.reason)));
    let approve = command(account, hold, invocation, "approve");
    let reject = command(account, hold, invocation, "reject");
    match hold.state {
        HoldState::Open => {
            out.push(format!(
                "    {approve}    {}",
                outcome(account, hold.kind, HoldState::Approved)
            ));
            out.push(format!(
                "    {reject}     {}",
                outcome(account, hold.kind, HoldState::Rejected)
            ));
        }
        HoldState::Approved => {
            out.push(format!("    approved; the next sync acts on it. {reject} undoes that"));
        }
        // nothing is to be done: they are there
        HoldState::Rejected if hold.kind == HoldKind::Retention => {
            out.push(format!("    rejected: they stay on the server. {approve} undoes that"));
        }
        HoldState::Rejected => {
            out.push(format!("    rejected; the next sync acts on it. {approve} undoes that"));
        }
    }
    out
}

/// The exact command that decides.
fn command(account: &Account, hold: &Hold, invocation: &str, verb: &str) -> String {
    format!("{invocation} {verb} {} {}", shell_word(&account.name), hold.id.0)
}

/// What is held, in words.
pub(super) fn count(kind: HoldKind, n: usize) -> String {
    let (one, many) = match kind {
        HoldKind::LocalDeletions | HoldKind::NoTrash => {
            ("message removed here", "messages removed here")
        }
        HoldKind::RemoteDeletions => {
            ("message gone from the server", "messages gone from the server")
        }
        HoldKind::Retention => ("deletion on the POP3 server", "deletions on the POP3 server"),
        HoldKind::Refiled => {
            ("message put elsewhere in POP3 times", "messages put elsewhere in POP3 times")
        }
        HoldKind::UnknownFiles => ("file of unknown origin", "files of unknown origin"),
        HoldKind::Refused => ("upload that the server refused", "uploads that the server refused"),
    };
    words::count(n, one, many)
}

/// What the next sync does with it once this is decided; under `read_only`, it does nothing there.
pub(super) fn outcome(account: &Account, kind: HoldKind, decided: HoldState) -> String {
    let there = decided == HoldState::Approved && kind != HoldKind::RemoteDeletions;
    let when = if there && account.policy.read_only { ", once read_only is gone" } else { "" };
    format!("{}{when}", done(kind, decided))
}

fn done(kind: HoldKind, decided: HoldState) -> &'static str {
    match (decided, kind) {
        (HoldState::Open, _) => "nothing, until it is decided",
        (HoldState::Approved, HoldKind::LocalDeletions) => "deletes the messages on the server too",
        (HoldState::Approved, HoldKind::Retention) => "deletes the messages on the server",
        (HoldState::Rejected, HoldKind::Retention) => "leaves the messages on the server",
        (HoldState::Approved, HoldKind::Refiled) => "moves the messages on the server",
        (HoldState::Rejected, HoldKind::Refiled) => "moves the files back",
        (HoldState::Approved, HoldKind::RemoteDeletions) => "deletes the files here too",
        (HoldState::Approved, HoldKind::NoTrash) => {
            "deletes the messages there for good, where there still is no trash"
        }
        (HoldState::Approved, HoldKind::UnknownFiles) => "sends the files to the server",
        (HoldState::Approved, HoldKind::Refused) => "tries to send the files again",
        (HoldState::Rejected, HoldKind::LocalDeletions | HoldKind::NoTrash) => {
            "fetches the messages again"
        }
        (HoldState::Rejected, HoldKind::RemoteDeletions) => "leaves the files here, as kept",
        (HoldState::Rejected, HoldKind::UnknownFiles | HoldKind::Refused) => {
            "leaves the files here only, as kept"
        }
    }
}
