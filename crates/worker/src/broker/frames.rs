//! Frames of AMQP 0-9-1 as bytes: what the broker sends on the connection of a lane, and what we send.
//!
//! The client library keeps every message whole, reads as fast as the broker sends, and needs a thread and half a mebibyte
//! for each connection. A worker may have hundreds of lanes, and anybody may publish to them. So a lane's messages are read
//! here: a body no further than a job may be long, and nothing before its bytes are reserved.

use lapin::protocol::{AMQPClass, BasicProperties, basic, gen_class, parse_class};

use super::inflow::{HEADER_LEN_MAX, scrub};
use crate::wire::job::JOB_BYTES_MAX;

/// The protocol and its version, with which a client begins.
pub(super) const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// Bytes of a body that are kept if it is longer than a job may be: enough to recognize it.
pub const TRUNCATED_LEN: usize = 64 * 1024;

/// The longest frame that we ask for, in bytes: what brokers allow by default. It costs no memory here, since bodies are
/// taken as they come.
pub(super) const FRAME_MAX: u32 = 128 * 1024;

/// Bytes of a frame (type, channel, size) before its payload, and after it.
pub(super) const HEAD_LEN: usize = 7;
const END_LEN: usize = 1;
const END: u8 = 0xce;

/// Types of frames.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// The longest payload of a method that is read. Reply texts and the broker's own properties are far shorter.
const METHOD_LEN_MAX: usize = 1024 * 1024;

/// How the method `basic.deliver` begins: class and method.
const DELIVER: [u8; 4] = [0, 60, 0, 60];

/// Bytes of a header's payload before the properties: class, weight, length of the body.
const BEFORE_PROPERTIES: usize = 12;

/// Something that the broker sent.
#[derive(Debug)]
pub enum Frame {
    /// A method.
    Method(Box<AMQPClass>),
    /// The properties of a message came, and the length of its body, which [`Decoder::begin_body`] then reads.
    Content(u64),
    /// A message is complete.
    Message(Box<Message>),
}

/// A message as it was delivered.
#[derive(Debug)]
pub struct Message {
    /// What it is acknowledged by.
    pub tag: u64,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// What came around it.
    pub properties: BasicProperties,
    /// Its body, or the beginning of one that is longer than a job may be.
    pub body: Vec<u8>,
    /// Bytes of the whole body.
    pub len: u64,
}

/// What the broker sent is not AMQP 0-9-1, or not in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed data from the broker: {0}")]
pub struct Malformed(&'static str);

/// Reads frames from bytes that come in any parts.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// The message that is under way.
    begun: Option<Begun>,
}

/// A message that is under way.
#[derive(Debug)]
struct Begun {
    message: Message,
    /// Bytes of its body that are still to come, once its length is known.
    missing: Option<u64>,
}

/// What is expected next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// Bytes of the payload of a body that are still to come. The first ones may belong to the kept part.
    Body(usize),
    /// The last byte of a frame.
    End,
}

/// Bytes of a body of this length that are kept.
#[must_use]
pub fn kept_len(len: u64) -> usize {
    usize::try_from(len).ok().filter(|len| *len <= JOB_BYTES_MAX).unwrap_or(TRUNCATED_LEN)
}

