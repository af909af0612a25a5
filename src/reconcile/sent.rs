//! What commands of ours that broke in the middle may have made on the server. The ledger says what
//! was asked for, so that its message is known again, even if its file was moved here since.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::index::Index;
use super::pairing::{Known, Pairs};
use super::{FileId, LocalFile, Sent, Trees};
use crate::model::{ContentHash, Fingerprint, FolderId, Row, RowId, SystemFlags, Uid};

/// A copy that an interrupted command made is the file that the command was for. A reader may have
/// written that anew on saving, so that nothing else shows that they belong together.
pub(super) fn copies(trees: &Trees, index: &Index<'_>, arrivals: &[&Row], pairs: &mut Pairs) {
    for a in arrivals {
        let Some(of) = a.copy_of.and_then(|id| trees.rows.get(&id)) else { continue };
        let free = |(id, _): &(FileId, &LocalFile)| !pairs.files.contains(id);
        let here = |(_, f): &(FileId, &LocalFile)| f.folder == a.folder;
        // the same bytes come before rewritten ones; and a file in the folder of the command before
        // one that was moved out of it
        let found = index.files(trees, &of.identity).filter(free).find(here);
        let known = match found {
            Some((id, f)) => {
                let same = f.identity.content == of.identity.content;
                Known::File(id, of.exact && same && of.identity.content.is_some())
            }
            None => match index.files(trees, &of.identity).find(free) {
                Some((id, _)) => Known::Refiled(id),
                None => continue,
            },
        };
        pairs.join(a.id, known);
    }
}

/// What arrived since an upload broke, in its folder, and is the file's message: by its bytes, or by
/// Message-ID, Date, size and INTERNALDATE, if nothing else could be meant. A size that differs
/// only says that the bytes must be looked at: some servers' sizes are not those of the bodies.
pub(super) fn uploads(
    trees: &Trees,
    index: &Index<'_>,
    arrivals: &[&Row],
    pairs: &mut Pairs,
    wants: &mut BTreeSet<RowId>,
) {
    if trees.sent.is_empty() {
        return;
    }
    let mut files = Files::of(trees);
    let mut groups: BTreeMap<(FolderId, &Fingerprint), Group<'_>> = BTreeMap::new();
    for s in &trees.sent {
        let i = &s.identity;
        if i.content.is_some() && index.files(trees, i).next().is_some() {
            let g = groups.entry((s.target, &i.fingerprint)).or_default();
            g.from = if g.sent.is_empty() { s.from } else { g.from.min(s.from) };
            g.sent.push(s);
        }
    }
    for a in arrivals.iter().filter(|a| !pairs.by_arrival.contains_key(&a.id)) {
        let i = &a.identity;
        if let Some(g) = groups.get_mut(&(a.folder, &i.fingerprint))
            && a.uid >= g.from
        {
            g.arrived.push(a);
        }
    }
    for Group { sent, arrived, .. } in groups.into_values() {
        if let ([s], [a]) = (sent.as_slice(), arrived.as_slice())
            && proves(trees, s, a)
            && let Some(id) = files.take(pairs, s, Some(s.target))
        {
            pairs.join(a.id, Known::File(id, same_bytes(trees, s, id)));
            continue;
        }
        wants.extend(arrived.iter().filter(|a| a.identity.content.is_none()).map(|a| a.id));
        let mut left: BTreeMap<ContentHash, VecDeque<&Sent>> = BTreeMap::new();
        for s in sent {
            left.entry(s.identity.content.unwrap_or(ContentHash([0; 32])))
                .or_default()
                .push_back(s);
        }
        for a in arrived {
            let equal = a.identity.content.and_then(|h| left.get_mut(&h));
            let Some(s) = equal.and_then(VecDeque::pop_front) else { continue };
            // where it was first
            if let Some(id) = files.take(pairs, s, Some(s.target)) {
                pairs.join(a.id, Known::File(id, same_bytes(trees, s, id)));
            } else if let Some(id) = files.take(pairs, s, None) {
                pairs.join(a.id, Known::Refiled(id));
            }
        }
    }
}

/// Whether Message-ID, Date and size are not to be trusted with this arrival.
pub(super) fn is_draft(trees: &Trees, a: &Row) -> bool {
    a.remote.has(SystemFlags::DRAFT) || trees.is_drafts(a.folder)
}

/// Uploads, and arrivals that look like them.
#[derive(Default)]
struct Group<'a> {
    sent: Vec<&'a Sent>,
    /// The least UIDNEXT before any of them; `None` if that is not known of one.
    from: Option<Uid>,
    arrived: Vec<&'a Row>,
}

fn proves(trees: &Trees, s: &Sent, a: &Row) -> bool {
    let contradicted = a.identity.content.is_some() && a.identity.content != s.identity.content;
    s.identity.fingerprint.is_complete()
        && s.identity.internal_date == a.identity.internal_date
        && s.identity.wire_size == a.identity.wire_size
        && !trees.sizes_lie
        && !is_draft(trees, a)
        && !contradicted
}

fn same_bytes(trees: &Trees, s: &Sent, file: FileId) -> bool {
    trees.files.get(&file).is_some_and(|f| f.identity.content == s.identity.content)
}

/// By a hash, in a folder and wherever.
type ByHash = BTreeMap<(ContentHash, Option<FolderId>), VecDeque<FileId>>;

/// Files by their bytes, and by what of them a reader leaves alone that writes them anew. An edited
/// draft is another message.
struct Files {
    equal: ByHash,
    written_anew: ByHash,
}

impl Files {
    fn of(trees: &Trees) -> Self {
        let mut out = Self { equal: ByHash::new(), written_anew: ByHash::new() };
        for (id, f) in &trees.files {
            let draft = f.flags.has(SystemFlags::DRAFT) || trees.is_drafts(f.folder);
            let hashes = [
                (&mut out.equal, f.identity.content),
                (&mut out.written_anew, f.identity.reader.filter(|_| !draft)),
            ];
            for (map, hash) in hashes {
                if let Some(h) = hash {
                    map.entry((h, Some(f.folder))).or_default().push_back(*id);
                    map.entry((h, None)).or_default().push_back(*id);
                }
            }
        }
        out
    }

    /// A file that is what was sent, and which nothing else is paired with.
    fn take(&mut self, pairs: &Pairs, s: &Sent, folder: Option<FolderId>) -> Option<FileId> {
        let i = &s.identity;
        let maps = [(&mut self.equal, i.content), (&mut self.written_anew, i.reader)];
        for (map, hash) in maps {
            let Some(found) = hash.and_then(|h| map.get_mut(&(h, folder))) else { continue };
            while let Some(id) = found.pop_front() {
                if !pairs.files.contains(&id) {
                    return Some(id);
                }
            }
        }
        None
    }
}
