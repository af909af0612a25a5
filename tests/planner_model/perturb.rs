//! One seed makes every choice: what both sides begin with (`start.rs`), and what happens on either
//! side. An operation is a kind and three numbers that are taken modulo what there is, so that any
//! list of operations can be carried out, and a failing list made shorter.

use mailkeep::model::{Flags, FolderName, Gone, ServerId, SpecialUse, State, SystemFlags};
use mailkeep::policy::{Brake, Policy, Rule};

use super::start::{self, new_content, some_flags};
use super::world::{Cid, File, Ghost, Mail, World, flags, folder};

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Arrive,
    ArriveEqual,
    Expunge,
    MoveThere,
    CopyThere,
    FlagThere,
    CreateThere,
    DeleteFolderThere,
    RenameFolderThere,
    NewEpoch,
    NewEpochs,
    DeleteHere,
    MoveHere,
    RewriteHere,
    CopyHere,
    AppearHere,
    EditDraft,
    FlagHere,
    PutBack,
    RenameFolderHere,
    DeleteFolderHere,
    ArriveAgain,
    AppearBoth,
    RenameHere,
    EditAndMove,
    AppearOurs,
    RenameFolderBoth,
    /// The same message is moved on one side, and copied to the same folder on the other.
    MoveAndCopy,
}

use Kind::*;

const KINDS: [Kind; 37] = [
    Arrive,
    Arrive,
    ArriveEqual,
    Expunge,
    Expunge,
    Expunge,
    MoveThere,
    MoveThere,
    MoveThere,
    CopyThere,
    FlagThere,
    FlagThere,
    CreateThere,
    DeleteFolderThere,
    RenameFolderThere,
    NewEpoch,
    NewEpochs,
    DeleteHere,
    DeleteHere,
    DeleteHere,
    MoveHere,
    MoveHere,
    RewriteHere,
    CopyHere,
    AppearHere,
    EditDraft,
    FlagHere,
    PutBack,
    RenameFolderHere,
    DeleteFolderHere,
    ArriveAgain,
    AppearBoth,
    RenameHere,
    EditAndMove,
    AppearOurs,
    RenameFolderBoth,
    MoveAndCopy,
];

/// Something that happens.
#[derive(Debug, Clone, Copy)]
pub struct Op {
    pub kind: Kind,
    pub a: usize,
    pub b: usize,
    pub c: usize,
}

/// A test case.
#[derive(Debug, Clone)]
pub struct Case {
    pub seed: u64,
    pub ops: Vec<Op>,
    /// What happens once that is in step again.
    pub more: Vec<Op>,
    /// What becomes of the ledger.
    pub fate: Fate,
    /// What becomes of it then.
    pub more_fate: Fate,
    /// Whether the first pass could observe every folder of the server, and of the Maildir.
    pub complete: (bool, bool),
    /// Equal copies.
    pub copies: bool,
    pub policy: Policy,
    /// What the policy is changed to in between.
    pub more_policy: Policy,
}

/// What becomes of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Stays,
    /// It goes.
    Lost,
    /// Either it or the Maildir is older than the other: only what was `kept` or `absent` is left
    /// of it.
    Restored,
}

fn fate(rng: &mut Rng, of_a_hundred: usize) -> Fate {
    match rng.below(100) {
        n if n >= of_a_hundred => Fate::Stays,
        n if n % 2 == 0 => Fate::Lost,
        _ => Fate::Restored,
    }
}

pub fn op(rng: &mut Rng) -> Op {
    let kind = *rng.pick(&KINDS);
    Op { kind, a: rng.below(1 << 20), b: rng.below(1 << 20), c: rng.below(1 << 20) }
}

pub fn case(seed: u64) -> (World, Case) {
    let mut rng = Rng(seed);
    let copies = rng.chance(60);
    let fate_of = fate(&mut rng, 30);
    let policy = start::policy(&mut rng);
    let w = start::world(&mut rng, copies);
    let n = 1 + rng.below(8);
    let ops = (0..n).map(|_| op(&mut rng)).collect();
    let more = (0..rng.below(5)).map(|_| op(&mut rng)).collect();
    let complete = match rng.below(100) {
        0..10 => (false, false),
        10..15 => (true, false),
        15..20 => (false, true),
        _ => (true, true),
    };
    let more_policy = if rng.chance(30) { start::policy(&mut rng) } else { policy.clone() };
    let mut case = Case {
        seed,
        ops,
        more,
        fate: fate_of,
        more_fate: fate(&mut rng, 15),
        complete,
        copies,
        policy,
        more_policy,
    };
    // which of several equal copies the brake counts cannot be said without pairing, nor what has
    // to do with a folder that is left alone
    let all = case.policy.exclude.is_empty() && case.more_policy.exclude.is_empty();
    if !copies && rng.chance(40) && all {
        case.policy.brake =
            Brake { percent: *rng.pick(&[0, 10, 30, 60]), messages: rng.below(3) as u32 };
    }
    (w, case)
}

