//! Which listed message is which that we know. Pure. A UIDL is believed while nothing contradicts
//! it; where it is missing, doubled, of another size or all are new at once (a provider's
//! migration), headers are asked for, and what they do not settle is fetched and compared by its
//! bytes. Message-ID and Date alone settle nothing: a list's copy of a message has both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

use super::protocol::{Number, Uidls};
use crate::model::{ContentHash, Fingerprint, UidlId, UidlRow, UidlState};

/// One message of this session's listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its number, of this session only.
    pub number: Number,
    /// Its UIDL, if it has one that can be used.
    pub uidl: Option<Box<[u8]>>,
    /// Its size as LIST says, in bytes; 0: not known.
    pub size: u64,
}

/// Why nothing may be deleted on the server in this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freeze {
    /// UIDL or LIST and STAT disagree.
    Short,
    /// The server has no UIDL.
    NoUidl,
    /// All UIDLs are new at once.
    AllNew,
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "its listing does not agree with its own count",
            Self::NoUidl => {
                "the server gives no UIDL: messages are recognised by their headers and bytes only"
            }
            Self::AllNew => "all UIDLs are new at once",
        })
    }
}

/// Joins UIDL and LIST. Messages that only one of the two lists are left to the next session.
pub fn listing(
    messages: u32,
    uidls: &Uidls,
    sizes: &[(Number, u64)],
) -> (Vec<Listed>, BTreeSet<Freeze>) {
    let mut freeze = BTreeSet::new();
    let by_number: BTreeMap<Number, u64> = sizes.iter().copied().collect();
    let listed: Vec<Listed> = match uidls {
        Uidls::Known(known) => {
            if known.len() != sizes.len() {
                freeze.insert(Freeze::Short);
            }
            known
                .iter()
                .map(|(number, uidl)| Listed {
                    number: *number,
                    uidl: uidl.as_ref().map(|u| u.as_bytes().into()),
                    size: by_number.get(number).copied().unwrap_or(0),
                })
                .collect()
        }
        Uidls::Unsupported(_) => {
            freeze.insert(Freeze::NoUidl);
            let one = |(number, size): &(Number, u64)| Listed {
                number: *number,
                uidl: None,
                size: *size,
            };
            sizes.iter().map(one).collect()
        }
    };
    // what arrived between STAT and the listings makes them longer, and is no contradiction
    if (listed.len() as u64) < u64::from(messages) || (sizes.len() as u64) < u64::from(messages) {
        freeze.insert(Freeze::Short);
    }
    (listed, freeze)
}

/// UIDLs that are listed more than once.
fn doubled(listed: &[Listed]) -> BTreeSet<&[u8]> {
    let mut seen = BTreeSet::new();
    let uidls = listed.iter().filter_map(|l| l.uidl.as_deref());
    uidls.filter(|uidl| !seen.insert(*uidl)).collect()
}

/// What has its UIDL together with other listed messages, of which not all are known to have its
/// bytes: that UIDL does not say which is which.
pub fn ambiguous(
    listed: &[Listed],
    done: &BTreeMap<Number, UidlId>,
    rows: &BTreeMap<UidlId, UidlRow>,
) -> BTreeSet<UidlId> {
    let mut copies: BTreeMap<&[u8], Vec<Option<&UidlId>>> =
        doubled(listed).into_iter().map(|uidl| (uidl, Vec::new())).collect();
    for l in listed {
        if let Some(ids) = l.uidl.as_deref().and_then(|uidl| copies.get_mut(uidl)) {
            ids.push(done.get(&l.number));
        }
    }
    let mut out = BTreeSet::new();
    for ids in copies.into_values() {
        let bytes = |id: &Option<&UidlId>| id.and_then(|id| rows.get(id)).and_then(|r| r.content);
        let one = ids.first().and_then(bytes);
        if one.is_none() || ids.iter().any(|id| bytes(id) != one) {
            out.extend(ids.into_iter().flatten());
        }
    }
    out
}

/// What was here before there were UIDLs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Message-ID and Date.
    pub fingerprint: Fingerprint,
    /// What the server may say of its size, in bytes, so that it need not be fetched to be sure.
    pub sizes: RangeInclusive<u64>,
}

