//! Series driven without sockets: what is made, written down, left out, given up and gone on with.

use std::collections::VecDeque;
use std::fs;

use clap::Parser;

use super::*;
use crate::measure::histogram;
use crate::measure::particulars::Particulars;
use crate::measure::result::{Accounting, Latencies, Mode, Outcome as RunOutcome, Summary, Target};
use crate::measure::verdict::{Level, Verdict};

#[derive(Debug, Parser)]
#[command(name = "ringsock-load")]
struct Flags {
    #[command(flatten)]
    load: Options,
    #[command(flatten)]
    series: SeriesFlags,
    #[command(flatten)]
    _plan: crate::load::PlanFlags,
}

/// A request as the program makes one of what is typed.
pub(super) struct Typed {
    flags: Flags,
    config: Values,
    probe: Probe,
}

impl Typed {
    pub(super) fn new(words: &[&str]) -> Self {
        let command = Flags::command();
        let arguments = ["ringsock-load"].iter().chain(words).map(Into::into).collect();
        let settled = config::settle(&command, arguments).unwrap();
        let of_a_series = |arg: &clap::Arg| {
            arg.get_help_heading() != Some(crate::load::heading::OUTPUT) && arg.get_id() != "resume"
        };
        Self {
            config: config::effective(&command, &settled.matches, of_a_series),
            flags: Flags::from_arg_matches(&settled.matches).unwrap(),
            probe: Probe::with("6.12.0", []),
        }
    }

    pub(super) fn request(&self) -> Request<'_> {
        Request {
            flags: &self.flags.series,
            options: &self.flags.load,
            config: self.config.clone(),
            probe: &self.probe,
            command_line: Vec::new(),
        }
    }
}

/// A result as a run of `setup` has it, with these response times.
pub(super) fn result_of(setup: &Setup, response_ns: impl IntoIterator<Item = u64>) -> RunResult {
    let options = &setup.options;
    let mut latency = Latencies::default();
    let headline = if options.closed_loop { &mut latency.service } else { &mut latency.response };
    response_ns.into_iter().for_each(|value_ns| histogram::record(headline, value_ns));
    let answered = headline.len();
    let accounting = Accounting { offered: answered, sent: answered, answered, ..Accounting::default() };
    let mode = match options.closed_loop {
        true => Mode::ClosedLoop { pipeline: options.pipeline.into() },
        false => Mode::OpenLoop { rate_per_s: options.rate, arrivals: options.arrivals.into() },
    };
    let plan = result::Plan {
        scenario: "echo".to_owned(),
        parameters: Default::default(),
        url: options.url.first().cloned(),
        connections: 1,
        threads: 1,
        payload_bytes: 64,
        text: false,
        filling: None,
        duration_s: options.duration.as_secs_f64(),
        warmup_s: options.warmup.as_secs_f64(),
        drain_timeout_s: 0.0,
        connect_rate_per_s: None,
        mode,
        seed: options.seed,
    };
    let summary = Summary::new(&plan, &accounting, &latency, &[], options.duration.as_secs_f64());
    RunResult {
        schema: result::SCHEMA.to_owned(),
        created: result::utc_now(),
        tool: Tool::this("ringsock-load"),
        command_line: Vec::new(),
        verdict: Some(Verdict { level: Level::Trusted, findings: Vec::new() }),
        config: None,
        series: None,
        calibration: None,
        plan,
        environment: Environment::default(),
        io_uring: None,
        target: Target::default(),
        outcome: RunOutcome::completed(),
        accounting,
        latency,
        intervals: Vec::new(),
        batches: Vec::new(),
        cpu: result::CpuUse { load_cpu_s: answered as f64 * 1e-6, server_cpu_s: None },
        evidence: None,
        anatomy: None,
        particulars: Particulars::default(),
        exemplars: Vec::new(),
        server_stats: None,
        summary,
    }
}

/// What a fake run comes to.
enum Play {
    Well,
    Unanswered,
    Unsent,
    Invalid,
    Refused,
    Interrupted,
    /// As if the process were killed: the test drops everything.
    Killed,
}

