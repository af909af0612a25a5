//! Commands of the user that are run when something happened: after a moment of quiet, never two
//! of one account and kind at once (nor two that are the same command), within a time limit, and
//! never in the way of a pass.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::account::PassReport;
use crate::config::{Account, Config};
use crate::model::FolderName;
use crate::secret::Credential;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Messages came from the server.
    NewMail,
    /// Something is held and needs a decision.
    Held,
    /// The account failed.
    Failed,
}

impl Kind {
    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewMail => "new_mail",
            Self::Held => "held",
            Self::Failed => "failed",
        }
    }

    /// The account's command for it.
    fn command(self, account: &Account) -> Option<&str> {
        let hooks = &account.hooks;
        match self {
            Self::NewMail => hooks.new_mail.as_deref(),
            Self::Held => hooks.held.as_deref(),
            Self::Failed => hooks.failed.as_deref(),
        }
    }
}

/// What is told to the command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occasion {
    /// The folders that new messages came into.
    pub folders: BTreeSet<FolderName>,
    /// How many came.
    pub new: u64,
    /// How many wait for a decision, in all.
    pub held: u64,
    /// What failed.
    pub error: Option<String>,
}

impl Occasion {
    /// What a pass delivered, if it did.
    pub fn new_mail(report: &PassReport) -> Option<Self> {
        let folders = report.new_in.clone();
        (report.new > 0).then(|| Self { folders, new: report.new, ..Self::default() })
    }

    /// Two that are told as one.
    fn and(&mut self, later: Self) {
        self.folders.extend(later.folders);
        self.new = self.new.saturating_add(later.new);
        self.held = later.held.max(self.held);
        self.error = later.error.or(self.error.take());
    }
}

/// How long things take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// A command is run when nothing more happened for so long.
    pub quiet: Duration,
    /// But at the latest so long after the first of what happened.
    pub most: Duration,
    /// It is ended after so long.
    pub limit: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let [quiet, most, limit] = [1, 10, 60].map(Duration::from_secs);
        Self { quiet, most, limit }
    }
}

/// Runs the hooks of all accounts. Clones are the same one.
#[derive(Clone)]
pub struct Runner {
    shared: Arc<Shared>,
}

struct Shared {
    runtime: Handle,
    pace: Pace,
    state: Mutex<State>,
    end: watch::Sender<End>,
}

#[derive(Default)]
struct State {
    /// Those with a task.
    hooks: BTreeMap<(String, Kind), Hook>,
    /// One at a time of each command.
    turns: BTreeMap<String, Arc<tokio::sync::Mutex<()>>>,
    /// Variables that hold passwords.
    secrets: BTreeSet<String>,
}

struct Hook {
    due: Option<Due>,
}

struct Due {
    occasion: Occasion,
    command: Command,
    first: Instant,
    last: Instant,
}

/// Whose command is run, and what for.
#[derive(Debug, Clone)]
struct Command {
    line: String,
    account: String,
    maildir: std::path::PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    No,
    /// Nothing is waited for any more.
    Soon,
    /// What runs is ended.
    Now,
}

