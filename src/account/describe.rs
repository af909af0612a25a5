//! The plan as a person reads it: what a dry run prints.

use std::collections::{BTreeMap, BTreeSet};

use super::pass::Pass;
use crate::model::{FolderId, Row, RowId};
use crate::policy::decide::{Action, Decision, Held};
use crate::reconcile::{FileId, Trees};
use crate::words::{count, messages};

/// A line for everything that would be done, and for everything that waits.
pub fn describe(p: &Pass<'_>, trees: &Trees, decision: &Decision) -> Vec<String> {
    let d = Describe { p, trees };
    let all = decision.actions.iter().chain(&decision.later);
    let mut lines: Vec<String> = all.map(|a| d.action(a)).collect();
    for held in &decision.held {
        let n = messages(held.rows.len() + held.files.len());
        lines.push(format!("hold {n} in {}: {}", d.folders(held), held.reason));
    }
    let mut waiting: BTreeMap<&str, u64> = BTreeMap::new();
    for ((_, why), n) in &decision.waiting {
        *waiting.entry(why).or_default() += n;
    }
    let undone = |n| count(n, "change", "changes");
    lines.extend(waiting.into_iter().map(|(why, n)| format!("leave {} undone: {why}", undone(n))));
    lines
}

struct Describe<'a, 'b> {
    p: &'a Pass<'b>,
    trees: &'a Trees,
}

impl Describe<'_, '_> {
    fn folder(&self, id: FolderId) -> String {
        self.p.folders.get(&id).map_or_else(|| "?".into(), |f| f.rec.name.to_string())
    }

    /// Where it is held, the first folder by its name.
    fn folders(&self, held: &Held) -> String {
        let rows = held.rows.iter().filter_map(|id| Some(self.trees.rows.get(id)?.folder));
        let files = held.files.iter().filter_map(|id| Some(self.trees.files.get(id)?.folder));
        let mut others: BTreeSet<FolderId> = rows.chain(files).collect();
        others.remove(&held.folder);
        let first = self.folder(held.folder);
        match others.len() {
            0 => first,
            n => format!("{first} and {}", count(n, "other folder", "other folders")),
        }
    }

    fn message(&self, row: &Row) -> String {
        let id = &row.identity.fingerprint.message_id;
        match (id.is_empty(), row.uid) {
            (false, _) => id.to_string(),
            (true, Some(uid)) => format!("UID {uid}"),
            (true, None) => "a message without Message-ID".into(),
        }
    }

    fn row(&self, id: RowId) -> (String, String) {
        self.trees
            .rows
            .get(&id)
            .map_or_else(|| ("?".into(), "?".into()), |r| (self.message(r), self.folder(r.folder)))
    }

    fn file(&self, id: FileId) -> (String, String) {
        self.trees.files.get(&id).map_or_else(
            || ("?".into(), "?".into()),
            |f| (f.place.to_string(), self.folder(f.folder)),
        )
    }

    fn action(&self, action: &Action) -> String {
        match action {
            Action::CreateHere(f) => format!("create folder {} here", self.folder(*f)),
            Action::CreateThere(f) => format!("create folder {} on the server", self.folder(*f)),
            Action::RemoveHere(f) => format!("remove the empty folder {} here", self.folder(*f)),
            Action::RemoveThere(f) => {
                format!("remove the empty folder {} on the server", self.folder(*f))
            }
            Action::Adopt { arrival, file, .. } => {
                let ((m, at), (file, _)) = (self.row(*arrival), self.file(*file));
                format!("pair {file} with {m} in {at}")
            }
            Action::Follow { row, arrival } => {
                let ((m, from), (_, to)) = (self.row(*row), self.row(*arrival));
                if from == to {
                    format!("note the new UID of {m} in {to}")
                } else {
                    format!("move {m} here from {from} to {to}")
                }
            }
            Action::MeetAt { row, arrival, file } => {
                let ((m, _), (_, at), (_, to)) =
                    (self.row(*row), self.row(*arrival), self.file(*file));
                format!("move {m} on the server from {at} to {to}")
            }
            Action::MoveThere { row, file } => {
                let ((m, from), (name, to)) = (self.row(*row), self.file(*file));
                if from == to {
                    format!("note that {m} in {to} is {name} now")
                } else {
                    format!("move {m} on the server from {from} to {to}")
                }
            }
            Action::KeepAt { file, .. } | Action::KeepFile(file) => {
                let (name, at) = self.file(*file);
                format!("keep {name} in {at} here only")
            }
            Action::CopyThere { of, file } => {
                let ((m, from), (_, to)) = (self.row(*of), self.file(*file));
                format!("copy {m} on the server from {from} to {to}")
            }
            Action::FinishMove { row, copy } => {
                let ((m, from), (_, to)) = (self.row(*row), self.row(*copy));
                format!("finish the move of {m} from {from} to {to}: expunge the original")
            }
            Action::Download { arrival, .. } => {
                let (m, at) = self.row(*arrival);
                format!("fetch {m} into {at}")
            }
            Action::Link { arrival, .. } => {
                let (m, at) = self.row(*arrival);
                format!("put {m} into {at}, whose bytes are here already")
            }
            Action::Pull { folder, from } => {
                let count = self.p.folders.get(folder).and_then(|f| f.fresh?.count);
                let n = count.map_or_else(String::new, |n| format!(" ({})", messages(n)));
                format!("fetch everything in {} from UID {from} on{n}", self.folder(*folder))
            }
            Action::StayAbsent { row, .. } => {
                format!("leave {} on the server only", self.row(*row).0)
            }
            Action::Upload(file) => {
                let (name, at) = self.file(*file);
                format!("upload {name} to {at}")
            }
            Action::SetFlags { row, merged, there } => {
                let (m, at) = self.row(*row);
                let side = if *there { "on both sides" } else { "here" };
                format!("set the flags of {m} in {at} {side} to ({merged})")
            }
            Action::Unlink { row, twin, .. } => {
                let (m, at) = self.row(*row);
                match twin {
                    Some(t) => {
                        format!("remove {m} from {at} here; its copy in {} stays", self.row(*t).1)
                    }
                    None => format!("remove {m} from {at} here: it went from the server"),
                }
            }
            Action::Keep(row) => {
                let (m, at) = self.row(*row);
                format!("keep {m} in {at}, which went from the server")
            }
            Action::TrashThere { row, trash, .. } => {
                let (m, at) = self.row(*row);
                format!("move {m} on the server from {at} to {}", self.folder(*trash))
            }
            Action::ExpungeThere { row, .. } => {
                let (m, at) = self.row(*row);
                format!("expunge {m} from {at} on the server")
            }
            Action::MakeAbsent(row) => {
                let (m, at) = self.row(*row);
                format!("leave {m} in {at} on the server only")
            }
            Action::Refetch(row) => {
                let (m, at) = self.row(*row);
                format!("fetch {m} into {at} again")
            }
            Action::Drop(row) => format!("forget {}, which is on neither side", self.row(*row).0),
        }
    }
}
