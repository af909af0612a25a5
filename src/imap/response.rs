//! One complete response, its literals inline, to a typed one. Pure; borrows from the frame, so
//! that a message's bytes are not copied between the socket and whoever stores them.
//!
//! Not `imap_proto::parse_response`: of what we ask for it cannot read NAMESPACE, ESEARCH, STATUS
//! with SIZE or MAILBOXID, LIST with extended data, names that are not UTF-8, a `[COPYUID]` that is
//! malformed, most codes of RFC 5530, X-GM-MSGID beside unknown items; one such item loses the
//! whole response, and it recurses as deep as the server nests. The tests hold this parser against
//! it for what both can read.

use std::borrow::Cow;

use super::code::Code;
use super::date;
use super::token::{Cursor, collect_ranges, number, number32, uid_set};
use crate::model::{Flags, Keyword, ModSeq, SystemFlags, Uid, UidSet, UidValidity};

/// A response.
#[derive(Debug, PartialEq)]
pub enum Response<'a> {
    /// The end of a command.
    Tagged {
        /// Which command's.
        tag: &'a [u8],
        /// How it ended, and why.
        answer: Answer<'a>,
    },
    /// `+`: the server waits for more of the command. Its text.
    Continuation(&'a [u8]),
    /// Anything else.
    Untagged(Untagged<'a>),
}

/// A status response (RFC 9051 7.1).
#[derive(Debug, PartialEq)]
pub struct Answer<'a> {
    /// OK, NO, …
    pub condition: Condition,
    /// What is in brackets.
    pub code: Option<Code<'a>>,
    /// The text for people.
    pub text: Cow<'a, str>,
}

/// The condition of a status response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Ok,
    No,
    Bad,
    Bye,
    PreAuth,
}

/// An untagged response.
#[derive(Debug, PartialEq)]
pub enum Untagged<'a> {
    /// OK, NO, BAD, BYE, PREAUTH.
    Status(Answer<'a>),
    /// CAPABILITY.
    Capability(Vec<&'a [u8]>),
    /// ENABLED.
    Enabled(Vec<&'a [u8]>),
    /// How many messages there are.
    Exists(u32),
    /// A message is gone; by its sequence number.
    Expunge(u32),
    /// Messages are gone, by UID. `earlier`: since the known mod-sequence, not just now.
    Vanished { earlier: bool, uids: UidSet },
    /// Of one message.
    Fetch(Fetch<'a>),
    /// LIST or LSUB.
    List(List<'a>),
    /// STATUS.
    FolderStatus(StatusItems<'a>),
    /// SEARCH.
    Search(UidSet),
    /// ESEARCH with UID: the tag it answers, and ALL.
    Esearch { tag: Option<Cow<'a, [u8]>>, all: UidSet },
    /// NAMESPACE.
    Namespace(Namespaces),
    /// ID: keys and values.
    Id(Vec<(String, String)>),
    /// Legal, and of no use here: RECENT, FLAGS, …
    Ignored,
    /// Not readable as what it says it is.
    Unreadable(Looks),
}

/// What an unreadable response was meant to be: who waits for such ones has not heard everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    Fetch,
    List,
    Search,
    Other,
}

impl Looks {
    fn like(line: &[u8]) -> Self {
        let mut words = line.split(|b| *b == b' ').skip(1).take(2);
        let first = words.next().unwrap_or_default().to_ascii_uppercase();
        let second = words.next().unwrap_or_default();
        match first.as_slice() {
            b"LIST" => Self::List,
            b"SEARCH" | b"ESEARCH" => Self::Search,
            _ if second.eq_ignore_ascii_case(b"FETCH") => Self::Fetch,
            _ => Self::Other,
        }
    }
}

/// LIST.
#[derive(Debug, PartialEq)]
pub struct List<'a> {
    /// `\HasChildren`, `\Sent`, …
    pub attributes: Vec<&'a [u8]>,
    /// The hierarchy separator.
    pub separator: Option<u8>,
    /// The name as spelled.
    pub name: Cow<'a, [u8]>,
}

/// STATUS. What is missing, malformed or too large is `None`.
#[derive(Debug, PartialEq)]
pub struct StatusItems<'a> {
    /// The name as spelled, which need not be as we spelled it.
    pub name: Cow<'a, [u8]>,
    pub messages: Option<u32>,
    pub uidnext: Option<Uid>,
    pub uidvalidity: Option<UidValidity>,
    pub modseq: Option<ModSeq>,
    pub mailbox_id: Option<&'a [u8]>,
}

/// NAMESPACE: prefix and separator of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    pub personal: Vec<Namespace>,
    pub others: Vec<Namespace>,
    pub shared: Vec<Namespace>,
}

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// What its names begin with, as spelled.
    pub prefix: Vec<u8>,
    /// Its hierarchy separator.
    pub separator: Option<u8>,
}

/// FETCH. Items that were not in it are `None`.
#[derive(Debug, Default, PartialEq)]
pub struct Fetch<'a> {
    /// The message's number in the folder. Means little while others expunge.
    pub seq: u32,
    pub uid: Option<Uid>,
    pub flags: Option<Flags>,
    /// `Some(None)`: it is nonsense.
    pub internal_date: Option<Option<i64>>,
    /// RFC822.SIZE.
    pub size: Option<u64>,
    pub modseq: Option<ModSeq>,
    /// EMAILID.
    pub email_id: Option<&'a [u8]>,
    /// X-GM-MSGID.
    pub gm_msgid: Option<&'a [u8]>,
    /// `BODY[]` or `BODY[]<n>`.
    pub body: Option<Body<'a>>,
    /// `BODY[HEADER.FIELDS (…)]` or `BODY[HEADER]`; `Some(None)` for NIL.
    pub header: Option<Option<Cow<'a, [u8]>>>,
}

