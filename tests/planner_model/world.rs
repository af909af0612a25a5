//! The world in memory: a server, a Maildir, a ledger. Every message and every file carries a
//! `ghost`, the number of the message that it is. The planner never sees it; the checker does, and
//! so knows without any pairing what should have become of which message.

use std::collections::{BTreeMap, BTreeSet};

use mailkeep::model::{
    BaseName, ContentHash, FileName, Fingerprint, Flags, FolderId, FolderName, Gone, Identity,
    Place, Row, RowId, ServerId, SpecialUse, State, Subdir, Uid,
};
use mailkeep::policy::decide::{Side, Verdict};

/// Which bytes: an index into [`World::contents`].
pub type Cid = usize;
/// Which message.
pub type Ghost = u32;

/// Bytes, as far as anybody looks at them.
#[derive(Debug, Clone)]
pub struct Content {
    /// Message-ID; empty for none.
    pub message_id: String,
    pub date: String,
    pub size: u64,
    /// Equal for contents that differ only in what readers write into headers.
    pub class: usize,
}

/// A message on the server.
#[derive(Debug, Clone)]
pub struct Mail {
    pub cid: Cid,
    pub flags: Flags,
    pub date: i64,
    pub server_id: Option<ServerId>,
    pub ghost: Ghost,
}

/// A folder on the server.
#[derive(Debug, Clone)]
pub struct Mailbox {
    pub special: Option<SpecialUse>,
    pub validity: u32,
    pub next: u32,
    pub mails: BTreeMap<u32, Mail>,
}

/// A file in the Maildir.
#[derive(Debug, Clone)]
pub struct File {
    pub cid: Cid,
    pub flags: Flags,
    pub date: i64,
    pub ghost: Ghost,
}

/// A folder as the ledger knows it.
#[derive(Debug, Clone)]
pub struct Known {
    pub name: FolderName,
    pub special: Option<SpecialUse>,
    pub validity: Option<u32>,
    /// It was seen on the server.
    pub there: bool,
    /// It was seen in the Maildir.
    pub here: bool,
}

/// What is about to be done on the server that gives a message a UID there: committed before.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The row as it will be, but for the UID. Number 0: a new one.
    pub row: Row,
    /// The bytes.
    pub cid: Cid,
    /// UIDNEXT before.
    pub next: u32,
    /// UIDVALIDITY, if the folder was there.
    pub validity: Option<u32>,
    /// The deletion that it is.
    pub deletion: Option<FolderId>,
}

/// The ledger.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub folders: BTreeMap<FolderId, Known>,
    pub rows: BTreeMap<RowId, Row>,
    pub next_row: i64,
    pub intent: Option<Intent>,
    /// Whose file is about to be removed here, and whether the brake does not count that: committed
    /// before.
    pub unlinking: Option<(RowId, bool)>,
    pub first_pass: bool,
    /// What a person said of held rows.
    pub held_rows: BTreeMap<RowId, Verdict>,
    /// What a person said of held files.
    pub held_files: BTreeMap<(FolderId, BaseName), Verdict>,
    /// Deletions that nobody approved.
    pub deleted: BTreeMap<(Side, FolderId), u64>,
    /// Messages by folder when the brake's window began.
    pub sizes: BTreeMap<FolderId, u64>,
}

/// The process was killed.
#[derive(Debug)]
pub struct Killed;

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub contents: Vec<Content>,
    pub server: BTreeMap<FolderName, Mailbox>,
    pub disk: BTreeMap<FolderName, BTreeMap<BaseName, File>>,
    pub ledger: Ledger,
    /// Directories here that cannot be read, though what is in them stands.
    pub unread_dirs: BTreeSet<FolderName>,
    /// Files that cannot be read.
    pub unread_files: BTreeSet<BaseName>,
    /// Whether RFC822.SIZE is something else.
    pub sizes_lie: bool,
    /// The newest row when the pass began, where that matters.
    pub newest_before: Option<RowId>,
    /// Whether new folders are pulled as a stream where that is allowed.
    pub streams: bool,
    /// The messages whose bytes were written into the Maildir.
    pub downloads: Vec<Ghost>,
    /// How many messages pairing wanted the bytes of.
    pub asked: usize,
    /// Effects and commits so far.
    pub steps: u32,
    /// After how many steps to kill.
    pub kill_at: Option<u32>,
    pub counter: u32,
}

