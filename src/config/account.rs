//! One `[accounts.NAME]` table → an [`Account`]. Everything is read before anything is given up,
//! so that all errors of an account are shown at once.

use std::num::NonZeroU32;
use std::time::Duration;

use super::build::Context;
use super::read::{Item, Section};
use super::{Account, Hooks, Keep, Pop3, Protocol};
use super::{credential, value};
use crate::maildir::Layout;
use crate::model::FolderName;
use crate::net::{Endpoint, Security};
use crate::policy::{Brake, FolderPattern, LocalDelete, Policy, RemoteDelete, Rule};

const REMOTE_DELETE: [(&str, RemoteDelete); 2] =
    [("keep", RemoteDelete::Keep), ("mirror", RemoteDelete::Mirror)];
const LOCAL_DELETE: [(&str, LocalDelete); 3] =
    [("trash", LocalDelete::Trash), ("mirror", LocalDelete::Mirror), ("keep", LocalDelete::Keep)];

/// Reads one account. `hooks` are those of all accounts.
pub(super) fn read(
    name: &str,
    item: &Item<'_, '_>,
    hooks: &Hooks,
    context: &Context<'_>,
) -> Option<Account> {
    if let Err(what) = value::account_name(name) {
        item.misplaced(&what);
    }
    let account = item.section()?;
    let protocol = account
        .require("protocol", "\"imap\" or \"pop3\"")
        .and_then(|i| i.one_of(&[("imap", Protocol::Imap), ("pop3", Protocol::Pop3)]));
    let endpoint = endpoint(&account, protocol, context);
    let user = account
        .require("user", "who logs in, often the mail address")
        .and_then(|i| i.parse(value::line));
    let credential = credential::read(&account, protocol, context);
    let maildir = account
        .require("maildir", "the directory that the mail goes to")
        .and_then(|i| i.parse(|s| context.path(s)));
    let layout = account.or("layout", Layout::Nested, |i| {
        i.one_of(&[("nested", Layout::Nested), ("maildir++", Layout::PlusPlus)])
    });
    let poll_interval = account.or("poll_interval", Duration::from_secs(300), |i| {
        i.parse_as("a duration such as \"5m\"", |s| {
            value::duration_up_to(s, Duration::from_secs(7 * 86_400))
        })
    });
    let connections = account.or("connections", 3, |i| i.integer(1..=32));
    let idle_folders = account
        .or("idle_folders", vec![FolderName::inbox()], |i| i.each("folder names", value::folder));

    let policy_section = account.section("policy");
    let (rules, rule_sections) = rules(&account);
    let policy = policy(&account, &policy_section, rules);
    let pop3_section = account.section("pop3");
    let pop3 = pop3(&pop3_section);
    let hooks_section = account.section("hooks");
    let hooks = super::build::hooks(&hooks_section, hooks);

    match protocol {
        Some(Protocol::Pop3) => {
            let section_keys = ["trash", "upload"];
            let imap_only = ["include", "exclude", "rule", "connections", "idle_folders"]
                .iter()
                .filter_map(|k| account.get(k))
                .chain(section_keys.iter().filter_map(|k| policy_section.get(k)));
            for item in imap_only {
                item.misplaced("is for imap accounts, and this one is pop3");
            }
            for item in
                ["remote_delete", "local_delete"].iter().filter_map(|k| policy_section.get(k))
            {
                item.odd("says nothing for a pop3 account; [pop3] does: keep, keep_newest, delete_when_removed_locally");
            }
        }
        Some(Protocol::Imap) => {
            if let Some(item) = account.get("pop3") {
                item.misplaced("is for pop3 accounts, and this one is imap");
            }
        }
        None => {}
    }

    let inner = [&policy_section, &pop3_section, &hooks_section];
    account.finish(&inner);
    policy_section.finish(&[&account, &pop3_section, &hooks_section]);
    pop3_section.finish(&[&account, &policy_section, &hooks_section]);
    hooks_section.finish(&[&account, &policy_section, &pop3_section]);
    for rule in &rule_sections {
        rule.finish(&[&policy_section, &account]);
    }

    let (credential, auth) = credential?;
    let protocol = protocol?;
    let is_pop3 = protocol == Protocol::Pop3;
    Some(Account {
        name: name.to_owned(),
        protocol,
        endpoint: endpoint?,
        user: user?,
        credential,
        auth,
        maildir: maildir?,
        layout: layout?,
        // a POP3 mailbox is locked by its one session (RFC 1939 section 8)
        connections: if is_pop3 { 1 } else { usize::try_from(connections?).ok()? },
        poll_interval: poll_interval?,
        idle_folders: idle_folders?,
        policy: policy?,
        pop3: if is_pop3 { Some(pop3?) } else { None },
        hooks,
    })
}

