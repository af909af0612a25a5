//! A Maildir in which readers are at work, or not everything can be read, while a pass is under way:
//! nothing is fetched twice, and nothing that is here is taken for gone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::letters::{simple, to_lf};
use crate::common::maildir::{make_folder, move_file, mutt_save, set_flags};
use crate::common::process::{as_ordinary_user, wait_for};
use crate::common::proxy::Faults;
use crate::common::*;

fn dovecot(letters: std::ops::Range<usize>) -> Dovecot {
    let server = Dovecot::with(Options { pop3: true, ..Options::default() });
    server.seed("INBOX", &Mint::new(51).letters(letters));
    server
}

fn pop3(port: u16, keys: &str) -> Mailkeep {
    let mut mk = Mailkeep::to_port(port);
    mk.set("protocol", "pop3").set_raw("pop3", &format!("{{ {keys} }}"));
    mk
}

fn inbox(mk: &Mailkeep) -> Vec<LocalMessage> {
    read_folder(&mk.folder("INBOX"))
}

/// A pass that may not read everything.
fn half_blind(mk: &Mailkeep, status: i32) -> String {
    mk.start_limited(&["sync"], &as_ordinary_user()).wait(mk.timeout).expect(status).text()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_cannot_be_read_when_the_ledger_is_lost_is_not_fetched_again() {
    let server = dovecot(0..12);
    let mk = pop3(server.pop3_port(), "");
    mk.sync_ok();
    let before: Vec<_> = inbox(&mk).into_iter().map(|m| m.path).collect();
    for (what, blind, mode) in [(&before[0], 0o000, 0o600), (&mk.folder("INBOX/new"), 0o300, 0o700)]
    {
        mk.lose_ledger();
        chmod(what, blind);
        let said = half_blind(&mk, 1);
        // it is a first pass again, until all could be read
        half_blind(&mk, 1);
        chmod(what, mode);
        if what.is_file() {
            assert!(said.contains("1 message waits"), "{said}");
            assert!(said.contains(before[0].to_str().unwrap()), "{said}");
        }
        mk.sync_ok();
        let now: Vec<_> = inbox(&mk).into_iter().map(|m| m.path).collect();
        assert_eq!(now, before, "{said}");
        server.seed("INBOX", &Mint::new(51).letters(20..21));
        mk.sync_ok();
        assert_eq!(inbox(&mk).len(), 13, "what is new comes");
        let new = inbox(&mk).into_iter().find(|m| !before.contains(&m.path)).unwrap();
        fs::remove_file(new.path).unwrap();
        let mut imap = server.imap();
        let uid = imap.find("INBOX", &new.message_id);
        imap.expunge("INBOX", &uid);
    }
}

/// What is as new as it can be, and of another size, is not held up by a file nobody can read.
#[test]
fn only_what_an_unreadable_file_may_be_waits() {
    let server = dovecot(0..0);
    let long = simple("<long@x>", "long", &"text\r\n".repeat(20_000));
    server.seed("INBOX", &[Letter::new(long, &[], 1_600_000_000)]);
    server.seed("INBOX", &[Letter::new(simple("<short@x>", "short", "x\r\n"), &[], 1_600_000_000)]);
    let mk = pop3(server.pop3_port(), "");
    make_folder(&mk.folder("INBOX"));
    let file = mk.folder("INBOX/cur/1600000000.M1P2.host:2,S");
    fs::write(&file, to_lf(&simple("<other@x>", "other", "y\r\n"))).unwrap();
    chmod(&file, 0);
    let said = half_blind(&mk, 1);
    let ids = |mk: &Mailkeep| -> Vec<String> {
        let all = fs::read_dir(mk.folder("INBOX/new")).unwrap().map(|e| e.unwrap().path());
        all.map(|p| letters::message_id(&fs::read(p).unwrap())).collect()
    };
    assert_eq!(ids(&mk), ["<long@x>"], "{said}");
    chmod(&file, 0o600);
    mk.sync_ok();
    assert_eq!(ids(&mk).len(), 2);
}

/// Later, a folder that cannot be read holds up nothing but what is in it.
#[test]
fn one_folder_that_cannot_be_read_does_not_stop_the_mail() {
    let server = dovecot(0..6);
    let mk = pop3(server.pop3_port(), "delete_when_removed_locally = true");
    mk.sync_ok();
    let archive = mk.folder("Archive");
    make_folder(&archive);
    let here = inbox(&mk);
    move_file(&here[0], &archive);
    mk.sync_ok();
    // one is moved there, and one removed: nobody can tell which is which
    move_file(&here[1], &archive);
    fs::remove_file(&here[2].path).unwrap();
    server.seed("INBOX", &Mint::new(51).letters(6..8));
    chmod(&archive.join("new"), 0o300);
    let said = half_blind(&mk, 1);
    chmod(&archive.join("new"), 0o700);
    assert!(said.contains("Archive") && said.contains("2 new"), "{said}");
    assert_eq!(server.imap().count("INBOX"), 8);
    mk.sync_ok();
    assert_eq!(server.imap().count("INBOX"), 7);
    assert_eq!((inbox(&mk).len(), read_folder(&archive).len()), (5, 2));
}

/// A file of another program that nobody can read may be what was moved; it is no reason to fail.
#[test]
fn what_was_moved_may_be_what_cannot_be_read() {
    let server = dovecot(0..6);
    let mk = pop3(server.pop3_port(), "delete_when_removed_locally = true");
    mk.sync_ok();
    let archive = mk.folder("Archive");
    make_folder(&archive);
    let saved = mutt_save(&inbox(&mk)[0], &archive);
    chmod(&saved, 0);
    server.seed("INBOX", &Mint::new(51).letters(6..7));
    let said = half_blind(&mk, 1);
    assert!(said.contains(saved.to_str().unwrap()) && said.contains("1 new"), "{said}");
    assert_eq!(server.imap().count("INBOX"), 7, "it is not taken for removed");
    chmod(&saved, 0o600);
    mk.sync_ok();
    assert_eq!(server.imap().count("INBOX"), 7);
    fs::remove_file(saved).unwrap();
    mk.sync_ok();
    assert_eq!(server.imap().count("INBOX"), 6);
}

/// Between the look into the directories and that into the files, a reader marks all as read.
#[test]
fn what_a_reader_renames_in_a_first_pass_is_not_fetched_again() {
    for traces in [false, true] {
        let server = dovecot(0..12);
        let proxy = Proxy::to(server.pop3_port());
        let mk = pop3(proxy.port(), "");
        make_folder(&mk.folder("INBOX"));
        for (n, l) in Mint::new(51).letters(0..12).into_iter().enumerate() {
            let above = if traces { "Return-Path: <a@b>\nDelivered-To: me\n" } else { "" };
            let text = [above.as_bytes(), &to_lf(&l.body)].concat();
            fs::write(mk.folder("INBOX/new").join(format!("160000000{n}.M1P2.host")), text)
                .unwrap();
        }
        let files = inbox(&mk);
        proxy.set(Faults { round_trip: Duration::from_millis(400), ..Faults::default() });
        let running = mk.start(&["sync"]);
        // the directories were read while the connection was made
        wait_for("the login", Duration::from_secs(30), || {
            (proxy.count_pop3("PASS") + proxy.count_pop3("AUTH") > 0).then_some(())
        });
        files.iter().for_each(|m| drop(set_flags(m, "S")));
        let said = running.wait(mk.timeout).expect(0).text();
        assert_eq!(inbox(&mk).len(), 12, "{said}");
        mk.sync_ok();
        assert_eq!(inbox(&mk).len(), 12);
    }
}

/// What is missing is believed once nothing moves any more: also when nothing changes after that.
#[test]
fn a_removal_that_a_busy_reader_hides_is_seen_later() {
    let server = dovecot(0..6);
    let mk = pop3(server.pop3_port(), "delete_when_removed_locally = true");
    mk.sync_ok();
    let archive = mk.folder("Archive");
    make_folder(&archive);
    move_file(&inbox(&mk)[0], &archive);
    mk.sync_ok();
    fs::remove_file(&inbox(&mk)[0].path).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let m = read_folder(&archive).remove(0);
                set_flags(&m, if m.flags.is_empty() { "S" } else { "" });
            }
        });
        mk.sync_ok();
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(server.imap().count("INBOX"), 6, "not while it may be anywhere");
    mk.sync_ok();
    assert_eq!(server.imap().count("INBOX"), 5);
    assert_eq!((inbox(&mk).len(), read_folder(&archive).len()), (4, 1));
}
