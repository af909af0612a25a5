//! What is to be done: a pass of policy over the finished plan. Pure. Every deletion is decided
//! here, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

pub use super::decision::{Action, Decision, Held, HeldKind, Side, Standing, Verdict};
use super::{FolderPolicy, LocalDelete, Policy, RemoteDelete};
use crate::model::{Flags, FolderId, Row, RowId, SpecialUse, State};
use crate::reconcile::{Change, FileId, Plan, Presence, Trees};

/// More deletions than this in 24 hours are held whatever their share.
pub const MANY: u64 = 1000;

/// Why an arrival waits that may be here already.
const OBSCURE: &str = "it may be mail that is here already, in a file or directory that cannot be \
                       read, or that keeps changing; make that readable (its owner and mode), or \
                       leave it alone for a moment, then sync again";

/// Why nothing is put into a folder of the server.
pub const UNSEEN: &str =
    "it could not be looked into on the server, and may have the message already";

/// Why flags wait that PERMANENTFLAGS does not list.
const NOT_STORED: &str = "the server does not store all flags that are set or cleared here";

/// Files that are held.
const STRANGE: &str =
    "these files stood here before the first pass, and nothing on the server is them";
/// What becomes of them if they are rejected.
const HERE_ONLY: &str = "reject keeps them here only";

/// Lays the policy over the plan.
pub fn decide(plan: &Plan, trees: &Trees, policy: &Policy, standing: &Standing) -> Decision {
    let mut d = Decider {
        trees,
        policy,
        standing,
        out: Decision::default(),
        removals: Vec::new(),
        braked: BTreeMap::new(),
        later: Vec::new(),
    };
    let is_folder =
        |c: &&Change| matches!(c, Change::FolderVanishedThere(_) | Change::FolderVanishedHere(_));
    for change in plan.changes.iter().filter(|c| !is_folder(c)) {
        d.change(change);
    }
    d.brake();
    d.later();
    // a folder goes after the messages that were in it
    for change in plan.changes.iter().filter(is_folder) {
        d.change(change);
    }
    d.out
}

struct Decider<'a> {
    trees: &'a Trees,
    policy: &'a Policy,
    standing: &'a Standing,
    out: Decision,
    /// Deletions that the brake may hold, and the file that has to have a row first.
    removals: Vec<(Side, FolderId, RowId, Action, Option<FileId>)>,
    /// What is done once these files have rows.
    later: Vec<(FileId, Action)>,
    /// Deletions that it holds since an earlier pass: what follows is a slice of the same.
    braked: BTreeMap<(Side, FolderId), u64>,
}

