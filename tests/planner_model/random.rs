//! Random cases.

use super::apply::{Brain, REAL, converge, pass};
use super::check::{Check, ledger_is_true, summary};
use super::perturb::{Case, Op, Rng, case, epochs, perturb};
use super::world::{File, Mail, World};
use mailkeep::model::{BaseName, Uid};
use mailkeep::policy::FolderPattern;
use mailkeep::policy::decide::Action;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(v) => v.parse().unwrap_or_else(|e| panic!("{name}={v}: {e}")),
        Err(_) => default,
    }
}

/// Whether an action takes something away, or forgets something, because of a vanish on a side that
/// was not observed completely.
fn believes_a_vanish(a: &Action, (there, here): (bool, bool)) -> bool {
    use Action::*;
    match a {
        Unlink { .. } | Keep(_) | KeepAt { .. } | RemoveHere(_) => !there,
        TrashThere { .. }
        | ExpungeThere { .. }
        | MakeAbsent(_)
        | FinishMove { .. }
        | RemoveThere(_) => !here,
        Drop(_) => !there && !here,
        _ => false,
    }
}

fn run(before: &World, case: &Case, brain: Brain) -> Result<(), String> {
    let Some((before, case)) = sequel(first(before, case, brain)?, case) else { return Ok(()) };
    first(&before, &case, brain).map(|_| ())
}

/// The second story, if there is one: it begins in step.
fn sequel(first: Option<World>, case: &Case) -> Option<(World, Case)> {
    let mut w = first.filter(|_| !case.more.is_empty())?;
    w.begin_anew();
    let ops = case.more.clone();
    let rest = Case {
        ops,
        more: Vec::new(),
        fate: case.more_fate,
        complete: (true, true),
        policy: case.more_policy.clone(),
        ..case.clone()
    };
    Some((w, rest))
}

/// The first story. Returns how it ends, if nothing is held or waits.
fn first(before: &World, case: &Case, brain: Brain) -> Result<Option<World>, String> {
    let mut perturbed = before.clone();
    perturb(&mut perturbed, case);
    // what is observed from here on arrives
    perturbed.newest_before = perturbed.ledger.rows.keys().max().copied();
    let check = Check {
        before,
        perturbed: &perturbed,
        policy: &case.policy,
        fate: case.fate,
        killed: false,
    };
    let mut w = perturbed.clone();
    if case.complete != (true, true) {
        let p = pass(&mut w, &case.policy, brain, case.complete).map_err(|_| "killed")?;
        let mut hasty = p.actions.iter().filter(|a| believes_a_vanish(a, case.complete));
        if let Some(a) = hasty.next() {
            let kept = matches!(a, Action::KeepAt { row, .. }
                if before.ledger.rows.get(row).is_some_and(|r| r.place.is_some() && r.uid.is_none()));
            if !kept {
                return Err(format!("not everything was observed, and yet: {a:?}"));
            }
        }
    }
    let last = converge(&mut w, &case.policy, brain)?;
    if last.unsure > 0 {
        return Err("everything was observed, and yet a vanish waits".into());
    }
    check.check(&w)?;
    ledger_is_true(&w, &case.policy, last.waiting > 0)?;
    killed(&perturbed, &w, &check, case, brain)?;
    let in_step = last.held.is_empty()
        && last.waiting == 0
        && w.ledger.held_rows.is_empty()
        && (case.policy.exclude.is_empty() || w.is_in_step());
    Ok(in_step.then_some(w))
}

/// The same, killed at some steps and resumed.
fn killed(
    perturbed: &World,
    through: &World,
    check: &Check<'_>,
    case: &Case,
    brain: Brain,
) -> Result<(), String> {
    let check = &Check { killed: true, ..*check };
    let mut rng = Rng(case.seed ^ 0x6b69_6c6c);
    let steps = through.steps;
    for _ in 0..steps.min(4) {
        let at = rng.below(steps as usize) as u32;
        let mut w = perturbed.clone();
        w.kill_at = Some(at);
        while pass(&mut w, &case.policy, brain, (true, true)).is_ok_and(|p| p.steps > 0) {}
        // Meanwhile, the server deals out new UIDs. Which of equal messages was the one that was
        // being sent, nothing says then.
        let renumbered = rng.chance(15) && !case.copies;
        let mut other = perturbed.clone();
        if renumbered {
            epochs(&mut other);
            epochs(&mut w);
        }
        let other = Check { perturbed: &other, ..*check };
        if rng.chance(30) {
            w.kill_at = Some(w.steps + rng.below(steps as usize) as u32);
            while pass(&mut w, &case.policy, brain, (true, true)).is_ok_and(|p| p.steps > 0) {}
        }
        w.kill_at = None;
        converge(&mut w, &case.policy, brain)
            .and_then(|p| ledger_is_true(&w, &case.policy, p.waiting > 0))
            .and_then(|()| if renumbered { check.either(&other, &w) } else { check.check(&w) })
            .map_err(|e| format!("killed at step {at} of {steps} ({renumbered}): {e}"))?;
        // of what was saved out of a folder that is left alone, the row there waits, or came along
        let all = case.policy.exclude.is_empty() && !check.before.has_copies();
        let (a, b) = (summary(through), summary(&w));
        if a != b && all && !renumbered && !case.copies && case.complete == (true, true) {
            let only = |x: &[String], y: &[String]| -> Vec<String> {
                x.iter().filter(|l| !y.contains(l)).cloned().collect()
            };
            return Err(format!(
                "killed at step {at} of {steps}, it ends otherwise: {:#?} instead of {:#?}",
                only(&b, &a),
                only(&a, &b)
            ));
        }
    }
    Ok(())
}

