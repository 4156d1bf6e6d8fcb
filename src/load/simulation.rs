//! The generator's client in fake time, against servers whose latencies can be computed.

use std::sync::{Arc, Mutex};

use super::arrivals::Spans;
use super::bursts::BurstLog;
use super::churn::Churn;
use super::client::Client;
use super::endpoint::Endpoint;
use super::record::{Record, Recorded};
use super::schedule::Schedule;
use super::tally::{Slice, Window};
use super::task::{Harvest, Orders, Report, Task};
use crate::engine::Config;
use crate::engine::memory::{End, Plan, Stall, run_pair};
use crate::measure::histogram::{Histogram, record as record_ns};
use crate::measure::result::Arrivals;
use crate::measure::series::BATCHES_MAX;
use crate::scenario::bare::Bare;
use crate::scenario::echo::Payloads;
use crate::scenario::serve::{Limits, Serve};

const SECOND_NS: u64 = 1_000_000_000;
/// Fake time begins here.
const START_NS: u64 = SECOND_NS;

/// One thread, one connection, at `rate_per_s` for `seconds`, a slice a second.
struct Simulation {
    rate_per_s: f64,
    seconds: u64,
    payload_bytes: usize,
    pipe_bytes: usize,
    stall: Option<Stall>,
    /// Bursts of so many, every so often, instead of the rate.
    bursts: Option<(u64, u64)>,
}

impl Simulation {
    fn run(&self) -> (Client, Recorded) {
        let start_ns = START_NS + SECOND_NS;
        let end_ns = start_ns + self.seconds * SECOND_NS;
        let window = Window { start_ns, measure_ns: start_ns, end_ns, drained_ns: end_ns + 2 * SECOND_NS };
        let orders = Arc::new(Orders::default());
        orders.set(window);
        orders.dismiss();
        let record = Arc::new(Mutex::new((start_ns, Record::new(window, 1))));
        let (spare, recorder) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&record));
        let reused = Arc::clone(&spare);
        let report = move |report| {
            if let Report::Slice(thread, mut slice) = report {
                let mut recorder = recorder.lock().unwrap();
                recorder.1.add(thread, &slice);
                recorder.0 += SECOND_NS;
                let now_ns = recorder.0;
                recorder.1.end_batch(now_ns);
                slice.clear();
                reused.lock().unwrap().push(slice);
            }
        };
        let address = "127.0.0.1:1".parse().unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let task = Task {
            thread: 0,
            endpoint: Endpoint::embedded(address, true, false),
            connections: 1,
            connect_gap_ns: 0.0,
            connect_timeout_ns: SECOND_NS,
            schedule: Some(match self.bursts {
                Some((count, every_ns)) => Schedule::bursts(count, every_ns, 0, 1),
                None => Schedule::new(self.rate_per_s, Arrivals::Poisson, 1, 0, 1),
            }),
            spans: Some(Spans::new(1e9 / self.rate_per_s, 100_000, 1)),
            pipeline: 0,
            spin: false,
            exemplars: 10,
            payloads: Payloads::new(self.payload_bytes, false, &mut random),
            variety: None,
            wish: None,
            bursts_every_ns: self.bursts.map(|(_, every_ns)| every_ns),
            fan: None,
            deflate: None,
            subprotocols: Vec::new(),
            random,
            orders,
            report: Box::new(report),
            spare,
        };
        let slices = (1..self.seconds).map(|second| (End::Client, SECOND_NS * (1 + second)));
        let plan = Plan {
            latency_ns_max: 10_000,
            pipe_bytes: self.pipe_bytes,
            until_ns: u64::MAX / 2,
            wakes: std::iter::once((End::Client, SECOND_NS / 2)).chain(slices).collect(),
            stall: self.stall,
            ..Plan::seeded(1)
        };
        let server = (Config::default(), Bare);
        let client = (Config { outbox_bytes: usize::MAX, ..Config::default() }, Client::new(task));
        let (_, mut client, _) = run_pair(&plan, server, client);
        let slice = std::mem::replace(&mut client.tally.slice, Slice::new());
        // The task, with its report, keeps hold of the record.
        let mut record = std::mem::replace(&mut record.lock().unwrap().1, Record::new(window, 1));
        record.add(0, &slice);
        record.add_late(0, &client.tally.late);
        (client, record.finish())
    }
}

/// The value at `quantile`, in nanoseconds.
fn at(histogram: &Histogram, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64
}

