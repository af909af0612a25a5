//! The decision table, row by row.

use mailkeep::policy::decide::decide;
use mailkeep::reconcile::plan;

use super::super::observe::{observe, standing};
use super::*;

#[test]
fn there_and_there_merges_flags() {
    let mut s = scene();
    let id = s.had(Synced, "INBOX", "a");
    s.row(id).agreed = flags("\\Flagged");
    s.mail("INBOX", "a").flags = flags("\\Flagged \\Seen");
    s.file("INBOX", "a").flags = flags("todo");
    s.ends("INBOX a", "INBOX a");
    assert_eq!(s.mail("INBOX", "a").flags, flags("\\Seen todo"));
    assert_eq!(s.file("INBOX", "a").flags, flags("\\Seen todo"));
}

#[test]
fn moved_there_the_file_follows() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.move_there("INBOX", "a", "Archive");
    s.ends("Archive a", "Archive a");
    assert!(s.w.downloads.is_empty());
    assert_eq!(s.w.asked, 0);
}

#[test]
fn gone_there_is_kept_under_keep() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.expunge("INBOX", "a");
    s.ends("", "INBOX a");
    assert_eq!(s.states(), [Kept]);
}

#[test]
fn gone_there_goes_here_under_mirror() {
    let mut s = mirror();
    s.had(Synced, "INBOX", "a");
    s.expunge("INBOX", "a");
    s.ends("", "");
}

#[test]
fn a_label_taken_off_takes_the_file_with_it() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.had(Synced, "Archive", "a");
    s.expunge("INBOX", "a");
    s.ends("Archive a", "Archive a");
}

#[test]
fn the_same_bytes_in_trash_or_junk_are_no_reason_to_unlink() {
    for at in ["Trash", "Junk"] {
        let mut s = scene();
        s.had(Synced, "INBOX", "a");
        s.had(Synced, at, "a");
        s.expunge("INBOX", "a");
        s.ends(&format!("{at} a"), &format!("INBOX a, {at} a"));
    }
}

#[test]
fn the_same_bytes_in_a_folder_that_mirrors_are_no_reason_to_unlink() {
    let mut s = scene();
    s.rule("Archive", Some(RemoteDelete::Mirror), None);
    s.had(Synced, "INBOX", "a");
    s.had(Synced, "Archive", "a");
    s.expunge("INBOX", "a");
    s.ends("Archive a", "Archive a, INBOX a");
}

#[test]
fn the_same_bytes_must_be_known_to_be_the_same_and_be_on_both_sides() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    let twin = s.had(Synced, "Archive", "a");
    s.row(twin).exact = false;
    s.expunge("INBOX", "a");
    s.ends("Archive a", "Archive a, INBOX a");
    for (state, there, here) in [(Kept, "", "Archive a, INBOX a"), (Absent, "Archive a", "INBOX a")]
    {
        let mut s = scene();
        s.had(Synced, "INBOX", "a");
        s.had(state, "Archive", "a");
        s.expunge("INBOX", "a");
        s.ends(there, here);
    }
}

#[test]
fn moved_here_is_moved_there() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.move_here("INBOX", "a", "Archive");
    let actions = s.pass().actions;
    assert!(matches!(actions.as_slice(), [Action::MoveThere { .. }]), "{actions:?}");
    s.ends("Archive a", "Archive a");
}

#[test]
fn moved_here_by_a_reader_that_writes_headers_is_moved_there() {
    let mut s = scene();
    let id = s.had(Synced, "INBOX", "a");
    s.remove("INBOX", "a");
    s.put("Archive", "a'");
    s.ends("Archive a", "Archive a'");
    assert!(!s.row(id).exact);
}

/// `b` stands in Archive under the name that `a` had in INBOX.
pub fn edited_and_moved(s: &mut Scene) {
    let cid = s.cid("a");
    let at = s.w.disk[&folder("INBOX")].iter().find(|(_, f)| f.cid == cid);
    let base = at.expect("no such file").0.clone();
    s.remove("INBOX", "a");
    let (cid, ghost) = (s.cid("b"), s.w.fresh());
    s.w.put_file(&folder("Archive"), base, File { cid, flags: flags(""), date: 7, ghost });
}

