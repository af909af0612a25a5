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
fn what_a_reader_saved_elsewhere_pairs_without_the_size() {
    // saved by mutt, moved on the server since, and the Maildir restored
    let mut s = scene();
    s.arrive("Archive", "a");
    s.put("INBOX", "a'");
    lost(&mut s);
    s.ends("Archive a", "Archive a'");
    assert!(s.w.downloads.is_empty());
    assert_eq!(s.w.asked, 0);
    assert!(s.w.ledger.rows.values().all(|r| !r.exact));
}

#[test]
fn of_two_with_a_message_id_the_bytes_decide_but_for_what_readers_write() {
    let mut s = scene();
    s.bytes("a", "<x>", "d", 1000);
    s.bytes("b", "<x>", "d", 2000);
    s.bytes("c", "<x>", "d", 3000);
    s.arrive("INBOX", "a");
    s.put("INBOX", "b");
    s.put("INBOX", "c");
    s.put("Archive", "a'");
    lost(&mut s);
    let p = s.ends("INBOX a", "INBOX a', INBOX b, INBOX c");
    assert!(s.w.downloads.is_empty());
    assert_eq!(s.w.asked, 1);
    assert_eq!(p.held[0].files.len(), 2);
}

#[test]
fn a_draft_that_mbsync_marked_pairs_by_its_bytes_and_an_edited_one_does_not() {
    let mut s = scene();
    s.w.settle_folder("Drafts", Some(SpecialUse::Drafts));
    s.bytes("b", "<b>", "d", 1000);
    s.bytes("c", "<b>", "d", 1000);
    s.arrive("Drafts", "a");
    s.put("Drafts", "a'");
    s.arrive("Drafts", "b");
    s.put("Drafts", "c");
    lost(&mut s);
    let p = s.ends("Drafts a, Drafts b", "Drafts a', Drafts b, Drafts c");
    assert_eq!(s.w.downloads.len(), 1);
    assert_eq!(p.held[0].files.len(), 1);
}

#[test]
fn a_draft_whose_flag_one_side_lacks_pairs_by_its_bytes() {
    for flagged_there in [true, false] {
        let mut s = scene();
        s.arrive("INBOX", "a");
        s.put("INBOX", "a'");
        let draft = flags("\\Draft");
        match flagged_there {
            true => s.mail("INBOX", "a").flags = draft,
            false => s.file("INBOX", "a'").flags = draft,
        }
        lost(&mut s);
        let p = s.ends("INBOX a", "INBOX a'");
        assert!(p.held.is_empty());
    }
}

/// Its bytes here are known by the readers' hash alone, which says nothing of other drafts.
#[test]
fn a_draft_that_mbsync_marked_is_the_same_wherever_it_goes() {
    for kept in [false, true] {
        let mut s = scene();
        s.bytes("b", "<a@x>", "today", 1000);
        s.arrive("Drafts", "a");
        s.put("Drafts", "a'");
        s.arrive("INBOX", "b");
        lost(&mut s);
        s.ends("Drafts a, INBOX b", "Drafts a', INBOX b");
        s.move_here("Drafts", "a'", "Drafts");
        s.ends("Drafts a, INBOX b", "Drafts a', INBOX b");
        if kept {
            s.expunge("Drafts", "a");
        }
        s.move_here("Drafts", "a'", "Archive");
        let there = if kept { "INBOX b" } else { "Archive a, INBOX b" };
        s.ends(there, "Archive a', INBOX b");
        s.put("Trash", "a'");
        let there = if kept { "INBOX b" } else { "Archive a, INBOX b, Trash a'" };
        s.ends(there, "Archive a', INBOX b, Trash a'");
    }
}

#[test]
fn two_with_a_message_id_and_other_bytes_do_not_pair() {
    let mut s = scene();
    for (name, size) in [("a", 1000), ("b", 2000), ("c", 3000)] {
        s.bytes(name, "<x>", "d", size);
    }
    s.arrive("INBOX", "a");
    s.put("INBOX", "b");
    s.put("INBOX", "c");
    lost(&mut s);
    s.ends("INBOX a", "INBOX a, INBOX b, INBOX c");
}

