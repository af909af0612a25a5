//! A POP3 pass, interrupted at every step by a kill or by a power cut on a disk that forgets what
//! was not fsynced: no message is gone from the server that is not here, and none is here twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::letters::{hash, to_lf};
use crate::common::maildir::{make_folder, move_file};
use crate::common::*;
use crate::disk::{Disk, steps};
use crate::scenario::cut_short;
use crate::tree::copy_sides;
use crate::{End, THREADS, choose};

/// What the pass that is interrupted begins with.
struct Start {
    server: Dovecot,
    keys: &'static str,
    /// Maildir and state.
    dir: tempfile::TempDir,
    letters: Vec<Letter>,
    /// The one that was removed here before.
    removed: Option<String>,
}

const START: &str = "start";

impl Start {
    /// With `keys`, and so many of the letters fetched in an earlier pass.
    fn new(keys: &'static str, earlier: usize) -> Self {
        let server = Dovecot::with(Options {
            pop3: true,
            homes_by_password: true,
            special_use: false,
            ..Options::default()
        });
        server.home(START);
        let dir = process::temp_dir("start");
        fs::create_dir(dir.path().join("mail")).expect("mkdir");
        let mut mint = Mint::new(5);
        mint.average = 900;
        let letters = mint.letters(0..9);
        let mut new = Self { server, keys, dir, letters, removed: None };
        let mut imap = new.imap(START);
        if earlier > 0 {
            imap.append_all("INBOX", &new.letters[..earlier]);
            new.mailkeep(new.dir.path(), START).sync_ok();
            let root = new.dir.path().join("mail");
            let here = read_folder(&root.join("INBOX"));
            fs::remove_file(&here[0].path).expect("unlink");
            new.removed = Some(here[0].message_id.clone());
            make_folder(&root.join("Archive"));
            move_file(&here[1], &root.join("Archive"));
        }
        imap.append_all("INBOX", &new.letters[earlier..]);
        imap.logout();
        new
    }

    fn imap(&self, account: &str) -> TestImap {
        TestImap::connect_as(account, self.server.port(), '/', "")
    }

    fn mailkeep(&self, dir: &Path, account: &str) -> Mailkeep {
        let mut mk = Mailkeep::in_directory(self.server.pop3_port(), dir);
        mk.password(account);
        mk.set("protocol", "pop3").set_raw("pop3", &format!("{{ {} }}", self.keys));
        mk
    }

    fn maildir(&self) -> PathBuf {
        self.dir.path().join("mail")
    }

    /// The program on copies of both sides.
    fn copy(&self, dir: &Path, account: &str) -> Mailkeep {
        let homes = (self.server.home(START), self.server.home(account));
        copy_sides((&homes.0, &homes.1), (self.dir.path(), dir));
        self.mailkeep(dir, account)
    }

    fn contents(&self) -> BTreeSet<[u8; 32]> {
        self.letters.iter().map(|l| *hash(&to_lf(&l.body)).as_bytes()).collect()
    }
}

/// What both sides hold in the end: here by folder.
#[derive(Debug, PartialEq, Eq)]
struct State {
    here: BTreeMap<String, Vec<String>>,
    there: Vec<String>,
    ledger: BTreeMap<String, [u64; 2]>,
}

fn sorted(ids: impl Iterator<Item = String>) -> Vec<String> {
    let mut ids: Vec<String> = ids.collect();
    ids.sort();
    ids
}

impl State {
    fn of(start: &Start, mk: &Mailkeep, account: &str) -> Self {
        let here = read_maildir(mk.maildir()).into_iter();
        let here = here.map(|(f, all)| (f, sorted(all.into_iter().map(|m| m.message_id))));
        let there = start.imap(account).fetch_all("INBOX");
        let status = mk.status();
        let folders = status["accounts"][0]["folders"].as_array().expect("folders");
        let ledger = folders.iter().map(|f| {
            let count = |key: &str| f[key].as_u64().unwrap_or_else(|| panic!("{key}: {f}"));
            (f["name"].as_str().expect("a name").to_owned(), [count("messages"), count("kept")])
        });
        Self {
            here: here.collect(),
            there: sorted(there.into_iter().map(|m| m.message_id)),
            ledger: ledger.collect(),
        }
    }
}

