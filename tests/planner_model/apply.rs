//! The executor's stand-in: does each action to the world and the ledger, and can be killed before
//! every effect and between an effect and its commit.

use mailkeep::model::{BaseName, FolderId, Row, RowId, State, Uid};
use mailkeep::policy::decide::{Action, Decision, Held, HeldKind, Side, Standing, Verdict};
use mailkeep::policy::{Policy, RemoteDelete};
use mailkeep::reconcile::{FileId, LocalFile, Plan, Trees};

use super::observe::{fetch_content, observe, standing};
use super::world::{File, Intent, Killed, Mail, World, base_for_union, place};

/// What plans and decides: the real ones, or wrong ones that the checker must catch.
#[derive(Clone, Copy)]
pub struct Brain {
    pub plan: fn(&Trees) -> Plan,
    pub decide: fn(&Plan, &Trees, &Policy, &Standing) -> Decision,
}

pub const REAL: Brain =
    Brain { plan: mailkeep::reconcile::plan, decide: mailkeep::policy::decide::decide };

/// What a pass did.
#[derive(Debug, Default)]
pub struct Pass {
    pub actions: Vec<Action>,
    pub held: Vec<Held>,
    /// Plans that wait for the server.
    pub waiting: u64,
    /// Vanishes that wait for a complete observation.
    pub unsure: u64,
    /// Effects and commits.
    pub steps: u32,
}

/// One pass.
pub fn pass(
    w: &mut World,
    policy: &Policy,
    brain: Brain,
    complete: (bool, bool),
) -> Result<Pass, Killed> {
    let before = w.steps;
    let mut trees = observe(w, policy, complete);
    let mut plan = (brain.plan)(&trees);
    let mut asked = 0;
    while !plan.wants.is_empty() {
        fetch_content(w, &mut trees, &plan.wants);
        plan = (brain.plan)(&trees);
        asked += 1;
        assert!(asked < 20, "the planner asks for the same bytes again and again");
    }
    let decision = (brain.decide)(&plan, &trees, policy, &standing(w, policy, &trees));
    for h in &decision.held {
        // a missing trash is no question to a person: the next pass asks again by itself
        if h.kind != HeldKind::NoTrash {
            for r in &h.rows {
                w.ledger.held_rows.entry(*r).or_insert(Verdict::Open);
            }
        }
        for f in &h.files {
            let key = (trees.files[f].folder, trees.files[f].place.file.base.clone());
            w.ledger.held_files.entry(key).or_insert(Verdict::Open);
        }
    }
    for a in &decision.actions {
        Applier { w: &mut *w, trees: &trees, policy }.apply(a)?;
    }
    w.ledger.first_pass = false;
    Ok(Pass {
        actions: decision.actions,
        held: decision.held,
        waiting: decision.waiting.values().sum(),
        unsure: plan.waiting,
        steps: w.steps - before,
    })
}

/// Passes until one has nothing to do. Removing a folder that is not empty does nothing, and is no
/// work. Returns the last pass.
pub fn converge(w: &mut World, policy: &Policy, brain: Brain) -> Result<Pass, String> {
    let mut last = Vec::new();
    for _ in 0..8 {
        let p = pass(w, policy, brain, (true, true)).map_err(|_| "killed")?;
        if p.steps == 0 {
            let idle = |a: &Action| matches!(a, Action::RemoveHere(_) | Action::RemoveThere(_));
            return if p.actions.iter().all(idle) {
                Ok(p)
            } else {
                Err(format!("actions without effect: {:?}", p.actions))
            };
        }
        last = p.actions;
    }
    Err(format!("does not converge; the last pass did {last:?}"))
}

struct Applier<'a> {
    w: &'a mut World,
    trees: &'a Trees,
    policy: &'a Policy,
}

type Done = Result<(), Killed>;

/// What becomes a message of the server.
enum Source {
    /// APPEND or COPY.
    New(Mail),
    /// MOVE.
    Moved(FolderId, Option<Uid>),
}

