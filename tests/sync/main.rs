//! `mailkeep sync` end to end: real servers, real files, the real binary.
//!
//! One test binary, because linking one for every file would take longer than the tests. What
//! each of them has in common is in [`world`].

// Helpers of tests fail by panicking, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod crashes;
mod deletions;
mod flags;
mod hostile;
mod ladder;
mod local;
mod moves;
mod names;
mod pairing;
mod pull;
mod says;
mod tls;
mod uploads;
mod world;
