//! Decodes what the broker sends on the connection of a lane, and encodes what the worker sends.
//!
//! lapin 4.12.3 keeps every message whole, reads as fast as the broker sends, refuses routing keys that are not UTF-8, and
//! needs a thread and half a mebibyte for each connection. A worker may have hundreds of lanes with untrusted publishers.
//! Therefore this decoder truncates long bodies, and reads no body before the caller has reserved memory for it.

use lapin::protocol::{AMQPClass, BasicProperties, basic, gen_class, parse_class};

use crate::scrubber::{HEADER_LEN_MAX, scrub_properties};

/// The protocol and its version: the first bytes of a client.
pub const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// The longest frame that a lane requests, in bytes: the default of brokers. It costs no memory, since bodies are
/// decoded in parts.
pub const FRAME_MAX: u32 = 128 * 1024;

/// Bytes of a frame (type, channel, size) before its payload.
pub const HEAD_LEN: usize = 7;
const END_LEN: usize = 1;
const END: u8 = 0xce;

/// Types of frames.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// The longest accepted payload of a method, in bytes. Reply texts and the broker's own properties are far shorter.
const METHOD_LEN_MAX: usize = 1024 * 1024;

/// Class and method of `basic.deliver`.
const DELIVER: [u8; 4] = [0, 60, 0, 60];

/// Bytes of a header's payload before the properties: class, weight, length of the body.
const BEFORE_PROPERTIES: usize = 12;

/// What the broker sent.
#[derive(Debug)]
pub enum Frame {
    /// A method.
    Method(Box<AMQPClass>),
    /// The properties of a message arrived. This is the number of bytes that [`Decoder::begin_body`] will allocate.
    Content(usize),
    /// A message is complete.
    Message(Box<IncomingMessage>),
}

/// A message as it was delivered.
#[derive(Debug)]
pub struct IncomingMessage {
    /// The delivery tag, by which it is acknowledged.
    pub tag: u64,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// The properties. Empty if they are malformed.
    pub properties: BasicProperties,
    /// The body, or the beginning of one that is too long.
    pub body: Vec<u8>,
    /// Length of the whole body in bytes.
    pub len: u64,
}

/// The broker sent something other than AMQP 0-9-1, or frames out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed data from the broker: {0}")]
pub struct MalformedFrame(&'static str);

/// Decodes frames from bytes that arrive in any parts.
#[derive(Debug)]
pub struct Decoder {
    state: Expected,
    begun: Option<Begun>,
    whole_len_max: usize,
    truncated_len: usize,
}

/// An incomplete message.
#[derive(Debug)]
struct Begun {
    message: IncomingMessage,
    /// Bytes of the body that are still to arrive, once its length is known.
    missing: Option<u64>,
}

/// What is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Head,
    /// This many more bytes of the payload of a body. Only the first ones may be kept.
    Body(usize),
    /// The last byte of a frame.
    End,
}

impl Decoder {
    /// Keeps bodies of up to `whole_len_max` bytes whole, and the first `truncated_len` bytes of longer ones.
    #[must_use]
    pub const fn new(whole_len_max: usize, truncated_len: usize) -> Self {
        Self { state: Expected::Head, begun: None, whole_len_max, truncated_len }
    }

