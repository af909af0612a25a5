//! One logged-in connection: sends a command, hands its answers on, keeps what came unasked, and
//! refuses to go on after a broken connection.

use crate::error::{Error, Result};

/// What the server said about the selected folder without being asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noticed {
    /// EXISTS grew.
    pub arrived: bool,
    /// EXPUNGE or VANISHED.
    pub vanished: bool,
    /// FETCH with flags of messages nobody asked about.
    pub flags: bool,
}

impl Noticed {
    /// Whether anything came.
    pub fn any(self) -> bool {
        self.arrived || self.vanished || self.flags
    }
}

/// Logged in. After a `Connection` or `Protocol` error every later call gives that error at once.
pub struct Session {
    pub(super) dead: Option<Error>,
    pub(super) noticed: Noticed,
    pub(super) exists: u32,
}

impl Session {
    /// The error that ended the session, if one did.
    pub fn dead(&self) -> Option<&Error> {
        self.dead.as_ref()
    }
    /// What came unasked about the selected folder since it was selected.
    pub fn noticed(&self) -> Noticed {
        self.noticed
    }
    /// How many messages the selected folder has now: EXISTS, less what was expunged since.
    pub fn exists(&self) -> u32 {
        self.exists
    }
    /// Nothing, but the server may tell what changed.
    pub async fn noop(&mut self) -> Result<()> {
        self.unwritten()
    }
    /// Says goodbye and does not wait for the answer.
    pub async fn logout(self) {}

    pub(super) fn unwritten<T>(&self) -> Result<T> {
        Err(Error::account(crate::error::Kind::Internal, "not written yet"))
    }
}
