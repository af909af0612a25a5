//! Uploads: intents first, then APPENDs in large batches, then rows. A file is sent as it was when
//! it was read; one that changes while it is sent costs the connection, never the message.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::there::{advance, ensure_folder, intents, refused};
use super::{by_folder, journal};
use crate::account::pass::Pass;
use crate::error::{Error, Kind, Refusal, Result, Scope};
use crate::imap::{AppendSource, Appended, Outgoing};
use crate::ledger::{Action as Done, IntentKind, Side};
use crate::maildir::{self, FileStat, place_path};
use crate::model::{Flags, FolderId, Row, RowId, State};
use crate::reconcile::{FileId, LocalFile, Trees};

/// How many messages share a transaction of intents, and one call of APPENDs: ...
const BATCH: usize = 2_000;
/// ... and how many bytes, so that what was sent is soon in the ledger where the line is slow.
const BATCH_BYTES: u64 = 16 << 20;

/// Uploads all files, folder by folder.
pub async fn upload(p: &mut Pass<'_>, trees: &Trees, files: &[FileId]) -> Result<()> {
    let all = files.iter().filter_map(|id| trees.files.get(id).map(|f| (f.folder, (*id, f))));
    for (folder, mut files) in by_folder(all) {
        let mut most = BATCH;
        if !p.folder(folder)?.rec.note.is_empty() {
            // the folder was closed in the pass before: one is tried first. Where there is no room
            // for the smallest, there is none for the others.
            let least = files.iter().map(|(_, f)| f.identity.wire_size).min();
            files.sort_by_key(|(_, f)| Some(f.identity.wire_size) != least);
            most = 1;
        }
        let mut rest = files.as_slice();
        while !rest.is_empty() {
            let fit = batch_of(rest.iter().map(|(_, f)| f.identity.wire_size));
            let (part, later) = rest.split_at(fit.min(most));
            most = BATCH;
            let sent = batch(p, folder, part).await;
            if p.each(sent)?.is_none() {
                break;
            }
            rest = later;
        }
    }
    Ok(())
}

/// How many messages of these sizes make the next batch: at least one.
fn batch_of(sizes: impl Iterator<Item = u64>) -> usize {
    let mut bytes = 0u64;
    let fits = |size: &u64| {
        bytes = bytes.saturating_add(*size);
        bytes <= BATCH_BYTES
    };
    sizes.take(BATCH).take_while(fits).count().max(1)
}

async fn batch(p: &mut Pass<'_>, folder: FolderId, files: &[(FileId, &LocalFile)]) -> Result<()> {
    if !ensure_folder(p, folder).await? {
        return Ok(());
    }
    if p.folder(folder)?.permanent.is_none() {
        p.select(folder, true).await?;
    }
    let name = p.folder(folder)?.rec.name.clone();
    let permanent = p.folder(folder)?.permanent.clone().unwrap_or_default();
    let limit = p.session.caps().append_limit;
    let mut source = Source::default();
    let mut sent: Vec<(FileId, &LocalFile)> = Vec::new();
    for (id, f) in files {
        let path = place_path(&p.folder(folder)?.dir, &f.place);
        let Some(stat) = p.stats.get(id).copied() else { continue };
        if maildir::stat(&path).ok() != Some(stat) {
            p.look_again = true; // a reader was faster
            continue;
        }
        if limit.is_some_and(|most| f.identity.wire_size > most) {
            let e = Error::message(
                Kind::Refused,
                format!(
                    "{} is larger than the server takes ({} bytes)",
                    path.display(),
                    limit.unwrap_or_default()
                ),
            )
            .next("it stays here; reject the hold to keep it here only");
            p.refuse_file(*id, e)?;
            continue;
        }
        source.messages.push(Outgoing {
            flags: permanent.keeps(&f.flags),
            internal_date: f.identity.internal_date,
            size: f.identity.wire_size,
        });
        source.files.push((path, stat));
        sent.push((*id, *f));
    }
    if sent.is_empty() {
        return Ok(());
    }
    let wire = p.folder(folder)?.wire()?;
    let open: Vec<_> = sent.iter().map(|(_, f)| (None, folder, Some(*f))).collect();
    let open = intents(p, IntentKind::Append, &open)?;
    let answers = p.session.append(&wire, &mut source).await;
    let mut rows = Vec::new();
    let mut settled = Vec::new();
    let mut failure = None;
    for (((id, f), intent), answer) in sent.iter().zip(&open).zip(answers) {
        match answer {
            Ok(appended) => match row_of(p, folder, f, &permanent.keeps(&f.flags), appended)? {
                Some(row) => {
                    rows.push(row);
                    settled.push(*intent);
                    p.files.remove(id);
                }
                None => p.look_again = true, // found by pairing
            },
            Err(e) if e.kind == Kind::Refused => {
                settled.push(*intent);
                if lasts(e.refusal) {
                    p.refuse_file(*id, e.at(format_args!("folder {name}: {}", f.place)))?;
                } else if let Err(e) = refused(p, folder, e) {
                    failure = Some(e);
                }
            }
            Err(e) if e.scope <= Scope::Message => {
                // the file could not be read: nothing was sent
                settled.push(*intent);
                p.each::<()>(Err(e))?;
            }
            Err(e) => failure = Some(e), // nobody knows: the intent stays
        }
    }
    p.report.sent += rows.len() as u64;
    let entries: Vec<_> = rows
        .iter()
        .map(|r| journal::of_row(p, Done::Upload, Side::There, r, "it is new here"))
        .collect();
    advance(p, folder, rows.iter().filter_map(|r| r.uid))?;
    p.write_folder(folder, |tx| {
        for row in &rows {
            tx.insert_row(row)?;
        }
        settled.iter().try_for_each(|i| tx.delete_intent(*i))?;
        entries.iter().try_for_each(|e| tx.journal(e))
    })?;
    failure.map_or(Ok(()), Err)
}

