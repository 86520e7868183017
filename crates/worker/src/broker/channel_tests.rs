//! A broker that allows few channels, and has no exchange and no queue.

use imageshare_amqp::{
    encode_method,
    fake_broker::{BrokerLimits, FakeBroker},
};
use lapin::{
    protocol::{AMQPClass, channel},
    types::ShortString,
};

use super::{Connection, Error, TimeOuts, Url, topology};

const NOT_FOUND: u16 = 404;

/// Connects to a broker that allows this many channels.
async fn connect(channel_max: u16) -> (Connection, FakeBroker) {
    let limits = BrokerLimits { channel_max, ..BrokerLimits::default() };
    let broker = FakeBroker::with_limits(limits, |channel, received| match received {
        AMQPClass::Exchange(_) | AMQPClass::Queue(_) => {
            let reply_text = ShortString::from("NOT_FOUND");
            let close = channel::Close { reply_code: NOT_FOUND, reply_text, class_id: 0, method_id: 0 };
            vec![encode_method(channel, &AMQPClass::Channel(channel::AMQPMethod::Close(close)))]
        }
        _ => vec![],
    })
    .await;
    let url: Url = broker.url().parse().unwrap();
    (Connection::open(&url, "test", TimeOuts::default()).await.unwrap(), broker)
}

#[tokio::test]
async fn channel_beyond_channel_max_names_it() {
    let (connection, _broker) = connect(2).await;
    let channels = [connection.channel().await.unwrap(), connection.channel().await.unwrap()];
    let error = connection.channel().await.unwrap_err();
    assert_eq!(error, Error::ChannelMax { allowed: 2, needed: 3 });
    assert_eq!(error.to_string(), "channel_max: the broker allows 2 channels (expected at least 3)");
    assert!(error.is_configuration());
    drop(channels);
}

/// Each missing item costs a channel: 3 exchanges and 3 queues, and an exchange and a queue for the lane.
#[tokio::test]
async fn check_names_channel_max_it_needs() {
    for (channel_max, allowed) in [(1, false), (7, false), (8, true), (0, true)] {
        let (connection, _broker) = connect(channel_max).await;
        let checked = topology::check(&connection, ["default"]).await;
        match allowed {
            true => assert_eq!(checked.map(|differences| differences.len()), Ok(8), "{channel_max}"),
            false => assert_eq!(checked, Err(Error::ChannelMax { allowed: channel_max, needed: 17 }), "{channel_max}"),
        }
    }
}
