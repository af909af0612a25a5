//! What a case begins with: the world that both sides agree on, and the policy.

use mailkeep::model::{ServerId, SpecialUse, State};
use mailkeep::policy::{Brake, FolderPattern, LocalDelete, Policy, RemoteDelete, Rule};

use super::perturb::Rng;
use super::world::{Cid, World, folder};

pub fn policy(rng: &mut Rng) -> Policy {
    let remote = |rng: &mut Rng| *rng.pick(&[RemoteDelete::Keep, RemoteDelete::Mirror]);
    let local =
        |rng: &mut Rng| *rng.pick(&[LocalDelete::Trash, LocalDelete::Mirror, LocalDelete::Keep]);
    let mut p = Policy {
        remote_delete: remote(rng),
        local_delete: local(rng),
        upload: rng.chance(80),
        read_only: rng.chance(12),
        brake: Brake { percent: 100, messages: 1000 },
        ..Policy::default()
    };
    for _ in 0..rng.below(3) {
        let which = *rng.pick(&["\\Trash", "\\Junk", "INBOX", "Work*", "Archive"]);
        p.rules.push(Rule {
            folders: vec![FolderPattern::parse(which).unwrap()],
            remote_delete: rng.chance(60).then(|| remote(rng)),
            local_delete: rng.chance(60).then(|| local(rng)),
            upload: rng.chance(20).then(|| rng.chance(50)),
        });
    }
    if rng.chance(10) {
        let which = *rng.pick(&["Archive", "Work*", "Junk"]);
        p.exclude.push(FolderPattern::parse(which).unwrap());
    }
    p
}

const FOLDERS: [(&str, Option<SpecialUse>); 6] = [
    ("INBOX", None),
    ("Archive", None),
    ("Work/2024", None),
    ("Drafts", Some(SpecialUse::Drafts)),
    ("Junk", Some(SpecialUse::Junk)),
    ("Trash", Some(SpecialUse::Trash)),
];

pub fn new_content(w: &mut World, rng: &mut Rng) -> Cid {
    let n = w.contents.len();
    match rng.below(10) {
        // no Message-ID, and a size that others share
        0 => w.content("", &format!("date {n}"), 2000),
        1 => w.content("", "", 2000),
        // a Message-ID that others have
        2 if n > 0 => {
            let id = w.contents[rng.below(n)].message_id.clone();
            w.content(&id, &format!("date {n}"), 2000)
        }
        _ => w.content(&format!("<{n}@x>"), &format!("date {n}"), 1000 + rng.below(3) as u64),
    }
}

pub fn some_flags(rng: &mut Rng) -> String {
    let all = ["\\Seen", "\\Flagged", "\\Answered", "todo"];
    let some: Vec<&str> = all.into_iter().filter(|_| rng.chance(30)).collect();
    some.join(" ")
}

pub fn world(rng: &mut Rng, copies: bool) -> World {
    let mut w = World { streams: rng.chance(50), sizes_lie: rng.chance(10), ..World::default() };
    let has_ids = rng.chance(30);
    let has_trash = rng.chance(85);
    for (name, special) in FOLDERS {
        if has_trash || name != "Trash" {
            w.settle_folder(name, special);
        }
    }
    let folders: Vec<&str> =
        FOLDERS.iter().map(|f| f.0).filter(|f| has_trash || *f != "Trash").collect();
    for _ in 0..2 + rng.below(10) {
        let cid = if copies && !w.contents.is_empty() && rng.chance(40) {
            rng.below(w.contents.len())
        } else {
            new_content(&mut w, rng)
        };
        let at = if rng.chance(40) { "INBOX" } else { *rng.pick(&folders) };
        let state = *rng.pick(&[
            State::Synced,
            State::Synced,
            State::Synced,
            State::Synced,
            State::Synced,
            State::Kept,
            State::Absent,
        ]);
        let mut names = some_flags(rng);
        if at == "Drafts" {
            names.push_str(" \\Draft");
        }
        let base = if rng.chance(25) { w.foreign_base() } else { w.our_base() };
        let id = w.settle_as(at, state, cid, &names, base);
        let keeps = at == "Trash" && rng.chance(50);
        let server_id = has_ids.then(|| ServerId(format!("id{}", id.0).into()));
        let row = w.ledger.rows.get_mut(&id).unwrap();
        row.keeps = keeps;
        let uid = row.uid;
        if let Some(uid) = uid {
            row.identity.server_id = server_id.clone();
            let mail = w.server.get_mut(&folder(at)).unwrap().mails.get_mut(&uid.get()).unwrap();
            mail.server_id = server_id;
        }
    }
    w
}
