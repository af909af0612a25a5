//! Servers that go away, refuse, fall silent or lie about push; disks and maildirs that are not there.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::disk::{SmallDisk, can_mount};
use crate::common::letters::simple;
use crate::common::maildir::deliver;
use crate::common::process::{is_root, wait_for};
use crate::common::proxy::Faults;
use crate::common::scripted::{Script, Step, send};
use crate::common::*;
use crate::world::*;

#[test]
fn a_server_that_restarts_is_found_again_within_seconds() {
    let mut w = World::full();
    // through no proxy, which would answer for it
    w.mk.port(w.server.port());
    let daemon = w.daemon();
    w.server.stop();
    let state = wait_state(&w.mk, "backoff");
    assert!(state["error"].as_str().unwrap().contains("localhost"), "{state:#}");
    deliver(&w.mk.folder("INBOX"), &w.mint.letter(20));
    w.server.restart();
    let begun = Instant::now();
    wait_state(&w.mk, "waiting");
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    w.wait_same();
    w.server.seed("Work", &w.mint.letters(21..22));
    wait_for("push again", SOON, || (w.local("Work").len() == 6).then_some(()));
    let said = daemon.stop();
    // once a failure, not once a try
    assert!(said.stderr.matches("refused the connection").count() <= 1, "{}", said.stderr);
    assert!(said.stderr.contains("works again"), "{}", said.stderr);
}

#[test]
fn cut_connections_lose_and_double_nothing() {
    let w = World::full();
    let daemon = w.daemon();
    for i in 0..6 {
        w.server.seed("INBOX", &w.mint.letters(30 + i..31 + i));
        deliver(&w.mk.folder("Work"), &w.mint.letter(50 + i));
        w.proxy.cut_all();
    }
    wait_for("all of it", SOON, || {
        let here = w.local("INBOX").len() == 16 && w.local("Work").len() == 11;
        here.then_some(())
    });
    w.wait_same();
    // cut in the midst of commands, too
    w.proxy.set(Faults { cut_on: Some("APPEND".into()), cut_answer: true, ..Faults::default() });
    w.proxy.cut_all();
    deliver(&w.mk.folder("Work"), &w.mint.letter(60));
    wait_for("a cut", SOON, || (w.proxy.cuts() > 0).then_some(()));
    w.proxy.set(Faults::default());
    w.proxy.cut_all();
    wait_for("the upload", SOON, || (w.remote("Work").len() == 12).then_some(()));
    w.wait_same();
    daemon.stop();
}

#[test]
fn a_refused_password_parks_the_account_after_two_tries() {
    let w = World::full();
    w.mk.password("wrong");
    let daemon = Daemon::start(&w.mk);
    let first = wait_state(&w.mk, "backoff");
    assert!(first["error"].as_str().unwrap().contains("refused the login"), "{first:#}");
    // a person asks, and it is refused again
    let said = w.mk.sync().expect(1);
    assert!(said.stderr.contains("refused the login"), "{}", said.text());
    // by itself it tries once more, and no third time; the wait in between is 20 s
    let parked = wait_for("parked", Duration::from_secs(60), || {
        live(&w.mk).map(|l| l.0).filter(|a| a["state"] == "parked")
    });
    assert!(parked["until"].is_null());
    let refused = w.server.refused_logins();
    let text = w.mk.run(&["status"]).expect(0).stdout;
    assert!(text.contains("parked") && text.contains("sync test"), "{text}");
    // the password is right now: a reload tries it, and nothing did before
    w.mk.password(crate::common::server::PASSWORD);
    w.mk.run(&["reload"]).expect(0);
    wait_state(&w.mk, "waiting");
    w.wait_same();
    assert_eq!(w.server.refused_logins(), refused);
    daemon.stop();
}

/// The wait between the two tries is 20 s, and a person who mended the password need not sit it out.
#[test]
fn a_reload_tries_a_mended_password_at_once() {
    let w = World::full();
    w.mk.password("wrong");
    let daemon = Daemon::start(&w.mk);
    wait_state(&w.mk, "backoff");
    w.mk.password(crate::common::server::PASSWORD);
    w.mk.run(&["reload"]).expect(0);
    let begun = Instant::now();
    wait_state(&w.mk, "waiting");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    daemon.stop();
}