#[test]
fn an_equal_name_with_other_bytes_is_no_move() {
    for (policy, there, here, states) in [
        (LocalDelete::Mirror, "Archive b", "Archive b", vec![Synced]),
        (LocalDelete::Trash, "Archive b, Trash a", "Archive b, Trash a", vec![Synced, Synced]),
        (LocalDelete::Keep, "Archive b, INBOX a", "Archive b", vec![Absent, Synced]),
    ] {
        let mut s = scene();
        s.policy.local_delete = policy;
        s.had(Synced, "INBOX", "a");
        edited_and_moved(&mut s);
        s.ends(there, here);
        assert_eq!(s.states(), states);
    }
}

#[test]
fn what_was_edited_and_moved_is_sent_before_the_original_goes() {
    // while it cannot be sent, only the original's row says that it does not come from a server
    let mut s = mirror();
    s.had(Synced, "INBOX", "a");
    edited_and_moved(&mut s);
    s.policy.read_only = true;
    s.ends("INBOX a", "Archive b");
    s.policy.read_only = false;
    // a dry run shows both
    let mut w = s.w.clone();
    let trees = observe(&mut w, &s.policy, (true, true));
    let standing = standing(&w, &s.policy, &trees);
    let d = decide(&plan(&trees), &trees, &s.policy, &standing);
    assert!(matches!(d.actions.as_slice(), [Action::Upload(_)]), "{:?}", d.actions);
    assert!(matches!(d.later.as_slice(), [Action::ExpungeThere { .. }]), "{:?}", d.later);
    let actions = s.pass().actions;
    assert!(matches!(actions.as_slice(), [Action::Upload(_)]), "{actions:?}");
    s.ends("Archive b", "Archive b");
    // where nothing is uploaded, it stays here
    let mut s = mirror();
    s.had(Synced, "INBOX", "a");
    edited_and_moved(&mut s);
    s.policy.upload = false;
    s.ends("", "Archive b");
    assert_eq!(s.states(), [Kept]);
}

#[test]
fn what_was_edited_and_moved_is_sent_wherever_the_server_put_the_original() {
    let mut s = mirror();
    s.had(Synced, "INBOX", "a");
    edited_and_moved(&mut s);
    s.move_there("INBOX", "a", "Junk");
    s.ends("Archive b, Junk a", "Archive b, Junk a");
}

#[test]
fn what_was_edited_and_moved_is_sent_even_where_an_equal_file_appears() {
    let mut s = mirror();
    s.had(Synced, "INBOX", "a");
    s.had(Synced, "INBOX", "a");
    edited_and_moved(&mut s);
    s.put("INBOX", "a");
    s.ends("Archive b, INBOX a, INBOX a", "Archive b, INBOX a, INBOX a");
}

#[test]
fn what_was_edited_and_moved_counts_for_the_brake_at_once() {
    let mut s = mirror();
    s.policy.brake = Brake { percent: 0, messages: 1 };
    s.had(Synced, "INBOX", "a");
    s.had(Synced, "INBOX", "c");
    edited_and_moved(&mut s);
    s.remove("INBOX", "c");
    let held = s.pass().held;
    assert!(matches!(held.as_slice(), [h] if h.rows.len() == 2), "{held:?}");
    s.ends("Archive b, INBOX a, INBOX c", "Archive b");
}

#[test]
fn what_was_edited_and_moved_stays_kept_where_the_server_has_no_original() {
    for state in [Synced, Kept] {
        let mut s = mirror();
        s.had(state, "INBOX", "a");
        edited_and_moved(&mut s);
        if state == Synced {
            s.expunge("INBOX", "a");
        }
        s.ends("", "Archive b");
        assert_eq!(s.states(), [Kept]);
    }
}

