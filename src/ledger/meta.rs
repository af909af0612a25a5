//! What the ledger knows of itself and of the account's last pass.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use rusqlite::{Connection, params};

use super::fault::{Fault, Result as Inner};
use super::values::{all, count_out, first, run, run_one, words};
use super::{Ledger, Tx, View};
use crate::{Error, Result, Scope};

words!(
    /// How the last pass ended.
    PassState {
        /// There was none.
        Never = "never",
        /// All done.
        Ok = "ok",
        /// Something failed.
        Failed = "failed",
        /// Something waits for a decision.
        Held = "held",
    }
);

/// What the ledger knows of itself and of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The ledger's own number, as in the maildir's marker: 32 hex digits there.
    pub id: u128,
    /// The account it belongs to. Never changes.
    pub account: String,
    /// Raised before the first write of a pass. 0: this ledger has never been written by a pass.
    pub generation: u64,
    /// Whether the marker is known to carry the same generation.
    pub closed: bool,
    /// The server's identity: `user@host:protocol`. Empty: not known yet.
    pub host_user: String,
    /// The machine that writes this ledger. Empty: not known yet.
    pub host: String,
    /// When it was created, in Unix time. `None`: not noted yet.
    pub created: Option<i64>,
    /// When the last pass ended, in Unix time.
    pub last_pass: Option<i64>,
    /// How it ended.
    pub last_state: PassState,
    /// What failed in it.
    pub last_error: Option<String>,
    /// Warnings for `status`.
    pub notes: Vec<String>,
}

impl View {
    /// What the ledger knows of itself.
    pub fn meta(&self) -> Result<Meta> {
        let mut meta = self.run(read)?;
        // passes after which nothing was to be noted only touch a file
        let touched = std::fs::metadata(self.touched()).and_then(|m| m.modified()).ok();
        let touched = touched.and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        if let (Some(last), Some(t)) = (meta.last_pass, touched) {
            meta.last_pass = Some(last.max(i64::try_from(t.as_secs()).unwrap_or(last)));
        }
        Ok(meta)
    }

    fn touched(&self) -> PathBuf {
        self.path().with_extension("pass")
    }
}

impl Ledger {
    /// Notes how a pass ended. One that ended like the one before writes nothing: its time is that
    /// of a file beside the ledger, so that an idle pass waits for no disk (I5).
    pub fn note_pass(
        &mut self,
        at: i64,
        state: PassState,
        error: Option<String>,
        notes: &[String],
    ) -> Result<()> {
        let mut meta = self.run(read)?;
        let same = meta.last_pass.is_some()
            && meta.last_state == state
            && meta.last_error == error
            && meta.notes == notes;
        if same {
            let touched = self.touched();
            let done = std::fs::File::create(&touched);
            return done.map(|_| ()).map_err(|e| Error::io(Scope::Account, "write", &touched, &e));
        }
        meta.last_pass = Some(at);
        meta.last_state = state;
        meta.last_error = error;
        meta.notes = notes.to_vec();
        self.write(|tx| tx.set_meta(&meta))
    }
}

impl Tx<'_> {
    /// Writes what differs. The account's name is not among it.
    pub fn set_meta(&mut self, meta: &Meta) -> Result<()> {
        self.run(|c| {
            let old = read(c)?;
            if old == *meta {
                return Ok(());
            }
            run_one(
                c,
                "UPDATE meta SET id = ?1, generation = ?2, closed = ?3, host_user = ?4, host = ?5, \
                 created = ?6, last_pass = ?7, last_state = ?8, last_error = ?9",
                "meta",
                params![
                    format!("{:032x}", meta.id),
                    count_out(meta.generation)?,
                    meta.closed,
                    meta.host_user,
                    meta.host,
                    meta.created.unwrap_or(0),
                    meta.last_pass.unwrap_or(0),
                    meta.last_state.as_str(),
                    meta.last_error.as_deref().unwrap_or(""),
                ],
            )?;
            if old.notes != meta.notes {
                run(c, "DELETE FROM notes", [])?;
                for note in &meta.notes {
                    run(c, "INSERT INTO notes (note) VALUES (?1)", [note])?;
                }
            }
            Ok(())
        })
    }
}

/// The first meta of a new ledger.
pub(super) fn create(c: &Connection, account: &str, id: u128) -> Inner<()> {
    run(
        c,
        "INSERT INTO meta (one, id, account, generation, closed, host_user, host, created, \
         last_pass, last_state, last_error) VALUES (1, ?1, ?2, 0, 1, '', '', 0, 0, ?3, '')",
        params![format!("{id:032x}"), account, PassState::Never.as_str()],
    )?;
    Ok(())
}

pub(super) fn read(c: &Connection) -> Inner<Meta> {
    let notes = all(c, "SELECT note FROM notes ORDER BY position", [], |r| r.text())?;
    let meta = first(
        c,
        "SELECT id, account, generation, closed, host_user, host, created, last_pass, last_state, \
         last_error FROM meta",
        [],
        |r| {
            let id = r.text()?;
            let id = u128::from_str_radix(&id, 16)
                .map_err(|_| Fault::Unreadable(format!("{id:?} is no number of a ledger")))?;
            Ok(Meta {
                id,
                account: r.text()?,
                generation: r.count()?,
                closed: r.take()?,
                host_user: r.text()?,
                host: r.text()?,
                created: r.time()?,
                last_pass: r.time()?,
                last_state: PassState::read(&r.text()?)?,
                last_error: r.some_text()?,
                notes,
            })
        },
    )?;
    meta.ok_or_else(|| Fault::Unreadable("it says nothing of itself".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::ledger;

    #[test]
    fn a_new_ledger_says_that_no_pass_has_written_it() {
        let (_dir, l) = ledger();
        let m = l.meta().unwrap();
        assert_eq!((m.id, m.generation, m.closed), (0xfeed, 0, true));
        assert_eq!((m.account.as_str(), m.last_state), ("work", PassState::Never));
        assert_eq!((m.created, m.last_pass, m.last_error), (None, None, None));
    }

    #[test]
    fn what_is_noted_comes_back() {
        let (_dir, mut l) = ledger();
        let mut m = Meta {
            id: u128::MAX - 1,
            account: "work".into(),
            generation: 7,
            closed: false,
            host_user: "me@example.org:imap".into(),
            host: "box".into(),
            created: Some(1),
            last_pass: Some(2),
            last_state: PassState::Held,
            last_error: Some("cannot\nconnect".into()),
            notes: vec!["push: polling".into(), "two\nlines".into()],
        };
        l.write(|tx| tx.set_meta(&m)).unwrap();
        assert_eq!(l.meta().unwrap(), m);
        (m.notes, m.last_error) = (vec![], None);
        l.write(|tx| tx.set_meta(&m)).unwrap();
        assert_eq!(l.meta().unwrap(), m);
    }
}
