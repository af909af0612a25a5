//! IMAP: frames over a stream, logging in, and the commands of a session.

pub mod auth;
pub mod frame;
pub mod login;
pub mod reply;
pub mod wire;

pub use frame::Limits;
pub use login::LoginSpec;
pub use wire::{Connection, Tag};
