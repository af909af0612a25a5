//! A Maildir or a ledger of yesterday, and a Maildir that goes on as an IMAP account: nothing is
//! deleted wrongly anywhere, nothing is doubled.

use std::fs;

use crate::common::maildir::{make_folder, move_file};
use crate::common::proxy::Faults;
use crate::common::*;

fn dovecot(letters: std::ops::Range<usize>) -> Dovecot {
    let server = Dovecot::with(Options { pop3: true, ..Options::default() });
    server.seed("INBOX", &Mint::new(31).letters(letters));
    server
}

fn pop3(port: u16, keys: &str) -> Mailkeep {
    let mut mk = Mailkeep::to_port(port);
    mk.set("protocol", "pop3").set_raw("pop3", &format!("{{ {keys} }}"));
    mk
}

/// The contents of all folders here.
fn here(mk: &Mailkeep) -> Vec<String> {
    let all = read_maildir(mk.maildir()).into_values().flatten();
    let mut all: Vec<String> = all.map(|m| m.message_id).collect();
    all.sort();
    all
}

fn there(server: &Dovecot) -> Vec<String> {
    let all = server.imap().fetch_all("INBOX");
    let mut all: Vec<String> = all.into_iter().map(|m| m.message_id).collect();
    all.sort();
    all
}

fn ids(range: impl IntoIterator<Item = usize>) -> Vec<String> {
    let mint = Mint::new(31);
    let mut all: Vec<String> = range.into_iter().map(|i| mint.message_id(i)).collect();
    all.sort();
    all
}

const WAYS: [&str; 4] =
    ["", "keep = \"delete\"", "delete_when_removed_locally = true", "keep_newest = 9"];

/// Which of the messages of two days the server has in the end, and which are here.
struct Days {
    server: Dovecot,
    proxy: Proxy,
    mk: Mailkeep,
}

impl Days {
    /// Eight messages on the first day; then four more, and one of the first is removed here, and
    /// one is moved.
    fn new(keys: &str) -> Self {
        let server = dovecot(0..8);
        let proxy = Proxy::to(server.pop3_port());
        let mk = pop3(proxy.port(), keys);
        mk.sync_ok();
        maildir::copy_tree(mk.maildir(), &mk.dir().join("old-mail"));
        maildir::copy_tree(&mk.state_dir(), &mk.dir().join("old-state"));
        server.seed("INBOX", &Mint::new(31).letters(8..12));
        let inbox = read_folder(&mk.folder("INBOX"));
        let find = |i: usize| {
            let id = Mint::new(31).message_id(i);
            inbox.iter().find(|m| m.message_id == id).expect("it came")
        };
        fs::remove_file(&find(0).path).unwrap();
        let archive = mk.folder("Archive");
        make_folder(&archive);
        move_file(find(1), &archive);
        mk.sync_ok();
        assert_eq!(here(&mk), ids(1..12), "{keys}");
        let want = match keys {
            "" => ids(0..12),
            "keep = \"delete\"" => ids([]),
            "keep_newest = 9" => ids(3..12),
            _ => ids(1..12),
        };
        assert_eq!(there(&server), want, "{keys}");
        Self { server, proxy, mk }
    }

    fn restore(&self, what: &str) {
        let (now, old) = match what {
            "mail" => (self.mk.maildir().to_owned(), self.mk.dir().join("old-mail")),
            _ => (self.mk.state_dir(), self.mk.dir().join("old-state")),
        };
        fs::remove_dir_all(&now).unwrap();
        maildir::copy_tree(&old, &now);
    }

    /// Passes until nothing changes any more; how many bodies came.
    #[track_caller]
    fn settle(&self) -> usize {
        self.proxy.reset();
        let first = self.mk.sync_ok().text();
        assert!(first.contains("restored from a backup"), "{first}");
        let retrieved = self.proxy.count_pop3("RETR");
        for _ in 0..2 {
            let said = self.mk.sync_ok().stdout;
            assert!(
                said.contains(": 0 new, 0 sent, 0 flags, 0 moved, 0 deleted; 0 kept"),
                "{said}"
            );
        }
        retrieved
    }
}

#[test]
fn a_ledger_of_yesterday_doubles_and_deletes_nothing() {
    for keys in WAYS {
        let days = Days::new(keys);
        let on_server = there(&days.server);
        days.restore("state");
        let retrieved = days.settle();
        // what was removed today is not known to be: it comes again, if the server has it
        let again = usize::from(keys.is_empty());
        assert_eq!(retrieved, again, "{keys}");
        assert_eq!(here(&days.mk), ids(1 - again..12), "{keys}");
        assert_eq!(there(&days.server), on_server, "{keys}");
        let archive = read_folder(&days.mk.folder("Archive"));
        assert_eq!(archive.len(), 1, "{keys}");
        // each is in the ledger once, kept or not
        let folders = days.mk.status()["accounts"][0]["folders"].as_array().unwrap().clone();
        let sum = |key: &str| folders.iter().map(|f| f[key].as_u64().unwrap()).sum::<u64>();
        let known = sum("messages") + sum("kept");
        assert_eq!(known as usize, here(&days.mk).len(), "{keys}: {folders:?}");
    }
}

