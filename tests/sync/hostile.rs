//! Servers that lie, flood or break off, and hosts that are not there: an error that says what to
//! do, within bounds of time and memory, and nothing lost.

use std::path::Path;
use std::time::Duration;

use crate::common::scripted::{Script, Step, send};
use crate::common::server::PASSWORD;
use crate::common::*;
use crate::world::synced;

const BODY: &str = "From: a@b\r\nSubject: s\r\nMessage-ID: <m@b>\r\nDate: Mon, 01 Feb 2021 10:00:00 \
                    +0000\r\n\r\ntext\r\n";

/// A login and folders with one message each; `names` as they go over the wire, quoted or not.
fn ordinary(names: &[String]) -> Script {
    with_body(names, BODY)
}

/// The same with another message.
fn with_body(names: &[String], body: &str) -> Script {
    let mut list = String::new();
    for n in names {
        list.push_str(&format!("* LIST (\\HasNoChildren) \"/\" {n}\r\n"));
        list.push_str(&format!(
            "* STATUS {n} (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 7 UNSEEN 0 RECENT 0)\r\n"
        ));
    }
    let caps = "CAPABILITY IMAP4rev1 LIST-EXTENDED LIST-STATUS SPECIAL-USE UNSELECT";
    let meta = format!(
        "* 1 FETCH (UID 1 FLAGS (\\Seen) INTERNALDATE \"01-Feb-2021 10:00:00 +0000\" \
         RFC822.SIZE {}",
        body.len()
    );
    let header = " BODY[HEADER.FIELDS (MESSAGE-ID DATE)] {18}\r\nMessage-ID: <m@b>)\r\n";
    let whole = format!(" BODY[] {{{}}}\r\n{body})\r\n", body.len());
    let done = "{tag} OK done\r\n";
    Script::greeting([send(format!("* OK [{caps}] ready\r\n"))])
        .on(" CAPABILITY", [send(format!("* {caps}\r\n{done}"))])
        .on(" LOGIN ", [send(done)])
        .on(" NAMESPACE", [send(format!("* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n{done}"))])
        .on(" LIST ", [send(format!("{list}{done}"))])
        .on("BODY.PEEK[HEADER", [send(format!("{meta}{header}{done}"))])
        .on("BODY.PEEK[]", [send(format!("{meta}{whole}{done}"))])
        .on(" FETCH ", [send(format!("{meta})\r\n{done}"))])
        .on(" SEARCH", [send(format!("* SEARCH 1\r\n{done}"))])
        .on(" SELECT ", [send(opened("READ-WRITE"))])
        .on(" EXAMINE ", [send(opened("READ-ONLY"))])
        .on(" LOGOUT", [send("* BYE\r\n{tag} OK\r\n"), Step::Close])
        .on("", [send(done)])
}

fn opened(how: &str) -> String {
    format!(
        "* FLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft)\r\n* 1 EXISTS\r\n* 0 RECENT\r\n\
         * OK [UIDVALIDITY 7] ok\r\n* OK [UIDNEXT 2] ok\r\n* OK [PERMANENTFLAGS (\\Seen \\Answered \
         \\Flagged \\Deleted \\Draft \\*)] ok\r\n{{tag}} OK [{how}] done\r\n"
    )
}

/// The rules of `first` are asked before those of an ordinary server.
fn but(first: impl FnOnce(Script) -> Script) -> Script {
    let ordinary = ordinary(&["INBOX".to_owned()]);
    first(Script::default()).before(ordinary)
}

#[test]
fn an_ordinary_scripted_server_works() {
    // Else the tests below would pass for the wrong reason.
    let server = Scripted::start(ordinary(&["INBOX".to_owned(), "Work".to_owned()]));
    let mk = Mailkeep::to_port(server.port());
    mk.sync_ok();
    assert_eq!(read_folder(&mk.folder("INBOX")).len(), 1);
    assert_eq!(read_folder(&mk.folder("Work")).len(), 1);
}

