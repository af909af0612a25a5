//! Moves and copies, both ways: not a byte of mail is sent again.

use crate::common::dovecot::Mode;
use crate::common::letters::hash;
use crate::common::maildir::{deliver, move_file, mutt_copy, mutt_save};
use crate::common::*;
use crate::world::{FOLDERS, World, contents, synced};

#[test]
fn moved_there() {
    for (remote, local) in [("mirror", "mirror"), ("keep", "trash")] {
        let mut world = World::new(Dovecot::start());
        world.mk.deletes(remote, local);
        world.mk.sync_ok();
        world.proxy.reset();
        let moved = world.remote("INBOX")[..5].to_vec();
        let inodes: Vec<u64> = moved.iter().map(|m| world.twin("INBOX", m).inode).collect();
        let uids: Vec<u32> = moved.iter().map(|m| m.uid).collect();
        world.server.imap().move_to("INBOX", &uids, "Work");
        world.mk.sync_ok();
        world.assert_same();
        world.assert_no_bodies();
        let now: Vec<u64> = moved.iter().map(|m| world.twin("Work", m).inode).collect();
        assert_eq!(now, inodes, "the same files, under {remote}");
    }
}

#[test]
fn a_folder_renamed_there() {
    let world = synced();
    let inodes = world.inodes("Lists/rust");
    world.server.imap().rename("Lists/rust", "Archive/2020/rust");
    world.mk.sync_ok();
    world.assert_same();
    world.assert_no_bodies();
    assert_eq!(world.inodes("Archive/2020/rust"), inodes);
}

/// Found by pairing, without MAILBOXID, with it, and with the messages' own ids (Cyrus).
fn renamed_with_much_in_it<S: Server>(server: S, n: usize) {
    let world = World::empty(server);
    world.server.seed("Old", &world.mint.letters(0..n));
    world.mk.sync_ok();
    let inodes = world.inodes("Old");
    assert_eq!(inodes.len(), n);
    world.proxy.reset();
    world.server.imap().rename("Old", "Newer");
    world.mk.sync_ok();
    world.assert_no_bodies();
    assert_eq!(world.changes(), Vec::<String>::new());
    assert_eq!(world.inodes("Newer"), inodes);
    assert!(!world.mk.folder("Old").exists());

    world.proxy.reset();
    std::fs::rename(world.mk.folder("Newer"), world.mk.folder("Newest")).unwrap();
    world.mk.sync_ok();
    world.assert_no_bodies();
    assert_eq!(world.inodes("Newest"), inodes);
    let there = world.remote("Newest");
    assert_eq!(there.len(), n);
    world.assert_same();
}

#[test]
fn a_large_folder_renamed_on_dovecot() {
    renamed_with_much_in_it(Dovecot::start(), 2000);
}

#[test]
fn a_large_folder_renamed_on_cyrus() {
    renamed_with_much_in_it(Cyrus::start(), 300);
}

#[test]
fn moved_here_by_mv() {
    for mode in Mode::ALL {
        let world = World::synced(Dovecot::in_mode(mode));
        for m in &world.local("INBOX")[..5] {
            move_file(m, &world.mk.folder("Work"));
        }
        world.mk.sync_ok();
        world.assert_same();
        world.assert_no_bodies();
        assert_eq!(world.remote("INBOX").len(), 15);
        if mode != Mode::Plain {
            assert!(world.proxy.count("UID MOVE") > 0, "{:#?}", world.proxy.commands());
        }
    }
}

/// As go-imap's memory store does. Courier does not know the command.
#[test]
fn where_move_is_offered_and_refused() {
    let mut world = World::synced(Courier::offering("MOVE"));
    world.mk.deletes("mirror", "trash").policy("trash", "Trash");
    let here = world.local("INBOX");
    for m in &here[..5] {
        move_file(m, &world.mk.folder("Work"));
    }
    std::fs::remove_file(&here[5].path).unwrap();
    world.mk.sync_ok();
    assert!(world.proxy.count("UID MOVE") > 0, "{:#?}", world.proxy.commands());
    for pass in 0..2 {
        world.assert_same();
        assert_eq!(world.remote("INBOX").len(), 14, "{pass}");
        assert_eq!(world.remote("Work").len(), 17, "{pass}");
        assert_eq!(world.remote("Trash").len(), 1, "{pass}");
        assert_eq!(world.proxy.count("APPEND"), 0, "{pass}");
        world.proxy.reset();
        world.mk.sync_ok();
        assert_eq!(world.changes(), Vec::<String>::new(), "{pass}");
    }
}