/// A file whose bytes cannot be compared, in a first session: its message may be any of such a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// What the server may say of its size, in bytes.
    pub sizes: RangeInclusive<u64>,
}

/// What other programs add to a message, or take from it, is less than so many bytes.
const HEADERS: u64 = 4096;

impl Unread {
    /// A file of this size. A line end is one byte here and two there, and LIST may be wrong by a
    /// fifth.
    pub fn of(size: u64) -> Self {
        let low = size.saturating_sub(HEADERS);
        let high = size.saturating_mul(2).saturating_add(HEADERS);
        Self { sizes: low - low / 5..=high.saturating_add(high / 5) }
    }

    /// Of which nothing is known.
    pub fn any() -> Self {
        Self { sizes: 0..=u64::MAX }
    }

    /// Whether its message may be one of this size, as LIST says.
    pub fn may_be(&self, size: u64) -> bool {
        size == 0 || self.sizes.contains(&size)
    }
}

/// What a session's listing is compared with.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What the server has, as far as is known, and every generation of a UIDL that is listed.
    pub rows: BTreeMap<UidlId, UidlRow>,
    /// What went without our doing.
    pub gone: BTreeMap<UidlId, UidlRow>,
    /// Messages here that no UIDL belongs to; empty unless this is the first session.
    pub strays: Vec<Stray>,
    /// Files here that could not be read; empty unless this is the first session.
    pub unread: Vec<Unread>,
}

/// What can be said by UIDL and size alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct First {
    /// Sure.
    pub known: BTreeMap<Number, UidlId>,
    /// It is one of these or a new one.
    pub doubts: BTreeMap<Number, BTreeSet<UidlId>>,
    /// Not known by its UIDL.
    pub new: BTreeSet<Number>,
    /// Whose headers are to be asked for.
    pub ask: BTreeSet<Number>,
    /// Nothing that the server had is known by its UIDL any more.
    pub all_new: bool,
}

/// Compares by UIDL and size.
pub fn first(listed: &[Listed], known: &Known) -> First {
    let mut out = First::default();
    let mut named: BTreeMap<&[u8], Vec<&UidlRow>> = BTreeMap::new();
    let mut nameless = BTreeSet::new();
    for row in known.rows.values() {
        match &row.uidl {
            Some(uidl) => named.entry(uidl).or_default().push(row),
            None if row.state.on_server() => {
                nameless.insert(row.id);
            }
            None => {}
        }
    }
    let mut times: BTreeMap<&[u8], u32> = BTreeMap::new();
    for l in listed {
        if let Some(uidl) = &l.uidl {
            *times.entry(uidl).or_default() += 1;
        }
    }
    let mut copies: BTreeMap<&[u8], BTreeMap<Number, UidlId>> = BTreeMap::new();
    let mut resized = 0;
    for l in listed {
        let Some(uidl) = &l.uidl else {
            out.doubts.insert(l.number, nameless.clone());
            continue;
        };
        let rows = named.get(&**uidl).map(Vec::as_slice).unwrap_or_default();
        let latest = rows.iter().max_by_key(|r| r.generation);
        // one that we deleted and that is there again is another message
        let there: BTreeSet<UidlId> =
            rows.iter().filter(|r| r.state != UidlState::Deleted).map(|r| r.id).collect();
        let twice = times.get(&**uidl).is_some_and(|n| *n > 1) || there.len() > 1;
        match latest {
            Some(_) if twice && !there.is_empty() => {
                let copies = copies.entry(uidl).or_insert_with(|| equal_copies(listed, uidl, rows));
                match copies.get(&l.number) {
                    Some(id) => {
                        out.known.insert(l.number, *id);
                    }
                    None => {
                        out.doubts.insert(l.number, there);
                    }
                }
            }
            Some(row) if row.state != UidlState::Deleted => {
                if row.size == l.size || row.size == 0 || l.size == 0 {
                    out.known.insert(l.number, row.id);
                } else {
                    resized += 1;
                    out.doubts.insert(l.number, there);
                }
            }
            _ => {
                out.new.insert(l.number);
            }
        }
    }
    if resized > out.known.len() {
        // numbered anew, it seems: what has the size by chance is looked at too
        for (number, id) in std::mem::take(&mut out.known) {
            out.doubts.insert(number, BTreeSet::from([id]));
        }
    }
    let matched: BTreeSet<UidlId> = out.known.values().copied().collect();
    let left: Vec<&UidlRow> = lost(known, &matched).collect();
    out.all_new = matched.is_empty() && out.doubts.is_empty() && !left.is_empty() && {
        let reusable = left.iter().any(|r| r.uidl.is_some());
        reusable && !out.new.is_empty()
    };
    let sizes: BTreeSet<u64> = left.iter().map(|r| r.size).filter(|s| *s > 0).collect();
    out.ask.extend(out.doubts.iter().filter(|(_, among)| !among.is_empty()).map(|(n, _)| *n));
    // a header that can settle nothing is not asked for: some servers cut what RETR gives after it
    let open = listed.iter().filter(|l| !out.known.contains_key(&l.number));
    let open: BTreeSet<u64> = open.map(|l| l.size).collect();
    let mut ranges = known.strays.iter().map(|s| &s.sizes).filter(|s| !s.is_empty());
    let strays = ranges.any(|s| open.range(s.clone()).next().is_some());
    for l in listed.iter().filter(|l| out.new.contains(&l.number)) {
        if strays || sizes.contains(&l.size) {
            out.ask.insert(l.number);
        }
    }
    if strays {
        out.ask.extend(out.doubts.keys());
    }
    out
}

