//! Passes against real servers: what is fetched, what is deleted there and when, whose the files
//! are, and how an account becomes an IMAP one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use ::mailkeep::ledger::{Ledger, path_for};

use crate::common::letters::{hash, odd, to_lf};
use crate::common::maildir::{make_folder, move_file, mutt_save};
use crate::common::process::wait_for;
use crate::common::server::{PASSWORD, Server, USER};
use crate::common::*;

fn dovecot(extra: &str) -> Dovecot {
    Dovecot::with(Options { pop3: true, extra: extra.to_owned(), ..Options::default() })
}

fn pop3(port: u16, keys: &str) -> Mailkeep {
    let mut mk = Mailkeep::to_port(port);
    mk.set("protocol", "pop3").set_raw("pop3", &format!("{{ {keys} }}"));
    mk
}

fn inbox(mk: &Mailkeep) -> Vec<LocalMessage> {
    read_folder(&mk.folder("INBOX"))
}

/// Contents with their number.
fn contents(messages: &[LocalMessage]) -> Vec<[u8; 32]> {
    let mut all: Vec<_> = messages.iter().map(|m| *m.hash.as_bytes()).collect();
    all.sort_unstable();
    all
}

/// POP3 cannot tell that a message does not end in a line end: Dovecot adds one.
fn wanted(letters: &[Letter]) -> Vec<[u8; 32]> {
    let whole = |l: &Letter| {
        let mut body = to_lf(&l.body);
        if body.last() != Some(&b'\n') {
            body.push(b'\n');
        }
        *hash(&body).as_bytes()
    };
    let mut all: Vec<_> = letters.iter().map(whole).collect();
    all.sort_unstable();
    all
}

fn counts(mk: &Mailkeep, folder: &str) -> (u64, u64) {
    let status = mk.status();
    let folders = status["accounts"][0]["folders"].as_array().unwrap().clone();
    let f = folders.iter().find(|f| f["name"] == folder).expect("the folder");
    (f["messages"].as_u64().unwrap(), f["kept"].as_u64().unwrap())
}

