//! Message flags: the system flags of RFC 9051 2.3.2 with `$Forwarded`, which a Maildir knows by a
//! letter of its own, and keywords. Flags merge one by one, three-way (I10).

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

/// The flags that have a Maildir letter of their own.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemFlags(u8);

impl SystemFlags {
    /// `\Draft`, letter D.
    pub const DRAFT: Self = Self(1);
    /// `\Flagged`, letter F.
    pub const FLAGGED: Self = Self(2);
    /// `$Forwarded`, letter P ("passed").
    pub const FORWARDED: Self = Self(4);
    /// `\Answered`, letter R ("replied").
    pub const ANSWERED: Self = Self(8);
    /// `\Seen`, letter S.
    pub const SEEN: Self = Self(16);
    /// `\Deleted`, letter T ("trashed").
    pub const DELETED: Self = Self(32);

    /// Each flag with its letter and its IMAP name, in the order of the letters.
    pub const ALL: [(Self, char, &'static str); 6] = [
        (Self::DRAFT, 'D', "\\Draft"),
        (Self::FLAGGED, 'F', "\\Flagged"),
        (Self::FORWARDED, 'P', "$Forwarded"),
        (Self::ANSWERED, 'R', "\\Answered"),
        (Self::SEEN, 'S', "\\Seen"),
        (Self::DELETED, 'T', "\\Deleted"),
    ];

    /// No flag.
    pub const fn empty() -> Self {
        Self(0)
    }
    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// Whether no flag is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// Both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// What is here and not in `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    /// The flag of a Maildir letter.
    pub fn from_letter(c: char) -> Option<Self> {
        Self::ALL.iter().find(|(_, l, _)| *l == c).map(|(f, _, _)| *f)
    }
    /// The flag of an IMAP name, without regard to case.
    pub fn from_imap(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, _, n)| n.eq_ignore_ascii_case(name)).map(|(f, _, _)| *f)
    }
    /// The Maildir letters in ASCII order.
    pub fn letters(self) -> String {
        Self::ALL.iter().filter(|(f, _, _)| self.contains(*f)).map(|(_, l, _)| l).collect()
    }
    /// The IMAP names.
    pub fn imap_names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().filter(move |(f, _, _)| self.contains(*f)).map(|(_, _, n)| *n)
    }
}

impl fmt::Debug for SystemFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.letters())
    }
}

/// A keyword: an RFC 9051 atom without a leading backslash. Keywords compare without regard to
/// case (RFC 5788 section 2), and keep the case in which they were first seen.
#[derive(Clone)]
pub struct Keyword(Box<str>);

impl Keyword {
    /// `None` for what is no atom, for system flags, and for `$Forwarded`.
    pub fn new(s: &str) -> Option<Self> {
        let atom = !s.is_empty()
            && s.bytes().all(|b| (0x21..0x7f).contains(&b) && !b"(){%*\"\\]".contains(&b));
        (atom && SystemFlags::from_imap(s).is_none()).then(|| Self(s.into()))
    }
    /// As first seen.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    fn folded(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.bytes().map(|b| b.to_ascii_lowercase())
    }
}

impl PartialEq for Keyword {
    fn eq(&self, o: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&o.0)
    }
}
impl Eq for Keyword {}
impl PartialOrd for Keyword {
    fn partial_cmp(&self, o: &Self) -> Option<Ordering> {
        Some(self.cmp(o))
    }
}
impl Ord for Keyword {
    fn cmp(&self, o: &Self) -> Ordering {
        self.folded().cmp(o.folded())
    }
}
impl fmt::Debug for Keyword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for Keyword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All flags of a message. `\Recent` is no flag of the message and never enters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// Those with a letter of their own.
    pub system: SystemFlags,
    /// The others.
    pub keywords: BTreeSet<Keyword>,
}

