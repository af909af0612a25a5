//! When what ties both sides together is gone, they are paired again: nothing is downloaded,
//! uploaded, doubled or deleted.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::dovecot::Mode;
use crate::common::process::{as_ordinary_user, find_program};
use crate::common::*;
use crate::world::{FOLDERS, World, contents, synced};

#[test]
fn a_lost_ledger() {
    for mode in Mode::ALL {
        let world = World::synced(Dovecot::in_mode(mode));
        let before = world.files();
        world.mk.lose_ledger();
        world.mk.sync_ok();
        world.assert_same();
        assert_eq!(world.files(), before);
        world.assert_no_bodies();
        assert_eq!(world.changes(), Vec::<String>::new());
        // And from there it goes on as ever.
        let uids = world.uids("INBOX");
        world.server.imap().expunge("INBOX", &uids[..2]);
        fs::remove_file(&world.local("Work")[0].path).unwrap();
        world.mk.sync_ok();
        world.assert_same();
    }
}

#[test]
fn a_lost_ledger_and_equal_copies() {
    let world = World::empty(Dovecot::start());
    let one = world.mint.letter(0);
    let same_id = |text| Letter::new(letters::simple("<x@test>", "s", text), &[], 1_600_000_000);
    let letters = [one.clone(), one, same_id("one\r\n"), same_id("two\r\n"), same_id("one\r\n")];
    world.server.imap().append_all("INBOX", &letters);
    world.server.imap().append_all("Work", &letters[1..4]);
    world.mk.sync_ok();
    world.assert_same();
    let before = world.files();
    world.mk.lose_ledger();
    world.mk.sync_ok();
    world.assert_same();
    assert_eq!(world.files(), before);
    assert_eq!(world.changes(), Vec::<String>::new());
}

/// Courier ends the last line of what is sent without one. Nothing else tells these messages.
#[test]
fn a_lost_ledger_and_a_server_that_adds_a_line_end() {
    let world = World::empty(Courier::start());
    world.mk.sync_ok();
    let bare = [("one", "no end"), ("two", "nor here"), ("three", "an end\r\n")];
    for (subject, text) in bare {
        let body = format!("From: a@example.org\r\nSubject: {subject}\r\n\r\n{text}");
        let letter = Letter::new(body, &["\\Seen"], 1_600_000_000);
        maildir::deliver(&world.mk.folder("INBOX"), &letter);
    }
    world.mk.sync_ok();
    let there = world.server.imap().bodies("INBOX");
    assert!(there.iter().all(|(_, b)| b.ends_with(b"\r\n")), "this server does not do that");
    let (here, there) = (world.files(), world.uids("INBOX"));
    assert_eq!((here.len(), there.len()), (3, 3));
    world.mk.lose_ledger();
    for _ in 0..2 {
        world.mk.sync_ok();
        assert_eq!(world.files(), here, "not held, not fetched again");
        assert_eq!(world.uids("INBOX"), there);
    }
}

#[test]
fn flags_unite_after_the_loss_of_the_ledger() {
    let world = synced();
    let m = world.remote("INBOX").remove(0);
    world.server.imap().store("INBOX", &[m.uid], "FLAGS", &["\\Seen"]);
    world.mk.sync_ok();
    world.mk.lose_ledger();
    maildir::set_flags(&world.twin("INBOX", &m), "R");
    world.server.imap().store("INBOX", &[m.uid], "FLAGS", &["\\Flagged"]);
    world.mk.sync_ok();
    world.assert_same();
    let now = world.twin("INBOX", &m).flags;
    assert!(now.contains("\\Answered") && now.contains("\\Flagged"), "{now:?}");
}

