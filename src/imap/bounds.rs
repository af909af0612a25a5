//! How much a server may say before it answers a command. Time bounds silence; this bounds talk: a
//! flood of any kind of response ends in an error, soon and in little memory. Pure.
//!
//! What is legal stays far below: a folder's messages are fetched or expunged once each, and a
//! listing has a line or two for each folder.

use super::response::{Fetch, Looks, Response, Untagged};

/// Lines of LIST, and as many of STATUS: more folders than this are no account but an attack.
pub(super) const MOST_FOLDERS: usize = 100_000;
/// Bytes of a listing: its names are kept.
const LISTING: u64 = 32 << 20;
/// Responses that answer nothing: keepalives, EXISTS, what nobody understands.
const ASIDES: u64 = 10_000;
/// Their bytes, and those of SEARCH and VANISHED, which are long lines and few.
const ASIDE_BYTES: u64 = 64 << 20;
/// A SEARCH or VANISHED costs as much as so many other responses: each is a set to be united.
const SET: u64 = 10;
/// FETCH responses beyond a few for each message.
const SPARE: u64 = 10_000;
/// FETCH responses for each message that the folder has: one that answers, some that tell of
/// changes meanwhile.
const PER_MESSAGE: u64 = 4;
/// Bytes of FETCH without texts, beyond 1 KiB for each message: flags are kept.
const FETCHED: u64 = 8 << 20;
/// Bytes of headers, beyond 16 KiB for each message: of these little is kept.
const HEADERS: u64 = 1 << 30;
/// Bytes of bodies, beyond 64 MiB for each message, which is more than is taken of one at once.
const BODIES: u64 = 1 << 30;
/// Responses of all kinds, whatever the server says that the folder has.
const MOST: u64 = 4_000_000;

/// What was said since the last command was answered.
#[derive(Debug, Default)]
pub(super) struct Talk {
    all: u64,
    asides: u64,
    aside_bytes: u64,
    lists: u64,
    statuses: u64,
    listing: u64,
    fetches: u64,
    fetched: u64,
    headers: u64,
    bodies: u64,
    expunges: u64,
}

impl Talk {
    /// Counts a response of `size` bytes. `exists`: how many messages the selected folder had at
    /// most. Gives what there is too much of.
    pub(super) fn count(
        &mut self,
        response: &Response<'_>,
        size: usize,
        exists: u32,
    ) -> Result<(), &'static str> {
        let size = size as u64;
        let exists = u64::from(exists);
        self.all += 1;
        match response {
            Response::Tagged { .. } => {
                *self = Self::default();
                return Ok(());
            }
            Response::Untagged(Untagged::List(_)) => {
                self.lists += 1;
                self.listing += size;
            }
            Response::Untagged(Untagged::FolderStatus(_)) => {
                self.statuses += 1;
                self.listing += size;
            }
            Response::Untagged(Untagged::Fetch(f)) => {
                let (header, body) = texts(f);
                self.fetches += 1;
                self.headers += header;
                self.bodies += body;
                self.fetched += size.saturating_sub(header + body);
            }
            // perhaps a text that its frame does not fit
            Response::Untagged(Untagged::Unreadable(Looks::Fetch)) => {
                self.fetches += 1;
                self.headers += size;
            }
            // no more than there are
            Response::Untagged(Untagged::Expunge(_)) if self.expunges < exists => {
                self.expunges += 1;
            }
            Response::Untagged(
                Untagged::Search(_) | Untagged::Esearch { .. } | Untagged::Vanished { .. },
            ) => {
                self.asides += SET;
                self.aside_bytes += size;
            }
            Response::Continuation(_) | Response::Untagged(_) => {
                self.asides += 1;
                self.aside_bytes += size;
            }
        }
        let folders = MOST_FOLDERS as u64;
        if self.lists > folders || self.statuses > folders || self.listing > LISTING {
            return Err("the server lists folders without end");
        }
        if self.fetches > SPARE + PER_MESSAGE * exists
            || self.fetched > FETCHED + (exists << 10)
            || self.headers > HEADERS + (exists << 14)
            || self.bodies > BODIES + (exists << 26)
        {
            return Err("the server tells of messages without end");
        }
        if self.asides > ASIDES || self.aside_bytes > ASIDE_BYTES || self.all > MOST {
            return Err("the server sends without end and answers nothing");
        }
        Ok(())
    }
}

