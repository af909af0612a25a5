//! Orders to a running daemon, and clients that do not know how.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::maildir::deliver;
use crate::common::process::wait_for;
use crate::common::*;
use crate::world::*;

#[test]
fn sync_asks_the_daemon_and_prints_what_it_did() {
    let w = World::full();
    let daemon = w.daemon();
    let said = w.mk.sync_ok();
    assert!(said.stdout.starts_with("test: 0 new, 0 sent"), "{}", said.text());
    let said = w.mk.run(&["sync", "--dry-run"]).expect(0);
    assert!(said.stderr.contains("nothing to do"), "{}", said.text());
    let said = w.mk.run(&["sync", "--folder", "Work"]).expect(0);
    assert!(said.stdout.starts_with("test: "), "{}", said.text());
    let text = w.mk.run(&["status"]).expect(0).stdout;
    assert!(text.contains(&format!("daemon: process {}", daemon.pid())), "{text}");
    assert!(text.contains("now: waiting since") && text.contains("notify"), "{text}");
    let json = w.mk.status();
    let account = &json["accounts"][0];
    assert_eq!(account["live"]["state"], "waiting");
    assert_eq!(account["folders"][0]["push"], "notify");
    daemon.stop();
    let json = w.mk.status();
    assert!(json["daemon"].is_null() && json["accounts"][0]["live"].is_null(), "{json:#}");
}

#[test]
fn a_second_daemon_says_who_runs_and_a_killed_one_is_followed() {
    let w = World::full();
    let first = w.daemon();
    let second = w.mk.run(&["run"]).expect(1);
    assert!(second.stderr.contains(&format!("process {}", first.pid())), "{}", second.text());
    first.kill();
    assert!(w.mk.dir().join("runtime/control").exists());
    w.daemon().stop();
    assert!(!w.mk.dir().join("runtime/control").exists());
}

