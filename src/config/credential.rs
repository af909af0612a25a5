//! Where an account's password or token comes from: exactly one source, and one that fits `auth`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::build::Context;
use super::read::{Item, Section};
use super::value;
use super::{AuthMethod, Protocol};
use crate::secret::{Credential, Secret};

/// The keys that name a source.
pub(super) const SOURCES: [&str; 6] = [
    "password_command",
    "password_file",
    "password_env",
    "password_credential",
    "password",
    "token_command",
];

/// Reads the source and `auth`, and checks that they fit each other and the protocol.
pub(super) fn read(
    account: &Section<'_, '_>,
    protocol: Option<Protocol>,
    context: &Context<'_>,
) -> Option<(Credential, AuthMethod)> {
    let credential = source(account, context);
    let auth_item = account.get("auth");
    let auth = match &auth_item {
        None => Some(AuthMethod::Auto),
        Some(item) => item.one_of(&[
            ("auto", AuthMethod::Auto),
            ("plain", AuthMethod::Plain),
            ("login", AuthMethod::Login),
            ("scram-sha-256", AuthMethod::ScramSha256),
            ("xoauth2", AuthMethod::XOAuth2),
            ("oauthbearer", AuthMethod::OAuthBearer),
        ]),
    };
    if let (Some(item), Some(auth)) = (&auth_item, auth) {
        if protocol == Some(Protocol::Pop3)
            && matches!(auth, AuthMethod::ScramSha256 | AuthMethod::OAuthBearer)
        {
            item.wrong(
                "is for imap accounts; a pop3 account has \"auto\", \"plain\", \"login\" (USER \
                 and PASS) or \"xoauth2\"",
            );
            return None;
        }
        let wants_token = matches!(auth, AuthMethod::XOAuth2 | AuthMethod::OAuthBearer);
        let has_token = credential.as_ref().is_some_and(Credential::is_token);
        if wants_token && credential.is_some() && !has_token {
            item.wrong("needs token_command, not a password");
            return None;
        }
        if has_token && !wants_token && auth != AuthMethod::Auto {
            item.wrong(
                "needs a password; with token_command, auth is \"auto\", \"xoauth2\" or \
                 \"oauthbearer\"",
            );
            return None;
        }
    }
    Some((credential?, auth?))
}

fn source(account: &Section<'_, '_>, context: &Context<'_>) -> Option<Credential> {
    let mut items: Vec<(&str, Item<'_, '_>)> =
        SOURCES.iter().filter_map(|key| Some((*key, account.get(key)?))).collect();
    items.sort_by_key(|(_, item)| item.at());
    let parsed: Vec<Option<Credential>> =
        items.iter().map(|(key, item)| one(key, item, context)).collect();
    let Some(((first, first_item), others)) = items.split_first() else {
        account.complain(
            "missing: where the password comes from; one of password_command, password_file, \
             password_env, password_credential, password or token_command",
        );
        return None;
    };
    let line = account.reader().line(first_item.at());
    for (_, item) in others {
        item.misplaced(&format!("there is {first} in line {line} already; keep one of them"));
    }
    if others.is_empty() { parsed.into_iter().next().flatten() } else { None }
}

fn one(key: &str, item: &Item<'_, '_>, context: &Context<'_>) -> Option<Credential> {
    match key {
        "password_command" => item.parse(value::command).map(Credential::Command),
        "token_command" => item.parse(value::command).map(Credential::TokenCommand),
        "password_env" => item.parse(value::variable).map(Credential::Env),
        "password_credential" => item.parse(value::credential).map(Credential::SystemdCredential),
        "password_file" => {
            let path: PathBuf = item.parse(|s| context.path(s))?;
            if let Some(mode) = readable_by_others(&path) {
                item.odd(&format!(
                    "others can read {} (mode {mode:04o}); chmod 600 it",
                    path.display()
                ));
            }
            Some(Credential::File(path))
        }
        _ => {
            let password = item.parse(value::line)?;
            if let Some(mode) = context.readable_by_others {
                item.odd(&format!(
                    "others can read this file, and the password with it (mode {mode:04o}); \
                     chmod 600 it, or use password_command"
                ));
            }
            Some(Credential::Inline(Secret::from(password)))
        }
    }
}

/// The mode of a file that not only its owner can read.
pub(super) fn readable_by_others(path: &Path) -> Option<u32> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    (mode & 0o044 != 0).then_some(mode)
}
