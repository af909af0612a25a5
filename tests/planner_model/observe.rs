//! Observation, as the real one does it: what both sides show is noted in the rows first, and the
//! trees are made of the rows. Nothing is forgotten because it was held or cut short.

use std::collections::{BTreeMap, BTreeSet};

use mailkeep::model::{Gone, RowId, SpecialUse, State, Uid};
use mailkeep::policy::Policy;
use mailkeep::policy::decide::Standing;
use mailkeep::reconcile::{FileId, Folder, LocalFile, Presence, Trees, Unread, UnreadFile};

use super::world::{World, place};

/// Looks at both sides. `complete`: whether every folder of the server, and of the Maildir, could
/// be observed.
pub fn observe(w: &mut World, policy: &Policy, complete: (bool, bool)) -> Trees {
    let mut trees = Trees {
        remote_complete: complete.0,
        local_complete: complete.1,
        first_pass: w.ledger.first_pass,
        sizes_lie: w.sizes_lie,
        newest_before: w.newest_before,
        ..Trees::default()
    };
    resolve(w);
    folders(w, policy, &mut trees);
    remote(w, &trees);
    local(w, &mut trees);
    arrivals(w, &mut trees);
    let (rows, excluded) =
        w.ledger.rows.clone().into_iter().partition(|(_, r)| trees.folders[&r.folder].selected);
    trees.rows = rows;
    trees.excluded = BTreeMap::into_values(excluded).collect();
    trees
}

/// An intent found open: what arrived since with its bytes is its message; if nothing did, it was
/// not carried out.
fn resolve(w: &mut World) {
    w.unlinked();
    let Some(intent) = w.ledger.intent.take() else { return };
    let Some(b) = w.server.get(&w.name(intent.row.folder)) else { return };
    if intent.validity.is_some_and(|v| v != b.validity) {
        return; // it is paired
    }
    let since = b.mails.range(intent.next..).find(|(_, m)| m.cid == intent.cid);
    if let Some(uid) = since.map(|(uid, _)| *uid) {
        w.fulfil(intent, uid);
    }
}

fn folders(w: &mut World, policy: &Policy, trees: &mut Trees) {
    let names: BTreeSet<_> = w.server.keys().chain(w.disk.keys()).cloned().collect();
    for n in names {
        w.folder_id(&n);
    }
    for (id, k) in &mut w.ledger.folders {
        let mailbox = w.server.get(&k.name);
        let (there, here) = (mailbox.is_some(), w.disk.contains_key(&k.name));
        if let Some(b) = mailbox {
            k.special = b.special;
        }
        let presence = |now, before| match (now, before) {
            (true, _) => Presence::There,
            (false, true) => Presence::Vanished,
            (false, false) => Presence::Never,
        };
        trees.folders.insert(
            *id,
            Folder {
                name: k.name.clone(),
                special_use: k.special,
                server: presence(there, k.there),
                disk: presence(here, k.here),
                selected: policy.selects(&k.name, k.special, false),
                pull_from: None,
            },
        );
        k.there |= there;
        k.here |= here;
    }
}

/// What went, and flags.
fn remote(w: &mut World, trees: &Trees) {
    let mut dropped = Vec::new();
    for row in w.ledger.rows.values_mut() {
        let (Some(uid), true) = (row.uid, trees.folders[&row.folder].selected) else { continue };
        let known = &w.ledger.folders[&row.folder];
        let mailbox = w.server.get(&known.name);
        let gone = match mailbox {
            None => Some(Gone::Vanished),
            Some(b) if Some(b.validity) != known.validity => Some(Gone::Epoch),
            Some(b) if !b.mails.contains_key(&uid.get()) => Some(Gone::Vanished),
            Some(_) => None,
        };
        if gone.is_some() {
            row.uid = None;
            row.gone = gone;
            if row.state == State::Pending {
                dropped.push(row.id);
            }
        } else if let Some(m) = mailbox.and_then(|b| b.mails.get(&uid.get())) {
            row.remote = m.flags.clone();
        }
    }
    for id in dropped {
        w.ledger.rows.remove(&id);
    }
    for (id, k) in &mut w.ledger.folders {
        if let Some(b) = w.server.get(&k.name).filter(|_| trees.folders[id].selected) {
            k.validity = Some(b.validity);
        }
    }
}

