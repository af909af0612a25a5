//! How far a pass is: what the account's worker tells, whoever shows it.

use crate::model::FolderName;

/// Shows how far one account's pass is. Called from one thread; must never block for long.
pub trait Show: Send + Sync {
    /// So many messages will be done; called once that is known.
    fn begin(&self, messages: u64);
    /// The next messages are of this folder.
    fn folder(&self, name: &FolderName);
    /// A message of so many bytes is done.
    fn message(&self, bytes: u64);
    /// So many messages that were told of as done, and so many bytes, did not get there after all.
    fn undone(&self, messages: u64, bytes: u64);
    /// Something worth a line of its own.
    fn note(&self, text: &str);
    /// It is at work, on something that it does not count.
    fn alive(&self) {}
    /// Nothing more will come.
    fn finish(&self);
}

/// What a pass reports to.
pub struct Progress(Option<Box<dyn Show>>);

impl Progress {
    /// Shown to nobody.
    pub fn silent() -> Self {
        Self(None)
    }

    /// Shown by this.
    pub fn shown_by(show: impl Show + 'static) -> Self {
        Self(Some(Box::new(show)))
    }

    /// So many messages will be done. How many bytes that is, nobody knows.
    pub fn begin(&self, messages: u64) {
        self.tell(|s| s.begin(messages));
    }

    /// The next messages are of this folder.
    pub fn folder(&self, name: &FolderName) {
        self.tell(|s| s.folder(name));
    }

    /// A message of so many bytes is done.
    pub fn message(&self, bytes: u64) {
        self.tell(|s| s.message(bytes));
    }

    /// So many messages that were told of as done, and so many bytes, did not get there after all.
    pub fn undone(&self, messages: u64, bytes: u64) {
        self.tell(|s| s.undone(messages, bytes));
    }

    /// It is at work, on something that it does not count: a supervisor that hears nothing for long
    /// takes it for hung.
    pub fn alive(&self) {
        self.tell(|s| s.alive());
    }

    /// Something worth a line of its own.
    pub fn note(&self, text: &str) {
        self.tell(|s| s.note(text));
    }

    /// Nothing more will come.
    pub fn finish(&self) {
        self.tell(|s| s.finish());
    }

    fn tell(&self, what: impl FnOnce(&dyn Show)) {
        if let Some(show) = &self.0 {
            what(&**show);
        }
    }
}
