//! Where a folder's directory is, and which folder a directory is: escaping both ways. Pure.
//!
//! A component is escaped byte by byte as `%XX` (capitals), and only where it must be; so a
//! directory is a folder's only if escaping the folder's name gives that directory again.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use crate::model::FolderName;

/// How folders are laid out below the root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `a/b` is `root/a/b/{cur,new,tmp}`, INBOX is `root/INBOX`.
    #[default]
    Nested,
    /// Maildir++: `a/b` is `root/.a.b`, INBOX is the root itself.
    PlusPlus,
}

/// The longest name of a directory entry (NAME_MAX), in bytes.
pub(super) const NAME_MAX: usize = 255;

/// A component that is too long is cut into pieces of this many bytes, escapes included; what the
/// start of a piece needs in escapes and the mark at its end fit into the rest.
const PIECE: usize = 240;

/// At the end of a directory's name: the component goes on in the next one. Alone: the component is
/// empty. Neither can be mistaken for an escape, which has two digits.
const MARK: char = '%';

/// As it is spelled here.
const INBOX: &str = "INBOX";

/// What must not be the first component in Maildir++: our own files in the root are called so.
const RESERVED: &str = "mailkeep";

impl Layout {
    /// The folder's directory, relative to the root; empty for INBOX in Maildir++. Two names never
    /// have the same one, and none leads out of the root. In Maildir++ it can be longer than a
    /// directory's name may be; [`super::Maildir::check`] refuses that.
    pub fn relative_dir(&self, name: &FolderName) -> PathBuf {
        match self {
            Self::Nested => {
                let shadow = shadows_inbox(name);
                let parts = name.components().enumerate();
                parts.flat_map(|(i, c)| nested(c, i == 0 && shadow)).collect()
            }
            Self::PlusPlus if name.is_inbox() => PathBuf::new(),
            Self::PlusPlus => {
                let mut dir = String::new();
                for (i, c) in name.components().enumerate() {
                    let reserved = i == 0 && (c == RESERVED || shadows_inbox(name));
                    dir.push('.');
                    dir.push_str(&escape(c, |at, c| c == '.' || (at == 0 && reserved)));
                }
                dir.into()
            }
        }
    }

    /// The inverse. `None` where `relative` is no folder's directory in this layout.
    pub fn name_of(&self, relative: &Path) -> Option<FolderName> {
        let dirs: Option<Vec<&str>> = relative
            .components()
            .map(|c| match c {
                Component::Normal(s) => s.to_str(),
                _ => None,
            })
            .collect();
        let name = match (self, dirs?.as_slice()) {
            (Self::Nested, dirs) => FolderName::from_components(join_pieces(dirs)?)?,
            (Self::PlusPlus, []) => FolderName::inbox(),
            (Self::PlusPlus, [dir]) => {
                let parts: Option<Vec<String>> =
                    dir.strip_prefix('.')?.split('.').map(unescape).collect();
                FolderName::from_components(parts?)?
            }
            (Self::PlusPlus, _) => return None,
        };
        // Whatever else would decode to this name is another directory, and not the folder's.
        (self.relative_dir(&name) == relative).then_some(name)
    }

    /// The folder that has this directory's name as it stands there; where that needs an escape,
    /// its own is another one. mbsync leaves INBOX out of what is below it in Maildir++.
    pub fn literally(&self, relative: &Path) -> Option<FolderName> {
        let text = relative.to_str()?;
        let mut parts: Vec<&str> = match self {
            Self::Nested => text.split('/').collect(),
            Self::PlusPlus => text.strip_prefix('.')?.split('.').collect(),
        };
        let first = parts.first_mut()?;
        if first.eq_ignore_ascii_case(INBOX) || *self == Self::PlusPlus && first.is_empty() {
            *first = INBOX;
        }
        let name = FolderName::from_components(parts.iter().copied())?;
        let is_whole = parts.iter().all(|c| !c.is_empty());
        (is_whole && !self.relative_dir(&name).as_os_str().is_empty()).then_some(name)
    }

    /// Whether folders can be below a directory of this name without it being one itself.
    pub(super) fn may_hold_folders(&self, relative: &Path) -> bool {
        let goes_on = relative.file_name().and_then(OsStr::to_str).is_some_and(goes_on);
        matches!(self, Self::Nested) && (goes_on || self.name_of(&relative.join("x")).is_some())
    }
}

/// Whether the name is below INBOX spelled otherwise. To most servers that is below INBOX itself
/// (RFC 9051 5.1 says so of INBOX alone); so a directory that is called so is nobody's.
fn shadows_inbox(name: &FolderName) -> bool {
    name.components().next().is_some_and(|c| c.eq_ignore_ascii_case(INBOX) && c != INBOX)
}

