//! Directory trees: listed and copied with all that mail programs look at.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Everything below a directory, relative to it, parents first; and whether it is a directory.
pub fn walk(root: &Path) -> Vec<(PathBuf, bool)> {
    let mut out = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("read").map(|e| e.expect("read")) {
            let is_dir = entry.file_type().expect("type").is_dir();
            out.push((entry.path().strip_prefix(root).expect("below").to_owned(), is_dir));
            if is_dir {
                open.push(entry.path());
            }
        }
    }
    out.sort();
    out
}

/// Copies a file with its owner, mode and mtime.
pub fn copy_file(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    like(from, to);
}

/// Copies a tree to where nothing is yet.
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("mkdir");
    let all = walk(from);
    for (path, is_dir) in &all {
        if *is_dir {
            fs::create_dir(to.join(path)).expect("mkdir");
        } else {
            copy_file(&from.join(path), &to.join(path));
        }
    }
    // Last, since a directory's mtime changes with what is put into it.
    for (path, is_dir) in all.iter().rev() {
        if *is_dir {
            like(&from.join(path), &to.join(path));
        }
    }
    like(from, to);
}

/// Gives `to` the owner, mode and mtime of `from`.
fn like(from: &Path, to: &Path) {
    let meta = fs::metadata(from).expect("stat");
    fs::set_permissions(to, meta.permissions()).expect("chmod");
    let time = meta.modified().expect("mtime");
    fs::File::open(to).and_then(|f| f.set_modified(time)).expect("set mtime");
    let now = fs::metadata(to).expect("stat");
    if (now.uid(), now.gid()) != (meta.uid(), meta.gid()) {
        std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid())).expect("chown");
    }
}

/// Copies what the server has, from one account's home to another's, and what is here, if anything
/// is.
pub fn copy_sides(homes: (&Path, &Path), dirs: (&Path, &Path)) {
    copy_tree(&homes.0.join("Maildir"), &homes.1.join("Maildir"));
    for sub in ["mail", "state"] {
        if dirs.0.join(sub).is_dir() {
            copy_tree(&dirs.0.join(sub), &dirs.1.join(sub));
        }
    }
}
