//! What happens to the Maildir behind the program's back: readers at work, a missing mount, a full
//! disk, a folder that cannot be read.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::disk::{SmallDisk, can_mount};
use crate::common::letters::simple;
use crate::common::process::{as_ordinary_user, is_root, wait_for};
use crate::common::*;
use crate::world::{World, synced};

#[test]
fn a_reader_that_renames_meanwhile_deletes_nothing() {
    let world = World::empty(Dovecot::start());
    world.server.seed("INBOX", &world.mint.letters(0..300));
    world.mk.sync_ok();
    let stop = Arc::new(AtomicBool::new(false));
    let (dir, stopped) = (world.mk.folder("INBOX"), stop.clone());
    // As notmuch does: every file, from new to cur, flags on and off, as fast as it can.
    let reader = std::thread::spawn(move || {
        let mut round = 0;
        while !stopped.load(Ordering::Relaxed) {
            for sub in ["new", "cur"] {
                for entry in fs::read_dir(dir.join(sub)).unwrap().map(Result::unwrap) {
                    let name = entry.file_name().into_string().unwrap();
                    let base = name.split(":2,").next().unwrap().to_owned();
                    let info = if round % 2 == 0 { "S" } else { "RS" };
                    // The program may have renamed it first.
                    let _ = fs::rename(entry.path(), dir.join(format!("cur/{base}:2,{info}")));
                }
            }
            round += 1;
        }
    });
    for _ in 0..6 {
        let said = world.mk.sync();
        assert!(matches!(said.status, Some(0 | 1)), "{}", said.text());
    }
    stop.store(true, Ordering::Relaxed);
    reader.join().unwrap();
    world.mk.sync_ok();
    assert_eq!(world.remote("INBOX").len(), 300);
    assert_eq!(world.local("INBOX").len(), 300);
    world.assert_same();
}

#[test]
fn a_reader_that_moves_meanwhile_loses_nothing() {
    let world = World::empty(Dovecot::start());
    world.server.seed("INBOX", &world.mint.letters(0..200));
    world.server.seed("Work", &world.mint.letters(200..202));
    world.mk.sync_ok();
    let stop = Arc::new(AtomicBool::new(false));
    let (inbox, work) = (world.mk.folder("INBOX"), world.mk.folder("Work"));
    let stopped = stop.clone();
    let reader = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            for (from, to) in [(&inbox, &work), (&work, &inbox)] {
                for entry in fs::read_dir(from.join("cur")).unwrap().map(Result::unwrap).take(50) {
                    let _ = fs::rename(entry.path(), to.join("cur").join(entry.file_name()));
                }
            }
        }
    });
    for _ in 0..6 {
        let said = world.mk.sync();
        assert!(matches!(said.status, Some(0 | 1)), "{}", said.text());
    }
    stop.store(true, Ordering::Relaxed);
    reader.join().unwrap();
    let said = world.mk.sync();
    assert_eq!(said.status, Some(0), "{}{}", said.text(), world.mk.run(&["status"]).text());
    world.assert_same();
    assert_eq!(world.remote("INBOX").len() + world.remote("Work").len(), 202);
    assert_eq!(world.remote("Trash").len(), 0);
}

#[test]
fn a_missing_or_empty_root_is_not_an_empty_mailbox() {
    let world = synced();
    let away = world.mk.dir().join("away");
    fs::rename(world.mk.maildir(), &away).unwrap();
    world.mk.sync().expect(1);
    assert!(!world.mk.maildir().exists(), "a mount point is not made anew");
    fs::create_dir(world.mk.maildir()).unwrap();
    let said = world.mk.sync().expect(1);
    assert!(said.text().contains("mail"), "{}", said.text());
    let put: Vec<_> = fs::read_dir(world.mk.maildir()).unwrap().collect();
    assert!(put.is_empty(), "nothing is put there: {put:?}");
    assert_eq!(world.changes(), Vec::<String>::new());
    fs::remove_dir(world.mk.maildir()).unwrap();
    fs::rename(&away, world.mk.maildir()).unwrap();
    world.mk.sync_ok();
    world.assert_same();
    world.assert_no_bodies();
}

