//! The daemon: how soon a change on one side is on the other, beside what a bare socket is told by
//! NOTIFY; what it costs while nothing happens; and a burst of renames.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::common::mailkeep::{Running, program, write_private};
use crate::common::process::{temp_dir, wait_for};
use crate::common::server::USER;
use crate::common::{Dovecot, Letter, Mint, Options, Server, TestImap};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Daemon {
    pub accounts: usize,
    pub folders: usize,
    /// Of an account.
    pub messages: usize,
    /// Of each kind of change.
    pub changes: usize,
    pub idle: Duration,
}

/// No change takes longer, or it was lost.
const LIMIT: Duration = Duration::from_secs(60);

/// The whole of it; prints as it goes.
pub fn run(scale: Daemon) {
    let world = World::new(scale);
    eprintln!("# {} accounts are in step", scale.accounts);
    world.rest(Duration::from_secs(5));
    world.remote(scale.changes);
    world.local(scale.changes);
    world.burst();
    world.idle(scale.idle);
}

struct World {
    server: Dovecot,
    dir: tempfile::TempDir,
    daemon: Running,
    scale: Daemon,
}

fn folder(n: usize) -> String {
    if n == 0 { "INBOX".into() } else { format!("folder{n}") }
}

impl World {
    fn new(scale: Daemon) -> Self {
        let options = Options { homes_by_password: true, special_use: false, ..Options::default() };
        let server = Dovecot::with(options);
        let mint = Mint::new(1);
        let each = scale.messages / scale.folders;
        for n in 0..scale.folders {
            server.seed(&folder(n), &mint.letters(n * each..(n + 1) * each));
        }
        // the server's own user is the first account; the others are copies
        let first = server.home(USER);
        for n in 1..scale.accounts {
            let copy = server.home(&password(n));
            let from = first.join("Maildir");
            let done = Command::new("cp").arg("-a").arg(from).arg(copy).status().unwrap();
            assert!(done.success());
        }
        let dir = temp_dir("daemon");
        let mut config = "state_dir = \"state\"\nruntime_dir = \"run\"\n".to_owned();
        for n in 0..scale.accounts {
            write!(
                config,
                "[accounts.a{n}]\nprotocol = \"imap\"\nhost = \"127.0.0.1\"\nport = {}\n\
                 tls = \"none\"\nuser = \"{USER}\"\npassword = \"{}\"\nmaildir = \"mail/a{n}\"\n\
                 [accounts.a{n}.policy]\nremote_delete = \"mirror\"\nlocal_delete = \"mirror\"\n",
                server.port(),
                password(n)
            )
            .unwrap();
        }
        let file = dir.path().join("c.toml");
        write_private(&file, &config);
        let mut command = Command::new(program());
        command.arg("--config").arg(file).arg("run");
        let daemon = Running::start(command);
        let world = Self { server, dir, daemon, scale };
        for n in 0..scale.accounts {
            wait_for("the first pass", Duration::from_secs(900), || {
                let have: usize = (0..scale.folders).map(|f| world.count(n, &folder(f))).sum();
                (have == each * scale.folders).then_some(())
            });
        }
        world
    }

    fn imap(&self, account: usize) -> TestImap {
        TestImap::connect_as(&password(account), self.server.port(), '/', "")
    }

    fn dir(&self, account: usize, folder: &str) -> PathBuf {
        self.dir.path().join("mail").join(format!("a{account}")).join(folder)
    }

    fn count(&self, account: usize, folder: &str) -> usize {
        names(&self.dir(account, folder)).len()
    }

