#!/usr/bin/env python3
"""Sends every expression of the dashboards to a Prometheus, and fails if one returns nothing.

Of a rule, only the metrics that it selects are requested: an alert that does not fire returns nothing."""

import argparse
import json
import re
import sys
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from check import SELECTOR, of_panels, of_rules


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--api", required=True, help="address of Prometheus, such as http://127.0.0.1:9090")
    arguments.add_argument("--rate-interval", default="1m", help="four times the scrape interval")
    arguments.add_argument("--range", default="1h", help="the selected time range")
    given = arguments.parse_args()
    requests = [(query.location, filled(query.expression, given.rate_interval, given.range)) for query in of_panels()]
    requests += {(rule.location, name) for rule in of_rules() for name, _ in SELECTOR.findall(rule.expression)}
    failed = 0
    for location, expression in requests:
        values = {series["value"][1] for series in ask(given.api, "query", query=expression)}
        if not values - {"NaN"}:
            failed += 1
            print(f"error: {location}: {expression}: no value (received {values})", file=sys.stderr)
    print(f"{len(requests)} expressions, {failed} without a value", file=sys.stderr)
    sys.exit(bool(failed))


def filled(expression, rate_interval, time_range):
    """Replaces the variables of a dashboard."""
    values = {"__rate_interval": rate_interval, "__range": time_range}
    # The other variables are regular expressions for labels.
    return re.sub(r"\$(\w+)", lambda match: values.get(match[1], ".*"), expression)


def ask(api, path, **parameters):
    """Returns the series in the response of a Prometheus."""
    try:
        with urlopen(f"{api}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as response:
            return json.load(response)["data"]["result"]
    except HTTPError as error:
        sys.exit(f"error: {parameters}: {json.load(error)['error']}")


if __name__ == "__main__":
    main()
