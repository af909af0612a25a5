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
/// Message-ID, Date, size and INTERNALDATE, if nothing else could be meant.
pub(super) fn uploads(
    trees: &Trees,
    index: &Index<'_>,
    arrivals: &[&Row],
    pairs: &mut Pairs,
    wants: &mut BTreeSet<RowId>,
) {
    let mut groups: BTreeMap<(FolderId, &Fingerprint, u64), Group<'_>> = BTreeMap::new();
    let size = |n| if trees.sizes_lie { 0 } else { n };
    for s in &trees.sent {
        let i = &s.identity;
        if i.content.is_some()
            && index.files(trees, i).any(|(_, f)| f.identity.content == i.content)
        {
            groups.entry((s.target, &i.fingerprint, size(i.wire_size))).or_default().0.push(s);
        }
    }
    for a in arrivals.iter().filter(|a| !pairs.by_arrival.contains_key(&a.id)) {
        let i = &a.identity;
        if let Some(g) = groups.get_mut(&(a.folder, &i.fingerprint, size(i.wire_size)))
            && g.0.iter().any(|s| since(s, a))
        {
            g.1.push(a);
        }
    }
    for (sent, arrived) in groups.into_values() {
        if let ([s], [a]) = (sent.as_slice(), arrived.as_slice())
            && proves(trees, s, a)
            && let Some((id, f)) = file_of(trees, index, pairs, s)
            && f.folder == a.folder
        {
            pairs.join(a.id, Known::File(id, true));
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
            let Some((id, f)) = file_of(trees, index, pairs, s) else { continue };
            let moved = f.folder != a.folder;
            pairs.join(a.id, if moved { Known::Refiled(id) } else { Known::File(id, true) });
        }
    }
}

/// Whether Message-ID, Date and size are not to be trusted with this arrival.
pub(super) fn is_draft(trees: &Trees, a: &Row) -> bool {
    a.remote.has(SystemFlags::DRAFT) || trees.is_drafts(a.folder)
}

/// Uploads, and arrivals that look like them.
type Group<'a> = (Vec<&'a Sent>, Vec<&'a Row>);

fn since(s: &Sent, a: &Row) -> bool {
    a.uid >= s.from.or(Some(Uid::MIN))
}

fn proves(trees: &Trees, s: &Sent, a: &Row) -> bool {
    let contradicted = a.identity.content.is_some() && a.identity.content != s.identity.content;
    since(s, a)
        && s.identity.fingerprint.is_complete()
        && s.identity.internal_date == a.identity.internal_date
        && !trees.sizes_lie
        && !is_draft(trees, a)
        && !contradicted
}

/// The file that was sent, wherever it is now; where it was first.
fn file_of<'t>(
    trees: &'t Trees,
    index: &'t Index<'_>,
    pairs: &Pairs,
    s: &Sent,
) -> Option<(FileId, &'t LocalFile)> {
    let fits = |(id, f): &(FileId, &LocalFile)| {
        f.identity.content == s.identity.content && !pairs.files.contains(id)
    };
    let mut equal = index.files(trees, &s.identity).filter(fits);
    index
        .files(trees, &s.identity)
        .filter(fits)
        .find(|(_, f)| f.folder == s.target)
        .or_else(|| equal.next())
}
