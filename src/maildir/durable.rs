//! How what was written becomes durable: one syncfs for many files where it reports write errors,
//! else an fsync each.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags};

use super::disk::{self, Filesystem};
use crate::steps::{line, step};
use crate::{Error, Result, Scope};

/// Up to this many files, an fsync each is cheaper than writing out the whole filesystem.
const FEW: usize = 4;

/// Threads that fsync side by side: the journal's commits are shared among them.
const THREADS: usize = 8;

/// Makes files durable. To be opened before they are written: only then does syncfs report their
/// write errors (Linux 5.8 and later).
pub struct Durability {
    /// The filesystem, if its syncfs can be relied on.
    whole: Option<OwnedFd>,
    root: PathBuf,
}

impl Durability {
    /// Looks at what the root of a maildir is on.
    pub fn open(root: &Path) -> Result<Self> {
        let fail = |e| disk::fail(Scope::Account, "open", root, e);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = disk::retry(|| rustix::fs::open(root, flags, Mode::empty())).map_err(fail)?;
        let whole = Filesystem::of(&fd).map_err(fail)?.syncfs_reports() && kernel_reports();
        Ok(Self { whole: whole.then_some(fd), root: root.to_owned() })
    }

    /// Makes many files durable, and with syncfs whatever else was written since. An error says
    /// that none of them may be relied on.
    pub fn sync_bulk(&self, files: &[PathBuf]) -> Result<()> {
        match &self.whole {
            Some(fd) if files.len() > FEW => {
                let write_out = || disk::retry(|| rustix::fs::syncfs(fd));
                step(|| line("syncfs", &[&self.root]), write_out)
                    .map_err(|e| disk::fail(Scope::Account, "write out", &self.root, e))
            }
            _ => sync_each(files),
        }
    }

    /// Makes one file durable.
    pub fn sync_one(&self, path: &Path) -> Result<()> {
        let fail = |e| disk::fail_message("fsync", path, e);
        let (file, _) = disk::open_file(path).map_err(fail)?;
        disk::sync_file(path, &file).map_err(|e| fail(e).widen(Scope::Folder))
    }
}

/// Fsyncs each directory once, in the order of their first mention: the target of a move comes
/// before its source.
pub fn sync_dirs(dirs: &[PathBuf]) -> Result<()> {
    let mut done: Vec<&PathBuf> = Vec::new();
    for dir in dirs {
        if done.contains(&dir) {
            continue;
        }
        let synced = disk::open_dir(dir).and_then(disk::sync_dir);
        synced.map_err(|e| disk::fail(Scope::Folder, "fsync", dir, e))?;
        done.push(dir);
    }
    Ok(())
}

fn sync_each(files: &[PathBuf]) -> Result<()> {
    let one = |path: &PathBuf| {
        let (file, _) = disk::open_file(path).map_err(|e| disk::fail_message("open", path, e))?;
        disk::sync_file(path, &file).map_err(|e| disk::fail(Scope::Account, "fsync", path, e))
    };
    if files.len() <= FEW {
        return files.iter().try_for_each(one);
    }
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            one(path)?;
        }
        Ok(())
    };
    std::thread::scope(|s| {
        let others: Vec<_> = (1..THREADS.min(files.len()))
            // Where no thread can be had, the others do its part.
            .filter_map(|_| std::thread::Builder::new().spawn_scoped(s, work).ok())
            .collect();
        let mut result = work();
        for t in others {
            let lost = || Error::account(crate::Kind::Internal, "a thread that fsyncs broke down");
            result = result.and(t.join().unwrap_or_else(|_| Err(lost())));
        }
        result
    })
}

/// Whether this kernel's syncfs returns write errors.
fn kernel_reports() -> bool {
    rustix::system::uname().release().to_str().is_ok_and(|r| version(r) >= Some((5, 8)))
}

/// Major and minor of a kernel release such as `6.1.0-13-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn kernels() {
        assert_eq!(version("5.8.0-rc1"), Some((5, 8)));
        assert_eq!(version("6.1-amd64"), Some((6, 1)));
        assert_eq!(version("x"), None);
        assert!(version("5.10.0") >= Some((5, 8)));
        assert!(version("4.19.0") < Some((5, 8)));
        assert!(version("?") < Some((5, 8)));
    }

    #[test]
    fn files_and_directories_are_synced_and_missing_ones_are_errors() {
        let t = tempfile::tempdir().unwrap();
        let d = Durability::open(t.path()).unwrap();
        let files: Vec<PathBuf> = (0..40).map(|i| t.path().join(format!("{i}"))).collect();
        for f in &files {
            std::fs::write(f, "x").unwrap();
        }
        d.sync_bulk(&files).unwrap();
        d.sync_bulk(&files[..2]).unwrap();
        d.sync_one(&files[0]).unwrap();
        sync_each(&files).unwrap();
        std::fs::remove_file(&files[17]).unwrap();
        assert_eq!(sync_each(&files).unwrap_err().kind, Kind::Raced);
        assert_eq!(d.sync_one(&files[17]).unwrap_err().kind, Kind::Raced);
        sync_dirs(&[t.path().to_owned(), t.path().to_owned()]).unwrap();
        assert_eq!(sync_dirs(&[t.path().join("gone")]).unwrap_err().scope, Scope::Folder);
        assert!(Durability::open(&t.path().join("gone")).is_err());
    }
}
