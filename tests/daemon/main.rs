//! `mailkeep run` end to end: a real Dovecot, real files, the real binary, left alone and watched.
//!
//! What each test has in common is in [`world`].

// Helpers of tests fail by panicking, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod both_ways;
mod control;
mod failures;
mod silence;
mod soak;
mod systemd;
mod world;
