//! Deletions: under each policy, and what the brake holds.

use std::fs;

use crate::common::dovecot::{Mode, Options};
use crate::common::maildir::deliver;
use crate::common::*;
use crate::world::{World, synced};

/// Synced under these policies.
fn world_with(remote: &str, local: &str) -> World<Dovecot> {
    let mut world = World::new(Dovecot::start());
    world.mk.deletes(remote, local);
    world.mk.sync_ok();
    world.proxy.reset();
    world
}

/// Removes so many files of a folder.
fn remove_here<S: Server>(world: &World<S>, folder: &str, n: usize) -> Vec<LocalMessage> {
    let gone: Vec<_> = world.local(folder).into_iter().take(n).collect();
    assert_eq!(gone.len(), n);
    for m in &gone {
        fs::remove_file(&m.path).unwrap();
    }
    gone
}

#[test]
fn there_under_mirror() {
    for mode in Mode::ALL {
        let world = World::synced(Dovecot::in_mode(mode));
        let uids = world.uids("INBOX");
        world.server.imap().expunge("INBOX", &[uids[0], uids[7], uids[19]]);
        world.mk.sync_ok();
        world.assert_same();
        assert_eq!(world.local("INBOX").len(), 17);
    }
}

#[test]
fn here_under_mirror() {
    for mode in Mode::ALL {
        let world = World::synced(Dovecot::in_mode(mode));
        remove_here(&world, "INBOX", 3);
        world.mk.sync_ok();
        world.assert_same();
        assert_eq!(world.remote("INBOX").len(), 17);
        assert_eq!(world.proxy.count("CLOSE"), 0);
    }
}

#[test]
fn without_uidplus_others_marks_are_respected() {
    let world = World::synced(Dovecot::in_mode(Mode::Plain));
    let uids = world.uids("INBOX");
    // Someone else is about to delete these two.
    world.server.imap().store("INBOX", &uids[18..], "+FLAGS", &["\\Deleted"]);
    let twin = world.twin("INBOX", &world.remote("INBOX")[0]);
    fs::remove_file(twin.path).unwrap();
    let said = world.mk.sync();
    let there = world.remote("INBOX");
    let marked = there.iter().filter(|m| m.flags.contains("\\Deleted")).count();
    assert_eq!((there.len(), marked), (20, 3), "marked and left: {}", said.text());
    let status = world.mk.run(&["status"]);
    assert!(status.text().contains("INBOX"), "a warning: {}", status.text());
}

#[test]
fn here_under_trash() {
    let world = world_with("keep", "trash");
    let gone = remove_here(&world, "Work", 2);
    world.mk.sync_ok();
    assert_eq!(world.remote("Work").len(), 10);
    let trash = world.remote("Trash");
    assert_eq!(trash.len(), 2);
    assert!(gone.iter().all(|g| trash.iter().any(|t| t.hash == g.hash)));
    assert_eq!(world.proxy.count("APPEND"), 0);
    // The local Trash gets them too, or has them after the next pass; then all is as it should be.
    world.mk.sync_ok();
    world.assert_same();
    // What is removed from Trash itself is gone for good.
    remove_here(&world, "Trash", 1);
    world.mk.sync_ok();
    assert_eq!(world.remote("Trash").len(), 1);
    world.assert_same();
}

#[test]
fn here_under_trash_where_there_is_none() {
    let server = Dovecot::with(Options { special_use: false, ..Options::default() });
    let mut world = World::new(server);
    world.mk.deletes("keep", "trash");
    world.mk.sync_ok();
    remove_here(&world, "INBOX", 1);
    world.mk.sync().expect(3);
    let said = world.mk.run(&["status"]).text();
    assert!(said.to_lowercase().contains("trash"), "{said}");
    assert_eq!(world.remote("INBOX").len(), 20);
    // The user names one.
    world.server.imap().create("Papierkorb");
    world.mk.policy("trash", "Papierkorb");
    world.mk.run(&["approve", "test", "1"]).expect(0);
    world.mk.sync_ok();
    assert_eq!(world.remote("INBOX").len(), 19);
    assert_eq!(world.remote("Papierkorb").len(), 1);
}

