//! What should have become of every message, said from the ghosts: where each stood before and
//! after the perturbation, and what the policy is. Knows nothing of plans, rows being paired, UIDs
//! or hashes; this is section 4 of the design, written a second time.

use std::collections::{BTreeMap, BTreeSet};

use mailkeep::model::{BaseName, Flags, FolderName, Row, SpecialUse, State};
use mailkeep::policy::decide::Side;
use mailkeep::policy::{FolderPolicy, LocalDelete, Policy, RemoteDelete};

use super::perturb::Fate;
use super::world::{Cid, Ghost, World};

/// Where a message stands.
#[derive(Debug, Clone, Default)]
pub struct Spot {
    /// Folder, UIDVALIDITY, UID, flags, bytes.
    pub server: Vec<(FolderName, u32, u32, Flags, Cid)>,
    /// Folder, base name, flags, bytes.
    pub local: Vec<(FolderName, BaseName, Flags, Cid)>,
}

impl Spot {
    fn cid(&self) -> Option<Cid> {
        self.server.first().map(|s| s.4).or(self.local.first().map(|l| l.3))
    }
}

/// Every message.
pub fn spots(w: &World) -> BTreeMap<Ghost, Spot> {
    let mut out: BTreeMap<Ghost, Spot> = BTreeMap::new();
    for (n, b) in &w.server {
        for (uid, m) in &b.mails {
            let at = (n.clone(), b.validity, *uid, m.flags.clone(), m.cid);
            out.entry(m.ghost).or_default().server.push(at);
        }
    }
    for (n, d) in &w.disk {
        for (base, f) in d {
            let at = (n.clone(), base.clone(), f.flags.clone(), f.cid);
            out.entry(f.ghost).or_default().local.push(at);
        }
    }
    out
}

/// The state of affairs that a pass begins with.
pub struct Check<'a> {
    /// As both sides agreed last.
    pub before: &'a World,
    /// As the perturbation left it.
    pub perturbed: &'a World,
    pub policy: &'a Policy,
    /// What became of the ledger.
    pub fate: Fate,
    /// It was killed in between.
    pub killed: bool,
}

/// Of what something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// A message in a folder that is left alone.
    LeftAlone(Ghost),
    /// Messages that look alike.
    Class(usize),
}

/// What should have become of one message.
#[derive(Debug, Clone, PartialEq)]
struct Want {
    server: Vec<FolderName>,
    local: Vec<FolderName>,
    flags: Option<Flags>,
    /// Its bytes may have been written into the Maildir.
    fetched: bool,
}

/// A deletion that the brake may hold, and what is then left.
struct Deletion {
    side: Side,
    folder: FolderName,
    held: Want,
}

