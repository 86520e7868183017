//! Reading who has an image without the engine: for listings and plans, which change nothing.

use std::time::{Duration, SystemTime};

use http::Uri;
use imageshare_core::{
    Class,
    actions::{self, Action as _, DescribeImageSharePermission, DescribeImages, SharedAccount},
    ids::{ImageId, Region},
    request::Signer,
    response::{self, ApiError, Failure},
};
use imageshare_engine::{io::Action, time::Instant};
use tokio::time::{Instant as TokioInstant, sleep, sleep_until, timeout_at};

use super::{
    Lane,
    calls::{prepare, sign},
    clock::ServerClock,
};
use crate::{
    credentials::Keeper,
    http::{Client, Reason, Sending, Stage, authority},
    pauses::pauses,
};

/// The pause after a throttled reading.
const THROTTLED: Duration = Duration::from_secs(1);

/// The time between two requests at a rate, in requests a second: as the engine paces, a little longer than the limit
/// asks, so that no second sees more.
#[must_use]
pub fn interval(rate: f64) -> Duration {
    Duration::from_millis(1050).div_f64(rate)
}

/// Reads with one lane's credential, one reading after the other, at the lane's pace.
pub struct Reader {
    client: Client,
    uri: Uri,
    signer: Signer,
    keeper: Keeper,
    clock: ServerClock,
    started: TokioInstant,
    /// Between the beginnings of two readings.
    pace: Duration,
    next_at: TokioInstant,
}

/// Why there is no reading.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The API said no.
    #[error("{}: {}", .0.code, .0.message)]
    Refused(ApiError),
    /// No usable answer came until it was given up: whose, and why.
    #[error("{0}")]
    Unanswered(String),
}

impl Reader {
    /// A reader for a lane.
    ///
    /// # Panics
    /// If the lane was opened without a credential.
    #[must_use]
    pub fn new(client: Client, lane: &Lane) -> Self {
        let now = TokioInstant::now();
        Self {
            client,
            uri: lane.uri(),
            signer: Signer::new(lane.keeper.credential().expect("a command that ends opens no lane without one")),
            keeper: lane.keeper.clone(),
            clock: ServerClock::default(),
            started: now,
            pace: interval(lane.limits.rate),
            next_at: now,
        }
    }

    /// Who has an image. Readings that are throttled or come to nothing are tried again for so long.
    ///
    /// # Errors
    /// If the API refuses, or nothing usable came in that time.
    pub async fn shares(
        &mut self,
        region: Region,
        image_id: ImageId,
        give_up_after: Duration,
    ) -> Result<Vec<SharedAccount>, ReadError> {
        let give_up_at = TokioInstant::now() + give_up_after;
        let pauses = pauses();
        let (mut pause_next, mut is_refreshed) = (0, false);
        let host = authority(&self.uri).to_owned();
        // Of the pauses between the calls too.
        let _waiting = self.client.waits().begin(&host);
        let mut last = None;
        loop {
            sleep_until(self.next_at).await;
            self.next_at = TokioInstant::now() + self.pace;
            let question = Action::ReadShares { region, image_id };
            let tried = timeout_at(give_up_at, self.once::<DescribeImageSharePermission>(question)).await;
            let error = match tried {
                Ok(Ok(shares)) => return Ok(shares),
                Ok(Err(Tried::Skewed)) => continue,
                Ok(Err(Tried::Failed(error))) => error,
                Err(_) => {
                    let reason = Reason::TimeOut { stage: Stage::Answer, after: give_up_after };
                    let silence = || ReadError::Unanswered(format!("{host}: {reason}"));
                    return Err(last.unwrap_or_else(silence));
                }
            };
            let pause = match error.class() {
                Some(Class::Throttle | Class::ThrottleAll) => THROTTLED,
                Some(Class::Transient | Class::Unknown) | None => {
                    let pause = pauses
                        .get(pause_next)
                        .or_else(|| pauses.last())
                        .map_or(THROTTLED, |pause| Duration::from_millis(pause.0));
                    pause_next += 1;
                    pause
                }
                Some(Class::Credential) if !is_refreshed && self.renew().await => {
                    is_refreshed = true;
                    continue;
                }
                Some(_) => return Err(error),
            };
            let left = give_up_at.saturating_duration_since(TokioInstant::now());
            if left <= self.pace {
                return Err(error);
            }
            last = Some(error);
            // However long the pause would be, time is left for one more try after it.
            sleep(pause.min(left / 2)).await;
        }
    }

    /// Asks each of the reading actions about an image once, or twice where the clock was wrong: whether they may be
    /// called. Gives the names of the actions beside what came.
    pub async fn try_all(&mut self, region: Region, image_id: ImageId) -> [(&'static str, Result<(), ReadError>); 2] {
        let shares = Action::ReadShares { region, image_id };
        let shares = self.tried::<DescribeImageSharePermission>(shares).await;
        let images = self.tried::<DescribeImages>(Action::ReadImage { region, image_id }).await;
        [(DescribeImageSharePermission::NAME, shares), (DescribeImages::NAME, images)]
    }

    async fn tried<A: actions::Action>(&mut self, question: Action) -> Result<(), ReadError> {
        let skewed = || ReadError::Unanswered("the clocks differ, and correcting ours did not help".to_owned());
        for _ in 0..2 {
            match self.once::<A>(question.clone()).await {
                Ok(_) => return Ok(()),
                Err(Tried::Failed(error)) => return Err(error),
                Err(Tried::Skewed) => {}
            }
        }
        Err(skewed())
    }

    async fn once<A: actions::Action>(&mut self, question: Action) -> Result<A::Answer, Tried> {
        let prepared = prepare(&self.uri, question);
        let host = authority(&self.uri);
        let signed = self.clock.offset();
        let request = sign(&prepared, &mut self.signer, self.clock.second(SystemTime::now()), &self.uri);
        // Whether it was sent does not matter to a reading.
        let sending = Sending::new(|| true);
        let reply = self.client.call(request, &sending).await.map_err(|error| unanswered(host, &error))?;
        match response::parse::<A>(reply.status, &reply.body) {
            Ok(answered) => Ok(answered.answer),
            Err(Failure::NotAnAnswer(error)) => Err(unanswered(host, &error)),
            Err(Failure::Api(error)) => {
                let is_skewed = error.class() == Class::Clock
                    && self.clock.refused(self.now(), SystemTime::now(), signed, reply.date);
                Err(if is_skewed { Tried::Skewed } else { Tried::Failed(ReadError::Refused(error)) })
            }
        }
    }

    /// Whether the credential's source has another one by now.
    async fn renew(&mut self) -> bool {
        match self.keeper.refresh().await {
            Ok(credential) if credential != *self.signer.credential() => {
                self.signer = Signer::new(credential);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

impl ReadError {
    /// Whose fault it is; `None` if nobody answered.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Refused(error) => Some(error.class()),
            Self::Unanswered(_) => None,
        }
    }
}

/// What became of one try.
enum Tried {
    /// The clock was wrong and is right now.
    Skewed,
    Failed(ReadError),
}

fn unanswered(host: &str, error: &impl ToString) -> Tried {
    Tried::Failed(ReadError::Unanswered(format!("{host}: {}", error.to_string())))
}