/// Copies of one message share a UIDL where it is a hash of the bytes, as RFC 1939 (section 7)
/// allows. While as many are listed as were fetched, all of one size and bytes, none is looked at
/// again. Where that UIDL stood for different bytes, it proves nothing.
fn equal_copies(listed: &[Listed], uidl: &[u8], rows: &[&UidlRow]) -> BTreeMap<Number, UidlId> {
    let listed: Vec<&Listed> = listed.iter().filter(|l| l.uidl.as_deref() == Some(uidl)).collect();
    let there: Vec<UidlId> = rows.iter().filter(|r| r.state.on_server()).map(|r| r.id).collect();
    let Some(one) = rows.first().filter(|r| r.content.is_some() && r.size > 0) else {
        return BTreeMap::new();
    };
    let alike = rows.iter().all(|r| r.content == one.content && r.size == one.size)
        && listed.iter().all(|l| l.size == one.size);
    if !alike || listed.len() != there.len() {
        return BTreeMap::new();
    }
    listed.into_iter().map(|l| l.number).zip(there).collect()
}

/// What the listing came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// Known ones.
    pub known: BTreeMap<Number, UidlId>,
    /// Known ones that had another UIDL, or none, before.
    pub renamed: BTreeMap<Number, UidlId>,
    /// New ones that are here already, by their place among the strays.
    pub adopted: BTreeMap<Number, usize>,
    /// What is to be fetched, in order.
    pub fetch: Vec<Number>,
    /// What would be, but may be here already, in a file that could not be read.
    pub obscure: Vec<Number>,
}

