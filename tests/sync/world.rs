//! An account with a few folders, a proxy that sees every command, and a Maildir.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::common::proxy::Faults;
use crate::common::*;

/// The folders that [`World`] fills, with how many messages each has.
pub const FOLDERS: [(&str, usize); 4] =
    [("INBOX", 20), ("Work", 12), ("Lists/rust", 8), ("Überblick/日本", 3)];

/// A server, what stands before it, and the program that syncs it.
pub struct World<S: Server> {
    pub server: S,
    pub proxy: Proxy,
    pub mk: Mailkeep,
    pub mint: Mint,
}

/// A Dovecot in full, its first pull done.
pub fn synced() -> World<Dovecot> {
    World::synced(Dovecot::start())
}

impl<S: Server> World<S> {
    /// With its mail, before the first pull.
    pub fn new(server: S) -> Self {
        let world = Self::empty(server);
        let mut next = 0;
        for (folder, n) in FOLDERS {
            world.server.seed(folder, &world.mint.letters(next..next + n));
            next += n;
        }
        world
    }

    /// Without mail.
    pub fn empty(server: S) -> Self {
        let faults = Faults { hide: server.hide().to_owned(), ..Faults::default() };
        let proxy = Proxy::with(server.port(), faults);
        let mut mk = Mailkeep::to_port(proxy.port());
        // What most tests want: both sides alike.
        mk.deletes("mirror", "mirror");
        Self { server, proxy, mk, mint: Mint::new(1) }
    }

    /// With its mail, after the first pull.
    #[track_caller]
    pub fn synced(server: S) -> Self {
        let world = Self::new(server);
        world.mk.sync_ok();
        world.assert_same();
        world.proxy.reset();
        world
    }

    /// Fails the test unless both sides hold the same.
    #[track_caller]
    pub fn assert_same(&self) {
        assert_same(&self.server, self.mk.maildir());
    }

    pub fn local(&self, folder: &str) -> Vec<LocalMessage> {
        read_folder(&self.mk.folder(folder))
    }

    pub fn remote(&self, folder: &str) -> Vec<RemoteMessage> {
        self.server.imap().fetch_all(folder)
    }

    pub fn uids(&self, folder: &str) -> Vec<u32> {
        self.remote(folder).iter().map(|m| m.uid).collect()
    }

    /// The local message with the content of this remote one.
    #[track_caller]
    pub fn twin(&self, folder: &str, of: &RemoteMessage) -> LocalMessage {
        let all = self.local(folder);
        all.into_iter().find(|m| m.hash == of.hash).expect("it is here")
    }

    /// The files of a folder, by inode: who they are, whatever their names.
    pub fn inodes(&self, folder: &str) -> BTreeSet<u64> {
        self.local(folder).iter().map(|m| m.inode).collect()
    }

    /// Every file with its mtime: equal before and after means that nothing was written.
    pub fn files(&self) -> BTreeSet<(PathBuf, u64, i64)> {
        let all = read_maildir(self.mk.maildir());
        all.into_values().flatten().map(|m| (m.path, m.inode, m.date)).collect()
    }

    /// Fails the test if a mail body crossed the wire since the last `proxy.reset()`.
    #[track_caller]
    pub fn assert_no_bodies(&self) {
        assert_eq!(self.proxy.body_fetches(), 0, "{:#?}", self.proxy.commands());
        assert_eq!(self.proxy.count("APPEND"), 0, "{:#?}", self.proxy.commands());
    }

    /// The commands that change mail on the server.
    pub fn changes(&self) -> Vec<String> {
        let verbs = ["APPEND", "UID STORE", "UID MOVE", "UID COPY", "UID EXPUNGE", "EXPUNGE"];
        let folders = ["CREATE", "DELETE", "RENAME", "CLOSE"];
        let all = self.proxy.commands();
        all.into_iter()
            .filter(|c| verbs.iter().chain(&folders).any(|v| c.to_ascii_uppercase().starts_with(v)))
            .collect()
    }
}

/// Contents with their number, whatever flags and dates.
pub fn contents<'a>(hashes: impl Iterator<Item = &'a blake3::Hash>) -> Vec<[u8; 32]> {
    let mut all: Vec<_> = hashes.map(|h| *h.as_bytes()).collect();
    all.sort_unstable();
    all
}