/// Runs that come to what the test says, in turn, and well after that.
#[derive(Default)]
struct Fake {
    plays: VecDeque<Play>,
    stopped: bool,
    /// Engine and seed of each run made.
    made: Vec<(String, u64)>,
    said: Vec<String>,
    warned: Vec<String>,
}

fn engine_of(setup: &Setup) -> String {
    setup.config.get("server-engine").and_then(|value| value.as_str()).unwrap_or("-").to_owned()
}

impl Runner for Fake {
    fn run(&mut self, setup: &Setup) -> Result<RunResult, RunError> {
        self.made.push((engine_of(setup), setup.options.seed));
        let median_ns = if engine_of(setup) == "epoll" { 130_000 } else { 100_000 };
        let mut random = fastrand::Rng::with_seed(setup.options.seed);
        let mut result = result_of(setup, (0..2000).map(|_| median_ns + random.u64(..20_000)));
        match self.plays.pop_front().unwrap_or(Play::Well) {
            Play::Well => {}
            Play::Unanswered => result.accounting.outstanding = 1,
            Play::Unsent => result.accounting.unsent = 1,
            Play::Invalid => result.verdict.as_mut().unwrap().level = Level::Invalid,
            Play::Refused => return Err(LoadError::Stuck.into()),
            Play::Interrupted => {
                self.stopped = true;
                result.outcome.status = Status::Interrupted;
            }
            Play::Killed => panic!("killed"),
        }
        Ok(result)
    }

    fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn say(&mut self, what: &str) {
        self.said.push(what.to_owned());
    }

    fn warn(&mut self, what: &str) {
        self.warned.push(what.to_owned());
    }
}

/// Two contenders that need nothing of the kernel that runs the tests; the fake runner makes them equally fast.
const TWO: [&str; 6] = [
    "--engine",
    "epoll",
    "--contender",
    "--server-engine epoll --payload 65",
    "--contender",
    "--server-engine epoll",
];

/// Makes the series that `words` ask for; what came of it.
fn make_series(results: &Path, words: &[&str], fake: &mut Fake) -> Result<Outcome, SeriesError> {
    let folder = results.to_str().unwrap();
    let resumed = words.contains(&"--resume");
    let typed =
        if resumed { Typed::new(words) } else { Typed::new(&[&["--results", folder], words].concat()) };
    let probe = Probe::of_this_kernel();
    let request = Request { probe: &probe, ..typed.request() };
    let mut controller = request.plan()?;
    request.execute(&mut *controller, fake, Style::PLAIN)
}

#[test]
fn runs_are_made_in_the_planned_order_saved_one_by_one_and_compared() {
    let results = tempfile::tempdir().unwrap();
    let mut fake = Fake::default();
    let words = [&TWO[..], &["--runs", "6", "--seed", "40"]].concat();
    let outcome = make_series(results.path(), &words, &mut fake).unwrap();
    assert!(outcome.success && outcome.ending == Ending::Complete);
    let seeds: Vec<u64> = fake.made.iter().map(|run| run.1).collect();
    assert_eq!(seeds, [40, 40, 41, 41, 42, 42, 43, 43, 44, 44, 45, 45], "one a round, for all contenders");
    let contents = manifest::read::<Finding>(&outcome.folder).unwrap();
    assert_eq!(contents.runs.len(), 12);
    let made: Vec<_> = contents.runs.iter().map(|run| (run.label.clone(), run.round)).collect();
    let planned: Vec<_> = contents.header.order.iter().map(|run| (run.label.clone(), run.round)).collect();
    assert_eq!(made, planned);
    for run in &contents.runs {
        let result = store::load(&outcome.folder.join(run.file.as_ref().unwrap())).unwrap();
        let part = result.series.unwrap();
        assert_eq!(
            (part.name.as_str(), &part.label, part.round),
            (contents.header.name.as_str(), &run.label, run.round)
        );
        let kept = result.config.unwrap();
        assert_eq!(kept["payload"] == 65, run.label.contains("65"), "{kept:?}");
        Setup::new(&kept).expect("a run of a series can be repeated by itself");
    }
    assert!(
        matches!(contents.finding, Some(Finding::Rounds(rounds)) if rounds.runs == 12 && rounds.failed == 0)
    );
    assert!(fake.said[0].starts_with("run 1 of 12: --server-engine epoll"), "{:?}", fake.said);
    assert!(
        fake.said[11].starts_with("run 12 of 12: ") && fake.said[11].contains(" left"),
        "{:?}",
        fake.said
    );
    assert!(
        ["6 trusted", "~ 1.0", ": 6 rounds or more", " %"].iter().all(|it| outcome.report.contains(it)),
        "{}",
        outcome.report
    );
}

