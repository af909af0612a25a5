//! Flags and keywords, both ways.

use std::collections::BTreeSet;

use crate::common::maildir::set_flags;
use crate::common::*;
use crate::world::{World, synced};

fn flags_of(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|f| (*f).to_owned()).collect()
}

#[test]
fn set_and_cleared_there() {
    let world = synced();
    let inodes = world.inodes("INBOX");
    let uids = world.uids("INBOX");
    let mut imap = world.server.imap();
    imap.store("INBOX", &uids[..5], "FLAGS", &["\\Flagged", "\\Draft"]);
    imap.store("INBOX", &uids[5..8], "FLAGS", &[]);
    imap.store("INBOX", &uids[8..9], "FLAGS", &["\\Answered", "\\Seen"]);
    world.mk.sync_ok();
    world.assert_same();
    assert_eq!(world.inodes("INBOX"), inodes, "renamed, not written anew");
    world.assert_no_bodies();
    assert_eq!(world.changes(), Vec::<String>::new());
}

#[test]
fn set_and_cleared_here() {
    let world = synced();
    let here = world.local("INBOX");
    for m in &here[..4] {
        set_flags(m, "FRS");
    }
    for m in &here[4..7] {
        set_flags(m, "");
    }
    world.mk.sync_ok();
    world.assert_same();
    world.assert_no_bodies();
    let changes = world.changes();
    assert!(changes.iter().all(|c| c.starts_with("UID STORE")), "{changes:#?}");
    let relative = |c: &String| c.contains("+FLAGS") || c.contains("-FLAGS");
    assert!(changes.iter().all(relative), "never the whole set: {changes:#?}");
    assert!(changes.len() <= 8, "by the set, not by the message: {changes:#?}");
}

#[test]
fn changes_on_both_sides_meet() {
    let world = synced();
    let all = world.remote("Work");
    let m = &all[0];
    world.server.imap().store("Work", &[m.uid], "FLAGS", &["\\Seen"]);
    world.mk.sync_ok();
    // Both change the same message: one flag is set there, another here, and one is taken away.
    world.server.imap().store("Work", &[m.uid], "+FLAGS", &["\\Flagged"]);
    set_flags(&world.twin("Work", m), "R");
    world.mk.sync_ok();
    world.assert_same();
    let now = world.twin("Work", m);
    assert_eq!(now.flags, flags_of(&["\\Answered", "\\Flagged"]));
}

#[test]
fn keywords() {
    let world = synced();
    let all = world.remote("INBOX");
    let mut imap = world.server.imap();
    imap.store("INBOX", &[all[0].uid], "+FLAGS", &["$Forwarded", "$Junk", "todo"]);
    imap.store("INBOX", &[all[1].uid], "+FLAGS", &["todo"]);
    world.mk.sync_ok();
    world.assert_same();
    let twin = world.twin("INBOX", &all[1]);
    let (_, info) = twin.path.to_str().unwrap().split_once(":2,").unwrap();
    let letter = info.chars().find(char::is_ascii_lowercase).expect("a letter for todo");

    // The other way round, by its letter and by P.
    let other = world.twin("INBOX", &all[2]);
    set_flags(&other, &format!("PS{letter}"));
    let cleared = world.twin("INBOX", &all[0]);
    set_flags(&cleared, "S");
    world.mk.sync_ok();
    world.assert_same();
    let there = world.remote("INBOX");
    let now = |hash| &there.iter().find(|m| m.hash == hash).unwrap().flags;
    assert_eq!(now(all[2].hash), &flags_of(&["$Forwarded", "\\Seen", "todo"]));
    assert_eq!(now(all[0].hash), &flags_of(&["\\Seen"]));
}

