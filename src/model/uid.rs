//! UIDs, UIDVALIDITY, mod-sequences (RFC 9051 2.3.1.1, RFC 7162 3.1) and sets of UIDs.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

macro_rules! nonzero {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $raw:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// `None` for 0, which the grammar forbids (nz-number).
            pub const fn new(n: $raw) -> Option<Self> {
                match <$inner>::new(n) {
                    Some(n) => Some(Self(n)),
                    None => None,
                }
            }

            /// The number.
            pub const fn get(self) -> $raw {
                self.0.get()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

nonzero!(
    /// A message's unique identifier in its mailbox, under one UIDVALIDITY.
    Uid, NonZeroU32, u32
);
nonzero!(
    /// The epoch of a mailbox's UIDs; another value means that all UIDs are other ones.
    UidValidity, NonZeroU32, u32
);
nonzero!(
    /// A mod-sequence (CONDSTORE). 63 bits by RFC 7162.
    ModSeq, NonZeroU64, u64
);

impl Uid {
    /// The smallest UID.
    pub const MIN: Self = Self(NonZeroU32::MIN);
    /// The largest UID.
    pub const MAX: Self = Self(NonZeroU32::MAX);

    /// The next UID, `None` past the end.
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }
}

/// A set of UIDs as sorted, disjoint, non-adjacent inclusive ranges, so that 500,000 neighbours
/// cost as much as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UidSet {
    ranges: Vec<(u32, u32)>,
}

impl UidSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// All UIDs from `first` to `last`, both included; empty if `last` is smaller.
    pub fn range(first: Uid, last: Uid) -> Self {
        let mut s = Self::new();
        s.insert_range(first, last);
        s
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many UIDs it holds.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|(a, b)| u64::from(b - a) + 1).sum()
    }

    /// Whether `uid` is in it.
    pub fn contains(&self, uid: Uid) -> bool {
        let u = uid.get();
        let i = self.ranges.partition_point(|&(_, b)| b < u);
        self.ranges.get(i).is_some_and(|&(a, _)| a <= u)
    }

    /// Adds one UID.
    pub fn insert(&mut self, uid: Uid) {
        self.insert_range(uid, uid);
    }

    /// Adds `first` to `last`, both included.
    pub fn insert_range(&mut self, first: Uid, last: Uid) {
        let (mut a, mut b) = (first.get(), last.get());
        if a > b {
            return;
        }
        // ranges that touch or overlap [a-1, b+1] melt into one
        let lo = self.ranges.partition_point(|&(_, y)| y < a.saturating_sub(1));
        let hi = self.ranges.partition_point(|&(x, _)| x <= b.saturating_add(1));
        for &(x, y) in self.ranges.get(lo..hi).unwrap_or_default() {
            a = a.min(x);
            b = b.max(y);
        }
        self.ranges.splice(lo..hi.max(lo), [(a, b)]);
    }

    /// The UIDs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Uid> + '_ {
        self.ranges.iter().flat_map(|&(a, b)| (a..=b).filter_map(Uid::new))
    }

    /// The ranges in ascending order, both ends included.
    pub fn ranges(&self) -> impl Iterator<Item = (Uid, Uid)> + '_ {
        self.ranges.iter().filter_map(|&(a, b)| Some((Uid::new(a)?, Uid::new(b)?)))
    }

    /// The largest UID in it.
    pub fn last(&self) -> Option<Uid> {
        self.ranges.last().and_then(|&(_, b)| Uid::new(b))
    }

    /// Cuts the set into pieces of at most `uids` UIDs and `ranges` ranges, for command lines that
    /// no server refuses (RFC 7162 section 4 wants 8192 octets accepted).
    pub fn chunks(&self, uids: u32, ranges: usize) -> Vec<Self> {
        let uids = uids.max(1);
        let mut out: Vec<Self> = Vec::new();
        let mut cur = Self::new();
        let mut n = 0u32;
        for &(mut a, b) in &self.ranges {
            loop {
                if n >= uids || cur.ranges.len() >= ranges.max(1) {
                    out.push(std::mem::take(&mut cur));
                    n = 0;
                }
                let take = (b - a).min(uids - n - 1);
                cur.ranges.push((a, a + take));
                n += take + 1;
                if a + take == b {
                    break;
                }
                a += take + 1;
            }
        }
        if !cur.is_empty() {
            out.push(cur);
        }
        out
    }
}

impl FromIterator<Uid> for UidSet {
    fn from_iter<I: IntoIterator<Item = Uid>>(uids: I) -> Self {
        let mut s = Self::new();
        for u in uids {
            s.insert(u);
        }
        s
    }
}

impl fmt::Display for UidSet {
    /// As an RFC 9051 sequence-set: `1:4,7`. The empty set has no such form and prints nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (a, b)) in self.ranges.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            if a == b {
                write!(f, "{a}")?;
            } else {
                write!(f, "{a}:{b}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn uid(n: u32) -> Uid {
        Uid::new(n).unwrap()
    }

    #[test]
    fn zero_is_no_uid() {
        assert_eq!(Uid::new(0), None);
        assert_eq!(Uid::MAX.next(), None);
    }

    proptest! {
        #[test]
        fn a_set_of_ranges_is_a_set(ops in prop::collection::vec((1u32..60, 0u32..6), 0..40),
                                    size in 1u32..9, most in 1usize..4) {
            let mut want = BTreeSet::new();
            let mut got = UidSet::new();
            for (a, n) in ops {
                want.extend(a..=a + n);
                got.insert_range(uid(a), uid(a + n));
            }
            prop_assert_eq!(got.iter().map(Uid::get).collect::<Vec<_>>(),
                            want.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(got.len(), want.len() as u64);
            for u in 1..80 {
                prop_assert_eq!(got.contains(uid(u)), want.contains(&u));
            }
            for w in got.ranges.windows(2) {
                prop_assert!(w[0].1 + 1 < w[1].0);
            }
            let chunks = got.chunks(size, most);
            prop_assert!(chunks.iter().all(|c| c.len() <= u64::from(size)
                                           && c.ranges.len() <= most && !c.is_empty()));
            let all: Vec<Uid> = chunks.iter().flat_map(UidSet::iter).collect();
            prop_assert_eq!(all, got.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_ends_of_the_range_do_not_overflow() {
        let mut s = UidSet::range(Uid::MIN, Uid::MAX);
        s.insert(Uid::MAX);
        s.insert(Uid::MIN);
        assert_eq!(s.to_string(), "1:4294967295");
        assert_eq!(s.len(), u64::from(u32::MAX));
    }
}
