//! One account's worker: waits for a reason to look (push, watcher, timer, an order), runs a pass,
//! and waits again. It has a thread and an event loop of its own, so that a slow disk or server of
//! one account never holds up another.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::board::Board;
use super::hearing::{Hearing, until};
use super::hooks::{self, Occasion, Runner};
use super::protocol::{Reply, State};
use crate::account::backoff::{self, Backoff, Cause, Then};
use crate::account::clock::unix_now;
use crate::account::{self, Failed, Opened, PassOptions, PassReport};
use crate::config::{Account, Config};
use crate::error::{Error, Kind, Result};
use crate::ledger::{HoldId, HoldState};
use crate::maildir::watch::{self, Watcher};

/// What a worker is told.
pub enum Order {
    /// Run a pass, and answer with what it did.
    Sync(PassOptions, oneshot::Sender<Reply>),
    /// Note a decision, and run a pass.
    Decide(HoldId, HoldState, oneshot::Sender<Reply>),
    /// Do nothing until told otherwise.
    Pause(oneshot::Sender<Reply>),
    /// Go on.
    Resume(oneshot::Sender<Reply>),
    /// Look again: connections may be dead.
    Wake(Wake),
    /// Say that you live.
    Ping,
    /// End.
    Stop,
}

/// Why a worker is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The machine was asleep: every connection is as good as dead.
    Slept,
    /// The network may be back; only who failed needs to look.
    Network,
    /// This machine is reached by another way now: connections may be dead.
    Moved,
    /// A person had the configuration read again.
    Reloaded,
}

/// A worker and what it holds.
pub struct Worker {
    account: Arc<Account>,
    config: Arc<Config>,
    board: Arc<Board>,
    hooks: Runner,
    orders: UnboundedReceiver<Order>,
    /// What came during a pass.
    queue: VecDeque<Order>,
    opened: Option<Opened>,
    watcher: Option<Watcher>,
    hearing: Hearing,
    backoff: Backoff,
    paused: bool,
    /// When to look at the latest; `None`: only when told.
    due: Option<Instant>,
    /// Not before this: the server wants so much time between two logins (LOGIN-DELAY, RFC 2449).
    not_before: Option<Instant>,
    /// Whether the last pass failed: then only time or an order leads to another one.
    failed: bool,
    /// Passes in a row that left something undone.
    unfinished: u32,
    /// Whether the next look by time is an echo.
    echo: bool,
    /// What was told to the log last.
    told: Option<String>,
    /// Failures in a row.
    failures: u32,
    held: u64,
}

/// Why there is a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Push,
    Here,
    Time,
    /// To see what the server did not tell because it came right after what it told.
    Echo,
    Order,
}

enum Woken {
    Look(Why),
    Stop,
}

/// So long after news it is looked for more: Dovecot 2.3 does not tell by NOTIFY of a message that
/// comes within some milliseconds of the one it tells of (seen with 2.3.19, 2026-11).
const ECHO: Duration = Duration::from_secs(1);

/// With push in place it is polled this much less often: only to see whether push tells all.
const SAFETY: u32 = 6;

/// So many connections that failed in a row are a failure to tell of.
const LASTING: u32 = 4;

/// A pass that is under way when the end comes may go on for so long.
const GRACE: Duration = Duration::from_millis(2500);

impl Worker {
    /// A new one, which looks at once.
    pub fn new(
        account: Arc<Account>,
        config: Arc<Config>,
        board: Arc<Board>,
        hooks: Runner,
        orders: UnboundedReceiver<Order>,
    ) -> Self {
        Self {
            hearing: Hearing::new(account.clone()),
            account,
            config,
            board,
            hooks,
            orders,
            queue: VecDeque::new(),
            opened: None,
            watcher: None,
            backoff: Backoff::default(),
            paused: false,
            due: Some(Instant::now()),
            not_before: None,
            failed: false,
            unfinished: 0,
            echo: false,
            told: None,
            failures: 0,
            held: 0,
        }
    }

    /// Works until it is told to stop.
    pub async fn run(mut self) {
        self.board.beat();
        while let Woken::Look(why) = self.wait().await {
            if !self.look(why).await {
                break;
            }
        }
        self.hang_up().await;
        if let Some(opened) = self.opened.take() {
            opened.close().await;
        }
    }

