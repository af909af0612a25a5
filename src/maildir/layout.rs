//! Where a folder's directory is, and which folder a directory is: escaping both ways. Pure.

use std::path::{Path, PathBuf};

use crate::model::FolderName;

/// How folders are laid out below the root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `a/b` is `root/a/b/{cur,new,tmp}`, INBOX is `root/INBOX`.
    #[default]
    Nested,
    /// Maildir++: `a/b` is `root/.a.b`, INBOX is the root itself.
    PlusPlus,
}

impl Layout {
    /// The folder's directory, relative to the root; empty for INBOX in Maildir++.
    pub fn relative_dir(&self, _name: &FolderName) -> PathBuf {
        PathBuf::new()
    }
    /// The inverse. `None` where `relative` is no folder's directory in this layout.
    pub fn name_of(&self, _relative: &Path) -> Option<FolderName> {
        None
    }
}