/// Settles what headers can settle. What is left is fetched.
pub fn settle(
    listed: &[Listed],
    known: &Known,
    first: &First,
    headers: &BTreeMap<Number, Fingerprint>,
) -> Settled {
    let mut out = Settled { known: first.known.clone(), ..Settled::default() };
    let sizes: BTreeMap<Number, u64> = listed.iter().map(|l| (l.number, l.size)).collect();
    let asked = |numbers: &mut dyn Iterator<Item = Number>| -> Vec<Asked<'_>> {
        numbers
            .filter_map(|number| {
                let fingerprint = headers.get(&number).filter(|f| f.is_complete())?;
                Some(Asked { number, size: sizes.get(&number).copied()?, fingerprint })
            })
            .collect()
    };
    // doubts first, among their own; the same choice is one question
    let mut groups: BTreeMap<&BTreeSet<UidlId>, Vec<Number>> = BTreeMap::new();
    for (number, among) in &first.doubts {
        groups.entry(among).or_default().push(*number);
    }
    for (among, numbers) in groups {
        let rows: Vec<_> = among.iter().filter_map(|id| known.rows.get(id)).collect();
        let candidates: Vec<Candidate<'_, UidlId>> = rows.iter().map(|r| candidate(r)).collect();
        // a UIDL of its own that it had before stands for the size
        let named = |n: &Number| listed.iter().any(|l| l.number == *n && l.uidl.is_some());
        let by_size = numbers.len() > 1 || among.len() > 1 || !numbers.iter().all(named);
        let found = pair(&asked(&mut numbers.into_iter()), &candidates, by_size);
        out.known.extend(found);
    }
    let matched: BTreeSet<UidlId> = out.known.values().copied().collect();
    let candidates: Vec<Candidate<'_, UidlId>> = lost(known, &matched).map(candidate).collect();
    let open = |out: &Settled| -> Vec<Number> {
        let taken = |n: &Number| {
            out.known.contains_key(n) || out.renamed.contains_key(n) || out.adopted.contains_key(n)
        };
        listed.iter().map(|l| l.number).filter(|n| !taken(n)).collect()
    };
    out.renamed = pair(&asked(&mut open(&out).into_iter()), &candidates, true);
    let strays: Vec<Candidate<'_, usize>> = known
        .strays
        .iter()
        .enumerate()
        .map(|(key, s)| {
            let fingerprint = &s.fingerprint;
            Candidate { key, size: 0, fingerprint, content: None, there: false }
        })
        .collect();
    out.adopted = pair(&asked(&mut open(&out).into_iter()), &strays, false);
    out.adopted.retain(|number, i| {
        let size = sizes.get(number).copied().unwrap_or(0);
        known.strays.get(*i).is_some_and(|s| s.sizes.contains(&size))
    });
    let may_be_here = |n: &Number| {
        let size = sizes.get(n).copied().unwrap_or(0);
        known.unread.iter().any(|u| u.may_be(size))
    };
    (out.obscure, out.fetch) = open(&out).into_iter().partition(may_be_here);
    out
}

/// What was on the server and is not matched.
pub fn lost<'a>(
    known: &'a Known,
    matched: &'a BTreeSet<UidlId>,
) -> impl Iterator<Item = &'a UidlRow> {
    let there = known.rows.values().filter(|r| r.state.on_server() || r.state == UidlState::Gone);
    there
        .chain(known.gone.values().filter(|r| !known.rows.contains_key(&r.id)))
        .filter(move |r| !matched.contains(&r.id))
}

struct Asked<'a> {
    number: Number,
    size: u64,
    fingerprint: &'a Fingerprint,
}

struct Candidate<'a, K> {
    key: K,
    size: u64,
    fingerprint: &'a Fingerprint,
    content: Option<ContentHash>,
    /// It was on the server the last time.
    there: bool,
}

fn candidate(row: &UidlRow) -> Candidate<'_, UidlId> {
    Candidate {
        key: row.id,
        size: row.size,
        fingerprint: &row.fingerprint,
        content: row.content,
        there: row.state.on_server(),
    }
}

/// What looks alike on both sides.
type Alike<'a, K> = (Vec<Number>, Vec<&'a Candidate<'a, K>>);

/// Joins what stands once on each side, or, by size, copies of the same bytes that stand as often on
/// each. By size, what has none stands nowhere.
fn pair<K: Copy>(
    asked: &[Asked<'_>],
    candidates: &[Candidate<'_, K>],
    by_size: bool,
) -> BTreeMap<Number, K> {
    let size = |s: u64| if by_size { s } else { 0 };
    let known = |s: u64| !by_size || s > 0;
    let mut sides: BTreeMap<(&Fingerprint, u64), Alike<'_, K>> = BTreeMap::new();
    for a in asked.iter().filter(|a| known(a.size)) {
        sides.entry((a.fingerprint, size(a.size))).or_default().0.push(a.number);
    }
    for c in candidates.iter().filter(|c| c.fingerprint.is_complete() && known(c.size)) {
        sides.entry((c.fingerprint, size(c.size))).or_default().1.push(c);
    }
    let mut out = BTreeMap::new();
    for (numbers, mut alike) in sides.into_values() {
        let one = alike.first().and_then(|c| c.content);
        let copies = one.is_some() && alike.iter().all(|c| c.content == one);
        if by_size && copies && numbers.len() < alike.len() {
            alike.retain(|c| c.there);
        }
        if numbers.len() == alike.len() && (numbers.len() == 1 || by_size && copies) {
            out.extend(numbers.into_iter().zip(alike.into_iter().map(|c| c.key)));
        }
    }
    out
}

#[cfg(test)]
mod tests;