/// What readdir missed while a directory changed is not fetched a second time.
#[test]
fn a_maildir_that_keeps_changing_in_the_first_pass() {
    let world = synced();
    world.mk.lose_ledger();
    world.server.imap().append_all("INBOX", &world.mint.letters(900..902));
    world.server.imap().append_all("Work", &world.mint.letters(902..904));
    let dir = world.mk.folder("INBOX/cur");
    std::fs::write(dir.join(".0"), "").unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        let renames = s.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                // no message, but nothing tells that no message was renamed
                let name = |n: u32| dir.join(format!(".{n}"));
                std::fs::rename(name(n), name(n + 1)).unwrap();
                n += 1;
            }
            std::fs::remove_file(dir.join(format!(".{n}"))).unwrap();
        });
        let said = world.mk.sync().text();
        stop.store(true, Ordering::Relaxed);
        renames.join().unwrap();
        assert_eq!((world.local("INBOX").len(), world.local("Work").len()), (20, 14), "{said}");
    });
    world.mk.sync_ok();
    world.assert_same();
    assert_eq!(world.local("INBOX").len(), 22);
}

#[test]
fn other_uids_in_every_folder() {
    for mode in Mode::ALL {
        let mut world = World::synced(Dovecot::in_mode(mode));
        let before = world.files();
        for (folder, _) in FOLDERS {
            world.server.reset_uidvalidity(folder);
        }
        world.mk.sync_ok();
        world.assert_same();
        assert_eq!(world.files(), before);
        world.assert_no_bodies();
        assert_eq!(world.changes(), Vec::<String>::new());
    }
}

#[test]
fn other_uids_while_mail_was_moved_and_removed() {
    let mut world = synced();
    world.server.reset_uidvalidity("INBOX");
    let all = world.remote("INBOX");
    world.server.imap().expunge("INBOX", &[all[0].uid]);
    world.server.imap().append_all("INBOX", &world.mint.letters(900..903));
    maildir::set_flags(&world.twin("INBOX", &all[1]), "FRS");
    world.mk.sync_ok();
    world.mk.sync_ok();
    // What found no pair may be a message that a renumbering lost: it is kept, whatever the policy.
    world.twin("INBOX", &all[0]);
    assert_eq!(world.local("INBOX").len(), 23);
    assert_eq!(world.remote("INBOX").len(), 22);
    assert!(world.remote("INBOX").iter().any(|m| m.flags.contains("\\Answered")));
    std::fs::remove_file(world.twin("INBOX", &all[0]).path).unwrap();
    world.mk.sync_ok();
    world.assert_same();
}

#[test]
fn a_maildir_written_by_mbsync() {
    let server = Dovecot::with(Options { special_use: false, ..Options::default() });
    let mut world = World::empty(server);
    for (i, (folder, n)) in FOLDERS.iter().enumerate() {
        world.server.seed(folder, &world.mint.letters(100 * i..100 * i + n));
    }
    mbsync(&world);
    assert_eq!(world.local("INBOX").len(), 20);
    let before: Vec<_> = FOLDERS[..3].iter().map(|(f, _)| world.inodes(f)).collect();
    world.mk.deletes("mirror", "mirror");
    world.mk.sync_ok();
    let after: Vec<_> = FOLDERS[..3].iter().map(|(f, _)| world.inodes(f)).collect();
    assert_eq!(after, before, "adopted as it is");
    world.assert_no_bodies();
    assert_eq!(world.changes(), Vec::<String>::new());
    for (folder, n) in &FOLDERS {
        assert_eq!(world.local(folder).len(), *n);
        assert_eq!(world.remote(folder).len(), *n);
    }
    // They are pairs now.
    let m = world.remote("INBOX").remove(0);
    world.server.imap().store("INBOX", &[m.uid], "FLAGS", &["\\Flagged", "\\Seen", "\\Answered"]);
    let uids = world.uids("Work");
    world.server.imap().expunge("Work", &uids[..1]);
    world.mk.sync_ok();
    let here = world.local("INBOX");
    let twin = here.iter().find(|l| l.message_id == m.message_id).unwrap();
    assert!(twin.flags.contains("\\Flagged") && twin.flags.contains("\\Answered"));
    assert_eq!(world.local("Work").len(), 11);
}

