//! Reads a Maildir without the program's own code, writes into one as a mail reader does, and
//! compares it with a server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use super::letters::{Letter, hash, message_id, to_lf};
use super::server::Server;

const LETTERS: [(char, &str); 6] = [
    ('D', "\\Draft"),
    ('F', "\\Flagged"),
    ('P', "$Forwarded"),
    ('R', "\\Answered"),
    ('S', "\\Seen"),
    ('T', "\\Deleted"),
];

/// A message file.
#[derive(Debug, Clone)]
pub struct LocalMessage {
    pub path: PathBuf,
    /// The part of the name before `:2,`.
    pub base: String,
    /// In `new`, not in `cur`.
    pub is_new: bool,
    /// In IMAP's words, keywords by `dovecot-keywords`.
    pub flags: BTreeSet<String>,
    pub date: i64,
    pub hash: blake3::Hash,
    pub size: usize,
    pub inode: u64,
    pub message_id: String,
}

/// Every folder of a nested Maildir with its messages. Names as on disk.
pub fn read_maildir(root: &Path) -> BTreeMap<String, Vec<LocalMessage>> {
    let mut out = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        if dir.join("cur").is_dir() && dir.join("new").is_dir() {
            let name = dir.strip_prefix(root).expect("below").to_str().expect("UTF-8").to_owned();
            out.insert(name, read_folder(&dir));
        }
        for entry in fs::read_dir(&dir).expect("read").map(|e| e.expect("read")) {
            let name = entry.file_name();
            let of_format = ["cur", "new", "tmp"].iter().any(|s| name == *s);
            if entry.file_type().expect("type").is_dir() && !of_format {
                open.push(entry.path());
            }
        }
    }
    out
}

/// The messages of one folder, in the order of their names. Where a daemon renames a file
/// meanwhile, all of it is read again.
pub fn read_folder(dir: &Path) -> Vec<LocalMessage> {
    loop {
        match read_once(dir) {
            Ok(all) => return all,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => panic!("{}: {e}", dir.display()),
        }
    }
}

fn read_once(dir: &Path) -> std::io::Result<Vec<LocalMessage>> {
    let mut keywords = BTreeMap::new();
    for line in fs::read_to_string(dir.join("dovecot-keywords")).unwrap_or_default().lines() {
        let (index, word) = line.split_once(' ').expect("index and keyword");
        let index: u8 = index.parse().expect("index");
        keywords.insert(char::from(b'a' + index), word.to_owned());
    }
    let mut out = Vec::new();
    for sub in ["cur", "new"] {
        let mut paths: Vec<PathBuf> = fs::read_dir(dir.join(sub))
            .unwrap_or_else(|e| panic!("{}/{sub}: {e}", dir.display()))
            .map(|e| e.expect("read").path())
            .collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
            let (base, info) = name.split_once(":2,").unwrap_or((&name, ""));
            let mut flags = BTreeSet::new();
            for letter in info.chars() {
                let known = LETTERS.iter().find(|(l, _)| *l == letter).map(|(_, f)| *f);
                let word = known.or(keywords.get(&letter).map(String::as_str));
                flags.insert(word.map_or_else(|| format!("?{letter}"), str::to_owned));
            }
            let body = fs::read(&path)?;
            let meta = fs::metadata(&path)?;
            out.push(LocalMessage {
                base: base.to_owned(),
                is_new: sub == "new",
                flags,
                date: meta.mtime(),
                hash: hash(&body),
                size: body.len(),
                inode: meta.ino(),
                message_id: message_id(&body),
                path,
            });
        }
    }
    Ok(out)
}

/// One line for everything in which the server and the Maildir differ: folders, contents, flags,
/// dates, and how often each message is there.
pub fn differences(server: &dyn Server, root: &Path) -> Vec<String> {
    let mut imap = server.imap();
    let mut local = read_maildir(root);
    let mut out = Vec::new();
    for folder in imap.list() {
        let Some(here) = local.remove(&folder) else {
            out.push(format!("folder {folder} is not in the Maildir"));
            continue;
        };
        // Content, flags, date: a multiset, by which equal copies count.
        type Key = ([u8; 32], BTreeSet<String>, i64);
        let mut balance: BTreeMap<Key, (i64, String)> = BTreeMap::new();
        for m in imap.fetch_all(&folder) {
            let slot = balance.entry((*m.hash.as_bytes(), m.flags, m.date));
            let slot = slot.or_insert((0, m.message_id));
            slot.0 += 1;
        }
        for m in here {
            let slot = balance.entry((*m.hash.as_bytes(), m.flags, m.date));
            let slot = slot.or_insert((0, m.message_id));
            slot.0 -= 1;
        }
        for ((content, flags, date), (n, id)) in balance {
            if n != 0 {
                let side = if n > 0 { "only there" } else { "only here" };
                let content = blake3::Hash::from_bytes(content).to_hex();
                let mut line = format!("{folder}: {side}, {} time(s): {id} ", n.abs());
                let _ = write!(line, "{} {flags:?} {date}", &content[..8]);
                out.push(line);
            }
        }
    }
    out.extend(local.into_keys().map(|f| format!("folder {f} is not on the server")));
    out
}

