//! Recognition, by cases and at random.

use super::*;
use crate::model::{ContentHash, FolderId, RowId};
use crate::pop3::protocol::Uidl;
use proptest::prelude::*;

fn fingerprint(n: u32) -> Fingerprint {
    Fingerprint { message_id: format!("<{n}@x>").into(), date: "today".into() }
}

fn number(n: usize) -> Number {
    Number::new(u32::try_from(n).unwrap()).unwrap()
}

/// Message `content` under this UIDL.
fn row(id: u32, uidl: &str, content: u32, state: UidlState) -> UidlRow {
    UidlRow {
        id: UidlId(id),
        epoch: 1,
        uidl: (!uidl.is_empty()).then(|| uidl.as_bytes().into()),
        generation: 1,
        size: 1000 + u64::from(content),
        state,
        row: Some(RowId(i64::from(id))),
        folder: FolderId(1),
        base: None,
        content: None,
        fingerprint: fingerprint(content),
        first_seen: 0,
        delivered_at: 0,
        short: false,
    }
}

fn known(rows: Vec<UidlRow>) -> Known {
    Known { rows: rows.into_iter().map(|r| (r.id, r)).collect(), ..Known::default() }
}

/// A mailbox of these UIDLs and contents.
fn mailbox(messages: &[(&str, u32)]) -> (Vec<Listed>, BTreeMap<Number, Fingerprint>) {
    let listed = messages
        .iter()
        .enumerate()
        .map(|(i, (uidl, content))| Listed {
            number: number(i + 1),
            uidl: (!uidl.is_empty()).then(|| uidl.as_bytes().into()),
            size: 1000 + u64::from(*content),
        })
        .collect();
    let headers = messages.iter().enumerate();
    (listed, headers.map(|(i, (_, c))| (number(i + 1), fingerprint(*c))).collect())
}

fn told(messages: &[(&str, u32)], known: &Known) -> (First, Settled) {
    let (listed, mut headers) = mailbox(messages);
    let first = first(&listed, known);
    headers.retain(|n, _| first.ask.contains(n));
    let settled = settle(&listed, known, &first, &headers);
    (first, settled)
}

fn ids(found: &BTreeMap<Number, UidlId>) -> Vec<(u32, u32)> {
    found.iter().map(|(n, id)| (n.get(), id.0)).collect()
}

fn fetched(s: &Settled) -> Vec<u32> {
    s.fetch.iter().map(|n| n.get()).collect()
}

const D: UidlState = UidlState::Delivered;

#[test]
fn nothing_is_asked_while_uidls_say_all() {
    let k = known(vec![row(1, "a", 1, D), row(2, "b", 2, UidlState::DelePending)]);
    let (first, s) = told(&[("a", 1), ("b", 2), ("c", 3)], &k);
    assert_eq!(ids(&s.known), [(1, 1), (2, 2)]);
    assert_eq!((fetched(&s), first.ask.len(), first.all_new), (vec![3], 0, false));
}

#[test]
fn a_migration_is_recognised_by_headers() {
    let k = known((1..=5).map(|n| row(n, &format!("old{n}"), n, D)).collect());
    let (first, s) = told(&[("n3", 3), ("n4", 4), ("n9", 9), ("n1", 1)], &k);
    assert!(first.all_new);
    assert_eq!(ids(&s.renamed), [(1, 3), (2, 4), (4, 1)]);
    assert_eq!(fetched(&s), [3]);
}

#[test]
fn headers_that_can_settle_nothing_are_not_asked_for() {
    let mut k = known((1..=3).map(|n| row(n, &format!("old{n}"), n, D)).collect());
    let asked = |k: &Known| -> Vec<u32> {
        let (first, _) = told(&[("n1", 1), ("n9", 9), ("n7", 7)], k);
        assert!(first.all_new);
        first.ask.iter().map(|n| n.get()).collect()
    };
    assert_eq!(asked(&k), [1], "the others have sizes that nothing had");
    let stray = |sizes| Stray { fingerprint: fingerprint(9), sizes };
    k.strays = vec![stray(500..=900), stray(1010..=2000)];
    assert_eq!(asked(&k), [1]);
    // where one may be here, all have to be unlike it
    k.strays.push(stray(900..=1009));
    assert_eq!(asked(&k), [1, 2, 3]);
}

