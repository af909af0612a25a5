//! What the configuration accepts, and the words in which it refuses.

use std::path::Path;
use std::time::Duration;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::build::{Context, parse};
use super::*;
use crate::maildir::Layout;
use crate::model::SpecialUse;
use crate::net::Security;
use crate::policy::{LocalDelete, RemoteDelete};

fn around() -> Surroundings {
    Surroundings {
        variables: [("XDG_RUNTIME_DIR".into(), "/run/user/7".into())].into(),
        home: Some("/nonexistent/me".into()),
        root: false,
        directory: "/".into(),
    }
}

fn read_as(source: &str, mode: Option<u32>) -> crate::Result<Config> {
    let around = around();
    let context =
        Context { base: Path::new("/nonexistent/cfg"), around: &around, readable_by_others: mode };
    parse(Path::new("c.toml"), source, &context)
}

fn read(source: &str) -> crate::Result<Config> {
    read_as(source, None)
}

/// The errors of a configuration that must have some.
fn errors(source: &str) -> String {
    read(source).expect_err("this must be refused").what
}

/// The least that an account needs, with more lines of its own.
fn account(name: &str, more: &str) -> String {
    format!(
        "[accounts.{name}]\nprotocol = \"imap\"\nhost = \"imap.example.org\"\nuser = \"me\"\n\
         password_env = \"PW\"\nmaildir = \"~/Mail/{name}\"\n{more}\n"
    )
}

/// The errors of an account with these lines added.
fn errors_with(more: &str) -> String {
    errors(&account("work", more))
}

const FULL: &str = r##"
state_dir = "$XDG_STATE_HOME/mk"
runtime_dir = "${XDG_RUNTIME_DIR}/mk"

[accounts.work]
protocol = "imap"
host = "imap.example.org"
user = "me@example.org"
password_command = "pass show mail/work"
maildir = "~/Mail/work"
port = 1143
tls = "starttls"
tls_ca_file = "ca.pem"
auth = "scram-sha-256"
layout = "maildir++"
include = ["*"]
exclude = ["\\Junk", "Lists/{a,b}*"]
connections = 5
poll_interval = "1h30m"
idle_folders = ["INBOX", "a/b"]
read_only = true

[accounts.work.policy]
remote_delete = "mirror"
local_delete = "keep"
trash = "Papierkorb"
upload = false
brake = { percent = 10, messages = 0x10 }

[[accounts.work.rule]]
folders = ["\\Junk"]
remote_delete = "keep"

[[accounts.work.rule]]
folders = ["Lists/*", "INBOX"]
local_delete = "mirror"
upload = true

[accounts.work.hooks]
held = "echo held"

[accounts."me@old.example"]
protocol = "pop3"
host = "pop.example.org"
user = "me"
token_command = "oama access me"
auth = "xoauth2"
maildir = "old"
[accounts."me@old.example".policy]
brake = { percent = 0 }
[accounts."me@old.example".pop3]
keep = "delete-after:30d"
keep_newest = 1000
delete_when_removed_locally = true
folder = "Pop/Eingang"

[hooks]
new_mail = "notmuch new"
held = "true"
failed = "false"
"##;

