//! Effects in the Maildir: renames and unlinks, each durable before the ledger follows; otherwise a
//! power cut would turn our change into one that looks like a reader's.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::joins::keeps_in;
use super::journal;
use crate::account::pass::Pass;
use crate::error::{Error, Kind, Result};
use crate::ledger::{Action as Done, Intent, IntentId, IntentKind, Side};
use crate::maildir::{self, KeywordMap, names, place_path};
use crate::model::{
    BaseName, FileName, Flags, FolderId, Info, Place, Row, RowId, State, Subdir, SystemFlags,
};
use crate::policy::LocalDelete;
use crate::reconcile::{LocalFile, Presence, Trees};

/// How many files are changed before their directories are synced and the ledger follows.
const BATCH: usize = 500;

/// Makes the folder here.
pub fn create_folder(p: &mut Pass<'_>, id: FolderId) -> Result<()> {
    let name = p.folder(id)?.rec.name.clone();
    p.guard.open(&p.ledger)?;
    p.maildir.create_folder(&name)?;
    let entry = journal::in_folder(p, Done::FolderCreate, Side::Here, id, "it is on the server");
    let f = p.folder_mut(id)?;
    let new = f.disk != Presence::There;
    f.disk = Presence::There;
    f.rec.on_disk = true;
    if new {
        // empty, and we made it
        f.names = Some(maildir::NamesDigest::default());
        f.touched = true;
    }
    p.write_folder(id, |tx| tx.journal(&entry))
}

/// Removes the empty folder here, whose messages are all gone; one that is nowhere is only forgotten.
pub fn remove_folder(p: &mut Pass<'_>, id: FolderId) -> Result<()> {
    let counts = p.ledger.with(|l| l.counts())?.get(&id).copied().unwrap_or_default();
    if counts.messages + counts.kept > 0 || p.files.values().any(|f| f.folder == id) {
        return Ok(());
    }
    let f = p.folder(id)?;
    if (f.server, f.disk) == (Presence::Never, Presence::Vanished) {
        if counts != crate::ledger::Counts::default() {
            return Ok(()); // what it says of messages may be of use elsewhere
        }
        p.write(|tx| tx.forget_folder(id))?;
        p.folders.remove(&id);
        return Ok(());
    }
    let name = f.rec.name.clone();
    match p.maildir.remove_folder(&name) {
        // it stays until a person removes what is in the way; nobody is waited for
        Err(e) if e.kind == Kind::Maildir => {
            p.report.notes.push(e.to_string());
            return Ok(());
        }
        removed => removed?,
    }
    let entry =
        journal::in_folder(p, Done::FolderRemove, Side::Here, id, "it is gone from the server");
    p.write(|tx| {
        tx.journal(&entry)?;
        tx.forget_folder(id)
    })?;
    p.folders.remove(&id);
    Ok(())
}

/// Renames a file, and keeps the folders' digests in step. Not durable before [`sync`].
pub fn rename(
    p: &mut Pass<'_>,
    from: FolderId,
    old: &Place,
    to: FolderId,
    new: &Place,
) -> Result<()> {
    p.guard.open(&p.ledger)?;
    maildir::rename(&p.folder(from)?.dir, old, &p.folder(to)?.dir, new)?;
    note_name(p, from, Some(old), None)?;
    note_name(p, to, None, Some(new))
}

/// What we did to a folder's names.
pub fn note_name(
    p: &mut Pass<'_>,
    id: FolderId,
    old: Option<&Place>,
    new: Option<&Place>,
) -> Result<()> {
    let f = p.folder_mut(id)?;
    f.touched = true;
    if let Some(names) = &mut f.names {
        if let Some(old) = old {
            names.remove(old);
        }
        if let Some(new) = new {
            names.add(new);
        }
    }
    Ok(())
}

/// Makes what was renamed in these folders durable, in this order.
pub fn sync(p: &Pass<'_>, folders: &[FolderId]) -> Result<()> {
    sync_subs(p, folders.iter().flat_map(|id| [(*id, Subdir::Cur), (*id, Subdir::New)]))
}