impl Check<'_> {
    fn special(&self, name: &FolderName) -> Option<SpecialUse> {
        let of = |w: &World| w.server.get(name).and_then(|b| b.special);
        let mut known = self.perturbed.ledger.folders.values();
        let noted = || known.find(|k| k.name == *name).and_then(|k| k.special);
        of(self.perturbed).or(of(self.before)).or_else(noted)
    }

    fn policy(&self, name: &FolderName) -> FolderPolicy {
        self.policy.of(name, self.special(name))
    }

    /// Whether the folder is left alone.
    fn excluded(&self, name: &FolderName) -> bool {
        !self.policy.selects(name, self.special(name), false)
    }

    /// Whether a message has to do with a folder that is left alone, and whether with no other.
    fn outside(&self, was: &Spot, is: &Spot) -> Option<bool> {
        let spots = || [was, is].into_iter();
        let there = spots().flat_map(|s| s.server.iter().map(|x| &x.0));
        let names: Vec<_> =
            there.chain(spots().flat_map(|s| s.local.iter().map(|x| &x.0))).collect();
        let excluded = names.iter().filter(|n| self.excluded(n)).count();
        (excluded > 0).then_some(excluded == names.len())
    }

    fn trash(&self) -> Option<&FolderName> {
        let mut boxes = self.perturbed.server.iter();
        boxes.find(|(_, b)| b.special == Some(SpecialUse::Trash)).map(|(n, _)| n)
    }

    fn new_epoch(&self, name: &FolderName) -> bool {
        let validity = |w: &World| w.server.get(name).map(|b| b.validity);
        validity(self.perturbed).is_some_and(|v| validity(self.before) != Some(v))
    }

    /// Whether the messages of this folder came there from one that keeps.
    fn keeps(&self, ghost: Ghost) -> bool {
        let w = self.before;
        w.ledger.rows.values().any(|r| {
            r.keeps
                && (w.mail(r.folder, r.uid).is_some_and(|m| m.ghost == ghost)
                    || w.row_file(r).is_some_and(|f| f.ghost == ghost))
        })
    }

    /// Whether it has a name of ours, and the server has no message of that name, with other bytes.
    fn came_from_a_server(&self, base: &BaseName) -> bool {
        let w = self.before;
        let named = w
            .ledger
            .rows
            .values()
            .filter(|r| r.place.as_ref().is_some_and(|p| p.file.base == *base));
        let original = named.filter_map(|r| w.mail(r.folder, r.uid)).any(|m| {
            let mut there = self.perturbed.server.values().flat_map(|b| b.mails.values());
            there.any(|x| x.ghost == m.ghost)
        });
        base.is_ours() && !original
    }

    /// What the tables of the design say of one message.
    fn want(&self, ghost: Ghost, was: &Spot, is: &Spot) -> (Want, Option<Deletion>) {
        let server = is.server.first();
        let local = is.local.first();
        let at_server = server.map(|s| s.0.clone());
        let at_local = local.map(|l| l.0.clone());
        let mut want = Want {
            server: at_server.iter().cloned().collect(),
            local: at_local.iter().cloned().collect(),
            flags: None,
            fetched: false,
        };
        // of what was kept or absent, an old ledger still knows
        let hint = was.server.is_empty() != was.local.is_empty();
        if self.fate == Fate::Lost || self.fate == Fate::Restored && !hint {
            self.lost(&mut want, is);
            return (want, None);
        }
        let both = |want: &mut Want, f: &FolderName| {
            want.server = vec![f.clone()];
            want.local = vec![f.clone()];
        };
        let nowhere = |want: &mut Want| {
            want.server.clear();
            want.local.clear();
        };
        // where the server has it elsewhere, the file's place wins, if we may say so
        let meet = |want: &mut Want, y: &FolderName| {
            let same = at_server.as_ref() == Some(y);
            if same || !self.policy.read_only {
                both(want, y);
            }
        };
        match (was.server.first(), was.local.first()) {
            (Some(s), Some(l)) => {
                let origin = &s.0;
                let renumbered = server.map(|x| (&x.0, x.1, x.2)) != Some((&s.0, s.1, s.2));
                want.flags = match (server, local) {
                    (Some(x), Some(y)) => Some(Flags::merge(&s.3, &x.3, &y.2)),
                    _ => None,
                };
                let moved_here = at_local.as_ref().filter(|y| **y != l.0);
                match (server, &at_local) {
                    (Some(x), Some(_)) if moved_here.is_none() && renumbered => {
                        both(&mut want, &x.0);
                    }
                    (Some(_), Some(y)) => meet(&mut want, y),
                    (Some(x), None) if renumbered => {
                        // deleted here, moved there
                        if self.policy(&x.0).local_delete != LocalDelete::Keep
                            && !self.policy.read_only
                        {
                            both(&mut want, &x.0);
                            want.fetched = true;
                        }
                    }
                    (Some(_), None) => return self.deleted_here(origin, want),
                    (None, Some(y)) if moved_here.is_some() => want.local = vec![y.clone()],
                    (None, Some(_)) => {
                        let keep = self.new_epoch(origin)
                            || self.keeps(ghost)
                            || self.policy(origin).remote_delete == RemoteDelete::Keep;
                        if !keep {
                            let held = want.clone();
                            nowhere(&mut want);
                            let folder = origin.clone();
                            return (want, Some(Deletion { side: Side::Here, folder, held }));
                        }
                    }
                    (None, None) => {}
                }
            }
            // kept
            (None, Some(l)) => match (&at_server, &at_local) {
                (Some(x), None) => {
                    both(&mut want, x);
                    want.fetched = true;
                }
                (Some(x), Some(y)) if *y == l.0 => both(&mut want, x),
                (Some(_), Some(y)) => meet(&mut want, y),
                (None, _) => {}
            },
            // absent
            (Some(_), None) => {
                if let (Some(_), Some(y)) = (&at_server, &at_local) {
                    meet(&mut want, y);
                }
            }
            // new
            (None, None) => match (&at_server, &at_local) {
                (Some(x), None) => {
                    both(&mut want, x);
                    want.fetched = true;
                }
                (None, Some(y))
                    if self.policy(y).upload
                        && !self.policy.read_only
                        && !local.is_some_and(|l| self.came_from_a_server(&l.1)) =>
                {
                    both(&mut want, y);
                }
                (Some(x), Some(y)) => {
                    let same_bytes = server.map(|x| x.4) == local.map(|y| y.3);
                    if x != y || !same_bytes {
                        // nobody saw that they are one
                        want.local = vec![x.clone(), y.clone()];
                        want.local.sort();
                        if self.policy(y).upload && !self.policy.read_only {
                            want.server = want.local.clone();
                        }
                        want.fetched = true;
                        return (want, None);
                    }
                }
                _ => {}
            },
        }
        if want.flags.is_none() {
            want.flags = match (server, local) {
                (Some(x), Some(y)) => Some(Flags::unite(&x.3, &y.2)),
                (Some(x), None) => Some(x.3.clone()),
                (None, Some(y)) => Some(y.2.clone()),
                (None, None) => None,
            };
        }
        (want, None)
    }

    fn deleted_here(&self, origin: &FolderName, mut want: Want) -> (Want, Option<Deletion>) {
        let delete = self.policy(origin).local_delete;
        if self.policy.read_only || delete == LocalDelete::Keep {
            return (want, None);
        }
        let held = want.clone();
        let trashed = self.special(origin) == Some(SpecialUse::Trash);
        if delete == LocalDelete::Mirror || trashed {
            want.server.clear();
        } else if let Some(t) = self.trash() {
            want.server = vec![t.clone()];
            want.local = vec![t.clone()];
            want.fetched = true;
        } else {
            return (held, None);
        }
        (want, Some(Deletion { side: Side::There, folder: origin.clone(), held }))
    }

    fn lost(&self, want: &mut Want, is: &Spot) {
        match (is.server.first(), is.local.first()) {
            (Some(x), Some(y)) => {
                want.flags = Some(Flags::unite(&x.3, &y.2));
                want.local = vec![x.0.clone()];
            }
            (Some(x), None) => {
                want.local = vec![x.0.clone()];
                want.flags = Some(x.3.clone());
                want.fetched = true;
            }
            _ => {}
        }
    }

    /// Whether `after` is what should have become of it all.
    pub fn check(&self, after: &World) -> Result<(), String> {
        self.groups(after)?.into_values().collect()
    }

    /// Whether every message is what one of the two demands. The brake counts together what neither
    /// of them can tell apart, and is left out.
    pub fn either(&self, other: &Self, after: &World) -> Result<(), String> {
        let mut second = other.groups(after)?;
        let unbraked = self.policy.brake.messages >= 1000;
        let mut first = self.groups(after)?.into_iter().filter(|_| unbraked);
        first.try_for_each(|(key, said)| match second.remove(&key) {
            Some(Ok(())) => Ok(()),
            _ if self.is_absent(key, after) => Ok(()),
            _ => said,
        })
    }

    /// Whether it was deleted here, and is left on the server where that is what is wanted. What
    /// was done about the deletion, only the UIDs could have said.
    fn is_absent(&self, key: Group, after: &World) -> bool {
        let of_class = |cid: Option<Cid>| cid.is_some_and(|c| key == Group::Class(after.class(c)));
        let mut here = spots(self.perturbed).into_values().filter(|s| of_class(s.cid()));
        let mut now = spots(after).into_values().filter(|s| of_class(s.cid()));
        let keeps = |f: &FolderName| self.policy(f).local_delete == LocalDelete::Keep;
        here.all(|s| s.local.is_empty())
            && now.all(|s| s.local.is_empty() && s.server.iter().all(|x| keeps(&x.0)))
            && spots(after).into_values().filter(|s| of_class(s.cid())).count() == 1
    }

    /// What is to be said of each message, or of messages that look alike.
    fn groups(&self, after: &World) -> Result<BTreeMap<Group, Result<(), String>>, String> {
        let (was, is, now) = (spots(self.before), spots(self.perturbed), spots(after));
        let none = Spot::default();
        let ghosts: BTreeSet<Ghost> = was.keys().chain(is.keys()).copied().collect();
        if let Some(g) = now.keys().find(|g| !ghosts.contains(g)) {
            return Err(format!("message {g} out of nowhere: {:?}", now[g]));
        }
        // messages of the same class can stand for one another
        let mut classes: BTreeMap<usize, Vec<Ghost>> = BTreeMap::new();
        let mut across = BTreeSet::new();
        let mut wants = BTreeMap::new();
        let mut deletions = Vec::new();
        let mut out = BTreeMap::new();
        for g in &ghosts {
            let (a, b) = (was.get(g).unwrap_or(&none), is.get(g).unwrap_or(&none));
            let cid = a.cid().or(b.cid()).ok_or("a message without bytes")?;
            let class = self.perturbed.class(cid);
            match self.outside(a, b) {
                Some(true) => {
                    across.insert(class);
                    let said = self.left_alone(*g, b, now.get(g).unwrap_or(&none));
                    out.insert(Group::LeftAlone(*g), said);
                    continue;
                }
                Some(false) => {
                    across.insert(class);
                }
                None => {}
            }
            classes.entry(class).or_default().push(*g);
            let (want, deletion) = self.want(*g, a, b);
            wants.insert(*g, want);
            deletions.extend(deletion.map(|d| (*g, d)));
        }
        self.brake(deletions, &mut wants);
        for (class, ghosts) in &classes {
            let said = if across.contains(class) {
                self.not_lost(*class, ghosts, &is, &now)
            } else if let [g] = ghosts.as_slice() {
                self.single(*g, &wants[g], now.get(g).unwrap_or(&none), after)
            } else {
                self.several(*class, ghosts, &wants, &was, &is, &now)
            };
            out.insert(Group::Class(*class), said);
        }
        Ok(out)
    }

    /// What is in a folder that is left alone stays as it is.
    fn left_alone(&self, g: Ghost, is: &Spot, now: &Spot) -> Result<(), String> {
        let there =
            |s: &Spot| s.server.iter().map(|x| (x.0.clone(), x.3.clone())).collect::<Vec<_>>();
        if there(is) == there(now) && is.local == now.local {
            return Ok(());
        }
        Err(format!("message {g} was not left alone: {is:?} became {now:?}"))
    }

    /// Messages that came out of a folder that is left alone, or went into one. If one of them was
    /// on either side, one still is, unless it was put where it goes with the other side.
    fn not_lost(
        &self,
        class: usize,
        ghosts: &[Ghost],
        is: &BTreeMap<Ghost, Spot>,
        now: &BTreeMap<Ghost, Spot>,
    ) -> Result<(), String> {
        let count = |of: &BTreeMap<Ghost, Spot>| {
            let all = ghosts.iter().filter_map(|g| of.get(g));
            all.fold((0, 0), |(s, l), x| (s + x.server.len(), l + x.local.len()))
        };
        let ((s, l), (there, here)) = (count(is), count(now));
        if s > 0 && l > 0 && there + here == 0 {
            return Err(format!("class {class} lost across a folder that is left alone"));
        }
        if there > s + l || here > s + l {
            return Err(format!("class {class} doubled across a folder that is left alone"));
        }
        Ok(())
    }

    /// What the brake holds is left as it is.
    fn brake(&self, deletions: Vec<(Ghost, Deletion)>, wants: &mut BTreeMap<Ghost, Want>) {
        let b = self.policy.brake;
        let size = |f: &FolderName| {
            let l = &self.before.ledger;
            l.sizes.iter().filter(|(id, _)| l.folders[id].name == *f).map(|(_, n)| *n).sum::<u64>()
        };
        let whole: u64 = self.before.ledger.sizes.values().sum();
        let over =
            |n: u64, of: u64| n > u64::from(b.messages) && n * 100 > u64::from(b.percent) * of;
        for (g, d) in &deletions {
            let of_side = || deletions.iter().filter(|(_, x)| x.side == d.side);
            let here = of_side().filter(|(_, x)| x.folder == d.folder).count() as u64;
            let all = of_side().count() as u64;
            if over(here, size(&d.folder)) || over(all, whole) {
                wants.insert(*g, d.held.clone());
            }
        }
    }

    /// A message that no other resembles: exactly what the tables say.
    fn single(&self, g: Ghost, want: &Want, now: &Spot, after: &World) -> Result<(), String> {
        let mut server: Vec<FolderName> = now.server.iter().map(|s| s.0.clone()).collect();
        server.sort();
        let mut local: Vec<FolderName> = now.local.iter().map(|l| l.0.clone()).collect();
        local.sort();
        if server != want.server || local != want.local {
            return Err(format!("message {g}: want {want:?}, have {now:?}"));
        }
        let fetched = after.downloads.iter().filter(|x| **x == g).count()
            - self.before.downloads.iter().filter(|x| **x == g).count();
        if fetched > usize::from(want.fetched) {
            return Err(format!("message {g} fetched {fetched} times; want {want:?}"));
        }
        let Some(flags) = &want.flags else { return Ok(()) };
        if !server.is_empty() && !local.is_empty() && server != local {
            return Ok(()); // a move that waits; the flags wait with it
        }
        for l in &now.local {
            if l.2 != *flags {
                return Err(format!("message {g}: flags {} here, want {flags}", l.2));
            }
        }
        for s in &now.server {
            if s.3 != *flags && !self.policy.read_only && !now.local.is_empty() {
                return Err(format!("message {g}: flags {} there, want {flags}", s.3));
            }
        }
        Ok(())
    }

    /// Equal messages. Which of them is which nobody can say; but none may be lost, and never may
    /// there be more than there should.
    fn several(
        &self,
        class: usize,
        ghosts: &[Ghost],
        wants: &BTreeMap<Ghost, Want>,
        was: &BTreeMap<Ghost, Spot>,
        is: &BTreeMap<Ghost, Spot>,
        now: &BTreeMap<Ghost, Spot>,
    ) -> Result<(), String> {
        let count = |side: fn(&Spot) -> usize, of: &BTreeMap<Ghost, Spot>| -> usize {
            ghosts.iter().filter_map(|g| of.get(g)).map(side).sum()
        };
        let there = count(|s| s.server.len(), now);
        let here = count(|s| s.local.len(), now);
        let want_there: usize = ghosts.iter().map(|g| wants[g].server.len()).sum();
        let want_here: usize = ghosts.iter().map(|g| wants[g].local.len()).sum();
        let say = |what: &str| {
            let now: Vec<_> = ghosts.iter().filter_map(|g| now.get(g)).collect();
            Err(format!(
                "class {class} {what}: want {want_there} there and {want_here} here, have \
                 {there} and {here}: {now:?}"
            ))
        };
        // Two that were stirred may each be taken for the other: one that went and one that came
        // are one that was moved, and what would have gone with the first stays.
        let file = |of: &BTreeMap<Ghost, Spot>, g: &Ghost| {
            of.get(g)?.local.first().map(|l| (l.0.clone(), l.1.clone()))
        };
        let mail =
            |of: &BTreeMap<Ghost, Spot>, g: &Ghost| of.get(g)?.server.first().map(|s| s.0.clone());
        let renumbered = |g: &Ghost| match (was.get(g), is.get(g)) {
            (Some(a), Some(b)) => match (a.server.first(), b.server.first()) {
                (Some(a), Some(b)) => a.1 == b.1 && a.2 != b.2,
                _ => false,
            },
            _ => false,
        };
        let stirred = ghosts.iter().filter(|g| {
            file(was, g) != file(is, g) || mail(was, g) != mail(is, g) || renumbered(g)
        });
        let crossed = stirred.count().saturating_sub(1);
        if there > want_there + crossed || here > want_here + crossed {
            return say("doubled");
        }
        // a copy in the same folder, with the original removed, is a file renamed, and goes with the
        // server's message under mirror
        let folder = |of: &BTreeMap<Ghost, Spot>, g: &Ghost| file(of, g).map(|f| f.0);
        let renamed = ghosts.iter().any(|g| {
            let at = folder(was, g);
            at.is_some()
                && folder(is, g).is_none()
                && mail(is, g).is_none()
                && ghosts.iter().any(|c| folder(was, c).is_none() && folder(is, c) == at)
        });
        if there + here == 0 && want_there + want_here > 0 && !renamed {
            return say("lost");
        }
        // Where nothing went, none may be missing: not of those that were moved, nor of what came
        // on one side. One that came here and one that came there may be one.
        let full = |s: Option<&Spot>| s.is_some_and(|s| s.server.len() == 1 && s.local.len() == 1);
        let came = |g: &&Ghost, there: usize, here: usize| {
            let now = is.get(g).is_some_and(|s| s.server.len() == there && s.local.len() == here);
            now && !was.contains_key(g) && self.fate == Fate::Stays
        };
        let there_only = ghosts.iter().filter(|g| came(g, 1, 0)).count();
        let here_only = ghosts.iter().filter(|g| came(g, 0, 1)).count();
        // A copy with its original's name: when that follows the server, it gets another, and of
        // the two it may be the one that is `kept`. So is a copy of what came from a server.
        let base = |of: &BTreeMap<Ghost, Spot>, g: &Ghost| file(of, g).map(|f| f.1);
        let named: BTreeSet<_> = ghosts.iter().filter_map(|g| base(was, g)).collect();
        let riddle = |b: BaseName| b.is_ours() || named.contains(&b);
        let copies = || ghosts.iter().filter(|g| self.killed && came(g, 0, 1));
        let riddles = copies().any(|g| base(is, g).is_some_and(riddle));
        let unknown = if riddles { copies().count() } else { 0 };
        let loose = ghosts.iter().filter(|g| !full(was.get(g)) || !full(is.get(g))).count();
        let known = loose == there_only + here_only;
        let loose = if known { there_only.min(here_only) + unknown } else { loose };
        if there + loose < want_there || here + loose < want_here {
            return say("thinned out");
        }
        Ok(())
    }
}

