//! Compression as a result keeps it.

use crate::measure::result::Deflate;
use crate::scenario::deflate::{DeflateParameters, DeflateSettings};

/// What was in effect: what the server agreed to, and how we compressed.
pub(super) fn record_of(settings: &DeflateSettings, agreed: &DeflateParameters) -> Deflate {
    Deflate {
        server_no_context_takeover: agreed.server_no_context_takeover,
        client_no_context_takeover: agreed.client_no_context_takeover,
        server_max_window_bits: agreed.server_max_window_bits,
        client_max_window_bits: agreed.client_max_window_bits,
        level: settings.compression.level,
        threshold_bytes: settings.compression.threshold_bytes as u64,
    }
}
