//! Real servers: Dovecot with all it has and with capabilities struck out, Courier, Cyrus.

use std::collections::BTreeMap;

use mailkeep::imap::{CopyUid, Expunged, FlagChange, Known, Listing, Session};
use mailkeep::model::{FolderName, SpecialUse, Uid};

use crate::common::letters::{hash, odd, simple};
use crate::common::server::Server;
use crate::common::{Courier, Cyrus, Dovecot, Letter, Mint, Mode, Options};
use crate::tools::*;

fn name(s: &str) -> FolderName {
    FolderName::from_text(s).unwrap()
}

fn wire(listing: &Listing, folder: &str) -> Vec<u8> {
    let found = listing.folders.iter().find(|f| f.name == name(folder));
    found.unwrap_or_else(|| panic!("{folder} is not listed")).wire.clone()
}

async fn bodies(s: &mut Session) -> Kept {
    let all = s.uids().await.unwrap();
    assert_eq!(all.len(), u64::from(s.exists()));
    let mut kept = Kept::default();
    s.fetch_bodies(&all, &mut kept).await.unwrap();
    assert!(kept.failed.is_empty(), "{:?}", kept.failed);
    assert_eq!(kept.messages.keys().copied().collect::<mailkeep::model::UidSet>(), all);
    kept
}

