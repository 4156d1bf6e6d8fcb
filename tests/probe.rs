//! `--probe` and `--engine` as their users meet them: on this kernel, and on one that refuses io_uring.

#[path = "common/peer.rs"]
mod peer;

use std::os::unix::process::CommandExt;
use std::process::Command;

use peer::Process;
use ringsock::engine::uring::Switches;
use ringsock::engine::{Choice, EngineKind, Feature, Probe};
use ringsock::measure::store;

const SERVER: &str = env!("CARGO_BIN_EXE_ringsock-server");
const LOAD: &str = env!("CARGO_BIN_EXE_ringsock-load");

/// A program to which `io_uring_setup(2)` answers `errno`.
fn without_io_uring(program: &str, errno: i32) -> Command {
    refusing(program, libc::SYS_io_uring_setup, errno)
}

/// A program to which this system call answers `errno`.
fn refusing(program: &str, system_call: libc::c_long, errno: i32) -> Command {
    let load = |offset| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: offset };
    let unless_equal = |number, skip| libc::sock_filter { code: 0x15, jt: 0, jf: skip, k: number };
    let end = |action| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: action };
    let filter = [
        // The number of the system call is the first field.
        load(0),
        unless_equal(system_call as u32, 1),
        end(libc::SECCOMP_RET_ERRNO | errno as u32),
        end(libc::SECCOMP_RET_ALLOW),
    ];
    let mut command = Command::new(program);
    let forbid = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the program and its filter live through the calls, which change only this process.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec it only makes system calls on memory of its own.
    unsafe { command.pre_exec(forbid) };
    command
}

/// Exit code, output and errors.
fn outcome(command: &mut Command) -> (Option<i32>, String, String) {
    let (status, output, errors) = Process::start(command).end();
    (status.code(), output, errors)
}

fn json(command: &mut Command) -> serde_json::Value {
    let (code, output, errors) = outcome(command.args(["--probe", "--json"]));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"))
}

#[test]
fn the_probe_lists_every_feature_and_its_json_says_the_same() {
    let (code, text, errors) = outcome(Command::new(SERVER).arg("--probe"));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let json = json(&mut Command::new(SERVER));
    assert_eq!(json["schema"], "ringsock-probe/1");
    let verdict = text.lines().next().unwrap();
    let (kernel, engine) = (json["kernel"].as_str().unwrap(), json["engine"].as_str().unwrap());
    assert!(verdict.starts_with(&format!("Linux {kernel} has ")), "{verdict}");
    assert!(verdict.contains(&format!("--engine auto takes {engine}: ")), "{verdict}");

    let probe = Probe::of_this_kernel();
    let features = json["features"].as_array().unwrap();
    assert_eq!(features.len(), Feature::ALL.len());
    for (feature, row) in Feature::ALL.into_iter().zip(features) {
        assert_eq!(row["name"], feature.name());
        assert_eq!(row["there"], probe.has(feature), "{feature}");
        let start = format!("  {feature} ");
        let line = text.lines().find(|line| line.starts_with(&start)).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        let there = if row["there"] == true { "yes" } else { "no" };
        let used = row["use"].as_str().unwrap().split(' ').next().unwrap();
        let used = if used == "no" { "-" } else { used };
        assert_eq!(words[1..4], [row["since"].as_str().unwrap(), there, used], "{line}");
        assert!(line.ends_with(row["what"].as_str().unwrap()), "{line}");
    }
    assert!(text.contains("multishot receive"), "{text}");
}

#[test]
fn the_second_line_of_a_server_says_which_engine_and_why() {
    let chosen = Choice::Auto.choose(&Probe::of_this_kernel(), &Switches::default()).unwrap();
    let asked = EngineKind::ALL.map(EngineKind::name).into_iter().chain(["auto"]);
    for name in asked.filter(|name| {
        name.parse::<Choice>().unwrap().choose(&Probe::of_this_kernel(), &Switches::default()).is_ok()
    }) {
        let process = Process::start(Command::new(SERVER).args([
            "--listen",
            "127.0.0.1:0",
            "--threads",
            "1",
            "--engine",
            name,
        ]));
        assert!(process.line().starts_with("listening on ws://127.0.0.1:"));
        let line = process.line();
        let kind = if name == "auto" { chosen.kind.name() } else { name };
        assert!(line.starts_with(&format!("engine {kind}: Linux {}", chosen.release)), "{line}");
    }
}