#[test]
fn gone_here_under_each_policy() {
    for (policy, there, here, states) in [
        (LocalDelete::Mirror, "", "", vec![]),
        (LocalDelete::Trash, "Trash a", "Trash a", vec![Synced]),
        (LocalDelete::Keep, "INBOX a", "", vec![Absent]),
    ] {
        let mut s = scene();
        s.policy.local_delete = policy;
        s.had(Synced, "INBOX", "a");
        s.remove("INBOX", "a");
        s.ends(there, here);
        assert_eq!(s.states(), states);
    }
}

#[test]
fn gone_on_both_sides_is_forgotten() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.expunge("INBOX", "a");
    s.remove("INBOX", "a");
    s.ends("", "");
    assert_eq!(s.states(), []);
}

#[test]
fn new_there_is_downloaded_once() {
    let mut s = scene();
    s.arrive("INBOX", "a").flags = flags("\\Seen");
    s.ends("INBOX a", "INBOX a");
    assert_eq!(s.w.downloads.len(), 1);
    assert_eq!(s.file("INBOX", "a").flags, flags("\\Seen"));
}

#[test]
fn new_there_and_nothing_to_pair_with_is_one_stream() {
    let mut s = scene();
    s.w.streams = true;
    s.had(Synced, "INBOX", "x");
    for n in ["a", "b", "c"] {
        s.arrive("INBOX", n);
    }
    let actions = s.pass().actions;
    assert!(matches!(actions.as_slice(), [Action::Pull { .. }]), "{actions:?}");
    s.ends("INBOX a, INBOX b, INBOX c, INBOX x", "INBOX a, INBOX b, INBOX c, INBOX x");
}

#[test]
fn new_there_is_linked_where_the_server_says_that_it_is_here() {
    let mut s = scene();
    let id = s.had(Synced, "INBOX", "a");
    s.row(id).identity.server_id = Some(ServerId("x".into()));
    s.arrive("Archive", "a").server_id = Some(ServerId("x".into()));
    let actions = s.pass().actions;
    assert!(matches!(actions.as_slice(), [Action::Link { from, .. }] if *from == id));
    s.ends("Archive a, INBOX a", "Archive a, INBOX a");
}

#[test]
fn new_here_is_uploaded() {
    let mut s = scene();
    s.put("INBOX", "a");
    s.file("INBOX", "a").flags = flags("\\Seen");
    s.ends("INBOX a", "INBOX a");
    assert_eq!(s.mail("INBOX", "a").flags, flags("\\Seen"));
}

#[test]
fn new_here_with_a_name_of_ours_never_is() {
    let mut s = scene();
    s.put_ours("INBOX", "a");
    s.ends("", "INBOX a");
    assert_eq!(s.states(), [Kept]);
}

#[test]
fn new_here_stays_here_without_upload() {
    let mut s = scene();
    s.policy.upload = false;
    s.had(Synced, "INBOX", "b");
    s.put("INBOX", "a");
    s.put("Archive", "b"); // a copy, too
    s.ends("INBOX b", "Archive b, INBOX a, INBOX b");
    assert_eq!(s.states(), [Synced, Kept, Kept]);
}

#[test]
fn a_copy_made_here_is_copied_there() {
    for copy in ["a", "a'"] {
        let mut s = scene();
        s.had(Synced, "INBOX", "a");
        s.put("Archive", copy);
        let actions = s.pass().actions;
        assert!(matches!(actions.as_slice(), [Action::CopyThere { .. }]), "{actions:?}");
        s.ends("Archive a, INBOX a", &format!("Archive {copy}, INBOX a"));
    }
}

#[test]
fn a_copy_with_the_original_s_name_is_a_copy() {
    let mut s = scene();
    let id = s.had(Synced, "INBOX", "a");
    let base = s.row(id).place.clone().unwrap().file.base;
    let file = File { ghost: s.w.fresh(), ..s.file("INBOX", "a").clone() };
    s.w.put_file(&folder("Archive"), base, file);
    s.ends("Archive a, INBOX a", "Archive a, INBOX a");
}

