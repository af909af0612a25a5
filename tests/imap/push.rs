//! Hearing of changes: NOTIFY and IDLE of real servers, and of peers that stop saying anything.

use std::collections::BTreeMap;
use std::time::Duration;

use mailkeep::imap::push::{Hint, Method, Pace, Push, Said, Wanted, Watched};
use mailkeep::model::FolderName;
use mailkeep::{Kind, Scope};

use crate::common::process::wait_for;
use crate::common::scripted::{Script, Scripted, Step, send};
use crate::common::server::Server;
use crate::common::{Courier, Cyrus, Dovecot, Letter, Mint, Options};
use crate::tools::*;

fn name(s: &str) -> FolderName {
    FolderName::from_text(s).unwrap()
}

/// A letter without flags.
fn plain() -> Letter {
    Letter { flags: Default::default(), ..Mint::new(1).letter(1) }
}

/// These folders, all mirrored, spelled as they are.
fn folders(names: &[&str]) -> Vec<Watched> {
    let one = |n: &&str| Watched {
        name: name(n),
        wire: n.as_bytes().to_vec(),
        personal: true,
        mirrored: true,
    };
    names.iter().map(one).collect()
}

fn wanted(names: &[&str], idle: &[&str], connections: usize) -> Wanted {
    Wanted { folders: folders(names), idle: idle.iter().map(|n| name(n)).collect(), connections }
}

/// What a pass would hand over.
async fn listed(port: u16, idle: &[&str], connections: usize) -> Wanted {
    let mut s = session(port).await;
    let listing = s.list().await.unwrap();
    s.logout().await;
    let folders = listing.folders.into_iter().filter(|f| f.selectable);
    let watched = |f: mailkeep::imap::Listed| Watched {
        name: f.name,
        wire: f.wire,
        personal: f.personal,
        mirrored: true,
    };
    let idle = idle.iter().map(|n| name(n)).collect();
    Wanted { folders: folders.map(watched).collect(), idle, connections }
}

async fn start(port: u16, wanted: &Wanted) -> Push {
    start_with(port, wanted, Pace::default()).await.unwrap()
}

/// Starts, and takes the first hint.
async fn start_with(port: u16, wanted: &Wanted, pace: Pace) -> mailkeep::Result<Push> {
    let (endpoint, login, timeouts) = door(port, 30);
    let mut push = Push::start(&endpoint, &login, &timeouts, wanted, pace).await?;
    assert_eq!(push.next().await?, Hint::Everything, "what happened before");
    Ok(push)
}

async fn next(push: &mut Push) -> mailkeep::Result<Hint> {
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, push.next()).await.expect("something within 30 s")
}

/// Waits until this folder is told, and gives what was said. Dovecot tells of others, too.
async fn told(push: &mut Push, folder: &str) -> Said {
    loop {
        match next(push).await.unwrap() {
            Hint::Folders(f) => {
                if let Some(said) = f.get(&name(folder)) {
                    return said.clone();
                }
            }
            Hint::Everything => {}
        }
    }
}

async fn everything(push: &mut Push) {
    while next(push).await.unwrap() != Hint::Everything {}
}

fn methods(push: &Push) -> BTreeMap<String, Method> {
    push.methods().iter().map(|(n, m)| (n.to_string(), *m)).collect()
}

#[test]
fn dovecot_notifies_of_all_folders_on_one_connection() {
    let server = Dovecot::start();
    let letter = plain();
    let zurich = "Work/Zürich & Bern";
    server.imap().create(zurich);
    run(async {
        let wanted = listed(server.port(), &["INBOX"], 2).await;
        let mut push = start(server.port(), &wanted).await;
        assert!(push.methods().values().all(|m| *m == Method::Notify) && !push.needs_polling());
        let mut other = server.imap();
        other.append(zurich, &letter);
        let said = told(&mut push, zurich).await;
        assert_eq!((said.messages, said.uidnext.map(|u| u.get())), (Some(1), Some(2)));
        let before = said.modseq.expect("HIGHESTMODSEQ");
        other.store(zurich, &[1], "+FLAGS", &["\\Seen"]);
        while told(&mut push, zurich).await.modseq.is_none_or(|m| m <= before) {}
        other.move_to(zurich, &[1], "INBOX");
        assert_eq!(told(&mut push, zurich).await.messages, Some(0));
        other.append("INBOX", &letter);
        while told(&mut push, "INBOX").await.messages != Some(2) {}
        other.create("made/just now");
        everything(&mut push).await;
        other.delete("made/just now");
        everything(&mut push).await;
        push.close().await;
    });
}

