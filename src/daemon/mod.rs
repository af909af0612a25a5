//! `mailkeep run`: keeps every account in step, for months.
//!
//! Reading order: this file (the supervisor: workers, signals, reload), `worker` (one account) with
//! `hearing` (its push), `board` (where a worker says how it stands), `protocol`, `control` and
//! `client` (the socket), `network` and `notify` (the machine and systemd), `hooks` (the user's
//! commands).

mod board;
pub mod client;
mod control;
mod hearing;
pub mod hooks;
mod network;
mod notify;
pub mod protocol;
mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, interval, sleep_until};

use crate::account::PassOptions;
use crate::account::clock::unix_now;
use crate::config::{Account, Config};
use crate::error::{Error, Kind, Result, Scope};
use crate::ledger::{HoldId, HoldState};
use crate::policy::FolderPattern;
use board::Board;
use control::Control;
use hooks::Runner;
use network::{Network, Sleep};
use notify::Manager;
use protocol::{Reply, Request, Status};
use worker::{Order, Wake, Worker};

/// Reads the configuration again.
pub type Load = Box<dyn Fn() -> Result<Config> + Send + Sync>;

/// Runs until SIGTERM or SIGINT.
pub fn run(config: Config, load: Load) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| fatal(format!("cannot start the event loop: {e}")).next("see ulimit -n"))?;
    let done = runtime.block_on(supervise(config, load));
    runtime.shutdown_background();
    done
}

/// All workers have ended by then, or are left where they stand: a pass can be killed anywhere.
const LAST: Duration = Duration::from_secs(4);

/// What hooks are under way may go on for so long.
const HOOKS: Duration = Duration::from_secs(3);

/// How often the supervisor looks around.
const TICK: Duration = Duration::from_secs(3);

async fn supervise(config: Config, load: Load) -> Result<()> {
    let catch = |kind| signal(kind).map_err(|e| fatal(format!("cannot catch signals: {e}")));
    let (mut term, mut int) = (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
    let mut hup = catch(SignalKind::hangup())?;
    let control = Control::open(&config.runtime_dir)?;
    let manager = Manager::from_environment();
    let watchdog = manager.watchdog();
    let changed = Arc::new(Notify::new());
    let hooks = Runner::start(hooks::Pace::default());
    hooks.configure(&config);
    let daemon = Arc::new(Daemon {
        since: unix_now(),
        changed: changed.clone(),
        hooks: hooks.clone(),
        manager,
        load,
        state: Mutex::new(Running { config: Arc::new(config), workers: BTreeMap::new() }),
        reloading: tokio::sync::Mutex::new(()),
    });
    daemon.start_all()?;
    let (mut network, mut sleep) = (Network::start(), Sleep::new());
    daemon.manager.ready();
    tracing::info!("{} accounts are kept in step", daemon.running().workers.len());
    let asked = daemon.clone();
    let serve = control.serve(move |request| {
        let daemon = asked.clone();
        async move { daemon.answer(request).await }
    });
    let mut serve = std::pin::pin!(serve);
    let mut tick = interval(watchdog.map_or(TICK, |w| TICK.min(w / 4)));
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            () = next(&mut hup) => {
                let daemon = daemon.clone();
                tokio::spawn(async move {
                    // said to the log
                    let _ = daemon.reload().await;
                });
            }
            () = &mut serve => break,
            () = changed.notified() => daemon.tell_status(),
            moved = network.changed() => {
                daemon.tell_all(if moved { Wake::Moved } else { Wake::Network });
            }
            _ = tick.tick() => {
                control.mend();
                if sleep.over() {
                    tracing::info!("the machine was asleep; everything is looked at again");
                    daemon.tell_all(Wake::Slept);
                }
                if let Some(within) = watchdog {
                    daemon.guard(within);
                }
            }
        }
    }
    tracing::info!("ending");
    daemon.manager.stopping();
    let workers = std::mem::take(&mut daemon.running().workers);
    // both have the same time
    tokio::join!(stop(workers.into_values().collect(), Some(LAST)), hooks.finish(HOOKS));
    Ok(())
}

