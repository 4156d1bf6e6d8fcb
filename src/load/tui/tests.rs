//! What people see of the live view, as golden texts.
//!
//! After a change that is meant, `RINGSOCK_BLESS=1 cargo test --lib tui` rewrites them; read the diff.

use std::path::Path;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::model::{Counts, CpuShare};
use super::*;
use crate::measure::histogram::{new_histogram, record};
use crate::measure::verdict::Level;

fn header() -> Header {
    Header {
        url: "ws://127.0.0.1:40317/".to_owned(),
        workload: "echo, 64 connections, 64 B binary, open loop at 20,000/s (Poisson)".to_owned(),
        engines: "uring".to_owned(),
        offered_per_s: Some(20_000.0),
        lag_bound_ns: 100_000,
        warmup: Duration::from_secs(2),
        duration: Duration::from_secs(10),
        load_cpus: vec![1],
        server_cpus: vec![0],
    }
}

/// Response times with a long tail, `scale` times as long as usual.
fn counts(seed: u64, messages: u64, scale: f64) -> Counts {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut histogram = new_histogram();
    for _ in 0..messages {
        let response_ns = scale * 60_000.0 * random.f64().max(1e-6).powf(-0.4);
        record(&mut histogram, response_ns as u64);
    }
    Counts::of(&histogram)
}

fn piece(index: u64, answered: u64, scale: f64) -> Piece {
    let counts = counts(index, answered, scale);
    let length = Duration::from_millis(200);
    Piece { start: length * index as u32, length, sent: answered, answered, counts, ..Piece::default() }
}

fn share(cpu: usize, busy: f64, steal: f64) -> CpuShare {
    CpuShare { cpu, busy, steal, steal_so_far: steal }
}

fn steady() -> Model {
    let mut model = Model::new(header());
    for index in 0..31 {
        let piece = Some(Piece { lagging: 9, ..piece(index, 3_900 + index * 7_919 % 200, 1.0) });
        let elapsed = Duration::from_millis(2_200 + 200 * index);
        model.on_snapshot(Snapshot { elapsed, phase: Some(MEASURING), piece, ..Snapshot::default() });
    }
    model.whole.sent += 12;
    model.cpus = vec![share(0, 0.34, 0.0), share(1, 0.52, 0.004)];
    model
}

/// The server cannot keep up, and breaks things.
fn overload() -> Model {
    let mut model = Model::new(Header { server_cpus: vec![0, 1], ..header() });
    for index in 0..20 {
        let scale = 1.0 + (index * index) as f64 * 4.0;
        let piece =
            Some(Piece { sent: 4_000, errors: index / 6, lagging: 300, ..piece(index, 2_600, scale) });
        let elapsed = Duration::from_millis(2_200 + 200 * index);
        model.on_snapshot(Snapshot { elapsed, phase: Some(MEASURING), piece, ..Snapshot::default() });
    }
    model.cpus = (0..16).map(|cpu| share(cpu, 1.0 / (cpu + 1) as f64, 0.03)).collect();
    model
}

fn drawn(model: &Model, columns: u16, rows: u16, color: bool) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| view::draw(model, &view::Palette::new(color), frame)).unwrap();
    terminal
}