    /// Until there is a reason to look.
    async fn wait(&mut self) -> Woken {
        loop {
            while let Some(order) = self.queue.pop_front() {
                if let Some(woken) = self.obey(order).await {
                    return woken;
                }
            }
            let calm = !self.paused && !self.failed;
            let due = self.due.filter(|_| !self.paused);
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(order) => self.queue.push_back(order),
                    None => return Woken::Stop,
                },
                hint = changed(&mut self.watcher), if calm => {
                    tracing::trace!("{}: {hint:?}", self.account.name);
                    match self.not_before.filter(|t| *t > Instant::now()) {
                        Some(then) => self.due = self.due.min(Some(then)).or(Some(then)),
                        None => return Woken::Look(Why::Here),
                    }
                }
                event = self.hearing.next(), if calm => {
                    if self.hearing.take(event, self.opened.as_ref(), dice()) {
                        return Woken::Look(Why::Push);
                    }
                    self.hearing_changed();
                }
                () = until(due) => {
                    return Woken::Look(if self.echo { Why::Echo } else { Why::Time });
                }
            }
        }
    }

    /// Does what it is told, or says that a pass is to follow.
    async fn obey(&mut self, order: Order) -> Option<Woken> {
        let look = Some(Woken::Look(Why::Order));
        match order {
            Order::Ping => self.board.beat(),
            Order::Stop => return Some(Woken::Stop),
            Order::Sync(options, reply) => {
                self.forgive();
                self.queue.push_front(Order::Sync(options, reply));
                return look;
            }
            Order::Decide(hold, decided, reply) => {
                let noted = self.decide(hold, decided);
                let follow = noted.is_ok() && !self.paused;
                let _ = reply.send(match noted {
                    Ok(()) => Reply::Done { note: String::new() },
                    Err(e) => Reply::Failed(e),
                });
                if follow {
                    return look;
                }
            }
            Order::Pause(reply) => {
                self.paused = true;
                self.hang_up().await;
                if let Some(opened) = self.opened.take() {
                    opened.close().await;
                }
                self.board.set(|l| {
                    l.state = State::Paused;
                    l.until = None;
                });
                tracing::info!("{}: paused", self.account.name);
                let _ = reply.send(Reply::Done { note: "paused".into() });
            }
            Order::Resume(reply) => {
                let was = std::mem::replace(&mut self.paused, false);
                let note = if was { "resumed" } else { "was not paused" };
                let _ = reply.send(Reply::Done { note: note.into() });
                if was {
                    tracing::info!("{}: resumed", self.account.name);
                    self.forgive();
                    return look;
                }
            }
            Order::Wake(wake) => return self.woken(wake).await.then_some(Woken::Look(Why::Order)),
        }
        None
    }

    /// Whether there is to be a pass.
    async fn woken(&mut self, wake: Wake) -> bool {
        let parked = self.failed && self.due.is_none();
        match wake {
            Wake::Network if !self.failed => return false,
            Wake::Slept => self.hang_up().await,
            Wake::Reloaded if !parked && !self.backoff.is_refused() => return false,
            Wake::Network | Wake::Moved | Wake::Reloaded => {}
        }
        if self.paused || parked && wake != Wake::Reloaded {
            return false;
        }
        tracing::debug!("{}: woken: {wake:?}", self.account.name);
        self.forgive();
        true
    }

    /// It is tried again without more waiting.
    fn forgive(&mut self) {
        self.backoff.reset();
        self.hearing.forgive();
        self.failed = false;
    }

    /// Drops every connection.
    async fn hang_up(&mut self) {
        if let Some(opened) = &mut self.opened {
            opened.hang_up();
        }
        self.hearing.hang_up().await;
    }

    fn decide(&mut self, hold: HoldId, decided: HoldState) -> Result<()> {
        let opened = match &mut self.opened {
            Some(opened) => opened,
            None => self.opened.insert(Opened::open(&self.account, &self.config)?),
        };
        opened.with_ledger(|l| account::decide(l, hold, decided).map(|_| ()))
    }

    /// A pass. False: it is the end.
    async fn look(&mut self, why: Why) -> bool {
        let (options, asked) = self.asked();
        self.board.set(|l| {
            l.state = State::Syncing;
            l.until = None;
        });
        let Some(done) = self.pass(&options).await else { return false };
        for reply in asked {
            // who asked may have gone
            let _ = reply.send(match &done {
                Ok(report) => Reply::Pass(report.clone()),
                Err(failed) => Reply::Failed(failed.error.clone()),
            });
        }
        self.board.set(|l| l.passes += 1);
        // of a pass that failed in the end too: its mail is here, and the next finds it no news
        let report = done.as_ref().unwrap_or_else(|failed| &failed.report);
        if let Some(occasion) = Occasion::new_mail(report) {
            self.hooks.fire(&self.account, hooks::Kind::NewMail, occasion);
        }
        match done {
            Ok(report) => self.passed(why, report),
            Err(failed) => self.failed(failed.error),
        }
        true
    }

    /// What is asked of the next pass, and who waits for it. Those who ask for the same share it.
    fn asked(&mut self) -> (PassOptions, Vec<oneshot::Sender<Reply>>) {
        let plain = |o: &PassOptions| o.folders.is_empty() && !o.take_over;
        let mut options = PassOptions::default();
        let mut asked = Vec::new();
        let mut rest = VecDeque::new();
        for order in self.queue.drain(..) {
            match order {
                Order::Sync(wanted, reply) if asked.is_empty() => {
                    options = wanted;
                    asked.push(reply);
                }
                Order::Sync(wanted, reply) if plain(&wanted) && plain(&options) => {
                    asked.push(reply);
                }
                order => rest.push_back(order),
            }
        }
        self.queue = rest;
        options.by_itself = asked.is_empty();
        (options, asked)
    }

    /// `None`: it was told to stop.
    async fn pass(&mut self, options: &PassOptions) -> Option<Result<PassReport, Failed>> {
        let Self { account, config, board, orders, queue, opened, watcher, .. } = self;
        let progress = board.progress();
        let opened = match opened {
            Some(opened) => opened,
            None => match Opened::open(account, config) {
                Ok(new) => opened.insert(new),
                Err(e) => return Some(Err(e.into())),
            },
        };
        // what happens from now on is told
        watch(watcher, account, board);
        if let Some(watcher) = watcher {
            opened.trust(watcher.complete());
        }
        attended(orders, queue, board, opened.pass(account, options, &progress)).await
    }

    fn passed(&mut self, why: Why, report: PassReport) {
        let name = &self.account.name;
        let did =
            report.new + report.sent + report.flags + report.moved + report.copied + report.deleted;
        if did + report.kept > 0 || report.held != self.held {
            tracing::info!("{name}: {report}");
        } else {
            tracing::debug!("{name}: {report} ({why:?})");
        }
        for e in &report.errors {
            tracing::warn!("{name}: {e}");
        }
        if report.held > self.held {
            tracing::warn!("{name}: something is held and needs a decision; see `mailkeep status`");
        }
        if report.held > self.held {
            let occasion = Occasion { held: report.held, ..Occasion::default() };
            self.hooks.fire(&self.account, hooks::Kind::Held, occasion);
        }
        self.held = report.held;
        self.failed = false;
        self.failures = 0;
        self.backoff.reset();
        let error = report.errors.first().map(ToString::to_string);
        if error.is_none() && self.told.take().is_some() {
            tracing::info!("{name}: works again");
        }
        self.told.clone_from(&error);
        self.hearing.know(self.opened.as_ref().map(Opened::folders).unwrap_or_default());
        if why == Why::Time {
            self.hearing.suspect(&report.news_in);
        }
        let interval = self.account.poll_interval;
        let polled = self.hearing.needs_polling()
            || self.watcher.as_ref().is_none_or(|w| w.degraded().is_some())
            || error.is_some();
        let mut wait = if polled { interval } else { interval.saturating_mul(SAFETY) };
        // accounts of one server need not come all at once
        wait += wait.mul_f64(f64::from(u32::try_from(dice() % 1000).unwrap_or(0)) / 10_000.0);
        self.unfinished = if report.unfinished { self.unfinished.saturating_add(1) } else { 0 };
        if self.unfinished > 0 {
            let soon = Duration::from_secs(1 << self.unfinished.min(10));
            wait = wait.min(soon);
        }
        let left = self.due.map_or(Duration::ZERO, |d| d.duration_since(Instant::now()));
        let echo = match report.news_in.is_empty() {
            false => Some(ECHO),
            // the one that is due stays due
            true => Some(left).filter(|_| self.echo && why != Why::Echo),
        };
        self.echo = echo.is_some_and(|e| e < wait);
        wait = wait.min(echo.unwrap_or(wait));
        let delay = Duration::from_secs(u64::from(report.login_delay));
        self.not_before = Instant::now().checked_add(delay);
        wait = wait.max(delay);
        self.due = Instant::now().checked_add(wait);
        let until = unix_now().checked_add_unsigned(wait.as_secs());
        let push = self.hearing.methods();
        let mut notes = report.notes.clone();
        notes.extend(self.watcher.as_ref().and_then(Watcher::degraded).map(|e| e.to_string()));
        notes.extend(self.hearing.note().map(str::to_owned));
        self.board.set(|l| {
            l.state = if report.held > 0 { State::Held } else { State::Waiting };
            l.until = until;
            l.error = error;
            l.notes = notes;
            l.push = push;
            l.last_pass = Some((unix_now(), report.to_string()));
        });
    }

    fn failed(&mut self, e: Error) {
        let name = &self.account.name;
        let text = e.to_string();
        if self.told.as_ref() == Some(&text) {
            tracing::debug!("{name}: {text}");
        } else {
            tracing::warn!("{name}: {text}");
        }
        if !matches!(e.kind, Kind::Connection | Kind::Credentials | Kind::Tls | Kind::Protocol) {
            // the lock and the ledger may belong to what is not there any more
            self.opened = None;
        }
        self.told = Some(text.clone());
        self.failed = true;
        self.echo = false;
        self.failures = self.failures.saturating_add(1);
        // a connection that comes back soon is nobody's concern
        if self.failures == if e.kind == Kind::Connection { LASTING } else { 1 } {
            let occasion = Occasion { error: Some(text.clone()), ..Occasion::default() };
            self.hooks.fire(&self.account, hooks::Kind::Failed, occasion);
        }
        self.unfinished = 0;
        let then = self.backoff.failed(Cause::of(&e), backoff::hint(&e.what), dice());
        let state = match (e.kind, then) {
            (_, Then::Park) => State::Parked,
            (Kind::DiskFull, _) => State::DiskFull,
            (Kind::Maildir, _) => State::MaildirMissing,
            (Kind::Locked, _) => State::Locked,
            _ => State::Backoff,
        };
        let wait = match then {
            Then::Wait(wait) => Some(wait),
            Then::Park => {
                tracing::warn!(
                    "{name}: parked; nothing is tried before `mailkeep sync` or `mailkeep reload`"
                );
                None
            }
        };
        self.due = wait.and_then(|w| Instant::now().checked_add(w));
        let until = wait.and_then(|w| unix_now().checked_add_unsigned(w.as_secs()));
        let push = self.hearing.methods();
        self.board.set(|l| {
            l.state = state;
            l.until = until;
            l.error = Some(text);
            l.push = push;
        });
    }

    /// Folders that push does not tell of any more are polled.
    fn hearing_changed(&mut self) {
        if self.hearing.needs_polling() {
            let poll = Instant::now().checked_add(self.account.poll_interval);
            self.due = self.due.min(poll).or(self.due);
        }
        let push = self.hearing.methods();
        let note = self.hearing.note();
        self.board.set(|l| {
            l.push = push;
            if let Some(note) = note
                && !l.notes.iter().any(|n| n == note)
            {
                l.notes.push(note.to_owned());
            }
        });
    }
}