/// How many messages the last pass says are new.
fn new(outcome: &Outcome) -> u64 {
    let text = outcome.text();
    let line = text.lines().find(|l| l.contains(" new, ")).unwrap_or_else(|| panic!("{text}"));
    let before = line.split(" new, ").next().unwrap();
    before.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn everything_comes_once_to_the_byte_and_then_nothing() {
    let server = dovecot("");
    let mint = Mint::new(1);
    let mut letters = mint.letters(0..20);
    letters.extend(odd().into_iter().map(|(_, body)| Letter::new(body, &[], 1_600_000_000)));
    server.seed("INBOX", &letters);
    let proxy = Proxy::to(server.pop3_port());
    let mk = pop3(proxy.port(), "");
    assert_eq!(new(&mk.sync_ok()), letters.len() as u64);
    let here = inbox(&mk);
    assert_eq!(contents(&here), wanted(&letters));
    assert!(here.iter().all(|m| m.is_new && m.base.ends_with(".mailkeep")), "{here:#?}");
    assert_eq!(counts(&mk, "INBOX"), (letters.len() as u64, 0));
    proxy.reset();
    assert_eq!(new(&mk.sync_ok()), 0);
    assert!(proxy.down() < 8_000, "{} bytes came", proxy.down());
    server.seed("INBOX", &mint.letters(50..51));
    assert_eq!(new(&mk.sync_ok()), 1);
    assert_eq!(server.imap().count("INBOX") as usize, letters.len() + 1);
}

#[test]
fn what_is_moved_or_removed_here_is_not_fetched_again() {
    let server = dovecot("");
    let letters = Mint::new(2).letters(0..8);
    server.seed("INBOX", &letters);
    let mut mk = pop3(server.pop3_port(), "");
    mk.sync_ok();
    let here = inbox(&mk);
    let archive = mk.folder("Archive/2024");
    make_folder(&archive);
    move_file(&here[0], &archive);
    mutt_save(&here[1], &archive);
    fs::remove_file(&here[2].path).unwrap();
    for _ in 0..2 {
        assert_eq!(new(&mk.sync_ok()), 0);
    }
    assert_eq!((inbox(&mk).len(), read_folder(&archive).len()), (5, 2));
    assert_eq!(server.imap().count("INBOX"), 8);
    assert_eq!(counts(&mk, "Archive/2024"), (2, 0));
    // and now what is removed here goes there too: that one alone
    mk.set_raw("pop3", "{ delete_when_removed_locally = true }");
    mk.sync_ok();
    assert_eq!(server.imap().count("INBOX"), 7);
    assert_eq!((inbox(&mk).len(), read_folder(&archive).len()), (5, 2));
    let ids: Vec<String> =
        server.imap().fetch_all("INBOX").iter().map(|m| m.message_id.clone()).collect();
    assert!(!ids.contains(&here[2].message_id));
}

#[test]
fn keep_delete_deletes_what_is_durable_and_the_journal_says_so() {
    let server = dovecot("");
    let letters = Mint::new(3).letters(0..30);
    server.seed("INBOX", &letters);
    let mk = pop3(server.pop3_port(), "keep = \"delete\"");
    mk.sync_ok();
    assert_eq!(server.imap().count("INBOX"), 0);
    assert_eq!(contents(&inbox(&mk)), wanted(&letters));
    assert_eq!(counts(&mk, "INBOX"), (0, 30));
    let history = mk.run(&["history"]).expect(0).stdout;
    assert_eq!(history.matches("expunge").count(), 30, "{history}");
    // the same message comes again: Dovecot gives it another UIDL, so it is another message
    server.seed("INBOX", &letters[..1]);
    assert_eq!(new(&mk.sync_ok()), 1);
    assert_eq!(server.imap().count("INBOX"), 0);
}

#[test]
fn the_brake_holds_and_a_person_decides() {
    let server = dovecot("");
    server.seed("INBOX", &Mint::new(4).letters(0..40));
    let mut mk = pop3(server.pop3_port(), "delete_when_removed_locally = true");
    mk.sync_ok();
    for m in inbox(&mk).iter().take(30) {
        fs::remove_file(&m.path).unwrap();
    }
    mk.sync().expect(3);
    assert_eq!(server.imap().count("INBOX"), 40);
    let hold = mk.status()["accounts"][0]["holds"][0].clone();
    let number = hold["number"].as_i64().or(hold["id"].as_i64()).expect("a number").to_string();
    mk.run(&["approve", "test", &number]).expect(0);
    mk.sync_ok();
    assert_eq!(server.imap().count("INBOX"), 10);
    // keep_newest counts too, and holds
    mk.set_raw("pop3", "{ keep_newest = 3 }").policy_raw("brake", "{ messages = 2, percent = 5 }");
    mk.sync().expect(3);
    assert_eq!(server.imap().count("INBOX"), 10);
    mk.policy_raw("brake", "{ messages = 20, percent = 50 }");
    // what waits stays held until a person decides
    mk.sync().expect(3);
    let hold = mk.status()["accounts"][0]["holds"][0].clone();
    let number = hold["number"].as_i64().or(hold["id"].as_i64()).expect("a number").to_string();
    mk.run(&["approve", "test", &number]).expect(0);
    mk.sync_ok();
    assert_eq!(server.imap().count("INBOX"), 3);
    assert_eq!(inbox(&mk).len(), 10);
}

#[test]
fn a_migration_that_renames_all_uidls_fetches_nothing_again_and_deletes_nothing() {
    let letters = Mint::new(5).letters(0..25);
    let before = dovecot("");
    before.seed("INBOX", &letters);
    let mut mk = pop3(before.pop3_port(), "");
    mk.sync_ok();
    fs::remove_file(&inbox(&mk)[0].path).unwrap();
    let after = dovecot("protocol pop3 {\n pop3_uidl_format = new-%v-%u\n}");
    after.seed("INBOX", &letters);
    after.seed("INBOX", &Mint::new(5).letters(60..62));
    mk.port(after.pop3_port()).set_raw("pop3", "{ keep = \"delete\" }");
    let outcome = mk.sync_ok();
    assert_eq!(new(&outcome), 2, "{}", outcome.text());
    assert_eq!(inbox(&mk).len(), 26);
    assert_eq!(after.imap().count("INBOX"), 27, "frozen in the first session");
    mk.sync_ok();
    assert_eq!(after.imap().count("INBOX"), 0);
    assert_eq!(inbox(&mk).len(), 26);
}

#[test]
fn pop3_becomes_imap() {
    let server = dovecot("");
    let letters = Mint::new(6).letters(0..10);
    server.seed("INBOX", &letters);
    let proxy = Proxy::to(server.port());
    let mut mk = pop3(server.pop3_port(), "");
    mk.sync_ok();
    let here = inbox(&mk);
    let archive = mk.folder("Archive");
    make_folder(&archive);
    move_file(&here[0], &archive);
    fs::remove_file(&here[1].path).unwrap();
    mk.sync_ok();
    let mut imap = server.imap();
    let uid = imap.find("INBOX", &here[2].message_id)[0];
    imap.expunge("INBOX", &[uid]);
    mk.unset("pop3").set("protocol", "imap").port(proxy.port());
    mk.policy("local_delete", "mirror");
    let first = mk.sync().expect(3);
    assert_eq!(proxy.body_fetches(), 0, "{:#?}", proxy.commands());
    assert_eq!(proxy.count("APPEND"), 0);
    // nothing was deleted or moved on either side
    assert_eq!((inbox(&mk).len(), read_folder(&archive).len()), (8, 1), "{}", first.text());
    assert_eq!(server.imap().count("INBOX"), 9);
    assert_eq!(counts(&mk, "INBOX").1, 1, "what went is kept");
    let hold = mk.status()["accounts"][0]["holds"][0].clone();
    let number = hold["number"].as_i64().or(hold["id"].as_i64()).expect("a number").to_string();
    mk.run(&["approve", "test", &number]).expect(0);
    mk.sync_ok();
    assert_eq!(proxy.body_fetches(), 0);
    let mut imap = server.imap();
    assert_eq!((imap.count("INBOX"), imap.count("Archive")), (8, 1));
    assert_eq!(imap.fetch_all("Archive")[0].message_id, here[0].message_id);
    assert_eq!((inbox(&mk).len(), read_folder(&archive).len()), (8, 1));
    assert_eq!(new(&mk.sync_ok()), 0);
}

#[test]
fn many_accounts_deliver_into_one_folder_and_touch_only_their_own() {
    let (one, two) = (dovecot(""), dovecot(""));
    let mint = Mint::new(7);
    one.seed("INBOX", &mint.letters(0..6));
    // two letters went to both
    two.seed("INBOX", &mint.letters(4..12));
    let mut mk = pop3(one.pop3_port(), "delete_when_removed_locally = true");
    let maildir = mk.maildir().to_str().unwrap().to_owned();
    let password = mk.dir().join("password");
    mk.more(&format!(
        "\n[accounts.two]\nprotocol = \"pop3\"\nhost = \"localhost\"\nport = {}\nuser = \"{USER}\"\n\
         tls = \"none\"\npassword_file = \"{}\"\nmaildir = \"{maildir}\"\n\
         pop3 = {{ delete_when_removed_locally = true }}\n",
        two.pop3_port(),
        password.display(),
    ));
    assert_eq!(fs::read_to_string(&password).unwrap(), PASSWORD);
    mk.sync_ok();
    assert_eq!(inbox(&mk).len(), 14);
    mk.sync_ok();
    assert_eq!(inbox(&mk).len(), 14);
    // of a letter that went to both, one copy is removed: its own account deletes it, no other
    let both = inbox(&mk).into_iter().find(|m| m.message_id == mint.message_id(4)).unwrap();
    fs::remove_file(&both.path).unwrap();
    mk.sync_ok();
    mk.sync_ok();
    assert_eq!(inbox(&mk).len(), 13);
    let left = one.imap().count("INBOX") + two.imap().count("INBOX");
    assert_eq!(left, 13);
    // a lost ledger of one finds its own files again, and not the other's
    fs::remove_file(path_for(&mk.state_dir(), "two")).unwrap();
    mk.sync_ok();
    assert_eq!(inbox(&mk).len(), 13);
    assert_eq!(one.imap().count("INBOX") + two.imap().count("INBOX"), 13);
    // and so they do where all were lost
    mk.lose_ledger();
    for account in ["test", "two"] {
        assert_eq!(new(&mk.run(&["sync", account]).expect(0)), 0, "{account}");
    }
    mk.sync_ok();
    assert_eq!(inbox(&mk).len(), 13);
    fs::remove_file(&inbox(&mk)[0].path).unwrap();
    mk.sync_ok();
    assert_eq!(one.imap().count("INBOX") + two.imap().count("INBOX"), 12);
}

#[test]
fn a_lost_ledger_pairs_and_fetches_nothing_again() {
    let server = dovecot("");
    server.seed("INBOX", &Mint::new(8).letters(0..12));
    let mk = pop3(server.pop3_port(), "");
    mk.sync_ok();
    let before = inbox(&mk);
    mk.lose_ledger();
    assert_eq!(new(&mk.sync_ok()), 0);
    let paths = |all: &[LocalMessage]| all.iter().map(|m| m.path.clone()).collect::<BTreeSet<_>>();
    assert_eq!(paths(&before), paths(&inbox(&mk)));
}

/// What other programs put before the message when they deliver it.
fn traces(program: &str) -> String {
    match program {
        "getmail6" => "Return-Path: <a@example.org>\nDelivered-To: unknown\nReceived: from \
                       localhost (127.0.0.1) by host with POP3-SSL; 01 Feb 2021 10:00:01 -0000\n"
            .into(),
        "fetchmail" => "Received: from mail.example.org [192.0.2.1]\n\tby host with POP3 \
                        (fetchmail-6.4.37)\n\tfor <me@localhost> (single-drop); Mon, 01 Feb 2021 \
                        10:00:01 +0000\n"
            .into(),
        _ => String::new(),
    }
}

#[test]
fn a_maildir_of_another_program_is_adopted() {
    for program in ["getmail6", "fetchmail", "mpop"] {
        let server = dovecot("");
        let mint = Mint::new(9);
        let mut letters = mint.letters(0..9);
        // two that look alike by their headers, and are not
        let twin = |text: &str| {
            let body = letters::simple("<twin@x>", "twin", &format!("{text}\r\n"));
            Letter::new(body, &[], 1_600_000_000)
        };
        letters.extend([twin("one"), twin("two")]);
        server.seed("INBOX", &letters);
        let proxy = Proxy::to(server.pop3_port());
        let mk = pop3(proxy.port(), "keep = \"delete\"");
        let dir = mk.folder("INBOX");
        make_folder(&dir);
        for (n, letter) in letters.iter().enumerate() {
            let mut text = traces(program).into_bytes();
            text.extend(to_lf(&letter.body));
            fs::write(dir.join("cur").join(format!("160000000{n}.M1P2.host:2,S")), text).unwrap();
        }
        assert_eq!(new(&mk.sync_ok()), 0, "{program}");
        assert_eq!(inbox(&mk).len(), letters.len(), "{program}");
        assert_eq!(server.imap().count("INBOX"), 0, "{program}: known, so keep holds");
        assert_eq!(counts(&mk, "INBOX").1, letters.len() as u64);
    }
}

/// What another program added makes the file larger than the server's message, which IMAP is asked
/// for.
#[test]
fn what_was_adopted_pairs_when_pop3_becomes_imap() {
    for program in ["getmail6", "fetchmail", "mpop"] {
        let server = dovecot("");
        let letters = Mint::new(11).letters(0..6);
        server.seed("INBOX", &letters);
        let mut mk = pop3(server.pop3_port(), "");
        let dir = mk.folder("INBOX");
        make_folder(&dir);
        for (n, letter) in letters.iter().enumerate() {
            let mut text = traces(program).into_bytes();
            if n == 0 {
                text.extend("Received: from far away\n".repeat(60).bytes());
            }
            text.extend(to_lf(&letter.body));
            fs::write(dir.join("cur").join(format!("160000000{n}.M1P2.host:2,S")), text).unwrap();
        }
        assert_eq!(new(&mk.sync_ok()), 0, "{program}");
        // also where it was moved meanwhile
        let archive = mk.folder("Archive");
        make_folder(&archive);
        let largest =
            inbox(&mk).into_iter().find(|m| m.path.to_string_lossy().contains("/1600000000."));
        move_file(&largest.expect("the first letter"), &archive);
        mk.sync_ok();
        assert_eq!(counts(&mk, "Archive").0, 1, "{program}: the move is known");
        let proxy = Proxy::to(server.port());
        mk.unset("pop3").set("protocol", "imap").port(proxy.port());
        mk.sync();
        assert_eq!(proxy.body_fetches(), 0, "{program}: {:#?}", proxy.commands());
        assert_eq!(proxy.count("APPEND"), 0, "{program}");
        assert_eq!((inbox(&mk).len(), read_folder(&archive).len()), (5, 1), "{program}");
        assert_eq!(server.imap().count("INBOX"), 6, "{program}");
    }
}

#[test]
fn a_hook_is_told_where_mail_came_to() {
    let server = dovecot("");
    server.seed("INBOX", &Mint::new(12).letters(0..3));
    let mut mk = pop3(server.pop3_port(), "folder = \"In/Pop\"");
    let out = mk.dir().join("hook");
    let told = format!("echo \"$MAILKEEP_NEW $MAILKEEP_FOLDERS\" >> {}", out.display());
    mk.set_raw("hooks", &format!("{{ new_mail = '{told}' }}"));
    let daemon = mk.start(&["run"]);
    let said = wait_for("the hook", Duration::from_secs(30), || {
        fs::read_to_string(&out).ok().filter(|s| s.ends_with('\n'))
    });
    daemon.kill();
    assert_eq!(said, "3 In/Pop\n");
}

/// The next pass finds it no news.
#[test]
fn a_hook_is_told_of_what_a_failed_pass_brought() {
    let server = dovecot("");
    let letters = Mint::new(13).letters(0..40);
    server.seed("INBOX", &letters);
    let total: u64 = letters.iter().map(|l| l.body.len() as u64).sum();
    // each session brings some, and so many as one pass has are not enough for all
    let cut_down = Some(total / 20 + 500);
    let proxy =
        Proxy::with(server.pop3_port(), proxy::Faults { cut_down, ..proxy::Faults::default() });
    let mut mk = pop3(proxy.port(), "");
    let out = mk.dir().join("hook");
    mk.set_raw("hooks", &format!("{{ new_mail = 'echo $MAILKEEP_NEW >> {}' }}", out.display()));
    let told = || -> usize {
        let text = fs::read_to_string(&out).unwrap_or_default();
        text.lines().map(|l| l.parse::<usize>().unwrap()).sum()
    };
    let said = mk.sync().expect(1).text();
    let here = inbox(&mk).len();
    assert!(here > 0 && here < 40, "{here}: {said}");
    assert_eq!(told(), here, "{said}");
    proxy.set(proxy::Faults::default());
    mk.sync_ok();
    assert_eq!((inbox(&mk).len(), told()), (40, 40));
}

/// Killed before its n-th step and resumed, for every n: each message is here once, and on the
/// server until it was durable.
#[test]
fn killed_at_every_step_nothing_is_fetched_twice_or_deleted_too_early() {
    let server = Dovecot::with(Options {
        pop3: true,
        homes_by_password: true,
        special_use: false,
        ..Options::default()
    });
    let letters = Mint::new(10).letters(0..9);
    let account = |name: &str| {
        server.home(name);
        let mut imap = TestImap::connect_as(name, server.port(), '/', "");
        imap.append_all("INBOX", &letters);
        let mk = pop3(server.pop3_port(), "keep = \"delete\"");
        mk.password(name);
        mk
    };
    let count = |name: &str| TestImap::connect_as(name, server.port(), '/', "").count("INBOX");
    let mut clean = account("clean");
    let log = clean.dir().join("steps");
    clean.environment("MAILKEEP_STEPS", Some(log.to_str().unwrap()));
    clean.sync_ok();
    let steps = fs::read_to_string(&log).unwrap();
    let all: Vec<&str> = steps.lines().collect();
    assert!(all.len() > 40 && all.contains(&"dele") && all.contains(&"quit"), "{steps}");
    for n in 1..=all.len() {
        let step = all[n - 1];
        let name = format!("case-{n}");
        let mut mk = account(&name);
        mk.environment("MAILKEEP_KILL_AT", Some(&n.to_string()));
        let killed = mk.sync();
        assert_eq!(killed.status, None, "{step}: {}", killed.text());
        let here = if mk.folder("INBOX/cur").is_dir() { inbox(&mk) } else { Vec::new() };
        let there = count(&name);
        assert!(there == 9 || here.len() == 9, "{step}: {there} there, {} here", here.len());
        mk.environment("MAILKEEP_KILL_AT", None);
        mk.sync_ok();
        mk.sync_ok();
        assert_eq!(contents(&inbox(&mk)), wanted(&letters), "killed before {n}: {step}");
        assert_eq!(count(&name), 0, "killed before {n}: {step}");
        assert_eq!(fs::read_dir(mk.folder("INBOX/tmp")).unwrap().count(), 0, "{step}");
    }
}

/// Cut after so many bytes of the server's, and then not any more.
#[test]
fn cut_anywhere_nothing_is_lost_or_doubled() {
    let server = Dovecot::with(Options {
        pop3: true,
        homes_by_password: true,
        special_use: false,
        ..Options::default()
    });
    let letters = Mint::new(11).letters(0..12);
    let total: u64 = letters.iter().map(|l| l.body.len() as u64).sum();
    for n in 0..14 {
        let name = format!("cut-{n}");
        server.home(&name);
        TestImap::connect_as(&name, server.port(), '/', "").append_all("INBOX", &letters);
        let cut_down = Some(200 + n * (total + 1500) / 14);
        let faults = proxy::Faults { cut_down, ..proxy::Faults::default() };
        let proxy = Proxy::with(server.pop3_port(), faults);
        let mk = pop3(proxy.port(), "keep = \"delete\"");
        mk.password(&name);
        mk.sync();
        proxy.set(proxy::Faults::default());
        mk.sync_ok();
        mk.sync_ok();
        assert_eq!(contents(&inbox(&mk)), wanted(&letters), "{cut_down:?}");
        let left = TestImap::connect_as(&name, server.port(), '/', "").count("INBOX");
        assert_eq!(left, 0, "{cut_down:?}");
    }
}

/// The server deleted, and its +OK to QUIT was lost.
#[test]
fn without_the_answer_to_quit_the_next_listing_tells() {
    let server = dovecot("");
    server.seed("INBOX", &Mint::new(12).letters(0..5));
    let faults =
        proxy::Faults { cut_on: Some("QUIT".into()), cut_answer: true, ..proxy::Faults::default() };
    let proxy = Proxy::with(server.pop3_port(), faults);
    let mk = pop3(proxy.port(), "keep = \"delete\"");
    mk.sync_ok();
    assert_eq!(states(&mk), [0, 0, 5, 0, 0], "nobody knows");
    proxy.set(proxy::Faults::default());
    mk.sync_ok();
    assert_eq!(states(&mk), [0, 0, 0, 5, 0]);
    assert_eq!((inbox(&mk).len(), server.imap().count("INBOX")), (5, 0));
}

/// How many UIDLs are in each state: staged, delivered, pending, deleted, gone.
fn states(mk: &Mailkeep) -> [usize; 5] {
    let ledger = open(&mk.state_dir());
    let epoch = ledger.mailbox().unwrap().epoch;
    let mut out = [0; 5];
    let there = ledger.uidls_on_server(epoch).unwrap();
    for u in &there {
        out[u.state as usize] += 1;
    }
    out[4] = ledger.uidls_gone(epoch, None).unwrap().len();
    let all = usize::try_from(ledger.count_uidls(epoch).unwrap()).unwrap();
    out[3] = all - there.len() - out[4];
    out
}

fn open(state: &Path) -> Ledger {
    Ledger::open_readonly(&path_for(state, "test")).unwrap().unwrap()
}
