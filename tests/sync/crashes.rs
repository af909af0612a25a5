//! Killed, cut off, started twice: the end is that of an undisturbed run.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::common::dovecot::Mode;
use crate::common::maildir::deliver;
use crate::common::process::wait_for;
use crate::common::proxy::Faults;
use crate::common::*;
use crate::world::{World, contents, synced};

const SEED: u64 = 7;

fn slow(milliseconds: u64) -> Faults {
    Faults { round_trip: Duration::from_millis(milliseconds), ..Faults::default() }
}

#[test]
fn killed_in_the_first_pull() {
    let world = World::empty(Dovecot::start());
    for (i, folder) in ["INBOX", "Work", "Lists/rust"].iter().enumerate() {
        world.server.seed(folder, &world.mint.letters(400 * i..400 * (i + 1)));
    }
    let all = world.remote("INBOX");
    let mut rng = Rng::labelled(SEED, "killed pull");
    world.proxy.set(slow(4));
    for round in 0..12 {
        let time = Duration::from_millis(20 + rng.below(60 * (round + 1)) as u64);
        world.mk.start(&["sync"]).kill_after(time);
        if world.mk.folder("INBOX/cur").is_dir() {
            for m in world.local("INBOX") {
                assert!(all.iter().any(|r| r.hash == m.hash), "cut short: {}", m.path.display());
            }
        }
    }
    world.mk.sync_ok();
    world.assert_same();
    for folder in ["INBOX", "Work", "Lists/rust"] {
        let tmp = world.mk.folder(folder).join("tmp");
        assert_eq!(std::fs::read_dir(tmp).unwrap().count(), 0, "leftovers are cleared");
    }
}

#[test]
fn killed_while_uploading() {
    for mode in Mode::ALL {
        let world = World::synced(Dovecot::in_mode(mode));
        for i in 1000..1080 {
            deliver(&world.mk.folder("Work"), &world.mint.letter(i));
        }
        let mut rng = Rng::labelled(SEED, "killed upload");
        world.proxy.set(slow(10));
        for _ in 0..8 {
            let time = Duration::from_millis(40 + rng.below(400) as u64);
            world.mk.start(&["sync"]).kill_after(time);
        }
        finish(&world);
        assert_eq!(world.remote("Work").len(), 92, "{mode:?}: each once");
    }
}

#[test]
fn killed_while_changing_everything() {
    let seed = std::env::var("MAILKEEP_SEED").map_or(SEED, |s| s.parse().expect("a number"));
    println!("seed {seed} (MAILKEEP_SEED)");
    let world = synced();
    let mut rng = Rng::labelled(seed, "killed changes");
    world.proxy.set(slow(6));
    for round in 0..6 {
        let here = world.local("INBOX");
        maildir::move_file(&here[rng.below(here.len())], &world.mk.folder("Work"));
        let here = world.local("Work");
        maildir::mutt_save(&here[rng.below(here.len())], &world.mk.folder("Lists/rust"));
        let here = world.local("Lists/rust");
        maildir::set_flags(&here[rng.below(here.len())], "FS");
        let uids = world.uids("Work");
        let uid = uids[rng.below(uids.len())];
        world.server.imap().move_to("Work", &[uid], "INBOX");
        deliver(&world.mk.folder("INBOX"), &world.mint.letter(2000 + round));
        world.server.imap().append("Work", &world.mint.letter(3000 + round));
        let time = Duration::from_millis(30 + rng.below(250) as u64);
        let said = world.mk.start(&["sync"]).kill_after(time);
        println!("killed after {time:?}: {}", said.text());
        assert!(!said.text().contains("paired again"), "a kill is no restored backup");
    }
    finish(&world);
    let mut left: Vec<String> = Vec::new();
    for folder in ["INBOX", "Work", "Lists/rust"] {
        left.extend(world.remote(folder).iter().map(|m| format!("{} {folder}", m.message_id)));
    }
    left.sort();
    let history = world.mk.run(&["history"]).text();
    let said = format!("{left:#?}\n{history}");
    assert_eq!(left.len(), 20 + 12 + 8 + 12, "nothing lost, nothing doubled: {said}");
}

