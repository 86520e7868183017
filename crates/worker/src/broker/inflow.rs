//! What comes from the broker, before the client library reads it, is made harmless.
//!
//! The broker hands on the properties of a message as their publisher wrote them. The library takes them for text of
//! UTF-8 and for tables that end: a header whose name is something else ends its connection, and tables ten thousand
//! deep would end the process. Such a message would come again with each connection, for ever, and nothing behind it
//! ever would. So what the library cannot read is overwritten in place, byte for byte: odd bytes in a short string by
//! `?`, a table or list that lies too deep by a value of bytes.
//!
//! The broker also adds its count of deliveries to a message that comes again, with no regard to the length that was
//! agreed for a frame, and a frame that is longer ends the connection too. Such a message comes without properties.

use super::BrokerVersion;
pub use super::held::BODIES_LEN_MAX;

/// How deep tables and lists of headers may stand in each other.
const DEPTH_MAX: u32 = 16;

/// Bytes before the payload of a frame of AMQP 0-9-1 (type, channel, size), and after it.
const HEAD_LEN: usize = 7;
const END_LEN: usize = 1;

/// Types of frames.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

/// How the method `connection.start` begins, in which the broker says what it is.
const START: [u8; 4] = [0, 10, 0, 10];

/// The longest method that is looked into.
const START_LEN_MAX: usize = 64 * 1024;

/// The shortest frames that the library can be held to.
pub(super) const FRAME_MAX_LEAST: usize = 8192;

/// How the method `connection.tune` begins, by which the broker says how long a frame may be: class and method. Then
/// come two bytes for the number of channels, and four for that; 0 means no limit.
const TUNE: [u8; 4] = [0, 10, 0, 30];
const TUNE_LEN: usize = 12;

/// The longest frame with properties that is looked into. The broker sends none longer than what was agreed, which is
/// less.
pub(super) const HEADER_LEN_MAX: usize = 1024 * 1024;

/// Bytes of a payload with properties before these: class, weight, size of the body.
const BEFORE_PROPERTIES: usize = 12;

/// The properties of the class `basic`, in their order: bit 15 of the flags is that of the first one.
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

/// What stands in a payload is not what has to stand there. The library will say so too.
struct Malformed;

/// What a frame begins with: its kind, its channel, the length of its payload.
type Head = [u8; HEAD_LEN];

/// Makes harmless what comes.
#[derive(Debug)]
pub struct Scrubber {
    /// The longest frame that the library takes, whole.
    frame_max: usize,
    /// Bytes of the frame at hand that are still to come and are none of our business.
    passing: usize,
    /// The beginning of a frame that has to be seen whole.
    begun: Vec<u8>,
    /// What was seen whole and found no room yet, and how much of it was given on.
    ready: Vec<u8>,
    given: usize,
    /// Bytes of bodies that were seen and not counted yet.
    bodies: usize,
    /// Whether the broker has said what it is: the first method, and the only one of that kind.
    is_begun: bool,
    /// What it said, until that is taken: its version, and the mechanisms that it offers.
    broker: Option<(BrokerVersion, Vec<u8>)>,
}

impl Scrubber {
    /// Gives on what was seen and found no room. 0 if there is nothing.
    pub fn give(&mut self, into: &mut [u8]) -> usize {
        let rest = self.ready.get(self.given..).unwrap_or_default();
        let len = rest.len().min(into.len());
        into.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.given += len;
        if self.given == self.ready.len() {
            self.ready.clear();
            self.given = 0;
        }
        len
    }

    /// Looks at what came, which follows everything that came before, of which nothing is left to [give](Self::give).
    /// Says how many bytes from its beginning are given on now; after them comes what is to be given, if any.
    pub fn look(&mut self, came: &mut [u8]) -> usize {
        let given = if self.begun.is_empty() { self.scan(came) } else { 0 };
        let mut rest = std::mem::take(&mut self.begun);
        rest.extend_from_slice(came.get(given..).unwrap_or_default());
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
        given
    }

    /// Bytes of bodies since the last call.
    pub const fn take_bodies(&mut self) -> usize {
        std::mem::replace(&mut self.bodies, 0)
    }

    /// Takes the broker's version and the list of mechanisms that it offers, once they came.
    pub fn take_broker(&mut self) -> Option<(BrokerVersion, Vec<u8>)> {
        self.broker.take()
    }

    /// The longest frame that the broker allows, if that is less than the library can be held to.
    pub(super) fn unusable_frame_max(&self) -> Option<usize> {
        (self.frame_max < FRAME_MAX_LEAST).then_some(self.frame_max)
    }