/// What was in it is kept here. With the first message that goes there it is made again, with its
/// use: what is removed here afterwards has a trash to go to.
#[test]
fn a_trash_that_went_is_made_again_as_one() {
    let mut world = World::new(Cyrus::start());
    world.mk.deletes("keep", "trash");
    world.mk.sync_ok();
    remove_here(&world, "INBOX", 1);
    world.mk.sync_ok();
    assert_eq!(world.remote("Trash").len(), 1);
    world.mk.sync_ok();
    // Cyrus protects what has a use
    world.server.imap().raw("SETMETADATA Trash (/private/specialuse NIL)");
    world.server.imap().delete("Trash");
    world.mk.sync_ok();
    assert_eq!(world.local("Trash").len(), 1);
    maildir::move_file(&world.local("INBOX")[0], &world.mk.folder("Trash"));
    world.mk.sync_ok();
    remove_here(&world, "INBOX", 1);
    world.mk.sync_ok();
    assert_eq!((world.remote("INBOX").len(), world.remote("Trash").len()), (17, 2));
    world.mk.sync_ok();
    assert_eq!(world.local("Trash").len(), 3);
}

/// A server that gives no folder the use that is asked for makes it all the same.
#[test]
fn a_trash_that_went_is_made_again_where_no_use_is_given() {
    // it says so, and cannot
    let capability = Some("IMAP4rev1 UIDPLUS MOVE SPECIAL-USE CREATE-SPECIAL-USE".to_owned());
    let extra = "namespace inbox {\n mailbox Trash {\n special_use = \\Trash\n }\n}\n".to_owned();
    let options = Options { special_use: false, capability, extra, ..Options::default() };
    let mut world = World::new(Dovecot::with(options));
    world.server.imap().create("Trash");
    world.mk.deletes("keep", "trash");
    world.mk.sync_ok();
    world.server.imap().delete("Trash");
    world.mk.sync_ok();
    maildir::move_file(&world.local("INBOX")[0], &world.mk.folder("Trash"));
    world.mk.sync_ok();
    let made = world.changes().into_iter().filter(|c| c.starts_with("CREATE")).collect::<Vec<_>>();
    assert_eq!(made.first().map(String::as_str), Some("CREATE \"Trash\" (USE (\\Trash))"));
    assert_eq!((world.remote("INBOX").len(), world.remote("Trash").len()), (19, 1), "{made:?}");
}

/// Where nothing is moved to it, it is no folder yet.
#[test]
fn a_trash_that_was_named_is_no_folder_before_something_goes_there() {
    let server = Dovecot::with(Options { special_use: false, ..Options::default() });
    let mut world = World::new(server);
    world.mk.deletes("keep", "trash").policy("trash", "Papierkorb");
    world.mk.rule("folders = [\"Work\"]\nlocal_delete = \"mirror\"");
    world.mk.sync_ok();
    remove_here(&world, "Work", 1);
    maildir::move_file(&world.local("INBOX")[0], &world.mk.folder("Work"));
    world.mk.sync_ok();
    assert_eq!((world.remote("INBOX").len(), world.remote("Work").len()), (19, 12));
    let status = world.mk.status().to_string();
    assert!(!status.contains("Papierkorb"), "{status}");
}

#[test]
fn a_trash_that_was_named_is_made() {
    let server = Dovecot::with(Options { special_use: false, ..Options::default() });
    let mut world = World::new(server);
    world.mk.deletes("keep", "trash").policy("trash", "Papierkorb");
    world.mk.sync_ok();
    assert!(!world.server.imap().list().contains(&"Papierkorb".to_owned()), "nothing goes there");
    remove_here(&world, "INBOX", 1);
    world.mk.sync_ok();
    assert_eq!((world.remote("INBOX").len(), world.remote("Papierkorb").len()), (19, 1));
    world.mk.sync_ok();
    // someone deletes it there: what was in it stays here, and what comes next makes it again
    world.server.imap().delete("Papierkorb");
    world.mk.sync_ok();
    remove_here(&world, "INBOX", 1);
    world.mk.sync_ok();
    assert_eq!((world.remote("INBOX").len(), world.remote("Papierkorb").len()), (18, 1));
    world.mk.sync_ok();
    assert_eq!(world.local("Papierkorb").len(), 2);
}

#[test]
fn here_under_keep() {
    let world = world_with("mirror", "keep");
    remove_here(&world, "INBOX", 3);
    for _ in 0..3 {
        world.mk.sync_ok();
        assert_eq!(world.remote("INBOX").len(), 20);
        assert_eq!(world.local("INBOX").len(), 17, "it does not come back");
    }
    assert_eq!(world.changes(), Vec::<String>::new());
}

