//! The Maildir: names only, compared with the rows by a digest first and one by one where that
//! differs. An absence is believed only after a second scan of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::super::pass::Pass;
use super::prescan::Looked;
use super::{files, take_over};
use crate::error::{Kind, Result, Scope};
use crate::ledger::View;
use crate::maildir::{self, DirSignature, KeywordMap, Names, NamesDigest, Scan};
use crate::model::{Flags, FolderId, Place, RowId, SystemFlags};
use crate::policy::LocalDelete;
use crate::reconcile::{Presence, Unread};

/// Even a folder whose signature is unchanged is read once in so many seconds.
const FULL_SCAN_EVERY: i64 = 24 * 3600;

/// The journal tells of flag changes for so many seconds; of everything else for good.
const FLAGS_ARE_TOLD_FOR: i64 = 90 * 24 * 3600;

/// How old a directory's last change must be, so that another one would show in its time stamps.
/// ext4 and XFS stamp with the kernel's tick, at most 10 ms.
const TICK: Duration = Duration::from_millis(20);

/// How often the second scan is tried while readers keep changing directories.
const TRIES: usize = 4;

/// Observes every folder of the Maildir.
pub async fn maildir(p: &mut Pass<'_>) -> Result<()> {
    p.local_complete = true;
    p.unread.clear();
    // where an earlier round left something open, an unchanged directory does not close it
    let open = open_folders(p)?;
    p.missing.clear();
    let on_disk = take_over::listing(p)?;
    for name in &on_disk {
        if p.folder_named(name).is_none() {
            let id = p.add_folder(name, |_| {})?;
            let selected = p.account.policy.selects(name, None, false);
            p.folder_mut(id)?.selected = selected;
        }
    }
    let ids: Vec<FolderId> = p.folders.keys().copied().collect();
    for id in &ids {
        let f = p.folder_mut(*id)?;
        let here = on_disk.contains(&f.rec.name);
        f.disk = match (here, f.rec.on_disk) {
            (true, _) => Presence::There,
            (false, true) => Presence::Vanished,
            (false, false) => Presence::Never,
        };
        if f.disk == Presence::Vanished && f.selected {
            // a symlink or a file in its place is no deletion
            let name = f.rec.name.clone();
            match p.maildir.is_gone(&name) {
                Ok(true) => {}
                Ok(false) => {
                    p.local_complete = false;
                    p.folder_mut(*id)?.disk = Presence::Never;
                }
                Err(e) => {
                    p.local_complete = false;
                    p.folder_mut(*id)?.disk = Presence::Never;
                    p.note(e.widen(Scope::Folder))?;
                }
            }
        }
        let f = p.folder_mut(*id)?;
        if here && !f.rec.on_disk && f.selected {
            f.rec.on_disk = true;
            p.write_folder(*id, |_| Ok(()))?;
        }
    }
    let mut lost: BTreeMap<FolderId, BTreeSet<RowId>> = BTreeMap::new();
    let mut extra: BTreeMap<FolderId, Vec<Place>> = BTreeMap::new();
    let mut shaky = false;
    for id in &ids {
        if !p.folder(*id)?.selected {
            continue;
        }
        p.progress.alive();
        match folder(p, *id, open.contains(id)) {
            Ok(found) => {
                // where there is no row, no row misses what was overlooked: it arrives once more
                shaky |= p.first_pass && found.shaky;
                if !found.missing.is_empty() {
                    lost.insert(*id, found.missing);
                }
                if !found.extra.is_empty() {
                    extra.insert(*id, found.extra);
                }
            }
            Err(e) => {
                p.local_complete = false;
                p.unread.push(Unread { folder: *id, file: None });
                p.folder_mut(*id)?.unsettled = true;
                p.note(e.widen(Scope::Folder))?;
            }
        }
    }
    if shaky || !lost.is_empty() {
        confirm(p, shaky, &mut lost, &mut extra).await?;
    }
    p.missing = lost.into_values().flatten().collect();
    files::identify(p, extra).await
}

/// What a folder's scan found beside what the rows know.
#[derive(Default)]
struct Found {
    missing: BTreeSet<RowId>,
    extra: Vec<Place>,
    /// The directory changed meanwhile: there may be more.
    shaky: bool,
}

