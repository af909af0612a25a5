//! Which folders there are and how they stand: LIST with STATUS, in one round trip where the
//! server allows; and making and removing folders.

use std::collections::BTreeMap;

use super::bounds::MOST_FOLDERS;
use super::names::{Hierarchy, encode};
use super::response::{Answer, List, Looks, Namespaces, StatusItems, Untagged};
use super::select::{Finding, Known, Opening, Selected};
use super::session::{Event, Folder, Session, line, quoted, unreadable, verdict};
use super::wire::Tag;
use crate::error::{Error, Kind, Refusal, Result, Scope};
use crate::model::{FolderName, ModSeq, SpecialUse, Uid, UidSet, UidValidity};

/// All folders of the account. There is one only if the server ended it in OK.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// In the server's order, INBOX first. No two have the same `name` or the same `wire`.
    pub folders: Vec<Listed>,
    /// Folders that cannot be mirrored: two names that mean the same, a name that is none. Scope
    /// folder. Such a folder exists all the same: what is not listed for this reason is not gone.
    pub errors: Vec<Error>,
}

/// One folder.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The name as the server spells it, for every later command.
    pub wire: Vec<u8>,
    /// The name for people, without the personal namespace's prefix.
    pub name: FolderName,
    /// The hierarchy separator; `None` for a flat name.
    pub separator: Option<u8>,
    /// Its special use, if the server marks one.
    pub special_use: Option<SpecialUse>,
    /// Whether it can hold messages.
    pub selectable: bool,
    /// Whether it is the user's own; else another user's or a shared one.
    pub personal: bool,
    /// The server's id of the folder (RFC 8474), which survives a rename.
    pub mailbox_id: Option<String>,
    /// How it stands; `None` where it is not selectable or `status_error` says why.
    pub status: Option<Status>,
    /// The server refused STATUS for this folder.
    pub status_error: Option<Error>,
}

/// How a folder stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// MESSAGES.
    pub messages: u32,
    /// UIDNEXT; `None` where the server does not say.
    pub uidnext: Option<Uid>,
    /// UIDVALIDITY; `None` where the server does not say.
    pub uidvalidity: Option<UidValidity>,
    /// HIGHESTMODSEQ; `None` for 0 or where the server does not say: flags change without a trace.
    pub modseq: Option<ModSeq>,
    /// MAILBOXID.
    pub mailbox_id: Option<String>,
}

/// What to learn of a folder that is opened while the folders are listed.
#[derive(Debug, Clone, Copy)]
pub enum Beside {
    /// What changed since, where the server can say that.
    Changes(Option<Known>),
    /// Its UIDs: nothing of it is known.
    Uids,
}

/// A folder that was opened while the folders were listed.
#[derive(Debug)]
pub struct Opened {
    /// How it was opened.
    pub selected: Selected,
    /// Its UIDs, if they were asked for and came. Compare their number with `exists()`.
    pub uids: Option<UidSet>,
}

/// How many STATUS commands wait for their answers at a time.
const STATUS_WINDOW: usize = 64;

impl Session {
    /// Whether the folders were listed in this session.
    pub fn has_listed(&self) -> bool {
        self.hierarchy.is_some()
    }

    /// Every folder with its status: one round trip where the server can (RFC 5819), else two.
    pub async fn list(&mut self) -> Result<Listing> {
        self.alive()?;
        let mut found = Found::default();
        let commands = self.listing_commands();
        self.pipeline(Scope::Account, 2, commands, |event| found.take(event)).await?;
        self.listing(found).await
    }

