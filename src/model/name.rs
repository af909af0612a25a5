//! Names of message files in a Maildir: `base:2,letters`. A base name and its letters say nothing
//! about UIDs or states; readers rename as they like.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::flags::SystemFlags;

/// The part of a file name before `:2,`. Bytes: not every Maildir is UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseName(Box<[u8]>);

/// The end of the base names that we make. A file named so came from a server once.
const OURS: &str = ".mailkeep";

impl BaseName {
    /// `None` for what cannot be the base name of a message: empty, with a leading dot, or with a
    /// `/` or NUL.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let bad = bytes.is_empty()
            || bytes.first() == Some(&b'.')
            || bytes.iter().any(|b| matches!(b, b'/' | 0));
        (!bad).then(|| Self(bytes.into()))
    }

    /// A name of ours: `seconds.random_counter.mailkeep`. The caller brings the time (Unix, in
    /// seconds), 64 random bits drawn once a process, and a counter.
    pub fn ours(unix_seconds: u64, random: u64, counter: u64) -> Self {
        Self(format!("{unix_seconds}.R{random:016x}_{counter}{OURS}").into_bytes().into())
    }

    /// Whether we made it.
    pub fn is_ours(&self) -> bool {
        self.0.ends_with(OURS.as_bytes())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for BaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.0).escape_debug())
    }
}
impl fmt::Display for BaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What stands behind `:2,`: the system letters, the keyword letters a–z, and what we do not know
/// (kept through our renames).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Info {
    /// D F P R S T.
    pub system: SystemFlags,
    /// Bit n is the letter n of the alphabet; a `dovecot-keywords` file says what they mean.
    pub letters: u32,
    /// Anything else, as it stood.
    pub other: String,
}

impl Info {
    /// From what stands behind `:2,`.
    pub fn parse(s: &str) -> Self {
        let mut i = Self::default();
        for c in s.chars() {
            if let Some(f) = SystemFlags::from_letter(c) {
                i.system = i.system.union(f);
            } else if c.is_ascii_lowercase() {
                i.letters |= 1 << (u32::from(c) - u32::from('a'));
            } else {
                i.other.push(c);
            }
        }
        i
    }
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.system.letters())?;
        for (n, c) in ('a'..='z').enumerate() {
            if self.letters & (1 << n) != 0 {
                write!(f, "{c}")?;
            }
        }
        f.write_str(&self.other)
    }
}

/// `cur` or `new`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subdir {
    /// Seen by a reader, or with flags.
    Cur,
    /// Not yet looked at.
    New,
}

impl Subdir {
    /// The directory's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cur => "cur",
            Self::New => "new",
        }
    }
}

/// A message file's name in its subdirectory. `suffix` keeps whether `:2,` stood there at all, so
/// that the name is reproduced to the byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName {
    /// Before `:2,`.
    pub base: BaseName,
    /// As it stands on disk from the colon on: empty, or `:2,` and letters.
    suffix: Box<str>,
}

impl FileName {
    /// Whether a directory entry of this name can be a message.
    pub fn is_one(name: &[u8]) -> bool {
        !matches!(name.first(), None | Some(b'.')) && !name.iter().any(|b| matches!(b, b'/' | 0))
    }

    /// From a directory entry; `None` for what is no message (leading dot, …).
    pub fn parse(name: &OsStr) -> Option<Self> {
        let b = name.as_bytes();
        let cut = b.windows(3).rposition(|w| w == b":2,");
        let (base, suffix) = match cut {
            Some(i) => match (b.get(..i), std::str::from_utf8(b.get(i..)?)) {
                (Some(base), Ok(s)) if !base.is_empty() => (base, s),
                _ => (b, ""),
            },
            None => (b, ""),
        };
        Some(Self { base: BaseName::new(base)?, suffix: suffix.into() })
    }

    /// A base name with letters, `:2,` always written.
    pub fn new(base: BaseName, info: &Info) -> Self {
        Self { base, suffix: format!(":2,{info}").into() }
    }

    /// A base name alone, as in `new/`.
    pub fn bare(base: BaseName) -> Self {
        Self { base, suffix: "".into() }
    }

    /// From the ledger's two columns.
    pub fn from_parts(base: BaseName, suffix: &str) -> Self {
        Self { base, suffix: suffix.into() }
    }

    /// What follows the base name on disk: empty, or `:2,` and letters.
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// The letters.
    pub fn info(&self) -> Info {
        Info::parse(self.suffix.strip_prefix(":2,").unwrap_or(""))
    }

    /// The directory entry.
    pub fn to_os_string(&self) -> OsString {
        let mut v = self.base.as_bytes().to_vec();
        v.extend_from_slice(self.suffix.as_bytes());
        OsString::from_vec(v)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.base, self.suffix.escape_debug())
    }
}

/// Where a message file stands inside its folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// `cur` or `new`.
    pub sub: Subdir,
    /// The file's name there.
    pub file: FileName,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.sub.as_str(), self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_is_reproduced_to_the_byte(b in prop::collection::vec(any::<u8>(), 1..40),
                                           tail in "(:2,[A-Za-z]{0,6}){0,2}") {
            let mut v = b;
            v.extend_from_slice(tail.as_bytes());
            let os = OsString::from_vec(v);
            prop_assert_eq!(FileName::parse(&os).is_some(), FileName::is_one(os.as_bytes()));
            if let Some(n) = FileName::parse(&os) {
                prop_assert_eq!(n.to_os_string(), os);
            }
        }
    }

    #[test]
    fn letters_we_do_not_know_survive() {
        let n = FileName::parse(OsStr::new("1.x:2,SXZFa")).unwrap();
        assert_eq!(n.info().to_string(), "FSaXZ");
        assert_eq!(n.info().other, "XZ");
    }

    #[test]
    fn names_of_ours_are_known_again() {
        let b = BaseName::ours(1_700_000_000, 7, 3);
        assert_eq!(b.to_string(), "1700000000.R0000000000000007_3.mailkeep");
        assert!(b.is_ours());
        assert!(!BaseName::new(b"1.M2P3.host").unwrap().is_ours());
    }
}