#[test]
fn wherever_a_series_ends_it_is_gone_on_with_to_the_same_result() {
    let words =
        [&["--engine", "epoll", "--contender", "", "--contender", "--payload 65"][..], &["--runs", "3"]]
            .concat();
    let whole = tempfile::tempdir().unwrap();
    let mut undisturbed = Fake::default();
    let expected = make_series(whole.path(), &words, &mut undisturbed).unwrap();
    let table = |outcome: &Outcome| {
        outcome.report.lines().filter(|line| !line.starts_with("saved")).collect::<String>()
    };
    for killed in [true, false] {
        for before in 0..6 {
            let results = tempfile::tempdir().unwrap();
            let well = (0..before).map(|_| Play::Well);
            let end = if killed { Play::Killed } else { Play::Interrupted };
            let mut fake = Fake { plays: well.chain([end]).collect(), ..Fake::default() };
            let first = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                make_series(results.path(), &words, &mut fake).unwrap().ending
            }));
            assert_eq!(first.is_err(), killed);
            assert!(killed || matches!(first, Ok(Ending::Interrupted)));
            let kernel = fs::read_dir(results.path()).unwrap().next().unwrap().unwrap().path();
            let folder = fs::read_dir(kernel).unwrap().next().unwrap().unwrap().path();
            let mut rest = Fake::default();
            let outcome =
                make_series(results.path(), &["--resume", folder.to_str().unwrap()], &mut rest).unwrap();
            assert_eq!(outcome.folder, folder);
            assert_eq!(rest.made, undisturbed.made[before..], "{before} runs were on disk");
            assert_eq!(table(&outcome), table(&expected), "{before}");
            assert!(outcome.success);
            // Over and over: nothing is left to run, the table stands.
            let mut none = Fake::default();
            let again =
                make_series(results.path(), &["--resume", folder.to_str().unwrap()], &mut none).unwrap();
            assert!(none.made.is_empty() && again.success && table(&again) == table(&expected));
        }
    }
}

#[test]
fn an_export_that_fails_costs_neither_the_run_nor_the_series() {
    let results = tempfile::tempdir().unwrap();
    let mut typed =
        Typed::new(&["--results", results.path().to_str().unwrap(), "--runs", "2", "--engine", "epoll"]);
    // Its file's name is that of the result itself, which is there already.
    typed.flags.load.export = vec![Format { extension: "json", ..crate::report::export::FORMATS[0] }];
    let probe = Probe::of_this_kernel();
    let request = Request { probe: &probe, ..typed.request() };
    let (mut controller, mut fake) = (request.plan().unwrap(), Fake::default());
    let outcome = request.execute(&mut *controller, &mut fake, Style::PLAIN).unwrap();
    assert_eq!((outcome.ending, outcome.success, fake.made.len()), (Ending::Complete, true, 2));
    assert!(
        fake.warned.len() == 2 && fake.warned[0].contains("saved, but not exported"),
        "{:?}",
        fake.warned
    );
    let runs = manifest::read::<Finding>(&outcome.folder).unwrap().runs;
    for run in &runs {
        store::load(&outcome.folder.join(run.file.as_ref().unwrap())).unwrap();
    }
    assert_eq!(runs.len(), 2);
}

#[test]
fn a_message_without_answer_or_never_sent_fails_the_series() {
    for (play, success) in [(Play::Well, true), (Play::Unanswered, false), (Play::Unsent, false)] {
        let results = tempfile::tempdir().unwrap();
        let mut fake = Fake { plays: [Play::Well, play].into(), ..Fake::default() };
        let outcome = make_series(results.path(), &["--runs", "2", "--engine", "epoll"], &mut fake).unwrap();
        assert_eq!((outcome.success, outcome.ending), (success, Ending::Complete));
    }
}

