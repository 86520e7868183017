//! The driver with the real engine against a scripted server, in virtual time.

mod hostile;
mod interrupts;
mod server;
mod subscriptions;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use imageshare_core::Credential;
use imageshare_engine::{
    Engine,
    io::{CloseReason, Command, DeliveryId, Input, LaneId, Notice},
    job::{AccountOutcome, Job, Mode, local},
    limits::{LaneLimits, LimitValues, Limits},
    policy::Policy,
    time::{Instant as EngineInstant, Millis},
};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use self::server::{Does, Server};
use super::*;
use crate::{
    credentials::{CredentialCache, CredentialsError, IfMissing, Loaded},
    http::{Client, TimeOuts},
    lane::LaneConfig,
    lane_messages::Delivery,
    lanes::OpenLane,
    listing::{ImageReader, interval},
};

const WRITE: &str = "ModifyImageSharePermission";
const READ: &str = "DescribeImageSharePermission";
const IMAGE: &str = "img-6pb6lrmy";

/// A driver that runs, and the other ends of its channels.
struct Run {
    jobs: Option<mpsc::Sender<Delivery<u32>>>,
    said: mpsc::Receiver<DriverEvent<u32>>,
    interrupts: mpsc::Sender<()>,
    progress: Arc<Progress>,
    run: JoinHandle<Summary>,
}

impl Run {
    async fn start(endpoint: &str, source: impl Asks) -> Self {
        Self::with(endpoint, source, TimeOuts::default(), 100).await
    }

    async fn with(endpoint: &str, source: impl Asks, time_outs: TimeOuts, room: usize) -> Self {
        Self::of(lane(endpoint, source, time_outs).await, time_outs, room)
    }

    fn of(lane: OpenLane, time_outs: TimeOuts, room: usize) -> Self {
        let mut driver = Driver::new(&[lane], Policy::COMMAND, Limits::default(), &Client::new(time_outs).unwrap());
        let (jobs, jobs_in) = mpsc::channel(8);
        let (said_in, said) = mpsc::channel(room);
        let (interrupts, interrupts_in) = mpsc::channel(2);
        let progress = driver.progress();
        let run = driver.run(source(jobs_in, said_in, interrupts_in));
        Self { jobs: Some(jobs), said, interrupts, progress, run: tokio::spawn(run) }
    }

    async fn share(&self, identity: u32, accounts: &[u64]) {
        self.send(delivery(identity, accounts)).await;
    }

    async fn send(&self, delivery: Delivery<u32>) {
        self.jobs.as_ref().unwrap().send(delivery).await.unwrap();
    }

    /// Ends the input and waits for the rest.
    async fn finish(mut self) -> (Summary, Vec<DriverEvent<u32>>) {
        self.jobs = None;
        let mut all = Vec::new();
        while let Some(said) = self.said.recv().await {
            all.push(said);
        }
        (self.run.await.unwrap(), all)
    }
}

/// The source of a run.
fn source(
    jobs: mpsc::Receiver<Delivery<u32>>,
    events: mpsc::Sender<DriverEvent<u32>>,
    interrupts: mpsc::Receiver<()>,
) -> InputSource<u32> {
    InputSource::new(InputChannels { jobs, events, interrupts })
}

/// What a lane's source does when it is loaded once more. It may block.
trait Asks: Fn() -> Result<Credential, CredentialsError> + Send + Sync + 'static {}

impl<F: Fn() -> Result<Credential, CredentialsError> + Send + Sync + 'static> Asks for F {}

async fn lane(endpoint: &str, source: impl Asks, time_outs: TimeOuts) -> OpenLane {
    let (source, asked) = (Arc::new(source), AtomicU32::new(0));
    let cache = CredentialCache::by(
        move || {
            let is_first = asked.fetch_add(1, Ordering::SeqCst) == 0;
            let source = Arc::clone(&source);
            Box::pin(async move {
                let ask = move || if is_first { Ok(credential("AKIDFIRST")) } else { source() };
                let credential = spawn_blocking(ask).await.map_err(|_| CredentialsError::BrokeDown)??;
                Ok(Loaded { credential, origin: "test".into(), expires_at: None })
            })
        },
        time_outs.call,
        false,
        IfMissing::Fail,
    );
    OpenLane { config: LaneConfig::example("default", endpoint), credentials: cache.await.unwrap() }
}