impl Runner {
    /// Its tasks live in the runtime that this is called in.
    pub fn start(pace: Pace) -> Self {
        let shared = Shared {
            runtime: Handle::current(),
            pace,
            state: Mutex::default(),
            end: watch::Sender::new(End::No),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What must not be in the commands' environment.
    pub fn configure(&self, config: &Config) {
        self.shared.state().secrets = secrets(config);
    }

    /// Something happened. From any thread; waits for nothing.
    pub fn fire(&self, account: &Account, kind: Kind, occasion: Occasion) {
        let Some(command) = Command::of(account, kind) else { return };
        let now = Instant::now();
        let key = (account.name.clone(), kind);
        let mut state = self.shared.state();
        let has_task = state.hooks.contains_key(&key);
        let hook = state.hooks.entry(key.clone()).or_insert(Hook { due: None });
        match &mut hook.due {
            Some(due) => {
                due.occasion.and(occasion);
                due.command = command;
                due.last = now;
            }
            none => *none = Some(Due { occasion, command, first: now, last: now }),
        }
        if !has_task {
            self.shared.runtime.spawn(self.shared.clone().serve(key));
        }
    }

    /// Runs what is due at once, waits for all that runs, and ends what is left after `within`.
    pub async fn finish(&self, within: Duration) {
        self.shared.end.send_replace(End::Soon);
        if timeout(within, self.shared.idle()).await.is_err() {
            self.shared.end.send_replace(End::Now);
            // killed processes are gone soon
            let _ = timeout(GRACE, self.shared.idle()).await;
        }
    }
}

/// Runs an account's hook now and waits for it: for a single pass.
pub async fn run_once(account: &Account, config: &Config, kind: Kind, occasion: &Occasion) {
    if let Some(command) = Command::of(account, kind) {
        let never = watch::Sender::new(End::No);
        run(&command, occasion, &secrets(config), Pace::default().limit, never.subscribe()).await;
    }
}

/// How long a command may take to end once it is told to.
const GRACE: Duration = Duration::from_millis(500);
/// How much of what it says is kept: the end of it.
const KEPT: usize = 4096;
/// How long its output is read after its end: something in the background may hold it open.
const AFTERMATH: Duration = Duration::from_millis(200);

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // nothing in here panics halfway
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one hook as often as something happens, and ends when nothing is due.
    async fn serve(self: Arc<Self>, key: (String, Kind)) {
        let mut end = self.end.subscribe();
        loop {
            let due = {
                let mut state = self.state();
                let found = state.hooks.get(&key).and_then(|h| h.due.as_ref());
                let Some(due) = found else {
                    state.hooks.remove(&key);
                    return;
                };
                run_at(due.first, due.last, &self.pace)
            };
            if *end.borrow() == End::No && due > Instant::now() {
                tokio::select! {
                    () = sleep_until(due) => {}
                    // a sender that is gone says the same
                    _ = end.wait_for(|e| *e > End::No) => {}
                }
                continue;
            }
            let (due, turn, secrets) = {
                let mut state = self.state();
                let Some(due) = state.hooks.get_mut(&key).and_then(|h| h.due.take()) else {
                    continue;
                };
                let turn = state.turns.entry(due.command.line.clone()).or_default().clone();
                (due, turn, state.secrets.clone())
            };
            let _turn = turn.lock().await;
            if *end.borrow() < End::Now {
                run(&due.command, &due.occasion, &secrets, self.pace.limit, end.clone()).await;
            }
        }
    }

    /// Until no hook is due or runs.
    async fn idle(&self) {
        while !self.state().hooks.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// When to run what happened first and last at these times.
fn run_at(first: Instant, last: Instant, pace: &Pace) -> Instant {
    (last + pace.quiet).min(first + pace.most)
}

impl Command {
    fn of(account: &Account, kind: Kind) -> Option<Self> {
        Some(Self {
            line: kind.command(account)?.to_owned(),
            account: account.name.clone(),
            maildir: account.maildir.clone(),
            kind,
        })
    }
}

/// The environment variables that hold passwords of any account.
fn secrets(config: &Config) -> BTreeSet<String> {
    let name = |a: &Account| match &a.credential {
        Credential::Env(name) => Some(name.clone()),
        _ => None,
    };
    config.accounts.values().filter_map(name).collect()
}

/// What the service manager gave to us, and to nobody else.
const OWN: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "CREDENTIALS_DIRECTORY",
    "JOURNAL_STREAM",
    "INVOCATION_ID",
    "MAINPID",
];

/// The variables of a command.
fn environment(command: &Command, occasion: &Occasion) -> Vec<(&'static str, String)> {
    let folders: Vec<String> = occasion.folders.iter().map(|f| plain(&f.to_string())).collect();
    let mut out = vec![
        ("MAILKEEP_EVENT", command.kind.as_str().to_owned()),
        ("MAILKEEP_ACCOUNT", command.account.clone()),
        ("MAILKEEP_FOLDERS", folders.join("\n")),
        ("MAILKEEP_NEW", occasion.new.to_string()),
        ("MAILKEEP_HELD", occasion.held.to_string()),
    ];
    if let Some(error) = &occasion.error {
        out.push(("MAILKEEP_ERROR", plain(error)));
    }
    out
}

/// What a server calls a folder may hold anything; a variable holds no NUL, and a line no line end.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

async fn run(
    command: &Command,
    occasion: &Occasion,
    secrets: &BTreeSet<String>,
    limit: Duration,
    mut end: watch::Receiver<End>,
) {
    let who = format!("{}: hook {}", command.account, command.kind.as_str());
    let mut shell = tokio::process::Command::new("/bin/sh");
    shell.arg("-c").arg(&command.line).envs(environment(command, occasion));
    shell.env("MAILKEEP_MAILDIR", &command.maildir);
    for name in OWN.into_iter().chain(secrets.iter().map(String::as_str)) {
        shell.env_remove(name);
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // a group of its own: a time limit has to end what the shell started as well
    let spawned = shell.process_group(0).kill_on_drop(true).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(e) => return tracing::warn!("{who} could not be started: {e}"),
    };
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let ended = {
        let read = async { tokio::join!(tail(stdout, &mut said), tail(stderr, &mut complained)) };
        tokio::pin!(read);
        let whole = async {
            tokio::select! {
                _ = &mut read => child.wait().await,
                ended = child.wait() => {
                    let _ = timeout(AFTERMATH, &mut read).await;
                    ended
                }
            }
        };
        tokio::select! {
            ended = timeout(limit, whole) => ended.ok(),
            _ = end.wait_for(|e| *e == End::Now) => None,
        }
    };
    match ended {
        Some(Ok(status)) => report(&who, status, &said, &complained),
        Some(Err(e)) => tracing::warn!("{who} could not be waited for: {e}"),
        None => {
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::TERM);
                let _ = timeout(GRACE, child.wait()).await;
                // what did not listen
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait().await;
            tracing::warn!("{who} did not end in time and was killed; run it by hand to see why");
        }
    }
}

fn report(who: &str, status: ExitStatus, said: &[u8], complained: &[u8]) {
    for line in [said, complained].iter().flat_map(|b| b.split(|b| *b == b'\n')) {
        if !line.is_empty() {
            tracing::debug!("{who} says: {}", plain(&String::from_utf8_lossy(line)));
        }
    }
    if status.success() {
        tracing::debug!("{who}: done");
    } else {
        let last = complained.trim_ascii_end().rsplit(|b| *b == b'\n').next().unwrap_or_default();
        let last = plain(&String::from_utf8_lossy(last));
        let colon = if last.is_empty() { "" } else { ": " };
        tracing::warn!("{who} failed ({status}){colon}{last}");
    }
}

/// Reads all, and keeps the end.
async fn tail(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut piece = [0; 1024];
    while let Ok(n @ 1..) = from.read(&mut piece).await {
        kept.extend_from_slice(piece.get(..n).unwrap_or_default());
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }
}

#[cfg(test)]
mod tests;