#[test]
fn a_maildir_of_yesterday_deletes_nothing_and_is_filled_up() {
    for keys in WAYS {
        let days = Days::new(keys);
        let on_server = there(&days.server);
        days.restore("mail");
        let retrieved = days.settle();
        assert_eq!(there(&days.server), on_server, "{keys}");
        // what came today is fetched again where the server has it
        let today = if keys == "keep = \"delete\"" { 8..8 } else { 8..12 };
        assert_eq!(retrieved, today.len(), "{keys}");
        assert_eq!(here(&days.mk), ids((0..8).chain(today)), "{keys}");
    }
}

#[test]
fn both_of_yesterday_go_on_from_there() {
    for keys in WAYS {
        let days = Days::new(keys);
        let on_server = there(&days.server);
        days.restore("mail");
        days.restore("state");
        days.mk.sync_ok();
        days.mk.sync_ok();
        let today = if keys == "keep = \"delete\"" { 8..8 } else { 8..12 };
        assert_eq!(here(&days.mk), ids((0..8).chain(today)), "{keys}");
        assert_eq!(there(&days.server), on_server, "{keys}");
    }
}

/// What the server had deleted before the ledger was lost is kept, and stays so.
#[test]
fn kept_mail_is_kept_mail_without_a_ledger() {
    let server = dovecot(0..6);
    let mk = pop3(server.pop3_port(), "keep = \"delete\"");
    mk.sync_ok();
    let kept = |mk: &Mailkeep| mk.run(&["kept"]).expect(0).stdout.lines().count();
    assert_eq!(kept(&mk), 6);
    mk.lose_ledger();
    mk.sync_ok();
    assert_eq!((kept(&mk), here(&mk)), (6, ids(0..6)));
    mk.sync_ok();
    assert_eq!((kept(&mk), here(&mk)), (6, ids(0..6)));
}

/// The way from POP3 to IMAP with deletions that were begun, held and due: none is carried out.
#[test]
fn pending_deletions_are_dropped_when_pop3_becomes_imap() {
    for (case, keys) in [
        ("begun", "keep = \"delete\""),
        ("held", "delete_when_removed_locally = true"),
        ("approved", "delete_when_removed_locally = true"),
    ] {
        let server = dovecot(0..10);
        let proxy = Proxy::to(server.pop3_port());
        let mut mk = pop3(proxy.port(), "");
        mk.policy_raw("brake", "{ messages = 2, percent = 5 }");
        mk.sync_ok();
        // one went from the server before
        let mut imap = server.imap();
        let uid = imap.find("INBOX", &Mint::new(31).message_id(9));
        imap.expunge("INBOX", &uid);
        mk.set_raw("pop3", &format!("{{ {keys} }}"));
        let mut left = 10;
        if case == "begun" {
            // DELE was said, and QUIT never came there
            proxy.set(Faults { cut_on: Some("QUIT".into()), ..Faults::default() });
            let said = mk.sync_ok().text();
            assert!(said.contains("9 messages may or may not be deleted"), "{said}");
        } else {
            for m in &read_folder(&mk.folder("INBOX"))[..4] {
                fs::remove_file(&m.path).unwrap();
            }
            left = 6;
            mk.sync().expect(3);
        }
        if case == "approved" {
            mk.run(&["approve", "test", "1"]).expect(0);
        }
        let before = there(&server);
        assert_eq!(before.len(), 9, "{case}");
        let files = here(&mk);
        assert_eq!(files.len(), left, "{case}");

        let proxy = Proxy::to(server.port());
        mk.unset("pop3").set("protocol", "imap").port(proxy.port());
        mk.deletes("mirror", "mirror");
        for pass in 0..3 {
            let said = mk.sync_ok().text();
            assert_eq!(there(&server), before, "{case}, {pass}: {said}");
            assert_eq!(here(&mk), files, "{case}, {pass}: {said}");
        }
        assert_eq!(proxy.body_fetches(), 0, "{case}: {:#?}", proxy.commands());
        let sent = ["APPEND", "UID EXPUNGE", "UID MOVE", "UID COPY"].map(|c| proxy.count(c));
        assert_eq!(sent, [0; 4], "{case}");
        let account = mk.status()["accounts"][0].clone();
        assert_eq!(account["holds"], serde_json::json!([]), "{case}: {account}");
        assert_eq!(account["pop3"], serde_json::Value::Null);
        // what went from the server in POP3 times is kept, whatever the policy says now
        let ids: Vec<String> = ids([9]).into_iter().filter(|id| files.contains(id)).collect();
        let kept = mk.run(&["kept"]).expect(0).stdout;
        assert_eq!(kept.lines().count(), ids.len(), "{case}: {kept}");
        assert!(ids.iter().all(|id| kept.contains(id)), "{case}: {kept}");
    }
}