#[test]
fn a_disk_that_fills_up() {
    let mut world = World::empty(Dovecot::start());
    world.server.seed("INBOX", &world.mint.letters(0..300));
    let big = simple("<big@test>", "big", &"0123456789abcdef\r\n".repeat(200_000));
    world.server.seed("Work", &[Letter::new(big, &["\\Seen"], 1_600_000_000)]);
    let (small, said) = match SmallDisk::mount(&world.mk.dir().join("small"), "1500k") {
        Some(disk) => {
            let root = disk.path.join("mail");
            fs::create_dir(&root).unwrap();
            world.mk.set_maildir(&root);
            let said = world.mk.sync().expect(1);
            let text = said.text().to_lowercase();
            assert!(text.contains("space") || text.contains("room"), "{text}");
            (Some(disk), said)
        }
        // Nobody but root may mount. A limit on the size of files stops the big message the same
        // way: a write that ends in an error halfway through it.
        None => {
            assert!(!is_root() || !can_mount(), "root can mount, and did not");
            let limits = ["--fsize=2000000", "env", "--ignore-signal=XFSZ"];
            let said = world.mk.start_limited(&["sync"], &limits).wait(world.mk.timeout).expect(1);
            (None, said)
        }
    };
    if small.is_some() {
        // what is told is what is here
        let told = said.stderr.lines().filter_map(|l| l.split_once(" of 301")).next_back();
        let told = told.map_or("0", |(before, _)| before.rsplit(' ').next().unwrap());
        let told: u64 = told.parse().unwrap();
        assert_eq!(told, world.local("INBOX").len() as u64, "{}", said.text());
    }
    let there: Vec<_> =
        ["INBOX", "Work"].iter().flat_map(|f| world.remote(f)).map(|m| m.hash).collect();
    for m in read_maildir(world.mk.maildir()).values().flatten() {
        assert!(there.contains(&m.hash), "cut short: {}", m.path.display());
    }
    if let Some(disk) = &small {
        disk.grow("64m");
    }
    world.mk.sync_ok();
    world.assert_same();
}

/// What is whole stays and is not fetched again, though the ledger has no room for it; what is not
/// takes up no room.
#[test]
fn a_disk_that_fills_up_with_the_ledger_on_it() {
    let mut world = World::empty(Dovecot::start());
    // more than a batch, and each a page of the disk
    let letter = |n| simple(&format!("<{n}@test>"), "page", &"0123456789abcd\r\n".repeat(240));
    let letters: Vec<Letter> =
        (0..600).map(|n| Letter::new(letter(n), &["\\Seen"], 1_600_000_000)).collect();
    world.server.seed("INBOX", &letters);
    let Some(disk) = SmallDisk::mount(&world.mk.dir().join("small"), "1500k") else {
        // where nobody may mount, there is no disk that the two share
        assert!(!is_root() || !can_mount(), "root can mount, and did not");
        return;
    };
    let root = disk.path.join("mail");
    fs::create_dir(&root).unwrap();
    fs::create_dir(disk.path.join("state")).unwrap();
    std::os::unix::fs::symlink(disk.path.join("state"), world.mk.state_dir()).unwrap();
    world.mk.set_maildir(&root);
    let mut here = 0;
    for _ in 0..3 {
        world.mk.sync().expect(1);
        let left = fs::read_dir(world.mk.folder("INBOX/tmp")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "it takes up room");
        let now = world.local("INBOX").len();
        assert!(now >= here && now > 0, "{now} after {here}");
        here = now;
    }
    disk.grow("64m");
    world.proxy.reset();
    world.mk.sync_ok();
    world.assert_same();
    let missing: usize = letters[here..].iter().map(|l| l.body.len() + 300).sum();
    let (down, all) = (world.proxy.down(), 600 * 400);
    assert!(down < (missing + all) as u64, "{down} bytes for {missing}");
}

