//! The main job, shown: a mailbox is mirrored into a Maildir, both sides change, and they are
//! mirrored again. Ends with an error unless both sides hold what they should.

// A demonstration may fail by panicking, as a test does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use common::letters::{reader_hash, simple};
use common::maildir::{deliver, mutt_save, set_flags};
use common::{Dovecot, Letter, Mailkeep, Mint, Server, TestImap, read_folder, read_maildir};

/// The mailbox: folders with their number of messages.
const FOLDERS: [(&str, usize); 9] = [
    ("INBOX", 900),
    ("Sent", 300),
    ("Archive/2022", 500),
    ("Archive/2023", 400),
    ("Lists/debian-user", 450),
    ("Lists/rust", 250),
    ("Work/Projects", 150),
    ("Work/Projects/Überblick", 40),
    ("Work/Invoices", 60),
];

fn main() -> ExitCode {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    if directory.as_ref().is_some_and(|d| d.exists()) {
        eprintln!("{} exists; name a directory that does not", directory.unwrap().display());
        return ExitCode::from(2);
    }
    let demo = Demo::new(directory);
    let problems = demo.play();
    let dir = demo.leave();
    if !problems.is_empty() {
        eprintln!("\nThe two sides are not as they should be:");
        problems.iter().for_each(|p| eprintln!("  {p}"));
        return ExitCode::FAILURE;
    }
    let mail = dir.join("mail");
    println!("\nThe server is gone again; the mail is still yours, in {}", mail.display());
    println!("Read it:    neomutt -n -F {}/neomuttrc", dir.display());
    println!("Remove it:  rm -r {}", dir.display());
    ExitCode::SUCCESS
}

struct Demo {
    server: Dovecot,
    mk: Mailkeep,
    mint: Mint,
    /// What the server will have deleted in the end and this side kept.
    kept: usize,
}

impl Demo {
    fn new(directory: Option<PathBuf>) -> Self {
        step("A mail server on this machine (Dovecot), with mail in it");
        let server = Dovecot::start();
        let mint = Mint::new(42);
        let mut next = 0;
        for (folder, n) in FOLDERS {
            server.seed(folder, &mint.letters(next..next + n));
            next += n;
        }
        println!("{next} messages in {} folders, on port {}", FOLDERS.len(), server.port());
        let mk = match directory {
            Some(d) => Mailkeep::in_directory(server.port(), &d),
            None => Mailkeep::to_port(server.port()),
        };
        Self { server, mk, mint, kept: 6 }
    }

    fn play(&self) -> Vec<String> {
        step("First sync: the whole mailbox comes into the Maildir");
        println!("{}", configuration(&self.mk));
        let mut problems: Vec<String> = self.sync().into_iter().collect();
        self.table();
        problems.extend(self.differences(0));
        if !problems.is_empty() {
            return problems;
        }

        step("Then, on the server (webmail, a phone, a clean-up job)");
        self.change_there();
        step("and in the Maildir (mutt)");
        self.change_here();

        step("Second sync: both sides learn what happened on the other");
        problems.extend(self.sync());
        // What went to the server's Trash comes into the one here with the next pass at the latest.
        problems.extend(self.sync());
        self.table();
        self.show(&["status"], 40);
        step("What the server deleted and this side kept (mailkeep kept)");
        self.show(&["kept"], 20);
        step("What was done, and why (mailkeep history, without what the first sync brought)");
        let said = self.mk.run(&["history"]);
        let first_pull = |l: &&str| !l.contains("\tdownload\t") && !l.contains("\tcreate-folder\t");
        said.stdout.lines().filter(first_pull).take(40).for_each(|l| println!("  {l}"));

        step("Checked: both sides, message by message");
        problems.extend(self.differences(self.kept));
        let here: usize = read_maildir(self.mk.maildir()).values().map(Vec::len).sum();
        println!("{here} messages here, {} of them kept; {} problems", self.kept, problems.len());
        problems
    }

    fn change_there(&self) {
        let mut imap = self.server.imap();
        imap.append_all("INBOX", &self.mint.letters(10_000..10_012));
        say("12 messages arrive in INBOX");
        let uids = uids_of(&mut imap, "INBOX");
        imap.store("INBOX", &uids[..5], "+FLAGS", &["\\Flagged", "$Important"]);
        say("5 messages in INBOX are flagged, and marked $Important");
        imap.move_to("INBOX", &uids[10..20], "Archive/2023");
        say("10 messages move from INBOX to Archive/2023");
        let list = uids_of(&mut imap, "Lists/debian-user");
        imap.expunge("Lists/debian-user", &list[..self.kept]);
        say("6 messages in Lists/debian-user are deleted for good");
        imap.rename("Work/Invoices", "Archive/Invoices");
        say("the folder Work/Invoices is renamed to Archive/Invoices");
    }