/// mbsync puts a header of its own into every copy: of drafts and of equal copies only the bytes can
/// say which is which.
#[test]
fn drafts_and_equal_copies_written_by_mbsync() {
    let server = Dovecot::with(Options { special_use: false, ..Options::default() });
    let world = World::empty(server);
    let draft = |n| Letter::new(letters::simple(&format!("<{n}@test>"), "s", "x"), &["\\Draft"], n);
    let twin = Letter::new(letters::simple("<twin@test>", "s", "x"), &[], 1_600_000_000);
    let all = [draft(1_600_000_001), draft(1_600_000_002), twin.clone(), twin];
    world.server.imap().append_all("INBOX", &all);
    mbsync(&world);
    let before = world.files();
    world.mk.sync_ok();
    assert_eq!(world.files(), before, "adopted as it is");
    assert_eq!(world.changes(), Vec::<String>::new());
    // and what was marked is the same message when it is moved here
    maildir::make_folder(&world.mk.folder("Work"));
    let drafts = world.local("INBOX").into_iter().filter(|m| m.flags.contains("\\Draft"));
    for m in drafts {
        fs::rename(&m.path, world.mk.folder("Work").join("cur").join(m.path.file_name().unwrap()))
            .unwrap();
    }
    world.mk.sync_ok();
    assert_eq!(world.proxy.count("APPEND"), 0, "{:#?}", world.proxy.commands());
    assert_eq!((world.remote("INBOX").len(), world.remote("Work").len()), (2, 2));
}

/// The same across folders: refiled before the first pass, and moved to the drafts on the server
/// after it.
#[test]
fn drafts_written_by_mbsync_and_refiled() {
    let world = World::empty(Dovecot::start());
    world.server.seed("INBOX", &world.mint.letters(0..3));
    let draft = letters::simple("<draft@test>", "s", "x");
    world.server.imap().append("Drafts", &Letter::new(draft, &["\\Draft"], 1_600_000_001));
    mbsync(&world);
    maildir::move_file(&world.local("Drafts")[0], &world.mk.folder("INBOX"));
    let inodes = world.inodes("INBOX");
    world.mk.sync_ok();
    assert_eq!((world.local("Drafts").len(), world.remote("Drafts").len()), (1, 1));
    let moved = world.remote("INBOX").swap_remove(0);
    world.server.imap().move_to("INBOX", &[moved.uid], "Drafts");
    world.mk.sync_ok();
    assert_eq!((world.local("Drafts").len(), world.remote("Drafts").len()), (2, 2));
    assert_eq!((world.local("INBOX").len(), world.remote("INBOX").len()), (2, 2));
    let now = &world.inodes("INBOX") | &world.inodes("Drafts");
    assert_eq!(now, inodes, "the same files");
    assert!(world.mk.run(&["kept"]).stdout.trim().is_empty());
    assert_eq!(world.changes(), Vec::<String>::new());
}

/// mbsync and OfflineIMAP leave a folder's name in the server's encoding, OfflineIMAP joins its
/// parts by a dot, and many have an Inbox.
#[test]
fn folders_as_other_programs_call_them() {
    const THEIRS: [(&str, &str); 3] = [
        ("INBOX", "Inbox"),
        ("Lists/rust", "Lists.rust"),
        ("Überblick/日本", "&ANw-berblick/&ZeVnLA-"),
    ];
    let world = synced();
    let before = world.files();
    let root = world.mk.maildir();
    world.mk.lose_ledger();
    for (ours, theirs) in THEIRS {
        fs::create_dir_all(root.join(theirs).parent().unwrap()).unwrap();
        fs::rename(root.join(ours), root.join(theirs)).unwrap();
    }
    fs::remove_dir(root.join("Lists")).unwrap();
    fs::remove_dir(root.join("Überblick")).unwrap();
    let dry = world.mk.run(&["sync", "--dry-run"]).expect(0).text();
    for (_, theirs) in THEIRS {
        assert!(dry.contains(&format!("{theirs} is the server's folder")), "{dry}");
        assert!(root.join(theirs).join("cur").is_dir(), "{theirs}");
    }
    assert!(!dry.contains("upload") && !dry.contains("fetch") && !dry.contains("create"), "{dry}");
    assert!(!dry.contains("left alone"), "{dry}");
    world.mk.sync_ok();
    world.assert_same();
    assert_eq!(world.files(), before);
    world.assert_no_bodies();
    assert_eq!(world.changes(), Vec::<String>::new());
    for (_, theirs) in THEIRS {
        assert!(!root.join(theirs).exists(), "{theirs}");
    }
    assert!(!root.join("&ANw-berblick").exists());
}

