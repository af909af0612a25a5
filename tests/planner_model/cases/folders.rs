//! Folders that appear, vanish, are renamed or are not selected.

use super::*;

#[test]
fn new_on_one_side_is_made_on_the_other() {
    let mut s = scene();
    s.w.add_mailbox(&folder("There"), None);
    s.w.disk.entry(folder("Here")).or_default();
    s.ends("", "");
    assert!(s.w.server.contains_key(&folder("Here")));
    assert!(s.w.disk.contains_key(&folder("There")));
}

#[test]
fn vanished_under_keep_leaves_all_in_place() {
    let mut s = scene();
    s.policy.local_delete = LocalDelete::Keep;
    s.had(Synced, "Archive", "a");
    s.had(Synced, "Junk", "b");
    s.w.server.remove(&folder("Archive"));
    s.w.disk.remove(&folder("Junk"));
    s.ends("Junk b", "Archive a");
    assert!(s.w.disk.contains_key(&folder("Archive")));
    assert!(!s.w.server.contains_key(&folder("Archive")), "not made again");
    assert!(!s.w.disk.contains_key(&folder("Junk")), "not made again");
}

#[test]
fn vanished_under_mirror_goes_in_one_pass() {
    let mut s = mirror();
    s.had(Synced, "Archive", "a");
    s.had(Synced, "Junk", "b");
    s.w.server.remove(&folder("Archive"));
    s.w.disk.remove(&folder("Junk"));
    s.pass();
    assert!(!s.w.disk.contains_key(&folder("Archive")));
    assert!(!s.w.server.contains_key(&folder("Junk")));
    s.ends("", "");
}

#[test]
fn renamed_there_downloads_nothing() {
    let mut s = scene();
    s.had(Synced, "Archive", "a");
    s.had(Synced, "Archive", "b");
    let b = s.w.server.remove(&folder("Archive")).unwrap();
    s.w.server.insert(folder("Old/Archive"), b);
    s.ends("Old/Archive a, Old/Archive b", "Old/Archive a, Old/Archive b");
    assert!(s.w.downloads.is_empty());
}

#[test]
fn renamed_here_is_moved_there() {
    let mut s = mirror();
    s.had(Synced, "Archive", "a");
    let d = s.w.disk.remove(&folder("Archive")).unwrap();
    s.w.disk.insert(folder("Old"), d);
    s.ends("Old a", "Old a");
    assert!(!s.w.server.contains_key(&folder("Archive")));
}

#[test]
fn not_selected_is_left_alone() {
    let mut s = mirror();
    s.policy.brake = Brake { percent: 0, messages: 0 };
    s.had(Synced, "Archive", "a");
    s.had(Synced, "Archive", "b");
    s.policy.exclude = vec![FolderPattern::parse("Archive").unwrap()];
    s.expunge("Archive", "a");
    s.remove("Archive", "b");
    s.arrive("Archive", "c");
    s.put("Archive", "d");
    let p = s.ends("Archive b, Archive c", "Archive a, Archive d");
    assert!(p.held.is_empty());
    // and is in its rows again when it is selected again
    s.policy.exclude.clear();
    s.policy.brake = Brake::default();
    s.ends("Archive c, Archive d", "Archive c, Archive d");
}

#[test]
fn what_vanished_before_the_folder_was_excluded_is_neither_done_nor_held() {
    let mut s = mirror();
    s.policy.brake = Brake { percent: 0, messages: 0 };
    s.had(Synced, "Archive", "a");
    s.expunge("Archive", "a");
    let p = s.pass();
    assert_eq!(p.held.len(), 1);
    s.policy.exclude = vec![FolderPattern::parse("Archive").unwrap()];
    let p = s.pass();
    assert_eq!((p.held, p.actions), (vec![], vec![]));
}

#[test]
fn the_trash_stays_there_while_deletions_go_to_it() {
    let mut s = scene();
    s.rule("\\Trash", None, Some(LocalDelete::Mirror));
    s.had(Synced, "INBOX", "a");
    s.had(Synced, "Trash", "b");
    let d = s.w.disk.remove(&folder("Trash")).unwrap();
    s.w.disk.insert(folder("Old"), d);
    s.ends("INBOX a, Old b", "INBOX a, Old b");
    s.remove("INBOX", "a");
    s.ends("Old b, Trash a", "Old b, Trash a");
    // nothing goes there any more
    s.policy.local_delete = LocalDelete::Mirror;
    s.w.disk.remove(&folder("Trash"));
    s.ends("Old b", "Old b");
    assert!(!s.w.server.contains_key(&folder("Trash")));
}

#[test]
fn a_folder_goes_only_if_everything_was_looked_at() {
    for complete in [(false, true), (true, false)] {
        let mut s = mirror();
        s.w.server.remove(&folder("Archive"));
        s.w.disk.remove(&folder("Junk"));
        s.complete = complete;
        s.pass();
        assert_eq!(s.w.disk.contains_key(&folder("Archive")), !complete.0);
        assert_eq!(s.w.server.contains_key(&folder("Junk")), !complete.1);
        s.ends("", "");
        assert!(!s.w.disk.contains_key(&folder("Archive")));
        assert!(!s.w.server.contains_key(&folder("Junk")));
    }
}
