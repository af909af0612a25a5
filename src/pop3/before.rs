//! What was here before a session: what a crash left half delivered, and, in a first session, the
//! messages of another server, another program or a lost ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::deliver::{Before, delivered, place_of};
use super::local;
use super::pass::Pass;
use super::recognise::{self, Known, Listed, Settled, Stray, Unread};
use super::traces;
use crate::error::{Error, Kind, Result};
use crate::ledger::{Action, JournalEntry, Ledger, Side, path_for};
use crate::maildir::{self, marker};
use crate::model::{
    BaseName, Flags, FolderId, FolderName, Identity, Place, Row, RowId, State, UidlId, UidlRow,
};

/// Goes on with what a crash left between `tmp` and its place: found in any folder, or still in
/// `tmp`; what is nowhere is forgotten, and so fetched again.
pub fn recover(p: &mut Pass<'_>, extras: &mut Vec<local::Extra>) -> Result<()> {
    if p.dry_run {
        return Ok(());
    }
    let staged = p.ledger.with(|l| l.uidls_staged())?;
    for uidl in staged {
        let Some(base) = uidl.base.clone() else { continue };
        let mut at = None;
        if let Some(i) = extras.iter().position(|(_, place)| place.file.base == base)
            && let Some((folder, place)) = extras.get(i).cloned()
            && let Some(path) = p.path(folder, &place)
            && let Some(identity) = is_whole(&path, &uidl)?
        {
            extras.swap_remove(i);
            at = Some((folder, place, identity));
        }
        if at.is_none()
            && let Some(spot) = p.folders.get(&uidl.folder)
        {
            let place = place_of(&base);
            let from = spot.dir.join("tmp").join(place.file.to_os_string());
            if let Some(identity) = is_whole(&from, &uidl)? {
                let dir = spot.dir.clone();
                p.guard.open(&p.ledger)?;
                maildir::deliver::publish_from(&from, &dir, &place)?;
                at = Some((uidl.folder, place, identity));
            }
        }
        let found = at.is_some();
        let dirs: Vec<PathBuf> = at
            .iter()
            .filter_map(|(folder, place, _)| {
                p.folders.get(folder).map(|s| s.dir.join(place.sub.as_str()))
            })
            .collect();
        // whoever renamed it was killed before its directory was synced
        maildir::sync_dirs(&dirs)?;
        if let Some((folder, place, identity)) = at {
            let name = p.folders.get(&folder).map(|s| s.rec.name.clone());
            if let Some(spot) = p.folders.get_mut(&folder)
                && place == place_of(&base)
                && spot.names.is_none_or(|_| false)
            {
                spot.add(&place);
            }
            let mut uidl = uidl.clone();
            uidl.folder = folder;
            let name = name.unwrap_or_else(FolderName::inbox);
            p.write(|tx| delivered(tx, &mut uidl, &name, &place, identity, "new on the server"))?;
            p.report.new += 1;
            p.report.new_in.insert(name);
        }
        if !found {
            p.write(|tx| tx.delete_uidl(uidl.id))?;
        }
    }
    // what was not staged is fetched again; another account may be at work in the same folder
    if is_alone(p)? && p.folders.values().any(|s| s.rec.name == p.pop3.folder && s.names.is_some())
    {
        p.maildir.clear_tmp(&p.pop3.folder)?;
    }
    Ok(())
}

/// What the file is, if it has the bytes that were staged.
fn is_whole(path: &Path, uidl: &UidlRow) -> Result<Option<Identity>> {
    let found = identity_of(path)?;
    Ok(found.filter(|found| found.content.is_some() && found.content == uidl.content))
}

/// What a message is recognised by; `None` if its file went away meanwhile.
fn identity_of(path: &Path) -> Result<Option<Identity>> {
    match maildir::identify(path) {
        Ok(found) => Ok(Some(Identity {
            content: Some(found.digest.content),
            reader: Some(found.digest.reader),
            fingerprint: found.digest.fingerprint,
            wire_size: found.digest.wire_size,
            internal_date: found.mtime,
            server_id: None,
        })),
        Err(e) if e.kind == Kind::Raced => Ok(None),
        Err(e) => Err(e),
    }
}

/// How often the Maildir is looked at again for files that a reader renamed before they were read.
const TRIES: usize = 4;