#[test]
fn where_io_uring_is_refused_the_probe_says_so_by_name_with_the_mend() {
    for (errno, said) in [
        (libc::EPERM, "io_uring is forbidden to this process: set the sysctl kernel.io_uring_disabled to 0"),
        (libc::ENOSYS, "has no io_uring: run outside the container or with a seccomp profile"),
    ] {
        let (code, text, _) = outcome(without_io_uring(SERVER, errno).arg("--probe"));
        assert_eq!(code, Some(0));
        assert!(text.contains(said) && text.contains(" has 0 of "), "{text}");
        assert!(!text.lines().any(|line| line.split_whitespace().nth(2) == Some("yes")), "{text}");
        let json = json(&mut without_io_uring(SERVER, errno));
        assert!(json["refusal"].as_str().unwrap().contains(said), "{json}");
        assert!(json["features"].as_array().unwrap().iter().all(|row| row["there"] == false));
    }
}

#[test]
fn any_of_the_three_system_calls_refused_is_io_uring_refused() {
    for system_call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register] {
        let json = json(&mut refusing(SERVER, system_call, libc::EPERM));
        assert!(json["refusal"].as_str().unwrap().contains("seccomp"), "{system_call}: {json}");
    }
}

#[test]
fn an_engine_asked_for_by_name_that_cannot_run_is_refused_with_the_mend() {
    let results = tempfile::tempdir().unwrap();
    for (errno, said) in [(libc::EPERM, "kernel.io_uring_disabled to 0"), (libc::ENOSYS, "has no io_uring")] {
        let mut server = without_io_uring(SERVER, errno);
        let mut load = without_io_uring(LOAD, errno);
        load.arg("--results").arg(results.path());
        for command in [server.args(["--listen", "127.0.0.1:0"]), &mut load] {
            let is_load = command.get_program() == LOAD;
            let (code, output, errors) = outcome(command.args(["--engine", "uring"]));
            assert_eq!((code, output.as_str()), (Some(if is_load { 4 } else { 1 }), ""));
            assert!(errors.contains(said), "{errors}");
        }
    }
}

#[test]
fn a_script_can_tell_what_a_kernel_lacks_from_what_went_wrong() {
    let results = tempfile::tempdir().unwrap();
    let load = |flags: &[&str]| {
        let mut command = without_io_uring(LOAD, libc::ENOSYS);
        let short =
            ["--duration", "100ms", "--warmup", "0s", "--connections", "2", "--rate", "500", "--quiet"];
        outcome(command.args(short).args(flags).arg("--results").arg(results.path()))
    };
    for lacking in [
        &["--engine", "tokio-uring"][..],
        &["--engine", "epoll", "--server-engine", "uring"],
        &["--uring-features=-bundles"],
        &["--runs", "2", "--engine", "uring"],
    ] {
        let (code, _, errors) = load(lacking);
        assert_eq!(code, Some(4), "{lacking:?}: {errors}");
    }
    for (flags, expected) in
        [(&["--engine", "auto"][..], 0), (&["ws://127.0.0.1:1/"], 1), (&["--engine", "x"], 2)]
    {
        let (code, _, errors) = load(flags);
        assert_eq!(code, Some(expected), "{flags:?}: {errors}");
    }
}

#[test]
fn a_result_records_the_engines_of_both_ends_and_the_probe() {
    let results = tempfile::tempdir().unwrap();
    let short = ["--duration", "200ms", "--warmup", "0s", "--rate", "500", "-c", "2"];
    let (code, output, errors) = outcome(Command::new(LOAD).args(short).arg("--results").arg(results.path()));
    assert_eq!(code, Some(0), "{errors}");
    let path = output.lines().find_map(|line| line.strip_prefix("saved ")).unwrap();
    let result = store::load(path.as_ref()).unwrap();

    let probe = Probe::of_this_kernel();
    let chosen = Choice::Auto.choose(&probe, &Switches::default()).unwrap();
    let target = result.target;
    assert_eq!((target.engine.as_str(), &target.engine_reason), (chosen.kind.name(), &chosen.passed_over));
    assert_eq!(target.engine_features, chosen.features.clone());
    assert_eq!(target.server_engine.as_deref(), Some(chosen.kind.name()));
    assert_eq!(target.server_engine_features, Some(chosen.features.clone()));
    let recorded = result.io_uring.unwrap();
    assert_eq!(recorded.refusal, None);
    assert_eq!(recorded.features.len(), Feature::ALL.len());
    for feature in Feature::ALL {
        assert_eq!(recorded.features[feature.name()], probe.has(feature), "{feature}");
    }
}
