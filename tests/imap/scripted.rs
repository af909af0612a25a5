//! Peers that follow a script: what they say out of place, too much of, or wrongly.

use std::time::Duration;

use mailkeep::imap::{Beside, CopyUid, FlagChange};
use mailkeep::{Kind, Refusal, Scope};

use crate::common::process::wait_for;
use crate::common::scripted::{Script, Scripted, Step, send};
use crate::tools::*;

/// Logs in with these capabilities; everything else is OK and nothing more.
fn server(capabilities: &str) -> Script {
    greeting("hi", capabilities)
}

#[test]
fn everything_after_the_login_is_one_round_trip() {
    // no answer before LIST has come: who waits for one waits for ever
    let script = server("ID ENABLE QRESYNC NAMESPACE LIST-EXTENDED LIST-STATUS SPECIAL-USE").on(
        "LIST",
        [send(
            "* ID (\"name\" \"Cyrus IMAPD\")\r\nM2 OK x\r\n* ENABLED QRESYNC\r\nM3 OK x\r\n\
             * NAMESPACE ((\"\" \"/\")) NIL NIL\r\nM4 OK x\r\n\
             * LIST (\\Noselect) \"/\" a\r\n* LIST (\\Sent) \"/\" a/b\r\n\
             * STATUS a/b (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 3 HIGHESTMODSEQ 4)\r\nM5 OK x\r\n",
        )],
    );
    let s = Scripted::start(script);
    run(async {
        let mut session = session(s.port()).await;
        let listing = session.list().await.unwrap();
        assert_eq!(listing.folders.len(), 2);
        assert!(!listing.folders[0].selectable);
        let status = listing.folders[1].status.as_ref().unwrap();
        assert_eq!(status.modseq.unwrap().get(), 4);
        assert!(session.server_id()[0].1.starts_with("Cyrus"));
        session.logout().await;
    });
    let verbs = || -> Vec<String> {
        s.lines().iter().map(|l| l.split(' ').nth(1).unwrap_or_default().to_owned()).collect()
    };
    // the goodbye is not waited for
    wait_for("LOGOUT", Duration::from_secs(20), || {
        (verbs() == ["LOGIN", "ID", "ENABLE", "NAMESPACE", "LIST", "LOGOUT"]).then_some(())
    });
}

#[test]
fn netease_is_told_who_asks_before_anything_else() {
    // the quirk is known by the greeting here, since the host is this machine
    let s = Scripted::start(
        Script::greeting([send("* OK [CAPABILITY IMAP4rev1] Coremail System IMap Server\r\n")])
            .on("LOGIN", [send("{tag} OK [CAPABILITY IMAP4rev1] in\r\n")])
            .on(" ID ", [send("* ID NIL\r\n{tag} OK x\r\n")])
            .on("", [send("{tag} OK x\r\n")]),
    );
    run(async {
        let mut session = session(s.port()).await;
        assert!(session.caps().id_first);
        let asked = s.lines().iter().any(|l| l.contains(" ID (\"name\" \"mailkeep\""));
        assert!(asked, "before any other command: {:?}", s.lines());
        session.noop().await.unwrap();
    });
}

#[test]
fn two_names_for_one_folder_is_an_error_of_the_second() {
    let rules = Script::greeting([]).on(
        "LIST",
        [send(
            "* LIST () \".\" Sent\r\n* LIST () \".\" INBOX.Sent\r\n* LIST () \".\" inbox\r\n\
             * LIST () \".\" INBOX\r\n{tag} OK x\r\n",
        )],
    );
    let rules =
        rules.on("NAMESPACE", [send("* NAMESPACE ((\"INBOX.\" \".\")) NIL NIL\r\n{tag} OK x\r\n")]);
    let rules = rules.on("STATUS", [send("{tag} NO not now\r\n")]);
    let s = open_folder(rules, "NAMESPACE");
    run(async {
        let listing = session(s.port()).await.list().await.unwrap();
        let names: Vec<String> = listing.folders.iter().map(|f| f.name.to_string()).collect();
        assert_eq!(names, ["INBOX", "Sent"]);
        assert_eq!(listing.folders[1].wire, b"Sent");
        assert_eq!(listing.errors.len(), 1, "{:?}", listing.errors);
        assert_eq!(listing.errors[0].scope, Scope::Folder);
        // a refused STATUS is an error of the folder, and no absence
        let e = listing.folders[1].status_error.as_ref().unwrap();
        assert_eq!(e.kind, Kind::Refused);
        assert!(listing.folders[1].selectable);
    });
}

