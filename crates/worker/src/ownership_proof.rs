//! The ownership proof of a lane. No call leaves without a fresh one.
//!
//! The broker gives a lane to another worker after this one was silent for two heartbeats. So a worker whose consumer the
//! broker confirmed less than one heartbeat ago is the only one that makes calls.

use std::time::{Duration, SystemTime};

use tokio::{sync::watch, time::Instant};

/// The last proof of one subscription. The subscription renews it, and calls wait for it.
#[derive(Debug)]
pub struct OwnershipProof {
    good_for: Duration,
    state: watch::Sender<ProofState>,
}

#[derive(Clone, Copy, Debug)]
enum ProofState {
    /// No proof yet.
    None,
    /// The request for the last proof was sent at this moment.
    Since(Moment),
    /// The lane is lost, for good.
    Revoked,
}

/// A moment by both clocks. The monotonic clock may stand still while a virtual machine is suspended, and the wall clock may
/// be set back, so the clock on which more time has passed counts.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    /// Returns the current moment.
    #[must_use]
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// Returns the time since then, by the clock on which more has passed.
    #[must_use]
    pub fn age(self) -> Duration {
        self.monotonic.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}

impl OwnershipProof {
    /// Returns a proof that was not obtained yet. Each one is fresh for this long: one heartbeat of the connection.
    #[must_use]
    pub fn new(good_for: Duration) -> Self {
        Self { good_for, state: watch::Sender::new(ProofState::None) }
    }

    /// Records a proof whose request was sent at this moment.
    pub fn renew(&self, began: Moment) {
        self.state.send_if_modified(|state| {
            let holds = !matches!(state, ProofState::Revoked);
            if holds {
                *state = ProofState::Since(began);
            }
            holds
        });
    }

    /// Records that the lane is lost, for good.
    pub fn revoke(&self) {
        self.state.send_replace(ProofState::Revoked);
    }

    /// Returns whether a call may leave at this moment.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        match *self.state.borrow() {
            ProofState::Since(began) => began.age() < self.good_for,
            ProofState::None | ProofState::Revoked => false,
        }
    }

    /// Waits until a call may leave. Returns false if the lane is lost.
    pub async fn fresh(&self) -> bool {
        let mut changes = self.state.subscribe();
        loop {
            if matches!(*changes.borrow_and_update(), ProofState::Revoked) {
                return false;
            }
            if self.is_fresh() {
                return true;
            }
            // The sender is a part of this.
            if changes.changed().await.is_err() {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::advance;

    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn proof_is_fresh_for_less_than_heartbeat() {
        let proof = OwnershipProof::new(HEARTBEAT);
        assert!(!proof.is_fresh(), "no proof yet");
        let began = Moment::now();
        advance(Duration::from_secs(4)).await;
        proof.renew(began);
        assert!(proof.is_fresh());
        advance(Duration::from_millis(5_999)).await;
        assert!(proof.is_fresh());
        advance(Duration::from_millis(1)).await;
        assert!(!proof.is_fresh());
        proof.renew(Moment::now());
        assert!(proof.is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn suspended_clock_keeps_no_proof_fresh() {
        let proof = OwnershipProof::new(HEARTBEAT);
        let now = Moment::now();
        proof.renew(Moment { wall: now.wall - HEARTBEAT, ..now });
        assert!(!proof.is_fresh());
        proof.renew(Moment { wall: now.wall + Duration::from_secs(3600), ..now });
        assert!(proof.is_fresh(), "a wall clock that was set back proves nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn wait_ends_with_proof_or_lane() {
        let proof = Arc::new(OwnershipProof::new(HEARTBEAT));
        let waiting = tokio::spawn({
            let proof = Arc::clone(&proof);
            async move { proof.fresh().await }
        });
        advance(Duration::from_secs(60)).await;
        proof.renew(Moment::now());
        assert!(waiting.await.unwrap());
        proof.revoke();
        assert!(!proof.is_fresh() && !proof.fresh().await);
        proof.renew(Moment::now());
        assert!(!proof.is_fresh(), "a lost lane is not proved again");
    }
}
