//! The root marker and the generation: whether this Maildir and this ledger belong together.
//!
//! Before the first write of a pass the generation is raised in the ledger (open), then in the
//! marker, then the ledger notes it closed. Any other difference at the start means that one of
//! the two was restored from a backup, and what the ledger says of the rest is out of date.

use std::path::{Path, PathBuf};

use super::pass::SharedLedger;
use crate::error::{Error, Kind, Result};
use crate::ledger::{Meta, Tx};
use crate::maildir::marker::{self, Line};

/// How Maildir and ledger stand at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They belong together.
    Together,
    /// The ledger is new to this Maildir: nothing of it is known.
    New,
    /// The Maildir had a ledger, which is lost; this one takes its place.
    Lost,
    /// One of the two is older than the other.
    Restored,
}

/// What the ledger says of itself, as far as the marker is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The ledger's id.
    pub id: u128,
    /// Its generation.
    pub generation: u64,
    /// Whether the last raise was completed.
    pub closed: bool,
    /// Whether any pass used it. One that was killed in its first raise did not.
    pub used: bool,
}

/// Compares a ledger with the marker's line. Pure. `take_over` accepts another host's line.
pub fn compare(
    claim: Claim,
    line: Option<&Line>,
    host: &str,
    take_over: bool,
) -> std::result::Result<Standing, Refused> {
    let Some(line) = line else {
        return if claim.used { Err(Refused::NoLine) } else { Ok(Standing::New) };
    };
    if line.host != host && !take_over {
        return Err(Refused::OtherHost(line.host.clone()));
    }
    if !claim.used && claim.id != line.ledger {
        return Ok(Standing::Lost);
    }
    let crashed_between = !claim.closed && claim.generation == line.generation + 1;
    Ok(if claim.id != line.ledger {
        Standing::Restored
    } else if claim.generation == line.generation || crashed_between {
        Standing::Together
    } else {
        Standing::Restored
    })
}

/// Why nothing may be touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The Maildir has no line of this account: it is not the one the ledger knows.
    NoLine,
    /// The line is another host's.
    OtherHost(String),
}

impl Refused {
    /// As an error about this root.
    pub fn error(&self, root: &Path) -> Error {
        let root = root.display();
        match self {
            Self::NoLine => Error::account(
                Kind::Maildir,
                format!(
                    "the maildir {root} is not the one that was synced: its .mailkeep does \
                         not name this account"
                ),
            )
            .next(
                "is its filesystem mounted? If the maildir is to be filled anew, move the \
                   account's ledger away from the state directory; nothing was touched",
            ),
            Self::OtherHost(host) => Error::account(
                Kind::Maildir,
                format!("the maildir {root} belongs to mailkeep on the host {host}"),
            )
            .next("stop it there, then run mailkeep sync --take-over here"),
        }
    }
}

/// Raises the generation once, before the first write of a pass.
#[derive(Debug)]
pub struct Guard {
    root: PathBuf,
    account: String,
    host: String,
    raised: bool,
    /// The ledger does not know yet that the marker was raised as well.
    to_close: bool,
    /// A dry run works on a copy of the ledger, and leaves the marker alone.
    scratch: bool,
}

impl Guard {
    /// Not raised yet. With `scratch` it never is.
    pub fn new(root: &Path, account: &str, host: &str, scratch: bool) -> Self {
        Self {
            root: root.to_owned(),
            account: account.to_owned(),
            host: host.to_owned(),
            raised: false,
            to_close: false,
            scratch,
        }
    }

    /// Raises the generation, if that was not done in this pass. A raise that was interrupted is
    /// completed first: however often we are killed, ledger and marker differ by one at most.
    pub fn open(&mut self, ledger: &SharedLedger) -> Result<()> {
        if self.raised || self.scratch {
            return Ok(());
        }
        let mut meta = ledger.with(|l| l.meta())?;
        if meta.generation > 0 && !meta.closed {
            self.mark(&meta)?;
        }
        meta.generation += 1;
        meta.closed = false;
        meta.host.clone_from(&self.host);
        ledger.with(|l| l.write(|tx| tx.set_meta(&meta)))?;
        self.mark(&meta)?;
        self.raised = true;
        self.to_close = true;
        Ok(())
    }

    /// Brings the marker to the ledger's generation.
    fn mark(&self, meta: &Meta) -> Result<()> {
        let line = Line { ledger: meta.id, generation: meta.generation, host: self.host.clone() };
        marker::write(&self.root, &self.account, Some(&line))
    }

    /// Notes that the marker has the generation too, together with whatever is written next: a
    /// crash before leaves it open, which is one of the states that belong together.
    pub fn close(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        if std::mem::take(&mut self.to_close) {
            let mut meta = tx.meta()?;
            meta.closed = true;
            tx.set_meta(&meta)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ledger: u128, generation: u64) -> Line {
        Line { ledger, generation, host: "here".into() }
    }

    fn claim(generation: u64, closed: bool) -> Claim {
        Claim { id: 7, generation, closed, used: true }
    }

    #[test]
    fn a_crash_between_ledger_and_marker_is_no_restore() {
        let together = [(4, true, 4), (4, false, 4), (5, false, 4)];
        for (ledger, closed, marker) in together {
            let s = compare(claim(ledger, closed), Some(&line(7, marker)), "here", false);
            assert_eq!(s, Ok(Standing::Together), "{ledger} {closed} {marker}");
        }
        let restored = [(5, true, 4), (3, true, 4), (3, false, 4), (6, false, 4)];
        for (ledger, closed, marker) in restored {
            let s = compare(claim(ledger, closed), Some(&line(7, marker)), "here", false);
            assert_eq!(s, Ok(Standing::Restored), "{ledger} {closed} {marker}");
        }
        let other = compare(claim(4, true), Some(&line(8, 4)), "here", false);
        assert_eq!(other, Ok(Standing::Restored));
    }

    #[test]
    fn a_maildir_without_our_line_is_not_touched() {
        assert_eq!(compare(claim(4, true), None, "here", false), Err(Refused::NoLine));
        let new = Claim { used: false, ..claim(0, true) };
        assert_eq!(compare(new, None, "here", false), Ok(Standing::New));
        assert_eq!(compare(new, Some(&line(9, 3)), "here", false), Ok(Standing::Lost));
        let first_raise = Claim { used: false, ..claim(1, false) };
        assert_eq!(compare(first_raise, None, "here", false), Ok(Standing::New));
        let marked = compare(first_raise, Some(&line(7, 1)), "here", false);
        assert_eq!(marked, Ok(Standing::Together));
        let away = compare(claim(4, true), Some(&line(7, 4)), "there", false);
        assert_eq!(away, Err(Refused::OtherHost("here".into())));
        assert_eq!(
            compare(claim(4, true), Some(&line(7, 4)), "there", true),
            Ok(Standing::Together)
        );
    }
}
