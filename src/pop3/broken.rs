//! Messages at which a session broke, and when they are tried again. Pure.

use std::collections::BTreeSet;

use super::protocol::Number;
use super::recognise::Listed;
use crate::error::{Error, Kind, Refusal};
use crate::model::BrokenUidl;

/// Those of this pass, and what is remembered of earlier ones.
#[derive(Default)]
pub struct Broken {
    /// In the session that ended just now.
    pub now: Vec<(Listed, Error)>,
    /// They come last: it may have been the network.
    pub last: Vec<Listed>,
    /// They are left to the next pass: they broke two sessions, or what they are broke one.
    pub left: Vec<Listed>,
    /// They broke sessions of earlier passes, and are asked for when all else is done.
    aside: Vec<Listed>,
    /// All else is done, and they are asked for alone: what the session before deleted may still be
    /// listed, and is no new mail.
    recalled: bool,
    /// What is known of earlier passes.
    before: Vec<BrokenUidl>,
    /// What broke a session of this one, and how.
    met: Vec<(Listed, String)>,
    /// The whole listing, where there was one.
    listed: Option<BTreeSet<Box<[u8]>>>,
}

/// How a pass goes about those that are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Unix time in seconds.
    pub now: i64,
    /// Nobody asked for the pass: one that broke twice is left alone for a while.
    pub by_itself: bool,
    /// The server allows no second login soon (LOGIN-DELAY): they come last in the first session.
    pub one_login: bool,
}

/// How long one that broke its session in two passes is left alone, in seconds. Each time more it is
/// twice that.
const FIRST_WAIT: i64 = 300;
/// The longest, in seconds.
const LONGEST_WAIT: i64 = 24 * 3600;

impl Broken {
    /// With those of earlier passes; and what is to be said of those that are left alone.
    pub fn remembered(before: Vec<BrokenUidl>, manner: Manner) -> (Self, Vec<Error>) {
        let mut out = Self::default();
        let mut errors = Vec::new();
        for b in &before {
            let listed = listed(b);
            if manner.by_itself && (b.last..due(b)).contains(&manner.now) {
                errors.push(
                    Error::message(Kind::Protocol, b.error.clone())
                        .next("it is left alone for a while; mailkeep sync asks for it at once"),
                );
                out.left.push(listed);
            } else if manner.one_login {
                out.last.push(listed);
            } else {
                out.aside.push(listed);
            }
        }
        (Self { before, ..out }, errors)
    }

    /// Whether a message is not to be asked for in this session.
    pub fn is_out(&self, l: &Listed) -> bool {
        has(&self.left, l) || has(&self.aside, l) || self.recalled && !has(&self.last, l)
    }

    /// The messages that were listed and not asked for, or did not come.
    pub fn not_had(&self) -> Vec<&Listed> {
        let known = |l: &&Listed| match (&self.listed, &l.uidl) {
            (Some(listed), Some(uidl)) => listed.contains(uidl),
            _ => true,
        };
        self.left.iter().chain(&self.aside).filter(known).collect()
    }

    /// A session listed these, and nothing else is there.
    pub fn listed(&mut self, all: &[Listed]) {
        self.listed = Some(all.iter().filter_map(|l| l.uidl.clone()).collect());
    }

    /// All else is done: whether there is something to be asked for now.
    pub fn recall(&mut self) -> bool {
        self.recalled = true;
        self.last = std::mem::take(&mut self.aside);
        if let Some(listed) = &self.listed {
            self.last.retain(|l| l.uidl.as_ref().is_some_and(|u| listed.contains(u)));
        }
        !self.last.is_empty()
    }

    /// Whether another session has anything to do.
    pub fn is_more(&self) -> bool {
        !self.recalled || self.last.iter().any(|l| !has(&self.left, l))
    }

    /// Whether the session ended within a message.
    pub fn is_by_message(&self, e: &Error) -> bool {
        !self.now.is_empty() && matches!(e.kind, Kind::Protocol | Kind::Connection)
    }

