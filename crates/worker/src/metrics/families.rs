//! Every metric by its name, with its meaning and its labels.

use prometheus::{Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use super::register::{Register, family, of_broker};

/// Seconds from the delivery of a job to its report.
const JOB_SECONDS: [f64; 5] = [1.0, 10.0, 60.0, 600.0, 3600.0];

/// Seconds from publishing a job. Timestamps have whole seconds, so smaller buckets would show nothing.
const SINCE_PUBLISHED: [f64; 6] = [2.0, 10.0, 60.0, 300.0, 1800.0, 7200.0];

/// Seconds of a request.
const REQUEST_SECONDS: [f64; 6] = [0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Accounts of a request.
const BATCHES: [f64; 5] = [1.0, 5.0, 10.0, 25.0, 50.0];

/// Seconds until a publish is confirmed.
const PUBLISH_SECONDS: [f64; 6] = [0.005, 0.02, 0.1, 0.5, 2.0, 10.0];

/// The families, registered.
pub(super) struct Families {
    pub(super) build_info: IntGaugeVec,
    pub(super) jobs_received: IntCounterVec,
    pub(super) jobs_finished: IntCounterVec,
    pub(super) jobs_held: IntGaugeVec,
    pub(super) requeues: IntCounterVec,
    pub(super) job_wait: HistogramVec,
    pub(super) job_duration: HistogramVec,
    pub(super) job_total: HistogramVec,
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
    pub(super) queue_ready: GaugeVec,
    pub(super) dead_letters_ready: Gauge,
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
                "Always 1. The labels identify the build.",
                &["version", "revision"],
            )),
            jobs_received: to.counters(family(
                "imageshare_jobs_received_total",
                "Jobs received from a queue or from an input (file, standard input, flags). A redelivery counts \
                 again.",
                &["source"],
            )),
            jobs_finished: to.counters(family(
                "imageshare_jobs_finished_total",
                "Jobs whose report is written or, with a broker, confirmed.",
                &["lane", "status"],
            )),
            jobs_held: to.int_gauges(family(
                "imageshare_jobs_held",
                "Jobs in hand: delivered and not acknowledged. At most the prefetch; at that value more jobs wait in \
                 the broker.",
                &["lane"],
            )),
            requeues: to.counters(of_broker(
                "imageshare_lane_requeues_total",
                "Times that the lane was requeued: the broker redelivers all its unacknowledged jobs.",
                &["lane", "reason"],
            )),
            job_wait: to.histograms(
                of_broker(
                    "imageshare_job_wait_seconds",
                    "Seconds from publishing a job to its first delivery, by the AMQP `timestamp`, which has whole \
                     seconds. Without one, and redelivered: not counted.",
                    &["lane"],
                ),
                &SINCE_PUBLISHED,
            ),
            job_total: to.histograms(
                of_broker(
                    "imageshare_job_total_seconds",
                    "Seconds from publishing a job, by the AMQP `timestamp`, until its report is confirmed. Without \
                     one: not counted.",
                    &["lane"],
                ),
                &SINCE_PUBLISHED,
            ),
            job_duration: to.histograms(
                family(
                    "imageshare_job_duration_seconds",
                    "Seconds from the first delivery of a job to this process until its report is written or \
                     confirmed.",
                    &["lane"],
                ),
                &JOB_SECONDS,
            ),
            accounts: to.counters(family(
                "imageshare_accounts_total",
                "Accounts of jobs by outcome. A SYNC counts the accounts of its list as SHARE and those that lose \
                 their share as CANCEL.",
                &["lane", "permission", "outcome"],
            )),
            account_failures: to.counters(family(
                "imageshare_account_failures_total",
                "Failed accounts by the code in their report.",
                &["code"],
            )),
            requests: to.counters(family(
                "imageshare_api_requests_total",
                "Completed requests: accepted, refused (by class of the code), or without a usable response.",
                &["lane", "action", "result"],
            )),
            request_duration: to.histograms(
                family(
                    "imageshare_api_request_duration_seconds",
                    "Seconds from sending a request until its response is read or abandoned, without the wait for the \
                     rate limit.",
                    &["lane", "action"],
                ),
                &REQUEST_SECONDS,
            ),
            requests_in_flight: to.int_gauges(family(
                "imageshare_api_requests_in_flight",
                "Requests that are sent and have no response.",
                &["lane"],
            )),
            batch_accounts: to.histograms(
                family(
                    "imageshare_api_batch_accounts",
                    "Accounts per request of ModifyImageSharePermission.",
                    &["lane"],
                ),
                &BATCHES,
            ),
            rate_limit: to.gauges(family(
                "imageshare_api_rate_limit",
                "Current limit in requests per second. Below the setting after a throttle; equal to the setting on a \
                 standby.",
                &["lane", "action"],
            )),
            retries: to.counters(family(
                "imageshare_api_retries_total",
                "Requests whose accounts are sent again while attempts remain. An unknown code counts as transient.",
                &["lane", "reason"],
            )),
            splits: to.counters(family(
                "imageshare_api_splits_total",
                "Refused requests whose accounts were split to find the bad ones.",
                &["lane"],
            )),
            batch_limit: to.int_gauges(family(
                "imageshare_batch_limit",
                "Current limit of accounts per request: the setting, or the longest list that the API accepts.",
                &["lane"],
            )),
            clock_offset: to.int_gauges(family(
                "imageshare_clock_offset_seconds",
                "Seconds added to this machine's clock when a request is signed, computed from the API's clock.",
                &["lane"],
            )),
            lane_state: to.int_gauges(family(
                "imageshare_lane_state",
                "1 for the current state of the lane, 0 for the others.",
                &["lane", "state"],
            )),
            operations_pending: to.int_gauges(family(
                "imageshare_lane_operations_pending",
                "Operations in hand without an outcome. Consecutive items of an account with the same permission are \
                 one.",
                &["lane"],
            )),
            oldest_wait: to.gauges(family(
                "imageshare_lane_oldest_wait_seconds",
                "Seconds since the delivery of the oldest job in hand to this process. 0 without jobs.",
                &["lane"],
            )),
            consuming: to.int_gauges(of_broker(
                "imageshare_consuming",
                "1 if the broker has a consumer of this process on the lane's queue. A standby has one too.",
                &["lane"],
            )),
            queue_ready: to.gauges(of_broker(
                "imageshare_queue_ready",
                "Jobs that wait in the lane's queue and are delivered to no process. NaN while unknown.",
                &["lane"],
            )),
            dead_letters_ready: to.gauge(of_broker(
                "imageshare_dead_letters_ready",
                "Dead letters that wait in their queue. NaN while unknown.",
                &[],
            )),
            last_delivery: to.gauges(of_broker(
                "imageshare_last_delivery_timestamp_seconds",
                "Unix time of the lane's last delivery. 0 if there was none.",
                &["lane"],
            )),
            last_progress: to.gauges(family(
                "imageshare_last_progress_timestamp_seconds",
                "Unix time of the last response other than a throttle, outcome, acknowledgement, or delivery to an \
                 idle lane. 0 if there was none.",
                &["lane"],
            )),
            broker_connected: to.int_gauges(of_broker(
                "imageshare_broker_connected",
                "1 while the connection is open. There is one for the publisher and one per lane.",
                &["connection"],
            )),
            broker_blocked: to.int_gauges(of_broker(
                "imageshare_broker_blocked",
                "1 while the broker accepts no messages because it lacks memory or disk.",
                &["connection"],
            )),
            broker_reconnects: to.counters(of_broker(
                "imageshare_broker_reconnects_total",
                "Connections that ended unexpectedly or failed, so that the worker reconnects.",
                &["reason"],
            )),
            publish_duration: to.histogram(
                of_broker(
                    "imageshare_broker_publish_duration_seconds",
                    "Seconds from publishing a message until the broker confirms it.",
                    &[],
                ),
                &PUBLISH_SECONDS,
            ),
            acks_lost: to.counter(of_broker(
                "imageshare_acks_lost_total",
                "Finished jobs whose delivery could not be acknowledged. The broker redelivers them.",
                &[],
            )),
            redelivered: to.counter(of_broker(
                "imageshare_messages_redelivered_total",
                "Messages that the broker marked as redelivered.",
                &[],
            )),
            rejected: to.counters(of_broker(
                "imageshare_messages_rejected_total",
                "Invalid messages: not one JSON object within the bounds, a missing or wrong member, for another \
                 lane, or with a priority.",
                &["reason"],
            )),
            dead_letters: to.counters(of_broker(
                "imageshare_dead_letters_total",
                "Dead letters that the broker confirmed: failed accounts of a job, or an invalid message.",
                &["lane", "reason"],
            )),
            credential_expiry: to.gauges(family(
                "imageshare_credential_expiry_timestamp_seconds",
                "Unix time when the current credential expires, 0 if never or unknown. A renewable one is renewed at \
                 least ten minutes before, or halfway through a lifetime below twenty minutes.",
                &["lane"],
            )),
        }
    }
}
