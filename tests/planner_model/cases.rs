//! One small case for every row of the decision tables, and for every bullet about pairing, trash,
//! folders, the brake and the lost ledger. Messages have one letter; `a'` is `a` after a reader
//! wrote into its headers.

use std::collections::BTreeMap;

use mailkeep::model::{Flags, FolderName, RowId, ServerId, SpecialUse, State};
use mailkeep::policy::decide::{Action, HeldKind, Verdict};
use mailkeep::policy::{Brake, FolderPattern, LocalDelete, Policy, RemoteDelete, Rule};

use super::apply::{Pass, REAL, converge, pass};
use super::world::{Cid, File, Mail, World, flags, folder};
use State::{Absent, Kept, Synced};

struct Scene {
    w: World,
    policy: Policy,
    names: BTreeMap<String, Cid>,
    /// Whether everything could be observed.
    complete: (bool, bool),
}

/// Both sides have the usual folders and agree.
fn scene() -> Scene {
    let mut w = World::default();
    for (name, special) in [
        ("INBOX", None),
        ("Archive", None),
        ("Drafts", Some(SpecialUse::Drafts)),
        ("Junk", Some(SpecialUse::Junk)),
        ("Trash", Some(SpecialUse::Trash)),
    ] {
        w.settle_folder(name, special);
    }
    Scene { w, policy: Policy::default(), names: BTreeMap::new(), complete: (true, true) }
}

impl Scene {
    fn cid(&mut self, name: &str) -> Cid {
        if let Some(c) = self.names.get(name) {
            return *c;
        }
        let cid = match name.strip_suffix('\'') {
            Some(original) => {
                let original = self.cid(original);
                self.w.touched(original)
            }
            None => self.w.content(&format!("<{name}@x>"), "today", 1000),
        };
        self.names.insert(name.into(), cid);
        cid
    }

    /// Bytes with this Message-ID, Date and size.
    fn bytes(&mut self, name: &str, id: &str, date: &str, size: u64) {
        let cid = self.w.content(id, date, size);
        self.names.insert(name.into(), cid);
    }

    /// A message that an earlier pass left in this state.
    fn had(&mut self, state: State, at: &str, name: &str) -> RowId {
        let cid = self.cid(name);
        self.w.settle(at, state, cid, "")
    }

    fn row(&mut self, id: RowId) -> &mut mailkeep::model::Row {
        self.w.ledger.rows.get_mut(&id).unwrap()
    }

    fn uid(&self, at: &str, cid: Cid) -> u32 {
        let mails = &self.w.server[&folder(at)].mails;
        *mails.iter().find(|(_, m)| m.cid == cid).expect("no such message").0
    }

    fn mail(&mut self, at: &str, name: &str) -> &mut Mail {
        let cid = self.cid(name);
        let uid = self.uid(at, cid);
        self.w.server.get_mut(&folder(at)).unwrap().mails.get_mut(&uid).unwrap()
    }

    fn file(&mut self, at: &str, name: &str) -> &mut File {
        let cid = self.cid(name);
        let files = self.w.disk.get_mut(&folder(at)).unwrap();
        files.values_mut().find(|f| f.cid == cid).expect("no such file")
    }

    fn expunge(&mut self, at: &str, name: &str) -> Mail {
        let cid = self.cid(name);
        let uid = self.uid(at, cid);
        self.w.server.get_mut(&folder(at)).unwrap().mails.remove(&uid).unwrap()
    }

    fn move_there(&mut self, from: &str, name: &str, to: &str) {
        let mail = self.expunge(from, name);
        self.w.put_mail(&folder(to), mail);
    }

    fn arrive(&mut self, at: &str, name: &str) -> &mut Mail {
        let (cid, ghost) = (self.cid(name), self.w.fresh());
        let mail = Mail { cid, flags: Flags::default(), date: 7, server_id: None, ghost };
        self.w.put_mail(&folder(at), mail);
        self.mail(at, name)
    }

    fn remove(&mut self, at: &str, name: &str) -> File {
        let cid = self.cid(name);
        let files = self.w.disk.get_mut(&folder(at)).unwrap();
        let base = files.iter().find(|(_, f)| f.cid == cid).expect("no such file").0.clone();
        files.remove(&base).unwrap()
    }

