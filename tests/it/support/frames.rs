//! An HTTP/2 connection that sends literal frames, whatever a library would think of them.

use super::{Proxy, Raw};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub struct Frames {
    raw: Raw,
    /// What came of response bodies, over all streams.
    pub body: Vec<u8>,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    Status(u16),
    /// `RST_STREAM`, with its error code.
    Reset(u32),
    /// GOAWAY, with its error code.
    Goaway(u32),
    Closed,
}

impl Ended {
    /// Neither a success nor a redirect.
    pub fn is_refusal(self) -> bool {
        match self {
            Self::Status(status) => status >= 400,
            Self::Reset(_) | Self::Goaway(_) | Self::Closed => true,
        }
    }
}

impl Frames {
    pub async fn connect(proxy: &Proxy) -> Self {
        Self::connect_with(proxy, &[]).await
    }

    /// `settings` are identifier and value of further entries in our SETTINGS.
    pub async fn connect_with(proxy: &Proxy, settings: &[(u16, u32)]) -> Self {
        let raw = Raw::connect(proxy.addr, &[b"h2"]).await;
        let mut frames = Self {
            raw,
            body: Vec::new(),
        };
        frames.raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        // No dynamic table, so that a status can be read without remembering what came before.
        let all = [(1, 0)].iter().chain(settings);
        let payload = all.flat_map(|(id, value): &(u16, u32)| {
            id.to_be_bytes().into_iter().chain(value.to_be_bytes())
        });
        let payload: Vec<u8> = payload.collect();
        frames.frame(SETTINGS, 0, 0, &payload).await;
        frames
    }

    /// Literal bytes of one frame.
    pub async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.raw.send(frame(kind, flags, stream, payload)).await;
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.raw.send(bytes).await;
    }

    pub async fn headers(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) {
        let flags = if end {
            END_HEADERS | END_STREAM
        } else {
            END_HEADERS
        };
        self.frame(HEADERS, flags, stream, &literal(fields)).await;
    }

    pub async fn data(&mut self, stream: u32, bytes: &[u8], end: bool) {
        self.frame(DATA, u8::from(end), stream, bytes).await;
    }

    /// A request for the host of the certificate, with further fields.
    pub async fn get(&mut self, stream: u32, path: &str, fields: &[(&str, &str)]) {
        let mut all = pseudo("GET", path).to_vec();
        all.extend_from_slice(fields);
        self.headers(stream, &all, true).await;
    }

    /// The status of a stream's response once it has ended, or what else happened to it.
    pub async fn ended(&mut self, stream: u32) -> Ended {
        let mut status = None;
        loop {
            let Some((kind, flags, on, payload)) = self.next().await else {
                return Ended::Closed;
            };
            let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
            match kind {
                GOAWAY => return Ended::Goaway(number(&payload[4..8])),
                RST_STREAM if on == stream => return Ended::Reset(number(&payload)),
                HEADERS if on == stream && status.is_none() => {
                    assert_eq!(flags & END_HEADERS, END_HEADERS);
                    status = Some(read_status(&payload));
                }
                DATA => self.body.extend_from_slice(&payload),
                _ => {}
            }
            if on == stream
                && flags & END_STREAM != 0
                && matches!(kind, HEADERS | DATA)
                && let Some(status) = status
            {
                return Ended::Status(status);
            }
        }
    }

    /// The next frame; settings and pings are answered. `None`: the connection has ended.
    async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            let head = self.raw.next(9).await?;
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
            let payload = self.raw.next(len.try_into().unwrap()).await?;
            match (head[3], head[4]) {
                (SETTINGS, flags) if flags & ACK == 0 => {
                    self.frame(SETTINGS, ACK, 0, &[]).await;
                }
                (PING, flags) if flags & ACK == 0 => self.frame(PING, ACK, 0, &payload).await,
                (kind, flags) => return Some((kind, flags, stream, payload)),
            }
        }
    }
}

/// Pseudo-header fields of an ordinary request.
pub fn pseudo<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [
        (":method", method),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
    ]
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![len[1], len[2], len[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A field block (RFC 7541 section 6.2.2): every field spelt out, none remembered.
pub fn literal(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            push_len(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn push_len(block: &mut Vec<u8>, len: usize) {
    let Some(mut rest) = len.checked_sub(127) else {
        return block.push(u8::try_from(len).unwrap());
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// `:status` comes first (RFC 9113 section 8.3): from the static table, or spelt out.
fn read_status(block: &[u8]) -> u16 {
    let start = block
        .iter()
        .position(|byte| byte & 0xe0 != 0x20)
        .expect("a field");
    let block = &block[start..];
    match block[0] {
        indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        0x08 | 0x18 | 0x48 if block[1] & 0x80 == 0 => {
            std::str::from_utf8(&block[2..5]).unwrap().parse().unwrap()
        }
        0x08 | 0x18 | 0x48 => {
            let len = usize::from(block[1] & 0x7f);
            digits(&block[2..2 + len])
        }
        other => panic!("no status begins with {other:#x}"),
    }
}

/// Three digits in Huffman code: `0` to `2` have five bits, the others six.
fn digits(bytes: &[u8]) -> u16 {
    let mut bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    let mut number = 0;
    for _ in 0..3 {
        let five = (0..5).fold(0, |code, _| code << 1 | bits.next().unwrap());
        let digit = match five {
            0..=2 => five,
            _ => (five << 1 | bits.next().unwrap()) - 0b01_1001 + 3,
        };
        number = number * 10 + digit;
    }
    number
}
