//! Reading messages: flags, what identifies them, and their bytes.

use super::session::Session;
use crate::error::{Error, Result};
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

/// Takes messages as they come. Each is `begin`, any number of `data`, then `end`; or `failed`
/// alone, or `failed` after some `data`, which must then be thrown away. An error from the sink ends the
/// fetch and the session with it, since what is under way cannot be called back.
#[allow(async_fn_in_trait)]
pub trait BodySink {
    /// A message begins.
    async fn begin(&mut self, meta: &Meta) -> Result<()>;
    /// Its next bytes, as sent (CRLF).
    async fn data(&mut self, bytes: &[u8]) -> Result<()>;
    /// It is complete.
    async fn end(&mut self) -> Result<()>;
    /// This message cannot be had; the others go on.
    async fn failed(&mut self, uid: Uid, error: Error) -> Result<()>;
}

impl Session {
    /// Flags of the messages in `set`, or of those that changed since. One may come twice (the last
    /// counts). An error from `f` is given back once the server has finished.
    pub async fn fetch_flags(
        &mut self,
        set: &UidSet,
        changed_since: Option<ModSeq>,
        f: &mut dyn FnMut(Uid, Flags) -> Result<()>,
    ) -> Result<()> {
        let _ = (set, changed_since, f);
        self.unwritten()
    }
    /// What pairing needs of the messages in `set`. An unreadable message is an `Err` of scope
    /// message; one that is not there does not come.
    pub async fn fetch_meta(
        &mut self,
        set: &UidSet,
        f: &mut dyn FnMut(Uid, Result<Meta>) -> Result<()>,
    ) -> Result<()> {
        let _ = (set, f);
        self.unwritten()
    }
    /// For the check before a message is destroyed. An unreadable one is an error of the call.
    pub async fn fetch_sizes(&mut self, set: &UidSet) -> Result<Vec<Sizes>> {
        let _ = set;
        self.unwritten()
    }
    /// The bytes of the messages in `set`, each once, in the server's order.
    pub async fn fetch_bodies<S: BodySink>(&mut self, set: &UidSet, sink: &mut S) -> Result<()> {
        let _ = (set, sink);
        self.unwritten()
    }
}
