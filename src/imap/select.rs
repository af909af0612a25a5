//! Opening a folder, with what changed since the last time where the server can say so.

use super::code::Code;
use super::list::Status;
use super::response::{Looks, Untagged};
use super::session::{Event, Folder, Noticed, Session, line, quoted, unreadable};
use super::wire::Tag;
use crate::error::{Error, Refusal, Result, Scope};
use crate::model::{Flags, Keyword, ModSeq, PermanentFlags, SystemFlags, Uid, UidSet, UidValidity};

/// What was known of a folder when it was observed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its epoch then.
    pub uidvalidity: UidValidity,
    /// Its HIGHESTMODSEQ then.
    pub modseq: ModSeq,
    /// Its UIDNEXT then: all below have been observed.
    pub uidnext: Uid,
}

/// An open folder.
#[derive(Debug, Clone)]
pub struct Selected {
    /// `None`: the server has no persistent UIDs here, so the folder cannot be mirrored.
    pub uidvalidity: Option<UidValidity>,
    /// `None` where the server does not say (RFC 3501 allows that).
    pub uidnext: Option<Uid>,
    /// How many messages are in it.
    pub exists: u32,
    /// HIGHESTMODSEQ; `None` for NOMODSEQ, 0, or where the server does not say.
    pub modseq: Option<ModSeq>,
    /// What can be stored for good.
    pub permanent: PermanentFlags,
    /// Opened read-only, whether or not that was asked.
    pub read_only: bool,
    /// What changed since `Known`: only with QRESYNC, and only where UIDVALIDITY is the same.
    pub delta: Option<Delta>,
    /// MAILBOXID (RFC 8474).
    pub mailbox_id: Option<String>,
}

impl Selected {
    /// The same as STATUS would say it.
    pub fn status(&self) -> Status {
        Status {
            messages: self.exists,
            uidnext: self.uidnext,
            uidvalidity: self.uidvalidity,
            modseq: self.modseq,
            mailbox_id: self.mailbox_id.clone(),
        }
    }
}

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// UIDs below the known UIDNEXT that are not there any more (may name some that never were).
    pub vanished: UidSet,
    /// New and changed messages with all their flags, in the server's order.
    pub changed: Vec<(Uid, Flags)>,
}

/// A delta that would take more memory than this is not collected: then everything is listed.
const LARGEST_DELTA: usize = 64 * 1024 * 1024;

/// More messages than this are in no folder.
const MOST_FOUND: u64 = 10_000_000;

impl Session {
    /// Opens a folder: EXAMINE unless `write`. With `known` and QRESYNC the delta comes along.
    pub async fn select(
        &mut self,
        wire: &[u8],
        write: bool,
        known: Option<Known>,
    ) -> Result<Selected> {
        self.alive()?;
        if self.caps.qresync && !self.qresync && known.is_some() && self.unsettled() {
            // whether ENABLE was understood decides what may be sent
            self.settle().await?;
        }
        let known = known.filter(|_| self.qresync && self.caps.qresync);
        let command = self.opening(wire, write, known)?;
        let tag = self.send(&command);
        self.opened(tag, &command, Opening::new(known), write).await
    }

    /// Opens a folder of which nothing is known, and lists its UIDs in the same round trip. Compare
    /// their number with `exists()`.
    pub async fn select_listed(&mut self, wire: &[u8], write: bool) -> Result<(Selected, UidSet)> {
        self.alive()?;
        let command = self.opening(wire, write, None)?;
        let search = self.listing_uids();
        let tags = (self.send(&command), self.send(&search));
        let opened = self.opened(tags.0, &command, Opening::new(None), write).await;
        // without an open folder it is refused, and that answer is waited for too (RFC 9051 6.4)
        let found = self.found(tags.1, &search).await;
        Ok((opened?, found?))
    }

    pub(super) fn opening(
        &self,
        wire: &[u8],
        write: bool,
        known: Option<Known>,
    ) -> Result<Vec<u8>> {
        let mut command = if write { b"SELECT ".to_vec() } else { b"EXAMINE ".to_vec() };
        command.extend(quoted(wire)?);
        match known {
            Some(k) => {
                // All there are: new messages come along (of those outside nothing would be said,
                // RFC 7162 3.2.5.1), and no server has to say what `*` is. What vanished above
                // UIDNEXT is of no interest, and is dropped.
                let (v, m, all) = (k.uidvalidity, k.modseq, Uid::MAX);
                command.extend(format!(" (QRESYNC ({v} {m} 1:{all}))").into_bytes());
            }
            // ENABLE did this already, where there is ENABLE (RFC 7162 3.1)
            None if self.caps.condstore && !self.caps.enable => {
                command.extend_from_slice(b" (CONDSTORE)");
            }
            None => {}
        }
        Ok(command)
    }

