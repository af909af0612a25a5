//! A filesystem that forgets what was not fsynced: from the steps up to a kill, what a power cut
//! at that moment would have left, at worst.
//!
//! A name (made, renamed, removed) lasts once its directory was fsynced; until then the old state
//! comes back. A rename is one change, as in every journaling filesystem: it lasts with either of
//! its directories. A file that was not fsynced is empty. What an open file is called does not
//! matter. syncfs makes everything last.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::tree::{copy_file, walk};

/// A file or directory, whatever its names.
struct Inode {
    is_dir: bool,
    /// Its bytes were fsynced, and not written to since.
    lasts: bool,
    /// It was there before, under this name, and nobody writes into files that are there.
    before: Option<PathBuf>,
}

/// A change of names that would be forgotten.
struct Pending {
    inode: usize,
    removed: Option<PathBuf>,
    added: Option<PathBuf>,
}

impl Pending {
    fn is_in(&self, dir: &Path) -> bool {
        [&self.removed, &self.added].into_iter().flatten().any(|p| p.parent() == Some(dir))
    }
}

/// Names are relative to the Maildir.
#[derive(Default)]
pub struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    lasting: BTreeMap<PathBuf, usize>,
    pending: Vec<Pending>,
}

impl Disk {
    /// What stands in a Maildir, all of it there for long.
    pub fn of(root: &Path) -> Self {
        let mut disk = Self::default();
        for (path, is_dir) in walk(root) {
            disk.inodes.push(Inode { is_dir, lasts: true, before: Some(path.clone()) });
            disk.names.insert(path.clone(), disk.inodes.len() - 1);
            disk.lasting.insert(path, disk.inodes.len() - 1);
        }
        disk
    }

    /// Follows the steps in the Maildir at `root`.
    pub fn follow(&mut self, root: &Path, steps: &[String]) {
        for step in steps {
            let mut words = step.split('\t');
            let effect = words.next().expect("a word");
            let below = |p: &str| Path::new(p).strip_prefix(root).map(Path::to_owned).ok();
            let paths: Vec<PathBuf> = words.filter_map(below).collect();
            match (effect, paths.as_slice()) {
                ("create", [p]) => self.make(p, false),
                ("mkdir", [p]) => self.make(p, true),
                ("write", [p]) => self.inode(p).lasts = false,
                ("fsync", [p]) => self.inode(p).lasts = true,
                ("rename", [from, to]) => {
                    let inode = self.names.remove(from).expect("it is there");
                    self.names.insert(to.clone(), inode);
                    self.later(inode, Some(from), Some(to));
                }
                ("link", [from, to]) => {
                    let inode = self.names[from];
                    self.names.insert(to.clone(), inode);
                    self.later(inode, None, Some(to));
                }
                ("unlink" | "rmdir", [p]) => {
                    let inode = self.names.remove(p).expect("it is there");
                    self.later(inode, Some(p), None);
                }
                ("fsync-dir", [dir]) => self.sync_dir(dir),
                ("syncfs", [_]) => {
                    self.inodes.iter_mut().for_each(|i| i.lasts = true);
                    for p in std::mem::take(&mut self.pending) {
                        self.apply(p);
                    }
                }
                // outside: the ledger, which SQLite makes last, and the directory above
                ("commit" | "send" | "answered" | "failed" | "fsync-dir" | "dele" | "quit", _) => {}
                _ => panic!("a step that the model of the disk does not know: {step}"),
            }
        }
    }

    fn inode(&mut self, path: &Path) -> &mut Inode {
        let inode = *self.names.get(path).unwrap_or_else(|| panic!("no {}", path.display()));
        &mut self.inodes[inode]
    }

    fn make(&mut self, path: &Path, is_dir: bool) {
        self.inodes.push(Inode { is_dir, lasts: is_dir, before: None });
        let inode = self.inodes.len() - 1;
        let replaced = self.names.insert(path.to_owned(), inode);
        assert_eq!(replaced, None, "{} is there", path.display());
        self.later(inode, None, Some(path));
    }

    fn later(&mut self, inode: usize, removed: Option<&Path>, added: Option<&Path>) {
        let (removed, added) = (removed.map(Path::to_owned), added.map(Path::to_owned));
        self.pending.push(Pending { inode, removed, added });
    }

    fn apply(&mut self, p: Pending) {
        if let Some(name) = p.removed
            && self.lasting.get(&name) == Some(&p.inode)
        {
            self.lasting.remove(&name);
        }
        if let Some(name) = p.added {
            self.lasting.insert(name, p.inode);
        }
    }

