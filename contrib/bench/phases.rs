//! What is measured: first pulls, uploads, and passes over a large mailbox in which nothing or
//! little has changed. Every phase checks that the work was really done.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::Scale;
use crate::common::maildir::deliver;
use crate::common::{Dovecot, Letter, Mint, Options, Server, TestImap};
use crate::floor;
use crate::table::Table;
use crate::tools::{Client, ProxyProcess, Sample, Tool, measure};

const SEED: u64 = 1;
/// In milliseconds, behind the proxy.
const FAR: u64 = 40;
const BOTH: [Tool; 2] = [Tool::Mbsync, Tool::Mailkeep];

/// A server with so many messages in INBOX, its caches warm.
fn server(n: usize, average: usize) -> Dovecot {
    let server = Dovecot::with(Options { special_use: false, ..Options::default() });
    let mut mint = Mint::new(SEED);
    mint.average = average;
    for start in (0..n).step_by(1000) {
        server.seed("INBOX", &mint.letters(start..(start + 1000).min(n)));
    }
    let mut imap = server.imap();
    imap.patience(Duration::from_secs(900));
    assert_eq!(imap.select("INBOX") as usize, n);
    imap.raw("UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE)");
    eprintln!("# a server with {n} messages");
    server
}

/// Everything, into an empty Maildir.
pub fn first_pull(scale: Scale, table: &mut Table) {
    let server = server(scale.pull, 8700);
    // Trees stay until the end: freeing them would disturb the next run.
    let mut done = Vec::new();
    for _ in 0..scale.runs {
        for round_trip in [0, FAR] {
            for tool in [Tool::Mbsync, Tool::Mailkeep, Tool::Bare] {
                let mut client = Client::new(tool);
                let through = (round_trip > 0).then_some(round_trip);
                let sample = measure(&mut client, &server, through);
                assert_eq!(client.count(), scale.pull, "{tool:?}");
                table.add(&format!("first pull, {}, {round_trip} ms", scale.pull), tool, sample);
                done.push(client);
            }
        }
    }
}

/// New local messages, to a server that has few.
pub fn upload(scale: Scale, table: &mut Table) {
    let mint = Mint::new(SEED + 1);
    let letters: Vec<Letter> =
        (0..scale.upload).map(|i| Letter::new(mint.body(i), &["\\Seen"], mint.date(i))).collect();
    for _ in 0..scale.runs {
        for round_trip in [0, FAR] {
            let phase = format!("upload, {}, {round_trip} ms", scale.upload);
            for tool in BOTH {
                let server = server(10, 8700);
                let mut client = Client::new(tool);
                client.run(server.port());
                for l in &letters {
                    deliver(&client.inbox(), l);
                }
                rest();
                let sample = measure(&mut client, &server, Some(round_trip));
                assert_eq!(server.imap().count("INBOX") as usize, scale.upload + 10, "{tool:?}");
                table.add(&phase, tool, sample);
            }
            let server = server(10, 8700);
            let proxy = ProxyProcess::start(server.port(), round_trip);
            let time = floor::multiappend(proxy.port, &letters);
            table.add(&phase, Tool::Bare, Sample { time, memory: 0, received: None });
        }
    }
}

/// A large mailbox: nothing new, flags changed there, flags changed here.
pub fn later_passes(scale: Scale, table: &mut Table) {
    let n = scale.mailbox;
    let server = server(n, 8700);
    let mut clients = BOTH.map(Client::new);
    fill(&mut clients, &server, n);
    unchanged(scale.runs, n, &mut clients, &server, table);

    for looked_at in [false, true] {
        for run in 0..scale.runs {
            remote_flags(run, looked_at, n, &mut clients, &server, table);
        }
    }
    for _ in 0..scale.runs {
        for c in &mut clients {
            // First what the other one has changed.
            c.run(server.port());
            toggle_seen(c, 100);
            rest();
            let before = seen(&server);
            let sample = measure(c, &server, Some(0));
            let changed = before.symmetric_difference(&seen(&server)).count();
            assert_eq!(changed, 100, "{:?}: flags that went up", c.tool);
            table.add(&format!("100 local flags among {n}"), c.tool, sample);
        }
    }
}

