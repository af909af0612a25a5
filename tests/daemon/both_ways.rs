//! Changes on either side show on the other, by push and by the watcher, and end there.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::maildir::{deliver, make_folder, move_file, set_flags};
use crate::common::process::wait_for;
use crate::common::*;
use crate::world::*;

fn every_change_crosses(w: &World) {
    let daemon = w.daemon();
    let mut imap = w.server.imap();

    // arrival, flag, move and deletion there
    imap.append("INBOX", &w.mint.letter(100));
    wait_for("the arrival", SOON, || (w.local("INBOX").len() == 11).then_some(()));
    imap.select("INBOX");
    let uids: Vec<u32> = w.remote("INBOX").iter().map(|m| m.uid).collect();
    imap.store("INBOX", &uids[..2], "+FLAGS", &["\\Flagged"]);
    w.wait_same();
    imap.move_to("INBOX", &uids[2..4], "Work");
    wait_for("the move", SOON, || (w.local("Work").len() == 7).then_some(()));
    imap.expunge("INBOX", &uids[4..5]);
    w.wait_same();

    // the same here
    deliver(&w.mk.folder("INBOX"), &w.mint.letter(101));
    wait_for("the upload", SOON, || (w.remote("INBOX").len() == 9).then_some(()));
    w.wait_same();
    let mine = w.local("INBOX");
    set_flags(&mine[0], "FS");
    wait_for("the flags", SOON, || {
        let all = w.remote("INBOX");
        let it = all.iter().find(|m| m.hash == mine[0].hash)?;
        (it.flags.contains("\\Flagged") && it.flags.contains("\\Seen")).then_some(())
    });
    move_file(&w.local("INBOX")[1], &w.mk.folder("Work"));
    wait_for("the move", SOON, || (w.remote("Work").len() == 8).then_some(()));
    fs::remove_file(&w.local("INBOX")[2].path).unwrap();
    wait_for("the deletion", SOON, || (w.remote("INBOX").len() == 7).then_some(()));
    w.wait_same();

    // folders, too
    imap.create("Neu/Ünter");
    w.server.seed("Neu/Ünter", &w.mint.letters(102..104));
    wait_for("a folder from there", SOON, || (w.local("Neu/Ünter").len() == 2).then_some(()));
    make_folder(&w.mk.folder("Mine"));
    deliver(&w.mk.folder("Mine"), &w.mint.letter(105));
    wait_for("a folder from here", SOON, || {
        let there = imap.list().contains(&"Mine".to_owned());
        (there && imap.count("Mine") == 1).then_some(())
    });
    w.wait_same();
    daemon.stop();
    assert_same(&w.server, w.mk.maildir());
}

#[test]
fn with_notify() {
    let w = World::full();
    every_change_crosses(&w);
    assert!(w.proxy.count("NOTIFY") >= 1, "{:#?}", w.proxy.commands());
}

/// IDLE tells of INBOX alone; the rest is polled.
#[test]
fn with_idle_and_polling() {
    let mut w = World::new(Options { mode: Mode::Condstore, ..Options::default() });
    w.mk.set("poll_interval", "1s");
    every_change_crosses(&w);
    assert!(w.proxy.count("IDLE") >= 1, "{:#?}", w.proxy.commands());
}

#[test]
fn with_polling_alone() {
    let mut w = World::new(Options { mode: Mode::Plain, ..Options::default() });
    w.mk.set("poll_interval", "1s");
    every_change_crosses(&w);
}

#[test]
fn push_is_quick_and_a_young_file_is_not_waited_for() {
    let w = World::full();
    let daemon = w.daemon();
    let mut up = Vec::new();
    let mut imap = w.server.imap();
    for i in 0..7 {
        let begun = Instant::now();
        let mut letter = w.mint.letter(200 + i);
        // a file that is as young as its name
        letter.date =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
                as i64;
        deliver(&w.mk.folder("INBOX"), &letter);
        wait_for("the upload", SOON, || (imap.count("INBOX") as usize == 11 + i).then_some(()));
        up.push(begun.elapsed());
    }
    up.sort_unstable();
    // waiting until a file is a second old would be seen in every one of them
    assert!(up[0] < Duration::from_millis(900), "{up:?}");
    daemon.stop();
}

#[test]
fn a_burst_of_renames_is_few_commands() {
    let w = World::new(Options::default());
    w.server.seed("Many", &w.mint.letters(1000..3000));
    let daemon = w.daemon();
    w.proxy.reset();
    let begun = Instant::now();
    for m in w.local("Many") {
        set_flags(&m, "S");
    }
    let mut imap = w.server.imap();
    imap.select("Many");
    wait_for("all are seen", SOON, || {
        let said = imap.raw("SEARCH UNSEEN");
        said.iter().any(|l| l.trim() == "* SEARCH").then_some(())
    });
    let took = begun.elapsed();
    w.wait_same();
    let stores = w.proxy.count("UID STORE");
    assert!(stores <= 30, "{stores} STOREs");
    assert!(took < Duration::from_secs(10), "{took:?}");
    daemon.stop();
}

/// What changes while a pass runs leads to another one.
#[test]
fn a_change_during_a_pass_is_not_lost() {
    let w = World::full();
    let daemon = w.daemon();
    let letters = w.mint.letters(300..340);
    for pair in letters.chunks(2) {
        w.server.seed("INBOX", &pair[..1]);
        deliver(&w.mk.folder("Work"), &pair[1]);
    }
    wait_for("all of it", SOON, || {
        let here = w.local("INBOX").len() == 30 && w.local("Work").len() == 25;
        here.then_some(())
    });
    w.wait_same();
    daemon.stop();
}

/// Folders are looked into one after the other: a move to Trash may be seen to arrive in one pass
/// and to go in the next.
#[test]
fn what_arrives_in_the_trash_and_goes_afterwards_was_moved() {
    let mut w = World::full();
    w.mk.deletes("keep", "trash");
    let daemon = w.daemon();
    let mut imap = w.server.imap();
    let (m, other) = (w.remote("INBOX").remove(0), w.remote("INBOX").remove(1));
    imap.copy("INBOX", &[m.uid], "Trash");
    wait_for("the copy", SOON, || (w.local("Trash").len() == 1).then_some(()));
    imap.expunge("INBOX", &[m.uid, other.uid]);
    wait_for("one that is kept, and one that moved", SOON, || {
        let status = w.mk.status();
        let folders = status["accounts"][0]["folders"].as_array()?;
        let kept = &folders.iter().find(|f| f["name"] == "INBOX")?["kept"];
        (*kept == 1 && w.local("INBOX").len() == 9).then_some(())
    });
    assert!(w.local("INBOX").iter().all(|l| l.hash != m.hash), "it is in the trash");
    assert!(w.local("INBOX").iter().any(|l| l.hash == other.hash), "that one went");
    assert_eq!((w.local("Trash").len(), w.local("Trash")[0].hash), (1, m.hash));
    daemon.stop();
}
