//! Killed at every step, and resumed: the end is that of a run that nobody disturbed, and nothing
//! is left to do. Once as a kill leaves the Maildir, and once as a power cut does, on a disk that
//! forgets what was not fsynced.
//!
//! A step is what `src/steps.rs` says; the program counts them itself. Every case works on its own
//! copies of both sides. Of the many steps, one in [`SAMPLE`] is tried, at another offset for each
//! seed; `MAILKEEP_EVERY_STEP=1` tries all.

// Helpers of tests fail by panicking, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod disk;
mod pop3;
mod scenario;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::dovecot::Mode;
use common::*;
use disk::{Disk, steps};
use scenario::{Scenario, cut_short};

/// Cases at a time. Most of their time is waiting: for the disk, for the server, and for what an
/// interrupted upload may still become.
const THREADS: usize = 12;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The program died.
    Kill,
    /// The program died, and so it did before this step when it was started again.
    KillTwice(usize),
    /// The machine did, and its disk forgot.
    PowerCut,
}

/// What both sides and the ledger hold in the end, by folder, sorted.
#[derive(Debug, PartialEq, Eq)]
struct State {
    here: BTreeMap<String, Vec<String>>,
    there: BTreeMap<String, Vec<String>>,
    /// Messages, kept and held ones.
    ledger: BTreeMap<String, [u64; 3]>,
}

impl State {
    fn of(scenario: &Scenario, mk: &Mailkeep, account: &str) -> Self {
        let sorted = |messages: Vec<String>| {
            let mut messages = messages;
            messages.sort();
            messages
        };
        let mut imap = scenario.imap(account);
        let mut there = BTreeMap::new();
        for folder in imap.list() {
            let all = imap.fetch_all(&folder);
            let all = all.iter().map(|m| line(&m.message_id, &m.hash, &m.flags, m.date));
            there.insert(folder, sorted(all.collect()));
        }
        let here = read_maildir(mk.maildir()).into_iter().map(|(folder, all)| {
            let all = all.iter().map(|m| line(&m.message_id, &m.hash, &m.flags, m.date));
            (folder, sorted(all.collect()))
        });
        let status = mk.status();
        let folders = status["accounts"][0]["folders"].as_array().expect("folders");
        let ledger = folders.iter().map(|f| {
            let count = |key: &str| f[key].as_u64().unwrap_or_else(|| panic!("{key}: {f}"));
            let name = f["name"].as_str().expect("a name").to_owned();
            (name, [count("messages"), count("kept"), count("held")])
        });
        Self { here: here.collect(), there, ledger: ledger.collect() }
    }

    /// What another state has that this one has not, and the other way round.
    fn differences(&self, other: &Self) -> Vec<String> {
        let mut out = Vec::new();
        for (side, a, b) in
            [("here", &self.here, &other.here), ("there", &self.there, &other.there)]
        {
            for folder in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                match (a.get(folder), b.get(folder)) {
                    (Some(a), Some(b)) => {
                        let (missing, extra) = (less(a, b), less(b, a));
                        out.extend(missing.iter().map(|m| format!("{side} {folder}: not {m}")));
                        out.extend(extra.iter().map(|m| format!("{side} {folder}: too much {m}")));
                    }
                    (a, _) => out.push(format!(
                        "{side}: folder {folder} is {}",
                        if a.is_some() { "missing" } else { "too much" }
                    )),
                }
            }
        }
        if self.ledger != other.ledger {
            out.push(format!("ledger: {:?}, not {:?}", other.ledger, self.ledger));
        }
        out
    }
}

/// `a` without what is in `b`, each as often as it is there.
fn less(a: &[String], b: &[String]) -> Vec<String> {
    let mut rest = b.to_vec();
    let mut out = Vec::new();
    for x in a {
        match rest.iter().position(|y| y == x) {
            Some(at) => drop(rest.swap_remove(at)),
            None => out.push(x.clone()),
        }
    }
    out
}

fn line(
    id: &str,
    hash: &blake3::Hash,
    flags: &std::collections::BTreeSet<String>,
    date: i64,
) -> String {
    format!("{id} {} {flags:?} {date}", &hash.to_hex()[..8])
}

