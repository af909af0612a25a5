//! Maildirs of different accounts must not touch: a message of the one would be a new message of
//! the other, and be sent there.

use std::path::PathBuf;

use super::paths::resolve;
use super::read::{Item, Reader};
use super::{Account, Protocol};

/// Complains where two maildirs are the same or one lies inside the other, except among POP3
/// accounts, which only add to theirs; those of one maildir must agree on its layout.
pub(super) fn check(reader: &Reader<'_>, accounts: &[(&Item<'_, '_>, &Account)]) {
    let mut all: Vec<(usize, PathBuf, &Account)> = accounts
        .iter()
        .map(|(item, account)| {
            let at = item.section().and_then(|s| s.get("maildir")).map_or(0, |i| i.at());
            (at, resolve(&account.maildir), *account)
        })
        .collect();
    all.sort_by_key(|(at, ..)| *at);
    for (n, (at, dir, account)) in all.iter().enumerate() {
        for (other_at, other_dir, other) in all.iter().take(n) {
            let relation = if dir == other_dir {
                "the same directory as"
            } else if dir.starts_with(other_dir) {
                "inside"
            } else if other_dir.starts_with(dir) {
                "around"
            } else {
                continue;
            };
            let both_pop3 = account.protocol == Protocol::Pop3 && other.protocol == Protocol::Pop3;
            let problem = if !both_pop3 {
                format!(
                    "is {relation} that of accounts.{} (line {}): {}; give each account a \
                     directory of its own",
                    other.name,
                    reader.line(*other_at),
                    other_dir.display()
                )
            } else if dir == other_dir && account.layout != other.layout {
                format!(
                    "is the same as that of accounts.{} (line {}), with another layout",
                    other.name,
                    reader.line(*other_at)
                )
            } else {
                continue;
            };
            reader.error(*at, format!("accounts.{}.maildir: {problem}", account.name));
        }
    }
}