#[test]
fn a_mailbox_that_was_empty_in_between_is_recognised_too() {
    let mut k = known(vec![]);
    let gone = (1..=2).map(|n| row(n, &format!("old{n}"), n, UidlState::Gone));
    k.gone = gone.map(|r| (r.id, r)).collect();
    let (_, s) = told(&[("n1", 1), ("n2", 2), ("n3", 3)], &k);
    assert_eq!((ids(&s.renamed), fetched(&s)), (vec![(1, 1), (2, 2)], vec![3]));
}

#[test]
fn equal_uidls_are_told_apart_by_their_headers() {
    let k = known(vec![row(1, "a", 1, D), UidlRow { generation: 2, ..row(2, "a", 2, D) }]);
    let (first, s) = told(&[("a", 2), ("a", 3), ("a", 1)], &k);
    assert_eq!(first.ask.len(), 3);
    assert_eq!((ids(&s.known), fetched(&s)), (vec![(1, 2), (3, 1)], vec![2]));
}

#[test]
fn copies_of_one_message_are_looked_at_only_when_their_number_changes() {
    let copy = |id, bytes, state| UidlRow {
        generation: id,
        content: Some(ContentHash([bytes; 32])),
        fingerprint: Fingerprint::default(),
        ..row(id, "a", 1, state)
    };
    let two = known(vec![copy(1, 7, D), copy(2, 7, D)]);
    let (first, s) = told(&[("a", 1), ("a", 1)], &two);
    assert_eq!((ids(&s.known), fetched(&s)), (vec![(1, 1), (2, 2)], vec![]));
    assert_eq!(first.ask.len(), 0);
    // one more, one less, another size
    for listed in [&[("a", 1), ("a", 1), ("a", 1)][..], &[("a", 1)], &[("a", 1), ("a", 2)]] {
        assert_eq!(told(listed, &two).1.fetch.len(), listed.len());
    }
    // one went, and the other is what it was
    let one = known(vec![copy(1, 7, UidlState::Gone), copy(2, 7, D)]);
    assert_eq!(ids(&told(&[("a", 1)], &one).1.known), [(1, 2)]);
    // a server that calls different messages alike
    for state in [D, UidlState::Gone, UidlState::Deleted] {
        let differ = known(vec![copy(1, 7, D), copy(2, 8, state)]);
        let there = if state == D { 2 } else { 1 };
        let listed = vec![("a", 1); there];
        assert_eq!(told(&listed, &differ).1.known.len(), 0, "{state:?}");
    }
}

/// A server whose UIDLs are a part of the header: one for two copies and another message.
#[test]
fn copies_beside_another_message_of_their_uidl_are_known_by_their_headers() {
    let one = |id, content: u32, state| UidlRow {
        generation: id,
        content: Some(ContentHash([content as u8; 32])),
        ..row(id, "a", content, state)
    };
    let mailbox = [("a", 2), ("a", 1), ("a", 1)];
    let k = known(vec![one(1, 1, D), one(2, 2, D), one(3, 1, D)]);
    let (first, s) = told(&mailbox, &k);
    assert_eq!(first.ask.len(), 3);
    assert_eq!((ids(&s.known), fetched(&s)), (vec![(1, 2), (2, 1), (3, 3)], vec![]));
    // a third copy was there before
    let k = known(vec![one(1, 1, UidlState::Gone), one(2, 2, D), one(3, 1, D), one(4, 1, D)]);
    assert_eq!(ids(&told(&mailbox, &k).1.known), [(1, 2), (2, 3), (3, 4)]);
    // the bytes say which is which where they differ, or where there are more or fewer
    let mut k = known(vec![one(1, 1, D), one(2, 2, D), one(3, 1, D)]);
    assert_eq!(fetched(&told(&mailbox[..2], &k).1), [2]);
    assert_eq!(fetched(&told(&[("a", 1), ("a", 1), ("a", 1)], &k).1), [1, 2, 3]);
    k.rows.get_mut(&UidlId(3)).unwrap().content = Some(ContentHash([9; 32]));
    assert_eq!(fetched(&told(&mailbox, &k).1), [2, 3]);
}

#[test]
fn only_copies_may_share_a_uidl() {
    let one = |id, content| UidlRow { content, ..row(id, "a", 1, D) };
    let bytes = |n| Some(ContentHash([n; 32]));
    let (listed, _) = mailbox(&[("a", 1), ("b", 2), ("a", 1)]);
    let wrong = |first, second, done: &[usize]| -> Vec<u32> {
        let rows = known(vec![one(1, first), one(2, None), one(3, second)]).rows;
        let done = done.iter().map(|n| (number(*n), UidlId(*n as u32))).collect();
        ambiguous(&listed, &done, &rows).iter().map(|id| id.0).collect()
    };
    assert_eq!(wrong(bytes(7), bytes(7), &[1, 2, 3]), [0; 0]);
    assert_eq!(wrong(bytes(7), bytes(8), &[1, 2, 3]), [1, 3]);
    assert_eq!(wrong(None, None, &[1, 2, 3]), [1, 3], "adopted by its header");
    assert_eq!(wrong(bytes(7), bytes(7), &[1, 2]), [1], "nobody knows what the other one is");
}

