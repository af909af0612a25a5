//! Peers that refuse what they offer, or leave out what they have: what is done instead.

use mailkeep::Kind;

use crate::common::scripted::{Script, send};
use crate::tools::*;

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