#[test]
fn equal_bytes_with_a_name_of_ours_are_no_copy() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.put_ours("Archive", "a");
    s.ends("INBOX a", "Archive a, INBOX a");
    assert_eq!(s.states(), [Synced, Kept]);
}

#[test]
fn new_there_that_was_kept_is_synced_again() {
    for at in ["INBOX", "Archive"] {
        let mut s = scene();
        s.had(Kept, "INBOX", "a");
        s.arrive(at, "a");
        s.ends(&format!("{at} a"), &format!("{at} a"));
        assert_eq!(s.states(), [Synced]);
        assert!(s.w.downloads.is_empty());
    }
}

#[test]
fn moved_on_both_sides_to_the_same_folder() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.move_there("INBOX", "a", "Archive");
    s.move_here("INBOX", "a", "Archive");
    s.ends("Archive a", "Archive a");
    assert!(s.w.downloads.is_empty());
}

#[test]
fn moved_on_both_sides_the_local_place_wins() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.move_there("INBOX", "a", "Junk");
    s.move_here("INBOX", "a", "Archive");
    s.ends("Archive a", "Archive a");
    assert!(s.w.downloads.is_empty());
}

#[test]
fn a_file_that_was_only_renamed_follows_the_server() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.move_there("INBOX", "a", "Archive");
    s.move_here("INBOX", "a", "INBOX");
    s.ends("Archive a", "Archive a");
    let mut s = mirror();
    s.had(Synced, "INBOX", "a");
    s.expunge("INBOX", "a");
    s.move_here("INBOX", "a", "INBOX");
    s.ends("", "");
}

#[test]
fn gone_there_and_moved_here_is_kept_and_never_sent() {
    for mut s in [scene(), mirror()] {
        s.had(Synced, "INBOX", "a");
        s.expunge("INBOX", "a");
        s.move_here("INBOX", "a", "Archive");
        s.ends("", "Archive a");
        assert_eq!(s.states(), [Kept]);
    }
}

#[test]
fn gone_there_and_copied_here_is_kept_and_never_sent() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.expunge("INBOX", "a");
    s.put("Archive", "a");
    s.ends("", "Archive a, INBOX a");
    assert_eq!(s.states(), [Kept, Kept]);
    // and moved, too, by a reader that writes headers
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.expunge("INBOX", "a");
    s.move_here("INBOX", "a", "Archive");
    s.put("Junk", "a'");
    s.ends("", "Archive a, Junk a'");
    assert_eq!(s.states(), [Kept, Kept]);
}

#[test]
fn a_copy_of_what_may_be_gone_there_waits_for_a_complete_listing() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.expunge("INBOX", "a");
    s.put("Archive", "a");
    s.complete = (false, true);
    assert_eq!((s.pass().unsure, s.states()), (2, vec![Synced]));
}

#[test]
fn moved_there_and_deleted_here_is_there_again() {
    for policy in [LocalDelete::Trash, LocalDelete::Mirror] {
        let mut s = scene();
        s.policy.local_delete = policy;
        s.had(Synced, "INBOX", "a");
        s.move_there("INBOX", "a", "Archive");
        s.remove("INBOX", "a");
        s.ends("Archive a", "Archive a");
    }
}

#[test]
fn moved_there_and_deleted_here_stays_absent_under_keep() {
    let mut s = scene();
    s.policy.local_delete = LocalDelete::Keep;
    s.had(Synced, "INBOX", "a");
    s.move_there("INBOX", "a", "Archive");
    s.remove("INBOX", "a");
    s.ends("Archive a", "");
    assert_eq!(s.states(), [Absent]);
}