#[test]
fn kept_mail_stays_kept() {
    let mut world = World::new(Dovecot::start());
    world.mk.deletes("keep", "trash");
    world.mk.sync_ok();
    let gone = world.remote("INBOX")[..3].to_vec();
    let uids: Vec<u32> = gone.iter().map(|m| m.uid).collect();
    world.server.imap().expunge("INBOX", &uids);
    let check = |world: &World<Dovecot>, after: &str| {
        assert_eq!(world.local("INBOX").len(), 20, "here, after {after}");
        assert_eq!(world.remote("INBOX").len(), 17, "there, after {after}");
        for m in &gone {
            world.twin("INBOX", m);
        }
    };
    world.mk.sync_ok();
    check(&world, "the deletion");
    world.mk.sync_ok();
    check(&world, "another pass");
    let kept = world.mk.run(&["kept"]).expect(0);
    for m in &gone {
        assert!(kept.stdout.contains(m.message_id.trim_matches(['<', '>'])), "{}", kept.stdout);
    }
    world.mk.lose_ledger();
    world.mk.sync_ok();
    check(&world, "the loss of the ledger");
    world.server.reset_uidvalidity("INBOX");
    world.mk.sync_ok();
    check(&world, "another UIDVALIDITY");
    world.mk.deletes("mirror", "mirror");
    world.mk.sync_ok();
    check(&world, "a change of policy");
    maildir::move_file(&world.twin("INBOX", &gone[0]), &world.mk.folder("Work"));
    world.mk.sync_ok();
    assert_eq!(world.remote("Work").len(), 12, "moved here, it is still not sent");
    world.twin("Work", &gone[0]);
    // The server has it again.
    let again = fs::read(&world.twin("INBOX", &gone[1]).path).unwrap();
    let again = Letter::new(again, &["\\Seen"], gone[1].date);
    world.server.seed("INBOX", &[again]);
    world.mk.sync_ok();
    assert_eq!(world.local("INBOX").len(), 19, "paired, not doubled");
    assert_eq!(world.remote("INBOX").len(), 18);
}

#[test]
fn kept_mail_copied_and_moved_at_once_stays_kept_twice() {
    let world = world_with("keep", "trash");
    let gone = world.remote("INBOX").remove(0);
    world.server.imap().expunge("INBOX", &[gone.uid]);
    world.mk.sync_ok();
    let m = world.twin("INBOX", &gone);
    maildir::mutt_copy(&m, &world.mk.folder("Work"));
    maildir::move_file(&m, &world.mk.folder("Lists/rust"));
    world.mk.sync_ok();
    let kept = world.mk.run(&["kept"]).expect(0).stdout;
    assert_eq!(kept.lines().count(), 2, "{kept}");
    // New mail makes a pass look at the folders anew.
    for folder in ["Work", "Lists/rust"] {
        maildir::deliver(&world.mk.folder(folder), &world.mint.letter(900 + folder.len()));
    }
    world.mk.sync_ok();
    for (folder, n) in [("INBOX", 19), ("Work", 13), ("Lists/rust", 9)] {
        assert_eq!(world.remote(folder).len(), n, "{folder}");
    }
}

#[test]
fn kept_mail_renamed_while_the_server_gets_it_again() {
    let world = world_with("keep", "trash");
    let gone = world.remote("INBOX").remove(0);
    world.server.imap().expunge("INBOX", &[gone.uid]);
    world.mk.sync_ok();
    let m = world.twin("INBOX", &gone);
    let to = m.path.with_file_name("another.name:2,S");
    fs::rename(&m.path, &to).unwrap();
    let again = Letter::new(fs::read(&to).unwrap(), &["\\Flagged"], gone.date);
    world.server.seed("INBOX", &[again]);
    world.mk.sync_ok();
    world.assert_same();
    assert!(to.with_file_name("another.name:2,FS").exists(), "the flags of both sides");
    let settled = world.files();
    world.proxy.reset();
    world.mk.sync_ok();
    assert_eq!(world.files(), settled);
    assert_eq!(world.changes(), Vec::<String>::new());
}

#[test]
fn purged_from_trash_there_stays_here() {
    let world = world_with("keep", "trash");
    let m = world.remote("INBOX").remove(0);
    world.server.imap().move_to("INBOX", &[m.uid], "Trash");
    world.mk.sync_ok();
    world.twin("Trash", &m);
    let uids = world.uids("Trash");
    world.server.imap().expunge("Trash", &uids);
    world.mk.sync_ok();
    world.twin("Trash", &m);
}

