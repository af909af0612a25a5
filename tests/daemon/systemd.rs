//! What systemd is told, with a stand-in for its socket.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::process::wait_for;
use crate::common::server::PASSWORD;
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
    let daemon = w.daemon();
    let beats = |time: Duration| {
        let begun = Instant::now();
        let mut heard = 0;
        while begun.elapsed() < time {
            heard += u32::from(manager.next().is_some_and(|t| t == "WATCHDOG=1"));
        }
        heard
    };
    assert!(beats(Duration::from_secs(3)) >= 2);
    // a password file whose reading never ends stops the worker's thread, and nothing else
    let password = w.mk.dir().join("password");
    fs::remove_file(&password).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &password,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )
    .unwrap();
    w.proxy.cut_all();
    wait_for("no more signs of life", SOON, || (beats(Duration::from_secs(2)) == 0).then_some(()));
    assert!(live(&w.mk).is_some(), "others are served all the same");
    // it goes on: so does the watchdog
    let mut writer = fs::OpenOptions::new().write(true).open(&password).unwrap();
    fs::remove_file(&password).unwrap();
    w.mk.password(PASSWORD);
    writer.write_all(PASSWORD.as_bytes()).unwrap();
    drop(writer);
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
    assert!(!said.text().contains(PASSWORD));
}
