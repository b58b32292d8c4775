//! Packets of the GDB remote protocol: `$body#checksum`, acknowledgements, and the interrupt byte.
//!
//! Works on bytes and does no I/O. Whatever arrives, no more than [`LARGEST`] bytes are held: what
//! is longer is thrown away up to its end and reported as one event.

/// Bytes of the longest packet understood, which is what clients are told.
pub const LARGEST: usize = 1 << 16;

/// What the bytes of a client amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet, with escapes undone.
    Packet(Vec<u8>),
    /// A packet whose checksum is wrong.
    Corrupt,
    /// A packet longer than [`LARGEST`].
    TooLong,
    /// `+`.
    Ack,
    /// `-`.
    Nack,
    /// The byte 3, outside of a packet: the user pressed Ctrl-C.
    Interrupt,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Between,
    Body,
    Escaped,
    /// The checksum's first digit comes.
    Sum,
    /// Its second digit; the first was this one.
    SumEnd(u8),
}

/// Makes events of bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    body: Vec<u8>,
    sum: u8,
    over: bool,
}

impl Decoder {
    /// Takes one byte.
    pub fn push(&mut self, byte: u8) -> Option<Event> {
        match self.state {
            State::Between => match byte {
                b'$' => {
                    self.begin();
                    None
                }
                b'+' => Some(Event::Ack),
                b'-' => Some(Event::Nack),
                3 => Some(Event::Interrupt),
                // Line noise.
                _ => None,
            },
            State::Body if byte == b'#' => {
                self.state = State::Sum;
                None
            }
            // A packet that was cut short, and the next one.
            State::Body if byte == b'$' => {
                self.begin();
                None
            }
            State::Body => {
                self.sum = self.sum.wrapping_add(byte);
                if byte == b'}' {
                    self.state = State::Escaped;
                } else {
                    self.keep(byte);
                }
                None
            }
            State::Escaped => {
                self.sum = self.sum.wrapping_add(byte);
                self.state = State::Body;
                self.keep(byte ^ 0x20);
                None
            }
            State::Sum => {
                self.state = State::SumEnd(byte);
                None
            }
            State::SumEnd(first) => {
                self.state = State::Between;
                let body = std::mem::take(&mut self.body);
                let stated = digit(first).zip(digit(byte)).map(|(a, b)| a << 4 | b);
                Some(match stated {
                    _ if self.over => Event::TooLong,
                    Some(stated) if stated == self.sum => Event::Packet(body),
                    _ => Event::Corrupt,
                })
            }
        }
    }

    fn begin(&mut self) {
        self.state = State::Body;
        self.body.clear();
        self.sum = 0;
        self.over = false;
    }

    fn keep(&mut self, byte: u8) {
        if self.body.len() < LARGEST {
            self.body.push(byte);
        } else {
            self.over = true;
        }
    }
}

/// A reply as it goes over the wire. `body` has its escapes already.
pub fn frame(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 4);
    out.push(b'$');
    out.extend_from_slice(body);
    let sum = body.iter().fold(0u8, |sum, b| sum.wrapping_add(*b));
    out.push(b'#');
    push_hex(&mut out, &[sum]);
    out
}

/// Appends bytes with the protocol's escapes.
pub fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        if matches!(byte, b'#' | b'$' | b'}' | b'*') {
            out.push(b'}');
            out.push(byte ^ 0x20);
        } else {
            out.push(byte);
        }
    }
}

/// Appends bytes as lower-case hexadecimal digits.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for &byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len() * 2);
    push_hex(&mut out, bytes);
    out.into_iter().map(char::from).collect()
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The bytes that pairs of hexadecimal digits stand for; `None` if they are none.
pub fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

/// A hexadecimal number of at most 64 bits.
pub fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |n, &byte| {
        let digit = u64::from(digit(byte)?);
        n.checked_mul(16)?.checked_add(digit)
    })
}

/// The two parts around the first `mark`.
pub fn split(text: &[u8], mark: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == mark)?;
    Some((&text[..at], &text[at + 1..]))
}

/// `A,B` in hexadecimal.
pub fn pair(text: &[u8]) -> Option<(u64, u64)> {
    let (a, b) = split(text, b',')?;
    Some((number(a)?, number(b)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(bytes: &[u8]) -> Vec<Event> {
        let mut decoder = Decoder::default();
        bytes.iter().filter_map(|b| decoder.push(*b)).collect()
    }

    #[test]
    fn packets_come_through() {
        assert_eq!(
            events(b"+$g#67\x03-$OK#9a"),
            [
                Event::Ack,
                Event::Packet(b"g".to_vec()),
                Event::Interrupt,
                Event::Nack,
                Event::Packet(b"OK".to_vec())
            ]
        );
        assert_eq!(events(b"$g#68$g#6"), [Event::Corrupt]);
        assert_eq!(events(b"$g#zz"), [Event::Corrupt]);
        assert_eq!(events(b"$half$g#67"), [Event::Packet(b"g".to_vec())]);
        assert_eq!(events(b"noise"), []);
    }

    #[test]
    fn what_is_too_long_is_one_event() {
        let mut bytes = vec![b'$'];
        bytes.extend(std::iter::repeat_n(b'm', LARGEST * 3));
        bytes.extend(b"#00$g#67");
        let mut decoder = Decoder::default();
        let mut held = 0;
        let found: Vec<Event> = bytes
            .iter()
            .filter_map(|b| {
                let event = decoder.push(*b);
                held = held.max(decoder.body.len());
                event
            })
            .collect();
        assert_eq!(found, [Event::TooLong, Event::Packet(b"g".to_vec())]);
        assert_eq!(held, LARGEST);
    }

    #[test]
    fn numbers() {
        assert_eq!(number(b"ffffffffffffffff"), Some(u64::MAX));
        assert_eq!(number(b"10000000000000000"), None);
        assert_eq!(number(b""), None);
        assert_eq!(number(b"-1"), None);
        assert_eq!(pair(b"10,2"), Some((16, 2)));
        assert_eq!(pair(b"10"), None);
        assert_eq!(unhex(b"0a1"), None);
        assert_eq!(unhex(b"0aFf"), Some(vec![10, 255]));
    }

    proptest! {
        #[test]
        fn escaped_bytes_come_back(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut escaped = Vec::new();
            push_escaped(&mut escaped, &body);
            prop_assert_eq!(events(&frame(&escaped)), [Event::Packet(body)]);
        }

        #[test]
        fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = events(&bytes);
        }
    }
}