/// `mv` knows nothing of letters: they mean what they meant in the folder where they were given.
#[test]
fn a_plain_move_keeps_the_keywords() {
    for copy in [false, true] {
        let world = synced();
        let inbox = world.remote("INBOX");
        let work = world.uids("Work");
        let mut imap = world.server.imap();
        imap.store("INBOX", &[inbox[0].uid, inbox[1].uid], "+FLAGS", &["todo"]);
        imap.store("Work", &work[..1], "+FLAGS", &["urgent"]);
        world.mk.sync_ok();
        for (m, to) in [(&inbox[0], "Work"), (&inbox[1], "Lists/rust")] {
            let here = world.twin("INBOX", m);
            if copy {
                let to = world.mk.folder(to).join("cur").join(here.path.file_name().unwrap());
                std::fs::copy(&here.path, &to).unwrap();
                maildir::set_mtime(&to, here.date);
            } else {
                maildir::move_file(&here, &world.mk.folder(to));
            }
        }
        world.mk.sync_ok();
        world.mk.sync_ok();
        for (m, to) in [(&inbox[0], "Work"), (&inbox[1], "Lists/rust")] {
            let there = world.remote(to).into_iter().find(|t| t.hash == m.hash).unwrap();
            assert!(there.flags.contains("todo"), "copied: {copy}, {to}: {:?}", there.flags);
            assert!(!there.flags.contains("urgent"), "copied: {copy}: {:?}", there.flags);
        }
        world.assert_same();
        assert_eq!(world.proxy.count("APPEND"), 0);
    }
}

#[test]
fn a_lost_keywords_file_loses_no_keyword() {
    let world = synced();
    let uids = world.uids("INBOX");
    world.server.imap().store("INBOX", &uids[..6], "+FLAGS", &["todo", "$Junk"]);
    world.mk.sync_ok();
    let file = world.mk.folder("INBOX/dovecot-keywords");
    let text = std::fs::read_to_string(&file).unwrap();
    let here = world.local("INBOX");
    std::fs::remove_file(&file).unwrap();
    set_flags(here.iter().find(|m| !m.flags.contains("todo")).unwrap(), "FS");
    world.mk.sync_ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "restored");
    world.assert_same();
    // Another program's file gives the letters other meanings.
    std::fs::write(&file, "0 other\n1 another\n").unwrap();
    world.mk.sync_ok();
    world.mk.sync_ok();
    world.assert_same();
    let left = world.remote("INBOX").iter().filter(|m| m.flags.contains("todo")).count();
    assert_eq!(left, 6);
}

#[test]
fn a_lost_keywords_file_is_back_after_a_pass_in_which_nothing_changed() {
    let world = synced();
    let uids = world.uids("INBOX");
    world.server.imap().store("INBOX", &uids[..6], "+FLAGS", &["todo", "$Junk"]);
    world.mk.sync_ok();
    world.mk.sync_ok();
    let file = world.mk.folder("INBOX/dovecot-keywords");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let before = world.files();
    world.mk.sync_ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert_eq!(world.files(), before);
    world.assert_same();
}

#[test]
fn letters_nobody_knows_survive() {
    let world = synced();
    let m = world.remote("INBOX").remove(0);
    let file = set_flags(&world.twin("INBOX", &m), "Sxy");
    world.mk.sync_ok();
    assert!(file.exists(), "not renamed away from its letters");
    world.server.imap().store("INBOX", &[m.uid], "+FLAGS", &["\\Flagged"]);
    world.mk.sync_ok();
    let name = world.twin("INBOX", &m).path;
    assert!(name.to_str().unwrap().ends_with(":2,FSxy"), "{}", name.display());
}

#[test]
fn deleted_is_not_taken_over_under_keep() {
    let mut world = World::new(Dovecot::start());
    world.mk.deletes("keep", "trash");
    world.mk.sync_ok();
    let m = world.remote("INBOX").remove(0);
    world.server.imap().store("INBOX", &[m.uid], "+FLAGS", &["\\Deleted"]);
    world.mk.sync_ok();
    assert!(!world.twin("INBOX", &m).flags.contains("\\Deleted"), "a reader would purge it");
    // Nor does a T of the reader go there, unless local_delete is mirror.
    let other = world.remote("INBOX").remove(1);
    set_flags(&world.twin("INBOX", &other), "ST");
    world.mk.sync_ok();
    let there = world.remote("INBOX");
    let now = there.iter().find(|m| m.hash == other.hash).unwrap();
    assert!(!now.flags.contains("\\Deleted"));
}