/// Passes until all is done. What a killed pass left open may need a second look.
#[track_caller]
fn finish<S: Server>(world: &World<S>) {
    world.proxy.set(Faults { hide: world.server.hide().to_owned(), ..Faults::default() });
    let mut last = world.mk.sync();
    for _ in 0..2 {
        if last.status != Some(0) {
            last = world.mk.sync();
        }
    }
    let said = last.expect(0).text();
    assert!(!said.contains("paired again"), "a kill is no restored backup: {said}");
    // A save by mutt differs here from what it is there, as it should.
    let counts = |f: &str| (world.local(f).len(), world.remote(f).len());
    for folder in ["INBOX", "Work", "Lists/rust"] {
        let (here, there) = counts(folder);
        assert_eq!(here, there, "{folder}: {said}{}", world.mk.run(&["status"]).text());
    }
}

#[test]
fn cut_after_so_many_bytes() {
    let world = World::new(Dovecot::start());
    let mut rng = Rng::labelled(SEED, "cuts");
    let mut limit = 100;
    while limit < 700_000 {
        world.proxy.set(Faults { cut_down: Some(limit), ..Faults::default() });
        let said = world.mk.sync();
        assert!(matches!(said.status, Some(0 | 1)), "{}", said.text());
        limit += limit / 2 + rng.below(limit as usize) as u64;
    }
    world.proxy.set(Faults::default());
    world.mk.sync_ok();
    world.assert_same();
}

#[test]
fn cut_in_a_listing_is_no_deletion() {
    for mode in Mode::ALL {
        let world = World::synced(Dovecot::in_mode(mode));
        let before = world.files();
        for on in ["LIST", "STATUS", "SELECT", "EXAMINE", "FETCH", "SEARCH"] {
            // Something to look at.
            let uids = world.uids("INBOX");
            world.server.imap().store("INBOX", &uids[..1], "+FLAGS", &["\\Answered"]);
            world.server.imap().store("INBOX", &uids[..1], "-FLAGS", &["\\Answered"]);
            for cut_answer in [false, true] {
                let cut_on = Some(on.to_owned());
                world.proxy.set(Faults { cut_on, cut_answer, ..Faults::default() });
                world.mk.sync();
                assert_eq!(world.files(), before, "cut on {on}");
            }
        }
        world.proxy.set(Faults::default());
        world.mk.sync_ok();
        world.assert_same();
    }
}

#[test]
fn cut_before_and_after_a_command_that_changes() {
    for mode in Mode::ALL {
        for (on, answered) in
            [("APPEND", false), ("APPEND", true), ("COPY", true), ("MOVE", true), ("STORE", true)]
        {
            let world = World::synced(Dovecot::in_mode(mode));
            deliver(&world.mk.folder("Work"), &world.mint.letter(1000));
            let here = world.local("INBOX");
            maildir::move_file(&here[0], &world.mk.folder("Work"));
            maildir::set_flags(&here[1], "FRS");
            let body = std::fs::read(&here[2].path).unwrap();
            deliver(&world.mk.folder("Work"), &Letter::new(body, &["\\Seen"], here[2].date));
            let cut_on = Some(on.to_owned());
            world.proxy.set(Faults { cut_on, cut_answer: answered, ..Faults::default() });
            println!("{mode:?}, cut on {on}: {}", world.mk.sync().text());
            finish(&world);
            assert_eq!(world.remote("INBOX").len(), 19, "{mode:?}, {on}");
            assert_eq!(world.remote("Work").len(), 15, "{mode:?}, {on}: each once");
            world.assert_same();
        }
    }
}

