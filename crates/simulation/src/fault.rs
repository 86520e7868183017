//! What can go wrong, and when it does.

use crate::random::Random;

/// One thing that can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InjectedFault {
    /// The call is applied and its answer is lost.
    AnswerLost,
    /// The call is applied and answered, as late as a client waits.
    AnswerLate,
    /// The credential is refused; a refresh helps.
    Credential,
    /// A listing is refused, as if the key might not read.
    ListingRefused,
    /// The server answers with something that is not the API's, before it applied anything.
    Html,
    /// An InternalError that changes nothing.
    InternalError,
    /// No response; the call takes effect up to `write_lag` after it was sent, even if its sender is gone.
    Late,
    /// The API reports a clock skew, and correcting our clock does not help.
    Clock,
    /// The API refuses the call for the account's deployment.
    Deployment,
    /// The API reports a clock skew.
    Skew,
    /// No answer, and the call is never applied.
    Swallowed,
    /// The API refuses for the number of calls although there were few.
    Throttle,
    /// There is no connection.
    Unconnected,
    /// The worker is killed.
    Kill,
    /// The worker loses its connection and connects again.
    Lost,
    /// The worker receives SIGTERM: it requeues its jobs, and another one takes over.
    Drained,
    /// Nothing comes from the worker's connection for up to 100 s: it is cut off from the broker, or suspended.
    Silent,
    /// The worker loses its connection, and the worker that takes over loses its own a little later.
    Returned,
    /// The image is occupied for an hour.
    Busy,
    /// Another program changes the shares of an image.
    Outside,
    /// The endpoint is away for a minute or two.
    Outage,
    /// The key loses its permission for all images, for seconds or for half an hour.
    Revoked,
    /// A key of another account takes the place of the right one, for seconds or for minutes.
    ForeignKey,
}

impl InjectedFault {
    /// InjectedFaults of a call.
    pub const OF_CALLS: [Self; 13] = [
        Self::AnswerLost,
        Self::AnswerLate,
        Self::Clock,
        Self::Credential,
        Self::Deployment,
        Self::Html,
        Self::InternalError,
        Self::Late,
        Self::ListingRefused,
        Self::Skew,
        Self::Swallowed,
        Self::Throttle,
        Self::Unconnected,
    ];

    /// InjectedFaults that happen between two events.
    pub const OF_STEPS: [Self; 10] = [
        Self::Kill,
        Self::Lost,
        Self::Drained,
        Self::Silent,
        Self::Returned,
        Self::Busy,
        Self::Outside,
        Self::Outage,
        Self::Revoked,
        Self::ForeignKey,
    ];

    /// Whether the lane changes hands.
    #[must_use]
    pub const fn is_hand_over(self) -> bool {
        matches!(self, Self::Kill | Self::Lost | Self::Drained | Self::Silent | Self::Returned)
    }

    /// The word for it in the coverage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnswerLost => "answer lost",
            Self::AnswerLate => "answer late",
            Self::Clock => "clock refused",
            Self::Credential => "credential refused",
            Self::Deployment => "forbidden by the vendor",
            Self::ListingRefused => "listing refused",
            Self::Html => "not an API response",
            Self::InternalError => "internal error",
            Self::Late => "applied late",
            Self::Skew => "clock skew",
            Self::Swallowed => "swallowed",
            Self::Throttle => "throttled",
            Self::Unconnected => "no connection",
            Self::Kill => "killed",
            Self::Lost => "lane lost",
            Self::Drained => "drained",
            Self::Silent => "connection silent",
            Self::Returned => "lane taken over and returned",
            Self::Busy => "image busy",
            Self::Outside => "changed from outside",
            Self::Outage => "outage",
            Self::Revoked => "permission revoked",
            Self::ForeignKey => "key of another account",
        }
    }
}

/// When which fault happens.
#[derive(Clone, Debug, Default)]
pub struct InjectedFaults {
    /// How often each fault of calls happens, in thousandths of all calls.
    calls: [u64; InjectedFault::OF_CALLS.len()],
    /// How often each fault of steps happens, in thousandths of all steps.
    steps: [u64; InjectedFault::OF_STEPS.len()],
    /// InjectedFaults placed at the nth call, or the nth step.
    placed: Vec<(u64, InjectedFault)>,
    calls_seen: u64,
    steps_seen: u64,
}