fn delivery(identity: u32, accounts: &[u64]) -> Delivery<u32> {
    let job = Job {
        region: "ap-singapore".parse().unwrap(),
        image_id: IMAGE.parse().unwrap(),
        mode: Mode::Share,
        account_ids: accounts.iter().map(|id| id.to_string().parse().unwrap()).collect(),
        deadline: None,
        force: false,
        redelivered: false,
    };
    Delivery { identity, lane: LaneId(0), jobs: vec![job], expires_at: None }
}

/// The same for each of these images.
fn delivery_of(identity: u32, images: &[&str], accounts: &[u64]) -> Delivery<u32> {
    let mut delivery = delivery(identity, accounts);
    let of_image = |image: &&str| Job { image_id: image.parse().unwrap(), ..delivery.jobs[0].clone() };
    delivery.jobs = images.iter().map(of_image).collect();
    delivery
}

fn credential(secret_id: &str) -> Credential {
    Credential { secret_id: secret_id.parse().unwrap(), secret_key: "key".parse().unwrap(), token: None }
}

/// A source that still has the first credential.
fn same() -> Result<Credential, CredentialsError> {
    Ok(credential("AKIDFIRST"))
}

/// The reports: the identity, and `changed`, `unchanged` or the code of each account.
fn reports(said: &[DriverEvent<u32>]) -> Vec<(u32, Vec<String>)> {
    let settled = said.iter().filter_map(|said| match said {
        DriverEvent::Settled(settled) => Some(settled),
        DriverEvent::Requeued { .. } | DriverEvent::Notice(..) | DriverEvent::CredentialFailed(..) => None,
    });
    let word = |outcome: &AccountOutcome| match outcome {
        AccountOutcome::Changed(_) => "changed".to_owned(),
        AccountOutcome::Unchanged => "unchanged".to_owned(),
        AccountOutcome::Failed(failure) => failure.code.to_string(),
    };
    let mut reports: Vec<_> = settled
        .map(|settled| {
            let outcomes = settled.reports.iter().flat_map(|report| &report.outcomes);
            (settled.identity, outcomes.map(|(_, outcome)| word(outcome)).collect())
        })
        .collect();
    reports.sort();
    reports
}

fn report(identity: u32, outcomes: &[&str]) -> (u32, Vec<String>) {
    (identity, outcomes.iter().map(|&outcome| outcome.to_owned()).collect())
}