#[test]
fn flags_that_the_engine_refuses_are_wrong_flags_and_a_kernel_that_refuses_is_not() {
    use crate::engine::EngineError;
    let wrong = |error: EngineError| SeriesError::from(OptionsError::Engine(error)).is_wrong_flags();
    let error = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    assert!(!wrong(EngineError::Io { doing: "set up io_uring", error }));
    assert!(wrong(EngineError::NoKernelTimestamps { engine: "uring" }));
}

#[test]
fn a_series_gone_on_with_is_exported_as_it_was_begun() {
    let results = tempfile::tempdir().unwrap();
    let mut fake = Fake { plays: [Play::Well, Play::Interrupted].into(), ..Fake::default() };
    let words = ["--runs", "3", "--engine", "epoll", "--export", "hgrm"];
    let folder = make_series(results.path(), &words, &mut fake).unwrap().folder;
    let exported = || {
        let files = fs::read_dir(&folder).unwrap().flatten();
        files.filter(|file| file.path().extension().is_some_and(|it| it == "hgrm")).count()
    };
    assert_eq!(exported(), 2, "what was interrupted as well");
    make_series(results.path(), &["--resume", folder.to_str().unwrap()], &mut Fake::default()).unwrap();
    assert_eq!(exported(), 4);
}

#[test]
fn a_failed_run_is_recorded_and_the_others_go_on() {
    let results = tempfile::tempdir().unwrap();
    let mut fake = Fake { plays: [Play::Well, Play::Refused, Play::Invalid].into(), ..Fake::default() };
    let words = [&TWO[..], &["--runs", "3", "--no-interleave"]].concat();
    let outcome = make_series(results.path(), &words, &mut fake).unwrap();
    assert_eq!((fake.made.len(), outcome.success), (6, false));
    for expected in [
        "failed: --server-engine epoll --payload 65, round 2: a generator thread does not end",
        "left out: --server-engine epoll --payload 65, round 3: INVALID",
        "1 trusted, 1 INVALID, 1 failed",
        "1 of 3 rounds count",
    ] {
        assert!(outcome.report.contains(expected), "{expected}: {}", outcome.report);
    }
    let contents = manifest::read::<Finding>(&outcome.folder).unwrap();
    assert!(contents.runs[1].file.is_none() && contents.runs[1].failed.is_some());
}

#[test]
fn a_contender_of_which_all_runs_fail_ends_the_series() {
    let results = tempfile::tempdir().unwrap();
    let plays = (0..3).map(|_| Play::Refused).collect();
    let mut fake = Fake { plays, ..Fake::default() };
    let words = [&TWO[..], &["--runs", "9", "--no-interleave"]].concat();
    let outcome = make_series(results.path(), &words, &mut fake).unwrap();
    assert_eq!((fake.made.len(), outcome.success), (3, false));
    assert!(
        outcome.report.contains("given up: all 3 runs of --server-engine epoll --payload 65 failed"),
        "{}",
        outcome.report
    );
}

#[test]
fn contenders_that_make_no_sense_are_refused_with_the_mend() {
    let results = tempfile::tempdir().unwrap();
    for (words, expected) in [
        (&["--runs", "0"][..], "--runs 0: has to be 1 to"),
        (&["--contender", "--text"], "give --contender again"),
        (
            &["--contender", "", "--contender", "--ratee 5"],
            "--contender \"--ratee 5\": unexpected argument '--ratee'",
        ),
        (&["--contender", "", "--contender", "--results x"], "--results is the same for all runs"),
        (&["--contender", "", "--contender", "--pipeline 4"], "required arguments"),
        (&["--contender", "", "--contender", "'x"], "a ' is not closed"),
        (
            &["ws://127.0.0.1:1", "ws://127.0.0.1:2", "--server-pid", "1"],
            "--server-pid is that of one server",
        ),
        (
            &["ws://127.0.0.1:1", "ws://127.0.0.1:2", "--contender", "", "--contender", "ws://127.0.0.1:3"],
            "leave one of the two out",
        ),
        (&["--contender", "", "--contender", "--cpus 1023"], "CPU 1023 is not available"),
        // For being no contender's affair; or, before that, since this machine's clock counts time.
        (&["--contender", "", "--contender", "--clock instructions"], "--clock"),
    ] {
        let refused = make_series(results.path(), words, &mut Fake::default());
        let refused = refused.err().unwrap_or_else(|| panic!("{words:?} was not refused"));
        assert!(refused.to_string().contains(expected), "{words:?}: {refused}");
        assert!(refused.is_wrong_flags(), "{words:?}");
    }
    assert_eq!(fs::read_dir(results.path()).unwrap().count(), 0, "nothing was begun");
}

