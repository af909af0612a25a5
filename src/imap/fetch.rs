//! Reading what is known of messages without their text: flags, sizes, dates, what identifies them.

use super::response::{Fetch, Looks, Untagged};
use super::session::{Event, Session, unreadable};
use super::store::RANGES;
use crate::error::{Error, Kind, Result, Scope};
use crate::model::{Fingerprint, Flags, ModSeq, ServerId, Uid, UidSet};

/// A message without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Its UID.
    pub uid: Uid,
    /// Its flags.
    pub flags: Flags,
    /// INTERNALDATE, Unix seconds.
    pub internal_date: i64,
    /// RFC822.SIZE. Some servers lie (`Capabilities::sizes_lie`).
    pub wire_size: u64,
    /// EMAILID or X-GM-MSGID.
    pub server_id: Option<ServerId>,
    /// Message-ID and Date; empty from `fetch_bodies`, which has the whole text.
    pub fingerprint: Fingerprint,
}

/// What is compared before a message is destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Its UID.
    pub uid: Uid,
    /// RFC822.SIZE.
    pub wire_size: u64,
    /// INTERNALDATE, Unix seconds.
    pub internal_date: i64,
    /// EMAILID or X-GM-MSGID.
    pub server_id: Option<ServerId>,
}

/// How many FETCH commands wait for their answers at a time: enough that the server never waits
/// for us, few enough that it does not collect much.
pub(super) const WINDOW: usize = 3;
/// The largest header that is read for a fingerprint, which keeps far less.
const HEADER: usize = 4 * 1024 * 1024;

impl Session {
    /// Flags of the messages in `set`, or of those that changed since. One may come twice (the last
    /// counts). An error from `f` is given back once the server has finished.
    pub async fn fetch_flags(
        &mut self,
        set: &UidSet,
        changed_since: Option<ModSeq>,
        f: &mut dyn FnMut(Uid, Flags) -> Result<()>,
    ) -> Result<()> {
        let since = changed_since
            .filter(|_| self.caps.condstore)
            .map(|m| format!(" (CHANGEDSINCE {m})"))
            .unwrap_or_default();
        let commands = set
            .chunks(u32::MAX, RANGES)
            .into_iter()
            .map(|part| format!("UID FETCH {part} (UID FLAGS){since}").into_bytes());
        self.fetch(commands, |fetch| match (fetch.uid, &fetch.flags) {
            (Some(uid), Some(flags)) if set.contains(uid) => f(uid, flags.clone()),
            _ => Ok(()),
        })
        .await
    }

    /// What pairing needs of the messages in `set`. An unreadable message is an `Err` of scope
    /// message; one that is not there does not come.
    pub async fn fetch_meta(
        &mut self,
        set: &UidSet,
        f: &mut dyn FnMut(Uid, Result<Meta>) -> Result<()>,
    ) -> Result<()> {
        let items = self.meta_items();
        let limits = self.conn.limits();
        self.conn.set_limits(limits.with_literal(HEADER));
        let mut done = UidSet::new();
        let commands = set.chunks(u32::MAX, RANGES).into_iter().map(|part| {
            format!("UID FETCH {part} ({items} BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE)])")
                .into_bytes()
        });
        let result = self
            .fetch(commands, |fetch| {
                let Some(uid) = fetch.uid.filter(|u| fetch.is_answer() && set.contains(*u)) else {
                    return Ok(());
                };
                if done.contains(uid) {
                    return Ok(());
                }
                done.insert(uid);
                f(uid, meta(uid, fetch))
            })
            .await;
        self.conn.set_limits(limits);
        result
    }

    /// For the check before a message is destroyed. An unreadable one is an error of the call.
    pub async fn fetch_sizes(&mut self, set: &UidSet) -> Result<Vec<Sizes>> {
        let items = self.meta_items();
        let mut out: Vec<Sizes> = Vec::new();
        let mut done = UidSet::new();
        let commands = set
            .chunks(u32::MAX, RANGES)
            .into_iter()
            .map(|part| format!("UID FETCH {part} ({items})").into_bytes());
        self.fetch(commands, |fetch| {
            let Some(uid) = fetch.uid.filter(|u| fetch.is_answer() && set.contains(*u)) else {
                return Ok(());
            };
            if !done.contains(uid) {
                done.insert(uid);
                let m = meta(uid, fetch)?;
                out.push(Sizes {
                    uid,
                    wire_size: m.wire_size,
                    internal_date: m.internal_date,
                    server_id: m.server_id,
                });
            }
            Ok(())
        })
        .await?;
        Ok(out)
    }

    pub(super) fn meta_items(&self) -> &'static str {
        if self.caps.objectid {
            "UID FLAGS INTERNALDATE RFC822.SIZE EMAILID"
        } else if self.caps.gmail_ids {
            "UID FLAGS INTERNALDATE RFC822.SIZE X-GM-MSGID"
        } else {
            "UID FLAGS INTERNALDATE RFC822.SIZE"
        }
    }

    async fn fetch(
        &mut self,
        commands: impl IntoIterator<Item = Vec<u8>>,
        mut f: impl FnMut(&Fetch<'_>) -> Result<()>,
    ) -> Result<()> {
        self.folder.fetching = true;
        let done = self
            .pipeline(Scope::Folder, WINDOW, commands, |event| match event {
                // an answer about nobody (UID is nz-number, RFC 9051 9): somebody's is missing
                Event::Data(Untagged::Fetch(fetch)) if fetch.uid.is_none() && fetch.is_answer() => {
                    Err(unreadable("FETCH"))
                }
                Event::Data(Untagged::Fetch(fetch)) => f(fetch),
                // a change that was not read must not be taken for none
                Event::Data(Untagged::Unreadable(Looks::Fetch)) => Err(unreadable("FETCH")),
                _ => Ok(()),
            })
            .await;
        self.folder.fetching = false;
        done
    }
}

pub(super) fn meta(uid: Uid, f: &Fetch<'_>) -> Result<Meta> {
    let lacks = |what: &str| {
        Error::message(
            Kind::Refused,
            format!("the server gives no readable {what} of message {uid}"),
        )
        .next("it is tried again at the next pass; look at it in another mail program")
    };
    let server_id =
        f.email_id.or(f.gm_msgid).map(|id| ServerId(String::from_utf8_lossy(id).into()));
    Ok(Meta {
        uid,
        flags: f.flags.clone().ok_or_else(|| lacks("FLAGS"))?,
        internal_date: f.internal_date.flatten().ok_or_else(|| lacks("INTERNALDATE"))?,
        wire_size: f.size.ok_or_else(|| lacks("RFC822.SIZE"))?,
        server_id,
        fingerprint: f
            .header
            .as_ref()
            .and_then(Option::as_deref)
            .map(Fingerprint::from_header)
            .unwrap_or_default(),
    })
}