/// Half-open: the peer is there, and nothing comes any more.
#[test]
fn the_end_comes_in_time_even_in_a_pass_that_hangs() {
    let w = World::full();
    let daemon = w.daemon();
    w.proxy.set(Faults { stall_down: Some(3000), ..Faults::default() });
    w.proxy.cut_all();
    w.server.seed("INBOX", &w.mint.letters(30..60));
    wait_state(&w.mk, "syncing");
    daemon.stop();
    w.proxy.set(Faults::default());
    w.mk.sync_ok();
    assert_same(&w.server, w.mk.maildir());
}

#[test]
fn a_maildir_that_is_not_there_has_a_state_and_is_found_again() {
    let w = World::full();
    let daemon = w.daemon();
    let away = w.mk.dir().join("away");
    fs::rename(w.mk.maildir(), &away).unwrap();
    let state = wait_state(&w.mk, "maildir-missing");
    assert!(state["error"].as_str().unwrap().contains("mail"), "{state:#}");
    assert_eq!(w.remote("INBOX").len(), 10);
    // an empty directory is no maildir of ours either
    fs::create_dir(w.mk.maildir()).unwrap();
    let said = w.mk.sync().expect(1);
    assert!(said.stderr.contains("not the one that was synced"), "{}", said.text());
    fs::remove_dir(w.mk.maildir()).unwrap();
    fs::rename(&away, w.mk.maildir()).unwrap();
    wait_for("waiting", Duration::from_secs(60), || {
        live(&w.mk).map(|l| l.0).filter(|a| a["state"] == "waiting")
    });
    w.server.seed("INBOX", &w.mint.letters(80..81));
    wait_for("the arrival", SOON, || (w.local("INBOX").len() == 11).then_some(()));
    w.wait_same();
    daemon.stop();
}

/// It says so, with what to do, cuts no message short, and goes on by itself when there is room.
#[test]
fn a_full_disk_has_a_state_and_room_ends_it() {
    let mut w = World::full();
    let small = SmallDisk::mount(&w.mk.dir().join("small"), "1m");
    if let Some(disk) = &small {
        fs::create_dir(disk.path.join("mail")).unwrap();
        w.mk.set_maildir(&disk.path.join("mail"));
    } else {
        // nobody but root may mount: there a limit on the size of files stands for the disk
        assert!(!is_root() || !can_mount(), "root can mount, and did not");
    }
    let soft = ["--fsize=2000000:", "env", "--ignore-signal=XFSZ"];
    let limits = if small.is_some() { &[][..] } else { &soft };
    let daemon = Daemon::over(w.mk.start_limited(&["run"], limits));
    daemon.wait_calm(&w.mk);
    let big = simple("<big@test>", "big", &"0123456789abcdef\r\n".repeat(200_000));
    w.server.imap().append_all("Work", &[Letter::new(big, &["\\Seen"], 1_600_000_000)]);
    if small.is_some() {
        let state = wait_state(&w.mk, "disk-full");
        let error = state["error"].as_str().unwrap();
        assert!(error.contains("make room"), "{error}");
        assert!(w.mk.run(&["status"]).text().contains("disk full"));
    } else {
        wait_for("an error", SOON, || live(&w.mk).filter(|l| l.0["error"].is_string()).map(|_| ()));
    }
    let there: Vec<_> = w.remote("Work").iter().map(|m| m.hash).collect();
    assert!(w.local("Work").iter().all(|m| there.contains(&m.hash)), "cut short");
    match &small {
        Some(disk) => disk.grow("64m"),
        None => {
            let pid = format!("--pid={}", daemon.pid());
            let mut lift = process::command("prlimit", None);
            assert!(lift.args([&pid, "--fsize=unlimited:"]).status().unwrap().success());
        }
    }
    wait_for("the rest", Duration::from_secs(90), || (w.local("Work").len() == 6).then_some(()));
    w.wait_same();
    daemon.stop();
}