/// The file may be anywhere by the time we find out what the server did.
#[test]
fn moved_here_after_a_command_that_was_cut() {
    for mode in Mode::ALL {
        for (on, written_anew) in [("APPEND", false), ("COPY", false), ("APPEND", true)] {
            let world = World::synced(Dovecot::in_mode(mode));
            let file = match on {
                "APPEND" => deliver(&world.mk.folder("INBOX"), &world.mint.letter(1000)),
                _ => maildir::mutt_copy(&world.local("Work")[0], &world.mk.folder("INBOX")),
            };
            let cut_on = Some(on.to_owned());
            world.proxy.set(Faults { cut_on, cut_answer: true, ..Faults::default() });
            println!("{mode:?}, cut on {on}: {}", world.mk.sync().text());
            let mut inode = std::fs::metadata(&file).unwrap().ino();
            let here = world.local("INBOX");
            let moved = here.iter().find(|m| m.inode == inode).expect("still here");
            if written_anew {
                let saved = maildir::mutt_save(moved, &world.mk.folder("Lists/rust"));
                inode = std::fs::metadata(&saved).unwrap().ino();
            } else {
                maildir::move_file(moved, &world.mk.folder("Lists/rust"));
            }
            finish(&world);
            let count = |f| world.remote(f).len();
            let all = [count("INBOX"), count("Work"), count("Lists/rust")];
            assert_eq!(all, [20, 12, 9], "{mode:?}, {on}, written anew: {written_anew}");
            assert!(world.inodes("Lists/rust").contains(&inode));
        }
    }
}

/// Its message is moved here meanwhile, to a folder that can be looked into.
#[test]
fn a_command_that_was_cut_stays_open_while_its_folder_cannot_be_looked_into() {
    let world = synced();
    deliver(&world.mk.folder("Work"), &world.mint.letter(1000));
    let cut_on = Some("APPEND".to_owned());
    world.proxy.set(Faults { cut_on, cut_answer: true, ..Faults::default() });
    world.mk.sync().expect(1);
    let sent = world.local("Work");
    let sent = sent.iter().find(|m| m.hash == letters::hash(&world.mint.letter(1000).body));
    maildir::move_file(sent.unwrap(), &world.mk.folder("Lists/rust"));
    let lies = vec![("* 13 EXISTS".to_owned(), "* 93 EXISTS".to_owned())];
    world.proxy.set(Faults { lies, ..Faults::default() });
    world.proxy.reset();
    let said = world.mk.sync().expect(1);
    assert_eq!(world.changes(), Vec::<String>::new(), "{}", said.text());
    finish(&world);
    assert_eq!((world.uids("Work").len(), world.uids("Lists/rust").len()), (12, 9));
}

/// What was under way is noted with the time; a clock that was wrong then makes nobody wait for it.
#[test]
fn a_clock_that_was_set_back_after_a_cut() {
    let world = World::synced(Dovecot::start());
    deliver(&world.mk.folder("INBOX"), &world.mint.letter(1000));
    world.proxy.set(Faults { cut_on: Some("APPEND".into()), ..Faults::default() });
    world.mk.sync().expect(1);
    world.proxy.set(Faults::default());
    let ledger = rusqlite::Connection::open(world.mk.state_dir().join("test.db")).unwrap();
    let set = "UPDATE intents SET created = created + 7200";
    assert_eq!(ledger.execute(set, []).unwrap(), 1);
    drop(ledger);
    let said = world.mk.sync_ok();
    assert!(said.elapsed < Duration::from_secs(60), "{:?}", said.elapsed);
    world.assert_same();
    assert_eq!(world.remote("INBOX").len(), 21);
}

#[test]
fn silence_ends_within_a_minute() {
    let mut world = World::new(Dovecot::start());
    world.mk.timeout = Duration::from_secs(75);
    world.proxy.set(Faults { stall_down: Some(3000), ..Faults::default() });
    let said = world.mk.sync().expect(1);
    assert!(said.elapsed < Duration::from_secs(62), "{:?}", said.elapsed);
    world.proxy.set(Faults::default());
    world.mk.sync_ok();
    world.assert_same();
}

#[test]
fn the_second_of_two_says_who_was_first() {
    let world = World::new(Dovecot::start());
    world.proxy.set(slow(300));
    let first = world.mk.start(&["sync"]);
    let pid = first.pid().to_string();
    wait_for("the first to be at work", Duration::from_secs(20), || {
        (world.proxy.connections() > 0).then_some(())
    });
    let second = world.mk.sync().expect(1);
    assert!(second.text().contains(&pid), "who holds the lock ({pid}): {}", second.text());
    first.wait(world.mk.timeout).expect(0);
    world.assert_same();
    let here = world.local("INBOX");
    assert_eq!(contents(here.iter().map(|m| &m.hash)).len(), 20);
}