fn folder(p: &mut Pass<'_>, id: FolderId, open: bool) -> Result<Found> {
    let f = p.folder(id)?;
    if f.disk == Presence::Never {
        return Ok(Found::default());
    }
    if f.disk == Presence::Vanished {
        // every row's file is missing, if the second scan agrees
        let mut found = Found::default();
        p.ledger.with(|l| {
            l.for_each_local(id, |row, _| {
                found.missing.insert(row);
                Ok(())
            })
        })?;
        return Ok(found);
    }
    let dir = f.dir.clone();
    if f.keywords != KeywordMap::default() && maildir::keywords::is_lost(&dir)? {
        sync_keywords(p, id)?; // whether or not a message changed
    }
    let f = p.folder(id)?;
    if f.names.is_none() && is_as_remembered(p, id)? {
        return Ok(Found::default());
    }
    if p.options.dry_run
        && let Some(sub) = maildir::lacks(&dir)
    {
        // the first sync makes it; a dry run makes nothing
        let name = &p.folder(id)?.rec.name;
        let what =
            format!("folder {name} has no {sub} here yet: a sync makes it, and looks inside");
        p.tell(what);
        p.local_complete = false;
        return Ok(Found::default());
    }
    let (scan, differs) = match p.scanned.as_mut().and_then(|s| s.take(id)) {
        Some(Looked { scan, differs }) => (scan, differs),
        None => (maildir::scan(&dir)?, None),
    };
    let f = p.folder_mut(id)?;
    let expected = f.names.or(f.remembered.1.map(NamesDigest));
    f.names = Some(scan.digest);
    f.trusted = scan.trusted.then_some(scan.signature);
    f.touched = false;
    if expected == Some(scan.digest) && !f.unsettled && !open {
        return Ok(Found::default());
    }
    sync_keywords(p, id)?;
    let shaky = !scan.stable;
    let found = match differs {
        Some(differs) => take(p, id, differs),
        None => compare(p, id, scan),
    };
    Ok(Found { shaky, ..found? })
}

/// Whether the directory's time stamps prove that nothing changed since the last scan.
fn is_as_remembered(p: &mut Pass<'_>, id: FolderId) -> Result<bool> {
    let f = p.folder(id)?;
    let Some((signature, digest)) =
        remembered(&f.remembered, f.rec.last_full_scan, &f.dir, p.started)?
    else {
        return Ok(false);
    };
    let f = p.folder_mut(id)?;
    f.names = Some(digest);
    f.trusted = Some(signature);
    Ok(true)
}

/// What the ledger remembers of a directory, if its time stamps prove that it still holds.
pub(super) fn remembered(
    remembered: &(Option<Vec<u8>>, Option<u128>),
    last_full_scan: i64,
    dir: &Path,
    now: i64,
) -> Result<Option<(DirSignature, NamesDigest)>> {
    let (Some(signature), Some(digest)) = remembered else { return Ok(None) };
    let Some(signature) = DirSignature::from_bytes(signature) else { return Ok(None) };
    if now - last_full_scan >= FULL_SCAN_EVERY {
        return Ok(None);
    }
    let same = maildir::signature(dir)? == Some(signature);
    Ok(same.then_some((signature, NamesDigest(*digest))))
}

/// Brings the folder's letters in step with the ledger. A reader may have added keywords; where the
/// file is lost or says otherwise, letters mean nothing in this pass, and the file is restored.
pub fn sync_keywords(p: &mut Pass<'_>, id: FolderId) -> Result<()> {
    let f = p.folder(id)?;
    let file = maildir::keywords::load(&f.dir)?;
    let ledger = &f.keywords;
    let extends = |file: &KeywordMap| {
        (0..26).all(|l| ledger.keyword_of(l).is_none_or(|k| file.keyword_of(l) == Some(k)))
    };
    let void = match &file {
        None => *ledger != KeywordMap::default(),
        Some(file) if extends(file) => {
            if file != ledger {
                let file = file.clone();
                let f = p.folder_mut(id)?;
                f.rec.keywords = file.to_text();
                f.keywords = file;
                p.write_folder(id, |_| Ok(()))?;
            }
            false
        }
        Some(_) => true,
    };
    if void {
        let f = p.folder_mut(id)?;
        f.letters_void = true;
        if !p.options.dry_run {
            let f = p.folder(id)?;
            tracing::warn!(
                "{}: the keywords of folder {} were lost or changed; they are restored from the \
                 ledger",
                p.account.name,
                f.rec.name
            );
            maildir::keywords::save(&f.dir, &f.keywords)?;
        }
    }
    Ok(())
}

