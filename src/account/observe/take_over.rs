//! The folders of the Maildir, after what other programs made was given our names: else a folder
//! called as mbsync or OfflineIMAP spell it would look like a new one, beside which the server's is
//! empty, and its messages like moved there.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::pass::Pass;
use crate::error::{Result, Scope};
use crate::imap::names;
use crate::model::{FolderId, FolderName};
use crate::reconcile::Presence;

/// The folders on disk. In a dry run nothing is renamed, but looked at where it is. What stands for
/// a folder that is left alone is left alone.
pub(super) fn listing(p: &mut Pass<'_>) -> Result<BTreeSet<FolderName>> {
    // folders above others first: what is below one is renamed together with it
    let mut ids: Vec<(FolderName, FolderId)> =
        p.folders.iter().map(|(id, f)| (f.rec.name.clone(), *id)).collect();
    ids.sort_unstable();
    let mut stand_in = Vec::new();
    for (name, id) in ids {
        let selected = p.folder(id)?.selected;
        match foreign(p, id).and_then(|dir| match dir {
            Some(dir) => take_over(p, id, dir),
            None => Ok(None),
        }) {
            Ok(None) => {}
            Ok(Some(dir)) => stand_in.push((Some(name).filter(|_| selected), dir)),
            Err(e) => {
                p.local_complete = false;
                p.note(e.widen(Scope::Folder))?;
            }
        }
    }
    let mut listing = p.maildir.listing()?;
    p.listed.clone_from(&listing.folders);
    for (name, dir) in stand_in {
        listing.left_alone.remove(&dir);
        let theirs = p.maildir.layout().name_of(&dir);
        listing.folders.retain(|n| Some(n) != theirs.as_ref());
        listing.folders.extend(name);
    }
    for what in listing.left_alone.into_values() {
        p.tell(what);
    }
    Ok(listing.folders.into_iter().collect())
}

/// The directory that another program made for a folder that the server has, and that was never
/// here.
fn foreign(p: &Pass<'_>, id: FolderId) -> Result<Option<PathBuf>> {
    let f = p.folder(id)?;
    if f.server != Presence::There || f.rec.on_disk {
        return Ok(None);
    }
    let name = &f.rec.name;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let encoded = name.components().map(|c| text(&names::encode(c))).collect();
    let wire = f.rec.wire.as_deref().unwrap_or_default();
    let separator = f.rec.separator.and_then(|c| u8::try_from(c).ok());
    let parts: Vec<&[u8]> = wire.split(|b| Some(*b) == separator).collect();
    let spellings = [
        encoded,
        parts.iter().map(|c| text(c)).collect(),
        parts.iter().map(|c| names::decode(c)).collect(),
    ];
    let layout = p.maildir.layout();
    let root = p.maildir.root();
    let parts: Vec<&str> = name.components().collect();
    let above = (1..parts.len()).filter_map(|n| {
        let name = FolderName::from_components(parts.iter().take(n).copied())?;
        let known = p.folder_named(&name).and_then(|id| p.folders.get(&id));
        let dir = known.and_then(|f| f.dir.strip_prefix(root).ok().map(PathBuf::from));
        Some(dir.unwrap_or_else(|| layout.relative_dir(&name)))
    });
    let above: Vec<PathBuf> = above.collect();
    for dir in layout.foreign_dirs(name, &spellings, &above) {
        // the server may have a folder of that name, too
        let known = layout.name_of(&dir).is_some_and(|n| p.folder_named(&n).is_some());
        let found = match f.selected {
            _ if known => false,
            true => p.maildir.is_foreign(&dir, name)?,
            false => p.maildir.stands_for(&dir, name)?,
        };
        if found {
            return Ok(Some(dir));
        }
    }
    Ok(None)
}

/// Renames it; in a dry run, says where it is.
fn take_over(p: &mut Pass<'_>, id: FolderId, dir: PathBuf) -> Result<Option<PathBuf>> {
    let f = p.folder(id)?;
    if !f.selected {
        return Ok(Some(dir));
    }
    let (name, from, to) = (f.rec.name.clone(), p.maildir.root().join(&dir), f.dir.clone());
    let what = format!("{} is the server's folder {name}", from.display());
    if p.options.dry_run {
        p.tell(format!("{what}: it would be renamed to {}", to.display()));
        p.folder_mut(id)?.dir = from;
        return Ok(Some(dir));
    }
    p.write(|_| Ok(()))?; // the generation, before the first change
    if p.maildir.take_over(&dir, &name)? {
        p.tell(format!("{what}: renamed to {}", to.display()));
    }
    Ok(None)
}
