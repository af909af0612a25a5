//! Does the checker see anything? Planners and policies that are wrong on purpose: each must be
//! caught, and by what the checker says, not by an assertion of the executor's stand-in.

use mailkeep::model::{Flags, Row, State};
use mailkeep::policy::decide::{Action, Decision, Standing, Verdict, decide};
use mailkeep::policy::{Brake, Policy};
use mailkeep::reconcile::{Change, Plan, Trees, plan};

use super::apply::{Brain, REAL};
use super::perturb::case;
use super::random::caught;

/// Some case among the first says something against it.
#[track_caller]
fn must_fail(brain: Brain) {
    const CASES: u64 = 4000;
    let noticed = (1..=CASES).any(|seed| {
        let (w, c) = case(seed);
        caught(&w, &c, brain).is_err_and(|e| !e.starts_with("panicked"))
    });
    assert!(noticed, "nobody noticed in {CASES} cases");
}

fn replacing(trees: &Trees, mut with: impl FnMut(Change) -> Vec<Change>) -> Plan {
    let mut p = plan(trees);
    p.changes = p.changes.into_iter().flat_map(&mut with).collect();
    p
}

#[test]
fn delete_everything() {
    fn everything(_: &Plan, trees: &Trees, _: &Policy, _: &Standing) -> Decision {
        let mut actions = Vec::new();
        for r in trees.rows.values() {
            let here = r.place.is_some() && !trees.missing.contains(&r.id);
            if r.on_server() && !here {
                actions.push(Action::ExpungeThere { row: r.id, approved: false });
            } else if here {
                actions.push(Action::Unlink { row: r.id, twin: None, approved: false });
            } else {
                actions.push(Action::Drop(r.id));
            }
        }
        Decision { actions, ..Decision::default() }
    }
    must_fail(Brain { decide: everything, ..REAL });
}

#[test]
fn do_nothing() {
    must_fail(Brain { plan: |_| Plan::default(), ..REAL });
}

#[test]
fn download_every_arrival() {
    fn blind(trees: &Trees) -> Plan {
        replacing(trees, |c| match c {
            Change::Renumbered { row, arrival } => vec![
                Change::Arrived { arrival, twin: None },
                Change::VanishedThere { row, twin: None, epoch: true },
            ],
            c => vec![c],
        })
    }
    must_fail(Brain { plan: blind, ..REAL });
}

#[test]
fn adopt_nothing() {
    fn blind(trees: &Trees) -> Plan {
        replacing(trees, |c| match c {
            Change::Adopted { arrival, file, .. } => {
                vec![Change::Arrived { arrival, twin: None }, Change::Unknown { file, ours: true }]
            }
            c => vec![c],
        })
    }
    must_fail(Brain { plan: blind, ..REAL });
}

#[test]
fn take_a_local_move_for_a_deletion_and_a_new_message() {
    fn blind(trees: &Trees) -> Plan {
        replacing(trees, |c| match c {
            Change::MovedHere { row, file } if trees.missing.contains(&row) => {
                vec![Change::Appeared(file), Change::VanishedHere(row)]
            }
            c => vec![c],
        })
    }
    must_fail(Brain { plan: blind, ..REAL });
}

#[test]
fn take_what_was_moved_here_for_what_arrived_there() {
    fn blind(trees: &Trees) -> Plan {
        let arrived = |c: &Change| match c {
            Change::Arrived { arrival, .. } => Some(trees.rows[arrival].clone()),
            _ => None,
        };
        let mut left: Vec<_> = plan(trees).changes.iter().filter_map(arrived).collect();
        let mut taken = Vec::new();
        let mut p = replacing(trees, |c| match c {
            Change::MovedHere { row, file } if trees.rows[&row].state == State::Synced => {
                let f = &trees.files[&file];
                let is = |a: &Row| {
                    let (a, f) = ((&a.identity, a.folder), (&f.identity, f.folder));
                    a.1 == f.1
                        && a.0.fingerprint == f.0.fingerprint
                        && a.0.wire_size == f.0.wire_size
                };
                let Some(at) = left.iter().position(is) else { return vec![c] };
                let arrival = left.remove(at).id;
                taken.push(arrival);
                vec![Change::Adopted { arrival, file, exact: true }, Change::VanishedHere(row)]
            }
            c => vec![c],
        });
        p.changes
            .retain(|c| !matches!(c, Change::Arrived { arrival, .. } if taken.contains(arrival)));
        p
    }
    must_fail(Brain { plan: blind, ..REAL });
}

#[test]
fn upload_kept_mail() {
    fn eager(trees: &Trees) -> Plan {
        replacing(trees, |c| match c {
            Change::Unknown { file, .. } => vec![Change::Appeared(file)],
            c => vec![c],
        })
    }
    must_fail(Brain { plan: eager, ..REAL });
}

#[test]
fn believe_every_vanish() {
    fn hasty(trees: &Trees) -> Plan {
        plan(&Trees { remote_complete: true, local_complete: true, ..trees.clone() })
    }
    must_fail(Brain { plan: hasty, ..REAL });
}

