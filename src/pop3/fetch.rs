//! What is new on the server, from there to the Maildir and the ledger.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::broken::Broken;
use super::deliver::{Before, Committer, Done, Job, Sink, Target};
use super::pass::Pass;
use super::protocol::Number;
use super::recognise::{Listed, Settled};
use super::{Session, Wanted};
use crate::error::{Error, Kind, Result, Scope};
use crate::executor::pipeline::Pipeline;
use crate::model::State;
use crate::words::count;

/// What becomes of messages that came short.
const SHORT: &str =
    "they are here as they came, and are not deleted there; compare them by webmail";

/// The folder that mail is delivered to; it is made where there is none.
pub fn target(p: &mut Pass<'_>) -> Result<Arc<Target>> {
    let name = p.pop3.folder.clone();
    if !p.folders.values().any(|s| s.rec.name == name && s.names.is_some()) {
        p.guard.open(&p.ledger)?;
        p.maildir.create_folder(&name)?;
    }
    let folder = p.folder(&name)?;
    Ok(Arc::new(Target { folder, dir: p.maildir.dir(&name), name, now: p.now }))
}

/// Retrieves what is to be fetched. What came short is not taken the first time: `doubted` of the
/// mailbox then says that another session is to fetch it.
pub async fn fetch(
    p: &mut Pass<'_>,
    session: &mut Session,
    settled: &Settled,
    by_number: &BTreeMap<Number, &Listed>,
    before: Vec<Before>,
    taken: Done,
    broken: &mut Broken,
) -> Result<Done> {
    if settled.fetch.is_empty() {
        return Ok(taken);
    }
    p.guard.open(&p.ledger)?;
    let target = target(p)?;
    let folder = target.folder;
    p.write(|_| Ok(()))?;
    let mut jobs = BTreeMap::new();
    let mut wanted = Vec::new();
    for number in &settled.fetch {
        let Some(listed) = by_number.get(number) else { continue };
        wanted.push(Wanted { number: *number, size: Some(listed.size).filter(|s| *s > 0) });
        let base = p.namer.next(p.now);
        let listed = (*listed).clone();
        jobs.insert(*number, Job { listed, base, target: target.clone() });
    }
    p.progress.begin(wanted.len() as u64);
    p.progress.folder(&target.name);
    let nothing_known = p.ledger.with(|l| l.count_uidls(p.mailbox.epoch))? == 0;
    let done = Arc::new(Mutex::new(taken));
    let kept = p.ledger.with(|l| l.has_state(State::Kept))?;
    let mut committer = Committer {
        ledger: p.ledger.clone(),
        kept,
        durability: p.durability.clone(),
        epoch: p.mailbox.epoch,
        nothing_known,
        before,
        doubted: p.mailbox.doubted,
        done: done.clone(),
    };
    let mut pipe = Pipeline::start(move |batch| committer.commit(batch));
    let mut sink = Sink::new(&mut pipe, jobs, p);
    let fetched = session.retr(&wanted, &mut sink).await;
    let failed = std::mem::take(&mut sink.failed);
    drop(sink);
    let stored = pipe.finish();
    let done = done.lock().map(|mut d| std::mem::take(&mut *d)).unwrap_or_default();
    p.report.new += done.new;
    if done.new > 0 {
        p.report.new_in.insert(target.name.clone());
    }
    if let Some(spot) = p.folders.get_mut(&folder) {
        done.places.iter().for_each(|place| spot.add(place));
    }
    for (number, e) in failed {
        let e = Error { scope: Scope::Message, ..e };
        match by_number.get(&number) {
            Some(listed) if fetched.is_err() && e.kind != Kind::Refused => {
                broken.now.push(((*listed).clone(), e));
            }
            _ => p.note(e),
        }
    }
    // an error of the disk explains one of the network, not the other way round
    stored?;
    if done.short > 0 && p.mailbox.doubted {
        p.report.notes.push(format!(
            "{} shorter than the server says, twice: {SHORT}",
            count(done.short, "message came", "messages came")
        ));
    } else if done.short > 0 {
        tracing::debug!("{}: {} came short, and are asked for again", p.account.name, done.short);
        p.mailbox.doubted = true;
        let mailbox = p.mailbox.clone();
        p.write(|tx| tx.set_mailbox(&mailbox))?;
    }
    fetched?;
    Ok(done)
}
