//! The hooks with a real shell. Each test waits for a condition, with a limit.

use std::fs;
use std::path::Path;

use super::*;
use crate::config::{EXAMPLE, Surroundings, load_in};

fn run_all<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

/// Accounts with this command for new mail; their names go through `password_env`.
fn config(dir: &Path, names: &[&str], command: &str) -> Config {
    let one = |n: &&str| {
        let secret = |l: &str| match l.starts_with("password") {
            true => "password_env = \"HOOK_TEST_SECRET\"\n".to_owned(),
            false => format!("{l}\n"),
        };
        EXAMPLE.replace("work", n).lines().map(secret).collect::<String>()
    };
    let file = dir.join("c.toml");
    let hooks = format!("[hooks]\nnew_mail = '''{command}'''\n");
    fs::write(&file, hooks + &names.iter().map(one).collect::<String>()).unwrap();
    let around = Surroundings { home: Some(dir.into()), ..Default::default() };
    load_in(Some(&file), &around).unwrap()
}

fn pace(quiet: u64, most: u64, limit: u64) -> Pace {
    let [quiet, most, limit] = [quiet, most, limit].map(Duration::from_millis);
    Pace { quiet, most, limit }
}

fn mail(folder: &str) -> Occasion {
    let folders = BTreeSet::from([FolderName::from_text(folder).unwrap()]);
    Occasion { folders, new: 1, ..Occasion::default() }
}

async fn until(what: &str, ready: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !ready() {
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn what_happens_together_is_one_run_with_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let c = config(
        dir.path(),
        &["a"],
        &format!("env > '{0}'.part && mv '{0}'.part '{0}'", out.display()),
    );
    run_all(async {
        let runner = Runner::start(pace(50, 60_000, 60_000));
        runner.configure(&c);
        runner.fire(&c.accounts["a"], Kind::Held, mail("no hook"));
        for folder in ["INBOX", "Work/x\ny", "INBOX"] {
            runner.fire(&c.accounts["a"], Kind::NewMail, mail(folder));
        }
        until("a run", || out.exists()).await;
    });
    let env = fs::read_to_string(&out).unwrap();
    for line in ["MAILKEEP_EVENT=new_mail", "MAILKEEP_ACCOUNT=a", "MAILKEEP_NEW=3"] {
        assert!(env.lines().any(|l| l == line), "{line}: {env}");
    }
    assert!(env.contains("MAILKEEP_FOLDERS=INBOX\nWork/x\\ny\n"), "{env}");
    assert!(!env.contains("NOTIFY_SOCKET") && env.contains("MAILKEEP_MAILDIR=/"), "{env}");
}

#[test]
fn the_environment_has_no_password() {
    let dir = tempfile::tempdir().unwrap();
    let c = config(dir.path(), &["a"], "true");
    assert_eq!(secrets(&c), BTreeSet::from(["HOOK_TEST_SECRET".to_owned()]));
}

#[test]
fn one_command_never_runs_twice_at_once_and_none_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (lock, log) = (dir.path().join("lock"), dir.path().join("log"));
    // mkdir fails where another one is at work
    let command = format!(
        "mkdir '{0}' || echo twice >> '{1}'; sleep 0.05; echo $MAILKEEP_ACCOUNT >> '{1}'; rmdir '{0}'",
        lock.display(),
        log.display()
    );
    let c = config(dir.path(), &["a", "b"], &command);
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    run_all(async {
        let runner = Runner::start(pace(1, 5, 60_000));
        for n in 1..=4 {
            for account in c.accounts.values() {
                runner.fire(account, Kind::NewMail, mail("INBOX"));
            }
            until("runs", || lines().lines().filter(|l| *l == "a").count() >= n).await;
        }
        runner.finish(Duration::from_secs(20)).await;
    });
    assert!(!lines().contains("twice"), "{}", lines());
    assert!(lines().lines().filter(|l| *l == "b").count() >= 4, "{}", lines());
}

#[test]
fn what_hangs_is_killed_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    // a child that does not listen to TERM
    let command = format!(
        "sh -c 'trap \"\" TERM; echo $$ > {0}.part; mv {0}.part {0}; while :; do sleep 1; done' & wait",
        pid.display()
    );
    let c = config(dir.path(), &["a"], &command);
    let gone = || {
        let child: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // a zombie nobody waits for is gone, too
        stat.is_empty() || stat.rsplit(')').next().is_some_and(|s| s.trim_start().starts_with('Z'))
    };
    run_all(async {
        // by the time limit
        let runner = Runner::start(pace(1, 1, 300));
        runner.fire(&c.accounts["a"], Kind::NewMail, mail("INBOX"));
        until("begun", || pid.exists()).await;
        until("killed", gone).await;
        fs::remove_file(&pid).unwrap();
        // by the end of the program
        let runner = Runner::start(pace(1, 1, 600_000));
        runner.fire(&c.accounts["a"], Kind::NewMail, mail("INBOX"));
        until("begun", || pid.exists()).await;
        runner.finish(Duration::ZERO).await;
        until("killed", gone).await;
    });
}

#[test]
fn at_the_end_what_is_due_is_run() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let c = config(dir.path(), &["a"], &format!("touch '{}'", out.display()));
    run_all(async {
        let runner = Runner::start(pace(600_000, 600_000, 60_000));
        runner.fire(&c.accounts["a"], Kind::NewMail, mail("INBOX"));
        runner.finish(Duration::from_secs(20)).await;
        assert!(out.exists());
        fs::remove_file(&out).unwrap();
        run_once(&c.accounts["a"], &c, Kind::NewMail, &mail("INBOX")).await;
        assert!(out.exists());
    });
}

#[test]
fn a_stream_does_not_put_off_for_ever() {
    let pace = Pace::default();
    let first = Instant::now();
    let at = |last: u64| run_at(first, first + Duration::from_secs(last), &pace) - first;
    assert_eq!(at(0), Duration::from_secs(1));
    assert_eq!(at(5), Duration::from_secs(6));
    assert_eq!(at(100), Duration::from_secs(10));
}
