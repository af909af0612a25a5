//! The program as its users meet it: exit statuses, and what is said on which output.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use mailkeep::ledger::{
    FolderRecord, Hold, HoldId, HoldItem, HoldKind, HoldState, Ledger, PassState, path_for,
};
use mailkeep::model::{
    BaseName, FileName, Fingerprint, Flags, FolderName, Identity, Info, Place, Row, RowId, State,
    Subdir,
};

/// A configuration directory with everything in it.
struct World {
    dir: tempfile::TempDir,
}

/// What a run gave.
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl World {
    fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let w = Self { dir };
        w.configure(&format!("{}{more}", account("work")));
        w
    }

    fn path(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    fn configure(&self, text: &str) {
        let file = self.path().join("c.toml");
        fs::write(&file, format!("state_dir = \"state\"\nruntime_dir = \"run\"\n{text}")).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut all = vec!["--config", "c.toml"];
        all.extend(arguments);
        self.run_bare(&all)
    }

    fn run_bare(&self, arguments: &[&str]) -> Ran {
        let output = Command::cargo_bin("mailkeep")
            .unwrap()
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path().join("home"))
            .env("TZ", "UTC")
            .args(arguments)
            .output()
            .unwrap();
        let place = self.path().display().to_string();
        let text = |b: Vec<u8>| String::from_utf8(b).unwrap().replace(&place, "DIR");
        Ran {
            status: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

fn account(name: &str) -> String {
    format!(
        "[accounts.{name}]\nprotocol = \"imap\"\nhost = \"imap.example.org\"\nuser = \"me\"\n\
         password_env = \"PW\"\nmaildir = \"mail/{name}\"\n"
    )
}

/// A ledger with a kept message, a hold and a failed pass.
fn ledger(w: &World) -> (Place, PathBuf) {
    let maildir = w.path().join("mail/work");
    let folder = FolderName::from_text("Lists/rust").unwrap();
    let dir = maildir.join("Lists/rust");
    for sub in ["cur", "new", "tmp"] {
        fs::create_dir_all(dir.join(sub)).unwrap();
    }
    let base = BaseName::ours(1, 2, 3);
    let place = Place { sub: Subdir::Cur, file: FileName::new(base, &Info::parse("S")) };
    let file = dir.join("cur").join(place.file.to_os_string());
    fs::write(&file, "From: =?utf-8?q?J=C3=BCrgen?= <j@x>\nSubject: a\tb\u{1b}[31m\n\nbody\n")
        .unwrap();
    let mut ledger = Ledger::open(&path_for(&w.path().join("state"), "work"), "work", 7).unwrap();
    ledger
        .write(|tx| {
            let record = FolderRecord {
                on_server: true,
                on_disk: true,
                push: "idle".into(),
                ..FolderRecord::new(folder)
            };
            let id = tx.insert_folder(&record)?;
            let row = Row {
                id: RowId(0),
                folder: id,
                state: State::Kept,
                uid: None,
                gone: None,
                place: Some(place.clone()),
                agreed: Flags::default(),
                remote: Flags::default(),
                local: Flags::default(),
                identity: Identity {
                    fingerprint: Fingerprint {
                        message_id: "<1@x>".into(),
                        date: "Thu, 1 Jan 1970 00:00:00 +0000".into(),
                    },
                    internal_date: 1_700_000_000,
                    ..Identity::default()
                },
                exact: false,
                copy_of: None,
                keeps: false,
            };
            let row = tx.insert_row(&row)?;
            tx.put_hold(&Hold {
                id: HoldId(0),
                kind: HoldKind::RemoteDeletions,
                folder: Some(id),
                reason: "25 of 30 messages were deleted within a day".into(),
                next: String::new(),
                state: HoldState::Open,
                created: 1_700_000_000,
                items: vec![HoldItem {
                    row: Some(row),
                    folder: id,
                    base: None,
                    content: None,
                    reader: None,
                }],
            })?;
            let mut meta = tx.meta()?;
            meta.last_pass = Some(1_700_000_000);
            meta.last_state = PassState::Held;
            meta.last_error = Some("one folder failed".into());
            tx.set_meta(&meta)
        })
        .unwrap();
    (place, file)
}

#[test]
fn usage_errors_are_2_and_help_is_0() {
    let w = World::new("");
    for good in [&["--help"][..], &["--version"], &["sync", "--help"]] {
        let r = w.run(good);
        assert_eq!((r.status, r.err.as_str()), (0, ""), "{good:?}");
    }
    for bad in [
        &[][..],
        &["frobnicate"],
        &["sync", "--nope"],
        &["approve", "work", "x"],
        &["-q", "-v", "check"],
        &["sync", "--folder", "["],
        &["sync", "--folder", "\\Jnk"],
    ] {
        let r = w.run(bad);
        assert_eq!((r.status, r.out.as_str()), (2, ""), "{bad:?}");
        assert!(!r.err.is_empty(), "{bad:?}");
    }
}

#[test]
fn check_says_what_will_happen() {
    let w = World::new("exclude = [\"\\\\Junk\"]\npolicy.remote_delete = \"mirror\"\n");
    let r = w.run(&["check"]);
    assert_eq!((r.status, r.err.as_str()), (0, ""));
    insta::assert_snapshot!(r.out, @r##"
    DIR/c.toml is valid; ledgers in DIR/state

    work: imap on imap.example.org:993 as me
      secured by TLS and a certificate of the system's authorities
      logs in with a password from $PW, by the strongest method offered
      mail in DIR/mail/work (nested folders; does not exist yet)
      mirrors all folders but \Junk
      deleted on the server is deleted here; deleted here goes to the server's trash; new here is sent to the server
      the brake holds more than 20 deletions in 24 hours, where they are more than 50 % of a folder or the account
      looks every 5m where the server pushes nothing
    "##);
}

#[test]
fn configuration_errors_are_2_and_all_told() {
    let w = World::new("");
    w.configure("[accounts.a]\nprotocol = \"imap\"\nhots = \"x\"\nport = \"y\"\n");
    let r = w.run(&["sync"]);
    assert_eq!((r.status, r.out.as_str()), (2, ""));
    insta::assert_snapshot!(r.err, @r##"
    DIR/c.toml:3:11: accounts.a.host: missing: the server's name, such as "imap.example.org"
    DIR/c.toml:3:11: accounts.a.maildir: missing: the directory that the mail goes to
    DIR/c.toml:3:11: accounts.a.user: missing: who logs in, often the mail address
    DIR/c.toml:3:11: accounts.a: missing: where the password comes from; one of password_command, password_file, password_env, password_credential, password or token_command
    DIR/c.toml:5:1: accounts.a.hots: unknown key; did you mean "host"?
    DIR/c.toml:6:8: accounts.a.port: must be a whole number from 1 to 65535, not a string
    mailkeep: 6 errors in the configuration; nothing was done (correct the file, then run `mailkeep check`)
    "##);
}

#[test]
fn without_a_configuration_it_shows_one() {
    let w = World::new("");
    let r = w.run_bare(&["--config", "nope.toml", "check"]);
    assert_eq!((r.status, r.out.as_str()), (2, ""));
    insta::assert_snapshot!(r.err, @r##"
    mailkeep: there is no configuration: no DIR/nope.toml
    write one to DIR/nope.toml, such as

    [accounts.work]
    protocol = "imap"
    host = "imap.example.org"
    user = "me@example.org"
    password_command = "pass show mail/work"
    maildir = "~/Mail/work"

    [accounts.work.policy]
    remote_delete = "keep"    # what the server deletes stays here
    local_delete = "trash"    # what you delete here goes to its trash

    then run `mailkeep check`
    "##);
}

#[test]
fn an_unknown_account_is_2_with_the_nearest() {
    let w = World::new("");
    for arguments in [
        &["sync", "wrok"][..],
        &["check", "work", "wrok"],
        &["kept", "wrok"],
        &["history", "wrok"],
        &["approve", "wrok", "1"],
    ] {
        let r = w.run(arguments);
        assert_eq!((r.status, r.out.as_str()), (2, ""), "{arguments:?}");
        let want = "mailkeep: there is no account \"wrok\" in DIR/c.toml (did you mean work?)\n";
        assert_eq!(r.err, want, "{arguments:?}");
    }
}

#[test]
fn warnings_do_not_stop_and_can_be_silenced() {
    let w = World::new("");
    let text = account("work").replace("password_env = \"PW\"", "password = \"geheim\"");
    w.configure(&text);
    fs::set_permissions(w.path().join("c.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    let r = w.run(&["check"]);
    assert_eq!(r.status, 0);
    assert!(r.err.contains("warning: DIR/c.toml:7:12: accounts.work.password"), "{}", r.err);
    assert!(!format!("{}{}", r.err, r.out).contains("geheim"));
    assert_eq!(w.run(&["-q", "check"]).err, "");
    let r = w.run(&["--log-format", "json", "check"]);
    let object: serde_json::Value = serde_json::from_str(&r.err).unwrap();
    assert_eq!(object["level"], "WARN");
}

#[test]
fn errors_can_be_objects() {
    let w = World::new("");
    let r = w.run(&["--log-format", "json", "sync", "wrok"]);
    let object: serde_json::Value = serde_json::from_str(&r.err).unwrap();
    assert_eq!(object["next"], "did you mean work?");
    assert_eq!(r.status, 2);
}

#[test]
fn status_before_the_first_sync() {
    let w = World::new("");
    let r = w.run(&["status"]);
    assert_eq!((r.status, r.err.as_str()), (0, ""));
    assert_eq!(r.out, "work (imap): never synced\n  next: mailkeep --config c.toml sync work\n");
    let r = w.run(&["status", "--json"]);
    let all: serde_json::Value = serde_json::from_str(&r.out).unwrap();
    assert_eq!(all["accounts"][0]["state"], "never");
    assert_eq!(all["accounts"][0]["last_pass"], serde_json::Value::Null);
    assert!(!w.path().join("state").exists(), "asking creates nothing");
}

#[test]
fn status_tells_of_folders_and_holds() {
    let w = World::new("");
    ledger(&w);
    let r = w.run(&["status"]);
    assert_eq!((r.status, r.err.as_str()), (0, ""));
    insta::assert_snapshot!(r.out, @r##"
    work (imap): held, last pass 2023-11-14 22:13:20
      error: one folder failed
      FOLDER      MESSAGES  KEPT  PENDING  HELD  PUSH
      Lists/rust         0     1        0     1  idle
      hold 1: 1 message gone from the server in Lists/rust, since 2023-11-14 22:13:20
        25 of 30 messages were deleted within a day
        mailkeep --config c.toml approve work 1    deletes the files here too
        mailkeep --config c.toml reject work 1     leaves the files here, as kept
    "##);
    let r = w.run(&["status", "--json"]);
    insta::assert_snapshot!(r.out, @r##"
    {
      "accounts": [
        {
          "error": "one folder failed",
          "folders": [
            {
              "held": 1,
              "kept": 1,
              "messages": 0,
              "name": "Lists/rust",
              "note": null,
              "path": "DIR/mail/work/Lists/rust",
              "pending": 0,
              "push": "idle"
            }
          ],
          "holds": [
            {
              "approve": "mailkeep --config c.toml approve work 1",
              "folder": "Lists/rust",
              "kind": "remote-deletions",
              "messages": 1,
              "next": null,
              "number": 1,
              "reason": "25 of 30 messages were deleted within a day",
              "reject": "mailkeep --config c.toml reject work 1",
              "since": "2023-11-14T22:13:20Z",
              "state": "open"
            }
          ],
          "last_pass": "2023-11-14T22:13:20Z",
          "live": null,
          "name": "work",
          "notes": [],
          "protocol": "imap",
          "state": "held"
        }
      ],
      "daemon": null
    }
    "##);
}

#[test]
fn a_broken_ledger_does_not_hide_the_others() {
    let w = World::new(&account("other"));
    ledger(&w);
    fs::write(path_for(&w.path().join("state"), "other"), "no database at all").unwrap();
    let r = w.run(&["status", "--json"]);
    assert_eq!(r.status, 1);
    let all: serde_json::Value = serde_json::from_str(&r.out).unwrap();
    assert_eq!(all["accounts"][0]["state"], "failed");
    assert!(all["accounts"][0]["error"].is_string());
    assert_eq!(all["accounts"][1]["folders"][0]["kept"], 1);
    let r = w.run(&["kept"]);
    assert_eq!((r.status, r.out.lines().count()), (1, 1));
    assert!(r.err.starts_with("mailkeep: other: "), "{}", r.err);
}

#[test]
fn kept_finds_the_file_even_where_it_was_renamed() {
    let w = World::new("");
    let (place, file) = ledger(&w);
    let r = w.run(&["kept", "work"]);
    assert_eq!((r.status, r.err.as_str()), (0, ""));
    let line = |name: &str| {
        format!(
            "2023-11-14T22:13:20Z\twork\tLists/rust\tDIR/mail/work/Lists/rust/cur/{name}\t\
             Jürgen <j@x>\ta b\\u{{1b}}[31m\t<1@x>\n"
        )
    };
    assert_eq!(r.out, line(&place.file.to_string()));
    let renamed = format!("{}:2,FS", place.file.base);
    fs::rename(&file, file.with_file_name(&renamed)).unwrap();
    assert_eq!(w.run(&["kept"]).out, line(&renamed));
}

#[test]
fn a_decision_is_noted_and_told() {
    let w = World::new("");
    ledger(&w);
    let holds = || {
        let path = path_for(&w.path().join("state"), "work");
        Ledger::open_readonly(&path).unwrap().unwrap().holds().unwrap()
    };
    let r = w.run(&["approve", "work", "99"]);
    assert_eq!(r.status, 2);
    assert!(r.err.contains("there is no hold 99 (held are: 1;"), "{}", r.err);
    assert_eq!(holds()[0].state, HoldState::Open);

    let r = w.run(&["approve", "work", "1"]);
    let told = "work: hold 1 (1 message gone from the server) is approved; the next sync deletes the \
                files here too\n";
    assert_eq!((r.status, r.out.as_str(), r.err.as_str()), (0, "", told));
    assert_eq!(holds()[0].state, HoldState::Approved);
    let r = w.run(&["reject", "work", "1"]);
    assert_eq!(r.status, 0);
    assert_eq!(holds()[0].state, HoldState::Rejected);

    let r = w.run(&["history"]);
    assert_eq!(r.status, 0);
    let actions: Vec<_> = r.out.lines().map(|l| l.split('\t').nth(2).unwrap()).collect();
    assert_eq!(actions, ["approve", "reject"]);
    assert_eq!(w.run(&["history", "--message-id", "<none@x>"]).out, "");
}

#[test]
fn a_decision_waits_for_nobody() {
    let w = World::new("");
    ledger(&w);
    let root: &Path = &w.path().join("mail/work");
    let lock = mailkeep::maildir::marker::lock(root, "work").unwrap();
    let r = w.run(&["approve", "work", "1"]);
    assert_eq!(r.status, 1);
    assert!(r.err.starts_with("mailkeep: work: "), "{}", r.err);
    drop(lock);
    assert_eq!(w.run(&["approve", "work", "1"]).status, 0);
}

#[test]
fn a_closed_stdout_is_no_panic() {
    let w = World::new("");
    let program = assert_cmd::cargo::cargo_bin("mailkeep");
    // the reading end is closed before the first byte
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = std::process::Command::new(program)
        .current_dir(w.path())
        .args(["--config", "c.toml", "check"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

/// What a program says about a file, and whether it is content.
fn judged(program: &str, arguments: &[&str]) -> (bool, String) {
    let output = std::process::Command::new(program).args(arguments).output();
    let output = output.map_err(|e| format!("{program} is not installed: {e}")).unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn completions_are_what_the_shell_takes_and_know_every_command() {
    // without a configuration
    let w = World::new("");
    fs::remove_file(w.path().join("c.toml")).unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let ran = w.run_bare(&["completions", shell]);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{shell}");
        for command in ["sync", "status", "reload", "--take-over", "history"] {
            let name = if shell == "fish" { command.trim_start_matches('-') } else { command };
            assert!(ran.out.contains(name), "{shell}: {command}");
        }
        let file = w.path().join(shell);
        fs::write(&file, ran.out).unwrap();
        if shell == "bash" {
            let file = file.to_str().unwrap();
            assert_eq!(judged("bash", &["-n", file]), (true, String::new()));
            let asked = format!(
                "source '{file}'; COMP_WORDS=(mailkeep sta); COMP_CWORD=1; \
                 _mailkeep mailkeep sta mailkeep; echo \"${{COMPREPLY[*]}}\""
            );
            assert_eq!(judged("bash", &["-c", &asked]), (true, "status\n".into()));
        }
    }
    assert_eq!(w.run_bare(&["completions", "csh"]).status, 2);
}

#[test]
fn the_manual_is_rendered_for_the_program_and_each_command() {
    let w = World::new("");
    fs::remove_file(w.path().join("c.toml")).unwrap();
    let read = |name: &str, page: String| {
        let file = w.path().join(name);
        fs::write(&file, page).unwrap();
        let (well, text) = judged("man", &["-l", "-P", "cat", file.to_str().unwrap()]);
        assert!(well, "{text}");
        // bold is a character struck over itself
        let mut plain = String::new();
        for c in text.chars() {
            if c == '\u{8}' {
                plain.pop();
            } else {
                plain.push(c);
            }
        }
        plain
    };
    let ran = w.run_bare(&["man"]);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    let whole = read("mailkeep.1", ran.out);
    assert!(whole.contains("mailkeep-sync(1)") && whole.contains("--log-format"), "{whole}");
    let sync = read("mailkeep-sync.1", w.run_bare(&["man", "sync"]).out);
    assert!(sync.contains("mailkeep-sync") && sync.contains("--dry-run"), "{sync}");
    assert_eq!(w.run_bare(&["man", "nonsense"]).status, 2);
    fs::create_dir(w.path().join("pages")).unwrap();
    assert_eq!(w.run_bare(&["man", "--dir", "pages"]).status, 0);
    for page in ["mailkeep.1", "mailkeep-sync.1", "mailkeep-status.1", "mailkeep-run.1"] {
        assert!(w.path().join("pages").join(page).is_file(), "{page}");
    }
    assert_eq!(w.run_bare(&["man", "--dir", "nowhere"]).status, 1);
}

#[test]
fn the_units_are_what_systemd_takes_and_the_system_s_is_shut() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let dir = tempfile::tempdir().unwrap();
    for unit in ["mailkeep.service", "mailkeep@.service"] {
        // verify wants the program to be there
        let program = assert_cmd::cargo::cargo_bin("mailkeep");
        let text = fs::read_to_string(units.join(unit)).unwrap();
        let exec = format!("ExecStart={} ", program.display());
        let text = text.replace("ExecStart=mailkeep ", &exec);
        assert!(text.contains(&exec), "{unit}");
        let named = dir.path().join(unit.replace('@', "@root"));
        fs::write(&named, text).unwrap();
        let (well, said) =
            judged("systemd-analyze", &["verify", "--man=no", named.to_str().unwrap()]);
        // of other units of the machine, and what systemd before 253 does not know
        let about = said.lines().filter(|l| l.contains("mailkeep"));
        let about: Vec<_> = about.filter(|l| !l.ends_with("ignoring: notify-reload")).collect();
        assert!(well && about.is_empty(), "{said}");
    }
    let unit = units.join("mailkeep@.service");
    let (_, said) =
        judged("systemd-analyze", &["security", "--offline=true", unit.to_str().unwrap()]);
    let rated =
        said.lines().find_map(|l| l.split_once("Overall exposure level for ")?.1.split_once(": "));
    let rate = rated.and_then(|(_, r)| r.split(' ').next()?.parse::<f64>().ok());
    assert!(rate.is_some_and(|r| r <= 1.5), "{said}");
}
