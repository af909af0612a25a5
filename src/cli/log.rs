//! Log lines on stderr: plain for people, with a time where nobody else adds one; objects for
//! programs.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::screen::Screen;
use super::{Global, LogFormat};

/// Sends this process's log to the screen. Libraries say less than we do: theirs is never a trace,
/// which could hold what a server or a user said in confidence.
///
/// A daemon's lines have a time, unless the journal adds one; then they begin with their level as
/// sd-daemon(3) has it.
pub(super) fn start(global: &Global, screen: &Screen, daemon: bool) {
    let (ours, theirs) = match (global.quiet, global.verbose) {
        (true, _) => (LevelFilter::ERROR, LevelFilter::ERROR),
        (_, 0) => (LevelFilter::INFO, LevelFilter::WARN),
        (_, 1) => (LevelFilter::DEBUG, LevelFilter::WARN),
        (_, _) => (LevelFilter::TRACE, LevelFilter::INFO),
    };
    let targets = Targets::new().with_default(theirs).with_target("mailkeep", ours);
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(screen.clone());
    let registry = tracing_subscriber::registry().with(targets);
    // a second start (tests in one process) leaves the first in place
    let _ = match global.log_format {
        LogFormat::Text => {
            // who looks closely at a file wants times; the journal adds its own
            let journal = std::env::var_os("JOURNAL_STREAM").is_some();
            let looked_at = daemon || global.verbose > 0 && !screen.is_terminal();
            let form = Plain { time: looked_at && !journal, level: daemon && journal };
            registry.with(layer.event_format(form)).try_init()
        }
        LogFormat::Json => registry
            .with(layer.json().flatten_event(true).with_current_span(false).with_span_list(true))
            .try_init(),
    };
}

/// `work: what happened`, with the level in front where it is another than info.
struct Plain {
    time: bool,
    /// `<4>` and the like in front.
    level: bool,
}

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.time {
            write!(to, "{:.0} ", jiff::Timestamp::now())?;
        }
        let meta = event.metadata();
        if self.level {
            to.write_str(match *meta.level() {
                Level::ERROR => "<3>",
                Level::WARN => "<4>",
                Level::INFO => "<6>",
                _ => "<7>",
            })?;
        }
        match *meta.level() {
            Level::ERROR => to.write_str("mailkeep: error: ")?,
            Level::WARN => to.write_str("mailkeep: warning: ")?,
            Level::INFO => to.write_str("mailkeep: ")?,
            level => write!(to, "{level} {}: ", meta.target())?,
        }
        for span in context.event_scope().into_iter().flat_map(|s| s.from_root()) {
            let extensions = span.extensions();
            match extensions.get::<FormattedFields<N>>() {
                Some(fields) if !fields.is_empty() => write!(to, "{fields}: ")?,
                _ => write!(to, "{}: ", span.name())?,
            }
        }
        context.field_format().format_fields(to.by_ref(), event)?;
        writeln!(to)
    }
}