#[test]
fn urls_and_contenders_multiply_and_flags_of_a_contender_win() {
    let words = [
        "--rate",
        "7",
        "ws://127.0.0.1:1/",
        "ws://127.0.0.1:2/",
        "--contender",
        "--text",
        "--contender",
        "--closed-loop",
    ];
    let typed = Typed::new(&words);
    let contenders = Rounds::new(&typed.request()).unwrap().contenders();
    let labels: Vec<_> = contenders.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(
        labels,
        [
            "ws://127.0.0.1:1/ --text",
            "ws://127.0.0.1:1/ --closed-loop",
            "ws://127.0.0.1:2/ --text",
            "ws://127.0.0.1:2/ --closed-loop"
        ]
    );
    let (text, closed) = (&contenders[2].1, &contenders[3].1);
    assert_eq!(
        (text.options.rate, text.options.text, &text.options.url[..]),
        (7.0, true, &["ws://127.0.0.1:2/".to_owned()][..])
    );
    assert!(closed.options.closed_loop && !closed.config.contains_key("rate"), "{:?}", closed.config);
    let same = Typed::new(&["--contender", "", "--contender", ""]);
    let labels: Vec<_> =
        Rounds::new(&same.request()).unwrap().contenders().into_iter().map(|it| it.0).collect();
    assert_eq!(labels, ["the common flags", "the common flags #2"]);
}

#[test]
fn a_series_is_not_continued_under_other_conditions() {
    let results = tempfile::tempdir().unwrap();
    let mut fake = Fake { plays: [Play::Well, Play::Interrupted].into(), ..Fake::default() };
    let outcome = make_series(results.path(), &["--runs", "3", "--engine", "epoll"], &mut fake).unwrap();
    let folder = outcome.folder.to_str().unwrap().to_owned();
    let file = outcome.folder.join(manifest::FILE_NAME);
    let text = fs::read_to_string(&file).unwrap();
    let header: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut changed = header.clone();
        change(&mut changed["header"]);
        let rest: Vec<_> = text.lines().skip(1).collect();
        fs::write(&file, format!("{changed}\n{}\n", rest.join("\n"))).unwrap();
        let error = make_series(results.path(), &["--resume", &folder], &mut Fake::default()).err();
        error.expect("refused").to_string()
    };
    let kernel = with(&|header| header["kernel"]["release"] = "1.2.3".into());
    assert!(kernel.contains("it was begun on Linux 1.2.3 ("), "{kernel}");
    let tool = with(&|header| header["tool"]["version"] = "0.0.1".into());
    assert!(tool.contains("it was begun by ringsock 0.0.1"), "{tool}");
    let cpus = with(&|header| header["contenders"][0]["chosen"]["cpus"] = "77".into());
    assert!(cpus.contains("cpus was 77, and is "), "{cpus}");
    let order = with(&|header| header["order"][0]["round"] = 9.into());
    assert!(order.contains("plans other runs"), "{order}");
    // What is typed may repeat the series' flags, not change them.
    fs::write(&file, &text).unwrap();
    let settle = |words: &[&str]| {
        let all = ["ringsock-load", "--resume", &folder].iter().chain(words).map(Into::into).collect();
        config::settle(&Flags::command(), all).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(settle(&["--runs", "3", "--quiet"]), Ok(()));
    let refused = settle(&["--runs", "4"]).unwrap_err();
    assert!(refused.contains("--runs 4 contradicts the series, which has 3"), "{refused}");
    assert!(settle(&["--server-pid", "1"]).unwrap_err().contains("contradicts the series, which has null"));
}
