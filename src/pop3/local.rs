//! The Maildir as a POP3 pass sees it: where the files of its messages are now. They may be moved
//! to any folder and renamed; what is nowhere any more was deleted here. Files that are not the
//! account's are another account's or another program's, and are left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use super::pass::{Pass, Spot};
use crate::error::{Error, Kind, Result, Scope};
use crate::ledger::{Action, FolderRecord, JournalEntry, Side};
use crate::maildir::{self, FileIdentity, Maildir, NamesDigest, Scan};
use crate::model::{Flags, FolderId, FolderName, Gone, Place, Row, RowId, State};

/// How old a directory's last change must be, so that another one would show in its time stamps.
const TICK: Duration = Duration::from_millis(20);
/// How often the second scan is tried while readers keep changing directories.
const TRIES: usize = 4;

/// Every folder's names, read beside the login: the disk need not wait for the network.
pub struct Scanning(Option<JoinHandle<Result<Scans>>>);

/// What one look at every folder found.
pub struct Scans {
    found: BTreeMap<FolderName, Scan>,
    /// Folders that are there and cannot be read.
    failed: BTreeMap<FolderName, Error>,
}

impl Scans {
    /// Whether what it does not show was not there. Each folder may have stood still while it was
    /// read, and a file may have been moved from one that was still to be read to one that had been:
    /// so all of them are as they were then, and there is no other one.
    fn is_complete(&self, maildir: &Maildir) -> Result<bool> {
        if !self.failed.is_empty() || !self.found.values().all(|s| s.stable) {
            return Ok(false);
        }
        let as_read =
            |(name, scan): (_, &Scan)| maildir::is_as_read(&maildir.dir(name), &scan.signature);
        if !self.found.iter().all(as_read) {
            return Ok(false);
        }
        Ok(maildir.folders()?.iter().eq(self.found.keys()))
    }
}

impl Scanning {
    /// Begins to read.
    pub fn start(maildir: Maildir) -> Self {
        Self(Some(std::thread::spawn(move || scan_all(&maildir))))
    }

    /// What was found.
    pub fn finish(mut self) -> Result<Scans> {
        let done = self.0.take().map(JoinHandle::join);
        match done {
            Some(Ok(found)) => found,
            _ => Err(Error::account(Kind::Internal, "the thread that reads the maildir died")),
        }
    }
}

fn scan_all(maildir: &Maildir) -> Result<Scans> {
    let mut out = Scans { found: BTreeMap::new(), failed: BTreeMap::new() };
    for name in maildir.folders()? {
        match maildir::scan(&maildir.dir(&name)) {
            Ok(scan) => drop(out.found.insert(name, scan)),
            Err(e) => drop(out.failed.insert(name, e)),
        }
    }
    Ok(out)
}

/// A file that no row has.
pub type Extra = (FolderId, Place);

#[derive(Default)]
struct Found {
    missing: BTreeSet<RowId>,
    extra: Vec<Extra>,
    renamed: Vec<(RowId, Place)>,
}

/// Takes the scan over: renames and moves are noted in the rows, and what is gone from here too.
/// With `all`, gives every file that no row has; then a folder that cannot be read is an error of
/// the whole, since what is looked for may be in it. Otherwise the others go on.
pub async fn observe(p: &mut Pass<'_>, mut scans: Scans, all: bool) -> Result<Vec<Extra>> {
    let mut found = compare(p, &scans, all)?;
    // in a first session, a file that readdir overlooks while a reader renames it is fetched again
    let mut complete = p.first && scans.is_complete(&p.maildir)?;
    for _ in 0..TRIES {
        if found.missing.is_empty() && (complete || !p.first) {
            break;
        }
        // an absence is believed after a second scan of everything, around which nothing changed
        tokio::time::sleep(TICK).await;
        scans = scan_all(&p.maildir)?;
        let before = std::mem::replace(&mut found, compare(p, &scans, true)?).extra;
        complete = scans.is_complete(&p.maildir)?;
        if p.first && !complete {
            let seen: BTreeSet<Extra> = found.extra.iter().cloned().collect();
            found.extra.extend(before.into_iter().filter(|e| !seen.contains(e)));
        }
        if complete || !scans.failed.is_empty() {
            break;
        }
    }
    for (name, e) in scans.failed {
        if all || name == p.pop3.folder {
            return Err(e.at(&name));
        }
        p.note(e.at(&name).widen(Scope::Folder));
    }
    let renamed = std::mem::take(&mut found.renamed);
    rename(p, renamed)?;
    if !found.missing.is_empty() {
        if complete {
            absent(p, &mut found)?;
        } else {
            let missing: Vec<RowId> = found.missing.iter().copied().collect();
            let rows = p.ledger.with(|l| l.rows_by_ids(&missing))?;
            unsettled(p, &rows);
        }
    }
    Ok(found.extra)
}

