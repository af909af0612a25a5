//! Flags and keywords, both ways.

use std::collections::BTreeSet;

use crate::common::dovecot::Options;
use crate::common::maildir::set_flags;
use crate::common::proxy::Faults;
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

/// What is struck out of the server's PERMANENTFLAGS, so that the rest is left.
fn striking(hide: &str) -> Faults {
    Faults { hide: hide.to_owned(), ..Faults::default() }
}

fn by_hash(all: &[RemoteMessage], hash: blake3::Hash) -> BTreeSet<String> {
    all.iter().find(|m| m.hash == hash).expect("it is there").flags.clone()
}

/// go-imap sends `PERMANENTFLAGS (\*)`, and stores the system flags all the same.
#[test]
fn a_server_that_names_no_system_flag_stores_them() {
    let world = World::new(Dovecot::start());
    world.proxy.set(striking("\\Answered \\Flagged \\Deleted \\Seen \\Draft "));
    world.mk.sync_ok();
    let here = world.local("INBOX");
    here[..3].iter().for_each(|m| drop(set_flags(m, "FRS")));
    for _ in 0..3 {
        world.mk.sync_ok();
        world.assert_same();
    }
    let all = flags_of(&["\\Answered", "\\Flagged", "\\Seen"]);
    let there = world.remote("INBOX");
    assert!(here[..3].iter().all(|m| by_hash(&there, m.hash) == all));
}

#[test]
fn what_the_server_does_not_store_stays_here_until_it_does() {
    for mode in Mode::ALL {
        let options = Options { mode, ..Options::default() };
        let world = World::synced(Dovecot::with(options));
        world.proxy.set(striking("\\Flagged \\Deleted \\Seen "));
        let m = world.remote("INBOX").into_iter().find(|m| m.flags.is_empty()).unwrap();
        let seen = world.remote("INBOX").into_iter().find(|m| m.flags.contains("\\Seen")).unwrap();
        set_flags(&world.twin("INBOX", &m), "FRS");
        set_flags(&world.twin("INBOX", &seen), "");
        let new = world.mint.letter(900);
        let new = Letter::new(new.body, &["\\Flagged", "\\Seen"], new.date);
        maildir::deliver(&world.mk.folder("INBOX"), &new);
        let new = letters::hash(&new.body);
        let all = flags_of(&["\\Answered", "\\Flagged", "\\Seen"]);
        for round in 0..3 {
            let said = world.mk.sync().expect(0);
            assert!(said.text().contains("3 changes wait: the server does not store"), "{said:?}");
            assert_eq!(world.twin("INBOX", &m).flags, all, "{mode:?} {round}");
            assert_eq!(world.twin("INBOX", &seen).flags, flags_of(&[]), "{mode:?} {round}");
            let there = world.remote("INBOX");
            assert_eq!(by_hash(&there, m.hash), flags_of(&["\\Answered"]), "{mode:?} {round}");
            let sent = there.iter().find(|t| t.hash == new).unwrap();
            assert_eq!(sent.flags, flags_of(&[]));
            assert_eq!(world.twin("INBOX", sent).flags, flags_of(&["\\Flagged", "\\Seen"]));
            // what the server has to say is heard all the same
            let flag = ["+FLAGS", "-FLAGS"][round % 2];
            world.server.imap().store("INBOX", &[sent.uid], flag, &["\\Draft"]);
            world.mk.sync().expect(0);
            let twin = world.twin("INBOX", sent).flags;
            assert_eq!(twin.contains("\\Draft"), flag == "+FLAGS", "{mode:?} {round}");
            assert!(twin.is_superset(&flags_of(&["\\Flagged", "\\Seen"])), "{mode:?} {round}");
            world.server.imap().store("INBOX", &[sent.uid], "-FLAGS", &["\\Draft"]);
        }
        let history = world.mk.run(&["history"]).text();
        assert!(!history.contains("flags there: \\Flagged"), "{history}");
        world.proxy.set(Faults::default());
        world.mk.sync_ok();
        world.assert_same();
        let there = world.remote("INBOX");
        assert_eq!(by_hash(&there, m.hash), all, "{mode:?}");
        assert_eq!(by_hash(&there, seen.hash), flags_of(&[]), "{mode:?}");
        assert_eq!(by_hash(&there, new), flags_of(&["\\Flagged", "\\Seen"]), "{mode:?}");
    }
}

/// The rights `s` and `w` of an access control list (RFC 4314 4).
#[test]
fn flags_wait_for_the_right_to_store_them() {
    for mode in Mode::ALL {
        let options = Options { mode, ..Options::default() }.plugin("acl", &["acl = vfile"]);
        let world = World::synced(Dovecot::with(options));
        let rights = world.server.folder_dir("Work").join("dovecot-acl");
        std::fs::write(&rights, "owner lrip\n").unwrap();
        let m = world.remote("Work").remove(0);
        set_flags(&world.twin("Work", &m), "FRS");
        // the server drops the flags of what is copied there
        let moved = world.remote("INBOX").remove(0);
        let file = set_flags(&world.twin("INBOX", &moved), "FS");
        world.mk.sync_ok();
        let name = file.file_name().unwrap();
        std::fs::rename(&file, world.mk.folder("Work").join("cur").join(name)).unwrap();
        for _ in 0..3 {
            world.mk.sync().expect(0);
            let all = flags_of(&["\\Answered", "\\Flagged", "\\Seen"]);
            assert_eq!(world.twin("Work", &m).flags, all, "{mode:?}");
            let both = flags_of(&["\\Flagged", "\\Seen"]);
            assert_eq!(world.twin("Work", &moved).flags, both, "{mode:?}");
        }
        assert_ne!(by_hash(&world.remote("Work"), m.hash), world.twin("Work", &m).flags);
        std::fs::remove_file(&rights).unwrap();
        world.mk.sync_ok();
        world.assert_same();
        assert!(by_hash(&world.remote("Work"), m.hash).contains("\\Seen"), "{mode:?}");
        assert!(by_hash(&world.remote("Work"), moved.hash).contains("\\Flagged"), "{mode:?}");
    }
}
