#!/usr/bin/env python3
"""Sends every expression of the dashboards to a Prometheus, and fails if one returns nothing.

Of a rule, only the metrics that it selects are requested: an alert that does not fire returns nothing."""

import argparse
import json
import sys
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from expressions import of_panels, of_rules, selectors


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--api", required=True, help="address of Prometheus, such as http://127.0.0.1:9090")
    arguments.add_argument("--rate-interval", default="1m", help="four times the scrape interval")
    arguments.add_argument("--range", default="1h", help="the selected time range")
    given = arguments.parse_args()
    requests = list(of_panels(rate_interval=given.rate_interval, time_range=given.range))
    requests += sorted({(place, name) for place, expression in of_rules() for name, _ in selectors(expression)})
    failed = 0
    for location, expression in requests:
        problem = problem_of(given.api, expression)
        if problem:
            failed += 1
            print(f"error: {location}: {expression}: {problem}", file=sys.stderr)
    print(f"{len(requests)} expressions, {failed} without a value", file=sys.stderr)
    sys.exit(bool(failed))


def problem_of(api, expression):
    """Returns why an expression has no value now, or None."""
    try:
        values = [series["value"][1] for series in ask(api, "query", query=expression)]
    except HTTPError as error:
        return json.load(error)["error"]
    except OSError as error:
        return str(error)
    return None if set(values) - {"NaN"} else f"no value (received {values})"


def ask(api, path, **parameters):
    """Returns the series in the response of a Prometheus."""
    with urlopen(f"{api}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as response:
        return json.load(response)["data"]["result"]


if __name__ == "__main__":
    main()
