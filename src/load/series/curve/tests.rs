//! The curve over a server that is played: which runs are made, in which order, and what is made of them.

use super::*;
use crate::load::series::tests::{Typed, result_of};
use crate::measure::series::{Batch, Compact};

const CAPACITY_PER_S: f64 = 40_000.0;

/// A server with this capacity, which after an overload takes a second and a half to recover.
fn play(setup: &Setup) -> RunResult {
    let options = &setup.options;
    if options.closed_loop {
        let mut result = result_of(setup, (0..2000).map(|i| 100_000 + i));
        result.summary.rate_achieved_per_s = CAPACITY_PER_S;
        return result;
    }
    let slow = options.rate > CAPACITY_PER_S;
    let typical_ns = if slow { 500_000_000 } else { 200_000 };
    let mut result = result_of(setup, (0..2000).map(|i| typical_ns + 100 * i));
    result.summary.rate_achieved_per_s = options.rate.min(CAPACITY_PER_S);
    if slow {
        result.accounting.outstanding = 7;
    }
    let batch = |start_s: f64, value_ns: u64, count: usize| {
        let mut headline = histogram::new_histogram();
        (0..count).for_each(|_| histogram::record(&mut headline, value_ns));
        let headline = Compact::of(&headline);
        Batch { start_s, length_s: 0.5, sent: 1000, answered: count as u64, headline }
    };
    if options.warmup_rate.is_some() {
        let values = [
            (0, 0),
            (900_000_000, 500),
            (100_000, 10),
            (800_000_000, 900),
            (300_000, 1000),
            (200_000, 1000),
            (200_000, 1000),
        ];
        let batches =
            values.iter().enumerate().map(|(i, &(value_ns, count))| batch(i as f64 / 2.0, value_ns, count));
        result.batches = batches.collect();
    }
    result
}

/// Drives the curve that is typed; labels of its runs, with the setups they were made with.
fn drive(words: &[&str]) -> (Vec<(String, Setup)>, CurveFinding, bool) {
    let typed = Typed::new(words);
    let request = typed.request();
    let mut curve = Curve::new(&request, request.flags.curve.as_ref().unwrap()).unwrap();
    let mut made = Vec::new();
    loop {
        let left = curve.left();
        let Some(step) = curve.next_step().unwrap() else {
            assert_eq!((left.runs, left.time), (0, Duration::ZERO));
            break;
        };
        assert!(left.runs > 0 && left.time >= step.setup.time());
        curve.on_end(&step, &End::Measured(Box::new(play(&step.setup))));
        made.push((step.planned.label, step.setup));
    }
    (made, curve.found.clone(), curve.is_success())
}

#[test]
fn the_capacity_is_measured_first_and_rates_ascend_with_a_recovery_after_each_overload() {
    let (made, found, success) = drive(&["--curve", "-d", "4s", "-w", "1s"]);
    let labels: Vec<_> = made.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(
        labels,
        [
            "capacity, by a closed loop with 256 in flight",
            "10% (4,000/s)",
            "50% (20,000/s)",
            "90% (36,000/s)",
            "110% (44,000/s), overload",
            "recovery, from 44,000/s to 20,000/s",
            "150% (60,000/s), overload",
            "recovery, from 60,000/s to 20,000/s",
        ]
    );
    assert!(success, "an overload that was meant is no failure");
    let recovery = &made[5].1.options;
    assert_eq!((recovery.rate, recovery.warmup_rate), (20_000.0, Some(44_000.0)));
    assert_eq!((recovery.warmup, recovery.duration), (Duration::from_secs(4), Duration::from_secs(8)));
    assert_eq!(found.capacity_per_s, Some(CAPACITY_PER_S));
    let overloads: Vec<_> = found.points.iter().map(|point| point.overload).collect();
    assert_eq!(overloads, [false, false, false, true, true]);
    // 0.5 to 1 s looks fine for want of answers, but not for long.
    let recovered: Vec<_> = found.recoveries.iter().map(|recovery| recovery.recovered_s).collect();
    assert_eq!(recovered, [Some(2.0), Some(2.0)]);
}

#[test]
fn a_capacity_that_is_given_is_not_measured_and_what_recovery_is_held_against_is_added() {
    let (made, found, _) = drive(&["--curve=70k,10k", "--capacity", "40k"]);
    let labels: Vec<_> = made.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["10,000/s", "20,000/s", "70,000/s, overload", "recovery, from 70,000/s to 20,000/s"]);
    assert_eq!(found.points.iter().map(|point| point.label.as_str()).collect::<Vec<_>>(), ["10k", "70k"]);
    assert_eq!(found.recoveries[0].bound_ns.map(|bound_ns| bound_ns / 100_000), Some(7), "twice its p99");
    // Without a capacity no rate is an overload.
    let (made, found, success) = drive(&["--curve=70k,10k"]);
    assert_eq!((made.len(), found.capacity_per_s, found.recoveries.len()), (2, None, 0));
    assert!(!success, "then what went wrong at 70k is not meant");
}

#[test]
fn a_server_that_is_gone_ends_the_curve_only_if_nothing_can_be_planned() {
    let typed = Typed::new(&["--curve"]);
    let request = typed.request();
    let mut curve = Curve::new(&request, request.flags.curve.as_ref().unwrap()).unwrap();
    let step = curve.next_step().unwrap().unwrap();
    curve.on_end(&step, &End::Failed("refused".to_owned()));
    assert!(curve.next_step().unwrap().is_none() && !curve.is_success());
    assert!(curve.found.ended_by.as_ref().unwrap().contains("refused"));

    let typed = Typed::new(&["--curve=1k,2k"]);
    let request = typed.request();
    let mut curve = Curve::new(&request, request.flags.curve.as_ref().unwrap()).unwrap();
    let step = curve.next_step().unwrap().unwrap();
    curve.on_end(&step, &End::Failed("refused".to_owned()));
    assert!(curve.next_step().unwrap().is_some(), "the other rate is tried");
    assert_eq!(curve.found.points[0].failed.as_deref(), Some("refused"));
}

#[test]
fn recovery_means_that_it_lasts() {
    let intervals = |values: &[u64]| -> Vec<(f64, Option<u64>)> {
        values.iter().enumerate().map(|(i, &value)| (i as f64, (value > 0).then_some(value))).collect()
    };
    for (values, expected) in [
        (&[1, 1, 1, 1][..], Some(0.0)),
        (&[9, 1, 1, 9, 9, 1, 1, 1, 9], Some(5.0)),
        (&[9, 9, 1, 1], Some(2.0)),
        (&[0, 0, 1], Some(2.0)),
        (&[9, 9, 9], None),
        (&[1, 1, 0], None),
        (&[], None),
    ] {
        assert_eq!(recovered_s(&intervals(values), 5), expected, "{values:?}");
    }
}

#[test]
fn rates_are_read_and_refused_with_the_mend() {
    let rates: Rates = "10k, 50%,1.5M,7".parse().unwrap();
    let expected =
        [Rate::PerSecond(10_000.0), Rate::OfCapacity(0.5), Rate::PerSecond(1.5e6), Rate::PerSecond(7.0)];
    assert_eq!(rates.0.iter().map(|(_, rate)| *rate).collect::<Vec<_>>(), expected);
    assert_eq!(rates.to_string().parse(), Ok(rates));
    for text in ["", "10k,", "x", "-5", "0", "0%", "5k%", "ws://127.0.0.1/"] {
        let error = text.parse::<Rates>().unwrap_err();
        assert!(error.contains("write 10k,20k,50k or 10%,50%,110%"), "{text}: {error}");
    }
}