type At<K> = (FolderName, K);

fn mails(w: &World) -> Vec<At<u32>> {
    let of = |(n, b): (&FolderName, &super::world::Mailbox)| {
        b.mails.keys().map(|u| (n.clone(), *u)).collect::<Vec<_>>()
    };
    w.server.iter().flat_map(of).collect()
}

fn files(w: &World) -> Vec<At<mailkeep::model::BaseName>> {
    let of =
        |(n, d): (&FolderName, &std::collections::BTreeMap<mailkeep::model::BaseName, File>)| {
            d.keys().map(|b| (n.clone(), b.clone())).collect::<Vec<_>>()
        };
    w.disk.iter().flat_map(of).collect()
}

fn take<T>(of: Vec<T>, n: usize) -> Option<T> {
    let len = of.len();
    of.into_iter().nth(n.checked_rem(len)?)
}

fn is_drafts(n: &FolderName) -> bool {
    n.to_text().contains("Drafts")
}

/// A reader wrote into its headers. A draft's new bytes are a new draft, so no such file becomes one
/// here.
fn altered(w: &World, f: &FolderName, base: &mailkeep::model::BaseName) -> bool {
    let cid = w.disk[f][base].cid;
    w.class(cid) != cid
}

/// Edited where a row knows the file: nobody looks at its bytes there.
fn in_place(w: &World, to: &FolderName, base: &mailkeep::model::BaseName, cid: Cid) -> bool {
    w.ledger.rows.values().any(|r| {
        w.name(r.folder) == *to
            && r.place.as_ref().is_some_and(|p| p.file.base == *base)
            && r.identity.content != Some(w.content_hash(cid))
    })
}

/// Other bytes have this Message-ID and Date: an edited draft's, or those that a reader wrote into.
/// Which of several copies is which only bytes that nobody has any more could say.
fn torn(w: &World, cid: Cid) -> bool {
    let c = &w.contents[cid];
    let alike = w.contents.iter().filter(|x| x.message_id == c.message_id && x.date == c.date);
    !c.message_id.is_empty() && alike.count() > 1
}

fn toggle(f: &Flags, n: usize) -> Flags {
    let one = flags(["\\Seen", "\\Flagged", "$Forwarded", "todo"][n % 4]);
    if one.minus(f).is_empty() { f.minus(&one) } else { f.union(&one) }
}

/// Does it; what there is nothing to do to is left alone.
pub fn perturb(w: &mut World, case: &Case) {
    for op in &case.ops {
        // each operation brings its own randomness, so that leaving one out changes no other
        let mut rng = Rng(op.c as u64);
        let _ = one(w, case, *op, &mut rng);
    }
    match case.fate {
        Fate::Stays => {}
        Fate::Lost => w.lose_ledger(),
        Fate::Restored => w.distrust(),
    }
}