    /// A new file that a reader wrote.
    fn put(&mut self, at: &str, name: &str) {
        let (cid, ghost) = (self.cid(name), self.w.fresh());
        let base = self.w.foreign_base();
        let file = File { cid, flags: Flags::default(), date: 7, ghost };
        self.w.put_file(&folder(at), base, file);
    }

    /// A new file with a name of ours.
    fn put_ours(&mut self, at: &str, name: &str) {
        let (cid, ghost) = (self.cid(name), self.w.fresh());
        let base = self.w.our_base();
        let file = File { cid, flags: Flags::default(), date: 7, ghost };
        self.w.put_file(&folder(at), base, file);
    }

    fn move_here(&mut self, from: &str, name: &str, to: &str) {
        let file = self.remove(from, name);
        let base = self.w.foreign_base();
        self.w.put_file(&folder(to), base, file);
    }

    fn epoch(&mut self, at: &str) {
        let validity = 9000 + self.w.fresh();
        let b = self.w.server.get_mut(&folder(at)).unwrap();
        b.validity = validity;
        for m in std::mem::take(&mut b.mails).into_values() {
            b.mails.insert(b.next, m);
            b.next += 1;
        }
    }

    fn rule(&mut self, at: &str, remote: Option<RemoteDelete>, local: Option<LocalDelete>) {
        self.policy.rules.push(Rule {
            folders: vec![FolderPattern::parse(at).unwrap()],
            remote_delete: remote,
            local_delete: local,
            upload: None,
        });
    }

    fn pass(&mut self) -> Pass {
        pass(&mut self.w, &self.policy, REAL, self.complete).unwrap()
    }

    /// Passes until nothing is left to do, and says where everything is then.
    #[track_caller]
    fn ends(&mut self, there: &str, here: &str) -> Pass {
        let last = converge(&mut self.w, &self.policy, REAL).unwrap();
        self.stands(there, here);
        super::check::ledger_is_true(&self.w, last.waiting > 0).unwrap();
        last
    }

    #[track_caller]
    fn stands(&self, there: &str, here: &str) {
        let name = |c: Cid| self.names.iter().find(|(_, n)| **n == c).unwrap().0.clone();
        let text = |all: Vec<(&FolderName, Cid)>| {
            let mut v: Vec<_> = all.into_iter().map(|(f, c)| format!("{f} {}", name(c))).collect();
            v.sort();
            v.join(", ")
        };
        let boxes = self.w.server.iter();
        let is_there = boxes.flat_map(|(f, b)| b.mails.values().map(move |m| (f, m.cid)));
        let dirs = self.w.disk.iter();
        let is_here = dirs.flat_map(|(f, d)| d.values().map(move |x| (f, x.cid)));
        assert_eq!(text(is_there.collect()), there, "there");
        assert_eq!(text(is_here.collect()), here, "here");
    }

    /// The states of the rows, by number.
    fn states(&self) -> Vec<State> {
        self.w.ledger.rows.values().map(|r| r.state).collect()
    }
}

fn mirror() -> Scene {
    let mut s = scene();
    s.policy.remote_delete = RemoteDelete::Mirror;
    s.policy.local_delete = LocalDelete::Mirror;
    s
}

mod rows {
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
        for (state, there, here) in
            [(Kept, "", "Archive a, INBOX a"), (Absent, "Archive a", "INBOX a")]
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

    #[test]
    fn an_equal_name_with_other_bytes_is_no_move() {
        let mut s = mirror();
        let id = s.had(Synced, "INBOX", "a");
        let base = s.row(id).place.clone().unwrap().file.base;
        s.remove("INBOX", "a");
        let (cid, ghost) = (s.cid("b"), s.w.fresh());
        s.w.put_file(&folder("Archive"), base, File { cid, flags: flags(""), date: 7, ghost });
        // a name of ours that no row knows came from a server once
        s.ends("", "Archive b");
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
}

mod pairing {
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
}

mod first_pass {
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
}

mod trash {
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
}

mod sides {
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
}

mod folders {
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
}

mod brake {
    use super::*;

    fn many(n: usize) -> Scene {
        let mut s = mirror();
        s.policy.brake = Brake { percent: 50, messages: 2 };
        for i in 0..n {
            s.had(Synced, "INBOX", &format!("{i}"));
        }
        s
    }