/// One case: a run that is killed before its `at`-th step, then two that are not. What went wrong
/// is the error.
fn case(scenario: &Scenario, want: Option<&State>, at: usize, end: End) -> Result<Case, String> {
    let account = match end {
        End::KillTwice(then) => format!("case-{at}-{then}"),
        end => format!("case-{at}-{end:?}"),
    };
    let dir = common::process::temp_dir("case");
    let mut mk = scenario.copy(dir.path(), &account);
    let log = |name: &str| dir.path().join(name);
    let text = |p: &Path| p.to_str().expect("UTF-8").to_owned();

    mk.environment("MAILKEEP_STEPS", Some(&text(&log("first"))));
    mk.environment("MAILKEEP_KILL_AT", Some(&at.to_string()));
    let first = mk.sync();
    let done = steps(&log("first"));
    let died = first.status.is_none();
    if !died && (first.status != Some(0) || done.len() >= at) {
        return Err(format!("the first run ended with {:?}: {}", first.status, first.text()));
    }
    if end == End::PowerCut {
        let mut disk = Disk::of(&scenario.maildir());
        disk.follow(mk.maildir(), &done);
        let left = dir.path().join("left");
        disk.after_power_cut(&scenario.maildir(), mk.maildir(), &left);
        fs::remove_dir_all(mk.maildir()).expect("remove");
        fs::rename(&left, mk.maildir()).expect("rename");
    }
    let cut = cut_short(mk.maildir(), &scenario.contents);
    if !cut.is_empty() {
        return Err(format!("partial files: {cut:?}"));
    }

    mk.environment("MAILKEEP_STEPS", Some(&text(&log("second"))));
    if let End::KillTwice(then) = end {
        mk.environment("MAILKEEP_KILL_AT", Some(&then.to_string()));
        let again = mk.sync();
        if !matches!(again.status, None | Some(0)) {
            return Err(format!("resumed, it ended with {:?}: {}", again.status, again.text()));
        }
    }
    mk.environment("MAILKEEP_KILL_AT", None);
    let second = mk.sync();
    if second.status != Some(0) {
        return Err(format!("resumed, it ended with {:?}: {}", second.status, second.text()));
    }
    if second.text().contains("paired again") {
        return Err(format!("a kill was taken for a restored backup: {}", second.text()));
    }
    mk.environment("MAILKEEP_STEPS", Some(&text(&log("third"))));
    let third = mk.sync();
    let idle = steps(&log("third")).iter().all(|s| s.starts_with("commit\t"));
    if third.status != Some(0) || !idle {
        let did = steps(&log("third")).join("\n  ");
        return Err(format!("a second pass found work: {}\n  {did}", third.text()));
    }
    mk.environment("MAILKEEP_STEPS", None);
    let state = State::of(scenario, &mk, &account);
    if let Some(want) = want {
        let differences = want.differences(&state);
        if !differences.is_empty() {
            return Err(differences.join("\n  "));
        }
    }
    Ok(Case { state, steps: done })
}

struct Case {
    state: State,
    steps: Vec<String>,
}