#[test]
fn a_listing_that_ends_in_no_is_none() {
    let rules = Script::greeting([])
        .on("LIST", [send("* LIST () \"/\" INBOX\r\n{tag} NO [UNAVAILABLE] backend is down\r\n")]);
    let s = open_folder(rules, "");
    run(async {
        let mut session = session(s.port()).await;
        let e = session.list().await.unwrap_err();
        assert_eq!((e.kind, e.refusal), (Kind::Refused, Some(Refusal::Unavailable)));
        assert!(e.what.contains("backend is down"), "{e}");
        assert!(session.dead().is_none());
        session.noop().await.unwrap();
    });
}

#[test]
fn status_says_what_is_gone_and_what_is_unknown() {
    let rules = Script::greeting([])
        .on("\"a\"", [send("* STATUS a (MESSAGES 1)\r\n{tag} OK x\r\n")])
        .on("\"b\"", [send("{tag} NO [NONEXISTENT] gone\r\n")])
        .on("\"c\"", [send("{tag} NO x\r\n")])
        .on("\"d\"", [send("{tag} OK silence\r\n")])
        .on("\"E&-\"", [send("* STATUS \"e&-\" (MESSAGES 5)\r\n{tag} OK x\r\n")]);
    let s = open_folder(rules, "");
    run(async {
        let wires: Vec<Vec<u8>> =
            ["a", "b", "c", "d", "E&-"].iter().map(|w| w.as_bytes().to_vec()).collect();
        let got = session(s.port()).await.status(&wires).await.unwrap();
        assert_eq!(got[0].as_ref().unwrap().as_ref().unwrap().messages, 1);
        assert_eq!(*got[1].as_ref().unwrap(), None);
        assert!(got[2].is_err() && got[3].is_err());
        assert_eq!(got[4].as_ref().unwrap().as_ref().unwrap().messages, 5);
    });
}

#[test]
fn out_of_place_is_passed_over_or_ends_the_session() {
    for (answer, lives) in [
        ("* 5 FETCH (UID 99 FLAGS (\\Seen))\r\n* 3 FETCH (FLAGS ())\r\n{tag} OK x\r\n", true),
        ("* 4294967296 EXISTS\r\n* 7 EXPUNGE\r\n* VANISHED 1:4294967295\r\n{tag} OK x\r\n", true),
        ("* OK [ALERT] hello\r\n* OK second greeting\r\n* PREAUTH\r\n{tag} OK x\r\n", true),
        ("* SEARCH 1 2\r\n* FROBNICATE {3}\r\nabc\r\n+ go on\r\n{tag} OK x\r\n", true),
        ("* 3 FETCH (UID 0)\r\n* STATUS (\r\n* LIST\r\n\r\n{tag} OK x\r\n", true),
        ("M99 OK x\r\n{tag} OK x\r\n", false),
        ("{tag} BYE x\r\n", false),
        ("{tag} PERHAPS\r\n", false),
        ("* BYE Too many connections, try again in 5 minutes\r\n", false),
        ("* X {9999999999}\r\n", false),
    ] {
        let s = open_folder(Script::greeting([]).on("NOOP", [send(answer)]), "");
        run(async {
            let mut session = session(s.port()).await;
            session.select(b"INBOX", true, None).await.unwrap();
            let got = session.noop().await;
            assert_eq!(got.is_ok(), lives, "{answer}: {got:?}");
            assert_eq!(session.dead().is_none(), lives);
            if let Err(e) = got {
                assert!(matches!(e.kind, Kind::Connection | Kind::Protocol), "{e:?}");
                let again = session.list().await.unwrap_err();
                assert_eq!(again, e, "every later call gives the same error");
                assert_eq!(
                    e.what.contains("BYE") || e.what.contains("5 minutes"),
                    answer.contains("* BYE"),
                    "{e}"
                );
            }
        });
    }
}

#[test]
fn an_unreadable_answer_is_no_absence() {
    let rules = Script::greeting([])
        .on("UID SEARCH", [send("* SEARCH 1 2\r\n* SEARCH 3 x\r\n{tag} OK x\r\n")])
        .on(
            "UID FETCH",
            [send("* 1 FETCH (UID 1 FLAGS ())\r\n* 2 FETCH (UID 2 FLAGS (\r\n{tag} OK x\r\n")],
        )
        .on("LIST", [send("* LIST () \"/\" INBOX\r\n* LIST () \"/\"\r\n{tag} OK x\r\n")])
        .on("NAMESPACE", [send("* NAMESPACE what?\r\n{tag} OK x\r\n")])
        .on("STATUS", [send("* STATUS INBOX (MESSAGES 1)\r\n{tag} OK x\r\n")]);
    let s = open_folder(rules.clone(), "");
    run(async {
        let mut session = session(s.port()).await;
        let listing = session.list().await.unwrap();
        assert_eq!((listing.folders.len(), listing.errors.len()), (1, 1));
        session.select(b"INBOX", true, None).await.unwrap();
        assert!(session.uids().await.is_err());
        assert!(session.fetch_flags(&set(1..=2), None, &mut |_, _| Ok(())).await.is_err());
        assert!(session.dead().is_none());
    });
    // without its namespaces every folder could have another name
    let s = open_folder(rules, "NAMESPACE");
    run(async {
        assert!(session(s.port()).await.list().await.is_err());
    });
}