/// Watches the maildir, if that is not done yet.
fn watch(watcher: &mut Option<Watcher>, account: &Account, board: &Board) {
    if watcher.is_some() {
        return;
    }
    match Watcher::start(&account.maildir, account.layout) {
        Ok(new) => *watcher = Some(new),
        Err(e) => {
            let text = e.to_string();
            board.set(|l| {
                if !l.notes.contains(&text) {
                    tracing::warn!("{}: {text}", account.name);
                    l.notes.push(text);
                }
            });
        }
    }
}

/// Runs a pass while orders are heard. What can wait is put into the queue. `None`: the end came,
/// and the pass was dropped where it stood; the next one goes on from there.
async fn attended<T>(
    orders: &mut UnboundedReceiver<Order>,
    queue: &mut VecDeque<Order>,
    board: &Board,
    pass: impl Future<Output = T>,
) -> Option<T> {
    let mut pass = pin!(pass);
    let mut end = None;
    loop {
        tokio::select! {
            done = &mut pass => return Some(done),
            order = orders.recv(), if end.is_none() => match order {
                Some(Order::Ping) => board.beat(),
                Some(Order::Stop) | None => {
                    end = Some(Instant::now() + GRACE);
                    queue.push_back(Order::Stop);
                }
                Some(order) => queue.push_back(order),
            },
            () = until(end) => return None,
        }
    }
}

async fn changed(watcher: &mut Option<Watcher>) -> watch::Hint {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => pending().await,
    }
}

/// For jitter; without randomness there is none.
fn dice() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => 0,
    }
}
