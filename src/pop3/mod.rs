//! POP3: what the rest of the program asks of a server, over one connection.
//!
//! Reading order: `protocol` (bytes in, typed replies out; pure), `wire` (the connection that
//! feeds it, bounded in time and memory), `login`, `client` (one session and its commands).

pub mod client;
mod login;
pub mod protocol;
mod transfer;
mod wire;

pub use client::{Mailbox, Quit, Session};
pub use protocol::{Capabilities, Expire, LoginDelay, Number, Stat, Uidl, Uidls};
pub use transfer::{MessageSink, Wanted};
