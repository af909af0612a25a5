//! What the integration tests share: real servers on loopback, peers that misbehave, a second
//! mail program, seeded messages, and the runner of the program under test.
//!
//! Reading order: [`letters`] makes messages, [`server`] says what every server here can do and
//! [`dovecot`], [`courier`] and [`cyrus`] do it, [`imap`] is the other mail program, [`maildir`]
//! reads what was synced and compares, [`mailkeep`] runs the program, [`proxy`] stands between,
//! [`scripted`] plays servers that no real one would be.
//!
//! A server dies with the test that started it, also when that test is killed. A test whose
//! server is not installed fails and says how to install it.

// Every test binary uses a part of it; and here a panic is how a test fails.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod certs;
pub mod courier;
pub mod cyrus;
pub mod disk;
pub mod dovecot;
pub mod imap;
pub mod letters;
pub mod maildir;
pub mod mailkeep;
pub mod process;
pub mod proxy;
pub mod rng;
pub mod scripted;
pub mod server;

pub use certs::Certs;
pub use courier::Courier;
pub use cyrus::Cyrus;
pub use dovecot::{Dovecot, Mode, Options};
pub use imap::{RemoteMessage, TestImap};
pub use letters::{Letter, Mint};
pub use maildir::{LocalMessage, assert_same, differences, read_folder, read_maildir};
pub use mailkeep::{Mailkeep, Outcome, Running};
pub use proxy::Proxy;
pub use rng::Rng;
pub use scripted::{Scripted, Step};
pub use server::Server;