pub fn folder(name: &str) -> FolderName {
    FolderName::from_text(name).unwrap()
}

pub fn flags(names: &str) -> Flags {
    Flags::from_text(names)
}

pub fn place(base: &BaseName) -> Place {
    Place { sub: Subdir::Cur, file: FileName::bare(base.clone()) }
}

fn hash(kind: u8, n: usize) -> ContentHash {
    let mut h = [kind; 32];
    h[..8].copy_from_slice(&(n as u64).to_be_bytes());
    ContentHash(h)
}

/// The base under which a three-way merge is the union, except for `\Deleted`: for pairing where
/// nothing was agreed on.
pub fn base_for_union(a: &Flags, b: &Flags) -> Flags {
    let united = Flags::unite(a, b);
    let common = a.minus(&a.minus(b));
    common.union(&a.union(b).minus(&united))
}

impl World {
    pub fn fresh(&mut self) -> u32 {
        self.counter += 1;
        self.counter
    }

    /// One effect or one commit is due. It is not done if the process is killed here.
    pub fn step(&mut self) -> Result<(), Killed> {
        if self.kill_at == Some(self.steps) {
            return Err(Killed);
        }
        self.steps += 1;
        Ok(())
    }

    pub fn content(&mut self, message_id: &str, date: &str, size: u64) -> Cid {
        let class = self.contents.len();
        self.contents.push(Content {
            message_id: message_id.into(),
            date: date.into(),
            size,
            class,
        });
        class
    }

    /// The same message after a reader wrote into its headers.
    pub fn touched(&mut self, cid: Cid) -> Cid {
        let mut c = self.contents[cid].clone();
        c.size += 11;
        self.contents.push(c);
        self.contents.len() - 1
    }

    pub fn class(&self, cid: Cid) -> usize {
        self.contents[cid].class
    }

    fn fingerprint(&self, cid: Cid) -> Fingerprint {
        let c = &self.contents[cid];
        Fingerprint { message_id: c.message_id.as_str().into(), date: c.date.as_str().into() }
    }

    pub fn content_hash(&self, cid: Cid) -> ContentHash {
        hash(1, cid)
    }

    pub fn reader_hash(&self, cid: Cid) -> ContentHash {
        hash(2, self.class(cid))
    }

    /// What a file is recognised by.
    pub fn file_identity(&self, f: &File) -> Identity {
        Identity {
            content: Some(hash(1, f.cid)),
            reader: Some(self.reader_hash(f.cid)),
            fingerprint: self.fingerprint(f.cid),
            wire_size: self.contents[f.cid].size,
            internal_date: f.date,
            server_id: None,
        }
    }

    /// What a listing says of a message: no hash.
    pub fn mail_identity(&self, m: &Mail) -> Identity {
        let size = self.contents[m.cid].size;
        Identity {
            content: None,
            reader: None,
            fingerprint: self.fingerprint(m.cid),
            wire_size: if self.sizes_lie { size + 1000 + m.cid as u64 % 7 } else { size },
            internal_date: m.date,
            server_id: m.server_id.clone(),
        }
    }

    /// What a row knows of a message whose bytes are on both sides.
    pub fn whole_identity(&self, m: &Mail, f: &File) -> Identity {
        let file = self.file_identity(f);
        Identity { content: file.content, reader: file.reader, ..self.mail_identity(m) }
    }

    pub fn add_mailbox(&mut self, name: &FolderName, special: Option<SpecialUse>) {
        let validity = 1000 + self.fresh();
        let mailbox = Mailbox { special, validity, next: 1, mails: BTreeMap::new() };
        self.server.entry(name.clone()).or_insert(mailbox);
    }

    /// Puts a message into a mailbox, which is made if need be (TRYCREATE), with the use that it
    /// had, so that its policy stays the same. But no trash comes to be in the middle of a story.
    pub fn put_mail(&mut self, name: &FolderName, mail: Mail) -> u32 {
        let known = self.ledger.folders.values().find(|k| k.name == *name);
        let special = known
            .and_then(|k| k.special)
            .filter(|u| *u != SpecialUse::Trash)
            .filter(|u| self.server.values().all(|b| b.special != Some(*u)));
        self.add_mailbox(name, special);
        let b = self.server.get_mut(name).unwrap();
        let uid = b.next;
        b.next += 1;
        b.mails.insert(uid, mail);
        uid
    }

