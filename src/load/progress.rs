//! What a run shows while it goes on: a bar on a terminal, plain lines elsewhere, on standard error; or the live view.
//!
//! Invariant: telling what happens never waits for it to be shown.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tally::Slice;
use super::tui::{self, Header, Live, Piece, Snapshot};
use super::{Endpoint, Interrupter, LoadError, Plan};
use crate::measure::environment::Clock;
use crate::measure::histogram;
use crate::report::{self, text};

/// How much to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Nothing.
    Quiet,
    /// A bar on a terminal, else a line a second.
    Progress,
    /// The whole terminal: rates, percentiles, CPUs and the verdict so far.
    Live,
}

/// See the module's text.
pub(super) struct Progress {
    kind: Kind,
    warmup: Duration,
    total: Duration,
    clock: Clock,
}

enum Kind {
    Quiet,
    Bar(ProgressBar),
    Lines,
    Live(Box<Live>),
}

impl Progress {
    /// # Errors
    /// The live view was asked for, and the terminal refuses.
    pub(super) fn new(
        verbosity: Verbosity,
        plan: &Plan,
        endpoint: &Endpoint,
        interrupter: Interrupter,
    ) -> Result<Self, LoadError> {
        let total = plan.warmup + plan.duration;
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
            Verbosity::Live => {
                let live = Live::start(Header::of(plan, endpoint), interrupter);
                Kind::Live(Box::new(live.map_err(LoadError::Terminal)?))
            }
        };
        Ok(Self { kind, warmup: plan.warmup, total, clock: plan.clock })
    }

    /// Something that happens once.
    pub(super) fn say(&mut self, what: &str) {
        match &mut self.kind {
            Kind::Quiet => {}
            Kind::Live(live) => live.tell(Snapshot { notes: vec![what.to_owned()], ..Snapshot::default() }),
            Kind::Bar(bar) => bar.println(what),
            Kind::Lines => report::tell(what),
        }
    }

    /// What is being done, `elapsed` into the run.
    pub(super) fn phase(&mut self, elapsed: Duration, what: &'static str) {
        match &mut self.kind {
            Kind::Quiet | Kind::Lines => {}
            Kind::Bar(bar) => move_bar(bar, elapsed, what.to_owned()),
            Kind::Live(live) => live.tell(Snapshot { elapsed, phase: Some(what), ..Snapshot::default() }),
        }
    }

    /// What came of the last `length` of the run: often.
    pub(super) fn batch(&mut self, elapsed: Duration, length: Duration, slice: &Slice) {
        if let Kind::Live(live) = &mut self.kind {
            let start = elapsed.saturating_sub(length + self.warmup);
            let piece = Some(Piece::of(start, length, slice));
            live.tell(Snapshot { elapsed, phase: Some(tui::MEASURING), piece, ..Snapshot::default() });
        }
    }

    /// What came of the last `length` of the run: once a second, and made of batches that were told of.
    pub(super) fn interval(&mut self, elapsed: Duration, length: Duration, slice: &Slice) {
        match &mut self.kind {
            Kind::Quiet | Kind::Live(_) => {}
            Kind::Bar(bar) => move_bar(bar, elapsed, line(length, slice, self.clock)),
            Kind::Lines => {
                let total_s = self.total.as_secs_f64();
                report::tell(format_args!(
                    "{:>6.1} of {total_s:.1} s  {}",
                    elapsed.as_secs_f64(),
                    line(length, slice, self.clock)
                ));
            }
        }
    }

    pub(super) fn finish(&mut self) {
        match &mut self.kind {
            Kind::Quiet | Kind::Lines => {}
            Kind::Bar(bar) => bar.finish_and_clear(),
            Kind::Live(live) => live.finish(),
        }
    }
}

fn move_bar(bar: &ProgressBar, elapsed: Duration, what: String) {
    bar.set_position(elapsed.as_millis() as u64);
    bar.set_message(what);
}

fn line(length: Duration, slice: &Slice, clock: Clock) -> String {
    let rate = slice.answered as f64 / length.as_secs_f64().max(1e-9);
    let p99 = histogram::percentile_ns(&slice.headline, 0.99);
    let p99 = p99.map_or("too few samples".to_owned(), |p99_ns| clock.duration_ns(p99_ns));
    format!("{}  p99 {p99}", text::rate(rate))
}