#[test]
fn one_bad_folder_does_not_stop_the_others() {
    use std::os::unix::fs::PermissionsExt;
    let world = synced();
    let bad = world.server.folder_dir("Lists/rust");
    let kept = world.local("Lists/rust").len();
    fs::set_permissions(&bad, fs::Permissions::from_mode(0o000)).unwrap();
    world.server.imap().append_all("Work", &world.mint.letters(500..503));
    let said = world.mk.sync();
    fs::set_permissions(&bad, fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(said.status, Some(0), "{}", said.text());
    assert!(said.text().contains("Lists/rust"), "which one: {}", said.text());
    assert_eq!(world.local("Work").len(), 15);
    assert_eq!(world.local("Lists/rust").len(), kept);
    world.mk.sync_ok();
    world.assert_same();
}

/// Nor while something is missing elsewhere, so that everything is looked at a second time.
#[test]
fn a_folder_that_cannot_be_read_does_not_stop_the_others() {
    use std::os::unix::fs::PermissionsExt;
    let world = synced();
    let gone = world.local("INBOX").remove(0);
    fs::remove_file(&gone.path).unwrap();
    world.server.imap().append_all("Lists/rust", &world.mint.letters(500..503));
    let blind = world.mk.folder("Work/cur");
    fs::set_permissions(&blind, fs::Permissions::from_mode(0o300)).unwrap();
    let said = world.mk.start_limited(&["sync"], &as_ordinary_user()).wait(world.mk.timeout);
    fs::set_permissions(&blind, fs::Permissions::from_mode(0o700)).unwrap();
    let text = said.expect(1).text();
    assert!(text.contains("Work/cur"), "{text}");
    assert_eq!(world.local("Lists/rust").len(), 11, "{text}");
    assert_eq!(world.remote("INBOX").len(), 20, "it may have been moved into the other");
    world.mk.sync_ok();
    assert_eq!(world.remote("INBOX").len(), 19);
    world.assert_same();
}

#[test]
fn the_same_name_twice_is_one_message() {
    let world = synced();
    let m = &world.local("INBOX")[0];
    // As rsync leaves it: the old name beside the one with new flags.
    let twin = world.mk.folder("INBOX/cur").join(format!("{}:2,FRS", m.base));
    fs::copy(&m.path, &twin).unwrap();
    maildir::set_mtime(&twin, m.date);
    world.mk.sync_ok();
    assert_eq!(world.local("INBOX").len(), 20);
    assert_eq!(world.remote("INBOX").len(), 20);
    world.mk.sync_ok();
    world.assert_same();
}

/// A rename that a power cut tore leaves both names of one file.
#[test]
fn a_torn_rename_is_one_message() {
    let world = synced();
    let history = |id: &str| world.mk.run(&["history", "--message-id", id]).text();
    let twice = |m: &LocalMessage, names: [&str; 2]| {
        let dir = world.mk.folder("INBOX");
        let [first, second] = names.map(|n| dir.join(n.replace('*', &m.base)));
        if m.path != first {
            fs::rename(&m.path, &first).unwrap();
        }
        fs::hard_link(&first, &second).unwrap();
    };
    let all = world.local("INBOX");
    // one of the two is what the row knows, or neither is
    twice(&all[0], ["new/*", "cur/*:2,FS"]);
    twice(&all[1], ["cur/*:2,FR", "cur/*:2,S"]);
    // and one that no row knows
    let new = maildir::deliver(&world.mk.folder("INBOX"), &world.mint.letter(900));
    let new = world.local("INBOX").into_iter().find(|m| m.path == new).unwrap();
    twice(&new, ["new/*", "cur/*:2,F"]);
    world.mk.sync_ok();
    assert_eq!((world.local("INBOX").len(), world.remote("INBOX").len()), (21, 21));
    world.assert_same();
    for (m, flags) in [
        (&all[0], "\\Flagged \\Seen"),
        (&all[1], "\\Answered \\Flagged \\Seen"),
        (&new, "\\Flagged"),
    ] {
        let now = world.local("INBOX").into_iter().find(|x| x.base == m.base).expect("one");
        for flag in flags.split(' ') {
            assert!(now.flags.contains(flag), "{}: {:?}", now.path.display(), now.flags);
        }
        let told = history(&m.message_id);
        assert!(told.contains("twice"), "the journal says so: {told}");
    }
}

#[test]
fn other_bytes_under_one_name_are_two_messages() {
    for known in [true, false] {
        let world = synced();
        let inbox = world.mk.folder("INBOX");
        let m = match known {
            true => world.local("INBOX").remove(0),
            false => {
                let new = maildir::deliver(&inbox, &world.mint.letter(900));
                world.local("INBOX").into_iter().find(|m| m.path == new).unwrap()
            }
        };
        let other = maildir::deliver(&inbox, &world.mint.letter(901));
        fs::rename(&other, inbox.join(format!("cur/{}:2,FRT", m.base))).unwrap();
        world.mk.sync_ok();
        world.assert_same();
        let all = world.local("INBOX");
        assert_eq!(all.len(), if known { 21 } else { 22 });
        let bases: std::collections::BTreeSet<_> = all.iter().map(|m| &m.base).collect();
        assert_eq!(bases.len(), all.len());
    }
}

#[test]
fn torn_renames_after_the_loss_of_the_ledger() {
    let world = synced();
    let all = world.local("INBOX");
    for (m, sub) in all.iter().take(4).zip(["new", "cur", "new", "cur"]) {
        let suffix = if sub == "new" { "" } else { ":2,FR" };
        let second = world.mk.folder("INBOX").join(sub).join(format!("{}{suffix}", m.base));
        if second != m.path {
            fs::hard_link(&m.path, second).unwrap();
        }
    }
    world.mk.lose_ledger();
    world.mk.sync_ok();
    world.assert_same();
    assert_eq!((world.local("INBOX").len(), world.remote("INBOX").len()), (20, 20));
}

#[test]
fn what_is_held_is_not_read_in_every_pass() {
    let world = World::new(Dovecot::start());
    maildir::make_folder(&world.mk.folder("INBOX"));
    for i in 900..905 {
        maildir::deliver(&world.mk.folder("INBOX"), &world.mint.letter(i));
    }
    world.mk.sync().expect(3);
    let reads = || {
        let said = world.mk.run(&["-v", "-v", "sync"]).expect(3).text();
        said.matches("reading ").count()
    };
    // a file that was written just now may be written to again unseen
    wait_for("an idle pass", Duration::from_secs(20), || (reads() == 0).then_some(()));
    // what was written into is read again, even if that does not show in size and mtime
    let held = world.local("INBOX").into_iter().find(|m| !m.base.ends_with(".mailkeep")).unwrap();
    let mut bytes = fs::read(&held.path).unwrap();
    bytes.reverse();
    fs::write(&held.path, &bytes).unwrap();
    maildir::set_mtime(&held.path, held.date);
    assert_eq!(reads(), 1);
    world.mk.run(&["approve", "test", "1"]).expect(0);
    world.mk.sync_ok();
    world.assert_same();
    assert_eq!(world.remote("INBOX").len(), 25);
}

#[test]
fn only_one_folder() {
    let world = synced();
    for folder in ["INBOX", "Work"] {
        let uids = world.uids(folder);
        world.server.imap().store(folder, &uids[..1], "FLAGS", &["\\Flagged", "\\Draft"]);
    }
    world.mk.run(&["sync", "--folder", "Work"]).expect(0);
    let drafts = |f: &str| world.local(f).iter().filter(|m| m.flags.contains("\\Draft")).count();
    assert_eq!((drafts("Work"), drafts("INBOX")), (1, 0));
    world.mk.sync_ok();
    world.assert_same();
}