    fn change_here(&self) {
        let here = read_folder(&self.mk.folder("INBOX"));
        // The server has moved some of the first ones away; take those that both still have.
        let taken: Vec<_> = here.iter().rev().take(30).collect();
        for m in &taken[..8] {
            set_flags(m, "RS");
        }
        say("8 messages in INBOX are answered");
        for m in &taken[10..13] {
            mutt_save(m, &self.mk.folder("Work/Projects"));
        }
        say("3 messages are saved from INBOX to Work/Projects, as mutt does it");
        let body = simple("<new@demo.example>", "a letter written here", "Hello.\r\n");
        deliver(&self.mk.folder("Sent"), &Letter::new(body, &["\\Seen"], 1_700_000_000));
        say("a new message is put into Sent");
        let list = read_folder(&self.mk.folder("Lists/rust"));
        for m in &list[..2] {
            fs::remove_file(&m.path).unwrap();
        }
        say("2 messages in Lists/rust are deleted; the policy says: to the server's Trash");
    }

    fn sync(&self) -> Option<String> {
        let pass = self.mk.run(&["sync"]);
        println!("$ mailkeep sync");
        for line in pass.text().lines() {
            println!("  {line}");
        }
        let status = pass.status.map_or("none".to_owned(), |s| s.to_string());
        println!(
            "  → exit status {status}, {:.2} s, {} MB of memory at most",
            pass.elapsed.as_secs_f64(),
            pass.peak_rss >> 20
        );
        (pass.status != Some(0)).then(|| format!("the sync ended with exit status {status}"))
    }

    fn show(&self, args: &[&str], lines: usize) {
        let said = self.mk.run(args);
        println!("\n$ mailkeep {}", args.join(" "));
        let all: Vec<&str> = said.stdout.lines().collect();
        all.iter().take(lines).for_each(|l| println!("  {l}"));
        if all.len() > lines {
            println!("  … and {} more lines", all.len() - lines);
        }
        eprint!("{}", said.stderr);
    }

    fn table(&self) {
        let mut imap = self.server.imap();
        let mut rows: BTreeMap<String, [usize; 2]> = BTreeMap::new();
        for folder in imap.list() {
            let n = imap.count(&folder) as usize;
            rows.entry(folder).or_default()[0] = n;
        }
        for (folder, messages) in read_maildir(self.mk.maildir()) {
            rows.entry(folder).or_default()[1] = messages.len();
        }
        println!("\n  {:<28} {:>8} {:>8}", "folder", "server", "here");
        for (folder, [there, here]) in &rows {
            println!("  {folder:<28} {there:>8} {here:>8}");
        }
        let total = |i: usize| rows.values().map(|r| r[i]).sum::<usize>();
        println!("  {:<28} {:>8} {:>8}", "all", total(0), total(1));
    }

    /// What differs between the sides, beyond so many messages that are only kept here.
    fn differences(&self, kept: usize) -> Vec<String> {
        let mut imap = self.server.imap();
        let mut local = read_maildir(self.mk.maildir());
        let mut out = Vec::new();
        let mut only_here = 0;
        for folder in imap.list() {
            let Some(here) = local.remove(&folder) else {
                out.push(format!("{folder} is not here"));
                continue;
            };
            let mut balance: BTreeMap<_, i64> = BTreeMap::new();
            let flags: BTreeMap<u32, _> =
                imap.fetch_all(&folder).into_iter().map(|m| (m.uid, (m.flags, m.date))).collect();
            for (uid, body) in imap.bodies(&folder) {
                let key = (*reader_hash(&body).as_bytes(), flags[&uid].clone());
                *balance.entry(key).or_default() += 1;
            }
            for m in here {
                let body = fs::read(&m.path).unwrap();
                *balance.entry((*reader_hash(&body).as_bytes(), (m.flags, m.date))).or_default() -=
                    1;
            }
            let sum = |sign: i64| balance.values().map(|n| (n * sign).max(0)).sum::<i64>();
            if sum(1) > 0 {
                out.push(format!("{folder}: {} messages are there and not so here", sum(1)));
            }
            only_here += sum(-1) as usize;
        }
        // A folder that is gone from the server may stay for what it keeps.
        only_here += local.values().map(Vec::len).sum::<usize>();
        if only_here != kept {
            out.push(format!("{only_here} messages are only here, and {kept} should be"));
        }
        out
    }

    /// Leaves Maildir, state and a configuration for neomutt.
    fn leave(self) -> PathBuf {
        let dir = self.mk.keep();
        let rc = format!(
            "set mbox_type=Maildir folder={0}/mail spoolfile=+INBOX record=+Sent postponed=+Drafts\n\
             set header_cache={0}/neomutt-cache maildir_trash=no mail_check_recent=no\n\
             mailboxes `find {0}/mail -type d -name cur -printf '\"%h\" '`\nset sidebar_visible\n",
            dir.display()
        );
        fs::write(dir.join("neomuttrc"), rc).unwrap();
        dir
    }
}

fn configuration(mk: &Mailkeep) -> String {
    mk.config().lines().filter(|l| !l.is_empty()).map(|l| format!("  {l}\n")).collect()
}

fn uids_of(imap: &mut TestImap, folder: &str) -> Vec<u32> {
    imap.fetch_all(folder).iter().map(|m| m.uid).collect()
}

fn step(title: &str) {
    println!("\n== {title}");
}

fn say(line: &str) {
    println!("  - {line}");
}