fn endpoint(
    account: &Section<'_, '_>,
    protocol: Option<Protocol>,
    context: &Context<'_>,
) -> Option<Endpoint> {
    let host = account
        .require("host", "the server's name, such as \"imap.example.org\"")
        .and_then(|i| i.parse(value::host));
    let tls_item = account.get("tls");
    let tls = match &tls_item {
        None => Some(Security::Implicit),
        Some(item) => item.one_of(&[
            ("implicit", Security::Implicit),
            ("starttls", Security::StartTls),
            ("none", Security::None),
        ]),
    };
    let port = match account.get("port") {
        Some(item) => item.integer(1..=65_535).and_then(|n| u16::try_from(n).ok()),
        None => match (protocol, tls) {
            (Some(Protocol::Imap), Some(Security::Implicit)) => Some(993),
            (Some(Protocol::Imap), Some(_)) => Some(143),
            (Some(Protocol::Pop3), Some(Security::Implicit)) => Some(995),
            (Some(Protocol::Pop3), Some(_)) => Some(110),
            _ => None,
        },
    };
    let allow_plaintext = account.or("allow_plaintext", false, Item::boolean);
    let ca_item = account.get("tls_ca_file");
    let ca_file = ca_item.as_ref().map(|i| i.parse(|s| context.path(s)));
    let pin_item = account.get("tls_fingerprint");
    let fingerprint = pin_item.as_ref().map(|i| i.parse(value::fingerprint));

    if let (Some(item), Some(Security::None)) = (&tls_item, tls) {
        let here = host.as_deref().is_none_or(value::is_loopback);
        if !here && allow_plaintext == Some(false) {
            item.wrong(
                "\"none\" sends the password and all mail readable over the network; it is for a \
                 loopback host, or with allow_plaintext = true",
            );
        }
        for key in [&ca_item, &pin_item].into_iter().flatten() {
            key.misplaced("has no meaning with tls = \"none\"");
        }
    }
    if let (Some(ca), Some(pin)) = (&ca_item, &pin_item) {
        let (first, second) = if ca.at() < pin.at() { (ca, pin) } else { (pin, ca) };
        second.misplaced(&format!(
            "cannot stand beside {}: a pinned certificate is taken in place of validation",
            first.path()
        ));
    }
    Some(Endpoint {
        host: host?,
        port: port?,
        security: tls?,
        // `Some(None)` is one that is wrong
        ca_file: ca_file.map_or(Some(None), |f| f.map(Some))?,
        fingerprint: fingerprint.map_or(Some(None), |f| f.map(Some))?,
    })
}

fn policy(
    account: &Section<'_, '_>,
    section: &Section<'_, '_>,
    rules: Option<Vec<Rule>>,
) -> Option<Policy> {
    let default = Policy::default();
    let remote_delete =
        section.or("remote_delete", default.remote_delete, |i| i.one_of(&REMOTE_DELETE));
    let local_delete =
        section.or("local_delete", default.local_delete, |i| i.one_of(&LOCAL_DELETE));
    let upload = section.or("upload", default.upload, Item::boolean);
    let trash = section.or("trash", None, |i| i.parse(value::folder).map(Some));
    let brake = section.section("brake");
    let percent = brake.or("percent", u32::from(default.brake.percent), |i| i.integer(0..=100));
    let messages = brake.or("messages", default.brake.messages, |i| i.integer(0..=u32::MAX));
    brake.finish(&[section]);
    let read_only = account.or("read_only", false, Item::boolean);
    let include = account.or("include", Vec::new(), |i| {
        let patterns = i.each("patterns", FolderPattern::parse)?;
        if patterns.is_empty() {
            i.wrong("selects no folder; leave the key out to select all");
            return None;
        }
        Some(patterns)
    });
    let exclude = account.or("exclude", Vec::new(), |i| i.each("patterns", FolderPattern::parse));
    Some(Policy {
        remote_delete: remote_delete?,
        local_delete: local_delete?,
        upload: upload?,
        trash: trash?,
        brake: Brake { percent: u8::try_from(percent?).ok()?, messages: messages? },
        rules: rules?,
        include: include?,
        exclude: exclude?,
        read_only: read_only?,
    })
}

fn rules<'r, 's>(account: &Section<'r, 's>) -> (Option<Vec<Rule>>, Vec<Section<'r, 's>>) {
    let Some(item) = account.get("rule") else { return (Some(Vec::new()), Vec::new()) };
    let Some(items) = item.array("tables, [[…rule]]") else { return (None, Vec::new()) };
    let sections: Vec<_> = items.iter().filter_map(Item::section).collect();
    let rules = sections.iter().map(rule).collect::<Vec<_>>();
    let complete = sections.len() == items.len();
    (if complete { rules.into_iter().collect() } else { None }, sections)
}

fn rule(section: &Section<'_, '_>) -> Option<Rule> {
    let folders = section
        .require("folders", "the folders that the rule is for, such as [\"Lists/*\", \"\\\\Junk\"]")
        .and_then(|i| {
            let patterns = i.each("patterns", FolderPattern::parse)?;
            if patterns.is_empty() {
                i.wrong("names no folder, so the rule is for none");
                return None;
            }
            Some(patterns)
        });
    let remote_delete = section.or("remote_delete", None, |i| i.one_of(&REMOTE_DELETE).map(Some));
    let local_delete = section.or("local_delete", None, |i| i.one_of(&LOCAL_DELETE).map(Some));
    let upload = section.or("upload", None, |i| i.boolean().map(Some));
    if (remote_delete, local_delete, upload) == (Some(None), Some(None), Some(None)) {
        section.complain("sets nothing: give it remote_delete, local_delete or upload");
        return None;
    }
    Some(Rule {
        folders: folders?,
        remote_delete: remote_delete?,
        local_delete: local_delete?,
        upload: upload?,
    })
}

fn pop3(section: &Section<'_, '_>) -> Option<Pop3> {
    let keep = section.or("keep", Keep::Forever, |i| i.parse(value::keep));
    let keep_newest = section
        .or("keep_newest", None, |i| i.integer(1..=u32::MAX).and_then(NonZeroU32::new).map(Some));
    let delete_when_removed_locally =
        section.or("delete_when_removed_locally", false, Item::boolean);
    let folder = section.or("folder", FolderName::inbox(), |i| i.parse(value::folder));
    Some(Pop3 {
        keep: keep?,
        keep_newest: keep_newest?,
        delete_when_removed_locally: delete_when_removed_locally?,
        folder: folder?,
    })
}