    async fn opened(
        &mut self,
        tag: Tag,
        command: &[u8],
        mut opening: Opening,
        write: bool,
    ) -> Result<Selected> {
        self.begin_opening();
        let opened = self.answered(Scope::Folder, tag, command, |e| opening.take(e)).await;
        self.end_opening(opened, opening, write)
    }

    pub(super) fn begin_opening(&mut self) {
        self.folder = Folder { fetching: true, ..Folder::default() };
    }

    /// To be called on the answer to SELECT, before any later response.
    pub(super) fn end_opening(
        &mut self,
        opened: Result<()>,
        mut opening: Opening,
        write: bool,
    ) -> Result<Selected> {
        self.folder.fetching = false;
        self.folder.noticed = Noticed::default();
        opened?;
        self.folder.selected = true;
        // before [CLOSED] it was the other folder that was counted
        self.folder.exists = opening.exists;
        // what is enabled may be known only now
        opening.known = opening.known.filter(|_| self.qresync && self.caps.qresync);
        Ok(opening.finish(write))
    }

    /// The UIDs of all messages of the selected folder. Compare its size with `exists()`.
    pub async fn uids(&mut self) -> Result<UidSet> {
        self.search(b"ALL").await
    }

    /// The UIDs from this one on. `n:*` has the last message in it, whatever its UID (RFC 3501 6.4.8).
    pub async fn uids_from(&mut self, from: Uid) -> Result<UidSet> {
        let found = self.search(format!("UID {from}:*").as_bytes()).await?;
        Ok(found.iter().filter(|u| *u >= from).collect())
    }

    /// The UIDs of the messages that match.
    pub(super) async fn search(&mut self, criteria: &[u8]) -> Result<UidSet> {
        self.alive()?;
        let command = self.search_command(criteria);
        let tag = self.send(&command);
        self.found(tag, &command).await
    }

    /// The command that lists the UIDs of the open folder.
    pub(super) fn listing_uids(&self) -> Vec<u8> {
        self.search_command(b"ALL")
    }

    fn search_command(&self, criteria: &[u8]) -> Vec<u8> {
        let how: &[u8] = if self.caps.esearch { b"UID SEARCH RETURN (ALL)" } else { b"UID SEARCH" };
        line(&[how, criteria])
    }

    async fn found(&mut self, tag: Tag, command: &[u8]) -> Result<UidSet> {
        let mut finding = Finding::default();
        self.answered(Scope::Folder, tag, command, |event| finding.take(event)).await?;
        finding.finish()
    }
}

/// What comes while a search is under way.
#[derive(Default)]
pub(super) struct Finding(Option<UidSet>);

impl Finding {
    pub(super) fn take(&mut self, event: &Event<'_>) -> Result<()> {
        let uids = match event {
            Event::Data(Untagged::Search(uids)) => uids,
            Event::Data(Untagged::Esearch { all, .. }) => all,
            Event::Data(Untagged::Unreadable(Looks::Search)) => return Err(unreadable("SEARCH")),
            _ => return Ok(()),
        };
        match &mut self.0 {
            None => self.0 = Some(uids.clone()),
            Some(f) => uids.ranges().for_each(|(a, b)| f.insert_range(a, b)),
        }
        Ok(())
    }

    /// No answer is an error, not an empty one.
    pub(super) fn finish(self) -> Result<UidSet> {
        let found = self.0.ok_or_else(|| {
            let what = "the server said OK to SEARCH and nothing else";
            Error::refused(Scope::Folder, Refusal::Unsaid, what)
                .next("it is tried again at the next pass")
        })?;
        // a range is a few bytes, however many messages it claims: callers go through them all
        if found.len() > MOST_FOUND {
            let what = format!("the server finds {} messages", found.len());
            return Err(Error::refused(Scope::Folder, Refusal::Unsaid, what)
                .next("no folder is that large; exclude it if the server really has it"));
        }
        Ok(found)
    }
}

/// What comes while a folder is opened.
pub(super) struct Opening {
    selected: Selected,
    exists: u32,
    known: Option<Known>,
    delta: Delta,
    /// Memory of the delta, roughly.
    cost: usize,
    /// The delta is complete as far as can be told.
    whole: bool,
    says_read_only: Option<bool>,
    says_permanent: bool,
    flags: PermanentFlags,
}

