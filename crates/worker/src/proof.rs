//! The proof that a lane is ours: without a fresh one no call leaves.
//!
//! The broker gives a lane to another worker when this one has been silent for two heartbeats or more. So whoever can
//! show that the broker knew its consumer less than one heartbeat ago is the only one who calls.

use std::time::{Duration, SystemTime};

use tokio::{sync::watch, time::Instant};

/// The last good proof of one subscription. Whoever obtains proofs renews it, whoever calls asks for it.
#[derive(Debug)]
pub struct Proof {
    good_for: Duration,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// None was obtained yet.
    None,
    /// The last good one began then.
    Since(Moment),
    /// The lane is lost: there will be no other.
    Revoked,
}

/// A moment by both clocks. The monotonic one may stand still while a virtual machine does, the other one may be set
/// back: the later of what they show counts.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// How long ago it was, by the clock that says it was longer.
    #[must_use]
    pub fn age(self) -> Duration {
        self.monotonic.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}

impl Proof {
    /// No proof yet. Each one will be good for this long from its beginning: one heartbeat of the connection.
    #[must_use]
    pub fn new(good_for: Duration) -> Self {
        Self { good_for, state: watch::Sender::new(State::None) }
    }

    /// A good proof was obtained that began at this moment.
    pub fn renew(&self, began: Moment) {
        self.state.send_if_modified(|state| {
            let holds = !matches!(state, State::Revoked);
            if holds {
                *state = State::Since(began);
            }
            holds
        });
    }

    /// The lane is lost, for good.
    pub fn revoke(&self) {
        self.state.send_replace(State::Revoked);
    }

    /// Whether a call may leave at this moment.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        match *self.state.borrow() {
            State::Since(began) => began.age() < self.good_for,
            State::None | State::Revoked => false,
        }
    }

    /// Waits until a call may leave; false if none ever will.
    pub async fn fresh(&self) -> bool {
        let mut changes = self.state.subscribe();
        loop {
            if matches!(*changes.borrow_and_update(), State::Revoked) {
                return false;
            }
            if self.is_fresh() {
                return true;
            }
            // The sender is this one.
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
    async fn a_proof_is_good_for_less_than_a_heartbeat_from_its_beginning() {
        let proof = Proof::new(HEARTBEAT);
        assert!(!proof.is_fresh(), "there is none yet");
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
    async fn a_clock_that_stood_still_does_not_keep_a_proof_fresh() {
        let proof = Proof::new(HEARTBEAT);
        let now = Moment::now();
        proof.renew(Moment { wall: now.wall - HEARTBEAT, ..now });
        assert!(!proof.is_fresh());
        proof.renew(Moment { wall: now.wall + Duration::from_secs(3600), ..now });
        assert!(proof.is_fresh(), "a wall clock that was set back proves nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_proof_goes_on_with_the_next_one_and_ends_with_the_lane() {
        let proof = Arc::new(Proof::new(HEARTBEAT));
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
