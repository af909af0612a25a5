//! POP3: the session against real servers and against peers that no real one would be.
//!
//! One test binary, because linking one for every file would take longer than the tests.

// Helpers of tests fail by panicking, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod breaks;
mod busy;
mod login;
mod pass;
mod pathologies;
mod programs;
mod real;
mod restored;
mod says;
mod scripted;
mod short;
mod tools;
