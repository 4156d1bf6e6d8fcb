//! What goes over a connection in one direction, in words for people who debug the other end: a line for the HTTP head, then a
//! line a frame. Sans-I/O: bytes in, lines out.
//!
//! Invariants: the lines depend on the bytes alone, never on how they were split; a frame of any length is held in a preview's
//! few bytes; nothing in a line can drive a terminal, since what is no printable character is escaped.
//!
//! A frame is told when its header and its preview are there; a Close when it is whole. What is cut off before is told by
//! [`Frames::end`].
//!
//! Deliberately absent: judgement of messages (fragments, UTF-8, length, DEFLATE). A header that breaks the protocol is named, and
//! nothing is read behind it; whatever else fails a connection is told by the Close frame that fails it, which carries its reason.

use std::fmt::Write as _;

use super::frame::{self, Fault, Header, MAX_CONTROL_BYTES, MAX_HEADER_BYTES, Opcode, RSV1, Role};

/// How much of a payload is shown, in bytes.
const PREVIEW_BYTES: usize = 32;
/// How much of a head is kept, in bytes: it is another's to bound.
const HEAD_BYTES: usize = 2048;

// ----------------------------------------------------------------------------------------------------- the head

/// Collects a head, as far as it is told.
#[derive(Debug, Default)]
pub struct HeadText {
    kept: Vec<u8>,
    seen_bytes: usize,
    /// How much of CR LF CR LF the last bytes match.
    blank_line_bytes: usize,
}

impl HeadText {
    /// Takes bytes up to the head's end, and says how many; all, where it does not end in them.
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_whole() {
            self.blank_line_bytes = match bytes[taken] {
                byte if byte == b"\r\n\r\n"[self.blank_line_bytes] => self.blank_line_bytes + 1,
                b'\r' => 1,
                _ => 0,
            };
            taken += 1;
        }
        let room = HEAD_BYTES.saturating_sub(self.kept.len()).min(taken);
        self.kept.extend_from_slice(&bytes[..room]);
        self.seen_bytes += taken;
        taken
    }

    /// Its blank line has come.
    pub fn is_whole(&self) -> bool {
        self.blank_line_bytes == 4
    }

    fn first_line(&self) -> &[u8] {
        self.kept.split(|&byte| byte == b'\r').next().unwrap_or_default()
    }

    /// The value of the first header line of that name.
    fn value(&self, name: &str) -> Option<&[u8]> {
        self.kept.split(|&byte| byte == b'\n').find_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
        })
    }

    /// The request, whole or not.
    pub fn request(&self) -> String {
        let unless_whole = if self.is_whole() { "" } else { ", not whole" };
        let line = self.first_line();
        format!("request {}, {} bytes{unless_whole}", shown(line, line.len() > 200, 200), self.seen_bytes)
    }

    /// The answer accepts the request.
    pub fn accepts(&self) -> bool {
        self.first_line().split(|&byte| byte == b' ').nth(1) == Some(b"101")
    }

    /// The answer; `rest` is what came along with it.
    pub fn answer(&self, rest: &[u8]) -> String {
        let line = self.first_line();
        let status = shown(line, line.len() > 200, 200);
        if !self.accepts() {
            let body = shown(rest.trim_ascii_end(), rest.len() > 200, 200);
            let answered =
                if line.split(|&byte| byte == b' ').nth(1) == Some(b"200") { "answered" } else { "rejected" };
            return format!("{answered} {status}: {body}");
        }
        let mut text = format!("accepted {status}");
        for (name, what) in
            [("Sec-WebSocket-Protocol", "subprotocol"), ("Sec-WebSocket-Extensions", "extensions")]
        {
            if let Some(value) = self.value(name) {
                let _ = write!(text, ", {what} {}", shown(value, value.len() > 200, 200));
            }
        }
        text
    }

    /// The answer agrees to permessage-deflate.
    pub fn agrees_to_deflate(&self) -> bool {
        self.value("Sec-WebSocket-Extensions").is_some_and(|value| {
            let name = super::extensions::PERMESSAGE_DEFLATE.as_bytes();
            value.len() >= name.len() && value[..name.len()].eq_ignore_ascii_case(name)
        })
    }
}

// --------------------------------------------------------------------------------------------------- the frames

/// Tells what one end sends once the handshake is over.
#[derive(Debug)]
pub struct Frames {
    sender: Role,
    /// RSV1 means something.
    deflate: bool,
    header: [u8; MAX_HEADER_BYTES],
    header_bytes: usize,
    frame: Option<Frame>,
    /// Of the message under way.
    is_text: bool,
    is_compressed: bool,
    /// A header broke the protocol: what follows cannot be told apart.
    failed: bool,
}

/// A frame whose header has come.
#[derive(Debug)]
struct Frame {
    first: u8,
    header: Header,
    seen_bytes: u64,
    kept: Vec<u8>,
    wanted_bytes: usize,
    told: bool,
}

impl Frames {
    /// Of what `sender` sends; `deflate`: permessage-deflate was agreed to.
    pub fn new(sender: Role, deflate: bool) -> Self {
        Self {
            sender,
            deflate,
            header: [0; MAX_HEADER_BYTES],
            header_bytes: 0,
            frame: None,
            is_text: false,
            is_compressed: false,
            failed: false,
        }
    }