fn one(w: &mut World, case: &Case, op: Op, rng: &mut Rng) -> Option<()> {
    let server_folder = |w: &World, n| take(w.server.keys().cloned().collect::<Vec<_>>(), n);
    let disk_folder = |w: &World, n| take(w.disk.keys().cloned().collect::<Vec<_>>(), n);
    match op.kind {
        Arrive => {
            let cid = new_content(w, rng);
            let at = server_folder(w, op.a)?;
            arrive(w, &at, cid, rng);
        }
        ArriveEqual => {
            let cid = op.b.checked_rem(w.contents.len()).filter(|c| case.copies && !torn(w, *c))?;
            let at = server_folder(w, op.a)?;
            arrive(w, &at, cid, rng);
        }
        Expunge => {
            let (f, uid) = take(mails(w), op.a)?;
            w.server.get_mut(&f)?.mails.remove(&uid);
        }
        MoveThere => {
            let (f, uid) = take(mails(w), op.a)?;
            let to = server_folder(w, op.b)?;
            // as a draft, or without the date, only the bytes tell a move, and an altered file has
            // others
            let cid = w.server[&f].mails[&uid].cid;
            let altered = w
                .disk
                .values()
                .flat_map(|d| d.values())
                .any(|f| f.cid != cid && w.class(f.cid) == w.class(cid));
            if altered && is_drafts(&to) {
                return None;
            }
            let mut mail = w.server.get_mut(&f)?.mails.remove(&uid)?;
            if op.c.is_multiple_of(4) {
                mail.server_id = mail.server_id.map(|i| ServerId(format!("{}'", i.0).into()));
            }
            if op.c.is_multiple_of(5) && !altered {
                mail.date += 1; // a client that moves by APPEND
            }
            w.put_mail(&to, mail);
        }
        CopyThere => {
            let (f, uid) = take(mails(w), op.a).filter(|_| case.copies)?;
            let to = server_folder(w, op.b)?;
            let mail = w.server[&f].mails[&uid].clone();
            if torn(w, mail.cid) {
                return None;
            }
            let ghost = w.fresh();
            w.put_mail(&to, Mail { ghost, ..mail });
        }
        FlagThere => {
            let (f, uid) = take(mails(w), op.a)?;
            let mail = w.server.get_mut(&f)?.mails.get_mut(&uid)?;
            mail.flags = toggle(&mail.flags, op.b);
        }
        CreateThere => {
            let name = folder(["New", "New/Deep", "Work/2025"][op.a % 3]);
            w.add_mailbox(&name, None);
        }
        DeleteFolderThere => {
            let f = server_folder(w, op.a).filter(|f| !f.is_inbox())?;
            // made anew by an upload, it is no \Trash any more, and another policy holds
            let is_trash = w.server[&f].special == Some(SpecialUse::Trash);
            let name = |r: &Rule| r.folders.iter().any(|p| p.matches(&f, Some(SpecialUse::Trash)));
            if is_trash && case.policy.rules.iter().any(name) {
                return None;
            }
            w.server.remove(&f);
        }
        RenameFolderThere => {
            let f = server_folder(w, op.a).filter(|f| !f.is_inbox())?;
            let to = folder(&format!("Renamed/{}", f.to_text()));
            if !w.server.contains_key(&to) {
                let mut b = w.server.remove(&f)?;
                if op.b.is_multiple_of(2) {
                    b.validity = 5000 + w.fresh();
                }
                w.server.insert(to, b);
            }
        }
        NewEpoch => {
            let f = server_folder(w, op.a)?;
            epoch(w, &f);
        }
        NewEpochs => epochs(w),
        DeleteHere => {
            let (f, base) = take(files(w), op.a)?;
            w.disk.get_mut(&f)?.remove(&base);
        }
        MoveHere | RenameHere => {
            let (f, base) = take(files(w), op.a)?;
            let to = if op.kind == MoveHere { disk_folder(w, op.b)? } else { f.clone() };
            let base_there = if op.kind == RenameHere || op.c.is_multiple_of(3) {
                w.foreign_base()
            } else {
                base.clone()
            };
            if altered(w, &f, &base) && is_drafts(&to)
                || in_place(w, &to, &base_there, w.disk[&f][&base].cid)
            {
                return None;
            }
            let file = w.disk.get_mut(&f)?.remove(&base)?;
            w.put_file(&to, base_there, file);
        }
        RewriteHere => {
            let (f, base) = take(files(w), op.a)?;
            let to = disk_folder(w, op.b)?;
            let mut file = w.disk[&f][&base].clone();
            if altered(w, &f, &base) && is_drafts(&to) {
                return None;
            }
            // Only what a row knows can be known again by what readers leave alone, and only where
            // Message-ID and Date say so can the server's UIDs be new as well.
            let class = w.class(file.cid);
            let here = w.disk.values().flat_map(|d| d.values()).map(|f| f.cid);
            let there = w.server.values().flat_map(|b| b.mails.values()).map(|m| m.cid);
            let alone = here.filter(|c| w.class(*c) == class).count() == 1
                && there.filter(|c| w.class(*c) == class).count() <= 1
                && w.ledger.rows.values().any(|r| {
                    let draft = r.agreed.has(SystemFlags::DRAFT) || is_drafts(&w.name(r.folder));
                    r.identity.content == Some(w.content_hash(file.cid)) && !draft
                });
            let id = &w.contents[file.cid].message_id;
            let same_id = w.contents.iter().filter(|c| c.message_id == *id).count();
            let drafts = w.server.iter().filter(|(n, _)| is_drafts(n));
            let draft = is_drafts(&f)
                || is_drafts(&to)
                || file.flags.has(SystemFlags::DRAFT)
                || drafts.flat_map(|(_, b)| b.mails.values()).any(|m| w.class(m.cid) == class);
            if alone && !id.is_empty() && same_id == 1 && !draft && !w.sizes_lie {
                file.cid = w.touched(file.cid);
            }
            w.disk.get_mut(&f)?.remove(&base);
            file.flags = toggle(&file.flags, op.c);
            let base = w.foreign_base();
            w.put_file(&to, base, file);
        }
        CopyHere => {
            let (f, base) = take(files(w), op.a).filter(|_| case.copies)?;
            let to = disk_folder(w, op.b)?;
            let ghost = w.fresh();
            let file = File { ghost, ..w.disk[&f][&base].clone() };
            let base = if to == f || op.c.is_multiple_of(2) { w.foreign_base() } else { base };
            if in_place(w, &to, &base, file.cid) {
                return None;
            }
            w.put_file(&to, base, file);
        }
        AppearHere => {
            let cid = new_content(w, rng);
            let at = disk_folder(w, op.a)?;
            let ghost = w.fresh();
            appear(w, &at, cid, ghost, rng);
        }
        AppearOurs => {
            let cid = new_content(w, rng);
            let at = disk_folder(w, op.a)?;
            let ghost = w.fresh();
            let file = File { cid, flags: draft_flags(&at, rng), date: 1_800_000_000, ghost };
            let base = w.our_base();
            w.put_file(&at, base, file);
        }
        EditDraft => {
            let drafts: Vec<_> = files(w).into_iter().filter(|(f, _)| is_drafts(f)).collect();
            let (f, base) = take(drafts, op.a)?;
            let old = w.disk.get_mut(&f)?.remove(&base)?;
            let c = w.contents[old.cid].clone();
            let cid = w.content(&c.message_id, &c.date, c.size);
            let (ghost, base) = (w.fresh(), w.foreign_base());
            // Without the ledger, nothing else says of a copy elsewhere that it is a draft, nor of
            // a folder that the server has no more; and a Message-ID pairs what is none.
            let mut flags = old.flags;
            if case.fate != Fate::Stays {
                flags = flags.union(&self::flags("\\Draft"));
            }
            w.put_file(&f, base, File { cid, ghost, flags, date: old.date });
        }
        EditAndMove => {
            // Only the name is left of what it was; whether the server has that still could not be
            // said of one of several copies.
            let (f, base) = take(files(w), op.a).filter(|_| !case.copies)?;
            let to = disk_folder(w, op.b).filter(|to| *to != f)?;
            if !case.policy.exclude.is_empty() {
                return None; // what is in a folder that is left alone is known by its bytes only
            }
            let n = w.contents.len();
            let (cid, ghost) = (w.content(&format!("<edited{n}@x>"), "today", 1500), w.fresh());
            if in_place(w, &to, &base, cid) {
                return None;
            }
            let old = w.disk.get_mut(&f)?.remove(&base)?;
            w.put_file(&to, base, File { cid, ghost, ..old });
        }
        FlagHere => {
            let (f, base) = take(files(w), op.a)?;
            let file = w.disk.get_mut(&f)?.get_mut(&base)?;
            file.flags = toggle(&file.flags, op.b);
        }
        PutBack => {
            let absent = of_state(w, State::Absent);
            let (ghost, cid) = take(absent, op.a)?;
            if !files(w).iter().any(|(f, b)| w.disk[f][b].ghost == ghost) {
                let at = disk_folder(w, op.b)?;
                appear(w, &at, cid, ghost, rng);
            }
        }
        RenameFolderHere => {
            let f = disk_folder(w, op.a).filter(|f| !f.is_inbox() && !is_drafts(f))?;
            let to = folder(&format!("Local/{}", f.to_text()));
            if !w.disk.contains_key(&to) {
                let d = w.disk.remove(&f)?;
                w.disk.insert(to, d);
            }
        }
        RenameFolderBoth => {
            let f = server_folder(w, op.a).filter(|f| !f.is_inbox() && !is_drafts(f))?;
            let to = folder(&format!("Both/{}", f.to_text()));
            if w.disk.contains_key(&f) && !w.disk.contains_key(&to) && !w.server.contains_key(&to) {
                let d = w.disk.remove(&f)?;
                w.disk.insert(to.clone(), d);
                let b = w.server.remove(&f)?;
                w.server.insert(to, b);
            }
        }
        MoveAndCopy => {
            let rows: Vec<_> = w.ledger.rows.values().filter(|_| case.copies).cloned().collect();
            let row = take(rows, op.a)?;
            let from = w.name(row.folder);
            let to = server_folder(w, op.b).filter(|f| w.disk.contains_key(f))?;
            let base = row.place.as_ref()?.file.base.clone();
            let (mail, file) = (w.mail(row.folder, row.uid)?.clone(), w.row_file(&row)?.clone());
            if mail.cid != file.cid || torn(w, mail.cid) {
                return None;
            }
            let there = if op.c.is_multiple_of(3) { w.foreign_base() } else { base.clone() };
            if in_place(w, &to, &there, file.cid) {
                return None;
            }
            let ghost = w.fresh();
            if op.c.is_multiple_of(2) {
                w.disk.get_mut(&from)?.remove(&base);
                w.put_file(&to, there, file);
                w.put_mail(&to, Mail { ghost, ..mail });
            } else {
                let there = if to == from { w.foreign_base() } else { there };
                w.put_file(&to, there, File { ghost, ..file });
                w.server.get_mut(&from)?.mails.remove(&row.uid?.get());
                w.put_mail(&to, mail);
            }
        }
        DeleteFolderHere => {
            let f = disk_folder(w, op.a).filter(|f| !f.is_inbox())?;
            w.disk.remove(&f);
        }
        ArriveAgain => {
            let kept = of_state(w, State::Kept);
            let (ghost, cid) = take(kept, op.a).filter(|(_, cid)| w.class(*cid) == *cid)?;
            if !mails(w).iter().any(|(f, u)| w.server[f].mails[u].ghost == ghost) {
                let at = server_folder(w, op.b)?;
                arrive_as(w, &at, cid, ghost, rng);
            }
        }
        AppearBoth => {
            let at = server_folder(w, op.a).filter(|f| w.disk.contains_key(f))?;
            let cid = new_content(w, rng);
            let ghost = arrive(w, &at, cid, rng);
            appear(w, &at, cid, ghost, rng);
        }
    }
    Some(())
}

