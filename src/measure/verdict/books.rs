//! Checks of what became of the run and of every message and connection.
//!
//! Invariant: messages that are missing are missing from the histogram's slow end, so their share bounds the percentiles that
//! can still be believed.
//! Deliberately absent: durations.

use super::{Case, Found, invalid, suspect, trusted};
use crate::measure::result::Status;
use crate::measure::steadiness::{ACHIEVED_SHARE_MIN, Pace};
use crate::measure::units::{count, counted, percent};

/// Answers of these classes of error are wrong; so are those that a `protocol: …` error counts.
const WRONG_ANSWERS: [&str; 12] = [
    "wrong payload",
    "out of order",
    "repeated or late answer",
    "unasked answer",
    "wrong pong",
    "repeated publication",
    "of another room",
    "error reply",
    "missing broadcast",
    "repeated broadcast",
    "wrong broadcast",
    "stamp from the future",
];
/// Of these the books tell: they are outstanding, or of the warm-up. A server may be told to leave publications out, and may leave
/// pings out where it answers a later one (RFC 6455, 5.5.3).
const LEFT_OUT: [&str; 3] = ["missed publication", "too late to be checked", "missing pong"];
/// Sent in the warm-up and never answered: counted apart, since in no other count.
const WARMUP_UNANSWERED: &str = "unanswered since warm-up";

/// A larger share of messages missing reaches into the 99th percentile.
const MISSING_SHARE_MAX: f64 = 0.01;
/// The largest share of messages that may have waited for the server to read.
const HELD_BACK_SHARE_MAX: f64 = 0.001;
/// The largest share of connections that may have failed or been lost before it is another workload.
const CONNECTIONS_SHARE_MAX: f64 = 0.1;

