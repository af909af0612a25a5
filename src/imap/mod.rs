//! IMAP: what the rest of the program asks of a server, over one connection.
//!
//! Reading order: `frame` and `wire` (bytes in and out, bounded), `login`; `token`, `code`, `date`
//! and `response` (bytes of one response to a typed one; pure), `names`, `capabilities`, `quirks`
//! (pure), `bounds` (how much a server may say; pure), `session` (one command, its answers, and what came unasked), then one file for each
//! kind of command, and `push` on connections of its own.

pub mod append;
pub mod bodies;
mod bounds;
pub mod capabilities;
pub mod code;
pub mod date;
pub mod fetch;
pub mod frame;
pub mod list;
pub mod login;
pub mod names;
pub mod push;
pub mod quirks;
pub mod reply;
pub mod response;
pub mod select;
pub mod session;
pub mod store;
pub mod token;
pub mod wire;

pub use append::{AppendSource, Appended, Outgoing};
pub use bodies::BodySink;
pub use capabilities::Capabilities;
pub use fetch::{Meta, Sizes};
pub use frame::Limits;
pub use list::{Beside, Listed, Listing, Opened, Status};
pub use select::{Delta, Known, Selected};
pub use session::{Noticed, Session};
pub use store::{CopyUid, Expunged, FlagChange};
pub use wire::{Connection, Tag};

pub use crate::sasl::{self as auth, LoginSpec};