#[test]
fn rules_by_special_use() {
    let mut world = World::new(Dovecot::start());
    world.server.seed("Junk", &world.mint.letters(200..204));
    world.mk.deletes("keep", "trash");
    world.mk.rule("folders = [\"\\\\Junk\"]\nremote_delete = \"mirror\"");
    world.mk.sync_ok();
    for folder in ["Junk", "Work"] {
        let uids = world.uids(folder);
        world.server.imap().expunge(folder, &uids[..2]);
    }
    world.mk.sync_ok();
    assert_eq!(world.local("Junk").len(), 2, "mirrored");
    assert_eq!(world.local("Work").len(), 12, "kept");
}

#[test]
fn where_the_right_to_expunge_is_missing() {
    for mode in Mode::ALL {
        let options = Options { mode, ..Options::default() }.plugin("acl", &["acl = vfile"]);
        let world = World::synced(Dovecot::with(options));
        // Dovecot says OK to the EXPUNGE of the first, and opens the second read-only.
        let limits = [("Work", "owner lrswit\n"), ("Lists/rust", "owner lr\n")];
        for (folder, rights) in limits {
            fs::write(world.server.folder_dir(folder).join("dovecot-acl"), rights).unwrap();
        }
        let gone = remove_here(&world, "Work", 2);
        remove_here(&world, "Lists/rust", 2);
        maildir::set_flags(&world.local("Lists/rust")[0], "FR");
        for _ in 0..2 {
            let said = world.mk.sync();
            assert_eq!(said.status, Some(1), "{mode:?}: {}", said.text());
            assert_eq!(world.remote("Work").len(), 12);
            assert_eq!(world.local("Work").len(), 10, "they do not come back: {}", said.text());
            assert_eq!(world.remote("Lists/rust").len(), 8);
            assert_eq!(world.local("Lists/rust").len(), 6, "nor here: {}", said.text());
        }
        let history = world.mk.run(&["history"]).text();
        assert!(!history.contains("\texpunge\t"), "nothing was deleted yet: {history}");
        for (folder, _) in limits {
            fs::remove_file(world.server.folder_dir(folder).join("dovecot-acl")).unwrap();
        }
        world.mk.sync_ok();
        world.mk.sync_ok();
        world.assert_same();
        assert_eq!(world.remote("Work").len(), 10, "{mode:?}");
        assert!(gone.iter().all(|g| world.remote("Work").iter().all(|m| m.hash != g.hash)));
        assert_eq!(world.remote("Lists/rust").len(), 6, "{mode:?}");
    }
}

#[test]
fn every_deletion_has_a_reason_in_the_history() {
    let world = synced();
    let uids = world.uids("INBOX");
    let id = world.remote("INBOX")[0].message_id.clone();
    world.server.imap().expunge("INBOX", &uids[..1]);
    world.mk.sync_ok();
    let said = world.mk.run(&["history", "--message-id", &id]).expect(0);
    assert!(said.stdout.contains("INBOX"), "{}", said.text());
    let other = world.mk.run(&["history", "--message-id", "<nobody@nowhere>"]).expect(0);
    assert!(!other.stdout.contains("INBOX"));
}

#[test]
fn the_brake_holds_and_approve_lets_go() {
    let world = World::empty(Dovecot::start());
    world.server.seed("INBOX", &world.mint.letters(0..60));
    world.server.seed("Work", &world.mint.letters(60..64));
    world.mk.sync_ok();
    remove_here(&world, "INBOX", 45);
    // What is not held goes on.
    maildir::deliver(&world.mk.folder("Work"), &world.mint.letter(100));
    world.mk.sync().expect(3);
    assert_eq!(world.remote("INBOX").len(), 60);
    assert_eq!(world.remote("Work").len(), 5);
    let json = world.mk.status();
    let account = &json["accounts"][0];
    assert_eq!(account["state"], "held", "{json:#}");
    let folders = account["folders"].as_array().unwrap();
    let inbox = folders.iter().find(|f| f["name"] == "INBOX").unwrap();
    assert_eq!(inbox["held"], 45, "{json:#}");
    world.mk.sync().expect(3);
    assert_eq!(world.remote("INBOX").len(), 60);

    world.mk.run(&["approve", "test", "1"]).expect(0);
    world.mk.sync_ok();
    assert_eq!(world.remote("INBOX").len(), 15);
    world.assert_same();
}

