//! What folders are called: by other programs, by people, and by servers that will not have it.

use std::fs;

use crate::common::dovecot::Options;
use crate::common::maildir::{deliver, make_folder};
use crate::common::*;
use crate::world::{World, synced};

fn notes(status: &serde_json::Value) -> String {
    status["accounts"][0]["notes"].to_string()
}

/// A server with dots in names: Dovecot's Maildir++ has another use for them.
fn with_dots() -> Dovecot {
    let extra = "mail_location = sdbox:~/sdbox\n".to_owned();
    Dovecot::with(Options { extra, ..Options::default() })
}

/// To call a folder here as the server does belongs to taking over a Maildir: later, what looks as
/// if another program had made it is a folder of its own.
#[test]
fn a_dot_is_no_separator_once_the_maildir_is_ours() {
    let world = World::empty(with_dots());
    world.mk.sync_ok();
    make_folder(&world.mk.folder("a.b"));
    deliver(&world.mk.folder("a.b"), &world.mint.letter(300));
    world.server.imap().append_all("a/b", &world.mint.letters(301..303));
    world.mk.sync_ok();
    world.assert_same();
    assert_eq!((world.local("a.b").len(), world.local("a/b").len()), (1, 2));
    assert_eq!(world.remote("a.b").len(), 1);
}

/// What was left alone when the Maildir was taken over is taken over when it is not excluded any
/// more; and until then `status` says what it is.
#[test]
fn what_was_excluded_at_first_is_taken_over_later() {
    let mut world = World::empty(Dovecot::start());
    let letters = world.mint.letters(0..3);
    world.server.seed("a/b", &letters);
    world.server.seed("Work", &world.mint.letters(3..5));
    world.mk.set_raw("exclude", "[\"a/b\"]");
    make_folder(&world.mk.folder("a.b"));
    for letter in &letters {
        deliver(&world.mk.folder("a.b"), letter);
    }
    for _ in 0..2 {
        let said = world.mk.sync_ok().text();
        assert!(said.contains("a.b is left alone"), "{said}");
        assert_eq!(world.changes(), Vec::<String>::new());
        assert_eq!(world.local("a.b").len(), 3);
    }
    assert!(notes(&world.mk.status()).contains("a.b is left alone"));
    world.mk.unset("exclude");
    world.proxy.reset();
    let said = world.mk.sync_ok().text();
    assert!(said.contains("a.b is the server's folder a/b"), "{said}");
    assert_eq!(world.changes(), Vec::<String>::new());
    assert_eq!(world.local("a/b").len(), 3);
    world.assert_same();
}

/// A folder that mbsync wrote, and that the server calls otherwise meanwhile, or has no more, gets
/// its proper name here: else the server would get one that nobody can read.
#[test]
fn a_foreign_name_that_the_server_has_no_more() {
    let world = World::empty(Dovecot::start());
    let (renamed, gone) = (world.mint.letters(0..3), world.mint.letters(3..5));
    world.server.seed("Entwürfe alt", &renamed);
    for (dir, letters) in [("Entw&APw-rfe", &renamed), ("Gel&APY-scht/Gr&APwA3w-e", &gone)] {
        make_folder(&world.mk.folder(dir));
        letters.iter().for_each(|l| drop(deliver(&world.mk.folder(dir), l)));
    }
    make_folder(&world.mk.folder("Gel&APY-scht"));
    let dry = world.mk.run(&["sync", "--dry-run"]).text();
    assert!(dry.contains("Entw&APw-rfe is the folder Entwürfe as other"), "{dry}");
    assert!(!dry.contains("fetch") && !dry.contains("folder Entw&"), "{dry}");
    assert!(world.mk.folder("Entw&APw-rfe").is_dir());
    // what nobody has waits for a decision, as in any Maildir that is taken over
    let said = world.mk.sync().expect(3).text();
    assert!(said.contains("renamed to"), "{said}");
    world.assert_no_bodies();
    let mut folders = world.server.imap().list();
    folders.retain(|f| f.contains('&') || f.contains("alt") || f.contains("Gel"));
    assert_eq!(folders, ["Entwürfe alt", "Gelöscht", "Gelöscht/Grüße"]);
    assert_eq!(world.local("Gelöscht/Grüße").len(), 2);
    assert_eq!(world.local("Entwürfe alt").len() + world.local("Entwürfe").len(), 3);
    assert_eq!(world.remote("Entwürfe alt").len() + world.remote("Entwürfe").len(), 3);
    assert!(!world.mk.folder("Gel&APY-scht").exists());
    world.mk.run(&["approve", "test", "1"]).expect(0);
    world.mk.sync_ok();
    world.assert_same();
}

