//! Rewrites bytes from the broker that the client library cannot read.
//!
//! The broker passes on the properties of a message as the publisher wrote them. lapin 4.12.3 expects UTF-8 text and tables
//! of moderate depth: a header name that is not UTF-8 ends its connection, and tables 10,000 deep overflow the stack. The
//! broker would redeliver such a message on each new connection, and it would block the messages behind it. Therefore the
//! scrubber overwrites these bytes in place: invalid short strings with `?`, and the type of a table or list that is nested
//! too deep with that of a byte array.
//!
//! RabbitMQ also adds its delivery count to a redelivered message, even if the frame then exceeds the negotiated length. The
//! library ends the connection at such a frame, so the scrubber removes its properties.

use crate::BrokerVersion;

/// How deep tables and lists of headers may be nested.
const DEPTH_MAX: u32 = 16;

/// Bytes before the payload of a frame of AMQP 0-9-1 (type, channel, size), and after it.
const HEAD_LEN: usize = 7;
const END_LEN: usize = 1;

/// Types of frames.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

/// Class and method of `connection.start`, which has the broker's version and login mechanisms.
const START: [u8; 4] = [0, 10, 0, 10];

/// The longest `connection.start` that is inspected, in bytes.
const START_LEN_MAX: usize = 64 * 1024;

/// The lowest `frame_max` that lapin 4.12.3 obeys, in bytes. With a lower one the broker ends the connection.
pub const FRAME_MAX_MIN: usize = 8192;

/// Class and method of `connection.tune`. Two bytes for the number of channels follow, then four for the length of a frame
/// (0: no limit).
const TUNE: [u8; 4] = [0, 10, 0, 30];
const TUNE_LEN: usize = 12;

/// The longest payload with properties that is inspected, in bytes. The broker sends none longer than the agreed length,
/// which is less.
pub(crate) const HEADER_LEN_MAX: usize = 1024 * 1024;

/// Bytes of a payload with properties before these: class, weight, size of the body.
const BEFORE_PROPERTIES: usize = 12;

/// The properties of the class `basic` in order: bit 15 of the flags belongs to the first one.
const PROPERTIES: [Property; 14] = [
    Property::Text,
    Property::Text,
    Property::Table,
    Property::Bytes(1),
    Property::Bytes(1),
    Property::Text,
    Property::Text,
    Property::Text,
    Property::Text,
    Property::Bytes(8),
    Property::Text,
    Property::Text,
    Property::Text,
    Property::Text,
];

#[derive(Clone, Copy)]
enum Property {
    Bytes(usize),
    Table,
    Text,
}

/// The payload is malformed. The library reports that too.
struct BadProperties;

/// The start of a frame: type, channel, length of the payload.
type FrameHead = [u8; HEAD_LEN];

/// Rewrites the bytes of one connection in order. Holds back at most one incomplete frame with properties.
#[derive(Debug)]
pub struct Scrubber {
    /// The longest frame that the library accepts, in bytes.
    frame_max: usize,
    /// Bytes of the current frame that are still to arrive and need no inspection.
    passing: usize,
    /// The beginning of a frame that must be inspected as a whole.
    begun: Vec<u8>,
    /// Inspected bytes, and how many of them were returned.
    ready: Vec<u8>,
    returned: usize,
    /// Bytes of bodies since [`take_bodies`](Self::take_bodies).
    bodies: usize,
    /// Whether `connection.start` arrived.
    is_started: bool,
    /// The broker's version and login mechanisms, until they are taken.
    broker: Option<(BrokerVersion, Vec<u8>)>,
}