    /// Goes from frame to frame. Says where the first one begins that has to be seen whole and is not, or that is too
    /// long.
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
                METHOD if size == TUNE_LEN || (!self.is_begun && size <= START_LEN_MAX) => {
                    let Some(payload) = rest.get(..size) else { return at };
                    self.start(payload);
                    self.tune(payload);
                }
                HEADER if size <= HEADER_LEN_MAX => {
                    let Some(payload) = rest.get_mut(..size) else { return at };
                    scrub(payload);
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

    /// Notes what the broker is, if that is what the method says.
    fn start(&mut self, method: &[u8]) {
        if !self.is_begun && method.starts_with(&START) {
            self.is_begun = true;
            self.broker = Some(BrokerVersion::of_start(method));
        }
    }

    /// Notes how long a frame may be, if that is what the method says.
    fn tune(&mut self, method: &[u8]) {
        if let Some([.., a, b, c, d]) = method.strip_prefix(&TUNE).and_then(|arguments| arguments.get(..6)) {
            let frame_max = u32::from_be_bytes([*a, *b, *c, *d]);
            self.frame_max = usize::try_from(frame_max).ok().filter(|max| *max > 0).unwrap_or(usize::MAX);
        }
    }

    /// The length of a frame that begins here, if it has properties and is longer than the library takes.
    fn too_long(&self, head: &Head) -> Option<usize> {
        let (size, len) = (payload_len(head), frame_len(payload_len(head)));
        let has_properties = head.starts_with(&[HEADER]) && (BEFORE_PROPERTIES..=HEADER_LEN_MAX).contains(&size);
        (has_properties && len > self.frame_max).then_some(len)
    }
}

impl Default for Scrubber {
    /// Of a connection on which nothing was agreed yet.
    fn default() -> Self {
        Self {
            frame_max: usize::MAX,
            passing: 0,
            begun: Vec::new(),
            ready: Vec::new(),
            given: 0,
            bodies: 0,
            is_begun: false,
            broker: None,
        }
    }
}

/// Bytes of the payload of the frame with this head.
fn payload_len(head: &Head) -> usize {
    let [_, _, _, size @ ..] = *head;
    u32::from_be_bytes(size) as usize
}

/// Bytes of a frame with so many of payload.
const fn frame_len(payload_len: usize) -> usize {
    HEAD_LEN.saturating_add(payload_len).saturating_add(END_LEN)
}

/// A frame with properties, without them: flags of two bytes that name none.
fn without_properties(frame: &[u8]) -> Vec<u8> {
    const SIZE: [u8; 4] = [0, 0, 0, 14];
    const FLAGS_AND_END: [u8; 3] = [0, 0, 0xce];
    let kind_and_channel = frame.iter().take(HEAD_LEN - SIZE.len());
    let before_properties = frame.iter().skip(HEAD_LEN).take(BEFORE_PROPERTIES);
    kind_and_channel.chain(&SIZE).chain(before_properties).chain(&FLAGS_AND_END).copied().collect()
}

/// Overwrites what the library cannot read in the payload of a frame with properties. What it could not read anyway is
/// left.
pub(super) fn scrub(payload: &mut [u8]) {
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

fn scrub_table(mut table: &mut [u8], depth: u32) -> Result<(), Malformed> {
    while !table.is_empty() {
        scrub_text(&mut table)?;
        scrub_value(&mut table, depth)?;
    }
    Ok(())
}

fn scrub_list(mut list: &mut [u8], depth: u32) -> Result<(), Malformed> {
    while !list.is_empty() {
        scrub_value(&mut list, depth)?;
    }
    Ok(())
}

/// The types are those of RabbitMQ, which refuses any other.
fn scrub_value(rest: &mut &mut [u8], depth: u32) -> Result<(), Malformed> {
    let [kind] = take_array(rest)?;
    match *kind {
        b'A' | b'F' if depth >= DEPTH_MAX => {
            // Bytes have the same shape: a length, and as much of anything.
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
        _ => Err(Malformed),
    }
}

fn scrub_text(rest: &mut &mut [u8]) -> Result<(), Malformed> {
    let [len] = *take_array(rest)?;
    let text = take(rest, len.into())?;
    if str::from_utf8(text).is_err() {
        text.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
    }
    Ok(())
}

/// What a length of four bytes stands before.
fn take_long<'a>(rest: &mut &'a mut [u8]) -> Result<&'a mut [u8], Malformed> {
    let len = u32::from_be_bytes(*take_array(rest)?);
    take(rest, usize::try_from(len).map_err(|_| Malformed)?)
}

fn take_array<'a, const LEN: usize>(rest: &mut &'a mut [u8]) -> Result<&'a mut [u8; LEN], Malformed> {
    let (taken, left) = std::mem::take(rest).split_first_chunk_mut().ok_or(Malformed)?;
    *rest = left;
    Ok(taken)
}