/// An account that hangs does not hold up another.
#[test]
fn accounts_do_not_wait_for_one_another() {
    let w = World::full();
    let deaf = scripted::Scripted::start(Script::greeting([Step::Hang]));
    let root = w.mk.dir().join("other");
    let other = format!(
        "\n[accounts.other]\nprotocol = \"imap\"\nhost = \"localhost\"\nport = {}\nuser = \"u\"\n\
         tls = \"none\"\npassword_file = \"{}\"\nmaildir = \"{}\"\n",
        deaf.port(),
        w.mk.dir().join("password").display(),
        root.display()
    );
    let file = w.mk.dir().join("two.toml");
    mailkeep::write_private(&file, &format!("{}{other}", w.mk.config()));
    let daemon = Running::start({
        let mut c = process::command(mailkeep::program(), None);
        c.arg("--config").arg(&file).arg("run").env("HOME", w.mk.dir());
        c
    });
    wait_for("the one that works", SOON, || {
        let (account, all) = live(&w.mk)?;
        let hangs = all["accounts"]["other"]["state"] == "syncing";
        (hangs && account["state"] == "waiting" && account["passes"].as_u64()? >= 2).then_some(())
    });
    for i in 0..3 {
        w.server.seed("INBOX", &w.mint.letters(90 + i..91 + i));
        wait_for("the arrival", SOON, || (w.local("INBOX").len() == 11 + i).then_some(()));
    }
    let begun = Instant::now();
    let pid = rustix::process::Pid::from_raw(daemon.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    daemon.wait(Duration::from_secs(600)).expect(0);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_server_that_says_bye_is_left_alone_for_a_while() {
    let bye = "* BYE [UNAVAILABLE] Too busy, try again in 5 minutes\r\n";
    let server = scripted::Scripted::start(Script::greeting([send(bye), Step::Close]));
    let mk = Mailkeep::to_port(server.port());
    let daemon = Daemon::start(&mk);
    let state = wait_state(&mk, "backoff");
    assert!(state["error"].as_str().unwrap().contains("try again in 5 minutes"), "{state:#}");
    let wait = state["until"].as_i64().unwrap() - state["since"].as_i64().unwrap();
    assert!((299..=301).contains(&wait), "{wait} s");
    daemon.stop();
}

/// NOTIFY is accepted, and then nothing is told. A poll finds what it should have told.
#[test]
fn push_that_does_not_tell_is_demoted() {
    let mut w = World::full();
    w.mk.set("poll_interval", "1s");
    let daemon = w.daemon();
    wait_for("push by NOTIFY", SOON, || {
        (live(&w.mk)?.0["push"]["INBOX"] == "notify").then_some(())
    });
    // what comes right after news is looked for anyway
    settle(&w.mk, Duration::from_secs(2));
    w.proxy.mute("NOTIFY");
    w.server.seed("INBOX", &w.mint.letters(40..41));
    wait_for("the arrival, by a poll", SOON, || (w.local("INBOX").len() == 11).then_some(()));
    wait_for("the demotion", SOON, || {
        let account = live(&w.mk)?.0;
        (account["push"]["INBOX"] == "poll" && account["notes"][0].is_string()).then_some(())
    });
    daemon.stop();
}

/// How many messages the hook was told of, in all.
fn told(file: &std::path::Path) -> usize {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|l| l.parse::<usize>().expect("a number")).sum()
}

/// The next pass finds it no news: whoever waits for the hook would never learn of it.
#[test]
fn mail_that_a_failed_pass_brought_is_told() {
    for daemon in [false, true] {
        let mut w = World::new(Options { compress: false, ..Options::default() });
        w.server.seed("INBOX", &w.mint.letters(100..160));
        let file = w.mk.dir().join("hook");
        let hook = format!("{{ new_mail = 'echo $MAILKEEP_NEW >> {}' }}", file.display());
        w.mk.set_raw("hooks", &hook);
        w.proxy.set(Faults { cut_down: Some(200_000), ..Faults::default() });
        let inbox = |w: &World| w.local("INBOX").len() + w.local("Work").len();
        if !daemon {
            let said = w.mk.sync().expect(1).text();
            let here = inbox(&w);
            assert!((10..75).contains(&here), "{here}: {said}");
            assert_eq!(told(&file), here, "{said}");
            w.proxy.set(Faults::default());
            w.mk.sync_ok();
            assert_eq!((inbox(&w), told(&file)), (75, 75));
            continue;
        }
        let running = Daemon::start(&w.mk);
        let first =
            wait_for("the hook of a failed pass", SOON, || Some(told(&file)).filter(|n| *n > 0));
        assert!(first < 75, "all came at once");
        w.proxy.set(Faults::default());
        wait_for("all of it", SOON, || (told(&file) == 75).then_some(()));
        assert_eq!(inbox(&w), 75);
        running.stop();
    }
}