#[test]
fn line_ends_that_real_servers_would_change() {
    // LF where that can be undone, else every byte as it came.
    let head = "Subject: s\r\nMessage-ID: <m@b>\r\n\r\n";
    for (text, as_it_came) in [
        ("one\r\ntwo\r\n", false),
        ("one\r\r\ntwo\r\n", true),
        ("one\r\ntwo\r", false),
        ("one\ntwo\r\n", true),
        ("one\rtwo\r\n", false),
    ] {
        let body = format!("{head}{text}");
        let server = Scripted::start(with_body(&["INBOX".to_owned()], &body));
        let mk = Mailkeep::to_port(server.port());
        mk.sync_ok();
        let here = read_folder(&mk.folder("INBOX"));
        let got = std::fs::read(&here[0].path).unwrap();
        let want = if as_it_came { body.into_bytes() } else { letters::to_lf(body.as_bytes()) };
        assert_eq!(got, want, "{text:?}");
    }
}

#[test]
fn names_made_to_escape() {
    let long = "x".repeat(400);
    let names = [
        "INBOX",
        "..",
        "../up",
        "../../../up",
        "a/../../../up",
        "/absolute",
        "//double",
        "a//b",
        "a/",
        "cur",
        "new",
        "tmp",
        "INBOX/cur",
        "INBOX/tmp",
        ".hidden",
        "a/.b",
        ".",
        "a/.",
        "~",
        "$HOME",
        "%2e%2e",
        "%2F",
        "a\\\\b",
        "&ZeVnLA-",
        "&Jjo-",
        "bad & utf7",
        "x:2,S",
        ".mailkeep",
        "dovecot-keywords",
        "CON",
        "a b ",
        &long,
    ];
    let mut quoted: Vec<String> = names.iter().map(|n| format!("\"{n}\"")).collect();
    // Control characters come in literals only.
    quoted.push("{4}\r\na\r\nb".to_owned());
    let server = Scripted::start(ordinary(&quoted));
    let mut mk = Mailkeep::to_port(server.port());
    let deep = mk.dir().join("one/two/three/mail");
    std::fs::create_dir_all(&deep).unwrap();
    mk.set_maildir(&deep);
    let said = mk.sync();
    assert!(matches!(said.status, Some(0 | 1)), "{}", said.text());
    for (inside, only) in [
        (mk.dir().to_owned(), &["config.toml", "mail", "one", "password", "runtime", "state"][..]),
        (mk.dir().join("one"), &["two"]),
        (mk.dir().join("one/two"), &["three"]),
        (mk.dir().join("one/two/three"), &["mail"]),
    ] {
        for name in entries(&inside) {
            assert!(only.contains(&name.as_str()), "{name} in {}", inside.display());
        }
    }
    assert!(!Path::new("/absolute").exists());
    let folders = read_maildir(&deep);
    assert!(folders.len() > 20, "the names are escaped, not refused: {:?}", folders.keys());
    for (name, messages) in &folders {
        // None where selecting takes a literal, which this server cannot read.
        assert!(messages.len() <= 1, "two names share the directory {name}");
    }
    // And they are the same on the next pass.
    mk.sync();
    assert_eq!(read_maildir(&deep).len(), folders.len());
}

