//! Messages at which a session breaks, over several passes: they hold up nothing behind them, and
//! are not asked for more than they deserve.

use std::time::Duration;

use crate::common::scripted::{Script, Step, send};
use crate::common::*;
use crate::pathologies::{account, assert_here, here, pass, sync, window};
use crate::tools::server;

/// Lets nobody in.
fn shut(reason: &str) -> Script {
    let refusal = Script::default().on("PASS", [send(format!("-ERR {reason}\r\n"))]);
    refusal.before(server(&["PIPELINING", "TOP", "UIDL", "USER"]))
}

/// One pass, whose connections follow these scripts in turn. How many were made, and what was said.
#[track_caller]
fn passes(mk: &mut Mailkeep, scripts: Vec<Script>, status: i32) -> (usize, usize, String) {
    let server = Scripted::in_turn(scripts);
    mk.port(server.port());
    let said = mk.sync().expect(status).text();
    let lines = server.lines();
    let count = |verb: &str| lines.iter().filter(|l| l.starts_with(verb)).count();
    (count("USER"), count("DELE"), said)
}

/// The second login of a pass is refused, so that the session that breaks is the only one of its
/// pass. What comes behind that message is not held up, and neither is what is due.
#[test]
fn a_message_that_breaks_the_only_session_of_every_pass_blocks_no_other() {
    for reason in ["[LOGIN-DELAY] wait", "[IN-USE] locked"] {
        let mut mailbox = window(0..5);
        mailbox.messages[1].says = Some(vec![send("+OK\r\nSubject: x\r\n\r\nha"), Step::Close]);
        let mut rest = mailbox.clone();
        let mut bad = rest.messages.remove(1);
        let mut mk = account("keep = \"delete\"");
        mk.timeout = Duration::from_secs(90);
        let scripts = || vec![mailbox.script(), shut(reason)];
        passes(&mut mk, scripts(), 1);
        assert_eq!(here(&mk), 1, "{reason}");
        let (_, marked, said) = passes(&mut mk, scripts(), 1);
        assert_here(&mk, &rest.messages);
        assert_eq!(marked, 4, "{reason}: {said}");
        // and it comes when it can
        bad.says = None;
        let mut well = mailbox.clone();
        well.messages = vec![bad];
        assert_eq!(sync(&mut mk, &well), (1, 1), "{reason}");
        assert_eq!(here(&mk), 5);
    }
}

/// Where the server wants time between two logins, no pass has two of them.
#[test]
fn with_a_login_delay_what_broke_comes_last_in_the_one_session() {
    let mut mailbox = window(0..5);
    mailbox.capabilities.push("LOGIN-DELAY 60");
    let mut mk = account("");
    let bad = mailbox.messages[1].clone();
    mailbox.messages[1].says = Some(vec![Step::Close]);
    pass(&mut mk, &mailbox, 1);
    mailbox.messages.extend(window(6..7).messages);
    let (logins, _, said) = passes(&mut mk, vec![mailbox.script(), shut("[LOGIN-DELAY]")], 1);
    assert_eq!((logins, here(&mk)), (2, 5), "{said}");
    mailbox.messages[1] = bad;
    let (logins, ..) = passes(&mut mk, vec![mailbox.script(), shut("[LOGIN-DELAY]")], 0);
    assert_eq!((logins, here(&mk)), (1, 6));
}

/// Silence within a message ends, and what came of it is thrown away.
#[test]
fn silence_within_a_message_ends_and_nothing_is_cut_short() {
    let mailbox = window(0..4);
    let mut silent = mailbox.clone();
    silent.messages[2].says = Some(vec![send("+OK\r\nSubject: x\r\n\r\nha"), Step::Hang]);
    let server = Scripted::in_turn(vec![silent.script(), mailbox.script()]);
    let mut mk = account("");
    mk.port(server.port());
    mk.timeout = Duration::from_secs(115);
    let running = mk.start(&["sync"]);
    process::wait_for("the first two", Duration::from_secs(30), || {
        let new = mk.folder("INBOX/new");
        (std::fs::read_dir(new).is_ok_and(|d| d.count() == 2)).then_some(())
    });
    let said = running.wait(mk.timeout).expect(0);
    assert!(said.elapsed < Duration::from_secs(110), "{:?}", said.elapsed);
    assert_here(&mk, &mailbox.messages);
    assert_eq!(sync(&mut mk, &mailbox), (0, 0));
}

/// A first session compares everything here with what comes. It ends without a message that never
/// comes, unless that one may be here already.
#[test]
fn the_first_session_ends_without_what_broke_it_unless_that_may_be_here() {
    for may_be_here in [false, true] {
        let mut mailbox = window(0..5);
        // it cannot be known by its header
        mailbox.capabilities.retain(|c| *c != "TOP");
        let bad = mailbox.messages[1].clone();
        mailbox.messages[1].says = Some(vec![Step::Close]);
        let mut mk = account("");
        let archive = mk.folder("Archive");
        for sub in ["cur", "new", "tmp"] {
            std::fs::create_dir_all(archive.join(sub)).unwrap();
        }
        let letter = |body: &[u8]| Letter::new(body, &[], 1_600_000_000);
        if may_be_here {
            maildir::deliver(&archive, &letter(&bad.body));
        }
        pass(&mut mk, &mailbox, 1);
        assert_eq!(here(&mk), 4);
        // later, it compares nothing, and asks for no header
        let mut more = mailbox.clone();
        more.capabilities.push("TOP");
        more.messages.extend(window(6..7).messages);
        maildir::deliver(&archive, &letter(&letters::simple("<z@x>", "z", "else\r\n")));
        let asked = |mk: &mut Mailkeep| {
            let server = more.start();
            mk.port(server.port());
            mk.sync().expect(i32::from(!may_be_here));
            server.lines().iter().any(|l| l.starts_with("TOP"))
        };
        assert_eq!(asked(&mut mk), may_be_here);
        more.messages[1] = bad;
        sync(&mut mk, &more);
        let (all, twins) = (here(&mk), usize::from(may_be_here));
        assert_eq!(all, 6 - twins, "one message is not there twice");
        assert_eq!(sync(&mut mk, &more), (0, 0));
    }
}
