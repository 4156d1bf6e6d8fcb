//! Flags from files: who wins, what is refused, and that nothing is lost on the way there and back.

use clap::{CommandFactory, Parser};

use super::super::{Options, PlanFlags};
use super::*;

#[derive(Debug, Parser)]
#[command(name = "load")]
struct Flags {
    #[command(flatten)]
    _load: Options,
    #[command(flatten)]
    _plan: PlanFlags,
}

/// What comes of typing `typed` over a file that holds `text`.
fn over(text: &str, typed: &[&str]) -> Result<(Values, Vec<String>), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bench.toml");
    std::fs::write(&file, text).unwrap();
    let flag = format!("--config={}", file.display());
    let arguments = ["load", &flag].into_iter().chain(typed.iter().copied()).map(OsString::from);
    let settled = settle(&Flags::command(), arguments.collect())
        .map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))?;
    let values = effective(&Flags::command(), &settled.matches, is_of_a_run);
    let notes = settled.notes.iter().map(|note| note.rsplit('/').next().unwrap().to_owned());
    Ok((values, notes.collect()))
}

fn refusal(text: &str, typed: &[&str]) -> String {
    over(text, typed).expect_err("refused")
}

#[test]
fn a_file_sets_flags_and_typed_ones_win() {
    let text = "rate = 50_000\nduration = \"3s\"\ntext = true\nurl = \"ws://127.0.0.1:1/\"\n";
    let (values, notes) = over(text, &[]).unwrap();
    assert_eq!((&values["rate"], &values["duration"]), (&50_000.into(), &"3s".into()));
    assert_eq!((&values["text"], &values["url"][0]), (&true.into(), &"ws://127.0.0.1:1/".into()));
    assert_eq!(values["connections"], 64, "a default is in effect too");
    assert!(notes.is_empty(), "{notes:?}");

    let (values, notes) = over(text, &["-r", "7", "ws://127.0.0.1:2/"]).unwrap();
    assert_eq!((&values["rate"], &values["duration"]), (&7.into(), &"3s".into()));
    assert_eq!(values["url"], serde_json::json!(["ws://127.0.0.1:2/"]), "not both");
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn what_conflicts_with_a_typed_flag_goes_and_what_needs_that_goes_too() {
    let (values, notes) = over("closed-loop = true\npipeline = 8\n", &["--rate", "5"]).unwrap();
    assert_eq!((&values["rate"], &values["closed-loop"]), (&5.into(), &false.into()));
    assert!(!values.contains_key("pipeline"), "{values:?}");
    assert_eq!(
        notes,
        [
            "bench.toml: closed-loop was left out: it conflicts with --rate, which was typed",
            "bench.toml: pipeline was left out: it conflicts with --rate, which was typed",
        ]
    );

    let (values, notes) = over("rate = 5\n", &["--closed-loop"]).unwrap();
    assert!(!values.contains_key("rate") && !values.contains_key("arrivals"), "{values:?}");
    assert_eq!((&values["pipeline"], notes.len()), (&1.into(), 1));

    // The conflict may be written at either of the two, and be about what has no dashes.
    let text = "url = \"ws://127.0.0.1/\"\nserver-pid = 1\n";
    let (values, notes) = over(text, &["--server-engine", "epoll"]).unwrap();
    assert_eq!((&values["server-engine"], values.get("url")), (&"epoll".into(), None));
    assert!(!values.contains_key("server-pid"), "{values:?}");
    assert_eq!(
        notes,
        [
            "bench.toml: server-pid was left out: it needs the URL, which was left out",
            "bench.toml: url was left out: it conflicts with --server-engine, which was typed",
        ]
    );
}

#[test]
fn a_typed_flag_may_need_one_of_the_file() {
    let (values, _) = over("closed-loop = true\n", &["--pipeline", "4"]).unwrap();
    assert_eq!((&values["pipeline"], &values["closed-loop"]), (&4.into(), &true.into()));
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_its_line_and_the_mend() {
    for (text, expected) in [
        ("rate = 5\nratee = 5\n", "bench.toml:2: ratee is no flag of load: did you mean rate?"),
        ("closed_loop = true", "bench.toml:1: closed_loop is no flag of load: did you mean closed-loop?"),
        ("zzzzzzzzzz = 1", "bench.toml:1: zzzzzzzzzz is no flag of load: --help lists them"),
        ("config = \"x\"", "bench.toml:1: config cannot stand in a file of flags: type it"),
        (
            "\n\nrate = \"fast\"",
            "bench.toml:3: rate: invalid value 'fast' for '--rate <RATE>': write a rate as 20000",
        ),
        (
            "duration = 10",
            "bench.toml:1: duration: invalid value '10' for '--duration <TIME>': time unit needed",
        ),
        (
            "engine = \"kqueue\"",
            "bench.toml:1: engine: invalid value 'kqueue' for '--engine <NAME>' [possible values: ",
        ),
        ("text = 1", "bench.toml:1: text is a switch: write true or false, not 1"),
        ("rate = true", "bench.toml:1: rate takes a text or a number, not true"),
        ("rate = [1, 2]", "bench.toml:1: rate takes one value, not [1,2]"),
        ("[load]\nrate = 5", "bench.toml:1: load: flags stand in no table: take away the [brackets] above"),
        ("day = 2020-01-01", "bench.toml:1: day: no flag takes a date"),
        ("seed = 99999999999999999999", "bench.toml:1: seed: the number is too large"),
        ("rate = ", "bench.toml:1: "),
        ("rate = 1\nrate = 2", "bench.toml:2: duplicate key"),
    ] {
        let error = refusal(text, &[]);
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
    let error = refusal("", &["--ratee", "5"]);
    assert!(error.contains("--ratee") && error.contains("--rate"), "{error}");
    let missing = ["load", "--config", "/nowhere/x.toml"].map(OsString::from).to_vec();
    let error = settle(&Flags::command(), missing).unwrap_err().to_string();
    assert!(error.contains("cannot read /nowhere/x.toml") && error.contains("--config"), "{error}");
}

#[test]
fn flags_in_effect_written_out_and_read_again_are_the_same() {
    for typed in [
        &[][..],
        &["--rate", "20k", "--text", "-c", "7", "--uring-features=-multishot-recv,+napi=50us"],
        &["--closed-loop", "--pipeline", "16", "--payload", "64KiB", "--threads", "2", "--seed", "007"],
        &["ws://127.0.0.1:9001/a b\"'\\?x=1", "--server-pid", "1", "--results", "a \"b\""],
        &["--server-engine", "epoll", "--cpus", "0,2-3", "--connect-rate", "1.5"],
    ] {
        let command = Flags::command();
        let arguments = ["load"].iter().chain(typed).map(OsString::from);
        let settled = settle(&command, arguments.collect()).unwrap();
        let values = effective(&command, &settled.matches, |_| true);
        let text = render(&command, &values, &[]);
        assert_eq!(parse(&command, "again", &text).unwrap(), values, "{text}");
        let again = read_back(&command, &values, "again").unwrap();
        assert_eq!(effective(&command, &again, |_| true), values, "{text}");
        // What is kept in a result reads back as well.
        let kept = effective(&command, &settled.matches, is_of_a_run);
        assert!(!kept.contains_key("results") && kept.contains_key("duration"));
        read_back(&command, &kept, "kept").unwrap();
    }
}

#[test]
fn every_flag_stands_under_a_heading_which_says_whether_a_result_keeps_it() {
    let command = Flags::command();
    let without = command.get_arguments().filter(|arg| arg.get_help_heading().is_none()).map(key_of);
    assert_eq!(without.collect::<Vec<_>>(), Vec::<String>::new(), "give them a help_heading");
}