impl Applier<'_> {
    fn row(&self, id: RowId) -> Row {
        self.w.ledger.rows[&id].clone()
    }

    fn arrival(&self, id: RowId) -> (Row, Mail) {
        let row = self.row(id);
        let mail = self.w.mail(row.folder, row.uid).expect("the arrival is there").clone();
        (row, mail)
    }

    fn found(&self, id: FileId) -> (&LocalFile, File) {
        let f = &self.trees.files[&id];
        let file = self.w.file(f.folder, &f.place.file.base).expect("the file is there");
        (f, file.clone())
    }

    fn commit(&mut self, row: Row) {
        self.w.ledger.rows.insert(row.id, row);
    }

    fn forget(&mut self, id: RowId) {
        self.w.ledger.rows.remove(&id);
        self.w.ledger.held_rows.remove(&id);
    }

    fn keeps(&self, folder: FolderId) -> bool {
        let f = &self.trees.folders[&folder];
        self.policy.of(&f.name, f.special_use).remote_delete == RemoteDelete::Keep
    }

    fn is_trash(&self, folder: FolderId) -> bool {
        standing(self.w, self.policy, self.trees).trash == Some(folder)
    }

    /// A message that comes to `\Trash` takes the `keep` of its folder along.
    fn refolder(&self, row: &mut Row, to: FolderId) {
        row.keeps |= row.folder != to && self.is_trash(to) && self.keeps(row.folder);
        row.folder = to;
    }

    /// Does what gives the row's message a new UID in the row's folder: intent, effect, commit.
    fn there(&mut self, row: Row, from: Source, deletion: Option<FolderId>) -> Done {
        let to = self.w.name(row.folder);
        let cid = match &from {
            Source::New(mail) => mail.cid,
            Source::Moved(folder, uid) => self.w.mail(*folder, *uid).expect("the message").cid,
        };
        self.w.step()?;
        let next = self.w.server.get(&to).map_or(1, |b| b.next);
        let validity = self.w.server.get(&to).map(|b| b.validity);
        let intent = Intent { row, cid, next, validity, deletion };
        self.w.ledger.intent = Some(intent.clone());
        self.w.step()?;
        let mail = match from {
            Source::New(mail) => mail,
            Source::Moved(folder, uid) => {
                let (from, uid) = (self.w.name(folder), uid.expect("a UID").get());
                let mailbox = self.w.server.get_mut(&from).expect("the folder");
                mailbox.mails.remove(&uid).expect("the message")
            }
        };
        let uid = self.w.put_mail(&to, mail);
        self.w.step()?;
        self.w.fulfil(intent, uid);
        Ok(())
    }

    fn move_file(&mut self, from: FolderId, base: &BaseName, to: FolderId) -> BaseName {
        let (from, to) = (self.w.name(from), self.w.name(to));
        let file = self.w.disk.get_mut(&from).and_then(|d| d.remove(base)).expect("the file");
        self.w.put_file(&to, base.clone(), file)
    }

    fn expunge(&mut self, row: &Row) {
        let name = self.w.name(row.folder);
        let uid = row.uid.expect("a UID").get();
        let gone = self.w.server.get_mut(&name).and_then(|b| b.mails.remove(&uid));
        assert!(gone.is_some(), "expunged what is not there: {row:?}");
    }

    fn journal(&mut self, side: Side, folder: FolderId, approved: bool) {
        if !approved {
            *self.w.ledger.deleted.entry((side, folder)).or_default() += 1;
        }
    }

    /// Writes a file and then commits its row.
    fn deliver(&mut self, mut row: Row, mail: Mail, instead_of: Option<RowId>) -> Done {
        self.w.step()?;
        self.w.downloads.push(mail.ghost);
        let file =
            File { cid: mail.cid, flags: mail.flags.clone(), date: mail.date, ghost: mail.ghost };
        row.identity = self.w.whole_identity(&mail, &file);
        let (name, base) = (self.w.name(row.folder), self.w.our_base());
        let base = self.w.put_file(&name, base, file);
        self.w.step()?;
        row.state = State::Synced;
        row.place = Some(place(&base));
        row.exact = true;
        (row.agreed, row.remote, row.local) = (mail.flags.clone(), mail.flags.clone(), mail.flags);
        if let Some(old) = instead_of {
            let mut before = self.row(old);
            self.refolder(&mut before, row.folder);
            row.keeps = before.keeps || before.state == State::Kept;
            self.forget(old);
        }
        self.commit(row);
        Ok(())
    }

    /// The row has the file now, wherever it stands. Where a reader wrote into its headers, the row
    /// goes on to know the server's bytes, by which the server's message is known again; the file
    /// is, by what readers leave alone.
    fn take(&self, row: &mut Row, f: &LocalFile) {
        row.exact &= row.identity.content == f.identity.content;
        row.identity.content = row.identity.content.or(f.identity.content);
        row.identity.reader = row.identity.reader.or(f.identity.reader);
        row.place = Some(f.place.clone());
        row.local = f.flags.clone();
    }

    /// The row has the arrival's message now.
    fn renumber(&self, row: &mut Row, arrival: &Row, uid: Option<Uid>) {
        row.uid = uid;
        row.gone = None;
        row.remote = arrival.remote.clone();
        row.identity.wire_size = arrival.identity.wire_size;
        row.identity.internal_date = arrival.identity.internal_date;
        row.identity.server_id = arrival.identity.server_id.clone();
    }

    /// Kept and absent rows have no base to merge flags by. What was kept stays kept, if it goes
    /// again.
    fn synced(&self, row: &mut Row) {
        row.keeps |= row.state == State::Kept;
        if row.state != State::Synced {
            row.state = State::Synced;
            row.agreed = base_for_union(&row.remote, &row.local);
        }
    }

    fn apply(&mut self, action: &Action) -> Done {
        match action.clone() {
            Action::CreateHere(f) => {
                self.w.step()?;
                let name = self.w.name(f);
                self.w.disk.entry(name).or_default();
            }
            Action::CreateThere(f) => {
                self.w.step()?;
                let name = self.w.name(f);
                self.w.add_mailbox(&name, None);
            }
            Action::RemoveHere(f) => {
                let name = self.w.name(f);
                if self.w.disk.get(&name).is_some_and(|d| d.is_empty()) {
                    self.w.step()?;
                    self.w.disk.remove(&name);
                }
            }
            Action::RemoveThere(f) => {
                let name = self.w.name(f);
                if self.w.server.get(&name).is_some_and(|b| b.mails.is_empty()) {
                    self.w.step()?;
                    self.w.server.remove(&name);
                }
            }
            Action::Adopt { arrival, file, exact } => self.adopt(arrival, file, exact)?,
            Action::Follow { row, arrival } => {
                let (mut row, arrival) = (self.row(row), self.row(arrival));
                let base = row.place.as_ref().expect("a file").file.base.clone();
                if row.folder != arrival.folder {
                    self.w.step()?;
                    let base = self.move_file(row.folder, &base, arrival.folder);
                    row.place = Some(place(&base));
                }
                self.w.step()?;
                self.renumber(&mut row, &arrival, arrival.uid);
                self.refolder(&mut row, arrival.folder);
                self.synced(&mut row);
                self.forget(arrival.id);
                self.commit(row);
            }
            Action::MeetAt { row, arrival, file } => {
                let (mut row, arrival) = (self.row(row), self.row(arrival));
                let f = self.found(file).0.clone();
                self.renumber(&mut row, &arrival, arrival.uid);
                self.refolder(&mut row, f.folder);
                self.take(&mut row, &f);
                self.synced(&mut row);
                if arrival.folder != f.folder {
                    self.there(row, Source::Moved(arrival.folder, arrival.uid), None)?;
                } else {
                    self.w.step()?;
                    self.commit(row);
                }
                self.forget(arrival.id);
            }
            Action::MoveThere { row, file } => {
                let mut row = self.row(row);
                let f = self.found(file).0.clone();
                let from = row.folder;
                self.refolder(&mut row, f.folder);
                self.take(&mut row, &f);
                self.synced(&mut row);
                if from != f.folder {
                    let uid = row.uid;
                    self.there(row, Source::Moved(from, uid), None)?;
                } else {
                    self.w.step()?;
                    self.commit(row);
                }
            }
            Action::KeepAt { row, file } => {
                self.w.step()?;
                let mut row = self.row(row);
                let f = self.found(file).0.clone();
                if self.w.row_file(&row).is_some() {
                    self.keep_file(&f);
                } else {
                    row.folder = f.folder;
                    self.take(&mut row, &f);
                    (row.state, row.uid, row.gone) = (State::Kept, None, None);
                    self.commit(row);
                }
            }
            Action::CopyThere { of, file } => {
                let of = self.row(of);
                let (f, here) = self.found(file);
                let f = f.clone();
                let mail = self.w.mail(of.folder, of.uid).expect("the original").clone();
                let copy = Mail { ghost: here.ghost, ..mail };
                let mut row = World::blank(f.folder, State::Synced, self.w.mail_identity(&copy));
                (row.remote, row.copy_of) = (copy.flags.clone(), Some(of.id));
                row.exact = of.exact;
                row.identity.content = of.identity.content;
                self.take(&mut row, &f);
                // COPY brings the original's flags; the copy here may have others by now
                row.agreed = row.remote.clone();
                self.there(row, Source::New(copy), None)?;
            }
            Action::FinishMove { row, copy } => {
                let (row, copy) = (self.row(row), self.row(copy));
                assert!(self.w.mail(copy.folder, copy.uid).is_some(), "the copy is not there");
                self.w.step()?;
                self.expunge(&row);
                self.w.step()?;
                self.forget(row.id);
            }
            Action::Download { arrival, instead_of } => {
                let (row, mail) = self.arrival(arrival);
                self.deliver(row, mail, instead_of)?;
            }
            Action::Link { arrival, from } => {
                let (row, mail) = self.arrival(arrival);
                let from = self.w.row_file(&self.row(from)).expect("a file to link").clone();
                assert_eq!(from.cid, mail.cid, "linked to other bytes");
                self.deliver(row, mail, None)?;
            }
            Action::Pull { folder, from } => {
                let mails = self.w.server[&self.w.name(folder)].mails.clone();
                for (uid, mail) in mails.range(from.get()..) {
                    let mut row = World::blank(folder, State::Synced, self.w.mail_identity(mail));
                    row.uid = Uid::new(*uid);
                    // the row's number is drawn at the commit
                    self.w.ledger.next_row += 1;
                    row.id = RowId(self.w.ledger.next_row);
                    self.deliver(row, mail.clone(), None)?;
                }
            }
            Action::StayAbsent { row, arrival } => {
                self.w.step()?;
                let (mut row, arrival) = (self.row(row), self.row(arrival));
                self.renumber(&mut row, &arrival, arrival.uid);
                row.folder = arrival.folder;
                (row.state, row.place) = (State::Absent, None);
                self.forget(arrival.id);
                self.commit(row);
            }
            Action::Upload(file) => {
                let (f, here) = self.found(file);
                let f = f.clone();
                let mail = Mail {
                    cid: here.cid,
                    flags: here.flags.clone(),
                    date: here.date,
                    server_id: None,
                    ghost: here.ghost,
                };
                let identity = self.w.whole_identity(&mail, &here);
                let mut row = World::blank(f.folder, State::Synced, identity);
                row.place = Some(f.place);
                (row.agreed, row.remote, row.local) = (f.flags.clone(), f.flags.clone(), f.flags);
                self.there(row, Source::New(mail), None)?;
            }
            Action::KeepFile(file) => {
                self.w.step()?;
                let f = self.found(file).0.clone();
                self.keep_file(&f);
            }
            Action::SetFlags { row, merged, there } => self.set_flags(row, &merged, there)?,
            Action::Unlink { row, twin, approved } => {
                let row = self.row(row);
                let file = self.w.row_file(&row).expect("a file to unlink").clone();
                if let Some(t) = twin {
                    let t = self.w.row_file(&self.row(t)).expect("the twin's file");
                    assert_eq!(t.cid, file.cid, "the twin has other bytes");
                }
                self.w.step()?;
                if let Some(mut t) = twin.map(|t| self.row(t)) {
                    let in_trash = self.is_trash(t.folder) && self.keeps(row.folder);
                    t.keeps |= row.keeps || in_trash;
                    self.commit(t);
                }
                self.w.ledger.unlinking = Some((row.id, approved || twin.is_some()));
                self.w.step()?;
                let (name, place) = (self.w.name(row.folder), row.place.clone().expect("a file"));
                self.w.disk.get_mut(&name).and_then(|d| d.remove(&place.file.base));
                self.w.step()?;
                self.w.unlinked();
            }
            Action::Keep(row) => {
                self.w.step()?;
                let mut row = self.row(row);
                assert!(self.w.row_file(&row).is_some(), "kept what is not here");
                (row.state, row.uid, row.gone) = (State::Kept, None, None);
                self.commit(row);
            }
            Action::TrashThere { row, trash, approved } => {
                let mut row = self.row(row);
                let (from, uid) = (row.folder, row.uid);
                self.refolder(&mut row, trash);
                (row.state, row.place) = (State::Pending, None);
                if !row.exact {
                    // these were the file's bytes; the arrival's are not known
                    (row.identity.content, row.identity.reader) = (None, None);
                }
                self.there(row, Source::Moved(from, uid), (!approved).then_some(from))?;
            }
            Action::ExpungeThere { row, approved } => {
                let row = self.row(row);
                self.w.step()?;
                self.expunge(&row);
                self.w.step()?;
                self.forget(row.id);
                self.journal(Side::There, row.folder, approved);
            }
            Action::MakeAbsent(row) => {
                self.w.step()?;
                let mut row = self.row(row);
                assert!(self.w.mail(row.folder, row.uid).is_some(), "absent on both sides");
                (row.state, row.place) = (State::Absent, None);
                self.commit(row);
            }
            Action::Refetch(row) => {
                let row = self.row(row);
                let mail = self.w.mail(row.folder, row.uid).expect("there").clone();
                self.w.ledger.held_rows.remove(&row.id);
                self.deliver(row, mail, None)?;
            }
            Action::Drop(row) => {
                self.w.step()?;
                self.forget(row);
            }
        }
        Ok(())
    }

    fn adopt(&mut self, arrival: RowId, file: FileId, exact: bool) -> Done {
        let mut row = self.row(arrival);
        let mut f = self.found(file).0.clone();
        if f.folder != row.folder {
            self.w.step()?;
            let base = self.move_file(f.folder, &f.place.file.base, row.folder);
            f.place = place(&base);
        }
        self.w.step()?;
        row.state = State::Synced;
        if exact {
            row.identity.content = f.identity.content;
        }
        row.identity.reader = f.identity.reader;
        self.take(&mut row, &f);
        row.exact = exact;
        row.agreed = base_for_union(&row.remote, &row.local);
        self.commit(row);
        Ok(())
    }

    fn keep_file(&mut self, f: &LocalFile) {
        let mut row = World::blank(f.folder, State::Kept, f.identity.clone());
        row.place = Some(f.place.clone());
        (row.agreed, row.remote, row.local) = (f.flags.clone(), f.flags.clone(), f.flags.clone());
        self.w.ledger.held_files.remove(&(f.folder, f.place.file.base.clone()));
        self.w.add_row(row);
    }

    fn set_flags(&mut self, id: RowId, merged: &mailkeep::model::Flags, there: bool) -> Done {
        let mut row = self.row(id);
        let (name, place) = (self.w.name(row.folder), row.place.clone().expect("a file"));
        if there && row.remote != *merged {
            self.w.step()?;
            let uid = row.uid.expect("a UID").get();
            let mail = self.w.server.get_mut(&name).and_then(|b| b.mails.get_mut(&uid));
            mail.expect("the message").flags = merged.clone();
        }
        if row.local != *merged {
            self.w.step()?;
            let file = self.w.disk.get_mut(&name).and_then(|d| d.get_mut(&place.file.base));
            file.expect("the file").flags = merged.clone();
        }
        self.w.step()?;
        row.local = merged.clone();
        if there {
            row.remote = merged.clone();
            row.agreed = merged.clone();
        } else {
            // what the server was not told stays a change of ours
            row.agreed = row.remote.clone();
        }
        self.commit(row);
        Ok(())
    }
}
