//! What is in a folder: names alone, since the flags are in them. No stat per file.

use std::path::Path;

use crate::model::Place;
use crate::{Error, Kind, Result};

/// One message file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub place: Place,
}

/// A complete listing of a folder's `cur` and `new`.
#[derive(Debug, Clone)]
pub struct Scan {
    /// Sorted by base name, then suffix, then subdirectory.
    pub entries: Vec<Entry>,
    /// Taken before the reading.
    pub signature: DirSignature,
    /// Whether no directory changed around the reading: what is not listed was not there.
    pub stable: bool,
    /// Whether, beside that, an equal signature later proves that nothing changed since.
    pub trusted: bool,
    pub digest: NamesDigest,
}

/// What stat says of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirStat {
    pub dev: u64,
    pub ino: u64,
    pub mtime_ns: i128,
    pub ctime_ns: i128,
}

/// `cur` and `new` as stat shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirSignature {
    pub cur: DirStat,
    pub new: DirStat,
}

impl DirSignature {
    pub fn to_bytes(&self) -> Vec<u8> {
        Vec::new()
    }
    pub fn from_bytes(_b: &[u8]) -> Option<Self> {
        None
    }
}

/// A digest of a folder's names that does not depend on their order, so that it can follow a
/// single rename.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NamesDigest(pub u128);

impl NamesDigest {
    pub fn add(&mut self, _p: &Place) {}
    pub fn remove(&mut self, _p: &Place) {}
}

pub fn scan(_dir: &Path) -> Result<Scan> {
    Err(Error::account(Kind::Internal, "not yet"))
}

/// `None` only where `cur` or `new` does not exist.
pub fn signature(_dir: &Path) -> Result<Option<DirSignature>> {
    Err(Error::account(Kind::Internal, "not yet"))
}
