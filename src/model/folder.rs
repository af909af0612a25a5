//! Folder names as the user sees them: UTF-8 components, whatever the server's separator and
//! encoding, and whatever the layout on disk; and the special uses of RFC 6154.

use std::fmt;

/// A folder's name: one or more components. The namespace prefix and the server's separator are
/// gone. `INBOX` is spelled in capitals (RFC 9051 5.1).
///
/// A component may hold anything a server says, even nothing or `..`; only the layouts of
/// [`crate::maildir`] make paths of it, and they escape.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FolderName {
    components: Vec<Box<str>>,
}

impl FolderName {
    /// From components; `None` for no component or a single empty one.
    pub fn from_components<I, S>(parts: I) -> Option<Self>
    where
        I: IntoIterator<Item = S>,
        S: Into<Box<str>>,
    {
        let mut components: Vec<Box<str>> = parts.into_iter().map(Into::into).collect();
        match components.as_mut_slice() {
            [] => return None,
            [one] if one.is_empty() => return None,
            [one] if one.eq_ignore_ascii_case("INBOX") => *one = "INBOX".into(),
            _ => {}
        }
        Some(Self { components })
    }

    /// From text with `/` between components, in the form of [`FolderName::to_text`].
    pub fn from_text(s: &str) -> Option<Self> {
        Self::from_components(s.split('/').map(|c| c.replace("%2F", "/").replace("%25", "%")))
    }

    /// INBOX.
    pub fn inbox() -> Self {
        Self { components: vec!["INBOX".into()] }
    }

    /// Whether it is INBOX.
    pub fn is_inbox(&self) -> bool {
        matches!(self.components.as_slice(), [one] if &**one == "INBOX")
    }

    /// The components, outermost first; at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.components.iter().map(|c| &**c)
    }

    /// Reversible text with `/` between components: a `/` inside one is `%2F`, a `%` is `%25`.
    /// The ledger stores this.
    pub fn to_text(&self) -> String {
        let parts: Vec<String> =
            self.components().map(|c| c.replace('%', "%25").replace('/', "%2F")).collect();
        parts.join("/")
    }

    /// The name that globs are matched against, with `/` between components.
    pub fn to_glob_text(&self) -> String {
        self.components().collect::<Vec<_>>().join("/")
    }
}

impl fmt::Display for FolderName {
    /// For people: control characters are made harmless.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.to_glob_text().chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for FolderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_text())
    }
}

/// What a folder is for (RFC 6154; `\Important`, RFC 8457).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecialUse {
    /// Every message of the account.
    All,
    /// Kept on purpose.
    Archive,
    /// Not yet sent, and edited in place.
    Drafts,
    /// Every message with `\Flagged`.
    Flagged,
    /// What the server thinks important.
    Important,
    /// Spam.
    Junk,
    /// Sent.
    Sent,
    /// Deleted, and not yet gone.
    Trash,
}

impl SpecialUse {
    /// All of them with their attribute.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::All, "\\All"),
        (Self::Archive, "\\Archive"),
        (Self::Drafts, "\\Drafts"),
        (Self::Flagged, "\\Flagged"),
        (Self::Important, "\\Important"),
        (Self::Junk, "\\Junk"),
        (Self::Sent, "\\Sent"),
        (Self::Trash, "\\Trash"),
    ];

    /// From a LIST attribute, without regard to case.
    pub fn from_attribute(s: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, a)| a.eq_ignore_ascii_case(s)).map(|(u, _)| *u)
    }

    /// The LIST attribute.
    pub fn attribute(self) -> &'static str {
        Self::ALL.iter().find(|(u, _)| *u == self).map_or("", |(_, a)| a)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_back(parts in prop::collection::vec("[a/%. ü]{0,4}", 1..4)) {
            if let Some(n) = FolderName::from_components(parts) {
                prop_assert_eq!(FolderName::from_text(&n.to_text()), Some(n));
            }
        }
    }

    #[test]
    fn inbox_has_one_spelling() {
        assert_eq!(FolderName::from_text("inBox"), Some(FolderName::inbox()));
        assert!(!FolderName::from_text("a/INBOX").unwrap().is_inbox());
        assert_eq!(FolderName::from_text(""), None);
    }

    #[test]
    fn a_name_cannot_write_to_the_terminal() {
        let n = FolderName::from_text("a\u{1b}[2Jb").unwrap();
        assert_eq!(n.to_string(), "a\\u{1b}[2Jb");
    }
}