/// The clean run, then every case.
fn every_step(scenario: &Scenario, check: impl FnOnce(&State)) {
    let clean = case(scenario, None, usize::MAX, End::Kill).expect("an undisturbed run");
    check(&clean.state);
    let all = clean.steps.len();
    let chosen = choose(all);
    println!("{all} steps, {} of them tried", chosen.len());
    let mut rng = Rng::labelled(seed(), "second kill");
    let mut ends = |n| {
        let twice = End::KillTwice(1 + rng.below(all));
        [(n, End::Kill), (n, twice), (n, End::PowerCut)]
    };
    let jobs: Vec<(usize, End)> = chosen.into_iter().flat_map(&mut ends).collect();
    let next = AtomicUsize::new(0);
    let failed: Mutex<BTreeMap<String, Vec<String>>> = Mutex::default();
    std::thread::scope(|s| {
        for _ in 0..THREADS {
            s.spawn(|| {
                while let Some((n, end)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = || case(scenario, Some(&clean.state), *n, *end);
                    let one = std::panic::catch_unwind(one)
                        .unwrap_or_else(|_| Err("it panicked, see above".to_owned()));
                    if let Err(why) = one {
                        let before = clean.steps.get(n - 1).map_or("the end", String::as_str);
                        let case = format!("{end:?} before step {n}, {before}");
                        failed.lock().unwrap().entry(why).or_default().push(case);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let mut report = String::new();
    for (why, mut cases) in failed {
        cases.sort();
        report += &format!("\n{}\n  {why}\n", cases.join("\n"));
    }
    assert!(report.is_empty(), "{report}");
}

/// One step in so many is tried.
const SAMPLE: usize = 3;

fn seed() -> u64 {
    std::env::var("MAILKEEP_SEED").map_or(1, |s| s.parse().expect("MAILKEEP_SEED is a number"))
}

/// The numbers of the steps to be killed at. The last is one past the end: no kill, but the power
/// cut finds what the ledger relied on and should not have.
fn choose(all: usize) -> Vec<usize> {
    let every = std::env::var("MAILKEEP_EVERY_STEP").is_ok_and(|v| v != "0");
    let sample = if every { 1 } else { SAMPLE };
    println!("seed {} (MAILKEEP_SEED), one step in {sample} (MAILKEEP_EVERY_STEP=1)", seed());
    let first = 1 + Rng::labelled(seed(), "steps").below(sample);
    (first..=all).step_by(sample).chain([all + 1]).collect()
}

fn first_pull(mode: Mode) {
    let scenario = Scenario::first_pull(mode);
    every_step(&scenario, |clean| {
        assert_eq!(clean.here, clean.there);
        assert_eq!(clean.there["INBOX"].len(), 7);
        assert_eq!(clean.there["Work"].len(), 9);
    });
}

fn changed_everywhere(mode: Mode) {
    let scenario = Scenario::changed_everywhere(mode);
    every_step(&scenario, |clean| {
        let mut here = clean.here.clone();
        // what was expunged there is kept here, and what was saved here has other bytes there
        let inbox = here.get_mut("INBOX").expect("INBOX");
        inbox.retain(|m| !m.starts_with("<7.") && !m.starts_with("<21."));
        let mut there = clean.there.clone();
        there.get_mut("INBOX").expect("INBOX").retain(|m| !m.starts_with("<21."));
        assert_eq!(here, there);
        let count = |(folder, all): (&String, &Vec<String>)| format!("{folder} {}", all.len());
        let here: Vec<String> = clean.here.iter().map(count).collect();
        assert_eq!(here, ["Fresh 1", "INBOX 11", "Mine 1", "Mirror 1", "Trash 1", "Work 7"]);
        let has = |folder: &str, start: &str, flags: &str| {
            let all = &clean.there[folder];
            let found = all.iter().any(|m| m.starts_with(start) && m.contains(flags));
            assert!(found, "no {start} with {flags} in {folder}: {all:#?}");
        };
        has("INBOX", "<3.", r#"{"\\Flagged", "\\Seen"}"#);
        has("INBOX", "<4.", r#"{"\\Flagged"}"#);
        has("INBOX", "<5.", r#"{"$Label2", "\\Seen"}"#);
        has("INBOX", "<6.", r#"{"$Label1", "\\Seen"}"#);
        has("INBOX", "<21.", "Seen");
        has("Work", "<0.", "Seen");
        has("Work", "<1.", "Seen");
        has("Work", "<2.", "Seen");
        has("Trash", "<20.", "Seen");
        assert_eq!(clean.ledger["INBOX"], [10, 1, 0], "one is kept");
    });
}

#[test]
fn the_first_pull() {
    first_pull(Mode::Full);
}

#[test]
fn changes_on_both_sides() {
    changed_everywhere(Mode::Full);
}

#[test]
fn changes_on_both_sides_without_qresync() {
    changed_everywhere(Mode::Condstore);
}

#[test]
fn changes_on_both_sides_without_uidplus() {
    changed_everywhere(Mode::Plain);
}
