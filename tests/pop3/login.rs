//! Logging in to peers that follow a script: what is offered, refused, stripped and injected.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mailkeep::net::{Security, Timeouts};
use mailkeep::sasl::{LoginSpec, Method};
use mailkeep::{Kind, Refusal};

use crate::common::scripted::{Script, Scripted, Step, send};
use crate::common::server::{PASSWORD, USER};
use crate::tools::*;

fn verbs(s: &Scripted) -> Vec<String> {
    s.lines().iter().map(|l| l.split(' ').next().unwrap_or_default().to_owned()).collect()
}

fn offering(capabilities: &str) -> Script {
    server(&[capabilities])
}

#[test]
fn a_server_that_knows_no_capa() {
    let script = Script::greeting([]).on("CAPA", [send("-ERR unknown command\r\n")]);
    let script = script.before(server(&[])).on("STAT", [send("+OK 0 0\r\n")]);
    let s = Scripted::start(script);
    run(async {
        let mut session = session(s.port()).await;
        assert!(!session.caps().known && !session.caps().pipelining);
        assert_eq!(session.stat().await.unwrap().messages, 0);
    });
    assert_eq!(verbs(&s), ["CAPA", "USER", "PASS", "STAT"]);
    assert_eq!(s.lines()[1..3], [format!("USER {USER}"), format!("PASS {PASSWORD}")]);
}

#[test]
fn capabilities_count_as_they_are_after_the_login() {
    for (before, capa, stat) in [
        // The second CAPA goes with the first command: nothing is said before that has come, and
        // who waits for an answer to CAPA waits for ever.
        ("PIPELINING\r\nUSER", "", "+OK\r\nPIPELINING\r\nUIDL\r\n.\r\n+OK 1 2\r\n"),
        ("USER", "+OK\r\nPIPELINING\r\nUIDL\r\n.\r\n", "+OK 1 2\r\n"),
        // a server that does not like to be asked again
        ("UIDL\r\nPIPELINING\r\nUSER", "-ERR no\r\n", "+OK 1 2\r\n"),
    ] {
        let script = Script::greeting([])
            .once("CAPA", [send(format!("+OK\r\n{before}\r\n.\r\n"))])
            .on("CAPA", [send(capa)])
            .on("STAT", [send(stat)]);
        let s = Scripted::start(script.before(server(&[])));
        run(async {
            let mut session = session(s.port()).await;
            assert_eq!(session.stat().await.unwrap().messages, 1);
            assert!(session.caps().uidl && session.caps().pipelining);
        });
        assert_eq!(verbs(&s), ["CAPA", "USER", "PASS", "CAPA", "STAT"]);
    }
}

#[test]
fn the_strongest_that_is_offered() {
    for (capabilities, auth, first) in [
        ("SASL LOGIN PLAIN\r\nUSER", Method::Auto, "AUTH PLAIN"),
        ("SASL LOGIN\r\nUSER", Method::Auto, "USER"),
        ("SASL LOGIN", Method::Auto, "AUTH LOGIN"),
        ("SASL PLAIN SCRAM-SHA-256\r\nUSER", Method::Auto, "AUTH SCRAM-SHA-256"),
        ("UIDL", Method::Auto, "USER"),
        ("SASL PLAIN\r\nUSER", Method::Login, "USER"),
    ] {
        let script = Script::greeting([]).on("AUTH", [send("-ERR [AUTH] no\r\n")]);
        let script = script.on("USER", [send("-ERR [AUTH] no\r\n")]);
        let s = Scripted::start(script.before(offering(capabilities)));
        let login = LoginSpec { auth, ..credentials() };
        let e = run(refused(&endpoint(s.port()), &login));
        assert_eq!(e.kind, Kind::Credentials, "{capabilities}");
        assert!(s.lines()[1].starts_with(first), "{capabilities}: {:?}", s.lines());
        assert_eq!(s.lines().len(), 2, "tried once: {:?}", s.lines());
    }
    let s = Scripted::start(offering("SASL GSSAPI"));
    let e = run(refused(&endpoint(s.port()), &credentials()));
    assert_eq!(e.kind, Kind::Credentials);
    assert_eq!(verbs(&s), ["CAPA"]);
}

