//! The line that `ringsock-server --stats` prints: rates since the last one, and what needs attention.

use std::time::Instant;

use crate::engine::TlsCounters;
use crate::scenario::serve::Served;

/// Turns counts into rates.
#[derive(Debug)]
pub struct StatsLine {
    since: Instant,
    before: Served,
}

impl StatsLine {
    /// Rates count from `now`.
    pub fn new(now: Instant) -> Self {
        Self { since: now, before: Served::default() }
    }

    /// What all `threads` did since the last call.
    pub fn line(&mut self, now: Instant, threads: &[Served]) -> String {
        let total = sum(threads);
        let seconds = now.saturating_duration_since(self.since).as_secs_f64().max(1e-9);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let (engine, before) = (total.engine, self.before.engine);
        let enters = engine.enters.saturating_sub(before.enters);
        // tokio-uring does not show how often it enters the kernel.
        let batch = match enters {
            0 => "?".to_owned(),
            _ => {
                format!("{:.1}", engine.completions.saturating_sub(before.completions) as f64 / enters as f64)
            }
        };
        let line = format!(
            "{} connections, {:.0} messages/s, in {:.2} MB/s, out {:.2} MB/s, {batch} completions/enter | \
             total: {} accepted, {} upgraded, {} rejected, {} faults, {} timeouts, {} short sends, {} pauses, \
             {} out of buffers, {} CQ overflows",
            total.connections,
            rate(total.messages, self.before.messages),
            rate(engine.received_bytes, before.received_bytes) / 1e6,
            rate(engine.sent_bytes, before.sent_bytes) / 1e6,
            engine.opened,
            total.upgrades,
            total.rejections,
            total.faults,
            total.timeouts,
            engine.short_sends,
            engine.pauses,
            engine.no_buffers,
            engine.cq_overflows,
        );
        let line = line + &of_tls(&engine.tls);
        (self.since, self.before) = (now, total);
        line
    }
}

/// Nothing where nothing was.
fn of_tls(tls: &TlsCounters) -> String {
    if *tls == TlsCounters::default() {
        return String::new();
    }
    let line = format!(
        ", TLS: {} handshakes ({} resumed), {} without TLS, {} failed, {} timed out, {} faults, {} cut off",
        tls.handshakes, tls.resumed, tls.not_tls, tls.failures, tls.timeouts, tls.faults, tls.truncated
    );
    if tls.kernel + tls.kernel_refused + tls.kernel_missed == 0 {
        return line;
    }
    format!(
        "{line}, kernel TLS: {} handed over, {} refused, {} never quiet",
        tls.kernel, tls.kernel_refused, tls.kernel_missed
    )
}

fn sum(threads: &[Served]) -> Served {
    let mut total = Served::default();
    for served in threads {
        total.connections += served.connections;
        total.messages += served.messages;
        total.upgrades += served.upgrades;
        total.rejections += served.rejections;
        total.faults += served.faults;
        total.timeouts += served.timeouts;
        total.engine.opened += served.engine.opened;
        total.engine.received_bytes += served.engine.received_bytes;
        total.engine.sent_bytes += served.engine.sent_bytes;
        total.engine.short_sends += served.engine.short_sends;
        total.engine.pauses += served.engine.pauses;
        total.engine.enters += served.engine.enters;
        total.engine.completions += served.engine.completions;
        total.engine.no_buffers += served.engine.no_buffers;
        total.engine.cq_overflows += served.engine.cq_overflows;
        total.engine.tls += served.engine.tls;
    }
    total
}
