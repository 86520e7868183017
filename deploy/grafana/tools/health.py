"""The health of the broker's connections and of the processes."""

from overview import TITLE as OVERVIEW_TITLE
from overview import UID as OVERVIEW_UID
from overview import quantiles
from panels import (
    BYTES,
    COUNT,
    PANEL_HEIGHT,
    PER_SECOND,
    SECONDS,
    Look,
    bars,
    dashboard_of,
    lines,
    number,
    query,
    states,
    text,
    text_from,
)

UID = "imageshare-health"
TITLE = "imageshare broker and processes"

# A time that never was is 0, and so longer ago than anything that was.
NEVER = 1e9


def connections():
    yield states(
        Look(
            "Connections",
            "One that publishes for each process, and one that consumes for each lane.",
            COUNT,
            "imagesharenotconsumed",
            width=12,
            mappings=(text(1, "open", "green"), text(0, "none", "red")),
        ),
        query("min by (instance, connection) (imageshare_broker_connected{%process})", "{{instance}} {{connection}}"),
    )
    yield states(
        Look(
            "Consumers",
            """Whether the broker knows a consumer of the process on the queue of the lane. Connected but not
            consuming is not healthy, unless the lane is closed.""",
            COUNT,
            "imagesharenotconsumed",
            width=12,
            mappings=(text(1, "consuming", "green"), text(0, "not", "red")),
        ),
        query("min by (instance, lane) (imageshare_consuming{%lane})", "{{instance}} {{lane}}"),
    )
    yield number(
        Look(
            "Blocked by the broker",
            "Processes from which the broker takes nothing now, for want of memory or disk. Reports and jobs wait.",
            COUNT,
            "the-broker-takes-nothing",
            ((1, "red"),),
            width=6,
        ),
        query("sum(imageshare_broker_blocked{%process})"),
    )
    yield number(
        Look(
            "Connections made anew",
            "In the time shown, by why the one before ended or did not come about.",
            COUNT,
            "connections-that-end",
            ((1, "orange"), (20, "red")),
            width=18,
            decimals=0,
        ),
        query(
            "sum by (reason) (increase(imageshare_broker_reconnects_total{%process}[$__range]))",
            "{{reason}}",
            instant=True,
        ),
        graph=False,
    )


def deliveries():
    yield lines(
        Look(
            "Jobs taken in and done",
            "A second. A job that comes again is taken in again.",
            PER_SECOND,
            "broker-and-processes",
        ),
        query("sum(rate(imageshare_jobs_received_total{%process}[$__rate_interval]))", "taken in"),
        query("sum(rate(imageshare_jobs_finished_total{%lane}[$__rate_interval]))", "done"),
    )
    yield lines(
        Look(
            "Jobs in hand",
            "Delivered and not acknowledged. As many as broker.prefetch: more wait in the broker.",
            COUNT,
            "how-long-will-it-take",
            ((10000, "blue"),),
        ),
        query("sum by (instance, lane) (imageshare_jobs_held{%lane})", "{{lane}} {{instance}}"),
    )
    yield lines(
        Look(
            "Time from delivery to report",
            "The time within which so many of 100 jobs are done. 0 where none was.",
            SECONDS,
            "how-long-will-it-take",
            ((1200, "orange"),),
        ),
        *quantiles("imageshare_job_duration_seconds", "%lane"),
    )
    yield lines(
        Look(
            "Confirms of the broker",
            "The time within which so many of 100 messages are confirmed. 0 where none was published.",
            SECONDS,
            "the-broker-takes-nothing",
            ((0.5, "orange"), (2, "red")),
        ),
        *quantiles("imageshare_broker_publish_duration_seconds", "%process"),
    )
    yield lines(
        Look(
            "Messages that come again",
            """A second. Redelivered: marked so by the broker, after a lane was given back or lost. Not
            acknowledged: the work was done, and is found done when the job comes again.""",
            PER_SECOND,
            "connections-that-end",
        ),
        query("sum(rate(imageshare_messages_redelivered_total{%process}[$__rate_interval]))", "redelivered"),
        query("sum(rate(imageshare_acks_lost_total{%process}[$__rate_interval]))", "not acknowledged"),
    )
    yield bars(
        Look(
            "Lanes given back, by why",
            """In the time shown. Drain: the process ended. Closed: the lane was, for a minute. Lease: a job was
            held too long. Operations: the process holds too many accounts.""",
            COUNT,
            "lanes-that-go-back",
            ((1, "blue"), (10, "orange")),
            decimals=0,
        ),
        query(
            "sum by (reason) (increase(imageshare_lanes_given_back_total{%lane}[$__range]))", "{{reason}}", instant=True
        ),
    )
    yield bars(
        Look(
            "Messages that are no job, by why",
            """In the time shown. Text: not one JSON object within the bounds. Member: one is missing, unknown or
            wrong. Route: it names another lane, or a region that the lane does not hold.""",
            COUNT,
            "imagesharedeadlettersgrowing",
            ((1, "orange"),),
            decimals=0,
        ),
        query(
            "sum by (reason) (increase(imageshare_messages_rejected_total{%process}[$__range]))",
            "{{reason}}",
            instant=True,
        ),
    )
    yield bars(
        Look(
            "Dead letters, by lane and why",
            "In the time shown. Look at them with: imageshare dead list.",
            COUNT,
            "imagesharedeadlettersgrowing",
            ((1, "orange"),),
            decimals=0,
        ),
        query(
            "sum by (lane, reason) (increase(imageshare_dead_letters_total{%lane}[$__range]))",
            "{{lane}} {{reason}}",
            instant=True,
        ),
    )
    yield number(
        Look(
            "Since the last delivery, since the last progress",
            "By lane, of the process that was last. Long is normal where there is nothing to do.",
            SECONDS,
            "imagesharestalled",
            mappings=(text_from(NEVER, "never", "blue"),),
        ),
        query("time() - max by (lane) (imageshare_last_delivery_timestamp_seconds{%lane})", "{{lane}} delivery"),
        query("time() - max by (lane) (imageshare_last_progress_timestamp_seconds{%lane})", "{{lane}} progress"),
        graph=False,
        height=PANEL_HEIGHT,
    )