#[test]
fn saved_elsewhere_by_mutt() {
    let world = synced();
    let before = world.remote("INBOX");
    for m in &world.local("INBOX")[..5] {
        mutt_save(m, &world.mk.folder("Work"));
    }
    world.mk.sync_ok();
    assert_eq!(world.proxy.count("APPEND"), 0, "{:#?}", world.proxy.commands());
    assert_eq!(world.remote("INBOX").len(), 15);
    assert_eq!(world.remote("Work").len(), 17);
    // There it is the same message as ever.
    let all = [world.remote("INBOX"), world.remote("Work")].concat();
    let there = contents(all.iter().map(|m| &m.hash));
    for m in before {
        assert!(there.contains(m.hash.as_bytes()));
    }
    let settled = world.files();
    world.mk.sync_ok();
    assert_eq!(world.files(), settled, "and that is the end of it");
    assert_eq!(world.remote("Work").len(), 17);
}

#[test]
fn saved_in_two_steps_is_one_move() {
    let world = synced();
    let m = &world.local("INBOX")[0];
    mutt_copy(m, &world.mk.folder("Work"));
    world.mk.sync_ok();
    assert_eq!(world.remote("Work").len(), 13, "a copy, so far");
    assert_eq!(world.remote("INBOX").len(), 20);
    // The reader removes the original on quitting.
    std::fs::remove_file(&m.path).unwrap();
    world.mk.sync_ok();
    assert_eq!(world.remote("Work").len(), 13);
    assert_eq!(world.remote("INBOX").len(), 19, "and now it is a move");
    assert_eq!(world.remote("Trash").len(), 0);
    assert_eq!(world.proxy.count("APPEND"), 0);
}

#[test]
fn copied_here() {
    for mode in Mode::ALL {
        let world = World::synced(Dovecot::in_mode(mode));
        for m in &world.local("INBOX")[..3] {
            let body = std::fs::read(&m.path).unwrap();
            let flags: Vec<&str> = m.flags.iter().map(String::as_str).collect();
            deliver(&world.mk.folder("Work"), &Letter::new(body, &flags, m.date));
        }
        world.mk.sync_ok();
        world.assert_same();
        world.assert_no_bodies();
        assert!(world.proxy.count("UID COPY") > 0, "{:#?}", world.proxy.commands());
        assert_eq!(world.remote("INBOX").len(), 20);
        assert_eq!(world.remote("Work").len(), 15);
    }
}

#[test]
fn moved_on_both_sides() {
    let world = synced();
    let all = world.remote("INBOX");
    // To the same folder.
    let (a, b) = (&all[0], &all[1]);
    world.server.imap().move_to("INBOX", &[a.uid], "Work");
    move_file(&world.twin("INBOX", a), &world.mk.folder("Work"));
    // To different ones: the local place wins.
    world.server.imap().move_to("INBOX", &[b.uid], "Work");
    move_file(&world.twin("INBOX", b), &world.mk.folder("Lists/rust"));
    world.mk.sync_ok();
    world.assert_same();
    world.assert_no_bodies();
    world.twin("Work", a);
    world.twin("Lists/rust", b);
    let total: usize = FOLDERS.iter().map(|(f, _)| world.remote(f).len()).sum();
    assert_eq!(total, FOLDERS.iter().map(|(_, n)| n).sum::<usize>());
}

/// Moved on one side, and copied to the same folder on the other: two were asked for.
#[test]
fn moved_on_one_side_and_copied_on_the_other() {
    for mode in Mode::ALL {
        let world = World::synced(Dovecot::in_mode(mode));
        let all = world.remote("INBOX");
        let (a, b) = (&all[0], &all[1]);
        world.server.imap().copy("INBOX", &[a.uid], "Work");
        move_file(&world.twin("INBOX", a), &world.mk.folder("Work"));
        mutt_copy(&world.twin("INBOX", b), &world.mk.folder("Work"));
        world.server.imap().move_to("INBOX", &[b.uid], "Work");
        world.mk.sync_ok();
        let there = world.remote("Work");
        for m in [a, b] {
            assert_eq!(there.iter().filter(|r| r.hash == m.hash).count(), 2, "{mode:?}");
        }
        assert_eq!((world.remote("INBOX").len(), there.len()), (18, 16), "{mode:?}");
        assert_eq!((world.local("INBOX").len(), world.local("Work").len()), (18, 16), "{mode:?}");
        world.proxy.reset();
        world.mk.sync_ok();
        assert_eq!(world.changes(), Vec::<String>::new());
    }
}

#[test]
fn moved_there_and_deleted_here() {
    let world = synced();
    let m = world.remote("INBOX").remove(0);
    std::fs::remove_file(world.twin("INBOX", &m).path).unwrap();
    world.server.imap().move_to("INBOX", &[m.uid], "Work");
    world.mk.sync_ok();
    world.assert_same();
    world.twin("Work", &m);
}