    /// Decodes `input` until a frame or message is complete. Returns the number of used bytes, and the frame or message. If
    /// none is complete, the caller must prepend the unused bytes to the next input.
    ///
    /// # Errors
    /// If the bytes are malformed. The connection must then be closed.
    pub fn decode(&mut self, input: &mut [u8]) -> Result<(usize, Option<Frame>), MalformedFrame> {
        let mut at = 0;
        loop {
            let rest = input.get_mut(at..).unwrap_or_default();
            match self.state {
                Expected::Head => {
                    let Some((head, rest)) = rest.split_first_chunk_mut::<HEAD_LEN>() else { return Ok((at, None)) };
                    if head.starts_with(b"AMQP") {
                        return Err(MalformedFrame("another version of the protocol"));
                    }
                    let [kind, _, _, size @ ..] = *head;
                    let size = u32::from_be_bytes(size) as usize;
                    if kind == BODY {
                        self.state = Expected::Body(size);
                        at += HEAD_LEN;
                        continue;
                    }
                    if size > METHOD_LEN_MAX.max(HEADER_LEN_MAX) {
                        return Err(MalformedFrame("a frame that is too long"));
                    }
                    let Some((payload, rest)) = rest.split_at_mut_checked(size) else { return Ok((at, None)) };
                    match rest.first() {
                        None => return Ok((at, None)),
                        Some(&END) => {}
                        Some(_) => return Err(MalformedFrame("a frame without its end")),
                    }
                    at += HEAD_LEN + size + END_LEN;
                    if let Some(frame) = self.whole(kind, payload)? {
                        return Ok((at, Some(frame)));
                    }
                }
                Expected::Body(left) => {
                    let here = left.min(rest.len());
                    self.take_body(rest.get(..here).unwrap_or_default())?;
                    at += here;
                    self.state = if here == left { Expected::End } else { Expected::Body(left - here) };
                    if here < left {
                        return Ok((at, None));
                    }
                }
                Expected::End => match rest.first() {
                    None => return Ok((at, None)),
                    Some(&END) => {
                        at += END_LEN;
                        self.state = Expected::Head;
                        if let Some(message) = self.complete() {
                            return Ok((at, Some(Frame::Message(Box::new(message)))));
                        }
                    }
                    Some(_) => return Err(MalformedFrame("a frame without its end")),
                },
            }
        }
    }

    /// Allocates the body after [`Frame::Content`]. Returns the message if its body is empty.
    pub fn begin_body(&mut self) -> Option<IncomingMessage> {
        let len = self.kept_len(self.begun.as_ref()?.message.len);
        self.begun.as_mut()?.message.body.reserve_exact(len);
        self.complete()
    }

    fn kept_len(&self, len: u64) -> usize {
        usize::try_from(len).ok().filter(|len| *len <= self.whole_len_max).unwrap_or(self.truncated_len)
    }

    /// Decodes a frame that has no body of a message.
    fn whole(&mut self, kind: u8, payload: &mut [u8]) -> Result<Option<Frame>, MalformedFrame> {
        match kind {
            METHOD => match payload.strip_prefix(&DELIVER) {
                Some(arguments) => {
                    let message = delivered(arguments).ok_or(MalformedFrame("a delivery that cannot be read"))?;
                    self.begun = Some(Begun { message, missing: None });
                    Ok(None)
                }
                None => {
                    let (_, method) =
                        parse_class(&*payload).map_err(|_| MalformedFrame("a method that cannot be read"))?;
                    Ok(Some(Frame::Method(Box::new(method))))
                }
            },
            HEADER => {
                let begun = self.begun.as_mut().filter(|begun| begun.missing.is_none());
                let begun = begun.ok_or(MalformedFrame("properties without a delivery"))?;
                scrub_properties(payload);
                let before = payload.first_chunk().ok_or(MalformedFrame("properties that are too short"))?;
                let [.., a, b, c, d, e, f, g, h]: [u8; BEFORE_PROPERTIES] = *before;
                let len = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                let properties = payload.get(BEFORE_PROPERTIES..).unwrap_or_default();
                // A message whose properties cannot be read must not end every connection that it is delivered on.
                begun.message.properties = basic::parse_properties(properties).map(|(_, of)| of).unwrap_or_default();
                begun.message.len = len;
                begun.missing = Some(len);
                Ok(Some(Frame::Content(self.kept_len(len))))
            }
            HEARTBEAT => Ok(None),
            _ => Err(MalformedFrame("a frame of an unknown type")),
        }
    }

    fn take_body(&mut self, bytes: &[u8]) -> Result<(), MalformedFrame> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(Begun { message, missing: Some(missing) }) = &mut self.begun else {
            return Err(MalformedFrame("a body without its properties"));
        };
        *missing = missing.checked_sub(bytes.len() as u64).ok_or(MalformedFrame("a body that is too long"))?;
        // The capacity of the body is the number of bytes to keep.
        let room = message.body.capacity() - message.body.len();
        message.body.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        Ok(())
    }

    /// Takes the message if it is complete.
    fn complete(&mut self) -> Option<IncomingMessage> {
        self.begun.take_if(|begun| begun.missing == Some(0)).map(|begun| begun.message)
    }
}

