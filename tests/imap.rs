//! The IMAP session against real servers, and against peers that no real one would be.

// Helpers of tests fail by panicking, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

#[path = "imap/oddities.rs"]
mod oddities;
#[path = "imap/push.rs"]
mod push;
#[path = "imap/real.rs"]
mod real;
#[path = "imap/scripted.rs"]
mod scripted;
#[path = "imap/tools.rs"]
mod tools;
