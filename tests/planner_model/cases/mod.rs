//! One small case for every row of the decision tables, and for every bullet about pairing, trash,
//! folders, the brake and the lost ledger. Messages have one letter; `a'` is `a` after a reader
//! wrote into its headers.

mod brake;
mod first_pass;
mod folders;
mod pairing;
mod rows;
mod sides;
mod trash;

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
        super::check::ledger_is_true(&self.w, &self.policy, last.waiting > 0).unwrap();
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
