//! Passes against servers that no standard describes: UIDLs doubled, missing, reused or odd,
//! listings cut short, sizes that lie, messages that break their session.

use std::fs;

use crate::common::letters::{hash, simple, to_lf};
use crate::common::scripted::{Script, Step, send};
use crate::common::*;
use crate::tools::server;

/// A mailbox of messages with their UIDLs. `capabilities` without UIDL: it has none.
#[derive(Clone)]
pub struct Mailbox {
    pub capabilities: Vec<&'static str>,
    pub messages: Vec<Message>,
    /// LIST says this percentage of the size.
    pub sizes: usize,
    /// STAT counts so many more.
    more: usize,
}

#[derive(Clone)]
pub struct Message {
    pub uidl: Vec<u8>,
    pub body: Vec<u8>,
    /// What it says to RETR, in place of the body with its dots doubled.
    pub says: Option<Vec<Step>>,
}

type Told<'a> = (&'a [u8], &'a str, &'a str);

impl Mailbox {
    /// Of messages with a UIDL, a Message-ID and a text each.
    fn new(messages: &[Told<'_>]) -> Self {
        let body = |id: &str, text: &str| simple(&format!("<{id}@x>"), id, &format!("{text}\r\n"));
        Self::of(messages.iter().map(|(uidl, id, text)| (uidl.to_vec(), body(id, text))))
    }

    fn of(messages: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let message = |(uidl, body)| Message { uidl, body, says: None };
        Self {
            capabilities: PIPELINING.to_vec(),
            messages: messages.into_iter().map(message).collect(),
            sizes: 100,
            more: 0,
        }
    }

    pub fn start(&self) -> Scripted {
        Scripted::start(self.script())
    }

    pub fn script(&self) -> Script {
        let mut script = Script::default();
        let (mut uidls, mut sizes) = (b"+OK\r\n".to_vec(), b"+OK\r\n".to_vec());
        for (n, m) in (1..).zip(&self.messages) {
            uidls.extend([format!("{n} ").as_bytes(), &m.uidl, b"\r\n"].concat());
            sizes.extend(format!("{n} {}\r\n", m.body.len() * self.sizes / 100).into_bytes());
        }
        // the first rule that fits is followed: 12 before 1
        for (n, m) in (1..).zip(&self.messages).collect::<Vec<_>>().into_iter().rev() {
            let text = stuffed(&m.body);
            let end = text.windows(4).position(|w| w == b"\r\n\r\n").expect("a header");
            let reply = |text: &[u8]| vec![send([b"+OK\r\n", text, b".\r\n"].concat())];
            script = script
                .on(&format!("RETR {n}"), m.says.clone().unwrap_or_else(|| reply(&text)))
                .on(&format!("TOP {n} 0"), reply(&text[..end + 4]))
                .on(&format!("DELE {n}"), [send("+OK\r\n")]);
        }
        uidls.extend(b".\r\n");
        sizes.extend(b".\r\n");
        let total: usize = self.messages.iter().map(|m| m.body.len()).sum();
        let count = self.messages.len() + self.more;
        let has_uidl = self.capabilities.contains(&"UIDL");
        let uidl = if has_uidl { uidls } else { b"-ERR unknown command\r\n".to_vec() };
        script = script
            .on("STAT", [send(format!("+OK {count} {total}\r\n"))])
            .on("UIDL", [send(uidl)])
            .on("LIST", [send(sizes)]);
        script.before(server(&self.capabilities))
    }
}

const PIPELINING: [&str; 4] = ["PIPELINING", "TOP", "UIDL", "USER"];
const SINGLE: [&str; 3] = ["TOP", "UIDL", "USER"];

/// With the dots at the beginnings of lines doubled.
fn stuffed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in body.split_inclusive(|b| *b == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out
}

/// Ten messages, of which those in the window are shown.
pub fn window(range: std::ops::Range<usize>) -> Mailbox {
    let text = |n: usize| simple(&format!("<{n}@x>"), "windowed", &"text\r\n".repeat(n + 1));
    Mailbox::of(range.map(|n| (format!("w{n}").into_bytes(), text(n))))
}

pub fn account(keys: &str) -> Mailkeep {
    let mut mk = Mailkeep::to_port(1);
    mk.set("protocol", "pop3").set_raw("pop3", &format!("{{ {keys} }}"));
    mk
}

/// One pass that ends well. How many messages were retrieved and how many marked.
#[track_caller]
pub fn sync(mk: &mut Mailkeep, mailbox: &Mailbox) -> (usize, usize) {
    let (retrieved, marked, _) = pass(mk, mailbox, 0);
    (retrieved, marked)
}

/// The same of a pass that ends with this status, and what it said.
#[track_caller]
pub fn pass(mk: &mut Mailkeep, mailbox: &Mailbox, status: i32) -> (usize, usize, String) {
    let server = mailbox.start();
    mk.port(server.port());
    let said = mk.sync().expect(status).text();
    let lines = server.lines();
    let count = |verb: &str| lines.iter().filter(|l| l.starts_with(verb)).count();
    (count("RETR"), count("DELE"), said)
}

/// What is here, and what of the mailbox is not.
#[track_caller]
pub fn assert_here(mk: &Mailkeep, messages: &[Message]) {
    let mut here: Vec<String> =
        read_folder(&mk.folder("INBOX")).iter().map(|m| m.hash.to_string()).collect();
    let mut want: Vec<String> =
        messages.iter().map(|m| hash(&to_lf(&m.body)).to_string()).collect();
    here.sort();
    want.sort();
    assert_eq!(here, want);
}

pub fn here(mk: &Mailkeep) -> usize {
    read_folder(&mk.folder("INBOX")).len()
}

#[test]
fn equal_uidls_for_different_mail() {
    let mut mk = account("keep = \"delete\"");
    let twice = [(&b"same"[..], "a", "1"), (b"same", "b", "2"), (b"c", "c", "3")];
    assert_eq!(sync(&mut mk, &Mailbox::new(&twice)), (3, 1), "the third has its own");
    let (retrieved, marked, said) = pass(&mut mk, &Mailbox::new(&twice[..2]), 0);
    assert_eq!((retrieved, marked), (0, 0), "known by their headers");
    assert!(said.contains("2 messages stay on the server: different messages have"), "{said}");
    assert_eq!(here(&mk), 3);
    assert_eq!(sync(&mut mk, &Mailbox::new(&twice[1..2])), (0, 1), "nothing is like it any more");
    assert_eq!(here(&mk), 3);
}

/// As a UIDL that is a hash of the bytes has it.
#[test]
fn equal_uidls_for_copies_of_one_message() {
    let mut mk = account("");
    let nameless = b"Subject: x\r\n\r\ntext\r\n".to_vec();
    let named = simple("<a@x>", "a", "text\r\n");
    let copy = |uidl: &[u8], body: &[u8]| (uidl.to_vec(), body.to_vec());
    let of = |n| Mailbox::of((0..n).flat_map(|_| [copy(b"1", &nameless), copy(b"2", &named)]));
    assert_eq!(sync(&mut mk, &of(2)), (4, 0));
    assert_eq!(sync(&mut mk, &of(2)), (0, 0));
    // one more of each: the bytes say which they are
    assert_eq!(sync(&mut mk, &of(3)), (6, 0));
    assert_eq!(sync(&mut mk, &of(3)), (0, 0));
    assert_here(&mk, &of(3).messages);
    assert_eq!(sync(&mut mk, &of(1)), (2, 0));
    assert_eq!(sync(&mut mk, &of(1)), (0, 0));
    assert_eq!(here(&mk), 6);
}

/// They are no reason to leave anything on the server.
#[test]
fn copies_of_one_message_and_what_is_beside_them_are_deleted() {
    let all = [(&b"1"[..], "a", "x"), (b"1", "a", "x"), (b"2", "b", "y")];
    for keys in ["keep = \"delete\"", ""] {
        let mut mk = account(keys);
        let at_once = if keys.is_empty() { 0 } else { 3 };
        assert_eq!(sync(&mut mk, &Mailbox::new(&all)), (3, at_once));
        assert_here(&mk, &Mailbox::new(&all).messages);
        mk.set_raw("pop3", "{ keep = \"delete\" }");
        if keys.is_empty() {
            assert_eq!(sync(&mut mk, &Mailbox::new(&all)), (0, 3));
        }
        assert_eq!(sync(&mut mk, &Mailbox::new(&[])), (0, 0));
        assert_eq!(here(&mk), 3);
    }
}

/// A server whose UIDL is made of a part of the header: two copies and another message of one UIDL.
#[test]
fn copies_beside_another_message_of_their_uidl_are_retrieved_once() {
    let mut mk = account("");
    let all = [(&b"1"[..], "a", "other"), (b"1", "b", "x"), (b"1", "b", "x"), (b"2", "c", "y")];
    let mut mailbox = Mailbox::new(&all);
    for new in [4, 0] {
        assert_eq!(sync(&mut mk, &mailbox), (new, 0));
        assert_here(&mk, &Mailbox::new(&all).messages);
    }
    mk.set_raw("pop3", "{ keep = \"delete\" }");
    assert_eq!(sync(&mut mk, &mailbox), (0, 1));
    // one of the copies went: the bytes say that the other is known
    mailbox.messages.drain(2..);
    assert_eq!(sync(&mut mk, &mailbox), (1, 0));
    assert_eq!(sync(&mut mk, &mailbox), (0, 0));
    assert_eq!(here(&mk), 4);
}

#[test]
fn no_uidl_at_all() {
    let mut mk = account("keep = \"delete\"");
    let mut mailbox = Mailbox::new(&[(b"", "a", "1"), (b"", "b", "2")]);
    mailbox.capabilities = vec!["PIPELINING", "TOP", "USER"];
    assert_eq!(sync(&mut mk, &mailbox), (2, 0));
    assert_eq!(sync(&mut mk, &mailbox), (0, 0));
    // without TOP the bytes are compared
    mailbox.capabilities = vec!["PIPELINING", "USER"];
    assert_eq!(sync(&mut mk, &mailbox), (2, 0));
    assert_eq!(here(&mk), 2);
    let status = mk.status().to_string();
    assert!(status.contains("no UIDL"), "{status}");
    fs::remove_file(&read_folder(&mk.folder("INBOX"))[0].path).unwrap();
    assert_eq!(sync(&mut mk, &mailbox), (2, 0));
    assert_eq!(here(&mk), 1, "what was removed here does not come back");
}

#[test]
fn odd_uidls_are_uidls() {
    let long = vec![b'x'; 300];
    let mut mk = account("");
    let mailbox = Mailbox::new(&[
        (b"with space", "a", "1"),
        (b"\xe9\xff\x80", "b", "2"),
        (&long, "c", "3"),
        (b"  ", "d", "4"),
    ]);
    assert_eq!(sync(&mut mk, &mailbox), (4, 0));
    assert_eq!(sync(&mut mk, &mailbox), (0, 0));
    assert_eq!(here(&mk), 4);
}

#[test]
fn a_uidl_used_again_after_deletion_is_another_message() {
    let mut mk = account("keep = \"delete\"");
    assert_eq!(sync(&mut mk, &Mailbox::new(&[(b"1", "a", "first")])), (1, 1));
    assert_eq!(sync(&mut mk, &Mailbox::new(&[(b"1", "b", "second")])), (1, 1));
    assert_eq!(here(&mk), 2);
    // the same again: the server only says that it deletes
    assert_eq!(sync(&mut mk, &Mailbox::new(&[(b"1", "b", "second")])), (1, 1));
    assert_eq!(here(&mk), 2);
}

#[test]
fn a_uidl_that_stands_for_another_message_is_not_deleted() {
    let mut mk = account("");
    let before = Mailbox::new(&[(b"1", "a", "text"), (b"2", "b", "text")]);
    assert_eq!(sync(&mut mk, &before), (2, 0));
    mk.set_raw("pop3", "{ keep = \"delete\" }");
    // of the same size, so that only the header tells
    let after = Mailbox::new(&[(b"1", "c", "text"), (b"2", "b", "text")]);
    assert_eq!(sync(&mut mk, &after), (0, 1));
}

#[test]
fn a_short_listing_deletes_nothing() {
    let mut mk = account("keep = \"delete\"");
    let mut mailbox = Mailbox::new(&[(b"1", "a", "1"), (b"2", "b", "2")]);
    mailbox.more = 1;
    assert_eq!(sync(&mut mk, &mailbox), (2, 0));
    // and takes nothing for gone
    let mut shorter = Mailbox { messages: mailbox.messages[..1].to_vec(), ..mailbox.clone() };
    assert_eq!(sync(&mut mk, &shorter), (0, 0));
    let status = mk.status()["accounts"][0].clone();
    assert_eq!(status["folders"][0]["kept"], 0, "{status}");
    let frozen = status["pop3"]["frozen"].as_str().expect("why nothing is deleted");
    assert!(frozen.contains("does not agree with its own count"), "{frozen}");
    mailbox.more = 0;
    assert_eq!(sync(&mut mk, &mailbox), (0, 2));
    // whole and shorter, it says that
    shorter.more = 0;
    shorter.messages.clear();
    assert_eq!(sync(&mut mk, &shorter), (0, 0));
    assert_eq!(here(&mk), 2);
}

#[test]
fn a_windowed_listing_is_no_deletion() {
    let mut mk = account("");
    let all = [(&b"1"[..], "a", "1"), (b"2", "b", "2"), (b"3", "c", "3")];
    assert_eq!(sync(&mut mk, &Mailbox::new(&all[..2])), (2, 0));
    assert_eq!(sync(&mut mk, &Mailbox::new(&all[1..])), (1, 0));
    assert_eq!(sync(&mut mk, &Mailbox::new(&all)), (0, 0), "what comes back into view is known");
    assert_eq!(here(&mk), 3);
}

#[test]
fn sizes_may_lie() {
    for (sizes, capabilities) in [(80, &PIPELINING[..]), (120, &PIPELINING), (80, &SINGLE)] {
        let mut mk = account("");
        let mut mailbox = window(0..12);
        mailbox.capabilities = capabilities.to_vec();
        mailbox.sizes = sizes;
        assert_eq!(sync(&mut mk, &mailbox), (12, 0));
        assert_here(&mk, &mailbox.messages);
        assert_eq!(sync(&mut mk, &mailbox), (0, 0), "{sizes}");
        mk.set_raw("pop3", "{ keep = \"delete\" }");
        assert_eq!(sync(&mut mk, &mailbox), (0, 12), "{sizes}");
        assert_here(&mk, &mailbox.messages);
    }
}

#[test]
fn an_empty_mailbox_in_between_is_no_reason_to_fetch_again() {
    let mut mk = account("");
    let old = Mailbox::new(&[(b"1", "a", "1"), (b"2", "b", "22")]);
    assert_eq!(sync(&mut mk, &old), (2, 0));
    assert_eq!(sync(&mut mk, &Mailbox::new(&[])), (0, 0));
    let new = Mailbox::new(&[(b"n1", "a", "1"), (b"n2", "b", "22"), (b"n3", "c", "333")]);
    assert_eq!(sync(&mut mk, &new), (1, 0));
    assert_eq!(here(&mk), 3);
}

#[test]
fn dots_and_nul_bytes_come_as_they_are() {
    for capabilities in [&PIPELINING[..], &SINGLE] {
        let odd = |id: &str, text: &[u8]| {
            let head = simple(&format!("<{id}@x>"), id, "");
            (id.as_bytes().to_vec(), [&head[..], text].concat())
        };
        let mut mailbox = Mailbox::of([
            odd("dots", b".\r\n..\r\n.profile\r\n...\r\n\r\n.\r\n"),
            odd("nul", b"a\0b\r\n\0\r\n\0.\r\n.\0\r\n"),
            odd("not doubled", b".profile\r\n. \r\n.\0\r\n"),
            odd("last", b"text\r\n"),
        ]);
        mailbox.capabilities = capabilities.to_vec();
        let plain = &mut mailbox.messages[2];
        plain.says = Some(vec![send([b"+OK\r\n", &plain.body[..], b".\r\n"].concat())]);
        let mut mk = account("keep = \"delete\"");
        assert_eq!(sync(&mut mk, &mailbox), (4, 4));
        assert_here(&mk, &mailbox.messages);
    }
}

/// What a server may do instead of sending a message to its end.
fn breaks() -> Vec<(&'static str, Vec<Step>, &'static str)> {
    let undoubled = b"+OK\r\nSubject: x\r\n\r\nabove\r\n.\r\nbelow\r\n.\r\n";
    vec![
        ("a lone dot that is not doubled", vec![send(undoubled)], "lone dot"),
        // the end never comes, and neither does the message's
        (
            "text for ever",
            vec![send("+OK\r\nSubject: x\r\n\r\n"), Step::Flood(b"text\r\n".repeat(999), 1 << 30)],
            "larger than it announced",
        ),
        ("cut", vec![send("+OK\r\nSubject: x\r\n\r\nha"), Step::Close], "message"),
        ("no answer", vec![send("what?\r\n")], "has to stand"),
        ("hung up", vec![Step::Close], "message"),
    ]
}

/// Wherever it stands: the others come, are remembered and leave the server, and so does what comes
/// later.
#[test]
fn a_message_that_breaks_its_session_blocks_no_other() {
    for (what, says, error) in breaks() {
        for at in [0, 2, 4] {
            for capabilities in [&PIPELINING[..], &SINGLE] {
                let case = format!("{what}, {at}, {}", capabilities.len());
                let mut mailbox = window(0..5);
                mailbox.capabilities = capabilities.to_vec();
                mailbox.messages[at].says = Some(says.clone());
                let bad = mailbox.messages[at].clone();
                let mut rest = mailbox.clone();
                rest.messages.remove(at);
                let mut mk = account("");
                let (_, marked, said) = pass(&mut mk, &mailbox, 1);
                assert!(said.contains(error) && said.contains("4 new"), "{case}: {said}");
                assert_eq!(marked, 0);
                assert_here(&mk, &rest.messages);
                let status = mk.status();
                assert_eq!(status["accounts"][0]["pop3"]["on_server"], 5, "{case}: {status}");
                assert_eq!(status["accounts"][0]["state"], "failed", "{case}");

                // what is remembered is not asked for again, and goes from the server
                mk.set_raw("pop3", "{ keep = \"delete\" }");
                let (retrieved, marked, said) = pass(&mut mk, &mailbox, 1);
                assert!(retrieved <= 2 && said.contains("0 new"), "{case}: {retrieved}: {said}");
                assert_eq!(marked, 4, "{case}");

                // on with what comes later, behind it
                let later = window(6..8);
                let mut left = Mailbox { messages: vec![bad.clone()], ..mailbox.clone() };
                left.messages.extend(later.messages.clone());
                let (_, marked, said) = pass(&mut mk, &left, 1);
                assert!(said.contains("2 new"), "{case}: {said}");
                assert_eq!(marked, 2, "{case}");
                rest.messages.extend(later.messages);
                assert_here(&mk, &rest.messages);

                // and the server sends it as it should
                let well =
                    Mailbox { messages: vec![Message { says: None, ..bad }], ..mailbox.clone() };
                assert_eq!(sync(&mut mk, &well), (1, 1), "{case}");
                rest.messages.extend(well.messages);
                assert_here(&mk, &rest.messages);
            }
        }
    }
}

/// Several of them, of several kinds.
#[test]
fn many_messages_that_break_their_sessions_block_no_other() {
    let mut mailbox = window(0..9);
    let mut good = Vec::new();
    let kinds = breaks();
    for (n, m) in mailbox.messages.iter_mut().enumerate() {
        if n % 3 == 1 {
            m.says = Some(kinds[n / 3].1.clone());
        } else {
            good.push(m.clone());
        }
    }
    let mut mk = account("keep = \"delete\"");
    let (_, marked, said) = pass(&mut mk, &mailbox, 1);
    assert_eq!(marked, 6, "{said}");
    assert_here(&mk, &good);
}

#[test]
fn a_message_that_the_server_refuses_is_said_and_left() {
    let mut mailbox = window(0..3);
    mailbox.messages[1].says = Some(vec![send("-ERR cannot open it\r\n")]);
    let mut mk = account("keep = \"delete\"");
    let (_, marked, said) = pass(&mut mk, &mailbox, 1);
    assert!(said.contains("cannot open it"), "{said}");
    assert_eq!((here(&mk), marked), (2, 2));
}

/// Message-ID and Date are those of a message that is here, and it is another one: a list's copy.
#[test]
fn after_all_uidls_changed_a_message_that_looks_alike_comes() {
    let text = |id: &str, text: &str| simple(&format!("<{id}@x>"), id, &format!("{text}\r\n"));
    let old = |n: &str| n.as_bytes().to_vec();
    let one = Mailbox::of([
        (old("a1"), text("a", "as it was sent")),
        (old("a2"), text("b", "text")),
        (old("a3"), text("c", "text")),
    ]);
    for sizes in [100, 0] {
        let mut mk = account("");
        assert_eq!(sync(&mut mk, &one), (3, 0));
        // by the way of a list, with a footer; the one that was here is gone from the server
        let mut moved = Mailbox::of([
            (old("b1"), text("a", "as it was sent\r\n-- \r\nthe list")),
            (old("b2"), text("b", "text")),
            (old("b3"), text("c", "text")),
        ]);
        moved.sizes = sizes;
        // a server that says no sizes: all is compared by its bytes
        let want = if sizes == 0 { 3 } else { 1 };
        assert_eq!(sync(&mut mk, &moved), (want, 0), "{sizes}");
        let mut all = one.messages.clone();
        all.push(moved.messages[0].clone());
        assert_here(&mk, &all);
        assert_eq!(sync(&mut mk, &moved), (0, 0), "{sizes}");
        assert_here(&mk, &all);
    }
}

/// The new server counts otherwise, and has put a line into every header: each is retrieved to be
/// sure, and none is doubled.
#[test]
fn after_all_uidls_changed_what_has_more_in_its_header_is_known() {
    let mut mk = account("");
    let old = window(0..6);
    assert_eq!(sync(&mut mk, &old), (6, 0));
    // one was removed here, one moved
    let here_now = read_folder(&mk.folder("INBOX"));
    fs::remove_file(&here_now[0].path).unwrap();
    let archive = mk.folder("Archive");
    maildir::make_folder(&archive);
    maildir::move_file(&here_now[1], &archive);
    let new = old.messages.iter().enumerate().map(|(n, m)| {
        let moved = [b"Received: from the server before\r\n", &m.body[..]].concat();
        (format!("new{n}").into_bytes(), moved)
    });
    let new = Mailbox::of(new);
    assert_eq!(sync(&mut mk, &new).0, 6);
    // of what was removed there is nothing to compare with: it comes rather than be missed
    assert_eq!((here(&mk), read_folder(&archive).len()), (5, 1));
    assert_eq!(sync(&mut mk, &new), (0, 0));
    assert_eq!((here(&mk), read_folder(&archive).len()), (5, 1));
}

/// Gmail shows a part of a large mailbox. Nobody is told that before a message comes back into view.
#[test]
fn a_window_that_moves_doubles_nothing_and_forgets_nothing() {
    for keys in ["", "keep = \"delete-after:30d\"", "delete_when_removed_locally = true"] {
        let mut mk = account(keys);
        assert_eq!(sync(&mut mk, &window(0..4)), (4, 0));
        assert_eq!(sync(&mut mk, &window(2..6)), (2, 0));
        // nothing that was shown before is shown now
        assert_eq!(sync(&mut mk, &window(6..9)), (3, 0));
        assert_eq!(here(&mk), 9);
        // and back, in parts
        for range in [4..8, 0..3, 0..9, 3..5, 0..9] {
            assert_eq!(sync(&mut mk, &window(range)), (0, 0), "{keys}");
        }
        assert_here(&mk, &window(0..9).messages);
        let (.., said) = pass(&mut mk, &window(0..10), 0);
        assert!(said.contains("1 new"), "{said}");
        let folder = mk.status()["accounts"][0]["folders"][0].clone();
        assert_eq!((&folder["messages"], &folder["kept"]), (&10.into(), &0.into()), "{folder}");
    }
}

/// What is removed here while it is out of view is removed there once it is in view, and nothing
/// else.
#[test]
fn retention_works_on_what_the_window_shows() {
    let mut mk = account("delete_when_removed_locally = true");
    assert_eq!(sync(&mut mk, &window(0..5)), (5, 0));
    assert_eq!(sync(&mut mk, &window(3..8)), (3, 0));
    let first = hash(&to_lf(&window(0..1).messages[0].body));
    let file = read_folder(&mk.folder("INBOX")).into_iter().find(|m| m.hash == first).unwrap();
    fs::remove_file(file.path).unwrap();
    assert_eq!(sync(&mut mk, &window(3..8)), (0, 0));
    assert_eq!(sync(&mut mk, &window(0..5)), (0, 1));
    assert_eq!(here(&mk), 7);
    // of the five that are shown the newest four stay, and nothing out of view counts
    let mut mk = account("keep_newest = 4");
    assert_eq!(sync(&mut mk, &window(0..4)), (4, 0));
    assert_eq!(sync(&mut mk, &window(4..8)), (4, 0));
    assert_eq!(sync(&mut mk, &window(0..5)), (0, 1));
    assert_eq!(here(&mk), 8);
}

/// A rejected hold holds also for what was out of view meanwhile.
#[test]
fn a_decision_outlives_the_window() {
    let mut mk = account("delete_when_removed_locally = true");
    mk.policy_raw("brake", "{ messages = 2, percent = 5 }");
    assert_eq!(sync(&mut mk, &window(0..6)), (6, 0));
    assert_eq!(sync(&mut mk, &window(3..9)), (3, 0));
    assert_eq!(sync(&mut mk, &window(0..6)), (0, 0), "it is known that it shows a part");
    for m in read_folder(&mk.folder("INBOX")) {
        fs::remove_file(m.path).unwrap();
    }
    pass(&mut mk, &window(0..6), 3);
    let hold = mk.status()["accounts"][0]["holds"][0]["number"].to_string();
    mk.run(&["reject", "test", &hold]).expect(0);
    assert_eq!(sync(&mut mk, &window(6..7)), (0, 1), "this one is not in the hold");
    assert_eq!(sync(&mut mk, &window(0..2)), (0, 0));
    assert_eq!(sync(&mut mk, &window(0..6)), (0, 0));
}

/// The same where nobody knew yet that the server shows a part only.
#[test]
fn a_decision_outlives_the_first_move_of_a_window() {
    let mut mk = account("delete_when_removed_locally = true");
    mk.policy_raw("brake", "{ messages = 2, percent = 5 }");
    assert_eq!(sync(&mut mk, &window(0..6)), (6, 0));
    for m in read_folder(&mk.folder("INBOX")) {
        fs::remove_file(m.path).unwrap();
    }
    pass(&mut mk, &window(0..6), 3);
    let hold = mk.status()["accounts"][0]["holds"][0]["number"].to_string();
    mk.run(&["reject", "test", &hold]).expect(0);
    // out of view they look like gone, and nothing is said of what is not there
    assert_eq!(sync(&mut mk, &window(6..8)), (2, 0));
    assert_eq!(sync(&mut mk, &window(6..8)), (0, 0));
    assert_eq!(mk.status()["accounts"][0]["holds"], serde_json::json!([]));
    assert_eq!(sync(&mut mk, &window(0..2)), (0, 0), "they were rejected");
    assert_eq!(sync(&mut mk, &window(0..6)), (0, 0));
    assert_eq!(here(&mk), 2);
}

/// Those that look alike are compared by their bytes. The session was cut before all were: the others
/// are still among those that were here, and no news.
#[test]
fn a_first_session_that_was_cut_is_not_over() {
    let twin = |text: &str| simple("<twin@x>", "twin", &format!("{text}\r\n"));
    let mut mailbox = Mailbox::of(["one", "two", "six"].map(|t| (t.as_bytes().to_vec(), twin(t))));
    let mut mk = account("");
    let dir = mk.folder("INBOX");
    maildir::make_folder(&dir);
    for (n, m) in mailbox.messages.iter().enumerate() {
        fs::write(dir.join("cur").join(format!("160000000{n}.M1P2.host:2,S")), to_lf(&m.body))
            .unwrap();
    }
    for m in &mut mailbox.messages[1..] {
        m.says = Some(vec![Step::Close]);
    }
    pass(&mut mk, &mailbox, 1);
    mailbox.messages.iter_mut().for_each(|m| m.says = None);
    assert_eq!(sync(&mut mk, &mailbox), (2, 0));
    assert_here(&mk, &mailbox.messages);
    assert_eq!(sync(&mut mk, &mailbox), (0, 0));
}

/// Without its ledger, what is out of view is nobody's; coming back it is what it was.
#[test]
fn a_lost_ledger_and_a_window_double_nothing() {
    let mut mk = account("");
    assert_eq!(sync(&mut mk, &window(0..4)), (4, 0));
    assert_eq!(sync(&mut mk, &window(3..7)), (3, 0));
    mk.lose_ledger();
    assert_eq!(sync(&mut mk, &window(3..7)), (0, 0));
    assert_eq!(mk.run(&["kept"]).expect(0).stdout.lines().count(), 3);
    assert_eq!(sync(&mut mk, &window(0..4)), (3, 0), "looked at, to be sure");
    assert_eq!(sync(&mut mk, &window(0..7)), (0, 0));
    assert_here(&mk, &window(0..7).messages);
    assert_eq!(mk.run(&["kept"]).expect(0).stdout, "");
}