#[test]
fn folders_that_are_not_mirrored_are_not_told_of() {
    let server = Dovecot::start();
    let letter = plain();
    run(async {
        let mut wanted = listed(server.port(), &[], 1).await;
        for f in &mut wanted.folders {
            f.mirrored = f.name != name("Junk");
        }
        let mut push = start(server.port(), &wanted).await;
        assert!(!push.methods().contains_key(&name("Junk")));
        server.imap().append("Junk", &letter);
        server.imap().append("Sent", &letter);
        // in the order of the server
        loop {
            let Hint::Folders(f) = next(&mut push).await.unwrap() else { panic!("no new folder") };
            assert!(!f.contains_key(&name("Junk")));
            if f.contains_key(&name("Sent")) {
                break;
            }
        }
    });
}

#[test]
fn without_notify_dovecot_idles_in_the_folders_that_matter() {
    let capability = "IMAP4rev1 SASL-IR ENABLE IDLE LITERAL+ NAMESPACE UIDPLUS MOVE CONDSTORE";
    let server =
        Dovecot::with(Options { capability: Some(capability.into()), ..Options::default() });
    let letter = plain();
    run(async {
        let wanted = listed(server.port(), &["INBOX", "gone", "Sent", "Trash"], 2).await;
        let mut push = start(server.port(), &wanted).await;
        let m = methods(&push);
        assert_eq!((m["INBOX"], m["Sent"]), (Method::Idle, Method::Idle));
        assert_eq!((m["Trash"], m["Junk"]), (Method::Poll, Method::Poll));
        assert!(push.needs_polling());
        let mut other = server.imap();
        for folder in ["INBOX", "Sent"] {
            other.append(folder, &letter);
            assert_eq!(told(&mut push, folder).await.messages, Some(1));
            other.store(folder, &[1], "+FLAGS", &["\\Seen"]);
            told(&mut push, folder).await;
            other.expunge(folder, &[1]);
            told(&mut push, folder).await;
        }
        assert!(push.demote(&name("Sent")) && !push.demote(&name("Sent")));
        assert_eq!(methods(&push)["INBOX"], Method::Idle);
        push.close().await;
    });
}

/// Cyrus and Courier have no NOTIFY as they are set up here.
fn idles_on(server: &dyn Server, method: Method) {
    let letter = plain();
    run(async {
        let wanted = listed(server.port(), &["INBOX"], 1).await;
        let pace = Pace { renew: Duration::from_millis(300), answer: Duration::from_secs(20) };
        let mut push = start_with(server.port(), &wanted, pace).await.unwrap();
        assert_eq!(methods(&push)["INBOX"], method);
        server.imap().append("INBOX", &letter);
        assert_eq!(told(&mut push, "INBOX").await.messages, Some(1));
        server.imap().store("INBOX", &[1], "+FLAGS", &["\\Seen"]);
        told(&mut push, "INBOX").await;
        server.imap().expunge("INBOX", &[1]);
        told(&mut push, "INBOX").await;
        push.close().await;
    });
}

#[test]
fn courier_idles() {
    idles_on(&Courier::start(), Method::Idle);
}

#[test]
fn cyrus_idles() {
    idles_on(&Cyrus::start(), Method::Idle);
}

#[test]
fn a_server_that_goes_down_is_noticed() {
    let mut server = Dovecot::start();
    run(async {
        let wanted = listed(server.port(), &[], 1).await;
        let mut push = start(server.port(), &wanted).await;
        server.stop();
        let e = loop {
            match next(&mut push).await {
                Ok(_) => {}
                Err(e) => break e,
            }
        };
        assert_eq!((e.kind, e.scope), (Kind::Connection, Scope::Account));
        assert_eq!(next(&mut push).await.unwrap_err(), e, "it stays lost");
        let again = start_with(server.port(), &wanted, Pace::default()).await;
        assert_eq!(again.err().map(|e| e.kind), Some(Kind::Connection));
        server.restart();
        start(server.port(), &wanted).await;
    });
}