#[test]
fn a_uidl_of_another_size_is_looked_at() {
    let k = known(vec![row(1, "a", 1, D), row(2, "b", 2, D)]);
    let (first, s) = told(&[("a", 7), ("b", 2)], &k);
    assert_eq!(first.ask.len(), 1);
    assert_eq!((ids(&s.known), fetched(&s)), (vec![(2, 2)], vec![1]));
    // the server counts otherwise now
    let mut k = k;
    k.rows.get_mut(&UidlId(1)).unwrap().size = 5;
    let (_, s) = told(&[("a", 1), ("b", 2)], &k);
    assert_eq!((ids(&s.known), fetched(&s)), (vec![(1, 1), (2, 2)], vec![]));
}

#[test]
fn what_we_deleted_and_is_there_again_is_another_message() {
    let k = known(vec![row(1, "a", 1, UidlState::Deleted)]);
    assert_eq!(fetched(&told(&[("a", 1)], &k).1), [1]);
    // and what went without our doing is the same
    let k = known(vec![row(1, "a", 1, UidlState::Gone)]);
    assert_eq!(ids(&told(&[("a", 1)], &k).1.known), [(1, 1)]);
}

#[test]
fn without_uidl_headers_decide_and_what_looks_alike_is_fetched() {
    let k = known(vec![row(1, "", 1, D), row(2, "", 2, D), row(3, "", 2, D)]);
    let (_, s) = told(&[("", 1), ("", 2), ("", 2), ("", 4)], &k);
    assert_eq!((ids(&s.known), fetched(&s)), (vec![(1, 1)], vec![2, 3, 4]));
}

