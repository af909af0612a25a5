//! The server: one LIST with STATUS, beside which a new session opens INBOX, then only the folders
//! that changed, each as cheaply as it can be had (QRESYNC, CONDSTORE, all flags), and always
//! counted against EXISTS.

use std::collections::{BTreeMap, BTreeSet};

use super::super::pass::{Fresh, Pass};
use crate::error::{Error, Kind, Refusal, Result, Scope};
use crate::executor::ASK_AGAIN_AFTER;
use crate::imap::{Beside, Known, Listed, Listing, Opened, Selected, Status};
use crate::ledger::FolderRecord;
use crate::model::{
    Flags, FolderId, FolderName, PermanentFlags, SystemFlags, Uid, UidSet, UidValidity,
};
use crate::policy::RemoteDelete;
use crate::reconcile::Presence;

/// Observes every folder of the server, except for what new messages say.
pub async fn server(p: &mut Pass<'_>) -> Result<()> {
    p.remote_complete = true;
    p.close();
    let (inbox, listing) = list(p).await?;
    let unreadable = !listing.errors.is_empty();
    for e in listing.errors {
        p.remote_complete = false;
        p.note(e)?;
    }
    let mut listed = BTreeSet::new();
    for l in listing.folders.iter().filter(|l| l.selectable) {
        listed.insert(take_listed(p, l)?);
    }
    let (open, mut selected) = match (p.folder_named(&FolderName::inbox()), inbox) {
        (Some(id), Some(opened)) => (Some(id), Some(p.opened_beside(id, opened)?)),
        _ => (None, None),
    };
    unlisted(p, &listed, unreadable).await?;
    let mut ids: Vec<FolderId> = p.folders.keys().copied().collect();
    // to ask for one that is not listed may have closed it
    let open = open.filter(|id| p.open.is_some_and(|(open, _)| open == *id));
    // before another is opened
    ids.sort_by_key(|id| open != Some(*id));
    for id in ids {
        let f = p.folder(id)?;
        if !f.selected || f.server != Presence::There {
            continue;
        }
        let seen = match f.failed.clone() {
            Some(e) => Err(e),
            None => folder(p, id, selected.take().filter(|_| open == Some(id))).await,
        };
        if let Err(e) = seen {
            let e = if e.scope == Scope::Message { e.widen(Scope::Folder) } else { e };
            p.remote_complete = false;
            p.folder_mut(id)?.failed = Some(e.clone());
            p.note(e)?;
        }
    }
    still_refused(p);
    Ok(())
}

/// What the server would not make is not asked for at every pass, unless what may be the reason
/// changed, or a person asks for that folder.
fn still_refused(p: &mut Pass<'_>) {
    let (now, relisted, asked) = (p.started, p.relisted, &p.options.folders);
    for f in p.folders.values_mut() {
        let until = f.rec.retry_at;
        if f.server != Presence::Never || f.closed.is_some() || until == 0 {
            continue;
        }
        let named = asked.iter().any(|g| g.matches(&f.rec.name, f.rec.special_use));
        // a clock that was set back makes nobody wait for longer
        let waits = now < until && until <= now + ASK_AGAIN_AFTER;
        if waits && !relisted && !named && !f.rec.note.is_empty() {
            f.closed = Some(f.rec.note.clone());
        }
    }
}

/// The folders of the server, and INBOX opened: it is the likeliest to have changed, and in a new
/// session that costs no round trip. A session that cannot leave it again could not be kept.
async fn list(p: &mut Pass<'_>) -> Result<(Option<Opened>, Listing)> {
    let inbox = FolderName::inbox();
    let new = !p.session.has_listed() && p.session.caps().unselect;
    if !new || !p.account.policy.selects(&inbox, None, false) {
        return Ok((None, p.session.list().await?));
    }
    let rec = p.folder_named(&inbox).and_then(|id| p.folders.get(&id)).map(|f| &f.rec);
    let want = match rec.filter(|r| r.uidvalidity.is_some()) {
        Some(rec) => Beside::Changes(known(rec)),
        None => Beside::Uids,
    };
    // it has this name everywhere (RFC 9051 5.1)
    let wire = rec.and_then(|r| r.wire.clone()).unwrap_or_else(|| b"INBOX".to_vec());
    let (opened, listing) = p.list_beside(&wire, want).await?;
    // the UIDNEXT of the later STATUS may be past what SELECT showed
    Ok((opened.filter(|o| o.selected.uidnext.is_some()), listing))
}