/// Whether a response brings a command nearer to its end: an answer, or a part of one.
pub(super) fn is_progress(response: &Response<'_>) -> bool {
    matches!(
        response,
        Response::Tagged { .. }
            | Response::Untagged(
                Untagged::List(_)
                    | Untagged::FolderStatus(_)
                    | Untagged::Fetch(_)
                    | Untagged::Expunge(_)
                    | Untagged::Search(_)
                    | Untagged::Esearch { .. }
                    | Untagged::Vanished { .. }
            )
    )
}

/// Bytes of header and of body.
fn texts(f: &Fetch<'_>) -> (u64, u64) {
    let header = f.header.as_ref().and_then(|h| h.as_deref()).map_or(0, <[u8]>::len);
    let body = f.body.as_ref().and_then(|b| b.data.as_deref()).map_or(0, <[u8]>::len);
    (header as u64, body as u64)
}

#[cfg(test)]
mod tests {
    use super::super::response::parse;
    use super::*;

    /// How many of these are taken.
    fn taken(line: &str, exists: u32) -> u64 {
        let mut talk = Talk::default();
        let response = parse(line.as_bytes());
        (0..10_000_000u64)
            .find(|_| talk.count(&response, line.len(), exists).is_err())
            .expect("an end")
    }

    #[test]
    fn every_flood_has_an_end() {
        assert_eq!(taken("* LIST () \"/\" a\r\n", 0), 100_000);
        assert_eq!(taken("* STATUS a (MESSAGES 1)\r\n", 0), 100_000);
        assert_eq!(taken(&format!("* LIST () \"/\" {}\r\n", "a".repeat(1 << 20)), 0), 31);
        for aside in ["* OK x\r\n", "+ go on\r\n", "* 1 EXISTS\r\n", "* X\r\n", "* 1 EXPUNGE\r\n"] {
            assert_eq!(taken(aside, 0), 10_000, "{aside}");
        }
        assert_eq!(taken("* SEARCH 1\r\n", 9), 1_000);
        assert_eq!(taken("* VANISHED 1\r\n", 9), 1_000);
        assert_eq!(taken("* 1 FETCH (UID 0)\r\n", 0), 10_000);
        assert_eq!(taken("* 1 FETCH (UID 1 FLAGS ())\r\n", u32::MAX), 4_000_000);
    }

    #[test]
    fn what_is_legal_goes_on() {
        // a large folder, listed with its flags while it is emptied by others
        let mut talk = Talk::default();
        let flags = "* 7 FETCH (UID 9 FLAGS (\\Seen NonJunk) MODSEQ (12345678901))\r\n";
        let (flags, size) = (parse(flags.as_bytes()), flags.len());
        let expunge = parse(b"* 1 EXPUNGE\r\n");
        for _ in 0..400_000 {
            talk.count(&flags, size, 1_000_000).unwrap();
            talk.count(&expunge, 13, 1_000_000).unwrap();
        }
        // and whole
        let body =
            format!("* 1 FETCH (UID 1 BODY[] {{{}}}\r\n{})\r\n", 1 << 20, "x".repeat(1 << 20));
        let (body, size) = (parse(body.as_bytes()), body.len());
        for _ in 0..5_000 {
            talk.count(&body, size, 2_000_000).unwrap();
        }
        talk.count(&parse(b"A1 OK x\r\n"), 9, 0).unwrap();
        assert_eq!(talk.all, 0);
    }
}