/// Whether trying again would be refused again.
fn lasts(why: Option<Refusal>) -> bool {
    matches!(
        why,
        Some(Refusal::TooBig | Refusal::Cannot | Refusal::Limit | Refusal::Bad | Refusal::Unsaid)
            | None
    )
}

/// `sent`: those of its flags that the server stores; the others stay a difference.
fn row_of(
    p: &Pass<'_>,
    folder: FolderId,
    f: &LocalFile,
    sent: &Flags,
    appended: Appended,
) -> Result<Option<Row>> {
    let known = p.folder(folder)?.rec.uidvalidity;
    Ok(appended.filter(|(v, _)| Some(*v) == known).map(|(_, uid)| Row {
        id: RowId(0),
        folder,
        state: State::Synced,
        uid: Some(uid),
        gone: None,
        place: Some(f.place.clone()),
        agreed: sent.clone(),
        remote: sent.clone(),
        local: f.flags.clone(),
        identity: f.identity.clone(),
        exact: true,
        copy_of: None,
        keeps: false,
    }))
}

/// Files as APPEND wants them: CRLF line endings, exactly the size announced.
#[derive(Default)]
struct Source {
    messages: Vec<Outgoing>,
    files: Vec<(PathBuf, FileStat)>,
    open: Option<Open>,
    out: Vec<u8>,
}

struct Open {
    file: File,
    path: PathBuf,
    stat: FileStat,
    after_cr: bool,
    buffer: Vec<u8>,
}

/// Bytes read from a file at a time.
const PIECE: usize = 64 << 10;

impl AppendSource for Source {
    fn messages(&self) -> &[Outgoing] {
        &self.messages
    }

    async fn open(&mut self, index: usize) -> Result<()> {
        self.open = None;
        let Some((path, expected)) = self.files.get(index) else {
            return Err(Error::message(Kind::Internal, "no such message to upload"));
        };
        let (file, stat) = maildir::open_message(path)?;
        if stat != *expected {
            return Err(changed(path));
        }
        let buffer = vec![0; PIECE];
        self.open = Some(Open { file, path: path.clone(), stat, after_cr: false, buffer });
        Ok(())
    }

    async fn chunk(&mut self) -> Result<Option<&[u8]>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let n = open
            .file
            .read(&mut open.buffer)
            .map_err(|e| Error::io(Scope::Message, "read", &open.path, &e))?;
        if n == 0 {
            return Ok(None);
        }
        self.out.clear();
        let mut rest = open.buffer.get(..n).unwrap_or_default();
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, tail) = rest.split_at(at);
            let has_cr = if line.is_empty() { open.after_cr } else { line.ends_with(b"\r") };
            self.out.extend_from_slice(line);
            self.out.extend_from_slice(if has_cr { b"\n" } else { b"\r\n" });
            open.after_cr = false;
            rest = tail.get(1..).unwrap_or_default();
        }
        self.out.extend_from_slice(rest);
        if !rest.is_empty() {
            open.after_cr = rest.ends_with(b"\r");
        }
        Ok(Some(&self.out))
    }

    async fn settled(&mut self) -> Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let now = maildir::stat(&open.path)?;
        if now == open.stat { Ok(()) } else { Err(changed(&open.path)) }
    }
}

fn changed(path: &std::path::Path) -> Error {
    Error::message(Kind::Raced, format!("{} changed while it was sent", path.display()))
        .next("it is sent once it is left alone")
}

impl Pass<'_> {
    /// Notes what the server refuses for good: it waits for a decision, and is not tried again.
    fn refuse_file(&mut self, id: FileId, e: Error) -> Result<()> {
        self.refused.insert(id, e.what.clone());
        self.note(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(bytes: &[u8], piece: usize) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        std::fs::write(&path, bytes).unwrap();
        let mut s = Source {
            files: vec![(path.clone(), maildir::stat(&path).unwrap())],
            ..Source::default()
        };
        let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
        rt.block_on(async {
            s.open(0).await.unwrap();
            s.open.as_mut().unwrap().buffer = vec![0; piece];
            let mut all = Vec::new();
            while let Some(part) = s.chunk().await.unwrap() {
                all.extend_from_slice(part);
            }
            all
        })
    }

    #[test]
    fn a_batch_ends_by_number_or_by_bytes_and_is_never_empty() {
        let first = |sizes: &[u64]| batch_of(sizes.iter().copied());
        let mib = 1 << 20;
        assert_eq!(first(&[1; 5_000]), 2_000);
        assert_eq!(first(&[8 * mib, 8 * mib, 1]), 2);
        assert_eq!(first(&[20 * mib, 1]), 1);
        assert_eq!(first(&[1, u64::MAX, u64::MAX]), 1);
    }

    #[test]
    fn every_line_ends_in_crlf_wherever_the_pieces_end() {
        let cases: [(&[u8], &[u8]); 5] = [
            (b"a\nb\n", b"a\r\nb\r\n"),
            (b"a\r\nb\n\n", b"a\r\nb\r\n\r\n"),
            (b"\r\r\nx", b"\r\r\nx"),
            (b"\n\r\n\r", b"\r\n\r\n\r"),
            (b"", b""),
        ];
        for (file, wire) in cases {
            for piece in 1..6 {
                assert_eq!(sent(file, piece), wire, "{file:?} in pieces of {piece}");
                let mut d = crate::model::identity::Digester::new();
                d.update(file);
                assert_eq!(d.finish().wire_size, wire.len() as u64, "{file:?}");
            }
        }
    }
}
