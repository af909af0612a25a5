//! What the user wants of a folder: the policy of the account with its rules laid over it, first
//! match first, key by key. Pure.

pub mod decide;
mod decision;

use std::fmt;

use globset::{Glob, GlobMatcher};

use crate::model::{FolderName, SpecialUse};

/// What happens here to a message that went from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteDelete {
    /// The local copy stays.
    Keep,
    /// The local copy goes too.
    Mirror,
}

/// What happens on the server to a message that was removed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalDelete {
    /// It is moved to the folder marked `\Trash`.
    Trash,
    /// It is expunged.
    Mirror,
    /// It stays there, and does not come back here.
    Keep,
}

/// When deletions are held until a person approves: more than `messages`, and more than `percent`
/// of a folder or the account, in 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brake {
    /// Percent, 0 to 100.
    pub percent: u8,
    /// Messages.
    pub messages: u32,
}

impl Default for Brake {
    fn default() -> Self {
        Self { percent: 50, messages: 20 }
    }
}

/// Which folders: a glob on the UTF-8 name with `/` as separator, or a special use (`\Junk`).
#[derive(Debug, Clone)]
pub enum FolderPattern {
    /// By special use.
    Use(SpecialUse),
    /// By name. `*` matches `/` as well.
    Glob(GlobMatcher),
}

impl FolderPattern {
    /// From its text in the configuration. The error says what is wrong with it.
    pub fn parse(s: &str) -> Result<Self, String> {
        if s.starts_with('\\') {
            return SpecialUse::from_attribute(s).map(Self::Use).ok_or_else(|| {
                let known: Vec<_> = SpecialUse::ALL.iter().map(|(_, a)| *a).collect();
                format!("unknown special use {s:?}; known are {}", known.join(", "))
            });
        }
        if s.is_empty() {
            return Err("an empty pattern matches no folder".into());
        }
        Glob::new(s).map(|g| Self::Glob(g.compile_matcher())).map_err(|e| e.kind().to_string())
    }

    /// Whether the folder is meant.
    pub fn matches(&self, name: &FolderName, special_use: Option<SpecialUse>) -> bool {
        match self {
            Self::Use(u) => special_use == Some(*u),
            Self::Glob(g) => {
                g.is_match(name.to_glob_text())
                    || name.is_inbox() && g.glob().glob().eq_ignore_ascii_case("INBOX")
            }
        }
    }
}

impl fmt::Display for FolderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Use(u) => u.attribute(),
            Self::Glob(g) => g.glob().glob(),
        })
    }
}

/// One `[[accounts.NAME.rule]]`: what it does not say is left to later rules and the policy.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// Which folders; any of them.
    pub folders: Vec<FolderPattern>,
    /// `remote_delete`, if it says so.
    pub remote_delete: Option<RemoteDelete>,
    /// `local_delete`, if it says so.
    pub local_delete: Option<LocalDelete>,
    /// `upload`, if it says so.
    pub upload: Option<bool>,
}

/// `[accounts.NAME.policy]` with the account's rules and selection of folders.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What the rules leave open.
    pub remote_delete: RemoteDelete,
    /// What the rules leave open.
    pub local_delete: LocalDelete,
    /// What the rules leave open: whether new local messages go to the server.
    pub upload: bool,
    /// The folder that is `\Trash` where the server marks none.
    pub trash: Option<FolderName>,
    /// When deletions are held.
    pub brake: Brake,
    /// First match wins, key by key.
    pub rules: Vec<Rule>,
    /// Folders that are mirrored; any of them.
    pub include: Vec<FolderPattern>,
    /// Folders that are not, even if included.
    pub exclude: Vec<FolderPattern>,
    /// Never change the server.
    pub read_only: bool,
}

impl Default for Policy {
    /// Nothing is deleted anywhere but by moving it to the server's trash.
    fn default() -> Self {
        Self {
            remote_delete: RemoteDelete::Keep,
            local_delete: LocalDelete::Trash,
            upload: true,
            trash: None,
            brake: Brake::default(),
            rules: Vec::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            read_only: false,
        }
    }
}

/// What holds for one folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderPolicy {
    /// What happens here when the server's copy goes.
    pub remote_delete: RemoteDelete,
    /// What happens there when the local file goes.
    pub local_delete: LocalDelete,
    /// Whether new local messages go to the server.
    pub upload: bool,
}

impl Policy {
    /// What holds for this folder.
    pub fn of(&self, name: &FolderName, special_use: Option<SpecialUse>) -> FolderPolicy {
        let hits =
            || self.rules.iter().filter(|r| r.folders.iter().any(|p| p.matches(name, special_use)));
        FolderPolicy {
            remote_delete: hits().find_map(|r| r.remote_delete).unwrap_or(self.remote_delete),
            local_delete: hits().find_map(|r| r.local_delete).unwrap_or(self.local_delete),
            upload: hits().find_map(|r| r.upload).unwrap_or(self.upload),
        }
    }

    /// Whether the folder is mirrored. `by_name_only` is for what is mirrored only when a pattern
    /// other than `*` names it: other users' and shared namespaces, Gmail's `\Flagged` and
    /// `\Important`.
    pub fn selects(
        &self,
        name: &FolderName,
        special_use: Option<SpecialUse>,
        by_name_only: bool,
    ) -> bool {
        if self.exclude.iter().any(|p| p.matches(name, special_use)) {
            return false;
        }
        let mut named = self.include.iter().filter(|p| p.matches(name, special_use));
        if by_name_only {
            return named.any(|p| {
                !matches!(p, FolderPattern::Glob(g)
                if matches!(g.glob().glob(), "*" | "**"))
            });
        }
        self.include.is_empty() || named.next().is_some()
    }
}