/// The server stands still for 200 ms of every second. A message that falls due in a stall waits for its end: one in five
/// does, for a time evenly spread from 0 to 200 ms, so that one in a hundred waits 190 ms or longer. What waits for it
/// waits in the generator, but for the few messages that the buffers on the way hold.
#[test]
fn a_stall_is_in_the_response_time_to_within_a_twentieth_and_not_in_the_service_time() {
    let stall = Stall { end: End::Server, every_ns: SECOND_NS, length_ns: 200_000_000 };
    let simulation = Simulation {
        rate_per_s: 1_000.0,
        seconds: 20,
        payload_bytes: 16 << 10,
        pipe_bytes: 16 << 10,
        stall: Some(stall),
        bursts: None,
    };
    let (client, recorded) = simulation.run();
    let accounting = &client.tally.accounting;
    assert_eq!((accounting.sent, accounting.unsent, accounting.error_count()), (accounting.answered, 0, 0));
    let (p50_ns, p99_ns) = (at(&recorded.headline, 0.5), at(&recorded.headline, 0.99));
    assert!((p99_ns / 190e6 - 1.0).abs() < 0.05, "response p99 {p99_ns}, not 190 ms");
    assert!(p50_ns < 2e6, "response p50 {p50_ns}");
    let service = &client.tally.latency.service;
    assert!(at(service, 0.99) < 10e6, "service p99 {} does not hide the stall", at(service, 0.99));
    let held_back = client.tally.held_back as f64 / accounting.sent as f64;
    assert!((0.15..0.25).contains(&held_back), "{held_back} held back");
    // Not the generator's doing, and so not in its lag.
    assert!(at(&client.tally.latency.lag, 0.99) < 1e6);
    let worst = client.worst.into_exemplars();
    assert_eq!(worst.len(), 10);
    assert!(worst.iter().all(|message| message.response_ns >= 150_000_000), "{worst:?}");
    // Their lives are enclosed by what is told of the thread meanwhile.
    assert!(worst.iter().all(|message| message.around.span_ns >= message.response_ns), "{worst:?}");
}

/// The generator stands still: that is lag, and the response time holds it in full.
#[test]
fn a_generator_that_stands_still_is_in_its_lag_and_in_the_arrivals() {
    let simulation = |stall| Simulation {
        rate_per_s: 1_000.0,
        seconds: 10,
        payload_bytes: 64,
        pipe_bytes: 64 << 10,
        stall,
        bursts: None,
    };
    let (punctual, _) = simulation(None).run();
    let stall = Stall { end: End::Client, every_ns: SECOND_NS, length_ns: 100_000_000 };
    let (client, recorded) = simulation(Some(stall)).run();
    let lag = &client.tally.latency.lag;
    assert!((at(lag, 0.99) / 90e6 - 1.0).abs() < 0.1, "lag p99 {}", at(lag, 0.99));
    assert!((at(&recorded.headline, 0.99) / 90e6 - 1.0).abs() < 0.1);
    assert!(at(&punctual.tally.latency.lag, 0.99) < 100e3);
    // Whoever slept through a tenth of the time got to a tenth of the messages without any gap.
    let share_of_no_gap = |client: &Client| {
        let spans = client.tally.spans.as_ref().unwrap();
        assert_eq!(spans.messages_per_span(), 1);
        let short = spans.kept_ns().iter().filter(|&&span_ns| span_ns == 0).count();
        short as f64 / spans.kept_ns().len() as f64
    };
    assert!(share_of_no_gap(&punctual) < 0.02, "{}", share_of_no_gap(&punctual));
    assert!((0.07..0.13).contains(&share_of_no_gap(&client)), "{}", share_of_no_gap(&client));
}

/// The server stands still for the first 200 ms of every second, and bursts are due every half of one: every other burst waits for
/// the stall's end, the others for nothing.
#[test]
fn a_burst_takes_until_its_last_answer_to_drain() {
    let stall = Stall { end: End::Server, every_ns: SECOND_NS, length_ns: 200_000_000 };
    let simulation = Simulation {
        rate_per_s: 200.0,
        seconds: 10,
        payload_bytes: 64,
        pipe_bytes: 64 << 10,
        stall: Some(stall),
        bursts: Some((100, SECOND_NS / 2)),
    };
    let (mut client, _) = simulation.run();
    let accounting = &client.tally.accounting;
    assert_eq!((accounting.offered, accounting.answered, accounting.error_count()), (2_000, 2_000, 0));
    let (start_ns, end_ns) = (START_NS + SECOND_NS, START_NS + 11 * SECOND_NS);
    let window = Window { start_ns, measure_ns: start_ns, end_ns, drained_ns: u64::MAX };
    let bursts = BurstLog::finish(&[*client.tally.bursts.take().unwrap()], &window, 100).unwrap();
    assert_eq!((bursts.bursts, bursts.drained, bursts.undrained), (20, 20, 0));
    let quick = bursts.drain.count_between(0, 10_000_000);
    let stalled = bursts.drain.count_between(199_000_000, 210_000_000);
    assert_eq!((quick, stalled), (10, 10), "{:?}", bursts.drain);
}