    /// Puts a file into a folder under a name that is free there.
    pub fn put_file(&mut self, name: &FolderName, base: BaseName, file: File) -> BaseName {
        let taken = self.disk.get(name).is_some_and(|d| d.contains_key(&base));
        let base = if taken { self.our_base() } else { base };
        self.disk.entry(name.clone()).or_default().insert(base.clone(), file);
        base
    }

    pub fn our_base(&mut self) -> BaseName {
        let n = self.fresh();
        BaseName::ours(1_700_000_000, 7, u64::from(n))
    }

    pub fn foreign_base(&mut self) -> BaseName {
        let n = self.fresh();
        BaseName::new(format!("1700000000.M{n}.reader").as_bytes()).unwrap()
    }

    /// The folder's number in the ledger, which is made if need be.
    pub fn folder_id(&mut self, name: &FolderName) -> FolderId {
        if let Some((id, _)) = self.ledger.folders.iter().find(|(_, k)| k.name == *name) {
            return *id;
        }
        let id = FolderId(i64::from(self.fresh()));
        self.ledger.folders.insert(
            id,
            Known { name: name.clone(), special: None, validity: None, there: false, here: false },
        );
        id
    }

    pub fn name(&self, id: FolderId) -> FolderName {
        self.ledger.folders[&id].name.clone()
    }

    pub fn mail(&self, folder: FolderId, uid: Option<Uid>) -> Option<&Mail> {
        self.server.get(&self.name(folder))?.mails.get(&uid?.get())
    }

    pub fn file(&self, folder: FolderId, base: &BaseName) -> Option<&File> {
        self.disk.get(&self.name(folder))?.get(base)
    }

    /// The file of a row, if it is where the row says.
    pub fn row_file(&self, row: &Row) -> Option<&File> {
        self.file(row.folder, &row.place.as_ref()?.file.base)
    }

    /// The intent is done: its row has this UID.
    pub fn fulfil(&mut self, intent: Intent, uid: u32) {
        let mut row = intent.row;
        row.uid = Uid::new(uid);
        // the folder may have been made on the way
        let validity = self.server.get(&self.name(row.folder)).map(|b| b.validity);
        if let Some(k) = self.ledger.folders.get_mut(&row.folder) {
            (k.validity, k.there) = (validity, true);
        }
        if row.id == RowId(0) {
            self.add_row(row);
        } else {
            self.ledger.held_rows.remove(&row.id);
            self.ledger.rows.insert(row.id, row);
        }
        if let Some(f) = intent.deletion {
            *self.ledger.deleted.entry((Side::There, f)).or_default() += 1;
        }
        self.ledger.intent = None;
    }

    /// The file that was to be removed is: its row goes. No other file is ever taken for it.
    pub fn unlinked(&mut self) {
        let Some((id, counts_not)) = self.ledger.unlinking.take() else { return };
        let Some(row) = self.ledger.rows.get(&id).filter(|r| self.row_file(r).is_none()) else {
            return;
        };
        let folder = row.folder;
        if !counts_not {
            *self.ledger.deleted.entry((Side::Here, folder)).or_default() += 1;
        }
        self.ledger.rows.remove(&id);
        self.ledger.held_rows.remove(&id);
    }

    pub fn add_row(&mut self, mut row: Row) -> RowId {
        self.ledger.next_row += 1;
        row.id = RowId(self.ledger.next_row);
        let id = row.id;
        self.ledger.rows.insert(id, row);
        id
    }

    /// A row of this state without anything.
    pub fn blank(folder: FolderId, state: State, identity: Identity) -> Row {
        Row {
            id: RowId(0),
            folder,
            state,
            uid: None,
            gone: None,
            place: None,
            agreed: Flags::default(),
            remote: Flags::default(),
            local: Flags::default(),
            identity,
            exact: true,
            copy_of: None,
            keeps: false,
        }
    }

    /// A folder that both sides have and the ledger knows.
    pub fn settle_folder(&mut self, text: &str, special: Option<SpecialUse>) -> FolderId {
        let name = folder(text);
        self.add_mailbox(&name, special);
        self.disk.entry(name.clone()).or_default();
        let id = self.folder_id(&name);
        let validity = self.server[&name].validity;
        let k = self.ledger.folders.get_mut(&id).unwrap();
        *k = Known { name, special, validity: Some(validity), there: true, here: true };
        id
    }

