//! A row of the ledger: what both sides agreed on last about one message, beside what each side
//! showed last. Where the two differ, there is work; the work itself is never stored.

use super::flags::Flags;
use super::identity::Identity;
use super::name::Place;
use super::uid::Uid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);
    };
}
id!(
    /// A row's number in the ledger.
    RowId
);
id!(
    /// A folder's number in the ledger.
    FolderId
);

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Seen on the server, not here yet.
    Pending,
    /// On both sides.
    Synced,
    /// Gone from the server; stays here by policy.
    Kept,
    /// Gone from here; stays on the server by policy, and is never downloaded again.
    Absent,
}

/// Why a message is not on the server any more, as far as it was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gone {
    /// Its UID vanished, or its folder did.
    Vanished,
    /// UIDVALIDITY changed (or the server did): its UID says nothing any more. Proves no deletion.
    Epoch,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub id: RowId,
    /// The folder that both sides agreed on last; for a `kept` row where the file is, for a
    /// `pending` or `absent` one where the server has it.
    pub folder: FolderId,
    /// What the row is.
    pub state: State,
    /// Its UID in `folder` under that folder's UIDVALIDITY. `None` for `kept`, and once `gone`.
    pub uid: Option<Uid>,
    /// Observed: it is not on the server any more, and nobody has acted on that yet.
    pub gone: Option<Gone>,
    /// Where its file was last seen in `folder`. `None` for `pending` and `absent`.
    pub place: Option<Place>,
    /// The flags agreed on last.
    pub agreed: Flags,
    /// The flags the server showed last, with what the server cannot say taken from `agreed`.
    pub remote: Flags,
    /// The flags the file name showed last, with what it cannot say taken from `agreed`.
    pub local: Flags,
    /// What it is recognised by.
    pub identity: Identity,
    /// Whether both copies are known to be the same bytes. False after a pairing without proof.
    pub exact: bool,
    /// The row that this one was copied from here (a save in two steps), if any.
    pub copy_of: Option<RowId>,
    /// It was kept mail once, or came to `\Trash` from a folder whose `remote_delete` is keep: it
    /// stays when it goes from the server, whatever holds for its folder.
    pub keeps: bool,
}

impl Row {
    /// Whether something was observed that nobody has acted on yet, so that the row enters every
    /// plan until somebody has.
    pub fn is_dirty(&self) -> bool {
        match self.state {
            State::Pending => true,
            State::Synced => {
                self.gone.is_some() || self.remote != self.agreed || self.local != self.agreed
            }
            State::Kept => false,
            State::Absent => self.gone.is_some(),
        }
    }

    /// Whether the server has it, as far as was seen last.
    pub fn on_server(&self) -> bool {
        self.uid.is_some() && self.gone.is_none()
    }
}
