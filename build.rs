//! What the binary should know of its own build: compiler, target, and the git revision if there is one.
//!
//! Invariant: the build never fails for want of git. It deliberately asks git only when this package is the
//! top of the checkout: unpacked inside somebody else's repository, that repository's revision would be a lie.

use std::path::Path;
use std::process::Command;

/// What decides the binary; also what makes the revision "dirty" when it differs from the commit.
const SOURCES: [&str; 4] = ["src", "build.rs", "Cargo.toml", "Cargo.lock"];

fn main() {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    let variable = |name| std::env::var(name).unwrap_or_default();
    if let Some(rustc) = output(&variable("RUSTC"), &["--version"]) {
        println!("cargo::rustc-env=RINGSOCK_RUSTC={rustc}");
    }
    println!("cargo::rustc-env=RINGSOCK_TARGET={}", variable("TARGET"));
    println!("cargo::rustc-env=RINGSOCK_TARGET_FEATURES={}", variable("CARGO_CFG_TARGET_FEATURE"));
    println!("cargo::rustc-env=RINGSOCK_PROFILE={}", variable("PROFILE"));
    if let Some(revision) = git_revision() {
        println!("cargo::rustc-env=RINGSOCK_REVISION={revision}");
    }
}

/// Twelve hex digits, with `-dirty` if the sources differ from that commit; `None` outside a checkout.
fn git_revision() -> Option<String> {
    let prefix = output("git", &["rev-parse", "--show-prefix"])?;
    if !prefix.is_empty() {
        return None;
    }
    let revision = output("git", &["rev-parse", "--short=12", "HEAD"])?;
    // The reflog changes with every commit and checkout; HEAD itself only when the branch changes.
    let reflog = output("git", &["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&reflog).exists() {
        println!("cargo::rerun-if-changed={reflog}");
    }
    let mut diff = vec!["diff", "--quiet", "HEAD", "--"];
    diff.extend(SOURCES);
    let clean = Command::new("git").args(diff).status().is_ok_and(|status| status.success());
    Some(if clean { revision } else { format!("{revision}-dirty") })
}

/// Trimmed standard output of a command that succeeded.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