fn entries(dir: &Path) -> Vec<String> {
    let all = std::fs::read_dir(dir).unwrap();
    all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// An error, soon, in little memory; and the Maildir holds only whole messages.
#[track_caller]
fn assert_survived(what: &str, script: Script) {
    let server = Scripted::start(script);
    let mut mk = Mailkeep::to_port(server.port());
    mk.timeout = Duration::from_secs(75);
    let said = mk.sync();
    assert_eq!(said.status, Some(1), "{what}: {}", said.text());
    assert!(said.elapsed < Duration::from_secs(62), "{what}: {:?}: {}", said.elapsed, said.text());
    assert!(said.peak_rss < 300 << 20, "{what}: {} MB", said.peak_rss >> 20);
    assert!(!said.text().contains(PASSWORD), "{what}");
    assert!(!said.text().contains("panicked"), "{what}: {}", said.text());
    for m in read_maildir(mk.maildir()).values().flatten() {
        assert_eq!(m.hash, letters::hash(BODY.as_bytes()), "{what}");
    }
}

const GIGABYTE: u64 = 1 << 30;

#[test]
fn floods() {
    let block = |b: u8| vec![b; 65_536];
    assert_survived("endless greeting", Script::greeting([Step::Flood(block(b'A'), GIGABYTE)]));
    let endless = [send("* OK "), Step::Flood(block(b'B'), GIGABYTE)];
    assert_survived(
        "endless line",
        but(|s| s.on(" EXAMINE ", endless.clone()).on(" SELECT ", endless)),
    );
    let lines = [Step::Flood(b"* OK still here\r\n".repeat(4000), GIGABYTE)];
    assert_survived("endless lines", but(|s| s.on(" LIST ", lines)));
    let listed = b"* LIST () \"/\" \"folder\"\r\n".repeat(3000);
    assert_survived("endless list", but(|s| s.on(" LIST ", [Step::Flood(listed, GIGABYTE)])));
    let status = b"* STATUS folder (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 7)\r\n".repeat(2000);
    assert_survived("endless status", but(|s| s.on(" LIST ", [Step::Flood(status, GIGABYTE)])));
    let found = b"* SEARCH 1 2 3 5 7 11 13 17 19\r\n".repeat(3000);
    assert_survived("endless search", but(|s| s.on(" SEARCH", [Step::Flood(found, GIGABYTE)])));
    let fetched = b"* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n".repeat(3000);
    assert_survived("endless fetch", but(|s| s.on(" FETCH ", [Step::Flood(fetched, GIGABYTE)])));
}

#[test]
fn literals_that_never_end() {
    for size in ["4294967296", "4294967295", "99999999999999999999", "18446744073709551615"] {
        let begin = format!("* 1 FETCH (UID 1 FLAGS () BODY[] {{{size}}}\r\n");
        let steps = [send(begin), Step::Flood(vec![b'C'; 65_536], GIGABYTE)];
        assert_survived(size, but(|s| s.on("BODY.PEEK[]", steps)));
    }
    let steps = [send("* LIST () \"/\" {4294967296}\r\n"), Step::Hang];
    assert_survived("in a list", but(|s| s.on(" LIST ", steps)));
}

#[test]
fn garbage() {
    let mut rng = Rng::labelled(3, "garbage");
    let mut junk = |n: usize| -> Vec<u8> { (0..n).map(|_| rng.next() as u8).collect() };
    assert_survived("as greeting", Script::greeting([send(junk(5000)), send("\r\n"), Step::Hang]));
    assert_survived("as list", but(|s| s.on(" LIST ", [send(junk(5000)), Step::Close])));
    let nested = "* LIST ".to_owned() + &"(".repeat(200_000) + "\r\n{tag} OK\r\n";
    assert_survived("nesting", but(|s| s.on(" LIST ", [send(nested), Step::Hang])));
    assert_survived(
        "other tags",
        but(|s| {
            s.on(" LIST ", [send("zz9 OK done\r\n* 99999999999999999999 EXISTS\r\n"), Step::Hang])
        }),
    );
}

#[test]
fn numbers_out_of_range() {
    for uid in ["0", "4294967296", "-1", "99999999999999999999"] {
        let fetched = format!(
            "* 1 FETCH (UID {uid} FLAGS () INTERNALDATE \"01-Feb-2021 10:00:00 +0000\" RFC822.SIZE \
             {n} BODY[] {{{n}}}\r\n{BODY})\r\n{{tag}} OK\r\n",
            n = BODY.len()
        );
        assert_survived(uid, but(|s| s.on("BODY.PEEK[]", [send(fetched)])));
    }
}

#[test]
fn a_folder_that_is_suddenly_empty_in_a_listing_that_fails() {
    // NO at the end of a listing: what it showed is not all there is.
    let world = synced();
    let before = world.files();
    let list = "* LIST () \"/\" INBOX\r\n{tag} NO internal error\r\n";
    let server = Scripted::start(but(|s| s.on(" LIST ", [send(list)])));
    let mut mk = world.mk;
    mk.port(server.port());
    mk.sync().expect(1);
    let now: usize = read_maildir(mk.maildir()).values().map(Vec::len).sum();
    assert_eq!(now, before.len());
}

/// Hoodiecrow says BAD to STATUS of a folder that is not there, and NO or BAD to opening it.
#[test]
fn bad_is_said_of_a_folder_that_is_gone() {
    let named =
        |names: &[&str]| ordinary(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
    const BAD: &str = "{tag} BAD Mailbox does not exist\r\n";
    const ANSWERS: &str = "* STATUS INBOX (MESSAGES 1)\r\n{tag} OK done\r\n";
    for (status, opening, other, exit) in [
        (BAD, "{tag} NO Invalid mailbox name\r\n".to_owned(), "", 0),
        // a server that knows both commands
        (BAD, BAD.to_owned(), ANSWERS, 0),
        (BAD, BAD.to_owned(), "{tag} NO later\r\n", 1),
        (BAD, BAD.to_owned(), BAD, 1),
        // that it is there, or that nobody knows, is no absence
        (BAD, opened("READ-ONLY"), ANSWERS, 1),
        (BAD, "{tag} NO [UNAVAILABLE] later\r\n".to_owned(), ANSWERS, 1),
        (BAD, "{tag} NO [SERVERBUG] internal error\r\n".to_owned(), ANSWERS, 1),
        ("{tag} NO [SERVERBUG] internal error\r\n", BAD.to_owned(), ANSWERS, 1),
        ("{tag} NO [CORRUPTION] rebuilding\r\n", opened("READ-ONLY"), ANSWERS, 1),
    ] {
        let second = Script::default()
            .on(" STATUS \"Work\"", [send(status)])
            .on(" EXAMINE \"Work\"", [send(&opening)])
            .on(" STATUS \"INBOX\"", [send(other)])
            .before(named(&["INBOX"]));
        let server = Scripted::in_turn(vec![named(&["INBOX", "Work"]), second]);
        let mut mk = Mailkeep::to_port(server.port());
        mk.deletes("mirror", "mirror");
        mk.sync_ok();
        for _ in 0..2 {
            mk.sync().expect(exit);
            assert_eq!(mk.folder("Work").is_dir(), exit != 0, "{status} {opening} {other}");
            assert_eq!(read_folder(&mk.folder("INBOX")).len(), 1);
        }
    }
}

#[test]
fn a_refused_password() {
    let server = Dovecot::start();
    let mk = Mailkeep::new(&server);
    std::fs::write(mk.dir().join("password"), "not-the-Pa55w0rd").unwrap();
    let said = mk.sync().expect(1);
    assert!((1..=2).contains(&server.refused_logins()), "no hammering: {}", server.log());
    assert!(!said.text().contains("not-the-Pa55w0rd"));
    let text = said.text().to_lowercase();
    assert!(text.contains("password"), "what to do about it: {text}");
}

#[test]
fn nobody_there() {
    let port = process::free_port();
    let mut mk = Mailkeep::to_port(port);
    let said = mk.sync().expect(1);
    assert!(said.text().contains("localhost"), "{}", said.text());
    mk.set("host", "no-such-host.invalid").set("tls", "implicit");
    let said = mk.sync().expect(1);
    assert!(said.text().contains("no-such-host.invalid"), "{}", said.text());
    assert!(said.elapsed < Duration::from_secs(60));
}

#[test]
fn the_password_is_in_no_log() {
    let server = Dovecot::start();
    server.seed("INBOX", &Mint::new(1).letters(0..3));
    let mk = Mailkeep::new(&server);
    let said = mk.run(&["-vv", "sync"]).expect(0);
    assert!(!said.text().contains(PASSWORD), "{}", said.text());
    let in_base64 = {
        use base64::Engine as _;
        let text = format!("\0{}\0{PASSWORD}", server::USER);
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    assert!(!said.text().contains(&in_base64));
    let json = mk.run(&["status", "--json"]);
    assert!(!json.text().contains(PASSWORD));
}