/// Everything the executor asks of a server. Some servers refuse odd messages.
async fn everything(server: &dyn Server, takes_odd: bool) {
    let mint = Mint::new(3);
    let mut letters = mint.letters(0..20);
    if takes_odd {
        let odd = odd().into_iter().map(|(_, b)| Letter::new(b, &["\\Seen"], 1_600_000_000));
        letters.extend(odd);
    }
    server.seed("Work/Zürich & Bern", &letters);
    let mut s = session(server.port()).await;

    // names, uses, status
    let listing = s.list().await.unwrap();
    assert!(listing.errors.is_empty(), "{:?}", listing.errors);
    assert_eq!(listing.folders[0].name, FolderName::inbox());
    let work = wire(&listing, "Work/Zürich & Bern");
    let listed = listing.folders.iter().find(|f| f.wire == work).unwrap();
    let status = listed.status.clone().unwrap();
    assert_eq!(status.messages as usize, letters.len());
    assert!(listing.folders.iter().all(|f| f.selectable == f.status.is_some()));
    if s.caps().special_use {
        let trash = listing.folders.iter().find(|f| f.special_use == Some(SpecialUse::Trash));
        assert_eq!(trash.unwrap().name, name("Trash"));
    }
    let again = s.status(&[work.clone(), b"no-such-folder".to_vec()]).await.unwrap();
    assert_eq!(again[0].as_ref().unwrap().as_ref().unwrap().messages, status.messages);
    assert!(!matches!(again[1], Ok(Some(_))), "{:?}", again[1]);

    // flags, metadata, bodies
    let selected = s.select(&work, true, None).await.unwrap();
    assert_eq!(selected.exists as usize, letters.len());
    assert_eq!(selected.uidvalidity, status.uidvalidity);
    assert!(!selected.read_only);
    assert!(selected.permanent.any_keyword);
    let kept = bodies(&mut s).await;
    // to the byte what another program is given (servers change odd messages when they take them)
    let theirs = server.imap().bodies("Work/Zürich & Bern");
    let ours: Vec<(u32, Vec<u8>)> =
        kept.messages.iter().map(|(u, (_, t))| (u.get(), t.clone())).collect();
    assert!(ours == theirs);
    let mut want: Vec<_> = letters.iter().map(|l| (flags_of(l).to_text(), l.date)).collect();
    let mut got: Vec<_> =
        kept.messages.values().map(|(m, _)| (m.flags.to_text(), m.internal_date)).collect();
    want.sort();
    got.sort();
    assert_eq!(got, want);
    let all = s.uids().await.unwrap();
    let mut metas = BTreeMap::new();
    s.fetch_meta(&all, &mut |u, m| {
        assert!(metas.insert(u, m?).is_none());
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(metas.len(), letters.len());
    for (u, (m, text)) in &kept.messages {
        assert_eq!(metas[u].wire_size, text.len() as u64);
        assert_eq!(metas[u].fingerprint, mailkeep::model::Fingerprint::from_header(text));
        assert_eq!(metas[u].server_id, m.server_id);
    }
    let sizes = s.fetch_sizes(&all).await.unwrap();
    assert!(sizes.iter().all(|x| metas[&x.uid].wire_size == x.wire_size));
    let mut seen = BTreeMap::new();
    s.fetch_flags(&all, None, &mut |u, f| {
        seen.insert(u, f);
        Ok(())
    })
    .await
    .unwrap();
    assert!(seen.iter().all(|(u, f)| metas[u].flags == *f) && seen.len() == metas.len());

    // changes
    let uids: Vec<Uid> = all.iter().collect();
    let some = |r: std::ops::Range<usize>| uids[r].iter().copied().collect();
    let change = FlagChange {
        set: some(0..3),
        add: flags(&["\\Flagged", "$Label"]),
        remove: flags(&["\\Seen"]),
    };
    s.store(&[change]).await.unwrap();
    let made = s.create(&name("Neu/Grüße"), None).await.unwrap();
    assert_eq!(s.create(&name("Neu/Grüße"), None).await.unwrap(), made, "twice is no error");
    let copied = s.copy(&some(0..2), &made).await.unwrap();
    let (moved, gone) = s.move_messages(&some(2..4), &made).await.unwrap();
    assert_eq!(s.exists(), selected.exists - if gone == Expunged::Done { 2 } else { 0 });
    if s.caps().uidplus {
        let CopyUid::Known { pairs, .. } = &copied else { panic!("{copied:?}") };
        assert_eq!(pairs.iter().map(|p| p.0).collect::<Vec<_>>(), uids[0..2]);
        let CopyUid::Known { pairs, .. } = &moved else { panic!("{moved:?}") };
        assert_eq!(pairs.len(), 2);
    }
    assert_eq!(s.expunge(&some(4..6)).await.unwrap(), Expunged::Done);
    assert!(!s.noticed().any(), "our own doings are no news: {:?}", s.noticed());
    let left = s.uids().await.unwrap();
    assert_eq!(left.len(), letters.len() as u64 - 4);
    s.select(&made, true, None).await.unwrap();
    let there = bodies(&mut s).await;
    assert_eq!(there.messages.len(), 4);
    let label = |k: &Kept| {
        k.messages.values().filter(|(m, _)| m.flags.to_text().contains("$Label")).count()
    };
    assert_eq!(label(&there), 3);

    // uploads
    let texts: Vec<_> = (0..30)
        .map(|i| {
            let text = simple(&format!("<up{i}@x>"), "up", &"line\r\n".repeat(i * 400));
            (text, flags(&["\\Seen", "$Up"]), 1_500_000_000 + i as i64)
        })
        .collect();
    let mut source = Given::new(texts.clone());
    source.texts[7][300] = 0;
    source.changes = Some(9);
    let results = s.append(&made, &mut source).await;
    assert_eq!(results.len(), 30);
    for (i, r) in results.iter().enumerate() {
        match (i, r) {
            (7 | 9, Err(e)) => assert_eq!(e.scope, mailkeep::Scope::Message, "{e}"),
            (_, Ok(place)) => assert!(place.is_some() || !s.caps().uidplus),
            other => panic!("{other:?}"),
        }
    }
    s.select(&made, false, None).await.unwrap();
    let there = bodies(&mut s).await;
    assert_eq!(there.messages.len(), 32);
    for (i, r) in results.iter().enumerate() {
        if let Ok(Some((_, u))) = r {
            let (m, text) = &there.messages[u];
            assert_eq!(*text, texts[i].0);
            assert_eq!(m.internal_date, texts[i].2);
            assert_eq!(m.flags, flags(&["\\Seen", "$Up"]));
        }
    }
    let nowhere = s.append(b"no-such-folder", &mut Given::new(texts[..3].to_vec())).await;
    assert!(nowhere.iter().all(|r| matches!(r, Err(e) if e.kind == mailkeep::Kind::Refused)));
    assert!(s.dead().is_none());

    // a folder goes only when it is empty
    assert!(!s.delete_if_empty(&made).await.unwrap());
    s.select(&made, true, None).await.unwrap();
    let all = s.uids().await.unwrap();
    s.expunge(&all).await.unwrap();
    assert!(s.delete_if_empty(&made).await.unwrap());
    let listing = s.list().await.unwrap();
    assert!(!listing.folders.iter().any(|f| f.wire == made && f.selectable));
    s.logout().await;
}

fn flags_of(l: &Letter) -> mailkeep::model::Flags {
    let names: Vec<&str> = l.flags.iter().map(String::as_str).collect();
    flags(&names)
}

#[test]
fn dovecot_in_every_mode() {
    for mode in Mode::ALL {
        let server = Dovecot::in_mode(mode);
        run(everything(&server, true));
    }
}

#[test]
fn dovecot_below_inbox() {
    let server = Dovecot::with(Options {
        separator: '.',
        prefix: "INBOX.".to_owned(),
        ..Options::default()
    });
    run(async {
        server.imap().create("Büro");
        let mut s = session(server.port()).await;
        let listing = s.list().await.unwrap();
        assert_eq!(wire(&listing, "Büro"), b"INBOX.B&APw-ro");
        assert_eq!(s.wire_for(&name("Büro/x")).unwrap(), b"INBOX.B&APw-ro.x");
        assert_eq!(s.wire_for(&name("neu")).unwrap(), b"INBOX.neu");
        assert!(s.wire_for(&name("v1.2")).is_err());
    });
}

#[test]
fn courier() {
    let server = Courier::start();
    run(everything(&server, true));
}

#[test]
fn cyrus() {
    let server = Cyrus::start();
    run(everything(&server, false));
}

#[test]
fn cyrus_is_known_before_it_is_asked() {
    let server = Cyrus::start();
    server.imap().create("Work");
    run(async {
        let mut s = session(server.port()).await;
        assert_eq!(s.caps().quirks, ["cyrus-status-mailboxid"]);
        let listing = s.list().await.unwrap();
        assert!(listing.folders.iter().all(|f| f.mailbox_id.is_none()));
        // that of SELECT is always there, and always the same
        let work = wire(&listing, "Work");
        let id = s.select(&work, false, None).await.unwrap().mailbox_id.unwrap();
        assert!(id.len() > 8 && id.bytes().all(|b| b.is_ascii_graphic()), "{id}");
        for other in [&b"INBOX"[..], &work, b"INBOX", &work] {
            let opened = s.select(other, false, None).await.unwrap().mailbox_id;
            assert_eq!(opened == Some(id.clone()), other == work.as_slice());
        }
    });
}

/// What changed since: QRESYNC says it with the SELECT.
async fn delta(server: &dyn Server) {
    server.seed("INBOX", &Mint::new(4).letters(0..12));
    let mut s = session(server.port()).await;
    let listing = s.list().await.unwrap();
    let before = s.select(b"INBOX", false, None).await.unwrap();
    let known = Known {
        uidvalidity: before.uidvalidity.unwrap(),
        modseq: before.modseq.unwrap(),
        uidnext: before.uidnext.unwrap(),
    };
    let uids: Vec<u32> = s.uids().await.unwrap().iter().map(Uid::get).collect();
    let mut other = server.imap();
    other.store("INBOX", &uids[0..2], "+FLAGS", &["\\Flagged"]);
    // the last one too: some servers leave it out
    other.expunge("INBOX", &[uids[4], uids[5], uids[11]]);
    other.append("INBOX", &Letter::new(simple("<new@x>", "new", "x\r\n"), &[], 1_600_000_000));
    drop(other);

    let trash = wire(&listing, "Trash");
    s.select(&trash, false, None).await.unwrap();
    let after = s.select(b"INBOX", false, Some(known)).await.unwrap();
    let d = after.delta.expect("a delta");
    assert_eq!(d.vanished, set([uids[4], uids[5], uids[11]]));
    let changed: BTreeMap<u32, String> =
        d.changed.iter().map(|(u, f)| (u.get(), f.to_text())).collect();
    assert!(changed[&uids[0]].contains("\\Flagged") && changed[&uids[1]].contains("\\Flagged"));
    assert!(changed.contains_key(&known.uidnext.get()), "the new one");
    assert_eq!(changed.len(), 3, "{changed:?}");
    assert_eq!(after.exists, 10);

    // an epoch that is not this folder's: nothing can be said
    let other_epoch = mailkeep::model::UidValidity::new(known.uidvalidity.get() + 1).unwrap();
    let s2 = s.select(b"INBOX", false, Some(Known { uidvalidity: other_epoch, ..known })).await;
    assert_eq!(s2.unwrap().delta, None);

    // CONDSTORE alone
    let mut changed = Vec::new();
    s.fetch_flags(&set(uids.iter().copied()), Some(known.modseq), &mut |u, _| {
        changed.push(u.get());
        Ok(())
    })
    .await
    .unwrap();
    changed.sort_unstable();
    changed.dedup();
    assert_eq!(changed, uids[0..2]);
}

#[test]
fn dovecot_says_what_changed() {
    run(delta(&Dovecot::start()));
}

#[test]
fn cyrus_says_what_changed() {
    run(delta(&Cyrus::start()));
}

#[test]
fn news_of_the_open_folder_are_noticed() {
    let server = Dovecot::start();
    server.seed("INBOX", &Mint::new(5).letters(0..3));
    run(async {
        let mut s = session(server.port()).await;
        s.select(b"INBOX", false, None).await.unwrap();
        let first = s.uids().await.unwrap().iter().next().unwrap();
        assert!(!s.noticed().any());
        let mut other = server.imap();
        other.append("INBOX", &Letter::new(simple("<n@x>", "n", "x\r\n"), &[], 1_600_000_000));
        s.noop().await.unwrap();
        assert!(s.noticed().arrived && !s.noticed().vanished);
        assert_eq!(s.exists(), 4);
        other.expunge("INBOX", &[first.get()]);
        s.noop().await.unwrap();
        assert!(s.noticed().vanished);
        assert_eq!(s.exists(), 3);
    });
}

/// A message of 20 MiB, up in a stream and down in pieces; one of exactly a piece; and neighbours.
#[test]
fn large_messages_come_in_pieces() {
    let server = Dovecot::with(Options {
        extra: "protocol imap {\n mail_max_userip_connections = 20\n}\n".to_owned(),
        ..Options::default()
    });
    let head = simple("<large@x>", "large", "");
    let piece = 8 * 1024 * 1024;
    let filled = |size: usize| {
        let mut t = head.clone();
        let mut n = 0u64;
        while t.len() < size - 100 {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            t.extend_from_slice(format!("{n:020}{n:020x}{n:025}\r\n").as_bytes());
        }
        t.extend(std::iter::repeat_n(b'x', size - t.len() - 2));
        t.extend_from_slice(b"\r\n");
        t
    };
    let texts: Vec<Vec<u8>> =
        [1000, 20 * 1024 * 1024 + 17, piece, piece - 1, piece + 1, 2 * piece, 2000]
            .map(filled)
            .to_vec();
    run(async {
        let mut s = session(server.port()).await;
        let given = texts.iter().map(|t| (t.clone(), flags(&[]), 1_600_000_000)).collect();
        let results = s.append(b"INBOX", &mut Given::new(given)).await;
        s.select(b"INBOX", false, None).await.unwrap();
        let kept = bodies(&mut s).await;
        for (r, t) in results.iter().zip(&texts) {
            let (_, u) = r.as_ref().unwrap().unwrap();
            assert!(kept.messages[&u].1 == *t, "{} bytes", t.len());
        }
    });
}

#[test]
fn a_large_file_that_changes_while_it_is_sent_is_not_stored() {
    let server = Dovecot::start();
    run(async {
        let mut s = session(server.port()).await;
        let big = simple("<b@x>", "b", &"line\r\n".repeat(100_000));
        let small = simple("<s@x>", "s", "x\r\n");
        let mut source =
            Given::new(vec![(big, flags(&[]), 1_600_000_000), (small, flags(&[]), 1_600_000_000)]);
        source.changes = Some(0);
        let results = s.append(b"INBOX", &mut source).await;
        assert_eq!(results[0].as_ref().unwrap_err().kind, mailkeep::Kind::Raced);
        assert_eq!(results[1].as_ref().unwrap_err().kind, mailkeep::Kind::Connection);
        assert!(s.dead().is_some());
        assert!(s.list().await.is_err(), "the session is over");
        drop(s);
        let mut s = session(server.port()).await;
        let selected = s.select(b"INBOX", false, None).await.unwrap();
        assert_eq!(selected.exists, 0, "nothing was stored");
    });
}

#[test]
fn a_look_at_an_account_is_cheap() {
    let server = Dovecot::start();
    server.seed("INBOX", &Mint::new(6).letters(0..200));
    run(async {
        let mut s = session(server.port()).await;
        s.list().await.unwrap();
        let (received, sent) = s.traffic();
        assert!(received < 10_000 && sent < 2_000, "{received} {sent}");
        s.logout().await;
    });
}

#[test]
fn without_uidplus_what_others_marked_is_left() {
    let server = Dovecot::in_mode(Mode::Plain);
    server.seed("INBOX", &Mint::new(7).letters(0..4));
    run(async {
        let mut s = session(server.port()).await;
        s.list().await.unwrap();
        s.select(b"INBOX", true, None).await.unwrap();
        let uids: Vec<u32> = s.uids().await.unwrap().iter().map(Uid::get).collect();
        server.imap().store("INBOX", &uids[3..], "+FLAGS", &["\\Deleted"]);
        assert_eq!(s.expunge(&set([uids[0]])).await.unwrap(), Expunged::Marked);
        assert_eq!(s.uids().await.unwrap().len(), 4);
        server.imap().store("INBOX", &uids[3..], "-FLAGS", &["\\Deleted"]);
        assert_eq!(s.expunge(&set([uids[0]])).await.unwrap(), Expunged::Done);
        assert_eq!(s.uids().await.unwrap(), set(uids[1..].iter().copied()));
    });
}

#[test]
fn compression_changes_no_byte() {
    let server = Dovecot::with(Options { compress: true, ..Options::default() });
    let letters = Mint::new(8).letters(0..150);
    server.seed("INBOX", &letters);
    run(async {
        let mut s = session(server.port()).await;
        assert!(s.caps().compress_deflate);
        s.select(b"INBOX", false, None).await.unwrap();
        let kept = bodies(&mut s).await;
        let mut want: Vec<_> = letters.iter().map(|l| *hash(&l.body).as_bytes()).collect();
        let mut got: Vec<_> = kept.messages.values().map(|(_, t)| *hash(t).as_bytes()).collect();
        want.sort_unstable();
        got.sort_unstable();
        assert_eq!(got, want);
    });
}