/// What was here before the first session: rows of an earlier server, and files without a row,
/// but for those that another account's ledger knows. Beside them, what could not be read.
pub fn strays(
    p: &mut Pass<'_>,
    mut extras: Vec<local::Extra>,
) -> Result<(Vec<Before>, Vec<Unread>)> {
    let mut out = Vec::new();
    let mut unread = Vec::new();
    for row in local::earlier(p)? {
        out.push(of_row(p, row, None));
    }
    let others = others(p)?;
    let mut read: BTreeSet<(FolderId, BaseName)> = BTreeSet::new();
    for tries in 0.. {
        let mut raced = 0;
        for (folder, place) in extras {
            let Some(spot) = p.folders.get(&folder) else { continue };
            let key = (folder, place.file.base.clone());
            if others.has(&key.1) || read.contains(&key) {
                continue;
            }
            let path = maildir::place_path(&spot.dir, &place);
            match identity_of(&path) {
                Ok(Some(identity)) => {
                    // it was put back: a restored Maildir has what was removed since
                    let removed =
                        |b: &Before| b.at.is_none() && b.identity.content == identity.content;
                    if let Some(i) = out.iter().position(removed) {
                        out.swap_remove(i);
                    }
                    let at = Some((folder, spot.dir.clone(), place));
                    out.push(Before { row: None, uidl: None, at, identity });
                }
                Ok(None) => {
                    raced += 1;
                    continue;
                }
                Err(e) => {
                    p.note(e);
                    unread.extend(seen(&path));
                }
            }
            read.insert(key);
        }
        if raced == 0 {
            break;
        }
        if tries == TRIES {
            unread.push(Unread::any());
            p.report.unfinished = true;
            p.note(
                Error::message(Kind::Raced, format!("{raced} files were renamed while being read"))
                    .next("another program changes the maildir; the next pass looks again"),
            );
            break;
        }
        extras = local::extras(p)?;
    }
    Ok((out, unread))
}

/// What a file shows that could not be read. What is no file is no mail.
fn seen(path: &Path) -> Option<Unread> {
    match std::fs::symlink_metadata(path) {
        Ok(m) if !m.is_file() => None,
        Ok(m) => Some(Unread::of(m.len())),
        Err(_) => Some(Unread::any()),
    }
}

/// Those that an earlier session did not take.
pub fn unclaimed(p: &Pass<'_>, strays: Vec<Before>) -> Result<Vec<Before>> {
    p.ledger.with(|l| {
        let mut out = Vec::new();
        for before in strays {
            let free = match (&before.row, &before.at) {
                (Some(row), _) => l.row(row.id)?.as_ref() == Some(row),
                (None, Some((folder, _, place))) => l.row_at(*folder, &place.file.base)?.is_none(),
                (None, None) => false,
            };
            if free {
                out.push(before);
            }
        }
        Ok(out)
    })
}

/// Whether nothing that was here before can be one of these, which could not be had: then they need
/// not be compared with it when they come, and the first session is over without them.
pub fn is_elsewhere(p: &Pass<'_>, strays: &[Before], not_had: &[&Listed]) -> Result<bool> {
    if not_had.is_empty() {
        return Ok(true);
    }
    let left = unclaimed(p, strays.to_vec())?;
    let sizes = left.iter().map(|before| Unread::of(before.identity.wire_size));
    Ok(!sizes.chain(p.unread.iter().cloned()).any(|u| not_had.iter().any(|l| u.may_be(l.size))))
}