impl Opening {
    pub(super) fn new(known: Option<Known>) -> Self {
        Self {
            selected: Selected {
                uidvalidity: None,
                uidnext: None,
                exists: 0,
                modseq: None,
                permanent: PermanentFlags::default(),
                read_only: false,
                delta: None,
                mailbox_id: None,
            },
            exists: 0,
            known,
            delta: Delta::default(),
            cost: 0,
            whole: true,
            says_read_only: None,
            says_permanent: false,
            flags: PermanentFlags::default(),
        }
    }

    pub(super) fn take(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            Event::Done(_, answer) | Event::Data(Untagged::Status(answer)) => {
                if let Some(code) = &answer.code {
                    self.code(code);
                }
            }
            Event::Data(Untagged::Exists(n)) => self.exists = *n,
            Event::Data(Untagged::Expunge(_)) => self.exists = self.exists.saturating_sub(1),
            Event::Data(Untagged::Vanished { earlier, uids }) => {
                if !earlier {
                    let n = u32::try_from(uids.len()).unwrap_or(u32::MAX);
                    self.exists = self.exists.saturating_sub(n);
                }
                self.cost += 8 * uids.ranges().count();
                if self.affordable() {
                    uids.ranges().for_each(|(a, b)| self.delta.vanished.insert_range(a, b));
                }
            }
            Event::Data(Untagged::Fetch(f)) => match (f.uid, &f.flags) {
                (Some(uid), Some(flags)) => {
                    self.cost += 64 + 96 * flags.keywords.len();
                    if self.affordable() {
                        self.delta.changed.push((uid, flags.clone()));
                    }
                }
                // of whom, or what?
                _ => self.whole = false,
            },
            Event::Data(Untagged::Unreadable(_)) => self.whole = false,
            _ => {}
        }
        Ok(())
    }

    fn affordable(&mut self) -> bool {
        if self.cost > LARGEST_DELTA {
            self.whole = false;
            self.delta = Delta::default();
        }
        self.whole && self.known.is_some()
    }

    fn code(&mut self, code: &Code<'_>) {
        let s = &mut self.selected;
        match code {
            Code::Closed => *self = Self::new(self.known),
            Code::UidValidity(v) => s.uidvalidity = *v,
            Code::UidNext(u) => s.uidnext = *u,
            Code::HighestModSeq(m) => s.modseq = *m,
            Code::NoModSeq => s.modseq = None,
            Code::UidNotSticky => s.uidvalidity = None,
            Code::MailboxId(id) => s.mailbox_id = Some(String::from_utf8_lossy(id).into_owned()),
            Code::ReadOnly => self.says_read_only = Some(true),
            Code::ReadWrite => self.says_read_only = Some(false),
            Code::PermanentFlags(words) => {
                self.says_permanent = true;
                self.flags = permanent(words);
            }
            _ => {}
        }
    }

    fn finish(self, write: bool) -> Selected {
        let mut s = self.selected;
        s.exists = self.exists;
        s.read_only = self.says_read_only.unwrap_or(!write);
        s.permanent = if self.says_permanent {
            self.flags
        } else {
            // RFC 9051 7.1: without PERMANENTFLAGS all flags can be stored
            PermanentFlags::all()
        };
        if let Some(k) = self.known {
            let comparable = s.uidvalidity == Some(k.uidvalidity) && s.modseq.is_some();
            if comparable && self.whole {
                let mut delta = self.delta;
                delta.vanished = below(&delta.vanished, k.uidnext);
                s.delta = Some(delta);
            }
        }
        s
    }
}

/// Those smaller than `end`: a server may name UIDs that were never seen here (RFC 7162 3.2.6).
fn below(set: &UidSet, end: Uid) -> UidSet {
    let mut out = UidSet::new();
    let Some(last) = Uid::new(end.get() - 1) else { return out };
    for (a, b) in set.ranges().take_while(|(a, _)| *a <= last) {
        out.insert_range(a, b.min(last));
    }
    out
}

fn permanent(words: &[&[u8]]) -> PermanentFlags {
    let mut p = PermanentFlags::default();
    for word in words.iter().filter_map(|w| std::str::from_utf8(w).ok()) {
        if word == "\\*" {
            p.any_keyword = true;
        } else if let Some(f) = SystemFlags::from_imap(word) {
            p.system = p.system.union(f);
        } else if let Some(k) = Keyword::new(word) {
            p.keywords.insert(k);
        }
    }
    if p.any_keyword && p.system.minus(SystemFlags::FORWARDED).is_empty() {
        // go-imap names none of the system flags, and stores them all
        return PermanentFlags::all();
    }
    if p.any_keyword {
        // `$Forwarded` has a letter, and is a keyword to the server all the same
        p.system = p.system.union(SystemFlags::FORWARDED);
    }
    p
}
