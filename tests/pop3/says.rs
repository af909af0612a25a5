//! What is said of a POP3 account: the plan of a dry run, `status`, `check --connect`, and decisions
//! about holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::scripted::{Script, send};
use crate::common::*;
use crate::tools::server;

fn dovecot(letters: std::ops::Range<usize>) -> Dovecot {
    let server = Dovecot::with(Options { pop3: true, ..Options::default() });
    server.seed("INBOX", &Mint::new(21).letters(letters));
    server
}

fn pop3(port: u16, keys: &str) -> Mailkeep {
    let mut mk = Mailkeep::to_port(port);
    mk.set("protocol", "pop3").set_raw("pop3", &format!("{{ {keys} }}"));
    mk
}

/// Every file below a directory with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    let Ok(entries) = fs::read_dir(dir) else { return out };
    for path in entries.map(|e| e.unwrap().path()) {
        if path.is_dir() {
            out.insert(path.clone(), Vec::new());
            out.extend(files(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            out.insert(path, bytes);
        }
    }
    out
}

/// Maildir and state.
fn all(mk: &Mailkeep) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = files(mk.maildir());
    all.extend(files(&mk.state_dir()));
    // SQLite's shared memory says who reads
    all.retain(|path, _| path.extension().is_none_or(|e| e != "db-shm"));
    all
}

/// The plan, and that nothing came of it.
#[track_caller]
fn plan(mk: &Mailkeep, proxy: &Proxy, status: i32) -> String {
    let before = all(mk);
    proxy.reset();
    let said = mk.run(&["sync", "--dry-run"]).expect(status);
    assert!(all(mk) == before, "something was written");
    assert_eq!(proxy.count_pop3("UIDL"), 1);
    assert_eq!(["RETR", "DELE"].map(|verb| proxy.count_pop3(verb)), [0, 0]);
    said.stdout
}

#[test]
fn a_dry_run_says_all_and_does_nothing() {
    let server = dovecot(0..5);
    let proxy = Proxy::to(server.pop3_port());
    let mut mk = pop3(proxy.port(), "keep = \"delete\"");
    let first = plan(&mk, &proxy, 0);
    let size = server.imap().bodies("INBOX")[0].1.len();
    assert!(
        first.contains(&format!("test: fetch message 1 ({size} bytes) into INBOX\n")),
        "{first}"
    );
    assert_eq!(first.matches("fetch message").count(), 5, "{first}");
    assert!(
        first.contains("delete 5 on the server once they are safe here: pop3.keep\n"),
        "{first}"
    );
    assert_eq!(proxy.count_pop3("TOP"), 0, "there is nothing to compare with");

    mk.set_raw("pop3", "{ keep = \"forever\" }").sync_ok();
    assert_eq!(plan(&mk, &proxy, 0), "");
    // one came, one went, one was removed here
    let mut imap = server.imap();
    imap.append_all("INBOX", &Mint::new(21).letters(7..8));
    let here = read_folder(&mk.folder("INBOX"));
    let uid = imap.find("INBOX", &here[0].message_id);
    imap.expunge("INBOX", &uid);
    fs::remove_file(&here[1].path).unwrap();
    mk.set_raw("pop3", "{ delete_when_removed_locally = true }");
    let said = plan(&mk, &proxy, 0);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].starts_with("test: fetch message 5 ("), "{said}");
    let removed = format!("test: delete {} on the server: removed here", here[1].message_id);
    assert!(lines[1].starts_with(&removed), "{said}");
    assert_eq!(lines[2], "test: keep 1 here that went from the server");
    // what may not be done is not announced
    mk.set_raw("read_only", "true");
    let said = plan(&mk, &proxy, 0);
    assert!(said.contains("leave 1 on the server that are due: read_only = true\n"), "{said}");
    assert!(!said.contains("delete <"), "{said}");
    mk.unset("read_only").policy_raw("brake", "{ messages = 0, percent = 0 }");
    let said = plan(&mk, &proxy, 3);
    assert!(said.contains("hold 1 deletion on the server\n"), "{said}");
    // and it does what it said
    mk.policy_raw("brake", "{ messages = 20, percent = 50 }");
    let said = mk.sync_ok().stdout;
    assert!(said.contains("1 new") && said.contains("1 deleted; 1 kept"), "{said}");
    assert_eq!(plan(&mk, &proxy, 0), "");
}

