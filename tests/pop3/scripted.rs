//! Peers that follow a script: what they say out of place, too much of, or wrongly.

use std::time::Duration;

use mailkeep::pop3::{Session, Uidl, Uidls, Wanted};
use mailkeep::{Error, Kind, Refusal, Scope};

use crate::common::scripted::{Script, Scripted, Step, send};
use crate::tools::*;

const ALL: [&str; 4] = ["USER", "UIDL", "TOP", "PIPELINING"];
const SINGLE: [&str; 3] = ["USER", "UIDL", "TOP"];

fn start(script: Script) -> Scripted {
    Scripted::start(script.before(server(&ALL)))
}

/// A server that does not pipeline, and one that does.
fn both(script: &Script) -> [Scripted; 2] {
    [start(script.clone()), Scripted::start(script.clone().before(server(&SINGLE)))]
}

fn on(command: &str, steps: impl Into<Vec<Step>>) -> Script {
    Script::greeting([]).on(command, steps)
}

async fn impatient(port: u16) -> Session {
    let soon = patient(Duration::from_millis(500));
    Session::connect(&endpoint(port), &credentials(), &soon).await.unwrap()
}

/// What it keeps of the messages, and how it ended.
async fn retrieve(s: &mut Session, wanted: &[Wanted]) -> (Kept, Result<(), Error>) {
    let mut kept = Kept::default();
    let done = s.retr(wanted, &mut kept).await;
    (kept, done)
}

fn sized(sizes: &[(u32, u64)]) -> Vec<Wanted> {
    sizes.iter().map(|(n, size)| Wanted { number: number(*n), size: Some(*size) }).collect()
}

#[test]
fn byte_by_byte() {
    let script = on("STAT", [Step::Drip(b"+OK 2 20\r\n".into())])
        .on("UIDL", [Step::Drip(b"+OK\r\n1 a b\r\n2 \xff\r\n.\r\n".into())])
        .on("LIST", [Step::Drip(b"+OK\r\n1 7\r\n2 5\r\n.\r\n".into())])
        .on("RETR 1", [Step::Drip(b"+OK\r\n..a\r\n\0\r\n.\r\n".into())])
        .on("RETR 2", [Step::Drip(b"+OK\r\n...\r\n.\r\n".into())]);
    for s in both(&script) {
        run(async {
            let mut session = session(s.port()).await;
            let mailbox = session.mailbox().await.unwrap();
            let id = |b: &[u8]| Some(Uidl::new(b).unwrap());
            let uidls = vec![(number(1), id(b"a b")), (number(2), id(b"\xff"))];
            assert_eq!(mailbox.uidls, Uidls::Known(uidls));
            let (kept, done) = retrieve(&mut session, &all(&mailbox.sizes)).await;
            done.unwrap();
            assert_eq!(kept.texts(), [&b".a\r\n\0\r\n"[..], b"..\r\n"]);
        });
    }
}

#[test]
fn one_command_at_a_time_where_there_is_no_pipelining() {
    // Whoever sends two gets no answer to the second.
    let script = on("STAT", [send("+OK 1 3\r\n")])
        .on("UIDL", [send("+OK\r\n1 x\r\n.\r\n")])
        .on("LIST", [send("+OK\r\n1 3\r\n.\r\n")])
        .on("RETR", [send("+OK\r\na\r\n.\r\n")])
        .on("DELE", [send("+OK\r\n")])
        .on("TOP", [send("+OK\r\nh\r\n.\r\n")]);
    let s = Scripted::start(script.single().before(server(&SINGLE)));
    run(async {
        let mut session = session(s.port()).await;
        session.mailbox().await.unwrap();
        let (kept, done) = retrieve(&mut session, &some(1..=20)).await;
        done.unwrap();
        assert_eq!(kept.messages.len(), 20);
        assert!(session.dele(&numbers(1..=20)).await.unwrap().iter().all(Result::is_ok));
        session.top(&numbers(1..=20), &mut |_, h| h.map(|_| ())).await.unwrap();
    });
}

