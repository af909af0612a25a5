//! From a decision to effects. Each effect is durable before the ledger says so, and the ledger says
//! so before anything on the server relies on it (I8); killed anywhere in between, what is found at
//! the next start pairs (I6).
//!
//! Order: folders, what only joins, moves and copies, uploads, downloads, flags, and last what
//! takes away.

mod delete_there;
pub mod here;
mod joins;
pub(crate) mod journal;
pub mod pipeline;
mod pull;
mod refile_there;
mod there;
mod upload;

pub(crate) use joins::keeps_in;
pub(crate) use there::ASK_AGAIN_AFTER;

use std::collections::BTreeMap;

use crate::account::pass::Pass;
use crate::error::{Error, Kind, Result, Scope};
use crate::model::{Flags, FolderId, RowId, Uid};
use crate::policy::decide::Action;
use crate::reconcile::{FileId, Trees};

/// Whether anything here would be removed because it went from the server.
pub fn unlinks(actions: &[Action]) -> bool {
    actions.iter().any(|a| matches!(a, Action::Unlink { .. }))
}

/// Takes those out. The folders that they were in.
pub fn spare_unlinks(trees: &Trees, actions: &mut Vec<Action>) -> Vec<FolderId> {
    let mut folders = Vec::new();
    actions.retain(|a| match a {
        Action::Unlink { row, .. } => {
            folders.extend(trees.rows.get(row).map(|r| r.folder));
            false
        }
        _ => true,
    });
    folders
}

/// Actions of a kind together, so that each folder is opened once and commands carry many UIDs.
#[derive(Default)]
struct Batches {
    create_there: Vec<FolderId>,
    create_here: Vec<FolderId>,
    joins: Vec<Action>,
    meets: Vec<(RowId, RowId, FileId)>,
    moves: Vec<(RowId, FileId)>,
    copies: Vec<(RowId, FileId)>,
    uploads: Vec<FileId>,
    links: Vec<(RowId, RowId)>,
    downloads: Vec<(RowId, Option<RowId>)>,
    pulls: Vec<(FolderId, Uid)>,
    flags: Vec<(RowId, Flags, bool)>,
    finished: Vec<(RowId, RowId)>,
    trashed: Vec<(RowId, FolderId, bool)>,
    expunged: Vec<(RowId, bool)>,
    unlinked: Vec<(RowId, Option<RowId>, bool)>,
    remove_here: Vec<FolderId>,
    remove_there: Vec<FolderId>,
}

/// Does all of it. What fails for a folder or a message is noted, and the rest is done.
pub async fn execute(p: &mut Pass<'_>, trees: &Trees, actions: &[Action]) -> Result<()> {
    let b = sort(actions);
    for id in b.create_here {
        let made = here::create_folder(p, id);
        p.each(made)?;
    }
    let mut closed = false;
    for id in b.create_there {
        let made = there::create_or_close(p, id).await;
        closed |= p.each(made)? == Some(false);
    }
    if closed {
        return Ok(()); // decided anew, without what would go there
    }
    let same_folder = |(row, file): &(RowId, FileId)| {
        trees.rows.get(row).map(|r| r.folder) == trees.files.get(file).map(|f| f.folder)
    };
    let (renamed, mut moves): (Vec<_>, Vec<_>) = b.moves.into_iter().partition(same_folder);
    let done = joins::rename(p, trees, &renamed);
    p.each(done)?;
    let done = joins::join(p, trees, &b.joins);
    p.each(done)?;
    let met = joins::meet(p, trees, &b.meets);
    moves.extend(p.each(met)?.unwrap_or_default());
    let done = refile_there::move_messages(p, trees, &moves).await;
    p.each(done)?;
    let done = refile_there::copy_messages(p, trees, &b.copies).await;
    p.each(done)?;
    let done = upload::upload(p, trees, &b.uploads).await;
    p.each(done)?;
    let left = here::link(p, trees, &b.links);
    let mut downloads = b.downloads;
    downloads.extend(p.each(left)?.unwrap_or_default().into_iter().map(|row| (row, None)));
    let done = pull::download(p, trees, &downloads, &b.pulls).await;
    p.each(done)?;
    let done = here::set_flags(p, trees, &b.flags);
    p.each(done)?;
    let done = there::store_flags(p, trees, &b.flags).await;
    p.each(done)?;
    let done = delete_there::finish_moves(p, trees, &b.finished).await;
    p.each(done)?;
    let done = delete_there::trash(p, trees, &b.trashed).await;
    p.each(done)?;
    let done = delete_there::expunge(p, trees, &b.expunged).await;
    p.each(done)?;
    let done = here::unlink_vanished(p, trees, &b.unlinked);
    p.each(done)?;
    for id in b.remove_here {
        let removed = here::remove_folder(p, id);
        p.each(removed)?;
    }
    for id in b.remove_there {
        let removed = there::remove_folder(p, id).await;
        p.each(removed)?;
    }
    Ok(())
}

fn sort(actions: &[Action]) -> Batches {
    let mut b = Batches::default();
    for action in actions {
        match action.clone() {
            Action::CreateHere(f) => b.create_here.push(f),
            Action::CreateThere(f) => b.create_there.push(f),
            Action::RemoveHere(f) => b.remove_here.push(f),
            Action::RemoveThere(f) => b.remove_there.push(f),
            Action::MeetAt { row, arrival, file } => b.meets.push((row, arrival, file)),
            Action::MoveThere { row, file } => b.moves.push((row, file)),
            Action::CopyThere { of, file } => b.copies.push((of, file)),
            Action::FinishMove { row, copy } => b.finished.push((row, copy)),
            Action::Download { arrival, instead_of } => b.downloads.push((arrival, instead_of)),
            Action::Link { arrival, from } => b.links.push((arrival, from)),
            Action::Pull { folder, from } => b.pulls.push((folder, from)),
            Action::Upload(file) => b.uploads.push(file),
            Action::SetFlags { row, merged, there } => b.flags.push((row, merged, there)),
            Action::Unlink { row, twin, approved } => b.unlinked.push((row, twin, approved)),
            Action::TrashThere { row, trash, approved } => b.trashed.push((row, trash, approved)),
            Action::ExpungeThere { row, approved } => b.expunged.push((row, approved)),
            join => b.joins.push(join),
        }
    }
    b
}

/// By folder, in the order of the folders' numbers.
fn by_folder<T>(items: impl IntoIterator<Item = (FolderId, T)>) -> BTreeMap<FolderId, Vec<T>> {
    let mut out: BTreeMap<FolderId, Vec<T>> = BTreeMap::new();
    for (folder, item) in items {
        out.entry(folder).or_default().push(item);
    }
    out
}

impl Pass<'_> {
    /// Notes an error of a message or a folder; what raced is looked at again in this pass.
    fn each<T>(&mut self, done: Result<T>) -> Result<Option<T>> {
        match done {
            Ok(t) => Ok(Some(t)),
            Err(e) if e.kind == Kind::Raced && e.scope < Scope::Account => {
                tracing::debug!("{}: {e}", self.account.name);
                self.look_again = true;
                Ok(None)
            }
            Err(e) => self.note(e).map(|()| None),
        }
    }

    fn lost_row(&self, id: RowId) -> Error {
        Error::message(Kind::Internal, format!("the ledger has no row {}", id.0))
    }

    /// The row as the ledger has it now.
    fn row(&self, id: RowId) -> Result<crate::model::Row> {
        self.ledger.with(|l| l.row(id))?.ok_or_else(|| self.lost_row(id))
    }
}
