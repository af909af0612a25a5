//! Files without a row that stay so (held, refused, waiting for the server): what they were when they
//! were read, so that a pass in which nothing changed need not read them again.

use std::collections::BTreeMap;

use rusqlite::params;

use super::values::{all, count_out, hash_out, run, run_one};
use super::{Tx, View};
use crate::Result;
use crate::model::Identity;

impl View {
    /// What is known of files without a row, by [`crate::maildir::stamp`].
    pub fn unmatched(&self) -> Result<BTreeMap<Vec<u8>, Identity>> {
        self.run(|c| {
            let found = all(
                c,
                "SELECT stamp, content, reader, message_id, date, wire_size, internal_date, '' \
                 FROM unmatched ORDER BY stamp",
                [],
                |r| Ok((r.take()?, r.identity()?)),
            )?;
            Ok(found.into_iter().collect())
        })
    }
}

impl Tx<'_> {
    /// Remembers these files and forgets all others. Writes nothing if it knows the same already.
    pub fn remember_unmatched(&mut self, files: &BTreeMap<Vec<u8>, Identity>) -> Result<()> {
        let known = self.unmatched()?;
        self.run(|c| {
            for stamp in known.keys().filter(|s| !files.contains_key(*s)) {
                run_one(c, "DELETE FROM unmatched WHERE stamp = ?1", "that file", [stamp])?;
            }
            for (stamp, i) in files.iter().filter(|(s, _)| !known.contains_key(*s)) {
                run(
                    c,
                    "INSERT INTO unmatched (stamp, content, reader, message_id, date, wire_size, \
                     internal_date) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        stamp,
                        hash_out(i.content.as_ref()),
                        hash_out(i.reader.as_ref()),
                        &*i.fingerprint.message_id,
                        &*i.fingerprint.date,
                        count_out(i.wire_size)?,
                        i.internal_date,
                    ],
                )?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::{identity, ledger};

    #[test]
    fn only_the_last_ones_are_known() {
        let (_dir, mut l) = ledger();
        let files = |all: &[u8]| -> BTreeMap<Vec<u8>, Identity> {
            all.iter().map(|n| (vec![*n], identity(u32::from(*n)))).collect()
        };
        for all in [&[1, 2][..], &[1, 2], &[2, 3], &[]] {
            l.write(|tx| tx.remember_unmatched(&files(all))).unwrap();
            assert_eq!(l.unmatched().unwrap(), files(all));
        }
    }
}
