//! What systemd is told, with a stand-in for its socket.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::process::wait_for;
use crate::common::*;
use crate::world::*;

/// The other end of NOTIFY_SOCKET.
struct StandIn {
    socket: UnixDatagram,
}

impl StandIn {
    fn new(w: &mut World) -> Self {
        let path = w.mk.dir().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        w.mk.environment("NOTIFY_SOCKET", Some(path.to_str().unwrap()));
        Self { socket }
    }

    fn next(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        let n = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..n].to_vec()).unwrap())
    }

    #[track_caller]
    fn wait(&self, what: &str) -> String {
        wait_for(what, SOON, || self.next().filter(|t| t.starts_with(what)))
    }
}

#[test]
fn ready_status_reload_and_stop() {
    let mut w = World::full();
    let manager = StandIn::new(&mut w);
    let daemon = Daemon::start(&w.mk);
    manager.wait("READY=1");
    let status = wait_for("a summary", SOON, || {
        manager.next().filter(|t| t.starts_with("STATUS=") && t.contains("1 waiting"))
    });
    assert!(status.starts_with("STATUS=1 account"), "{status}");
    daemon.signal(Signal::HUP);
    let reloading = manager.wait("RELOADING=1");
    let micros = reloading.split_once("MONOTONIC_USEC=").unwrap().1;
    assert!(micros.trim().parse::<u64>().unwrap() > 0);
    manager.wait("READY=1");
    daemon.signal(Signal::TERM);
    manager.wait("STOPPING=1");
    daemon.stop();
}

#[test]
fn the_watchdog_hears_of_work_and_not_of_a_worker_that_hangs() {
    let mut w = World::full();
    let manager = StandIn::new(&mut w);
    w.mk.environment("WATCHDOG_USEC", Some("2000000"));
    // a password file that never ends its first read stops the worker's thread
    let daemon = w.daemon();
    let begun = Instant::now();
    let mut heard = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        heard += u32::from(manager.next().is_some_and(|t| t == "WATCHDOG=1"));
    }
    assert!(heard >= 2, "heard {heard} times");
    // the whole process hangs: nothing is said any more, and systemd would restart it
    daemon.signal(Signal::STOP);
    while manager.next().is_some() {}
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        assert_eq!(manager.next(), None);
    }
    daemon.signal(Signal::CONT);
    manager.wait("WATCHDOG=1");
    daemon.stop();
}

#[test]
fn the_journal_gets_levels_and_no_times() {
    let mut w = World::full();
    w.mk.environment("JOURNAL_STREAM", Some("8:1"));
    let said = w.daemon().stop();
    let lines: Vec<&str> = said.stderr.lines().collect();
    assert!(lines.iter().any(|l| l.starts_with("<6>mailkeep: test: 15 new")), "{}", said.stderr);
    assert!(lines.iter().all(|l| l.starts_with('<')), "{}", said.stderr);
    assert!(!said.text().contains(crate::common::server::PASSWORD));
}
