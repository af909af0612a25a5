//! The folders below a maildir root: listed, made, removed.

use std::path::{Path, PathBuf};

use super::layout::Layout;
use crate::model::FolderName;
use crate::{Error, Kind, Result};

/// A maildir root with its layout.
#[derive(Debug, Clone)]
pub struct Maildir {
    root: PathBuf,
    layout: Layout,
}

impl Maildir {
    pub fn open(root: &Path, layout: Layout) -> Result<Self> {
        Ok(Self { root: root.into(), layout })
    }
    pub fn create_root(_root: &Path) -> Result<()> {
        Err(Error::account(Kind::Internal, "not yet"))
    }
    pub fn root(&self) -> &Path {
        &self.root
    }
    pub fn layout(&self) -> Layout {
        self.layout
    }
    pub fn dir(&self, name: &FolderName) -> PathBuf {
        self.root.join(self.layout.relative_dir(name))
    }
    /// Whether the folder's path is short enough for the filesystem; an error of folder scope if not.
    pub fn check(&self, _name: &FolderName) -> Result<()> {
        Err(Error::account(Kind::Internal, "not yet"))
    }
    pub fn folders(&self) -> Result<Vec<FolderName>> {
        Err(Error::account(Kind::Internal, "not yet"))
    }
    pub fn create_folder(&self, _name: &FolderName) -> Result<()> {
        Err(Error::account(Kind::Internal, "not yet"))
    }
    pub fn remove_folder(&self, _name: &FolderName) -> Result<()> {
        Err(Error::account(Kind::Internal, "not yet"))
    }
    pub fn clear_tmp(&self, _name: &FolderName) -> Result<()> {
        Err(Error::account(Kind::Internal, "not yet"))
    }
}
