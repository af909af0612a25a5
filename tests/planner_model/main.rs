//! The planner against a model: one world is perturbed on both sides, planned, applied, and must
//! converge to what the design says of every message (`check.rs`), whatever the policy, and
//! wherever it was killed.
//!
//! `MAILKEEP_SEED` sets the seed of the first case, `MAILKEEP_CASES` how many there are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod apply;
mod cases;
mod check;
mod mutants;
mod observe;
mod perturb;
mod random;
mod start;
mod world;