fn local(w: &mut World, trees: &mut Trees) {
    let mut claimed = BTreeSet::new();
    let mut missing = BTreeSet::new();
    for row in w.ledger.rows.values_mut() {
        let Some(p) = &row.place else { continue };
        if !trees.folders[&row.folder].selected {
            continue;
        }
        let name = &w.ledger.folders[&row.folder].name;
        match w.disk.get(name).and_then(|d| d.get(&p.file.base)) {
            Some(f) => {
                row.local = f.flags.clone();
                claimed.insert((name.clone(), p.file.base.clone()));
            }
            None => {
                missing.insert(row.id);
            }
        }
    }
    trees.missing = missing;
    let mut n = 0;
    for (id, f) in &trees.folders {
        let Some(dir) = w.disk.get(&f.name).filter(|_| f.selected) else { continue };
        if w.unread_dirs.contains(&f.name) {
            trees.unread.push(Unread { folder: *id, file: None });
            continue;
        }
        for (base, file) in dir {
            if w.unread_files.contains(base) {
                let size = w.contents[file.cid].size;
                let seen = UnreadFile { size, mtime: file.date, ours: base.is_ours() };
                trees.unread.push(Unread { folder: *id, file: Some(seen) });
                continue;
            }
            if claimed.contains(&(f.name.clone(), base.clone())) {
                continue;
            }
            n += 1;
            trees.files.insert(
                FileId(n),
                LocalFile {
                    folder: *id,
                    place: place(base),
                    flags: file.flags.clone(),
                    identity: w.file_identity(file),
                },
            );
            if w.ledger.held_files.contains_key(&(*id, base.clone())) {
                trees.held.insert(FileId(n));
            }
        }
    }
}

/// New UIDs: `pending` rows, or one stream where nothing here could be paired.
fn arrivals(w: &mut World, trees: &mut Trees) {
    let unpaired = !trees.files.is_empty()
        || trees.unread.iter().any(|u| u.file.is_some())
        || !trees.missing.is_empty()
        || w.ledger.rows.values().any(|r| r.state != State::Synced || r.gone.is_some());
    for (id, f) in &mut trees.folders {
        let Some(b) = w.server.get(&f.name).filter(|_| f.selected) else { continue };
        let known: BTreeSet<u32> = w
            .ledger
            .rows
            .values()
            .filter(|r| r.folder == *id)
            .filter_map(|r| r.uid.map(Uid::get))
            .collect();
        let new: Vec<(u32, _)> = b
            .mails
            .iter()
            .filter(|(uid, _)| !known.contains(uid))
            .map(|(u, m)| (*u, m.clone()))
            .collect();
        let Some((first, _)) = new.first() else { continue };
        if w.streams && !unpaired && known.last().is_none_or(|last| last < first) {
            f.pull_from = Uid::new(*first);
            continue;
        }
        for (uid, m) in new {
            let mut row = World::blank(*id, State::Pending, w.mail_identity(&m));
            row.uid = Uid::new(uid);
            row.remote = m.flags;
            w.add_row(row);
        }
    }
}

/// Fetches the bytes that pairing asked for.
pub fn fetch_content(w: &mut World, trees: &mut Trees, wants: &BTreeSet<RowId>) {
    w.asked += wants.len();
    for id in wants {
        let row = &w.ledger.rows[id];
        let mail = w.mail(row.folder, row.uid);
        let hashes = mail.map(|m| (w.content_hash(m.cid), w.reader_hash(m.cid)));
        if let Some(row) = w.ledger.rows.get_mut(id) {
            row.identity.content = hashes.map(|h| h.0);
            row.identity.reader = hashes.map(|h| h.1);
            trees.rows.insert(*id, row.clone());
        }
    }
}

/// What policy must know beside the plan.
pub fn standing(w: &World, policy: &Policy, trees: &Trees) -> Standing {
    let trash = trees.folders.iter().find(|(_, f)| {
        f.server == Presence::There
            && (f.special_use == Some(SpecialUse::Trash) || policy.trash.as_ref() == Some(&f.name))
    });
    Standing {
        rows: w.ledger.held_rows.clone(),
        files: trees
            .files
            .iter()
            .filter_map(|(id, f)| {
                let key = (f.folder, f.place.file.base.clone());
                w.ledger.held_files.get(&key).map(|v| (*id, *v))
            })
            .collect(),
        deleted: w.ledger.deleted.clone(),
        sizes: w.ledger.sizes.clone(),
        trash: trash.map(|(id, _)| *id),
        ..Standing::default()
    }
}