/// Nobody could say whether these are gone: their folders are compared again in the next pass.
fn unsettled(p: &mut Pass<'_>, rows: &[Row]) {
    for row in rows {
        if let Some(spot) = p.folders.get_mut(&row.folder) {
            spot.unsettled = true;
        }
    }
    p.report.unfinished = true;
}

/// Every file that no row has, looked for just now.
pub fn extras(p: &mut Pass<'_>) -> Result<Vec<Extra>> {
    let scans = scan_all(&p.maildir)?;
    Ok(compare(p, &scans, true)?.extra)
}

fn compare(p: &mut Pass<'_>, scans: &Scans, all: bool) -> Result<Found> {
    let mut found = Found::default();
    for name in scans.found.keys() {
        let id = p.folder(name)?;
        if let Some(spot) = p.folders.get_mut(&id)
            && !spot.rec.on_disk
        {
            spot.rec.on_disk = true;
            let rec = spot.rec.clone();
            p.write(|tx| tx.update_folder(&rec))?;
        }
    }
    let ids: Vec<FolderId> = p.folders.keys().copied().collect();
    for id in ids {
        let Some(spot) = p.folders.get_mut(&id) else { continue };
        if scans.failed.contains_key(&spot.rec.name) {
            spot.names = None;
            continue;
        }
        let scan = scans.found.get(&spot.rec.name);
        let same = scan.is_some_and(|s| spot.rec.digest == Some(s.digest.0));
        spot.names = scan.map(|s| s.digest);
        if same && !all {
            continue;
        }
        let places = scan.map(|s| s.names.places()).unwrap_or_default();
        let mut entries = places.iter().peekable();
        p.ledger.with(|l| {
            l.for_each_local(id, |row, place| {
                while let Some(e) = entries.next_if(|e| e.file.base < place.file.base) {
                    found.extra.push((id, e.clone()));
                }
                let mut here: Vec<&Place> = Vec::new();
                while let Some(e) = entries.next_if(|e| e.file.base == place.file.base) {
                    here.push(e);
                }
                match here.iter().position(|e| *e == place) {
                    Some(_) => {}
                    None if here.is_empty() => {
                        found.missing.insert(row);
                    }
                    None => found.renamed.push((row, here.swap_remove(0).clone())),
                }
                Ok(())
            })
        })?;
        found.extra.extend(entries.map(|e| (id, e.clone())));
    }
    Ok(found)
}

/// What readers made of the names: POP3 has no flags, so they are noted and told to nobody.
fn rename(p: &mut Pass<'_>, renamed: Vec<(RowId, Place)>) -> Result<()> {
    for part in renamed.chunks(500) {
        let ids: Vec<RowId> = part.iter().map(|(r, _)| *r).collect();
        let mut rows = p.ledger.with(|l| l.rows_by_ids(&ids))?;
        for row in &mut rows {
            if let Some((_, place)) = part.iter().find(|(r, _)| *r == row.id) {
                row.local = flags_of(place);
                row.place = Some(place.clone());
            }
        }
        p.write(|tx| rows.iter().try_for_each(|r| tx.update_row(r)))?;
    }
    Ok(())
}