#[test]
fn the_server_restarts_between() {
    let mut world = synced();
    world.server.stop();
    world.mk.sync().expect(1);
    world.server.restart();
    world.mk.sync_ok();
    world.assert_same();
    world.assert_no_bodies();
}

/// Killed before each of its steps in turn, each time from the same start. The server does not change.
#[test]
fn a_removal_cut_short_takes_no_equal_file_with_it() {
    let mut world = synced();
    // the copy cannot be sent, so it has no row yet
    world.mk.set_raw("read_only", "true");
    let letter = world.remote("INBOX").swap_remove(0);
    let file = world.twin("INBOX", &letter);
    let copy = maildir::mutt_copy(&file, &world.mk.folder("INBOX"));
    world.server.imap().expunge("INBOX", &[letter.uid]);
    let start = process::temp_dir("start");
    let state = world.mk.state_dir();
    let mail = world.mk.maildir().to_owned();
    let both = [(mail, start.path().join("mail")), (state, start.path().join("state"))];
    let clone = |from: &Path, to: &Path| {
        let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(done.expect("cp").success());
    };
    for (now, then) in &both {
        clone(now, then);
    }
    let mut cut_short = 0;
    for at in 1..200 {
        for (now, then) in &both {
            fs::remove_dir_all(now).unwrap();
            clone(then, now);
        }
        world.mk.environment("MAILKEEP_KILL_AT", Some(&at.to_string()));
        let killed = world.mk.sync().status.is_none();
        world.mk.environment("MAILKEEP_KILL_AT", None);
        cut_short += usize::from(killed && !file.path.exists());
        world.mk.sync_ok();
        assert!(!file.path.exists(), "it went from the server");
        assert!(copy.exists(), "a copy that somebody made is not what went from the server");
        assert_eq!(world.local("INBOX").len(), 20);
        let history = world.mk.run(&["history"]).text();
        assert_eq!(history.matches("it went from the server").count(), 1, "{history}");
        if !killed {
            break;
        }
    }
    assert!(cut_short > 1, "it was never killed between the file and its row");
}

/// What a cut command made has no UID that could tell when it came, if all UIDs are new since. It is
/// what stands there beyond what was known.
#[test]
fn other_uids_everywhere_after_a_command_that_was_cut() {
    for mode in Mode::ALL {
        let mut world = World::new(Dovecot::in_mode(mode));
        world
            .mk
            .deletes("keep", "mirror")
            .rule("folders = [\"INBOX\"]\nremote_delete = \"mirror\"");
        // one like it was kept in the target, and one is on both sides
        let twin = world.mint.letter(0);
        world.server.imap().append_all("Work", &[twin.clone(), twin.clone()]);
        world.mk.sync_ok();
        let is_like = |m: &RemoteMessage| m.hash == letters::hash(&twin.body);
        let like = world.remote("Work").into_iter().find(is_like).expect("there are two");
        world.server.imap().expunge("Work", &[like.uid]);
        world.mk.sync_ok();
        assert_eq!((world.local("Work").len(), world.remote("Work").len()), (14, 13));
        maildir::mutt_copy(&world.twin("INBOX", &like), &world.mk.folder("Work"));
        cut_and_renumber(&mut world, "COPY");
        finish_renumbered(&world);
        let there = world.remote("Work");
        assert_eq!(there.iter().filter(|m| is_like(m)).count(), 2, "{mode:?}");
        assert_eq!((world.local("Work").len(), there.len()), (15, 14), "{mode:?}: one is kept");
        assert_eq!(world.remote("INBOX").len(), 20);
        let kept = world.mk.run(&["kept"]).text();
        assert_eq!(kept.matches(&like.message_id).count(), 1, "{kept}");
    }
}

