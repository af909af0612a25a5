//! A walk over the parsed TOML that keeps the places: every key asked for is a known key, every
//! complaint is remembered with its place, and nothing stops at the first.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use toml::de::{DeTable, DeValue};

/// What is wrong (or odd) at one place of the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Remark {
    at: usize,
    text: String,
}

/// The file being read, and what there is to say about it.
pub(super) struct Reader<'s> {
    file: &'s str,
    source: &'s str,
    errors: RefCell<Vec<Remark>>,
    warnings: RefCell<Vec<Remark>>,
}

impl<'s> Reader<'s> {
    /// `file` is how messages name the file.
    pub(super) fn new(file: &'s str, source: &'s str) -> Self {
        Self { file, source, errors: RefCell::default(), warnings: RefCell::default() }
    }

    /// Remembers an error at a byte of the file.
    pub(super) fn error(&self, at: usize, text: impl Into<String>) {
        self.errors.borrow_mut().push(Remark { at, text: text.into() });
    }

    /// Remembers what is no error and deserves a look.
    pub(super) fn warning(&self, at: usize, text: impl Into<String>) {
        self.warnings.borrow_mut().push(Remark { at, text: text.into() });
    }

    /// All errors, sorted by place, each with `file:line:column: `.
    pub(super) fn errors(&self) -> Vec<String> {
        self.printed(&self.errors)
    }

    /// All warnings, in the same form.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.printed(&self.warnings)
    }

    /// The line that a byte of the file stands in, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.place(at).0
    }

    fn printed(&self, remarks: &RefCell<Vec<Remark>>) -> Vec<String> {
        let mut sorted = remarks.borrow().clone();
        sorted.sort();
        sorted.dedup();
        sorted
            .into_iter()
            .map(|r| {
                let (line, column) = self.place(r.at);
                format!("{}:{line}:{column}: {}", self.file, r.text)
            })
            .collect()
    }

    /// Line and column, both from 1; the column counts characters.
    fn place(&self, at: usize) -> (usize, usize) {
        let mut cut = at.min(self.source.len());
        while !self.source.is_char_boundary(cut) {
            cut -= 1;
        }
        let before = self.source.get(..cut).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        (before.matches('\n').count() + 1, column + 1)
    }
}

/// One table, and which keys of it were asked for.
pub(super) struct Section<'r, 's> {
    reader: &'r Reader<'s>,
    path: String,
    at: usize,
    table: Option<&'r DeTable<'s>>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'r, 's> Section<'r, 's> {
    /// The whole file.
    pub(super) fn root(reader: &'r Reader<'s>, table: &'r DeTable<'s>) -> Self {
        Self { reader, path: String::new(), at: 0, table: Some(table), asked: RefCell::default() }
    }

    /// Complains about the section as a whole.
    pub(super) fn complain(&self, what: &str) {
        self.reader.error(self.at, format!("{}: {what}", self.path));
    }

    /// What gathers the errors.
    pub(super) fn reader(&self) -> &'r Reader<'s> {
        self.reader
    }

    /// The item of a key, which is thereby known here.
    pub(super) fn get(&self, key: &'static str) -> Option<Item<'r, 's>> {
        self.asked.borrow_mut().push(key);
        self.items().into_iter().find(|(k, _)| *k == key).map(|(_, i)| i)
    }

    /// The item of a key that must be there.
    pub(super) fn require(&self, key: &'static str, why: &str) -> Option<Item<'r, 's>> {
        let item = self.get(key);
        if item.is_none() {
            let path = self.path_of(key);
            self.reader.error(self.at, format!("{path}: missing: {why}"));
        }
        item
    }

    /// The value of a key, or its default. `None` if there is one and it is wrong; the reader has
    /// been told.
    pub(super) fn or<T>(
        &self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Item<'r, 's>) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(item) => parse(&item),
            None => Some(default),
        }
    }

    /// The table below a key; an empty one where there is none or something else stands there.
    pub(super) fn section(&self, key: &'static str) -> Self {
        self.get(key).and_then(|item| item.section()).unwrap_or_else(|| Self {
            reader: self.reader,
            path: self.path_of(key),
            at: self.at,
            table: None,
            asked: RefCell::default(),
        })
    }

    /// Every key with its item, in the order of the keys.
    pub(super) fn items(&self) -> Vec<(&'r str, Item<'r, 's>)> {
        let entries = self.table.into_iter().flat_map(|t| t.iter());
        entries
            .map(|(k, v)| {
                let name: &'r str = k.get_ref();
                let item = Item {
                    reader: self.reader,
                    path: self.path_of(name),
                    key_at: k.span().start,
                    at: v.span().start,
                    value: v.get_ref(),
                };
                (name, item)
            })
            .collect()
    }

    /// Complains about every key that was not asked for. `others` are the sections that such a
    /// key may have been meant for.
    pub(super) fn finish(&self, others: &[&Self]) {
        let asked = self.asked.borrow();
        for (key, item) in self.items() {
            if asked.contains(&key) {
                continue;
            }
            let home = others.iter().find(|o| o.asked.borrow().contains(&key));
            let hint = match (home, nearest(key, asked.iter())) {
                (Some(home), _) => format!("it belongs in [{}]", home.path),
                (None, Some(near)) => format!("did you mean {near:?}?"),
                (None, None) => {
                    let mut known = asked.clone();
                    known.sort_unstable();
                    known.dedup();
                    format!("known here: {}", known.join(", "))
                }
            };
            item.misplaced(&format!("unknown key; {hint}"));
        }
    }

    fn path_of(&self, key: &str) -> String {
        let bare = !key.is_empty()
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let key = if bare { key.to_owned() } else { format!("{key:?}") };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}

