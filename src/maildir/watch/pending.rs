//! What was heard and not yet told, and when to tell it: the first change after quiet soon, a
//! stream of changes together. Pure; times are counted from any moment, the same for all.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Hint, Why};
use crate::model::FolderName;

/// A change is told so long after it: a delivery or a reader's save is more than one event.
const SOON: Duration = Duration::from_millis(25);
/// Within so much quiet: a burst is one change.
const CALM: Duration = Duration::from_millis(15);
/// And at the latest so long after the first, and not oftener than that.
const TOGETHER: Duration = Duration::from_millis(100);

/// Some changes.
#[derive(Debug, Default)]
pub(super) struct News {
    pub folders: BTreeSet<FolderName>,
    pub everything: Option<Why>,
}

impl News {
    /// Everything has to be looked at. The gravest reason counts.
    pub fn everything(&mut self, why: Why) {
        let grave = |w: Why| matches!(w, Why::Lost | Why::Overflow);
        if self.everything.is_none_or(|old| grave(why) && !grave(old)) {
            self.everything = Some(why);
        }
    }

    pub fn is_none(&self) -> bool {
        self.folders.is_empty() && self.everything.is_none()
    }
}

/// All changes since the last hint.
#[derive(Debug)]
pub(super) struct Pending {
    news: News,
    /// When the first and the last of them came.
    came: Option<(Duration, Duration)>,
    told: Option<Duration>,
}

impl Pending {
    /// Everything is to be looked at, at once.
    pub fn started() -> Self {
        let news = News { everything: Some(Why::Started), ..News::default() };
        Self { news, came: Some((Duration::ZERO, Duration::ZERO)), told: None }
    }

    /// More came.
    pub fn add(&mut self, now: Duration, news: News) {
        if news.is_none() {
            return;
        }
        self.news.folders.extend(news.folders);
        if let Some(why) = news.everything {
            self.news.everything(why);
        }
        let first = self.came.map_or(now, |(first, _)| first);
        self.came = Some((first, now));
    }

    /// When there will be something to tell, as things stand.
    pub fn due(&self) -> Option<Duration> {
        let (first, last) = self.came?;
        if self.news.everything == Some(Why::Started) {
            return Some(first);
        }
        let earliest = match self.told {
            Some(told) => (first + SOON).max(told + TOGETHER),
            None => first + SOON,
        };
        Some((last + CALM).max(earliest).min((first + TOGETHER).max(earliest)))
    }

    /// What is to be told now.
    pub fn take(&mut self, now: Duration) -> Option<Hint> {
        self.due().filter(|due| *due <= now)?;
        self.came = None;
        self.told = Some(now);
        let News { folders, everything } = std::mem::take(&mut self.news);
        Some(everything.map_or(Hint::Folders(folders), Hint::Everything))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn folder(name: &str) -> News {
        let name = FolderName::from_text(name).unwrap();
        News { folders: BTreeSet::from([name]), everything: None }
    }

    /// After the start, which is told at once.
    fn begun() -> Pending {
        let mut p = Pending::started();
        assert_eq!(p.take(ms(0)), Some(Hint::Everything(Why::Started)));
        assert_eq!((p.due(), p.take(ms(1))), (None, None));
        p
    }

    #[test]
    fn one_change_after_quiet_is_told_soon() {
        let mut p = begun();
        p.add(ms(5_000), folder("a"));
        assert_eq!(p.due(), Some(ms(5_025)));
        assert_eq!(p.take(ms(5_024)), None);
        assert_eq!(p.take(ms(5_025)), Some(Hint::Folders(folder("a").folders)));
        assert_eq!(p.take(ms(9_000)), None, "once");
    }

    #[test]
    fn a_burst_is_told_when_it_ends_a_stream_every_so_often() {
        let mut p = begun();
        for t in 1_000..1_060 {
            p.add(ms(t), folder("a"));
        }
        assert_eq!(p.due(), Some(ms(1_074)));
        p.add(ms(1_060), folder("b"));
        let Some(Hint::Folders(both)) = p.take(ms(1_075)) else { panic!("folders") };
        assert_eq!(both.len(), 2);

        let mut told = Vec::new();
        for t in 2_000..3_000 {
            p.add(ms(t), folder("a"));
            told.extend(p.take(ms(t)).map(|_| t));
        }
        assert_eq!(told.len(), 9, "{told:?}");
        assert!(told.windows(2).all(|w| w[1] - w[0] >= 100), "{told:?}");
    }

    #[test]
    fn nothing_is_no_news_and_a_loss_outweighs() {
        let mut p = begun();
        p.add(ms(10), News::default());
        assert_eq!(p.due(), None);
        for why in [Why::Folders, Why::Lost, Why::Folders, Why::Overflow] {
            let mut news = News::default();
            news.everything(why);
            p.add(ms(10), news);
        }
        p.add(ms(10), folder("a"));
        assert_eq!(p.take(ms(500)), Some(Hint::Everything(Why::Lost)));
    }
}