impl Scrubber {
    /// Copies bytes that were held back and have been inspected. Returns their number, 0 if there are none.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        let rest = self.ready.get(self.returned..).unwrap_or_default();
        let len = rest.len().min(into.len());
        into.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.returned += len;
        if self.returned == self.ready.len() {
            self.ready.clear();
            self.returned = 0;
        }
        len
    }

    /// Inspects and rewrites the next bytes in place. Returns the number of leading bytes that are ready; the bytes that
    /// [`read`](Self::read) returns come after them. Call it only when `read` has returned 0.
    pub fn scrub(&mut self, bytes: &mut [u8]) -> usize {
        let usable = if self.begun.is_empty() { self.scan(bytes) } else { 0 };
        let mut rest = std::mem::take(&mut self.begun);
        rest.extend_from_slice(bytes.get(usable..).unwrap_or_default());
        loop {
            let whole = self.scan(&mut rest);
            self.ready.extend_from_slice(rest.get(..whole).unwrap_or_default());
            rest.drain(..whole);
            let too_long = rest.first_chunk().and_then(|head| self.too_long(head));
            let Some(len) = too_long.filter(|len| *len <= rest.len()) else { break };
            self.ready.extend_from_slice(&without_properties(&rest));
            rest.drain(..len);
        }
        self.begun = rest;
        usable
    }

    /// Returns the bytes of message bodies since the last call.
    pub const fn take_bodies(&mut self) -> usize {
        std::mem::replace(&mut self.bodies, 0)
    }

    /// Takes the broker's version and its list of login mechanisms, once, after they arrived.
    pub fn take_broker(&mut self) -> Option<(BrokerVersion, Vec<u8>)> {
        self.broker.take()
    }

    /// Returns the broker's `frame_max` in bytes if it is below [`FRAME_MAX_MIN`].
    #[must_use]
    pub fn unusable_frame_max(&self) -> Option<usize> {
        (self.frame_max < FRAME_MAX_MIN).then_some(self.frame_max)
    }

    /// Inspects frame after frame. Returns the start of the first frame that is too long, or is incomplete and must be
    /// inspected as a whole.
    fn scan(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = self.passing.min(bytes.len());
        self.passing -= at;
        while let Some((head, rest)) = bytes.get_mut(at..).and_then(<[u8]>::split_first_chunk_mut) {
            if self.too_long(head).is_some() {
                break;
            }
            let [kind, ..] = *head;
            let size = payload_len(head);
            match kind {
                METHOD if size == TUNE_LEN || (!self.is_started && size <= START_LEN_MAX) => {
                    let Some(payload) = rest.get(..size) else { return at };
                    self.start(payload);
                    self.tune(payload);
                }
                HEADER if size <= HEADER_LEN_MAX => {
                    let Some(payload) = rest.get_mut(..size) else { return at };
                    scrub_properties(payload);
                }
                BODY => self.bodies += size,
                _ => {}
            }
            let len = frame_len(size);
            let here = len.min(head.len() + rest.len());
            self.passing = len - here;
            at += here;
        }
        at
    }

    /// Records version and mechanisms if this is `connection.start`.
    fn start(&mut self, method: &[u8]) {
        if !self.is_started && method.starts_with(&START) {
            self.is_started = true;
            self.broker = Some(BrokerVersion::from_payload(method));
        }
    }

    /// Records `frame_max` if this is `connection.tune`.
    fn tune(&mut self, method: &[u8]) {
        if let Some([.., a, b, c, d]) = method.strip_prefix(&TUNE).and_then(|arguments| arguments.get(..6)) {
            let frame_max = u32::from_be_bytes([*a, *b, *c, *d]);
            self.frame_max = usize::try_from(frame_max).ok().filter(|max| *max > 0).unwrap_or(usize::MAX);
        }
    }

    /// Returns the length of the frame if it has properties and is longer than the library accepts.
    fn too_long(&self, head: &FrameHead) -> Option<usize> {
        let (size, len) = (payload_len(head), frame_len(payload_len(head)));
        let has_properties = head.starts_with(&[HEADER]) && (BEFORE_PROPERTIES..=HEADER_LEN_MAX).contains(&size);
        (has_properties && len > self.frame_max).then_some(len)
    }
}

impl Default for Scrubber {
    /// For a connection before its negotiation.
    fn default() -> Self {
        Self {
            frame_max: usize::MAX,
            passing: 0,
            begun: Vec::new(),
            ready: Vec::new(),
            returned: 0,
            bodies: 0,
            is_started: false,
            broker: None,
        }
    }
}