impl Decoder {
    /// Takes bytes from the beginning of `input` until something is complete. Gives how many it took and what is complete;
    /// if nothing is, more input is needed behind what is left.
    ///
    /// # Errors
    /// If this is not what a broker sends. Nothing can be read any more.
    pub fn decode(&mut self, input: &mut [u8]) -> Result<(usize, Option<Frame>), Malformed> {
        let mut at = 0;
        loop {
            let rest = input.get_mut(at..).unwrap_or_default();
            match self.state {
                State::Head => {
                    let Some((head, rest)) = rest.split_first_chunk_mut::<HEAD_LEN>() else { return Ok((at, None)) };
                    if head.starts_with(b"AMQP") {
                        return Err(Malformed("another version of the protocol"));
                    }
                    let [kind, _, _, size @ ..] = *head;
                    let size = u32::from_be_bytes(size) as usize;
                    if kind == BODY {
                        self.state = State::Body(size);
                        at += HEAD_LEN;
                        continue;
                    }
                    if size > METHOD_LEN_MAX.max(HEADER_LEN_MAX) {
                        return Err(Malformed("a frame that is too long"));
                    }
                    let Some((payload, rest)) = rest.split_at_mut_checked(size) else { return Ok((at, None)) };
                    match rest.first() {
                        None => return Ok((at, None)),
                        Some(&END) => {}
                        Some(_) => return Err(Malformed("a frame without its end")),
                    }
                    at += HEAD_LEN + size + END_LEN;
                    if let Some(frame) = self.whole(kind, payload)? {
                        return Ok((at, Some(frame)));
                    }
                }
                State::Body(left) => {
                    let here = left.min(rest.len());
                    self.take_body(rest.get(..here).unwrap_or_default())?;
                    at += here;
                    self.state = if here == left { State::End } else { State::Body(left - here) };
                    if here < left {
                        return Ok((at, None));
                    }
                }
                State::End => match rest.first() {
                    None => return Ok((at, None)),
                    Some(&END) => {
                        at += END_LEN;
                        self.state = State::Head;
                        if let Some(message) = self.complete() {
                            return Ok((at, Some(Frame::Message(Box::new(message)))));
                        }
                    }
                    Some(_) => return Err(Malformed("a frame without its end")),
                },
            }
        }
    }

    /// After [`Frame::Content`], when the bytes that are kept may be taken. Gives the message if it has no body.
    pub fn begin_body(&mut self) -> Option<Message> {
        let message = &mut self.begun.as_mut()?.message;
        message.body.reserve_exact(kept_len(message.len));
        self.complete()
    }

    /// A frame that was seen whole.
    fn whole(&mut self, kind: u8, payload: &mut [u8]) -> Result<Option<Frame>, Malformed> {
        match kind {
            METHOD => match payload.strip_prefix(&DELIVER) {
                Some(arguments) => {
                    let message = delivered(arguments).ok_or(Malformed("a delivery that cannot be read"))?;
                    self.begun = Some(Begun { message, missing: None });
                    Ok(None)
                }
                None => {
                    let (_, method) = parse_class(&*payload).map_err(|_| Malformed("a method that cannot be read"))?;
                    Ok(Some(Frame::Method(Box::new(method))))
                }
            },
            HEADER => {
                let begun = self.begun.as_mut().filter(|begun| begun.missing.is_none());
                let begun = begun.ok_or(Malformed("properties without a delivery"))?;
                scrub(payload);
                let before = payload.first_chunk().ok_or(Malformed("properties that are too short"))?;
                let [.., a, b, c, d, e, f, g, h]: [u8; BEFORE_PROPERTIES] = *before;
                let len = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                let properties = payload.get(BEFORE_PROPERTIES..).unwrap_or_default();
                // A message whose properties cannot be read must not end every connection that it is delivered on.
                begun.message.properties = basic::parse_properties(properties).map(|(_, of)| of).unwrap_or_default();
                begun.message.len = len;
                begun.missing = Some(len);
                Ok(Some(Frame::Content(len)))
            }
            HEARTBEAT => Ok(None),
            _ => Err(Malformed("a frame of an unknown type")),
        }
    }

    fn take_body(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(Begun { message, missing: Some(missing) }) = &mut self.begun else {
            return Err(Malformed("a body without its properties"));
        };
        *missing = missing.checked_sub(bytes.len() as u64).ok_or(Malformed("a body that is too long"))?;
        let room = kept_len(message.len) - message.body.len();
        message.body.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        Ok(())
    }

