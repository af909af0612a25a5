//! The harness tests itself: a comparer that cannot see a difference would make every other test
//! worthless.

// Helpers of tests fail by panicking, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeSet;

use common::letters::{hash, odd};
use common::maildir::{deliver, make_folder};
use common::proxy::Faults;
use common::server::{from_mutf7, to_mutf7};
use common::*;

/// Everything the other tests use of a server.
fn exercise(server: &mut dyn Server) {
    let mint = Mint::new(1);
    let letters = mint.letters(0..12);
    server.seed("INBOX", &letters);
    server.seed("Work/Zürich", &mint.letters(12..15));
    let mut imap = server.imap();
    assert!(imap.list().contains(&"Work/Zürich".to_owned()), "{:?}", imap.list());
    let got: BTreeSet<_> = imap.fetch_all("INBOX").into_iter().map(|m| (m.flags, m.date)).collect();
    let want: BTreeSet<_> = letters.iter().map(|l| (l.flags.clone(), l.date)).collect();
    assert_eq!(got, want);
    let got: BTreeSet<_> = imap.fetch_all("INBOX").iter().map(|m| *m.hash.as_bytes()).collect();
    let want: BTreeSet<_> = letters.iter().map(|l| *hash(&l.body).as_bytes()).collect();
    assert_eq!(got, want, "contents");

    let uids: Vec<u32> = imap.fetch_all("INBOX").iter().map(|m| m.uid).collect();
    imap.move_to("INBOX", &uids[..2], "Work/Zürich");
    imap.copy("INBOX", &uids[2..3], "Work/Zürich");
    imap.store("INBOX", &uids[3..4], "+FLAGS", &["$Label"]);
    imap.expunge("INBOX", &uids[4..6]);
    assert_eq!(imap.count("Work/Zürich"), 6);
    let left = imap.fetch_all("INBOX");
    assert_eq!(left.len(), 8);
    assert!(left.iter().any(|m| m.uid == uids[3] && m.flags.contains("$Label")));
    imap.create("Old");
    imap.rename("Old", "Older");
    imap.delete("Older");
    drop(imap);

    server.reset_uidvalidity("INBOX");
    let after = server.imap().fetch_all("INBOX");
    let contents = |ms: &[RemoteMessage]| {
        ms.iter().map(|m| (*m.hash.as_bytes(), m.flags.clone(), m.date)).collect::<BTreeSet<_>>()
    };
    assert_eq!(contents(&after), contents(&left), "the same messages under other UIDs");
}

#[test]
fn dovecot_in_every_mode() {
    for mode in Mode::ALL {
        let mut server = Dovecot::in_mode(mode);
        exercise(&mut server);
        let caps = server.imap().capabilities.clone();
        assert_eq!(caps.contains("QRESYNC"), mode == Mode::Full);
        assert_eq!(caps.contains("CONDSTORE"), mode != Mode::Plain);
        assert_eq!(caps.contains("UIDPLUS"), mode != Mode::Plain);
    }
}

#[test]
fn dovecot_with_a_prefix_and_dots() {
    let options = Options { separator: '.', prefix: "INBOX.".to_owned(), ..Options::default() };
    let server = Dovecot::with(options);
    server.seed("Work/Zürich", &Mint::new(1).letters(0..3));
    assert!(server.imap().list().contains(&"Work/Zürich".to_owned()));
    assert_eq!(server.imap().count("Work/Zürich"), 3);
}

#[test]
fn courier() {
    exercise(&mut Courier::start());
}

#[test]
fn cyrus() {
    exercise(&mut Cyrus::start());
}

#[test]
fn odd_messages_pass_through_the_test_client() {
    let server = Dovecot::start();
    let letters: Vec<Letter> =
        odd().into_iter().map(|(_, b)| Letter::new(b, &[], 1_500_000_000)).collect();
    server.imap().append_all("INBOX", &letters);
    let got: Vec<_> = server.imap().fetch_all("INBOX").iter().map(|m| m.hash).collect();
    let want: Vec<_> = letters.iter().map(|l| hash(&l.body)).collect();
    assert_eq!(got, want);
}

#[test]
fn every_difference_is_seen() {
    let server = Dovecot::with(Options { special_use: false, ..Options::default() });
    let dir = tempfile::tempdir().unwrap();
    let inbox = dir.path().join("INBOX");
    make_folder(&inbox);
    let a = Letter::new(Mint::new(1).body(0), &["\\Seen"], 1_500_000_000);
    server.seed("INBOX", &[a.clone(), a.clone()]);
    deliver(&inbox, &a);
    let copy = deliver(&inbox, &a);
    assert_same(&server, dir.path());

    let replace = |with: Option<&Letter>| {
        for m in read_folder(&inbox) {
            std::fs::remove_file(m.path).unwrap();
        }
        deliver(&inbox, &a);
        if let Some(l) = with {
            deliver(&inbox, l);
        }
        differences(&server, dir.path())
    };
    assert!(copy.exists());
    assert_eq!(replace(None).len(), 1, "one of two equal copies is missing");
    let other = Letter { flags: BTreeSet::new(), ..a.clone() };
    assert_eq!(replace(Some(&other)).len(), 2, "flags");
    let other = Letter { date: a.date + 1, ..a.clone() };
    assert_eq!(replace(Some(&other)).len(), 2, "date");
    let other = Letter { body: [b"X: y\r\n".to_vec(), a.body.clone()].concat(), ..a.clone() };
    assert_eq!(replace(Some(&other)).len(), 2, "content");
    assert_eq!(replace(Some(&a)), Vec::<String>::new());
    make_folder(&dir.path().join("More"));
    assert_eq!(differences(&server, dir.path()).len(), 1, "a folder too many");
    server.imap().create("Other");
    assert_eq!(differences(&server, dir.path()).len(), 2, "a folder too few");
}

#[test]
fn the_proxy_counts_cuts_and_writes_down() {
    let server = Dovecot::start();
    let letter = Mint::new(1).letter(0);
    let proxy = Proxy::to(server.port());
    TestImap::connect(proxy.port(), '/', "").append("INBOX", &letter);
    assert_eq!(proxy.count("APPEND"), 1, "{:?}", proxy.commands());
    assert!(proxy.commands().iter().all(|l| !l.contains("Message-ID")), "no literals");
    assert!(proxy.up() > letter.body.len() as u64);
    let fetch = || TestImap::connect(proxy.port(), '/', "").fetch_all("INBOX").len();
    assert_eq!(fetch(), 1);
    assert_eq!(proxy.body_fetches(), 1);
    proxy.set(Faults { cut_on: Some("UID FETCH".to_owned()), ..Faults::default() });
    assert!(std::panic::catch_unwind(fetch).is_err(), "the connection is cut");
    assert_eq!(proxy.cuts(), 1);
    proxy.set(Faults { hide: " UIDPLUS".to_owned(), ..Faults::default() });
    assert!(!TestImap::connect(proxy.port(), '/', "").capabilities.contains("UIDPLUS"));
}

#[test]
fn names_in_modified_utf7() {
    for (name, wire) in [("Entwürfe", "Entw&APw-rfe"), ("A & B", "A &- B"), ("日本", "&ZeVnLA-")]
    {
        assert_eq!(to_mutf7(name), wire);
        assert_eq!(from_mutf7(wire), name);
    }
}