/// Returns the length of the payload in bytes.
fn payload_len(head: &FrameHead) -> usize {
    let [_, _, _, size @ ..] = *head;
    u32::from_be_bytes(size) as usize
}

/// Returns the length of the frame in bytes.
const fn frame_len(payload_len: usize) -> usize {
    HEAD_LEN.saturating_add(payload_len).saturating_add(END_LEN)
}

/// Replaces the properties of a frame by empty ones: two bytes of flags.
fn without_properties(frame: &[u8]) -> Vec<u8> {
    const SIZE: [u8; 4] = [0, 0, 0, 14];
    const FLAGS_AND_END: [u8; 3] = [0, 0, 0xce];
    let kind_and_channel = frame.iter().take(HEAD_LEN - SIZE.len());
    let before_properties = frame.iter().skip(HEAD_LEN).take(BEFORE_PROPERTIES);
    kind_and_channel.chain(&SIZE).chain(before_properties).chain(&FLAGS_AND_END).copied().collect()
}

/// Overwrites the unreadable bytes in the payload of a frame with properties. From the first malformed property on, the
/// payload stays as it is.
pub(crate) fn scrub_properties(payload: &mut [u8]) {
    let properties = payload.get_mut(BEFORE_PROPERTIES..);
    let Some((flags, mut rest)) = properties.and_then(<[u8]>::split_first_chunk_mut) else { return };
    let flags = u16::from_be_bytes(*flags);
    for (nth, property) in PROPERTIES.into_iter().enumerate() {
        if flags & (1 << (15 - nth)) == 0 {
            continue;
        }
        let scrubbed = match property {
            Property::Bytes(len) => take(&mut rest, len).map(drop),
            Property::Table => take_long(&mut rest).and_then(|table| scrub_table(table, 1)),
            Property::Text => scrub_text(&mut rest),
        };
        if scrubbed.is_err() {
            return;
        }
    }
}

fn scrub_table(mut table: &mut [u8], depth: u32) -> Result<(), BadProperties> {
    while !table.is_empty() {
        scrub_text(&mut table)?;
        scrub_value(&mut table, depth)?;
    }
    Ok(())
}

fn scrub_list(mut list: &mut [u8], depth: u32) -> Result<(), BadProperties> {
    while !list.is_empty() {
        scrub_value(&mut list, depth)?;
    }
    Ok(())
}

/// Accepts only the types of RabbitMQ, which refuses all others.
fn scrub_value(rest: &mut &mut [u8], depth: u32) -> Result<(), BadProperties> {
    let [kind] = take_array(rest)?;
    match *kind {
        b'A' | b'F' if depth >= DEPTH_MAX => {
            // A byte array has the same layout: a length and that many bytes.
            *kind = b'x';
            take_long(rest).map(drop)
        }
        b'A' => scrub_list(take_long(rest)?, depth + 1),
        b'F' => scrub_table(take_long(rest)?, depth + 1),
        b'S' | b'x' => take_long(rest).map(drop),
        b'V' => Ok(()),
        b'B' | b'b' | b't' => take(rest, 1).map(drop),
        b'U' | b's' | b'u' => take(rest, 2).map(drop),
        b'I' | b'f' | b'i' => take(rest, 4).map(drop),
        b'D' => take(rest, 5).map(drop),
        b'L' | b'T' | b'd' | b'l' => take(rest, 8).map(drop),
        _ => Err(BadProperties),
    }
}

fn scrub_text(rest: &mut &mut [u8]) -> Result<(), BadProperties> {
    let [len] = *take_array(rest)?;
    let text = take(rest, len.into())?;
    if str::from_utf8(text).is_err() {
        text.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
    }
    Ok(())
}

/// Takes the bytes after a length of four bytes.
fn take_long<'a>(rest: &mut &'a mut [u8]) -> Result<&'a mut [u8], BadProperties> {
    let len = u32::from_be_bytes(*take_array(rest)?);
    take(rest, usize::try_from(len).map_err(|_| BadProperties)?)
}

