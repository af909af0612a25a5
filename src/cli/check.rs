//! `mailkeep check`: says in words what the configuration means, and with `--connect` what the
//! servers can do.

use super::Exit;
use super::screen::Screen;
use super::sync::on_this_thread;
use crate::config::{Account, AuthMethod, Config, Keep, Pop3, Protocol, duration_text};
use crate::error::Result;
use crate::maildir::Layout;
use crate::net::Security;
use crate::policy::{FolderPattern, LocalDelete, Policy, RemoteDelete};
use crate::secret::Credential;

/// Prints a few lines for each account.
pub(super) fn run(
    config: &Config,
    accounts: &[&Account],
    connect: bool,
    screen: &Screen,
) -> Result<Exit> {
    let mut exit = Exit::Ok;
    let (file, state) = (config.file.display(), config.state_dir.display());
    screen.data(format_args!("{file} is valid; ledgers in {state}"))?;
    for account in accounts {
        screen.data("")?;
        for line in describe(account) {
            screen.data(line)?;
        }
        if connect {
            match on_this_thread(crate::account::connect(account)) {
                Ok(lines) => {
                    for line in lines {
                        screen.data(format_args!("  {line}"))?;
                    }
                }
                Err(e) => {
                    screen.failed(Some(&account.name), &e);
                    exit = exit.and(Exit::Failed);
                }
            }
        }
    }
    Ok(exit)
}

/// What the account will do, in a few lines.
pub fn describe(account: &Account) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{}: {} on {} as {}",
            account.name,
            account.protocol.as_str(),
            account.endpoint,
            account.user
        ),
        format!("  secured by {}", security(account)),
        format!("  logs in with {}", login(account)),
        format!(
            "  mail in {} ({}{})",
            account.maildir.display(),
            match account.layout {
                Layout::Nested => "nested folders",
                Layout::PlusPlus => "Maildir++",
            },
            if account.maildir.exists() { "" } else { "; does not exist yet" }
        ),
    ];
    let policy = &account.policy;
    if policy.read_only {
        lines.push("  read-only: nothing is changed on the server".into());
    }
    match &account.pop3 {
        Some(pop3) => lines.extend(pop3_lines(pop3)),
        None => lines.extend(imap_lines(policy)),
    }
    lines.push(format!(
        "  the brake holds more than {} deletions in 24 hours, where they are more than {} % of a \
         folder or the account",
        policy.brake.messages, policy.brake.percent
    ));
    let push = match account.protocol {
        Protocol::Imap => " where the server pushes nothing",
        Protocol::Pop3 => "",
    };
    lines.push(format!("  looks every {}{push}", duration_text(account.poll_interval)));
    lines
}

fn security(account: &Account) -> String {
    let e = &account.endpoint;
    let trust = match (&e.fingerprint, &e.ca_file) {
        (Some(_), _) => "the pinned certificate".to_owned(),
        (None, Some(ca)) => format!("a certificate of the system's or {}", ca.display()),
        (None, None) => "a certificate of the system's authorities".to_owned(),
    };
    match e.security {
        Security::Implicit => format!("TLS and {trust}"),
        Security::StartTls => format!("STARTTLS and {trust}"),
        Security::None => "nothing: whoever listens can read all".to_owned(),
    }
}

fn login(account: &Account) -> String {
    // where from, and never what: a command can hold a password too
    let from = match &account.credential {
        Credential::Command(_) => "a password from password_command".to_owned(),
        Credential::File(path) => format!("a password from {}", path.display()),
        Credential::Env(name) => format!("a password from ${name}"),
        Credential::SystemdCredential(name) => format!("a password from the credential {name}"),
        Credential::Inline(_) => "a password from the configuration".to_owned(),
        Credential::TokenCommand(_) => "a token from token_command".to_owned(),
    };
    let how = match account.auth {
        AuthMethod::Auto => "the strongest method offered",
        AuthMethod::Plain => "PLAIN",
        AuthMethod::Login => "LOGIN",
        AuthMethod::ScramSha256 => "SCRAM-SHA-256",
        AuthMethod::XOAuth2 => "XOAUTH2",
        AuthMethod::OAuthBearer => "OAUTHBEARER",
    };
    format!("{from}, by {how}")
}

fn imap_lines(policy: &Policy) -> Vec<String> {
    let mut folders = match policy.include.as_slice() {
        [] => "all folders".to_owned(),
        include => format!("the folders {}", patterns(include)),
    };
    if !policy.exclude.is_empty() {
        folders.push_str(&format!(" but {}", patterns(&policy.exclude)));
    }
    let mut lines = vec![
        format!("  mirrors {folders}"),
        format!(
            "  {}; {}; {}",
            remote_delete(policy.remote_delete),
            local_delete(policy.local_delete, policy),
            upload(policy.upload, policy)
        ),
    ];
    for rule in &policy.rules {
        let said: Vec<String> = [
            rule.remote_delete.map(|r| remote_delete(r).to_owned()),
            rule.local_delete.map(|l| local_delete(l, policy)),
            rule.upload.map(|u| upload(u, policy).to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect();
        lines.push(format!("    in {}: {}", patterns(&rule.folders), said.join("; ")));
    }
    lines
}

fn pop3_lines(pop3: &Pop3) -> Vec<String> {
    let mut keep = match pop3.keep {
        Keep::Forever => "stays on the server".to_owned(),
        Keep::Delete => "is deleted on the server once it is safe here".to_owned(),
        Keep::DeleteAfter(d) => {
            format!("is deleted on the server {} after it came here", duration_text(d))
        }
    };
    if let Some(n) = pop3.keep_newest {
        keep.push_str(&format!("; only the newest {n} stay there"));
    }
    keep.push_str(if pop3.delete_when_removed_locally {
        "; deleted here is deleted there"
    } else {
        "; deleted here stays there"
    });
    vec![format!("  delivers to {}", pop3.folder), format!("  mail {keep}")]
}

fn patterns(patterns: &[FolderPattern]) -> String {
    let shown: Vec<&str> = patterns
        .iter()
        .map(|p| match p {
            FolderPattern::Use(u) => u.attribute(),
            FolderPattern::Glob(g) => g.glob().glob(),
        })
        .collect();
    shown.join(", ")
}

fn remote_delete(r: RemoteDelete) -> &'static str {
    match r {
        RemoteDelete::Keep => "deleted on the server stays here",
        RemoteDelete::Mirror => "deleted on the server is deleted here",
    }
}

fn local_delete(l: LocalDelete, policy: &Policy) -> String {
    match (l, &policy.trash) {
        _ if policy.read_only => "deleted here stays on the server".into(),
        (LocalDelete::Trash, None) => "deleted here goes to the server's trash".into(),
        (LocalDelete::Trash, Some(t)) => {
            format!("deleted here goes to the server's trash (or {t}, where none is marked)")
        }
        (LocalDelete::Mirror, _) => "deleted here is expunged on the server".into(),
        (LocalDelete::Keep, _) => "deleted here stays on the server".into(),
    }
}

fn upload(u: bool, policy: &Policy) -> &'static str {
    match (u, policy.read_only) {
        (true, false) => "new here is sent to the server",
        (true, true) => "new here waits",
        (false, _) => "new here stays here",
    }
}
