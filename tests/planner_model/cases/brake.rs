//! What the brake counts, and what a verdict does.

use super::*;

fn many(n: usize) -> Scene {
    let mut s = mirror();
    s.policy.brake = Brake { percent: 50, messages: 2 };
    for i in 0..n {
        s.had(Synced, "INBOX", &format!("{i}"));
    }
    s
}

#[test]
fn up_to_the_limit_it_is_done() {
    let mut s = many(6);
    for n in ["0", "1", "2"] {
        s.expunge("INBOX", n); // 3 of 6 are not more than half
    }
    let p = s.ends("INBOX 3, INBOX 4, INBOX 5", "INBOX 3, INBOX 4, INBOX 5");
    assert!(p.held.is_empty());
}

#[test]
fn above_it_all_of_it_is_held_and_the_rest_goes_on() {
    let mut s = many(5);
    for n in ["0", "1", "2"] {
        s.expunge("INBOX", n);
    }
    s.arrive("Archive", "x");
    let here = "Archive x, INBOX 0, INBOX 1, INBOX 2, INBOX 3, INBOX 4";
    let p = s.ends("Archive x, INBOX 3, INBOX 4", here);
    assert!(matches!(p.held.as_slice(), [h]
        if h.kind == HeldKind::RemoteDeletions && h.rows.len() == 3));
}

#[test]
fn slices_add_up() {
    let mut s = many(5);
    for n in ["0", "1"] {
        s.expunge("INBOX", n);
        s.pass();
    }
    s.expunge("INBOX", "2");
    let p = s.ends("INBOX 3, INBOX 4", "INBOX 2, INBOX 3, INBOX 4");
    assert_eq!(p.held.len(), 1);
}

#[test]
fn slices_after_a_hold_add_up_with_it() {
    let mut s = many(8);
    for n in 0..5 {
        s.expunge("INBOX", &n.to_string());
    }
    s.pass();
    for n in 5..7 {
        s.expunge("INBOX", &n.to_string());
        s.pass();
    }
    let all: Vec<String> = (0..8).map(|n| format!("INBOX {n}")).collect();
    let p = s.ends("INBOX 7", &all.join(", "));
    assert!(matches!(p.held.as_slice(), [h] if h.rows.len() == 7));
}

#[test]
fn many_small_folders_add_up() {
    let mut s = mirror();
    s.policy.brake = Brake { percent: 50, messages: 2 };
    for at in ["INBOX", "Archive", "Junk"] {
        s.had(Synced, at, at);
        s.remove(at, at);
    }
    s.had(Synced, "INBOX", "x");
    s.ends("Archive Archive, INBOX INBOX, INBOX x, Junk Junk", "INBOX x");
}

#[test]
fn moves_do_not_count() {
    let mut s = many(5);
    for n in ["0", "1", "2", "3", "4"] {
        s.move_there("INBOX", n, "Archive");
    }
    let all = "Archive 0, Archive 1, Archive 2, Archive 3, Archive 4";
    assert!(s.ends(all, all).held.is_empty());
}

#[test]
fn approved_it_goes_and_rejected_it_is_undone() {
    let cases = [
        (Verdict::Approved, "INBOX 3", "INBOX 3"),
        (
            Verdict::Rejected,
            "INBOX 0, INBOX 1, INBOX 2, INBOX 3",
            "INBOX 0, INBOX 1, INBOX 2, INBOX 3",
        ),
    ];
    for (verdict, there, here) in cases {
        let mut s = many(4);
        for n in ["0", "1", "2"] {
            s.remove("INBOX", n);
        }
        s.ends("INBOX 0, INBOX 1, INBOX 2, INBOX 3", "INBOX 3");
        s.w.ledger.held_rows.values_mut().for_each(|v| *v = verdict);
        s.ends(there, here);
        assert!(s.states().iter().all(|x| *x == Synced));
    }
    let cases =
        [(Verdict::Approved, "INBOX 3"), (Verdict::Rejected, "INBOX 0, INBOX 1, INBOX 2, INBOX 3")];
    for (verdict, here) in cases {
        let mut s = many(4);
        for n in ["0", "1", "2"] {
            s.expunge("INBOX", n);
        }
        s.ends("INBOX 3", "INBOX 0, INBOX 1, INBOX 2, INBOX 3");
        s.w.ledger.held_rows.values_mut().for_each(|v| *v = verdict);
        s.ends("INBOX 3", here);
    }
}

#[test]
fn a_thousand_are_held_whatever_their_share() {
    let mut s = mirror();
    s.policy.brake = Brake { percent: 100, messages: 1 };
    let inbox = folder("INBOX");
    let id = s.w.folder_id(&inbox);
    for i in 0..1001 {
        s.had(Synced, "INBOX", &format!("{i}"));
    }
    s.w.ledger.sizes.insert(id, 1_000_000);
    s.w.server.get_mut(&inbox).unwrap().mails.clear();
    let p = s.pass();
    assert!(p.actions.is_empty());
    assert_eq!(p.held.first().map(|h| h.rows.len()), Some(1001));
}
