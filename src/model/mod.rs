//! The words everything else is said in. Pure: no I/O, clock, randomness or log. A value of one of
//! these types is valid; the only way in is through a parser that can refuse.

pub mod flags;
pub mod folder;
pub mod identity;
pub mod name;
pub mod row;
pub mod uid;
pub mod uidl;

pub use flags::{Flags, Keyword, PermanentFlags, SystemFlags};
pub use folder::{FolderName, SpecialUse};
pub use identity::{ContentHash, Fingerprint, Identity, ServerId};
pub use name::{BaseName, FileName, Info, Place, Subdir};
pub use row::{FolderId, Gone, Row, RowId, State};
pub use uid::{ModSeq, Uid, UidSet, UidValidity};
pub use uidl::{BrokenUidl, UidlId, UidlRow, UidlState};