#[test]
fn an_answer_about_no_message_is_no_absence() {
    for uid in ["UID 0 ", "UID 4294967296 ", "UID -1 ", "UID 99999999999999999999 ", ""] {
        let answer = format!(
            "* 1 FETCH ({uid}FLAGS () INTERNALDATE \" 1-Feb-2021 10:00:00 +0000\" RFC822.SIZE 3 \
             BODY[HEADER.FIELDS (MESSAGE-ID DATE)] \"\" BODY[]<0> \"one\")\r\n{{tag}} OK x\r\n"
        );
        let s = open_folder(Script::greeting([]).on("UID FETCH", [send(answer)]), "");
        run(async {
            let mut session = session(s.port()).await;
            session.select(b"INBOX", true, None).await.unwrap();
            let mut kept = Kept::default();
            session.fetch_bodies(&set(1..=2), &mut kept).await.unwrap();
            assert!(kept.messages.is_empty());
            assert_eq!(kept.failed.len(), 2, "{uid}");
            assert!(kept.failed.values().all(|e| e.scope == Scope::Message));
            let e = session.fetch_sizes(&set(1..=2)).await.unwrap_err();
            assert_eq!((e.kind, e.scope), (Kind::Refused, Scope::Folder));
            assert!(session.fetch_meta(&set(1..=2), &mut |_, _| Ok(())).await.is_err());
            assert!(session.fetch_flags(&set(1..=2), None, &mut |_, _| Ok(())).await.is_err());
            assert!(session.dead().is_none());
        });
    }
}

#[test]
fn a_folder_larger_than_any_is_not_gone_through() {
    let rules = Script::greeting([]).on(
        "UID SEARCH",
        [send("* ESEARCH (TAG \"{tag}\") UID ALL 1:4294967295\r\n{tag} OK x\r\n")],
    );
    let s = open_folder(rules, "ESEARCH");
    run(async {
        let mut session = session(s.port()).await;
        session.select(b"INBOX", true, None).await.unwrap();
        assert_eq!(session.uids().await.unwrap_err().scope, Scope::Folder);
    });
}

#[test]
fn scattered_messages_are_asked_for_in_lines_of_any_servers_length() {
    let none_left = [send("* SEARCH\r\n{tag} OK x\r\n")];
    let s = open_folder(Script::greeting([]).on("UID SEARCH", none_left), "MOVE UIDPLUS");
    let scattered = set((0..10_000).map(|i| u32::MAX - 3 * i));
    let pairs = set((0..10_000).flat_map(|i| [u32::MAX - 3 * i, u32::MAX - 3 * i - 1]));
    let long: Vec<String> = (0..20).map(|i| format!("keyword-of-{}-{i}", "x".repeat(40))).collect();
    let long = flags(&long.iter().map(String::as_str).collect::<Vec<_>>());
    run(async {
        let mut session = session(s.port()).await;
        session.select(b"INBOX", true, None).await.unwrap();
        for set in [&scattered, &pairs] {
            session.fetch_bodies(set, &mut Kept::default()).await.unwrap();
            session.fetch_meta(set, &mut |_, _| Ok(())).await.unwrap();
            session.fetch_flags(set, None, &mut |_, _| Ok(())).await.unwrap();
            let change = FlagChange { set: set.clone(), add: long.clone(), remove: long.clone() };
            session.store(&[change]).await.unwrap();
            session.move_messages(set, "y".repeat(250).as_bytes()).await.unwrap();
            session.expunge(set).await.unwrap();
        }
    });
    let lines = s.lines();
    assert!(lines.iter().all(|l| l.len() < 8000), "{:?}", lines.iter().map(String::len).max());
    for verb in ["BODY.PEEK[]", "HEADER.FIELDS", "(UID FLAGS)", "STORE", "MOVE", "EXPUNGE"] {
        let asked = lines.iter().filter(|l| l.contains(verb)).count();
        assert!((50..250).contains(&asked), "{verb}: {asked} commands");
    }
}