    /// Decides what becomes of those of the session that ended. The errors of what is left.
    pub fn set_aside(&mut self) -> Vec<Error> {
        let mut errors = Vec::new();
        for (listed, e) in std::mem::take(&mut self.now) {
            self.met.retain(|(l, _)| !has(std::slice::from_ref(l), &listed));
            self.met.push((listed.clone(), e.what.clone()));
            if e.kind == Kind::Connection && !has(&self.last, &listed) {
                self.last.push(listed);
            } else {
                self.left.push(listed);
                errors.push(e);
            }
        }
        errors
    }

    /// The UIDLs of all that may be remembered.
    pub fn names(&self) -> BTreeSet<Box<[u8]>> {
        let met = self.met.iter().filter_map(|(l, _)| l.uidl.clone());
        met.chain(self.before.iter().map(|b| b.uidl.clone())).collect()
    }

    /// What the next pass should know. `e` ended this one, and `is_here` has what was delivered
    /// since. One that was cut once is forgiven, unless the server lets nobody in again at once:
    /// then it would hold up the same messages every time.
    pub fn memory(
        &self,
        now: i64,
        e: Option<&Error>,
        is_here: &BTreeSet<Box<[u8]>>,
    ) -> Vec<BrokenUidl> {
        let shut_out = e.and_then(|e| e.refusal);
        let shut_out = matches!(shut_out, Some(Refusal::Limit | Refusal::InUse));
        let met = self.met.iter().filter(|(l, _)| shut_out || has(&self.left, l));
        let mut out: Vec<BrokenUidl> = met
            .filter_map(|(l, error)| {
                let uidl = l.uidl.clone()?;
                let before = self.before.iter().find(|b| b.uidl == uidl && b.size == l.size);
                let times = before.map_or(0, |b| b.times).saturating_add(1);
                Some(BrokenUidl { uidl, size: l.size, times, last: now, error: error.clone() })
            })
            .collect();
        let others = self.before.iter().filter(|b| !out.iter().any(|o| o.uidl == b.uidl));
        let others: Vec<BrokenUidl> = others.cloned().collect();
        out.extend(others);
        out.retain(|b| {
            let there = self.listed.as_ref().is_none_or(|listed| listed.contains(&b.uidl));
            there && !is_here.contains(&b.uidl)
        });
        out.sort_by(|a, b| a.uidl.cmp(&b.uidl));
        out.dedup_by(|a, b| a.uidl == b.uidl);
        out
    }
}

fn due(b: &BrokenUidl) -> i64 {
    let wait = match b.times {
        0 | 1 => 0,
        n => FIRST_WAIT.saturating_mul(1 << (n - 2).min(16)).min(LONGEST_WAIT),
    };
    b.last.saturating_add(wait)
}

fn listed(b: &BrokenUidl) -> Listed {
    // its number is of another session
    Listed { number: Number::FIRST, uidl: Some(b.uidl.clone()), size: b.size }
}

