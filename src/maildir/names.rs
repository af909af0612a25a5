//! Where a message file belongs for its flags. Pure.

use crate::model::{BaseName, Info, Place};
use crate::model::{FileName, Subdir};

/// Where a message goes when it is delivered: `new/` without any letter, else `cur/`.
pub fn delivered(base: BaseName, info: &Info) -> Place {
    if *info == Info::default() {
        Place { sub: Subdir::New, file: FileName::bare(base) }
    } else {
        Place { sub: Subdir::Cur, file: FileName::new(base, info) }
    }
}

/// Where a message goes when its letters change: what is in `cur/` stays there, what is in `new/`
/// leaves it with its first letter. The same place if the letters are the same.
pub fn with_info(old: &Place, info: &Info) -> Place {
    if old.file.info() == *info {
        return old.clone();
    }
    Place { sub: Subdir::Cur, file: FileName::new(old.file.base.clone(), info) }
}