/// What a killed and resumed run must have in common with one that went through: folders, bytes,
/// flags and states, but neither UIDs nor base names.
pub fn summary(w: &World) -> Vec<String> {
    let mut out = Vec::new();
    for (n, b) in &w.server {
        out.push(format!("there {n}"));
        out.extend(b.mails.values().map(|m| format!("there {n}: {} {}", m.cid, m.flags)));
    }
    for (n, d) in &w.disk {
        out.push(format!("here {n}"));
        out.extend(d.values().map(|f| format!("here {n}: {} {}", f.cid, f.flags)));
    }
    for r in w.ledger.rows.values() {
        let hash = r.identity.content;
        let what = (r.state, w.name(r.folder), hash, r.gone, r.keeps, r.agreed.to_text());
        out.push(format!("row {what:?}"));
    }
    out.sort();
    out
}

/// What must hold of every ledger after a pass: each row where it says it is.
pub fn ledger_is_true(w: &World, policy: &Policy, waits: bool) -> Result<(), String> {
    let selected = |r: &&Row| {
        let k = &w.ledger.folders[&r.folder];
        policy.selects(&k.name, k.special, false)
    };
    for r in w.ledger.rows.values().filter(selected) {
        let (mail, file) = (w.mail(r.folder, r.uid), w.row_file(r));
        let fine = match r.state {
            State::Kept => r.uid.is_none() && (file.is_some() || waits),
            // what is held or waits may miss a side
            State::Absent => (mail.is_some() || r.gone.is_some()) && r.place.is_none(),
            State::Synced => mail.is_some() || file.is_some() || r.gone.is_some(),
            State::Pending => mail.is_some(),
        };
        if !fine {
            return Err(format!("the ledger says {r:?}, but there: {mail:?}, here: {file:?}"));
        }
    }
    Ok(())
}
