//! What is deleted on the server, and when. Pure.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::protocol::Number;
use crate::config::Keep;
use crate::model::UidlId;
use crate::policy::Brake;
use crate::policy::decide::{MANY, Verdict};

/// A message on the server that was durable here once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct There {
    /// Its number in the session: the order of arrival.
    pub number: Number,
    /// Its UIDL's number.
    pub id: UidlId,
    /// When it was durable here, in Unix time.
    pub delivered_at: i64,
    /// Its file was removed here.
    pub removed: bool,
    /// It may be deleted: it has a UIDL of its own, and came whole.
    pub sure: bool,
}

/// What the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long messages stay there.
    pub keep: Keep,
    /// Only so many stay there.
    pub keep_newest: Option<NonZeroU32>,
    /// What is removed here is deleted there.
    pub when_removed: bool,
    /// More deletions than that are held.
    pub brake: Brake,
}

/// What was decided and done before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Deletions of the last 24 hours that the brake counts.
    pub deleted: u64,
    /// Messages of the account as that window began.
    pub size: u64,
    /// What is in a hold, and what was said of it.
    pub verdicts: BTreeMap<UidlId, Verdict>,
}

/// Why a message is deleted on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// `keep`.
    Keep,
    /// `keep_newest`.
    Newest,
    /// `delete_when_removed_locally`.
    Removed,
}

impl Why {
    /// For the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "pop3.keep",
            Self::Newest => "pop3.keep_newest",
            Self::Removed => "removed here, pop3.delete_when_removed_locally",
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// Delete these; whether the brake counts it.
    pub delete: BTreeMap<UidlId, (Why, bool)>,
    /// These wait for a person.
    pub held: BTreeMap<UidlId, Why>,
    /// When the next one will be due, in Unix time.
    pub next_due: Option<i64>,
}

/// Decides. `there` is everything on the server that was delivered, `others` how many messages are
/// there beside it: they are newer.
pub fn retain(
    there: &[There],
    others: u64,
    rules: &Rules,
    standing: &Standing,
    now: i64,
) -> Retention {
    let mut out = Retention::default();
    let mut sorted: Vec<&There> = there.iter().collect();
    sorted.sort_by_key(|t| t.number);
    for t in sorted.iter().filter(|t| t.sure) {
        match due(rules.keep, t.delivered_at) {
            Some(at) if at <= now => {
                out.delete.insert(t.id, (Why::Keep, false));
            }
            Some(at) => out.next_due = Some(out.next_due.map_or(at, |n| n.min(at))),
            None => {}
        }
    }
    let mut wanted: Vec<(&There, Why)> = Vec::new();
    if let Some(newest) = rules.keep_newest {
        let stay: Vec<_> = sorted.iter().filter(|t| !out.delete.contains_key(&t.id)).collect();
        let n = usize::try_from((stay.len() as u64 + others).saturating_sub(newest.get().into()))
            .unwrap_or(0);
        wanted.extend(stay.into_iter().take(n).filter(|t| t.sure).map(|t| (*t, Why::Newest)));
    }
    if rules.when_removed {
        let removed = sorted.iter().filter(|t| t.removed && t.sure);
        let removed: Vec<_> = removed
            .filter(|t| {
                !out.delete.contains_key(&t.id) && !wanted.iter().any(|(w, _)| w.id == t.id)
            })
            .map(|t| (*t, Why::Removed))
            .collect();
        wanted.extend(removed);
    }
    let verdict = |t: &There| standing.verdicts.get(&t.id).copied();
    let fresh = wanted.iter().filter(|(t, _)| verdict(t).is_none()).count() as u64;
    let n = standing.deleted + fresh;
    let brake = rules.brake;
    let over = n > MANY
        || n > u64::from(brake.messages) && n * 100 > u64::from(brake.percent) * standing.size;
    for (t, why) in wanted {
        match verdict(t) {
            Some(Verdict::Approved) => {
                out.delete.insert(t.id, (why, false));
            }
            Some(Verdict::Rejected) => {}
            Some(Verdict::Open) => {
                out.held.insert(t.id, why);
            }
            None if over => {
                out.held.insert(t.id, why);
            }
            None => {
                out.delete.insert(t.id, (why, true));
            }
        }
    }
    out
}