/// Whether a message of another session of this pass is among them.
pub fn has(among: &[Listed], l: &Listed) -> bool {
    let same = |x: &&Listed| x.uidl == l.uidl && x.size == l.size;
    among.iter().filter(same).any(|x| x.uidl.is_some() || x.number == l.number)
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::pop3::Number;

    fn listed(n: u32, uidl: &str, size: u64) -> Listed {
        let uidl = (!uidl.is_empty()).then(|| uidl.as_bytes().into());
        Listed { number: Number::new(n).unwrap(), uidl, size }
    }

    #[test]
    fn a_cut_is_forgiven_once_and_nonsense_never() {
        let mut b = Broken::default();
        let cut = || Error::message(Kind::Connection, "cut");
        let nonsense = || Error::message(Kind::Protocol, "what?");
        assert!(!b.is_by_message(&cut()), "it was between messages");
        b.now.push((listed(3, "a", 1), cut()));
        assert!(b.is_by_message(&cut()) && !b.is_by_message(&Error::account(Kind::DiskFull, "x")));
        assert_eq!(b.set_aside(), []);
        // numbers are another session's, UIDLs are not
        b.now.push((listed(2, "a", 1), cut()));
        b.now.push((listed(5, "b", 2), nonsense()));
        assert_eq!(b.set_aside(), [cut(), nonsense()]);
        assert!(has(&b.left, &listed(1, "a", 1)) && has(&b.left, &listed(1, "b", 2)));
        assert!(!has(&b.left, &listed(3, "a", 9)) && !has(&b.left, &listed(3, "c", 1)));
        // without UIDL the number has to say
        assert!(has(&[listed(3, "", 1)], &listed(3, "", 1)));
        assert!(!has(&[listed(3, "", 1)], &listed(4, "", 1)));
    }

    fn row(uidl: &str, times: u32, last: i64) -> BrokenUidl {
        BrokenUidl { uidl: uidl.as_bytes().into(), size: 1, times, last, error: "cut".into() }
    }

    fn manner(now: i64) -> Manner {
        Manner { now, by_itself: true, one_login: false }
    }

    #[test]
    fn what_broke_before_comes_after_all_else_and_less_and_less_often() {
        let a = listed(9, "a", 1);
        let waits = |times, at| {
            let (b, errors) = Broken::remembered(vec![row("a", times, 1000)], manner(at));
            assert_eq!(b.left.len(), errors.len());
            b.left.len() == 1
        };
        assert!(!waits(1, 1000), "it may have been chance");
        assert!(waits(2, 1299) && !waits(2, 1300) && waits(3, 1599) && !waits(3, 1600));
        assert!(waits(99, 87_399) && !waits(99, 87_400), "once a day at least");
        assert!(!waits(9, 999), "the clock was set back");
        let asked = Manner { by_itself: false, ..manner(1000) };
        let (mut b, errors) = Broken::remembered(vec![row("a", 9, 1000)], asked);
        assert!(errors.is_empty() && b.is_out(&a) && b.not_had().len() == 1);
        assert!(b.recall() && !b.is_out(&a) && has(&b.last, &a));
        // it is gone from the server
        let (mut b, _) = Broken::remembered(vec![row("a", 9, 1000)], asked);
        b.listed(&[listed(1, "b", 1)]);
        assert!(b.not_had().is_empty() && !b.recall());
        assert_eq!(b.memory(5, None, &BTreeSet::new()), []);
        // nobody is let in a second time
        let once = Manner { one_login: true, ..asked };
        let (mut b, _) = Broken::remembered(vec![row("a", 9, 1000)], once);
        assert!(!b.is_out(&a) && has(&b.last, &a) && !b.recall());
    }

    #[test]
    fn what_broke_is_remembered_until_it_came() {
        let none = BTreeSet::new();
        let (mut b, _) = Broken::remembered(vec![row("a", 1, 10), row("c", 4, 10)], manner(20));
        b.now.push((listed(1, "a", 1), Error::message(Kind::Protocol, "what?")));
        b.now.push((listed(2, "b", 1), Error::message(Kind::Connection, "cut")));
        b.set_aside();
        let a = BrokenUidl { error: "what?".into(), ..row("a", 2, 20) };
        assert_eq!(b.memory(20, None, &none), [a.clone(), row("c", 4, 10)]);
        let here = BTreeSet::from([Box::from(b"c".as_slice())]);
        assert_eq!(b.names().len(), 3);
        assert_eq!(b.memory(20, None, &here), std::slice::from_ref(&a));
        // a cut is forgiven, but where nobody is let in again
        let shut = Error::refused(crate::Scope::Account, Refusal::Limit, "[LOGIN-DELAY]");
        assert_eq!(b.memory(20, Some(&shut), &here), [a, row("b", 1, 20)]);
        // twins: one of them is enough
        let mut b = Broken::default();
        for size in [1, 2] {
            b.now.push((listed(size, "a", 1), Error::message(Kind::Protocol, "cut")));
        }
        b.set_aside();
        assert_eq!(b.memory(20, None, &none), [row("a", 1, 20)]);
    }
}
