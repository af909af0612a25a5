//! Which arrival is which message: identity, order of choice, and what is never guessed.

use super::*;

#[test]
fn by_the_server_s_own_id_whatever_the_rest_says() {
    let mut s = scene();
    s.bytes("a", "", "", 1000);
    let id = s.had(Synced, "INBOX", "a");
    s.row(id).identity.server_id = Some(ServerId("x".into()));
    s.mail("INBOX", "a").server_id = Some(ServerId("x".into()));
    s.move_there("INBOX", "a", "Archive");
    s.mail("Archive", "a").date = 5;
    let p = s.pass();
    assert_eq!(s.w.ledger.rows[&id].state, Synced, "{:?}", p.actions);
    s.ends("Archive a", "Archive a");
    assert!(s.w.downloads.is_empty());
}

#[test]
fn a_move_needs_the_same_internal_date_or_the_same_bytes() {
    // other bytes under the same Message-ID, Date and size
    let mut s = scene();
    s.bytes("a", "<x>", "d", 1000);
    s.bytes("b", "<x>", "d", 1000);
    s.had(Synced, "INBOX", "a");
    s.expunge("INBOX", "a");
    s.arrive("Archive", "b");
    s.ends("Archive b", "Archive b, INBOX a");
    assert_eq!(s.states(), [Kept, Synced]);
}

#[test]
fn equal_fingerprints_are_settled_by_the_bytes() {
    let mut s = scene();
    s.bytes("a", "<x>", "d", 1000);
    s.bytes("b", "<x>", "d", 1000);
    let a = s.had(Synced, "INBOX", "a");
    let b = s.had(Synced, "INBOX", "b");
    s.file("INBOX", "b").flags = flags("todo");
    s.w.server.get_mut(&folder("INBOX")).unwrap().mails.clear();
    s.arrive("Archive", "b");
    s.arrive("Archive", "a");
    s.ends("Archive a, Archive b", "Archive a, Archive b");
    assert!(s.w.downloads.is_empty());
    assert_eq!(s.mail("Archive", "b").flags, flags("todo"));
    for (id, name) in [(a, "a"), (b, "b")] {
        let cid = s.cid(name);
        let row = s.row(id).clone();
        assert_eq!(s.w.mail(row.folder, row.uid).unwrap().cid, cid);
    }
}

#[test]
fn equal_copies_pair_by_number() {
    let mut s = scene();
    for _ in 0..3 {
        s.had(Synced, "INBOX", "a");
    }
    s.expunge("INBOX", "a");
    s.epoch("INBOX");
    s.ends("INBOX a, INBOX a", "INBOX a, INBOX a, INBOX a");
    let mut states = s.states();
    states.sort();
    assert_eq!(states, [Synced, Synced, Kept]);
    assert!(s.w.downloads.is_empty());
}

#[test]
fn equal_copies_are_told_apart_by_internal_date() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.had(Synced, "Archive", "a");
    s.file("INBOX", "a").flags = flags("todo");
    // round and about: neither the folder nor the order says which is which
    let first = s.expunge("INBOX", "a");
    s.move_there("Archive", "a", "Junk");
    s.w.put_mail(&folder("Archive"), first);
    s.ends("Archive a, Junk a", "Archive a, Junk a");
    assert_eq!(s.mail("Archive", "a").flags, flags("todo"));
    assert_eq!(s.mail("Junk", "a").flags, flags(""));
}

#[test]
fn without_a_message_id_the_bytes_decide() {
    let mut s = scene();
    s.bytes("a", "", "", 1000);
    s.bytes("b", "", "", 1000);
    s.had(Synced, "INBOX", "a");
    s.had(Synced, "INBOX", "b");
    s.epoch("INBOX");
    s.move_there("INBOX", "a", "Archive");
    s.ends("Archive a, INBOX b", "Archive a, INBOX b");
    assert!(s.w.downloads.is_empty());
}

#[test]
fn where_sizes_lie_the_bytes_decide() {
    let mut s = scene();
    s.w.sizes_lie = true;
    s.bytes("a", "<x>", "d", 1000);
    s.bytes("b", "<x>", "d", 2000);
    s.had(Synced, "INBOX", "a");
    s.expunge("INBOX", "a");
    s.arrive("INBOX", "b");
    s.epoch("INBOX");
    s.ends("INBOX b", "INBOX a, INBOX b");
    assert_eq!(s.states(), [Kept, Synced]);
}

#[test]
fn a_new_uidvalidity_changes_nothing() {
    for mut s in [scene(), mirror()] {
        s.had(Synced, "INBOX", "a");
        s.had(Kept, "INBOX", "b");
        s.had(Absent, "INBOX", "c");
        s.epoch("INBOX");
        s.ends("INBOX a, INBOX c", "INBOX a, INBOX b");
        assert_eq!(s.states(), [Synced, Kept, Absent]);
        assert!(s.w.downloads.is_empty());
        assert_eq!(s.w.asked, 0);
    }
}

