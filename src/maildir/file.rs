//! Message files that are here already: read, renamed, unlinked, linked.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::model::identity::Digest;
use crate::model::{BaseName, Place};
use crate::{Error, Kind, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    /// Unix time in nanoseconds.
    pub mtime_ns: i128,
}

/// What a message file was when it was read from its first to its last byte.
#[derive(Debug, Clone)]
pub struct FileIdentity {
    pub digest: Digest,
    /// Unix time in seconds.
    pub mtime: i64,
    pub stat: FileStat,
}

pub fn place_path(dir: &Path, place: &Place) -> PathBuf {
    dir.join(place.sub.as_str()).join(place.file.to_os_string())
}
pub fn stat(_path: &Path) -> Result<FileStat> {
    Err(Error::account(Kind::Internal, "not yet"))
}
/// Opens a regular file for reading; a symlink is not followed.
pub fn open_message(_path: &Path) -> Result<(File, FileStat)> {
    Err(Error::account(Kind::Internal, "not yet"))
}
pub fn identify(_path: &Path) -> Result<FileIdentity> {
    Err(Error::account(Kind::Internal, "not yet"))
}
/// Kind::Exists if the target's name is taken; Kind::Raced if the file is gone. No fsync.
pub fn rename(_from_dir: &Path, _from: &Place, _to_dir: &Path, _to: &Place) -> Result<()> {
    Err(Error::account(Kind::Internal, "not yet"))
}
pub fn unlink(_dir: &Path, _place: &Place) -> Result<()> {
    Err(Error::account(Kind::Internal, "not yet"))
}
/// `expected` is what was identified; another file there now is Kind::Raced.
pub fn link_or_copy(
    _from: &Path,
    _expected: &FileStat,
    _to_dir: &Path,
    _to: &Place,
    _internal_date: i64,
) -> Result<()> {
    Err(Error::account(Kind::Internal, "not yet"))
}
pub fn find(_dir: &Path, _base: &BaseName) -> Result<Option<Place>> {
    Err(Error::account(Kind::Internal, "not yet"))
}