#[test]
fn everything_the_listing_knows_is_read() {
    let c = read(FULL).unwrap();
    assert_eq!(c.warnings, Vec::<String>::new());
    assert_eq!(c.state_dir, Path::new("/nonexistent/me/.local/state/mk"));
    assert_eq!(c.runtime_dir, Path::new("/run/user/7/mk"));
    let w = &c.accounts["work"];
    assert_eq!((w.endpoint.port, w.endpoint.security), (1143, Security::StartTls));
    assert_eq!(w.endpoint.ca_file.as_deref(), Some(Path::new("/nonexistent/cfg/ca.pem")));
    assert_eq!((w.auth, w.layout), (AuthMethod::ScramSha256, Layout::PlusPlus));
    assert_eq!((w.connections, w.poll_interval), (5, Duration::from_secs(5400)));
    assert_eq!(w.idle_folders.len(), 2);
    let p = &w.policy;
    assert!(p.read_only);
    assert_eq!(p.trash.as_ref().unwrap().to_string(), "Papierkorb");
    assert_eq!((p.brake.percent, p.brake.messages), (10, 16));
    let junk = p.of(&FolderName::from_text("Spam").unwrap(), Some(SpecialUse::Junk));
    assert_eq!((junk.remote_delete, junk.local_delete), (RemoteDelete::Keep, LocalDelete::Keep));
    let inbox = p.of(&FolderName::inbox(), None);
    assert_eq!((inbox.remote_delete, inbox.upload), (RemoteDelete::Mirror, true));
    assert!(!p.selects(&FolderName::from_text("Lists/bx").unwrap(), None, false));
    let old = &c.accounts["me@old.example"];
    assert_eq!(old.endpoint.port, 995);
    assert_eq!(old.maildir, Path::new("/nonexistent/cfg/old"));
    assert_eq!(
        old.pop3,
        Some(Pop3 {
            keep: Keep::DeleteAfter(Duration::from_secs(30 * 86_400)),
            keep_newest: NonZeroU32::new(1000),
            delete_when_removed_locally: true,
            folder: FolderName::from_text("Pop/Eingang").unwrap(),
        })
    );
    assert_eq!((old.policy.brake.percent, old.policy.brake.messages), (0, 20));
    assert_eq!(w.hooks.held.as_deref(), Some("echo held"));
    assert_eq!(w.hooks.new_mail.as_deref(), Some("notmuch new"));
    assert_eq!(old.hooks.held.as_deref(), Some("true"));
}

#[test]
fn defaults() {
    let c = read(&account("work", "")).unwrap();
    assert_eq!(c.state_dir, Path::new("/nonexistent/me/.local/state/mailkeep"));
    assert_eq!(c.runtime_dir, Path::new("/run/user/7/mailkeep"));
    let w = &c.accounts["work"];
    assert_eq!((w.endpoint.port, w.endpoint.security), (993, Security::Implicit));
    assert_eq!((w.auth, w.layout, w.connections), (AuthMethod::Auto, Layout::Nested, 3));
    assert_eq!(w.poll_interval, Duration::from_secs(300));
    assert_eq!(w.idle_folders, [FolderName::inbox()]);
    assert_eq!((w.policy.remote_delete, w.policy.upload), (RemoteDelete::Keep, true));
    assert!(w.pop3.is_none() && !w.policy.read_only);
    assert!(read(EXAMPLE).is_ok());
    for (tls, port) in [("implicit", 995), ("starttls", 110)] {
        let text = account("p", &format!("tls = \"{tls}\"")).replace("imap\"", "pop3\"");
        assert_eq!(read(&text).unwrap().accounts["p"].endpoint.port, port);
    }
}

#[test]
fn the_system_configuration_has_its_own_places() {
    let around = Surroundings { root: true, ..around() };
    let base = Path::new("/etc/mailkeep");
    let context = Context { base, around: &around, readable_by_others: None };
    let c = parse(&base.join("config.toml"), &account("a", ""), &context).unwrap();
    assert_eq!(c.state_dir, Path::new("/var/lib/mailkeep"));
    assert_eq!(c.runtime_dir, Path::new("/run/mailkeep"));
    let bare = Surroundings { variables: BTreeMap::new(), ..around };
    let context = Context { base, around: &bare, readable_by_others: None };
    let c = parse(Path::new("/home/c.toml"), &account("a", ""), &context).unwrap();
    assert_eq!(c.runtime_dir, Path::new("/nonexistent/me/.local/state/mailkeep/run"));
}

