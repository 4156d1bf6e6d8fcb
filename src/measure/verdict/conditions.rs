//! Checks of the conditions that a run goes by: that what was agreed on or asked for below its messages was also done.
//!
//! Invariant: only where nothing, or not all, of it was done does a check fail; how well it was done is the server's affair. A run
//! by the name of compression or of the kernel's TLS is compared with others of that name, and without the thing itself
//! its numbers are of something else.
//! Deliberately absent: what was agreed on. That is what the run was made with, and keys tell such runs apart.

use super::{Case, Found, suspect, trusted};
use crate::measure::result::{Carried, KernelTls};
use crate::measure::units::{count, counted, percent, size};

/// Whether messages were compressed, where that was agreed on.
pub(super) fn compression(case: &Case) -> Found {
    let deflate = case.result.target.deflate?;
    let wire = deflate.wire.filter(|wire| wire.answers.messages > 0)?;
    let (threshold_bytes, payload_bytes) =
        (deflate.generator_threshold_bytes, case.result.plan.payload_bytes);
    let too_short = format!(
        "messages of {} are shorter than --deflate-threshold, {}: send longer ones, or lower it",
        size(payload_bytes),
        size(threshold_bytes)
    );
    let share = |carried: &Carried| percent(carried.compressed as f64 / carried.messages.max(1) as f64);
    match (wire.sent.compressed, wire.answers.compressed) {
        (0, 0) if payload_bytes < threshold_bytes => suspect(format!(
            "nothing was compressed, so these are not the figures of compression: {too_short}"
        )),
        (_, 0) => suspect(format!(
            "the server agreed to permessage-deflate and compressed none of {}: these are the figures of plain ones; \
             have it compress messages of {}, or leave out --deflate",
            counted(wire.answers.messages, "answer"),
            size(payload_bytes)
        )),
        (0, _) => suspect(format!("no message was sent compressed: {too_short}")),
        _ => trusted(format!(
            "{} of the answers and {} of the messages were compressed",
            share(&wire.answers),
            share(&wire.sent)
        )),
    }
}

/// Whether the server's connections were handed to the kernel's TLS, where it was asked to.
pub(super) fn kernel_tls(case: &Case) -> Found {
    let kernel = case.result.target.tls.as_ref()?.kernel?;
    let KernelTls { asked, connections, handed_over, refused, missed } = kernel;
    if !asked || connections == 0 {
        return None;
    }
    if handed_over >= connections {
        return trusted(format!("the kernel's TLS had all of {}", counted(connections, "connection")));
    }
    let whose = if handed_over == 0 { "of the server's own records" } else { "of both kinds of records" };
    suspect(format!(
        "--ktls: the kernel's TLS had {} of {} ({} refused, {} never quiet enough), so these are the figures {whose}; take \
         a --tls-cipher that the kernel has and a longer --warmup, or leave out --ktls",
        count(handed_over),
        counted(connections, "connection"),
        count(refused),
        count(missed)
    ))
}
