//! Files without a row: read whole, since only their bytes say what they are; and the same base name
//! twice in a folder.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::super::pass::Pass;
use super::local::read_flags;
use super::prescan::Beside;
use crate::error::{Error, Kind, Result, Scope};
use crate::maildir::{self, FileStat, place_path};
use crate::model::{BaseName, FileName, Flags, FolderId, Identity, Place, Row};
use crate::policy::LocalDelete;
use crate::reconcile::{FileId, LocalFile, Unread, UnreadFile};

/// A file younger than this may still be written to by whoever copies it here.
const SETTLES_AFTER: i64 = 1;

/// A file as it was read.
struct Read {
    id: Option<FileId>,
    file: LocalFile,
    stat: FileStat,
    stamp: Option<Vec<u8>>,
}

/// Reads the files. What an earlier round or pass read, and what has not changed since, is not read
/// again.
pub(super) async fn identify(
    p: &mut Pass<'_>,
    extra: BTreeMap<FolderId, Vec<Place>>,
) -> Result<()> {
    let mut known: BTreeMap<(FolderId, Place), Read> = BTreeMap::new();
    for (id, file) in std::mem::take(&mut p.files) {
        if let Some(stat) = p.stats.get(&id).copied() {
            let at = (file.folder, file.place.clone());
            let stamp = p.stamps.remove(&id);
            // it keeps its number, by which this pass knows what was said of it
            known.insert(at, Read { id: Some(id), file, stat, stamp });
        }
    }
    p.stats.clear();
    p.stamps.clear();
    let before = match extra.is_empty() {
        true => BTreeMap::new(),
        false => p.ledger.with(|l| l.unmatched())?,
    };
    let mut names = Names::new();
    for (folder, places) in extra {
        for place in places {
            p.progress.alive();
            let path = place_path(&p.folder(folder)?.dir, &place);
            let beside = p.scanned.as_mut().and_then(|s| s.take_file(folder, &place));
            let read = match maildir::stat(&path) {
                Ok(now) => match known.remove(&(folder, place.clone())) {
                    Some(read) if read.stat == now => Ok(read),
                    _ => one(p, &before, beside, folder, &place).await,
                },
                Err(e) => Err(e),
            };
            let read = match read {
                Ok(read) => match doubled(p, &names, folder, read.file) {
                    Ok(None) => continue,
                    Ok(Some(file)) => Ok(Read { file, ..read }),
                    Err(e) => Err(e),
                },
                Err(e) => Err(e),
            };
            match read {
                Ok(Read { id, file, stat, stamp }) => {
                    let id = id.unwrap_or_else(|| p.number_file());
                    names.insert((folder, file.place.file.base.clone()), id);
                    p.files.insert(id, file);
                    p.stats.insert(id, stat);
                    p.stamps.extend(stamp.map(|s| (id, s)));
                }
                Err(e) if e.kind == Kind::Raced => {
                    // a reader was faster: the file may be the one that a row misses
                    p.local_complete = false;
                    p.unread.push(Unread { folder, file: None });
                    p.folder_mut(folder)?.unsettled = true;
                    p.look_again = true;
                }
                Err(e) => {
                    p.local_complete = false;
                    p.unread.extend(seen(&path, folder, &place));
                    p.folder_mut(folder)?.unsettled = true;
                    p.note(e.widen(Scope::Message))?;
                }
            }
        }
    }
    Ok(())
}

/// Whether nobody was writing it any more when it was `now`, Unix time in seconds.
pub(super) fn is_settled(stat: &FileStat, now: i64) -> bool {
    mtime(stat) < now - SETTLES_AFTER
}

fn mtime(stat: &FileStat) -> i64 {
    i64::try_from(stat.mtime_ns.div_euclid(1_000_000_000)).unwrap_or(0)
}

/// What a file shows that could not be read. What is no file is no mail.
fn seen(path: &Path, folder: FolderId, place: &Place) -> Option<Unread> {
    let file = match std::fs::symlink_metadata(path) {
        Ok(m) if !m.is_file() => return None,
        Ok(m) => {
            Some(UnreadFile { size: m.len(), mtime: m.mtime(), ours: place.file.base.is_ours() })
        }
        Err(_) => None,
    };
    Some(Unread { folder, file })
}

/// What the next pass need not read again.
pub(super) fn unmatched(p: &Pass<'_>) -> BTreeMap<Vec<u8>, Identity> {
    let stamps = p.stamps.iter();
    stamps.filter_map(|(id, s)| Some((s.clone(), p.files.get(id)?.identity.clone()))).collect()
}

