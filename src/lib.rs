//! mailkeep mirrors remote mailboxes into a local Maildir, both ways, and keeps what the server
//! deletes.

pub mod account;
pub mod cli;
pub mod config;
pub mod error;
pub mod executor;
pub mod imap;
pub mod ledger;
pub mod maildir;
pub mod model;
pub mod net;
pub mod policy;
pub mod progress;
pub mod reconcile;
pub mod secret;

pub use error::{Error, Kind, Refusal, Result, Scope};
