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

use std::io::{BufRead, Write};
use std::time::Duration;

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
    changes: 200,
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

fn usage() -> ! {
    eprintln!("usage: contrib/bench/run [--runs N] [--quick] [--large], or daemon [--quick]");
    std::process::exit(2)
}

/// The proxy, in a process of its own, so that it and the measuring do not slow each other.
/// Prints its port; then, for every line it reads, the bytes that went up and down.
fn proxy(target: u16, round_trip: u64) {
    let faults = Faults { round_trip: Duration::from_millis(round_trip), ..Faults::default() };
    let proxy = Proxy::with(target, faults);
    println!("{}", proxy.port());
    for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
        println!("{} {}", proxy.up(), proxy.down());
        let _ = std::io::stdout().flush();
    }
}
