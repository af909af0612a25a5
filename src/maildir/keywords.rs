//! What the letters a–z in file names mean: a folder's `dovecot-keywords` file, in Dovecot's format:
//! lines of an index (0 is the letter a) and a name.
//!
//! Dovecot writes what it likes there, `$Forwarded` too, which has a letter of its own here. A line
//! is never dropped and its letter never given to another keyword, whether or not its name says
//! anything to us.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::disk;
use crate::model::{Flags, Info, Keyword, SystemFlags};
use crate::{Error, Kind, Result, Scope};

/// The letters of one folder. A letter is its place in the alphabet, 0 to 25: the bit in
/// [`Info::letters`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeywordMap {
    names: BTreeMap<u32, Name>,
}

/// How many letters there are.
const LETTERS: u32 = 26;

/// What stands behind an index.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Keyword(Keyword),
    /// A flag that has a letter of its own, as it was spelled.
    System(SystemFlags, Box<str>),
    /// No flag at all. Kept, and not understood.
    Other(Box<str>),
}

impl Name {
    fn parse(s: &str) -> Self {
        match (Keyword::new(s), SystemFlags::from_imap(s)) {
            (Some(k), _) => Self::Keyword(k),
            (None, Some(f)) => Self::System(f, s.into()),
            (None, None) => Self::Other(s.into()),
        }
    }
    fn as_str(&self) -> &str {
        match self {
            Self::Keyword(k) => k.as_str(),
            Self::System(_, s) | Self::Other(s) => s,
        }
    }
}

impl KeywordMap {
    /// From the file's text. CRLF and blank lines are passed over, and so is a line without an
    /// index or a name; where an index stands twice, the first line counts. Indexes from 26 on are
    /// kept, but have no letter.
    pub fn parse(text: &str) -> Self {
        let mut names = BTreeMap::new();
        for line in text.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line);
            let Some((index, name)) = line.split_once(' ') else { continue };
            let Ok(index) = index.parse() else { continue };
            if !name.is_empty() {
                names.entry(index).or_insert_with(|| Name::parse(name));
            }
        }
        Self { names }
    }

    /// The file's text, which the ledger holds too.
    pub fn to_text(&self) -> String {
        let mut s = String::new();
        for (index, name) in &self.names {
            // Writing to a String cannot fail.
            let _ = writeln!(s, "{index} {}", name.as_str());
        }
        s
    }

    /// The keyword's letter, if it has one.
    pub fn letter_of(&self, keyword: &Keyword) -> Option<u8> {
        self.letters()
            .find(|(_, n)| matches!(n, Name::Keyword(k) if k == keyword))
            .map(|(letter, _)| letter)
    }

    /// What a letter means; `None` if it means nothing, or a flag with a letter of its own.
    pub fn keyword_of(&self, letter: u8) -> Option<&Keyword> {
        match self.names.get(&u32::from(letter)) {
            Some(Name::Keyword(k)) if u32::from(letter) < LETTERS => Some(k),
            _ => None,
        }
    }

    /// The keyword's letter, which is given to it if it has none yet. `None`: no letter is left, or
    /// the file has it at an index without a letter.
    pub fn assign(&mut self, keyword: &Keyword) -> Option<u8> {
        if let Some(letter) = self.letter_of(keyword) {
            return Some(letter);
        }
        if self.names.values().any(|n| matches!(n, Name::Keyword(k) if k == keyword)) {
            return None;
        }
        let free = (0..LETTERS).find(|i| !self.names.contains_key(i))?;
        self.names.insert(free, Name::Keyword(keyword.clone()));
        u8::try_from(free).ok()
    }

    /// What a file name says, and the letters that say nothing here (bits as in [`Info::letters`]).
    pub fn flags_of(&self, info: &Info) -> (Flags, u32) {
        let mut flags = Flags { system: info.system, keywords: BTreeSet::new() };
        let mut unknown = info.letters;
        for (letter, name) in self.letters() {
            let bit = 1 << letter;
            if info.letters & bit == 0 {
                continue;
            }
            match name {
                Name::Keyword(k) => {
                    flags.keywords.insert(k.clone());
                }
                Name::System(f, _) => flags.system = flags.system.union(*f),
                Name::Other(_) => continue,
            }
            unknown &= !bit;
        }
        (flags, unknown)
    }

    /// The letters for these flags, and the keywords that have none. What `old` holds beside
    /// letters, and letters that mean nothing here, stay as they are.
    pub fn info_for(&self, flags: &Flags, old: &Info) -> (Info, BTreeSet<Keyword>) {
        let mut info =
            Info { system: flags.system, letters: old.letters, other: old.other.clone() };
        for (letter, name) in self.letters() {
            let bit = 1 << letter;
            let set = match name {
                // Where a keyword stands at two indexes, either letter says it; ours is the first.
                Name::Keyword(k) if flags.keywords.contains(k) => {
                    let mut said = self.letters().filter(|(l, n)| {
                        old.letters & (1 << l) != 0 && matches!(n, Name::Keyword(o) if o == k)
                    });
                    old.letters & bit != 0
                        || (self.letter_of(k) == Some(letter) && said.next().is_none())
                }
                Name::Keyword(_) => false,
                // Its own letter says it; this one may stay beside it, but not without it.
                Name::System(f, _) => flags.has(*f) && old.letters & bit != 0,
                Name::Other(_) => continue,
            };
            info.letters = if set { info.letters | bit } else { info.letters & !bit };
        }
        let unsayable =
            flags.keywords.iter().filter(|k| self.letter_of(k).is_none()).cloned().collect();
        (info, unsayable)
    }

    fn letters(&self) -> impl Iterator<Item = (u8, &Name)> {
        self.names.range(..LETTERS).filter_map(|(i, n)| Some((u8::try_from(*i).ok()?, n)))
    }
}

