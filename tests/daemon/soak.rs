//! Random operations on both sides while the server restarts, connections are cut and the daemon is
//! killed. From time to time, and in the end, both sides have to be equal, with nothing lost or
//! doubled, and no more memory or descriptors in use than before. `MAILKEEP_SOAK` sets the seconds,
//! `MAILKEEP_SEED` the seed, which is printed; `contrib/bench/run soak` is the long form.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::maildir::deliver;
use crate::common::process::wait_for;
use crate::common::*;
use crate::world::*;

#[test]
fn a_short_soak() {
    let number = |name: &str, default: u64| -> u64 {
        std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
    };
    let (seed, seconds) = (number("MAILKEEP_SEED", 1), number("MAILKEEP_SOAK", 15));
    println!("MAILKEEP_SEED={seed} MAILKEEP_SOAK={seconds}");
    soak(seed, Duration::from_secs(seconds));
}

/// Runs it to its end. What goes wrong is a panic.
pub fn soak(seed: u64, time: Duration) {
    let mut s = Soak::new(seed);
    let begun = Instant::now();
    let check = (time / 5).min(Duration::from_secs(30));
    let mut next_check = check;
    while begun.elapsed() < time {
        // the last daemon lives through half of it: what leaks shows
        s.step(begun.elapsed() < time / 2);
        if begun.elapsed() >= next_check {
            s.check();
            next_check = begun.elapsed() + check;
        }
    }
    s.check();
    s.end();
}

const FOLDERS: [&str; 2] = ["INBOX", "Work"];

/// With more messages than this there are more deletions than arrivals.
const MANY: usize = 600;

/// No more deletions on each side: the brake holds those after a thousand in a day, whatever it is
/// set to.
const BRAKE: u64 = 900;

/// The daemon may take so long, after all that was done to it.
const EQUAL_WITHIN: Duration = Duration::from_secs(90);

struct Soak {
    w: World,
    rng: Rng,
    daemon: Option<Daemon>,
    /// What is there, by its number, and in which folder it was made.
    letters: BTreeMap<usize, &'static str>,
    /// Those that were once on both sides. What is deleted on one side before the other has it
    /// stays, as it should: this cannot be told beforehand.
    settled: BTreeSet<usize>,
    next: usize,
    done: BTreeMap<&'static str, u64>,
    /// Memory and descriptors of the daemon that runs, at every check.
    usage: Vec<(u64, usize)>,
}

/// Every third letter is moved around and never deleted; the others stay in their folder until they
/// are deleted. A message that is moved on one side and deleted on the other stays, and it depends
/// on who is first where.
fn moves(n: usize) -> bool {
    n.is_multiple_of(3)
}

impl Soak {
    fn new(seed: u64) -> Self {
        let mut w = World::full();
        // what is deleted is counted here, and no brake is to hold it
        w.mk.policy_raw("brake", "{ percent = 100, messages = 100000 }");
        let daemon = Some(w.daemon());
        let letters = (0..15).map(|n| (n, if n < 10 { "INBOX" } else { "Work" })).collect();
        Self {
            w,
            rng: Rng::labelled(seed, "soak"),
            daemon,
            letters,
            settled: (0..15).collect(),
            next: 10_000,
            done: BTreeMap::new(),
            usage: Vec::new(),
        }
    }

    /// One operation.
    fn step(&mut self, may_kill: bool) {
        let folder = *self.rng.pick(&FOLDERS);
        let other = if folder == "INBOX" { "Work" } else { "INBOX" };
        let arrivals = if self.letters.len() > MANY { 8 } else { 16 };
        let what = match self.rng.below(100) {
            n if n < arrivals => self.arrival_there(folder),
            n if n < 2 * arrivals => self.arrival_here(folder),
            n if n < 48 => self.deletion(),
            48..59 => self.flag_there(folder),
            59..70 => self.flag_here(folder),
            70..78 => self.move_there(folder, other),
            78..86 => self.move_here(folder, other),
            86..91 => {
                self.w.proxy.cut_all();
                "cut"
            }
            91..95 => {
                self.w.server.stop();
                self.w.server.restart();
                "restart"
            }
            95..97 if may_kill => {
                if let Some(daemon) = self.daemon.take() {
                    daemon.kill();
                }
                self.daemon = Some(Daemon::start(&self.w.mk));
                self.usage.clear();
                "kill"
            }
            _ => {
                std::thread::sleep(Duration::from_millis(self.rng.below(400) as u64));
                "rest"
            }
        };
        *self.done.entry(what).or_default() += 1;
        std::thread::sleep(Duration::from_millis(self.rng.below(60) as u64));
    }

    fn mint(&mut self, folder: &'static str) -> Letter {
        self.letters.insert(self.next, folder);
        self.next += 1;
        self.w.mint.letter(self.next - 1)
    }

    fn arrival_there(&mut self, folder: &'static str) -> &'static str {
        let letter = self.mint(folder);
        self.w.server.imap().append(folder, &letter);
        "arrival there"
    }

    fn arrival_here(&mut self, folder: &'static str) -> &'static str {
        let letter = self.mint(folder);
        deliver(&self.w.mk.folder(folder), &letter);
        "arrival here"
    }

    fn deletion(&mut self) -> &'static str {
        let all: Vec<usize> = self.settled.iter().copied().filter(|n| !moves(*n)).collect();
        if all.is_empty() {
            return "rest";
        }
        let n = *self.rng.pick(&all);
        let folder = self.letters[&n];
        let there = self.rng.percent(50);
        let so_far = self.done.get(if there { "deletion there" } else { "deletion here" });
        if so_far.is_some_and(|n| *n >= BRAKE) {
            return "rest";
        }
        let what = if there {
            let mut imap = self.w.server.imap();
            let uids = imap.search(folder, &header(&self.w.mint.message_id(n)));
            imap.expunge(folder, &uids);
            "deletion there"
        } else {
            let Some(file) = self.file(folder, n) else { return "rest" };
            // the daemon may have renamed it since
            if fs::remove_file(file.path).is_err() {
                return "rest";
            }
            "deletion here"
        };
        self.settled.remove(&n);
        self.letters.remove(&n);
        what
    }

    fn flag_there(&mut self, folder: &str) -> &'static str {
        let mut imap = self.w.server.imap();
        let uids = imap.search(folder, "ALL");
        if uids.is_empty() {
            return "rest";
        }
        imap.store(folder, &[*self.rng.pick(&uids)], "+FLAGS", &["\\Flagged"]);
        "flag there"
    }

