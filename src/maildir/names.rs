//! Where a message file belongs for its flags. Pure.

use crate::model::{BaseName, FileName, Info, Place, Subdir};

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

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> BaseName {
        BaseName::ours(1, 2, 3)
    }

    #[test]
    fn only_a_message_without_letters_is_new() {
        assert_eq!(delivered(base(), &Info::default()).to_string(), format!("new/{}", base()));
        for letters in ["S", "F", "a", "X"] {
            let p = delivered(base(), &Info::parse(letters));
            assert_eq!(p.to_string(), format!("cur/{}:2,{letters}", base()));
        }
    }

    #[test]
    fn a_reader_s_place_is_kept_where_the_letters_allow() {
        let new = delivered(base(), &Info::default());
        assert_eq!(with_info(&new, &Info::default()), new);
        let seen = with_info(&new, &Info::parse("S"));
        assert_eq!(seen.to_string(), format!("cur/{}:2,S", base()));
        let none = with_info(&seen, &Info::default());
        assert_eq!(none.to_string(), format!("cur/{}:2,", base()));
        // Letters that another program put in its own order are no reason to rename.
        let odd = Place { sub: Subdir::Cur, file: FileName::from_parts(base(), ":2,SF") };
        assert_eq!(with_info(&odd, &Info::parse("FS")), odd);
    }
}