/// Lives at `rate_per_s` for two seconds, evenly, `at_once_max` at a time, each less than a millisecond long.
fn churn(rate_per_s: f64, at_once_max: usize) -> Harvest {
    let start_ns = START_NS + SECOND_NS;
    let end_ns = start_ns + 2 * SECOND_NS;
    let orders = Arc::new(Orders::default());
    orders.set(Window { start_ns, measure_ns: start_ns, end_ns, drained_ns: end_ns + 2 * SECOND_NS });
    orders.dismiss();
    let mut random = fastrand::Rng::with_seed(1);
    let task = Task {
        thread: 0,
        endpoint: Endpoint::embedded("127.0.0.1:1".parse().unwrap(), false, false),
        connections: at_once_max,
        connect_gap_ns: 0.0,
        connect_timeout_ns: SECOND_NS,
        schedule: Some(Schedule::new(rate_per_s, Arrivals::Fixed, 1, 0, 1)),
        spans: Some(Spans::new(1e9 / rate_per_s, 100_000, 1)),
        pipeline: 0,
        spin: false,
        exemplars: 0,
        payloads: Payloads::new(64, false, &mut random),
        variety: None,
        wish: None,
        bursts_every_ns: None,
        fan: None,
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
        ..Plan::seeded(1)
    };
    let server = (Config::default(), Serve::new(Limits::default(), Arc::default(), |_| {}));
    let client = (Config::default(), Churn::new(task));
    let (_, churn, _) = run_pair(&plan, server, client);
    churn.into_harvest()
}

#[test]
fn lives_that_are_due_while_others_are_under_way_wait_and_all_are_accounted_for() {
    let at = |harvest: &Harvest, quantile| at(&harvest.tally.slice.headline, quantile);
    let punctual = churn(500.0, 4);
    let accounting = &punctual.tally.accounting;
    assert_eq!((accounting.offered, accounting.answered, accounting.unsent), (1_000, 1_000, 0));
    assert_eq!((accounting.error_count(), accounting.connections_opened), (0, 1_001), "one was tried first");
    let seen = punctual.particulars.churn.as_ref().unwrap();
    assert_eq!((seen.first_message.len(), seen.close.len(), seen.closed_by_us), (1_000, 1_000, 0));
    assert!(at(&punctual, 1.0) < 1e6, "{}", at(&punctual, 1.0));

    let crowded = churn(50_000.0, 1);
    let accounting = &crowded.tally.accounting;
    assert_eq!((accounting.offered, accounting.error_count()), (100_000, 0));
    assert_eq!(accounting.offered, accounting.sent + accounting.unsent);
    assert!(accounting.unsent > 10_000 && accounting.sent == accounting.answered, "{accounting:?}");
    assert_eq!(crowded.particulars.churn.as_ref().unwrap().at_once_max, 1);
    // From when it was due, and not from when its turn came.
    let service_ns = crowded.tally.latency.service.max();
    assert!(service_ns < 1_000_000 && at(&crowded, 0.5) > 1e8, "{service_ns}, {}", at(&crowded, 0.5));
}

const DAY: &str = "load::simulation::a_day_of_one_second_slices";

/// In a process of its own, so that nothing else is in its memory.
#[test]
fn a_day_stays_within_200_mib() {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .args(["--exact", DAY, "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&output.stdout);
    let peak_kib = output.lines().find_map(|line| line.split("peak KiB: ").nth(1));
    let peak_kib: u64 = peak_kib.unwrap_or_else(|| panic!("{output}")).parse().unwrap();
    assert!(peak_kib < 200 << 10, "{peak_kib} KiB");
}

#[test]
#[ignore = "run by a_day_stays_within_200_mib, in a process of its own"]
fn a_day_of_one_second_slices() {
    let day_s = 24 * 3600;
    let simulation = Simulation {
        rate_per_s: 1.0,
        seconds: day_s,
        payload_bytes: 64,
        pipe_bytes: 4096,
        stall: None,
        bursts: None,
    };
    let (client, recorded) = simulation.run();
    assert!(client.tally.accounting.answered.abs_diff(day_s) < 2_000);
    let of_batches: u64 = recorded.batches.iter().map(|batch| batch.answered).sum();
    assert_eq!(of_batches, client.tally.accounting.answered - client.tally.accounting.answered_late);
    drop(recorded);

    // So many durations, so widely spread, that every batch's histogram is full.
    let window = Window { start_ns: 0, measure_ns: 0, end_ns: day_s * SECOND_NS, drained_ns: u64::MAX };
    let (mut record, mut slice) = (Record::new(window, 1), Slice::new());
    let mut random = fastrand::Rng::with_seed(3);
    for second in 1..day_s {
        slice.clear();
        for _ in 0..500 {
            record_ns(&mut slice.headline, (20e3 * 500_f64.powf(random.f64())) as u64);
        }
        slice.answered = 500;
        record.add(0, &slice);
        record.end_batch(second * SECOND_NS);
    }
    let recorded = record.finish();
    assert_eq!(recorded.intervals.len() as u64, day_s);
    assert!((BATCHES_MAX / 2..=BATCHES_MAX).contains(&recorded.batches.len()));
    let slots = recorded.batches.iter().map(|batch| batch.headline.iter().count());
    assert!(slots.min().unwrap() > 5_000, "they are full");
    // As they are saved.
    let text = serde_json::to_string(&(&recorded.intervals, &recorded.batches)).unwrap();
    assert!(text.len() < 64 << 20, "{} bytes", text.len());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("peak KiB: {}", peak.trim().trim_end_matches(" kB"));
}