#[test]
fn a_new_uidvalidity_proves_no_deletion() {
    let mut s = mirror();
    s.had(Synced, "INBOX", "a");
    s.expunge("INBOX", "a");
    s.epoch("INBOX");
    s.ends("", "INBOX a");
    assert_eq!(s.states(), [Kept]);
}

#[test]
fn what_is_absent_stays_absent_beside_an_equal_kept_one() {
    let mut s = scene();
    s.had(Kept, "INBOX", "a");
    s.had(Absent, "INBOX", "a");
    s.remove("INBOX", "a");
    s.epoch("INBOX");
    s.ends("INBOX a", "");
    assert_eq!(s.states(), [Absent]);
}

#[test]
fn an_edited_draft_is_not_the_draft() {
    let mut s = scene();
    s.bytes("a", "<x>", "d", 1000);
    s.bytes("b", "<x>", "d", 1000);
    s.had(Synced, "Drafts", "a");
    s.remove("Drafts", "a");
    s.put("Drafts", "b");
    s.ends("Drafts b, Trash a", "Drafts b, Trash a");
}

#[test]
fn a_draft_edited_there_is_not_the_draft() {
    let mut s = scene();
    s.bytes("a", "<x>", "d", 1000);
    s.bytes("b", "<x>", "d", 1000);
    s.had(Synced, "Drafts", "a");
    let date = s.expunge("Drafts", "a").date;
    s.arrive("Drafts", "b").date = date;
    s.ends("Drafts b", "Drafts a, Drafts b");
    assert_eq!(s.states(), [Kept, Synced]);
}

#[test]
fn a_draft_that_a_reader_touched_is_another_draft() {
    let mut s = scene();
    s.had(Synced, "Drafts", "a");
    s.remove("Drafts", "a");
    s.put("Drafts", "a'");
    s.ends("Drafts a', Trash a", "Drafts a', Trash a");
}

#[test]
fn sent_but_not_noted() {
    // the process was killed between APPEND and its row, and the intent is lost too
    let mut s = scene();
    s.put("INBOX", "a");
    s.arrive("INBOX", "a");
    s.ends("INBOX a", "INBOX a");
    assert!(s.w.downloads.is_empty());
}

#[test]
fn fetched_but_not_noted() {
    let mut s = scene();
    s.arrive("INBOX", "a");
    s.put_ours("INBOX", "a");
    s.ends("INBOX a", "INBOX a");
    assert!(s.w.downloads.is_empty());
}

#[test]
fn pairing_without_a_base_unites_flags_but_for_deleted() {
    let mut s = scene();
    s.w.lose_ledger();
    s.arrive("INBOX", "a").flags = flags("\\Seen");
    s.put_ours("INBOX", "a");
    s.file("INBOX", "a").flags = flags("todo \\Deleted");
    s.ends("INBOX a", "INBOX a");
    assert_eq!(s.mail("INBOX", "a").flags, flags("\\Seen todo"));
    assert_eq!(s.file("INBOX", "a").flags, flags("\\Seen todo"));
}

/// `a` and `b` with one Message-ID, Date, size and INTERNALDATE, and other bytes.
fn lookalikes(s: &mut Scene) {
    s.bytes("a", "<x>", "d", 1000);
    s.bytes("b", "<x>", "d", 1000);
}

#[test]
fn a_new_file_is_not_an_arrival_that_only_looks_like_it() {
    let mut s = scene();
    lookalikes(&mut s);
    s.put("INBOX", "a");
    s.arrive("INBOX", "b");
    s.ends("INBOX a, INBOX b", "INBOX a, INBOX b");
    assert_eq!(s.w.asked, 1);
}

#[test]
fn kept_mail_is_not_an_arrival_that_only_looks_like_it() {
    for at in ["INBOX", "Archive"] {
        let mut s = scene();
        lookalikes(&mut s);
        let a = s.had(Kept, "INBOX", "a");
        s.row(a).identity.internal_date = 7;
        s.arrive(at, "b");
        let here = if at == "INBOX" { "INBOX a, INBOX b" } else { "Archive b, INBOX a" };
        s.ends(&format!("{at} b"), here);
        assert_eq!(s.states(), [Kept, Synced]);
    }
}

#[test]
fn an_absent_message_is_not_an_arrival_that_only_looks_like_it() {
    for at in ["INBOX", "Archive"] {
        let mut s = scene();
        lookalikes(&mut s);
        s.had(Absent, "INBOX", "a");
        s.expunge("INBOX", "a");
        s.arrive(at, "b");
        s.ends(&format!("{at} b"), &format!("{at} b"));
    }
}

