//! The local side: a Maildir on disk. Names and layout are pure; everything that touches the disk
//! says what it made durable and what it left to the caller. An error is never an empty listing.

pub mod deliver;
mod disk;
pub mod durable;
pub mod file;
mod folders;
mod foreign;
pub mod keywords;
pub mod layout;
pub mod marker;
pub mod names;
mod ours;
pub mod scan;
mod tree;
pub mod watch;

pub use deliver::{Stage, Staged, discard, publish, stage_bytes};
pub use durable::{Durability, sync_dirs};
pub use file::{
    FileIdentity, FileStat, Stamp, find, identify, link_or_copy, open_message, place_path, rename,
    stamp, stat, unlink,
};
pub use folders::Listing;
pub use keywords::KeywordMap;
pub use layout::Layout;
pub use marker::{Line, Marker, MarkerLock};
pub use scan::{
    DirSignature, Names, NamesDigest, Scan, Unmatched, is_as_read, lacks, scan, signature,
};
pub use tree::Maildir;
pub use watch::{Complete, Watcher};