#[test]
fn a_listing_may_disagree_with_stat_and_says_so() {
    let script = on("STAT", [send("+OK 3 30\r\n")])
        .on("UIDL", [send("+OK\r\n1 x\r\n3 z\r\n.\r\n")])
        .on("LIST", [send("+OK\r\n1 3\r\n2 3\r\n3 3\r\n4 3\r\n.\r\n")]);
    for s in both(&script) {
        run(async {
            let mailbox = session(s.port()).await.mailbox().await.unwrap();
            assert_eq!(mailbox.stat.messages, 3);
            let Uidls::Known(uidls) = mailbox.uidls else { panic!() };
            assert_eq!((uidls.len(), mailbox.sizes.len()), (2, 4));
        });
    }
}

#[test]
fn listings_that_are_errors() {
    let listing = |text: &str| format!("+OK\r\n{text}.\r\n");
    for (uidl, says) in [
        (listing("1 a\r\n1 b\r\n"), "twice"),
        (listing("0 a\r\n"), "listing"),
        (listing("900 a\r\n"), "message 900"),
        (listing("one a\r\n"), "listing"),
        ("OK\r\n1 a\r\n.\r\n".to_owned(), "+OK or -ERR"),
        (format!("+OK\r\n1 {}\r\n.\r\n", "x".repeat(9000)), "bytes"),
    ] {
        let script = on("STAT", [send("+OK 3 30\r\n")])
            .on("UIDL", [send(&uidl)])
            .on("LIST", [send("+OK\r\n1 3\r\n.\r\n")]);
        for s in both(&script) {
            run(async {
                let mut session = session(s.port()).await;
                let e = session.mailbox().await.unwrap_err();
                assert_eq!((e.scope, e.kind), (Scope::Account, Kind::Protocol), "{e}");
                assert!(e.what.contains(says), "{says}: {e}");
                assert_eq!(session.stat().await.unwrap_err(), e, "it stays broken");
            });
        }
    }
}

#[test]
fn a_listing_that_ends_early_is_an_error_and_not_shorter() {
    for end in [Step::Close, Step::Hang] {
        for (command, half) in
            [("UIDL", "+OK\r\n1 a\r\n2 b\r\n"), ("LIST", "+OK\r\n1 3\r\n2 3\r\n.")]
        {
            let script = on(command, [send(half), end.clone()]);
            for s in both(&script) {
                run(async {
                    let mut session = impatient(s.port()).await;
                    let e = match command {
                        "UIDL" => session.uidl().await.map(|_| ()).unwrap_err(),
                        _ => session.list().await.map(|_| ()).unwrap_err(),
                    };
                    assert_eq!(e.kind, Kind::Connection, "{e}");
                });
            }
        }
    }
}

#[test]
fn what_never_ends_is_ended() {
    let lines = b"1 an-id-of-a-message\r\n".repeat(4000);
    for (command, flood) in
        [("STAT", vec![b'x'; 1 << 16]), ("UIDL", lines), ("LIST", vec![b'1'; 1 << 16])]
    {
        let first = if command == "STAT" { "+OK " } else { "+OK\r\n" };
        let s = start(on(command, [send(first), Step::Flood(flood, 1 << 30)]));
        run(async {
            let mut session = session(s.port()).await;
            let e = match command {
                "STAT" => session.stat().await.map(|_| ()),
                "UIDL" => session.uidl().await.map(|_| ()),
                _ => session.list().await.map(|_| ()),
            };
            assert_eq!(e.unwrap_err().kind, Kind::Protocol, "{command}");
        });
    }
    // a message many times as large as announced
    let s = start(on("RETR", [send("+OK\r\n"), Step::Flood(b"more\r\n".repeat(10_000), 1 << 30)]));
    run(async {
        let mut session = session(s.port()).await;
        let mut counted = Counted(0);
        let e = session.retr(&sized(&[(1, 100)]), &mut counted).await.unwrap_err();
        assert_eq!(e.kind, Kind::Protocol);
        assert!(counted.0 <= (16 << 20) + 200, "{} bytes", counted.0);
    });
}

/// Counts what it is given.
struct Counted(u64);