/// Logs in with these capabilities, takes folders and commands.
fn scripted(capabilities: &str, rules: Script) -> Scripted {
    let login = format!("{{tag}} OK [CAPABILITY IMAP4rev1 {capabilities}] in\r\n");
    let base = Script::greeting([send("* OK hi\r\n")])
        .on("CAPABILITY", [send("* CAPABILITY IMAP4rev1\r\n{tag} OK x\r\n")])
        .on("LOGIN", [send(login)])
        .on("EXAMINE", [send("* 3 EXISTS\r\n* OK [UIDVALIDITY 9] x\r\n{tag} OK opened\r\n")])
        .on("IDLE", [send("+ idling\r\n")])
        .on("", [send("{tag} OK done\r\n")]);
    Scripted::start(rules.before(base))
}

fn fast(renew_ms: u64, answer_ms: u64) -> Pace {
    Pace { renew: Duration::from_millis(renew_ms), answer: Duration::from_millis(answer_ms) }
}

fn verbs(s: &Scripted) -> Vec<String> {
    let verb = |l: &String| match l.split_once(' ') {
        Some((_, rest)) => rest.split(' ').next().unwrap_or_default().to_owned(),
        None => l.clone(),
    };
    s.lines().iter().map(verb).collect()
}

#[test]
fn refused_notify_falls_to_idle_and_refused_idle_to_polling() {
    let no = |verb: &str, word: &str| {
        Script::greeting([]).on(verb, [send(format!("{{tag}} {word} not for you\r\n"))])
    };
    for word in ["NO [BADEVENT (MessageNew)]", "BAD"] {
        let s = scripted("NOTIFY IDLE", no("NOTIFY", word));
        run(async {
            let push = start(s.port(), &wanted(&["INBOX", "a"], &["INBOX"], 1)).await;
            assert_eq!(methods(&push)["INBOX"], Method::Idle);
            assert_eq!(methods(&push)["a"], Method::Poll);
            push.close().await;
        });
        let said = ["LOGIN", "NOTIFY", "NOTIFY", "EXAMINE", "IDLE", "DONE", "LOGOUT"];
        wait_for("goodbye", Duration::from_secs(20), || {
            (verbs(&s).iter().filter(|v| *v != "CAPABILITY").eq(&said)).then_some(())
        });
        let s = scripted("NOTIFY IDLE", no("NOTIFY", word).on("IDLE", [send("{tag} NO no\r\n")]));
        run(async {
            let mut push = start(s.port(), &wanted(&["INBOX"], &["INBOX"], 1)).await;
            assert_eq!(methods(&push)["INBOX"], Method::Poll);
            let waited = tokio::time::timeout(Duration::from_millis(50), push.next()).await;
            assert!(waited.is_err(), "nothing pushes");
        });
    }
    // no capability, or no connection to spare: nobody is bothered
    let s = scripted("", Script::greeting([]));
    run(async {
        let push = start(s.port(), &wanted(&["INBOX"], &["INBOX"], 1)).await;
        assert!(push.needs_polling());
        let push = start(1, &wanted(&["INBOX"], &["INBOX"], 0)).await;
        assert!(push.needs_polling());
    });
    assert!(!verbs(&s).iter().any(|v| v == "IDLE" || v == "EXAMINE"));
}

#[test]
fn events_without_names_are_refused_and_notify_goes_on_without_them() {
    let rules = Script::greeting([])
        .on("MailboxName", [send("{tag} NO [BADEVENT (MessageNew MessageExpunge)] x\r\n")]);
    let s = scripted("NOTIFY", rules);
    run(async {
        let mut push = start(s.port(), &wanted(&["INBOX"], &[], 1)).await;
        assert_eq!(methods(&push)["INBOX"], Method::Notify);
        assert!(push.demote(&name("INBOX")));
        assert!(push.needs_polling());
        push.set_folders(&folders(&["INBOX", "b"]));
        assert_eq!(methods(&push)["b"], Method::Poll);
    });
}