/// `before`: what an earlier pass read; `beside`: what was read beside the login.
async fn one(
    p: &Pass<'_>,
    before: &BTreeMap<Vec<u8>, Identity>,
    beside: Option<Beside>,
    folder: FolderId,
    place: &Place,
) -> Result<Read> {
    let f = p.folder(folder)?;
    let path = place_path(&f.dir, place);
    let mut stat = maildir::stat(&path)?;
    let now = p.now();
    let whole = p.complete.as_ref().is_some_and(|c| c.contains(&f.rec.name, place));
    if !whole && (now - SETTLES_AFTER..=now + SETTLES_AFTER).contains(&mtime(&stat)) {
        let wait = u64::try_from(mtime(&stat) + SETTLES_AFTER + 1 - now).unwrap_or(1);
        tokio::time::sleep(Duration::from_secs(wait.min(3))).await;
        stat = maildir::stat(&path)?;
    }
    let stamp = maildir::stamp(&path, p.now())?;
    let known = stamp.as_ref().and_then(|s| before.get(s));
    let (identity, stat) = match known {
        Some(identity) => (identity.clone(), stat),
        None => {
            let read = match beside.and_then(|b| b.still(&path)) {
                Some(read) => read,
                None => {
                    tracing::debug!("reading {}", path.display());
                    maildir::identify(&path)?
                }
            };
            let identity = Identity {
                content: Some(read.digest.content),
                reader: Some(read.digest.reader),
                fingerprint: read.digest.fingerprint,
                wire_size: read.digest.wire_size,
                internal_date: read.mtime,
                server_id: None,
            };
            (identity, read.stat)
        }
    };
    let may_delete = f.policy.local_delete == LocalDelete::Mirror && !p.session.caps().labels;
    let flags = read_flags(&f.keywords, f.letters_void, place, &Flags::default(), may_delete);
    let file = LocalFile { folder, place: place.clone(), flags, identity };
    Ok(Read { id: None, file, stat, stamp })
}

/// Files without a row, by folder and base name.
type Names = BTreeMap<(FolderId, BaseName), FileId>;

/// A second file of a base name. Equal bytes are one message: flags are united, and the extra file
/// goes, with a row in the journal. Otherwise it gets a name of its own. The file, if it stays.
fn doubled(
    p: &mut Pass<'_>,
    names: &Names,
    folder: FolderId,
    mut file: LocalFile,
) -> Result<Option<LocalFile>> {
    let base = &file.place.file.base;
    let mut twin: Option<(Option<Row>, Place, Identity)> = None;
    if let Some(row) = p.ledger.with(|l| l.row_at(folder, base))?
        && !p.missing.contains(&row.id)
        && let Some(place) = row.place.clone()
    {
        let path = place_path(&p.folder(folder)?.dir, &place);
        let there = match maildir::stat(&path) {
            Ok(_) => true,
            Err(e) if e.kind == Kind::Raced => false,
            Err(e) => return Err(e),
        };
        if place != file.place && there {
            let read = maildir::identify(&path)?;
            let identity = Identity { content: Some(read.digest.content), ..row.identity.clone() };
            twin = Some((Some(row), place, identity));
        }
    }
    let first = names.get(&(folder, base.clone())).copied();
    if twin.is_none() {
        let other = first.and_then(|id| p.files.get(&id));
        twin = other.map(|f| (None, f.place.clone(), f.identity.clone()));
    }
    let Some((row, place, identity)) = twin else { return Ok(Some(file)) };
    if p.options.dry_run {
        return Ok(None);
    }
    if identity.content != file.identity.content {
        file.place = rename_apart(p, folder, &file)?;
        return Ok(Some(file));
    }
    let no_row = row.is_none();
    let united = crate::executor::here::unite(p, folder, row, &place, &file)?;
    if let Some(f) = first.filter(|_| no_row).and_then(|id| p.files.get_mut(&id)) {
        f.flags = f.flags.union(&file.flags);
        f.place = united;
    }
    Ok(None)
}

/// Two messages must not share a base name. The new one is no name of ours: it did not come from a
/// server.
fn rename_apart(p: &mut Pass<'_>, folder: FolderId, file: &LocalFile) -> Result<Place> {
    let now = p.now();
    let fresh = p.namer.next(now).to_string();
    let base = BaseName::new(fresh.trim_end_matches(".mailkeep").as_bytes());
    let base = base.ok_or_else(|| Error::message(Kind::Internal, "a name of ours is no name"))?;
    let to =
        Place { sub: file.place.sub, file: FileName::from_parts(base, file.place.file.suffix()) };
    crate::executor::here::rename(p, folder, &file.place, folder, &to)?;
    crate::executor::here::sync(p, &[folder])?;
    Ok(to)
}