#[test]
fn a_save_in_two_steps_is_a_move() {
    for policy in [LocalDelete::Trash, LocalDelete::Mirror, LocalDelete::Keep] {
        let mut s = scene();
        s.policy.local_delete = policy;
        s.had(Synced, "INBOX", "a");
        s.put("Archive", "a");
        s.ends("Archive a, INBOX a", "Archive a, INBOX a");
        s.remove("INBOX", "a");
        s.ends("Archive a", "Archive a");
    }
}

#[test]
fn a_save_in_two_steps_is_a_move_under_other_uids() {
    for at in [&["INBOX"][..], &["Archive"], &["INBOX", "Archive"]] {
        let mut s = scene();
        s.had(Synced, "INBOX", "a");
        s.put("Archive", "a");
        s.ends("Archive a, INBOX a", "Archive a, INBOX a");
        s.remove("INBOX", "a");
        at.iter().for_each(|f| s.epoch(f));
        s.ends("Archive a", "Archive a");
    }
}

#[test]
fn a_save_in_two_steps_needs_its_copy() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.put("Archive", "a");
    s.ends("Archive a, INBOX a", "Archive a, INBOX a");
    s.remove("INBOX", "a");
    s.remove("Archive", "a");
    s.ends("Trash a, Trash a", "Trash a, Trash a");
}

#[test]
fn kept_files_move_and_are_copied_as_kept() {
    let mut s = scene();
    s.had(Kept, "INBOX", "a");
    s.had(Kept, "INBOX", "b");
    s.move_here("INBOX", "a", "Archive");
    s.put("Archive", "b");
    s.ends("", "Archive a, Archive b, INBOX b");
    assert_eq!(s.states(), [Kept, Kept, Kept]);
}

#[test]
fn a_kept_file_deleted_here_is_forgotten() {
    let mut s = scene();
    s.had(Kept, "INBOX", "a");
    s.remove("INBOX", "a");
    s.ends("", "");
    assert_eq!(s.states(), []);
}

#[test]
fn an_absent_message_put_back_is_synced() {
    for at in ["INBOX", "Archive"] {
        let mut s = scene();
        s.had(Absent, "INBOX", "a");
        s.put(at, "a");
        s.ends(&format!("{at} a"), &format!("{at} a"));
        assert_eq!(s.states(), [Synced]);
    }
}

#[test]
fn a_message_that_neither_side_has_takes_no_kept_file_with_it() {
    for at in ["INBOX", "Archive"] {
        let mut s = mirror();
        s.had(Kept, at, "a");
        s.move_here(at, "a", "INBOX");
        s.had(Synced, "INBOX", "a");
        s.expunge("INBOX", "a");
        let dir = s.w.disk.get_mut(&folder("INBOX")).unwrap();
        dir.retain(|base, _| !base.is_ours());
        s.ends("", "INBOX a");
        assert_eq!(s.states(), [Kept]);
    }
}

#[test]
fn a_removal_cut_short_takes_no_equal_file_with_it() {
    let mut s = mirror();
    s.policy.read_only = true;
    s.had(Synced, "INBOX", "a");
    s.expunge("INBOX", "a");
    for at in 0..3 {
        s.w.kill_at = Some(s.w.steps + at);
        assert!(pass(&mut s.w, &s.policy, REAL, (true, true)).is_err());
    }
    s.w.kill_at = None;
    // it waits, so that it has no row
    s.put("INBOX", "a");
    s.ends("", "INBOX a");
    assert_eq!(s.states(), []);
    assert_eq!(s.w.ledger.deleted.values().sum::<u64>(), 1);
}

#[test]
fn of_two_that_neither_side_has_the_file_is_the_one_that_stays() {
    for copy in ["a", "a'"] {
        let mut s = mirror();
        s.had(Synced, "Archive", "a");
        s.had(Synced, "INBOX", "a");
        for at in ["Archive", "INBOX"] {
            s.expunge(at, "a");
            s.remove(at, "a");
        }
        // moved there, or only renamed: nobody can say
        s.put("INBOX", copy);
        s.ends("", &format!("INBOX {copy}"));
        assert_eq!(s.states(), [Kept]);
    }
}
