//! Maildirs that were filled by other programs, the real ones: what they brought is not retrieved
//! again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::letters::odd;
use crate::common::maildir::make_folder;
use crate::common::mailkeep::write_private;
use crate::common::process::{User, command, find_program, make_dir};
use crate::common::server::{PASSWORD, USER};
use crate::common::*;

/// The programs, each with what a user of it has: a configuration, and a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Getmail,
    Mpop,
    Fetchmail,
}

const ALL: [Program; 3] = [Program::Getmail, Program::Mpop, Program::Fetchmail];

impl Program {
    /// Fetches all that is on the server into the Maildir folder at `to`.
    fn fill(self, port: u16, to: &Path, home: &Path) -> Outcome {
        let user = User::for_mail();
        make_dir(home, &user);
        for dir in ["", "cur", "new", "tmp"] {
            user.own(&to.join(dir));
        }
        // one that leaves the mail on the server, as long as it takes to change over
        let (name, config, args): (&str, String, Vec<String>) = match self {
            Self::Getmail => (
                "getmail",
                format!(
                    "[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\nport = {port}\n\
                     username = {USER}\npassword = {PASSWORD}\ntimeout = 5\n\n[destination]\ntype = Maildir\n\
                     path = {}/\n\n[options]\nread_all = false\ndelete = false\n",
                    to.display()
                ),
                vec![format!("--getmaildir={}", home.display()), "--rcfile=config".into()],
            ),
            Self::Mpop => (
                "mpop",
                format!(
                    "account test\nhost 127.0.0.1\nport {port}\nuser {USER}\npassword {PASSWORD}\n\
                     auth user\ntls off\nkeep on\nuidls_file {0}/uidls\ndelivery maildir {1}\n",
                    home.display(),
                    to.display()
                ),
                vec![format!("--file={}/config", home.display()), "test".into()],
            ),
            Self::Fetchmail => (
                "fetchmail",
                format!(
                    "poll 127.0.0.1 protocol pop3 port {port} auth password user \"{USER}\" password \
                     \"{PASSWORD}\" sslproto \"\" keep fetchall mda \"{}/deliver\"\n",
                    home.display()
                ),
                vec!["-f".into(), home.join("config").display().to_string(), "--nosyslog".into()],
            ),
        };
        let mda = home.join("deliver");
        let (new, tmp) =
            (to.join("new").display().to_string(), to.join("tmp").display().to_string());
        let script = format!(
            "#!/bin/sh\nf=$(mktemp {tmp}/1600000000.XXXXXXXX.host) && cat >\"$f\" && mv \"$f\" {new}/\n"
        );
        for (path, text) in [(home.join("config"), config), (mda.clone(), script)] {
            write_private(&path, &text);
            user.own(&path);
        }
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&mda, fs::Permissions::from_mode(0o700)).unwrap();
        let program = find_program(name, "apt-get install getmail6 mpop fetchmail");
        // getmail delivers to nobody as root
        let mut c = command(program, Some(&user));
        c.args(args).env("HOME", home).env("FETCHMAILHOME", home).current_dir(home);
        Running::start(c).wait(Duration::from_secs(120))
    }
}

fn pop3(port: u16, keys: &str) -> Mailkeep {
    let mut mk = Mailkeep::to_port(port);
    mk.set("protocol", "pop3").set_raw("pop3", &format!("{{ {keys} }}"));
    mk
}

fn dovecot(letters: &[Letter]) -> Dovecot {
    let server = Dovecot::with(Options { pop3: true, ..Options::default() });
    server.seed("INBOX", letters);
    server
}

/// The Maildir of an account in which such a program was at work.
fn filled(program: Program, server: &Dovecot, mk: &Mailkeep) -> Vec<PathBuf> {
    let dir = mk.folder("INBOX");
    for n in 0.. {
        make_folder(&dir);
        let said = program.fill(server.pop3_port(), &dir, &mk.dir().join(format!("home{n}")));
        // getmail 6.18 misses the end of a child of its own if that comes before it waits
        // (_wait_for_child in its baseclasses.py), and gives up: it has to begin anew
        if said.status != Some(0) && program == Program::Getmail && n < 10 {
            fs::remove_dir_all(&dir).unwrap();
            continue;
        }
        assert_eq!(said.status, Some(0), "{program:?}: {}", said.text());
        break;
    }
    read_folder(&dir).into_iter().map(|m| m.path).collect()
}