/// Flags changed there. Dovecot reads its Maildir again at every look within the second after a
/// change, and once after it: that is paid by whoever looks, or, with `looked_at`, by a session
/// before.
fn remote_flags(
    run: usize,
    looked_at: bool,
    n: usize,
    clients: &mut [Client],
    server: &Dovecot,
    table: &mut Table,
) {
    let phase = if looked_at { ", looked at since" } else { "" };
    let phase = format!("100 remote flags among {n}{phase}");
    let op = if run.is_multiple_of(2) { "+FLAGS" } else { "-FLAGS" };
    let step = n / 100;
    // an odd number of runs leaves its last messages flagged
    let first = 7 * (run / 2) + if looked_at { 4 } else { 1 };
    let uids: Vec<u32> = (0..100).map(|i| (i * step + first) as u32).collect();
    let before = floor::moment(server.port());
    server.imap().store("INBOX", &uids, op, &["\\Flagged"]);
    if looked_at {
        // it counts in whole seconds
        rest();
        rest();
        server.imap().select("INBOX");
    }
    // each comes first in its turn
    for i in 0..=clients.len() {
        let Some(c) = clients.get_mut((run + i) % (BOTH.len() + 1)) else {
            rustix::fs::sync();
            let proxy = ProxyProcess::start(server.port(), 0);
            table.add(&phase, Tool::Bare, floor::changes(proxy.port, before));
            continue;
        };
        let before = with_letter(c, 'F');
        let sample = measure(c, server, Some(0));
        let changed = before.symmetric_difference(&with_letter(c, 'F')).count();
        assert!(changed > 50, "{:?}: {changed} flags came down", c.tool);
        table.add(&phase, c.tool, sample);
    }
}

/// Nothing new among very many messages. They are small, since nobody reads them.
pub fn large(scale: Scale, table: &mut Table) {
    let server = server(scale.large, 1500);
    let mut clients = BOTH.map(Client::new);
    fill(&mut clients, &server, scale.large);
    unchanged(scale.runs, scale.large, &mut clients, &server, table);
}

fn fill(clients: &mut [Client], server: &Dovecot, n: usize) {
    for c in clients {
        let first = c.run(server.port());
        assert_eq!(c.count(), n, "{:?}", c.tool);
        // The directories have to be older than both tools' doubts.
        rest();
        rest();
        c.run(server.port());
        eprintln!("# {:?} filled in {:.1} s", c.tool, first.time.as_secs_f64());
    }
}

fn unchanged(runs: usize, n: usize, clients: &mut [Client], server: &Dovecot, table: &mut Table) {
    for _ in 0..runs {
        for round_trip in [0, FAR] {
            for c in &mut *clients {
                let sample = measure(c, server, Some(round_trip));
                table.add(&format!("nothing changed, {n}, {round_trip} ms"), c.tool, sample);
            }
        }
    }
}

/// mbsync waits out the second in which a directory has changed; the clock starts after it.
fn rest() {
    std::thread::sleep(Duration::from_millis(1200));
}

fn with_letter(client: &Client, letter: char) -> BTreeSet<String> {
    let names = fs::read_dir(client.inbox().join("cur")).unwrap();
    names
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter_map(|n| {
            let (base, info) = n.split_once(":2,")?;
            info.contains(letter).then(|| base.to_owned())
        })
        .collect()
}

fn toggle_seen(client: &Client, n: usize) {
    let cur = client.inbox().join("cur");
    let mut names: Vec<String> = fs::read_dir(&cur)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in names.iter().skip(50).take(n) {
        let (base, info) = name.split_once(":2,").unwrap();
        let info = if info.contains('S') { info.replace('S', "") } else { sorted(info, 'S') };
        fs::rename(cur.join(name), cur.join(format!("{base}:2,{info}"))).unwrap();
    }
}

fn sorted(info: &str, with: char) -> String {
    let mut letters: Vec<char> = info.chars().chain([with]).collect();
    letters.sort_unstable();
    letters.into_iter().collect()
}

fn seen(server: &Dovecot) -> BTreeSet<String> {
    let mut imap: TestImap = server.imap();
    imap.select("INBOX");
    let said = imap.raw("UID SEARCH SEEN");
    let line = said.iter().find_map(|l| l.strip_prefix("* SEARCH")).expect("SEARCH");
    line.split_whitespace().map(str::to_owned).collect()
}