    /// Opens a folder, as `select` does, or as `select_listed` does, and lists, in one round trip.
    /// The folder comes first: Dovecot's LIST makes the next look into a Maildir read the whole of
    /// its `dovecot-uidlist`.
    pub async fn select_and_list(
        &mut self,
        wire: &[u8],
        write: bool,
        want: Beside,
    ) -> Result<(Result<Opened>, Listing)> {
        self.alive()?;
        let known = match want {
            // ENABLE is before it on the line; who did not understand that says BAD
            // (RFC 7162 3.2.5)
            Beside::Changes(known) => known.filter(|_| self.caps.qresync),
            Beside::Uids => None,
        };
        let mut commands = vec![self.opening(wire, write, known)?];
        if matches!(want, Beside::Uids) {
            commands.push(self.listing_uids());
        }
        let beside = commands.len();
        commands.extend(self.listing_commands());
        let mut waiting: Vec<(Tag, Vec<u8>)> =
            commands.into_iter().map(|c| (self.send(&c), c)).collect();
        let tag = |n: usize| waiting.get(n).map(|w| w.0);
        let (select, search) = (tag(0), tag(1).filter(|_| beside > 1));
        let mut opening = Some(Opening::new(known));
        let mut selected = Err(unreadable("SELECT"));
        let mut finding = Finding::default();
        let mut searched = Ok(());
        let mut found = Found::default();
        let mut listed = Ok(());
        self.begin_opening();
        while !waiting.is_empty() {
            let event = self.next().await?;
            // some answer commands side by side (RFC 9051 5.5)
            listed = listed.and_then(|()| found.take(&event));
            searched = searched.and_then(|()| finding.take(&event));
            if let Some(opening) = &mut opening {
                opening.take(&event)?;
            }
            let Event::Done(tag, answer) = event else { continue };
            let Some(at) = waiting.iter().position(|w| w.0 == tag) else { continue };
            let (_, command) = waiting.remove(at);
            if Some(tag) == search {
                // without an open folder it is refused (RFC 9051 6.4)
                searched = searched.and(verdict(Scope::Folder, &command, &answer));
            } else if Some(tag) != select {
                listed = listed.and(verdict(Scope::Account, &command, &answer));
            } else if let Some(opening) = opening.take() {
                let opened = verdict(Scope::Folder, &command, &answer);
                selected = self.end_opening(opened, opening, write);
            }
        }
        listed?;
        let uids = search.and_then(|_| searched.and_then(|()| finding.finish()).ok());
        let opened = selected.map(|selected| Opened { selected, uids });
        Ok((opened, self.listing(found).await?))
    }

    fn listing_commands(&self) -> Vec<Vec<u8>> {
        let mut commands = Vec::new();
        if self.caps.namespace && self.hierarchy.is_none() {
            commands.push(b"NAMESPACE".to_vec());
        }
        commands.push(self.list_command());
        commands
    }

    /// What was found, with its names understood and its statuses complete.
    async fn listing(&mut self, mut found: Found) -> Result<Listing> {
        let namespaces = found.namespaces.take();
        let known = self.hierarchy.take();
        if self.caps.namespace && known.is_none() && namespaces.is_none() {
            // without it every name could be another one
            return Err(unreadable("NAMESPACE").widen(Scope::Account));
        }
        let hierarchy = match (namespaces, known) {
            (None, Some(h)) => h,
            (n, _) => Hierarchy::new(n.unwrap_or_default(), found.separator()),
        };
        let mut listing = found.listing(&hierarchy);
        self.hierarchy = Some(hierarchy);
        self.wires = listing
            .folders
            .iter()
            .map(|f| (f.name.clone(), (f.wire.clone(), f.separator)))
            .collect();
        self.complete_status(&mut listing).await?;
        Ok(listing)
    }

