//! Frames that a server received, by opcode (RFC 6455, 5.2).
//!
//! Invariant: a frame is counted once, when it begins, whatever becomes of it. Deliberately absent: frames sent, which follow from these
//! and from what is counted of scenarios.

use crate::engine::counters;
use crate::ws::connection::Event;
use crate::ws::frame::Opcode;

counters! {
    /// How many of each.
    pub struct Frames {
        /// Text, whole or the first fragment.
        frames_text,
        /// Binary, whole or the first fragment.
        frames_binary,
        /// Further fragments.
        frames_continuation,
        /// Pings.
        frames_ping,
        /// Pongs, asked for or not.
        frames_pong,
        /// Close frames.
        frames_close,
    }
}

impl Frames {
    /// Counts a frame that begins with this event.
    #[inline]
    pub(super) fn on_event(&mut self, event: &Event) {
        *match event {
            Event::Data(data) if !data.chunk.first => return,
            Event::Data(data) => match data.chunk.opcode {
                Opcode::Text => &mut self.frames_text,
                Opcode::Binary => &mut self.frames_binary,
                _ => &mut self.frames_continuation,
            },
            Event::Ping { .. } => &mut self.frames_ping,
            Event::Pong { .. } => &mut self.frames_pong,
            Event::Close { .. } => &mut self.frames_close,
        } += 1;
    }

    /// Counts messages of one frame each, some of them text.
    #[inline]
    pub(super) fn on_whole_messages(&mut self, message_count: u64, text_count: u64) {
        self.frames_text += text_count;
        self.frames_binary += message_count - text_count;
    }
}
