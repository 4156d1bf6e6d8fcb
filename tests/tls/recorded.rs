//! What a run's result says of who sealed and opened its records: what happened at a server of the run's own, and nothing of
//! any other.

use clap::Parser;
use ringsock::engine::{Probe, ktls};
use ringsock::load::{Options, Plan, Run, Verbosity};
use ringsock::measure::result::{KernelTls, RunResult};
use ringsock::measure::verdict::Level;
use ringsock::server::Server;

const CONNECTIONS: u64 = 3;

fn plan(flags: &[&str]) -> Plan {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        options: Options,
    }
    let short = ["load", "-c", "3", "--rate", "300", "--duration", "150ms", "--warmup", "50ms"];
    let flags = Flags::parse_from([&short[..], flags].concat());
    flags.options.validate(&Probe::of_this_kernel()).unwrap()
}

fn run(plan: Plan) -> RunResult {
    let result = Run::new(plan).execute(Vec::new(), Verbosity::Quiet).unwrap();
    let accounting = &result.accounting;
    assert!(accounting.answered > 0 && accounting.errors.is_empty(), "{accounting:?}");
    result
}

fn kernel(result: &RunResult) -> Option<KernelTls> {
    result.target.tls.as_ref().unwrap().kernel
}

fn judged(result: &RunResult) -> Option<Level> {
    let findings = &result.verdict.as_ref().unwrap().findings;
    findings.iter().find(|finding| finding.check == "kernel-tls").map(|finding| finding.level)
}

#[test]
fn what_the_kernel_did_is_recorded_and_not_what_was_asked_of_it() {
    let is_able = ktls::survey(&Probe::of_this_kernel().release).is_ok();
    for engine in ["uring", "epoll"] {
        let mut plan = plan(&["--tls", "--server-engine", engine]);
        // As --ktls has it; where this kernel takes no keys, as if it had when the run began.
        plan.server_engine.kernel_tls = true;
        let result = run(plan);
        let found = kernel(&result).unwrap();
        assert_eq!((found.asked, found.connections), (true, CONNECTIONS), "{engine}");
        let said = result.target.tls.as_ref().unwrap().to_string();
        if is_able {
            assert!(found.handed_over > 0, "{engine}: {found:?}");
            assert!(said.contains("records by the kernel"), "{said}");
        } else {
            assert_eq!((found.handed_over, found.refused, found.missed), (0, CONNECTIONS, 0), "{engine}");
            assert!(!said.contains("kernel"), "{said}");
            assert_eq!(judged(&result), Some(Level::Suspect), "{engine}");
        }
    }
}

#[test]
fn of_a_server_that_was_not_asked_it_is_known_that_the_kernel_did_nothing() {
    let result = run(plan(&["--tls"]));
    let nothing = KernelTls { connections: CONNECTIONS, ..KernelTls::default() };
    assert_eq!((kernel(&result), judged(&result)), (Some(nothing), None));
}

#[test]
fn of_a_server_elsewhere_nothing_is_claimed() {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        server: ringsock::server::Options,
    }
    let flags = ["server", "--listen", "127.0.0.1:0", "--threads", "1", "--tls-self-signed"];
    let server = Flags::parse_from(flags).server.validate(&Probe::of_this_kernel()).unwrap();
    let server = Server::start(&server).unwrap();
    let result = run(plan(&["--insecure", &format!("wss://{}/", server.address())]));
    assert_eq!((kernel(&result), judged(&result)), (None, None));
    server.drain(super::peer::PATIENCE).unwrap();
}