/// A component's directories: one, unless it is too long for that.
fn nested(component: &str, reserved: bool) -> Vec<String> {
    if reserved {
        return vec![escape(component, |at, _| at == 0)];
    }
    let whole = escape_dir(component);
    if whole.len() <= NAME_MAX {
        return vec![whole];
    }
    let mut pieces = Vec::new();
    let mut rest = component;
    while !rest.is_empty() {
        let (mut cut, mut size) = (0, 0);
        for c in rest.chars() {
            size += if always(c) { 3 * c.len_utf8() } else { c.len_utf8() };
            if size > PIECE {
                break;
            }
            cut += c.len_utf8();
        }
        let (piece, tail) = rest.split_at(cut);
        rest = tail;
        let mut dir = escape_dir(piece);
        if !rest.is_empty() {
            dir.push(MARK);
        }
        pieces.push(dir);
    }
    pieces
}

/// One directory's name in the nested layout.
fn escape_dir(piece: &str) -> String {
    let taken = matches!(piece, "cur" | "new" | "tmp");
    escape(piece, |at, c| at == 0 && (c == '.' || taken))
}

/// What a directory's name cannot hold, what a terminal would obey, and the escape itself.
fn always(c: char) -> bool {
    c == MARK || c == '/' || c.is_control()
}

