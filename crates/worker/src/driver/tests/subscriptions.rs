//! The source of a daemon, with the test in the place of the subscriptions.

use std::{
    future::ready,
    pin::Pin,
    sync::{Mutex, atomic::AtomicBool},
};

use imageshare_engine::{limits::LaneLimitValues, policy::TakeoverChecks};
use tokio::time::advance;

use super::{
    super::{BrokerSource, DriverChannels, DriverOrder, LaneReload},
    *,
};
use crate::{
    lane_messages::{Epoch, FromLane, Requeue, ToLane},
    ownership_proof::{Moment, OwnershipProof},
    status::{LaneState, Status},
};

const HEARTBEAT: Duration = Duration::from_secs(10);
const LANE: LaneId = LaneId(0);
/// No other worker had the lane.
const NO_CHECKS: Policy = Policy { takeover_checks: TakeoverChecks::Off, ..Policy::WORKER };

/// A daemon's driver with one lane, whose subscription is the test.
struct Daemon {
    events: mpsc::Sender<FromLane<u32>>,
    to_lane: mpsc::UnboundedReceiver<ToLane<u32>>,
    /// The orders to the other lanes.
    others: Vec<mpsc::UnboundedReceiver<ToLane<u32>>>,
    orders: mpsc::Sender<DriverOrder>,
    status: Arc<Status>,
    run: JoinHandle<()>,
}

impl Daemon {
    async fn start(endpoint: &str, source: impl Asks) -> Self {
        Self::with_lanes(1, endpoint, source).await
    }

    async fn with_lanes(count: usize, endpoint: &str, source: impl Asks) -> Self {
        Self::of(&vec![lane(endpoint, source, TimeOuts::default()).await; count])
    }

    fn of(lanes: &[OpenLane]) -> Self {
        let limits = Limits::default();
        let mut driver = Driver::new(lanes, NO_CHECKS, limits, &Client::new(TimeOuts::default()).unwrap());
        let (events, events_in) = mpsc::channel(8);
        let (lane, to_lane) = mpsc::unbounded_channel();
        let (orders, orders_in) = mpsc::channel(1);
        let status = driver.shared_status();
        let (other_lanes, others): (Vec<_>, _) = (1..lanes.len()).map(|_| mpsc::unbounded_channel()).unzip();
        let lanes = [lane].into_iter().chain(other_lanes).collect();
        let source = BrokerSource::new(DriverChannels { messages: events_in, lanes, orders: orders_in });
        let run = tokio::spawn(async move { drop(driver.run(source).await) });
        Self { events, to_lane, others, orders, status, run }
    }

    async fn next_message(&mut self) -> ToLane<u32> {
        self.to_lane.recv().await.expect("the driver runs")
    }

    async fn expect_consume(&mut self) {
        let message = self.next_message().await;
        assert!(matches!(message, ToLane::Consume), "{message:?}");
    }

    async fn expect_requeue(&mut self, epoch: u64) -> Requeue {
        match self.next_message().await {
            ToLane::Requeue(requeued, why) if requeued == Epoch(epoch) => why,
            other => panic!("{other:?}"),
        }
    }