/// Decodes the arguments of `basic.deliver`. The publisher chose the routing key. If it is not UTF-8, the client library
/// refuses the message each time it is delivered.
fn delivered(arguments: &[u8]) -> Option<IncomingMessage> {
    let (consumer_tag_len, rest) = arguments.split_first()?;
    let rest = rest.get(usize::from(*consumer_tag_len)..)?;
    let (tag, rest) = rest.split_first_chunk()?;
    let redelivered = rest.first()? & 1 == 1;
    let (tag, properties) = (u64::from_be_bytes(*tag), BasicProperties::default());
    Some(IncomingMessage { tag, redelivered, properties, body: Vec::new(), len: 0 })
}

/// Encodes a method as a frame.
///
/// # Panics
/// If the method is longer than 4 GiB.
#[must_use]
pub fn encode_method(channel: u16, method: &AMQPClass) -> Vec<u8> {
    let written = gen_class(method)(Vec::new().into()).expect("a list grows as needed");
    frame(METHOD, channel, &written.into_inner().0)
}

/// Encodes a heartbeat.
#[must_use]
pub fn encode_heartbeat() -> Vec<u8> {
    frame(HEARTBEAT, 0, &[])
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("our methods are short");
    [&[kind][..], &channel.to_be_bytes(), &size.to_be_bytes(), payload, &[END]].concat()
}

#[cfg(test)]
mod tests {
    use lapin::protocol::queue;
    use proptest::prelude::*;

    use super::*;

    fn delivery(redelivered: bool, routing_key: &[u8]) -> Vec<u8> {
        let key_len = u8::try_from(routing_key.len()).unwrap();
        let payload =
            [&DELIVER[..], b"\x03tag", &17_u64.to_be_bytes(), &[redelivered.into(), 0, key_len], routing_key].concat();
        frame(METHOD, 1, &payload)
    }

    fn content(len: u64, flags_and_properties: &[u8]) -> Vec<u8> {
        frame(HEADER, 1, &[&[0, 60, 0, 0][..], &len.to_be_bytes(), flags_and_properties].concat())
    }

    const WHOLE_LEN_MAX: usize = 1024 * 1024;
    const TRUNCATED_LEN: usize = 64 * 1024;

    /// Decodes bytes that arrive in parts of these lengths.
    fn decoded(bytes: &[u8], parts: impl IntoIterator<Item = usize>) -> Result<Vec<Frame>, MalformedFrame> {
        let (mut decoder, mut waiting, mut frames, mut rest) =
            (Decoder::new(WHOLE_LEN_MAX, TRUNCATED_LEN), Vec::new(), Vec::new(), bytes);
        for len in parts.into_iter().chain([usize::MAX]) {
            let (part, left) = rest.split_at(len.min(rest.len()));
            rest = left;
            waiting.extend_from_slice(part);
            loop {
                let (taken, frame) = decoder.decode(&mut waiting)?;
                waiting.drain(..taken);
                match frame {
                    None => break,
                    Some(Frame::Content(_)) => frames.extend(decoder.begin_body().map(Box::new).map(Frame::Message)),
                    Some(frame) => frames.push(frame),
                }
            }
        }
        Ok(frames)
    }

