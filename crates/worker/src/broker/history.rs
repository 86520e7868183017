//! The history: a stream that keeps a copy of every report, and a reader that leaves them there.
//!
//! A stream has no end that AMQP 0-9-1 shows: a consumer at the last message waits for the next one, and the message count
//! of a passive declare lags by seconds (RabbitMQ 3.10 updates it every 5 s). Therefore a reader publishes a marker and
//! reads until the marker arrives. This is exact, since a stream is one log: the broker delivers it in order and without
//! gaps, so every report that it stored before the marker arrives before the marker. If the marker does not arrive, the
//! reader returns an error and never a part of the history as the whole. Markers stay in the stream, about 100 bytes
//! each, until its retention removes them. Readers skip those of others.

use std::{fmt, pin::Pin, str::FromStr, time::Duration};

use futures_util::FutureExt as _;
use imageshare_amqp::PERSISTENT;
use imageshare_core::text::{excerpt, printable};
use jiff::Timestamp;
use lapin::{
    BasicProperties, Channel, Confirmation, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::time::timeout;

use super::{Connection, Error, TimeOuts, Url, bounded, publisher_connection::PUBLISH, topology};
use crate::wire::{Report, report::worker_name};

/// Reports that are delivered and not acknowledged. For a stream this is only flow control: an acknowledgement removes
/// nothing.
const PREFETCH: u16 = 2_000;

/// Reports that are acknowledged together.
const ACK_EVERY: u16 = PREFETCH / 4;

/// How long to wait for the next message before the marker. A busy broker is slow to read old segments from disk.
const QUIET: Duration = Duration::from_secs(60);

/// The stream finds the first chunk by the broker's clock, and reports have the worker's. Reading starts this much earlier.
const CLOCK_MARGIN: Duration = Duration::from_secs(600);

/// The `type` property of a marker.
const MARKER: &str = "imageshare.marker";

/// How long the history keeps reports. The broker removes whole segments of the stream, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// As RabbitMQ reads it in `x-max-age`, such as `30D`.
    pub(super) max_age: String,
    /// Bytes of the stream on each node's disk.
    pub(super) max_len: u64,
}

/// A size in bytes that a person writes, such as `10GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u64);

/// The age at which reports may be removed, such as `30d`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Age(String);

/// Why a text is not an age or a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {value} (expected {expected})")]
pub struct RetentionError {
    value: String,
    expected: &'static str,
}

/// Reads the reports of the history from oldest to newest, up to the newest at the time it was opened.
pub struct HistoryReader {
    // It has to be dropped before the consumer.
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    marker: ShortString,
    /// The broker's answer to the marker, until it has arrived.
    confirm: Option<Confirm>,
    /// Deliveries since the last acknowledgement.
    unacked: u16,
    is_at_end: bool,
}

type Confirm = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

impl Retention {
    /// The size without another setting: 10 GiB, about 11 million reports of ten accounts.
    pub const DEFAULT_SIZE: Size = Size(10 << 30);

    /// Keeps reports until they are this old, or until the stream is this long.
    #[must_use]
    pub fn new(age: Age, size: Size) -> Self {
        Self { max_age: age.0, max_len: size.0 }
    }
}

impl FromStr for Age {
    type Err = RetentionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid =
            || RetentionError { value: excerpt(text), expected: "1 to 36500 days or hours, such as 30d or 12h" };
        // The broker reads `D` as days and `h` as hours.
        let (number, unit) = match (text.strip_suffix('d'), text.strip_suffix('h')) {
            (Some(days), _) => (days, 'D'),
            (None, Some(hours)) => (hours, 'h'),
            (None, None) => return Err(invalid()),
        };
        let number = whole(number).filter(|number| (1..=36_500).contains(number)).ok_or_else(invalid)?;
        Ok(Self(format!("{number}{unit}")))
    }
}

