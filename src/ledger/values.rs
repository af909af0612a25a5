//! Between columns and the model's types. What is not known is 0, '' or x'' in a column; a value
//! that we never write is a damaged ledger, never something unknown.

use rusqlite::types::FromSql;
use rusqlite::{Connection, Params, Row as Columns};

use super::fault::{Fault, Result};
use crate::model::{
    BaseName, ContentHash, FileName, Fingerprint, Flags, FolderId, FolderName, Identity, Place,
    RowId, ServerId, Subdir, Uid,
};

/// An enum that is stored, and shown, as a word.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Its word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// From its word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }

            pub(super) fn read(word: &str) -> super::fault::Result<Self> {
                Self::from_word(word).ok_or_else(|| {
                    super::fault::Fault::Unreadable(format!(
                        "{word:?} is no {}", stringify!($name)))
                })
            }
        }
    };
}
pub(super) use words;

/// The columns of a result, taken from left to right.
pub(super) struct Cells<'a> {
    columns: &'a Columns<'a>,
    next: usize,
}

impl<'a> Cells<'a> {
    pub(super) fn of(columns: &'a Columns<'a>) -> Self {
        Self { columns, next: 0 }
    }

    pub(super) fn take<T: FromSql>(&mut self) -> Result<T> {
        let value = self.columns.get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    pub(super) fn text(&mut self) -> Result<String> {
        self.take()
    }

    /// Text, empty for none.
    pub(super) fn some_text(&mut self) -> Result<Option<String>> {
        let s = self.text()?;
        Ok((!s.is_empty()).then_some(s))
    }

    /// Bytes, empty for none.
    pub(super) fn some_bytes(&mut self) -> Result<Option<Vec<u8>>> {
        let b: Vec<u8> = self.take()?;
        Ok((!b.is_empty()).then_some(b))
    }

    /// A number without sign.
    pub(super) fn count(&mut self) -> Result<u64> {
        let n: i64 = self.take()?;
        u64::try_from(n).map_err(|_| Fault::Unreadable(format!("{n} is less than nothing")))
    }

    /// A 32-bit number, 0 for none.
    pub(super) fn number<T>(&mut self, make: impl FnOnce(u32) -> Option<T>) -> Result<Option<T>> {
        let n: i64 = self.take()?;
        let n =
            u32::try_from(n).map_err(|_| Fault::Unreadable(format!("{n} is no 32-bit number")))?;
        Ok(make(n))
    }

    pub(super) fn uid(&mut self) -> Result<Option<Uid>> {
        self.number(Uid::new)
    }

    /// A folder's number, 0 for none.
    pub(super) fn folder_id(&mut self) -> Result<Option<FolderId>> {
        let n: i64 = self.take()?;
        Ok((n != 0).then_some(FolderId(n)))
    }

    /// A row's number, 0 for none.
    pub(super) fn row_id(&mut self) -> Result<Option<RowId>> {
        let n: i64 = self.take()?;
        Ok((n != 0).then_some(RowId(n)))
    }

    /// Unix time, 0 for never.
    pub(super) fn time(&mut self) -> Result<Option<i64>> {
        let t: i64 = self.take()?;
        Ok((t != 0).then_some(t))
    }

    pub(super) fn flags(&mut self) -> Result<Flags> {
        let text = self.text()?;
        let flags = Flags::from_text(&text);
        if flags.imap_names().count() == text.split_ascii_whitespace().count() {
            Ok(flags)
        } else {
            Err(Fault::Unreadable(format!("{text:?} are no flags")))
        }
    }

    pub(super) fn base(&mut self) -> Result<Option<BaseName>> {
        let Some(bytes) = self.some_bytes()? else { return Ok(None) };
        match BaseName::new(&bytes) {
            Some(base) => Ok(Some(base)),
            None => Err(Fault::Unreadable(format!("{:?} is no base name", bytes.escape_ascii()))),
        }
    }

    /// Three columns: sub, base, suffix; of a row that has a file.
    pub(super) fn name(&mut self) -> Result<(Subdir, &'a [u8], &'a str)> {
        let sub = sub(self.take()?)?;
        let mut next = || {
            let value = self.columns.get_ref(self.next);
            self.next += 1;
            value
        };
        let base = next()?.as_blob().map_err(|e| Fault::Unreadable(e.to_string()))?;
        let suffix = next()?.as_str().map_err(|e| Fault::Unreadable(e.to_string()))?;
        Ok((sub, base, suffix))
    }

    /// Three columns: sub, base, suffix.
    pub(super) fn place(&mut self) -> Result<Option<Place>> {
        let sub: i64 = self.take()?;
        let base = self.base()?;
        let suffix = self.text()?;
        let Some(base) = base else { return Ok(None) };
        let sub = self::sub(sub)?;
        if !suffix.is_empty() && !suffix.starts_with(":2,") {
            return Err(Fault::Unreadable(format!("{suffix:?} is no end of a file name")));
        }
        Ok(Some(Place { sub, file: FileName::from_parts(base, &suffix) }))
    }

    pub(super) fn hash(&mut self) -> Result<Option<ContentHash>> {
        let Some(bytes) = self.some_bytes()? else { return Ok(None) };
        match <[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(hash) => Ok(Some(ContentHash(hash))),
            Err(_) => Err(Fault::Unreadable(format!("a hash of {} bytes", bytes.len()))),
        }
    }

    pub(super) fn folder_name(&mut self) -> Result<Option<FolderName>> {
        let Some(text) = self.some_text()? else { return Ok(None) };
        match FolderName::from_text(&text) {
            Some(name) => Ok(Some(name)),
            None => Err(Fault::Unreadable(format!("{text:?} is no folder name"))),
        }
    }

    /// Seven columns: content, reader, message_id, date, wire_size, internal_date, server_id.
    pub(super) fn identity(&mut self) -> Result<Identity> {
        Ok(Identity {
            content: self.hash()?,
            reader: self.hash()?,
            fingerprint: Fingerprint { message_id: self.text()?.into(), date: self.text()?.into() },
            wire_size: self.count()?,
            internal_date: self.take()?,
            server_id: self.some_text()?.map(|s| ServerId(s.into())),
        })
    }
}

/// A place as its three columns.
fn sub(column: i64) -> Result<Subdir> {
    match column {
        0 => Ok(Subdir::Cur),
        1 => Ok(Subdir::New),
        n => Err(Fault::Unreadable(format!("{n} is no subdirectory"))),
    }
}

pub(super) fn place_out(place: Option<&Place>) -> (i64, &[u8], &str) {
    match place {
        Some(p) => {
            let sub = match p.sub {
                Subdir::Cur => 0,
                Subdir::New => 1,
            };
            (sub, p.file.base.as_bytes(), p.file.suffix())
        }
        None => (0, &[], ""),
    }
}

pub(super) fn uid_out(uid: Option<Uid>) -> i64 {
    uid.map_or(0, |u| u.get().into())
}

pub(super) fn row_out(id: Option<RowId>) -> i64 {
    id.map_or(0, |i| i.0)
}

pub(super) fn folder_out(id: Option<FolderId>) -> i64 {
    id.map_or(0, |i| i.0)
}

pub(super) fn hash_out(hash: Option<&ContentHash>) -> &[u8] {
    hash.map_or(&[], |h| &h.0)
}

pub(super) fn server_id_out(id: Option<&ServerId>) -> &str {
    id.map_or("", |i| &i.0)
}

pub(super) fn name_out(name: Option<&FolderName>) -> String {
    name.map_or_else(String::new, FolderName::to_text)
}

pub(super) fn count_out(n: u64) -> Result<i64> {
    i64::try_from(n).map_err(|_| Fault::internal(format!("{n} is too large for the ledger")))
}

/// Message-ID and Date in 64 bits, to be found by.
pub(super) fn fingerprint_key(f: &Fingerprint) -> i64 {
    let mut h = blake3::Hasher::new();
    h.update(f.message_id.as_bytes()).update(b"\0").update(f.date.as_bytes());
    let mut key = [0; 8];
    h.finalize_xof().fill(&mut key);
    i64::from_le_bytes(key)
}

/// Every result, read by `read`.
pub(super) fn all<T>(
    c: &Connection,
    sql: &str,
    params: impl Params,
    mut read: impl FnMut(&mut Cells<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut out = Vec::new();
    each(c, sql, params, |cells| {
        out.push(read(cells)?);
        Ok(())
    })?;
    Ok(out)
}

/// Every result, one at a time.
pub(super) fn each(
    c: &Connection,
    sql: &str,
    params: impl Params,
    mut f: impl FnMut(&mut Cells<'_>) -> Result<()>,
) -> Result<()> {
    let mut statement = c.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        f(&mut Cells::of(row))?;
    }
    drop(rows);
    #[cfg(test)]
    cost::note(&statement);
    Ok(())
}

/// The first result, if there is one.
pub(super) fn first<T>(
    c: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&mut Cells<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let mut statement = c.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let found = match rows.next()? {
        Some(row) => read(&mut Cells::of(row)).map(Some)?,
        None => None,
    };
    drop(rows);
    #[cfg(test)]
    cost::note(&statement);
    Ok(found)
}

/// Runs a statement; how many rows it changed.
pub(super) fn run(c: &Connection, sql: &str, params: impl Params) -> Result<u64> {
    Ok(c.prepare_cached(sql)?.execute(params)? as u64)
}

/// Runs a statement that must change exactly one row.
pub(super) fn run_one(c: &Connection, sql: &str, what: &str, params: impl Params) -> Result<()> {
    match run(c, sql, params)? {
        1 => Ok(()),
        n => Err(Fault::internal(format!("the ledger has {n} of {what}, not one"))),
    }
}

/// What questions cost, for the tests that say which ones must not read whole tables.
#[cfg(test)]
pub(super) mod cost {
    use rusqlite::{Statement, StatementStatus};
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<i32> = const { Cell::new(0) };
    }

    /// How many steps of whole-table scans and how many sorts there were during `f`.
    pub fn of<T>(f: impl FnOnce() -> T) -> (T, i32) {
        STEPS.set(0);
        (f(), STEPS.get())
    }

    pub fn note(statement: &Statement<'_>) {
        let steps = statement.reset_status(StatementStatus::FullscanStep);
        STEPS.set(STEPS.get() + steps + statement.reset_status(StatementStatus::Sort));
    }
}