/// mbsync nests one folder in another, the name of each in the server's encoding, and with a dot
/// before what is below the first where it is told so.
#[test]
fn folders_below_folders_written_by_mbsync() {
    const NESTED: [&str; 4] = ["Überblick", "Überblick/日本", "Überblick/日本/日本", "INBOX/日本"];
    for (style, inbox) in [("Verbatim", "Inbox"), ("Legacy", "INBOX")] {
        let server = Dovecot::with(Options { special_use: false, ..Options::default() });
        let world = World::empty(server);
        for (i, folder) in NESTED.iter().enumerate() {
            world.server.seed(folder, &world.mint.letters(10 * i..10 * i + 2));
        }
        mbsync_in(&world, style, inbox);
        let dry = world.mk.run(&["sync", "--dry-run"]).expect(0).text();
        assert!(!dry.contains("fetch") && !dry.contains("create"), "{style}: {dry}");
        world.mk.sync_ok();
        world.assert_no_bodies();
        assert_eq!(world.changes(), Vec::<String>::new(), "{style}");
        for folder in NESTED {
            assert_eq!(world.local(folder).len(), 2, "{style} {folder}");
        }
        let all = read_maildir(world.mk.maildir());
        assert_eq!(all.len(), 1 + NESTED.len(), "{style}: {:?}", all.keys());
    }
}

/// What another program made for a folder that is left alone is left alone, too.
#[test]
fn an_excluded_folder_as_another_program_calls_it() {
    let server = Dovecot::with(Options { special_use: false, ..Options::default() });
    let mut world = World::empty(server);
    for (i, folder) in ["Überblick", "Überblick/日本", "Work"].iter().enumerate() {
        world.server.seed(folder, &world.mint.letters(10 * i..10 * i + 2));
    }
    mbsync(&world);
    world.mk.set_raw("exclude", "[\"Überblick\"]");
    for _ in 0..2 {
        world.mk.sync_ok();
        assert_eq!(world.changes(), Vec::<String>::new());
    }
    assert_eq!(world.local("Überblick/日本").len(), 2);
    assert_eq!(world.local("&ANw-berblick").len(), 2);
}

/// What the server has under that name, too, is not taken for another folder.
#[test]
fn a_folder_that_only_looks_like_another_programs() {
    let world = World::empty(Dovecot::start());
    let mut imap = world.server.imap();
    imap.append_all("Überblick", &world.mint.letters(0..2));
    imap.append_all("&ANw-berblick", &world.mint.letters(2..4));
    maildir::make_folder(&world.mk.folder("&ANw-berblick"));
    world.mk.sync_ok();
    world.assert_same();
    assert_eq!(world.changes(), Vec::<String>::new());
}

/// Both have it, and mbsync's name for the one is ours for the other.
#[test]
fn two_folders_that_mbsync_calls_alike() {
    let world = World::empty(Dovecot::with(Options { special_use: false, ..Options::default() }));
    const THEIRS: [(&str, &str); 2] =
        [("Entwürfe", "Entw&APw-rfe"), ("Entw&APw-rfe", "Entw&-APw-rfe")];
    for (i, (folder, _)) in THEIRS.iter().enumerate() {
        world.server.seed(folder, &world.mint.letters(10 * i..10 * i + 2 + i));
    }
    mbsync(&world);
    let before: Vec<_> = THEIRS.iter().map(|(_, theirs)| world.inodes(theirs)).collect();
    assert_eq!(before.iter().map(BTreeSet::len).collect::<Vec<_>>(), [2, 3]);
    let dry = world.mk.run(&["sync", "--dry-run"]).expect(0).text();
    assert!(!dry.contains("fetch") && !dry.contains("create"), "{dry}");
    assert!(!dry.contains("left alone"), "{dry}");
    world.mk.sync_ok();
    world.assert_no_bodies();
    assert_eq!(world.changes(), Vec::<String>::new());
    let after: Vec<_> = THEIRS.iter().map(|(ours, _)| world.inodes(ours)).collect();
    assert_eq!(after, before);
    assert_eq!(read_maildir(world.mk.maildir()).len(), 3);
}