    fn list_command(&self) -> Vec<u8> {
        let c = &self.caps;
        let mut wanted = Vec::new();
        if c.special_use && (c.list_extended || c.list_status) {
            wanted.push("SPECIAL-USE".to_owned());
        }
        if c.list_status {
            wanted.push(format!("STATUS {}", self.status_items()));
        }
        if wanted.is_empty() {
            return br#"LIST "" "*""#.to_vec();
        }
        format!(r#"LIST "" "*" RETURN ({})"#, wanted.join(" ")).into_bytes()
    }

    fn status_items(&self) -> String {
        let mut items = String::from("(MESSAGES UIDNEXT UIDVALIDITY");
        if self.caps.condstore {
            items.push_str(" HIGHESTMODSEQ");
        }
        if self.caps.status_mailbox_id {
            items.push_str(" MAILBOXID");
        }
        items.push(')');
        items
    }

    /// Asks for the status of what can be opened and came without (RFC 5819 2: where STATUS fails,
    /// LIST shows the folder all the same).
    async fn complete_status(&mut self, listing: &mut Listing) -> Result<()> {
        let missing: Vec<usize> = listing
            .folders
            .iter()
            .enumerate()
            .filter(|(_, f)| f.selectable && f.status.is_none())
            .map(|(i, _)| i)
            .collect();
        let wires: Vec<Vec<u8>> = missing
            .iter()
            .filter_map(|i| listing.folders.get(*i))
            .map(|f| f.wire.clone())
            .collect();
        let answers = self.status(&wires).await?;
        for ((i, wire), answer) in missing.into_iter().zip(&wires).zip(answers) {
            let ghost = matches!(answer, Ok(None))
                && listing.folders.iter().any(|o| below(wire, &o.wire, o.separator));
            let Some(f) = listing.folders.get_mut(i) else { continue };
            match answer {
                Ok(Some(s)) => {
                    f.mailbox_id = f.mailbox_id.take().or_else(|| s.mailbox_id.clone());
                    f.status = Some(s);
                }
                // it is listed for the sake of those below it, as a \Noselect one is
                Ok(None) if ghost => f.selectable = false,
                Ok(None) => {
                    f.status_error = Some(Error::refused(
                        Scope::Folder,
                        Refusal::NonExistent,
                        format!("the server lists {} and says there is no such folder", f.name),
                    ));
                }
                Err(e) => f.status_error = Some(e.at(format!("folder {}", f.name))),
            }
        }
        Ok(())
    }

    /// How these folders stand, pipelined. `None`: the server says there is no such folder.
    pub async fn status(&mut self, wires: &[Vec<u8>]) -> Result<Vec<Result<Option<Status>>>> {
        self.alive()?;
        let items = self.status_items();
        let words = self.caps.absent_text;
        let mut out: Vec<Option<Result<Option<Status>>>> = wires.iter().map(|_| None).collect();
        let mut todo = wires.iter().enumerate();
        let mut waiting: Vec<(Tag, usize, Vec<u8>)> = Vec::new();
        // a server may spell the name in its own way: then what came last is the answer
        let mut stray = None;
        loop {
            while waiting.len() < STATUS_WINDOW {
                let Some((i, wire)) = todo.next() else { break };
                match quoted(wire) {
                    Ok(name) => {
                        let command = line(&[b"STATUS", &name, items.as_bytes()]);
                        waiting.push((self.send(&command), i, command));
                    }
                    Err(e) => put(&mut out, i, Err(e)),
                }
            }
            if waiting.is_empty() {
                break;
            }
            match self.next().await? {
                Event::Data(Untagged::FolderStatus(s)) => {
                    let of = waiting
                        .iter()
                        .find(|w| wires.get(w.1).is_some_and(|name| same_wire(name, &s.name)));
                    match of {
                        Some(&(_, i, _)) => put(&mut out, i, Ok(status_of(&s))),
                        None => stray = status_of(&s),
                    }
                }
                Event::Done(tag, answer) => {
                    let Some(at) = waiting.iter().position(|w| w.0 == tag) else { continue };
                    let (_, i, command) = waiting.remove(at);
                    let stray = stray.take();
                    match verdict(Scope::Folder, &command, &answer) {
                        Ok(()) => {
                            let silent =
                                out.get(i).is_some_and(|o| !matches!(o, Some(Ok(Some(_)))));
                            if silent {
                                put(&mut out, i, stray.map(Some).ok_or_else(no_status));
                            }
                        }
                        Err(e) if absent(&e, &answer, words) => put(&mut out, i, Ok(None)),
                        Err(e) => put(&mut out, i, Err(e)),
                    }
                }
                _ => {}
            }
        }
        Ok(out.into_iter().map(|o| o.unwrap_or_else(|| Err(no_status()))).collect())
    }

    /// How the server would spell this name: as it was listed, else below its nearest listed
    /// ancestor, else in the personal namespace. Needs an earlier `list`.
    pub fn wire_for(&self, name: &FolderName) -> Result<Vec<u8>> {
        if let Some((wire, _)) = self.wires.get(name) {
            return Ok(wire.clone());
        }
        let cannot = || {
            let what = format!("the server cannot have a folder called {name}");
            Error::refused(Scope::Folder, Refusal::Cannot, what)
                .next("rename the folder here, without the server's separator in it, or exclude it")
        };
        let hierarchy = self.hierarchy.as_ref().ok_or_else(|| {
            Error::folder(Kind::Internal, "a folder was named before the folders were listed")
        })?;
        let parts: Vec<&str> = name.components().collect();
        for n in (1..parts.len()).rev() {
            let (above, below) = parts.split_at(n);
            let parent = FolderName::from_components(above.iter().copied());
            let listed = parent.and_then(|p| self.wires.get(&p));
            // INBOX is a prefix of names only where the server says so
            let Some((wire, Some(s))) = listed.filter(|(w, _)| !w.eq_ignore_ascii_case(b"INBOX"))
            else {
                continue;
            };
            let mut out = wire.clone();
            for part in below {
                out.push(*s);
                out.extend(encode(part));
            }
            let same = hierarchy.name_of(&out, Some(*s)).is_some_and(|(n, _)| n == *name);
            return if same { Ok(out) } else { Err(cannot()) };
        }
        hierarchy.wire_of(name).ok_or_else(cannot)
    }

    /// Makes a folder and subscribes it; its name as the server spells it. One that is there
    /// already is no error. It is marked with its use where the server lets it be (RFC 6154 3).
    pub async fn create(
        &mut self,
        name: &FolderName,
        special_use: Option<SpecialUse>,
    ) -> Result<Vec<u8>> {
        self.alive()?;
        let wire = self.wire_for(name)?;
        let arg = quoted(&wire)?;
        let plain = line(&[b"CREATE", &arg]);
        let marked = special_use.filter(|_| self.caps.create_special_use);
        let marked =
            marked.map(|u| line(&[&plain, format!("(USE ({}))", u.attribute()).as_bytes()]));
        let mut made = match &marked {
            Some(marked) => self.command(Scope::Folder, marked, |_| Ok(())).await,
            None => self.command(Scope::Folder, &plain, |_| Ok(())).await,
        };
        if marked.is_some() && made.as_ref().is_err_and(|e| e.kind == Kind::Refused) {
            // another has that use, or the server wants to give it itself: then nothing was made
            made = self.command(Scope::Folder, &plain, |_| Ok(())).await;
        }
        if let Err(e) = made {
            if e.kind != Kind::Refused {
                return Err(e);
            }
            // some say ALREADYEXISTS, some only NO
            let there = self.status(std::slice::from_ref(&wire)).await?;
            if !matches!(there.first(), Some(Ok(Some(_)))) {
                let named = matches!(
                    e.refusal,
                    Some(Refusal::Cannot | Refusal::Limit | Refusal::Bad | Refusal::Unsaid)
                );
                return Err(match named {
                    true => {
                        e.next("rename the folder here to what the server takes, or exclude it")
                    }
                    false => e,
                });
            }
        }
        self.send_aside(&line(&[b"SUBSCRIBE", &arg]));
        let separator = self.hierarchy.as_ref().and_then(Hierarchy::separator);
        self.wires.insert(name.clone(), (wire.clone(), separator));
        Ok(wire)
    }

    /// Whether folders stand below this one, by the last listing.
    pub fn has_below(&self, wire: &[u8]) -> bool {
        self.wires.values().any(|(w, s)| below(wire, w, *s))
    }

    /// Removes a folder, if opening it now shows it empty and nothing listed stands below it; else
    /// says `false`. Leaves no folder selected, if the server can do that.
    pub async fn delete_if_empty(&mut self, wire: &[u8]) -> Result<bool> {
        let arg = quoted(wire)?;
        if self.has_below(wire) {
            return Ok(false);
        }
        // read-only: where there is no UNSELECT, CLOSE then expunges nothing (RFC 9051 6.4.1)
        let selected = self.select(wire, false, None).await?;
        let empty = selected.exists == 0 && self.folder.exists == 0;
        let unselect = if self.caps.unselect { &b"UNSELECT"[..] } else { b"CLOSE" };
        match self.command(Scope::Folder, unselect, |_| Ok(())).await {
            Ok(()) => self.folder = Folder::default(),
            // pymap refuses CLOSE after EXAMINE; DELETE says whether it matters
            Err(e) if e.kind == Kind::Refused => tracing::debug!("{e}"),
            Err(e) => return Err(e),
        }
        if !empty {
            return Ok(false);
        }
        self.command(Scope::Folder, &line(&[b"DELETE", &arg]), |_| Ok(())).await?;
        self.send_aside(&line(&[b"UNSUBSCRIBE", &arg]));
        self.wires.retain(|_, (w, _)| w != wire);
        Ok(true)
    }
}

fn put(out: &mut [Option<Result<Option<Status>>>], i: usize, answer: Result<Option<Status>>) {
    if let Some(slot) = out.get_mut(i) {
        *slot = Some(answer);
    }
}

fn no_status() -> Error {
    Error::refused(
        Scope::Folder,
        Refusal::Unavailable,
        "the server said OK to STATUS and nothing else",
    )
    .next("it is tried again at the next pass")
}

/// Whether a refused STATUS means that there is no such folder. Only where it is said, by a code or
/// in the words of this server: NO alone may mean anything (I7), and so may BAD.
fn absent(e: &Error, answer: &Answer<'_>, words: Option<&str>) -> bool {
    matches!(e.refusal, Some(Refusal::NonExistent | Refusal::TryCreate))
        || e.refusal == Some(Refusal::Unsaid) && words.is_some_and(|w| answer.text.starts_with(w))
}

/// Whether the other name stands below this one.
fn below(wire: &[u8], other: &[u8], separator: Option<u8>) -> bool {
    let rest = other.strip_prefix(wire);
    rest.is_some_and(|rest| separator.is_some() && rest.first().copied() == separator)
}

fn same_wire(a: &[u8], b: &[u8]) -> bool {
    a == b || (a.eq_ignore_ascii_case(b"INBOX") && b.eq_ignore_ascii_case(b"INBOX"))
}

/// `None` without MESSAGES, which every server knows.
fn status_of(s: &StatusItems<'_>) -> Option<Status> {
    Some(Status {
        messages: s.messages?,
        uidnext: s.uidnext,
        uidvalidity: s.uidvalidity,
        modseq: s.modseq,
        mailbox_id: s.mailbox_id.map(|id| String::from_utf8_lossy(id).into_owned()),
    })
}

/// What LIST said, as spelled.
#[derive(Default)]
struct Found {
    namespaces: Option<Namespaces>,
    lines: Vec<(Vec<u8>, Option<u8>, Attributes)>,
    index: BTreeMap<Vec<u8>, usize>,
    status: BTreeMap<Vec<u8>, Status>,
    /// A line of the listing could not be read.
    unreadable: bool,
}

#[derive(Default, Clone, Copy)]
struct Attributes {
    special_use: Option<SpecialUse>,
    unselectable: bool,
}

/// Names are compared as spelled, INBOX in any case.
fn key(wire: &[u8]) -> Vec<u8> {
    if wire.eq_ignore_ascii_case(b"INBOX") { b"INBOX".to_vec() } else { wire.to_vec() }
}

impl Found {
    fn take(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            Event::Data(Untagged::Namespace(n)) => self.namespaces = Some(n.clone()),
            Event::Data(Untagged::List(l)) => self.add(l)?,
            Event::Data(Untagged::FolderStatus(s)) => self.note(s),
            Event::Data(Untagged::Unreadable(Looks::List)) => self.unreadable = true,
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, l: &List<'_>) -> Result<()> {
        if self.lines.len() >= MOST_FOLDERS {
            return Err(Error::account(
                Kind::Refused,
                format!("the server lists more than {MOST_FOLDERS} folders"),
            ));
        }
        let mut a = Attributes::default();
        for word in l.attributes.iter().filter_map(|a| std::str::from_utf8(a).ok()) {
            a.special_use = a.special_use.or_else(|| SpecialUse::from_attribute(word));
            a.unselectable |= word.eq_ignore_ascii_case("\\Noselect")
                || word.eq_ignore_ascii_case("\\NonExistent");
        }
        match self.index.get(&key(&l.name)).and_then(|i| self.lines.get_mut(*i)) {
            // listed twice, with some attributes each
            Some((_, _, had)) => {
                had.special_use = had.special_use.or(a.special_use);
                had.unselectable |= a.unselectable;
            }
            None => {
                self.index.insert(key(&l.name), self.lines.len());
                self.lines.push((l.name.to_vec(), l.separator, a));
            }
        }
        Ok(())
    }

