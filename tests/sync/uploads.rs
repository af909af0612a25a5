//! What appears in the Maildir goes to the server, once and as it is.

use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::common::dovecot::{Mode, Options};
use crate::common::letters::{odd, simple, to_lf};
use crate::common::maildir::{deliver, make_folder, move_file, set_mtime};
use crate::common::process::wait_for;
use crate::common::proxy::Faults;
use crate::common::*;
use crate::world::{World, synced};

#[test]
fn new_messages_with_flags_and_date() {
    for mode in Mode::ALL {
        let world = World::synced(Dovecot::in_mode(mode));
        for i in 300..310 {
            deliver(&world.mk.folder("Work"), &world.mint.letter(i));
        }
        world.mk.sync_ok();
        world.assert_same();
        assert_eq!(world.remote("Work").len(), 22);
        world.proxy.reset();
        for _ in 0..2 {
            world.mk.sync_ok();
        }
        assert_eq!(world.changes(), Vec::<String>::new());
        world.assert_same();
    }
}

#[test]
fn new_folders() {
    let world = synced();
    for folder in ["Neu/Größe", "Plain", "With & sign", "50%25"] {
        make_folder(&world.mk.folder(folder));
        deliver(&world.mk.folder(folder), &world.mint.letter(folder.len() + 400));
    }
    world.mk.sync_ok();
    let mut listed = world.server.imap().list();
    listed.retain(|f| ["Neu/Größe", "Plain", "With & sign", "50%"].contains(&f.as_str()));
    assert_eq!(listed.len(), 4, "a %25 on disk is a % in the name: {listed:?}");
    assert_eq!(world.remote("Neu/Größe").len(), 1);
}

#[test]
fn odd_messages_survive_the_way_back() {
    let world = synced();
    let dir = world.mk.folder("Work");
    // Each in its local form, as a mail program here would have it. Mixed line ends stay mixed.
    let mut want = Vec::new();
    for (i, (name, body)) in odd().into_iter().enumerate() {
        let exact = to_lf(&body).iter().filter(|b| **b == b'\n').count()
            == body.windows(2).filter(|w| w == b"\r\n").count();
        if !exact {
            continue;
        }
        let date = 1_500_000_000 + i as i64;
        deliver(&dir, &Letter::new(body.clone(), &["\\Seen"], date));
        want.push((name, letters::hash(&body), date));
    }
    world.mk.sync_ok();
    let there = world.remote("Work");
    for (name, hash, date) in want {
        let n = there.iter().filter(|m| m.hash == hash && m.date == date).count();
        assert_eq!(n, 1, "{name}");
    }
    world.assert_same();
}

#[test]
fn cp_straight_into_cur_is_uploaded_whole() {
    let world = synced();
    let text = "line of a slowly copied message\r\n".repeat(40_000);
    let body = to_lf(&simple("<slow@test>", "slow", &text));
    let path = world.mk.folder("Work/cur/1700000001.slow.host:2,S");
    let (whole, file) = (body.clone(), path.clone());
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        let mut f = fs::File::create(file).unwrap();
        for piece in whole.chunks(whole.len() / 20 + 1) {
            f.write_all(piece).unwrap();
            // This is what the test is about: a file that grows for a while.
            std::thread::sleep(std::time::Duration::from_millis(60));
        }
    });
    // It is seen half-written by this pass, or not at all.
    process::wait_for("the file", world.mk.timeout, || path.exists().then_some(()));
    let first = world.mk.sync();
    writer.join().unwrap();
    world.mk.sync();
    world.mk.sync_ok();
    world.assert_same();
    let there = world.remote("Work");
    let copies: Vec<_> = there.iter().filter(|m| m.message_id == "<slow@test>").collect();
    assert_eq!(copies.len(), 1, "{}", first.text());
    assert_eq!(copies[0].hash, letters::hash(&body));
}

#[test]
fn a_draft_edited_here_arrives_as_edited() {
    let world = synced();
    let draft =
        |text: &str| Letter::new(simple("<draft@test>", "d", text), &["\\Draft"], 1_600_000_000);
    let first = deliver(&world.mk.folder("Drafts"), &draft("first words\r\n"));
    world.mk.sync_ok();
    assert_eq!(world.remote("Drafts").len(), 1);
    // Postponed again: a new file with the same Message-ID, date and size; the old one goes.
    fs::remove_file(first).unwrap();
    deliver(&world.mk.folder("Drafts"), &draft("other words\r\n"));
    world.mk.sync_ok();
    world.mk.sync_ok();
    world.assert_same();
    let there = world.server.imap().bodies("Drafts");
    assert_eq!(there.len(), 1);
    assert!(String::from_utf8_lossy(&there[0].1).contains("other words"));
}