/// The system flags of a name. What its letters mean is the folder's, and no matter of POP3.
pub fn flags_of(place: &Place) -> Flags {
    Flags { system: place.file.info().system, ..Flags::default() }
}

/// Looks for the missing files elsewhere: by their base name, then by their bytes. What is nowhere
/// was deleted here.
fn absent(p: &mut Pass<'_>, found: &mut Found) -> Result<()> {
    let missing: Vec<RowId> = found.missing.iter().copied().collect();
    let rows = p.ledger.with(|l| l.rows_by_ids(&missing))?;
    let mut identities: BTreeMap<usize, FileIdentity> = BTreeMap::new();
    let mut taken: BTreeSet<usize> = BTreeSet::new();
    let mut moved: Vec<(Row, Extra)> = Vec::new();
    let mut gone: Vec<Row> = Vec::new();
    let by_base: BTreeMap<_, usize> =
        found.extra.iter().enumerate().map(|(i, (_, place))| (&place.file.base, i)).collect();
    for row in rows {
        let base = row.place.as_ref().map(|p| &p.file.base);
        let named = base.and_then(|b| by_base.get(b)).copied();
        // a reader that saves gives a name of its own; one of ours is another account's file
        let others = (0..found.extra.len())
            .filter(|i| found.extra.get(*i).is_some_and(|(_, e)| !e.file.base.is_ours()));
        let mut at = None;
        let mut unread = Vec::new();
        for i in named.into_iter().chain(others).filter(|i| !taken.contains(i)) {
            match is_same(p, &found.extra, i, &row, &mut identities) {
                Ok(true) => {
                    at = Some(i);
                    break;
                }
                Ok(false) => {}
                Err(e) => unread.push(e),
            }
        }
        match at.and_then(|i| found.extra.get(i).map(|e| (i, e.clone()))) {
            Some((i, extra)) => {
                taken.insert(i);
                moved.push((row, extra));
            }
            None if unread.is_empty() => gone.push(row),
            // it may be what could not be read, or what a reader renamed just now
            None => {
                unsettled(p, &[row]);
                unread.into_iter().filter(|e| e.kind != Kind::Raced).for_each(|e| p.note(e));
            }
        }
    }
    let now = p.now;
    let names: BTreeMap<FolderId, FolderName> =
        p.folders.iter().map(|(id, s)| (*id, s.rec.name.clone())).collect();
    p.write(|tx| {
        for (row, (folder, place)) in &moved {
            let mut row = row.clone();
            row.folder = *folder;
            row.local = flags_of(place);
            row.place = Some(place.clone());
            tx.update_row(&row)?;
        }
        for row in &gone {
            let name = names.get(&row.folder);
            let mut e = JournalEntry::new(now, Action::Absent, Side::Here, "its file was removed");
            if let Some(name) = name {
                e = e.in_folder(row.folder, name);
            }
            e.message_id = row.identity.fingerprint.message_id.to_string();
            e.base = row.place.as_ref().map(|p| p.file.base.clone());
            if row.state == State::Kept {
                // it is on neither side now
                e.action = Action::Drop;
                if let Some(mut uidl) = tx.uidl_of_row(row.id)? {
                    uidl.row = None;
                    tx.update_uidl(&uidl)?;
                }
                tx.delete_row(row.id)?;
            } else {
                let mut row = row.clone();
                row.state = State::Absent;
                row.place = None;
                row.local = row.agreed.clone();
                tx.update_row(&row)?;
            }
            tx.journal(&e)?;
        }
        Ok(())
    })?;
    let mut i = 0;
    found.extra.retain(|_| {
        i += 1;
        !taken.contains(&(i - 1))
    });
    p.report.moved += moved.len() as u64;
    Ok(())
}

