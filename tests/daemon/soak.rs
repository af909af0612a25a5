//! Random operations on both sides while the server restarts, connections are cut and the daemon is
//! killed: in the end both sides are equal, and nothing is lost or doubled. `MAILKEEP_SOAK` sets the
//! seconds, `MAILKEEP_SEED` the seed, which is printed.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::common::maildir::deliver;
use crate::common::process::wait_for;
use crate::common::*;
use crate::world::*;

/// How many times each content is there, on both sides counted once.
fn contents(w: &World) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for folder in ["INBOX", "Work"] {
        for m in w.remote(folder) {
            *out.entry(m.hash.to_hex().to_string()).or_default() += 1;
        }
    }
    out
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or(0)
}

#[test]
fn a_short_soak() {
    let (seed, seconds) = (number("MAILKEEP_SEED", 1), number("MAILKEEP_SOAK", 15));
    println!("MAILKEEP_SEED={seed} MAILKEEP_SOAK={seconds}");
    let mut rng = Rng::labelled(seed, "soak");
    let mut w = World::full();
    // what is deleted is counted here, and no brake is to hold it
    w.mk.policy_raw("brake", "{ percent = 100, messages = 100000 }");
    let mut daemon = Some(w.daemon());
    let mut expected = contents(&w);
    let mut next = 10_000;
    let folders = ["INBOX", "Work"];
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let folder = *rng.pick(&folders);
        let other = if folder == "INBOX" { "Work" } else { "INBOX" };
        match rng.below(100) {
            0..25 => {
                let letter = w.mint.letter(next);
                next += 1;
                *expected
                    .entry(blake3::Hash::to_hex(&letters::hash(&letter.body)).to_string())
                    .or_default() += 1;
                w.server.imap().append(folder, &letter);
            }
            25..50 => {
                let letter = w.mint.letter(next);
                next += 1;
                *expected
                    .entry(blake3::Hash::to_hex(&letters::hash(&letter.body)).to_string())
                    .or_default() += 1;
                deliver(&w.mk.folder(folder), &letter);
            }
            50..62 => {
                let uids: Vec<u32> = w.remote(folder).iter().map(|m| m.uid).collect();
                if !uids.is_empty() {
                    let mut imap = w.server.imap();
                    imap.select(folder);
                    imap.store(folder, &[*rng.pick(&uids)], "+FLAGS", &["\\Flagged"]);
                }
            }
            62..74 => {
                let all = w.local(folder);
                if !all.is_empty() {
                    // the daemon may have renamed it since
                    let m = rng.pick(&all);
                    let to = m.path.parent().unwrap().parent().unwrap().join("cur");
                    let _ = fs::rename(&m.path, to.join(format!("{}:2,RS", m.base)));
                }
            }
            74..80 => {
                let uids: Vec<u32> = w.remote(folder).iter().map(|m| m.uid).collect();
                if !uids.is_empty() {
                    let mut imap = w.server.imap();
                    imap.move_to(folder, &[*rng.pick(&uids)], other);
                }
            }
            80..86 => {
                let all = w.local(folder);
                if !all.is_empty() {
                    let m = rng.pick(&all);
                    let to = w.mk.folder(other).join("cur");
                    let _ = fs::rename(&m.path, to.join(m.path.file_name().unwrap()));
                }
            }
            86..92 => w.proxy.cut_all(),
            92..95 => {
                w.server.stop();
                w.server.restart();
            }
            95..97 => {
                if let Some(daemon) = daemon.take() {
                    daemon.kill();
                }
                daemon = Some(Daemon::start(&w.mk));
            }
            _ => std::thread::sleep(Duration::from_millis(rng.below(400) as u64)),
        }
        std::thread::sleep(Duration::from_millis(rng.below(60) as u64));
    }
    let daemon = daemon.unwrap();
    wait_for("both sides are equal", Duration::from_secs(60), || {
        differences(&w.server, w.mk.maildir()).is_empty().then_some(())
    });
    wait_for("all that was there", SOON, || (contents(&w) == expected).then_some(()));
    assert!(descriptors(daemon.pid()) < 60, "{} descriptors", descriptors(daemon.pid()));
    let state = live(&w.mk).unwrap().0;
    assert!(state["error"].is_null(), "{state:#}");
    daemon.stop();
    w.mk.sync_ok();
    assert_same(&w.server, w.mk.maildir());
}
