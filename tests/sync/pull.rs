//! The first pull, and the passes after it in which nothing has changed here.

use crate::common::letters::odd;
use crate::common::maildir::read_maildir;
use crate::common::*;
use crate::world::{World, synced};

#[test]
fn everything_arrives_once_and_a_second_pass_writes_nothing() {
    let world = World::new(Dovecot::start());
    world.server.imap().create("Empty/inside");
    world.mk.sync_ok();
    world.assert_same();
    assert!(world.mk.folder("Empty/inside/cur").is_dir(), "empty folders are folders");

    let before = world.files();
    world.proxy.reset();
    world.mk.sync_ok();
    assert_eq!(world.files(), before);
    assert_eq!(world.changes(), Vec::<String>::new());
    assert!(world.proxy.down() < 10_000, "{} bytes for nothing", world.proxy.down());
    // INBOX goes along with the listing; no other folder is opened where none has changed
    let mut opened = world.proxy.commands();
    opened.retain(|c| c.starts_with("SELECT") || c.starts_with("EXAMINE"));
    assert!(opened.len() == 1 && opened[0].starts_with("SELECT \"INBOX\" (QRESYNC"), "{opened:#?}");
}

#[test]
fn a_first_pull_asks_for_inbox_with_the_listing() {
    let world = World::empty(Dovecot::start());
    world.server.seed("INBOX", &Mint::new(1).letters(0..30));
    world.mk.sync_ok();
    assert_eq!(world.local("INBOX").len(), 30);
    // connecting apart: the greeting, the login, the listing and the messages
    let all = world.proxy.commands();
    let verbs: Vec<&str> = all.iter().filter_map(|c| c.split(' ').next()).collect();
    let beside = ["ID", "ENABLE", "SELECT", "UID", "NAMESPACE", "LIST"];
    assert_eq!(verbs[0], "AUTHENTICATE");
    assert_eq!(verbs[1..7], beside, "{all:#?}");
    let (last, fetches) = verbs[7..].split_last().unwrap();
    assert!(!fetches.is_empty() && fetches.iter().all(|v| *v == "UID"), "{all:#?}");
    assert!(all[7].starts_with("UID FETCH") && *last == "LOGOUT", "{all:#?}");
}

#[test]
fn odd_messages_arrive_byte_for_byte() {
    let world = World::empty(Dovecot::start());
    let letters: Vec<Letter> =
        odd().into_iter().map(|(_, b)| Letter::new(b, &["\\Seen"], 1_500_000_000)).collect();
    world.server.imap().append_all("INBOX", &letters);
    world.mk.sync_ok();
    world.assert_same();
    // What has its line endings mixed must not only be the same modulo them.
    let wire: Vec<Vec<u8>> =
        world.server.imap().bodies("INBOX").into_iter().map(|(_, b)| b).collect();
    for m in world.local("INBOX") {
        let body = std::fs::read(&m.path).unwrap();
        let as_lf = wire.iter().any(|w| {
            let ends = w.iter().filter(|b| **b == b'\n').count();
            ends == count(w, b"\r\n") && crate::common::letters::to_lf(w) == body
        });
        assert!(as_lf || wire.contains(&body), "{} was altered", m.message_id);
    }
}

fn count(body: &[u8], what: &[u8]) -> usize {
    body.windows(what.len()).filter(|w| *w == what).count()
}

#[test]
fn a_message_of_20_mb_needs_little_memory() {
    let world = World::empty(Dovecot::start());
    let text = "0123456789 0123456789 0123456789\r\n".repeat(600_000);
    let body = letters::simple("<huge@test>", "huge", &text);
    assert!(body.len() > 20_000_000);
    world.server.seed("INBOX", &[Letter::new(body, &[], 1_500_000_000)]);
    let pass = world.mk.sync_ok();
    world.assert_same();
    assert!(pass.peak_rss < 40 << 20, "{} MB", pass.peak_rss >> 20);
}

#[test]
fn new_messages_and_folders_come_alone() {
    let world = synced();
    let all = world.files();
    let more = world.mint.letters(100..105);
    world.server.imap().append_all("Work", &more);
    world.server.imap().append_all("Later/Größer", &world.mint.letters(105..107));
    world.mk.sync_ok();
    world.assert_same();
    assert!(world.files().is_superset(&all), "what was here is as it was");
    let bytes: usize = more.iter().map(|l| l.body.len()).sum();
    assert!(world.proxy.down() < 50_000 + 4 * bytes as u64, "only the new ones");
}

/// A message that another client removes while it is fetched is no failure.
#[test]
fn messages_that_go_while_they_are_fetched() {
    for known in [false, true] {
        let world = World::empty(Dovecot::start());
        world.server.seed("INBOX", &world.mint.letters(0..10));
        if known {
            // what is kept is held against what comes, which is known before it is fetched
            world.mk.sync_ok();
            world.server.imap().append_all("INBOX", &world.mint.letters(10..20));
            world.mk.lose_ledger();
        }
        world.proxy.hold("BODY.PEEK[]");
        let pass = world.mk.start(&["sync"]);
        world.proxy.wait_held();
        world.server.imap().expunge("INBOX", if known { &[12, 15] } else { &[3, 10] });
        world.proxy.let_go();
        let said = pass.wait(world.mk.timeout).expect(0).text();
        assert!(!said.contains("no text") && !said.contains("did not send"), "{said}");
        world.assert_same();
        assert_eq!(world.local("INBOX").len(), if known { 18 } else { 8 });
        let said = world.mk.sync_ok().text();
        assert!(said.contains("0 new") && said.contains("0 kept"), "{said}");
        world.assert_same();
    }
}