/// How the names of a folder differ from its rows.
pub(super) struct Differs {
    /// Rows whose base name is not there.
    missing: BTreeSet<RowId>,
    /// Rows whose file has other letters, or stands in the other subdirectory.
    renamed: Vec<(RowId, Place)>,
    /// Files that no row has.
    pub(super) extra: Vec<Place>,
}

impl Differs {
    pub(super) fn of(ledger: &View, id: FolderId, names: Names) -> Result<Self> {
        let mut names = names.unmatched();
        let mut unseen: BTreeMap<Vec<u8>, RowId> = BTreeMap::new();
        ledger.for_each_name(id, |row, sub, base, suffix| {
            if !names.take(sub, base, suffix) {
                unseen.insert(base.to_vec(), row);
            }
        })?;
        let mut renamed = Vec::new();
        let mut extra = Vec::new();
        for place in names.rest() {
            // the same base name may stand there twice (rsync, Syncthing)
            match unseen.remove(place.file.base.as_bytes()) {
                Some(row) => renamed.push((row, place)),
                None => extra.push(place),
            }
        }
        Ok(Self { missing: unseen.into_values().collect(), renamed, extra })
    }
}

/// Holds the scan against the rows.
fn compare(p: &mut Pass<'_>, id: FolderId, scan: Scan) -> Result<Found> {
    let differs = p.ledger.with(|l| Differs::of(l, id, scan.names))?;
    take(p, id, differs)
}

/// What moved or changed its letters inside the folder is written into the rows.
fn take(p: &mut Pass<'_>, id: FolderId, differs: Differs) -> Result<Found> {
    let Differs { missing, renamed, extra } = differs;
    take_renamed(p, id, renamed)?;
    Ok(Found { missing, extra, shaky: false })
}

/// Notes what readers made of the names: new letters, or another subdirectory.
fn take_renamed(p: &mut Pass<'_>, id: FolderId, renamed: Vec<(RowId, Place)>) -> Result<()> {
    let labels = p.session.caps().labels;
    for part in renamed.chunks(500) {
        let ids: Vec<RowId> = part.iter().map(|(r, _)| *r).collect();
        let mut rows = p.ledger.with(|l| l.rows_by_ids(&ids))?;
        let f = p.folder(id)?;
        let may_delete = f.policy.local_delete == LocalDelete::Mirror && !labels;
        for row in &mut rows {
            let Some((_, place)) = part.iter().find(|(r, _)| *r == row.id) else { continue };
            row.local = read_flags(&f.keywords, f.letters_void, place, &row.agreed, may_delete);
            row.place = Some(place.clone());
        }
        p.write(|tx| rows.iter().try_for_each(|r| tx.update_row(r)))?;
    }
    Ok(())
}

/// The flags that a file name shows, with what it cannot say, or shall not say to the server, taken
/// from what was agreed on.
pub(super) fn read_flags(
    keywords: &KeywordMap,
    void: bool,
    place: &Place,
    agreed: &Flags,
    may_delete: bool,
) -> Flags {
    let (mut flags, _) = keywords.flags_of(&place.file.info());
    if void {
        flags.keywords.clone_from(&agreed.keywords);
    } else {
        let unsaid = agreed.keywords.iter().filter(|k| keywords.letter_of(k).is_none());
        flags.keywords.extend(unsaid.cloned());
    }
    if !may_delete {
        flags = flags.without(SystemFlags::DELETED);
        flags.system = flags.system.union(agreed.system.intersection(SystemFlags::DELETED));
    }
    flags
}