impl mailkeep::pop3::MessageSink for Counted {
    async fn begin(&mut self, _: mailkeep::pop3::Number) -> mailkeep::Result<()> {
        Ok(())
    }
    async fn data(&mut self, bytes: &[u8]) -> mailkeep::Result<()> {
        self.0 += bytes.len() as u64;
        Ok(())
    }
    async fn end(&mut self) -> mailkeep::Result<()> {
        Ok(())
    }
    async fn failed(&mut self, _: mailkeep::pop3::Number, e: Error) -> mailkeep::Result<()> {
        assert_eq!(e.scope, Scope::Message);
        Ok(())
    }
}

#[test]
fn a_message_whose_end_never_comes_is_not_kept() {
    for end in [Step::Close, Step::Hang] {
        let script = on("RETR 1", [send("+OK\r\nwhole\r\n.\r\n")])
            .on("RETR 2", [send("+OK\r\nhalf a message\r\n."), end]);
        for s in both(&script) {
            run(async {
                let mut session = impatient(s.port()).await;
                let (kept, done) = retrieve(&mut session, &sized(&[(1, 7), (2, 16), (3, 9)])).await;
                let e = done.unwrap_err();
                assert_eq!((e.scope, e.kind), (Scope::Account, Kind::Connection), "{e}");
                assert_eq!(kept.texts(), [b"whole\r\n"]);
                assert_eq!(kept.failed.len(), 1);
                assert_eq!((kept.failed[0].0, kept.failed[0].1.scope), (2, Scope::Message));
            });
        }
    }
}

#[test]
fn sizes_that_lie_cut_nothing_and_stop_nothing() {
    let script = on("RETR 1", [send("+OK\r\nsubject: a\r\n\r\ntext\r\n.\r\n")])
        .on("RETR 2", [send("+OK\r\nsubject: b\r\n\r\ntext\r\n.\r\n")]);
    for s in both(&script) {
        run(async {
            let mut session = session(s.port()).await;
            let (kept, done) = retrieve(&mut session, &sized(&[(1, 16), (2, 25)])).await;
            done.unwrap();
            let want = [&b"subject: a\r\n\r\ntext\r\n"[..], b"subject: b\r\n\r\ntext\r\n"];
            assert_eq!(kept.texts(), want);
            session.noop().await.unwrap();
        });
        // one question more, to know that the last one has ended; none where the size is right
        assert_eq!(s.lines().iter().filter(|l| *l == "NOOP").count(), 2);
    }
}

#[test]
fn dots_that_were_not_doubled() {
    // A line that goes on after its dot is kept as it is.
    let s = start(on("RETR", [send("+OK\r\n.profile\r\n. \r\n.\r\n")]));
    run(async {
        let mut session = session(s.port()).await;
        let (kept, done) = retrieve(&mut session, &sized(&[(1, 14)])).await;
        done.unwrap();
        assert_eq!(kept.texts(), [b".profile\r\n. \r\n"]);
    });
    // A line with nothing else seems to be the end, and is none: the message is not kept.
    let script = on("RETR 1", [send("+OK\r\nfirst\r\n.\r\n")])
        .on("RETR 2", [send("+OK\r\nabove\r\n.\r\nbelow\r\n.\r\n")])
        .on("RETR 3", [send("+OK\r\nthird\r\n.\r\n")]);
    for s in both(&script) {
        for wanted in [sized(&[(1, 7), (2, 17), (3, 7)]), sized(&[(1, 7), (2, 17)]), some(2..=2)] {
            run(async {
                let mut session = session(s.port()).await;
                let (kept, done) = retrieve(&mut session, &wanted).await;
                assert_eq!(done.unwrap_err().kind, Kind::Protocol);
                assert!(kept.messages.iter().all(|m| m.0 == 1), "{:?}", kept.messages);
                assert_eq!(kept.failed.len(), 1);
                let (n, e) = &kept.failed[0];
                assert_eq!((*n, e.scope, e.kind), (2, Scope::Message, Kind::Protocol));
                assert!(e.what.contains("lone dot"), "{e}");
                assert!(session.dead().is_some());
            });
        }
    }
}

