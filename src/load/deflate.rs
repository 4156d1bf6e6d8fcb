//! Compression as a result keeps it.

use crate::measure::result::{Deflate, Wire};
use crate::scenario::deflate::{DeflateParameters, DeflateSettings};

/// What the server agreed to, how we compressed, and what was counted.
pub(super) fn record_of(settings: &DeflateSettings, agreed: &DeflateParameters, wire: Wire) -> Deflate {
    Deflate {
        server_no_context_takeover: agreed.server_no_context_takeover,
        client_no_context_takeover: agreed.client_no_context_takeover,
        server_max_window_bits: agreed.server_max_window_bits,
        client_max_window_bits: agreed.client_max_window_bits,
        generator_level: settings.compression.level,
        generator_threshold_bytes: settings.compression.threshold_bytes as u64,
        wire: Some(wire),
    }
}
