//! IMAP: frames over a stream, logging in, and the commands of a session.

pub mod frame;
pub mod wire;

pub use frame::Limits;
pub use wire::{Connection, Tag};
