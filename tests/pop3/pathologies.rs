//! Passes against servers that no standard describes: UIDLs doubled, missing, reused or odd,
//! listings cut short, sizes that lie, messages that break their session.

use std::fs;

use crate::common::letters::simple;
use crate::common::scripted::{Script, send};
use crate::common::*;
use crate::tools::server;

/// A mailbox of messages with their UIDLs. `capabilities` without UIDL: it has none.
#[derive(Clone)]
struct Mailbox {
    capabilities: Vec<&'static str>,
    messages: Vec<(Vec<u8>, Vec<u8>)>,
    /// LIST says this percentage of the size.
    sizes: usize,
    /// STAT counts so many more.
    more: usize,
}

impl Mailbox {
    fn new(messages: &[(&[u8], &str, &str)]) -> Self {
        let message = |(uidl, id, text): &(&[u8], &str, &str)| {
            (uidl.to_vec(), simple(&format!("<{id}@x>"), id, &format!("{text}\r\n")))
        };
        Self {
            capabilities: vec!["PIPELINING", "TOP", "UIDL", "USER"],
            messages: messages.iter().map(message).collect(),
            sizes: 100,
            more: 0,
        }
    }

    fn start(&self) -> Scripted {
        let mut script = Script::default();
        let (mut uidls, mut sizes) = (b"+OK\r\n".to_vec(), b"+OK\r\n".to_vec());
        for (n, (uidl, body)) in (1..).zip(&self.messages) {
            uidls.extend([format!("{n} ").as_bytes(), uidl, b"\r\n"].concat());
            sizes.extend(format!("{n} {}\r\n", body.len() * self.sizes / 100).into_bytes());
            let stuffed = String::from_utf8_lossy(body).replace("\r\n.", "\r\n..");
            let head = stuffed.split("\r\n\r\n").next().unwrap().to_owned();
            script = script
                .on(&format!("RETR {n}"), [send(format!("+OK\r\n{stuffed}.\r\n"))])
                .on(&format!("TOP {n} 0"), [send(format!("+OK\r\n{head}\r\n\r\n.\r\n"))])
                .on(&format!("DELE {n}"), [send("+OK\r\n")]);
        }
        uidls.extend(b".\r\n");
        sizes.extend(b".\r\n");
        let total: usize = self.messages.iter().map(|(_, b)| b.len()).sum();
        let count = self.messages.len() + self.more;
        let has_uidl = self.capabilities.contains(&"UIDL");
        let uidl = if has_uidl { uidls } else { b"-ERR unknown command\r\n".to_vec() };
        script = script
            .on("STAT", [send(format!("+OK {count} {total}\r\n"))])
            .on("UIDL", [send(uidl)])
            .on("LIST", [send(sizes)]);
        Scripted::start(script.before(server(&self.capabilities)))
    }
}

fn account(keys: &str) -> Mailkeep {
    let mut mk = Mailkeep::to_port(1);
    mk.set("protocol", "pop3").set_raw("pop3", &format!("{{ {keys} }}"));
    mk
}

/// One pass. How many messages were retrieved and how many marked.
#[track_caller]
fn sync(mk: &mut Mailkeep, mailbox: &Mailbox) -> (usize, usize) {
    let server = mailbox.start();
    mk.port(server.port());
    mk.sync_ok();
    let lines = server.lines();
    let count = |verb: &str| lines.iter().filter(|l| l.starts_with(verb)).count();
    (count("RETR"), count("DELE"))
}

fn here(mk: &Mailkeep) -> usize {
    read_folder(&mk.folder("INBOX")).len()
}

#[test]
fn equal_uidls_for_different_mail() {
    let mut mk = account("keep = \"delete\"");
    let twice = Mailbox::new(&[(b"same", "a", "1"), (b"same", "b", "2"), (b"c", "c", "3")]);
    assert_eq!(sync(&mut mk, &twice), (3, 0));
    assert_eq!(sync(&mut mk, &twice), (0, 0), "known by their headers");
    assert_eq!(here(&mk), 3);
    let clean = Mailbox::new(&[(b"same", "b", "2"), (b"c", "c", "3")]);
    let (_, marked) = sync(&mut mk, &clean);
    assert!(marked <= 2);
    assert_eq!(here(&mk), 3);
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
    mailbox.more = 0;
    assert_eq!(sync(&mut mk, &mailbox), (0, 2));
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
    let mut mk = account("keep = \"delete\"");
    for sizes in [80, 120] {
        let id = sizes.to_string();
        let mut mailbox = Mailbox::new(&[(id.as_bytes(), &id, "text")]);
        mailbox.sizes = sizes;
        assert_eq!(sync(&mut mk, &mailbox), (1, 1));
    }
    assert_eq!(here(&mk), 2);
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