def processes():
    yield number(
        Look(
            "Processes, by version",
            "Processes that are scraped. More than one version for long: a roll-out got stuck.",
            COUNT,
            "broker-and-processes",
            width=6,
        ),
        query("count by (version) (imageshare_build_info{%process})", "{{version}}"),
        graph=False,
    )
    yield number(
        Look(
            "Starts in the time shown",
            "How often a process started anew, without its first start.",
            COUNT,
            "imagesharerestarts",
            ((1, "orange"), (3, "red")),
            width=6,
            decimals=0,
        ),
        query("sum(changes(process_start_time_seconds{%process}[$__range]))", instant=True),
        graph=False,
    )
    yield number(
        Look(
            "Up for, the shortest",
            "Since the youngest process started.",
            SECONDS,
            "imagesharerestarts",
            width=6,
        ),
        query("min(time() - process_start_time_seconds{%process})"),
        graph=False,
    )
    yield number(
        Look(
            "Clock, how far off",
            """What is added to this machine's clock when a request is signed, by lane. The API refuses requests
            that are off by five minutes; then this is learnt.""",
            SECONDS,
            "the-clock",
            ((30, "orange"), (300, "red")),
            width=6,
        ),
        query("max by (lane) (abs(imageshare_clock_offset_seconds{%lane}))", "{{lane}}"),
        graph=False,
    )
    yield lines(
        Look(
            "Processors in use",
            "Seconds of processor time a second, over five minutes: the process tells whole seconds only.",
            COUNT,
            "broker-and-processes",
            ((1, "orange"),),
            width=6,
        ),
        query("sum by (instance) (rate(process_cpu_seconds_total{%process}[5m]))", "{{instance}}"),
    )
    yield lines(
        Look(
            "Memory",
            "Resident. It grows with the jobs in hand, not with those done.",
            BYTES,
            "broker-and-processes",
            ((512 * 1024 * 1024, "orange"),),
            width=6,
        ),
        query("sum by (instance) (process_resident_memory_bytes{%process})", "{{instance}}"),
    )
    yield lines(
        Look(
            "File descriptors in use",
            "Open ones, over what is allowed.",
            "percentunit",
            "broker-and-processes",
            ((0.8, "red"),),
            width=6,
        ),
        query(
            "sum by (instance) (process_open_fds{%process}) / sum by (instance) (process_max_fds{%process})",
            "{{instance}}",
        ),
        at_most=1,
    )
    yield lines(
        Look(
            "Threads",
            "A few, and not growing: the client of the broker has one for each connection.",
            COUNT,
            "broker-and-processes",
            ((200, "orange"),),
            width=6,
        ),
        query("sum by (instance) (process_threads{%process})", "{{instance}}"),
    )


def health():
    return dashboard_of(
        UID,
        TITLE,
        "Connections to the broker, deliveries, acknowledgements, and the processes themselves.",
        OVERVIEW_UID,
        OVERVIEW_TITLE,
        [
            ("Are we connected?", connections()),
            ("What goes in and out?", deliveries()),
            ("How are the processes?", processes()),
        ],
    )
