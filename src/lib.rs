//! mailkeep mirrors remote mailboxes into a local Maildir, both ways, and keeps what the server
//! deletes.

pub mod error;
pub mod ledger;
pub mod model;
pub mod policy;

pub use error::{Error, Kind, Result, Scope};