/// Fails the test unless server and Maildir hold the same.
pub fn assert_same(server: &dyn Server, root: &Path) {
    let differences = differences(server, root);
    let shown = differences.iter().take(20).cloned().collect::<Vec<_>>().join("\n  ");
    assert!(differences.is_empty(), "{} differences:\n  {shown}", differences.len());
}

/// Makes the three directories of a folder.
pub fn make_folder(dir: &Path) {
    for sub in ["cur", "new", "tmp"] {
        fs::create_dir_all(dir.join(sub)).expect("mkdir");
    }
}

/// Delivers a message as a mail program does: written in `tmp`, then renamed into `cur` with its
/// flags, or into `new` if it has none. mtime is its date.
pub fn deliver(dir: &Path, letter: &Letter) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    let base = format!("{}.R{pid}_{n}.reader", 1_700_000_000 + n);
    let mut info: Vec<char> = letter
        .flags
        .iter()
        .map(|f| LETTERS.iter().find(|(_, w)| w == f).expect("a flag with a letter").0)
        .collect();
    info.sort_unstable();
    let part = dir.join("tmp").join(&base);
    fs::write(&part, to_lf(&letter.body)).expect("write");
    set_mtime(&part, letter.date);
    let whole = if info.is_empty() {
        dir.join("new").join(base)
    } else {
        dir.join("cur").join(format!("{base}:2,{}", info.into_iter().collect::<String>()))
    };
    fs::rename(part, &whole).expect("rename");
    whole
}

/// Saves a message into another folder as mutt and neomutt do: written anew, `Status` and
/// `X-Status` dropped, `Content-Length` and `Lines` added; then the old file is removed.
pub fn mutt_save(message: &LocalMessage, to: &Path) -> PathBuf {
    let path = mutt_copy(message, to);
    fs::remove_file(&message.path).expect("unlink");
    path
}

/// The first half of [`mutt_save`].
pub fn mutt_copy(message: &LocalMessage, to: &Path) -> PathBuf {
    let body = fs::read(&message.path).expect("read");
    let text = String::from_utf8(body).expect("UTF-8");
    let (head, rest) = text.split_once("\n\n").expect("an empty line");
    let mut kept: Vec<&str> = Vec::new();
    for line in head.lines() {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if !["status", "x-status", "content-length", "lines"].contains(&name.as_str()) {
            kept.push(line);
        }
    }
    let (lines, length) = (rest.lines().count(), rest.len());
    let new = format!("{}\nContent-Length: {length}\nLines: {lines}\n\n{rest}", kept.join("\n"));
    let flags: Vec<&str> = message.flags.iter().map(String::as_str).collect();
    deliver(to, &Letter::new(new, &flags, message.date))
}

/// Sets the flag letters of a message by renaming it, into `cur`. Returns its new path.
pub fn set_flags(message: &LocalMessage, letters: &str) -> PathBuf {
    let dir = message.path.parent().and_then(Path::parent).expect("a folder");
    let to = dir.join("cur").join(format!("{}:2,{letters}", message.base));
    fs::rename(&message.path, &to).expect("rename");
    to
}

/// Moves a file into another folder and keeps its name, as mv does.
pub fn move_file(message: &LocalMessage, to: &Path) -> PathBuf {
    let sub = if message.is_new { "new" } else { "cur" };
    let to = to.join(sub).join(message.path.file_name().expect("a name"));
    fs::rename(&message.path, &to).expect("rename");
    to
}

/// Copies a directory tree as it is, with owners, modes and times.
pub fn copy_tree(from: &Path, to: &Path) {
    let copied = super::process::command("cp", None).arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("cp").success());
}

pub fn set_mtime(path: &Path, date: i64) {
    let file = fs::File::options().write(true).open(path).expect("open");
    file.set_modified(UNIX_EPOCH + Duration::from_secs(date as u64)).expect("mtime");
}