#[test]
fn moved_there_and_put_back_here() {
    let mut world = World::new(Dovecot::start());
    world.mk.deletes("keep", "keep");
    world.mk.sync_ok();
    let m = world.remote("INBOX").remove(0);
    let path = world.twin("INBOX", &m).path;
    let aside = world.mk.dir().join("aside");
    std::fs::rename(&path, &aside).unwrap();
    world.mk.sync_ok();
    assert_eq!(world.remote("INBOX").len(), 20, "it stays there");
    world.server.imap().move_to("INBOX", &[m.uid], "Work");
    std::fs::rename(&aside, &path).unwrap();
    world.mk.sync_ok();
    world.assert_same();
    world.twin("INBOX", &m);
}

/// A copy made by `cp` has its original's name. Both come to stand in one folder there.
#[test]
fn a_copy_with_its_original_s_name_is_moved_to_it() {
    // as the copy follows, and as the local place wins
    for moved_here in [false, true] {
        let world = synced();
        let m = &world.local("INBOX")[0];
        let copy = world.mk.folder("Work").join("cur").join(format!("{}:2,FRS", m.base));
        std::fs::copy(&m.path, &copy).unwrap();
        maildir::set_mtime(&copy, m.date);
        assert_ne!(copy.file_name(), m.path.file_name(), "other flags");
        world.mk.sync_ok();
        let there = world.remote("Work");
        let there = there.iter().find(|r| r.hash == m.hash).expect("a copy");
        world.server.imap().move_to("Work", &[there.uid], "INBOX");
        if moved_here {
            std::fs::rename(&copy, world.mk.folder("Lists/rust").join("cur/mine:2,FRS")).unwrap();
        }
        world.mk.sync_ok();
        world.assert_same();
        let (inbox, list) = (world.remote("INBOX"), world.remote("Lists/rust"));
        let n = |all: &[_]| all.iter().filter(|r: &&RemoteMessage| r.hash == m.hash).count();
        assert_eq!((n(&inbox), n(&list)), if moved_here { (1, 1) } else { (2, 0) });
        world.assert_no_bodies();
        let history = world.mk.run(&["history"]).expect(0).stdout;
        assert!(!history.contains("\tunlink\t"), "{history}");
    }
}

/// Only its name says what it was. It is the user's own now, with the same Message-ID and Date.
#[test]
fn edited_and_moved_here() {
    for mode in Mode::ALL {
        let world = World::synced(Dovecot::in_mode(mode));
        let m = world.local("INBOX")[0].clone();
        let to = move_file(&m, &world.mk.folder("Work"));
        let mut edited = std::fs::read(&to).unwrap();
        edited.extend_from_slice(b"a note of my own\n");
        std::fs::write(&to, &edited).unwrap();
        let plan = world.mk.run(&["sync", "--dry-run"]).expect(0).stdout;
        assert!(plan.contains("upload") && plan.contains("expunge"), "both effects: {plan}");
        world.mk.sync_ok();
        world.assert_same();
        assert_eq!(world.remote("INBOX").len(), FOLDERS[0].1 - 1);
        assert_eq!(world.remote("Work").len(), FOLDERS[1].1 + 1);
        let mark = hash(&edited);
        assert_eq!(world.remote("Work").iter().filter(|r| r.hash == mark).count(), 1);
        assert_eq!(std::fs::read(&to).unwrap(), edited);
        assert!(world.mk.run(&["kept"]).stdout.trim().is_empty());
    }
}

/// The original waits, and what is the user's own now does not.
#[test]
fn edited_and_moved_here_out_of_a_folder_that_is_left_alone() {
    let mut world = synced();
    world.mk.set_raw("exclude", r#"["Lists/*"]"#);
    world.mk.sync_ok();
    let to = move_file(&world.local("Lists/rust")[0], &world.mk.folder("Work"));
    let mut edited = std::fs::read(&to).unwrap();
    edited.extend_from_slice(b"a note of my own\n");
    std::fs::write(&to, &edited).unwrap();
    world.mk.sync_ok();
    assert_eq!((world.remote("Lists/rust").len(), world.remote("Work").len()), (8, 13));
    assert!(world.mk.run(&["kept"]).stdout.trim().is_empty());
    // selected again, it is an ordinary deletion
    world.mk.unset("exclude");
    world.mk.sync_ok();
    world.assert_same();
    assert_eq!((world.remote("Lists/rust").len(), world.remote("Work").len()), (7, 13));
}

#[test]
fn a_whole_folder_moved_here() {
    let world = synced();
    let from = world.mk.folder("Lists/rust");
    std::fs::create_dir(world.mk.folder("Old")).unwrap();
    std::fs::rename(from, world.mk.folder("Old/rust")).unwrap();
    world.mk.sync_ok();
    world.assert_no_bodies();
    assert_eq!(world.remote("Old/rust").len(), 8);
    let left = world.server.imap().list().contains(&"Lists/rust".to_owned());
    assert!(!left || world.remote("Lists/rust").is_empty());
}