#[test]
fn a_draft_edited_there_arrives_as_edited() {
    let world = synced();
    let draft =
        |text: &str| Letter::new(simple("<draft@test>", "d", text), &["\\Draft"], 1_600_000_000);
    world.server.imap().append("Drafts", &draft("first words\r\n"));
    world.mk.sync_ok();
    let uids = world.uids("Drafts");
    world.server.imap().append("Drafts", &draft("other words\r\n"));
    world.server.imap().expunge("Drafts", &uids);
    world.mk.sync_ok();
    world.assert_same();
}

#[test]
fn upload_can_be_switched_off() {
    let mut world = World::new(Dovecot::start());
    world.mk.policy_raw("upload", "false");
    world.mk.sync_ok();
    world.proxy.reset();
    deliver(&world.mk.folder("Work"), &world.mint.letter(300));
    world.mk.sync_ok();
    assert_eq!(world.changes(), Vec::<String>::new());
    assert_eq!(world.local("Work").len(), 13);
}

#[test]
fn equal_copies_stay_two() {
    let world = synced();
    let letter = world.mint.letter(700);
    deliver(&world.mk.folder("Work"), &letter);
    deliver(&world.mk.folder("Work"), &letter);
    world.mk.sync_ok();
    world.assert_same();
    assert_eq!(world.remote("Work").len(), 14);
    world.mk.lose_ledger();
    world.mk.sync_ok();
    world.assert_same();
    assert_eq!(world.remote("Work").len(), 14);
}

#[test]
fn what_the_server_refuses_waits_and_is_shown() {
    let quota = ["quota = maildir:User quota", "quota_max_mail_size = 100k"];
    let server = Dovecot::with(Options::default().plugin("quota", &quota));
    let world = World::synced(server);
    let big = simple("<toobig@test>", "big", &"0123456789\r\n".repeat(20_000));
    deliver(&world.mk.folder("Work"), &Letter::new(big, &["\\Seen"], 1_600_000_000));
    deliver(&world.mk.folder("Work"), &world.mint.letter(800));
    let said = world.mk.sync();
    assert_eq!(world.remote("Work").len(), 13, "the other one went: {}", said.text());
    assert_eq!(world.local("Work").len(), 14, "and this one is still here");
    assert!(world.mk.run(&["status"]).text().contains("Work"));
}

/// What is in a folder that could not be looked into is not known, and may be what would be sent.
#[test]
fn nothing_is_put_into_a_folder_that_could_not_be_looked_into() {
    let mut world = World::synced(Dovecot::in_mode(Mode::Plain));
    world.mk.deletes("mirror", "trash");
    world.server.imap().append("Trash", &world.mint.letter(301));
    world.mk.sync_ok();
    deliver(&world.mk.folder("Work"), &world.mint.letter(300));
    let here = world.local("INBOX");
    let body = fs::read(&here[0].path).unwrap();
    deliver(&world.mk.folder("Work"), &Letter::new(body, &["\\Seen"], here[0].date));
    maildir::move_file(&here[1], &world.mk.folder("Work"));
    fs::remove_file(&here[2].path).unwrap();
    let lies = [("* 12 EXISTS", "* 92 EXISTS"), ("* 1 EXISTS", "* 91 EXISTS")];
    let lies = lies.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
    world.proxy.set(Faults { lies, ..Faults::default() });
    for _ in 0..2 {
        world.proxy.reset();
        let said = world.mk.sync().expect(1);
        assert_eq!(world.changes(), Vec::<String>::new(), "{}", said.text());
        for waits in ["folder Work: 3 changes wait", "folder Trash: 1 change waits"] {
            assert!(said.text().contains(waits), "{}", said.text());
        }
    }
    world.proxy.set(Faults::default());
    world.mk.sync_ok();
    world.assert_same();
    assert_eq!(["INBOX", "Work", "Trash"].map(|f| world.uids(f).len()), [18, 15, 2]);
}

