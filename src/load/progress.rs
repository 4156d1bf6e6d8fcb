//! What a run shows while it goes on: a bar on a terminal, plain lines elsewhere, on standard error.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tally::Slice;
use crate::measure::histogram;
use crate::report::text;

/// How much to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Nothing.
    Quiet,
    /// A bar on a terminal, else a line a second.
    Progress,
}

/// See the module's text.
pub(super) struct Progress {
    kind: Kind,
    total: Duration,
}

enum Kind {
    Quiet,
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    pub(super) fn new(verbosity: Verbosity, total: Duration) -> Self {
        let kind = match verbosity {
            Verbosity::Quiet => Kind::Quiet,
            Verbosity::Progress if std::io::stderr().is_terminal() => {
                let target = ProgressDrawTarget::stderr_with_hz(10);
                let bar = ProgressBar::with_draw_target(Some(total.as_millis() as u64), target);
                let style = ProgressStyle::with_template("{bar:24} {percent:>3}%  {wide_msg}");
                bar.set_style(style.expect("the template is well-formed").progress_chars("━━ "));
                Kind::Bar(bar)
            }
            Verbosity::Progress => Kind::Lines,
        };
        Self { kind, total }
    }

    /// Something that happens once.
    pub(super) fn say(&self, what: &str) {
        match &self.kind {
            Kind::Quiet => {}
            Kind::Bar(bar) => bar.println(what),
            Kind::Lines => eprintln!("{what}"),
        }
    }

    /// What is being done, `elapsed` into the run.
    pub(super) fn phase(&self, elapsed: Duration, what: &str) {
        if let Kind::Bar(bar) = &self.kind {
            bar.set_position(elapsed.as_millis() as u64);
            bar.set_message(what.to_owned());
        }
    }

    /// What came of the last `length` of the run.
    pub(super) fn slice(&self, elapsed: Duration, length: Duration, slice: &Slice) {
        let rate = slice.answered as f64 / length.as_secs_f64().max(1e-9);
        let p99 = histogram::percentile_ns(&slice.headline, 0.99);
        let p99 = p99.map_or("too few samples".to_owned(), text::duration_ns);
        let line = format!("{}  p99 {p99}", text::rate(rate));
        match &self.kind {
            Kind::Quiet => {}
            Kind::Bar(_) => self.phase(elapsed, &line),
            Kind::Lines => {
                eprintln!("{:>6.1} of {:.1} s  {line}", elapsed.as_secs_f64(), self.total.as_secs_f64());
            }
        }
    }

    pub(super) fn finish(&self) {
        if let Kind::Bar(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }
}
