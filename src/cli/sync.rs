//! `mailkeep sync`: one pass over each account, all at the same time, each on a thread of its own,
//! so that a slow or a broken one never holds up the others.

use std::thread;

use super::Exit;
use super::screen::Screen;
use crate::account::{self, PassOptions, PassReport};
use crate::config::{Account, Config};
use crate::daemon::client;
use crate::daemon::hooks::{self, Occasion};
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;

/// A pass by the daemon where one runs, else by ourselves. A dry run does nothing that a daemon
/// would have to know of. Of the hooks only that for new mail is run here: what failed and what is
/// held is said by the exit status, at every pass.
pub(super) async fn by_whoever_can(
    account: &Account,
    config: &Config,
    options: &PassOptions,
    progress: &Progress,
) -> Result<PassReport> {
    if !options.dry_run
        && let Some(report) = client::sync(account, config, options)?
    {
        return Ok(report);
    }
    let done = account::pass(account, config, options, progress).await;
    // also of a pass that failed in the end: its mail is here, and the next pass finds it no news
    let report = done.as_ref().unwrap_or_else(|failed| &failed.report);
    if let Some(occasion) = Occasion::new_mail(report).filter(|_| !options.dry_run) {
        hooks::run_once(account, config, hooks::Kind::NewMail, &occasion).await;
    }
    done.map_err(|failed| failed.error)
}

/// Runs `pass` for each account, prints what came of it, and says how the process should end.
pub fn run_accounts<P>(
    config: &Config,
    accounts: &[&Account],
    options: &PassOptions,
    screen: &Screen,
    pass: &P,
) -> Result<Exit>
where
    P: AsyncFn(&Account, &Config, &PassOptions, &Progress) -> Result<PassReport> + Sync,
{
    let work = |account: &Account| {
        let progress = screen.progress(&account.name);
        let result = on_this_thread(pass(account, config, options, &progress));
        progress.finish();
        tell(screen, account, options, result)
    };
    let ends: Vec<Result<Exit>> = thread::scope(|scope| {
        let threads: Vec<_> = accounts
            .iter()
            .map(|account| {
                let name = format!("mk-{}", account.name);
                thread::Builder::new().name(name).spawn_scoped(scope, || work(account))
            })
            .collect();
        threads
            .into_iter()
            .zip(accounts)
            .map(|(thread, account)| match thread.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(end)) => end,
                Ok(Err(_)) => Ok(failed(screen, account, "its thread panicked", "report this")),
                Err(e) => {
                    let what = format!("cannot start a thread: {e}");
                    Ok(failed(screen, account, &what, "see ulimit -u and free memory"))
                }
            })
            .collect()
    });
    ends.into_iter().try_fold(Exit::Ok, |worst, end| Ok(worst.and(end?)))
}

/// Runs one future on this thread, with sockets and timers of its own.
pub fn on_this_thread<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(future),
        Err(e) => Err(Error::account(Kind::Io, format!("cannot start the event loop: {e}"))
            .next("see ulimit -n")),
    }
}

fn tell(
    screen: &Screen,
    account: &Account,
    options: &PassOptions,
    result: Result<PassReport>,
) -> Result<Exit> {
    let name = account.name.as_str();
    let report = match result {
        Ok(report) => report,
        Err(e) => {
            screen.failed(Some(name), &e);
            return Ok(Exit::Failed);
        }
    };
    for e in &report.errors {
        screen.failed(Some(name), e);
    }
    for note in &report.notes {
        screen.note(Some(name), note);
    }
    if options.dry_run {
        for line in &report.plan {
            screen.data(format_args!("{name}: {line}"))?;
        }
        if report.plan.is_empty() {
            screen.note(Some(name), "nothing to do");
        }
    } else if !screen.is_quiet() {
        screen.data(format_args!("{name}: {report}"))?;
    }
    Ok(if !report.errors.is_empty() {
        Exit::Failed
    } else if report.held > 0 {
        screen.note(Some(name), "something is held and needs a decision; see `mailkeep status`");
        Exit::Held
    } else {
        Exit::Ok
    })
}

fn failed(screen: &Screen, account: &Account, what: &str, next: &str) -> Exit {
    screen.failed(Some(&account.name), &Error::account(Kind::Internal, what).next(next));
    Exit::Failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::LogFormat;
    use crate::config::{EXAMPLE, Surroundings, load_in};

    fn config(dir: &std::path::Path, names: &[&str]) -> Config {
        let one = |n: &&str| EXAMPLE.replace("work", n);
        let file = dir.join("c.toml");
        std::fs::write(&file, names.iter().map(one).collect::<String>()).unwrap();
        let around = Surroundings { home: Some(dir.into()), ..Default::default() };
        load_in(Some(&file), &around).unwrap()
    }

    fn end(names: &[&str], pass: impl Fn(&str) -> Result<PassReport> + Sync) -> Exit {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), names);
        let accounts: Vec<&Account> = config.accounts.values().collect();
        let screen = Screen::new(LogFormat::Text, true);
        let pass = async |a: &Account, _: &Config, _: &PassOptions, _: &Progress| {
            tokio::time::sleep(std::time::Duration::ZERO).await;
            pass(&a.name)
        };
        run_accounts(&config, &accounts, &PassOptions::default(), &screen, &pass).unwrap()
    }

    #[test]
    fn a_failure_outweighs_a_hold_and_stops_nobody() {
        let ran = std::sync::atomic::AtomicU32::new(0);
        let result = |name: &str| {
            ran.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            match name {
                "bad" => Err(Error::account(Kind::Connection, "no route")),
                "panics" => panic!("as a test"),
                "held" => Ok(PassReport { held: 2, ..Default::default() }),
                "part" => Ok(PassReport {
                    errors: vec![Error::folder(Kind::Refused, "x")],
                    ..Default::default()
                }),
                _ => Ok(PassReport::default()),
            }
        };
        assert_eq!(end(&["a", "b"], result), Exit::Ok);
        assert_eq!(end(&["a", "held"], result), Exit::Held);
        assert_eq!(end(&["bad", "held", "z"], result), Exit::Failed);
        assert_eq!(end(&["part", "held"], result), Exit::Failed);
        assert_eq!(end(&["panics", "held"], result), Exit::Failed);
        assert_eq!(ran.load(std::sync::atomic::Ordering::Relaxed), 11);
    }
}
