//! Times mailkeep beside mbsync, with its default fsync, and beside a bare socket: Dovecot on
//! loopback, plain IMAP, and once more behind a proxy that adds 40 ms to every round trip. Runs
//! are interleaved; the table shows medians.

// A benchmark that went wrong shows nothing: it may panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../tests/common/mod.rs"]
mod common;

mod daemon;
mod floor;
mod phases;
mod table;
mod tools;

#[path = "../../tests/daemon/soak.rs"]
mod soak;
// Of its helpers the soak needs some.
#[allow(dead_code)]
#[path = "../../tests/daemon/world.rs"]
mod world;

use std::io::{BufRead, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::proxy::{Faults, Proxy};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Runs of every tool in every phase.
    pub runs: usize,
    /// Messages of a first pull.
    pub pull: usize,
    /// Messages of an upload.
    pub upload: usize,
    /// Messages in the mailbox of the later passes.
    pub mailbox: usize,
    /// Messages of the large mailbox; 0: left out.
    pub large: usize,
}

/// The daemon as it is meant to be used.
const DAEMON: daemon::Daemon = daemon::Daemon {
    accounts: 5,
    folders: 20,
    messages: 10_000,
    changes: 60,
    idle: Duration::from_secs(600),
};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, target, round_trip] = args.as_slice()
        && flag == "--proxy"
    {
        return proxy(target.parse().expect("port"), round_trip.parse().expect("milliseconds"));
    }
    let mut scale = Scale { runs: 5, pull: 10_000, upload: 1000, mailbox: 50_000, large: 0 };
    if args.first().is_some_and(|a| a == "daemon") {
        return match args.get(1..) {
            Some([]) => daemon::run(DAEMON),
            Some([flag]) if flag == "--quick" => daemon::run(daemon::Daemon {
                folders: 5,
                messages: 1000,
                changes: 20,
                idle: Duration::from_secs(60),
                ..DAEMON
            }),
            _ => usage(),
        };
    }
    if args.first().is_some_and(|a| a == "soak") {
        return long_soak(&args);
    }
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--runs" => {
                let n = args.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                scale.runs = n.unwrap_or_else(|| usage());
            }
            "--quick" => scale = Scale { runs: 3, pull: 1000, upload: 100, mailbox: 5000, ..scale },
            "--large" => scale.large = 500_000,
            _ => usage(),
        }
    }
    let mut table = table::Table::default();
    phases::first_pull(scale, &mut table);
    phases::upload(scale, &mut table);
    phases::later_passes(scale, &mut table);
    if scale.large > 0 {
        phases::large(scale, &mut table);
    }
    println!("{}", table::machine());
    println!("{table}");
}

/// The soak of the tests, for as long as it takes to believe it.
fn long_soak(args: &[String]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock").as_secs();
    let (mut minutes, mut seed) = (20, now);
    for pair in args[1..].chunks(2) {
        match pair {
            [flag, n] if flag == "--minutes" => minutes = n.parse().unwrap_or_else(|_| usage()),
            [flag, n] if flag == "--seed" => seed = n.parse().unwrap_or_else(|_| usage()),
            _ => usage(),
        }
    }
    println!("soak for {minutes} minutes with --seed {seed}");
    soak::soak(seed, Duration::from_secs(minutes * 60));
    println!("soak: both sides are equal, nothing is lost or doubled, and nothing has grown");
}

fn usage() -> ! {
    eprintln!(
        "usage: contrib/bench/run [--runs N] [--quick] [--large], or daemon [--quick], or soak \
         [--minutes N] [--seed N]"
    );
    std::process::exit(2)
}

/// The proxy, in a process of its own, so that it and the measuring do not slow each other.
/// Prints its port; then does what the lines it reads say, and prints for each the bytes that went
/// to the client, and how many commands begin as `count` says.
fn proxy(target: u16, round_trip: u64) {
    let faults = Faults { round_trip: Duration::from_millis(round_trip), ..Faults::default() };
    let proxy = Proxy::with(target, faults.clone());
    println!("{}", proxy.port());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if let Some(capability) = line.strip_prefix("hide ") {
            proxy.set(Faults { hide: capability.into(), ..faults.clone() });
        }
        let commands = line.strip_prefix("count ").map_or(0, |begins| proxy.count(begins));
        println!("{} {commands}", proxy.down());
        let _ = std::io::stdout().flush();
    }
}
