//! Publishers and subscribers in fake time, against a server of ours that stands still now and then.

use std::sync::Arc;

use super::*;
use crate::engine::Config;
use crate::engine::memory::{End, Plan, Stall, run_pair};
use crate::load::arrivals::Spans;
use crate::load::endpoint::Endpoint;
use crate::load::schedule::Schedule;
use crate::load::task::Orders;
use crate::measure::histogram::Histogram;
use crate::measure::result::Arrivals;
use crate::scenario::echo::Payloads;
use crate::scenario::serve::{Limits, Serve};

const SECOND_NS: u64 = 1_000_000_000;
const SECONDS: u64 = 5;
const RATE_PER_S: u64 = 200;
const SUBSCRIBERS: usize = 12;

/// One thread, at 200 publications a second for five seconds, or in a closed loop.
fn simulate(publishers: usize, rooms: Option<u32>, pipeline: u64, stall: Option<Stall>) -> Fan {
    let start_ns = 2 * SECOND_NS;
    let end_ns = start_ns + SECONDS * SECOND_NS;
    let orders = Arc::new(Orders::default());
    orders.set(Window { start_ns, measure_ns: start_ns, end_ns, drained_ns: end_ns + 2 * SECOND_NS });
    orders.dismiss();
    let mut random = fastrand::Rng::with_seed(1);
    let endpoint = Endpoint::embedded("127.0.0.1:1".parse().unwrap(), false, false);
    let rate_per_s = RATE_PER_S as f64;
    let is_open_loop = pipeline == 0;
    let task = Task {
        thread: 0,
        connections: SUBSCRIBERS,
        connect_gap_ns: 0.0,
        connect_timeout_ns: SECOND_NS,
        schedule: is_open_loop.then(|| Schedule::new(rate_per_s, Arrivals::Fixed, 1, 0, 1)),
        spans: is_open_loop.then(|| Spans::new(1e9 / rate_per_s, 100_000, 1)),
        pipeline,
        spin: false,
        exemplars: 0,
        payloads: Payloads::new(64, false, &mut random),
        variety: None,
        wish: None,
        bursts_every_ns: None,
        fan: Some(Part {
            board: Arc::new(Board::new(publishers, rooms.unwrap_or(1) as usize, 1, 1 << 20)),
            targets: targets(rooms, &endpoint.target).into(),
            payload_bytes: 100,
            threads: 1,
            publications: None,
        }),
        endpoint,
        deflate: None,
        subprotocols: Vec::new(),
        random,
        orders,
        report: Box::new(|_| {}),
        spare: Arc::default(),
    };
    let plan = Plan {
        latency_ns_max: 10_000,
        pipe_bytes: 64 << 10,
        until_ns: u64::MAX / 2,
        wakes: vec![(End::Client, SECOND_NS / 2)],
        stall,
        ..Plan::seeded(1)
    };
    let server = (Config::default(), Serve::new(Limits::default(), Arc::default(), |_| {}));
    let client = (Config { outbox_bytes: usize::MAX, ..Config::default() }, Fan::new(task));
    let (_, fan, _) = run_pair(&plan, server, client);
    fan
}

fn at(histogram: &Histogram, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64
}

/// The server stands still for the first 200 ms of every second: one publication in five waits for the end of it, on average for 100 ms,
/// and then comes to everybody at once.
#[test]
fn a_stall_of_the_server_delays_the_first_delivery_as_much_as_the_last() {
    let stall = Stall { end: End::Server, every_ns: SECOND_NS, length_ns: 200_000_000 };
    let mut fan = simulate(1, None, 0, Some(stall));
    let log = fan.tally.fan.take().unwrap();
    let accounting = &fan.tally.accounting;
    let publications = SECONDS * RATE_PER_S;
    let deliveries = publications * SUBSCRIBERS as u64;
    assert_eq!(
        (accounting.offered, accounting.answered, accounting.error_count()),
        (deliveries, deliveries, 0)
    );
    let seen = FanLog::finish(&[*log]).unwrap();
    assert_eq!(
        (seen.publications, seen.looked_at, seen.complete),
        (publications, publications, publications)
    );
    for histogram in [&seen.first, &seen.median, &seen.last] {
        assert!(at(histogram, 0.5) < 1e6, "{}", at(histogram, 0.5));
        assert!((at(histogram, 0.99) / 190e6 - 1.0).abs() < 0.05, "{}", at(histogram, 0.99));
    }
    assert!(at(&seen.spread, 1.0) < 1e6, "{}", at(&seen.spread, 1.0));
    assert!(at(&seen.first, 1.0) <= at(&seen.last, 1.0));
    assert_eq!(seen.positions.len(), 10);
    assert_eq!(seen.positions.iter().map(|position| position.deliveries).sum::<u64>(), deliveries);
}

#[test]
fn rooms_keep_what_is_published_in_them_to_themselves() {
    let mut fan = simulate(4, Some(5), 0, None);
    let log = fan.tally.fan.take().unwrap();
    let accounting = &fan.tally.accounting;
    // Rooms of 3, 3, 2, 2 and 2, nobody publishes in the last, and the others have their turn.
    let deliveries = SECONDS * RATE_PER_S * (3 + 3 + 2 + 2) / 4;
    assert_eq!(
        (accounting.offered, accounting.answered, accounting.error_count()),
        (deliveries, deliveries, 0)
    );
    assert_eq!(accounting.connections_opened, SUBSCRIBERS as u64);
    let seen = FanLog::finish(&[*log]).unwrap();
    assert_eq!((seen.subscribers, seen.rooms, seen.complete), (12, 5, SECONDS * RATE_PER_S));
}

#[test]
fn in_a_closed_loop_each_publishers_own_copy_brings_its_next() {
    let mut fan = simulate(2, None, 3, None);
    let log = fan.tally.fan.take().unwrap();
    let accounting = &fan.tally.accounting;
    assert_eq!((accounting.offered, accounting.error_count()), (accounting.answered, 0));
    let seen = FanLog::finish(&[*log]).unwrap();
    assert!(seen.publications > 10 * SECONDS * RATE_PER_S, "{}", seen.publications);
    assert_eq!(accounting.answered, seen.publications * SUBSCRIBERS as u64);
    // More than can be kept.
    assert!(seen.looked_at_one_in == 1 || seen.looked_at < seen.publications);
    assert_eq!(seen.complete, seen.looked_at);
    assert!(fan.tally.latency.service.is_empty(), "the headline is service time");
}
