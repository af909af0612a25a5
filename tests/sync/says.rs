//! What a pass and `status` tell a person: true, of something, and in its number.

use std::fs;

use crate::common::maildir::{deliver, make_folder, mutt_copy};
use crate::common::*;
use crate::world::{World, synced};

/// The numbers of a folder in `status --json`: messages and pending.
fn counts(mk: &Mailkeep, folder: &str) -> (u64, u64) {
    let status = mk.status();
    let folders = status["accounts"][0]["folders"].as_array().unwrap();
    let of = folders.iter().find(|f| f["name"] == folder).unwrap();
    (of["messages"].as_u64().unwrap(), of["pending"].as_u64().unwrap())
}

/// What a pass for some folders left on the server is pending.
#[test]
fn what_a_limited_pass_did_not_fetch_is_pending() {
    let world = World::new(Dovecot::start());
    world.mk.run(&["sync", "--folder", "Work"]).expect(0);
    assert_eq!(counts(&world.mk, "Work"), (12, 0));
    assert_eq!(counts(&world.mk, "INBOX"), (0, 20));
    world.mk.sync_ok();
    assert_eq!(counts(&world.mk, "INBOX"), (20, 0));
    world.server.imap().append_all("Work", &world.mint.letters(100..102));
    world.mk.run(&["sync", "--folder", "INBOX"]).expect(0);
    assert_eq!(counts(&world.mk, "Work"), (12, 2));
    world.mk.sync_ok();
    assert_eq!(counts(&world.mk, "Work"), (14, 0));
}

/// Under `read_only`, no message promises that something is sent.
#[test]
fn a_hold_under_read_only_promises_no_upload() {
    let mut world = World::empty(Dovecot::start());
    world.mk.set_raw("read_only", "true");
    make_folder(&world.mk.folder("INBOX"));
    deliver(&world.mk.folder("INBOX"), &world.mint.letter(0));
    let held = |mk: &Mailkeep| {
        mk.sync().expect(3);
        mk.run(&["status"]).expect(0).text()
    };
    let status = held(&world.mk);
    assert!(status.contains("approve uploads them once read_only is gone"), "{status}");
    assert!(status.contains("sends the files to the server, once read_only is gone"), "{status}");
    let said = world.mk.run(&["approve", "test", "1"]).expect(0).text();
    assert!(said.contains("sends the files to the server, once read_only is gone"), "{said}");
    let said = world.mk.sync_ok().text();
    assert!(said.contains("1 change waits: read_only = true"), "{said}");
    world.mk.unset("read_only");
    let said = world.mk.sync_ok().text();
    assert!(said.contains("1 sent"), "{said}");
}

#[test]
fn a_copy_is_no_move() {
    let world = synced();
    mutt_copy(&world.local("INBOX")[0], &world.mk.folder("Work"));
    let said = world.mk.sync_ok().text();
    assert!(said.contains("0 moved, 1 copied, 0 deleted"), "{said}");
    assert_eq!(world.proxy.count("UID COPY"), 1);
    assert_eq!((world.remote("INBOX").len(), world.remote("Work").len()), (20, 13));
}

#[test]
fn a_warning_says_of_what_it_is() {
    let world = synced();
    let tmp = world.mk.folder("Work/tmp");
    fs::remove_dir(&tmp).unwrap();
    let said = world.mk.sync_ok().text();
    assert!(said.contains(&format!("{} was missing, and is made", tmp.display())), "{said}");
}