#[test]
fn what_another_program_brought_is_not_retrieved_again() {
    for program in ALL {
        let letters = Mint::new(41).letters(0..40);
        let server = dovecot(&letters);
        let proxy = Proxy::to(server.pop3_port());
        let mut mk = pop3(proxy.port(), "");
        let files = filled(program, &server, &mk);
        assert_eq!(files.len(), 40, "{program:?}");
        // one was read meanwhile, and two more came
        fs::rename(&files[0], mk.folder("INBOX/cur").join("1.M1P2.host:2,RS")).unwrap();
        server.seed("INBOX", &Mint::new(41).letters(40..42));
        let said = mk.sync_ok().text();
        assert!(
            said.contains("40 messages were here already") && said.contains(" 2 new"),
            "{said}"
        );
        assert_eq!(proxy.count_pop3("RETR"), 2, "{program:?}");
        let here = read_folder(&mk.folder("INBOX"));
        assert_eq!(here.len(), 42, "{program:?}");
        let untouched = files[1..].iter().all(|f| here.iter().any(|m| m.path == *f));
        assert!(untouched, "{program:?}");
        proxy.reset();
        assert!(mk.sync_ok().stdout.contains(" 0 new"), "{program:?}");
        assert_eq!(proxy.count_pop3("RETR"), 0, "{program:?}");
        // known: retention holds, and a deletion here is one there
        mk.set_raw("pop3", "{ delete_when_removed_locally = true }");
        fs::remove_file(&files[1]).unwrap();
        mk.sync_ok();
        assert_eq!(server.imap().count("INBOX"), 41, "{program:?}");
        mk.set_raw("pop3", "{ keep = \"delete\" }").sync_ok();
        assert_eq!((server.imap().count("INBOX"), read_folder(&mk.folder("INBOX")).len()), (0, 41));
    }
}

/// What tells them apart is missing, double or broken. It may be looked at again; nothing is here
/// twice, and nothing is missed.
#[test]
fn odd_mail_that_another_program_brought_is_here_once() {
    for program in ALL {
        let letters: Vec<Letter> =
            odd().into_iter().map(|(_, body)| Letter::new(body, &[], 1_600_000_000)).collect();
        let server = dovecot(&letters);
        let mk = pop3(server.pop3_port(), "");
        let files = filled(program, &server, &mk);
        // fetchmail does not take what has no header
        let missing = if program == Program::Fetchmail { 2 } else { 0 };
        assert_eq!(files.len(), letters.len() - missing, "{program:?}");
        for _ in 0..2 {
            let said = mk.sync_ok().text();
            let here = read_folder(&mk.folder("INBOX")).into_iter().map(|m| m.path);
            let fresh: Vec<String> = here
                .filter(|p| !files.contains(p))
                .map(|p| fs::read_to_string(&p).unwrap_or_else(|_| p.display().to_string()))
                .collect();
            assert_eq!(fresh.len(), missing, "{program:?}: {said}\n{fresh:#?}");
        }
    }
}

#[test]
fn what_another_program_brought_pairs_when_pop3_becomes_imap() {
    for program in ALL {
        let letters = Mint::new(42).letters(0..12);
        let server = dovecot(&letters);
        let mut mk = pop3(server.pop3_port(), "");
        filled(program, &server, &mk);
        mk.sync_ok();
        let proxy = Proxy::to(server.port());
        mk.unset("pop3").set("protocol", "imap").port(proxy.port());
        mk.sync_ok();
        assert_eq!(proxy.body_fetches(), 0, "{program:?}: {:#?}", proxy.commands());
        assert_eq!(proxy.count("APPEND"), 0, "{program:?}");
        assert_eq!(
            (read_folder(&mk.folder("INBOX")).len(), server.imap().count("INBOX")),
            (12, 12)
        );
    }
}