#[test]
fn plain_at_once_and_to_a_server_that_asks_for_it() {
    let blob = STANDARD.encode(format!("\0{USER}\0{PASSWORD}"));
    let plain = format!("AUTH PLAIN {blob}");
    let s = Scripted::start(
        Script::greeting([]).on("AUTH PLAIN", [send("+OK in\r\n")]).before(offering("SASL PLAIN")),
    );
    run(async { drop(session(s.port()).await) });
    assert_eq!(s.lines()[1], plain);

    // RFC 1734 knew no first message
    let script = Script::greeting([])
        .on("AUTH PLAIN", [send("+ \r\n")])
        .on(&blob, [send("+OK in\r\n")])
        .before(offering("SASL PLAIN"));
    let s = Scripted::start(script);
    run(async { drop(session(s.port()).await) });
    assert_eq!(s.lines()[1..3], [plain, blob]);

    // one that does not fit into a command is sent by itself
    let script = Script::greeting([])
        .on("AUTH PLAIN", [send("+ \r\n")])
        .on("CAPA", [send("+OK\r\nSASL PLAIN\r\n.\r\n")])
        .on("", [send("+OK in\r\n")])
        .before(offering(""));
    let s = Scripted::start(script);
    let long = LoginSpec { secret: "x".repeat(300).as_str().into(), ..credentials() };
    run(async { drop(log_in(&endpoint(s.port()), &long).await.unwrap()) });
    assert_eq!(s.lines()[1], "AUTH PLAIN");
    assert_eq!(s.lines()[2], STANDARD.encode(format!("\0{USER}\0{}", "x".repeat(300))));
}