/// Whether the file has the row's bytes, or its message by the second hash. An error: nobody knows.
fn is_same(
    p: &Pass<'_>,
    extra: &[Extra],
    i: usize,
    row: &Row,
    identities: &mut BTreeMap<usize, FileIdentity>,
) -> Result<bool> {
    let Some((folder, place)) = extra.get(i) else { return Ok(false) };
    if let std::collections::btree_map::Entry::Vacant(slot) = identities.entry(i) {
        let Some(path) = p.path(*folder, place) else { return Ok(false) };
        // Far too small or too large is another message, and is not read. A file that may have
        // lines of another program has a size of its own.
        let size = maildir::stat(&path)?.size;
        let wire = row.identity.wire_size;
        if row.exact && wire > 0 && (size > wire + 1024 || size + 1024 < wire / 2) {
            return Ok(false);
        }
        slot.insert(maildir::identify(&path)?);
    }
    let Some(found) = identities.get(&i) else { return Ok(false) };
    Ok(row.identity.content == Some(found.digest.content)
        || row.identity.reader == Some(found.digest.reader))
}

/// Remembers how the folders stand, so that what did not change is not compared again.
pub fn finish(p: &mut Pass<'_>) -> Result<()> {
    let now = p.now;
    let records: Vec<FolderRecord> = p
        .folders
        .values()
        .map(|s| {
            let names = s.names.filter(|_| !s.unsettled);
            FolderRecord { digest: names.map(|d| d.0), ..s.rec.clone() }
        })
        .collect();
    p.ledger.with(|l| {
        l.write(|tx| {
            records.iter().try_for_each(|rec| tx.update_folder(rec))?;
            tx.note_sizes(now)
        })
    })
}

/// Messages that the account knew before it was this server's: of its time as an IMAP account, or
/// of another POP3 server. What is a file only is not among them.
pub fn earlier(p: &Pass<'_>) -> Result<Vec<Row>> {
    let mut out = Vec::new();
    p.ledger.with(|l| {
        for state in [State::Synced, State::Kept, State::Absent] {
            let rows = l.rows_with_state(state)?;
            out.extend(rows.into_iter().filter(|r| {
                r.state == State::Kept || r.gone == Some(Gone::Epoch) || r.uid.is_none()
            }));
        }
        Ok(())
    })?;
    Ok(out)
}

impl Spot {
    /// A folder of the ledger.
    pub fn new(rec: FolderRecord, dir: PathBuf) -> Self {
        Self { rec, dir, names: None, unsettled: false }
    }

    /// A file of ours came to stand in it.
    pub fn add(&mut self, place: &Place) {
        if let Some(names) = &mut self.names {
            names.add(place);
        } else {
            let mut names = NamesDigest::default();
            names.add(place);
            self.names = Some(names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maildir::Layout;
    use std::time::Instant;

    /// Once nothing changed for long enough to be seen if it does.
    fn still(maildir: &Maildir) -> Scans {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let scans = scan_all(maildir).unwrap();
            if scans.is_complete(maildir).unwrap() {
                return scans;
            }
            assert!(Instant::now() < end, "it never stands still");
            std::thread::sleep(TICK / 4);
        }
    }

    #[test]
    fn a_look_is_complete_if_nothing_moved_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let maildir = Maildir::open(dir.path(), Layout::Nested).unwrap();
        let folder = |name: &str| FolderName::from_text(name).unwrap();
        let [a, z] = ["A", "Z"].map(folder);
        for name in [&a, &z] {
            maildir.create_folder(name).unwrap();
        }
        let at = |name: &FolderName| maildir.dir(name).join("cur/1.M1P2.host:2,S");
        std::fs::write(at(&z), "text").unwrap();
        // a reader moves it from what is still to be read to what was read
        let first = still(&maildir);
        std::fs::rename(at(&z), at(&a)).unwrap();
        let mut second = still(&maildir);
        second.found.insert(a.clone(), first.found[&a].clone());
        assert!(second.found.values().all(|s| s.stable && s.names.is_empty()), "it is nowhere");
        assert!(!second.is_complete(&maildir).unwrap());
        // or to a folder that was not there
        let scans = still(&maildir);
        maildir.create_folder(&folder("New")).unwrap();
        assert!(!scans.is_complete(&maildir).unwrap());
        still(&maildir);
    }
}