/// The same where it is known which directories changed: an fsync of one that did not costs as much
/// on some disks.
fn sync_subs(p: &Pass<'_>, subs: impl IntoIterator<Item = (FolderId, Subdir)>) -> Result<()> {
    let mut dirs: Vec<PathBuf> = Vec::new();
    for (id, sub) in subs {
        let f = p.folder(id)?;
        if f.disk == Presence::There {
            dirs.push(f.dir.join(sub.as_str()));
        }
    }
    maildir::sync_dirs(&dirs)
}

/// Finds letters for the keywords, and writes the folder's keyword file before any name uses them.
pub fn letters(p: &mut Pass<'_>, id: FolderId, flags: &Flags) -> Result<()> {
    let f = p.folder(id)?;
    if flags.keywords.iter().all(|k| f.keywords.letter_of(k).is_some()) {
        return Ok(());
    }
    // a reader may have added some since
    crate::account::sync_keywords(p, id)?;
    let f = p.folder(id)?;
    let mut map = f.keywords.clone();
    for k in &flags.keywords {
        map.assign(k);
    }
    if map == f.keywords {
        return Ok(()); // no letter left
    }
    p.guard.open(&p.ledger)?;
    maildir::keywords::save(&p.folder(id)?.dir, &map)?;
    let f = p.folder_mut(id)?;
    f.rec.keywords = map.to_text();
    f.keywords = map;
    p.write_folder(id, |_| Ok(()))
}

/// Where a file with these flags stands in a folder. `old`: where it stands now, if it does; letters
/// that we do not know stay.
pub fn place_for(
    keywords: &KeywordMap,
    base: &BaseName,
    flags: &Flags,
    old: Option<(&Place, bool)>,
) -> Place {
    let Some((old, same_folder)) = old else {
        let (info, _) = keywords.info_for(flags, &Info::default());
        return names::delivered(base.clone(), &info);
    };
    let mut before = old.file.info();
    if !same_folder {
        before.letters = 0; // they mean other keywords there
    }
    let (info, _) = keywords.info_for(flags, &before);
    if old.file.base == *base {
        names::with_info(old, &info)
    } else {
        Place { sub: old.sub, file: FileName::new(base.clone(), &info) }
    }
}

/// Names in folders that no row in the ledger has yet, but a file, or a row that is not committed.
pub type Taken = BTreeSet<(FolderId, BaseName)>;

/// The place, under a fresh base name if another row or file has that in the folder: copies made by
/// `cp` share theirs, and may differ in the rest of the name, or stand in `cur` and in `new`.
pub fn free_place(
    p: &mut Pass<'_>,
    taken: &mut Taken,
    folder: FolderId,
    place: &Place,
    row: RowId,
) -> Result<Place> {
    let mut base = place.file.base.clone();
    let other = p.ledger.with(|l| l.row_at(folder, &base))?.is_some_and(|r| r.id != row);
    if other || taken.contains(&(folder, base.clone())) {
        let now = p.now();
        base = p.namer.next(now);
    }
    taken.insert((folder, base.clone()));
    Ok(Place { sub: place.sub, file: FileName::from_parts(base, place.file.suffix()) })
}

/// Moves a row's file into another folder, keeping its name where that is free.
pub fn refile(
    p: &mut Pass<'_>,
    from: FolderId,
    old: &Place,
    to: FolderId,
    flags: &Flags,
    (row, taken): (RowId, &mut Taken),
) -> Result<Place> {
    if p.folder(to)?.disk != Presence::There {
        create_folder(p, to)?;
    }
    letters(p, to, flags)?;
    let f = p.folder(to)?;
    let keep_t = keeps_t(p, to, old, flags)?;
    let place = place_for(&f.keywords, &old.file.base, &keep_t, Some((old, false)));
    let mut place = free_place(p, taken, to, &place, row)?;
    match rename(p, from, old, to, &place) {
        Err(e) if e.kind == Kind::Exists => {
            let now = p.now();
            place.file = FileName::from_parts(p.namer.next(now), place.file.suffix());
            rename(p, from, old, to, &place)?;
        }
        other => other?,
    }
    Ok(place)
}

