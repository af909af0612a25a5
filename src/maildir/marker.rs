//! The root marker: which ledgers a maildir belongs to.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{Error, Kind, Result};

/// One account's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub ledger: u128,
    pub generation: u64,
    pub host: String,
}

/// The lines by account name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marker {
    pub lines: BTreeMap<String, Line>,
}

impl Marker {
    pub fn parse(_text: &str) -> std::result::Result<Self, String> {
        Ok(Self::default())
    }
    pub fn to_text(&self) -> String {
        String::new()
    }
}

pub fn read(_root: &Path) -> Result<Option<Marker>> {
    Err(Error::account(Kind::Internal, "not yet"))
}
/// Sets one account's line (or takes it out), keeps the others; durable.
pub fn write(_root: &Path, _account: &str, _line: Option<&Line>) -> Result<()> {
    Err(Error::account(Kind::Internal, "not yet"))
}

/// Held as long as it lives.
pub struct MarkerLock {}

/// Kind::Locked says who holds it.
pub fn lock(_root: &Path, _account: &str) -> Result<MarkerLock> {
    Err(Error::account(Kind::Internal, "not yet"))
}