#[test]
fn a_dry_run_of_a_session_that_may_not_delete_says_why() {
    let server = dovecot(0..3);
    let proxy = Proxy::to(server.pop3_port());
    let mut mk = pop3(proxy.port(), "");
    mk.sync_ok();
    // the same mail under other UIDLs
    let after = Dovecot::with(Options {
        pop3: true,
        extra: "protocol pop3 {\n pop3_uidl_format = new-%v-%u\n}".into(),
        ..Options::default()
    });
    after.seed("INBOX", &Mint::new(21).letters(0..3));
    let proxy = Proxy::to(after.pop3_port());
    mk.port(proxy.port()).set_raw("pop3", "{ keep = \"delete\" }");
    let said = plan(&mk, &proxy, 0);
    assert_eq!(proxy.count_pop3("TOP"), 3);
    assert_eq!(
        said,
        "test: note the new UIDLs of 3 messages\n\
         test: leave 3 on the server that are due: all UIDLs are new at once\n"
    );
}

fn status(mk: &Mailkeep) -> (serde_json::Value, String) {
    let account = mk.status()["accounts"][0].clone();
    (account, mk.run(&["status"]).expect(0).stdout)
}

#[test]
fn status_says_what_is_on_the_server_and_what_is_deleted_when() {
    let server = dovecot(0..4);
    let mut mk = pop3(server.pop3_port(), "keep = \"delete-after:30d\"");
    let (never, _) = status(&mk);
    assert_eq!(never["pop3"], serde_json::Value::Null);
    mk.sync_ok();
    let (account, text) = status(&mk);
    let pop3 = &account["pop3"];
    assert_eq!((&pop3["on_server"], &pop3["due"]), (&4.into(), &0.into()), "{account}");
    assert_eq!(pop3["frozen"], serde_json::Value::Null);
    let time = |key: &str| -> jiff::Timestamp { pop3[key].as_str().expect(key).parse().unwrap() };
    let wait = time("next_due").as_second() - time("listed_at").as_second();
    assert!((30 * 86400 - 60..=30 * 86400).contains(&wait), "{account}");
    assert!(text.contains("  on the server: 4 messages at "), "{text}");
    assert!(text.contains(", the next one due "), "{text}");
    // due, and not allowed
    mk.set_raw("pop3", "{ keep = \"delete\" }").set_raw("read_only", "true").sync_ok();
    let (account, text) = status(&mk);
    assert_eq!(account["pop3"]["due"], 4, "{account}");
    assert!(text.contains(", 4 due for deletion"), "{text}");
    assert!(text.contains("read_only = true"), "{text}");
    mk.unset("read_only").sync_ok();
    let (account, text) = status(&mk);
    assert_eq!((&account["pop3"]["on_server"], &account["pop3"]["due"]), (&0.into(), &0.into()));
    assert!(text.contains("on the server: 0 messages at "), "{text}");
    assert!(!text.contains("due"), "{text}");
}

/// What a session could not list is not 0 messages, and what one listed long ago is not now.
#[test]
fn status_does_not_know_what_no_session_listed() {
    let later = || [send("-ERR [SYS/TEMP] later\r\n")];
    let broken = Script::greeting([]).on("STAT", later()).on("UIDL", later()).on("LIST", later());
    let broken = || broken.clone().before(server(&["PIPELINING", "TOP", "UIDL", "USER"]));
    let first = Scripted::start(broken());
    let mut mk = pop3(first.port(), "");
    mk.sync().expect(1);
    let (account, text) = status(&mk);
    assert_eq!(account["pop3"]["on_server"], serde_json::Value::Null, "{account}");
    assert_eq!(account["pop3"]["listed_at"], serde_json::Value::Null);
    assert!(text.contains("on the server: not known"), "{text}");
    let server = dovecot(0..4);
    mk.port(server.pop3_port()).sync_ok();
    let (before, _) = status(&mk);
    let second = Scripted::start(broken());
    mk.port(second.port()).sync().expect(1);
    let (account, _) = status(&mk);
    assert_eq!(account["state"], "failed");
    assert_eq!(account["pop3"], before["pop3"], "it says of when that is");
    // another user's mailbox is another one
    mk.set("user", "somebody").sync().expect(1);
    let (account, text) = status(&mk);
    assert_eq!(account["pop3"]["on_server"], serde_json::Value::Null, "{account}");
    assert!(text.contains("on the server: not known"), "{text}");
}