/// The longest file that is read, in bytes. Dovecot's own are a few hundred.
const LONGEST: u64 = 1 << 20;

/// Reads a folder's file; `None` if there is none.
pub fn load(dir: &Path) -> Result<Option<KeywordMap>> {
    let path = path(dir);
    let fail = |e| disk::fail(Scope::Folder, "read", &path, e);
    let (file, st) = match disk::open_file(&path) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.map_err(fail)?,
    };
    if u64::try_from(st.st_size).unwrap_or(u64::MAX) > LONGEST {
        return Err(Error::folder(Kind::Io, format!("{} is too big", path.display()))
            .next("it should hold a line for each keyword; move it away"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).map_err(|e| fail(disk::errno(e)))?;
    Ok(Some(KeywordMap::parse(&String::from_utf8_lossy(&bytes))))
}

/// Whether a folder has no file. Costs a stat.
pub fn is_lost(dir: &Path) -> Result<bool> {
    let path = path(dir);
    match rustix::fs::lstat(&path) {
        Ok(_) => Ok(false),
        Err(Errno::NOENT) => Ok(true),
        Err(e) => Err(disk::fail(Scope::Folder, "read", &path, e)),
    }
}

/// Writes a folder's file, whole and durable.
pub fn save(dir: &Path, map: &KeywordMap) -> Result<()> {
    let path = path(dir);
    // A name of ours, so that it is cleared when it is left over.
    let scratch = dir.join("tmp").join("dovecot-keywords.mailkeep");
    disk::replace_file(scratch, &path, map.to_text().as_bytes())
        .map_err(|e| disk::fail(Scope::Folder, "write", &path, e))
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// The file's name, in the folder's directory.
pub(super) const FILE: &str = "dovecot-keywords";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kw(s: &str) -> Keyword {
        Keyword::new(s).unwrap()
    }

    proptest! {
        #[test]
        fn text_and_back(lines in prop::collection::vec(
            (0u32..40, "(\\$Forwarded|\\$?[a-c]{1,2}|a b|\\\\Seen|ü| x)", "\r?"), 0..12)) {
            let text: String = lines.iter().map(|(i, n, cr)| format!("{i} {n}{cr}\n")).collect();
            let m = KeywordMap::parse(&text);
            prop_assert_eq!(KeywordMap::parse(&m.to_text()), m.clone());
            for (i, _, _) in &lines {
                prop_assert!(m.names.contains_key(i));
            }
        }

        #[test]
        fn anything_is_parsed(text in "\\PC*") {
            let m = KeywordMap::parse(&text);
            prop_assert_eq!(KeywordMap::parse(&m.to_text()), m);
        }

        /// Flags written into a name are read from it again, and nothing else in it changes.
        #[test]
        fn letters_and_back(
            text in "([0-9]|1[0-9]|2[0-9]) [a-e]\n([0-9]|2[0-9]) \\$Forwarded\n[0-3] ü\n2 [a-e]\n",
            want in "( ?(a|b|c|d|e|z|\\$Forwarded|\\\\Seen)){0,5}", old in "[DFPRSTa-zX9]{0,9}") {
            let (map, want) = (KeywordMap::parse(&text), Flags::from_text(&want));
            let old = Info::parse(&old);
            let (info, unsayable) = map.info_for(&want, &old);
            let (said, unknown) = map.flags_of(&info);
            let missing = Flags { system: SystemFlags::empty(), keywords: unsayable };
            prop_assert_eq!(said.union(&missing), want.clone());
            prop_assert_eq!(said, want.minus(&missing));
            prop_assert_eq!(unknown, map.flags_of(&old).1);
            prop_assert_eq!(&info.other, &old.other);
            let (before, _) = map.flags_of(&old);
            if before.system == old.system {
                let same = map.info_for(&before, &old).0;
                prop_assert_eq!(same, old, "what says the same already is not renamed");
            }
        }
    }

    #[test]
    fn dovecots_file() {
        let m =
            KeywordMap::parse("0 $Forwarded\r\n\r\n1 $Junk\n2 todo\n1 twice\n30 far\nx y\n3\n4 \n");
        assert_eq!(m.to_text(), "0 $Forwarded\n1 $Junk\n2 todo\n30 far\n");
        assert_eq!(m.letter_of(&kw("$JUNK")), Some(1));
        assert_eq!(m.letter_of(&kw("far")), None);
        assert_eq!(m.keyword_of(2), Some(&kw("todo")));
        assert_eq!(m.keyword_of(0), None);
        assert_eq!(m.keyword_of(30), None);
        let (flags, unknown) = m.flags_of(&Info::parse("Sabz"));
        assert_eq!(flags, Flags::from_text("\\Seen $Forwarded $Junk"));
        assert_eq!(unknown, 1 << 25);
    }

    #[test]
    fn letters_are_given_once_and_run_out() {
        let mut m = KeywordMap::parse("0 $Forwarded\n2 x\n40 far\n");
        assert_eq!(m.assign(&kw("new")), Some(1));
        assert_eq!(m.assign(&kw("NEW")), Some(1));
        assert_eq!(m.assign(&kw("X")), Some(2));
        assert_eq!(m.assign(&kw("far")), None);
        for i in 3..26 {
            assert_eq!(m.assign(&kw(&format!("k{i}"))), Some(i));
        }
        assert_eq!(m.assign(&kw("over")), None);
        assert!(m.to_text().starts_with("0 $Forwarded\n1 new\n2 x\n3 k3\n"));
    }

    #[test]
    fn the_file_is_replaced_whole() {
        let t = tempfile::tempdir().unwrap();
        assert_eq!(load(t.path()).unwrap(), None);
        let m = KeywordMap::parse("0 a\n");
        assert!(save(t.path(), &m).is_err(), "no tmp");
        std::fs::create_dir(t.path().join("tmp")).unwrap();
        std::fs::write(t.path().join("tmp/dovecot-keywords.mailkeep"), "left over").unwrap();
        save(t.path(), &m).unwrap();
        save(t.path(), &KeywordMap::parse("0 a\n1 b\n")).unwrap();
        assert_eq!(std::fs::read_to_string(t.path().join(FILE)).unwrap(), "0 a\n1 b\n");
        assert_eq!(std::fs::read_dir(t.path().join("tmp")).unwrap().count(), 0);
        std::fs::remove_file(t.path().join(FILE)).unwrap();
        std::fs::create_dir(t.path().join(FILE)).unwrap();
        assert!(load(t.path()).is_err(), "what cannot be read is not absent");
    }
}
