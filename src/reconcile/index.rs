//! Rows and files by what they are looked up by, built once for a plan: a look-up must not cost a
//! walk over all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{FileId, LocalFile, Trees};
use crate::model::{ContentHash, Identity, Row, RowId, ServerId, State};

/// The trees by hash, id and origin; equal ones in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Index<'a> {
    /// Contents that a row has, but for arrivals: a file with them is no riddle.
    known: BTreeSet<ContentHash>,
    /// Files by content.
    content: BTreeMap<ContentHash, Vec<FileId>>,
    /// Files by the hash that readers leave alone.
    reader: BTreeMap<ContentHash, Vec<FileId>>,
    /// The first row whose file can stand for an arrival of this id.
    linkable: BTreeMap<&'a ServerId, RowId>,
    /// Rows by the row that they were copied from.
    copies: BTreeMap<RowId, Vec<&'a Row>>,
}

impl<'a> Index<'a> {
    /// Of these trees.
    pub fn new(trees: &'a Trees) -> Self {
        let mut out = Self::default();
        for r in trees.excluded.iter().chain(trees.rows.values()) {
            if let (Some(h), true) = (r.identity.content, r.state != State::Pending) {
                out.known.insert(h);
            }
        }
        for r in trees.rows.values() {
            if let Some(id) = &r.identity.server_id
                && r.state == State::Synced
                && r.exact
                && r.place.is_some()
                && !trees.missing.contains(&r.id)
            {
                out.linkable.entry(id).or_insert(r.id);
            }
            if let Some(of) = r.copy_of {
                out.copies.entry(of).or_default().push(r);
            }
        }
        for (id, f) in &trees.files {
            if let Some(h) = f.identity.content {
                out.content.entry(h).or_default().push(*id);
            }
            if let Some(h) = f.identity.reader {
                out.reader.entry(h).or_default().push(*id);
            }
        }
        out
    }

    /// Whether a row, other than an arrival, has these bytes.
    pub fn is_known(&self, i: &Identity) -> bool {
        i.content.is_some_and(|h| self.known.contains(&h))
    }

    /// The files with the bytes, or else those that a reader wrote anew.
    pub fn files<'t>(
        &'t self,
        trees: &'t Trees,
        i: &Identity,
    ) -> impl Iterator<Item = (FileId, &'t LocalFile)> {
        let by = |hash: Option<ContentHash>, map: &'t BTreeMap<ContentHash, Vec<FileId>>| {
            hash.and_then(|h| map.get(&h)).into_iter().flatten()
        };
        by(i.content, &self.content)
            .chain(by(i.reader, &self.reader))
            .filter_map(|id| Some((*id, trees.files.get(id)?)))
    }

    /// The files with these bytes.
    pub fn equal(&self, content: ContentHash) -> &[FileId] {
        self.content.get(&content).map_or(&[], Vec::as_slice)
    }

    /// A row whose file can stand for an arrival, by the server's own id.
    pub fn linkable(&self, arrival: &Row) -> Option<RowId> {
        self.linkable.get(arrival.identity.server_id.as_ref()?).copied()
    }

    /// The rows that were copied from this one.
    pub fn copies_of(&self, row: RowId) -> &[&'a Row] {
        self.copies.get(&row).map_or(&[], Vec::as_slice)
    }
}