#[test]
fn kept_mail_that_the_server_has_again_keeps_its_keep() {
    let mut s = scene();
    s.rule("Junk", Some(RemoteDelete::Mirror), None);
    s.had(Kept, "INBOX", "a");
    s.arrive("Junk", "a");
    s.ends("Junk a", "Junk a");
    assert!(s.w.downloads.is_empty());
    s.expunge("Junk", "a");
    s.ends("", "Junk a");
    assert_eq!(s.states(), [Kept]);
}

#[test]
fn fetched_but_not_noted_and_moved_since() {
    let mut s = scene();
    s.arrive("INBOX", "a");
    s.put_ours("Archive", "a");
    s.ends("Archive a", "Archive a");
    assert!(s.w.downloads.is_empty());
    assert_eq!(s.states(), [Synced]);
}

#[test]
fn what_only_looks_like_it_was_fetched_and_moved_is_left_alone() {
    let mut s = scene();
    lookalikes(&mut s);
    s.arrive("INBOX", "a");
    s.put_ours("Archive", "b");
    s.ends("INBOX a", "Archive b, INBOX a");
    assert_eq!(s.states(), [Synced, Kept]);
}

#[test]
fn a_copy_with_its_own_row_is_not_an_arrival_elsewhere() {
    // copied here into Archive, and on the server into Junk
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.arrive("Junk", "a");
    let file = s.file("INBOX", "a").clone();
    let dir = &s.w.disk[&folder("INBOX")];
    let base = dir.keys().next().unwrap().clone();
    s.w.put_file(&folder("Archive"), base, file);
    s.ends("Archive a, INBOX a, Junk a", "Archive a, INBOX a, Junk a");
}

#[test]
fn what_is_saved_out_of_an_excluded_folder_is_new_mail() {
    for ours in [false, true] {
        let mut s = scene();
        s.had(Synced, "Junk", "a");
        s.policy.exclude = vec![FolderPattern::parse("Junk").unwrap()];
        s.remove("Junk", "a");
        if ours {
            s.put_ours("INBOX", "a")
        } else {
            s.put("INBOX", "a")
        }
        s.ends("INBOX a, Junk a", "INBOX a");
        s.policy.exclude.clear();
        s.ends("INBOX a, Trash a", "INBOX a, Trash a");
    }
}

#[test]
fn what_is_saved_out_of_an_excluded_folder_and_edited_is_new_mail() {
    for state in [Synced, Kept] {
        let mut s = scene();
        s.had(state, "INBOX", "a");
        super::rows::edited_and_moved(&mut s);
        s.policy.exclude = vec![FolderPattern::parse("INBOX").unwrap()];
        let there = if state == Synced { "Archive b, INBOX a" } else { "" };
        s.ends(there, "Archive b");
        s.policy.exclude.clear();
        let there = if state == Synced { "Archive b, Trash a" } else { "" };
        s.ends(there, if state == Synced { there } else { "Archive b" });
    }
}

#[test]
fn kept_mail_saved_out_of_an_excluded_folder_stays_kept() {
    for ours in [false, true] {
        let mut s = scene();
        s.had(Kept, "Junk", "a");
        s.policy.exclude = vec![FolderPattern::parse("Junk").unwrap()];
        if ours {
            s.put_ours("INBOX", "a")
        } else {
            s.put("INBOX", "a")
        }
        s.ends("", "INBOX a, Junk a");
        s.policy.exclude.clear();
        s.ends("", "INBOX a, Junk a");
        assert_eq!(s.states(), [Kept, Kept]);
    }
}

#[test]
fn kept_mail_that_was_deleted_here_and_is_there_again_keeps_its_keep() {
    let mut s = scene();
    s.rule("Junk", Some(RemoteDelete::Mirror), None);
    for killed_at in [None, Some(1)] {
        let mut s = Scene { w: s.w.clone(), policy: s.policy.clone(), ..scene() };
        s.had(Kept, "INBOX", "a");
        s.remove("INBOX", "a");
        s.arrive("Junk", "a");
        // killed between the file and its row, nobody knows that it was fetched, not moved here
        s.w.kill_at = killed_at;
        assert_eq!(pass(&mut s.w, &s.policy, REAL, (true, true)).is_err(), killed_at.is_some());
        s.w.kill_at = None;
        s.ends("Junk a", "Junk a");
        s.expunge("Junk", "a");
        s.ends("", "Junk a");
        assert_eq!(s.states(), [Kept]);
    }
}