/// Every folder has new UIDs.
pub fn epochs(w: &mut World) {
    for f in w.server.keys().cloned().collect::<Vec<_>>() {
        epoch(w, &f);
    }
}

fn epoch(w: &mut World, f: &FolderName) {
    let n = w.fresh();
    if let Some(b) = w.server.get_mut(f) {
        b.validity = 9000 + n;
        // UIDs are dealt out anew, from 1 or not
        let mails: Vec<Mail> = std::mem::take(&mut b.mails).into_values().collect();
        b.next = 1 + n % 3;
        for m in mails {
            b.mails.insert(b.next, m);
            b.next += 1;
        }
    }
}

fn arrive(w: &mut World, at: &FolderName, cid: Cid, rng: &mut Rng) -> Ghost {
    let ghost = w.fresh();
    arrive_as(w, at, cid, ghost, rng);
    ghost
}

fn draft_flags(at: &FolderName, rng: &mut Rng) -> Flags {
    let f = flags(&some_flags(rng));
    if is_drafts(at) { f.union(&flags("\\Draft")) } else { f }
}

fn arrive_as(w: &mut World, at: &FolderName, cid: Cid, ghost: Ghost, rng: &mut Rng) {
    let mail = Mail {
        cid,
        flags: draft_flags(at, rng),
        date: 1_800_000_000 + i64::from(ghost),
        server_id: None,
        ghost,
    };
    w.put_mail(at, mail);
}

fn appear(w: &mut World, at: &FolderName, cid: Cid, ghost: Ghost, rng: &mut Rng) {
    let file = File { cid, flags: draft_flags(at, rng), date: 1_800_000_000, ghost };
    let base = w.foreign_base();
    w.put_file(at, base, file);
}

/// The messages of the rows in this state, by the ledger and what it points at.
fn of_state(w: &World, state: State) -> Vec<(Ghost, Cid)> {
    w.ledger
        .rows
        .values()
        .filter(|r| r.state == state && r.gone != Some(Gone::Epoch))
        .filter_map(|r| {
            let mail = w.mail(r.folder, r.uid).map(|m| (m.ghost, m.cid));
            mail.or(w.row_file(r).map(|f| (f.ghost, f.cid)))
        })
        .collect()
}