    fn message(bytes: &[u8]) -> IncomingMessage {
        match decoded(bytes, []).unwrap().remove(0) {
            Frame::Message(message) => *message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn message_is_decoded_whole() {
        let bytes = [
            delivery(true, b"default"),
            content(7, b"\x80\0\x04text"),
            frame(BODY, 1, b"body"),
            frame(HEARTBEAT, 0, b""),
            frame(BODY, 1, b"ies"),
        ];
        let IncomingMessage { tag, redelivered, properties, body, len } = message(&bytes.concat());
        assert_eq!((tag, redelivered, body.as_slice(), len), (17, true, &b"bodyies"[..], 7));
        assert_eq!(properties.content_type().as_ref().map(|text| text.as_str()), Some("text"));
    }

    #[test]
    fn message_without_body_is_complete_at_once() {
        let bytes = [delivery(false, b""), content(0, b"\0\0"), delivery(false, b""), content(0, b"\0\0")].concat();
        assert_eq!(decoded(&bytes, []).unwrap().len(), 2);
    }

    #[test]
    fn long_body_is_truncated() {
        let part = vec![b'x'; 100_000];
        let count = 210;
        let mut bytes = [delivery(false, b""), content(21_000_000, b"\0\0")].concat();
        (0..count).for_each(|_| bytes.extend(frame(BODY, 1, &part)));
        bytes.extend([delivery(false, b""), content(2, b"\0\0"), frame(BODY, 1, b"{}")].concat());
        let frames = decoded(&bytes, []).unwrap();
        let [Frame::Message(long), Frame::Message(next)] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!((long.body.len(), long.body.capacity(), long.len), (TRUNCATED_LEN, TRUNCATED_LEN, 21_000_000));
        assert_eq!((next.body.as_slice(), next.len), (&b"{}"[..], 2));
    }

    #[test]
    fn body_of_maximum_length_is_whole() {
        let body = vec![b' '; WHOLE_LEN_MAX];
        let whole = |body: &[u8]| {
            message(&[delivery(false, b""), content(body.len() as u64, b"\0\0"), frame(BODY, 1, body)].concat())
        };
        assert_eq!(whole(&body).body.len(), WHOLE_LEN_MAX);
        assert_eq!(whole(&[body, vec![b' ']].concat()).body.len(), TRUNCATED_LEN);
    }

    #[test]
    fn hostile_publishers_end_no_connection() {
        for routing_key in [&b"\xff\xfe"[..], b""] {
            for properties in [&b"\x80\0\xff"[..], b"\x20\0\xff\xff\xff\xff", b"", b"\x80\0\x02\xff\xfe"] {
                let bytes = [delivery(false, routing_key), content(2, properties), frame(BODY, 1, b"{}")].concat();
                assert_eq!(message(&bytes).body, b"{}");
            }
        }
    }

    #[test]
    fn malformed_frames_are_errors() {
        let check = |bytes: &[u8], problem: &str| {
            let error = decoded(bytes, []).unwrap_err();
            assert_eq!(error.to_string(), format!("malformed data from the broker: {problem}"));
        };
        check(b"AMQP\x01\x01\x00\x09", "another version of the protocol");
        check(&[4, 0, 0, 0, 0, 0, 0, END], "a frame of an unknown type");
        check(&[8, 0, 0, 0, 0, 0, 0, 0], "a frame without its end");
        check(&[1, 0, 0, 0xff, 0, 0, 0], "a frame that is too long");
        check(&frame(BODY, 1, b"x"), "a body without its properties");
        check(&content(1, b"\0\0"), "properties without a delivery");
        check(&frame(METHOD, 1, b"\0\x3c\0\x3c\xff"), "a delivery that cannot be read");
        check(&[delivery(false, b""), content(1, b"\0\0"), frame(BODY, 1, b"xy")].concat(), "a body that is too long");
    }

    #[test]
    fn methods_are_decoded_as_encoded() {
        let open =
            queue::AMQPMethod::DeclareOk(queue::DeclareOk { queue: "q".into(), message_count: 3, consumer_count: 1 });
        let open = AMQPClass::Queue(open);
        let frames = decoded(&[encode_method(1, &open), encode_heartbeat()].concat(), []).unwrap();
        let [Frame::Method(read)] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!(**read, open);
    }

    proptest! {
        /// The result does not depend on the parts in which bytes arrive.
        #[test]
        fn parts_make_no_difference(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..5),
            parts in prop::collection::vec(0_usize..40, 0..60),
        ) {
            let mut bytes = Vec::new();
            for body in &bodies {
                let (first, second) = body.split_at(body.len() / 2);
                bytes.extend([delivery(false, b"k"), content(body.len() as u64, b"\0\0")].concat());
                bytes.extend([frame(BODY, 1, first), frame(BODY, 1, second)].concat());
            }
            let read: Vec<_> = decoded(&bytes, parts).unwrap().into_iter().map(|frame| match frame {
                Frame::Message(message) => message.body,
                other => panic!("{other:?}"),
            }).collect();
            prop_assert_eq!(read, bodies);
        }

        /// No input causes a panic.
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _decoded = decoded(&bytes, [3, 5]);
        }
    }
}