impl Fetch<'_> {
    /// Whether it answers a question: what comes unasked has flags (and MODSEQ) alone.
    pub fn is_answer(&self) -> bool {
        self.size.is_some()
            || self.internal_date.is_some()
            || self.body.is_some()
            || self.header.is_some()
    }
}

/// A message's text, or a range of it.
#[derive(Debug, PartialEq)]
pub struct Body<'a> {
    /// Where the range begins; `None` for the whole.
    pub origin: Option<u64>,
    /// `None` for NIL: the server cannot give it.
    pub data: Option<Cow<'a, [u8]>>,
}

/// Reads one response, with or without its line end.
pub fn parse(frame: &[u8]) -> Response<'_> {
    let line = frame.strip_suffix(b"\n").unwrap_or(frame);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if let Some(rest) = line.strip_prefix(b"+") {
        return Response::Continuation(rest.strip_prefix(b" ").unwrap_or(rest));
    }
    if let Some(rest) = line.strip_prefix(b"* ") {
        return Response::Untagged(
            untagged(rest).unwrap_or_else(|| Untagged::Unreadable(Looks::like(line))),
        );
    }
    let mut c = Cursor::new(line);
    let tagged = c.atom().and_then(|tag| {
        c.spaces();
        Some(Response::Tagged { tag, answer: answer(c)? })
    });
    tagged.unwrap_or(Response::Untagged(Untagged::Unreadable(Looks::Other)))
}

