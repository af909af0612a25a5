//! What is synced in every case: small in messages, large in kinds of effects.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::dovecot::Mode;
use crate::common::letters::{hash, to_lf};
use crate::common::maildir::{deliver, make_folder, move_file, mutt_save, set_flags};
use crate::common::*;
use crate::tree::copy_sides;

/// One server with an account for every case, and where every case starts from.
pub struct Scenario {
    pub server: Dovecot,
    /// Maildir and state as they stand before the run that is killed.
    dir: tempfile::TempDir,
    /// The content of every message on either side: a file with any other was cut short.
    pub contents: BTreeSet<[u8; 32]>,
}

/// The account that all others are copies of.
const START: &str = "start";

impl Scenario {
    /// Before the first pull: nothing is here.
    pub fn first_pull(mode: Mode) -> Self {
        Self::new(mode, |s| {
            let mut imap = s.imap(START);
            imap.append_all("INBOX", &letters(0..6, &["\\Seen"]));
            imap.append_all("INBOX", &letters(6..7, &["\\Flagged", "$Label1"]));
            // more than are synced one by one
            imap.append_all("Work", &letters(20..29, &[]));
        })
    }

    /// A synced account that was changed in every way on both sides.
    pub fn changed_everywhere(mode: Mode) -> Self {
        Self::new(mode, |s| {
            let mut imap = s.imap(START);
            imap.append_all("INBOX", &letters(0..8, &["\\Seen"]));
            imap.append_all("INBOX", &letters(8..9, &["\\Flagged", "$Label1"]));
            imap.append_all("Work", &letters(20..23, &["\\Seen"]));
            imap.append_all("Mirror", &letters(30..32, &[]));
            imap.append_all("Gone", &letters(40..41, &["\\Seen"]));
            s.mailkeep(s.dir.path(), START).sync_ok();
            s.change_there(&mut imap);
            s.change_here();
        })
    }

    fn new(mode: Mode, make: impl FnOnce(&Self)) -> Self {
        let server = Dovecot::with(Options {
            mode,
            homes_by_password: true,
            special_use: false,
            extra: "namespace inbox {\n mailbox Trash {\n special_use = \\Trash\n \
                    auto = subscribe\n }\n}"
                .to_owned(),
            ..Options::default()
        });
        server.home(START);
        let dir = process::temp_dir("start");
        fs::create_dir(dir.path().join("mail")).expect("mkdir");
        let mut new = Self { server, dir, contents: BTreeSet::new() };
        make(&new);
        let mut imap = new.imap(START);
        for folder in imap.list() {
            let found = imap.fetch_all(&folder);
            new.contents.extend(found.iter().map(|m| *m.hash.as_bytes()));
        }
        imap.logout();
        let here = read_maildir(&new.maildir()).into_values().flatten();
        new.contents.extend(here.map(|m| *m.hash.as_bytes()));
        new
    }

    /// The Maildir before the run.
    pub fn maildir(&self) -> PathBuf {
        self.dir.path().join("mail")
    }

    pub fn imap(&self, account: &str) -> TestImap {
        TestImap::connect_as(account, self.server.port(), '/', "")
    }

    fn mailkeep(&self, dir: &Path, account: &str) -> Mailkeep {
        let mut mk = Mailkeep::in_directory(self.server.port(), dir);
        mk.password(account);
        mk.rule("folders = [\"Mirror\", \"Gone\"]\nremote_delete = \"mirror\"");
        mk.timeout = std::time::Duration::from_secs(180);
        mk
    }

    /// The program on copies of both sides.
    pub fn copy(&self, dir: &Path, account: &str) -> Mailkeep {
        let homes = (self.server.home(START), self.server.home(account));
        copy_sides((&homes.0, &homes.1), (self.dir.path(), dir));
        self.mailkeep(dir, account)
    }

    fn change_there(&self, imap: &mut TestImap) {
        imap.append_all("INBOX", &letters(50..52, &["\\Answered"]));
        imap.append_all("Work", &letters(52..53, &["$New"]));
        imap.append_all("Fresh", &letters(53..54, &["\\Seen"]));
        let uid = |imap: &mut TestImap, folder, i| {
            let found = imap.find(folder, &mint().message_id(i));
            assert_eq!(found.len(), 1);
            found
        };
        let moved = uid(imap, "INBOX", 2);
        imap.move_to("INBOX", &moved, "Work");
        let flagged = uid(imap, "INBOX", 4);
        imap.store("INBOX", &flagged, "+FLAGS", &["\\Flagged"]);
        imap.store("INBOX", &flagged, "-FLAGS", &["\\Seen"]);
        let labelled = uid(imap, "INBOX", 5);
        imap.store("INBOX", &labelled, "+FLAGS", &["$Label2"]);
        let kept = uid(imap, "INBOX", 7);
        imap.expunge("INBOX", &kept);
        let mirrored = uid(imap, "Mirror", 30);
        imap.expunge("Mirror", &mirrored);
        imap.delete("Gone");
    }

    fn change_here(&self) {
        let root = self.maildir();
        let (inbox, work, mine) = (root.join("INBOX"), root.join("Work"), root.join("Mine"));
        let found = |dir: &Path, i: usize| {
            let all = read_folder(dir);
            let id = mint().message_id(i);
            all.into_iter().find(|m| m.message_id == id).expect("it was pulled")
        };
        make_folder(&mine);
        for (dir, range) in [(&inbox, 60..61), (&work, 61..63), (&mine, 63..64)] {
            for letter in letters(range, &["\\Seen"]) {
                deliver(dir, &letter);
            }
        }
        let copied = found(&inbox, 0);
        let body = fs::read(&copied.path).expect("read");
        deliver(&work, &Letter::new(body, &["\\Seen"], copied.date));
        move_file(&found(&inbox, 1), &work);
        set_flags(&found(&inbox, 3), "FS");
        let label1 = found(&inbox, 8).path.display().to_string();
        let letter = label1.chars().last().expect("a letter");
        set_flags(&found(&inbox, 6), &format!("S{letter}"));
        fs::remove_file(found(&work, 20).path).expect("unlink");
        mutt_save(&found(&work, 21), &inbox);
    }
}

fn mint() -> Mint {
    let mut mint = Mint::new(3);
    mint.average = 900;
    mint
}

fn letters(range: std::ops::Range<usize>, flags: &[&str]) -> Vec<Letter> {
    let mint = mint();
    range.map(|i| Letter::new(mint.body(i), flags, mint.date(i))).collect()
}

/// What stands here that no message is.
pub fn cut_short(root: &Path, contents: &BTreeSet<[u8; 32]>) -> Vec<PathBuf> {
    let all = read_maildir(root).into_values().flatten();
    all.filter(|m| !contents.contains(m.hash.as_bytes())).map(|m| m.path).collect()
}

#[test]
fn a_file_cut_short_is_seen() {
    let t = tempfile::tempdir().unwrap();
    let dir = t.path().join("INBOX");
    make_folder(&dir);
    let letter = &letters(0..1, &[])[0];
    let contents = BTreeSet::from([*hash(&letter.body).as_bytes()]);
    let path = deliver(&dir, letter);
    assert_eq!(cut_short(t.path(), &contents), Vec::<PathBuf>::new());
    fs::write(&path, &to_lf(&letter.body)[..100]).unwrap();
    assert_eq!(cut_short(t.path(), &contents), [path]);
}