    /// Lets a time pass in which nothing is done: this is what is measured, and no wait for anything.
    fn rest(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Changes on the server, until they are here, and until NOTIFY tells a bare socket.
    fn remote(&self, changes: usize) {
        let mint = Mint::new(2);
        let kinds = ["arrival", "flag", "move", "delete"];
        let mut took: Vec<Vec<(Duration, Duration)>> = vec![Vec::new(); kinds.len()];
        for i in 0..changes {
            let account = i % self.scale.accounts;
            let (from, to) = (folder(1 + i % (self.scale.folders - 1)), folder(0));
            let told = bare(self.server.port(), &password(account));
            let mut imap = self.imap(account);
            let dir = self.dir(account, &from);
            let letter = plain(&mint, i);
            let before = self.count(account, &from);
            let inbox = self.count(account, &to);
            imap.append(&from, &letter);
            took[0].push(race(&told, &from, || names(&dir).len() > before));
            let uid = *imap.find(&from, &mint.message_id(i)).last().expect("the letter");
            imap.store(&from, &[uid], "+FLAGS", &["\\Flagged", "\\Answered", "\\Seen"]);
            took[1].push(race(&told, &from, || names(&dir).iter().any(|n| n.ends_with(":2,FRS"))));
            imap.move_to(&from, &[uid], &to);
            let there = self.dir(account, &to);
            took[2].push(race(&told, &from, || {
                names(&dir).len() == before && names(&there).len() > inbox
            }));
            let uid = *imap.find(&to, &mint.message_id(i)).last().expect("the letter");
            imap.expunge(&to, &[uid]);
            took[3].push(race(&told, &to, || names(&there).len() == inbox));
        }
        for (kind, took) in kinds.iter().zip(took) {
            let above = took.iter().map(|(here, told)| here.saturating_sub(*told)).collect();
            say(&format!("remote {kind}, until it is here"), took.iter().map(|t| t.0).collect());
            say(
                &format!("remote {kind}, NOTIFY to a bare socket"),
                took.iter().map(|t| t.1).collect(),
            );
            say(&format!("remote {kind}, above that"), above);
        }
    }

    /// Changes here, until the server shows them.
    fn local(&self, changes: usize) {
        let mint = Mint::new(3);
        let mut took: Vec<Vec<Duration>> = vec![Vec::new(); 3];
        for i in 0..changes {
            let account = i % self.scale.accounts;
            let name = folder(1 + i % (self.scale.folders - 1));
            let dir = self.dir(account, &name);
            let mut imap = self.imap(account);
            let before = imap.count(&name);
            let file = format!("{i}.local");
            fs::write(dir.join("tmp").join(&file), &plain(&mint, i).body).unwrap();
            let start = Instant::now();
            fs::rename(dir.join("tmp").join(&file), dir.join("new").join(&file)).unwrap();
            took[0].push(until(start, || imap.count(&name) > before));
            let unseen = status(&mut imap, &name, "UNSEEN");
            let start = Instant::now();
            fs::rename(dir.join("new").join(&file), dir.join("cur").join(format!("{file}:2,S")))
                .unwrap();
            took[1].push(until(start, || status(&mut imap, &name, "UNSEEN") < unseen));
            let start = Instant::now();
            fs::remove_file(dir.join("cur").join(format!("{file}:2,S"))).unwrap();
            took[2].push(until(start, || imap.count(&name) == before));
        }
        for (kind, took) in ["arrival", "flag", "deletion"].iter().zip(took) {
            say(&format!("local {kind}, until the server has it"), took);
        }
    }

    /// A reader marks everything as read.
    fn burst(&self) {
        let mut imap = self.imap(0);
        let start = Instant::now();
        let mut renamed = 0;
        for n in 0..self.scale.folders {
            let dir = self.dir(0, &folder(n));
            for file in names(&dir) {
                let (base, flags) = file.split_once(":2,").unwrap_or((&file, ""));
                if !flags.contains('S') {
                    let mut flags: Vec<char> = flags.chars().chain(['S']).collect();
                    flags.sort_unstable();
                    let to = format!("{base}:2,{}", flags.iter().collect::<String>());
                    let sub = if dir.join("new").join(&file).exists() { "new" } else { "cur" };
                    fs::rename(dir.join(sub).join(&file), dir.join("cur").join(to)).unwrap();
                    renamed += 1;
                }
            }
        }
        let done = until(start, || {
            (0..self.scale.folders).all(|n| status(&mut imap, &folder(n), "UNSEEN") == 0)
        });
        println!(
            "burst of {renamed} renames, until the server has it: {:.2} s",
            done.as_secs_f64()
        );
    }

    fn idle(&self, time: Duration) {
        // what was done before is over
        self.rest(Duration::from_secs(10));
        let before = usage(self.daemon.pid());
        self.rest(time);
        let after = usage(self.daemon.pid());
        println!(
            "idle for {} s: {:.2} s of CPU, {} bytes written, {:.1} MB resident",
            time.as_secs(),
            after.cpu - before.cpu,
            after.written - before.written,
            after.resident as f64 / 1e6
        );
    }
}

fn password(account: usize) -> String {
    if account == 0 { USER.into() } else { format!("account{account}") }
}

fn plain(mint: &Mint, i: usize) -> Letter {
    Letter::new(mint.body(i), &[], mint.date(i))
}

/// The files of a folder.
fn names(dir: &Path) -> Vec<String> {
    let of = |sub: &str| fs::read_dir(dir.join(sub)).into_iter().flatten().map_while(Result::ok);
    of("new").chain(of("cur")).map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

fn status(imap: &mut TestImap, folder: &str, item: &str) -> u32 {
    let name = imap.wire(folder);
    let said = imap.raw(&format!("STATUS {name} ({item})"));
    let line = said.iter().find(|l| l.starts_with("* STATUS")).expect("STATUS");
    let value = line.rsplit(' ').next().expect("a value");
    value.trim_end_matches(')').parse().expect("a number")
}

/// Lines that tell of a folder, with the time they came at.
fn bare(port: u16, password: &str) -> Receiver<(Instant, String)> {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut out = stream.try_clone().unwrap();
    let mut lines = BufReader::new(stream).lines();
    let events = "(personal (MessageNew MessageExpunge FlagChange))";
    let all = format!("a LOGIN {USER} {password}\r\nb NOTIFY SET {events}\r\n");
    out.write_all(all.as_bytes()).unwrap();
    assert!(lines.by_ref().map_while(Result::ok).any(|l| l.starts_with("b OK")));
    let (sender, told) = channel();
    std::thread::spawn(move || {
        // open for as long as somebody listens
        let _out = out;
        for line in lines.map_while(Result::ok) {
            if sender.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    told
}

/// How long it takes until it is here, and until the bare socket is told of the folder.
fn race(
    told: &Receiver<(Instant, String)>,
    folder: &str,
    here: impl FnMut() -> bool,
) -> (Duration, Duration) {
    let start = Instant::now();
    let took = until(start, here);
    let mark = format!("* STATUS {folder} ");
    loop {
        let (at, line) = told.recv_timeout(LIMIT).expect("NOTIFY tells");
        if line.starts_with(&mark) && at >= start {
            return (took, at - start);
        }
    }
}

/// Looks every millisecond.
fn until(start: Instant, mut ready: impl FnMut() -> bool) -> Duration {
    while !ready() {
        assert!(start.elapsed() < LIMIT, "a change was lost");
        std::thread::sleep(Duration::from_millis(1));
    }
    start.elapsed()
}

fn say(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)].as_millis();
    println!(
        "{what}: median {} ms, 90 % {} ms, 99 % {} ms, most {} ms",
        at(50),
        at(90),
        at(99),
        at(100)
    );
}

struct Usage {
    cpu: f64,
    written: u64,
    resident: u64,
}

fn usage(pid: u32) -> Usage {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let number = |text: &str, key: &str| -> u64 {
        let line = text.lines().find(|l| l.starts_with(key)).expect("a line");
        line.split_whitespace().nth(1).expect("a value").parse().expect("a number")
    };
    let stat = read("stat");
    let times: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |i: usize| times[i].parse::<f64>().unwrap();
    Usage {
        // in hundredths of a second on every Linux
        cpu: (ticks(11) + ticks(12)) / 100.0,
        written: number(&read("io"), "write_bytes:"),
        resident: number(&read("status"), "VmRSS:") * 1024,
    }
}
