"""The overview: is it working, how fast, when will it be done, what fails and why, what holds it up, is it stuck."""

from panels import (
    ACCOUNTS_PER_SECOND,
    COUNT,
    ENDLESS,
    PANEL_HEIGHT,
    PER_SECOND,
    SECONDS,
    SHARE,
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

UID = "imageshare-overview"
TITLE = "imageshare overview"

LANE_STATES = (
    text(5, "serving", "green"),
    text(4, "subscribed", "blue"),
    text(3, "blocked", "orange"),
    text(2, "closed", "red"),
    text(1, "disconnected", "dark-red"),
)

# A number for each state, so that a panel can show it in time.
LANE_STATE = """
    max by (instance, lane) (
      imageshare_lane_state{%lane, state="serving"} * 5
      or imageshare_lane_state{%lane, state="subscribed"} * 4
      or imageshare_lane_state{%lane, state="blocked"} * 3
      or imageshare_lane_state{%lane, state="closed"} * 2
      or imageshare_lane_state{%lane, state="disconnected"} * 1
    )
"""


def time_to_finish(by):
    """What is in hand over the pace of the last five minutes. Without a pace it is very long, and without work 0."""
    return f"""
        sum by ({by}) (imageshare_lane_operations_pending{{%lane}})
        / clamp_min(sum by ({by}) (rate(imageshare_accounts_total{{%lane}}[5m])), 0.01)
    """


def quantile(share, histogram, matchers):
    """A quantile, and 0 where nothing happened. Of all that is selected, since the 0 has no labels."""
    rate = f"rate({histogram}_bucket{{{matchers}}}[$__rate_interval])"
    return f"(histogram_quantile({share}, sum by (le) ({rate})) >= 0) or vector(0)"


def quantiles(histogram, matchers):
    return [
        query(quantile(share, histogram, matchers), legend)
        for share, legend in ((0.5, "half"), (0.95, "95 of 100"), (0.99, "99 of 100"))
    ]


def is_it_working():
    yield number(
        Look(
            "Lanes without a process",
            """Lanes that no process consumes. Their jobs wait in the broker. A closed lane is among them once it
            was given back.""",
            COUNT,
            "imagesharenotconsumed",
            ((1, "red"),),
            width=4,
        ),
        query("""
            count(max by (job, lane) (imageshare_consuming{%lane}) == 0) or count(imageshare_consuming{%lane}) * 0
        """),
    )
    yield number(
        Look(
            "Lanes closed, blocked",
            """Closed: no calls are sent, because of the endpoint, the credential, its permissions or the clock.
            Blocked: all that the lane may hold waits for images that are not ready.""",
            COUNT,
            "states-of-a-lane",
            ((1, "red"),),
            width=4,
        ),
        query(
            'count(max by (job, lane) (imageshare_lane_state{%lane, state="closed"}) == 1) '
            'or count(imageshare_lane_state{%lane, state="closed"}) * 0',
            "closed",
        ),
        query(
            'count(max by (job, lane) (imageshare_lane_state{%lane, state="blocked"}) == 1) '
            'or count(imageshare_lane_state{%lane, state="blocked"}) * 0',
            "blocked",
        ),
    )
    yield number(
        Look(
            "Silence while work waits",
            """The longest time for which nothing came of jobs that are in hand: no answer, no outcome, no
            acknowledgement. 0 if no job is in hand. Above five minutes, a process is alive but stuck.""",
            SECONDS,
            "imagesharestalled",
            ((60, "orange"), (300, "red")),
            width=4,
        ),
        query("""
            max((time() - imageshare_last_progress_timestamp_seconds{%lane}) and imageshare_jobs_held{%lane} > 0)
            or count(imageshare_jobs_held{%lane}) * 0
        """),
    )
    yield number(
        Look(
            "Accounts done",
            "Accounts a second that have an outcome, of any kind. 0 if there is nothing to do.",
            ACCOUNTS_PER_SECOND,
            "the-overview",
            width=4,
        ),
        query("sum(rate(imageshare_accounts_total{%lane}[$__rate_interval]))"),
    )
    yield number(
        Look(
            "Time to finish what is in hand",
            """The slowest lane's accounts in hand over its pace of the last five minutes. What still waits in the
            broker is not in it: see there when the lane holds as many jobs as its prefetch.""",
            SECONDS,
            "how-long-will-it-take",
            ((1200, "orange"), (7200, "red")),
            width=4,
        ),
        query(f"max({time_to_finish('job, lane')})"),
    )
    yield number(
        Look(
            "Accounts that fail",
            "The share of the accounts of the last 15 minutes that failed.",
            SHARE,
            "imageshareerrorratio",
            ((0.01, "orange"), (0.05, "red")),
            width=4,
        ),
        query("""
            sum(increase(imageshare_accounts_total{%lane, outcome="failed"}[15m]))
            / clamp_min(sum(increase(imageshare_accounts_total{%lane}[15m])), 1)
        """),
    )
    yield states(
        Look(
            "State of each lane, by process",
            """Serving: jobs come. Subscribed: none came yet, because another process has the lane or it is empty.
            Blocked, closed, disconnected: see the runbook.""",
            COUNT,
            "states-of-a-lane",
            width=24,
            mappings=LANE_STATES,
        ),
        query(LANE_STATE, "{{lane}} {{instance}}"),
    )


def how_fast():
    yield lines(
        Look(
            "Accounts, by what became of them",
            """The throughput. Changed: brought to what was wished. Unchanged: were so already. Failed: see below
            for the codes.""",
            ACCOUNTS_PER_SECOND,
            "the-overview",
            width=12,
        ),
        query("sum by (outcome) (rate(imageshare_accounts_total{%lane}[$__rate_interval]))", "{{outcome}}"),
        stacked=True,
        colours={"changed": "green", "unchanged": "blue", "failed": "red"},
    )
    yield lines(
        Look(
            "Writes against the limit",
            """Requests of ModifyImageSharePermission a second, and how many the lane may send now. The limit falls
            after a throttle and recovers by itself. At the limit, only more accounts a request or more lanes make
            it faster.""",
            PER_SECOND,
            "capacity",
            width=12,
        ),
        query(
            """
            sum by (lane) (
              rate(imageshare_api_requests_total{%lane, action="ModifyImageSharePermission"}[$__rate_interval])
            )
        """,
            "{{lane}}",
        ),
        query(
            """
            min by (lane) (imageshare_api_rate_limit{%lane, action="ModifyImageSharePermission"})
        """,
            "{{lane}} may",
        ),
        dashed="/ may$/",
    )


def when_will_it_be_done():
    yield lines(
        Look(
            "Accounts in hand, by lane",
            "Accounts without an outcome, of the jobs in hand. Falling: it is being worked off.",
            COUNT,
            "how-long-will-it-take",
        ),
        query("sum by (lane) (imageshare_lane_operations_pending{%lane})", "{{lane}} accounts"),
        query("sum by (lane) (imageshare_jobs_held{%lane})", "{{lane}} jobs"),
    )
    yield lines(
        Look(
            "Time to finish what is in hand, by lane",
            "Accounts in hand over the pace of the last five minutes. Very long means that nothing moves.",
            SECONDS,
            "how-long-will-it-take",
            ((1200, "orange"),),
        ),
        query(time_to_finish("lane"), "{{lane}}"),
    )
    yield lines(
        Look(
            "Oldest wait, by lane",
            """How long the oldest job in hand has waited since it was delivered. At the lease, 20 minutes unless
            set otherwise, the lane goes back to the broker and begins again.""",
            SECONDS,
            "imageshareoldestwait",
            ((900, "orange"), (1200, "red")),
        ),
        query("max by (lane) (imageshare_lane_oldest_wait_seconds{%lane})", "{{lane}}"),
    )


def what_fails():
    yield bars(
        Look(
            "Failed accounts, by code",
            """How many accounts failed in the time shown, the ten commonest codes, of all lanes. docs/errors.md
            says of each code whose fault it is and what to do.""",
            COUNT,
            "imageshareerrorratio",
            ((1, "orange"),),
            decimals=0,
        ),
        query(
            "topk(10, sum by (code) (increase(imageshare_account_failures_total{%process}[$__range])))",
            "{{code}}",
            instant=True,
        ),
    )
    yield lines(
        Look(
            "Answers that are no success, by class",
            """Requests a second. Throttle: too many for the limit. No answer: the endpoint or the network.
            Credential, permission, clock, deployment: our side. The others are about accounts and images.""",
            PER_SECOND,
            "answers-of-the-api",
        ),
        query(
            'sum by (result) (rate(imageshare_api_requests_total{%lane, result!="ok"}[$__rate_interval]))', "{{result}}"
        ),
        stacked=True,
    )
    yield lines(
        Look(
            "Jobs done, by status",
            "Jobs a second. Partial and failed ones have a dead letter with the accounts that are left.",
            PER_SECOND,
            "imagesharedeadlettersgrowing",
        ),
        query("sum by (status) (rate(imageshare_jobs_finished_total{%lane}[$__rate_interval]))", "{{status}}"),
        stacked=True,
        colours={"succeeded": "green", "partial": "orange", "failed": "red", "rejected": "purple"},
    )


def what_holds_it_up():
    yield lines(
        Look(
            "Use of the limit, by action",
            """Requests over the most that was allowed in that time, in the lane where it is most. Near 100 %: the limit
            is the bottleneck, and nothing is wrong. Far below it with work in hand: look at answer time, throttles,
            confirms and the credential beside this.""",
            SHARE,
            "what-is-the-bottleneck",
            ((0.95, "blue"),),
            width=6,
        ),
        query(
            """
            max by (action) (
              sum by (job, lane, action) (rate(imageshare_api_requests_total{%lane}[$__rate_interval]))
              / min by (job, lane, action) (max_over_time(imageshare_api_rate_limit{%lane}[$__rate_interval]))
            )
        """,
            "{{action}}",
        ),
        at_most=1,
    )
    yield lines(
        Look(
            "Answer time of the API",
            """The time within which so many of 100 requests are answered. 0 where none was. One image has one write
            in flight, so a slow answer limits jobs of few images.""",
            SECONDS,
            "what-is-the-bottleneck",
            ((5, "orange"), (10, "red")),
            width=6,
        ),
        *quantiles("imageshare_api_request_duration_seconds", "%lane"),
    )
    yield lines(
        Look(
            "Share of requests that are throttled",
            "Above 2 % for long: somebody else uses up the same limit, or it is lower than the setting.",
            SHARE,
            "imagesharethrottled",
            ((0.02, "red"),),
            width=6,
        ),
        query(
            """
            sum by (lane) (rate(imageshare_api_requests_total{%lane, result="throttle"}[$__rate_interval]))
            / clamp_min(sum by (lane) (rate(imageshare_api_requests_total{%lane}[$__rate_interval])), 0.01)
        """,
            "{{lane}}",
        ),
    )
    yield lines(
        Look(
            "Accounts a request",
            """Mean of the requests of the time before, 0 where there were none, and what a request may hold now.
            Few with much work: the jobs are for many images, or accounts at fault are being searched for.""",
            COUNT,
            "what-is-the-bottleneck",
            width=6,
        ),
        query(
            """
            sum by (lane) (rate(imageshare_api_batch_accounts_sum{%lane}[$__rate_interval]))
            / clamp_min(sum by (lane) (rate(imageshare_api_batch_accounts_count{%lane}[$__rate_interval])), 0.0001)
        """,
            "{{lane}}",
        ),
        query("min by (lane) (imageshare_batch_limit{%lane})", "{{lane}} may"),
        dashed="/ may$/",
    )
    yield lines(
        Look(
            "Requests in flight",
            "Sent and not answered. Always as many as lanes.NAME.concurrency: raise it, or the API is slow.",
            COUNT,
            "what-is-the-bottleneck",
            ((16, "orange"),),
            width=6,
        ),
        query("sum by (lane) (imageshare_api_requests_in_flight{%lane})", "{{lane}}"),
    )
    yield lines(
        Look(
            "Requests that have to be sent again",
            "A second, by why; and lists that were split to find the accounts at fault.",
            PER_SECOND,
            "answers-of-the-api",
            width=6,
        ),
        query("sum by (reason) (rate(imageshare_api_retries_total{%lane}[$__rate_interval]))", "{{reason}}"),
        query("sum(rate(imageshare_api_splits_total{%lane}[$__rate_interval]))", "split"),
    )
    yield lines(
        Look(
            "Confirms of the broker",
            """The time within which so many of 100 messages are confirmed. 0 where none was published. A job is
            done only when its report is confirmed.""",
            SECONDS,
            "what-is-the-bottleneck",
            ((0.5, "orange"), (2, "red")),
            width=6,
        ),
        *quantiles("imageshare_broker_publish_duration_seconds", "%process"),
    )
    yield number(
        Look(
            "Credential ends in",
            "For each lane, where it ends first. A temporary one is renewed at least ten minutes before.",
            SECONDS,
            "imagesharecredentialexpiring",
            width=6,
            mappings=(text_from(ENDLESS / 2, "does not end", "green"),),
        ),
        query(
            f"""
            min by (lane) (
              (imageshare_credential_expiry_timestamp_seconds{{%lane}} > 0) - time()
              or (imageshare_credential_expiry_timestamp_seconds{{%lane}} == 0) + {ENDLESS}
            )
        """,
            "{{lane}}",
        ),
        graph=False,
        height=PANEL_HEIGHT,
    )


def overview():
    return dashboard_of(
        UID,
        TITLE,
        "Sharing of images: is it working, how fast, when will it be done, what fails and why, what holds it up.",
        "imageshare-health",
        "imageshare broker and processes",
        [
            ("Is it working, and is it stuck?", is_it_working()),
            ("How fast?", how_fast()),
            ("When will it be done?", when_will_it_be_done()),
            ("What fails, and why?", what_fails()),
            ("What holds it up: the limit, the API, the broker, the credential?", what_holds_it_up()),
        ],
    )