impl InjectedFaults {
    /// InjectedFaults at random: none, one kind, or several.
    #[must_use]
    pub fn draw(random: &mut Random) -> Self {
        let mut faults = Self::default();
        let kinds = random.of(&[0, 1, 2, 4, 7]);
        for _ in 0..kinds {
            let nth = random.below((InjectedFault::OF_CALLS.len() + InjectedFault::OF_STEPS.len()) as u64);
            let nth = usize::try_from(nth).unwrap_or_default();
            match nth.checked_sub(InjectedFault::OF_CALLS.len()) {
                None => faults.calls[nth] = random.of(&[20, 80, 250]),
                Some(step) => faults.steps[step] = random.of(&[3, 12]),
            }
        }
        faults
    }

    /// Only these faults, each at the nth call or step.
    #[must_use]
    pub fn placed(placed: impl Into<Vec<(u64, InjectedFault)>>) -> Self {
        Self { placed: placed.into(), ..Self::default() }
    }

    /// Disables the faults that make a worker lose or take over a lane.
    pub fn without_hand_overs(&mut self) {
        for (fault, rate) in InjectedFault::OF_STEPS.iter().zip(&mut self.steps) {
            if fault.is_hand_over() {
                *rate = 0;
            }
        }
    }

    /// Whether the lane can change hands.
    #[must_use]
    pub fn may_hand_over(&self) -> bool {
        InjectedFault::OF_STEPS.into_iter().any(|fault| fault.is_hand_over() && self.may(fault))
    }

    /// Whether a fault can happen.
    #[must_use]
    pub fn may(&self, fault: InjectedFault) -> bool {
        let calls = InjectedFault::OF_CALLS.iter().zip(&self.calls);
        let mut all = calls.chain(InjectedFault::OF_STEPS.iter().zip(&self.steps));
        all.any(|(&other, &rate)| other == fault && rate > 0) || self.placed.iter().any(|&(_, placed)| placed == fault)
    }

    /// Whether anything can happen.
    #[must_use]
    pub fn may_any(&self) -> bool {
        self.calls.iter().chain(&self.steps).any(|&rate| rate > 0) || !self.placed.is_empty()
    }

    /// What becomes of the next call.
    pub fn of_call(&mut self, random: &mut Random) -> Option<InjectedFault> {
        self.calls_seen += 1;
        let mut placed = self
            .placed
            .iter()
            .filter(|(nth, fault)| *nth == self.calls_seen && InjectedFault::OF_CALLS.contains(fault));
        placed.next().map(|&(_, fault)| fault).or_else(|| drawn(&InjectedFault::OF_CALLS, &self.calls, random))
    }

    /// What happens before the next event.
    pub fn of_step(&mut self, random: &mut Random) -> Option<InjectedFault> {
        self.steps_seen += 1;
        let mut placed = self
            .placed
            .iter()
            .filter(|(nth, fault)| *nth == self.steps_seen && InjectedFault::OF_STEPS.contains(fault));
        placed.next().map(|&(_, fault)| fault).or_else(|| drawn(&InjectedFault::OF_STEPS, &self.steps, random))
    }

    /// How many calls and steps there were.
    #[must_use]
    pub const fn seen(&self) -> (u64, u64) {
        (self.calls_seen, self.steps_seen)
    }

    /// Nothing goes wrong any more.
    pub fn end(&mut self) {
        *self = Self { calls_seen: self.calls_seen, steps_seen: self.steps_seen, ..Self::default() };
    }
}

fn drawn<const N: usize>(faults: &[InjectedFault; N], rates: &[u64; N], random: &mut Random) -> Option<InjectedFault> {
    if rates.iter().all(|&rate| rate == 0) {
        return None;
    }
    faults.iter().zip(rates).find(|&(_, &rate)| random.below(1000) < rate).map(|(&fault, _)| fault)
}