/// Where there is no MOVE, the original may stand beside its copy.
#[test]
fn other_uids_everywhere_after_a_move_that_was_cut() {
    for to in ["Work", "Trash"] {
        let mut world = World::synced(Dovecot::in_mode(Mode::Plain));
        world.mk.deletes("keep", "trash").policy("trash", "Trash");
        let letter = world.remote("INBOX").swap_remove(0);
        // one like it is there already
        world.server.imap().copy("INBOX", &[letter.uid], to);
        world.mk.sync_ok();
        let before = world.remote(to).len();
        let file = world.twin("INBOX", &letter);
        match to {
            "Trash" => fs::remove_file(file.path).unwrap(),
            _ => drop(maildir::move_file(&file, &world.mk.folder(to))),
        }
        cut_and_renumber(&mut world, "COPY");
        finish_renumbered(&world);
        assert_eq!(world.remote("INBOX").len(), 19, "{to}: it was moved");
        assert_eq!(world.remote(to).len(), before + 1, "{to}: once");
        world.assert_same();
    }
}

/// Killed while it finds out what a cut command did, before one step in two (MAILKEEP_EVERY_STEP=1:
/// each); then all UIDs are new once more.
#[test]
fn other_uids_everywhere_again_while_a_command_that_was_cut_is_resolved() {
    let every = std::env::var("MAILKEEP_EVERY_STEP").is_ok_and(|v| v != "0");
    let sample = if every { 1 } else { 2 };
    for (change, end) in [("copy", [3, 3, 0]), ("move", [2, 3, 0]), ("delete", [2, 2, 1])] {
        // the steps before are those of every pass
        let next = AtomicU64::new(8);
        let killed = || killed_while_resolving(change, next.fetch_add(sample, SeqCst), end);
        std::thread::scope(|s| (0..6).for_each(|_| drop(s.spawn(|| while killed() {}))));
        assert!(next.into_inner() > 20, "{change}: it was not killed often");
    }
}

/// Whether it was killed at all.
fn killed_while_resolving(change: &str, at: u64, end: [usize; 3]) -> bool {
    let mut world = World::empty(Dovecot::in_mode(Mode::Plain));
    world.mk.deletes("keep", "trash").policy("trash", "Trash");
    world.server.seed("INBOX", &world.mint.letters(0..3));
    world.server.seed("Work", &world.mint.letters(3..5));
    world.mk.sync_ok();
    let letter = world.remote("INBOX").swap_remove(0);
    let file = world.twin("INBOX", &letter);
    match change {
        "copy" => drop(maildir::mutt_copy(&file, &world.mk.folder("Work"))),
        "move" => drop(maildir::move_file(&file, &world.mk.folder("Work"))),
        _ => fs::remove_file(file.path).unwrap(),
    }
    cut_and_renumber(&mut world, "COPY");
    world.proxy.set(Faults::default());
    world.mk.environment("MAILKEEP_KILL_AT", Some(&at.to_string()));
    let killed = world.mk.sync().status.is_none();
    world.mk.environment("MAILKEEP_KILL_AT", None);
    renumber(&mut world);
    finish_renumbered(&world);
    let folders = ["INBOX", "Work", "Trash"];
    let both = (folders.map(|f| world.uids(f).len()), folders.map(|f| world.local(f).len()));
    let history = world.mk.run(&["history"]).text();
    assert_eq!(both, (end, end), "{change}, killed at step {at}: {history}");
    killed
}

/// A server may store an upload in its own way.
#[test]
fn other_uids_everywhere_after_an_upload_that_was_altered() {
    let mut world = synced();
    let letter = world.mint.letter(1000);
    // UIDs are lower afterwards
    world.server.imap().append_all("Work", &world.mint.letters(1001..1010));
    let there = world.remote("Work");
    let new: Vec<u32> = there.iter().skip(12).map(|m| m.uid).collect();
    world.server.imap().expunge("Work", &new);
    deliver(&world.mk.folder("Work"), &letter);
    cut_and_renumber(&mut world, "APPEND");
    let uid = world.server.imap().find("Work", &letters::message_id(&letter.body))[0];
    world.server.imap().expunge("Work", &[uid]);
    let altered = [&b"X-Seen-By: the server\r\n"[..], &letter.body].concat();
    world.server.imap().append("Work", &Letter::new(altered, &[], letter.date));
    world.proxy.set(Faults::default());
    let said = world.mk.sync().expect(3);
    assert_eq!(world.remote("Work").len(), 13, "{}", said.text());
    world.mk.sync().expect(3);
    assert_eq!(world.remote("Work").len(), 13, "{}", said.text());
    assert_eq!(world.local("Work").len(), 14);
}

