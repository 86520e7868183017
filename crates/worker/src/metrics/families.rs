//! Every metric by its name, with its meaning and its labels.

use prometheus::{GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use super::register::{Register, family, of_broker};

/// Seconds from the delivery of a job to its report.
const JOB_SECONDS: [f64; 7] = [0.5, 2.0, 10.0, 30.0, 120.0, 600.0, 3600.0];

/// Seconds of a request.
const REQUEST_SECONDS: [f64; 6] = [0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Accounts of a request.
const BATCHES: [f64; 6] = [1.0, 5.0, 10.0, 25.0, 50.0, 100.0];

/// Seconds until a publish is confirmed.
const PUBLISH_SECONDS: [f64; 6] = [0.005, 0.02, 0.1, 0.5, 2.0, 10.0];

/// The families, registered.
pub(super) struct Families {
    pub(super) build_info: IntGaugeVec,
    pub(super) jobs_received: IntCounterVec,
    pub(super) jobs_finished: IntCounterVec,
    pub(super) jobs_held: IntGaugeVec,
    pub(super) given_back: IntCounterVec,
    pub(super) job_duration: HistogramVec,
    pub(super) accounts: IntCounterVec,
    pub(super) account_failures: IntCounterVec,
    pub(super) requests: IntCounterVec,
    pub(super) request_duration: HistogramVec,
    pub(super) requests_in_flight: IntGaugeVec,
    pub(super) batch_accounts: HistogramVec,
    pub(super) rate_limit: GaugeVec,
    pub(super) retries: IntCounterVec,
    pub(super) splits: IntCounterVec,
    pub(super) batch_limit: IntGaugeVec,
    pub(super) clock_offset: IntGaugeVec,
    pub(super) lane_state: IntGaugeVec,
    pub(super) operations_pending: IntGaugeVec,
    pub(super) oldest_wait: GaugeVec,
    pub(super) consuming: IntGaugeVec,
    pub(super) last_delivery: GaugeVec,
    pub(super) last_progress: GaugeVec,
    pub(super) broker_connected: IntGaugeVec,
    pub(super) broker_blocked: IntGaugeVec,
    pub(super) broker_reconnects: IntCounterVec,
    pub(super) publish_duration: Histogram,
    pub(super) acks_lost: IntCounter,
    pub(super) redelivered: IntCounter,
    pub(super) rejected: IntCounterVec,
    pub(super) dead_letters: IntCounterVec,
    pub(super) credential_expiry: GaugeVec,
}

impl Families {
    pub(super) fn new(to: &Register) -> Self {
        Self {
            build_info: to.int_gauges(family(
                "imageshare_build_info",
                "Always 1. Which build this is.",
                &["version", "revision"],
            )),
            jobs_received: to.counters(family(
                "imageshare_jobs_received_total",
                "Jobs taken in, each delivery once more: from a queue of the broker, or from a file, standard input or \
                 flags.",
                &["source"],
            )),
            jobs_finished: to.counters(family(
                "imageshare_jobs_finished_total",
                "Jobs whose report is out. With a broker: confirmed.",
                &["lane", "status"],
            )),
            jobs_held: to.int_gauges(family(
                "imageshare_jobs_held",
                "Jobs in hand: delivered, and not yet acknowledged. At most the prefetch; as many as that means that more \
                 wait.",
                &["lane"],
            )),
            given_back: to.counters(of_broker(
                "imageshare_lanes_given_back_total",
                "Times that the lane, with all that was held of it, went back to the broker.",
                &["lane", "reason"],
            )),
            job_duration: to.histograms(
                family(
                    "imageshare_job_duration_seconds",
                    "From the first delivery of a job to this process until its report is out.",
                    &["lane"],
                ),
                &JOB_SECONDS,
            ),
            accounts: to.counters(family(
                "imageshare_accounts_total",
                "Accounts of jobs by what became of them: the throughput. A SYNC counts the accounts of its list as SHARE \
                 and those that lose the image as CANCEL.",
                &["lane", "permission", "outcome"],
            )),
            account_failures: to.counters(family(
                "imageshare_account_failures_total",
                "Accounts that failed, by the code in their report.",
                &["code"],
            )),
            requests: to.counters(family(
                "imageshare_api_requests_total",
                "Requests that have ended: accepted, refused by the class of the code, or without a usable answer.",
                &["lane", "action", "result"],
            )),
            request_duration: to.histograms(
                family(
                    "imageshare_api_request_duration_seconds",
                    "From sending a request until its answer is read, or given up. Without the wait for the pace.",
                    &["lane", "action"],
                ),
                &REQUEST_SECONDS,
            ),
            requests_in_flight: to.int_gauges(family(
                "imageshare_api_requests_in_flight",
                "Requests that are sent and not answered.",
                &["lane"],
            )),
            batch_accounts: to.histograms(
                family(
                    "imageshare_api_batch_accounts",
                    "Accounts in a request of ModifyImageSharePermission.",
                    &["lane"],
                ),
                &BATCHES,
            ),
            rate_limit: to.gauges(family(
                "imageshare_api_rate_limit",
                "Requests a second that are allowed now. Lower than the setting after a throttle; the setting where \
                 another process works on the lane.",
                &["lane", "action"],
            )),
            retries: to.counters(family(
                "imageshare_api_retries_total",
                "Requests whose accounts have to be sent again, unless their tries are used up, by why. An unknown code \
                 is transient.",
                &["lane", "reason"],
            )),
            splits: to.counters(family(
                "imageshare_api_splits_total",
                "Times that the accounts of a refused request were split, to find those at fault.",
                &["lane"],
            )),
            batch_limit: to.int_gauges(family(
                "imageshare_batch_limit",
                "Accounts that a request may hold now: the setting, or what the API taught.",
                &["lane"],
            )),
            clock_offset: to.int_gauges(family(
                "imageshare_clock_offset_seconds",
                "What is added to this machine's clock when a request is signed, as the API's clock showed.",
                &["lane"],
            )),
            lane_state: to.int_gauges(family(
                "imageshare_lane_state",
                "1 for the state that the lane is in, else 0.",
                &["lane", "state"],
            )),
            operations_pending: to.int_gauges(family(
                "imageshare_lane_operations_pending",
                "Accounts in hand without an outcome. Neighbouring wishes of one account for the same are one.",
                &["lane"],
            )),
            oldest_wait: to.gauges(family(
                "imageshare_lane_oldest_wait_seconds",
                "How long the oldest job in hand has waited since it was delivered to this process. 0 if there is none.",
                &["lane"],
            )),
            consuming: to.int_gauges(of_broker(
                "imageshare_consuming",
                "1 if the process has a consumer on the queue of the lane that the broker knows. One that stands by has \
                 one too.",
                &["lane"],
            )),
            last_delivery: to.gauges(of_broker(
                "imageshare_last_delivery_timestamp_seconds",
                "When a job of the lane was last delivered. 0 if never.",
                &["lane"],
            )),
            last_progress: to.gauges(family(
                "imageshare_last_progress_timestamp_seconds",
                "When the API last answered with anything but a throttle, an account got its outcome, a delivery was \
                 acknowledged, or a job came while none was held. 0 if never.",
                &["lane"],
            )),
            broker_connected: to.int_gauges(of_broker(
                "imageshare_broker_connected",
                "1 while the connection is open: the one that publishes, and one for each lane.",
                &["connection"],
            )),
            broker_blocked: to.int_gauges(of_broker(
                "imageshare_broker_blocked",
                "1 while the broker takes nothing, for want of memory or disk.",
                &["connection"],
            )),
            broker_reconnects: to.counters(of_broker(
                "imageshare_broker_reconnects_total",
                "Times that a connection ended or did not come about against our will, so that the next one follows.",
                &["reason"],
            )),
            publish_duration: to.histogram(
                of_broker(
                    "imageshare_broker_publish_duration_seconds",
                    "From publishing a message until the broker confirms it.",
                    &[],
                ),
                &PUBLISH_SECONDS,
            ),
            acks_lost: to.counter(of_broker(
                "imageshare_acks_lost_total",
                "Jobs that were done and whose delivery could not be acknowledged, so that they come again.",
                &[],
            )),
            redelivered: to.counter(of_broker(
                "imageshare_messages_redelivered_total",
                "Messages that the broker marked as delivered before.",
                &[],
            )),
            rejected: to.counters(of_broker(
                "imageshare_messages_rejected_total",
                "Messages that are no job: not one JSON object within the bounds, a member missing or wrong, another \
                 lane's, or with a priority.",
                &["reason"],
            )),
            dead_letters: to.counters(of_broker(
                "imageshare_dead_letters_total",
                "Dead letters that the broker has confirmed: what is left of jobs in which accounts failed, and what is \
                 no job.",
                &["lane", "reason"],
            )),
            credential_expiry: to.gauges(family(
                "imageshare_credential_expiry_timestamp_seconds",
                "When the credential in use ends; 0 if it does not, or nobody knows. A source that can renew it does so at \
                 least ten minutes before, or halfway if it lives for less than twenty.",
                &["lane"],
            )),
        }
    }
}