/// The flags with a reader's own T, where that letter is not for the server to know.
fn keeps_t(p: &Pass<'_>, id: FolderId, old: &Place, flags: &Flags) -> Result<Flags> {
    let f = p.folder(id)?;
    let pushed = f.policy.local_delete == LocalDelete::Mirror && !p.session.caps().labels;
    let mut flags = flags.clone();
    if !pushed {
        let t = old.file.info().system.intersection(SystemFlags::DELETED);
        flags.system = flags.system.union(t);
    }
    Ok(flags)
}

/// Gives files the letters of their merged flags.
pub fn set_flags(p: &mut Pass<'_>, trees: &Trees, all: &[(RowId, Flags, bool)]) -> Result<()> {
    for part in all.chunks(BATCH) {
        let mut done: Vec<Flagged> = Vec::new();
        let mut changed: BTreeSet<(FolderId, Subdir)> = BTreeSet::new();
        for (id, merged, there) in part {
            let Some(row) = trees.rows.get(id) else { continue };
            let one = set_one(p, row, merged, *there);
            if one.as_ref().is_err_and(|e| e.kind == Kind::Raced) {
                // the names may be those of the last scan, and the row is wrong
                p.folder_mut(row.folder)?.unsettled = true;
            }
            if let Some(Some(one)) = p.each(one)? {
                let subs = one.renamed.into_iter().flatten();
                changed.extend(subs.map(|sub| (one.after.folder, sub)));
                done.push(one);
            }
        }
        sync_subs(p, changed)?;
        let entries: Vec<_> = done
            .iter()
            .map(|Flagged { after: r, .. }| {
                let why = format!("flags here: {}", r.local);
                journal::of_row(p, Done::Flags, Side::Here, r, &why)
            })
            .collect();
        p.report.flags += done.len() as u64;
        if done.is_empty() {
            continue;
        }
        p.write(|tx| {
            for one in &done {
                tx.update_row_from(&one.before, &one.after)?;
            }
            entries.iter().try_for_each(|e| tx.journal(e))
        })?;
    }
    Ok(())
}

/// A row before and after, and where its file was renamed, if it was.
struct Flagged {
    before: Row,
    after: Row,
    renamed: Option<[Subdir; 2]>,
}

fn set_one(p: &mut Pass<'_>, row: &Row, merged: &Flags, there: bool) -> Result<Option<Flagged>> {
    let before = match p.ledger.with(|l| l.row(row.id))? {
        Some(r) if r.state == State::Synced => r,
        _ => return Ok(None),
    };
    let mut row = before.clone();
    if row.local == *merged {
        if there || row.agreed == row.remote {
            return Ok(None);
        }
        // what the server had to say is done; what it may not be told stays a difference
        row.agreed = row.remote.clone();
        return Ok(Some(Flagged { before, after: row, renamed: None }));
    }
    let Some(old) = row.place.clone() else { return Ok(None) };
    letters(p, row.folder, merged)?;
    let mut flags = keeps_t(p, row.folder, &old, merged)?;
    if row.agreed.has(SystemFlags::DELETED) && !merged.has(SystemFlags::DELETED) {
        flags = flags.without(SystemFlags::DELETED);
    }
    let place =
        place_for(&p.folder(row.folder)?.keywords, &old.file.base, &flags, Some((&old, true)));
    let renamed = (place != old).then_some([old.sub, place.sub]);
    if renamed.is_some() {
        rename(p, row.folder, &old, row.folder, &place)?;
    }
    row.local = merged.clone();
    if row.remote == *merged || !there {
        row.agreed = row.remote.clone();
    }
    row.place = Some(place);
    Ok(Some(Flagged { before, after: row, renamed }))
}

