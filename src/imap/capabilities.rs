//! What may be asked of this server: what it offers, corrected by what is known of it. Pure.

use std::collections::BTreeSet;

use super::quirks::{self, Server};

/// Effective capabilities. Everything else asks these, never the server's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// RFC 2342.
    pub namespace: bool,
    /// RFC 5258.
    pub list_extended: bool,
    /// RFC 5819.
    pub list_status: bool,
    /// RFC 6154.
    pub special_use: bool,
    /// RFC 6154 3: a folder can be made with its use.
    pub create_special_use: bool,
    /// RFC 4731.
    pub esearch: bool,
    /// RFC 5161.
    pub enable: bool,
    /// RFC 7162.
    pub condstore: bool,
    /// RFC 7162.
    pub qresync: bool,
    /// RFC 4315.
    pub uidplus: bool,
    /// RFC 6851.
    pub moves: bool,
    /// RFC 3502.
    pub multiappend: bool,
    /// RFC 7888: literals of any size without waiting.
    pub literal_plus: bool,
    /// RFC 7888: literals up to 4096 bytes without waiting.
    pub literal_minus: bool,
    /// RFC 7889: the largest message that APPEND takes.
    pub append_limit: Option<u64>,
    /// RFC 8474: EMAILID, MAILBOXID.
    pub objectid: bool,
    /// MAILBOXID can be asked for in STATUS, too.
    pub status_mailbox_id: bool,
    /// X-GM-EXT-1: X-GM-MSGID.
    pub gmail_ids: bool,
    /// RFC 2971.
    pub id: bool,
    /// RFC 2177.
    pub idle: bool,
    /// RFC 5465.
    pub notify: bool,
    /// RFC 3691.
    pub unselect: bool,
    /// RFC 4978.
    pub compress_deflate: bool,
    /// RFC822.SIZE is not the size of the body: sizes prove nothing.
    pub sizes_lie: bool,
    /// A folder shows at most so many messages: what is not shown is not gone.
    pub window: Option<u32>,
    /// Expunging takes a label off; a message is deleted by moving it to Trash.
    pub labels: bool,
    /// ID has to be answered before a folder is opened.
    pub id_first: bool,
    /// How many connections the server takes from one user.
    pub most_connections: Option<u32>,
    /// How its NO to STATUS begins where there is no such folder and it sends no code.
    pub absent_text: Option<&'static str>,
    /// The names of the quirks that were applied.
    pub quirks: Vec<&'static str>,
}

impl Capabilities {
    /// From what the server says of itself.
    pub fn new(server: &Server<'_>) -> Self {
        let words: BTreeSet<String> =
            server.capabilities.iter().map(|w| w.to_ascii_uppercase()).collect();
        let has = |w: &str| words.contains(w);
        // Where both revisions are offered, the second one's parts count once it is enabled
        // (RFC 9051 appendix E), and servers name what they have besides. Where it stands alone,
        // they are implied.
        let rev2 = has("IMAP4REV2") && !has("IMAP4REV1");
        let mut c = Self {
            namespace: has("NAMESPACE") || rev2,
            list_extended: has("LIST-EXTENDED") || rev2,
            list_status: has("LIST-STATUS") || rev2,
            special_use: has("SPECIAL-USE") || rev2,
            create_special_use: has("CREATE-SPECIAL-USE"),
            esearch: has("ESEARCH") || rev2,
            enable: has("ENABLE") || rev2,
            // RFC 7162 3.2.3: QRESYNC implies CONDSTORE and ENABLE
            condstore: has("CONDSTORE") || has("QRESYNC"),
            qresync: has("QRESYNC"),
            uidplus: has("UIDPLUS") || rev2,
            moves: has("MOVE") || rev2,
            multiappend: has("MULTIAPPEND"),
            literal_plus: has("LITERAL+"),
            literal_minus: has("LITERAL-") || rev2,
            append_limit: words
                .iter()
                .find_map(|w| w.strip_prefix("APPENDLIMIT="))
                .and_then(|n| n.parse().ok()),
            objectid: has("OBJECTID"),
            status_mailbox_id: has("OBJECTID"),
            gmail_ids: has("X-GM-EXT-1"),
            id: has("ID"),
            idle: has("IDLE") || rev2,
            notify: has("NOTIFY"),
            unselect: has("UNSELECT") || rev2,
            compress_deflate: has("COMPRESS=DEFLATE"),
            ..Self::default()
        };
        for quirk in quirks::TABLE.iter().filter(|q| (q.applies)(server)) {
            (quirk.correct)(&mut c);
            c.quirks.push(quirk.name);
        }
        c
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Capabilities {
        let capabilities: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        Capabilities::new(&Server { capabilities: &capabilities, ..Server::default() })
    }

    #[test]
    fn words_without_regard_to_case() {
        let c = of(&["imap4rev1", "Qresync", "APPENDLIMIT=123", "LITERAL-", "COMPRESS=DEFLATE"]);
        assert!(c.qresync && c.condstore && c.literal_minus && c.compress_deflate);
        assert_eq!(c.append_limit, Some(123));
        assert!(!c.uidplus && !c.moves);
        assert_eq!(of(&["APPENDLIMIT"]).append_limit, None);
        assert_eq!(of(&["APPENDLIMIT=99999999999999999999999"]).append_limit, None);
    }

    #[test]
    fn the_second_revision_implies_only_where_it_stands_alone() {
        assert!(of(&["IMAP4rev2"]).uidplus);
        assert!(!of(&["IMAP4rev1", "IMAP4rev2"]).uidplus);
    }
}