#[test]
fn the_brake_holds_and_reject_fetches_again() {
    let world = World::empty(Dovecot::start());
    world.server.seed("INBOX", &world.mint.letters(0..60));
    world.mk.sync_ok();
    remove_here(&world, "INBOX", 45);
    world.mk.sync().expect(3);
    world.mk.run(&["reject", "test", "1"]).expect(0);
    world.mk.sync_ok();
    world.assert_same();
    assert_eq!(world.local("INBOX").len(), 60);
}

#[test]
fn the_brake_holds_what_was_deleted_there() {
    let world = World::empty(Dovecot::start());
    world.server.seed("INBOX", &world.mint.letters(0..60));
    world.mk.sync_ok();
    let uids = world.uids("INBOX");
    world.server.imap().expunge("INBOX", &uids[..45]);
    world.mk.sync().expect(3);
    assert_eq!(world.local("INBOX").len(), 60);
    // Rejected: everything stays, as kept, and is not sent.
    world.mk.run(&["reject", "test", "1"]).expect(0);
    world.mk.sync_ok();
    assert_eq!(world.local("INBOX").len(), 60);
    assert_eq!(world.remote("INBOX").len(), 15);
}

#[test]
fn slices_of_one_rm_are_braked_as_one() {
    let world = World::empty(Dovecot::start());
    world.server.seed("INBOX", &world.mint.letters(0..60));
    world.mk.sync_ok();
    let mut last = Some(0);
    for _ in 0..7 {
        remove_here(&world, "INBOX", 8);
        last = world.mk.sync().status;
    }
    assert_eq!(last, Some(3));
    let left = world.remote("INBOX").len();
    assert!(left >= 30, "{left} of 60 are left there");
}

#[test]
fn moves_are_never_braked() {
    let world = World::empty(Dovecot::start());
    world.server.seed("INBOX", &world.mint.letters(0..60));
    world.server.seed("Work", &world.mint.letters(60..64));
    world.mk.sync_ok();
    for m in world.local("INBOX") {
        maildir::move_file(&m, &world.mk.folder("Work"));
    }
    world.mk.sync_ok();
    world.assert_same();
    let uids = world.uids("Work");
    world.server.imap().move_to("Work", &uids, "INBOX");
    world.mk.sync_ok();
    world.assert_same();
    assert_eq!(world.local("INBOX").len(), 64);
}

#[test]
fn a_folder_deleted_there() {
    for (remote, here) in [("mirror", false), ("keep", true)] {
        let mut world = World::new(Dovecot::start());
        world.mk.deletes(remote, "trash");
        world.mk.sync_ok();
        world.server.imap().delete("Lists/rust");
        world.mk.sync_ok();
        world.mk.sync_ok();
        let listed = world.server.imap().list();
        assert!(!listed.contains(&"Lists/rust".to_owned()), "it is not made again");
        let dir = world.mk.folder("Lists/rust/cur");
        assert_eq!(dir.is_dir(), here, "under {remote}");
        if here {
            assert_eq!(world.local("Lists/rust").len(), 8);
        }
    }
}