fn take<'a>(rest: &mut &'a mut [u8], len: usize) -> Result<&'a mut [u8], Malformed> {
    let (taken, left) = std::mem::take(rest).split_at_mut_checked(len).ok_or(Malformed)?;
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

    /// The bytes as they are given on when they come in parts of these lengths.
    fn given(bytes: &[u8], parts: impl IntoIterator<Item = usize>) -> Vec<u8> {
        let mut scrubber = Scrubber::default();
        let (mut given, mut rest) = (Vec::new(), bytes);
        for len in parts.into_iter().chain([usize::MAX]) {
            let (came, left) = rest.split_at(len.min(rest.len()));
            rest = left;
            let mut came = came.to_vec();
            let whole = scrubber.look(&mut came);
            given.extend_from_slice(&came[..whole]);
            let mut room = [0; 5];
            loop {
                match scrubber.give(&mut room) {
                    0 => break,
                    len => given.extend_from_slice(&room[..len]),
                }
            }
        }
        given
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &[u8]) {
        assert_eq!(given(bytes, []), expected);
        assert_eq!(given(bytes, vec![1; bytes.len()]), expected, "byte by byte");
    }

    #[test]
    fn what_the_library_can_read_is_left_as_it_is() {
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
    fn text_that_is_no_utf_8_loses_its_odd_bytes() {
        check(&header(1 << 7, b"\x04a\xff\xfeb"), &header(1 << 7, b"\x04a??b"));
        check(&with_headers(b"\x02\xc3\xa9V\x02\xff\xa9V"), &with_headers(b"\x02\xc3\xa9V\x02??V"));
        check(
            &with_headers(&[&b"\x01aF"[..], &long(b"\x01\x80V")].concat()),
            &with_headers(&[&b"\x01aF"[..], &long(b"\x01?V")].concat()),
        );
    }

    #[test]
    fn what_lies_too_deep_is_a_value_of_bytes() {
        let nested = |depth: usize| (0..depth).fold(Vec::new(), |inner, _| [&b"\x01aF"[..], &long(&inner)].concat());
        check(&with_headers(&nested(15)), &with_headers(&nested(15)));
        let deep = given(&with_headers(&nested(18_000)), []);
        let kinds: Vec<u8> = (0..20).map(|level| deep[HEAD_LEN + BEFORE_PROPERTIES + 2 + 4 + level * 7 + 2]).collect();
        assert_eq!(kinds.iter().position(|kind| *kind == b'x'), Some(15));
        assert_eq!(deep.len(), with_headers(&nested(18_000)).len());
        let lists = (0..20_000).fold(Vec::new(), |inner, _| [&b"A"[..], &long(&inner)].concat());
        let lists = with_headers(&[&b"\x01a"[..], &lists].concat());
        let differ = given(&lists, []).iter().zip(&lists).filter(|(now, before)| now != before).count();
        assert_eq!(differ, 1);
    }

    #[test]
    fn what_is_malformed_is_left_to_the_library() {
        for properties in [&b"\x05ab"[..], b"", b"\xff"] {
            let whole = header(1 << 15, properties);
            check(&whole, &whole);
        }
        let whole = with_headers(b"\x01a?");
        check(&whole, &whole);
        let answer = *b"AMQP\x00\x00\x09\x01";
        assert_eq!(given(&answer, []), answer);
    }

    #[test]
    fn what_is_longer_than_was_agreed_comes_without_properties() {
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
    fn frame_max_below_the_librarys_is_noticed() {
        for (max, unusable) in [(0, None), (4096, Some(4096)), (8191, Some(8191)), (8192, None), (u32::MAX, None)] {
            let mut scrubber = Scrubber::default();
            let mut tune = frame(METHOD, &[&TUNE[..], &[0, 0], &max.to_be_bytes(), &[0, 10]].concat());
            scrubber.look(&mut tune);
            assert_eq!(scrubber.unusable_frame_max(), unusable, "{max}");
        }
    }

    #[test]
    fn version_of_the_broker_is_noted_once() {
        let properties = long(b"\x07versionS\0\0\0\x054.0.5");
        let start = [&START[..], &[0, 9], &properties, &long(b"PLAIN"), &long(b"en_US")].concat();
        let mut scrubber = Scrubber::default();
        let bytes = [frame(METHOD, &start), frame(METHOD, &start)].concat();
        for byte in bytes {
            scrubber.look(&mut [byte]);
            while scrubber.give(&mut [0; 64]) > 0 {}
        }
        assert_eq!(scrubber.take_broker(), Some((BrokerVersion::from_text("4.0.5"), b"PLAIN".to_vec())));
        assert_eq!(scrubber.take_broker(), None);
    }

    #[test]
    fn the_bytes_of_bodies_are_counted() {
        let mut scrubber = Scrubber::default();
        let mut bytes = [frame(BODY, &[0; 300]), header(0, b""), frame(BODY, &[0; 7])].concat();
        scrubber.look(&mut bytes);
        assert_eq!((scrubber.take_bodies(), scrubber.take_bodies()), (307, 0));
    }

    proptest! {
        /// Whatever comes in whatever parts, as many bytes go on as came, and the same ones as if all had come at once.
        #[test]
        fn nothing_is_lost_or_doubled(
            payloads in prop::collection::vec((1_u8..=3, prop::collection::vec(any::<u8>(), 0..60)), 0..8),
            parts in prop::collection::vec(0_usize..40, 0..60),
        ) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
            let whole = given(&bytes, []);
            prop_assert_eq!(whole.len(), bytes.len());
            prop_assert_eq!(given(&bytes, parts), whole);
        }
    }
}