/// Its lock and its directory may go along: there still is one daemon.
#[test]
fn a_socket_that_was_removed_is_made_again() {
    let w = World::full();
    let daemon = w.daemon();
    let runtime = w.mk.dir().join("runtime");
    let removals: [&dyn Fn() -> std::io::Result<()>; 2] =
        [&|| fs::remove_file(runtime.join("control")), &|| fs::remove_dir_all(&runtime)];
    for remove in removals {
        remove().unwrap();
        wait_for("the socket", SOON, || live(&w.mk));
        let mode = fs::metadata(runtime.join("control")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = w.mk.run(&["run"]).expect(1);
        assert!(second.stderr.contains(&format!("process {}", daemon.pid())), "{}", second.text());
    }
    w.mk.sync_ok();
    daemon.stop();
    assert!(!runtime.join("control").exists());
}

#[test]
fn without_a_daemon_there_is_nobody_to_order() {
    let w = World::full();
    for args in [&["reload"][..], &["pause", "test"], &["resume", "test"]] {
        let said = w.mk.run(args).expect(1);
        assert!(said.stderr.contains("mailkeep run"), "{}", said.text());
    }
    assert!(w.mk.run(&["pause", "nobody"]).expect(2).stderr.contains("test"));
}

#[test]
fn garbage_harms_nothing() {
    let w = World::full();
    let mut daemon = w.daemon();
    let socket = w.mk.dir().join("runtime/control");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let huge = vec![b'x'; 1 << 20];
    let deep = [b'['; 60_000];
    for bytes in [&b""[..], b"\0\xff\n", b"{\"do\":\"rm\"}\n", b"{}\n", &huge, &deep, b"status\n"] {
        let mut s = UnixStream::connect(&socket).unwrap();
        // it may hang up before it has read all
        let _ = s.write_all(bytes);
        let _ = s.shutdown(std::net::Shutdown::Write);
        let mut out = String::new();
        let _ = s.read_to_string(&mut out);
        assert!(out.is_empty() || out.contains("\"is\":\"failed\""), "{out}");
    }
    // those who say nothing are hung up on, and meanwhile others are served
    let silent: Vec<_> = (0..20).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    assert!(live(&w.mk).is_some());
    let begun = Instant::now();
    for mut s in silent {
        s.set_read_timeout(Some(SOON)).unwrap();
        let mut out = Vec::new();
        s.read_to_end(&mut out).unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let unknown = ask(&w.mk, br#"{"do":"pause","account":"nobody"}"#).unwrap();
    assert_eq!(String::from_utf8(unknown).unwrap().trim(), r#"{"is":"unknown-account"}"#);
    assert!(daemon.is_running());
    daemon.stop();
}

#[test]
fn many_who_say_nothing_keep_nobody_waiting() {
    let w = World::full();
    let mut daemon = w.daemon();
    let socket = w.mk.dir().join("runtime/control");
    let silent: Vec<_> = (0..300).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for _ in 0..10 {
        let begun = Instant::now();
        assert!(live(&w.mk).is_some());
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    drop(silent);
    assert!(daemon.is_running());
    daemon.stop();
}

#[test]
fn a_paused_account_rests_until_it_is_resumed() {
    let w = World::full();
    let daemon = w.daemon();
    w.mk.run(&["pause", "test"]).expect(0);
    wait_state(&w.mk, "paused");
    w.server.seed("INBOX", &w.mint.letters(60..61));
    deliver(&w.mk.folder("INBOX"), &w.mint.letter(61));
    let text = w.mk.run(&["status"]).expect(0).stdout;
    assert!(text.contains("paused") && text.contains("resume test"), "{text}");
    assert_eq!((w.local("INBOX").len(), w.remote("INBOX").len()), (11, 11));
    w.mk.run(&["resume", "test"]).expect(0);
    wait_for("both", SOON, || (w.local("INBOX").len() == 12).then_some(()));
    w.wait_same();
    daemon.stop();
}

#[test]
fn a_hold_is_decided_beside_the_daemon() {
    let mut w = World::full();
    w.mk.policy_raw("brake", "{ percent = 50, messages = 3 }");
    let daemon = w.daemon();
    for m in &w.local("INBOX")[..8] {
        fs::remove_file(&m.path).unwrap();
    }
    wait_state(&w.mk, "held");
    assert_eq!(w.remote("INBOX").len(), 10);
    let said = w.mk.sync().expect(3);
    assert!(said.stdout.contains("8 held"), "{}", said.text());
    let hold = w.mk.status()["accounts"][0]["holds"][0]["number"].as_i64().unwrap();
    assert_eq!(w.mk.run(&["approve", "test", "99"]).status, Some(2));
    let said = w.mk.run(&["approve", "test", &hold.to_string()]).expect(0);
    assert!(said.stderr.contains("the daemon"), "{}", said.text());
    wait_for("the deletions", SOON, || (w.remote("INBOX").len() == 2).then_some(()));
    wait_state(&w.mk, "waiting");
    w.wait_same();
    daemon.stop();
}

#[test]
fn a_reload_takes_over_what_changed_and_refuses_what_is_wrong() {
    let mut w = World::full();
    let daemon = w.daemon();
    let passes = |w: &World| live(&w.mk).unwrap().0["passes"].as_u64().unwrap();
    // nothing changed: the worker goes on
    let before = passes(&w);
    let said = w.mk.run(&["reload"]).expect(0);
    assert!(said.stderr.contains("1 accounts as before"), "{}", said.text());
    assert!(passes(&w) >= before);
    // an invalid one changes nothing, and says where it is wrong
    let config = w.mk.config();
    mailkeep::write_private(&w.mk.config_path(), &config.replace("protocol", "protokoll"));
    let said = String::from_utf8(ask(&w.mk, br#"{"do":"reload"}"#).unwrap()).unwrap();
    assert!(said.contains("\"failed\"") && said.contains("config.toml"), "{said}");
    w.server.seed("INBOX", &w.mint.letters(70..71));
    wait_for("the arrival", SOON, || (w.local("INBOX").len() == 11).then_some(()));
    // SIGHUP, and a folder is no longer mirrored
    w.mk.set_raw("exclude", "[\"Work\"]");
    mailkeep::write_private(&w.mk.config_path(), &w.mk.config());
    daemon.signal(Signal::HUP);
    wait_for("a new worker", SOON, || {
        let push = live(&w.mk)?.0["push"].as_object()?.clone();
        (push.contains_key("INBOX") && !push.contains_key("Work")).then_some(())
    });
    w.server.seed("Work", &w.mint.letters(71..72));
    w.server.seed("INBOX", &w.mint.letters(72..73));
    wait_for("the arrival", SOON, || (w.local("INBOX").len() == 12).then_some(()));
    assert_eq!(w.local("Work").len(), 5);
    daemon.stop();
}

#[test]
fn status_is_shown_in_place_again_and_again() {
    let w = World::full();
    let daemon = w.daemon();
    let watching = w.mk.start(&["status", "--watch"]);
    let said = watching.kill_after(Duration::from_millis(2600));
    let times = said.stdout.matches("daemon: process").count();
    assert!((2..=4).contains(&times), "{times}: {}", said.text());
    daemon.stop();
}