    fn note(&mut self, s: &StatusItems<'_>) {
        if self.status.len() < MOST_FOLDERS
            && let Some(status) = status_of(s)
        {
            self.status.insert(key(&s.name), status);
        }
    }

    /// The separator of most names, for servers without NAMESPACE.
    fn separator(&self) -> Option<u8> {
        let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
        for s in self.lines.iter().filter_map(|l| l.1) {
            *counts.entry(s).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, n)| *n).map(|(s, _)| s)
    }

    fn listing(mut self, hierarchy: &Hierarchy) -> Listing {
        let mut out = Listing::default();
        if self.unreadable {
            out.errors.push(unreadable("LIST"));
        }
        let mut taken: BTreeMap<FolderName, Vec<u8>> = BTreeMap::new();
        // INBOX first: whatever else would be called that is the one that has to yield
        self.lines.sort_by_key(|(wire, _, _)| !wire.eq_ignore_ascii_case(b"INBOX"));
        for (wire, separator, a) in self.lines {
            let Some((name, personal)) = hierarchy.name_of(&wire, separator) else {
                // the namespace's root
                if !a.unselectable {
                    let what =
                        format!("the folder {:?} has no name", wire.escape_ascii().to_string());
                    out.errors.push(Error::folder(Kind::Refused, what));
                }
                continue;
            };
            if let Some(other) = taken.get(&name) {
                let what = format!(
                    "the server's folders \"{}\" and \"{}\" would both be called {name}",
                    other.escape_ascii(),
                    wire.escape_ascii()
                );
                out.errors
                    .push(Error::folder(Kind::Refused, what).next(
                        "rename one of them on the server; the first is mirrored until then",
                    ));
                continue;
            }
            taken.insert(name.clone(), wire.clone());
            let status = if a.unselectable { None } else { self.status.remove(&key(&wire)) };
            out.folders.push(Listed {
                name,
                separator,
                special_use: a.special_use,
                selectable: !a.unselectable,
                personal,
                mailbox_id: status.as_ref().and_then(|s| s.mailbox_id.clone()),
                status,
                status_error: None,
                wire,
            });
        }
        out
    }
}