/// What the server has no room for is not sent at every pass.
#[test]
fn a_full_server_is_asked_about_few() {
    let quota = ["quota = count:User quota", "quota_vsizes = yes", "quota_rule = *:messages=60"];
    for mode in [Mode::Full, Mode::Plain] {
        let options = Options { mode, ..Options::default() }.plugin("quota", &quota);
        let world = World::synced(Dovecot::with(options));
        for i in 300..400 {
            deliver(&world.mk.folder("Work"), &world.mint.letter(i));
        }
        for (most, there) in [(50, 29), (1, 29)] {
            world.proxy.reset();
            world.mk.sync().expect(1);
            let asked = world.proxy.count("APPEND");
            assert!((1..=most).contains(&asked), "{mode:?}: {asked} of at most {most}");
            assert_eq!(world.uids("Work").len(), there, "{mode:?}");
        }
        // all the same, what has room goes
        let uids = world.uids("INBOX");
        world.server.imap().expunge("INBOX", &uids[..5]);
        world.mk.sync().expect(1);
        assert_eq!((world.uids("Work").len(), world.local("Work").len()), (34, 112));
    }
}

#[test]
fn a_directory_that_is_no_folder_s_is_told_of() {
    let world = synced();
    for dir in ["50% off", "inbox"] {
        make_folder(&world.mk.maildir().join(dir));
        deliver(&world.mk.maildir().join(dir), &world.mint.letter(90));
    }
    deliver(&world.mk.folder("Work"), &world.mint.letter(91));
    fs::remove_file(&world.local("Work")[0].path).unwrap(); // a second scan looks again
    let said = world.mk.sync_ok();
    let told: Vec<_> = said.stderr.lines().filter(|l| l.contains("is left alone")).collect();
    assert!(matches!(told.as_slice(), [a, b] if
        a.contains("rename it to") && a.contains("50%25 off") &&
        b.contains("(move its messages into") && b.contains("INBOX")));
    let notes = world.mk.status()["accounts"][0]["notes"].to_string();
    assert!(notes.contains("50%25 off"), "{notes}");
}

#[test]
fn what_is_rewritten_after_it_was_read_beside_the_login_is_sent_as_it_is() {
    let mut world = synced();
    let (go, password) = (world.mk.dir().join("go"), world.mk.dir().join("password"));
    let waits =
        format!("until [ -e {} ]; do sleep 0.02; done; cat {}", go.display(), password.display());
    world.mk.unset("password_file").set("password_command", &waits);
    let dir = world.mk.folder("Work");
    let letters = [300, 301, 302].map(|i| world.mint.letter(i));
    let [openly, secretly, untouched] = letters.each_ref().map(|l| deliver(&dir, l));
    // nothing is read in advance in whose time stamps a change might not show
    wait_for("the files to be older than a tick", Duration::from_secs(20), || {
        let m = fs::metadata(&untouched).unwrap();
        let changed = Duration::new(m.ctime() as u64, m.ctime_nsec() as u32);
        let age = UNIX_EPOCH.elapsed().unwrap().saturating_sub(changed);
        (age > Duration::from_millis(50)).then_some(())
    });
    let events = inotify::init(CreateFlags::NONBLOCK).unwrap();
    for p in [&openly, &secretly, &untouched] {
        inotify::add_watch(&events, p, WatchFlags::CLOSE_NOWRITE).unwrap();
    }
    let pass = world.mk.start(&["-v", "-v", "sync"]);
    let mut buffer = [const { MaybeUninit::uninit() }; 4096];
    let mut closed = inotify::Reader::new(&events, &mut buffer);
    for _ in 0..3 {
        wait_for("a file to be read", Duration::from_secs(20), || closed.next().ok().map(|_| ()));
    }
    fs::write(&openly, "Subject: openly\n\nnew\n").unwrap();
    // neither its size nor its mtime tells
    let mut text = fs::read(&secretly).unwrap();
    text.reverse();
    fs::write(&secretly, &text).unwrap();
    set_mtime(&secretly, letters[1].date);
    fs::write(&go, "").unwrap();
    let said = pass.wait(Duration::from_secs(60)).expect(0).text();
    let read = |p: &Path| said.matches(&format!("reading {}", p.display())).count();
    assert_eq!([read(&openly), read(&secretly), read(&untouched)], [2, 2, 1], "{said}");
    world.assert_same();
    let there: Vec<_> = world.remote("Work").into_iter().map(|m| m.hash).collect();
    let sent = letters.each_ref().map(|l| there.contains(&letters::hash(&l.body)));
    assert_eq!((there.len(), sent), (15, [false, false, true]));
    // the rows know what was sent: a move needs no bytes
    world.proxy.reset();
    let moved = world.local("Work").into_iter().find(|m| m.path == secretly).unwrap();
    move_file(&moved, &world.mk.folder("INBOX"));
    world.mk.sync_ok();
    assert!(!world.changes().iter().any(|c| c.contains("APPEND")), "{:?}", world.changes());
    world.assert_same();
}
