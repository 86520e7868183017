//! Runs that are interrupted, or that nothing listens to.

use super::*;

#[tokio::test(start_paused = true)]
async fn first_interrupt_lets_calls_end() {
    let mut server = Server::start(|seen, _| if seen.action == WRITE { Does::Hangs } else { Does::Works }).await;
    let run = Run::start(&server.endpoint, same).await;
    run.share(1, &[100_001]).await;
    server.saw(WRITE).await;
    run.share(2, &[100_002]).await;
    run.interrupts.send(()).await.unwrap();
    let interrupted_at = Instant::now();
    let (summary, said) = run.finish().await;
    assert_eq!(reports(&said), [report(1, &[local::NO_ANSWER]), report(2, &[local::NOT_ATTEMPTED])]);
    assert!(summary.is_interrupted);
    assert_eq!(summary.jobs_unsettled, 0);
    assert!(interrupted_at.elapsed() <= TimeOuts::default().call, "in virtual time");
}

#[tokio::test(start_paused = true)]
async fn second_interrupt_breaks_calls_off_and_reports() {
    let mut server = Server::start(|seen, _| if seen.action == WRITE { Does::Hangs } else { Does::Works }).await;
    let run = Run::start(&server.endpoint, same).await;
    run.share(1, &[100_001]).await;
    server.saw(WRITE).await;
    let interrupted_at = Instant::now();
    run.interrupts.send(()).await.unwrap();
    run.interrupts.send(()).await.unwrap();
    let (summary, said) = run.finish().await;
    assert_eq!(reports(&said), [report(1, &[local::NO_ANSWER])]);
    assert!(summary.is_interrupted);
    assert_eq!(summary.jobs_unsettled, 0);
    assert!(interrupted_at.elapsed() < Duration::from_secs(1), "in virtual time, without the call's time-out");
}

async fn check_unheard(interrupts_sent: u32) {
    let mut server = Server::start(|seen, _| if seen.action == WRITE { Does::Hangs } else { Does::Works }).await;
    let Run { jobs, said, interrupts, run, .. } = Run::with(&server.endpoint, same, TimeOuts::default(), 1).await;
    for identity in 0..5 {
        jobs.as_ref().unwrap().send(delivery(identity, &[100_001])).await.unwrap();
    }
    server.saw(WRITE).await;
    let interrupted_at = Instant::now();
    for _ in 0..interrupts_sent {
        interrupts.send(()).await.unwrap();
    }
    let summary = run.await.unwrap();
    assert_eq!(summary.reports_lost, 4, "of five reports one found room");
    assert!(interrupted_at.elapsed() < TimeOuts::default().call + Duration::from_secs(5), "in virtual time");
    drop(said);
}

#[tokio::test(start_paused = true)]
async fn interrupted_run_ends_without_a_receiver() {
    for interrupts_sent in [1, 2] {
        check_unheard(interrupts_sent).await;
    }
}

#[tokio::test(start_paused = true)]
async fn lost_reports_are_counted() {
    let server = Server::start(|_, _| Does::Works).await;
    let mut run = Run::start(&server.endpoint, same).await;
    run.said.close();
    run.share(1, &[100_001]).await;
    let (summary, said) = run.finish().await;
    assert!(said.is_empty());
    assert_eq!(summary.reports_lost, 1);
}