async fn next(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending().await
    }
}

/// What the tasks of the supervisor share.
struct Daemon {
    since: i64,
    changed: Arc<Notify>,
    hooks: Runner,
    manager: Manager,
    load: Load,
    state: Mutex<Running>,
    /// One at a time.
    reloading: tokio::sync::Mutex<()>,
}

struct Running {
    config: Arc<Config>,
    workers: BTreeMap<String, Handle>,
}

/// A worker, from outside.
struct Handle {
    account: Arc<Account>,
    orders: UnboundedSender<Order>,
    board: Arc<Board>,
    thread: JoinHandle<()>,
}

impl Daemon {
    fn running(&self) -> MutexGuard<'_, Running> {
        // nothing in here panics halfway
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a worker for every account that has none.
    fn start_all(&self) -> Result<()> {
        let mut running = self.running();
        let config = running.config.clone();
        for (name, account) in &config.accounts {
            if !running.workers.contains_key(name) {
                let handle = start(account, &config, &self.changed, &self.hooks)?;
                running.workers.insert(name.clone(), handle);
            }
        }
        Ok(())
    }

    fn tell_all(&self, wake: Wake) {
        for worker in self.running().workers.values() {
            let _ = worker.orders.send(Order::Wake(wake));
        }
    }

    /// Tells systemd that all is well only if every worker says so.
    fn guard(&self, within: Duration) {
        let running = self.running();
        let mut all = true;
        for (name, worker) in &running.workers {
            let quiet = worker.board.quiet();
            if quiet > within {
                tracing::error!("{name}: no sign of life for {} s", quiet.as_secs());
                all = false;
            }
            let _ = worker.orders.send(Order::Ping);
        }
        if all {
            self.manager.alive();
        }
    }

    fn tell_status(&self) {
        let running = self.running();
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        for worker in running.workers.values() {
            *states.entry(worker.board.live().state.as_str()).or_default() += 1;
        }
        let parts: Vec<String> = states.iter().map(|(s, n)| format!("{n} {s}")).collect();
        self.manager.status(&format!("{} accounts: {}", running.workers.len(), parts.join(", ")));
    }

    async fn answer(&self, request: Request) -> Reply {
        match request {
            Request::Status => {
                let running = self.running();
                let live = running.workers.iter().map(|(n, w)| (n.clone(), w.board.live()));
                Reply::Status(Status {
                    pid: std::process::id(),
                    since: self.since,
                    accounts: live.collect(),
                })
            }
            Request::Sync { account, folders, take_over } => {
                let folders: std::result::Result<Vec<_>, _> =
                    folders.iter().map(|f| FolderPattern::parse(f)).collect();
                match folders {
                    Ok(folders) => {
                        let options = PassOptions { folders, take_over, ..PassOptions::default() };
                        self.order(&account, |reply| Order::Sync(options, reply)).await
                    }
                    Err(what) => Reply::Failed(Error::new(Scope::Fatal, Kind::Config, what)),
                }
            }
            Request::Decide { account, hold, approve } => {
                let decided = if approve { HoldState::Approved } else { HoldState::Rejected };
                self.order(&account, |reply| Order::Decide(HoldId(hold), decided, reply)).await
            }
            Request::Pause { account } => self.order(&account, Order::Pause).await,
            Request::Resume { account } => self.order(&account, Order::Resume).await,
            Request::Reload => match self.reload().await {
                Ok(note) => Reply::Done { note },
                Err(e) => Reply::Failed(e),
            },
        }
    }