impl Flags {
    /// From IMAP names; `\Recent`, `\*` and what is no flag are passed over.
    pub fn from_imap<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut f = Self::default();
        for n in names {
            if let Some(s) = SystemFlags::from_imap(n) {
                f.system = f.system.union(s);
            } else if let Some(k) = Keyword::new(n) {
                f.keywords.insert(k);
            }
        }
        f
    }

    /// From the ledger's form (see [`Flags::to_text`]).
    pub fn from_text(s: &str) -> Self {
        Self::from_imap(s.split_ascii_whitespace())
    }

    /// The ledger's form: IMAP names with spaces between. Equal flags give equal text, except for
    /// the case of keywords.
    pub fn to_text(&self) -> String {
        self.imap_names().collect::<Vec<_>>().join(" ")
    }

    /// The IMAP names, system flags first.
    pub fn imap_names(&self) -> impl Iterator<Item = &str> + '_ {
        self.system
            .imap_names()
            .map(|n| -> &str { n })
            .chain(self.keywords.iter().map(Keyword::as_str))
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.system.is_empty() && self.keywords.is_empty()
    }

    /// Whether this system flag is set.
    pub fn has(&self, f: SystemFlags) -> bool {
        self.system.contains(f)
    }

    /// What is set here and not in `o`.
    #[must_use]
    pub fn minus(&self, o: &Self) -> Self {
        Self {
            system: self.system.minus(o.system),
            keywords: self.keywords.difference(&o.keywords).cloned().collect(),
        }
    }

    /// What is set in either.
    #[must_use]
    pub fn union(&self, o: &Self) -> Self {
        Self {
            system: self.system.union(o.system),
            keywords: self.keywords.union(&o.keywords).cloned().collect(),
        }
    }

    /// The same without this system flag.
    #[must_use]
    pub fn without(mut self, f: SystemFlags) -> Self {
        self.system = self.system.minus(f);
        self
    }

    /// Three-way merge, flag by flag (I10): what either side added since `base` is set, what either
    /// side removed is not. A flag cannot be added on one side and removed on the other, since it
    /// either was in the base or was not.
    #[must_use]
    pub fn merge(base: &Self, a: &Self, b: &Self) -> Self {
        let added = a.minus(base).union(&b.minus(base));
        let removed = base.minus(a).union(&base.minus(b));
        base.union(&added).minus(&removed)
    }

    /// Without an agreed base: all flags of both, except `\Deleted`, which one side alone must not
    /// put on the other.
    #[must_use]
    pub fn unite(a: &Self, b: &Self) -> Self {
        let mut u = a.union(b);
        if !(a.has(SystemFlags::DELETED) && b.has(SystemFlags::DELETED)) {
            u = u.without(SystemFlags::DELETED);
        }
        u
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

/// What a folder of the server stores for good (PERMANENTFLAGS, RFC 9051 7.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PermanentFlags {
    /// The system flags that can be stored.
    pub system: SystemFlags,
    /// The keywords that can be stored.
    pub keywords: BTreeSet<Keyword>,
    /// `\*`: new keywords can be made.
    pub any_keyword: bool,
}

impl PermanentFlags {
    /// Everything can be stored.
    pub fn all() -> Self {
        let system = SystemFlags::ALL.iter().fold(SystemFlags::empty(), |a, (f, _, _)| a.union(*f));
        Self { system, keywords: BTreeSet::new(), any_keyword: true }
    }

    /// Those of `flags` that this folder keeps.
    #[must_use]
    pub fn keeps(&self, flags: &Flags) -> Flags {
        Flags {
            system: flags.system.intersection(self.system),
            keywords: flags
                .keywords
                .iter()
                .filter(|k| self.any_keyword || self.keywords.contains(*k))
                .cloned()
                .collect(),
        }
    }

    /// What a message with the flags `shown` has once it was told to have `wanted`.
    #[must_use]
    pub fn told(&self, shown: &Flags, wanted: &Flags) -> Flags {
        let (add, remove) = (wanted.minus(shown), shown.minus(wanted));
        shown.union(&self.keeps(&add)).minus(&self.keeps(&remove))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flags() -> impl Strategy<Value = Flags> {
        prop::collection::vec(0usize..8, 0..8).prop_map(|v| {
            let names = [
                "\\Seen",
                "\\Draft",
                "\\Deleted",
                "$Forwarded",
                "\\Answered",
                "\\Flagged",
                "todo",
                "$Junk",
            ];
            Flags::from_imap(v.into_iter().map(|i| names[i]))
        })
    }

    proptest! {
        #[test]
        fn a_merge_keeps_every_change(base in flags(), a in flags(), b in flags()) {
            let m = Flags::merge(&base, &a, &b);
            for n in ["\\Seen", "\\Draft", "todo", "$Forwarded"] {
                let one = Flags::from_imap([n]);
                let has = |f: &Flags| one.minus(f).is_empty();
                let want = if has(&a) == has(&b) { has(&a) } else { !has(&base) };
                prop_assert_eq!(has(&m), want);
            }
        }

        #[test]
        fn text_and_back(f in flags()) {
            prop_assert_eq!(Flags::from_text(&f.to_text()), f);
        }
    }

    #[test]
    fn what_is_not_stored_is_neither_set_nor_cleared() {
        let f = |s: &str| Flags::from_text(s);
        let mut some = PermanentFlags { system: SystemFlags::ANSWERED, ..Default::default() };
        some.keywords.extend(Keyword::new("todo"));
        let told = some.told(&f("\\Seen \\Answered $Junk"), &f("\\Flagged todo other"));
        assert_eq!(told, f("\\Seen $Junk todo"));
        let wanted = f("\\Flagged todo other");
        assert_eq!(PermanentFlags::all().told(&f("\\Seen $Junk"), &wanted), wanted);
    }

    #[test]
    fn keywords_fold_case_and_system_flags_are_none() {
        assert_eq!(Keyword::new("$Junk"), Keyword::new("$JUNK"));
        for bad in ["", "\\Seen", "$forwarded", "a b", "a(b", "ü", "a]"] {
            assert_eq!(Keyword::new(bad), None, "{bad}");
        }
    }
}