#[test]
fn no_answer_to_search_is_not_an_empty_folder() {
    for capabilities in ["", "ESEARCH"] {
        let s = open_folder(Script::greeting([]), capabilities);
        run(async {
            let mut session = session(s.port()).await;
            session.select(b"INBOX", true, None).await.unwrap();
            assert_eq!(session.uids().await.unwrap_err().kind, Kind::Refused);
        });
    }
}

fn body(uid: u32, text: &str) -> String {
    format!(
        "* 1 FETCH (UID {uid} FLAGS () INTERNALDATE \" 1-Feb-2021 10:00:00 +0000\" \
         RFC822.SIZE {} BODY[]<0> {{{}}}\r\n{text})\r\n",
        text.len(),
        text.len()
    )
}

#[test]
fn one_bad_message_does_not_keep_the_others() {
    let answer = [
        body(1, "one"),
        "* 2 FETCH (UID 2 FLAGS () INTERNALDATE \"x\" RFC822.SIZE 3 BODY[]<0> \"two\")\r\n".into(),
        "* 3 FETCH (UID 3 FLAGS () INTERNALDATE \" 1-Feb-2021 10:00:00 +0000\" RFC822.SIZE 3 \
         BODY[]<0> NIL)\r\n"
            .into(),
        body(4, "four"),
        body(4, "FOUR"),
        body(77, "not asked for"),
        "* 5 FETCH (FLAGS () BODY[]<0> \"who?\")\r\n".into(),
        body(5, ""),
        "{tag} OK x\r\n".into(),
    ]
    .concat();
    let s = open_folder(Script::greeting([]).on("UID FETCH", [send(answer)]), "");
    run(async {
        let mut session = session(s.port()).await;
        session.select(b"INBOX", true, None).await.unwrap();
        let mut kept = Kept::default();
        session.fetch_bodies(&set(1..=6), &mut kept).await.unwrap();
        let got: Vec<(u32, &[u8])> =
            kept.messages.iter().map(|(u, (_, t))| (u.get(), t.as_slice())).collect();
        assert_eq!(got, [(1, &b"one"[..]), (4, b"four"), (5, b"")]);
        let failed: Vec<u32> = kept.failed.keys().map(|u| u.get()).collect();
        // of 6 nobody can say that it is gone: the answer about nobody may have been its own
        assert_eq!(failed, [2, 3, 6]);
        assert!(kept.failed.values().all(|e| e.scope == Scope::Message));
    });
}

#[test]
fn more_is_asked_for_before_a_server_that_answers_in_turn_ends_any_command() {
    let part = |uids: std::ops::RangeInclusive<u32>| uids.map(|u| body(u, "x")).collect::<String>();
    let ends = "M3 OK x\r\nM4 OK x\r\nM5 OK x\r\n{tag} OK x\r\n";
    let rules = Script::greeting([])
        .on("FETCH 1:500 ", [send(part(1..=500))])
        .on("FETCH 501:1000 ", [send(part(501..=1000))])
        .on("FETCH 1001:1500 ", [send(part(1001..=1500))])
        .on("FETCH 1501:2000 ", [send(part(1501..=2000) + ends)]);
    let s = open_folder(rules, "");
    run(async {
        let mut session = session(s.port()).await;
        session.select(b"INBOX", true, None).await.unwrap();
        let mut kept = Kept::default();
        session.fetch_bodies(&set(1..=2000), &mut kept).await.unwrap();
        assert_eq!((kept.messages.len(), kept.failed.len()), (2000, 0));
    });
}

#[test]
fn a_refused_fetch_is_narrowed_down_to_the_message() {
    // whatever set has 3 in it is refused
    let rules = Script::greeting([])
        .on("FETCH 1:4 ", [send("{tag} NO x\r\n")])
        .on("FETCH 1:2 ", [send(format!("{}{}{{tag}} OK x\r\n", body(1, "a"), body(2, "b")))])
        .on("FETCH 3:4 ", [send("{tag} NO x\r\n")])
        .on("FETCH 3 ", [send("{tag} NO [SERVERBUG] this one\r\n")])
        .on("FETCH 4 ", [send(format!("{}{{tag}} OK x\r\n", body(4, "d")))]);
    let s = open_folder(rules, "");
    run(async {
        let mut session = session(s.port()).await;
        session.select(b"INBOX", true, None).await.unwrap();
        let mut kept = Kept::default();
        session.fetch_bodies(&set(1..=4), &mut kept).await.unwrap();
        assert_eq!(kept.messages.len(), 3);
        assert!(kept.failed[&uid(3)].what.contains("this one"));
    });
}

