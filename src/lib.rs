//! mailkeep mirrors remote mailboxes into a local Maildir, both ways, and keeps what the server
//! deletes. This is the map.
//!
//! # How a pass goes
//!
//! [`account`] runs it. It locks the account and compares the Maildir's root marker with the ledger
//! (`account/start.rs`, `account/marker.rs`), then goes around: **observe**, **plan**, **decide**,
//! **act** (`account/pass.rs`).
//!
//! - *Observe* (`account/observe/`): the server by one LIST with STATUS, beside which a new session
//!   opens INBOX, then only the folders that changed; the Maildir by its names. What was seen is
//!   written into the [`ledger`] beside what was agreed on last, together with the cursors that it
//!   was seen by. Outstanding work is never stored: it is what differs.
//! - *Plan* ([`reconcile`]): three trees go in (the server, the Maildir, the ledger), what happened
//!   comes out, as [`reconcile::Change`]s. Pure. Moves, adoption, a lost ledger, a new UIDVALIDITY
//!   and a crash between two steps are all found by pairing.
//! - *Decide* ([`policy::decide`]): what is done about each change, or why it is held. Pure. **The
//!   fate of a message is decided in these two modules and nowhere else.** A dry run prints the
//!   decision (`account/describe.rs`).
//! - *Act* ([`executor`]): each effect is durable before the ledger says so, and the ledger says so
//!   before anything on the server relies on it.
//!
//! A POP3 pass is shorter ([`pop3`], `pop3/pass.rs`): what a listing means (`pop3/recognise.rs`) and
//! what may be deleted on the server (`pop3/retention.rs`) are pure, too; its messages have rows in
//! the same ledger, so that the account can become an IMAP one.
//!
//! [`daemon`] makes passes when there is a reason to: push (`imap/push.rs`), the watcher
//! (`maildir/watch.rs`), a timer, or somebody who asks through the control socket. All of these are
//! hints; only a pass decides.
//!
//! # Reading order
//!
//! [`model`] (the words), [`reconcile`], [`policy`], `account/pass.rs`, `account/observe/`,
//! [`executor`], [`ledger`] with its `schema.sql`, [`maildir`], [`imap`] and [`pop3`] over [`net`]
//! with [`sasl`]; then [`daemon`], [`config`], [`secret`], [`cli`].
//!
//! # What holds everywhere
//!
//! Nothing is lost, doubled or altered; nothing is deleted without a cause that the journal names;
//! an error is never an absence; a pass can be killed at any step; the ledger can be lost. An
//! [`Error`] carries how far it reaches ([`Scope`]), and tells the user the next step. What lasts is
//! done through `steps`, where a test can kill the program. [`model`],
//! [`reconcile`], [`policy`] and the parsers know no I/O, clock, randomness or log: a test enforces
//! it (`tests/architecture.rs`).

pub mod account;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod error;
pub mod executor;
pub mod imap;
pub mod ledger;
pub mod maildir;
pub mod model;
pub mod net;
pub mod policy;
pub mod pop3;
pub mod progress;
pub mod reconcile;
pub mod sasl;
pub mod secret;
mod steps;
mod words;

pub use error::{Error, Kind, Refusal, Result, Scope};
