//! The watcher on real directories. Each test waits for a hint, with a limit; that something is
//! told by none is shown by what comes after it, since events keep their order.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::maildir::{self, Layout, link_or_copy, publish, stage_bytes};
use crate::model::{BaseName, FileName, Place, Subdir};

fn run<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

fn name(s: &str) -> FolderName {
    FolderName::from_text(s).unwrap()
}

/// A maildir with these folders, and its watcher, which has said that it began.
struct World {
    dir: tempfile::TempDir,
    maildir: Maildir,
    watcher: Watcher,
}

impl World {
    async fn new(layout: Layout, folders: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("mail");
        fs::create_dir(&root).unwrap();
        let maildir = Maildir::open(&root, layout).unwrap();
        for f in folders {
            maildir.create_folder(&name(f)).unwrap();
        }
        let watcher = Watcher::start(&root, layout).unwrap();
        let mut world = Self { dir, maildir, watcher };
        assert_eq!(world.hint().await, Hint::Everything(Why::Started));
        world
    }

    fn dir(&self, folder: &str) -> PathBuf {
        self.maildir.dir(&name(folder))
    }

    /// As another program delivers.
    fn deliver(&self, folder: &str, file: &str) {
        let dir = self.dir(folder);
        fs::write(dir.join("tmp").join(file), "x").unwrap();
        fs::rename(dir.join("tmp").join(file), dir.join("new").join(file)).unwrap();
    }

    async fn hint(&mut self) -> Hint {
        let next = tokio::time::timeout(Duration::from_secs(20), self.watcher.changed());
        next.await.expect("a hint within 20 s")
    }

    /// The next hint has these folders, and no more.
    async fn heard(&mut self, folders: &[&str]) {
        let folders = folders.iter().map(|f| name(f)).collect();
        assert_eq!(self.hint().await, Hint::Folders(folders));
    }