fn take_array<'a, const LEN: usize>(rest: &mut &'a mut [u8]) -> Result<&'a mut [u8; LEN], BadProperties> {
    let (taken, left) = std::mem::take(rest).split_first_chunk_mut().ok_or(BadProperties)?;
    *rest = left;
    Ok(taken)
}

fn take<'a>(rest: &mut &'a mut [u8], len: usize) -> Result<&'a mut [u8], BadProperties> {
    let (taken, left) = std::mem::take(rest).split_at_mut_checked(len).ok_or(BadProperties)?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 1], &size[..], payload, &[0xce]].concat()
    }

    /// A frame with these properties.
    fn header(flags: u16, properties: &[u8]) -> Vec<u8> {
        let before = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        frame(HEADER, &[&before[..], &flags.to_be_bytes(), properties].concat())
    }

    fn long(content: &[u8]) -> Vec<u8> {
        [&u32::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
    }

    fn with_headers(table: &[u8]) -> Vec<u8> {
        header(1 << 13, &long(table))
    }

    /// Returns what the library reads when the bytes arrive in parts of these lengths.
    fn scrubbed(bytes: &[u8], parts: impl IntoIterator<Item = usize>) -> Vec<u8> {
        let mut scrubber = Scrubber::default();
        let (mut read, mut rest) = (Vec::new(), bytes);
        for len in parts.into_iter().chain([usize::MAX]) {
            let (came, left) = rest.split_at(len.min(rest.len()));
            rest = left;
            let mut came = came.to_vec();
            let whole = scrubber.scrub(&mut came);
            read.extend_from_slice(&came[..whole]);
            let mut room = [0; 5];
            loop {
                match scrubber.read(&mut room) {
                    0 => break,
                    len => read.extend_from_slice(&room[..len]),
                }
            }
        }
        read
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &[u8]) {
        assert_eq!(scrubbed(bytes, []), expected);
        assert_eq!(scrubbed(bytes, vec![1; bytes.len()]), expected, "byte by byte");
    }

    #[test]
    fn readable_properties_stay_unchanged() {
        let table = [
            &b"\x01aI\0\0\0\x07\x02\xc3\xa9S"[..],
            &long(b"\xff\xfe"),
            b"\x01bA",
            &long(b"t\x01V"),
            b"\x01cF",
            &long(b"\x01dT12345678"),
        ]
        .concat();
        let whole = [
            frame(1, b"\xff\xff"),
            header(
                0xfffc,
                &[&b"\x01a\x01b"[..], &long(&table), b"\x02\x05\x01c\x01d\x01e\x01f12345678\x01g\x01h\x01i\x01j"]
                    .concat(),
            ),
            frame(BODY, &[0xff; 300]),
            frame(8, b""),
            header(0, b""),
        ]
        .concat();
        check(&whole, &whole);
    }

    #[test]
    fn text_that_is_not_utf_8_is_overwritten() {
        check(&header(1 << 7, b"\x04a\xff\xfeb"), &header(1 << 7, b"\x04a??b"));
        check(&with_headers(b"\x02\xc3\xa9V\x02\xff\xa9V"), &with_headers(b"\x02\xc3\xa9V\x02??V"));
        check(
            &with_headers(&[&b"\x01aF"[..], &long(b"\x01\x80V")].concat()),
            &with_headers(&[&b"\x01aF"[..], &long(b"\x01?V")].concat()),
        );
    }

    #[test]
    fn deep_tables_become_byte_arrays() {
        let nested = |depth: usize| (0..depth).fold(Vec::new(), |inner, _| [&b"\x01aF"[..], &long(&inner)].concat());
        check(&with_headers(&nested(15)), &with_headers(&nested(15)));
        let deep = scrubbed(&with_headers(&nested(18_000)), []);
        let kinds: Vec<u8> = (0..20).map(|level| deep[HEAD_LEN + BEFORE_PROPERTIES + 2 + 4 + level * 7 + 2]).collect();
        assert_eq!(kinds.iter().position(|kind| *kind == b'x'), Some(15));
        assert_eq!(deep.len(), with_headers(&nested(18_000)).len());
        let lists = (0..20_000).fold(Vec::new(), |inner, _| [&b"A"[..], &long(&inner)].concat());
        let lists = with_headers(&[&b"\x01a"[..], &lists].concat());
        let differ = scrubbed(&lists, []).iter().zip(&lists).filter(|(now, before)| now != before).count();
        assert_eq!(differ, 1);
    }

    #[test]
    fn malformed_properties_stay_unchanged() {
        for properties in [&b"\x05ab"[..], b"", b"\xff"] {
            let whole = header(1 << 15, properties);
            check(&whole, &whole);
        }
        let whole = with_headers(b"\x01a?");
        check(&whole, &whole);
        let answer = *b"AMQP\x00\x00\x09\x01";
        assert_eq!(scrubbed(&answer, []), answer);
    }

    #[test]
    fn frame_above_frame_max_loses_its_properties() {
        let tune = |max: u32| frame(METHOD, &[&TUNE[..], &[0, 0], &max.to_be_bytes(), &[0, 10]].concat());
        let long = with_headers(&[b'x'; 200]);
        let fits = u32::try_from(long.len()).unwrap();
        let others = [frame(BODY, b"body"), header(0, b"")].concat();
        for max in [0, fits] {
            let whole = [&tune(max)[..], &long, &others].concat();
            check(&whole, &whole);
        }
        let whole = [&tune(fits - 1)[..], &long, &long, &others].concat();
        let cut = [&tune(fits - 1)[..], &header(0, b""), &header(0, b""), &others].concat();
        check(&whole, &cut);
    }

    #[test]
    fn frame_max_below_minimum_is_reported() {
        for (max, unusable) in [(0, None), (4096, Some(4096)), (8191, Some(8191)), (8192, None), (u32::MAX, None)] {
            let mut scrubber = Scrubber::default();
            let mut tune = frame(METHOD, &[&TUNE[..], &[0, 0], &max.to_be_bytes(), &[0, 10]].concat());
            scrubber.scrub(&mut tune);
            assert_eq!(scrubber.unusable_frame_max(), unusable, "{max}");
        }
    }

    #[test]
    fn version_of_broker_is_recorded_once() {
        let properties = long(b"\x07versionS\0\0\0\x054.0.5");
        let start = [&START[..], &[0, 9], &properties, &long(b"PLAIN"), &long(b"en_US")].concat();
        let mut scrubber = Scrubber::default();
        let bytes = [frame(METHOD, &start), frame(METHOD, &start)].concat();
        for byte in bytes {
            scrubber.scrub(&mut [byte]);
            while scrubber.read(&mut [0; 64]) > 0 {}
        }
        assert_eq!(scrubber.take_broker(), Some((BrokerVersion::from_text("4.0.5"), b"PLAIN".to_vec())));
        assert_eq!(scrubber.take_broker(), None);
    }

    #[test]
    fn bytes_of_bodies_are_counted() {
        let mut scrubber = Scrubber::default();
        let mut bytes = [frame(BODY, &[0; 300]), header(0, b""), frame(BODY, &[0; 7])].concat();
        scrubber.scrub(&mut bytes);
        assert_eq!((scrubber.take_bodies(), scrubber.take_bodies()), (307, 0));
    }

    proptest! {
        /// The result does not depend on the parts in which bytes arrive, and no byte is lost or added.
        #[test]
        fn nothing_is_lost_or_doubled(
            payloads in prop::collection::vec((1_u8..=3, prop::collection::vec(any::<u8>(), 0..60)), 0..8),
            parts in prop::collection::vec(0_usize..40, 0..60),
        ) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
            let whole = scrubbed(&bytes, []);
            prop_assert_eq!(whole.len(), bytes.len());
            prop_assert_eq!(scrubbed(&bytes, parts), whole);
        }
    }
}