/// The known word that `word` was probably meant to be.
pub fn nearest<'k>(
    word: &str,
    known: impl IntoIterator<Item = &'k (impl AsRef<str> + 'k + ?Sized)>,
) -> Option<&'k str> {
    let folded = word.to_lowercase().replace('-', "_");
    let length = folded.chars().count();
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&folded, &k.as_ref().to_lowercase()), k.as_ref()))
        // a third of the letters may differ, and never all of them
        .filter(|(d, k)| *d <= 1 + k.chars().count().min(length) / 3 && *d < length)
        .min()
        .map(|(_, k)| k)
}

/// One value with its key and both their places.
pub(super) struct Item<'r, 's> {
    reader: &'r Reader<'s>,
    path: String,
    key_at: usize,
    at: usize,
    value: &'r DeValue<'s>,
}

impl<'r, 's> Item<'r, 's> {
    /// Where the value stands.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The key with all that it stands in.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Complains about the value.
    pub(super) fn wrong(&self, what: &str) {
        self.reader.error(self.at, format!("{}: {what}", self.path));
    }

    /// Complains about the key.
    pub(super) fn misplaced(&self, what: &str) {
        self.reader.error(self.key_at, format!("{}: {what}", self.path));
    }

    /// Warns about the value.
    pub(super) fn odd(&self, what: &str) {
        self.reader.warning(self.at, format!("{}: {what}", self.path));
    }

    /// A string.
    pub(super) fn string(&self) -> Option<&'r str> {
        let s = self.value.as_str();
        if s.is_none() {
            self.wrong_type("a string");
        }
        s
    }

    /// A string that `parse` turns into something.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match parse(self.string()?) {
            Ok(t) => Some(t),
            Err(what) => {
                self.wrong(&what);
                None
            }
        }
    }

    /// The same, of which a wrong type is to be told what it should be.
    pub(super) fn parse_as<T>(
        &self,
        want: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.value.as_str().is_none() {
            self.wrong_type(want);
            return None;
        }
        self.parse(parse)
    }

    /// One of some words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let s = self.string()?;
        if let Some((_, t)) = words.iter().find(|(w, _)| *w == s) {
            return Some(*t);
        }
        let known: Vec<&str> = words.iter().map(|(w, _)| *w).collect();
        let listed: Vec<String> = known.iter().map(|w| format!("{w:?}")).collect();
        let hint = nearest(s, &known).map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
        self.wrong(&format!("must be {}, not {s:?}{hint}", either(&listed)));
        None
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        let b = self.value.as_bool();
        if b.is_none() {
            self.wrong_type("true or false");
        }
        b
    }

    /// A whole number within bounds.
    pub(super) fn integer(&self, bounds: RangeInclusive<u32>) -> Option<u32> {
        let want = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        let Some(i) = self.value.as_integer() else {
            self.wrong_type(&want);
            return None;
        };
        let n = i64::from_str_radix(i.as_str(), i.radix()).ok().and_then(|n| n.try_into().ok());
        let n = n.filter(|n| bounds.contains(n));
        if n.is_none() {
            self.wrong(&format!("must be {want}, not {i}"));
        }
        n
    }

    /// The items of an array; each has the array's key.
    pub(super) fn array(&self, of: &str) -> Option<Vec<Item<'r, 's>>> {
        let Some(array) = self.value.as_array() else {
            self.wrong_type(&format!("an array of {of}"));
            return None;
        };
        let items = array.iter().enumerate().map(|(n, v)| Item {
            reader: self.reader,
            path: format!("{}[{n}]", self.path),
            key_at: v.span().start,
            at: v.span().start,
            value: v.get_ref(),
        });
        Some(items.collect())
    }

    /// The strings of an array, each parsed. `None` if any is wrong; all are looked at.
    pub(super) fn each<T>(
        &self,
        of: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let parsed: Vec<Option<T>> = self.array(of)?.iter().map(|i| i.parse(&parse)).collect();
        parsed.into_iter().collect()
    }

    /// A table.
    pub(super) fn section(&self) -> Option<Section<'r, 's>> {
        let table = self.value.as_table();
        if table.is_none() {
            self.wrong_type(&format!("a table, [{}]", self.path));
        }
        Some(Section {
            reader: self.reader,
            path: self.path.clone(),
            at: self.key_at,
            table: Some(table?),
            asked: RefCell::default(),
        })
    }

    fn wrong_type(&self, want: &str) {
        // the value itself is not shown: it may be a password
        let is = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.wrong(&format!("must be {want}, not {is}"));
    }
}

/// `a, b or c`.
pub(super) fn either(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}
