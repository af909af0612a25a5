//! The same story on every server, with every set of capabilities: the end is the same.

use crate::common::dovecot::Mode;
use crate::common::maildir::{deliver, move_file, set_flags};
use crate::common::*;
use crate::world::{FOLDERS, World};

/// A week of changes on both sides, with a pass after each day.
fn story<S: Server>(world: &mut World<S>) -> Vec<String> {
    world.mk.sync_ok();
    world.assert_same();

    // Flags, both ways, on the same and on different messages.
    let all = world.remote("INBOX");
    let mut imap = world.server.imap();
    imap.store("INBOX", &[all[0].uid, all[1].uid], "+FLAGS", &["\\Flagged"]);
    imap.store("INBOX", &[all[2].uid], "-FLAGS", &["\\Seen", "\\Answered", "\\Flagged"]);
    set_flags(&world.twin("INBOX", &all[1]), "RS");
    set_flags(&world.twin("INBOX", &all[3]), "FRS");
    world.mk.sync_ok();
    world.assert_same();

    // Arrivals and removals, both ways.
    imap.append_all("INBOX", &world.mint.letters(500..503));
    imap.expunge("INBOX", &[all[4].uid, all[5].uid]);
    deliver(&world.mk.folder("Work"), &world.mint.letter(510));
    std::fs::remove_file(world.twin("INBOX", &all[6]).path).unwrap();
    world.mk.sync_ok();
    world.assert_same();

    // Moves, both ways, and new folders.
    imap.move_to("INBOX", &[all[7].uid], "Work");
    imap.append_all("New/there", &world.mint.letters(520..522));
    move_file(&world.twin("INBOX", &all[8]), &world.mk.folder("Lists/rust"));
    maildir::make_folder(&world.mk.folder("Mine"));
    move_file(&world.twin("INBOX", &all[9]), &world.mk.folder("Mine"));
    world.mk.sync_ok();
    world.assert_same();

    // Everything at once, after the server has renumbered a folder.
    drop(imap);
    world.server.reset_uidvalidity("INBOX");
    let all = world.remote("INBOX");
    let mut imap = world.server.imap();
    imap.store("INBOX", &[all[0].uid], "+FLAGS", &["\\Draft"]);
    let first = imap.fetch_all("Work")[0].uid;
    imap.move_to("Work", &[first], "Mine");
    move_file(&world.local("Lists/rust")[0], &world.mk.folder("Work"));
    world.mk.sync_ok();
    world.mk.sync_ok();
    world.assert_same();
    world.proxy.reset();
    world.mk.sync_ok();
    assert_eq!(world.changes(), Vec::<String>::new(), "nothing is left to do");
    world.assert_no_bodies();

    // What there is in the end, independent of UIDs and of the server's own folders.
    let mut end = Vec::new();
    for folder in ["INBOX", "Work", "Lists/rust", "Überblick/日本", "New/there", "Mine"] {
        let n = imap.fetch_all(folder).len();
        assert_eq!(n, world.local(folder).len());
        end.push(format!("{folder}: {n}"));
    }
    end
}

const END: [&str; 6] =
    ["INBOX: 17", "Work: 14", "Lists/rust: 8", "Überblick/日本: 3", "New/there: 2", "Mine: 2"];

#[test]
fn dovecot_with_qresync() {
    assert_eq!(story(&mut World::new(Dovecot::in_mode(Mode::Full))), END);
}

#[test]
fn dovecot_with_condstore() {
    assert_eq!(story(&mut World::new(Dovecot::in_mode(Mode::Condstore))), END);
}

#[test]
fn dovecot_plain() {
    assert_eq!(story(&mut World::new(Dovecot::in_mode(Mode::Plain))), END);
}

#[test]
fn dovecot_with_compression() {
    let mut world = World::new(Dovecot::with(Options { compress: true, ..Options::default() }));
    // Over loopback nobody compresses unasked; the story has to hold all the same.
    assert_eq!(story(&mut world), END);
}

#[test]
fn dovecot_with_a_prefix() {
    let options = Options { prefix: "INBOX.".to_owned(), separator: '.', ..Options::default() };
    assert_eq!(story(&mut World::new(Dovecot::with(options))), END);
}

#[test]
fn courier() {
    assert_eq!(story(&mut World::new(Courier::start())), END);
}

#[test]
fn cyrus() {
    assert_eq!(story(&mut World::new(Cyrus::start())), END);
}

/// Courier's SELECT does not say UIDNEXT. The highest UID came and went before anybody looked.
#[test]
fn vanishes_are_mirrored_where_select_does_not_say_uidnext() {
    let world = World::synced(Courier::start());
    let mut imap = world.server.imap();
    imap.append("INBOX", &world.mint.letter(700));
    let uids = world.uids("INBOX");
    imap.expunge("INBOX", &[uids[0], uids[20]]);
    world.mk.sync_ok();
    world.assert_same();
    world.proxy.reset();
    world.mk.sync_ok();
    let selects = world.proxy.count("SELECT") + world.proxy.count("EXAMINE");
    assert!(selects <= 1 + FOLDERS.len(), "{:#?}", world.proxy.commands());
}

#[test]
fn as_many_go_as_come() {
    // EXISTS is what it was: only QRESYNC tells of both.
    for mode in Mode::ALL {
        let world = World::synced(Dovecot::in_mode(mode));
        let uids = world.uids("INBOX");
        let mut imap = world.server.imap();
        imap.expunge("INBOX", &uids[..1]);
        imap.move_to("INBOX", &uids[1..2], "Work");
        imap.append_all("INBOX", &world.mint.letters(700..702));
        world.mk.sync_ok();
        world.assert_same();
        // And more come than go.
        imap.expunge("INBOX", &uids[2..3]);
        imap.append_all("INBOX", &world.mint.letters(710..713));
        world.mk.sync_ok();
        world.assert_same();
    }
}