fn untagged(rest: &[u8]) -> Option<Untagged<'_>> {
    let mut c = Cursor::new(rest);
    let word = c.atom()?;
    if word.first().is_some_and(u8::is_ascii_digit) {
        let n = number32(word)?;
        c.spaces();
        let what = c.item_name()?;
        c.spaces();
        return match what.to_ascii_uppercase().as_slice() {
            b"EXISTS" => Some(Untagged::Exists(n)),
            b"EXPUNGE" => Some(Untagged::Expunge(n)),
            b"FETCH" => fetch(n, c).map(Untagged::Fetch),
            _ => Some(Untagged::Ignored),
        };
    }
    if let Some(a) = answer(Cursor::new(rest)) {
        return Some(Untagged::Status(a));
    }
    c.spaces();
    match word.to_ascii_uppercase().as_slice() {
        b"CAPABILITY" => Some(Untagged::Capability(words(c.rest()))),
        b"ENABLED" => Some(Untagged::Enabled(words(c.rest()))),
        b"VANISHED" => vanished(c),
        b"LIST" => list(c).map(Untagged::List),
        b"STATUS" => status(c).map(Untagged::FolderStatus),
        b"SEARCH" => search(c.rest()),
        b"ESEARCH" => esearch(c),
        b"NAMESPACE" => namespace(c).map(Untagged::Namespace),
        b"ID" => id(c).map(Untagged::Id),
        _ => Some(Untagged::Ignored),
    }
}

fn words(b: &[u8]) -> Vec<&[u8]> {
    b.split(|b| *b == b' ').filter(|w| !w.is_empty()).collect()
}