fn text(model: &Model, columns: u16, rows: u16) -> String {
    let terminal = drawn(model, columns, rows, true);
    let cells = terminal.backend().buffer().content();
    let lines =
        cells.chunks(columns.into()).map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    lines.map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("RINGSOCK_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == golden, "{name} reads otherwise now (RINGSOCK_BLESS=1 accepts it):\n{text}");
}

#[test]
fn a_run_that_warms_up_reads_as_golden() {
    let mut model = Model::new(header());
    let elapsed = Duration::from_millis(1_300);
    model.on_snapshot(Snapshot { elapsed, phase: Some(WARMING_UP), ..Snapshot::default() });
    model.cpus = vec![share(0, 0.30, 0.0), share(1, 0.50, 0.0)];
    assert_golden("tui-warming-up.txt", &text(&model, 100, 30));
}

#[test]
fn a_steady_run_reads_as_golden() {
    assert_golden("tui-steady.txt", &text(&steady(), 100, 30));
}

#[test]
fn a_closed_loop_says_nothing_of_schedules() {
    let mut model = steady();
    model.header.offered_per_s = None;
    model.header.workload = "echo, 64 connections, 64 B binary, closed loop, 1 in flight each".to_owned();
    assert_golden("tui-closed-loop.txt", &text(&model, 100, 30));
}

#[test]
fn an_overload_with_errors_on_many_cpus_reads_as_golden() {
    assert_golden("tui-overload.txt", &text(&overload(), 120, 36));
}

#[test]
fn the_smallest_terminal_and_the_help_read_as_golden() {
    let mut model = overload();
    assert_golden("tui-smallest.txt", &text(&model, view::MIN_COLUMNS, view::MIN_ROWS));
    model.help = true;
    assert_golden("tui-help.txt", &text(&model, 80, 24));
}

#[test]
fn no_terminal_is_too_small_or_too_large_to_be_drawn_on() {
    for model in [Model::new(Header::default()), steady(), overload()] {
        for columns in [1, 2, 20, 59, 60, 61, 79, 80, 99, 133, 400] {
            for rows in [1, 2, 10, 17, 18, 19, 23, 24, 25, 30, 50, 120] {
                let text = text(&model, columns, rows);
                let too_small = columns < view::MIN_COLUMNS || rows < view::MIN_ROWS;
                assert_eq!(
                    text.contains("is too small"),
                    too_small && columns >= 20,
                    "{columns}x{rows}\n{text}"
                );
            }
        }
    }
}

#[test]
fn without_colour_the_same_is_told() {
    let (with, without) = (drawn(&overload(), 120, 36, true), drawn(&overload(), 120, 36, false));
    let symbols = |terminal: &Terminal<TestBackend>| {
        terminal.backend().buffer().content().iter().map(|cell| cell.symbol().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(symbols(&with), symbols(&without));
    let colored = |terminal: &Terminal<TestBackend>| {
        terminal
            .backend()
            .buffer()
            .content()
            .iter()
            .any(|cell| (cell.fg, cell.bg) != (Color::Reset, Color::Reset))
    };
    assert!(colored(&with) && !colored(&without));
}

#[test]
fn each_thing_that_goes_wrong_is_seen_while_it_does() {
    let verdict = |change: fn(&mut Model)| {
        let mut model = steady();
        change(&mut model);
        let verdict = interim::judge(&model).unwrap();
        let bad = verdict.findings.into_iter().filter(|finding| finding.level > Level::Trusted);
        (verdict.level, bad.map(|finding| finding.check).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(verdict(|_| {}), (Level::Trusted, String::new()));
    for (change, level, check) in [
        ((|model| model.whole.errors = 1) as fn(&mut Model), Level::Suspect, "errors"),
        (|model| model.whole.answered = model.whole.answered * 97 / 100, Level::Suspect, "achieved-rate"),
        (|model| model.whole.lagging = model.whole.sent / 50, Level::Suspect, "generator-lag"),
        (|model| model.header.server_cpus = vec![0, 1], Level::Suspect, "shared-cpu"),
        (|model| model.cpus[1].steal_so_far = 0.02, Level::Suspect, "steal"),
    ] {
        assert_eq!(verdict(change), (level, check.to_owned()));
    }
    assert_eq!(interim::judge(&Model::new(header())), None, "nothing to judge yet");
    let slow = |model: &mut Model| {
        // A server that takes a good second: five pieces without an answer, and a lag that does not matter.
        let mut later = Model::new(header());
        for index in 0..31 {
            let piece = match index {
                0..5 => Piece { sent: 4_000, answered: 0, counts: Counts::default(), ..piece(index, 0, 1.0) },
                _ => Piece { sent: 4_000, lagging: 200, ..piece(index, 4_000, 10_000.0) },
            };
            later.on_snapshot(Snapshot { piece: Some(piece), ..Snapshot::default() });
        }
        *model = later;
    };
    assert_eq!(verdict(slow), (Level::Trusted, String::new()));
    assert_eq!(verdict(|model| model.cpus.push(share(7, 1.0, 0.5))).0, Level::Trusted, "not a CPU of ours");
}

#[test]
fn a_timekeeper_never_waits_for_a_view_that_does_not_look() {
    let letter_box = Arc::new(LetterBox::default());
    let theirs = Arc::clone(&letter_box);
    let kept_back = Snapshot::default();
    let mut live = Live { letter_box, kept_back, notes: Vec::new(), thread: None };
    let say = |live: &mut Live, index| {
        live.tell(Snapshot { piece: Some(piece(index, 10, 1.0)), ..Snapshot::default() });
    };
    let looking = theirs.snapshot.lock().unwrap();
    // Would wait for ever, were it to wait.
    (0..3).for_each(|index| say(&mut live, index));
    let until_told = Arc::clone(&theirs);
    live.thread = Some(std::thread::spawn(move || {
        while !until_told.over.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        Ok(())
    }));
    live.finish();
    drop(looking);
    say(&mut live, 3);
    let snapshot = theirs.snapshot.lock().unwrap().take().unwrap();
    assert_eq!(snapshot.piece.unwrap().answered, 40, "what was kept back came with the next");
    say(&mut live, 4);
    let snapshot = theirs.snapshot.lock().unwrap().take().unwrap();
    assert_eq!(snapshot.piece.unwrap().answered, 10, "and nothing came twice");
}
