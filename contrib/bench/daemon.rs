//! The daemon: how soon a change on one side is on the other, beside what a bare socket is told by
//! NOTIFY and by IDLE; what it costs while nothing happens; and a burst of renames. Between it and
//! the server stand proxies, which count commands; their delay is in the figures.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::common::mailkeep::{Running, program, write_private};
use crate::common::process::{command, temp_dir, wait_for};
use crate::common::server::USER;
use crate::common::{Dovecot, Letter, Mint, Options, Server, TestImap};
use crate::tools::ProxyProcess;

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
    let mut world = World::new(scale);
    println!("{} accounts, {} folders, {} messages", scale.accounts, scale.folders, scale.messages);
    println!("load before: {}", fs::read_to_string("/proc/loadavg").unwrap().trim());
    world.rest(Duration::from_secs(5));
    world.remote("NOTIFY", scale.changes);
    world.local(scale.changes);
    world.burst();
    world.idle(scale.idle);
    world.without_notify();
    world.remote("IDLE", scale.changes / 2);
    println!("load after: {}", fs::read_to_string("/proc/loadavg").unwrap().trim());
}

struct World {
    server: Dovecot,
    /// One an account: they count the commands, and hide what the server can do.
    proxies: Vec<ProxyProcess>,
    dir: tempfile::TempDir,
    daemon: Option<Running>,
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
            let mut letters = mint.letters(n * each..(n + 1) * each);
            // unread: the burst is to have something to do
            letters.iter_mut().for_each(|l| l.flags.clear());
            server.seed(&folder(n), &letters);
        }
        // the server's own user is the first account; the others are copies
        let first = server.home(USER);
        for n in 1..scale.accounts {
            let copy = server.home(&password(n));
            let from = first.join("Maildir");
            let done = Command::new("cp").arg("-a").arg(from).arg(copy).status().unwrap();
            assert!(done.success());
        }
        let proxies: Vec<ProxyProcess> =
            (0..scale.accounts).map(|_| ProxyProcess::start(server.port(), 0)).collect();
        let dir = temp_dir("daemon");
        let mut config = "state_dir = \"state\"\nruntime_dir = \"run\"\n".to_owned();
        for (n, proxy) in proxies.iter().enumerate() {
            write!(
                config,
                "[accounts.a{n}]\nprotocol = \"imap\"\nhost = \"127.0.0.1\"\nport = {}\n\
                 tls = \"none\"\nuser = \"{USER}\"\npassword = \"{}\"\nmaildir = \"mail/a{n}\"\n\
                 [accounts.a{n}.policy]\nremote_delete = \"mirror\"\nlocal_delete = \"mirror\"\n",
                proxy.port,
                password(n)
            )
            .unwrap();
        }
        write_private(&dir.path().join("c.toml"), &config);
        let mut world = Self { server, proxies, dir, daemon: None, scale };
        world.start();
        for n in 0..scale.accounts {
            wait_for("the first pass", Duration::from_secs(900), || {
                let have: usize = (0..scale.folders).map(|f| world.count(n, &folder(f))).sum();
                (have == each * scale.folders).then_some(())
            });
        }
        world
    }

    fn start(&mut self) {
        let mut command = command(program(), None);
        command.arg("--config").arg(self.dir.path().join("c.toml")).arg("run");
        self.daemon = Some(Running::start(command));
    }

    /// The daemon starts anew, and the server seems to have no NOTIFY.
    fn without_notify(&mut self) {
        drop(self.daemon.take());
        self.proxies.iter_mut().for_each(|p| p.hide(" NOTIFY"));
        self.start();
        wait_for("IDLE everywhere", LIMIT, || {
            let idles = self.proxies.iter_mut().all(|p| p.count("IDLE") > 0);
            idles.then_some(())
        });
        self.rest(Duration::from_secs(5));
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

    /// Changes on the server, until they are here, and until a bare socket is told by the same
    /// means. IDLE watches INBOX alone.
    fn remote(&self, means: &str, changes: usize) {
        let mint = Mint::new(if means == "IDLE" { 4 } else { 2 });
        let kinds = ["arrival", "flag", "move", "delete"];
        let mut took: Vec<Vec<(Duration, Option<Duration>)>> = vec![Vec::new(); kinds.len()];
        for i in 0..changes {
            let account = i % self.scale.accounts;
            let (mut from, mut to) = (folder(1 + i % (self.scale.folders - 1)), folder(0));
            if means == "IDLE" {
                std::mem::swap(&mut from, &mut to);
            }
            let told = match means {
                "IDLE" => bare(self.server.port(), &password(account), "SELECT INBOX", "IDLE"),
                _ => bare(self.server.port(), &password(account), "NOOP", NOTIFY),
            };
            let mark = if means == "IDLE" { "* ".into() } else { format!("* STATUS {from} ") };
            let mut imap = self.imap(account);
            let (here, there) = (self.dir(account, &from), self.dir(account, &to));
            let (before, others) = (names(&here).len(), names(&there).len());
            let id = |n: usize| format!("HEADER Message-ID \"{}\"", mint.message_id(n));
            for (n, last) in [(2 * i, 2), (2 * i + 1, 3)] {
                imap.append(&from, &plain(&mint, n));
                took[0].push(race(&told, &mark, || names(&here).len() > before));
                let uids = imap.search(&from, &id(n));
                imap.store(&from, &uids, "+FLAGS", &["\\Flagged", "\\Answered", "\\Seen"]);
                took[1].push(race(&told, &mark, || {
                    names(&here).iter().any(|n| n.ends_with(":2,FRS"))
                }));
                if last == 2 {
                    imap.move_to(&from, &uids, &to);
                } else {
                    imap.expunge(&from, &uids);
                }
                took[last].push(race(&told, &mark, || {
                    names(&here).len() == before && names(&there).len() == others + 1
                }));
            }
            let uids = imap.search(&to, &id(2 * i));
            imap.expunge(&to, &uids);
            until(Instant::now(), || names(&there).len() == others);
        }
        for (kind, took) in kinds.iter().zip(took) {
            let both = took.iter().filter_map(|(here, told)| Some((*here, (*told)?)));
            let (here, told): (Vec<_>, Vec<_>) = both.unzip();
            let above = here.iter().zip(&told).map(|(h, t)| h.saturating_sub(*t)).collect();
            if took.len() > told.len() {
                println!("{kind}: the bare socket was not told {} times", took.len() - told.len());
            }
            say(&format!("remote {kind}, until it is here ({means})"), here);
            say(&format!("remote {kind}, {means} to a bare socket"), told);
            say(&format!("remote {kind}, above that"), above);
        }
    }

    /// Changes here, until the server shows them.
    fn local(&self, changes: usize) {
        let mint = Mint::new(3);
        let kinds = ["arrival", "flag", "move", "deletion"];
        let mut took: Vec<Vec<Duration>> = vec![Vec::new(); kinds.len()];
        for i in 0..changes {
            let account = i % self.scale.accounts;
            let name = folder(1 + i % (self.scale.folders - 1));
            let (dir, inbox) = (self.dir(account, &name), self.dir(account, &folder(0)));
            let mut imap = self.imap(account);
            let (before, others) = (imap.count(&name), imap.count(&folder(0)));
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
            let seen = Path::new("cur").join(format!("{file}:2,S"));
            let start = Instant::now();
            fs::rename(dir.join(&seen), inbox.join(&seen)).unwrap();
            took[2].push(until(start, || {
                imap.count(&folder(0)) == others + 1 && imap.count(&name) == before
            }));
            // the file has the name that the program gave it meanwhile
            let moved = names(&inbox).into_iter().find(|n| n.starts_with(&format!("{i}.local")));
            let moved = inbox.join("cur").join(moved.expect("the file that was moved"));
            let start = Instant::now();
            fs::remove_file(moved).unwrap();
            took[3].push(until(start, || imap.count(&folder(0)) == others));
        }
        for (kind, took) in kinds.iter().zip(took) {
            say(&format!("local {kind}, until the server has it"), took);
        }
    }

    /// A reader marks everything as read.
    fn burst(&mut self) {
        let mut imap = self.imap(0);
        let before = self.proxies[0].count("UID STORE");
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
        let work = start.elapsed();
        for n in 0..self.scale.folders {
            until(start, || status(&mut imap, &folder(n), "UNSEEN") == 0);
        }
        println!(
            "burst of {renamed} renames (which took {:.2} s), until the server has it: {:.2} s, {} \
             STORE commands",
            work.as_secs_f64(),
            start.elapsed().as_secs_f64(),
            self.proxies[0].count("UID STORE") - before
        );
    }

    fn idle(&mut self, time: Duration) {
        // what was done before is over
        self.rest(Duration::from_secs(10));
        let pid = self.daemon.as_ref().expect("running").pid();
        let (before, said) = (usage(pid), self.commands());
        self.rest(time);
        let (after, now) = (usage(pid), self.commands());
        println!(
            "idle for {} s: {:.2} s of CPU, {} bytes written, {:.1} MB resident, {} commands",
            time.as_secs(),
            after.cpu - before.cpu,
            after.written - before.written,
            after.resident as f64 / 1e6,
            now - said
        );
    }

    /// All that all accounts have said so far.
    fn commands(&mut self) -> u64 {
        self.proxies.iter_mut().map(|p| p.count("")).sum()
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

/// As the daemon asks for it.
const NOTIFY: &str = "NOTIFY SET (personal (MessageNew MessageExpunge FlagChange))";

/// What the server tells a bare socket after these commands, with the time it came at.
fn bare(port: u16, password: &str, first: &str, second: &str) -> Receiver<(Instant, String)> {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut out = stream.try_clone().unwrap();
    let mut lines = BufReader::new(stream).lines();
    let all = format!("a LOGIN {USER} {password}\r\nb {first}\r\nc {second}\r\n");
    out.write_all(all.as_bytes()).unwrap();
    let ready = |l: String| l.starts_with("c OK") || l.starts_with('+');
    assert!(lines.by_ref().map_while(Result::ok).any(ready));
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

/// How long it takes until it is here, and until the bare socket is told by such a line; it may not
/// be: Dovecot keeps quiet of what comes within some milliseconds of other news.
fn race(
    told: &Receiver<(Instant, String)>,
    mark: &str,
    here: impl FnMut() -> bool,
) -> (Duration, Option<Duration>) {
    let start = Instant::now();
    let took = until(start, here);
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        match told.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok((at, line)) if line.starts_with(mark) && at >= start => {
                return (took, Some(at - start));
            }
            Ok(_) => {}
            Err(_) => return (took, None),
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