/// What the ledger knows of a folder, where it knows all that QRESYNC needs.
fn known(rec: &FolderRecord) -> Option<Known> {
    let (uidvalidity, modseq, uidnext) = (rec.uidvalidity?, rec.modseq?, rec.uidnext?);
    (uidnext > Uid::MIN).then_some(Known { uidvalidity, modseq, uidnext })
}

/// Whether any folder has new messages that this pass has not seen. What vanished from one folder
/// may have arrived in another since that was looked at.
pub async fn server_moved_on(p: &mut Pass<'_>) -> Result<bool> {
    let listing = p.session.list().await?;
    let mut unsaid = Vec::new();
    for l in listing.folders.iter().filter(|l| l.selectable) {
        let Some(id) = p.folder_named(&l.name) else { return Ok(true) };
        let f = p.folder(id)?;
        if !f.selected {
            continue;
        }
        match l.status.as_ref().map(|s| s.uidnext) {
            None => return Ok(true),
            Some(None) => unsaid.push((id, f.rec.uidnext)),
            Some(next) if next != f.rec.uidnext => return Ok(true),
            Some(_) => {}
        }
    }
    // a server without UIDNEXT can still be asked for what came since
    for (id, from) in unsaid {
        let Some(from) = from else { return Ok(true) };
        if p.select(id, false).await.is_err() {
            return Ok(true); // nothing is known of it
        }
        if !p.session.uids_from(from).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes over what LIST says of a folder.
fn take_listed(p: &mut Pass<'_>, l: &Listed) -> Result<FolderId> {
    p.maildir.check(&l.name).or_else(|e| p.note(e))?;
    let id = match p.folder_named(&l.name) {
        Some(id) => id,
        None => {
            p.relisted = true;
            p.report.news_in.insert(l.name.clone());
            p.add_folder(&l.name, |rec| take_record(rec, l))?
        }
    };
    let gmail_view = p.session.caps().labels
        && matches!(
            l.special_use,
            Some(crate::model::SpecialUse::Flagged | crate::model::SpecialUse::Important)
        );
    let selected = p.account.policy.selects(&l.name, l.special_use, !l.personal || gmail_view)
        && p.maildir.check(&l.name).is_ok();
    let policy = p.account.policy.of(&l.name, l.special_use);
    let f = p.folder_mut(id)?;
    f.server = Presence::There;
    f.personal = l.personal;
    f.selected = selected;
    f.policy = policy;
    f.status.clone_from(&l.status);
    f.failed.clone_from(&l.status_error);
    let before = f.rec.clone();
    take_record(&mut f.rec, l);
    let came = f.rec.on_server != before.on_server;
    if f.rec != before {
        // LIST says it again whenever it is asked
        p.remember_folder(id)?;
    }
    p.relisted |= came;
    Ok(id)
}

fn take_record(rec: &mut FolderRecord, l: &Listed) {
    rec.wire = Some(l.wire.clone());
    rec.separator = l.separator.map(char::from);
    rec.special_use = l.special_use;
    rec.mailbox_id.clone_from(&l.mailbox_id);
    rec.on_server = true;
}

/// Folders that the ledger knows and LIST does not show are gone only if STATUS says so too.
async fn unlisted(p: &mut Pass<'_>, listed: &BTreeSet<FolderId>, unreadable: bool) -> Result<()> {
    let mut ids = Vec::new();
    let mut wires = Vec::new();
    for (id, f) in &mut p.folders {
        if listed.contains(id) {
            continue;
        }
        // what is not on the server is selected by its name alone
        f.policy = p.account.policy.of(&f.rec.name, f.rec.special_use);
        f.selected = p.account.policy.selects(&f.rec.name, f.rec.special_use, false);
        if let (true, Some(wire)) = (f.rec.on_server, &f.rec.wire) {
            ids.push(*id);
            wires.push(wire.clone());
        } else {
            f.server = Presence::Never;
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    let answers = p.session.status(&wires).await?;
    for (id, answer) in ids.into_iter().zip(answers) {
        let name = p.folder(id)?.rec.name.clone();
        match answer {
            Ok(Some(status)) => {
                let f = p.folder_mut(id)?;
                f.server = Presence::There;
                f.status = Some(status);
            }
            Ok(None) if name.is_inbox() => {
                return Err(Error::account(Kind::Protocol, "the server shows no INBOX")
                    .next("a server always has one; nothing was changed, sync again later"));
            }
            // a LIST line that could not be read may have been this folder's
            Ok(None) | Err(_) if unreadable => {
                p.remote_complete = false;
                let f = p.folder_mut(id)?;
                f.server = Presence::There;
                f.status = None;
            }
            Ok(None) => vanished(p, id)?,
            // Dovecot 2.3 and Courier refuse without a code; a server in trouble has one to say so
            // (UNAVAILABLE, INUSE, SERVERBUG, CORRUPTION). LIST was complete and did not show it either.
            Err(e) if e.refusal == Some(Refusal::Unsaid) && !name.is_inbox() => vanished(p, id)?,
            // BAD may be about the command (RFC 9051 7.1.3), so another one is asked
            Err(e)
                if e.refusal == Some(Refusal::Bad)
                    && !name.is_inbox()
                    && does_not_open(p, id).await? =>
            {
                vanished(p, id)?;
            }
            Err(e) => {
                let e = e.at(format!("folder {name}"));
                p.remote_complete = false;
                let f = p.folder_mut(id)?;
                f.server = Presence::There;
                f.failed = Some(e.clone());
                p.note(e)?;
            }
        }
    }
    Ok(())
}

/// Whether the server refuses to open a folder as one that is not there. BAD to that as well says it
/// only of a server that knows both commands: to the same about INBOX it has an answer.
async fn does_not_open(p: &mut Pass<'_>, id: FolderId) -> Result<bool> {
    match p.open_folder(id, false, None).await {
        Ok(_) => Ok(false),
        Err(e) if e.refusal == Some(Refusal::Bad) => {
            let Some(inbox) = p.folder_named(&FolderName::inbox()) else { return Ok(false) };
            let wire = p.folder(inbox)?.wire()?;
            if !matches!(p.session.status(&[wire]).await?.first(), Some(Ok(Some(_)))) {
                return Ok(false);
            }
            let opened = p.open_folder(inbox, false, None).await;
            p.close(); // read-only is not how it is looked into
            match opened {
                Err(e) if e.kind != Kind::Refused => Err(e),
                opened => Ok(opened.is_ok()),
            }
        }
        Err(e) if e.kind == Kind::Refused => Ok(matches!(
            e.refusal,
            Some(Refusal::Unsaid | Refusal::NonExistent | Refusal::TryCreate)
        )),
        Err(e) => Err(e),
    }
}

/// A folder went: its messages vanished.
fn vanished(p: &mut Pass<'_>, id: FolderId) -> Result<()> {
    let f = p.folder_mut(id)?;
    f.server = Presence::Vanished;
    f.status = None;
    f.fresh = None;
    if !f.selected {
        return Ok(());
    }
    let everything = UidSet::range(Uid::MIN, Uid::MAX);
    let had = f.rec.uidvalidity.is_some();
    f.rec.uidvalidity = None;
    f.rec.uidnext = None;
    f.rec.modseq = None;
    f.rec.messages = 0;
    if had {
        let name = f.rec.name.clone();
        p.relisted = true;
        p.report.news_in.insert(name);
        p.write_folder(id, |tx| tx.vanish(id, &everything).map(|_| ()))?;
    }
    Ok(())
}

/// Whether STATUS proves that nothing happened since the ledger's cursors.
fn unchanged(p: &Pass<'_>, id: FolderId) -> Result<bool> {
    let f = p.folder(id)?;
    let Some(s) = &f.status else { return Ok(false) };
    let same_mail = s.uidvalidity.is_some()
        && s.uidvalidity == f.rec.uidvalidity
        && s.uidnext.is_some()
        && s.uidnext == f.rec.uidnext
        && s.messages == f.rec.messages;
    let same_flags = s.messages == 0 || s.modseq.is_some() && s.modseq == f.rec.modseq;
    Ok(same_mail && same_flags)
}

/// Takes STATUS at its word for a folder that was never looked into: there is nothing yet to which
/// something could have happened, and what is in it is listed when it is opened to be fetched.
fn first_told(p: &mut Pass<'_>, id: FolderId) -> Result<bool> {
    let f = p.folder(id)?;
    if f.rec.uidvalidity.is_some() {
        return Ok(false);
    }
    let condstore = p.session.caps().condstore;
    let whole = |s: &Status| {
        let cursors = s.uidvalidity.is_some() && s.uidnext.is_some();
        cursors && (s.modseq.is_some() || !condstore || s.messages == 0)
    };
    let Some(s) = f.status.clone().filter(whole) else { return Ok(false) };
    epoch(p, id, s.uidvalidity, s.uidnext)?;
    let count = Some(u64::from(s.messages));
    let fresh = Fresh { from: Uid::MIN, count, modseq: s.modseq, uidnext: s.uidnext };
    nothing_or(p, id, fresh, s.messages)?;
    Ok(true)
}

/// Whether the server shows only a window of the folder: what is not in it is not gone.
fn is_windowed(p: &Pass<'_>) -> bool {
    p.session.caps().window.is_some_and(|most| p.session.exists() >= most)
}

/// Looks into a folder if it changed. `opened`: it is open already.
async fn folder(p: &mut Pass<'_>, id: FolderId, opened: Option<Selected>) -> Result<()> {
    if let Some(selected) = &opened {
        // what SELECT says overrides STATUS
        p.folder_mut(id)?.status = Some(selected.status());
    }
    if unchanged(p, id)? || first_told(p, id)? {
        return Ok(());
    }
    let rec = p.folder(id)?.rec.clone();
    let selected = match opened {
        Some(selected) => selected,
        None => p.open_folder(id, true, known(&rec)).await?,
    };
    epoch(p, id, selected.uidvalidity, selected.uidnext)?;
    let Some(from) = p.folder(id)?.rec.uidnext else {
        // nothing of it is known
        let fresh = Fresh {
            from: Uid::MIN,
            count: Some(u64::from(selected.exists)),
            modseq: selected.modseq,
            uidnext: next_uid(p, id, &selected)?,
        };
        return nothing_or(p, id, fresh, selected.exists);
    };
    let went_back = matches!((selected.modseq, rec.modseq), (Some(now), Some(then)) if now < then);
    let since = rec.modseq.filter(|_| !went_back && selected.modseq.is_some());
    let mut seen = Seen::default();
    match (&selected.delta, since) {
        (Some(delta), Some(_)) => {
            seen.vanished = delta.vanished.clone();
            seen.vanishes_told = true;
            seen.flags.clone_from(&delta.changed);
        }
        (_, Some(since)) => {
            if let Some(last) = before(from) {
                let all = UidSet::range(Uid::MIN, last);
                let flags = &mut seen.flags;
                p.session
                    .fetch_flags(&all, Some(since), &mut |uid, f| {
                        flags.push((uid, f));
                        Ok(())
                    })
                    .await?;
            }
        }
        (_, None) => {
            let flags = &mut seen.flags;
            let mut listed = Vec::new();
            p.session
                .fetch_flags(&UidSet::range(Uid::MIN, Uid::MAX), None, &mut |uid, f| {
                    listed.push(uid);
                    flags.push((uid, f));
                    Ok(())
                })
                .await?;
            seen.listed = Some(listed.into_iter().collect());
        }
    }
    if let Some(listed) = &seen.listed {
        agree(p, id, listed)?;
    }
    commit_seen(p, id, from, seen, &selected).await
}

/// What a look at a changed folder showed.
#[derive(Default)]
struct Seen {
    vanished: UidSet,
    flags: Vec<(Uid, Flags)>,
    /// Whether `vanished` is all that went (QRESYNC).
    vanishes_told: bool,
    /// Every UID, where all were listed.
    listed: Option<UidSet>,
}

/// A listing counts only if it agrees with EXISTS.
fn agree(p: &Pass<'_>, id: FolderId, listed: &UidSet) -> Result<()> {
    let exists = p.session.exists();
    if listed.len() == u64::from(exists) {
        return Ok(());
    }
    let name = &p.folder(id)?.rec.name;
    Err(Error::folder(
        Kind::Protocol,
        format!(
            "folder {name}: the server lists {} messages and says that it has {exists}",
            listed.len()
        ),
    )
    .next("nothing there was taken for deleted; sync again"))
}

/// UIDVALIDITY changed, or UIDNEXT went back: the UIDs say nothing any more, and pairing decides.
fn epoch(
    p: &mut Pass<'_>,
    id: FolderId,
    uidvalidity: Option<UidValidity>,
    uidnext: Option<Uid>,
) -> Result<()> {
    let f = p.folder_mut(id)?;
    let Some(now) = uidvalidity else {
        return Err(Error::folder(
            Kind::Protocol,
            format!("folder {}: the server has no lasting UIDs for it", f.rec.name),
        )
        .next("it cannot be mirrored; exclude it"));
    };
    let back = matches!((uidnext, f.rec.uidnext), (Some(now), Some(then)) if now < then);
    let new = f.rec.uidvalidity != Some(now);
    if new || back {
        let had = f.rec.uidvalidity.is_some();
        f.rec.uidvalidity = Some(now);
        f.rec.uidnext = None;
        f.rec.modseq = None;
        f.rec.messages = 0;
        if had {
            tracing::warn!(
                "{}: all UIDs of {} are new; its messages are paired again",
                p.account.name,
                p.folder(id)?.rec.name
            );
        }
        // the epoch is on record before any row has a UID of it
        p.jot_folder(id, |tx| tx.mark_epoch(id).map(|_| ()))?;
    }
    Ok(())
}

fn before(uid: Uid) -> Option<Uid> {
    Uid::new(uid.get() - 1)
}

/// Commits flags and vanishes, heals what does not add up, and finds out whether there is news.
async fn commit_seen(
    p: &mut Pass<'_>,
    id: FolderId,
    from: Uid,
    mut seen: Seen,
    selected: &Selected,
) -> Result<()> {
    if let Some(listed) = &seen.listed {
        seen.vanished = minus(&p.ledger.with(|l| l.uid_set(id))?, listed);
    }
    apply(p, id, from, &seen)?;
    let on_server = p.ledger.with(|l| l.count_on_server(id))?;
    let exists = u64::from(p.session.exists());
    let no_new_uid = selected.uidnext == Some(from);
    let mut count = exists.checked_sub(on_server);
    let mut missed = None;
    if let Some(listed) = &seen.listed {
        missed = minus(listed, &p.ledger.with(|l| l.uid_set(id))?).iter().next();
    }
    if seen.listed.is_none() && !seen.vanishes_told && !no_new_uid && !is_windowed(p) {
        // as many may have gone as came, and CONDSTORE tells of neither
        let new = p.session.uids_from(from).await?;
        let known = p.ledger.with(|l| l.rows_by_uids(id, &new))?.len() as u64;
        count = count.filter(|n| *n + known == new.len());
    }
    if is_windowed(p) {
        count = None;
    } else if seen.listed.is_none() && (count.is_none() || no_new_uid && exists != on_server) {
        // does not add up: list everything
        let listed = p.session.uids().await?;
        agree(p, id, &listed)?;
        let known = p.ledger.with(|l| l.uid_set(id))?;
        missed = minus(&listed, &known).iter().next();
        let vanished = minus(&known, &listed);
        apply(p, id, from, &Seen { vanished, ..Seen::default() })?;
        let on_server = p.ledger.with(|l| l.count_on_server(id))?;
        count = u64::from(p.session.exists()).checked_sub(on_server);
    }
    // a UID below the cursor that no row knows was missed by an interrupted pull
    let from = missed.filter(|u| *u < from).unwrap_or(from);
    let uidnext = next_uid(p, id, selected)?;
    let exists = p.session.exists();
    nothing_or(p, id, Fresh { from, count, modseq: selected.modseq, uidnext }, exists)
}

/// UIDNEXT as the folder was opened. Courier's SELECT does not say it; what STATUS said before is
/// older, and so are all UIDs below it.
fn next_uid(p: &Pass<'_>, id: FolderId, selected: &Selected) -> Result<Option<Uid>> {
    let f = p.folder(id)?;
    let status = f.status.as_ref().filter(|s| s.uidvalidity == selected.uidvalidity);
    Ok(selected.uidnext.or_else(|| status.and_then(|s| s.uidnext).max(f.rec.uidnext)))
}

/// Notes new messages, or that there are none and the cursors hold.
fn nothing_or(p: &mut Pass<'_>, id: FolderId, fresh: Fresh, exists: u32) -> Result<()> {
    let f = p.folder_mut(id)?;
    if fresh.count == Some(0) {
        f.fresh = None;
        let before = f.rec.clone();
        f.rec.uidnext = fresh.uidnext.or(f.rec.uidnext).or(Some(Uid::MIN));
        f.rec.modseq = fresh.modseq;
        f.rec.messages = exists;
        if f.rec != before || exists == 0 {
            return p.remember_folder(id);
        }
    } else {
        f.fresh = Some(fresh);
        let name = f.rec.name.clone();
        p.report.news_in.insert(name);
    }
    Ok(())
}

/// Writes flags and vanishes of what was known into the rows. The cursor of flags moves with them;
/// UIDNEXT moves when the new messages are known.
fn apply(p: &mut Pass<'_>, id: FolderId, from: Uid, seen: &Seen) -> Result<()> {
    let mut gone = UidSet::new();
    for (a, b) in seen.vanished.ranges() {
        if a < from && !is_windowed(p) {
            gone.insert_range(a, b.min(from));
        }
    }
    let keep = p.folder(id)?.policy.remote_delete == RemoteDelete::Keep;
    let permanent = p.folder(id)?.permanent.clone().unwrap_or_default();
    // only what really differs is written: a second look writes nothing. The server tells of what
    // we moved and expunged ourselves, too.
    if !gone.is_empty() {
        let known = p.ledger.with(|l| l.uid_set(id))?;
        gone = known.iter().filter(|u| gone.contains(*u)).collect();
    }
    let mut changed = Vec::new();
    for part in seen.flags.chunks(500) {
        let uids: UidSet = part.iter().map(|(u, _)| *u).collect();
        let shown: BTreeMap<Uid, &Flags> = part.iter().map(|(u, f)| (*u, f)).collect();
        for mut row in p.ledger.with(|l| l.rows_by_uids(id, &uids))? {
            let Some(flags) = row.uid.and_then(|u| shown.get(&u)) else { continue };
            let unknown = unknown(flags, &row.agreed, keep, &permanent);
            row.agreed = row.agreed.minus(&unknown);
            let remote = as_observed(flags, &row.agreed, keep);
            if remote != row.remote || !unknown.is_empty() {
                row.remote = remote;
                changed.push((row, !unknown.is_empty()));
            }
        }
    }
    if gone.is_empty() && changed.is_empty() {
        return Ok(());
    }
    let name = p.folder(id)?.rec.name.clone();
    p.report.news_in.insert(name);
    p.jot_folder(id, |tx| {
        tx.vanish(id, &gone)?;
        changed.iter().try_for_each(|(row, anew)| match anew {
            true => tx.update_row(row),
            false => tx.update_remote(row),
        })
    })
}

/// The flags that the server shows, with what it shall not say here taken from what was agreed on.
pub fn as_observed(flags: &Flags, agreed: &Flags, keep: bool) -> Flags {
    let mut seen = flags.clone();
    if keep {
        // a reader here would purge the file
        seen = seen.without(SystemFlags::DELETED);
        seen.system = seen.system.union(agreed.system.intersection(SystemFlags::DELETED));
    }
    seen
}

/// What of the agreed flags is unknown there: the server does not show it and would not store it,
/// which is not the same as removed. It stays here, as a difference.
fn unknown(flags: &Flags, agreed: &Flags, keep: bool, permanent: &PermanentFlags) -> Flags {
    let unknown = agreed.minus(flags).minus(&permanent.keeps(agreed));
    if keep { unknown.without(SystemFlags::DELETED) } else { unknown }
}

fn minus(a: &UidSet, b: &UidSet) -> UidSet {
    a.iter().filter(|u| !b.contains(*u)).collect()
}