/// One that comes later, or beside the proper one, is not taken for a name that somebody chose.
#[test]
fn a_foreign_name_that_comes_later() {
    let world = synced();
    for (dir, next) in
        [("Entw&APw-rfe", "(rename it to "), ("&ANw-berblick/&ZeVnLA-", "(move its messages into ")]
    {
        make_folder(&world.mk.folder(dir));
        deliver(&world.mk.folder(dir), &world.mint.letter(300));
        for _ in 0..2 {
            let said = world.mk.sync_ok().text();
            assert!(
                said.contains(&format!("{dir} is left alone")) && said.contains(next),
                "{said}"
            );
        }
        assert!(notes(&world.mk.status()).contains(&format!("{dir} is left alone")));
        fs::remove_dir_all(world.mk.folder(dir)).unwrap();
    }
    assert_eq!(world.changes(), Vec::<String>::new());
    // what the server calls so is called so
    world.server.imap().append("Gr&APwA3w-e", &world.mint.letter(301));
    world.mk.sync_ok();
    deliver(&world.mk.folder("Gr&APwA3w-e"), &world.mint.letter(302));
    world.mk.sync_ok();
    world.assert_same();
}

/// A name that cannot be on the server waits, with the next step, and nothing else does.
#[test]
fn a_name_that_the_server_does_not_take() {
    for separator in ['.', '/'] {
        let world = World::synced(Dovecot::with(Options { separator, ..Options::default() }));
        for folder in ["Foo.Bar", "Plain"] {
            make_folder(&world.mk.folder(folder));
            deliver(&world.mk.folder(folder), &world.mint.letter(300 + folder.len()));
        }
        for _ in 0..2 {
            let said = world.mk.sync_ok().text();
            let line = said.lines().find(|l| l.contains("Foo.Bar")).expect("it is said");
            assert!(line.contains("rename the folder here"), "{separator} {said}");
            assert_eq!(said.lines().filter(|l| l.contains("Foo.Bar")).count(), 1, "{said}");
        }
        assert_eq!(world.remote("Plain").len(), 1);
        let made = world.proxy.count("CREATE \"Foo");
        assert!(made <= 2, "once a pass: {:?}", world.proxy.commands());
        let status = world.mk.status();
        assert!(notes(&status).contains("Foo.Bar"), "{separator} {status}");
        assert_eq!(world.local("Foo.Bar").len(), 1);
        fs::rename(world.mk.folder("Foo.Bar"), world.mk.folder("FooBar")).unwrap();
        let said = world.mk.sync_ok().text();
        assert!(!said.contains("Foo.Bar"), "{separator} {said}");
        world.assert_same();
    }
}

/// mbsync in the style Verbatim puts a folder `sub/new` where `sub` has its new mail: a dry run,
/// which makes no folder of that, has no error to tell either.
#[test]
fn a_dry_run_where_another_programs_folder_is_called_new() {
    let world = World::empty(Dovecot::with(Options { separator: '.', ..Options::default() }));
    let letters = world.mint.letters(0..3);
    world.server.imap().append_all("sub/new", &letters);
    make_folder(&world.mk.folder("sub/new"));
    letters.iter().for_each(|l| drop(deliver(&world.mk.folder("sub/new"), l)));
    let said = world.mk.run(&["sync", "--dry-run"]).expect(0).text();
    assert!(said.contains("folder sub has no cur here yet"), "{said}");
    assert!(!world.mk.folder("sub/cur").exists());
    world.mk.sync_ok();
    assert_eq!(world.remote("sub/new").len(), 3);
}

/// Every file and directory of the Maildir with its mtime.
fn everything(dir: &std::path::Path) -> Vec<(std::path::PathBuf, std::time::SystemTime)> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let is_dir = path.is_dir();
        out.push((path.clone(), fs::symlink_metadata(&path).unwrap().modified().unwrap()));
        if is_dir {
            out.extend(everything(&path));
        }
    }
    out.sort();
    out
}

