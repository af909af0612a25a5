//! What the letters a–z in file names mean: a folder's `dovecot-keywords` file.

use std::collections::BTreeSet;
use std::path::Path;

use crate::model::{Flags, Info, Keyword};
use crate::{Error, Kind, Result};

/// A letter is its place in the alphabet, 0 to 25.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeywordMap {}

impl KeywordMap {
    pub fn parse(_text: &str) -> Self {
        Self::default()
    }
    pub fn to_text(&self) -> String {
        String::new()
    }
    pub fn letter_of(&self, _k: &Keyword) -> Option<u8> {
        None
    }
    pub fn keyword_of(&self, _letter: u8) -> Option<&Keyword> {
        None
    }
    pub fn assign(&mut self, _k: &Keyword) -> Option<u8> {
        None
    }
    pub fn flags_of(&self, _info: &Info) -> (Flags, u32) {
        Default::default()
    }
    pub fn info_for(&self, _flags: &Flags, _old: &Info) -> (Info, BTreeSet<Keyword>) {
        Default::default()
    }
}

pub fn load(_dir: &Path) -> Result<Option<KeywordMap>> {
    Err(Error::account(Kind::Internal, "not yet"))
}
pub fn save(_dir: &Path, _map: &KeywordMap) -> Result<()> {
    Err(Error::account(Kind::Internal, "not yet"))
}
