//! A daemon that has nothing to do does nothing.

use std::fs;
use std::time::Duration;

use crate::common::maildir::deliver;
use crate::common::*;
use crate::world::*;

/// The time that a process has spent on a CPU, in seconds.
fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit_once(") ").unwrap().1;
    let fields: Vec<&str> = after.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

fn written(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let line = io.lines().find_map(|l| l.strip_prefix("write_bytes: ")).unwrap();
    line.parse().unwrap()
}

#[test]
fn idle_means_no_commands_no_writes_and_no_time() {
    let w = World::full();
    let daemon = w.daemon();
    // its own doings come back as hints; that ends
    deliver(&w.mk.folder("INBOX"), &w.mint.letter(50));
    w.server.seed("Work", &w.mint.letters(51..52));
    w.wait_same();
    let last = settle(&w.mk, Duration::from_secs(3));
    w.proxy.reset();
    let (time, bytes) = (cpu(daemon.pid()), written(daemon.pid()));
    // no event could stand for this: what idle time costs shows only in time
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(w.proxy.commands(), Vec::<String>::new());
    assert_eq!(written(daemon.pid()), bytes);
    let spent = cpu(daemon.pid()) - time;
    assert!(spent <= 0.03, "{spent} s");
    assert_eq!(live(&w.mk).unwrap().0["passes"], last);
    daemon.stop();
}
