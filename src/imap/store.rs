//! Changing what is there: flags, copies, moves, deletions. All by UID.

use super::code::{Code, CopyPairs};
use super::response::Untagged;
use super::session::{Event, Session, line, quoted, refused};
use crate::error::{Refusal, Result, Scope};
use crate::model::{Flags, SystemFlags, Uid, UidSet, UidValidity};

/// Where copies or moved messages went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyUid {
    /// The server said so. What is not in `pairs` was not copied or moved.
    Known {
        /// Of the target folder.
        uidvalidity: UidValidity,
        /// (UID here, UID there).
        pairs: Vec<(Uid, Uid)>,
    },
    /// It did not say, or nothing readable: the new UIDs are found by pairing.
    Unknown,
}

/// One change of flags for many messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagChange {
    /// The messages.
    pub set: UidSet,
    /// Flags to set.
    pub add: Flags,
    /// Flags to clear.
    pub remove: Flags,
}

/// What became of messages to be expunged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expunged {
    /// They are gone.
    Done,
    /// They are marked `\Deleted` and still there: without UIDPLUS others' marks would go too.
    Marked,
}

/// How many commands wait for their answers at a time.
const WINDOW: usize = 4;
/// Ranges in one command: no line over 8000 octets (servers take 8192, RFC 7162 4), whatever the
/// numbers.
pub(super) const RANGES: usize = 350;

/// A set in parts for commands that have so many bytes beside it.
fn parts(set: &UidSet, besides: usize) -> Vec<UidSet> {
    // of a range 22 bytes, of tag and verb 40
    let room = 7960usize.saturating_sub(besides) / 22;
    set.chunks(u32::MAX, room.clamp(1, RANGES))
}

impl Session {
    /// Adds and removes flags; what is in neither stays. Messages that are not there any more are
    /// passed over by the server.
    pub async fn store(&mut self, changes: &[FlagChange]) -> Result<()> {
        let mut commands = Vec::new();
        for c in changes {
            for (how, flags) in [("+FLAGS.SILENT", &c.add), ("-FLAGS.SILENT", &c.remove)] {
                if flags.is_empty() {
                    continue;
                }
                let names = flags.to_text();
                for part in parts(&c.set, names.len()) {
                    commands.push(format!("UID STORE {part} {how} ({names})").into_bytes());
                }
            }
        }
        self.folder.fetching = true; // CONDSTORE servers answer with MODSEQ all the same
        let done = self.pipeline(Scope::Folder, WINDOW, commands, |_| Ok(())).await;
        self.folder.fetching = false;
        done
    }

    /// Copies within the account. After a refusal some may have been copied: that is for pairing.
    pub async fn copy(&mut self, set: &UidSet, to_wire: &[u8]) -> Result<CopyUid> {
        self.transfer("UID COPY", set, to_wire).await
    }

    /// Whether messages are moved by MOVE. Some offer it and refuse it (go-imap's memory store),
    /// which only the first one shows.
    pub fn moves(&self) -> bool {
        self.caps.moves && !self.no_move
    }

    /// Moves within the account: MOVE, else COPY, `\Deleted` and expunge. After a refusal some may
    /// have been moved: that is for pairing. If it was MOVE itself that was refused, the next call
    /// does without.
    pub async fn move_messages(
        &mut self,
        set: &UidSet,
        to_wire: &[u8],
    ) -> Result<(CopyUid, Expunged)> {
        if self.moves() {
            self.folder.removing = true;
            let done = self.transfer("UID MOVE", set, to_wire).await;
            self.folder.removing = false;
            // no other reason is given
            self.no_move = done.as_ref().is_err_and(|e| {
                matches!(e.refusal, Some(Refusal::Bad | Refusal::Cannot | Refusal::Unsaid))
            });
            return Ok((done?, Expunged::Done));
        }
        let copied = self.copy(set, to_wire).await?;
        // only what is known to be there goes from here
        let there = match &copied {
            CopyUid::Known { pairs, .. } => pairs.iter().map(|p| p.0).collect(),
            CopyUid::Unknown => set.clone(),
        };
        let expunged = match self.expunge(&there).await {
            // copied all the same: the originals are left, and must not be copied again
            Err(e) if e.kind == crate::error::Kind::Refused => Expunged::Marked,
            done => done?,
        };
        Ok((copied, expunged))
    }

