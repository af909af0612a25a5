//! The folders of the Maildir, after what other programs made was given our names: else a folder
//! called as mbsync or OfflineIMAP spell it would look like a new one, beside which the server's is
//! empty, and its messages like moved there.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::super::pass::Pass;
use crate::error::{Result, Scope};
use crate::imap::names;
use crate::maildir::{Layout, Listing};
use crate::model::{FolderId, FolderName};
use crate::reconcile::Presence;

/// Directories, relative to the root, that are not the folders that they are called as, and the
/// folder that is looked at there instead, if any.
type StandIns = Vec<(Option<FolderName>, PathBuf)>;

/// The folders on disk. In a dry run nothing is renamed, but looked at where it is. What stands for
/// a folder that is left alone is left alone.
pub(super) fn listing(p: &mut Pass<'_>) -> Result<BTreeSet<FolderName>> {
    // folders above others first: what is below one is renamed together with it
    let mut ids: Vec<(FolderName, FolderId)> =
        p.folders.iter().map(|(id, f)| (f.rec.name.clone(), *id)).collect();
    ids.sort_unstable();
    let mut stand_ins = StandIns::new();
    // whatever gets its own name may free the one that it had
    let mut again = true;
    while std::mem::take(&mut again) {
        for (_, id) in &ids {
            match foreign(p, *id, &stand_ins) {
                Ok(None) => {}
                Ok(Some(dir)) => again |= take_over(p, *id, dir, &mut stand_ins)?,
                Err(e) => {
                    p.local_complete = false;
                    p.note(e.widen(Scope::Folder))?;
                }
            }
        }
    }
    let mut listing = p.maildir.listing()?;
    while spelled(p, &listing, &mut stand_ins)? {
        listing = p.maildir.listing()?;
    }
    p.listed.clone_from(&listing.folders);
    for (name, dir) in stand_ins {
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
/// here. That is asked when the Maildir is taken over, and of what was left alone then: later, a
/// name that could be another program's is somebody's choice.
fn foreign(p: &Pass<'_>, id: FolderId, stand_ins: &StandIns) -> Result<Option<PathBuf>> {
    let f = p.folder(id)?;
    let adopting = p.first_pass || f.unseen;
    if f.server != Presence::There || f.rec.on_disk || !adopting {
        return Ok(None);
    }
    let name = &f.rec.name;
    if stand_ins.iter().any(|(n, _)| n.as_ref() == Some(name)) {
        return Ok(None);
    }
    let free = match f.selected {
        true => is_free(p, name, stand_ins)?,
        false => !p.maildir.is_folder(&p.maildir.layout().relative_dir(name))?,
    };
    if !free {
        return Ok(None);
    }
    for dir in theirs(p, id)? {
        let taken = stand_ins.iter().any(|(_, d)| *d == dir);
        if !taken && p.maildir.is_folder(&dir)? && !is_anothers(p, &dir, f.selected)? {
            return Ok(Some(dir));
        }
    }
    Ok(None)
}

/// Whether the folder has no directory of its own yet, or will have none, once what stands there has
/// its own name.
fn is_free(p: &Pass<'_>, name: &FolderName, stand_ins: &StandIns) -> Result<bool> {
    let ours = p.maildir.layout().relative_dir(name);
    let leaves = |(n, d): &(Option<FolderName>, PathBuf)| n.is_some() && *d == ours;
    Ok(p.maildir.is_free(name)? || stand_ins.iter().any(leaves))
}

/// Whether the directory is that of a folder of its name, which the server has, too. It is not, in a
/// first pass, where that folder stands in one that only another program would give it.
fn is_anothers(p: &Pass<'_>, dir: &Path, selected: bool) -> Result<bool> {
    let layout = p.maildir.layout();
    let known = |dir: &Path| layout.name_of(dir).and_then(|n| p.folder_named(&n));
    let Some(id) = known(dir) else { return Ok(false) };
    let f = p.folder(id)?;
    let adopted = f.server == Presence::There && !f.rec.on_disk && p.first_pass;
    if adopted && selected && f.selected {
        for other in theirs(p, id)? {
            if known(&other).is_none() && p.maildir.is_folder(&other)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The directories that other programs would give the folder.
fn theirs(p: &Pass<'_>, id: FolderId) -> Result<Vec<PathBuf>> {
    let f = p.folder(id)?;
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
    Ok(layout.foreign_dirs(name, &spellings, &above.collect::<Vec<_>>()))
}

/// Renames it; in a dry run, or where that fails, says what stands for the folder. Whether the
/// directory is not where it was any more, or would not be.
fn take_over(p: &mut Pass<'_>, id: FolderId, dir: PathBuf, out: &mut StandIns) -> Result<bool> {
    let f = p.folder(id)?;
    let name = f.rec.name.clone();
    if !f.selected {
        tell_of_stand_in(p, &dir, &name);
        out.push((None, dir));
        return Ok(false);
    }
    let what = format!("{} is the server's folder {name}", p.maildir.root().join(&dir).display());
    if p.options.dry_run {
        p.folder_mut(id)?.dir = p.maildir.root().join(&dir);
    }
    Ok(rename(p, &name, dir, &what, out)? || p.options.dry_run)
}

/// Gives a directory the folder's name. Whether that was done.
fn rename(
    p: &mut Pass<'_>,
    name: &FolderName,
    dir: PathBuf,
    what: &str,
    out: &mut StandIns,
) -> Result<bool> {
    let to = p.maildir.dir(name);
    if p.options.dry_run {
        p.tell(format!("{what}: it would be renamed to {}", to.display()));
        out.push((Some(name.clone()), dir));
        return Ok(false);
    }
    p.write(|_| Ok(()))?; // the generation, before the first change
    match p.maildir.take_over(&dir, name) {
        Ok(true) => {
            p.tell(format!("{what}: renamed to {}", to.display()));
            Ok(true)
        }
        Ok(false) => Ok(false),
        Err(e) => {
            // under that name it is no folder's
            out.push((None, dir));
            p.local_complete = false;
            p.note(e.widen(Scope::Folder)).map(|()| false)
        }
    }
}

/// What stands for a folder that is excluded looks like one of its own, if a dot joins its parts.
fn tell_of_stand_in(p: &mut Pass<'_>, dir: &Path, name: &FolderName) {
    let looks_like = p.maildir.layout().name_of(dir).filter(|n| proper(p, n).is_none());
    if looks_like.is_some_and(|n| p.account.policy.selects(&n, None, false)) {
        let dir = p.maildir.root().join(dir);
        p.tell(format!(
            "{} is left alone, since it may be the server's folder {name}, which is excluded \
             (rename it if it is a folder of its own)",
            dir.display()
        ));
    }
}

/// Folders as other programs spell them, on the wire or without our escapes, that the server has not,
/// or not any more: taken over with the Maildir, they get the name that the server would be given;
/// later they are left alone. What the ledger or the server calls so is called so. Whether any was
/// renamed.
fn spelled(p: &mut Pass<'_>, listing: &Listing, out: &mut StandIns) -> Result<bool> {
    let layout = p.maildir.layout();
    let mut all = Vec::new();
    for name in &listing.folders {
        all.extend(proper(p, name).map(|n| (layout.relative_dir(name), n)));
    }
    for dir in listing.left_alone.keys().filter(|d| p.first_pass && !is_hidden(layout, d)) {
        if let (Some(n), true) = (layout.literally(dir), p.maildir.is_folder(dir)?) {
            all.push((dir.clone(), proper(p, &n).unwrap_or(n)));
        }
    }
    for (dir, name) in all {
        if out.iter().any(|(_, d)| *d == dir) {
            continue;
        }
        let known = p.folder_named(&name);
        let selected = match known.and_then(|id| p.folders.get(&id)) {
            Some(f) => f.selected,
            None => p.account.policy.selects(&name, None, false),
        };
        let from = p.maildir.root().join(&dir);
        let free = p.maildir.is_folder(&dir)? && is_free(p, &name, out)?;
        let what = format!("{} is the folder {name} as other programs spell it", from.display());
        if !selected {
            out.push((None, dir));
        } else if free && p.first_pass {
            if p.options.dry_run && known.is_none() {
                p.add_folder(&name, |_| {})?;
            }
            if let (true, Some(id)) = (p.options.dry_run, p.folder_named(&name)) {
                p.folder_mut(id)?.dir = from;
            }
            if rename(p, &name, dir, &what, out)? {
                return Ok(true); // what is below it stands elsewhere now
            }
        } else {
            let ours = p.maildir.dir(&name);
            let next = match free {
                true => format!("rename it to {}", ours.display()),
                false => format!("move its messages into {}", ours.display()),
            };
            p.tell(format!("{} is left alone, since it is the folder {name} as other programs spell it ({next})", from.display()));
            out.push((None, dir));
        }
    }
    Ok(false)
}

/// Whether other programs may mean something else by the directory's name: a dot hides it, or stands
/// before each that is below another.
fn is_hidden(layout: Layout, dir: &Path) -> bool {
    let dotted = |c: Component<'_>| c.as_os_str().as_encoded_bytes().starts_with(b".");
    layout == Layout::Nested && dir.components().any(dotted)
}

/// The name that a folder has if it is spelled as on the wire; `None` if it is called as it stands
/// there. What is below a known folder is spelled for itself.
fn proper(p: &Pass<'_>, name: &FolderName) -> Option<FolderName> {
    let parts: Vec<&str> = name.components().collect();
    let known = (1..=parts.len()).rev().find(|n| {
        let above = FolderName::from_components(parts.iter().take(*n).copied());
        above.is_some_and(|a| p.folder_named(&a).is_some())
    });
    let known = known.unwrap_or(0);
    let proper = parts.iter().enumerate().map(|(i, c)| match names::meant(c) {
        Some(text) if i >= known => text,
        _ => (*c).to_owned(),
    });
    FolderName::from_components(proper).filter(|n| n != name)
}
