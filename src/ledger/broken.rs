//! POP3 messages at which a session broke: they must not hold up those behind them again.

use rusqlite::params;

use super::values::{all, count_out, run};
use super::{Tx, View};
use crate::Result;
use crate::model::BrokenUidl;

impl View {
    /// All of an epoch.
    pub fn broken(&self, epoch: u32) -> Result<Vec<BrokenUidl>> {
        self.run(|c| {
            all(
                c,
                "SELECT uidl, size, times, last, error FROM broken WHERE epoch = ?1 ORDER BY uidl",
                [epoch],
                |r| {
                    Ok(BrokenUidl {
                        uidl: r.take::<Vec<u8>>()?.into(),
                        size: r.count()?,
                        times: r.number(Some)?.unwrap_or(0),
                        last: r.take()?,
                        error: r.text()?,
                    })
                },
            )
        })
    }
}

impl Tx<'_> {
    /// Remembers these and forgets all others. Writes nothing if it knows the same already.
    pub fn remember_broken(&mut self, epoch: u32, rows: &[BrokenUidl]) -> Result<()> {
        if self.broken(epoch)? == rows {
            return Ok(());
        }
        self.run(|c| {
            run(c, "DELETE FROM broken", [])?;
            for r in rows {
                run(
                    c,
                    "INSERT INTO broken (epoch, uidl, size, times, last, error) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![epoch, &r.uidl[..], count_out(r.size)?, r.times, r.last, r.error],
                )?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::ledger;

    #[test]
    fn they_come_back_in_order_and_are_forgotten_with_their_server() {
        let (_dir, mut l) = ledger();
        let row = |uidl: &str, times| BrokenUidl {
            uidl: uidl.as_bytes().into(),
            size: 7,
            times,
            last: -5,
            error: "it hung up".into(),
        };
        for rows in [vec![row("a", 1), row("b", 3)], vec![row("b", 4)], vec![]] {
            l.write(|tx| tx.remember_broken(2, &rows)).unwrap();
            assert_eq!(l.broken(2).unwrap(), rows);
            assert_eq!(l.broken(1).unwrap(), []);
        }
    }
}
