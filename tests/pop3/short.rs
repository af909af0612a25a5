//! Messages of which less comes than LIST says.

use crate::common::scripted::{Script, send};
use crate::common::*;
use crate::pathologies::{Mailbox, Message, account, assert_here, here, sync, window};
use crate::tools::server;

/// Some kilobytes each.
fn mailbox() -> Mailbox {
    let mut mailbox = window(0..4);
    for (n, m) in mailbox.messages.iter_mut().enumerate() {
        m.body.extend(b"more\r\n".repeat(200 * n));
    }
    mailbox
}

fn header(m: &Message) -> &[u8] {
    let end = m.body.windows(4).position(|w| w == b"\r\n\r\n").expect("a header");
    &m.body[..end + 4]
}

/// As GNU mailutils has it: RETR gives what TOP gave before it in the same session.
fn cut_by_top(mailbox: &Mailbox) -> Script {
    let mut cut = Script::default();
    for (n, m) in (1..).zip(&mailbox.messages) {
        let reply = send([b"+OK\r\n", header(m), b".\r\n"].concat());
        cut = cut.after(&format!("TOP {n} 0"), &format!("RETR {n}"), [reply]);
    }
    cut.before(mailbox.script())
}

/// A Maildir of another program, whose message may be any of the server's by its size.
fn with_old_mail(mk: &Mailkeep) {
    let dir = mk.folder("Old");
    maildir::make_folder(&dir);
    let body = letters::simple("<old@x>", "old", &"old\r\n".repeat(1500));
    maildir::deliver(&dir, &Letter::new(body, &[], 1_600_000_000));
}

/// One pass over connections that follow these in turn, and what was said and asked.
#[track_caller]
fn pass(mk: &mut Mailkeep, scripts: Vec<Script>, status: i32) -> (String, Vec<String>) {
    let server = Scripted::in_turn(scripts);
    mk.port(server.port());
    let said = mk.sync().expect(status).text();
    (said, server.lines())
}

fn count(lines: &[String], verb: &str) -> usize {
    lines.iter().filter(|l| l.starts_with(verb)).count()
}

#[test]
fn a_server_that_cuts_after_top_loses_nothing() {
    let mailbox = mailbox();
    let mut mk = account("keep = \"delete\"");
    with_old_mail(&mk);
    let (said, lines) = pass(&mut mk, vec![cut_by_top(&mailbox)], 0);
    assert_here(&mk, &mailbox.messages);
    assert_eq!(count(&lines, "DELE"), 4, "{said}");
    assert!(said.contains("4 new") && count(&lines, "TOP") > 0, "{said}: {lines:?}");
    assert_eq!(count(&lines, "USER"), 2);
}

#[test]
fn a_server_that_cuts_after_top_doubles_nothing() {
    let mailbox = mailbox();
    let mut mk = account("");
    pass(&mut mk, vec![cut_by_top(&mailbox)], 0);
    // what was filed elsewhere had lines added by another program
    for m in read_folder(&mk.folder("INBOX")) {
        let text = std::fs::read(&m.path).unwrap();
        std::fs::write(m.path, [&b"Received: by x\n"[..], &text].concat()).unwrap();
    }
    mk.lose_ledger();
    pass(&mut mk, vec![cut_by_top(&mailbox)], 0);
    assert_eq!(here(&mk), 4);
    assert_eq!(sync(&mut mk, &mailbox), (0, 0));
    // and other UIDLs, of messages that are larger by a line
    let mut moved = mailbox.clone();
    for m in &mut moved.messages {
        m.uidl.push(b'x');
    }
    pass(&mut mk, vec![cut_by_top(&moved)], 0);
    assert_eq!(here(&mk), 4);
}

/// Where nobody is let in twice in a pass, the next one begins without TOP.
#[test]
fn a_server_that_cuts_and_lets_nobody_in_again_gives_all_the_next_time() {
    let mailbox = mailbox();
    let mut mk = account("keep = \"delete\"");
    with_old_mail(&mk);
    let shut = Script::default().on("PASS", [send("-ERR [LOGIN-DELAY] wait\r\n")]);
    let shut = shut.before(server(&["PIPELINING", "TOP", "UIDL", "USER"]));
    let (_, lines) = pass(&mut mk, vec![cut_by_top(&mailbox), shut.clone()], 1);
    assert_eq!((count(&lines, "DELE"), count(&lines, "QUIT")), (0, 0));
    let (_, lines) = pass(&mut mk, vec![cut_by_top(&mailbox), shut], 0);
    assert_here(&mk, &mailbox.messages);
    assert_eq!((count(&lines, "USER"), count(&lines, "DELE")), (1, 4));
}

/// It comes as it is, once, and what the server has stays there; all others go.
#[test]
fn what_stays_short_comes_and_is_not_deleted() {
    let half = |m: &Message| m.body[..header(m).len() + 600].to_vec();
    for cut in [|m: &Message| header(m).to_vec(), half] {
        let whole = mailbox();
        let mut mailbox = whole.clone();
        let came = cut(&mailbox.messages[2]);
        mailbox.messages[2].says = Some(vec![send([b"+OK\r\n", &came[..], b".\r\n"].concat())]);
        let mut mk = account("keep = \"delete\"");
        let (said, lines) = pass(&mut mk, vec![mailbox.script()], 0);
        assert!(said.contains("1 message came shorter than the server says"), "{said}");
        assert_eq!((count(&lines, "USER"), count(&lines, "RETR 3")), (2, 2));
        assert!(count(&lines, "DELE") == 3 && count(&lines, "DELE 3") == 0, "{lines:?}");
        let mut want = whole.clone();
        want.messages[2].body = came;
        assert_here(&mk, &want.messages);

        // nothing more is done about it, and it is said
        let mut left = mailbox.clone();
        left.messages = vec![mailbox.messages[2].clone()];
        assert_eq!(sync(&mut mk, &left), (0, 0));
        let status = mk.status()["accounts"][0]["pop3"].clone();
        assert_eq!((&status["short"], &status["on_server"]), (&1.into(), &1.into()), "{status}");
        let text = mk.run(&["status"]).expect(0).text();
        assert!(text.contains("not deleted there: 1 message that came shorter"), "{text}");
        // under another name and whole it is the same message, and still not deleted
        let mut renamed = left.clone();
        renamed.messages[0].says = None;
        renamed.messages[0].uidl = b"other".to_vec();
        assert_eq!(sync(&mut mk, &renamed), (0, 0));
        assert_here(&mk, &want.messages);
    }
}

/// As they are for good: all comes, at once where the difference may be the server's way of counting.
#[test]
fn sizes_that_are_far_too_large_stop_nothing() {
    let mut mailbox = mailbox();
    mailbox.sizes = 300;
    let mut mk = account("keep = \"delete-after:30d\"");
    // the first is so small that nobody can tell
    assert_eq!(sync(&mut mk, &mailbox), (4 + 3, 0));
    assert_here(&mk, &mailbox.messages);
    assert_eq!(sync(&mut mk, &mailbox), (0, 0));
    mk.set_raw("pop3", "{ keep = \"delete\" }");
    assert_eq!(sync(&mut mk, &mailbox), (0, 1));
    assert_here(&mk, &mailbox.messages);
}