    /// Everything is to be looked at because of the folders, perhaps more than once.
    async fn folders_heard(&mut self, then: &str) {
        assert_eq!(self.hint().await, Hint::Everything(Why::Folders));
        self.deliver(then, "then");
        loop {
            match self.hint().await {
                Hint::Everything(Why::Folders) => {}
                Hint::Folders(f) => return assert_eq!(f, BTreeSet::from([name(then)])),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn place(text: &str) -> Place {
    let (sub, file) = text.split_once('/').unwrap();
    let sub = if sub == "new" { Subdir::New } else { Subdir::Cur };
    Place { sub, file: FileName::parse(std::ffi::OsStr::new(file)).unwrap() }
}

#[test]
fn arrivals_flags_and_removals_are_heard() {
    for layout in [Layout::Nested, Layout::PlusPlus] {
        run(async {
            let mut w = World::new(layout, &["INBOX", "a/b"]).await;
            w.deliver("INBOX", "1");
            w.heard(&["INBOX"]).await;
            assert!(w.watcher.complete().contains(&name("INBOX"), &place("new/1")));
            let inbox = w.dir("INBOX");
            fs::rename(inbox.join("new/1"), inbox.join("cur/1:2,S")).unwrap();
            w.heard(&["INBOX"]).await;
            w.deliver("a/b", "2");
            w.heard(&["a/b"]).await;
            fs::remove_file(inbox.join("cur/1:2,S")).unwrap();
            w.heard(&["INBOX"]).await;
            assert!(!w.watcher.complete().contains(&name("INBOX"), &place("cur/1:2,S")));
            assert_eq!(w.watcher.degraded(), None);
        });
    }
}

#[test]
fn what_is_no_message_is_not_heard() {
    run(async {
        let mut w = World::new(Layout::Nested, &["INBOX", "a"]).await;
        let inbox = w.dir("INBOX");
        fs::write(inbox.join("cur/.nfs1"), "x").unwrap();
        fs::write(inbox.join("tmp/1"), "x").unwrap();
        fs::create_dir(w.maildir.root().join(".notmuch")).unwrap();
        fs::create_dir(inbox.join("cur/dir")).unwrap();
        fs::write(w.maildir.root().join("file"), "x").unwrap();
        fs::read_dir(inbox.join("cur")).unwrap().for_each(drop);
        w.deliver("a", "1");
        w.heard(&["a"]).await;
    });
}

#[test]
fn our_own_doings_are_not_heard_and_those_of_others_beside_them_are() {
    run(async {
        let mut w = World::new(Layout::Nested, &["a", "b", "c"]).await;
        let (a, b) = (w.dir("a"), w.dir("b"));
        let base = BaseName::ours(1, 2, 3);
        let staged = stage_bytes(&a, base.clone(), b"Subject: x\r\n\r\nx\r\n", 1_000).unwrap();
        let there = Place { sub: Subdir::New, file: FileName::bare(base) };
        publish(&a, &staged, &there).unwrap();
        maildir::rename(&a, &there, &b, &place("cur/1:2,S")).unwrap();
        let path = maildir::place_path(&b, &place("cur/1:2,S"));
        let stat = maildir::stat(&path).unwrap();
        link_or_copy(&path, &stat, &a, &place("cur/linked"), 1_000).unwrap();
        link_or_copy(&path, &stat, &a, &place("cur/copied"), 2_000).unwrap();
        maildir::unlink(&a, &place("cur/linked")).unwrap();
        maildir::rename(&b, &place("cur/gone"), &b, &place("cur/nowhere")).unwrap_err();
        w.deliver("c", "1");
        w.heard(&["c"]).await;
        assert!(!w.watcher.complete().contains(&name("a"), &place("cur/copied")));

        // the one that failed hides nothing, nor does one that was seen
        fs::rename(b.join("cur/1:2,S"), b.join("cur/nowhere")).unwrap();
        w.heard(&["b"]).await;
        fs::remove_file(a.join("cur/copied")).unwrap();
        w.heard(&["a"]).await;
        maildir::unlink(&b, &place("cur/nowhere")).unwrap();
        w.deliver("b", "nowhere");
        w.heard(&["b"]).await;
    });
}

#[test]
fn new_folders_are_watched_with_what_they_had_before() {
    for layout in [Layout::Nested, Layout::PlusPlus] {
        run(async {
            let mut w = World::new(layout, &["INBOX"]).await;
            // by another program, in one go
            w.maildir.create_folder(&name("new one/below")).unwrap();
            w.deliver("new one/below", "early");
            w.folders_heard("new one/below").await;
            // moved in from elsewhere, whole
            let outside = w.dir.path().join("outside");
            let other = Maildir::open(w.dir.path(), layout).unwrap();
            other.create_folder(&name("outside")).unwrap();
            let outside =
                if layout == Layout::Nested { outside } else { other.dir(&name("outside")) };
            fs::rename(outside, w.dir("moved")).unwrap();
            w.folders_heard("moved").await;
        });
    }
}

#[test]
fn a_renamed_folder_is_known_by_its_new_name() {
    run(async {
        let mut w = World::new(Layout::Nested, &["a/deep", "b"]).await;
        fs::rename(w.maildir.root().join("a"), w.maildir.root().join("c")).unwrap();
        w.folders_heard("c/deep").await;
        fs::remove_dir_all(w.dir("b")).unwrap();
        w.folders_heard("c/deep").await;
        // the old name again, and another directory
        w.maildir.create_folder(&name("a/deep")).unwrap();
        w.folders_heard("a/deep").await;
    });
}

#[test]
fn symlinks_are_not_followed() {
    run(async {
        let mut w = World::new(Layout::Nested, &["a"]).await;
        let outside = Maildir::open(w.dir.path(), Layout::Nested).unwrap();
        outside.create_folder(&name("x")).unwrap();
        symlink(w.dir.path().join("x"), w.maildir.root().join("link")).unwrap();
        fs::write(w.dir.path().join("x/new/1"), "x").unwrap();
        w.deliver("a", "1");
        w.heard(&["a"]).await;
    });
}

#[test]
fn a_file_that_is_being_written_is_not_whole() {
    use std::io::Write;
    run(async {
        let mut w = World::new(Layout::Nested, &["a"]).await;
        let (a, complete) = (w.dir("a"), w.watcher.complete());
        let whole = |p: &str| complete.contains(&name("a"), &place(p));
        let mut file = fs::File::create(a.join("new/1")).unwrap();
        w.heard(&["a"]).await;
        assert!(!whole("new/1"));
        // a reader renames it meanwhile
        fs::rename(a.join("new/1"), a.join("cur/1:2,")).unwrap();
        w.heard(&["a"]).await;
        assert!(!whole("cur/1:2,"));
        file.write_all(b"x").unwrap();
        drop(file);
        w.heard(&["a"]).await;
        assert!(whole("cur/1:2,"));
        // written to again
        let mut file = fs::File::options().append(true).open(a.join("cur/1:2,")).unwrap();
        file.write_all(b"y").unwrap();
        w.deliver("a", "2");
        w.heard(&["a"]).await;
        assert!(whole("new/2") && !whole("cur/1:2,"));
    });
}

#[test]
fn keywords_of_another_program_are_heard_and_ours_are_not() {
    run(async {
        let mut w = World::new(Layout::Nested, &["a", "b"]).await;
        let target = w.dir("a").join("dovecot-keywords");
        let scratch = w.dir("a").join("tmp/keywords.mailkeep");
        maildir::disk::replace_file(scratch, &target, b"0 x\n").unwrap();
        w.deliver("b", "1");
        w.heard(&["b"]).await;
        fs::write(w.dir("a").join("tmp/k"), "0 y\n").unwrap();
        fs::rename(w.dir("a").join("tmp/k"), target).unwrap();
        w.heard(&["a"]).await;
    });
}

#[test]
fn a_root_that_goes_away_is_missed_and_found_again() {
    run(async {
        let mut w = World::new(Layout::Nested, &["a"]).await;
        let (root, aside) = (w.maildir.root().to_owned(), w.dir.path().join("aside"));
        fs::rename(&root, &aside).unwrap();
        assert_eq!(w.hint().await, Hint::Everything(Why::Lost));
        let e = w.watcher.degraded().expect("a reason");
        assert_eq!(e.kind, Kind::Maildir);
        assert_eq!(
            Watcher::start(&root, Layout::Nested).err().map(|e| e.kind),
            Some(Kind::Maildir)
        );
        fs::rename(&aside, &root).unwrap();
        assert_eq!(w.hint().await, Hint::Everything(Why::Lost));
        assert_eq!(w.watcher.degraded(), None);
        w.deliver("a", "1");
        w.heard(&["a"]).await;
    });
}

#[test]
fn an_overflow_is_everything() {
    let dir = tempfile::tempdir().unwrap();
    let maildir = Maildir::open(dir.path(), Layout::Nested).unwrap();
    maildir.create_folder(&name("a")).unwrap();
    let cur = maildir.dir(&name("a")).join("cur");
    let (expected, complete) = (Expected::register(dir.path()), Complete::default());
    let mut tree = Tree::new(dir.path(), Layout::Nested, expected, complete).unwrap();
    // nobody reads
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    let names = [cur.join("1"), cur.join("2")];
    fs::write(&names[0], "x").unwrap();
    for n in 0..limit / 2 + 10 {
        fs::rename(&names[n % 2], &names[(n + 1) % 2]).unwrap();
    }
    let mut news = News::default();
    tree.read(&mut news).unwrap();
    assert_eq!(news.everything, Some(Why::Overflow));
    assert!(tree.is_stale() && !tree.is_gone());
}

#[test]
fn what_is_used_up_is_said_with_the_way_to_raise_it() {
    let e = unwatched(Path::new("/mail"), Errno::NOSPC);
    assert!(e.next.contains("sysctl fs.inotify.max_user_watches="), "{e}");
    let e = unwatched(Path::new("/mail"), Errno::MFILE);
    assert!(e.next.contains("sysctl fs.inotify.max_user_instances="), "{e}");
}
