//! What a move to `\Trash` takes along, and deletions where there is none.

use super::*;

#[test]
fn what_keep_brought_to_the_trash_stays_when_it_is_purged() {
    let mut s = scene();
    s.rule("\\Trash", Some(RemoteDelete::Mirror), None);
    s.had(Synced, "INBOX", "a");
    s.move_there("INBOX", "a", "Trash");
    s.ends("Trash a", "Trash a");
    s.expunge("Trash", "a");
    s.ends("", "Trash a");
}

/// Folders are looked into one after the other.
#[test]
fn a_move_to_the_trash_that_was_seen_to_arrive_first_is_one() {
    let mut s = scene();
    s.rule("\\Trash", Some(RemoteDelete::Mirror), None);
    s.had(Synced, "INBOX", "a");
    s.had(Synced, "INBOX", "a");
    s.w.newest_before = s.w.ledger.rows.keys().max().copied();
    s.had(Synced, "Trash", "a");
    s.expunge("INBOX", "a");
    s.ends("INBOX a, Trash a", "INBOX a, Trash a");
    s.expunge("INBOX", "a");
    s.ends("Trash a", "INBOX a, Trash a");
    s.expunge("Trash", "a");
    s.ends("", "INBOX a, Trash a");
}

#[test]
fn what_mirror_brought_goes_if_the_trash_mirrors() {
    let mut s = scene();
    s.rule("\\Trash", Some(RemoteDelete::Mirror), None);
    s.rule("INBOX", Some(RemoteDelete::Mirror), None);
    s.had(Synced, "INBOX", "a");
    s.move_there("INBOX", "a", "Trash");
    s.ends("Trash a", "Trash a");
    s.expunge("Trash", "a");
    s.ends("", "");
}

#[test]
fn what_was_deleted_here_takes_the_keep_along_too() {
    let mut s = scene();
    s.rule("\\Trash", Some(RemoteDelete::Mirror), None);
    s.had(Synced, "INBOX", "a");
    s.remove("INBOX", "a");
    s.ends("Trash a", "Trash a");
    s.expunge("Trash", "a");
    s.ends("", "Trash a");
}

#[test]
fn removed_from_the_trash_is_expunged() {
    let mut s = scene();
    s.had(Synced, "Trash", "a");
    s.remove("Trash", "a");
    s.ends("", "");
}

#[test]
fn no_trash_holds() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.w.server.get_mut(&folder("Trash")).unwrap().special = None;
    s.remove("INBOX", "a");
    let p = s.ends("INBOX a", "");
    assert!(matches!(p.held.as_slice(), [h] if h.kind == HeldKind::NoTrash));
    s.policy.trash = Some(folder("Trash"));
    s.ends("Trash a", "Trash a");
}

#[test]
fn kept_mail_that_passes_through_the_trash_keeps_its_keep() {
    for killed_at in 0..6 {
        let mut s = scene();
        s.rule("Archive", Some(RemoteDelete::Mirror), None);
        s.had(Kept, "INBOX", "a");
        s.arrive("Trash", "a");
        s.move_here("INBOX", "a", "Archive");
        s.w.kill_at = Some(killed_at).filter(|n| *n > 0);
        let _killed = pass(&mut s.w, &s.policy, REAL, (true, true));
        s.w.kill_at = None;
        s.ends("Archive a", "Archive a");
        s.expunge("Archive", "a");
        s.ends("", "Archive a");
        assert_eq!(s.states(), [Kept]);
    }
}

/// Of two equal messages that the server has no more one was deleted here, and nobody can say which:
/// the one that stays here whatever happens is left.
#[test]
fn of_equal_messages_the_one_that_keeps_is_left() {
    for keeps in 0..2 {
        let mut s = mirror();
        let rows = [s.had(Synced, "Trash", "a"), s.had(Synced, "Trash", "a")];
        s.row(rows[keeps]).keeps = true;
        s.expunge("Trash", "a");
        s.expunge("Trash", "a");
        s.remove("Trash", "a");
        s.move_here("Trash", "a", "Trash");
        s.ends("", "Trash a");
    }
}