/// The same of a copy: what cannot be resolved is held, not asked for again.
#[test]
fn a_copy_that_was_altered_is_held() {
    let world = synced();
    let letter = world.remote("INBOX").swap_remove(0);
    let file = world.twin("INBOX", &letter);
    deliver(&world.mk.folder("Work"), &Letter::new(fs::read(&file.path).unwrap(), &[], file.date));
    world.proxy.set(Faults { cut_on: Some("COPY".into()), cut_answer: true, ..Faults::default() });
    world.mk.sync().expect(1);
    let uid = *world.uids("Work").last().unwrap();
    world.server.imap().expunge("Work", &[uid]);
    let altered = [&b"X-UID: 13\r\n"[..], &world.mint.letter(0).body].concat();
    world.server.imap().append("Work", &Letter::new(altered, &[], letter.date));
    held_until_approved(&world);
    assert_eq!((world.uids("Work").len(), world.local("Work").len()), (14, 14));
}

/// RFC822.SIZE is not the size of the body with some servers.
#[test]
fn an_upload_that_was_cut_is_known_again_by_its_bytes() {
    let world = synced();
    let letter = world.mint.letter(1000);
    deliver(&world.mk.folder("Work"), &letter);
    let size = |n: usize| format!("RFC822.SIZE {n}");
    let lies = vec![(size(letter.body.len()), size(letter.body.len() - 7))];
    let cut_on = Some("APPEND".into());
    world.proxy.set(Faults { cut_on, cut_answer: true, lies: lies.clone(), ..Faults::default() });
    world.mk.sync().expect(1);
    world.proxy.set(Faults { lies, ..Faults::default() });
    world.proxy.reset();
    for _ in 0..2 {
        let said = world.mk.sync_ok();
        assert_eq!(world.changes(), Vec::<String>::new(), "{}", said.text());
    }
    assert_eq!((world.uids("Work").len(), world.local("Work").len()), (13, 13));
}

/// UIDNEXT says that the server stored what is not there any more.
#[test]
fn what_was_sent_and_removed_there_meanwhile_is_held() {
    let world = synced();
    deliver(&world.mk.folder("Work"), &world.mint.letter(1000));
    deliver(&world.mk.folder("Work"), &world.mint.letter(1001));
    world.proxy.set(Faults {
        cut_on: Some("APPEND".into()),
        cut_answer: true,
        ..Faults::default()
    });
    world.mk.sync().expect(1);
    assert_eq!(world.uids("Work").len(), 14);
    let uid = *world.uids("Work").last().unwrap();
    world.server.imap().expunge("Work", &[uid]);
    held_until_approved(&world);
    world.assert_same();
}

/// The line is good again: one message of folder Work waits for a person, and nothing is sent before.
#[track_caller]
fn held_until_approved(world: &World<Dovecot>) {
    world.proxy.set(Faults::default());
    world.proxy.reset();
    for _ in 0..2 {
        let said = world.mk.sync().expect(3);
        assert_eq!(world.changes(), Vec::<String>::new(), "{}", said.text());
    }
    assert_eq!((world.uids("Work").len(), world.local("Work").len()), (13, 14));
    world.mk.run(&["approve", "test", "1"]).expect(0);
    world.mk.sync_ok();
}

/// A pass that is cut off when the server has carried the command out; then all UIDs are new.
fn cut_and_renumber(world: &mut World<Dovecot>, on: &str) {
    world.proxy.set(Faults { cut_on: Some(on.into()), cut_answer: true, ..Faults::default() });
    world.mk.sync().expect(1);
    renumber(world);
}

fn renumber(world: &mut World<Dovecot>) {
    for folder in world.server.imap().list() {
        if world.server.imap().count(&folder) > 0 {
            world.server.reset_uidvalidity(&folder);
        }
    }
}

#[track_caller]
fn finish_renumbered(world: &World<Dovecot>) {
    world.proxy.set(Faults::default());
    world.mk.sync_ok();
    world.proxy.reset();
    world.mk.sync_ok();
    assert_eq!(world.changes(), Vec::<String>::new(), "all is done");
}