    #[test]
    fn up_to_the_limit_it_is_done() {
        let mut s = many(6);
        for n in ["0", "1", "2"] {
            s.expunge("INBOX", n); // 3 of 6 are not more than half
        }
        let p = s.ends("INBOX 3, INBOX 4, INBOX 5", "INBOX 3, INBOX 4, INBOX 5");
        assert!(p.held.is_empty());
    }

    #[test]
    fn above_it_all_of_it_is_held_and_the_rest_goes_on() {
        let mut s = many(5);
        for n in ["0", "1", "2"] {
            s.expunge("INBOX", n);
        }
        s.arrive("Archive", "x");
        let here = "Archive x, INBOX 0, INBOX 1, INBOX 2, INBOX 3, INBOX 4";
        let p = s.ends("Archive x, INBOX 3, INBOX 4", here);
        assert!(matches!(p.held.as_slice(), [h]
            if h.kind == HeldKind::RemoteDeletions && h.rows.len() == 3));
    }

    #[test]
    fn slices_add_up() {
        let mut s = many(5);
        for n in ["0", "1"] {
            s.expunge("INBOX", n);
            s.pass();
        }
        s.expunge("INBOX", "2");
        let p = s.ends("INBOX 3, INBOX 4", "INBOX 2, INBOX 3, INBOX 4");
        assert_eq!(p.held.len(), 1);
    }

    #[test]
    fn many_small_folders_add_up() {
        let mut s = mirror();
        s.policy.brake = Brake { percent: 50, messages: 2 };
        for at in ["INBOX", "Archive", "Junk"] {
            s.had(Synced, at, at);
            s.remove(at, at);
        }
        s.had(Synced, "INBOX", "x");
        s.ends("Archive Archive, INBOX INBOX, INBOX x, Junk Junk", "INBOX x");
    }

    #[test]
    fn moves_do_not_count() {
        let mut s = many(5);
        for n in ["0", "1", "2", "3", "4"] {
            s.move_there("INBOX", n, "Archive");
        }
        let all = "Archive 0, Archive 1, Archive 2, Archive 3, Archive 4";
        assert!(s.ends(all, all).held.is_empty());
    }

    #[test]
    fn approved_it_goes_and_rejected_it_is_undone() {
        let cases = [
            (Verdict::Approved, "INBOX 3", "INBOX 3"),
            (
                Verdict::Rejected,
                "INBOX 0, INBOX 1, INBOX 2, INBOX 3",
                "INBOX 0, INBOX 1, INBOX 2, INBOX 3",
            ),
        ];
        for (verdict, there, here) in cases {
            let mut s = many(4);
            for n in ["0", "1", "2"] {
                s.remove("INBOX", n);
            }
            s.ends("INBOX 0, INBOX 1, INBOX 2, INBOX 3", "INBOX 3");
            s.w.ledger.held_rows.values_mut().for_each(|v| *v = verdict);
            s.ends(there, here);
            assert!(s.states().iter().all(|x| *x == Synced));
        }
        let cases = [
            (Verdict::Approved, "INBOX 3"),
            (Verdict::Rejected, "INBOX 0, INBOX 1, INBOX 2, INBOX 3"),
        ];
        for (verdict, here) in cases {
            let mut s = many(4);
            for n in ["0", "1", "2"] {
                s.expunge("INBOX", n);
            }
            s.ends("INBOX 3", "INBOX 0, INBOX 1, INBOX 2, INBOX 3");
            s.w.ledger.held_rows.values_mut().for_each(|v| *v = verdict);
            s.ends("INBOX 3", here);
        }
    }

    #[test]
    fn a_thousand_are_held_whatever_their_share() {
        let mut s = mirror();
        s.policy.brake = Brake { percent: 100, messages: 1 };
        let inbox = folder("INBOX");
        let id = s.w.folder_id(&inbox);
        for i in 0..1001 {
            s.had(Synced, "INBOX", &format!("{i}"));
        }
        s.w.ledger.sizes.insert(id, 1_000_000);
        s.w.server.get_mut(&inbox).unwrap().mails.clear();
        let p = s.pass();
        assert!(p.actions.is_empty());
        assert_eq!(p.held.first().map(|h| h.rows.len()), Some(1001));
    }
}