fn is_wrong_answer(class: &str) -> bool {
    WRONG_ANSWERS.contains(&class) || class.starts_with("protocol:")
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Whether the whole window ran, and anything was measured.
pub(super) fn outcome(case: &Case) -> Found {
    let outcome = &case.result.outcome;
    let because = outcome.reason.iter().map(|reason| format!(" ({reason})")).collect::<String>();
    match outcome.status {
        Status::ServerDied => {
            invalid(format!("the server was gone before the run was over{because}; its own log may say why"))
        }
        Status::Failed => invalid(format!("the run failed{because}")),
        _ if case.result.accounting.answered == 0 => {
            invalid("nothing was answered; is it an echo server, and does its URL take messages?")
        }
        Status::Interrupted => {
            suspect(format!("interrupted, measured only until then{because}; let it run to its end"))
        }
        Status::Completed => trusted("the whole window ran"),
    }
}

/// Whether every message and every duration is somewhere, once.
pub(super) fn books(case: &Case) -> Found {
    if let Err(error) = case.result.accounting.check() {
        return invalid(format!(
            "the books don't balance, so some counts are wrong: {error}; please report it"
        ));
    }
    let (answered, timed) = (case.result.accounting.answered, case.result.headline().len());
    if answered != timed {
        return invalid(format!(
            "{} answers, but {} durations; please report it",
            count(answered),
            count(timed)
        ));
    }
    trusted("every message is accounted for, every answer timed")
}

/// Whether what came back is what was sent, once and in order.
pub(super) fn answers(case: &Case) -> Found {
    let wrong = case.result.accounting.errors.iter().filter(|(class, _)| is_wrong_answer(class));
    let classes: Vec<_> = wrong.map(|(class, &number)| format!("{} × {class}", count(number))).collect();
    match classes.is_empty() {
        true => trusted("every answer was the right one, once and in order"),
        false => invalid(format!(
            "{}: what came back is not what was sent; the server, or something between, is broken, or it is no echo \
             server",
            classes.join(", ")
        )),
    }
}

/// Whether sent messages stayed without answer.
pub(super) fn unanswered(case: &Case) -> Found {
    let accounting = &case.result.accounting;
    let since_warmup = accounting.errors.get(WARMUP_UNANSWERED).copied().unwrap_or(0);
    let missing = share(accounting.outstanding, accounting.sent);
    if accounting.outstanding == 0 && since_warmup > 0 {
        return suspect(format!(
            "{} still waited at the end for an answer to a message of the warm-up: the server lost it, or takes longer than \
             the run (--drain-timeout)",
            counted(since_warmup, "connection")
        ));
    }
    let left_out: u64 = LEFT_OUT.iter().filter_map(|class| accounting.errors.get(*class)).sum();
    if accounting.outstanding == 0 && left_out > 0 {
        let left_out = counted(left_out, "publication");
        return suspect(format!(
            "{left_out} of the warm-up did not come to a subscriber: the server left some out, or lost them (its \
             --slow-consumer, if it is ringsock-server)"
        ));
    }
    if accounting.outstanding == 0 {
        return trusted("every message sent was answered");
    }
    let says = format!(
        "{} of {} ({}) never answered within the drain of {} s, and in no percentile: none above the {}th means \
         anything; find out whether the server lost them, or give it longer (--drain-timeout)",
        count(accounting.outstanding),
        counted(accounting.sent, "message"),
        percent(missing),
        case.result.plan.drain_timeout_s,
        // Rounded down, so that it never promises more.
        ((1.0 - missing) * 1e5).floor() / 1e3,
    );
    if missing > MISSING_SHARE_MAX { invalid(says) } else { suspect(says) }
}

/// Whether planned messages were never sent.
pub(super) fn unsent(case: &Case) -> Found {
    let accounting = &case.result.accounting;
    if accounting.unsent == 0 {
        return trusted("every message due was sent");
    }
    let missing = share(accounting.unsent, accounting.offered);
    let says = format!(
        "{} of {} ({}) never sent: the rate is more than this server or generator can do, or connections were \
         lost; lower --rate",
        count(accounting.unsent),
        counted(accounting.offered, "message"),
        percent(missing),
    );
    if missing > MISSING_SHARE_MAX { invalid(says) } else { suspect(says) }
}

/// Whether all connections opened and stayed.
pub(super) fn connections(case: &Case) -> Found {
    let accounting = &case.result.accounting;
    let ends_connection =
        |class: &str| !is_wrong_answer(class) && class != WARMUP_UNANSWERED && !LEFT_OUT.contains(&class);
    let ended: Vec<_> = accounting.errors.iter().filter(|(class, _)| ends_connection(class)).collect();
    let tried = accounting.connections_opened.saturating_add(accounting.connections_failed);
    // Those that never opened have a class of error as well.
    let gone = ended.iter().fold(0_u64, |sum, &(_, &number)| sum.saturating_add(number));
    let gone = gone.max(accounting.connections_failed);
    if gone == 0 {
        let and_then = match case.result.plan.scenario.as_str() {
            "churn" => "closed when they were to be",
            _ => "stayed",
        };
        return trusted(format!("{} opened, and {and_then}", counted(tried, "connection")));
    }
    let classes: Vec<_> =
        ended.iter().map(|(class, number)| format!("{} × {class}", count(**number))).collect();
    let why = if classes.is_empty() { "of unknown cause".to_owned() } else { classes.join(", ") };
    let says = format!(
        "{} of {} failed or lost ({why}): the load was another than planned; the server's log, or its limits on \
         connections, may say why",
        count(gone),
        counted(tried, "connection"),
    );
    if share(gone, tried) > CONNECTIONS_SHARE_MAX { invalid(says) } else { suspect(says) }
}

/// Whether answers kept up with the schedule: where they do not, a queue grows, and durations tell its age.
///
/// Counted against the messages that fell due, not against the rate asked for, from which a Poisson schedule rightly deviates.
pub(super) fn rate(case: &Case) -> Found {
    case.offered_per_s?;
    let pace = Pace::of(case.result);
    let says =
        format!("{} of the {} due answered in time", percent(pace.share()), counted(pace.offered, "message"));
    if !pace.is_kept() {
        return invalid(format!(
            "{says}, bound {}: a queue grew, and the durations tell its age; lower --rate",
            percent(ACHIEVED_SHARE_MIN)
        ));
    }
    trusted(says)
}

/// Whether messages waited in the generator because the server did not read.
pub(super) fn held_back(case: &Case) -> Found {
    case.offered_per_s?;
    let held_back = case.evidence?.held_back;
    let waited = share(held_back, case.result.accounting.offered);
    if waited > HELD_BACK_SHARE_MAX {
        return suspect(format!(
            "{} ({}, bound {}) waited in the generator because the server did not read: service times leave that \
             wait out, response times have it; lower --rate, or read response times only",
            counted(held_back, "message"),
            percent(waited),
            percent(HELD_BACK_SHARE_MAX)
        ));
    }
    trusted(format!("{} waited for the server to read", counted(held_back, "message")))
}