/// What mbsync does not escape is a folder all the same, and the server may call it otherwise by now,
/// or not have it any more.
#[test]
fn a_folder_written_by_mbsync_that_is_called_otherwise_since() {
    for renamed in [true, false] {
        let server = Dovecot::with(Options { special_use: false, ..Options::default() });
        let world = World::empty(server);
        world.server.seed("50% für", &world.mint.letters(0..3));
        world.server.seed("INBOX", &world.mint.letters(3..4));
        mbsync(&world);
        let inodes = world.inodes("50% f&APw-r");
        assert_eq!(inodes.len(), 3);
        match renamed {
            true => world.server.imap().rename("50% für", "Sale"),
            false => world.server.imap().delete("50% für"),
        }
        let dry = world.mk.run(&["sync", "--dry-run"]).text();
        assert!(dry.contains("it would be renamed to") && !dry.contains("fetch"), "{dry}");
        assert!(!dry.contains("left alone"), "{dry}");
        world.mk.sync().expect(if renamed { 0 } else { 3 });
        let at = if renamed { "Sale" } else { "50%25 für" };
        assert_eq!(world.inodes(at), inodes);
        world.assert_no_bodies();
        assert_eq!(world.proxy.count("APPEND"), 0, "{:#?}", world.proxy.commands());
        assert!(!world.mk.folder("50% f&APw-r").exists());
        assert!(!world.mk.run(&["status"]).text().contains("left alone"));
    }
}

/// mbsync leaves INBOX out of what is below it in Maildir++.
#[test]
fn folders_below_the_inbox_written_by_mbsync_in_maildir_plus_plus() {
    for deleted in [false, true] {
        let server = Dovecot::with(Options { special_use: false, ..Options::default() });
        let mut world = World::empty(server);
        world.mk.set("layout", "maildir++");
        for (i, folder) in ["INBOX", "INBOX/low", "INBOX/low/日本"].iter().enumerate() {
            world.server.seed(folder, &world.mint.letters(10 * i..10 * i + 2));
        }
        mbsync_in(&world, "Maildir++", "");
        let inodes = world.inodes("..low");
        assert_eq!(inodes.len(), 2);
        if deleted {
            world.server.imap().delete("INBOX/low");
        }
        let dry = world.mk.run(&["sync", "--dry-run"]).text();
        assert!(!dry.contains("fetch") && !dry.contains("left alone"), "{dry}");
        world.mk.sync().expect(if deleted { 3 } else { 0 });
        world.assert_no_bodies();
        assert_eq!(world.inodes(".INBOX.low"), inodes);
        assert_eq!(world.local(".INBOX.low.日本").len(), 2);
        assert_eq!(world.proxy.count("APPEND"), 0, "{:#?}", world.proxy.commands());
    }
}

/// Fills the Maildir with Debian's mbsync.
fn mbsync(world: &World<Dovecot>) {
    mbsync_in(world, "Verbatim", "INBOX");
}