#[test]
fn what_is_left_of_several_with_a_message_id_does_not_pair() {
    for (there, here) in [("INBOX", "INBOX"), ("Archive", "Junk")] {
        let mut s = scene();
        for (name, size) in [("a", 1000), ("b", 2000), ("c", 3000)] {
            s.bytes(name, "<x>", "d", size);
        }
        s.arrive("INBOX", "a");
        s.put("INBOX", "a");
        s.arrive(there, "b");
        s.put(here, "c");
        lost(&mut s);
        let mut all = [format!("{there} b"), format!("{here} c"), "INBOX a".into()];
        all.sort();
        let mut server = [format!("{there} b"), "INBOX a".into()];
        server.sort();
        s.ends(&server.join(", "), &all.join(", "));
        assert_eq!(s.w.downloads.len(), 1);
    }
}

#[test]
fn what_was_sent_is_not_what_came_back_from_the_list() {
    let mut s = scene();
    s.w.settle_folder("Sent", Some(SpecialUse::Sent));
    s.bytes("a", "<x>", "d", 1000);
    s.bytes("b", "<x>", "d", 2000);
    s.arrive("Sent", "a");
    s.put("INBOX", "b");
    lost(&mut s);
    s.ends("Sent a", "INBOX b, Sent a");
    // but what a reader refiled is
    let mut s = scene();
    s.w.settle_folder("Sent", Some(SpecialUse::Sent));
    s.arrive("Sent", "a");
    s.put("INBOX", "a'");
    lost(&mut s);
    s.ends("Sent a", "Sent a'");
}

#[test]
fn a_draft_never_pairs_without_the_size() {
    let mut s = scene();
    s.bytes("b", "<a@x>", "today", 1011);
    s.arrive("Drafts", "a");
    s.put("INBOX", "b");
    lost(&mut s);
    s.ends("Drafts a", "Drafts a, INBOX b");
}

