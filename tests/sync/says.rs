//! What a pass and `status` tell a person: true, of something, and in its number.

use std::fs;

use crate::common::dovecot::Options;
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

/// A quota is not about the one file that met it; what to do is said where it is said what waits.
#[test]
fn a_full_quota_is_told_of_the_folder() {
    let quota = ["quota = maildir:User quota", "quota_rule = *:storage=100k"];
    let server = Dovecot::with(Options::default().plugin("quota", &quota));
    let world = World::empty(server);
    world.mk.sync_ok();
    let text = "0123456789 0123456789\r\n".repeat(2_000);
    for n in 0..4 {
        let body = letters::simple(&format!("<{n}@quota.test>"), "full", &text);
        deliver(&world.mk.folder("INBOX"), &Letter::new(body, &[], 1_500_000_000));
    }
    let said = world.mk.sync().expect(1);
    let (error, note) = ("mailkeep: test: folder INBOX: the server", "2 changes wait: the server");
    assert!(said.stderr.contains(error), "{}", said.text());
    for said in [said.text(), world.mk.run(&["status"]).text()] {
        let line = said.lines().find(|l| l.contains(note)).unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains("make room on the server") && !line.contains("reader"), "{line}");
    }
}

/// Where nothing is sent, nothing else is said.
#[test]
fn check_says_what_read_only_means() {
    let mut world = World::empty(Dovecot::start());
    world.mk.set_raw("read_only", "true").rule("folders = [\"x\"]\nlocal_delete = \"mirror\"");
    let said = world.mk.run(&["check"]).expect(0).stdout;
    assert!(!said.contains("is sent") && !said.contains("expunged"), "{said}");
    assert!(said.contains("deleted here stays on the server; new here waits"), "{said}");
}

#[test]
fn a_hold_is_told_once_and_in_all_its_folders() {
    let world = synced();
    for folder in ["INBOX", "Work", "Lists/rust"] {
        world.local(folder).iter().for_each(|m| fs::remove_file(&m.path).unwrap());
    }
    let said = world.mk.run(&["sync", "--dry-run"]).expect(3).text();
    assert!(said.contains("hold 40 messages in INBOX and 2 other folders: many"), "{said}");
    world.mk.sync().expect(3);
    let status = world.mk.run(&["status"]).text();
    let of_hold: Vec<&str> = status.lines().skip_while(|l| !l.contains("hold 1:")).collect();
    assert_eq!(of_hold.len(), 4, "{status}");
    assert!(of_hold[1].trim().starts_with("many messages were removed here"), "{status}");
}