#[test]
fn unknown_keys_name_the_nearest() {
    assert_snapshot!(errors(&format!(
        "stat_dir = \"x\"\n{}",
        account(
            "work",
            "pasword = 'a'\nremote_delete = \"keep\"\nxyzzy = 1\n\
             [accounts.work.policy]\nremote-delete = \"keep\"\nmaildir = \"~/x\"\n\
             brake = { precent = 5, upload = true }\n[[accounts.work.rule]]\nfolders = [\"a\"]\n\
             upload = true\ntrash = \"T\"\n[accounts.work.pop]\n[hooks]\nnewmail = \"x\""
        )
    )), @r##"
    c.toml:1:1: stat_dir: unknown key; did you mean "state_dir"?
    c.toml:8:1: accounts.work.pasword: unknown key; did you mean "password"?
    c.toml:9:1: accounts.work.remote_delete: unknown key; it belongs in [accounts.work.policy]
    c.toml:10:1: accounts.work.xyzzy: unknown key; known here: allow_plaintext, auth, connections, exclude, hooks, host, idle_folders, include, layout, maildir, password, password_command, password_credential, password_env, password_file, policy, poll_interval, pop3, port, protocol, read_only, rule, tls, tls_ca_file, tls_fingerprint, token_command, user
    c.toml:12:1: accounts.work.policy.remote-delete: unknown key; did you mean "remote_delete"?
    c.toml:13:1: accounts.work.policy.maildir: unknown key; it belongs in [accounts.work]
    c.toml:14:11: accounts.work.policy.brake.precent: unknown key; did you mean "percent"?
    c.toml:14:24: accounts.work.policy.brake.upload: unknown key; it belongs in [accounts.work.policy]
    c.toml:18:1: accounts.work.rule[0].trash: unknown key; it belongs in [accounts.work.policy]
    c.toml:19:16: accounts.work.pop: unknown key; did you mean "pop3"?
    c.toml:21:1: hooks.newmail: unknown key; did you mean "new_mail"?
    11 errors in the configuration; nothing was done
    "##);
}

#[test]
fn wrong_types_and_values_and_missing_keys() {
    assert_snapshot!(errors(
        "state_dir = 3\n[accounts.\"ärger\"]\nprotocol = \"imp\"\nhost = [\"a\"]\npassword = 1234\n\
         port = 70000\nconnections = 0\nread_only = \"yes\"\ninclude = \"*\"\nexclude = [1, \"[\", \"\\\\Jnk\"]\n\
         poll_interval = 300\n[accounts.\"ärger\".policy]\nremote_delete = \"mirorr\"\nupload = 1.5\nbrake = 50\n\
         [accounts.\"a b\"]\nprotocol = \"pop3\"\n[accounts.b]\nprotocol = \"imap\"\nhost = \"imaps://x.org:993\"\nuser = \"\"\n\
         maildir = \"$NOPE/x\"\nidle_folders = [\"\\\\Junk\"]\npassword_file = \"~x/y\"\n\
         policy.brake.percent = 101\nrule = [{}, {folders = []}, 3]\n[accounts]\nc = 1"
    ), @r##"
    c.toml:1:13: state_dir: must be a string, not an integer
    c.toml:2:11: accounts."ärger".maildir: missing: the directory that the mail goes to
    c.toml:2:11: accounts."ärger".user: missing: who logs in, often the mail address
    c.toml:3:12: accounts."ärger".protocol: must be "imap" or "pop3", not "imp"; did you mean "imap"?
    c.toml:4:8: accounts."ärger".host: must be a string, not an array
    c.toml:5:12: accounts."ärger".password: must be a string, not an integer
    c.toml:6:8: accounts."ärger".port: must be a whole number from 1 to 65535, not 70000
    c.toml:7:15: accounts."ärger".connections: must be a whole number from 1 to 32, not 0
    c.toml:8:13: accounts."ärger".read_only: must be true or false, not a string
    c.toml:9:11: accounts."ärger".include: must be an array of patterns, not a string
    c.toml:10:12: accounts."ärger".exclude[0]: must be a string, not an integer
    c.toml:10:15: accounts."ärger".exclude[1]: unclosed character class; missing ']'
    c.toml:10:20: accounts."ärger".exclude[2]: unknown special use "\\Jnk"; known are \All, \Archive, \Drafts, \Flagged, \Important, \Junk, \Sent, \Trash
    c.toml:11:17: accounts."ärger".poll_interval: must be a duration such as "5m", not an integer
    c.toml:13:17: accounts."ärger".policy.remote_delete: must be "keep" or "mirror", not "mirorr"; did you mean "mirror"?
    c.toml:14:10: accounts."ärger".policy.upload: must be true or false, not a float
    c.toml:15:9: accounts."ärger".policy.brake: must be a table, [accounts."ärger".policy.brake], not an integer
    c.toml:16:11: accounts."a b".host: missing: the server's name, such as "imap.example.org"
    c.toml:16:11: accounts."a b".maildir: missing: the directory that the mail goes to
    c.toml:16:11: accounts."a b".user: missing: who logs in, often the mail address
    c.toml:16:11: accounts."a b": an account's name has letters, digits, -, _, ., @ and +, and no ' '
    c.toml:16:11: accounts."a b": missing: where the password comes from; one of password_command, password_file, password_env, password_credential, password or token_command
    c.toml:20:8: accounts.b.host: must be a host name such as "x.org", without imaps://
    c.toml:21:8: accounts.b.user: must not be empty
    c.toml:22:11: accounts.b.maildir: the environment variable NOPE is not set
    c.toml:23:17: accounts.b.idle_folders[0]: must be a folder's name, not a special use such as "\\Junk"
    c.toml:24:17: accounts.b.password_file: only ~ alone or ~/ is understood; write another user's home in full
    c.toml:25:24: accounts.b.policy.brake.percent: must be a whole number from 0 to 100, not 101
    c.toml:26:9: accounts.b.rule[0].folders: missing: the folders that the rule is for, such as ["Lists/*", "\\Junk"]
    c.toml:26:9: accounts.b.rule[0]: sets nothing: give it remote_delete, local_delete or upload
    c.toml:26:13: accounts.b.rule[1]: sets nothing: give it remote_delete, local_delete or upload
    c.toml:26:24: accounts.b.rule[1].folders: names no folder, so the rule is for none
    c.toml:26:29: accounts.b.rule[2]: must be a table, [accounts.b.rule[2]], not an integer
    c.toml:28:5: accounts.c: must be a table, [accounts.c], not an integer
    34 errors in the configuration; nothing was done
    "##);
}

#[test]
fn broken_toml_says_where() {
    assert_snapshot!(errors("[accounts.a\nhost = \"x\nuser = 1 2\n"), @r##"
    c.toml:1:12: unclosed table, expected `]`
    an error in the configuration; nothing was done
    "##);
    assert_snapshot!(errors("[accounts.a]\nhost = \"x\"\nhost = \"y\"\n"), @r##"
    c.toml:3:1: duplicate key "host"
    an error in the configuration; nothing was done
    "##);
}

#[test]
fn one_credential_that_fits() {
    assert_snapshot!(errors_with("password = \"geheim\"\ntoken_command = \"x\""), @r##"
    c.toml:7:1: accounts.work.password: there is password_env in line 5 already; keep one of them
    c.toml:8:1: accounts.work.token_command: there is password_env in line 5 already; keep one of them
    2 errors in the configuration; nothing was done
    "##);
    assert_snapshot!(errors_with("auth = \"xoauth2\""), @r##"
    c.toml:7:8: accounts.work.auth: needs token_command, not a password
    an error in the configuration; nothing was done
    "##);
    let token = account("work", "auth = \"plain\"").replace("password_env", "token_command");
    assert_snapshot!(errors(&token), @r##"
    c.toml:7:8: accounts.work.auth: needs a password; with token_command, auth is "auto", "xoauth2" or "oauthbearer"
    an error in the configuration; nothing was done
    "##);
    let none = account("work", "").replace("password_env = \"PW\"", "");
    assert_snapshot!(errors(&none), @r##"
    c.toml:1:11: accounts.work: missing: where the password comes from; one of password_command, password_file, password_env, password_credential, password or token_command
    an error in the configuration; nothing was done
    "##);
    let pop = account("work", "auth = \"oauthbearer\"").replace("\"imap\"", "\"pop3\"");
    assert_snapshot!(errors(&pop), @r##"
    c.toml:7:8: accounts.work.auth: is for imap accounts; a pop3 account has "auto", "plain", "login" (USER and PASS) or "xoauth2"
    an error in the configuration; nothing was done
    "##);
    let secret = errors_with("password = \"geheim\\n\"\npoll_interval = 1");
    assert!(!secret.contains("geheim"), "{secret}");
}

#[test]
fn transport_security_is_not_given_up_by_accident() {
    assert_snapshot!(errors_with("tls = \"none\""), @r##"
    c.toml:7:7: accounts.work.tls: "none" sends the password and all mail readable over the network; it is for a loopback host, or with allow_plaintext = true
    an error in the configuration; nothing was done
    "##);
    assert_snapshot!(errors_with("tls_fingerprint = \"sha256:12\"\ntls_ca_file = \"x\""), @r##"
    c.toml:7:19: accounts.work.tls_fingerprint: must be "sha256:" and the 64 hexadecimal digits of the certificate's SHA-256; here are 2
    c.toml:8:1: accounts.work.tls_ca_file: cannot stand beside accounts.work.tls_fingerprint: a pinned certificate is taken in place of validation
    2 errors in the configuration; nothing was done
    "##);
    let local = account("work", "tls = \"none\"").replace("imap.example.org", "127.0.0.1");
    assert_eq!(read(&local).unwrap().accounts["work"].endpoint.port, 143);
    assert!(read(&account("work", "tls = \"none\"\nallow_plaintext = true")).is_ok());
    assert!(read(&format!("{local}tls_fingerprint = \"sha256:{}\"", "00".repeat(32))).is_err());
}

#[test]
fn keys_of_the_other_protocol() {
    assert_snapshot!(errors_with("[accounts.work.pop3]\nkeep = \"delete\""), @r##"
    c.toml:7:16: accounts.work.pop3: is for pop3 accounts, and this one is imap
    an error in the configuration; nothing was done
    "##);
    let pop = account(
        "work",
        "connections = 2\ninclude = [\"*\"]\n[accounts.work.policy]\nremote_delete = \"keep\"\n\
         brake.percent = 3\n[accounts.work.pop3]\nkeep = \"delete-after:x\"\nkeep_newest = 0\n\
         [[accounts.work.rule]]\nfolders = [\"a\"]\nupload = true",
    );
    assert_snapshot!(errors(&pop.replace("\"imap\"", "\"pop3\"")), @r##"
    c.toml:7:1: accounts.work.connections: is for imap accounts, and this one is pop3
    c.toml:8:1: accounts.work.include: is for imap accounts, and this one is pop3
    c.toml:13:8: accounts.work.pop3.keep: "x" is no duration; write whole numbers with d, h, m or s: "90s", "1h30m"
    c.toml:14:15: accounts.work.pop3.keep_newest: must be a whole number from 1 to 4294967295, not 0
    c.toml:15:17: accounts.work.rule: is for imap accounts, and this one is pop3
    5 errors in the configuration; nothing was done
    "##);
    let said = "[accounts.work.policy]\nremote_delete = \"mirror\"";
    let c = read(&account("work", said).replace("\"imap\"", "\"pop3\"")).unwrap();
    assert_snapshot!(c.warnings.join("\n"), @"c.toml:8:17: accounts.work.policy.remote_delete: says nothing for a pop3 account; [pop3] does: keep, keep_newest, delete_when_removed_locally");
}

#[test]
fn maildirs_must_not_touch() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(root.join("a/x")).unwrap();
    std::os::unix::fs::symlink(root.join("a"), root.join("link")).unwrap();
    let at = |name: &str, place: &str| {
        account(name, "").replace(&format!("~/Mail/{name}"), root.join(place).to_str().unwrap())
    };
    let two = |a: &str, b: &str| format!("{}{}", at("one", a), at("two", b));
    let shown = |text: &str| errors(text).replace(root.to_str().unwrap(), "ROOT");
    assert_snapshot!(shown(&two("a", "a/")), @r##"
    c.toml:13:11: accounts.two.maildir: is the same directory as that of accounts.one (line 6): ROOT/a; give each account a directory of its own
    an error in the configuration; nothing was done
    "##);
    assert_snapshot!(shown(&two("a", "a/new/y")), @r##"
    c.toml:13:11: accounts.two.maildir: is inside that of accounts.one (line 6): ROOT/a; give each account a directory of its own
    an error in the configuration; nothing was done
    "##);
    assert_snapshot!(shown(&two("a/x", "link")), @r##"
    c.toml:13:11: accounts.two.maildir: is around that of accounts.one (line 6): ROOT/a/x; give each account a directory of its own
    an error in the configuration; nothing was done
    "##);
    assert!(read(&two("a", "ab")).is_ok());
    let pop = |text: &str| text.replace("\"imap\"", "\"pop3\"");
    assert!(read(&pop(&two("a", "a"))).is_ok());
    assert!(read(&pop(&two("a", "a/x"))).is_ok());
    let mixed = format!("{}{}", at("one", "a"), pop(&at("two", "a")));
    assert!(read(&mixed).is_err());
    let layouts = pop(&two("a", "a")).replacen("user", "layout = \"maildir++\"\nuser", 1);
    assert_snapshot!(shown(&layouts), @r##"
    c.toml:14:11: accounts.two.maildir: is the same as that of accounts.one (line 7), with another layout
    an error in the configuration; nothing was done
    "##);
}

#[test]
fn no_account_shows_one() {
    assert_snapshot!(errors("# nothing\n"), @r##"
    c.toml:1:1: there is no account; add one, such as

    [accounts.work]
    protocol = "imap"
    host = "imap.example.org"
    user = "me@example.org"
    password_command = "pass show mail/work"
    maildir = "~/Mail/work"

    [accounts.work.policy]
    remote_delete = "keep"    # what the server deletes stays here
    local_delete = "trash"    # what you delete here goes to its trash

    an error in the configuration; nothing was done
    "##);
    assert!(errors("[accounts]").contains("[accounts.work]"));
}

#[test]
fn what_others_can_read_is_warned_about() {
    let text = account("work", "").replace("password_env", "password");
    let c = read_as(&text, Some(0o644)).unwrap();
    assert_snapshot!(c.warnings.join("\n"), @r##"c.toml:5:12: accounts.work.password: others can read this file, and the password with it (mode 0644); chmod 600 it, or use password_command"##);
    assert!(read(&text).unwrap().warnings.is_empty());
    assert!(read_as(&account("work", ""), Some(0o644)).unwrap().warnings.is_empty());

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pw");
    std::fs::write(&file, "x").unwrap();
    let text = account("work", "").replace("password_env", "password_file");
    let text = text.replace("PW", file.to_str().unwrap());
    for (mode, warned) in [(0o600, false), (0o640, true), (0o604, true)] {
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap();
        assert_eq!(!read(&text).unwrap().warnings.is_empty(), warned, "{mode:o}");
    }
}

#[test]
fn the_file_is_looked_for_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().to_path_buf();
    let around = Surroundings {
        variables: [("XDG_CONFIG_HOME".into(), home.clone().into_os_string())].into(),
        ..around()
    };
    let missing = load_in(None, &around).unwrap_err();
    assert_eq!(missing.kind, crate::Kind::Config);
    assert!(missing.what.contains(home.join("mailkeep/config.toml").to_str().unwrap()));
    assert!(missing.what.contains("/etc/mailkeep/config.toml"));
    assert!(missing.next.contains(EXAMPLE));
    std::fs::create_dir(home.join("mailkeep")).unwrap();
    std::fs::write(home.join("mailkeep/config.toml"), account("a", "")).unwrap();
    assert!(load_in(None, &around).is_ok());
    // what is there and cannot be read is no absence
    let named = load_in(Some(&home.join("mailkeep")), &around).unwrap_err();
    assert!(named.what.contains("cannot read"), "{named}");
    let other = load_in(Some(&home.join("x.toml")), &around).unwrap_err();
    assert!(other.what.contains("x.toml") && !other.what.contains("/etc"), "{other}");
    std::fs::write(home.join("x.toml"), b"a = 1\nb = \"\xff\"").unwrap();
    let bytes = load_in(Some(Path::new("x.toml")), &Surroundings { directory: home, ..around });
    assert!(bytes.unwrap_err().what.contains("x.toml:2:6: is not UTF-8"));
}

proptest! {
    #[test]
    fn no_text_panics(s in "\\PC{0,200}") {
        let _ = read(&s);
    }

    /// Whatever happens to a good file, it is read or refused with a place.
    #[test]
    fn no_mutation_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..3, any::<char>()), 1..6),
    ) {
        let mut chars: Vec<char> = FULL.chars().collect();
        for (i, what, c) in edits {
            let i = i.index(chars.len());
            match what {
                0 => drop(chars.remove(i)),
                1 => chars.insert(i, c),
                _ => chars[i] = c,
            }
        }
        let text: String = chars.into_iter().collect();
        if let Err(e) = read(&text) {
            prop_assert!(e.what.starts_with("c.toml:"), "{}", e.what);
            prop_assert!(!e.next.is_empty());
        }
    }

    /// Words of the language in any order: deeper than random characters get.
    #[test]
    fn no_sentence_panics(words in prop::collection::vec(prop::sample::select(vec![
        "[accounts.a]\n", "[[accounts.a.rule]]\n", "[accounts.a.policy]\n", "[accounts]\n",
        "accounts = 1\n", "accounts.a = {}\n", "a = []\n", "[accounts.a.policy.brake]\n",
        "brake = ", "rule = ", "folders = ", "include = ", "host = ", "tls_fingerprint = ",
        "maildir = ", "[{}]\n", "[[], 1]\n", "{a = 1}\n", "\"sha256:é\"\n", "\"~\"\n",
        "\"$\"\n", "1979-05-27\n", "-9223372036854775808\n", "1e400\n", "\"\"\n", "\"[\"\n",
    ]), 0..12)) {
        let _ = read(&words.concat());
    }
}