    fn flag_here(&mut self, folder: &str) -> &'static str {
        let all = self.w.local(folder);
        if all.is_empty() {
            return "rest";
        }
        let m = self.rng.pick(&all);
        let to = self.w.mk.folder(folder).join("cur").join(format!("{}:2,RS", m.base));
        // the daemon may have renamed it since
        fs::rename(&m.path, to).map_or("rest", |()| "flag here")
    }

    fn move_there(&mut self, folder: &str, other: &str) -> &'static str {
        let n = self.any_that_moves();
        let mut imap = self.w.server.imap();
        let uids = imap.search(folder, &header(&self.w.mint.message_id(n)));
        if uids.is_empty() {
            return "rest";
        }
        imap.move_to(folder, &uids, other);
        "move there"
    }

    fn move_here(&mut self, folder: &str, other: &str) -> &'static str {
        let n = self.any_that_moves();
        let Some(m) = self.file(folder, n) else { return "rest" };
        let to = self.w.mk.folder(other).join("cur");
        let name = m.path.file_name().unwrap();
        fs::rename(&m.path, to.join(name)).map_or("rest", |()| "move here")
    }

    fn any_that_moves(&mut self) -> usize {
        let all: Vec<usize> = self.letters.keys().copied().filter(|n| moves(*n)).collect();
        *self.rng.pick(&all)
    }

    /// The file of a letter, if it is there.
    fn file(&self, folder: &str, n: usize) -> Option<LocalMessage> {
        let id = self.w.mint.message_id(n);
        self.w.local(folder).into_iter().find(|m| m.message_id == id)
    }

    /// Waits until both sides are equal, and compares them with what was done.
    fn check(&mut self) {
        let (w, end) = (&self.w, Instant::now() + EQUAL_WITHIN);
        while !differences(&w.server, w.mk.maildir()).is_empty() {
            if Instant::now() > end {
                eprintln!("{:#?} after {:?}, used: {:?}", live(&w.mk), self.done, self.usage);
                assert_same(&w.server, w.mk.maildir());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let expected: BTreeMap<String, usize> =
            self.letters.keys().map(|n| (w.mint.message_id(*n), 1)).collect();
        let mut last = BTreeMap::new();
        while last != expected {
            if Instant::now() > end {
                let of = |a: &BTreeMap<String, usize>, b: &BTreeMap<String, usize>| {
                    a.iter()
                        .filter(|(id, n)| b.get(*id) != Some(*n))
                        .map(|(id, n)| format!("{id} {n}"))
                        .collect::<Vec<_>>()
                };
                let (lost, more) = (of(&expected, &last), of(&last, &expected));
                panic!(
                    "missing or not as often as here: {lost:?}; there: {more:?}; {:?}",
                    self.done
                );
            }
            last.clear();
            for m in FOLDERS.iter().flat_map(|f| w.remote(f)) {
                *last.entry(m.message_id).or_default() += 1;
            }
        }
        // what is equal is also known to be: nothing is under way any more
        settle(&w.mk, Duration::from_millis(1500));
        let same = differences(&w.server, w.mk.maildir());
        assert!(same.is_empty(), "equal, and then not any more: {same:#?}");
        self.settled = self.letters.keys().copied().collect();
        let pid = self.daemon.as_ref().unwrap().pid();
        self.usage.push((resident(pid), descriptors(pid)));
    }

    fn end(mut self) {
        println!("done: {:?}, {} messages in the end", self.done, self.letters.len());
        let w = &self.w;
        let state = live(&w.mk).unwrap().0;
        assert!(state["error"].is_null(), "{state:#}");
        // the first checks see it grow to what it needs
        let early = self.usage[self.usage.len() / 4];
        let last = *self.usage.last().unwrap();
        println!("resident: {:?}", self.usage.iter().map(|u| u.0 / 1024).collect::<Vec<_>>());
        println!("descriptors: {:?}", self.usage.iter().map(|u| u.1).collect::<Vec<_>>());
        assert!(last.1 <= early.1 + 8, "{} descriptors, before {}", last.1, early.1);
        assert!(
            last.0 <= early.0 + early.0 / 4 + (4 << 20),
            "{} bytes, before {}",
            last.0,
            early.0
        );
        self.daemon.take().unwrap().stop();
        w.mk.sync_ok();
        assert_same(&w.server, w.mk.maildir());
        wait_for("no file left over", SOON, || leftovers(w.mk.maildir()).is_empty().then_some(()));
    }
}

fn header(id: &str) -> String {
    format!("HEADER Message-ID \"{id}\"")
}

/// What lies in `tmp` of the folders.
fn leftovers(root: &Path) -> Vec<String> {
    let tmp = FOLDERS.iter().map(|f| root.join(f).join("tmp"));
    let files = tmp.flat_map(|d| fs::read_dir(d).into_iter().flatten().map_while(Result::ok));
    files.map(|e| e.path().display().to_string()).collect()
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or(0)
}

/// VmRSS, in bytes.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}
