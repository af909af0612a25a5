//! Whatever a POP3 server says: the line machine neither panics nor loops, uses no more than there
//! is, and says the same however the bytes were cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mailkeep::pop3::protocol::{Event, Expected, Machine, Violation};

/// The first byte says how many commands there are, one for each says which, as many again say
/// where the rest is cut.
fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let count = usize::from(first % 6) + 1;
    let Some((commands, rest)) = rest.split_at_checked(count) else { return };
    let Some((cuts, bytes)) = rest.split_at_checked(count) else { return };
    let expected: Vec<Expected> = commands.iter().map(|c| command(*c)).collect();
    let whole = feed(&expected, bytes, &[bytes.len()]);
    let mut cuts: Vec<usize> = cuts.iter().map(|c| usize::from(*c).min(bytes.len())).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    assert_eq!(feed(&expected, bytes, &cuts), whole);
    let every: Vec<usize> = (0..=bytes.len()).collect();
    assert_eq!(feed(&expected, bytes, &every), whole);
});

fn command(byte: u8) -> Expected {
    match byte % 7 {
        0 => Expected::Answer,
        1 => Expected::Auth,
        2 => Expected::Stat,
        3 => Expected::Capabilities,
        4 => Expected::Uidls,
        5 => Expected::Sizes,
        _ => Expected::Message(u64::from(byte)),
    }
}

/// Replies, with the bytes of each message put together, and how it ended.
fn feed(
    expected: &[Expected],
    bytes: &[u8],
    ends: &[usize],
) -> (Vec<Event>, Vec<Vec<u8>>, Option<Violation>) {
    let mut machine = Machine::default();
    expected.iter().for_each(|e| machine.expect(*e));
    let (mut events, mut messages) = (Vec::new(), Vec::new());
    let mut message = Vec::new();
    let mut start = 0;
    for end in ends {
        while machine.outstanding() > 0 {
            let input = &bytes[start..*end];
            let step = match machine.step(input) {
                Ok(step) => step,
                Err(violation) => return (events, messages, Some(violation)),
            };
            assert!(step.used <= input.len());
            match step.event {
                None if step.used == 0 => break,
                None => {}
                Some(Event::Data(range)) => message.extend_from_slice(&input[range]),
                Some(Event::End) => messages.push(std::mem::take(&mut message)),
                Some(event) => events.push(event),
            }
            start += step.used;
        }
    }
    (events, messages, None)
}