/// The second scan: of everything, begun after the first, with no directory changing around it.
/// Rows that it finds are not missing; while directories keep changing, nothing is believed.
/// `shaky`: the first one may have overlooked files without a row, which matter as much.
async fn confirm(
    p: &mut Pass<'_>,
    shaky: bool,
    lost: &mut BTreeMap<FolderId, BTreeSet<RowId>>,
    extra: &mut BTreeMap<FolderId, Vec<Place>>,
) -> Result<()> {
    let ids: Vec<FolderId> = p
        .folders
        .iter()
        .filter(|(_, f)| f.selected && f.disk == Presence::There)
        .map(|(id, _)| *id)
        .collect();
    let mut changing = BTreeSet::new();
    for _ in 0..TRIES {
        tokio::time::sleep(TICK).await;
        changing.clear();
        let mut steady = true;
        let mut read = Vec::new();
        for id in &ids {
            let scan = match maildir::scan(&p.folder(*id)?.dir) {
                Ok(scan) => scan,
                Err(e) => {
                    changing.insert(*id);
                    if e.kind != Kind::Raced {
                        p.note(e.widen(Scope::Folder))?;
                    }
                    continue;
                }
            };
            if scan.stable {
                read.push((*id, scan.signature));
            } else {
                changing.insert(*id);
            }
            let f = p.folder_mut(*id)?;
            let changed = f.names != Some(scan.digest);
            f.names = Some(scan.digest);
            f.trusted = scan.trusted.then_some(scan.signature);
            if changed {
                steady = false;
                sync_keywords(p, *id)?;
                let found = compare(p, *id, scan)?;
                lost.remove(id);
                extra.remove(id);
                if !found.missing.is_empty() {
                    lost.insert(*id, found.missing);
                }
                if !found.extra.is_empty() {
                    extra.insert(*id, found.extra);
                }
            }
        }
        changing.extend(changed_since(p, &read)?);
        // a file may have gone to a folder that was made since, and that nobody looked into
        steady &= changing.is_empty() && p.maildir.listing()?.folders == p.listed;
        if steady || lost.is_empty() && !shaky {
            return Ok(());
        }
    }
    tracing::info!(
        "{}: the maildir keeps changing; what is missing is looked at again later",
        p.account.name
    );
    for id in lost.keys().chain(&changing) {
        if let Some(f) = p.folders.get_mut(id) {
            f.unsettled = true;
        }
    }
    if shaky {
        p.unread.extend(changing.into_iter().map(|folder| Unread { folder, file: None }));
    }
    lost.clear();
    p.local_complete = false;
    Ok(())
}

/// The folders that are not any more as they were read. Each may have stood still meanwhile, and a
/// file may have gone from one that was still to be read to one that had been.
fn changed_since(p: &Pass<'_>, read: &[(FolderId, DirSignature)]) -> Result<BTreeSet<FolderId>> {
    let mut changed = BTreeSet::new();
    for (id, signature) in read {
        if !maildir::is_as_read(&p.folder(*id)?.dir, signature) {
            changed.insert(*id);
        }
    }
    Ok(changed)
}

/// Folders with files that no row has, or rows whose file is missing.
fn open_folders(p: &Pass<'_>) -> Result<BTreeSet<FolderId>> {
    let mut open: BTreeSet<FolderId> = p.files.values().map(|f| f.folder).collect();
    let missing: Vec<RowId> = p.missing.iter().copied().collect();
    open.extend(p.ledger.with(|l| l.rows_by_ids(&missing))?.iter().map(|r| r.folder));
    Ok(open)
}

/// How many messages the server has there that this pass was not to fetch.
fn unseen(p: &Pass<'_>, id: FolderId) -> Result<u64> {
    let f = p.folder(id)?;
    let Some(status) = f.status.as_ref().filter(|_| f.fresh.is_some()) else { return Ok(0) };
    let known = p.ledger.with(|l| l.count_on_server(id))?;
    Ok(u64::from(status.messages).saturating_sub(known))
}

/// Remembers how the directories stand, so that the next pass need not read what did not change.
/// A folder in which anything is open is read again.
pub fn finish(p: &mut Pass<'_>) -> Result<()> {
    let open = open_folders(p)?;
    let ids: Vec<FolderId> = p.folders.keys().copied().collect();
    let mut changed = Vec::new();
    for id in ids {
        let settled = !open.contains(&id) && !p.folder(id)?.unsettled && p.local_complete;
        let started = p.started;
        let unseen = unseen(p, id)?;
        let f = p.folder_mut(id)?;
        if !f.selected {
            continue;
        }
        f.rec.unseen = unseen;
        f.rec.digest = f.names.filter(|_| settled && !f.letters_void).map(|d| d.0);
        let signature = f.trusted.filter(|_| settled && !f.touched && !f.letters_void);
        let signature = signature.map(|s| s.to_bytes());
        if signature.is_some()
            && (signature != f.remembered.0 || started - f.rec.last_full_scan >= FULL_SCAN_EVERY)
        {
            f.rec.last_full_scan = started;
        }
        f.rec.signature = signature;
        f.rec.note = f.closed.clone().unwrap_or_default();
        changed.push(f.rec.clone());
    }
    // what is remembered here can be found out again: no generation is raised for it
    let now = p.now();
    let unmatched = files::unmatched(p);
    p.ledger.with(|l| {
        l.jot(|tx| {
            tx.remember_unmatched(&unmatched)?;
            changed.iter().try_for_each(|rec| tx.update_folder(rec))?;
            tx.prune_journal(now - FLAGS_ARE_TOLD_FOR)?;
            tx.note_sizes(now)
        })
    })
}
