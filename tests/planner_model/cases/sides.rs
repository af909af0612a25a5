//! A side that was not wholly observed, or may not be changed.

use super::*;

#[test]
fn a_vanish_there_waits_for_a_complete_listing() {
    for mut s in [scene(), mirror()] {
        s.had(Synced, "INBOX", "a");
        s.had(Absent, "INBOX", "b");
        s.expunge("INBOX", "a");
        s.expunge("INBOX", "b");
        s.complete.0 = false;
        let p = s.pass();
        assert_eq!((p.actions, p.unsure), (vec![], 2));
        s.stands("", "INBOX a");
    }
}

#[test]
fn a_vanish_here_waits_for_a_complete_scan() {
    for mut s in [scene(), mirror()] {
        s.had(Synced, "INBOX", "a");
        s.had(Kept, "INBOX", "b");
        s.had(Synced, "Archive", "c");
        s.put("INBOX", "c");
        s.pass();
        for (at, n) in [("INBOX", "a"), ("INBOX", "b"), ("Archive", "c")] {
            s.remove(at, n);
        }
        s.complete.1 = false;
        let p = s.pass();
        assert_eq!((p.actions, p.unsure), (vec![], 3));
    }
}

#[test]
fn read_only_never_changes_the_server() {
    let mut s = mirror();
    s.policy.read_only = true;
    for n in ["a", "b", "c", "d"] {
        s.had(Synced, "INBOX", n);
    }
    s.remove("INBOX", "a");
    s.move_here("INBOX", "b", "Archive");
    s.file("INBOX", "c").flags = flags("todo");
    s.put("INBOX", "e");
    s.put("Archive", "d");
    s.mail("INBOX", "c").flags = flags("\\Seen");
    let p = s.ends(
        "INBOX a, INBOX b, INBOX c, INBOX d",
        "Archive b, Archive d, INBOX c, INBOX d, INBOX e",
    );
    assert!(p.waiting >= 4, "{}", p.waiting);
    assert_eq!(s.mail("INBOX", "c").flags, flags("\\Seen"));
    assert_eq!(s.file("INBOX", "c").flags, flags("\\Seen todo"));
    // and once it may, the rest follows
    s.policy.read_only = false;
    s.ends(
        "Archive b, Archive d, INBOX a, INBOX c, INBOX d, INBOX e",
        "Archive b, Archive d, INBOX c, INBOX d, INBOX e",
    );
    assert_eq!(s.mail("INBOX", "c").flags, flags("\\Seen todo"));
}

#[test]
fn a_change_of_policy_is_not_retroactive() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.expunge("INBOX", "a");
    s.ends("", "INBOX a");
    s.policy.remote_delete = RemoteDelete::Mirror;
    s.epoch("INBOX");
    s.ends("", "INBOX a");
}

#[test]
fn flags_set_in_the_same_move_are_not_lost() {
    let mut s = scene();
    s.had(Synced, "INBOX", "a");
    s.mail("INBOX", "a").flags = flags("\\Flagged");
    s.file("INBOX", "a").flags = flags("\\Seen");
    s.move_here("INBOX", "a", "Archive");
    s.ends("Archive a", "Archive a");
    assert_eq!(s.file("Archive", "a").flags, flags("\\Flagged \\Seen"));
    assert_eq!(s.mail("Archive", "a").flags, flags("\\Flagged \\Seen"));
}

#[test]
fn a_renamed_file_is_not_an_equal_absent_one_put_back() {
    let mut s = scene();
    s.had(Absent, "INBOX", "a");
    let id = s.had(Synced, "INBOX", "a");
    s.move_here("INBOX", "a", "INBOX");
    s.ends("INBOX a, INBOX a", "INBOX a");
    assert_eq!(s.row(id).state, Synced);
}
