//! Where other programs put a folder: mbsync and OfflineIMAP leave its name in the server's
//! spelling, OfflineIMAP joins its parts by a dot unless told otherwise, mbsync has a dot before each
//! part but the first if it is told so, and none of them escapes anything. Pure.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::layout::{Layout, NAME_MAX};
use crate::model::FolderName;

impl Layout {
    /// The directories, relative to the root, that other programs would give this folder, beside
    /// ours. `spellings` are what they may take for its components: as the server encodes them
    /// (modified UTF-7, RFC 3501 5.1.3), and with the namespace's prefix. `above` is where the
    /// folders above it are, the topmost first: they may have our names already.
    pub fn foreign_dirs(
        &self,
        name: &FolderName,
        spellings: &[Vec<String>],
        above: &[PathBuf],
    ) -> Vec<PathBuf> {
        let plain: Vec<String> = name.components().map(str::to_owned).collect();
        let mut ways: Vec<(PathBuf, Vec<String>)> = Vec::new();
        let mut way = |dir: &Path, parts: Vec<String>| ways.push((dir.to_owned(), parts));
        let root = Path::new("");
        if *self == Self::Nested && name.is_inbox() {
            way(root, vec!["Inbox".into()]);
            way(root, vec!["inbox".into()]);
        }
        for parts in std::iter::once(&plain).chain(spellings) {
            match self {
                Self::Nested if name.is_inbox() => {}
                Self::Nested => {
                    way(root, parts.clone());
                    way(root, vec![parts.join(".")]);
                    let below = |n: usize| parts.len().checked_sub(plain.len() - n);
                    for (dir, n) in above.iter().zip(1..plain.len()) {
                        if let Some(below) = below(n).and_then(|at| parts.get(at..)) {
                            way(dir, below.to_vec());
                        }
                    }
                }
                // INBOX is the root, and a dot in a name would read as two components
                Self::PlusPlus if name.is_inbox() || parts.iter().any(|c| c.contains('.')) => {}
                Self::PlusPlus => {
                    way(root, vec![format!(".{}", parts.join("."))]);
                    // of what is below INBOX, mbsync writes what is below it
                    if let Some((_, below)) = parts.split_first().filter(|(c, _)| *c == "INBOX")
                        && !below.is_empty()
                    {
                        way(root, vec![format!("..{}", below.join("."))]);
                    }
                }
            }
        }
        let mut seen = BTreeSet::from([self.relative_dir(name)]);
        let safe = |dir: &str| {
            let taken = matches!(dir, "cur" | "new" | "tmp");
            let odd = dir.contains(['/', '\0']);
            !(dir.is_empty() || dir == "." || dir == ".." || taken || odd) && dir.len() < NAME_MAX
        };
        // mbsync's "Verbatim" hides a folder whose name begins with a dot; below another, that is
        // how its "Legacy" calls the one without
        let hidden = |above: &Path, at: usize, dir: &str| {
            let theirs = at == 0 && above == root && !dir.starts_with(".mailkeep");
            dir.starts_with('.') && *self == Self::Nested && !theirs
        };
        let ways = ways.into_iter().filter(|(above, dirs)| {
            dirs.iter().enumerate().all(|(at, dir)| safe(dir) && !hidden(above, at, dir))
        });
        let all = ways.flat_map(|(above, dirs)| {
            // mbsync's "Legacy" puts a dot before whatever is below another folder
            let top = usize::from(above == root);
            let dotted = dirs.iter().enumerate().map(|(i, dir)| match i < top {
                true => dir.clone(),
                false => format!(".{dir}"),
            });
            [above.join(PathBuf::from_iter(&dirs)), above.join(PathBuf::from_iter(dotted))]
        });
        all.filter(|dir| seen.insert(dir.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs(layout: Layout, name: &str, spellings: &[&str]) -> Vec<String> {
        let name = FolderName::from_text(name).unwrap();
        let split = |s: &&str| s.split('/').map(str::to_owned).collect();
        let spellings: Vec<Vec<String>> = spellings.iter().map(split).collect();
        let parts: Vec<&str> = name.components().collect();
        let above = |n: usize| FolderName::from_components(parts[..n].iter().copied()).unwrap();
        let above: Vec<_> = (1..parts.len()).map(|n| layout.relative_dir(&above(n))).collect();
        let dirs = layout.foreign_dirs(&name, &spellings, &above);
        dirs.iter().map(|d| d.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn other_programs_spell_names_in_their_own_ways() {
        let wire = ["Entw&APw-rfe/2020"];
        assert_eq!(
            dirs(Layout::Nested, "Entwürfe/2020", &wire),
            [
                "Entwürfe/.2020",
                "Entwürfe.2020",
                "Entw&APw-rfe/2020",
                "Entw&APw-rfe/.2020",
                "Entw&APw-rfe.2020"
            ]
        );
        // the folder above has our name already
        let below = dirs(Layout::Nested, "Entwürfe/Grüße", &["Entw&APw-rfe/Gr&APwA3w-e"]);
        assert!(below.contains(&"Entwürfe/Gr&APwA3w-e".into()), "{below:?}");
        assert!(below.contains(&"Entwürfe/.Gr&APwA3w-e".into()), "{below:?}");
        assert_eq!(dirs(Layout::PlusPlus, "Entwürfe/2020", &wire), [".Entw&APw-rfe.2020"]);
        assert_eq!(
            dirs(Layout::PlusPlus, "INBOX/ü/a", &["INBOX/&APw-/a"]),
            ["..ü.a", ".INBOX.&APw-.a", "..&APw-.a"]
        );
        assert_eq!(dirs(Layout::PlusPlus, "Work", &["INBOX/Work"]), [".INBOX.Work", "..Work"]);
        assert_eq!(dirs(Layout::Nested, "50%25 off", &["50% off"]), ["50% off"]);
        assert_eq!(dirs(Layout::Nested, "a/b", &["a/b"]), ["a/.b", "a.b"]);
        assert_eq!(
            dirs(Layout::Nested, "a/b", &["INBOX/a/b"]),
            ["a/.b", "a.b", "INBOX/a/b", "INBOX/.a/.b", "INBOX.a.b"]
        );
        assert_eq!(dirs(Layout::Nested, "INBOX", &["INBOX"]), ["Inbox", "inbox"]);
    }

    #[test]
    fn none_of_them_is_ours_or_leads_elsewhere() {
        for name in ["Work", "..", "%2Fetc", "cur", "a/../b", ".git", "x/cur"] {
            for dir in dirs(Layout::Nested, name, &[name]) {
                assert!(!dir.split('/').any(|c| matches!(c, "" | ".." | "cur")), "{dir}");
            }
        }
        assert!(dirs(Layout::Nested, "Work", &["Work"]).is_empty());
        assert_eq!(dirs(Layout::Nested, ".hid/.x", &[".hid/.x"]), [".hid..x"]);
        assert!(dirs(Layout::Nested, ".mailkeep.lock", &[".mailkeep.lock"]).is_empty());
        assert!(dirs(Layout::PlusPlus, "Work/a", &["Work/a"]).is_empty());
        assert!(dirs(Layout::PlusPlus, "INBOX", &["INBOX"]).is_empty());
        assert!(dirs(Layout::PlusPlus, "a.b", &["a.b"]).is_empty());
    }
}
