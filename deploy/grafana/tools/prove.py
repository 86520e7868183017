#!/usr/bin/env python3
"""Asks a Prometheus every expression of every panel and rule, and says which brings nothing.

An alert that does not fire brings nothing, and so do parts of others; of rules, what they select has to be there."""

import argparse
import json
import math
import sys
import time

from api import Api, RefusedError
from expressions import filled, of_dashboards, of_rules, selectors


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--api", required=True, help="the address of Prometheus, such as http://127.0.0.1:9090")
    arguments.add_argument("--time", type=float, default=None, help="seconds since 1970; now unless given")
    arguments.add_argument("--rate-interval", default="1m", help="four times the scrape interval")
    arguments.add_argument("--range", default="1h", help="the time that the dashboard shows")
    arguments.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="job, instance, lane")
    arguments.add_argument("--json", action="store_true", help="what every expression brought, as lines of JSON")
    given = arguments.parse_args()
    api, at = Api(given.api), given.time or time.time()
    variables = dict(variable.split("=", 1) for variable in given.var)
    asked, failed = 0, 0
    for place, question in questions():
        text = filled(question, variables, given.rate_interval, given.range)
        asked += 1
        try:
            found, problem = api.at(text, at), None
        except RefusedError as refused:
            found, problem = [], str(refused)
        values = [series.points[0][1] for series in found]
        if given.json:
            shown = [
                [series.labels, value if math.isfinite(value) else str(value)]
                for series, value in zip(found, values, strict=True)
            ]
            print(json.dumps({"place": place, "expression": text, "found": shown}))
        if not values or all(map(math.isnan, values)):
            failed += 1
            print(f"{place}: found {problem or 'nothing'} for {text}", file=sys.stderr)
    print(f"{asked} expressions asked, {failed} without an answer", file=sys.stderr)
    sys.exit(bool(failed))


def questions():
    """Each expression, or what there has to be for it, and where it stands."""
    for expression in of_dashboards():
        yield expression.place, expression.text
    for rule in of_rules():
        for name in sorted({name for name, _ in selectors(rule.text)}):
            yield rule.place, name


if __name__ == "__main__":
    main()