#[test]
fn a_bye_in_idle_is_told_with_its_reason() {
    let rules = Script::greeting([])
        .on("IDLE", [send("+ idling\r\n* 4 EXISTS\r\n* BYE too long, try again in 5 min\r\n")]);
    let s = scripted("IDLE", rules);
    run(async {
        let mut push = start(s.port(), &wanted(&["INBOX"], &["INBOX"], 1)).await;
        // it may be one hint with what was before
        let mut last = next(&mut push).await;
        if let Ok(hint) = &last {
            assert!(matches!(hint, Hint::Folders(f) if f[&name("INBOX")].messages == Some(4)));
            last = next(&mut push).await;
        }
        let e = last.unwrap_err();
        assert!(e.what.contains("try again in 5 min"), "{e}");
        assert_eq!((e.kind, e.scope), (Kind::Connection, Scope::Account));
    });
}

#[test]
fn idle_is_renewed_and_half_open_connections_are_found() {
    // renewed, again and again
    let s = scripted("IDLE", Script::greeting([]).on("DONE", [send("M4 OK x\r\n")]));
    run(async {
        let mut push = start_with(s.port(), &wanted(&["INBOX"], &["INBOX"], 1), fast(30, 20_000))
            .await
            .unwrap();
        wait_for_async("renewed", || verbs(&s).iter().filter(|v| *v == "IDLE").count() >= 2).await;
        drop(push.next());
    });
    // silent from then on: the router forgot it
    for (capability, rules) in [
        ("IDLE", Script::greeting([]).on("DONE", [Step::Hang])),
        ("NOTIFY", Script::greeting([]).on("NOOP", [Step::Hang])),
    ] {
        let s = scripted(capability, rules);
        run(async {
            let wanted = wanted(&["INBOX"], &["INBOX"], 1);
            let mut push = start_with(s.port(), &wanted, fast(30, 100)).await.unwrap();
            let e = next(&mut push).await.unwrap_err();
            assert_eq!((e.kind, e.scope), (Kind::Connection, Scope::Account), "{e}");
            assert!(e.what.contains("did not answer"), "{e}");
        });
    }
    // silent when asked to begin
    let s = scripted("IDLE", Script::greeting([]).on("IDLE", [Step::Hang]));
    run(async {
        let wanted = wanted(&["INBOX"], &["INBOX"], 1);
        let e = start_with(s.port(), &wanted, fast(30, 100)).await.err().expect("an error");
        assert_eq!(e.kind, Kind::Connection);
    });
}

#[test]
fn an_overflow_is_everything_and_notify_is_turned_on_again() {
    let overflow = "* OK [NOTIFICATIONOVERFLOW] too many\r\n";
    let rules = Script::greeting([]).on("NOOP", [send(format!("{overflow}{{tag}} OK x\r\n"))]);
    let s = scripted("NOTIFY", rules);
    run(async {
        let wanted = wanted(&["INBOX"], &[], 1);
        let mut push = start_with(s.port(), &wanted, fast(30, 20_000)).await.unwrap();
        assert_eq!(next(&mut push).await.unwrap(), Hint::Everything);
        wait_for_async("NOTIFY", || verbs(&s).iter().filter(|v| *v == "NOTIFY").count() >= 3).await;
    });
}

#[test]
fn a_server_that_stops_or_floods_is_left() {
    let ended = Script::greeting([]).on("IDLE", [send("+ idling\r\n{tag} OK that was it\r\n")]);
    let s = scripted("IDLE", ended);
    run(async {
        let wanted = wanted(&["INBOX"], &["INBOX"], 1);
        let mut push = start(s.port(), &wanted).await;
        assert_eq!(next(&mut push).await.unwrap_err().kind, Kind::Protocol);
    });
    // it never answers the question that comes after so much
    let flood = Script::greeting([])
        .on("IDLE", [send("+ idling\r\n"), Step::Flood(b"* 5 EXISTS\r\n".into(), 10 << 20)]);
    let s = scripted("IDLE", flood);
    run(async {
        let wanted = wanted(&["INBOX"], &["INBOX"], 1);
        let mut push = start(s.port(), &wanted).await;
        let e = loop {
            match next(&mut push).await {
                Ok(Hint::Folders(f)) => assert_eq!(f.len(), 1),
                Ok(other) => panic!("{other:?}"),
                Err(e) => break e,
            }
        };
        assert_eq!(e.kind, Kind::Protocol, "{e}");
    });
}

async fn wait_for_async(what: &str, ready: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !ready() {
        assert!(std::time::Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