    /// Takes the message that is under way if nothing of it is missing.
    fn complete(&mut self) -> Option<Message> {
        self.begun.take_if(|begun| begun.missing == Some(0)).map(|begun| begun.message)
    }
}

/// Reads the arguments of `basic.deliver` by hand: the publisher chose the routing key, which may be no text, and then the
/// client library's parser would refuse the message each time it is delivered.
fn delivered(arguments: &[u8]) -> Option<Message> {
    let (consumer_tag_len, rest) = arguments.split_first()?;
    let rest = rest.get(usize::from(*consumer_tag_len)..)?;
    let (tag, rest) = rest.split_first_chunk()?;
    let redelivered = rest.first()? & 1 == 1;
    let (tag, properties) = (u64::from_be_bytes(*tag), BasicProperties::default());
    Some(Message { tag, redelivered, properties, body: Vec::new(), len: 0 })
}

/// A frame with this method.
///
/// # Panics
/// If the method is longer than a frame may say, which none of ours is.
pub(super) fn method(channel: u16, method: &AMQPClass) -> Vec<u8> {
    let written = gen_class(method)(Vec::new().into()).expect("a list grows as needed");
    frame(METHOD, channel, &written.into_inner().0)
}

/// A frame that says that we are there.
pub(super) fn heartbeat() -> Vec<u8> {
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

    /// What is read of bytes that come in parts of these lengths.
    fn decoded(bytes: &[u8], parts: impl IntoIterator<Item = usize>) -> Result<Vec<Frame>, Malformed> {
        let (mut decoder, mut waiting, mut frames, mut rest) = (Decoder::default(), Vec::new(), Vec::new(), bytes);
        for len in parts.into_iter().chain([usize::MAX]) {
            let (came, left) = rest.split_at(len.min(rest.len()));
            rest = left;
            waiting.extend_from_slice(came);
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

    fn message(bytes: &[u8]) -> Message {
        match decoded(bytes, []).unwrap().remove(0) {
            Frame::Message(message) => *message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn message_is_read_whole() {
        let bytes = [
            delivery(true, b"default"),
            content(7, b"\x80\0\x04text"),
            frame(BODY, 1, b"body"),
            frame(HEARTBEAT, 0, b""),
            frame(BODY, 1, b"ies"),
        ];
        let Message { tag, redelivered, properties, body, len } = message(&bytes.concat());
        assert_eq!((tag, redelivered, body.as_slice(), len), (17, true, &b"bodyies"[..], 7));
        assert_eq!(properties.content_type().as_ref().map(|text| text.as_str()), Some("text"));
    }

    #[test]
    fn message_without_a_body_is_complete_at_once() {
        let bytes = [delivery(false, b""), content(0, b"\0\0"), delivery(false, b""), content(0, b"\0\0")].concat();
        assert_eq!(decoded(&bytes, []).unwrap().len(), 2);
    }

    #[test]
    fn long_body_is_cut_and_what_follows_is_read() {
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
    fn body_as_long_as_a_job_may_be_is_whole() {
        let body = vec![b' '; JOB_BYTES_MAX];
        let whole = |body: &[u8]| {
            message(&[delivery(false, b""), content(body.len() as u64, b"\0\0"), frame(BODY, 1, body)].concat())
        };
        assert_eq!(whole(&body).body.len(), JOB_BYTES_MAX);
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
    fn methods_are_read_as_they_are_written() {
        let open =
            queue::AMQPMethod::DeclareOk(queue::DeclareOk { queue: "q".into(), message_count: 3, consumer_count: 1 });
        let open = AMQPClass::Queue(open);
        let frames = decoded(&[method(1, &open), heartbeat()].concat(), []).unwrap();
        let [Frame::Method(read)] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!(**read, open);
    }

    proptest! {
        /// In whatever parts the bytes come, the same is read.
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

        /// Whatever comes, nothing panics and no more is kept than a body may have.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _read = decoded(&bytes, [3, 5]);
        }
    }
}