#[test]
fn a_rejected_hold_says_that_the_messages_stay_and_they_do() {
    let server = dovecot(0..8);
    let mut mk = pop3(server.pop3_port(), "delete_when_removed_locally = true");
    mk.policy_raw("brake", "{ messages = 2, percent = 5 }");
    mk.sync_ok();
    for m in &read_folder(&mk.folder("INBOX"))[..5] {
        fs::remove_file(&m.path).unwrap();
    }
    mk.sync().expect(3);
    let (account, text) = status(&mk);
    let hold = account["holds"][0].clone();
    assert_eq!((&hold["messages"], &hold["state"]), (&5.into(), &"open".into()), "{hold}");
    assert!(text.contains("5 deletions on the POP3 server"), "{text}");
    let number = hold["number"].to_string();
    let said = mk.run(&["reject", "test", &number]).expect(0).stderr;
    assert!(
        said.contains("is rejected; the next sync leaves the messages on the server"),
        "{said}"
    );
    for pass in 0..3 {
        let (account, text) = status(&mk);
        assert!(text.contains("rejected: they stay on the server."), "{pass}: {text}");
        assert!(!text.contains("the next sync"), "{pass}: {text}");
        assert_eq!(account["holds"][0]["state"], "rejected", "{pass}: {account}");
        mk.sync_ok();
        assert_eq!(server.imap().count("INBOX"), 8, "{pass}");
        assert_eq!(read_folder(&mk.folder("INBOX")).len(), 3, "{pass}");
    }
    assert_eq!(status(&mk).0["state"], "ok");
    // one more that is removed is no part of what was rejected
    fs::remove_file(&read_folder(&mk.folder("INBOX"))[0].path).unwrap();
    mk.sync_ok();
    assert_eq!(server.imap().count("INBOX"), 7);
    mk.run(&["approve", "test", &number]).expect(0);
    mk.sync_ok();
    assert_eq!(server.imap().count("INBOX"), 2);
    assert_eq!(status(&mk).0["holds"], serde_json::json!([]));
}

#[test]
fn check_connect_says_what_the_server_can_and_touches_nothing() {
    let server = dovecot(0..3);
    let proxy = Proxy::to(server.pop3_port());
    let mk = pop3(proxy.port(), "keep = \"delete\"");
    let bytes: usize = server.imap().bodies("INBOX").iter().map(|(_, b)| b.len()).sum();
    let said = mk.run(&["check", "--connect"]).expect(0).stdout;
    for line in [
        "mail is deleted on the server once it is safe here; deleted here stays there",
        "PIPELINING: many messages in one round trip",
        "UIDL: messages are known again by it",
        "TOP: headers alone tell messages apart",
    ] {
        assert!(said.contains(&format!("\n  {line}\n")), "{line}: {said}");
    }
    assert!(said.contains(&format!("\n  mailbox: 3 messages, {bytes} bytes\n")), "{said}");
    let verbs = ["LIST", "RETR", "DELE", "TOP"].map(|verb| proxy.count_pop3(verb));
    assert_eq!(verbs, [1, 0, 0, 0]);
    assert!(!mk.state_dir().exists() && files(mk.maildir()).is_empty());
    assert_eq!(server.imap().count("INBOX"), 3);
    // and what it cannot
    let script = Script::greeting([])
        .on("STAT", [send("+OK 1 20\r\n")])
        .on("UIDL", [send("-ERR what\r\n")])
        .on("LIST", [send("+OK\r\n1 20\r\n.\r\n")]);
    let caps = ["USER", "LOGIN-DELAY 900", "EXPIRE 60", "IMPLEMENTATION Old Post 1.0"];
    let old = Scripted::start(script.before(crate::tools::server(&caps)));
    let mk = pop3(old.port(), "");
    let said = mk.run(&["check", "--connect"]).expect(0).stdout;
    for line in [
        "server: Old Post 1.0",
        "no PIPELINING: a round trip a message",
        "no UIDL: messages are known again by their headers and bytes, and none is deleted",
        "no TOP: what is to be deleted there, or looks like another, is fetched whole first",
        "LOGIN-DELAY: not more often than every 900 seconds",
        "EXPIRE: the server deletes messages after 60 days by itself",
        "mailbox: 1 message, 20 bytes",
    ] {
        assert!(said.contains(&format!("\n  {line}")), "{line}: {said}");
    }
    let refusing = Script::greeting([]).on("PASS", [send("-ERR [AUTH] no\r\n")]);
    let refusing = Scripted::start(refusing.before(crate::tools::server(&caps)));
    let mk = pop3(refusing.port(), "");
    let said = mk.run(&["check", "--connect"]).expect(1).text();
    assert!(said.contains("refused the login"), "{said}");
}
