//! Peers that refuse what they offer, or leave out what they have: what is done instead.

use mailkeep::{Kind, Scope};

use crate::common::scripted::{Script, send};
use crate::tools::*;

#[test]
fn a_message_that_has_a_size_and_no_text_failed() {
    let about = "* 1 FETCH (UID 1 FLAGS () INTERNALDATE \" 1-Feb-2021 10:00:00 +0000\"";
    for origin in ["", "<0>"] {
        for (greeting, size, whole, want) in [
            ("ready", 10, "", None),
            ("ready", 10, "abcdefghij", Some("abcdefghij")),
            ("ready", 0, "", Some("")),
            ("The Microsoft Exchange IMAP4 service is ready.", 10, "", Some("")),
        ] {
            let first =
                format!("{about} RFC822.SIZE {size} BODY[]{origin} \"\")\r\n{{tag}} OK x\r\n");
            let rules = Script::greeting([]).on("BODY.PEEK[]<0", [send(first)]).on(
                "BODY.PEEK[])",
                [send(format!("* 1 FETCH (UID 1 BODY[] \"{whole}\")\r\n{{tag}} OK x\r\n"))],
            );
            let s = open_folder_of(greeting, rules, "");
            let kept = fetched(s.port());
            let got = kept.messages.get(&uid(1)).map(|m| m.1.as_slice());
            assert_eq!(got, want.map(str::as_bytes), "{greeting} {origin} {size} {whole}");
            assert_eq!(kept.failed.len(), usize::from(want.is_none()));
            assert!(kept.failed.values().all(|e| e.scope == Scope::Message));
        }
    }
}

/// go-imap's memory store offers MOVE and refuses it.
#[test]
fn after_move_was_refused_it_is_done_by_copy() {
    for (refusal, again) in [
        ("NO MOVE is not supported", "UID COPY"),
        ("BAD unknown command", "UID COPY"),
        ("NO [CANNOT] not here", "UID COPY"),
        ("NO [OVERQUOTA] full", "UID MOVE"),
        ("NO [NOPERM] not yours", "UID MOVE"),
        ("NO [TRYCREATE] no such folder", "UID MOVE"),
        ("NO [INUSE] later", "UID MOVE"),
    ] {
        let rules = Script::greeting([])
            .on("UID MOVE", [send(format!("{{tag}} {refusal}\r\n"))])
            .on("UID COPY", [send("{tag} OK [COPYUID 7 1:2 5:6] x\r\n")])
            .on("UID EXPUNGE", [send("* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n{tag} OK x\r\n")]);
        let s = open_folder(rules, "MOVE UIDPLUS");
        run(async {
            let mut session = session(s.port()).await;
            session.select(b"INBOX", true, None).await.unwrap();
            // some may have gone: the caller looks before it asks again
            let e = session.move_messages(&set(1..=2), b"x").await.unwrap_err();
            assert_eq!(e.kind, Kind::Refused);
            assert!(s.lines().iter().all(|l| !l.contains("UID COPY")), "{refusal}");
            let second = session.move_messages(&set(1..=2), b"x").await;
            assert_eq!(second.is_ok(), again == "UID COPY", "{refusal}");
            assert_eq!(session.moves(), again == "UID MOVE", "{refusal}");
        });
        let asked = s.lines().iter().filter(|l| l.contains(again)).count();
        assert_eq!(asked, if again == "UID COPY" { 1 } else { 2 }, "{refusal}");
    }
}

/// pymap refuses CLOSE after EXAMINE.
#[test]
fn an_empty_folder_goes_though_it_cannot_be_left() {
    for close in ["NO mailbox is read-only", "BAD what?", "OK closed"] {
        let rules = Script::greeting([])
            .on("EXAMINE", [send("* 0 EXISTS\r\n* OK [UIDVALIDITY 9] x\r\n{tag} OK x\r\n")])
            .on("CLOSE", [send(format!("{{tag}} {close}\r\n"))]);
        let s = open_folder(rules, "");
        run(async {
            let mut session = session(s.port()).await;
            assert!(session.delete_if_empty(b"old").await.unwrap(), "{close}");
        });
        assert!(s.lines().iter().any(|l| l.ends_with("DELETE \"old\"")), "{close}");
    }
}
