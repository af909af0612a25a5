//! Uploading messages.

use super::session::Session;
use crate::error::Result;
use crate::model::{Flags, Uid, UidValidity};

/// One message to upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The flags to set; those the folder does not keep are the caller's to leave out.
    pub flags: Flags,
    /// INTERNALDATE, Unix seconds.
    pub internal_date: i64,
    /// Exactly how many bytes `chunk` will give.
    pub size: u64,
}

/// Where an uploaded message went; `None` where the server does not say (no UIDPLUS).
pub type Appended = Option<(UidValidity, Uid)>;

/// Gives messages to upload. A message may be opened again: a refused MULTIAPPEND is sent anew,
/// one by one.
#[allow(async_fn_in_trait)]
pub trait AppendSource {
    /// All messages of this call, in order.
    fn messages(&self) -> &[Outgoing];
    /// Goes to the beginning of message `index`. An error here fails that message only.
    async fn open(&mut self, index: usize) -> Result<()>;
    /// The next bytes (CRLF line endings) of the open message, `None` at its end. If this fails,
    /// or the sizes disagree, the connection is dropped rather than the literal finished.
    async fn chunk(&mut self) -> Result<Option<&[u8]>>;
    /// The last moment to find that the file changed while it was sent: called before the last
    /// bytes go out. An error drops the connection, and the server stores nothing.
    async fn settled(&mut self) -> Result<()>;
}

impl Session {
    /// Uploads to a folder; one result for each message, in order. After a broken connection those
    /// without an answer have that error: whether the server has them is for pairing to find.
    pub async fn append<S: AppendSource>(
        &mut self,
        wire: &[u8],
        source: &mut S,
    ) -> Vec<Result<Appended>> {
        let _ = wire;
        source.messages().iter().map(|_| self.unwritten()).collect()
    }
}