    /// What changed in the directory lasts, and with it what was done to the same files before.
    fn sync_dir(&mut self, dir: &Path) {
        let mut left = Vec::new();
        let mut now = Vec::new();
        let mut inodes = BTreeSet::new();
        for p in std::mem::take(&mut self.pending).into_iter().rev() {
            if p.is_in(dir) || inodes.contains(&p.inode) {
                inodes.insert(p.inode);
                now.push(p);
            } else {
                left.push(p);
            }
        }
        now.into_iter().rev().for_each(|p| self.apply(p));
        left.reverse();
        self.pending = left;
    }

    /// Builds in `to` what a power cut leaves of the Maildir at `root`, which once was `before`.
    pub fn after_power_cut(&self, before: &Path, root: &Path, to: &Path) {
        fs::create_dir_all(to).expect("mkdir");
        for (name, inode) in &self.lasting {
            // What stands in a directory that does not last is lost. Parents come first.
            if !to.join(name).parent().is_some_and(Path::is_dir) {
                continue;
            }
            let i = &self.inodes[*inode];
            let target = to.join(name);
            if i.is_dir {
                fs::create_dir_all(&target).expect("mkdir");
            } else if let Some(old) = &i.before {
                copy_file(&before.join(old), &target);
            } else if !i.lasts {
                fs::write(&target, "").expect("write");
            } else {
                let now = self.names.iter().find(|(_, n)| *n == inode);
                let (now, _) = now.unwrap_or_else(|| panic!("no bytes of {}", name.display()));
                copy_file(&root.join(now), &target);
            }
        }
    }
}

/// The steps that a run wrote down.
pub fn steps(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_disk_forgets() {
    let t = tempfile::tempdir().unwrap();
    let (before, now, after) = (t.path().join("before"), t.path().join("now"), t.path().join("x"));
    for root in [&before, &now] {
        fs::create_dir_all(root.join("cur")).unwrap();
        fs::create_dir_all(root.join("tmp")).unwrap();
        fs::write(root.join("cur/old"), "old").unwrap();
    }
    let mut disk = Disk::of(&before);
    let cut = |disk: &Disk| {
        let _ = fs::remove_dir_all(&after);
        disk.after_power_cut(&before, &now, &after);
        let files = walk(&after).into_iter().filter(|(_, is_dir)| !is_dir);
        files
            .map(|(p, _)| (p.display().to_string(), fs::read_to_string(after.join(&p)).unwrap()))
            .collect::<Vec<_>>()
    };
    let old = ("cur/old".to_owned(), "old".to_owned());
    let root = now.display().to_string();
    let follow = |disk: &mut Disk, steps: &[&str]| {
        let with_root = |s: &&str| s.replace(' ', &format!("\t{root}/"));
        disk.follow(&now, &steps.iter().map(with_root).collect::<Vec<_>>());
    };
    follow(&mut disk, &["create tmp/a", "write tmp/a"]);
    assert_eq!(cut(&disk), std::slice::from_ref(&old));
    follow(&mut disk, &["rename tmp/a cur/a", "fsync-dir cur"]);
    assert_eq!(cut(&disk), [("cur/a".into(), String::new()), old.clone()], "a name, no bytes");
    fs::write(now.join("cur/a"), "new").unwrap();
    follow(&mut disk, &["fsync cur/a", "unlink cur/old"]);
    let new = ("cur/a".to_owned(), "new".to_owned());
    assert_eq!(cut(&disk), [new.clone(), old.clone()], "an unlink is undone");
    follow(&mut disk, &["mkdir sub", "create sub/b", "fsync sub/b", "fsync-dir sub"]);
    assert_eq!(cut(&disk), [new.clone(), old], "a directory that does not last");
    fs::create_dir(now.join("sub")).unwrap();
    fs::write(now.join("sub/b"), "b").unwrap();
    fs::rename(now.join("cur/a"), now.join("sub/a")).unwrap();
    follow(&mut disk, &["fsync-dir cur", "rename cur/a sub/a"]);
    assert_eq!(cut(&disk), [new], "the unlink lasts, the rename does not");
    follow(&mut disk, &["syncfs "]);
    let want = [("sub/a".to_owned(), "new".to_owned()), ("sub/b".to_owned(), "b".to_owned())];
    assert_eq!(cut(&disk), want);
}