/// A run that is stopped before its `at`-th step, then two that are not.
fn case(
    start: &Start,
    want: Option<&State>,
    at: usize,
    end: End,
) -> Result<(State, Vec<String>), String> {
    let account = format!("case-{at}-{end:?}");
    let dir = process::temp_dir("case");
    let mut mk = start.copy(dir.path(), &account);
    let log = dir.path().join("first");
    mk.environment("MAILKEEP_STEPS", Some(log.to_str().expect("UTF-8")));
    mk.environment("MAILKEEP_KILL_AT", Some(&at.to_string()));
    let first = mk.sync();
    let done = steps(&log);
    if first.status.is_some() && (first.status != Some(0) || done.len() >= at) {
        return Err(format!("the first run ended with {:?}: {}", first.status, first.text()));
    }
    if end == End::PowerCut {
        let mut disk = Disk::of(&start.maildir());
        disk.follow(mk.maildir(), &done);
        let left = dir.path().join("left");
        disk.after_power_cut(&start.maildir(), mk.maildir(), &left);
        fs::remove_dir_all(mk.maildir()).expect("remove");
        fs::rename(&left, mk.maildir()).expect("rename");
    }
    let cut = cut_short(mk.maildir(), &start.contents());
    if !cut.is_empty() {
        return Err(format!("partial files: {cut:?}"));
    }
    // what the server has no more is here, but for what was removed here
    let there = start.imap(&account).fetch_all("INBOX").into_iter().map(|m| m.message_id);
    let here = read_maildir(mk.maildir()).into_values().flatten().map(|m| m.message_id);
    let somewhere: BTreeSet<String> = there.chain(here).collect();
    for id in start.letters.iter().map(|l| letters::message_id(&l.body)) {
        if !somewhere.contains(&id) && start.removed.as_ref() != Some(&id) {
            return Err(format!("{id} is nowhere"));
        }
    }
    mk.environment("MAILKEEP_KILL_AT", None);
    for pass in ["resumed", "once more"] {
        let log = dir.path().join(pass);
        mk.environment("MAILKEEP_STEPS", Some(log.to_str().expect("UTF-8")));
        let said = mk.sync();
        if said.status != Some(0) || said.text().contains("paired again") {
            return Err(format!("{pass}, it ended with {:?}: {}", said.status, said.text()));
        }
        let did = steps(&log);
        if pass == "once more" && !did.iter().all(|s| s.starts_with("commit\t")) {
            return Err(format!("a second pass found work: {did:#?}"));
        }
    }
    mk.environment("MAILKEEP_STEPS", None);
    let state = State::of(start, &mk, &account);
    match want {
        Some(want) if *want != state => Err(format!("{state:#?}\nis not\n{want:#?}")),
        _ => Ok((state, done)),
    }
}

fn every_step(start: &Start, check: impl FnOnce(&State)) {
    let (clean, all) = case(start, None, usize::MAX, End::Kill).expect("an undisturbed run");
    check(&clean);
    let jobs: Vec<(usize, End)> =
        choose(all.len()).into_iter().flat_map(|n| [(n, End::Kill), (n, End::PowerCut)]).collect();
    let next = AtomicUsize::new(0);
    let failed: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|s| {
        for _ in 0..THREADS {
            s.spawn(|| {
                while let Some((n, end)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = case(start, Some(&clean), *n, *end) {
                        let step = all.get(n - 1).map_or("the end", String::as_str);
                        failed.lock().unwrap().push(format!("{end:?} before {n}, {step}: {why}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn a_first_session_that_leaves_the_server_empty() {
    every_step(&Start::new("keep = \"delete\"", 0), |clean| {
        assert_eq!((clean.here["INBOX"].len(), clean.there.len()), (9, 0));
    });
}

#[test]
fn a_first_session_that_leaves_all_on_the_server() {
    every_step(&Start::new("", 0), |clean| {
        assert_eq!((clean.here["INBOX"].len(), clean.there.len()), (9, 9));
    });
}

#[test]
fn new_mail_beside_what_was_removed_and_moved_here() {
    every_step(&Start::new("delete_when_removed_locally = true", 4), |clean| {
        assert_eq!((clean.here["INBOX"].len(), clean.here["Archive"].len()), (7, 1));
        assert_eq!(clean.there.len(), 8);
    });
}
