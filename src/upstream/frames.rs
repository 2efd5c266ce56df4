//! Where frames of a WebSocket end (RFC 6455 section 5.2): their headers are counted off as they pass, and nothing else of
//! them is looked at. What is no WebSocket looks like frames too, of any length.

/// The opcode of a close frame.
const CLOSE: u8 = 8;

/// A place in a stream of frames: where the next byte belongs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frames {
    at: At,
    opcode: u8,
    /// Bytes of the header that are still to come: of the long length, and of the mask.
    length_left: u8,
    mask_left: u8,
    /// Of the payload: how long it is, then how much of it is still to come.
    payload: u64,
    has_closed: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum At {
    #[default]
    Start,
    Length,
    Header,
    Payload,
}

impl Frames {
    /// Whether the next byte begins a frame.
    pub(super) fn is_between(&self) -> bool {
        self.at == At::Start
    }

    /// Whether a close frame has passed, after which no other may come.
    pub(super) fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// These bytes have passed.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let passed = self.pass_one(bytes);
            bytes = bytes.get(passed..).unwrap_or_default();
        }
    }

    /// As [`Frames::pass`], up to the end of a frame at most; tells how many bytes that are.
    pub(super) fn pass_one(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while let Some(rest) = bytes.get(passed..).filter(|rest| !rest.is_empty()) {
            passed += self.step(rest);
            if self.is_between() {
                break;
            }
        }
        passed
    }

    /// Takes one byte of a header, or as much of a payload as there is.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let Some(&byte) = bytes.first() else { return 0 };
        match self.at {
            At::Start => {
                self.opcode = byte & 0x0f;
                self.at = At::Length;
            }
            At::Length => {
                self.mask_left = if byte & 0x80 == 0 { 0 } else { 4 };
                (self.length_left, self.payload) = match byte & 0x7f {
                    126 => (2, 0),
                    127 => (8, 0),
                    short => (0, u64::from(short)),
                };
                self.end_header();
            }
            At::Header if self.length_left > 0 => {
                self.payload = self.payload << 8 | u64::from(byte);
                self.length_left -= 1;
                self.end_header();
            }
            At::Header => {
                self.mask_left = self.mask_left.saturating_sub(1);
                self.end_header();
            }
            At::Payload => {
                let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let taken = len.min(self.payload);
                self.payload -= taken;
                self.end_payload();
                return usize::try_from(taken).unwrap_or(bytes.len());
            }
        }
        1
    }

    fn end_header(&mut self) {
        if self.length_left > 0 || self.mask_left > 0 {
            self.at = At::Header;
        } else {
            self.at = At::Payload;
            self.end_payload();
        }
    }

    fn end_payload(&mut self) {
        if self.payload == 0 {
            self.has_closed |= self.opcode == CLOSE;
            self.at = At::Start;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, masked: bool, len: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let (two_bytes, eight_bytes) = (126, 127);
        let mut frame = vec![0x80 | opcode];
        match len {
            0..126 => frame.push(mask | u8::try_from(len).unwrap()),
            126..0x1_0000 => {
                frame.push(mask | two_bytes);
                frame.extend(u16::try_from(len).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | eight_bytes);
                frame.extend(u64::try_from(len).unwrap().to_be_bytes());
            }
        }
        if masked {
            frame.extend([0xff; 4]);
        }
        frame.resize(frame.len() + len, 0x88);
        frame
    }

    #[test]
    fn every_form_of_length_is_read() {
        for masked in [false, true] {
            for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
                let bytes = frame(2, masked, len);
                let mut frames = Frames::default();
                frames.pass(&bytes[..bytes.len() - 1]);
                assert!(!frames.is_between(), "{masked} {len}");
                frames.pass(&bytes[bytes.len() - 1..]);
                assert!(frames.is_between(), "{masked} {len}");
            }
        }
    }

    #[test]
    fn a_close_frame_is_the_last() {
        let mut frames = Frames::default();
        frames.pass(&frame(1, false, 10));
        frames.pass(&frame(9, false, 0));
        frames.pass(&frame(8, false, 2)[..3]);
        assert!(!frames.has_closed());
        frames.pass(&[0]);
        assert!(frames.has_closed() && frames.is_between());
    }

    #[test]
    fn a_length_beyond_all_measure_is_only_long() {
        let mut frames = Frames::default();
        frames.pass(&[0x82, 127]);
        frames.pass(&[0xff; 8]);
        frames.pass(&[0; 4096]);
        assert!(!frames.is_between());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_are_cut(
            lens in prop::collection::vec((0..3_u8, any::<bool>(), 0..300_usize), 1..8),
            cuts in prop::collection::vec(1..200_usize, 1..20),
        ) {
            let all: Vec<Vec<u8>> = lens.iter().map(|&(op, masked, len)| frame(op, masked, len)).collect();
            let bytes = all.concat();
            let mut ends = all.iter().scan(0, |at, frame| { *at += frame.len(); Some(*at) });
            let mut one_by_one = Frames::default();
            let mut at = 0;
            while at < bytes.len() {
                at += one_by_one.pass_one(&bytes[at..]);
                prop_assert_eq!(Some(at), ends.next());
            }
            let (mut cut, mut at) = (Frames::default(), 0);
            for len in cuts.into_iter().cycle() {
                let end = bytes.len().min(at + len);
                cut.pass(&bytes[at..end]);
                at = end;
                if at == bytes.len() { break; }
            }
            prop_assert!(cut.is_between());
        }

        #[test]
        fn anything_may_come(bytes: Vec<u8>) {
            let mut frames = Frames::default();
            frames.pass(&bytes);
            let mut taken = 0;
            while taken < bytes.len() {
                let passed = Frames::default().pass_one(&bytes[taken..]);
                prop_assert!(passed > 0);
                taken += passed;
            }
        }
    }
}