#[test]
fn a_piece_shorter_than_the_size_is_looked_at_again() {
    let short = "* 1 FETCH (UID 1 FLAGS () INTERNALDATE \" 1-Feb-2021 10:00:00 +0000\" \
                 RFC822.SIZE 10 BODY[]<0> \"abc\")\r\n{tag} OK x\r\n";
    for (whole, want) in [("abc", Some("abc")), ("abcdefghij", Some("abcdefghij")), ("ab", None)] {
        let rules = Script::greeting([]).on("BODY.PEEK[]<0", [send(short)]).on(
            "BODY.PEEK[])",
            [send(format!("* 1 FETCH (UID 1 BODY[] \"{whole}\")\r\n{{tag}} OK x\r\n"))],
        );
        let s = open_folder(rules, "");
        let kept = fetched(s.port());
        let got = kept.messages.get(&uid(1)).map(|m| m.1.as_slice());
        assert_eq!(got, want.map(str::as_bytes));
        assert_eq!(kept.failed.len(), usize::from(want.is_none()));
    }
}

#[test]
fn pieces_that_do_not_fit_together_are_no_message() {
    const PIECE: usize = 8 * 1024 * 1024;
    let full = "x".repeat(PIECE);
    let first = |size: usize| {
        format!(
            "* 1 FETCH (UID 1 FLAGS () INTERNALDATE \" 1-Feb-2021 10:00:00 +0000\" RFC822.SIZE \
             {size} BODY[]<0> {{{PIECE}}}\r\n{full})\r\n{{tag}} OK x\r\n"
        )
    };
    let second = |size: usize, origin: usize, text: &str| {
        format!(
            "* 1 FETCH (UID 1 RFC822.SIZE {size} BODY[]<{origin}> {{{}}}\r\n{text})\r\n\
             {{tag}} OK x\r\n",
            text.len()
        )
    };
    let nothing = format!("* 1 FETCH (UID 1 BODY[]<{PIECE}> \"\")\r\n{{tag}} OK x\r\n");
    for (case, answer, good) in [
        ("fits", second(PIECE + 3, PIECE, "abc"), true),
        ("another size", second(PIECE + 4, PIECE, "abc"), false),
        ("another place", second(PIECE + 3, PIECE + 1, "abc"), false),
        ("too short, and more follows", second(PIECE + 3, PIECE, "ab"), false),
        ("gone meanwhile", "{tag} OK x\r\n".to_owned(), false),
        ("refused", "{tag} NO x\r\n".to_owned(), false),
    ] {
        let rules = Script::greeting([])
            .on("INTERNALDATE", [send(first(PIECE + 3))])
            .on("(UID RFC822.SIZE BODY.PEEK[]<0.", [send(second(PIECE + 3, 0, &full))])
            .on("(UID RFC822.SIZE BODY.PEEK[]<8388608.", [send(&answer)])
            .on("(UID BODY.PEEK[]<8388610.", [send(second(PIECE + 3, PIECE + 2, "c"))])
            .on("(UID BODY.PEEK[]<", [send(&nothing)]);
        let s = open_folder(rules, "");
        run(async {
            let mut session = session(s.port()).await;
            session.select(b"INBOX", true, None).await.unwrap();
            let mut kept = Kept::default();
            session.fetch_bodies(&set([1]), &mut kept).await.unwrap();
            assert_eq!(kept.messages.len(), usize::from(good), "{case}");
            assert_eq!(kept.failed.len(), usize::from(!good), "{case}");
            if good {
                assert_eq!(kept.messages[&uid(1)].1.len(), PIECE + 3);
            }
        });
    }
}

#[test]
fn malformed_copyuid_is_unknown() {
    for (answer, known) in [
        ("* OK [COPYUID 5 1:2 7:8] x\r\n* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n{tag} OK x\r\n", true),
        ("* OK [COPYUID 5 1 7] x\r\n{tag} OK x\r\n", true),
        ("* OK [COPYUID 14  ] x\r\n{tag} OK x\r\n", false),
        ("[COPYUID 52 1:2 7:8]\r\n{tag} OK x\r\n", false),
        ("* OK [COPYUID 5 1:3 7:9] x\r\n{tag} OK x\r\n", false),
        ("* OK [COPYUID 5 1:2 7:*] x\r\n{tag} OK x\r\n", false),
        ("* OK [COPYUID 5 1:2 7,7] x\r\n{tag} OK x\r\n", false),
        ("{tag} OK x\r\n", false),
    ] {
        let s = open_folder(Script::greeting([]).on("UID MOVE", [send(answer)]), "MOVE UIDPLUS");
        run(async {
            let mut session = session(s.port()).await;
            session.select(b"INBOX", true, None).await.unwrap();
            let (to, _) = session.move_messages(&set(1..=2), b"x").await.unwrap();
            assert_eq!(matches!(to, CopyUid::Known { .. }), known, "{answer}: {to:?}");
            assert!(session.dead().is_none());
        });
    }
}

