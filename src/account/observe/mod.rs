//! Observing both sides: cheaply where nothing changed, completely where it did. What was seen goes
//! into the ledger beside what was agreed, together with the cursors that it was seen by.

mod files;
mod local;
mod news;
mod prescan;
mod server;
mod take_over;
mod trees;

pub use local::{finish, maildir, sync_keywords};
pub use news::{contents, news, pending};
pub use prescan::Prescan;
pub use server::{as_observed, server, server_moved_on};
pub use trees::trees;