    /// A message as an earlier pass left it, in this state.
    pub fn settle(&mut self, text: &str, state: State, cid: Cid, names: &str) -> RowId {
        let base = self.our_base();
        self.settle_as(text, state, cid, names, base)
    }

    pub fn settle_as(
        &mut self,
        text: &str,
        state: State,
        cid: Cid,
        names: &str,
        base: BaseName,
    ) -> RowId {
        let name = folder(text);
        let id = self.folder_id(&name);
        let ghost = self.fresh();
        let (f, date) = (flags(names), 1_700_000_000 + i64::from(ghost));
        let mail = Mail { cid, flags: f.clone(), date, server_id: None, ghost };
        let file = File { cid, flags: f.clone(), date, ghost };
        let mut row = Self::blank(id, state, self.whole_identity(&mail, &file));
        if state != State::Kept {
            row.uid = Uid::new(self.put_mail(&name, mail));
        }
        if state != State::Absent {
            row.place = Some(place(&base));
            self.put_file(&name, base, file);
        }
        (row.agreed, row.remote, row.local) = (f.clone(), f.clone(), f);
        *self.ledger.sizes.entry(id).or_default() += 1;
        self.add_row(row)
    }

    /// Forgets the ledger.
    pub fn lose_ledger(&mut self) {
        // row numbers go on, so that a test can tell old rows from new ones
        let next_row = self.ledger.next_row;
        self.ledger = Ledger { next_row, first_pass: true, ..Ledger::default() };
    }

    /// The ledger or the Maildir was restored from a backup: what it says of `kept` and `absent`
    /// messages stays.
    pub fn distrust(&mut self) {
        let l = &mut self.ledger;
        l.rows.retain(|_, r| matches!(r.state, State::Kept | State::Absent));
        for r in l.rows.values_mut().filter(|r| r.state == State::Absent) {
            (r.uid, r.gone) = (None, Some(Gone::Epoch));
        }
        l.folders.values_mut().for_each(|k| k.validity = None);
        (l.intent, l.unlinking, l.first_pass) = (None, None, true);
    }

    /// Whether two rows have the same bytes. Which of them goes as one of several may depend on
    /// which is moved first.
    pub fn has_copies(&self) -> bool {
        let mut seen = BTreeSet::new();
        self.ledger.rows.values().any(|r| !seen.insert(r.identity.content))
    }

    /// Whether both sides are what the rows say.
    pub fn is_in_step(&self) -> bool {
        let agree = |r: &Row| match r.state {
            State::Synced => {
                self.mail(r.folder, r.uid).is_some_and(|m| m.flags == r.agreed)
                    && self.row_file(r).is_some_and(|f| f.flags == r.agreed)
            }
            State::Kept => self.row_file(r).is_some(),
            State::Absent => self.mail(r.folder, r.uid).is_some(),
            State::Pending => false,
        };
        let count = |states: [State; 2]| {
            self.ledger.rows.values().filter(|r| states.contains(&r.state)).count()
        };
        let there: usize = self.server.values().map(|b| b.mails.len()).sum();
        let here: usize = self.disk.values().map(|d| d.len()).sum();
        let renumbered = |(n, b): (&FolderName, &Mailbox)| {
            self.ledger.folders.values().any(|k| k.name == *n && k.validity != Some(b.validity))
        };
        self.ledger.rows.values().all(agree)
            && !self.server.iter().any(renumbered)
            && there == count([State::Synced, State::Absent])
            && here == count([State::Synced, State::Kept])
    }

    /// A world in step is where the next story begins: each row's two copies are one message, and
    /// the brake's window begins anew.
    pub fn begin_anew(&mut self) {
        self.downloads.clear();
        (self.steps, self.asked) = (0, 0);
        self.ledger.deleted.clear();
        self.ledger.sizes.clear();
        for row in self.ledger.rows.clone().into_values() {
            let (name, ghost) = (self.name(row.folder), self.fresh());
            *self.ledger.sizes.entry(row.folder).or_default() += 1;
            let mailbox = self.server.get_mut(&name);
            let uid = row.uid.map(Uid::get);
            if let (Some(b), Some(uid)) = (mailbox, uid)
                && let Some(m) = b.mails.get_mut(&uid)
            {
                m.ghost = ghost;
            }
            let dir = self.disk.get_mut(&name);
            if let (Some(d), Some(p)) = (dir, row.place)
                && let Some(f) = d.get_mut(&p.file.base)
            {
                f.ghost = ghost;
            }
        }
    }
}