    /// Gives each line that `bytes` complete to `tell`.
    pub fn on_bytes(&mut self, mut bytes: &[u8], mut tell: impl FnMut(&str)) {
        while !bytes.is_empty() && !self.failed {
            let taken = match &mut self.frame {
                None => {
                    if let Some(line) = self.on_header_byte(bytes[0]) {
                        tell(&line);
                    }
                    1
                }
                Some(frame) => frame.take(bytes),
            };
            bytes = &bytes[taken..];
            if let Some(frame) = &mut self.frame {
                if !frame.told && frame.kept.len() == frame.wanted_bytes {
                    frame.told = true;
                    tell(&frame.line(self.is_text, self.is_compressed));
                }
                if frame.seen_bytes == frame.header.payload_bytes {
                    self.frame = None;
                }
            }
        }
    }

    /// Nothing more will come: what was cut off, if anything was.
    pub fn end(&self) -> Option<String> {
        if self.failed {
            return None;
        }
        match &self.frame {
            Some(frame) => {
                let line = frame.line(self.is_text, self.is_compressed);
                Some(format!("{line}: cut off after {} of its bytes", frame.seen_bytes))
            }
            None if self.header_bytes > 0 => {
                Some(format!("header {}: cut off", hex(&self.header[..self.header_bytes])))
            }
            None => None,
        }
    }

    /// A line where the header is none.
    fn on_header_byte(&mut self, byte: u8) -> Option<String> {
        self.header[self.header_bytes] = byte;
        self.header_bytes += 1;
        let first = self.header[0];
        let mut header = self.header;
        if self.deflate && matches!(first & 0x0F, 0x1 | 0x2) {
            header[0] &= !RSV1;
        }
        match frame::parse(&header[..self.header_bytes], self.sender) {
            Ok(None) => None,
            Ok(Some((header, _))) => {
                self.header_bytes = 0;
                if matches!(header.opcode, Opcode::Text | Opcode::Binary) {
                    self.is_text = header.opcode == Opcode::Text;
                    self.is_compressed = first & RSV1 != 0;
                }
                self.frame = Some(Frame::new(first, header));
                None
            }
            Err(fault) => {
                self.failed = true;
                Some(self.fault(fault))
            }
        }
    }

    fn fault(&self, fault: Fault) -> String {
        let (first, second) = (self.header[0], self.header[1]);
        format!("{}: fault: {fault}", flags(first, second & 0x80 != 0))
    }
}

impl Frame {
    fn new(first: u8, header: Header) -> Self {
        let most = if header.opcode == Opcode::Close { MAX_CONTROL_BYTES } else { PREVIEW_BYTES };
        let wanted_bytes = header.payload_bytes.min(most as u64) as usize;
        Self { first, header, seen_bytes: 0, kept: Vec::new(), wanted_bytes, told: false }
    }

    fn take(&mut self, bytes: &[u8]) -> usize {
        let left = self.header.payload_bytes - self.seen_bytes;
        let taken = left.min(bytes.len() as u64) as usize;
        let room = (self.wanted_bytes - self.kept.len()).min(taken);
        let key = self.header.mask.map_or([0; 4], |mask| mask.to_bytes());
        for &byte in &bytes[..room] {
            self.kept.push(byte ^ key[self.kept.len() % 4]);
        }
        self.seen_bytes += taken as u64;
        taken
    }

    fn line(&self, message_is_text: bool, message_is_compressed: bool) -> String {
        let Header { opcode, mask, payload_bytes, .. } = self.header;
        let mut line = format!("{} {payload_bytes} bytes", flags(self.first, mask.is_some()));
        let cut = payload_bytes > self.kept.len() as u64;
        let is_text = match opcode {
            Opcode::Text | Opcode::Continuation => message_is_text && !message_is_compressed,
            _ => false,
        };
        let payload = match (opcode, &self.kept[..]) {
            (_, []) => return line,
            (Opcode::Close, [high, low, reason @ ..]) => {
                let code = u16::from_be_bytes([*high, *low]);
                if reason.is_empty() {
                    code.to_string()
                } else {
                    format!("{code} {}", shown(reason, cut, 125))
                }
            }
            (_, bytes) if is_text => shown(bytes, cut, PREVIEW_BYTES),
            (_, bytes) => hex(bytes) + if cut { "…" } else { "" },
        };
        let _ = write!(line, " {payload}");
        line
    }
}

/// Opcode, FIN, reserved bits and masking, in this order.
fn flags(first: u8, masked: bool) -> String {
    let mut text = match first & 0x0F {
        0x0 => "continuation".to_owned(),
        0x1 => "text".to_owned(),
        0x2 => "binary".to_owned(),
        0x8 => "close".to_owned(),
        0x9 => "ping".to_owned(),
        0xA => "pong".to_owned(),
        other => format!("opcode {other:#x}"),
    };
    for (bit, name) in [(0x80, " FIN"), (RSV1, " RSV1"), (0x20, " RSV2"), (0x10, " RSV3")] {
        if first & bit != 0 {
            text += name;
        }
    }
    text + if masked { " masked" } else { " unmasked" }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// At most `bytes_max` of `bytes` in quotes, as a string literal would have it. `cut`: they are the beginning of more.
fn shown(bytes: &[u8], cut: bool, bytes_max: usize) -> String {
    let mut bytes = &bytes[..bytes.len().min(bytes_max)];
    if cut
        && let Err(error) = std::str::from_utf8(bytes)
        && error.error_len().is_none()
    {
        // The rest of its last character is what was cut.
        bytes = &bytes[..error.valid_up_to()];
    }
    let mut text = "\"".to_owned();
    for chunk in bytes.utf8_chunks() {
        text.extend(chunk.valid().chars().flat_map(char::escape_debug));
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text + if cut { "…\"" } else { "\"" }
}

#[cfg(test)]
mod tests;
