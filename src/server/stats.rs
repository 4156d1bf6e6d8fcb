//! What `ringsock-server --stats` prints: a line now and then, and everything that was counted at the end.
//!
//! A line has three parts: what is, and rates since the last line; what befell connections since the start; and by their
//! names, which [`Served`] explains, those counters that say why. What never happened is left out of the last part.

use std::time::Instant;

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
             since the start: {} accepted, {} upgraded, {} rejected, {} faults, {} timeouts, {} resets, {} short sends, \
             {} pauses{}",
            total.connections,
            rate(total.messages, self.before.messages),
            rate(engine.received_bytes, before.received_bytes) / 1e6,
            rate(engine.sent_bytes, before.sent_bytes) / 1e6,
            engine.opened,
            total.upgrades,
            total.rejections,
            total.faults,
            total.timeouts,
            total.kinds.resets,
            engine.short_sends,
            engine.pauses,
            of_kinds(&total),
        );
        (self.since, self.before) = (now, total);
        line
    }
}

/// Engine counters that are of no interest while they are 0, and explain something when they aren't.
const SYMPTOMS: [&str; 4] = ["pauses_in_all", "no_buffers", "cq_overflows", "accept_refusals"];

/// Nothing where nothing was.
fn of_kinds(total: &Served) -> String {
    let symptoms = total.engine.named().filter(|(name, _)| SYMPTOMS.contains(name));
    let named = total.kinds.named().filter(|(name, _)| *name != "resets");
    let named = named
        .chain(total.scenes.named())
        .chain(total.engine.named_of_tls())
        .chain(symptoms)
        .filter(|(_, count)| *count != 0);
    let parts: Vec<_> = named.map(|(name, count)| format!("{name} {count}")).collect();
    if parts.is_empty() { String::new() } else { format!(" | {}", parts.join(", ")) }
}

/// Every counter of all `threads` that is not 0, a line each: its name, a space, its value.
pub fn closing_account(threads: &[Served]) -> String {
    let total = sum(threads);
    let counted = total.all_named().filter(|(_, count)| *count != 0);
    counted.map(|(name, count)| format!("{name} {count}\n")).collect()
}

fn sum(threads: &[Served]) -> Served {
    let mut total = Served::default();
    threads.iter().for_each(|&served| total += served);
    total
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_says_in_words_what_happened_and_by_name_why() {
        let start = Instant::now();
        let mut stats = StatsLine::new(start);
        let mut served = Served { connections: 2, messages: 50, upgrades: 3, ..Served::default() };
        (served.engine.opened, served.engine.received_bytes) = (4, 1_500_000);
        let line = stats.line(start + Duration::from_secs(1), &[served, Served::default()]);
        assert_eq!(
            line,
            "2 connections, 50 messages/s, in 1.50 MB/s, out 0.00 MB/s, ? completions/enter | since the start: \
             4 accepted, 3 upgraded, 0 rejected, 0 faults, 0 timeouts, 0 resets, 0 short sends, 0 pauses"
        );
        (served.rejections, served.kinds.rejections_not_found, served.engine.tls.not_tls) = (1, 1, 2);
        let line = stats.line(start + Duration::from_secs(2), &[served]);
        assert!(line.contains(" 0 messages/s, "), "a rate is of what is new: {line}");
        assert!(
            line.contains("1 rejected") && line.ends_with(" | rejections_not_found 1, tls_not_tls 2"),
            "{line}"
        );
    }

    #[test]
    fn the_closing_account_leaves_out_what_never_happened() {
        let served = Served { messages: 7, faults: 1, ..Served::default() };
        assert_eq!(closing_account(&[served, served]), "messages 14\nfaults 2\n");
    }
}