#[test]
fn files_and_directories_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let world = synced();
    for m in world.local("INBOX") {
        assert_eq!(m.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let plain = m.flags.is_empty();
        assert_eq!(m.is_new, plain, "new mail in new, the rest in cur: {}", m.path.display());
    }
    let dir = world.mk.folder("Lists/rust/cur");
    assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn maildir_plus_plus() {
    let mut world = World::new(Dovecot::with(Options { special_use: false, ..Options::default() }));
    world.mk.set("layout", "maildir++");
    world.mk.sync_ok();
    let folders = read_maildir(world.mk.maildir());
    let names: Vec<&str> = folders.keys().map(String::as_str).collect();
    assert_eq!(names, ["", ".Lists.rust", ".Work", ".Überblick.日本"]);
    assert_eq!(folders[""].len(), 20);
    let before = world.files();
    world.mk.sync_ok();
    assert_eq!(world.files(), before);
}

#[test]
fn dry_run_opens_nothing_for_writing() {
    let world = World::new(Dovecot::start());
    let said = world.mk.run(&["sync", "--dry-run"]).expect(0);
    assert!(said.stdout.contains("INBOX"), "a plan for people: {}", said.text());
    assert_eq!(read_maildir(world.mk.maildir()).len(), 0);
    assert_eq!(world.proxy.count("SELECT"), 0, "{:#?}", world.proxy.commands());
    assert_eq!(world.changes(), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(world.mk.maildir()).unwrap().count(), 0);
}

#[test]
fn a_dry_run_makes_no_directory() {
    let world = synced();
    let work = world.mk.folder("Work");
    for m in world.local("Work") {
        maildir::set_flags(&m, "S");
    }
    world.mk.sync_ok();
    std::fs::remove_dir(work.join("tmp")).unwrap();
    let said = world.mk.run(&["sync", "--dry-run"]).expect(0).stdout;
    assert!(!work.join("tmp").exists(), "{said}");
    // nor does it take a folder for gone of which it could not see all, or for a failure what the
    // sync does not
    std::fs::remove_dir(work.join("new")).unwrap();
    let run = world.mk.run(&["sync", "--dry-run"]).expect(0);
    assert!(!work.join("new").exists(), "{}", run.stdout);
    assert!(!run.stdout.contains("Work") && run.stderr.contains("Work"), "{}", run.text());
    world.mk.sync_ok();
    assert!(work.join("new").is_dir() && work.join("tmp").is_dir());
    world.assert_same();
}

#[test]
fn only_what_is_included() {
    let mut world = World::new(Dovecot::start());
    world.mk.set_raw("include", r#"["INBOX", "Lists/*"]"#);
    world.mk.sync_ok();
    let folders: Vec<String> = read_maildir(world.mk.maildir()).into_keys().collect();
    assert_eq!(folders, ["INBOX", "Lists/rust"]);
    world.mk.set_raw("exclude", r#"["Lists/*"]"#);
    world.mk.sync_ok();
    assert_eq!(world.local("Lists/rust").len(), 8, "left alone");
    assert_eq!(world.remote("Lists/rust").len(), 8, "left alone");
}

#[test]
fn a_folder_that_is_asked_for_and_not_there_is_told() {
    let world = World::new(Dovecot::start());
    let done = world.mk.run(&["sync", "--folder", "Wrok", "--folder", "Work"]).expect(0);
    assert!(done.text().contains("no folder that is mirrored is called Wrok"), "{}", done.text());
    assert!(!done.text().contains("is called Work"), "{}", done.text());
    assert_eq!(world.local("Work").len(), 12);
    assert!(!world.mk.folder("INBOX").exists());
}

#[test]
fn read_only_changes_nothing_there() {
    let mut world = World::new(Dovecot::start());
    world.mk.set_raw("read_only", "true");
    world.mk.sync_ok();
    world.proxy.reset();
    let here = world.local("INBOX");
    maildir::set_flags(&here[0], "FS");
    std::fs::remove_file(&here[1].path).unwrap();
    maildir::move_file(&here[2], &world.mk.folder("Work"));
    maildir::deliver(&world.mk.folder("Work"), &world.mint.letter(500));
    maildir::make_folder(&world.mk.folder("Mine"));
    world.mk.sync_ok();
    assert_eq!(world.changes(), Vec::<String>::new());
    assert_eq!(world.proxy.count("SELECT"), 0, "EXAMINE only");
}

#[test]
fn an_idle_pass_asks_once() {
    let world = synced();
    world.mk.sync_ok();
    // All but the login go out together, and the goodbye is not waited for: beside connecting,
    // two round trips and the half one of the greeting.
    let all = world.proxy.commands();
    let verbs: Vec<&str> = all.iter().filter_map(|c| c.split(' ').next()).collect();
    let expected = ["AUTHENTICATE", "ID", "ENABLE", "SELECT", "NAMESPACE", "LIST", "LOGOUT"];
    assert_eq!(verbs, expected);
}