#[test]
fn a_delta_that_cannot_be_read_is_none() {
    for (said, whole) in [
        ("* VANISHED (EARLIER) 3,9:12\r\n* 1 FETCH (UID 1 FLAGS () MODSEQ (6))\r\n", true),
        ("* VANISHED (EARLIER) 1:*\r\n", false),
        ("* 1 FETCH (FLAGS ())\r\n", false),
        ("* 1 FETCH (UID 1 MODSEQ (6))\r\n", false),
        ("* OK [NOMODSEQ] x\r\n", false),
        ("* OK [UIDVALIDITY 8] x\r\n", false),
    ] {
        let rules =
            Script::greeting([]).on("ENABLE", [send("* ENABLED QRESYNC\r\n{tag} OK x\r\n")]).on(
                "(QRESYNC (9 5 1:4294967295))",
                [send(format!(
                    "* 99 EXISTS\r\n* VANISHED (EARLIER) 8\r\n* OK [CLOSED] x\r\n* 3 EXISTS\r\n\
                     * OK [UIDVALIDITY 9] x\r\n* OK [HIGHESTMODSEQ 6] x\r\n{said}{{tag}} OK x\r\n"
                ))],
            );
        let s = open_folder(rules, "ENABLE QRESYNC");
        run(async {
            let mut session = session(s.port()).await;
            let got = session.select(b"INBOX", true, Some(known())).await.unwrap();
            assert_eq!(got.exists, 3);
            assert_eq!(got.delta.is_some(), whole, "{said}");
            if let Some(d) = got.delta {
                assert_eq!(d.vanished, set([3, 9]), "of the folder before, or never seen here");
                assert_eq!(d.changed.len(), 1);
            }
        });
    }
}

fn known() -> mailkeep::imap::Known {
    mailkeep::imap::Known {
        uidvalidity: mailkeep::model::UidValidity::new(9).unwrap(),
        modseq: mailkeep::model::ModSeq::new(5).unwrap(),
        uidnext: uid(10),
    }
}

#[test]
fn qresync_that_was_not_enabled_is_not_used() {
    let rules = Script::greeting([]).on("(QRESYNC", [send("{tag} BAD not enabled\r\n")]);
    let s = open_folder(rules, "ENABLE QRESYNC");
    run(async {
        let mut session = session(s.port()).await;
        let got = session.select(b"INBOX", true, Some(known())).await.unwrap();
        assert_eq!(got.delta, None);
    });
}

const OPENED: &str = "* 3 EXISTS\r\n* OK [UIDVALIDITY 9] x\r\n* OK [UIDNEXT 10] x\r\n\
                      * OK [HIGHESTMODSEQ 6] x\r\n* VANISHED (EARLIER) 4\r\n\
                      * 1 FETCH (UID 1 FLAGS () MODSEQ (6))\r\n";

#[test]
fn a_folder_is_opened_in_the_round_trip_of_the_listing() {
    let list = "* LIST () \"/\" INBOX\r\n* LIST () \"/\" b\r\n";
    let status = "* STATUS INBOX (MESSAGES 3 UIDNEXT 10 UIDVALIDITY 9)\r\n\
                  * STATUS b (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 1)\r\n";
    // nothing is said before LIST has come; then in order, and as one that works side by side
    for answers in [
        format!("* ENABLED QRESYNC\r\nM2 OK x\r\n{OPENED}M3 OK x\r\n{list}{status}M4 OK x\r\n"),
        format!("* ENABLED QRESYNC\r\nM2 OK x\r\n{list}{OPENED}{status}M4 OK x\r\nM3 OK x\r\n"),
    ] {
        let script = server("ENABLE QRESYNC LIST-EXTENDED LIST-STATUS")
            .on(" LIST ", [send(answers + "* 4 EXISTS\r\n")])
            .on("NOOP", [send("{tag} OK x\r\n")]);
        let s = Scripted::start(script);
        run(async {
            let mut session = session(s.port()).await;
            let known = Beside::Changes(Some(known()));
            let (opened, listing) = session.select_and_list(b"INBOX", true, known).await.unwrap();
            let opened = opened.unwrap().selected;
            assert_eq!((opened.exists, opened.status().uidnext), (3, Some(uid(10))));
            let delta = opened.delta.unwrap();
            assert_eq!((delta.vanished, delta.changed.len()), (set([4]), 1));
            let names: Vec<String> = listing.folders.iter().map(|f| f.name.to_string()).collect();
            assert_eq!(names, ["INBOX", "b"]);
            assert!(listing.folders.iter().all(|f| f.status.is_some()));
            session.noop().await.unwrap();
            assert_eq!(session.exists(), 4, "it stays open");
            assert!(session.noticed().arrived);
        });
    }
}