/// Files that came from a server once, and that this one does not have: kept. Among several accounts
/// nobody can say whose they are.
pub fn keep(p: &mut Pass<'_>, strays: &[Before]) -> Result<()> {
    if !is_alone(p)? {
        return Ok(());
    }
    let mut rows = Vec::new();
    for before in unclaimed(p, strays.to_vec())? {
        let (None, Some((folder, _, place))) = (before.row, before.at) else { continue };
        if place.file.base.is_ours() {
            rows.push(kept(folder, place, before.identity));
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let names: BTreeMap<FolderId, FolderName> =
        p.folders.iter().map(|(id, s)| (*id, s.rec.name.clone())).collect();
    let now = p.now;
    p.write(|tx| {
        for row in &rows {
            tx.insert_row(row)?;
            let mut e = JournalEntry::new(now, Action::Keep, Side::Here, "it stays here only");
            if let Some(name) = names.get(&row.folder) {
                e = e.in_folder(row.folder, name);
            }
            e.message_id = row.identity.fingerprint.message_id.to_string();
            e.base = row.place.as_ref().map(|place| place.file.base.clone());
            tx.journal(&e)?;
        }
        Ok(())
    })?;
    p.report.kept += rows.len() as u64;
    Ok(())
}

fn kept(folder: FolderId, place: Place, identity: Identity) -> Row {
    Row {
        id: RowId(0),
        folder,
        state: State::Kept,
        uid: None,
        gone: None,
        agreed: Flags::default(),
        remote: Flags::default(),
        local: local::flags_of(&place),
        place: Some(place),
        identity,
        exact: true,
        copy_of: None,
        keeps: false,
    }
}

/// Whether no other account has this maildir too.
fn is_alone(p: &Pass<'_>) -> Result<bool> {
    let marker = marker::read(&p.account.maildir)?;
    Ok(marker.is_none_or(|m| m.lines.keys().all(|name| *name == p.account.name)))
}

/// Messages of this server whose UIDLs are not listed any more while all that are listed are new: a
/// server that a mailbox moved to may count its bytes otherwise, or have put lines into headers.
pub fn lost(p: &Pass<'_>, known: &Known, settled: &Settled) -> Result<Vec<Before>> {
    let matched = settled.known.values().chain(settled.renamed.values()).copied().collect();
    let ids: BTreeMap<RowId, UidlId> =
        recognise::lost(known, &matched).filter_map(|r| Some((r.row?, r.id))).collect();
    let rows: Vec<RowId> = ids.keys().copied().collect();
    let rows = p.ledger.with(|l| l.rows_by_ids(&rows))?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let uidl = ids.get(&row.id).copied();
            of_row(p, row, uidl)
        })
        .collect())
}

fn of_row(p: &Pass<'_>, row: Row, uidl: Option<UidlId>) -> Before {
    let at = row.place.as_ref().and_then(|place| {
        p.folders.get(&row.folder).map(|s| (row.folder, s.dir.clone(), place.clone()))
    });
    Before { identity: row.identity.clone(), row: Some(row), uidl, at }
}

/// A line end more or less at a message's end: POP3 has no text without one.
const LINE_END: u64 = 2;

impl Before {
    /// What the listing is compared with. Of a file of another program nobody knows how much of it
    /// was added; of ours, and of what a server told once, the size is known.
    pub fn stray(&self) -> Stray {
        let size = self.identity.wire_size;
        let ours = self.at.as_ref().is_none_or(|(.., place)| place.file.base.is_ours());
        let added = if self.row.is_some() || ours { LINE_END } else { traces::MOST };
        Stray {
            fingerprint: self.identity.fingerprint.clone(),
            sizes: size.saturating_sub(added).max(1)..=size + LINE_END,
        }
    }
}

/// Files of the other accounts of this Maildir.
struct Others {
    /// By name alone: a reader may have moved them since their account looked.
    theirs: BTreeSet<BaseName>,
    /// The ledger of one of them could not be read: any file with a name of ours may be its.
    unread: bool,
}

impl Others {
    fn has(&self, base: &BaseName) -> bool {
        self.unread && base.is_ours() || self.theirs.contains(base)
    }
}

fn others(p: &Pass<'_>) -> Result<Others> {
    let mut out = Others { theirs: BTreeSet::new(), unread: false };
    let names = marker::read(&p.account.maildir)?.unwrap_or_default().lines;
    let state = p.ledger.with(|l| Ok(l.path().parent().map(Path::to_owned)))?;
    for name in names.keys().filter(|n| **n != p.account.name) {
        let ledger = state.as_ref().map(|dir| Ledger::open_readonly(&path_for(dir, name)));
        let ledger = match ledger {
            Some(Ok(Some(ledger))) => ledger,
            // All were lost, as a rule: whoever has a message like it takes a file, and what is left
            // is for the others. Otherwise everybody would fetch everything again.
            Some(Ok(None)) => continue,
            Some(Err(_)) | None => {
                out.unread = true;
                continue;
            }
        };
        // what stands here already, and whose row comes in a moment
        out.theirs.extend(ledger.uidls_staged()?.into_iter().filter_map(|u| u.base));
        for id in ledger.folders()?.into_keys() {
            ledger.for_each_local(id, |_, place| {
                out.theirs.insert(place.file.base.clone());
                Ok(())
            })?;
        }
    }
    Ok(out)
}
