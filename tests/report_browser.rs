//! The HTML report in a real browser: offline, in both themes, wide and narrow, by keyboard, on paper.
//!
//! The checks are in `tests/peers/view_report.mjs`; this file makes the pages and judges what it said. Pictures of each page are left
//! in `target/tmp/report-NAME/` to be looked at: that they are good is for people to say.

#[path = "common/comparison.rs"]
mod comparisons;
#[path = "common/foreign.rs"]
mod foreign;

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use comparisons::{Shape, comparison};
use foreign::{Peer, Process};
use ringsock::measure::environment::Clock;
use ringsock::report::html::render;

/// A long page takes a while to draw without a graphics processor.
const TIME_MAX: Duration = Duration::from_secs(400);
/// What is checked, by the names the script reports: a check that got lost fails the test.
const CHECKS: [&str; 10] = [
    "fits wide",
    "fits narrow",
    "theme by keyboard",
    "theme of the system, without a script",
    "a group stands out by keyboard",
    "links open what they lead to",
    "pictures",
    "paper",
    "no request",
    "no complaint",
];

#[test]
fn two_groups_are_shown_well() {
    is_shown_well("2", Shape::of(2));
}

#[test]
fn twelve_groups_are_shown_well() {
    is_shown_well("12", Shape::of(12));
}

#[test]
fn instructions_of_single_boots_are_shown_well() {
    is_shown_well("instructions", Shape { clock: Clock::Instructions, boots: 1, ..Shape::of(4) });
}

#[test]
fn hostile_labels_are_shown_as_text() {
    is_shown_well("hostile", Shape { hostile: true, ..Shape::of(5) });
}

/// One browser at a time: several would take each other's deadlines away on a small machine.
static TURN: Mutex<()> = Mutex::new(());

fn is_shown_well(name: &str, shape: Shape) {
    let Some(browser) = foreign::browser() else { return };
    if !Peer::Node.is_ready() {
        return;
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{name}"));
    std::fs::create_dir_all(&directory).expect("a directory for pictures");
    let page = directory.join("report.html");
    std::fs::write(&page, render(&comparison(shape, 7))).expect("the page");

    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut command = Peer::Node.command("view_report");
    let viewer =
        Process::start_for("view_report.mjs", command.arg(browser).arg(&page).arg(&directory), TIME_MAX);
    let (status, transcript) = viewer.wait();
    for check in CHECKS {
        let line = format!("ok {check}");
        assert!(transcript.lines().any(|it| it == line), "no `{line}`:\n{transcript}");
    }
    assert!(status.success(), "the viewer ended with {status}:\n{transcript}");
}