/// The same, with its subfolders in this style.
fn mbsync_in(world: &World<Dovecot>, style: &str, inbox: &str) {
    let program = find_program("mbsync", "apt-get install isync");
    let root = world.mk.maildir().display();
    let path = if style == "Maildir++" { String::new() } else { format!("Path {root}/\n") };
    let config = format!(
        "IMAPAccount a\nHost localhost\nPort {}\nUser {}\nPass {}\nSSLType None\nAuthMechs LOGIN\n\n\
         IMAPStore far\nAccount a\n\nMaildirStore near\n{path}Inbox {root}/{inbox}\n\
         SubFolders {style}\n\nChannel c\nFar :far:\nNear :near:\nPatterns * INBOX\nCreate Both\n\
         Expunge None\nSync All\nCopyArrivalDate yes\nSyncState *\n",
        world.server.port(),
        server::USER,
        server::PASSWORD,
    );
    let path = world.mk.dir().join("mbsyncrc");
    fs::write(&path, config).unwrap();
    let out = Command::new(program).arg("-c").arg(&path).arg("-a").output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn old_mail_in_a_first_pass_waits_for_a_decision() {
    for (word, sent) in [("approve", true), ("reject", false)] {
        let world = World::new(Dovecot::start());
        maildir::make_folder(&world.mk.folder("Work"));
        for i in 600..603 {
            maildir::deliver(&world.mk.folder("Work"), &world.mint.letter(i));
        }
        world.mk.sync().expect(3);
        assert_eq!(world.remote("Work").len(), 12);
        assert_eq!(world.local("Work").len(), 15);
        world.mk.run(&[word, "test", "1"]).expect(0);
        world.mk.sync_ok();
        assert_eq!(world.local("Work").len(), 15);
        assert_eq!(world.remote("Work").len(), if sent { 15 } else { 12 }, "{word}");
        world.mk.sync_ok();
        assert_eq!(world.remote("Work").len(), if sent { 15 } else { 12 }, "{word}, again");
    }
}

/// A folder that cannot be opened there, and one that cannot be made there, stay as they are for
/// ever. What comes later is new all the same, and goes up.
#[test]
fn folders_that_are_refused_for_good_do_not_make_new_mail_old() {
    let server = Dovecot::with(Options::default().plugin("acl", &["acl = vfile"]));
    let world = World::new(server);
    let shut = world.server.folder_dir("Work").join("dovecot-acl");
    fs::write(&shut, "owner l\n").unwrap();
    let (inbox, odd) = (world.mk.folder("INBOX"), world.mk.folder("a.b"));
    maildir::make_folder(&inbox);
    maildir::make_folder(&odd);
    maildir::deliver(&inbox, &world.mint.letter(600));
    maildir::deliver(&odd, &world.mint.letter(601));
    let first = world.mk.sync().expect(1).text();
    assert!(first.contains("folder Work") && first.contains("folder a.b"), "{first}");
    let there = world.remote("INBOX").len();
    assert_eq!(there, 20);
    maildir::deliver(&inbox, &world.mint.letter(602));
    world.mk.sync().expect(1);
    assert_eq!(world.remote("INBOX").len(), there + 1, "the new one, and not the old one");
    // and what was there waits for a decision still
    let status = world.mk.status();
    assert_eq!(status["accounts"][0]["holds"][0]["messages"], 2, "{status}");
    fs::remove_file(&shut).unwrap();
    world.mk.sync().expect(3);
    assert_eq!(world.local("Work").len(), 12);
}

#[test]
fn held_mail_that_is_refiled_stays_held() {
    for word in [None, Some("approve"), Some("reject")] {
        let world = World::new(Dovecot::start());
        let (inbox, work) = (world.mk.folder("INBOX"), world.mk.folder("Work"));
        maildir::make_folder(&inbox);
        maildir::make_folder(&work);
        let there = world.remote("INBOX").len() + world.remote("Work").len();
        for i in [600, 601, 602, 603, 603, 603] {
            maildir::deliver(&inbox, &world.mint.letter(i));
        }
        let held = read_folder(&inbox);
        world.mk.sync().expect(3);
        if let Some(word) = word {
            world.mk.run(&[word, "test", "1"]).expect(0);
        }
        // saved by mutt, and moved under another name: one alone, and two of three equal ones
        let equal = |m: &&LocalMessage| held.iter().filter(|x| x.hash == m.hash).count() == 3;
        let alone: Vec<_> = held.iter().filter(|m| !equal(m)).collect();
        maildir::mutt_save(alone[0], &work);
        for (n, m) in held.iter().filter(equal).take(2).chain([alone[1]]).enumerate() {
            fs::rename(&m.path, work.join(format!("cur/{n}.elsewhere:2,S"))).unwrap();
        }
        for _ in 0..2 {
            let status = if word.is_none() { 3 } else { 0 };
            world.mk.sync().expect(status);
            let now = world.remote("INBOX").len() + world.remote("Work").len();
            let sent = if word == Some("approve") { 6 } else { 0 };
            assert_eq!(now, there + sent, "{word:?}");
            assert_eq!(world.local("INBOX").len() + world.local("Work").len(), there + 6);
        }
    }
}

/// Another client, which had the message too, sends it elsewhere.
#[test]
fn held_mail_that_arrives_in_another_folder_is_not_fetched_and_not_sent() {
    for approved in [false, true] {
        let world = World::new(Dovecot::start());
        let inbox = world.mk.folder("INBOX");
        maildir::make_folder(&inbox);
        let letter = world.mint.letter(600);
        maildir::deliver(&inbox, &letter);
        world.mk.sync().expect(3);
        world.server.imap().append_all("Work", &[letter]);
        if approved {
            world.mk.run(&["approve", "test", "1"]).expect(0);
        }
        for _ in 0..2 {
            world.mk.sync_ok();
            assert_eq!(world.remote("INBOX").len() + world.remote("Work").len(), 33);
            assert_eq!(world.remote("Work").len(), 13);
            world.assert_same();
        }
    }
}

#[test]
fn a_copy_of_held_mail_is_held_too() {
    let world = World::new(Dovecot::start());
    let (inbox, work) = (world.mk.folder("INBOX"), world.mk.folder("Work"));
    maildir::make_folder(&inbox);
    maildir::make_folder(&work);
    maildir::deliver(&inbox, &world.mint.letter(600));
    let held = read_folder(&inbox);
    world.mk.sync().expect(3);
    // the first step of a save
    maildir::mutt_copy(&held[0], &work);
    world.mk.sync().expect(3);
    assert_eq!(world.remote("Work").len(), 12);
    fs::remove_file(&held[0].path).unwrap();
    world.mk.sync().expect(3);
    world.mk.run(&["approve", "test", "1"]).expect(0);
    world.mk.sync_ok();
    assert_eq!(world.remote("Work").len(), 13);
    world.assert_same();
}

#[test]
fn a_maildir_restored_from_yesterday_deletes_nothing() {
    let world = synced();
    let backup = world.mk.dir().join("backup");
    maildir::copy_tree(world.mk.maildir(), &backup);
    // A day goes by.
    world.server.imap().append_all("INBOX", &world.mint.letters(400..430));
    maildir::deliver(&world.mk.folder("Work"), &world.mint.letter(431));
    let uids = world.uids("Lists/rust");
    world.server.imap().move_to("Lists/rust", &uids[..2], "Work");
    world.mk.sync_ok();
    world.assert_same();
    let all = everything(&world);

    fs::remove_dir_all(world.mk.maildir()).unwrap();
    maildir::copy_tree(&backup, world.mk.maildir());
    let said = world.mk.sync();
    assert!(matches!(said.status, Some(0 | 3)), "{}", said.text());
    assert_eq!(everything(&world), all, "nothing lost and nothing doubled there");
    let here = read_maildir(world.mk.maildir());
    assert!(here["INBOX"].len() >= 50, "and the new mail is here again");
}

/// What moves on the server while the lost ledger is written anew is found where it went, and leaves
/// nothing behind.
#[test]
fn a_lost_ledger_while_a_folder_is_emptied() {
    for mode in Mode::ALL {
        let world = World::synced(Dovecot::in_mode(mode));
        world.mk.lose_ledger();
        world.server.imap().append_all("INBOX", &world.mint.letters(900..902));
        world.proxy.hold("UID FETCH");
        let run = world.mk.start(&["sync"]);
        world.proxy.wait_held();
        world.server.imap().move_to("INBOX", &world.uids("INBOX"), "Archive");
        world.proxy.let_go();
        run.wait(Duration::from_secs(60));
        world.mk.sync_ok();
        world.assert_same();
        assert_eq!(world.local("Archive").len(), 22);
        let status = world.mk.status();
        let folders = status["accounts"][0]["folders"].as_array().unwrap();
        assert!(folders.iter().all(|f| f["pending"] == 0), "{mode:?} {status:#}");
        let before = (world.files(), fs::read(world.mk.folder(".mailkeep")).unwrap());
        world.mk.sync_ok();
        let after = (world.files(), fs::read(world.mk.folder(".mailkeep")).unwrap());
        assert_eq!(after, before, "{mode:?}");
    }
}

#[test]
fn a_ledger_restored_from_yesterday_deletes_nothing() {
    let world = synced();
    let backup = world.mk.dir().join("backup");
    maildir::copy_tree(&world.mk.state_dir(), &backup);
    world.server.imap().append_all("INBOX", &world.mint.letters(400..430));
    for i in 431..435 {
        maildir::deliver(&world.mk.folder("Work"), &world.mint.letter(i));
    }
    fs::remove_file(&world.local("Lists/rust")[0].path).unwrap();
    world.mk.sync_ok();
    world.assert_same();
    let (there, here) = (everything(&world), world.files());

    fs::remove_dir_all(world.mk.state_dir()).unwrap();
    maildir::copy_tree(&backup, &world.mk.state_dir());
    let said = world.mk.sync();
    assert!(matches!(said.status, Some(0 | 3)), "{}", said.text());
    assert_eq!(everything(&world), there);
    let now = world.files();
    assert!(now.is_superset(&here), "nothing is gone here");
}

/// Every content on the server.
fn everything(world: &World<Dovecot>) -> Vec<[u8; 32]> {
    let mut imap = world.server.imap();
    let all: Vec<_> = imap.list().iter().flat_map(|f| imap.fetch_all(f)).collect();
    contents(all.iter().map(|m| &m.hash))
}

#[test]
fn what_cannot_be_read_when_the_ledger_is_lost_is_not_fetched_again() {
    let world = synced();
    let before = world.files();
    let file = world.local("INBOX")[0].path.clone();
    // files can be made in the directory, but nobody sees what is there
    for (what, blind, mode) in
        [(&file, 0o000, 0o600), (&world.mk.folder("INBOX").join("cur"), 0o300, 0o700)]
    {
        world.mk.lose_ledger();
        fs::set_permissions(what, fs::Permissions::from_mode(blind)).unwrap();
        let said = world.mk.start_limited(&["sync"], &as_ordinary_user()).wait(world.mk.timeout);
        let said = said.expect(1);
        fs::set_permissions(what, fs::Permissions::from_mode(mode)).unwrap();
        let text = said.text();
        let waits = ["1 change waits", "20 changes wait"];
        assert!(text.contains("INBOX") && waits.iter().any(|w| text.contains(w)), "{text}");
        world.mk.sync_ok();
        world.assert_same();
        assert_eq!(world.files(), before);
        assert_eq!(world.changes(), Vec::<String>::new());
    }
}

#[test]
fn another_account_in_the_same_place_is_not_mirrored_into_it() {
    let world = synced();
    let before = world.files();
    // The same configuration, another server behind it, with other mail and the same UIDs.
    let other = Dovecot::start();
    other.seed("INBOX", &Mint::new(2).letters(0..20));
    let mut mk = world.mk;
    mk.port(other.port()).set("host", "127.0.0.1");
    let said = mk.sync();
    assert!(matches!(said.status, Some(0 | 3)), "{}", said.text());
    let now = read_maildir(mk.maildir());
    let inodes: Vec<u64> = now.values().flatten().map(|m| m.inode).collect();
    assert!(before.iter().all(|(_, i, _)| inodes.contains(i)), "no file is gone");
    assert_eq!(other.imap().count("INBOX"), 20, "and none was deleted or sent unasked");
    assert_eq!(world.server.imap().count("INBOX"), 20);
}
