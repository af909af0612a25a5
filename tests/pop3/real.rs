//! Dovecot: all that it can, at all distances.

use std::time::{Duration, Instant};

use mailkeep::net::Security;
use mailkeep::pop3::{Quit, Session, Uidls, Wanted};
use mailkeep::sasl::Method;
use mailkeep::{Kind, Scope};

use crate::common::dovecot::with_tls;
use crate::common::letters::{odd, simple, to_lf};
use crate::common::proxy::Faults;
use crate::common::server::{PASSWORD, Server};
use crate::common::{Dovecot, Letter, Mint, Options, Proxy};
use crate::tools::*;

fn dovecot() -> Dovecot {
    Dovecot::with(Options { pop3: true, ..Options::default() })
}

/// With CRLF at every line's end, and one at the end: what POP3 can say of a stored text.
fn on_the_wire(body: &[u8]) -> Vec<u8> {
    let mut text = to_lf(body);
    if !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.split_inclusive(|b| *b == b'\n')
        .flat_map(|line| [line.strip_suffix(b"\n").unwrap_or(line), b"\r\n"].concat())
        .collect()
}

#[test]
fn everything_a_session_does() {
    let server = dovecot();
    let mut letters = Mint::new(3).letters(0..30);
    letters.extend(odd().into_iter().map(|(_, body)| Letter::new(body, &[], 1_600_000_000)));
    server.seed("INBOX", &letters);
    let count = letters.len() as u32;
    run(async {
        let mut s = session(server.pop3_port()).await;
        let mailbox = s.mailbox().await.unwrap();
        assert!(s.caps().known && s.caps().pipelining && s.caps().uidl && s.caps().top);
        assert!(s.greeting().contains("Dovecot"), "{}", s.greeting());
        assert_eq!(mailbox.stat.messages, count);
        let Uidls::Known(uidls) = &mailbox.uidls else { panic!("{:?}", mailbox.uidls) };
        assert_eq!(uidls.len(), letters.len());
        assert!(uidls.iter().all(|(_, u)| u.is_some()));
        assert_eq!(mailbox.sizes.iter().map(|s| s.1).sum::<u64>(), mailbox.stat.bytes);
        // one by one, they say the same
        assert_eq!(s.stat().await.unwrap(), mailbox.stat);
        assert_eq!(s.uidl().await.unwrap(), mailbox.uidls);
        assert_eq!(s.list().await.unwrap(), mailbox.sizes);

        let mut kept = Kept::default();
        s.retr(&all(&mailbox.sizes), &mut kept).await.unwrap();
        assert!(kept.failed.is_empty(), "{:?}", kept.failed);
        let mut want: Vec<Vec<u8>> = letters.iter().map(|l| on_the_wire(&l.body)).collect();
        let mut got: Vec<Vec<u8>> = kept.messages.iter().map(|m| m.1.clone()).collect();
        want.sort();
        got.sort();
        assert!(got == want, "texts differ");

        let mut headers = Vec::new();
        let asked = numbers(1..=count);
        s.top(&asked, &mut |n, header| {
            headers.push((n.get(), header?.to_vec()));
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(headers.len(), letters.len());
        for ((n, header), (m, text)) in headers.iter().zip(&kept.messages) {
            assert_eq!(n, m);
            assert!(text.starts_with(header.trim_ascii_end()), "{n}");
        }

        // one that is not there is an error of that one
        let mut kept = Kept::default();
        let wanted = [999, 1, 998, 2].map(|n| Wanted { number: number(n), size: None });
        s.retr(&wanted, &mut kept).await.unwrap();
        assert_eq!(kept.messages.iter().map(|m| m.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(kept.failed.iter().map(|f| f.0).collect::<Vec<_>>(), [999, 998]);
        let e = &kept.failed[0].1;
        assert_eq!((e.scope, e.kind), (Scope::Message, Kind::Refused));
        let mut missing = None;
        s.top(&[number(999)], &mut |_, h| {
            missing = h.err();
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(missing.unwrap().kind, Kind::Refused);
        s.noop().await.unwrap();
        s.leave().await;
    });
}

#[test]
fn deletions_take_quit() {
    let server = dovecot();
    server.seed("INBOX", &Mint::new(4).letters(0..10));
    let port = server.pop3_port();
    run(async {
        // neither by hanging up nor by taking the marks back
        let mut s = session(port).await;
        s.dele(&numbers(1..=3)).await.unwrap();
        s.close().await;
        let mut s = session(port).await;
        assert_eq!(s.stat().await.unwrap().messages, 10);
        s.dele(&numbers(1..=2)).await.unwrap();
        s.rset().await.unwrap();
        assert_eq!(s.stat().await.unwrap().messages, 10);
        let marks = [1, 4, 4, 99].map(number);
        let done = s.dele(&marks).await.unwrap();
        let ok: Vec<bool> = done.iter().map(Result::is_ok).collect();
        assert_eq!(ok, [true, true, false, false]);
        assert_eq!(done[3].as_ref().unwrap_err().scope, Scope::Message);
        assert_eq!(s.quit().await, Quit::Done);
        let mut s = session(port).await;
        assert_eq!(s.stat().await.unwrap().messages, 8);
        s.leave().await;
    });
    assert_eq!(server.imap().count("INBOX"), 8);
}

#[test]
fn an_answer_to_quit_that_never_comes_is_unknown() {
    let server = dovecot();
    server.seed("INBOX", &Mint::new(4).letters(0..3));
    let proxy = Proxy::with(
        server.pop3_port(),
        Faults { cut_on: Some("QUIT".into()), cut_answer: true, ..Faults::default() },
    );
    run(async {
        let mut s = session(proxy.port()).await;
        s.dele(&numbers(1..=3)).await.unwrap();
        let Quit::Unknown(e) = s.quit().await else { panic!("the answer did not come") };
        assert_eq!(e.kind, Kind::Connection);
    });
}

#[test]
fn thousands_of_messages_far_away_take_few_round_trips() {
    let server = dovecot();
    let mut mint = Mint::new(5);
    mint.average = 400;
    server.seed("INBOX", &mint.letters(0..5000));
    let round_trip = Duration::from_millis(100);
    let proxy = Proxy::with(server.pop3_port(), Faults { round_trip, ..Faults::default() });
    run(async {
        let begun = Instant::now();
        let mut s = session(proxy.port()).await;
        let mailbox = s.mailbox().await.unwrap();
        let mut kept = Kept::default();
        s.retr(&all(&mailbox.sizes), &mut kept).await.unwrap();
        assert_eq!(kept.messages.len(), 5000);
        assert!(s.dele(&numbers(1..=5000)).await.unwrap().iter().all(Result::is_ok));
        s.close().await;
        // one by one it would be a thousand seconds
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    });
    // a login and a listing: the greeting, CAPA, AUTH, and all the rest in one
    proxy.reset();
    run(async {
        let begun = Instant::now();
        let mut s = session(proxy.port()).await;
        s.mailbox().await.unwrap();
        let trips = begun.elapsed().as_secs_f64() / round_trip.as_secs_f64();
        s.leave().await;
        assert!(trips < 6.0, "{trips} round trips");
    });
}

#[test]
fn a_large_message_comes_in_small_pieces() {
    let server = dovecot();
    let line = format!("{}\r\n", "0123456789abcdef".repeat(4));
    let big = simple("<big@x>", "big", &line.repeat(400_000));
    server.seed("INBOX", &[Letter::new(big.clone(), &[], 1_600_000_000)]);
    run(async {
        let mut s = session(server.pop3_port()).await;
        let mut kept = Kept::default();
        let sizes = s.list().await.unwrap();
        assert_eq!(sizes[0].1, big.len() as u64);
        s.retr(&all(&sizes), &mut kept).await.unwrap();
        assert!(kept.messages[0].1 == big);
        assert!(kept.largest <= 512 * 1024, "{} bytes at once", kept.largest);
        s.leave().await;
    });
}

#[test]
fn tls_from_the_start_or_by_stls() {
    let options = Options { pop3: true, ..Options::default() };
    let (server, certs, _dir) = with_tls(options, |c| &c.good);
    server.seed("INBOX", &Mint::new(6).letters(0..3));
    run(async {
        for (port, security) in
            [(server.pop3_tls_port(), Security::Implicit), (server.pop3_port(), Security::StartTls)]
        {
            let endpoint = secured(port, security, certs.ca.clone());
            let login = mailkeep::sasl::LoginSpec { plaintext_ok: false, ..credentials() };
            let mut s = log_in(&endpoint, &login).await.unwrap();
            assert!(s.is_tls());
            assert_eq!(s.mailbox().await.unwrap().stat.messages, 3);
            s.leave().await;
            // of an authority that nobody trusts
            let endpoint = secured(port, security, certs.other_ca.clone());
            assert_eq!(refused(&endpoint, &login).await.kind, Kind::Tls, "{security:?}");
        }
    });
    assert_eq!(server.refused_logins(), 0);
}

#[test]
fn every_way_to_log_in() {
    let extra = "auth_mechanisms = plain login scram-sha-256\n".to_owned();
    let server = Dovecot::with(Options { pop3: true, extra, ..Options::default() });
    run(async {
        for auth in [Method::Auto, Method::Plain, Method::Login, Method::ScramSha256] {
            let login = mailkeep::sasl::LoginSpec { auth, ..credentials() };
            let s = log_in(&endpoint(server.pop3_port()), &login).await;
            let mut s = s.unwrap_or_else(|e| panic!("{auth:?}: {e}"));
            assert_eq!(s.stat().await.unwrap().messages, 0);
            s.leave().await;
            let wrong = mailkeep::sasl::LoginSpec { secret: "Wr0ng-Secret".into(), ..login };
            let e = refused(&endpoint(server.pop3_port()), &wrong).await;
            assert_eq!(e.kind, Kind::Credentials, "{auth:?}: {e}");
        }
    });
    assert!(!server.log().contains(PASSWORD));
    assert_eq!(server.refused_logins(), 4, "each once: {}", server.log());
}

#[test]
fn a_session_that_was_cut_stays_broken() {
    let server = dovecot();
    server.seed("INBOX", &Mint::new(7).letters(0..200));
    let proxy =
        Proxy::with(server.pop3_port(), Faults { cut_down: Some(300_000), ..Faults::default() });
    run(async {
        let mut s: Session = session(proxy.port()).await;
        let sizes = s.list().await.unwrap();
        let mut kept = Kept::default();
        let e = s.retr(&all(&sizes), &mut kept).await.unwrap_err();
        assert_eq!(e.kind, Kind::Connection);
        assert!(!kept.messages.is_empty() && kept.messages.len() < 200);
        assert!(kept.messages.iter().zip(&sizes).all(|(m, s)| m.1.len() as u64 == s.1));
        assert!(kept.failed.len() <= 1);
        assert_eq!(s.dead(), Some(&e));
        assert_eq!(s.stat().await.unwrap_err(), e);
        assert_eq!(s.dele(&[number(1)]).await.unwrap_err(), e);
        let Quit::Unknown(last) = s.quit().await else { panic!("said goodbye") };
        assert_eq!(last, e);
    });
}