/// Moved here from INBOX into Archive, where another client made a copy of it meanwhile: two were
/// asked for.
#[test]
fn moved_here_where_a_copy_was_made_there() {
    for policy in [LocalDelete::Mirror, LocalDelete::Trash, LocalDelete::Keep] {
        for same_name in [false, true] {
            let mut s = scene();
            s.policy.local_delete = policy;
            let id = s.had(Synced, "INBOX", "a");
            let date = s.mail("INBOX", "a").date;
            s.arrive("Archive", "a").date = date;
            if same_name {
                let base = s.row(id).place.clone().unwrap().file.base;
                let file = s.remove("INBOX", "a");
                s.w.put_file(&folder("Archive"), base, file);
            } else {
                s.move_here("INBOX", "a", "Archive");
            }
            s.ends("Archive a, Archive a", "Archive a, Archive a");
            assert_eq!(s.states(), [Synced, Synced]);
            assert_eq!(s.w.downloads.len(), 1, "the copy");
        }
    }
}

#[test]
fn renamed_here_where_a_copy_was_made_there() {
    let mut s = mirror();
    s.had(Synced, "INBOX", "a");
    s.arrive("INBOX", "a");
    s.move_here("INBOX", "a", "INBOX");
    s.ends("INBOX a, INBOX a", "INBOX a, INBOX a");
}

#[test]
fn moved_here_where_a_copy_was_made_there_under_other_uids() {
    let mut s = mirror();
    s.had(Synced, "INBOX", "a");
    s.arrive("Archive", "a");
    s.move_here("INBOX", "a", "Archive");
    s.epoch("INBOX");
    s.epoch("Archive");
    s.ends("Archive a, Archive a", "Archive a, Archive a");
}

#[test]
fn moved_there_where_a_copy_was_made_here() {
    for same_name in [false, true] {
        for appended in [false, true] {
            let mut s = mirror();
            let id = s.had(Synced, "INBOX", "a");
            let base = s.row(id).place.clone().unwrap().file.base;
            let file = File { ghost: s.w.fresh(), ..s.file("INBOX", "a").clone() };
            let base = if same_name { base } else { s.w.foreign_base() };
            s.w.put_file(&folder("Archive"), base, file);
            s.move_there("INBOX", "a", "Archive");
            s.mail("Archive", "a").date += i64::from(appended);
            s.ends("Archive a, Archive a", "Archive a, Archive a");
            assert!(s.w.downloads.is_empty());
        }
    }
}

/// Of what was copied here and there, one copy is enough; the other file is the one that was moved.
#[test]
fn moved_here_where_a_copy_was_made_on_both_sides() {
    let mut s = mirror();
    s.had(Synced, "INBOX", "a");
    s.arrive("Archive", "a");
    s.put("Archive", "a");
    s.move_here("INBOX", "a", "Junk");
    s.ends("Archive a, Junk a", "Archive a, Junk a");
    assert!(s.w.downloads.is_empty());
}

/// The file that was fetched when we were killed is not the one that was deleted here.
#[test]
fn fetched_but_not_noted_where_an_equal_one_was_deleted_here() {
    let mut s = mirror();
    s.had(Synced, "INBOX", "a");
    s.arrive("Archive", "a");
    s.put_ours("Archive", "a");
    s.remove("INBOX", "a");
    s.ends("Archive a", "Archive a");
    assert!(s.w.downloads.is_empty());
}

/// Adopted without a look at the server's bytes, since a program had put a header into the file.
fn marked(s: &mut Scene, at: &str) -> RowId {
    let id = s.had(Synced, at, "a");
    s.file(at, "a").cid = s.cid("a'");
    s.row(id).exact = false;
    s.row(id).identity.content = None;
    id
}

#[test]
fn what_another_program_marked_is_moved_to_drafts() {
    let mut s = scene();
    marked(&mut s, "INBOX");
    s.move_there("INBOX", "a", "Drafts");
    s.ends("Drafts a", "Drafts a'");
    assert_eq!(s.states(), [Synced]);
    assert!(s.w.downloads.is_empty());
    // but not where the server has another draft
    let mut s = scene();
    s.bytes("b", "<a@x>", "today", 1000);
    marked(&mut s, "INBOX");
    s.move_there("INBOX", "a", "Drafts");
    s.mail("Drafts", "a").cid = s.cid("b");
    s.ends("Drafts b", "Drafts b, INBOX a'");
    assert_eq!(s.states(), [Kept, Synced]);
}

#[test]
fn what_another_program_marked_is_found_beside_an_equal_one() {
    let mut s = scene();
    marked(&mut s, "INBOX");
    s.arrive("INBOX", "a");
    s.epoch("INBOX");
    s.ends("INBOX a, INBOX a", "INBOX a, INBOX a'");
    assert_eq!(s.states(), [Synced, Synced]);
    assert_eq!(s.w.downloads.len(), 1);
}