/// Leaves out operations while it still fails.
fn shrink(before: &World, case: &Case, brain: Brain) -> Case {
    let mut case = case.clone();
    let lists: [fn(&mut Case) -> &mut Vec<Op>; 2] = [|c| &mut c.more, |c| &mut c.ops];
    for list in lists {
        let mut i = 0;
        while i < list(&mut case).len() {
            let mut less = case.clone();
            list(&mut less).remove(i);
            if caught(before, &less, brain).is_err() {
                case = less;
                i = 0;
            } else {
                i += 1;
            }
        }
    }
    case
}

/// Runs it. A panic is a failure like any other.
pub fn caught(before: &World, case: &Case, brain: Brain) -> Result<(), String> {
    let attempt = std::panic::AssertUnwindSafe(|| run(before, case, brain));
    std::panic::catch_unwind(attempt).unwrap_or_else(|_| Err("panicked, see above".into()))
}

#[test]
fn every_case_converges_to_what_the_design_says() {
    let from = number("MAILKEEP_SEED", 1);
    let cases = number("MAILKEEP_CASES", 1000);
    for seed in from..from + cases {
        let (w, c) = case(seed);
        if caught(&w, &c, REAL).is_err() {
            let least = shrink(&w, &c, REAL);
            let attempt = std::panic::AssertUnwindSafe(|| first(&w, &least, REAL));
            match std::panic::catch_unwind(attempt) {
                Ok(Ok(end)) => {
                    let (w, least) = sequel(end, &least).expect("the second story fails");
                    panic!("the second story\n{}", tell(&w, &least));
                }
                _ => panic!("{}", tell(&w, &least)),
            }
        }
    }
}

/// A failure for people: the policy, both sides before, what happened, and what was done.
fn tell(before: &World, case: &Case) -> String {
    use std::fmt::Write;
    let seed = case.seed;
    let mut out = format!("reproduce with MAILKEEP_SEED={seed} MAILKEEP_CASES=1\n\n");
    let p = &case.policy;
    let _ = writeln!(
        out,
        "remote_delete {:?}, local_delete {:?}, upload {}, read_only {}, {:?}, without {:?}",
        p.remote_delete,
        p.local_delete,
        p.upload,
        p.read_only,
        p.brake,
        p.exclude.iter().map(ToString::to_string).collect::<Vec<_>>()
    );
    for r in &p.rules {
        let folders = r.folders.iter().map(|f| match f {
            FolderPattern::Use(u) => u.attribute().to_owned(),
            FolderPattern::Glob(g) => g.glob().to_string(),
        });
        let _ = writeln!(
            out,
            "rule {:?}: {:?} {:?} {:?}",
            folders.collect::<Vec<_>>(),
            r.remote_delete,
            r.local_delete,
            r.upload
        );
    }
    let _ = writeln!(out, "before:\n  {}", show(before).join("\n  "));
    for op in &case.ops {
        let _ = writeln!(out, "{op:?}");
    }
    let mut w = before.clone();
    perturb(&mut w, case);
    let _ = writeln!(
        out,
        "the ledger: {:?}, complete {:?}; perturbed:\n  {}",
        case.fate,
        case.complete,
        show(&w).join("\n  ")
    );
    for n in 0..4 {
        let complete = if n > 0 { (true, true) } else { case.complete };
        let attempt = std::panic::AssertUnwindSafe(|| pass(&mut w, &case.policy, REAL, complete));
        match std::panic::catch_unwind(attempt) {
            Ok(Ok(p)) => {
                let _ = writeln!(out, "pass {n}: {:?}", p.actions);
                for h in p.held {
                    let _ = writeln!(out, "  held: {:?} {:?} {:?}", h.kind, h.rows, h.files);
                }
            }
            _ => break,
        }
    }
    let _ = writeln!(out, "after:\n  {}", show(&w).join("\n  "));
    if let Err(e) = caught(before, case, REAL) {
        let _ = writeln!(out, "{e}");
    }
    out
}

/// Both sides and the ledger, a line a message.
fn show(w: &World) -> Vec<String> {
    let mut out = Vec::new();
    for (n, b) in &w.server {
        let of = |(u, m): (&u32, &Mail)| {
            format!("there {n} {}/{u}: #{} bytes {} [{}]", b.validity, m.ghost, m.cid, m.flags)
        };
        out.extend(b.mails.iter().map(of));
    }
    for (n, d) in &w.disk {
        let of = |(b, f): (&BaseName, &File)| {
            format!("here {n} {b}: #{} bytes {} [{}]", f.ghost, f.cid, f.flags)
        };
        out.extend(d.iter().map(of));
    }
    for r in w.ledger.rows.values() {
        out.push(format!(
            "row {} {:?} in {} uid {:?} gone {:?} place {:?} keeps {} exact {} [{}] there [{}] \
             here [{}]",
            r.id.0,
            r.state,
            w.name(r.folder),
            r.uid.map(Uid::get),
            r.gone,
            r.place.as_ref().map(|p| p.to_string()),
            r.keeps,
            r.exact,
            r.agreed,
            r.remote,
            r.local
        ));
    }
    out
}
