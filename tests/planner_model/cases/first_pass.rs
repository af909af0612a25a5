//! A Maildir that had mail before the ledger, and the ledger that was lost.

use super::*;

fn lost(s: &mut Scene) {
    s.w.lose_ledger();
}

#[test]
fn everything_that_is_on_both_sides_pairs() {
    let mut s = scene();
    for n in ["a", "a", "b"] {
        s.had(Synced, "INBOX", n);
    }
    s.had(Synced, "Archive", "a");
    lost(&mut s);
    s.ends("Archive a, INBOX a, INBOX a, INBOX b", "Archive a, INBOX a, INBOX a, INBOX b");
    assert!(s.w.downloads.is_empty());
    assert_eq!(s.w.asked, 2, "only the equal ones in one folder");
}

#[test]
fn a_file_refiled_before_the_ledger_went_follows_the_server() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.move_here("INBOX", "a", "Archive");
    lost(&mut s);
    s.ends("INBOX a", "INBOX a");
    assert!(s.w.downloads.is_empty());
}

#[test]
fn other_programs_change_the_size() {
    let mut s = scene();
    s.arrive("INBOX", "a");
    s.put("INBOX", "a'");
    lost(&mut s);
    s.ends("INBOX a", "INBOX a'");
    assert!(s.w.ledger.rows.values().all(|r| !r.exact));
    // but a pair whose bytes differ is not the same bytes for any other rule
    s.had(Synced, "Archive", "a");
    s.expunge("INBOX", "a");
    s.ends("Archive a", "Archive a, INBOX a'");
}

#[test]
fn where_sizes_lie_a_first_pass_needs_no_bytes() {
    let mut s = scene();
    s.w.sizes_lie = true;
    s.had(Synced, "INBOX", "a");
    s.had(Synced, "INBOX", "b");
    lost(&mut s);
    s.ends("INBOX a, INBOX b", "INBOX a, INBOX b");
    assert!(s.w.downloads.is_empty());
    assert_eq!(s.w.asked, 0);
    assert!(s.w.ledger.rows.values().all(|r| !r.exact));
}

#[test]
fn two_with_a_message_id_do_not_pair_without_the_size() {
    let mut s = scene();
    s.arrive("INBOX", "a");
    s.put("INBOX", "a'");
    let cid = s.cid("a'");
    let again = s.w.touched(cid);
    s.names.insert("a''".into(), again);
    s.put("INBOX", "a''");
    lost(&mut s);
    s.ends("INBOX a", "INBOX a, INBOX a', INBOX a''");
}

#[test]
fn kept_mail_is_kept_even_beside_an_equal_message() {
    let mut s = scene();
    s.had(Kept, "INBOX", "a");
    s.had(Kept, "INBOX", "b");
    s.had(Synced, "INBOX", "b");
    lost(&mut s);
    s.ends("INBOX b", "INBOX a, INBOX b, INBOX b");
    s.epoch("INBOX");
    s.ends("INBOX b", "INBOX a, INBOX b, INBOX b");
}

/// The ledger comes from a backup: it still knows what is kept.
#[test]
fn kept_mail_stays_where_it_is_beside_an_equal_message_elsewhere() {
    for id in [None, Some("M1")] {
        let mut s = scene();
        let kept = s.had(Kept, "Archive", "a");
        s.arrive("INBOX", "a").server_id = id.map(|x| ServerId(x.into()));
        s.row(kept).identity.server_id = id.map(|x| ServerId(x.into()));
        s.put_ours("INBOX", "a");
        s.w.ledger.first_pass = true;
        s.ends("INBOX a", "Archive a, INBOX a");
        assert_eq!(s.row(kept).state, Kept);
    }
    // but if it is the file, it was kept once
    let mut s = scene();
    let kept = s.had(Kept, "Archive", "a");
    s.arrive("INBOX", "a");
    s.move_here("Archive", "a", "INBOX");
    s.w.ledger.first_pass = true;
    s.ends("INBOX a", "INBOX a");
    assert!(s.row(kept).keeps);
}

#[test]
fn what_others_wrote_is_held_until_somebody_says() {
    for (verdict, there) in
        [(None, ""), (Some(Verdict::Rejected), ""), (Some(Verdict::Approved), "INBOX a")]
    {
        let mut s = scene();
        s.put("INBOX", "a");
        lost(&mut s);
        let p = s.ends("", "INBOX a");
        assert!(matches!(p.held.as_slice(), [h] if h.kind == HeldKind::UnknownFiles));
        for v in s.w.ledger.held_files.values_mut() {
            *v = verdict.unwrap_or(*v);
        }
        s.ends(there, "INBOX a");
        assert_eq!(
            s.states().first(),
            match verdict {
                None => None,
                Some(Verdict::Approved) => Some(&Synced),
                _ => Some(&Kept),
            }
        );
    }
}

#[test]
fn a_held_file_is_no_copy_either() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.put("Archive", "a");
    lost(&mut s);
    let p = s.ends("INBOX a", "Archive a, INBOX a");
    assert_eq!(p.held.len(), 1);
}