/// When `keep` deletes what was delivered then.
fn due(keep: Keep, delivered_at: i64) -> Option<i64> {
    match keep {
        Keep::Forever => None,
        Keep::Delete => Some(i64::MIN),
        Keep::DeleteAfter(d) => Some(delivered_at.saturating_add(seconds(d))),
    }
}

fn seconds(d: Duration) -> i64 {
    i64::try_from(d.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there(n: u32, delivered_at: i64) -> There {
        There {
            number: Number::new(n).unwrap(),
            id: UidlId(n),
            delivered_at,
            removed: false,
            sure: true,
        }
    }

    fn rules(keep: Keep) -> Rules {
        Rules {
            keep,
            keep_newest: None,
            when_removed: false,
            brake: Brake { percent: 50, messages: 2 },
        }
    }

    fn ids(r: &Retention) -> Vec<u32> {
        r.delete.keys().map(|i| i.0).collect()
    }

    #[test]
    fn keep_is_kept_to_the_second() {
        let all = [there(1, 100), there(2, 110), There { sure: false, ..there(3, 0) }];
        let s = Standing::default();
        let after = rules(Keep::DeleteAfter(Duration::from_secs(50)));
        assert_eq!(retain(&all, 0, &after, &s, 149).next_due, Some(150));
        let r = retain(&all, 0, &after, &s, 150);
        assert_eq!((ids(&r), r.next_due), (vec![1], Some(160)));
        assert_eq!(r.delete[&UidlId(1)], (Why::Keep, false), "the brake does not count it");
        assert_eq!(ids(&retain(&all, 0, &rules(Keep::Delete), &s, 0)), [1, 2]);
        assert_eq!(retain(&all, 0, &rules(Keep::Forever), &s, i64::MAX), Retention::default());
    }

    #[test]
    fn the_oldest_go_beyond_the_newest() {
        let all: Vec<There> = (1..=5).map(|n| there(n, 0)).collect();
        let r = Rules { keep_newest: NonZeroU32::new(3), ..rules(Keep::Forever) };
        let s = Standing { size: 100, ..Standing::default() };
        assert_eq!(ids(&retain(&all, 0, &r, &s, 0)), [1, 2]);
        assert_eq!(ids(&retain(&all[2..], 0, &r, &s, 0)), [0; 0]);
        // what was not fetched yet is newer
        assert_eq!(ids(&retain(&all[3..], 2, &r, &s, 0)), [4]);
    }

    #[test]
    fn the_brake_holds_what_it_counts_and_a_person_decides() {
        let all: Vec<There> = (1..=9).map(|n| There { removed: n <= 5, ..there(n, 0) }).collect();
        let r = Rules { when_removed: true, ..rules(Keep::Forever) };
        let mut s = Standing { size: 9, ..Standing::default() };
        let held = retain(&all, 0, &r, &s, 0);
        assert_eq!((held.delete.len(), held.held.len()), (0, 5));
        s.size = 100;
        assert_eq!(ids(&retain(&all, 0, &r, &s, 0)), [1, 2, 3, 4, 5]);
        s.deleted = 50;
        assert_eq!(retain(&all, 0, &r, &s, 0).held.len(), 5);
        s.verdicts = [(UidlId(1), Verdict::Approved), (UidlId(2), Verdict::Rejected)].into();
        let r = retain(&all, 0, &r, &s, 0);
        assert_eq!((ids(&r), r.held.len()), (vec![1], 3));
        assert_eq!(r.delete[&UidlId(1)], (Why::Removed, false));
    }

    proptest! {
        #[test]
        fn never_more_than_asked_for(
            n in 0u32..40, newest in 1u32..40, others in 0u64..5,
            removed in prop::collection::btree_set(1u32..40, 0..10), when_removed: bool) {
            let all: Vec<There> = (1..=n)
                .map(|i| There { removed: removed.contains(&i), ..there(i, 0) })
                .collect();
            let rules = Rules {
                keep_newest: NonZeroU32::new(newest), when_removed, ..rules(Keep::Forever)
            };
            let s = Standing { size: 10_000, ..Standing::default() };
            let r = retain(&all, others, &rules, &s, 0);
            prop_assert!(r.held.is_empty());
            for t in &all {
                let newer = u64::from(n - t.number.get()) + others;
                let old = newer >= u64::from(newest);
                let want = old || (when_removed && t.removed);
                prop_assert_eq!(r.delete.contains_key(&t.id), want);
            }
        }
    }
}