#[test]
fn a_folder_that_does_not_open_beside_the_listing_is_no_error_of_the_listing() {
    let enabled = "* ENABLED QRESYNC\r\n{tag} OK x\r\n";
    let not_enabled = "* ENABLED\r\n{tag} OK x\r\n";
    let opened = format!("{OPENED}{{tag}} OK x\r\n");
    for (enable, select, opens, tells) in [
        (enabled, opened.as_str(), true, true),
        (enabled, "{tag} NO [UNAVAILABLE] later\r\n", false, false),
        ("{tag} BAD what\r\n", "{tag} BAD what\r\n", false, false),
        // who did not say that it is on is not believed
        (not_enabled, opened.as_str(), true, false),
    ] {
        let rules = Script::greeting([])
            .on("ENABLE", [send(enable)])
            .on("SELECT \"INBOX\" (QRESYNC (9 5", [send(select)])
            .on("STATUS", [send("* STATUS INBOX (MESSAGES 3)\r\n{tag} OK x\r\n")])
            .on(" LIST ", [send("* LIST () \"/\" INBOX\r\n{tag} OK x\r\n")]);
        let s = open_folder(rules, "ENABLE QRESYNC");
        run(async {
            let mut session = session(s.port()).await;
            let known = Beside::Changes(Some(known()));
            let (opened, listing) = session.select_and_list(b"INBOX", true, known).await.unwrap();
            assert_eq!(listing.folders.len(), 1);
            assert_eq!(opened.is_ok(), opens, "{enable} {select}");
            let told = opened.is_ok_and(|o| o.selected.delta.is_some());
            assert_eq!(told, tells, "{enable} {select}");
        });
    }
}

#[test]
fn the_uids_of_a_new_folder_come_in_the_round_trip_of_the_listing() {
    let select = "* 3 EXISTS\r\n* OK [UIDVALIDITY 9] x\r\n* OK [UIDNEXT 10] x\r\nM2 OK x\r\n";
    let list = "* LIST () \"/\" INBOX\r\nM4 OK x\r\n";
    let found = Some(set([1, 4, 7]));
    for (answers, opens, uids) in [
        (format!("{select}* SEARCH 1 4 7\r\nM3 OK x\r\n{list}"), true, found),
        (format!("{select}M3 OK x\r\n{list}"), true, None),
        (format!("{select}* SEARCH 1 4 7\r\nM3 NO [LIMIT] x\r\n{list}"), true, None),
        (format!("M2 NO no INBOX\r\nM3 BAD what\r\n{list}"), false, None),
    ] {
        // nothing is said before LIST has come
        let script = server("").on(" LIST ", [send(answers)]).on(
            "STATUS",
            [send("* STATUS INBOX (MESSAGES 3 UIDNEXT 10 UIDVALIDITY 9)\r\n{tag} OK x\r\n")],
        );
        let s = Scripted::start(script);
        run(async {
            let mut session = session(s.port()).await;
            let (opened, listing) =
                session.select_and_list(b"INBOX", true, Beside::Uids).await.unwrap();
            assert_eq!(listing.folders.len(), 1);
            assert_eq!(opened.as_ref().is_ok_and(|o| o.selected.exists == 3), opens);
            assert_eq!(opened.ok().and_then(|o| o.uids), uids);
        });
    }
}

fn uploads(n: usize) -> Given {
    Given::new(
        (0..n)
            .map(|i| (format!("Subject: {i}\r\n\r\ntext\r\n").into_bytes(), flags(&[]), 0))
            .collect(),
    )
}