/// The server is not asked for the same at every pass, and a pass that does nothing writes nothing;
/// but where the reason may be gone, or a person asks, it is asked again.
#[test]
fn a_folder_that_was_refused_is_not_asked_for_at_every_pass() {
    let world = synced();
    for folder in ["Foo.Bar", "Foo.Baz"] {
        make_folder(&world.mk.folder(folder));
    }
    deliver(&world.mk.folder("Foo.Bar"), &world.mint.letter(300));
    world.mk.sync_ok();
    let asked = || world.proxy.count("CREATE \"Foo.Bar");
    assert_eq!(asked(), 1, "{:?}", world.proxy.commands());
    let before = everything(world.mk.maildir());
    for _ in 0..2 {
        let said = world.mk.sync_ok().text();
        assert!(said.contains("Foo.Bar") && said.contains("sync --folder"), "{said}");
    }
    assert_eq!(asked(), 1);
    assert_eq!(everything(world.mk.maildir()), before);
    world.mk.run(&["sync", "--folder", "Foo.Bar"]).expect(0);
    assert_eq!((asked(), world.proxy.count("CREATE \"Foo.Baz")), (2, 1));
    world.server.imap().create("Other");
    world.mk.sync_ok();
    world.mk.sync_ok();
    assert_eq!((asked(), world.proxy.count("CREATE \"Foo.Baz")), (3, 2));
    // under names that can be, they are made, and the old names are forgotten
    for folder in ["Bar", "Baz"] {
        fs::rename(world.mk.folder(&format!("Foo.{folder}")), world.mk.folder(folder)).unwrap();
    }
    world.mk.sync_ok();
    world.assert_same();
    let status = world.mk.run(&["status"]).text();
    assert!(status.contains("Baz") && !status.contains("Foo.Ba"), "{status}");
}

/// Where the target of a move is refused, the move waits, whatever folders the pass was for.
#[test]
fn a_move_into_a_refused_folder_waits() {
    let world = synced();
    make_folder(&world.mk.folder("Foo.Bar"));
    let moved = world.local("Work").remove(0).path;
    let name = moved.file_name().unwrap();
    fs::rename(&moved, world.mk.folder("Foo.Bar").join("cur").join(name)).unwrap();
    for _ in 0..2 {
        let said = world.mk.run(&["sync", "--folder", "Work"]).expect(0).text();
        assert!(said.contains("Foo.Bar") && said.contains("rename the folder here"), "{said}");
    }
    assert_eq!(world.remote("Work").len(), 12);
    assert_eq!(world.proxy.count("CREATE"), 1, "{:?}", world.proxy.commands());
    fs::rename(world.mk.folder("Foo.Bar"), world.mk.folder("FooBar")).unwrap();
    world.mk.sync_ok();
    world.assert_same();
}

/// A trash that cannot be made is said, with what to do; the deletion waits for it.
#[test]
fn a_trash_that_the_server_refuses() {
    let server = Dovecot::with(Options { special_use: false, ..Options::default() });
    let mut world = World::synced(server);
    world.mk.deletes("mirror", "trash").policy("trash", "Foo.Trash");
    fs::remove_file(world.local("Work").remove(0).path).unwrap();
    for _ in 0..2 {
        let said = world.mk.sync_ok().text();
        assert!(said.contains("Foo.Trash") && said.contains("set policy.trash to"), "{said}");
    }
    assert_eq!(world.proxy.count("CREATE"), 1, "{:?}", world.proxy.commands());
    assert_eq!(world.remote("Work").len(), 12);
    world.mk.policy("trash", "Bin");
    world.mk.sync_ok();
    assert_eq!((world.remote("Work").len(), world.remote("Bin").len()), (11, 1));
}

/// mbsync in the style Verbatim puts a folder `.hid` there.
#[test]
fn a_hidden_folder_of_another_program() {
    let world = World::empty(with_dots());
    let letters = world.mint.letters(0..2);
    world.server.imap().append_all(".hid", &letters);
    make_folder(&world.mk.folder(".hid"));
    letters.iter().for_each(|l| drop(deliver(&world.mk.folder(".hid"), l)));
    world.mk.sync_ok();
    world.assert_no_bodies();
    assert_eq!(world.local("%2Ehid").len(), 2);
    assert!(!world.mk.folder(".hid").exists());
}