#[test]
fn xoauth2_in_two_steps() {
    let token = "ya29.t0ken-of-the-user";
    let blob = STANDARD.encode(format!("user={USER}\x01auth=Bearer {token}\x01\x01"));
    let login = LoginSpec { secret: token.into(), token: true, ..credentials() };
    let script = |answer: &str| {
        Script::greeting([])
            .on("AUTH XOAUTH2", [send("+ \r\n")])
            .on(&blob, [send(answer)])
            .before(offering("SASL PLAIN XOAUTH2\r\nUSER"))
    };
    let s = Scripted::start(script("+OK in\r\n"));
    run(async { drop(log_in(&endpoint(s.port()), &login).await.unwrap()) });
    assert_eq!(s.lines()[..3], ["CAPA".to_owned(), "AUTH XOAUTH2".into(), blob.clone()]);

    // the server's account of the error is answered by an empty line, and shown
    let json = STANDARD.encode(r#"{"status":"401","schemes":"Bearer"}"#);
    let refusing = script(&format!("+ {json}\r\n")).on("", [send("-ERR [AUTH] no\r\n")]);
    let s = Scripted::start(refusing);
    let e = run(refused(&endpoint(s.port()), &login));
    assert_eq!(e.kind, Kind::Credentials);
    assert!(e.what.contains("401") && e.next.contains("token_command"), "{e}");
    assert_eq!(s.lines()[1..], ["AUTH XOAUTH2".to_owned(), blob, String::new()]);
}

#[test]
fn a_refusal_says_whether_the_credentials_were_the_reason() {
    for (said, kind, refusal) in [
        ("[AUTH] no", Kind::Credentials, None),
        ("no", Kind::Credentials, None),
        ("", Kind::Credentials, None),
        ("[XYZ] what", Kind::Credentials, None),
        ("[AUTH] temporarily confused", Kind::Credentials, None),
        ("[IN-USE] other session", Kind::Connection, Some(Refusal::InUse)),
        ("[LOGIN-DELAY] 300 s", Kind::Connection, Some(Refusal::Limit)),
        ("[SYS/TEMP] later", Kind::Connection, Some(Refusal::Unavailable)),
        ("[SYS/PERM] broken", Kind::Refused, Some(Refusal::Cannot)),
        ("unable to lock maildrop", Kind::Connection, Some(Refusal::Unsaid)),
        ("Server Unavailable. 21", Kind::Connection, Some(Refusal::Unsaid)),
    ] {
        let script = Script::greeting([]).on("PASS", [send(format!("-ERR {said}\r\n"))]);
        let s = Scripted::start(script.before(offering("USER")));
        let e = run(refused(&endpoint(s.port()), &credentials()));
        assert_eq!((e.kind, e.refusal), (kind, refusal), "{said}: {e}");
        assert!(e.what.contains(said), "{said}: {e}");
    }
    let busy = Script::greeting([send("-ERR [SYS/TEMP] too busy\r\n"), Step::Close]);
    let s = Scripted::start(busy);
    let e = run(refused(&endpoint(s.port()), &credentials()));
    assert_eq!((e.kind, e.refusal), (Kind::Connection, Some(Refusal::Unavailable)));
}

#[test]
fn a_secret_that_is_echoed_is_not_shown() {
    let blob = STANDARD.encode(format!("\0{USER}\0{PASSWORD}"));
    for (capabilities, sent) in [("USER", PASSWORD), ("SASL PLAIN", blob.as_str())] {
        for echo in [
            format!("-ERR bad {sent}\r\n"),
            format!("-ERR bad {PASSWORD}\r\n"),
            format!("what is {sent}\r\n"),
            format!("{}{sent}\r\n", "x".repeat(290)),
            format!("-ERR {}{sent}\r\n", "x".repeat(295)),
        ] {
            let script = Script::greeting([])
                .on("AUTH", [send(&echo)])
                .on("PASS", [send(&echo)])
                .before(offering(capabilities));
            let s = Scripted::start(script);
            let e = run(refused(&endpoint(s.port()), &credentials())).to_string();
            assert!(!e.contains(&blob[..9]) && !e.contains(&PASSWORD[..5]), "{e}");
        }
    }
}

#[test]
fn no_password_in_the_clear() {
    let s = Scripted::start(offering("USER"));
    let login = LoginSpec { plaintext_ok: false, ..credentials() };
    let e = run(refused(&endpoint(s.port()), &login));
    assert_eq!(e.kind, Kind::Tls);
    assert_eq!(verbs(&s), ["CAPA"]);
}

#[test]
fn stls_that_is_missing_refused_or_tampered_with() {
    let starttls =
        |port| mailkeep::net::Endpoint { security: Security::StartTls, ..endpoint(port) };
    let injected = "+OK begin\r\n+OK injected\r\n";
    for (capabilities, answer, says) in [
        ("USER", "+OK\r\n", "STLS"),
        ("USER\r\nSTLS", "-ERR not today\r\n", "not today"),
        ("USER\r\nSTLS", injected, "in the clear"),
    ] {
        let script = Script::greeting([]).on("STLS", [send(answer)]).before(offering(capabilities));
        let s = Scripted::start(script);
        let e = run(refused(&starttls(s.port()), &credentials()));
        assert_eq!(e.kind, Kind::Tls, "{e}");
        assert!(e.what.contains(says), "{says}: {e}");
        let told = verbs(&s).iter().any(|v| v == "USER" || v == "PASS" || v == "AUTH");
        assert!(!told, "{:?}", s.lines());
    }
    // A server that knows no CAPA may know STLS; it is asked, and nothing else.
    let script = Script::greeting([send("+OK\r\n")]).on("", [send("-ERR what\r\n")]);
    let s = Scripted::start(script);
    let e = run(refused(&starttls(s.port()), &credentials()));
    assert_eq!(e.kind, Kind::Tls);
    assert_eq!(verbs(&s), ["CAPA", "STLS"]);
}

#[test]
fn what_is_no_pop3() {
    for greeting in ["* OK IMAP4rev1 ready\r\n", "220 mail ESMTP\r\n", "\0\0\r\n", "SSH-2.0-x\r\n"]
    {
        let s = Scripted::start(Script::greeting([send(greeting)]));
        let e = run(refused(&endpoint(s.port()), &credentials()));
        assert_eq!(e.kind, Kind::Protocol, "{greeting}");
        assert!(e.what.contains("does not speak POP3"), "{e}");
        assert!(s.lines().is_empty(), "{:?}", s.lines());
    }
    let s = Scripted::start(Script::greeting([Step::Flood(vec![b'A'; 1 << 16], 1 << 30)]));
    let e = run(refused(&endpoint(s.port()), &credentials()));
    assert_eq!(e.kind, Kind::Protocol);
    let s = Scripted::start(Script::greeting([Step::Hang]));
    let login = credentials();
    let e = run(async {
        let soon = Timeouts { greeting: Duration::from_millis(300), ..Timeouts::default() };
        mailkeep::pop3::Session::connect(&endpoint(s.port()), &login, &soon).await.err().unwrap()
    });
    assert_eq!(e.kind, Kind::Connection);
    assert!(e.what.contains("did not greet"), "{e}");
}