#[test]
fn bare_line_feeds() {
    let script = on("CAPA", [send("+OK\nUSER\nUIDL\n.\n")])
        .on("USER", [send("+OK\n")])
        .on("PASS", [send("+OK\n")])
        .on("STAT", [send("+OK 1 4\n")])
        .on("UIDL", [send("+OK\n1 x\n.\n")])
        .on("LIST", [send("+OK\n1 4\n.\n")])
        .on("RETR", [send("+OK\na\n..\n.\n")]);
    let s = Scripted::start(script.before(Script::greeting([send("+OK\n")])));
    run(async {
        let mut session = session(s.port()).await;
        let mailbox = session.mailbox().await.unwrap();
        let (kept, done) = retrieve(&mut session, &all(&mailbox.sizes)).await;
        done.unwrap();
        assert_eq!(kept.texts(), [b"a\n.\n"]);
    });
}

#[test]
fn no_uidl_is_not_a_refused_one() {
    let refusing = |said: &str| {
        on("STAT", [send("+OK 1 4\r\n")])
            .on("UIDL", [send(format!("-ERR {said}\r\n"))])
            .on("LIST", [send("+OK\r\n1 4\r\n.\r\n")])
    };
    let lacking = Scripted::start(refusing("what").before(server(&["USER"])));
    let passing = Scripted::start(refusing("[SYS/TEMP] later").before(server(&["USER"])));
    let offering = start(refusing("not now"));
    run(async {
        let mut s = session(lacking.port()).await;
        let mailbox = s.mailbox().await.unwrap();
        assert_eq!(mailbox.uidls, Uidls::Unsupported("what".into()));
        assert_eq!(mailbox.sizes.len(), 1);
        for (port, why) in
            [(passing.port(), Refusal::Unavailable), (offering.port(), Refusal::Unsaid)]
        {
            let mut s = session(port).await;
            let e = s.mailbox().await.unwrap_err();
            assert_eq!((e.scope, e.kind, e.refusal), (Scope::Account, Kind::Refused, Some(why)));
            // the session lives
            s.noop().await.unwrap();
        }
    });
}

#[test]
fn a_server_that_speaks_unasked_is_not_listened_to() {
    let s = Scripted::start(on("STAT", [send("+OK 1 4\r\n+OK 2 8\r\n")]).before(server(&SINGLE)));
    run(async {
        let mut session = session(s.port()).await;
        session.stat().await.unwrap();
        let e = session.stat().await.unwrap_err();
        assert_eq!(e.kind, Kind::Protocol, "{e}");
    });
    assert_eq!(s.lines().iter().filter(|l| *l == "STAT").count(), 1);
}

#[test]
fn an_error_of_the_sink_ends_the_session() {
    let s = start(on("RETR", [send("+OK\r\na\r\n.\r\n")]));
    run(async {
        let mut session = session(s.port()).await;
        let mut kept = Kept { full_at: Some(2), ..Kept::default() };
        let e = session.retr(&sized(&[(1, 3), (2, 3), (3, 3), (4, 3)]), &mut kept).await;
        assert_eq!(e.unwrap_err().kind, Kind::DiskFull);
        assert_eq!(kept.messages.len(), 2);
        assert_eq!(session.dele(&numbers(1..=2)).await.unwrap_err().kind, Kind::DiskFull);
    });
    assert!(!s.lines().iter().any(|l| l.starts_with("DELE") || l == "QUIT"));
}

#[test]
fn a_command_that_was_abandoned_breaks_the_session() {
    let s = start(on("RETR", [send("+OK\r\nhalf"), Step::Hang]));
    run(async {
        let mut session = session(s.port()).await;
        let mut kept = Kept::default();
        let wanted = sized(&[(1, 9)]);
        let short = Duration::from_millis(300);
        let cut = tokio::time::timeout(short, session.retr(&wanted, &mut kept)).await;
        assert!(cut.is_err());
        assert_eq!(session.noop().await.unwrap_err().kind, Kind::Internal);
    });
}

#[test]
fn a_header_is_bounded_also_where_the_whole_message_comes() {
    let text = format!("+OK\r\nA: b\r\n\r\n{}.\r\n", "text\r\n".repeat(400_000));
    let s = start(on("TOP", [send(text)]));
    run(async {
        let mut session = session(s.port()).await;
        let mut sizes = Vec::new();
        session
            .top(&numbers(1..=2), &mut |_, h| {
                sizes.push(h?.len());
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(sizes, [1 << 20, 1 << 20]);
        session.noop().await.unwrap();
    });
}