    async fn order(
        &self,
        account: &str,
        order: impl FnOnce(oneshot::Sender<Reply>) -> Order,
    ) -> Reply {
        let (reply, answer) = oneshot::channel();
        let orders = self.running().workers.get(account).map(|w| w.orders.clone());
        let Some(orders) = orders else { return Reply::UnknownAccount };
        let _ = orders.send(order(reply));
        answer.await.unwrap_or_else(|_| {
            let what = format!("the worker of {account} ended before that was done");
            Reply::Failed(Error::account(Kind::Internal, what).next("try it again"))
        })
    }

    /// Reads the configuration, and restarts the workers of the accounts that changed. One that is
    /// invalid changes nothing.
    async fn reload(&self) -> Result<String> {
        let _one = self.reloading.lock().await;
        self.manager.reloading();
        let done = self.reload_now().await;
        match &done {
            Ok(note) => tracing::info!("reloaded: {note}"),
            Err(e) => tracing::error!("the configuration stays as it was: {e}"),
        }
        self.manager.ready();
        self.tell_status();
        done
    }

    async fn reload_now(&self) -> Result<String> {
        let new = Arc::new((self.load)()?);
        self.hooks.configure(&new);
        for warning in &new.warnings {
            tracing::warn!("{warning}");
        }
        let (gone, unchanged) = {
            let mut running = self.running();
            let old = std::mem::replace(&mut running.config, new.clone());
            if old.runtime_dir != new.runtime_dir {
                tracing::warn!("runtime_dir counts from the next start on");
            }
            let same = |name: &str, worker: &Handle| {
                old.state_dir == new.state_dir
                    && new.accounts.get(name).is_some_and(|a| a.same_as(&worker.account))
            };
            let workers = std::mem::take(&mut running.workers);
            let (stay, go): (BTreeMap<_, _>, BTreeMap<_, _>) =
                workers.into_iter().partition(|(name, worker)| same(name, worker));
            running.workers = stay;
            (go, running.workers.len())
        };
        let before: Vec<String> = gone.keys().cloned().collect();
        // a new worker needs the lock of the old one
        stop(gone.into_values().collect(), None).await;
        self.start_all()?;
        self.tell_all(Wake::Reloaded);
        let now = self.running().workers.len() - unchanged;
        let ended = before.iter().filter(|n| !new.accounts.contains_key(*n)).count();
        Ok(format!("{unchanged} accounts as before, {now} started anew, {ended} ended"))
    }
}

fn start(
    account: &Account,
    config: &Arc<Config>,
    changed: &Arc<Notify>,
    hooks: &Runner,
) -> Result<Handle> {
    let account = Arc::new(account.clone());
    let board = Arc::new(Board::new(changed.clone()));
    let (orders, inbox) = unbounded_channel();
    let worker = Worker::new(account.clone(), config.clone(), board.clone(), hooks.clone(), inbox);
    let name = account.name.clone();
    let thread = std::thread::Builder::new()
        .name(format!("mk-{}", account.name))
        .spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    runtime.block_on(worker.run());
                    // a resolver that hangs is not waited for
                    runtime.shutdown_background();
                }
                Err(e) => tracing::error!("{name}: cannot start its event loop: {e}"),
            }
        })
        .map_err(|e| {
            fatal(format!("cannot start a thread: {e}")).next("see ulimit -u and free memory")
        })?;
    Ok(Handle { account, orders, board, thread })
}

/// Stops workers, and waits for them; not longer than `within`.
async fn stop(workers: Vec<Handle>, within: Option<Duration>) {
    for worker in &workers {
        let _ = worker.orders.send(Order::Stop);
    }
    let end = within.map(|w| Instant::now() + w);
    while workers.iter().any(|w| !w.thread.is_finished()) {
        if end.is_some_and(|end| Instant::now() >= end) {
            tracing::warn!("a pass did not end in time; the next one goes on from there");
            return;
        }
        sleep_until(Instant::now() + Duration::from_millis(5)).await;
    }
}

fn fatal(what: String) -> Error {
    Error::new(Scope::Fatal, Kind::Io, what)
}