#[tokio::test(start_paused = true)]
async fn run_without_jobs_ends() {
    let server = Server::start(|_, _| Does::Works).await;
    let (summary, said) = Run::start(&server.endpoint, same).await.finish().await;
    assert_eq!(summary, Summary::default());
    assert!(said.is_empty() && server.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_job_has_its_report() {
    let server = Server::start(|_, _| Does::Works).await;
    let run = Run::start(&server.endpoint, same).await;
    let progress = Arc::clone(&run.progress);
    run.share(1, &[100_001, 100_002]).await;
    run.share(2, &[100_002, 100_003]).await;
    let (summary, said) = run.finish().await;

    assert_eq!(reports(&said), [report(1, &["changed", "changed"]), report(2, &["changed", "changed"])]);
    let seen = server.seen();
    let count = |action: &str| seen.iter().filter(|seen| seen.action == action).count() as u64;
    assert!(count(READ) >= 1 && count(WRITE) >= 1);
    assert_eq!(summary.calls, [(READ, count(READ)), (WRITE, count(WRITE))].into());
    assert!(!summary.is_interrupted && summary.closed.is_empty());
    let snapshot = progress.snapshot();
    assert_eq!((snapshot.accounts_received, snapshot.accounts_settled), (4, 4));
    assert_eq!(snapshot.calls_sent, summary.calls.values().sum::<u64>());
}

#[tokio::test(start_paused = true)]
async fn expired_job_never_begins() {
    let server = Server::start(|_, _| Does::Works).await;
    let run = Run::start(&server.endpoint, same).await;
    run.send(Delivery { expires_at: Some(UNIX_EPOCH), ..delivery(1, &[100_001]) }).await;
    run.send(Delivery { expires_at: Some(SystemTime::now() + Duration::from_secs(600)), ..delivery(2, &[100_002]) })
        .await;
    let (_, said) = run.finish().await;
    assert_eq!(reports(&said), [report(1, &[local::EXPIRED]), report(2, &["changed"])]);
    let writes: Vec<_> = server.seen().into_iter().filter(|seen| seen.action == WRITE).collect();
    assert!(writes.iter().all(|seen| !seen.body.to_string().contains("100001")), "{writes:?}");
}

#[tokio::test(start_paused = true)]
async fn throttled_call_is_counted_and_sent_again() {
    let server = Server::start(|seen, before| match (seen.action.as_str(), before) {
        (WRITE, 0) => Does::Refuses("RequestLimitExceeded"),
        _ => Does::Works,
    })
    .await;
    let run = Run::start(&server.endpoint, same).await;
    let progress = Arc::clone(&run.progress);
    run.share(1, &[100_001]).await;
    let (summary, said) = run.finish().await;
    assert_eq!(reports(&said), [report(1, &["changed"])]);
    assert_eq!((summary.calls_throttled, progress.snapshot().calls_throttled), (1, 1));
    assert_eq!(summary.calls.get(WRITE), Some(&2));
}

#[tokio::test(start_paused = true)]
async fn corrected_clock_signs_call_again() {
    let ahead = Duration::from_secs(3600);
    let server = Server::start(move |seen, _| {
        let server_time = SystemTime::now() + ahead;
        let server_seconds = server_time.duration_since(UNIX_EPOCH).unwrap().as_secs();
        if seen.timestamp.abs_diff(server_seconds) > 300 {
            Does::RefusesAt("AuthFailure.SignatureExpire", server_time)
        } else {
            Does::Works
        }
    })
    .await;
    let run = Run::start(&server.endpoint, same).await;
    run.share(1, &[100_001]).await;
    let (summary, said) = run.finish().await;
    assert_eq!(reports(&said), [report(1, &["changed"])]);
    assert!(summary.closed.is_empty());
    let seen = server.seen();
    let (first, last) = (seen.first().unwrap().timestamp, seen.last().unwrap().timestamp);
    assert!((3590..3700).contains(&(last - first)), "{first} {last}");
}

#[tokio::test(start_paused = true)]
async fn one_response_with_wrong_date_stops_nothing() {
    let server = Server::start(|seen, before| {
        let now = SystemTime::now();
        let seconds = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
        match (seen.action.as_str(), before) {
            (WRITE, 0) => Does::RefusesAt("AuthFailure.SignatureExpire", now + Duration::from_secs(3600)),
            _ if seen.timestamp.abs_diff(seconds) > 300 => Does::RefusesAt("AuthFailure.SignatureExpire", now),
            _ => Does::Works,
        }
    })
    .await;
    let run = Run::start(&server.endpoint, same).await;
    run.share(1, &[100_001]).await;
    let (summary, said) = run.finish().await;
    assert_eq!(reports(&said), [report(1, &["changed"])]);
    assert!(summary.closed.values().all(|closing| closing.is_over), "{:?}", summary.closed);
}

#[tokio::test(start_paused = true)]
async fn clock_that_stays_wrong_closes_lane() {
    // Without a date, and with the last and the first one that can be written.
    for seconds in [None, Some(253_402_300_799), Some(0)] {
        let date = seconds.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        let code = "AuthFailure.SignatureExpire";
        let refuses = move || date.map_or(Does::Refuses(code), |date| Does::RefusesAt(code, date));
        let server = Server::start(move |_, _| refuses()).await;
        let run = Run::start(&server.endpoint, same).await;
        run.share(1, &[100_001]).await;
        let (summary, said) = run.finish().await;
        assert_eq!(reports(&said), [report(1, &[local::NOT_ATTEMPTED])], "{date:?}");
        assert_eq!(summary.closed.get(&LaneId(0)).unwrap().reason, CloseReason::Clock, "{date:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn refused_credential_is_replaced() {
    let server = Server::start(|seen, _| {
        let is_second = seen.authorization.contains("Credential=AKIDSECOND/");
        if is_second { Does::Works } else { Does::Refuses("AuthFailure.SecretIdNotFound") }
    })
    .await;
    let run = Run::start(&server.endpoint, || Ok(credential("AKIDSECOND"))).await;
    run.share(1, &[100_001]).await;
    let (summary, said) = run.finish().await;
    assert_eq!(reports(&said), [report(1, &["changed"])]);
    assert!(summary.closed.values().all(|closing| closing.is_over), "{:?}", summary.closed);
}

#[tokio::test(start_paused = true)]
async fn refusal_of_replaced_credential_closes_nothing() {
    let server = Server::start(|seen, _| {
        let is_second = seen.authorization.contains("Credential=AKIDSECOND/");
        if is_second { Does::Works } else { Does::RefusesAfter("AuthFailure.TokenFailure", Duration::from_secs(5)) }
    })
    .await;
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let source = move || {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(credential("AKIDSECOND"))
    };
    let lane = lane(&server.endpoint, source, TimeOuts::default()).await;
    let cache = lane.credentials.clone();
    let run = Run::of(lane, TimeOuts::default(), 100);
    run.share(1, &[100_001]).await;
    sleep(Duration::from_secs(2)).await;
    cache.refresh().await.unwrap();
    let (summary, said) = run.finish().await;
    assert_eq!(reports(&said), [report(1, &["changed"])]);
    assert_eq!(summary.closed, [].into(), "the lane was never closed");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "no second request was sent");
}

/// A credential that is refused for ever, and a source that does this when it is asked.
async fn check_broken(refresh: impl Asks, reason: Option<&str>) {
    let server = Server::start(|_, _| Does::Refuses("AuthFailure.SignatureFailure")).await;
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let refresh = move || {
        count.fetch_add(1, Ordering::SeqCst);
        refresh()
    };
    let run = Run::start(&server.endpoint, refresh).await;
    run.share(1, &[100_001]).await;
    let (summary, said) = run.finish().await;
    assert_eq!(reports(&said), [report(1, &[local::NOT_ATTEMPTED])]);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "a probe that is refused asks for no other credential");
    let closing = summary.closed.get(&LaneId(0)).unwrap();
    assert_eq!((closing.reason, closing.is_over), (CloseReason::Credential, false));
    let is_closing = |said: &DriverEvent<u32>| matches!(said, DriverEvent::Notice(LaneId(0), Notice::Closed { .. }));
    assert!(said.iter().any(is_closing));
    let failed = said.iter().find_map(|said| match said {
        DriverEvent::CredentialFailed(LaneId(0), reason) => Some(reason.as_str()),
        _ => None,
    });
    assert_eq!(failed, reason);
}

#[tokio::test(start_paused = true)]
async fn source_with_same_key_closes_lane() {
    check_broken(|| Ok(credential("AKIDFIRST")), None).await;
}

#[tokio::test(start_paused = true)]
async fn failing_source_closes_the_lane() {
    let gone = || CredentialsError::Unreachable { subject: "the source".into(), reason: "is gone".into() };
    check_broken(move || Err(gone()), Some("the source: is gone")).await;
}

#[tokio::test(start_paused = true)]
async fn panicking_source_closes_the_lane() {
    check_broken(|| panic!("a bug in the source"), Some("the credential's source broke down")).await;
}

#[tokio::test]
async fn hanging_source_is_not_waited_for() {
    let server = Server::start(|_, _| Does::Refuses("AuthFailure.SignatureFailure")).await;
    let (release, hang) = std::sync::mpsc::channel::<()>();
    let hang = std::sync::Mutex::new(hang);
    let refresh = move || {
        let _ = hang.lock().map(|hang| hang.recv());
        Err(CredentialsError::BrokeDown)
    };
    let time_outs = TimeOuts { connect: Duration::from_millis(200), call: Duration::from_millis(200) };
    let mut run = Run::with(&server.endpoint, refresh, time_outs, 100).await;
    run.share(1, &[100_001]).await;
    let reason = loop {
        if let DriverEvent::CredentialFailed(_, reason) = run.said.recv().await.unwrap() {
            break reason;
        }
    };
    assert_eq!(reason, "the credential's source gave no answer within 0.2 s");
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn unreachable_endpoint_closes_the_lane() {
    let run = Run::start("http://127.0.0.1:1", same).await;
    run.share(1, &[100_001]).await;
    let progress = Arc::clone(&run.progress);
    let (summary, said) = run.finish().await;
    assert_eq!(reports(&said), [report(1, &[local::NOT_ATTEMPTED])]);
    let closing = summary.closed.get(&LaneId(0)).unwrap();
    assert_eq!(closing.reason, CloseReason::Endpoint);
    assert!(
        closing.detail.starts_with("127.0.0.1:1: no connection to the endpoint (Connection refused"),
        "{closing:?}"
    );
    assert_eq!(progress.snapshot().closed, [(LaneId(0), CloseReason::Endpoint)]);
    assert_eq!(summary.calls, [].into(), "nothing was sent, so nothing is counted");
}

#[tokio::test(start_paused = true)]
async fn full_outbox_stops_intake_of_jobs() {
    const JOBS: u32 = 10_050;

    let server = Server::start(|_, _| Does::Works).await;
    let mut run = Run::with(&server.endpoint, same, TimeOuts::default(), 1).await;
    let jobs = run.jobs.take().unwrap();
    let mut sent = 0;
    while let Ok(result) = timeout(Duration::from_secs(600), jobs.send(delivery(sent, &[100_001]))).await {
        result.unwrap();
        sent += 1;
    }
    // What the two channels hold comes on top.
    let received = run.progress.snapshot().accounts_received;
    assert!((10_000..=10_002).contains(&received), "{received}");
    let rest = tokio::spawn(async move {
        for identity in sent..JOBS {
            jobs.send(delivery(identity, &[100_001])).await.unwrap();
        }
    });
    let (summary, said) = run.finish().await;
    rest.await.unwrap();
    assert_eq!((summary.reports_lost, reports(&said).len()), (0, JOBS as usize));
}

#[tokio::test(start_paused = true)]
async fn millions_of_waiting_outcomes_stop_intake() {
    const ACCOUNTS: u64 = 10_000;

    let server = Server::start(|_, _| Does::Works).await;
    let mut run = Run::with(&server.endpoint, same, TimeOuts::default(), 1).await;
    let jobs = run.jobs.take().unwrap();
    let accounts: Vec<u64> = (100_000..100_000 + ACCOUNTS).collect();
    // They are too late when they come, so that each has its report at once.
    let late = Delivery { expires_at: Some(UNIX_EPOCH), ..delivery(0, &accounts) };
    let mut sent = 0;
    while sent < 300 && timeout(Duration::from_secs(600), jobs.send(late.clone())).await.is_ok() {
        sent += 1;
    }
    let received = run.progress.snapshot().accounts_received / ACCOUNTS;
    assert!((200..=202).contains(&received), "{received} of {sent}");
    drop(jobs);
    let (_, said) = run.finish().await;
    assert_eq!(reports(&said).len(), sent);
}

#[tokio::test(start_paused = true)]
async fn caller_receives_released_lanes() {
    let driver = Driver::<u32>::new(
        &[lane("http://127.0.0.1:1", same, TimeOuts::default()).await],
        Policy::COMMAND,
        Limits::default(),
        &Client::new(TimeOuts::default()).unwrap(),
    );
    let (jobs, jobs_in) = mpsc::channel(8);
    let (said_in, mut said) = mpsc::channel(100);
    let (_interrupts, interrupts_in) = mpsc::channel(2);
    let source = source(jobs_in, said_in, interrupts_in);
    let gave_up_all = source.gave_up_all();
    let run = tokio::spawn(driver.run(source));
    jobs.send(delivery(1, &[100_001])).await.unwrap();
    gave_up_all.await;
    drop(jobs);
    let summary = run.await.unwrap();
    assert!(!summary.closed.get(&LaneId(0)).unwrap().is_over);
    let mut all = Vec::new();
    while let Some(said) = said.recv().await {
        all.push(said);
    }
    assert_eq!(reports(&all), [report(1, &[local::NOT_ATTEMPTED])]);
}

#[tokio::test(start_paused = true)]
async fn silent_endpoint_is_the_reason_after_any_patience() {
    let server = Server::start(|_, _| Does::Hangs).await;
    for seconds in (1..90).step_by(2) {
        let limits = LimitValues { closed_for: Millis::from_secs(seconds), ..LimitValues::default() };
        let driver = Driver::<u32>::new(
            &[lane(&server.endpoint, same, TimeOuts::default()).await],
            Policy::COMMAND,
            Limits::new(limits).unwrap(),
            &Client::new(TimeOuts::default()).unwrap(),
        );
        let (jobs, jobs_in) = mpsc::channel(1);
        let (said_in, _said) = mpsc::channel(100);
        let (_interrupts, interrupts_in) = mpsc::channel(1);
        jobs.send(delivery(1, &[100_001])).await.unwrap();
        drop(jobs);
        let summary = driver.run(source(jobs_in, said_in, interrupts_in)).await;
        let closing = summary.closed.get(&LaneId(0)).unwrap_or_else(|| panic!("after {seconds} s: {summary:?}"));
        assert_eq!((closing.reason, closing.is_over), (CloseReason::Endpoint, false), "after {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn listing_is_repeated_while_time_is_left() {
    let server = Server::start(|_, before| if before < 3 { Does::Refuses("InternalError") } else { Does::Works }).await;
    let mut reader = ImageReader::new(
        &Client::new(TimeOuts::default()).unwrap(),
        &lane(&server.endpoint, same, TimeOuts::default()).await,
    );
    let image = ("ap-singapore".parse().unwrap(), IMAGE.parse().unwrap());
    // Pauses of 0.5 s and 1 s leave 1.5 s, and the next one would be 2 s.
    let shares = reader.shares(image.0, image.1, Duration::from_secs(3)).await.unwrap();
    assert_eq!((shares.len(), server.seen().len()), (0, 4));
}

#[tokio::test(start_paused = true)]
async fn failed_listing_returns_the_last_refusal() {
    let server = Server::start(|_, _| Does::Refuses("InternalError")).await;
    let mut reader = ImageReader::new(
        &Client::new(TimeOuts::default()).unwrap(),
        &lane(&server.endpoint, same, TimeOuts::default()).await,
    );
    let begun = Instant::now();
    let image = ("ap-singapore".parse().unwrap(), IMAGE.parse().unwrap());
    let error = reader.shares(image.0, image.1, Duration::from_secs(3)).await.unwrap_err();
    assert_eq!(error.to_string(), "InternalError: as the test wants");
    assert!(begun.elapsed() <= Duration::from_secs(3), "in virtual time");
}

#[test]
fn interval_is_that_of_the_engine() {
    let mut engine = Engine::new(Policy::COMMAND, Limits::default(), 0);
    engine.handle(EngineInstant(0), Input::LaneUp(LaneId(0), LaneLimits::default()));
    engine.handle(
        EngineInstant(0),
        Input::Job { delivery: DeliveryId(0), lane: LaneId(0), job: delivery(0, &[100_001]).jobs.remove(0) },
    );
    let first = EngineInstant(u64::try_from(interval(LaneLimits::default().rate).as_millis()).unwrap());
    assert_eq!(engine.poll(EngineInstant(0)), Command::WaitUntil(first));
}