#[test]
fn forget_the_first_pass() {
    must_fail(Brain { plan: |trees| plan(&Trees { first_pass: false, ..trees.clone() }), ..REAL });
}

#[test]
fn mirror_a_new_uidvalidity() {
    fn rash(trees: &Trees) -> Plan {
        replacing(trees, |c| match c {
            Change::VanishedThere { row, twin, .. } => {
                vec![Change::VanishedThere { row, twin, epoch: false }]
            }
            c => vec![c],
        })
    }
    must_fail(Brain { plan: rash, ..REAL });
}

#[test]
fn let_absent_mail_come_back() {
    fn obliging(p: &Plan, t: &Trees, policy: &Policy, s: &Standing) -> Decision {
        let mut d = decide(p, t, policy, s);
        for a in &mut d.actions {
            if let Action::StayAbsent { row, arrival } = *a {
                *a = Action::Download { arrival, instead_of: Some(row) };
            }
        }
        d
    }
    must_fail(Brain { decide: obliging, ..REAL });
}

#[test]
fn ignore_the_brake() {
    fn reckless(p: &Plan, t: &Trees, policy: &Policy, s: &Standing) -> Decision {
        let brake = Brake { percent: 100, messages: 1000 };
        decide(p, t, &Policy { brake, ..policy.clone() }, s)
    }
    must_fail(Brain { decide: reckless, ..REAL });
}

#[test]
fn take_everything_held_for_approved() {
    fn obliging(p: &Plan, t: &Trees, policy: &Policy, s: &Standing) -> Decision {
        let mut s = s.clone();
        s.rows.values_mut().chain(s.files.values_mut()).for_each(|v| *v = Verdict::Approved);
        decide(p, t, policy, &s)
    }
    must_fail(Brain { decide: obliging, ..REAL });
}

#[test]
fn brake_everything() {
    fn timid(p: &Plan, t: &Trees, policy: &Policy, s: &Standing) -> Decision {
        let brake = Brake { percent: 0, messages: 0 };
        decide(p, t, &Policy { brake, ..policy.clone() }, s)
    }
    must_fail(Brain { decide: timid, ..REAL });
}

#[test]
fn forget_what_trash_keeps() {
    fn forgetful(p: &Plan, t: &Trees, policy: &Policy, s: &Standing) -> Decision {
        let mut t = t.clone();
        t.rows.values_mut().for_each(|r| r.keeps = false);
        decide(p, &t, policy, s)
    }
    must_fail(Brain { decide: forgetful, ..REAL });
}

#[test]
fn unite_flags_instead_of_merging_them() {
    fn generous(trees: &Trees) -> Plan {
        replacing(trees, |c| match c {
            Change::Flags { row, .. } => {
                let r = &trees.rows[&row];
                vec![Change::Flags { row, merged: Flags::unite(&r.remote, &r.local) }]
            }
            c => vec![c],
        })
    }
    must_fail(Brain { plan: generous, ..REAL });
}

#[test]
fn let_one_side_s_flags_win() {
    fn partial(trees: &Trees) -> Plan {
        replacing(trees, |c| match c {
            Change::Flags { row, .. } => {
                vec![Change::Flags { row, merged: trees.rows[&row].remote.clone() }]
            }
            c => vec![c],
        })
    }
    must_fail(Brain { plan: partial, ..REAL });
}

#[test]
fn change_a_server_that_is_read_only() {
    fn bold(p: &Plan, t: &Trees, policy: &Policy, s: &Standing) -> Decision {
        decide(p, t, &Policy { read_only: false, ..policy.clone() }, s)
    }
    must_fail(Brain { decide: bold, ..REAL });
}

#[test]
fn upload_where_that_is_not_wanted() {
    fn bold(p: &Plan, t: &Trees, policy: &Policy, s: &Standing) -> Decision {
        let mut policy = Policy { upload: true, ..policy.clone() };
        policy.rules.iter_mut().for_each(|r| r.upload = None);
        decide(p, t, &policy, s)
    }
    must_fail(Brain { decide: bold, ..REAL });
}

#[test]
fn forget_what_an_old_ledger_knows() {
    fn forgetful(trees: &Trees) -> Plan {
        let mut t = trees.clone();
        t.rows.retain(|_, r| !t.first_pass || r.state == State::Pending);
        plan(&t)
    }
    must_fail(Brain { plan: forgetful, ..REAL });
}

#[test]
fn put_what_appears_into_folders_that_are_left_alone() {
    fn bold(p: &Plan, t: &Trees, policy: &Policy, s: &Standing) -> Decision {
        let mut t = t.clone();
        t.folders.values_mut().for_each(|f| f.selected = true);
        decide(p, &t, policy, s)
    }
    must_fail(Brain { plan: reach_out, decide: bold });
    fn reach_out(trees: &Trees) -> Plan {
        let mut t = trees.clone();
        t.folders.values_mut().for_each(|f| f.selected = true);
        t.missing.extend(t.excluded.iter().map(|r| r.id));
        t.rows.extend(std::mem::take(&mut t.excluded).into_iter().map(|r| (r.id, r)));
        plan(&t)
    }
}