impl FromStr for Size {
    type Err = RetentionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const UNITS: [(&str, u64); 3] = [("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
        let bytes = UNITS.into_iter().find_map(|(unit, factor)| {
            let number = whole(text.strip_suffix(unit)?)?;
            number.checked_mul(factor)
        });
        // A stream keeps at least its newest segment.
        let in_range = bytes.filter(|bytes| (u64::from(topology::SEGMENT_LEN)..=1 << 50).contains(bytes));
        let expected = "64MiB to 1024TiB, such as 500MiB or 20GiB";
        in_range.map(Self).ok_or_else(|| RetentionError { value: excerpt(text), expected })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = [(1 << 40, "TiB"), (1 << 30, "GiB")]
            .into_iter()
            .find(|(unit, _)| self.0.is_multiple_of(*unit))
            .unwrap_or((1 << 20, "MiB"));
        write!(f, "{}{name}", self.0 / unit)
    }
}

fn whole(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

impl HistoryReader {
    /// Opens the history at its beginning, or shortly before `since`.
    ///
    /// # Errors
    /// If the broker cannot be reached, there is no such stream, or this user may not read it.
    pub async fn open(url: &Url, name: &str, time_outs: TimeOuts, since: Option<Timestamp>) -> Result<Self, Error> {
        let connection = Connection::open(url, name, time_outs).await?;
        connection.limit_reading();
        let limit = time_outs.call;
        let channel = connection.channel().await?;
        let select = channel.confirm_select(ConfirmSelectOptions::default());
        bounded(limit, "confirm.select", select).await?;
        bounded(limit, "basic.qos", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let mut arguments = FieldTable::default();
        // A queue of any other type refuses this argument, so no other queue is consumed by mistake.
        arguments.insert("x-stream-offset".into(), offset(since));
        let consume =
            channel.basic_consume(topology::HISTORY.into(), "".into(), BasicConsumeOptions::default(), arguments);
        let consumer = bounded(limit, "basic.consume", consume).await?;
        // After the consumer: a marker before the place where it starts would never arrive.
        let marker = ShortString::from(format!("{}-{}", worker_name(), Timestamp::now().as_nanosecond()));
        let confirm: Option<Confirm> = Some(Box::pin(publish_marker(channel.clone(), marker.clone())));
        Ok(Self { connection, channel, consumer, marker, confirm, unacked: 0, is_at_end: false })
    }

    /// Returns the next message: a report, or why it cannot be read as one. `None` behind the last that was stored when
    /// the history was opened.
    ///
    /// # Errors
    /// If the connection is lost or the end cannot be found.
    pub async fn next(&mut self) -> Result<Option<Result<Report, serde_json::Error>>, Error> {
        while !self.is_at_end {
            let delivery = self.next_delivery().await?;
            if delivery.exchange.as_str() != topology::HISTORY {
                return Ok(Some(serde_json::from_slice(&delivery.data)));
            }
            self.is_at_end = delivery.properties.message_id().as_ref() == Some(&self.marker);
        }
        Ok(None)
    }

    async fn next_delivery(&mut self) -> Result<Delivery, Error> {
        let call = "basic.deliver";
        let next = timeout(QUIET, async {
            loop {
                tokio::select! {
                    biased;
                    // Before the deliveries: it names the reason for which they end.
                    confirmation = confirmed(&mut self.confirm) => confirmation?,
                    next = self.connection.next_delivery(&mut self.consumer) => return match next {
                        Some(Ok(delivery)) => Ok(delivery),
                        Some(Err(error)) => Err(Error::from_call(call, &error)),
                        None => Err(Error::Lost { call, detail: "the consumer was ended".to_owned() }),
                    },
                }
            }
        });
        let delivery = next.await.unwrap_or(Err(Error::TimeOut { call, after: QUIET }))?;
        self.unacked += 1;
        if self.unacked >= ACK_EVERY {
            self.unacked = 0;
            let ack = self.channel.basic_ack(delivery.delivery_tag, BasicAckOptions { multiple: true });
            bounded(self.connection.time_outs().call, "basic.ack", ack).await?;
        }
        Ok(delivery)
    }

    /// Closes the connection.
    pub async fn close(self) {
        // All is read; the broker's answer changes nothing.
        drop(self.connection.close().await);
    }
}

impl fmt::Debug for HistoryReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryReader").field("marker", &self.marker).field("is_at_end", &self.is_at_end).finish()
    }
}

/// Where a reader starts: at the first chunk, or at the one of this time. A time before the first chunk means the first.
fn offset(since: Option<Timestamp>) -> AMQPValue {
    let start = since.and_then(|since| since.checked_sub(CLOCK_MARGIN).ok());
    match start.and_then(|start| u64::try_from(start.as_second()).ok()) {
        Some(seconds) => AMQPValue::Timestamp(seconds),
        None => AMQPValue::LongString("first".into()),
    }
}

async fn publish_marker(channel: Channel, id: ShortString) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let properties =
        BasicProperties::default().with_message_id(id).with_type(MARKER.into()).with_delivery_mode(PERSISTENT);
    channel.basic_publish(topology::HISTORY.into(), "".into(), options, b"", properties).await?.await
}

/// Waits for the broker's answer to the marker. Completes once, and never again.
async fn confirmed(confirm: &mut Option<Confirm>) -> Result<(), Error> {
    let Some(waiting) = confirm else { return std::future::pending().await };
    let confirmation = waiting.as_mut().map(|ended| ended.map_err(|error| Error::from_call(PUBLISH, &error))).await;
    *confirm = None;
    match confirmation? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(returned)) => Err(Error::Closed {
            call: PUBLISH,
            code: returned.reply_code,
            text: printable(returned.reply_text.as_str(), 200),
        }),
        Confirmation::Nack(_) | Confirmation::NotRequested => {
            Err(Error::Lost { call: PUBLISH, detail: "the broker refused the marker".to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_age(text: &str, age: Option<&str>) {
        assert_eq!(text.parse::<Age>().ok().map(|age| age.0).as_deref(), age, "{text}");
    }

    #[test]
    fn ages_are_days_or_hours() {
        check_age("30d", Some("30D"));
        check_age("12h", Some("12h"));
        check_age("36500d", Some("36500D"));
        for text in ["", "d", "0d", "36501d", "30", "30D", "30m", "-1d", "+1d", "1.5d", "99999999999999999999d"] {
            check_age(text, None);
        }
        let error = "30\u{1b}".parse::<Age>().unwrap_err().to_string();
        assert_eq!(error, r#"invalid value "30\u{1b}" (expected 1 to 36500 days or hours, such as 30d or 12h)"#);
    }

    #[track_caller]
    fn check_size(text: &str, bytes: Option<u64>) {
        assert_eq!(text.parse::<Size>().ok().map(|size| size.0), bytes, "{text}");
    }

    #[test]
    fn sizes_have_binary_units() {
        check_size("64MiB", Some(64 << 20));
        check_size("20GiB", Some(20 << 30));
        check_size("1024TiB", Some(1 << 50));
        for text in ["", "GiB", "63MiB", "1025TiB", "20", "20GB", "-1GiB", "1.5GiB", "99999999999999999TiB"] {
            check_size(text, None);
        }
        for text in ["64MiB", "1500MiB", "10GiB", "3TiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn reader_starts_before_the_requested_time() {
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        assert_eq!(offset(at(1_000)), AMQPValue::Timestamp(400));
        for early in [at(10), at(-5), None] {
            assert_eq!(offset(early), AMQPValue::LongString("first".into()));
        }
    }
}