/// Removes files whose message went from the server, or of which one equal copy stays. What was
/// changed in place here is kept instead.
pub fn unlink_vanished(
    p: &mut Pass<'_>,
    trees: &Trees,
    all: &[(RowId, Option<RowId>, bool)],
) -> Result<()> {
    for part in all.chunks(BATCH) {
        let mut gone = Vec::new();
        let mut kept = Vec::new();
        let mut folders = BTreeSet::new();
        let open = intents(p, part.iter().map(|(id, twin, _)| (*id, *twin)))?;
        for (id, twin, approved) in part {
            let one = unlink_one(p, trees, *id, *twin);
            match p.each(one)? {
                Some(true) => {
                    let row = p.row(*id)?;
                    folders.insert(row.folder);
                    gone.push((row, twin.is_some(), *approved));
                }
                Some(false) => kept.push(p.row(*id)?),
                None => {}
            }
        }
        sync(p, &folders.into_iter().collect::<Vec<_>>())?;
        let mut entries = Vec::new();
        for (row, twin, approved) in &gone {
            let why = if *twin {
                "one of several copies went from the server; the others stay"
            } else {
                "it went from the server (remote_delete = \"mirror\")"
            };
            let mut e = journal::of_row(p, Done::UnlinkHere, Side::Here, row, why);
            e.counted = !twin && !approved;
            entries.push(e);
        }
        for row in &mut kept {
            row.state = State::Kept;
            row.uid = None;
            row.gone = None;
            let why = "it went from the server, but was changed here";
            entries.push(journal::of_row(p, Done::Keep, Side::Here, row, why));
        }
        p.report.deleted += gone.len() as u64;
        p.report.kept += kept.len() as u64;
        p.write(|tx| {
            for (row, ..) in &gone {
                tx.delete_row(row.id)?;
            }
            kept.iter().try_for_each(|r| tx.update_row(r))?;
            open.iter().try_for_each(|i| tx.delete_intent(*i))?;
            entries.iter().try_for_each(|e| tx.journal(e))
        })?;
    }
    Ok(())
}

/// Says whose files are about to be removed. A message in the trash that stands for one of them
/// has its keep from then on.
fn intents(
    p: &mut Pass<'_>,
    rows: impl Iterator<Item = (RowId, Option<RowId>)>,
) -> Result<Vec<IntentId>> {
    let mut made = Vec::new();
    let mut keeping = Vec::new();
    for (id, twin) in rows {
        let Some(row) = p.ledger.with(|l| l.row(id))? else { continue };
        if let Some(twin) = twin.map(|t| p.row(t)).transpose()?
            && !twin.keeps
            && keeps_in(p, &row, twin.folder)
        {
            keeping.push(Row { keeps: true, ..twin });
        }
        made.push(Intent {
            id: IntentId(0),
            kind: IntentKind::Unlink,
            row: Some(id),
            from: None,
            uid: None,
            target: row.folder,
            source_folder: Some(row.folder),
            place: row.place,
            identity: row.identity,
            uidvalidity: None,
            uidnext_before: None,
            created: p.now(),
        });
    }
    p.write(|tx| {
        keeping.iter().try_for_each(|r| tx.update_row(r))?;
        made.iter().map(|i| tx.add_intent(i)).collect()
    })
}

/// Whether the file went; `false`: it holds other bytes than the server had, and stays.
fn unlink_one(p: &mut Pass<'_>, trees: &Trees, id: RowId, twin: Option<RowId>) -> Result<bool> {
    let row = p.row(id)?;
    let Some(place) = row.place.clone() else { return Ok(false) };
    let path = place_path(&p.folder(row.folder)?.dir, &place);
    let now = maildir::identify(&path)?;
    // what a reader wrote anew on saving is the same message, what somebody edited is not
    let same = Some(now.digest.content) == row.identity.content
        || Some(now.digest.reader) == row.identity.reader;
    if !same || twin.is_some() && Some(now.digest.content) != row.identity.content {
        return Ok(false);
    }
    if let Some(twin) = twin {
        // the other copy must prove itself now
        let other = p.row(twin)?;
        let Some(at) = other.place.as_ref().filter(|_| trees.rows.contains_key(&twin)) else {
            return Ok(false);
        };
        let read = maildir::identify(&place_path(&p.folder(other.folder)?.dir, at))?;
        if Some(read.digest.content) != row.identity.content || !other.on_server() {
            return Ok(false);
        }
    }
    p.guard.open(&p.ledger)?;
    maildir::unlink(&p.folder(row.folder)?.dir, &place)?;
    note_name(p, row.folder, Some(&place), None)?;
    Ok(true)
}

