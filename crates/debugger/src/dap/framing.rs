//! Messages in a stream of bytes: a header, an empty line, JSON.
//!
//! The stream comes from whoever started us or connected, so both parts have a limit, and a header
//! that does not make sense ends the session: nothing says where the next message would begin.

/// Most bytes of a header.
pub const LONGEST_HEADER: usize = 4 << 10;
/// Most bytes of a message's body. No request comes near it.
pub const LONGEST_BODY: usize = 16 << 20;

/// A stream that is not one of messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// No end of the header came.
    #[error(
        "the header of a message is longer than {LONGEST_HEADER} bytes; send Content-Length: N and an empty line"
    )]
    LongHeader,
    /// The header has no length.
    #[error("the header of a message has no Content-Length")]
    NoLength,
    /// The length is no number, or there are two.
    #[error("Content-Length is {0:?}; it must be one number of bytes")]
    Length(String),
    /// The length is out of reason.
    #[error("Content-Length is {0}, the longest message taken is {LONGEST_BODY} bytes")]
    LongBody(u64),
}

/// Cuts a stream into messages. Feed it with [`Framer::push`], ask with [`Framer::next_message`].
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were handed out.
    taken: usize,
    /// Bytes of the body that is awaited, once its header was read.
    body: Option<usize>,
    /// How far the end of a header was looked for.
    searched: usize,
}

impl Framer {
    /// More bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.searched = self.searched.saturating_sub(self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether the stream ends between two messages.
    pub fn is_empty(&self) -> bool {
        self.body.is_none() && self.taken == self.buffer.len()
    }

    /// The body of the next message, if all of it has come.
    ///
    /// # Errors
    /// If the stream is not one of messages. It says so again if asked again.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, FramingError> {
        let body = match self.body {
            Some(body) => body,
            None => match self.header()? {
                Some(body) => body,
                None => return Ok(None),
            },
        };
        self.body = Some(body);
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let Some(message) = rest.get(..body) else {
            return Ok(None);
        };
        let message = message.to_vec();
        self.taken += body;
        self.searched = self.taken;
        self.body = None;
        Ok(Some(message))
    }

    /// Reads a header, if all of it has come, and returns the length it states.
    fn header(&mut self) -> Result<Option<usize>, FramingError> {
        const END: &[u8] = b"\r\n\r\n";
        let from = self.searched.max(self.taken);
        let unread = self.buffer.get(from..).unwrap_or_default();
        let Some(at) = unread.windows(END.len()).position(|w| w == END) else {
            let length = self.buffer.len() - self.taken;
            if length > LONGEST_HEADER {
                return Err(FramingError::LongHeader);
            }
            self.searched = self
                .buffer
                .len()
                .saturating_sub(END.len() - 1)
                .max(self.taken);
            return Ok(None);
        };
        let header = self.buffer.get(self.taken..from + at).unwrap_or_default();
        if header.len() > LONGEST_HEADER {
            return Err(FramingError::LongHeader);
        }
        let length = stated(header)?;
        self.taken = from + at + END.len();
        Ok(Some(length))
    }
}

/// The Content-Length of a header. Other fields are allowed and mean nothing.
fn stated(header: &[u8]) -> Result<usize, FramingError> {
    let text = String::from_utf8_lossy(header);
    let mut found = None;
    for line in text.split("\r\n") {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if !name.trim().eq_ignore_ascii_case("content-length") {
            continue;
        }
        let value = value.trim();
        let wrong = || FramingError::Length(value.chars().take(40).collect());
        let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        if found.is_some() || !digits {
            return Err(wrong());
        }
        let length: u64 = value.parse().map_err(|_| wrong())?;
        found = Some(length);
    }
    let length = found.ok_or(FramingError::NoLength)?;
    match usize::try_from(length) {
        Ok(n) if n <= LONGEST_BODY => Ok(n),
        _ => Err(FramingError::LongBody(length)),
    }
}

/// A message with its header.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(bytes: &[u8]) -> Result<Option<Vec<u8>>, FramingError> {
        let mut framer = Framer::default();
        framer.push(bytes);
        framer.next_message()
    }

    #[test]
    fn headers() {
        assert_eq!(
            one(b"Content-Length: 2\r\n\r\n{}"),
            Ok(Some(b"{}".to_vec()))
        );
        assert_eq!(
            one(b"Content-Type: x\r\ncontent-length:  2 \r\n\r\n{}rest"),
            Ok(Some(b"{}".to_vec()))
        );
        assert_eq!(one(b"Content-Length: 0\r\n\r\n"), Ok(Some(Vec::new())));
        assert_eq!(one(b"Content-Length: 3\r\n\r\n{}"), Ok(None));
        assert_eq!(one(b"Content-Length: 3"), Ok(None));
        assert_eq!(one(b"Hello\r\n\r\n"), Err(FramingError::NoLength));
        for bad in ["-1", "", "1e3", "0x10", "two", "99999999999999999999999"] {
            let header = format!("Content-Length: {bad}\r\n\r\n");
            assert_eq!(
                one(header.as_bytes()),
                Err(FramingError::Length(bad.to_owned())),
                "{bad}"
            );
        }
        assert_eq!(
            one(b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
            Err(FramingError::Length("2".to_owned()))
        );
        assert_eq!(
            one(b"Content-Length: 18446744073709551615\r\n\r\n{}"),
            Err(FramingError::LongBody(u64::MAX))
        );
        assert_eq!(
            one(&vec![b'x'; LONGEST_HEADER + 1]),
            Err(FramingError::LongHeader)
        );
    }

    proptest! {
        #[test]
        fn messages_come_back_however_they_are_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
            cuts in prop::collection::vec(1usize..60, 1..40),
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|m| framed(m)).collect();
            let mut framer = Framer::default();
            let mut found = Vec::new();
            let mut rest = &stream[..];
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let n = (*cuts.next().unwrap()).min(rest.len());
                framer.push(&rest[..n]);
                rest = &rest[n..];
                while let Some(m) = framer.next_message().unwrap() {
                    found.push(m);
                }
            }
            prop_assert_eq!(found, messages);
            prop_assert!(framer.is_empty());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut framer = Framer::default();
            framer.push(&bytes);
            while let Ok(Some(_)) = framer.next_message() {}
        }
    }
}
