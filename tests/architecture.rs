//! The layout of the source, as far as a test can see it: what is pure stays pure, only the ledger
//! knows SQLite, every file says its one reason and is short enough to have only one.

// Helpers of tests fail by panicking, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

/// What decides, and therefore gets its time, its randomness and its input as arguments.
const PURE: &[&str] = &[
    "src/account/backoff.rs",
    "src/daemon/protocol.rs",
    "src/model",
    "src/policy",
    "src/reconcile",
    "src/imap/names.rs",
    "src/imap/response.rs",
    "src/imap/capabilities.rs",
    "src/imap/quirks.rs",
    "src/imap/bounds.rs",
    "src/imap/push/said.rs",
    "src/maildir/foreign.rs",
    "src/maildir/layout.rs",
    "src/maildir/names.rs",
    "src/maildir/watch/pending.rs",
    "src/pop3/broken.rs",
    "src/pop3/protocol",
    "src/pop3/recognise.rs",
    "src/pop3/retention.rs",
    "src/pop3/short.rs",
    "src/sasl",
];

/// Names that no pure module may utter. Hash-ordered containers make plans depend on chance.
const IMPURE: [&str; 17] = [
    "tokio",
    "tracing",
    "getrandom",
    "rand",
    "rustix",
    "rusqlite",
    "HashMap",
    "HashSet",
    "Instant",
    "SystemTime",
    "println",
    "eprintln",
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
];

#[test]
fn pure_modules_know_no_world() {
    let mut found = Vec::new();
    for place in PURE {
        let files = sources(&root().join(place));
        // A module that was renamed must not slip out of the list.
        assert!(!files.is_empty(), "{place} is not there: correct the list above");
        for file in files {
            let code = code(&fs::read_to_string(&file).unwrap());
            let hits = IMPURE.iter().filter(|name| mentions(&code, name));
            found.extend(hits.map(|name| format!("{}: {name}", file.display())));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn only_the_ledger_knows_sqlite() {
    let ledger = root().join("src/ledger");
    for file in sources(&root().join("src")).iter().filter(|f| !f.starts_with(&ledger)) {
        let code = code(&fs::read_to_string(file).unwrap());
        assert!(!mentions(&code, "rusqlite"), "{} uses SQLite", file.display());
    }
}

#[test]
fn every_file_says_its_reason_and_is_short() {
    let mut found = Vec::new();
    for dir in ["src", "tests", "contrib"] {
        for file in sources(&root().join(dir)) {
            let text = fs::read_to_string(&file).unwrap();
            if !text.starts_with("//! ") {
                found.push(format!("{} does not start with //!", file.display()));
            }
            if text.lines().count() > 700 {
                found.push(format!("{} has over 700 lines", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn unsafe_code_is_forbidden() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"forbid\""));
    for file in sources(&root().join("src")) {
        let code = code(&fs::read_to_string(&file).unwrap());
        assert!(!mentions(&code, "unsafe"), "{}", file.display());
    }
}

#[test]
fn the_search_finds_what_it_looks_for() {
    for text in ["use std::{cmp, fs};", "std::fs::read(p)", "use std :: { fs as files };"] {
        assert!(mentions(&code(text), "std::fs"), "{text}");
    }
    for text in ["// std::fs", "/// std::fs", "use offs::x;", "#[cfg(test)]\nuse std::fs;"] {
        assert!(!mentions(&code(text), "std::fs"), "{text}");
    }
    assert!(mentions("let m: HashMap<A, B>;", "HashMap"));
    assert!(!mentions("let operand = 1;", "rand"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file at or below a path, tests of modules left out.
fn sources(path: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if path.is_file()
            && path.extension().is_some_and(|e| e == "rs")
            && !path.ends_with("tests.rs")
        {
            out.push(path);
        }
    }
    out.sort();
    out
}

/// The code without comments and without the tests at the end of the file.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(|l| l.split("//").next().unwrap_or_default()).collect();
    lines.join("\n")
}

/// Whether the code says this name: a word, or a module of `std`, braces included.
fn mentions(code: &str, name: &str) -> bool {
    let words = words(code);
    let Some(module) = name.strip_prefix("std::") else {
        return words.iter().any(|w| w == name);
    };
    words.iter().enumerate().any(|(i, w)| {
        let after = |n: usize| words.get(i + n).map(String::as_str).unwrap_or_default();
        if w != "std" || after(1) != ":" || after(2) != ":" {
            return false;
        }
        if after(3) != "{" {
            return after(3) == module;
        }
        // A group: its modules stand after the outer brace or a comma at its level.
        let mut depth = 0;
        let mut first = true;
        for w in &words[i + 3..] {
            match w.as_str() {
                "{" => depth += 1,
                "}" if depth == 1 => return false,
                "}" => depth -= 1,
                "," if depth == 1 => first = true,
                word => {
                    if depth == 1 && first && word == module {
                        return true;
                    }
                    first = false;
                }
            }
        }
        false
    })
}

/// Identifiers and single signs.
fn words(code: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut open = false;
    for c in code.chars() {
        let of_word = c.is_alphanumeric() || c == '_';
        if of_word && open {
            out.last_mut().unwrap().push(c);
        } else if !c.is_whitespace() {
            out.push(c.to_string());
        }
        open = of_word;
    }
    out
}