    async fn transfer(&mut self, verb: &str, set: &UidSet, to_wire: &[u8]) -> Result<CopyUid> {
        let target = quoted(to_wire)?;
        let parts = parts(set, target.len());
        let commands: Vec<Vec<u8>> = parts
            .iter()
            .map(|part| line(&[format!("{verb} {part}").as_bytes(), &target]))
            .collect();
        let wanted = commands.len();
        let mut said: Vec<Option<CopyPairs>> = Vec::new();
        self.pipeline(Scope::Folder, WINDOW, commands, |event| {
            // of MOVE it comes untagged (RFC 6851 4.3), of COPY in the tagged answer
            if let Event::Done(_, a) | Event::Data(Untagged::Status(a)) = event
                && let Some(Code::CopyUid(c)) = &a.code
            {
                said.push(c.clone());
            }
            Ok(())
        })
        .await?;
        Ok(merge(wanted, said, set))
    }

    /// Marks `\Deleted` and expunges exactly these. Without UIDPLUS only where nothing else is
    /// marked; never CLOSE.
    pub async fn expunge(&mut self, set: &UidSet) -> Result<Expunged> {
        if set.is_empty() {
            return Ok(Expunged::Done);
        }
        let deleted = Flags { system: SystemFlags::DELETED, ..Flags::default() };
        let mark = FlagChange { set: set.clone(), add: deleted, remove: Flags::default() };
        self.store(&[mark]).await?;
        let commands: Vec<Vec<u8>> = if self.caps.uidplus {
            let parts = parts(set, 0);
            parts.iter().map(|p| format!("UID EXPUNGE {p}").into_bytes()).collect()
        } else {
            let marked = self.search(b"DELETED").await?;
            if marked.iter().any(|u| !set.contains(u)) {
                return Ok(Expunged::Marked);
            }
            vec![b"EXPUNGE".to_vec()]
        };
        let before = self.folder.exists;
        self.folder.removing = true;
        let done = self.pipeline(Scope::Folder, WINDOW, commands, |_| Ok(())).await;
        self.folder.removing = false;
        done?;
        // OK does not say that they are gone: Dovecot 2.3 answers "OK Expunge ignored: Permission
        // denied" where the right is missing (RFC 4314 4 asks for NO)
        let removed = u64::from(before.saturating_sub(self.folder.exists));
        if removed < set.len() {
            for part in parts(set, 0) {
                if !self.search(format!("UID {part}").as_bytes()).await?.is_empty() {
                    let what = "the server said OK to EXPUNGE and expunged nothing";
                    return Err(refused(Scope::Folder, Refusal::NoPerm, what));
                }
            }
        }
        Ok(Expunged::Done)
    }
}

/// One answer of several commands. If any of them did not say, or said what cannot be, nothing is
/// known: what is left out of a `Known` counts as not moved.
fn merge(wanted: usize, said: Vec<Option<CopyPairs>>, set: &UidSet) -> CopyUid {
    if said.len() != wanted {
        return CopyUid::Unknown;
    }
    let mut epoch = None;
    let mut pairs = Vec::new();
    let (mut from, mut to) = (UidSet::new(), UidSet::new());
    for one in said {
        let Some((v, some)) = one else { return CopyUid::Unknown };
        if epoch.is_some_and(|e| e != v) {
            return CopyUid::Unknown;
        }
        epoch = Some(v);
        for (a, b) in some {
            if !set.contains(a) || from.contains(a) || to.contains(b) {
                return CopyUid::Unknown;
            }
            from.insert(a);
            to.insert(b);
            pairs.push((a, b));
        }
    }
    match epoch {
        Some(uidvalidity) => CopyUid::Known { uidvalidity, pairs },
        None => CopyUid::Unknown,
    }
}