    /// The identity and the outcomes of the next report.
    async fn settled(&mut self) -> (u32, Vec<String>) {
        match self.next_message().await {
            ToLane::Settled(settled, _) => reports(&[DriverEvent::Settled(settled)]).remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// The lane comes up with a proof that is fresh for a heartbeat.
    async fn up(&self, epoch: u64) -> Arc<OwnershipProof> {
        let proof = Arc::new(OwnershipProof::new(HEARTBEAT));
        proof.renew(Moment::now());
        self.send(FromLane::Up { lane: LANE, epoch: Epoch(epoch), proof: Arc::clone(&proof) }).await;
        proof
    }

    /// The same, and the proof is renewed as long as the test runs.
    async fn up_for_good(&self, epoch: u64) -> Arc<OwnershipProof> {
        let proof = self.up(epoch).await;
        let renewed = Arc::clone(&proof);
        tokio::spawn(async move {
            loop {
                sleep(HEARTBEAT / 4).await;
                renewed.renew(Moment::now());
            }
        });
        proof
    }

    async fn deliver(&self, epoch: u64, identity: u32, accounts: &[u64]) {
        self.send(FromLane::Delivered(Epoch(epoch), delivery(identity, accounts))).await;
    }

    async fn down(&self, epoch: u64) {
        self.send(FromLane::Down { lane: LANE, epoch: Epoch(epoch) }).await;
    }

    async fn send(&self, event: FromLane<u32>) {
        self.events.send(event).await.unwrap();
    }

    /// Pauses or resumes the lane.
    async fn reload(&self, is_paused: bool) {
        let limits = Limits::default();
        let lanes = vec![LaneReload { limits: LaneLimits::default(), account: None, is_paused }];
        self.orders.send(DriverOrder::Reload { limits: Box::new(limits), lanes }).await.unwrap();
    }

    /// Asserts that a paused lane sends nothing for ten minutes.
    async fn check_silence(&mut self, server: &Server) {
        let sent = server.seen().len();
        sleep(Duration::from_secs(600)).await;
        assert_eq!(server.seen().len(), sent);
        assert_eq!(self.status.lane(LANE).state(), LaneState::Paused);
        assert!(self.to_lane.try_recv().is_err(), "it is not consumed");
    }

    /// Drains. No message but the requeue is left.
    async fn end(mut self) {
        self.orders.send(DriverOrder::Drain).await.unwrap();
        self.run.await.unwrap();
        while let Some(message) = self.to_lane.recv().await {
            assert!(matches!(message, ToLane::Requeue(_, Requeue::Drain)), "{message:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_of_owned_lane_are_settled() {
    let server = Server::start(|_, _| Does::Works).await;
    let mut daemon = Daemon::start(&server.endpoint, same).await;
    daemon.expect_consume().await;
    daemon.up_for_good(1).await;
    daemon.deliver(1, 7, &[100_001]).await;
    daemon.deliver(1, 8, &[100_001, 100_002]).await;
    assert_eq!(daemon.settled().await, report(7, &["changed"]));
    assert_eq!(daemon.settled().await, report(8, &["changed", "changed"]));
    daemon.end().await;
}

#[tokio::test(start_paused = true)]
async fn job_of_several_images_has_one_report() {
    let server = Server::start(|seen, _| match seen.body["ImageId"].as_str() {
        Some("img-bad00000") if seen.action == WRITE => Does::Refuses("InvalidImageId.NotFound"),
        _ => Does::Works,
    })
    .await;
    let mut daemon = Daemon::start(&server.endpoint, same).await;
    daemon.expect_consume().await;
    daemon.up_for_good(1).await;
    let delivery = delivery_of(7, &[IMAGE, "img-bad00000", "img-other000"], &[100_001]);
    daemon.send(FromLane::Delivered(Epoch(1), delivery)).await;
    assert_eq!(daemon.settled().await, report(7, &["changed", "InvalidImageId.NotFound", "changed"]));
    daemon.end().await;
}

#[tokio::test(start_paused = true)]
async fn half_settled_job_is_redelivered_whole() {
    let is_busy = Arc::new(AtomicBool::new(true));
    let busy = Arc::clone(&is_busy);
    let mut server = Server::start(move |seen, _| match seen.body["ImageId"].as_str() {
        Some("img-other000") if seen.action == WRITE && busy.load(Ordering::SeqCst) => {
            Does::Refuses("InvalidImageId.InShared")
        }
        _ => Does::Works,
    })
    .await;
    let mut daemon = Daemon::start(&server.endpoint, same).await;
    daemon.expect_consume().await;
    daemon.up_for_good(1).await;
    let several = || delivery_of(7, &[IMAGE, "img-other000"], &[100_001]);
    daemon.send(FromLane::Delivered(Epoch(1), several())).await;
    daemon.deliver(1, 8, &[100_002]).await;
    // The writes to the first image were accepted long before the other image is tried again.
    let writes_of = |server: &Server, image: &str| {
        let seen = server.seen();
        seen.iter().filter(|seen| seen.action == WRITE && seen.body["ImageId"] == image).count()
    };
    while writes_of(&server, IMAGE) == 0 || writes_of(&server, "img-other000") < 3 {
        server.saw(WRITE).await;
    }
    daemon.down(1).await;
    is_busy.store(false, Ordering::SeqCst);
    daemon.expect_consume().await;
    daemon.up_for_good(2).await;
    daemon.send(FromLane::Delivered(Epoch(2), several())).await;
    daemon.deliver(2, 8, &[100_002]).await;
    assert_eq!(daemon.settled().await, report(7, &["unchanged", "changed"]));
    assert_eq!(daemon.settled().await, report(8, &["unchanged"]));
    daemon.end().await;
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_ended_subscription_are_dropped() {
    let server = Server::start(|_, _| Does::Works).await;
    let mut daemon = Daemon::start(&server.endpoint, same).await;
    daemon.expect_consume().await;
    daemon.deliver(1, 6, &[100_006]).await;
    daemon.up_for_good(1).await;
    daemon.deliver(1, 7, &[100_007]).await;
    daemon.down(1).await;
    daemon.expect_consume().await;
    daemon.deliver(1, 8, &[100_008]).await;
    daemon.up_for_good(2).await;
    daemon.deliver(1, 9, &[100_009]).await;
    daemon.down(1).await;
    daemon.deliver(2, 10, &[100_010]).await;
    assert_eq!(daemon.settled().await, report(10, &["changed"]));
    daemon.end().await;
    let written = |id: &str| server.seen().iter().any(|seen| seen.body.to_string().contains(id));
    assert!(written("100010") && ["100006", "100007", "100008", "100009"].iter().all(|id| !written(id)));
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_a_fresh_proof() {
    let server = Server::start(|_, _| Does::Works).await;
    let mut daemon = Daemon::start(&server.endpoint, same).await;
    daemon.expect_consume().await;
    let proof = daemon.up(1).await;
    sleep(HEARTBEAT * 2).await;
    daemon.deliver(1, 7, &[100_001]).await;
    sleep(HEARTBEAT * 6).await;
    assert!(server.seen().is_empty());
    proof.renew(Moment::now());
    assert_eq!(daemon.settled().await, report(7, &["changed"]), "no try was used up by waiting");
    daemon.end().await;
}

#[tokio::test(start_paused = true)]
async fn waiting_call_ends_with_its_lane() {
    let server = Server::start(|_, _| Does::Works).await;
    let mut daemon = Daemon::start(&server.endpoint, same).await;
    daemon.expect_consume().await;
    let proof = daemon.up(1).await;
    sleep(HEARTBEAT).await;
    daemon.deliver(1, 7, &[100_001]).await;
    sleep(HEARTBEAT).await;
    daemon.down(1).await;
    daemon.expect_consume().await;
    proof.renew(Moment::now());
    sleep(HEARTBEAT).await;
    assert!(server.seen().is_empty());
    daemon.end().await;
}

#[tokio::test(start_paused = true)]
async fn suspended_loop_releases_its_lanes() {
    let server = Server::start(|_, _| Does::Works).await;
    let mut daemon = Daemon::start(&server.endpoint, same).await;
    daemon.expect_consume().await;
    let proof = daemon.up_for_good(1).await;
    sleep(Duration::from_secs(60)).await;
    assert!(proof.is_fresh(), "having nothing to do is no standstill");
    advance(Duration::from_millis(2_600)).await;
    let message = daemon.next_message().await;
    assert!(matches!(message, ToLane::Cut(Epoch(1))), "{message:?}");
    daemon.expect_consume().await;
    assert!(!proof.is_fresh());
    // The end of the subscription arrives late and changes nothing.
    daemon.down(1).await;
    daemon.up_for_good(2).await;
    daemon.deliver(2, 7, &[100_001]).await;
    assert_eq!(daemon.settled().await, report(7, &["changed"]));
    daemon.end().await;
}

#[tokio::test(start_paused = true)]
async fn closed_lane_requeues_and_resumes() {
    let begun = Instant::now();
    let server = Server::start(move |_, _| {
        if begun.elapsed() < Duration::from_secs(300) {
            Does::Refuses("AuthFailure.SecretIdNotFound")
        } else {
            Does::Works
        }
    })
    .await;
    let mut daemon = Daemon::start(&server.endpoint, same).await;
    daemon.expect_consume().await;
    daemon.up_for_good(1).await;
    daemon.deliver(1, 7, &[100_001]).await;
    assert_eq!(daemon.expect_requeue(1).await, Requeue::Closed(CloseReason::Credential));
    let state = || daemon.status.lane(LANE).state();
    assert_eq!(state(), LaneState::Closed(CloseReason::Credential));
    assert!(begun.elapsed() < Duration::from_secs(70));
    daemon.down(1).await;
    daemon.expect_consume().await;
    assert!(begun.elapsed() > Duration::from_secs(300), "only after a good probe");
    daemon.up_for_good(2).await;
    daemon.deliver(2, 7, &[100_001]).await;
    assert_eq!(daemon.settled().await, report(7, &["changed"]));
    daemon.end().await;
}

#[tokio::test(start_paused = true)]
async fn lane_without_credential_holds_up_no_other() {
    let server = Server::start(|_, _| Does::Works).await;
    let first = lane(&server.endpoint, same, TimeOuts::default()).await;
    let given = Arc::new(Mutex::new(None));
    let source = Arc::clone(&given);
    let ask = move || -> Pin<Box<dyn Future<Output = Result<Loaded, CredentialsError>> + Send>> {
        let loaded = source.lock().unwrap().map(|id| Loaded {
            credential: credential(id),
            origin: "test".into(),
            expires_at: None,
        });
        Box::pin(ready(loaded.ok_or(CredentialsError::StillReading)))
    };
    let cache = CredentialCache::by(ask, Duration::from_secs(5), true, IfMissing::Wait).await.unwrap();
    let mut daemon = Daemon::of(&[
        first.clone(),
        OpenLane { config: LaneConfig::example("awaited", &first.endpoint.to_string()), credentials: cache },
    ]);
    daemon.expect_consume().await;
    daemon.up_for_good(1).await;
    daemon.deliver(1, 7, &[100_001]).await;
    assert_eq!(daemon.settled().await, report(7, &["changed"]));
    let awaited = daemon.status.lane(LaneId(1));
    let error = || awaited.last_error().unwrap().message;
    assert_eq!(awaited.state(), LaneState::Closed(CloseReason::Credential));
    assert!(error().contains("still being read"), "{}", error());
    // The key of the other lane, which has the same host.
    *given.lock().unwrap() = Some("AKIDFIRST");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(awaited.state(), LaneState::Closed(CloseReason::Credential));
    assert!(error().contains("also that of lane default"), "{}", error());
    assert!(daemon.others[0].try_recv().is_err());
    *given.lock().unwrap() = Some("AKIDSECOND");
    let message = timeout(Duration::from_secs(10), daemon.others[0].recv()).await;
    assert!(matches!(message, Ok(Some(ToLane::Consume))), "{message:?}");
    assert_eq!(awaited.state(), LaneState::Disconnected);
    daemon.end().await;
}

#[tokio::test(start_paused = true)]
async fn full_lane_finishes_its_jobs_and_is_requeued() {
    let server = Server::start(|_, _| Does::Works).await;
    // With 200 lanes the share of each is one job of the greatest length.
    let mut daemon = Daemon::with_lanes(200, &server.endpoint, same).await;
    daemon.expect_consume().await;
    daemon.up_for_good(1).await;
    let other = FromLane::Up { lane: LaneId(1), epoch: Epoch(9), proof: daemon.up_for_good(1).await };
    daemon.send(other).await;
    let (first, second): (Vec<u64>, Vec<u64>) = ((100_000..106_000).collect(), (200_000..206_000).collect());
    daemon.deliver(1, 7, &first).await;
    daemon.deliver(1, 8, &second).await;
    daemon.deliver(1, 9, &[100_000]).await;
    let elsewhere = Delivery { lane: LaneId(1), ..delivery(5, &[300_000]) };
    daemon.send(FromLane::Delivered(Epoch(9), elsewhere)).await;
    assert_eq!(daemon.settled().await.0, 7, "what was taken in is finished");
    assert_eq!(daemon.expect_requeue(1).await, Requeue::Operations, "and nothing after it was taken in");
    daemon.expect_consume().await;
    daemon.up_for_good(2).await;
    daemon.deliver(2, 8, &second).await;
    daemon.deliver(2, 9, &[100_000]).await;
    assert_eq!((daemon.settled().await.0, daemon.settled().await.0), (8, 9));
    let mut messages = Vec::new();
    while let Ok(order) = daemon.others[0].try_recv() {
        messages.push(order);
    }
    assert!(
        matches!(&messages[..], [ToLane::Consume, ToLane::Settled(settled, _)] if settled.identity == 5),
        "{messages:?}"
    );
    daemon.end().await;
}

#[tokio::test(start_paused = true)]
async fn lane_that_holds_nothing_takes_any_job() {
    let server = Server::start(|_, _| Does::Works).await;
    let mut daemon = Daemon::with_lanes(1_000, &server.endpoint, same).await;
    daemon.expect_consume().await;
    daemon.up_for_good(1).await;
    daemon.deliver(1, 7, &(100_000..110_000).collect::<Vec<u64>>()).await;
    assert_eq!(daemon.settled().await.0, 7);
    daemon.end().await;
}

#[tokio::test(start_paused = true)]
async fn drain_settles_finished_jobs_before_requeue() {
    let mut server = Server::start(|_, _| Does::Works).await;
    let mut daemon = Daemon::start(&server.endpoint, same).await;
    daemon.expect_consume().await;
    daemon.up_for_good(1).await;
    daemon.deliver(1, 7, &[100_001]).await;
    server.saw(WRITE).await;
    daemon.orders.send(DriverOrder::Drain).await.unwrap();
    assert_eq!(daemon.settled().await, report(7, &["changed"]));
    assert_eq!(daemon.expect_requeue(1).await, Requeue::Drain);
    assert!(daemon.to_lane.recv().await.is_none(), "the channel ends");
    daemon.run.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn subscription_during_drain_is_requeued() {
    let mut server = Server::start(|_, _| Does::Hangs).await;
    let mut daemon = Daemon::start(&server.endpoint, same).await;
    daemon.expect_consume().await;
    daemon.up_for_good(1).await;
    daemon.deliver(1, 7, &[100_001]).await;
    server.saw(READ).await;
    daemon.orders.send(DriverOrder::Drain).await.unwrap();
    daemon.down(1).await;
    daemon.up_for_good(2).await;
    let (mut orders, run) = (daemon.to_lane, daemon.run);
    run.await.unwrap();
    while let Some(message) = orders.recv().await {
        assert!(matches!(message, ToLane::Requeue(Epoch(1 | 2), Requeue::Drain)), "{message:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn paused_lane_finishes_its_calls_and_is_silent() {
    let mut server = Server::start(|_, _| Does::Works).await;
    let mut daemon = Daemon::start(&server.endpoint, same).await;
    daemon.expect_consume().await;
    daemon.up_for_good(1).await;
    daemon.deliver(1, 7, &[100_001]).await;
    server.saw(WRITE).await;
    daemon.reload(true).await;
    daemon.deliver(1, 8, &[100_002]).await;
    assert_eq!(daemon.settled().await, report(7, &["changed"]));
    assert_eq!(daemon.expect_requeue(1).await, Requeue::Paused);
    daemon.down(1).await;
    daemon.check_silence(&server).await;
    daemon.reload(false).await;
    daemon.expect_consume().await;
    daemon.up_for_good(2).await;
    daemon.deliver(2, 8, &[100_002]).await;
    assert_eq!(daemon.settled().await, report(8, &["changed"]));
    daemon.end().await;
}

#[tokio::test(start_paused = true)]
async fn paused_standby_is_released() {
    let server = Server::start(|_, _| Does::Works).await;
    let mut daemon = Daemon::start(&server.endpoint, same).await;
    daemon.expect_consume().await;
    daemon.reload(true).await;
    let message = daemon.next_message().await;
    assert!(matches!(message, ToLane::Release), "{message:?}");
    // It became active before it received the order.
    daemon.up_for_good(1).await;
    daemon.deliver(1, 7, &[100_001]).await;
    daemon.down(1).await;
    daemon.check_silence(&server).await;
    daemon.reload(false).await;
    daemon.expect_consume().await;
    daemon.end().await;
}

#[tokio::test(start_paused = true)]
async fn paused_closed_lane_sends_no_probe() {
    let server = Server::start(|_, _| Does::Refuses("AuthFailure.SecretIdNotFound")).await;
    let mut daemon = Daemon::start(&server.endpoint, same).await;
    daemon.expect_consume().await;
    daemon.up_for_good(1).await;
    daemon.deliver(1, 7, &[100_001]).await;
    assert_eq!(daemon.expect_requeue(1).await, Requeue::Closed(CloseReason::Credential));
    daemon.down(1).await;
    daemon.reload(true).await;
    // A probe may be in flight.
    sleep(Duration::from_secs(60)).await;
    daemon.check_silence(&server).await;
    daemon.reload(false).await;
    daemon.expect_consume().await;
    daemon.end().await;
}

#[tokio::test(start_paused = true)]
async fn reload_brings_another_key_and_limits() {
    let server = Server::start(|_, _| Does::Works).await;
    let mut daemon = Daemon::start(&server.endpoint, || Ok(credential("AKIDSECOND"))).await;
    daemon.expect_consume().await;
    daemon.up_for_good(1).await;
    daemon.deliver(1, 7, &[100_001]).await;
    daemon.settled().await;
    let limits = Limits::default();
    let one_account = LaneLimits::new(LaneLimitValues { batch: 1, ..LaneLimitValues::default() }).unwrap();
    let lanes = vec![LaneReload { limits: one_account, account: None, is_paused: false }];
    daemon.orders.send(DriverOrder::Reload { limits: Box::new(limits), lanes }).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    daemon.deliver(1, 8, &[100_002, 100_003]).await;
    assert_eq!(daemon.settled().await, report(8, &["changed", "changed"]));
    let writes: Vec<_> = server.seen().into_iter().filter(|seen| seen.action == WRITE).collect();
    let key_of = |nth: usize| writes[nth].authorization.contains("Credential=AKIDSECOND/");
    assert_eq!(writes.len(), 3, "one account a request");
    assert!(!key_of(0) && key_of(1) && key_of(2));
    daemon.end().await;
}
