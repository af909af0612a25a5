//! Where other programs put a folder: mbsync and OfflineIMAP leave its name in the server's
//! spelling, OfflineIMAP joins its parts by a dot unless told otherwise, and none of them escapes
//! anything. Pure.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::layout::{Layout, NAME_MAX};
use crate::model::FolderName;

impl Layout {
    /// The directories, relative to the root, that other programs would give this folder, beside
    /// ours. `spellings` are what they may take for its components: as the server encodes them
    /// (modified UTF-7, RFC 3501 5.1.3), and with the namespace's prefix.
    pub fn foreign_dirs(&self, name: &FolderName, spellings: &[Vec<String>]) -> Vec<PathBuf> {
        let plain = name.components().map(str::to_owned).collect();
        let mut ways: Vec<Vec<String>> = Vec::new();
        if *self == Self::Nested && name.is_inbox() {
            ways.extend([vec!["Inbox".into()], vec!["inbox".into()]]);
        }
        for parts in std::iter::once(&plain).chain(spellings) {
            match self {
                Self::Nested if name.is_inbox() => {}
                Self::Nested => ways.extend([parts.clone(), vec![parts.join(".")]]),
                // INBOX is the root, and a dot in a name would read as two components
                Self::PlusPlus if name.is_inbox() || parts.iter().any(|c| c.contains('.')) => {}
                Self::PlusPlus => ways.push(vec![format!(".{}", parts.join("."))]),
            }
        }
        let ours = self.relative_dir(name);
        let mut seen = BTreeSet::from([ours]);
        let safe = |dir: &String| {
            let taken = matches!(dir.as_str(), "cur" | "new" | "tmp");
            let hidden = dir.starts_with('.') && *self == Self::Nested;
            let odd = dir.contains(['/', '\0']);
            !(dir.is_empty() || dir == "." || dir == ".." || taken || hidden || odd)
                && dir.len() <= NAME_MAX
        };
        let ways = ways.into_iter().filter(|dirs| dirs.iter().all(safe));
        ways.map(PathBuf::from_iter).filter(|dir| seen.insert(dir.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs(layout: Layout, name: &str, spellings: &[&str]) -> Vec<String> {
        let name = FolderName::from_text(name).unwrap();
        let split = |s: &&str| s.split('/').map(str::to_owned).collect();
        let spellings: Vec<Vec<String>> = spellings.iter().map(split).collect();
        let dirs = layout.foreign_dirs(&name, &spellings);
        dirs.iter().map(|d| d.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn other_programs_spell_names_in_their_own_ways() {
        let wire = ["Entw&APw-rfe/2020"];
        assert_eq!(
            dirs(Layout::Nested, "Entwürfe/2020", &wire),
            ["Entwürfe.2020", "Entw&APw-rfe/2020", "Entw&APw-rfe.2020"]
        );
        assert_eq!(dirs(Layout::PlusPlus, "Entwürfe/2020", &wire), [".Entw&APw-rfe.2020"]);
        assert_eq!(dirs(Layout::Nested, "50%25 off", &["50% off"]), ["50% off"]);
        assert_eq!(dirs(Layout::Nested, "a/b", &["a/b"]), ["a.b"]);
        assert_eq!(dirs(Layout::Nested, "a/b", &["INBOX/a/b"]), ["a.b", "INBOX/a/b", "INBOX.a.b"]);
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
        assert!(dirs(Layout::PlusPlus, "Work/a", &["Work/a"]).is_empty());
        assert!(dirs(Layout::PlusPlus, "INBOX", &["INBOX"]).is_empty());
        assert!(dirs(Layout::PlusPlus, "a.b", &["a.b"]).is_empty());
    }
}