#[test]
fn a_refused_multiappend_is_sent_one_by_one() {
    // the literals' lines match nothing else; a second literal on a line means a batch
    let rules = Script::greeting([]).on("APPEND", []).on("SUBJECT", []).on("TEXT", []);
    let capabilities = "UIDPLUS MULTIAPPEND LITERAL+";
    // M2 is the batch; then M3, M4, M5
    let rules = Script::greeting([])
        .on("M2 APPEND", [send("M2 NO [LIMIT] one is too large\r\n")])
        .on("M3 APPEND", [send("M3 OK [APPENDUID 5 11] x\r\n")])
        .on("M4 APPEND", [send("M4 NO [TOOBIG] this one\r\n")])
        .on("M5 APPEND", [send("M5 OK [APPENDUID 5 oops] x\r\n")])
        .before(rules);
    let s = open_folder(rules, capabilities);
    run(async {
        let mut session = session(s.port()).await;
        let got = session.append(b"x", &mut uploads(3)).await;
        assert_eq!(got[0].as_ref().unwrap().unwrap().1.get(), 11);
        assert_eq!(got[1].as_ref().unwrap_err().refusal, Some(Refusal::TooBig));
        assert_eq!(*got[2].as_ref().unwrap(), None);
    });
    let sent: Vec<String> = s.lines().iter().filter(|l| l.contains("APPEND")).cloned().collect();
    assert_eq!(sent.len(), 4, "{sent:?}");
}

#[test]
fn a_literal_that_is_refused_is_not_sent_nor_one_as_large() {
    let rules = Script::greeting([])
        .on("M2 APPEND", [send("M2 NO [OVERQUOTA] full\r\n")])
        .on("M3 APPEND", [send("+ go on\r\n")])
        .on("TEXT", [send("M3 OK x\r\n")])
        .on("SUBJECT", []);
    let s = open_folder(rules, "");
    run(async {
        let mut session = session(s.port()).await;
        // two of a size, and one that is smaller and may fit
        let mut all = uploads(12);
        all.announced.reverse();
        all.texts.reverse();
        all.announced.truncate(3);
        let got = session.append(b"x", &mut all).await;
        for no in &got[..2] {
            assert_eq!(no.as_ref().unwrap_err().refusal, Some(Refusal::OverQuota));
        }
        assert_eq!(*got[2].as_ref().unwrap(), None);
    });
    assert!(!s.lines().iter().any(|l| l.contains("Subject: 1")), "{:?}", s.lines());
}

#[test]
fn what_the_server_cannot_take_is_not_sent() {
    let s = open_folder(Script::greeting([]), "APPENDLIMIT=10 LITERAL+");
    run(async {
        let mut session = session(s.port()).await;
        let got = session.append(b"x", &mut uploads(1)).await;
        assert_eq!(got[0].as_ref().unwrap_err().refusal, Some(Refusal::TooBig));
        let mut wrong = uploads(1);
        wrong.announced[0].size = 9;
        let got = session.append(b"x", &mut wrong).await;
        assert_eq!(got[0].as_ref().unwrap_err().kind, Kind::Raced);
        assert!(session.append(b"x\r\ny", &mut uploads(1)).await[0].is_err());
        assert!(session.dead().is_none());
    });
    assert!(!s.lines().iter().any(|l| l.contains("APPEND")), "{:?}", s.lines());
}

#[test]
fn after_a_broken_connection_every_message_has_an_answer() {
    let rules = Script::greeting([])
        .on("M2 APPEND", [send("M2 OK [APPENDUID 5 11] x\r\n")])
        .on("M3 APPEND", [Step::Close])
        .on("SUBJECT", [])
        .on("TEXT", []);
    let s = open_folder(rules, "LITERAL+ UIDPLUS");
    run(async {
        let mut session = session(s.port()).await;
        let got = session.append(b"x", &mut uploads(5)).await;
        assert!(got[1..].iter().all(|r| matches!(r, Err(e) if e.kind == Kind::Connection)));
        assert!(session.dead().is_some());
    });
}

#[test]
fn a_flood_is_an_error_and_no_memory() {
    for flood in [
        "* LIST () \"/\" a\r\n".repeat(1000),
        "* STATUS a (MESSAGES 1)\r\n".repeat(1000),
        "* SEARCH 1\r\n".repeat(1000),
        "* 1 FETCH (UID 1 FLAGS ())\r\n".repeat(1000),
        "* OK still here\r\n".repeat(1000),
        format!("* LIST () \"/\" \"{}\"\r\n", "x".repeat(100_000)),
        "x".repeat(100_000),
    ] {
        let rules = Script::greeting([])
            .on("LIST", [Step::Flood(flood.into_bytes(), 20_000_000), Step::Close]);
        let s = open_folder(rules, "");
        run(async {
            let mut session = session_patient(s.port(), 2).await;
            assert!(session.list().await.is_err());
            assert!(session.dead().is_some());
        });
    }
}