/// Two files of one base name with equal bytes: flags united on the first, the second goes. Where
/// the first stands then.
pub fn unite(
    p: &mut Pass<'_>,
    folder: FolderId,
    row: Option<Row>,
    place: &Place,
    extra: &LocalFile,
) -> Result<Place> {
    let info = |p: &Place| p.file.info();
    let (a, b) = (info(place), info(&extra.place));
    let both = Info {
        system: a.system.union(b.system),
        letters: a.letters | b.letters,
        other: if a.other.is_empty() { b.other } else { a.other.clone() },
    };
    let dir = p.folder(folder)?.dir.clone();
    let content = |at: &Place| Ok(maildir::identify(&place_path(&dir, at))?.digest.content);
    if content(place)? != content(&extra.place)? {
        let what = format!("{} was written into", place_path(&dir, &extra.place).display());
        return Err(Error::message(Kind::Raced, what).next("it is looked at again"));
    }
    p.guard.open(&p.ledger)?;
    maildir::unlink(&dir, &extra.place)?;
    note_name(p, folder, Some(&extra.place), None)?;
    let united = names::with_info(place, &both);
    if united != *place {
        rename(p, folder, place, folder, &united)?;
    }
    sync(p, &[folder])?;
    let mut e = journal::of_file(
        p,
        Done::UnlinkHere,
        Side::Here,
        folder,
        &extra.place,
        &extra.identity.fingerprint.message_id,
        "the same file stood there twice",
    );
    e.counted = false;
    let seen = row.map(|mut row| {
        row.local = row.local.union(&extra.flags);
        row.place = Some(united.clone());
        row
    });
    p.write(|tx| {
        if let Some(row) = &seen {
            tx.update_row(row)?;
        }
        tx.journal(&e)
    })?;
    Ok(united)
}

/// Gives arrivals the bytes that are here already. Those for which that fails are fetched.
pub fn link(p: &mut Pass<'_>, trees: &Trees, all: &[(RowId, RowId)]) -> Result<Vec<RowId>> {
    let mut left = Vec::new();
    for (arrival, from) in all {
        let linked = link_one(p, trees, *arrival, *from);
        match linked {
            Ok(true) => {}
            Ok(false) => left.push(*arrival),
            Err(e) if e.kind == Kind::DiskFull => return Err(e),
            Err(e) => {
                tracing::debug!("{}: fetched instead of linked: {e}", p.account.name);
                left.push(*arrival);
            }
        }
    }
    Ok(left)
}

fn link_one(p: &mut Pass<'_>, trees: &Trees, arrival: RowId, from: RowId) -> Result<bool> {
    let (Some(new), Some(known)) = (trees.rows.get(&arrival), trees.rows.get(&from)) else {
        return Ok(false);
    };
    let Some(at) = &known.place else { return Ok(false) };
    let source = place_path(&p.folder(known.folder)?.dir, at);
    let read = maildir::identify(&source)?;
    if Some(read.digest.content) != known.identity.content {
        return Ok(false);
    }
    if p.folder(new.folder)?.disk != Presence::There {
        create_folder(p, new.folder)?;
    }
    letters(p, new.folder, &new.remote)?;
    let now = p.now();
    let base = p.namer.next(now);
    let f = p.folder(new.folder)?;
    let place = place_for(&f.keywords, &base, &new.remote, None);
    p.guard.open(&p.ledger)?;
    let dir = p.folder(new.folder)?.dir.clone();
    maildir::link_or_copy(&source, &read.stat, &dir, &place, new.identity.internal_date)?;
    note_name(p, new.folder, None, Some(&place))?;
    sync(p, &[new.folder])?;
    let mut row = new.clone();
    row.state = State::Synced;
    row.place = Some(place);
    row.agreed = new.remote.clone();
    row.local = new.remote.clone();
    row.identity.content = known.identity.content;
    row.identity.reader = known.identity.reader;
    row.identity.fingerprint = known.identity.fingerprint.clone();
    let e = journal::of_row(p, Done::Download, Side::Here, &row, "its bytes were here already");
    let name = p.folder(new.folder)?.rec.name.clone();
    p.report.new += 1;
    p.report.new_in.insert(name);
    p.write(|tx| {
        tx.update_row(&row)?;
        tx.answer(&row)?;
        tx.journal(&e)
    })?;
    Ok(true)
}