#[test]
fn strays_are_adopted_where_both_sides_have_one() {
    let mut k = known(vec![]);
    let stray = |n| Stray { fingerprint: fingerprint(n), sizes: 900..=2000 };
    k.strays = [1, 2, 2, 5].map(stray).to_vec();
    let (_, s) = told(&[("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 4)], &k);
    let adopted: Vec<_> = s.adopted.iter().map(|(n, i)| (n.get(), *i)).collect();
    assert_eq!((adopted, fetched(&s)), (vec![(1, 0)], vec![2, 3, 4, 5]));
}

/// A list's copy of a message has its Message-ID and Date, and is another message.
#[test]
fn message_id_and_date_alone_settle_nothing() {
    let resized = |n, content, size| UidlRow { size, ..row(n, &format!("old{n}"), content, D) };
    // all UIDLs are new: of what has another size, or none, the bytes are compared
    let k = known(vec![resized(1, 1, 700), resized(2, 2, 1002), resized(3, 3, 0)]);
    let (first, s) = told(&[("n1", 1), ("n2", 2), ("n3", 3)], &k);
    assert!(first.all_new);
    assert_eq!((ids(&s.renamed), fetched(&s)), (vec![(2, 2)], vec![1, 3]));
    // neither side has sizes
    let (mut listed, headers) = mailbox(&[("n1", 3)]);
    listed[0].size = 0;
    let first = super::first(&listed, &k);
    assert_eq!(fetched(&settle(&listed, &k, &first, &headers)), [1]);
    // no UIDL, and one message only on each side
    let k = known(vec![UidlRow { size: 700, ..row(1, "", 1, D) }]);
    assert_eq!(fetched(&told(&[("", 1)], &k).1), [1]);
    // what another program has put here
    let mut k = known(vec![]);
    k.strays = vec![Stray { fingerprint: fingerprint(1), sizes: 1002..=9000 }];
    assert_eq!(fetched(&told(&[("a", 1)], &k).1), [1]);
}

/// UIDLs that are numbers begin at 1 on another server too.
#[test]
fn a_mailbox_that_is_numbered_anew_is_looked_at_whole() {
    let mut rows: Vec<UidlRow> = (1..=5).map(|n| row(n, &n.to_string(), n, D)).collect();
    // by chance the last one has the size of what has its UIDL now
    rows[4].size = 1000 + 15;
    let k = known(rows);
    let (first, s) = told(&[("1", 11), ("2", 12), ("3", 13), ("4", 14), ("5", 15)], &k);
    assert_eq!((first.known.len(), first.ask.len()), (0, 5));
    assert_eq!((s.known.len(), fetched(&s)), (0, vec![1, 2, 3, 4, 5]));
}

#[test]
fn listings_that_contradict_each_other_freeze() {
    let uidl = |u: &[u8]| Uidl::new(u);
    let all = Uidls::Known(vec![(number(1), uidl(b"a")), (number(2), uidl(b"b"))]);
    let sizes = [(number(1), 10), (number(2), 20)];
    assert!(listing(2, &all, &sizes).1.is_empty());
    assert_eq!(listing(1, &all, &sizes).1, BTreeSet::new(), "one arrived meanwhile");
    assert_eq!(listing(3, &all, &sizes).1, BTreeSet::from([Freeze::Short]));
    assert_eq!(listing(2, &all, &sizes[..1]).1, BTreeSet::from([Freeze::Short]));
    let twice = Uidls::Known(vec![(number(1), uidl(b"a")), (number(2), uidl(b"a"))]);
    let (listed, freeze) = listing(2, &twice, &sizes);
    assert_eq!((doubled(&listed), freeze), (BTreeSet::from([&b"a"[..]]), BTreeSet::new()));
    let none = Uidls::Unsupported("no".into());
    let (listed, freeze) = listing(2, &none, &sizes);
    assert_eq!((listed.len(), freeze), (2, BTreeSet::from([Freeze::NoUidl])));
}

proptest! {
    /// Whatever the server calls its messages, none is taken for another one, and none that is
    /// known by its header and alone in that is fetched again after a migration.
    #[test]
    fn no_message_is_taken_for_another(
        before in prop::collection::vec((0u32..6, 0u32..12), 0..12),
        now in prop::collection::vec((0u32..6, 0u32..12), 0..12),
        migrated: bool)
    {
        let uidl = |n: u32, new: bool| if n == 0 { String::new() } else if new && migrated {
            format!("new{n}")
        } else {
            format!("u{n}")
        };
        let mut generations: BTreeMap<String, u32> = BTreeMap::new();
        let rows: Vec<UidlRow> = (1..).zip(&before).map(|(id, (u, c))| {
            let name = uidl(*u, false);
            let generation = generations.entry(name.clone()).or_default();
            *generation += 1;
            UidlRow { generation: *generation, ..row(id, &name, *c, D) }
        }).collect();
        let content: BTreeMap<UidlId, u32> =
            rows.iter().zip(&before).map(|(r, (_, c))| (r.id, *c)).collect();
        let k = known(rows);
        let names: Vec<(String, u32)> = now.iter().map(|(u, c)| (uidl(*u, true), *c)).collect();
        let messages: Vec<(&str, u32)> = names.iter().map(|(u, c)| (u.as_str(), *c)).collect();
        let (_, s) = told(&messages, &k);
        let mut used = BTreeSet::new();
        for (n, id) in s.known.iter().chain(&s.renamed) {
            let (_, c) = messages[n.get() as usize - 1];
            prop_assert_eq!(c, content[id]);
            prop_assert!(used.insert(*id), "{:?} stands for two messages", id);
        }
        prop_assert_eq!(s.fetch.len() + used.len(), messages.len());
    }
}

#[test]
fn what_may_be_in_a_file_that_could_not_be_read_is_not_fetched() {
    let mut k = known(vec![row(1, "a", 1, UidlState::Delivered)]);
    let messages = [("a", 1), ("b", 2), ("c", 90_000)];
    for (unread, obscure) in [
        (vec![], vec![]),
        (vec![Unread::of(900)], vec![2]),
        (vec![Unread::of(90_000)], vec![3]),
        (vec![Unread::of(900), Unread::any()], vec![2, 3]),
        (vec![Unread::of(1 << 40)], vec![]),
    ] {
        k.unread = unread;
        let (_, s) = told(&messages, &k);
        let numbers: Vec<u32> = s.obscure.iter().map(|n| n.get()).collect();
        assert_eq!(numbers, obscure);
        assert_eq!(s.fetch.len(), 2 - obscure.len());
        assert_eq!(s.known.len(), 1, "what is known is known");
    }
    // a file is as long as its lines end; LIST may be wrong by a fifth
    for (size, listed) in [(10_000, 24_000), (10_000, 5_000), (0, 4_900)] {
        assert!(Unread::of(size).may_be(listed) && Unread::of(size).may_be(0));
    }
}