fn escape(text: &str, also: impl Fn(usize, char) -> bool) -> String {
    if text.is_empty() {
        return MARK.into();
    }
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if always(c) || also(at, c) {
            for b in c.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{b:02X}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// The inverse of [`escape`], and of more: whether it was canonical is for the caller to see.
fn unescape(text: &str) -> Option<String> {
    if text.len() == 1 && text.starts_with(MARK) {
        return Some(String::new());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            out.push(u8::try_from(value).ok()?);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

/// Whether the component that this directory is a piece of goes on below it.
fn goes_on(dir: &str) -> bool {
    dir.len() > 1 && dir.ends_with(MARK)
}

/// Components from directories; `None` if one cannot be decoded, or the last one goes on.
fn join_pieces(dirs: &[&str]) -> Option<Vec<String>> {
    let mut components = Vec::new();
    let mut piece = String::new();
    let mut open = false;
    for dir in dirs {
        open = goes_on(dir);
        piece.push_str(&unescape(if open { dir.strip_suffix(MARK)? } else { dir })?);
        if !open {
            components.push(std::mem::take(&mut piece));
        }
    }
    (!open).then_some(components)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStrExt;

    /// Components that touch every rule, beside arbitrary ones.
    fn component() -> impl Strategy<Value = String> {
        prop_oneof![
            prop::sample::select(vec![
                "",
                ".",
                "..",
                "cur",
                "new",
                "tmp",
                "Cur",
                "INBOX",
                "inbox",
                "mailkeep",
                ".git",
                "%",
                "%%",
                "%25",
                "%2E",
                "a.b",
                "a/b",
                "%63ur",
                "a%",
                "\u{0}",
                "\u{7f}",
                "\u{85}",
                "é",
                "e\u{301}",
                "É",
                "mailkeep.lock",
                " ",
            ])
            .prop_map(String::from),
            "[a.%/\u{1}ü]{0,6}",
            "\\PC{0,8}",
            ("[.%/ab\u{1f600}]{1,9}", 1usize..200).prop_map(|(s, n)| s.repeat(n)),
            (235usize..260, prop::sample::select(vec!["cur", ".", "%", "new", "x"]))
                .prop_map(|(n, tail)| format!("{}{tail}", "a".repeat(n))),
        ]
    }

    fn name() -> impl Strategy<Value = FolderName> {
        prop::collection::vec(component(), 1..4)
            .prop_filter_map("no name", FolderName::from_components)
    }

    fn layout() -> impl Strategy<Value = Layout> {
        prop::sample::select(vec![Layout::Nested, Layout::PlusPlus])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn there_and_back(layout in layout(), n in name()) {
            let dir = layout.relative_dir(&n);
            prop_assert_eq!(layout.name_of(&dir), Some(n));
        }

        #[test]
        fn two_names_never_share_a_directory(layout in layout(), a in name(), b in name()) {
            prop_assert_eq!(a == b, layout.relative_dir(&a) == layout.relative_dir(&b));
        }

        #[test]
        fn never_out_of_the_root_nor_into_a_maildir(layout in layout(), n in name()) {
            let dir = layout.relative_dir(&n);
            prop_assert!(dir.components().all(|c| matches!(c, Component::Normal(_))));
            // As text, since `components` passes over what it thinks is nothing.
            let text = dir.to_str().unwrap();
            prop_assert!(!text.chars().any(char::is_control));
            if layout == Layout::Nested {
                for part in text.split('/') {
                    prop_assert!(!part.is_empty() && part.len() <= NAME_MAX);
                    prop_assert!(!part.starts_with('.'));
                    prop_assert!(!matches!(part, "cur" | "new" | "tmp"));
                }
            } else if !n.is_inbox() {
                prop_assert!(text.starts_with('.') && !text.contains('/') && text != "..");
                prop_assert!(text != "." && !text.starts_with(".mailkeep.") && text != ".mailkeep");
                prop_assert_eq!(text.matches('.').count(), n.components().count());
            }
        }

        #[test]
        fn a_directory_is_the_folder_s_only_in_its_canonical_form(
            layout in layout(), dir in "[.%2Ea/curINBOX]{0,14}") {
            if let Some(n) = layout.name_of(Path::new(&dir)) {
                prop_assert_eq!(layout.relative_dir(&n), PathBuf::from(dir));
            }
        }

        #[test]
        fn bytes_that_are_no_name_are_refused_quietly(
            layout in layout(), b in prop::collection::vec(1u8.., 0..20)) {
            layout.name_of(Path::new(OsStr::from_bytes(&b)));
        }
    }

    fn dirs(layout: Layout, parts: &[&str]) -> String {
        let n = FolderName::from_components(parts.iter().copied()).unwrap();
        layout.relative_dir(&n).to_str().unwrap().to_owned()
    }

    #[test]
    fn plain_names_stay_plain() {
        assert_eq!(dirs(Layout::Nested, &["inbox"]), "INBOX");
        assert_eq!(
            dirs(Layout::Nested, &["Lists", "rust-dev v1.0 (ü)"]),
            "Lists/rust-dev v1.0 (ü)"
        );
        assert_eq!(dirs(Layout::PlusPlus, &["INBOX"]), "");
        assert_eq!(dirs(Layout::PlusPlus, &["INBOX", "Sent"]), ".INBOX.Sent");
        assert_eq!(dirs(Layout::PlusPlus, &["a", "b c"]), ".a.b c");
    }

    #[test]
    fn what_must_be_escaped_is() {
        for (part, nested, plus) in [
            (".", "x/%2E", ".x.%2E"),
            ("..", "x/%2E.", ".x.%2E%2E"),
            ("", "x/%", ".x.%"),
            ("cur", "x/%63ur", ".x.cur"),
            ("50%", "x/50%25", ".x.50%25"),
            ("a/b", "x/a%2Fb", ".x.a%2Fb"),
            ("a.b", "x/a.b", ".x.a%2Eb"),
            (".git", "x/%2Egit", ".x.%2Egit"),
            ("\u{1b}\u{85}", "x/%1B%C2%85", ".x.%1B%C2%85"),
            ("Inbox", "x/Inbox", ".x.Inbox"),
        ] {
            assert_eq!(dirs(Layout::Nested, &["x", part]), nested);
            assert_eq!(dirs(Layout::PlusPlus, &["x", part]), plus);
        }
        assert_eq!(dirs(Layout::PlusPlus, &["mailkeep", "lock"]), ".%6Dailkeep.lock");
        assert_eq!(dirs(Layout::PlusPlus, &["a", "mailkeep"]), ".a.mailkeep");
        assert_eq!(dirs(Layout::PlusPlus, &["Inbox", "a"]), ".%49nbox.a");
        assert_eq!(dirs(Layout::Nested, &["Inbox", "a"]), "%49nbox/a");
        assert!(Layout::Nested.may_hold_folders(Path::new("%49nbox")));
        assert!(!Layout::Nested.may_hold_folders(Path::new("Inbox")));
    }

    #[test]
    fn a_component_that_is_too_long_goes_on_below() {
        let long = format!("{}cur", "é".repeat(120));
        assert_eq!(dirs(Layout::Nested, &[&long]), long, "it fits");
        let long = format!("{}cur", "a".repeat(255));
        let dir = dirs(Layout::Nested, &[&long, "b"]);
        assert_eq!(dir, format!("{}%/{}cur/b", "a".repeat(240), "a".repeat(15)));
        let dir = dirs(Layout::Nested, &[&format!("{}new", "a".repeat(480))]);
        assert!(dir.ends_with("a%/%6Eew"), "{dir}");
        assert!(Layout::Nested.may_hold_folders(Path::new("x/aaa%")));
        assert_eq!(Layout::Nested.name_of(Path::new("x/aaa%")), None);
    }

    #[test]
    fn other_directories_are_no_folders() {
        for d in
            ["%zz", "50% off", "%2e", "%41", ".git", "a/cur", "inbox", "a/%2E.%", "a%", "a%/b", ""]
        {
            assert_eq!(Layout::Nested.name_of(Path::new(d)), None, "{d}");
        }
        for d in ["a", ".INBOX", ".Inbox.a", ".a..b", ".a.", ".mailkeep", ".a/b", ".%2e"] {
            assert_eq!(Layout::PlusPlus.name_of(Path::new(d)), None, "{d}");
        }
    }
}