/// What cannot be removed is told of, and is no work for every pass (I5).
#[test]
fn a_folder_that_cannot_go() {
    let world = synced();
    let marker = || fs::read(world.mk.maildir().join(".mailkeep")).unwrap();
    let link = world.mk.folder("Lists/rust/cur/link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    world.server.imap().delete("Lists/rust");
    let said = world.mk.sync_ok();
    assert!(said.text().contains("rust/cur/link is no message"), "{}", said.text());
    assert!(link.is_symlink());
    let before = marker();
    world.mk.sync_ok();
    assert_eq!(marker(), before);
    fs::remove_file(&link).unwrap();
    world.mk.sync_ok();
    assert!(!world.mk.folder("Lists/rust").exists());
    // one that was removed here stays there for the folder below it
    world.server.imap().create("a");
    world.server.seed("a/b", &world.mint.letters(900..901));
    world.mk.sync_ok();
    for sub in ["cur", "new", "tmp"] {
        fs::remove_dir(world.mk.folder("a").join(sub)).unwrap();
    }
    world.mk.sync_ok();
    let before = marker();
    world.mk.sync_ok();
    assert_eq!(marker(), before);
    assert_eq!(world.local("a/b").len(), 1);
}

/// Dovecot goes on listing it for the sake of the folder below it, and refuses everything else.
#[test]
fn a_folder_deleted_there_with_one_below_it() {
    for (mode, policy, left) in [
        (Mode::Full, "mirror", None),
        (Mode::Condstore, "keep", Some(3)),
        (Mode::Plain, "mirror", None),
    ] {
        let mut world = World::new(Dovecot::in_mode(mode));
        world.server.seed("Lists", &world.mint.letters(100..103));
        world.mk.deletes(policy, "mirror");
        world.mk.sync_ok();
        world.server.imap().delete("Lists");
        let first = world.uids("Work")[0];
        world.server.imap().expunge("Work", &[first]);
        for _ in 0..2 {
            world.mk.sync_ok();
            let here = world.mk.folder("Lists/cur").is_dir().then(|| world.local("Lists").len());
            assert_eq!(here, left, "{mode:?}, under {policy}");
            assert_eq!(world.local("Lists/rust").len(), 8);
            let work = if policy == "mirror" { 11 } else { 12 };
            assert_eq!(world.local("Work").len(), work, "it holds up no other folder");
        }
        // and whatever is put there makes it again
        maildir::make_folder(&world.mk.folder("Lists"));
        maildir::deliver(&world.mk.folder("Lists"), &world.mint.letter(200));
        world.mk.sync_ok();
        assert_eq!(world.remote("Lists").len(), 1, "{mode:?}");
    }
}

#[test]
fn kept_mail_fetched_once_more_stays_kept() {
    let mut world = World::new(Dovecot::start());
    world.mk.deletes("keep", "mirror");
    world.mk.rule("folders = [\"Work\"]\nremote_delete = \"mirror\"");
    world.mk.sync_ok();
    let letter = world.remote("INBOX").swap_remove(0);
    let file = world.twin("INBOX", &letter);
    world.server.imap().expunge("INBOX", &[letter.uid]);
    world.mk.sync_ok();
    let uids = world.uids("Work");
    // the server has it again, in a folder that mirrors; and here it was deleted
    let date = file.date;
    let body = fs::read(&file.path).unwrap();
    fs::remove_file(&file.path).unwrap();
    world.server.imap().append("Work", &Letter::new(body, &[], date));
    world.mk.sync_ok();
    let there = world.remote("Work").into_iter().find(|m| !uids.contains(&m.uid)).unwrap();
    let again = world.twin("Work", &there);
    world.server.imap().expunge("Work", &[there.uid]);
    world.mk.sync_ok();
    assert!(again.path.exists(), "kept mail stays kept");
}

#[test]
fn what_is_put_back_unites_its_flags_with_the_server_s() {
    for to in ["INBOX", "Work"] {
        let world = world_with("mirror", "keep");
        let letter = world.remote("INBOX").swap_remove(0);
        world.server.imap().store("INBOX", &[letter.uid], "FLAGS", &["\\Seen", "\\Flagged"]);
        world.mk.sync_ok();
        let file = world.twin("INBOX", &letter);
        let body = fs::read(&file.path).unwrap();
        fs::remove_file(&file.path).unwrap();
        world.mk.sync_ok();
        deliver(&world.mk.folder(to), &Letter::new(body, &["\\Answered"], file.date));
        world.mk.sync_ok();
        world.assert_same();
        let again = world.remote(to).into_iter().find(|m| m.hash == letter.hash).unwrap();
        let flags: Vec<&str> = again.flags.iter().map(String::as_str).collect();
        assert_eq!(flags, ["\\Answered", "\\Flagged", "\\Seen"]);
    }
}

/// What was kept, and came to the Trash on the server while its file was put elsewhere, stays kept
/// there, too.
#[test]
fn kept_mail_that_passes_through_the_trash_keeps_its_keep() {
    let mut world = World::new(Dovecot::start());
    world.mk.deletes("keep", "trash");
    world.mk.rule("folders = [\"Work\"]\nremote_delete = \"mirror\"");
    world.mk.sync_ok();
    let letter = world.mint.letter(0);
    let is_it = |m: &RemoteMessage| m.hash == letters::hash(&letter.body);
    let m = world.remote("INBOX").into_iter().find(is_it).expect("it is there");
    world.server.imap().expunge("INBOX", &[m.uid]);
    world.mk.sync_ok();
    world.server.imap().append("Trash", &letter);
    maildir::move_file(&world.twin("INBOX", &m), &world.mk.folder("Work"));
    world.mk.sync_ok();
    world.mk.sync_ok();
    assert_eq!((world.remote("Trash").len(), world.remote("Work").len()), (0, 13));
    let there = world.remote("Work").into_iter().find(is_it).expect("it is there");
    world.server.imap().expunge("Work", &[there.uid]);
    world.mk.sync_ok();
    world.twin("Work", &m);
}
