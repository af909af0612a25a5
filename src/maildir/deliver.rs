//! A message on its way in: wire bytes to a file in `tmp`, then to `cur` or `new`.

use std::path::Path;

use crate::model::identity::Digest;
use crate::model::{BaseName, Place};
use crate::{Error, Kind, Result};

pub struct Stage {}

impl Stage {
    pub fn new(_dir: &Path, _base: BaseName) -> Result<Self> {
        Err(Error::account(Kind::Internal, "not yet"))
    }
    pub fn write(&mut self, _wire: &[u8]) -> Result<()> {
        Ok(())
    }
    pub fn finish(self, _internal_date: i64) -> Result<Staged> {
        Err(Error::account(Kind::Internal, "not yet"))
    }
}

/// A whole message in `tmp`, not durable yet.
#[derive(Debug, Clone)]
pub struct Staged {
    pub base: BaseName,
    pub digest: Digest,
    /// Of the file, in bytes.
    pub size: u64,
}

impl Staged {
    /// Where it is, for [`super::Durability`].
    pub fn path(&self, dir: &Path) -> std::path::PathBuf {
        dir.join("tmp")
    }
}

pub fn stage_bytes(
    _dir: &Path,
    _base: BaseName,
    _wire: &[u8],
    _internal_date: i64,
) -> Result<Staged> {
    Err(Error::account(Kind::Internal, "not yet"))
}
/// Renames without overwriting: Kind::Exists if the name is taken. No fsync.
pub fn publish(_dir: &Path, _staged: &Staged, _to: &Place) -> Result<()> {
    Err(Error::account(Kind::Internal, "not yet"))
}
/// Unlinks what will not be published.
pub fn discard(_dir: &Path, _staged: &Staged) -> Result<()> {
    Ok(())
}
