//! Checks of the numbers themselves: enough of them, of one state of affairs, and within what histograms hold.
//!
//! Invariant: what would be enough is said where there is too little.
//! Deliberately absent: whether the numbers are good.

use super::{Case, Found, Level, invalid, suspect, trusted};
use crate::measure::histogram::{PERCENTILES, clamped_count, has_enough_samples};
use crate::measure::result::{Arrivals, Mode};
use crate::measure::samples::P99;
use crate::measure::steadiness;
use crate::measure::units::{count, counted, percent};

/// A shorter window misses whatever happens once a second.
const WINDOW_MIN_S: f64 = 1.0;
/// How far the median may move, from the first third to the last, up or down.
const DRIFT_RATIO_MAX: f64 = 1.1;
/// The largest share of the window that answers may have stayed away: more reaches the 99th percentile.
const STALLED_SHARE_MAX: f64 = 0.01;

/// Whether there was a window to speak of, after a warm-up.
pub(super) fn window(case: &Case) -> Found {
    let says = format!("{:.1} s", case.window_s);
    if case.window_s < WINDOW_MIN_S {
        return suspect(format!(
            "{says}, bound {WINDOW_MIN_S} s: what happens once a second may be missing; measure longer (--duration)"
        ));
    }
    if case.result.plan.warmup_s <= 0.0 {
        return suspect("no warm-up: cold caches and new connections are measured as well; use --warmup");
    }
    trusted(format!("{says} after {} s of warm-up", case.result.plan.warmup_s))
}

/// Whether all durations were within what is told apart.
pub(super) fn range(case: &Case) -> Found {
    let latency = &case.result.latency;
    let clamped = clamped_count(&latency.response).max(clamped_count(&latency.service));
    if clamped > 0 {
        return suspect(format!("{} of an hour or longer, counted as one hour", counted(clamped, "answer")));
    }
    trusted("every duration is below an hour")
}

/// Whether there are effective samples enough for the 99th percentile.
pub(super) fn samples(case: &Case) -> Found {
    let (headline, quantile) = (case.result.headline(), PERCENTILES[P99].1);
    let effective = case.inflation.effective_samples(headline, P99);
    let of_all = format!("{} effective of {}", count(effective), counted(headline.len(), "sample"));
    if headline.is_empty() {
        return invalid("nothing was measured");
    }
    if !has_enough_samples(effective, quantile) {
        let needed = (effective..).find(|&number| has_enough_samples(number, quantile)).unwrap_or(u64::MAX);
        let longer_s = (case.window_s * (needed as f64 / effective.max(1) as f64 - 1.0)).ceil();
        return suspect(format!(
            "too few samples for p99: {of_all}, {} needed; run at least {} s longer (--duration)",
            count(needed),
            count(longer_s as u64)
        ));
    }
    if !case.inflation.is_measured() {
        return suspect(format!(
            "too few batches to tell how dependent the {} are, so they are taken as independent, and intervals are \
             too narrow; measure longer (--duration)",
            counted(headline.len(), "sample")
        ));
    }
    let stated = case.inflation.estimates(headline);
    let highest = stated.last().map_or("none", |estimate| &estimate.percentile);
    trusted(format!("{of_all} at p99; the highest percentile that can be stated is {highest}"))
}

/// Whether the median stayed where it was.
pub(super) fn drift(case: &Case) -> Found {
    let drift = steadiness::drift(&case.result.batches)?;
    let says = format!(
        "the median went from {} in the first third to {} in the last",
        case.clock().duration_ns(drift.first_ns),
        case.clock().duration_ns(drift.last_ns)
    );
    let moved = drift.ratio().max(1.0 / drift.ratio().max(f64::MIN_POSITIVE));
    let level = if drift.trend && moved > DRIFT_RATIO_MAX { Level::Suspect } else { Level::Trusted };
    match level {
        Level::Trusted => trusted(says),
        _ => suspect(format!(
            "{says}, bound {}, in a trend: there is no one number; warm up longer (--warmup), or find what grows",
            percent(DRIFT_RATIO_MAX - 1.0)
        )),
    }
}

/// Whether answers came all the time, as far as batches tell.
pub(super) fn stalls(case: &Case) -> Found {
    if matches!(case.result.plan.mode, Mode::OpenLoop { arrivals: Arrivals::Burst, .. }) {
        // Between bursts nothing is to be expected.
        return None;
    }
    if case.result.plan.answers_per_message() > 1.0 {
        // Deliveries come all at once, as often as somebody publishes.
        return None;
    }
    let stalls = steadiness::stalls(&case.result.batches, case.offered_per_s)?;
    if stalls.count == 0 {
        return trusted(format!(
            "no {} with fewer than half of the answers that were to be expected; of what is shorter the percentiles tell",
            case.clock().duration(stalls.piece_s * 1e9)
        ));
    }
    let share = case.share(stalls.time_s);
    let says = format!(
        "fewer than half of the expected answers for {} ({} of the window), first at {:.2} s",
        case.clock().duration(stalls.time_s * 1e9),
        percent(share),
        stalls.first_s
    );
    if share > STALLED_SHARE_MAX {
        return suspect(format!(
            "{says}, bound {}: the server or the whole machine stood still; if the generator's lag is small, it was \
             the server, and the durations have it",
            percent(STALLED_SHARE_MAX)
        ));
    }
    trusted(says)
}