#[test]
fn a_draft_that_mbsync_marked_was_refiled() {
    for (there, here) in [("Drafts", "INBOX"), ("INBOX", "Drafts"), ("Archive", "INBOX")] {
        let mut s = scene();
        s.arrive(there, "a").flags = flags("\\Draft");
        s.put(here, "a'");
        lost(&mut s);
        let p = s.ends(&format!("{there} a"), &format!("{there} a'"));
        assert!(p.held.is_empty() && s.w.downloads.is_empty());
    }
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

/// Another program wrote into the file of what is on the server, so that only the kept one has its
/// size.
#[test]
fn kept_mail_stays_where_it_is_beside_a_changed_message_elsewhere() {
    for (in_ledger, sizes_lie) in [(true, false), (false, false), (true, true)] {
        for file in ["a'", "c"] {
            let mut s = scene();
            s.w.sizes_lie = sizes_lie;
            s.bytes("a", "<x>", "d", 1000);
            s.bytes("c", "<x>", "d", 1400);
            let kept = s.had(Kept, "Archive", "a");
            s.arrive("INBOX", "a");
            s.put("INBOX", file);
            match in_ledger {
                true => s.w.ledger.first_pass = true,
                false => {
                    s.remove("Archive", "a");
                    s.put_ours("Archive", "a");
                    lost(&mut s);
                }
            }
            let p = s.ends("INBOX a", &format!("Archive a, INBOX {file}"));
            assert!(p.held.is_empty());
            assert_eq!(s.w.downloads.len(), 0);
            if in_ledger {
                assert_eq!(s.row(kept).state, Kept);
            }
        }
    }
}

#[test]
fn of_two_that_were_refiled_each_goes_to_what_has_its_size() {
    let mut s = scene();
    s.bytes("a", "<x>", "d", 1000);
    s.bytes("b", "<x>", "d", 2000);
    s.had(Synced, "INBOX", "a");
    s.had(Synced, "Junk", "b");
    s.move_here("INBOX", "a", "Archive");
    s.move_here("Junk", "b", "INBOX");
    lost(&mut s);
    s.ends("INBOX a, Junk b", "INBOX a, Junk b");
    assert!(s.w.downloads.is_empty());
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
fn what_is_held_may_still_arrive_in_another_folder() {
    for verdict in [Verdict::Open, Verdict::Approved, Verdict::Rejected] {
        let mut s = scene();
        s.bytes("b", "<a@x>", "today", 1000);
        s.put("INBOX", "a");
        lost(&mut s);
        s.ends("", "INBOX a");
        s.arrive("Archive", "b"); // like it, but for the bytes
        s.arrive("Archive", "a");
        s.w.ledger.held_files.values_mut().for_each(|v| *v = verdict);
        let p = s.ends("Archive a, Archive b", "Archive a, Archive b");
        assert!(p.held.is_empty());
        assert_eq!(s.w.downloads.len(), 1);
    }
}

#[test]
fn what_arrives_as_a_copy_of_something_else_leaves_held_files_alone() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.put("Junk", "a");
    lost(&mut s);
    s.ends("INBOX a", "INBOX a, Junk a");
    s.arrive("Archive", "a");
    let p = s.ends("Archive a, INBOX a", "Archive a, INBOX a, Junk a");
    assert_eq!(p.held.len(), 1);
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

/// A pass that could not read everything here; the next is a first one again.
fn half_blind(s: &mut Scene) -> Pass {
    s.complete.1 = false;
    let p = s.pass();
    s.complete.1 = true;
    s.w.ledger.first_pass = true;
    p
}

#[test]
fn what_arrives_where_nothing_could_be_read_waits() {
    for streams in [false, true] {
        let mut s = scene();
        s.w.streams = streams;
        s.had(Synced, "INBOX", "a");
        s.had(Synced, "INBOX", "b");
        s.arrive("Archive", "c");
        lost(&mut s);
        s.w.unread_dirs.insert(folder("INBOX"));
        let p = half_blind(&mut s);
        assert!(p.waiting > 0);
        s.stands("Archive c, INBOX a, INBOX b", "Archive c, INBOX a, INBOX b");
        s.w.unread_dirs.clear();
        s.ends("Archive c, INBOX a, INBOX b", "Archive c, INBOX a, INBOX b");
        assert_eq!(s.w.downloads.len(), 1, "but for what is new elsewhere");
    }
}

#[test]
fn only_what_an_unreadable_file_may_be_waits() {
    for ours in [true, false] {
        let mut s = scene();
        s.bytes("a", "<a>", "d", 1000);
        s.bytes("b", "<b>", "d", 1001);
        s.bytes("c", "<c>", "d", 9000);
        for n in ["a", "b", "c"] {
            s.arrive("INBOX", n);
        }
        s.arrive("Archive", "b").date = 8;
        if ours {
            s.put_ours("INBOX", "a")
        } else {
            s.put("INBOX", "a")
        }
        lost(&mut s);
        s.w.unread_files = s.w.disk[&folder("INBOX")].keys().cloned().collect();
        let p = half_blind(&mut s);
        assert_eq!(p.waiting, 2, "a, and what has about its size");
        s.stands("Archive b, INBOX a, INBOX b, INBOX c", "Archive b, INBOX a, INBOX c");
        s.w.unread_files.clear();
        s.ends("Archive b, INBOX a, INBOX b, INBOX c", "Archive b, INBOX a, INBOX b, INBOX c");
        assert_eq!(s.w.downloads.len(), 3);
    }
}

#[test]
fn an_unreadable_file_may_have_been_refiled() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.move_here("INBOX", "a", "Archive");
    lost(&mut s);
    s.w.unread_files = s.w.disk[&folder("Archive")].keys().cloned().collect();
    assert_eq!(half_blind(&mut s).waiting, 1);
    s.w.unread_files.clear();
    s.ends("INBOX a", "INBOX a");
    assert!(s.w.downloads.is_empty());
}

#[test]
fn later_what_cannot_be_read_keeps_nothing_waiting() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.w.unread_dirs.insert(folder("INBOX"));
    s.arrive("INBOX", "b");
    s.complete.1 = false;
    assert_eq!(s.pass().waiting, 0);
    s.stands("INBOX a, INBOX b", "INBOX a, INBOX b");
}