impl Decider<'_> {
    fn row(&self, id: RowId) -> Option<&Row> {
        self.trees.rows.get(&id)
    }

    fn row_folder(&self, id: RowId) -> Option<FolderId> {
        self.row(id).map(|r| r.folder)
    }

    fn file_folder(&self, id: FileId) -> Option<FolderId> {
        self.trees.files.get(&id).map(|f| f.folder)
    }

    fn policy_of(&self, id: FolderId) -> FolderPolicy {
        match self.trees.folders.get(&id) {
            Some(f) => self.policy.of(&f.name, f.special_use),
            // a folder nobody knows: whatever deletes nothing
            None => FolderPolicy {
                remote_delete: RemoteDelete::Keep,
                local_delete: LocalDelete::Keep,
                upload: false,
            },
        }
    }

    fn is_trash(&self, id: FolderId) -> bool {
        self.standing.trash == Some(id)
            || self.trees.folders.get(&id).is_some_and(|f| f.special_use == Some(SpecialUse::Trash))
    }

    /// Whether it is the trash that what is deleted in some other folder is moved to.
    fn is_needed(&self, id: FolderId) -> bool {
        let trashes = |f: FolderId| self.policy_of(f).local_delete == LocalDelete::Trash;
        let mut others = self.trees.folders.iter().filter(|(f, x)| **f != id && x.selected);
        self.standing.trash == Some(id) && others.any(|(f, _)| trashes(*f))
    }

    /// Does it, if `--folder` allows it in one of these folders.
    fn act(&mut self, folders: &[Option<FolderId>], action: Action) {
        if self.limited(folders) {
            return;
        }
        self.out.actions.push(action);
    }

    fn limited(&self, folders: &[Option<FolderId>]) -> bool {
        let unselected =
            |id| self.trees.folders.get(&id).is_none_or(|f: &crate::reconcile::Folder| !f.selected);
        folders.iter().flatten().any(|f| unselected(*f))
            || self
                .standing
                .only
                .as_ref()
                .is_some_and(|only| !folders.iter().flatten().any(|f| only.contains(f)))
    }

    /// Why the server may not be changed in these folders, if it may not.
    fn closed(&self, folders: &[Option<FolderId>]) -> Option<(FolderId, String)> {
        let first = folders.iter().flatten().next().copied()?;
        if self.policy.read_only {
            return Some((first, "read_only = true".into()));
        }
        folders
            .iter()
            .flatten()
            .find_map(|f| self.standing.closed.get(f).map(|why| (*f, why.clone())))
    }

    /// Does what changes the server, or lets it wait.
    fn act_there(&mut self, folders: &[Option<FolderId>], action: Action) {
        self.put_there(folders, None, action);
    }

    /// The same for what puts a message into a folder there. An error is never an absence: what is
    /// in a folder that could not be looked into is not known, and may be this message.
    fn put_there(&mut self, folders: &[Option<FolderId>], into: Option<FolderId>, action: Action) {
        match self.closed(folders).or_else(|| self.unseen(into)) {
            Some(key) if !self.limited(folders) => *self.out.waiting.entry(key).or_default() += 1,
            _ => self.act(folders, action),
        }
    }

    fn unseen(&self, into: Option<FolderId>) -> Option<(FolderId, String)> {
        into.filter(|f| self.standing.unseen.contains(f)).map(|f| (f, UNSEEN.into()))
    }

    fn change(&mut self, change: &Change) {
        match *change {
            Change::FolderArrived(f) => self.act(&[Some(f)], Action::CreateHere(f)),
            Change::FolderAppeared(f) => {
                if self.policy_of(f).upload {
                    self.act_there(&[Some(f)], Action::CreateThere(f));
                }
            }
            Change::FolderVanishedThere(f) => {
                // one that is on neither side is only forgotten
                let here = self.trees.folders.get(&f).is_some_and(|x| x.disk == Presence::There);
                if !here || self.policy_of(f).remote_delete == RemoteDelete::Mirror {
                    self.act(&[Some(f)], Action::RemoveHere(f));
                }
            }
            Change::FolderVanishedHere(f) => {
                // what is deleted here has to go somewhere, today's and what is held
                if self.policy_of(f).local_delete == LocalDelete::Mirror && !self.is_needed(f) {
                    self.act_there(&[Some(f)], Action::RemoveThere(f));
                }
            }
            Change::Adopted { arrival, file, exact } => {
                let f = [self.row_folder(arrival), self.file_folder(file)];
                self.act(&f, Action::Adopt { arrival, file, exact });
            }
            Change::Renumbered { row, arrival } => {
                let f = [self.row_folder(row), self.row_folder(arrival)];
                self.act(&f, Action::Follow { row, arrival });
            }
            Change::MovedBoth { row, arrival, file } => {
                let f = [self.row_folder(arrival), self.file_folder(file)];
                if f[0] != f[1] && self.standing.refiled.contains(&row) {
                    match self.standing.rows.get(&row) {
                        Some(Verdict::Approved) => {}
                        Some(Verdict::Rejected) => {
                            // the file goes back to where the server has it
                            let action = Action::Adopt { arrival, file, exact: true };
                            return self.act(&f, action);
                        }
                        _ if self.limited(&f) => return,
                        _ => {
                            let Some(folder) = f[0] else { return };
                            return self.hold(HeldKind::Refiled, folder, row);
                        }
                    }
                }
                let action = Action::MeetAt { row, arrival, file };
                if f[0] == f[1] { self.act(&f, action) } else { self.put_there(&f, f[1], action) }
            }
            Change::MovedHere { row, file } => {
                let f = [self.row_folder(row), self.file_folder(file)];
                let action = Action::MoveThere { row, file };
                if f[0] == f[1] { self.act(&f, action) } else { self.put_there(&f, f[1], action) }
            }
            Change::MovedKept { row, file } => {
                self.act(&[self.file_folder(file)], Action::KeepAt { row, file });
            }
            Change::CopiedHere { of, file } => {
                if self.in_hold(file) || self.standing.refused.contains(&file) {
                    return;
                }
                let f = [self.file_folder(file)];
                if f[0].is_some_and(|f| self.policy_of(f).upload) {
                    self.put_there(&f, f[0], Action::CopyThere { of, file });
                } else {
                    self.act(&f, Action::KeepFile(file));
                }
            }
            Change::MoveCompleted { row, copy } => {
                self.act_there(&[self.row_folder(row)], Action::FinishMove { row, copy });
            }
            Change::Arrived { arrival, twin } => {
                let action = match twin {
                    Some(from) => Action::Link { arrival, from },
                    None => Action::Download { arrival, instead_of: None },
                };
                self.act(&[self.row_folder(arrival)], action);
            }
            Change::Obscure(folder) => {
                if !self.limited(&[Some(folder)]) {
                    *self.out.waiting.entry((folder, OBSCURE.into())).or_default() += 1;
                }
            }
            Change::Pull { folder, from } => {
                self.act(&[Some(folder)], Action::Pull { folder, from });
            }
            Change::DeletedThenMoved { row, arrival } => {
                let at = self.row_folder(arrival);
                let stays = at.is_some_and(|f| {
                    self.policy_of(f).local_delete == LocalDelete::Keep || self.policy.read_only
                }) && self.row(row).is_some_and(|r| r.state != State::Kept);
                let action = if stays {
                    Action::StayAbsent { row, arrival }
                } else {
                    Action::Download { arrival, instead_of: Some(row) }
                };
                self.act(&[at], action);
            }
            Change::AbsentRenumbered { row, arrival } => {
                self.act(&[self.row_folder(arrival)], Action::StayAbsent { row, arrival });
            }
            Change::Appeared(file) => {
                if !self.in_hold(file) {
                    self.appeared(file);
                }
            }
            Change::Unknown { file, ours } => self.unknown(file, ours),
            Change::VanishedThere { row, twin, epoch } => self.vanished_there(row, twin, epoch),
            Change::VanishedHere(row) => self.vanished_here(row, None),
            Change::Replaced { row, file } => self.vanished_here(row, Some(file)),
            Change::VanishedBoth(row) => self.act(&[self.row_folder(row)], Action::Drop(row)),
            Change::Flags { row, ref merged } => self.flags(row, merged),
        }
    }

    fn flags(&mut self, row: RowId, merged: &Flags) {
        let trees = self.trees;
        let Some(r) = trees.rows.get(&row) else { return };
        let f = [Some(r.folder)];
        let closed = self.closed(&f);
        let there = closed.is_none();
        let told = match self.standing.permanent.get(&r.folder) {
            _ if !there => r.remote.clone(),
            Some(permanent) => permanent.told(&r.remote, merged),
            None => merged.clone(),
        };
        if told != *merged {
            let key = closed.unwrap_or_else(|| (r.folder, NOT_STORED.into()));
            *self.out.waiting.entry(key).or_default() += 1;
        }
        if told == r.remote && *merged == r.local && r.remote == r.agreed {
            return; // all that is left to do is what the server does not allow
        }
        self.act(&f, Action::SetFlags { row, merged: merged.clone(), there });
    }

    fn appeared(&mut self, file: FileId) {
        let f = [self.file_folder(file)];
        if self.standing.refused.contains(&file) {
            return;
        }
        if f[0].is_some_and(|f| self.policy_of(f).upload) {
            self.put_there(&f, f[0], Action::Upload(file));
        } else {
            self.act(&f, Action::KeepFile(file));
        }
    }

    fn unknown(&mut self, file: FileId, ours: bool) {
        let Some(folder) = self.file_folder(file) else { return };
        if ours || !self.policy_of(folder).upload {
            return self.act(&[Some(folder)], Action::KeepFile(file));
        }
        match self.standing.files.get(&file) {
            Some(_) if self.in_hold(file) => {}
            Some(_) => self.appeared(file),
            None => self.hold_file(folder, file),
        }
    }

    /// Whether the file was held in an earlier pass and not approved since. It then stays held, or
    /// stays here; later passes must not take it for new mail.
    fn in_hold(&mut self, file: FileId) -> bool {
        let Some(folder) = self.file_folder(file) else { return false };
        match self.standing.files.get(&file) {
            Some(Verdict::Open) => self.hold_file(folder, file),
            Some(Verdict::Rejected) => self.act(&[Some(folder)], Action::KeepFile(file)),
            Some(Verdict::Approved) | None => return false,
        }
        true
    }

    fn hold_file(&mut self, folder: FolderId, file: FileId) {
        let at = self.out.held.iter_mut().find(|h| h.kind == HeldKind::UnknownFiles);
        match at {
            Some(h) => h.files.push(file),
            None => self.out.held.push(Held {
                kind: HeldKind::UnknownFiles,
                folder,
                rows: Vec::new(),
                files: vec![file],
                reason: match self.policy.read_only {
                    false => format!("{STRANGE}; approve uploads them, {HERE_ONLY}"),
                    true => format!(
                        "{STRANGE}; approve uploads them once read_only is gone, {HERE_ONLY}"
                    ),
                },
            }),
        }
    }

    fn vanished_there(&mut self, id: RowId, twin: Option<RowId>, epoch: bool) {
        let Some(row) = self.row(id) else { return };
        let folder = row.folder;
        if self.limited(&[Some(folder)]) {
            return; // what is not done is not held either, and the brake does not count it
        }
        let policy = self.policy_of(folder);
        if let Some(t) = twin
            && !epoch
            && self.row_folder(t).is_some_and(|f| {
                // what moves to the trash takes the keep along
                self.policy_of(f).remote_delete == RemoteDelete::Keep
                    || self.standing.trash == Some(f)
            })
        {
            // nothing is lost: the same bytes stay, on both sides
            let action = Action::Unlink { row: id, twin, approved: false };
            return self.act(&[Some(folder)], action);
        }
        if epoch || row.keeps || policy.remote_delete == RemoteDelete::Keep {
            return self.act(&[Some(folder)], Action::Keep(id));
        }
        match self.standing.rows.get(&id) {
            Some(Verdict::Approved) => {
                let action = Action::Unlink { row: id, twin: None, approved: true };
                self.act(&[Some(folder)], action);
            }
            Some(Verdict::Rejected) => self.act(&[Some(folder)], Action::Keep(id)),
            Some(Verdict::Open) => {
                *self.braked.entry((Side::Here, folder)).or_default() += 1;
                self.hold(HeldKind::RemoteDeletions, folder, id);
            }
            None => self.removals.push((
                Side::Here,
                folder,
                id,
                Action::Unlink { row: id, twin: None, approved: false },
                None,
            )),
        }
    }

    /// `after`: nothing is done about it before this file has a row. But it is held together with
    /// the others.
    fn vanished_here(&mut self, id: RowId, after: Option<FileId>) {
        let Some(folder) = self.row_folder(id) else { return };
        if self.limited(&[Some(folder)]) {
            return;
        }
        let policy = self.policy_of(folder);
        let verdict = self.standing.rows.get(&id).copied();
        let stays = policy.local_delete == LocalDelete::Keep || self.policy.read_only;
        if stays {
            return self.act_after(folder, Action::MakeAbsent(id), after);
        }
        if verdict == Some(Verdict::Rejected) {
            return self.act_after(folder, Action::Refetch(id), after);
        }
        let approved = verdict == Some(Verdict::Approved);
        let expunge = policy.local_delete == LocalDelete::Mirror || self.is_trash(folder);
        let action = match (expunge, self.standing.trash) {
            (true, _) => Action::ExpungeThere { row: id, approved },
            (false, Some(trash)) => Action::TrashThere { row: id, trash, approved },
            // a person said to delete them all the same
            (false, None) if approved => Action::ExpungeThere { row: id, approved },
            (false, None) => return self.hold(HeldKind::NoTrash, folder, id),
        };
        let trash = match action {
            Action::TrashThere { trash, .. } => Some(trash),
            _ => None,
        };
        if let Some(key) = self.closed(&[Some(folder), trash]).or_else(|| self.unseen(trash)) {
            *self.out.waiting.entry(key).or_default() += 1;
            return;
        }
        match verdict {
            Some(Verdict::Approved) => self.act_after(folder, action, after),
            Some(Verdict::Open) => {
                *self.braked.entry((Side::There, folder)).or_default() += 1;
                self.hold(HeldKind::LocalDeletions, folder, id);
            }
            _ => self.removals.push((Side::There, folder, id, action, after)),
        }
    }

    fn act_after(&mut self, folder: FolderId, action: Action, after: Option<FileId>) {
        match after {
            Some(file) if !self.limited(&[Some(folder)]) => self.later.push((file, action)),
            Some(_) => {}
            None => self.act(&[Some(folder)], action),
        }
    }

    /// What comes later, as far as what comes first is done.
    fn later(&mut self) {
        let gets_row: BTreeSet<FileId> = self.out.actions.iter().filter_map(file_of).collect();
        let later = std::mem::take(&mut self.later);
        self.out.later = later
            .into_iter()
            .filter(|(f, _)| gets_row.contains(f))
            .map(|(_, action)| action)
            .collect();
    }

    fn hold(&mut self, kind: HeldKind, folder: FolderId, row: RowId) {
        if let Some(h) = self.out.held.iter_mut().find(|h| h.kind == kind) {
            h.rows.push(row);
            return;
        }
        let reason = match kind {
            HeldKind::LocalDeletions => {
                "many messages were removed here within 24 hours; approve deletes them on the \
                 server too, reject fetches them again"
            }
            HeldKind::RemoteDeletions => {
                "many messages went from the server within 24 hours; approve removes them here \
                 too, reject keeps them here"
            }
            HeldKind::NoTrash => {
                "messages were removed here, and the server marks no folder as \\Trash; set \
                 policy.trash to a folder of the server; approve expunges them, reject fetches them \
                 again"
            }
            HeldKind::Refiled => {
                "messages were put into other folders while this was a POP3 account; approve moves \
                 them there on the server too, reject moves the files back"
            }
            HeldKind::UnknownFiles => "",
        };
        self.out.held.push(Held {
            kind,
            folder,
            rows: vec![row],
            files: Vec::new(),
            reason: reason.into(),
        });
    }

    /// Lets the deletions go, or holds those of a folder, or of a whole side.
    fn brake(&mut self) {
        let mut counts: BTreeMap<(Side, FolderId), u64> = self.standing.deleted.clone();
        for (key, n) in &self.braked {
            *counts.entry(*key).or_default() += n;
        }
        for (side, folder, ..) in &self.removals {
            *counts.entry((*side, *folder)).or_default() += 1;
        }
        let whole: u64 = self.standing.sizes.values().sum();
        let brake = self.policy.brake;
        let over = |n: u64, of: u64| {
            n > MANY || n > u64::from(brake.messages) && n * 100 > u64::from(brake.percent) * of
        };
        for (side, folder, row, action, after) in std::mem::take(&mut self.removals) {
            let here: u64 = counts.get(&(side, folder)).copied().unwrap_or(0);
            let all: u64 = counts.iter().filter(|((s, _), _)| *s == side).map(|(_, n)| n).sum();
            let size = self.standing.sizes.get(&folder).copied().unwrap_or(0);
            if over(here, size) || over(all, whole) {
                let kind = match side {
                    Side::Here => HeldKind::RemoteDeletions,
                    Side::There => HeldKind::LocalDeletions,
                };
                self.hold(kind, folder, row);
            } else {
                self.act_after(folder, action, after);
            }
        }
    }
}

/// The file that the action gives a row of its own.
fn file_of(action: &Action) -> Option<FileId> {
    match action {
        Action::Upload(file) | Action::KeepFile(file) => Some(*file),
        _ => None,
    }
}