fn answer(mut c: Cursor<'_>) -> Option<Answer<'_>> {
    let condition = match c.atom()?.to_ascii_uppercase().as_slice() {
        b"OK" => Condition::Ok,
        b"NO" => Condition::No,
        b"BAD" => Condition::Bad,
        b"BYE" => Condition::Bye,
        b"PREAUTH" => Condition::PreAuth,
        _ => return None,
    };
    c.spaces();
    // a bracket that does not close is text
    let code = c.section().flatten().map(Code::parse);
    c.spaces();
    Some(Answer { condition, code, text: String::from_utf8_lossy(c.rest()) })
}

fn vanished(mut c: Cursor<'_>) -> Option<Untagged<'_>> {
    let earlier = c.peek() == Some(b'(');
    if earlier {
        c.skip_value()?;
        c.spaces();
    }
    Some(Untagged::Vanished { earlier, uids: uid_set(c.rest().trim_ascii())? })
}

fn search(b: &[u8]) -> Option<Untagged<'_>> {
    let mut ranges = Vec::new();
    for w in words(b) {
        if w.starts_with(b"(") {
            break; // (MODSEQ n)
        }
        let uid = number32(w).and_then(Uid::new)?;
        ranges.push((uid, uid));
    }
    Some(Untagged::Search(collect_ranges(ranges)))
}

fn esearch(mut c: Cursor<'_>) -> Option<Untagged<'_>> {
    let mut tag = None;
    let mut all = UidSet::new();
    let mut uid = false;
    while !c.at_end() {
        if c.eat(b'(') {
            c.spaces();
            c.item_name()?.eq_ignore_ascii_case(b"TAG").then_some(())?;
            c.spaces();
            tag = Some(c.astring()?);
            c.spaces();
            c.eat(b')').then_some(())?;
        } else {
            let name = c.atom()?;
            if name.eq_ignore_ascii_case(b"UID") {
                uid = true;
            } else {
                c.spaces();
                if name.eq_ignore_ascii_case(b"ALL") {
                    all = uid_set(c.atom()?)?;
                } else {
                    c.skip_value()?;
                }
            }
        }
        c.spaces();
    }
    // without UID these are sequence numbers, which nobody asked for
    uid.then_some(Untagged::Esearch { tag, all })
}

fn list(mut c: Cursor<'_>) -> Option<List<'_>> {
    let attributes = c.atoms()?;
    c.spaces();
    let separator = separator(&mut c)?;
    c.spaces();
    let name = c.astring()?;
    // extended data items (RFC 5258: CHILDINFO, OLDNAME) say nothing we need
    Some(List { attributes, separator, name })
}

/// `Some(None)` for NIL or an empty string.
fn separator(c: &mut Cursor<'_>) -> Option<Option<u8>> {
    Some(c.nstring()?.and_then(|s| match s.as_ref() {
        [one] if one.is_ascii() => Some(*one),
        _ => None,
    }))
}

fn status(mut c: Cursor<'_>) -> Option<StatusItems<'_>> {
    let name = status_name(&mut c)?;
    let mut s = StatusItems {
        name,
        messages: None,
        uidnext: None,
        uidvalidity: None,
        modseq: None,
        mailbox_id: None,
    };
    c.eat(b'(').then_some(())?;
    // What stands before an item that cannot be read is kept: the rest was not said, and what is
    // not known of a folder makes it be looked at.
    while status_item(&mut c, &mut s).is_some() {}
    Some(s)
}

/// Up to the parenthesis. GNU imap4d and Twisted put no name in quotes, not even one with a space
/// in it; what they say of it has no parentheses of its own.
fn status_name<'a>(c: &mut Cursor<'a>) -> Option<Cow<'a, [u8]>> {
    let begin = *c;
    let name = c.astring();
    c.spaces();
    if c.peek() == Some(b'(') || matches!(begin.peek(), Some(b'"' | b'{')) {
        return name;
    }
    let line = begin.rest();
    let (name, items) = line.split_at_checked(line.iter().rposition(|b| *b == b'(')?)?;
    *c = Cursor::new(items);
    Some(Cow::Borrowed(name.trim_ascii_end()))
}

/// The next item; `None` at the end, or where nothing can be read.
fn status_item<'a>(c: &mut Cursor<'a>, s: &mut StatusItems<'a>) -> Option<()> {
    c.spaces();
    let item = c.atom()?;
    c.spaces();
    let mut value = *c;
    c.skip_value()?;
    // else the value goes on with what is no part of one, and may be another
    matches!(c.peek()?, b' ' | b')').then_some(())?;
    if item.eq_ignore_ascii_case(b"MAILBOXID") {
        s.mailbox_id = value.atoms().and_then(|a| a.first().copied());
    } else {
        let n = value.atom().and_then(number);
        let n32 = n.and_then(|n| u32::try_from(n).ok());
        match item.to_ascii_uppercase().as_slice() {
            b"MESSAGES" => s.messages = n32,
            b"UIDNEXT" => s.uidnext = n32.and_then(Uid::new),
            b"UIDVALIDITY" => s.uidvalidity = n32.and_then(UidValidity::new),
            b"HIGHESTMODSEQ" => s.modseq = n.and_then(ModSeq::new),
            _ => {}
        }
    }
    Some(())
}

fn namespace(mut c: Cursor<'_>) -> Option<Namespaces> {
    let personal = namespace_kind(&mut c)?;
    c.spaces();
    let others = namespace_kind(&mut c)?;
    c.spaces();
    let shared = namespace_kind(&mut c)?;
    Some(Namespaces { personal, others, shared })
}

fn namespace_kind(c: &mut Cursor<'_>) -> Option<Vec<Namespace>> {
    let mut out = Vec::new();
    if !c.eat(b'(') {
        return c.atom()?.eq_ignore_ascii_case(b"NIL").then_some(out);
    }
    loop {
        c.spaces();
        if c.eat(b')') {
            return Some(out);
        }
        c.eat(b'(').then_some(())?;
        let prefix = c.string()?.into_owned();
        c.spaces();
        let separator = separator(c)?;
        // extensions: name and list of values
        loop {
            c.spaces();
            if c.eat(b')') {
                break;
            }
            c.skip_value()?;
        }
        out.push(Namespace { prefix, separator });
    }
}

fn id(mut c: Cursor<'_>) -> Option<Vec<(String, String)>> {
    let mut out = Vec::new();
    if !c.eat(b'(') {
        return Some(out);
    }
    loop {
        c.spaces();
        if c.eat(b')') {
            return Some(out);
        }
        let text = |s: Cow<'_, [u8]>| String::from_utf8_lossy(&s).into_owned();
        let key = text(c.string()?);
        c.spaces();
        let value = c.nstring()?.map(text).unwrap_or_default();
        // RFC 2971: at most 30 pairs
        if out.len() < 30 {
            out.push((key, value));
        }
    }
}

fn fetch(seq: u32, mut c: Cursor<'_>) -> Option<Fetch<'_>> {
    let mut f = Fetch { seq, ..Fetch::default() };
    c.eat(b'(').then_some(())?;
    loop {
        c.spaces();
        if c.eat(b')') {
            return Some(f);
        }
        let name = c.item_name()?;
        let section = c.section()?;
        let origin = origin(&mut c)?;
        c.spaces();
        if name.eq_ignore_ascii_case(b"UID") {
            f.uid = Some(u32::try_from(c.number()?).ok().and_then(Uid::new)?);
        } else if name.eq_ignore_ascii_case(b"FLAGS") {
            f.flags = Some(flags(&mut c)?);
        } else if name.eq_ignore_ascii_case(b"MODSEQ") {
            c.eat(b'(').then_some(())?;
            f.modseq = ModSeq::new(c.number()?);
            c.spaces();
            c.eat(b')').then_some(())?;
        } else if name.eq_ignore_ascii_case(b"RFC822.SIZE") {
            f.size = Some(c.number()?);
        } else if name.eq_ignore_ascii_case(b"INTERNALDATE") {
            f.internal_date = Some(c.nstring()?.and_then(|s| date::parse(&s)));
        } else if name.eq_ignore_ascii_case(b"BODY") && section == Some(b"") {
            f.body = Some(Body { origin, data: c.nstring()? });
        } else if name.eq_ignore_ascii_case(b"BODY") && section.is_some_and(is_header) {
            f.header = Some(c.nstring()?);
        } else if name.eq_ignore_ascii_case(b"EMAILID") {
            f.email_id = parenthesised(c);
            c.skip_value()?;
        } else if name.eq_ignore_ascii_case(b"X-GM-MSGID") {
            f.gm_msgid = Some(c.atom()?);
        } else {
            c.skip_value()?;
        }
    }
}

fn is_header(section: &[u8]) -> bool {
    section.get(..6).is_some_and(|s| s.eq_ignore_ascii_case(b"HEADER"))
}

/// `<n>` after a section: `Some(None)` if there is none. Twisted answers with `<n.m>`
/// (https://github.com/twisted/twisted/issues/5613).
fn origin(c: &mut Cursor<'_>) -> Option<Option<u64>> {
    if !c.eat(b'<') {
        return Some(None);
    }
    let n = c.number()?;
    if c.eat(b'.') {
        c.number()?;
    }
    c.eat(b'>').then_some(Some(n))
}

/// `(id)`, or the atom without parentheses, unless that is NIL (RFC 8474 has it for THREADID;
/// servers have it for both). What is neither says nothing, and nothing depends on it: pymap sends
/// `((id))` for a Maildir.
fn parenthesised(mut c: Cursor<'_>) -> Option<&[u8]> {
    if c.peek() == Some(b'(') {
        return c.atoms()?.first().copied();
    }
    c.atom().filter(|a| !a.eq_ignore_ascii_case(b"NIL"))
}

/// No message has more keywords than this; so many more would be memory for nothing.
const MOST_KEYWORDS: usize = 1000;

/// Like [`Flags::from_imap`], without a list between: there are 500,000 of these.
fn flags(c: &mut Cursor<'_>) -> Option<Flags> {
    let mut f = Flags::default();
    c.each_atom(|a| {
        let Ok(name) = std::str::from_utf8(a) else { return };
        if let Some(s) = SystemFlags::from_imap(name) {
            f.system = f.system.union(s);
        } else if let Some(k) = Keyword::new(name) {
            f.keywords.insert(k);
        }
    })?;
    (f.keywords.len() <= MOST_KEYWORDS).then_some(f)
}

#[cfg(test)]
mod tests;
