//! Intents: what the server was about to be asked for. One that is found open says that nobody
//! knows whether the server did it; it is resolved by pairing what arrived since, never by asking
//! again. Beside them, the files that were about to be removed here.

use rusqlite::params;

use super::fault::Result as Inner;
use super::values::{
    Cells, all, count_out, folder_out, hash_out, place_out, row_out, run, run_one, server_id_out,
    uid_out, words,
};
use super::{Tx, View};
use crate::Result;
use crate::model::{FolderId, Identity, Place, Row, RowId, Uid, UidValidity};

/// An intent's number. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(pub i64);

words!(
    /// What was to be done.
    IntentKind {
        /// Take a message.
        Append = "append",
        /// Copy one.
        Copy = "copy",
        /// Move one.
        Move = "move",
        /// Remove the row's file here, as its message went from the server. Else an equal file
        /// would be taken for the one that is missing since, and be removed next.
        Unlink = "unlink",
    }
);

/// What was about to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Its number. Not looked at on adding.
    pub id: IntentId,
    /// What was to be done.
    pub kind: IntentKind,
    /// The row that is moved or copied from, or whose file goes.
    pub row: Option<RowId>,
    /// The folder on the server that it is moved or copied from.
    pub from: Option<FolderId>,
    /// Its UID there.
    pub uid: Option<Uid>,
    /// The folder on the server that it goes to; that of the file that goes.
    pub target: FolderId,
    /// The folder in the maildir where its file stands.
    pub source_folder: Option<FolderId>,
    /// Its file there.
    pub place: Option<Place>,
    /// What it can be recognised by when it arrives.
    pub identity: Identity,
    /// The target's UIDVALIDITY.
    pub uidvalidity: Option<UidValidity>,
    /// The target's UIDNEXT before: what arrived since is not below it.
    pub uidnext_before: Option<Uid>,
    /// When, in Unix time.
    pub created: i64,
}

impl View {
    /// Every open intent, oldest first.
    pub fn intents(&self) -> Result<Vec<Intent>> {
        self.run(|c| {
            all(
                c,
                "SELECT id, kind, row, from_id, uid, target_id, source_id, sub, base, suffix, \
                 content, reader, message_id, date, wire_size, internal_date, server_id, \
                 uidvalidity, uidnext_before, created FROM intents ORDER BY id",
                [],
                intent,
            )
        })
    }
}

impl Tx<'_> {
    /// Adds an intent; it must be committed before anything is done.
    pub fn add_intent(&mut self, i: &Intent) -> Result<IntentId> {
        self.run(|c| {
            let (sub, base, suffix) = place_out(i.place.as_ref());
            run(
                c,
                "INSERT INTO intents (kind, row, from_id, uid, target_id, source_id, sub, base, \
                 suffix, content, reader, message_id, date, wire_size, internal_date, server_id, \
                 uidvalidity, uidnext_before, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, \
                 ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
                params![
                    i.kind.as_str(),
                    row_out(i.row),
                    folder_out(i.from),
                    uid_out(i.uid),
                    i.target.0,
                    folder_out(i.source_folder),
                    sub,
                    base,
                    suffix,
                    hash_out(i.identity.content.as_ref()),
                    hash_out(i.identity.reader.as_ref()),
                    &*i.identity.fingerprint.message_id,
                    &*i.identity.fingerprint.date,
                    count_out(i.identity.wire_size)?,
                    i.identity.internal_date,
                    server_id_out(i.identity.server_id.as_ref()),
                    i.uidvalidity.map_or(0, UidValidity::get),
                    uid_out(i.uidnext_before),
                    i.created,
                ],
            )?;
            Ok(IntentId(c.last_insert_rowid()))
        })
    }

    /// Removes an intent, in the transaction that records how it ended.
    pub fn delete_intent(&mut self, id: IntentId) -> Result<()> {
        self.run(|c| run_one(c, "DELETE FROM intents WHERE id = ?1", "that intent", [id.0]))
    }

    /// Removes the intent that made this arrival, if one did, in the transaction in which it is no
    /// longer a mere arrival.
    pub fn answer(&mut self, arrival: &Row) -> Result<()> {
        let Some(of) = arrival.copy_of else { return Ok(()) };
        self.run(|c| {
            run(
                c,
                "DELETE FROM intents WHERE id = (SELECT min(id) FROM intents \
                 WHERE row = ?1 AND target_id = ?2 AND kind IN ('copy', 'move'))",
                [of.0, arrival.folder.0],
            )
        })?;
        Ok(())
    }
}

fn intent(r: &mut Cells<'_>) -> Inner<Intent> {
    Ok(Intent {
        id: IntentId(r.take()?),
        kind: IntentKind::read(&r.text()?)?,
        row: r.row_id()?,
        from: r.folder_id()?,
        uid: r.uid()?,
        target: FolderId(r.take()?),
        source_folder: r.folder_id()?,
        place: r.place()?,
        identity: r.identity()?,
        uidvalidity: r.number(UidValidity::new)?,
        uidnext_before: r.uid()?,
        created: r.take()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::{folder, identity, in_state, ledger, place};
    use crate::model::State;

    #[test]
    fn an_intent_stays_until_it_is_resolved() {
        let (_dir, mut l) = ledger();
        let (f, g) = (folder(&mut l, "a"), folder(&mut l, "b"));
        let mut moved = Intent {
            id: IntentId(0),
            kind: IntentKind::Move,
            row: Some(RowId(5)),
            from: Some(f),
            uid: Uid::new(9),
            target: g,
            source_folder: Some(f),
            place: Some(place(1)),
            identity: identity(1),
            uidvalidity: UidValidity::new(3),
            uidnext_before: Uid::new(4),
            created: 10,
        };
        let mut sent = Intent {
            kind: IntentKind::Append,
            row: None,
            from: None,
            uid: None,
            uidnext_before: None,
            ..moved.clone()
        };
        moved.id = l.write(|tx| tx.add_intent(&moved)).unwrap();
        sent.id = l.write(|tx| tx.add_intent(&sent)).unwrap();
        assert_eq!(l.intents().unwrap(), [moved.clone(), sent.clone()]);
        let mut copy = in_state(g, 9, State::Pending);
        for (of, folder) in [(None, g), (Some(RowId(6)), g), (Some(RowId(5)), f)] {
            (copy.copy_of, copy.folder) = (of, folder);
            l.write(|tx| tx.answer(&copy)).unwrap();
            assert_eq!(l.intents().unwrap().len(), 2, "it answers another");
        }
        (copy.copy_of, copy.folder) = (Some(RowId(5)), g);
        l.write(|tx| tx.answer(&copy)).unwrap();
        assert_eq!(l.intents().unwrap(), [sent]);
        assert!(l.write(|tx| tx.delete_intent(moved.id)).is_err());
        assert!(l.write(|tx| tx.delete_folder(g)).is_err(), "an intent waits for that folder");
    }
}
